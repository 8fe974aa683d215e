//! What a [`Buffer`] asks of the cluster when its transaction commits (`transactions.md` §5).
//!
//! | value | unnecessary | what is known about the key | mutation |
//! |---|---|---|---|
//! | none, only flags | – | not locked | – |
//! | none | – | locked | Lock |
//! | a value | yes | not locked | – |
//! | a value | yes | locked | Lock, so that the commit releases it |
//! | a value | no | presumed absent | Insert |
//! | a value | no | else | Put |
//! | deleted | yes | whatever | – |
//! | deleted | no | presumed absent, optimistic | CheckNotExists |
//! | deleted | no | presumed absent, pessimistic, not locked | refused: lock it first |
//! | deleted | no | presumed absent, pessimistic, locked | Lock |
//! | deleted | no | else | Delete |
//!
//! The rows of client-go, with one that is stricter. A key that a pessimistic transaction inserted,
//! deleted and never locked is left out there, and with it the condition of the insert. No prewrite can
//! check it: TiKV takes no CheckNotExists in a pessimistic one. So the key has to be locked before the
//! commit, with the question whether it exists.
//!
//! For the same reason what such a transaction inserted without a lock is always checked for
//! conflicts by the prewrite: an insert of a key that nobody locks would write over whatever is there.

use super::{Buffer, Entry, Kept, State};
use crate::error::{AssertionFailure, Error, ErrorKind};
use crate::operation::{Assertion, Key, LockState, Mutation, MutationOp};
use crate::timestamp::Timestamp;
use crate::txn::AssertionLevel;

/// For what kind of transaction mutations are collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Collecting {
    /// Its start.
    pub start_ts: Timestamp,
    /// Whether its locks are in the cluster already.
    pub pessimistic: bool,
    /// How strictly assertions are checked; with [`AssertionLevel::Off`] none is sent.
    pub assertion_level: AssertionLevel,
}

/// What is to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Collected {
    /// Sorted by key, without duplicates; may be empty, then there is nothing to commit.
    pub mutations: Vec<Mutation>,
    /// The first assertion that what a lock has told contradicts. It fails the transaction, but not
    /// before its prewrite: see [`CommitPlan::stashed_assertion`](crate::CommitPlan).
    pub stashed_assertion: Option<Box<AssertionFailure>>,
}

impl Buffer {
    /// What an optimistic transaction without assertions has to commit, sorted by key.
    pub fn mutations(&self) -> Vec<Mutation> {
        let one = |(key, entry): (&Key, &Entry)| {
            Some(Mutation::new(key.clone(), entry.op(false, false)?))
        };
        self.entries.iter().filter_map(one).collect()
    }

    /// What is to be committed. Linear in the keys; values are shared with the buffer.
    ///
    /// # Errors
    /// Of a pessimistic transaction, where the prewrite would not look whether an insert's condition
    /// holds. [`ErrorKind::KeyExists`] if a lock has told that there is a value.
    /// [`ErrorKind::InvalidArgument`] if the key is locked and nobody has asked
    /// ([`LockNeed::Verify`](super::LockNeed)), or was deleted again and is not locked: lock it with the
    /// question, and collect again.
    pub fn collect(&self, how: &Collecting) -> Result<Collected, Error> {
        self.collect_but(how, |_| false)
    }

