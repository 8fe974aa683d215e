//! What a cached region costs: a budget that does not depend on the machine (`floor.md`, peers.md D30:
//! what is cached is bounded).

mod support;

use std::time::Duration;

use allocation_counter::measure;
use anatase_core::{
    ColumnFamily, Config, Core, Instant, Key, KeyMode, OpOptions, Operation, RawOperation,
};

use support::{Pd, fill};

/// Bytes for a region with three replicas and bounds of twenty bytes.
const BUDGET: f64 = 400.0;

fn key(n: usize) -> Key {
    format!("table-0042/{n:09}").into()
}

fn full(count: usize) -> (Core, f64) {
    let config = Config::new(vec!["pd:2379".into()], KeyMode::Raw);
    let mut core = Core::new(config, 1, Instant::ORIGIN);
    let mut pd = Pd::new(KeyMode::Raw, (1..count).map(key));
    let mut bytes = 0;
    fill(&mut core, &mut pd, &mut |run| bytes += measure(run).bytes_current);
    (core, bytes as f64 / count as f64)
}

/// At the counts that are worst and best for vectors that grow by doubling.
#[test]
fn a_cached_region_costs_at_most_400_bytes() {
    assert_eq!(key(7).len(), 20);
    for count in [100_000, 131_073] {
        let (core, bytes) = full(count);
        assert!(bytes <= BUDGET, "{count} regions: {bytes:.0} bytes each");
        assert_eq!(
            core.region_facts(&key(count / 2)).map(|facts| facts.version().id),
            Some(count as u64 / 2 + 1)
        );
    }
}

/// RGC-04: what has expired does not stay, though nobody asks for it.
#[test]
fn rgc_04_expired_regions_do_not_stay() {
    let (mut core, _) = full(20_000);
    let mut pd = Pd::new(KeyMode::Raw, (1..20_000).map(key));
    let day = Instant::ORIGIN + Duration::from_secs(86_400);
    let known = |core: &Core| (1..20_000).filter(|n| core.region_facts(&key(*n)).is_some()).count();
    assert_eq!(known(&core), 19_999);
    // One key is read, again and again.
    for n in 0..1_400 {
        let now = day + Duration::from_millis(10 * n);
        let op = RawOperation::Get { key: key(7) };
        let operation = Operation::Raw { op, cf: ColumnFamily::DEFAULT };
        let options = OpOptions { deadline: now + Duration::from_secs(1), stream: n };
        core.submit(now, operation, options).expect("room");
        support::serve(&mut core, &mut pd, now);
    }
    assert_eq!(known(&core), 1);
}
