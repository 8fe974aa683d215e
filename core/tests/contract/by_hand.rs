//! A core driven by hand: a commit over two regions, read back, in a loop of a dozen lines.

use std::collections::BTreeMap;
use std::time::Duration;

use anatase_core::wire::{Head, Response};
use anatase_core::{
    Call, Command, CommitOutcome, CommitPlan, Config, Core, Error, Event, Failure, Instant, Key,
    KeyMode, Mutation, MutationOp, OpId, OpOptions, Operation, ReadOperation, Reply, Timestamp,
    Value,
};
use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::support::{Pd, yes};

/// Every operation has so long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A core, its time, and whoever performs its commands.
struct Driver {
    core: Core,
    now: Instant,
    pd: Pd,
    store: Store,
    submitted: u64,
}

impl Driver {
    fn new() -> Self {
        let config = Config::new(vec!["pd:2379".into()], KeyMode::Txn);
        let now = Instant::ORIGIN;
        let pd = Pd::new(KeyMode::Txn, ["k"]);
        Self { core: Core::new(config, 42, now), now, pd, store: Store::default(), submitted: 0 }
    }

    fn submit(&mut self, operation: Operation) -> OpId {
        self.submitted += 1;
        let options = OpOptions { deadline: self.now + TIMEOUT, stream: self.submitted };
        self.core.submit(self.now, operation, options).expect("room")
    }

    /// The whole of a driver: events to their owners, commands out and answers in, and where there
    /// is nothing to do, time.
    fn turn(&mut self) -> Option<(OpId, Result<Reply, Error>)> {
        if let Some(Event::Done { op, result }) = self.core.poll_event() {
            return Some((op, result));
        }
        match self.core.poll_command() {
            Some(command) => self.perform(command),
            None => self.sleep(),
        }
        None
    }

    fn run(&mut self, operation: Operation) -> Result<Reply, Error> {
        let id = self.submit(operation);
        loop {
            if let Some((op, result)) = self.turn() {
                assert_eq!(op, id, "the only operation");
                return result;
            }
        }
    }

    /// After the outcome is known: what is left to do for the benefit of others.
    fn finish(&mut self) {
        while !self.core.is_idle() {
            assert_eq!(self.turn(), None);
        }
    }

    fn perform(&mut self, command: Command) {
        let (id, answer) = match &command {
            Command::Timestamps(ask) => (ask.id, self.pd.answer(&command).ok_or("not for PD")),
            Command::Call(call) => match self.pd.answer(&command) {
                Some(answer) => (call.id, Ok(answer)),
                None => (call.id, self.store.answer(call)),
            },
            Command::Abort { .. } => return,
        };
        match answer {
            Ok(response) => self.core.handle_response(self.now, id, Ok(response)),
            Err("silence") => {}
            Err(why) => self.core.handle_response(self.now, id, Err(Failure::not_sent(why))),
        }
    }

    /// Nothing to do before the next wake-up: a real driver sleeps, this one skips.
    fn sleep(&mut self) {
        let wakeup = self.core.poll_timeout().expect("something is waited for");
        assert!(wakeup.at >= self.now);
        self.now = wakeup.at;
        self.core.handle_timeout(self.now);
    }

