//! How pessimistic transactions end: prewrite, commit, status and secondary locks, row by row
//! (transactions.md §20.1 to §20.4; cases.md LCK, PES).

use anatase_proto::kvrpcpb::{
    Action, Assertion, AssertionLevel, KeyError, Op, PessimisticLockRequest, PrewriteRequest,
    prewrite_request::{ForUpdateTsConstraint, PessimisticAction},
    write_conflict::Reason,
};

use super::pessimistic::fair;
use crate::{
    Cluster, LockKind, WriteKind,
    testing::{assert_that, key, small},
    timestamp::compose,
};

const SKIP: PessimisticAction = PessimisticAction::SkipPessimisticCheck;
const LOCKED: PessimisticAction = PessimisticAction::DoPessimisticCheck;
const CHECK: PessimisticAction = PessimisticAction::DoConstraintCheck;

/// One word for an error.
fn name(error: &KeyError) -> String {
    if let Some(conflict) = &error.conflict {
        return format!("{:?}", conflict.reason());
    }
    if let Some(lock) = &error.locked {
        return format!("locked, ttl {}", lock.lock_ttl);
    }
    match error {
        _ if error.already_exist.is_some() => "exists".to_owned(),
        _ if error.assertion_failed.is_some() => "assertion".to_owned(),
        _ => error.abort.clone(),
    }
}

fn retried(request: &mut PrewriteRequest) {
    request.context.get_or_insert_default().is_retry_request = true;
}

/// transactions.md §20.3. The transaction began at 10 and looked at 20 last.
#[test]
fn pessimistic_prewrite_by_what_the_key_has() {
    type Prepare = fn(&mut Cluster);
    let lock: Prepare = |it| assert_eq!(it.lock(10, 15, &["k"]), []);
    let theirs: Prepare = |it| assert_eq!(it.lock(16, 16, &["k"]), []);
    let old: Prepare = |it| it.put(5, 9, "k", "o");
    let since: Prepare = |it| it.put(11, 15, "k", "n");
    let newer: Prepare = |it| it.put(11, 25, "k", "n");
    let other_rolled_back: Prepare = |it| assert_eq!(it.roll_back(25, &["k"]), None);
    let rolled_back: Prepare = |it| assert_eq!(it.roll_back(10, &["k"]), None);
    let nothing: Prepare = |_| {};
    let rows: [(&str, Prepare, PessimisticAction, bool, &str); 26] = [
        ("its lock", lock, LOCKED, false, ""),
        ("its lock, said to need none", lock, SKIP, false, ""),
        ("its lock, to be checked", lock, CHECK, false, ""),
        ("another's lock", theirs, LOCKED, false, "LockTsMismatch"),
        ("another's lock", theirs, SKIP, false, "locked, ttl 0"),
        ("another's lock", theirs, CHECK, false, "locked, ttl 0"),
        ("no lock, nothing written", nothing, LOCKED, false, ""),
        ("no lock, written before it began", old, LOCKED, false, ""),
        ("no lock, written since", since, LOCKED, false, "LockMissingAmendFail"),
        ("no lock, written since, again", since, LOCKED, true, "LockMissingAmendFail"),
        ("no lock, rolled back", rolled_back, LOCKED, false, "LockMissingAmendFail"),
        (
            "no lock, another rolled back since",
            other_rolled_back,
            LOCKED,
            false,
            "LockMissingAmendFail",
        ),
        ("nothing", nothing, SKIP, false, ""),
        ("written since", since, SKIP, false, ""),
        ("written since it looked", newer, SKIP, false, ""),
        ("rolled back", rolled_back, SKIP, false, ""),
        ("written since, again", since, SKIP, true, ""),
        ("written since it looked, again", newer, SKIP, true, "NonLockKeyConflict"),
        ("another rolled back since, again", other_rolled_back, SKIP, true, ""),
        ("rolled back, again", rolled_back, SKIP, true, "SelfRolledBack"),
        ("nothing", nothing, CHECK, false, ""),
        ("written before it began", old, CHECK, false, ""),
        ("written since", since, CHECK, false, "LazyUniquenessCheck"),
        ("written since it looked", newer, CHECK, false, "LazyUniquenessCheck"),
        ("another rolled back since", other_rolled_back, CHECK, false, "LazyUniquenessCheck"),
        ("rolled back", rolled_back, CHECK, false, "SelfRolledBack"),
    ];
    for (state, prepare, action, again, expected) in rows {
        let mut cluster = small();
        prepare(&mut cluster);
        let response = cluster.prewritten_pessimistic(10, 20, &[("k", action)], |request| {
            if again {
                retried(request);
            }
        });
        let row = format!("{state}, {action:?}, again: {again}");
        let found = response.errors.first().map(name).unwrap_or_default();
        if expected.is_empty() {
            assert_eq!(found, "", "{row}");
        } else {
            assert!(found.contains(expected), "{row}: {found}");
        }
        let own: Vec<_> =
            cluster.locks_of(10).iter().map(|it| (it.kind, it.for_update_ts)).collect();
        assert_eq!(own == [(LockKind::Put, 20)], expected.is_empty(), "{row}: {own:?}");
    }
}

