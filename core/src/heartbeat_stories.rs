//! Heartbeats, told (`transactions.md` §12.2).

use crate::KeyMode::Txn;
use crate::story::{Story, story};

const TWO: &str = "..k=1 k..=2";

/// Nothing is sent before ten seconds are over; then the primary's time to live is raised to twenty
/// seconds from now, by PD's clock, again and again. When the transaction ends so does this, and
/// the core has nothing to wait for (`peers.md` D13).
#[test]
fn d13_a_primary_is_kept_alive_until_its_transaction_ends() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.0 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.0 ttl 20000 wait 60000 | region 1
        $ 1 ok
        = locked a
        $ wait
        ~ 10s: Heartbeat
        > 2 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        $ 2 ttl 30000
        $ wait
        ~ 20s: Heartbeat
        > 3 store 1 KvTxnHeartBeat a of @1000.0 ttl 40000 | region 1
        $ 3 ttl 40000
        $ idle
        ~ true
        $ release @1000.0 @1000.0 end a
        > 4 store 1 KvPessimisticRollback a of @1000.0 until @1000.0 | region 1
        $ 4 ok
        = op 2: done
        $ wait
        ~ nothing to wait for
        $ lost @1000.0
        ~ kept, or none
        ",
    );
}

/// A thousand commits leave nothing behind: what is not kept alive costs no wake-up.
#[test]
fn d13_a_core_in_which_nothing_is_kept_alive_sleeps() {
    let mut story = Story::new(Txn, TWO);
    for n in 0..1_000 {
        let start = format!("@{}.0", 1_000 + n);
        story.play(&format!("lock {start} {start} primary a new a"));
        story.play(&format!("{} ok", 3 * n + 1));
        assert!(story.core.poll_timeout().is_some());
        story.play(&format!("release {start} {start} end a"));
        story.play(&format!("{} ok", 3 * n + 2));
        story.play("get nothing");
        story.play(&format!("{} none", 3 * n + 3));
        assert_eq!(story.core.poll_timeout(), None);
    }
}

/// A commit that is decided ends it, whichever way.
#[test]
fn a_key_error_ends_it_and_the_owner_can_tell() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.0 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.0 ttl 20000 wait 60000 | region 1
        $ 1 ok
        = locked a
        $ wait
        ~ 10s: Heartbeat
        > 2 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        $ 2 not_found
        $ lost @1000.0
        ~ Gone
        $ lock @1000.0 @1001.0 primary a b
        = op 2: LocksExpired: the transaction's locks are no longer kept alive (Gone)
        $ release @1000.0 @1001.0 end a
        > 3 store 1 KvPessimisticRollback a of @1000.0 until @1001.0 | region 1
        $ lost @1000.0
        ~ kept, or none
        $ 3 ok
        = op 3: done
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// After an hour the transaction may commit or roll back, and nothing else (§22.31).
#[test]
fn it_is_kept_alive_for_an_hour_at_most() {
    let mut story = Story::new(Txn, TWO);
    story.play("lock @1000.0 @1000.0 primary a new a");
    story.play("1 ok");
    let mut beats = 0;
    let lost = loop {
        let told = story.play("wait");
        if told.contains("KvTxnHeartBeat") {
            beats += 1;
            assert!(told.contains(&format!("ttl {}", beats * 10_000 + 20_000)), "{told}");
            story.play(&format!("{} ttl 1", beats + 1));
        }
        let lost = story.play("lost @1000.0");
        if lost != "~ kept, or none\n" {
            break lost;
        }
    };
    assert_eq!((beats, lost.as_str()), (360, "~ TooOld\n"));
    assert!(story.play("wait").contains("nothing to wait for"));
    assert!(story.play("lock @1000.0 @2000.0 primary a b").contains("LocksExpired"));
    let released = story.play("release @1000.0 @2000.0 end a");
    assert!(released.contains("KvPessimisticRollback a"), "{released}");
}

