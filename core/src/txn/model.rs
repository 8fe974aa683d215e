//! The buffer against a model: one map that every write goes into.

use std::collections::{BTreeMap, BTreeSet};

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::buffer::*;
use crate::operation::{Key, KeyRange, KvPair, MutationOp, ScanSpec, Value};

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

type Map = BTreeMap<Key, Value>;

fn key(n: u8) -> Key {
    // The empty key is among them, and prefixes of each other.
    Key::copy_from_slice(&b"aab"[..usize::from(n % 4)])
        .into_iter()
        .chain(if n < 64 { vec![] } else { vec![n % 8] })
        .collect()
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

quickcheck! {
    /// A buffer over a snapshot is one map that all writes went into.
    fn a_buffer_over_a_snapshot_is_a_map(
        base: Vec<(u8, u8)>,
        ops: Vec<(u8, Op, u8)>,
        start: u8,
        end: u8,
        limit: u8,
        flags: (bool, bool)
    ) -> bool {
        let value = |n: u8| Value::from(vec![n]);
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
        let range = KeyRange { start: key(start), end: key(end) };
        let spec = ScanSpec { range, limit: u32::from(limit % 16), reverse, key_only };
        let (mut pairs, mut next) = (Vec::new(), Some(spec.clone()));
        while let Some(spec) = next {
            let seen = buffer.overlay(&spec, scan(&base, &spec));
            pairs.extend(seen.pairs);
            next = seen.rest;
        }
        assert_eq!(pairs, scan(&view, &spec));
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

    /// Whatever page a server makes up, nothing panics and no scan goes on for ever.
    fn made_up_pages_do_no_harm(
        writes: Vec<u8>,
        page: Vec<u8>,
        range: (u8, u8),
        limit: u8,
        reverse: bool
    ) -> bool {
        let mut buffer = Buffer::default();
        for n in writes {
            buffer.put(key(n), "v").unwrap();
        }
        let range = KeyRange { start: key(range.0), end: key(range.1) };
        let spec = ScanSpec { range, limit: limit.into(), reverse, key_only: false };
        let pair = |n| KvPair { key: key(n), value: "w".into() };
        let seen = buffer.overlay(&spec, page.into_iter().map(pair).collect());
        seen.pairs.len() <= usize::from(limit)
    }
}
