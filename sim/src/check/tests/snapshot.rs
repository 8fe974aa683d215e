use super::*;
use crate::check::snapshot::check;
use crate::history::SnapshotRead;

/// `x` was 1 from 10 on, 2 from 20 on, and deleted at 30; `y` was 5 from 20 on.
const ROWS: &[(&str, u64, u64, &str)] =
    &[("x", 10, 5, "1"), ("x", 20, 15, "2"), ("x", 30, 25, "-"), ("y", 20, 15, "5")];

fn reader(start_ts: u64, steps: Vec<Step>) -> Vec<Anomaly> {
    let mut history = History::default();
    txn(&mut history, start_ts, Outcome::Aborted, steps);
    anomalies(&check(&history, &truth(ROWS)))
}

#[test]
fn reads_of_a_snapshot_pass() {
    for (ts, x, y) in
        [(9, "-", "-"), (10, "1", "-"), (19, "1", "-"), (20, "2", "5"), (31, "-", "5")]
    {
        let mut pairs = vec![("x", x), ("y", y)];
        pairs.retain(|(_, value)| *value != "-");
        let whole = Step::Scan(scan("", "", &pairs));
        assert_eq!(reader(ts, vec![read("x", x), read("y", y), whole.clone()]), [], "{ts}");
        let mut history = History::default();
        let what = What::Snapshot(SnapshotRead { ts, steps: vec![read("x", x), whole] });
        history.begin(1, ms(1), Instant::NEVER, what);
        assert_eq!(check(&history, &truth(ROWS)), [], "{ts}");
    }
}

#[test]
fn stale_read() {
    assert_eq!(reader(20, vec![read("x", "1")]), [Anomaly::StaleRead]);
    assert_eq!(reader(20, vec![read("y", "-")]), [Anomaly::StaleRead]);
}

#[test]
fn future_read() {
    assert_eq!(reader(19, vec![read("x", "2")]), [Anomaly::FutureRead]);
}

#[test]
fn dirty_read() {
    assert_eq!(reader(20, vec![read("x", "7")]), [Anomaly::DirtyRead]);
}

#[test]
fn own_write_lost() {
    assert_eq!(reader(20, vec![write("x", "7"), read("x", "7")]), []);
    assert_eq!(reader(20, vec![write("x", "-"), read("x", "-")]), []);
    assert_eq!(reader(20, vec![write("x", "7"), read("x", "2")]), [Anomaly::OwnWriteLost]);
    for written in ["7", "-"] {
        let scanned = Step::Scan(scan("", "", &[("x", "2"), ("y", "5")]));
        let steps = vec![write("x", written), scanned];
        assert_eq!(reader(20, steps), [Anomaly::OwnWriteLost], "{written}");
    }
    let scanned = Step::Scan(scan("", "", &[("x", "7"), ("y", "5")]));
    assert_eq!(reader(20, vec![write("x", "7"), scanned]), []);
}

#[test]
fn incomplete_scan() {
    let told = |pairs: &[_]| vec![Step::Scan(scan("", "", pairs))];
    assert_eq!(reader(20, told(&[("x", "2")])), [Anomaly::IncompleteScan]);
    assert_eq!(reader(20, told(&[("y", "5")])), [Anomaly::IncompleteScan]);
    let invented = told(&[("w", "0"), ("x", "2"), ("y", "5")]);
    assert_eq!(reader(20, invented), [Anomaly::IncompleteScan]);
    assert_eq!(reader(20, told(&[("x", "1"), ("y", "5")])), [Anomaly::StaleRead]);
}

#[test]
fn what_a_limit_or_a_bound_leaves_out_is_not_missed() {
    for (limit, reverse, pairs, expected) in [
        (1, false, &[("x", "2")][..], &[][..]),
        (1, true, &[("y", "5")][..], &[][..]),
        (1, true, &[("x", "2")][..], &[Anomaly::IncompleteScan][..]),
        (1, false, &[("y", "5")][..], &[Anomaly::IncompleteScan][..]),
        (1, false, &[("x", "1")][..], &[Anomaly::StaleRead][..]),
        (1, true, &[("y", "4")][..], &[Anomaly::DirtyRead][..]),
        (0, false, &[][..], &[][..]),
    ] {
        let told = Scan { limit, reverse, ..scan("", "", pairs) };
        assert_eq!(reader(20, vec![Step::Scan(told)]), expected, "{limit} {reverse} {pairs:?}");
    }
    assert_eq!(reader(20, vec![Step::Scan(scan("a", "y", &[("x", "2")]))]), []);
    let keys = Scan { key_only: true, ..scan("", "", &[("x", ""), ("y", "")]) };
    assert_eq!(reader(20, vec![Step::Scan(keys)]), []);
}

#[test]
fn scan_out_of_order() {
    for (start, limit, reverse, pairs) in [
        ("", 9, false, &[("y", "5"), ("x", "2")][..]),
        ("", 9, true, &[("x", "2"), ("y", "5")][..]),
        ("", 9, false, &[("x", "2"), ("x", "2")][..]),
        ("y", 9, false, &[("x", "2")][..]),
        ("", 1, false, &[("x", "2"), ("y", "5")][..]),
    ] {
        let told = Scan { limit, reverse, ..scan(start, "", pairs) };
        assert_eq!(reader(20, vec![Step::Scan(told)]), [Anomaly::ScanOutOfOrder], "{pairs:?}");
    }
}

