//! What became of a transaction, by its primary (`transactions.md` §23.3, `GetTxnStatus`).
//!
//! Stamping ─▶ Asking ─▶ done. Asking may decide: a primary whose time is over is rolled back, and one
//! that is not there is kept from ever being. An async commit is told as alive, however old it is:
//! only its other keys know, and they are not asked here.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;
use std::time::Duration;

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::id::Handle;
use crate::locks::{TxnState, TxnStatusPlan};
use crate::op::{Op, Step, Stop};
use crate::operation::Reply;
use crate::region::loader::Seek;
use crate::region_call::{Abandoned, Target};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply;

const STAMP: Tag = 0;
const CALL: Tag = 1;

#[derive(Clone, Debug, Hash)]
pub(crate) struct TxnStatus {
    plan: TxnStatusPlan,
    call: Option<Handle>,
}

impl TxnStatus {
    pub(crate) fn start(plan: TxnStatusPlan, cx: &mut Cx<'_>) -> Step {
        cx.timestamp(STAMP);
        Self { plan, call: None }.wait()
    }

    fn wait(self) -> Step {
        Step::Next(Op::TxnStatus(Box::new(self)))
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match (tag, wake) {
            (STAMP, Wake::Timestamp(Ok(now))) => self.ask(now, cx),
            (STAMP, Wake::Timestamp(Err(error))) => Step::Done(Err(error)),
            (CALL, Wake::Call(CallEnd::Answered { response, .. })) => {
                self.call = None;
                let state = reply::check_txn_status(response).and_then(state);
                Step::Done(state.map(Reply::TxnState))
            }
            (CALL, Wake::Call(CallEnd::Failed { error, .. })) => Step::Done(Err(error.certain())),
            _ => self.wait(),
        }
    }

    fn ask(mut self, now: Timestamp, cx: &mut Cx<'_>) -> Step {
        let message = kvrpcpb::CheckTxnStatusRequest {
            primary_key: self.plan.primary.clone(),
            lock_ts: self.plan.start_ts.version(),
            caller_start_ts: self.plan.caller.map_or(0, Timestamp::version),
            current_ts: now.version(),
            rollback_if_not_exist: true,
            verify_is_primary: true,
            ..Default::default()
        };
        let body = cx.encode(&message);
        let spec = CallSpec::write(Rpc::KvCheckTxnStatus, body, &cx.shared.config);
        let target = Target::Key { key: self.plan.primary.clone(), seek: Seek::Containing };
        self.call = Some(cx.call(CALL, target, spec, Backoff::new(budget::TXN_STATUS)));
        self.wait()
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = match self.call {
            Some(call) => cx.abandon(call),
            None => {
                let owner = cx.owner;
                cx.shared.tso_forget(owner);
                None
            }
        };
        let left = left.map(|left| Abandoned { doubt: false, ..left });
        Step::Done(Err(why.error(left, cx.shared)))
    }
}

fn state(status: reply::TxnStatus) -> Result<TxnState, Error> {
    match status {
        reply::TxnStatus::Alive { ttl_ms, pushed, .. } => {
            Ok(TxnState::Alive { ttl: Duration::from_millis(ttl_ms), pushed })
        }
        reply::TxnStatus::Committed(at) => Ok(TxnState::Committed { at }),
        reply::TxnStatus::RolledBack => Ok(TxnState::RolledBack),
        reply::TxnStatus::PrimaryMismatch(_) => {
            Err(Error::new(ErrorKind::Refused, "the key is not the primary of the transaction"))
        }
        reply::TxnStatus::NotFound | reply::TxnStatus::PessimisticGone { .. } => {
            Err(reply::impossible("a transaction that was neither found nor rolled back"))
        }
    }
}
