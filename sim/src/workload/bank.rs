//! Money is moved between accounts: it is neither made nor lost, whenever one looks.

use anatase_client::{Bytes, Result};

use super::{Desk, Work, broken, decode, encode, number, replay};
use crate::check::truth::Truth;
use crate::check::{Anomaly, Violation};
use crate::history::Held;

/// What an account holds at first.
const EACH: i64 = 100;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    match desk.pick(6) {
        0 => audit(desk).await,
        _ => transfer(desk).await,
    }
}

/// Moves money between two accounts, or among several.
async fn transfer(desk: &Desk) -> Result<()> {
    let way = desk.way();
    let chosen = desk.some(desk.stage.keys, 4);
    let keys: Vec<Bytes> = chosen.iter().map(|n| desk.key(Work::Bank, *n)).collect();
    let txn = desk.begin(way).await?;
    let held = desk.read_to_write(&txn, way, &keys).await?;
    let mut balances: Vec<i64> = held.iter().map(|held| number(desk, held, EACH)).collect();
    for n in 1..balances.len() {
        let amount = i64::from(desk.pick(10)) + 1;
        balances[n - 1] -= amount;
        balances[n] += amount;
    }
    for (key, balance) in keys.iter().zip(balances) {
        txn.write(key, encode(balance)).await?;
    }
    txn.commit().await.into_result().map(drop)
}

/// Adds everything up.
async fn audit(desk: &Desk) -> Result<()> {
    let keys: Vec<Bytes> = (0..desk.stage.keys).map(|n| desk.key(Work::Bank, n)).collect();
    let now = desk.recorder.timestamp(desk.store()?).await?;
    let snapshot = desk.recorder.snapshot(desk.store()?.snapshot(now));
    let held = snapshot.batch_get(&keys).await?;
    let sum: i64 = held.iter().map(|held| number(desk, held, EACH)).sum();
    let total = EACH * i64::from(desk.stage.keys);
    if sum != total {
        let story = format!("of {total} there was {sum} @{}: {held:?}", now.version());
        desk.stage.tell(Anomaly::InvariantBroken, story);
    }
    Ok(())
}

/// After each commit the total is what it was.
pub(super) fn judge(keys: u32, truth: &Truth, found: &mut Vec<Violation>) {
    let total = EACH * i64::from(keys.max(1));
    replay(Work::Bank.prefix(), truth, |at, accounts| {
        let balance = |n| {
            let held: Held = accounts.get(Work::Bank.key(n).as_bytes()).cloned();
            decode(&held, EACH).unwrap_or(0)
        };
        let sum: i64 = (0..keys.max(1)).map(balance).sum();
        if sum != total && found.len() < 8 {
            found.push(broken(format!("of {total} there is {sum} from @{at} on")));
        }
    });
}
