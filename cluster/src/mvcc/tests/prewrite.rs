//! Prewrite: transactions.md §20.3, §8.5; cases.md MOC-10.

use anatase_proto::kvrpcpb::{Assertion, AssertionLevel, Op, write_conflict::Reason};

use crate::testing::{assert_that, key, small, text};

// §20.3

#[test]
fn a_prewrite_again_changes_nothing() {
    let mut cluster = small();
    let mutations = [(Op::Put, "p", "v"), (Op::Put, "s", "v")];
    assert_eq!(cluster.prewrite(10, &mutations), []);
    let locks = cluster.locks();
    assert_eq!(cluster.prewrite_with(10, &mutations, |request| request.lock_ttl = 9), []);
    assert_eq!(cluster.locks(), locks);
    assert_eq!((locks[1].primary.clone(), locks[1].ttl, locks[1].txn_size), (key("p"), 3000, 2));
}

#[test]
fn any_foreign_lock_and_nothing_is_written_and_all_of_them_are_told() {
    let mut cluster = small();
    cluster.prewrite(10, &[(Op::Put, "b", "v"), (Op::Lock, "d", "")]);
    let errors = cluster.prewrite(
        20,
        &[(Op::Put, "a", "v"), (Op::Put, "b", "v"), (Op::Put, "c", "v"), (Op::Put, "d", "v")],
    );
    let locks: Vec<_> = errors.iter().map(|error| error.locked.clone().unwrap()).collect();
    assert_eq!(locks.iter().map(|lock| text(&lock.key)).collect::<Vec<_>>(), ["b", "d"]);
    assert_eq!((locks[0].lock_version, locks[0].lock_type()), (10, Op::Put));
    assert_eq!((&locks[1].primary_lock[..], locks[1].lock_type()), (&b"b"[..], Op::Lock));
    assert_eq!(cluster.locked_keys(), ["b", "d"]);
}

// MOC-10

#[test]
fn a_newer_commit_is_a_conflict_and_so_is_a_newer_rollback() {
    let mut cluster = small();
    cluster.put(15, 20, "k", "v");
    let errors = cluster.prewrite(18, &[(Op::Put, "a", "v"), (Op::Put, "k", "w")]);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    let conflict = error.conflict.as_ref().unwrap();
    assert_eq!(
        (conflict.start_ts, conflict.conflict_ts, conflict.conflict_commit_ts),
        (18, 15, 20)
    );
    assert_eq!((&conflict.key[..], &conflict.primary[..]), (&b"k"[..], &b"a"[..]));
    assert_eq!(conflict.reason(), Reason::Optimistic);
    assert!(!error.retryable.is_empty(), "for clients that know the text only");
    assert_eq!(cluster.locked_keys(), [""; 0]);

    cluster.roll_back(30, &["r"]);
    let errors = cluster.prewrite(25, &[(Op::Put, "r", "w")]);
    assert_eq!(errors[0].conflict.as_ref().unwrap().conflict_commit_ts, 30);
}

#[test]
fn a_rollback_makes_a_late_prewrite_fail() {
    let mut cluster = small();
    cluster.prewrite(10, &[(Op::Put, "k", "v")]);
    assert_eq!(cluster.roll_back(10, &["k"]), None);
    let errors = cluster.prewrite(10, &[(Op::Put, "k", "v")]);
    let conflict = errors[0].conflict.as_ref().unwrap();
    assert_eq!(conflict.reason(), Reason::SelfRolledBack);
    assert_eq!(conflict.conflict_commit_ts, conflict.start_ts);
}

#[test]
fn a_late_copy_of_a_committed_prewrite_succeeds_and_writes_nothing() {
    let mut cluster = small();
    cluster.put(10, 20, "k", "v");
    assert_eq!(cluster.prewrite(10, &[(Op::Put, "k", "v")]), [], "conflict with itself");
    cluster.prewrite(30, &[(Op::Put, "k", "w")]);
    assert_eq!(cluster.prewrite(10, &[(Op::Put, "k", "v")]), [], "another's lock");
    assert_eq!(cluster.locks()[0].start_ts, 30);
}

#[test]
fn inserts_need_absence_and_checks_leave_no_lock() {
    let mut cluster = small();
    cluster.put(5, 10, "there", "v");
    cluster.put(6, 11, "gone", "v");
    cluster.delete(12, 13, "gone");
    for op in [Op::Insert, Op::CheckNotExists] {
        let errors = cluster.prewrite(20, &[(op, "there", "w")]);
        assert_eq!(&errors[0].already_exist.as_ref().unwrap().key[..], b"there");
        let mutations = [(op, "new", "w"), (op, "gone", "w")];
        assert_eq!(cluster.prewrite(20, &mutations), []);
        let left = if op == Op::Insert { vec!["gone", "new"] } else { vec![] };
        assert_eq!(cluster.locked_keys(), left);
        assert_eq!(cluster.roll_back(20, &["new", "gone"]), None);
        cluster.gc(50);
    }
}

#[test]
fn an_insert_looks_below_locks_and_rollbacks() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "v");
    cluster.prewrite(11, &[(Op::Lock, "k", "")]);
    cluster.commit(11, 12, &["k"]);
    let errors = cluster.prewrite(20, &[(Op::Insert, "k", "w")]);
    assert!(errors[0].already_exist.is_some());
}

#[test]
fn assertions_are_checked_at_their_level_and_yield_to_other_errors() {
    let mut cluster = small();
    cluster.put(5, 10, "there", "v");
    let levels = [AssertionLevel::Off, AssertionLevel::Fast, AssertionLevel::Strict];
    for level in levels {
        for (name, assertion, holds) in [
            ("there", Assertion::Exist, true),
            ("there", Assertion::NotExist, false),
            ("absent", Assertion::Exist, false),
            ("absent", Assertion::NotExist, true),
            ("there", Assertion::None, true),
        ] {
            let mut cluster = cluster.clone();
            let set = assert_that(assertion, level);
            let errors = cluster.prewrite_with(20, &[(Op::Put, name, "w")], set);
            let failed = errors.first().and_then(|error| error.assertion_failed.clone());
            let expected = level != AssertionLevel::Off && !holds;
            assert_eq!(failed.is_some(), expected, "{name} {assertion:?} {level:?}");
            if let Some(failed) = failed {
                let existing = (failed.existing_start_ts, failed.existing_commit_ts);
                assert_eq!(existing, if name == "there" { (5, 10) } else { (0, 0) });
            }
        }
    }
    let set = assert_that(Assertion::NotExist, AssertionLevel::Strict);
    let mutations = [(Op::Put, "there", "w"), (Op::Insert, "there", "w")];
    let errors = cluster.prewrite_with(20, &mutations, set);
    assert!(errors[0].assertion_failed.is_none() && errors[0].already_exist.is_some());
}

#[test]
fn skipped_checks_leave_assertions_to_the_strict_level() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "v");
    for (level, fails) in [(AssertionLevel::Fast, false), (AssertionLevel::Strict, true)] {
        let mut cluster = cluster.clone();
        let errors = cluster.prewrite_with(20, &[(Op::Put, "k", "w")], |request| {
            request.skip_constraint_check = true;
            assert_that(Assertion::NotExist, level)(request);
        });
        assert_eq!(!errors.is_empty(), fails);
    }
}

#[test]
fn a_prewrite_makes_no_sense_of_other_ops() {
    let mut cluster = small();
    for op in [Op::Rollback, Op::PessimisticLock, Op::SharedLock] {
        let errors = cluster.prewrite(10, &[(op, "k", "")]);
        assert!(errors[0].abort.contains("mismatch Op"), "{errors:?}");
    }
}
