//! The writes of a transaction before it commits (`transactions.md` §4, §5).
//!
//! One entry a key: what the transaction has made of its value (nothing, a value, none), and what is
//! known about it beside ([`Flags`]). So a key costs the same however often it was written.
//!
//! ```text
//! then ▶       put      delete     insert        lock
//! nothing      Put      Delete     Insert        Lock
//! Put          Put      Delete     KeyExists     Put
//! Delete       Put      Delete     Put           Delete
//! Insert       Insert   Checked    KeyExists     Insert
//! Checked      Insert   Checked    Insert        Checked
//! Lock         Put      Delete     Insert        Lock
//! ```
//!
//! *Insert* is a write on condition that there was no value when the transaction started, or, if it
//! is pessimistic, when the key was locked. The condition, once stated, outlives the value: an insert
//! that is deleted again is still *checked*. After a *delete* an insert states nothing, because the
//! transaction itself has seen to it that the key is free. Where a lock has told that there is a value,
//! an insert fails at once.
//!
//! Whatever state a key is in, a read in the transaction sees it (`peers.md` D7).
//!
//! | file | what |
//! |---|---|
//! | `flags.rs` | what is known about a key beside its value |
//! | `locks.rs` | locks that are in the cluster |
//! | `stage.rs` | savepoints |
//! | `collect.rs` | what is to be committed |
//! | `union.rs` | scans of buffer and snapshot together |

mod collect;
mod flags;
mod locks;
#[cfg(test)]
mod model;
mod stage;
mod union;

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::Bound;

pub use self::collect::{Collected, Collecting};
pub use self::flags::Flags;
pub use self::locks::LockNeed;
pub use self::stage::Savepoint;
pub use self::union::{Union, UnionStep};

use self::stage::Stages;
use crate::error::{Error, ErrorKind};
use crate::operation::{Assertion, Key, KeyRange, Value};

/// The longest possible key, in bytes.
const MAX_KEY: usize = 65_535;

/// How much a [`Buffer`] takes. Without limits by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BufferLimits {
    /// The most bytes that one key and its value may have together.
    pub entry: usize,
    /// The most bytes that all keys and values may have together.
    pub total: usize,
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self { entry: usize::MAX, total: usize::MAX }
    }
}

/// The writes of a transaction that has not committed yet.
///
/// A write that fails leaves the buffer as it was.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Buffer {
    entries: BTreeMap<Key, Entry>,
    /// Key and value bytes of all entries.
    size: usize,
    /// How many keys are locked.
    locked: usize,
    dirty: bool,
    limits: BufferLimits,
    stages: Stages,
}

/// What the transaction has done to a key.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Entry {
    state: State,
    flags: Flags,
    /// The last line about it in the log of the savepoints.
    logged: u64,
}

/// What the transaction has made of a value.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
enum State {
    #[default]
    Nothing,
    Value(Value),
    Deleted,
}

impl State {
    /// What a read sees: a value, that there is none, or what the snapshot says.
    fn seen(&self) -> Option<Option<&Value>> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(Some(value)),
            Self::Deleted => Some(None),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Value(value) => value.len(),
            Self::Nothing | Self::Deleted => 0,
        }
    }
}

/// What a buffer holds about a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kept<'a> {
    /// The key.
    pub key: &'a Key,
    /// What the transaction has made of its value: one, or `Some(None)` that there is none. `None`
    /// of a key that has only flags: the snapshot decides.
    pub value: Option<Option<&'a Value>>,
    /// What is known about it beside.
    pub flags: Flags,
}

impl<'a> Kept<'a> {
    fn of(key: &'a Key, entry: &'a Entry) -> Self {
        Self { key, value: entry.state.seen(), flags: entry.flags }
    }
}

/// Without the value: what is printed may end in a log.
impl fmt::Debug for Kept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.value {
            None => "nothing".to_owned(),
            Some(None) => "deleted".to_owned(),
            Some(Some(value)) => format!("{} bytes", value.len()),
        };
        write!(f, "{}: {value} {:?}", self.key.escape_ascii(), self.flags)
    }
}

