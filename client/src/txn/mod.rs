//! The transactional API.

pub(crate) mod cache;
mod client;
mod commit;
mod lock;
mod locks;
mod options;
mod read;
mod run;
mod snapshot;
mod transaction;

pub use anatase_core::{LockKind, LocksResolved, ResolutionStage, TxnState};
pub use client::{Begin, BeginFuture, TransactionClient};
pub use commit::{Commit, CommitFuture, CommitOutcome};
pub use lock::{LockRequest, LockedKey};
pub use locks::{FoundLock, ResolveLocksOptions, ResolvingLocks};
pub use options::TransactionOptions;
pub use read::{TransactionRead, TransactionReadFuture};
pub use snapshot::Snapshot;
pub(crate) use transaction::State;
pub use transaction::{Savepoint, Transaction};
