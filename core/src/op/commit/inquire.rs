//! Asking the primary what became of a lost copy of the whole.
//!
//! A commit in one phase may be executed and its answer lost; and before it is sent again, its region may
//! have split. Then its parts are prewritten, as for two phases, and a store answers the same whether it
//! has locked a part just now or finds it committed. A commit would be answered well, too, whatever
//! timestamp it names. So the primary is asked, which knows.

use std::sync::Arc;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::id::Handle;
use crate::op::Step;
use crate::op::commit::outcome::{Decided, Evidence, Phase as Deciding, Said};
use crate::op::commit::plan::Plan;
use crate::op::commit::prewrite::{AllPrewritten, OnePhase};
use crate::op::commit::{Commit, Left, Phase};
use crate::operation::Fallbacks;
use crate::region::loader::Seek;
use crate::region_call::Target;
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::wire::reply::{self, TxnStatus};

#[derive(Clone, Debug, Hash)]
pub(super) struct Inquiring {
    proof: AllPrewritten,
    given_up: Fallbacks,
    pub(super) call: Handle,
    tag: Tag,
}

impl Inquiring {
    pub(super) fn awaits(&self, tag: Tag) -> bool {
        tag == self.tag
    }

    pub(super) fn end_tag(&self) -> Tag {
        self.tag + 1
    }
}

/// What is known as long as the primary has not answered: every part is locked, or the whole committed.
pub(super) const UNTOLD: Evidence =
    Evidence { phase: Deciding::DecisivePrewrite, said: Said::Nothing, lost: true, rest: true };

impl Commit {
    pub(super) fn inquire(
        plan: Arc<Plan>,
        proof: AllPrewritten,
        given_up: Fallbacks,
        tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        // As of no time and for nobody: nothing is pushed, and nothing expires.
        let message = kvrpcpb::CheckTxnStatusRequest {
            primary_key: plan.primary.clone(),
            lock_ts: plan.start_ts.version(),
            verify_is_primary: true,
            ..Default::default()
        };
        let body = cx.encode(&message);
        let spec = CallSpec::write(Rpc::KvCheckTxnStatus, body, &cx.shared.config);
        let target = Target::Key { key: plan.primary.clone(), seek: Seek::Containing };
        let call = cx.call(tag, target, spec, Backoff::new(budget::COMMIT));
        Self::next(plan, Phase::Inquiring(Inquiring { proof, given_up, call, tag }))
    }

    pub(super) fn inquiring(
        plan: Arc<Plan>,
        state: Inquiring,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        let Wake::Call(end) = wake else {
            return Self::next(plan, Phase::Inquiring(state));
        };
        if tag != state.tag {
            return Self::next(plan, Phase::Inquiring(state));
        }
        let next_tag = state.end_tag();
        let status = match end {
            CallEnd::Answered { response, .. } => reply::check_txn_status(response),
            CallEnd::Failed { error, .. } => Err(error),
            // Only calls that are pinned to a region end so.
            CallEnd::Regroup { .. } => Err(reply::impossible("a key without a region")),
        };
        match status {
            Ok(TxnStatus::Committed(at)) if at > plan.start_ts => {
                let decided = Decided::at_once(OnePhase::by_record(at));
                // One phase it was after all.
                let given_up = Fallbacks { from_one_phase: false, ..state.given_up };
                Self::committed(plan, decided, given_up, cx)
            }
            Ok(TxnStatus::Alive { .. }) => {
                let backoff = Backoff::new(budget::COMMIT);
                Self::stamp(plan, state.proof, state.given_up, backoff, next_tag, cx)
            }
            Ok(TxnStatus::RolledBack | TxnStatus::NotFound) => {
                let error = Error::new(ErrorKind::TxnRolledBack, "the primary's lock is gone");
                Self::abort(plan, error, Left::Locks, next_tag, cx)
            }
            Ok(TxnStatus::Committed(_))
            | Ok(TxnStatus::PrimaryMismatch(_) | TxnStatus::PessimisticGone { .. }) => {
                Self::in_doubt(&plan, reply::impossible("the primary is none"), cx)
            }
            Err(error) => Self::end(plan, UNTOLD, error, Left::Locks, next_tag, cx),
        }
    }
}
