//! The transactional API against an embedded cluster.

mod support;

use std::future::IntoFuture;
use std::time::Duration;

use anatase_client::{Bytes, CommitOutcome, ErrorKind, KvPair, Transaction, Value};
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
async fn what_commits_is_seen_from_its_timestamp_on() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let before = client.current_timestamp().await.unwrap();
    let txn = client.begin_optimistic().await.unwrap();
    assert!(txn.start_timestamp() > before);
    txn.put("a", "1").await.unwrap();
    txn.put("q", "2").await.unwrap();
    txn.delete("z").await.unwrap();
    let at = txn.commit().await.unwrap().expect("a commit timestamp");
    assert_eq!(client.snapshot(before).get("a").await.unwrap(), None);
    let snapshot = client.snapshot(at);
    assert_eq!(snapshot.get("a").await.unwrap(), value("1"));
    assert!(snapshot.key_exists("q").await.unwrap());
    assert!(!snapshot.key_exists("z").await.unwrap());
    assert_eq!(snapshot.batch_get(["q", "x", "a"]).await.unwrap(), [value("2"), None, value("1")]);
    assert_eq!(snapshot.scan(.., 10).await.unwrap(), pairs(&[("a", "1"), ("q", "2")]));
    assert_eq!(snapshot.scan_keys_reverse(.., 1).await.unwrap(), ["q"]);
}

#[tokio::test]
async fn a_transaction_sees_its_own_writes_in_every_kind_of_read() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let setup = client.begin_optimistic().await.unwrap();
    for key in ["a", "e", "i", "q"] {
        setup.put(key, "old").await.unwrap();
    }
    setup.commit().await.unwrap();

    let txn = client.begin_optimistic().await.unwrap();
    txn.put("a", "new").await.unwrap();
    txn.delete("e").await.unwrap();
    txn.insert("f", "new").await.unwrap();
    txn.lock_keys(["i"]).await.unwrap();
    assert_eq!(txn.get("a").await.unwrap(), value("new"));
    assert_eq!(txn.get("e").await.unwrap(), None);
    assert_eq!(txn.get("i").await.unwrap(), value("old"));
    assert!(txn.key_exists("f").await.unwrap());
    let values = txn.batch_get(["q", "e", "f", "a", "x"]).await.unwrap();
    assert_eq!(values, [value("old"), None, value("new"), value("new"), None]);
    let all = [("a", "new"), ("f", "new"), ("i", "old"), ("q", "old")];
    assert_eq!(txn.scan(.., 10).await.unwrap(), pairs(&all));
    assert_eq!(txn.scan(.., 2).await.unwrap(), pairs(&all[..2]));
    assert_eq!(txn.scan_keys_reverse(.., 3).await.unwrap(), ["q", "i", "f"]);
    assert_eq!(txn.snapshot().get("a").await.unwrap(), value("old"));
    // Reads need no `&mut`.
    let (one, two) = tokio::join!(txn.get("q").into_future(), txn.get("i").into_future());
    assert_eq!((one.unwrap(), two.unwrap()), (value("old"), value("old")));
}

#[tokio::test]
async fn a_scan_over_much_that_was_deleted_goes_on_to_what_is_left() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let setup = client.begin_optimistic().await.unwrap();
    for n in 0..1000 {
        setup.put(format!("k{n:04}"), "v").await.unwrap();
    }
    setup.commit().await.unwrap();
    let txn = client.begin_optimistic().await.unwrap();
    for n in 0..990 {
        txn.delete(format!("k{n:04}")).await.unwrap();
    }
    let left: Vec<String> = (990..993).map(|n| format!("k{n:04}")).collect();
    assert_eq!(txn.scan_keys(.., 3).await.unwrap(), left);
    assert_eq!(txn.scan(.., 100).await.unwrap().len(), 10);
    assert_eq!(txn.scan_reverse(.., 100).await.unwrap().len(), 10);
}

#[tokio::test]
async fn of_two_that_write_the_same_key_one_conflicts() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let slow = client.begin_optimistic().await.unwrap();
    let fast = client.begin_optimistic().await.unwrap();
    slow.put("k", "slow").await.unwrap();
    fast.put("k", "fast").await.unwrap();
    fast.commit().await.unwrap();
    let error = slow.commit().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WriteConflict(c) if c.key == "k"), "{error:?}");
    assert!(error.is_retryable() && !error.is_undetermined());

    // Locking is writing as far as conflicts go.
    let slow = client.begin_optimistic().await.unwrap();
    slow.lock_keys(["k"]).await.unwrap();
    slow.put("other", "x").await.unwrap();
    let fast = client.begin_optimistic().await.unwrap();
    fast.put("k", "faster").await.unwrap();
    fast.commit().await.unwrap();
    assert!(matches!(slow.commit_outcome().await, CommitOutcome::Aborted(_)));
}

