//! Pessimistic locks, told: each row of `transactions.md` §13.4 and §13.5.

use crate::KeyMode::Txn;
use crate::story::{story, story_in};

const ONE: &str = "..=1";
const TWO: &str = "..k=1 k..=2";

/// transactions.md §6, cases.md PES-21: the primary's batch goes first, alone; then the others.
#[test]
fn pes_21_a_new_primary_is_locked_before_anything_else() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new a b m
        > 1 store 1 KvPessimisticLock a b primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 ok
        > 2 store 1 KvPessimisticLock m primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 2
        $ 2 ok
        = locked a b m
        $ wait
        ~ 10s: Heartbeat
        > 3 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        ",
    );
}

/// Where the primary is locked already, all go at once; the time to live counts from the start of
/// the transaction (§12.1).
#[test]
fn with_a_primary_all_batches_go_at_once() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p open:1500 first a !m
        > 1 store 1 KvPessimisticLock a primary p of @1000.0 at @1000.5 ttl 21500 wait 60000 | region 1
        > 2 store 1 KvPessimisticLock !m primary p of @1000.0 at @1000.5 ttl 21500 wait 60000 | region 2
        $ 2 ok
        $ 1 ok
        = locked a m
        ",
    );
}

/// §13.4: values and existence, as they were asked for (cases.md PES-05, PES-06).
#[test]
fn pes_05_pes_06_what_was_found_is_told() {
    story(
        Txn,
        ONE,
        "
        $ lock @1000.0 @1000.5 primary p values a b
        > 1 store 1 KvPessimisticLock a b primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 values | region 1
        $ 1 found 1 -
        = locked a=1 b-
        $ lock @1000.0 @1000.5 primary p existence a b
        > 2 store 1 KvPessimisticLock a b primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 existence | region 1
        $ 2 found 1 -
        = op 2: locked a=… b-
        $ lock @1000.0 @1000.5 primary p first existence values a
        > 3 store 1 KvPessimisticLock a primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 first values existence | region 1
        $ 3 found 1
        = op 3: locked a=1
        ",
    );
}

/// §13.4: «region error → backoff, relocate or regroup».
#[test]
fn a_region_that_moves_or_splits_is_followed() {
    story(
        Txn,
        ONE,
        "
        $ lock @1000.0 @1000.5 primary a new a m
        > 1 store 1 KvPessimisticLock a m primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 not_leader 2
        > 2 store 2 KvPessimisticLock a m primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1 retry
        $ split 1 at k as 2
        $ 2 epoch 1 2
        > 3 store 2 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1 retry
        $ 3 ok
        > 4 store 2 KvPessimisticLock m primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 2 retry
        $ 4 ok
        = locked a m
        ",
    );
}

