//! Everything ends, and ends in time; and once nothing is wrong any more, it ends well.
//!
//! An operation has to be over at its deadline, and its owner has to have heard so a little later.
//! Faults are no excuse: clients keep time by themselves. A client that is paused is: what it owed
//! in the meantime it owes when everything is healed.

use std::time::Duration;

use anatase_core::{ErrorKind, Instant};

use super::{Anomaly, Checker, Violation};
use crate::history::{History, millis};

/// What is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// When the last fault was taken away: what had to end before may end then.
    pub healed: Instant,
    /// Whoever begins then or later must not fail for want of a server. Leave it time to find the
    /// way: [`Instant::NEVER`] demands nothing.
    pub well: Instant,
    /// When the run ended.
    pub now: Instant,
    /// How much later than its deadline something may end.
    pub slack: Duration,
}

impl Demand {
    /// With the usual slack of 100 ms, and without demanding that anything end well.
    pub const fn new(healed: Instant, now: Instant) -> Self {
        Self { healed, well: Instant::NEVER, now, slack: Duration::from_millis(100) }
    }
}

/// Holds the ends of operations against their deadlines. Linear.
pub fn check(history: &History, demand: Demand) -> Vec<Violation> {
    let mut found = Vec::new();
    for entry in &history.entries {
        if let Some((due, over)) = entry.late
            && over > due.max(demand.healed) + demand.slack
        {
            let story =
                format!("a call in it was due at {}, over at {}", millis(due), millis(over));
            let late = Violation::new(Checker::Liveness, Anomaly::Overdue, story);
            found.push(late.by(history, [entry.id]));
        }
        let due = entry.deadline.max(demand.healed) + demand.slack;
        let (anomaly, story) = match entry.ended {
            Some(at) if entry.deadline < Instant::NEVER && at > due => {
                (Anomaly::Overdue, format!("due at {}, over at {}", millis(due), millis(at)))
            }
            None if entry.deadline < Instant::NEVER && demand.now > due => {
                let (due, now) = (millis(due), millis(demand.now));
                (Anomaly::Hanging, format!("due at {due}, not over at {now}"))
            }
            Some(_) | None => match &entry.error {
                Some(error) if entry.began >= demand.well && is_for_want_of_a_server(error) => {
                    (Anomaly::Unavailable, format!("all was well, and it failed: {error:?}"))
                }
                Some(_) | None => continue,
            },
        };
        found.push(Violation::new(Checker::Liveness, anomaly, story).by(history, [entry.id]));
    }
    found
}

/// Whether a failure says that somebody could not be reached, or was too slow. Refusals are not:
/// conflicts, for one, have nothing to do with faults. `ErrorKind` may grow: what is new is none.
fn is_for_want_of_a_server(error: &ErrorKind) -> bool {
    matches!(
        error,
        ErrorKind::DeadlineExceeded
            | ErrorKind::PdUnavailable
            | ErrorKind::RegionUnavailable
            | ErrorKind::StoreUnavailable
            | ErrorKind::ServerBusy
            | ErrorKind::Undetermined
            | ErrorKind::LockWaitTimeout { .. }
    )
}