impl Buffer {
    /// An empty buffer.
    pub fn new(limits: BufferLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Other limits. What is in the buffer stays; what comes is measured by them.
    pub fn set_limits(&mut self, limits: BufferLimits) {
        self.limits = limits;
    }

    /// How much it takes.
    pub fn limits(&self) -> BufferLimits {
        self.limits
    }

    /// Whether no key was written, deleted, inserted, locked or marked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys it holds; deleted ones and those that have only flags count.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes its keys and values have.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether anything was done that rolling back to the savepoints that are open would not undo
    /// (`transactions.md` §4.1). A transaction whose buffer is not dirty has only read.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    // ---- reading -----------------------------------------------------------------------------

    /// What the transaction has made of a key: a value, `Some(None)` that there is none, or `None` if
    /// the snapshot decides.
    pub fn get(&self, key: &[u8]) -> Option<Option<Value>> {
        let seen = self.entries.get(key)?.state.seen()?;
        Some(seen.cloned())
    }

    /// What is known about a key beside its value; `None` if the buffer does not hold it.
    pub fn flags(&self, key: &[u8]) -> Option<Flags> {
        self.entries.get(key).map(|entry| entry.flags)
    }

    /// The keys of `range` in order, with those that have only flags.
    pub fn iter<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl DoubleEndedIterator<Item = Kept<'a>> + use<'a> {
        let end = match range.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(&range.end),
        };
        self.between(Bound::Included(&range.start), end)
    }

