//! The core without a client around it: what it takes to drive the protocol from a runtime of your
//! own.
//!
//! ```text
//! cargo run --example bare_core
//! ```
//!
//! The core does no I/O and reads no clock. Whoever drives it does four things, in any order and
//! from any thread, one at a time: performs its commands and brings back the answers, hands its
//! events to whoever waits for them, and tells it when a time it waits for has come. Here that is
//! [`Driver::turn`], the cluster is a value in the same process, and nobody sleeps: time is skipped
//! to the next wake-up. In a program of yours `perform` writes to a socket and returns, a reader of
//! that socket calls `handle_response`, and a timer calls `handle_timeout`.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::error::Error;
use std::time::Duration;

use anatase_cluster::{Cluster, ClusterConfig, Fault, Loss, On, PdMetadata};
use anatase_core::wire::{Response, TimestampBatch};
use anatase_core::{
    Call, Command, CommandId, CommitOutcome, CommitPlan, Config, Core, Event, Failure, GrpcStatus,
    Instant, KeyMode, Mutation, MutationOp, OpId, OpOptions, Operation, ReadOperation, Reply,
    Timestamp,
};
use anatase_proto::rpc::Rpc;
use bytes::BytesMut;

struct Driver {
    core: Core,
    cluster: Cluster,
    now: Instant,
    submitted: u64,
}

impl Driver {
    fn new(cluster: Cluster) -> Self {
        let now = Instant::ORIGIN;
        let mut config = Config::new(vec!["pd-0.anatase:2379".into()], KeyMode::Txn);
        config.attempt_timeout = Duration::from_secs(5);
        // The seed is all the chance there is: a run can be repeated to the last retry.
        Self { core: Core::new(config, 42, now), cluster, now, submitted: 0 }
    }

    /// One operation from its submission to its end. A driver for many keeps a table of who waits
    /// for which [`OpId`].
    fn run(&mut self, operation: Operation) -> Result<Reply, Box<dyn Error>> {
        self.submitted += 1;
        let deadline = self.now + Duration::from_secs(20);
        let options = OpOptions { deadline, stream: self.submitted };
        let Ok(id) = self.core.submit(self.now, operation, options) else {
            return Err("too many operations are under way".into());
        };
        loop {
            if let Some((_, result)) = self.turn().filter(|(done, _)| *done == id) {
                return Ok(result?);
            }
        }
    }

    /// The loop of every driver: events, then commands, and when there are none, time.
    fn turn(&mut self) -> Option<(OpId, Result<Reply, anatase_core::Error>)> {
        if let Some(Event::Done { op, result }) = self.core.poll_event() {
            return Some((op, result));
        }
        match self.core.poll_command() {
            Some(Command::Call(call)) => self.perform(&call),
            Some(Command::Timestamps(ask)) => {
                // Over the network: a message on PD's `Tso` stream, and `TimestampBatch::from_proto`.
                let last = Timestamp::from_version(self.cluster.timestamps(ask.count));
                let batch = last.map(|last| TimestampBatch { last, count: ask.count });
                let answer = batch.map(Response::Timestamps);
                self.answer(ask.id, answer.ok_or(Failure::maybe_executed("no timestamp")));
            }
            Some(Command::Abort { id }) => self.say(format!("✗ {id:?} is withdrawn")),
            None => {
                if let Some(wakeup) = self.core.poll_timeout() {
                    self.cluster.advance(wakeup.at.since(self.now));
                    self.now = wakeup.at;
                    self.core.handle_timeout(self.now);
                }
            }
        }
        None
    }

    /// Sends a request where the core says, and takes the answer back under the request's id.
    fn perform(&mut self, call: &Call) {
        let rpc = call.request.rpc;
        let mut bytes = BytesMut::with_capacity(call.request.encoded_len());
        call.request.encode(&mut bytes);
        let bytes = bytes.freeze();
        self.say(format!("→ {:?} {rpc:?} to {}, {} bytes", call.id, call.to, bytes.len()));
        let answer = match call.to.store {
            Some(store) => self.cluster.handle(store.0, rpc, bytes),
            None => self.cluster.handle_pd(0, rpc, &PdMetadata::default(), bytes),
        };
        // Why there is no answer decides whether a write is in doubt: «certainly not executed» may
        // be said only by who knows.
        let answer = match answer.result {
            Ok(bytes) => Response::decode(rpc, bytes)
                .map_err(|error| Failure::maybe_executed(error.to_string())),
            Err(anatase_cluster::Failure::Status(status)) => {
                Err(Failure::status(GrpcStatus(status.code as u32), status.message))
            }
            Err(anatase_cluster::Failure::Lost(Loss::Refused)) => {
                Err(Failure::not_sent("connection refused"))
            }
            Err(anatase_cluster::Failure::Lost(Loss::Reset)) => {
                Err(Failure::maybe_executed("connection reset"))
            }
            // Nothing comes back: the core knows how long to wait.
            Err(anatase_cluster::Failure::Lost(Loss::Silent)) => return,
        };
        self.answer(call.id, answer);
    }

    fn answer(&mut self, id: CommandId, answer: Result<Response, Failure>) {
        self.core.handle_response(self.now, id, answer);
    }

    fn timestamp(&mut self) -> Result<Timestamp, Box<dyn Error>> {
        match self.run(Operation::Timestamp)? {
            Reply::Timestamp(timestamp) => Ok(timestamp),
            other => Err(format!("not a timestamp: {other:?}").into()),
        }
    }

    fn say(&self, what: String) {
        println!("{:>8.3}s {what}", self.now.since(Instant::ORIGIN).as_secs_f64());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let cluster = ClusterConfig::default().split_keys(["m"]).build();
    let mut driver = Driver::new(cluster);

    println!("Two accounts in two regions, written in one transaction:");
    let start_ts = driver.timestamp()?;
    let put =
        |key: &'static str, value: &'static str| Mutation::new(key, MutationOp::Put(value.into()));
    let mutations = vec![put("alice", "70"), put("zoe", "130")];
    let plan = CommitPlan::new(start_ts, mutations);
    // The store that commits the first account does so, and then nobody hears of it.
    driver.cluster.faults().next(On::rpc(Rpc::KvCommit), Fault::DropResponse(Loss::Silent));
    match driver.run(Operation::Commit(Box::new(plan)))? {
        Reply::Commit(CommitOutcome::Committed { at, .. }) => {
            driver.say(format!("committed at {at}"))
        }
        other => return Err(format!("not committed: {other:?}").into()),
    }
    // The outcome is known as soon as the first account is committed; the other region is settled
    // for the benefit of readers.
    while !driver.core.is_idle() {
        driver.turn();
    }

    println!("Read back, from a region that has split in the meantime:");
    driver.cluster.split("b");
    let at = driver.timestamp()?;
    let keys = vec!["zoe".into(), "bob".into(), "alice".into()];
    let read = driver.run(Operation::read(ReadOperation::BatchGet { keys }, at))?;
    driver.say(format!("zoe, bob, alice: {read:?}"));
    let stats = driver.core.stats();
    println!(
        "{} commands for {} operations; {} answer lost, {} region errors, {} pause.",
        stats.commands, stats.operations, stats.failures, stats.region_errors, stats.backoffs
    );
    Ok(())
}
