//! As of when, and how, a snapshot is read, and what is known of the locks in the way
//! (`transactions.md` §17.1, §17.2).
//!
//! What one read learns of a lock holds for every other read at the same timestamp: a transaction
//! that was pushed to commit after it, or is rolled back, stays so, and one that is committed at or
//! before it stays so, too. So it is kept for a number of timestamps ([`Passes`]), and the next read
//! of the same snapshot tells the store at once what it may pass by, rather than meet each lock anew.
//! For another timestamp none of it holds (§22, 21); the latest version (`u64::MAX`) is no timestamp
//! at all (§22, 22), and nothing is kept for it.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::{Backoff, BackoffKind};
use crate::command::WakeReason;
use crate::error::Error;
use crate::recent::Recent;
use crate::resolve::{Mode, Resolved};
use crate::shared::{CallSpec, Cx, Tag};
use crate::timestamp::Timestamp;
use crate::txn::ReadOptions;
use crate::wire::ContextExtra;
use crate::wire::reply::Lock;

/// For how many timestamps it is kept what their reads have learned.
const SNAPSHOTS: usize = 256;
/// How many locks are kept for one of them: those met first. Beyond it they are met again.
const LOCKS: usize = 2_048;

/// A view of the store.
#[derive(Clone, Debug, Hash)]
pub(crate) struct ReadView {
    pub(crate) at: Timestamp,
    options: Option<Arc<ReadOptions>>,
    extra: Option<Arc<ContextExtra>>,
    /// Of a read of the latest version: the transaction whose lock was met first.
    first_met: Option<Timestamp>,
}

impl ReadView {
    pub(crate) fn new(at: Timestamp, options: Option<Arc<ReadOptions>>) -> Self {
        let extra = options.as_deref().map(|options| {
            Arc::new(ContextExtra {
                isolation: options.isolation,
                priority: options.priority,
                not_fill_cache: options.not_fill_cache,
                task_id: options.task_id,
                resource_group_tag: options.resource_group_tag.clone(),
                resource_group_name: options.resource_group_name.clone(),
                request_source: options.request_source.clone(),
                ..Default::default()
            })
        });
        Self { at, options, extra, first_met: None }
    }

    pub(crate) fn sample_step(&self) -> u32 {
        self.options.as_ref().map_or(0, |options| options.sample_step)
    }

    /// Remembers what other reads at this timestamp have learned.
    pub(crate) fn recall(&mut self, cx: &Cx<'_>) {
        if let Some(known) = cx.shared.passes.by_snapshot.get(&self.at) {
            self.learn(&known.resolved, &known.committed);
        }
        if planted!(cx.shared.config, PassesForAllSnapshots) {
            for known in cx.shared.passes.by_snapshot.by_key.values() {
                self.learn(&known.resolved, &known.committed);
            }
        }
    }

    fn learn(&mut self, resolved: &[u64], committed: &[u64]) {
        if resolved.is_empty() && committed.is_empty() {
            return;
        }
        let extra = Arc::make_mut(self.extra.get_or_insert_default());
        merge(&mut extra.resolved_locks, resolved, usize::MAX);
        merge(&mut extra.committed_locks, committed, usize::MAX);
    }

    /// Adds to a request what a store has to know of this view. `first`: no copy of it was sent before.
    pub(crate) fn dress(&self, spec: CallSpec, first: bool) -> CallSpec {
        CallSpec { extra: self.extra.clone(), first_timeout: self.hurry(first), ..spec }
    }

    fn hurry(&self, first: bool) -> Option<Duration> {
        self.options.as_ref().filter(|_| first).and_then(|options| options.timeout)
    }

    /// Has `locks` looked into; answered by [`Wake::Resolved`](crate::shared::Wake::Resolved) under
    /// `tag`; `lite`: by naming their keys, whatever the size of their transactions (§16.1). True if that
    /// is not necessary, and the read can be sent again.
    ///
    /// A read of the latest version that waited for every lock could wait for ever, since new ones
    /// come: it waits for the transaction that it met first, and passes by those that came later
    /// (§17.2). It sees what was committed when it arrived, which is all that is promised.
    pub(crate) fn resolve(
        &mut self,
        mut locks: Vec<Lock>,
        lite: bool,
        cx: &mut Cx<'_>,
        tag: Tag,
    ) -> bool {
        if planted!(cx.shared.config, ReadsSkipLocks) {
            let all: Vec<u64> = locks.iter().map(|lock| lock.start_ts.version()).collect();
            self.learn(&all, &[]);
            return true;
        }
        if self.at == Timestamp::MAX
            && let Some(first) = self.first_met.or_else(|| locks.first().map(|lock| lock.start_ts))
        {
            self.first_met = Some(first);
            let later: Vec<u64> = locks
                .extract_if(.., |lock| lock.start_ts != first)
                .map(|lock| lock.start_ts.version())
                .collect();
            self.learn(&later, &[]);
            if locks.is_empty() {
                return true;
            }
        }
        cx.resolve(tag, locks, Mode::Read { at: self.at, lite });
        false
    }

