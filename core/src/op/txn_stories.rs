//! Commits, snapshot reads and lock resolution, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

// ---- commit ------------------------------------------------------------------------------------

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

// ---- locks met by a prewrite -------------------------------------------------------------------

/// A lock of a dead transaction: its primary is asked, rolled back there, the lock is cleaned, and the
/// batch goes again.
#[test]
fn a_prewrite_meets_a_lock_and_resolves_it() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 locked a primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @100.0 rolled back | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 4 ok
        > 5 store 1 KvCommit a primary at @1000.2 | region 1
        $ 5 ok
        = committed @1000.2
        $ idle
        ~ true
        ",
    );
}

/// A committed transaction's lock is committed.
#[test]
fn a_prewrite_meets_the_lock_of_a_committed_transaction() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 locked a primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 | region 2
        $ 2 committed @200.0
        > 3 store 1 KvResolveLock a of @100.0 committed @200.0 | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 4 conflict a @100.0 @200.0
        > 5 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 26214400 was first
        $ 5 ok
        ",
    );
}

/// A live transaction is waited for, no longer than it may live.
#[test]
fn a_prewrite_meets_a_lock_that_is_alive() {
    story(
        Txn,
        TWO,
        "
        $ commit @980.0 a=1
        > 1 store 1 KvPrewrite a*=1 @980.0 size 1 | region 1
        $ 1 locked a primary p of @970.0
        > 2 store 1 KvCheckTxnStatus p of @970.0 for @980.0 now @1000.1 | region 2
        $ 2 alive 3000
        $ wait
        ~ 89ms: LockWait
        > 3 store 1 KvPrewrite a*=1 @980.0 size 1 | region 1
        $ 3 locked a primary p of @970.0
        > 4 store 1 KvCheckTxnStatus p of @970.0 for @980.0 now @1089.2 | region 2
        $ 4 rolled_back
        > 5 store 1 KvResolveLock a of @970.0 rolled back | region 1
        $ 5 ok
        > 6 store 1 KvPrewrite a*=1 @980.0 size 1 | region 1
        $ 6 ok
        > 7 store 1 KvCommit a primary at @1089.3 | region 1
        $ 7 ok
        = committed @1089.3
        ",
    );
}

/// A lock of a transaction that started later cannot be beaten.
#[test]
fn a_prewrite_meets_the_lock_of_a_newer_transaction() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 locked a primary p of @950.0
        > 2 store 1 KvBatchRollback a | region 1
        = aborted, WriteConflict: write conflict: the transaction that started at 249036800 was first
        $ 2 ok
        ",
    );
}

/// transactions.md §1.4: a transaction with many keys in the region is cleaned region-wide.
#[test]
fn a_lock_of_a_large_transaction_is_cleaned_by_region() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 locked a primary p of @100.0 size 512
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock * of @100.0 rolled back | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 4 ok
        > 5 store 1 KvCommit a primary at @1000.2 | region 1
        $ 5 ok
        = committed @1000.2
        ",
    );
}

// ---- locks met by a read -----------------------------------------------------------------------

#[test]
fn a_read_of_a_snapshot() {
    story(
        Txn,
        TWO,
        "
        $ tget a @900.0
        > 1 store 1 KvGet a @900.0 | region 1
        $ 1 value x
        = value x
        $ tget a @max
        > 2 store 1 KvGet a @max | region 1
        $ 2 none
        = op 2: none
        $ tbatch_get @900.0 z a z
        > 3 store 1 KvBatchGet a @900.0 | region 1
        > 4 store 1 KvBatchGet z @900.0 | region 2
        $ 4 pairs z=26
        $ 3 pairs
        = op 3: value 26, none, value 26
        ",
    );
}

/// Rolled back: the reader passes at once, the lock is cleaned in the background.
#[test]
fn a_read_meets_the_lock_of_a_dead_transaction() {
    story(
        Txn,
        TWO,
        "
        $ tget a @900.0
        > 1 store 1 KvGet a @900.0 | region 1
        $ 1 locked a primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @100.0 rolled back | region 1
        > 4 store 1 KvGet a @900.0 | region 1 retry ignoring @100.0
        $ 4 value old
        = value old
        $ 3 ok
        $ idle
        ~ true
        ",
    );
}

