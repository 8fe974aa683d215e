//! What goes on when the outcome has been told: the other keys are committed, or everything is undone
//! (`transactions.md` §7.4, §9, §10). It survives whoever asked for the commit, has a deadline of its
//! own, and is waited for by whoever closes the client.

use std::sync::Arc;

use crate::backoff::{Backoff, budget};
use crate::error::Error;
use crate::fanout::{Fanout, Progress};
use crate::lock_plan::PessimisticRollbackPlan;
use crate::op::commit::outcome::{self, Decided, Evidence, Verdict};
use crate::op::commit::plan::Plan;
use crate::op::commit::primary::CommitJob;
use crate::op::commit::{Commit, Phase};
use crate::op::pessimistic_rollback::{Release, Released};
use crate::op::rollback::{Undo, Undone};
use crate::op::{Op, Step};
use crate::operation::{CommitOutcome, CommittedBy, Fallbacks, Key, LockState, Reply};
use crate::shared::{Cx, Tag, Wake};
use crate::timestamp::Timestamp;

/// What a commit that was given up may have left behind, besides the pessimistic locks that it began
/// with (§7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing: no prewrite was sent, or only one in one phase, which leaves no lock.
    Nothing,
    /// Locks.
    Locks,
}

impl Commit {
    // ---- committed -----------------------------------------------------------------------------

    /// Nothing is left to do.
    pub(super) fn committed(
        plan: Arc<Plan>,
        decided: Decided,
        fallbacks: Fallbacks,
        cx: &mut Cx<'_>,
    ) -> Step {
        cx.shared.stop_keep_alive(plan.start_ts);
        Step::Done(committed(decided.at(), decided.by(), fallbacks))
    }

    /// All checks held at every moment of the transaction, so at this one, too.
    pub(super) fn nothing_locked(
        plan: &Plan,
        at: Timestamp,
        fallbacks: Fallbacks,
        cx: &mut Cx<'_>,
    ) -> Step {
        cx.shared.stop_keep_alive(plan.start_ts);
        Step::Done(committed(at, CommittedBy::TwoPhase, fallbacks))
    }

    /// The primary is committed: on to the others.
    pub(super) fn settle(
        plan: Arc<Plan>,
        decided: Decided,
        fallbacks: Fallbacks,
        mut fanout: Fanout<CommitJob>,
        cx: &mut Cx<'_>,
    ) -> Step {
        cx.shared.stop_keep_alive(plan.start_ts);
        let mut at = decided.at();
        if planted!(plan, OtherTimestampTold) && decided.by() == CommittedBy::Async {
            at = plan.start_ts.next();
        }
        let outcome = committed(at, decided.by(), fallbacks);
        if planted!(plan, SecondariesNotSettled) {
            fanout.abandon(cx);
        }
        fanout.advance(cx);
        if fanout.is_done() {
            return Step::Done(outcome);
        }
        let op = Op::Commit(Box::new(Self { plan, phase: Phase::Settling(fanout) }));
        Step::Detach(outcome, op, budget::SECONDARIES)
    }

    /// Committed by its locks: all of them become records now, the primary's with the others.
    pub(super) fn settle_async(
        plan: Arc<Plan>,
        decided: Decided,
        fallbacks: Fallbacks,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        let job = CommitJob { plan: plan.clone(), at: decided.at(), async_commit: true };
        let backoff = Backoff::new(budget::SECONDARIES);
        let fanout = Fanout::new(job, backoff, cx.shared.config.max_batches, first_tag);
        Self::settle(plan, decided, fallbacks, fanout, cx)
    }

    /// A key that fails is committed by whoever meets its lock.
    pub(super) fn settling(
        plan: Arc<Plan>,
        mut fanout: Fanout<CommitJob>,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        match fanout.wake(tag, wake, cx) {
            Progress::Nothing | Progress::Answer { .. } | Progress::Failed { .. } => {}
        }
        fanout.advance(cx);
        if fanout.is_done() { Step::Finished } else { Self::next(plan, Phase::Settling(fanout)) }
    }

    // ---- not committed -------------------------------------------------------------------------

    /// It ends undecided, with this evidence.
    pub(super) fn end(
        plan: Arc<Plan>,
        evidence: Evidence,
        error: Error,
        left: Left,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        match outcome::verdict(evidence) {
            Verdict::Aborted => Self::abort(plan, error, left, first_tag, cx),
            Verdict::Undetermined => Self::in_doubt(&plan, error, cx),
        }
    }

