//! Every judge is fed histories with what it has to see, a test for each anomaly, and clean ones;
//! and histories of a model, with and without something planted ([`planted`]).

mod contract;
mod ends;
mod linear;
mod list_append;
mod planted;
mod real_time;
mod snapshot;
mod truth;

use anatase_core::Instant;
use bytes::Bytes;

use super::truth::{Effect, Lock, Truth, Version};
use super::{Anomaly, Violation};
use crate::history::{
    Held, History, Id, Mode, Outcome, Scan, Step, Transaction, What, encode_list,
};

fn ms(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// "-" is nothing.
fn value(text: &'static str) -> Held {
    (text != "-").then(|| bytes(text))
}

fn read(key: &'static str, text: &'static str) -> Step {
    Step::Read { key: bytes(key), value: value(text) }
}

fn read_locked(key: &'static str, text: &'static str) -> Step {
    Step::ReadLocked { key: bytes(key), value: value(text) }
}

fn write(key: &'static str, text: &'static str) -> Step {
    Step::Write { key: bytes(key), value: value(text) }
}

fn insert(key: &'static str, text: &'static str) -> Step {
    Step::Insert { key: bytes(key), value: bytes(text) }
}

fn append(key: &'static str, list: &[u64]) -> Step {
    let element = *list.last().expect("what is appended");
    Step::Append { key: bytes(key), element, value: encode_list(list) }
}

fn scan(start: &'static str, end: &'static str, pairs: &[(&'static str, &'static str)]) -> Scan {
    let pairs = pairs.iter().map(|(key, value)| (bytes(key), bytes(value))).collect();
    Scan { start: bytes(start), end: bytes(end), limit: 100, pairs, ..Scan::default() }
}

const fn committed(at: u64) -> Outcome {
    Outcome::Committed { at, by: None }
}

/// An optimistic transaction with its commit asked for just before its end. Process, begin, and end
/// follow from its place: one after the other; [`during`] says otherwise.
fn txn(history: &mut History, start_ts: u64, outcome: Outcome, steps: Vec<Step>) -> Id {
    let began = 10 * history.entries.len() as u64 + 10;
    during(history, (began, began + 5), start_ts, outcome, steps)
}

/// The same at certain times.
fn during(
    history: &mut History,
    (began, ended): (u64, u64),
    start_ts: u64,
    outcome: Outcome,
    steps: Vec<Step>,
) -> Id {
    let txn = Transaction {
        start_ts: Some(start_ts),
        steps,
        commit_began: Some(ms(ended - 1)),
        outcome,
        ..Transaction::new(Mode::Optimistic)
    };
    let process = history.entries.len() as u32;
    let id = history.begin(process, ms(began), Instant::NEVER, What::Transaction(txn));
    history.end(id, ms(ended));
    id
}

/// Key, commit timestamp, start timestamp, value: a row each.
fn truth(rows: &[(&'static str, u64, u64, &'static str)]) -> Truth {
    let mut truth = Truth::default();
    for (key, commit_ts, start_ts, text) in rows {
        let effect = match *text {
            "lock" => Effect::Lock,
            "-" => Effect::Delete,
            text => Effect::Put(bytes(text)),
        };
        let version = Version { commit_ts: *commit_ts, start_ts: *start_ts, effect };
        let versions = truth.versions.entry(bytes(key)).or_default();
        versions.push(version);
        versions.sort_by_key(|version| version.commit_ts);
    }
    truth
}

fn lock(key: &'static str, start_ts: u64, text: &'static str) -> Lock {
    Lock {
        key: bytes(key),
        primary: bytes("a"),
        start_ts,
        effect: Some(Effect::Put(bytes(text))),
        use_async_commit: false,
        min_commit_ts: start_ts + 1,
        secondaries: Vec::new(),
    }
}

fn anomalies(found: &[Violation]) -> Vec<Anomaly> {
    found.iter().map(|violation| violation.anomaly).collect()
}
