//! Locks of transactions, whoever left them.

use std::time::Duration;

use anatase_core::{
    LockKind, LocksResolved, Operation, ResolutionStage, ResolveLocksPlan, ScanLocksPlan,
    Timestamp, TxnState, TxnStatusPlan,
};

use super::TransactionClient;
use crate::key::Key;
use crate::operation::kinds;
use crate::range::BoundRange;
use crate::request::Request;

/// A lock that was found in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FoundLock {
    /// The key that is locked.
    pub key: Key,
    /// Where the fate of its transaction is written.
    pub primary: Key,
    /// When its transaction started: its name.
    pub start_timestamp: Timestamp,
    /// How long it lives, counted from the start of its transaction by PD's clock.
    pub ttl: Duration,
    /// What it is held for.
    pub kind: LockKind,
    /// Its transaction is committed as soon as all of its locks are there.
    pub use_async_commit: bool,
    /// Its transaction will not commit before.
    pub min_commit_timestamp: Option<Timestamp>,
}

impl From<anatase_core::FoundLock> for FoundLock {
    fn from(lock: anatase_core::FoundLock) -> Self {
        Self {
            key: lock.key.into(),
            primary: lock.primary.into(),
            start_timestamp: lock.start_ts,
            ttl: lock.ttl,
            kind: lock.kind,
            use_async_commit: lock.use_async_commit,
            min_commit_timestamp: lock.min_commit_ts,
        }
    }
}

/// How locks are cleaned up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ResolveLocksOptions {
    /// Only locks of async commits.
    pub async_commit_only: bool,
    /// How many locks are read at once; 0 for 1 024.
    pub batch_size: u32,
}

impl ResolveLocksOptions {
    /// Only locks of async commits.
    #[must_use]
    pub fn async_commit_only(mut self) -> Self {
        self.async_commit_only = true;
        self
    }

    /// How many locks are read at once; 0 for 1 024.
    #[must_use]
    pub fn batch_size(mut self, locks: u32) -> Self {
        self.batch_size = locks;
        self
    }
}

/// A transaction whose locks are in the way of this client's operations, at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ResolvingLocks {
    /// When it started: its name.
    pub start_timestamp: Timestamp,
    /// Where its fate is written.
    pub primary: Key,
    /// What is done about it.
    pub stage: ResolutionStage,
    /// For whom: the key that was found locked, and the timestamp of the read, or the start of the
    /// transaction, that found it so (`None` for pessimistic locks and garbage collection). Empty if
    /// the locks are cleaned up in the background.
    pub waiters: Vec<(Key, Option<Timestamp>)>,
}

impl<R> TransactionClient<R> {
    /// At most `limit` locks of transactions that started at or before `max_version`, in the order of
    /// their keys. They are left alone. What is locked or unlocked meanwhile may be missed or found.
    ///
    /// # Cancel safety
    /// Dropping the request leaves no trace.
    pub fn scan_locks(
        &self,
        max_version: Timestamp,
        range: impl Into<BoundRange>,
        limit: u32,
    ) -> Request<Vec<FoundLock>> {
        let range = range.into().into();
        let plan = ScanLocksPlan { range, max_version, limit };
        self.request(Operation::ScanLocks(Box::new(plan)), kinds::LOCKS)
    }

    /// Puts an end to every transaction that started at or before `safepoint` and has locks in the
    /// range: it is committed if it was committed, and rolled back if not, **also if it is still
    /// running**. One step of garbage collection, which sees to it that no such transaction is.
    ///
    /// Large ranges need a [`timeout`](Request::timeout) to match.
    ///
    /// # Cancel safety
    /// Dropping the request leaves the rest of the locks as they are.
    pub fn cleanup_locks(
        &self,
        range: impl Into<BoundRange>,
        safepoint: Timestamp,
        options: ResolveLocksOptions,
    ) -> Request<LocksResolved> {
        let ResolveLocksOptions { async_commit_only, batch_size } = options;
        let range = range.into().into();
        let plan = ResolveLocksPlan { range, safe_point: safepoint, async_commit_only, batch_size };
        self.request(Operation::ResolveLocks(Box::new(plan)), kinds::LOCKS_RESOLVED)
    }

    /// What became of the transaction that started at `start_timestamp` and has this primary key.
    ///
    /// Asking may decide: if its time is over, or if it has not written its primary, it is rolled
    /// back. One that commits asynchronously is told as alive as long as its primary is locked.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the key is not its primary.
    ///
    /// # Cancel safety
    /// Dropping the request withdraws it; it may have decided all the same.
    pub fn transaction_status(
        &self,
        start_timestamp: Timestamp,
        primary: impl Into<Key>,
    ) -> Request<TxnState> {
        let primary = primary.into().into();
        let plan = TxnStatusPlan { start_ts: start_timestamp, primary, caller: None };
        self.request(Operation::TxnStatus(Box::new(plan)), kinds::TXN_STATE)
    }

    /// Whose locks are in the way of this client's operations at the moment, and what is done about
    /// them, in the order of the transactions' starts.
    pub fn resolving_locks(&self) -> Vec<ResolvingLocks> {
        let one = |one: anatase_core::Resolution| ResolvingLocks {
            start_timestamp: one.start_ts,
            primary: one.primary.into(),
            stage: one.stage,
            waiters: one
                .waiters
                .into_iter()
                .map(|waiter| (waiter.key.into(), waiter.caller))
                .collect(),
        };
        self.resolutions().into_iter().map(one).collect()
    }
}
