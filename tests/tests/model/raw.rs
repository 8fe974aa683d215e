//! Raw operations against a sorted map.
//!
//! Several operations may be under way at once as long as none writes what another reads or writes;
//! so at any time each key has one value, or, after a write whose result is in doubt, one of several
//! until somebody reads it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anatase_core::{
    ColumnFamily, Error, KeyMode, KeyRange, KvPair, OpId, Operation, RawCompareAndSwap,
    RawOperation, RawSwap, Reply, ScanSpec,
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
    /// Begins, once nothing is under way that it would meet.
    Start(Op, u32),
    Strike(Trouble),
    /// Lets so many things happen.
    Turn(u8),
    Pass(u16),
    /// Waits for all.
    Settle,
    /// The owner of an operation gives up.
    Cancel(u8),
    Crash,
}

/// Keys are numbers of [`KEYS`]. A bound may be one more than those: the open end.
#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Put(u8),
    Delete(u8),
    BatchGet(Vec<u8>),
    BatchPut(Vec<u8>),
    BatchDelete(Vec<u8>),
    DeleteRange(u8, u8),
    /// Expects what is there, or something else; writes, or deletes.
    Swap {
        key: u8,
        right: bool,
        delete: bool,
    },
    Scan {
        from: u8,
        to: u8,
        limit: u8,
        reverse: bool,
        key_only: bool,
    },
}

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
        match number % 32 {
            0..17 => {
                let patience = *g.choose(&[30, 300, 5_000, 20_000, 60_000]).expect("one");
                Self::Start(Op::arbitrary(g), patience)
            }
            17..26 => Self::Strike(Trouble::arbitrary(g)),
            26..28 => Self::Turn((number >> 8) as u8 % 24),
            28 => Self::Pass(number % 3_000),
            29 => Self::Settle,
            30 => Self::Cancel((number >> 8) as u8),
            _ if number % 128 == 31 => Self::Crash,
            _ => Self::Settle,
        }
    }
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        let keys = KEYS.len() as u8;
        let which = u8::arbitrary(g) % 16;
        let key = u8::arbitrary(g) % keys;
        let flag = bool::arbitrary(g);
        let mut list =
            || -> Vec<u8> { (0..u8::arbitrary(g) % 9).map(|_| u8::arbitrary(g) % keys).collect() };
        match which {
            0 => Self::Get(key),
            1..4 => Self::Put(key),
            4 => Self::Delete(key),
            5..7 => Self::BatchGet(list()),
            7..9 => Self::BatchPut(list()),
            9 => Self::BatchDelete(list()),
            10 => Self::DeleteRange(key, u8::arbitrary(g) % (keys + 1)),
            11 => Self::Swap { key, right: u8::arbitrary(g) % 4 != 0, delete: flag },
            _ => Self::Scan {
                from: u8::arbitrary(g) % (keys + 1),
                to: u8::arbitrary(g) % (keys + 1),
                limit: *g.choose(&[0, 1, 2, 3, 5, 100, 100]).expect("one"),
                reverse: flag,
                key_only: u8::arbitrary(g) % 4 == 0,
            },
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match self {
            Self::BatchGet(keys) => Box::new(keys.shrink().map(Self::BatchGet)),
            Self::BatchPut(keys) => Box::new(keys.shrink().map(Self::BatchPut)),
            Self::BatchDelete(keys) => Box::new(keys.shrink().map(Self::BatchDelete)),
            _ => quickcheck::empty_shrinker(),
        }
    }
}

fn key(number: u8) -> Bytes {
    Bytes::from_static(KEYS[usize::from(number)])
}

fn keys(numbers: &[u8]) -> Vec<Bytes> {
    numbers.iter().map(|number| key(*number)).collect()
}

/// As a start the open end is before all keys, as an end behind them.
fn bound(number: u8) -> Bytes {
    KEYS.get(usize::from(number)).copied().map(Bytes::from_static).unwrap_or_default()
}

/// Every value is written once, so that an old one is never taken for a new one. Some are empty.
fn value(number: u64, at: usize) -> Bytes {
    if number % 16 == 3 { Bytes::new() } else { format!("{number}.{at}").into() }
}

