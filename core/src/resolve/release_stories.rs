//! Pessimistic locks, released: `transactions.md` §16.4, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// transactions.md §16.4, region-wide: one request for everybody who waits for a lock of that region.
#[test]
fn pessimistic_locks_of_a_dead_transaction_go_region_by_region() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ commit @991.0 b=1
        > 2 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ pass 30000
        $ 1 locked a primary p of @980.0 pessimistic for @985.0
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @31000.1 pessimistic | region 2
        $ 2 locked b primary p of @980.0 pessimistic for @987.0
        $ 3 released
        > 4 store 1 KvPessimisticRollback * of @980.0 until @987.0 | region 1
        $ 4 ok
        > 5 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        > 6 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        ",
    );
}

/// transactions.md §22.19: 0 is unknown, so the bound is MAX.
#[test]
fn region_wide_without_for_update_ts_means_all() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 30000
        $ 1 locked a primary p of @980.0 pessimistic
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @31000.1 pessimistic | region 2
        $ 2 released
        > 3 store 1 KvPessimisticRollback * of @980.0 until @max | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.4 with LockNotExistDoNothing, §22.17, peers.md D11: the transaction may be alive
/// with another primary; only the locks that were met are let go, each with its own bound.
#[test]
fn a_pessimistic_lock_without_primary_goes_alone() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ commit @991.0 b=1
        > 2 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ pass 30000
        $ 1 locked a primary p of @980.0 pessimistic for @985.0
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @31000.1 pessimistic | region 2
        $ 2 locked b primary p of @980.0 pessimistic for @987.0
        $ 3 missing
        > 4 store 1 KvPessimisticRollback a of @980.0 until @985.0 | region 1
        > 5 store 1 KvPessimisticRollback b of @980.0 until @987.0 | region 1
        $ 4 ok
        > 6 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 5 ok
        > 7 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.2.3; cases LCK-20.
#[test]
fn a_pessimistic_lock_with_another_primary_goes_alone() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 pessimistic for @985.0 ttl 20000
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 pessimistic | region 2
        $ 2 primary_mismatch p primary q of @980.0
        > 3 store 1 KvPessimisticRollback a of @980.0 until @985.0 | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.4, «key = primary → nothing».
#[test]
fn a_pessimistic_lock_that_is_the_primary_is_gone_when_asked_about() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 30000
        $ 1 locked a primary a of @980.0 pessimistic
        > 2 store 1 KvCheckTxnStatus a of @980.0 for @990.0 now @31000.1 pessimistic | region 1
        $ 2 released
        > 3 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.4: never committed; peers.md D11.
#[test]
fn a_pessimistic_lock_of_a_committed_transaction_is_released() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 pessimistic for @985.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 pessimistic | region 2
        $ 2 committed @988.0
        > 3 store 1 KvPessimisticRollback * of @980.0 until @985.0 | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.1, «region-wide pessimistic: no» for reads.
#[test]
fn a_reader_lets_one_pessimistic_lock_go() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0 pessimistic for @985.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 pessimistic | region 2
        $ 2 released
        > 3 store 1 KvPessimisticRollback a of @980.0 until @985.0 | region 1
        $ 3 ok
        > 4 store 1 KvGet a @990.0 | region 1 retry
        ",
    );
}

/// transactions.md §16.2, second row.
#[test]
fn a_pessimistic_lock_that_is_alive_is_waited_for() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 pessimistic ttl 20000
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 pessimistic | region 2
        $ 2 alive 20000
        $ wait
        ~ 89ms: LockWait
        > 3 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.2.2(b): wait for the lock's own time; (a): then ask again with leave to roll
