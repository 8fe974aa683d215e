//! Every row of the tables of `transactions.md` §16, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// transactions.md §16.2, first row: the push is for readers; who writes waits.
#[test]
fn a_push_lets_readers_pass_and_writers_wait() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ commit @991.0 b=1
        > 3 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ 3 locked b primary p of @980.0
        $ 2 alive 3000 pushed
        > 4 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ wait
        ~ 70ms: LockWait
        > 5 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.2, second and third row, §22.15: nobody is asked about secondaries before the
/// primary's time is over, by PD's clock.
#[test]
fn an_async_commit_within_its_time_is_waited_for() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 alive 3000 async @985.0 a m
        $ pass 2979
        $ wait
        ~ 89ms: LockWait
        > 3 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 3 locked a primary p of @980.0 async
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @3979.2 | region 2
        $ 4 alive 3000 async @985.0 a m
        $ pass 1
        $ wait
        ~ 2.98s: LockWait
        > 5 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 5 locked a primary p of @980.0 async
        > 6 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @3980.3 | region 2
        $ 6 alive 3000 async @985.0 a m
        > 7 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        > 8 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        ",
    );
}

/// transactions.md §16.3: all secondaries are locked, so it is committed, at the latest of the earliest
/// timestamps. The reader goes on while keys and primary are cleaned, key by key; the fate is
/// remembered.
#[test]
fn an_async_commit_is_recovered_once_its_time_is_over() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async size 9999
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 m a b
        > 3 store 1 KvCheckSecondaryLocks a b of @980.0 | region 1
        > 4 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        $ 3 secondaries b@986.0 a@985.0
        $ 4 secondaries m@988.0
        > 5 store 1 KvResolveLock a b of @980.0 committed @988.0 | region 1
        > 6 store 1 KvResolveLock m p of @980.0 committed @988.0 | region 2
        > 7 store 1 KvGet a @990.0 | region 1 retry through @980.0
        $ 7 value new
        = value new
        $ 5 ok
        $ 6 ok
        $ tget n @987.0
        > 8 store 1 KvGet n @987.0 | region 2
        $ 8 locked n primary p of @980.0 async size 9999
        > 9 store 1 KvResolveLock n of @980.0 committed @988.0 | region 2
        > 10 store 1 KvGet n @987.0 | region 2 retry ignoring @980.0
        ",
    );
}

/// transactions.md §16.3: «write mode waits».
#[test]
fn a_writer_waits_until_the_recovered_lock_is_gone() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 a
        > 3 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        $ 3 secondaries a@986.0
        > 4 store 1 KvResolveLock a of @980.0 committed @986.0 | region 1
        > 5 store 1 KvResolveLock p of @980.0 committed @986.0 | region 2
        $ 5 ok
        $ 4 ok
        > 6 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.3: the primary alone; the primary's own lock is resolved, too, since asking has
/// not done it.
#[test]
fn an_async_commit_without_secondaries_is_committed() {
    story(
        Txn,
        TWO,
        "
        $ tget p @990.0
        > 1 store 1 KvGet p @990.0 | region 2
        $ pass 5000
        $ 1 locked p primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0
        > 3 store 1 KvResolveLock p of @980.0 committed @985.0 | region 2
        > 4 store 1 KvGet p @990.0 | region 2 retry through @980.0
        ",
    );
}

/// transactions.md §16.3, «fewer locks, commit_ts=c»; cases ASY-05.
#[test]
fn a_secondary_that_is_committed_decides() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 a m
        > 3 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        > 4 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        $ 3 secondaries a@986.0
        $ 4 committed @991.0
        > 5 store 1 KvResolveLock a of @980.0 committed @991.0 | region 1
        > 6 store 1 KvResolveLock p of @980.0 committed @991.0 | region 2
        > 7 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        ",
    );
}

/// transactions.md §16.3, «fewer locks», commit_ts 0: rolled back.
#[test]
fn a_secondary_that_is_gone_decides() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 a m
        > 3 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        > 4 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        $ 4 rolled_back
        $ 3 secondaries a@986.0
        > 5 store 1 KvResolveLock a of @980.0 rolled back | region 1
        > 6 store 1 KvResolveLock p of @980.0 rolled back | region 2
        > 7 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        ",
    );
}

/// transactions.md §16.3, NonAsyncCommitLock; §22.16; cases LCK-11.
#[test]
fn a_transaction_that_fell_back_is_decided_by_its_primary() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 a m
        > 3 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        > 4 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        $ 4 secondaries m
        x 3
        > 5 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 as two-phase | region 2
        $ 5 rolled_back
        > 6 store 1 KvResolveLock a of @980.0 rolled back | region 1
        > 7 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        ",
    );
}

