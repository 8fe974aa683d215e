//! Reads of a snapshot, and the locks that they meet, told.

use crate::KeyMode::Txn;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

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

/// Whoever joins after the primary was asked is not: the push may not have gone far enough for it, so
/// the primary is asked again.
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
        > 4 store 1 KvCheckTxnStatus p of @980.0 for @995.0 now @1000.1 | region 2
        > 5 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ 5 value 1
        = op 1: value 1
        $ 4 alive 3000 pushed
        > 6 store 1 KvGet b @995.0 | region 1 retry ignoring @980.0
        $ 6 value 2
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
        > 4 store 1 KvBatchGet a b @900.0 | region 1 through @100.0
        $ 4 pairs a=1 b=2
        = value 1, value 2, value 3
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
        > 3 store 1 KvScan a..z limit 10 @900.0 | region 1 ignoring @100.0
        $ 3 pairs a=1
        > 4 store 1 KvScan k..z limit 9 @900.0 | region 2 ignoring @100.0
        $ 4 pairs m=3
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
