use super::*;
use crate::check::list_append::{Options, Report, check};

fn judged(history: &History) -> Report {
    check(history, Options { real_time: false, ..Options::default() })
}

fn lists(history: &History) -> Vec<Anomaly> {
    anomalies(&judged(history).violations)
}

fn sees(key: &'static str, list: &[u64]) -> Step {
    let value = (!list.is_empty()).then(|| encode_list(list));
    Step::Read { key: bytes(key), value }
}

/// Commit timestamps say nothing here.
const DONE: Outcome = committed(0);

fn plays(txns: Vec<Vec<Step>>) -> History {
    let mut history = History::default();
    for (place, steps) in txns.into_iter().enumerate() {
        txn(&mut history, place as u64 + 1, DONE, steps);
    }
    history
}

#[test]
fn one_after_the_other_passes() {
    let history = plays(vec![
        vec![sees("x", &[]), append("x", &[1])],
        vec![sees("x", &[1]), append("x", &[1, 2]), sees("x", &[1, 2]), append("x", &[1, 2, 3])],
        vec![sees("y", &[]), append("y", &[7]), sees("x", &[1, 2, 3])],
        vec![sees("x", &[1, 2, 3]), sees("y", &[7])],
    ]);
    let report = check(&history, Options { forbid_write_skew: true, ..Options::default() });
    assert_eq!((report.violations, report.write_skew, report.transactions), (vec![], vec![], 4));
}

/// Each wrote over the other, once on each key.
#[test]
fn g0() {
    let history = plays(vec![
        vec![append("x", &[1]), append("y", &[2, 1])],
        vec![append("x", &[1, 2]), append("y", &[2])],
        vec![sees("x", &[1, 2]), sees("y", &[2, 1])],
    ]);
    assert_eq!(lists(&history), [Anomaly::G0]);
}

#[test]
fn g1a() {
    let mut history = History::default();
    txn(&mut history, 1, Outcome::Aborted, vec![append("x", &[1])]);
    txn(&mut history, 2, DONE, vec![sees("x", &[1])]);
    let found = judged(&history).violations;
    assert_eq!(anomalies(&found), [Anomaly::G1a]);
    assert_eq!(found[0].who, [1, 0]);
    // Of one in doubt it tells that it was committed.
    history.transaction_mut(0).expect("it").outcome = Outcome::Undetermined;
    assert_eq!(lists(&history), []);
    // Nobody asked for this commit.
    let first = history.transaction_mut(0).expect("it");
    (first.outcome, first.commit_began) = (Outcome::Crashed, None);
    assert_eq!(lists(&history), [Anomaly::G1a]);
}

#[test]
fn g1b() {
    let history = plays(vec![
        vec![append("x", &[1]), append("x", &[1, 2])],
        vec![sees("x", &[1])],
        vec![sees("x", &[1, 2])],
    ]);
    assert!(lists(&history).contains(&Anomaly::G1b), "{:?}", lists(&history));
}

/// Each saw what the other wrote.
#[test]
fn g1c() {
    let history = plays(vec![
        vec![append("x", &[1]), sees("y", &[2])],
        vec![append("y", &[2]), sees("x", &[1])],
    ]);
    assert_eq!(lists(&history), [Anomaly::G1c]);
}

/// Read skew: the reader saw one half of a transaction.
#[test]
fn g_single() {
    let history = plays(vec![
        vec![append("x", &[1]), append("y", &[2])],
        vec![sees("x", &[1]), sees("y", &[])],
        vec![sees("x", &[1]), sees("y", &[2])],
    ]);
    let found = judged(&history).violations;
    assert_eq!(anomalies(&found), [Anomaly::GSingle]);
    assert!(found[0].story.contains("#0 wr #1: #1 saw its 1 in x"), "{}", found[0]);
    assert!(found[0].story.contains("#1 rw #0: it did not see #0's 2 in y"), "{}", found[0]);
}

/// A reader that was not committed is shown a snapshot as well.
#[test]
fn g_single_of_an_aborted_reader() {
    let mut history = plays(vec![vec![append("x", &[1]), append("y", &[2])]]);
    txn(&mut history, 2, Outcome::Aborted, vec![sees("x", &[1]), sees("y", &[])]);
    assert_eq!(lists(&history), [Anomaly::GSingle]);
}

/// Two readers disagree on which of two writers came first (long fork).
#[test]
fn g_nonadjacent() {
    let history = plays(vec![
        vec![append("x", &[1])],
        vec![append("y", &[2])],
        vec![sees("x", &[1]), sees("y", &[])],
        vec![sees("x", &[]), sees("y", &[2])],
    ]);
    assert_eq!(lists(&history), [Anomaly::GNonadjacent]);
}

/// G2 is allowed, and told apart.
#[test]
fn write_skew() {
    let history = plays(vec![
        vec![sees("x", &[]), append("y", &[1])],
        vec![sees("y", &[]), append("x", &[2])],
        vec![sees("x", &[2]), sees("y", &[1])],
    ]);
    let report = judged(&history);
    assert_eq!(report.violations, []);
    assert_eq!(anomalies(&report.write_skew), [Anomaly::G2]);
    let strict = Options { forbid_write_skew: true, real_time: false };
    assert_eq!(anomalies(&check(&history, strict).violations), [Anomaly::G2]);
}

/// Two began from the same list, and both were committed.
#[test]
fn lost_append() {
    let history = plays(vec![
        vec![sees("x", &[]), append("x", &[1])],
        vec![sees("x", &[]), append("x", &[2])],
        vec![sees("x", &[2])],
    ]);
    let found = lists(&history);
    assert!(found.contains(&Anomaly::LostAppend), "{found:?}");
    // A transaction in doubt may have done nothing.
    let mut history = plays(vec![vec![append("x", &[2])], vec![sees("x", &[2])]]);
    txn(&mut history, 9, Outcome::Undetermined, vec![append("x", &[1])]);
    assert_eq!(lists(&history), []);
}

