//! Transactional calls: from request to action on the versions, from outcome to response.
//!
//! What the actions do is in [`crate::mvcc`]. Here: which keys a region must hold (all of them;
//! scans are clipped), which requests are reads at a timestamp, where an error goes in a response.

pub(crate) mod lock;
mod prewrite;

use std::collections::BTreeMap;

use anatase_proto::{
    errorpb,
    kvrpcpb::{
        Action, BatchGetRequest, BatchGetResponse, BatchRollbackRequest, BatchRollbackResponse,
        CheckSecondaryLocksRequest, CheckSecondaryLocksResponse, CheckTxnStatusRequest,
        CheckTxnStatusResponse, CleanupRequest, CleanupResponse, CommitRequest, CommitResponse,
        DeleteRangeRequest, DeleteRangeResponse, GetRequest, GetResponse, KvPair,
        MvccGetByKeyRequest, MvccGetByKeyResponse, MvccGetByStartTsRequest,
        MvccGetByStartTsResponse, ResolveLockRequest, ResolveLockResponse, ScanLockRequest,
        ScanLockResponse, ScanRequest, ScanResponse, TxnHeartBeatRequest, TxnHeartBeatResponse,
    },
};
use bytes::Bytes;

pub(crate) use self::{
    lock::{pessimistic_lock, pessimistic_rollback},
    prewrite::prewrite,
};
use crate::{
    Cluster,
    access::{Refusal, RegionError},
    api::Kind,
    call::Cx,
    codec::encode_key,
    mvcc::{
        Change, Key, KeyError,
        read::{ScanShape, View},
        secondary::Secondaries,
        status::{Status as TxnStatus, StatusCheck},
    },
};

pub(crate) fn get(cx: &mut Cx<'_>, request: GetRequest) -> Result<GetResponse, Refusal> {
    let key = cx.keys([request.key])?.remove(0);
    cx.read_at(request.version)?;
    let view =
        View { need_commit_ts: request.need_commit_ts, ..View::new(request.version, &cx.context) };
    let read = cx.check_txn_keys("get", [&key]).and_then(|()| cx.cluster.mvcc.get(&key, &view));
    Ok(match read {
        Ok(Some((value, commit_ts))) => GetResponse {
            value,
            commit_ts: if request.need_commit_ts { commit_ts } else { 0 },
            ..Default::default()
        },
        Ok(None) => GetResponse { not_found: true, ..Default::default() },
        Err(error) => GetResponse { error: error.boxed(), ..Default::default() },
    })
}

/// Absent keys are left out. A key that is locked is a pair with an error and no key.
pub(crate) fn batch_get(
    cx: &mut Cx<'_>,
    request: BatchGetRequest,
) -> Result<BatchGetResponse, Refusal> {
    let keys = cx.keys(request.keys)?;
    cx.read_at(request.version)?;
    if let Err(error) = cx.check_txn_keys("batch_get", &keys) {
        let pairs = vec![KvPair { error: error.boxed(), ..Default::default() }];
        return Ok(BatchGetResponse { error: error.boxed(), pairs, ..Default::default() });
    }
    let view =
        View { need_commit_ts: request.need_commit_ts, ..View::new(request.version, &cx.context) };
    let pairs = keys.into_iter().filter_map(|key| {
        Some(match cx.cluster.mvcc.get(&key, &view) {
            Ok(found) => {
                let (value, commit_ts) = found?;
                let commit_ts = if request.need_commit_ts { commit_ts } else { 0 };
                KvPair { key: key.user, value, commit_ts, ..Default::default() }
            }
            Err(error) => KvPair { error: error.boxed(), ..Default::default() },
        })
    });
    Ok(BatchGetResponse { pairs: pairs.collect(), ..Default::default() })
}

