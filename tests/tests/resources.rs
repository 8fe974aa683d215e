//! What a client holds: tasks, sockets, and other callers' patience.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use anatase::{Config, ErrorKind, RawClient, TransactionClient};
use anatase_cluster::{ClusterConfig, Fault, Loss, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::bounded;
use anatase_tests::stage::{Held, Stage};
use tokio::runtime::Handle;

const SECOND: Duration = Duration::from_secs(1);

async fn raw(stage: &Stage, config: Config) -> RawClient {
    RawClient::new_with_config(stage.server.pd_addresses(), config).await.expect("a client")
}

/// A store that takes requests of this kind and answers none.
fn mute(stage: &Stage, rpc: Rpc) {
    let silent = Fault::DropRequest(Loss::Silent);
    stage.server.with(|cluster| cluster.faults().always(On::rpc(rpc), silent));
}

/// peers.md D26: ten thousand operations are dropped while their requests are out. Nothing is left of
/// them, here or in the connection, which serves the next as if nothing had been.
#[tokio::test]
async fn d26_ten_thousand_dropped_futures_leave_nothing() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(1)).await;
        let client = raw(&stage, Config::default()).await;
        client.put("k", "v").await.unwrap();
        let held = Held::now(&stage);
        mute(&stage, Rpc::RawGet);
        for _ in 0..10 {
            let dropped: Vec<_> =
                (0..1_000).map(|_| tokio::spawn(client.get("k").into_future())).collect();
            // Most are out, some are on their way, some have not begun: all are dropped.
            tokio::time::sleep(Duration::from_millis(20)).await;
            for task in dropped {
                task.abort();
                assert!(task.await.unwrap_err().is_cancelled());
            }
        }
        held.returns(&stage).await;
        stage.server.with(|cluster| cluster.faults().clear());
        let begun = Instant::now();
        assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        assert_eq!(Held::now(&stage).sockets, held.sockets);
        client.close().await;
    })
    .await;
}

/// A client is closed with a thousand reads and writes out that will never be answered: all of them
/// hear of it, the writes as being in doubt, and nothing of the client is left.
#[tokio::test]
async fn closing_with_a_thousand_operations_under_way() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(3)).await;
        let before = Held::now(&stage);
        let client = raw(&stage, Config::default()).await;
        client.put("k", "v").await.unwrap();
        mute(&stage, Rpc::RawGet);
        mute(&stage, Rpc::RawPut);
        let reads: Vec<_> =
            (0..500).map(|n| tokio::spawn(client.get(format!("k{n}")).into_future())).collect();
        let writes: Vec<_> = (0..500)
            .map(|n| tokio::spawn(client.put(format!("k{n}"), "v").into_future()))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begun = Instant::now();
        client.close().await;
        for read in reads {
            let error = read.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Closed, "{error:?}");
            assert!(!error.is_undetermined(), "{error:?}");
        }
        for write in writes {
            let error = write.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Closed, "{error:?}");
            assert!(error.is_undetermined(), "{error:?}");
        }
        assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
        drop(client);
        before.returns(&stage).await;
    })
    .await;
}

/// A transactional client is closed among a thousand commits that are slow: those that had begun are
/// carried to their end, within the time that they need, and leave no lock.
#[tokio::test]
async fn closing_waits_for_a_thousand_commits() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(3).split_keys(["k5"])).await;
        let before = Handle::current().metrics().num_alive_tasks();
        let client = TransactionClient::new(stage.server.pd_addresses()).await.unwrap();
        stage.server.with(|cluster| {
            let slow = Fault::Delay(Duration::from_millis(200));
            cluster.faults().always(On::rpc(Rpc::KvCommit), slow);
        });
        let mut commits = Vec::new();
        for n in 0..1_000 {
            let txn = client.begin_optimistic().await.unwrap();
            txn.put(format!("k{n:03}"), "v").await.unwrap();
            txn.put(format!("other{n:03}"), "v").await.unwrap();
            commits.push(txn);
        }
        let commits: Vec<_> =
            commits.into_iter().map(|txn| tokio::spawn(txn.commit().into_future())).collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        client.close().await;
        assert!(begun.elapsed() < 15 * SECOND, "{:?}", begun.elapsed());
        for commit in commits {
            let _ = commit.await.unwrap();
        }
        assert_eq!(stage.server.with(|cluster| cluster.locks()), []);
        drop(client);
        let held = Held { tasks: before, sockets: 0 };
        held.returns(&stage).await;
    })
    .await;
}

