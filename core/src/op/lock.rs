//! Taking pessimistic locks (`transactions.md` §13, §14).
//!
//! ```text
//!            every key locked
//! Locking ────────────────────▶ over
//!    │  ▲ ▲
//!    │  │ └── parked: locks of others are looked into, or a store that does not let requests wait
//!    │  └──── a region moved: its keys are grouped anew
//!    │
//!    │ an error, the deadline, or nobody wants the locks any more
//!    ▼
//! Draining ─▶ Releasing ─▶ over          the error is told at once, the rest goes on in the background;
//!                 │                      only an error that asks for the same call again waits for the
//!                 └──────▶ Resting ─▶    release, and a moment more
//! ```
//!
//! | state | waits for | error, or an answer that refuses | deadline, cancellation, close |
//! |---|---|---|---|
//! | Locking | every batch; a new primary's first, alone | told; Draining | told; Draining |
//! | Draining | the answers to what is out: a lock request that waits in its store may yet be granted | – | gives up if the background's time is over; tells its error if there is one |
//! | Releasing | the release | goes on with the other keys | as Draining |
//! | Resting | 5 ms | – | tells its error |
//!
//! What is released is what this call may have taken, and nothing else (`peers.md` D9): the keys of
//! batches that were sent, as of this call's `for_update_ts` or the largest conflict it was told of.
//! What the transaction locked earlier was not part of the call; what it locks again later has a later
//! `for_update_ts` and survives a release that comes late (§22.29).
//!
//! The waiting is done by the store: a request carries how long it may wait, which shrinks with each
//! one (§13.3). A store that answers «locked» at once all the same is asked again after a pause that
//! grows. Neither is charged to the budget of retries: how long locks of others are waited for is the
//! caller's to say, and by default the operation's deadline says it (`peers.md` D12).
//!
//! A known gap, as in the reference (§22.28): of a forced lock whose answer was lost the conflict is not
//! known, and a lock as of a later time than the release stays until its time to live is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::command::{Cancel, WakeReason};
use crate::coverage::State;
use crate::error::{Error, ErrorKind};
use crate::fanout::{Batch, Fanout, Job, Piece, Progress};
use crate::fingerprint::fingerprint64;
use crate::heartbeat::MANAGED_TTL;
use crate::lock_plan::{Found, LockPlan, LockReply, LockWait, LockedKey, PessimisticRollbackPlan};
use crate::op::pessimistic_rollback::{Release, Released};
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, Reply};
use crate::resolve::{Mode, Resolved};
use crate::shared::{CallSpec, Cx, Tag, Wake};
use crate::time::Instant;
use crate::timestamp::Timestamp;
use crate::wire::reply::{self, Lock, LockAnswer, LockQuestion};

/// A lock that its owner has dealt with so recently is not looked into: the owner lives (§1.4).
const YOUNG: Duration = Duration::from_millis(300);
/// A request that came back sooner was not let wait.
const PARKED: Duration = Duration::from_millis(20);
/// The pauses before asking a store that does not let requests wait.
const PAUSE_MS: (u32, u32) = (20, 1_000);
/// So often a lock may turn out to be gone, and yet be there, before that is paused for, too.
const FREE_ROUNDS: u32 = 3;
/// Between the release after a deadlock and the next try (§1.4).
const AFTER_DEADLOCK: Duration = Duration::from_millis(5);

const FIRST: Tag = 0;

#[derive(Clone, Debug, Hash)]
pub(crate) struct LockKeys {
    plan: Arc<LockPlan>,
    phase: Phase,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    Locking(Locking),
    Draining(Draining),
    Releasing(Release, Option<Error>),
    /// Under the pause with this tag.
    Resting(Error, Tag),
}

#[derive(Clone, Debug, Hash)]
struct Locking {
    fanout: Fanout<LockJob>,
    /// What was found, where a key is locked.
    locked: Vec<Option<LockedKey>>,
    /// By the first key of a piece: how its requests have fared.
    rounds: BTreeMap<usize, Rounds>,
    /// The last lock that was in the way.
    blocker: Option<Error>,
}

