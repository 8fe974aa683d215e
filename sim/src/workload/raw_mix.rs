//! Everything that the raw API can, by clients that do not touch each other's keys: what each reads is what
//! it has written.
//!
//! Of a write whose end was not told, nobody knows whether it took effect; where requests may arrive late,
//! it may do so much later, over what was written since (raw.md §5). So a key has several values that it
//! may have, and what is read has to be one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use anatase_client::{Bytes, KvPair, Result};

use super::{Desk, Work};
use crate::check::Anomaly;
use crate::history::Held;
use crate::record::Range;

/// What each key may hold. A key that is not here holds nothing.
pub(crate) type Map = BTreeMap<Bytes, BTreeSet<Held>>;

/// How many keys each client has.
const KEYS: u32 = 12;

fn nothing() -> BTreeSet<Held> {
    BTreeSet::from([None])
}

fn map(desk: &Desk) -> MutexGuard<'_, Map> {
    desk.post.map.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prefix(desk: &Desk) -> String {
    format!("{}{:02}/", Work::RawMix.prefix(), desk.post.n)
}

fn key(desk: &Desk, n: u32) -> Bytes {
    format!("{}{n:02}", prefix(desk)).into()
}

/// A write: from when it is begun, its values may be there; once it is told as done, they are.
async fn write(
    desk: &Desk,
    name: &str,
    writes: &[(Bytes, Held)],
    perform: impl IntoFuture<Output = Result<()>>,
) -> Result<()> {
    for (key, held) in writes {
        map(desk).entry(key.clone()).or_insert_with(nothing).insert(held.clone());
    }
    desk.recorder.other(name, perform).await?;
    if !desk.stage.zombies {
        for (key, held) in writes {
            map(desk).insert(key.clone(), BTreeSet::from([held.clone()]));
        }
    }
    Ok(())
}

/// What was read of a key has to be something that it may hold.
fn read(desk: &Desk, how: &str, key: &Bytes, held: &Held) {
    let map = map(desk);
    let may = map.get(key);
    if may.map_or(held.is_none(), |may| may.contains(held)) {
        return;
    }
    let story = format!("{how} of {key:?} told {held:?}, and it may hold {may:?}");
    drop(map);
    desk.stage.tell(Anomaly::InvariantBroken, story);
}

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let raw = desk.raw()?;
    let recorder = &desk.recorder;
    let one = key(desk, desk.pick(KEYS));
    let many: Vec<Bytes> = desk.some(KEYS, KEYS).into_iter().map(|n| key(desk, n)).collect();
    let value = Bytes::from(desk.unique().to_string());
    match desk.pick(10) {
        0 | 1 => {
            let writes = [(one.clone(), Some(value.clone()))];
            write(desk, "put", &writes, raw.put(one, value)).await?;
        }
        2 => {
            let writes: Vec<_> =
                many.iter().map(|key| (key.clone(), Some(value.clone()))).collect();
            let pairs: Vec<_> =
                many.into_iter().map(|key| KvPair::new(key, value.clone())).collect();
            write(desk, "batch put", &writes, raw.batch_put(pairs)).await?;
        }
        3 => write(desk, "delete", &[(one.clone(), None)], raw.delete(one)).await?,
        4 => {
            let writes: Vec<_> = many.iter().map(|key| (key.clone(), None)).collect();
            write(desk, "batch delete", &writes, raw.batch_delete(many)).await?;
        }
        5 => {
            let mut ends = [one, key(desk, desk.pick(KEYS))];
            ends.sort();
            let [start, end] = ends;
            let inside =
                (0..KEYS).map(|n| key(desk, n)).filter(|key| (&start..&end).contains(&key));
            let writes: Vec<_> = inside.map(|key| (key, None)).collect();
            write(desk, "delete range", &writes, raw.delete_range(start..end)).await?;
        }
        6 => {
            let held = recorder.other("get", raw.get(one.clone())).await?;
            read(desk, "a get", &one, &held);
        }
        7 => {
            let asked = raw.batch_get(many.iter().cloned());
            let held = recorder.other("batch get", asked).await?;
            for (key, held) in many.iter().zip(&held) {
                read(desk, "a batch get", key, held);
            }
        }
        way => scan(desk, way == 9).await?,
    }
    Ok(())
}

async fn scan(desk: &Desk, reverse: bool) -> Result<()> {
    let raw = desk.raw()?;
    let all = Range::prefix(&prefix(desk));
    let range = all.start.clone()..all.end.clone();
    let limit = 1 + desk.pick(KEYS + 3);
    let asked = match reverse {
        false => raw.scan(range, limit),
        true => raw.scan_reverse(range, limit),
    };
    let pairs = desk.recorder.other("scan", asked).await?;
    let told: Vec<(Bytes, Bytes)> =
        pairs.into_iter().map(|pair| (pair.key().clone().into(), pair.into_value())).collect();
    let ordered = |pair: &[(Bytes, Bytes)]| (pair[0].0 < pair[1].0) != reverse;
    if told.len() > limit as usize || !told.windows(2).all(ordered) {
        desk.stage.tell(Anomaly::ScanOutOfOrder, format!("limit {limit}: {told:?}"));
    }
    // What the limit left out was not told.
    let last = told.last().filter(|_| told.len() >= limit as usize).map(|(key, _)| key.clone());
    for key in (0..KEYS).map(|n| key(desk, n)) {
        let reached = match (&last, reverse) {
            (None, _) => true,
            (Some(last), false) => key <= *last,
            (Some(last), true) => key >= *last,
        };
        let held = told.iter().find(|(found, _)| *found == key).map(|(_, value)| value.clone());
        if reached {
            read(desk, "a scan", &key, &held);
        }
    }
    if let Some((stranger, _)) = told.iter().find(|(key, _)| !map(desk).contains_key(key)) {
        let story = format!("a scan told {stranger:?}, which nobody wrote");
        desk.stage.tell(Anomaly::InvariantBroken, story);
    }
    Ok(())
}
