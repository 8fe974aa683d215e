//! Why an action on keys fails, and how that looks on the wire (wire.md §3.2).

use anatase_proto::{
    deadlock::WaitForEntry,
    kvrpcpb::{self, LockInfo, write_conflict},
};
use bytes::Bytes;

pub(crate) use write_conflict::Reason;

/// Why a pessimistic lock counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// Another transaction has a lock on the key.
    LockTsMismatch,
    /// It is not the one that was granted.
    LockForUpdateTsMismatch,
    /// There is no lock, and the key may have been written meanwhile.
    LockMissingAmendFail,
    /// Of a key that needs none: it was written after the transaction last looked.
    NonLockKeyConflict,
}

/// A circle of transactions that wait for each other's locks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deadlock {
    /// The lock in the way of the request that closes the circle: its transaction, and the user
    /// key.
    pub(crate) lock_ts: u64,
    pub(crate) lock_key: Bytes,
    /// Of the key at which the request's own transaction is waited for.
    pub(crate) key_hash: u64,
    /// From the holder of that lock round to the request itself, which comes last.
    pub(crate) chain: Vec<WaitForEntry>,
}

/// Why an action on keys fails.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeyError {
    Locked(Box<LockInfo>),
    Conflict {
        start_ts: u64,
        conflict_start_ts: u64,
        conflict_commit_ts: u64,
        key: Bytes,
        primary: Bytes,
        reason: Reason,
    },
    AlreadyExist {
        key: Bytes,
    },
    /// A commit without a lock and without a commit record.
    LockNotFound {
        start_ts: u64,
        commit_ts: u64,
        key: Bytes,
    },
    /// A status check or a heartbeat for a transaction that left no trace on its primary.
    TxnNotFound {
        start_ts: u64,
        primary: Bytes,
    },
    CommitTsExpired {
        start_ts: u64,
        attempted: u64,
        key: Bytes,
        min_commit_ts: u64,
    },
    AssertionFailed {
        start_ts: u64,
        key: Bytes,
        assertion: i32,
        existing_start_ts: u64,
        existing_commit_ts: u64,
    },
    PrimaryMismatch(Box<LockInfo>),
    /// A rollback of what is committed.
    Committed {
        start_ts: u64,
        commit_ts: u64,
        key: Bytes,
    },
    /// A prewrite of a key on which the transaction should have a pessimistic lock.
    PessimisticLockNotFound {
        start_ts: u64,
        key: Bytes,
        why: NotFound,
    },
    /// Waiting for a lock would close a circle.
    Deadlock(Box<Deadlock>),
    /// Anything else: a text.
    Abort(String),
}

impl KeyError {
    pub(crate) fn to_proto(&self) -> kvrpcpb::KeyError {
        let mut error = kvrpcpb::KeyError::default();
        match self.clone() {
            KeyError::Locked(info) => error.locked = Some(info),
            KeyError::Conflict {
                start_ts,
                conflict_start_ts,
                conflict_commit_ts,
                key,
                primary,
                reason,
            } => {
                // Old clients know the text only.
                error.retryable = format!(
                    "WriteConflict {{ start_ts: {start_ts}, conflict_start_ts: \
                     {conflict_start_ts}, conflict_commit_ts: {conflict_commit_ts}, reason: \
                     {reason:?} }}"
                );
                error.conflict = Some(Box::new(kvrpcpb::WriteConflict {
                    start_ts,
                    conflict_ts: conflict_start_ts,
                    key,
                    primary,
                    conflict_commit_ts,
                    reason: reason as i32,
                }));
            }
            KeyError::AlreadyExist { key } => {
                error.already_exist = Some(Box::new(kvrpcpb::AlreadyExist { key }));
            }
            KeyError::LockNotFound { start_ts, commit_ts, key } => {
                error.retryable =
                    format!("TxnLockNotFound {{ start_ts: {start_ts}, commit_ts: {commit_ts} }}");
                error.txn_lock_not_found = Some(Box::new(kvrpcpb::TxnLockNotFound { key }));
            }
            KeyError::TxnNotFound { start_ts, primary } => {
                error.txn_not_found =
                    Some(Box::new(kvrpcpb::TxnNotFound { start_ts, primary_key: primary }));
            }
            KeyError::CommitTsExpired { start_ts, attempted, key, min_commit_ts } => {
                error.commit_ts_expired = Some(Box::new(kvrpcpb::CommitTsExpired {
                    start_ts,
                    attempted_commit_ts: attempted,
                    key,
                    min_commit_ts,
                }));
            }
            KeyError::AssertionFailed {
                start_ts,
                key,
                assertion,
                existing_start_ts,
                existing_commit_ts,
            } => {
                error.assertion_failed = Some(Box::new(kvrpcpb::AssertionFailed {
                    start_ts,
                    key,
                    assertion,
                    existing_start_ts,
                    existing_commit_ts,
                }));
            }
            KeyError::PrimaryMismatch(info) => {
                error.primary_mismatch =
                    Some(Box::new(kvrpcpb::PrimaryMismatch { lock_info: Some(info) }));
            }
            KeyError::Committed { start_ts, commit_ts, .. } => {
                error.abort = format!(
                    "Committed {{ start_ts: {start_ts}, commit_ts: {commit_ts} }}: txn already \
                     committed"
                );
            }
            KeyError::PessimisticLockNotFound { start_ts, key, why } => {
                error.abort = format!(
                    "PessimisticLockNotFound {{ start_ts: {start_ts}, key: {key:?}, reason: \
                     {why:?} }}"
                );
            }
            KeyError::Deadlock(deadlock) => {
                let Deadlock { lock_ts, lock_key, key_hash, chain } = *deadlock;
                error.deadlock = Some(Box::new(kvrpcpb::Deadlock {
                    lock_ts,
                    lock_key,
                    deadlock_key_hash: key_hash,
                    wait_chain: chain,
                    // TiKV leaves it empty: clients find their key by the hash.
                    deadlock_key: Bytes::new(),
                }));
            }
            KeyError::Abort(text) => error.abort = text,
        }
        error
    }

    /// Boxed, as most responses have it.
    pub(crate) fn boxed(&self) -> Option<Box<kvrpcpb::KeyError>> {
        Some(Box::new(self.to_proto()))
    }
}
