//! Reads of a snapshot (`transactions.md` §17).
//!
//! A read that meets a lock has its transaction looked into (`resolve`), and then asks again, telling
//! the store which locks it knows to be irrelevant to it (rolled back, or pushed to commit after the
//! read's timestamp) and which it may read through (committed at or before it). So a reader waits only
//! for a transaction that may still commit at or before its timestamp.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::Error;
use crate::fanout::{Batch, Fanout, Job, Progress};
use crate::id::Handle;
use crate::op::raw_batch::sort_keys;
use crate::op::read_view::ReadView;
use crate::op::visible::Visible;
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, Reply, Value};
use crate::region::loader::Seek;
use crate::region_call::Target;
use crate::resolve::Resolved;
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::wire::Response;
use crate::wire::reply::{self, GetReply};

const CALL: Tag = 0;
const LOCKS: Tag = 1;
const PAUSE: Tag = 2;

/// A read of one key.
#[derive(Clone, Debug, Hash)]
pub(crate) struct SnapshotGet {
    key: Key,
    view: ReadView,
    backoff: Backoff,
    call: Option<Handle>,
    is_retry: bool,
}

impl SnapshotGet {
    pub(crate) fn start(key: Key, view: ReadView, cx: &mut Cx<'_>) -> Step {
        let backoff = Backoff::new(budget::SNAPSHOT);
        Self { key, view, backoff, call: None, is_retry: false }.send(cx)
    }

    fn send(mut self, cx: &mut Cx<'_>) -> Step {
        let message = kvrpcpb::GetRequest {
            key: self.key.clone(),
            version: self.view.at.version(),
            ..Default::default()
        };
        let timeout = cx.shared.config.attempt_timeout;
        let spec = CallSpec {
            is_retry: self.is_retry,
            ..CallSpec::new(Rpc::KvGet, cx.encode(&message), timeout)
        };
        let spec = self.view.dress(spec, !self.is_retry);
        let target = Target::Key { key: self.key.clone(), seek: Seek::Containing };
        self.call = Some(cx.call(CALL, target, spec, self.backoff.fork()));
        self.is_retry = true;
        self.wait()
    }

    fn wait(self) -> Step {
        Step::Next(Op::Get(Box::new(self)))
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match (tag, wake) {
            (CALL, Wake::Call(CallEnd::Answered { response, .. })) => {
                self.call = None;
                match reply::get(response) {
                    Ok(GetReply::Value(value)) => {
                        Visible::check(Reply::Value(value), self.view.at, cx)
                    }
                    Ok(GetReply::Locked(locks)) => {
                        match self.view.resolve(locks, true, cx, LOCKS) {
                            true => self.send(cx),
                            false => self.wait(),
                        }
                    }
                    Err(error) => Step::Done(Err(error)),
                }
            }
            (CALL, Wake::Call(CallEnd::Failed { error, .. })) => Step::Done(Err(error)),
            (LOCKS, Wake::Resolved(Ok(resolved))) => {
                match self.view.pass(resolved, &mut self.backoff, cx, PAUSE) {
                    Ok(true) => self.send(cx),
                    Ok(false) => self.wait(),
                    Err(error) => Step::Done(Err(error)),
                }
            }
            (LOCKS, Wake::Resolved(Err(error))) => Step::Done(Err(error)),
            (PAUSE, Wake::Pause) => self.send(cx),
            _ => self.wait(),
        }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let mut left = self.call.and_then(|call| cx.abandon(call));
        if let Some(left) = &mut left {
            left.doubt = false;
            left.cause = left.cause.take().or_else(|| self.backoff.last().cloned());
        }
        Step::Done(Err(why.error(left, cx.shared)))
    }
}

/// A read of many keys.
#[derive(Clone, Debug, Hash)]
pub(crate) struct SnapshotBatchGet {
    fanout: Fanout<GetJob>,
    order: Vec<usize>,
    found: Vec<Option<Value>>,
}

