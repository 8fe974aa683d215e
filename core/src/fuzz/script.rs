//! What happens to a core in one run: a list of steps that quickcheck draws and shortens, or that is
//! read from a fuzzer's bytes.

use std::sync::Arc;
use std::time::Duration;

use anatase_core::txn::TxnOptions;
use anatase_core::{
    ColumnFamily, CommitPlan, Instant, Key, KeyMode, KeyRange, KvPair, LockKey, LockPlan,
    LockState, LockWait, Mutation, MutationOp, OpOptions, Operation, PessimisticPlan,
    PessimisticRollbackPlan, RawCompareAndSwap, RawCoprocessor, RawOperation, RawSwap,
    ReadOperation, RegionLookup, RegionVersion, ResolveLocksPlan, ScanLocksPlan, ScanSpec,
    Timestamp, TxnStatusPlan,
};
use bytes::Bytes;
#[cfg(test)]
use quickcheck::{Arbitrary, Gen};

use super::chance::Chance;

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Of the core, and of its configuration.
    pub(crate) seed: u64,
    pub(crate) mode: KeyMode,
    pub(crate) steps: Vec<Step>,
    pub(crate) ending: Ending,
    /// The bytes of seeds are choices themselves.
    pub(crate) of_bytes: bool,
}

/// How the cluster behaves once the steps are through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is answered, as a healthy cluster would.
    Healthy,
    /// Nothing is answered any more.
    Silent,
    /// No connection can be made any more.
    Refused,
}

/// One step. Numbers called `seed` decide the details, numbers called `which` select among what
/// there is at that moment, so that a step still means something when others are left out.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit {
        seed: u64,
    },
    /// A command that waits for an answer gets one: a good one, or any.
    Answer {
        which: usize,
        seed: u64,
        good: bool,
    },
    /// All that waits is answered, and what comes of it, for some rounds: most answers are good, one
    /// in `odds` may be anything.
    Flow {
        rounds: u64,
        seed: u64,
        odds: u64,
    },
    /// A command that waits for an answer gets these bytes, decoded as its answer.
    Say {
        which: usize,
        bytes: Bytes,
    },
    /// A command that is answered or withdrawn gets another answer.
    AnswerAgain {
        which: usize,
        seed: u64,
    },
    /// An id that was never given out gets an answer.
    AnswerNobody {
        id: u64,
        seed: u64,
    },
    /// Any operation ever submitted.
    Cancel {
        which: usize,
    },
    LinkDown {
        store: u64,
    },
    /// Time passes, whatever the core is waiting for.
    Pass {
        ms: u64,
    },
    /// Time passes up to the next wake-up.
    Wake,
    /// The driver's clock goes back for one input.
    Back {
        ms: u64,
    },
    /// Outputs are taken out. Without it they wait.
    Drain,
    /// The core is cloned, and the clone lives through the same from now on.
    Fork,
    /// So many requests of transactions meet a lock of another one.
    Foreign {
        locks: u64,
    },
    /// Regions split, or change their leader.
    Move {
        seed: u64,
    },
    Close,
}

/// So many bytes stand for the run as a whole, and for each of its steps.
const RECORD: usize = 8;
/// A fuzzer's run has no more steps.
const STEPS: usize = 128;

impl Script {
    /// Every string of bytes is a run. What is missing at its end is zero.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut records = bytes.chunks(RECORD).map(record);
        let [kind, seed @ ..] = records.next().unwrap_or_default();
        let steps = records.take(STEPS).map(|[kind, which, seed @ ..]| {
            let mut whole = [0; 8];
            whole[..6].copy_from_slice(&seed);
            Step::new(kind, which.into(), u64::from_le_bytes(whole))
        });
        let mut whole = [0; 8];
        whole[..7].copy_from_slice(&seed);
        Self {
            seed: u64::from_le_bytes(whole),
            mode: if kind % 3 == 0 { KeyMode::Raw } else { KeyMode::Txn },
            ending: match kind / 3 % 3 {
                0 => Ending::Healthy,
                1 => Ending::Silent,
                _ => Ending::Refused,
            },
            steps: steps.collect(),
            of_bytes: true,
        }
    }

    /// What is drawn from a seed of this run.
    pub(crate) fn chance(&self, seed: u64) -> Chance {
        if self.of_bytes { Chance::of_bytes(seed) } else { Chance::new(seed) }
    }
}

