//! Commits, told: what is lost, and what that means (`transactions.md` §11).

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// transactions.md §11: lost, and followed by success: no doubt. §8.5: whatever the store has done.
#[test]
fn the_answer_to_an_async_prewrite_is_lost_and_found_again() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1 retry
        $ 2 not_leader 1
        > 3 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1 retry
        $ 3 ok min @1000.5
        > 4 store 1 KvCommit a primary at @1000.5 async | region 1
        = committed @1000.5 async
        $ 4 ok
        ",
    );
}

/// transactions.md §11, row 5; peers.md D3; case ASY-12: undetermined, and nothing is touched.
#[test]
fn d3_the_answer_to_an_async_prewrite_is_lost_for_good() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 ok min @1000.5
        $ 2 lost
        $ wait
        ~ 58ms: Backoff
        > 3 store 2 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2 retry
        $ 3 status 12 no such method
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server does not offer this call: no such method (gRPC status 12) (region 2@1.1) (store 2) after 2 attempts
        $ idle
        ~ true
        ",
    );
}

/// … and the same in one phase.
#[test]
fn d3_the_answer_to_a_prewrite_in_one_phase_is_lost_for_good() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1 retry
        $ 2 status 12 no such method
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server does not offer this call: no such method (gRPC status 12) (region 1@1.1) (store 2) after 2 attempts
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §11, row 5: «even if the last error is a key error: conservative».
#[test]
fn a_lost_answer_and_then_a_key_error_is_undetermined() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1 retry
        $ 2 conflict a @950.0 @960.0
        = undetermined, Undetermined in doubt: the commit may or may not have happened: write conflict: the transaction that started at 249036800 was first
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.4: everything is rolled back, as in two phases.
#[test]
fn a_key_error_aborts_an_async_commit() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 ok min @1000.5
        $ 2 conflict m @950.0 @960.0
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 3 ok
        > 4 store 1 KvBatchRollback m | region 2
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.4: «else nothing».
#[test]
fn a_key_error_aborts_in_one_phase_with_nothing_to_undo() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1
        $ 1 conflict a @950.0 @960.0
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §11, row 6, prewrite_cancelled; case ASY-13: the conflict is told.
#[test]
fn a_batch_withdrawn_because_another_failed_is_no_doubt() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 lost
        $ 2 conflict m @950.0 @960.0
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 3 ok
        > 4 store 1 KvBatchRollback m | region 2
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §11, row 8, §22.3; case ASY-16: undetermined, and nothing is rolled back.
#[test]
fn a_store_that_cannot_tell_about_an_async_prewrite() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ 1 undetermined
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the result is undetermined:  (region 1@1.1) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// … case OPC-07.
#[test]
fn a_store_that_cannot_tell_about_one_phase() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1
        $ 1 undetermined
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the result is undetermined:  (region 1@1.1) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// Case 2PC-21: «during prewrite it is retried and the txn commits».
#[test]
fn a_store_that_cannot_tell_about_a_plain_prewrite_is_asked_again() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 undetermined
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1 retry
        $ 2 ok
        > 3 store 1 KvCommit a primary at @1002.1 | region 1
        $ 3 ok
        = committed @1002.1
        ",
    );
}

/// transactions.md §11, last row, §22.5.
#[test]
fn a_lost_answer_to_a_plain_prewrite_is_no_doubt() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 KvPrewrite a*=1 @900.0 size 1 | region 1 retry
        $ 2 status 12 no such method
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, Refused: the server does not offer this call: no such method (gRPC status 12) (region 1@1.1) (store 2) after 2 attempts
        $ 3 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §11, §22.25: with one plain lock it is a commit of two phases.
