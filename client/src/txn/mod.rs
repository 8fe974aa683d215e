//! The transactional API.

pub(crate) mod cache;
mod client;
mod commit;
mod locks;
mod read;
mod snapshot;
mod transaction;

pub use anatase_core::{LockKind, LocksResolved, ResolutionStage, TxnState};
pub use client::{Begin, BeginFuture, TransactionClient};
pub use commit::{Commit, CommitFuture, CommitOutcome};
pub use locks::{FoundLock, ResolveLocksOptions, ResolvingLocks};
pub use read::{TransactionRead, TransactionReadFuture};
pub use snapshot::Snapshot;
pub use transaction::{Savepoint, Transaction};
