//! What is known about a key beside its value (`transactions.md` §2.4).
//!
//! | flag | client-go's name | survives a roll back | set by | cleared by |
//! |---|---|---|---|---|
//! | presumed absent | `PresumeKNE` | no | insert | – |
//! | locked | `KeyLocked` | yes | lock, mark as locked | unlock |
//! | value existed | `KeyLockedValExist` | yes | mark as locked, if told so | unlock; the opposite |
//! | value was absent | (its absence) | yes | mark as locked, if told so | unlock; the opposite |
//! | check at prewrite | `NeedConstraintCheckInPrewrite` | yes | on demand | a value; mark as locked |
//! | asserted to exist | `AssertExist` | no | assert | assert |
//! | asserted not to exist | `AssertNotExist` | no | assert | assert |
//!
//! Flags are not versioned: rolling back to a savepoint does not bring back what they were. When it
//! takes away the first value that a key was given, the transient flags go with it; the persistent
//! ones, which tell of locks in the cluster, stay, and so does the key.
//!
//! What client-go keeps in flags and this client does not:
//! - `NeedCheckExists` is «presumed absent, and not known to have been absent when it was locked»;
//! - `NewlyInserted` is «presumed absent», since here nothing but an insert creates a key;
//! - `PrewriteOnly` is the mutation's own operation, [`MutationOp::CheckNotExists`];
//! - `NeedLocked`, `IgnoredIn2PC`, `Readable` and `PreviousPresumeKNE` are marks of TiDB's, which a
//!   client only stores; shared locks are not held.
//!
//! [`MutationOp::CheckNotExists`]: crate::MutationOp::CheckNotExists

use std::fmt;

use crate::operation::Assertion;

/// What is known about a key beside its value. See the table of the module.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

const PRESUMED_ABSENT: u8 = 1;
const LOCKED: u8 = 1 << 1;
const VALUE_EXISTED: u8 = 1 << 2;
const VALUE_WAS_ABSENT: u8 = 1 << 3;
const CHECK_AT_PREWRITE: u8 = 1 << 4;
const ASSERT_EXIST: u8 = 1 << 5;
const ASSERT_NOT_EXIST: u8 = 1 << 6;

const PERSISTENT: u8 = LOCKED | VALUE_EXISTED | VALUE_WAS_ABSENT | CHECK_AT_PREWRITE;