    /// Learns from a resolution. True if the read can be sent again at once, false if the caller has
    /// to wait for the pause set under `tag`.
    pub(crate) fn pass(
        &mut self,
        resolved: Resolved,
        backoff: &mut Backoff,
        cx: &mut Cx<'_>,
        tag: Tag,
    ) -> Result<bool, Error> {
        self.learn(&resolved.bypass, &resolved.access);
        cx.shared.passes.keep(self.at, &resolved.bypass, &resolved.access);
        let Some(blocker) = resolved.blocker else {
            return Ok(true);
        };
        let draws = &mut *cx.draws;
        let (kind, clamp) = (BackoffKind::TxnLockFast, Some(blocker.wait));
        let wait = backoff.next(kind, clamp, blocker.error(), |bound| draws.below(bound))?;
        cx.pause(tag, wait, WakeReason::LockWait);
        Ok(false)
    }
}

/// What the reads of the last snapshots have learned of the locks in their way.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Passes {
    by_snapshot: Recent<Timestamp, Pass>,
}

/// Start timestamps of transactions, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pass {
    /// Their locks are passed by.
    resolved: Vec<u64>,
    /// Their locks are read through.
    committed: Vec<u64>,
}

impl Passes {
    fn keep(&mut self, at: Timestamp, resolved: &[u64], committed: &[u64]) {
        if at == Timestamp::MAX || (resolved.is_empty() && committed.is_empty()) {
            return;
        }
        self.by_snapshot.put(at, Pass::default(), SNAPSHOTS);
        if let Some(pass) = self.by_snapshot.by_key.get_mut(&at) {
            merge(&mut pass.resolved, resolved, LOCKS);
            merge(&mut pass.committed, committed, LOCKS);
        }
    }
}

/// Adds to a sorted list what it does not hold, until it holds `limit`.
fn merge(list: &mut Vec<u64>, more: &[u64], limit: usize) {
    for version in more {
        if list.len() < limit
            && let Err(index) = list.binary_search(version)
        {
            list.insert(index, *version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(version: u64) -> Timestamp {
        Timestamp::from_version(version).expect("a timestamp")
    }

    #[test]
    fn lists_of_locks_stay_sorted_and_without_repeats() {
        let mut list = vec![3, 7];
        merge(&mut list, &[7, 1, 5, 1], 9);
        assert_eq!(list, [1, 3, 5, 7]);
        merge(&mut list, &[9, 2], 5);
        assert_eq!(list, [1, 3, 5, 7, 9]);
    }

    /// transactions.md §22, 21: what is learned holds for its own timestamp only.
    #[test]
    fn what_is_learned_is_kept_per_snapshot() {
        let mut passes = Passes::default();
        passes.keep(ts(10), &[3], &[]);
        passes.keep(ts(10), &[2], &[1]);
        passes.keep(ts(20), &[], &[4]);
        let kept = |at| passes.by_snapshot.get(&ts(at));
        let pass = |resolved: &[u64], committed: &[u64]| Pass {
            resolved: resolved.to_vec(),
            committed: committed.to_vec(),
        };
        assert_eq!(kept(10), Some(&pass(&[2, 3], &[1])));
        assert_eq!(kept(20), Some(&pass(&[], &[4])));
        assert_eq!(kept(15), None);
    }

    /// transactions.md §22, 22, and a bound.
    #[test]
    fn nothing_is_kept_of_the_latest_version_nor_of_very_many() {
        let mut passes = Passes::default();
        passes.keep(Timestamp::MAX, &[3], &[]);
        passes.keep(ts(1), &[], &[]);
        assert!(passes.by_snapshot.by_key.is_empty() && passes.by_snapshot.order.is_empty());
        for at in 1..=SNAPSHOTS as u64 + 1 {
            passes.keep(ts(at), &[at], &[]);
        }
        assert_eq!(
            (passes.by_snapshot.by_key.len(), passes.by_snapshot.order.len()),
            (SNAPSHOTS, SNAPSHOTS)
        );
        assert!(!passes.by_snapshot.by_key.contains_key(&ts(1)));
    }
}