/// Committed before the read: it reads through the lock.
#[test]
fn a_read_meets_the_lock_of_a_committed_transaction() {
    story(
        Txn,
        TWO,
        "
        $ tget a @900.0
        > 1 store 1 KvGet a @900.0 | region 1
        $ 1 locked a primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 | region 2
        $ 2 committed @200.0
        > 3 store 1 KvResolveLock a of @100.0 committed @200.0 | region 1
        > 4 store 1 KvGet a @900.0 | region 1 retry through @100.0
        $ 4 value new
        = value new
        $ 3 ok
        $ tget a @150.0
        > 5 store 1 KvGet a @150.0 | region 1
        $ 5 locked a primary p of @100.0
        > 6 store 1 KvResolveLock a of @100.0 committed @200.0 | region 1
        > 7 store 1 KvGet a @150.0 | region 1 retry ignoring @100.0
        $ 7 value older
        = op 2: value older
        $ 6 ok
        ",
    );
}

/// Alive, and pushed: it cannot commit before the read any more, so the read passes.
#[test]
fn a_read_pushes_a_live_transaction() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 alive 3000 pushed
        > 3 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ 3 value old
        = value old
        $ idle
        ~ true
        ",
    );
}

/// Alive, and not pushed: the reader waits and asks again.
#[test]
fn a_read_waits_for_a_live_transaction() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 alive 3000
        $ wait
        ~ 8ms: LockWait
        > 3 store 1 KvGet a @990.0 | region 1 retry
        $ 3 value new
        = value new
        ",
    );
}

/// The primary is not prewritten yet, and the lock that was met has time left: look again soon.
#[test]
fn a_read_meets_a_lock_whose_primary_is_not_there_yet() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 not_found
        $ wait
        ~ 2ms: LockWait
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1002.2 | region 2
        $ 3 alive 3000 pushed
        > 4 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ 4 value old
        = value old
        ",
    );
}

/// … and when the lock has outlived its time, the transaction is given up for good.
#[test]
fn a_lock_that_outlived_its_time_and_has_no_primary() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 not_found
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 or roll back | region 2
        $ 3 rolled_back
        > 4 store 1 KvResolveLock a of @980.0 rolled back | region 1
        > 5 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ 5 value old
        = value old
        $ 4 ok
        ",
    );
}

/// However many wait for one transaction, its primary is asked once.
#[test]
fn many_readers_of_one_lock_resolve_it_once() {
    story(
        Txn,
        TWO,
        "
        $ tget a @900.0
        > 1 store 1 KvGet a @900.0 | region 1
        $ tget b @950.0
        > 2 store 1 KvGet b @950.0 | region 1
        $ 1 locked a primary p of @100.0
        > 3 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 | region 2
        $ 2 locked b primary p of @100.0
        $ 3 committed @920.0
        > 4 store 1 KvResolveLock a b of @100.0 committed @920.0 | region 1
        > 5 store 1 KvGet a @900.0 | region 1 retry ignoring @100.0
        > 6 store 1 KvGet b @950.0 | region 1 retry through @100.0
        $ 5 value old
        = op 1: value old
        $ 6 value new
        = op 2: value new
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// Whoever joins before the primary is asked is counted in: the largest timestamp is taken along.
#[test]
fn readers_who_wait_together_push_together() {
    story(
        Txn,
        TWO,
        "
        $ ready
        = done
        $ silence tso
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ tget b @995.0
        > 2 store 1 KvGet b @995.0 | region 1
        $ tget c @985.0
        > 3 store 1 KvGet c @985.0 | region 1
        $ 1 locked a primary p of @980.0
        > 4 PD Tso 1
        $ 2 locked b primary p of @980.0
        $ 3 locked c primary p of @980.0
        $ 4 ok
        > 5 store 1 KvCheckTxnStatus p of @980.0 for @995.0 now @1000.1 | region 2
        $ 5 alive 3000 pushed
        > 6 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        > 7 store 1 KvGet b @995.0 | region 1 retry ignoring @980.0
        > 8 store 1 KvGet c @985.0 | region 1 retry ignoring @980.0
        $ 6 value 1
        = op 2: value 1
        $ 7 value 2
        = op 3: value 2
        $ 8 value 3
        = op 4: value 3
        ",
    );
}

/// Whoever joins after the primary was asked is not: the push may not have gone far enough for it.
#[test]
fn a_reader_who_joins_too_late_asks_again() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ tget b @995.0
        > 2 store 1 KvGet b @995.0 | region 1
        $ 1 locked a primary p of @980.0
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 locked b primary p of @980.0
        $ 3 alive 3000 pushed
        > 4 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ 4 value 1
        = op 1: value 1
        $ wait
        ~ 7ms: LockWait
        > 5 store 1 KvGet b @995.0 | region 1 retry
        $ 5 locked b primary p of @980.0
        > 6 store 1 KvCheckTxnStatus p of @980.0 for @995.0 now @1007.2 | region 2
        $ 6 alive 3000 pushed
        > 7 store 1 KvGet b @995.0 | region 1 retry ignoring @980.0
        $ 7 value 2
        = op 2: value 2
        ",
    );
}

