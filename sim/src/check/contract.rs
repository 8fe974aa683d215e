//! A core's contract with its driver, over everything that went in and came out.
//!
//! | rule of the [core](anatase_core) | held against it here |
//! |---|---|
//! | 2. each command is answered once, or withdrawn | ids are given out once; withdrawn is only what waits; at the end nothing waits |
//! | an operation ends with exactly one event, unless it is cancelled | that, and no event for any other id |
//! | an operation is over at its deadline | its event comes out no later, if the driver calls when told to |
//! | 4. a timeout handled at its instant makes progress | the next wake-up is later, or something came out |
//! | | where an operation is open, something is waited for |
//! | a read is never in doubt | that |
//!
//! Answers that come late, twice or for nothing are a driver's right, and counted by the core; they
//! are nothing here. What a core may say of a *transaction*, given the answers to its requests, is
//! watched in `core/tests/contract/watch.rs`, which decodes them; [`truth`](super::truth) judges the
//! same against a cluster.
//!
//! ```text
//!   submitted ─▶ open ─▶ over (Done)            given out ─▶ waits ─▶ over (answered)
//!                  └───▶ over (cancelled)                      └────▶ over (withdrawn)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use anatase_core::{
    Cancel, Command, CommandId, CommitOutcome, Core, Error, Event, Instant, OpId, Operation,
    RawOperation, Reply, Wakeup,
};

use super::{Anomaly, Checker, Violation};

/// Something that went into a core or came out of it, with what is needed to judge it.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// An operation was taken.
    Submitted {
        /// Its id.
        op: OpId,
        /// When it has to be over.
        deadline: Instant,
        /// It writes nothing: see [`is_read`].
        read: bool,
    },
    /// An answer was given, to whatever it is.
    Answered(CommandId),
    /// An operation was cancelled, and this was said to it.
    Cancelled(OpId, Cancel),
    /// Time was told to have come: what the wake-up was before.
    TimedOut(Option<Wakeup>),
    /// Any other input: news, close.
    Input,
    /// A command came out.
    Command(Command),
    /// An event came out.
    Event(Event),
    /// All outputs were taken, and the driver goes to sleep until this.
    Drained(Option<Wakeup>),
    /// The end: nothing is expected any more.
    End,
}

/// Whether an operation only reads, so that it cannot end in doubt. An operation that is not known here is
/// taken for a write: then nothing is demanded of it.
pub fn is_read(operation: &Operation) -> bool {
    match operation {
        Operation::Read { .. }
        | Operation::Ready
        | Operation::Timestamp
        | Operation::LowResolutionTimestamp
        | Operation::StaleTimestamp { .. }
        | Operation::MinTimestamp
        | Operation::ExternalTimestamp
        | Operation::Regions { .. }
        | Operation::GroupKeys { .. }
        | Operation::Region(_)
        | Operation::ScanLocks(_) => true,
        Operation::Raw { op, .. } => matches!(
            op,
            RawOperation::Get { .. }
                | RawOperation::GetKeyTtl { .. }
                | RawOperation::BatchGet { .. }
                | RawOperation::Scan(_)
                | RawOperation::BatchScan { .. }
                | RawOperation::Checksum { .. }
        ),
        _ => false,
    }
}

/// Judges a whole recording.
pub fn check(records: &[(Instant, Record)]) -> Vec<Violation> {
    let mut watch = Watch::default();
    records.iter().for_each(|(at, record)| watch.record(*at, record));
    watch.into_violations()
}

/// Watches a core while it runs. Feed it everything, in order.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    open: BTreeMap<OpId, Open>,
    known: BTreeSet<OpId>,
    waiting: BTreeSet<CommandId>,
    given_out: BTreeSet<CommandId>,
    /// Answered since the outputs were last drained: the core may have withdrawn them before.
    raced: BTreeSet<CommandId>,
    /// The instant and the wake-up of the last time-out, if nothing came out since.
    idle_timeout: Option<(Instant, Wakeup)>,
    ended: bool,
    found: Vec<Violation>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    deadline: Instant,
    read: bool,
}

impl Watch {
    /// What was found so far.
    pub fn violations(&self) -> &[Violation] {
        &self.found
    }

    /// What was found.
    pub fn into_violations(self) -> Vec<Violation> {
        self.found
    }

    /// The driver has taken all outputs of `core`, which tells when it wants to be woken.
    pub fn drained(&mut self, at: Instant, core: &Core) {
        self.record(at, &Record::Drained(core.poll_timeout()));
    }

