//! Several tasks at once with one client: they share its routes, its requests for timestamps, what it knows of
//! others' transactions.

use anatase_client::{Bytes, Result, TransactionClient};

use super::{Desk, Work, decode, encode};
use crate::client::{SimClient, SimRuntime};
use crate::record::Recorder;
use crate::scenario::Way;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let mut tasks = Vec::new();
    for n in 0..2 + desk.pick(5) {
        let task = Task {
            store: desk.store()?.clone(),
            // Tasks overlap, so each is a process of its own.
            recorder: desk.recorder.beside(1 + n),
            client: desk.client.clone(),
            way: desk.way(),
            keys: desk.stage.keys.max(4),
        };
        tasks.push(desk.client.spawn(task.run()));
    }
    let mut all = Ok(());
    for task in tasks {
        if let Ok(Err(error)) = task.await {
            all = Err(error);
        }
    }
    all
}

struct Task {
    store: TransactionClient<SimRuntime>,
    recorder: Recorder,
    client: SimClient,
    way: Way,
    keys: u32,
}

impl Task {
    async fn run(self) -> Result<()> {
        let key = || Bytes::from(Work::Crowd.key(self.client.choose(self.keys)));
        match self.client.choose(4) {
            0 => {
                let now = self.recorder.timestamp(&self.store).await?;
                let snapshot = self.recorder.snapshot(self.store.snapshot(now));
                snapshot.batch_get(&[key(), key()]).await.map(drop)
            }
            1 => self.recorder.timestamp(&self.store).await.map(drop),
            _ => {
                let causal = self.way == Way::Causal;
                let txn =
                    self.recorder.transaction(&self.store, self.way.options(), causal).await?;
                let key = key();
                let held = match self.way.is_pessimistic() {
                    true => txn.lock_and_read(std::slice::from_ref(&key)).await?.pop().flatten(),
                    false => txn.get(&key).await?,
                };
                // What is no number is for the judge to see.
                let count = decode(&held, 0).unwrap_or(-1);
                txn.write(&key, encode(count + 1)).await?;
                txn.commit().await.into_result().map(drop)
            }
        }
    }
}
