//! Cores of API V2, told: how the keyspace becomes known, and that keys have its prefix on the wire and
//! nowhere else.

use crate::KeyMode::{Raw, Txn};
use crate::story::{Story, story_in};

/// One region for all keyspaces.
const ONE: &str = "..=1";
const TWO: &str = "..k=1 k..=2";

/// The keyspace comes first, from PD's leader; whatever is submitted before it is known waits.
#[test]
fn the_first_operations_of_a_client() {
    story_in(
        "tenant",
        Raw,
        ONE,
        "
        $ silence pd
        $ get a
        > 1 PD PdGetMembers
        $ put b=1
        $ 1 ok
        > 2 PD LoadKeyspace tenant
        $ tso
        > 3 PD Tso 1
        $ 2 ok
        > 4 PD PdGetRegion r<00><00><05>a<00><00><00><fc>
        $ 3 ok
        = op 3: @1000.1
        $ 4 ok
        > 5 PD PdGetStore 1
        $ 5 ok
        > 6 store 1 RawGet r<00><00><05>a | region 1 keyspace tenant
        > 7 store 1 RawPut r<00><00><05>b=1 | region 1 keyspace tenant
        $ 7 ok
        = op 2: done
        $ 6 value x
        = op 1: value x
        ",
    );
}

/// «Ready» is when operations can be sent. No name is the name of the default keyspace.
#[test]
fn ready_means_that_the_keyspace_is_known() {
    story_in(
        "",
        Txn,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        > 2 PD LoadKeyspace DEFAULT
        $ 2 ok
        = done
        $ idle
        ~ true
        ",
    );
}

/// A refusal ends what waits, at once. It is not remembered: the next operation asks again.
#[test]
fn a_keyspace_that_cannot_be_used() {
    let refused = |name, why: &str| {
        let text = format!(
            "
            $ ready
            = Keyspace: keyspace {name:?} cannot be used: {why}
            $ get a
            = op 2: Keyspace: keyspace {name:?} cannot be used: {why}
            $ idle
            ~ true
            "
        );
        story_in(name, Raw, ONE, &text);
    };
    refused("disabled", "its state is DISABLED");
    refused("nobody", "PD knows none of this name");
}

/// A connection that fails is no refusal: the question goes to whoever leads, the first time without a
/// pause, and the operations wait on.
#[test]
fn a_lost_answer_about_the_keyspace() {
    story_in(
        "tenant",
        Raw,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        > 2 PD LoadKeyspace tenant
        $ 2 lost
        > 3 PD PdGetMembers
        $ 3 ok
        > 4 PD LoadKeyspace tenant
        $ 4 status 14 gone
        > 5 PD PdGetMembers
        $ speak
        $ 5 ok
        $ wait
        ~ 358ms: Backoff
        = done
        ",
    );
}

/// A PD without keyspaces will not have any in a moment.
#[test]
fn a_pd_that_knows_no_keyspaces() {
    story_in(
        "tenant",
        Raw,
        ONE,
        "
        $ silence pd
        $ ready
        > 1 PD PdGetMembers
        $ 1 ok
        > 2 PD LoadKeyspace tenant
        $ 2 status 12 unknown service keyspacepb.Keyspace
        = PdRefused: unknown service keyspacepb.Keyspace (gRPC status 12)
        ",
    );
}

/// An operation that waits for the keyspace ends at its deadline, or when it is cancelled; nothing of
/// it was sent. The others get what was asked for.
#[test]
fn deadlines_hold_while_the_keyspace_is_not_known() {
    story_in(
        "tenant",
        Raw,
        ONE,
        "
        $ silence pd
        $ put a=1
        > 1 PD PdGetMembers
        $ 1 ok
        > 2 PD LoadKeyspace tenant
        $ get b
        $ cancel 2
        ~ Stopped
        $ pass 2000
        $ get c
        $ 2 status 14 gone
        > 3 PD PdGetMembers
        $ 3 ok
        > 4 PD LoadKeyspace tenant
        $ 4 status 14 gone
        > 5 PD PdGetMembers
        $ 5 ok
        $ pass 58000
        $ wait
        ~ 2.358s: Backoff
        > 6 PD LoadKeyspace tenant
        = op 1: DeadlineExceeded: the operation's deadline has passed: PD at http://pd:1: gone (gRPC status 14)
        ",
    );
}