/// transactions.md §22.16: with force_sync_commit an async primary is not recovered again, even at the
/// end of its time.
#[test]
fn a_transaction_that_fell_back_and_lives_is_waited_for() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 a
        > 3 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        $ 3 secondaries a
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 as two-phase | region 2
        $ 4 alive 3000 async @985.0 a
        $ wait
        ~ 5.089s: LockWait
        > 5 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.3, «later: must equal c else error».
#[test]
fn secondaries_that_contradict_one_another_are_an_error() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 a m
        > 3 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        > 4 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        $ 3 committed @987.0
        $ 4 committed @988.0
        = Protocol: the server sent what it cannot: secondaries contradict one another
        ",
    );
}

/// transactions.md §16.3, «region error»: regrouped.
#[test]
fn secondaries_are_found_where_they_moved() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @985.0 m n
        > 3 store 1 KvCheckSecondaryLocks m n of @980.0 | region 2
        $ split 2 at n as 3
        $ 3 epoch 2 3
        > 4 store 1 KvCheckSecondaryLocks m of @980.0 | region 2 retry
        > 5 store 1 KvCheckSecondaryLocks n of @980.0 | region 3 retry
        $ 4 secondaries m@986.0
        $ 5 secondaries n@987.0
        > 6 store 1 KvResolveLock a of @980.0 committed @987.0 | region 1
        > 7 store 1 KvResolveLock m of @980.0 committed @987.0 | region 2
        > 8 store 1 KvResolveLock n p of @980.0 committed @987.0 | region 3
        > 9 store 1 KvGet a @990.0 | region 1 retry through @980.0
        ",
    );
}

/// transactions.md §16.3: a fold that began with 0 would end as a rollback.
#[test]
fn an_async_primary_without_earliest_timestamp_is_not_believed() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 alive 3000 async @0 a
        = Protocol: the server sent what it cannot: the primary of an async commit without earliest timestamp
        ",
    );
}

/// transactions.md §16.2: «async recovery once per txn per call»; here once for everybody.
#[test]
fn readers_and_writers_of_one_async_commit_recover_it_once() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ commit @991.0 b=1
        > 2 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 locked b primary p of @980.0 async
        $ 3 alive 3000 async @985.0 a b
        > 4 store 1 KvCheckSecondaryLocks a b of @980.0 | region 1
        $ commit @992.0 c=1
        > 5 store 1 KvPrewrite c*=1 @992.0 size 1 | region 1
        $ 5 locked c primary p of @980.0 async
        $ 4 secondaries a@985.0 b@985.0
        > 6 store 1 KvResolveLock a b c of @980.0 committed @985.0 | region 1
        > 7 store 1 KvResolveLock p of @980.0 committed @985.0 | region 2
        > 8 store 1 KvGet a @990.0 | region 1 retry through @980.0
        $ 6 ok
        > 9 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        > 10 store 1 KvPrewrite c*=1 @992.0 size 1 | region 1
        ",
    );
}

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

/// transactions.md §16.2.3: «for prewrite locks it is an error».
#[test]
fn a_prewritten_lock_with_another_primary_is_corrupt() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 primary_mismatch p primary q of @980.0
        > 3 store 1 KvBatchRollback a | region 1
        = aborted, Protocol: the server sent what it cannot: a lock names a primary that is not one
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

/// transactions.md §22.20: caller 0; a reader who has come meanwhile has the primary asked again for
/// itself.
#[test]
fn a_lock_request_pushes_nobody() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 locked a primary p of @980.0 ttl 20000
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @0 now @1000.1 | region 2
        $ tget b @990.0
        > 3 store 1 KvGet b @990.0 | region 1
        $ 3 locked b primary p of @980.0 ttl 20000
        $ 2 alive 20000
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 4 alive 20000 pushed
        > 5 store 1 KvGet b @990.0 | region 1 retry ignoring @980.0
        ",
    );
}

/// transactions.md §22.20, §20.1: for caller MAX a store says «pushed» and pushes nothing; a reader of
/// a snapshot must not hear of it.
#[test]
fn readers_of_the_latest_push_for_themselves_only() {
    story(
        Txn,
        TWO,
        "
        $ tget a @max
        > 1 store 1 KvGet a @max | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @max now @1000.1 | region 2
        $ tget b @990.0
        > 3 store 1 KvGet b @990.0 | region 1
        $ 3 locked b primary p of @980.0
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.2 | region 2
        $ 2 alive 3000 pushed
        > 5 store 1 KvGet a @max | region 1 retry ignoring @980.0
        $ 4 alive 3000
        ",
    );
}

