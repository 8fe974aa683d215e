//! Getting the locks of one transaction out of the way, once it is known what has to become of them
//! (`transactions.md` §16.2.5, §16.2.7, §16.4).
//!
//! | lock | request | which locks |
//! |---|---|---|
//! | prewritten, of a small transaction | `ResolveLock` with keys | those that were met; one request a region |
//! | prewritten, of a large one | `ResolveLock` without keys | all of the transaction's in the region |
//! | pessimistic, of a transaction that is over, met by a writer | `PessimisticRollback` without keys | all of the transaction's in the region |
//! | pessimistic otherwise | `PessimisticRollback` with one key | that one |
//!
//! A request without keys serves everybody who waits for a lock of that region, also who came after it
//! was sent: what it does follows from the transaction alone (§22.39). Requests with keys serve their
//! keys.

use std::collections::BTreeMap;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::fanout::{Batch, Fanout, Job};
use crate::operation::Key;
use crate::resolve::{Debt, Fate};
use crate::shared::{CallSpec, Cx};
use crate::timestamp::Timestamp;

/// Requests that are out together.
#[derive(Clone, Debug, Hash)]
pub(super) struct Round {
    pub(super) fanout: Fanout<CleanJob>,
    /// Whose locks are being cleaned.
    pub(super) waiting: BTreeMap<Key, Dirty>,
}

/// A lock to be cleaned.
#[derive(Clone, Debug, Hash)]
pub(super) struct Dirty {
    /// With all others of its transaction in its region.
    pub(super) whole: bool,
    /// What is newer than this is not the lock that was met (§22.19). Only for pessimistic locks.
    pub(super) bound: Timestamp,
    /// Who waits for it.
    pub(super) debts: Vec<Debt>,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct CleanJob {
    pub(super) start_ts: Timestamp,
    pub(super) task: Task,
    pub(super) items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// Commit or roll back prewritten locks.
    Resolve(Fate),
    /// Let go of pessimistic locks.
    Release,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) whole: bool,
    pub(super) bound: Timestamp,
}

impl CleanJob {
    fn items(&self, batch: &Batch) -> &[Item] {
        &self.items[batch.piece.start..batch.piece.end]
    }

    /// The batch is answered for the whole region; of pessimistic locks, for those up to this bound.
    pub(super) fn covers(&self, batch: &Batch) -> Option<Timestamp> {
        let items = self.items(batch);
        items.iter().any(|item| item.whole).then(|| bound(items))
    }
}

fn bound(items: &[Item]) -> Timestamp {
    items.iter().map(|item| item.bound).max().unwrap_or(Timestamp::MAX)
}

impl Job for CleanJob {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.items[index].key
    }

    /// A pessimistic lock goes alone, because it has a bound of its own: a larger one could take a
    /// newer lock of a transaction that is alive.
    fn max_items(&self) -> usize {
        match self.task {
            Task::Release if self.items.iter().all(|item| !item.whole) => 1,
            Task::Release | Task::Resolve(_) => usize::MAX,
        }
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let items = self.items(batch);
        let keys = match self.covers(batch) {
            Some(_) => Vec::new(),
            None => items.iter().map(|item| item.key.clone()).collect(),
        };
        let start_version = self.start_ts.version();
        let (rpc, body) = match self.task {
            Task::Resolve(fate) => {
                let message = kvrpcpb::ResolveLockRequest {
                    start_version,
                    commit_version: fate.commit_version(),
                    keys,
                    ..Default::default()
                };
                (Rpc::KvResolveLock, cx.encode(&message))
            }
            Task::Release => {
                let message = kvrpcpb::PessimisticRollbackRequest {
                    start_version,
                    for_update_ts: bound(items).version(),
                    keys,
                    ..Default::default()
                };
                (Rpc::KvPessimisticRollback, cx.encode(&message))
            }
        };
        CallSpec { is_retry: batch.piece.is_retry, ..CallSpec::write(rpc, body, &cx.shared.config) }
    }
}
