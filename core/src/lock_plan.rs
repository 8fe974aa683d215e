//! What a pessimistic transaction asks for: locks, and their release (`transactions.md` §13).

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::operation::{Key, Value};
use crate::timestamp::Timestamp;
use crate::txn::TxnOptions;

/// Locks to take for a pessimistic transaction, in one call.
///
/// Keys that the transaction holds already should not be among them, or say so ([`LockKey::held`]):
/// the others are released again if the call fails.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockPlan {
    /// The transaction.
    pub start_ts: Timestamp,
    /// As of when the keys are locked: a version committed later is a conflict. Not before `start_ts`.
    pub for_update_ts: Timestamp,
    /// The key whose lock stands for the transaction. If it is among `keys`, it is the first.
    pub primary: Key,
    /// The primary was chosen for this call: if the call does not lock it, the transaction has none.
    pub new_primary: bool,
    /// Sorted by key, without duplicates, not empty.
    pub keys: Vec<LockKey>,
    /// How long to wait for locks of others.
    pub wait: LockWait,
    /// Tell the values.
    pub return_values: bool,
    /// Tell whether the keys have values.
    pub check_existence: bool,
    /// Lock only keys that have a value. Needs `return_values` and, for several keys, a primary that
    /// is locked already.
    pub lock_only_if_exists: bool,
    /// Take the lock in spite of a newer version, and tell of it (fair locking, `transactions.md`
    /// §14). Needs to be exactly one key.
    pub force: bool,
    /// The transaction holds no lock yet, so it cannot be part of a deadlock.
    pub is_first_lock: bool,
    /// How long the transaction has been open; a lock's time to live starts at `start_ts`.
    pub open_for: Duration,
    /// What was chosen about the transaction.
    pub options: Arc<TxnOptions>,
}

/// A key to be locked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey {
    /// The key.
    pub key: Key,
    /// It is to be an error if the key has a value.
    pub presume_not_exists: bool,
    /// The transaction holds it already and only asks again what is there: it stays locked whatever
    /// becomes of the call.
    pub held: bool,
}

impl LockKey {
    /// A key that is not held, and may have a value.
    pub fn new(key: impl Into<Key>) -> Self {
        Self { key: key.into(), presume_not_exists: false, held: false }
    }

    /// The same, if it has no value.
    #[must_use]
    pub fn presume_not_exists(self) -> Self {
        Self { presume_not_exists: true, ..self }
    }
}

/// How long a lock request waits for the locks of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockWait {
    /// Not at all: [`ErrorKind::LockNotAvailable`].
    NoWait,
    /// So long: then [`ErrorKind::LockWaitTimeout`]. For no time at all it is as
    /// [`LockWait::NoWait`] to the store, and still a timeout.
    For(Duration),
    /// Until the operation's deadline.
    Forever,
}

/// What was found at a key when it was locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// Nobody asked, or the store is too old to tell.
    NotAsked,
    /// There is no value.
    Missing,
    /// There is a value, which was not asked for.
    Exists,
    /// The value.
    Value(Value),
}

impl Found {
    /// Whether there is a value; `None` if that is not known.
    pub fn exists(&self) -> Option<bool> {
        match self {
            Self::NotAsked => None,
            Self::Missing => Some(false),
            Self::Exists | Self::Value(_) => Some(true),
        }
    }
}

/// A key that was locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockedKey {
    /// The key.
    pub key: Key,
    /// False only where [`LockPlan::lock_only_if_exists`] found no value.
    pub locked: bool,
    /// It was held before the call; what was found then is told, without the value.
    pub already: bool,
    /// What was found.
    pub found: Found,
    /// Only with [`LockPlan::force`]: it was locked as of this newer version's commit.
    pub conflict_ts: Option<Timestamp>,
}

/// What a lock call gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockReply {
    /// One for each key of the plan, in its order.
    pub keys: Vec<LockedKey>,
}

impl LockReply {
    /// The largest conflict of all keys.
    pub fn max_conflict_ts(&self) -> Option<Timestamp> {
        self.keys.iter().filter_map(|key| key.conflict_ts).max()
    }
}

/// Locks of a pessimistic transaction to release. Nothing else is touched: no rollback record is
/// left, so the transaction goes on and may lock the keys again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PessimisticRollbackPlan {
    /// The transaction.
    pub start_ts: Timestamp,
    /// Locks taken as of a later time stay.
    pub for_update_ts: Timestamp,
    /// The keys, in any order. May be empty.
    pub keys: Vec<Key>,
    /// The transaction ends, or has no primary any more: its primary is no longer kept alive.
    pub stop_heartbeat: bool,
    /// What was chosen about the transaction.
    pub options: Arc<TxnOptions>,
}

