//! A client that dies in the midst of what it does. What it leaves behind is all of a transaction or
//! nothing, once somebody has looked at it.

use std::time::Duration;

use anatase_client::{Bytes, Result};

use super::{Desk, Work, broken, replay};
use crate::check::Violation;
use crate::check::truth::Truth;

/// How many keys each of its transactions writes.
pub(super) const KEYS: u32 = 5;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let way = desk.way();
    let keys: Vec<Bytes> = (0..KEYS).map(|n| desk.key(Work::Mortal, n)).collect();
    // Whoever has died before has left something here.
    let now = desk.recorder.timestamp(desk.store()?).await?;
    let snapshot = desk.recorder.snapshot(desk.store()?.snapshot(now));
    drop(snapshot.batch_get(&keys).await);
    if desk.pick(3) > 0 {
        let soon = Duration::from_micros(u64::from(desk.pick(12_000)));
        let down = Duration::from_millis(u64::from(desk.pick(3_000)));
        desk.client.crash_after(soon, down);
    }
    let txn = desk.begin(way).await?;
    if way.is_pessimistic() {
        txn.lock(&keys).await?;
    }
    let value = Bytes::from(desk.unique().to_string());
    for key in &keys {
        txn.write(key, Some(value.clone())).await?;
    }
    txn.commit().await.into_result().map(drop)
}

pub(super) fn judge(work: Work, truth: &Truth, found: &mut Vec<Violation>) {
    replay(work.prefix(), truth, |at, keys| {
        let mut values: Vec<&Bytes> = keys.values().collect();
        values.dedup();
        if (values.len() > 1 || keys.len() != KEYS as usize) && found.len() < 8 {
            found.push(broken(format!("not all of one transaction from @{at} on: {keys:?}")));
        }
    });
}
