//! A model that does everything right, its histories, and the same with one thing made wrong.
//!
//! The model is a database of versions with optimistic transactions, several of which are open at
//! once, and a register. Everything takes effect at one instant between call and return. Some ends
//! are not told; some locks of committed transactions are left to be met.

use std::collections::{BTreeMap, BTreeSet};

use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};

use super::*;
use crate::check::{self, Checker};
use crate::history::{RegisterAnswer, RegisterCall, RegisterOp, SnapshotRead};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const LISTS: [&str; 2] = ["x", "y"];

#[derive(Clone, Debug)]
struct Script {
    choices: Vec<u16>,
}

impl Arbitrary for Script {
    fn arbitrary(g: &mut Gen) -> Self {
        let length = 100 + usize::arbitrary(g) % 900;
        Self { choices: (0..length).map(|_| u16::arbitrary(g)).collect() }
    }

    /// Whole runs of choices are left out: single ones are too many, and mean little by themselves.
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let choices = self.choices.clone();
        let lengths = [2, 4, 8, 16, 32].map(|part| choices.len().div_ceil(part));
        let cuts = lengths.into_iter().filter(|length| *length > 4);
        Box::new(cuts.flat_map(move |length| {
            let choices = choices.clone();
            (0..choices.len()).step_by(length).map(move |from| {
                let mut fewer = choices.clone();
                fewer.drain(from..(from + length).min(fewer.len()));
                Self { choices: fewer }
            })
        }))
    }
}

#[derive(Default)]
struct Model {
    history: History,
    truth: Truth,
    clock: u64,
    ts: u64,
    open: BTreeMap<u32, Id>,
    register: Held,
    choices: Vec<u16>,
}

impl Model {
    fn play(script: &Script) -> Self {
        let mut model = Self { choices: script.choices.clone(), ..Self::default() };
        while let Some(choice) = model.choices.pop() {
            model.step(choice);
        }
        model
    }

    fn below(&mut self, bound: u16) -> usize {
        usize::from(self.choices.pop().unwrap_or(0) % bound)
    }

    fn now(&mut self) -> Instant {
        self.clock += 1;
        ms(self.clock)
    }

    fn next_ts(&mut self) -> u64 {
        self.ts += 1 + self.below(3) as u64;
        self.ts
    }

    fn step(&mut self, choice: u16) {
        let process = u32::from(choice >> 8) % 4;
        match (choice % 16, self.open.get(&process).copied()) {
            (0..12, None) => self.begin(process),
            (0..3, Some(id)) => self.read(id),
            (3, Some(id)) => self.scan(id),
            (4..6, Some(id)) => {
                let key = KEYS[self.below(4)];
                let value = (self.below(4) > 0).then(|| Bytes::from(format!("{}", self.clock)));
                self.now();
                self.add(id, Step::Write { key: bytes(key), value });
            }
            (6..9, Some(id)) => self.append(id),
            (9..12, Some(id)) => self.commit(process, id),
            (12, _) => self.snapshot(process),
            (13, _) => {
                let began = self.now();
                let ts = self.next_ts();
                let what = What::Timestamp(Some(ts));
                let id = self.history.begin(process + 10, began, Instant::NEVER, what);
                let now = self.now();
                self.history.end(id, now);
            }
            _ => self.register(process),
        }
    }

    fn begin(&mut self, process: u32) {
        let mut txn = Transaction::new(Mode::Optimistic);
        let began = self.now();
        txn.start_ts = Some(self.next_ts());
        let id = self.history.begin(process, began, Instant::NEVER, What::Transaction(txn));
        self.open.insert(process, id);
    }

    fn add(&mut self, id: Id, step: Step) {
        self.history.transaction_mut(id).expect("a transaction").steps.push(step);
    }

    /// What a transaction sees: its own writes, and else its snapshot.
    fn sees(&mut self, id: Id, key: &'static str) -> Held {
        let txn = self.history.transaction_mut(id).expect("a transaction");
        let own = txn.intents().get(key.as_bytes()).and_then(|intent| intent.write.clone());
        let ts = txn.start_ts.expect("a start");
        own.unwrap_or_else(|| self.truth.held(key.as_bytes(), ts))
    }

    fn read(&mut self, id: Id) {
        let key = [&KEYS[..], &LISTS].concat()[self.below(6)];
        let value = self.sees(id, key);
        self.add(id, Step::Read { key: bytes(key), value });
    }

