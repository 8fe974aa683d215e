//! Key errors: a store's answer that a key, or the transaction that wants it, is not in the state
//! that the request needs. And locks, which are the most common of them.
//!
//! On the wire a key error is fourteen nullable fields, of which a server may set several (a conflict
//! comes with a text for clients that only know the text). Here it is one value, picked in the
//! reference's order (`wire.md` §3.2, `transactions.md` §8.3).

use std::time::Duration;

use anatase_proto::{deadlock, kvrpcpb};

use crate::error::{
    AssertionFailure, ConflictReason, Deadlock, Error, ErrorKind, WaitForEntry, WriteConflict,
};
use crate::operation::{Assertion, Key};
use crate::timestamp::Timestamp;

/// Why a key could not be read, locked, committed or rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyError {
    /// The key exists although the mutation demands that it does not.
    AlreadyExist { key: Key },
    /// Another transaction, or several that share it, hold the key. Not empty.
    Locked(Vec<Lock>),
    /// Waiting for the lock would close a circle.
    Deadlock(Box<Deadlock>),
    /// The commit timestamp is below the earliest one that the lock allows.
    CommitTsExpired { key: Key, attempted: u64, min_commit_ts: Timestamp },
    /// The key that was taken for the primary is not: this is its lock.
    PrimaryMismatch(Box<Lock>),
    /// Another transaction was first.
    Conflict(Box<WriteConflict>),
    /// The key has neither the transaction's lock nor its commit record: it was rolled back.
    TxnLockNotFound { text: String },
    /// The server thinks that the transaction may succeed when it is run again.
    Retryable(String),
    /// An assertion about the key's existence does not hold.
    AssertionFailed(Box<AssertionFailure>),
    /// The server gives the transaction up.
    Abort(String),
    /// The commit timestamp is beyond what the prewrite allowed.
    CommitTsTooLarge { commit_ts: u64 },
    /// The primary has neither a lock nor a record of the transaction.
    TxnNotFound { start_ts: u64 },
    /// A shared lock cannot be made exclusive.
    LockUpgradeConflict { owner_start_ts: u64 },
    /// A shared lock is gone.
    SharedLockLost { start_ts: u64 },
    /// Nothing that this client knows, or a value that cannot be.
    Unexpected(&'static str),
}

/// A lock as the store that holds it describes it (`transactions.md` §2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lock {
    pub(crate) key: Key,
    /// Where the fate of the transaction is written.
    pub(crate) primary: Key,
    /// Names the transaction.
    pub(crate) start_ts: Timestamp,
    /// Milliseconds that it lives, counted from the physical part of `start_ts`. 0 is a signal:
    /// resolve it in any case.
    pub(crate) ttl_ms: u64,
    /// How many keys the transaction has in that region; `u64::MAX` for «unknown, many».
    pub(crate) txn_size: u64,
    pub(crate) kind: LockKind,
    /// The transaction is committed as soon as all of its locks are there.
    pub(crate) use_async_commit: bool,
    pub(crate) for_update_ts: Option<Timestamp>,
    /// It will not commit before.
    pub(crate) min_commit_ts: Option<Timestamp>,
    /// The other keys of the transaction; only on the primary of an async commit.
    pub(crate) secondaries: Vec<Key>,
    /// How long ago its owner last did something about it; `None` if the store does not say.
    pub(crate) updated: Option<Duration>,
}

/// What a lock is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// To write a value.
    Put,
    /// To remove the value.
    Delete,
    /// To keep others from writing.
    Lock,
    /// To decide later what it is for.
    Pessimistic,
    /// As [`LockKind::Lock`], together with others.
    Shared,
    /// As [`LockKind::Pessimistic`], together with others.
    SharedPessimistic,
}

impl Lock {
    /// Whether the transaction has not prewritten the key yet. Such a lock is released, never
    /// committed, and its transaction may still change its primary.
    pub(crate) fn is_pessimistic(&self) -> bool {
        match self.kind {
            LockKind::Pessimistic | LockKind::SharedPessimistic => true,
            LockKind::Put | LockKind::Delete | LockKind::Lock | LockKind::Shared => false,
        }
    }

    /// The conflict that an optimistic transaction has with the lock of a younger one: waiting for
    /// it would only end in the conflict with its commit (`transactions.md` §8.3).
    pub(crate) fn as_conflict(&self, start_ts: Timestamp) -> Error {
        let conflict = WriteConflict {
            start_ts,
            conflict_ts: self.start_ts.version(),
            conflict_commit_ts: 0,
            key: self.key.clone(),
            primary: self.primary.clone(),
            reason: ConflictReason::Optimistic,
        };
        conflict_error(Box::new(conflict))
    }

