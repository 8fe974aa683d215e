//! What the core itself costs, with everything around it left out: commands are answered on the spot
//! by answers that are made beforehand or empty.
//!
//! A point get is measured from its submission to its event, a commit from its submission until its
//! last region is settled. A lookup in the region cache is measured as the first half of a point get:
//! up to the command, which is then withdrawn.

use std::hint::black_box;
use std::time::Duration;

use anatase_core::{
    ColumnFamily, Command, CommitPlan, Config, Core, Event, Instant, Key, KeyMode, Mutation,
    MutationOp, OpOptions, Operation, RawOperation, Timestamp,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Pd, yes};

/// A core and whoever answers it.
struct Bench {
    core: Core,
    pd: Pd,
    now: Instant,
}

impl Bench {
    /// Regions meet at `borders`, and all of them are cached.
    fn new(mode: KeyMode, borders: &[Key]) -> Self {
        let mut config = Config::new(vec!["pd:2379".into()], mode);
        config.region_ttl = Duration::from_secs(1 << 30);
        let core = Core::new(config, 1, Instant::ORIGIN);
        let mut bench = Self { core, pd: Pd::new(mode, borders), now: Instant::ORIGIN };
        for key in borders.iter().cloned().chain([Key::new()]) {
            bench.run(touch(mode, key));
        }
        bench
    }

    fn submit(&mut self, operation: Operation) {
        self.now = self.now + Duration::from_micros(10);
        let options = OpOptions { deadline: self.now + Duration::from_secs(10), stream: 1 };
        self.core.submit(self.now, operation, options).expect("room");
    }

    /// One operation, every command of it answered well.
    fn run(&mut self, operation: Operation) -> Option<Event> {
        self.submit(operation);
        while let Some(command) = self.core.poll_command() {
            match &command {
                Command::Call(call) => {
                    let answer = self.pd.answer(&command).unwrap_or_else(|| yes(call));
                    self.core.handle_response(self.now, call.id, Ok(answer));
                }
                Command::Timestamps(ask) => {
                    let answer = self.pd.answer(&command).expect("timestamps");
                    self.core.handle_response(self.now, ask.id, Ok(answer));
                }
                Command::Abort { .. } => {}
            }
        }
        self.core.poll_event()
    }
}

fn get(key: Key) -> Operation {
    Operation::Raw { op: RawOperation::Get { key }, cf: ColumnFamily::DEFAULT }
}

/// Something that has the region of a key looked up.
fn touch(mode: KeyMode, key: Key) -> Operation {
    let start_ts = Timestamp::compose(1, 1).expect("a timestamp");
    match mode {
        KeyMode::Raw => get(key),
        KeyMode::Txn => Operation::Rollback { start_ts, keys: vec![key] },
    }
}

/// Keys that sort by their number.
fn key(n: usize) -> Key {
    format!("key {n:08}").into()
}

/// `parts` regions of the same share of `keys` keys.
fn borders(keys: usize, parts: usize) -> Vec<Key> {
    (1..parts).map(|n| key(n * keys / parts)).collect()
}

fn point_get(c: &mut Criterion) {
    let mut bench = Bench::new(KeyMode::Raw, &borders(1_000, 10));
    let operation = get(key(777));
    c.bench_function("point get, cached", |b| {
        b.iter(|| black_box(bench.run(operation.clone())));
    });
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    // Work grows with the keys: the time for each, as it is printed, stays where it is.
    for (keys, regions) in [(1, 1), (10, 1), (100, 10), (1_000, 100), (10_000, 100), (100_000, 100)]
    {
        let mut bench = Bench::new(KeyMode::Txn, &borders(keys, regions));
        let mutation = |n| Mutation::new(key(n), MutationOp::Put("value".into()));
        let plan = CommitPlan::new(
            Timestamp::compose(900, 1).expect("a timestamp"),
            (0..keys).map(mutation).collect(),
        );
        let operation = Operation::Commit(Box::new(plan));
        group.throughput(Throughput::Elements(keys as u64));
        group.bench_function(format!("{keys} keys in {regions} regions"), |b| {
            b.iter_batched(
                || operation.clone(),
                |operation| black_box(bench.run(operation)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// From a key to the store that leads its region, with so many regions cached: the command is given
/// out and withdrawn again.
fn locate(c: &mut Criterion) {
    let mut group = c.benchmark_group("region cache, a lookup among");
    for regions in [1_000, 100_000] {
        let mut bench = Bench::new(KeyMode::Raw, &borders(regions, regions));
        // One after another in an order that no cache line foresees.
        let keys: Vec<Key> = (0..1_024).map(|n| key(n * 7_919 % regions)).collect();
        let mut next = keys.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(regions), |b| {
            b.iter(|| {
                let key = next.next().cloned().unwrap_or_default();
                bench.now = bench.now + Duration::from_micros(10);
                let deadline = bench.now + Duration::from_secs(10);
                let options = OpOptions { deadline, stream: 1 };
                let operation = get(key);
                let id = bench.core.submit(bench.now, operation, options).expect("room");
                black_box(bench.core.poll_command());
                bench.core.cancel(bench.now, id);
                black_box(bench.core.poll_command());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, point_get, commit, locate);
criterion_main!(benches);