    fn append(&mut self, id: Id) {
        let key = LISTS[self.below(2)];
        let value = self.sees(id, key);
        self.add(id, Step::Read { key: bytes(key), value: value.clone() });
        let mut list = crate::history::decode_list(value.as_deref()).expect("a list");
        self.now();
        list.push(self.clock);
        self.add(id, append(key, &list));
    }

    fn scan(&mut self, id: Id) {
        let all = [&KEYS[..], &LISTS].concat();
        let mut pairs = Vec::new();
        for key in all {
            pairs.extend(self.sees(id, key).map(|value| (bytes(key), value)));
        }
        let reverse = self.below(2) == 0;
        if reverse {
            pairs.reverse();
        }
        let limit = self.below(8);
        pairs.truncate(limit);
        self.add(id, Step::Scan(Scan { limit, reverse, pairs, ..Scan::default() }));
    }

    fn snapshot(&mut self, process: u32) {
        let ts = (self.ts / 2).max(1) + self.below(4) as u64;
        let ts = ts.min(self.ts);
        let key = KEYS[self.below(4)];
        let steps =
            vec![Step::Read { key: bytes(key), value: self.truth.held(key.as_bytes(), ts) }];
        let began = self.now();
        let what = What::Snapshot(SnapshotRead { ts, steps });
        let id = self.history.begin(process + 10, began, Instant::NEVER, what);
        let now = self.now();
        self.history.end(id, now);
    }

    /// The first committer wins. A commit takes a new timestamp, so that nobody reads above it yet.
    fn commit(&mut self, process: u32, id: Id) {
        self.open.remove(&process);
        let asked = self.now();
        let txn = self.history.transaction_mut(id).expect("a transaction");
        txn.commit_began = Some(asked);
        let (intents, start_ts) = (txn.intents(), txn.start_ts.expect("a start"));
        let newest = |key| self.truth.versions.get(key).and_then(|versions| versions.last());
        let conflict = intents.keys().filter_map(newest).any(|it| it.commit_ts > start_ts);
        let commit_ts = self.next_ts();
        if !conflict {
            for (key, intent) in intents {
                let effect = match intent.write {
                    Some(Some(value)) => Effect::Put(value),
                    Some(None) => Effect::Delete,
                    None => Effect::Lock,
                };
                let version = Version { commit_ts, start_ts, effect };
                self.truth.versions.entry(key).or_default().push(version);
            }
        }
        let told = match (self.below(10), conflict) {
            (0, _) => Outcome::Undetermined,
            (1, _) => Outcome::Crashed,
            (_, true) => Outcome::Aborted,
            (_, false) => committed(commit_ts),
        };
        self.history.transaction_mut(id).expect("a transaction").outcome = told;
        let now = self.now();
        self.history.end(id, now);
    }

    /// Up to four at once, each with its effect somewhere in between, and some without an answer.
    fn register(&mut self, process: u32) {
        let many = 1 + self.below(4);
        let began = self.now();
        let (mut ids, mut order) = (Vec::new(), Vec::new());
        for nth in 0..many {
            let call = match self.below(4) {
                0 => RegisterCall::Get,
                1 => RegisterCall::Put(Bytes::from(format!("{}", self.below(3)))),
                2 => RegisterCall::Delete,
                _ => RegisterCall::CompareAndSwap {
                    expected: (self.below(2) == 0)
                        .then(|| Bytes::from(format!("{}", self.below(3)))),
                    new: Some(Bytes::from(format!("{}", self.below(3)))),
                },
            };
            let op = RegisterOp {
                key: bytes("r"),
                call,
                answer: RegisterAnswer::Pending,
                may_repeat: false,
            };
            let process = process * 10 + 100 + nth as u32;
            ids.push(self.history.begin(process, began, Instant::NEVER, What::Register(op)));
            order.insert(self.below(nth as u16 + 1), nth);
        }
        for nth in order {
            let id = ids[nth];
            let fate = self.below(20);
            let before = self.register.clone();
            let What::Register(op) = &mut self.history.entries[id].what else { continue };
            let (after, answer) = match &op.call {
                RegisterCall::Get => (before.clone(), RegisterAnswer::Value(before.clone())),
                RegisterCall::Put(value) => (Some(value.clone()), RegisterAnswer::Done),
                RegisterCall::Delete => (None, RegisterAnswer::Done),
                RegisterCall::CompareAndSwap { expected, new } => {
                    let swapped = *expected == before;
                    let after = if swapped { new.clone() } else { before.clone() };
                    let previous = Some(before.clone());
                    (after, RegisterAnswer::Swapped { swapped, previous })
                }
            };
            match fate {
                7 => op.answer = RegisterAnswer::Failed,
                8 => op.answer = RegisterAnswer::Undetermined,
                _ => op.answer = answer,
            }
            if fate != 7 && !(fate == 8 && self.clock.is_multiple_of(2)) {
                self.register = after;
            }
        }
        for id in ids {
            let now = self.now();
            self.history.end(id, now);
        }
    }

