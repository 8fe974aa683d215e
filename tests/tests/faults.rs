//! What a user feels when a part of the cluster breaks, and how soon it is over: real sockets, real
//! processes, real time.
//!
//! Every test states the same five things of its fault: which operations fail, how long the longest
//! takes, that none outlives its deadline, that afterwards the throughput is back without a restart,
//! and that tasks and sockets are as many as before. Bounds are in seconds because two processors
//! may be shared with a compiler; what is measured against a bound is printed (`--nocapture`).

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use anatase::{Config, ErrorKind, RawClient, TransactionClient};
use anatase_cluster::{Cluster, ClusterConfig, Fault, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::bounded;
use anatase_tests::stage::{
    Held, Lag, Load, Record, Stage, errors, longest, rate, silent_listener,
};

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Three stores and three regions, all led by store 1.
fn three() -> ClusterConfig {
    ClusterConfig::default().stores(3).split_keys(["k3", "k6"])
}

async fn raw(stage: &Stage, config: Config) -> RawClient {
    RawClient::new_with_config(stage.server.pd_addresses(), config).await.expect("a client")
}

/// Six workers that write keys of their own and read them back.
fn load(client: &RawClient, timeout: Duration) -> Load {
    let client = client.clone();
    Load::start(6, move |worker, turn| {
        let client = client.clone();
        async move {
            let key = format!("k{}-{worker}", turn % 10);
            client.put(key.clone(), turn.to_string()).timeout(timeout).await?;
            let read = client.get(key).timeout(timeout).await?;
            assert_eq!(read.as_deref(), Some(turn.to_string().as_bytes()));
            Ok(())
        }
    })
}

/// A client under load, before, during and after a fault.
struct Trial {
    lag: Lag,
    load: Load,
    held: Held,
    timeout: Duration,
    healthy: std::ops::Range<Instant>,
}

impl Trial {
    /// Warms up, counts what is held, and measures a second and a half of health.
    async fn begin(stage: &Stage, client: &RawClient, timeout: Duration) -> Self {
        let held = warm_up(stage, client).await;
        let lag = Lag::measure();
        let load = load(client, timeout);
        let begun = Instant::now();
        pause(ms(1_500)).await;
        Self { lag, load, held, timeout, healthy: begun..Instant::now() }
    }

    /// The cluster has just been mended: how soon is everything as before?
    async fn end(self, stage: &Stage, what: &str) -> Vec<Record> {
        let mended = Instant::now();
        let back = loop {
            pause(ms(100)).await;
            let now = Instant::now();
            let records = self.load.records();
            let before = rate(&records, &self.healthy);
            let after = rate(&records, &(now - ms(1_000)..now));
            if now - mended > SECOND && after >= before / 2.0 {
                break now - mended;
            }
            assert!(now - mended < 10 * SECOND, "{what}: {after} op/s, and {before} before");
        };
        let allowance = self.lag.allowance();
        let records = self.load.stop().await;
        // An operation of the load is two of the client's.
        let late = longest(&records).saturating_sub(2 * self.timeout);
        assert!(late <= allowance, "{what}: {late:?} after the deadline, allowed {allowance:?}");
        self.held.returns(stage).await;
        #[allow(clippy::print_stdout, reason = "shown with --nocapture")]
        {
            println!(
                "{what}: {} operations, {} errors, longest {:?}, full speed after {back:?}, {:?}",
                records.len(),
                errors(&records).len(),
                longest(&records),
                self.held,
            );
        }
        records
    }
}

/// Uses every store once, so that there is a connection to each; leaders are where they were then.
/// What the client holds.
async fn warm_up(stage: &Stage, client: &RawClient) -> Held {
    let leaders = stage.leaders();
    for store in [1, 2, 3] {
        stage.lead_all(store);
        load_for(client, ms(150), 10 * SECOND).await;
    }
    stage.lead(&leaders);
    load_for(client, ms(150), 10 * SECOND).await;
    pause(ms(100)).await;
    Held::now(stage)
}

async fn load_for(client: &RawClient, time: Duration, timeout: Duration) {
    let load = load(client, timeout);
    pause(time).await;
    let records = load.stop().await;
    assert!(errors(&records).is_empty(), "{:?}", errors(&records));
}

fn assert_no_errors(records: &[Record]) {
    assert!(errors(records).is_empty(), "{:?}", errors(records));
}

fn assert_quick(what: &str, records: &[Record], limit: Duration) {
    let longest = longest(records);
    assert!(longest <= limit, "{what}: the longest took {longest:?}, allowed {limit:?}");
}

/// The leader of PD dies and half a second later another member leads. Whoever knows the way does not
/// notice; whoever needs a timestamp waits for the election and a second more, and nothing fails.
#[tokio::test]
async fn the_leader_of_pd_is_killed() {
    bounded(async {
        let stage = Stage::start(three().pd_members(3)).await;
        let client = raw(&stage, Config::default()).await;
        let txns = TransactionClient::new(stage.server.pd_addresses()).await.unwrap();
        txns.current_timestamp().await.unwrap();
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        let stamps = {
            let txns = txns.clone();
            Load::start(2, move |_, _| {
                let txns = txns.clone();
                async move { txns.current_timestamp().timeout(10 * SECOND).await.map(drop) }
            })
        };
        pause(ms(200)).await;
        stage.server.stop_pd_member(0);
        pause(ms(500)).await;
        stage.server.with(|cluster| cluster.transfer_pd_leader(1));
        pause(2 * SECOND).await;
        let stamps = stamps.stop().await;
        assert_no_errors(&stamps);
        assert_quick("timestamps", &stamps, ms(500) + 3 * SECOND);
        stage.start_pd_member(0).await;
        let records = trial.end(&stage, "PD leader killed").await;
        assert_no_errors(&records);
        assert_quick("reads and writes", &records, SECOND);
        txns.close().await;
        client.close().await;
    })
    .await;
}

/// All of PD is gone for five seconds: reads and writes of known regions go on; what needs PD fails
/// at its deadline, and works again a second or two after PD does.
#[tokio::test]
async fn all_of_pd_is_gone_for_five_seconds() {
    bounded(async {
        let stage = Stage::start(three().pd_members(2)).await;
        let client = raw(&stage, Config::default()).await;
        let txns = TransactionClient::new(stage.server.pd_addresses()).await.unwrap();
        txns.current_timestamp().await.unwrap();
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        stage.server.stop_pd_member(0);
        stage.server.stop_pd_member(1);
        let gone = Instant::now();
        while gone.elapsed() < 5 * SECOND {
            let begun = Instant::now();
            let error = txns.current_timestamp().timeout(SECOND).await.unwrap_err();
            let took = begun.elapsed();
            let kind = error.kind();
            let telling = matches!(kind, ErrorKind::DeadlineExceeded | ErrorKind::PdUnavailable);
            assert!(telling, "{error:?}");
            let late = took.saturating_sub(SECOND);
            let allowance = trial.lag.allowance();
            assert!(late <= allowance, "{late:?} after the deadline, allowed {allowance:?}");
        }
        stage.start_pd_member(0).await;
        stage.start_pd_member(1).await;
        stage.server.with(|cluster| cluster.transfer_pd_leader(1));
        let back = Instant::now();
        txns.current_timestamp().timeout(10 * SECOND).await.unwrap();
        assert!(back.elapsed() < 4 * SECOND, "timestamps after {:?}", back.elapsed());
        let records = trial.end(&stage, "PD gone").await;
        assert_no_errors(&records);
        assert_quick("reads and writes", &records, SECOND);
        txns.close().await;
        client.close().await;
    })
    .await;
}

/// A store dies, its regions elect leaders after half a second, and it comes back: nothing fails, and
/// the longest wait is the election's and a few back-offs.
#[tokio::test]
async fn a_store_is_killed_and_restarted() {
    bounded(async {
        let stage = Stage::start(three()).await;
        stage.lead_all(1);
        let client = raw(&stage, Config::default()).await;
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        stage.server.stop_store(1);
        pause(ms(500)).await;
        stage.server.with(Cluster::elect_leaders);
        pause(2 * SECOND).await;
        stage.start_store(1).await;
        stage.lead_all(1);
        let records = trial.end(&stage, "store killed").await;
        assert_no_errors(&records);
        assert_quick("the longest", &records, ms(500) + 4 * SECOND);
        client.close().await;
    })
    .await;
}

/// peers.md D21: a store that is frozen (SIGSTOP: its kernel takes bytes, nobody answers) is given up
/// by keepalive, and its regions are served by whoever leads them then. With the default settings
/// that takes 13 s; here a second each for the ping and its answer.
#[tokio::test]
async fn d21_a_frozen_store_is_noticed() {
    bounded(async {
        let stage = Stage::start(three()).await;
        stage.lead_all(1);
        let relay = stage.relay_process(1);
        let config = Config::default().with_keepalive(SECOND, SECOND).with_connect_timeout(SECOND);
        let client = raw(&stage, config).await;
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        relay.signal("STOP");
        pause(SECOND).await;
        stage.lead_all(2);
        pause(5 * SECOND).await;
        relay.signal("CONT");
        stage.lead_all(1);
        let records = trial.end(&stage, "store frozen").await;
        assert_no_errors(&records);
        assert_quick("the longest", &records, 8 * SECOND);
        client.close().await;
    })
    .await;
}

/// Nobody takes over from a frozen store: operations end at their deadlines, not later, and say which
/// store they waited for.
#[tokio::test]
async fn d21_no_operation_outlives_its_deadline_at_a_frozen_store() {
    bounded(async {
        let stage = Stage::start(three()).await;
        stage.lead_all(1);
        let relay = stage.relay_process(1);
        let config = Config::default().with_keepalive(SECOND, SECOND).with_connect_timeout(SECOND);
        let client = raw(&stage, config).await;
        let held = warm_up(&stage, &client).await;
        let lag = Lag::measure();
        relay.signal("STOP");
        let timeout = ms(700);
        let load = load(&client, timeout);
        pause(5 * SECOND).await;
        let records = load.stop().await;
        let late = longest(&records).saturating_sub(timeout);
        assert!(late <= lag.allowance(), "{late:?} late, allowed {:?}", lag.allowance());
        assert!(errors(&records).len() > 6);
        for error in errors(&records) {
            assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded, "{error:?}");
        }
        relay.signal("CONT");
        let back = Instant::now();
        client.get("k1").timeout(10 * SECOND).await.unwrap();
        assert!(back.elapsed() < 5 * SECOND, "{:?}", back.elapsed());
        load_for(&client, ms(300), 10 * SECOND).await;
        held.returns(&stage).await;
        client.close().await;
    })
    .await;
}