/// How the requests for some keys have fared.
#[derive(Clone, Copy, Debug, Hash)]
struct Rounds {
    /// When the last one was sent.
    sent: Instant,
    /// How many in a row came back at once.
    prompt: u32,
}

#[derive(Clone, Debug, Hash)]
struct Draining {
    fanout: Fanout<LockJob>,
    /// What may have been taken.
    taken: Vec<Key>,
    /// The largest conflict with which a key was locked.
    conflict_ts: Option<Timestamp>,
    /// The error that is told only after the release.
    report: Option<Error>,
}

#[derive(Clone, Debug, Hash)]
struct LockJob {
    plan: Arc<LockPlan>,
    began: Instant,
    max_weight: usize,
}

impl LockKeys {
    pub(crate) fn start(plan: LockPlan, cx: &mut Cx<'_>) -> Step {
        if let Err(error) = plan.check() {
            return Step::Done(Err(error));
        }
        // §22.31.
        if let Some(lost) = cx.shared.heartbeats.lost(plan.start_ts) {
            let text = format!("the transaction's locks are no longer kept alive ({lost:?})");
            return Step::Done(Err(Error::new(ErrorKind::LocksExpired, text)));
        }
        let plan = Arc::new(plan);
        let config = &cx.shared.config;
        let job =
            LockJob { plan: plan.clone(), began: cx.shared.now, max_weight: config.txn_batch_size };
        let backoff = Backoff::new(budget::PESSIMISTIC_LOCK);
        let mut fanout = Fanout::new(job, backoff, config.max_batches, FIRST);
        if plan.primary == plan.keys[0].key {
            // §6: the primary's batch first (cases.md PES-21).
            fanout = fanout.gate(0);
        }
        let locked = vec![None; plan.keys.len()];
        let state = Locking { fanout, locked, rounds: BTreeMap::new(), blocker: None };
        Self::go_on(plan, state, cx)
    }

