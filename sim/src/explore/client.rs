//! A client of an explored world: a bare core, and the program that is run over it.
//!
//! ```text
//!  Warming ─▶ Idle ─▶ Starting ─┬─────────────────────────────▶ Committing ─▶ Ended
//!                               ├▶ Stamping ⇄ Locking ─(all held)─▲   │
//!                               │            └─(refused)─▶ Undoing ───┴─────▶ Ended
//!                               └▶ Reading [▶ Clearing ▶ Restarting ▶ Reading] ▶ Ended
//! ```
//!
//! Warming is done before the search begins: PD is known, and the routes are. A client that dies is
//! Dead wherever it was.

use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use anatase_core::txn::{LockCall, LockOptions, Transaction, TxnMode, TxnOptions};
use anatase_core::{
    Command, CommitOutcome, Config, ConflictReason, Core, Error, ErrorKind, Event, Instant,
    KeyRange, LockKey, OpId, OpOptions, Operation, ReadOperation, Reply, ResolveLocksPlan,
    Timestamp,
};
use bytes::Bytes;

use super::digest::Digest;
use super::{Mode, Sabotage};
use crate::check::{Anomaly, Checker, Violation};
use crate::history::{self, Held, Outcome, Step};

/// How often a refused lock call is made again.
const RETRIES: u8 = 2;

/// What a client does.
#[derive(Debug)]
pub(super) enum Role {
    /// One transaction.
    Writer {
        mode: Mode,
        /// Which keys a pessimistic transaction locks, call by call.
        calls: Vec<Vec<Bytes>>,
        writes: Vec<(Bytes, Bytes)>,
    },
    /// One snapshot.
    Reader { keys: Vec<Bytes> },
    /// Reads, puts an end to every transaction, and reads again.
    Closer { keys: Vec<Bytes> },
}

/// Where a client is in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Warming(u8),
    Idle,
    Starting,
    Stamping(u8),
    Locking(u8),
    Committing,
    Undoing,
    Reading,
    Clearing,
    Restarting,
    Ended,
    Dead,
}

/// What its owner was told, as far as it is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Told {
    start_ts: Option<u64>,
    locks: Vec<(Bytes, u64)>,
    reads: Vec<(u64, Vec<(Bytes, Held)>)>,
    asked: bool,
    pub(super) outcome: Outcome,
}

/// What is in an order that is judged: what ended before something began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Moment {
    /// Its request for a timestamp has reached PD.
    Began,
    /// The first request of its commit has reached a server, or has met its fate on the way.
    Asked,
    /// Its owner has heard how it ended.
    Ended,
}

#[derive(Clone)]
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) core: Core,
    role: Arc<Role>,
    patience: Duration,
    sabotage: Sabotage,
    pub(super) stage: Stage,
    /// What is under way, until when, and whether the program waits for it.
    open: Vec<(OpId, Instant, bool)>,
    submitted: u64,
    txn: Option<Transaction>,
    began: Instant,
    retries: u8,
    told: Told,
}

/// What came out of a client.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) commands: Vec<Command>,
    pub(super) moments: Vec<Moment>,
    /// What its owner has heard, to be read by people.
    pub(super) news: Vec<String>,
}

impl Client {
    pub(super) fn new(
        name: &'static str,
        role: Role,
        config: &Config,
        seed: u64,
        patience: Duration,
        sabotage: Sabotage,
    ) -> Self {
        let now = Instant::from_nanos(1);
        Self {
            name,
            core: Core::new(config.clone(), seed, now),
            role: Arc::new(role),
            patience,
            sabotage,
            stage: Stage::Warming(0),
            open: Vec::new(),
            submitted: 0,
            txn: None,
            began: now,
            retries: 0,
            told: Told {
                start_ts: None,
                locks: Vec::new(),
                reads: Vec::new(),
                asked: false,
                outcome: Outcome::Running,
            },
        }
    }