    /// One lock, which is not a wrapper around shared ones.
    fn from_proto(info: kvrpcpb::LockInfo) -> Result<Self, &'static str> {
        let Some(start_ts) = Timestamp::from_version(info.lock_version) else {
            return Err("a lock without a transaction");
        };
        let kind = match kvrpcpb::Op::try_from(info.lock_type) {
            Ok(kvrpcpb::Op::Put) => LockKind::Put,
            Ok(kvrpcpb::Op::Del) => LockKind::Delete,
            Ok(kvrpcpb::Op::Lock) => LockKind::Lock,
            Ok(kvrpcpb::Op::PessimisticLock) => LockKind::Pessimistic,
            Ok(kvrpcpb::Op::SharedLock) => LockKind::Shared,
            Ok(kvrpcpb::Op::SharedPessimisticLock) => LockKind::SharedPessimistic,
            // To take an unknown lock for an ordinary one could undo a transaction.
            Ok(kvrpcpb::Op::Rollback | kvrpcpb::Op::Insert | kvrpcpb::Op::CheckNotExists)
            | Err(_) => return Err("a lock of an unknown kind"),
        };
        Ok(Self {
            key: info.key,
            primary: info.primary_lock,
            start_ts,
            ttl_ms: info.lock_ttl,
            txn_size: info.txn_size,
            kind,
            use_async_commit: info.use_async_commit,
            for_update_ts: Timestamp::from_version(info.lock_for_update_ts),
            min_commit_ts: Timestamp::from_version(info.min_commit_ts),
            secondaries: info.secondaries,
            updated: (info.duration_to_last_update_ms > 0)
                .then(|| Duration::from_millis(info.duration_to_last_update_ms)),
        })
    }
}

/// The locks that an info stands for: itself, or those it is a wrapper around. A wrapper is never a
/// lock: its holders are resolved one by one (`transactions.md` §2.1).
pub(super) fn locks(mut info: kvrpcpb::LockInfo) -> Result<Vec<Lock>, &'static str> {
    let holders = std::mem::take(&mut info.shared_lock_infos);
    if holders.is_empty() {
        if info.lock_type == kvrpcpb::Op::SharedLock as i32 {
            return Err("a shared lock without holders");
        }
        return Ok(vec![Lock::from_proto(info)?]);
    }
    let one = |mut holder: kvrpcpb::LockInfo| {
        if holder.key.is_empty() {
            holder.key.clone_from(&info.key);
        }
        Lock::from_proto(holder)
    };
    holders.into_iter().map(one).collect()
}

impl KeyError {
    pub(crate) fn from_proto(error: kvrpcpb::KeyError) -> Self {
        Self::parse(error).unwrap_or_else(Self::Unexpected)
    }

