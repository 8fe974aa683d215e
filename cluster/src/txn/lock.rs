//! Requests for pessimistic locks, and their release (transactions.md §13.3 to §13.5).
//!
//! A request in normal mode is answered as a whole: `values` and `not_founds`, or an error. One in
//! fair locking (`ForceLock`) has one key and is answered key by key, in `results`; the error stands
//! beside a result that says `Failed`. What is wrong with the request as such is an error alone, in
//! both.

use std::time::Duration;

use anatase_proto::{
    kvrpcpb::{
        Assertion, Op, PessimisticLockKeyResult, PessimisticLockKeyResultType as ResultType,
        PessimisticLockRequest, PessimisticLockResponse, PessimisticLockWakeUpMode as WakeUpMode,
        PessimisticRollbackRequest, PessimisticRollbackResponse,
    },
    rpc::Rpc,
};
use bytes::Bytes;

use crate::{
    Cluster,
    access::{Refusal, RegionError},
    answer::Status,
    call::Cx,
    faults::Call,
    lock_wait::Waiter,
    mvcc::{
        Key, KeyError,
        pessimistic::{Acquire, Acquired},
    },
};

/// All keys are locked, or none is: at the first that is locked by another transaction the request
/// is parked, and none of its keys is locked meanwhile.
pub(crate) fn pessimistic_lock(
    cx: &mut Cx<'_>,
    request: PessimisticLockRequest,
) -> Result<PessimisticLockResponse, Refusal> {
    let failed_outright = |error: &KeyError| {
        Ok(PessimisticLockResponse { errors: vec![error.to_proto()], ..Default::default() })
    };
    let mut keys = Vec::with_capacity(request.mutations.len());
    for mutation in &request.mutations {
        match Op::try_from(mutation.op) {
            Ok(Op::PessimisticLock) => {
                let absent = mutation.assertion == Assertion::NotExist as i32;
                keys.push((Key::new(mutation.key.clone()), absent));
            }
            Ok(Op::SharedPessimisticLock) => {
                let text = Status::unmodelled("a shared lock").message;
                return failed_outright(&KeyError::Abort(text));
            }
            Ok(
                Op::Put
                | Op::Del
                | Op::Lock
                | Op::Rollback
                | Op::Insert
                | Op::CheckNotExists
                | Op::SharedLock,
            )
            | Err(_) => {
                // TiKV panics here.
                return failed_outright(&KeyError::Abort(format!(
                    "mismatch Op {} in pessimistic lock mutations",
                    mutation.op
                )));
            }
        }
    }
    let names = keys.iter().map(|(key, _)| key);
    if let Err(error) = cx.check_txn_keys("acquire_pessimistic_lock", names.clone()) {
        return failed_outright(&error);
    }
    if let Err(text) = cx.cluster.check_key_sizes(names.clone().map(|key| &key.encoded)) {
        return failed_outright(&KeyError::Abort(text));
    }
    Cluster::check_keys(&cx.region, names.map(|key| &key.encoded[..]))?;
    let force = request.wake_up_mode == WakeUpMode::WakeUpModeForceLock as i32;
    if force && keys.len() > 1 {
        return failed_outright(&KeyError::Abort(
            "multiple keys in a single request with allowed_lock_with_conflict set is not allowed"
                .to_owned(),
        ));
    }
    let acquire = Acquire {
        primary: request.primary_lock,
        start_ts: request.start_version,
        ttl: request.lock_ttl,
        for_update_ts: request.for_update_ts,
        min_commit_ts: request.min_commit_ts,
        return_values: request.return_values,
        check_existence: request.check_existence,
        lock_only_if_exists: request.lock_only_if_exists,
        force,
    };
    let mut acquired = Vec::with_capacity(keys.len());
    let mut changes = Vec::with_capacity(keys.len());
    for (key, absent) in keys {
        if acquire.reads(absent) {
            cx.note_read(acquire.for_update_ts);
        }
        match cx.cluster.mvcc.acquire(&acquire, &key, absent) {
            Ok((told, change)) => {
                acquired.push(told);
                changes.extend(change);
            }
            Err(KeyError::Locked(lock)) => {
                let Some(wait) = cx.may_wait(request.wait_timeout) else {
                    return Ok(failed(force, &KeyError::Locked(lock)));
                };
                let waiter = Waiter {
                    at: cx.at,
                    context: cx.context.clone(),
                    // Slices of a received frame: copies let the frame go.
                    key: Key::new(Bytes::copy_from_slice(&key.user)),
                    absent,
                    request: Acquire {
                        primary: Bytes::copy_from_slice(&acquire.primary),
                        ..acquire
                    },
                    is_first_lock: request.is_first_lock,
                    wait,
                    lock: *lock,
                };
                return match cx.cluster.park(waiter) {
                    Ok(ticket) => Err(Refusal::Parked(ticket)),
                    Err(deadlock) => Ok(failed(force, &deadlock)),
                };
            }
            Err(error) => return failed_outright(&error),
        }
    }
    cx.cluster.mvcc.apply(changes);
    Ok(locked(force, acquired))
}

