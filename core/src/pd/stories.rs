//! Leaders that move, ways that break, followers that answer, told (`control-plane.md` §14.1, §14.2).

use crate::KeyMode::{Raw, Txn};
use crate::story::story;

const ONE: &str = "..=1";

/// §14.1: whatever the words in which a member says that it does not lead, it costs one discovery, and
/// the question goes to the new leader without a pause.
#[test]
fn each_text_of_a_leader_change_costs_one_discovery() {
    for text in [
        "status 14 not leader",
        "status 14 no leader",
        "status 2 requested pd is not leader of cluster",
        "status 2 keyspace group 0 is not served by this host",
        "status 2 the server is not primary",
        "status 2 mismatch callee id, need a:1 but got b:1",
    ] {
        let told = format!(
            "
            $ members 2
            $ silence pd
            $ ready
            > 1 PD PdGetMembers
            $ 1 names 1
            = done
            $ get a
            > 2 PD PdGetRegion a
            $ 2 {text}
            > 3 PD PdGetMembers
            $ 3 names 2
            > 4 PD 2 PdGetRegion a
            $ 4 ok
            > 5 PD 2 PdGetStore 1
            "
        );
        story(Raw, ONE, &told);
    }
}

/// However many calls fail together, the leader is looked for once; and one that fails late, after the
/// new leader was found, starts nothing.
#[test]
fn a_discovery_is_single_flight() {
    story(
        Raw,
        "..d=1 d..=2",
        "
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ tso
        > 2 PD Tso 1
        $ 1 status 14 not leader
        > 3 PD PdGetMembers
        $ 3 lost
        > 4 PD 2 PdGetMembers
        $ 4 names 2
        > 5 PD 2 PdGetRegion a
        $ 2 status 14 not leader
        > 6 PD 2 Tso 1
        ",
    );
}

/// Members disagree: one that has said that it does not lead is believed, whoever still names it, as
/// long as somebody names another.
#[test]
fn members_that_disagree_on_the_leader() {
    story(
        Raw,
        ONE,
        "
        $ members 3
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 status 14 not leader
        > 2 PD PdGetMembers
        $ 2 names 1
        > 3 PD 2 PdGetMembers
        $ 3 names 1
        > 4 PD 3 PdGetMembers
        $ 4 names 3
        > 5 PD 3 PdGetRegion a
        $ 5 ok
        > 6 PD 3 PdGetStore 1
        ",
    );
}

/// If all name it all the same, it is asked again, after a short pause.
#[test]
fn a_leader_that_denies_and_is_named_by_all() {
    story(
        Raw,
        ONE,
        "
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 status 14 not leader
        > 2 PD PdGetMembers
        $ 2 names 1
        > 3 PD 2 PdGetMembers
        $ 3 names 1
        > 4 PD PdGetRegion a
        $ 4 status 14 not leader
        > 5 PD PdGetMembers
        $ 5 names 1
        > 6 PD 2 PdGetMembers
        $ 6 names 1
        $ wait
        ~ 100ms: Backoff
        > 7 PD PdGetRegion a
        $ 7 ok
        > 8 PD PdGetStore 1
        ",
    );
}

/// An election takes its time: members name nobody, and are asked again and again.
#[test]
fn an_election() {
    story(
        Raw,
        ONE,
        "
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 status 14 no leader
        > 2 PD PdGetMembers
        $ 2 names none
        > 3 PD 2 PdGetMembers
        $ 3 names none
        $ wait
        ~ 14ms: PdRefresh
        > 4 PD PdGetMembers
        $ 4 names none
        > 5 PD 2 PdGetMembers
        $ 5 names 2
        > 6 PD 2 PdGetRegion a
        ",
    );
}

/// A member of another cluster is not listened to, whomever it names.
#[test]
fn a_member_of_another_cluster_is_ignored() {
    story(
        Raw,
        ONE,
        "
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 status 14 not leader
        > 2 PD PdGetMembers
        $ 2 names 2 of cluster 10
        > 3 PD 2 PdGetMembers
        $ 3 names 2
        > 4 PD 2 PdGetRegion a
        ",
    );
}

/// Members come and go; seeds are asked when no member answers, and members are refreshed by use once
/// a minute, while nobody waits for it.
#[test]
fn members_are_refreshed_by_use() {
    story(
        Raw,
        ONE,
        "
        $ ready
        = done
        $ silence pd
        $ pass 59999
        $ get a
        > 1 PD PdGetRegion a
        $ members 2
        $ pass 1
        $ tso
        > 2 PD PdGetMembers
        > 3 PD Tso 1
        $ 2 names 2
        $ tso
        $ 3 ok
        > 4 PD 2 Tso 1
        = op 3: @61000.1
        ",
    );
}

