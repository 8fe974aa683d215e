//! Each kind of fault can be seen, and does what it says.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anatase_client::{CommitOutcome, CommittedBy, Config, RawClient, TransactionClient};
use anatase_proto::rpc::Rpc;
use anatase_sim::{
    Fate, FaultKind, NetFault, Network, Profile, Recurring, Refusal, Side, Sim, SimClient,
    SimConfig, SimRuntime,
};
use support::{audit, bank, cluster, config, way};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A calm world with a client that knows all routes and has written `k`.
struct Stage {
    sim: Sim,
    client: SimClient,
    raw: RawClient<SimRuntime>,
    txn: TransactionClient<SimRuntime>,
}

impl Stage {
    fn new() -> Self {
        Self::with(Network::calm())
    }

    fn with(network: Network) -> Self {
        let profile = Profile { network, nemesis: Vec::new() };
        let mut sim = Sim::new(SimConfig::new(1).cluster(cluster()).profile(profile));
        let client = sim.client("alice");
        let task = client.spawn({
            let client = client.clone();
            async move {
                let (raw, txn) = (client.raw().await?, client.transactions().await?);
                raw.put("k", "0").await?;
                let writes = txn.begin_optimistic().await?;
                writes.put("t", "0").await?;
                writes.commit().await?;
                Ok::<_, anatase_client::Error>((raw, txn))
            }
        });
        let (raw, txn) = sim.run_until(task).unwrap().unwrap().unwrap();
        Self { sim, client, raw, txn }
    }

    fn run<T: Send + 'static>(
        &mut self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> (T, Duration) {
        let begun = self.sim.now();
        let task = self.client.spawn(task);
        let output = self.sim.run_until(task).unwrap().unwrap();
        (output, self.sim.now() - begun)
    }

    /// A write, how it went and how long it took.
    fn put(&mut self) -> (anatase_client::Result<()>, Duration) {
        let raw = self.raw.clone();
        self.run(async move { raw.put("k", "1").await })
    }

    fn get(&mut self) -> Duration {
        let raw = self.raw.clone();
        let (got, took) = self.run(async move { raw.get("k").timeout(100 * SECOND).await });
        got.expect("a read is tried again");
        took
    }

    fn timestamp(&mut self) -> (u64, Duration) {
        let txn = self.txn.clone();
        let (at, took) = self.run(async move { txn.current_timestamp().await });
        (at.expect("it is tried again").version(), took)
    }

    fn calls(&mut self, rpc: Rpc) -> u64 {
        self.sim.cluster(|cluster| cluster.calls(rpc))
    }

    fn value(&mut self) -> Vec<u8> {
        self.sim.cluster(|cluster| {
            cluster.raw_pairs("default").find(|(k, _)| &k[..] == b"k").unwrap().1.to_vec()
        })
    }

    /// The store that leads the region of `k`, and the place of that region.
    fn leader(&mut self) -> (u64, u32) {
        self.sim.cluster(|cluster| {
            let region = cluster.region_of_raw(b"k").unwrap().id;
            let at = cluster.regions().position(|r| r.id == region).unwrap();
            (cluster.leader_of(region).unwrap_or(0), at as u32)
        })
    }

    fn regions(&mut self) -> usize {
        self.sim.cluster(|cluster| cluster.regions().count())
    }
}

// ---- the network -------------------------------------------------------------------------------

#[test]
fn a_partition_on_the_way_there_loses_requests() {
    let mut stage = Stage::new();
    let (from, to) = (Side::Client(0), Side::Stores);
    stage.sim.strike(NetFault::Partition { from, to, both_ways: false, lasts: 2 * SECOND });
    let before = stage.calls(Rpc::RawPut);
    let raw = stage.raw.clone();
    let put = stage.client.spawn(async move { raw.put("k", "1").await });
    stage.sim.run_for(1900 * MS).unwrap();
    assert_eq!((stage.calls(Rpc::RawPut), stage.value()), (before, b"0".to_vec()));
    stage.sim.run_until(put).unwrap().unwrap().ok();
    assert!(stage.sim.stats().requests_lost > 0 && stage.sim.stats().replies_lost == 0);
}