/// raw.md §6.2: both ends of every scan lie in the keyspace, whatever was asked for and in whatever
/// region; the region of all keyspaces looks as if it were ours alone.
#[test]
fn scans_stay_in_the_keyspace() {
    story_in(
        "tenant",
        Raw,
        ONE,
        "
        $ scan .. 9
        > 1 store 1 RawScan r<00><00><05>..r<00><00><06> limit 9 | region 1 keyspace tenant
        $ 1 pairs r<00><00><05>=0 r<00><00><05>a=1
        = pairs =0 a=1
        $ rscan .. 9
        > 2 store 1 RawScan r<00><00><06>..r<00><00><05> limit 9 reverse | region 1 keyspace tenant
        $ 2 pairs r<00><00><05>a=1 r<00><00><05>=0
        = op 2: pairs a=1 =0
        $ scan a..c 9
        > 3 store 1 RawScan r<00><00><05>a..r<00><00><05>c limit 9 | region 1 keyspace tenant
        $ 3 pairs
        = op 3: pairs
        $ rscan a..c 9
        > 4 store 1 RawScan r<00><00><05>c..r<00><00><05>a limit 9 reverse | region 1 keyspace tenant
        $ 4 pairs
        = op 4: pairs
        ",
    );
}

/// raw.md §6.1, §6.5: behind the last keyspace there is no prefix of the same mode, and a store does not
/// take a range that goes on into another one.
#[test]
fn scans_of_the_last_keyspace() {
    story_in(
        "last",
        Raw,
        "..k=1 k..=2",
        "
        $ scan k.. 9
        > 1 store 1 RawScan r<ff><ff><ff>k..s limit 9 | region 2 keyspace last
        $ 1 pairs r<ff><ff><ff>z=1
        = pairs z=1
        $ rscan k.. 9
        > 2 store 1 RawScan r<ff><ff><ff><ff × 8193>..r<ff><ff><ff>k limit 9 reverse | region 2 keyspace last
        $ 2 pairs r<ff><ff><ff>z=1
        = op 2: pairs z=1
        ",
    );
    story_in(
        "last",
        Txn,
        ONE,
        "
        $ tscan .. 9 @900.0
        > 1 store 1 KvScan x<ff><ff><ff>..x<ff><ff><ff><ff × 8193> limit 9 @900.0 | region 1 keyspace last
        $ 1 pairs x<ff><ff><ff>z=1
        = pairs z=1
        $ trscan .. 9 @900.0
        > 2 store 1 KvScan x<ff><ff><ff><ff × 8193>..x<ff><ff><ff> limit 9 @900.0 reverse | region 1 keyspace last
        $ 2 pairs
        = op 2: pairs
        ",
    );
}

/// A scan walks the regions of the keyspace and stops at its border, in both directions, also where a
/// region goes on behind it.
#[test]
fn a_scan_over_regions_ends_with_the_keyspace() {
    let regions =
        "..^r<00><00><04>z=7 ^r<00><00><04>z..k=1 k..^r<00><00><06>b=2 ^r<00><00><06>b..=8";
    story_in(
        "tenant",
        Raw,
        regions,
        "
        $ scan .. 9
        > 1 store 1 RawScan r<00><00><05>..r<00><00><06> limit 9 | region 1 keyspace tenant
        $ 1 pairs r<00><00><05>a=1
        > 2 store 1 RawScan r<00><00><05>k..r<00><00><06> limit 8 | region 2 keyspace tenant
        $ 2 pairs r<00><00><05>z=2
        = pairs a=1 z=2
        $ rscan .. 9
        > 3 store 1 RawScan r<00><00><06>..r<00><00><05> limit 9 reverse | region 2 keyspace tenant
        $ 3 pairs r<00><00><05>z=2
        > 4 store 1 RawScan r<00><00><05>k..r<00><00><05> limit 8 reverse | region 1 keyspace tenant
        $ 4 pairs r<00><00><05>a=1
        = op 2: pairs z=2 a=1
        ",
    );
}

