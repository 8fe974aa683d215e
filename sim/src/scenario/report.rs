//! How a run went.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anatase_core::coverage::Coverage;
use anatase_core::{CommittedBy, ErrorKind};

use crate::check::{Anomaly, Checker, Violation};
use crate::fault::PlannedFault;
use crate::history::{History, Outcome, What};
use crate::sim::Stats;

/// How a run went.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// What is wrong. Nothing, most often.
    pub violations: Vec<Violation>,
    /// See [`Sim::digest`](crate::Sim::digest).
    pub digest: u64,
    /// What happened.
    pub stats: Stats,
    /// How long it took, in virtual time.
    pub simulated: Duration,
    /// What the programs did.
    pub tally: Tally,
    /// What the state machines of transactions met.
    pub coverage: Coverage,
    /// The faults that struck, planned or not.
    pub struck: Vec<PlannedFault>,
    /// What the programs did, in full.
    pub history: History,
    /// What was sent and answered and what went wrong, in words: see [`run_logged`](super::run_logged).
    pub log: Vec<String>,
}

impl Report {
    /// The first violation's kind: what a smaller scenario has to show, too.
    pub fn verdict(&self) -> Option<(Checker, Anomaly)> {
        self.violations.first().map(|violation| (violation.checker, violation.anomaly))
    }
}

/// How many of what there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Transactions that were committed in two phases, or were not told how.
    pub two_phase: u64,
    /// By async commit.
    pub by_async: u64,
    /// In one phase.
    pub one_phase: u64,
    /// Transactions that were aborted.
    pub aborted: u64,
    /// Transactions that were undetermined.
    pub undetermined: u64,
    /// Transactions whose end nobody was there to be told.
    pub crashed: u64,
    /// Operations on one key.
    pub registers: u64,
    /// Snapshots that were read.
    pub snapshots: u64,
    /// Deadlocks that were told.
    pub deadlocks: u64,
    /// Write skew, where it is allowed.
    pub skews: u64,
    /// What failed, and why.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn of(history: &History) -> Self {
        let mut tally = Self::default();
        for entry in &history.entries {
            match &entry.what {
                What::Transaction(txn) => match txn.outcome {
                    Outcome::Committed { by: Some(CommittedBy::Async), .. } => tally.by_async += 1,
                    Outcome::Committed { by: Some(CommittedBy::OnePhase), .. } => {
                        tally.one_phase += 1;
                    }
                    Outcome::Committed { by: Some(CommittedBy::TwoPhase) | None, .. } => {
                        tally.two_phase += 1;
                    }
                    Outcome::Aborted => tally.aborted += 1,
                    Outcome::Undetermined => tally.undetermined += 1,
                    Outcome::Crashed | Outcome::Running => tally.crashed += 1,
                },
                What::Register(_) => tally.registers += 1,
                What::Snapshot(_) => tally.snapshots += 1,
                What::Timestamp(_) | What::Other(_) => {}
            }
            if let Some(error) = &entry.error {
                tally.deadlocks += u64::from(matches!(error, ErrorKind::Deadlock(_)));
                *tally.errors.entry(name(error)).or_default() += 1;
            }
        }
        tally
    }

    /// Transactions that were committed.
    pub fn committed(&self) -> u64 {
        self.two_phase + self.by_async + self.one_phase
    }

    /// Adds another's numbers.
    pub fn add(&mut self, other: &Self) {
        let Self {
            two_phase,
            by_async,
            one_phase,
            aborted,
            undetermined,
            crashed,
            registers,
            snapshots,
            deadlocks,
            skews,
            errors,
        } = other;
        self.two_phase += two_phase;
        self.by_async += by_async;
        self.one_phase += one_phase;
        self.aborted += aborted;
        self.undetermined += undetermined;
        self.crashed += crashed;
        self.registers += registers;
        self.snapshots += snapshots;
        self.deadlocks += deadlocks;
        self.skews += skews;
        for (error, count) in errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

/// The name of a kind of error, without what it carries. What is new is «other».
fn name(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::DeadlineExceeded => "deadline exceeded",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Closed => "closed",
        ErrorKind::PdUnavailable => "pd unavailable",
        ErrorKind::PdRefused => "pd refused",
        ErrorKind::RegionUnavailable => "region unavailable",
        ErrorKind::StoreUnavailable => "store unavailable",
        ErrorKind::ServerBusy => "server busy",
        ErrorKind::DiskFull => "disk full",
        ErrorKind::Undetermined => "undetermined",
        ErrorKind::WriteConflict(_) => "write conflict",
        ErrorKind::KeyExists { .. } => "key exists",
        ErrorKind::LockWaitTimeout { .. } => "lock wait timeout",
        ErrorKind::LockNotAvailable { .. } => "lock not available",
        ErrorKind::Deadlock(_) => "deadlock",
        ErrorKind::LocksExpired => "locks expired",
        ErrorKind::TxnRolledBack => "rolled back",
        ErrorKind::TxnRetryable => "retryable",
        ErrorKind::Application => "application",
        _ => "other",
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "committed {} (two phases {}, async {}, one phase {}), aborted {}, undetermined {}, \
             nobody told {}",
            self.committed(),
            self.two_phase,
            self.by_async,
            self.one_phase,
            self.aborted,
            self.undetermined,
            self.crashed
        )?;
        writeln!(
            f,
            "snapshots {}, operations on registers {}, deadlocks {}, write skews where allowed {}",
            self.snapshots, self.registers, self.deadlocks, self.skews
        )?;
        write!(f, "errors:")?;
        for (n, (error, count)) in self.errors.iter().enumerate() {
            write!(f, "{} {error} {count}", if n > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
