//! What happens one after the other, on whichever clients, has timestamps in this order.

use anatase_client::{Bytes, Result};

use super::{Desk, Work};
use crate::history::Held;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let store = desk.store()?;
    let way = desk.way();
    let key = desk.key(Work::Order, desk.pick(desk.stage.keys));
    match desk.pick(4) {
        0 => drop(desk.recorder.timestamp(store).await?),
        1 => {
            let txn = desk.begin(way).await?;
            txn.get(&key).await?;
        }
        2 => {
            // Only if it is not there; then it goes again.
            let txn = desk.begin(way).await?;
            let value = Bytes::from(desk.unique().to_string());
            txn.insert(&key, value).await?;
            txn.commit().await.into_result()?;
            let txn = desk.begin(way).await?;
            if way.is_pessimistic() {
                txn.lock(std::slice::from_ref(&key)).await?;
            }
            txn.write(&key, None).await?;
            txn.commit().await.into_result()?;
        }
        _ => {
            let value: Held = Some(desk.unique().to_string().into());
            let txn = desk.begin(way).await?;
            if way.is_pessimistic() {
                txn.lock(std::slice::from_ref(&key)).await?;
            }
            txn.write(&key, value).await?;
            txn.commit().await.into_result()?;
        }
    }
    Ok(())
}