    /// Nothing is touched any more. The heartbeat ends, too: nobody goes on with the transaction.
    pub(super) fn in_doubt(plan: &Plan, error: Error, cx: &mut Cx<'_>) -> Step {
        cx.shared.stop_keep_alive(plan.start_ts);
        if planted!(plan, DoubtToldAsAborted) {
            return Step::Done(Ok(Reply::Commit(CommitOutcome::Aborted(error.certain()))));
        }
        if planted!(plan, DoubtToldAsCommitted) {
            let at = plan.start_ts.next();
            return Step::Done(committed(at, CommittedBy::TwoPhase, Fallbacks::default()));
        }
        #[cfg(anatase_planted)]
        if planted!(plan, DoubtCleanedUp) {
            return Self::tear(plan, error, cx);
        }
        outcome::undetermined(error)
    }

    /// Undoes what may be committed, its primary last.
    #[cfg(anatase_planted)]
    fn tear(plan: &Plan, error: Error, cx: &mut Cx<'_>) -> Step {
        // Nothing else is awaited any more.
        const TORN: Tag = 1 << 20;
        let mut keys = plan.locked.clone();
        keys.sort_by_key(|key| *key == plan.primary);
        let undo = Undo::start(plan.start_ts, keys.remove(0), keys, None, TORN, cx);
        let op = Self { plan: Arc::new(plan.clone()), phase: Phase::RollingBack(undo) };
        match outcome::undetermined(error) {
            Step::Done(outcome) => Step::Detach(outcome, Op::Commit(Box::new(op)), budget::CLEANUP),
            step => step,
        }
    }

    /// Reports the abort, and undoes in the background what may have been locked. Batches that are
    /// still on their way find the rollback records when they arrive.
    pub(super) fn abort(
        plan: Arc<Plan>,
        error: Error,
        left: Left,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        cx.shared.stop_keep_alive(plan.start_ts);
        // A prewrite that is still out, or was lost, commits nothing.
        let outcome = Ok(Reply::Commit(CommitOutcome::Aborted(error.certain())));
        let phase = match left {
            Left::Nothing => match Self::release(&plan, first_tag, cx) {
                Some(release) => Phase::Releasing(release),
                None => return Step::Done(outcome),
            },
            Left::Locks if plan.locked.is_empty() => return Step::Done(outcome),
            Left::Locks => {
                let others = plan.locked.iter().filter(|key| **key != plan.primary).cloned();
                let (primary, others) = (plan.primary.clone(), others.collect());
                let context = plan.options.rollback_context();
                let undo = Undo::start(plan.start_ts, primary, others, context, first_tag, cx);
                Phase::RollingBack(undo)
            }
        };
        Step::Detach(outcome, Op::Commit(Box::new(Self { plan, phase })), budget::CLEANUP)
    }

    /// The pessimistic locks, if there are any.
    fn release(plan: &Plan, first_tag: Tag, cx: &mut Cx<'_>) -> Option<Release> {
        let mut for_update_ts = plan.for_update_ts?;
        let mut keys: Vec<Key> = Vec::new();
        for mutation in plan.mutations.iter().filter(|mutation| mutation.locked.is_held()) {
            // §10: a lock that was taken in spite of a conflict is as late as the conflict.
            if let LockState::HeldAt(at) = mutation.locked {
                for_update_ts = for_update_ts.max(at);
            }
            keys.push(mutation.key.clone());
        }
        if keys.is_empty() {
            return None;
        }
        let release = PessimisticRollbackPlan {
            start_ts: plan.start_ts,
            for_update_ts,
            keys,
            stop_heartbeat: true,
            options: plan.options.clone(),
        };
        Some(Release::start(release, first_tag, cx))
    }

    pub(super) fn rolling_back(
        plan: Arc<Plan>,
        mut undo: Undo,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        match undo.wake(tag, wake, cx) {
            Undone::Going => Self::next(plan, Phase::RollingBack(undo)),
            // Reported long ago; what is left is found by whoever meets it.
            Undone::Done | Undone::Failed(_) => Step::Finished,
        }
    }

    pub(super) fn releasing(
        plan: Arc<Plan>,
        release: Release,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        match release.wake(tag, wake, cx) {
            Released::Going(release) => Self::next(plan, Phase::Releasing(release)),
            Released::Over(_) => Step::Finished,
        }
    }
}

fn committed(at: Timestamp, by: CommittedBy, fallbacks: Fallbacks) -> Result<Reply, Error> {
    Ok(Reply::Commit(CommitOutcome::Committed { at, by, fallbacks }))
}
