//! The table of `control-plane.md` §4.5, row by row: what is looked up, and what becomes of a hit, a miss
//! and a region that is flagged.
//!
//! | more of it | where |
//! |---|---|
//! | `[start, end)`, `(start, end]`, `ContainsByEnd` | `tests::a_key_leads_to_the_region_that_contains_it`, `tests::an_end_key_leads_to_the_region_below_it` |
//! | needDelayedReload: loaded anew by key, in the background | `stories::a_region_is_loaded_anew_while_it_is_used` |
//! | without any PD | `cases::without_pd_a_region_gets_another_chance` |

use crate::KeyMode::Raw;
use crate::story::rows;

const ONE: &str = "..=1";
const TWO: &str = "..k=1 k..=2";

/// control-plane.md §4.5, each call with its hit, its miss, and what is flagged.
#[test]
fn lookup_paths() {
    rows(
        Raw,
        &[
            (
                "LocateKey, miss and hit",
                TWO,
                "
                $ ready
                = done
                $ silence pd
                $ locate a
                > 1 PD PdGetRegion a
                $ 1 ok
                = op 2: region 1@1.1 ..k led from store 1
                $ locate b
                = op 3: region 1@1.1 ..k led from store 1
                $ locate k
                > 2 PD PdGetRegion k
                $ 2 ok
                = op 4: region 2@1.1 k.. led from store 1
                ",
            ),
            (
                "LocateKey, expired",
                ONE,
                "
                $ locate a
                = region 1@1.1 .. led from store 1
                $ silence pd
                $ pass 660000
                $ locate a
                > 1 PD PdGetMembers
                > 2 PD PdGetRegion a
                ",
            ),
            (
                "LocateKey, followers may answer",
                ONE,
                "
                $ set followers
                $ members 2
                $ ready
                = done
                $ silence pd
                $ locate a
                > 1 PD 2 itself PdGetRegion a
                $ 1 unknown
                > 2 PD PdGetRegion a
                $ 2 ok
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "LocateKey, needReloadOnAccess: loaded from PD",
                ONE,
                "
                $ silence stores
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 refused
                > 2 store 1 HealthCheck
                $ 2 refused
                $ wait
                ~ 88ms: Backoff
                > 3 store 2 RawGet a | region 1 retry
                $ 3 refused
                > 4 store 2 HealthCheck
                $ 4 refused
                $ wait
                ~ 276ms: Backoff
                > 5 store 3 RawGet a | region 1 retry
                $ 5 refused
                > 6 store 3 HealthCheck
                $ 6 refused
                $ silence pd
                $ region a
                ~ region 1@1.1 led from store 1
                $ locate a
                > 7 PD PdGetRegion a
                $ 7 ok
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "LocateKey, needReloadOnAccess: the load fails, the old region is given without error",
                ONE,
                "
                $ silence stores
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 refused
                > 2 store 1 HealthCheck
                $ 2 refused
                $ wait
                ~ 88ms: Backoff
                > 3 store 2 RawGet a | region 1 retry
                $ 3 refused
                > 4 store 2 HealthCheck
                $ 4 refused
                $ wait
                ~ 276ms: Backoff
                > 5 store 3 RawGet a | region 1 retry
                $ 5 refused
                > 6 store 3 HealthCheck
                $ 6 refused
                $ silence pd
                $ locate a
                > 7 PD PdGetRegion a
                $ 7 no overloaded
                = op 2: region 1@1.1 .. led from store 1
                $ pass 1999
                $ locate a
                > 8 PD PdGetRegion
                = op 3: region 1@1.1 .. led from store 1
                $ pass 1
                $ locate a
                = op 4: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "LocateKey, called another region: the load fails, and so does the lookup",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 epoch
                $ silence pd
                $ locate a
                > 2 PD PdGetRegion a
                $ wait
                ~ 2ms: Backoff
                $ 2 no overloaded
                = op 2: PdRefused: PD answered UNKNOWN: overloaded
                = op 1: PdRefused: PD answered UNKNOWN: overloaded
                ",
            ),
            (
                "LocateEndKey, hit, miss, and no end",
                TWO,
                "
                $ ready
                = done
                $ silence pd
                $ locate_end k
                > 1 PD PdGetRegion k
                $ 1 ok
                > 2 PD PdGetPrevRegion k
                $ 2 ok
                = op 2: region 1@1.1 ..k led from store 1
                $ locate_end b
                = op 3: region 1@1.1 ..k led from store 1
                $ locate_end
                = op 4: region 2@1.1 k.. led from store 1
                $ locate_end z
                = op 5: region 2@1.1 k.. led from store 1
                ",
            ),
            (
                "LocateEndKey, no end: the last region",
                TWO,
                "
                $ ready
                = done
                $ silence pd
                $ locate_end
                > 1 PD PdGetRegion <ff × 64>
                $ 1 ok
                = op 2: region 2@1.1 k.. led from store 1
                $ locate_end
                = op 3: region 2@1.1 k.. led from store 1
                ",
            ),
            (
                "LocateEndKey, needReloadOnAccess: the load fails, the old region is given",
                ONE,
                "
                $ silence stores
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 refused
                > 2 store 1 HealthCheck
                $ 2 refused
                $ wait
                ~ 88ms: Backoff
                > 3 store 2 RawGet a | region 1 retry
                $ 3 refused
                > 4 store 2 HealthCheck
                $ 4 refused
                $ wait
                ~ 276ms: Backoff
                > 5 store 3 RawGet a | region 1 retry
                $ 5 refused
                > 6 store 3 HealthCheck
                $ 6 refused
                $ silence pd
                $ locate_end z
                > 7 PD PdGetRegion z
                $ 7 no overloaded
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "LocateRegionByID, miss: PD's leader is asked by id, also where followers may answer",
                TWO,
                "
                $ set followers
                $ members 2
                $ ready
                = done
                $ silence pd
                $ locate_id 2
                > 1 PD PdGetRegionById 2
                $ 1 ok
                = op 2: region 2@1.1 k.. led from store 1
                $ locate_id 2
                = op 3: region 2@1.1 k.. led from store 1
                $ locate z
                = op 4: region 2@1.1 k.. led from store 1
                ",
            ),
            (
                "LocateRegionByID, the latest version",
                TWO,
                "
                $ locate a
                = region 1@1.1 ..k led from store 1
                $ split 1 at d as 3
                $ locate_id 1
                = op 2: region 1@1.1 ..k led from store 1
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 epoch 1 3
                > 2 store 1 RawGet a | region 1 retry
                $ silence pd
                $ locate_id 1
                = op 4: region 1@1.2 ..d led from store 1
                $ locate_id 3
                = op 5: region 3@1.2 d..k led from store 1
                ",
            ),
            (
                "LocateRegionByID, expired",
                ONE,
                "
                $ locate_id 1
                = region 1@1.1 .. led from store 1
                $ silence pd
                $ pass 660001
                $ locate_id 1
                > 1 PD PdGetMembers
                > 2 PD PdGetRegionById 1
                ",
            ),
            (
                "LocateRegionByID, not found: an error at once, without a second try",
                TWO,
                "
                $ ready
                = done
                $ silence pd
                $ locate_id 7
                > 1 PD PdGetRegionById 7
                $ 1 ok
                = op 2: RegionUnavailable: region 7: PD knows none of this id
                $ locate_id 8
                > 2 PD PdGetRegionById 8
                $ 2 unknown
                = op 3: RegionUnavailable: region 8: PD knows none of this id
                $ idle
                ~ true
                ",
            ),
            (
                "LocateRegionByID, PD cannot be reached: asked again",
                ONE,
                "
                $ ready
                = done
                $ silence pd
                $ locate_id 1
                > 1 PD PdGetRegionById 1
                $ 1 lost
                > 2 PD PdGetMembers
                $ 2 ok
                > 3 PD PdGetRegionById 1
                $ 3 ok
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "LocateRegionByID, flagged: the load fails, the old region is given",
                ONE,
                "
                $ silence stores
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 refused
                > 2 store 1 HealthCheck
                $ 2 refused
                $ wait
                ~ 88ms: Backoff
                > 3 store 2 RawGet a | region 1 retry
                $ 3 refused
                > 4 store 2 HealthCheck
                $ 4 refused
                $ wait
                ~ 276ms: Backoff
                > 5 store 3 RawGet a | region 1 retry
                $ 5 refused
                > 6 store 3 HealthCheck
                $ 6 refused
                $ silence pd
                $ locate_id 1
                > 7 PD PdGetRegionById 1
                $ 7 no overloaded
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "TryLocateKey, not known: nothing is loaded",
                TWO,
                "
                $ ready
                = done
                $ silence pd
                $ try a
                = op 2: none
                $ idle
                ~ true
                ",
            ),
            (
                "TryLocateKey, hit",
                TWO,
                "
                $ locate a
                = region 1@1.1 ..k led from store 1
                $ silence pd
                $ try b
                = op 2: region 1@1.1 ..k led from store 1
                $ try k
                = op 3: none
                ",
            ),
            (
                "TryLocateKey, flagged: none",
                ONE,
                "
                $ silence stores
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 refused
                > 2 store 1 HealthCheck
                $ 2 refused
                $ wait
                ~ 88ms: Backoff
                > 3 store 2 RawGet a | region 1 retry
                $ 3 value x
                = value x
                $ silence pd
                $ try a
                = op 2: region 1@1.1 .. led from store 2
                $ pass 2000
                $ try a
                = op 3: none
                $ locate a
                > 4 PD PdGetRegion
                = op 4: region 1@1.1 .. led from store 2
                $ try a
                = op 5: region 1@1.1 .. led from store 2
                ",
            ),
            (
                "LocateRegionByIDFromPD, past the cache, and not kept",
                TWO,
                "
                $ locate a
                = region 1@1.1 ..k led from store 1
                $ split 1 at d as 3
                $ pd_id 1
                = op 2: region 1@1.2 ..d led from store 1
                $ pd_id 3
                = op 3: region 3@1.2 d..k led from store 1
                $ silence pd
                $ try a
                = op 4: region 1@1.1 ..k led from store 1
                $ try d
                = op 5: region 1@1.1 ..k led from store 1
                $ pd_id 3
                > 1 PD PdGetRegionById 3
                $ 1 unknown
                = op 6: RegionUnavailable: region 3: PD knows none of this id
                ",
            ),
        ],
    );
}