    fn parse(error: kvrpcpb::KeyError) -> Result<Self, &'static str> {
        // By name and without `..`: a new field has to be given its place below.
        let kvrpcpb::KeyError {
            locked,
            retryable,
            abort,
            conflict,
            already_exist,
            deadlock,
            commit_ts_expired,
            txn_not_found,
            commit_ts_too_large,
            assertion_failed,
            primary_mismatch,
            txn_lock_not_found,
            lock_upgrade_conflict,
            shared_lock_lost,
            debug_info: _,
        } = error;
        // What callers of the reference pick out before they ask for the rest.
        if let Some(exists) = already_exist {
            return Ok(Self::AlreadyExist { key: exists.key });
        }
        if let Some(info) = locked {
            return Ok(Self::Locked(locks(*info)?));
        }
        if let Some(deadlock) = deadlock {
            return Ok(Self::Deadlock(Box::new(Deadlock {
                lock_ts: deadlock.lock_ts,
                lock_key: deadlock.lock_key,
                deadlock_key_hash: deadlock.deadlock_key_hash,
                deadlock_key: deadlock.deadlock_key,
                wait_chain: deadlock.wait_chain.into_iter().map(wait).collect(),
                retryable: false,
            })));
        }
        if let Some(expired) = commit_ts_expired {
            let Some(min_commit_ts) = Timestamp::from_version(expired.min_commit_ts) else {
                return Err("a commit expired without an earliest timestamp");
            };
            let attempted = expired.attempted_commit_ts;
            return Ok(Self::CommitTsExpired { key: expired.key, attempted, min_commit_ts });
        }
        if let Some(mismatch) = primary_mismatch {
            let Some(info) = mismatch.lock_info else {
                return Err("a primary mismatch without a lock");
            };
            // A wrapper of shared locks on the key is as good a proof that it is no primary (§20.1).
            let lock =
                locks(*info)?.into_iter().next().ok_or("a primary mismatch without a lock")?;
            return Ok(Self::PrimaryMismatch(Box::new(lock)));
        }
        // The rest: conflict > retryable > assertion > abort > too large > not found (§8.3).
        if let Some(conflict) = conflict {
            return Ok(Self::Conflict(Box::new(write_conflict(*conflict)?)));
        }
        if !retryable.is_empty() {
            // TiKV says it in words for old clients, and by name for new ones (§20.4).
            return Ok(match txn_lock_not_found {
                Some(_) => Self::TxnLockNotFound { text: retryable },
                None => Self::Retryable(retryable),
            });
        }
        if let Some(assertion) = assertion_failed {
            return Ok(Self::AssertionFailed(Box::new(assertion_failure(*assertion))));
        }
        if !abort.is_empty() {
            return Ok(Self::Abort(abort));
        }
        if let Some(large) = commit_ts_too_large {
            return Ok(Self::CommitTsTooLarge { commit_ts: large.commit_ts });
        }
        if let Some(unknown) = txn_not_found {
            return Ok(Self::TxnNotFound { start_ts: unknown.start_ts });
        }
        if txn_lock_not_found.is_some() {
            return Ok(Self::TxnLockNotFound { text: String::new() });
        }
        if let Some(upgrade) = lock_upgrade_conflict {
            return Ok(Self::LockUpgradeConflict { owner_start_ts: upgrade.owner_start_ts });
        }
        if let Some(lost) = shared_lock_lost {
            return Ok(Self::SharedLockLost { start_ts: lost.start_ts });
        }
        Err("a key error without an error")
    }

    /// As the error of an operation that ends with it.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::AlreadyExist { key } => {
                Error::new(ErrorKind::KeyExists { key }, "the key exists")
            }
            Self::Locked(locks) => match locks.into_iter().next() {
                Some(lock) => {
                    let lock_ts = lock.start_ts.version();
                    Error::new(
                        ErrorKind::LockWaitTimeout { key: lock.key, lock_ts },
                        format!("locked by the transaction that started at {}", lock.start_ts),
                    )
                }
                None => impossible("a locked key without a lock"),
            },
            Self::Deadlock(deadlock) => {
                let lock_ts = deadlock.lock_ts;
                let text = format!("a deadlock with the transaction that started at {lock_ts}");
                Error::new(ErrorKind::Deadlock(deadlock), text)
            }
            Self::CommitTsExpired { attempted, min_commit_ts, .. } => Error::new(
                ErrorKind::Refused,
                format!("commit at {attempted} refused: {min_commit_ts} is the earliest possible"),
            ),
            Self::PrimaryMismatch(_) => {
                Error::new(ErrorKind::Refused, "the key is not the transaction's primary")
            }
            Self::Conflict(conflict) => conflict_error(conflict),
            Self::TxnLockNotFound { text } => Error::new(
                ErrorKind::TxnRolledBack,
                if text.is_empty() { "the transaction's lock is gone".into() } else { text },
            ),
            Self::Retryable(text) => Error::new(ErrorKind::TxnRetryable, text),
            Self::AssertionFailed(failure) => failure.into_error(),
            Self::Abort(text) => Error::new(ErrorKind::Refused, text),
            Self::CommitTsTooLarge { commit_ts } => {
                Error::new(ErrorKind::Refused, format!("commit timestamp {commit_ts} is too large"))
            }
            Self::TxnNotFound { start_ts } => Error::new(
                ErrorKind::Refused,
                format!("there is no trace of the transaction that started at {start_ts}"),
            ),
            Self::LockUpgradeConflict { owner_start_ts } => Error::new(
                ErrorKind::Refused,
                format!("a shared lock conflicts with the transaction {owner_start_ts}"),
            ),
            Self::SharedLockLost { start_ts } => {
                Error::new(ErrorKind::Refused, format!("the shared lock of {start_ts} is lost"))
            }
            Self::Unexpected(what) => impossible(what),
        }
    }
}

