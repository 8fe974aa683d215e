//! The raw API against an embedded cluster.

mod support;

use std::future::IntoFuture;
use std::time::Duration;

use anatase_client::{Bytes, Config, ErrorKind, KvPair, MAX_RAW_SCAN_LIMIT, RawClient, Value};
use anatase_cluster::{Fault, Loss, On};
use anatase_proto::rpc::Rpc;
use support::embedded::*;
use support::*;

fn value(text: &str) -> Option<Value> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<KvPair> {
    pairs.iter().map(|&pair| pair.into()).collect()
}

#[tokio::test]
async fn single_keys() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    assert_eq!(client.get("k").await.unwrap(), None);
    client.put("k", "v").await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), value("v"));
    client.put("k", "").await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), value(""), "an empty value is a value");
    client.delete("k").await.unwrap();
    client.delete("k").await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn batches_keep_order_and_say_what_is_missing() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    // Of two values for one key the last counts.
    client.batch_put([("z", "0"), ("a", "1"), ("m", "2"), ("z", "3")]).await.unwrap();
    let values = client.batch_get(["z", "none", "a", "z", "m"]).await.unwrap();
    assert_eq!(values, [value("3"), None, value("1"), value("3"), value("2")]);
    client.batch_delete(["z", "none", "z", "a"]).await.unwrap();
    assert_eq!(client.batch_get(["z", "a", "m"]).await.unwrap(), [None, None, value("2")]);
}

#[tokio::test]
async fn scans_run_over_regions_in_both_directions() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    let all = [("a", "1"), ("d", "2"), ("g", "3"), ("h", "4"), ("q", "5"), ("z", "6")];
    client.batch_put(all).await.unwrap();
    assert_eq!(client.scan(.., 100).await.unwrap(), pairs(&all));
    assert_eq!(client.scan("d"..="q", 3).await.unwrap(), pairs(&all[1..4]));
    assert_eq!(client.scan("b".."b\0", 100).await.unwrap(), pairs(&[]));
    let mut reversed = all;
    reversed.reverse();
    assert_eq!(client.scan_reverse(.., 100).await.unwrap(), pairs(&reversed));
    assert_eq!(client.scan_reverse("a".."q", 2).await.unwrap(), pairs(&reversed[2..4]));
    assert_eq!(client.scan_keys("g".., 2).await.unwrap(), ["g", "h"]);
    assert_eq!(client.scan_keys_reverse(..="g", 2).await.unwrap(), ["g", "d"]);
}

#[tokio::test]
async fn column_families_are_apart() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    let lock = client.with_cf(anatase_client::ColumnFamily::new("lock"));
    lock.put("k", "in lock").await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), None);
    let there = client.get("k").cf(anatase_client::ColumnFamily::new("lock")).await.unwrap();
    assert_eq!(there, value("in lock"));
    let nowhere = client.get("k").cf(anatase_client::ColumnFamily::new("nowhere")).await;
    assert_eq!(nowhere.unwrap_err().kind(), &ErrorKind::Refused);
}

#[tokio::test]
async fn what_asks_for_nothing_sends_nothing_and_what_makes_no_sense_neither() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    client.put("k", "v").await.unwrap();
    server.shutdown().await;
    assert!(client.scan(.., 0).await.unwrap().is_empty());
    assert!(client.scan("b".."a", 10).await.unwrap().is_empty());
    assert!(client.scan_keys("a".."a", 10).await.unwrap().is_empty());
    assert!(client.scan_reverse("b".."a", 10).await.unwrap().is_empty());
    assert!(client.scan(.."", 10).await.unwrap().is_empty());
    assert!(client.batch_get([""; 0]).await.unwrap().is_empty());
    client.batch_put([("", ""); 0]).await.unwrap();
    client.batch_delete([""; 0]).await.unwrap();
    let error = client.scan(.., MAX_RAW_SCAN_LIMIT + 1).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("10240"), "{error}");
}

#[tokio::test]
async fn the_largest_scan_is_allowed() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    client.batch_put((0..500).map(|n| (format!("{n:04}"), "v"))).await.unwrap();
    assert_eq!(client.scan(.., MAX_RAW_SCAN_LIMIT).await.unwrap().len(), 500);
}

#[tokio::test]
async fn a_wrong_address_is_named_in_time() {
    let (listener, address) = listen().await;
    drop(listener);
    let config = Config::default().with_startup_timeout(Duration::from_millis(400));
    let begun = std::time::Instant::now();
    let runtime = Counting::new();
    let error =
        RawClient::<()>::new_on(runtime.clone(), [address.as_str()], config).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::PdUnavailable);
    assert!(error.to_string().contains(&address), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(error.elapsed() <= begun.elapsed());
    runtime.drained().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_an_error_at_once() {
    let cases: [(&[&str], &str); 4] = [
        (&[], "no address"),
        (&["127.0.0.1"], "no port"),
        (&["127.0.0.1:2379", "https://127.0.0.1:2379"], "TLS"),
        (&["127.0.0.1:2379,127.0.0.2:2379"], "127.0.0.2"),
    ];
    for (addresses, word) in cases {
        let addresses = addresses.iter().copied();
        let error = RawClient::<()>::new_on(Counting::new(), addresses, Config::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn one_dead_address_among_good_ones_is_no_obstacle() {
    let (listener, dead) = listen().await;
    drop(listener);
    let server = raw_cluster().await;
    let addresses = [dead, server.pd_address()];
    let client =
        RawClient::<()>::new_on(Counting::new(), addresses, Config::default()).await.unwrap();
    client.put("k", "v").await.unwrap();
}

#[tokio::test]
async fn a_timeout_ends_the_operation_and_leaves_a_doubt_only_for_writes() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    client.put("k", "v").await.unwrap();
    server.with(|cluster| {
        cluster.faults().always(On::rpc(Rpc::RawGet), Fault::DropRequest(Loss::Silent));
        cluster.faults().always(On::rpc(Rpc::RawPut), Fault::DropRequest(Loss::Silent));
    });
    // A long one first: the alarm is set for it and has to be moved.
    let long = tokio::spawn(client.get("k").into_future());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begun = std::time::Instant::now();
    let error = client.get("k").timeout(Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded);
    assert!(!error.is_undetermined() && error.is_retryable());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
    assert!(error.elapsed() >= Duration::from_millis(200));
    let error = client.put("k", "w").timeout(Duration::from_millis(200)).await.unwrap_err();
    assert!(error.is_undetermined() && !error.is_retryable(), "{error:?}");
    assert!(!long.is_finished());
    long.abort();
}

#[tokio::test]
async fn a_restart_of_a_store_is_survived() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    client.put("k", "v").await.unwrap();
    for store in 1..=3 {
        server.stop_store(store);
        let get = tokio::spawn(client.get("k").into_future());
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.start_store(store).await.unwrap();
        server.with(|cluster| cluster.elect_leaders());
        assert_eq!(get.await.unwrap().unwrap(), value("v"));
    }
}