/// peers.md D18: the caller on whose behalf a region is looked up goes away, or PD does not answer:
/// whoever came later gets an answer all the same.
#[tokio::test]
async fn d18_a_cancelled_lookup_hangs_nobody() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(3)).await;
        for (fault, limit) in [
            (Fault::Delay(Duration::from_millis(400)), 2 * SECOND),
            (Fault::DropRequest(Loss::Silent), 4 * SECOND),
            (Fault::DropRequest(Loss::Reset), 3 * SECOND),
        ] {
            for rpc in [Rpc::PdGetRegion, Rpc::PdGetStore] {
                let config = Config::default().with_pd_timeout(SECOND);
                let client = raw(&stage, config).await;
                stage.server.with(|cluster| cluster.faults().next(On::rpc(rpc), fault.clone()));
                let first = tokio::spawn(client.get("k").into_future());
                tokio::time::sleep(Duration::from_millis(100)).await;
                let joined: Vec<_> =
                    (0..50).map(|_| tokio::spawn(client.get("k").into_future())).collect();
                tokio::time::sleep(Duration::from_millis(50)).await;
                first.abort();
                let begun = Instant::now();
                for later in joined {
                    later.await.unwrap().unwrap();
                }
                client.get("k").await.unwrap();
                assert!(begun.elapsed() < limit, "{rpc:?} {fault:?}: {:?}", begun.elapsed());
                client.close().await;
                stage.server.with(|cluster| cluster.faults().clear());
            }
        }
    })
    .await;
}

/// peers.md D31: however many tasks begin at once, there is one connection a store, and one to PD.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d31_one_connection_a_store() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(3).split_keys(["k3", "k6"])).await;
        let relays = [stage.relay(1).await, stage.relay(2).await, stage.relay(3).await];
        let client = raw(&stage, Config::default()).await;
        let tasks: Vec<_> = (0..1_000)
            .map(|n| tokio::spawn(client.put(format!("k{}", n % 10), "v").into_future()))
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        for relay in &relays {
            assert_eq!(relay.accepted(), 1);
        }
        assert_eq!(stage.sockets(), 4);
        client.close().await;
    })
    .await;
}

/// PD must not be pinged while nothing is asked of it, and its connection is not given up for that.
#[tokio::test]
async fn an_idle_connection_to_pd_is_kept() {
    bounded(async {
        let stage = Stage::start(ClusterConfig::default().stores(1)).await;
        let relay = stage.relay_pd().await;
        let keepalive = Duration::from_millis(200);
        let config = Config::default()
            .with_keepalive(keepalive, keepalive)
            .with_pd_timeout(Duration::from_millis(100));
        let client = RawClient::new_with_config([relay.address.clone()], config).await.unwrap();
        client.put("k", "v").await.unwrap();
        let held = Held::now(&stage);
        let asked = || stage.server.with(|cluster| cluster.calls(Rpc::PdGetRegion));
        for _ in 0..2 {
            tokio::time::sleep(SECOND).await;
            assert_eq!(Held::now(&stage), held);
            // PD is asked again, on the connection that there is, also if a question remained without
            // an answer before.
            let before = asked();
            stage.server.with(|cluster| {
                cluster.faults().next(On::rpc(Rpc::RawGet), RegionFault::RegionNotFound);
                let silent = Fault::DropRequest(Loss::Silent);
                cluster.faults().next(On::rpc(Rpc::PdGetRegion), silent);
            });
            let impatient = client.get("k").timeout(Duration::from_millis(50)).await;
            assert!(impatient.is_err());
            tokio::time::sleep(SECOND).await;
            client.get("k").await.unwrap();
            assert!(asked() > before);
        }
        assert_eq!(relay.accepted(), 1);
        client.close().await;
    })
    .await;
}
