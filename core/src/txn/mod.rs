//! Transactions, as far as they are a matter of this process alone.
//!
//! Until it commits, an optimistic transaction exists nowhere but here: its writes are buffered
//! ([`Buffer`]), its reads see them above its snapshot, and what it asks of the cluster at the end is
//! one list of mutations ([`Buffer::collect`]).

mod buffer;
mod fair;
mod options;
mod read_options;
mod snapshot_cache;
mod transaction;
#[cfg(test)]
mod transaction_tests;

pub use buffer::{
    Buffer, BufferLimits, Collected, Collecting, Flags, Kept, LockNeed, Savepoint, Union, UnionStep,
};
pub use options::{AssertionLevel, DiskFullOpt, EncounterLock, Priority, TxnOptions};
pub use read_options::{IsolationLevel, ReadOptions};
pub use snapshot_cache::SnapshotCache;
pub use transaction::{LockCall, LockOptions, Transaction, TxnMode};
