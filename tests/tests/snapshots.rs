//! Snapshots end to end: what they keep, what they may see, and how they are asked for.

use std::time::Duration;

use anatase::{Config, ErrorKind, IsolationLevel, Priority, Timestamp, TransactionClient};
use anatase_cluster::serve::Server;
use anatase_cluster::{Fault, Loss, On};
use anatase_proto::rpc::Rpc;
use anatase_tests::{bounded, serve};

async fn client(server: &Server) -> TransactionClient {
    TransactionClient::new([server.pd_address()]).await.expect("a client")
}

async fn put(client: &TransactionClient, pairs: &[(&str, &str)]) -> Timestamp {
    let txn = client.begin_optimistic().await.unwrap();
    for (key, value) in pairs {
        txn.put(*key, *value).await.unwrap();
    }
    txn.commit().await.unwrap().expect("something to commit")
}

/// Leaves the locks of a client that dies between prewrite and commit.
async fn die(server: &Server, key: &'static str) {
    let doomed = client(server).await;
    let silent = Fault::DropRequest(Loss::Silent);
    server.with(|cluster| {
        cluster.faults().always(On::rpc(Rpc::KvCommit), silent.clone());
        cluster.faults().always(On::rpc(Rpc::KvBatchRollback), silent);
    });
    let txn = doomed.begin_optimistic().await.unwrap();
    txn.put(key, "doomed").await.unwrap();
    let commit = tokio::spawn(async move { txn.commit().await.map(drop) });
    while server.with(|cluster| cluster.locks().is_empty()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    commit.abort();
}

/// transactions.md §17.5; peers.md D15.
#[tokio::test]
async fn d15_what_a_snapshot_has_read_by_key_is_not_asked_for_again() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        let at = put(&client, &[("a", "1"), ("h", "2")]).await;
        let snapshot = client.snapshot(at);
        assert_eq!(snapshot.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(snapshot.get("b").await.unwrap(), None);
        assert_eq!((snapshot.cache_len(), snapshot.cache_size()), (2, 3));
        // A batch asks for what is not known, and puts it in its place.
        let values = snapshot.batch_get(["h", "a", "b", "h"]).await.unwrap();
        let values: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_deref()).collect();
        assert_eq!(values, [Some(&b"2"[..]), Some(b"1"), None, Some(b"2")]);
        assert_eq!((snapshot.cache_len(), snapshot.cache_hits()), (3, 2));
        // A scan neither fills it nor goes by it.
        snapshot.scan(.., 10).await.unwrap();
        assert_eq!((snapshot.cache_len(), snapshot.cache_hits()), (3, 2));
        // With every store gone, what is known is known, for clones, too.
        server.with(|cluster| (1..=3).for_each(|store| cluster.stop_store(store)));
        let clone = snapshot.clone();
        assert!(clone.key_exists("h").await.unwrap());
        assert_eq!(clone.batch_get(["b", "a"]).await.unwrap()[0], None);
        snapshot.clear_cache();
        let error = clone.get("a").timeout(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded);
        client.close().await;
    })
    .await;
}

/// Nothing is kept of the latest version, nor by the reads of a client that does not want it.
#[tokio::test]
async fn the_latest_version_is_read_each_time() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let config = Config::default().with_snapshot_cache_size(0);
        let forgetful =
            TransactionClient::new_with_config([server.pd_address()], config).await.unwrap();
        let client = client(&server).await;
        let latest = client.snapshot(Timestamp::MAX);
        let first = put(&client, &[("a", "1")]).await;
        assert_eq!(latest.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
        put(&client, &[("a", "2")]).await;
        assert_eq!(latest.get("a").await.unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!((latest.cache_len(), latest.cache_hits()), (0, 0));
        let snapshot = forgetful.snapshot(first);
        assert_eq!(snapshot.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(snapshot.cache_len(), 0);
        forgetful.close().await;
        client.close().await;
    })
    .await;
}

/// transactions.md §17.7: below the safe point nothing is read any more.
#[tokio::test]
async fn a_read_below_the_safe_point_is_refused() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let writer = client(&server).await;
        let old = put(&writer, &[("a", "1"), ("h", "1")]).await;
        put(&writer, &[("a", "2"), ("h", "2")]).await;
        let now = writer.current_timestamp().await.unwrap();
        server.with(|cluster| {
            cluster.set_txn_safe_point(now.version());
            cluster.gc(now.version());
        });
        // What is left below it is wrong, and is not told.
        let reader = client(&server).await;
        let snapshot = reader.snapshot(old);
        let errors = [
            snapshot.get("a").await.unwrap_err(),
            snapshot.batch_get(["a", "h"]).await.unwrap_err(),
            snapshot.scan(.., 10).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), &ErrorKind::TxnAbortedByGc, "{error:?}");
            assert!(!error.is_retryable());
        }
        let value = reader.snapshot(now).get("a").await.unwrap();
        assert_eq!(value.as_deref(), Some(&b"2"[..]));
        let config = Config::default().with_visibility_check(false);
        let reckless =
            TransactionClient::new_with_config([server.pd_address()], config).await.unwrap();
        assert_eq!(reckless.snapshot(old).get("a").await.unwrap(), None);
        reckless.close().await;
        reader.close().await;
        writer.close().await;
    })
    .await;
}

/// transactions.md §17.6: read committed passes locks by; so does a snapshot once it knows that the
/// transaction cannot commit at or before it.
#[tokio::test]
async fn isolation_levels_differ_on_locks() {
    bounded(async {
        let server = serve(3, &["g"]).await;
        let client = client(&server).await;
        put(&client, &[("a", "1"), ("b", "1")]).await;
        die(&server, "a").await;
        let at = client.current_timestamp().await.unwrap();
        let snapshot = client.snapshot(at).with_priority(Priority::High).with_task_id(7);
        let rc = snapshot.clone().with_isolation_level(IsolationLevel::Rc);
        assert_eq!(rc.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(rc.cache_len(), 0);
        // The lock's transaction is pushed: it can commit only after the snapshot.
        assert_eq!(snapshot.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
        let locks = server.with(|cluster| cluster.locks());
        assert!(locks[0].min_commit_ts > at.version(), "{locks:?}");
        let rows = snapshot.clone().with_sample_step(2).scan_keys(.., 10).await.unwrap();
        assert_eq!(rows.len(), 1);
        client.close().await;
    })
    .await;
}