/// transactions.md §2.1: current_ts = MAX, at once with leave to roll back where there is no primary.
#[test]
fn a_lock_without_time_to_live_is_resolved_in_any_case() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 ttl 0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @max | region 2
        $ 2 not_found
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @max or roll back | region 2
        $ 3 rolled_back
        > 4 store 1 KvResolveLock a of @980.0 rolled back | region 1
        ",
    );
}

/// transactions.md §2.1: one lock without time to live among those that have one.
#[test]
fn the_word_of_the_store_counts_however_many_wait() {
    story(
        Txn,
        TWO,
        "
        $ set permits 10000
        $ ready
        = done
        $ silence tso
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ commit @991.0 b=1
        > 2 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 ttl 20000
        > 3 PD Tso 1
        $ 2 locked b primary p of @980.0 ttl 0
        $ 3 ok
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @991.0 now @max | region 2
        ",
    );
}

/// transactions.md §16.1, «Get: lite».
#[test]
fn one_key_is_cleaned_for_one_read() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0 size 9999
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @980.0 rolled back | region 1
        > 4 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        ",
    );
}

/// transactions.md §16.2.5, several keys; cases LCK-16.
#[test]
fn keys_of_a_small_transaction_are_named_region_by_region() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ tget b @990.0
        > 2 store 1 KvGet b @990.0 | region 1
        $ tget n @990.0
        > 3 store 1 KvGet n @990.0 | region 2
        $ 1 locked a primary p of @980.0
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 locked b primary p of @980.0
        $ 3 locked n primary p of @980.0
        $ 4 committed @985.0
        > 5 store 1 KvResolveLock a b of @980.0 committed @985.0 | region 1
        > 6 store 1 KvResolveLock n of @980.0 committed @985.0 | region 2
        > 7 store 1 KvGet a @990.0 | region 1 retry through @980.0
        > 8 store 1 KvGet b @990.0 | region 1 retry through @980.0
        > 9 store 1 KvGet n @990.0 | region 2 retry through @980.0
        ",
    );
}

/// transactions.md §16.2.5: «skipped entirely if k = primary».
#[test]
fn the_primary_of_a_small_transaction_is_clean_when_asked_about() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary a of @980.0
        > 2 store 1 KvCheckTxnStatus a of @980.0 for @990.0 now @1000.1 | region 1
        $ 2 rolled_back
        > 3 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// transactions.md §16.2.7, §22.39; cases CLI-06: a request without keys is shared, also by who comes
/// while it is out.
#[test]
fn regions_are_cleaned_once_for_everybody() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 size 512
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock * of @980.0 rolled back | region 1
        $ commit @991.0 b=1
        > 4 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ 4 locked b primary p of @980.0 size 512
        $ commit @992.0 n=1
        > 5 store 1 KvPrewrite n*=1 @992.0 size 1 | region 2
        $ 5 locked n primary p of @980.0 size 18446744073709551615
        $ 3 ok
        > 6 store 1 KvResolveLock * of @980.0 rolled back | region 2
        > 7 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        > 8 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        ",
    );
}

/// transactions.md §22.39: «never collapse requests with keys».
#[test]
fn requests_with_keys_are_not_shared() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @980.0 rolled back | region 1
        $ commit @991.0 b=1
        > 4 store 1 KvPrewrite b*=1 @991.0 size 1 | region 1
        $ 4 locked b primary p of @980.0
        $ 3 ok
        > 5 store 1 KvResolveLock b of @980.0 rolled back | region 1
        > 6 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 6 ok
        > 7 store 1 KvCommit a primary at @6000.2 | region 1
        ",
    );
}

/// transactions.md §16.2.6: «if no permit → inline with errors swallowed»; cases LCK-17.
#[test]
fn without_a_permit_readers_wait_for_the_cleaning() {
    story(
        Txn,
        TWO,
        "
        $ set permits 0
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 committed @985.0
        > 3 store 1 KvResolveLock a of @980.0 committed @985.0 | region 1
        $ 3 abort no
        > 4 store 1 KvGet a @990.0 | region 1 retry through @980.0
        $ 4 value new
        = value new
        $ idle
        ~ true
        ",
    );
}

