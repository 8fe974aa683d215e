//! Timestamps of every kind but fresh ones, and reads that wait for one (`control-plane.md` §12).
//!
//! ```text
//! low resolution, stale   known here ─▶ done
//!                         else Stamping ─▶ done
//! min                     Asking ─▶ done, or Stamping where PD has no such call (wire.md §7.1)
//! external                Asking ─▶ done
//! read                    known to be past ─▶ the read
//!                         else Checking ─▶ the read, or refused
//! ```

use std::time::Duration;

use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;

use crate::error::{Error, ErrorKind};
use crate::op::{Op, Step, Stop};
use crate::operation::{Operation, ReadOperation, Reply};
use crate::oracle::{LowResolution, ReadTs};
use crate::shared::{Cx, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply;

/// Waiting for a timestamp, or for PD's word.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Clock {
    /// For a timestamp that is as good as the one wanted.
    Stamping,
    /// For the first timestamp of all, so that time can be told.
    StampingForStale {
        previous: Duration,
    },
    AskingMin,
    AskingExternal,
    SettingExternal,
}

impl Clock {
    pub(crate) fn start(operation: Operation, cx: &mut Cx<'_>) -> Step {
        let clock = match operation {
            Operation::LowResolutionTimestamp => {
                let now = cx.shared.now;
                match cx.shared.oracle.low_resolution(now) {
                    LowResolution::Known { ts, refresh } => {
                        if refresh {
                            cx.shared.tso_ask_for_oracle();
                        }
                        return Step::Done(Ok(Reply::Timestamp(ts)));
                    }
                    LowResolution::Ask => cx.shared.tso_ask_for_any(cx.owner, 0),
                }
                Self::Stamping
            }
            Operation::StaleTimestamp { previous } => match stale(previous, cx) {
                Some(step) => return step,
                None => {
                    cx.shared.tso_ask_for_any(cx.owner, 0);
                    Self::StampingForStale { previous }
                }
            },
            Operation::MinTimestamp => {
                cx.ask_pd(0, Rpc::PdGetMinTs, &pdpb::GetMinTsRequest::default());
                Self::AskingMin
            }
            Operation::ExternalTimestamp => {
                let message = pdpb::GetExternalTimestampRequest::default();
                cx.ask_pd(0, Rpc::PdGetExternalTimestamp, &message);
                Self::AskingExternal
            }
            Operation::SetExternalTimestamp(to) => {
                let message = pdpb::SetExternalTimestampRequest {
                    timestamp: to.version(),
                    ..Default::default()
                };
                cx.ask_pd(0, Rpc::PdSetExternalTimestamp, &message);
                Self::SettingExternal
            }
            Operation::Ready
            | Operation::Timestamp
            | Operation::Raw { .. }
            | Operation::Regions { .. }
            | Operation::Read { .. }
            | Operation::Commit(_)
            | Operation::Rollback { .. }
            | Operation::Lock(_)
            | Operation::PessimisticRollback(_) => return super::misrouted("another operation"),
        };
        Step::Next(Op::Clock(clock))
    }

    /// The next best thing is a fresh one.
    fn stamp(cx: &mut Cx<'_>) -> Step {
        cx.timestamp(0);
        Step::Next(Op::Clock(Self::Stamping))
    }

    pub(crate) fn wake(self, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match (self, wake) {
            (Self::Stamping, Wake::Timestamp(result)) => Step::Done(result.map(Reply::Timestamp)),
            (Self::StampingForStale { previous }, Wake::Timestamp(Ok(_))) => {
                let unknown = || super::misrouted("a timestamp that nobody remembers");
                stale(previous, cx).unwrap_or_else(unknown)
            }
            (Self::StampingForStale { .. }, Wake::Timestamp(Err(error))) => Step::Done(Err(error)),
            (Self::AskingMin, Wake::Pd(answer)) => match answer.and_then(reply::min_timestamp) {
                Ok(Some(min)) => Step::Done(Ok(Reply::Timestamp(min))),
                Ok(None) => Self::stamp(cx),
                Err(error) if *error.kind() == ErrorKind::Unsupported => Self::stamp(cx),
                Err(error) => Step::Done(Err(error)),
            },
            (Self::AskingExternal, Wake::Pd(answer)) => {
                let answer = answer.and_then(reply::external_timestamp);
                Step::Done(answer.map(Reply::ExternalTimestamp))
            }
            (Self::SettingExternal, Wake::Pd(answer)) => {
                Step::Done(answer.and_then(reply::set_external_timestamp).map(|()| Reply::Done))
            }
            (clock, _) => Step::Next(Op::Clock(clock)),
        }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let owner = cx.owner;
        match self {
            Self::Stamping | Self::StampingForStale { .. } => cx.shared.tso_forget(owner),
            Self::AskingMin | Self::AskingExternal | Self::SettingExternal => {
                cx.shared.pd_abandon(owner);
            }
        }
        Step::Done(Err(why.error(None, cx.shared)))
    }
}

fn stale(previous: Duration, cx: &mut Cx<'_>) -> Option<Step> {
    let now = cx.shared.now;
    let (stale, refresh) = cx.shared.oracle.stale(previous, now)?;
    if refresh {
        cx.shared.tso_ask_for_oracle();
    }
    Some(Step::Done(stale.map(Reply::Timestamp)))
}

/// A read that waits for a timestamp of PD's, to see whether its own has been handed out (§12.4).
///
/// The reference shares one fetch among all who wait, and has to repeat the check once, because the
/// fetch may have begun before the waiter did. Here nobody boards a flight that has left, so one
/// answer decides.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Checking {
    op: ReadOperation,
    at: Timestamp,
}

impl Checking {
    pub(crate) fn start(op: ReadOperation, at: Timestamp, cx: &mut Cx<'_>) -> Step {
        if !cx.shared.config.validate_read_timestamp {
            return super::start_read(op, at, cx);
        }
        match cx.shared.oracle.check_read(at) {
            ReadTs::Fine => super::start_read(op, at, cx),
            ReadTs::Impossible => {
                let text = format!("{at} is no timestamp of PD's");
                Step::Done(Err(Error::new(ErrorKind::InvalidArgument, text)))
            }
            ReadTs::Unknown => {
                cx.timestamp(0);
                Step::Next(Op::Checking(Box::new(Self { op, at })))
            }
        }
    }

    pub(crate) fn wake(self, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match wake {
            Wake::Timestamp(Ok(current)) if self.at > current => {
                let text = format!(
                    "the snapshot's timestamp {} is ahead of PD's, which is at {current}",
                    self.at
                );
                let kind = ErrorKind::FutureTimestamp { read: self.at, current };
                Step::Done(Err(Error::new(kind, text)))
            }
            Wake::Timestamp(Ok(_)) => super::start_read(self.op, self.at, cx),
            Wake::Timestamp(Err(error)) => Step::Done(Err(error)),
            Wake::Call(_)
            | Wake::Located(_)
            | Wake::Resolved(_)
            | Wake::PdReady
            | Wake::Pd(_)
            | Wake::Keyspace(_)
            | Wake::Pause => Step::Next(Op::Checking(Box::new(self))),
        }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let owner = cx.owner;
        cx.shared.tso_forget(owner);
        Step::Done(Err(why.error(None, cx.shared)))
    }
}