#[test]
fn a_partition_on_the_way_back_loses_answers_of_what_was_executed() {
    let mut stage = Stage::new();
    let (from, to) = (Side::Stores, Side::Clients);
    stage.sim.strike(NetFault::Partition { from, to, both_ways: false, lasts: 2 * SECOND });
    let raw = stage.raw.clone();
    let put = stage.client.spawn(async move { raw.put("k", "1").await });
    stage.sim.run_for(1900 * MS).unwrap();
    assert!(!put.is_finished());
    assert_eq!(stage.value(), b"1");
    stage.sim.run_until(put).unwrap().unwrap().ok();
    assert!(stage.sim.stats().replies_lost > 0 && stage.sim.stats().requests_lost == 0);
}

#[test]
fn a_partition_between_a_client_and_pd_leaves_the_stores_alone() {
    let mut stage = Stage::new();
    let (from, to) = (Side::AllPd, Side::Client(0));
    stage.sim.strike(NetFault::Partition { from, to, both_ways: true, lasts: 2 * SECOND });
    assert!(stage.get() < 100 * MS);
    let (_, took) = stage.timestamp();
    assert!(took > SECOND, "{took:?}");
}

#[test]
fn each_fate_of_a_request() {
    // The fate, how often a store executes the write, whether a stray does.
    let rows = [
        (Fate::RequestLost, 0, 0),
        (Fate::ReplyLost, 1, 0),
        (Fate::Late(40 * SECOND), 0, 1),
        (Fate::ResetBefore, 0, 0),
        (Fate::ResetAfter, 1, 0),
    ];
    for (fate, at_once, later) in rows {
        let mut stage = Stage::with(Network { strays: 1_000_000, ..Network::calm() });
        let before = stage.calls(Rpc::RawPut);
        stage.sim.strike(NetFault::Next { client: 0, skip: 0, fate });
        let raw = stage.raw.clone();
        let put = stage.client.spawn(async move { raw.put("k", "1").timeout(20 * SECOND).await });
        // Longer than a message takes, shorter than a client waits before it tries again.
        stage.sim.run_for(3 * MS).unwrap();
        let reset = matches!(fate, Fate::ResetBefore | Fate::ResetAfter);
        assert_eq!(stage.sim.stats().resets, u64::from(reset), "{fate:?}");
        let executed = stage.calls(Rpc::RawPut) - before;
        if reset {
            // Whether it is tried again is the client's affair.
            assert!(executed >= at_once, "{fate:?}");
        } else {
            assert_eq!(executed, at_once, "{fate:?}");
        }
        stage.sim.run_until(put).unwrap().unwrap().ok();
        stage.sim.run_for(60 * SECOND).unwrap();
        assert_eq!(stage.sim.stats().zombies, later, "{fate:?}");
    }
}

#[test]
fn fates_are_met_by_the_request_that_they_are_for() {
    let mut stage = Stage::new();
    stage.sim.strike(NetFault::Next { client: 0, skip: 2, fate: Fate::RequestLost });
    for lost in [0, 0, 1, 1] {
        stage.get();
        assert_eq!(stage.sim.stats().requests_lost, lost);
    }
}

/// What is lost on a stream takes with it all that follows, until the client opens another.
#[test]
fn timestamps_travel_in_order_or_not_at_all() {
    let mut stage = Stage::new();
    let client = stage.client.clone();
    // Requests of several batches are under way at a time.
    let config = Config::default().with_tso_concurrency(4);
    let (txn, _) = stage.run(async move { client.transactions_with(config).await.unwrap() });
    stage.txn = txn;
    let asked: Vec<_> = (0..50)
        .map(|_| {
            // Much shorter than a way, so that they would overtake each other.
            stage.sim.run_for(Duration::from_micros(20)).unwrap();
            let txn = stage.txn.clone();
            stage.client.spawn(async move { txn.current_timestamp().await.unwrap().version() })
        })
        .collect();
    let mut got = Vec::new();
    for asked in asked {
        got.push(stage.sim.run_until(asked).unwrap().unwrap());
    }
    assert!(got.is_sorted(), "{got:?}");
    stage.sim.strike(NetFault::Next { client: 0, skip: 0, fate: Fate::RequestLost });
    let ask = |stage: &Stage| {
        let txn = stage.txn.clone();
        stage.client.spawn(async move { txn.current_timestamp().await.map(|at| at.version()) })
    };
    let first = ask(&stage);
    stage.sim.run_for(MS).unwrap();
    let second = ask(&stage);
    stage.sim.run_for(100 * MS).unwrap();
    assert!(!first.is_finished() && !second.is_finished());
    let both = async { (first.await.unwrap().unwrap(), second.await.unwrap().unwrap()) };
    stage.sim.run_until(both).unwrap();
    assert_eq!(stage.sim.stats().requests_lost, 2);
}