/// §13.4: «results present → corrupted»; what the store did is not known, so it is released.
#[test]
fn an_answer_that_makes_no_sense_ends_the_call() {
    story(
        Txn,
        ONE,
        "
        $ lock @1000.0 @1000.5 primary p values a b
        > 1 store 1 KvPessimisticLock a b primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 values | region 1
        $ 1 found 1
        > 2 store 1 KvPessimisticRollback a b of @1000.0 until @1000.5 | region 1
        = Protocol: the server sent what it cannot: existence of another number of keys than were to be locked
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// §13.2, 8; §22.29: a single key that exists, or that met a newer version, is not locked, and
/// nothing has to be released.
#[test]
fn a_single_key_that_was_refused_is_not_released() {
    story(
        Txn,
        ONE,
        "
        $ lock @1000.0 @1000.5 primary a new !a
        > 1 store 1 KvPessimisticLock !a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 exists a
        = KeyExists: the key exists
        $ lock @1000.0 @1000.5 primary a new a
        > 2 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 2 conflict a @990.0 @1001.0
        = op 2: WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ idle
        ~ true
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// The same after a copy was lost: that one may have locked it.
#[test]
fn a_single_key_that_was_refused_after_a_lost_copy_is_released() {
    story(
        Txn,
        ONE,
        "
        $ lock @1000.0 @1000.5 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1 retry
        $ 2 conflict a @990.0 @1001.0
        > 3 store 2 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        = WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ 3 ok
        ",
    );
}

/// peers.md D9: what fails is the call. Of it everything that was sent is released, as of its own
/// `for_update_ts`, and nothing that was locked before (the primary `p`); what was not sent is not.
#[test]
fn d9_a_partial_failure_releases_exactly_what_the_call_took() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p a b m
        > 1 store 1 KvPessimisticLock a b primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        > 2 store 1 KvPessimisticLock m primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 2
        $ 1 ok
        $ 2 conflict m @990.0 @1001.0
        > 3 store 1 KvPessimisticRollback a b of @1000.0 until @1000.5 | region 1
        > 4 store 1 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2
        = WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ 3 ok
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// Nor is released what was held before and only asked about again (the key `b`).
#[test]
fn d9_what_was_held_before_stays() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p existence a =b m
        > 1 store 1 KvPessimisticLock a b primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 existence | region 1
        > 2 store 1 KvPessimisticLock m primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 existence | region 2
        $ 1 found 1 -
        $ 2 conflict m @990.0 @1001.0
        > 3 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        > 4 store 1 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2
        = WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ 3 ok
        $ 4 ok
        ",
    );
}

/// As before, with the other batch still waiting in its store: the error is told at once, the release
/// waits for that answer, or it would come before the lock.
#[test]
fn a_release_waits_for_what_is_still_out() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p a m
        > 1 store 1 KvPessimisticLock a primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        > 2 store 1 KvPessimisticLock m primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 2
        $ 2 conflict m @990.0 @1001.0
        = WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ idle
        ~ false
        $ pass 1000
        $ 1 ok
        > 3 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        > 4 store 1 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2
        $ 3 ok
        $ 4 ok
        $ idle
        ~ true
        ",
    );
}

/// A first batch that fails was alone: the others were never sent.
#[test]
fn what_was_not_sent_is_not_released() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new a m
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 conflict a @990.0 @1001.0
        > 2 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        = WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// §13.4: locks are looked into for caller 0, so that nobody's commit is pushed (§22.20); gone, the
/// request goes again at once.
#[test]
fn a_lock_of_a_dead_transaction_is_cleaned() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 locked a primary p of @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @1000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @100.0 rolled back | region 1
        $ 3 ok
        > 4 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 4 ok
        = locked a
        ",
    );
}

/// §13.4: «No client-side sleep: the server already parked the request»; the wait shrinks (§13.3).
#[test]
fn a_lock_that_is_alive_is_waited_for_by_the_store() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new wait:2500 a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 2500 | region 1
        $ pass 1000
        $ 1 locked a primary p of @900.0 ttl 60000
        > 2 store 1 KvCheckTxnStatus p of @900.0 for @0 now @2000.1 | region 2
        $ 2 alive 60000
        > 3 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 21000 wait 1500 | region 1
        $ pass 1000
        $ 3 locked a primary p of @900.0 ttl 60000
        > 4 store 1 KvCheckTxnStatus p of @900.0 for @0 now @3000.2 | region 2
        $ 4 alive 60000
        > 5 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 22000 wait 500 | region 1
        $ pass 500
        $ 5 locked a primary p of @900.0 ttl 60000
        > 6 store 1 KvCheckTxnStatus p of @900.0 for @0 now @3500.3 | region 2
        $ 6 alive 60000
        > 7 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        = LockWaitTimeout: locked by the transaction that started at 235929600
        $ 7 ok
        ",
    );
}

/// A store that answers at once all the same is not asked without end: the pauses grow.
#[test]
fn a_store_that_does_not_let_requests_wait_is_asked_slower_and_slower() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new wait:100 a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 100 | region 1
        $ 1 locked a primary p of @900.0 ttl 60000
        > 2 store 1 KvCheckTxnStatus p of @900.0 for @0 now @1000.1 | region 2
        $ 2 alive 60000
        $ wait
        ~ 18ms: LockWait
        > 3 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20018 wait 82 | region 1
        $ 3 locked a primary p of @900.0 ttl 60000
        > 4 store 1 KvCheckTxnStatus p of @900.0 for @0 now @1018.2 | region 2
        $ 4 alive 60000
        $ wait
        ~ 55ms: LockWait
        > 5 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20055 wait 45 | region 1
        $ 5 locked a primary p of @900.0 ttl 60000
        > 6 store 1 KvCheckTxnStatus p of @900.0 for @0 now @1055.3 | region 2
        $ 6 alive 60000
        $ wait
        ~ 100ms: LockWait
        > 7 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20100 no wait | region 1
        $ 7 locked a primary p of @900.0 ttl 60000
        > 8 store 1 KvCheckTxnStatus p of @900.0 for @0 now @1100.4 | region 2
        $ 8 alive 60000
        > 9 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        = LockWaitTimeout: locked by the transaction that started at 235929600
        $ 9 ok
        $ idle
        ~ true
        ",
    );
}