/// transactions.md §8.3: lock not found is an abort, and nothing of the request is written.
#[test]
fn a_lost_lock_aborts_the_whole_request() {
    let mut cluster = small();
    assert_eq!(cluster.lock(10, 10, &["a"]), []);
    cluster.put(11, 15, "b", "n");
    let response = cluster.prewritten_pessimistic(10, 20, &[("a", LOCKED), ("b", LOCKED)], |_| {});
    assert_eq!(response.errors.len(), 1);
    assert!(response.errors[0].abort.starts_with("PessimisticLockNotFound"));
    assert_eq!(cluster.locks()[0].kind, LockKind::Pessimistic);
}

/// transactions.md §20.3, third rule; §22.27; cases.md LCK-19.
#[test]
fn the_lock_must_be_the_one_that_was_granted() {
    for (expected, fits) in [(14, false), (15, true), (16, false)] {
        for one_pc in [false, true] {
            let mut cluster = small();
            assert_eq!(cluster.lock(10, 15, &["a", "b"]), []);
            let of = [("a", LOCKED), ("b", LOCKED)];
            let response = cluster.prewritten_pessimistic(10, 20, &of, |request| {
                request.for_update_ts_constraints =
                    vec![ForUpdateTsConstraint { index: 1, expected_for_update_ts: expected }];
                request.try_one_pc = one_pc;
            });
            assert_eq!(response.errors.is_empty(), fits, "{expected}");
            if !fits {
                assert!(response.errors[0].abort.contains("LockForUpdateTsMismatch"));
            }
            assert_eq!(response.one_pc_commit_ts != 0, fits && one_pc);
        }
    }
    let mut cluster = small();
    let response = cluster.prewritten_pessimistic(10, 20, &[("a", SKIP)], |request| {
        request.for_update_ts_constraints =
            vec![ForUpdateTsConstraint { index: 1, expected_for_update_ts: 10 }];
    });
    assert!(response.errors[0].abort.contains("constraint on mutation 1 of 1"));
}

/// §22.27: a request that comes twice, fair, the second time after the lock was lost.
#[test]
fn a_replayed_fair_request_cannot_hide_a_lost_update() {
    let mut cluster = small();
    cluster.locked_with(10, 15, &["k"], fair);
    cluster.release(10, 15, &["k"]);
    cluster.put(20, 25, "k", "theirs");
    let again = cluster.locked_with(10, 15, &["k"], fair);
    assert_eq!(again.results[0].locked_with_conflict_ts, 25);
    let response = cluster.prewritten_pessimistic(10, 15, &[("k", LOCKED)], |request| {
        request.for_update_ts_constraints =
            vec![ForUpdateTsConstraint { index: 0, expected_for_update_ts: 15 }];
    });
    assert!(response.errors[0].abort.contains("PessimisticLockNotFound"));
}

/// What was pushed on the pessimistic lock stays pushed.
#[test]
fn a_prewrite_never_shortens_what_the_lock_had() {
    let mut cluster = small();
    cluster.locked_with(10, 30, &["k"], |it| {
        it.lock_ttl = 9000;
        it.min_commit_ts = 50;
    });
    let response = cluster.prewritten_pessimistic(10, 20, &[("k", LOCKED)], |_| {});
    assert_eq!(response.errors, []);
    let lock = &cluster.locks()[0];
    assert_eq!((lock.ttl, lock.min_commit_ts, lock.for_update_ts), (9000, 50, 30));
    // Prewritten, it is in a reader's way.
    assert!(cluster.read("k", 60).is_err());
    assert_eq!(cluster.commit(10, 60, &["k"]), None);
    assert_eq!(cluster.read("k", 60), Ok(Some("v".to_owned())));
}

