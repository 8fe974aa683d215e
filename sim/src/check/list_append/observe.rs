//! What each transaction saw of lists and did to them; and what can be told wrong from that alone.

use std::collections::{BTreeMap, BTreeSet};

use anatase_core::Instant;
use bytes::Bytes;

use super::{Order, Seen, violation};
use crate::check::{Anomaly, Violation};
use crate::history::{
    Entry, History, Id, Mode, Outcome, Scan, Step, Transaction, What, decode_list, text,
};

/// A transaction, or a read at a timestamp, as far as lists are concerned.
pub(super) struct Txn {
    pub(super) id: Id,
    pub(super) began: Instant,
    pub(super) ended: Option<Instant>,
    /// Its snapshot is at least as new as its begin.
    pub(super) fresh: bool,
    pub(super) fate: Fate,
    /// What it saw of each key that was not its own, first of all.
    pub(super) reads: Vec<Read>,
    /// Its elements by key, in order, and the list that it left.
    pub(super) appends: BTreeMap<Bytes, Appended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was told, or somebody saw an element of it.
    Committed,
    /// It must not be seen.
    Aborted,
    Unknown,
}

pub(super) struct Read {
    pub(super) key: Bytes,
    pub(super) list: Vec<u64>,
    /// It is of the transaction's one snapshot, or was held by a lock.
    pub(super) depends: bool,
}

#[derive(Default)]
pub(super) struct Appended {
    pub(super) elements: Vec<u64>,
    list: Vec<u64>,
}

pub(super) struct Observed<'h> {
    pub(super) history: &'h History,
    pub(super) txns: Vec<Txn>,
    /// Who appended an element: a place in `txns`.
    pub(super) writers: BTreeMap<(Bytes, u64), usize>,
    pub(super) violations: Vec<Violation>,
}

