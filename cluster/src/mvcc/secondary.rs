//! What became of the locks of an async commit beside its primary (transactions.md §20.2).
//!
//! For each key in turn, until one decides:
//!
//! | the key has | then |
//! |---|---|
//! | a prewritten lock of the transaction | it is told, and the next key is looked at |
//! | a pessimistic lock of it | it is removed, and the key judged as one without a lock: it was never prewritten, or is a late copy of a request |
//! | a commit record of it | it is committed, and nothing else is told |
//! | a rollback of it | it is rolled back, and nothing else is told |
//! | nothing of it | the same, and a protected rollback is left, so that its prewrite comes too late |
//!
//! So a check decides the fate of a transaction whose prewrite is still on its way. Clients ask only
//! when its primary has lived out its time.

use super::{Change, Found, Key, Lock, Mvcc};

/// What became of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Secondaries {
    /// All keys are locked.
    Locked(Vec<(Key, Lock)>),
    Committed(u64),
    RolledBack,
}

impl Mvcc {
    pub(crate) fn check_secondary_locks(
        &self,
        keys: Vec<Key>,
        start_ts: u64,
    ) -> (Secondaries, Vec<Change>) {
        let mut locked = Vec::new();
        for key in keys {
            let mut changes = Vec::new();
            if let Some(lock) = self.own_lock(&key, start_ts) {
                if !lock.is_pessimistic() {
                    let lock = lock.clone();
                    locked.push((key, lock));
                    continue;
                }
                changes.push(Change::Unlock(key.clone()));
            }
            let found = match self.find(&key, start_ts) {
                Found::Committed(ts) => Secondaries::Committed(ts),
                Found::RolledBack => Secondaries::RolledBack,
                Found::Nothing(overlapped) => {
                    changes.extend(self.leave_rollback(&key, start_ts, true, overlapped, true));
                    Secondaries::RolledBack
                }
            };
            return (found, changes);
        }
        (Secondaries::Locked(locked), Vec::new())
    }
}