/// §13.4: `0 < duration_to_last_update < 300 ms` means that the holder lives: it is not looked into.
#[test]
fn a_young_lock_is_not_looked_into() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new wait:2000 a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 2000 | region 1
        $ pass 1000
        $ 1 locked a primary p of @100.0 updated 299
        > 2 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 21000 wait 1000 | region 1
        $ pass 500
        $ 2 locked a primary p of @100.0 updated 300
        > 3 store 1 KvCheckTxnStatus p of @100.0 for @0 now @2500.1 | region 2
        $ 3 rolled_back
        > 4 store 1 KvResolveLock a of @100.0 rolled back | region 1
        $ 4 ok
        > 5 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 21500 wait 500 | region 1
        $ 5 ok
        = locked a
        ",
    );
}

/// cases.md LCK-18, PES-19: without waiting. The lock is looked into once, since its owner may be dead.
#[test]
fn lck_18_nowait_gives_up_at_the_first_lock_that_lives() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new nowait a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 no wait | region 1
        $ 1 locked a primary p of @900.0 ttl 60000
        > 2 store 1 KvCheckTxnStatus p of @900.0 for @0 now @1000.1 | region 2
        $ 2 alive 60000
        > 3 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        = LockNotAvailable: locked by the transaction that started at 235929600
        $ 3 ok
        $ lock @1000.0 @1000.6 primary a new nowait a
        > 4 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.6 ttl 20000 no wait | region 1
        $ 4 locked a primary p of @900.0 updated 5
        > 5 store 1 KvPessimisticRollback a of @1000.0 until @1000.6 | region 1
        = op 2: LockNotAvailable: locked by the transaction that started at 235929600
        $ 5 ok
        $ lock @1000.0 @1000.7 primary a new wait:0 a
        > 6 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.7 ttl 20000 no wait | region 1
        $ 6 locked a primary p of @900.0 updated 5
        > 7 store 1 KvPessimisticRollback a of @1000.0 until @1000.7 | region 1
        = op 3: LockWaitTimeout: locked by the transaction that started at 235929600
        $ 7 ok
        ",
    );
}

/// peers.md D12: whoever meets the lock of a crashed owner waits until its time to live is over, with
/// no budget of its own in the way. Here twenty seconds, the store letting wait a second each time.
#[test]
fn d12_the_wait_is_longer_than_the_lock_lives() {
    let round = "$ pass 1000\n$ N locked a primary p of @1000.0 ttl 20000\n$ M alive 20000\n";
    let mut story = crate::story::Story::new(Txn, TWO);
    story.play("lock @1000.0 @1000.5 primary a new a");
    let mut number = 1;
    for _ in 0..20 {
        for line in round.lines() {
            let line =
                line.replace('N', &number.to_string()).replace('M', &(number + 1).to_string());
            let told = story.play(line.trim_start_matches("$ "));
            assert!(!told.contains('='), "{told}");
        }
        number += 2;
    }
    story.play(&format!("{number} locked a primary p of @1000.0 ttl 20000"));
    story.play(&format!("{} rolled_back", number + 1));
    story.play(&format!("{} ok", number + 2));
    assert_eq!(story.play(&format!("{} ok", number + 3)), "= locked a\n");
}

