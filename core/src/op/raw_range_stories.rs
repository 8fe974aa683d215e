//! Raw ranges, compare-and-swap and times to live, told.

use crate::KeyMode::Raw;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";
const THREE: &str = "..f=1 f..m=2 m..=3";

// ---- compare-and-swap ----------------------------------------------------------------------

/// raw.md §5: no value and an empty value are two expectations, and two answers.
#[test]
fn a_swap_tells_what_was_there() {
    story(
        Raw,
        TWO,
        r#"
        $ cas a - 1
        > 1 store 1 RawCompareAndSwap a from - to "1" | region 1
        $ 1 swapped -
        = swapped, before: none
        $ cas a "" 2 ttl 9
        > 2 store 1 RawCompareAndSwap a from "" to "2" ttl 9 | region 1
        $ 2 kept 1
        = op 2: kept, before: value 1
        $ cas a 1 ""
        > 3 store 1 RawCompareAndSwap a from "1" to "" | region 1
        $ 3 swapped 1
        = op 3: swapped, before: value 1
        $ cad a ""
        > 4 store 1 RawCompareAndSwap a from "" to deleted | region 1
        $ 4 swapped
        = op 4: swapped, before: value
        "#,
    );
}

/// raw.md §5, the retry hazard.
/// peers.md D17: the answer is lost, so it may have been executed: it is not sent again, and the
/// caller is told that nobody knows.
#[test]
fn d17_a_swap_whose_answer_is_lost_is_undetermined() {
    story(
        Raw,
        TWO,
        r#"
        $ cas a - 1
        > 1 store 1 RawCompareAndSwap a from - to "1" | region 1
        $ 1 lost
        = Undetermined in doubt: it may have been executed, and must not be repeated (region 1@1.1) (store 1): connection lost (region 1@1.1) (store 1)
        $ idle
        ~ true
        "#,
    );
}

/// The same if no answer comes in time, if the store is told to say so, or if what it says could
/// mean so.
#[test]
fn d17_what_else_makes_a_swap_undetermined() {
    for words in ["stale_command", "undetermined", "message what", "status 14 closing"] {
        let mut lines = Vec::new();
        let mut told = crate::story::Story::new(Raw, TWO);
        for line in ["cas a - 1", &format!("1 {words}")] {
            lines.push(told.play(line));
        }
        let last = &lines[1];
        assert!(last.starts_with("= Undetermined in doubt: "), "{words}: {last}");
        assert!(!last.contains('>'), "{words}: sent again: {last}");
        assert_eq!(told.play("idle"), "~ true\n", "{words}");
    }
    story(
        Raw,
        TWO,
        r#"
        $ cas a - 1
        > 1 store 1 RawCompareAndSwap a from - to "1" | region 1
        $ wait
        ~ 30s: AttemptTimeout
        x 1
        = Undetermined in doubt: it may have been executed, and must not be repeated (region 1@1.1) (store 1): no answer in time (region 1@1.1) (store 1)
        "#,
    );
}

/// What certainly was not executed is sent again: no connection, another leader, a moved region.
#[test]
fn a_swap_that_was_not_executed_is_sent_again() {
    story(
        Raw,
        TWO,
        r#"
        $ cas b - 1
        > 1 store 1 RawCompareAndSwap b from - to "1" | region 1
        $ 1 not_leader 2
        > 2 store 2 RawCompareAndSwap b from - to "1" | region 1 retry
        $ split 1 at b as 3
        $ 2 epoch 1 3
        > 3 store 2 RawCompareAndSwap b from - to "1" | region 3 retry
        $ 3 max_ts_not_synced
        $ wait
        ~ 2ms: Backoff
        > 4 store 2 RawCompareAndSwap b from - to "1" | region 3 retry
        $ 4 swapped -
        = swapped, before: none
        "#,
    );
}

/// A connection that is refused carries no request; the answer that is lost later does.
#[test]
fn a_swap_is_not_sent_then_lost() {
    let mut story = crate::story::Story::new(Raw, TWO);
    story.play("cas b - 1");
    assert_eq!(story.play("1 refused"), "");
    let again = story.play("wait");
    assert!(again.contains("> 2 store"), "{again}");
    let lost = story.play("2 lost");
    assert!(lost.starts_with("= Undetermined in doubt"), "{lost}");
}

/// raw.md §5.
/// The server's own words end it, certain unless they say that the server itself waited in vain.
#[test]
fn a_swap_is_refused() {
    story(
        Raw,
        TWO,
        r#"
        $ cas a - 1
        > 1 store 1 RawCompareAndSwap a from - to "1" | region 1
        $ 1 error invalid cf name: x
        = Refused: invalid cf name: x
        $ cas a - 1
        > 2 store 1 RawCompareAndSwap a from - to "1" | region 1
        $ 2 error timeout after 5s
        = op 2: Refused in doubt: timeout after 5s
        "#,
    );
}

