//! Lists that grow by elements that are there once: who read what tells in which order all of it happened,
//! without a timestamp.

use std::collections::BTreeMap;

use anatase_client::{Bytes, Result};

use super::{Desk, Work};
use crate::check::Anomaly;
use crate::history::decode_list;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let way = desk.way();
    let txn = desk.begin(way).await?;
    let chosen = desk.some(desk.stage.keys, 4);
    // A list is read once, and what is appended to it is known.
    let mut lists: BTreeMap<Bytes, Vec<u64>> = BTreeMap::new();
    for n in chosen {
        let key = desk.key(Work::ListAppend, n);
        let appends = desk.pick(2) == 1;
        let held = match appends {
            true => desk.read_one(&txn, way, &key).await?,
            false => txn.get(&key).await?,
        };
        let Some(mut list) = decode_list(held.as_deref()) else {
            desk.stage.tell(Anomaly::InvariantBroken, format!("{held:?} is no list"));
            return Ok(());
        };
        if appends {
            let element = desk.unique();
            txn.append(&key, &list, element).await?;
            list.push(element);
        }
        lists.insert(key, list);
    }
    if let Some((key, list)) = lists.iter().next()
        && desk.pick(4) == 0
    {
        // Its own writes, read back.
        let held = txn.get(key).await?;
        if !way.is_pessimistic() && decode_list(held.as_deref()).as_ref() != Some(list) {
            let story = format!("{key:?} is {held:?}, and was to be {list:?}");
            desk.stage.tell(Anomaly::InvariantBroken, story);
        }
    }
    txn.commit().await.into_result().map(drop)
}
