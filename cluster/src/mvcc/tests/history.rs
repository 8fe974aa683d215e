//! What was read stays so, and transactions are atomic: transactions of all three ways to commit,
//! side by side, on regions that split, merge and change leaders, with clients that die at any
//! point and are recovered from (transactions.md §16.3, §20, §22.23; cases.md ASY-04 to ASY-06,
//! ASY-09, ASY-11, OPC-02, PRP-01, PRP-05).

use std::collections::BTreeMap;

use anatase_proto::kvrpcpb::Op;
use quickcheck::{Arbitrary, Gen, quickcheck};

use crate::{
    Cluster, ClusterConfig, WriteKind,
    testing::{key, text},
};

const KEYS: [&str; 5] = ["a", "c", "e", "g", "i"];
const BOUNDS: [&str; 4] = ["b", "d", "f", "h"];
const STORES: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Way {
    TwoPhase,
    Async,
    OnePhase,
}

/// One step of somebody. Numbers name what is there, modulo how much there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A transaction begins that is going to write these keys (bits), the lowest of which is its
    /// primary; with so little room above its start that it may have to fall back, or with enough.
    Begin {
        keys: u8,
        way: Way,
        tight: bool,
    },
    /// A transaction sends its next request, in this order or the other: a prewrite, or a commit.
    Go {
        txn: u8,
        backward: bool,
    },
    /// A key is read at one of the timestamps so far, or at the latest.
    Read {
        key: u8,
        at: u8,
    },
    /// All locks are taken for left behind.
    Recover,
    Split(u8),
    Merge(u8, bool),
    Lead(u8, u8),
    /// A store goes down and comes back, and what it led has other leaders.
    Restart(u8),
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut byte = || u8::arbitrary(g);
        match byte() % 24 {
            0..4 => Step::Begin {
                keys: byte(),
                way: match byte() % 4 {
                    0 => Way::TwoPhase,
                    1 => Way::OnePhase,
                    _ => Way::Async,
                },
                tight: byte() % 4 == 0,
            },
            4..12 => Step::Go { txn: byte(), backward: byte() % 2 == 0 },
            12..18 => Step::Read { key: byte(), at: byte() },
            18 => Step::Recover,
            19 => Step::Split(byte()),
            20 => Step::Merge(byte(), byte() % 2 == 0),
            21 | 22 => Step::Lead(byte(), byte()),
            _ => Step::Restart(byte()),
        }
    }
}

/// A transaction, as its client sees it.
struct Txn {
    start_ts: u64,
    keys: Vec<&'static str>,
    way: Way,
    max_commit_ts: u64,
    /// Keys that are to be prewritten still.
    left: Vec<&'static str>,
    min_commit_ts: u64,
    /// It has failed, or its client has.
    over: bool,
    /// What the client told its user.
    told: Option<u64>,
}

struct World {
    cluster: Cluster,
    txns: Vec<Txn>,
    timestamps: Vec<u64>,
    /// What was read, by key and timestamp.
    seen: BTreeMap<(&'static str, u64), Option<String>>,
}

impl World {
    fn new() -> Self {
        let cluster =
            ClusterConfig::default().stores(STORES as usize).split_keys(["d", "h"]).build();
        World { cluster, txns: Vec::new(), timestamps: Vec::new(), seen: BTreeMap::new() }
    }

    fn now(&mut self) -> u64 {
        let ts = self.cluster.timestamp();
        self.timestamps.push(ts);
        ts
    }