    /// Takes the next input or output.
    pub fn record(&mut self, at: Instant, record: &Record) {
        match record {
            Record::Submitted { op, deadline, read } => {
                if !self.known.insert(*op) {
                    self.tell(at, Anomaly::IdReused, format!("{op:?} was submitted before"));
                }
                self.open.insert(*op, Open { deadline: *deadline, read: *read });
            }
            Record::Answered(id) => {
                if self.waiting.remove(id) {
                    self.raced.insert(*id);
                }
            }
            Record::Cancelled(op, told) => self.cancelled(at, *op, *told),
            Record::TimedOut(wakeup) => {
                let due = wakeup.filter(|wakeup| wakeup.at <= at);
                self.idle_timeout = due.map(|wakeup| (at, wakeup));
            }
            Record::Input => {}
            Record::Command(command) => self.command(at, command),
            Record::Event(Event::Done { op, result }) => self.done(at, *op, result),
            Record::Drained(wakeup) => self.asleep(at, *wakeup),
            Record::End => self.end(at),
        }
    }

    fn tell(&mut self, at: Instant, anomaly: Anomaly, story: String) {
        let story = format!("at {}: {story}", crate::history::millis(at));
        self.found.push(Violation::new(Checker::Contract, anomaly, story));
    }

    fn output(&mut self, at: Instant, what: &dyn std::fmt::Debug) {
        self.idle_timeout = None;
        if self.ended {
            self.tell(at, Anomaly::AfterEnd, format!("{what:?}"));
        }
    }

    fn command(&mut self, at: Instant, command: &Command) {
        self.output(at, command);
        let id = match command {
            Command::Call(call) => call.id,
            Command::Timestamps(ask) => ask.id,
            Command::Abort { id } => {
                if !self.waiting.remove(id) && !self.raced.remove(id) {
                    let story = format!("{id:?} was withdrawn, and does not wait for an answer");
                    self.tell(at, Anomaly::StrayAbort, story);
                }
                return;
            }
        };
        if !self.given_out.insert(id) {
            self.tell(at, Anomaly::IdReused, format!("{id:?} was given out before: {command:?}"));
        }
        self.waiting.insert(id);
    }

    fn done(&mut self, at: Instant, op: OpId, result: &Result<Reply, Error>) {
        self.output(at, &op);
        let Some(open) = self.open.remove(&op) else {
            let story = format!("{op:?} is not open, and was told {result:?}");
            return self.tell(at, Anomaly::EndedTwice, story);
        };
        if at > open.deadline {
            let due = crate::history::millis(open.deadline);
            self.tell(at, Anomaly::Overdue, format!("{op:?} was due at {due}"));
        }
        let in_doubt = match result {
            Ok(Reply::Commit(CommitOutcome::Undetermined(_))) => true,
            Ok(_) => false,
            Err(error) => error.is_undetermined(),
        };
        if open.read && in_doubt {
            self.tell(at, Anomaly::ReadInDoubt, format!("{op:?} was told {result:?}"));
        }
    }

    fn cancelled(&mut self, at: Instant, op: OpId, told: Cancel) {
        match (self.open.remove(&op), told) {
            (Some(_), Cancel::Stopped | Cancel::RollingBack | Cancel::TooLate) => {}
            // Its event waits to be taken.
            (Some(open), Cancel::Unknown) => {
                self.open.insert(op, open);
            }
            (None, Cancel::Unknown) => {}
            (None, Cancel::Stopped | Cancel::RollingBack | Cancel::TooLate) => {
                let story = format!("{op:?} is not open, and its cancellation was told {told:?}");
                self.tell(at, Anomaly::EndedTwice, story);
            }
        }
    }

    fn asleep(&mut self, at: Instant, wakeup: Option<Wakeup>) {
        self.raced.clear();
        if let Some((then, before)) = self.idle_timeout.take()
            && let Some(after) = wakeup
            && after.at <= then
        {
            let story = format!("woken for {before:?}, did nothing, and wants {after:?}");
            self.tell(at, Anomaly::NoProgress, story);
        }
        if wakeup.is_none()
            && self.waiting.is_empty()
            && let Some((op, _)) = self.open.first_key_value()
        {
            let story = format!("{op:?} is open, no command waits, no wake-up is wanted");
            self.tell(at, Anomaly::Asleep, story);
        }
    }

    fn end(&mut self, at: Instant) {
        for (op, _) in std::mem::take(&mut self.open) {
            self.tell(at, Anomaly::NeverOver, format!("{op:?} was never told its end"));
        }
        for id in std::mem::take(&mut self.waiting) {
            let story = format!("{id:?} was neither answered nor withdrawn");
            self.tell(at, Anomaly::NeverOver, story);
        }
        self.ended = true;
    }
}
