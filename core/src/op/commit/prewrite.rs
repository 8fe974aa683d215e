//! Locking every key, which may be all that a commit takes (`transactions.md` §7.2, §8).

use std::sync::Arc;

use anatase_proto::kvrpcpb::{self, prewrite_request::ForUpdateTsConstraint};
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::WakeReason;
use crate::error::{Error, ErrorKind};
use crate::fanout::{Batch, Fanout, Job, Piece, Progress};
use crate::op::Step;
use crate::op::commit::outcome::{Decided, Evidence, Phase as Deciding, Said};
use crate::op::commit::plan::{Modes, Plan};
use crate::op::commit::{Commit, FIRST, Left, Phase};
use crate::operation::{Assertion, Key, LockState, Mutation, MutationOp};
use crate::resolve::{Mode, Resolved};
use crate::shared::{CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::txn::{AssertionLevel, EncounterLock};
use crate::wire::reply::{self, Lock, PrewriteReply};

/// Proof that every key is locked. Only [`Prewriting::finish`] makes one.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct AllPrewritten(());

#[cfg(any(test, fuzzing))]
impl AllPrewritten {
    /// For fuzzers, which begin where they like.
    pub(super) fn assumed() -> Self {
        Self(())
    }
}

#[cfg(any(test, fuzzing))]
impl LastLock {
    /// For fuzzers, which begin where they like.
    pub(super) fn assumed(at: Timestamp) -> Self {
        Self(at)
    }
}

/// Proof that every key has a lock that says when the transaction is committed. Only
/// [`Prewriting::finish`] makes one.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct LastLock(Timestamp);

impl LastLock {
    pub(super) fn at(self) -> Timestamp {
        self.0
    }
}

/// Proof, by the word of the store, that the only prewrite has committed: its answer
/// ([`Prewriting::landed`]), or the primary's record.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct OnePhase(Timestamp);

impl OnePhase {
    /// What a store says is in the primary's commit record.
    pub(super) fn by_record(at: Timestamp) -> Self {
        Self(at)
    }

    pub(super) fn at(self) -> Timestamp {
        self.0
    }
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Prewriting {
    pub(super) fanout: Fanout<PrewriteJob>,
    /// A store has found an assertion wrong. The weakest of all errors: the others may yet show that
    /// a lock was lost, which would explain it (§6).
    wrong: Option<Error>,
    /// The whole was sent in one phase, that copy was lost, and then the region split. No answer has
    /// shown yet that it was not executed. That a part is locked shows nothing: a store says the same of
    /// a part that is committed (§8.5).
    stray: bool,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct PrewriteJob {
    plan: Arc<Plan>,
    /// What is still in use.
    pub(super) modes: Modes,
    /// No commit before this.
    min_commit_ts: Timestamp,
    /// The largest of the timestamps that the locks have been given: what everybody who looks at them
    /// takes for the commit's (§22.23).
    told: Option<Timestamp>,
    /// Nor after this, where a store chooses.
    max_commit_ts: Option<Timestamp>,
    ttl_ms: u64,
}

/// What all prewrites together have come to.
enum Finished {
    Not,
    AllPrewritten(AllPrewritten),
    Committed(LastLock),
    Wrong(Error),
}

/// What the answer to one of them means.
enum Landed {
    Locked,
    Committed(OnePhase),
    Impossible(Error),
}

impl Commit {
    /// `above`: the commit has to come after this timestamp.
    pub(super) fn start_prewrite(
        plan: Arc<Plan>,
        above: Option<Timestamp>,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        let now = cx.shared.now;
        let modes = plan.modes;
        let max_commit_ts = modes.any().then(|| plan.max_commit_ts(now));
        let job = PrewriteJob {
            modes,
            // §22.9: one more, since a transaction that is committed may have this very timestamp.
            min_commit_ts: above.unwrap_or(plan.start_ts).max(plan.start_ts).next(),
            told: None,
            max_commit_ts,
            ttl_ms: plan.lock_ttl(max_commit_ts, now),
            plan: plan.clone(),
        };
        let (backoff, max_batches) = (Backoff::new(budget::PREWRITE), cx.shared.config.max_batches);
        let fanout = Fanout::new(job, backoff, max_batches, first_tag.max(FIRST));
        let state = Prewriting { fanout, wrong: None, stray: false };
        Self::prewrite(plan, state, cx)
    }

    /// Sends what can be sent, or goes on to the next phase.
    fn prewrite(plan: Arc<Plan>, mut state: Prewriting, cx: &mut Cx<'_>) -> Step {
        state.advance(cx);
        let tag = state.fanout.end_tag();
        let given_up = plan.modes.fallbacks(state.fanout.job.modes);
        match state.finish() {
            Finished::Not => Self::next(plan, Phase::Prewriting(state)),
            Finished::Wrong(error) => Self::abort(plan, error, state.left(), tag, cx),
            Finished::AllPrewritten(proof) if state.stray => {
                Self::inquire(plan, proof, given_up, tag, cx)
            }
            Finished::AllPrewritten(proof) => {
                let backoff = Backoff::new(budget::COMMIT);
                Self::stamp(plan, proof, given_up, backoff, tag, cx)
            }
            Finished::Committed(last) => {
                let decided = Decided::by_locks(last);
                Self::settle_async(plan, decided, given_up, tag, cx)
            }
        }
    }

    pub(super) fn prewriting(
        plan: Arc<Plan>,
        mut state: Prewriting,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        if let Wake::Resolved(resolved) = wake {
            return match state.resolved(tag, resolved, cx) {
                Ok(()) => Self::prewrite(plan, state, cx),
                Err((error, lost)) => {
                    Self::end_prewrite(plan, state, error, Said::Nothing, lost, cx)
                }
            };
        }
        let (batch, response) = match state.fanout.wake(tag, wake, cx) {
            Progress::Nothing => return Self::prewrite(plan, state, cx),
            Progress::Failed { error, doubt, .. } => {
                let said = Said::in_failure(&error);
                return Self::end_prewrite(plan, state, error, said, doubt, cx);
            }
            Progress::Answer { batch, response } => (batch, response),
        };
        let lost = batch.piece.doubt;
        match reply::prewrite(response) {
            Ok(PrewriteReply::Landed { min_commit_ts, one_pc_commit_ts }) => {
                match state.landed(&plan, min_commit_ts, one_pc_commit_ts) {
                    Landed::Locked => {
                        if plan.is_large() && batch_has_primary(&plan, &batch.piece) {
                            cx.shared.keep_alive(plan.start_ts, &plan.primary);
                        }
                        Self::prewrite(plan, state, cx)
                    }
                    Landed::Committed(done) => {
                        let left = Modes { one_pc: true, ..state.fanout.job.modes };
                        let given_up = plan.modes.fallbacks(left);
                        state.fanout.abandon(cx);
                        Self::committed(plan, Decided::at_once(done), given_up, cx)
                    }
                    // A store that commits what it was asked to lock: whatever is reported now may
                    // be wrong, so nothing is.
                    Landed::Impossible(error) => {
                        state.fanout.abandon(cx);
                        Self::in_doubt(&plan, error, cx)
                    }
                }
            }
            Ok(PrewriteReply::Locked(_)) if planted!(plan, LockedKeyPrewritten) => {
                Self::prewrite(plan, state, cx)
            }
            Ok(PrewriteReply::Locked(locks)) => match lost_to(&plan, &locks) {
                Some(conflict) => {
                    Self::end_prewrite(plan, state, conflict, Said::Refusal, lost, cx)
                }
                None => {
                    state.refuted(&plan, &batch.piece);
                    let tag = state.fanout.park(batch.piece);
                    cx.resolve(tag, locks, Mode::Write { start_ts: plan.start_ts });
                    Self::prewrite(plan, state, cx)
                }
            },
            Ok(PrewriteReply::Refused(error))
                if *error.kind() == ErrorKind::Refused && planted!(plan, LockLossIgnored) =>
            {
                Self::prewrite(plan, state, cx)
            }
            Ok(PrewriteReply::Refused(error)) => {
                state.refuted(&plan, &batch.piece);
                let weak = matches!(error.kind(), ErrorKind::AssertionFailed(_));
                if weak && !(lost && state.fanout.job.modes.any()) {
                    state.wrong.get_or_insert(error);
                    return Self::prewrite(plan, state, cx);
                }
                let error = checked(&plan, error);
                Self::end_prewrite(plan, state, error, Said::Refusal, lost, cx)
            }
            Ok(PrewriteReply::GivenUp(error)) | Err(error) => {
                Self::end_prewrite(plan, state, error, Said::NoSense, lost, cx)
            }
        }
    }

    /// One batch will never land. The others are withdrawn.
    fn end_prewrite(
        plan: Arc<Plan>,
        mut state: Prewriting,
        error: Error,
        said: Said,
        lost: bool,
        cx: &mut Cx<'_>,
    ) -> Step {
        let evidence = state.evidence(said, lost, cx);
        let (left, next_tag) = (state.left(), state.fanout.end_tag());
        state.fanout.abandon(cx);
        Self::end(plan, evidence, error, left, next_tag, cx)
    }
}

impl Prewriting {
    fn advance(&mut self, cx: &mut Cx<'_>) {
        self.fanout.advance(cx);
        // §7.1: one phase takes one request. What is apart never comes together again.
        let whole = self.fanout.is_whole() || planted!(self.fanout.job.plan, OnePhaseInParts);
        if self.fanout.job.modes.one_pc && !self.fanout.is_done() && !whole {
            self.fanout.job.modes.one_pc = false;
            self.stray = self.fanout.is_in_doubt(cx);
        }
    }

    /// The proof, once every batch has landed.
    fn finish(&mut self) -> Finished {
        if !self.fanout.is_done() {
            return Finished::Not;
        }
        let job = &self.fanout.job;
        let stashed = job.plan.stashed.as_ref().map(|failure| (**failure).clone().into_error());
        if let Some(error) = self.wrong.take().or(stashed) {
            return Finished::Wrong(error);
        }
        match job.told {
            Some(at) if job.modes.async_commit => Finished::Committed(LastLock(at)),
            Some(_) | None => Finished::AllPrewritten(AllPrewritten(())),
        }
    }

    /// §8.4.
    fn landed(
        &mut self,
        plan: &Plan,
        min_commit_ts: Option<Timestamp>,
        one_pc_commit_ts: Option<Timestamp>,
    ) -> Landed {
        let impossible = |what| Landed::Impossible(reply::impossible(what));
        // Where it means nothing a timestamp is not looked at, either.
        let means = self.fanout.job.modes.any();
        let min_commit_ts = min_commit_ts.filter(|_| means);
        if [min_commit_ts, one_pc_commit_ts].into_iter().flatten().any(|at| at <= plan.start_ts) {
            return impossible("a commit timestamp at or before the start");
        }
        let job = &mut self.fanout.job;
        if job.modes.one_pc {
            return match (one_pc_commit_ts, min_commit_ts) {
                (Some(at), _) => Landed::Committed(OnePhase(at)),
                (None, None) if planted!(plan, FallbackTakenForCommit) => {
                    Landed::Committed(OnePhase(job.min_commit_ts))
                }
                // Locked, as for two phases.
                (None, None) => {
                    job.modes = Modes::default();
                    Landed::Locked
                }
                (None, Some(_)) => impossible("half of a commit in one phase"),
            };
        }
        match (one_pc_commit_ts, min_commit_ts) {
            (Some(_), _) => impossible("a prewrite was answered as a commit"),
            (None, Some(at)) => {
                job.min_commit_ts = job.min_commit_ts.max(at);
                job.told = match job.told {
                    Some(told) if planted!(plan, EarliestOfLocks) => Some(told.min(at)),
                    told => told.max(Some(at)),
                };
                Landed::Locked
            }
            // §22.25: this lock is one of two phases, and so is the transaction.
            (None, None) => {
                job.modes.async_commit = false;
                Landed::Locked
            }
        }
    }

    /// A store has looked at a part and refused it. Had the whole been executed before, it would have
    /// said so instead, unless it did not get past a key that is only checked and so has no record.
    fn refuted(&mut self, plan: &Plan, piece: &Piece) {
        if plan.mutations[piece.start..piece.end].iter().all(Mutation::locks) {
            self.stray = false;
        }
    }

    /// Locks of others were looked into: again at once, or after a pause. An error comes with whether
    /// the batch may have landed all the same.
    fn resolved(
        &mut self,
        tag: Tag,
        resolved: Result<Resolved, Error>,
        cx: &mut Cx<'_>,
    ) -> Result<(), (Error, bool)> {
        let Some(mut piece) = self.fanout.unpark(tag) else {
            return Ok(());
        };
        let lost = piece.doubt;
        let resolved = resolved.map_err(|error| (error, lost))?;
        let Some(blocker) = resolved.blocker else {
            self.fanout.again(piece);
            return Ok(());
        };
        let draws = &mut *cx.draws;
        let (kind, clamp) = (BackoffKind::TxnLock, Some(blocker.wait));
        let wait = piece.backoff.next(kind, clamp, blocker.error(), |bound| draws.below(bound));
        let wait = wait.map_err(|error| (error, lost))?;
        cx.pause(tag, wait, WakeReason::LockWait);
        self.fanout.repark(tag, piece);
        Ok(())
    }

    /// What is known if it ends now, with a batch that was answered so.
    pub(super) fn evidence(&self, said: Said, lost: bool, cx: &Cx<'_>) -> Evidence {
        let decisive = self.fanout.job.modes.any() || self.stray;
        let phase = if decisive { Deciding::DecisivePrewrite } else { Deciding::Locking };
        let rest = self.wrong.is_none() && self.fanout.is_all_in_doubt(cx);
        Evidence { phase, said, lost, rest }
    }

    /// What may be left behind. A prewrite in one phase leaves no lock.
    pub(super) fn left(&self) -> Left {
        if self.fanout.job.modes.one_pc { Left::Nothing } else { Left::Locks }
    }
}

fn batch_has_primary(plan: &Plan, piece: &Piece) -> bool {
    let mutations = &plan.mutations[piece.start..piece.end];
    mutations.binary_search_by(|mutation| mutation.key.cmp(&plan.primary)).is_ok()
}

/// Whether these locks mean that the transaction cannot succeed any more.
fn lost_to(plan: &Plan, locks: &[Lock]) -> Option<Error> {
    let lock = match plan.options.encounter_lock {
        EncounterLock::NoResolve => locks.first(),
        // A transaction that started later will commit after our start (§8.3). For a pessimistic one
        // that says nothing, and would hide that a lock of ours is lost (§22.35).
        EncounterLock::TryResolve if plan.is_pessimistic() => None,
        EncounterLock::TryResolve => locks.iter().find(|lock| lock.start_ts > plan.start_ts),
    };
    lock.map(|lock| lock.as_conflict(plan.start_ts))
}

/// §22.37: that a key exists is only an answer for whoever asked.
fn checked(plan: &Plan, error: Error) -> Error {
    let ErrorKind::KeyExists { key } = error.kind() else {
        return error;
    };
    let found = plan.mutations.binary_search_by(|mutation| mutation.key.cmp(key));
    let asked = found.ok().and_then(|at| plan.mutations.get(at)).is_some_and(|m| match m.op {
        MutationOp::Insert(_) | MutationOp::CheckNotExists => true,
        MutationOp::Put(_) | MutationOp::Delete | MutationOp::Lock => false,
    });
    if asked {
        return error;
    }
    reply::impossible("a key exists of which nobody asked that it does not").because(Some(error))
}

impl Job for PrewriteJob {
    fn len(&self) -> usize {
        self.plan.mutations.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.plan.mutations[index].key
    }

    fn weight(&self, index: usize) -> usize {
        self.plan.mutations[index].size()
    }

    fn max_weight(&self) -> usize {
        self.plan.batch_size
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let message = self.message(batch);
        // A store that cannot tell what became of a request that may have committed: asking again
        // could not tell more (§11).
        let decisive = message.use_async_commit || message.try_one_pc;
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            decisive,
            extra: self.plan.context.clone(),
            ..CallSpec::write(Rpc::KvPrewrite, body, &cx.shared.config)
        }
    }
}

impl PrewriteJob {
    /// §8.1.
    fn message(&self, batch: &Batch) -> kvrpcpb::PrewriteRequest {
        let plan = &*self.plan;
        let level = plan.options.assertion_level;
        let mutations = &plan.mutations[batch.piece.start..batch.piece.end];
        let min_commit_ts = plan.for_update_ts.map_or(self.min_commit_ts, |for_update_ts| {
            self.min_commit_ts.max(for_update_ts.next())
        });
        // Only with the primary, whatever batch it is in now (§22.24, `peers.md` D5).
        let secondaries = if self.modes.async_commit
            && batch_has_primary(plan, &batch.piece)
            && !planted!(plan, SecondariesLeftOut)
        {
            plan.locked.iter().filter(|key| **key != plan.primary).cloned().collect()
        } else {
            Vec::new()
        };
        kvrpcpb::PrewriteRequest {
            mutations: mutations.iter().map(|mutation| to_proto(mutation, level)).collect(),
            pessimistic_actions: mutations.iter().map(|mutation| action(mutation.locked)).collect(),
            for_update_ts_constraints: match planted!(plan, ConstraintsDropped) {
                true => Vec::new(),
                false => constraints(mutations),
            },
            primary_lock: plan.primary.clone(),
            start_version: plan.start_ts.version(),
            lock_ttl: self.ttl_ms,
            // Of a regrouped batch nobody knows how many keys the region holds: «very many» keeps
            // resolvers from going key by key (§8.1, §22.18).
            txn_size: batch.region_items.map_or(u64::MAX, |items| items as u64),
            for_update_ts: plan.for_update_ts.map_or(0, Timestamp::version),
            // Above zero, so that readers may push it (§8.1).
            min_commit_ts: min_commit_ts.version(),
            max_commit_ts: self.max_commit_ts.map_or(0, Timestamp::version),
            use_async_commit: self.modes.async_commit,
            secondaries,
            try_one_pc: self.modes.one_pc
                && (batch.piece.len() == plan.mutations.len() || planted!(plan, OnePhaseInParts)),
            assertion_level: match level {
                AssertionLevel::Off => kvrpcpb::AssertionLevel::Off,
                AssertionLevel::Fast => kvrpcpb::AssertionLevel::Fast,
                AssertionLevel::Strict => kvrpcpb::AssertionLevel::Strict,
            }
            .into(),
            ..Default::default()
        }
    }
}

fn to_proto(mutation: &Mutation, level: AssertionLevel) -> kvrpcpb::Mutation {
    let (op, value) = match &mutation.op {
        MutationOp::Put(value) => (kvrpcpb::Op::Put, value.clone()),
        MutationOp::Insert(value) => (kvrpcpb::Op::Insert, value.clone()),
        MutationOp::Delete => (kvrpcpb::Op::Del, Key::new()),
        MutationOp::Lock => (kvrpcpb::Op::Lock, Key::new()),
        MutationOp::CheckNotExists => (kvrpcpb::Op::CheckNotExists, Key::new()),
    };
    let assertion = match (level, mutation.assertion) {
        (AssertionLevel::Off, _) | (_, Assertion::None) => kvrpcpb::Assertion::None,
        (_, Assertion::Exist) => kvrpcpb::Assertion::Exist,
        (_, Assertion::NotExist) => kvrpcpb::Assertion::NotExist,
    };
    let (op, assertion) = (op.into(), assertion.into());
    kvrpcpb::Mutation { op, key: mutation.key.clone(), value, assertion }
}

fn action(locked: LockState) -> i32 {
    use kvrpcpb::prewrite_request::PessimisticAction;
    match locked {
        LockState::Not => PessimisticAction::SkipPessimisticCheck,
        LockState::Held | LockState::HeldAt(_) => PessimisticAction::DoPessimisticCheck,
        LockState::CheckAtPrewrite => PessimisticAction::DoConstraintCheck,
    }
    .into()
}

/// §22.27: without them a stale copy of a lock request could hide a lost update.
fn constraints(mutations: &[Mutation]) -> Vec<ForUpdateTsConstraint> {
    let one = |(index, mutation): (usize, &Mutation)| match mutation.locked {
        LockState::HeldAt(expected) => Some(ForUpdateTsConstraint {
            index: u32::try_from(index).ok()?,
            expected_for_update_ts: expected.version(),
        }),
        LockState::Not | LockState::Held | LockState::CheckAtPrewrite => None,
    };
    mutations.iter().enumerate().filter_map(one).collect()
}
