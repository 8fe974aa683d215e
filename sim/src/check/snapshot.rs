//! Snapshot isolation, judged by timestamps: exact, and linear but for sorting.
//!
//! In a database that gives every transaction a start and a commit timestamp, snapshot isolation is
//! not a matter of graphs. Four rules, each read off the cluster's records:
//!
//! 1. A read finds the newest version committed at or before its timestamp, unless its transaction
//!    wrote the key before. A scan finds all of them. It does not matter how the reading
//!    transaction ended: nobody is ever shown what is not so.
//! 2. Of two committed writers of a key, the later began after the earlier was committed. A
//!    pessimistic writer may have begun before, and locked afterwards: then what counts is the
//!    timestamp of its lock ([`Step::Lock`]), where that is known.
//! 3. A commit timestamp is larger than its start, and no key has two versions at one.
//! 4. What was read under a lock, or found missing by an insertion, is so until the commit.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::truth::{Effect, Truth, Version, describe};
use super::{Anomaly, Checker, Violation};
use crate::history::{Entry, Held, History, Mode, Scan, Step, Transaction, What, held, text};

/// Holds a history against the cluster's records.
pub fn check(history: &History, truth: &Truth) -> Vec<Violation> {
    let truth = truth.resolved();
    let mut found = Vec::new();
    let transactions: BTreeMap<u64, (&Entry, &Transaction)> = history
        .transactions()
        .filter_map(|(entry, txn)| Some((txn.start_ts?, (entry, txn))))
        .collect();
    for entry in &history.entries {
        let judged = match &entry.what {
            What::Transaction(txn) => match txn.start_ts {
                Some(start_ts) => judge(start_ts, Some(txn), &txn.steps, &truth),
                None => Ok(()),
            },
            What::Snapshot(read) => judge(read.ts, None, &read.steps, &truth),
            What::Register(_) | What::Timestamp(_) | What::Other(_) => Ok(()),
        };
        if let Err(wrong) = judged {
            let other = wrong.other.and_then(|ts| transactions.get(&ts)).map(|(entry, _)| entry.id);
            let violation = violation(wrong.anomaly, wrong.story);
            found.push(violation.by(history, [entry.id]).by(history, other));
        }
    }
    for (key, versions) in &truth.versions {
        found.extend(writers(history, &transactions, key, versions));
    }
    found
}

fn violation(anomaly: Anomaly, story: String) -> Violation {
    Violation::new(Checker::Snapshot, anomaly, story)
}

struct Wrong {
    anomaly: Anomaly,
    story: String,
    /// Another transaction that has to do with it.
    other: Option<u64>,
}

fn wrong(anomaly: Anomaly, story: String) -> Wrong {
    Wrong { anomaly, story, other: None }
}

/// What the transaction has written up to a step.
type Own<'a> = BTreeMap<&'a Bytes, Option<&'a Bytes>>;

/// Walks through the steps, and stops at the first that is wrong: what follows may only follow from it.
fn judge(ts: u64, txn: Option<&Transaction>, steps: &[Step], truth: &Truth) -> Result<(), Wrong> {
    let mut own: Own<'_> = BTreeMap::new();
    let readable = ts >= truth.safe_point;
    let committed_at = txn.and_then(Transaction::committed_at);
    for step in steps {
        match step {
            Step::Read { key, value } => match own.get(key) {
                Some(written) if written.as_ref().map(|it| &it[..]) == value.as_deref() => {}
                Some(written) => {
                    let (told, written) = (held(value.as_deref()), held(written.map(|it| &it[..])));
                    let story = format!("it wrote {written} to {}, and read {told}", text(key));
                    return Err(wrong(Anomaly::OwnWriteLost, story));
                }
                None if readable => read(key, value, ts, truth)?,
                None => {}
            },
            Step::Scan(range) => {
                in_order(range)?;
                if readable {
                    scan(range, ts, &own, truth)?;
                }
            }
            Step::ReadLocked { key, value } => {
                let mine = own.get(key).map(|written| written.cloned());
                match (mine, committed_at) {
                    (Some(written), _) if written == *value => {}
                    (Some(written), _) => {
                        let (told, written) = (held(value.as_deref()), held(written.as_deref()));
                        let story = format!("it wrote {written} to {}, and read {told}", text(key));
                        return Err(wrong(Anomaly::OwnWriteLost, story));
                    }
                    (None, Some(at)) => unchanged_until(key, value, at, truth)?,
                    (None, None) => now_or_later(key, value, ts, truth)?,
                }
            }
            Step::Lock { .. } => {}
            Step::Write { key, value } => {
                own.insert(key, value.as_ref());
            }
            Step::Append { key, value, .. } => {
                own.insert(key, Some(value));
            }
            Step::Insert { key, value } => {
                if !own.contains_key(key)
                    && let (Some(txn), Some(at)) = (txn, committed_at)
                    && readable
                {
                    let from = match txn.mode {
                        Mode::Optimistic => ts,
                        Mode::Pessimistic => at.saturating_sub(1),
                    };
                    if let Some(there) = truth.visible(key, from).filter(|it| is_value(it)) {
                        let story =
                            format!("inserted {}, which has {}", text(key), describe(there));
                        let other = Some(there.start_ts);
                        let anomaly = Anomaly::InsertedOverExisting;
                        return Err(Wrong { anomaly, story, other });
                    }
                }
                own.insert(key, Some(value));
            }
        }
    }
    Ok(())
}

