//! Answers, understood.
//!
//! A response is taken apart here, once, and becomes a value that can only be what the protocol
//! allows. Region errors have been taken out before ([`Response::take_region_error`]): what comes
//! here was served by the region.
//!
//! Everywhere an `Err` is the error with which the operation ends. [`ErrorKind::Protocol`] says that
//! the answer makes no sense (another message than the one that answers the request, a lock without
//! owner): nothing follows from it about what the store did.

use anatase_proto::{errorpb, kvrpcpb};

use crate::error::{Error, ErrorKind};
use crate::operation::{Key, KvPair, Value};
use crate::timestamp::Timestamp;
use crate::wire::Response;
use crate::wire::key_error::{self, KeyError};

pub(crate) use crate::wire::key_error::{Lock, impossible};
pub(crate) use crate::wire::lock_reply::{
    LockAnswer, LockQuestion, pessimistic_lock, pessimistic_rollback, txn_heart_beat,
};
pub(crate) use crate::wire::pd_reply::{
    LoadedRegion, Members, external_timestamp, keyspace, knows_region, members, min_timestamp,
    region, regions, set_external_timestamp, store_address, txn_safe_point,
};
pub(crate) use crate::wire::raw_reply::{
    raw_batch_delete, raw_batch_get, raw_batch_put, raw_checksum, raw_compare_and_swap,
    raw_coprocessor, raw_delete, raw_delete_range, raw_get, raw_get_key_ttl, raw_put, raw_scan,
};
pub(crate) use crate::wire::resolve_reply::{SecondariesReply, check_secondary_locks, scan_lock};

/// Answers `KvGet`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GetReply {
    /// The value, or that there is none.
    Value(Option<Value>),
    /// It cannot be told before these locks are looked into. Not empty.
    Locked(Vec<Lock>),
}

/// Answers `KvBatchGet` and `KvScan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PairsReply {
    /// What could be read. Of a scan this is worth nothing if there are locks: pairs may be missing
    /// between those given.
    pub(crate) pairs: Vec<KvPair>,
    /// What was in the way.
    pub(crate) locks: Vec<Lock>,
}

/// Answers `KvPrewrite`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PrewriteReply {
    /// Every mutation of the request has its lock, or is committed already.
    Landed {
        /// The earliest commit that the locks allow; `None` if async commit was not asked for, or
        /// not possible.
        min_commit_ts: Option<Timestamp>,
        /// It is committed in one phase, at this timestamp.
        one_pc_commit_ts: Option<Timestamp>,
    },
    /// These locks are in the way; nothing of the request was written. Not empty.
    Locked(Vec<Lock>),
    /// The transaction cannot go on; nothing of the request was written.
    Refused(Error),
    /// The store gives up for a reason that it has no other word for, which may be a failure of the
    /// write itself: no certainty that nothing was written.
    GivenUp(Error),
}

/// Answers `KvCommit`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CommitReply {
    /// All keys of the request are committed.
    Done {
        /// The commit timestamp that the store names, if it does.
        commit_ts: Option<Timestamp>,
    },
    /// Nothing of the request is committed: a reader has pushed the earliest commit beyond the
    /// timestamp asked for.
    Expired { key: Key, attempted: u64, min_commit_ts: Timestamp },
    /// Nothing of the request is committed, nor will be.
    Refused(Error),
}

/// Answers `KvCheckTxnStatus` (`transactions.md` §2.2, §20.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TxnStatus {
    /// The primary is locked: the transaction may commit yet.
    Alive {
        /// Milliseconds that the lock lives, counted from the transaction's start.
        ttl_ms: u64,
        /// It will not commit at or before the timestamp of the caller.
        pushed: bool,
        /// The primary's lock, where the store sends it.
        lock: Option<Box<Lock>>,
    },
    /// Final.
    Committed(Timestamp),
    /// Final.
    RolledBack,
    /// There is no trace of it, and none was left.
    NotFound,
    /// The key is not its primary: this lock of it names another.
    PrimaryMismatch(Box<Lock>),
    /// There is no pessimistic lock on the primary. Says nothing about the transaction: it may go on
    /// with another primary.
    PessimisticGone {
        /// There was one until now, which had outlived its time and was released; else there was
        /// none.
        expired: bool,
    },
}

