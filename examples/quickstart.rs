//! The whole client in a minute: raw keys across regions, then money moving between accounts while a
//! region splits and leaders move.
//!
//! ```text
//! cargo run --example quickstart                              an embedded cluster, in this process
//! PD_ADDRS=127.0.0.1:2379 cargo run --example quickstart      a cluster of yours
//! ```

use std::error::Error;
use std::time::Duration;

use anatase::{RawClient, Transaction, TransactionClient};
use anatase_cluster::ClusterConfig;
use anatase_cluster::serve::{ServeOptions, Server};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ACCOUNTS: [&str; 12] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory",
    "trent",
];
const OPENING_BALANCE: u64 = 1_000;
const WORKERS: u64 = 8;
const TRANSFERS: u64 = 40;

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example tells what it does")]
async fn main() -> Result<()> {
    // 1. A cluster: three stores, four regions, real gRPC on loopback. Or one of yours.
    let (server, pd) = match std::env::var("PD_ADDRS") {
        Ok(addresses) => (None, addresses.split(',').map(str::to_owned).collect()),
        Err(_) => {
            let cluster = ClusterConfig::default().stores(3).split_keys([b"d", b"h", b"m"]).build();
            let server = Server::start(cluster, ServeOptions::default()).await?;
            let pd = server.pd_addresses();
            (Some(server), pd)
        }
    };
    match &server {
        Some(server) => {
            let (stores, regions) =
                server.with(|cluster| (cluster.stores().count(), cluster.regions().count()));
            println!("cluster     embedded, {stores} stores, {regions} regions, PD at {}", pd[0]);
        }
        None => println!("cluster     PD at {}", pd.join(", ")),
    }

    // 2. The raw API: no transactions, no versions.
    let raw = RawClient::new(pd.clone()).await?;
    let letters =
        ('a'..='z').map(|letter| (format!("{letter}/quickstart/raw"), letter.to_string()));
    raw.batch_put(letters).await?;
    let some = raw.batch_get(["z/quickstart/raw", "?", "a/quickstart/raw"]).await?;
    let some: Vec<_> =
        some.iter().map(|value| value.as_deref().map(String::from_utf8_lossy)).collect();
    println!("raw         put 26 keys; batch_get gives {some:?}, in the order asked");
    let first = raw.scan_keys("a".."g", 3).await?;
    let last = raw.scan_keys_reverse("a".."g", 2).await?;
    println!("raw         scan a..g from the front {first:?}, from the back {last:?}");
    raw.batch_delete(('a'..='z').map(|letter| format!("{letter}/quickstart/raw"))).await?;
    raw.close().await;

    // 3. Transactions: the accounts lie in all regions, and every transfer is atomic.
    let client = TransactionClient::new(pd).await?;
    let opening = client.begin_optimistic().await?;
    for name in ACCOUNTS {
        opening.put(account(name), OPENING_BALANCE.to_string()).await?;
    }
    let opened = opening.commit().await?.ok_or("nothing was written")?;
    let total_at_start = total(&client).await?;
    println!("accounts    {} opened at {opened}, total {total_at_start}", ACCOUNTS.len());

    let workers: Vec<_> =
        (0..WORKERS).map(|worker| tokio::spawn(transfers(client.clone(), worker))).collect();
    if let Some(server) = &server {
        trouble(server).await;
        let regions = server.with(|cluster| cluster.regions().count());
        println!("trouble     meanwhile: split to {regions} regions, leaders moved");
    }
    let (mut moved, mut conflicts) = (0, 0);
    for worker in workers {
        let told = worker.await??;
        moved += told.moved;
        conflicts += told.conflicts;
    }
    println!("transfers   {moved} by {WORKERS} tasks, {conflicts} conflicts retried");

    // 4. What was promised: nothing is lost, and the past can still be read.
    let total_at_end = total(&client).await?;
    let then = client.snapshot(opened).get(account("alice")).await?;
    let then = then.as_deref().map(String::from_utf8_lossy).ok_or("the past is gone")?;
    println!("snapshot    at {opened} alice still has {then}");
    println!("total       {total_at_end}, as before");
    assert_eq!(total_at_start, total_at_end, "money was made or lost");

    let tidy = client.begin_optimistic().await?;
    for name in ACCOUNTS {
        tidy.delete(account(name)).await?;
    }
    tidy.commit().await?;
    client.close().await;
    if let Some(server) = server {
        server.shutdown().await;
    }
    println!("done");
    Ok(())
}

fn account(name: &str) -> String {
    format!("{name}/quickstart/account")
}

struct Told {
    moved: u64,
    conflicts: u64,
}

/// One task's transfers. A transaction that somebody else overtook is aborted and run again. One whose
/// outcome nobody knows must *not* be run again blindly, and is never called retryable; here it ends
/// the example.
async fn transfers(client: TransactionClient, worker: u64) -> Result<Told> {
    let mut told = Told { moved: 0, conflicts: 0 };
    while told.moved < TRANSFERS {
        let n = worker * 7 + told.moved * 5 + told.conflicts;
        let from = ACCOUNTS[(n % 12) as usize];
        let to = ACCOUNTS[((n + 1 + worker) % 12) as usize];
        if from == to {
            told.moved += 1;
            continue;
        }
        let txn = client.begin_optimistic().await?;
        let (has, gets) = (balance(&txn, from).await?, balance(&txn, to).await?);
        let amount = (1 + n % 20).min(has);
        txn.put(account(from), (has - amount).to_string()).await?;
        txn.put(account(to), (gets + amount).to_string()).await?;
        match txn.commit().await {
            Ok(_) => told.moved += 1,
            Err(error) if error.is_retryable() => told.conflicts += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(told)
}

async fn balance(txn: &Transaction, name: &str) -> Result<u64> {
    let value = txn.get(account(name)).await?.ok_or("no such account")?;
    Ok(std::str::from_utf8(&value)?.parse()?)
}

async fn total(client: &TransactionClient) -> Result<u64> {
    let snapshot = client.snapshot(client.current_timestamp().await?);
    let balances = snapshot.batch_get(ACCOUNTS.map(account)).await?;
    let mut total = 0;
    for balance in balances {
        total += std::str::from_utf8(&balance.ok_or("no such account")?)?.parse::<u64>()?;
    }
    Ok(total)
}

/// What a cluster does all day.
async fn trouble(server: &Server) {
    for (step, key) in ["b", "f", "k", "s"].into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(25)).await;
        server.with(|cluster| {
            cluster.split(key);
            let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
            for (n, region) in regions.into_iter().enumerate() {
                cluster.transfer_leader(region, 1 + ((n + step) % 3) as u64);
            }
        });
    }
}
