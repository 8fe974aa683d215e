//! Pessimistic locks, row by row: transactions.md §13, §14, §20.4; cases.md LCK, MOC.

use anatase_proto::kvrpcpb::{
    Assertion, KeyError, Op, PessimisticLockKeyResultType as ResultType, PessimisticLockRequest,
    PessimisticLockResponse, PessimisticLockWakeUpMode as WakeUpMode, ScanLockRequest,
    write_conflict::Reason,
};

use crate::{
    Cluster, LockKind,
    testing::{key, small, text},
};

/// One word for an error.
fn name(error: &KeyError) -> &str {
    let abort = error.abort.split(' ').next().unwrap_or("");
    match error {
        _ if error.locked.is_some() => "locked",
        _ if error.conflict.is_some() => "conflict",
        _ if error.already_exist.is_some() => "exists",
        _ if error.deadlock.is_some() => "deadlock",
        _ => abort,
    }
}

fn names(response: &PessimisticLockResponse) -> Vec<&str> {
    response.errors.iter().map(name).collect()
}

fn absent(request: &mut PessimisticLockRequest) {
    request.mutations[0].assertion = Assertion::NotExist as i32;
}

pub(in crate::mvcc) fn fair(request: &mut PessimisticLockRequest) {
    request.wake_up_mode = WakeUpMode::WakeUpModeForceLock as i32;
}

/// transactions.md §20.4: what each state of a key answers.
#[test]
fn a_request_for_a_key_by_what_the_key_has() {
    type Prepare = fn(&mut Cluster);
    type Change = fn(&mut PessimisticLockRequest);
    let plain: Change = |_| {};
    // The request is of the transaction that began at 10 and looked at 20.
    let rows: [(&str, Prepare, Change, &[&str], bool); 19] = [
        ("nothing", |_| {}, plain, &[], true),
        ("an older value", |it| it.put(5, 15, "k", "v"), plain, &[], true),
        ("a value of the very moment", |it| it.put(5, 20, "k", "v"), plain, &[], true),
        ("a newer value", |it| it.put(15, 21, "k", "v"), plain, &["conflict"], false),
        ("a newer deletion", |it| it.delete(15, 21, "k"), plain, &["conflict"], false),
        (
            "a newer rollback of another",
            |it| assert_eq!(it.roll_back(25, &["k"]), None),
            plain,
            &["conflict"],
            false,
        ),
        (
            "a rollback of its own",
            |it| assert_eq!(it.roll_back(10, &["k"]), None),
            plain,
            &["PessimisticLockRolledBack"],
            false,
        ),
        (
            "a rollback of its own below another's commit",
            |it| {
                assert_eq!(it.roll_back(10, &["k"]), None);
                it.put(12, 15, "k", "v");
            },
            plain,
            &["PessimisticLockRolledBack"],
            false,
        ),
        (
            "another's prewritten lock",
            |it| assert_eq!(it.prewrite(15, &[(Op::Put, "k", "v")]), []),
            plain,
            &["locked"],
            false,
        ),
        (
            "another's pessimistic lock",
            |it| assert_eq!(it.lock(15, 15, &["k"]), []),
            plain,
            &["locked"],
            false,
        ),
        (
            "its own prewritten lock",
            |it| assert_eq!(it.prewrite(10, &[(Op::Put, "k", "v")]), []),
            plain,
            &["LockTypeNotMatch"],
            false,
        ),
        ("its own lock", |it| assert_eq!(it.lock(10, 15, &["k"]), []), plain, &[], true),
        ("nothing, as wanted", |_| {}, absent, &[], true),
        ("a deletion, as wanted", |it| it.delete(5, 15, "k"), absent, &[], true),
        ("an unwanted value", |it| it.put(5, 15, "k", "v"), absent, &["exists"], false),
        (
            "an unwanted value below a lock record",
            |it| {
                it.put(5, 12, "k", "v");
                assert_eq!(it.prewrite(13, &[(Op::Lock, "k", "")]), []);
                assert_eq!(it.commit(13, 15, &["k"]), None);
            },
            absent,
            &["exists"],
            false,
        ),
        (
            "an unwanted value below its own lock",
            |it| {
                it.put(5, 12, "k", "v");
                assert_eq!(it.lock(10, 15, &["k"]), []);
            },
            absent,
            &["exists"],
            true,
        ),
        (
            "nothing, and only what exists is locked",
            |_| {},
            |it| (it.lock_only_if_exists, it.return_values) = (true, true),
            &[],
            false,
        ),
        (
            "only what exists, without asking for the value",
            |it| it.put(5, 15, "k", "v"),
            |it| it.lock_only_if_exists = true,
            &["LockIfExistsFailed"],
            false,
        ),
    ];
    for (state, prepare, change, errors, locked) in rows {
        let mut cluster = small();
        prepare(&mut cluster);
        let response = cluster.locked_with(10, 20, &["k"], change);
        assert_eq!(names(&response), errors, "{state}");
        assert_eq!(response.results, [], "{state}: not in normal mode");
        let own: Vec<_> = cluster.locks_of(10).iter().map(|lock| lock.kind).collect();
        let has = own == [LockKind::Pessimistic];
        assert_eq!(has, locked, "{state}: {own:?}");
    }
}

