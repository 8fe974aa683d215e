//! Commit (`transactions.md` §7–§11): in two phases, asynchronously, or in one phase.
//!
//! ```text
//!                        ┌─────────────────────────── committed in one phase ──▶ over
//!  Linearizing ──▶ Prewriting ── every key locked, async ── committed ──▶ Settling ──▶ over
//!     │              │   │                                                   ▲
//!     │              │   └─ every key locked ─▶ Stamping ─▶ CommittingPrimary ┘ committed
//!     │              │      (or Inquiring first)  │  ▲          │  │
//!     ▼              ▼                            │  └──────────┘  │ too early a timestamp
//!  Releasing     RollingBack ◀────────────────────┴─── refused ────┘
//!
//!  and from Prewriting, Inquiring or CommittingPrimary, where nobody can tell: undetermined ──▶ over
//! ```
//!
//! How a transaction is committed is chosen once, when it is handed in (`plan.rs`): any in two phases;
//! asynchronously or in one phase, or both, where it allows it and is fit for it. Both of these may be
//! given up on the way, and never come back: one phase when it turns out to take more than one request,
//! either when a store cannot give a timestamp within the limits. What is left then is two phases,
//! whatever locks of the other kind are there already (§22.25).
//!
//! | mode | the timestamp | the point of commit | its own requests after it |
//! |---|---|---|---|
//! | two phases | PD's, when every key is locked | the primary's commit | commits of the others |
//! | async | the largest of the locks' | the last prewrite | commits of all |
//! | one phase | the store's | the only prewrite | none |
//!
//! What each state waits for, and what a cancellation or a deadline means there. «Aborted» is always
//! followed by undoing what may be there; «undetermined» never is.
//!
//! | state | waits for | failure, deadline | cancellation | close |
//! |---|---|---|---|---|
//! | Linearizing | a timestamp, for async and one phase (§7.2) | aborted; pessimistic locks are released | the same | goes on |
//! | Prewriting, two phases | every batch to be locked; locks of others are resolved meanwhile | aborted | aborted | goes on |
//! | Prewriting, else | the same; the last one commits | undetermined if each batch is locked or may be, else aborted | if so: goes on without its owner; else aborted | goes on |
//! | Inquiring | the primary's word about a lost copy of the whole; see `inquire.rs` | undetermined | goes on without its owner | goes on |
//! | Stamping | a timestamp that PD hands out after the last lock was taken | aborted | aborted | goes on |
//! | CommittingPrimary | the answer to the primary's commit | undetermined if it was ever sent without an answer, else aborted | if so: goes on without its owner; else aborted | goes on |
//! | Settling | the other batches; the outcome is reported already | left to whoever meets the locks | – | goes on |
//! | RollingBack, Releasing | the undoing; the outcome is reported already | left to whoever meets the locks | – | goes on |
//!
//! And each state × each input; an input that is not named is a late one of an earlier state, and
//! changes nothing.
//!
//! | state | timestamp | call ended | region found, pause over | locks looked into |
//! |---|---|---|---|---|
//! | Linearizing | Prewriting; again, if it is behind the one to wait for; or aborted | – | asks again | – |
//! | Prewriting | – | the next batch, the next state, or the end | sends | sends again, after a pause, or the end |
//! | Inquiring | – | Stamping, or the end | – | – |
//! | Stamping | CommittingPrimary; again, if it is behind; or aborted | – | asks again | – |
//! | CommittingPrimary | – | Settling, Stamping, or the end | sends | – |
//! | Settling, RollingBack, Releasing | – | the next batch, or over | sends | – |
//!
//! A prewrite that fails is followed by the end only if the error is not that of an assertion: that one
//! waits until all others are there, since a lock that was lost explains it (§6).
//!
//! The states carry proofs. A commit timestamp can only be asked for with [`AllPrewritten`], and the
//! outcome «committed» can only be told, and a key outside of the primary's batch only be committed,
//! with a [`Decided`](outcome::Decided). That is made of one of three proofs: the primary's word, the last
//! lock of an async commit, or the word of a store about a commit in one phase. (Where nothing is locked,
//! an [`AllPrewritten`] and a timestamp are enough to tell.)
//!
//! Where this is stricter than the reference: an undetermined prewrite is never cleaned up (§22.3);
//! nothing that could refuse is asked once an async commit is complete (§22.2); async commit is not used
//! where a key is only checked (see `plan.rs`); an async commit of which one batch was certainly never
//! executed is aborted, not undetermined.

