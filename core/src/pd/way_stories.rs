//! Ways that break, members that are not well, followers that answer, told (`control-plane.md` §14.1,
//! §14.2).

use crate::KeyMode::{Raw, Txn};
use crate::story::story;

const ONE: &str = "..=1";

/// control-plane.md §14.1, wire.md §7.2: a follower that does not know a region is left out for ten seconds, and the leader is
/// asked at once.
#[test]
fn a_follower_that_knows_no_region() {
    story(
        Raw,
        "..d=1 d..h=2 h..m=3 m..p=4 p..=5",
        "
        $ set followers
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD 2 itself PdGetRegion a
        $ 1 unknown
        > 2 PD PdGetRegion a
        $ 2 ok
        > 3 PD PdGetStore 1
        $ 3 ok
        > 4 store 1 RawGet a | region 1
        $ get e
        > 5 PD PdGetRegion e
        $ 5 ok
        > 6 store 1 RawGet e | region 2
        $ get i
        > 7 PD PdGetRegion i
        $ 7 ok
        > 8 store 1 RawGet i | region 3
        $ pass 9999
        $ get n
        > 9 PD HealthCheck
        > 10 PD 2 HealthCheck
        > 11 PD PdGetRegion n
        $ 9 serving
        $ 10 serving
        $ 11 ok
        > 12 store 1 RawGet n | region 4
        $ pass 1
        $ get q
        > 13 PD 2 itself PdGetRegion q
        $ stats misses failures
        ~ misses 1, failures 0
        ",
    );
}

/// Any error of a follower's sends the question to the leader, once and at once.
#[test]
fn a_follower_that_fails() {
    story(
        Raw,
        "..d=1 d..=2",
        "
        $ set followers
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD 2 itself PdGetRegion a
        $ 1 lost
        > 2 PD PdGetMembers
        > 3 PD PdGetRegion a
        $ 2 names 1
        $ 3 ok
        > 4 PD PdGetStore 1
        $ get e
        > 5 PD PdGetRegion e
        ",
    );
}

/// §14.1: the leader cannot be reached from here, and a follower can: questions and timestamps go
/// through it, until a look at the leader, one a second, succeeds.
#[test]
fn an_unreachable_leader_is_asked_through_a_follower() {
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
        $ tget k @900.1
        > 4 PD 2 for 1 PdGetRegion k<00><00><00><00><00><00><00><f8>
        $ 4 ok
        > 5 PD 2 for 1 PdGetStore 1
        $ pass 1000
        $ tso
        > 6 PD HealthCheck
        > 7 PD 2 HealthCheck
        > 8 PD 3 HealthCheck
        > 9 PD 2 for 1 Tso 1
        $ 6 refused
        $ 7 serving
        $ 8 serving
        $ 9 ok
        = op 4: @2000.2
        $ pass 1000
        $ tso
        > 10 PD HealthCheck
        > 11 PD 2 HealthCheck
        > 12 PD 3 HealthCheck
        > 13 PD 2 for 1 Tso 1
        $ 10 serving
        $ external
        > 14 PD PdGetExternalTimestamp
        $ 13 ok
        = op 5: @3000.3
        ",
    );
}

/// A follower that cannot reach the leader either: another one is tried.
#[test]
fn a_follower_that_cannot_forward() {
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
        $ 3 status 14 cannot connect to the leader
        > 4 PD 3 PdGetMembers
        $ 4 names 1
        $ wait
        ~ 358ms: Backoff
        > 5 PD 3 for 1 Tso 1
        $ 5 ok
        = op 2: @1358.1
        ",
    );
}

/// A silent look is given up after a second, a follower's after a third of it, and costs nobody anything;
/// a client that asks nothing more looks at nobody.
#[test]
fn a_silent_look_at_the_leader() {
    story(
        Txn,
        ONE,
        "
        $ set forwarding
        $ members 2
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
        $ pass 1000
        $ tso
        > 4 PD HealthCheck
        > 5 PD 2 HealthCheck
        > 6 PD 2 for 1 Tso 1
        $ 6 ok
        = op 3: @2000.2
        $ wait
        ~ 1s: PdRefresh
        $ wait
        ~ 1.333s: AttemptTimeout
        x 5
        $ wait
        ~ 2s: AttemptTimeout
        x 4
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// control-plane.md §14.1, health: a leader that takes what it is sent and says nothing is found out
/// within two seconds, not when the call has used up its three; what waits there goes another way.
#[test]
fn a_frozen_leader_is_found_out_by_its_health() {
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
        $ wait
        ~ 1s: PdRefresh
        > 2 PD HealthCheck
        > 3 PD 2 HealthCheck
        > 4 PD 3 HealthCheck
        $ 4 serving
        $ 3 not_serving
        $ wait
        ~ 2s: AttemptTimeout
        x 2
        x 1
        > 5 PD HealthCheck
        > 6 PD 2 HealthCheck
        > 7 PD 3 HealthCheck
        > 8 PD 3 for 1 Tso 1
        $ 8 ok
        = op 2: @3000.1
        $ stats failures
        ~ failures 1
        ",
    );
}

/// control-plane.md §14.1, health: a follower that is not well is asked about no region, until it is again.
#[test]
fn a_follower_that_is_not_well_is_not_asked() {
    story(
        Raw,
        "..d=1 d..h=2 h..m=3 m..p=4 p..=5",
        "
        $ set followers
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD 2 itself PdGetRegion a
        $ 1 ok
        > 2 PD PdGetStore 1
        $ 2 ok
        > 3 store 1 RawGet a | region 1
        $ pass 1000
        $ get e
        > 4 PD HealthCheck
        > 5 PD 2 HealthCheck
        > 6 PD PdGetRegion e
        $ 4 serving
        $ 5 status 14 going down
        $ 6 ok
        > 7 store 1 RawGet e | region 2
        $ get i
        > 8 PD PdGetRegion i
        $ 8 ok
        > 9 store 1 RawGet i | region 3
        $ pass 1000
        $ get n
        > 10 PD HealthCheck
        > 11 PD 2 HealthCheck
        > 12 PD PdGetRegion n
        $ 11 status 12 no such service
        $ 12 ok
        > 13 store 1 RawGet n | region 4
        $ get q
        > 14 PD 2 itself PdGetRegion q
        ",
    );
}

/// Where it would change nothing nobody is looked at: by default, however long PD is asked.
#[test]
fn by_default_no_member_is_looked_at() {
    story(
        Txn,
        ONE,
        "
        $ members 3
        $ ready
        = done
        $ silence pd
        $ tso
        > 1 PD Tso 1
        $ pass 2000
        $ tso
        $ 1 ok
        > 2 PD Tso 1
        = op 2: @3000.1
        $ wait
        ~ 5s: AttemptTimeout
        x 2
        > 3 PD 2 PdGetMembers
        ",
    );
}

/// Forwarding is off by default: the leader is asked again when somebody names it.
#[test]
fn without_forwarding_the_way_is_direct() {
    story(
        Txn,
        ONE,
        "
        $ members 2
        $ ready
        = done
        $ silence pd
        $ tso
        > 1 PD Tso 1
        $ 1 refused
        > 2 PD 2 PdGetMembers
        $ 2 names 1
        > 3 PD Tso 1
        $ 3 ok
        = op 2: @1000.1
        ",
    );
}