/// transactions.md §2.3b, §13.4.
#[test]
fn a_conflict_tells_what_the_statement_has_to_know() {
    let mut cluster = small();
    cluster.put(15, 21, "k", "v");
    let errors = cluster.locked_with(10, 20, &["k"], |it| it.primary_lock = key("p")).errors;
    let conflict = errors[0].conflict.as_ref().unwrap();
    assert_eq!(conflict.reason(), Reason::PessimisticRetry);
    assert_eq!(
        (conflict.start_ts, conflict.conflict_ts, conflict.conflict_commit_ts),
        (10, 15, 21)
    );
    assert_eq!((text(&conflict.key), text(&conflict.primary)), ("k".into(), "p".into()));
    assert!(!errors[0].retryable.is_empty(), "for old clients");
}

/// wire.md §3.3; transactions.md §13.4: values, or existence, or neither.
#[test]
fn values_and_existence_as_asked() {
    let mut cluster = small();
    cluster.put(5, 15, "a", "1");
    let mut ask = |start_ts, change: fn(&mut PessimisticLockRequest)| {
        let response = cluster.locked_with(start_ts, 100, &["a", "b"], change);
        cluster.release(start_ts, u64::MAX, &["a", "b"]);
        let values: Vec<_> = response.values.iter().map(|value| text(value)).collect();
        (values.join(","), response.not_founds)
    };
    assert_eq!(ask(20, |_| {}), (String::new(), vec![]));
    assert_eq!(ask(30, |it| it.check_existence = true), (String::new(), vec![false, true]));
    assert_eq!(ask(40, |it| it.return_values = true), ("1,".to_owned(), vec![false, true]));
    let both = |it: &mut PessimisticLockRequest| {
        (it.check_existence, it.return_values) = (true, true);
    };
    assert_eq!(ask(50, both), ("1,".to_owned(), vec![false, true]), "values tell both");
}

/// transactions.md §20.4: a key that the transaction has locked is told again, as of the request.
#[test]
fn the_same_again() {
    let mut cluster = small();
    cluster.put(5, 15, "k", "v");
    let lock = |cluster: &mut Cluster, for_update_ts| {
        let response = cluster.locked_with(10, for_update_ts, &["k"], |it| {
            it.return_values = true;
            it.lock_ttl = 1000 + for_update_ts;
        });
        assert_eq!((names(&response), &response.not_founds), (vec![], &vec![false]));
        let lock = &cluster.locks()[0];
        (lock.for_update_ts, lock.min_commit_ts, lock.ttl)
    };
    assert_eq!(lock(&mut cluster, 20), (20, 21, 1020));
    assert_eq!(lock(&mut cluster, 20), (20, 21, 1020));
    assert_eq!(lock(&mut cluster, 30), (30, 31, 1030), "raised");
    assert_eq!(lock(&mut cluster, 20), (30, 31, 1030), "never lowered");
}

#[test]
fn all_keys_are_locked_or_none() {
    let mut cluster = small();
    assert_eq!(cluster.lock(5, 5, &["b"]), []);
    let errors = cluster.lock(10, 10, &["a", "b", "c"]);
    assert_eq!(errors.len(), 1, "the first in the way is told, and no other");
    assert_eq!(text(&errors[0].locked.as_ref().unwrap().key), "b");
    assert_eq!(cluster.locked_keys(), ["b"]);
    cluster.put(20, 25, "d", "v");
    assert_eq!(name(&cluster.lock(10, 10, &["a", "d"])[0]), "conflict");
    assert_eq!(cluster.locked_keys(), ["b"]);
}

