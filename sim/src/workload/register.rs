//! Single keys, each operation a transaction of its own: every key is one register, at every instant.

use anatase_client::{Bytes, CommitOutcome, Error, Result};

use super::{Desk, Work};
use crate::history::{Held, RegisterAnswer, RegisterCall};
use crate::scenario::Way;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let key = desk.key(Work::Register, desk.pick(desk.stage.keys.min(3)));
    // A causal commit may take effect before what its owner has heard of.
    let way = match desk.way() {
        Way::Causal => Way::Async,
        way => way,
    };
    let new = Bytes::from(desk.unique().to_string());
    let call = match desk.pick(6) {
        0 | 1 => RegisterCall::Get,
        2 | 3 => RegisterCall::Put(new),
        4 => RegisterCall::Delete,
        _ => {
            // What to expect is asked first, so that it is often right.
            let expected = get(desk, &key, way).await?;
            RegisterCall::CompareAndSwap { expected, new: Some(new) }
        }
    };
    if call == RegisterCall::Get {
        return get(desk, &key, way).await.map(drop);
    }
    let perform = change(desk, &key, way, call.clone());
    desk.recorder.register(key.clone(), call, false, perform).await.map(drop)
}

async fn get(desk: &Desk, key: &Bytes, way: Way) -> Result<Held> {
    let perform = async {
        let txn = desk.begin(way).await?;
        Ok(RegisterAnswer::Value(txn.get(key).await?))
    };
    match desk.recorder.register(key.clone(), RegisterCall::Get, false, perform).await? {
        RegisterAnswer::Value(held) => Ok(held),
        other => Err(Error::application(format!("not an answer to a get: {other:?}"))),
    }
}

async fn change(desk: &Desk, key: &Bytes, way: Way, call: RegisterCall) -> Result<RegisterAnswer> {
    let txn = desk.begin(way).await?;
    let mut swapped = None;
    let (expected, write) = match call {
        RegisterCall::Get => return Ok(RegisterAnswer::Pending),
        RegisterCall::Put(new) => (None, Some(new)),
        RegisterCall::Delete => (None, None),
        RegisterCall::CompareAndSwap { expected, new } => (Some(expected), new),
    };
    if let Some(expected) = expected {
        let keys = std::slice::from_ref(key);
        let held = desk.read_to_write(&txn, way, keys).await?.pop().flatten();
        let swaps = held == expected;
        swapped = Some((swaps, held));
        if !swaps {
            // Read under a lock, it is so until the lock is let go of; read from a snapshot, it was so
            // when the transaction began.
            txn.rollback().await?;
            return Ok(answer(swapped));
        }
    }
    txn.write(key, write).await?;
    match txn.commit().await {
        CommitOutcome::Committed { .. } => Ok(answer(swapped)),
        CommitOutcome::Aborted(error) | CommitOutcome::Undetermined(error) => Err(error),
    }
}

fn answer(swapped: Option<(bool, Held)>) -> RegisterAnswer {
    match swapped {
        Some((swapped, held)) => RegisterAnswer::Swapped { swapped, previous: Some(held) },
        None => RegisterAnswer::Done,
    }
}
