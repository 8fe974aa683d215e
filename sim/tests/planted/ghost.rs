//! A ghost: a lock request of fair locking that arrives when its lock was lost long ago. Its
//! connection broke while it was on its way, so it was sent again, and that copy took the lock.
//! Then its owner falls asleep, somebody else takes the key over when the lock's time is up, writes
//! it, and is done; and then the first copy arrives, and locks the key in spite of the newer
//! version. All that keeps the owner, when it wakes up, from writing over what it has never seen is
//! that its prewrite says as of when it holds its lock.

use std::sync::PoisonError;
use std::time::Duration;

use anatase_client::{Bytes, Config, Error, TransactionOptions};
use anatase_cluster::ClusterConfig;
use anatase_core::Plant;
use anatase_sim::check::truth::Truth;
use anatase_sim::check::{self, Violation};
use anatase_sim::{
    Fate, Ledger, NetFault, Network, Profile, Recorder, Side, Sim, SimClient, SimConfig, Stalled,
};

const TIMEOUT: Duration = Duration::from_secs(60);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs it, and says what is wrong.
pub(crate) fn run(seed: u64, plant: Option<Plant>) -> Vec<Violation> {
    let network = Network { strays: 1_000_000, ..Network::calm() };
    let config = SimConfig::new(seed)
        .cluster(ClusterConfig::default().stores(1))
        .profile(Profile { network, nemesis: Vec::new() });
    let config = match plant {
        Some(plant) => config.plant(plant),
        None => config,
    };
    let ledger = Ledger::default();
    let mut sim = Sim::new(config);
    play(&mut sim, &ledger, seed).expect("time goes on");
    let history = ledger.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let truth = sim.cluster(|cluster| Truth::of(cluster, &[]));
    check::history(&history, &truth)
}

fn play(sim: &mut Sim, ledger: &Ledger, seed: u64) -> Result<(), Stalled> {
    let (sleeper, other) = (sim.client("sleeper"), sim.client("other"));
    // The lock lives for 20 s; the ghost comes some time later.
    let slept = sleeper.spawn(count(sleeper.clone(), ledger.clone(), ms(2_000), ms(3_000)));
    sim.run_for(ms(1_990))?;
    // The two before it are for timestamps: the start, and as of when to lock.
    let skip = 2;
    let late = ms(22_000 + seed * 331 % 6_000);
    sim.strike(NetFault::Next { client: sleeper.id(), skip, fate: Fate::Late(late) });
    sim.run_for(ms(11 + seed % 3))?;
    sim.strike(NetFault::Reset { client: sleeper.id(), server: Side::Stores });
    // The second copy has taken the lock by then.
    sim.run_for(ms(1_000))?;
    let asleep = late + ms(500);
    sim.strike(NetFault::PauseClient { client: sleeper.id(), lasts: asleep });
    let taken = other.spawn(count(other.clone(), ledger.clone(), ms(19_000), ms(1)));
    sim.run_until(taken)?.ok();
    sim.run_until(slept)?.ok();
    sim.drain(ms(60_000)).map(drop)
}

/// Counts one further, under a lock taken by fair locking after so long and held for so long.
async fn count(
    client: SimClient,
    ledger: Ledger,
    after: Duration,
    held: Duration,
) -> Result<(), Error> {
    let recorder = Recorder::new(&ledger, &client, TIMEOUT);
    let key = Bytes::from_static(b"ghost");
    let store = client.transactions_with(Config::default().with_timeout(TIMEOUT)).await?;
    // So that the way is known.
    let now = recorder.timestamp(&store).await?;
    recorder.snapshot(store.snapshot(now)).get(&key).await?;
    client.sleep(after.saturating_sub(Duration::from_nanos(client.now().as_nanos()))).await;
    let txn = recorder.transaction(&store, TransactionOptions::new_pessimistic(), false).await?;
    let found = txn.lock_fairly(std::slice::from_ref(&key), 1).await?.pop().flatten();
    let found: u64 =
        found.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok()).unwrap_or(0);
    client.sleep(held).await;
    txn.write(&key, Some((found + 1).to_string().into())).await?;
    txn.commit().await.into_result()?;
    store.close().await;
    Ok(())
}
