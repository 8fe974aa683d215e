//! What became of a transaction, asked of its primary (transactions.md §20.1); and its heartbeat.

use super::{Change, Found, Key, KeyError, Lock, Mvcc};
use crate::timestamp::expired;

/// A status check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatusCheck {
    pub(crate) lock_ts: u64,
    /// 0 does not push; `u64::MAX` is a read of the latest.
    pub(crate) caller_start_ts: u64,
    /// By which the lock's end is judged; `u64::MAX` says it has ended.
    pub(crate) current_ts: u64,
    pub(crate) rollback_if_not_exist: bool,
    /// Some lock of the transaction is no async commit's: it fell back, and its primary is judged
    /// as any other.
    pub(crate) force_sync_commit: bool,
    /// The asker met a pessimistic lock.
    pub(crate) resolving_pessimistic_lock: bool,
    pub(crate) verify_is_primary: bool,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Status {
    /// It lives. `pushed` says that the caller may read past its locks.
    Alive {
        lock: Lock,
        pushed: bool,
    },
    Committed(u64),
    /// It was rolled back before.
    RolledBack,
    /// It has ended, and is rolled back now.
    Expired,
    /// The time of its primary, a pessimistic lock, is over, and the lock is gone. It may live on
    /// with another primary: nothing is left behind.
    PessimisticReleased,
    /// It left no trace; now it has left a rollback.
    Missing,
    /// It left no trace, and that of a pessimistic lock says nothing.
    MissingAndLeft,
}

impl Mvcc {
    pub(crate) fn check_status(
        &self,
        primary: &Key,
        check: StatusCheck,
    ) -> Result<(Status, Vec<Change>), KeyError> {
        match self.own_lock(primary, check.lock_ts) {
            Some(lock) => self.status_of_lock(primary, lock, check),
            None => self.status_of_missing(primary, check),
        }
    }

    fn status_of_lock(
        &self,
        primary: &Key,
        lock: &Lock,
        check: StatusCheck,
    ) -> Result<(Status, Vec<Change>), KeyError> {
        if check.verify_is_primary && primary.user != lock.primary {
            // A prewritten lock names the true primary. So a pessimistic lock here that names
            // another is left from before the primary changed.
            if lock.is_pessimistic() && !check.resolving_pessimistic_lock {
                let (status, mut changes) = self.status_of_missing(primary, check)?;
                changes.push(Change::Unlock(primary.clone()));
                return Ok((status, changes));
            }
            return Err(KeyError::PrimaryMismatch(Box::new(lock.to_info(&primary.user))));
        }
        // The transaction may be committed already: that is for its secondaries to say. So it is
        // neither rolled back nor pushed.
        if lock.use_async_commit && !check.force_sync_commit {
            return Ok((Status::Alive { lock: lock.clone(), pushed: false }, Vec::new()));
        }
        if lock.is_pessimistic() && lock.locked_with_conflict {
            let ended = match self.find(primary, lock.start_ts) {
                Found::Committed(ts) => Some(Status::Committed(ts)),
                Found::RolledBack => Some(Status::RolledBack),
                Found::Nothing(_) => None,
            };
            // Granted to a late copy of a request, after the end.
            if let Some(status) = ended {
                return Ok((status, vec![Change::Unlock(primary.clone())]));
            }
        }
        if expired(lock.start_ts, lock.ttl, check.current_ts) {
            // Who met a pessimistic lock cannot know whether this primary is the last one.
            if lock.is_pessimistic() && check.resolving_pessimistic_lock {
                return Ok((Status::PessimisticReleased, vec![Change::Unlock(primary.clone())]));
            }
            return Ok((Status::Expired, self.rollback_lock(primary, lock, true)?));
        }
        let caller = check.caller_start_ts;
        let mut lock = lock.clone();
        let mut changes = Vec::new();
        // A lock without a minimum was written by a client that does not know of pushing.
        if lock.min_commit_ts != 0 && caller != u64::MAX && caller >= lock.min_commit_ts {
            lock.min_commit_ts = caller.saturating_add(1).max(check.current_ts);
            changes.push(Change::Lock(primary.clone(), lock.clone()));
        }
        let pushed = caller == u64::MAX || (caller != 0 && lock.min_commit_ts > caller);
        Ok((Status::Alive { lock, pushed }, changes))
    }

    fn status_of_missing(
        &self,
        primary: &Key,
        check: StatusCheck,
    ) -> Result<(Status, Vec<Change>), KeyError> {
        match self.find(primary, check.lock_ts) {
            Found::Committed(ts) => Ok((Status::Committed(ts), Vec::new())),
            Found::RolledBack => Ok((Status::RolledBack, Vec::new())),
            Found::Nothing(_) if !check.rollback_if_not_exist => Err(KeyError::TxnNotFound {
                start_ts: check.lock_ts,
                primary: primary.user.clone(),
            }),
            Found::Nothing(_) if check.resolving_pessimistic_lock => {
                Ok((Status::MissingAndLeft, Vec::new()))
            }
            Found::Nothing(overlapped) => {
                let changes = self.leave_rollback(primary, check.lock_ts, true, overlapped, false);
                Ok((Status::Missing, changes))
            }
        }
    }

    /// Lengthens the life of a primary, never shortens it; returns how long it is.
    pub(crate) fn heart_beat(
        &self,
        primary: &Key,
        start_ts: u64,
        ttl: u64,
    ) -> Result<(u64, Vec<Change>), KeyError> {
        let Some(lock) = self.own_lock(primary, start_ts) else {
            return Err(KeyError::TxnNotFound { start_ts, primary: primary.user.clone() });
        };
        if lock.ttl >= ttl {
            return Ok((lock.ttl, Vec::new()));
        }
        let lock = Lock { ttl, ..lock.clone() };
        Ok((ttl, vec![Change::Lock(primary.clone(), lock)]))
    }
}