impl<'h> Observed<'h> {
    pub(super) fn of(history: &'h History) -> Self {
        let mut observed =
            Self { history, txns: Vec::new(), writers: BTreeMap::new(), violations: Vec::new() };
        let appended = |step: &'h Step| match step {
            Step::Append { key, .. } => Some(key),
            _ => None,
        };
        let steps = history.transactions().flat_map(|(_, txn)| &txn.steps);
        let keys: BTreeSet<&Bytes> = steps.filter_map(appended).collect();
        for entry in &history.entries {
            match &entry.what {
                What::Transaction(txn) => {
                    let mut seen = Txn::new(entry, fate(txn), txn.fresh);
                    // One whose owner was not told may be committed later, and is seen to be later.
                    if !matches!(txn.outcome, Outcome::Committed { .. }) {
                        seen.ended = None;
                    }
                    // Locks are taken later than the snapshot.
                    let one_snapshot = txn.mode == Mode::Optimistic || txn.intents().is_empty();
                    observed.walk(&mut seen, &txn.steps, &keys, one_snapshot);
                    observed.add(seen);
                }
                What::Snapshot(read) => {
                    let mut seen = Txn::new(entry, Fate::Committed, false);
                    observed.walk(&mut seen, &read.steps, &keys, true);
                    observed.add(seen);
                }
                What::Register(_) | What::Timestamp(_) | What::Other(_) => {}
            }
        }
        observed.judge_elements();
        observed
    }

    fn tell(&mut self, anomaly: Anomaly, story: String, who: impl IntoIterator<Item = Id>) {
        self.violations.push(violation(anomaly, story).by(self.history, who));
    }

    fn add(&mut self, txn: Txn) {
        if txn.reads.is_empty() && txn.appends.is_empty() {
            return;
        }
        let place = self.txns.len();
        for (key, appended) in &txn.appends {
            for element in &appended.elements {
                if let Some(other) = self.writers.insert((key.clone(), *element), place) {
                    let story = format!("{element} was appended to {} twice", text(key));
                    let other = self.txns.get(other).map_or(txn.id, |other| other.id);
                    let violation = violation(Anomaly::Malformed, story);
                    self.violations.push(violation.by(self.history, [other, txn.id]));
                }
            }
        }
        self.txns.push(txn);
    }

    fn walk(&mut self, txn: &mut Txn, steps: &[Step], keys: &BTreeSet<&Bytes>, depends: bool) {
        let mut snapshot: BTreeMap<Bytes, Vec<u64>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Read { key, value } if keys.contains(key) => {
                    self.read(txn, &mut snapshot, key, value.as_deref(), depends);
                }
                Step::ReadLocked { key, value } if keys.contains(key) => {
                    self.read_locked(txn, key, value.as_deref());
                }
                Step::Scan(scan) if !scan.key_only => {
                    for (key, value) in within(scan, keys) {
                        self.read(txn, &mut snapshot, key, value, depends);
                    }
                }
                Step::Append { key, element, value } => {
                    self.append(txn, key, *element, value, depends);
                }
                Step::Write { key, .. } | Step::Insert { key, .. } if keys.contains(key) => {
                    let story = format!("{} was written as a whole", text(key));
                    self.tell(Anomaly::Malformed, story, [txn.id]);
                }
                Step::Read { .. }
                | Step::ReadLocked { .. }
                | Step::Scan(_)
                | Step::Lock { .. }
                | Step::Write { .. }
                | Step::Insert { .. } => {}
            }
        }
    }

    fn list(&mut self, txn: &Txn, key: &Bytes, value: Option<&[u8]>) -> Option<Vec<u64>> {
        let list = decode_list(value);
        if list.is_none() {
            self.tell(Anomaly::Malformed, format!("{} holds no list", text(key)), [txn.id]);
        }
        list
    }

    fn read(
        &mut self,
        txn: &mut Txn,
        snapshot: &mut BTreeMap<Bytes, Vec<u64>>,
        key: &Bytes,
        value: Option<&[u8]>,
        depends: bool,
    ) {
        let Some(list) = self.list(txn, key, value) else { return };
        let own = txn.appends.get(key).map(|appended| &appended.list);
        match own.or(snapshot.get(key)) {
            Some(known) if *known == list => {}
            Some(known) => {
                let story = format!("{} was {known:?} and then {list:?}", text(key));
                self.tell(Anomaly::Internal, story, [txn.id]);
            }
            None => {
                snapshot.insert(key.clone(), list.clone());
                txn.reads.push(Read { key: key.clone(), list, depends });
            }
        }
    }

    fn read_locked(&mut self, txn: &mut Txn, key: &Bytes, value: Option<&[u8]>) {
        let Some(list) = self.list(txn, key, value) else { return };
        match txn.appends.get(key) {
            Some(own) if own.list != list => {
                let story = format!("{} was {:?} and then {list:?}", text(key), own.list);
                self.tell(Anomaly::Internal, story, [txn.id]);
            }
            Some(_) => {}
            None => {
                // What was read under locks holds together only if all of them were held to the end: of a
                // transaction that failed, some may have been lost before others were taken.
                let depends = txn.fate == Fate::Committed;
                txn.reads.push(Read { key: key.clone(), list, depends });
            }
        }
    }

    /// What it appended to was read as well, by whoever wrote the list as a whole.
    fn append(&mut self, txn: &mut Txn, key: &Bytes, element: u64, value: &[u8], depends: bool) {
        let Some(list) = self.list(txn, key, Some(value)) else { return };
        let Some((last, before)) = list.split_last().filter(|(last, _)| **last == element) else {
            let story = format!("{element} is not the end of what was written to {}", text(key));
            return self.tell(Anomaly::Malformed, story, [txn.id]);
        };
        let read = txn.reads.iter().rev().find(|read| read.key == *key).map(|read| &read.list);
        match txn.appends.get(key).map(|own| &own.list).or(read) {
            Some(known) if known[..] != *before => {
                let story = format!("{} was {known:?}, and {last} made it {list:?}", text(key));
                self.tell(Anomaly::Malformed, story, [txn.id]);
            }
            Some(_) => {}
            None => {
                txn.reads.push(Read { key: key.clone(), list: before.to_vec(), depends });
            }
        }
        let own = txn.appends.entry(key.clone()).or_default();
        own.elements.push(element);
        own.list = list;
    }

    /// Every element that was read: who wrote it, whether it may be seen, and alone.
    fn judge_elements(&mut self) {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for txn in &self.txns {
            for Read { key, list, .. } in &txn.reads {
                let mut once = BTreeSet::new();
                for (place, element) in list.iter().enumerate() {
                    let mut tell = |anomaly, why: &str, other: Option<Id>| {
                        let story = format!("{} was {list:?}: {element} {why}", text(key));
                        let violation = violation(anomaly, story);
                        found.push(violation.by(self.history, [txn.id].into_iter().chain(other)));
                    };
                    if !once.insert(*element) {
                        tell(Anomaly::DuplicateElement, "is in it twice", None);
                        continue;
                    }
                    let Some(writer) = self.writers.get(&(key.clone(), *element)).copied() else {
                        tell(Anomaly::GarbageElement, "was appended by nobody", None);
                        continue;
                    };
                    let other = &self.txns[writer];
                    if other.id == txn.id {
                        tell(Anomaly::Internal, "was read before it was appended", None);
                        continue;
                    }
                    seen.insert(writer);
                    if other.fate == Fate::Aborted {
                        tell(
                            Anomaly::G1a,
                            "is of a transaction that was not committed",
                            Some(other.id),
                        );
                    }
                    let own = other.appends.get(key).map(|own| own.elements.as_slice());
                    let last = own.and_then(<[u64]>::last);
                    if place + 1 == list.len() && last != Some(element) {
                        tell(
                            Anomaly::G1b,
                            "is not the last that its transaction appended",
                            Some(other.id),
                        );
                    }
                }
            }
        }
        for writer in seen {
            let fate = &mut self.txns[writer].fate;
            if *fate == Fate::Unknown {
                *fate = Fate::Committed;
            }
        }
        self.violations.append(&mut found);
    }

    /// The lists of each key that were there once: those that were read, and those that committed
    /// transactions left.
    pub(super) fn lists(&self) -> BTreeMap<&Bytes, Vec<Seen<'_>>> {
        let mut lists: BTreeMap<&Bytes, Vec<Seen<'_>>> = BTreeMap::new();
        for txn in &self.txns {
            for read in &txn.reads {
                lists.entry(&read.key).or_default().push((&read.list, txn.id));
            }
            if txn.fate == Fate::Committed {
                for (key, own) in &txn.appends {
                    // What is not in the order is told as lost, once.
                    lists.entry(key).or_default().push((&own.list, txn.id));
                }
            }
        }
        lists
    }

    /// Committed elements that the order of their key does not have.
    pub(super) fn lost(&self, orders: &[Order]) -> Vec<Violation> {
        let mut found = Vec::new();
        for order in orders {
            let there: BTreeSet<u64> = order.elements.iter().copied().collect();
            let first = (order.key.clone(), 0);
            let last = (order.key.clone(), u64::MAX);
            for ((key, element), writer) in self.writers.range(first..=last) {
                let txn = &self.txns[*writer];
                if txn.fate != Fate::Committed || there.contains(element) {
                    continue;
                }
                let (key, list) = (text(key), &order.elements);
                let story = format!("{element} was appended to {key}, which became {list:?}");
                let violation = violation(Anomaly::LostAppend, story);
                found.push(violation.by(self.history, [txn.id]));
            }
        }
        found
    }
}

