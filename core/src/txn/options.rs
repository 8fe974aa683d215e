//! What can be chosen about a transaction (`transactions.md` §3, §6.1, §7).
//!
//! One value per transaction, shared by every request that is made for it. Nothing here changes what
//! the transaction means, except where it is said: how it is committed, how its requests are treated by
//! the stores, and what makes it give up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::timestamp::Timestamp;
use crate::wire::ContextExtra;

/// How long a commit waits for PD's timestamps to pass
/// [`TxnOptions::commit_wait_until`], if nothing else is said (§1.4).
const DEFAULT_COMMIT_WAIT: Duration = Duration::from_secs(1);

/// What can be chosen about a transaction. The defaults are client-go's; in particular both
/// [one-phase commit](TxnOptions::enable_one_pc) and [async commit](TxnOptions::enable_async_commit)
/// are off.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TxnOptions {
    /// Commit as soon as every key is locked, without waiting for the commit of the primary (§7.1).
    /// Where it is not possible, the transaction commits in two phases.
    pub enable_async_commit: bool,
    /// Commit with the prewrite, where that is a single request (§7.1). Where it is not possible, the
    /// transaction commits asynchronously or in two phases.
    pub enable_one_pc: bool,
    /// Give up that a transaction which begins after this one was committed is certain to see it,
    /// unless it reads what this one has written: saves a timestamp where the commit is asynchronous
    /// or in one phase (§7.7). Of no effect on two phases.
    pub causal_consistency: bool,
    /// How strictly stores check the assertions of mutations.
    pub assertion_level: AssertionLevel,
    /// Before which requests of others a store executes those of this transaction.
    pub priority: Priority,
    /// Have the write-ahead log synced; of no effect in stores that always do.
    pub sync_log: bool,
    /// Names the resource group to the store's resource metering.
    pub resource_group_tag: Bytes,
    /// The resource group whose limits apply, if not the default one.
    pub resource_group_name: Option<Arc<str>>,
    /// Who asks, in words for the store's metrics and resource control (§19.5).
    pub request_source: Option<Arc<str>>,
    /// Where the writes come from, for change data capture.
    pub txn_source: u64,
    /// Whether a store that is nearly out of disk space should write all the same.
    pub disk_full_opt: DiskFullOpt,
    /// The largest commit timestamp allowed: with a larger one the transaction is aborted before its
    /// primary is committed. Rules async and one-phase commit out (§7.1), whose timestamps are the
    /// stores' choice.
    pub commit_ts_upper_bound: Option<Timestamp>,
    /// Commit only after this timestamp: PD is asked until it hands out a later one (§7.6).
    pub commit_wait_until: Option<Timestamp>,
    /// For how long PD is asked. Zero allows no waiting at all.
    pub commit_wait_timeout: Duration,
    /// What to do about locks of others that a prewrite meets.
    pub encounter_lock: EncounterLock,
}

/// How strictly assertions are checked (§2.3b).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssertionLevel {
    /// Not at all: assertions are not even sent.
    #[default]
    Off,
    /// Where the store has to look at the key's previous version in any case.
    Fast,
    /// Always.
    Strict,
}

/// The order in which a store executes what it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// After the others.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// What a store may do when its disk fills up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskFullOpt {
    /// Refuse.
    #[default]
    NotAllowedOnFull,
    /// Write while there is some space left: for what frees space, such as a deletion.
    AllowedOnAlmostFull,
    /// Write whatever is left.
    AllowedOnAlreadyFull,
}

/// What a prewrite does about locks of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EncounterLock {
    /// Find out what became of their transactions, and wait for those that are alive.
    #[default]
    TryResolve,
    /// Take any of them for a write conflict.
    NoResolve,
}

impl Default for TxnOptions {
    fn default() -> Self {
        Self {
            enable_async_commit: false,
            enable_one_pc: false,
            causal_consistency: false,
            assertion_level: AssertionLevel::Off,
            priority: Priority::Normal,
            sync_log: false,
            resource_group_tag: Bytes::new(),
            resource_group_name: None,
            request_source: None,
            txn_source: 0,
            disk_full_opt: DiskFullOpt::NotAllowedOnFull,
            commit_ts_upper_bound: None,
            commit_wait_until: None,
            commit_wait_timeout: DEFAULT_COMMIT_WAIT,
            encounter_lock: EncounterLock::TryResolve,
        }
    }
}

impl TxnOptions {
    /// What goes with prewrites and commits (§6.1); `None` if that is nothing out of the ordinary.
    pub(crate) fn write_context(&self) -> Option<Arc<ContextExtra>> {
        shared(ContextExtra {
            disk_full_opt: self.disk_full_opt,
            txn_source: self.txn_source,
            ..self.common()
        })
    }

    /// What goes with rollbacks (§6.1), which have neither a disk-full option nor a source of writes.
    pub(crate) fn rollback_context(&self) -> Option<Arc<ContextExtra>> {
        shared(self.common())
    }

    /// What goes with the release of pessimistic locks (§6.1): whose it is, and nothing else.
    pub(crate) fn release_context(&self) -> Option<Arc<ContextExtra>> {
        shared(ContextExtra {
            request_source: self.request_source.clone(),
            ..ContextExtra::default()
        })
    }

    fn common(&self) -> ContextExtra {
        ContextExtra {
            priority: self.priority,
            sync_log: self.sync_log,
            resource_group_tag: self.resource_group_tag.clone(),
            resource_group_name: self.resource_group_name.clone(),
            request_source: self.request_source.clone(),
            ..ContextExtra::default()
        }
    }
}

fn shared(extra: ContextExtra) -> Option<Arc<ContextExtra>> {
    (extra != ContextExtra::default()).then(|| Arc::new(extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transactions.md §6.1, the rows of this transaction's own writes.
    #[test]
    fn each_request_carries_the_attributes_of_its_row() {
        let plain = TxnOptions::default();
        assert_eq!((plain.write_context(), plain.rollback_context()), (None, None));
        assert_eq!(plain.release_context(), None);
        let options = TxnOptions {
            priority: Priority::High,
            sync_log: true,
            resource_group_tag: "tag".into(),
            resource_group_name: Some("group".into()),
            request_source: Some("source".into()),
            txn_source: 7,
            disk_full_opt: DiskFullOpt::AllowedOnAlmostFull,
            ..plain
        };
        let rollback = ContextExtra {
            priority: Priority::High,
            sync_log: true,
            resource_group_tag: "tag".into(),
            resource_group_name: Some("group".into()),
            request_source: Some("source".into()),
            ..ContextExtra::default()
        };
        let write = ContextExtra {
            txn_source: 7,
            disk_full_opt: DiskFullOpt::AllowedOnAlmostFull,
            ..rollback.clone()
        };
        let release =
            ContextExtra { request_source: Some("source".into()), ..ContextExtra::default() };
        assert_eq!(options.release_context().as_deref(), Some(&release));
        assert_eq!(options.write_context().as_deref(), Some(&write));
        assert_eq!(options.rollback_context().as_deref(), Some(&rollback));
    }

    /// transactions.md §1.4, §7.1 and §7.6.
    #[test]
    fn the_defaults_are_those_of_the_reference() {
        let options = TxnOptions::default();
        assert!(!options.enable_async_commit && !options.enable_one_pc);
        assert!(!options.causal_consistency, "§7.7");
        assert_eq!(options.commit_wait_timeout, Duration::from_secs(1), "§1.4");
    }
}
