//! Finding a region among many: the time has to grow like the depth of a search tree.
//!
//! `cargo bench -p anatase-core --bench regions`

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use anatase_core::{
    ColumnFamily, Config, Core, Instant, Key, KeyMode, OpOptions, Operation, RawOperation,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use support::{Pd, fill, serve};

fn key(n: usize) -> Key {
    format!("table-0042/{n:09}").into()
}

/// Keys all over the regions, in no order.
fn keys(count: usize) -> Vec<Key> {
    (0..4_096_usize).map(|n| key(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count)).collect()
}

fn lookups(c: &mut Criterion) {
    for count in [1_000, 10_000, 100_000, 1_000_000] {
        let config = Config::new(vec!["pd:2379".into()], KeyMode::Raw);
        let mut core = Core::new(config, 1, Instant::ORIGIN);
        let mut pd = Pd::new(KeyMode::Raw, (1..count).map(key));
        fill(&mut core, &mut pd, &mut |run| run());
        let keys = keys(count);
        let mut next = keys.iter().cycle();
        c.bench_with_input(BenchmarkId::new("lookup", count), &count, |b, _| {
            b.iter(|| {
                let key = next.next().expect("a cycle");
                black_box(core.region_facts(key).map(|facts| facts.version()))
            });
        });
        let (mut next, mut now) = (keys.iter().cycle(), Instant::ORIGIN);
        c.bench_with_input(BenchmarkId::new("get", count), &count, |b, _| {
            b.iter(|| {
                now = now + Duration::from_micros(1);
                let key = next.next().expect("a cycle").clone();
                let op = RawOperation::Get { key };
                let operation = Operation::Raw { op, cf: ColumnFamily::DEFAULT };
                let options = OpOptions { deadline: now + Duration::from_secs(9), stream: 1 };
                core.submit(now, operation, options).expect("room");
                serve(&mut core, &mut pd, now);
            });
        });
    }
}

criterion_group! {
    name = regions;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = lookups
}
criterion_main!(regions);
