//! Looks for locks and puts an end to their transactions, as a garbage collection does. Whoever runs still is
//! told that it was aborted; whoever is committed, is.

use std::time::Duration;

use anatase_client::{ResolveLocksOptions, Result};

use super::Desk;
use crate::check::Anomaly;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let store = desk.store()?;
    let at = desk.recorder.timestamp(store).await?;
    // Most often those of a while ago.
    let age = [0, 50, 1_000, 5_000][desk.pick(4) as usize];
    desk.client.sleep(Duration::from_millis(age)).await;
    let limit = 1 + desk.pick(20);
    let locks = desk.recorder.other("scan locks", store.scan_locks(at, .., limit)).await?;
    if locks.len() > limit as usize || locks.iter().any(|lock| lock.start_timestamp > at) {
        let story = format!("asked for {limit} locks up to {at:?}, and was told {locks:?}");
        desk.stage.tell(Anomaly::InvariantBroken, story);
    }
    let options = match desk.pick(4) {
        0 => ResolveLocksOptions::default().async_commit_only(),
        _ => ResolveLocksOptions::default().batch_size(2 + desk.pick(100)),
    };
    let cleaned = store.cleanup_locks(.., at, options);
    desk.recorder.other("clean up", cleaned).await.map(drop)
}