    fn step(&mut self, step: Step) {
        let regions: Vec<u64> = self.cluster.regions().map(|region| region.id).collect();
        match step {
            Step::Begin { keys, way, tight } => {
                let start_ts = self.now();
                let bits = (0..KEYS.len()).filter(|bit| keys >> bit & 1 == 1);
                let keys: Vec<_> = bits.map(|bit| KEYS[bit]).collect();
                let room = if tight { 3 } else { 0 };
                let max_commit_ts = if tight { start_ts + room } else { 0 };
                let (left, over) = (keys.clone(), keys.is_empty());
                let (min_commit_ts, told) = (start_ts + 1, None);
                self.txns.push(Txn {
                    start_ts,
                    keys,
                    way,
                    max_commit_ts,
                    left,
                    min_commit_ts,
                    over,
                    told,
                });
            }
            Step::Go { txn, backward } if !self.txns.is_empty() => {
                self.now();
                let at = usize::from(txn) % self.txns.len();
                let mut txn = self.txns.remove(at);
                if !txn.over {
                    self.go(&mut txn, backward);
                }
                self.txns.insert(at, txn);
            }
            Step::Read { key, at } if !self.timestamps.is_empty() => {
                let name = KEYS[usize::from(key) % KEYS.len()];
                let at = self.timestamps[usize::from(at) % self.timestamps.len()];
                self.read(name, at);
                // Blocked by a lock, or not: it is no promise.
                let _ = self.cluster.read(name, u64::MAX);
            }
            Step::Go { .. } | Step::Read { .. } => {}
            Step::Recover => self.recover(),
            Step::Split(at) => {
                self.cluster.split(BOUNDS[usize::from(at) % BOUNDS.len()]);
            }
            Step::Merge(at, forward) => {
                if let [left, right, ..] = regions[usize::from(at) % regions.len()..] {
                    let (source, target) = if forward { (left, right) } else { (right, left) };
                    self.cluster.merge(source, target);
                }
            }
            Step::Lead(region, store) => {
                let region = regions[usize::from(region) % regions.len()];
                self.cluster.transfer_leader(region, 1 + u64::from(store) % STORES);
            }
            Step::Restart(store) => {
                let store = 1 + u64::from(store) % STORES;
                self.cluster.stop_store(store);
                self.cluster.elect_leaders();
                self.cluster.start_store(store);
            }
        }
    }

    fn read(&mut self, name: &'static str, at: u64) {
        let Ok(value) = self.cluster.read(name, at) else { return };
        let first = self.seen.entry((name, at)).or_insert_with(|| value.clone());
        assert_eq!(*first, value, "{name} at {at} was read before, and differently");
    }

    fn go(&mut self, txn: &mut Txn, backward: bool) {
        if txn.left.is_empty() {
            return self.commit(txn);
        }
        let regions = &self.cluster;
        let home = regions.region_of(txn.keys[0].as_bytes()).unwrap();
        let one_region =
            txn.keys.iter().all(|name| home.contains(&crate::codec::encode_key(name.as_bytes())));
        let whole = matches!(txn.way, Way::OnePhase) && txn.left.len() == txn.keys.len();
        let one_phase = whole && one_region;
        let names: Vec<&str> = if one_phase {
            std::mem::take(&mut txn.left)
        } else if backward {
            vec![txn.left.pop().unwrap()]
        } else {
            vec![txn.left.remove(0)]
        };
        let value = format!("{}", txn.start_ts);
        let puts: Vec<_> = names.iter().map(|name| (Op::Put, *name, value.as_str())).collect();
        let use_async = matches!(txn.way, Way::Async);
        let response = self.cluster.prewritten(txn.start_ts, &puts, |request| {
            request.primary_lock = key(txn.keys[0]);
            request.use_async_commit = use_async;
            request.try_one_pc = one_phase;
            request.min_commit_ts = txn.min_commit_ts;
            request.max_commit_ts = txn.max_commit_ts;
            if use_async && names.contains(&txn.keys[0]) {
                request.secondaries = txn.keys[1..].iter().map(|name| key(name)).collect();
            }
        });
        assert_eq!(response.region_error, None);
        if !response.errors.is_empty() {
            txn.over = true;
            for name in &txn.keys {
                self.cluster.roll_back(txn.start_ts, &[name]);
            }
            return;
        }
        if one_phase && response.one_pc_commit_ts != 0 {
            txn.told = Some(response.one_pc_commit_ts);
            txn.over = true;
        }
        match response.min_commit_ts {
            0 => txn.way = Way::TwoPhase,
            ts => txn.min_commit_ts = txn.min_commit_ts.max(ts),
        }
        if txn.left.is_empty() && matches!(txn.way, Way::Async) {
            txn.told = Some(txn.min_commit_ts);
        }
    }

    fn commit(&mut self, txn: &mut Txn) {
        txn.over = true;
        let commit_ts = match txn.told {
            Some(ts) => ts,
            None => self.now(),
        };
        let error = self.cluster.commit(txn.start_ts, commit_ts, &txn.keys[..1]);
        if txn.told.is_some() {
            assert_eq!(error, None, "decided by the locks");
        } else if error.is_none() {
            txn.told = Some(commit_ts);
        }
        // The other keys are left to whoever meets them.
    }

