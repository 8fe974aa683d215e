use super::*;
use crate::check::real_time::check;

fn writer() -> Vec<Step> {
    vec![write("x", "1")]
}

/// The first is told at 20 ms that it was committed at 100; the second begins then or before.
fn second(began: u64, start_ts: u64, fresh: bool) -> Vec<Anomaly> {
    let mut history = History::default();
    during(&mut history, (10, 20), 50, committed(100), writer());
    let id = during(&mut history, (began, 40), start_ts, Outcome::Aborted, vec![]);
    history.transaction_mut(id).expect("it").fresh = fresh;
    anomalies(&check(&history))
}

#[test]
fn missed_acknowledged() {
    assert_eq!(second(21, 99, true), [Anomaly::MissedAcknowledged]);
    assert_eq!(second(21, 100, true), []);
    assert_eq!(second(20, 99, true), [], "at the same instant there is no order");
    assert_eq!(second(21, 99, false), [], "it brought its own timestamp");
}

#[test]
fn commit_order() {
    for (causal, at, found) in
        [(false, 99, &[Anomaly::CommitOrder][..]), (false, 100, &[]), (true, 99, &[])]
    {
        let mut history = History::default();
        during(&mut history, (10, 20), 50, committed(100), writer());
        let id = during(&mut history, (15, 40), 60, committed(at), writer());
        history.transaction_mut(id).expect("it").causal = causal;
        assert_eq!(anomalies(&check(&history)), found, "{causal} {at}");
    }
}

/// What only read has no commit timestamp to speak of.
#[test]
fn readers_are_in_no_commit_order() {
    let mut history = History::default();
    during(&mut history, (10, 20), 50, committed(100), writer());
    during(&mut history, (15, 40), 60, committed(60), vec![read("x", "-")]);
    assert_eq!(check(&history), []);
}

#[test]
fn timestamp_order() {
    for (began, ts, found) in [(30, 7, &[Anomaly::TimestampOrder][..]), (30, 8, &[]), (15, 6, &[])]
    {
        let mut history = History::default();
        let first = history.begin(1, ms(10), Instant::NEVER, What::Timestamp(Some(7)));
        history.end(first, ms(20));
        let second = history.begin(2, ms(began), Instant::NEVER, What::Timestamp(Some(ts)));
        history.end(second, ms(40));
        let violations = check(&history);
        assert_eq!(anomalies(&violations), found);
        assert!(violations.iter().all(|it| it.who == [first, second]));
    }
}