/// Eleven failures in a row are too many; ten and a success are none.
#[test]
fn failures_are_counted_in_a_row() {
    let mut story = Story::new(Txn, TWO);
    story.play("lock @1000.0 @1000.0 primary a new a");
    story.play("1 ok");
    let mut next = 2;
    let mut beat = |story: &mut Story, answer: &str| {
        assert!((0..9).any(|_| story.play("wait").contains("KvTxnHeartBeat")), "no beat {next}");
        story.play(&format!("{next} {answer}"));
        next += 1;
    };
    let refused = "status 9 mismatch cluster id, need 1 but got 2";
    for _ in 0..10 {
        beat(&mut story, refused);
    }
    beat(&mut story, "ttl 1");
    for _ in 0..10 {
        beat(&mut story, refused);
    }
    assert_eq!(story.play("lost @1000.0"), "~ kept, or none\n");
    beat(&mut story, refused);
    assert_eq!(story.play("lost @1000.0"), "~ Unreachable\n");
    assert!(story.play("wait").contains("nothing to wait for"));
}

/// A region that moves is followed.
#[test]
fn a_beat_follows_its_region() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.0 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.0 ttl 20000 wait 60000 | region 1
        $ 1 ok
        = locked a
        $ wait
        ~ 10s: Heartbeat
        > 2 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        $ 2 not_leader 2
        > 3 store 2 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1 retry
        $ 3 ttl 30000
        $ wait
        ~ 20s: Heartbeat
        > 4 store 2 KvTxnHeartBeat a of @1000.0 ttl 40000 | region 1
        $ 4 ttl 40000
        ",
    );
}

/// Another primary begins anew; what the first was in the middle of is given up.
#[test]
fn another_primary_begins_anew() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.0 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.0 ttl 20000 wait 60000 | region 1
        $ 1 ok
        = locked a
        $ wait
        ~ 10s: Heartbeat
        > 2 store 1 KvTxnHeartBeat a of @1000.0 ttl 30000 | region 1
        $ pass 4000
        $ lock @1000.0 @1001.0 primary m new m
        > 3 store 1 KvPessimisticLock m primary m of @1000.0 at @1001.0 ttl 20000 wait 60000 | region 2
        $ 3 ok
        x 2
        = op 2: locked m
        $ wait
        ~ 24s: Heartbeat
        > 4 store 1 KvTxnHeartBeat m of @1000.0 ttl 44000 | region 2
        $ 4 ttl 44000
        ",
    );
}

/// PD without timestamps is a failure like others, since the lock lives for longer than that.
#[test]
fn a_beat_without_a_timestamp_is_missed() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.0 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.0 ttl 20000 wait 60000 | region 1
        $ 1 ok
        = locked a
        $ silence tso
        $ wait
        ~ 10s: Heartbeat
        > 2 PD Tso 1
        $ release @1000.0 @1000.0 end a
        > 3 store 1 KvPessimisticRollback a of @1000.0 until @1000.0 | region 1
        $ 3 ok
        = op 2: done
        $ speak
        $ 2 @11000.1
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// A core that closes lets go of all of them.
#[test]
fn a_core_that_closes_keeps_nothing_alive() {
    story(
        Txn,
        TWO,
        "
        $ lock @1000.0 @1000.0 primary a new a
        > 1 store 1 KvPessimisticLock a primary a of @1000.0 at @1000.0 ttl 20000 wait 60000 | region 1
        $ 1 ok
        = locked a
        $ close
        $ idle
        ~ true
        $ wait
        ~ nothing to wait for
        ",
    );
}

/// Under API V2 the primary goes out with its keyspace's prefix.
#[test]
fn a_beat_in_a_keyspace() {
    crate::story::story_in(
        "tenant",
        Txn,
        "..=1",
        "
        $ lock @1000.0 @1000.0 primary a new a
        > 1 store 1 KvPessimisticLock x<00><00><05>a primary x<00><00><05>a of @1000.0 at @1000.0 ttl 20000 wait 60000 | region 1 keyspace tenant
        $ 1 ok
        = locked a
        $ wait
        ~ 10s: Heartbeat
        > 2 store 1 KvTxnHeartBeat x<00><00><05>a of @1000.0 ttl 30000 | region 1 keyspace tenant
        $ 2 ttl 1
        ",
    );
}