/// The error for the answer to something else.
pub(super) fn another(asked: &str) -> Error {
    impossible(&format!("the answer to {asked} is another message"))
}

impl Response {
    /// Takes the region error out, if there is one. What is left may then be read.
    pub(crate) fn take_region_error(&mut self) -> Option<Box<errorpb::Error>> {
        match self {
            Self::Get(message) => message.region_error.take(),
            Self::BatchGet(message) => message.region_error.take(),
            Self::Scan(message) => message.region_error.take(),
            Self::Prewrite(message) => message.region_error.take(),
            Self::Commit(message) => message.region_error.take(),
            Self::BatchRollback(message) => message.region_error.take(),
            Self::PessimisticLock(message) => message.region_error.take(),
            Self::PessimisticRollback(message) => message.region_error.take(),
            Self::TxnHeartBeat(message) => message.region_error.take(),
            Self::CheckTxnStatus(message) => message.region_error.take(),
            Self::ResolveLock(message) => message.region_error.take(),
            Self::CheckSecondaryLocks(message) => message.region_error.take(),
            Self::ScanLock(message) => message.region_error.take(),
            Self::RawGet(message) => message.region_error.take(),
            Self::RawPut(message) => message.region_error.take(),
            Self::RawDelete(message) => message.region_error.take(),
            Self::RawBatchGet(message) => message.region_error.take(),
            Self::RawBatchPut(message) => message.region_error.take(),
            Self::RawBatchDelete(message) => message.region_error.take(),
            Self::RawScan(message) => message.region_error.take(),
            Self::RawGetKeyTtl(message) => message.region_error.take(),
            Self::RawCompareAndSwap(message) => message.region_error.take(),
            Self::RawDeleteRange(message) => message.region_error.take(),
            Self::RawChecksum(message) => message.region_error.take(),
            Self::RawCoprocessor(message) => message.region_error.take(),
            Self::GetMembers(_)
            | Self::GetRegion(_)
            | Self::GetPrevRegion(_)
            | Self::GetRegionById(_)
            | Self::ScanRegions(_)
            | Self::BatchScanRegions(_)
            | Self::GetStore(_)
            | Self::HealthCheck(_)
            | Self::LoadKeyspace(_)
            | Self::GetMinTs(_)
            | Self::GetExternalTimestamp(_)
            | Self::GetGcState(_)
            | Self::SetExternalTimestamp(_)
            | Self::Timestamps(_) => None,
        }
    }
}

/// Takes the message that answers the request out of a response.
macro_rules! message_of {
    ($response:expr, $variant:ident) => {{
        let Response::$variant(message) = $response else {
            return Err(another(stringify!($variant)));
        };
        message
    }};
}
pub(super) use message_of;

// ---- snapshot ------------------------------------------------------------------------------

/// The locks of an error that consists of locks; any other error.
fn only_locks(error: kvrpcpb::KeyError) -> Result<Vec<Lock>, Error> {
    match KeyError::from_proto(error) {
        KeyError::Locked(locks) => Ok(locks),
        other => Err(other.into_error()),
    }
}

/// A transaction cannot write an empty value, so an empty one means that there is none; `not_found`
/// is not consulted (wire.md §3.4).
pub(crate) fn get(response: Response) -> Result<GetReply, Error> {
    let message = message_of!(response, Get);
    if let Some(error) = message.error {
        return Ok(GetReply::Locked(only_locks(*error)?));
    }
    let value = message.value;
    Ok(GetReply::Value(if value.is_empty() { None } else { Some(value) }))
}

pub(crate) fn batch_get(response: Response) -> Result<PairsReply, Error> {
    let message = message_of!(response, BatchGet);
    let mut reply = pairs(message.pairs, message.error)?;
    reply.pairs.retain(|pair| !pair.value.is_empty());
    Ok(reply)
}

/// Empty values stay: a scan for keys only has no others.
pub(crate) fn scan(response: Response) -> Result<PairsReply, Error> {
    let message = message_of!(response, Scan);
    pairs(message.pairs, message.error)
}

