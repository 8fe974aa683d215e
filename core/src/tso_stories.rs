//! Timestamps, told (`control-plane.md` §14.3).

use crate::KeyMode::Txn;
use crate::story::story;

const ONE: &str = "..=1";

/// control-plane.md §14.3.
/// With a concurrency of 2 four requests are on their way; what comes on top waits for the first of
/// them and then goes together.
#[test]
fn requests_are_pipelined() {
    story(
        Txn,
        ONE,
        "
        $ set concurrency 2
        $ ready
        = done
        $ silence tso
        $ many 7 tso
        > 1 PD Tso 1
        > 2 PD Tso 1
        > 3 PD Tso 1
        > 4 PD Tso 1
        $ 1 ok
        > 5 PD Tso 3
        = op 2: @1000.1
        $ 2 ok
        = op 3: @1000.2
        $ 3 ok
        = op 4: @1000.3
        $ 4 ok
        = op 5: @1000.4
        $ 5 ok
        = op 6: @1000.5
        = op 7: @1000.6
        = op 8: @1000.7
        $ stats batches timestamps largest
        ~ batches 5, timestamps 7, largest 3
        $ idle
        ~ true
        ",
    );
}

/// control-plane.md §14.3.
/// A request asks for no more than the largest number allowed; who is left over goes with the next.
#[test]
fn a_batch_is_limited() {
    story(
        Txn,
        ONE,
        "
        $ set batch 3
        $ ready
        = done
        $ silence tso
        $ many 5 tso
        > 1 PD Tso 1
        $ 1 ok
        > 2 PD Tso 3
        = op 2: @1000.1
        $ 2 ok
        > 3 PD Tso 1
        = op 3: @1000.2
        = op 4: @1000.3
        = op 5: @1000.4
        $ 3 ok
        = op 6: @1000.5
        ",
    );
}

/// control-plane.md §14.3.
/// PD takes no more than 10 000 at once.
#[test]
fn ten_thousand_go_together() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ many 20002 tso
        > 1 PD Tso 1
        $ 1 lost
        > 2 PD Tso 10000
        $ stats largest
        ~ largest 10000
        ",
    );
}

/// control-plane.md §14.3, maximal batch wait: a request waits for company until eight have come, or for as
/// long as was set; how many are enough follows how many came. There is one request at a time.
#[test]
fn whoever_wants_a_timestamp_may_wait_for_company() {
    story(
        Txn,
        ONE,
        "
        $ set concurrency 5
        $ set company 5
        $ ready
        = done
        $ silence tso
        $ many 7 tso
        $ tso
        > 1 PD Tso 8
        $ tso
        $ 1 @1000.8
        = op 2: @1000.1
        = op 3: @1000.2
        = op 4: @1000.3
        = op 5: @1000.4
        = op 6: @1000.5
        = op 7: @1000.6
        = op 8: @1000.7
        = op 9: @1000.8
        $ wait
        ~ 5ms: Batch
        > 2 PD Tso 1
        $ many 7 tso
        $ 2 @1005.9
        > 3 PD Tso 7
        = op 10: @1005.9
        ",
    );
}

/// Company that went away again is not waited for; and who comes after it waits anew.
#[test]
fn company_that_goes_away() {
    story(
        Txn,
        ONE,
        "
        $ set company 5
        $ ready
        = done
        $ silence tso
        $ tso
        $ cancel 2
        ~ Stopped
        $ wait
        ~ 5ms: Batch
        $ wait
        ~ nothing to wait for
        $ tso
        $ wait
        ~ 10ms: Batch
        > 1 PD Tso 1
        $ 1 ok
        = op 3: @1010.1
        ",
    );
}

