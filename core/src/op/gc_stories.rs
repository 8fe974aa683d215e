//! Locks of a range, scanned and resolved, and what became of a transaction, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// transactions.md §18: a full page goes on behind its last lock, a short one in the next region.
#[test]
fn locks_are_scanned_page_by_page() {
    story(
        Txn,
        TWO,
        "
        $ set scan_locks 2
        $ scan_locks a..z @900.0 10
        > 1 store 1 KvScanLock a..z until @900.0 limit 2 | region 1
        $ 1 locks a of @100.0, b of @110.0
        > 2 store 1 KvScanLock b<00>..z until @900.0 limit 2 | region 1
        $ 2 locks c of @120.0
        > 3 store 1 KvScanLock k..z until @900.0 limit 2 | region 2
        $ 3 ok
        = locks a of @100.0 b of @110.0 c of @120.0
        ",
    );
}

/// The last page asks for what is left.
#[test]
fn no_more_locks_are_scanned_than_asked_for() {
    story(
        Txn,
        TWO,
        "
        $ set scan_locks 2
        $ scan_locks a.. @900.0 3
        > 1 store 1 KvScanLock a.. until @900.0 limit 2 | region 1
        $ 1 locks a of @100.0, b of @110.0
        > 2 store 1 KvScanLock b<00>.. until @900.0 limit 1 | region 1
        $ 2 locks c of @120.0
        = locks a of @100.0 b of @110.0 c of @120.0
        ",
    );
}

/// Nothing is sent.
#[test]
fn an_empty_range_holds_no_locks() {
    story(
        Txn,
        TWO,
        "
        $ scan_locks z..a @900.0 3
        = locks
        $ scan_locks a..z @900.0 0
        = op 2: locks
        $ resolve_locks z..a @900.0
        = op 3: 0 locks in 0 regions resolved
        ",
    );
}

/// The page is asked of whatever region holds the cursor now.
#[test]
fn a_scan_of_locks_follows_a_split() {
    story(
        Txn,
        TWO,
        "
        $ scan_locks a..z @900.0 10
        > 1 store 1 KvScanLock a..z until @900.0 limit 10 | region 1
        $ split 1 at c as 3
        $ 1 epoch 1 3
        > 2 store 1 KvScanLock a..z until @900.0 limit 10 | region 1 retry
        $ 2 locks b of @110.0
        > 3 store 1 KvScanLock c..z until @900.0 limit 9 | region 3
        $ 3 locks c of @120.0
        > 4 store 1 KvScanLock k..z until @900.0 limit 8 | region 2
        $ 4 ok
        = locks b of @110.0 c of @120.0
        ",
    );
}

/// Nor are locks out of order.
#[test]
fn a_lock_outside_of_the_range_is_not_believed() {
    story(
        Txn,
        TWO,
        "
        $ scan_locks b..z @900.0 10
        > 1 store 1 KvScanLock b..z until @900.0 limit 10 | region 1
        $ 1 locks a of @100.0
        = Protocol: the server sent what it cannot: a scan gave a lock outside of its range
        $ scan_locks a..z @900.0 10
        > 2 store 1 KvScanLock a..z until @900.0 limit 10 | region 1
        $ 2 locks c of @100.0, b of @100.0
        = op 2: Protocol: the server sent what it cannot: a scan gave locks out of order
        ",
    );
}

/// transactions.md §16.5: asked about once, whether their time is over or not, then one request a
/// region.
#[test]
fn transactions_are_ended_region_by_region() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..z @900.0
        > 1 store 1 KvScanLock a..z until @900.0 limit 1024 | region 1
        $ 1 locks a primary p of @100.0, b primary q of @110.0, c primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @max or roll back | region 2
        > 3 store 1 KvCheckTxnStatus q of @110.0 for @0 now @max or roll back | region 2
        $ 2 rolled_back
        $ 3 committed @120.0
        > 4 store 1 KvResolveLock @100.0 rolled back, @110.0 committed @120.0 | region 1
        $ 4 ok
        > 5 store 1 KvScanLock k..z until @900.0 limit 1024 | region 2
        $ 5 locks m primary p of @100.0
        > 6 store 1 KvResolveLock @100.0 rolled back | region 2
        $ 6 ok
        = 4 locks in 2 regions resolved
        ",
    );
}

