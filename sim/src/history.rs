//! What a run records: every operation of every client, as its client saw it.
//!
//! Plain data. Whoever runs a workload writes it down while it runs; the [checkers](crate::check)
//! read it when the run is over. Nothing here knows whether what was seen is right.
//!
//! ```text
//!   begin ──▶ open ──▶ steps are added ──▶ over (ended at an instant)
//!               └────────────────────────▶ still open when the run ends
//! ```
//!
//! One clock is behind all instants, that of the world: an operation that ended before another
//! began, on whichever client, came before it.

use std::collections::BTreeMap;
use std::fmt;

use anatase_core::{CommittedBy, ErrorKind, Instant};
use bytes::Bytes;

/// Names an operation: its place in the [`History`].
pub type Id = usize;

/// A key's value; `None` where there is none.
pub type Held = Option<Bytes>;

/// Everything that was asked, in the order in which it was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations. That with [`Entry::id`] `n` is the `n`th.
    pub entries: Vec<Entry>,
}

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the history.
    pub id: Id,
    /// Whose it is. A process does one thing after another, so its operations do not overlap; a
    /// client that was born again is another process.
    pub process: u32,
    /// When it was asked for.
    pub began: Instant,
    /// When it has to be over; [`Instant::NEVER`] where nothing was promised. A transaction's grows
    /// with each of its calls.
    pub deadline: Instant,
    /// When its owner heard of its end, gave it up, or died.
    pub ended: Option<Instant>,
    /// A call in it that was over later than it had to be: when it was due, and when it was over.
    pub late: Option<(Instant, Instant)>,
    /// Why it failed, if it did.
    pub error: Option<ErrorKind>,
    /// What it was.
    pub what: What,
}

/// What was asked, and what came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A transaction, from its begin to its end.
    Transaction(Transaction),
    /// An operation on one key that is whole in itself: of the raw API, or a transaction in which
    /// nothing else happens.
    Register(RegisterOp),
    /// A read at a timestamp, outside of transactions.
    Snapshot(SnapshotRead),
    /// A timestamp from PD, if one came.
    Timestamp(Option<u64>),
    /// Anything else, by name: it only has to end.
    Other(String),
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its snapshot; `None` until, or unless, it got one.
    pub start_ts: Option<u64>,
    /// Whether [`Transaction::start_ts`] was PD's newest when the transaction began. It is not where
    /// the application brought a timestamp of its own, or took a stale one.
    pub fresh: bool,
    /// How it keeps others from writing the same keys.
    pub mode: Mode,
    /// It asked for causal consistency only: its commit timestamp may be smaller than that of a
    /// transaction which it knows nothing of (`transactions.md` §22.9).
    pub causal: bool,
    /// What was done in it, in order. A call that failed is no step.
    pub steps: Vec<Step>,
    /// When its commit was asked for; `None` if never.
    pub commit_began: Option<Instant>,
    /// How it ended, as far as anybody was told.
    pub outcome: Outcome,
}

/// When a transaction finds out that another writes its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At its commit.
    Optimistic,
    /// By locks, when it writes.
    Pessimistic,
}

/// Something done in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key was read from the snapshot and the transaction's own writes.
    Read {
        /// The key.
        key: Bytes,
        /// What it held.
        value: Held,
    },
    /// A range was read likewise.
    Scan(Scan),
    /// A key was read as it is now, under the transaction's own lock on it.
    ReadLocked {
        /// The key.
        key: Bytes,
        /// What it held.
        value: Held,
    },
    /// A key was locked: at once if the transaction is pessimistic, else at its commit.
    Lock {
        /// The key.
        key: Bytes,
        /// Of a pessimistic lock, if it is known: the lock was refused if the key had been written
        /// after this timestamp.
        for_update_ts: Option<u64>,
    },
    /// A key was written, or deleted.
    Write {
        /// The key.
        key: Bytes,
        /// What it is to hold.
        value: Held,
    },
    /// A key was written on condition that there is none.
    Insert {
        /// The key.
        key: Bytes,
        /// What it is to hold.
        value: Bytes,
    },
    /// A key that holds a [list](encode_list) was written, with one more element at its end.
    Append {
        /// The key.
        key: Bytes,
        /// The element: never appended to this key before or after, by anybody.
        element: u64,
        /// The whole list as written.
        value: Bytes,
    },
}

