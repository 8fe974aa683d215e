//! Stores that freeze, restart, move and leave, end to end: client, core, real gRPC, embedded cluster.

use std::time::{Duration, Instant};

use anatase::RawClient;
use anatase_cluster::serve::Server;
use anatase_cluster::{Fault, Loss, On};
use anatase_proto::rpc::Rpc;
use anatase_tests::{bounded, serve};

async fn client(server: &Server) -> RawClient {
    RawClient::new([server.pd_address()]).await.expect("a client")
}

/// The store that leads the only region.
fn leader(server: &Server) -> u64 {
    server.with(|cluster| {
        let region = cluster.regions().next().expect("a region").id;
        cluster.leader_of(region).expect("a leader")
    })
}

fn move_leader(server: &Server, store: u64) {
    server.with(|cluster| {
        let region = cluster.regions().next().expect("a region").id;
        cluster.transfer_leader(region, store);
    });
}

/// peers.md D21: a store that accepts and never answers, health checks included. Its region has
/// another leader by now; whoever asks finds out within seconds, not after half a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d21_a_frozen_store_is_left() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.put("k", "1").await.unwrap();
        let frozen = leader(&server);
        let rule = server.with(|cluster| {
            let on = On::any().store(frozen);
            cluster.faults().always(on, Fault::DropRequest(Loss::Silent))
        });
        move_leader(&server, frozen % 3 + 1);
        let begun = Instant::now();
        client.put("k", "2").await.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}");
        // From now on nobody waits for it.
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"2"[..]));
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        // It thaws, and leads again.
        server.with(|cluster| cluster.faults().remove(rule));
        move_leader(&server, frozen);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        client.put("k", "3").await.unwrap();
        assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"3"[..]));
        client.close().await;
        server.shutdown().await;
    })
    .await;
}

/// A request that takes long on a store that is well is waited for: the probe is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_request_is_waited_for() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.put("k", "1").await.unwrap();
        server.with(|cluster| {
            cluster.faults().next(On::rpc(Rpc::RawGet), Fault::Delay(Duration::from_millis(3_500)));
        });
        let begun = Instant::now();
        assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"1"[..]));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(3_400), "{took:?}");
        client.close().await;
        server.shutdown().await;
    })
    .await;
}

/// peers.md D27: a restart of the only store is waited out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d27_a_restart_is_waited_out() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = client(&server).await;
        client.put("k", "1").await.unwrap();
        server.stop_store(1);
        let again = {
            let server = server.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                server.start_store(1).await.unwrap();
            })
        };
        let begun = Instant::now();
        client.put("k", "2").await.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(7), "{took:?}");
        again.await.unwrap();
        client.close().await;
        server.shutdown().await;
    })
    .await;
}

/// RGC-03, RGC-10: a store is removed for good; its region lives on elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rgc_10_a_store_that_left_is_not_asked() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.put("k", "1").await.unwrap();
        let gone = leader(&server);
        server.stop_store(gone);
        server.with(|cluster| {
            cluster.bury_store(gone);
            cluster.elect_leaders();
        });
        let begun = Instant::now();
        client.put("k", "2").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        client.close().await;
        server.shutdown().await;
    })
    .await;
}
