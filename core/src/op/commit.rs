//! Optimistic two-phase commit (`transactions.md` §7–§11).
//!
//! ```text
//! Prewriting ─▶ Stamping ─▶ CommittingPrimary ─▶ Settling ─▶ over
//!     │            │  ▲          │  │   │
//!     │            │  └──────────┘  │   └─▶ Undetermined (nothing is touched any more)
//!     ▼            ▼   too early a  ▼
//!    RollingBack ◀──── timestamp    definite refusal only
//! ```
//!
//! What each state waits for, and what an ending there means:
//!
//! | state | waits for | deadline, cancellation, failure |
//! |---|---|---|
//! | Prewriting | every batch to be locked; locks of others are resolved meanwhile | aborted, undone |
//! | Stamping | a timestamp that PD hands out after the last lock was taken | aborted, undone |
//! | CommittingPrimary | the answer to the primary's commit | in doubt if it was ever sent without an answer: *undetermined*, and nothing is undone; else aborted, undone |
//! | Settling | the other batches; the outcome is reported already | left to whoever meets the locks |
//! | RollingBack | the undoing; the outcome is reported already | left to whoever meets the locks |
//!
//! The states carry proofs. A commit timestamp can only be asked for with [`AllPrewritten`], and a
//! secondary can only be committed with [`Decided`]; each has one maker.