    /// Makes locks of some records of transactions that have others.
    fn unresolve(&mut self) {
        let mut kept = BTreeSet::new();
        for (key, versions) in &mut self.truth.versions {
            let Some(last) = versions.last() else { continue };
            let other = kept.contains(&last.start_ts);
            kept.extend(versions.iter().map(|version| version.start_ts));
            if other && let Some(version) = versions.pop() {
                let (key, start_ts) = (key.clone(), version.start_ts);
                let effect = Some(version.effect);
                self.truth.locks.push(Lock { key, start_ts, effect, ..lock("a", 0, "") });
            }
        }
    }

    fn found(&self) -> Vec<Violation> {
        check::history(&self.history, &self.truth)
    }
}

fn quickcheck(property: fn(Script, u16) -> TestResult) {
    QuickCheck::new().tests(200).min_tests_passed(50).max_tests(3_000).quickcheck(property);
}

#[test]
fn histories_of_the_model_pass() {
    fn property(script: Script, _: u16) -> TestResult {
        let mut model = Model::play(&script);
        let found = model.found();
        assert_eq!(found, [], "{}\n{}", found[0], model.history);
        model.unresolve();
        let found = model.found();
        assert_eq!(found, [], "{}\n{}", found[0], model.history);
        TestResult::passed()
    }
    quickcheck(property);
}

/// Plants something in the `which`th of the places where it can be, and expects that it is seen;
/// not by anybody, but by whom it should.
fn seen(
    script: &Script,
    which: u16,
    by: Checker,
    places: fn(&Model) -> Vec<(Id, usize)>,
    plant: fn(&mut Model, Id, usize),
) -> TestResult {
    let mut model = Model::play(script);
    let places = places(&model);
    if places.is_empty() {
        return TestResult::discard();
    }
    let (id, at) = places[usize::from(which) % places.len()];
    plant(&mut model, id, at);
    let found = model.found();
    let seen = found.iter().any(|violation| violation.checker == by);
    assert!(seen, "{id} {at}: {found:?}\n{}", model.history);
    TestResult::passed()
}

fn steps(model: &Model, which: fn(&Step) -> bool) -> Vec<(Id, usize)> {
    let steps = |(entry, txn): (&crate::history::Entry, &Transaction)| {
        let id = entry.id;
        let places: Vec<_> = txn.steps.iter().enumerate().filter(|(_, step)| which(step)).collect();
        places.into_iter().map(move |(at, _)| (id, at)).collect::<Vec<_>>()
    };
    model.history.transactions().flat_map(steps).collect()
}

/// Committed writers, and how many keys they wrote.
fn writers(model: &Model, at_least: usize) -> Vec<(Id, usize)> {
    let writers = model.history.transactions().filter(|(_, txn)| txn.committed_at().is_some());
    let keys = writers.map(|(entry, txn)| (entry.id, txn.intents().len()));
    keys.filter(|(_, keys)| *keys >= at_least).collect()
}

#[test]
fn a_commit_told_as_aborted_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        seen(
            &script,
            which,
            Checker::Truth,
            |model| writers(model, 1),
            |model, id, _| {
                model.history.transaction_mut(id).expect("it").outcome = Outcome::Aborted;
            },
        )
    }
    quickcheck(property);
}

#[test]
fn a_record_that_is_gone_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        seen(
            &script,
            which,
            Checker::Truth,
            |model| writers(model, 2),
            |model, id, keys| {
                let txn = model.history.transaction_mut(id).expect("it");
                let start_ts = txn.start_ts.expect("a start");
                let key = txn.intents().into_keys().nth(id % keys).expect("a key");
                let versions = model.truth.versions.get_mut(&key).expect("versions");
                versions.retain(|version| version.start_ts != start_ts);
            },
        )
    }
    quickcheck(property);
}