    fn next(plan: Arc<LockPlan>, phase: Phase) -> Step {
        Step::Next(Op::Lock(Box::new(Self { plan, phase })))
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Locking(_) => State::LockLocking,
            Phase::Draining(_) => State::LockDraining,
            Phase::Releasing(..) => State::LockReleasing,
            Phase::Resting(..) => State::LockResting,
        }
    }

    pub(crate) fn awaits(&self, tag: Tag) -> bool {
        match &self.phase {
            Phase::Locking(state) => state.fanout.awaits(tag),
            Phase::Draining(state) => state.fanout.awaits(tag),
            Phase::Releasing(release, _) => release.awaits(tag),
            Phase::Resting(_, pause) => *pause == tag,
        }
    }

    /// Whether all that is left is to release what was taken.
    pub(crate) fn is_releasing(&self) -> bool {
        match self.phase {
            Phase::Locking(_) => false,
            Phase::Draining(_) | Phase::Releasing(..) | Phase::Resting(..) => true,
        }
    }

    pub(crate) fn wake(self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let Self { plan, phase } = self;
        match phase {
            Phase::Locking(state) => Self::locking(plan, state, tag, wake, cx),
            Phase::Draining(state) => Self::draining(plan, state, tag, wake, cx),
            Phase::Releasing(release, report) => {
                let rest = release.end_tag();
                match release.wake(tag, wake, cx) {
                    Released::Going(release) => Self::next(plan, Phase::Releasing(release, report)),
                    Released::Over(result) => Self::released(plan, result, report, rest, cx),
                }
            }
            // Not a late pause of the locking.
            Phase::Resting(error, pause) => match wake {
                Wake::Pause if tag == pause => Step::Done(Err(error)),
                _ => Self::next(plan, Phase::Resting(error, pause)),
            },
        }
    }

    // ---- locking -------------------------------------------------------------------------------

    fn go_on(plan: Arc<LockPlan>, mut state: Locking, cx: &mut Cx<'_>) -> Step {
        state.fanout.advance(cx);
        if !state.fanout.is_done() {
            return Self::next(plan, Phase::Locking(state));
        }
        let keys: Option<Vec<LockedKey>> = state.locked.into_iter().collect();
        match keys {
            Some(keys) => Step::Done(Ok(Reply::Locked(LockReply { keys }))),
            None => Step::Done(Err(reply::impossible("a lock call that ends without its locks"))),
        }
    }

    fn locking(
        plan: Arc<LockPlan>,
        mut state: Locking,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        if let Wake::Resolved(resolved) = wake {
            let Some(piece) = state.fanout.unpark(tag) else {
                return Self::go_on(plan, state, cx);
            };
            return match resolved.and_then(|resolved| state.resolved(&plan, piece, resolved, cx)) {
                Ok(()) => Self::go_on(plan, state, cx),
                Err(error) => Self::fail(plan, state, error, true, cx),
            };
        }
        match state.fanout.wake(tag, wake, cx) {
            Progress::Nothing => Self::go_on(plan, state, cx),
            Progress::Failed { piece, doubt: true, .. }
                if planted!(cx.shared.config, LostLockHeld) =>
            {
                let found = vec![Found::Missing; piece.len()];
                state.taken(&plan, &piece, found, None, cx);
                Self::go_on(plan, state, cx)
            }
            Progress::Failed { error, .. } => Self::fail(plan, state, error, true, cx),
            Progress::Answer { batch, response } => {
                let question = plan.question(batch.piece.end - batch.piece.start);
                match reply::pessimistic_lock(response, &question) {
                    Ok(LockAnswer::Locked(found)) => {
                        state.taken(&plan, &batch.piece, found, None, cx);
                        Self::go_on(plan, state, cx)
                    }
                    Ok(LockAnswer::LockedWithConflict { found, conflict_ts }) => {
                        state.taken(&plan, &batch.piece, vec![found], Some(conflict_ts), cx);
                        Self::go_on(plan, state, cx)
                    }
                    Ok(LockAnswer::Blocked(locks)) => {
                        match state.blocked(&plan, batch.piece, locks, cx) {
                            Ok(()) => Self::go_on(plan, state, cx),
                            Err(error) => Self::fail(plan, state, error, true, cx),
                        }
                    }
                    Ok(LockAnswer::Refused(error)) => {
                        // §22.29: of a single key that met a newer version, or exists, it is certain
                        // that it is not locked, unless an earlier copy was lost.
                        let not_taken = matches!(
                            error.kind(),
                            ErrorKind::WriteConflict(_) | ErrorKind::KeyExists { .. }
                        );
                        let certain = not_taken && plan.keys.len() == 1 && !batch.piece.doubt;
                        Self::fail(plan, state, error, !certain, cx)
                    }
                    Err(error) => Self::fail(plan, state, error, true, cx),
                }
            }
        }
    }

    /// The call has failed. `taken`: what was sent may have taken locks.
    fn fail(
        plan: Arc<LockPlan>,
        state: Locking,
        error: Error,
        taken: bool,
        cx: &mut Cx<'_>,
    ) -> Step {
        // Locks that may have been taken are no doubt about the transaction.
        let error = plan.explained(error.certain(), cx);
        if plan.new_primary {
            cx.shared.stop_keep_alive(plan.start_ts);
        }
        let taken = if taken { state.may_have_taken(&plan) } else { Vec::new() };
        let conflict_ts = state.locked.iter().flatten().filter_map(|key| key.conflict_ts).max();
        // §22.30: a deadlock with itself is told when the locks are gone.
        let later = matches!(error.kind(), ErrorKind::Deadlock(deadlock) if deadlock.retryable);
        let report = later.then(|| error.clone());
        let mut fanout = state.fanout;
        fanout.settle(cx);
        let draining = Draining { fanout, taken, conflict_ts, report };
        match Self::drain(plan, draining, cx) {
            Step::Next(op) if !later => Step::Detach(Err(error), op, budget::CLEANUP),
            Step::Next(op) => Step::Next(op),
            Step::Done(_) | Step::Detach(..) | Step::Finished => Step::Done(Err(error)),
        }
    }

    // ---- releasing -----------------------------------------------------------------------------

    fn draining(
        plan: Arc<LockPlan>,
        mut state: Draining,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        if let Progress::Answer { batch, response } = state.fanout.wake(tag, wake, cx) {
            let question = plan.question(batch.piece.end - batch.piece.start);
            if let Ok(LockAnswer::LockedWithConflict { conflict_ts, .. }) =
                reply::pessimistic_lock(response, &question)
            {
                state.conflict_ts = state.conflict_ts.max(Some(conflict_ts));
            }
        }
        Self::drain(plan, state, cx)
    }

    fn drain(plan: Arc<LockPlan>, mut state: Draining, cx: &mut Cx<'_>) -> Step {
        if state.fanout.is_flying() {
            return Self::next(plan, Phase::Draining(state));
        }
        let tag = state.fanout.end_tag();
        state.fanout.abandon(cx);
        let Draining { taken, conflict_ts, report, .. } = state;
        let for_update_ts = conflict_ts.max(Some(plan.for_update_ts)).unwrap_or(plan.start_ts);
        let release = Release::start(plan.release(for_update_ts, taken), tag, cx);
        if release.is_done() {
            return Self::released(plan, Ok(()), report, tag, cx);
        }
        Self::next(plan, Phase::Releasing(release, report))
    }

    fn released(
        plan: Arc<LockPlan>,
        result: Result<(), Error>,
        report: Option<Error>,
        tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        let Some(error) = report else {
            return Step::Finished;
        };
        match (result, error.kind()) {
            (Err(_), ErrorKind::Deadlock(deadlock)) => {
                // The key may be locked yet, and the same call would only meet the same circle.
                let mut deadlock = deadlock.clone();
                deadlock.retryable = false;
                Step::Done(Err(error.into_kind(ErrorKind::Deadlock(deadlock))))
            }
            (Ok(()) | Err(_), _) => {
                cx.pause(tag, AFTER_DEADLOCK, WakeReason::Backoff);
                Self::next(plan, Phase::Resting(error, tag))
            }
        }
    }

    // ---- stopping ------------------------------------------------------------------------------

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> (Cancel, Step) {
        let Self { plan, phase } = self;
        match phase {
            Phase::Locking(state) => {
                let error = why.error(None, cx.shared).because(state.blocker.clone());
                let step = Self::fail(plan, state, error, true, cx);
                let cancel = match step {
                    Step::Next(_) | Step::Detach(..) => Cancel::RollingBack,
                    Step::Done(_) | Step::Finished => Cancel::Stopped,
                };
                (cancel, step)
            }
            Phase::Draining(mut state) => match state.report.take() {
                Some(error) => {
                    let op = Op::Lock(Box::new(Self { plan, phase: Phase::Draining(state) }));
                    (Cancel::RollingBack, Step::Detach(Err(error), op, budget::CLEANUP))
                }
                None => {
                    state.fanout.abandon(cx);
                    (Cancel::RollingBack, Step::Finished)
                }
            },
            Phase::Releasing(mut release, report) => match report {
                Some(error) => {
                    let op =
                        Op::Lock(Box::new(Self { plan, phase: Phase::Releasing(release, None) }));
                    (Cancel::RollingBack, Step::Detach(Err(error), op, budget::CLEANUP))
                }
                None => {
                    release.abandon(cx);
                    (Cancel::RollingBack, Step::Finished)
                }
            },
            Phase::Resting(error, _) => (Cancel::Stopped, Step::Done(Err(error))),
        }
    }
}