#[tokio::test]
async fn an_insert_of_what_exists_fails_at_commit() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let txn = client.begin_optimistic().await.unwrap();
    txn.insert("k", "1").await.unwrap();
    let twice = txn.insert("k", "2").await.unwrap_err();
    assert!(matches!(twice.kind(), ErrorKind::KeyExists { .. }));
    txn.commit().await.unwrap();
    let txn = client.begin_optimistic().await.unwrap();
    txn.insert("k", "3").await.unwrap();
    let error = txn.commit().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::KeyExists { key } if key == "k"), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn nothing_to_commit_is_no_commit() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let empty = client.begin_optimistic().await.unwrap();
    let read_only = client.begin_optimistic().await.unwrap();
    read_only.get("k").await.unwrap();
    let rolled_back = client.begin_optimistic().await.unwrap();
    rolled_back.put("k", "v").await.unwrap();
    server.shutdown().await;
    assert_eq!(empty.commit().await.unwrap(), None);
    assert!(matches!(
        read_only.commit().outcome().await,
        CommitOutcome::Committed { at: None, .. }
    ));
    rolled_back.rollback().await.unwrap();
}

#[tokio::test]
async fn bad_input_is_refused_before_it_is_buffered() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let txn = client.begin_optimistic().await.unwrap();
    let empty = txn.put("k", "").await.unwrap_err();
    assert_eq!(empty.kind(), &ErrorKind::InvalidArgument);
    let long = txn.put(vec![b'k'; 65_536], "v").await.unwrap_err();
    assert_eq!(long.kind(), &ErrorKind::KeyTooLarge { size: 65_536, limit: 65_535 });
    assert_eq!(txn.commit().await.unwrap(), None);
}

/// A transaction that has written two keys in different regions.
async fn two_keys(client: &anatase_client::TransactionClient<()>) -> Transaction {
    let txn = client.begin_optimistic().await.unwrap();
    txn.put("a", "1").await.unwrap();
    txn.put("z", "2").await.unwrap();
    txn
}

#[tokio::test]
async fn a_lost_answer_to_the_decisive_request_is_never_a_plain_failure() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    server.with(|cluster| {
        cluster.faults().always(On::rpc(Rpc::KvCommit), Fault::DropResponse(Loss::Silent));
    });
    let outcome =
        two_keys(&client).await.commit().timeout(Duration::from_millis(500)).outcome().await;
    assert!(
        matches!(&outcome, CommitOutcome::Undetermined(e) if e.is_undetermined()),
        "{outcome:?}"
    );
    let error = two_keys(&client).await.commit().timeout(Duration::from_millis(500)).await;
    let error = error.unwrap_err();
    assert!(error.is_undetermined() && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_timeout_before_the_decisive_request_is_an_abort() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    server.with(|cluster| {
        cluster.faults().times(1, On::rpc(Rpc::KvPrewrite), Fault::DropRequest(Loss::Silent));
    });
    let outcome =
        two_keys(&client).await.commit().timeout(Duration::from_millis(300)).outcome().await;
    assert!(matches!(&outcome, CommitOutcome::Aborted(e) if !e.is_undetermined()), "{outcome:?}");
    let later = client.current_timestamp().await.unwrap();
    assert_eq!(client.snapshot(later).batch_get(["a", "z"]).await.unwrap(), [None, None]);
}

#[tokio::test]
async fn a_commit_that_is_dropped_leaves_all_or_nothing() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    for patience in [0, 1, 2, 4, 8, 16, 32] {
        server.with(|cluster| {
            cluster.faults().clear();
            let slow = Fault::Delay(Duration::from_millis(5));
            cluster.faults().always(On::any(), slow);
        });
        let commit = two_keys(&client).await.commit().into_future();
        let patience = Duration::from_millis(patience);
        let _ = tokio::time::timeout(patience, commit).await;
        server.with(|cluster| cluster.faults().clear());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = client.current_timestamp().await.unwrap();
        let values = client.snapshot(now).batch_get(["a", "z"]).await.unwrap();
        assert_eq!(values[0].is_some(), values[1].is_some(), "after {patience:?}: {values:?}");
    }
}