#[test]
fn after_the_fallback_a_lost_answer_is_no_doubt() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 ok
        $ 2 lost
        $ wait
        ~ 58ms: Backoff
        > 3 store 2 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2 retry
        $ 3 status 12 no such method
        > 4 store 1 KvBatchRollback a | region 1
        = aborted, Refused: the server does not offer this call: no such method (gRPC status 12) (region 2@1.1) (store 2) after 2 attempts
        $ 4 ok
        > 5 store 1 KvBatchRollback m | region 2
        $ 5 ok
        $ idle
        ~ true
        ",
    );
}

/// Finer than §11: what was lost does not matter while another key certainly has no lock, and never will.
#[test]
fn a_commit_that_lacks_a_batch_is_no_doubt() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 locked a primary z of @800.0 ttl 3000
        > 3 store 1 KvCheckTxnStatus z of @800.0 for @900.0 now @1000.1 | region 2
        $ 2 lost
        $ 3 alive 3000
        $ wait
        ~ 54ms: LockWait
        > 4 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        $ 4 status 12 no such method
        > 5 store 1 KvBatchRollback a | region 1
        = aborted, Refused: the server does not offer this call: no such method (gRPC status 12) (region 1@1.1) (store 1)
        $ 5 ok
        > 6 store 1 KvBatchRollback m | region 2
        $ 6 ok
        $ idle
        ~ true
        ",
    );
}

/// An abort may be any failure of the store, one after the write included.
#[test]
fn an_abort_in_other_words_is_no_certainty() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1
        $ 1 abort engine timeout
        = undetermined, Undetermined in doubt: the commit may or may not have happened: engine timeout
        $ idle
        ~ true
        ",
    );
}

/// … but not what the store found before it wrote anything (§8.3).
#[test]
fn an_abort_in_known_words_is_certain() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1
        $ 1 abort Error(Txn(Error(Mvcc(Error(Committed)))))
        = aborted, Refused: Error(Txn(Error(Mvcc(Error(Committed)))))
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §7.3, invariant: an internal error that ends this transaction only (§22.41).
#[test]
fn a_commit_that_was_not_asked_for() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok one @1000.5
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server sent what it cannot: a prewrite was answered as a commit
        $ idle
        ~ true
        ",
    );
}

/// What cannot be proves nothing.
#[test]
fn a_timestamp_before_the_start_decides_no_async_commit() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ 1 ok min @800.0
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server sent what it cannot: a commit timestamp at or before the start
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §8.4: «min_commit_ts must be 0, else error».
#[test]
fn half_of_a_commit_in_one_phase() {
    story(
        Txn,
        TWO,
        "
        $ txn async 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc async | region 1
        $ 1 ok min @1000.5
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server sent what it cannot: half of a commit in one phase
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §11, row 7; case ASY-15.
#[test]
fn a_deadline_during_an_async_prewrite_is_undetermined() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 ok min @1000.5
        $ pass 60000
        $ wait
        x 2
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the operation's deadline has passed: no answer in time (region 2@1.1) (store 1)
        ~ nothing to wait for
        $ idle
        ~ true
        ",
    );
}

/// … and not if one of the batches certainly has no lock.
#[test]
fn a_deadline_before_all_are_sent_aborts() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 locked a primary z of @800.0 ttl 3000
        > 3 store 1 KvCheckTxnStatus z of @800.0 for @900.0 now @1000.1 | region 2
        $ pass 60000
        $ wait
        x 2
        x 3
        > 4 store 1 KvBatchRollback a | region 1
        = aborted, DeadlineExceeded: the operation's deadline has passed: no answer in time (region 2@1.1) (store 1)
        ~ 60.069s: Backoff
        > 5 store 2 KvCheckTxnStatus z of @800.0 for @900.0 now @1000.1 | region 2 retry
        $ 4 ok
        > 6 store 1 KvBatchRollback m | region 2
        $ 6 ok
        $ idle
        ~ true
        ",
    );
}