impl Locking {
    /// These keys are locked.
    fn taken(
        &mut self,
        plan: &LockPlan,
        piece: &Piece,
        found: Vec<Found>,
        conflict_ts: Option<Timestamp>,
        cx: &mut Cx<'_>,
    ) {
        for (index, found) in (piece.start..piece.end).zip(found) {
            let key = plan.keys[index].key.clone();
            // A lock that was forced in spite of a conflict is there, whatever was found.
            let left_alone =
                plan.lock_only_if_exists && found == Found::Missing && conflict_ts.is_none();
            let already = plan.keys[index].held;
            let locked = already || !left_alone;
            self.locked[index] = Some(LockedKey { key, locked, already, found, conflict_ts });
        }
        self.fanout.open();
        // cases.md LCK-13: from the moment the primary is locked, whatever becomes of the rest.
        if let Some(first) = self.locked[piece.start].as_ref().filter(|_| piece.start == 0)
            && first.key == plan.primary
            && first.locked
        {
            cx.shared.keep_alive(plan.start_ts, &plan.primary);
        }
    }

    /// Locks of others are in the way.
    fn blocked(
        &mut self,
        plan: &LockPlan,
        piece: Piece,
        mut locks: Vec<Lock>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Error> {
        let Some(first) = locks.first() else {
            return Err(reply::impossible("a blocked request without locks"));
        };
        let (key, lock_ts) = (first.key.clone(), first.start_ts);
        locks.retain(|lock| lock.updated.is_none_or(|updated| updated >= YOUNG));
        if locks.is_empty() {
            return self.wait(plan, piece, key, lock_ts, cx);
        }
        let tag = self.fanout.park(piece);
        cx.resolve(tag, locks, Mode::Lock);
        Ok(())
    }

    /// They were looked into.
    fn resolved(
        &mut self,
        plan: &LockPlan,
        piece: Piece,
        resolved: Resolved,
        cx: &mut Cx<'_>,
    ) -> Result<(), Error> {
        match resolved.blocker {
            Some(blocker) => self.wait(plan, piece, blocker.key, blocker.start_ts, cx),
            None => {
                self.again(piece, FREE_ROUNDS, plan, cx);
                Ok(())
            }
        }
    }

    /// A lock stays where it is: asks again, unless the wait is over (§13.4).
    fn wait(
        &mut self,
        plan: &LockPlan,
        piece: Piece,
        key: Key,
        lock_ts: Timestamp,
        cx: &mut Cx<'_>,
    ) -> Result<(), Error> {
        let text = format!("locked by the transaction that started at {lock_ts}");
        let lock_ts = lock_ts.version();
        let waited = cx.shared.now.since(self.fanout.job.began);
        match plan.wait {
            LockWait::NoWait => Err(Error::new(ErrorKind::LockNotAvailable { key, lock_ts }, text)),
            LockWait::For(limit) if waited >= limit => {
                Err(Error::new(ErrorKind::LockWaitTimeout { key, lock_ts }, text))
            }
            LockWait::For(_) | LockWait::Forever => {
                let kind = ErrorKind::LockWaitTimeout { key, lock_ts };
                self.blocker = Some(Error::new(kind, text));
                self.again(piece, 0, plan, cx);
                Ok(())
            }
        }
    }

    /// Sends again. At once if the store let the last request wait, or for the first `free` times.
    fn again(&mut self, piece: Piece, free: u32, plan: &LockPlan, cx: &mut Cx<'_>) {
        let (now, began) = (cx.shared.now, self.fanout.job.began);
        let rounds = self.rounds.entry(piece.start).or_insert(Rounds { sent: began, prompt: 0 });
        rounds.prompt =
            if now.since(rounds.sent) < PARKED { rounds.prompt.saturating_add(1) } else { 0 };
        rounds.sent = now;
        if rounds.prompt <= free {
            return self.fanout.again(piece);
        }
        let (base, cap) = PAUSE_MS;
        let full = base.saturating_mul(1 << (rounds.prompt - 1).min(10)).min(cap);
        let jittered = full / 2 + cx.draws.below(full / 2 + 1);
        let mut pause = Duration::from_millis(jittered.into());
        if let LockWait::For(limit) = plan.wait {
            pause = pause.min(limit.saturating_sub(now.since(began)));
        }
        rounds.sent = now + pause;
        let tag = self.fanout.park(piece);
        cx.pause(tag, pause, WakeReason::LockWait);
    }

    /// The keys of everything that was ever sent, but for those that were held before.
    fn may_have_taken(&self, plan: &LockPlan) -> Vec<Key> {
        let unsent = self.fanout.unsent();
        let was_sent = |index: &usize| {
            let waits = unsent.iter().find(|piece| piece.contains(index));
            // What comes back from a lock that was in the way has been sent.
            waits.is_none_or(|piece| self.rounds.range(piece.clone()).next().is_some())
        };
        let sent = (0..plan.keys.len()).filter(was_sent).map(|index| &plan.keys[index]);
        sent.filter(|key| !key.held).map(|key| key.key.clone()).collect()
    }
}

impl LockPlan {
    fn question(&self, keys: usize) -> LockQuestion {
        LockQuestion {
            keys,
            return_values: self.return_values,
            check_existence: self.check_existence,
            force: self.force,
            for_update_ts: self.for_update_ts,
        }
    }