/// The relay in front of a store is killed, as a middlebox may die: connections break at once, and
/// the regions' new leader serves.
#[tokio::test]
async fn a_killed_relay_is_a_killed_store() {
    bounded(async {
        let stage = Stage::start(three()).await;
        stage.lead_all(1);
        let direct = stage.server.store_address(1).unwrap();
        let relay = stage.relay_process(1);
        let client = raw(&stage, Config::default()).await;
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        relay.signal("KILL");
        stage.lead_all(2);
        pause(SECOND).await;
        // The store is found at another address.
        stage.server.with(|cluster| cluster.set_store_address(1, direct));
        stage.lead_all(1);
        let records = trial.end(&stage, "relay killed").await;
        assert_no_errors(&records);
        assert_quick("the longest", &records, 5 * SECOND);
        client.close().await;
    })
    .await;
}

/// A store's address takes connections and never says a word: it is not waited for longer than
/// opening a connection may take, and then the region's other replicas are asked.
#[tokio::test]
async fn a_store_that_listens_and_is_silent() {
    bounded(async {
        let stage = Stage::start(three()).await;
        stage.lead_all(1);
        let direct = stage.server.store_address(1).unwrap();
        let (silent, listening) = silent_listener().await;
        stage.server.with(|cluster| cluster.set_store_address(1, &*silent));
        let config = Config::default().with_connect_timeout(SECOND);
        let client = raw(&stage, config).await;
        let lag = Lag::measure();
        let begun = Instant::now();
        let error = client.get("k1").timeout(3 * SECOND).await.unwrap_err();
        let late = begun.elapsed().saturating_sub(3 * SECOND);
        assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded, "{error:?}");
        assert!(late <= lag.allowance(), "{late:?} late, allowed {:?}", lag.allowance());
        // A leader that talks is found within seconds.
        stage.lead_all(2);
        let begun = Instant::now();
        client.get("k1").timeout(10 * SECOND).await.unwrap();
        assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
        stage.server.with(|cluster| cluster.set_store_address(1, direct));
        listening.abort();
        stage.lead_all(1);
        let begun = Instant::now();
        client.get("k1").timeout(10 * SECOND).await.unwrap();
        assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
        load_for(&client, SECOND, 10 * SECOND).await;
        client.close().await;
    })
    .await;
}

