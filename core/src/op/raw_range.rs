//! What is done to a range of raw keys region by region: deleting it and adding it up
//! (`raw.md` §3, §3.3).
//!
//! ```text
//! Locating ─▶ Asking ─▶ the cursor moves to the end of the part ─▶ Locating … ─▶ done
//!    ▲           │
//!    │           └── the region moved: the same cursor, and whatever region is there now
//!    └── Pausing ── PD knows no region for the cursor yet
//! ```
//!
//! A request is made for a region at one version and for the part of the range that lies in it: a
//! store refuses to delete beyond its region. The cursor moves to the end of *that part* and only
//! when it was answered, so that a split or a merge in between leaves nothing out and adds nothing
//! up twice. Regions are asked one after the other, in the order of keys: what an error leaves
//! behind is a prefix.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;
use bytes::Bytes;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::WakeReason;
use crate::error::{Error, ErrorKind};
use crate::id::{Handle, RegionVersion};
use crate::op::{Op, Step, Stop};
use crate::operation::{ColumnFamily, Key, KeyRange, RawChecksum, Reply};
use crate::region::loader::Seek;
use crate::region_call::{Abandoned, Target};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Waiter, Wake};
use crate::wire::{Response, reply};

const LOCATE: Tag = 0;
const CALL: Tag = 1;
const PAUSE: Tag = 2;

#[derive(Clone, Debug, Hash)]
pub(crate) struct RawRange {
    job: Job,
    /// What is left of the range: its start is the cursor.
    rest: KeyRange,
    /// Of the part at the cursor; each part has a budget of its own (`raw.md` §1).
    backoff: Backoff,
    /// The part at the cursor has been asked for before, and may have been received.
    is_retry: bool,
    /// It may even have been executed.
    doubt: bool,
    state: State,
}

#[derive(Clone, Debug, Hash)]
enum Job {
    Delete(ColumnFamily),
    /// What the regions before the cursor add up to.
    Checksum(RawChecksum),
}

#[derive(Clone, Debug, Hash)]
enum State {
    /// The region at the cursor is being looked up, or is about to be.
    Locating,
    /// PD could not name it; it is asked again after a while.
    Pausing,
    /// The region is asked for the part that ends here; an empty end is that of the key space.
    Asking { call: Handle, end: Key },
}

impl RawRange {
    pub(crate) fn start_delete(range: KeyRange, cf: ColumnFamily, cx: &mut Cx<'_>) -> Step {
        Self::start(range, Job::Delete(cf), cx)
    }

    pub(crate) fn start_checksum(range: KeyRange, cx: &mut Cx<'_>) -> Step {
        Self::start(range, Job::Checksum(RawChecksum::default()), cx)
    }

    fn start(range: KeyRange, job: Job, cx: &mut Cx<'_>) -> Step {
        if range.is_empty() {
            return Step::Done(Ok(job.reply()));
        }
        let machine = Self {
            job,
            rest: range,
            backoff: Backoff::new(budget::RAW),
            is_retry: false,
            doubt: false,
            state: State::Locating,
        };
        machine.locate(cx)
    }

    fn wait(mut self, state: State) -> Step {
        self.state = state;
        Step::Next(Op::RawRange(Box::new(self)))
    }

    fn locate(self, cx: &mut Cx<'_>) -> Step {
        let waiter = Waiter::Owner(cx.owner, LOCATE);
        let until = (!self.rest.end.is_empty()).then_some(&self.rest.end);
        match cx.shared.locate(&self.rest.start, Seek::Containing, until, waiter) {
            Some(region) => self.ask(region, cx),
            None => self.wait(State::Locating),
        }
    }

    fn ask(self, region: RegionVersion, cx: &mut Cx<'_>) -> Step {
        let Some(bounds) = cx.shared.regions.range(region) else {
            return super::misrouted("region that was found and is not there");
        };
        let end = clip_end(&self.rest.end, &bounds.end).clone();
        let (rpc, body) = self.job.request(self.rest.start.clone(), end.clone(), cx);
        let config = &cx.shared.config;
        let spec = match self.job {
            Job::Delete(_) => CallSpec::write(rpc, body, config),
            Job::Checksum(_) => CallSpec::new(rpc, body, config.attempt_timeout),
        };
        let spec = CallSpec { is_retry: self.is_retry, ..spec };
        let call = cx.call(CALL, Target::Region(region), spec, self.backoff.fork());
        self.wait(State::Asking { call, end })
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let state = std::mem::replace(&mut self.state, State::Locating);
        match (state, tag, wake) {
            (State::Locating, LOCATE, Wake::Located(Ok(()))) => self.locate(cx),
            (State::Locating, LOCATE, Wake::Located(Err(error))) => self.not_located(error, cx),
            (State::Pausing, PAUSE, Wake::Pause) => self.locate(cx),
            (State::Asking { end, .. }, CALL, Wake::Call(call)) => self.asked(call, end, cx),
            // A wake-up that was overtaken by another: it changes nothing.
            (state, _, _) => self.wait(state),
        }
    }