fn wait(entry: deadlock::WaitForEntry) -> WaitForEntry {
    WaitForEntry {
        txn: entry.txn,
        wait_for_txn: entry.wait_for_txn,
        key: entry.key,
        key_hash: entry.key_hash,
        resource_group_tag: entry.resource_group_tag,
        waited: Duration::from_millis(entry.wait_time),
    }
}

/// The error for an answer that the protocol does not allow.
pub(crate) fn impossible(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the server sent what it cannot: {what}"))
}

fn conflict_error(conflict: Box<WriteConflict>) -> Error {
    let text = format!(
        "write conflict: the transaction that started at {} was first",
        conflict.conflict_ts
    );
    Error::new(ErrorKind::WriteConflict(conflict), text)
}

fn assertion_failure(failure: kvrpcpb::AssertionFailed) -> AssertionFailure {
    let assertion = match kvrpcpb::Assertion::try_from(failure.assertion) {
        Ok(kvrpcpb::Assertion::Exist) => Assertion::Exist,
        Ok(kvrpcpb::Assertion::NotExist) => Assertion::NotExist,
        // One that is not known yet has failed all the same.
        Ok(kvrpcpb::Assertion::None) | Err(_) => Assertion::None,
    };
    AssertionFailure {
        start_ts: failure.start_ts,
        key: failure.key,
        assertion,
        existing_start_ts: failure.existing_start_ts,
        existing_commit_ts: failure.existing_commit_ts,
    }
}

