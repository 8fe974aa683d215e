//! Locks of a [`Buffer`]'s transaction that are in the cluster (`transactions.md` §13.2).
//!
//! A pessimistic transaction locks its keys before it commits. What came of it is kept with the key:
//! whether it is locked, and whether it had a value then. The rest of the transaction's life depends
//! on that: a locked key is not locked again, an insert over a value fails, an assertion is compared.

use super::{Buffer, Entry, Flags};
use crate::operation::Key;

/// What has to be done before a pessimistic transaction may take a key for locked
/// (`transactions.md` §13.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockNeed {
    /// It has to be locked.
    Lock {
        /// The key was inserted: the request has to say that it must not exist.
        presume_not_exists: bool,
    },
    /// It is locked, and nothing is left to do.
    Held {
        /// Whether there is a value under the lock, if that was asked.
        value_existed: Option<bool>,
    },
    /// It is locked, and was inserted, and nobody has asked whether there is a value. A prewrite does
    /// not look, once a key is locked. So it has to be locked again, with the question.
    Verify,
    /// It is locked, and was inserted, and there is a value: [`KeyExists`](crate::ErrorKind::KeyExists).
    Exists,
}

impl Buffer {
    /// A pessimistic lock was taken. `value_existed` says whether there is a value under it, or `None`
    /// if the request did not ask; what was known before stays known then, since nothing changes under
    /// a lock.
    ///
    /// It holds whatever the limits are, since the lock is there.
    pub fn mark_locked(&mut self, key: impl Into<Key>, value_existed: Option<bool>) {
        self.flag(key.into(), |flags| flags.with_lock(value_existed));
    }

    /// A pessimistic lock is held no more; what it has told is not known any more.
    pub fn unlock(&mut self, key: &Key) {
        if self.entries.contains_key(key) {
            self.flag(key.clone(), Flags::without_lock);
        }
    }

    /// Whether the transaction has locked the key.
    pub fn is_locked(&self, key: &[u8]) -> bool {
        self.flags(key).is_some_and(Flags::locked)
    }

    /// How many keys it has locked.
    pub fn locked_len(&self) -> usize {
        self.locked
    }

    /// The keys that it has locked, in order.
    pub fn locked_keys(&self) -> impl Iterator<Item = &Key> {
        let locked = |(key, entry): (_, &Entry)| entry.flags.locked().then_some(key);
        self.entries.iter().filter_map(locked)
    }

    /// What has to be done before a pessimistic transaction may take the key for locked.
    pub fn lock_need(&self, key: &[u8]) -> LockNeed {
        let flags = self.flags(key).unwrap_or_default();
        let presume_not_exists = flags.presumed_absent();
        match (flags.locked(), presume_not_exists, flags.value_existed()) {
            (false, ..) => LockNeed::Lock { presume_not_exists },
            (true, true, None) => LockNeed::Verify,
            (true, true, Some(true)) => LockNeed::Exists,
            (true, _, value_existed) => LockNeed::Held { value_existed },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::txn::BufferLimits;

    /// transactions.md §2.4 and §13.2: what is done about a key that is to be locked.
    #[test]
    fn locks_are_taken_once_and_inserts_are_verified() {
        type Write = fn(&mut Buffer);
        let put: Write = |buffer| buffer.put("k", "1").unwrap();
        let delete: Write = |buffer| buffer.delete("k").unwrap();
        let insert: Write = |buffer| buffer.insert("k", "1").unwrap();
        let need = |writes: &[Write], locked: Option<Option<bool>>| {
            let mut buffer = Buffer::default();
            writes.iter().for_each(|write| write(&mut buffer));
            locked.into_iter().for_each(|existed| buffer.mark_locked("k", existed));
            buffer.lock_need(b"k")
        };
        let lock = |presume_not_exists| LockNeed::Lock { presume_not_exists };
        let held = |value_existed| LockNeed::Held { value_existed };
        for (row, (writes, locked, expected)) in [
            (&[][..], None, lock(false)),
            (&[put], None, lock(false)),
            (&[insert], None, lock(true)),
            (&[insert, delete], None, lock(true)),
            (&[delete, insert], None, lock(false)),
            (&[], Some(None), held(None)),
            (&[put], Some(Some(true)), held(Some(true))),
            (&[delete, insert], Some(Some(true)), held(Some(true))),
            (&[insert], Some(None), LockNeed::Verify),
            (&[insert], Some(Some(false)), held(Some(false))),
            (&[insert], Some(Some(true)), LockNeed::Exists),
            (&[insert, delete], Some(Some(true)), LockNeed::Exists),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(need(writes, locked), expected, "row {row}");
        }
    }

    /// transactions.md §2.4: «if key is already locked and value exists → KeyExist».
    #[test]
    fn an_insert_over_a_value_under_a_lock_fails_at_once() {
        let mut buffer = Buffer::default();
        buffer.mark_locked("k", Some(true));
        let error = buffer.insert("k", "1").unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::KeyExists { key: "k".into() });
        // Nothing was asked: it may be.
        buffer.mark_locked("l", None);
        buffer.insert("l", "1").unwrap();
        buffer.mark_locked("m", Some(false));
        buffer.insert("m", "1").unwrap();
        // The transaction has seen to it itself.
        buffer.delete("k").unwrap();
        buffer.insert("k", "1").unwrap();
        assert_eq!(buffer.get(b"k"), Some(Some("1".into())));
    }

    #[test]
    fn locks_are_counted_and_listed() {
        let mut buffer = Buffer::default();
        buffer.put("k", "put").unwrap();
        for key in ["b", "a", "k", "a"] {
            buffer.mark_locked(key, None);
        }
        assert_eq!(buffer.locked_keys().collect::<Vec<_>>(), ["a", "b", "k"]);
        assert_eq!((buffer.locked_len(), buffer.len(), buffer.size()), (3, 3, 6));
        assert!(buffer.is_locked(b"a") && !buffer.is_locked(b"z"));
        // What was learnt under a lock stays true while it is held, and no longer.
        buffer.mark_locked("k", Some(true));
        buffer.mark_locked("k", None);
        assert_eq!(buffer.lock_need(b"k"), LockNeed::Held { value_existed: Some(true) });
        for key in ["a", "k", "z"] {
            buffer.unlock(&key.into());
        }
        assert_eq!(buffer.lock_need(b"k"), LockNeed::Lock { presume_not_exists: false });
        assert_eq!(buffer.locked_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!((buffer.locked_len(), buffer.len(), buffer.size()), (1, 2, 5));
        // A limit that has been reached keeps no lock from being known.
        buffer.set_limits(BufferLimits { total: 1, entry: 1 });
        buffer.mark_locked("long", None);
        assert!(buffer.is_locked(b"long"));
    }
}
