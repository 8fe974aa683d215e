//! Timestamps of every kind but fresh ones, and reads that wait for one (`control-plane.md` §12).
//!
//! ```text
//! low resolution, stale   known here ─▶ done
//!                         else Stamping ─▶ done
//! min                     Asking ─▶ done, or Stamping where PD has no such call (wire.md §7.1)
//! external                Asking ─▶ done
//! interval                set here ─▶ done
//! read                    known to be past ─▶ the read
//!                         else Checking ─▶ the read, or Checking once more ─▶ the read, or refused
//! ```

use std::time::Duration;

use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;

use crate::error::{Error, ErrorKind};
use crate::op::read_view::ReadView;
use crate::op::{Op, Step, Stop};
use crate::operation::{Operation, ReadOperation, Reply};
use crate::oracle::{AfterFetch, Fetched, LowResolution, ReadTs};
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
                    LowResolution::Ask => {
                        cx.shared.tso_ask_for_any(cx.owner, 0);
                    }
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
            Operation::SetLowResolutionInterval(to) => {
                let now = cx.shared.now;
                cx.shared.oracle.configure(to, now);
                return Step::Done(Ok(Reply::Done));
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
            | Operation::GroupKeys { .. }
            | Operation::Region(_)
            | Operation::BucketsSeen { .. }
            | Operation::Read { .. }
            | Operation::Commit(_)
            | Operation::Rollback { .. }
            | Operation::Lock(_)
            | Operation::PessimisticRollback(_)
            | Operation::ScanLocks(_)
            | Operation::ResolveLocks(_)
            | Operation::TxnStatus(_) => return super::misrouted("another operation"),
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
/// All who wait share one question, which may have been on its way before some of them came. So an
/// answer that is not large enough is no proof: then there is one more question, and nobody boards
/// a flight that has left, so that its answer decides.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Checking {
    op: ReadOperation,
    view: ReadView,
    /// A replica that lags behind may answer.
    stale: bool,
    /// The question under way may be older than this read.
    shared: bool,
}

impl Checking {
    pub(crate) fn start(op: ReadOperation, view: ReadView, stale: bool, cx: &mut Cx<'_>) -> Step {
        if !cx.shared.config.validate_read_timestamp {
            return super::start_read(op, view, cx);
        }
        let at = view.at;
        let now = cx.shared.now;
        let (verdict, refresh) = cx.shared.oracle.check_read(at, stale, now);
        if refresh {
            cx.shared.tso_ask_for_oracle();
        }
        match verdict {
            ReadTs::Fine => super::start_read(op, view, cx),
            ReadTs::Unknown => {
                let shared = cx.shared.tso_ask_for_any(cx.owner, 0);
                Step::Next(Op::Checking(Box::new(Self { op, view, stale, shared })))
            }
            ReadTs::Impossible | ReadTs::LatestStale => {
                let error = verdict.refusal(at);
                error.map_or_else(|| super::misrouted("a refusal"), |error| Step::Done(Err(error)))
            }
        }
    }

    pub(crate) fn wake(self, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match wake {
            Wake::Timestamp(Ok(current)) => self.told(current, cx),
            Wake::Timestamp(Err(error)) => Step::Done(Err(error)),
            Wake::Call(_)
            | Wake::Located(_)
            | Wake::Resolved(_)
            | Wake::PdReady(_)
            | Wake::Pd(_)
            | Wake::Keyspace(_)
            | Wake::SafePoint(_)
            | Wake::Pause => Step::Next(Op::Checking(Box::new(self))),
        }
    }

    fn told(self, current: Timestamp, cx: &mut Cx<'_>) -> Step {
        let Self { op, view, stale, shared } = self;
        let at = view.at;
        let (now, read) = (cx.shared.now, Fetched { at, stale, current, shared });
        let (verdict, refresh) = cx.shared.oracle.check_fetched(&read, now);
        if refresh {
            cx.shared.tso_ask_for_oracle();
        }
        match verdict {
            AfterFetch::Fine => super::start_read(op, view, cx),
            AfterFetch::Again => {
                cx.timestamp(0);
                Step::Next(Op::Checking(Box::new(Self { op, view, stale, shared: false })))
            }
            AfterFetch::Future => {
                let text = format!(
                    "the snapshot's timestamp {at} is ahead of PD's, which is at {current}"
                );
                let kind = ErrorKind::FutureTimestamp { read: at, current };
                Step::Done(Err(Error::new(kind, text)))
            }
        }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let owner = cx.owner;
        cx.shared.tso_forget(owner);
        Step::Done(Err(why.error(None, cx.shared)))
    }
}
