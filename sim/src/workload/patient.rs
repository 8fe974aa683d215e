//! Locks that are held for longer than a lock lives, among others who would take them: they hold, because
//! their owner says again and again that it is alive.

use std::time::Duration;

use anatase_client::{Bytes, Result};

use super::{Desk, Work, broken, encode, number};
use crate::check::Violation;
use crate::history::{Entry, History, Outcome, Step, Transaction};
use crate::scenario::Scenario;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let way = desk.way().with_locks();
    let keys: Vec<Bytes> = (0..2).map(|n| desk.key(Work::Patient, n)).collect();
    let txn = desk.begin(way).await?;
    let held = desk.read_to_write(&txn, way, &keys).await?;
    // A lock lives for 20 s.
    desk.client.sleep(Duration::from_secs(25 + u64::from(desk.pick(20)))).await;
    for (key, held) in keys.iter().zip(&held) {
        txn.write(key, encode(number(desk, held, 0) + 1)).await?;
    }
    txn.commit().await.into_result().map(drop)
}

/// Where nothing goes wrong, nobody who had the locks fails.
pub(super) fn judge(scenario: &Scenario, history: &History, found: &mut Vec<Violation>) {
    let janitor = scenario.programs.iter().any(|program| program.work == Work::Janitor);
    if !scenario.is_calm() || janitor {
        return;
    }
    for (entry, txn) in history.transactions() {
        if wrote(txn) && !matches!(txn.outcome, Outcome::Committed { .. }) {
            found.push(failed(history, entry));
        }
    }
}

fn wrote(txn: &Transaction) -> bool {
    txn.commit_began.is_some()
        && txn.steps.iter().any(|step| match step {
            Step::Write { key, .. } => key.starts_with(Work::Patient.prefix().as_bytes()),
            Step::Read { .. }
            | Step::Scan(_)
            | Step::ReadLocked { .. }
            | Step::Lock { .. }
            | Step::Insert { .. }
            | Step::Append { .. } => false,
        })
}

fn failed(history: &History, entry: &Entry) -> Violation {
    let story = format!("its locks did not hold, in a calm world: {:?}", entry.error);
    broken(story).by(history, [entry.id])
}