/// Connections break again and again in the middle of requests: each costs its requests a back-off.
#[tokio::test]
async fn connections_are_reset_under_load() {
    bounded(async {
        let stage = Stage::start(three()).await;
        let client = raw(&stage, Config::default()).await;
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        for round in 0..6 {
            stage.server.reset_store_connections(1 + round % 3);
            pause(ms(200)).await;
        }
        let records = trial.end(&stage, "connections reset").await;
        assert_no_errors(&records);
        assert_quick("the longest", &records, 3 * SECOND);
        client.close().await;
    })
    .await;
}

/// Regions are without a leader for three seconds: operations wait, and go on within a few back-offs
/// of half a second each after the election.
#[tokio::test]
async fn regions_without_a_leader_for_three_seconds() {
    bounded(async {
        let stage = Stage::start(three()).await;
        let client = raw(&stage, Config::default()).await;
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        stage.server.with(|cluster| {
            let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
            regions.into_iter().for_each(|region| cluster.remove_leader(region));
        });
        pause(3 * SECOND).await;
        stage.server.with(Cluster::elect_leaders);
        let records = trial.end(&stage, "no leaders").await;
        assert_no_errors(&records);
        assert_quick("the longest", &records, 3 * SECOND + 2 * SECOND);
        client.close().await;
    })
    .await;
}