/// Whoever gives it up does not hear of it any more; it is withdrawn, and not sent again.
#[test]
fn a_swap_is_cancelled() {
    story(
        Raw,
        TWO,
        r#"
        $ cas a - 1
        > 1 store 1 RawCompareAndSwap a from - to "1" | region 1
        $ cancel 1
        ~ Stopped
        x 1
        $ 1 swapped -
        $ idle
        ~ true
        "#,
    );
}

// ---- atomic mode and times to live ---------------------------------------------------------

/// raw.md §5.
#[test]
fn atomic_mode_is_told_to_the_store() {
    story(
        Raw,
        TWO,
        "
        $ atomic put a=1
        > 1 store 1 RawPut a=1 atomic | region 1
        $ 1 ok
        = done
        $ atomic delete a
        > 2 store 1 RawDelete a atomic | region 1
        $ 2 ok
        = op 2: done
        $ atomic batch_put a=1 b=2
        > 3 store 1 RawBatchPut a=1 b=2 atomic | region 1
        $ 3 ok
        = op 3: done
        $ atomic batch_delete a b
        > 4 store 1 RawBatchDelete a b atomic | region 1
        $ 4 ok
        = op 4: done
        ",
    );
}

/// raw.md §3, BatchPutWithTTL.
/// Each pair keeps its own time to live through sorting, duplicates and regions; stores that know
/// only one get the first of the request.
#[test]
fn times_to_live_follow_their_pairs() {
    story(
        Raw,
        TWO,
        "
        $ batch_put_ttl p=1:7 b=2:0 p=3:8 a=4:9
        > 1 store 1 RawBatchPut a=4 b=2 ttls [9, 0] | region 1
        > 2 store 1 RawBatchPut p=3 ttls [8] | region 2
        $ 1 ok
        $ 2 ok
        = done
        $ put a=1 ttl 5
        > 3 store 1 RawPut a=1 ttl 5 | region 1
        $ 3 ok
        = op 2: done
        ",
    );
}

/// raw.md §3, GetKeyTTL.
/// No such key, no end, and some seconds.
#[test]
fn what_is_left_of_a_time_to_live() {
    story(
        Raw,
        TWO,
        "
        $ ttl a
        > 1 store 1 RawGetKeyTtl a | region 1
        $ 1 none
        = none
        $ ttl a
        > 2 store 1 RawGetKeyTtl a | region 1
        $ 2 lost
        $ wait
        ~ 52ms: Backoff
        > 3 store 2 RawGetKeyTtl a | region 1 retry
        $ 3 ttl 0
        = op 2: ttl 0
        $ ttl z
        > 4 store 1 RawGetKeyTtl z | region 2
        $ 4 ttl 12
        = op 3: ttl 12
        ",
    );
}

// ---- ranges --------------------------------------------------------------------------------

/// raw.md §3, DeleteRange.
/// Region by region, in order, each asked for no more than it holds.
#[test]
fn a_range_is_deleted_region_by_region() {
    story(
        Raw,
        THREE,
        "
        $ delete_range b..p
        > 1 store 1 RawDeleteRange b..f | region 1
        $ 1 ok
        > 2 store 1 RawDeleteRange f..m | region 2
        $ 2 ok
        > 3 store 1 RawDeleteRange m..p | region 3
        $ 3 ok
        = done
        $ delete_range ..
        > 4 store 1 RawDeleteRange ..f | region 1
        $ 4 ok
        > 5 store 1 RawDeleteRange f..m | region 2
        $ 5 ok
        > 6 store 1 RawDeleteRange m.. | region 3
        $ 6 ok
        = op 2: done
        $ delete_range c..f
        > 7 store 1 RawDeleteRange c..f | region 1
        $ 7 ok
        = op 3: done
        ",
    );
}

/// raw.md §3, DeleteRange and Checksum.
/// An empty or reversed range is nothing to do.
#[test]
fn nothing_is_deleted_or_added_up_in_an_empty_range() {
    story(
        Raw,
        TWO,
        "
        $ delete_range b..b
        = done
        $ delete_range c..b
        = op 2: done
        $ checksum c..b
        = op 3: sum 0 of 0 pairs, 0 bytes
        ",
    );
}

/// A split: what was asked for is asked for again in two parts, and nothing beyond a region.
#[test]
fn a_split_during_a_delete_range() {
    story(
        Raw,
        TWO,
        "
        $ delete_range b..p
        > 1 store 1 RawDeleteRange b..k | region 1
        $ split 1 at d as 3
        $ 1 epoch 1 3
        > 2 store 1 RawDeleteRange b..d | region 1 retry
        $ 2 ok
        > 3 store 1 RawDeleteRange d..k | region 3
        $ 3 key_not_in_region
        $ wait
        ~ 2ms: Backoff
        > 4 store 1 RawDeleteRange d..k | region 3 retry
        $ 4 ok
        > 5 store 1 RawDeleteRange k..p | region 2
        $ 5 ok
        = done
        ",
    );
}

