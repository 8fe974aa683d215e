use super::*;
use crate::check::truth::check;

/// One transaction over `a` and `b` that began at 10, and what is there of it.
fn judged(outcome: Outcome, rows: &[(&'static str, u64, u64, &'static str)]) -> Vec<Anomaly> {
    let mut history = History::default();
    txn(&mut history, 10, outcome, vec![write("a", "1"), write("b", "2")]);
    anomalies(&check(&history, &truth(rows)))
}

const WHOLE: &[(&str, u64, u64, &str)] = &[("a", 20, 10, "1"), ("b", 20, 10, "2")];

#[test]
fn outcomes_that_are_true_pass() {
    assert_eq!(judged(committed(20), WHOLE), []);
    assert_eq!(judged(Outcome::Aborted, &[]), []);
    for open in [Outcome::Undetermined, Outcome::Crashed, Outcome::Running] {
        assert_eq!(judged(open, WHOLE), [], "{open:?}, whole");
        assert_eq!(judged(open, &[]), [], "{open:?}, nothing");
    }
}

#[test]
fn torn_commit() {
    for told in [committed(20), Outcome::Undetermined, Outcome::Crashed] {
        assert_eq!(judged(told, &WHOLE[..1]), [Anomaly::TornCommit], "{told:?}");
    }
}

#[test]
fn lost_commit() {
    assert_eq!(judged(committed(20), &[]), [Anomaly::LostCommit]);
}

#[test]
fn wrong_commit_timestamp() {
    assert_eq!(judged(committed(21), WHOLE), [Anomaly::WrongCommitTimestamp]);
    let apart = [("a", 20, 10, "1"), ("b", 21, 10, "2")];
    assert_eq!(judged(Outcome::Crashed, &apart), [Anomaly::WrongCommitTimestamp]);
}

#[test]
fn wrong_value() {
    for other in ["3", "-", "lock"] {
        let rows = [("a", 20, 10, "1"), ("b", 20, 10, other)];
        assert_eq!(judged(committed(20), &rows), [Anomaly::WrongValue], "{other}");
    }
}

#[test]
fn aborted_but_visible() {
    assert_eq!(judged(Outcome::Aborted, WHOLE), [Anomaly::AbortedButVisible]);
}

#[test]
fn unasked_commit() {
    let mut history = History::default();
    let id = txn(&mut history, 10, Outcome::Crashed, vec![write("a", "1"), write("b", "2")]);
    history.transaction_mut(id).expect("it").commit_began = None;
    assert_eq!(anomalies(&check(&history, &truth(WHOLE))), [Anomaly::UnaskedCommit]);
}

#[test]
fn foreign_key() {
    let rows = [WHOLE, &[("c", 20, 10, "3")]].concat();
    assert_eq!(judged(committed(20), &rows), [Anomaly::ForeignKey]);
}

#[test]
fn unknown_transaction() {
    let mut truth = truth(&[("a", 5, 4, "0")]);
    let found = check(&History::default(), &truth);
    assert_eq!(anomalies(&found), [Anomaly::UnknownTransaction]);
    assert!(found[0].to_string().contains("committed @5 by the transaction @4"), "{}", found[0]);
    truth.foreign.insert(4);
    assert_eq!(check(&History::default(), &truth), []);
}

#[test]
fn duplicate_start() {
    let mut history = History::default();
    let one = txn(&mut history, 10, Outcome::Aborted, vec![]);
    let two = txn(&mut history, 10, Outcome::Aborted, vec![]);
    let found = check(&history, &Truth::default());
    assert_eq!(anomalies(&found), [Anomaly::DuplicateStart]);
    assert_eq!(found[0].who, [one, two]);
}

/// transactions.md §20.1: who has a record of its primary is committed, whatever is still locked.
#[test]
fn a_lock_of_a_committed_transaction_counts_as_its_record() {
    let mut truth = truth(&WHOLE[..1]);
    truth.locks.push(lock("b", 10, "2"));
    let mut history = History::default();
    txn(&mut history, 10, committed(20), vec![write("a", "1"), write("b", "2")]);
    assert_eq!(check(&history, &truth), []);
    // What the lock becomes is judged too.
    truth.locks[0].effect = Some(Effect::Delete);
    assert_eq!(anomalies(&check(&history, &truth)), [Anomaly::WrongValue]);
}