#[test]
fn incompatible_order() {
    let history = plays(vec![
        vec![append("x", &[1])],
        vec![append("x", &[1, 2])],
        vec![sees("x", &[1, 2])],
        vec![sees("x", &[2])],
    ]);
    assert_eq!(lists(&history), [Anomaly::IncompatibleOrder]);
}

#[test]
fn duplicate_element() {
    let history = plays(vec![vec![append("x", &[1])], vec![sees("x", &[1, 1])]]);
    assert_eq!(lists(&history), [Anomaly::DuplicateElement]);
}

#[test]
fn garbage_element() {
    let history = plays(vec![vec![append("x", &[1])], vec![sees("x", &[1, 9])]]);
    assert_eq!(lists(&history), [Anomaly::GarbageElement]);
}

#[test]
fn internal() {
    let history = plays(vec![vec![append("x", &[1]), sees("x", &[])]]);
    assert_eq!(lists(&history), [Anomaly::Internal]);
    let history = plays(vec![
        vec![append("x", &[1])],
        vec![sees("x", &[]), sees("x", &[1])],
        vec![sees("x", &[1]), append("y", &[1])],
    ]);
    assert_eq!(lists(&history), [Anomaly::Internal]);
}

#[test]
fn malformed() {
    let twice = plays(vec![vec![append("x", &[1])], vec![append("y", &[1]), append("x", &[1, 1])]]);
    assert!(lists(&twice).contains(&Anomaly::Malformed), "{:?}", lists(&twice));
    let no_list = plays(vec![vec![append("x", &[1])], vec![read("x", "one")]]);
    assert_eq!(lists(&no_list), [Anomaly::Malformed]);
    let overwritten = plays(vec![vec![append("x", &[1])], vec![write("x", "2")]]);
    assert_eq!(lists(&overwritten), [Anomaly::Malformed]);
}

/// It began after the append was told, and did not see it.
#[test]
fn real_time_cycle() {
    let mut history = History::default();
    during(&mut history, (10, 20), 1, DONE, vec![append("x", &[1])]);
    let late = during(&mut history, (30, 40), 2, DONE, vec![sees("x", &[])]);
    assert_eq!(lists(&history), []);
    let found = check(&history, Options::default()).violations;
    assert_eq!(anomalies(&found), [Anomaly::RealTimeCycle]);
    assert_eq!(found[0].who.len(), 2, "{}", found[0]);
    // Of a commit whose owner was gone nobody was told: it may have come later.
    let mut unheard = history.clone();
    unheard.transaction_mut(0).expect("it").outcome = Outcome::Crashed;
    during(&mut unheard, (50, 60), 3, DONE, vec![sees("x", &[1])]);
    assert_eq!(check(&unheard, Options::default()).violations, []);
    // With a timestamp of its own it may see what it likes.
    history.transaction_mut(late).expect("it").fresh = false;
    assert_eq!(check(&history, Options::default()).violations, []);
}

/// Keys that are found missing by a scan were read.
#[test]
fn a_scan_is_a_read_of_all_keys_in_its_range() {
    let history = plays(vec![
        vec![append("x", &[1]), append("y", &[2])],
        vec![Step::Scan(scan("", "", &[("x", "1")]))],
        vec![sees("y", &[2])],
    ]);
    assert_eq!(lists(&history), [Anomaly::GSingle]);
    let bounded = Scan { limit: 1, ..scan("", "", &[("x", "1")]) };
    let history = plays(vec![
        vec![append("x", &[1]), append("y", &[2])],
        vec![Step::Scan(bounded)],
        vec![sees("y", &[2])],
    ]);
    assert_eq!(lists(&history), []);
}

/// A pessimistic writer reads the past and locks the present: only the latter has to fit.
#[test]
fn a_pessimistic_writer_is_judged_by_what_it_locked() {
    let now =
        |key, list: &[u64]| Step::ReadLocked { key: bytes(key), value: Some(encode_list(list)) };
    for (first, found) in [
        (sees("x", &[]), &[][..]),
        (Step::ReadLocked { key: bytes("x"), value: None }, &[Anomaly::GSingle][..]),
    ] {
        let mut history = plays(vec![
            vec![append("x", &[1]), append("y", &[2])],
            vec![first, now("y", &[2]), append("y", &[2, 3])],
            vec![sees("x", &[1]), sees("y", &[2, 3])],
        ]);
        history.transaction_mut(1).expect("it").mode = Mode::Pessimistic;
        assert_eq!(lists(&history), found);
    }
}

/// Its first lock was lost, and another wrote the key, before it took the second: it is no reader of one
/// moment. If it was committed all the same, it is a cycle.
#[test]
fn locks_that_were_lost_show_no_cycle_unless_it_was_committed() {
    let locked = |key, list: &[u64]| {
        let value = (!list.is_empty()).then(|| encode_list(list));
        Step::ReadLocked { key: bytes(key), value }
    };
    let play = |outcome| {
        let mut history = History::default();
        let one = txn(&mut history, 1, outcome, vec![locked("x", &[]), locked("y", &[8])]);
        let two = vec![locked("x", &[]), append("x", &[7]), locked("y", &[]), append("y", &[8])];
        txn(&mut history, 2, DONE, two);
        for id in [one, 1] {
            history.transaction_mut(id).expect("it").mode = Mode::Pessimistic;
        }
        lists(&history)
    };
    assert_eq!(play(Outcome::Aborted), []);
    assert_eq!(play(DONE), [Anomaly::GSingle]);
}
