//! What became of one transaction, and the cleaning up of its locks.

use std::collections::BTreeMap;
use std::time::Duration;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::WakeReason;
use crate::error::Error;
use crate::fanout::{Batch, Fanout, Job, Progress};
use crate::id::Handle;
use crate::operation::Key;
use crate::region::loader::Seek;
use crate::region_call::Target;
use crate::resolve::{Debt, Fate, Mode, Passage};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply::{self, Lock, TxnStatus};

/// Somebody has joined: look at what there is to do.
pub(crate) const JOINED: Tag = 0;
const STAMP: Tag = 1;
const CHECK: Tag = 2;
const PAUSE: Tag = 3;
/// Waits of the cleaning.
const CLEANING: Tag = 16;

/// At most this long until a lock that should be gone is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How many regions are cleaned at once.
const MAX_CLEANING: usize = 16;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Inquiry {
    start_ts: Timestamp,
    primary: Key,
    /// The longest time to live among the locks met, in milliseconds.
    ttl_ms: u64,
    /// The largest number of keys that a lock met says its region holds.
    txn_size: u64,
    backoff: Backoff,
    /// Who waits to hear the fate.
    debts: Vec<Debt>,
    state: State,
    cleaning: Option<Cleaning>,
    /// Locks to clean in the next round, and the writers who wait for it.
    dirty: BTreeMap<Key, Vec<Debt>>,
    /// The next free tag of the cleaning: a round must not take the last one's wake-ups for its own.
    next_tag: Tag,
}

#[derive(Clone, Debug, Hash)]
enum State {
    /// Nobody has asked yet.
    New,
    Stamping,
    Checking {
        call: Handle,
        now: Timestamp,
        caller: Option<Timestamp>,
        rollback: bool,
    },
    Pausing,
    Known(Fate),
}

/// One round of cleaning.
#[derive(Clone, Debug, Hash)]
struct Cleaning {
    fanout: Fanout<CleanJob>,
    waiting: BTreeMap<Key, Vec<Debt>>,
}

#[derive(Clone, Debug, Hash)]
struct CleanJob {
    start_ts: Timestamp,
    fate: Fate,
    keys: Vec<Key>,
    /// Name the keys, rather than have the store look for every lock of the transaction in the region.
    lite: bool,
}

impl Inquiry {
    pub(crate) fn new(debt: Debt, fate: Option<Fate>) -> Self {
        let Lock { start_ts, primary, .. } = &debt.lock;
        let mut inquiry = Self {
            start_ts: *start_ts,
            primary: primary.clone(),
            ttl_ms: 0,
            txn_size: 0,
            backoff: Backoff::new(budget::RESOLVE),
            debts: Vec::new(),
            state: fate.map_or(State::New, State::Known),
            cleaning: None,
            dirty: BTreeMap::new(),
            next_tag: CLEANING,
        };
        inquiry.join(debt);
        inquiry
    }

    pub(crate) fn start_ts(&self) -> Timestamp {
        self.start_ts
    }

    pub(crate) fn join(&mut self, debt: Debt) {
        self.ttl_ms = self.ttl_ms.max(debt.lock.ttl_ms);
        self.txn_size = self.txn_size.max(debt.lock.txn_size);
        self.debts.push(debt);
    }

    /// Takes a wake-up; `None` when there is nothing left to do.
    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Option<Self> {
        match (std::mem::replace(&mut self.state, State::New), tag, wake) {
            (State::New, JOINED, _) => self.stamp(cx),
            (State::Stamping, STAMP, Wake::Timestamp(Ok(now))) => self.check(now, false, cx),
            (State::Stamping, STAMP, Wake::Timestamp(Err(error))) => self.fail(error, cx),
            (State::Checking { now, caller, rollback, .. }, CHECK, Wake::Call(end)) => {
                self.checked(now, caller, rollback, end, cx);
            }
            (State::Pausing, PAUSE, Wake::Pause) => self.stamp(cx),
            (State::Known(fate), _, wake) => {
                self.state = State::Known(fate);
                self.clean_wake(tag, wake, cx);
            }
            (state, _, _) => self.state = state,
        }
        if let State::Known(fate) = self.state {
            self.settle(fate, cx);
            self.clean(fate, cx);
        }
        let idle = match self.state {
            State::New => true,
            State::Known(_) => self.cleaning.is_none() && self.dirty.is_empty(),
            State::Stamping | State::Checking { .. } | State::Pausing => false,
        };
        if idle && self.debts.is_empty() { None } else { Some(self) }
    }

    fn stamp(&mut self, cx: &mut Cx<'_>) {
        cx.timestamp(STAMP);
        self.state = State::Stamping;
    }

