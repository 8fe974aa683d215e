//! Transfers in every kind of transaction at once with everything that goes on in a cluster: the total
//! stays, in every snapshot; nothing hangs; and no key stays locked.

use std::time::{Duration, Instant};

use anatase::{ErrorKind, Result, Timestamp, Transaction, TransactionClient, TransactionOptions};
use anatase_cluster::serve::Server;
use anatase_tests::{Dice, bounded, serve};

const ACCOUNTS: u64 = 12;
const EACH: u64 = 100;
const TELLERS: u64 = 10;
const OPEN: Duration = Duration::from_millis(1_500);

fn account(n: u64) -> String {
    format!("account{n:02}")
}

fn number(value: Option<anatase::Value>) -> u64 {
    let text = value.expect("every account is there");
    std::str::from_utf8(&text).unwrap().parse().unwrap()
}

/// How a teller works.
#[derive(Clone, Debug)]
struct Manner {
    options: TransactionOptions,
    /// Pessimistic: lock by fair locking.
    fair: bool,
}

fn optimistic() -> Manner {
    Manner { options: TransactionOptions::new_optimistic(), fair: false }
}

fn pessimistic() -> Manner {
    Manner { options: TransactionOptions::new_pessimistic(), fair: false }
}

impl Manner {
    fn with(mut self, change: fn(TransactionOptions) -> TransactionOptions) -> Self {
        self.options = change(self.options);
        self
    }
}

/// Moves some money; where another was in the way, nothing.
async fn transfer(client: &TransactionClient, manner: &Manner, dice: &mut Dice) -> Result<bool> {
    let (from, to) = (dice.below(ACCOUNTS), dice.below(ACCOUNTS));
    let amount = dice.below(30);
    if from == to {
        return Ok(false);
    }
    let txn = client.begin_with_options(manner.options.clone()).await?;
    let told = move_money(&txn, manner, from, to, amount).await;
    if let Err(error) = told {
        // Now and then it is forgotten, as applications do.
        if dice.chance(1, 2) {
            txn.rollback().await?;
        }
        return excuse(error);
    }
    match txn.commit().await {
        Ok(_) => Ok(true),
        Err(error) => excuse(error),
    }
}

async fn move_money(
    txn: &Transaction,
    manner: &Manner,
    from: u64,
    to: u64,
    amount: u64,
) -> Result<()> {
    let (from, to) = (account(from), account(to));
    let (has, gets) = if manner.fair {
        fair(txn, &from, &to).await?
    } else if txn.is_pessimistic() {
        let has = number(txn.get_for_update(&*from).await?);
        (has, number(txn.get_for_update(&*to).wait(Duration::from_millis(300)).await?))
    } else {
        (number(txn.get(&*from).await?), number(txn.get(&*to).await?))
    };
    let amount = amount.min(has);
    txn.put(from, (has - amount).to_string()).await?;
    txn.put(to, (gets + amount).to_string()).await
}

/// One statement that locks two keys, one after the other, and begins anew when it meets a conflict.
async fn fair(txn: &Transaction, from: &str, to: &str) -> Result<(u64, u64)> {
    txn.start_fair_locking()?;
    for _ in 0..5 {
        let has = txn.get_for_update(from).wait(Duration::from_millis(300)).await;
        let gets = match &has {
            Ok(_) => txn.get_for_update(to).wait(Duration::from_millis(300)).await,
            Err(error) => Err(error.clone()),
        };
        match (has, gets) {
            (Ok(has), Ok(gets)) => {
                txn.done_fair_locking()?;
                return Ok((number(has), number(gets)));
            }
            (Err(error), _) | (_, Err(error)) if error.is_conflict() => txn.retry_fair_locking()?,
            (Err(error), _) | (_, Err(error)) => {
                txn.cancel_fair_locking()?;
                return Err(error);
            }
        }
    }
    txn.cancel_fair_locking()?;
    txn.start_fair_locking()?;
    txn.cancel_fair_locking()?;
    Err(anatase::Error::application("met conflicts only"))
}

/// What may happen to a teller. Nothing is undetermined here: no answer is lost for good.
fn excuse(error: anatase::Error) -> Result<bool> {
    let expected = error.is_conflict()
        || matches!(
            error.kind(),
            ErrorKind::LockWaitTimeout { .. }
                | ErrorKind::LockNotAvailable { .. }
                | ErrorKind::Application
        );
    if expected { Ok(false) } else { Err(error) }
}

async fn total(client: &TransactionClient, at: Timestamp) -> Result<u64> {
    let snapshot = client.snapshot(at);
    // Both ways of reading have to agree.
    let pairs = snapshot.scan("account".."accounu", 100).await?;
    let values = snapshot.batch_get((0..ACCOUNTS).map(account)).await?;
    let one: u64 = pairs.iter().map(|pair| number(Some(pair.value().clone()))).sum();
    let other: u64 = values.into_iter().map(number).sum();
    assert_eq!((one, pairs.len() as u64), (other, ACCOUNTS));
    Ok(one)
}