/// Committed at the very timestamp of the read: seen.
#[test]
fn a_read_at_the_commit_timestamp_sees_the_commit() {
    story(
        Txn,
        TWO,
        "
        $ tget a @200.0
        > 1 store 1 KvGet a @200.0 | region 1
        $ 1 locked a primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @200.0 now @1000.1 | region 2
        $ 2 committed @200.0
        > 3 store 1 KvResolveLock a of @100.0 committed @200.0 | region 1
        > 4 store 1 KvGet a @200.0 | region 1 retry through @100.0
        ",
    );
}

/// Full pages follow one another without gap or repetition, in both directions.
#[test]
fn a_scan_in_pages() {
    story(
        Txn,
        TWO,
        "
        $ page 2
        $ tscan a..z 5 @900.0
        > 1 store 1 KvScan a..z limit 2 @900.0 | region 1
        $ 1 pairs a=1 b=2
        > 2 store 1 KvScan b<00>..z limit 2 @900.0 | region 1
        $ 2 pairs c=3
        > 3 store 1 KvScan k..z limit 2 @900.0 | region 2
        $ 3 pairs m=4 n=5
        = pairs a=1 b=2 c=3 m=4 n=5
        $ trscan a..z 5 @900.0
        > 4 store 1 KvScan z..a limit 2 @900.0 reverse | region 2
        $ 4 pairs n=5 m=4
        > 5 store 1 KvScan m..a limit 2 @900.0 reverse | region 2
        $ 5 pairs
        > 6 store 1 KvScan k..a limit 2 @900.0 reverse | region 1
        $ 6 pairs c=3 b=2
        > 7 store 1 KvScan b..a limit 1 @900.0 reverse | region 1
        $ 7 pairs a=1
        = op 2: pairs n=5 m=4 c=3 b=2 a=1
        ",
    );
}

/// A locked pair in a batch keeps the others from being asked for nothing.
#[test]
fn a_batch_read_meets_a_lock() {
    story(
        Txn,
        TWO,
        "
        $ tbatch_get @900.0 a b m
        > 1 store 1 KvBatchGet a b @900.0 | region 1
        > 2 store 1 KvBatchGet m @900.0 | region 2
        $ 1 locked b primary b of @100.0
        > 3 store 1 KvCheckTxnStatus b of @100.0 for @900.0 now @1000.1 | region 1
        $ 2 pairs m=3
        $ 3 committed @200.0
        > 4 store 1 KvResolveLock b of @100.0 committed @200.0 | region 1
        > 5 store 1 KvBatchGet a b @900.0 | region 1 through @100.0
        $ 5 pairs a=1 b=2
        = value 1, value 2, value 3
        $ 4 ok
        ",
    );
}

#[test]
fn a_scan_meets_a_lock() {
    story(
        Txn,
        TWO,
        "
        $ tscan a..z 10 @900.0
        > 1 store 1 KvScan a..z limit 10 @900.0 | region 1
        $ 1 locked b primary b of @100.0
        > 2 store 1 KvCheckTxnStatus b of @100.0 for @900.0 now @1000.1 | region 1
        $ 2 rolled_back
        > 3 store 1 KvResolveLock b of @100.0 rolled back | region 1
        > 4 store 1 KvScan a..z limit 10 @900.0 | region 1 ignoring @100.0
        $ 4 pairs a=1
        > 5 store 1 KvScan k..z limit 9 @900.0 | region 2 ignoring @100.0
        $ 3 ok
        $ 5 pairs m=3
        = pairs a=1 m=3
        ",
    );
}

/// The deadline of a reader that waits for a lock names the lock.
#[test]
fn a_reader_gives_up_at_its_deadline() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 alive 100000
        $ pass 60000
        $ wait
        ~ 8ms: LockWait
        > 3 store 1 KvGet a @990.0 | region 1 retry
        x 3
        = DeadlineExceeded: the operation's deadline has passed: locked by the transaction that started at 256901120
        $ wait
        ~ nothing to wait for
        $ 3 lost
        $ idle
        ~ true
        ",
    );
}

/// A pessimistic lock is never resolved as if it were a prewritten one, whatever became of its
/// transaction.
#[test]
fn d11_a_pessimistic_lock_is_only_waited_for() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 locked a primary p of @100.0 pessimistic
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 | region 2
        $ 2 rolled_back
        $ wait
        ~ 89ms: LockWait
        > 3 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 3 ok
        > 4 store 1 KvCommit a primary at @1089.2 | region 1
        $ 4 ok
        = committed @1089.2
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
