//! The tables of `control-plane.md` §4.8 to §4.10, row by row: what has a region given up, corrected or
//! looked at anew.
//!
//! | §4.10 | where |
//! |---|---|
//! | store check | `store::stories::a_dead_store_comes_back`: by use, and not every 15 s |
//! | health tick | `store::health`: by use, no timer ticks |
//! | cache GC | `cases::rgc_04_the_sweep_is_incremental`, `cases::rgc_05_access_extends_only_the_healthy`, `cases::a_flagged_region_goes_on_being_used` |
//! | full refresh | below |
//! | per-store health loop | `store::stories::d21_a_frozen_store_is_found_out` |
//! | prefer-leader flow report, store list updater | not there: nothing here reports or lists |
//!
//! §4.9 has its clamping and locating in `buckets.rs`. TiFlash's rows have no counterpart.

use crate::KeyMode::Raw;
use crate::story::rows;

const ONE: &str = "..=1";
const TWO: &str = "..k=1 k..=2";
const FOUR: &str = "..d=1 d..k=2 k..p=3 p..=4";

/// control-plane.md §4.8, each trigger with its effect. Those of TiFlash have none here.
#[test]
fn invalidation_and_leader_updates() {
    rows(
        Raw,
        &[
            (
                "InvalidateCachedRegion: ttl −1, the reason is kept, the next lookup loads",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ silence pd
                $ 1 region_not_found
                $ region a
                ~ region 1@1.1 led from store 1, invalid
                $ try a
                = op 2: none
                ",
            ),
            (
                "UpdateLeader, no leader told: the next peer",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ silence pd
                $ 1 not_leader
                $ wait
                ~ 2ms: Backoff
                > 2 PD PdGetStore 3
                $ region a
                ~ region 1@1.1 led from store 1
                ",
            ),
            (
                "UpdateLeader, unknown peer: invalid, and loaded anew",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ silence pd
                $ 1 not_leader 9
                $ region a
                ~ region 1@1.1 led from store 1, invalid
                ",
            ),
            (
                "UpdateLeader, known peer: switched",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 not_leader 3
                > 2 store 3 RawGet a | region 1 retry
                $ region a
                ~ region 1@1.1 led from store 3
                ",
            ),
            (
                "OnSendFail: the store's epoch grows, the next peer",
                ONE,
                "
                $ silence stores
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 refused
                > 2 store 1 HealthCheck
                $ 2 refused
                $ stores
                ~ store 1 at store1:1, epoch 1, unreachable, slow
                $ wait
                ~ 88ms: Backoff
                > 3 store 2 RawGet a | region 1 retry
                ",
            ),
            (
                "OnRegionEpochNotMatch, empty: invalid",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ silence pd
                $ 1 epoch
                $ region a
                ~ region 1@1.1 led from store 1, invalid
                ",
            ),
            (
                "OnRegionEpochNotMatch, the client is ahead: region miss, the same again",
                ONE,
                "
                $ split 1 at d as 2
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 behind
                $ region a
                ~ region 1@1.2 led from store 1
                $ wait
                ~ 2ms: Backoff
                > 2 store 1 RawGet a | region 1 retry
                ",
            ),
            (
                "OnRegionEpochNotMatch, replaced: cached, led from the store that answered, at once",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 not_leader 2
                > 2 store 2 RawGet a | region 1 retry
                $ split 1 at d as 2
                $ 2 epoch 1 2
                > 3 store 2 RawGet a | region 1 retry
                $ region a
                ~ region 1@1.2 led from store 2
                $ region d
                ~ region 2@1.2 led from store 2
                ",
            ),
            (
                "OnBucketVersionNotMatch: newer ones are taken, older ones are not",
                ONE,
                "
                $ buckets 1 5 - c -
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 bucket_version 4 b
                $ region a
                ~ region 1@1.1 led from store 1, buckets 5:  c
                $ wait
                ~ 2ms: Backoff
                > 2 store 1 RawGet a | region 1 retry
                $ 2 bucket_version 6 b d
                $ region a
                ~ region 1@1.1 led from store 1, buckets 6: b d
                ",
            ),
        ],
    );
}

