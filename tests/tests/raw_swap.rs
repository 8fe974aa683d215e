//! Compare-and-swap and times to live, case by case (`facts/cases.md` §A), end to end.

use std::time::Duration;

use anatase::{ErrorKind, KvPair, RawClient, Value};
use anatase_cluster::serve::{ServeOptions, Server};
use anatase_cluster::{Api, ClusterConfig, Fault, Loss, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::{bounded, serve, watch, watched};

async fn client(server: &Server) -> RawClient {
    RawClient::new([server.pd_address()]).await.expect("a client")
}

fn value(text: &str) -> Option<Value> {
    Some(Value::copy_from_slice(text.as_bytes()))
}

// ---- compare-and-swap --------------------------------------------------------------------------

#[tokio::test]
async fn raw_14_a_swap_from_absent() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        let swapped = client.compare_and_swap("key", None, "value").await.unwrap();
        assert_eq!(swapped, (None, true));
        assert_eq!(client.get("key").await.unwrap(), value("value"));
        let kept = client.compare_and_swap("key", None, "other").await.unwrap();
        assert_eq!(kept, (value("value"), false));
    })
    .await;
}

#[tokio::test]
async fn raw_15_a_swap_that_does_not_match() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        client.put("key", "value").await.unwrap();
        let kept = client.compare_and_swap("key", Value::from("wrong"), "new").await.unwrap();
        assert_eq!(kept, (value("value"), false));
        assert_eq!(client.get("key").await.unwrap(), value("value"));
        let kept = client.compare_and_swap("absent", Value::from("wrong"), "new").await.unwrap();
        assert_eq!(kept, (None, false));
        assert_eq!(client.get("absent").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn raw_16_a_swap_that_matches() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        client.put("key", "value").await.unwrap();
        let swapped = client.compare_and_swap("key", value("value"), "new").await.unwrap();
        assert_eq!(swapped, (value("value"), true));
        assert_eq!(client.get("key").await.unwrap(), value("new"));
        let kept = client.compare_and_delete("key", "value").await.unwrap();
        assert_eq!(kept, (value("new"), false));
        let removed = client.compare_and_delete("key", "new").await.unwrap();
        assert_eq!(removed, (value("new"), true));
        assert_eq!(client.get("key").await.unwrap(), None);
        // Batches and single writes in the same mode.
        client.batch_put([("a", "1"), ("b", "2")]).await.unwrap();
        client.batch_delete(["a"]).await.unwrap();
        client.delete("b").await.unwrap();
        assert_eq!(client.scan(.., 9).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn raw_17_a_swap_outside_of_atomic_mode() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        watch(&server, Rpc::RawCompareAndSwap);
        for error in [
            client.compare_and_swap("key", None, "value").await.unwrap_err(),
            client.compare_and_delete("key", "value").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument, "{error}");
        }
        assert_eq!(watched(&server), 0);
    })
    .await;
}

#[tokio::test]
async fn raw_18_a_swap_of_empty_values() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        assert_eq!(client.compare_and_swap("key", None, "").await.unwrap(), (None, true));
        let swapped = client.compare_and_swap("key", value(""), "val").await.unwrap();
        assert_eq!(swapped, (value(""), true));
        assert_eq!(client.get("key").await.unwrap(), value("val"));
    })
    .await;
}

/// peers.md D17: a swap whose answer is lost is sent once, and is neither success nor failure.
#[tokio::test]
async fn d17_a_swap_whose_answer_is_lost_is_undetermined() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        client.put("key", "old").await.unwrap();
        for (fault, done) in [
            (Fault::DropResponse(Loss::Reset), true),
            (Fault::DropRequest(Loss::Reset), false),
            (RegionFault::StaleCommand.into(), false),
            (RegionFault::UndeterminedResult { message: "who knows".into() }.into(), false),
        ] {
            client.put("key", "old").await.unwrap();
            let before = watched(&server);
            let on = On::rpc(Rpc::RawCompareAndSwap);
            server.with(|cluster| cluster.faults().always(on, fault.clone()));
            let error = client.compare_and_swap("key", value("old"), "new").await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Undetermined, "{fault:?}: {error}");
            assert!(error.is_undetermined() && !error.is_retryable(), "{error}");
            assert_eq!(watched(&server) - before, 1, "{fault:?}: sent once");
            server.with(|cluster| cluster.faults().clear());
            let now = client.get("key").await.unwrap();
            assert_eq!(now, value(if done { "new" } else { "old" }), "{fault:?}");
        }
    })
    .await;
}

/// What was certainly not executed is sent again: another leader, a split, a busy moment.
#[tokio::test]
async fn a_swap_that_was_not_executed_is_sent_again() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        client.get("key").await.unwrap();
        let region = server.with(|cluster| {
            cluster
                .faults()
                .next(On::rpc(Rpc::RawCompareAndSwap), RegionFault::MaxTimestampNotSynced);
            cluster.split_raw("kex").expect("a split");
            cluster.region_of_raw(b"key").expect("a region").id
        });
        let leader = server.with(|cluster| cluster.leader_of(region)).expect("a leader");
        server.with(|cluster| cluster.transfer_leader(region, 1 + leader % 3));
        let swapped = client.compare_and_swap("key", None, "value").await.unwrap();
        assert_eq!(swapped, (None, true));
    })
    .await;
}

