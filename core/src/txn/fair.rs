//! Fair locking: a statement that is tried again keeps the locks it has (`transactions.md` §14).
//!
//! A pessimistic lock that meets a newer version is normally refused; the statement is then run again
//! as of a later time, and meanwhile the key goes to whoever comes first. In fair locking the key is
//! locked all the same, with the newer version told, so that it is this transaction's turn. The locks of
//! an *attempt* belong to it: the next attempt takes over those that it wants again, often without
//! asking, and the others are released. Only when the statement is done do they become the
//! transaction's.
//!
//! ```text
//!         start                  retry: current becomes last, last is released
//! (off) ─────────▶ attempt 1 ─────────────────────────────────────────────────▶ attempt n
//!   ▲                  │                                                           │
//!   ├── done ──────────┴─────────── current is kept, last is released ─────────────┤
//!   └── cancel ───────────────────── both are released ────────────────────────────┘
//! ```
//!
//! | state | start | lock of one key | lock of several | retry | done | cancel | commit, roll back |
//! |---|---|---|---|---|---|---|---|
//! | off | attempt 1 | as ever | as ever | error | error | error | as ever |
//! | attempt, nothing held in it | error | current | done, then as ever | next attempt | off | off | cancel, then as ever |
//! | attempt, something held in it | error | current | done, then as ever | next attempt | off | off | error |
//!
//! The primary is no exception: one that was chosen in an attempt ends with it, unless the next
//! attempt locks the same key first. Its heartbeat goes on in between, since locks that are taken over
//! depend on it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::heartbeat::MANAGED_TTL;
use crate::lock_plan::Found;
use crate::operation::Key;
use crate::time::Instant;
use crate::timestamp::Timestamp;

/// The attempts of one statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fair {
    /// What this attempt holds.
    pub(super) current: BTreeMap<Key, Held>,
    /// What the one before held, and this one has not asked for yet.
    pub(super) last: BTreeMap<Key, Held>,
    /// The primary, if it was chosen in this attempt.
    pub(super) assigned: Option<Key>,
    /// The primary, if it was chosen in the attempt before; its heartbeat goes on.
    pub(super) last_assigned: Option<Key>,
    /// The primary that the locks of the attempt before name.
    pub(super) last_primary: Option<Key>,
    began: Instant,
    last_began: Option<Instant>,
}

/// A key that an attempt holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) found: Found,
    /// The values were asked for.
    pub(super) values: bool,
    /// Whether there are values was asked for.
    pub(super) existence: bool,
    /// As of when the lock was really taken.
    pub(super) at: Timestamp,
    /// The newer version that was met.
    pub(super) conflict_ts: Option<Timestamp>,
    /// A call for it has failed and may be releasing it: it can only be released once more.
    pub(super) in_doubt: bool,
}

/// What a lock call wants of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) values: bool,
    pub(super) existence: bool,
    /// The primary that the locks of this attempt name, if this attempt has chosen it.
    pub(super) assigned: Option<Key>,
    pub(super) now: Instant,
}

impl Fair {
    pub(super) fn start(now: Instant) -> Self {
        Self {
            current: BTreeMap::new(),
            last: BTreeMap::new(),
            assigned: None,
            last_assigned: None,
            last_primary: None,
            began: now,
            last_began: None,
        }
    }

    /// The next attempt. What the one before the last still holds is given back, to be released.
    pub(super) fn retry(&mut self, primary: Option<Key>, now: Instant) -> Vec<Key> {
        let released = std::mem::take(&mut self.last).into_keys().collect();
        self.last = std::mem::take(&mut self.current);
        self.last_assigned = self.assigned.take();
        self.last_primary = primary;
        self.last_began = Some(self.began);
        self.began = now;
        released
    }

    /// Whether a lock of the last attempt will do, without asking: it names the right primary, tells
    /// what is wanted, and is young enough to be there in any case (§22.26). What was told with a
    /// conflict is the newest there is, and always enough.
    pub(super) fn will_do(&self, held: &Held, wanted: &Wanted) -> bool {
        let same_primary = wanted.assigned.is_none() || wanted.assigned == self.last_primary;
        let told = held.conflict_ts.is_some()
            || ((!wanted.values || held.values)
                && (!wanted.existence || held.existence || held.values));
        let age = self.last_began.map_or(Duration::MAX, |began| wanted.now.since(began));
        !held.in_doubt && same_primary && told && age < MANAGED_TTL
    }