/// Forward from `start_key` up to `end_key`; in reverse from `start_key`, excluded, down to
/// `end_key`. Where it starts must be in the region; the other end is clipped.
pub(crate) fn scan(cx: &mut Cx<'_>, request: ScanRequest) -> Result<ScanResponse, Refusal> {
    // The start is a key even if it is empty: a reverse scan down from the empty key has no rows.
    let from = encode_key(&request.start_key);
    let to = end_bound(&request.end_key);
    let fit = cx.check_txn_range("scan", &from, &to);
    // TiKV seeks to the start, and a seek outside of the region fails.
    if !cx.region.contains_inclusive(&from) {
        return Err(cx.region.key_not_in_region(&from).into());
    }
    let (start, end) = if request.reverse { cx.clip(to, from) } else { cx.clip(from, to) };
    cx.read_at(request.version)?;
    let shape = ScanShape {
        limit: request.limit as usize,
        key_only: request.key_only,
        reverse: request.reverse,
        sample_step: request.sample_step as usize,
    };
    let view = View::new(request.version, &cx.context);
    let rows = fit.and_then(|()| cx.cluster.mvcc.scan(&start, &end, shape, &view));
    Ok(match rows {
        Ok(rows) => {
            let pairs = rows.into_iter().map(|row| match row {
                Ok((key, value)) => KvPair { key, value, ..Default::default() },
                Err(error) => KvPair { error: error.boxed(), ..Default::default() },
            });
            ScanResponse { pairs: pairs.collect(), ..Default::default() }
        }
        Err(error) => ScanResponse {
            pairs: vec![KvPair { error: error.boxed(), ..Default::default() }],
            error: error.boxed(),
            ..Default::default()
        },
    })
}

pub(crate) fn commit(cx: &mut Cx<'_>, request: CommitRequest) -> Result<CommitResponse, Refusal> {
    let keys = cx.keys(request.keys)?;
    let (start_ts, commit_ts) = (request.start_version, request.commit_version);
    Ok(match cx.cluster.mvcc.commit(&keys, start_ts, commit_ts) {
        Ok(changes) => {
            cx.cluster.mvcc.apply(changes);
            CommitResponse { commit_version: commit_ts, ..Default::default() }
        }
        Err(error) => CommitResponse { error: error.boxed(), ..Default::default() },
    })
}

/// Rolls back one key if its lock has ended. A committed key is no error: its commit timestamp is
/// told.
pub(crate) fn cleanup(
    cx: &mut Cx<'_>,
    request: CleanupRequest,
) -> Result<CleanupResponse, Refusal> {
    let key = cx.keys([request.key])?.remove(0);
    cx.note_read(request.start_version);
    Ok(match cx.cluster.mvcc.cleanup(&key, request.start_version, request.current_ts, true) {
        Ok(changes) => {
            cx.cluster.mvcc.apply(changes);
            CleanupResponse::default()
        }
        Err(KeyError::Committed { commit_ts, .. }) => {
            CleanupResponse { commit_version: commit_ts, ..Default::default() }
        }
        Err(error) => CleanupResponse { error: error.boxed(), ..Default::default() },
    })
}

pub(crate) fn batch_rollback(
    cx: &mut Cx<'_>,
    request: BatchRollbackRequest,
) -> Result<BatchRollbackResponse, Refusal> {
    let keys = cx.keys(request.keys)?;
    let error = cx.apply(|cluster| cluster.mvcc.rollback(&keys, request.start_version));
    Ok(BatchRollbackResponse { error, ..Default::default() })
}

pub(crate) fn heart_beat(
    cx: &mut Cx<'_>,
    request: TxnHeartBeatRequest,
) -> Result<TxnHeartBeatResponse, Refusal> {
    let key = cx.keys([request.primary_lock])?.remove(0);
    let (start_ts, advised) = (request.start_version, request.advise_lock_ttl);
    Ok(match cx.cluster.mvcc.heart_beat(&key, start_ts, advised) {
        Ok((lock_ttl, changes)) => {
            cx.cluster.mvcc.apply(changes);
            TxnHeartBeatResponse { lock_ttl, ..Default::default() }
        }
        Err(error) => TxnHeartBeatResponse { error: error.boxed(), ..Default::default() },
    })
}

pub(crate) fn check_txn_status(
    cx: &mut Cx<'_>,
    request: CheckTxnStatusRequest,
) -> Result<CheckTxnStatusResponse, Refusal> {
    let key = cx.keys([request.primary_key])?.remove(0);
    for ts in [request.lock_ts, request.current_ts, request.caller_start_ts] {
        cx.note_read(ts);
    }
    let check = StatusCheck {
        lock_ts: request.lock_ts,
        caller_start_ts: request.caller_start_ts,
        current_ts: request.current_ts,
        rollback_if_not_exist: request.rollback_if_not_exist,
        force_sync_commit: request.force_sync_commit,
        resolving_pessimistic_lock: request.resolving_pessimistic_lock,
        verify_is_primary: request.verify_is_primary,
    };
    let mut response = CheckTxnStatusResponse::default();
    match cx.cluster.mvcc.check_status(&key, check) {
        Ok((status, changes)) => {
            cx.cluster.mvcc.apply(changes);
            let action = match status {
                TxnStatus::Alive { lock, pushed } => {
                    response.lock_ttl = lock.ttl;
                    response.lock_info = Some(Box::new(lock.to_info(&lock.primary)));
                    if pushed { Action::MinCommitTsPushed } else { Action::NoAction }
                }
                TxnStatus::Committed(ts) => {
                    response.commit_version = ts;
                    Action::NoAction
                }
                TxnStatus::RolledBack => Action::NoAction,
                TxnStatus::Expired => Action::TtlExpireRollback,
                TxnStatus::PessimisticReleased => Action::TtlExpirePessimisticRollback,
                TxnStatus::Missing => Action::LockNotExistRollback,
                TxnStatus::MissingAndLeft => Action::LockNotExistDoNothing,
            };
            response.action = action as i32;
        }
        Err(error) => response.error = error.boxed(),
    }
    Ok(response)
}

