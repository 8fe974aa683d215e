//! Commit (transactions.md §20.4).

use super::{Change, Found, Key, KeyError, Lock, LockKind, Mvcc, Record, WriteKind};

impl Mvcc {
    /// Commits the keys of a transaction, all or none.
    pub(crate) fn commit(
        &self,
        keys: &[Key],
        start_ts: u64,
        commit_ts: u64,
    ) -> Result<Vec<Change>, KeyError> {
        if commit_ts <= start_ts {
            return Err(invalid_ts(start_ts, commit_ts));
        }
        let mut changes = Vec::new();
        for key in keys {
            changes.extend(self.commit_one(key, start_ts, commit_ts)?);
        }
        Ok(changes)
    }

    /// Turns the lock into a record. Without a lock of this transaction: fine if it is committed
    /// (whatever the timestamp), else it was rolled back, or never prewritten.
    pub(crate) fn commit_one(
        &self,
        key: &Key,
        start_ts: u64,
        commit_ts: u64,
    ) -> Result<Vec<Change>, KeyError> {
        let Some(lock) = self.own_lock(key, start_ts) else {
            return match self.find(key, start_ts) {
                Found::Committed(_) => Ok(Vec::new()),
                Found::RolledBack | Found::Nothing(_) => {
                    Err(KeyError::LockNotFound { start_ts, commit_ts, key: key.user.clone() })
                }
            };
        };
        if commit_ts < lock.min_commit_ts {
            return Err(KeyError::CommitTsExpired {
                start_ts,
                attempted: commit_ts,
                key: key.user.clone(),
                min_commit_ts: lock.min_commit_ts,
            });
        }
        // Not prewritten: a lock request that came late, or whose release got lost, and that the
        // transaction did not need in the end. It is let go of, and that counts as committed.
        if lock.is_pessimistic() {
            return Ok(vec![Change::Unlock(key.clone())]);
        }
        let record = record(lock, commit_ts);
        Ok(vec![Change::Record(key.clone(), record), Change::Unlock(key.clone())])
    }
}

/// What a lock becomes.
pub(super) fn record(lock: &Lock, commit_ts: u64) -> Record {
    Record {
        commit_ts,
        kind: match lock.kind {
            LockKind::Put => WriteKind::Put,
            LockKind::Delete => WriteKind::Delete,
            // A pessimistic lock is never committed; as a record it could only say that.
            LockKind::Lock | LockKind::Pessimistic => WriteKind::Lock,
        },
        start_ts: lock.start_ts,
        value: lock.value.clone(),
        protected: false,
        // The record takes the place of a rollback that stands at the same timestamp.
        overlapped_rollback: lock.rollback_ts.contains(&commit_ts),
    }
}

pub(super) fn invalid_ts(start_ts: u64, commit_ts: u64) -> KeyError {
    KeyError::Abort(format!("InvalidTxnTso {{ start_ts: {start_ts}, commit_ts: {commit_ts} }}"))
}
