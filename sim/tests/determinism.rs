//! The same world is the same run; and a part that is taken away leaves the rest as it was.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anatase_sim::{
    FaultKind, NetFault, Network, Odometer, Profile, Seeded, Sim, SimConfig, Stats, Tape,
};
use support::{bank, config};

fn run(config: SimConfig) -> (u64, Stats, Duration) {
    let (mut sim, _) = bank(config, 3, 10);
    sim.run_for(Duration::from_secs(10)).expect("time goes on");
    sim.heal();
    sim.drain(Duration::from_secs(120)).expect("time goes on");
    (sim.digest(), sim.stats(), sim.now())
}

#[test]
fn the_same_world_is_the_same_run() {
    let mut digests = Vec::new();
    for seed in 0..20 {
        let profile = match seed % 2 {
            0 => Profile::rough(),
            _ => Profile::swarm(&mut Seeded::new(seed)),
        };
        let config = config(seed, profile);
        let first = run(config.clone());
        assert_eq!(first, run(config), "seed {seed}");
        digests.push(first.0);
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 20, "other seeds are other runs");
}

/// What is not in a message cannot be told by its bytes: both ways the run is the same.
#[test]
fn with_the_wire_in_between_it_is_the_same_run() {
    for seed in 0..10 {
        let config = config(seed, Profile::rough());
        assert_eq!(run(config.clone().wire(true)), run(config), "seed {seed}");
    }
}

/// When alice's operations end, in a world where bob does as much as he likes elsewhere.
fn alice(bob: u32, faults: bool) -> Vec<Duration> {
    let network = Network { tail: 50_000, reply_lost: 20_000, ..Network::calm() };
    let mut config = SimConfig::new(5).profile(Profile { network, nemesis: Vec::new() });
    if faults {
        // It would strike bob, who is number 1.
        let fault = NetFault::PauseClient { client: 1, lasts: Duration::from_secs(1) };
        config = config.fault(Duration::from_millis(40), fault);
    }
    let mut sim = Sim::new(config);
    let (alice, other) = (sim.client("alice"), sim.client("bob"));
    other.spawn({
        let other = other.clone();
        async move {
            let raw = other.raw().await.expect("PD is up");
            for n in 0..bob {
                raw.put(format!("bob/{n}"), "x").await.ok();
            }
        }
    });
    let ends = alice.spawn({
        let alice = alice.clone();
        async move {
            let raw = alice.raw().await.expect("PD is up");
            let mut ends = Vec::new();
            for n in 0..50 {
                raw.get(format!("alice/{n}")).await.ok();
                ends.push(Duration::from_nanos(alice.now().as_nanos()));
            }
            ends
        }
    });
    sim.run_until(ends).expect("it ends").expect("nobody crashes")
}

#[test]
fn what_a_client_does_draws_nothing_of_another_s() {
    let alone = alice(0, false);
    assert_eq!(alone, alice(100, false));
    assert_eq!(alone, alice(100, true));
}

/// Zeros are a calm world. The bytes of a tape are its choices.
#[test]
fn a_tape_makes_a_world() {
    let run = |bytes: &[u8]| {
        let mut sim = Sim::with_entropy(config(0, Profile::rough()), Tape::new(bytes));
        let client = sim.client("alice");
        let put = client.spawn({
            let client = client.clone();
            async move {
                let raw = client.raw().await?;
                raw.put("k", "v").await
            }
        });
        let put = sim.run_until(put).expect("it ends");
        (sim.digest(), sim.now(), sim.stats(), put.is_ok_and(|put| put.is_ok()))
    };
    let (_, took, stats, ok) = run(&[]);
    assert!(ok && took < Duration::from_millis(20), "{took:?}");
    assert_eq!((stats.requests_lost, stats.replies_lost, stats.resets), (0, 0, 0));
    let bytes: Vec<u8> = (0..=255).cycle().step_by(7).take(500).collect();
    assert_eq!(run(&bytes), run(&bytes));
    assert_ne!(run(&bytes).0, run(&[]).0);
}

/// Each run of an odometer is another one, and a choice among one is none.
#[test]
fn an_odometer_makes_all_worlds() {
    let network = Network { request_lost: 500_000, ..Network::calm() };
    let runs = |width: u32, most: usize| {
        let odometer = Arc::new(Mutex::new(Odometer::new(width)));
        let mut digests = Vec::new();
        while digests.len() < most {
            let config = SimConfig::new(0)
                .profile(Profile { network: network.clone(), nemesis: Vec::new() });
            let mut sim = Sim::with_entropy(config, odometer.clone());
            let client = sim.client("alice");
            client.spawn({
                let client = client.clone();
                async move { client.transactions().await.is_ok() }
            });
            sim.run_for(Duration::from_secs(1)).expect("time goes on");
            digests.push(sim.digest());
            drop(sim);
            if !odometer.lock().expect("no panic").advance() {
                break;
            }
        }
        let runs = digests.len();
        digests.sort_unstable();
        digests.dedup();
        (runs, digests.len())
    };
    assert_eq!(runs(1, 100), (1, 1));
    let (all, different) = runs(2, 100);
    assert_eq!(all, 100, "there are more");
    // The last choices of a run, which change first, are those that matter least.
    assert!(different > 4, "{different}");
}

#[test]
fn a_kind_of_fault_that_is_taken_away_leaves_the_others_where_they_were() {
    let strikes = |kinds: &[FaultKind]| {
        let mut profile = Profile::rough();
        profile.nemesis.retain(|recurring| kinds.contains(&recurring.kind));
        let mut sim = Sim::new(config(3, profile));
        let mut at = Vec::new();
        let mut leader = sim.cluster(|cluster| cluster.pd_leader());
        while sim.now() < Duration::from_secs(60) && sim.step().expect("time goes on") {
            let now = sim.cluster(|cluster| cluster.pd_leader());
            if now != leader {
                at.push((sim.now(), now));
                leader = now;
            }
        }
        at
    };
    let alone = strikes(&[FaultKind::MovePdLeader]);
    assert!(alone.len() > 1);
    assert_eq!(alone, strikes(&[FaultKind::MovePdLeader, FaultKind::SlowStore, FaultKind::Split]));
}
