//! Counters that are locked one by one in any order: who waits for whom goes round in circles, and every
//! count counts once.

use anatase_client::{Bytes, Result};

use super::{Desk, Work, broken, encode, number};
use crate::check::Violation;
use crate::check::truth::{Effect, Truth};
use crate::history::text;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    // Who does not lock does not wait.
    let way = desk.way().with_locks();
    let chosen = desk.some(desk.stage.keys.min(4), 4);
    let keys: Vec<Bytes> = chosen.iter().map(|n| desk.key(Work::Counter, *n)).collect();
    let txn = desk.begin(way).await?;
    for key in &keys {
        let held = desk.read_one(&txn, way, key).await?;
        let count = number(desk, &held, 0);
        txn.write(key, encode(count + 1)).await?;
        // Somebody else may come in between.
        desk.client.sleep(std::time::Duration::from_micros(desk.pick(5_000).into())).await;
    }
    if desk.pick(8) == 0 {
        return txn.rollback().await;
    }
    txn.commit().await.into_result().map(drop)
}

/// The nth version of a counter is n.
pub(super) fn judge(work: Work, truth: &Truth, found: &mut Vec<Violation>) {
    for (key, versions) in &truth.versions {
        if !key.starts_with(work.prefix().as_bytes()) {
            continue;
        }
        let values = versions.iter().filter_map(|version| match &version.effect {
            Effect::Put(value) => Some((version.commit_ts, value)),
            Effect::Delete | Effect::Lock => None,
        });
        for (n, (at, value)) in values.enumerate() {
            if value != (n + 1).to_string().as_bytes() {
                let key = text(key);
                found.push(broken(format!("{key} is {} @{at}: count {}", text(value), n + 1)));
                break;
            }
        }
    }
}
