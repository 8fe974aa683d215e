//! Undoing a transaction: its locks go, and it can never take them again (`transactions.md` §10).
//!
//! The primary first, alone. As long as the primary's fate is open, another client may commit the
//! transaction, and then rolling back a secondary would tear it apart; once the primary is rolled
//! back, nobody can. A store refuses to roll back what is committed, and then nothing else is touched.

use std::sync::Arc;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::fanout::{Batch, Fanout, Job, Progress};
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, Reply};
use crate::region_call::Abandoned;
use crate::shared::{CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::{ContextExtra, reply};

/// The undoing of one transaction, for whoever needs it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Undo {
    fanout: Fanout<RollbackJob>,
    /// What follows once the primary is rolled back.
    secondaries: Vec<Key>,
}

/// What an [`Undo`] has come to.
pub(crate) enum Undone {
    Going,
    Done,
    Failed(Error),
}

#[derive(Clone, Debug, Hash)]
struct RollbackJob {
    start_ts: Timestamp,
    keys: Vec<Key>,
    context: Option<Arc<ContextExtra>>,
    max_weight: usize,
}

impl Undo {
    /// Starts to roll back `primary` and then `secondaries`, with waits numbered from `first_tag` on.
    pub(crate) fn start(
        start_ts: Timestamp,
        primary: Key,
        mut secondaries: Vec<Key>,
        context: Option<Arc<ContextExtra>>,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Self {
        secondaries.retain(|key| *key != primary);
        secondaries.sort_unstable();
        secondaries.dedup();
        let max_weight = cx.shared.config.txn_batch_size;
        let job = RollbackJob { start_ts, keys: vec![primary], context, max_weight };
        Self { fanout: Self::fanout(job, first_tag, cx), secondaries }
    }

    fn fanout(job: RollbackJob, tag: Tag, cx: &mut Cx<'_>) -> Fanout<RollbackJob> {
        let config = &cx.shared.config;
        let mut fanout = Fanout::new(job, Backoff::new(budget::CLEANUP), config.max_batches, tag);
        fanout.advance(cx);
        fanout
    }

    pub(crate) fn awaits(&self, tag: Tag) -> bool {
        self.fanout.awaits(tag)
    }

    pub(crate) fn wake(&mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Undone {
        match self.fanout.wake(tag, wake, cx) {
            Progress::Nothing => {}
            Progress::Answer { response, .. } => {
                if let Err(error) = reply::batch_rollback(response) {
                    self.fanout.abandon(cx);
                    return Undone::Failed(error);
                }
            }
            Progress::Failed { error, .. } => {
                self.fanout.abandon(cx);
                return Undone::Failed(error);
            }
        }
        self.fanout.advance(cx);
        if !self.fanout.is_done() {
            return Undone::Going;
        }
        if self.secondaries.is_empty() {
            return Undone::Done;
        }
        let tag = self.fanout.end_tag();
        let keys = std::mem::take(&mut self.secondaries);
        let job = RollbackJob { keys, ..self.fanout.job.clone() };
        self.fanout = Self::fanout(job, tag, cx);
        Undone::Going
    }

    pub(crate) fn abandon(&mut self, cx: &mut Cx<'_>) -> Abandoned {
        self.fanout.abandon(cx)
    }
}

impl Job for RollbackJob {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.keys[index]
    }

    fn max_weight(&self) -> usize {
        self.max_weight
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let message = kvrpcpb::BatchRollbackRequest {
            start_version: self.start_ts.version(),
            keys: self.keys[batch.piece.start..batch.piece.end].to_vec(),
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            extra: self.context.clone(),
            ..CallSpec::write(Rpc::KvBatchRollback, body, &cx.shared.config)
        }
    }
}

/// [`Operation::Rollback`](crate::Operation::Rollback).
#[derive(Clone, Debug, Hash)]
pub(crate) struct Rollback(Undo);

impl Rollback {
    pub(crate) fn start(start_ts: Timestamp, mut keys: Vec<Key>, cx: &mut Cx<'_>) -> Step {
        if keys.is_empty() {
            return Step::Done(Ok(Reply::Done));
        }
        if start_ts == Timestamp::MAX {
            let text = "the maximal timestamp starts no transaction";
            return Step::Done(Err(Error::new(ErrorKind::InvalidArgument, text)));
        }
        let primary = keys.remove(0);
        let undo = Undo::start(start_ts, primary, keys, None, 0, cx);
        Step::Next(Op::Rollback(Box::new(Self(undo))))
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match self.0.wake(tag, wake, cx) {
            Undone::Going => Step::Next(Op::Rollback(Box::new(self))),
            Undone::Done => Step::Done(Ok(Reply::Done)),
            Undone::Failed(error) => Step::Done(Err(error)),
        }
    }

    pub(crate) fn stop(mut self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = self.0.abandon(cx);
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}