/// PD tells routes of before twenty splits and as many moves. Who follows the stores' own words does
/// not notice; a newcomer gets as far as those words lead it, and goes on as soon as PD has caught up.
#[tokio::test]
async fn pd_tells_stale_routes() {
    bounded(async {
        let stage = Stage::start(three()).await;
        let client = raw(&stage, Config::default()).await;
        let trial = Trial::begin(&stage, &client, 10 * SECOND).await;
        stage.server.with(Cluster::freeze_routes);
        for round in 0..20_u64 {
            stage.server.with(|cluster| {
                cluster.split_raw(format!("k{}-{}", round % 10, round / 10 * 3));
            });
            stage.lead_all(1 + round % 3);
            pause(ms(40)).await;
        }
        let other = raw(&stage, Config::default()).await;
        let newcomer = tokio::spawn(async move {
            let scanned = other.scan_keys(.., 100).timeout(10 * SECOND).await;
            other.close().await;
            scanned
        });
        pause(SECOND).await;
        stage.server.with(Cluster::thaw_routes);
        let thawed = Instant::now();
        newcomer.await.unwrap().unwrap();
        assert!(thawed.elapsed() < 3 * SECOND, "{:?}", thawed.elapsed());
        let records = trial.end(&stage, "stale routes").await;
        assert_no_errors(&records);
        assert_quick("the longest", &records, 3 * SECOND);
        client.close().await;
    })
    .await;
}