    /// The same without the writes that `unnecessary` finds. Its locks are released all the same.
    ///
    /// # Errors
    /// As [`Buffer::collect`].
    pub fn collect_but(
        &self,
        how: &Collecting,
        unnecessary: impl Fn(Kept<'_>) -> bool,
    ) -> Result<Collected, Error> {
        let mut collected = Collected::default();
        collected.mutations.reserve_exact(self.entries.len());
        for (key, entry) in &self.entries {
            let flags = entry.flags;
            let spared = entry.state != State::Nothing && unnecessary(Kept::of(key, entry));
            if how.pessimistic && flags.presumed_absent() && !spared {
                verified(key, entry)?;
            }
            let Some(op) = entry.op(how.pessimistic, spared) else {
                continue;
            };
            let held = how.pessimistic && flags.locked();
            let locked = if held {
                LockState::Held
            } else if how.pessimistic && (flags.check_at_prewrite() || flags.presumed_absent()) {
                LockState::CheckAtPrewrite
            } else {
                LockState::Not
            };
            let assertion = match how.assertion_level {
                AssertionLevel::Off => Assertion::None,
                AssertionLevel::Fast | AssertionLevel::Strict => flags.assertion(),
            };
            let refuted = match assertion {
                Assertion::None => false,
                Assertion::Exist => held && flags.value_existed() == Some(false),
                Assertion::NotExist => held && flags.value_existed() == Some(true),
            };
            if refuted && collected.stashed_assertion.is_none() {
                collected.stashed_assertion = Some(Box::new(AssertionFailure {
                    start_ts: how.start_ts.version(),
                    key: key.clone(),
                    assertion,
                    existing_start_ts: 0,
                    existing_commit_ts: 0,
                }));
            }
            collected.mutations.push(Mutation { key: key.clone(), op, locked, assertion });
        }
        Ok(collected)
    }
}

impl Entry {
    /// The table of the module.
    fn op(&self, pessimistic: bool, unnecessary: bool) -> Option<MutationOp> {
        let (locked, presumed) = (self.flags.locked(), self.flags.presumed_absent());
        match (&self.state, unnecessary) {
            (State::Nothing, _) | (State::Value(_), true) => locked.then_some(MutationOp::Lock),
            (State::Value(value), false) if presumed => Some(MutationOp::Insert(value.clone())),
            (State::Value(value), false) => Some(MutationOp::Put(value.clone())),
            (State::Deleted, true) => None,
            (State::Deleted, false) if !presumed => Some(MutationOp::Delete),
            (State::Deleted, false) if pessimistic && locked => Some(MutationOp::Lock),
            (State::Deleted, false) => Some(MutationOp::CheckNotExists),
        }
    }
}

/// That the condition of an insert holds, or that the prewrite will find out.
fn verified(key: &Key, entry: &Entry) -> Result<(), Error> {
    let text = match (entry.flags.locked(), entry.flags.value_existed(), &entry.state) {
        (true, Some(false), _) | (false, _, State::Value(_) | State::Nothing) => return Ok(()),
        (true, Some(true), _) => {
            let text = "the key had a value when it was locked";
            return Err(Error::new(ErrorKind::KeyExists { key: key.clone() }, text));
        }
        (true, None, _) => "was inserted under a lock that has not told whether it has a value",
        (false, _, State::Deleted) => "was inserted and deleted, and has to be locked all the same",
    };
    let text = format!("the key {} {text}", key.escape_ascii());
    Err(Error::new(ErrorKind::InvalidArgument, text))
}

impl Collected {
    /// The key whose lock will stand for the transaction: `chosen`, which its pessimistic locks name
    /// already, or else the first that takes a lock (`peers.md` D14). A key that is only checked leaves
    /// nothing behind that others could ask about; only when all are such does the first stand in,
    /// since then there is nothing to commit either.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `chosen` is not locked by any of the mutations, or if there is
    /// no mutation at all.
    pub fn primary(&self, chosen: Option<&Key>) -> Result<&Key, Error> {
        let locks = |mutation: &&Mutation| mutation.op != MutationOp::CheckNotExists;
        let mutations = &self.mutations;
        let (found, text) = match chosen {
            Some(chosen) => {
                let place = mutations.binary_search_by(|mutation| mutation.key.cmp(chosen));
                let found = place.ok().and_then(|place| mutations.get(place)).filter(locks);
                (found, "no mutation locks the primary of the transaction")
            }
            None => {
                let found = mutations.iter().find(locks).or_else(|| mutations.first());
                (found, "there is nothing to commit")
            }
        };
        let error = || Error::new(ErrorKind::InvalidArgument, text);
        found.map(|mutation| &mutation.key).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::Flags;

    fn how(pessimistic: bool, assertion_level: AssertionLevel) -> Collecting {
        let start_ts = Timestamp::from_version(7).unwrap();
        Collecting { start_ts, pessimistic, assertion_level }
    }

    fn optimistic() -> Collecting {
        how(false, AssertionLevel::Off)
    }

    fn pessimistic() -> Collecting {
        how(true, AssertionLevel::Off)
    }

    /// A buffer with one key `k`, in a given state with given flags.
    fn holding(state: &str, flags: Flags) -> Buffer {
        let mut buffer = Buffer::default();
        let state = match state {
            "none" => State::Nothing,
            "value" => State::Value("v".into()),
            "deleted" => State::Deleted,
            other => panic!("{other}"),
        };
        buffer.entries.insert("k".into(), Entry { state, flags, logged: 0 });
        buffer
    }

    /// transactions.md §5, row by row, with both columns that decide beside the flags.
    #[test]
    fn each_row_of_the_table() {
        let none = Flags::NONE;
        let presumed = none.with_presumption();
        let locked = none.with_lock(None);
        let verified = presumed.with_lock(Some(false));
        let insert = || Some(MutationOp::Insert("v".into()));
        let put = || Some(MutationOp::Put("v".into()));
        let lock = || Some(MutationOp::Lock);
        let check = || Some(MutationOp::CheckNotExists);
        let delete = || Some(MutationOp::Delete);
        // state, unnecessary, flags, optimistic, pessimistic
        let rows = [
            ("none", false, none, None, None),
            ("none", false, locked, lock(), lock()),
            ("none", true, locked, lock(), lock()),
            ("none", false, none.with_check_at_prewrite(), None, None),
            ("none", false, none.with_assertion(Assertion::Exist), None, None),
            ("value", true, none, None, None),
            ("value", true, presumed, None, None),
            ("value", true, locked, lock(), lock()),
            ("value", true, presumed.with_lock(None), lock(), lock()),
            ("value", false, presumed, insert(), insert()),
            ("value", false, verified, insert(), insert()),
            ("value", false, none, put(), put()),
            ("value", false, locked, put(), put()),
            ("deleted", true, none, None, None),
            ("deleted", true, presumed, None, None),
            ("deleted", true, locked, None, None),
            ("deleted", false, verified, check(), lock()),
            ("deleted", false, none, delete(), delete()),
            ("deleted", false, locked, delete(), delete()),
        ];
        for (state, unnecessary, flags, as_optimistic, as_pessimistic) in rows {
            let buffer = holding(state, flags);
            let row = format!("{state}, unnecessary {unnecessary}, {flags:?}");
            for (how, expected) in [(optimistic(), as_optimistic), (pessimistic(), as_pessimistic)]
            {
                let collected = buffer.collect_but(&how, |_| unnecessary).unwrap();
                let ops: Vec<MutationOp> = collected.mutations.into_iter().map(|m| m.op).collect();
                assert_eq!(ops, Vec::from_iter(expected), "{row} {how:?}");
            }
            if !unnecessary {
                let plain = buffer.collect(&optimistic()).unwrap().mutations;
                assert_eq!(buffer.mutations(), plain, "{row}");
            }
        }
    }

    /// The row that is stricter than in client-go.
    #[test]
    fn what_was_inserted_and_deleted_without_a_lock_is_refused() {
        let flags = Flags::NONE.with_presumption();
        for flags in [flags, flags.with_check_at_prewrite()] {
            let buffer = holding("deleted", flags);
            let error = buffer.collect(&pessimistic()).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
            assert_eq!(
                error.message(),
                "the key k was inserted and deleted, and has to be locked all the same"
            );
            assert_eq!(buffer.mutations()[0].op, MutationOp::CheckNotExists);
            let spared = buffer.collect_but(&pessimistic(), |_| true).unwrap();
            assert_eq!(spared, Collected::default());
        }
        let mut buffer = holding("deleted", flags);
        buffer.mark_locked("k", Some(false));
        let collected = buffer.collect(&pessimistic()).unwrap();
        assert_eq!(collected.mutations[0].op, MutationOp::Lock);
    }

    /// transactions.md §5 and §8.1: what is said about a key's lock.
    #[test]
    fn locks_are_those_of_a_pessimistic_transaction() {
        let none = Flags::NONE;
        for (state, flags, expected) in [
            ("value", none, LockState::Not),
            ("value", none.with_lock(None), LockState::Held),
            ("none", none.with_lock(Some(true)), LockState::Held),
            ("value", none.with_check_at_prewrite(), LockState::CheckAtPrewrite),
            ("deleted", none.with_check_at_prewrite(), LockState::CheckAtPrewrite),
            ("value", none.with_check_at_prewrite().with_lock(None), LockState::Held),
            // Without a lock only the prewrite can see to it that there is nothing.
            ("value", none.with_presumption(), LockState::CheckAtPrewrite),
            ("value", none.with_presumption().with_lock(Some(false)), LockState::Held),
        ] {
            let buffer = holding(state, flags);
            let collected = buffer.collect(&pessimistic()).unwrap();
            assert_eq!(collected.mutations[0].locked, expected, "{state} {flags:?}");
            let collected = buffer.collect(&optimistic()).unwrap();
            assert_eq!(collected.mutations[0].locked, LockState::Not, "{state} {flags:?}");
        }
    }

    /// A prewrite does not look at what lies under a lock of its own transaction (`transactions.md`
    /// §20.3), so nothing that it would have to find may be left to it.
    #[test]
    fn an_insert_under_a_lock_that_has_not_told_is_not_committed() {
        for state in ["value", "deleted"] {
            let under = |existed| {
                let flags = Flags::NONE.with_presumption().with_lock(existed);
                holding(state, flags).collect(&pessimistic())
            };
            assert!(under(Some(false)).is_ok());
            let exists = under(Some(true)).unwrap_err();
            assert_eq!(exists.kind(), &ErrorKind::KeyExists { key: "k".into() });
            assert_eq!(under(None).unwrap_err().kind(), &ErrorKind::InvalidArgument);
        }
    }

    /// transactions.md §5: «compare the flag KeyLockedValExist with the assertion locally; first
    /// mismatch is stashed».
    #[test]
    fn an_assertion_that_a_lock_contradicts_is_stashed() {
        use Assertion::{Exist, NotExist};
        let stashed = |asserted: Assertion, existed: Option<Option<bool>>, how: Collecting| {
            let mut buffer = Buffer::default();
            buffer.put("k", "v").unwrap();
            buffer.assert("k", asserted).unwrap();
            existed.into_iter().for_each(|existed| buffer.mark_locked("k", existed));
            let collected = buffer.collect(&how).unwrap();
            let sent = collected.mutations[0].assertion;
            let level_off = how.assertion_level == AssertionLevel::Off;
            assert_eq!(sent, if level_off { Assertion::None } else { asserted });
            collected.stashed_assertion.map(|failure| failure.assertion)
        };
        let fast = how(true, AssertionLevel::Fast);
        for (asserted, existed, how, expected) in [
            (Exist, Some(Some(false)), fast, Some(Exist)),
            (Exist, Some(Some(true)), fast, None),
            (Exist, Some(None), fast, None),
            (Exist, None, fast, None),
            (NotExist, Some(Some(true)), fast, Some(NotExist)),
            (NotExist, Some(Some(false)), fast, None),
            (NotExist, Some(Some(true)), how(true, AssertionLevel::Strict), Some(NotExist)),
            (NotExist, Some(Some(true)), pessimistic(), None),
            (NotExist, Some(Some(true)), how(false, AssertionLevel::Fast), None),
            (Assertion::None, Some(Some(true)), fast, None),
        ] {
            assert_eq!(
                stashed(asserted, existed, how),
                expected,
                "{asserted:?} {existed:?} {how:?}"
            );
        }
        // The first of several, with everything that is known.
        let mut buffer = Buffer::default();
        for key in ["b", "a"] {
            buffer.put(key, "v").unwrap();
            buffer.assert(key, NotExist).unwrap();
            buffer.mark_locked(key, Some(true));
        }
        let failure = buffer.collect(&fast).unwrap().stashed_assertion.unwrap();
        assert_eq!((failure.key.as_ref(), failure.start_ts), (&b"a"[..], 7));
    }

    /// peers.md D14: `insert(a); delete(a); put(b)` has no lock on `a`.
    #[test]
    fn d14_the_primary_is_a_key_that_takes_a_lock() {
        let mut buffer = Buffer::default();
        let collected = |buffer: &Buffer| buffer.collect(&optimistic()).unwrap();
        assert!(collected(&buffer).primary(None).is_err());
        buffer.insert("a", "1").unwrap();
        buffer.delete("a").unwrap();
        // transactions.md §5: «if none remains because all are CheckNotExists → first mutation»
        assert_eq!(collected(&buffer).primary(None).unwrap(), "a");
        buffer.lock("c").unwrap();
        buffer.put("b", "2").unwrap();
        let collected = collected(&buffer);
        assert_eq!(collected.primary(None).unwrap(), "b");
        // «keep the pre-selected pessimistic primary»
        assert_eq!(collected.primary(Some(&"c".into())).unwrap(), "c");
        for none in ["a", "d"] {
            let error = collected.primary(Some(&none.into())).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
        }
    }
}
