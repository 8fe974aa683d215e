use anatase_core::{
    Cancel, ColumnFamily, Command, CommandId, Config, Core, Error, ErrorKind, Event, Input,
    KeyMode, OpId, OpOptions, Operation, RawOperation, Reply, Timestamp, WakeReason, Wakeup,
};

use super::*;
use crate::check::contract::{Record, check, is_read};

/// A real core with two operations, asked for its ids and first command.
fn core() -> (Core, [OpId; 2], Command) {
    let config = Config::new(vec!["pd:2379".into()], KeyMode::Txn);
    let mut core = Core::new(config, 1, ms(0));
    let mut submit = |stream| {
        let options = OpOptions { deadline: ms(1_000), stream };
        let input = Input::Submit(Operation::Timestamp, options);
        core.handle(ms(0), input).expect("room").expect("an id")
    };
    let ids = [submit(1), submit(2)];
    let command = core.poll_command().expect("PD is asked for its members");
    (core, ids, command)
}

fn submitted(op: OpId) -> Record {
    Record::Submitted { op, deadline: ms(1_000), read: is_read(&Operation::Timestamp) }
}

fn done(op: OpId) -> Record {
    let ts = Timestamp::from_version(7).expect("a timestamp");
    Record::Event(Event::Done { op, result: Ok(Reply::Timestamp(ts)) })
}

fn id(command: &Command) -> CommandId {
    match command {
        Command::Call(call) => call.id,
        Command::Timestamps(ask) => ask.id,
        Command::Abort { id } => *id,
    }
}

fn judged(records: Vec<Record>) -> Vec<Anomaly> {
    let records: Vec<_> = records.into_iter().map(|record| (ms(10), record)).collect();
    anomalies(&check(&records))
}

fn wakeup(at: u64) -> Option<Wakeup> {
    Some(Wakeup { at: ms(at), reason: WakeReason::Backoff })
}

#[test]
fn a_core_that_keeps_its_contract_passes() {
    let (_, [one, two], command) = core();
    let answered = Record::Answered(id(&command));
    assert_eq!(
        judged(vec![
            submitted(one),
            Record::Command(command.clone()),
            Record::Drained(wakeup(20)),
            submitted(two),
            Record::Cancelled(two, Cancel::Stopped),
            answered,
            // Withdrawn before the core saw the answer.
            Record::Command(Command::Abort { id: id(&command) }),
            done(one),
            Record::Cancelled(one, Cancel::Unknown),
            Record::Drained(None),
            Record::End,
        ]),
        []
    );
}

/// A core left alone for a minute: nothing but time-outs, and every operation ends.
#[test]
fn a_real_core_that_nobody_answers_passes() {
    let (mut core, ids, first) = core();
    let mut records: Vec<_> = ids.iter().map(|op| (ms(0), submitted(*op))).collect();
    records.push((ms(0), Record::Command(first)));
    let mut now = ms(0);
    for _ in 0..1_000 {
        while let Some(command) = core.poll_command() {
            records.push((now, Record::Command(command)));
        }
        while let Some(event) = core.poll_event() {
            records.push((now, Record::Event(event)));
        }
        let before = core.poll_timeout();
        records.push((now, Record::Drained(before)));
        let Some(next) = before.filter(|next| next.at < ms(60_000)) else { break };
        now = next.at;
        core.handle_timeout(now);
        records.push((now, Record::TimedOut(before)));
    }
    assert!(core.is_idle());
    assert!(records.iter().filter(|(_, it)| matches!(it, Record::Event(_))).count() == 2);
    assert_eq!(check(&records), []);
}

#[test]
fn id_reused() {
    let (_, [one, _], command) = core();
    let again = vec![submitted(one), done(one), submitted(one), done(one)];
    assert_eq!(judged(again), [Anomaly::IdReused]);
    let answered = Record::Answered(id(&command));
    let command = Record::Command(command);
    assert_eq!(judged(vec![command.clone(), answered, command]), [Anomaly::IdReused]);
}