fn pairs(
    pairs: Vec<kvrpcpb::KvPair>,
    error: Option<Box<kvrpcpb::KeyError>>,
) -> Result<PairsReply, Error> {
    let mut reply = PairsReply::default();
    if let Some(error) = error {
        // Of the whole response: the pairs are not to be used.
        reply.locks = only_locks(*error)?;
        return Ok(reply);
    }
    reply.pairs.reserve_exact(pairs.len());
    for pair in pairs {
        match pair.error {
            None => reply.pairs.push(KvPair { key: pair.key, value: pair.value }),
            Some(error) => reply.locks.extend(only_locks(*error)?),
        }
    }
    Ok(reply)
}

// ---- commit --------------------------------------------------------------------------------

/// transactions.md §8.3: the first error that is not a lock ends the transaction, wherever it
/// stands; locks are collected.
pub(crate) fn prewrite(response: Response) -> Result<PrewriteReply, Error> {
    let message = message_of!(response, Prewrite);
    if message.errors.is_empty() {
        return Ok(PrewriteReply::Landed {
            min_commit_ts: Timestamp::from_version(message.min_commit_ts),
            one_pc_commit_ts: Timestamp::from_version(message.one_pc_commit_ts),
        });
    }
    let mut locks = Vec::new();
    for error in message.errors {
        match KeyError::from_proto(error) {
            KeyError::Locked(more) => locks.extend(more),
            KeyError::Unexpected(what) => return Err(impossible(what)),
            KeyError::Abort(text) if !is_about_the_transaction(&text) => {
                return Ok(PrewriteReply::GivenUp(Error::new(ErrorKind::Refused, text)));
            }
            other => return Ok(PrewriteReply::Refused(other.into_error())),
        }
    }
    Ok(PrewriteReply::Locked(locks))
}

/// What a store finds when it looks at the keys, before it writes anything, is told apart from failures
/// of the write only by its words: the name of the layer, and of its errors (§8.3, §20.3).
fn is_about_the_transaction(text: &str) -> bool {
    ["Mvcc(", "PessimisticLockNotFound", "PessimisticLockRolledBack", "Committed {"]
        .iter()
        .any(|words| text.contains(words))
}

/// transactions.md §9. A key error is an answer, and so ends all doubt about earlier attempts; an
/// `Err` is none, and leaves it.
pub(crate) fn commit(response: Response) -> Result<CommitReply, Error> {
    let message = message_of!(response, Commit);
    let Some(error) = message.error else {
        let commit_ts = Timestamp::from_version(message.commit_version);
        return Ok(CommitReply::Done { commit_ts });
    };
    match KeyError::from_proto(*error) {
        KeyError::CommitTsExpired { key, attempted, min_commit_ts } => {
            Ok(CommitReply::Expired { key, attempted, min_commit_ts })
        }
        KeyError::Unexpected(what) => Err(impossible(what)),
        // A store puts every failure here that it has no other word for, timeouts of the write
        // itself included: no certainty that nothing was committed.
        KeyError::Abort(text) => Err(Error::new(ErrorKind::Refused, text)),
        other => Ok(CommitReply::Refused(other.into_error())),
    }
}

/// Refused if the transaction is committed (§20.4).
pub(crate) fn batch_rollback(response: Response) -> Result<(), Error> {
    done(message_of!(response, BatchRollback).error)
}

pub(crate) fn resolve_lock(response: Response) -> Result<(), Error> {
    done(message_of!(response, ResolveLock).error)
}

pub(super) fn done(error: Option<Box<kvrpcpb::KeyError>>) -> Result<(), Error> {
    match error {
        None => Ok(()),
        Some(error) => Err(KeyError::from_proto(*error).into_error()),
    }
}