/// transactions.md §20.3, fourth rule: `for_update_ts` counts as read.
#[test]
fn async_commits_are_above_what_was_looked_at() {
    for one_pc in [false, true] {
        let mut cluster = small();
        cluster.locked_with(10, 30, &["k"], |it| it.min_commit_ts = 0);
        let response = cluster.prewritten_pessimistic(10, 30, &[("k", LOCKED)], |request| {
            request.min_commit_ts = 0;
            (request.try_one_pc, request.use_async_commit) = (one_pc, !one_pc);
        });
        assert_eq!(
            (response.min_commit_ts, response.one_pc_commit_ts),
            if one_pc { (0, 31) } else { (31, 0) }
        );
        if one_pc {
            assert_eq!(cluster.locked_keys(), [""; 0], "the lock is gone");
            assert_eq!(cluster.read("k", 31), Ok(Some("v".to_owned())));
        }
    }
}

/// transactions.md §8.5, §8.2: a late copy of what is committed.
#[test]
fn a_late_copy_after_the_commit_is_answered_as_committed() {
    let mut cluster = small();
    assert_eq!(cluster.lock(10, 20, &["a"]), []);
    let of = [("a", LOCKED), ("b", SKIP)];
    let send = |cluster: &mut Cluster| {
        cluster.prewritten_pessimistic(10, 20, &of, |it| it.use_async_commit = true)
    };
    let first = send(&mut cluster);
    assert_eq!((first.errors, first.min_commit_ts), (vec![], 21));
    assert_eq!(cluster.commit(10, 25, &["a", "b"]), None);
    // Not even marked as a retry: the store knows.
    let copy = send(&mut cluster);
    assert_eq!((copy.errors, copy.min_commit_ts), (vec![], 25));
    assert_eq!(cluster.locked_keys(), [""; 0]);
    // And for the key without a lock alone.
    let copy = cluster.prewritten_pessimistic(10, 20, &[("b", SKIP)], |_| {});
    assert_eq!(copy.errors, []);
    assert_eq!(cluster.locked_keys(), [""; 0]);
}

/// transactions.md §20.3: pessimistic and optimistic do not mix, and what is malformed is refused.
#[test]
fn prewrites_that_make_no_sense() {
    let mut cluster = small();
    assert_eq!(cluster.lock(10, 10, &["k"]), []);
    let errors = cluster.prewrite(10, &[(Op::Put, "k", "v")]);
    assert!(errors[0].abort.contains("LockTypeNotMatch"), "{errors:?}");
    type Change = fn(&mut PrewriteRequest);
    let rows: [(Change, &str); 3] = [
        (|it| it.mutations[0].op = Op::CheckNotExists as i32, "checkNotExists"),
        (|it| it.pessimistic_actions.clear(), "0 pessimistic actions for 1 mutations"),
        (|it| it.pessimistic_actions = vec![7], "7"),
    ];
    for (change, part) in rows {
        let errors = cluster.prewritten_pessimistic(10, 10, &[("k", LOCKED)], change).errors;
        assert!(errors[0].abort.contains(part), "{errors:?}");
    }
}

/// cases.md AST-01, AST-03: assertions of keys with and without locks.
#[test]
fn assertions_of_pessimistic_transactions() {
    let (fast, strict) = (AssertionLevel::Fast, AssertionLevel::Strict);
    // The key does not exist, and the transaction says that it does.
    let rows = [
        (true, LOCKED, fast, false),
        (true, LOCKED, strict, true),
        // Looked at to see whether the lost lock matters.
        (false, LOCKED, fast, true),
        (false, SKIP, fast, false),
        (false, SKIP, strict, true),
        (false, CHECK, fast, true),
    ];
    for (lock, action, level, fails) in rows {
        let mut cluster = small();
        if lock {
            assert_eq!(cluster.lock(10, 10, &["k"]), []);
        }
        let wrong = assert_that(Assertion::Exist, level);
        let errors = cluster.prewritten_pessimistic(10, 20, &[("k", action)], wrong).errors;
        let names: Vec<_> = errors.iter().map(name).collect();
        assert_eq!(names == ["assertion"], fails, "{lock} {action:?} {level:?}: {names:?}");
    }
}

