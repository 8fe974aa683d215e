//! Releasing pessimistic locks (`transactions.md` §10).
//!
//! ```text
//! Releasing ─▶ over
//! ```
//!
//! In any order and all at once: a pessimistic lock decides nothing, so none of them has to go first.
//! Locks that were taken as of a later `for_update_ts` stay, and no rollback record is left. What
//! cannot be reached is released by whoever meets it, once its time to live is over.

use std::sync::Arc;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::fanout::{Batch, Fanout, Job, Progress};
use crate::lock_plan::PessimisticRollbackPlan;
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, Reply};
use crate::region_call::Abandoned;
use crate::shared::{CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply;

/// The release of some locks, for whoever needs it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Release {
    fanout: Fanout<ReleaseJob>,
    /// The first thing that went wrong. The others go on all the same.
    failed: Option<Error>,
}

/// What a [`Release`] has come to.
pub(crate) enum Released {
    Going(Release),
    Over(Result<(), Error>),
}

#[derive(Clone, Debug, Hash)]
struct ReleaseJob {
    plan: Arc<PessimisticRollbackPlan>,
    max_weight: usize,
}

impl Release {
    /// Starts to release the keys, with waits numbered from `first_tag` on.
    pub(crate) fn start(
        mut plan: PessimisticRollbackPlan,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Self {
        if planted!(cx.shared.config, ReleasedAsOfStart) {
            plan.for_update_ts = plan.start_ts;
        }
        plan.keys.sort_unstable();
        plan.keys.dedup();
        if plan.stop_heartbeat {
            cx.shared.stop_keep_alive(plan.start_ts);
        }
        let config = &cx.shared.config;
        let job = ReleaseJob { plan: Arc::new(plan), max_weight: config.txn_batch_size };
        let backoff = Backoff::new(budget::CLEANUP);
        let mut fanout = Fanout::new(job, backoff, config.max_batches, first_tag);
        fanout.advance(cx);
        Self { fanout, failed: None }
    }

    /// Without keys there is nothing to wait for.
    pub(crate) fn is_done(&self) -> bool {
        self.fanout.is_done()
    }

    pub(crate) fn awaits(&self, tag: Tag) -> bool {
        self.fanout.awaits(tag)
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Released {
        let failed = match self.fanout.wake(tag, wake, cx) {
            Progress::Nothing => None,
            // Key errors too are only told: the other keys are no less to be released.
            Progress::Answer { response, .. } => reply::pessimistic_rollback(response).err(),
            Progress::Failed { error, .. } => Some(error),
        };
        self.failed = self.failed.or(failed);
        self.fanout.advance(cx);
        if !self.fanout.is_done() {
            return Released::Going(self);
        }
        Released::Over(self.failed.map_or(Ok(()), Err))
    }

    pub(crate) fn end_tag(&self) -> Tag {
        self.fanout.end_tag()
    }

    pub(crate) fn abandon(&mut self, cx: &mut Cx<'_>) -> Abandoned {
        self.fanout.abandon(cx)
    }
}

impl Job for ReleaseJob {
    fn len(&self) -> usize {
        self.plan.keys.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.plan.keys[index]
    }

    fn max_weight(&self) -> usize {
        self.max_weight
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let message = kvrpcpb::PessimisticRollbackRequest {
            start_version: self.plan.start_ts.version(),
            for_update_ts: self.plan.for_update_ts.version(),
            keys: self.plan.keys[batch.piece.start..batch.piece.end].to_vec(),
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            extra: self.plan.options.release_context(),
            ..CallSpec::write(Rpc::KvPessimisticRollback, body, &cx.shared.config)
        }
    }
}

/// [`Operation::PessimisticRollback`](crate::Operation::PessimisticRollback).
#[derive(Clone, Debug, Hash)]
pub(crate) struct PessimisticRollback(Release);

impl PessimisticRollback {
    pub(crate) fn start(plan: PessimisticRollbackPlan, cx: &mut Cx<'_>) -> Step {
        if plan.start_ts == Timestamp::MAX {
            let text = "the maximal timestamp starts no transaction";
            return Step::Done(Err(Error::new(ErrorKind::InvalidArgument, text)));
        }
        let mut release = Release::start(plan, 0, cx);
        if planted!(cx.shared.config, LocksNotReleased) {
            release.abandon(cx);
        }
        if release.is_done() {
            return Step::Done(Ok(Reply::Done));
        }
        Step::Next(Op::PessimisticRollback(Box::new(Self(release))))
    }

    pub(crate) fn wake(self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match self.0.wake(tag, wake, cx) {
            Released::Going(release) => {
                Step::Next(Op::PessimisticRollback(Box::new(Self(release))))
            }
            Released::Over(result) => Step::Done(result.map(|()| Reply::Done)),
        }
    }

    pub(crate) fn stop(mut self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = self.0.abandon(cx);
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}
