//! What came before what, by the clock of the world.
//!
//! | first | then | so |
//! |---|---|---|
//! | a commit was told | a transaction began, at a fresh timestamp | its snapshot sees the commit |
//! | a commit was told | another was asked for, not merely causal | it has no smaller timestamp |
//! | a timestamp was told, or a transaction's start | another was asked for | it is larger |
//!
//! The first rule holds for causal transactions too: whoever begins after the news depends on it.
//! The second does not: a causal commit takes no timestamp from PD, so that it may lie before one
//! that was told and that it knows nothing of (`transactions.md` §22.9). Equal commit timestamps are
//! allowed (§22.10).
//!
//! One pass over the instants, in order: linear but for sorting. Two things at one instant are in no
//! order.

use anatase_core::Instant;

use super::{Anomaly, Checker, Violation};
use crate::history::{History, Id, Outcome, What, millis};

/// The largest timestamp that was told, and to whom.
type Told = Option<(u64, Id)>;

enum News {
    /// Asked for: what comes back is held against what was told before.
    Begin {
        start_ts: u64,
    },
    CommitAsked {
        at: u64,
    },
    CommitTold {
        at: u64,
    },
    TimestampTold {
        ts: u64,
    },
}

/// Holds timestamps against the clock.
pub fn check(history: &History) -> Vec<Violation> {
    let mut news: Vec<(Instant, bool, Id, News)> = Vec::new();
    for entry in &history.entries {
        let mut ask = |at, what| news.push((at, false, entry.id, what));
        match &entry.what {
            What::Transaction(txn) => {
                let wrote = !txn.intents().is_empty();
                if let (Some(start_ts), true) = (txn.start_ts, txn.fresh) {
                    ask(entry.began, News::Begin { start_ts });
                }
                if let (Outcome::Committed { at, .. }, true) = (txn.outcome, wrote) {
                    if let (Some(began), false) = (txn.commit_began, txn.causal) {
                        ask(began, News::CommitAsked { at });
                    }
                    if let Some(ended) = entry.ended {
                        news.push((ended, true, entry.id, News::CommitTold { at }));
                    }
                }
                if let (Some(ts), Some(ended), true) = (txn.start_ts, entry.ended, txn.fresh) {
                    news.push((ended, true, entry.id, News::TimestampTold { ts }));
                }
            }
            What::Timestamp(Some(ts)) => {
                ask(entry.began, News::Begin { start_ts: *ts });
                if let Some(ended) = entry.ended {
                    news.push((ended, true, entry.id, News::TimestampTold { ts: *ts }));
                }
            }
            What::Timestamp(None) | What::Register(_) | What::Snapshot(_) | What::Other(_) => {}
        }
    }
    // What is asked comes before what is told at the same instant.
    news.sort_by_key(|(at, told, id, _)| (*at, *told, *id));

    let (mut commits, mut timestamps): (Told, Told) = (None, None);
    let mut found = Vec::new();
    for (at, _, id, what) in news {
        let (anomaly, ts, other) = match what {
            News::CommitTold { at } => {
                commits = commits.max(Some((at, id)));
                continue;
            }
            News::TimestampTold { ts } => {
                timestamps = timestamps.max(Some((ts, id)));
                continue;
            }
            News::Begin { start_ts } => match (commits, timestamps) {
                (Some((told, other)), _) if start_ts < told => {
                    (Anomaly::MissedAcknowledged, start_ts, (told, other))
                }
                (_, Some((told, other))) if start_ts <= told => {
                    (Anomaly::TimestampOrder, start_ts, (told, other))
                }
                _ => continue,
            },
            News::CommitAsked { at } => match commits {
                Some((told, other)) if at < told => (Anomaly::CommitOrder, at, (told, other)),
                _ => continue,
            },
        };
        let (told, other) = other;
        let story = format!("asked for at {}, after {told} was told, it got {ts}", millis(at));
        let violation = Violation::new(Checker::RealTime, anomaly, story);
        found.push(violation.by(history, [other, id]));
    }
    found
}