    fn timestamp(&mut self) -> Timestamp {
        match self.run(Operation::Timestamp) {
            Ok(Reply::Timestamp(timestamp)) => timestamp,
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, keys: &[&'static str]) -> Vec<Option<Value>> {
        let at = self.timestamp();
        let keys = keys.iter().copied().map(Key::from).collect();
        match self.run(Operation::read(ReadOperation::BatchGet { keys }, at)) {
            Ok(Reply::Values(values)) => values,
            other => panic!("{other:?}"),
        }
    }
}

/// One store's data, served under whatever region a request names: locks, and committed values by
/// key and commit timestamp. Its refusals are those that these tests need.
#[derive(Default)]
struct Store {
    locks: BTreeMap<Key, (u64, Value)>,
    values: BTreeMap<(Key, u64), Value>,
    log: Vec<String>,
    /// The next request of this kind is executed, but its answer is lost.
    mute: Option<Rpc>,
    /// The next request of this kind finds no connection.
    refuse: Option<Rpc>,
}

impl Store {
    fn answer(&mut self, call: &Call) -> Result<Response, &'static str> {
        let request = &call.request;
        if matches!(request.rpc, Rpc::HealthCheck | Rpc::PdGetGcState) {
            return Ok(yes(call));
        }
        let Head::Store(context) = &request.head else { panic!("not for a store: {call:?}") };
        let retry = if context.is_retry { " again" } else { "" };
        self.log.push(format!("{:?} region {}{retry}", request.rpc, context.region.id));
        if self.refuse.take_if(|rpc| *rpc == request.rpc).is_some() {
            return Err("connection refused");
        }
        let response = match request.rpc {
            Rpc::KvPrewrite => {
                let prewrite: kvrpcpb::PrewriteRequest = request.message().expect("a prewrite");
                for mutation in prewrite.mutations {
                    let lock = (prewrite.start_version, mutation.value);
                    self.locks.insert(mutation.key, lock);
                }
                Response::Prewrite(Default::default())
            }
            Rpc::KvCommit => {
                let commit: kvrpcpb::CommitRequest = request.message().expect("a commit");
                for key in commit.keys {
                    if let Some((start, value)) = self.locks.remove(&key) {
                        assert_eq!(start, commit.start_version);
                        self.values.insert((key, commit.commit_version), value);
                    }
                }
                Response::Commit(Default::default())
            }
            Rpc::KvBatchRollback => {
                let rollback: kvrpcpb::BatchRollbackRequest =
                    request.message().expect("a rollback");
                for key in rollback.keys {
                    self.locks.remove(&key);
                }
                Response::BatchRollback(Default::default())
            }
            Rpc::KvBatchGet => {
                let get: kvrpcpb::BatchGetRequest = request.message().expect("a batch get");
                let pairs = get.keys.into_iter().filter_map(|key| {
                    let versions = (key.clone(), 0)..=(key.clone(), get.version);
                    let (_, value) = self.values.range(versions).next_back()?;
                    Some(kvrpcpb::KvPair { key, value: value.clone(), ..Default::default() })
                });
                let pairs = pairs.collect();
                Response::BatchGet(kvrpcpb::BatchGetResponse { pairs, ..Default::default() })
            }
            other => panic!("not in this store: {other:?}"),
        };
        match self.mute.take_if(|rpc| *rpc == request.rpc) {
            Some(_) => Err("silence"),
            None => Ok(response),
        }
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

fn commit(start_ts: Timestamp, pairs: &[(&'static str, &'static str)]) -> Operation {
    let mutations = pairs
        .iter()
        .map(|(key, value)| Mutation::new(*key, MutationOp::Put((*value).into())))
        .collect();
    Operation::Commit(Box::new(CommitPlan::new(start_ts, mutations)))
}

#[test]
fn a_commit_over_two_regions_is_read_back() {
    let mut driver = Driver::new();
    let start = driver.timestamp();
    let before = driver.read(&["a", "z"]);
    assert_eq!(before, [None, None]);
    driver.store.log();

    let outcome = driver.run(commit(start, &[("a", "1"), ("b", "2"), ("z", "3")]));
    let Ok(Reply::Commit(CommitOutcome::Committed { at, .. })) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(at > start);
    assert!(!driver.core.is_idle(), "the other region is settled after the outcome is told");
    driver.finish();
    assert_eq!(
        driver.store.log(),
        ["KvPrewrite region 1", "KvPrewrite region 2", "KvCommit region 1", "KvCommit region 2"]
    );
    let after = driver.read(&["z", "c", "a", "z"]);
    assert_eq!(after, [Some("3".into()), None, Some("1".into()), Some("3".into())]);
    assert!(driver.core.is_idle());
    assert_eq!(driver.core.poll_timeout(), None);
    assert_eq!(driver.core.stats().stray_responses, 0);
}

/// The prewrite's answer is lost. Time passes, the request is withdrawn and sent again, and since a
/// prewrite can be repeated nothing is in doubt.
#[test]
fn a_lost_answer_costs_time_and_nothing_else() {
    let mut driver = Driver::new();
    let start = driver.timestamp();
    driver.store.mute = Some(Rpc::KvPrewrite);
    // The attempt has less time than the operation, so that there is some left for another.
    let mut config = Config::new(vec!["pd:2379".into()], KeyMode::Txn);
    config.attempt_timeout = Duration::from_secs(2);
    driver.core = Core::new(config, 42, driver.now);
    let outcome = driver.run(commit(start, &[("a", "1")]));
    assert!(matches!(outcome, Ok(Reply::Commit(CommitOutcome::Committed { .. }))), "{outcome:?}");
    assert!(driver.now.since(Instant::ORIGIN) >= Duration::from_secs(2));
    let log = driver.store.log();
    assert_eq!(log.len(), 3, "{log:?}");
    assert_eq!(log[0], "KvPrewrite region 1");
    assert!(log[1].starts_with("KvPrewrite") && log[1].ends_with("again"), "{log:?}");
}

/// The answer to the decisive request is lost, and the operation's time is up: nobody may call that
/// a failure. Only a later read can tell, and here it tells that the commit has happened.
#[test]
fn a_lost_decision_is_undetermined() {
    let mut driver = Driver::new();
    let start = driver.timestamp();
    driver.store.mute = Some(Rpc::KvCommit);
    let outcome = driver.run(commit(start, &[("a", "1")]));
    let Ok(Reply::Commit(CommitOutcome::Undetermined(error))) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(error.is_undetermined());
    driver.finish();
    assert!(!driver.store.log().iter().any(|line| line.starts_with("KvBatchRollback")));
    assert_eq!(driver.read(&["a"]), [Some("1".into())]);
}

/// The same request certainly never left, until the time is up: that is a failure, and is undone.
#[test]
fn a_decision_that_never_left_is_aborted() {
    let mut driver = Driver::new();
    let start = driver.timestamp();
    driver.submit(commit(start, &[("a", "1")]));
    let result = loop {
        driver.store.refuse = Some(Rpc::KvCommit);
        if let Some((_, result)) = driver.turn() {
            break result;
        }
    };
    let Ok(Reply::Commit(CommitOutcome::Aborted(error))) = result else { panic!("{result:?}") };
    assert!(!error.is_undetermined());
    driver.finish();
    assert!(driver.store.log().iter().any(|line| line.starts_with("KvBatchRollback")));
    assert_eq!((driver.store.locks.len(), driver.read(&["a"])), (0, vec![None]));
}

/// Rule 3: a core without room hands the operation back, unharmed, and counts it.
#[test]
fn a_full_core_hands_the_operation_back() {
    let mut config = Config::new(vec!["pd:2379".into()], KeyMode::Txn);
    config.max_operations = 1;
    let now = Instant::ORIGIN;
    let mut core = Core::new(config, 0, now);
    let options = OpOptions { deadline: now + TIMEOUT, stream: 0 };
    let first = core.submit(now, Operation::Timestamp, options).expect("room for one");
    let start = Timestamp::compose(5, 0).expect("a timestamp");
    let plan = commit(start, &[("a", "1")]);
    let full = core.submit(now, plan.clone(), options).expect_err("no room for two");
    assert_eq!(full.0, plan);
    assert_eq!((core.stats().operations, core.stats().refused), (1, 1));
    core.cancel(now, first);
    assert!(core.submit(now, full.0, options).is_ok(), "there is room again");
}

/// Whoever asked has long gone, and PD cannot be reached: the search for it ends some time, too. A
/// core that nobody wants anything of must not go on for ever.
#[test]
fn a_core_without_pd_comes_to_rest() {
    for (operation, cancel) in
        [(Operation::Timestamp, true), (commit(Timestamp::MAX, &[("a", "1")]), false)]
            .into_iter()
            .chain([true, false].map(|cancel| {
                let op = ReadOperation::Get { key: "a".into() };
                (Operation::read(op, Timestamp::MAX), cancel)
            }))
    {
        let mut driver = Driver::new();
        let id = driver.submit(operation);
        if cancel {
            driver.core.cancel(driver.now, id);
        }
        let mut events = 0;
        for _ in 0..1_000 {
            while let Some(command) = driver.core.poll_command() {
                if let Command::Call(call) = command {
                    let failure = Failure::not_sent("connection refused");
                    driver.core.handle_response(driver.now, call.id, Err(failure));
                }
            }
            events += usize::from(driver.core.poll_event().is_some());
            if driver.core.poll_timeout().is_none() {
                break;
            }
            driver.sleep();
        }
        assert_eq!((driver.core.poll_timeout(), events), (None, usize::from(!cancel)));
        assert!(driver.core.is_idle());
    }
}

/// PD is asked for all the regions between the first and the last key at once. One among them that
/// cannot be had is no reason to do without the others.
#[test]
fn a_lost_region_between_two_keys_is_in_nobodys_way() {
    let mut driver = Driver::new();
    driver.pd = Pd::new(KeyMode::Txn, ["h", "q"]);
    driver.pd.lost = Some(2);
    let now = driver.now;
    assert_eq!(driver.read(&["a", "z"]), [None, None]);
    assert_eq!(driver.now, now, "and nobody had to wait");
    assert_eq!(driver.store.log(), ["KvBatchGet region 1", "KvBatchGet region 3"]);
}