/// peers.md D21: a PD that takes a question and says nothing is waited for three seconds; then the
/// next member is asked who leads.
#[test]
fn d21_a_silent_pd_is_given_up() {
    story(
        Raw,
        ONE,
        "
        $ members 2
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ wait
        ~ 3s: AttemptTimeout
        x 1
        > 2 PD 2 PdGetMembers
        $ 2 names 2
        > 3 PD 2 PdGetRegion a
        $ 3 ok
        > 4 PD 2 PdGetStore 1
        $ 1 ok
        $ stats stray
        ~ stray 1
        ",
    );
}

/// peers.md D24: an error in the header is PD's own word: no discovery, no second attempt.
#[test]
fn d24_an_error_in_the_header_is_final() {
    story(
        Raw,
        ONE,
        "
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 no you may not look
        = op 2: PdRefused: PD answered UNKNOWN: you may not look
        $ stats failures
        ~ failures 0
        ",
    );
}

/// A region that PD does not know yet is asked for again, after a pause, and PD is not doubted.
#[test]
fn an_unknown_region_is_asked_for_again() {
    story(
        Raw,
        ONE,
        "
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 unknown
        $ wait
        ~ 358ms: Backoff
        > 2 PD PdGetRegion a
        $ 2 ok
        > 3 PD PdGetStore 1
        $ stats failures
        ~ failures 0
        ",
    );
}

/// cases RGC-33: a PD that lags behind what the stores have told replaces nothing newer; it is asked
/// once more, and then the caller waits.
#[test]
fn rgc_33_a_late_answer_does_not_replace_newer_regions() {
    story(
        Raw,
        ONE,
        "
        $ get z
        > 1 store 1 RawGet z | region 1
        $ pd_lags
        $ split 1 at k as 2
        $ silence pd
        $ 1 epoch 1
        > 2 PD PdGetRegion z
        $ 2 old
        > 3 PD PdGetRegion z
        $ 3 old
        $ wait
        ~ 2ms: Backoff
        > 4 PD PdGetRegion z
        $ 4 old
        > 5 PD PdGetRegion z
        $ 5 ok
        $ wait
        ~ 6ms: Backoff
        > 6 PD PdGetRegion z
        $ pd_catches_up
        $ 6 ok
        > 7 store 1 RawGet z | region 2 retry
        $ 7 value x
        = value x
        ",
    );
}

/// cases RGC-34: a follower's answer that is out of date is checked with the leader.
#[test]
fn rgc_34_a_stale_answer_of_a_follower_is_checked_with_the_leader() {
    story(
        Raw,
        ONE,
        "
        $ set followers
        $ members 3
        $ get z
        > 1 store 1 RawGet z | region 1
        $ pd_lags
        $ split 1 at k as 2
        $ silence pd
        $ 1 epoch 1
        > 2 PD 3 itself PdGetRegion z
        $ 2 old
        > 3 PD PdGetRegion z
        $ pd_catches_up
        $ 3 ok
        > 4 store 1 RawGet z | region 2 retry
        ",
    );
}

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

/// §14.5, §4.6 (a window of 30 s, then 10 s open), disabled by default: with a threshold a PD that shows signs of overload is left alone.
#[test]
fn an_overloaded_pd_is_left_alone() {
    story(
        Raw,
        "..d=1 d..=2",
        "
        $ set breaker 50
        $ ready
        = done
        $ silence pd
        $ get a
        > 1 PD PdGetRegion a
        $ 1 status 8 slow down
        > 2 PD PdGetMembers
        $ 2 names 1
        > 3 PD PdGetRegion a
        $ pass 30000
        $ 3 status 8 slow down
        > 4 PD PdGetMembers
        $ 4 names 1
        $ wait
        ~ 30.358s: Backoff
        $ wait
        ~ 31.275s: Backoff
        $ wait
        ~ 32.549s: Backoff
        $ wait
        ~ 35.146s: Backoff
        $ wait
        ~ 37.646s: Backoff
        $ stats refusals
        ~ refusals 5
        $ wait
        ~ 40.088s: Backoff
        $ wait
        ~ 42.869s: Backoff
        > 5 PD PdGetRegion a
        $ 5 ok
        > 6 PD PdGetStore 1
        ",
    );
}
