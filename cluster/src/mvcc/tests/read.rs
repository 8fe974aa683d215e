//! Reads: transactions.md §20.4, last rule; cases.md MOC-01, 02, 04, 05, 12.

use anatase_proto::kvrpcpb::{
    BatchGetRequest, GetRequest, IsolationLevel, KeyError, Op, ScanRequest, write_conflict::Reason,
};

use crate::{
    Cluster, WriteKind,
    testing::{key, small, text},
};

fn lock_key(result: Result<Option<String>, Box<KeyError>>) -> String {
    text(&result.unwrap_err().locked.expect("a lock").key)
}

// MOC-01, MOC-05

#[test]
fn a_read_sees_what_is_committed_at_or_below_its_timestamp() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "v1");
    cluster.put(15, 20, "k", "v2");
    cluster.delete(25, 30, "k");
    let reads = [9, 10, 19, 20, 29, 30, u64::MAX].map(|ts| cluster.read("k", ts).unwrap());
    let seen = reads.each_ref().map(|value| value.as_deref());
    assert_eq!(seen, [None, Some("v1"), Some("v1"), Some("v2"), Some("v2"), None, None]);
    assert_eq!(cluster.read("absent", 30), Ok(None));
}

#[test]
fn locks_and_rollbacks_in_between_are_looked_past() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "v");
    assert_eq!(cluster.prewrite(15, &[(Op::Lock, "k", "")]), []);
    assert_eq!(cluster.commit(15, 20, &["k"]), None);
    assert_eq!(cluster.roll_back(25, &["k"]), None);
    assert_eq!(cluster.read("k", 30), Ok(Some("v".into())));
    assert_eq!(
        cluster.writes("k").iter().map(|write| write.kind).collect::<Vec<_>>(),
        [WriteKind::Rollback, WriteKind::Lock, WriteKind::Put]
    );
}

#[test]
fn the_commit_timestamp_is_told_if_asked_for() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "v");
    for (asked, told) in [(true, 10), (false, 0)] {
        let response = cluster.ask("k", |context| GetRequest {
            context,
            key: key("k"),
            version: 20,
            need_commit_ts: asked,
        });
        assert_eq!(response.commit_ts, told);
    }
}

// §20.4, last rule; MOC-02, MOC-12

#[test]
fn a_lock_blocks_reads_from_its_start_on_unless_it_was_pushed() {
    let mut cluster = small();
    cluster.put(5, 10, "p", "old");
    cluster.prewrite_with(20, &[(Op::Put, "p", "new")], |request| request.min_commit_ts = 30);
    assert_eq!(cluster.read("p", 19), Ok(Some("old".into())));
    assert_eq!(cluster.read("p", 29), Ok(Some("old".into())), "below min_commit_ts");
    assert_eq!(lock_key(cluster.read("p", 30)), "p");
}

#[test]
fn a_lock_without_a_minimum_blocks_from_its_start() {
    let mut cluster = small();
    cluster.prewrite_with(20, &[(Op::Put, "p", "new")], |request| request.min_commit_ts = 0);
    assert_eq!(cluster.read("p", 19), Ok(None));
    assert_eq!(lock_key(cluster.read("p", 20)), "p");
}

#[test]
fn a_lock_that_changes_nothing_blocks_nobody() {
    let mut cluster = small();
    cluster.put(5, 10, "p", "v");
    cluster.prewrite(20, &[(Op::Lock, "p", "")]);
    assert_eq!(cluster.read("p", 30), Ok(Some("v".into())));
}

#[test]
fn a_read_of_the_latest_skips_the_lock_of_a_primary_and_no_other() {
    let mut cluster = small();
    cluster.put(5, 10, "p", "p0");
    cluster.put(6, 11, "s", "s0");
    cluster.prewrite(20, &[(Op::Put, "p", "p1"), (Op::Put, "s", "s1")]);
    assert_eq!(cluster.read("p", u64::MAX), Ok(Some("p0".into())));
    assert_eq!(lock_key(cluster.read("s", u64::MAX)), "s");
}

#[test]
fn resolved_locks_are_skipped_and_committed_ones_read_through() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "old");
    cluster.put(6, 11, "d", "old");
    cluster.prewrite(20, &[(Op::Put, "k", "new"), (Op::Del, "d", "")]);
    let resolved = cluster.read_with("k", 30, |context| context.resolved_locks = vec![20]);
    assert_eq!(resolved, Ok(Some("old".into())));
    let committed = cluster.read_with("k", 30, |context| context.committed_locks = vec![20]);
    assert_eq!(committed, Ok(Some("new".into())));
    let deleted = cluster.read_with("d", 30, |context| context.committed_locks = vec![20]);
    assert_eq!(deleted, Ok(None));
    let other = cluster.read_with("k", 30, |context| context.committed_locks = vec![21]);
    assert_eq!(lock_key(other), "k");
}

#[test]
fn read_committed_takes_no_notice_of_locks() {
    let mut cluster = small();
    cluster.put(5, 10, "k", "old");
    cluster.prewrite(20, &[(Op::Put, "k", "new")]);
    let rc = IsolationLevel::Rc as i32;
    let read = cluster.read_with("k", 30, |context| context.isolation_level = rc);
    assert_eq!(read, Ok(Some("old".into())));
}