/// COD-04: of the regions that a store names, those of others are passed over.
#[test]
fn cod_04_regions_of_other_keyspaces_are_dropped_from_a_list() {
    story_in(
        "tenant",
        Txn,
        "..^x<00><00><04>=7 ^x<00><00><04>..k=1 k..=2",
        "
        $ tget a @900.0
        > 1 store 1 KvGet x<00><00><05>a @900.0 | region 1 keyspace tenant
        $ split 1 at b as 3
        $ 1 epoch 7 1 3
        > 2 store 1 KvGet x<00><00><05>a @900.0 | region 1 retry keyspace tenant
        $ 2 value v
        = value v
        ",
    );
}

/// What a retry sends is what was sent: the prefix is there once.
#[test]
fn cod_01_a_retry_does_not_put_the_prefix_on_twice() {
    story_in(
        "tenant",
        Txn,
        TWO,
        "
        $ commit @900.0 a=1 m=2
        > 1 store 1 KvPrewrite x<00><00><05>a*=1 @900.0 size 1 | region 1 keyspace tenant
        > 2 store 1 KvPrewrite x<00><00><05>m=2 @900.0 size 1 | region 2 keyspace tenant
        $ 1 not_leader 2
        > 3 store 2 KvPrewrite x<00><00><05>a*=1 @900.0 size 1 | region 1 retry keyspace tenant
        $ split 2 at p as 3
        $ 2 epoch 2 3
        > 4 store 1 KvPrewrite x<00><00><05>m=2 @900.0 size many | region 2 retry keyspace tenant
        $ 3 ok
        $ 4 ok
        > 5 store 2 KvCommit x<00><00><05>a primary at @1000.1 | region 1 keyspace tenant
        $ 5 ok
        > 6 store 1 KvCommit x<00><00><05>m at @1000.1 | region 2 keyspace tenant
        = committed @1000.1
        $ 6 ok
        ",
    );
}

/// O4: what a store says about keys reaches the application as its own keys.
#[test]
fn o4_errors_name_the_applications_keys() {
    story_in(
        "tenant",
        Txn,
        ONE,
        "
        $ commit @900.0 !a=1
        > 1 store 1 KvPrewrite x<00><00><05>a*!=1 @900.0 size 1 | region 1 keyspace tenant
        $ 1 exists x<00><00><05>a
        > 2 store 1 KvBatchRollback x<00><00><05>a | region 1 keyspace tenant
        = aborted, KeyExists: the key exists
        $ 2 ok
        ",
    );
}

/// A lock is looked into under the application's keys, which go out with the prefix again.
#[test]
fn a_lock_is_resolved_within_the_keyspace() {
    story_in(
        "tenant",
        Txn,
        ONE,
        "
        $ tget a @900.0
        > 1 store 1 KvGet x<00><00><05>a @900.0 | region 1 keyspace tenant
        $ 1 locked x<00><00><05>a primary x<00><00><05>p of @800.0 ttl 10
        > 2 store 1 KvCheckTxnStatus x<00><00><05>p of @800.0 for @900.0 now @1000.1 | region 1 keyspace tenant
        $ 2 rolled_back
        > 3 store 1 KvResolveLock x<00><00><05>a of @800.0 rolled back | region 1 keyspace tenant
        > 4 store 1 KvGet x<00><00><05>a @900.0 | region 1 retry keyspace tenant ignoring @800.0
        $ 4 value v
        = value v
        $ 3 ok
        ",
    );
}