impl Op {
    fn operation(&self, number: u64, model: &Model) -> RawOperation {
        let atomic = false;
        match self {
            Self::Get(k) => RawOperation::Get { key: key(*k) },
            Self::Put(k) => {
                RawOperation::Put { key: key(*k), value: value(number, 0), ttl_secs: 0, atomic }
            }
            Self::Delete(k) => RawOperation::Delete { key: key(*k), atomic },
            Self::BatchGet(ks) => RawOperation::BatchGet { keys: keys(ks) },
            Self::BatchPut(_) => {
                let pairs = self.writes(number).into_iter();
                let pairs = pairs
                    .map(|(key, value)| KvPair { key, value: value.unwrap_or_default() })
                    .collect();
                RawOperation::BatchPut { pairs, ttls_secs: vec![0], atomic }
            }
            Self::BatchDelete(ks) => RawOperation::BatchDelete { keys: keys(ks), atomic },
            Self::DeleteRange(..) => RawOperation::DeleteRange { range: self.range() },
            Self::Swap { key: k, delete, .. } => {
                let swap = match delete {
                    true => RawSwap::Delete,
                    false => RawSwap::Put { value: value(number, 0), ttl_secs: 0 },
                };
                let previous = self.expects(model);
                let swap = RawCompareAndSwap { key: key(*k), previous, swap };
                RawOperation::CompareAndSwap(Box::new(swap))
            }
            Self::Scan { limit, reverse, key_only, .. } => RawOperation::Scan(ScanSpec {
                range: self.range(),
                limit: u32::from(*limit),
                reverse: *reverse,
                key_only: *key_only,
            }),
        }
    }

    /// What a swap expects. Nothing that it meets is under way at the same time, so that this is the
    /// same at its end as at its beginning.
    fn expects(&self, model: &Model) -> Option<Bytes> {
        match self {
            Self::Swap { key: k, right: true, .. } => model.may_hold(&key(*k))[0].clone(),
            _ => Some(Bytes::from_static(b"never written")),
        }
    }

    /// What it writes, in the order in which it counts.
    fn writes(&self, number: u64) -> Vec<(Bytes, Option<Bytes>)> {
        match self {
            Self::Put(k) => vec![(key(*k), Some(value(number, 0)))],
            Self::Delete(k) => vec![(key(*k), None)],
            Self::BatchPut(ks) => {
                let pairs = ks.iter().enumerate();
                pairs.map(|(at, k)| (key(*k), Some(value(number, at)))).collect()
            }
            Self::BatchDelete(ks) => ks.iter().map(|k| (key(*k), None)).collect(),
            Self::Swap { key: k, delete: true, .. } => vec![(key(*k), None)],
            Self::Swap { key: k, .. } => vec![(key(*k), Some(value(number, 0)))],
            Self::DeleteRange(..) => {
                let range = self.range();
                let within = KEYS.into_iter().filter(|key| range.contains(key));
                within.map(|key| (Bytes::from_static(key), None)).collect()
            }
            Self::Get(_) | Self::BatchGet(_) | Self::Scan { .. } => Vec::new(),
        }
    }

    fn range(&self) -> KeyRange {
        match self {
            Self::Scan { from, to, .. } | Self::DeleteRange(from, to) => {
                KeyRange { start: bound(*from), end: bound(*to) }
            }
            Self::Get(_)
            | Self::Put(_)
            | Self::Delete(_)
            | Self::Swap { .. }
            | Self::BatchGet(_)
            | Self::BatchPut(_)
            | Self::BatchDelete(_) => KeyRange::default(),
        }
    }

    /// The keys it reads or writes, as a set of bits.
    fn touches(&self) -> u16 {
        let bit = |k: &u8| 1_u16 << k;
        match self {
            Self::Get(k) | Self::Put(k) | Self::Delete(k) | Self::Swap { key: k, .. } => bit(k),
            Self::BatchGet(ks) | Self::BatchPut(ks) | Self::BatchDelete(ks) => {
                ks.iter().map(bit).fold(0, |all, bit| all | bit)
            }
            Self::Scan { .. } | Self::DeleteRange(..) => {
                let range = self.range();
                let within = (0..KEYS.len()).filter(|k| range.contains(KEYS[*k]));
                within.fold(0, |all, k| all | 1 << k)
            }
        }
    }

    fn is_write(&self) -> bool {
        !matches!(self, Self::Get(_) | Self::BatchGet(_) | Self::Scan { .. })
    }

    fn meets(&self, other: &Self) -> bool {
        (self.is_write() || other.is_write()) && self.touches() & other.touches() != 0
    }
}

/// What each key may hold. A key that is not named is absent.
#[derive(Default)]
struct Model(BTreeMap<Bytes, Vec<Option<Bytes>>>);