/// The first error ends it; what comes after is left alone. Of the part whose answer was lost nobody
/// knows.
#[test]
fn a_delete_range_fails() {
    story(
        Raw,
        TWO,
        "
        $ delete_range a..z
        > 1 store 1 RawDeleteRange a..k | region 1
        $ 1 ok
        > 2 store 1 RawDeleteRange k..z | region 2
        $ 2 error max key size exceeded
        = Refused: max key size exceeded
        $ delete_range a..b
        > 3 store 1 RawDeleteRange a..b | region 1
        $ 3 stale_command
        $ wait
        ~ 2ms: Backoff
        > 4 store 1 RawDeleteRange a..b | region 1 retry
        $ 4 flashback_not_prepared
        = op 2: Refused in doubt: the region is not prepared for flashback (region 1@1.1) (store 1) after 2 attempts
        $ idle
        ~ true
        ",
    );
}

/// raw.md §3.3.
/// Regions add up by xor and by sum; a split in between adds nothing up twice.
#[test]
fn a_split_during_a_checksum() {
    story(
        Raw,
        TWO,
        "
        $ checksum ..
        > 1 store 1 RawChecksum ..k | region 1
        $ split 1 at d as 3
        $ 1 epoch 1 3
        > 2 store 1 RawChecksum ..d | region 1 retry
        $ 2 sum 12 1 10
        > 3 store 1 RawChecksum d..k | region 3
        $ 3 lost
        $ wait
        ~ 63ms: Backoff
        > 4 store 2 RawChecksum d..k | region 3 retry
        $ 4 sum 10 2 20
        > 5 store 1 RawChecksum k.. | region 2
        $ 5 sum 0 0 0
        = sum 6 of 3 pairs, 30 bytes
        ",
    );
}

// ---- several scans -------------------------------------------------------------------------

/// Each range has its limit to itself, however many regions it runs over; what is found comes in the
/// order of the ranges, which may overlap.
#[test]
fn a_batch_scan_is_scans_side_by_side() {
    story(
        Raw,
        TWO,
        "
        $ batch_scan 2 p..z a..z b..a c..d
        > 1 store 1 RawScan p..z limit 2 | region 2
        > 2 store 1 RawScan a..z limit 2 | region 1
        > 3 store 1 RawScan c..d limit 2 | region 1
        $ 2 pairs a=1
        > 4 store 1 RawScan k..z limit 1 | region 2
        $ 4 pairs q=3
        $ 3 pairs
        $ 1 pairs q=3 r=4
        = pairs q=3 r=4 a=1 q=3
        $ batch_scan 2
        = op 2: pairs
        ",
    );
}

/// The first error ends all.
#[test]
fn a_batch_scan_fails() {
    story(
        Raw,
        TWO,
        "
        $ batch_scan 2 a..c p..z
        > 1 store 1 RawScan a..c limit 2 | region 1
        > 2 store 1 RawScan p..z limit 2 | region 2
        $ 1 pairs x=1
        x 2
        = Protocol: the server sent what it cannot: a scan gave a key outside of its range
        $ idle
        ~ true
        ",
    );
}

// ---- regions and coprocessors --------------------------------------------------------------

/// Ranges are cut along regions; side by side in one region they make one group.
#[test]
fn ranges_are_grouped_by_region() {
    story(
        Raw,
        THREE,
        "
        $ regions a..b c..h z..
        = region 1.1 ..f: a..b c..f, region 2.1 f..m: f..h, region 3.1 m..: z..
        $ regions b..a
        = op 2:
        ",
    );
}

/// A question is for one region at one version. If that is no more, whoever asks has to group anew.
#[test]
fn a_coprocessor_is_asked_in_one_region_only() {
    story(
        Raw,
        TWO,
        "
        $ regions a..z
        = region 1.1 ..k: a..k, region 2.1 k..: k..z
        $ copr 1 1 a..k count
        > 1 store 1 RawCoprocessor a..k count | region 1
        $ 1 not_leader 2
        > 2 store 2 RawCoprocessor a..k count | region 1 retry
        $ 2 bytes 7
        = op 2: bytes 7
        $ copr 2 1 k..z count
        > 3 store 1 RawCoprocessor k..z count | region 2
        $ split 2 at p as 3
        $ 3 epoch 2 3
        = op 3: RegionMoved: the region has moved
        $ copr 2 1 k..z count
        = op 4: RegionMoved: the region has moved
        $ regions k..z
        = op 5: region 2.2 k..p: k..p, region 3.2 p..: p..z
        $ copr 2 2 k..p count
        > 4 store 1 RawCoprocessor k..p count | region 2
        $ 4 error no such plug-in
        = op 6: Refused: no such plug-in
        ",
    );
}