/// A range that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The first key.
    pub start: Bytes,
    /// The first key beyond; empty for no bound.
    pub end: Bytes,
    /// So many pairs at most.
    pub limit: usize,
    /// From the end.
    pub reverse: bool,
    /// Values were not asked for: those of the answer mean nothing.
    pub key_only: bool,
    /// What was found, in the order in which it was told.
    pub pairs: Vec<(Bytes, Bytes)>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has not.
    Running,
    /// Whoever reads at this timestamp or later sees it.
    Committed {
        /// The commit timestamp. Means nothing if the transaction wrote nothing.
        at: u64,
        /// By which protocol, if that is known.
        by: Option<CommittedBy>,
    },
    /// Nobody will ever see it: its commit was refused, or never asked for.
    Aborted,
    /// Its owner was told that nobody can tell.
    Undetermined,
    /// Nobody was there to be told: its client died, or its owner gave up waiting.
    Crashed,
}

/// An operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterOp {
    /// The key.
    pub key: Bytes,
    /// What was asked.
    pub call: RegisterCall,
    /// What came back.
    pub answer: RegisterAnswer,
    /// Attempts at it that were given up may still arrive, and it may be executed once more after
    /// it has ended: what the raw API is like in a network that delays for long (`raw.md` §5).
    pub may_repeat: bool,
}

/// What is asked of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterCall {
    /// What does it hold?
    Get,
    /// It shall hold this.
    Put(Bytes),
    /// It shall hold nothing.
    Delete,
    /// If it holds `expected`, it shall hold `new`.
    CompareAndSwap {
        /// What it has to hold.
        expected: Held,
        /// What it shall hold then.
        new: Held,
    },
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterAnswer {
    /// Nothing yet.
    Pending,
    /// Of a get: what it holds.
    Value(Held),
    /// Of a put or a delete: it was done.
    Done,
    /// Of a compare-and-swap.
    Swapped {
        /// Whether it held what was expected, and so was changed.
        swapped: bool,
        /// What it held before, if that was told.
        previous: Option<Held>,
    },
    /// It certainly was not executed, and will not be.
    Failed,
    /// It may have been executed, or may yet be.
    Undetermined,
}

/// A read at a timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRead {
    /// The timestamp.
    pub ts: u64,
    /// What was read: [`Step::Read`] and [`Step::Scan`] say anything here, other steps nothing.
    pub steps: Vec<Step>,
}

/// What a transaction means to leave behind on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The last thing written; `None` if the key was only locked.
    pub write: Option<Held>,
    /// The first thing written was an insertion. A deletion after it leaves nothing behind.
    pub inserted: bool,
}

impl History {
    /// Writes down that something was asked for. Returns its id.
    pub fn begin(&mut self, process: u32, began: Instant, deadline: Instant, what: What) -> Id {
        let id = self.entries.len();
        let (ended, late, error) = (None, None, None);
        let entry = Entry { id, process, began, deadline, ended, late, error, what };
        self.entries.push(entry);
        id
    }

    /// Writes down that something is over. What came back is put into [`Entry::what`] by whoever
    /// knows. Unknown ids are ignored.
    pub fn end(&mut self, id: Id, at: Instant) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.ended = Some(at);
        }
    }

    /// The transaction with this id, to be added to.
    pub fn transaction_mut(&mut self, id: Id) -> Option<&mut Transaction> {
        match &mut self.entries.get_mut(id)?.what {
            What::Transaction(txn) => Some(txn),
            What::Register(_) | What::Snapshot(_) | What::Timestamp(_) | What::Other(_) => None,
        }
    }

    /// A process is dead: whatever it had open is over, and nobody was told how.
    pub fn crash(&mut self, process: u32, at: Instant) {
        for entry in &mut self.entries {
            if entry.process != process || entry.ended.is_some() {
                continue;
            }
            entry.give_up(at, |_| Outcome::Crashed);
        }
    }

    /// The transactions, in the order in which they began.
    pub fn transactions(&self) -> impl Iterator<Item = (&Entry, &Transaction)> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            What::Transaction(txn) => Some((entry, txn)),
            What::Register(_) | What::Snapshot(_) | What::Timestamp(_) | What::Other(_) => None,
        })
    }

    /// The start timestamps of the transactions that are still open: their locks are no residue.
    pub fn live_transactions(&self) -> impl Iterator<Item = u64> {
        let open = self.transactions().filter(|(entry, _)| entry.ended.is_none());
        open.filter_map(|(_, txn)| txn.start_ts)
    }

    /// The line of one operation; says so where there is none of this id.
    pub fn line(&self, id: Id) -> String {
        self.entries.get(id).map_or_else(|| format!("#{id}: not in the history"), Entry::to_string)
    }
}

