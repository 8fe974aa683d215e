//! What became of one transaction, and the cleaning up of its locks.

use std::collections::BTreeMap;
use std::time::Duration;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::WakeReason;
use crate::coverage;
use crate::error::Error;
use crate::fanout::{Fanout, Progress};
use crate::operation::Key;
use crate::region::loader::Seek;
use crate::region_call::Target;
use crate::resolve::cleaning::{CleanJob, Dirty, Item, Round, Task};
use crate::resolve::secondaries::{Fold, Objection, SecondariesJob};
use crate::resolve::{Debt, Fate, Id, Manner, Mode, Passage};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply::{self, Lock, TxnStatus};

/// Somebody has joined: look at what there is to do.
pub(super) const JOINED: Tag = 0;
const STAMP: Tag = 1;
const CHECK: Tag = 2;
const PAUSE: Tag = 3;
/// Waits of the fan-outs: recovery, then one round of cleaning after another.
const FANOUTS: Tag = 16;

/// At most this long until a lock that should be gone is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How many regions are asked at once.
const MAX_REGIONS: usize = 16;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Inquiry {
    id: Id,
    backoff: Backoff,
    /// Who waits to hear what became of the transaction.
    debts: Vec<Debt>,
    state: State,
    round: Option<Round>,
    /// Locks for the next round.
    dirty: BTreeMap<Key, Dirty>,
    /// Keys that a recovery found locked, the primary among them: for the next round.
    recovered: Vec<Key>,
    /// The next free tag: a fan-out must not take the last one's wake-ups for its own.
    next_tag: Tag,
    /// Holds one of the permits to clean for nobody who waits.
    permit: bool,
}

#[derive(Clone, Debug, Hash)]
enum State {
    /// Nobody has asked yet.
    New,
    Stamping,
    Checking(Question),
    Recovering(Box<Recovering>),
    Pausing,
    Settled(Verdict),
}

/// What the primary is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Question {
    /// By which time to live is judged.
    now: Timestamp,
    /// The largest timestamp of those who may push the transaction.
    caller: Option<Timestamp>,
    /// If there is no trace of the transaction, leave a rollback record, so that it can never commit.
    rollback: bool,
    /// The transaction has fallen back to two phases: take its primary as it is (§22.16).
    force_sync: bool,
}

#[derive(Clone, Debug, Hash)]
struct Recovering {
    fanout: Fanout<SecondariesJob>,
    fold: Fold,
    question: Question,
}

/// What has to become of the locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Verdict {
    /// How the transaction ended. `None`: nobody knows, but the pessimistic locks that were met are
    /// left over and have to go.
    fate: Option<Fate>,
    /// The primary was asked just now: if it was locked, that lock is gone.
    asked: bool,
    /// Nothing of the transaction is worth keeping: its pessimistic locks may go region by region.
    whole: bool,
    /// The primary was gone before: another lock that names it was met then.
    again: bool,
}

impl Verdict {
    fn ended(fate: Fate, asked: bool) -> Self {
        Self { fate: Some(fate), asked, whole: true, again: false }
    }
}

impl Inquiry {
    pub(super) fn new(id: Id, debt: Debt, fate: Option<Fate>) -> Self {
        // A fate that is remembered: somebody else has asked the primary, some time ago.
        let settled = |fate| State::Settled(Verdict::ended(fate, false));
        Self {
            id,
            backoff: Backoff::new(budget::RESOLVE),
            debts: vec![debt],
            state: fate.map_or(State::New, settled),
            round: None,
            dirty: BTreeMap::new(),
            recovered: Vec::new(),
            next_tag: FANOUTS,
            permit: false,
        }
    }

    pub(super) fn id(&self) -> &Id {
        &self.id
    }

    pub(super) fn join(&mut self, debt: Debt) {
        self.debts.push(debt);
    }