/// transactions.md §18, ResolveLocksForRange.
#[test]
fn a_full_page_goes_on_at_its_last_key() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @900.0 2
        > 1 store 1 KvScanLock a..k until @900.0 limit 2 | region 1
        $ 1 locks a primary p of @100.0, b primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @max or roll back | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock @100.0 rolled back | region 1
        $ 3 ok
        > 4 store 1 KvScanLock b..k until @900.0 limit 2 | region 1
        $ 4 locks c primary p of @100.0
        > 5 store 1 KvResolveLock @100.0 rolled back | region 1
        $ 5 ok
        = 3 locks in 1 regions resolved
        ",
    );
}

/// A store that does not do what it says is not asked without end.
#[test]
fn a_lock_that_stays_is_asked_about_ever_more_slowly() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @900.0 1
        > 1 store 1 KvScanLock a..k until @900.0 limit 1 | region 1
        $ 1 locks a primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @max or roll back | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock @100.0 rolled back | region 1
        $ 3 ok
        > 4 store 1 KvScanLock a..k until @900.0 limit 1 | region 1
        $ 4 locks a primary p of @100.0
        $ wait
        ~ 90ms: LockWait
        > 5 store 1 KvScanLock a..k until @900.0 limit 1 | region 1
        $ 5 ok
        = 1 locks in 1 regions resolved
        ",
    );
}

/// transactions.md §16.5: «region error: caller rescans».
#[test]
fn a_region_that_moves_is_read_again() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @900.0
        > 1 store 1 KvScanLock a..k until @900.0 limit 1024 | region 1
        $ 1 locks a primary p of @100.0, d primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @max or roll back | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock @100.0 rolled back | region 1
        $ split 1 at c as 3
        $ 3 epoch 1 3
        > 4 store 1 KvScanLock a..k until @900.0 limit 1024 | region 1
        $ 4 locks a primary p of @100.0
        > 5 store 1 KvResolveLock @100.0 rolled back | region 1
        $ 5 ok
        > 6 store 1 KvScanLock c..k until @900.0 limit 1024 | region 3
        $ 6 locks d primary p of @100.0
        > 7 store 1 KvResolveLock @100.0 rolled back | region 3
        $ 7 ok
        = 2 locks in 2 regions resolved
        ",
    );
}

/// transactions.md §16.5.
#[test]
fn pessimistic_locks_are_let_go_one_by_one() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @900.0
        > 1 store 1 KvScanLock a..k until @900.0 limit 1024 | region 1
        $ 1 locks a primary p of @100.0 pessimistic for @105.0, b primary p of @100.0 pessimistic for @106.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @max pessimistic or roll back | region 2
        $ 2 missing
        > 3 store 1 KvPessimisticRollback a of @100.0 until @105.0 | region 1
        > 4 store 1 KvPessimisticRollback b of @100.0 until @106.0 | region 1
        $ 3 ok
        $ 4 ok
        = 2 locks in 1 regions resolved
        ",
    );
}

/// transactions.md §16.5: «Async primary alive → check secondaries, use its commit_ts».
#[test]
fn an_async_commit_is_recovered_before_its_time() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @999.0
        > 1 store 1 KvScanLock a..k until @999.0 limit 1024 | region 1
        $ 1 locks a primary p of @990.0 async
        > 2 store 1 KvCheckTxnStatus p of @990.0 for @0 now @max or roll back | region 2
        $ 2 alive 3000 async @995.0 a m
        > 3 store 1 KvCheckSecondaryLocks a of @990.0 | region 1
        > 4 store 1 KvCheckSecondaryLocks m of @990.0 | region 2
        $ 3 secondaries a@996.0
        $ 4 secondaries m@995.0
        > 5 store 1 KvResolveLock @990.0 committed @996.0 | region 1
        $ 5 ok
        = 1 locks in 1 regions resolved
        ",
    );
}

/// transactions.md §16.5: «NonAsync → CheckTxnStatus force_sync».
#[test]
fn an_async_commit_that_fell_back_is_rolled_back() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @999.0
        > 1 store 1 KvScanLock a..k until @999.0 limit 1024 | region 1
        $ 1 locks a primary p of @990.0 async
        > 2 store 1 KvCheckTxnStatus p of @990.0 for @0 now @max or roll back | region 2
        $ 2 alive 3000 async @995.0 a
        > 3 store 1 KvCheckSecondaryLocks a of @990.0 | region 1
        $ 3 secondaries a
        > 4 store 1 KvCheckTxnStatus p of @990.0 for @0 now @max or roll back as two-phase | region 2
        $ 4 rolled_back
        > 5 store 1 KvResolveLock @990.0 rolled back | region 1
        $ 5 ok
        = 1 locks in 1 regions resolved
        ",
    );
}

