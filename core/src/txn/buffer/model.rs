//! The buffer against models: one map that every write goes into, and a stack of them for savepoints.

use std::collections::{BTreeMap, BTreeSet};

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;
use crate::operation::{KvPair, MutationOp, ScanSpec};

#[derive(Clone, Copy, Debug)]
enum Op {
    Put,
    Delete,
    Insert,
    Lock,
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        *g.choose(&[Self::Put, Self::Delete, Self::Insert, Self::Lock]).unwrap()
    }
}

/// A write, or something about savepoints; which one is drawn from those that are known.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8, Op, u8),
    MarkLocked(u8, Option<bool>),
    Unlock(u8),
    Savepoint,
    Release(u8),
    RollBackTo(u8),
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let n = u8::arbitrary(g);
        match u8::arbitrary(g) % 16 {
            0..=7 => Self::Write(n, Op::arbitrary(g), u8::arbitrary(g)),
            8 => Self::MarkLocked(n, Option::arbitrary(g)),
            9 => Self::Unlock(n),
            10..=12 => Self::Savepoint,
            13 => Self::Release(n),
            _ => Self::RollBackTo(n),
        }
    }
}

type Map = BTreeMap<Key, Value>;

fn key(n: u8) -> Key {
    // The empty key is among them, and prefixes of each other.
    Key::copy_from_slice(&b"aab"[..usize::from(n % 4)])
        .into_iter()
        .chain(if n < 64 { vec![] } else { vec![n % 8] })
        .collect()
}

fn value(n: u8) -> Value {
    Value::from(vec![n; usize::from(n % 3) + 1])
}

/// Answers a scan as a snapshot would.
fn scan(map: &Map, spec: &ScanSpec) -> Vec<KvPair> {
    let inside = map.iter().filter(|(key, _)| spec.range.contains(key));
    let pair = |(key, value): (&Key, &Value)| KvPair {
        key: key.clone(),
        value: if spec.key_only { Value::new() } else { value.clone() },
    };
    let limit = spec.limit as usize;
    match spec.reverse {
        false => inside.map(pair).take(limit).collect(),
        true => inside.rev().map(pair).take(limit).collect(),
    }
}

/// Reads a union to its end, with pages of the sizes given, over and over, and fed so many ahead.
fn union(buffer: &Buffer, base: &Map, mut union: Union, pages: &[u8]) -> Vec<KvPair> {
    let mut pairs = Vec::new();
    let mut sizes = pages.iter().cycle();
    loop {
        match union.next(buffer) {
            UnionStep::Pair(pair) => pairs.push(pair),
            UnionStep::End => break,
            UnionStep::Feed => {
                let mut size = || sizes.next().map_or(1, |size| u32::from(size % 5) + 1);
                for _ in 0..size() % 3 + 1 {
                    let limit = size();
                    if let Some(spec) = union.wants(limit) {
                        union.feed(limit, scan(base, &spec)).unwrap();
                    }
                }
            }
        }
    }
    assert_eq!(union.next(buffer), UnionStep::End, "the end stays the end");
    pairs
}

/// One state of the model: what the transaction has made of values, and on which conditions.
#[derive(Clone, Debug, Default, PartialEq)]
struct Layer {
    values: BTreeMap<Key, Option<Value>>,
    conditions: BTreeSet<Key>,
}

/// What is to be committed, in words of the model.
fn committed(layer: &Layer, locked: &BTreeSet<Key>) -> Vec<(Key, MutationOp)> {
    let keys: BTreeSet<&Key> = layer.values.keys().chain(locked).collect();
    let op = |key: &Key| match (layer.values.get(key), layer.conditions.contains(key)) {
        (None, _) => MutationOp::Lock,
        (Some(Some(value)), true) => MutationOp::Insert(value.clone()),
        (Some(Some(value)), false) => MutationOp::Put(value.clone()),
        (Some(None), true) => MutationOp::CheckNotExists,
        (Some(None), false) => MutationOp::Delete,
    };
    keys.into_iter().map(|key| (key.clone(), op(key))).collect()
}

