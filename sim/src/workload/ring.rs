//! Each key names the next one, all together a ring. A turn takes three links in a row, a → b → c → d, and
//! makes a → c → b → d of them: the ring stays one ring, if the turn is whole and nobody came in between.

use anatase_client::{Bytes, Result};

use super::{Desk, Work, broken, decode, encode, number, replay};
use crate::check::truth::Truth;
use crate::check::{Anomaly, Violation};

pub(super) async fn round(desk: &Desk) -> Result<()> {
    match desk.pick(5) {
        0 => walk(desk).await,
        _ => turn(desk).await,
    }
}

fn first(n: i64, size: i64) -> i64 {
    (n + 1) % size
}

async fn turn(desk: &Desk) -> Result<()> {
    let way = desk.way();
    let size = i64::from(size(desk.stage.keys));
    let txn = desk.begin(way).await?;
    let mut at = i64::from(desk.pick(size as u32));
    let mut links = vec![at];
    for _ in 0..3 {
        let key = desk.key(Work::Ring, at as u32);
        let held = desk.read_one(&txn, way, &key).await?;
        at = number(desk, &held, first(at, size));
        if !(0..size).contains(&at) {
            desk.stage.tell(Anomaly::InvariantBroken, format!("a link to {at} among {size}"));
            return Ok(());
        }
        links.push(at);
    }
    let [a, b, c, d] = links[..] else { return Ok(()) };
    for (from, to) in [(a, c), (c, b), (b, d)] {
        txn.write(&desk.key(Work::Ring, from as u32), encode(to)).await?;
    }
    txn.commit().await.into_result().map(drop)
}

/// Follows the ring in one snapshot.
async fn walk(desk: &Desk) -> Result<()> {
    let size = size(desk.stage.keys);
    let keys: Vec<Bytes> = (0..size).map(|n| desk.key(Work::Ring, n)).collect();
    let now = desk.recorder.timestamp(desk.store()?).await?;
    let snapshot = desk.recorder.snapshot(desk.store()?.snapshot(now));
    let held = snapshot.batch_get(&keys).await?;
    let next = |n: i64| {
        let held = held.get(n as usize);
        held.and_then(|held| decode(held, first(n, size.into()))).unwrap_or(-1)
    };
    if !is_ring(size.into(), next) {
        let story = format!("no ring @{}: {held:?}", now.version());
        desk.stage.tell(Anomaly::InvariantBroken, story);
    }
    Ok(())
}

/// A turn needs four different links.
fn size(keys: u32) -> u32 {
    keys.max(4)
}

fn is_ring(size: i64, next: impl Fn(i64) -> i64) -> bool {
    let mut at = 0;
    for step in 1..=size {
        at = next(at);
        if !(0..size).contains(&at) {
            return false;
        }
        if at == 0 {
            return step == size;
        }
    }
    false
}

pub(super) fn judge(keys: u32, truth: &Truth, found: &mut Vec<Violation>) {
    let size = size(keys);
    replay(Work::Ring.prefix(), truth, |at, links| {
        let next = |n: i64| {
            let held = links.get(Work::Ring.key(n as u32).as_bytes()).cloned();
            decode(&held, first(n, size.into())).unwrap_or(-1)
        };
        if !is_ring(size.into(), next) && found.len() < 8 {
            found.push(broken(format!("no ring from @{at} on: {links:?}")));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_comes_back_after_all_its_links_and_not_before() {
        assert!(is_ring(4, |n| (n + 1) % 4));
        assert!(is_ring(4, |n| [2, 3, 1, 0][n as usize]), "turned");
        assert!(!is_ring(4, |n| [1, 0, 3, 2][n as usize]), "two rings");
        assert!(!is_ring(4, |n| [1, 2, 1, 0][n as usize]), "a knot");
        assert!(!is_ring(4, |_| 7), "nowhere");
    }
}
