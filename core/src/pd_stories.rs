//! Finding PD, asking it, and timestamps, told.

use crate::KeyMode::{Raw, Txn};
use crate::story::story;

const ONE: &str = "..=1";

/// Everything that a first operation needs, in order: members, region, store.
#[test]
fn the_first_get_of_a_client() {
    story(
        Raw,
        ONE,
        "
        $ silence pd
        $ get a
        > 1 PD PdGetMembers
        $ 1 ok
        > 2 PD PdGetRegion a
        $ 2 ok
        > 3 PD PdGetStore 1
        $ 3 ok
        > 4 store 1 RawGet a | region 1
        $ 4 value x
        = value x
        ",
    );
}

/// peers.md D31: however many miss the same region, PD is asked once, and once for the store.
#[test]
fn d31_many_misses_are_one_question() {
    story(
        Raw,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        = done
        $ get a
        > 2 PD PdGetRegion a
        $ get b
        $ get c
        $ 2 ok
        > 3 PD PdGetStore 1
        $ 3 ok
        > 4 store 1 RawGet a | region 1
        > 5 store 1 RawGet b | region 1
        > 6 store 1 RawGet c | region 1
        ",
    );
}

/// PD refuses connections: it is asked again and again, and at the deadline the error names it.
#[test]
fn pd_cannot_be_reached() {
    story(
        Raw,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 refused
        $ wait
        ~ 14ms: PdRefresh
        > 2 PD PdGetMembers
        $ 2 refused
        $ wait
        ~ 51ms: PdRefresh
        > 3 PD PdGetMembers
        $ 3 lost
        $ pass 60000
        $ wait
        ~ 101ms: PdRefresh
        > 4 PD PdGetMembers
        = PdUnavailable: no PD leader found through pd:1 in 3 rounds: PD at pd:1: connection lost
        $ wait
        ~ 61.051s: AttemptTimeout
        x 4
        ",
    );
}

/// control-plane.md §14.1, init retries (here 3, there 100 by default): a start while PD is down goes on
/// trying, up to the last round, and says how often it did; who comes next begins anew. Timestamps and
/// questions that wait end with it, for nobody looks for PD any more.
#[test]
fn a_start_while_pd_is_down_is_bounded() {
    story(
        Raw,
        ONE,
        "
        $ set attempts 3
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ tso
        $ get a
        $ low
        $ 1 refused
        $ wait
        ~ 14ms: PdRefresh
        > 2 PD PdGetMembers
        $ 2 names none
        $ wait
        ~ 51ms: PdRefresh
        > 3 PD PdGetMembers
        $ 3 lost
        = op 1: PdUnavailable: no PD leader found through pd:1 in 3 rounds: PD at pd:1: connection lost
        = op 2: PdUnavailable: no PD leader found through pd:1 in 3 rounds: PD at pd:1: connection lost
        = op 4: PdUnavailable: no PD leader found through pd:1 in 3 rounds: PD at pd:1: connection lost
        = op 3: PdUnavailable: no PD leader found through pd:1 in 3 rounds: PD at pd:1: connection lost
        $ stats rounds
        ~ rounds 3
        $ idle
        ~ true
        $ ready
        > 4 PD PdGetMembers
        $ 4 ok
        = op 5: done
        ",
    );
}

/// The limit is for the start: a leader that was there once is looked for as long as somebody wants it.
#[test]
fn a_leader_that_was_found_once_is_looked_for_without_a_number() {
    story(
        Raw,
        ONE,
        "
        $ set attempts 1
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 lost
        > 2 PD PdGetMembers
        $ 2 lost
        $ wait
        ~ 14ms: PdRefresh
        > 3 PD PdGetMembers
        $ 3 lost
        $ wait
        ~ 51ms: PdRefresh
        > 4 PD PdGetMembers
        $ 4 ok
        > 5 PD PdGetRegion a
        ",
    );
}

/// control-plane.md §14.1, GetMembers.
/// A silent member is not waited for longer than a second.
#[test]
fn a_silent_member() {
    story(
        Raw,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ wait
        ~ 1s: AttemptTimeout
        x 1
        $ wait
        ~ 1.014s: PdRefresh
        > 2 PD PdGetMembers
        $ 2 ok
        = done
        ",
    );
}

/// A leader that fails: the members are asked who leads now, and the question goes there, the first
/// time without a pause.
#[test]
fn the_leader_of_pd_fails() {
    story(
        Raw,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        = done
        $ get a
        > 2 PD PdGetRegion a
        $ 2 lost
        > 3 PD PdGetMembers
        $ 3 ok
        > 4 PD PdGetRegion a
        $ 4 lost
        > 5 PD PdGetMembers
        $ 5 ok
        $ wait
        ~ 358ms: Backoff
        > 6 PD PdGetRegion a
        $ 6 ok
        > 7 PD PdGetStore 1
        ",
    );
}

