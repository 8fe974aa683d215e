//! What is held against a run: eight judges, each of which knows one thing only.
//!
//! | module | reads | sees |
//! |---|---|---|
//! | [`truth`] | history, the cluster's records | outcomes that were told wrongly; torn commits |
//! | [`snapshot`] | history, the cluster's records | reads that are not of their snapshot; lost updates |
//! | [`real_time`] | history | effects that come before what they came after |
//! | [`list_append`] | history of lists | cycles of dependencies; trusts no timestamp |
//! | [`linear`] | history of registers | keys that do not behave like one register |
//! | [`contract`] | a core's inputs and outputs | commands and operations not ended once |
//! | [`liveness`] | history | what ended late, or not at all, or failed without a reason |
//! | [`residue`] | what is left over | locks, timers, tasks, messages |
//!
//! All are pure: data in, [`Violation`]s out, the same every time. None of them panics, whatever it
//! is fed. A violation names the operations that are involved and tells the story in full, so that
//! it can be read without the history beside it.

pub mod contract;
pub mod linear;
pub mod list_append;
pub mod liveness;
pub mod real_time;
pub mod residue;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod truth;

use std::fmt;

use crate::history::{History, Id};

/// Who found something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checker {
    /// [`truth`].
    Truth,
    /// [`snapshot`].
    Snapshot,
    /// [`real_time`].
    RealTime,
    /// [`list_append`].
    ListAppend,
    /// [`linear`].
    Linear,
    /// [`contract`].
    Contract,
    /// [`liveness`].
    Liveness,
    /// [`residue`].
    Residue,
    /// A workload that knows what its data have to be like: see [`Work`](crate::Work).
    Invariant,
    /// An assertion in the code itself.
    Assertion,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Anomaly {
    // ---- truth ----
    /// Some keys of a transaction were written and others never will be.
    TornCommit,
    /// Told as committed, and not there.
    LostCommit,
    /// A transaction's keys were not all committed at the timestamp that was told, or at one.
    WrongCommitTimestamp,
    /// What is there is not what was written.
    WrongValue,
    /// Told as aborted, and there.
    AbortedButVisible,
    /// There, though its commit was never asked for.
    UnaskedCommit,
    /// A transaction left something on a key that it did not write.
    ForeignKey,
    /// Nobody knows the transaction.
    UnknownTransaction,
    /// Two transactions have the same start timestamp.
    DuplicateStart,

    // ---- snapshots ----
    /// A read missed something that was committed at or before its timestamp.
    StaleRead,
    /// A read saw something that was committed after its timestamp.
    FutureRead,
    /// A read saw something that was never committed.
    DirtyRead,
    /// A read did not see what its own transaction had written.
    OwnWriteLost,
    /// A scan left out a key, or told one that is not there.
    IncompleteScan,
    /// A scan told keys out of order, twice, from outside of its range, or more than its limit.
    ScanOutOfOrder,
    /// Two transactions wrote a key, and neither began after the other was committed.
    LostUpdate,
    /// A read under a lock is not the newest before the commit.
    LockDidNotHold,
    /// A commit timestamp that is not larger than its start.
    CommitNotAfterStart,
    /// Two versions of a key at one timestamp.
    SameVersionTwice,
    /// A key was inserted where there was one.
    InsertedOverExisting,

    // ---- real time ----
    /// A transaction began after another's commit was told, and its snapshot is older.
    MissedAcknowledged,
    /// A commit was asked for after another's was told, and has the smaller timestamp.
    CommitOrder,
    /// A timestamp was asked for after another was told, and is not larger.
    TimestampOrder,

    // ---- list-append, by Adya's names ----
    /// Dirty write: a cycle of writes over writes.
    G0,
    /// Aborted read.
    G1a,
    /// Intermediate read.
    G1b,
    /// Cyclic flow of information.
    G1c,
    /// A cycle with one anti-dependency: read skew, or a lost update.
    GSingle,
    /// A cycle with several anti-dependencies, no two of which follow each other.
    GNonadjacent,
    /// Write skew. Snapshot isolation allows it: see [`list_append::Options::forbid_write_skew`].
    G2,
    /// One of the cycles above, if what ended before something began counts as a dependency.
    RealTimeCycle,
    /// A committed element that is in no list any more.
    LostAppend,
    /// Two reads of which neither is a prefix of the other.
    IncompatibleOrder,
    /// An element twice in a list.
    DuplicateElement,
    /// An element that nobody appended.
    GarbageElement,
    /// A transaction did not read what it had read and appended itself.
    Internal,
    /// The history is not one of lists, or an element was appended by two.
    Malformed,

    // ---- registers ----
    /// No order of the operations explains what was told.
    NotLinearizable,

    // ---- a core's contract ----
    /// An id was given out twice.
    IdReused,
    /// An operation ended that was not open: twice, after it was cancelled, or never begun.
    EndedTwice,
    /// A command was withdrawn that was not waiting.
    StrayAbort,
    /// A wake-up at its instant neither did anything nor asked for a later one.
    NoProgress,
    /// Operations are open, and nothing is being waited for.
    Asleep,
    /// An operation or command that was left open at the end.
    NeverOver,
    /// Something came out after the end.
    AfterEnd,
    /// A read told as undetermined.
    ReadInDoubt,
    /// A request was sent again and did not say so.
    RetryNotTold,

    // ---- liveness ----
    /// Over, but later than its deadline allows; or a core that tells it later.
    Overdue,
    /// Not over, though its deadline has passed.
    Hanging,
    /// Failed for want of a server, though nothing was wrong any more.
    Unavailable,

    // ---- residue ----
    /// A lock of a transaction that nobody runs.
    LeftLock,
    /// A core that is not idle.
    NotIdle,
    /// A timer that waits for nothing.
    LeftTimer,
    /// Anything else that is left over.
    LeftWork,

    // ---- workloads, assertions ----
    /// The data are not as the workload keeps them.
    InvariantBroken,
    /// An operation failed with an error that says that somebody broke the protocol, or asked for what
    /// cannot be.
    Misuse,
    /// The code panicked.
    Panicked,
    /// More and more happens, and no time passes.
    StandsStill,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who found it.
    pub checker: Checker,
    /// What it is.
    pub anomaly: Anomaly,
    /// The operations that are involved, by their places in the history.
    pub who: Vec<Id>,
    /// What happened, in a few lines.
    pub story: String,
}

impl Violation {
    pub(crate) fn new(checker: Checker, anomaly: Anomaly, story: String) -> Self {
        Self { checker, anomaly, who: Vec::new(), story }
    }

    /// Adds operations, and their lines to the story.
    pub(crate) fn by(mut self, history: &History, who: impl IntoIterator<Item = Id>) -> Self {
        for id in who {
            if !self.who.contains(&id) {
                self.story.push_str("\n  ");
                self.story.push_str(&history.line(id));
                self.who.push(id);
            }
        }
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}: {}", self.checker, self.anomaly, self.story)
    }
}

/// Everything that a history and the cluster's truth tell together: [`truth`], [`snapshot`],
/// [`real_time`], [`list_append`] and [`linear`]. What remains needs more than a history.
pub fn history(history: &History, truth: &truth::Truth) -> Vec<Violation> {
    let mut found = truth::check(history, truth);
    found.extend(snapshot::check(history, truth));
    found.extend(real_time::check(history));
    found.extend(list_append::check(history, list_append::Options::default()).violations);
    found.extend(linear::check(history, linear::Limits::default()).violations);
    found
}