impl Entry {
    /// It is over, and of what had not been told by then nobody was. `unheard` says how a transaction that
    /// was still running has ended.
    pub(crate) fn give_up(&mut self, at: Instant, unheard: impl FnOnce(&Transaction) -> Outcome) {
        self.ended = Some(at);
        match &mut self.what {
            What::Transaction(txn) if txn.outcome == Outcome::Running => {
                txn.outcome = unheard(txn);
            }
            What::Register(op) if op.answer == RegisterAnswer::Pending => {
                op.answer = RegisterAnswer::Undetermined;
            }
            What::Transaction(_)
            | What::Register(_)
            | What::Snapshot(_)
            | What::Timestamp(_)
            | What::Other(_) => {}
        }
    }
}

impl Transaction {
    /// One that has just begun.
    pub fn new(mode: Mode) -> Self {
        Self {
            start_ts: None,
            fresh: true,
            mode,
            causal: false,
            steps: Vec::new(),
            commit_began: None,
            outcome: Outcome::Running,
        }
    }

    /// What it means to leave behind, by key.
    pub fn intents(&self) -> BTreeMap<Bytes, Intent> {
        let mut intents: BTreeMap<Bytes, Intent> = BTreeMap::new();
        for step in &self.steps {
            let (key, write, insert) = match step {
                Step::Write { key, value } => (key, Some(value.clone()), false),
                Step::Insert { key, value } => (key, Some(Some(value.clone())), true),
                Step::Append { key, value, .. } => (key, Some(Some(value.clone())), false),
                Step::Lock { key, .. } => (key, None, false),
                Step::Read { .. } | Step::Scan(_) | Step::ReadLocked { .. } => continue,
            };
            match intents.get_mut(key) {
                Some(intent) => {
                    intent.inserted |= insert && intent.write.is_none();
                    if write.is_some() {
                        intent.write = write;
                    }
                }
                None => {
                    intents.insert(key.clone(), Intent { write, inserted: insert });
                }
            }
        }
        intents
    }

    /// The timestamp it was committed at, if its owner was told so.
    pub fn committed_at(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Committed { at, .. } => Some(at),
            Outcome::Running | Outcome::Aborted | Outcome::Undetermined | Outcome::Crashed => None,
        }
    }
}

impl Scan {
    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }
}

/// A list as the value of a key: its elements in decimal, with spaces between.
pub fn encode_list(elements: &[u64]) -> Bytes {
    let words: Vec<String> = elements.iter().map(u64::to_string).collect();
    Bytes::from(words.join(" "))
}

/// The elements of a list; a key that does not exist is an empty one. `None` if it is no list.
pub fn decode_list(value: Option<&[u8]>) -> Option<Vec<u64>> {
    let text = std::str::from_utf8(value.unwrap_or_default()).ok()?;
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

// ---- as text -------------------------------------------------------------------------------------

/// A key or value, to be read by people.
pub(crate) fn text(bytes: &[u8]) -> String {
    const SHOWN: usize = 48;
    match bytes.len() {
        ..=SHOWN => bytes.escape_ascii().to_string(),
        long => format!("{}… ({long} bytes)", bytes[..SHOWN].escape_ascii()),
    }
}

/// What a key holds, to be read by people.
pub(crate) fn held(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| format!("\"{}\"", text(value)))
}

