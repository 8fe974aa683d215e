//! Reads of a snapshot told: how they are asked for, and whether they were in time.

use crate::KeyMode::Txn;
use crate::story::{Story, story};
use crate::wire::Head;
use anatase_proto::kvrpcpb::{self, CommandPri, IsolationLevel};

const TWO: &str = "..k=1 k..=2";

/// transactions.md §17.7: the safe point is asked for beside the read, and looked at when the read
/// has been answered. What was told 90 s ago is too old, and the read waits for what PD says now.
#[test]
fn a_read_is_judged_after_it_was_answered() {
    story(
        Txn,
        TWO,
        "
        $ set visibility
        $ tget a @900.0
        > 1 store 1 KvGet a @900.0 | region 1
        $ 1 none
        = none
        $ silence pd
        $ pass 90000
        $ tget a @900.0
        > 2 PD PdGetMembers
        > 3 PD PdGetGcState
        > 4 store 1 KvGet a @900.0 | region 1
        $ 4 value x
        $ tget b @899.0
        > 5 store 1 KvGet b @899.0 | region 1
        $ 5 value what_is_left
        $ 3 safe_point @900.0
        = op 2: value x
        = op 3: TxnAbortedByGc: a read at 235667456, before the safe point 235929600
        $ tget b @max
        > 6 store 1 KvGet b @max | region 1
        $ 6 value x
        = op 4: value x
        ",
    );
}

/// What was told less than 10 s ago will do; later it is asked for again, and nobody waits for the
/// answer as long as what is known is not too old (§1.4).
#[test]
fn a_safe_point_is_refreshed_by_use() {
    story(
        Txn,
        TWO,
        "
        $ set visibility
        $ tbatch_get @900.0 a
        > 1 store 1 KvBatchGet a @900.0 | region 1
        $ 1 pairs a=1
        = value 1
        $ silence pd
        $ pass 9999
        $ tget a @900.0
        > 2 store 1 KvGet a @900.0 | region 1
        $ 2 value x
        = op 2: value x
        $ pass 1
        $ tscan a..b 1 @900.0
        > 3 PD PdGetGcState
        > 4 store 1 KvScan a..b limit 1 @900.0 | region 1
        $ 4 pairs a=1
        = op 3: pairs a=1
        $ 3 safe_point @950.0
        $ tscan a..b 1 @900.0
        > 5 store 1 KvScan a..b limit 1 @900.0 | region 1
        $ 5 pairs a=1
        = op 4: TxnAbortedByGc: a read at 235929600, before the safe point 249036800
        $ tbatch_get @900.0 a
        > 6 store 1 KvBatchGet a @900.0 | region 1
        $ 6 pairs a=1
        = op 5: TxnAbortedByGc: a read at 235929600, before the safe point 249036800
        ",
    );
}

/// It fails closed: where PD refuses, with its words; where PD is silent, at the operation's deadline,
/// with what is wrong.
#[test]
fn a_read_that_cannot_be_judged_fails() {
    let mut story = Story::new(Txn, TWO);
    story.play("set visibility");
    story.play("with rc tget a @max");
    story.play("1 value x");
    story.play("silence pd");
    story.play("pass 90000");
    story.play("tget a @900.0");
    story.play("4 value x");
    let told = story.play("3 no");
    assert!(told.starts_with("= op 2: PdRefused"), "{told}");
    story.play("tget a @900.0");
    story.play("5 value x");
    story.play("6 lost");
    let mut told = String::new();
    while !told.contains("= op 3") {
        told = story.play("wait");
    }
    assert!(told.contains("= op 3: PdUnavailable"), "{told}");
}

/// A PD that is too old to know the question is not asked it again.
#[test]
fn an_old_pd_is_not_asked_for_its_safe_point() {
    let mut story = Story::new(Txn, TWO);
    story.play("set visibility");
    story.play("with rc tget a @max");
    story.play("1 value x");
    story.play("silence pd");
    story.play("pass 50000");
    story.play("tget a @900.0");
    assert_eq!(story.play("3 value x"), "= op 2: value x\n");
    assert_eq!(story.play("2 status 12 unknown method"), "");
    story.play("pass 50000");
    let told = story.play("tget a @900.0");
    assert_eq!(told, "> 4 store 1 KvGet a @900.0 | region 1\n");
    assert_eq!(story.play("4 value x"), "= op 3: value x\n");
}

/// What the reads of a snapshot have learned of locks, the next one tells the store at once; a read
/// at another timestamp does not (transactions.md §22, 21).
#[test]
fn a_snapshot_remembers_the_locks_it_may_pass() {
    story(
        Txn,
        TWO,
        "
        $ tget a @990.0
        > 1 store 1 KvGet a @990.0 | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @990.0 now @1000.1 | region 2
        $ 2 alive 3000 pushed
        > 3 store 1 KvGet a @990.0 | region 1 retry ignoring @980.0
        $ 3 value old
        = value old
        $ tbatch_get @990.0 b
        > 4 store 1 KvBatchGet b @990.0 | region 1 ignoring @980.0
        $ 4 pairs b=2
        = op 2: value 2
        $ tscan a..b 5 @990.0
        > 5 store 1 KvScan a..b limit 5 @990.0 | region 1 ignoring @980.0
        $ 5 pairs
        = op 3: pairs
        $ tget a @991.0
        > 6 store 1 KvGet a @991.0 | region 1
        $ 6 none
        = op 4: none
        ",
    );
}