#[test]
fn read_committed_with_a_check_fails_on_anything_newer() {
    let mut cluster = small();
    let level = IsolationLevel::RcCheckTs as i32;
    cluster.put(5, 10, "k", "v");
    let read =
        |cluster: &mut Cluster, ts| cluster.read_with("k", ts, |it| it.isolation_level = level);
    assert_eq!(read(&mut cluster, 10), Ok(Some("v".into())));
    let conflict = read(&mut cluster, 9).unwrap_err().conflict.unwrap();
    assert_eq!((conflict.conflict_commit_ts, conflict.reason()), (10, Reason::RcCheckTs));
    cluster.prewrite(20, &[(Op::Put, "k", "new")]);
    let conflict = read(&mut cluster, 15).unwrap_err().conflict.unwrap();
    assert_eq!((conflict.conflict_ts, conflict.reason()), (20, Reason::RcCheckTs));
}

// MOC-04

fn scan(start: &str, end: &str, limit: u32, version: u64) -> ScanRequest {
    ScanRequest { start_key: key(start), end_key: key(end), limit, version, ..Default::default() }
}

pub(super) fn five() -> Cluster {
    let mut cluster = small();
    for (at, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        cluster.put(5 + at as u64, 10 + at as u64, name, &format!("{name}0"));
    }
    cluster
}

#[test]
fn scans_have_bounds_limits_and_versions() {
    let mut cluster = five();
    cluster.delete(20, 21, "c");
    assert_eq!(cluster.rows(scan("", "", 10, 20)), ["a=a0", "b=b0", "c=c0", "d=d0", "e=e0"]);
    assert_eq!(cluster.rows(scan("", "", 10, 21)), ["a=a0", "b=b0", "d=d0", "e=e0"]);
    assert_eq!(cluster.rows(scan("b", "d", 10, 21)), ["b=b0"]);
    assert_eq!(cluster.rows(scan("b", "d\0", 10, 21)), ["b=b0", "d=d0"]);
    assert_eq!(cluster.rows(scan("", "", 2, 21)), ["a=a0", "b=b0"]);
    assert_eq!(cluster.rows(scan("", "", 0, 21)), [""; 0]);
    assert_eq!(cluster.rows(scan("d", "b", 9, 21)), [""; 0]);
}

#[test]
fn reverse_scans_go_down_from_an_excluded_start_to_an_included_end() {
    let mut cluster = five();
    let down = |start: &str, end: &str, limit| ScanRequest {
        reverse: true,
        ..scan(start, end, limit, 50)
    };
    assert_eq!(cluster.rows(down("d", "b", 9)), ["c=c0", "b=b0"]);
    assert_eq!(cluster.rows(down("d\0", "", 2)), ["d=d0", "c=c0"]);
    assert_eq!(cluster.rows(down("", "", 9)), [""; 0], "down from the first key");
}

#[test]
fn a_scan_tells_of_locks_row_by_row_and_counts_them() {
    let mut cluster = five();
    cluster.prewrite(30, &[(Op::Put, "b", "b1"), (Op::Del, "d", "")]);
    assert_eq!(cluster.rows(scan("", "", 3, 40)), ["a=a0", "!b", "c=c0"]);
    let rows = cluster.rows(ScanRequest { reverse: true, ..scan("z", "", 3, 40) });
    assert_eq!(rows, ["e=e0", "!d", "c=c0"]);
    let with = |resolved, committed| {
        let mut cluster = cluster.clone();
        let response = cluster.ask("", |mut context| {
            let set = context.as_mut().unwrap();
            (set.resolved_locks, set.committed_locks) = (resolved, committed);
            ScanRequest { context, ..scan("", "", 10, 40) }
        });
        let values = response.pairs.iter().map(|pair| text(&pair.value));
        values.collect::<Vec<_>>()
    };
    assert_eq!(with(vec![30], vec![]), ["a0", "b0", "c0", "d0", "e0"]);
    assert_eq!(with(vec![], vec![30]), ["a0", "b1", "c0", "e0"]);
}

#[test]
fn scans_of_keys_only_and_of_samples() {
    let mut cluster = five();
    let keys = cluster.rows(ScanRequest { key_only: true, ..scan("", "", 2, 50) });
    assert_eq!(keys, ["a=", "b="]);
    let sampled = cluster.rows(ScanRequest { sample_step: 2, ..scan("", "", 9, 50) });
    assert_eq!(sampled, ["a=a0", "c=c0", "e=e0"]);
}

#[test]
fn a_batch_read_leaves_out_what_is_absent_and_tells_of_each_lock() {
    let mut cluster = five();
    cluster.prewrite(30, &[(Op::Put, "b", "b1")]);
    let response = cluster.ask("a", |context| BatchGetRequest {
        context,
        keys: ["a", "nope", "b", "a"].map(key).to_vec(),
        version: 40,
        need_commit_ts: true,
    });
    assert_eq!(response.error, None);
    let [first, locked, again] = &response.pairs[..] else { panic!("{:?}", response.pairs) };
    assert_eq!((&first.value[..], first.commit_ts), (&b"a0"[..], 10));
    assert_eq!(first, again);
    assert!(locked.key.is_empty());
    assert_eq!(&locked.error.as_ref().unwrap().locked.as_ref().unwrap().key[..], b"b");
}