/// A store says that it is busy, and for how long: the operation waits for it, once, and the other
/// stores' operations do not.
#[tokio::test]
async fn a_busy_store_is_given_time() {
    bounded(async {
        let stage = Stage::start(three()).await;
        stage.lead_all(2);
        stage.server.with(|cluster| {
            let first = cluster.region_of_raw(b"k0").unwrap().id;
            cluster.transfer_leader(first, 1);
        });
        let client = raw(&stage, Config::default()).await;
        load_for(&client, ms(200), 10 * SECOND).await;
        let gets = stage.server.with(|cluster| cluster.calls(Rpc::RawGet));
        stage.server.with(|cluster| {
            let busy = RegionFault::ServerIsBusy {
                reason: "scheduler is busy".into(),
                backoff_ms: 500,
                estimated_wait_ms: 500,
            };
            cluster.faults().next(On::rpc(Rpc::RawGet).store(1), busy);
        });
        let begun = Instant::now();
        let slow = tokio::spawn({
            let client = client.clone();
            async move { client.get("k0").timeout(20 * SECOND).await }
        });
        pause(ms(50)).await;
        let other = Instant::now();
        client.get("k7").timeout(SECOND).await.unwrap();
        assert!(other.elapsed() < ms(500), "{:?}", other.elapsed());
        slow.await.unwrap().unwrap();
        let took = begun.elapsed();
        assert!(took >= ms(500) && took < 5 * SECOND, "{took:?}");
        let asked = stage.server.with(|cluster| cluster.calls(Rpc::RawGet)) - gets;
        assert_eq!(asked, 3, "the busy one, its repetition, and the other store's");
        client.close().await;
    })
    .await;
}

/// peers.md D31: a thousand callers miss the same region and need the same stores: PD is asked for the
/// region once, for the store once, and one connection is made.
#[tokio::test]
async fn d31_a_thousand_callers_ask_once() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(3)).await;
        stage.lead_all(1);
        let relay = stage.relay(1).await;
        let client = raw(&stage, Config::default()).await;
        let questions = |cluster: &Cluster| {
            let regions = [
                Rpc::PdGetRegion,
                Rpc::PdGetRegionById,
                Rpc::PdGetPrevRegion,
                Rpc::PdQueryRegion,
                Rpc::PdScanRegions,
                Rpc::PdBatchScanRegions,
            ];
            let regions: u64 = regions.into_iter().map(|rpc| cluster.calls(rpc)).sum();
            (regions, cluster.calls(Rpc::PdGetStore))
        };
        let (regions, stores) = stage.server.with(|cluster| {
            let slow = Fault::Delay(ms(300));
            cluster.faults().next(On::rpc(Rpc::PdGetRegion), slow.clone());
            cluster.faults().next(On::rpc(Rpc::PdGetStore), slow);
            questions(cluster)
        });
        let callers: Vec<_> =
            (0..1_000).map(|_| tokio::spawn(client.get("k").into_future())).collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap(), None);
        }
        let after = stage.server.with(|cluster| questions(cluster));
        assert_eq!((after.0 - regions, after.1 - stores), (1, 1));
        assert_eq!(relay.accepted(), 1);
        client.close().await;
    })
    .await;
}

/// peers.md D28: an answer above the client's limit is that request's failure and nobody else's: no
/// connection is dropped, no region is doubted, and it is not asked for again.
#[tokio::test]
async fn d28_an_answer_above_the_limit() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(3)).await;
        stage.lead_all(1);
        let relay = stage.relay(1).await;
        let config = Config::default().with_grpc_max_decoding_message_size(64 << 10);
        let client = raw(&stage, config).await;
        client.put("small", "v").await.unwrap();
        client.put("large", "v".repeat(1 << 20)).await.unwrap();
        let asked = |cluster: &Cluster| {
            [Rpc::RawGet, Rpc::PdGetRegion, Rpc::PdBatchScanRegions, Rpc::PdGetStore]
                .map(|rpc| cluster.calls(rpc))
        };
        let before = stage.server.with(|cluster| asked(cluster));
        let begun = Instant::now();
        let error = client.get("large").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TooLarge, "{error:?}");
        assert!(error.to_string().contains("65536"), "{error}");
        assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
        assert_eq!(client.get("small").await.unwrap().as_deref(), Some(&b"v"[..]));
        let after = stage.server.with(|cluster| asked(cluster));
        assert_eq!(after, [before[0] + 2, before[1], before[2], before[3]]);
        assert_eq!(relay.accepted(), 1);
        client.close().await;
    })
    .await;
}