#[test]
fn a_reset_fails_all_calls_on_the_connection_in_doubt() {
    let mut stage = Stage::new();
    let (store, _) = stage.leader();
    let lasts = 10 * SECOND;
    stage.sim.strike(NetFault::SlowStore { store, by: SECOND, lasts });
    let raw = stage.raw.clone();
    let swap = stage.client.spawn(async move {
        raw.with_atomic_for_cas().compare_and_swap("k", Some("0".into()), "2").await
    });
    stage.sim.run_for(5 * MS).unwrap();
    stage.sim.strike(NetFault::Reset { client: 0, server: Side::Store(store) });
    // There are two client libraries in it, each with its own connection.
    assert_eq!(stage.sim.stats().resets, 2);
    let swapped = stage.sim.run_until(swap).unwrap().unwrap();
    // It must not be done twice, and nobody knows whether it was done once.
    assert!(swapped.unwrap_err().is_undetermined());
}

#[test]
fn with_a_network_that_loses_and_repeats_everything_is_counted() {
    let network = Network {
        request_lost: 100_000,
        reply_lost: 100_000,
        zombie: 100_000,
        reset: 100_000,
        strays: 1_000_000,
        ..Network::calm()
    };
    let profile = Profile { network, nemesis: Vec::new() };
    let (mut sim, _) = bank(config(3, profile), 3, 20);
    sim.run_for(60 * SECOND).unwrap();
    let stats = sim.stats();
    assert!(stats.requests_lost > 10 && stats.replies_lost > 10, "{stats:?}");
    assert!(stats.zombies > 10 && stats.resets > 10, "{stats:?}");
    sim.heal();
    let left = sim.drain(180 * SECOND).unwrap();
    assert!(left.is_quiet(), "{left:?}");
}

// ---- stores ------------------------------------------------------------------------------------

#[test]
fn a_slow_store_takes_longer_and_a_paused_one_as_long_as_it_stands_still() {
    let mut stage = Stage::new();
    assert!(stage.get() < 20 * MS);
    let (store, _) = stage.leader();
    stage.sim.strike(NetFault::SlowStore { store, by: 300 * MS, lasts: SECOND });
    let took = stage.get();
    assert!(took > 300 * MS && took < SECOND, "{took:?}");
    stage.sim.run_for(2 * SECOND).unwrap();
    assert!(stage.get() < 20 * MS);
    stage.sim.strike(NetFault::PauseStore { store, lasts: 700 * MS });
    let took = stage.get();
    assert!(took >= 700 * MS && took < SECOND, "{took:?}");
}

#[test]
fn a_crashed_store_is_replaced_after_an_election_and_comes_back() {
    let mut stage = Stage::new();
    let (store, _) = stage.leader();
    let (lasts, election) = (60 * SECOND, 2 * SECOND);
    stage.sim.strike(NetFault::CrashStore { store, lasts, election });
    let took = stage.get();
    assert!(took > SECOND && took < 20 * SECOND, "{took:?}");
    assert_ne!(stage.leader().0, store);
    assert!(stage.sim.stats().resets > 0);
    let up = |stage: &mut Stage| {
        let state = stage.sim.cluster(|cluster| cluster.store(store).unwrap().state);
        state == anatase_cluster::StoreState::Up
    };
    assert!(!up(&mut stage));
    stage.sim.run_for(60 * SECOND).unwrap();
    assert!(up(&mut stage));
}