/// Many tasks count up one number by swaps: none is lost, none is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_count_up() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        client.put("n", "0").await.unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut seen = client.get("n").await.unwrap();
                    let mut done = 0;
                    while done < 25 {
                        let text = String::from_utf8(seen.clone().unwrap().to_vec()).unwrap();
                        let next = (text.parse::<u64>().unwrap() + 1).to_string();
                        let (before, swapped) =
                            client.compare_and_swap("n", seen, next.clone()).await.unwrap();
                        done += u64::from(swapped);
                        seen = if swapped { Some(next.into()) } else { before };
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(client.get("n").await.unwrap(), value("100"));
    })
    .await;
}

// ---- times to live -----------------------------------------------------------------------------

async fn serve_ttl() -> Server {
    let cluster = ClusterConfig::default().stores(3).api(Api::V1Ttl).split_keys_raw(["m"]).build();
    let options = ServeOptions::default().own_clock();
    Server::start(cluster, options).await.expect("a cluster on loopback")
}

fn pass(server: &Server, seconds: u64) {
    server.with(|cluster| cluster.advance(Duration::from_secs(seconds)));
}

#[tokio::test]
async fn raw_19_a_time_to_live() {
    bounded(async {
        let server = serve_ttl().await;
        let client = client(&server).await;
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), None);
        client.put_with_ttl("key", "value", 2).await.unwrap();
        client.put("ever", "value").await.unwrap();
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), Some(2));
        assert_eq!(client.get_key_ttl_secs("ever").await.unwrap(), Some(0));
        pass(&server, 1);
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), Some(1));
        assert_eq!(client.get("key").await.unwrap(), value("value"));
        pass(&server, 1);
        assert_eq!(client.get("key").await.unwrap(), None);
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), None);
        assert_eq!(client.get_key_ttl_secs("ever").await.unwrap(), Some(0));
        // Put again without one, it lives for ever.
        client.put_with_ttl("key", "value", 2).await.unwrap();
        client.put("key", "value").await.unwrap();
        pass(&server, 9);
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), Some(0));
    })
    .await;
}

/// One for each pair, over regions and duplicates, or one for all.
#[tokio::test]
async fn a_batch_with_a_time_to_live_for_each() {
    bounded(async {
        let server = serve_ttl().await;
        let client = client(&server).await;
        let batch = [("z", "1"), ("a", "2"), ("z", "3"), ("b", "4")];
        client.batch_put_with_ttl(batch, [9, 5, 7, 0]).await.unwrap();
        for (key, ttl) in [("z", 7), ("a", 5), ("b", 0)] {
            assert_eq!(client.get_key_ttl_secs(key).await.unwrap(), Some(ttl), "{key}");
        }
        pass(&server, 6);
        let found = client.batch_get(["a", "b", "z"]).await.unwrap();
        assert_eq!(found, [None, value("4"), value("3")]);
        client.batch_put_with_ttl([("a", "5"), ("z", "6")], [3]).await.unwrap();
        assert_eq!(client.get_key_ttl_secs("a").await.unwrap(), Some(3));
        assert_eq!(client.get_key_ttl_secs("z").await.unwrap(), Some(3));
        for ttls in [vec![], vec![1], vec![1, 2, 3]] {
            let put = client.batch_put_with_ttl([("a", "7"), ("b", "8")], ttls.clone()).await;
            match ttls.len() {
                1 => put.unwrap(),
                _ => assert_eq!(put.unwrap_err().kind(), &ErrorKind::InvalidArgument),
            }
        }
        client.batch_put_with_ttl(Vec::<KvPair>::new(), []).await.unwrap();
    })
    .await;
}

/// raw.md §5: an expired value counts as absent, and a swap sets the life span anew.
#[tokio::test]
async fn a_swap_and_times_to_live() {
    bounded(async {
        let server = serve_ttl().await;
        let client = client(&server).await.with_atomic_for_cas();
        client.put_with_ttl("key", "old", 2).await.unwrap();
        pass(&server, 2);
        let swapped = client.compare_and_swap("key", None, "new").ttl_secs(5).await.unwrap();
        assert_eq!(swapped, (None, true));
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), Some(5));
        client.compare_and_swap("key", value("new"), "newer").await.unwrap();
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), Some(0));
        let error = client.compare_and_delete("key", "newer").ttl_secs(5).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
    })
    .await;
}

/// raw.md §4: a server without TTLs refuses them.
#[tokio::test]
async fn a_time_to_live_is_refused_where_there_is_none() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        for error in [
            client.put_with_ttl("key", "value", 2).await.unwrap_err(),
            client.batch_put_with_ttl([("key", "value")], [2]).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), &ErrorKind::Refused, "{error}");
            assert!(error.to_string().contains("ttl is not enabled"), "{error}");
        }
        client.put("key", "value").await.unwrap();
        assert_eq!(client.get_key_ttl_secs("key").await.unwrap(), Some(0));
    })
    .await;
}
