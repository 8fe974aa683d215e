//! Commits, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// All prewrites at once; then a timestamp; then the primary; and when that is acknowledged the
/// outcome is reported, before the secondaries go.
#[test]
fn a_commit_in_two_regions() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 b=2 -m
        > 1 store 1 KvPrewrite a*=1 b=2 @900.0 size 2 | region 1
        > 2 store 1 KvPrewrite -m @900.0 size 1 | region 2
        $ 2 ok
        $ 1 ok
        > 3 store 1 KvCommit a b primary at @1000.1 | region 1
        $ 3 ok
        > 4 store 1 KvCommit m at @1000.1 | region 2
        = committed @1000.1
        $ idle
        ~ false
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §6: a batch of prewrites is closed at 16 KiB of keys and values, one of commits at
/// 16 KiB of keys; each says how many keys the region holds in all.
#[test]
fn a_large_commit_goes_in_batches_of_16_kib() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=#16384 b=#10000 c=#6381 d=#1 e=2
        > 1 store 1 KvPrewrite a*=xxxxxxxxxxxx…(16384 bytes) @900.0 size 5 | region 1
        > 2 store 1 KvPrewrite b=xxxxxxxxxxxx…(10000 bytes) c=xxxxxxxxxxxx…(6381 bytes) d=x @900.0 size 5 | region 1
        > 3 store 1 KvPrewrite e=2 @900.0 size 5 | region 1
        $ 1 ok
        $ 3 ok
        $ 2 ok
        > 4 store 1 KvCommit a b c d e primary at @1000.1 | region 1
        $ 4 ok
        = committed @1000.1
        ",
    );
}

#[test]
fn a_commit_in_one_region() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 b=2
        > 1 store 1 KvPrewrite a*=1 b=2 @900.0 size 2 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a b primary at @1000.1 | region 1
        $ 2 ok
        = committed @1000.1
        $ idle
        ~ true
        ",
    );
}

/// The answer to a prewrite is lost: a prewrite is idempotent, so it is sent again, marked as a retry.
#[test]
fn a_lost_prewrite_reply() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ 1 ok
        $ 2 lost
        $ wait
        ~ 58ms: Backoff
        > 3 store 2 KvPrewrite m=2 @900.0 size 1 | region 2 retry
        $ 3 not_leader 1
        > 4 store 1 KvPrewrite m=2 @900.0 size 1 | region 2 retry
        $ 4 ok
        > 5 store 1 KvCommit a primary at @1058.1 | region 1
        $ 5 ok
        > 6 store 1 KvCommit m at @1058.1 | region 2
        = committed @1058.1
        $ 6 ok
        ",
    );
}

/// The answer to the primary's commit is lost, and a later copy is acknowledged: committed.
#[test]
fn a_lost_commit_reply_that_is_found_again() {
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
        $ 3 not_leader 1
        > 4 store 1 KvCommit a primary at @1000.1 | region 1 retry
        $ 4 ok
        = committed @1000.1
        ",
    );
}

/// peers.md D3: the answer to the primary's commit is lost for good: undetermined, never aborted, and
/// nothing is rolled back.
#[test]
fn d3_a_lost_commit_reply_is_undetermined() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ 1 ok
        $ 2 ok
        > 3 store 1 KvCommit a primary at @1000.1 | region 1
        $ 3 lost
        $ pass 60000
        $ wait
        ~ 63ms: Backoff
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the operation's deadline has passed: connection lost (region 1@1.1) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// … also if what ends it is a refusal of another kind: the lost copy may still arrive.
#[test]
fn a_lost_commit_reply_and_then_a_server_of_another_kind() {
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
        $ 3 status 12 no such method
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server does not offer this call: no such method (gRPC status 12) (region 1@1.1) (store 2) after 2 attempts
        $ idle
        ~ true
        ",
    );
}

/// The doubt survives that the region splits under the primary.
#[test]
fn a_lost_commit_reply_and_a_split() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a d primary at @1000.1 | region 1
        $ 2 stale_command
        $ split 1 at d as 3
        $ wait
        ~ 2ms: Backoff
        > 3 store 1 KvCommit a d primary at @1000.1 | region 1 retry
        $ 3 epoch 1 3
        > 4 store 1 KvCommit a primary at @1000.1 | region 1 retry
        $ 4 status 12 no such method
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server does not offer this call: no such method (gRPC status 12) (region 1@1.2) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// The deadline passes while the primary's commit is out.
#[test]
fn a_deadline_during_the_commit_is_undetermined() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ pass 45000
        $ 1 ok
        > 2 store 1 KvCommit a primary at @46000.1 | region 1
        $ wait
        ~ 60s: Deadline
        x 2
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the operation's deadline has passed
        $ idle
        ~ true
        ",
    );
}