/// The operation's deadline bounds every wait; what may yet be granted is released afterwards, and
/// the error tells what was in the way.
#[test]
fn the_deadline_ends_a_wait_and_the_lock_that_comes_late_is_released() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ pass 20000
        $ 1 locked a primary p of @900.0 updated 5
        > 2 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 40000 wait 40000 | region 1
        $ pass 20000
        $ 2 locked a primary p of @900.0 updated 5
        > 3 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 60000 wait 20000 | region 1
        $ wait
        ~ 60s: Deadline
        = DeadlineExceeded: the operation's deadline has passed: locked by the transaction that started at 235929600
        $ pass 500
        $ 3 ok
        > 4 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        $ 4 ok
        $ idle
        ~ true
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// The same for a call that nobody wants any more, and for a core that closes.
#[test]
fn a_cancelled_call_releases_what_it_may_be_granted() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ cancel 1
        ~ RollingBack
        $ 1 ok
        > 2 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        $ 2 ok
        $ lock @1000.0 @1000.6 primary p a m
        > 3 store 1 KvPessimisticLock a primary p of @1000.0 at @1000.6 ttl 20000 wait 60000 | region 1
        > 4 store 1 KvPessimisticLock m primary p of @1000.0 at @1000.6 ttl 20000 wait 60000 | region 2
        $ 3 ok
        $ close
        = op 2: Closed: the client was closed
        $ 4 lost
        > 5 store 1 KvPessimisticRollback a of @1000.0 until @1000.6 | region 1
        > 6 store 1 KvPessimisticRollback m of @1000.0 until @1000.6 | region 2
        $ idle
        ~ false
        $ 5 ok
        $ 6 ok
        $ idle
        ~ true
        ",
    );
}

/// cases.md LCK-13: the primary is kept alive from the moment it is locked; when the call fails later,
/// it is released and no longer kept alive.
#[test]
fn lck_13_the_primary_is_kept_alive_while_the_others_are_awaited() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new a m
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        $ 1 ok
        > 2 store 1 KvPessimisticLock m primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 2
        $ wait
        ~ 10s: Heartbeat
        > 3 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        $ 3 ttl 30000
        $ 2 conflict m @990.0 @1001.0
        > 4 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        > 5 store 1 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2
        = WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ 4 ok
        $ 5 ok
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// §13.6, §22.30: a circle that closes with a key of the call is told when that key is free, and a
/// moment later.
#[test]
fn a_deadlock_with_itself_is_told_after_the_release() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p a m
        > 1 store 1 KvPessimisticLock a primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1
        > 2 store 1 KvPessimisticLock m primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 2
        $ 1 ok
        $ 2 deadlock m of @900.0 closed by a
        > 3 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        > 4 store 1 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2
        $ 3 ok
        $ 4 ok
        $ wait
        ~ 5ms: Backoff
        = Deadlock: a deadlock with the transaction that started at 235929600
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// A circle that closes with a key locked earlier: the transaction has to give way.
#[test]
fn a_deadlock_with_an_earlier_lock_is_told_at_once() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p m
        > 1 store 1 KvPessimisticLock m primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 2
        $ 1 deadlock m of @900.0 closed by a
        > 2 store 1 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2
        = Deadlock: a deadlock with the transaction that started at 235929600
        $ 2 ok
        ",
    );
}

/// §13.6: «beware API-v2 prefixes».
#[test]
fn a_deadlock_in_a_keyspace_is_recognised_by_the_stores_key() {
    story_in(
        "tenant",
        Txn,
        ONE,
        "
        $ lock @1000.0 @1000.5 primary p a m
        > 1 store 1 KvPessimisticLock x<00><00><05>a x<00><00><05>m primary x<00><00><05>p of @1000.0 at @1000.5 ttl 20000 wait 60000 | region 1 keyspace tenant
        $ 1 deadlock x<00><00><05>m of @900.0 closed by x<00><00><05>a
        > 2 store 1 KvPessimisticRollback x<00><00><05>a x<00><00><05>m of @1000.0 until @1000.5 | region 1 keyspace tenant
        $ 2 ok
        $ wait
        ~ 5ms: Backoff
        = Deadlock: a deadlock with the transaction that started at 235929600
        ",
    );
}