    /// The same between any bounds. Such as cross hold nothing.
    fn between<'a>(
        &'a self,
        low: Bound<&'a Key>,
        high: Bound<&'a Key>,
    ) -> impl DoubleEndedIterator<Item = Kept<'a>> + use<'a> {
        // A range that crosses would panic.
        let holds = match (low, high) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
            (Bound::Included(low), Bound::Included(high)) => low <= high,
            (
                Bound::Included(low) | Bound::Excluded(low),
                Bound::Included(high) | Bound::Excluded(high),
            ) => low < high,
        };
        let entries = holds.then(|| self.entries.range::<Key, _>((low, high)));
        entries.into_iter().flatten().map(kept as Keep<'a>)
    }

    // ---- writing -----------------------------------------------------------------------------

    /// Writes a value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for an empty value, which for a transaction is no value: delete
    /// the key instead. [`ErrorKind::KeyTooLarge`], [`ErrorKind::EntryTooLarge`] and
    /// [`ErrorKind::TxnTooLarge`] beyond a limit.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), Error> {
        let value = checked(value.into())?;
        self.write(key.into(), State::Value(value), Flags::without_check_at_prewrite)
    }

    /// Removes the value, if there is one.
    ///
    /// # Errors
    /// Those of [`Buffer::put`] about limits.
    pub fn delete(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        self.write(key.into(), State::Deleted, Flags::without_check_at_prewrite)
    }

    /// Writes a value on condition that there is none. Whether the cluster has one is found out when
    /// the key is locked, or at commit; whether the transaction itself has written one, or a lock of
    /// it has told, at once.
    ///
    /// # Errors
    /// [`ErrorKind::KeyExists`] in these two cases; else those of [`Buffer::put`].
    pub fn insert(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), Error> {
        let (key, value) = (key.into(), checked(value.into())?);
        let entry = self.entries.get(&key);
        let (state, flags) = entry.map_or((&State::Nothing, Flags::NONE), |e| (&e.state, e.flags));
        let existed = match (state, flags.value_existed()) {
            (State::Value(_), _) => Some("the transaction itself has written the key before"),
            (State::Nothing, Some(true)) => Some("the key had a value when it was locked"),
            (State::Nothing | State::Deleted, _) => None,
        };
        if let Some(text) = existed {
            return Err(Error::new(ErrorKind::KeyExists { key }, text));
        }
        let change = match state {
            // That the key is free the transaction has seen to itself.
            State::Deleted => Flags::without_check_at_prewrite,
            State::Nothing | State::Value(_) => {
                |flags: Flags| flags.without_check_at_prewrite().with_presumption()
            }
        };
        self.write(key, State::Value(value), change)
    }

    /// Makes an optimistic transaction conflict with every other that writes the key, without writing
    /// it: its prewrite locks the key.
    ///
    /// A key that was inserted and deleted stays only checked: no mutation says both. A lock is not
    /// undone by rolling back to a savepoint.
    ///
    /// # Errors
    /// Those of [`Buffer::put`] about limits.
    pub fn lock(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        self.mark(key.into(), |flags| flags.with_lock(None))
    }

    /// States what is believed about a key, in place of what was stated before. It is checked at
    /// commit, if the transaction's [`AssertionLevel`](super::AssertionLevel) says so.
    ///
    /// # Errors
    /// Those of [`Buffer::put`] about limits.
    pub fn assert(&mut self, key: impl Into<Key>, assertion: Assertion) -> Result<(), Error> {
        self.mark(key.into(), |flags| flags.with_assertion(assertion))
    }

    /// Leaves the check for conflicts of a key that a pessimistic transaction does not lock to its
    /// prewrite. A value that is written later takes it back, unless the key was inserted.
    ///
    /// # Errors
    /// Those of [`Buffer::put`] about limits.
    pub fn check_at_prewrite(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        self.mark(key.into(), Flags::with_check_at_prewrite)
    }

    /// A value, noted for the savepoints, and what it does to the flags.
    fn write(
        &mut self,
        key: Key,
        state: State,
        change: impl Fn(Flags) -> Flags,
    ) -> Result<(), Error> {
        let old = self.entries.get(&key).map(|entry| &entry.state);
        let size = self.fits(&key, old, state.len())?;
        self.size = size;
        if !self.stages.any() {
            self.dirty = true;
        }
        match self.entries.entry(key) {
            btree_map::Entry::Occupied(mut entry) => {
                let (state_was, logged) = (&entry.get().state, entry.get().logged);
                let logged = self.stages.note(entry.key(), state_was, logged);
                let entry = entry.get_mut();
                *entry = Entry { state, flags: change(entry.flags), logged };
            }
            btree_map::Entry::Vacant(entry) => {
                let logged = self.stages.note(entry.key(), &State::Nothing, 0);
                entry.insert(Entry { state, flags: change(Flags::NONE), logged });
            }
        }
        Ok(())
    }

    /// Flags alone, within the limits.
    fn mark(&mut self, key: Key, change: impl Fn(Flags) -> Flags) -> Result<(), Error> {
        let entry = self.entries.get(&key);
        if change(entry.map_or(Flags::NONE, |entry| entry.flags)).is_empty() && entry.is_none() {
            return Ok(());
        }
        let old = entry.map(|entry| &entry.state);
        self.fits(&key, old, old.map_or(0, State::len))?;
        self.flag(key, change);
        Ok(())
    }

    /// Flags alone. A key that nothing is known about any more is not held.
    fn flag(&mut self, key: Key, change: impl Fn(Flags) -> Flags) {
        let (was, is) = match self.entries.entry(key) {
            btree_map::Entry::Vacant(entry) => {
                let flags = change(Flags::NONE);
                if !flags.is_empty() {
                    self.size += entry.key().len();
                    entry.insert(Entry { flags, ..Entry::default() });
                }
                (Flags::NONE, flags)
            }
            btree_map::Entry::Occupied(mut entry) => {
                let now = entry.get_mut();
                let (was, is) = (now.flags, change(now.flags));
                now.flags = is;
                if is.is_empty() && now.state == State::Nothing {
                    self.size -= entry.key().len();
                    entry.remove();
                }
                (was, is)
            }
        };
        self.locked = self.locked + usize::from(is.locked()) - usize::from(was.locked());
        // What is persistent is not undone by rolling back, so it counts whatever savepoint is open.
        self.dirty |= !self.stages.any() || is.persistent() != was.persistent();
    }

    /// The size of the buffer with `key` and so many bytes of a value in place of what it has, if the
    /// limits allow it.
    fn fits(&self, key: &Key, old: Option<&State>, value: usize) -> Result<usize, Error> {
        if key.len() > MAX_KEY {
            let kind = ErrorKind::KeyTooLarge { size: key.len(), limit: MAX_KEY };
            return Err(too_large("the key", key.len(), MAX_KEY, kind));
        }
        let (new, limit) = (key.len().saturating_add(value), self.limits.entry);
        if new > limit {
            let kind = ErrorKind::EntryTooLarge { size: new, limit };
            return Err(too_large("the entry", new, limit, kind));
        }
        let old = old.map_or(0, |state| key.len() + state.len());
        let (size, limit) = ((self.size - old).saturating_add(new), self.limits.total);
        // A write that makes the buffer no larger is never refused.
        if size > limit && size > self.size {
            let kind = ErrorKind::TxnTooLarge { size, limit };
            return Err(too_large("the transaction", size, limit, kind));
        }
        Ok(size)
    }

    /// Forgets everything, savepoints included. The limits stay.
    pub fn clear(&mut self) {
        self.entries.clear();
        (self.size, self.locked, self.dirty) = (0, 0, false);
        self.stages.clear();
    }
}

