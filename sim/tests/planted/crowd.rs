//! Many tasks that share one client library, while regions split and merge and leaders move:
//! timestamps are asked for together, requests come back from where their regions were. Then all is
//! well, and the same client goes on: it has to find its way in the world as it is by now, and
//! nothing may fail any more for want of a server.
//!
//! In a *lonely* crowd each transaction has keys of its own. Then nothing is in anybody's way, so a
//! request that is the same as one before is that one, sent again; and it has to say so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anatase_client::{
    Bytes, Config, Error, Inbox, TransactionClient, TransactionOptions, Transport,
};
use anatase_cluster::ClusterConfig;
use anatase_core::wire::Head;
use anatase_core::{Command, Plant};
use anatase_proto::rpc::Rpc;
use anatase_sim::check::truth::Truth;
use anatase_sim::check::{self, Anomaly, Checker, Violation, liveness};
use anatase_sim::{
    FaultKind, Ledger, Network, Profile, Recorder, Recurring, Sim, SimClient, SimConfig,
    SimRuntime, SimTransport, Stalled,
};

const TASKS: u32 = 6;
const ROUNDS: u32 = 8;
const KEYS: u32 = 12;
const TIMEOUT: Duration = Duration::from_secs(10);

type Store = TransactionClient<SimRuntime>;

fn key(n: u32) -> Bytes {
    format!("crowd/{n:03}").into()
}

/// Runs it, and says what is wrong.
pub(crate) fn run(seed: u64, plant: Option<Plant>, lonely: bool) -> Vec<Violation> {
    let often = |kind| Recurring {
        kind,
        every: Duration::from_millis(30),
        lasts: Duration::from_millis(10),
    };
    let nemesis = [FaultKind::Split, FaultKind::Merge, FaultKind::MoveLeader].map(often);
    let profile = Profile { network: Network::rough().healed(), nemesis: nemesis.to_vec() };
    let cluster = ClusterConfig::default().stores(3).split_keys(["crowd/004", "crowd/008"]);
    let config = SimConfig::new(seed).cluster(cluster).profile(profile);
    let config = SimConfig { patience: Duration::from_secs(120), ..config };
    let config = match plant {
        Some(plant) => config.plant(plant),
        None => config,
    };
    let (ledger, spied) = (Ledger::default(), Spied::default());
    let mut sim = Sim::new(config);
    let mut well = sim.instant();
    let stalled = play(&mut sim, &ledger, &spied, lonely, &mut well);
    let history = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let truth = sim.cluster(|cluster| Truth::of(cluster, &[]));
    let mut found = check::history(&history, &truth);
    let demand = liveness::Demand { well, ..liveness::Demand::new(well, sim.instant()) };
    found.extend(liveness::check(&history, demand));
    if let Err(stalled) = stalled {
        found.push(violation(Checker::Liveness, Anomaly::Hanging, stalled.to_string()));
    }
    let spied = spied.lock().unwrap_or_else(PoisonError::into_inner);
    if lonely {
        let told =
            |story: &String| violation(Checker::Contract, Anomaly::RetryNotTold, story.clone());
        found.extend(spied.silent.iter().map(told));
    }
    found
}

fn violation(checker: Checker, anomaly: Anomaly, story: String) -> Violation {
    Violation { checker, anomaly, who: Vec::new(), story }
}

fn play(
    sim: &mut Sim,
    ledger: &Ledger,
    spied: &Spied,
    lonely: bool,
    well: &mut anatase_client::Instant,
) -> Result<(), Stalled> {
    let client = sim.client("crowd");
    let recorder = Recorder::new(ledger, &client, TIMEOUT);
    let crowd = Crowd { client: client.clone(), recorder, lonely };
    let connected = client.spawn(connect(crowd.clone(), spied.clone()));
    let Ok(Ok(store)) = sim.run_until(connected)? else { return Ok(()) };
    let store = Arc::new(store);
    let all = client.spawn(crowd.clone().gather(store.clone(), 0));
    sim.run_until(all)?.ok();
    sim.heal();
    // Who was in the midst of something when the regions changed gets over it.
    sim.run_for(Duration::from_secs(1))?;
    *well = sim.instant();
    let all = client.spawn(crowd.gather(store.clone(), ROUNDS));
    sim.run_until(all)?.ok();
    sim.run_until(client.spawn(async move { store.close().await }))?.ok();
    sim.drain(Duration::from_secs(60)).map(drop)
}

async fn connect(crowd: Crowd, spied: Spied) -> Result<Store, Error> {
    let client = &crowd.client;
    let transport = Spy { transport: client.transport(), spied };
    let config = client.own(Config::default().with_timeout(TIMEOUT));
    let store = Store::new_over(client.runtime(), transport, client.pd_endpoints(), config);
    crowd.recorder.other("connect", store).await
}

#[derive(Clone)]
struct Crowd {
    client: SimClient,
    recorder: Recorder,
    lonely: bool,
}

impl Crowd {
    async fn gather(self, store: Arc<Store>, first: u32) {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| self.client.spawn(self.clone().work(store.clone(), task, first)))
            .collect();
        for task in tasks {
            task.await.ok();
        }
    }

    async fn work(self, store: Arc<Store>, task: u32, first: u32) {
        for round in first..first + ROUNDS {
            // Conflicts are what it lives with.
            self.round(&store, task, round).await.ok();
            let pause = Duration::from_micros(self.client.choose(3_000).into());
            self.client.sleep(pause).await;
        }
    }

    async fn round(&self, store: &Store, task: u32, round: u32) -> Result<(), Error> {
        let options = match self.client.choose(3) {
            0 => TransactionOptions::new_optimistic(),
            1 => TransactionOptions::new_optimistic().use_async_commit(),
            _ => TransactionOptions::new_pessimistic(),
        };
        let (first, second) = match self.lonely {
            true => (2 * (round * TASKS + task), 2 * (round * TASKS + task) + 1),
            false => (self.client.choose(KEYS), self.client.choose(KEYS)),
        };
        let txn = self.recorder.transaction(store, options, false).await?;
        txn.get(&key(first)).await?;
        let value = Bytes::from(format!("{task} {round}"));
        txn.write(&key(first), Some(value.clone())).await?;
        if second != first {
            txn.write(&key(second), Some(value)).await?;
        }
        txn.commit().await.into_result().map(drop)
    }
}

/// What a [`Spy`] has seen.
type Spied = Arc<Mutex<Seen>>;

#[derive(Debug, Default)]
struct Seen {
    sent: BTreeSet<(Rpc, Bytes)>,
    /// Requests that were sent again and did not say so.
    silent: Vec<String>,
}

/// Looks at what is sent.
#[derive(Debug)]
struct Spy {
    transport: SimTransport,
    spied: Spied,
}

impl Transport for Spy {
    fn perform(&self, commands: &mut Vec<Command>, inbox: &Inbox) {
        let mut seen = self.spied.lock().unwrap_or_else(PoisonError::into_inner);
        for command in commands.iter() {
            let Command::Call(call) = command else { continue };
            let request = &call.request;
            // Their bodies name the transaction and what is done for it.
            let once = matches!(request.rpc, Rpc::KvPrewrite | Rpc::KvCommit);
            let Head::Store(context) = &request.head else { continue };
            let again = once && !seen.sent.insert((request.rpc, request.body.clone()));
            if again && !context.is_retry && seen.silent.len() < 8 {
                let story = format!("{:?} to {:?} was sent before", request.rpc, context.region);
                seen.silent.push(story);
            }
        }
        drop(seen);
        self.transport.perform(commands, inbox);
    }

    fn shutdown(&self) {
        self.transport.shutdown();
    }
}