/// peers.md D24: an answer of PD that says «no» is no failure of the connection.
#[test]
fn d24_a_refusal_is_not_retried() {
    story(
        Raw,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        = done
        $ get a
        > 2 PD PdGetRegion a
        $ 2 status 9 mismatch cluster id, need 1 but got 9
        = op 2: PdRefused: mismatch cluster id, need 1 but got 9 (gRPC status 9)
        ",
    );
}

/// Who waits for timestamps while a batch is under way joins the next one.
#[test]
fn timestamps_are_fetched_in_batches() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ tso
        $ tso
        $ 1 ok
        > 2 PD Tso 2
        = op 2: @1000.1
        $ 2 ok
        = op 3: @1000.2
        = op 4: @1000.3
        $ idle
        ~ true
        ",
    );
}

/// A broken timestamp stream: the waiters stay in line.
#[test]
fn a_broken_timestamp_stream() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ tso
        $ 1 lost
        > 2 PD Tso 2
        $ 2 lost
        $ wait
        ~ 358ms: Backoff
        > 3 PD Tso 2
        $ 3 ok
        = op 2: @1358.1
        = op 3: @1358.2
        ",
    );
}

/// A PD that is silent is asked again, and the deadline holds.
#[test]
fn a_silent_timestamp_stream() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ wait
        ~ 3s: AttemptTimeout
        x 1
        > 2 PD Tso 1
        $ wait
        ~ 6s: AttemptTimeout
        x 2
        $ wait
        ~ 6.358s: Backoff
        > 3 PD Tso 1
        $ 3 ok
        = op 2: @7358.1
        ",
    );
}

/// A store that is asked nothing and whose connection breaks may have moved.
#[test]
fn a_link_that_goes_down_has_the_address_checked() {
    story(
        Raw,
        ONE,
        "
        $ get a
        > 1 store 1 RawGet a | region 1
        $ 1 value x
        = value x
        $ silence pd
        $ link_down 1
        $ get a
        > 2 PD PdGetStore 1
        > 3 store 1 RawGet a | region 1
        $ get a
        > 4 store 1 RawGet a | region 1
        ",
    );
}

/// Many callers with keys all over a cold cache: the first key is asked for, and what is left in one
/// question after it.
#[test]
fn a_cold_cache_is_filled_with_few_questions() {
    story(
        Raw,
        "..d=1 d..h=2 h..m=3 m..s=4 s..=5",
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        = done
        $ get e
        > 2 PD PdGetRegion e
        $ get a
        $ get z
        $ get n
        $ get i
        $ 2 ok
        > 3 PD PdGetRegion a
        > 4 PD PdBatchScanRegions i..z<00> limit 128
        > 5 PD PdGetStore 1
        $ 4 ok
        $ 5 ok
        > 6 store 1 RawGet e | region 2
        > 7 store 1 RawGet i | region 3
        > 8 store 1 RawGet n | region 4
        > 9 store 1 RawGet z | region 5
        ",
    );
}

/// control-plane.md §4.6: a batch over regions that are not known asks for all of them at once, for 128
/// at most; an older PD is asked in the way it understands.
#[test]
fn a_batch_asks_for_all_its_regions_at_once() {
    story(
        Raw,
        "..d=1 d..h=2 h..=3",
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        = done
        $ batch_get a e z
        > 2 PD PdBatchScanRegions a..z<00> limit 128
        $ 2 status 12 unknown method
        > 3 PD PdScanRegions a..z<00> limit 128
        $ 3 status 12 unknown method
        > 4 PD PdGetRegion a
        $ 4 ok
        > 5 PD PdGetRegion e
        > 6 PD PdGetStore 1
        $ 5 ok
        > 7 PD PdGetRegion z
        ",
    );
}

/// control-plane.md §4.6, batchScanRegions.
#[test]
fn a_batch_over_regions_that_are_not_known() {
    story(
        Raw,
        "..d=1 d..h=2 h..=3",
        "
        $ ready
        = done
        $ silence pd
        $ batch_get a e z
        > 1 PD PdBatchScanRegions a..z<00> limit 128
        $ 1 ok
        > 2 PD PdGetStore 1
        $ 2 ok
        > 3 store 1 RawBatchGet a | region 1
        > 4 store 1 RawBatchGet e | region 2
        > 5 store 1 RawBatchGet z | region 3
        ",
    );
}

/// control-plane.md §14.1, health: the members are looked at once a second, not more often.
#[test]
fn a_look_at_the_leader_every_second() {
    story(
        Txn,
        ONE,
        "
        $ set forwarding
        $ members 3
        $ ready
        = done
        $ silence pd
        $ tso
        > 1 PD Tso 1
        $ 1 refused
        > 2 PD 2 PdGetMembers
        $ 2 names 1
        > 3 PD 2 for 1 Tso 1
        $ 3 ok
        = op 2: @1000.1
        $ pass 999
        $ tso
        > 4 PD 2 for 1 Tso 1
        $ 4 ok
        = op 3: @1999.2
        $ pass 1
        $ tso
        > 5 PD HealthCheck
        > 6 PD 2 HealthCheck
        > 7 PD 3 HealthCheck
        > 8 PD 2 for 1 Tso 1
        ",
    );
}
