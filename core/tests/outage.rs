//! Stores that are gone for a while: how long an operation takes, and how often it asks.

mod support;

use std::time::Duration;

use anatase_core::{
    ColumnFamily, Command, Config, Core, Error, Event, Failure, Instant, KeyMode, KeyRange,
    OpOptions, Operation, RawOperation, Reply, ScanSpec, StoreId,
};

use support::{Pd, serve, yes};

/// What a store does with a request while it is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// No connection.
    Refuses,
    /// The connection is reset when a request arrives.
    Resets,
    /// It accepts, and answers when it is back.
    Freezes,
}

/// One put while `stores` are away until `back`, PD all the time if `pd_away`. Gives how it ended, after
/// how long, and how many requests left.
fn put(
    stores: &[u64],
    away: Away,
    back: Duration,
    pd_away: bool,
) -> (Result<Reply, Error>, Duration, u32) {
    let config = Config::new(vec!["pd:2379".into()], KeyMode::Raw);
    let mut core = Core::new(config, 1, Instant::ORIGIN);
    let mut pd = Pd::new(KeyMode::Raw, ["m", "x"]);
    let mut now = Instant::ORIGIN;
    // Everything is known already: each store was asked for its address.
    let scan = ScanSpec { range: KeyRange::default(), limit: 10, reverse: false, key_only: false };
    submit(&mut core, now, RawOperation::Scan(scan));
    serve(&mut core, &mut pd, now);
    let back = now + back;
    submit(
        &mut core,
        now,
        RawOperation::Put { key: "k".into(), value: "v".into(), ttl_secs: 0, atomic: false },
    );
    let (mut requests, mut held) = (0, Vec::new());
    loop {
        while let Some(command) = core.poll_command() {
            let Command::Call(call) = &command else { continue };
            if call.to.store.is_none() {
                let answer = match pd_away {
                    true => Err(Failure::not_sent("connection refused")),
                    false => Ok(pd.answer(&command).expect("a question to PD")),
                };
                core.handle_response(now, call.id, answer);
                continue;
            }
            requests += 1;
            let gone = call.to.store.is_some_and(|StoreId(store)| stores.contains(&store));
            let answer = match away {
                _ if now >= back || !gone => Ok(yes(call)),
                Away::Refuses => Err(Failure::not_sent("connection refused")),
                Away::Resets => Err(Failure::maybe_executed("connection reset")),
                Away::Freezes => {
                    held.push(call.clone());
                    continue;
                }
            };
            core.handle_response(now, call.id, answer);
        }
        if let Some(Event::Done { result, .. }) = core.poll_event() {
            return (result, now.since(Instant::ORIGIN), requests);
        }
        let next = core.poll_timeout().expect("an operation has a deadline").at;
        if !held.is_empty() && next >= back {
            now = back;
            for call in held.drain(..) {
                core.handle_response(now, call.id, Ok(yes(&call)));
            }
        }
        now = now.max(next);
        core.handle_timeout(now);
    }
}

fn submit(core: &mut Core, now: Instant, op: RawOperation) {
    let operation = Operation::Raw { op, cf: ColumnFamily::DEFAULT };
    let options = OpOptions { deadline: now + Duration::from_secs(120), stream: 1 };
    core.submit(now, operation, options).expect("room");
}

/// peers.md D27: the budget outlasts the restart of every store (`tikv-client` gives up after 1.5 s),
/// and the wait for it is no storm.
#[test]
fn d27_an_outage_of_every_store_is_waited_out() {
    for away in [Away::Refuses, Away::Resets, Away::Freezes] {
        for outage in [1, 5, 15] {
            let (result, took, requests) =
                put(&[1, 2, 3], away, Duration::from_secs(outage), false);
            let row =
                format!("{away:?} for {outage} s: {result:?} after {took:?}, {requests} requests");
            assert_eq!(result, Ok(Reply::Done), "{row}");
            assert!(took <= Duration::from_secs(outage + 5), "{row}");
            assert!(requests <= 100 + 10 * outage as u32, "{row}");
        }
    }
}

/// peers.md D21: of three stores one is away for good. The others answer, and how soon depends on how
/// soon it is known.
#[test]
fn d21_one_store_of_three() {
    for (away, within) in [(Away::Refuses, 150), (Away::Resets, 150), (Away::Freezes, 2_150)] {
        let (result, took, requests) = put(&[2], away, Duration::from_secs(3_600), false);
        let row = format!("{away:?}: {result:?} after {took:?}, {requests} requests");
        assert_eq!(result, Ok(Reply::Done), "{row}");
        assert!(took <= Duration::from_millis(within), "{row}");
    }
}

/// needReloadOnAccess (`control-plane.md` §4.1): every replica failed, and PD is away for good. What was
/// known is tried again.
#[test]
fn without_pd_what_was_known_is_tried_again() {
    for away in [Away::Refuses, Away::Freezes] {
        let (result, took, requests) = put(&[1, 2, 3], away, Duration::from_secs(5), true);
        let row = format!("{away:?}: {result:?} after {took:?}, {requests} requests");
        assert_eq!(result, Ok(Reply::Done), "{row}");
    }
}
