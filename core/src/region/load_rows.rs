//! The tables of `control-plane.md` §4.6 and §4.7, row by row: how regions are loaded, and what ranges and
//! keys are cut and grouped into.
//!
//! Where the reference backs off and asks for many again, because there was nothing, a gap, or no leader,
//! here the one that is missing is asked for alone: that question backs off, and whoever only wanted
//! others goes on.

use anatase_proto::pdpb::BatchScanRegionsRequest;

use crate::KeyMode::Raw;
use crate::story::{Story, rows};
use crate::{Key, KeyRange, Operation, next_key};

const ONE: &str = "..=1";
const TWO: &str = "..k=1 k..=2";
const FOUR: &str = "..d=1 d..k=2 k..p=3 p..=4";

/// control-plane.md §4.6, each loop with its options, its retries, what ends it.
#[test]
fn load_loops() {
    rows(
        Raw,
        &[
            (
                "loadRegion(key), attempt 0 by a follower, later ones by the leader",
                ONE,
                "
                $ set followers
                $ members 2
                $ ready
                = done
                $ silence pd
                $ locate a
                > 1 PD 2 itself PdGetRegion a
                $ 1 lost
                > 2 PD PdGetMembers
                > 3 PD PdGetRegion a
                $ 2 ok
                $ 3 ok
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "loadRegion(key), no region: backs off",
                ONE,
                "
                $ ready
                = done
                $ silence pd
                $ locate a
                > 1 PD PdGetRegion a
                $ 1 unknown
                $ wait
                ~ 358ms: Backoff
                > 2 PD PdGetRegion a
                $ 2 ok
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "loadRegion(key), a region without replicas: an error, not tried again",
                ONE,
                "
                $ ready
                = done
                $ silence pd
                $ locate a
                > 1 PD PdGetRegion a
                $ 1 peerless
                = op 2: Protocol: the server sent what it cannot: a region without id, epoch or replica
                ",
            ),
            (
                "loadRegion(end key), the region starts there: the one before it, from the leader",
                TWO,
                "
                $ set followers
                $ members 2
                $ ready
                = done
                $ silence pd
                $ locate_end k
                > 1 PD 2 itself PdGetRegion k
                $ 1 ok
                > 2 PD PdGetPrevRegion k
                $ 2 ok
                = op 2: region 1@1.1 ..k led from store 1
                ",
            ),
            (
                "loadRegionByID, no region: an error at once",
                ONE,
                "
                $ ready
                = done
                $ silence pd
                $ locate_id 2
                > 1 PD PdGetRegionById 2
                $ 1 ok
                = op 2: RegionUnavailable: region 2: PD knows none of this id
                ",
            ),
            (
                "loadRegionByID, an error of the connection: backs off",
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
                $ 3 lost
                > 4 PD PdGetMembers
                $ 4 ok
                $ wait
                ~ 358ms: Backoff
                > 5 PD PdGetRegionById 1
                $ 5 ok
                = op 2: region 1@1.1 .. led from store 1
                ",
            ),
            (
                "batchScanRegions, by a follower; empty: by the leader; empty: the one alone",
                FOUR,
                "
                $ set followers
                $ members 2
                $ ready
                = done
                $ silence pd
                $ regions a..z
                > 1 PD 2 itself PdBatchScanRegions a..z limit 128
                $ 1 empty
                > 2 PD PdBatchScanRegions a..z limit 128
                $ 2 empty
                > 3 PD PdGetRegion a
                $ 3 ok
                > 4 PD PdBatchScanRegions d..z limit 128
                $ 4 ok
                = op 2: region 1.1 ..d: a..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..z
                ",
            ),
            (
                "batchScanRegions, a gap: the one alone, the rest together",
                FOUR,
                "
                $ ready
                = done
                $ silence pd
                $ regions a..z
                > 1 PD PdBatchScanRegions a..z limit 128
                $ 1 gap
                > 2 PD PdGetRegion a
                $ 2 ok
                > 3 PD PdBatchScanRegions d..z limit 128
                $ 3 ok
                = op 2: region 1.1 ..d: a..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..z
                ",
            ),
            (
                "batchScanRegions, a leaderless region is left out and asked for alone",
                FOUR,
                "
                $ ready
                = done
                $ leader 2 0
                $ silence pd
                $ regions a..z
                > 1 PD PdBatchScanRegions a..z limit 128
                $ 1 ok
                > 2 PD PdBatchScanRegions d..z limit 128
                $ 2 ok
                > 3 PD PdGetRegion d
                $ 3 ok
                = op 2: region 1.1 ..d: a..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..z
                ",
            ),
            (
                "batchScanRegions, cut off at the limit: from there on",
                FOUR,
                "
                $ ready
                = done
                $ pd_limit 2
                $ silence pd
                $ regions a..b e..f l..m q..
                > 1 PD PdBatchScanRegions a..b e..f l..m q.. limit 128
                $ 1 ok
                > 2 PD PdBatchScanRegions l..m q.. limit 128
                $ 2 ok
                = op 2: region 1.1 ..d: a..b, region 2.1 d..k: e..f, region 3.1 k..p: l..m, region 4.1 p..: q..
                ",
            ),
            (
                "batchScanRegions, unknown: each range by scanRegions; unknown: one by one",
                FOUR,
                "
                $ ready
                = done
                $ silence pd
                $ regions a..b e..f
                > 1 PD PdBatchScanRegions a..b e..f limit 128
                $ 1 status 12 unknown method
                > 2 PD PdScanRegions a..b limit 128
                $ 2 ok
                > 3 PD PdScanRegions e..f limit 128
                $ 3 ok
                = op 2: region 1.1 ..d: a..b, region 2.1 d..k: e..f
                $ regions l..m
                > 4 PD PdScanRegions l..m limit 128
                $ 4 status 12 unknown method
                > 5 PD PdGetRegion l
                $ 5 ok
                = op 3: region 3.1 k..p: l..m
                ",
            ),
            (
                "scanRegions, by a follower; empty: by the leader",
                FOUR,
                "
                $ set followers
                $ members 2
                $ ready
                = done
                $ silence pd
                $ regions a..b
                > 1 PD 2 itself PdBatchScanRegions a..b limit 128
                $ 1 status 12 unknown method
                > 2 PD PdScanRegions a..b limit 128
                $ 2 ok
                = op 2: region 1.1 ..d: a..b
                $ regions e..f
                > 3 PD 2 itself PdScanRegions e..f limit 128
                $ 3 empty
                > 4 PD PdScanRegions e..f limit 128
                $ 4 ok
                = op 3: region 2.1 d..k: e..f
                ",
            ),
            (
                "batchScanRegions, refused: the one alone, refused: an error",
                FOUR,
                "
                $ ready
                = done
                $ silence pd
                $ regions a..z
                > 1 PD PdBatchScanRegions a..z limit 128
                $ 1 no overloaded
                > 2 PD PdGetRegion a
                $ 2 no overloaded
                = op 2: PdRefused: PD answered UNKNOWN: overloaded
                ",
            ),
            (
                "batchScanRegions without any PD: what was given up for want of answers is used",
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
                $ regions a..z
                > 7 PD PdBatchScanRegions a..z limit 128
                $ 7 lost
                > 8 PD PdGetMembers
                $ 8 refused
                $ wait
                ~ 294ms: PdRefresh
                > 9 PD PdGetMembers
                $ 9 refused
                = op 2: region 1.1 ..: a..z
                ",
            ),
            (
                "§14.5: a breaker that is open holds questions by id as well",
                ONE,
                "
                $ set breaker 50
                $ ready
                = done
                $ silence pd
                $ locate_id 1
                > 1 PD PdGetRegionById 1
                $ 1 status 8 overloaded
                > 2 PD PdGetMembers
                $ 2 ok
                > 3 PD PdGetRegionById 1
                $ pass 30000
                $ 3 status 8 overloaded
                > 4 PD PdGetMembers
                $ 4 ok
                $ wait
                ~ 30.358s: Backoff
                $ stats refusals
                ~ refusals 1
                ",
            ),
        ],
    );
}

