//! A bank: what the tests of this crate run in a world.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anatase_client::{
    CommitOutcome, CommittedBy, Config, Error, Snapshot, TransactionClient, TransactionOptions,
};
use anatase_cluster::ClusterConfig;
use anatase_sim::{Profile, Sim, SimClient, SimConfig};

pub(crate) const ACCOUNTS: u32 = 8;
pub(crate) const EACH: i64 = 100;

/// Three stores, three regions through the accounts, three members of PD.
pub(crate) fn cluster() -> ClusterConfig {
    ClusterConfig::default().stores(3).pd_members(3).split_keys(["account/3", "account/6"])
}

pub(crate) fn config(seed: u64, profile: Profile) -> SimConfig {
    SimConfig::new(seed).cluster(cluster()).profile(profile)
}

pub(crate) fn account(n: u32) -> String {
    format!("account/{n}")
}

fn number(value: &[u8]) -> i64 {
    std::str::from_utf8(value).expect("text").parse().expect("a number")
}

/// What happened in a bank.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) committed: AtomicU64,
    pub(crate) by_two_phase: AtomicU64,
    pub(crate) by_async: AtomicU64,
    pub(crate) by_one_phase: AtomicU64,
    pub(crate) aborted: AtomicU64,
    pub(crate) undetermined: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) audits: AtomicU64,
    pub(crate) cancelled: AtomicU64,
}

impl Tally {
    pub(crate) fn count(of: &AtomicU64) {
        of.fetch_add(1, Ordering::Relaxed);
    }
}

/// Short limits, so that a run under faults is short.
pub(crate) fn impatient() -> Config {
    Config::default().with_timeout(Duration::from_secs(10))
}

/// Opens all accounts in a calm world.
pub(crate) async fn open_accounts<R>(client: &TransactionClient<R>) -> Result<(), Error> {
    let txn = client.begin_optimistic().await?;
    for n in 0..ACCOUNTS {
        txn.put(account(n), EACH.to_string()).await?;
    }
    txn.commit().await.map(drop)
}

/// Moves some money from one account to another.
pub(crate) async fn transfer<R>(
    client: &TransactionClient<R>,
    from: u32,
    to: u32,
    amount: i64,
    way: TransactionOptions,
) -> Result<CommitOutcome, Error> {
    let pessimistic = way.is_pessimistic();
    let txn = client.begin_with_options(way).await?;
    let (source, target) = if pessimistic {
        (txn.get_for_update(account(from)).await?, txn.get_for_update(account(to)).await?)
    } else {
        (txn.get(account(from)).await?, txn.get(account(to)).await?)
    };
    let source = number(&source.expect("accounts are not closed")) - amount;
    let target = number(&target.expect("accounts are not closed")) + amount;
    txn.put(account(from), source.to_string()).await?;
    txn.put(account(to), target.to_string()).await?;
    Ok(txn.commit().outcome().await)
}

/// One of the ways to commit.
pub(crate) fn way(n: u32) -> TransactionOptions {
    let options = match n % 2 {
        0 => TransactionOptions::new_optimistic(),
        _ => TransactionOptions::new_pessimistic(),
    };
    match n / 2 {
        0 => options,
        1 => options.use_async_commit(),
        _ => options.use_async_commit().try_one_pc(),
    }
}

/// The total at one moment.
///
/// # Panics
/// If it is not what it has to be.
pub(crate) async fn audit(snapshot: Snapshot) -> Result<(), Error> {
    let accounts = snapshot.scan("account/".."account0", 100).await?;
    assert_eq!(accounts.len(), ACCOUNTS as usize);
    let total: i64 = accounts.iter().map(|pair| number(pair.value())).sum();
    assert_eq!(total, i64::from(ACCOUNTS) * EACH, "money was made or lost: {accounts:?}");
    Ok(())
}

/// One teller's work: transfers, now and then an audit.
pub(crate) async fn work(client: SimClient, rounds: u32, tally: Arc<Tally>) {
    let Ok(bank) = client.transactions_with(impatient()).await else {
        Tally::count(&tally.failed);
        return;
    };
    for _ in 0..rounds {
        let from = client.choose(ACCOUNTS);
        let to = (from + 1 + client.choose(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = i64::from(client.choose(10));
        if client.choose(8) == 0 {
            let looked = async {
                let now = bank.current_timestamp().await?;
                audit(bank.snapshot(now)).await
            };
            match looked.await {
                Ok(()) => Tally::count(&tally.audits),
                Err(_) => Tally::count(&tally.failed),
            }
            continue;
        }
        match client.cancellable(transfer(&bank, from, to, amount, way(client.choose(6)))).await {
            None => Tally::count(&tally.cancelled),
            Some(Ok(CommitOutcome::Committed { by, .. })) => {
                Tally::count(&tally.committed);
                Tally::count(match by {
                    Some(CommittedBy::Async) => &tally.by_async,
                    Some(CommittedBy::OnePhase) => &tally.by_one_phase,
                    Some(CommittedBy::TwoPhase) | None => &tally.by_two_phase,
                });
            }
            Some(Ok(CommitOutcome::Aborted(_))) => Tally::count(&tally.aborted),
            Some(Ok(CommitOutcome::Undetermined(_))) => Tally::count(&tally.undetermined),
            Some(Err(_)) => Tally::count(&tally.failed),
        }
        let pause = Duration::from_millis(u64::from(client.choose(200)));
        client.sleep(pause).await;
    }
    bank.close().await;
}

/// Opens the accounts, again and again until it has succeeded: whoever writes the same again does no
/// harm as long as there is no business.
async fn found(founder: SimClient, founded: Arc<AtomicBool>) {
    while !founded.load(Ordering::Relaxed) {
        let Ok(bank) = founder.transactions_with(impatient()).await else { continue };
        if open_accounts(&bank).await.is_ok() {
            founded.store(true, Ordering::Relaxed);
        }
        bank.close().await;
    }
}

/// A world with a bank. The nemesis strikes from the first moment, so founding it may take a while.
pub(crate) fn bank(config: SimConfig, tellers: u32, rounds: u32) -> (Sim, Arc<Tally>) {
    let mut sim = Sim::new(config);
    let founder = sim.client("founder");
    let founded = Arc::new(AtomicBool::new(false));
    founder.on_boot({
        let founded = founded.clone();
        move |founder| found(founder, founded.clone())
    });
    while !founded.load(Ordering::Relaxed) {
        sim.run_for(Duration::from_millis(100)).expect("time goes on");
        assert!(sim.now() < Duration::from_secs(600), "a bank is founded some day: {sim:?}");
    }
    let tally = Arc::new(Tally::default());
    for n in 0..tellers {
        let teller = sim.client(&format!("teller {n}"));
        let tally = tally.clone();
        teller.on_boot(move |teller| work(teller, rounds, tally.clone()));
    }
    (sim, tally)
}