/// back, which for pessimistic locks does nothing.
#[test]
fn the_primary_of_a_pessimistic_lock_may_not_be_there_yet() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @900.0 pessimistic ttl 20000
        > 2 store 1 KvCheckTxnStatus p of @900.0 for @990.0 now @1000.1 pessimistic | region 2
        $ 2 not_found
        $ pass 20000
        $ wait
        ~ 89ms: LockWait
        > 3 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 3 locked a primary p of @900.0 pessimistic ttl 20000 for @901.0
        > 4 store 1 KvCheckTxnStatus p of @900.0 for @990.0 now @21000.2 pessimistic | region 2
        $ 4 not_found
        > 5 store 1 KvCheckTxnStatus p of @900.0 for @990.0 now @21000.2 pessimistic or roll back | region 2
        $ 5 missing
        > 6 store 1 KvPessimisticRollback a of @900.0 until @901.0 | region 1
        $ 6 ok
        > 7 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.4, §22.17: «never cached from a pessimistic-primary status».
#[test]
fn what_a_pessimistic_primary_says_is_not_remembered() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 pessimistic for @985.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 pessimistic | region 2
        $ 2 rolled_back
        > 3 store 1 KvPessimisticRollback * of @980.0 until @985.0 | region 1
        $ 3 ok
        > 4 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 4 locked a primary p of @980.0
        > 5 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.2 | region 2
        ",
    );
}

/// cases PES-24: asked about apart, cleaned apart.
#[test]
fn both_kinds_of_locks_of_one_transaction() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ commit @991.0 b=1
        > 2 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ pass 30000
        $ 1 locked a primary p of @980.0
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @31000.1 | region 2
        $ 2 locked b primary p of @980.0 pessimistic for @985.0
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @991.0 now @31000.2 pessimistic | region 2
        $ 3 rolled_back
        > 5 store 1 KvResolveLock a of @980.0 rolled back | region 1
        $ 4 missing
        > 6 store 1 KvPessimisticRollback b of @980.0 until @985.0 | region 1
        $ 5 ok
        > 7 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 6 ok
        > 8 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        ",
    );
}

/// Nobody has asked this primary since, so nobody has cleaned it: without a request the writer would
/// meet it for ever.
#[test]
fn a_remembered_fate_lets_a_pessimistic_primary_go() {
    story(
        Txn,
        TWO,
        "
        $ tget b @990.0
        > 1 store 1 KvGet b @990.0 | region 1
        $ 1 locked b primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock b of @980.0 rolled back | region 1
        > 4 store 1 KvGet b @990.0 | region 1 retry ignoring @980.0
        $ 4 value old
        = value old
        $ 3 ok
        $ commit @991.0 p=1
        > 5 store 1 KvPrewrite p*=1 @991.0 size 1 | region 2
        $ 5 locked p primary p of @980.0 pessimistic for @985.0
        > 6 store 1 KvPessimisticRollback * of @980.0 until @985.0 | region 2
        ",
    );
}

/// transactions.md §16.2, third row, «any» kind of lock: recovered; the prewritten keys first, then the
/// lock that was met.
#[test]
fn an_async_commit_with_a_pessimistic_lock_left() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 pessimistic for @985.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 pessimistic | region 2
        $ 2 alive 3000 async @986.0 m
        > 3 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        $ 3 secondaries m@987.0
        > 4 store 1 KvResolveLock m p of @980.0 committed @987.0 | region 2
        $ 4 ok
        > 5 store 1 KvPessimisticRollback * of @980.0 until @985.0 | region 1
        $ 5 ok
        > 6 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// §22.17: that one lock is left over says nothing about the next: who comes while it is released has
/// the primary asked anew.
#[test]
fn who_comes_during_a_release_asks_anew() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 pessimistic for @985.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 pessimistic | region 2
        $ 2 missing
        > 3 store 1 KvPessimisticRollback a of @980.0 until @985.0 | region 1
        $ commit @991.0 b=1
        > 4 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ 4 locked b primary p of @980.0 pessimistic for @985.0
        $ 3 ok
        > 5 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        > 6 store 1 KvCheckTxnStatus p of @980.0 for @991.0 now @1000.2 pessimistic | region 2
        $ 6 alive 20000
        $ wait
        ~ 70ms: LockWait
        > 7 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        ",
    );
}
