//! Requests and answers, to be read by people.

use anatase_core::wire::{Request, Response};
use anatase_core::{CommitOutcome, Failure, Reply};
use anatase_proto::kvrpcpb;
use anatase_proto::prost::Message;
use anatase_proto::rpc::Rpc;
use bytes::Bytes;

use crate::history::{held, text};
use crate::network::What;

/// A timestamp, as the milliseconds of the world and what is counted within one.
pub(super) fn ts(ts: u64) -> String {
    match ts {
        0 => "none".to_owned(),
        u64::MAX => "max".to_owned(),
        _ => {
            let ms = anatase_cluster::timestamp::physical(ts);
            let logical = ts & ((1 << 18) - 1);
            format!("{}.{logical}", ms.saturating_sub(super::ORIGIN_MS))
        }
    }
}

fn keys<'a>(keys: impl IntoIterator<Item = &'a Bytes>) -> String {
    let keys: Vec<String> = keys.into_iter().map(|key| text(key)).collect();
    keys.join(", ")
}

fn body<M: Message + Default>(request: &Request) -> M {
    M::decode(request.body.clone()).unwrap_or_default()
}

pub(super) fn what(what: &What) -> String {
    match what {
        What::Timestamps(_) => "a timestamp".to_owned(),
        What::Call(request) => call(request),
    }
}

fn call(request: &Request) -> String {
    match request.rpc {
        Rpc::KvGet => {
            let it: kvrpcpb::GetRequest = body(request);
            format!("get {} @{}", text(&it.key), ts(it.version))
        }
        Rpc::KvBatchGet => {
            let it: kvrpcpb::BatchGetRequest = body(request);
            format!("get {} @{}", keys(&it.keys), ts(it.version))
        }
        Rpc::KvPrewrite => {
            let it: kvrpcpb::PrewriteRequest = body(request);
            let written = keys(it.mutations.iter().map(|mutation| &mutation.key));
            let mut line = format!(
                "prewrite {written} of @{}, primary {}",
                ts(it.start_version),
                text(&it.primary_lock)
            );
            if it.use_async_commit {
                line.push_str(", async");
            }
            if it.try_one_pc {
                line.push_str(", in one phase");
            }
            line
        }
        Rpc::KvCommit => {
            let it: kvrpcpb::CommitRequest = body(request);
            let (start, at) = (ts(it.start_version), ts(it.commit_version));
            format!("commit {} of @{start} at @{at}", keys(&it.keys))
        }
        Rpc::KvPessimisticLock => {
            let it: kvrpcpb::PessimisticLockRequest = body(request);
            let locked = keys(it.mutations.iter().map(|mutation| &mutation.key));
            let (start, at) = (ts(it.start_version), ts(it.for_update_ts));
            format!("lock {locked} of @{start} as of @{at}, primary {}", text(&it.primary_lock))
        }
        Rpc::KvPessimisticRollback => {
            let it: kvrpcpb::PessimisticRollbackRequest = body(request);
            format!("unlock {} of @{}", keys(&it.keys), ts(it.start_version))
        }
        Rpc::KvBatchRollback => {
            let it: kvrpcpb::BatchRollbackRequest = body(request);
            format!("roll back {} of @{}", keys(&it.keys), ts(it.start_version))
        }
        Rpc::KvCheckTxnStatus => {
            let it: kvrpcpb::CheckTxnStatusRequest = body(request);
            format!("what became of @{}, primary {}?", ts(it.lock_ts), text(&it.primary_key))
        }
        Rpc::KvCheckSecondaryLocks => {
            let it: kvrpcpb::CheckSecondaryLocksRequest = body(request);
            format!("are {} of @{} locked?", keys(&it.keys), ts(it.start_version))
        }
        Rpc::KvResolveLock => {
            let it: kvrpcpb::ResolveLockRequest = body(request);
            let those = if it.keys.is_empty() { "all".to_owned() } else { keys(&it.keys) };
            match (it.txn_infos.first(), it.commit_version) {
                (Some(_), _) => {
                    let one = |info: &kvrpcpb::TxnInfo| match info.status {
                        0 => format!("@{} rolled back", ts(info.txn)),
                        at => format!("@{} committed at @{}", ts(info.txn), ts(at)),
                    };
                    let infos: Vec<String> = it.txn_infos.iter().map(one).collect();
                    format!("resolve {}", infos.join(", "))
                }
                (None, 0) => format!("resolve {those} of @{}: rolled back", ts(it.start_version)),
                (None, at) => {
                    let start = ts(it.start_version);
                    format!("resolve {those} of @{start}: committed at @{}", ts(at))
                }
            }
        }
        Rpc::KvTxnHeartBeat => {
            let it: kvrpcpb::TxnHeartBeatRequest = body(request);
            format!("keep @{} alive for {} ms", ts(it.start_version), it.advise_lock_ttl)
        }
        other => format!("{other:?}"),
    }
}

fn error(error: &kvrpcpb::KeyError) -> String {
    if let Some(lock) = &error.locked {
        return format!("{} is locked by @{}", text(&lock.key), ts(lock.lock_version));
    }
    if let Some(conflict) = &error.conflict {
        let (start, at) = (ts(conflict.conflict_ts), ts(conflict.conflict_commit_ts));
        return format!("conflict on {} with @{start}, committed at @{at}", text(&conflict.key));
    }
    if let Some(expired) = &error.commit_ts_expired {
        return format!("not below @{}", ts(expired.min_commit_ts));
    }
    if error.txn_not_found.is_some() {
        return "no such transaction".to_owned();
    }
    if error.deadlock.is_some() {
        return "deadlock".to_owned();
    }
    if !error.retryable.is_empty() {
        return error.retryable.clone();
    }
    format!("{error:?}")
}

