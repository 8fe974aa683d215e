//! What an application can ask about the locks of others, and have done about them.

use std::time::Duration;

use crate::operation::{Key, KeyRange};
use crate::timestamp::Timestamp;
use crate::wire::key_error::Lock;

pub use crate::wire::key_error::LockKind;

/// A lock that was found in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FoundLock {
    /// The key that is locked.
    pub key: Key,
    /// Where the fate of its transaction is written.
    pub primary: Key,
    /// When its transaction started: its name.
    pub start_ts: Timestamp,
    /// How long it lives, counted from the start of its transaction by PD's clock.
    pub ttl: Duration,
    /// How many keys the transaction has in that region; `u64::MAX` for «unknown, many».
    pub txn_size: u64,
    /// What it is held for.
    pub kind: LockKind,
    /// Its transaction is committed as soon as all of its locks are there.
    pub use_async_commit: bool,
    /// Of a lock that was, or is, pessimistic: what the transaction had seen when it took it.
    pub for_update_ts: Option<Timestamp>,
    /// Its transaction will not commit before.
    pub min_commit_ts: Option<Timestamp>,
}

impl From<Lock> for FoundLock {
    fn from(lock: Lock) -> Self {
        Self {
            key: lock.key,
            primary: lock.primary,
            start_ts: lock.start_ts,
            ttl: Duration::from_millis(lock.ttl_ms),
            txn_size: lock.txn_size,
            kind: lock.kind,
            use_async_commit: lock.use_async_commit,
            for_update_ts: lock.for_update_ts,
            min_commit_ts: lock.min_commit_ts,
        }
    }
}

/// Which locks to look for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScanLocksPlan {
    /// Where. An empty or reversed range holds none, and nothing is sent.
    pub range: KeyRange,
    /// Of transactions that started at or before this.
    pub max_version: Timestamp,
    /// How many at most; 0 gives none and sends nothing.
    pub limit: u32,
}

/// Which transactions to put an end to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResolveLocksPlan {
    /// Where their locks lie. An empty or reversed range holds none, and nothing is sent.
    pub range: KeyRange,
    /// They started at or before this. A transaction that is still running is rolled back: this has to
    /// be a point that no running transaction has started before.
    pub safe_point: Timestamp,
    /// Only those whose lock is one of an async commit.
    pub async_commit_only: bool,
    /// How many locks are read at once; 0 for
    /// [`scan_lock_limit`](crate::Config::scan_lock_limit).
    pub batch_size: u32,
}

/// What came of putting an end to transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LocksResolved {
    /// How many locks were found and are gone.
    pub locks: u64,
    /// How many regions were looked through.
    pub regions: u64,
}

/// What is to be found out about a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TxnStatusPlan {
    /// When it started: its name.
    pub start_ts: Timestamp,
    /// Its primary key.
    pub primary: Key,
    /// If it is alive, it is made to commit after this. `None` leaves it alone.
    pub caller: Option<Timestamp>,
}

/// What is known of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TxnState {
    /// It may commit yet.
    Alive {
        /// How long it lives without a sign of life, counted from its start.
        ttl: Duration,
        /// It will not commit at or before the timestamp of the caller.
        pushed: bool,
    },
    /// Final.
    Committed {
        /// Every reader from then on sees it.
        at: Timestamp,
    },
    /// Final: nobody will ever see it.
    RolledBack,
}