/// So are the secondaries of an async commit, pessimistic locks, and locks that are scanned: nothing of a
/// neighbour is asked for.
#[test]
fn locks_of_every_kind_are_resolved_within_the_keyspace() {
    story_in(
        "tenant",
        Txn,
        ONE,
        "
        $ tget a @990.0
        > 1 store 1 KvGet x<00><00><05>a @990.0 | region 1 keyspace tenant
        $ pass 5000
        $ 1 locked x<00><00><05>a primary x<00><00><05>p of @980.0 async
        > 2 store 1 KvCheckTxnStatus x<00><00><05>p of @980.0 for @990.0 now @6000.1 | region 1 keyspace tenant
        $ 2 alive 3000 async @985.0 x<00><00><05>a x<00><00><05>m
        > 3 store 1 KvCheckSecondaryLocks x<00><00><05>a x<00><00><05>m of @980.0 | region 1 keyspace tenant
        $ 3 secondaries x<00><00><05>a@986.0 x<00><00><05>m@987.0
        > 4 store 1 KvResolveLock x<00><00><05>a x<00><00><05>m x<00><00><05>p of @980.0 committed @987.0 | region 1 keyspace tenant
        > 5 store 1 KvGet x<00><00><05>a @990.0 | region 1 retry keyspace tenant through @980.0
        $ commit @995.0 b=1
        > 6 store 1 KvPrewrite x<00><00><05>b*=1 @995.0 size 1 | region 1 keyspace tenant
        $ 6 locked x<00><00><05>b primary x<00><00><05>q of @970.0 pessimistic for @971.0
        > 7 store 1 KvCheckTxnStatus x<00><00><05>q of @970.0 for @995.0 now @6000.2 pessimistic | region 1 keyspace tenant
        $ 7 missing
        > 8 store 1 KvPessimisticRollback x<00><00><05>b of @970.0 until @971.0 | region 1 keyspace tenant
        $ scan_locks .. @999.0 5
        > 9 store 1 KvScanLock x<00><00><05>..x<00><00><06> until @999.0 limit 5 | region 1 keyspace tenant
        $ 9 locks x<00><00><05>c of @100.0
        = op 3: locks c of @100.0
        $ resolve_locks c.. @999.0
        > 10 store 1 KvScanLock x<00><00><05>c..x<00><00><06> until @999.0 limit 1024 | region 1 keyspace tenant
        $ 10 locks x<00><00><06>d of @100.0
        = op 4: Protocol: the server sent what it cannot: a key in an answer: it does not belong to the keyspace (region 1@1.1) (store 1)
        ",
    );
}

/// A key of somebody else in an answer is not handed out, and what a write did then is not known.
#[test]
fn a_key_of_another_keyspace_is_refused() {
    story_in(
        "tenant",
        Raw,
        ONE,
        "
        $ scan .. 9
        > 1 store 1 RawScan r<00><00><05>..r<00><00><06> limit 9 | region 1 keyspace tenant
        $ 1 pairs r<00><00><05>a=1 r<00><00><06>secret=2
        = Protocol: the server sent what it cannot: a key in an answer: it does not belong to the keyspace (region 1@1.1) (store 1)
        $ batch_get a
        > 2 store 1 RawBatchGet r<00><00><05>a | region 1 keyspace tenant
        $ 2 pairs a=1
        = op 2: Protocol: the server sent what it cannot: a key in an answer: it does not belong to the keyspace (region 1@1.1) (store 1)
        ",
    );
    story_in(
        "tenant",
        Txn,
        ONE,
        "
        $ commit @900.0 a=1
        > 1 store 1 KvPrewrite x<00><00><05>a*=1 @900.0 size 1 | region 1 keyspace tenant
        $ 1 ok
        > 2 store 1 KvCommit x<00><00><05>a primary at @1000.1 | region 1 keyspace tenant
        $ 2 expired x<00><00><06>a @1000.1 @1000.2
        = undetermined, Undetermined in doubt: the commit may or may not have happened: the server sent what it cannot: a key in an answer: it does not belong to the keyspace (region 1@1.1) (store 1)
        ",
    );
}

