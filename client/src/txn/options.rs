//! What can be chosen when a transaction begins.

use std::sync::Arc;
use std::time::Duration;

use anatase_core::Timestamp;
use anatase_core::txn::{
    AssertionLevel, BufferLimits, DiskFullOpt, EncounterLock, Priority, TxnMode, TxnOptions,
};
use bytes::Bytes;

/// What can be chosen when a transaction begins. Shared by as many transactions as wanted.
///
/// ```
/// # use anatase_client::TransactionOptions;
/// let options = TransactionOptions::new_pessimistic().use_async_commit().try_one_pc();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOptions {
    pub(crate) mode: TxnMode,
    pub(crate) core: TxnOptions,
    pub(crate) start: Option<Timestamp>,
    pub(crate) limits: Option<BufferLimits>,
}

/// As [`TransactionOptions::new_optimistic`].
impl Default for TransactionOptions {
    fn default() -> Self {
        Self::new_optimistic()
    }
}

impl TransactionOptions {
    fn new(mode: TxnMode) -> Self {
        Self { mode, core: TxnOptions::default(), start: None, limits: None }
    }

    /// Conflicts are found at commit, which then fails.
    pub fn new_optimistic() -> Self {
        Self::new(TxnMode::Optimistic)
    }

    /// A key is locked before it is written, and who wants it too has to wait. A commit then seldom
    /// fails.
    pub fn new_pessimistic() -> Self {
        Self::new(TxnMode::Pessimistic)
    }

    /// Whether keys are locked before they are written.
    pub fn is_pessimistic(&self) -> bool {
        self.mode == TxnMode::Pessimistic
    }

    fn with(mut self, change: impl FnOnce(&mut TxnOptions)) -> Self {
        change(&mut self.core);
        self
    }

    /// Commit as soon as every key is locked, one round trip earlier than in two phases. For
    /// transactions of at most 256 keys that have 4 096 bytes together; others, and those that a store
    /// finds unfit, commit in two phases.
    #[must_use]
    pub fn use_async_commit(self) -> Self {
        self.with(|options| options.enable_async_commit = true)
    }

    /// Commit with the only request that is needed, where one is: all keys in one region, and not very
    /// many. Others commit in two phases, or asynchronously where that is wanted, too.
    #[must_use]
    pub fn try_one_pc(self) -> Self {
        self.with(|options| options.enable_one_pc = true)
    }

    /// Gives up that a transaction that begins after this one was committed is certain to see it, unless
    /// it depends on it: saves a timestamp for an async or one-phase commit. Of no effect in two phases.
    #[must_use]
    pub fn causal_consistency(self) -> Self {
        self.with(|options| options.causal_consistency = true)
    }

    /// Begins at this timestamp instead of at a fresh one. It has to be one that PD has handed out, and
    /// to nobody else who writes.
    #[must_use]
    pub fn start_timestamp(mut self, start: Timestamp) -> Self {
        self.start = Some(start);
        self
    }

    /// How strictly stores check what [`Transaction::assert_exists`] and
    /// [`Transaction::assert_not_exists`] say; not at all by default.
    ///
    /// [`Transaction::assert_exists`]: crate::Transaction::assert_exists
    /// [`Transaction::assert_not_exists`]: crate::Transaction::assert_not_exists
    #[must_use]
    pub fn assertion_level(self, level: AssertionLevel) -> Self {
        self.with(|options| options.assertion_level = level)
    }

    /// How urgently stores should work on its requests.
    #[must_use]
    pub fn priority(self, priority: Priority) -> Self {
        self.with(|options| options.priority = priority)
    }

    /// Whether stores sync their logs for it; of no effect on stores that always do.
    #[must_use]
    pub fn sync_log(self, sync: bool) -> Self {
        self.with(|options| options.sync_log = sync)
    }

    /// What stores count its requests under.
    #[must_use]
    pub fn resource_group_tag(self, tag: impl Into<Bytes>) -> Self {
        self.with(|options| options.resource_group_tag = tag.into())
    }

    /// The resource group whose share of the cluster it uses.
    #[must_use]
    pub fn resource_group(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|options| options.resource_group_name = Some(name.into()))
    }

    /// Who asks, as the cluster's statistics name it.
    #[must_use]
    pub fn request_source(self, source: impl Into<Arc<str>>) -> Self {
        self.with(|options| options.request_source = Some(source.into()))
    }

    /// Where its writes come from, for change data capture.
    #[must_use]
    pub fn txn_source(self, source: u64) -> Self {
        self.with(|options| options.txn_source = source)
    }

    /// Whether stores that are nearly out of disk space should write all the same.
    #[must_use]
    pub fn disk_full_opt(self, opt: DiskFullOpt) -> Self {
        self.with(|options| options.disk_full_opt = opt)
    }

    /// Aborts rather than commit later than this, with
    /// [`ErrorKind::CommitTsTooLarge`](crate::ErrorKind::CommitTsTooLarge). Commits in two phases.
    #[must_use]
    pub fn commit_ts_upper_bound(self, bound: Timestamp) -> Self {
        self.with(|options| options.commit_ts_upper_bound = Some(bound))
    }

    /// Commits only after this timestamp, for which PD is asked until it has passed it, for at most
    /// `timeout`; then it ends with [`ErrorKind::CommitTsLag`](crate::ErrorKind::CommitTsLag).
    #[must_use]
    pub fn commit_wait_until(self, timestamp: Timestamp, timeout: Duration) -> Self {
        self.with(|options| {
            options.commit_wait_until = Some(timestamp);
            options.commit_wait_timeout = timeout;
        })
    }

    /// Takes a lock of another transaction that is met at commit for a conflict, instead of finding out
    /// what became of its transaction.
    #[must_use]
    pub fn no_resolve_locks(self) -> Self {
        self.with(|options| options.encounter_lock = EncounterLock::NoResolve)
    }

    /// How many bytes a key and its value, and all of them, may have together, instead of
    /// [`Config::with_max_entry_size`](crate::Config::with_max_entry_size) and
    /// [`Config::with_max_transaction_size`](crate::Config::with_max_transaction_size).
    #[must_use]
    pub fn max_sizes(mut self, entry: usize, transaction: usize) -> Self {
        let mut limits = BufferLimits::default();
        (limits.entry, limits.total) = (entry, transaction);
        self.limits = Some(limits);
        self
    }
}
