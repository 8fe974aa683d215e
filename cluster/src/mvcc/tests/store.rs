//! Heartbeats, inspection, lock scans, resolution, garbage, range deletion: cases.md MOC-06, 08,
//! 09, 11, 15.

use anatase_proto::kvrpcpb::{
    DeleteRangeRequest, MvccGetByKeyRequest, MvccGetByStartTsRequest, Op, ScanLockRequest,
    TxnHeartBeatRequest,
};

use super::{
    read::five,
    status::{BEGIN, locked},
};
use crate::testing::{key, small, text};

// MOC-15

#[test]
fn heartbeats_only_ever_lengthen() {
    let mut cluster = locked();
    let mut beat = |name: &str, advise_lock_ttl| {
        cluster.ask(name, |context| TxnHeartBeatRequest {
            context,
            primary_lock: key(name),
            start_version: BEGIN,
            advise_lock_ttl,
            ..Default::default()
        })
    };
    assert_eq!(beat("p", 6666).lock_ttl, 6666);
    assert_eq!(beat("p", 5555).lock_ttl, 6666);
    assert!(beat("x", 1).error.unwrap().txn_not_found.is_some());
    cluster.roll_back(BEGIN, &["p"]);
    let response = cluster.ask("p", |context| TxnHeartBeatRequest {
        context,
        primary_lock: key("p"),
        start_version: BEGIN,
        advise_lock_ttl: 9999,
        ..Default::default()
    });
    assert!(response.error.unwrap().txn_not_found.is_some());
}

#[test]
fn a_key_can_be_inspected() {
    let mut cluster = locked();
    cluster.commit(BEGIN, BEGIN + 9, &["p"]);
    cluster.prewrite(BEGIN + 20, &[(Op::Del, "p", "")]);
    let by_key = cluster.ask("p", |context| MvccGetByKeyRequest { context, key: key("p") });
    let info = by_key.info.unwrap();
    assert_eq!(info.lock.as_ref().unwrap().start_ts, BEGIN + 20);
    assert_eq!((info.writes[0].commit_ts, &info.values[0].value[..]), (BEGIN + 9, &b"v"[..]));
    let by_ts = cluster.ask("p", |context| MvccGetByStartTsRequest { context, start_ts: BEGIN });
    assert_eq!((by_ts.key, by_ts.info.unwrap()), (key("p"), info));
}

// MOC-06

#[test]
fn locks_are_scanned_in_order_up_to_a_timestamp_and_a_limit() {
    let mut cluster = small();
    cluster.prewrite(10, &[(Op::Put, "b", "v"), (Op::Lock, "d", "")]);
    cluster.prewrite(20, &[(Op::Del, "a", ""), (Op::Put, "c", "v")]);
    let mut scan = |max_version, start: &str, end: &str, limit| {
        let response = cluster.ask(start, |context| ScanLockRequest {
            context,
            max_version,
            start_key: key(start),
            end_key: key(end),
            limit,
        });
        response.locks.iter().map(|lock| text(&lock.key)).collect::<Vec<_>>().join("")
    };
    assert_eq!(scan(20, "", "", 0), "abcd");
    assert_eq!(scan(19, "", "", 0), "bd");
    assert_eq!(scan(20, "b", "d", 0), "bc");
    assert_eq!(scan(20, "", "", 3), "abc");
    assert_eq!(scan(9, "", "", 0), "");
}

// MOC-08; §16

#[test]
fn resolving_commits_or_rolls_back_one_or_many() {
    let mut cluster = small();
    for (start_ts, name) in [(10, "a"), (20, "c"), (30, "e"), (40, "g")] {
        let other = format!("{name}{name}");
        cluster.prewrite(start_ts, &[(Op::Put, name, "v"), (Op::Put, &other, "v")]);
    }
    assert_eq!(cluster.resolve(&[(10, 11)], &["aa"]), None, "one key");
    assert_eq!(cluster.locked_keys(), ["a", "c", "cc", "e", "ee", "g", "gg"]);
    assert_eq!(cluster.resolve(&[(10, 11)], &[]), None, "what is left of one transaction");
    assert_eq!(cluster.resolve(&[(20, 0), (30, 31)], &[]), None, "two");
    assert_eq!(cluster.locked_keys(), ["g", "gg"]);
    let values = ["a", "aa", "c", "cc", "e", "ee"].map(|name| cluster.committed(name, 100));
    assert_eq!(values.map(|value| value.is_some()), [true, true, false, false, true, true]);
    assert_eq!(cluster.resolve(&[(10, 11)], &["a"]), None, "again");
    assert!(cluster.resolve(&[(20, 21)], &["c"]).unwrap().txn_lock_not_found.is_some());
    assert!(cluster.resolve(&[(40, 40)], &[]).unwrap().abort.contains("InvalidTxnTso"));
    assert_eq!(cluster.locked_keys(), ["g", "gg"]);
}

#[test]
fn resolving_a_region_leaves_the_others_alone() {
    let mut cluster = small();
    cluster.prewrite(10, &[(Op::Put, "a", "v"), (Op::Put, "z", "v")]);
    cluster.split("m");
    assert_eq!(cluster.resolve(&[(10, 0)], &[]), None);
    assert_eq!(cluster.locked_keys(), ["z"]);
}

// MOC-09

#[test]
fn garbage_is_what_no_read_above_the_safe_point_sees() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "v1");
    cluster.put(15, 20, "k", "v2");
    cluster.prewrite(21, &[(Op::Lock, "k", "")]);
    cluster.commit(21, 22, &["k"]);
    cluster.put(25, 30, "k", "v3");
    cluster.put(6, 11, "gone", "v");
    cluster.delete(16, 21, "gone");
    cluster.roll_back(12, &["never"]);
    cluster.gc(25);
    let commits: Vec<_> = cluster.writes("k").iter().map(|write| write.commit_ts).collect();
    assert_eq!(commits, [30, 20]);
    assert_eq!(cluster.txn_keys().collect::<Vec<_>>(), ["k"]);
    assert_eq!(cluster.read("k", 25), Ok(Some("v2".into())));
}

/// TiKV does not compare a read with the safe point: below it a read is answered from what is left.
/// That is why a client has to (transactions.md §17.7).
#[test]
fn a_read_below_the_safe_point_is_answered_and_may_be_wrong() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "v1");
    cluster.put(15, 20, "k", "v2");
    assert_eq!(cluster.read("k", 12), Ok(Some("v1".into())));
    cluster.gc(25);
    assert_eq!(cluster.read("k", 12), Ok(None));
    assert_eq!(cluster.read("k", 25), Ok(Some("v2".into())));
}

// MOC-11

#[test]
fn deleting_a_range_is_half_open_and_takes_locks_too() {
    let mut cluster = five();
    cluster.prewrite(30, &[(Op::Put, "c", "v")]);
    let mut delete = |start: &str, end: &str, notify_only| {
        let context = cluster.context_for(cluster.region_of(b"").unwrap().id);
        cluster
            .call(
                1,
                DeleteRangeRequest {
                    context: Some(Box::new(context)),
                    start_key: key(start),
                    end_key: key(end),
                    notify_only,
                },
            )
            .result
            .unwrap()
            .region_error
    };
    assert!(delete("b", "b", false).is_some(), "an empty range is an error");
    assert_eq!(delete("b", "e", true), None, "notice only");
    assert_eq!(delete("b", "d", false), None);
    let keys: Vec<_> = cluster.txn_keys().map(|key| text(key)).collect();
    assert_eq!(keys, ["a", "d", "e"]);
}