    /// What of it decides about the future, and about the judgement.
    pub(super) fn digest(&self) -> u64 {
        let mut state = Digest::new();
        let Self { name: _, core, role: _, patience: _, sabotage: _, .. } = self;
        let Self { stage, open, submitted, txn, began, retries, told, .. } = self;
        core.future_digest().hash(&mut state);
        (stage, open, submitted, began, retries, told).hash(&mut state);
        if let (Some(txn), Role::Writer { mode: Mode::Pessimistic | Mode::Fair, .. }) =
            (txn, &*self.role)
        {
            // An optimistic one follows from what was told.
            let mut words = Words(&mut state);
            let _ = write!(words, "{txn:?}");
        }
        state.finish()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.stage != Stage::Dead
    }

    /// Its program is over, whatever its core still does.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended | Stage::Dead)
    }

    pub(super) fn die(&mut self) {
        self.stage = Stage::Dead;
        self.open.clear();
        if self.told.outcome == Outcome::Running {
            self.told.outcome = Outcome::Crashed;
        }
    }

    // ---- the program ---------------------------------------------------------------------------

    pub(super) fn warm(&mut self, now: Instant) {
        self.submit(now, Operation::Ready, true);
    }

    pub(super) fn begin(&mut self, now: Instant, out: &mut Outputs) {
        self.stage = Stage::Starting;
        self.began = now;
        out.moments.push(Moment::Began);
        self.submit(now, Operation::Timestamp, true);
    }

    fn submit(&mut self, now: Instant, operation: Operation, awaited: bool) {
        self.submitted += 1;
        let deadline = now + self.patience;
        let options = OpOptions { deadline, stream: self.submitted };
        // There is room for a million.
        if let Ok(op) = self.core.submit(now, operation, options) {
            self.open.push((op, deadline, awaited));
        }
    }

    /// Takes everything that its core gives out, and goes on with the program.
    pub(super) fn drain(&mut self, now: Instant, out: &mut Outputs) -> Result<(), Violation> {
        loop {
            while let Some(Event::Done { op, result }) = self.core.poll_event() {
                let Some(at) = self.open.iter().position(|(open, ..)| *open == op) else {
                    let story = format!("{op:?} of {} ended, and is not open", self.name);
                    return Err(contract(Anomaly::EndedTwice, story));
                };
                let (_, deadline, awaited) = self.open.remove(at);
                if now > deadline {
                    let story = format!("{op:?} of {} ended after its deadline", self.name);
                    return Err(contract(Anomaly::Overdue, story));
                }
                if awaited {
                    self.go_on(now, result, out);
                }
            }
            let before = out.commands.len();
            out.commands.extend(std::iter::from_fn(|| self.core.poll_command()));
            if out.commands.len() == before {
                return Ok(());
            }
        }
    }

    fn go_on(&mut self, now: Instant, result: Result<Reply, Error>, out: &mut Outputs) {
        if !matches!(self.stage, Stage::Warming(_)) {
            out.news.push(match &result {
                Ok(reply) => format!("{} hears: {}", self.name, super::describe::reply(reply)),
                Err(error) => format!("{} hears an error: {error}", self.name),
            });
        }
        let role = self.role.clone();
        match (self.stage, &*role, result) {
            (Stage::Warming(0), _, Ok(_)) => self.ask(now, Stage::Warming(1), Operation::Timestamp),
            (
                Stage::Warming(1),
                Role::Writer { .. } | Role::Reader { .. } | Role::Closer { .. },
                Ok(Reply::Timestamp(at)),
            ) => {
                let keys = ["a", "b", "z"].map(Bytes::from).to_vec();
                let read = ReadOperation::BatchGet { keys };
                self.ask(now, Stage::Warming(2), Operation::read(read, at));
            }
            (Stage::Warming(_), _, _) => self.stage = Stage::Idle,
            (Stage::Starting, role, Ok(Reply::Timestamp(at))) => self.start(now, role, at, out),
            (Stage::Restarting, Role::Closer { keys }, Ok(Reply::Timestamp(at))) => {
                self.read(now, keys, at);
            }
            (
                Stage::Reading,
                Role::Reader { keys } | Role::Closer { keys },
                Ok(Reply::Values(values)),
            ) => {
                self.has_read(now, &role, keys, values, out);
            }
            (Stage::Clearing, Role::Closer { .. }, Ok(_)) => {
                self.ask(now, Stage::Restarting, Operation::Timestamp);
            }
            (Stage::Stamping(call), Role::Writer { calls, mode, .. }, Ok(Reply::Timestamp(at))) => {
                self.lock(now, &calls[usize::from(call)], call, at, *mode, out);
            }
            (Stage::Locking(call), Role::Writer { .. }, result) => {
                self.has_locked(now, call, result, out);
            }
            (Stage::Committing, _, result) => {
                let outcome = match result {
                    Ok(Reply::Commit(CommitOutcome::Committed { at, by, .. })) => {
                        Outcome::Committed { at: at.version(), by: Some(by) }
                    }
                    Ok(Reply::Commit(CommitOutcome::Undetermined(_)))
                        if self.sabotage == Sabotage::DoubtIsNo =>
                    {
                        Outcome::Aborted
                    }
                    Ok(Reply::Commit(CommitOutcome::Undetermined(_))) => Outcome::Undetermined,
                    Err(error) if error.is_undetermined() => Outcome::Undetermined,
                    Ok(_) | Err(_) => Outcome::Aborted,
                };
                self.end(outcome, out);
            }
            (Stage::Stamping(_), Role::Writer { .. }, _) => self.undo(now, out),
            // What was undone is; a read that failed has told nothing; nothing was begun.
            (_, _, _) => self.end(Outcome::Aborted, out),
        }
    }

    fn ask(&mut self, now: Instant, stage: Stage, operation: Operation) {
        self.stage = stage;
        self.submit(now, operation, true);
    }

    fn end(&mut self, outcome: Outcome, out: &mut Outputs) {
        self.stage = Stage::Ended;
        self.told.outcome = outcome;
        out.moments.push(Moment::Ended);
    }

    fn start(&mut self, now: Instant, role: &Role, at: Timestamp, out: &mut Outputs) {
        self.told.start_ts = Some(at.version());
        match role {
            Role::Reader { keys } | Role::Closer { keys } => self.read(now, keys, at),
            Role::Writer { mode, .. } => {
                let mut options = TxnOptions::default();
                options.enable_async_commit = *mode == Mode::Async;
                options.enable_one_pc = *mode == Mode::OnePhase;
                let kind = match mode {
                    Mode::TwoPhase | Mode::Async | Mode::OnePhase => TxnMode::Optimistic,
                    Mode::Pessimistic | Mode::Fair => TxnMode::Pessimistic,
                };
                let txn = Transaction::new(at, kind, Arc::new(options), Default::default());
                self.txn = Some(txn);
                match kind {
                    TxnMode::Optimistic => self.commit(now, out),
                    TxnMode::Pessimistic => {
                        self.ask(now, Stage::Stamping(0), Operation::Timestamp);
                    }
                }
            }
        }
    }

    fn read(&mut self, now: Instant, keys: &[Bytes], at: Timestamp) {
        self.told.reads.push((at.version(), Vec::new()));
        let read = ReadOperation::BatchGet { keys: keys.to_vec() };
        self.ask(now, Stage::Reading, Operation::read(read, at));
    }

    fn has_read(
        &mut self,
        now: Instant,
        role: &Role,
        keys: &[Bytes],
        values: Vec<Held>,
        out: &mut Outputs,
    ) {
        let again = self.told.reads.len() > 1;
        let Some((ts, found)) = self.told.reads.last_mut() else { return };
        *found = keys.iter().cloned().zip(values).collect();
        let ts = *ts;
        match role {
            Role::Closer { .. } if !again => {
                let plan = ResolveLocksPlan {
                    range: KeyRange::default(),
                    safe_point: Timestamp::from_version(ts).unwrap_or(Timestamp::MAX),
                    async_commit_only: false,
                    batch_size: 0,
                };
                self.ask(now, Stage::Clearing, Operation::ResolveLocks(Box::new(plan)));
            }
            Role::Closer { .. } | Role::Reader { .. } | Role::Writer { .. } => {
                self.end(Outcome::Committed { at: ts, by: None }, out);
            }
        }
    }

    // ---- pessimistic transactions ----------------------------------------------------------------

    fn lock(
        &mut self,
        now: Instant,
        keys: &[Bytes],
        call: u8,
        at: Timestamp,
        mode: Mode,
        out: &mut Outputs,
    ) {
        let open_for = now.since(self.began);
        let Some(txn) = &mut self.txn else { return };
        if mode == Mode::Fair && !txn.is_fair() {
            let _ = txn.fair_start(now);
        }
        let wanted = keys.iter().map(|key| LockKey::new(key.clone())).collect();
        let asked = txn.lock_call(wanted, at, &LockOptions::default(), open_for, now);
        self.release(now);
        match asked {
            Ok(LockCall::Ask(plan)) => self.ask(now, Stage::Locking(call), Operation::Lock(plan)),
            Ok(LockCall::Held(held)) => self.held(now, call, held, at, out),
            Err(_) => self.undo(now, out),
        }
    }

    fn has_locked(
        &mut self,
        now: Instant,
        call: u8,
        result: Result<Reply, Error>,
        out: &mut Outputs,
    ) {
        let Some(txn) = &mut self.txn else { return };
        match result {
            Ok(Reply::Locked(reply)) => {
                let at = txn.for_update_ts().unwrap_or(txn.start_ts());
                match txn.locked(reply) {
                    Ok(held) => self.held(now, call, held, at, out),
                    Err(_) => self.undo(now, out),
                }
            }
            Ok(_) => self.undo(now, out),
            Err(error) => {
                let _ = txn.lock_failed();
                self.release(now);
                let overtaken = match error.kind() {
                    ErrorKind::WriteConflict(it) => it.reason == ConflictReason::PessimisticRetry,
                    _ => false,
                };
                if overtaken && self.retries < RETRIES {
                    self.retries += 1;
                    self.ask(now, Stage::Stamping(call), Operation::Timestamp);
                } else {
                    self.undo(now, out);
                }
            }
        }
    }

    fn held(
        &mut self,
        now: Instant,
        call: u8,
        held: Vec<anatase_core::LockedKey>,
        at: Timestamp,
        out: &mut Outputs,
    ) {
        let Some(txn) = &mut self.txn else { return };
        let conflict = held.iter().any(|key| key.conflict_ts.is_some());
        for key in &held {
            let ts = key.conflict_ts.unwrap_or(at).max(at).version();
            self.told.locks.push((key.key.clone(), ts));
        }
        if txn.is_fair() {
            if conflict && self.retries < RETRIES {
                // The statement is run again, as of a later time.
                self.retries += 1;
                let _ = txn.fair_retry(now);
                self.release(now);
                return self.ask(now, Stage::Stamping(call), Operation::Timestamp);
            }
            let _ = txn.fair_done();
            self.release(now);
        }
        let role = self.role.clone();
        let Role::Writer { calls, .. } = &*role else { return };
        if usize::from(call) + 1 < calls.len() {
            self.ask(now, Stage::Stamping(call + 1), Operation::Timestamp);
        } else {
            self.commit(now, out);
        }
    }

    /// Releases that nobody waits for.
    fn release(&mut self, now: Instant) {
        while let Some(plan) = self.txn.as_mut().and_then(Transaction::take_release) {
            self.submit(now, Operation::PessimisticRollback(Box::new(plan)), false);
        }
    }

    fn undo(&mut self, now: Instant, out: &mut Outputs) {
        let Some(txn) = &mut self.txn else { return self.end(Outcome::Aborted, out) };
        if txn.is_fair() {
            let _ = txn.fair_cancel();
        }
        let plan = txn.rollback_plan();
        self.release(now);
        match plan {
            Ok(Some(plan)) => {
                self.ask(now, Stage::Undoing, Operation::PessimisticRollback(Box::new(plan)));
            }
            Ok(None) | Err(_) => self.end(Outcome::Aborted, out),
        }
    }

    fn commit(&mut self, now: Instant, out: &mut Outputs) {
        let role = self.role.clone();
        let (Role::Writer { writes, .. }, Some(txn)) = (&*role, &mut self.txn) else { return };
        for (key, value) in writes {
            // Without limits nothing is refused.
            let _ = txn.buffer_mut().put(key.clone(), value.clone());
        }
        let plan = txn.commit_plan(now.since(self.began));
        self.release(now);
        match plan {
            Ok(Some(plan)) => {
                self.told.asked = true;
                self.ask(now, Stage::Committing, Operation::Commit(Box::new(plan)));
            }
            Ok(None) | Err(_) => self.undo(now, out),
        }
    }

    /// Its commit was asked for.
    pub(super) fn has_asked(&self) -> bool {
        self.told.asked
    }

    /// How it ended, in a few words.
    pub(super) fn outcome(&self) -> String {
        let name = self.name;
        match (&*self.role, self.told.outcome) {
            (_, Outcome::Crashed) => format!("{name} crashed"),
            (Role::Writer { .. }, Outcome::Committed { .. }) => format!("{name} committed"),
            (Role::Writer { .. }, Outcome::Aborted) => format!("{name} aborted"),
            (_, Outcome::Undetermined) => format!("{name} in doubt"),
            (_, Outcome::Running) => format!("{name} running"),
            (Role::Reader { .. } | Role::Closer { .. }, _) => {
                let found = self.told.reads.last().map(|(_, found)| &found[..]).unwrap_or_default();
                let all: Vec<String> =
                    found.iter().map(|(_, value)| history::held(value.as_deref())).collect();
                match all.is_empty() {
                    true => format!("{name} saw no answer"),
                    false => format!("{name} saw {}", all.join(" and ")),
                }
            }
        }
    }

    // ---- the judgement ---------------------------------------------------------------------------

    /// What it was told, as entries of a history. `at` gives the instant of a moment.
    pub(super) fn write_down(
        &self,
        process: u32,
        history: &mut history::History,
        at: impl Fn(Moment) -> Option<Instant>,
    ) {
        let Some(began) = at(Moment::Began) else { return };
        let mut begin = |txn: history::Transaction| {
            let what = history::What::Transaction(txn);
            let id = history.begin(process, began, Instant::NEVER, what);
            if let Some(ended) = at(Moment::Ended) {
                history.end(id, ended);
            }
        };
        let mut txn = history::Transaction::new(history::Mode::Optimistic);
        match &*self.role {
            Role::Writer { mode, writes, .. } => {
                if matches!(mode, Mode::Pessimistic | Mode::Fair) {
                    txn.mode = history::Mode::Pessimistic;
                }
                txn.start_ts = self.told.start_ts;
                txn.commit_began = at(Moment::Asked);
                txn.outcome = self.told.outcome;
                let lock = |(key, ts): &(Bytes, u64)| Step::Lock {
                    key: key.clone(),
                    for_update_ts: Some(*ts),
                };
                txn.steps = self.told.locks.iter().map(lock).collect();
                if self.told.asked {
                    let write = |(key, value): &(Bytes, Bytes)| Step::Write {
                        key: key.clone(),
                        value: Some(value.clone()),
                    };
                    txn.steps.extend(writes.iter().map(write));
                }
                begin(txn);
            }
            Role::Reader { .. } | Role::Closer { .. } => {
                for (ts, found) in &self.told.reads {
                    let read = |(key, value): &(Bytes, Held)| Step::Read {
                        key: key.clone(),
                        value: value.clone(),
                    };
                    let mut txn = txn.clone();
                    txn.start_ts = Some(*ts);
                    txn.steps = found.iter().map(read).collect();
                    txn.outcome = Outcome::Committed { at: *ts, by: None };
                    begin(txn);
                }
            }
        }
    }
}

pub(super) fn contract(anomaly: Anomaly, story: String) -> Violation {
    Violation::new(Checker::Contract, anomaly, story)
}

/// Text that goes into a digest.
struct Words<'a>(&'a mut Digest);

impl fmt::Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