/// §20.2: an async commit needs all of its locks, at the largest of their timestamps.
#[test]
fn an_async_commit_is_one_when_all_of_its_locks_are_there() {
    let mut truth = Truth::default();
    let (mut a, mut b) = (lock("a", 10, "1"), lock("b", 10, "2"));
    a.secondaries = vec![bytes("b")];
    (a.use_async_commit, b.use_async_commit) = (true, true);
    (a.min_commit_ts, b.min_commit_ts) = (15, 17);
    truth.locks = vec![a, b];
    let mut history = History::default();
    let id = txn(&mut history, 10, committed(17), vec![write("a", "1"), write("b", "2")]);
    assert_eq!(check(&history, &truth), []);
    for change in [
        |truth: &mut Truth| truth.locks[1].use_async_commit = false,
        |truth: &mut Truth| truth.locks.truncate(1),
    ] {
        let mut truth = truth.clone();
        change(&mut truth);
        assert_eq!(anomalies(&check(&history, &truth)), [Anomaly::LostCommit]);
    }
    history.transaction_mut(id).expect("it").outcome = committed(15);
    assert_eq!(anomalies(&check(&history, &truth)), [Anomaly::WrongCommitTimestamp]);
}

#[test]
fn what_was_inserted_and_deleted_leaves_nothing_and_what_is_locked_need_not() {
    let mut history = History::default();
    let locked = Step::Lock { key: bytes("c"), for_update_ts: None };
    let steps = vec![insert("b", "2"), write("b", "-"), write("a", "1"), locked];
    txn(&mut history, 10, committed(20), steps);
    for rest in ["b", "c"] {
        assert_eq!(check(&history, &truth(&WHOLE[..1])), []);
        let rows = [WHOLE[0], (rest, 20, 10, "lock")];
        assert_eq!(check(&history, &truth(&rows)), []);
    }
}

#[test]
fn garbage_is_not_missed() {
    let mut history = History::default();
    txn(&mut history, 10, committed(20), vec![write("a", "1")]);
    let mut truth = truth(&[("a", 30, 25, "2")]);
    truth.foreign.insert(25);
    assert_eq!(anomalies(&check(&history, &truth)), [Anomaly::LostCommit]);
    truth.safe_point = 30;
    assert_eq!(check(&history, &truth), []);
}

/// A real cluster, driven by its own calls: `a` and `b` are prewritten and the primary committed, then
/// `c` is rolled back.
#[test]
fn the_truth_of_a_cluster_is_read_right() {
    use anatase_cluster::{ClusterConfig, StoreCall};
    use anatase_proto::kvrpcpb::{
        BatchRollbackRequest, CommitRequest, Context, Mutation, Op, PrewriteRequest,
    };

    let mut cluster = ClusterConfig::default().stores(1).build();
    let region = cluster.region_of(b"k").expect("it").id;
    let context: Option<Box<Context>> = Some(Box::new(cluster.context_for(region)));
    fn ask<R: StoreCall>(cluster: &mut anatase_cluster::Cluster, request: R) {
        assert!(cluster.call(1, request).result.is_ok());
    }
    let put = |key, value| Mutation {
        op: Op::Put as i32,
        key: bytes(key),
        value: bytes(value),
        ..Mutation::default()
    };
    let prewrite = PrewriteRequest {
        context: context.clone(),
        mutations: vec![put("ka", "1"), put("kb", "2")],
        primary_lock: bytes("ka"),
        start_version: 10,
        lock_ttl: 3_000,
        ..PrewriteRequest::default()
    };
    ask(&mut cluster, prewrite);
    let rollback = BatchRollbackRequest {
        context: context.clone(),
        keys: vec![bytes("kc")],
        start_version: 12,
        ..BatchRollbackRequest::default()
    };
    ask(&mut cluster, rollback);
    let undecided = Truth::of(&cluster, b"k");
    assert_eq!(undecided.locks.len(), 2);
    assert_eq!(undecided.resolved(), undecided);
    let commit = CommitRequest {
        context,
        keys: vec![bytes("ka")],
        start_version: 10,
        commit_version: 20,
        ..CommitRequest::default()
    };
    ask(&mut cluster, commit);

    let truth = Truth::of(&cluster, b"k");
    assert_eq!(truth.held(b"a", 19), None);
    assert_eq!(truth.held(b"a", 20), value("1"));
    assert_eq!(truth.held(b"b", 20), None);
    let [left] = &truth.locks[..] else { panic!("{:?}", truth.locks) };
    assert_eq!((&left.key[..], &left.primary[..], left.start_ts), (&b"b"[..], &b"a"[..], 10));
    let resolved = truth.resolved();
    assert_eq!((resolved.held(b"b", 20), resolved.locks.len()), (value("2"), 0));

    let mut history = History::default();
    let id = txn(&mut history, 10, committed(20), vec![write("a", "1"), write("b", "2")]);
    txn(&mut history, 12, Outcome::Aborted, vec![write("c", "3")]);
    assert_eq!(check(&history, &truth), []);
    history.transaction_mut(id).expect("it").outcome = Outcome::Aborted;
    assert_eq!(anomalies(&check(&history, &truth)), [Anomaly::AbortedButVisible]);
    assert_eq!(Truth::of(&cluster, b"other"), Truth::default());
}