quickcheck! {
    /// A buffer over a snapshot is one map that all writes went into.
    fn a_buffer_over_a_snapshot_is_a_map(
        base: Vec<(u8, u8)>,
        ops: Vec<(u8, Op, u8)>,
        bounds: (u8, u8),
        pages: Vec<u8>,
        flags: (bool, bool)
    ) -> bool {
        let base: Map = base.into_iter().map(|(k, v)| (key(k), value(v))).collect();
        let (mut view, mut buffer) = (base.clone(), Buffer::default());
        // Keys whose absence in the snapshot is a condition, and what the transaction wrote.
        let (mut conditions, mut touched) = (BTreeSet::new(), BTreeSet::new());
        for (k, op, v) in ops {
            let key = key(k);
            let written = touched.contains(&key) && view.contains_key(&key);
            match op {
                Op::Put => {
                    buffer.put(key.clone(), value(v)).unwrap();
                    view.insert(key.clone(), value(v));
                }
                Op::Delete => {
                    buffer.delete(key.clone()).unwrap();
                    view.remove(&key);
                }
                Op::Insert if written => {
                    assert!(buffer.insert(key.clone(), value(v)).is_err());
                }
                Op::Insert => {
                    buffer.insert(key.clone(), value(v)).unwrap();
                    view.insert(key.clone(), value(v));
                    if !touched.contains(&key) {
                        conditions.insert(key.clone());
                    }
                }
                Op::Lock => {
                    buffer.lock(key.clone()).unwrap();
                    continue;
                }
            }
            touched.insert(key);
        }
        // Gets.
        for n in 0..=255 {
            let key = key(n);
            let seen = buffer.get(&key).unwrap_or_else(|| base.get(&key).cloned());
            assert_eq!(seen.as_ref(), view.get(&key));
        }
        // Scans, page by page.
        let (reverse, key_only) = flags;
        for range in [KeyRange::new(key(bounds.0), key(bounds.1)), KeyRange::default()] {
            let scanned = Union::new(range.clone(), reverse, key_only);
            let pairs = union(&buffer, &base, scanned, &pages);
            let all = ScanSpec { range, limit: u32::MAX, reverse, key_only };
            assert_eq!(pairs, scan(&view, &all), "{all:?}");
        }
        // The commit.
        let (mut after, mut size) = (base, 0);
        let mutations = buffer.mutations();
        assert!(mutations.is_sorted_by(|a, b| a.key < b.key));
        for mutation in mutations {
            size += mutation.size();
            let condition = conditions.remove(&mutation.key);
            match mutation.op {
                MutationOp::Insert(value) if condition => {
                    after.insert(mutation.key, value);
                }
                MutationOp::CheckNotExists if condition => {
                    after.remove(&mutation.key);
                }
                MutationOp::Put(value) if !condition => {
                    after.insert(mutation.key, value);
                }
                MutationOp::Delete if !condition => {
                    after.remove(&mutation.key);
                }
                MutationOp::Lock if !condition => assert!(!touched.contains(&mutation.key)),
                other => panic!("{other:?} on condition: {condition}"),
            }
        }
        assert!(conditions.is_empty());
        after == view && size == buffer.size()
    }

    /// cases.md BUF-15: savepoints are copies of the whole, kept on a stack.
    fn savepoints_are_a_stack_of_maps(steps: Vec<Step>) -> bool {
        let mut buffer = Buffer::default();
        let mut now = Layer::default();
        // Locks are beyond savepoints.
        let mut locked = BTreeSet::new();
        let mut open: Vec<(Savepoint, Layer)> = Vec::new();
        let mut ever: Vec<Savepoint> = Vec::new();
        for step in steps {
            match step {
                Step::Write(k, Op::Put, v) => {
                    buffer.put(key(k), value(v)).unwrap();
                    now.values.insert(key(k), Some(value(v)));
                }
                Step::Write(k, Op::Delete, _) => {
                    buffer.delete(key(k)).unwrap();
                    now.values.insert(key(k), None);
                }
                Step::Write(k, Op::Insert, v) => {
                    let before = now.values.get(&key(k)).cloned();
                    let inserted = buffer.insert(key(k), value(v));
                    let existed = buffer.flags(&key(k)).and_then(Flags::value_existed);
                    let fails = match before {
                        Some(Some(_)) => true,
                        Some(None) => false,
                        None => existed == Some(true),
                    };
                    assert_eq!(inserted.is_err(), fails);
                    if !fails {
                        now.values.insert(key(k), Some(value(v)));
                        if before.is_none() {
                            now.conditions.insert(key(k));
                        }
                    }
                }
                Step::Write(k, Op::Lock, _) => {
                    buffer.lock(key(k)).unwrap();
                    locked.insert(key(k));
                }
                Step::MarkLocked(k, existed) => {
                    buffer.mark_locked(key(k), existed);
                    locked.insert(key(k));
                }
                Step::Unlock(k) => {
                    buffer.unlock(&key(k));
                    locked.remove(&key(k));
                }
                Step::Savepoint => {
                    let savepoint = buffer.savepoint();
                    open.push((savepoint, now.clone()));
                    ever.push(savepoint);
                }
                Step::Release(n) | Step::RollBackTo(n) if ever.is_empty() => {
                    assert!(buffer.savepoints() == 0, "{n}");
                }
                Step::Release(n) => {
                    let savepoint = ever[usize::from(n) % ever.len()];
                    let newest = open.last().is_some_and(|(newest, _)| *newest == savepoint);
                    assert_eq!(buffer.release(savepoint).is_ok(), newest);
                    if newest {
                        open.pop();
                    }
                }
                Step::RollBackTo(n) => {
                    let savepoint = ever[usize::from(n) % ever.len()];
                    let place = open.iter().position(|(open, _)| *open == savepoint);
                    assert_eq!(buffer.roll_back_to(savepoint).is_ok(), place.is_some());
                    if let Some(place) = place {
                        open.truncate(place + 1);
                        now = open[place].1.clone();
                    }
                }
            }
            // All that can be seen, after every step.
            let held: BTreeSet<&Key> = now.values.keys().chain(&locked).collect();
            assert_eq!(buffer.len(), held.len());
            let values = now.values.values().flatten().map(Value::len).sum::<usize>();
            assert_eq!(buffer.size(), held.iter().map(|key| key.len()).sum::<usize>() + values);
            assert_eq!(buffer.savepoints(), open.len());
            assert_eq!(buffer.locked_len(), locked.len());
            assert!(buffer.locked_keys().eq(&locked));
            let kept: Vec<Key> = buffer.iter(&KeyRange::default()).map(|k| k.key.clone()).collect();
            assert!(kept.iter().eq(held));
            for (key, value) in &now.values {
                assert_eq!(buffer.get(key).as_ref(), Some(value));
            }
            let mutations = buffer.mutations().into_iter().map(|m| (m.key, m.op));
            assert_eq!(mutations.collect::<Vec<_>>(), committed(&now, &locked));
            // What was changed since a savepoint is at least what differs from it.
            for (savepoint, then) in &open {
                let since: Vec<_> = buffer.since(*savepoint).unwrap().collect();
                let changed: BTreeSet<&Key> = since.iter().map(|kept| kept.key).collect();
                assert_eq!(changed.len(), since.len(), "each once");
                for kept in since {
                    assert_eq!(now.values.get(kept.key).map(Option::as_ref), kept.value);
                }
                for (key, value) in &now.values {
                    assert!(then.values.get(key) == Some(value) || changed.contains(key));
                }
            }
        }
        true
    }

    /// Whatever page a server makes up, nothing panics, nothing out of place is given out, and no scan
    /// goes on for ever.
    fn made_up_pages_do_no_harm(
        writes: Vec<u8>,
        pages: Vec<(u8, Vec<u8>)>,
        range: (u8, u8),
        reverse: bool
    ) -> bool {
        let mut buffer = Buffer::default();
        for n in writes {
            buffer.put(key(n), "v").unwrap();
        }
        let range = KeyRange::new(key(range.0), key(range.1));
        let mut union = Union::new(range.clone(), reverse, false);
        let pair = |n| KvPair { key: key(n), value: "w".into() };
        let mut pages = pages.into_iter();
        let mut last: Option<Key> = None;
        loop {
            match union.next(&buffer) {
                UnionStep::Pair(pair) => {
                    let in_order = last.is_none_or(|last| {
                        if reverse { pair.key < last } else { pair.key > last }
                    });
                    if !in_order || !range.contains(&pair.key) {
                        return false;
                    }
                    last = Some(pair.key);
                }
                UnionStep::End => return true,
                UnionStep::Feed => {
                    let (limit, page) = pages.next().unwrap_or((1, vec![]));
                    let page: Vec<KvPair> = page.into_iter().map(pair).collect();
                    if union.feed(u32::from(limit).max(1), page).is_err() {
                        return union.next(&buffer) == UnionStep::End;
                    }
                }
            }
        }
    }
}