/// transactions.md §2.2 and §20.1.
pub(crate) fn check_txn_status(response: Response) -> Result<TxnStatus, Error> {
    use kvrpcpb::Action;
    let message = message_of!(response, CheckTxnStatus);
    if let Some(error) = message.error {
        return match KeyError::from_proto(*error) {
            KeyError::TxnNotFound { .. } => Ok(TxnStatus::NotFound),
            KeyError::PrimaryMismatch(lock) => Ok(TxnStatus::PrimaryMismatch(lock)),
            other => Err(other.into_error()),
        };
    }
    if let Some(commit_ts) = Timestamp::from_version(message.commit_version) {
        return Ok(TxnStatus::Committed(commit_ts));
    }
    let Ok(action) = Action::try_from(message.action) else {
        return Err(impossible("an unknown action on a transaction"));
    };
    let lock = match message.lock_info {
        Some(info) => {
            let locks = key_error::locks(*info).map_err(impossible)?;
            locks.into_iter().next().map(Box::new)
        }
        None => None,
    };
    // The reference goes by the time to live alone. A lock that was sent along is a lock that is
    // there, and to take its transaction for rolled back would undo what may commit.
    if message.lock_ttl > 0 || lock.is_some() {
        let pushed = action == Action::MinCommitTsPushed;
        return Ok(TxnStatus::Alive { ttl_ms: message.lock_ttl, pushed, lock });
    }
    match action {
        Action::NoAction | Action::TtlExpireRollback | Action::LockNotExistRollback => {
            Ok(TxnStatus::RolledBack)
        }
        Action::TtlExpirePessimisticRollback => Ok(TxnStatus::PessimisticGone { expired: true }),
        Action::LockNotExistDoNothing => Ok(TxnStatus::PessimisticGone { expired: false }),
        Action::MinCommitTsPushed => Ok(TxnStatus::Alive { ttl_ms: 0, pushed: true, lock }),
    }
}

/// Parts of answers, for tests.
#[cfg(test)]
pub(crate) mod samples {
    use anatase_proto::kvrpcpb;

    pub(crate) fn abort() -> kvrpcpb::KeyError {
        kvrpcpb::KeyError { abort: "no".into(), ..Default::default() }
    }

    pub(crate) fn pair(key: &'static str, value: &'static str) -> kvrpcpb::KvPair {
        kvrpcpb::KvPair { key: key.into(), value: value.into(), ..Default::default() }
    }

