//! Locks of other transactions, met by a prewrite, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

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

/// A pessimistic lock is never resolved as if it were a prewritten one, whatever became of its
/// transaction.
#[test]
fn d11_a_pessimistic_lock_is_released_and_never_resolved() {
    story(
        Txn,
        TWO,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 1 locked a primary p of @100.0 pessimistic
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @900.0 now @1000.1 pessimistic | region 2
        $ 2 rolled_back
        > 3 store 1 KvPessimisticRollback * of @100.0 until @max | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @900.0 size 1 | region 1
        $ 4 ok
        > 5 store 1 KvCommit a primary at @1000.2 | region 1
        $ 5 ok
        = committed @1000.2
        ",
    );
}
