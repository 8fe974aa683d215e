//! Why an action on keys fails, and how that looks on the wire (wire.md §3.2).

use anatase_proto::kvrpcpb::{self, LockInfo, write_conflict};
use bytes::Bytes;

pub(crate) use write_conflict::Reason;

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
            KeyError::Abort(text) => error.abort = text,
        }
        error
    }

    /// Boxed, as most responses have it.
    pub(crate) fn boxed(&self) -> Option<Box<kvrpcpb::KeyError>> {
        Some(Box::new(self.to_proto()))
    }
}
