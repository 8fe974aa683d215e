//! Putting an end to every old transaction that has locks in a range (`transactions.md` §16.5, §18).
//!
//! ```text
//! Scanning ─▶ Deciding ─▶ Cleaning ─▶ Scanning: the next page, or the next region … ─▶ done
//!    ▲   │                    │
//!    │   └ no locks ──────────┼──▶ the next region
//!    └── Pausing ◀────────────┘ the region moved (at once), or its locks are still there
//! ```
//!
//! - *Deciding*: whether their time is over or not, the transactions have to end (`Mode::Gc`): a primary
//!   that is not there is kept from ever being, one that is alive is rolled back, one of an async
//!   commit is recovered. Pessimistic locks are released one by one.
//! - *Cleaning*: what is decided is carried out in the whole region by one request. If the region has
//!   moved, the page is read again: what was cleaned is not there any more.
//!
//! After a full page the walk goes on *at* the last key: what it held is gone.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::WakeReason;
use crate::id::{Handle, RegionVersion};
use crate::locks::{LocksResolved, ResolveLocksPlan};
use crate::op::scan_locks::{self, behind};
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, KeyRange, Reply, next_key};
use crate::region_call::{Abandoned, Target};
use crate::resolve::{Blocker, Fate, Mode, Resolved};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply::{self, Lock};

const PAGE: Tag = 0;
const LOCKS: Tag = 1;
const CLEAN: Tag = 2;
const PAUSE: Tag = 3;

#[derive(Clone, Debug, Hash)]
pub(crate) struct ResolveLocks {
    plan: ResolveLocksPlan,
    limit: u32,
    /// What is left of the range: its start is the cursor.
    rest: KeyRange,
    done: LocksResolved,
    /// Of this page (§1.3).
    backoff: Backoff,
    /// The first lock of the last page, and how long the walk has met it again.
    met: Option<(Key, Timestamp)>,
    stuck: Backoff,
    state: State,
}

#[derive(Clone, Debug, Hash)]
enum State {
    Scanning(Handle),
    Deciding(Work),
    Cleaning(Work, Handle),
    Pausing,
}

/// A page, and what is done about it.
#[derive(Clone, Debug, Hash)]
struct Work {
    region: RegionVersion,
    /// Where the walk goes on; `None` at the end of the range.
    next: Option<KeyRange>,
    /// The walk goes on in another region.
    leaves: bool,
    count: u64,
    /// Not yet decided.
    undecided: Vec<Lock>,
    decided: Vec<(Timestamp, Fate)>,
}

impl ResolveLocks {
    pub(crate) fn start(plan: ResolveLocksPlan, cx: &mut Cx<'_>) -> Step {
        if plan.range.is_empty() {
            return Step::Done(Ok(Reply::LocksResolved(LocksResolved::default())));
        }
        let limit = match plan.batch_size {
            0 => cx.shared.config.scan_lock_limit.max(1),
            limit => limit,
        };
        let rest = plan.range.clone();
        let machine = Self {
            plan,
            limit,
            rest,
            done: LocksResolved::default(),
            backoff: Backoff::new(budget::GC),
            met: None,
            stuck: Backoff::new(budget::GC),
            state: State::Pausing,
        };
        machine.scan(cx)
    }

    fn wait(mut self, state: State) -> Step {
        self.state = state;
        Step::Next(Op::ResolveLocks(Box::new(self)))
    }

    fn scan(self, cx: &mut Cx<'_>) -> Step {
        let backoff = self.backoff.fork();
        let max_version = self.plan.safe_point;
        let call = scan_locks::ask(PAGE, &self.rest, max_version, self.limit, backoff, cx);
        self.wait(State::Scanning(call))
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let state = std::mem::replace(&mut self.state, State::Pausing);
        match (state, tag, wake) {
            (State::Scanning(_), PAGE, Wake::Call(end)) => self.scanned(end, cx),
            (State::Deciding(work), LOCKS, Wake::Resolved(Ok(resolved))) => {
                self.decided(work, resolved, cx)
            }
            (State::Deciding(_), LOCKS, Wake::Resolved(Err(error))) => Step::Done(Err(error)),
            (State::Cleaning(work, _), CLEAN, Wake::Call(end)) => self.cleaned(work, end, cx),
            (State::Pausing, PAUSE, Wake::Pause) => self.scan(cx),
            // A wake-up that was overtaken by another: it changes nothing.
            (state, _, _) => self.wait(state),
        }
    }

