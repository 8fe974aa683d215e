//! A timestamp from PD, later than the one that the commit has to wait for (`transactions.md` §7.6).
//!
//! ```text
//! Asking ─▶ later than the target: got
//!   ▲ │
//!   │ └──▶ too far behind, or no time left: failed (CommitTsLag)
//!   └─ Pausing
//! ```

use crate::backoff::{Backoff, BackoffKind};
use crate::command::WakeReason;
use crate::error::{Error, ErrorKind};
use crate::op::commit::STAMP;
use crate::shared::{Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::txn::TxnOptions;

#[derive(Clone, Debug, Hash)]
pub(super) struct Stamp {
    /// What was waited for PD so far.
    lag: Option<Backoff>,
    /// The number of the next wait.
    pub(super) next_tag: Tag,
}

pub(super) enum Stamped {
    Going(Stamp),
    Over(Result<Timestamp, Error>, Tag),
}

impl Stamp {
    /// Asks, with waits numbered from `next_tag` on.
    pub(super) fn ask(next_tag: Tag, cx: &mut Cx<'_>) -> Self {
        cx.timestamp(STAMP);
        Self { lag: None, next_tag }
    }

    /// A timestamp, or its own pause, and not a late one of an earlier phase.
    pub(super) fn awaits(&self, tag: Tag) -> bool {
        tag == STAMP || (self.lag.is_some() && tag + 1 == self.next_tag)
    }

    pub(super) fn wake(
        mut self,
        options: &TxnOptions,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Stamped {
        match wake {
            Wake::Timestamp(Ok(at)) => match options.commit_wait_until {
                Some(target) if at <= target => match self.behind(at, target, options, cx) {
                    Ok(()) => Stamped::Going(self),
                    Err(error) => Stamped::Over(Err(error), self.next_tag),
                },
                Some(_) | None => Stamped::Over(Ok(at), self.next_tag),
            },
            Wake::Timestamp(Err(error)) => Stamped::Over(Err(error), self.next_tag),
            Wake::Pause if self.awaits(tag) => {
                cx.timestamp(STAMP);
                Stamped::Going(self)
            }
            Wake::Pause
            | Wake::Call(_)
            | Wake::Located(_)
            | Wake::Resolved(_)
            | Wake::PdReady(_)
            | Wake::SafePoint(_)
            | Wake::Keyspace(_)
            | Wake::Pd(_) => Stamped::Going(self),
        }
    }

    fn behind(
        &mut self,
        at: Timestamp,
        target: Timestamp,
        options: &TxnOptions,
        cx: &mut Cx<'_>,
    ) -> Result<(), Error> {
        let timeout = options.commit_wait_timeout;
        let text = format!("PD is at {at}, and the commit has to be after {target}");
        let lag = Error::new(ErrorKind::CommitTsLag, text);
        if timeout.is_zero() || target.since(at) > timeout {
            return Err(lag);
        }
        let backoff = self.lag.get_or_insert_with(|| Backoff::new(timeout));
        let draws = &mut *cx.draws;
        let wait = backoff.next(BackoffKind::CommitTsLag, None, lag, |n| draws.below(n))?;
        let tag = self.next_tag;
        self.next_tag += 1;
        cx.pause(tag, wait, WakeReason::Backoff);
        Ok(())
    }
}