#[test]
fn busy_and_full_stores_refuse() {
    let mut stage = Stage::new();
    let (store, region) = stage.leader();
    let struck = |stage: &mut Stage| stage.sim.cluster(|cluster| cluster.faults().struck());
    stage.sim.strike(NetFault::BusyStore { store, requests: 2, lasts: 60 * SECOND });
    stage.get();
    assert_eq!(struck(&mut stage), 2);
    let errors = [
        Refusal::EpochNotMatch,
        Refusal::StaleCommand,
        Refusal::NotLeader,
        Refusal::RegionNotFound,
        Refusal::MaxTimestampNotSynced,
        Refusal::Merging,
    ];
    for (n, error) in errors.into_iter().enumerate() {
        stage.sim.strike(NetFault::Refuse { region, requests: 1, lasts: 60 * SECOND, error });
        stage.get();
        assert_eq!(struck(&mut stage), 3 + n as u64, "{error:?}");
    }
    let error = Refusal::Undetermined;
    stage.sim.strike(NetFault::Refuse { region, requests: 1, lasts: 60 * SECOND, error });
    stage.put().0.ok();
    assert_eq!(struck(&mut stage), 9);
    // What nobody met in time is over.
    stage.sim.strike(NetFault::BusyStore { store, requests: 2, lasts: SECOND });
    stage.sim.run_for(2 * SECOND).unwrap();
    stage.get();
    assert_eq!(struck(&mut stage), 9);

    stage.sim.strike(NetFault::FullStore { store, lasts: SECOND });
    stage.get();
    let (put, took) = stage.put();
    assert!(put.is_err() || took >= 900 * MS, "{put:?} after {took:?}");
    stage.sim.run_for(SECOND).unwrap();
    stage.put().0.unwrap();
}

// ---- regions -----------------------------------------------------------------------------------

#[test]
fn regions_split_merge_and_move() {
    let mut stage = Stage::new();
    assert_eq!(stage.regions(), 3);
    stage.sim.strike(NetFault::Split { key: b"q".to_vec() });
    assert_eq!(stage.regions(), 4);
    stage.sim.strike(NetFault::Split { key: b"q".to_vec() });
    assert_eq!(stage.regions(), 4, "there is a bound already");
    stage.sim.strike(NetFault::SplitAtKey { nth: 5 });
    assert_eq!(stage.regions(), 5);
    for left in [4, 3, 2, 1, 1] {
        stage.sim.strike(NetFault::Merge { region: 7 });
        assert_eq!(stage.regions(), left);
    }
    stage.get();
    let (leader, region) = stage.leader();
    for peer in 0..3 {
        stage.sim.strike(NetFault::MoveLeader { region, peer });
        stage.get();
    }
    let (now, _) = stage.leader();
    assert_eq!((leader, now), (1, 3));
}

#[test]
fn a_region_without_a_leader_answers_nobody() {
    let mut stage = Stage::new();
    let (_, region) = stage.leader();
    stage.sim.strike(NetFault::LoseLeader { region, lasts: 3 * SECOND });
    let took = stage.get();
    assert!(took >= 3 * SECOND && took < 10 * SECOND, "{took:?}");
}

#[test]
fn stale_routes_are_told_until_they_are_not() {
    let mut stage = Stage::new();
    stage.sim.strike(NetFault::StaleRoutes { lasts: 5 * SECOND });
    stage.sim.strike(NetFault::Split { key: b"kk".to_vec() });
    let regions = |stage: &mut Stage| {
        let txn = stage.txn.clone();
        stage.run(async move { txn.begin_optimistic().await.is_ok() });
        let client = stage.client.clone();
        // A fresh client knows what PD tells it.
        let (seen, _) = stage.run(async move {
            let raw = client.raw().await.unwrap();
            raw.scan(.., 100).await.unwrap();
            raw.close().await;
        });
        seen
    };
    let before = stage.sim.cluster(|cluster| cluster.calls(Rpc::RawScan));
    regions(&mut stage);
    let stale = stage.sim.cluster(|cluster| cluster.calls(Rpc::RawScan)) - before;
    stage.sim.run_for(10 * SECOND).unwrap();
    let before = stage.sim.cluster(|cluster| cluster.calls(Rpc::RawScan));
    regions(&mut stage);
    let fresh = stage.sim.cluster(|cluster| cluster.calls(Rpc::RawScan)) - before;
    assert!(stale > fresh, "{stale} requests with stale routes, {fresh} with fresh ones");
}

// ---- PD ----------------------------------------------------------------------------------------

#[test]
fn pd_changes_its_leader_and_time_leaps() {
    let mut stage = Stage::new();
    let (before, _) = stage.timestamp();
    stage.sim.strike(NetFault::MovePdLeader { member: 1 });
    assert_eq!(stage.sim.cluster(|cluster| cluster.pd_leader()), Some(1));
    let (after, _) = stage.timestamp();
    assert!(after >> 18 >= (before >> 18) + 3000);
    stage.sim.strike(NetFault::TimestampLeap { by: 5 * SECOND });
    let (leapt, _) = stage.timestamp();
    assert!(leapt >> 18 >= (after >> 18) + 4900, "{}", (leapt >> 18) - (after >> 18));
    assert!(leapt >> 18 < (after >> 18) + 6000);
    // Not again and again.
    for member in 0..20 {
        stage.sim.strike(NetFault::MovePdLeader { member });
    }
    let (far, _) = stage.timestamp();
    assert!(far >> 18 < (before >> 18) + 15_000);
}

