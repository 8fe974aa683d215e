//! What time it is at PD, and reads that have to know, told (`control-plane.md` §12).

use crate::KeyMode::Txn;
use crate::story::story;

const ONE: &str = "..=1";

/// cases TSO-04, §12.2: as long as what is known is new enough, nobody is asked; past half of the
/// interval a refresh goes its way, past all of it the caller waits.
#[test]
fn tso_04_low_resolution_timestamps_are_refreshed_by_use() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ low
        > 1 PD Tso 1
        $ 1 ok
        = op 2: @1000.1
        $ low
        = op 3: @1000.1
        $ pass 1000
        $ low
        > 2 PD Tso 1
        = op 4: @1000.1
        $ low
        = op 5: @1000.1
        $ 2 ok
        $ low
        = op 6: @2000.2
        $ pass 2000
        $ low
        > 3 PD Tso 1
        $ low
        $ 3 ok
        = op 7: @4000.3
        = op 8: @4000.3
        $ wait
        ~ nothing to wait for
        $ idle
        ~ true
        ",
    );
}

/// control-plane.md §12.3, manual set: a shorter interval holds at once.
#[test]
fn the_interval_of_low_resolution_is_set_at_run_time() {
    story(
        Txn,
        ONE,
        "
        $ tso
        = @1000.1
        $ silence tso
        $ pass 900
        $ low
        = op 2: @1000.1
        $ interval 600
        = op 3: done
        $ low
        > 1 PD Tso 1
        $ 1 ok
        = op 4: @1900.2
        ",
    );
}

/// What keeps the oracle fresh wants no leader by itself: an idle core asks nobody.
#[test]
fn a_refresh_alone_keeps_nothing_busy() {
    story(
        Txn,
        ONE,
        "
        $ tso
        = @1000.1
        $ silence pd
        $ pass 1500
        $ low
        > 1 PD Tso 1
        = op 2: @1000.1
        $ 1 lost
        > 2 PD PdGetMembers
        $ 2 lost
        $ wait
        ~ 1.514s: PdRefresh
        $ wait
        ~ nothing to wait for
        $ pass 5000
        $ low
        > 3 PD PdGetMembers
        $ 3 ok
        > 4 PD Tso 1
        $ 4 ok
        = op 3: @7514.2
        ",
    );
}

/// control-plane.md §12.2.
/// cases TSO-02, TSO-03.
#[test]
fn tso_02_a_stale_timestamp_is_told_without_asking() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ stale 500
        > 1 PD Tso 1
        $ 1 ok
        = op 2: @500.0
        $ pass 300
        $ stale 1000
        = op 3: @300.0
        $ stale 9000
        = op 4: InvalidArgument: 9s ago there were no timestamps
        $ idle
        ~ true
        ",
    );
}

/// cases TSO-06, §12.4: a snapshot at a timestamp of PD's is read; one at a timestamp to come is not.
#[test]
fn tso_06_a_snapshot_of_the_future_is_refused() {
    story(
        Txn,
        ONE,
        "
        $ set validate
        $ ready
        = done
        $ silence tso
        $ tget k @max
        > 1 store 1 KvGet k @max | region 1
        $ tget k @1000.5
        > 2 PD Tso 1
        $ 2 @1000.7
        > 3 store 1 KvGet k @1000.5 | region 1
        $ tget k @1000.7
        > 4 store 1 KvGet k @1000.7 | region 1
        $ tget k @1000.8
        > 5 PD Tso 1
        $ 5 @1000.8
        > 6 store 1 KvGet k @1000.8 | region 1
        $ tbatch_get @1000.10 k
        > 7 PD Tso 1
        $ tscan a..b 9 @1000.11
        $ 7 @1000.9
        > 8 PD Tso 1
        = op 6: FutureTimestamp: the snapshot's timestamp 262144010 is ahead of PD's, which is at 262144009
        $ 8 @1000.10
        = op 7: FutureTimestamp: the snapshot's timestamp 262144011 is ahead of PD's, which is at 262144010
        ",
    );
}

/// cases TSO-08: a timestamp that another client got from PD is no future.
#[test]
fn tso_08_a_timestamp_from_elsewhere_costs_one_question() {
    story(
        Txn,
        ONE,
        "
        $ set validate
        $ tso
        = @1000.1
        $ pass 500
        $ silence tso
        $ tget k @1400.3
        > 1 PD Tso 1
        $ cancel 2
        ~ Stopped
        $ tget k @1400.3
        $ 1 ok
        > 2 store 1 KvGet k @1400.3 | region 1
        ",
    );
}

/// control-plane.md §12.4: all who wait share one question; an answer to one that had left before they
/// came proves nothing against them, and is asked for once more.
#[test]
fn a_question_that_is_older_than_the_read_is_repeated_once() {
    story(
        Txn,
        ONE,
        "
        $ set validate
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ tget a @1400.3
        $ tget b @1000.1
        $ 1 @1000.2
        > 2 PD Tso 1
        = op 2: @1000.2
        > 3 store 1 KvGet b @1000.1 | region 1
        $ 2 @1000.3
        > 4 PD Tso 1
        $ 4 @1400.2
        = op 3: FutureTimestamp: the snapshot's timestamp 367001603 is ahead of PD's, which is at 367001602
        ",
    );
}

/// wire.md §7.1: only a PD with services apart knows the smallest timestamp; any other gives a fresh
/// one.
#[test]
fn the_smallest_timestamp_falls_back_to_a_fresh_one() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence pd
        $ min
        > 1 PD PdGetMinTs
        $ 1 min @900.4
        = op 2: @900.4
        $ min
        > 2 PD PdGetMinTs
        $ 2 status 12 unknown method GetMinTS
        > 3 PD Tso 1
        $ 3 ok
        = op 3: @1000.1
        $ min
        > 4 PD PdGetMinTs
        $ 4 lost
        > 5 PD PdGetMembers
        $ 5 ok
        > 6 PD PdGetMinTs
        $ cancel 4
        ~ Stopped
        x 6
        $ idle
        ~ true
        ",
    );
}

/// §12.5: the external timestamp passes through.
#[test]
fn the_external_timestamp_is_read_and_set() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence pd
        $ external
        > 1 PD PdGetExternalTimestamp
        $ 1 external 0
        = op 2: none
        $ set_external @900.0
        > 2 PD PdSetExternalTimestamp @900.0
        $ 2 external
        = op 3: done
        $ external
        > 3 PD PdGetExternalTimestamp
        $ 3 external @900.0
        = op 4: @900.0
        $ set_external @800.0
        > 4 PD PdSetExternalTimestamp @800.0
        $ 4 no the external timestamp does not go back
        = op 5: PdRefused: PD answered INVALID_VALUE: the external timestamp does not go back
        ",
    );
}