/// The store itself does not know.
#[test]
fn a_commit_that_the_store_cannot_tell() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ 2 undetermined
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the result is undetermined:  (region 1@1.1) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// The commit never left: that is a definite failure, and the locks are undone, the primary first.
#[test]
fn a_commit_that_never_left_is_aborted() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ 1 ok
        $ 2 ok
        > 3 store 1 KvCommit a primary at @1000.1 | region 1
        $ 3 status 12 no such method
        > 4 store 1 KvBatchRollback a | region 1
        = aborted, Refused: the server does not offer this call: no such method (gRPC status 12) (region 1@1.1) (store 1)
        $ 4 ok
        > 5 store 1 KvBatchRollback m | region 2
        $ 5 ok
        $ idle
        ~ true
        ",
    );
}

/// The lock is gone: somebody has rolled the transaction back.
#[test]
fn a_commit_that_finds_its_lock_gone() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ 2 lock_not_found a
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, TxnRolledBack: txn lock not found
        $ 3 ok
        $ idle
        ~ true
        ",
    );
}

/// A lost answer and then a definite refusal: the refusal counts, since the store has looked.
#[test]
fn a_lost_commit_reply_and_then_a_refusal() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ 2 stale_command
        $ wait
        ~ 2ms: Backoff
        > 3 store 1 KvCommit a primary at @1000.1 | region 1 retry
        $ 3 lock_not_found a
        > 4 store 1 KvBatchRollback a | region 1
        = aborted, TxnRolledBack: txn lock not found
        $ 4 ok
        ",
    );
}

/// A reader has pushed the transaction: a later timestamp is fetched, and the primary asked again.
#[test]
fn a_commit_timestamp_that_is_too_early() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ 1 ok
        $ 2 ok
        > 3 store 1 KvCommit a primary at @1000.1 | region 1
        $ pass 20
        $ 3 expired a @1000.1 @1010.0
        > 4 store 1 KvCommit a primary at @1020.2 | region 1
        $ 4 ok
        > 5 store 1 KvCommit m at @1020.2 | region 2
        = committed @1020.2
        $ 5 ok
        ",
    );
}

/// Only the primary may be asked again: a secondary that says «too early» shows that something else is
/// wrong.
#[test]
fn a_commit_timestamp_that_is_too_early_for_another_key() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 b=2
        > 1 store 1 KvPrewrite a*=1 b=2 @900.0 size 2 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a b primary at @1000.1 | region 1
        $ 2 expired b @1000.1 @1010.0
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, TxnRetryable: the commit timestamp 262144001 is before 264765440
        $ 3 ok
        > 4 store 1 KvBatchRollback b | region 1
        $ 4 ok
        ",
    );
}

/// PD hands out a commit timestamp from before the start: never used.
#[test]
fn a_commit_timestamp_from_before_the_start() {
    story(
        Txn,
        TWO,
        "
        $ commit @5000.0 a=1
        > 1 store 1 KvPrewrite a*=1 @5000.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, Protocol: the server sent what it cannot: a commit timestamp at or before the start
        $ 2 ok
        ",
    );
}

/// … also where nothing is locked that would have to be committed at it.
#[test]
fn a_timestamp_from_before_the_start_decides_no_check() {
    story(
        Txn,
        TWO,
        "
        $ commit @2000.0 absent:a
        > 1 store 1 KvPrewrite absent a* @2000.0 size 1 | region 1
        $ 1 ok
        = aborted, Protocol: the server sent what it cannot: a commit timestamp at or before the start
        ",
    );
}

/// peers.md D8: a conflict aborts, and what may be locked is undone in the background; batches still
/// on their way are withdrawn.
#[test]
fn d8_a_write_conflict_is_cleaned_up() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ 2 conflict m @950.0 @960.0
        x 1
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 1 ok
        $ 3 ok
        > 4 store 1 KvBatchRollback m | region 2
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