fn two_writers(
    starts: [u64; 2],
    commits: [u64; 2],
    mode: Mode,
    locked: Option<u64>,
) -> Vec<Anomaly> {
    let mut history = History::default();
    txn(&mut history, starts[0], committed(commits[0]), vec![write("x", "1")]);
    let lock = Step::Lock { key: bytes("x"), for_update_ts: locked };
    let id = txn(&mut history, starts[1], committed(commits[1]), vec![lock, write("x", "2")]);
    history.transaction_mut(id).expect("it").mode = mode;
    let rows = [("x", commits[0], starts[0], "1"), ("x", commits[1], starts[1], "2")];
    let found = check(&history, &truth(&rows));
    assert!(found.iter().all(|it| it.who.contains(&id)), "{found:?}");
    anomalies(&found)
}

#[test]
fn lost_update() {
    let optimistic = |starts, commits| two_writers(starts, commits, Mode::Optimistic, None);
    assert_eq!(optimistic([5, 15], [10, 20]), []);
    assert_eq!(optimistic([5, 10], [10, 20]), []);
    assert_eq!(optimistic([5, 9], [10, 20]), [Anomaly::LostUpdate]);
    // A pessimistic one may have begun before, if it locked after.
    let pessimistic = |locked| two_writers([5, 9], [10, 20], Mode::Pessimistic, locked);
    assert_eq!(pessimistic(Some(10)), []);
    assert_eq!(pessimistic(None), []);
    assert_eq!(pessimistic(Some(9)), [Anomaly::LostUpdate]);
}

/// A key that is locked and not written keeps others from writing it all the same.
#[test]
fn a_mere_lock_is_a_writer() {
    let mut history = History::default();
    let lock = Step::Lock { key: bytes("x"), for_update_ts: None };
    txn(&mut history, 5, committed(10), vec![lock]);
    txn(&mut history, 9, committed(20), vec![write("x", "2")]);
    let rows = [("x", 10, 5, "lock"), ("x", 20, 9, "2")];
    assert_eq!(anomalies(&check(&history, &truth(&rows))), [Anomaly::LostUpdate]);
}

#[test]
fn commit_not_after_start() {
    let mut history = History::default();
    txn(&mut history, 10, committed(10), vec![write("x", "1")]);
    let rows = [("x", 10, 10, "1")];
    assert_eq!(anomalies(&check(&history, &truth(&rows))), [Anomaly::CommitNotAfterStart]);
}

#[test]
fn same_version_twice() {
    let found = two_writers([5, 6], [10, 10], Mode::Optimistic, None);
    assert_eq!(found, [Anomaly::SameVersionTwice]);
}

#[test]
fn inserted_over_existing() {
    for (start_ts, found) in [(20, &[Anomaly::InsertedOverExisting][..]), (31, &[][..])] {
        let mut history = History::default();
        txn(&mut history, start_ts, committed(40), vec![insert("x", "3")]);
        let rows = [ROWS, &[("x", 40, start_ts, "3")]].concat();
        let rows: Vec<_> = rows.into_iter().filter(|row| start_ts == 31 || row.1 != 30).collect();
        assert_eq!(anomalies(&check(&history, &truth(&rows))), found, "{start_ts}");
    }
}

#[test]
fn lock_did_not_hold() {
    for (told, found) in [("2", &[][..]), ("1", &[Anomaly::LockDidNotHold][..])] {
        let mut history = History::default();
        let steps = vec![read("x", "1"), read_locked("x", told), write("x", "3")];
        let id = txn(&mut history, 19, committed(29), steps);
        history.transaction_mut(id).expect("it").mode = Mode::Pessimistic;
        let rows = [&ROWS[..2], &[("x", 29, 19, "3")]].concat();
        assert_eq!(anomalies(&check(&history, &truth(&rows))), found, "{told}");
    }
    // Nobody knows when one had its lock that was not committed; but it saw what was there once.
    assert_eq!(reader(19, vec![read_locked("x", "2")]), []);
    assert_eq!(reader(20, vec![read_locked("x", "1")]), [Anomaly::StaleRead]);
    assert_eq!(reader(20, vec![read_locked("x", "7")]), [Anomaly::DirtyRead]);
}

#[test]
fn reads_below_the_safe_point_are_not_judged() {
    let mut history = History::default();
    txn(&mut history, 12, Outcome::Aborted, vec![read("x", "0")]);
    let mut truth = truth(ROWS);
    assert_eq!(anomalies(&check(&history, &truth)), [Anomaly::DirtyRead]);
    truth.safe_point = 13;
    assert_eq!(check(&history, &truth), []);
}

/// A counterexample can be read without anything beside it.
#[test]
fn the_story_names_key_value_and_both_transactions() {
    let mut history = History::default();
    txn(&mut history, 15, committed(20), vec![write("x", "2"), write("y", "5")]);
    txn(&mut history, 21, Outcome::Aborted, vec![read("x", "1")]);
    let found = check(&history, &truth(&ROWS[..2]));
    let story = found[0].to_string();
    assert_eq!(
        story,
        "Snapshot: StaleRead: read \"1\" from x @21, which has \"2\" committed @20 by the transaction \
         @15; it saw \"1\" committed @10 by the transaction @5\n  \
         #1 p1 [20.000000 ms, 25.000000 ms] txn @21: x is \"1\"; aborted"
    );
}