/// control-plane.md §14.3, follower proxy: timestamps go through a member drawn at random. One that cannot
/// is left out for ten seconds, and nobody is doubted for it; but the word that the leader has moved counts.
#[test]
fn timestamps_through_any_member() {
    story(
        Txn,
        ONE,
        "
        $ set proxy
        $ members 3
        $ ready
        = done
        $ silence pd
        $ many 4 tso
        > 1 PD 2 for 1 Tso 1
        $ 1 ok
        > 2 PD 3 for 1 Tso 3
        = op 2: @1000.1
        $ 2 status 14 cannot connect to the leader
        > 3 PD Tso 3
        $ 3 ok
        = op 3: @1000.2
        = op 4: @1000.3
        = op 5: @1000.4
        $ tso
        > 4 PD 2 for 1 Tso 1
        $ 4 status 14 not leader
        > 5 PD PdGetMembers
        ",
    );
}

/// cases TSO-10: a stream that breaks is one failure, however many requests were on it: the leader is
/// looked for once, and everybody keeps their place in line.
#[test]
fn tso_10_a_stream_that_breaks_fails_all_on_it_once() {
    story(
        Txn,
        ONE,
        "
        $ set concurrency 2
        $ ready
        = done
        $ silence pd
        $ many 6 tso
        > 1 PD Tso 1
        > 2 PD Tso 1
        > 3 PD Tso 1
        > 4 PD Tso 1
        $ 2 lost
        x 1
        x 3
        x 4
        > 5 PD PdGetMembers
        $ 1 lost
        $ 5 ok
        > 6 PD Tso 6
        $ stats failures stray
        ~ failures 1, stray 1
        $ 6 ok
        = op 2: @1000.1
        = op 3: @1000.2
        = op 4: @1000.3
        = op 5: @1000.4
        = op 6: @1000.5
        = op 7: @1000.6
        ",
    );
}

/// Two streams, the old leader's and the new one's, answer in any order. Each answer is measured by
/// what was known when its request left: both are right, and nobody gets a timestamp twice.
#[test]
fn answers_of_two_streams_come_in_any_order() {
    story(
        Txn,
        ONE,
        "
        $ set concurrency 2
        $ members 2
        $ ready
        = done
        $ silence pd
        $ tso
        > 1 PD Tso 1
        $ pass 60000
        $ pd_leader 2
        $ tso
        > 2 PD PdGetMembers
        > 3 PD Tso 1
        $ 2 ok
        $ tso
        > 4 PD 2 Tso 1
        $ 4 @70000.9
        = op 4: @70000.9
        $ 1 @1000.5
        = op 2: @1000.5
        $ low
        = op 5: @70000.9
        ",
    );
}

/// control-plane.md §14.3 (there the process ends).
/// cases TSO-07, TSO-10: timestamps that went back are given to nobody, and the leader is doubted.
#[test]
fn tso_10_timestamps_that_go_back_are_refused() {
    story(
        Txn,
        ONE,
        "
        $ set concurrency 2
        $ members 2
        $ ready
        = done
        $ silence pd
        $ tso
        > 1 PD Tso 1
        $ 1 @2000.9
        = op 2: @2000.9
        $ many 3 tso
        > 2 PD Tso 1
        > 3 PD Tso 1
        > 4 PD Tso 1
        $ 3 @2000.9
        x 2
        x 4
        > 5 PD PdGetMembers
        $ 5 names 1
        > 6 PD 2 PdGetMembers
        $ 6 names 2
        > 7 PD 2 Tso 3
        $ 7 @2000.12
        = op 3: @2000.10
        = op 4: @2000.11
        = op 5: @2000.12
        $ stats regressions failures
        ~ regressions 1, failures 1
        ",
    );
}

/// control-plane.md §14.3.
/// A batch must lie above what was known with all that is in it, not only with its last.
#[test]
fn a_batch_that_overlaps_what_was_handed_out_is_refused() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ many 2 tso
        $ 1 @2000.9
        > 2 PD Tso 2
        = op 2: @2000.9
        $ 2 @2000.10
        > 3 PD Tso 2
        $ 3 @2000.11
        = op 3: @2000.10
        = op 4: @2000.11
        $ stats regressions
        ~ regressions 1
        $ tso
        > 4 PD Tso 1
        $ 4 @max
        > 5 PD Tso 1
        $ 5 @2000.12
        = op 5: @2000.12
        ",
    );
}