#[test]
fn pd_s_clock_is_the_world_s_and_never_goes_back() {
    let mut stage = Stage::new();
    let (mut last, _) = stage.timestamp();
    for _ in 0..20 {
        stage.sim.run_for(SECOND).unwrap();
        let (now, took) = stage.timestamp();
        let passed = (now >> 18) - (last >> 18);
        assert!((1000..1010).contains(&passed), "{passed} with {took:?}");
        last = now;
    }
}

#[test]
fn pd_without_a_leader_slow_dead_or_in_a_mood() {
    let mut stage = Stage::new();
    assert!(stage.timestamp().1 < 20 * MS);
    stage.sim.strike(NetFault::LosePdLeader { lasts: 2 * SECOND });
    let (_, took) = stage.timestamp();
    assert!(took >= 2 * SECOND, "{took:?}");
    let leader = stage.sim.cluster(|cluster| cluster.pd_leader()).unwrap();
    stage.sim.strike(NetFault::SlowPd { member: leader, by: 200 * MS, lasts: SECOND });
    let (_, took) = stage.timestamp();
    assert!(took >= 200 * MS, "{took:?}");
    stage.sim.run_for(2 * SECOND).unwrap();
    stage.sim.strike(NetFault::PdError { requests: 1, lasts: 60 * SECOND });
    stage.timestamp();
    assert_eq!(stage.sim.cluster(|cluster| cluster.faults().struck()), 1);
    stage.sim.strike(NetFault::CrashPd { member: leader, lasts: 30 * SECOND });
    assert_eq!(stage.sim.cluster(|cluster| cluster.pd_leader()), None);
    stage.timestamp();
    let now = stage.sim.cluster(|cluster| cluster.pd_leader());
    assert!(now.is_some() && now != Some(leader));
    stage.sim.run_for(30 * SECOND).unwrap();
    assert!(stage.sim.cluster(|cluster| cluster.pd_members()[leader].up));
}

// ---- transactions ------------------------------------------------------------------------------