use std::sync::Arc;
use std::time::Duration;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::{Cancel, WakeReason};
use crate::error::{Error, ErrorKind};
use crate::fanout::{Batch, Fanout, Job, Progress};
use crate::op::rollback::{Undo, Undone};
use crate::op::{Op, Step, Stop};
use crate::operation::{CommitOutcome, CommitPlan, Key, Mutation, MutationOp, Reply};
use crate::resolve::{Mode, Resolved};
use crate::shared::{CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply::{self, CommitReply, Lock, PrewriteReply};

const STAMP: Tag = 0;
/// Waits of the fan-outs. Each phase numbers its own waits on from the last one's, so that a late
/// wake-up of one phase is never taken for one of the next.
const FIRST: Tag = 1;

/// Locks live this long, plus more for larger transactions (§12.1), in milliseconds.
const DEFAULT_LOCK_TTL: u64 = 3_000;
const MAX_LOCK_TTL: u64 = 20_000;
/// A lock lives this long times the square root of the transaction's MiB.
const TTL_FACTOR: u64 = 6_000;
/// Below this size a transaction's locks get the default time to live.
const TTL_THRESHOLD: u64 = 16 << 10;
/// A commit timestamp that is further than this behind what the store demands is not retried:
/// one hour (§1.4).
const MAX_EXPIRED_GAP: u64 = 3_600_000 << 18;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Commit {
    plan: Arc<Plan>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Plan {
    start_ts: Timestamp,
    mutations: Vec<Mutation>,
    /// The keys that are locked, in order: the first is the primary. Empty if nothing is.
    locked: Vec<Key>,
    primary: Key,
    ttl_ms: u64,
    /// The transaction's size as a store sees it.
    batch_size: usize,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    Prewriting(Prewriting),
    Stamping { proof: AllPrewritten, backoff: Backoff, next_tag: Tag },
    CommittingPrimary(CommittingPrimary),
    Settling(Fanout<CommitJob>),
    RollingBack(Undo),
}

#[derive(Clone, Debug, Hash)]
struct Prewriting {
    fanout: Fanout<PrewriteJob>,
}

#[derive(Clone, Debug, Hash)]
struct CommittingPrimary {
    proof: AllPrewritten,
    fanout: Fanout<CommitJob>,
    backoff: Backoff,
}

/// Proof that every key is locked. Only [`Prewriting::finish`] makes one.
#[derive(Clone, Debug, Hash)]
struct AllPrewritten(());

/// Proof that the transaction is committed. Only [`CommittingPrimary::acknowledged`] makes one.
#[derive(Clone, Copy, Debug, Hash)]
struct Decided {
    at: Timestamp,
}

impl Prewriting {
    /// The proof, once every batch has landed.
    fn finish(&self) -> Option<AllPrewritten> {
        self.fanout.is_done().then_some(AllPrewritten(()))
    }
}

impl CommittingPrimary {
    /// The proof, made of the store's word that the primary is committed.
    fn acknowledged(mut self) -> (Decided, Fanout<CommitJob>) {
        let decided = Decided { at: self.fanout.job.at };
        self.fanout.open();
        (decided, self.fanout)
    }
}

#[derive(Clone, Debug, Hash)]
struct PrewriteJob(Arc<Plan>);

#[derive(Clone, Debug, Hash)]
struct CommitJob {
    plan: Arc<Plan>,
    at: Timestamp,
}

impl Plan {
    fn new(plan: CommitPlan, batch_size: usize) -> Result<Self, Error> {
        let invalid = |text: &str| Err(Error::new(ErrorKind::InvalidArgument, text));
        let CommitPlan { start_ts, mutations, open_for, .. } = plan;
        if start_ts == Timestamp::MAX {
            return invalid("the maximal timestamp starts no transaction");
        }
        if !mutations.is_sorted_by(|a, b| a.key < b.key) {
            return invalid("mutations have to be sorted by key, without duplicates");
        }
        let mut locked: Vec<Key> = Vec::with_capacity(mutations.len());
        locked.extend(mutations.iter().filter(|m| m.locks()).map(|m| m.key.clone()));
        // A primary has to be a key that is locked, or nobody could ask it for the fate of the
        // transaction (`peers.md` D14). Where nothing is locked there is no fate to ask for.
        let Some(primary) = locked.first().or(mutations.first().map(|m| &m.key)).cloned() else {
            return invalid("nothing to commit");
        };
        let size = mutations.iter().map(|m| m.size() as u64).sum();
        let ttl_ms = lock_ttl(size, open_for);
        Ok(Self { start_ts, mutations, locked, primary, ttl_ms, batch_size })
    }
}

/// §12.1. A lock's time counts from the start of the transaction, so the time it has been open is
/// added.
fn lock_ttl(size: u64, open_for: Duration) -> u64 {
    let base = if size < TTL_THRESHOLD {
        DEFAULT_LOCK_TTL
    } else {
        let squared = u128::from(TTL_FACTOR).pow(2) * u128::from(size) / (1 << 20);
        u64::try_from(squared.isqrt()).unwrap_or(u64::MAX).clamp(DEFAULT_LOCK_TTL, MAX_LOCK_TTL)
    };
    base.saturating_add(u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX))
}

impl Commit {
    pub(crate) fn start(plan: CommitPlan, cx: &mut Cx<'_>) -> Step {
        let config = &cx.shared.config;
        let plan = match Plan::new(plan, config.txn_batch_size) {
            Ok(plan) => Arc::new(plan),
            Err(error) => return Step::Done(Err(error)),
        };
        let job = PrewriteJob(plan.clone());
        let backoff = Backoff::new(budget::PREWRITE);
        let fanout = Fanout::new(job, backoff, config.max_batches, FIRST);
        Self::prewrite(plan, Prewriting { fanout }, cx)
    }

    /// The transaction.
    pub(crate) fn start_ts(&self) -> Timestamp {
        self.plan.start_ts
    }

    fn next(plan: Arc<Plan>, phase: Phase) -> Step {
        Step::Next(Op::Commit(Box::new(Self { plan, phase })))
    }

    pub(crate) fn wake(self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let Self { plan, phase } = self;
        match phase {
            Phase::Prewriting(state) => Self::prewriting(plan, state, tag, wake, cx),
            Phase::Stamping { proof, backoff, next_tag } => match wake {
                Wake::Timestamp(Ok(at)) => {
                    Self::commit_primary(plan, proof, at, backoff, next_tag, cx)
                }
                Wake::Timestamp(Err(error)) => Self::abort(plan, error, next_tag, cx),
                _ => Self::next(plan, Phase::Stamping { proof, backoff, next_tag }),
            },
            Phase::CommittingPrimary(state) => Self::committing(plan, state, tag, wake, cx),
            Phase::Settling(fanout) => Self::settling(plan, fanout, tag, wake, cx),
            Phase::RollingBack(undo) => match undo.wake(tag, wake, cx) {
                Undone::Going(undo) => Self::next(plan, Phase::RollingBack(undo)),
                // Reported long ago; what is left is found by whoever meets it.
                Undone::Done | Undone::Failed(_) => Step::Finished,
            },
        }
    }

    // ---- prewrite ------------------------------------------------------------------------------

    fn prewrite(plan: Arc<Plan>, mut state: Prewriting, cx: &mut Cx<'_>) -> Step {
        state.fanout.advance(cx);
        match state.finish() {
            None => Self::next(plan, Phase::Prewriting(state)),
            Some(proof) => {
                cx.timestamp(STAMP);
                let backoff = Backoff::new(budget::COMMIT);
                let next_tag = state.fanout.end_tag();
                Self::next(plan, Phase::Stamping { proof, backoff, next_tag })
            }
        }
    }

    fn prewriting(
        plan: Arc<Plan>,
        mut state: Prewriting,
        tag: Tag,
        wake: Wake,
        cx: &mut Cx<'_>,
    ) -> Step {
        if let Wake::Resolved(resolved) = wake {
            return match resolved.and_then(|resolved| state.resolved(tag, resolved, cx)) {
                Ok(()) => Self::prewrite(plan, state, cx),
                Err(error) => Self::abort_prewrite(plan, state, error, cx),
            };
        }
        match state.fanout.wake(tag, wake, cx) {
            Progress::Nothing => Self::prewrite(plan, state, cx),
            Progress::Failed { error, .. } => Self::abort_prewrite(plan, state, error, cx),
            Progress::Answer { batch, response } => match reply::prewrite(response) {
                Ok(PrewriteReply::Landed { one_pc_commit_ts: None, .. }) => {
                    Self::prewrite(plan, state, cx)
                }
                // A store that commits what it was asked to lock: whatever is reported now may be
                // wrong, so nothing is.
                Ok(PrewriteReply::Landed { .. }) => {
                    state.fanout.abandon(cx);
                    undetermined(reply::impossible("a prewrite was answered as a commit"))
                }
                Ok(PrewriteReply::Locked(locks)) => match newer(&plan, &locks) {
                    Some(conflict) => Self::abort_prewrite(plan, state, conflict, cx),
                    None => {
                        let tag = state.fanout.park(batch.piece);
                        cx.resolve(tag, locks, Mode::Write { start_ts: plan.start_ts });
                        Self::prewrite(plan, state, cx)
                    }
                },
                Ok(PrewriteReply::Refused(error)) | Err(error) => {
                    Self::abort_prewrite(plan, state, error, cx)
                }
            },
        }
    }

    fn abort_prewrite(
        plan: Arc<Plan>,
        mut state: Prewriting,
        error: Error,
        cx: &mut Cx<'_>,
    ) -> Step {
        let next_tag = state.fanout.end_tag();
        state.fanout.abandon(cx);
        Self::abort(plan, error, next_tag, cx)
    }

    /// Reports the abort, and undoes in the background what may have been locked. Batches that are
    /// still on their way find the rollback records when they arrive.
    fn abort(plan: Arc<Plan>, error: Error, first_tag: Tag, cx: &mut Cx<'_>) -> Step {
        // A prewrite that is still out, or was lost, commits nothing.
        let outcome = Ok(Reply::Commit(CommitOutcome::Aborted(error.certain())));
        match plan.locked.split_first() {
            None => Step::Done(outcome),
            Some((primary, rest)) => {
                let (primary, rest) = (primary.clone(), rest.to_vec());
                let undo = Undo::start(plan.start_ts, primary, rest, first_tag, cx);
                let op = Op::Commit(Box::new(Self { plan, phase: Phase::RollingBack(undo) }));
                Step::Detach(outcome, op, budget::CLEANUP)
            }
        }
    }

    // ---- commit --------------------------------------------------------------------------------

    fn commit_primary(
        plan: Arc<Plan>,
        proof: AllPrewritten,
        at: Timestamp,
        backoff: Backoff,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        if at <= plan.start_ts {
            let error = reply::impossible("a commit timestamp at or before the start");
            return Self::abort(plan, error, first_tag, cx);
        }
        if plan.locked.is_empty() {
            return Step::Done(Ok(Reply::Commit(committed(at))));
        }
        let job = CommitJob { plan: plan.clone(), at };
        let max_batches = cx.shared.config.max_batches;
        let mut fanout = Fanout::new(job, backoff.fork(), max_batches, first_tag).gate();
        fanout.advance(cx);
        Self::next(plan, Phase::CommittingPrimary(CommittingPrimary { proof, fanout, backoff }))
    }

    fn committing(
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
            Progress::Answer { response, .. } => match reply::commit(response) {
                Ok(CommitReply::Done { .. }) => {
                    let (decided, fanout) = state.acknowledged();
                    Self::settle(plan, decided, fanout, cx)
                }
                Ok(CommitReply::Expired { key, min_commit_ts, .. }) => {
                    Self::expired(plan, state, &key, min_commit_ts, cx)
                }
                Ok(CommitReply::Refused(error)) => {
                    let next_tag = state.fanout.end_tag();
                    state.fanout.abandon(cx);
                    Self::abort(plan, error, next_tag, cx)
                }
                // An answer that cannot be understood may be a «yes».
                Err(error) => {
                    state.fanout.abandon(cx);
                    undetermined(error)
                }
            },
            Progress::Failed { error, doubt, .. } => {
                let next_tag = state.fanout.end_tag();
                state.fanout.abandon(cx);
                if doubt || error.is_undetermined() {
                    undetermined(error)
                } else {
                    Self::abort(plan, error, next_tag, cx)
                }
            }
        }
    }

    /// A reader has pushed the transaction: it may commit, but only later. No secondary has been
    /// told the old timestamp, since the primary goes first.
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
            return Self::abort(plan, Error::new(ErrorKind::TxnRetryable, text), next_tag, cx);
        }
        cx.timestamp(STAMP);
        let CommittingPrimary { proof, backoff, .. } = state;
        Self::next(plan, Phase::Stamping { proof, backoff, next_tag })
    }

    fn settle(
        plan: Arc<Plan>,
        decided: Decided,
        mut fanout: Fanout<CommitJob>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let outcome = Ok(Reply::Commit(committed(decided.at)));
        fanout.advance(cx);
        if fanout.is_done() {
            return Step::Done(outcome);
        }
        let op = Op::Commit(Box::new(Self { plan, phase: Phase::Settling(fanout) }));
        Step::Detach(outcome, op, budget::SECONDARIES)
    }

    /// A secondary that fails is committed by whoever meets its lock.
    fn settling(
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

    // ---- stopping ------------------------------------------------------------------------------

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> (Cancel, Step) {
        let Self { plan, phase } = self;
        match phase {
            Phase::Prewriting(mut state) => {
                let next_tag = state.fanout.end_tag();
                let mut left = state.fanout.abandon(cx);
                // A lock that may have been taken is no doubt about the transaction.
                left.doubt = false;
                let error = why.error(Some(left), cx.shared);
                (Cancel::RollingBack, Self::abort(plan, error, next_tag, cx))
            }
            Phase::Stamping { next_tag, .. } => {
                let owner = cx.owner;
                cx.shared.tso_forget(owner);
                let error = why.error(None, cx.shared);
                (Cancel::RollingBack, Self::abort(plan, error, next_tag, cx))
            }
            Phase::CommittingPrimary(mut state) => {
                if why == Stop::Cancelled && state.fanout.is_in_doubt(cx) {
                    // Nobody waits for the answer any more, but the transaction is better decided
                    // than left in doubt.
                    let phase = Phase::CommittingPrimary(state);
                    let op = Op::Commit(Box::new(Self { plan, phase }));
                    let cancelled = Err(why.error(None, cx.shared));
                    return (Cancel::TooLate, Step::Detach(cancelled, op, budget::COMMIT));
                }
                let next_tag = state.fanout.end_tag();
                let left = state.fanout.abandon(cx);
                let doubt = left.doubt;
                let error = why.error(Some(left), cx.shared);
                if doubt {
                    (Cancel::TooLate, undetermined(error))
                } else {
                    (Cancel::RollingBack, Self::abort(plan, error, next_tag, cx))
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
        }
    }
}

impl Prewriting {
    /// Locks of others were looked into: again at once, or after a pause.
    fn resolved(&mut self, tag: Tag, resolved: Resolved, cx: &mut Cx<'_>) -> Result<(), Error> {
        let Some(mut piece) = self.fanout.unpark(tag) else {
            return Ok(());
        };
        let Some(blocker) = resolved.blocker else {
            self.fanout.again(piece);
            return Ok(());
        };
        let draws = &mut *cx.draws;
        let (kind, clamp) = (BackoffKind::TxnLock, Some(blocker.wait));
        let wait = piece.backoff.next(kind, clamp, blocker.error(), |bound| draws.below(bound))?;
        cx.pause(tag, wait, WakeReason::LockWait);
        self.fanout.repark(tag, piece);
        Ok(())
    }
}

fn committed(at: Timestamp) -> CommitOutcome {
    let by = crate::operation::CommittedBy::TwoPhase;
    CommitOutcome::Committed { at, by, fallbacks: Default::default() }
}

/// An ending that may be a commit. Nothing is undone and nothing is retried: some later reader finds
/// out (§11).
fn undetermined(error: Error) -> Step {
    let error = Error::new(ErrorKind::Undetermined, "the commit may or may not have happened")
        .because(Some(error));
    Step::Done(Ok(Reply::Commit(CommitOutcome::Undetermined(error))))
}

/// A lock of a transaction that started later means that this one cannot succeed any more: that one
/// will commit after our start (§8.3).
fn newer(plan: &Plan, locks: &[Lock]) -> Option<Error> {
    let lock = locks.iter().find(|lock| lock.start_ts > plan.start_ts)?;
    Some(lock.as_conflict(plan.start_ts))
}

impl Job for PrewriteJob {
    fn len(&self) -> usize {
        self.0.mutations.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.0.mutations[index].key
    }

    fn weight(&self, index: usize) -> usize {
        self.0.mutations[index].size()
    }

    fn max_weight(&self) -> usize {
        self.0.batch_size
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let plan = &*self.0;
        let mutations: Vec<_> =
            plan.mutations[batch.piece.start..batch.piece.end].iter().map(to_proto).collect();
        // Of a regrouped batch nobody knows how many keys the region holds: «very many» keeps
        // resolvers from going key by key (§8.1, §22.18).
        let txn_size = batch.region_items.map_or(u64::MAX, |items| items as u64);
        let skip = kvrpcpb::prewrite_request::PessimisticAction::SkipPessimisticCheck;
        let message = kvrpcpb::PrewriteRequest {
            pessimistic_actions: vec![skip.into(); mutations.len()],
            mutations,
            primary_lock: plan.primary.clone(),
            start_version: plan.start_ts.version(),
            lock_ttl: plan.ttl_ms,
            txn_size,
            // Above zero, so that readers may push it (§8.1).
            min_commit_ts: plan.start_ts.next().version(),
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            ..CallSpec::write(Rpc::KvPrewrite, body, &cx.shared.config)
        }
    }
}

fn to_proto(mutation: &Mutation) -> kvrpcpb::Mutation {
    let (op, value) = match &mutation.op {
        MutationOp::Put(value) => (kvrpcpb::Op::Put, value.clone()),
        MutationOp::Insert(value) => (kvrpcpb::Op::Insert, value.clone()),
        MutationOp::Delete => (kvrpcpb::Op::Del, Key::new()),
        MutationOp::Lock => (kvrpcpb::Op::Lock, Key::new()),
        MutationOp::CheckNotExists => (kvrpcpb::Op::CheckNotExists, Key::new()),
    };
    kvrpcpb::Mutation { op: op.into(), key: mutation.key.clone(), value, ..Default::default() }
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
        let primary = batch.piece.start == 0;
        let role =
            if primary { kvrpcpb::CommitRole::Primary } else { kvrpcpb::CommitRole::Secondary };
        let message = kvrpcpb::CommitRequest {
            start_version: self.plan.start_ts.version(),
            keys: self.plan.locked[batch.piece.start..batch.piece.end].to_vec(),
            primary_key: self.plan.primary.clone(),
            commit_version: self.at.version(),
            commit_role: role.into(),
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            decisive: primary,
            ..CallSpec::write(Rpc::KvCommit, body, &cx.shared.config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transactions.md §12.1.
    #[test]
    fn a_lock_lives_longer_in_a_larger_transaction_and_from_its_start_on() {
        let ttl = |size, open_ms| lock_ttl(size, Duration::from_millis(open_ms));
        assert_eq!(ttl(100, 0), 3_000);
        assert_eq!(ttl((16 << 10) - 1, 0), 3_000);
        assert_eq!(ttl(16 << 10, 0), 3_000);
        assert_eq!(ttl(1 << 20, 0), 6_000);
        assert_eq!(ttl(4 << 20, 0), 12_000);
        assert_eq!(ttl(100 << 20, 0), 20_000);
        assert_eq!(ttl(100, 500), 3_500);
        assert_eq!(ttl(100 << 20, 700), 20_700);
    }

    fn plan(mutations: Vec<Mutation>) -> Result<Plan, Error> {
        let start_ts = Timestamp::from_version(5).unwrap();
        Plan::new(CommitPlan::new(start_ts, mutations), 16 << 10)
    }

    fn mutation(key: &'static str, op: MutationOp) -> Mutation {
        Mutation::new(key, op)
    }

    /// peers.md D14; transactions.md §22.32.
    #[test]
    fn d14_the_primary_is_a_key_that_is_locked() {
        let check = mutation("a", MutationOp::CheckNotExists);
        let put = mutation("b", MutationOp::Put("v".into()));
        let mixed = plan(vec![check.clone(), put]).unwrap();
        assert_eq!((mixed.primary, mixed.locked), (Key::from("b"), vec![Key::from("b")]));
        let checks = plan(vec![check]).unwrap();
        assert_eq!((checks.primary, checks.locked), (Key::from("a"), vec![]));
    }

    #[test]
    fn plans_that_make_no_sense_are_refused_before_anything_is_sent() {
        let put = |key| mutation(key, MutationOp::Put("v".into()));
        for bad in [vec![], vec![put("b"), put("a")], vec![put("a"), put("a")]] {
            assert_eq!(plan(bad).unwrap_err().kind(), &ErrorKind::InvalidArgument);
        }
    }
}