impl LockPlan {
    /// Whether it makes sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |text: &str| Err(Error::new(ErrorKind::InvalidArgument, text));
        if self.start_ts == Timestamp::MAX {
            return invalid("the maximal timestamp starts no transaction");
        }
        if self.for_update_ts < self.start_ts {
            return invalid("a transaction cannot lock as of before its start");
        }
        let Some(first) = self.keys.first() else {
            return invalid("nothing to lock");
        };
        if !self.keys.is_sorted_by(|a, b| a.key < b.key) {
            return invalid("keys have to be sorted, without duplicates");
        }
        let has_primary = self.keys.binary_search_by(|key| key.key.cmp(&self.primary)).is_ok();
        if has_primary && first.key != self.primary {
            return invalid("the primary has to be the first of the keys");
        }
        if self.new_primary && !has_primary {
            return invalid("a new primary has to be locked with the call");
        }
        if self.force && self.keys.len() != 1 {
            return invalid("fair locking takes one key at a time");
        }
        // §13.2, 5: the reference's two errors.
        if self.lock_only_if_exists && !self.return_values {
            return invalid("locking only what exists needs the values returned");
        }
        if self.lock_only_if_exists && self.new_primary && self.keys.len() > 1 {
            return invalid("locking only what exists of several keys needs a locked primary");
        }
        Ok(())
    }

    /// What a request may still wait, in milliseconds as they go on the wire, when the call has been
    /// going on for `waited` and the operation's deadline is `left` away (§13.3).
    pub(crate) fn wait_ms(&self, waited: Duration, left: Option<Duration>) -> i64 {
        /// Do not wait.
        const NO_WAIT: i64 = -1;
        /// Wait as long as the store allows.
        const FOREVER: i64 = i64::MAX;
        let own = match self.wait {
            LockWait::NoWait => return NO_WAIT,
            LockWait::For(wait) => Some(wait.saturating_sub(waited)),
            LockWait::Forever => None,
        };
        let Some(wait) = own.into_iter().chain(left).min() else {
            return FOREVER;
        };
        match i64::try_from(wait.as_millis()) {
            Ok(0) => NO_WAIT,
            Ok(ms) => ms,
            Err(_) => FOREVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(keys: &[&'static str]) -> LockPlan {
        let ts = |n| Timestamp::from_version(n).unwrap();
        let key = |key: &&'static str| LockKey::new(*key);
        LockPlan {
            start_ts: ts(5),
            for_update_ts: ts(6),
            primary: "a".into(),
            new_primary: false,
            keys: keys.iter().map(key).collect(),
            wait: LockWait::Forever,
            return_values: false,
            check_existence: false,
            lock_only_if_exists: false,
            force: false,
            is_first_lock: false,
            open_for: Duration::ZERO,
            options: Arc::default(),
        }
    }

    /// transactions.md §13.3, «effective wait each attempt».
    #[test]
    fn what_is_left_to_wait() {
        let ms = Duration::from_millis;
        let secs = Duration::from_secs;
        let rows = [
            (LockWait::NoWait, ms(0), None, -1),
            (LockWait::NoWait, ms(0), Some(secs(9)), -1),
            (LockWait::For(ms(0)), ms(0), None, -1),
            (LockWait::For(ms(200)), ms(0), None, 200),
            (LockWait::For(ms(200)), ms(50), None, 150),
            (LockWait::For(ms(200)), ms(199), None, 1),
            (LockWait::For(ms(200)), ms(200), None, -1),
            (LockWait::For(ms(200)), ms(900), None, -1),
            (LockWait::For(ms(200)), ms(50), Some(ms(100)), 100),
            (LockWait::For(ms(200)), ms(50), Some(secs(9)), 150),
            (LockWait::For(ms(200)), ms(50), Some(ms(0)), -1),
            (LockWait::For(Duration::MAX), ms(50), None, i64::MAX),
            (LockWait::Forever, ms(50), None, i64::MAX),
            (LockWait::Forever, ms(50), Some(ms(70)), 70),
            (LockWait::Forever, ms(50), Some(ms(0)), -1),
        ];
        for (wait, waited, left, expected) in rows {
            let row = format!("{wait:?} {waited:?} {left:?}");
            assert_eq!(LockPlan { wait, ..plan(&["a"]) }.wait_ms(waited, left), expected, "{row}");
        }
    }

    #[test]
    fn plans_that_make_no_sense_are_refused() {
        let refused = |plan: LockPlan| plan.check().is_err();
        let early = Timestamp::from_version(4).unwrap();
        assert!(!refused(plan(&["a", "b"])) && !refused(plan(&["b", "c"])));
        assert!(refused(plan(&[])));
        assert!(refused(plan(&["b", "a"])) && refused(plan(&["b", "b"])));
        assert!(refused(plan(&["0", "a"])), "the primary goes first");
        assert!(refused(LockPlan { for_update_ts: early, ..plan(&["a"]) }));
        let max = Timestamp::MAX;
        assert!(refused(LockPlan { start_ts: max, for_update_ts: max, ..plan(&["a"]) }));
        assert!(refused(LockPlan { new_primary: true, ..plan(&["b"]) }));
        assert!(!refused(LockPlan { force: true, ..plan(&["a"]) }));
        assert!(refused(LockPlan { force: true, ..plan(&["a", "b"]) }));
    }

    /// transactions.md §13.2, 5; cases.md PES-07.
    #[test]
    fn pes_07_locking_only_what_exists_has_two_conditions() {
        let only = |keys: &[&'static str], return_values, new_primary| {
            let plan = plan(keys);
            LockPlan { lock_only_if_exists: true, return_values, new_primary, ..plan }.check()
        };
        assert!(only(&["a"], true, true).is_ok() && only(&["a", "b"], true, false).is_ok());
        let [no_values, no_primary] = [only(&["a"], false, true), only(&["a", "b"], true, true)];
        let (no_values, no_primary) = (no_values.unwrap_err(), no_primary.unwrap_err());
        assert_eq!(no_values.kind(), &ErrorKind::InvalidArgument);
        assert_eq!(no_primary.kind(), &ErrorKind::InvalidArgument);
        assert_ne!(no_values.message(), no_primary.message());
    }
}