/// transactions.md §20.4, last rule; §2.1.
#[test]
fn a_pessimistic_lock_is_in_no_readers_way_and_is_shown() {
    let mut cluster = small();
    cluster.put(5, 6, "k", "v");
    assert_eq!(cluster.lock(10, 12, &["k"]), []);
    for ts in [7, 10, 13, u64::MAX] {
        assert_eq!(cluster.read("k", ts), Ok(Some("v".to_owned())), "at {ts}");
    }
    let checked = |context: &mut anatase_proto::kvrpcpb::Context| {
        context.isolation_level = anatase_proto::kvrpcpb::IsolationLevel::RcCheckTs as i32;
    };
    assert_eq!(cluster.read_with("k", 13, checked), Ok(Some("v".to_owned())));
    let locks = cluster
        .ask("k", |context| ScanLockRequest { context, max_version: 100, ..Default::default() })
        .locks;
    assert_eq!((locks[0].lock_type(), locks[0].lock_for_update_ts), (Op::PessimisticLock, 12));
    assert_eq!((locks[0].lock_version, locks[0].lock_ttl, locks[0].txn_size), (10, 3000, 0));
    // A writer without locks of its own meets it.
    let errors = cluster.prewrite(20, &[(Op::Put, "k", "w")]);
    assert_eq!(errors[0].locked.as_ref().unwrap().lock_type(), Op::PessimisticLock);
}

/// transactions.md §20.4: what a lock request reads, later commits must be above.
#[test]
fn a_request_that_looks_counts_as_a_read() {
    type Change = fn(&mut PessimisticLockRequest);
    let rows: [(Change, u64); 4] = [
        (|_| {}, 0),
        (|it| it.return_values = true, 50),
        (|it| it.check_existence = true, 50),
        (absent, 50),
    ];
    for (change, max_ts) in rows {
        let mut cluster = small();
        cluster.locked_with(10, 50, &["k"], change);
        assert_eq!(cluster.store(1).unwrap().max_ts, max_ts);
    }
}