    /// PD has said no, or knows no region that can be asked; the latter passes.
    fn not_located(mut self, error: Error, cx: &mut Cx<'_>) -> Step {
        if *error.kind() != ErrorKind::RegionUnavailable {
            return self.fail(error, false);
        }
        let draws = &mut *cx.draws;
        match self.backoff.next(BackoffKind::RegionMiss, None, error, |bound| draws.below(bound)) {
            Ok(wait) => {
                cx.pause(PAUSE, wait, WakeReason::Backoff);
                self.wait(State::Pausing)
            }
            Err(error) => self.fail(error, false),
        }
    }

    fn asked(mut self, call: CallEnd, end: Key, cx: &mut Cx<'_>) -> Step {
        match call {
            CallEnd::Answered { response, .. } => match self.job.take(response) {
                Ok(()) => self.next_part(end, cx),
                Err(error) => self.fail(error, false),
            },
            CallEnd::Regroup { backoff, doubt } => {
                self.backoff.absorb(&backoff);
                self.is_retry = true;
                self.doubt |= doubt;
                self.locate(cx)
            }
            CallEnd::Failed { error, doubt } => self.fail(error, doubt),
        }
    }

    fn next_part(mut self, end: Key, cx: &mut Cx<'_>) -> Step {
        // The answer covers what earlier copies of the request may have done.
        (self.doubt, self.is_retry) = (false, false);
        self.backoff = Backoff::new(budget::RAW);
        // An empty end is that of the key space, whatever was asked for.
        if end.is_empty() || end == self.rest.end {
            return Step::Done(Ok(self.job.reply()));
        }
        self.rest.start = end;
        self.locate(cx)
    }

    /// That the parts before the cursor are deleted is what «not atomic» means; a doubt is only
    /// about the part at the cursor.
    fn fail(self, error: Error, doubt: bool) -> Step {
        let doubt = (doubt || self.doubt) && self.writes();
        Step::Done(Err(error.in_doubt(doubt)))
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = match self.state {
            State::Asking { call, .. } => cx.abandon(call),
            State::Locating | State::Pausing => None,
        };
        let mut left = left.unwrap_or(Abandoned { doubt: false, cause: None, attempts: 0 });
        left.cause = left.cause.or_else(|| self.backoff.last().cloned());
        left.doubt = (left.doubt || self.doubt) && self.writes();
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }

    fn writes(&self) -> bool {
        match self.job {
            Job::Delete(_) => true,
            Job::Checksum(_) => false,
        }
    }
}

impl Job {
    fn request(&self, start_key: Key, end_key: Key, cx: &mut Cx<'_>) -> (Rpc, Bytes) {
        match self {
            Self::Delete(cf) => {
                let message = kvrpcpb::RawDeleteRangeRequest {
                    start_key,
                    end_key,
                    cf: cf.name().to_owned(),
                    ..Default::default()
                };
                (Rpc::RawDeleteRange, cx.encode(&message))
            }
            Self::Checksum(_) => {
                let message = kvrpcpb::RawChecksumRequest {
                    algorithm: kvrpcpb::ChecksumAlgorithm::Crc64Xor.into(),
                    ranges: vec![kvrpcpb::KeyRange { start_key, end_key }],
                    ..Default::default()
                };
                (Rpc::RawChecksum, cx.encode(&message))
            }
        }
    }

    fn take(&mut self, response: Response) -> Result<(), Error> {
        match self {
            Self::Delete(_) => reply::raw_delete_range(response),
            Self::Checksum(sum) => {
                *sum = sum.and(reply::raw_checksum(response)?);
                Ok(())
            }
        }
    }

    fn reply(&self) -> Reply {
        match self {
            Self::Delete(_) => Reply::Done,
            Self::Checksum(sum) => Reply::Checksum(*sum),
        }
    }
}

/// The smaller of two ends, an empty one being that of the key space.
pub(crate) fn clip_end<'a>(a: &'a Key, b: &'a Key) -> &'a Key {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b,
        (_, true) => a,
        (false, false) => a.min(b),
    }
}