#[test]
fn ended_twice() {
    let (_, [one, two], _) = core();
    assert_eq!(judged(vec![submitted(one), done(one), done(one)]), [Anomaly::EndedTwice]);
    assert_eq!(judged(vec![submitted(one), done(two), done(one)]), [Anomaly::EndedTwice]);
    let cancelled = Record::Cancelled(one, Cancel::Stopped);
    assert_eq!(judged(vec![submitted(one), cancelled.clone(), done(one)]), [Anomaly::EndedTwice]);
    assert_eq!(judged(vec![submitted(one), done(one), cancelled]), [Anomaly::EndedTwice]);
}

#[test]
fn stray_abort() {
    let (_, _, command) = core();
    let id = id(&command);
    let abort = Record::Command(Command::Abort { id });
    assert_eq!(judged(vec![abort.clone()]), [Anomaly::StrayAbort]);
    let command = Record::Command(command);
    let twice = vec![command.clone(), abort.clone(), abort.clone()];
    assert_eq!(judged(twice), [Anomaly::StrayAbort]);
    let late = vec![command, Record::Answered(id), Record::Drained(wakeup(20)), abort];
    assert_eq!(judged(late), [Anomaly::StrayAbort]);
}

#[test]
fn no_progress() {
    let (_, [one, _], _) = core();
    let timeout = Record::TimedOut(wakeup(10));
    let drained = |at| Record::Drained(wakeup(at));
    assert_eq!(judged(vec![timeout.clone(), drained(10)]), [Anomaly::NoProgress]);
    assert_eq!(judged(vec![timeout.clone(), drained(11)]), []);
    assert_eq!(judged(vec![submitted(one), timeout, done(one), drained(10)]), []);
    // Early, nothing is due.
    assert_eq!(judged(vec![Record::TimedOut(wakeup(11)), drained(10)]), []);
}

#[test]
fn asleep() {
    let (_, [one, _], command) = core();
    assert_eq!(judged(vec![submitted(one), Record::Drained(None)]), [Anomaly::Asleep]);
    assert_eq!(judged(vec![submitted(one), Record::Drained(wakeup(20))]), []);
    let waits = vec![submitted(one), Record::Command(command), Record::Drained(None)];
    assert_eq!(judged(waits), []);
}

#[test]
fn never_over() {
    let (_, [one, _], command) = core();
    assert_eq!(judged(vec![submitted(one), Record::End]), [Anomaly::NeverOver]);
    assert_eq!(judged(vec![Record::Command(command), Record::End]), [Anomaly::NeverOver]);
}

#[test]
fn after_end() {
    let (_, _, command) = core();
    assert_eq!(judged(vec![Record::End, Record::Command(command)]), [Anomaly::AfterEnd]);
}

#[test]
fn overdue() {
    let (_, [one, _], _) = core();
    let at = |end| vec![(ms(0), submitted(one)), (ms(end), done(one))];
    assert_eq!(anomalies(&check(&at(1_000))), []);
    assert_eq!(anomalies(&check(&at(1_001))), [Anomaly::Overdue]);
}

#[test]
fn read_in_doubt() {
    let (_, [one, _], _) = core();
    let told = |in_doubt| {
        let result = Err(Error::new(ErrorKind::DeadlineExceeded, "late").in_doubt(in_doubt));
        vec![submitted(one), Record::Event(Event::Done { op: one, result })]
    };
    assert_eq!(judged(told(false)), []);
    assert_eq!(judged(told(true)), [Anomaly::ReadInDoubt]);
}

#[test]
fn reads_are_told_from_writes() {
    let raw = |op| Operation::Raw { op, cf: ColumnFamily::default() };
    let key = bytes("k");
    assert!(is_read(&raw(RawOperation::Get { key: key.clone() })));
    assert!(is_read(&Operation::GroupKeys { keys: vec![key.clone()] }));
    assert!(!is_read(&raw(RawOperation::Delete { key, atomic: false })));
    assert!(!is_read(&Operation::SetExternalTimestamp(anatase_core::Timestamp::MAX)));
}
