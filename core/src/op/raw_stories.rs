//! Raw batches and scans, told: what happens when regions move under them.

use crate::KeyMode::Raw;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";
const THREE: &str = "..f=1 f..m=2 m..=3";

/// raw.md §3.1.
/// The order asked for is kept, duplicates are answered twice and sent once, and missing is visible.
#[test]
fn a_batch_get_over_two_regions() {
    story(
        Raw,
        TWO,
        "
        $ batch_get z b a z q
        > 1 store 1 RawBatchGet a b | region 1
        > 2 store 1 RawBatchGet q z | region 2
        $ 1 pairs a=1
        $ 2 pairs z=26
        = value 26, none, value 1, value 26, none
        $ idle
        ~ true
        ",
    );
}

/// raw.md §3.1, a region error on a batch.
/// A split during a batch: only what moved is grouped again, and only once.
#[test]
fn a_split_during_a_batch_get() {
    story(
        Raw,
        TWO,
        "
        $ batch_get a d h p
        > 1 store 1 RawBatchGet a d h | region 1
        > 2 store 1 RawBatchGet p | region 2
        $ 2 pairs p=4
        $ split 1 at d as 3
        $ 1 epoch 1 3
        > 3 store 1 RawBatchGet a | region 1 retry
        > 4 store 1 RawBatchGet d h | region 3 retry
        $ 4 pairs d=2 h=3
        $ 3 pairs a=1
        = value 1, value 2, value 3, value 4
        ",
    );
}

/// The store does not say what is there instead: PD is asked after a pause, for the first key only; the
/// second region is met on the way.
#[test]
fn a_split_during_a_batch_get_that_only_pd_knows() {
    story(
        Raw,
        TWO,
        "
        $ batch_get a d
        > 1 store 1 RawBatchGet a d | region 1
        $ split 1 at d as 3
        $ 1 region_not_found
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawBatchGet a | region 1 retry
        > 3 store 1 RawBatchGet d | region 3 retry
        $ 2 pairs a=1
        $ 3 pairs d=2
        = value 1, value 2
        ",
    );
}

/// Keys that come back from a region that is no more, and again and again from what PD says is there
/// instead, are not sent around in a tight loop: each time the wait is longer.
#[test]
fn a_region_that_is_never_where_pd_says() {
    story(
        Raw,
        TWO,
        "
        $ batch_get a d
        > 1 store 1 RawBatchGet a d | region 1
        $ 1 region_not_found
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawBatchGet a d | region 1 retry
        $ 2 region_not_found
        $ wait
        ~ 6ms: Backoff
        > 3 store 1 RawBatchGet a d | region 1 retry
        $ 3 region_not_found
        $ wait
        ~ 14ms: Backoff
        > 4 store 1 RawBatchGet a d | region 1 retry
        ",
    );
}

/// A leader that moves is followed inside the call: nothing is grouped again.
#[test]
fn a_leader_moves_during_a_batch_put() {
    story(
        Raw,
        TWO,
        "
        $ batch_put a=1 b=2 p=3
        > 1 store 1 RawBatchPut a=1 b=2 | region 1
        > 2 store 1 RawBatchPut p=3 | region 2
        $ 1 not_leader 2
        > 3 store 2 RawBatchPut a=1 b=2 | region 1 retry
        $ 3 ok
        $ 2 ok
        = done
        ",
    );
}

/// raw.md §3.1, «first error wins».
/// The first error ends the batch; what is still out is withdrawn. A write that is still out may be
/// executed, and the error says so.
#[test]
fn a_batch_put_fails() {
    story(
        Raw,
        TWO,
        "
        $ batch_put a=1 p=2
        > 1 store 1 RawBatchPut a=1 | region 1
        > 2 store 1 RawBatchPut p=2 | region 2
        $ 1 error ttl is not enabled
        x 2
        = Refused in doubt: ttl is not enabled
        $ 2 ok
        $ idle
        ~ true
        ",
    );
}

/// A copy of a batch may be executed although its answer was lost; the doubt goes with the keys when
/// their region moves.
#[test]
fn the_doubt_about_a_batch_survives_a_move() {
    story(
        Raw,
        TWO,
        "
        $ batch_put a=1
        > 1 store 1 RawBatchPut a=1 | region 1
        $ 1 stale_command
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawBatchPut a=1 | region 1 retry
        $ 2 region_not_found
        $ wait
        ~ 4ms: Backoff
        > 3 store 1 RawBatchPut a=1 | region 1 retry
        $ 3 too_large
        = TooLarge in doubt: the write makes a Raft entry of 9437184 bytes, which is too large (region 1@1.1) (store 1)
        ",
    );
}