#[derive(Clone, Debug, Hash)]
struct GetJob {
    keys: Vec<Key>,
    view: ReadView,
    max_items: usize,
}

impl SnapshotBatchGet {
    pub(crate) fn start(keys: Vec<Key>, view: ReadView, cx: &mut Cx<'_>) -> Step {
        let (keys, order) = sort_keys(keys);
        let config = &cx.shared.config;
        let found = vec![None; keys.len()];
        let job = GetJob { keys, view, max_items: config.batch_get_keys };
        let max_batches = config.max_batches;
        let fanout = Fanout::new(job, Backoff::new(budget::SNAPSHOT), max_batches, 0);
        Self { fanout, order, found }.advance(cx)
    }

    fn advance(mut self, cx: &mut Cx<'_>) -> Step {
        self.fanout.advance(cx);
        if !self.fanout.is_done() {
            return Step::Next(Op::BatchGet(Box::new(self)));
        }
        let values = self.order.iter().map(|index| self.found[*index].clone()).collect();
        Visible::check(Reply::Values(values), self.fanout.job.view.at, cx)
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        if let Wake::Resolved(resolved) = wake {
            return match resolved {
                Ok(resolved) => self.resolved(tag, resolved, cx),
                Err(error) => self.fail(error, cx),
            };
        }
        match self.fanout.wake(tag, wake, cx) {
            Progress::Nothing => self.advance(cx),
            Progress::Answer { batch, response } => self.answered(batch, response, cx),
            Progress::Failed { error, .. } => self.fail(error, cx),
        }
    }

    /// Keeps what was read and, where locks were met, has them looked into before the batch is asked
    /// again. The whole batch is: pairs that were read are read again with the same result, since a
    /// snapshot does not change.
    fn answered(mut self, batch: Batch, response: Response, cx: &mut Cx<'_>) -> Step {
        let answer = match reply::batch_get(response) {
            Ok(answer) => answer,
            Err(error) => return self.fail(error, cx),
        };
        let asked = &self.fanout.job.keys[batch.piece.start..batch.piece.end];
        for pair in answer.pairs {
            if let Ok(index) = asked.binary_search(&pair.key) {
                self.found[batch.piece.start + index] = Some(pair.value);
            }
        }
        if !answer.locks.is_empty() {
            let tag = self.fanout.park(batch.piece);
            if self.fanout.job.view.resolve(answer.locks, false, cx, tag)
                && let Some(piece) = self.fanout.unpark(tag)
            {
                self.fanout.again(piece);
            }
        }
        self.advance(cx)
    }

    fn resolved(mut self, tag: Tag, resolved: Resolved, cx: &mut Cx<'_>) -> Step {
        let Some(mut piece) = self.fanout.unpark(tag) else {
            return Step::Next(Op::BatchGet(Box::new(self)));
        };
        match self.fanout.job.view.pass(resolved, &mut piece.backoff, cx, tag) {
            Ok(true) => self.fanout.again(piece),
            Ok(false) => self.fanout.repark(tag, piece),
            Err(error) => return self.fail(error, cx),
        }
        self.advance(cx)
    }

    fn fail(mut self, error: Error, cx: &mut Cx<'_>) -> Step {
        self.fanout.abandon(cx);
        Step::Done(Err(error))
    }

    pub(crate) fn stop(mut self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let mut left = self.fanout.abandon(cx);
        left.doubt = false;
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}

impl Job for GetJob {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.keys[index]
    }

    fn max_items(&self) -> usize {
        self.max_items
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let message = kvrpcpb::BatchGetRequest {
            keys: self.keys[batch.piece.start..batch.piece.end].to_vec(),
            version: self.view.at.version(),
            ..Default::default()
        };
        let timeout = cx.shared.config.scan_attempt_timeout;
        let is_retry = batch.piece.is_retry;
        let spec = CallSpec::new(Rpc::KvBatchGet, cx.encode(&message), timeout);
        self.view.dress(CallSpec { is_retry, ..spec }, !is_retry)
    }
}