/// control-plane.md §4.9, `UpdateBucketsIfNeeded`.
#[test]
fn buckets_are_fetched_when_newer_ones_were_seen() {
    rows(
        Raw,
        &[
            (
                "the cached are older: fetched by id, once at a time, nobody waits",
                TWO,
                "
                $ locate a
                = region 1@1.1 ..k led from store 1
                $ buckets 1 7 - c g k
                $ silence pd
                $ seen 1 1 0 7
                > 1 PD PdGetRegionById 1
                = op 2: done
                $ seen 1 1 0 7
                = op 3: done
                $ 1 ok
                $ region a
                ~ region 1@1.1 led from store 1, buckets 7:  c g k
                $ seen 1 1 0 7
                = op 4: done
                $ idle
                ~ true
                ",
            ),
            (
                "used older ones than the cached: ignored",
                ONE,
                "
                $ buckets 1 5 - c -
                $ locate a
                = region 1@1.1 .. led from store 1, buckets 5:  c
                $ silence pd
                $ seen 1 1 4 7
                = op 2: done
                $ seen 1 1 5 5
                = op 3: done
                $ seen 1 1 5 7
                > 1 PD PdGetRegionById 1
                = op 4: done
                ",
            ),
            (
                "another version of the region, or an unknown one: ignored",
                ONE,
                "
                $ locate a
                = region 1@1.1 .. led from store 1
                $ silence pd
                $ seen 1 9 0 7
                = op 2: done
                $ seen 9 1 0 7
                = op 3: done
                ",
            ),
            (
                "PD does not know it, or cannot be reached: the next who sees them has it tried again",
                ONE,
                "
                $ locate a
                = region 1@1.1 .. led from store 1
                $ silence pd
                $ seen 1 1 0 7
                > 1 PD PdGetRegionById 1
                = op 2: done
                $ 1 unknown
                $ seen 1 1 0 7
                > 2 PD PdGetRegionById 1
                = op 3: done
                $ 2 no overloaded
                $ seen 1 1 0 7
                > 3 PD PdGetRegionById 1
                = op 4: done
                ",
            ),
            (
                "within the budget of 20 s it is asked again",
                ONE,
                "
                $ locate a
                = region 1@1.1 .. led from store 1
                $ silence pd
                $ seen 1 1 0 7
                > 1 PD PdGetRegionById 1
                = op 2: done
                $ 1 lost
                > 2 PD PdGetMembers
                $ pass 19000
                $ 2 refused
                $ wait
                ~ 19.018s: PdRefresh
                > 3 PD PdGetMembers
                $ 3 ok
                > 4 PD PdGetRegionById 1
                ",
            ),
            (
                "beyond the budget of 20 s it is not",
                ONE,
                "
                $ locate a
                = region 1@1.1 .. led from store 1
                $ silence pd
                $ seen 1 1 0 7
                > 1 PD PdGetRegionById 1
                = op 2: done
                $ 1 lost
                > 2 PD PdGetMembers
                $ pass 20000
                $ 2 refused
                $ wait
                ~ 20.018s: PdRefresh
                $ wait
                ~ nothing to wait for
                $ seen 1 1 0 7
                > 3 PD PdGetMembers
                = op 3: done
                $ 3 ok
                > 4 PD PdGetRegionById 1
                ",
            ),
            (
                "a store that tells no borders: PD is asked",
                ONE,
                "
                $ get a
                > 1 store 1 RawGet a | region 1
                $ buckets 1 7 - c -
                $ silence pd
                $ 1 bucket_version 7
                > 2 PD PdGetRegionById 1
                $ 2 ok
                $ region a
                ~ region 1@1.1 led from store 1, buckets 7:  c
                ",
            ),
            (
                "found on another version of the region: that is cached (insert with invalidation)",
                TWO,
                "
                $ locate a
                = region 1@1.1 ..k led from store 1
                $ split 1 at d as 3
                $ buckets 1 7 - b d
                $ silence pd
                $ seen 1 1 0 7
                > 1 PD PdGetRegionById 1
                = op 2: done
                $ 1 ok
                $ try a
                = op 3: region 1@1.2 ..d led from store 1, buckets 7:  b d
                $ try d
                = op 4: none
                ",
            ),
        ],
    );
}

