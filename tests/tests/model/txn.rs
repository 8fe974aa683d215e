//! Optimistic transactions against what the cluster has committed in the end.
//!
//! Up to three transactions are open at once, and so write over each other, among troubles that
//! include requests which arrive long after they were given up, and the death of the client. Then
//! everything is mended, and the history that the cluster keeps is held against what the client was
//! told:
//!
//! | told | found |
//! |---|---|
//! | committed at `t` | every key written at `t`, visible to every transaction that began after the news |
//! | aborted, or nothing sent | no key written, ever |
//! | undetermined, or nobody was there to be told | all keys at one timestamp, or none |
//! | a value at `t` | the newest that is committed at or before `t` |
//!
//! Whatever two committed transactions wrote to the same key, one began after the other was
//! committed. No lock is left once every key was read and then written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anatase_cluster::{LockKind, WriteKind};
use anatase_core::txn::TxnOptions;
use anatase_core::{
    Cancel, CommitOutcome, CommitPlan, CommittedBy, Error, Instant, KeyMode, KeyRange, KvPair,
    Mutation, MutationOp, OpId, Operation, ReadOperation, Reply, ScanSpec, Timestamp,
};
use anatase_tests::Dice;
use anatase_tests::trouble::{KEYS, Trouble};
use anatase_tests::world::{Network, World};
use bytes::Bytes;
use quickcheck::{Arbitrary, Gen};

use crate::{check, cluster, config, excusable};

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A transaction gets its start timestamp; one that is open in that place is forgotten.
    Begin(u8),
    /// Reads what the transaction in that place sees, or, if there is none, what is there now.
    Read(u8, Look, u32),
    /// Begins to commit; the transaction ends with that.
    Commit(u8, Vec<Write>, Way, u32),
    Strike(Trouble),
    Turn(u8),
    Pass(u16),
    Settle,
    /// The owner of a commit or read gives up.
    Cancel(u8),
    Crash,
}

#[derive(Clone, Debug)]
enum Look {
    Get(u8),
    BatchGet(Vec<u8>),
    Scan { from: u8, to: u8, limit: u8, reverse: bool, key_only: bool },
}

#[derive(Clone, Debug)]
enum Write {
    Put(u8),
    Delete(u8),
    Insert(u8),
    Lock(u8),
    CheckNotExists(u8),
}

/// How a transaction may be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    async_commit: bool,
    one_pc: bool,
    causal: bool,
}

impl Arbitrary for Way {
    fn arbitrary(g: &mut Gen) -> Self {
        Self {
            async_commit: bool::arbitrary(g),
            one_pc: bool::arbitrary(g),
            causal: u8::arbitrary(g) % 4 == 0,
        }
    }
}

const PLACES: u8 = 3;

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        Self { seed: u64::arbitrary(g), steps: Vec::arbitrary(g) }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let seed = self.seed;
        Box::new(self.steps.shrink().map(move |steps| Self { seed, steps }))
    }
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let number = u16::arbitrary(g);
        let place = (number >> 8) as u8 % PLACES;
        let patience = *g.choose(&[50, 500, 5_000, 20_000, 60_000]).expect("one");
        match number % 32 {
            0..6 => Self::Begin(place),
            6..13 => {
                let writes = (0..=u8::arbitrary(g) % 5).map(|_| Write::arbitrary(g)).collect();
                Self::Commit(place, writes, Way::arbitrary(g), patience)
            }
            13..17 => Self::Read(place, Look::arbitrary(g), patience),
            17..26 => Self::Strike(Trouble::arbitrary(g)),
            26..28 => Self::Turn((number >> 8) as u8 % 24),
            28 => Self::Pass(number % 6_000),
            29 => Self::Settle,
            30 => Self::Cancel((number >> 8) as u8),
            _ if number % 64 == 31 => Self::Crash,
            _ => Self::Settle,
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match self.clone() {
            Self::Commit(place, writes, way, patience) => {
                let fewer = writes.shrink().filter(|writes| !writes.is_empty());
                Box::new(fewer.map(move |writes| Self::Commit(place, writes, way, patience)))
            }
            _ => quickcheck::empty_shrinker(),
        }
    }
}