fn is_value(version: &Version) -> bool {
    matches!(version.effect, Effect::Put(_))
}

fn read(key: &Bytes, told: &Held, ts: u64, truth: &Truth) -> Result<(), Wrong> {
    let visible = truth.visible(key, ts);
    let expected = visible.and_then(|version| version.effect.held()).flatten();
    if expected == *told {
        return Ok(());
    }
    let (anomaly, why, other) = blame(key, told, ts, truth);
    let there = visible.map_or_else(|| "nothing, ever".to_owned(), describe);
    let told = held(told.as_deref());
    let story = format!("read {told} from {} @{ts}, which has {there}; {why}", text(key));
    Err(Wrong { anomaly, story, other: other.or(visible.map(|version| version.start_ts)) })
}

/// Where a value that should not have been seen comes from.
fn blame(key: &Bytes, told: &Held, ts: u64, truth: &Truth) -> (Anomaly, String, Option<u64>) {
    let versions = truth.versions.get(key).map(Vec::as_slice).unwrap_or_default();
    let same = |version: &&Version| version.effect.held().as_ref() == Some(told);
    let (past, future) = versions.split_at(versions.partition_point(|it| it.commit_ts <= ts));
    if let Some(version) = past.iter().rev().find(same) {
        return (
            Anomaly::StaleRead,
            format!("it saw {}", describe(version)),
            Some(version.start_ts),
        );
    }
    if told.is_none() {
        return (Anomaly::StaleRead, "it saw nothing".to_owned(), None);
    }
    match future.iter().find(same) {
        Some(version) => {
            let story = format!("it saw {}", describe(version));
            (Anomaly::FutureRead, story, Some(version.start_ts))
        }
        None => (Anomaly::DirtyRead, "what it saw was never committed".to_owned(), None),
    }
}

/// Under a lock that is held until `at`, nobody else writes: what was read is the newest below.
fn unchanged_until(key: &Bytes, told: &Held, at: u64, truth: &Truth) -> Result<(), Wrong> {
    let newest = truth.visible(key, at.saturating_sub(1));
    if newest.and_then(|version| version.effect.held()).flatten() == *told {
        return Ok(());
    }
    let there = newest.map_or_else(|| "nothing, ever".to_owned(), describe);
    let told = held(told.as_deref());
    let story =
        format!("under its lock on {} it read {told}; below its commit is {there}", text(key));
    Err(Wrong { anomaly: Anomaly::LockDidNotHold, story, other: newest.map(|it| it.start_ts) })
}

/// Of a transaction that was not committed nobody knows when it had its lock: what it read was
/// there at its start, or came later.
fn now_or_later(key: &Bytes, told: &Held, ts: u64, truth: &Truth) -> Result<(), Wrong> {
    let versions = truth.versions.get(key).map(Vec::as_slice).unwrap_or_default();
    let later = &versions[versions.partition_point(|it| it.commit_ts <= ts)..];
    let was = truth.held(key, ts) == *told;
    if was
        || ts < truth.safe_point
        || later.iter().any(|it| it.effect.held().as_ref() == Some(told))
    {
        return Ok(());
    }
    let (anomaly, why, other) = blame(key, told, ts, truth);
    let told = held(told.as_deref());
    let story = format!("under its lock on {} it read {told}; {why}", text(key));
    Err(Wrong { anomaly, story, other })
}

fn in_order(scan: &Scan) -> Result<(), Wrong> {
    let tell = |what: String| Err(wrong(Anomaly::ScanOutOfOrder, what));
    if scan.pairs.len() > scan.limit {
        return tell(format!("{} pairs, and the limit is {}", scan.pairs.len(), scan.limit));
    }
    if let Some((key, _)) = scan.pairs.iter().find(|(key, _)| !scan.contains(key)) {
        return tell(format!("{} is not in the range of its scan", text(key)));
    }
    let ordered = |pair: &&[(Bytes, Bytes)]| match scan.reverse {
        false => pair[0].0 < pair[1].0,
        true => pair[0].0 > pair[1].0,
    };
    match scan.pairs.windows(2).find(|pair| !ordered(pair)) {
        Some(pair) => tell(format!("{} was told before {}", text(&pair[0].0), text(&pair[1].0))),
        None => Ok(()),
    }
}