/// That of locks of an async commit that are not its primary. It counts as a read: a transaction that
/// is rolled back by it must not be committed at its own start by another that falls there.
pub(crate) fn check_secondary_locks(
    cx: &mut Cx<'_>,
    request: CheckSecondaryLocksRequest,
) -> Result<CheckSecondaryLocksResponse, Refusal> {
    let keys = cx.keys(request.keys)?;
    cx.note_read(request.start_version);
    let (found, changes) = cx.cluster.mvcc.check_secondary_locks(keys, request.start_version);
    cx.cluster.mvcc.apply(changes);
    let mut response = CheckSecondaryLocksResponse::default();
    match found {
        Secondaries::Locked(locks) => {
            response.locks = locks.iter().map(|(key, lock)| lock.to_info(&key.user)).collect();
        }
        Secondaries::Committed(ts) => response.commit_ts = ts,
        Secondaries::RolledBack => {}
    }
    Ok(response)
}

/// Locks up to a timestamp, of any kind, in key order; a limit of 0 is none.
pub(crate) fn scan_lock(
    cx: &mut Cx<'_>,
    request: ScanLockRequest,
) -> Result<ScanLockResponse, Refusal> {
    let (low, high) = (end_bound(&request.start_key), end_bound(&request.end_key));
    if !low.is_empty() && !cx.region.contains_inclusive(&low) {
        return Err(cx.region.key_not_in_region(&low).into());
    }
    if let Err(error) = cx.check_txn_range("scan_lock", &low, &high) {
        return Ok(ScanLockResponse { error: error.boxed(), ..Default::default() });
    }
    let (start, end) = cx.clip(low, high);
    cx.note_read(request.max_version);
    let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    let locks = cx
        .cluster
        .mvcc
        .locks_between(&start, &end)
        .filter(|(_, _, lock)| lock.start_ts <= request.max_version)
        .take(limit)
        .map(|(_, key, lock)| lock.to_info(key));
    Ok(ScanLockResponse { locks: locks.collect(), ..Default::default() })
}

/// Three forms: these keys of one transaction; all locks of one transaction in the region; all
/// locks of several transactions in the region.
pub(crate) fn resolve_lock(
    cx: &mut Cx<'_>,
    request: ResolveLockRequest,
) -> Result<ResolveLockResponse, Refusal> {
    let (start_ts, commit_ts) = (request.start_version, request.commit_version);
    let keys = cx.keys(request.keys)?;
    let fates: BTreeMap<u64, u64> = match start_ts {
        0 => request.txn_infos.iter().map(|info| (info.txn, info.status)).collect(),
        _ => BTreeMap::from([(start_ts, commit_ts)]),
    };
    let (start, end) = (cx.region.start.clone(), cx.region.end.clone());
    let error = cx.apply(|cluster| {
        if keys.is_empty() {
            cluster.mvcc.resolve_range(&start, &end, &fates)
        } else {
            cluster.mvcc.resolve_keys(&keys, start_ts, commit_ts)
        }
    });
    Ok(ResolveLockResponse { error, ..Default::default() })
}

/// Removes all versions and locks of a range that the region must hold; with `notify_only`
/// nothing.
pub(crate) fn delete_range(
    cx: &mut Cx<'_>,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Refusal> {
    let (start, end) = (encode_key(&request.start_key), encode_key(&request.end_key));
    if let Err(KeyError::Abort(error)) = cx.check_txn_range("delete_range", &start, &end) {
        return Ok(DeleteRangeResponse { error, ..Default::default() });
    }
    cx.check_delete_range(&start, &end)?;
    if !request.notify_only {
        cx.cluster.mvcc.delete_range(&start, &end);
    }
    Ok(DeleteRangeResponse::default())
}

