//! Commits that begin in the middle: for fuzzers, which want every state under any wake.

use std::sync::Arc;

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::op::Step;
use crate::op::commit::outcome::Decided;
use crate::op::commit::plan::Plan;
use crate::op::commit::prewrite::{AllPrewritten, LastLock};
use crate::op::commit::{Commit, FIRST, Left};
use crate::operation::{CommitPlan, Fallbacks};
use crate::shared::Cx;
use crate::timestamp::Timestamp;

/// Where a commit begins, and what is taken for granted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// At its beginning.
    Start,
    /// It is to commit after a timestamp.
    Prewriting,
    /// Every key is locked.
    Stamping,
    /// The same, and there is a timestamp.
    CommittingPrimary,
    /// Every key has a lock that says when the transaction is committed.
    SettlingAsync,
    /// Every key is locked, or the whole is committed: nobody knows.
    Inquiring,
    /// It is given up, and there may be locks.
    RollingBack,
    /// It is given up, and there are the pessimistic locks that it began with.
    Releasing,
}

impl Commit {
    /// A commit that has come so far. `at` is later than its start.
    pub(crate) fn begin_at(
        plan: CommitPlan,
        beginning: Beginning,
        at: Timestamp,
        cx: &mut Cx<'_>,
    ) -> Step {
        if beginning == Beginning::Start {
            return Self::start(plan, cx);
        }
        let plan = match Plan::new(plan, cx.shared.config.txn_batch_size, cx.shared.now) {
            Ok(plan) => Arc::new(plan),
            Err(error) => return Step::Done(Err(error)),
        };
        let proof = AllPrewritten::assumed();
        let given_up = Fallbacks::default();
        let backoff = Backoff::new(budget::COMMIT);
        let error = Error::new(ErrorKind::TxnRetryable, "given up");
        match beginning {
            Beginning::Start | Beginning::Prewriting => {
                Self::start_prewrite(plan, Some(at), FIRST, cx)
            }
            Beginning::Stamping => Self::stamp(plan, proof, given_up, backoff, FIRST, cx),
            Beginning::CommittingPrimary => {
                Self::commit_primary(plan, proof, given_up, at, backoff, FIRST, cx)
            }
            Beginning::SettlingAsync => {
                let decided = Decided::by_locks(LastLock::assumed(at));
                Self::settle_async(plan, decided, given_up, FIRST, cx)
            }
            Beginning::Inquiring => Self::inquire(plan, proof, given_up, FIRST, cx),
            Beginning::RollingBack => Self::abort(plan, error, Left::Locks, FIRST, cx),
            Beginning::Releasing => Self::abort(plan, error, Left::Nothing, FIRST, cx),
        }
    }
}
