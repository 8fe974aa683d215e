//! Region calls, told: the failures of `control-plane.md` §6.4, deadlines, cancelling and closing.

use crate::KeyMode::Raw;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

#[test]
fn a_get_is_answered() {
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
        $ 2 none
        = op 2: none
        $ idle
        ~ true
        ",
    );
}

/// §6.4: no connection: the store is avoided for a while, and the others know who leads now.
#[test]
fn a_store_that_refuses_connections() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 refused
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawGet b | region 1 retry
        $ 2 not_leader 3
        > 3 store 3 RawGet b | region 1 retry
        $ 3 value x
        = value x
        $ get c
        > 4 store 3 RawGet c | region 1
        $ 4 value y
        = op 2: value y
        ",
    );
}

/// §6.4: a lost answer. A get is simply asked again.
#[test]
fn a_lost_answer_to_a_read() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawGet b | region 1 retry
        $ 2 not_leader 1
        > 3 store 1 RawGet b | region 1 retry
        $ 3 value x
        = value x
        ",
    );
}

/// A put whose answer was lost, and that then fails for good, may have been executed: the error says so.
#[test]
fn a_lost_answer_to_a_write_is_never_forgotten() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawPut b=1 | region 1 retry
        $ 2 too_large
        = TooLarge in doubt: the write makes a Raft entry of 9437184 bytes, which is too large (region 1@1.1) (store 2) after 2 attempts
        ",
    );
}

/// Nor when it ends because PD refuses to say where its region has gone.
#[test]
fn a_lost_answer_to_a_write_is_not_forgotten_over_a_question_to_pd() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 lost
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawPut b=1 | region 1 retry
        $ silence pd
        $ 2 key_not_in_region
        $ wait
        ~ 90ms: Backoff
        > 3 PD PdGetRegion b
        $ 3 status 9 mismatch cluster id, need 1 but got 9
        = PdRefused in doubt: mismatch cluster id, need 1 but got 9 (gRPC status 9) after 2 attempts
        ",
    );
}

/// A put that never left is known not to have been executed.
#[test]
fn a_write_that_never_left_is_not_in_doubt() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 refused
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawPut b=1 | region 1 retry
        $ 2 too_large
        = TooLarge: the write makes a Raft entry of 9437184 bytes, which is too large (region 1@1.1) (store 2) after 2 attempts
        ",
    );
}

/// peers.md D28: a message over the limit ends the call at once; no connection, no region is doubted.
#[test]
fn d28_a_message_over_the_limit_is_not_retried() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 status 8 received message larger than max (9 vs. 4)
        = TooLarge: the message is too large: received message larger than max (9 vs. 4) (gRPC status 8) (region 1@1.1) (store 1)
        $ get b
        > 2 store 1 RawGet b | region 1
        ",
    );
}

/// A store that is silent: after the attempt's time another replica is asked.
#[test]
fn a_silent_store() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ wait
        ~ 30s: AttemptTimeout
        x 1
        $ wait
        ~ 30.088s: Backoff
        > 2 store 2 RawGet b | region 1 retry
        $ 2 not_leader 3
        > 3 store 3 RawGet b | region 1 retry
        $ 3 value x
        = value x
        ",
    );
}

/// The deadline ends an operation whatever it waits for, and says what was wrong.
#[test]
fn the_deadline_of_a_read() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 lost
        $ pass 59000
        $ wait
        ~ 88ms: Backoff
        > 2 store 2 RawGet b | region 1 retry
        $ wait
        ~ 60s: Deadline
        x 2
        = DeadlineExceeded: the operation's deadline has passed after 2 attempts: connection lost (region 1@1.1) (store 1)
        $ idle
        ~ true
        ",
    );
}

/// … and of a write that is still out: it is withdrawn, and in doubt.
#[test]
fn the_deadline_of_a_write() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ pass 29000
        $ 1 stale_command
        $ pass 30990
        $ wait
        ~ 29.002s: Backoff
        > 2 store 1 RawPut b=1 | region 1 retry
        $ wait
        ~ 60s: Deadline
        x 2
        = DeadlineExceeded in doubt: the operation's deadline has passed after 2 attempts: the replica dropped the command with its term (region 1@1.1) (store 1)
        $ 2 ok
        ",
    );
}

/// peers.md D26: who drops an operation withdraws its request, and hears nothing more.
#[test]
fn d26_cancelling_withdraws_the_request() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ cancel 1
        ~ Stopped
        x 1
        $ 1 value x
        $ cancel 1
        ~ Unknown
        $ idle
        ~ true
        ",
    );
}

#[test]
fn closing_ends_what_is_under_way_and_refuses_what_comes() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ close
        x 1
        = Closed: the client was closed
        $ get c
        = op 2: Closed: the client was closed
        $ idle
        ~ true
        ",
    );
}
