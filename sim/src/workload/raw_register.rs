//! Single keys of the raw API, with compare-and-swap.

use anatase_client::{Bytes, Result};

use super::{Desk, Work};
use crate::history::RegisterCall;

pub(super) async fn round(desk: &Desk) -> Result<()> {
    let raw = desk.raw()?.with_atomic_for_cas();
    let key = desk.key(Work::RawRegister, desk.pick(desk.stage.keys.min(3)));
    let new = Bytes::from(desk.unique().to_string());
    // Of a write that is sent again, both copies may be executed, with another's between them; and a copy
    // that was given up may arrive late (raw.md §5). A swap is never sent again in doubt.
    let again = !desk.stage.calm;
    let call = match desk.pick(7) {
        0 | 1 => RegisterCall::Get,
        2 => RegisterCall::Put(new),
        3 => RegisterCall::Delete,
        swap => {
            let held = raw.get(key.clone()).await?;
            match (swap, held) {
                (4, Some(held)) => RegisterCall::CompareAndSwap { expected: Some(held), new: None },
                (_, held) => RegisterCall::CompareAndSwap { expected: held, new: Some(new) },
            }
        }
    };
    let repeats = match &call {
        RegisterCall::Put(_) | RegisterCall::Delete => again,
        RegisterCall::Get | RegisterCall::CompareAndSwap { .. } => false,
    };
    desk.recorder.raw(&raw, key, call, repeats).await.map(drop)
}