    /// What a resolver does with locks that it takes for expired.
    fn recover(&mut self) {
        for lock in self.cluster.locks() {
            let (primary, start_ts) = (text(&lock.primary), lock.start_ts);
            if self.cluster.locks_of(start_ts).is_empty() {
                continue;
            }
            let mut status = self.status(&primary, start_ts, false);
            let mut keys = vec![text(&lock.key)];
            let mut commit_ts = status.commit_version;
            if let Some(info) = status.lock_info.take() {
                assert!(info.use_async_commit, "nothing else is left alive");
                commit_ts = info.min_commit_ts;
                let others: Vec<String> = info.secondaries.iter().map(|name| text(name)).collect();
                keys = others.clone();
                keys.push(primary.clone());
                for name in others {
                    let found = self.cluster.secondaries(start_ts, &[&name]);
                    match found.locks.first() {
                        None => {
                            commit_ts = found.commit_ts;
                            break;
                        }
                        Some(other) if other.use_async_commit => {
                            commit_ts = commit_ts.max(other.min_commit_ts);
                        }
                        Some(_) => {
                            let forced = self.status(&primary, start_ts, true);
                            assert_eq!(forced.lock_ttl, 0);
                            commit_ts = forced.commit_version;
                            break;
                        }
                    }
                }
            }
            for name in keys {
                let held = self.cluster.locks_of(start_ts);
                if held.iter().any(|lock| text(&lock.key) == name) {
                    let error = self.cluster.resolve(&[(start_ts, commit_ts)], &[&name]);
                    assert_eq!(error, None, "{name} of {start_ts} at {commit_ts}");
                }
            }
        }
    }

    fn status(
        &mut self,
        primary: &str,
        start_ts: u64,
        force: bool,
    ) -> anatase_proto::kvrpcpb::CheckTxnStatusResponse {
        let status = self.cluster.status(primary, start_ts, |request| {
            request.current_ts = u64::MAX;
            request.rollback_if_not_exist = true;
            request.force_sync_commit = force;
        });
        assert_eq!(status.error, None);
        status
    }

    /// Ends all, and looks at what there is.
    fn check(mut self) {
        self.recover();
        assert_eq!(self.cluster.locks(), []);
        for ((name, at), _) in self.seen.clone() {
            self.read(name, at);
            assert!(self.cluster.read(name, at).is_ok());
        }
        for txn in &self.txns {
            let commits: Vec<Option<u64>> = txn
                .keys
                .iter()
                .map(|name| {
                    let writes = self.cluster.writes(name);
                    let mut own = writes.iter().filter(|write| write.start_ts == txn.start_ts);
                    own.find(|write| write.kind != WriteKind::Rollback).map(|it| it.commit_ts)
                })
                .collect();
            let alike = commits.windows(2).all(|pair| pair[0] == pair[1]);
            assert!(alike, "all or none of {} at one time: {commits:?}", txn.start_ts);
            if let (Some(told), Some(first)) = (txn.told, commits.first()) {
                assert_eq!(*first, Some(told), "{} was told to be committed", txn.start_ts);
            }
        }
    }
}

quickcheck! {
    fn what_was_read_stays_so_and_transactions_are_atomic(steps: Vec<Step>) -> bool {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.check();
        true
    }
}

/// The property needs this: a merge forgets what the source's store read, unless PD is asked.
#[test]
fn a_merge_does_not_let_a_commit_slip_under_a_read() {
    let mut world = World::new();
    let [left, right] = ["a", "e"].map(|name| world.cluster.region_of(name.as_bytes()).unwrap().id);
    assert_ne!(world.cluster.leader_of(left), world.cluster.leader_of(right));
    world.step(Step::Begin { keys: 0b100, way: Way::Async, tight: false });
    for _ in 0..9 {
        world.now();
    }
    let at = world.now();
    world.read("e", at);
    assert!(world.cluster.merge(right, left));
    world.step(Step::Go { txn: 0, backward: false });
    assert!(world.txns[0].told.unwrap() > at);
    world.read("e", at);
    world.check();
}
