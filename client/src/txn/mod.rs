//! The transactional API.

mod client;
mod commit;
mod read;
mod snapshot;
mod transaction;

pub use client::{Begin, BeginFuture, TransactionClient};
pub use commit::{Commit, CommitFuture, CommitOutcome};
pub use read::{TransactionRead, TransactionReadFuture};
pub use snapshot::Snapshot;
pub use transaction::{Savepoint, Transaction};