impl Txn {
    fn new(entry: &Entry, fate: Fate, fresh: bool) -> Self {
        let Entry { id, began, ended, .. } = *entry;
        Self { id, began, ended, fresh, fate, reads: Vec::new(), appends: BTreeMap::new() }
    }
}

fn fate(txn: &Transaction) -> Fate {
    match txn.outcome {
        Outcome::Committed { .. } => Fate::Committed,
        Outcome::Aborted => Fate::Aborted,
        Outcome::Undetermined => Fate::Unknown,
        Outcome::Running | Outcome::Crashed if txn.commit_began.is_some() => Fate::Unknown,
        Outcome::Running | Outcome::Crashed => Fate::Aborted,
    }
}

/// What a scan tells of keys: those it found, and that the others in its range hold nothing.
fn within<'a>(scan: &'a Scan, keys: &BTreeSet<&'a Bytes>) -> Vec<(&'a Bytes, Option<&'a [u8]>)> {
    let told: BTreeMap<&Bytes, &Bytes> =
        scan.pairs.iter().map(|(key, value)| (key, value)).collect();
    let full = scan.pairs.len() >= scan.limit;
    let seen = keys.iter().filter(|key| scan.contains(key));
    seen.filter(|key| !full || told.contains_key(**key))
        .map(|key| (*key, told.get(*key).map(|value| &value[..])))
        .collect()
}