    fn scanned(mut self, end: CallEnd, cx: &mut Cx<'_>) -> Step {
        let page = match scan_locks::page(end, &self.rest, self.limit) {
            Ok(page) => page,
            Err(error) => return Step::Done(Err(error)),
        };
        let first = page.locks.first().map(|lock| (lock.key.clone(), lock.start_ts));
        if let Some((key, start_ts)) = first.clone().filter(|_| first == self.met) {
            return self.met_again(key, start_ts, cx);
        }
        self.met = first;
        let last = page.locks.last().map(|lock| lock.key.clone()).filter(|_| page.full);
        let only_async = self.plan.async_commit_only;
        let leaves = last.is_none();
        let next = match last {
            // What is passed over stays there.
            Some(last) if only_async => {
                let rest = KeyRange { start: next_key(&last), end: self.rest.end.clone() };
                (!rest.is_empty()).then_some(rest)
            }
            Some(last) => Some(KeyRange { start: last, end: self.rest.end.clone() }),
            None => behind(&self.rest, &page.end),
        };
        let mut undecided = page.locks;
        undecided.retain(|lock| !only_async || lock.use_async_commit);
        let count = undecided.len() as u64;
        let region = page.region;
        let work = Work { region, next, leaves, count, undecided, decided: Vec::new() };
        self.decide(work, cx)
    }

    /// A lock that was cleaned is there all the same: a prewrite that was late, or a store that does
    /// not do what it says.
    fn met_again(mut self, key: Key, start_ts: Timestamp, cx: &mut Cx<'_>) -> Step {
        let error = Blocker { wait: std::time::Duration::ZERO, key, start_ts }.error();
        let draws = &mut *cx.draws;
        match self.stuck.next(BackoffKind::TxnLock, None, error, |bound| draws.below(bound)) {
            Ok(wait) => {
                self.met = None;
                cx.pause(PAUSE, wait, WakeReason::LockWait);
                self.wait(State::Pausing)
            }
            Err(error) => Step::Done(Err(error)),
        }
    }

    /// A bounded number of transactions at once.
    fn decide(self, mut work: Work, cx: &mut Cx<'_>) -> Step {
        if work.undecided.is_empty() {
            return self.clean(work, cx);
        }
        let many = cx.shared.config.max_batches.clamp(1, work.undecided.len());
        let rest = work.undecided.split_off(many);
        let locks = std::mem::replace(&mut work.undecided, rest);
        cx.resolve(LOCKS, locks, Mode::Gc);
        self.wait(State::Deciding(work))
    }

    fn decided(self, mut work: Work, resolved: Resolved, cx: &mut Cx<'_>) -> Step {
        if let Some(blocker) = resolved.blocker {
            return Step::Done(Err(blocker.error()));
        }
        for (start_ts, fate) in resolved.ended {
            if !work.decided.iter().any(|(known, _)| *known == start_ts) {
                work.decided.push((start_ts, fate));
            }
        }
        self.decide(work, cx)
    }

    fn clean(self, work: Work, cx: &mut Cx<'_>) -> Step {
        if work.decided.is_empty() {
            return self.advance(work, cx);
        }
        let info = |(start_ts, fate): &(Timestamp, Fate)| kvrpcpb::TxnInfo {
            txn: start_ts.version(),
            status: fate.commit_version(),
            ..Default::default()
        };
        let message = kvrpcpb::ResolveLockRequest {
            txn_infos: work.decided.iter().map(info).collect(),
            ..Default::default()
        };
        let body = cx.encode(&message);
        let spec = CallSpec::write(Rpc::KvResolveLock, body, &cx.shared.config);
        let call = cx.call(CLEAN, Target::Region(work.region), spec, self.backoff.fork());
        self.wait(State::Cleaning(work, call))
    }

    fn cleaned(mut self, work: Work, end: CallEnd, cx: &mut Cx<'_>) -> Step {
        match end {
            CallEnd::Answered { response, .. } => match reply::resolve_lock(response) {
                Ok(()) => self.advance(work, cx),
                Err(error) => Step::Done(Err(error)),
            },
            CallEnd::Regroup { backoff, .. } => {
                self.backoff.absorb(&backoff);
                self.met = None;
                self.scan(cx)
            }
            CallEnd::Failed { error, .. } => Step::Done(Err(error.certain())),
        }
    }

    fn advance(mut self, work: Work, cx: &mut Cx<'_>) -> Step {
        self.done.locks += work.count;
        self.done.regions += u64::from(work.leaves || work.next.is_none());
        let Some(next) = work.next else {
            return Step::Done(Ok(Reply::LocksResolved(self.done)));
        };
        self.rest = next;
        self.backoff = Backoff::new(budget::GC);
        self.scan(cx)
    }

    /// Whatever was cleaned stays clean, and none of it was the application's.
    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = match self.state {
            State::Scanning(call) | State::Cleaning(_, call) => cx.abandon(call),
            State::Deciding(_) | State::Pausing => None,
        };
        let mut left = left.unwrap_or(Abandoned { doubt: false, cause: None, attempts: 0 });
        left.doubt = false;
        left.cause = left.cause.or_else(|| self.backoff.last().or(self.stuck.last()).cloned());
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}