impl Model {
    fn may_hold(&self, key: &Bytes) -> &[Option<Bytes>] {
        self.0.get(key).map_or(&[None], Vec::as_slice)
    }

    fn wrote(&mut self, key: Bytes, value: Option<Bytes>) {
        self.0.insert(key, vec![value]);
    }

    fn may_have_written(&mut self, key: Bytes, value: Option<Bytes>) {
        let values = self.0.entry(key).or_insert_with(|| vec![None]);
        if !values.contains(&value) {
            values.push(value);
        }
    }

    fn read(&mut self, key: &Bytes, value: Option<&Bytes>) {
        let may_hold = self.may_hold(key);
        assert!(
            may_hold.iter().any(|may| may.as_ref() == value),
            "{key:?} is read as {value:?} and can only be one of {may_hold:?}"
        );
        self.wrote(key.clone(), value.cloned());
    }

    /// Without the value: there or not there.
    fn read_presence(&mut self, key: &Bytes, there: bool) {
        let mut values = self.may_hold(key).to_vec();
        values.retain(|value| value.is_some() == there);
        assert!(!values.is_empty(), "{key:?} cannot be there: {there}");
        self.0.insert(key.clone(), values);
    }

    fn scanned(&mut self, op: &Op, pairs: &[KvPair]) {
        let Op::Scan { limit, reverse, key_only, .. } = op else { panic!("{op:?}") };
        let range = op.range();
        assert!(pairs.len() <= usize::from(*limit), "{} pairs of {limit}", pairs.len());
        let ordered = pairs.is_sorted_by(|a, b| match reverse {
            true => a.key > b.key,
            false => a.key < b.key,
        });
        assert!(ordered, "{op:?}: {pairs:?}");
        let last = pairs.last().filter(|_| pairs.len() == usize::from(*limit));
        let seen = |key: &[u8]| match last {
            _ if *limit == 0 => false,
            None => true,
            Some(last) if *reverse => key >= last.key,
            Some(last) => key <= last.key,
        };
        for key in KEYS.into_iter().filter(|key| range.contains(key) && seen(key)) {
            let key = Bytes::from_static(key);
            let found = pairs.iter().find(|pair| pair.key == key).map(|pair| &pair.value);
            match key_only {
                true => self.read_presence(&key, found.is_some()),
                false => self.read(&key, found),
            }
        }
        for pair in pairs {
            assert!(range.contains(&pair.key), "{op:?}: {pair:?}");
            assert!(!*key_only || pair.value.is_empty(), "{op:?}: {pair:?}");
            assert!(KEYS.contains(&&*pair.key), "{pair:?} was never written");
        }
    }
}

struct Play {
    world: World,
    model: Model,
    flying: BTreeMap<OpId, (Op, u64)>,
}

/// What ten thousand cases have seen: a test that tests nothing should not pass.
static DONE: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static IN_DOUBT: AtomicU64 = AtomicU64::new(0);
static REGION_ERRORS: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);

