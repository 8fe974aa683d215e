//! How fast worlds go: simulated events a second on one core.
//!
//! `cargo run --release -p anatase-sim --example throughput [seconds]`
#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::time::{Duration, Instant};

use anatase_client::{CommitOutcome, Error, TransactionClient};
use anatase_cluster::ClusterConfig;
use anatase_sim::{Profile, Sim, SimClient, SimConfig};

const CLIENTS: u32 = 3;
const TASKS: u32 = 4;
const KEYS: u32 = 64;

/// A transaction that reads two keys and writes them.
async fn transact<R>(
    client: &TransactionClient<R>,
    a: u32,
    b: u32,
) -> Result<CommitOutcome, Error> {
    let txn = client.begin_optimistic().await?;
    for key in [a, b] {
        let key = format!("key/{key:03}");
        let old = txn.get(key.clone()).await?.map_or(0, |value| value.len());
        txn.put(key, "x".repeat(1 + old % 32)).await?;
    }
    Ok(txn.commit().outcome().await)
}

async fn work(client: SimClient) {
    loop {
        let Ok(db) = client.transactions().await else { continue };
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (client, db) = (client.clone(), db.clone());
                client.clone().spawn(async move {
                    loop {
                        let a = client.choose(KEYS);
                        let b = (a + 1 + client.choose(KEYS - 1)) % KEYS;
                        transact(&db, a, b).await.ok();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.ok();
        }
    }
}

fn measure(name: &str, profile: Profile, wire: bool, real: Duration) {
    let cluster = ClusterConfig::default().stores(3).split_keys(["key/020", "key/040"]);
    let (mut events, mut simulated, mut transactions) = (0, Duration::ZERO, 0);
    let begun = Instant::now();
    let mut seed = 0;
    while begun.elapsed() < real {
        let config = SimConfig::new(seed).cluster(cluster.clone()).profile(profile.clone());
        let mut sim = Sim::new(config.wire(wire));
        for n in 0..CLIENTS {
            sim.client(&format!("client {n}")).on_boot(work);
        }
        sim.run_for(Duration::from_secs(20)).expect("time goes on");
        events += sim.stats().events;
        simulated += sim.now();
        transactions += sim.cluster(|cluster| cluster.calls(anatase_proto::rpc::Rpc::KvCommit));
        seed += 1;
    }
    let took = begun.elapsed();
    let rate = events as f64 / took.as_secs_f64();
    let faster = simulated.as_secs_f64() / took.as_secs_f64();
    println!(
        "{name:>12}: {rate:>9.0} events/s, simulated : real = {faster:.0} : 1, \
         {seed} worlds, {events} events, {transactions} commits"
    );
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(3);
    let real = Duration::from_secs(seconds);
    measure("calm", Profile::calm(), false, real);
    measure("calm, wire", Profile::calm(), true, real);
    measure("rough", Profile::rough(), false, real);
}
