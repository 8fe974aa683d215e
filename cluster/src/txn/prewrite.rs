//! Prewrite: which mutations a request may have, how it may be committed, what is answered.

use anatase_proto::{
    errorpb,
    kvrpcpb::{
        Assertion, AssertionLevel, Op as WireOp, PrewriteRequest, PrewriteResponse,
        prewrite_request::PessimisticAction as Action,
    },
    rpc::Rpc,
};

use crate::{
    Cluster,
    access::{Refusal, RegionError},
    call::Cx,
    faults::Call,
    mvcc::{
        Key, KeyError,
        prewrite::{Check, Mutation, Op, Prewrite, Ways},
    },
};

/// Async commit and one-phase commit need to know what was read here: a leader that does not know
/// it yet refuses them with `MaxTimestampNotSynced` (transactions.md §20.3). Where one falls back,
/// `min_commit_ts` and `one_pc_commit_ts` are 0, which tells the client so (§8.4).
pub(crate) fn prewrite(
    cx: &mut Cx<'_>,
    request: PrewriteRequest,
) -> Result<PrewriteResponse, Refusal> {
    let pessimistic = request.for_update_ts != 0;
    let failed = |error: KeyError| {
        Ok(PrewriteResponse { errors: vec![error.to_proto()], ..Default::default() })
    };
    let mut mutations = Vec::with_capacity(request.mutations.len());
    let mut size = 0;
    if pessimistic && request.pessimistic_actions.len() != request.mutations.len() {
        // TiKV drops what has no action, silently.
        return failed(KeyError::Abort(format!(
            "{} pessimistic actions for {} mutations",
            request.pessimistic_actions.len(),
            request.mutations.len()
        )));
    }
    for (at, mutation) in request.mutations.into_iter().enumerate() {
        let op = match WireOp::try_from(mutation.op) {
            Ok(WireOp::Put) => Op::Put,
            Ok(WireOp::Del) => Op::Delete,
            Ok(WireOp::Lock) => Op::Lock,
            Ok(WireOp::Insert) => Op::Insert,
            Ok(WireOp::CheckNotExists) if pessimistic => {
                return failed(KeyError::Abort(
                    "cannot handle checkNotExists in pessimistic prewrite".to_owned(),
                ));
            }
            Ok(WireOp::CheckNotExists) => Op::CheckNotExists,
            Ok(
                WireOp::Rollback
                | WireOp::PessimisticLock
                | WireOp::SharedLock
                | WireOp::SharedPessimisticLock,
            )
            | Err(_) => {
                return failed(KeyError::Abort(format!(
                    "mismatch Op {} in prewrite mutations",
                    mutation.op
                )));
            }
        };
        size += mutation.key.len() + mutation.value.len();
        mutations.push(Mutation {
            op,
            key: Key::new(mutation.key),
            value: mutation.value,
            assertion: Assertion::try_from(mutation.assertion).unwrap_or(Assertion::None),
            check: match request.pessimistic_actions.get(at).map(|it| Action::try_from(*it)) {
                None | Some(Ok(Action::SkipPessimisticCheck)) => Check::Skip,
                Some(Ok(Action::DoPessimisticCheck)) => Check::Lock,
                Some(Ok(Action::DoConstraintCheck)) => Check::Constraint,
                // An optimistic request may say here what it likes.
                Some(Err(_)) if !pessimistic => Check::Skip,
                Some(Err(error)) => return failed(KeyError::Abort(error.to_string())),
            },
            expected: None,
        });
    }
    for constraint in request.for_update_ts_constraints.iter().filter(|_| pessimistic) {
        match mutations.get_mut(constraint.index as usize) {
            Some(mutation) => mutation.expected = Some(constraint.expected_for_update_ts),
            None => {
                return failed(KeyError::Abort(format!(
                    "a constraint on mutation {} of {}",
                    constraint.index,
                    mutations.len()
                )));
            }
        }
    }
    if request.use_async_commit || request.try_one_pc {
        cx.check_max_ts(request.start_version)?;
    }
    if let Err(error) = cx.check_txn_keys("prewrite", mutations.iter().map(|it| &it.key)) {
        return failed(error);
    }
    // Unlike a raw key's, this size is that of the memcomparable form.
    let encoded = mutations.iter().map(|mutation| &mutation.key.encoded);
    if let Err(text) = cx.cluster.check_key_sizes(encoded.clone()) {
        return failed(KeyError::Abort(text));
    }
    Cluster::check_keys(&cx.region, encoded.map(|key| &key[..]))?;
    cx.cluster.check_entry_size(&cx.region, size)?;
    if mutations.iter().any(|mutation| mutation.op.wants_absence()) {
        cx.note_read(request.start_version);
    }
    let refused = (request.use_async_commit || request.try_one_pc)
        && cx.falls_back(request.use_async_commit, request.try_one_pc);
    let prewrite = Prewrite {
        primary: request.primary_lock,
        start_ts: request.start_version,
        for_update_ts: pessimistic.then_some(request.for_update_ts),
        // Whoever sends one to a committed transaction repeats it, whatever it says.
        retried: cx.context.is_retry_request
            || cx.cluster.mvcc.is_known_committed(request.start_version),
        ttl: request.lock_ttl,
        txn_size: request.txn_size,
        min_commit_ts: request.min_commit_ts,
        assertion_level: AssertionLevel::try_from(request.assertion_level)
            .unwrap_or(AssertionLevel::Off),
        skip_constraint_check: request.skip_constraint_check,
        ways: Ways {
            secondaries: request.use_async_commit.then_some(request.secondaries),
            one_phase: request.try_one_pc,
            max_commit_ts: request.max_commit_ts,
            max_ts: cx.max_ts(),
            for_update_ts: request.for_update_ts,
            refused,
        },
    };
    match cx.cluster.mvcc.prewrite(&prewrite, mutations) {
        Ok(done) => {
            cx.cluster.mvcc.apply(done.changes);
            Ok(PrewriteResponse {
                errors: done.blocked.iter().map(KeyError::to_proto).collect(),
                min_commit_ts: done.min_commit_ts,
                one_pc_commit_ts: done.one_pc_commit_ts,
                ..Default::default()
            })
        }
        Err(error) => failed(error),
    }
}

impl Cx<'_> {
    /// The largest timestamp that the leader's store has read at.
    fn max_ts(&self) -> u64 {
        let leader = self.region.leader.unwrap_or(self.at);
        self.cluster.stores.get(&leader).map_or(0, |store| store.max_ts)
    }

    fn check_max_ts(&mut self, start_ts: u64) -> Result<(), RegionError> {
        if self.cluster.has_synced_max_ts(self.region.id) {
            return Ok(());
        }
        Err(Box::new(errorpb::Error {
            message: format!(
                "prewrite for txn {start_ts} may fail because max timestamp of region {} is not \
                 synced",
                self.region.id
            ),
            max_timestamp_not_synced: Some(Box::new(errorpb::MaxTimestampNotSynced {})),
            ..Default::default()
        }))
    }

    /// Whether a fault makes this request fall back to two-phase commit.
    fn falls_back(&mut self, async_commit: bool, one_phase: bool) -> bool {
        let call = Call {
            rpc: Rpc::KvPrewrite,
            store: Some(self.at),
            member: None,
            region: Some(self.region.id),
        };
        self.cluster.faults.strike_way(&call, async_commit, one_phase)
    }
}