/// control-plane.md §4.6: what one question holds at most.
#[test]
fn constants_of_the_load_loops() {
    let one = |n: usize| Key::from(format!("{n:05}"));
    let keys: Vec<Key> = (0..5_000).rev().map(one).collect();
    let ranges = |keys: &[Key]| {
        let range = |key: &Key| KeyRange::new(key.clone(), next_key(key));
        keys.iter().rev().map(range).collect()
    };
    for (row, operation) in [
        ("ranges", Operation::Regions { ranges: ranges(&keys) }),
        ("keys", Operation::GroupKeys { keys: keys.clone() }),
    ] {
        let mut story = Story::new(Raw, "..=1");
        story.play("ready");
        story.pd_is_silent = true;
        story.submit(operation, story.patience);
        let asked: BatchScanRegionsRequest = story.call(1).request.message().expect("a scan");
        assert_eq!((asked.ranges.len(), asked.limit), (2_048, 128), "{row}");
        assert!(asked.contain_all_key_range && asked.need_buckets, "{row}");
        assert_eq!(asked.ranges[0].start_key, one(0), "{row}");
        // All lie in the one region that is told.
        assert!(story.play("1 ok").contains("\n= op 2: region 1"), "{row}");
    }
    // Where it is told less, the next question begins with what is left.
    let mut story = Story::new(Raw, "..01=1 01..=2");
    story.play("ready");
    story.pd_is_silent = true;
    story.pd_limit = Some(1);
    story.submit(Operation::Regions { ranges: ranges(&keys) }, story.patience);
    story.play("1 ok");
    let asked: BatchScanRegionsRequest = story.call(2).request.message().expect("a scan");
    assert_eq!((asked.ranges.len(), &asked.ranges[0].start_key), (2_048, &one(1_000)));
}

