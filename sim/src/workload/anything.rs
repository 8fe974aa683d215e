//! Transactions that do whatever a transaction can, by the dice: what they were told has to be what is there,
//! and what they left has to be what they meant.

use std::time::Duration;

use anatase_client::{Bytes, ErrorKind, Result};

use super::{Desk, Work};
use crate::check::Anomaly;
use crate::record::{LockAs, Range, RecordedTransaction};
use crate::scenario::Way;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let way = desk.way();
    let causal = way == Way::Causal;
    let mut options = way.options();
    match desk.pick(12) {
        0 => options = options.commit_ts_upper_bound(soon(desk, 100).await?),
        1 => {
            let wait = Duration::from_millis(u64::from(1 + desk.pick(40)));
            options = options.commit_wait_until(soon(desk, 30).await?, wait);
        }
        _ => {}
    }
    let txn = desk.recorder.transaction(desk.store()?, options, causal).await?;
    let mut savepoint = None;
    for _ in 0..1 + desk.pick(8) {
        let done = match desk.pick(16) {
            14 => {
                savepoint = Some(txn.savepoint());
                Ok(())
            }
            15 => match savepoint.take() {
                Some(savepoint) => txn.roll_back_to(savepoint),
                None => Ok(()),
            },
            what => step(desk, &txn, what).await,
        };
        match done.as_ref().map_err(anatase_client::Error::kind) {
            Ok(()) => {}
            // Somebody else has it, or it is there: the transaction goes on without.
            Err(
                ErrorKind::LockNotAvailable { .. }
                | ErrorKind::LockWaitTimeout { .. }
                | ErrorKind::KeyExists { .. },
            ) => {}
            Err(_) => return done,
        }
    }
    match desk.pick(10) {
        0 => txn.rollback().await,
        // It is dropped.
        1 => Ok(()),
        2 if !desk.is_encore() => {
            let soon = Duration::from_millis(u64::from(1 + desk.pick(30)));
            txn.commit_within(Some(soon)).await.into_result().map(drop)
        }
        _ => txn.commit().await.into_result().map(drop),
    }
}

/// A timestamp that PD may hand out in so many milliseconds at most.
async fn soon(desk: &Desk, ms: u32) -> Result<anatase_client::Timestamp> {
    let now = desk.recorder.timestamp(desk.store()?).await?;
    let ahead = u64::from(desk.pick(ms)) << 18;
    Ok(anatase_client::Timestamp::from_version(now.version() + ahead).unwrap_or(now))
}

async fn step(desk: &Desk, txn: &RecordedTransaction, what: u32) -> Result<()> {
    let key = desk.key(Work::Anything, desk.pick(desk.stage.keys));
    let value = Bytes::from(desk.unique().to_string());
    match what {
        0 | 1 => txn.get(&key).await.map(drop),
        2 => {
            let some = desk.some(desk.stage.keys, 4);
            let keys: Vec<Bytes> = some.iter().map(|n| desk.key(Work::Anything, *n)).collect();
            txn.batch_get(&keys).await.map(drop)
        }
        3 | 4 => {
            let mut range = Range::prefix(Work::Anything.prefix());
            if desk.pick(2) == 0 {
                range.start = key;
            }
            if desk.pick(3) == 0 {
                range.end = desk.key(Work::Anything, desk.pick(desk.stage.keys));
            }
            let limit = [1, 2, 3, 100][desk.pick(4) as usize];
            txn.scan(range, limit, what == 4).await.map(drop)
        }
        5..=7 => txn.write(&key, Some(value)).await,
        8 => txn.write(&key, None).await,
        9 => txn.insert(&key, value).await,
        10 => txn.lock_and_read(std::slice::from_ref(&key)).await.map(drop),
        11 if txn.unrecorded().is_pessimistic() => {
            let some = desk.some(desk.stage.keys, 3);
            let keys: Vec<Bytes> = some.iter().map(|n| desk.key(Work::Anything, *n)).collect();
            txn.lock_fairly(&keys, 1 + desk.pick(3)).await.map(drop)
        }
        _ => {
            let some = desk.some(desk.stage.keys, 3);
            let keys: Vec<Bytes> = some.iter().map(|n| desk.key(Work::Anything, *n)).collect();
            let how = LockAs {
                wait: match desk.pick(3) {
                    0 => Some(Duration::ZERO),
                    1 if !desk.is_encore() => Some(Duration::from_millis(30)),
                    _ => None,
                },
                return_values: desk.pick(2) == 0,
                check_existence: desk.pick(2) == 0,
                // One key at a time can be locked so.
                only_if_exists: keys.len() == 1 && desk.pick(2) == 0,
            };
            let told = txn.lock_as(&keys, how).await?;
            if told.iter().any(|locked| !locked.locked && !how.only_if_exists) {
                let story =
                    format!("asked for locks on {keys:?} as {how:?}, and was told {told:?}");
                desk.stage.tell(Anomaly::InvariantBroken, story);
            }
            Ok(())
        }
    }
}