/// transactions.md §16.5: «ttl>0 afterwards → error».
#[test]
fn a_transaction_that_does_not_end_is_an_error() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @999.0
        > 1 store 1 KvScanLock a..k until @999.0 limit 1024 | region 1
        $ 1 locks a primary p of @990.0
        > 2 store 1 KvCheckTxnStatus p of @990.0 for @0 now @max or roll back | region 2
        $ 2 alive 3000
        = LockWaitTimeout: locked by the transaction that started at 259522560
        ",
    );
}

/// tikv-client's `async_commit_only`; what is passed over is not met again.
#[test]
fn only_async_commits() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @999.0 2 async
        > 1 store 1 KvScanLock a..k until @999.0 limit 2 | region 1
        $ 1 locks a primary a of @990.0, b primary p of @991.0 async
        > 2 store 1 KvCheckTxnStatus p of @991.0 for @0 now @max or roll back | region 2
        $ 2 committed @995.0
        > 3 store 1 KvResolveLock @991.0 committed @995.0 | region 1
        $ 3 ok
        > 4 store 1 KvScanLock b<00>..k until @999.0 limit 2 | region 1
        $ 4 locks c primary c of @992.0
        = 1 locks in 1 regions resolved
        ",
    );
}

/// A reader of the same transaction waits as ever.
#[test]
fn others_are_not_forced_along() {
    story(
        Txn,
        TWO,
        "
        $ tget a @995.0
        > 1 store 1 KvGet a @995.0 | region 1
        $ 1 locked a primary p of @990.0
        > 2 store 1 KvCheckTxnStatus p of @990.0 for @995.0 now @1000.1 | region 2
        $ resolve_locks b..k @999.0
        > 3 store 1 KvScanLock b..k until @999.0 limit 1024 | region 1
        $ 3 locks b primary p of @990.0
        > 4 store 1 KvCheckTxnStatus p of @990.0 for @0 now @max or roll back | region 2
        $ 2 alive 3000
        $ 4 rolled_back
        > 5 store 1 KvResolveLock @990.0 rolled back | region 1
        ",
    );
}

/// transactions.md §23.3.
#[test]
fn what_became_of_a_transaction() {
    story(
        Txn,
        TWO,
        "
        $ status p of @100.0
        > 1 store 1 KvCheckTxnStatus p of @100.0 for @0 now @1000.1 or roll back | region 2
        $ 1 committed @120.0
        = committed @120.0
        $ status p of @990.0 for @995.0
        > 2 store 1 KvCheckTxnStatus p of @990.0 for @995.0 now @1000.2 or roll back | region 2
        $ 2 alive 3000 pushed
        = op 2: alive for 3s, pushed
        $ status p of @100.0
        > 3 store 1 KvCheckTxnStatus p of @100.0 for @0 now @1000.3 or roll back | region 2
        $ 3 rolled_back
        = op 3: rolled back
        $ status p of @100.0
        > 4 store 1 KvCheckTxnStatus p of @100.0 for @0 now @1000.4 or roll back | region 2
        $ 4 primary_mismatch p primary q of @100.0
        = op 4: Refused: the key is not the primary of the transaction
        $ status p of @100.0
        > 5 store 1 KvCheckTxnStatus p of @100.0 for @0 now @1000.5 or roll back | region 2
        $ 5 not_found
        = op 5: Protocol: the server sent what it cannot: a transaction that was neither found nor rolled back
        ",
    );
}

/// Requests that are out are withdrawn.
#[test]
fn a_walk_over_locks_stops_when_told() {
    story(
        Txn,
        TWO,
        "
        $ resolve_locks a..k @900.0
        > 1 store 1 KvScanLock a..k until @900.0 limit 1024 | region 1
        $ scan_locks a..k @900.0 3
        > 2 store 1 KvScanLock a..k until @900.0 limit 3 | region 1
        $ status p of @100.0
        > 3 store 1 KvCheckTxnStatus p of @100.0 for @0 now @1000.1 or roll back | region 2
        $ cancel 1
        ~ Stopped
        x 1
        $ cancel 2
        ~ Stopped
        x 2
        $ cancel 3
        ~ Stopped
        x 3
        $ idle
        ~ true
        ",
    );
}