/// control-plane.md §4.10, full refresh.
#[test]
fn all_regions_are_refreshed() {
    rows(
        Raw,
        &[
            (
                "off: nothing is asked, however long",
                FOUR,
                "
                $ regions ..
                = region 1.1 ..d: ..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..
                $ silence pd
                $ pass 500000
                $ try a
                = op 2: region 1@1.1 ..d led from store 1
                ",
            ),
            (
                "due: a lookup begins it; page by page; users go on; leaders and buckets are PD's",
                FOUR,
                "
                $ set refresh 50
                $ get a
                > 1 store 1 RawGet a | region 1
                $ silence pd
                $ pass 49000
                $ try a
                = op 2: region 1@1.1 ..d led from store 1
                $ pass 1000
                $ pd_limit 2
                $ leader 1 2
                $ buckets 4 9 p t -
                $ try a
                > 2 PD PdBatchScanRegions .. limit 10000
                = op 3: region 1@1.1 ..d led from store 1
                $ try a
                = op 4: region 1@1.1 ..d led from store 1
                $ 2 ok
                > 3 PD PdBatchScanRegions k.. limit 10000
                $ region a
                ~ region 1@1.1 led from store 2
                $ 1 value x
                = op 1: value x
                $ region a
                ~ region 1@1.1 led from store 1
                $ 3 ok
                $ region z
                ~ region 4@1.1 led from store 1, buckets 9: p t
                $ idle
                ~ true
                ",
            ),
            (
                "what the stores have told is newer than PD: it stays",
                ONE,
                "
                $ set refresh 50
                $ pd_lags
                $ locate a
                = region 1@1.1 .. led from store 1
                $ split 1 at d as 2
                $ get a
                > 1 store 1 RawGet a | region 1
                $ 1 epoch 1 2
                > 2 store 1 RawGet a | region 1 retry
                $ silence pd
                $ pass 50000
                $ try a
                > 3 PD PdBatchScanRegions .. limit 10000
                = op 3: region 1@1.2 ..d led from store 1
                $ 2 value x
                = op 2: value x
                $ 3 old
                $ try a
                = op 4: region 1@1.2 ..d led from store 1
                $ try d
                = op 5: region 2@1.2 d.. led from store 1
                ",
            ),
            (
                "merged meanwhile: the one that is no more is gone",
                FOUR,
                "
                $ set refresh 50
                $ regions ..
                = region 1.1 ..d: ..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..
                $ merge 1
                $ pass 50000
                $ try a
                = op 2: region 1@1.1 ..d led from store 1
                $ try d
                = op 3: region 1@1.2 ..k led from store 1
                $ locate_id 2
                = op 4: RegionUnavailable: region 2: PD knows none of this id
                ",
            ),
            (
                "given up for want of leaders; the next one is due an interval after this one",
                FOUR,
                "
                $ set refresh 1
                $ regions ..
                = region 1.1 ..d: ..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..
                $ silence pd
                $ pass 1000
                $ try a
                > 1 PD PdBatchScanRegions .. limit 10000
                = op 2: region 1@1.1 ..d led from store 1
                $ 1 empty
                $ pass 999
                $ try a
                = op 3: region 1@1.1 ..d led from store 1
                $ wait
                ~ 1.416s: Backoff
                > 2 PD PdBatchScanRegions .. limit 10000
                $ 2 empty
                $ wait
                ~ 2.813s: Backoff
                > 3 PD PdBatchScanRegions .. limit 10000
                $ 3 empty
                $ wait
                ~ 4.667s: Backoff
                > 4 PD PdBatchScanRegions .. limit 10000
                $ 4 empty
                $ try a
                > 5 PD PdBatchScanRegions .. limit 10000
                = op 4: region 1@1.1 ..d led from store 1
                ",
            ),
            (
                "PD refuses: known regions are used as before",
                FOUR,
                "
                $ set refresh 50
                $ locate a
                = region 1@1.1 ..d led from store 1
                $ silence pd
                $ pass 50000
                $ try a
                > 1 PD PdBatchScanRegions .. limit 10000
                = op 2: region 1@1.1 ..d led from store 1
                $ 1 no overloaded
                $ try a
                = op 3: region 1@1.1 ..d led from store 1
                ",
            ),
            (
                "an older PD: by scanRegions; one that tells single regions only: not at all",
                FOUR,
                "
                $ set refresh 25
                $ locate a
                = region 1@1.1 ..d led from store 1
                $ silence pd
                $ pass 25000
                $ try a
                > 1 PD PdBatchScanRegions .. limit 10000
                = op 2: region 1@1.1 ..d led from store 1
                $ 1 status 12 unknown method
                > 2 PD PdScanRegions .. limit 10000
                $ 2 ok
                $ try z
                = op 3: region 4@1.1 p.. led from store 1
                $ pass 25000
                $ try z
                > 3 PD PdScanRegions .. limit 10000
                = op 4: region 4@1.1 p.. led from store 1
                $ 3 status 12 unknown method
                $ pass 25000
                $ try z
                = op 5: region 4@1.1 p.. led from store 1
                ",
            ),
        ],
    );
}