/// Whoever drops a commit whose locks are all on their way has it settled …
#[test]
fn cancelling_an_async_commit_that_may_be_committed_is_too_late() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 ok min @1000.5
        $ cancel 1
        ~ TooLate
        $ 2 ok min @1000.6
        > 3 store 1 KvCommit a primary at @1000.6 async | region 1
        > 4 store 1 KvCommit m at @1000.6 async | region 2
        $ 3 ok
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// … or undone, if it fails.
#[test]
fn a_dropped_async_commit_that_fails_is_undone() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ cancel 1
        ~ TooLate
        $ 1 conflict a @950.0 @960.0
        > 2 store 1 KvBatchRollback a | region 1
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// … in one phase, too.
#[test]
fn cancelling_a_commit_in_one_phase_is_too_late() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 1pc | region 1
        $ cancel 1
        ~ TooLate
        $ 1 ok one @1000.5
        $ idle
        ~ true
        ",
    );
}

/// … while one that cannot be committed any more is undone.
#[test]
fn cancelling_an_async_commit_that_lacks_a_batch_rolls_back() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async with m | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 max @2900.0 async | region 2
        $ 1 locked a primary z of @800.0 ttl 3000
        > 3 store 1 KvCheckTxnStatus z of @800.0 for @900.0 now @1000.1 | region 2
        $ 3 alive 3000
        $ cancel 1
        ~ RollingBack
        x 2
        > 4 store 1 KvBatchRollback a | region 1
        $ 4 ok
        > 5 store 1 KvBatchRollback m | region 2
        $ 5 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §11, row 4: failures of it are left to whoever meets the locks.
#[test]
fn the_background_of_an_async_commit_decides_nothing() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ 1 ok min @1000.5
        > 2 store 1 KvCommit a primary at @1000.5 async | region 1
        = committed @1000.5 async
        $ 2 lost
        $ wait
        ~ 58ms: Backoff
        > 3 store 2 KvCommit a primary at @1000.5 async | region 1 retry
        $ 3 lock_not_found a
        $ idle
        ~ true
        ",
    );
}

/// Closing lets it come to its end.
#[test]
fn closing_lets_an_async_commit_settle() {
    story(
        Txn,
        TWO,
        "
        $ txn async causal
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 max @2900.0 async | region 1
        $ close
        $ 1 ok min @1000.5
        > 2 store 1 KvCommit a primary at @1000.5 async | region 1
        = committed @1000.5 async
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §11, row 3; case 2PC-17. Sticky over regions (§22.6).
#[test]
fn a_lost_commit_and_then_region_errors_is_undetermined() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ 2 lost
        $ wait
        ~ 58ms: Backoff
        > 3 store 2 KvCommit a primary at @1000.1 | region 1 retry
        $ 3 not_leader
        $ pass 60000
        $ wait
        ~ 60ms: Backoff
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the operation's deadline has passed after 2 attempts: not leader, and nobody is known to be (region 1@1.1) (store 2)
        $ idle
        ~ true
        ",
    );
}

/// Case 2PC-16.
#[test]
fn region_errors_alone_are_no_doubt() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ 2 not_leader
        $ wait
        ~ 2ms: Backoff
        > 3 store 2 KvCommit a primary at @1000.1 | region 1 retry
        $ 3 not_leader
        $ pass 60000
        $ wait
        ~ 6ms: Backoff
        > 4 store 1 KvBatchRollback a | region 1
        = aborted, DeadlineExceeded: the operation's deadline has passed after 2 attempts: not leader, and nobody is known to be (region 1@1.1) (store 2)
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §8.5: the region splits, and the parts are prewritten. That a store has nothing against
/// them shows nothing, so the primary is asked: it is committed, and at which timestamp.
#[test]
fn a_lost_commit_in_one_phase_is_found_after_a_split() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 ok
        $ 4 ok
        > 5 store 1 KvCheckTxnStatus a of @900.0 for @0 now @0 | region 1
        $ 5 committed @1000.5
        = committed @1000.5 in one phase
        $ idle
        ~ true
        ",
    );
}

