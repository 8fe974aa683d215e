//! Regions that split, merge, lose their stores and come back, told (`cases.md` L).

use crate::KeyMode::Raw;
use crate::story::story;

const ONE: &str = "..=1";
const TWO: &str = "..k=1 k..=2";

/// RGC-16: one dead store puts every region on it in doubt; each looks for its leader when it is used.
#[test]
fn rgc_16_a_dead_store_is_passed_over_by_every_region() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 value x
        = value x
        $ get z
        > 2 store 1 RawGet z | region 2
        $ silence stores
        $ 2 refused
        > 3 store 1 HealthCheck
        $ 3 refused
        $ get b
        > 4 store 2 RawGet b | region 1
        $ 4 not_leader 3
        > 5 store 3 RawGet b | region 1 retry
        $ 5 value x
        = op 3: value x
        $ wait
        ~ 52ms: Backoff
        > 6 store 3 RawGet z | region 2 retry
        $ 6 value y
        = op 2: value y
        ",
    );
}

/// control-plane.md §4.8.
/// RGC-50: «bucket version not match» installs the borders that the store tells.
#[test]
fn rgc_50_a_store_tells_of_its_buckets() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ region b
        ~ region 1@1.1 led from store 1
        $ 1 bucket_version 7 c f
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ region b
        ~ region 1@1.1 led from store 1, buckets 7: c f
        $ 2 bucket_version 6 c e
        $ region b
        ~ region 1@1.1 led from store 1, buckets 7: c f
        ",
    );
}

/// needDelayedReload: the store has come back, the region still passes over the replica there. Its next
/// use asks PD, and does not wait; PD does not answer, and the region is used all the same.
#[test]
fn a_region_is_loaded_anew_while_it_is_used() {
    story(
        Raw,
        ONE,
        "
        $ silence stores
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 refused
        > 2 store 1 HealthCheck
        $ 2 refused
        $ wait
        ~ 88ms: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ 3 value x
        = value x
        $ pass 2000
        $ silence pd
        $ get b
        > 4 PD PdGetRegion
        > 5 store 2 RawGet b | region 1
        $ 5 value x
        = op 2: value x
        $ 4 lost
        > 6 PD PdGetMembers
        $ get b
        > 7 store 2 RawGet b | region 1
        $ 7 value x
        = op 3: value x
        ",
    );
}

/// RGC-14: the leader has not moved, only requests fail: the turn goes round, and a hint back to the
/// first is followed.
#[test]
fn rgc_14_the_leader_has_not_moved() {
    story(
        Raw,
        ONE,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawGet b | region 1 retry
        $ 2 lost
        $ wait
        ~ 276ms: Backoff
        > 3 store 3 RawGet b | region 1 retry
        $ 3 not_leader 1
        > 4 store 1 RawGet b | region 1 retry
        $ 4 value x
        = value x
        ",
    );
}

/// control-plane.md §4.1, §6.4.
/// RGC-17: failures on one node after another: every replica is tried, then PD is asked.
#[test]
fn rgc_17_every_replica_then_pd() {
    story(
        Raw,
        ONE,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawGet b | region 1 retry
        $ 2 lost
        $ wait
        ~ 276ms: Backoff
        > 3 store 3 RawGet b | region 1 retry
        $ silence pd
        $ 3 lost
        $ wait
        ~ 514ms: Backoff
        $ region b
        ~ region 1@1.1 led from store 1, invalid
        $ wait
        ~ 516ms: Backoff
        > 4 PD PdGetRegion b
        $ 4 ok
        > 5 store 1 RawGet b | region 1 retry
        $ 5 value x
        = value x
        ",
    );
}

/// peers.md D18: a load whose one waiter left still ends, and so does the wait of those who joined.
#[test]
fn d18_a_load_outlives_the_one_who_began_it() {
    story(
        Raw,
        TWO,
        "
        $ silence pd
        $ get b
        > 1 PD PdGetMembers
        $ 1 ok
        > 2 PD PdGetRegion b
        $ get c
        $ cancel 1
        ~ Stopped
        $ 2 ok
        > 3 PD PdGetStore 1
        $ 3 ok
        > 4 store 1 RawGet c | region 1
        $ 4 value x
        = op 2: value x
        ",
    );
}

/// control-plane.md §4.2: a region that nobody uses lives for 600 s and for up to 60 s more.
#[test]
fn a_region_lives_for_ten_minutes_and_a_bit() {
    story(
        Raw,
        ONE,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 value x
        = value x
        $ silence pd
        $ pass 600001
        $ get b
        > 2 store 1 RawGet b | region 1
        $ 2 value x
        = op 2: value x
        $ pass 660000
        $ get b
        > 3 PD PdGetMembers
        > 4 PD PdGetRegion b
        ",
    );
}