/// transactions.md §17.2, §22, 22: of the latest version only the first transaction met is waited for;
/// those that come later are passed by, and nothing of it is kept.
#[test]
fn a_read_of_the_latest_version_waits_for_one_transaction_only() {
    story(
        Txn,
        TWO,
        "
        $ tget a @max
        > 1 store 1 KvGet a @max | region 1
        $ 1 locked a primary p of @980.0
        > 2 store 1 KvCheckTxnStatus p of @980.0 for @max now @1000.1 | region 2
        $ 2 committed @985.0
        > 3 store 1 KvResolveLock a of @980.0 committed @985.0 | region 1
        > 4 store 1 KvGet a @max | region 1 retry through @980.0
        $ 3 ok
        $ 4 locked a primary p of @995.0
        > 5 store 1 KvGet a @max | region 1 retry ignoring @995.0 through @980.0
        $ 5 value new
        = value new
        $ tget a @max
        > 6 store 1 KvGet a @max | region 1
        $ 6 value new
        = op 2: value new
        ",
    );
}

/// control-plane.md §6.4, the row of configurable-timeout reads: the next replica at once, with the usual
/// time, and no look at the store.
#[test]
fn a_read_in_a_hurry_goes_on_to_the_next_replica() {
    story(
        Txn,
        TWO,
        "
        $ silence stores
        $ with timeout=50 tget a @900.0
        > 1 store 1 KvGet a @900.0 | region 1
        $ wait
        ~ 50ms: AttemptTimeout
        x 1
        > 2 store 3 KvGet a @900.0 | region 1 retry
        $ pass 60
        $ 2 value x
        = value x
        ",
    );
}

/// control-plane.md §6.5, rows 12 and 22: a store that says so itself.
#[test]
fn a_store_that_gives_a_hurried_read_up_is_left_at_once() {
    for answer in ["busy deadline is exceeded", "message Deadline is exceeded"] {
        story(
            Txn,
            TWO,
            &format!(
                "
                $ with timeout=50 tbatch_get @900.0 a
                > 1 store 1 KvBatchGet a @900.0 | region 1
                $ 1 {answer}
                > 2 store 3 KvBatchGet a @900.0 | region 1 retry
                $ 2 pairs a=x
                = value x
                "
            ),
        );
    }
}

/// transactions.md §6.1: what of the options goes into the context, request by request.
#[test]
fn options_are_told_to_the_store() {
    for (input, is_scan, limit_ms) in [
        ("tget a @900.0", false, 70),
        ("tbatch_get @900.0 a", false, 70),
        ("tscan a..b 1 @900.0", true, 60_000),
    ] {
        let mut story = Story::new(Txn, TWO);
        let all = "rccheck,high,nofill,step=3,task=7,timeout=70,tag=t,group=g,source=s";
        story.play(&format!("with {all} {input}"));
        let call = story.call(1);
        let Head::Store(context) = &call.request.head else {
            panic!("a store is asked");
        };
        let context = context.to_proto();
        assert_eq!(context.isolation_level(), IsolationLevel::RcCheckTs, "{input}");
        assert_eq!(context.priority(), CommandPri::High, "{input}");
        assert!(context.not_fill_cache, "{input}");
        assert_eq!(context.task_id, 7, "{input}");
        assert_eq!(context.resource_group_tag, "t", "{input}");
        let group = context.resource_control_context.clone().expect("a group");
        assert_eq!(group.resource_group_name, "g", "{input}");
        assert_eq!(context.request_source, "s", "{input}");
        assert_eq!(context.max_execution_duration_ms, limit_ms, "{input}");
        if is_scan {
            let scan: kvrpcpb::ScanRequest = call.request.message().expect("a scan");
            assert_eq!(scan.sample_step, 3);
        }
    }
    let mut story = Story::new(Txn, TWO);
    story.play("with rc,low tget a @900.0");
    let Head::Store(context) = &story.call(1).request.head else {
        panic!("a store is asked");
    };
    let context = context.to_proto();
    assert_eq!(context.isolation_level(), IsolationLevel::Rc);
    assert_eq!(context.priority(), CommandPri::Low);
}

/// peers.md D16: a scan goes from region to region as far as it needs, a page at a time, and never asks
/// for more than is wanted.
#[test]
fn d16_a_scan_asks_one_region_after_the_other() {
    story(
        Txn,
        "..g=1 g..p=2 p..=3",
        "
        $ page 2
        $ tscan a..z 3 @900.0
        > 1 store 1 KvScan a..z limit 2 @900.0 | region 1
        $ 1 pairs a=1 b=2
        > 2 store 1 KvScan b<00>..z limit 1 @900.0 | region 1
        $ 2 pairs
        > 3 store 1 KvScan g..z limit 1 @900.0 | region 2
        $ 3 pairs h=3
        = pairs a=1 b=2 h=3
        ",
    );
}
