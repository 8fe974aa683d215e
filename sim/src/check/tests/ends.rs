//! Liveness and residue.

use std::collections::BTreeSet;

use anatase_core::{Config, Core, ErrorKind, KeyMode, OpOptions, Operation};

use super::*;
use crate::check::liveness::{Demand, check};
use crate::check::residue;

fn op(history: &mut History, began: u64, deadline: u64, ended: Option<u64>) -> Id {
    let id = history.begin(1, ms(began), ms(deadline), What::Other("get".into()));
    if let Some(ended) = ended {
        history.end(id, ms(ended));
    }
    id
}

fn ends(deadline: u64, ended: Option<u64>, healed: u64) -> Vec<Anomaly> {
    let mut history = History::default();
    op(&mut history, 0, deadline, ended);
    anomalies(&check(&history, Demand::new(ms(healed), ms(10_000))))
}

/// A call of a transaction that went on, or of a snapshot that was kept.
#[test]
fn a_late_call_in_something_longer() {
    let late = |over, healed| {
        let mut history = History::default();
        let id = history.begin(1, ms(0), Instant::NEVER, What::Other("many".into()));
        history.entries[id].late = Some((ms(1_000), ms(over)));
        history.end(id, ms(9_000));
        anomalies(&check(&history, Demand::new(ms(healed), ms(10_000))))
    };
    assert_eq!(late(1_101, 0), [Anomaly::Overdue]);
    assert_eq!(late(3_050, 3_000), []);
}

#[test]
fn overdue() {
    assert_eq!(ends(1_000, Some(1_100), 0), []);
    assert_eq!(ends(1_000, Some(1_101), 0), [Anomaly::Overdue]);
    // A paused client owes it when everything is healed.
    assert_eq!(ends(1_000, Some(3_100), 3_000), []);
    assert_eq!(ends(1_000, Some(3_101), 3_000), [Anomaly::Overdue]);
}

#[test]
fn hanging() {
    assert_eq!(ends(1_000, None, 0), [Anomaly::Hanging]);
    assert_eq!(ends(9_900, None, 0), []);
    let mut history = History::default();
    history.begin(1, ms(0), Instant::NEVER, What::Other("forever".into()));
    assert_eq!(check(&history, Demand::new(ms(0), ms(10_000))), []);
}

#[test]
fn whoever_died_owes_nothing() {
    let mut history = History::default();
    let id = op(&mut history, 0, 1_000, None);
    let txn = Transaction::new(Mode::Optimistic);
    let open = history.begin(1, ms(0), ms(1_000), What::Transaction(txn));
    history.crash(1, ms(500));
    assert_eq!(check(&history, Demand::new(ms(0), ms(10_000))), []);
    assert_eq!(history.entries[id].ended, Some(ms(500)));
    assert_eq!(history.transaction_mut(open).map(|txn| txn.outcome), Some(Outcome::Crashed));
}

#[test]
fn unavailable() {
    for (began, error, found) in [
        (5_000, ErrorKind::RegionUnavailable, &[Anomaly::Unavailable][..]),
        (5_000, ErrorKind::DeadlineExceeded, &[Anomaly::Unavailable]),
        (4_999, ErrorKind::RegionUnavailable, &[]),
        (5_000, ErrorKind::KeyExists { key: bytes("k") }, &[]),
    ] {
        let mut history = History::default();
        let id = op(&mut history, began, 9_000, Some(8_000));
        history.entries[id].error = Some(error);
        let demand = Demand { well: ms(5_000), ..Demand::new(ms(4_000), ms(10_000)) };
        assert_eq!(anomalies(&check(&history, demand)), found);
    }
}

#[test]
fn left_lock() {
    let mut truth = Truth::default();
    truth.locks.push(lock("b", 7, "1"));
    let mut history = History::default();
    let mut txn = Transaction::new(Mode::Optimistic);
    txn.start_ts = Some(7);
    let id = history.begin(1, ms(0), Instant::NEVER, What::Transaction(txn));
    let live: BTreeSet<u64> = history.live_transactions().collect();
    assert_eq!(residue::locks(&truth, &live), []);
    history.end(id, ms(1));
    let live = history.live_transactions().collect();
    let found = residue::locks(&truth, &live);
    assert_eq!(anomalies(&found), [Anomaly::LeftLock]);
    assert!(found[0].story.contains("b is locked by the transaction @7, primary a"));
}

#[test]
fn not_idle_and_left_timer() {
    let config = Config::new(vec!["pd:2379".into()], KeyMode::Txn);
    let mut core = Core::new(config, 1, ms(0));
    assert_eq!(residue::core(&core, "client 1"), []);
    let options = OpOptions { deadline: ms(1_000), stream: 1 };
    core.submit(ms(0), Operation::Timestamp, options).expect("room");
    let found = anomalies(&residue::core(&core, "client 1"));
    assert_eq!(found, [Anomaly::NotIdle, Anomaly::LeftTimer]);
}

#[test]
fn left_work() {
    let counts = [("tasks", 0), ("messages", 2)];
    let found = residue::none_left(counts);
    assert_eq!(anomalies(&found), [Anomaly::LeftWork]);
    assert!(found[0].story.contains("2 messages left"));
}
