//! Rolling back, and what that leaves behind.
//!
//! A rollback record stands at the transaction's start timestamp and makes a late prewrite of it
//! fail. Of unprotected ones a key keeps only the newest; a protected one stays. A primary's is
//! always protected, as is one written where no lock was found on somebody's word that the
//! transaction is dead. Where another transaction's record already stands at that timestamp, a
//! protected rollback is noted on it, and an unprotected one is not written at all. Where another
//! transaction's lock may yet be committed at that timestamp, which only an async commit may, a
//! protected rollback is noted on that lock too, and its commit carries the note over.

use super::{Change, Found, Key, KeyError, Lock, Mvcc, Record, WriteKind};
use crate::timestamp::expired;

impl Mvcc {
    /// Rolls back the keys of a transaction, all or none.
    pub(crate) fn rollback(&self, keys: &[Key], start_ts: u64) -> Result<Vec<Change>, KeyError> {
        let mut changes = Vec::new();
        for key in keys {
            changes.extend(self.cleanup(key, start_ts, 0, false)?);
        }
        Ok(changes)
    }

    /// Rolls back one key, unless the lock still lives at `current_ts` (0: never mind). Fails on a
    /// key that is committed.
    pub(crate) fn cleanup(
        &self,
        key: &Key,
        start_ts: u64,
        current_ts: u64,
        protect: bool,
    ) -> Result<Vec<Change>, KeyError> {
        if let Some(lock) = self.own_lock(key, start_ts) {
            if current_ts != 0 && !expired(start_ts, lock.ttl, current_ts) {
                return Err(KeyError::Locked(Box::new(lock.to_info(&key.user))));
            }
            return self.rollback_lock(key, lock, !protect);
        }
        match self.find(key, start_ts) {
            Found::Committed(commit_ts) => {
                Err(KeyError::Committed { start_ts, commit_ts, key: key.user.clone() })
            }
            Found::RolledBack => Ok(Vec::new()),
            Found::Nothing(overlapped) => {
                Ok(self.leave_rollback(key, start_ts, protect, overlapped, !protect))
            }
        }
    }

    /// Removes a lock and leaves a rollback.
    pub(super) fn rollback_lock(
        &self,
        key: &Key,
        lock: &Lock,
        collapse: bool,
    ) -> Result<Vec<Change>, KeyError> {
        let mut changes = match self.find(key, lock.start_ts) {
            Found::Nothing(overlapped) => {
                let protect = key.user == lock.primary;
                self.leave_rollback(key, lock.start_ts, protect, overlapped, collapse)
            }
            Found::RolledBack => Vec::new(),
            // A lock beside its own commit record cannot be, and TiKV gives up on the spot.
            Found::Committed(commit_ts) => {
                return Err(KeyError::Committed {
                    start_ts: lock.start_ts,
                    commit_ts,
                    key: key.user.clone(),
                });
            }
        };
        changes.push(Change::Unlock(key.clone()));
        Ok(changes)
    }

    /// Leaves a rollback where no record of the transaction is.
    pub(super) fn leave_rollback(
        &self,
        key: &Key,
        start_ts: u64,
        protect: bool,
        overlapped: Option<Record>,
        collapse: bool,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        if collapse
            && let Some(before) = self.records(key).iter().find(|it| it.commit_ts <= start_ts)
            && before.kind == WriteKind::Rollback
            && !before.protected
        {
            changes.push(Change::Forget(key.clone(), before.commit_ts));
        }
        if protect
            && let Some(lock) = self.lock(key)
            && lock.start_ts != start_ts
            && lock.use_async_commit
            && lock.min_commit_ts <= start_ts
            && !lock.rollback_ts.contains(&start_ts)
        {
            let mut lock = lock.clone();
            lock.rollback_ts.push(start_ts);
            changes.push(Change::Lock(key.clone(), lock));
        }
        match overlapped {
            None => {
                let record = Record {
                    commit_ts: start_ts,
                    kind: WriteKind::Rollback,
                    start_ts,
                    value: Default::default(),
                    protected: protect,
                    overlapped_rollback: false,
                };
                changes.push(Change::Record(key.clone(), record));
            }
            Some(record) if protect => {
                let record = Record { overlapped_rollback: true, ..record };
                changes.push(Change::Record(key.clone(), record));
            }
            Some(_) => {}
        }
        changes
    }
}