/// transactions.md §16.2.6: over all transactions.
#[test]
fn permits_come_back() {
    story(
        Txn,
        TWO,
        "
        $ set permits 1
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ tget b @990.0
        > 2 store 1 KvGet b @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 3 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 locked b primary q of @981.0
        > 4 store 1 KvCheckTxnStatus q of @981.0 for @990.0 now @1000.2 | region 2
        $ 3 committed @985.0
        > 5 store 1 KvResolveLock a of @980.0 committed @985.0 | region 1
        > 6 store 1 KvGet a @990.0 | region 1 retry through @980.0
        $ 4 committed @985.0
        > 7 store 1 KvResolveLock b of @981.0 committed @985.0 | region 1
        $ 5 ok
        $ 7 ok
        > 8 store 1 KvGet b @990.0 | region 1 retry through @981.0
        $ tget c @990.0
        > 9 store 1 KvGet c @990.0 | region 1
        $ 9 locked c primary r of @982.0
        > 10 store 1 KvCheckTxnStatus r of @982.0 for @990.0 now @1000.3 | region 2
        $ 10 rolled_back
        > 11 store 1 KvResolveLock c of @982.0 rolled back | region 1
        > 12 store 1 KvGet c @990.0 | region 1 retry ignoring @982.0
        ",
    );
}

/// transactions.md §16.2.6: the pool is drained.
#[test]
fn closing_waits_for_what_is_cleaned_in_the_background() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @980.0 rolled back | region 1
        > 4 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ 4 value old
        = value old
        $ idle
        ~ true
        $ close
        $ idle
        ~ false
        $ 3 ok
        $ idle
        ~ true
        ",
    );
}

/// peers.md D12: the owner is dead, its lock has 20 s to go; the waiter outlives it.
#[test]
fn d12_a_lock_is_waited_for_longer_than_it_lives() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0 ttl 20000
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 alive 20000
        $ pass 10000
        $ wait
        ~ 89ms: LockWait
        > 3 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 3 locked a primary p of @980.0 ttl 20000
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @11000.2 | region 2
        $ 4 alive 20000
        $ pass 9900
        $ wait
        ~ 10.181s: LockWait
        > 5 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 5 locked a primary p of @980.0 ttl 20000
        > 6 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @20900.3 | region 2
        $ 6 rolled_back
        > 7 store 1 KvResolveLock a of @980.0 rolled back | region 1
        $ 7 ok
        > 8 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 8 ok
        > 9 store 1 KvCommit a primary at @20900.4 | region 1
        $ 9 ok
        = committed @20900.4
        ",
    );
}

/// peers.md D11: «LockNotExistDoNothing» said of a prewritten lock is no fate.
#[test]
fn a_prewritten_lock_is_never_dropped_for_want_of_a_pessimistic_primary() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 missing
        $ wait
        ~ 89ms: LockWait
        > 3 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        ",
    );
}

/// The next to meet the lock asks anew.
#[test]
fn a_primary_that_cannot_be_asked_fails_the_waiters_only() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 abort no
        = Refused: no
        $ tget a @990.0
        > 3 store 1 KvGet a @990.0 | region 1
        $ 3 locked a primary p of @980.0
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.2 | region 2
        ",
    );
}

/// transactions.md §16.2.6: «write mode is synchronous and errors propagate».
#[test]
fn a_writer_hears_that_a_lock_could_not_be_cleaned() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @980.0 rolled back | region 1
        $ 3 abort no
        > 4 store 1 KvBatchRollback a | region 1
        = aborted, Refused: no
        ",
    );
}

/// transactions.md §16.6.
#[test]
fn what_is_resolved_and_for_whom() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @6000.1 | region 2
        $ resolving
        ~ Asking @980.0 by p: op 1 at a for @990.0
        $ 2 alive 3000 async @985.0 a m
        > 3 store 1 KvCheckSecondaryLocks a of @980.0 | region 1
        > 4 store 1 KvCheckSecondaryLocks m of @980.0 | region 2
        $ resolving
        ~ Recovering @980.0 by p: op 1 at a for @990.0
        $ 3 secondaries a@986.0
        $ 4 secondaries m@986.0
        > 5 store 1 KvResolveLock a of @980.0 committed @986.0 | region 1
        > 6 store 1 KvResolveLock m p of @980.0 committed @986.0 | region 2
        > 7 store 1 KvGet a @990.0 | region 1 retry through @980.0
        $ resolving
        ~ Cleaning @980.0 by p:
        $ 5 ok
        $ 6 ok
        $ resolving
        $ lock @1000.0 @1000.5 primary c new c
        > 8 store 1 KvPessimisticLock c primary c of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 8 locked c primary q of @970.0 pessimistic
        > 9 store 1 KvCheckTxnStatus q of @970.0 for @0 now @6000.2 pessimistic | region 2
        $ resolving
        ~ Asking pessimistic @970.0 by q: op 2 at c for @0
        ",
    );
}