    /// Asks the primary. `rollback`: if there is no trace of the transaction, leave a rollback record,
    /// so that it can never commit.
    fn check(&mut self, now: Timestamp, rollback: bool, cx: &mut Cx<'_>) {
        let caller = self.debts.iter().filter_map(|debt| debt.mode.caller()).max();
        let pessimistic = self.debts.iter().any(|debt| debt.lock.is_pessimistic());
        // A lock without time to live is a store's way to say «resolve me in any case» (§2.1).
        let current = if self.ttl_ms == 0 { Timestamp::MAX } else { now };
        let message = kvrpcpb::CheckTxnStatusRequest {
            primary_key: self.primary.clone(),
            lock_ts: self.start_ts.version(),
            caller_start_ts: caller.map_or(0, Timestamp::version),
            current_ts: current.version(),
            rollback_if_not_exist: rollback,
            resolving_pessimistic_lock: pessimistic,
            verify_is_primary: true,
            ..Default::default()
        };
        let body = cx.encode(&message);
        let spec = CallSpec::write(Rpc::KvCheckTxnStatus, body, &cx.shared.config);
        let target = Target::Key { key: self.primary.clone(), seek: Seek::Containing };
        let call = cx.call(CHECK, target, spec, self.backoff.fork());
        self.state = State::Checking { call, now, caller, rollback };
    }

    fn checked(
        &mut self,
        now: Timestamp,
        caller: Option<Timestamp>,
        rollback: bool,
        end: CallEnd,
        cx: &mut Cx<'_>,
    ) {
        let response = match end {
            CallEnd::Answered { response, .. } => response,
            CallEnd::Failed { error, .. } => return self.fail(error, cx),
            CallEnd::Regroup { .. } => return self.fail(reply::impossible("regroup"), cx),
        };
        match reply::check_txn_status(response) {
            Ok(TxnStatus::Committed(at)) => self.know(Fate::Committed(at), cx),
            Ok(TxnStatus::RolledBack) => self.know(Fate::RolledBack, cx),
            Ok(TxnStatus::Alive { ttl_ms, pushed, .. }) => {
                self.alive(left(self.start_ts, ttl_ms, now), caller.filter(|_| pushed), cx);
            }
            // Released pessimistic locks say nothing about the transaction (§16.2, §22.17).
            Ok(TxnStatus::PessimisticGone) => self.alive(Duration::ZERO, None, cx),
            Ok(TxnStatus::NotFound) => self.not_found(now, rollback, cx),
            Ok(TxnStatus::PrimaryMismatch(_)) => self.primary_mismatch(now, cx),
            Err(error) => self.fail(error, cx),
        }
    }

    /// §16.2: the primary may simply not have been prewritten yet. Only when the lock that was met has
    /// outlived its own time is the transaction given up (§22.14).
    fn not_found(&mut self, now: Timestamp, rollback: bool, cx: &mut Cx<'_>) {
        let left = left(self.start_ts, self.ttl_ms, now);
        if left.is_zero() && !rollback {
            return self.check(now, true, cx);
        }
        if self.debts.iter().any(|debt| debt.lock.is_pessimistic()) {
            return self.alive(left, None, cx);
        }
        let error = self.blocked();
        let draws = &mut *cx.draws;
        let wait =
            self.backoff.next(BackoffKind::TxnNotFound, None, error, |bound| draws.below(bound));
        match wait {
            Ok(wait) => {
                cx.pause(PAUSE, wait, WakeReason::LockWait);
                self.state = State::Pausing;
            }
            Err(error) => self.fail(error, cx),
        }
    }

    /// A pessimistic transaction may change its primary, so for its locks this means only that the
    /// lock is left over; for others the lock is corrupt.
    fn primary_mismatch(&mut self, now: Timestamp, cx: &mut Cx<'_>) {
        if self.debts.iter().all(|debt| debt.lock.is_pessimistic()) {
            self.alive(left(self.start_ts, self.ttl_ms, now), None, cx);
        } else {
            self.fail(reply::impossible("a lock names a primary that is not one"), cx);
        }
    }

    fn blocked(&self) -> Error {
        let key = self.debts.first().map(|debt| debt.lock.key.clone()).unwrap_or_default();
        super::Blocker { wait: Duration::ZERO, key, start_ts: self.start_ts }.error()
    }

    /// Everybody hears the error; whoever meets the lock again begins anew.
    fn fail(&mut self, error: Error, cx: &mut Cx<'_>) {
        for debt in std::mem::take(&mut self.debts) {
            cx.shared.pay(&debt, Err(error.clone()));
        }
        self.state = State::New;
    }