/// An answer after its time is nobody's.
#[test]
fn a_late_answer_is_dropped() {
    story(
        Txn,
        ONE,
        "
        $ set concurrency 2
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ pass 1000
        $ tso
        > 2 PD Tso 1
        $ wait
        ~ 3s: AttemptTimeout
        x 1
        x 2
        > 3 PD Tso 2
        $ 1 @1500.1
        $ 2 @1500.2
        $ stats stray failures
        ~ stray 2, failures 1
        $ 3 ok
        = op 2: @4000.1
        = op 3: @4000.2
        ",
    );
}

/// Who gives up leaves the line; who gives up on the way leaves an empty seat, and is not taken
/// along a second time.
#[test]
fn who_gives_up_is_not_waited_for() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ many 2 tso
        $ cancel 2
        ~ Stopped
        $ cancel 3
        ~ Stopped
        $ 1 lost
        > 2 PD Tso 1
        $ 2 ok
        = op 4: @1000.1
        $ idle
        ~ true
        ",
    );
}

/// §14.3: a leader that says that it does not lead is asked again after 100 ms, not after seconds.
#[test]
fn an_election_is_waited_for_in_short_steps() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ tso
        > 1 PD Tso 1
        $ 1 status 14 not leader
        > 2 PD Tso 1
        $ 2 status 2 requested pd is not leader of cluster
        $ wait
        ~ 100ms: Backoff
        > 3 PD Tso 1
        $ 3 status 14 no leader
        $ wait
        ~ 200ms: Backoff
        > 4 PD Tso 1
        $ 4 ok
        = op 2: @1200.1
        ",
    );
}

/// control-plane.md §14.3, «GetTS retries 20×»: then a pause of client-go's back-off, and from the start.
#[test]
fn an_election_that_takes_long_is_waited_for_in_longer_steps() {
    let mut story = crate::story::Story::new(Txn, ONE);
    story.play("ready");
    story.play("silence tso");
    story.play("tso");
    let mut pauses = Vec::new();
    for attempt in 1..=23 {
        let told = story.play(&format!("{attempt} status 14 not leader"));
        let before = story.now;
        if !told.contains("Tso") {
            story.play("wait");
        }
        pauses.push(story.now.since(before).as_millis());
    }
    assert_eq!(pauses[0], 0);
    assert!(pauses[1..20].iter().all(|pause| *pause == 100), "{pauses:?}");
    assert!((250..=3_000).contains(&pauses[20]), "{pauses:?}");
    assert_eq!(pauses[21..], [0, 100]);
}

/// peers.md D24: what PD refuses for good is told at once.
#[test]
fn d24_a_refusal_of_timestamps_is_not_retried() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence tso
        $ many 2 tso
        > 1 PD Tso 1
        $ 1 status 9 mismatch cluster id, need 1 but got 9
        > 2 PD Tso 1
        = op 2: PdRefused: timestamps from PD at http://pd:1: mismatch cluster id, need 1 but got 9 (gRPC status 9)
        $ 2 ok
        = op 3: @1000.1
        ",
    );
}

/// peers.md D22: a slow `GetRegion` delays no timestamp, and a stuck timestamp stream delays no
/// region.
#[test]
fn d22_a_slow_question_delays_no_timestamp_and_the_other_way_round() {
    story(
        Txn,
        ONE,
        "
        $ ready
        = done
        $ silence pd
        $ tget k @900.1
        > 1 PD PdGetRegion k<00><00><00><00><00><00><00><f8>
        $ tso
        > 2 PD Tso 1
        $ 2 ok
        = op 3: @1000.1
        $ tso
        > 3 PD Tso 1
        $ pass 1000
        $ 1 ok
        > 4 PD PdGetStore 1
        $ 4 ok
        > 5 store 1 KvGet k @900.1 | region 1
        $ wait
        ~ 3s: AttemptTimeout
        x 3
        > 6 PD PdGetMembers
        ",
    );
}