/// transactions.md §13.5, §14.
#[test]
fn fair_locking_locks_in_spite_of_newer_data_and_says_so() {
    type Prepare = fn(&mut Cluster);
    type Change = fn(&mut PessimisticLockRequest);
    let (normal, conflict) =
        (ResultType::LockResultNormal, ResultType::LockResultLockedWithConflict);
    // (type, value, existence, conflict_ts), and the lock's for_update_ts and mark.
    type Told = (ResultType, &'static str, bool, u64);
    type Row = (&'static str, Prepare, Change, Told, (u64, bool));
    let rows: [Row; 6] = [
        ("nothing", |_| {}, |_| {}, (normal, "", false, 0), (20, false)),
        (
            "an older value, asked for",
            |it| it.put(5, 15, "k", "v"),
            |it| it.return_values = true,
            (normal, "v", true, 0),
            (20, false),
        ),
        (
            "whether there is one",
            |it| it.put(5, 15, "k", "v"),
            |it| it.check_existence = true,
            (normal, "", true, 0),
            (20, false),
        ),
        (
            "a newer value, told unasked",
            |it| it.put(15, 25, "k", "v"),
            |_| {},
            (conflict, "v", true, 25),
            (25, true),
        ),
        (
            "a newer deletion",
            |it| it.delete(15, 25, "k"),
            |_| {},
            (conflict, "", false, 25),
            (25, true),
        ),
        (
            "its own lock as of later, of a lost answer",
            |it| {
                it.put(15, 25, "k", "v");
                it.locked_with(10, 20, &["k"], fair);
            },
            |_| {},
            (conflict, "v", true, 25),
            (25, true),
        ),
    ];
    for (state, prepare, change, told, lock) in rows {
        let mut cluster = small();
        prepare(&mut cluster);
        let response = cluster.locked_with(10, 20, &["k"], |request| {
            fair(request);
            change(request);
        });
        assert_eq!(names(&response), [""; 0], "{state}");
        assert_eq!((response.values.len(), response.not_founds.len()), (0, 0), "{state}");
        let result = &response.results[0];
        let value = text(&result.value);
        let found = (result.r#type(), &*value, result.existence, result.locked_with_conflict_ts);
        assert_eq!(found, told, "{state}");
        let locks = cluster.locks_of(10);
        assert_eq!((locks[0].for_update_ts, locks[0].locked_with_conflict), lock, "{state}");
    }
}

/// transactions.md §13.5: the key says that it failed, and why stands beside it.
#[test]
fn what_fair_locking_does_not_lock() {
    type Prepare = fn(&mut Cluster);
    type Change = fn(&mut PessimisticLockRequest);
    let exists: Change = |it| (it.lock_only_if_exists, it.return_values) = (true, true);
    let rows: [(&str, Prepare, Change, &[&str], usize); 5] = [
        ("another's lock", |it| assert_eq!(it.lock(15, 15, &["k"]), []), |_| {}, &["locked"], 1),
        ("an unwanted value", |it| it.put(5, 15, "k", "v"), absent, &["exists"], 0),
        ("an unwanted newer value", |it| it.put(15, 25, "k", "v"), absent, &["conflict"], 0),
        (
            "newly deleted, to be locked if it exists",
            |it| it.delete(15, 25, "k"),
            exists,
            &["conflict"],
            0,
        ),
        (
            "a rollback of its own",
            |it| assert_eq!(it.roll_back(10, &["k"]), None),
            |_| {},
            &["PessimisticLockRolledBack"],
            0,
        ),
    ];
    for (state, prepare, change, errors, results) in rows {
        let mut cluster = small();
        prepare(&mut cluster);
        let response = cluster.locked_with(10, 20, &["k"], |request| {
            fair(request);
            change(request);
        });
        assert_eq!(names(&response), errors, "{state}");
        assert_eq!(response.results.len(), results, "{state}");
        assert!(response.results.iter().all(|it| it.r#type() == ResultType::LockResultFailed));
        assert!(cluster.locks_of(10).is_empty(), "{state}");
    }
    let two = small().locked_with(10, 20, &["a", "b"], fair);
    assert!(two.errors[0].abort.contains("multiple keys"), "{two:?}");
}

/// transactions.md §10, §13, §20.4; cases.md LCK-22.
#[test]
fn a_release_is_of_own_pessimistic_locks_up_to_a_timestamp() {
    let mut cluster = small();
    assert_eq!(cluster.lock(10, 20, &["a"]), []);
    assert_eq!(cluster.lock(10, 30, &["b"]), []);
    assert_eq!(cluster.lock(11, 11, &["c"]), []);
    assert_eq!(cluster.prewrite(10, &[(Op::Put, "d", "v")]), []);
    let all = ["a", "b", "c", "d", "e"];
    cluster.release(10, 19, &all);
    assert_eq!(cluster.locked_keys(), ["a", "b", "c", "d"], "of later requests");
    cluster.release(10, 29, &all);
    assert_eq!(cluster.locked_keys(), ["b", "c", "d"]);
    cluster.release(10, u64::MAX, &[]);
    assert_eq!(cluster.locked_keys(), ["c", "d"], "all of the region");
    assert_eq!(cluster.writes("a"), [], "it leaves nothing behind");
    assert_eq!(cluster.lock(10, 40, &["a"]), [], "and forbids nothing");
}

#[test]
fn a_release_without_keys_is_of_one_region() {
    let mut cluster = crate::ClusterConfig::default().stores(1).split_keys(["m"]).build();
    assert_eq!(cluster.lock(10, 10, &["a"]), []);
    assert_eq!(cluster.lock(10, 10, &["z"]), []);
    cluster.release(10, u64::MAX, &[]);
    assert_eq!(cluster.locked_keys(), ["z"]);
}

/// Requests that make no sense are refused, whatever TiKV does.
#[test]
fn lock_requests_that_make_no_sense() {
    let mut cluster = small();
    for (op, part) in [(Op::Put, "mismatch Op"), (Op::SharedPessimisticLock, "not modelled")] {
        let errors =
            cluster.locked_with(10, 10, &["k"], |it| it.mutations[0].op = op as i32).errors;
        assert!(errors[0].abort.contains(part), "{errors:?}");
    }
    let response = cluster.locked_with(10, 10, &["k"], |it| it.mutations.clear());
    assert_eq!(response, PessimisticLockResponse::default());
    let long = "k".repeat(9 << 10);
    assert_ne!(cluster.lock(10, 10, &[&long])[0].abort, "");
    assert_eq!(cluster.locked_keys(), [""; 0]);
}