/// An instant, in milliseconds.
pub(crate) fn millis(at: Instant) -> String {
    let nanos = at.as_nanos();
    format!("{}.{:06} ms", nanos / 1_000_000, nanos % 1_000_000)
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} p{} [{}, ", self.id, self.process, millis(self.began))?;
        match self.ended {
            Some(at) => write!(f, "{}]", millis(at))?,
            None => write!(f, "open]")?,
        }
        match &self.what {
            What::Transaction(txn) => write!(f, " {txn}"),
            What::Register(op) => write!(f, " {op}"),
            What::Snapshot(read) => {
                write!(f, " snapshot @{}:", read.ts)?;
                read.steps.iter().try_for_each(|step| write!(f, " {step};"))
            }
            What::Timestamp(Some(ts)) => write!(f, " timestamp: {ts}"),
            What::Timestamp(None) => write!(f, " timestamp: none"),
            What::Other(name) => write!(f, " {name}"),
        }?;
        match &self.error {
            Some(error) => write!(f, " ({error:?})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start_ts {
            Some(start_ts) => write!(f, "txn @{start_ts}")?,
            None => write!(f, "txn without a start")?,
        }
        match (self.mode, self.causal) {
            (Mode::Optimistic, false) => write!(f, ":")?,
            (Mode::Optimistic, true) => write!(f, " causal:")?,
            (Mode::Pessimistic, false) => write!(f, " pessimistic:")?,
            (Mode::Pessimistic, true) => write!(f, " pessimistic causal:")?,
        }
        self.steps.iter().try_for_each(|step| write!(f, " {step};"))?;
        match self.outcome {
            Outcome::Running => write!(f, " running"),
            Outcome::Committed { at, by: Some(by) } => write!(f, " committed @{at} {by:?}"),
            Outcome::Committed { at, by: None } => write!(f, " committed @{at}"),
            Outcome::Aborted => write!(f, " aborted"),
            Outcome::Undetermined => write!(f, " undetermined"),
            Outcome::Crashed => write!(f, " nobody was told"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { key, value } => {
                write!(f, "{} is {}", text(key), held(value.as_deref()))
            }
            Self::ReadLocked { key, value } => {
                write!(f, "{} is now {}", text(key), held(value.as_deref()))
            }
            Self::Scan(scan) => {
                let way = if scan.reverse { " reverse" } else { "" };
                let (start, end) = (text(&scan.start), text(&scan.end));
                write!(f, "scan{way} \"{start}\"..\"{end}\" limit {}:", scan.limit)?;
                scan.pairs.iter().try_for_each(|(key, value)| match scan.key_only {
                    true => write!(f, " {}", text(key)),
                    false => write!(f, " {}=\"{}\"", text(key), text(value)),
                })
            }
            Self::Lock { key, for_update_ts: Some(ts) } => write!(f, "lock {} @{ts}", text(key)),
            Self::Lock { key, for_update_ts: None } => write!(f, "lock {}", text(key)),
            Self::Write { key, value: Some(value) } => {
                write!(f, "{} := \"{}\"", text(key), text(value))
            }
            Self::Write { key, value: None } => write!(f, "delete {}", text(key)),
            Self::Insert { key, value } => write!(f, "insert {} := \"{}\"", text(key), text(value)),
            Self::Append { key, element, .. } => write!(f, "{} += {element}", text(key)),
        }
    }
}

impl fmt::Display for RegisterOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = text(&self.key);
        match &self.call {
            RegisterCall::Get => write!(f, "get {key}")?,
            RegisterCall::Put(value) => write!(f, "put {key} \"{}\"", text(value))?,
            RegisterCall::Delete => write!(f, "delete {key}")?,
            RegisterCall::CompareAndSwap { expected, new } => {
                let (expected, new) = (held(expected.as_deref()), held(new.as_deref()));
                write!(f, "cas {key} from {expected} to {new}")?;
            }
        }
        match &self.answer {
            RegisterAnswer::Pending => write!(f, " → no answer"),
            RegisterAnswer::Value(value) => write!(f, " → {}", held(value.as_deref())),
            RegisterAnswer::Done => write!(f, " → done"),
            RegisterAnswer::Swapped { swapped, previous } => {
                write!(f, " → {}", if *swapped { "swapped" } else { "not swapped" })?;
                match previous {
                    Some(value) => write!(f, ", was {}", held(value.as_deref())),
                    None => Ok(()),
                }
            }
            RegisterAnswer::Failed => write!(f, " → failed"),
            RegisterAnswer::Undetermined => write!(f, " → undetermined"),
        }
    }
}
