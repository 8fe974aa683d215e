//! What was read once at a timestamp is read again at it, later and in other ways: it is the same, whatever
//! has become of the regions.

use anatase_client::{Bytes, Result};

use super::{Desk, Work, encode, number};
use crate::check::Anomaly;
use crate::history::Held;
use crate::record::{Range, RecordedSnapshot};

pub(super) async fn round(desk: &Desk) -> Result<()> {
    match desk.pick(3) {
        0 => write(desk).await,
        _ => look(desk).await,
    }
}

async fn write(desk: &Desk) -> Result<()> {
    let way = desk.way();
    let txn = desk.begin(way).await?;
    let chosen = desk.some(desk.stage.keys, 5);
    let keys: Vec<Bytes> = chosen.iter().map(|n| desk.key(Work::Snapshots, *n)).collect();
    let held = desk.read_to_write(&txn, way, &keys).await?;
    for (key, held) in keys.iter().zip(&held) {
        let next = number(desk, held, 0) + 1;
        // Gone now and then, so that scans have something to leave out.
        let write = if desk.pick(4) == 0 { None } else { encode(next) };
        txn.write(key, write).await?;
    }
    txn.commit().await.into_result().map(drop)
}

async fn look(desk: &Desk) -> Result<()> {
    let store = desk.store()?;
    let keys: Vec<Bytes> = (0..desk.stage.keys).map(|n| desk.key(Work::Snapshots, n)).collect();
    let at = desk.recorder.timestamp(store).await?;
    // One that remembers what it has read, and fresh ones.
    let kept = desk.recorder.snapshot(store.snapshot(at));
    let first = read(desk, &kept, &keys).await?;
    for _ in 0..2 {
        desk.client.sleep(std::time::Duration::from_millis(desk.pick(1500).into())).await;
        let again = match desk.pick(2) {
            0 => read(desk, &kept, &keys).await?,
            _ => {
                let fresh = desk.recorder.snapshot(store.snapshot(at));
                read(desk, &fresh, &keys).await?
            }
        };
        if again != first {
            let story = format!("@{} was {first:?}, and is {again:?}", at.version());
            desk.stage.tell(Anomaly::InvariantBroken, story);
        }
    }
    Ok(())
}

/// Reads all keys, in one of the ways there are.
async fn read(desk: &Desk, snapshot: &RecordedSnapshot, keys: &[Bytes]) -> Result<Vec<Held>> {
    let all = Range::prefix(Work::Snapshots.prefix());
    let pairs = match desk.pick(5) {
        0 => {
            let mut values = Vec::new();
            for key in keys {
                values.push(snapshot.get(key).await?);
            }
            return Ok(values);
        }
        1 => return snapshot.batch_get(keys).await,
        2 => snapshot.scan(all, 1000, false).await?,
        3 => snapshot.scan(all, 1000, true).await?,
        _ => {
            // Page by page.
            let (mut pairs, mut rest) = (Vec::new(), all);
            loop {
                let limit = 1 + desk.pick(3);
                let page = snapshot.scan(rest.clone(), limit, false).await?;
                let full = page.len() == limit as usize;
                if let Some((last, _)) = page.last() {
                    rest.start = anatase_core::next_key(last);
                }
                pairs.extend(page);
                if !full {
                    break pairs;
                }
            }
        }
    };
    let held = |key: &Bytes| {
        let pair = pairs.iter().find(|(found, _)| found == key);
        pair.map(|(_, value)| value.clone())
    };
    Ok(keys.iter().map(held).collect())
}
