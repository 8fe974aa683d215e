//! Locks of others, looked into and cleaned up: the tables of `transactions.md` §16.1 and §16.2, told.

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
        $ tget c @991.0
        > 9 store 1 KvGet c @991.0 | region 1
        $ 9 locked c primary r of @982.0
        > 10 store 1 KvCheckTxnStatus r of @982.0 for @991.0 now @1000.3 | region 2
        $ 10 rolled_back
        > 11 store 1 KvResolveLock c of @982.0 rolled back | region 1
        > 12 store 1 KvGet c @991.0 | region 1 retry ignoring @982.0
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