const NAMES: [(u8, &str); 7] = [
    (PRESUMED_ABSENT, "presumed absent"),
    (LOCKED, "locked"),
    (VALUE_EXISTED, "value existed"),
    (VALUE_WAS_ABSENT, "value was absent"),
    (CHECK_AT_PREWRITE, "check at prewrite"),
    (ASSERT_EXIST, "asserted to exist"),
    (ASSERT_NOT_EXIST, "asserted not to exist"),
];

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the key was inserted on condition that it has no value.
    pub fn presumed_absent(self) -> bool {
        self.0 & PRESUMED_ABSENT != 0
    }

    /// Whether the transaction has locked it: in the cluster if it is pessimistic, with its prewrite
    /// if it is optimistic.
    pub fn locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    /// Whether it had a value when it was locked; `None` if nobody has asked, or it is not locked.
    /// While the lock is held it cannot change.
    pub fn value_existed(self) -> Option<bool> {
        match (self.0 & VALUE_EXISTED != 0, self.0 & VALUE_WAS_ABSENT != 0) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// Whether the check for conflicts was left to the prewrite.
    pub fn check_at_prewrite(self) -> bool {
        self.0 & CHECK_AT_PREWRITE != 0
    }

    /// What is believed about the key.
    pub fn assertion(self) -> Assertion {
        match (self.0 & ASSERT_EXIST != 0, self.0 & ASSERT_NOT_EXIST != 0) {
            (true, _) => Assertion::Exist,
            (false, true) => Assertion::NotExist,
            (false, false) => Assertion::None,
        }
    }

    /// Those that outlive the value which they came with.
    #[must_use]
    pub(super) fn persistent(self) -> Self {
        Self(self.0 & PERSISTENT)
    }

    #[must_use]
    pub(super) fn with_presumption(self) -> Self {
        Self(self.0 | PRESUMED_ABSENT)
    }

    /// A lock, with what is known of the value under it. Without news what was known before stays
    /// true: the lock has been held ever since.
    #[must_use]
    pub(super) fn with_lock(self, value_existed: Option<bool>) -> Self {
        let kept = self.0 & !CHECK_AT_PREWRITE | LOCKED;
        Self(match value_existed {
            None => kept,
            Some(true) => kept & !VALUE_WAS_ABSENT | VALUE_EXISTED,
            Some(false) => kept & !VALUE_EXISTED | VALUE_WAS_ABSENT,
        })
    }

    #[must_use]
    pub(super) fn without_lock(self) -> Self {
        Self(self.0 & !(LOCKED | VALUE_EXISTED | VALUE_WAS_ABSENT))
    }

    #[must_use]
    pub(super) fn with_check_at_prewrite(self) -> Self {
        Self(self.0 | CHECK_AT_PREWRITE)
    }

    /// What every write of a value does first.
    #[must_use]
    pub(super) fn without_check_at_prewrite(self) -> Self {
        Self(self.0 & !CHECK_AT_PREWRITE)
    }

    /// The new assertion takes the place of the old one.
    #[must_use]
    pub(super) fn with_assertion(self, assertion: Assertion) -> Self {
        let others = self.0 & !(ASSERT_EXIST | ASSERT_NOT_EXIST);
        Self(match assertion {
            Assertion::None => others,
            Assertion::Exist => others | ASSERT_EXIST,
            Assertion::NotExist => others | ASSERT_NOT_EXIST,
        })
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0);
        let names: Vec<&str> = set.map(|(_, name)| *name).collect();
        write!(f, "{{{}}}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Flags {
        let bit = |name| NAMES.iter().find(|(_, known)| known == name).expect("a flag").0;
        Flags(names.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// transactions.md §2.4, the column «persistent».
    #[test]
    fn locks_are_persistent_and_beliefs_are_not() {
        for (name, persistent) in [
            ("presumed absent", false),
            ("locked", true),
            ("value existed", true),
            ("value was absent", true),
            ("check at prewrite", true),
            ("asserted to exist", false),
            ("asserted not to exist", false),
        ] {
            let flags = named(&[name]);
            let expected = if persistent { flags } else { Flags::NONE };
            assert_eq!(flags.persistent(), expected, "{name}");
        }
    }

    /// transactions.md §2.4, «Op side effects».
    #[test]
    fn each_change_has_its_side_effects() {
        type Change = fn(Flags) -> Flags;
        let all: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
        let without = |gone: &[&str]| -> Vec<&str> {
            all.iter().copied().filter(|name| !gone.contains(name)).collect()
        };
        let rows: [(&str, Change, Vec<&str>, Vec<&str>); 9] = [
            ("insert", Flags::with_presumption, vec!["presumed absent"], all.clone()),
            (
                "lock, nothing asked",
                |flags| flags.with_lock(None),
                vec!["locked"],
                without(&["check at prewrite"]),
            ),
            (
                "lock, there is a value",
                |flags| flags.with_lock(Some(true)),
                vec!["locked", "value existed"],
                without(&["check at prewrite", "value was absent"]),
            ),
            (
                "lock, there is none",
                |flags| flags.with_lock(Some(false)),
                vec!["locked", "value was absent"],
                without(&["check at prewrite", "value existed"]),
            ),
            (
                "unlock",
                Flags::without_lock,
                vec![],
                without(&["locked", "value existed", "value was absent"]),
            ),
            (
                "leave the check to the prewrite",
                Flags::with_check_at_prewrite,
                vec!["check at prewrite"],
                all.clone(),
            ),
            ("a value", Flags::without_check_at_prewrite, vec![], without(&["check at prewrite"])),
            (
                "assert that it exists",
                |flags| flags.with_assertion(Assertion::Exist),
                vec!["asserted to exist"],
                without(&["asserted not to exist"]),
            ),
            (
                "assert that it does not",
                |flags| flags.with_assertion(Assertion::NotExist),
                vec!["asserted not to exist"],
                without(&["asserted to exist"]),
            ),
        ];
        for (what, change, from_none, from_all) in rows {
            assert_eq!(change(Flags::NONE), named(&from_none), "{what}");
            assert_eq!(change(named(&all)), named(&from_all), "{what}");
        }
        let neither = named(&all).with_assertion(Assertion::None);
        assert_eq!(neither, named(&without(&["asserted to exist", "asserted not to exist"])));
    }

    #[test]
    fn what_is_set_can_be_asked_for_and_printed() {
        let flags = Flags::NONE.with_lock(Some(false)).with_presumption();
        assert!(flags.locked() && flags.presumed_absent() && !flags.check_at_prewrite());
        assert_eq!(flags.value_existed(), Some(false));
        assert_eq!(Flags::NONE.with_lock(None).value_existed(), None);
        assert_eq!(Flags::NONE.with_lock(Some(true)).value_existed(), Some(true));
        assert_eq!(format!("{flags:?}"), "{presumed absent, locked, value was absent}");
    }
}
