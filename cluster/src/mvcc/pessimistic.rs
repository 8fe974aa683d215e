//! Pessimistic locks: taken by a transaction that has not ended, and let go of again
//! (transactions.md §13, §14, §20.4).
//!
//! A request for a key, in this order:
//!
//! | the key has | then |
//! |---|---|
//! | a lock of another transaction | `KeyIsLocked`: the request is parked, or told so ([`crate::lock_wait`]) |
//! | a prewritten lock of this one | the request came too late: it is aborted |
//! | a pessimistic lock of this one | granted; `for_update_ts` is raised and never lowered |
//! | a record above `for_update_ts` | `WriteConflict`, pessimistic retry; in fair locking the lock is granted all the same, and what made the conflict is told |
//! | a rollback of this transaction | `PessimisticLockRolledBack`: aborted |
//! | a value, and there must be none | `AlreadyExist`; where fair locking has met a conflict, `WriteConflict` |
//! | no value, and only what exists is to be locked | answered, not locked |
//! | anything else | granted |
//!
//! A lock that was granted in spite of a conflict has the conflict's timestamp for its
//! `for_update_ts`, and is marked: it may be that of a request which came twice, the second time
//! after its transaction had ended.

use bytes::Bytes;

use super::{Change, Key, KeyError, Lock, LockKind, Mvcc, Reason, Record, WriteKind};

/// A request for pessimistic locks, without its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Acquire {
    pub(crate) primary: Bytes,
    pub(crate) start_ts: u64,
    pub(crate) ttl: u64,
    pub(crate) for_update_ts: u64,
    pub(crate) min_commit_ts: u64,
    pub(crate) return_values: bool,
    pub(crate) check_existence: bool,
    pub(crate) lock_only_if_exists: bool,
    /// Fair locking: newer data is no obstacle.
    pub(crate) force: bool,
}

/// What is told of a key that is locked, or that needs no lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// Nothing was asked.
    Nothing,
    Value(Option<Bytes>),
    Existence(bool),
    /// Locked as of a newer commit than the request knows of.
    WithConflict {
        value: Option<Bytes>,
        conflict_ts: u64,
    },
}

impl Acquire {
    /// Whether a request for a key is also a read of it at `for_update_ts`.
    pub(crate) fn reads(&self, absent: bool) -> bool {
        absent || self.return_values || self.check_existence
    }

    fn acquired(&self, conflict_ts: Option<u64>, value: Option<Bytes>) -> Acquired {
        match conflict_ts {
            Some(conflict_ts) => Acquired::WithConflict { value, conflict_ts },
            None if self.return_values => Acquired::Value(value),
            None if self.check_existence => Acquired::Existence(value.is_some()),
            None => Acquired::Nothing,
        }
    }

    fn lock(&self, for_update_ts: u64, locked_with_conflict: bool) -> Lock {
        Lock {
            kind: LockKind::Pessimistic,
            primary: Bytes::copy_from_slice(&self.primary),
            start_ts: self.start_ts,
            ttl: self.ttl,
            value: Bytes::new(),
            txn_size: 0,
            min_commit_ts: self.min_commit_ts,
            use_async_commit: false,
            secondaries: Vec::new(),
            rollback_ts: Vec::new(),
            for_update_ts,
            locked_with_conflict,
        }
    }

    fn conflict(&self, key: &Key, with: &Record) -> KeyError {
        KeyError::Conflict {
            start_ts: self.start_ts,
            conflict_start_ts: with.start_ts,
            conflict_commit_ts: with.commit_ts,
            key: key.user.clone(),
            primary: self.primary.clone(),
            reason: Reason::PessimisticRetry,
        }
    }
}

impl Mvcc {
    /// Locks one key. `absent` says that it must not have a value.
    pub(crate) fn acquire(
        &self,
        request: &Acquire,
        key: &Key,
        absent: bool,
    ) -> Result<(Acquired, Option<Change>), KeyError> {
        let (start_ts, name) = (request.start_ts, &key.user);
        if request.lock_only_if_exists && !request.return_values {
            return Err(KeyError::Abort(format!(
                "LockIfExistsFailed {{ start_ts: {start_ts}, key: {name:?} }}: \
                 lock_only_if_exists needs return_values"
            )));
        }
        match self.lock(key) {
            None => self.acquire_free(request, key, absent),
            Some(lock) if lock.start_ts != start_ts => {
                Err(KeyError::Locked(Box::new(lock.to_info(name))))
            }
            Some(lock) if !lock.is_pessimistic() => Err(KeyError::Abort(format!(
                "LockTypeNotMatch {{ start_ts: {start_ts}, key: {name:?}, pessimistic: false }}"
            ))),
            Some(lock) => self.acquire_again(request, key, absent, lock),
        }
    }