/// A story of a client that has found PD and asks for its keyspace: request 2.
fn asking_for_the_keyspace() -> Story {
    let mut story = Story::new(Raw, ONE);
    story.config.api = crate::Api::V2 { keyspace: "tenant".into() };
    story.core = crate::Core::new(story.config.clone(), 7, story.now);
    story.patience = std::time::Duration::from_secs(1_000);
    story.play("silence pd");
    story.play("ready");
    assert!(story.play("1 ok").starts_with("> 2 PD LoadKeyspace"));
    story
}

/// control-plane.md §14.1, init retries, keyspace id: a hundred seconds in all, and no more than one between
/// two questions.
#[test]
fn a_keyspace_is_asked_for_as_long_as_pd_is_looked_for() {
    let mut story = asking_for_the_keyspace();
    let (mut request, mut waited) = (2, 0);
    loop {
        let told = story.play(&format!("{request} status 14 gone"));
        if told.contains("= PdUnavailable") {
            break;
        }
        assert!(told.starts_with(&format!("> {} PD PdGetMembers", request + 1)), "{told}");
        let told = story.play(&format!("{} ok", request + 1));
        if !told.contains("LoadKeyspace") {
            let before = story.now;
            let told = story.play("wait");
            assert!(told.contains("LoadKeyspace"), "{told}");
            let pause = story.now.since(before).as_millis();
            assert!(pause <= 1_000, "{pause}");
            waited += pause;
        }
        request += 2;
    }
    assert!((99_000..101_000).contains(&waited), "{waited}");
}

/// The same where the leader is gone again and nobody else is found.
#[test]
fn a_keyspace_waits_for_a_leader_as_long_as_pd_is_looked_for() {
    let mut story = asking_for_the_keyspace();
    let since = story.now;
    story.play("2 lost");
    let mut told = String::new();
    for request in 3.. {
        told += &story.play(&format!("{request} refused"));
        if told.contains("= ") {
            break;
        }
        story.play("wait");
    }
    let waited = story.now.since(since).as_secs();
    assert!(told.contains("= PdUnavailable") && (99..102).contains(&waited), "{waited} {told}");
}

/// control-plane.md §4.5 to §4.7 in a keyspace: no end is the keyspace's end, and a region of somebody
/// else is none, by its id neither.
#[test]
fn regions_of_a_keyspace() {
    story_in(
        "tenant",
        Raw,
        "..^r<00><00><05>=1 ^r<00><00><05>..k=2 k..^r<00><00><06>=3 ^r<00><00><06>..=4",
        "
        $ ready
        = done
        $ silence pd
        $ regions ..
        > 1 PD PdBatchScanRegions r<00><00><05><00><00><00><00><fb>..r<00><00><06><00><00><00><00><fb> limit 128
        $ 1 ok
        = op 2: region 2.1 ..k: ..k, region 3.1 k..: k..
        $ keys z b
        = op 3: region 2: b, region 3: z
        $ locate_end
        = op 4: region 3@1.1 k.. led from store 1
        $ locate_id 3
        = op 5: region 3@1.1 k.. led from store 1
        $ locate_id 1
        > 2 PD PdGetRegionById 1
        $ 2 ok
        = op 6: RegionUnavailable: region 1: it holds no key of the keyspace
        $ pd_id 4
        > 3 PD PdGetRegionById 4
        $ 3 ok
        = op 7: RegionUnavailable: region 4: it holds no key of the keyspace
        ",
    );
}