#[test]
fn a_read_of_something_else_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        let places: fn(&Model) -> Vec<(Id, usize)> =
            |model| steps(model, |step| matches!(step, Step::Read { key, .. } if key[0] < b'x'));
        seen(&script, which, Checker::Snapshot, places, |model, id, at| {
            let step = &mut model.history.transaction_mut(id).expect("it").steps[at];
            let Step::Read { value, .. } = step else { return };
            *value = match value {
                Some(_) => None,
                None => Some(bytes("0")),
            };
        })
    }
    quickcheck(property);
}

#[test]
fn a_pair_that_a_scan_left_out_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        let places: fn(&Model) -> Vec<(Id, usize)> =
            |model| steps(model, |step| matches!(step, Step::Scan(scan) if !scan.pairs.is_empty()));
        seen(&script, which, Checker::Snapshot, places, |model, id, at| {
            let step = &mut model.history.transaction_mut(id).expect("it").steps[at];
            let Step::Scan(scan) = step else { return };
            scan.pairs.remove(id % scan.pairs.len());
        })
    }
    quickcheck(property);
}

/// A whole transaction that is older than what was told before it began.
#[test]
fn a_begin_after_the_news_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        let places: fn(&Model) -> Vec<(Id, usize)> = |model| {
            let writers = writers(model, 1);
            let newest = writers.iter().filter_map(|(id, _)| {
                let (entry, txn) = model.history.transactions().find(|(it, _)| it.id == *id)?;
                Some((txn.committed_at()?, entry.ended?))
            });
            let Some((commit_ts, _)) = newest.max() else { return Vec::new() };
            let older = model.history.transactions();
            let older = older.filter(|(_, txn)| txn.start_ts.is_some_and(|ts| ts < commit_ts));
            older.map(|(entry, _)| (entry.id, 0)).collect()
        };
        seen(&script, which, Checker::RealTime, places, |model, id, _| {
            let now = model.now();
            model.history.entries[id].began = now;
        })
    }
    quickcheck(property);
}

/// The newest list lost its first element, for one reader.
#[test]
fn a_list_without_its_first_element_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        let places: fn(&Model) -> Vec<(Id, usize)> = |model| {
            steps(model, |step| match step {
                Step::Read { key, value } => {
                    key[0] >= b'x' && value.as_deref().is_some_and(|list| list.contains(&b' '))
                }
                _ => false,
            })
        };
        seen(&script, which, Checker::ListAppend, places, |model, id, at| {
            let step = &mut model.history.transaction_mut(id).expect("it").steps[at];
            let Step::Read { value, .. } = step else { return };
            let list = crate::history::decode_list(value.as_deref()).expect("a list");
            *value = Some(encode_list(&list[1..]));
        })
    }
    quickcheck(property);
}

#[test]
fn a_value_that_nobody_put_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        let places: fn(&Model) -> Vec<(Id, usize)> = |model| {
            let gets = model.history.entries.iter().filter(|entry| match &entry.what {
                What::Register(op) => matches!(op.answer, RegisterAnswer::Value(_)),
                _ => false,
            });
            gets.map(|entry| (entry.id, 0)).collect()
        };
        seen(&script, which, Checker::Linear, places, |model, id, _| {
            if let What::Register(op) = &mut model.history.entries[id].what {
                op.answer = RegisterAnswer::Value(Some(bytes("7")));
            }
        })
    }
    quickcheck(property);
}

/// Two of three swapped from a value that was there once.
#[test]
fn a_swap_told_the_other_way_is_seen() {
    fn property(script: Script, which: u16) -> TestResult {
        let places: fn(&Model) -> Vec<(Id, usize)> = |model| {
            let swaps = model.history.entries.iter().filter(|entry| match &entry.what {
                What::Register(op) => matches!(op.answer, RegisterAnswer::Swapped { .. }),
                _ => false,
            });
            swaps.map(|entry| (entry.id, 0)).collect()
        };
        seen(&script, which, Checker::Linear, places, |model, id, _| {
            if let What::Register(op) = &mut model.history.entries[id].what
                && let RegisterAnswer::Swapped { swapped, .. } = &mut op.answer
            {
                *swapped = !*swapped;
            }
        })
    }
    quickcheck(property);
}
