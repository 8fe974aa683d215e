//! A transaction's status, row by row: transactions.md §20.1; cases.md MOC-13.

use anatase_proto::kvrpcpb::{Action, CheckTxnStatusRequest, Op};

use crate::{Cluster, testing::small, timestamp::compose};

// §20.1; MOC-13

pub(super) const BEGIN: u64 = 1000 << 18;
const TTL: u64 = 3000;

/// One lock on `p`, alive until 4000 ms.
pub(super) fn locked() -> Cluster {
    let mut cluster = small();
    cluster.prewrite(BEGIN, &[(Op::Put, "p", "v"), (Op::Put, "s", "v")]);
    cluster
}

#[test]
fn status_own_lock_but_not_on_its_primary() {
    let mut cluster = locked();
    let error = cluster.status("s", BEGIN, |_| {}).error.unwrap();
    let told = error.primary_mismatch.unwrap().lock_info.unwrap();
    assert_eq!((&told.key[..], &told.primary_lock[..]), (&b"s"[..], &b"p"[..]));
    let unverified = cluster.status("s", BEGIN, |request| request.verify_is_primary = false);
    assert_eq!((unverified.error, unverified.lock_ttl), (None, TTL));
}

#[test]
fn status_expired_lock_is_rolled_back_and_protected() {
    let mut cluster = locked();
    let at = |ms| {
        move |it: &mut CheckTxnStatusRequest| {
            it.current_ts = compose(ms, 0);
        }
    };
    let alive = cluster.status("p", BEGIN, at(4000));
    assert_eq!((alive.lock_ttl, alive.action()), (TTL, Action::NoAction), "alive at the very end");
    let ended = cluster.status("p", BEGIN, at(4001));
    assert_eq!((ended.lock_ttl, ended.commit_version), (0, 0));
    assert_eq!(ended.action(), Action::TtlExpireRollback);
    assert_eq!(cluster.locked_keys(), ["s"]);
    let again = cluster.status("p", BEGIN, at(4001));
    assert_eq!((again.error.clone(), again.action()), (None, Action::NoAction), "rolled back");
    assert!(cluster.commit(BEGIN, BEGIN + 5, &["p"]).is_some());
}

#[test]
fn status_current_of_the_largest_means_ended() {
    let mut cluster = locked();
    let ended = cluster.status("p", BEGIN, |request| request.current_ts = u64::MAX);
    assert_eq!(ended.action(), Action::TtlExpireRollback);
}

#[test]
fn status_alive_pushes_for_a_reader_and_says_so() {
    let mut cluster = locked();
    let reader = compose(2000, 7);
    let mut push = |caller, current| {
        let response = cluster.status("p", BEGIN, |request| {
            request.caller_start_ts = caller;
            request.current_ts = current;
        });
        assert_eq!(response.lock_ttl, TTL);
        let info = response.lock_info.clone().unwrap();
        assert_eq!(&info.key[..], b"p");
        (response.action(), info.min_commit_ts)
    };
    assert_eq!(push(0, 0), (Action::NoAction, BEGIN + 1), "a caller that does not push");
    assert_eq!(push(u64::MAX, 0), (Action::MinCommitTsPushed, BEGIN + 1), "reads the latest");
    assert_eq!(push(BEGIN, 0), (Action::MinCommitTsPushed, BEGIN + 1), "far enough already");
    assert_eq!(push(reader, 0), (Action::MinCommitTsPushed, reader + 1));
    let current = compose(3000, 0);
    assert_eq!(push(reader + 1, current), (Action::MinCommitTsPushed, current));
    assert_eq!(cluster.read("p", reader), Ok(None), "the reader gets past");
    let expired = cluster.commit(BEGIN, current - 1, &["p"]).unwrap();
    assert_eq!(expired.commit_ts_expired.unwrap().min_commit_ts, current);
}

#[test]
fn status_lock_without_a_minimum_is_not_pushed() {
    let mut cluster = small();
    cluster.prewrite_with(BEGIN, &[(Op::Put, "p", "v")], |request| request.min_commit_ts = 0);
    let response = cluster.status("p", BEGIN, |request| request.caller_start_ts = compose(2000, 0));
    assert_eq!(response.action(), Action::NoAction);
    assert_eq!(cluster.locks()[0].min_commit_ts, 0);
}

#[test]
fn status_missing_with_a_record() {
    let mut cluster = locked();
    cluster.commit(BEGIN, BEGIN + 9, &["p"]);
    let committed = cluster.status("p", BEGIN, |request| request.rollback_if_not_exist = true);
    assert_eq!((committed.commit_version, committed.action()), (BEGIN + 9, Action::NoAction));
    cluster.roll_back(BEGIN, &["s"]);
    let rolled_back = cluster.status("s", BEGIN, |_| {});
    assert_eq!((rolled_back.error, rolled_back.commit_version, rolled_back.lock_ttl), (None, 0, 0));
}

#[test]
fn status_missing_without_a_record() {
    let mut cluster = small();
    let not_found = cluster.status("p", BEGIN, |_| {}).error.unwrap().txn_not_found.unwrap();
    assert_eq!((not_found.start_ts, &not_found.primary_key[..]), (BEGIN, &b"p"[..]));
    let nothing = cluster.status("p", BEGIN, |request| {
        request.rollback_if_not_exist = true;
        request.resolving_pessimistic_lock = true;
    });
    assert_eq!(nothing.action(), Action::LockNotExistDoNothing);
    assert_eq!(cluster.writes("p").len(), 0);
    let written = cluster.status("p", BEGIN, |request| request.rollback_if_not_exist = true);
    assert_eq!(written.action(), Action::LockNotExistRollback);
    let errors = cluster.prewrite(BEGIN, &[(Op::Put, "p", "v")]);
    assert!(errors[0].conflict.is_some(), "the prewrite was too late");
}

#[test]
fn status_missing_under_anothers_lock() {
    let mut cluster = locked();
    let other = BEGIN + 100;
    let response = cluster.status("p", other, |request| request.rollback_if_not_exist = true);
    assert_eq!(response.action(), Action::LockNotExistRollback);
    assert_eq!(cluster.locked_keys(), ["p", "s"], "that lock is left alone");
}

#[test]
fn checks_count_as_reads() {
    let mut cluster = locked();
    cluster.status("p", BEGIN, |request| {
        request.caller_start_ts = BEGIN + 7;
        request.current_ts = BEGIN + 3;
    });
    assert_eq!(cluster.store(1).unwrap().max_ts, BEGIN + 7);
    cluster.status("p", BEGIN, |request| request.caller_start_ts = u64::MAX);
    assert_eq!(cluster.store(1).unwrap().max_ts, BEGIN + 7);
}
