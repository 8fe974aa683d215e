//! Savepoints of a [`Buffer`] (`transactions.md` §4.1).
//!
//! ```text
//!   savepoint ──▶ open ──release──▶ (gone; its changes stay)
//!                 │  ▲
//!                 └──┘ roll back to it: its changes are undone, newer savepoints are gone
//! ```
//!
//! An undo log, not a copy: while a savepoint is open, the first write of a value to a key since the
//! newest one puts down what there was before. So a savepoint costs nothing, a write under it a
//! logarithm, and rolling back as much as was written since. Once no savepoint is open the log is
//! empty.
//!
//! Flags are not in the log; see `flags.rs` for what becomes of them.

use std::collections::btree_map;

use super::{Buffer, Kept, State};
use crate::error::{Error, ErrorKind};
use crate::operation::Key;

/// A moment in the life of a [`Buffer`] that it can be taken back to.
///
/// Means nothing to another buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Savepoint(u64);

/// The savepoints that are open, and what it takes to go back to them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Stages {
    open: Vec<Stage>,
    log: Vec<Undo>,
    /// Numbers savepoints and lines of the log alike, each number once; 0 is neither.
    numbered: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Stage {
    savepoint: Savepoint,
    /// How long the log was.
    log: usize,
}

/// What a key was before its first write since the newest savepoint.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Undo {
    key: Key,
    state: State,
    /// The line before for the same key.
    before: u64,
    number: u64,
}

impl Stages {
    pub(super) fn any(&self) -> bool {
        !self.open.is_empty()
    }

    /// Puts down what a key is, before it changes. `logged` is the number of the last line for this
    /// key; the new one is returned.
    pub(super) fn note(&mut self, key: &Key, state: &State, logged: u64) -> u64 {
        match self.open.last() {
            Some(stage) if logged <= stage.savepoint.0 => {
                self.numbered += 1;
                let (key, state) = (key.clone(), state.clone());
                self.log.push(Undo { key, state, before: logged, number: self.numbered });
                self.numbered
            }
            Some(_) | None => logged,
        }
    }

    /// Forgets all of them. Their numbers are not given again.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.log.clear();
    }

    /// The place of a savepoint among those that are open.
    fn find(&self, savepoint: Savepoint) -> Result<usize, Error> {
        let found = self.open.binary_search_by_key(&savepoint.0, |stage| stage.savepoint.0);
        found.map_err(|_| {
            let text = "the savepoint is not open: it was released, or undone by rolling back to \
                        an older one, or belongs to another transaction";
            Error::new(ErrorKind::InvalidArgument, text)
        })
    }
}

impl Buffer {
    /// Marks the present state, to come back to it. Savepoints nest.
    pub fn savepoint(&mut self) -> Savepoint {
        let stages = &mut self.stages;
        stages.numbered += 1;
        let savepoint = Savepoint(stages.numbered);
        stages.open.push(Stage { savepoint, log: stages.log.len() });
        savepoint
    }

    /// How many savepoints are open.
    pub fn savepoints(&self) -> usize {
        self.stages.open.len()
    }