    /// The release of what the call has taken.
    fn release(&self, for_update_ts: Timestamp, keys: Vec<Key>) -> PessimisticRollbackPlan {
        PessimisticRollbackPlan {
            start_ts: self.start_ts,
            for_update_ts,
            keys,
            // Stopped before, where the primary was this call's.
            stop_heartbeat: false,
            options: self.options.clone(),
        }
    }

    /// A deadlock is retryable if the circle closes with a key of this call (§13.6). The store hashes
    /// the key as it sees it: in a keyspace with the keyspace's prefix, in no further encoding.
    fn explained(&self, error: Error, cx: &Cx<'_>) -> Error {
        let ErrorKind::Deadlock(deadlock) = error.kind() else {
            return error;
        };
        let prefix = cx.shared.codec.prefix();
        let prefix = prefix.as_ref().map_or(&[][..], |prefix| prefix.as_bytes());
        let mut deadlock = deadlock.clone();
        deadlock.retryable = self.keys.iter().any(|key| {
            fingerprint64(&[prefix, &key.key[..]].concat()) == deadlock.deadlock_key_hash
        });
        error.into_kind(ErrorKind::Deadlock(deadlock))
    }
}

impl Job for LockJob {
    fn len(&self) -> usize {
        self.plan.keys.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.plan.keys[index].key
    }

