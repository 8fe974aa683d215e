//! Snapshot reads against a history: after any transactions, a read at any timestamp sees exactly
//! what the committed ones at or below it left, whichever way they were committed (cases.md PRP-01,
//! PRP-05). What may happen between transactions side by side is in [`super::history`].

use std::collections::BTreeMap;

use anatase_proto::kvrpcpb::{Op, ScanRequest};
use quickcheck::{Arbitrary, Gen, quickcheck};

use crate::{
    ClusterConfig,
    testing::{in_async, in_one_phase, key},
};

const KEYS: [&str; 6] = ["", "a", "ab", "b", "m", "zz"];

/// What a transaction does to one key.
#[derive(Clone, Copy, Debug)]
enum Does {
    Put(u8),
    Delete,
    Lock,
}

/// How it commits.
#[derive(Clone, Copy, Debug)]
enum Way {
    TwoPhase,
    Async,
    OnePhase,
}

/// A transaction, in the order in which they run, one after the other.
#[derive(Clone, Debug)]
struct Txn {
    writes: Vec<(usize, Does)>,
    commits: bool,
    way: Way,
    /// It begins so long before the last one ended; conflicts may follow.
    early: u8,
}

impl Arbitrary for Txn {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut writes = BTreeMap::new();
        for _ in 0..=usize::arbitrary(g) % 3 {
            let does = match u8::arbitrary(g) % 4 {
                0 | 1 => Does::Put(Arbitrary::arbitrary(g)),
                2 => Does::Delete,
                _ => Does::Lock,
            };
            writes.insert(usize::arbitrary(g) % KEYS.len(), does);
        }
        let early = if bool::arbitrary(g) { u8::arbitrary(g) % 8 } else { 0 };
        let way = match u8::arbitrary(g) % 4 {
            0 => Way::Async,
            1 => Way::OnePhase,
            _ => Way::TwoPhase,
        };
        let commits = u8::arbitrary(g) % 4 != 0;
        Txn { writes: writes.into_iter().collect(), commits, way, early }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let Txn { writes, commits, way, early } = self.clone();
        let fewer = (0..writes.len()).filter(move |_| writes.len() > 1).map({
            let writes = self.writes.clone();
            move |at| {
                let mut writes = writes.clone();
                writes.remove(at);
                Txn { writes, commits, way, early }
            }
        });
        Box::new(fewer)
    }
}

/// Of each key: at which timestamp it got which value, or none.
type History = BTreeMap<usize, BTreeMap<u64, Option<String>>>;

fn at(history: &History, name: usize, ts: u64) -> Option<String> {
    history.get(&name)?.range(..=ts).next_back()?.1.clone()
}

quickcheck! {
    fn reads_are_of_the_history(txns: Vec<Txn>, split: Option<usize>) -> bool {
        let mut cluster = ClusterConfig::default().stores(1).build();
        let mut history = History::new();
        let mut now = 10_000;
        for (turn, txn) in (0..).zip(&txns) {
            now += 1000;
            let start_ts = now - u64::from(txn.early) * 600 + turn;
            let value = |byte: u8| format!("{byte}@{start_ts}");
            let values: Vec<(Op, &str, String)> = txn.writes.iter().map(|(name, does)| {
                match does {
                    Does::Put(byte) => (Op::Put, KEYS[*name], value(*byte)),
                    Does::Delete => (Op::Del, KEYS[*name], String::new()),
                    Does::Lock => (Op::Lock, KEYS[*name], String::new()),
                }
            }).collect();
            let mutations: Vec<_> =
                values.iter().map(|(op, name, value)| (*op, *name, value.as_str())).collect();
            let names: Vec<_> = mutations.iter().map(|(_, name, _)| *name).collect();
            let response = cluster.prewritten(start_ts, &mutations, |request| match txn.way {
                Way::TwoPhase => {}
                Way::Async => in_async(&names[1..])(request),
                Way::OnePhase => in_one_phase(request),
            });
            let at_once = response.one_pc_commit_ts != 0;
            let commit_ts = match (response.one_pc_commit_ts, response.min_commit_ts) {
                (0, 0) => now + 500,
                (0, ts) | (ts, _) => ts,
            };
            if !response.errors.is_empty() {
                // A conflict: nothing of it may be seen.
                cluster.roll_back(start_ts, &names);
            } else if !txn.commits && !at_once {
                assert_eq!(cluster.roll_back(start_ts, &names), None);
            } else {
                assert_eq!(cluster.commit(start_ts, commit_ts, &names), None);
                for (name, does) in &txn.writes {
                    let value = match does {
                        Does::Put(byte) => Some(value(*byte)),
                        Does::Delete => None,
                        Does::Lock => continue,
                    };
                    history.entry(*name).or_default().insert(commit_ts, value);
                }
            }
        }
        let split = split.map(|split| KEYS[split % KEYS.len()]).filter(|name| !name.is_empty());
        if let Some(name) = split {
            cluster.split(name);
        }
        for ts in (10_000..now + 2000).step_by(250).chain([u64::MAX]) {
            let expected: Vec<(usize, String)> = (0..KEYS.len())
                .filter_map(|name| Some((name, at(&history, name, ts)?)))
                .collect();
            for (name, text) in KEYS.iter().enumerate() {
                let read = cluster.read(text, ts);
                assert_eq!(read, Ok(at(&history, name, ts)), "{text:?} at {ts}");
                let without_locks = cluster.committed(text, ts);
                assert_eq!(without_locks, at(&history, name, ts).map(|value| key(&value)));
            }
            // Region by region, forward and backward.
            let rows: Vec<String> =
                expected.iter().map(|(name, value)| format!("{}={value}", KEYS[*name])).collect();
            let scan = |start: &str, end: &str, reverse| ScanRequest {
                start_key: key(start), end_key: key(end), limit: 100, version: ts, reverse,
                ..Default::default()
            };
            let mut up = cluster.rows(scan("", split.unwrap_or(""), false));
            if let Some(name) = split {
                up.extend(cluster.rows(scan(name, "", false)));
            }
            assert_eq!(up, rows);
            let mut down = cluster.rows(scan("zzz", split.unwrap_or(""), true));
            if let Some(name) = split {
                // Down from the bound, which is in the right region: ask for the left one.
                let left = cluster.region_of(b"").unwrap().id;
                let context = Some(Box::new(cluster.context_for(left)));
                let request = ScanRequest { context, ..scan(name, "", true) };
                let pairs = cluster.call(1, request).result.unwrap().pairs;
                let row = |pair: anatase_proto::kvrpcpb::KvPair| format!(
                    "{}={}", crate::testing::text(&pair.key), crate::testing::text(&pair.value)
                );
                down.extend(pairs.into_iter().map(row));
            }
            down.reverse();
            assert_eq!(down, rows);
        }
        true
    }
}