    /// The transaction has the lock.
    fn acquire_again(
        &self,
        request: &Acquire,
        key: &Key,
        absent: bool,
        lock: &Lock,
    ) -> Result<(Acquired, Option<Change>), KeyError> {
        // It is locked as of later: an earlier copy of this request met a conflict.
        let later = request.force && request.for_update_ts < lock.for_update_ts;
        let conflict_ts = later.then_some(lock.for_update_ts);
        let for_update_ts = conflict_ts.unwrap_or(request.for_update_ts);
        let found = value_at(self.records(key), for_update_ts);
        if let Some(found) = found
            && absent
        {
            return Err(if found.commit_ts > request.for_update_ts {
                request.conflict(key, found)
            } else {
                KeyError::AlreadyExist { key: key.user.clone() }
            });
        }
        let raised = for_update_ts > lock.for_update_ts;
        let change = raised.then(|| {
            Change::Lock(key.clone(), request.lock(for_update_ts, lock.locked_with_conflict))
        });
        Ok((request.acquired(conflict_ts, found.map(|found| found.value.clone())), change))
    }

    /// Nobody has a lock.
    fn acquire_free(
        &self,
        request: &Acquire,
        key: &Key,
        absent: bool,
    ) -> Result<(Acquired, Option<Change>), KeyError> {
        let records = self.records(key);
        let newer = records.first().filter(|newest| newest.commit_ts > request.for_update_ts);
        if let Some(newer) = newer
            && !request.force
        {
            return Err(request.conflict(key, newer));
        }
        let own = records.iter().find(|record| record.commit_ts <= request.start_ts);
        if let Some(own) = own.filter(|own| own.commit_ts == request.start_ts)
            && (own.kind == WriteKind::Rollback || own.overlapped_rollback)
        {
            return Err(KeyError::Abort(format!(
                "PessimisticLockRolledBack {{ start_ts: {}, key: {:?} }}",
                request.start_ts, key.user
            )));
        }
        let found = value_at(records, u64::MAX);
        if absent && found.is_some() {
            return Err(match newer {
                Some(newer) => request.conflict(key, newer),
                None => KeyError::AlreadyExist { key: key.user.clone() },
            });
        }
        let conflict_ts = newer.map(|newer| newer.commit_ts);
        let for_update_ts = conflict_ts.unwrap_or(request.for_update_ts);
        let locks = !request.lock_only_if_exists || found.is_some();
        if let Some(newer) = newer
            && !locks
        {
            return Err(request.conflict(key, newer));
        }
        let change =
            locks.then(|| Change::Lock(key.clone(), request.lock(for_update_ts, newer.is_some())));
        Ok((request.acquired(conflict_ts, found.map(|found| found.value.clone())), change))
    }

    /// Lets go of a transaction's pessimistic locks on these keys, unless they are of a later
    /// `for_update_ts`: then a newer request has them. Nothing is left behind.
    pub(crate) fn pessimistic_rollback(
        &self,
        keys: &[Key],
        start_ts: u64,
        for_update_ts: u64,
    ) -> Vec<Change> {
        keys.iter()
            .filter(|key| {
                self.own_lock(key, start_ts)
                    .is_some_and(|lock| lock.is_released_by(start_ts, for_update_ts))
            })
            .map(|key| Change::Unlock(key.clone()))
            .collect()
    }

    /// The same for all keys of a memcomparable range.
    pub(crate) fn pessimistic_rollback_range(
        &self,
        start: &[u8],
        end: &[u8],
        start_ts: u64,
        for_update_ts: u64,
    ) -> Vec<Change> {
        self.locks_between(start, end)
            .filter(|(_, _, lock)| lock.is_released_by(start_ts, for_update_ts))
            .map(|(encoded, user, _)| {
                Change::Unlock(Key { user: user.clone(), encoded: encoded.clone() })
            })
            .collect()
    }
}

impl Lock {
    fn is_released_by(&self, start_ts: u64, for_update_ts: u64) -> bool {
        self.is_pessimistic() && self.start_ts == start_ts && self.for_update_ts <= for_update_ts
    }
}

/// The value that a key has as of a timestamp: its record.
fn value_at(records: &[Record], ts: u64) -> Option<&Record> {
    records
        .iter()
        .find(|record| {
            record.commit_ts <= ts && matches!(record.kind, WriteKind::Put | WriteKind::Delete)
        })
        .filter(|record| record.kind == WriteKind::Put)
}