    /// Forgets the newest savepoint. What was written since belongs to the one before it, or for good
    /// to the transaction.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is not the newest, or not open at all. Nothing has changed
    /// then.
    pub fn release(&mut self, savepoint: Savepoint) -> Result<(), Error> {
        let place = self.stages.find(savepoint)?;
        let newer = self.stages.open.len() - 1 - place;
        if newer > 0 {
            let text = format!("{newer} newer savepoints are open and have to be released before");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        self.stages.open.pop();
        if place == 0 {
            self.dirty |= !self.stages.log.is_empty();
            self.stages.log = Vec::new();
        }
        Ok(())
    }

    /// Undoes every write since the savepoint, those under newer savepoints included, whether these
    /// were released or not. The savepoint stays open and can be rolled back to again; newer ones are
    /// gone.
    ///
    /// Locks in the cluster are not undone: their keys stay, without a value if they had none before,
    /// and are locked at commit or released with the transaction. Nor are flags of keys that had been
    /// written before. An insert is undone with its condition, if it was the key's first write.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is not open. Nothing has changed then.
    pub fn roll_back_to(&mut self, savepoint: Savepoint) -> Result<(), Error> {
        let place = self.stages.find(savepoint)?;
        self.stages.open.truncate(place + 1);
        let Some(stage) = self.stages.open.last() else {
            return Ok(());
        };
        for undo in self.stages.log.split_off(stage.log).into_iter().rev() {
            let btree_map::Entry::Occupied(mut entry) = self.entries.entry(undo.key) else {
                // A key with a value is never removed but here.
                continue;
            };
            let now = entry.get_mut();
            self.size = self.size - now.state.len() + undo.state.len();
            (now.state, now.logged) = (undo.state, undo.before);
            if now.state == State::Nothing {
                now.flags = now.flags.persistent();
                if now.flags.is_empty() {
                    self.size -= entry.key().len();
                    entry.remove();
                }
            }
        }
        Ok(())
    }

    /// The keys whose values were written since a savepoint and not undone, each once, in the order of
    /// the writes, as they are now.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the savepoint is not open.
    pub fn since(&self, savepoint: Savepoint) -> Result<impl Iterator<Item = Kept<'_>>, Error> {
        let place = self.stages.find(savepoint)?;
        let from = self.stages.open.get(place).map_or(0, |stage| stage.log);
        let lines = self.stages.log.get(from..).unwrap_or_default();
        // A key that was written under a newer savepoint again has a newer line, which counts.
        Ok(lines.iter().filter_map(|undo| {
            let (key, entry) = self.entries.get_key_value(&undo.key)?;
            (entry.logged == undo.number).then(|| Kept::of(key, entry))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Assertion, MutationOp};
    use crate::txn::BufferLimits;

    /// Everything that a caller can see of a buffer.
    fn seen(buffer: &Buffer) -> (Vec<String>, usize, usize) {
        let all = buffer.iter(&Default::default()).map(|kept| format!("{kept:?}")).collect();
        (all, buffer.len(), buffer.size())
    }

    fn written(buffer: &Buffer, savepoint: Savepoint) -> Vec<Key> {
        buffer.since(savepoint).unwrap().map(|kept| kept.key.clone()).collect()
    }

    /// cases.md BUF-03.
    #[test]
    fn a_release_keeps_and_a_roll_back_undoes() {
        let mut buffer = Buffer::default();
        buffer.put("a", "1").unwrap();
        buffer.delete("b").unwrap();
        let before = seen(&buffer);
        let outer = buffer.savepoint();
        buffer.put("a", "22").unwrap();
        buffer.put("b", "2").unwrap();
        buffer.insert("c", "3").unwrap();
        let middle = seen(&buffer);
        let inner = buffer.savepoint();
        buffer.delete("a").unwrap();
        buffer.put("d", "4").unwrap();
        assert_eq!(written(&buffer, inner), ["a", "d"]);
        assert_eq!(written(&buffer, outer), ["b", "c", "a", "d"]);
        buffer.roll_back_to(inner).unwrap();
        assert_eq!(seen(&buffer), middle);
        assert_eq!(written(&buffer, outer), ["a", "b", "c"]);
        buffer.delete("c").unwrap();
        buffer.release(inner).unwrap();
        assert_eq!(buffer.get(b"c"), Some(None));
        assert_eq!(written(&buffer, outer), ["a", "b", "c"]);
        // What was released into the outer one is undone with it.
        buffer.roll_back_to(outer).unwrap();
        assert_eq!(seen(&buffer), before);
        // And again: it is still open.
        buffer.put("a", "5").unwrap();
        buffer.roll_back_to(outer).unwrap();
        assert_eq!(seen(&buffer), before);
        buffer.put("e", "6").unwrap();
        buffer.release(outer).unwrap();
        assert_eq!(buffer.get(b"e"), Some(Some("6".into())));
        assert_eq!((buffer.savepoints(), buffer.stages.log.len()), (0, 0));
    }

    /// cases.md BUF-03: «nested up to 100 levels».
    #[test]
    fn a_hundred_levels() {
        let mut buffer = Buffer::default();
        let mut states = Vec::new();
        for n in 0..100_u8 {
            states.push((buffer.savepoint(), seen(&buffer)));
            buffer.put(vec![n % 7], vec![n; usize::from(n) + 1]).unwrap();
        }
        while let Some((savepoint, state)) = states.pop() {
            if states.len() % 3 == 0 {
                buffer.release(savepoint).unwrap();
            } else {
                buffer.roll_back_to(savepoint).unwrap();
                assert_eq!(seen(&buffer), state);
                buffer.release(savepoint).unwrap();
            }
        }
        assert_eq!(buffer.savepoints(), 0);
    }

    /// cases.md BUF-04: a wrong handle is an error, and changes nothing.
    #[test]
    fn misuse_is_an_error() {
        let mut buffer = Buffer::default();
        let outer = buffer.savepoint();
        buffer.put("a", "1").unwrap();
        let inner = buffer.savepoint();
        buffer.put("b", "1").unwrap();
        let before = buffer.clone();
        let refused = |result: Result<(), Error>| {
            assert_eq!(result.unwrap_err().kind(), &ErrorKind::InvalidArgument);
        };
        // Not the newest.
        refused(buffer.release(outer));
        // Of another buffer.
        refused(Buffer::default().roll_back_to(inner));
        assert_eq!(buffer, before);
        // Rolling back to an older one ends the newer one.
        buffer.roll_back_to(outer).unwrap();
        refused(buffer.release(inner));
        refused(buffer.roll_back_to(inner));
        assert!(buffer.since(inner).is_err());
        // Released twice.
        buffer.release(outer).unwrap();
        refused(buffer.release(outer));
        // Cleared: savepoints are of what was.
        let gone = buffer.savepoint();
        buffer.clear();
        refused(buffer.release(gone));
        let next = buffer.savepoint();
        assert_ne!(next, gone);
    }

    /// cases.md BUF-07: persistent flags survive, transient ones vanish with the first value.
    #[test]
    fn a_roll_back_keeps_locks() {
        let mut buffer = Buffer::default();
        let savepoint = buffer.savepoint();
        buffer.insert("k", "1").unwrap();
        buffer.assert("k", Assertion::NotExist).unwrap();
        buffer.mark_locked("k", Some(false));
        buffer.insert("l", "1").unwrap();
        buffer.assert("l", Assertion::NotExist).unwrap();
        buffer.roll_back_to(savepoint).unwrap();
        let flags = buffer.flags(b"k").expect("a lock is in the cluster, whatever is rolled back");
        assert!(flags.locked() && flags.value_existed() == Some(false));
        assert!(!flags.presumed_absent());
        assert_eq!(flags.assertion(), Assertion::None);
        assert_eq!(buffer.get(b"k"), None, "a key without a value is the snapshot's");
        assert_eq!(buffer.flags(b"l"), None);
        assert_eq!((buffer.len(), buffer.size()), (1, 1));
        // The first *value*: of a key that had flags only, transient ones go as well.
        buffer.assert("m", Assertion::Exist).unwrap();
        buffer.put("m", "1").unwrap();
        buffer.roll_back_to(savepoint).unwrap();
        assert_eq!(buffer.flags(b"m"), None);
        // Of a key that had a value before, flags stay as they have become.
        buffer.release(savepoint).unwrap();
        buffer.put("n", "1").unwrap();
        let savepoint = buffer.savepoint();
        buffer.put("n", "2").unwrap();
        buffer.assert("n", Assertion::Exist).unwrap();
        buffer.roll_back_to(savepoint).unwrap();
        assert_eq!(buffer.flags(b"n").map(|flags| flags.assertion()), Some(Assertion::Exist));
        assert_eq!(buffer.get(b"n"), Some(Some("1".into())));
    }

    /// An insert that is rolled back leaves no condition behind; one that was there before stays one.
    #[test]
    fn a_roll_back_undoes_conditions_with_their_inserts() {
        let mut buffer = Buffer::default();
        let outer = buffer.savepoint();
        buffer.insert("a", "1").unwrap();
        let inner = buffer.savepoint();
        buffer.delete("a").unwrap();
        buffer.roll_back_to(inner).unwrap();
        assert_eq!(buffer.mutations()[0].op, MutationOp::Insert("1".into()));
        buffer.roll_back_to(outer).unwrap();
        buffer.put("a", "2").unwrap();
        assert_eq!(buffer.mutations()[0].op, MutationOp::Put("2".into()));
    }

    /// cases.md BUF-06, transactions.md §4.1.
    #[test]
    fn dirty_is_what_cannot_be_undone() {
        let mut buffer = Buffer::default();
        assert!(!buffer.is_dirty());
        let outer = buffer.savepoint();
        let inner = buffer.savepoint();
        buffer.put("a", "1").unwrap();
        buffer.release(inner).unwrap();
        assert!(!buffer.is_dirty());
        buffer.roll_back_to(outer).unwrap();
        buffer.release(outer).unwrap();
        assert!(!buffer.is_dirty(), "nothing was left to release");
        let savepoint = buffer.savepoint();
        buffer.put("a", "1").unwrap();
        buffer.release(savepoint).unwrap();
        assert!(buffer.is_dirty());

        let mut locked = Buffer::default();
        let savepoint = locked.savepoint();
        locked.mark_locked("k", None);
        locked.roll_back_to(savepoint).unwrap();
        assert!(locked.is_dirty(), "locks are not undone");

        let mut plain = Buffer::default();
        plain.delete("k").unwrap();
        assert!(plain.is_dirty());
        plain.clear();
        assert!(!plain.is_dirty());
    }

    /// The log holds a line per key and savepoint, however often the key is written.
    #[test]
    fn the_log_grows_with_keys_and_not_with_writes() {
        let mut buffer = Buffer::new(BufferLimits::default());
        let _outer = buffer.savepoint();
        for _ in 0..100 {
            buffer.put("a", "1").unwrap();
            buffer.put("b", "1").unwrap();
        }
        assert_eq!(buffer.stages.log.len(), 2);
        let _inner = buffer.savepoint();
        for _ in 0..100 {
            buffer.delete("a").unwrap();
        }
        assert_eq!(buffer.stages.log.len(), 3);
    }
}