pub(crate) fn mvcc_get_by_key(
    cx: &mut Cx<'_>,
    request: MvccGetByKeyRequest,
) -> Result<MvccGetByKeyResponse, Refusal> {
    let key = cx.keys([request.key])?.remove(0);
    let info = Some(Box::new(cx.cluster.mvcc.info(&key)));
    Ok(MvccGetByKeyResponse { info, ..Default::default() })
}

pub(crate) fn mvcc_get_by_start_ts(
    cx: &mut Cx<'_>,
    request: MvccGetByStartTsRequest,
) -> Result<MvccGetByStartTsResponse, Refusal> {
    let (start, end) = (cx.region.start.clone(), cx.region.end.clone());
    let found = cx.cluster.mvcc.by_start_ts(&start, &end, request.start_ts);
    let (key, info) = found.unwrap_or_default();
    Ok(MvccGetByStartTsResponse { key, info: Some(Box::new(info)), ..Default::default() })
}

/// The memcomparable form of a bound, where an empty key is no bound.
fn end_bound(key: &Bytes) -> Bytes {
    if key.is_empty() { Bytes::new() } else { encode_key(key) }
}

impl Cx<'_> {
    /// The keys, all of which must be in the region.
    fn keys(&self, user: impl IntoIterator<Item = Bytes>) -> Result<Vec<Key>, RegionError> {
        let keys: Vec<Key> = user.into_iter().map(Key::new).collect();
        Cluster::check_keys(&self.region, keys.iter().map(|key| &key.encoded[..]))?;
        Ok(keys)
    }

    /// The memcomparable range, an empty end being unbounded, within the region.
    fn clip(&self, start: Bytes, end: Bytes) -> (Bytes, Bytes) {
        let bound = &self.region.end;
        let end = match (end.is_empty(), bound.is_empty()) {
            (true, _) => bound.clone(),
            (_, true) => end,
            _ => end.min(bound.clone()),
        };
        (start.max(self.region.start.clone()), end)
    }

    /// A read at a timestamp: remembered by the store that leads, unless it is a stale read, which
    /// is refused above the safe timestamp instead.
    fn read_at(&mut self, ts: u64) -> Result<(), RegionError> {
        if !self.context.stale_read {
            self.note_read(ts);
            return Ok(());
        }
        let safe_ts = self.cluster.safe_ts(&self.region);
        if ts <= safe_ts {
            return Ok(());
        }
        let peer_id = self.region.peer_on(self.at).map_or(0, |peer| peer.id);
        Err(Box::new(errorpb::Error {
            message: format!(
                "peer {peer_id} is not ready, safe_ts {safe_ts}, region {}",
                self.region.id
            ),
            data_is_not_ready: Some(Box::new(errorpb::DataIsNotReady {
                region_id: self.region.id,
                peer_id,
                safe_ts,
            })),
            ..Default::default()
        }))
    }

    fn note_read(&mut self, ts: u64) {
        let leader = self.region.leader.unwrap_or(self.at);
        if let Some(store) = self.cluster.stores.get_mut(&leader) {
            store.read_at(ts);
        }
    }

    /// Whether the request may have these keys.
    fn check_txn_keys<'k>(
        &self,
        command: &str,
        keys: impl IntoIterator<Item = &'k Key>,
    ) -> Result<(), KeyError> {
        let keys = keys.into_iter().map(|key| &key.encoded[..]);
        let version = self.context.api_version;
        self.cluster.check_keys_api(Kind::Txn, command, version, keys).map_err(KeyError::Abort)
    }

    /// Whether the request may have this range, in memcomparable form.
    fn check_txn_range(&self, command: &str, start: &[u8], end: &[u8]) -> Result<(), KeyError> {
        let version = self.context.api_version;
        let checked = self.cluster.check_ranges_api(Kind::Txn, command, version, [(start, end)]);
        checked.map_err(KeyError::Abort)
    }

    /// Makes the changes of an action; returns its error as a response has it.
    fn apply(
        &mut self,
        action: impl FnOnce(&Cluster) -> Result<Vec<Change>, KeyError>,
    ) -> Option<Box<anatase_proto::kvrpcpb::KeyError>> {
        match action(self.cluster) {
            Ok(changes) => {
                self.cluster.mvcc.apply(changes);
                None
            }
            Err(error) => error.boxed(),
        }
    }
}