fn disturb(server: &Server, dice: &mut Dice) {
    server.with(|cluster| {
        let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
        let region = regions[dice.below(regions.len() as u64) as usize];
        match dice.below(4) {
            0 if regions.len() < 10 => {
                cluster.split(account(dice.below(ACCOUNTS)));
            }
            1 if regions.len() > 3 => {
                let other = regions[dice.below(regions.len() as u64) as usize];
                cluster.merge(region, other);
            }
            _ => {
                cluster.transfer_leader(region, 1 + dice.below(3));
            }
        }
    });
}

async fn bank(manners: Vec<Manner>) {
    bounded(async {
        let server = serve(3, &["account04", "account08"]).await;
        let client = TransactionClient::new([server.pd_address()]).await.unwrap();
        client
            .run(async |txn| {
                for n in 0..ACCOUNTS {
                    txn.put(account(n), EACH.to_string()).await?;
                }
                Ok(())
            })
            .await
            .unwrap();
        let until = Instant::now() + OPEN;
        let tellers: Vec<_> = (0..TELLERS)
            .map(|teller| {
                let client = client.clone();
                let manner = manners[teller as usize % manners.len()].clone();
                tokio::spawn(async move {
                    let mut dice = Dice::new(teller + 1);
                    let mut done = 0;
                    while Instant::now() < until {
                        done += u64::from(transfer(&client, &manner, &mut dice).await?);
                    }
                    Ok::<u64, anatase::Error>(done)
                })
            })
            .collect();
        // Somebody who dies again and again in the middle of it.
        let mortal = {
            let (address, manners) = (server.pd_address(), manners.clone());
            tokio::spawn(async move {
                let mut dice = Dice::new(99);
                while Instant::now() < until {
                    let client = TransactionClient::new([address.clone()]).await.unwrap();
                    let manner = manners[dice.below(manners.len() as u64) as usize].clone();
                    let mut own = Dice::new(dice.below(1_000));
                    let life = Duration::from_micros(dice.below(20_000));
                    let work = async {
                        loop {
                            transfer(&client, &manner, &mut own).await.unwrap();
                        }
                    };
                    let _: Result<(), _> = tokio::time::timeout(life, work).await;
                    // Neither closed nor waited for.
                    drop(client);
                }
            })
        };
        let watcher = {
            let client = client.clone();
            tokio::spawn(async move {
                let mut dice = Dice::new(5);
                let mut seen = Vec::new();
                while Instant::now() < until {
                    let at = client.current_timestamp().await.unwrap();
                    assert_eq!(total(&client, at).await.unwrap(), ACCOUNTS * EACH, "{at:?}");
                    seen.push(at);
                    // The past does not change.
                    let before = seen[dice.below(seen.len() as u64) as usize];
                    assert_eq!(
                        total(&client, before).await.unwrap(),
                        ACCOUNTS * EACH,
                        "{before:?}"
                    );
                }
                seen.len()
            })
        };
        let mut dice = Dice::new(3);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(15)).await;
            disturb(&server, &mut dice);
        }
        let mut done = 0;
        for teller in tellers {
            done += teller.await.unwrap().unwrap();
        }
        mortal.await.unwrap();
        assert!(watcher.await.unwrap() > 3);
        assert!(done > TELLERS, "{done} transfers only");
        // Who died has left locks: they expire, and whoever writes next takes them away.
        let left: Vec<u64> = server.with(|cluster| {
            let locks = cluster.locks();
            locks.iter().map(|lock| lock.start_ts).collect()
        });
        server.with(|cluster| {
            for start in left {
                cluster.expire(start);
            }
        });
        client
            .run_with_options(TransactionOptions::new_pessimistic(), async |txn| {
                let mut sum = 0;
                for n in 0..ACCOUNTS {
                    let value = number(txn.get_for_update(account(n)).await?);
                    txn.put(account(n), value.to_string()).await?;
                    sum += value;
                }
                assert_eq!(sum, ACCOUNTS * EACH);
                Ok(())
            })
            .await
            .unwrap();
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks()), []);
    })
    .await;
}

#[tokio::test]
async fn optimistic_in_two_phases() {
    bank(vec![optimistic()]).await;
}

#[tokio::test]
async fn optimistic_async() {
    bank(vec![optimistic().with(|options| options.use_async_commit())]).await;
}

#[tokio::test]
async fn optimistic_in_one_phase() {
    bank(vec![optimistic().with(|options| options.try_one_pc())]).await;
}

#[tokio::test]
async fn pessimistic_in_two_phases() {
    bank(vec![pessimistic()]).await;
}

#[tokio::test]
async fn pessimistic_async_or_in_one_phase() {
    bank(vec![pessimistic().with(|options| options.use_async_commit().try_one_pc())]).await;
}

#[tokio::test]
async fn pessimistic_and_fair() {
    bank(vec![Manner { fair: true, ..pessimistic() }]).await;
}

#[tokio::test]
async fn all_of_them() {
    let fast: fn(TransactionOptions) -> TransactionOptions =
        |options| options.use_async_commit().try_one_pc();
    bank(vec![
        optimistic(),
        optimistic().with(fast),
        optimistic().with(|options| options.use_async_commit().causal_consistency()),
        pessimistic(),
        pessimistic().with(fast),
        Manner { fair: true, ..pessimistic() },
        Manner { fair: true, ..pessimistic().with(fast) },
    ])
    .await;
}