fn record(bytes: &[u8]) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..bytes.len()].copy_from_slice(bytes);
    record
}

#[cfg(test)]
impl Arbitrary for Script {
    fn arbitrary(g: &mut Gen) -> Self {
        let mode = *g.choose(&[KeyMode::Raw, KeyMode::Txn, KeyMode::Txn]).expect("a mode");
        let endings = [Ending::Healthy, Ending::Silent, Ending::Refused];
        let ending = *g.choose(&endings).expect("an ending");
        Self { seed: u64::arbitrary(g), mode, steps: Vec::arbitrary(g), ending, of_bytes: false }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let whole = self.clone();
        Box::new(self.steps.shrink().map(move |steps| Self { steps, ..whole.clone() }))
    }
}

#[cfg(test)]
impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let seed = u64::arbitrary(g);
        let which = usize::arbitrary(g);
        Self::new(u8::arbitrary(g), which, seed)
    }
}

impl Step {
    /// Every number is a step; some are more frequent than others.
    fn new(kind: u8, which: usize, seed: u64) -> Self {
        match kind % 64 {
            0..14 => Self::Submit { seed },
            14..20 => Self::Answer { which, seed, good: true },
            20..26 => Self::Answer { which, seed, good: false },
            26..40 => Self::Flow { rounds: 1 + seed % 8, seed, odds: 1 + seed % 12 },
            40 => Self::AnswerAgain { which, seed },
            41 => Self::AnswerNobody { id: seed, seed },
            42 => Self::AnswerNobody { id: (seed % 8) | ((seed % 4) << 32), seed },
            43 | 44 => Self::Cancel { which },
            45 => Self::LinkDown { store: seed % 5 },
            46 | 47 => Self::Pass { ms: seed % 100 },
            48 => Self::Pass { ms: seed % 100_000 },
            49..55 => Self::Wake,
            55 => Self::Back { ms: seed % 10_000 },
            56 | 57 => Self::Drain,
            58 => Self::Foreign { locks: seed % 8 },
            59 | 60 => Self::Move { seed },
            61 if seed.is_multiple_of(32) => Self::Close,
            _ => Self::Fork,
        }
    }
}

/// Few keys, so that operations meet: some of them on the borders of regions.
pub(crate) const KEYS: [&[u8]; 9] =
    [b"", b"a", b"b", b"b\0", b"c", b"d", b"e", b"eighteen bytes long", b"\xff\xff\xff"];

pub(crate) fn key(chance: &mut Chance) -> Key {
    Key::from_static(chance.pick(&KEYS))
}

fn keys(chance: &mut Chance) -> Vec<Key> {
    (0..chance.below(7)).map(|_| key(chance)).collect()
}

fn scan(chance: &mut Chance) -> ScanSpec {
    ScanSpec {
        range: KeyRange { start: key(chance), end: key(chance) },
        limit: chance.pick(&[0, 1, 2, 3, 100, u32::MAX]),
        reverse: chance.one_in(2),
        key_only: chance.one_in(4),
    }
}

/// An operation for this kind of core. The start of a transaction is made from `number`, so that each
/// has its own.
pub(crate) fn operation(chance: &mut Chance, mode: KeyMode, number: u64) -> Operation {
    if chance.one_in(8) {
        let at = Timestamp::from_version(1 + number).expect("a timestamp");
        return chance.pick(&[
            Operation::Ready,
            Operation::Timestamp,
            Operation::Timestamp,
            Operation::LowResolutionTimestamp,
            Operation::StaleTimestamp { previous: Duration::ZERO },
            Operation::StaleTimestamp { previous: Duration::MAX },
            Operation::MinTimestamp,
            Operation::ExternalTimestamp,
            Operation::SetExternalTimestamp(at),
            Operation::SetLowResolutionInterval(Duration::from_millis(700)),
        ]);
    }
    if chance.one_in(10) {
        return about_regions(chance);
    }
    match mode {
        KeyMode::Raw => Operation::Raw {
            op: raw(chance),
            cf: chance.pick(&[ColumnFamily::DEFAULT, ColumnFamily::new("write")]),
        },
        KeyMode::Txn => transactional(chance, number),
    }
}