impl Play {
    fn step(&mut self, step: &Step, number: u64) {
        match step {
            Step::Start(op, patience) => {
                while self.flying.values().any(|(other, _)| op.meets(other)) {
                    self.turn();
                }
                let operation = Operation::Raw {
                    op: op.operation(number, &self.model),
                    cf: ColumnFamily::DEFAULT,
                };
                let timeout = Duration::from_millis(u64::from(*patience));
                let id = self.world.submit(operation, timeout);
                self.flying.insert(id, (op.clone(), number));
                self.collect();
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
                if let Some(id) = self.flying.keys().nth(at).copied() {
                    self.world.cancel(id);
                    self.lost(id);
                }
            }
            Step::Crash => {
                self.world.crash();
                let lost: Vec<OpId> = self.flying.keys().copied().collect();
                lost.into_iter().for_each(|id| self.lost(id));
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
                && let Some((op, number)) = self.flying.remove(&id)
            {
                self.judge(&op, number, result);
            }
        }
    }

    /// Nobody will say how it ended.
    fn lost(&mut self, id: OpId) {
        let Some((op, number)) = self.flying.remove(&id) else { return };
        self.in_doubt(&op, number);
    }

    fn in_doubt(&mut self, op: &Op, number: u64) {
        // Of several values for one key only the last is ever sent.
        let last: BTreeMap<_, _> = op.writes(number).into_iter().collect();
        for (key, value) in last {
            self.model.may_have_written(key, value);
        }
    }

    fn wrote(&mut self, op: &Op, number: u64) {
        for (key, value) in op.writes(number) {
            self.model.wrote(key, value);
        }
    }

    fn judge(&mut self, op: &Op, number: u64, result: Result<Reply, Error>) {
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                FAILED.fetch_add(1, Ordering::Relaxed);
                assert!(excusable(error.kind()), "{op:?}: {error:?}");
                assert!(op.is_write() || !error.is_undetermined(), "{op:?}: {error:?}");
                let single = matches!(op, Op::Put(_) | Op::Delete(_) | Op::Swap { .. });
                // A batch is not atomic: whatever the error, parts of it may have been written.
                if error.is_undetermined() || !single {
                    IN_DOUBT.fetch_add(1, Ordering::Relaxed);
                    self.in_doubt(op, number);
                }
                return;
            }
        };
        DONE.fetch_add(1, Ordering::Relaxed);
        match (op, reply) {
            (Op::Get(k), Reply::Value(value)) => self.model.read(&key(*k), value.as_ref()),
            (Op::BatchGet(ks), Reply::Values(values)) => {
                assert_eq!(values.len(), ks.len());
                for (k, value) in ks.iter().zip(values) {
                    self.model.read(&key(*k), value.as_ref());
                }
            }
            (Op::Scan { .. }, Reply::Pairs(pairs)) => self.model.scanned(op, &pairs),
            (Op::Swap { key: k, .. }, Reply::Swapped { previous, swapped }) => {
                assert_eq!(swapped, previous == op.expects(&self.model), "{op:?}: {previous:?}");
                self.model.read(&key(*k), previous.as_ref());
                if swapped {
                    self.wrote(op, number);
                }
            }
            (op, Reply::Done) if op.is_write() => self.wrote(op, number),
            (op, reply) => panic!("{op:?} is answered by {reply:?}"),
        }
    }

    /// Everything works again: what is read then is what is stored, and nothing is left over.
    fn end(mut self) {
        self.settle();
        self.world.heal();
        // What PD or a store said before that may still be on its way, and be for the next to ask.
        self.world.pass(Duration::from_secs(5));
        let all = Op::Scan {
            from: KEYS.len() as u8,
            to: KEYS.len() as u8,
            limit: 255,
            reverse: false,
            key_only: false,
        };
        let operation =
            Operation::Raw { op: all.operation(0, &self.model), cf: ColumnFamily::DEFAULT };
        let result = self.world.run(operation, Duration::from_secs(60));
        let Ok(Reply::Pairs(pairs)) = result else { panic!("after healing: {result:?}") };
        self.model.scanned(&all, &pairs);
        let stored: Vec<KvPair> = self
            .world
            .cluster
            .raw_pairs("default")
            .map(|(key, value)| KvPair { key: key.clone(), value: value.clone() })
            .collect();
        assert_eq!(pairs, stored);
        self.world.pass(Duration::from_secs(60));
        assert!(self.world.is_quiet(), "{:?}", self.world);
        let stats = self.world.core().stats();
        REGION_ERRORS.fetch_add(stats.region_errors, Ordering::Relaxed);
        FAILURES.fetch_add(stats.failures, Ordering::Relaxed);
    }
}

fn holds(case: Case) -> bool {
    let mut dice = Dice::new(case.seed);
    let cluster = cluster(KeyMode::Raw, &mut dice);
    let config = config(KeyMode::Raw, &cluster, &mut dice);
    let network = Network::default();
    let world = World::new(cluster, config, network, case.seed);
    let mut play = Play { world, model: Model::default(), flying: BTreeMap::new() };
    for (number, step) in case.steps.iter().enumerate() {
        play.step(step, number as u64 + 1);
    }
    play.end();
    true
}

#[test]
fn raw_operations_among_troubles_equal_a_sorted_map() {
    check(holds as fn(Case) -> bool, 100, 10_000);
    let seen = [&DONE, &FAILED, &IN_DOUBT, &REGION_ERRORS, &FAILURES];
    let [done, failed, in_doubt, region_errors, failures] =
        seen.map(|count| count.load(Ordering::Relaxed));
    let told = format!(
        "{done} operations done, {failed} failed, {in_doubt} in doubt, {region_errors} region \
         errors, {failures} calls without an answer"
    );
    #[allow(clippy::print_stdout, reason = "shown with --nocapture")]
    {
        println!("{told}");
    }
    assert!(
        done > 5 * failed && in_doubt > 0 && region_errors > done / 20 && failures > 0,
        "{told}"
    );
}