    fn max_weight(&self) -> usize {
        self.max_weight
    }

    /// §13.3.
    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let plan = &*self.plan;
        let now = cx.shared.now;
        let going = now.since(self.began);
        let left = (cx.deadline < Instant::NEVER).then(|| cx.deadline.since(now));
        let ttl = plan.open_for.saturating_add(going).saturating_add(MANAGED_TTL);
        let mutation = |key: &crate::lock_plan::LockKey| {
            let assertion = match key.presume_not_exists {
                true => kvrpcpb::Assertion::NotExist,
                false => kvrpcpb::Assertion::None,
            };
            kvrpcpb::Mutation {
                op: kvrpcpb::Op::PessimisticLock.into(),
                key: key.key.clone(),
                assertion: assertion.into(),
                ..Default::default()
            }
        };
        let wake_up_mode = match plan.force {
            true => kvrpcpb::PessimisticLockWakeUpMode::WakeUpModeForceLock,
            false => kvrpcpb::PessimisticLockWakeUpMode::WakeUpModeNormal,
        };
        let message = kvrpcpb::PessimisticLockRequest {
            mutations: plan.keys[batch.piece.start..batch.piece.end].iter().map(mutation).collect(),
            primary_lock: plan.primary.clone(),
            start_version: plan.start_ts.version(),
            lock_ttl: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            for_update_ts: plan.for_update_ts.version(),
            is_first_lock: plan.is_first_lock && plan.keys.len() == 1,
            wait_timeout: plan.wait_ms(going, left),
            return_values: plan.return_values,
            check_existence: plan.check_existence,
            min_commit_ts: plan.for_update_ts.next().version(),
            lock_only_if_exists: plan.lock_only_if_exists,
            wake_up_mode: wake_up_mode.into(),
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            extra: plan.options.rollback_context(),
            once: planted!(cx.shared.config, LostLockHeld),
            ..CallSpec::write(Rpc::KvPessimisticLock, body, &cx.shared.config)
        }
    }
}