#[test]
fn an_insert_over_a_value() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 !a=1
        > 1 store 1 KvPrewrite a*!=1 @900.0 size 1 | region 1
        $ 1 exists a
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, KeyExists: the key exists
        $ 2 ok
        ",
    );
}

/// A region splits between prewrite and commit: each phase groups for itself.
#[test]
fn a_split_between_prewrite_and_commit() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a d primary at @1000.1 | region 1
        $ split 1 at d as 3
        $ 2 epoch 1 3
        > 3 store 1 KvCommit a primary at @1000.1 | region 1 retry
        $ 3 ok
        > 4 store 1 KvCommit d at @1000.1 | region 3 retry
        = committed @1000.1
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// … and during the prewrite: what is sent again says that it does not know the transaction's size.
#[test]
fn a_split_during_the_prewrite() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 d=2
        > 1 store 1 KvPrewrite a*=1 d=2 @900.0 size 2 | region 1
        $ split 1 at d as 3
        $ 1 epoch 1 3
        > 2 store 1 KvPrewrite a*=1 @900.0 size many | region 1 retry
        > 3 store 1 KvPrewrite d=2 @900.0 size many | region 3 retry
        $ 2 ok
        $ 3 ok
        > 4 store 1 KvCommit a primary at @1000.1 | region 1
        $ 4 ok
        > 5 store 1 KvCommit d at @1000.1 | region 3
        = committed @1000.1
        $ 5 ok
        ",
    );
}

/// peers.md D14: a key that is only checked is prewritten, never primary and never committed.
#[test]
fn d14_checked_keys_are_not_committed() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 absent:a b=1
        > 1 store 1 KvPrewrite absent a b*=1 @900.0 size 2 | region 1
        $ 1 ok
        > 2 store 1 KvCommit b primary at @1000.1 | region 1
        $ 2 ok
        = committed @1000.1
        $ commit @900.0 absent:a
        > 3 store 1 KvPrewrite absent a* @900.0 size 1 | region 1
        $ 3 ok
        = op 2: committed @1000.2
        ",
    );
}

/// A deadline during the prewrite aborts, and the error is in no doubt: a prewrite commits nothing.
#[test]
fn a_deadline_during_the_prewrite_aborts() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 lost
        $ pass 59990
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 KvPrewrite a*=1 @900.0 size 1 | region 1 retry
        $ wait
        ~ 60s: Deadline
        x 2
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, DeadlineExceeded: the operation's deadline has passed after 2 attempts: connection lost (region 1@1.1) (store 1)
        $ 3 ok
        $ idle
        ~ true
        ",
    );
}

/// Whoever drops a commit that is still prewriting has it undone …
#[test]
fn cancelling_during_the_prewrite_rolls_back() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ cancel 1
        ~ RollingBack
        x 1
        x 2
        > 3 store 1 KvBatchRollback a | region 1
        $ 3 ok
        > 4 store 1 KvBatchRollback m | region 2
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// … and one that has sent its decisive request has it settled.
#[test]
fn cancelling_during_the_commit_is_too_late() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ 1 ok
        $ 2 ok
        > 3 store 1 KvCommit a primary at @1000.1 | region 1
        $ cancel 1
        ~ TooLate
        $ 3 ok
        > 4 store 1 KvCommit m at @1000.1 | region 2
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// Closing lets a commit come to its end.
#[test]
fn closing_during_a_commit() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        > 2 store 1 KvPrewrite m=2 @900.0 size 1 | region 2
        $ 1 ok
        $ close
        $ 2 ok
        > 3 store 1 KvCommit a primary at @1000.1 | region 1
        $ 3 ok
        > 4 store 1 KvCommit m at @1000.1 | region 2
        = committed @1000.1
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

#[test]
fn a_rollback_goes_to_the_primary_first() {
    story(
        Txn,
        TWO,
        "
        $ rollback @900.0 m a m a
        > 1 store 1 KvBatchRollback m | region 2
        $ 1 ok
        > 2 store 1 KvBatchRollback a | region 1
        $ 2 ok
        = done
        $ idle
        ~ true
        ",
    );
}

/// A store's «abort» may be any failure, one after the write included: no certainty.
#[test]
fn a_commit_that_the_store_aborts_for_no_known_reason() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 ok
        > 2 store 1 KvCommit a primary at @1000.1 | region 1
        $ 2 abort engine timeout
        = undetermined, Undetermined in doubt: the commit may or may not have happened: engine timeout
        $ idle
        ~ true
        ",
    );
}
