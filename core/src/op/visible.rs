//! The end of every read of a snapshot: was it in time? (`transactions.md` §17.7)

use crate::command::WakeReason;
use crate::error::{Error, ErrorKind};
use crate::op::{Op, Step, Stop};
use crate::operation::Reply;
use crate::safe_point::{RETRY, Visibility};
use crate::shared::{Cx, Wake};
use crate::timestamp::Timestamp;

/// Something was read, and PD has yet to say whether that is what there was.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Visible {
    found: Reply,
    at: Timestamp,
    /// Why PD has not said so yet.
    trouble: Option<Error>,
}

impl Visible {
    /// Tells what was found, if it was found in time.
    pub(crate) fn check(found: Reply, at: Timestamp, cx: &mut Cx<'_>) -> Step {
        Self { found, at, trouble: None }.look(cx)
    }

    fn look(self, cx: &mut Cx<'_>) -> Step {
        match cx.shared.visibility(self.at) {
            Visibility::Visible => Step::Done(Ok(self.found)),
            Visibility::Gone(error) => Step::Done(Err(error)),
            Visibility::Unknown => {
                cx.shared.await_safe_point(cx.owner, 0);
                Step::Next(Op::Visible(Box::new(self)))
            }
        }
    }

    /// Where PD refuses to tell, nothing is known of what was read. Where it cannot be reached, it is
    /// asked for as long as the operation may take, with a pause: a question may fail at once.
    pub(crate) fn wake(mut self, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match wake {
            Wake::SafePoint(Ok(())) => self.look(cx),
            Wake::SafePoint(Err(error)) if *error.kind() == ErrorKind::PdUnavailable => {
                self.trouble = Some(error);
                cx.pause(0, RETRY, WakeReason::Backoff);
                Step::Next(Op::Visible(Box::new(self)))
            }
            Wake::Pause => self.look(cx),
            Wake::SafePoint(Err(error)) => Step::Done(Err(error)),
            _ => Step::Next(Op::Visible(Box::new(self))),
        }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let owner = cx.owner;
        cx.shared.forget_safe_point_waiter(owner);
        Step::Done(Err(why.error(None, cx.shared).because(self.trouble)))
    }
}