/// cases.md PES-07: a key that is not there is not locked, and cannot be a primary.
#[test]
fn pes_07_only_what_exists_is_locked() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new values only a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 values if exists | region 1
        $ 1 found -
        = locked a- (not locked)
        $ wait
        ~ nothing to wait for
        $ lock @1000.0 @1000.5 primary p values only a b c
        > 2 store 1 KvPessimisticLock a b c primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 values if exists | region 1
        $ 2 found - 1 -
        = op 2: locked a- (not locked) b=1 c- (not locked)
        $ lock @1000.0 @1000.5 primary a new values only a b
        = op 3: InvalidArgument: locking only what exists of several keys needs a locked primary
        $ lock @1000.0 @1000.5 primary a new only a
        = op 4: InvalidArgument: locking only what exists needs the values returned
        ",
    );
}

/// §13.5: values if asked for, and without a conflict no more than that (cases.md PES-08).
#[test]
fn pes_08_a_forced_lock_without_conflict() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new force a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 force | region 1
        $ 1 found 1
        = locked a
        $ lock @1000.0 @1000.5 primary a new force values a
        > 2 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 values force | region 1
        $ 2 found 1
        = op 2: locked a=1
        $ wait
        ~ 10s: Heartbeat
        > 3 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        ",
    );
}

/// §13.5: with a conflict the key is locked all the same, the newer version is told whether asked for
/// or not, and the primary is kept alive.
#[test]
fn pes_08_a_forced_lock_with_a_conflict() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new force a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 force | region 1
        $ 1 conflicting @1001.0 1
        = locked a=1 conflict @1001.0
        $ wait
        ~ 10s: Heartbeat
        > 2 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        $ 2 ttl 1
        $ lock @1000.0 @1000.6 primary a force m
        > 3 store 1 KvPessimisticLock m primary a of @1000.0 at @1000.6 ttl 20000 wait 60000 force | region 2
        $ 3 conflicting @1002.0 -
        = op 2: locked m- conflict @1002.0
        ",
    );
}

/// §13.5, cases.md PES-09: «Failed → key errors»; nothing is taken, and the wait goes on or is over.
#[test]
fn pes_09_a_forced_lock_that_failed() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new force wait:1000 a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 1000 force | region 1
        $ 1 stale_command
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 1000 force | region 1 retry
        $ 2 locked a primary p of @900.0 ttl 60000
        > 3 store 1 KvCheckTxnStatus p of @900.0 for @0 now @1002.1 | region 2
        $ 3 alive 60000
        $ wait
        ~ 20ms: LockWait
        > 4 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20020 wait 980 force | region 1 retry
        $ pass 1000
        $ 4 locked a primary p of @900.0 ttl 60000
        > 5 store 1 KvCheckTxnStatus p of @900.0 for @0 now @2020.2 | region 2
        $ 5 alive 60000
        > 6 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        = LockWaitTimeout: locked by the transaction that started at 235929600
        $ 6 ok
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// §13.5, cases.md PES-12: a conflict on a deleted key, where only what exists is to be locked. A store
/// that says that it has locked it all the same is believed, so that the lock is released some day.
#[test]
fn pes_12_a_forced_lock_of_what_exists_only_is_refused_by_a_newer_deletion() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p force values only a
        > 1 store 1 KvPessimisticLock a primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 values if exists force | region 1
        $ 1 conflict a @990.0 @1001.0
        = WriteConflict: write conflict: the transaction that started at 259522560 was first
        $ lock @1000.0 @1002.0 primary p force values only a
        > 2 store 1 KvPessimisticLock a primary p of @1000.0 at @1002.0 ttl 20000 wait 60000 values if exists force | region 1
        $ 2 found -
        = op 2: locked a- (not locked)
        $ lock @1000.0 @1002.5 primary p force values only b
        > 3 store 1 KvPessimisticLock b primary p of @1000.0 at @1002.5 ttl 20000 wait 60000 values if exists force | region 1
        $ 3 conflicting @1003.0 -
        = op 3: locked b- conflict @1003.0
        ",
    );
}

/// A conflict that is not after the request, or no result at all, is nonsense (§14); the key may be
/// locked.
#[test]
fn a_forced_lock_that_makes_no_sense_is_released() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary p force a
        > 1 store 1 KvPessimisticLock a primary p of @1000.0 at @1000.5 ttl 20000 wait 60000 force | region 1
        $ 1 conflicting @1000.5 1
        > 2 store 1 KvPessimisticRollback a of @1000.0 until @1000.5 | region 1
        = Protocol: the server sent what it cannot: a conflict that is not after the request
        $ 2 ok
        ",
    );
}

