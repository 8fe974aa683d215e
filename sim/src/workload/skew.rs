//! Two switches, of which one has to be on. Whoever sees both on turns one off; whoever sees one off turns
//! it on. Under snapshot isolation two who see both on may turn both off: write skew. With locks on what
//! was only read they may not.

use anatase_client::{Bytes, Result};

use super::{Desk, Work, broken, replay};
use crate::check::Violation;
use crate::check::truth::Truth;

pub(super) async fn round(desk: &Desk, locks: bool) -> Result<()> {
    let work = if locks { Work::LockedSkew } else { Work::WriteSkew };
    let way = desk.way();
    let pair = [desk.key(work, 0), desk.key(work, 1)];
    let txn = desk.begin(way).await?;
    let held = match locks && way.is_pessimistic() {
        true => desk.read_to_write(&txn, way, &pair).await?,
        false => txn.batch_get(&pair).await?,
    };
    let on: Vec<bool> = held.iter().map(Option::is_none).collect();
    let (write, value) = match on[..] {
        [false, _] => (0, None),
        [_, false] => (1, None),
        _ => (desk.pick(2) as usize, Some(Bytes::from_static(b"off"))),
    };
    if locks && !way.is_pessimistic() {
        txn.lock(std::slice::from_ref(&pair[1 - write])).await?;
    }
    if !locks && way.is_pessimistic() {
        // It locks what it writes, and has read before.
        txn.lock(std::slice::from_ref(&pair[write])).await?;
    }
    txn.write(&pair[write], value).await?;
    txn.commit().await.into_result().map(drop)
}

/// How often both were off.
pub(super) fn both_off(work: Work, truth: &Truth) -> u64 {
    let mut times = 0;
    replay(work.prefix(), truth, |_, switches| times += u64::from(switches.len() > 1));
    times
}

pub(super) fn judge(truth: &Truth, found: &mut Vec<Violation>) {
    replay(Work::LockedSkew.prefix(), truth, |at, switches| {
        if switches.len() > 1 && found.len() < 8 {
            found.push(broken(format!("both switches are off from @{at} on")));
        }
    });
}