#[test]
fn ways_to_commit_fall_back() {
    let mut stage = Stage::new();
    let commit = |stage: &mut Stage, n: u32| {
        let txn = stage.txn.clone();
        let (outcome, _) = stage.run(async move {
            let txn = txn.begin_with_options(way(n)).await.unwrap();
            txn.put("t", "1").await.unwrap();
            txn.put("u", "1").await.unwrap();
            txn.commit().outcome().await
        });
        match outcome {
            CommitOutcome::Committed { by, .. } => by,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(commit(&mut stage, 2), Some(CommittedBy::Async));
    assert_eq!(commit(&mut stage, 4), Some(CommittedBy::OnePhase));
    let (requests, lasts) = (1, 60 * SECOND);
    stage.sim.strike(NetFault::FallBack { one_phase: false, requests, lasts });
    assert_eq!(commit(&mut stage, 2), Some(CommittedBy::TwoPhase));
    stage.sim.strike(NetFault::FallBack { one_phase: true, requests, lasts });
    assert_ne!(commit(&mut stage, 4), Some(CommittedBy::OnePhase));
    assert_eq!(commit(&mut stage, 4), Some(CommittedBy::OnePhase));
    let (_, region) = stage.leader();
    stage.sim.strike(NetFault::HoldMaxTs { region, lasts: 2 * SECOND });
    let begun = stage.sim.now();
    commit(&mut stage, 2);
    assert!(stage.sim.now() - begun >= SECOND, "it waits, or falls back and has no need to");
}

#[test]
fn a_request_for_a_lock_waits_at_its_store_unless_told_not_to() {
    let wait = |fault: Option<NetFault>| {
        let mut stage = Stage::new();
        stage.sim.strike(fault.unwrap_or(NetFault::Split { key: b"zz".to_vec() }));
        let (txn, client) = (stage.txn.clone(), stage.client.clone());
        let before = stage.calls(Rpc::KvPessimisticLock);
        let holder = stage.client.spawn({
            let (txn, client) = (txn.clone(), client.clone());
            async move {
                let holder = txn.begin_pessimistic().await.unwrap();
                holder.get_for_update("t").await.unwrap();
                client.sleep(500 * MS).await;
                holder.commit().await.unwrap();
            }
        });
        stage.sim.run_for(50 * MS).unwrap();
        let waiter = stage.client.spawn(async move {
            let waiter = txn.begin_pessimistic().await.unwrap();
            // It has the lock, or hears that somebody was first: it has waited in any case.
            waiter.get_for_update("t").await.ok();
            waiter.rollback().await.unwrap();
        });
        stage.sim.run_for(100 * MS).unwrap();
        let parked = stage.sim.cluster(|cluster| cluster.parked().len());
        stage.sim.run_until(async { (holder.await.unwrap(), waiter.await.unwrap()) }).unwrap();
        assert!(stage.sim.now() >= 500 * MS);
        (parked, stage.calls(Rpc::KvPessimisticLock) - before)
    };
    let (parked, requests) = wait(None);
    assert_eq!(parked, 1);
    // The first of the holder, and those of the waiter: it tries again if somebody was first.
    assert!(requests <= 4, "{requests}");
    let (_, more) = wait(Some(NetFault::DoNotWait { requests: 2, lasts: 60 * SECOND }));
    assert!(more > requests, "{more} after {requests}");
}

// ---- all of them -------------------------------------------------------------------------------

/// The nemesis with one kind of fault at a time: it strikes, and the bank keeps its total.
#[test]
fn each_kind_of_the_nemesis_strikes() {
    for kind in FaultKind::ALL {
        let recurring = Recurring { kind, every: 500 * MS, lasts: 300 * MS };
        let profile = Profile { network: Network::calm(), nemesis: vec![recurring] };
        let (mut sim, tally) = bank(config(11, profile), 3, 15);
        sim.run_for(10 * SECOND).unwrap();
        assert!(sim.stats().faults > 5, "{kind:?}: {:?}", sim.stats());
        sim.heal();
        let left = sim.drain(120 * SECOND).unwrap();
        assert!(left.is_quiet(), "{kind:?}: {left:?}");
        assert!(tally.committed.load(Ordering::Relaxed) > 0, "{kind:?}: {tally:?}");
        let janitor = sim.client("janitor");
        let audited = janitor.spawn({
            let janitor = janitor.clone();
            async move {
                let bank = janitor.transactions().await?;
                let now = bank.current_timestamp().await?;
                audit(bank.snapshot(now)).await
            }
        });
        sim.run_until(audited).unwrap().unwrap().unwrap();
        let struck = sim.stats().faults;
        sim.run_for(60 * SECOND).unwrap();
        assert_eq!(sim.stats().faults, struck, "{kind:?}: a healed world is left alone");
    }
}

#[test]
fn healing_ends_what_lasts_and_calls_off_what_is_planned() {
    let later = NetFault::CrashClient { client: 0, down: SECOND };
    let mut sim = Sim::new(config(1, Profile::calm()).fault(100 * SECOND, later));
    let client = sim.client("alice");
    let long = 1_000_000 * SECOND;
    let (from, to) = (Side::Clients, Side::Stores);
    sim.strike(NetFault::Partition { from, to, both_ways: true, lasts: long });
    sim.strike(NetFault::CrashStore { store: 1, lasts: long, election: long });
    sim.strike(NetFault::PauseStore { store: 2, lasts: long });
    sim.strike(NetFault::CrashPd { member: 0, lasts: long });
    sim.strike(NetFault::FullStore { store: 3, lasts: long });
    sim.strike(NetFault::StaleRoutes { lasts: long });
    sim.strike(NetFault::PauseClient { client: 0, lasts: long });
    sim.strike(NetFault::SkewClient { client: 0, permille: 500 });
    let written = client.spawn({
        let client: SimClient = client.clone();
        async move {
            let raw = client.raw().await?;
            raw.put("k", "v").await
        }
    });
    sim.run_for(30 * SECOND).unwrap();
    assert!(!written.is_finished());
    sim.heal();
    sim.run_until(written).unwrap().unwrap().unwrap();
    assert!(sim.now() < 40 * SECOND, "{:?}", sim.now());
    sim.run_for(200 * SECOND).unwrap();
    assert_eq!((client.crashes(), sim.stats().crashes), (0, 0));
    let left: Arc<str> = "alice".into();
    assert!(!sim.residue().open.contains(&(left, 1)), "{:?}", sim.residue());
}
