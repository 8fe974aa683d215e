//! Leaders that move and answers of PD, told (`control-plane.md` §14.1, §14.2, §14.5).

use crate::KeyMode::Raw;
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
