//! A client that is closed while it works: what it is told then is so, and what it leaves behind is whole.

use std::time::Duration;

use anatase_client::{Bytes, Result};

use super::mortal::KEYS;
use super::{Desk, Work};
use crate::scenario::Way;

/// A client that is closed lets its commits settle for as long as this.
const CLOSE: Duration = Duration::from_secs(30);

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let start = desk.client.transactions_with(desk.stage.knobs.client());
    let store = desk.recorder.other("connect", start).await?;
    let way = desk.way();
    let keys: Vec<Bytes> = (0..KEYS).map(|n| desk.key(Work::Hasty, n)).collect();
    let value = Bytes::from(desk.unique().to_string());
    let (recorder, client) = (desk.recorder.clone(), store.clone());
    let working = desk.client.spawn(async move {
        let txn = recorder.transaction(&client, way.options(), way == Way::Causal).await?;
        if way.is_pessimistic() {
            txn.lock(&keys).await?;
        }
        for key in &keys {
            txn.write(key, Some(value.clone())).await?;
        }
        txn.commit().await.into_result().map(drop)
    });
    desk.client.sleep(Duration::from_micros(desk.pick(12_000).into())).await;
    let closing = async {
        store.close().await;
        Ok(())
    };
    desk.recorder.within(CLOSE).other("close", closing).await?;
    desk.stage.meet(&store);
    // A closed client leaves nobody without an answer. If this one is cancelled, the task goes on alone.
    match working.await {
        Ok(told) => told,
        Err(_) => Ok(()),
    }
}