/// Of these keys, or of all of the region. Locks that are none of the transaction's, prewritten, or
/// of a later `for_update_ts` are passed over in silence.
pub(crate) fn pessimistic_rollback(
    cx: &mut Cx<'_>,
    request: PessimisticRollbackRequest,
) -> Result<PessimisticRollbackResponse, Refusal> {
    let keys = cx.keys(request.keys)?;
    let (start_ts, for_update_ts) = (request.start_version, request.for_update_ts);
    let mvcc = &mut cx.cluster.mvcc;
    let changes = if keys.is_empty() {
        let (start, end) = (&cx.region.start, &cx.region.end);
        mvcc.pessimistic_rollback_range(start, end, start_ts, for_update_ts)
    } else {
        mvcc.pessimistic_rollback(&keys, start_ts, for_update_ts)
    };
    mvcc.apply(changes);
    Ok(PessimisticRollbackResponse::default())
}

/// The answer to a request whose keys are locked.
pub(crate) fn locked(force: bool, acquired: Vec<Acquired>) -> PessimisticLockResponse {
    let mut response = PessimisticLockResponse::default();
    for told in acquired {
        if force {
            response.results.push(key_result(told));
            continue;
        }
        match told {
            // In normal mode nothing is locked with a conflict.
            Acquired::Nothing | Acquired::WithConflict { .. } => {}
            Acquired::Existence(exists) => response.not_founds.push(!exists),
            Acquired::Value(value) => {
                response.not_founds.push(value.is_none());
                response.values.push(value.unwrap_or_default());
            }
        }
    }
    response
}

fn key_result(told: Acquired) -> PessimisticLockKeyResult {
    let mut result = PessimisticLockKeyResult {
        r#type: ResultType::LockResultNormal as i32,
        ..Default::default()
    };
    match told {
        Acquired::Nothing => {}
        Acquired::Existence(exists) => result.existence = exists,
        Acquired::Value(value) => {
            result.existence = value.is_some();
            result.value = value.unwrap_or_default();
        }
        Acquired::WithConflict { value, conflict_ts } => {
            result.r#type = ResultType::LockResultLockedWithConflict as i32;
            result.existence = value.is_some();
            result.value = value.unwrap_or_default();
            result.locked_with_conflict_ts = conflict_ts;
        }
    }
    result
}

/// The answer to a request that met a lock, and got no further.
pub(crate) fn failed(force: bool, error: &KeyError) -> PessimisticLockResponse {
    PessimisticLockResponse {
        errors: vec![error.to_proto()],
        results: no_results(force),
        ..Default::default()
    }
}

/// The answer to a request that was parked when its region or leader changed.
pub(crate) fn refused(force: bool, error: RegionError) -> PessimisticLockResponse {
    PessimisticLockResponse {
        region_error: Some(error),
        results: no_results(force),
        ..Default::default()
    }
}

fn no_results(force: bool) -> Vec<PessimisticLockKeyResult> {
    let result = PessimisticLockKeyResult {
        r#type: ResultType::LockResultFailed as i32,
        ..Default::default()
    };
    if force { vec![result] } else { Vec::new() }
}

impl Cx<'_> {
    /// How long a request may be parked, if at all: negative is not, 0 as long as the store allows,
    /// and no request longer.
    fn may_wait(&mut self, timeout_ms: i64) -> Option<Duration> {
        let asked = u64::try_from(timeout_ms).ok()?;
        let call = Call {
            rpc: Rpc::KvPessimisticLock,
            store: Some(self.at),
            member: None,
            region: Some(self.region.id),
        };
        if self.cluster.faults.strike_wait(&call) {
            return None;
        }
        let most = self.cluster.config.wait_for_lock_timeout;
        Some(if asked == 0 { most } else { most.min(Duration::from_millis(asked)) })
    }
}