impl Arbitrary for Look {
    fn arbitrary(g: &mut Gen) -> Self {
        let keys = KEYS.len() as u8;
        match u8::arbitrary(g) % 3 {
            0 => Self::Get(u8::arbitrary(g) % keys),
            1 => {
                let many = u8::arbitrary(g) % 9;
                Self::BatchGet((0..many).map(|_| u8::arbitrary(g) % keys).collect())
            }
            _ => Self::Scan {
                from: u8::arbitrary(g) % (keys + 1),
                to: u8::arbitrary(g) % (keys + 1),
                limit: *g.choose(&[0, 1, 2, 5, 100, 100]).expect("one"),
                reverse: bool::arbitrary(g),
                key_only: u8::arbitrary(g) % 4 == 0,
            },
        }
    }
}

impl Arbitrary for Write {
    fn arbitrary(g: &mut Gen) -> Self {
        let key = u8::arbitrary(g) % KEYS.len() as u8;
        match u8::arbitrary(g) % 12 {
            0..6 => Self::Put(key),
            6 | 7 => Self::Delete(key),
            8 | 9 => Self::Insert(key),
            10 => Self::Lock(key),
            _ => Self::CheckNotExists(key),
        }
    }
}

fn key(number: u8) -> Bytes {
    Bytes::from_static(KEYS[usize::from(number)])
}

fn bound(number: u8) -> Bytes {
    KEYS.get(usize::from(number)).copied().map(Bytes::from_static).unwrap_or_default()
}

impl Write {
    /// The mutation of transaction `number`: every transaction writes a value of its own.
    fn mutation(&self, number: usize) -> Mutation {
        let value = || Bytes::from(format!("{number}"));
        let (key, op) = match self {
            Self::Put(k) => (key(*k), MutationOp::Put(value())),
            Self::Delete(k) => (key(*k), MutationOp::Delete),
            Self::Insert(k) => (key(*k), MutationOp::Insert(value())),
            Self::Lock(k) => (key(*k), MutationOp::Lock),
            Self::CheckNotExists(k) => (key(*k), MutationOp::CheckNotExists),
        };
        Mutation::new(key, op)
    }
}

impl Look {
    fn operation(&self) -> ReadOperation {
        match self {
            Self::Get(k) => ReadOperation::Get { key: key(*k) },
            Self::BatchGet(ks) => {
                ReadOperation::BatchGet { keys: ks.iter().map(|k| key(*k)).collect() }
            }
            Self::Scan { from, to, limit, reverse, key_only } => ReadOperation::Scan(ScanSpec {
                range: KeyRange { start: bound(*from), end: bound(*to) },
                limit: u32::from(*limit),
                reverse: *reverse,
                key_only: *key_only,
            }),
        }
    }

    /// What a snapshot whose keys hold what `held` says must answer.
    fn expected(&self, held: impl Fn(&[u8]) -> Option<Bytes>) -> Reply {
        match self {
            Self::Get(k) => Reply::Value(held(KEYS[usize::from(*k)])),
            Self::BatchGet(ks) => {
                Reply::Values(ks.iter().map(|k| held(KEYS[usize::from(*k)])).collect())
            }
            Self::Scan { from, to, limit, reverse, key_only } => {
                let range = KeyRange { start: bound(*from), end: bound(*to) };
                let within = KEYS.into_iter().filter(|key| range.contains(key));
                let mut pairs: Vec<KvPair> = within
                    .filter_map(|key| {
                        let value = held(key)?;
                        let value = if *key_only { Bytes::new() } else { value };
                        Some(KvPair { key: Bytes::from_static(key), value })
                    })
                    .collect();
                if *reverse {
                    pairs.reverse();
                }
                pairs.truncate(usize::from(*limit));
                Reply::Pairs(pairs)
            }
        }
    }
}

/// What is known of how a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Committed(Timestamp),
    /// Certainly nothing was written.
    Aborted,
    /// Either.
    Unknown,
}

#[derive(Debug)]
struct Txn {
    start: Timestamp,
    mutations: Vec<Mutation>,
    fate: Fate,
}

#[derive(Debug)]
enum Flight {
    Read(Look, Timestamp),
    /// By its index.
    Commit(usize),
}

struct Play {
    world: World,
    open: BTreeMap<u8, (Timestamp, Instant)>,
    txns: Vec<Txn>,
    flying: BTreeMap<OpId, Flight>,
    reads: Vec<(Look, Timestamp, Reply)>,
    /// Whoever begins from now on sees everything up to here.
    acknowledged: u64,
}

