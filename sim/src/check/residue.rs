//! What is left over when all is done.
//!
//! Asked for after the world was healed and drained: every operation is over, background work has
//! had its time, and somebody has read every key, so that every lock was met.

use std::collections::BTreeSet;

use anatase_core::{Core, WakeReason};

use super::truth::Truth;
use super::{Anomaly, Checker, Violation};
use crate::history::text;

fn violation(anomaly: Anomaly, story: String) -> Violation {
    Violation::new(Checker::Residue, anomaly, story)
}

/// Locks of transactions that nobody runs any more. `live` are the start timestamps of those that
/// somebody does ([`History::live_transactions`](crate::history::History::live_transactions)).
///
/// Takes the truth as it is, not as it would be [resolved](Truth::resolved).
pub fn locks(truth: &Truth, live: &BTreeSet<u64>) -> Vec<Violation> {
    let left = truth.locks.iter().filter(|lock| !live.contains(&lock.start_ts));
    left.map(|lock| {
        let (key, primary, start_ts) = (text(&lock.key), text(&lock.primary), lock.start_ts);
        let story = format!("{key} is locked by the transaction @{start_ts}, primary {primary}");
        violation(Anomaly::LeftLock, story)
    })
    .collect()
}

/// A core that has nothing to do does nothing: it is idle, and its next wake-up, if there is any, is
/// one of those that look after PD and the stores. `name` is for the story.
///
/// To be asked when no command is under way: looking after PD takes calls, and these have time limits.
pub fn core(core: &Core, name: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    if !core.is_idle() {
        let story = format!("{name} has operations open, or outputs that nobody took");
        found.push(violation(Anomaly::NotIdle, story));
    }
    if let Some(wakeup) = core.poll_timeout()
        && is_for_something(wakeup.reason)
    {
        found.push(violation(Anomaly::LeftTimer, format!("{name} waits: {wakeup:?}")));
    }
    found
}

/// Whether a timer waits for something that is under way, rather than looking after PD and the stores.
pub(crate) fn is_for_something(reason: WakeReason) -> bool {
    match reason {
        WakeReason::PdRefresh | WakeReason::Probe => false,
        WakeReason::Deadline
        | WakeReason::AttemptTimeout
        | WakeReason::Backoff
        | WakeReason::LockWait
        | WakeReason::Heartbeat
        | WakeReason::Batch => true,
    }
}

/// Anything that a world can count and that has to be none: tasks, messages, commands, waiters.
pub fn none_left<'a>(counts: impl IntoIterator<Item = (&'a str, usize)>) -> Vec<Violation> {
    let left = counts.into_iter().filter(|(_, count)| *count > 0);
    left.map(|(what, count)| violation(Anomaly::LeftWork, format!("{count} {what} left"))).collect()
}
