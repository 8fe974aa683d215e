//! The commit of the primary's batch, which decides a commit in two phases (`transactions.md` §9), and
//! the commits of the others, which decide nothing.

use std::sync::Arc;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::fanout::{Batch, Fanout, Job, Progress};
use crate::op::Step;
use crate::op::commit::outcome::{Decided, Evidence, Phase as Deciding, Said};
use crate::op::commit::plan::Plan;
use crate::op::commit::prewrite::AllPrewritten;
use crate::op::commit::{Commit, Left, Phase};
use crate::operation::{Fallbacks, Key};
use crate::shared::{CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply::{self, CommitReply};

/// A commit timestamp that is further than this behind what the store demands is not retried:
/// one hour (§1.4).
const MAX_EXPIRED_GAP: u64 = 3_600_000 << 18;
/// No transaction commits in two phases so long after its start: a day (§1.4).
const MAX_TIME_USE_MS: u64 = 86_400_000;

#[derive(Clone, Debug, Hash)]
pub(super) struct CommittingPrimary {
    proof: AllPrewritten,
    given_up: Fallbacks,
    pub(super) fanout: Fanout<CommitJob>,
    backoff: Backoff,
}

/// Proof, by the word of the store, that the primary is committed. Only
/// [`CommittingPrimary::acknowledged`] makes one.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Acknowledged(Timestamp);

impl Acknowledged {
    pub(super) fn at(self) -> Timestamp {
        self.0
    }
}

#[derive(Clone, Debug, Hash)]
pub(super) struct CommitJob {
    pub(super) plan: Arc<Plan>,
    pub(super) at: Timestamp,
    /// The transaction is committed already, by its locks.
    pub(super) async_commit: bool,
}

impl CommittingPrimary {
    fn acknowledged(mut self) -> (Acknowledged, Fallbacks, Fanout<CommitJob>) {
        let proof = Acknowledged(self.fanout.job.at);
        self.fanout.open();
        (proof, self.given_up, self.fanout)
    }

    /// What is known if it ends now, with this answer.
    pub(super) fn evidence(said: Said, lost: bool) -> Evidence {
        Evidence { phase: Deciding::Primary, said, lost, rest: true }
    }
}

impl Commit {
    pub(super) fn commit_primary(
        plan: Arc<Plan>,
        proof: AllPrewritten,
        given_up: Fallbacks,
        at: Timestamp,
        backoff: Backoff,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        if let Err(error) = may_commit_at(&plan, at) {
            return Self::abort(plan, error, Left::Locks, first_tag, cx);
        }
        if plan.locked.is_empty() {
            return Self::nothing_locked(&plan, at, given_up, cx);
        }
        let job = CommitJob { plan: plan.clone(), at, async_commit: false };
        let (max_batches, lead) = (cx.shared.config.max_batches, plan.lead);
        let mut fanout = Fanout::new(job, backoff.fork(), max_batches, first_tag).gate(lead);
        if planted!(plan, SecondariesWithPrimary) {
            fanout.open();
        }
        fanout.advance(cx);
        let state = CommittingPrimary { proof, given_up, fanout, backoff };
        Self::next(plan, Phase::CommittingPrimary(state))
    }

    pub(super) fn committing(
        plan: Arc<Plan>,
        mut state: CommittingPrimary,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        match state.fanout.wake(tag, wake, cx) {
            Progress::Nothing => {
                state.fanout.advance(cx);
                Self::next(plan, Phase::CommittingPrimary(state))
            }
            // From here on the store has spoken, and whatever an earlier copy of the request did is
            // in what it said.
            Progress::Answer { batch, response } => match reply::commit(response) {
                Ok(CommitReply::Done { .. }) => {
                    let (acknowledged, given_up, fanout) = state.acknowledged();
                    let decided = Decided::by_primary(acknowledged);
                    Self::settle(plan, decided, given_up, fanout, cx)
                }
                Ok(CommitReply::Expired { key, min_commit_ts, .. }) => {
                    Self::expired(plan, state, &key, min_commit_ts, cx)
                }
                Ok(CommitReply::Refused(error)) => {
                    Self::end_primary(plan, state, error, Said::Refusal, batch.piece.doubt, cx)
                }
                // An answer that cannot be understood may be a «yes».
                Err(error) => {
                    Self::end_primary(plan, state, error, Said::NoSense, batch.piece.doubt, cx)
                }
            },
            Progress::Failed { error, doubt, .. } => {
                let said = Said::in_failure(&error);
                Self::end_primary(plan, state, error, said, doubt, cx)
            }
        }
    }

    fn end_primary(
        plan: Arc<Plan>,
        mut state: CommittingPrimary,
        error: Error,
        said: Said,
        lost: bool,
        cx: &mut Cx<'_>,
    ) -> Step {
        let next_tag = state.fanout.end_tag();
        state.fanout.abandon(cx);
        let evidence = CommittingPrimary::evidence(said, lost);
        Self::end(plan, evidence, error, Left::Locks, next_tag, cx)
    }

    /// A reader has pushed the transaction: it may commit, but only later. No secondary has been
    /// told the old timestamp, since the primary goes first (§22.7).
    fn expired(
        plan: Arc<Plan>,
        mut state: CommittingPrimary,
        key: &Key,
        min_commit_ts: Timestamp,
        cx: &mut Cx<'_>,
    ) -> Step {
        let next_tag = state.fanout.end_tag();
        let attempted = state.fanout.job.at;
        state.fanout.abandon(cx);
        let gap = min_commit_ts.version().saturating_sub(attempted.version());
        if *key != plan.primary || gap > MAX_EXPIRED_GAP {
            let text = format!("the commit timestamp {attempted} is before {min_commit_ts}");
            let error = Error::new(ErrorKind::TxnRetryable, text);
            return Self::abort(plan, error, Left::Locks, next_tag, cx);
        }
        let CommittingPrimary { proof, given_up, backoff, .. } = state;
        Self::stamp(plan, proof, given_up, backoff, next_tag, cx)
    }
}

/// What keeps a transaction of two phases from being committed at a timestamp (§7.3). Asked before its
/// primary is, and again for each new timestamp; the reference asks about the first one only.
fn may_commit_at(plan: &Plan, at: Timestamp) -> Result<(), Error> {
    if at <= plan.start_ts {
        return Err(reply::impossible("a commit timestamp at or before the start"));
    }
    if at.physical_ms() - plan.start_ts.physical_ms() >= MAX_TIME_USE_MS {
        let text = "the transaction has been open for a day: it takes too long";
        return Err(Error::new(ErrorKind::TxnRetryable, text));
    }
    match plan.options.commit_ts_upper_bound {
        Some(bound) if at > bound => {
            let kind = ErrorKind::CommitTsTooLarge { commit_ts: at, bound };
            Err(Error::new(kind, format!("the commit timestamp {at} is beyond {bound}")))
        }
        Some(_) | None => Ok(()),
    }
}

impl Job for CommitJob {
    fn len(&self) -> usize {
        self.plan.locked.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.plan.locked[index]
    }

    fn max_weight(&self) -> usize {
        self.plan.batch_size
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let primary = batch.piece.has(self.plan.lead);
        let role =
            if primary { kvrpcpb::CommitRole::Primary } else { kvrpcpb::CommitRole::Secondary };
        let message = kvrpcpb::CommitRequest {
            start_version: self.plan.start_ts.version(),
            keys: self.plan.locked[batch.piece.start..batch.piece.end].to_vec(),
            primary_key: self.plan.primary.clone(),
            commit_version: self.at.version(),
            commit_role: role.into(),
            use_async_commit: self.async_commit,
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            decisive: primary && !self.async_commit,
            extra: self.plan.context.clone(),
            ..CallSpec::write(Rpc::KvCommit, body, &cx.shared.config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{CommitPlan, Mutation, MutationOp};
    use crate::time::Instant;
    use crate::txn::TxnOptions;

    /// transactions.md §7.3: MaxTxnTimeUse, upper bound; inclusive, and each to the millisecond.
    #[test]
    fn a_commit_timestamp_is_neither_too_early_nor_too_late() {
        let ts = |ms, logical| Timestamp::compose(ms, logical).unwrap();
        let bound = ts(2_000, 7);
        let plan = |bound| {
            let options = TxnOptions { commit_ts_upper_bound: bound, ..TxnOptions::default() };
            let mutations = vec![Mutation::new("a", MutationOp::Delete)];
            let plan =
                CommitPlan { options: options.into(), ..CommitPlan::new(ts(900, 1), mutations) };
            Plan::new(plan, 1, Instant::from_nanos(1)).unwrap()
        };
        let day = 86_400_000;
        for (row, bound, at, expected) in [
            ("before", None, ts(900, 0), Err(ErrorKind::Protocol)),
            ("the start itself", None, ts(900, 1), Err(ErrorKind::Protocol)),
            ("after", None, ts(900, 2), Ok(())),
            ("almost a day", None, ts(900 + day - 1, 9), Ok(())),
            ("a day", None, ts(900 + day, 0), Err(ErrorKind::TxnRetryable)),
            ("the bound", Some(bound), bound, Ok(())),
            (
                "beyond",
                Some(bound),
                bound.next(),
                Err(ErrorKind::CommitTsTooLarge { commit_ts: bound.next(), bound }),
            ),
        ] {
            let found = may_commit_at(&plan(bound), at).map_err(|error| error.kind().clone());
            assert_eq!(found, expected, "{row}");
        }
    }
}
