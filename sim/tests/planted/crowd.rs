//! Many tasks that share one client library, while regions split and merge and leaders move: timestamps
//! are asked for together, and a client lives long enough to have to find its way anew. Nobody is slow and
//! nothing is lost, so nothing may fail for want of a server, from the first moment on.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anatase_client::{Bytes, Config, TransactionClient, TransactionOptions};
use anatase_cluster::ClusterConfig;
use anatase_core::Plant;
use anatase_sim::check::truth::Truth;
use anatase_sim::check::{self, Violation, liveness};
use anatase_sim::{
    FaultKind, Ledger, Network, Profile, Recorder, Recurring, Sim, SimClient, SimConfig, SimRuntime,
};

const TASKS: u32 = 6;
const ROUNDS: u32 = 12;
const KEYS: u32 = 12;
const TIMEOUT: Duration = Duration::from_secs(10);

fn key(n: u32) -> Bytes {
    format!("crowd/{n:03}").into()
}

/// Runs it, and says what is wrong.
pub(crate) fn run(seed: u64, plant: Option<Plant>) -> Vec<Violation> {
    let often = |kind| Recurring {
        kind,
        every: Duration::from_millis(40),
        lasts: Duration::from_millis(10),
    };
    let nemesis = [FaultKind::Split, FaultKind::Merge, FaultKind::MoveLeader].map(often);
    let profile = Profile { network: Network::rough().healed(), nemesis: nemesis.to_vec() };
    let cluster = ClusterConfig::default().stores(3).split_keys(["crowd/004", "crowd/008"]);
    let config = SimConfig::new(seed).cluster(cluster).profile(profile);
    let config = match plant {
        Some(plant) => config.plant(plant),
        None => config,
    };
    let ledger = Ledger::default();
    let mut sim = Sim::new(config);
    let crowd = sim.client("crowd");
    let (begun, all) = (sim.instant(), crowd.spawn(gather(crowd.clone(), ledger.clone())));
    let mut found = Vec::new();
    if let Err(stalled) = sim.run_until(all) {
        // Whoever did not end has a deadline, and is told below.
        drop(stalled);
    }
    sim.heal();
    drop(sim.drain(Duration::from_secs(60)));
    let history = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let truth = sim.cluster(|cluster| Truth::of(cluster, &[]));
    found.extend(check::history(&history, &truth));
    let demand = liveness::Demand { well: begun, ..liveness::Demand::new(begun, sim.instant()) };
    found.extend(liveness::check(&history, demand));
    found
}

async fn gather(client: SimClient, ledger: Ledger) {
    let recorder = Recorder::new(&ledger, &client, TIMEOUT);
    let settings = Config::default().with_timeout(TIMEOUT);
    let Ok(store) = recorder.other("connect", client.transactions_with(settings)).await else {
        return;
    };
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| client.spawn(work(client.clone(), recorder.clone(), store.clone(), n)))
        .collect();
    for task in tasks {
        drop(task.await);
    }
    store.close().await;
}

async fn work(
    client: SimClient,
    recorder: Recorder,
    store: Arc<TransactionClient<SimRuntime>>,
    task: u32,
) {
    for round in 0..ROUNDS {
        let options = match client.choose(3) {
            0 => TransactionOptions::new_optimistic(),
            1 => TransactionOptions::new_optimistic().use_async_commit(),
            _ => TransactionOptions::new_pessimistic(),
        };
        let (first, second) = (client.choose(KEYS), client.choose(KEYS));
        let one_round = async {
            let txn = recorder.transaction(&store, options, false).await?;
            txn.get(&key(first)).await?;
            let value = Bytes::from(format!("{task} {round}"));
            txn.write(&key(first), Some(value.clone())).await?;
            if second != first {
                txn.write(&key(second), Some(value)).await?;
            }
            txn.commit().await.into_result()
        };
        // Conflicts are what it lives with.
        drop(one_round.await);
        client.sleep(Duration::from_micros(client.choose(3_000).into())).await;
    }
}