fn about_regions(chance: &mut Chance) -> Operation {
    let id = 1 + chance.below(6);
    match chance.below(8) {
        0 => Operation::Region(RegionLookup::Containing(key(chance))),
        1 => Operation::Region(RegionLookup::Before(key(chance))),
        2 => Operation::Region(RegionLookup::Cached(key(chance))),
        3 => Operation::Region(RegionLookup::ById(id)),
        4 => Operation::Region(RegionLookup::ByIdFromPd(id)),
        5 => Operation::GroupKeys { keys: keys(chance) },
        6 => Operation::BucketsSeen {
            region: RegionVersion { id, conf_ver: 1, version: 1 + chance.below(3) },
            used: chance.below(3),
            latest: chance.below(3),
        },
        _ => Operation::Regions { ranges: (0..chance.below(4)).map(|_| range(chance)).collect() },
    }
}

fn raw(chance: &mut Chance) -> RawOperation {
    let ttl_secs = chance.pick(&[0, 0, 1, u64::MAX]);
    let atomic = chance.one_in(3);
    match chance.below(13) {
        0 => RawOperation::Get { key: key(chance) },
        1 => RawOperation::Put { key: key(chance), value: key(chance), ttl_secs, atomic },
        2 => RawOperation::Delete { key: key(chance), atomic },
        3 => RawOperation::BatchGet { keys: keys(chance) },
        4 => {
            let pairs = keys(chance).into_iter();
            let pairs: Vec<KvPair> = pairs.map(|key| KvPair { value: key.clone(), key }).collect();
            // Now and then as many as make no sense.
            let ttls = chance.pick(&[1, 1, pairs.len(), pairs.len(), 3]);
            RawOperation::BatchPut { pairs, ttls_secs: vec![ttl_secs; ttls], atomic }
        }
        5 => RawOperation::BatchDelete { keys: keys(chance), atomic },
        6 => RawOperation::GetKeyTtl { key: key(chance) },
        7 => RawOperation::CompareAndSwap(Box::new(RawCompareAndSwap {
            key: key(chance),
            previous: chance.rarely(2, key),
            swap: match chance.one_in(4) {
                true => RawSwap::Delete,
                false => RawSwap::Put { value: key(chance), ttl_secs },
            },
        })),
        8 => RawOperation::DeleteRange { range: range(chance) },
        9 => RawOperation::Checksum { range: range(chance) },
        10 => {
            RawOperation::BatchScan { scans: (0..chance.below(4)).map(|_| scan(chance)).collect() }
        }
        11 => RawOperation::Coprocessor(Box::new(RawCoprocessor {
            name: "plug-in".into(),
            version_req: "*".into(),
            region: RegionVersion {
                id: 1 + chance.below(3),
                conf_ver: 1,
                version: 1 + chance.below(3),
            },
            ranges: vec![range(chance)],
            data: key(chance),
        })),
        _ => RawOperation::Scan(scan(chance)),
    }
}

fn range(chance: &mut Chance) -> KeyRange {
    KeyRange { start: key(chance), end: key(chance) }
}

fn transactional(chance: &mut Chance, number: u64) -> Operation {
    let at = Timestamp::compose(1_000, number).expect("a timestamp");
    match chance.below(15) {
        0 | 1 => Operation::read(ReadOperation::Get { key: key(chance) }, at),
        2 => Operation::read(ReadOperation::BatchGet { keys: keys(chance) }, at),
        3 => Operation::read(ReadOperation::Scan(scan(chance)), at),
        11 => Operation::PessimisticRollback(Box::new(PessimisticRollbackPlan {
            start_ts: at,
            for_update_ts: at.next(),
            keys: keys(chance),
            stop_heartbeat: chance.one_in(2),
            options: Arc::default(),
        })),
        12..=14 => Operation::Lock(Box::new(lock_plan(chance, at))),
        4 => Operation::Rollback { start_ts: at, keys: keys(chance) },
        5 => of_locks(chance, at),
        _ => Operation::Commit(Box::new(commit_plan(chance, at))),
    }
}

pub(crate) fn commit_plan(chance: &mut Chance, at: Timestamp) -> CommitPlan {
    let mut keys = keys(chance);
    // Mostly as the contract asks for: sorted, without repeats.
    if !chance.one_in(16) {
        keys.sort_unstable();
        keys.dedup();
    }
    let mutations = keys.into_iter().map(|key| mutation(chance, key)).collect();
    let open_for = chance.pick(&[Duration::ZERO, Duration::from_secs(1), Duration::MAX]);
    let start_ts = if chance.one_in(32) { Timestamp::MAX } else { at };
    let mut plan = CommitPlan { open_for, ..CommitPlan::new(start_ts, mutations) };
    choose(chance, &mut plan);
    plan
}