/// transactions.md §20.4, first rule; §22.33.
#[test]
fn a_leftover_pessimistic_lock_is_released_by_a_commit() {
    let mut cluster = small();
    assert_eq!(cluster.lock(10, 20, &["a", "b"]), []);
    cluster.prewritten_pessimistic(10, 20, &[("a", LOCKED)], |_| {});
    let early = cluster.commit(10, 20, &["b"]).unwrap();
    assert_eq!(early.commit_ts_expired.unwrap().min_commit_ts, 21);
    assert_eq!(cluster.commit(10, 30, &["a", "b"]), None);
    assert_eq!(cluster.locked_keys(), [""; 0]);
    assert_eq!(cluster.writes("b"), [], "nothing was written");
    // By resolving, too: cases.md LCK-21.
    assert_eq!(cluster.lock(40, 40, &["c"]), []);
    assert_eq!(cluster.resolve(&[(40, 50)], &[]), None);
    assert_eq!((cluster.locked_keys(), cluster.writes("c")), (vec![], vec![]));
    assert_eq!(cluster.lock(60, 60, &["c"]), []);
    assert_eq!(cluster.resolve(&[(60, 0)], &[]), None);
    assert_eq!(cluster.writes("c")[0].kind, WriteKind::Rollback);
}

const BEGIN: u64 = 1000 << 18;

fn status_of(
    cluster: &mut Cluster,
    primary: &str,
    at_ms: u64,
    resolving: bool,
) -> Result<(Action, u64, u64), Box<KeyError>> {
    let response = cluster.status(primary, BEGIN, |request| {
        request.current_ts = compose(at_ms, 0);
        request.resolving_pessimistic_lock = resolving;
        request.rollback_if_not_exist = true;
    });
    match response.error.clone() {
        Some(error) => Err(error),
        None => Ok((response.action(), response.lock_ttl, response.commit_version)),
    }
}

/// transactions.md §20.1. The lock lives until 4000 ms.
#[test]
fn status_of_a_pessimistic_primary() {
    type Prepare = fn(&mut Cluster);
    type Found = (Action, u64, u64);
    let lock: Prepare = |it| assert_eq!(it.lock(BEGIN, BEGIN, &["p"]), []);
    // Granted to a late copy, after the commit.
    let stale: Prepare = |it| {
        it.put(BEGIN, BEGIN + 5, "p", "v");
        it.locked_with(BEGIN, BEGIN, &["p"], fair);
    };
    let conflict: Prepare = |it| {
        it.put(BEGIN + 1, BEGIN + 5, "p", "v");
        it.locked_with(BEGIN, BEGIN, &["p"], fair);
    };
    // (state, at, resolving a pessimistic lock, found, locked afterwards, records of it)
    let rows: [(&str, Prepare, u64, bool, Found, bool, usize); 8] = [
        ("alive", lock, 4000, true, (Action::NoAction, 3000, 0), true, 0),
        ("alive", lock, 4000, false, (Action::NoAction, 3000, 0), true, 0),
        ("ended", lock, 4001, true, (Action::TtlExpirePessimisticRollback, 0, 0), false, 0),
        ("ended", lock, 4001, false, (Action::TtlExpireRollback, 0, 0), false, 1),
        ("stale", stale, 2000, true, (Action::NoAction, 0, BEGIN + 5), false, 1),
        ("stale", stale, 2000, false, (Action::NoAction, 0, BEGIN + 5), false, 1),
        ("with conflict", conflict, 2000, false, (Action::NoAction, 3000, 0), true, 0),
        ("missing", |_| {}, 4001, true, (Action::LockNotExistDoNothing, 0, 0), false, 0),
    ];
    for (state, prepare, at_ms, resolving, found, locked, records) in rows {
        let mut cluster = small();
        prepare(&mut cluster);
        let row = format!("{state} at {at_ms}, {resolving}");
        assert_eq!(status_of(&mut cluster, "p", at_ms, resolving), Ok(found), "{row}");
        assert_eq!(!cluster.locked_keys().is_empty(), locked, "{row}");
        let own = cluster.writes("p").into_iter().filter(|it| it.start_ts == BEGIN).count();
        assert_eq!(own, records, "{row}");
    }
}

