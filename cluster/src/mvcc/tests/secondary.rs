//! Checking the secondary locks of an async commit, row by row: transactions.md §20.2; cases.md
//! ASY-05, as far as it is the server's.

use anatase_proto::kvrpcpb::{Op, write_conflict::Reason};

use crate::{
    Cluster, WriteKind,
    testing::{in_async, small, text},
};

/// `p` is the primary, `s` and `t` are secondaries, and only `p` and `s` are there yet.
fn half() -> Cluster {
    let mut cluster = small();
    let mutations = [(Op::Put, "p", "v"), (Op::Put, "s", "v")];
    let response = cluster.prewritten(10, &mutations, in_async(&["s", "t"]));
    assert_eq!((response.errors, response.min_commit_ts), (vec![], 11));
    cluster
}

/// The keys of the locks told, and the commit timestamp.
fn check(cluster: &mut Cluster, keys: &[&str]) -> (Vec<String>, u64) {
    let response = cluster.secondaries(10, keys);
    assert_eq!((response.error, response.region_error), (None, None));
    (response.locks.iter().map(|lock| text(&lock.key)).collect(), response.commit_ts)
}

#[test]
fn locks_are_told_and_left_alone() {
    let mut cluster = half();
    let locks = cluster.locks();
    assert_eq!(check(&mut cluster, &["p", "s"]), (vec!["p".into(), "s".into()], 0));
    assert_eq!(cluster.locks(), locks);
    let lock = &cluster.secondaries(10, &["s"]).locks[0];
    assert!(lock.use_async_commit);
    assert_eq!(
        (lock.lock_version, lock.min_commit_ts, text(&lock.primary_lock)),
        (10, 11, "p".into())
    );
}

#[test]
fn a_lock_that_fell_back_is_told_as_it_is() {
    let mut cluster = half();
    cluster.prewrite_with(10, &[(Op::Put, "t", "v")], |it| it.primary_lock = "p".into());
    let locks = cluster.secondaries(10, &["s", "t"]).locks;
    let kinds: Vec<_> = locks.iter().map(|lock| lock.use_async_commit).collect();
    assert_eq!(kinds, [true, false]);
}

#[test]
fn what_is_missing_is_rolled_back_for_good() {
    let mut cluster = half();
    assert_eq!(check(&mut cluster, &["s", "t", "p"]), (vec![], 0));
    assert_eq!(cluster.locked_keys(), ["p", "s"], "locks that were met stay");
    assert_eq!(cluster.writes("t")[0].kind, WriteKind::Rollback);
    assert_eq!(check(&mut cluster, &["t"]), (vec![], 0), "again");
    assert_eq!(cluster.writes("t").len(), 1);
    // Protected: a later rollback of another does not collapse it.
    cluster.roll_back(20, &["t"]);
    cluster.roll_back(30, &["t"]);
    let errors = cluster.prewrite(10, &[(Op::Put, "t", "late")]);
    assert_eq!(errors[0].conflict.as_ref().unwrap().reason(), Reason::Optimistic);
    let starts: Vec<_> = cluster.writes("t").iter().map(|write| write.start_ts).collect();
    assert_eq!(starts, [30, 10]);
}

#[test]
fn the_late_prewrite_of_a_missing_one_fails() {
    let mut cluster = half();
    check(&mut cluster, &["t"]);
    let response = cluster.prewritten(10, &[(Op::Put, "t", "late")], in_async(&[]));
    assert_eq!(response.errors[0].conflict.as_ref().unwrap().reason(), Reason::SelfRolledBack);
    assert_eq!(response.min_commit_ts, 0);
}

#[test]
fn it_stops_at_the_first_that_decides() {
    let mut cluster = half();
    assert_eq!(check(&mut cluster, &["t", "u"]), (vec![], 0));
    assert_eq!(cluster.writes("u"), [], "not looked at");
    assert_eq!(cluster.commit(10, 15, &["s"]), None);
    assert_eq!(check(&mut cluster, &["p", "s", "u"]), (vec![], 15), "committed; no lock is told");
    assert_eq!(cluster.writes("u"), []);
    cluster.roll_back(10, &["p"]);
    assert_eq!(check(&mut cluster, &["p"]), (vec![], 0), "rolled back before");
}

#[test]
fn a_key_under_anothers_lock_is_missing_too() {
    let mut cluster = half();
    cluster.prewrite(12, &[(Op::Put, "t", "other")]);
    assert_eq!(check(&mut cluster, &["t"]), (vec![], 0));
    assert_eq!(cluster.writes("t")[0].kind, WriteKind::Rollback);
    assert_eq!(cluster.locks_of(12).len(), 1, "that lock is left alone");
    assert_eq!(cluster.commit(12, 14, &["t"]), None);
}

#[test]
fn a_rollback_at_anothers_commit_is_noted_on_it() {
    let mut cluster = small();
    cluster.put(5, 10, "t", "v");
    assert_eq!(check(&mut cluster, &["t"]), (vec![], 0));
    assert_eq!(cluster.read("t", 10), Ok(Some("v".into())));
    let errors = cluster.prewrite(10, &[(Op::Put, "t", "late")]);
    assert_eq!(errors[0].conflict.as_ref().unwrap().reason(), Reason::SelfRolledBack);
}

#[test]
fn it_counts_as_a_read_at_the_start() {
    let mut cluster = small();
    cluster.secondaries(77, &["k"]);
    assert_eq!(cluster.store(1).unwrap().max_ts, 77);
    let response = cluster.prewritten(5, &[(Op::Put, "k", "v")], in_async(&[]));
    assert!(response.errors[0].conflict.is_some(), "the rollback is newer");
    let response = cluster.prewritten(5, &[(Op::Put, "l", "v")], in_async(&[]));
    assert_eq!(response.min_commit_ts, 78);
}