fn lock(lock: &kvrpcpb::LockInfo) -> String {
    let (key, start) = (text(&lock.key), ts(lock.lock_version));
    format!(
        "{key} locked by @{start}, ttl {}, min commit @{}",
        lock.lock_ttl,
        ts(lock.min_commit_ts)
    )
}

fn or_done(
    region: Option<&anatase_proto::errorpb::Error>,
    key: Option<&kvrpcpb::KeyError>,
    done: impl FnOnce() -> String,
) -> String {
    match (region, key) {
        (Some(region), _) => {
            let name = region.message.split([' ', '{']).next().unwrap_or_default();
            format!("region error {name}")
        }
        (None, Some(key)) => error(key),
        (None, None) => done(),
    }
}

fn pairs(pairs: &[kvrpcpb::KvPair]) -> String {
    let one = |pair: &kvrpcpb::KvPair| match &pair.error {
        Some(it) => error(it),
        None => format!("{} is \"{}\"", text(&pair.key), text(&pair.value)),
    };
    let all: Vec<String> = pairs.iter().map(one).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

pub(super) fn answer(answer: &Result<Response, Failure>) -> String {
    let done = || "done".to_owned();
    match answer {
        Err(Failure::NotSent(reason)) => format!("not sent: {}", reason.text),
        Err(Failure::MaybeExecuted(reason)) => format!("maybe executed: {}", reason.text),
        Ok(Response::Timestamps(batch)) => format!("@{}", ts(batch.last.version())),
        Ok(Response::Get(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), || match it.not_found {
                true => "nothing".to_owned(),
                false => format!("\"{}\"", text(&it.value)),
            })
        }
        Ok(Response::BatchGet(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), || pairs(&it.pairs))
        }
        Ok(Response::Prewrite(it)) => {
            or_done(it.region_error.as_deref(), it.errors.first(), || {
                match (it.min_commit_ts, it.one_pc_commit_ts) {
                    (0, 0) => "locked".to_owned(),
                    (min, 0) => format!("locked, min commit @{}", ts(min)),
                    (_, at) => format!("committed at @{}", ts(at)),
                }
            })
        }
        Ok(Response::Commit(it)) => or_done(it.region_error.as_deref(), it.error.as_deref(), done),
        Ok(Response::BatchRollback(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), done)
        }
        Ok(Response::PessimisticLock(it)) => {
            or_done(it.region_error.as_deref(), it.errors.first(), || {
                let conflict = it.results.iter().find(|one| one.locked_with_conflict_ts != 0);
                match conflict {
                    Some(one) => {
                        format!("locked, and newer is @{}", ts(one.locked_with_conflict_ts))
                    }
                    None => "locked".to_owned(),
                }
            })
        }
        Ok(Response::PessimisticRollback(it)) => {
            or_done(it.region_error.as_deref(), it.errors.first(), done)
        }
        Ok(Response::TxnHeartBeat(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), done)
        }
        Ok(Response::CheckTxnStatus(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), || {
                let action = kvrpcpb::Action::try_from(it.action).unwrap_or_default();
                match (&it.lock_info, it.lock_ttl, it.commit_version) {
                    (Some(it), 1.., _) => format!("alive ({action:?}): {}", lock(it)),
                    (None, 1.., _) => format!("alive for {} ms ({action:?})", it.lock_ttl),
                    (_, 0, 0) => format!("rolled back ({action:?})"),
                    (_, 0, at) => format!("committed at @{}", ts(at)),
                }
            })
        }
        Ok(Response::ResolveLock(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), done)
        }
        Ok(Response::CheckSecondaryLocks(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), || {
                if it.commit_ts != 0 {
                    return format!("committed at @{}", ts(it.commit_ts));
                }
                let locks: Vec<String> = it.locks.iter().map(lock).collect();
                if locks.is_empty() { "no locks".to_owned() } else { locks.join("; ") }
            })
        }
        Ok(Response::ScanLock(it)) => {
            or_done(it.region_error.as_deref(), it.error.as_deref(), || {
                let locks: Vec<String> = it.locks.iter().map(lock).collect();
                if locks.is_empty() { "no locks".to_owned() } else { locks.join("; ") }
            })
        }
        Ok(_) => "an answer".to_owned(),
    }
}

pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Done => "done".to_owned(),
        Reply::Timestamp(at) => format!("timestamp @{}", ts(at.version())),
        Reply::Values(values) => {
            let all: Vec<String> = values.iter().map(|value| held(value.as_deref())).collect();
            all.join(", ")
        }
        Reply::Commit(CommitOutcome::Committed { at, by, .. }) => {
            format!("COMMITTED at @{} {by:?}", ts(at.version()))
        }
        Reply::Commit(CommitOutcome::Aborted(error)) => format!("ABORTED: {error}"),
        Reply::Commit(CommitOutcome::Undetermined(error)) => format!("UNDETERMINED: {error}"),
        Reply::Locked(it) => {
            let locked: Vec<String> = it.keys.iter().map(|key| text(&key.key)).collect();
            format!("locked {}", locked.join(", "))
        }
        Reply::LocksResolved(it) => format!("{} locks resolved", it.locks),
        other => format!("{other:?}"),
    }
}