    /// Takes a wake-up; `None` when there is nothing left to do.
    pub(super) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Option<Self> {
        match (std::mem::replace(&mut self.state, State::New), tag, wake) {
            (State::New, JOINED, _) => self.begin(cx),
            (State::Stamping, STAMP, Wake::Timestamp(Ok(now))) => {
                self.check(Question { now, caller: None, rollback: false, force_sync: false }, cx);
            }
            (State::Stamping, STAMP, Wake::Timestamp(Err(error))) => self.fail(error, cx),
            (State::Checking(question), CHECK, Wake::Call(end)) => self.checked(question, end, cx),
            (State::Recovering(recovering), tag, wake) => self.recovery(recovering, tag, wake, cx),
            (State::Pausing, PAUSE, Wake::Pause) => self.begin(cx),
            (State::Settled(verdict), tag, wake) => {
                self.state = State::Settled(verdict);
                self.clean_wake(tag, wake, cx);
            }
            (state, _, _) => self.state = state,
        }
        if let State::Settled(verdict) = self.state {
            if verdict.fate.is_some() {
                // Also for those who have come since.
                self.settle(verdict, cx);
            }
            self.clean(verdict, cx);
            if self.round.is_none() && !self.debts.is_empty() {
                // They came after the locks of others were found to be left over. Theirs may not be.
                self.begin(cx);
            }
        }
        let over = match self.state {
            State::New => true,
            State::Settled(_) => self.round.is_none(),
            State::Stamping | State::Checking(_) | State::Recovering(_) | State::Pausing => false,
        };
        if over && self.debts.is_empty() {
            if self.permit {
                cx.shared.resolver.background -= 1;
            }
            return None;
        }
        Some(self)
    }

    // ---- asking --------------------------------------------------------------------------------

    fn begin(&mut self, cx: &mut Cx<'_>) {
        if self.debts.is_empty() {
            self.state = State::New;
            return;
        }
        match self.id.manner {
            Manner::Shared | Manner::Latest => {
                cx.timestamp(STAMP);
                self.state = State::Stamping;
            }
            // §16.5: for garbage collection every lock has outlived its time.
            Manner::Forced => {
                let now = Timestamp::MAX;
                self.check(Question { now, caller: None, rollback: true, force_sync: false }, cx);
            }
        }
    }

    fn check(&mut self, question: Question, cx: &mut Cx<'_>) {
        let caller = self.debts.iter().filter_map(|debt| debt.mode.caller()).max();
        let question = Question { caller, ..question };
        // A lock without time to live is a store's way to say «resolve me in any case» (§2.1).
        let anyway = self.lifetime() == 0 || planted!(cx.shared.config, LiveRolledBack);
        let current = if anyway { Timestamp::MAX } else { question.now };
        let message = kvrpcpb::CheckTxnStatusRequest {
            primary_key: self.id.primary.clone(),
            lock_ts: self.id.start_ts.version(),
            caller_start_ts: caller.map_or(0, Timestamp::version),
            current_ts: current.version(),
            rollback_if_not_exist: question.rollback,
            force_sync_commit: question.force_sync,
            resolving_pessimistic_lock: self.id.pessimistic,
            verify_is_primary: true,
            ..Default::default()
        };
        let body = cx.encode(&message);
        let spec = CallSpec::write(Rpc::KvCheckTxnStatus, body, &cx.shared.config);
        let target = Target::Key { key: self.id.primary.clone(), seek: Seek::Containing };
        cx.call(CHECK, target, spec, self.backoff.fork());
        self.state = State::Checking(question);
    }

    /// The longest time to live among the locks that were met, in milliseconds; 0 as soon as a store
    /// wants one of them resolved in any case.
    fn lifetime(&self) -> u64 {
        let times = || self.debts.iter().map(|debt| debt.lock.ttl_ms);
        if times().any(|ttl| ttl == 0) { 0 } else { times().max().unwrap_or(0) }
    }

    fn checked(&mut self, question: Question, end: CallEnd, cx: &mut Cx<'_>) {
        let response = match end {
            CallEnd::Answered { response, .. } => response,
            CallEnd::Failed { error, .. } => return self.fail(error, cx),
            CallEnd::Regroup { .. } => return self.fail(reply::impossible("regroup"), cx),
        };
        match reply::check_txn_status(response) {
            Ok(TxnStatus::Committed(_)) if planted!(cx.shared.config, CommittedRolledBack) => {
                self.ended(Fate::RolledBack, cx);
            }
            Ok(TxnStatus::Committed(at)) => self.ended(Fate::Committed(at), cx),
            Ok(TxnStatus::RolledBack) => self.ended(Fate::RolledBack, cx),
            Ok(TxnStatus::Alive { ttl_ms, pushed, lock }) => {
                let left = self.left(ttl_ms, question.now);
                match lock.filter(|lock| lock.use_async_commit) {
                    Some(lock) if left.is_zero() && !question.force_sync => {
                        self.recover(question, *lock, cx);
                    }
                    Some(_) | None => self.alive(question, left, pushed, cx),
                }
            }
            Ok(TxnStatus::PessimisticGone { expired }) if self.id.pessimistic => {
                self.left_over(expired, cx);
            }
            // Said of a prewritten lock it makes no sense, and says nothing.
            Ok(TxnStatus::PessimisticGone { .. }) => {
                self.alive(question, Duration::ZERO, false, cx);
            }
            Ok(TxnStatus::NotFound) => self.not_found(question, cx),
            // A pessimistic transaction may change its primary, so for its locks this means only that
            // the lock is left over; for others the lock is corrupt (§22.17).
            Ok(TxnStatus::PrimaryMismatch(_)) if self.id.pessimistic => self.left_over(false, cx),
            Ok(TxnStatus::PrimaryMismatch(_)) => {
                self.fail(reply::impossible("a lock names a primary that is not one"), cx);
            }
            Err(error) => self.fail(error, cx),
        }
    }