/// §22.28: what was forced in spite of a conflict is released as of that conflict, also when its
/// answer comes after the call was cancelled.
#[test]
fn a_forced_lock_is_released_as_of_its_conflict() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new force a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.5 ttl 20000 wait 60000 force | region 1
        $ cancel 1
        ~ RollingBack
        $ 1 conflicting @1001.0 1
        > 2 store 1 KvPessimisticRollback a of @1000.0 until @1001.0 | region 1
        $ 2 ok
        ",
    );
}

/// transactions.md §10: everywhere at once; what one region answers does not keep the others.
#[test]
fn a_release_goes_on_when_a_part_of_it_fails() {
    story(
        Txn,
        TWO,
        "
        $ release @1000.0 @1000.5 m a b
        > 1 store 1 KvPessimisticRollback a b of @1000.0 until @1000.5 | region 1
        > 2 store 1 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2
        $ 1 abort no
        $ 2 not_leader 2
        > 3 store 2 KvPessimisticRollback m of @1000.0 until @1000.5 | region 2 retry
        $ 3 ok
        = Refused: no
        $ release @1000.0 @1000.5 end
        = op 2: done
        ",
    );
}

/// A store tells of one lock a second. Who meets a second one of a transaction whose end it knows has the
/// region cleaned: the others would cost a second each.
#[test]
fn the_second_lock_of_a_transaction_that_has_ended_cleans_its_region() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new wait:5000 a b
        > 1 store 1 KvPessimisticLock a b primary a of @1000.0 at @1000.5 ttl 20000 wait 5000 | region 1
        $ pass 1000
        $ 1 locked a primary p of @100.0 size 9
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @2000.1 | region 2
        $ 2 rolled_back
        > 3 store 1 KvResolveLock a of @100.0 rolled back | region 1
        $ 3 ok
        > 4 store 1 KvPessimisticLock a b primary a of @1000.0 at @1000.5 ttl 21000 wait 4000 | region 1
        $ pass 1000
        $ 4 locked b primary p of @100.0 size 9
        > 5 store 1 KvResolveLock * of @100.0 rolled back | region 1
        ",
    );
}

/// The same of pessimistic locks whose transaction is dead, as far as can be told: its primary is gone.
/// The first goes alone, for the primary may have changed; but then who lives releases the others.
#[test]
fn the_second_lock_without_a_primary_releases_its_region() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new wait:5000 a b
        > 1 store 1 KvPessimisticLock a b primary a of @1000.0 at @1000.5 ttl 20000 wait 5000 | region 1
        $ pass 1000
        $ 1 locked a primary p of @100.0 pessimistic for @100.0
        > 2 store 1 KvCheckTxnStatus p of @100.0 for @0 now @2000.1 pessimistic | region 2
        $ 2 missing
        > 3 store 1 KvPessimisticRollback a of @100.0 until @100.0 | region 1
        $ 3 ok
        > 4 store 1 KvPessimisticLock a b primary a of @1000.0 at @1000.5 ttl 21000 wait 4000 | region 1
        $ pass 1000
        $ 4 locked b primary p of @100.0 pessimistic for @100.0
        > 5 store 1 KvCheckTxnStatus p of @100.0 for @0 now @3000.2 pessimistic | region 2
        $ 5 missing
        > 6 store 1 KvPessimisticRollback * of @100.0 until @100.0 | region 1
        ",
    );
}

/// The primary itself was met, and its time was over: it is gone, and so is whatever else lies around it.
#[test]
fn a_primary_that_has_expired_takes_its_region_with_it() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.5 primary a new wait:5000 a b
        > 1 store 1 KvPessimisticLock a b primary a of @1000.0 at @1000.5 ttl 20000 wait 5000 | region 1
        $ pass 1000
        $ 1 locked a primary a of @100.0 pessimistic for @100.0
        > 2 store 1 KvCheckTxnStatus a of @100.0 for @0 now @2000.1 pessimistic | region 1
        $ 2 released
        > 3 store 1 KvPessimisticRollback * of @100.0 until @100.0 | region 1
        ",
    );
}