static COMMITTED: AtomicU64 = AtomicU64::new(0);
static ABORTED: AtomicU64 = AtomicU64::new(0);
static UNKNOWN: AtomicU64 = AtomicU64::new(0);
/// How many were committed in two phases, asynchronously, in one phase.
static BY: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static READS: AtomicU64 = AtomicU64::new(0);
static LOCKS_MET: AtomicU64 = AtomicU64::new(0);
static STRAYS: AtomicU64 = AtomicU64::new(0);

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

impl Play {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Begin(place) => {
                self.open.remove(place);
                let begun = self.world.now();
                if let Ok(start) = self.timestamp() {
                    self.open.insert(*place, (start, begun));
                }
            }
            Step::Read(place, read, patience) => {
                let at = match self.open.get(place) {
                    Some((start, _)) => Some(*start),
                    None => self.timestamp().ok(),
                };
                if let Some(at) = at {
                    let operation = Operation::read(read.operation(), at);
                    self.submit(operation, *patience, Flight::Read(read.clone(), at));
                }
            }
            Step::Commit(place, writes, way, patience) => {
                let Some((start, begun)) = self.open.remove(place) else { return };
                let number = self.txns.len();
                let mutations: BTreeMap<Bytes, Mutation> = writes
                    .iter()
                    .map(|write| write.mutation(number))
                    .map(|mutation| (mutation.key.clone(), mutation))
                    .collect();
                let mutations: Vec<Mutation> = mutations.into_values().collect();
                let txn = Txn { start, mutations: mutations.clone(), fate: Fate::Unknown };
                self.txns.push(txn);
                let open_for = self.world.now().since(begun);
                let mut options = TxnOptions::default();
                options.enable_async_commit = way.async_commit;
                options.enable_one_pc = way.one_pc;
                options.causal_consistency = way.causal;
                let options = Arc::new(options);
                let plan = CommitPlan { open_for, options, ..CommitPlan::new(start, mutations) };
                let operation = Operation::Commit(Box::new(plan));
                self.submit(operation, *patience, Flight::Commit(number));
            }
            Step::Strike(trouble) => trouble.strike(&mut self.world),
            Step::Turn(times) => (0..*times).for_each(|_| {
                self.turn();
            }),
            Step::Pass(ms) => {
                self.world.pass(Duration::from_millis(u64::from(*ms)));
                self.collect();
            }
            Step::Settle => self.settle(),
            Step::Cancel(which) => {
                let at = usize::from(*which) % self.flying.len().max(1);
                let Some(id) = self.flying.keys().nth(at).copied() else { return };
                let cancel = self.world.cancel(id);
                if let Some(Flight::Commit(number)) = self.flying.remove(&id)
                    && matches!(cancel, Cancel::RollingBack | Cancel::Stopped)
                {
                    self.txns[number].fate = Fate::Aborted;
                }
            }
            Step::Crash => {
                self.world.crash();
                self.flying.clear();
                self.open.clear();
            }
        }
    }

    fn submit(&mut self, operation: Operation, patience: u32, flight: Flight) {
        let id = self.world.submit(operation, Duration::from_millis(u64::from(patience)));
        self.flying.insert(id, flight);
        self.collect();
    }

    /// A fresh timestamp, unless PD cannot be reached for half a minute.
    fn timestamp(&mut self) -> Result<Timestamp, Error> {
        let floor = self.acknowledged;
        let op = self.world.submit(Operation::Timestamp, Duration::from_secs(30));
        let result = loop {
            match self.world.take(op) {
                Some(result) => break result,
                None => self.turn(),
            };
        };
        match result {
            Ok(Reply::Timestamp(at)) => {
                assert!(at.version() > floor, "{at:?} after {floor}");
                self.acknowledged = self.acknowledged.max(at.version());
                Ok(at)
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert!(excusable(error.kind()), "{error:?}");
                Err(error)
            }
        }
    }

    fn turn(&mut self) -> bool {
        let going = self.world.turn();
        self.collect();
        going
    }

    fn settle(&mut self) {
        while !self.flying.is_empty() {
            assert!(self.turn(), "something is waited for");
        }
    }

    fn collect(&mut self) {
        let ids: Vec<OpId> = self.flying.keys().copied().collect();
        for id in ids {
            if let Some(result) = self.world.take(id)
                && let Some(flight) = self.flying.remove(&id)
            {
                self.judge(flight, result);
            }
        }
    }

    fn judge(&mut self, flight: Flight, result: Result<Reply, Error>) {
        match (flight, result) {
            (Flight::Commit(number), Ok(Reply::Commit(outcome))) => {
                let txn = &mut self.txns[number];
                txn.fate = match outcome {
                    CommitOutcome::Committed { at, by, .. } => {
                        assert!(at > txn.start, "{txn:?} at {at:?}");
                        count(&BY[by as usize], 1);
                        // What stores choose may be what PD hands out next: visible to whoever
                        // begins then (transactions.md §22.9, §22.10).
                        let before = u64::from(by != CommittedBy::TwoPhase);
                        self.acknowledged = self.acknowledged.max(at.version() - before);
                        Fate::Committed(at)
                    }
                    CommitOutcome::Aborted(error) => {
                        assert!(excusable(error.kind()), "{error:?}");
                        assert!(!error.is_undetermined(), "{error:?}");
                        Fate::Aborted
                    }
                    CommitOutcome::Undetermined(error) => {
                        assert!(error.is_undetermined(), "{error:?}");
                        Fate::Unknown
                    }
                };
            }
            // Nothing was sent.
            (Flight::Commit(number), Err(error)) => {
                assert!(excusable(error.kind()) && !error.is_undetermined(), "{error:?}");
                self.txns[number].fate = Fate::Aborted;
            }
            (Flight::Read(..), Err(error)) => {
                assert!(excusable(error.kind()) && !error.is_undetermined(), "{error:?}");
            }
            (Flight::Read(read, at), Ok(reply)) => self.reads.push((read, at, reply)),
            (flight, reply) => panic!("{flight:?} is answered by {reply:?}"),
        }
    }

    fn end(mut self) {
        self.settle();
        self.world.heal();
        // Whatever locks there are expire: none lives longer than twenty seconds from its commit.
        self.world.pass(Duration::from_secs(60));
        // One by one, each at a timestamp of its own: a snapshot that has learned of a transaction's
        // fate passes its other locks by.
        for k in 0..KEYS.len() as u8 {
            let at = self.timestamp().expect("PD works");
            let read = Look::Get(k);
            let operation = Operation::read(read.operation(), at);
            let reply = self.world.run(operation, Duration::from_secs(60));
            self.reads.push((read, at, reply.expect("after healing")));
        }
        self.world.pass(Duration::from_secs(60));
        // Locks that hide nothing are none of a reader's business.
        let locks = self.world.cluster.locks();
        assert!(locks.iter().all(|lock| lock.kind == LockKind::Lock), "{locks:?}");

        let start = self.timestamp().expect("PD works");
        let mutations: Vec<Mutation> =
            (0..KEYS.len() as u8).map(|k| Write::Put(k).mutation(self.txns.len())).collect();
        self.txns.push(Txn { start, mutations: mutations.clone(), fate: Fate::Unknown });
        let plan = CommitPlan::new(start, mutations);
        let operation = Operation::Commit(Box::new(plan));
        let result = self.world.run(operation, Duration::from_secs(60));
        self.judge(Flight::Commit(self.txns.len() - 1), result);
        let last = self.txns.last().map(|txn| txn.fate.clone());
        assert!(matches!(last, Some(Fate::Committed(_))), "after healing: {last:?}");
        self.world.pass(Duration::from_secs(60));
        assert_eq!(self.world.cluster.locks(), []);
        assert!(self.world.is_quiet(), "{:?}", self.world);
        self.verify();
        count(&LOCKS_MET, self.world.core().stats().locks_met as usize);
        count(&STRAYS, self.world.core().stats().stray_responses as usize);
    }

    /// What was told, against what is there.
    fn verify(&self) {
        let cluster = &self.world.cluster;
        for (read, at, reply) in &self.reads {
            let expected = read.expected(|key| cluster.committed(key, at.version()));
            assert_eq!(*reply, expected, "{read:?} at {at:?}");
        }
        count(&READS, self.reads.len());
        for (number, txn) in self.txns.iter().enumerate() {
            self.verify_txn(number, txn);
        }
        for key in KEYS {
            let mut spans: Vec<(u64, u64)> = cluster
                .writes(key)
                .iter()
                .filter(|write| write.kind != WriteKind::Rollback)
                .map(|write| (write.commit_ts, write.start_ts))
                .collect();
            spans.sort_unstable();
            for pair in spans.windows(2) {
                assert!(pair[0].0 <= pair[1].1, "{key:?}: {pair:?} overlap");
            }
        }
    }

    fn verify_txn(&self, number: usize, txn: &Txn) {
        let cluster = &self.world.cluster;
        let start = txn.start.version();
        let mut commits = BTreeSet::new();
        let mut written = 0;
        let locking: Vec<&Mutation> = txn.mutations.iter().filter(|m| m.locks()).collect();
        for mutation in &locking {
            let writes = cluster.writes(&mutation.key);
            let mine = writes
                .iter()
                .find(|write| write.start_ts == start && write.kind != WriteKind::Rollback);
            let Some(write) = mine else { continue };
            written += 1;
            commits.insert(write.commit_ts);
            let (kind, value) = match &mutation.op {
                MutationOp::Put(value) | MutationOp::Insert(value) => {
                    (WriteKind::Put, value.clone())
                }
                MutationOp::Delete => (WriteKind::Delete, Bytes::new()),
                _ => (WriteKind::Lock, Bytes::new()),
            };
            assert_eq!((write.kind, &write.value), (kind, &value), "{txn:?}");
        }
        let context = format!("transaction {number} {txn:?}: {written} keys at {commits:?}");
        assert!(written == 0 || written == locking.len(), "{context}");
        assert!(commits.len() <= 1, "{context}");
        match txn.fate {
            Fate::Committed(at) => {
                count(&COMMITTED, 1);
                assert_eq!(written, locking.len(), "{context}");
                assert!(commits.iter().all(|commit| *commit == at.version()), "{context}");
            }
            Fate::Aborted => {
                count(&ABORTED, 1);
                assert_eq!(written, 0, "{context}");
            }
            Fate::Unknown => count(&UNKNOWN, 1),
        }
        if matches!(txn.fate, Fate::Committed(_)) || written > 0 {
            for mutation in &txn.mutations {
                if let MutationOp::Insert(_) | MutationOp::CheckNotExists = mutation.op {
                    let held = cluster.committed(&mutation.key, start);
                    assert_eq!(held, None, "{context}: {mutation:?}");
                }
            }
        }
    }
}