/// transactions.md §20.1, first row; §22.17; cases.md LCK-20.
#[test]
fn status_of_a_key_that_is_the_primary_no_more() {
    let mut cluster = small();
    let other = |it: &mut PessimisticLockRequest| it.primary_lock = key("p");
    cluster.locked_with(BEGIN, BEGIN, &["s"], other);
    let mismatch = status_of(&mut cluster, "s", 2000, true).unwrap_err().primary_mismatch.unwrap();
    assert_eq!(mismatch.lock_info.unwrap().primary_lock, key("p"));
    assert_eq!(cluster.locked_keys(), ["s"]);
    // Who asks for a prewritten lock knows the true primary: this lock is a leftover.
    assert_eq!(status_of(&mut cluster, "s", 2000, false), Ok((Action::LockNotExistRollback, 0, 0)));
    assert_eq!(cluster.locked_keys(), [""; 0]);
    assert_eq!(cluster.writes("s")[0].kind, WriteKind::Rollback);
    // A prewritten lock that names another primary is never a leftover.
    let mut cluster = small();
    cluster.prewrite(BEGIN, &[(Op::Put, "p", "v"), (Op::Put, "s", "v")]);
    assert!(status_of(&mut cluster, "s", 2000, false).unwrap_err().primary_mismatch.is_some());
}

/// cases.md PES-23: a reader is not kept by a primary that is not even prewritten.
#[test]
fn status_of_a_pessimistic_primary_is_pushed() {
    let mut cluster = small();
    assert_eq!(cluster.lock(BEGIN, BEGIN, &["p"]), []);
    let reader = compose(2000, 0);
    let response = cluster.status("p", BEGIN, |request| request.caller_start_ts = reader);
    assert_eq!(response.action(), Action::MinCommitTsPushed);
    cluster.prewritten_pessimistic(BEGIN, BEGIN, &[("p", LOCKED)], |_| {});
    assert_eq!(cluster.locks()[0].min_commit_ts, reader + 1, "the prewrite keeps it");
}

/// transactions.md §20.2.
#[test]
fn secondary_check_removes_pessimistic_locks() {
    let mut cluster = small();
    cluster.prewrite_with(10, &[(Op::Put, "a", "v")], |it| it.use_async_commit = true);
    cluster.locked_with(10, 10, &["b"], |it| it.primary_lock = key("a"));
    let response = cluster.secondaries(10, &["a", "b"]);
    assert_eq!(response.commit_ts, 0);
    assert_eq!(cluster.locked_keys(), ["a"]);
    assert_eq!(cluster.writes("b")[0].kind, WriteKind::Rollback);
    // Protected: it is not collapsed, and a late copy of the lock request comes too late.
    assert!(cluster.lock(10, 10, &["b"])[0].abort.contains("PessimisticLockRolledBack"));
    // A late copy that was granted after the commit tells nothing.
    let mut cluster = small();
    cluster.put(10, 15, "b", "v");
    cluster.locked_with(10, 10, &["b"], fair);
    assert_eq!(cluster.secondaries(10, &["b"]).commit_ts, 15);
    assert_eq!(cluster.locked_keys(), [""; 0]);
    assert_eq!(cluster.writes("b").len(), 1);
}

/// transactions.md §12: a heartbeat is for pessimistic primaries above all.
#[test]
fn a_pessimistic_primary_is_kept_alive() {
    let mut cluster = small();
    assert_eq!(cluster.lock(BEGIN, BEGIN, &["p"]), []);
    let beat = cluster.ask("p", |context| anatase_proto::kvrpcpb::TxnHeartBeatRequest {
        context,
        primary_lock: key("p"),
        start_version: BEGIN,
        advise_lock_ttl: 8000,
        ..Default::default()
    });
    assert_eq!((beat.error, beat.lock_ttl), (None, 8000));
    assert_eq!(status_of(&mut cluster, "p", 9000, true), Ok((Action::NoAction, 8000, 0)));
    assert_eq!(cluster.expire(BEGIN), 1);
    let ended = Ok((Action::TtlExpirePessimisticRollback, 0, 0));
    assert_eq!(status_of(&mut cluster, "p", 1001, true), ended);
}

/// The reasons that a client tells apart (transactions.md §2.3b).
#[test]
fn reasons_of_conflicts() {
    let mut cluster = small();
    cluster.put(11, 15, "k", "v");
    let lazy = cluster.prewritten_pessimistic(10, 20, &[("k", CHECK)], |_| {}).errors;
    let conflict = lazy[0].conflict.as_ref().unwrap();
    assert_eq!(conflict.reason(), Reason::LazyUniquenessCheck);
    assert_eq!((conflict.conflict_ts, conflict.conflict_commit_ts), (11, 15));
}
