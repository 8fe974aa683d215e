//! Async commits, recovered: the tables of `transactions.md` §16.3, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

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

/// transactions.md §16.3: «write mode waits»; «with key lists», however large the transaction.
#[test]
fn a_writer_waits_until_the_recovered_lock_is_gone() {
    story(
        Txn,
        TWO,
        "
        $ commit @990.0 a=1
        > 1 store 1 KvPrewrite a*=1 @990.0 size 1 | region 1
        $ pass 5000
        $ 1 locked a primary p of @980.0 async size 9999
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
