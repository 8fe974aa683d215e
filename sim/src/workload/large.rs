//! Hundreds of keys at once, in many batches over many regions: all of them, or none.

use std::collections::BTreeMap;

use anatase_client::{Bytes, Result};

use super::{Desk, Work, broken, replay};
use crate::check::Violation;
use crate::check::truth::Truth;

/// How many keys a transaction writes.
const KEYS: u32 = 120;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let way = desk.way();
    let keys: Vec<Bytes> = (0..KEYS).map(|n| desk.key(Work::Large, n)).collect();
    // Long enough that the keys of one region do not fit into one request (16 KiB).
    let unique = desk.unique();
    let value = Bytes::from(format!("{unique} {}", "x".repeat(600)));
    let txn = desk.begin(way).await?;
    if way.is_pessimistic() {
        txn.lock(&keys).await?;
    }
    for key in &keys {
        txn.write(key, Some(value.clone())).await?;
    }
    txn.commit().await.into_result().map(drop)
}

/// All keys have the same value, always.
pub(super) fn judge(truth: &Truth, found: &mut Vec<Violation>) {
    replay(Work::Large.prefix(), truth, |at, keys: &BTreeMap<Bytes, Bytes>| {
        let mut values: Vec<&Bytes> = keys.values().collect();
        values.dedup();
        if (values.len() > 1 || keys.len() != KEYS as usize) && found.len() < 8 {
            let (keys, values) = (keys.len(), values.len());
            found.push(broken(format!("{keys} keys with {values} values from @{at} on")));
        }
    });
}
