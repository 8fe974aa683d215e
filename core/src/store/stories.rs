//! Stores that freeze, die, move and swap places, told (`control-plane.md` §5; `cases.md` RGC, RAW).

use crate::KeyMode::Raw;
use crate::story::story;

const ONE: &str = "..=1";
const TWO: &str = "..k=1 k..=2";

/// control-plane.md §5.2.
/// peers.md D21, issue: a store that accepts and never answers is found out two seconds after the
/// request was sent, not after the attempt's thirty; the call goes on elsewhere.
#[test]
fn d21_a_frozen_store_is_found_out() {
    story(
        Raw,
        ONE,
        "
        $ silence stores
        $ get b
        > 1 store 1 RawGet b | region 1
        $ wait
        ~ 1s: Probe
        > 2 store 1 HealthCheck
        $ wait
        ~ 2s: Probe
        x 2
        x 1
        $ stores
        ~ store 1 at store1:1, epoch 1, unreachable, slow
        $ wait
        ~ 2.088s: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ 3 not_leader 3
        > 4 store 3 RawGet b | region 1 retry
        $ 4 value x
        = value x
        $ idle
        ~ true
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// A store that answers the probe is left alone, however long one request takes; while others are
/// answered it is not even probed.
#[test]
fn a_slow_request_to_a_living_store_is_waited_for() {
    story(
        Raw,
        ONE,
        "
        $ silence stores
        $ get b
        > 1 store 1 RawGet b | region 1
        $ wait
        ~ 1s: Probe
        > 2 store 1 HealthCheck
        $ pass 300
        $ 2 serving
        $ wait
        ~ 2s: Probe
        $ get c
        > 3 store 1 RawGet c | region 1
        $ 3 value y
        = op 2: value y
        $ wait
        ~ 2.3s: Probe
        ",
    );
}

/// control-plane.md §5.2.
/// A server that knows no health checks is not dead for that; one that says it does not serve is.
#[test]
fn what_the_probe_says() {
    story(
        Raw,
        ONE,
        "
        $ silence stores
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 lost
        > 2 store 1 HealthCheck
        $ 2 status 12 no such service
        $ stores
        ~ store 1 at store1:1, epoch 0
        $ wait
        ~ 88ms: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ 3 lost
        > 4 store 2 HealthCheck
        $ 4 not_serving
        $ stores
        ~ store 1 at store1:1, epoch 0
        ~ store 2 at store2:1, epoch 1, unreachable, slow
        ~ store 3 at store3:1, epoch 0
        ",
    );
}

/// An answer that comes while the store is being probed is as good as the probe's.
#[test]
fn any_answer_is_a_sign_of_life() {
    story(
        Raw,
        ONE,
        "
        $ silence stores
        $ get b
        > 1 store 1 RawGet b | region 1
        $ wait
        ~ 1s: Probe
        > 2 store 1 HealthCheck
        $ 1 value x
        x 2
        = value x
        $ 2 refused
        $ stores
        ~ store 1 at store1:1, epoch 0
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// §5.3: a dead store is probed while somebody would use it, once a second, and is used again once it
/// answers. Nobody asks it meanwhile.
#[test]
fn a_dead_store_comes_back() {
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
        $ cancel 1
        ~ Stopped
        $ wait
        ~ nothing to wait for
        $ get b
        > 3 store 2 RawGet b | region 1
        $ cancel 2
        ~ Stopped
        x 3
        $ pass 1000
        $ get b
        > 4 store 1 HealthCheck
        > 5 store 3 RawGet b | region 1
        $ 5 not_leader 1
        > 6 store 2 RawGet b | region 1 retry
        $ 4 serving
        $ 6 not_leader 1
        > 7 store 1 RawGet b | region 1 retry
        $ 7 value x
        = op 3: value x
        $ stores
        ~ store 1 at store1:1, epoch 1
        ~ store 2 at store2:1, epoch 0
        ~ store 3 at store3:1, epoch 0
        ",
    );
}

/// control-plane.md §5.1.
/// RGC-57, RGC-58: a store is restarted under another address. PD is asked when it dies; what was held
/// against the old place is not held against the new one.
#[test]
fn rgc_57_a_store_restarted_under_another_address() {
    story(
        Raw,
        ONE,
        "
        $ silence stores
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 lost
        > 2 store 1 HealthCheck
        $ move 1 elsewhere:1
        $ 2 refused
        $ stores
        ~ store 1 at elsewhere:1, epoch 1, slow
        $ wait
        ~ 88ms: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ 3 not_leader 1
        > 4 store 1 at elsewhere:1 RawGet b | region 1 retry
        $ 4 value x
        = value x
        ",
    );
}

/// control-plane.md §5.1.
/// RGC-03: a store has left the cluster: its regions look for another replica at once.
#[test]
fn rgc_03_a_tombstone() {
    story(
        Raw,
        ONE,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ remove 1
        $ silence stores
        $ 1 lost
        > 2 store 1 HealthCheck
        $ 2 refused
        $ stores
        ~ store 1 gone, epoch 2, unreachable, slow
        $ wait
        ~ 88ms: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ 3 value x
        = value x
        $ get b
        > 4 store 2 RawGet b | region 1
        ",
    );
}

/// RAW-24: two stores swap addresses. Each says that it is another; PD is asked where they are now, and
/// the request arrives.
#[test]
fn raw_24_two_stores_swap_addresses() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 value x
        = value x
        $ move 1 store2:1
        $ move 2 store1:1
        $ get b
        > 2 store 1 RawGet b | region 1
        $ 2 store_not_match
        $ wait
        ~ 2ms: Backoff
        > 3 store 1 at store2:1 RawGet b | region 1 retry
        $ 3 not_leader 2
        > 4 store 2 at store1:1 RawGet b | region 1 retry
        $ 4 value x
        = op 2: value x
        ",
    );
}

/// §5.5, §7.6: what a busy store says is kept: with an estimate as its load, without as slowness. It
/// does not shorten the pause: the estimate is of the queue as it is, and the reference uses it only to
/// choose replicas.
#[test]
fn what_busy_stores_say_is_kept() {
    story(
        Raw,
        ONE,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 busy 40
        $ stores
        ~ store 1 at store1:1, epoch 0, busy for 40 ms
        $ pass 30
        $ get c
        > 2 store 1 RawGet c | region 1
        $ stores
        ~ store 1 at store1:1, epoch 0, busy for 10 ms
        $ 2 busy
        $ stores
        ~ store 1 at store1:1, epoch 0, slow, busy for 10 ms
        ",
    );
}

/// control-plane.md §5.4.
/// RGC-56: a store's own word reaches that store only.
#[test]
fn rgc_56_feedback() {
    story(
        Raw,
        ONE,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ health 1 100
        $ health 9 100
        $ stores
        ~ store 1 at store1:1, epoch 0, slow
        $ pass 120000
        $ 1 value x
        = value x
        $ stores
        ~ store 1 at store1:1, epoch 0
        ",
    );
}

/// control-plane.md §5.6, otherwise than there.
/// C12: one request over the limit waits for its turn; a cancelled one gives its turn away.
#[test]
fn the_limit_of_a_store() {
    story(
        Raw,
        TWO,
        "
        $ set limit 1
        $ get a
        > 1 store 1 RawGet a | region 1
        $ get b
        $ get c
        $ get z
        $ 1 value x
        > 2 store 1 RawGet b | region 1
        = op 1: value x
        $ cancel 3
        ~ Stopped
        $ 2 none
        > 3 store 1 RawGet z | region 2
        = op 2: none
        $ cancel 4
        ~ Stopped
        x 3
        $ get d
        > 4 store 1 RawGet d | region 1
        ",
    );
}

/// Whoever stood in line for a store that died looks elsewhere when its turn comes.
#[test]
fn a_line_before_a_dead_store() {
    story(
        Raw,
        ONE,
        "
        $ set limit 1
        $ silence stores
        $ get a
        > 1 store 1 RawGet a | region 1
        $ get b
        $ get c
        $ wait
        ~ 1s: Probe
        > 2 store 1 HealthCheck
        $ 2 refused
        x 1
        > 3 store 2 RawGet c | region 1
        $ 3 none
        > 4 store 2 RawGet b | region 1
        = op 3: none
        $ 4 none
        = op 2: none
        $ wait
        ~ 1.088s: Backoff
        > 5 store 2 RawGet a | region 1 retry
        ",
    );
}