/// Every key in the range up to where the scan had enough, and no other. What is told lies in the
/// range and is in order.
fn scan(scan: &Scan, ts: u64, own: &Own<'_>, truth: &Truth) -> Result<(), Wrong> {
    if !scan.end.is_empty() && scan.start >= scan.end {
        return Ok(());
    }
    let full = scan.pairs.len() >= scan.limit;
    // Beyond the last that was told lies what the limit left out.
    let last = scan.pairs.last().filter(|_| full).map(|(key, _)| key);
    let reached = |key: &Bytes| match (last, scan.reverse) {
        (_, _) if scan.limit == 0 => false,
        (None, _) => true,
        (Some(last), false) => key <= last,
        (Some(last), true) => key >= last,
    };
    let told: BTreeMap<&Bytes, &Bytes> =
        scan.pairs.iter().map(|(key, value)| (key, value)).collect();
    let committed = truth.versions.range(scan.start.clone()..).map(|(key, _)| key);
    let mut keys: BTreeSet<&Bytes> = committed.take_while(|key| scan.contains(key)).collect();
    keys.extend(own.keys().filter(|key| scan.contains(key)).copied());
    keys.extend(told.keys().copied());
    for key in keys.into_iter().filter(|key| reached(key)) {
        let mine = own.get(key);
        let expected = match mine {
            Some(written) => written.cloned(),
            None => truth.held(key, ts),
        };
        let found = told.get(key).map(|value| Bytes::clone(value));
        let same = match (&expected, &found, scan.key_only) {
            (Some(_), Some(_), true) | (None, None, _) => true,
            (expected, found, _) => expected == found,
        };
        if same {
            continue;
        }
        if mine.is_some() {
            let (told, own) = (held(found.as_deref()), held(expected.as_deref()));
            let story = format!("it wrote {own} to {}, and its scan told {told}", text(key));
            return Err(wrong(Anomaly::OwnWriteLost, story));
        }
        if expected.is_some() && found.is_some() {
            return read(key, &found, ts, truth);
        }
        let other = truth.visible(key, ts);
        let there = other.map_or_else(|| "nothing, ever".to_owned(), describe);
        let found = held(found.as_deref());
        let story = format!("of {} its scan @{ts} told {found}; there is {there}", text(key));
        let other = other.map(|version| version.start_ts);
        return Err(Wrong { anomaly: Anomaly::IncompleteScan, story, other });
    }
    Ok(())
}

/// The writers of one key, by rules 2 and 3.
fn writers(
    history: &History,
    transactions: &BTreeMap<u64, (&Entry, &Transaction)>,
    key: &Bytes,
    versions: &[Version],
) -> Vec<Violation> {
    let mut found = Vec::new();
    let id = |version: &Version| transactions.get(&version.start_ts).map(|(entry, _)| entry.id);
    for version in versions.iter().filter(|version| version.commit_ts <= version.start_ts) {
        let story = format!("{} has {}", text(key), describe(version));
        let violation = violation(Anomaly::CommitNotAfterStart, story);
        found.push(violation.by(history, id(version)));
    }
    for pair in versions.windows(2) {
        let [earlier, later] = pair else { continue };
        let anomaly = if earlier.commit_ts == later.commit_ts {
            Anomaly::SameVersionTwice
        } else if began(transactions.get(&later.start_ts).map(|it| it.1), key, later.start_ts)
            .is_some_and(|began| began < earlier.commit_ts)
        {
            Anomaly::LostUpdate
        } else {
            continue;
        };
        let (earlier_is, later_is) = (describe(earlier), describe(later));
        let story = format!("{} has {earlier_is}, then {later_is}", text(key));
        found.push(violation(anomaly, story).by(history, id(earlier)).by(history, id(later)));
    }
    found
}

/// From when on a writer would have noticed another; `None` if nobody knows.
fn began(txn: Option<&Transaction>, key: &Bytes, start_ts: u64) -> Option<u64> {
    let txn = txn?;
    let locked = txn.steps.iter().filter_map(|step| match step {
        Step::Lock { key: locked, for_update_ts: Some(ts) } if locked == key => Some(*ts),
        _ => None,
    });
    match txn.mode {
        Mode::Optimistic => Some(start_ts),
        Mode::Pessimistic => locked.max(),
    }
}