    /// What is left of a time to live, by a timestamp of PD.
    fn left(&self, ttl_ms: u64, now: Timestamp) -> Duration {
        self.id.start_ts.until_expired(Duration::from_millis(ttl_ms), now)
    }

    /// §16.2.2: the primary may simply not have been prewritten yet. Only when the lock that was met has
    /// outlived its own time is the transaction given up (§22.14).
    fn not_found(&mut self, question: Question, cx: &mut Cx<'_>) {
        let left = self.left(self.lifetime(), question.now);
        if left.is_zero() && !question.rollback {
            return self.check(Question { rollback: true, ..question }, cx);
        }
        if self.id.manner == Manner::Forced {
            let text = "no trace of a transaction that was to be rolled back";
            return self.fail(reply::impossible(text), cx);
        }
        if self.id.pessimistic {
            return self.alive(question, left, false, cx);
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

    fn blocked(&self) -> Error {
        let key = self.debts.first().map(|debt| debt.lock.key.clone()).unwrap_or_default();
        super::Blocker { wait: Duration::ZERO, key, start_ts: self.id.start_ts }.error()
    }

    /// Everybody hears the error; whoever meets the lock again begins anew.
    fn fail(&mut self, error: Error, cx: &mut Cx<'_>) {
        for debt in std::mem::take(&mut self.debts) {
            cx.shared.pay(&debt, Err(error.clone()));
        }
        self.state = State::New;
    }

    /// The transaction may still commit. `pushed`: but not at or before the timestamp of the question.
    fn alive(&mut self, question: Question, left: Duration, pushed: bool, cx: &mut Cx<'_>) {
        // A lock whose time is up but that is still there (at the very millisecond, for example) is
        // looked at again soon, not at once: a clamp of zero would make the waiter's budget stand
        // still.
        let wait = if left.is_zero() { LOOK_AGAIN } else { left };
        let pushed = pushed || planted!(cx.shared.config, ReadersPassUnpushed);
        for debt in std::mem::take(&mut self.debts) {
            let passage = match debt.mode {
                // Came too late to be counted in: it needs a push of its own.
                Mode::Read { at, .. } if question.caller.is_none_or(|caller| at > caller) => {
                    self.debts.push(debt);
                    continue;
                }
                Mode::Read { .. } if pushed => Passage::Bypass,
                Mode::Read { .. } | Mode::Write { .. } | Mode::Lock | Mode::Gc => {
                    Passage::Wait(wait)
                }
            };
            cx.shared.pay(&debt, Ok(passage));
        }
        self.state = State::New;
        if !self.debts.is_empty() {
            self.check(Question { rollback: false, ..question }, cx);
        }
    }

    /// The primary knows how it ended.
    fn ended(&mut self, fate: Fate, cx: &mut Cx<'_>) {
        // Where the primary may still change, its word is good for this lock only (§22.17).
        if !self.id.pessimistic {
            cx.shared.remember_fate(self.id.start_ts, fate);
        }
        self.state = State::Settled(Verdict::ended(fate, true));
    }

    /// The pessimistic locks that were met have no primary. `expired`: because its time was up, and so
    /// is that of the others; else the transaction may be alive, under another primary.
    fn left_over(&mut self, expired: bool, cx: &mut Cx<'_>) {
        let again = cx.shared.primary_is_gone(self.id.start_ts, &self.id.primary);
        let verdict = Verdict { fate: None, asked: true, whole: expired, again };
        self.state = State::Settled(verdict);
        self.settle(verdict, cx);
    }

    // ---- recovery ------------------------------------------------------------------------------

    /// §16.3, once the primary's time is over.
    fn recover(&mut self, question: Question, primary: Lock, cx: &mut Cx<'_>) {
        let start_ts = self.id.start_ts;
        let Some(min_commit_ts) = primary.min_commit_ts.filter(|_| primary.start_ts == start_ts)
        else {
            let text = "the primary of an async commit without earliest timestamp";
            return self.fail(reply::impossible(text), cx);
        };
        let mut keys = primary.secondaries;
        if planted!(cx.shared.config, RecoveryAsksNobody) {
            keys.clear();
        }
        keys.sort_unstable();
        keys.dedup();
        let job = SecondariesJob { start_ts, keys };
        let backoff = Backoff::new(budget::RESOLVE);
        let fanout = Fanout::new(job, backoff, MAX_REGIONS, self.next_tag);
        let fold = Fold::new(start_ts, min_commit_ts);
        self.recovering(Box::new(Recovering { fanout, fold, question }), cx);
    }

    fn recovering(&mut self, mut recovering: Box<Recovering>, cx: &mut Cx<'_>) {
        recovering.fanout.advance(cx);
        if !recovering.fanout.is_done() {
            self.state = State::Recovering(recovering);
            return;
        }
        self.next_tag = recovering.fanout.end_tag();
        let (fate, mut keys) = recovering.fold.finish();
        keys.push(self.id.primary.clone());
        keys.sort_unstable();
        keys.dedup();
        // A walk for garbage collection comes to each of them by itself.
        if self.id.manner != Manner::Forced {
            self.recovered = keys;
        }
        // It does not hang on what a pessimistic primary said.
        cx.shared.remember_fate(self.id.start_ts, fate);
        self.state = State::Settled(Verdict::ended(fate, false));
    }

    fn recovery(&mut self, mut recovering: Box<Recovering>, tag: Tag, wake: Wake, cx: &mut Cx<'_>) {
        if !recovering.fanout.owns(tag) {
            // Somebody has joined; it will hear the outcome.
            self.state = State::Recovering(recovering);
            return;
        }
        let objection = match recovering.fanout.wake(tag, wake, cx) {
            Progress::Nothing => None,
            Progress::Failed { error, .. } => Some(Err(error)),
            Progress::Answer { batch, response } => match reply::check_secondary_locks(response) {
                Ok(mut answer) => {
                    if planted!(cx.shared.config, SecondariesFloorIgnored) {
                        let first = Some(self.id.start_ts.next());
                        answer.locks.iter_mut().for_each(|lock| lock.min_commit_ts = first);
                    }
                    let asked = &recovering.fanout.job.keys[batch.piece.start..batch.piece.end];
                    recovering.fold.take(asked, answer).err().map(Ok)
                }
                Err(error) => Some(Err(error)),
            },
        };
        let Some(objection) = objection else {
            return self.recovering(recovering, cx);
        };
        recovering.fanout.abandon(cx);
        self.next_tag = recovering.fanout.end_tag();
        match objection {
            Ok(Objection::NotAsync) => {
                let question = recovering.question;
                self.check(Question { force_sync: true, ..question }, cx);
            }
            Ok(Objection::Impossible(what)) => self.fail(reply::impossible(what), cx),
            Err(error) => self.fail(error, cx),
        }
    }

    // ---- cleaning ------------------------------------------------------------------------------

    /// Tells readers, and puts everybody's locks on the list to be cleaned.
    fn settle(&mut self, verdict: Verdict, cx: &mut Cx<'_>) {
        for debt in std::mem::take(&mut self.debts) {
            let key = debt.lock.key.clone();
            // A request for pessimistic locks waits at its store for a second before it tells of a lock, and
            // tells of one only. Whoever meets another of a transaction whose end was known already will
            // meet all the others, too, one a second: better the whole region at once.
            let is_another = debt.mode == Mode::Lock && !verdict.asked && debt.lock.txn_size > 1;
            let is_below = debt.lock.txn_size < cx.shared.config.resolve_lite_threshold;
            let lite = debt.mode.is_lite() || is_below && !is_another;
            let whole = match (self.id.pessimistic, debt.mode) {
                (false, _) => !lite,
                (true, Mode::Write { .. }) => verdict.whole,
                // As above. Whoever lives would have released what names a primary that he gave up.
                (true, Mode::Lock) => verdict.whole || verdict.again,
                (true, Mode::Read { .. } | Mode::Gc) => false,
            };
            let bound = match debt.lock.for_update_ts {
                Some(bound) if self.id.pessimistic => bound,
                // Unknown (§22.19), or of no interest.
                Some(_) | None => Timestamp::MAX,
            };
            let passage = self.passage(verdict.fate, &debt);
            // Whoever asked the primary has cleaned it. To who wants locks of its own that is not enough:
            // there may be more of them around it, which it would meet one a second.
            let is_enough = match self.id.pessimistic {
                true => !whole || debt.mode != Mode::Lock,
                false => lite,
            };
            let is_clean = verdict.asked && key == self.id.primary && is_enough;
            // Batches for garbage collection are cleaned by whoever asks for them.
            let is_told = self.id.manner == Manner::Forced && !self.id.pessimistic;
            if is_clean || is_told {
                cx.shared.pay(&debt, Ok(passage));
                continue;
            }
            let in_background = debt.mode.is_read() && !self.id.pessimistic && self.permit(cx);
            if in_background {
                cx.shared.pay(&debt, Ok(passage));
                if self.round.as_ref().is_some_and(|round| round.waiting.contains_key(&key)) {
                    continue;
                }
            }
            let dirty =
                self.dirty.entry(key).or_insert_with(|| Dirty { whole, bound, debts: Vec::new() });
            dirty.whole |= whole;
            dirty.bound = dirty.bound.max(bound);
            if !in_background {
                dirty.debts.push(debt);
            }
        }
    }

    /// What it means to who met a lock that the transaction has ended.
    fn passage(&self, fate: Option<Fate>, debt: &Debt) -> Passage {
        match (fate, debt.mode) {
            // The fate of a transaction says nothing about a pessimistic lock of it: that is released,
            // never committed (§22.17).
            _ if self.id.pessimistic => Passage::Free,
            (Some(fate), Mode::Gc) => Passage::Ended(fate),
            (Some(Fate::Committed(commit)), Mode::Read { at, .. }) if commit <= at => {
                Passage::Access
            }
            (Some(_), Mode::Read { .. }) => Passage::Bypass,
            (_, Mode::Write { .. } | Mode::Lock) | (None, _) => Passage::Free,
        }
    }

    /// Whether there is room to clean for nobody who waits.
    fn permit(&mut self, cx: &mut Cx<'_>) -> bool {
        let limit = cx.shared.config.max_background_resolves;
        if !self.permit && cx.shared.resolver.background < limit {
            cx.shared.resolver.background += 1;
            self.permit = true;
        }
        self.permit
    }

    /// Starts the next round, if none is under way and there is something to clean.
    fn clean(&mut self, verdict: Verdict, cx: &mut Cx<'_>) {
        if self.round.is_some() || (self.dirty.is_empty() && self.recovered.is_empty()) {
            return;
        }
        let recovered = std::mem::take(&mut self.recovered);
        let (task, waiting) = match verdict.fate {
            Some(fate) if !self.id.pessimistic => {
                (Task::Resolve(fate), std::mem::take(&mut self.dirty))
            }
            // The prewritten locks first; the pessimistic ones that were met are for the next round.
            Some(fate) if !recovered.is_empty() => (Task::Resolve(fate), BTreeMap::new()),
            Some(_) | None => (Task::Release, std::mem::take(&mut self.dirty)),
        };
        // The keys of a recovery are known one by one, and so are named one by one (§16.3).
        let named = !recovered.is_empty();
        let all_whole = task == Task::Release && waiting.values().any(|dirty| dirty.whole);
        let mut items: BTreeMap<Key, Item> = recovered
            .into_iter()
            .map(|key| (key.clone(), Item { key, whole: false, bound: Timestamp::MAX }))
            .collect();
        for (key, dirty) in &waiting {
            let whole = !named && (dirty.whole || all_whole);
            let item = Item { key: key.clone(), whole, bound: dirty.bound };
            items.insert(key.clone(), item);
        }
        let items = items.into_values().collect();
        let job = CleanJob { start_ts: self.id.start_ts, task, items };
        let backoff = Backoff::new(budget::RESOLVE);
        let mut fanout = Fanout::new(job, backoff, MAX_REGIONS, self.next_tag);
        fanout.advance(cx);
        self.round = Some(Round { fanout, waiting });
    }

    fn clean_wake(&mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) {
        let Some(mut round) = self.round.take() else {
            return;
        };
        if !round.fanout.owns(tag) {
            self.round = Some(round);
            return;
        }
        match round.fanout.wake(tag, wake, cx) {
            Progress::Nothing => {}
            Progress::Failed { piece, error, .. } => {
                self.cleaned(&mut round, piece.start..piece.end, &Err(error), cx);
            }
            Progress::Answer { batch, response } => {
                let job = &round.fanout.job;
                let result = match job.task {
                    Task::Resolve(_) => reply::resolve_lock(response),
                    Task::Release => reply::pessimistic_rollback(response),
                };
                let covers = job.covers(&batch).filter(|_| result.is_ok());
                self.cleaned(&mut round, batch.piece.start..batch.piece.end, &result, cx);
                let bounds = cx.shared.regions.range(batch.region);
                if let (Some(covers), Some(bounds)) = (covers, bounds) {
                    let is_covered =
                        |key: &Key, dirty: &Dirty| bounds.contains(key) && dirty.bound <= covers;
                    let late: Vec<Key> = self
                        .dirty
                        .iter()
                        .filter(|(key, dirty)| is_covered(key, dirty))
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in late {
                        if let Some(dirty) = self.dirty.remove(&key) {
                            self.pay_all(dirty, &Ok(()), cx);
                        }
                    }
                }
            }
        }
        round.fanout.advance(cx);
        if round.fanout.is_done() {
            self.next_tag = round.fanout.end_tag();
        } else {
            self.round = Some(round);
        }
    }

    /// These items are clean, or could not be cleaned.
    fn cleaned(
        &self,
        round: &mut Round,
        items: std::ops::Range<usize>,
        result: &Result<(), Error>,
        cx: &mut Cx<'_>,
    ) {
        for item in &round.fanout.job.items[items] {
            if let Some(dirty) = round.waiting.remove(&item.key) {
                self.pay_all(dirty, result, cx);
            }
        }
    }

    fn pay_all(&self, dirty: Dirty, result: &Result<(), Error>, cx: &mut Cx<'_>) {
        let fate = match &self.state {
            State::Settled(verdict) => verdict.fate,
            State::New
            | State::Stamping
            | State::Checking(_)
            | State::Recovering(_)
            | State::Pausing => None,
        };
        for debt in dirty.debts {
            let passage = self.passage(fate, &debt);
            // A reader does not need the lock gone: it knows all that it needs (§16.2.6).
            let indifferent = debt.mode.is_read() && !self.id.pessimistic;
            let outcome = if indifferent { Ok(()) } else { result.clone() };
            cx.shared.pay(&debt, outcome.map(|()| passage));
        }
    }

    // ---- facts ---------------------------------------------------------------------------------

    pub(super) fn state(&self) -> coverage::State {
        match self.state {
            State::New => coverage::State::InquiryNew,
            State::Stamping => coverage::State::InquiryStamping,
            State::Checking(_) => coverage::State::InquiryChecking,
            State::Recovering(_) => coverage::State::InquiryRecovering,
            State::Pausing => coverage::State::InquiryPausing,
            State::Settled(_) => coverage::State::InquirySettled,
        }
    }

    /// Whether what comes under this tag is waited for.
    pub(super) fn awaits(&self, tag: Tag) -> bool {
        match &self.state {
            State::New => false,
            State::Stamping => tag == STAMP,
            State::Checking(_) => tag == CHECK,
            State::Recovering(recovering) => recovering.fanout.awaits(tag),
            State::Pausing => tag == PAUSE,
            State::Settled(_) => self.round.as_ref().is_some_and(|round| round.fanout.awaits(tag)),
        }
    }

    /// What is being done, and for whom.
    pub(super) fn stage(&self) -> super::ResolutionStage {
        use super::ResolutionStage as Stage;
        match self.state {
            State::New | State::Stamping | State::Checking(_) => Stage::Asking,
            State::Pausing => Stage::Pausing,
            State::Recovering(_) => Stage::Recovering,
            State::Settled(_) => Stage::Cleaning,
        }
    }

    pub(super) fn all_debts(&self) -> impl Iterator<Item = &Debt> {
        let cleaning = self.round.iter().flat_map(|round| round.waiting.values());
        let dirty = cleaning.chain(self.dirty.values()).flat_map(|dirty| &dirty.debts);
        self.debts.iter().chain(dirty)
    }
}