#[cfg(any(test, fuzzing))]
pub(crate) mod constructed;
mod inquire;
mod outcome;
mod plan;
mod prewrite;
mod primary;
mod settle;
mod stamp;

use std::sync::Arc;

use crate::backoff::{Backoff, budget};
use crate::command::Cancel;
use crate::coverage::State;
use crate::fanout::Fanout;
use crate::op::pessimistic_rollback::Release;
use crate::op::rollback::Undo;
use crate::op::{Op, Step, Stop};
use crate::operation::{CommitPlan, Fallbacks, Reply};
use crate::shared::{Cx, Tag, Wake};
use crate::timestamp::Timestamp;

use inquire::{Inquiring, UNTOLD};
use outcome::{Said, Verdict, verdict};
use plan::Plan;
use prewrite::{AllPrewritten, Prewriting};
use primary::{CommitJob, CommittingPrimary};
use settle::Left;
use stamp::{Stamp, Stamped};

const STAMP: Tag = 0;
/// Other waits. Each phase numbers its own on from the last one's, so that a late wake-up of one phase
/// is never taken for one of the next.
const FIRST: Tag = 1;
/// A transaction of more bytes than this may take longer to prewrite than its locks live
/// (TTLRefreshedTxnSize, §1.4).
const LARGE: u64 = 32 << 20;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Commit {
    plan: Arc<Plan>,
    phase: Phase,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    Linearizing(Stamp),
    Prewriting(Prewriting),
    Inquiring(Inquiring),
    Stamping(Stamping),
    CommittingPrimary(CommittingPrimary),
    Settling(Fanout<CommitJob>),
    RollingBack(Undo),
    Releasing(Release),
}

#[derive(Clone, Debug, Hash)]
struct Stamping {
    proof: AllPrewritten,
    given_up: Fallbacks,
    stamp: Stamp,
    backoff: Backoff,
}

impl Commit {
    pub(crate) fn start(plan: CommitPlan, cx: &mut Cx<'_>) -> Step {
        let plan = match Plan::new(plan, cx.shared.config.txn_batch_size, cx.shared.now) {
            Ok(plan) => plan,
            Err(error) => return Step::Done(Err(error)),
        };
        #[cfg(anatase_planted)]
        let plan = plan.with(cx.shared.config.planted);
        let plan = Arc::new(plan);
        if planted!(plan, Canary) {
            return Self::nothing_locked(&plan, plan.start_ts.next(), Fallbacks::default(), cx);
        }
        // §7.2, §22.9: a transaction that begins when this one is committed has to see it, so what
        // the stores choose has to be after everything that PD has handed out until now.
        let options = &plan.options;
        let linearizes = (!options.causal_consistency && !planted!(plan, NotLinearized))
            || options.commit_wait_until.is_some();
        if plan.modes.any() && linearizes {
            let stamp = Stamp::ask(FIRST, cx);
            return Self::next(plan, Phase::Linearizing(stamp));
        }
        Self::start_prewrite(plan, None, FIRST, cx)
    }