pub(crate) fn lock_plan(chance: &mut Chance, start_ts: Timestamp) -> LockPlan {
    let mut keys = keys(chance);
    if !chance.one_in(16) {
        keys.sort_unstable();
        keys.dedup();
    }
    let force = keys.len() == 1 && chance.one_in(2);
    let new_primary = chance.one_in(2);
    let primary = if new_primary { keys.first().cloned() } else { None };
    let one = |key| LockKey { held: false, presume_not_exists: chance.one_in(4), key };
    let keys: Vec<_> = keys.into_iter().map(one).collect();
    LockPlan {
        start_ts,
        for_update_ts: start_ts.next(),
        primary: primary.unwrap_or_else(|| "".into()),
        new_primary,
        is_first_lock: new_primary,
        force,
        keys,
        wait: chance.pick(&[
            LockWait::NoWait,
            LockWait::For(Duration::ZERO),
            LockWait::For(Duration::from_millis(200)),
            LockWait::Forever,
        ]),
        return_values: chance.one_in(2),
        check_existence: chance.one_in(2),
        lock_only_if_exists: chance.one_in(4),
        open_for: chance.pick(&[Duration::ZERO, Duration::MAX]),
        options: Arc::default(),
    }
}

/// Half of all commits are plain.
fn choose(chance: &mut Chance, plan: &mut CommitPlan) {
    if chance.one_in(2) {
        return;
    }
    let options = TxnOptions {
        enable_async_commit: chance.one_in(2),
        enable_one_pc: chance.one_in(2),
        causal_consistency: chance.one_in(2),
        commit_wait_until: chance
            .rarely(8, |chance| Timestamp::compose(1_000, chance.below(2_000)))
            .flatten(),
        commit_ts_upper_bound: chance
            .rarely(8, |chance| Timestamp::compose(1_000, chance.below(100)))
            .flatten(),
        ..TxnOptions::default()
    };
    plan.options = Arc::new(options);
    if chance.one_in(3) {
        let primary = plan.mutations.iter().find(|mutation| mutation.locks());
        let primary = primary.map_or_else(|| key(chance), |mutation| mutation.key.clone());
        let for_update_ts = plan.start_ts.next();
        plan.pessimistic = Some(PessimisticPlan { primary, for_update_ts });
        for mutation in &mut plan.mutations {
            mutation.locked = match chance.below(4) {
                0 => LockState::Not,
                1 => LockState::CheckAtPrewrite,
                2 => LockState::HeldAt(for_update_ts),
                _ => LockState::Held,
            };
        }
    }
}

fn of_locks(chance: &mut Chance, at: Timestamp) -> Operation {
    match chance.below(4) {
        0 => Operation::ScanLocks(Box::new(ScanLocksPlan {
            range: range(chance),
            max_version: at,
            limit: chance.pick(&[0, 1, 2, u32::MAX]),
        })),
        1 => Operation::TxnStatus(Box::new(TxnStatusPlan {
            start_ts: at,
            primary: key(chance),
            caller: chance.rarely(2, |_| at),
        })),
        _ => Operation::ResolveLocks(Box::new(ResolveLocksPlan {
            range: range(chance),
            safe_point: at,
            async_commit_only: chance.one_in(3),
            batch_size: chance.pick(&[0, 1, 2]),
        })),
    }
}

fn mutation(chance: &mut Chance, key: Key) -> Mutation {
    let op = match chance.below(6) {
        0 => MutationOp::Delete,
        1 => MutationOp::Insert(key.clone()),
        2 => MutationOp::Lock,
        3 => MutationOp::CheckNotExists,
        _ => MutationOp::Put(key.clone()),
    };
    Mutation::new(key, op)
}

/// A deadline from past to far away. «Never» only where a healthy cluster is there in the end.
pub(crate) fn options(chance: &mut Chance, now: Instant, ending: Ending, number: u64) -> OpOptions {
    let deadline = match chance.below(12) {
        0 => Instant::from_nanos(now.as_nanos() / 2),
        1 => now,
        2 if ending == Ending::Healthy => Instant::NEVER,
        n => now + Duration::from_millis(chance.below(10_u64.pow(n.min(6) as u32) + 1)),
    };
    OpOptions { deadline, stream: number }
}