type Keep<'a> = fn((&'a Key, &'a Entry)) -> Kept<'a>;

fn kept<'a>((key, entry): (&'a Key, &'a Entry)) -> Kept<'a> {
    Kept::of(key, entry)
}

fn too_large(what: &str, size: usize, limit: usize, kind: ErrorKind) -> Error {
    Error::new(kind, format!("{what} has {size} bytes, {limit} are allowed"))
}

/// A transaction cannot tell an empty value from none (`wire.md` §3.4).
fn checked(value: Value) -> Result<Value, Error> {
    if value.is_empty() {
        let text = "a transaction cannot write an empty value";
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    Ok(value)
}

/// Without keys and values: what is printed may end in a log.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} keys, {} bytes)", self.entries.len(), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::MutationOp;

    fn buffer(ops: &[&str]) -> Buffer {
        let mut buffer = Buffer::default();
        for op in ops {
            apply(&mut buffer, op).unwrap();
        }
        buffer
    }

    /// `"put"`, `"delete"`, `"insert"`, `"lock"` of the key `k`; values tell the op's name.
    fn apply(buffer: &mut Buffer, op: &str) -> Result<(), Error> {
        match op {
            "put" => buffer.put("k", "put"),
            "delete" => buffer.delete("k"),
            "insert" => buffer.insert("k", "insert"),
            "lock" => buffer.lock("k"),
            other => panic!("{other}"),
        }
    }

    /// The table of the module: what each history of a key commits as.
    #[test]
    fn a_key_commits_as_what_was_done_to_it() {
        let put = |value: &'static str| MutationOp::Put(value.into());
        let insert = |value: &'static str| MutationOp::Insert(value.into());
        let rows: [(&[&str], Result<MutationOp, ()>); 24] = [
            (&["put"], Ok(put("put"))),
            (&["delete"], Ok(MutationOp::Delete)),
            (&["insert"], Ok(insert("insert"))),
            (&["lock"], Ok(MutationOp::Lock)),
            (&["put", "put"], Ok(put("put"))),
            (&["put", "delete"], Ok(MutationOp::Delete)),
            (&["put", "insert"], Err(())),
            (&["put", "lock"], Ok(put("put"))),
            (&["delete", "put"], Ok(put("put"))),
            (&["delete", "delete"], Ok(MutationOp::Delete)),
            (&["delete", "insert"], Ok(put("insert"))),
            (&["delete", "lock"], Ok(MutationOp::Delete)),
            (&["insert", "put"], Ok(insert("put"))),
            (&["insert", "delete"], Ok(MutationOp::CheckNotExists)),
            (&["insert", "insert"], Err(())),
            (&["insert", "lock"], Ok(insert("insert"))),
            (&["insert", "delete", "put"], Ok(insert("put"))),
            (&["insert", "delete", "delete"], Ok(MutationOp::CheckNotExists)),
            (&["insert", "delete", "insert"], Ok(insert("insert"))),
            (&["insert", "delete", "lock"], Ok(MutationOp::CheckNotExists)),
            (&["lock", "put"], Ok(put("put"))),
            (&["lock", "delete"], Ok(MutationOp::Delete)),
            (&["lock", "insert"], Ok(insert("insert"))),
            (&["delete", "insert", "insert"], Err(())),
        ];
        for (ops, expected) in rows {
            let Ok(op) = expected else {
                let mut buffer = buffer(&ops[..ops.len() - 1]);
                let before = buffer.clone();
                let error = apply(&mut buffer, ops[ops.len() - 1]).unwrap_err();
                assert_eq!(error.kind(), &ErrorKind::KeyExists { key: "k".into() }, "{ops:?}");
                assert_eq!(buffer, before, "{ops:?}");
                continue;
            };
            let expected = crate::operation::Mutation::new("k", op);
            assert_eq!(buffer(ops).mutations(), [expected], "{ops:?}");
        }
    }

    /// cases.md BUF-07 and BUF-08.
    #[test]
    fn keys_with_flags_only_are_seen_by_who_asks_for_flags() {
        let mut buffer = buffer(&["put"]);
        buffer.assert("f", Assertion::Exist).unwrap();
        buffer.assert("g", Assertion::None).unwrap();
        assert_eq!((buffer.get(b"f"), buffer.flags(b"g")), (None, None));
        let told = |range: &KeyRange| -> Vec<String> {
            buffer.iter(range).map(|kept| format!("{kept:?}")).collect()
        };
        let all = ["f: nothing {asserted to exist}", "k: 3 bytes {}"];
        assert_eq!(told(&KeyRange::default()), all);
        assert_eq!(told(&KeyRange::new("f", "k")), all[..1]);
        assert_eq!(told(&KeyRange::new("g", "")), all[1..]);
        for (start, end) in [("g", "k"), ("k", "k"), ("z", "a"), ("l", "")] {
            assert_eq!(told(&KeyRange::new(start, end)), [""; 0], "{start}..{end}");
        }
        buffer.check_at_prewrite("k").unwrap();
        assert!(buffer.flags(b"k").is_some_and(Flags::check_at_prewrite));
        buffer.put("k", "1").unwrap();
        assert_eq!(buffer.flags(b"k"), Some(Flags::NONE));
    }

    /// transactions.md §4.1, cases.md BUF-09.
    #[test]
    fn limits_refuse_before_they_change_anything() {
        let mut buffer = Buffer::new(BufferLimits { entry: 10, total: 20 });
        let entry = ErrorKind::EntryTooLarge { size: 11, limit: 10 };
        let txn = |size| ErrorKind::TxnTooLarge { size, limit: 20 };
        let refused = |buffer: &mut Buffer, write: fn(&mut Buffer) -> Result<(), Error>, kind| {
            let before = buffer.clone();
            assert_eq!(write(buffer).unwrap_err().kind(), &kind);
            assert_eq!(*buffer, before);
        };
        refused(&mut buffer, |buffer| buffer.put("key", "12345678"), entry);
        let long = ErrorKind::KeyTooLarge { size: 65_536, limit: 65_535 };
        refused(&mut Buffer::default(), |buffer| buffer.lock(vec![0; 65_536]), long);
        assert!(Buffer::default().lock(vec![0; 65_535]).is_ok());
        assert!(Buffer::default().put("k", vec![0; 65_536]).is_ok());
        buffer.put("key", "1234567").unwrap();
        buffer.put("two", "1234567").unwrap();
        assert_eq!((buffer.len(), buffer.size()), (2, 20));
        let _open = buffer.savepoint();
        refused(&mut buffer, |buffer| buffer.delete("x"), txn(21));
        refused(&mut buffer, |buffer| buffer.lock("x"), txn(21));
        refused(&mut buffer, |buffer| buffer.insert("x", "1"), txn(22));
        // Not larger than before, so not too large.
        buffer.put("two", "7654321").unwrap();
        buffer.lock("two").unwrap();
        buffer.delete("key").unwrap();
        assert_eq!((buffer.len(), buffer.size()), (2, 13));
        refused(&mut buffer, |buffer| buffer.put("x", "1234567"), txn(21));
        // Over a limit that came later, what makes it smaller is welcome, and what leaves it as it is.
        buffer.set_limits(BufferLimits { entry: 10, total: 5 });
        buffer.put("two", "12345").unwrap();
        buffer.put("two", "54321").unwrap();
        let over = ErrorKind::TxnTooLarge { size: 12, limit: 5 };
        refused(&mut buffer, |buffer| buffer.put("two", "123456"), over);
        buffer.set_limits(BufferLimits { entry: 10, total: 20 });
        buffer.clear();
        assert_eq!((buffer.is_empty(), buffer.size()), (true, 0));
        assert_eq!(buffer.limits(), BufferLimits { entry: 10, total: 20 });
    }

    #[test]
    fn an_empty_value_is_refused() {
        let mut buffer = Buffer::default();
        for result in [buffer.put("k", ""), buffer.insert("k", "")] {
            assert_eq!(result.unwrap_err().kind(), &ErrorKind::InvalidArgument);
        }
        assert!(buffer.is_empty() && !buffer.is_dirty());
    }

    #[test]
    fn keys_and_values_are_not_printed() {
        assert_eq!(format!("{:?}", buffer(&["put"])), "Buffer(1 keys, 4 bytes)");
    }
}
