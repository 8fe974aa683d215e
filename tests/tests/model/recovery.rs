//! How soon an operation goes on after what it waits for is there again: exact, because in virtual
//! time nothing else is slow.

use std::time::Duration;

use anatase_cluster::ClusterConfig;
use anatase_core::{ColumnFamily, Config, Instant, KeyMode, OpId, Operation, RawOperation};
use anatase_tests::Dice;
use anatase_tests::world::{Network, World, pd_endpoints};

fn world(seed: u64) -> World {
    let cluster = ClusterConfig::default().split_keys(["k3", "k6"]).build();
    let config = Config::new(pd_endpoints(&cluster), KeyMode::Raw);
    let latency = Duration::from_micros(200);
    let network = Network { latency, late_one_in: 0, ..Network::default() };
    World::new(cluster, config, network, seed)
}

fn operation(dice: &mut Dice) -> Operation {
    let key = format!("k{}", dice.below(10)).into();
    let op = match dice.chance(1, 2) {
        true => RawOperation::Get { key },
        false => RawOperation::Put { key, value: "v".into(), ttl_secs: 0, atomic: false },
    };
    Operation::Raw { op, cf: ColumnFamily::DEFAULT }
}

/// How long the slowest operation of six workers takes beyond a fault of `lasting`, over many seeds.
fn slowest(
    lasting: Duration,
    fault: impl Fn(&mut World, &mut Dice),
    mend: impl Fn(&mut World, u64) + Copy + 'static,
) -> Duration {
    let one = |seed| {
        let mut dice = Dice::new(seed);
        let mut world = world(seed);
        let mut slowest = Duration::ZERO;
        let mut crowd: Vec<(OpId, Instant)> = Vec::new();
        let start = world.now();
        let mut broken = false;
        while world.now().since(start) < lasting + Duration::from_secs(5) {
            while crowd.len() < 6 {
                let op = world.submit(operation(&mut dice), Duration::from_secs(60));
                crowd.push((op, world.now()));
            }
            if !broken && world.now().since(start) > Duration::from_secs(1) {
                broken = true;
                fault(&mut world, &mut dice);
                let draw = dice.below(1 << 16);
                world.later(lasting, move |world| mend(world, draw));
            }
            world.pass(Duration::from_millis(10));
            let now = world.now();
            crowd.retain(|(op, begun)| match world.take(*op) {
                Some(result) => {
                    result.expect("it goes on");
                    slowest = slowest.max(now.since(*begun));
                    false
                }
                None => true,
            });
        }
        slowest.saturating_sub(lasting)
    };
    (0..20).map(one).max().unwrap_or_default()
}

/// A region is without a leader for some seconds, and then any of its replicas leads.
#[test]
fn a_new_leader_is_found_soon_after_it_is_elected() {
    for seconds in [1, 3] {
        let took = slowest(
            Duration::from_secs(seconds),
            |world, _| {
                let regions: Vec<u64> = world.cluster.regions().map(|it| it.id).collect();
                regions.into_iter().for_each(|region| world.cluster.remove_leader(region));
            },
            |world, draw| {
                let regions: Vec<u64> = world.cluster.regions().map(|it| it.id).collect();
                for region in regions {
                    world.cluster.transfer_leader(region, 1 + (draw + region) % 3);
                }
            },
        );
        // A pause of half a second, the hint, and a pause after so many hints.
        let limit = Duration::from_millis(1_200);
        assert!(took <= limit, "{seconds} s without leaders, and {took:?} more");
    }
}