fn holds(case: Case) -> bool {
    let mut dice = Dice::new(case.seed);
    let cluster = cluster(KeyMode::Txn, &mut dice);
    let config = config(KeyMode::Txn, &cluster, &mut dice);
    let late = Duration::from_millis([400, 20_000][dice.below(2) as usize]);
    let network = Network { late, strays: true, ..Network::default() };
    let world = World::new(cluster, config, network, case.seed);
    let mut play = Play {
        world,
        open: BTreeMap::new(),
        txns: Vec::new(),
        flying: BTreeMap::new(),
        reads: Vec::new(),
        acknowledged: 0,
    };
    for step in &case.steps {
        play.step(step);
    }
    play.end();
    true
}

#[test]
fn transactions_among_troubles_are_what_they_were_told_to_be() {
    check(holds as fn(Case) -> bool, 100, 5_000);
    let seen = [&COMMITTED, &ABORTED, &UNKNOWN, &READS, &LOCKS_MET, &STRAYS];
    let [committed, aborted, unknown, reads, locks, strays] =
        seen.map(|count| count.load(Ordering::Relaxed));
    let by = BY.each_ref().map(|count| count.load(Ordering::Relaxed));
    let told = format!(
        "{committed} committed {by:?}, {aborted} aborted, {unknown} unknown, {reads} reads, {locks} locks \
         met, {strays} stray answers"
    );
    #[allow(clippy::print_stdout, reason = "shown with --nocapture")]
    {
        println!("{told}");
    }
    assert!(committed > aborted && aborted > 0 && unknown > 0, "{told}");
    assert!(by.iter().all(|ways| *ways > 0), "{told}");
    assert!(reads > 0 && locks > committed / 20 && strays > 0, "{told}");
}