    pub(crate) fn broken(error: kvrpcpb::KeyError) -> kvrpcpb::KvPair {
        kvrpcpb::KvPair { error: Some(Box::new(error)), ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{abort, broken, pair};
    use super::*;

    fn ts(version: u64) -> Timestamp {
        Timestamp::from_version(version).unwrap()
    }

    fn locked(start: u64) -> kvrpcpb::KeyError {
        let info = kvrpcpb::LockInfo { lock_version: start, key: "k".into(), ..Default::default() };
        kvrpcpb::KeyError { locked: Some(Box::new(info)), ..Default::default() }
    }

    fn starts(locks: &[Lock]) -> Vec<u64> {
        locks.iter().map(|lock| lock.start_ts.version()).collect()
    }

    fn keys(pairs: &[KvPair]) -> Vec<&[u8]> {
        pairs.iter().map(|pair| &pair.key[..]).collect()
    }

    /// wire.md §3.4: «not_found not consulted: an empty value means absent».
    #[test]
    fn a_snapshot_get_is_a_value_or_locks() {
        let message = kvrpcpb::GetResponse::default;
        let value = |message| match get(Response::Get(message)).unwrap() {
            GetReply::Value(value) => value,
            GetReply::Locked(locks) => panic!("{locks:?}"),
        };
        assert_eq!(value(message()), None);
        assert_eq!(value(kvrpcpb::GetResponse { not_found: true, ..message() }), None);
        let found = kvrpcpb::GetResponse { value: "v".into(), not_found: true, ..message() };
        assert_eq!(value(found), Some("v".into()));
        let reply = |error| {
            get(Response::Get(kvrpcpb::GetResponse { error: Some(Box::new(error)), ..message() }))
        };
        let Ok(GetReply::Locked(locks)) = reply(locked(7)) else { panic!("not locked") };
        assert_eq!(starts(&locks), [7]);
        assert_eq!(reply(abort()).unwrap_err().kind(), &ErrorKind::Refused);
    }

    /// transactions.md §17.3, §17.4.
    #[test]
    fn pairs_and_locks_are_told_apart() {
        let mixed = vec![pair("a", "1"), broken(locked(7)), pair("b", ""), broken(locked(8))];
        let of_all = Some(Box::new(locked(9)));
        for (pairs, error, got, scanned, locks) in [
            (mixed.clone(), None, vec!["a"], vec!["a", "b"], vec![7, 8]),
            (mixed, of_all, vec![], vec![], vec![9]),
            (vec![], None, vec![], vec![], vec![]),
        ] {
            let message = kvrpcpb::BatchGetResponse {
                pairs: pairs.clone(),
                error: error.clone(),
                ..Default::default()
            };
            let reply = batch_get(Response::BatchGet(message)).unwrap();
            let expected: Vec<&[u8]> = got.iter().map(|key: &&str| key.as_bytes()).collect();
            assert_eq!((keys(&reply.pairs), starts(&reply.locks)), (expected, locks.clone()));
            let message = kvrpcpb::ScanResponse { pairs, error, ..Default::default() };
            let reply = scan(Response::Scan(message)).unwrap();
            let expected: Vec<&[u8]> = scanned.iter().map(|key: &&str| key.as_bytes()).collect();
            assert_eq!((keys(&reply.pairs), starts(&reply.locks)), (expected, locks));
        }
        let message = kvrpcpb::ScanResponse { pairs: vec![broken(abort())], ..Default::default() };
        assert!(scan(Response::Scan(message)).is_err());
    }

    /// transactions.md §8.3.
    #[test]
    fn a_prewrite_lands_or_meets_locks_or_is_refused() {
        let reply = |errors: Vec<kvrpcpb::KeyError>, min_commit_ts| {
            let message = kvrpcpb::PrewriteResponse { errors, min_commit_ts, ..Default::default() };
            prewrite(Response::Prewrite(message)).unwrap()
        };
        for (min_commit_ts, expected) in [(0, None), (5, Some(ts(5)))] {
            let landed = PrewriteReply::Landed { min_commit_ts: expected, one_pc_commit_ts: None };
            assert_eq!(reply(vec![], min_commit_ts), landed);
        }
        let PrewriteReply::Locked(locks) = reply(vec![locked(7), locked(8)], 5) else {
            panic!("not locked");
        };
        assert_eq!(starts(&locks), [7, 8]);
        // Waiting for a lock is in vain if the transaction has lost already.
        let PrewriteReply::GivenUp(error) = reply(vec![locked(7), abort()], 0) else {
            panic!("not given up");
        };
        assert_eq!(error.kind(), &ErrorKind::Refused);
        for found in [
            "Error(Txn(Error(Mvcc(Error(PessimisticLockNotFound { start_ts: 1 })))))",
            "PessimisticLockRolledBack { start_ts: 1 }",
            "Committed { commit_ts: 2 }: txn already committed",
        ] {
            let abort = kvrpcpb::KeyError { abort: found.into(), ..Default::default() };
            assert!(matches!(reply(vec![abort], 0), PrewriteReply::Refused(_)), "{found}");
        }
    }

    /// transactions.md §9.
    #[test]
    fn a_commit_is_done_expired_or_refused_and_nonsense_is_none_of_these() {
        let reply = |error: Option<kvrpcpb::KeyError>| {
            let error = error.map(Box::new);
            let message =
                kvrpcpb::CommitResponse { error, commit_version: 6, ..Default::default() };
            commit(Response::Commit(message))
        };
        assert_eq!(reply(None), Ok(CommitReply::Done { commit_ts: Some(ts(6)) }));
        let expired = |min_commit_ts| kvrpcpb::KeyError {
            commit_ts_expired: Some(Box::new(kvrpcpb::CommitTsExpired {
                start_ts: 1,
                attempted_commit_ts: 6,
                key: "k".into(),
                min_commit_ts,
            })),
            ..Default::default()
        };
        let expected = CommitReply::Expired { key: "k".into(), attempted: 6, min_commit_ts: ts(9) };
        assert_eq!(reply(Some(expired(9))), Ok(expected));
        let gone = kvrpcpb::KeyError {
            retryable: "lock not found".into(),
            txn_lock_not_found: Some(Box::default()),
            ..Default::default()
        };
        let Ok(CommitReply::Refused(error)) = reply(Some(gone)) else { panic!("not refused") };
        assert_eq!(error.kind(), &ErrorKind::TxnRolledBack);
        // §11: what is no answer ends no doubt.
        for nonsense in [expired(0), kvrpcpb::KeyError::default()] {
            let error = reply(Some(nonsense)).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Protocol);
        }
    }

    #[test]
    fn a_rollback_and_a_resolution_are_done_or_refused() {
        for (error, expected) in [(None, true), (Some(Box::new(abort())), false)] {
            let message =
                kvrpcpb::BatchRollbackResponse { error: error.clone(), ..Default::default() };
            assert_eq!(batch_rollback(Response::BatchRollback(message)).is_ok(), expected);
            let message = kvrpcpb::ResolveLockResponse { error, ..Default::default() };
            assert_eq!(resolve_lock(Response::ResolveLock(message)).is_ok(), expected);
        }
    }

    /// transactions.md §2.2 and §20.1, row by row.
    #[test]
    fn the_state_of_a_transaction() {
        use kvrpcpb::Action;
        let status = |ttl, commit_version, action: Action| kvrpcpb::CheckTxnStatusResponse {
            lock_ttl: ttl,
            commit_version,
            action: action.into(),
            ..Default::default()
        };
        let alive = |ttl_ms, pushed| TxnStatus::Alive { ttl_ms, pushed, lock: None };
        for (message, expected) in [
            (status(0, 9, Action::NoAction), TxnStatus::Committed(ts(9))),
            (status(0, 0, Action::NoAction), TxnStatus::RolledBack),
            (status(0, 0, Action::LockNotExistRollback), TxnStatus::RolledBack),
            (status(0, 0, Action::TtlExpireRollback), TxnStatus::RolledBack),
            (
                status(0, 0, Action::TtlExpirePessimisticRollback),
                TxnStatus::PessimisticGone { expired: true },
            ),
            (
                status(0, 0, Action::LockNotExistDoNothing),
                TxnStatus::PessimisticGone { expired: false },
            ),
            (status(5, 0, Action::NoAction), alive(5, false)),
            (status(5, 0, Action::MinCommitTsPushed), alive(5, true)),
            (status(0, 0, Action::MinCommitTsPushed), alive(0, true)),
        ] {
            let row = format!("{message:?}");
            assert_eq!(check_txn_status(Response::CheckTxnStatus(message)), Ok(expected), "{row}");
        }
    }

    #[test]
    fn a_lock_that_is_there_is_no_rolled_back_transaction() {
        let message =
            kvrpcpb::CheckTxnStatusResponse { lock_info: locked(7).locked, ..Default::default() };
        let status = check_txn_status(Response::CheckTxnStatus(message)).unwrap();
        let TxnStatus::Alive { ttl_ms: 0, pushed: false, lock: Some(lock) } = status else {
            panic!("{status:?}");
        };
        assert_eq!(lock.start_ts, ts(7));
    }

    #[test]
    fn the_state_of_a_transaction_that_cannot_be_told() {
        let reply = |error: kvrpcpb::KeyError| {
            let error = Some(Box::new(error));
            let message = kvrpcpb::CheckTxnStatusResponse { error, ..Default::default() };
            check_txn_status(Response::CheckTxnStatus(message))
        };
        let unknown =
            kvrpcpb::KeyError { txn_not_found: Some(Box::default()), ..Default::default() };
        assert_eq!(reply(unknown), Ok(TxnStatus::NotFound));
        let mismatch = kvrpcpb::PrimaryMismatch { lock_info: locked(7).locked };
        let mismatch =
            kvrpcpb::KeyError { primary_mismatch: Some(Box::new(mismatch)), ..Default::default() };
        assert!(matches!(reply(mismatch), Ok(TxnStatus::PrimaryMismatch(_))));
        assert_eq!(reply(abort()).unwrap_err().kind(), &ErrorKind::Refused);
        let action = kvrpcpb::CheckTxnStatusResponse { action: 99, ..Default::default() };
        let error = check_txn_status(Response::CheckTxnStatus(action)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Protocol);
    }
}