/// A copy whose answer was lost may have been executed, whatever a later copy is told.
#[test]
fn a_refusal_says_nothing_about_an_earlier_copy() {
    story(
        Raw,
        TWO,
        "
        $ put a=1
        > 1 store 1 RawPut a=1 | region 1
        $ 1 stale_command
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawPut a=1 | region 1 retry
        $ 2 error no more
        = Refused in doubt: no more
        $ batch_put a=1
        > 3 store 1 RawBatchPut a=1 | region 1
        $ 3 stale_command
        $ wait
        ~ 4ms: Backoff
        > 4 store 1 RawBatchPut a=1 | region 1 retry
        $ 4 error no more
        = op 2: Refused in doubt: no more
        ",
    );
}

/// raw.md §3.1, an empty list.
#[test]
fn a_batch_delete_and_an_empty_batch() {
    story(
        Raw,
        TWO,
        "
        $ batch_delete p a
        > 1 store 1 RawBatchDelete a | region 1
        > 2 store 1 RawBatchDelete p | region 2
        $ 2 ok
        $ 1 ok
        = done
        $ batch_get
        = op 2: 
        $ batch_put
        = op 3: done
        $ batch_delete
        = op 4: done
        ",
    );
}

/// peers.md D1: the empty end of the last region is the end of the key space, and the scan stops
/// there, with and without an end of its own.
#[test]
fn d1_a_scan_ends_at_the_end_of_the_key_space() {
    story(
        Raw,
        TWO,
        "
        $ scan a.. 10
        > 1 store 1 RawScan a.. limit 10 | region 1
        $ 1 pairs a=1 b=2
        > 2 store 1 RawScan k.. limit 8 | region 2
        $ 2 pairs z=26
        = pairs a=1 b=2 z=26
        $ scan y..zz 10
        > 3 store 1 RawScan y..zz limit 10 | region 2
        $ 3 pairs z=26
        = op 2: pairs z=26
        ",
    );
}

/// raw.md §3.2.
/// A full page ends the scan when the limit is reached, also at a region's last key.
#[test]
fn a_scan_stops_at_its_limit() {
    story(
        Raw,
        TWO,
        "
        $ scan .. 2
        > 1 store 1 RawScan .. limit 2 | region 1
        $ 1 pairs a=1 b=2
        = pairs a=1 b=2
        $ scan a..b 0
        = op 2: pairs
        $ scan b..a 5
        = op 3: pairs
        $ scan a..a 5
        = op 4: pairs
        ",
    );
}

/// raw.md §3.2, reverse.
/// peers.md D2: downwards the region is the one that ends at the cursor, and the walk goes down.
#[test]
fn d2_a_reverse_scan_walks_down() {
    story(
        Raw,
        THREE,
        "
        $ rscan a..m 10
        > 1 store 1 RawScan m..a limit 10 reverse | region 2
        $ 1 pairs h=8
        > 2 store 1 RawScan f..a limit 9 reverse | region 1
        $ 2 pairs c=3 b=2 a=1
        = pairs h=8 c=3 b=2 a=1
        $ rscan .. 3
        > 3 store 1 RawScan <ff × 8193>.. limit 3 reverse | region 3
        $ 3 pairs z=26
        > 4 store 1 RawScan m.. limit 2 reverse | region 2
        $ 4 pairs h=8
        > 5 store 1 RawScan f.. limit 1 reverse | region 1
        $ 5 pairs e=5
        = op 2: pairs z=26 h=8 e=5
        ",
    );
}

/// A PD that names the same wrong region again and again is not asked in a loop without a pause.
#[test]
fn a_reverse_scan_that_pd_leads_nowhere() {
    story(
        Raw,
        "..k=1 k..z=2",
        "
        $ pd_lies
        $ rscan a.. 10
        $ wait
        ~ 2ms: Backoff
        $ wait
        ~ 6ms: Backoff
        ",
    );
}

/// raw.md §3.2, the hazard of the cursor.
/// The border that counts is that of the region that answered, not the one known later.
#[test]
fn a_split_between_two_pages() {
    story(
        Raw,
        TWO,
        "
        $ scan a..z 10
        > 1 store 1 RawScan a..z limit 10 | region 1
        $ split 1 at d as 3
        $ 1 epoch 1 3
        > 2 store 1 RawScan a..z limit 10 | region 1 retry
        $ 2 pairs a=1
        > 3 store 1 RawScan d..z limit 9 | region 3
        $ 3 pairs e=5
        > 4 store 1 RawScan k..z limit 8 | region 2
        $ 4 pairs
        = pairs a=1 e=5
        ",
    );
}

/// The server is not trusted with the bounds.
#[test]
fn a_page_with_a_key_outside_of_the_range() {
    story(
        Raw,
        TWO,
        "
        $ scan b..c 10
        > 1 store 1 RawScan b..c limit 10 | region 1
        $ 1 pairs x=1
        = Protocol: the server sent what it cannot: a scan gave a key outside of its range
        ",
    );
}