    fn next(plan: Arc<Plan>, phase: Phase) -> Step {
        Step::Next(Op::Commit(Box::new(Self { plan, phase })))
    }

    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Linearizing(_) => State::CommitLinearizing,
            Phase::Prewriting(_) => State::CommitPrewriting,
            Phase::Inquiring(_) => State::CommitInquiring,
            Phase::Stamping(_) => State::CommitStamping,
            Phase::CommittingPrimary(_) => State::CommitCommittingPrimary,
            Phase::Settling(_) => State::CommitSettling,
            Phase::RollingBack(_) => State::CommitRollingBack,
            Phase::Releasing(_) => State::CommitReleasing,
        }
    }

    pub(crate) fn awaits(&self, tag: Tag) -> bool {
        match &self.phase {
            Phase::Linearizing(stamp) => stamp.awaits(tag),
            Phase::Prewriting(state) => state.fanout.awaits(tag),
            Phase::Inquiring(state) => state.awaits(tag),
            Phase::Stamping(state) => state.stamp.awaits(tag),
            Phase::CommittingPrimary(state) => state.fanout.awaits(tag),
            Phase::Settling(fanout) => fanout.awaits(tag),
            Phase::RollingBack(undo) => undo.awaits(tag),
            Phase::Releasing(release) => release.awaits(tag),
        }
    }

    /// The transaction.
    pub(crate) fn start_ts(&self) -> Timestamp {
        self.plan.start_ts
    }

    pub(crate) fn wake(self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let Self { plan, phase } = self;
        match phase {
            Phase::Linearizing(stamp) => Self::linearizing(plan, stamp, tag, wake, cx),
            Phase::Prewriting(state) => Self::prewriting(plan, state, tag, wake, cx),
            Phase::Inquiring(state) => Self::inquiring(plan, state, tag, wake, cx),
            Phase::Stamping(state) => Self::stamping(plan, state, tag, wake, cx),
            Phase::CommittingPrimary(state) => Self::committing(plan, state, tag, wake, cx),
            Phase::Settling(fanout) => Self::settling(plan, fanout, tag, wake, cx),
            Phase::RollingBack(undo) => Self::rolling_back(plan, undo, tag, wake, cx),
            Phase::Releasing(release) => Self::releasing(plan, release, tag, wake, cx),
        }
    }

    // ---- timestamps ----------------------------------------------------------------------------

    fn linearizing(plan: Arc<Plan>, stamp: Stamp, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match stamp.wake(&plan.options, tag, wake, cx) {
            Stamped::Going(stamp) => Self::next(plan, Phase::Linearizing(stamp)),
            Stamped::Over(Ok(at), tag) => Self::start_prewrite(plan, Some(at), tag, cx),
            Stamped::Over(Err(error), tag) => Self::abort(plan, error, Left::Nothing, tag, cx),
        }
    }

    /// Asks for the commit timestamp, which is why there has to be a proof: a snapshot taken between
    /// the timestamp and a lock could miss the transaction (§22.8).
    fn stamp(
        plan: Arc<Plan>,
        proof: AllPrewritten,
        given_up: Fallbacks,
        backoff: Backoff,
        next_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        let stamp = Stamp::ask(next_tag, cx);
        Self::next(plan, Phase::Stamping(Stamping { proof, given_up, stamp, backoff }))
    }

    fn stamping(plan: Arc<Plan>, state: Stamping, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let Stamping { proof, given_up, stamp, backoff } = state;
        match stamp.wake(&plan.options, tag, wake, cx) {
            Stamped::Going(stamp) => {
                Self::next(plan, Phase::Stamping(Stamping { proof, given_up, stamp, backoff }))
            }
            Stamped::Over(Ok(at), tag) => {
                let at =
                    if planted!(plan, CommitRightAfterStart) { plan.start_ts.next() } else { at };
                Self::commit_primary(plan, proof, given_up, at, backoff, tag, cx)
            }
            Stamped::Over(Err(error), tag) => Self::abort(plan, error, Left::Locks, tag, cx),
        }
    }

    // ---- stopping ------------------------------------------------------------------------------

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> (Cancel, Step) {
        let Self { plan, phase } = self;
        match phase {
            Phase::Linearizing(stamp) => {
                Self::stop_waiting(plan, Left::Nothing, stamp.next_tag, why, cx)
            }
            Phase::Prewriting(mut state) => {
                let lost = state.fanout.is_in_doubt(cx);
                let verdict = verdict(state.evidence(Said::Nothing, lost, cx));
                if why == Stop::Cancelled && verdict == Verdict::Undetermined {
                    return Self::without_owner(plan, Phase::Prewriting(state), why, cx);
                }
                let (left, next_tag) = (state.left(), state.fanout.end_tag());
                let mut abandoned = state.fanout.abandon(cx);
                // A lock that may have been taken is no doubt about the transaction.
                abandoned.doubt = verdict == Verdict::Undetermined;
                let error = why.error(Some(abandoned), cx.shared);
                match verdict {
                    Verdict::Undetermined => (Cancel::TooLate, Self::in_doubt(&plan, error, cx)),
                    Verdict::Aborted => {
                        (Cancel::RollingBack, Self::abort(plan, error, left, next_tag, cx))
                    }
                }
            }
            Phase::Inquiring(state) if why == Stop::Cancelled => {
                Self::without_owner(plan, Phase::Inquiring(state), why, cx)
            }
            Phase::Inquiring(state) => {
                let mut left = cx.abandon(state.call);
                if let Some(left) = &mut left {
                    left.doubt = true;
                }
                let error = why.error(left, cx.shared);
                let step = Self::end(plan, UNTOLD, error, Left::Locks, state.end_tag(), cx);
                (Cancel::TooLate, step)
            }
            Phase::Stamping(state) => {
                Self::stop_waiting(plan, Left::Locks, state.stamp.next_tag, why, cx)
            }
            Phase::CommittingPrimary(mut state) => {
                let lost = state.fanout.is_in_doubt(cx);
                let verdict = verdict(CommittingPrimary::evidence(Said::Nothing, lost));
                if why == Stop::Cancelled && verdict == Verdict::Undetermined {
                    return Self::without_owner(plan, Phase::CommittingPrimary(state), why, cx);
                }
                let next_tag = state.fanout.end_tag();
                let error = why.error(Some(state.fanout.abandon(cx)), cx.shared);
                match verdict {
                    _ if planted!(plan, DeadlineToldAsAborted) => {
                        (Cancel::RollingBack, Self::abort(plan, error, Left::Locks, next_tag, cx))
                    }
                    Verdict::Undetermined => (Cancel::TooLate, Self::in_doubt(&plan, error, cx)),
                    Verdict::Aborted => {
                        (Cancel::RollingBack, Self::abort(plan, error, Left::Locks, next_tag, cx))
                    }
                }
            }
            // Reported already: nobody hears this.
            Phase::Settling(mut fanout) => {
                fanout.abandon(cx);
                (Cancel::TooLate, Step::Finished)
            }
            Phase::RollingBack(mut undo) => {
                undo.abandon(cx);
                (Cancel::RollingBack, Step::Finished)
            }
            Phase::Releasing(mut release) => {
                release.abandon(cx);
                (Cancel::RollingBack, Step::Finished)
            }
        }
    }

    fn stop_waiting(
        plan: Arc<Plan>,
        left: Left,
        next_tag: Tag,
        why: Stop,
        cx: &mut Cx<'_>,
    ) -> (Cancel, Step) {
        let owner = cx.owner;
        cx.shared.tso_forget(owner);
        let error = why.error(None, cx.shared);
        (Cancel::RollingBack, Self::abort(plan, error, left, next_tag, cx))
    }

    /// Nobody waits for the answer any more, but the transaction is better decided than left in doubt.
    fn without_owner(plan: Arc<Plan>, phase: Phase, why: Stop, cx: &mut Cx<'_>) -> (Cancel, Step) {
        let op = Op::Commit(Box::new(Self { plan, phase }));
        let cancelled: Result<Reply, _> = Err(why.error(None, cx.shared));
        (Cancel::TooLate, Step::Detach(cancelled, op, budget::COMMIT))
    }
}