/// … or it is locked: on in two phases.
#[test]
fn a_commit_in_one_phase_that_was_not_executed_before_a_split() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 ok
        $ 4 ok
        > 5 store 1 KvCheckTxnStatus a of @900.0 for @0 now @0 | region 1
        $ 5 alive 3000
        > 6 store 1 KvCommit a primary at @1002.1 | region 1
        $ 6 ok
        > 7 store 1 KvCommit d at @1002.1 | region 3
        = committed @1002.1, not in one phase
        $ 7 ok
        $ idle
        ~ true
        ",
    );
}

/// … or rolled back by somebody.
#[test]
fn a_commit_in_one_phase_that_was_rolled_back_after_a_split() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 ok
        $ 4 ok
        > 5 store 1 KvCheckTxnStatus a of @900.0 for @0 now @0 | region 1
        $ 5 rolled_back
        > 6 store 1 KvBatchRollback a | region 1
        = aborted, TxnRolledBack: the primary's lock is gone
        $ 6 ok
        > 7 store 1 KvBatchRollback d | region 3
        $ 7 ok
        $ idle
        ~ true
        ",
    );
}

/// … or nobody knows.
#[test]
fn a_primary_that_cannot_be_asked_leaves_the_outcome_open() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 ok
        $ 4 ok
        > 5 store 1 KvCheckTxnStatus a of @900.0 for @0 now @0 | region 1
        $ 5 status 12 no such method
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server does not offer this call: no such method (gRPC status 12) (region 1@1.2) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// … and while it is asked, as during the prewrites.
#[test]
fn a_deadline_while_the_primary_is_asked_is_undetermined() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 ok
        $ 4 ok
        > 5 store 1 KvCheckTxnStatus a of @900.0 for @0 now @0 | region 1
        $ pass 60000
        $ wait
        x 5
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the operation's deadline has passed: no answer in time (region 1@1.2) (store 1)
        ~ nothing to wait for
        $ idle
        ~ true
        ",
    );
}

/// … and while it is asked, as during the prewrites.
#[test]
fn cancelling_while_the_primary_is_asked_is_too_late() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 ok
        $ 4 ok
        > 5 store 1 KvCheckTxnStatus a of @900.0 for @0 now @0 | region 1
        $ cancel 1
        ~ TooLate
        $ 5 committed @1000.5
        $ idle
        ~ true
        ",
    );
}

/// If a part cannot be told about, the whole is undetermined …
#[test]
fn a_lost_commit_in_one_phase_is_lost_after_a_split() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 status 12 no such method
        x 4
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server does not offer this call: no such method (gRPC status 12) (region 1@1.2) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// … while the refusal of a part is one of the whole: a committed one would have been told as such.
#[test]
fn a_refused_part_shows_that_the_whole_was_not_executed() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite a*=1 @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 conflict a @950.0 @960.0
        x 4
        > 5 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 5 ok
        > 6 store 1 KvBatchRollback d | region 3
        $ 6 ok
        $ idle
        ~ true
        ",
    );
}

/// … unless the key is only checked, and so has no record.
#[test]
fn a_check_does_not_tell_whether_the_whole_was_executed() {
    story(
        Txn,
        TWO,
        "
        $ txn 1pc causal
        $ commit @900.0 absent:a d=2
        > 1 store 1 KvPrewrite absent a d*=2 @900.0 size 2 max @2900.0 1pc | region 1
        $ 1 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPrewrite absent a d*=2 @900.0 size 2 max @2900.0 1pc | region 1 retry
        $ 2 epoch 1 3
        > 3 store 1 KvPrewrite absent a @900.0 size many max @2900.0 | region 1 retry
        > 4 store 1 KvPrewrite d*=2 @900.0 size many max @2900.0 | region 3 retry
        $ 3 exists a
        x 4
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the key exists
        $ idle
        ~ true
        ",
    );
}
