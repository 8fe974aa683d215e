//! Commit, rollback and cleanup: transactions.md §20.4; cases.md MOC-03, 07, 14.

use anatase_proto::kvrpcpb::{Action, CleanupRequest, Op, write_conflict::Reason};

use crate::{
    Cluster,
    testing::{key, small},
    timestamp::compose,
};

// §20.4; MOC-03, MOC-07, MOC-14

#[test]
fn a_commit_again_is_fine_and_one_after_a_rollback_is_not() {
    let mut cluster = small();
    cluster.prewrite(10, &[(Op::Put, "k", "v"), (Op::Del, "l", "")]);
    assert_eq!(cluster.commit(10, 20, &["k", "l"]), None);
    assert_eq!(cluster.commit(10, 20, &["k", "l"]), None);
    assert_eq!(cluster.locked_keys(), [""; 0]);

    cluster.prewrite(30, &[(Op::Put, "k", "w")]);
    cluster.roll_back(30, &["k"]);
    let error = cluster.commit(30, 40, &["k"]).unwrap();
    assert_eq!(&error.txn_lock_not_found.unwrap().key[..], b"k");
    assert!(error.retryable.contains("TxnLockNotFound"));
    assert_eq!(cluster.read("k", 50), Ok(Some("v".into())));
    assert!(cluster.commit(60, 70, &["k"]).unwrap().txn_lock_not_found.is_some(), "never seen");
}

#[test]
fn a_commit_of_many_keys_is_of_all_or_none() {
    let mut cluster = small();
    cluster.prewrite(10, &[(Op::Put, "a", "v")]);
    assert!(cluster.commit(10, 20, &["a", "b"]).is_some());
    assert_eq!(cluster.locked_keys(), ["a"]);
}

#[test]
fn a_commit_below_the_pushed_minimum_expires() {
    let mut cluster = small();
    cluster.prewrite_with(10, &[(Op::Put, "k", "v")], |request| request.min_commit_ts = 100);
    let expired = cluster.commit(10, 99, &["k"]).unwrap().commit_ts_expired.unwrap();
    assert_eq!(
        (expired.start_ts, expired.attempted_commit_ts, expired.min_commit_ts),
        (10, 99, 100)
    );
    assert_eq!(cluster.commit(10, 100, &["k"]), None);
}

#[test]
fn a_commit_at_or_before_the_start_is_nonsense() {
    let mut cluster = small();
    cluster.prewrite_with(10, &[(Op::Put, "k", "v")], |request| request.min_commit_ts = 0);
    for commit_ts in [0, 9, 10] {
        assert!(cluster.commit(10, commit_ts, &["k"]).unwrap().abort.contains("InvalidTxnTso"));
    }
}

#[test]
fn a_rollback_of_what_is_committed_is_refused() {
    let mut cluster = small();
    cluster.put(10, 20, "k", "v");
    let error = cluster.roll_back(10, &["k"]).unwrap();
    assert!(error.abort.contains("already committed"), "{error:?}");
    assert_eq!(cluster.read("k", 30), Ok(Some("v".into())));
}

#[test]
fn rollbacks_are_idempotent_and_one_unprotected_is_kept_a_key() {
    let mut cluster = small();
    for start_ts in [10, 20, 20, 30] {
        cluster.prewrite(start_ts, &[(Op::Put, "p", "v"), (Op::Put, "s", "v")]);
        assert_eq!(cluster.roll_back(start_ts, &["p", "s"]), None);
    }
    let starts = |cluster: &Cluster, name: &str| {
        cluster.writes(name).iter().map(|write| write.start_ts).collect::<Vec<_>>()
    };
    assert_eq!(starts(&cluster, "p"), [30, 20, 10], "a primary's are protected");
    assert_eq!(starts(&cluster, "s"), [30]);
}

#[test]
fn a_rollback_at_another_transactions_commit_is_noted_on_it() {
    let mut cluster = small();
    cluster.put(10, 20, "k", "v");
    // Protected: the transaction that began at 20 can not come back.
    let status = cluster.status("k", 20, |request| request.rollback_if_not_exist = true);
    assert_eq!(status.action(), Action::LockNotExistRollback);
    assert_eq!(cluster.read("k", 30), Ok(Some("v".into())));
    assert_eq!(cluster.status("k", 20, |_| {}).error, None);
    let errors = cluster.prewrite(20, &[(Op::Put, "k", "w")]);
    assert_eq!(errors[0].conflict.as_ref().unwrap().reason(), Reason::SelfRolledBack);
    // Unprotected: not noted, and the value stays all the same.
    cluster.put(40, 50, "l", "v");
    assert_eq!(cluster.roll_back(50, &["l"]), None);
    assert_eq!(cluster.read("l", 60), Ok(Some("v".into())));
}

#[test]
fn cleanup_waits_for_the_end_of_the_lock_and_tells_of_a_commit() {
    let mut cluster = small();
    let start = compose(1000, 0);
    cluster.prewrite(start, &[(Op::Put, "k", "v")]);
    let mut cleanup = |current_ts| {
        cluster.ask("k", |context| CleanupRequest {
            context,
            key: key("k"),
            start_version: start,
            current_ts,
        })
    };
    assert!(cleanup(compose(4000, 0)).error.unwrap().locked.is_some());
    assert_eq!(cleanup(compose(4001, 0)).error, None);
    assert_eq!(cluster.locked_keys(), [""; 0]);
    cluster.put(start + 10, start + 20, "k", "w");
    let response = cluster.ask("k", |context| CleanupRequest {
        context,
        key: key("k"),
        start_version: start + 10,
        current_ts: 0,
    });
    assert_eq!((response.error, response.commit_version), (None, start + 20));
}