/// control-plane.md §4.7.
#[test]
fn range_helpers() {
    rows(
        Raw,
        &[
            (
                "LocateKeyRange: what is cached, then what is missing at once",
                FOUR,
                "
                $ locate a
                = region 1@1.1 ..d led from store 1
                $ silence pd
                $ regions b..q
                > 1 PD PdBatchScanRegions d..q limit 128
                $ 1 ok
                = op 2: region 1.1 ..d: b..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..q
                $ regions ..
                = op 3: region 1.1 ..d: ..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..
                ",
            ),
            (
                "BatchLocateKeyRanges: cached and loaded ones in order, a hole in the middle",
                FOUR,
                "
                $ locate a
                = region 1@1.1 ..d led from store 1
                $ locate q
                = op 2: region 4@1.1 p.. led from store 1
                $ silence pd
                $ regions a..b c..e l..m r..
                > 1 PD PdBatchScanRegions d..e l..m r.. limit 128
                $ 1 ok
                = op 3: region 1.1 ..d: a..b c..d, region 2.1 d..k: d..e, region 3.1 k..p: l..m, region 4.1 p..: r..
                ",
            ),
            (
                "BatchLocateKeyRanges: ranges in any order, and overlapping",
                FOUR,
                "
                $ ready
                = done
                $ silence pd
                $ regions l..m a..e c..
                > 1 PD PdBatchScanRegions l..m limit 128
                $ 1 ok
                > 2 PD PdBatchScanRegions a..e limit 128
                $ 2 ok
                > 3 PD PdBatchScanRegions p.. limit 128
                $ 3 ok
                = op 2: region 3.1 k..p: l..m, region 1.1 ..d: a..d, region 2.1 d..k: d..e, region 1.1 ..d: c..d, region 2.1 d..k: d..k, region 3.1 k..p: k..p, region 4.1 p..: p..
                ",
            ),
            (
                "GroupKeysByRegion: each key once asked for, given as often as asked",
                FOUR,
                "
                $ ready
                = done
                $ silence pd
                $ keys q a l b a
                > 1 PD PdBatchScanRegions a..a<00> b..b<00> l..l<00> q..q<00> limit 128
                $ 1 ok
                = op 2: region 1: a b a, region 3: l, region 4: q
                $ keys
                = op 3:
                ",
            ),
            (
                "GroupKeysByRegion, after a split and a merge",
                FOUR,
                "
                $ keys a b q
                = region 1: a b, region 4: q
                $ split 1 at b as 5
                $ get b
                > 1 store 1 RawGet b | region 1
                $ 1 epoch 1 5
                > 2 store 1 RawGet b | region 5 retry
                $ keys a b q
                = op 3: region 1: a, region 5: b, region 4: q
                $ merge 1
                $ get b
                > 3 store 1 RawGet b | region 5
                $ 2 epoch 1
                > 4 store 1 RawGet b | region 1 retry
                $ keys a b q
                = op 5: region 1: a b, region 4: q
                ",
            ),
            (
                "cancelled: the question is withdrawn",
                FOUR,
                "
                $ ready
                = done
                $ silence pd
                $ regions a..z
                > 1 PD PdBatchScanRegions a..z limit 128
                $ cancel 2
                ~ Stopped
                x 1
                $ locate_id 3
                > 2 PD PdGetRegionById 3
                $ cancel 3
                ~ Stopped
                x 2
                $ idle
                ~ true
                ",
            ),
        ],
    );
}