fn write_conflict(conflict: kvrpcpb::WriteConflict) -> Result<WriteConflict, &'static str> {
    use kvrpcpb::write_conflict::Reason;
    let Some(start_ts) = Timestamp::from_version(conflict.start_ts) else {
        return Err("a conflict without a transaction");
    };
    let reason = match Reason::try_from(conflict.reason) {
        Ok(Reason::Optimistic) => ConflictReason::Optimistic,
        Ok(Reason::PessimisticRetry) => ConflictReason::PessimisticRetry,
        Ok(Reason::SelfRolledBack) => ConflictReason::SelfRolledBack,
        Ok(Reason::RcCheckTs) => ConflictReason::RcCheckTs,
        Ok(Reason::LazyUniquenessCheck) => ConflictReason::LazyUniquenessCheck,
        Ok(Reason::NotLockedKeyConflict) => ConflictReason::NotLockedKeyConflict,
        // A reason that is not known yet is still a conflict.
        Ok(Reason::Unknown) | Err(_) => ConflictReason::Unknown,
    };
    Ok(WriteConflict {
        start_ts,
        conflict_ts: conflict.conflict_ts,
        conflict_commit_ts: conflict.conflict_commit_ts,
        key: conflict.key,
        primary: conflict.primary,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(version: u64) -> Timestamp {
        Timestamp::from_version(version).unwrap()
    }

    fn info(start: u64, kind: kvrpcpb::Op) -> kvrpcpb::LockInfo {
        kvrpcpb::LockInfo {
            primary_lock: "p".into(),
            lock_version: start,
            key: "k".into(),
            lock_ttl: 3_000,
            txn_size: 2,
            lock_type: kind.into(),
            lock_for_update_ts: 0,
            use_async_commit: true,
            min_commit_ts: 9,
            secondaries: vec!["s".into()],
            ..Default::default()
        }
    }

    fn lock(start: u64, kind: LockKind) -> Lock {
        Lock {
            key: "k".into(),
            primary: "p".into(),
            start_ts: ts(start),
            ttl_ms: 3_000,
            txn_size: 2,
            kind,
            use_async_commit: true,
            for_update_ts: None,
            min_commit_ts: Some(ts(9)),
            secondaries: vec!["s".into()],
            updated: None,
        }
    }

    fn conflict() -> kvrpcpb::WriteConflict {
        kvrpcpb::WriteConflict {
            start_ts: 1,
            conflict_ts: 2,
            key: "k".into(),
            primary: "p".into(),
            conflict_commit_ts: 3,
            reason: 1,
        }
    }

    /// wire.md §3.2: every field has its variant, and every variant its kind of error.
    #[test]
    fn every_field_is_understood() {
        let empty = kvrpcpb::KeyError::default;
        let known = WriteConflict {
            start_ts: ts(1),
            conflict_ts: 2,
            conflict_commit_ts: 3,
            key: "k".into(),
            primary: "p".into(),
            reason: ConflictReason::Optimistic,
        };
        let believed_absent = AssertionFailure {
            start_ts: 1,
            key: "k".into(),
            assertion: Assertion::NotExist,
            existing_start_ts: 2,
            existing_commit_ts: 3,
        };
        let rows = [
            (
                kvrpcpb::KeyError { locked: Some(Box::new(info(5, kvrpcpb::Op::Put))), ..empty() },
                KeyError::Locked(vec![lock(5, LockKind::Put)]),
                ErrorKind::LockWaitTimeout { key: "k".into(), lock_ts: 5 },
            ),
            (
                kvrpcpb::KeyError { retryable: "r".into(), ..empty() },
                KeyError::Retryable("r".into()),
                ErrorKind::TxnRetryable,
            ),
            (
                kvrpcpb::KeyError { abort: "a".into(), ..empty() },
                KeyError::Abort("a".into()),
                ErrorKind::Refused,
            ),
            (
                kvrpcpb::KeyError { conflict: Some(Box::new(conflict())), ..empty() },
                KeyError::Conflict(Box::new(known.clone())),
                ErrorKind::WriteConflict(Box::new(known)),
            ),
            (
                kvrpcpb::KeyError {
                    already_exist: Some(Box::new(kvrpcpb::AlreadyExist { key: "k".into() })),
                    ..empty()
                },
                KeyError::AlreadyExist { key: "k".into() },
                ErrorKind::KeyExists { key: "k".into() },
            ),
            (
                kvrpcpb::KeyError { deadlock: Some(Box::default()), ..empty() },
                KeyError::Deadlock(Box::default()),
                ErrorKind::Deadlock(Box::default()),
            ),
            (
                kvrpcpb::KeyError {
                    commit_ts_expired: Some(Box::new(kvrpcpb::CommitTsExpired {
                        start_ts: 1,
                        attempted_commit_ts: 2,
                        key: "k".into(),
                        min_commit_ts: 3,
                    })),
                    ..empty()
                },
                KeyError::CommitTsExpired { key: "k".into(), attempted: 2, min_commit_ts: ts(3) },
                ErrorKind::Refused,
            ),
            (
                kvrpcpb::KeyError {
                    txn_not_found: Some(Box::new(kvrpcpb::TxnNotFound {
                        start_ts: 7,
                        primary_key: "p".into(),
                    })),
                    ..empty()
                },
                KeyError::TxnNotFound { start_ts: 7 },
                ErrorKind::Refused,
            ),
            (
                kvrpcpb::KeyError { commit_ts_too_large: Some(Box::default()), ..empty() },
                KeyError::CommitTsTooLarge { commit_ts: 0 },
                ErrorKind::Refused,
            ),
            (
                kvrpcpb::KeyError {
                    assertion_failed: Some(Box::new(kvrpcpb::AssertionFailed {
                        start_ts: 1,
                        key: "k".into(),
                        assertion: kvrpcpb::Assertion::NotExist.into(),
                        existing_start_ts: 2,
                        existing_commit_ts: 3,
                    })),
                    ..empty()
                },
                KeyError::AssertionFailed(Box::new(believed_absent.clone())),
                ErrorKind::AssertionFailed(Box::new(believed_absent)),
            ),
            (
                kvrpcpb::KeyError {
                    primary_mismatch: Some(Box::new(kvrpcpb::PrimaryMismatch {
                        lock_info: Some(Box::new(info(5, kvrpcpb::Op::PessimisticLock))),
                    })),
                    ..empty()
                },
                KeyError::PrimaryMismatch(Box::new(lock(5, LockKind::Pessimistic))),
                ErrorKind::Refused,
            ),
            (
                kvrpcpb::KeyError { txn_lock_not_found: Some(Box::default()), ..empty() },
                KeyError::TxnLockNotFound { text: String::new() },
                ErrorKind::TxnRolledBack,
            ),
            (
                kvrpcpb::KeyError {
                    txn_lock_not_found: Some(Box::default()),
                    retryable: "lock not found".into(),
                    ..empty()
                },
                KeyError::TxnLockNotFound { text: "lock not found".into() },
                ErrorKind::TxnRolledBack,
            ),
            (
                kvrpcpb::KeyError { lock_upgrade_conflict: Some(Box::default()), ..empty() },
                KeyError::LockUpgradeConflict { owner_start_ts: 0 },
                ErrorKind::Refused,
            ),
            (
                kvrpcpb::KeyError { shared_lock_lost: Some(Box::default()), ..empty() },
                KeyError::SharedLockLost { start_ts: 0 },
                ErrorKind::Refused,
            ),
        ];
        for (proto, expected, kind) in rows {
            let error = KeyError::from_proto(proto);
            assert_eq!(error, expected);
            let error = error.into_error();
            assert_eq!(error.kind(), &kind);
            assert!(!error.message().is_empty());
        }
    }

    /// transactions.md §8.3 and wire.md §3.2: which of several fields counts.
    #[test]
    fn of_several_the_first_in_the_order_counts() {
        let mut error = kvrpcpb::KeyError {
            locked: Some(Box::new(info(5, kvrpcpb::Op::Put))),
            retryable: "r".into(),
            abort: "a".into(),
            conflict: Some(Box::new(conflict())),
            already_exist: Some(Box::default()),
            deadlock: Some(Box::default()),
            commit_ts_too_large: Some(Box::default()),
            txn_not_found: Some(Box::default()),
            assertion_failed: Some(Box::default()),
            ..Default::default()
        };
        type Row = (fn(&KeyError) -> bool, fn(&mut kvrpcpb::KeyError));
        macro_rules! row {
            ($pattern:pat, $field:ident) => {
                (|e| matches!(e, $pattern), |e| e.$field = Default::default())
            };
        }
        let rows: [Row; 9] = [
            row!(KeyError::AlreadyExist { .. }, already_exist),
            row!(KeyError::Locked(_), locked),
            row!(KeyError::Deadlock(_), deadlock),
            row!(KeyError::Conflict(_), conflict),
            row!(KeyError::Retryable(_), retryable),
            row!(KeyError::AssertionFailed(_), assertion_failed),
            row!(KeyError::Abort(_), abort),
            row!(KeyError::CommitTsTooLarge { .. }, commit_ts_too_large),
            row!(KeyError::TxnNotFound { .. }, txn_not_found),
        ];
        for (is_it, clear) in rows {
            let parsed = KeyError::from_proto(error.clone());
            assert!(is_it(&parsed), "{parsed:?}");
            clear(&mut error);
        }
        assert!(matches!(KeyError::from_proto(error), KeyError::Unexpected(_)));
    }

    /// transactions.md §2.1.
    #[test]
    fn a_wrapper_of_shared_locks_is_expanded_and_never_a_lock_itself() {
        let mut wrapper = info(1, kvrpcpb::Op::SharedLock);
        let nameless = kvrpcpb::LockInfo { key: "".into(), ..info(6, kvrpcpb::Op::SharedLock) };
        wrapper.shared_lock_infos = vec![info(5, kvrpcpb::Op::SharedPessimisticLock), nameless];
        let expanded = locks(wrapper).unwrap();
        assert_eq!(
            expanded,
            [lock(5, LockKind::SharedPessimistic), lock(6, LockKind::Shared)],
            "a holder without key holds the wrapper's"
        );
        assert!(expanded[0].is_pessimistic() && !expanded[1].is_pessimistic());
        assert!(locks(info(1, kvrpcpb::Op::SharedLock)).is_err());
    }

    #[test]
    fn a_lock_that_cannot_be_is_no_lock() {
        let mut unknown = info(5, kvrpcpb::Op::Put);
        unknown.lock_type = 77;
        for bad in [info(0, kvrpcpb::Op::Put), info(5, kvrpcpb::Op::Rollback), unknown] {
            let error = kvrpcpb::KeyError { locked: Some(Box::new(bad)), ..Default::default() };
            let error = KeyError::from_proto(error);
            assert!(matches!(error, KeyError::Unexpected(_)), "{error:?}");
            assert_eq!(error.into_error().kind(), &ErrorKind::Protocol);
        }
    }

    /// transactions.md §8.3: «conflict_ts=lock.start_ts, conflict_commit_ts=0, reason Optimistic».
    #[test]
    fn the_lock_of_a_younger_transaction_is_a_conflict() {
        let error = lock(8, LockKind::Put).as_conflict(ts(5));
        let ErrorKind::WriteConflict(conflict) = error.kind() else { panic!("{error:?}") };
        assert_eq!((conflict.start_ts, conflict.conflict_ts), (ts(5), 8));
        assert_eq!(conflict.conflict_commit_ts, 0);
        assert_eq!(conflict.reason, ConflictReason::Optimistic);
    }
}