    /// The transaction may still commit. `pushed`: but not at or before this timestamp.
    fn alive(&mut self, left: Duration, pushed: Option<Timestamp>, cx: &mut Cx<'_>) {
        // A lock whose time is up but that is still there (at the very millisecond, or of a kind that
        // is not recovered here) is looked at again soon, not at once: a clamp of zero would make
        // the waiter's budget stand still.
        let wait = if left.is_zero() { LOOK_AGAIN } else { left };
        for debt in std::mem::take(&mut self.debts) {
            let passage = match debt.mode {
                Mode::Read { at } if pushed.is_some_and(|pushed| at <= pushed) => Passage::Bypass,
                // Joined too late to be counted in: ask again at once.
                Mode::Read { .. } if pushed.is_some() => Passage::Wait(LOOK_AGAIN),
                Mode::Read { .. } | Mode::Write { .. } | Mode::Lock => Passage::Wait(wait),
            };
            cx.shared.pay(&debt, Ok(passage));
        }
        self.state = State::New;
    }

    fn know(&mut self, fate: Fate, cx: &mut Cx<'_>) {
        cx.shared.remember_fate(self.start_ts, fate);
        self.state = State::Known(fate);
    }

    /// Tells readers, and puts everybody's locks on the list to be cleaned.
    fn settle(&mut self, fate: Fate, cx: &mut Cx<'_>) {
        for debt in std::mem::take(&mut self.debts) {
            let key = debt.lock.key.clone();
            // The fate of a transaction says nothing about a pessimistic lock of it: that is
            // released, never committed (§22.17).
            if debt.lock.is_pessimistic() {
                cx.shared.pay(&debt, Ok(Passage::Wait(LOOK_AGAIN)));
                continue;
            }
            match debt.mode {
                Mode::Read { at } => {
                    let passage = match fate {
                        Fate::Committed(commit) if commit <= at => Passage::Access,
                        Fate::Committed(_) | Fate::RolledBack => Passage::Bypass,
                    };
                    cx.shared.pay(&debt, Ok(passage));
                    let cleaning = self.cleaning.as_ref();
                    if !cleaning.is_some_and(|round| round.waiting.contains_key(&key)) {
                        self.dirty.entry(key).or_default();
                    }
                }
                Mode::Write { .. } | Mode::Lock => self.dirty.entry(key).or_default().push(debt),
            }
        }
    }

    /// Starts the next round, if none is under way and there is something to clean.
    fn clean(&mut self, fate: Fate, cx: &mut Cx<'_>) {
        if self.cleaning.is_some() || self.dirty.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.dirty);
        let keys = waiting.keys().cloned().collect();
        let lite = self.txn_size < cx.shared.config.resolve_lite_threshold;
        let job = CleanJob { start_ts: self.start_ts, fate, keys, lite };
        let backoff = Backoff::new(budget::RESOLVE);
        let mut fanout = Fanout::new(job, backoff, MAX_CLEANING, self.next_tag);
        fanout.advance(cx);
        self.cleaning = Some(Cleaning { fanout, waiting });
    }

    fn clean_wake(&mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) {
        let Some(round) = self.cleaning.as_mut().filter(|round| round.fanout.owns(tag)) else {
            return;
        };
        let (piece, result) = match round.fanout.wake(tag, wake, cx) {
            Progress::Nothing => (None, Ok(())),
            Progress::Answer { batch, response } => {
                (Some(batch.piece), reply::resolve_lock(response))
            }
            Progress::Failed { piece, error, .. } => (Some(piece), Err(error)),
        };
        if let Some(piece) = piece {
            for key in &round.fanout.job.keys[piece.start..piece.end] {
                for debt in round.waiting.remove(key).unwrap_or_default() {
                    cx.shared.pay(&debt, result.clone().map(|()| Passage::Free));
                }
            }
        }
        round.fanout.advance(cx);
        if round.fanout.is_done() {
            self.next_tag = round.fanout.end_tag();
            self.cleaning = None;
        }
    }
}

/// What is left of a lock's time to live.
fn left(start_ts: Timestamp, ttl_ms: u64, now: Timestamp) -> Duration {
    start_ts.until_expired(Duration::from_millis(ttl_ms), now)
}

/// Without limits: one request a region, whatever it holds (§16.2.5).
impl Job for CleanJob {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.keys[index]
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let keys = if self.lite {
            self.keys[batch.piece.start..batch.piece.end].to_vec()
        } else {
            Vec::new()
        };
        let commit_version = match self.fate {
            Fate::Committed(at) => at.version(),
            Fate::RolledBack => 0,
        };
        let message = kvrpcpb::ResolveLockRequest {
            start_version: self.start_ts.version(),
            commit_version,
            keys,
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            ..CallSpec::write(Rpc::KvResolveLock, body, &cx.shared.config)
        }
    }
}