    /// A call that was to give the attempt its primary has failed, and with it the heartbeat has ended:
    /// nothing of the last attempt may be taken over without asking any more.
    pub(super) fn primary_lost(&mut self) {
        self.assigned = None;
        self.last_assigned = None;
        self.last_began = None;
    }

    /// The largest conflict of what is held.
    pub(super) fn max_conflict_ts(&self) -> Option<Timestamp> {
        let held = self.current.values().chain(self.last.values());
        held.filter_map(|held| held.conflict_ts.or(Some(held.at))).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(n: u64) -> Timestamp {
        Timestamp::from_version(n).unwrap()
    }

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    fn held(values: bool, existence: bool, conflict: bool) -> Held {
        let conflict_ts = conflict.then(|| ts(9));
        let found = Found::NotAsked;
        Held { found, values, existence, at: ts(9), conflict_ts, in_doubt: false }
    }

    /// transactions.md §14, the filter, condition by condition.
    #[test]
    fn what_the_last_attempt_holds_is_taken_over_if_it_will_do() {
        let (a, b) = (Key::from("a"), Key::from("b"));
        let mut fair = Fair::start(at(0));
        fair.retry(Some(a.clone()), at(5));
        // Held: values, existence, conflict. Wanted: values, existence, primary, now. Will do?
        type Row<'a> = (bool, bool, bool, bool, bool, Option<&'a Key>, u64, bool);
        let rows: [Row<'_>; 15] = [
            (false, false, false, false, false, None, 6, true),
            // Another primary than the one that the lock names.
            (false, false, false, false, false, Some(&a), 6, true),
            (false, false, false, false, false, Some(&b), 6, false),
            // More is wanted than is known.
            (false, false, false, true, false, None, 6, false),
            (false, false, false, false, true, None, 6, false),
            (false, true, false, false, true, None, 6, true),
            (false, true, false, true, false, None, 6, false),
            (true, false, false, true, false, None, 6, true),
            (true, false, false, false, true, None, 6, true),
            (true, true, false, true, true, None, 6, true),
            // A conflict tells everything.
            (false, false, true, true, true, None, 6, true),
            (false, false, true, true, true, Some(&b), 6, false),
            // Twenty seconds after the last attempt, which began at 0, has begun.
            (false, false, false, false, false, None, 19, true),
            (false, false, false, false, false, None, 20, false),
            (false, false, true, false, false, None, 20, false),
        ];
        for row in rows {
            let (held_values, held_existence, conflict, values, existence, assigned, now, expected) =
                row;
            let assigned = assigned.cloned();
            let wanted = Wanted { values, existence, assigned, now: at(now) };
            let held = held(held_values, held_existence, conflict);
            assert_eq!(fair.will_do(&held, &wanted), expected, "{row:?}");
        }
        let wanted = Wanted { values: false, existence: false, assigned: None, now: at(6) };
        let doubtful = Held { in_doubt: true, ..held(true, true, true) };
        assert!(!fair.will_do(&doubtful, &wanted), "it may be gone");
        fair.primary_lost();
        let wanted = Wanted { values: false, existence: false, assigned: None, now: at(6) };
        assert!(!fair.will_do(&held(true, true, true), &wanted), "nothing keeps it alive");
    }

    /// §14: «last := current; current := ∅».
    #[test]
    fn a_retry_gives_back_what_two_attempts_did_not_want() {
        let mut fair = Fair::start(at(0));
        fair.current.insert("a".into(), held(false, false, false));
        fair.assigned = Some("a".into());
        assert_eq!(fair.retry(Some("a".into()), at(1)), Vec::<Key>::new());
        assert_eq!((fair.last_assigned.clone(), fair.assigned.clone()), (Some("a".into()), None));
        fair.current.insert("b".into(), held(false, false, true));
        assert_eq!(fair.max_conflict_ts(), Some(ts(9)));
        assert_eq!(fair.retry(None, at(2)), [Key::from("a")]);
        assert_eq!((fair.last_assigned.clone(), fair.last.len()), (None, 1));
    }
}
