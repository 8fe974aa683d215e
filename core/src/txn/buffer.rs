//! The writes of a transaction before it commits (`transactions.md` §4, §5).
//!
//! One entry a key: what the transaction has done to it so far, folded into one state, so that a key
//! costs the same however often it was written.
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
//! *Insert* is a write on condition that there was no value when the transaction started. The
//! condition, once stated, outlives the value: an insert that is deleted again is still *checked* at
//! commit. After a *delete* an insert states nothing, because the transaction itself has seen to it
//! that the key is free.
//!
//! Whatever state a key is in, a read in the transaction sees it (`peers.md` D7).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::error::{Error, ErrorKind};
use crate::operation::{Key, KeyRange, KvPair, Mutation, MutationOp, ScanSpec, Value, next_key};

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
    limits: BufferLimits,
}

/// What the transaction has done to a key. See the table of the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Entry {
    Put(Value),
    Delete,
    Insert(Value),
    /// Inserted, then deleted: nothing is written, but there must have been nothing.
    Checked,
    Lock,
}

impl Entry {
    /// What a read sees: a value, that there is none, or what the snapshot says.
    fn seen(&self) -> Option<Option<&Value>> {
        match self {
            Self::Put(value) | Self::Insert(value) => Some(Some(value)),
            Self::Delete | Self::Checked => Some(None),
            Self::Lock => None,
        }
    }

    fn value_len(&self) -> usize {
        match self {
            Self::Put(value) | Self::Insert(value) => value.len(),
            Self::Delete | Self::Checked | Self::Lock => 0,
        }
    }

    fn op(&self) -> MutationOp {
        match self {
            Self::Put(value) => MutationOp::Put(value.clone()),
            Self::Delete => MutationOp::Delete,
            Self::Insert(value) => MutationOp::Insert(value.clone()),
            Self::Checked => MutationOp::CheckNotExists,
            Self::Lock => MutationOp::Lock,
        }
    }
}

/// A page of a scan as the transaction sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Overlay {
    /// The pairs, in the order of the scan, not more than were asked for.
    pub pairs: Vec<KvPair>,
    /// What is still to be scanned; `None` when the scan is over.
    pub rest: Option<ScanSpec>,
}

impl Buffer {
    /// An empty buffer.
    pub fn new(limits: BufferLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether nothing was written, deleted, inserted or locked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys it holds, locked and deleted ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes its keys and values have.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What the transaction has made of a key: a value, `Some(None)` that there is none, or `None` if
    /// the snapshot decides.
    pub fn get(&self, key: &[u8]) -> Option<Option<Value>> {
        let seen = self.entries.get(key)?.seen()?;
        Some(seen.cloned())
    }

    /// Writes a value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for an empty value, which for a transaction is no value: delete
    /// the key instead. [`ErrorKind::TooLarge`] beyond a limit.
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), Error> {
        let (key, value) = (key.into(), checked(value.into())?);
        let entry = match self.entries.get(&key) {
            Some(Entry::Insert(_) | Entry::Checked) => Entry::Insert(value),
            None | Some(Entry::Put(_) | Entry::Delete | Entry::Lock) => Entry::Put(value),
        };
        self.set(key, entry)
    }

    /// Removes the value, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond a limit.
    pub fn delete(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        let key = key.into();
        let entry = match self.entries.get(&key) {
            Some(Entry::Insert(_) | Entry::Checked) => Entry::Checked,
            None | Some(Entry::Put(_) | Entry::Delete | Entry::Lock) => Entry::Delete,
        };
        self.set(key, entry)
    }

    /// Writes a value on condition that there is none. Whether the snapshot has one is found out at
    /// commit; whether the transaction itself has written one, at once.
    ///
    /// # Errors
    /// [`ErrorKind::KeyExists`] if the transaction has written a value before.
    /// [`ErrorKind::InvalidArgument`] for an empty value. [`ErrorKind::TooLarge`] beyond a limit.
    pub fn insert(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), Error> {
        let (key, value) = (key.into(), checked(value.into())?);
        let entry = match self.entries.get(&key) {
            Some(Entry::Put(_) | Entry::Insert(_)) => {
                let text = "the transaction itself has written the key before";
                return Err(Error::new(ErrorKind::KeyExists { key }, text));
            }
            Some(Entry::Delete) => Entry::Put(value),
            None | Some(Entry::Checked | Entry::Lock) => Entry::Insert(value),
        };
        self.set(key, entry)
    }

    /// Makes the transaction conflict with every other that writes the key, without writing it.
    ///
    /// A key that was inserted and deleted stays only checked: no mutation says both.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] beyond a limit.
    pub fn lock(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        let key = key.into();
        if self.entries.contains_key(&key) { Ok(()) } else { self.set(key, Entry::Lock) }
    }

    fn set(&mut self, key: Key, entry: Entry) -> Result<(), Error> {
        let too_large = |what: &str, size: usize, limit: usize| {
            let text = format!("{what} has {size} bytes, {limit} are allowed");
            Err(Error::new(ErrorKind::TooLarge, text))
        };
        if key.len() > MAX_KEY {
            return too_large("the key", key.len(), MAX_KEY);
        }
        let new = key.len() + entry.value_len();
        if new > self.limits.entry {
            return too_large("the entry", new, self.limits.entry);
        }
        let old = self.entries.get(&key).map_or(0, |old| key.len() + old.value_len());
        let size = self.size - old + new;
        // A write that makes the buffer smaller is never refused.
        if size > self.limits.total && size > self.size {
            return too_large("the transaction", size, self.limits.total);
        }
        self.size = size;
        self.entries.insert(key, entry);
        Ok(())
    }

    /// What has to be committed, sorted by key.
    pub fn mutations(&self) -> Vec<Mutation> {
        let one = |(key, entry): (&Key, &Entry)| Mutation::new(key.clone(), entry.op());
        self.entries.iter().map(one).collect()
    }

    /// The key whose lock will stand for the transaction: the first that takes one. A key that is only
    /// checked leaves nothing behind that others could ask about; only when all are such does the
    /// first stand in, since then there is nothing to commit either.
    pub fn primary(&self) -> Option<&Key> {
        let locks = self.entries.iter().find(|(_, entry)| match entry {
            Entry::Put(_) | Entry::Delete | Entry::Insert(_) | Entry::Lock => true,
            Entry::Checked => false,
        });
        locks.or_else(|| self.entries.first_key_value()).map(|(key, _)| key)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.size = 0;
    }

    /// Lays the transaction's writes over a page of its snapshot.
    ///
    /// `page` has to be the complete answer to `spec`: as many pairs as it asks for, or as there are.
    /// Scan [`Overlay::rest`] next: where the transaction has deleted much, a page of the snapshot
    /// makes less than a page.
    pub fn overlay(&self, spec: &ScanSpec, page: Vec<KvPair>) -> Overlay {
        let limit = spec.limit as usize;
        if limit == 0 || spec.range.is_empty() {
            return Overlay { pairs: Vec::new(), rest: None };
        }
        // A full page says nothing about what lies behind its last key.
        let last = if page.len() < limit { None } else { page.last().map(|pair| pair.key.clone()) };
        let (covered, rest) = cut(spec, last);
        let mut pairs = self.merge(spec, &covered, page);
        pairs.truncate(limit);
        let left = limit - pairs.len();
        let rest = rest.filter(|_| left > 0).map(|range| ScanSpec {
            range,
            limit: left as u32,
            reverse: spec.reverse,
            key_only: spec.key_only,
        });
        Overlay { pairs, rest }
    }

    /// The union of the page and of what the buffer has in `covered`, the buffer's word against the
    /// page's.
    fn merge(&self, spec: &ScanSpec, covered: &KeyRange, page: Vec<KvPair>) -> Vec<KvPair> {
        let mut buffered = self.within(covered);
        let mut next = || if spec.reverse { buffered.next_back() } else { buffered.next() };
        let before = |a: &Key, b: &Key| if spec.reverse { a > b } else { a < b };
        let pair = |key: &Key, value: &Value| KvPair {
            key: key.clone(),
            value: if spec.key_only { Value::new() } else { value.clone() },
        };
        let mut merged = Vec::with_capacity(page.len());
        let mut ours = next();
        for theirs in page {
            while let Some((key, seen)) = ours
                && before(key, &theirs.key)
            {
                merged.extend(seen.map(|value| pair(key, value)));
                ours = next();
            }
            match ours {
                Some((key, seen)) if *key == theirs.key => {
                    merged.extend(seen.map(|value| pair(key, value)));
                    ours = next();
                }
                Some(_) | None => merged.push(theirs),
            }
        }
        while let Some((key, seen)) = ours {
            merged.extend(seen.map(|value| pair(key, value)));
            ours = next();
        }
        merged
    }

    /// The keys in `range` of which the transaction knows what there is.
    fn within<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&'a Key, Option<&'a Value>)> {
        // An empty range would panic; it has no keys.
        let bounds = (!range.is_empty()).then(|| {
            let end = match range.end.is_empty() {
                true => Bound::Unbounded,
                false => Bound::Excluded(&range.end),
            };
            (Bound::Included(&range.start), end)
        });
        let entries = bounds.map(|bounds| self.entries.range::<Key, _>(bounds));
        let entries = entries.into_iter().flatten();
        entries.filter_map(|(key, entry)| entry.seen().map(|seen| (key, seen)))
    }
}

/// The part of the range that a page reaching to `last` covers, and the rest of it. Without `last`
/// the page reaches to the end.
fn cut(spec: &ScanSpec, last: Option<Key>) -> (KeyRange, Option<KeyRange>) {
    let KeyRange { start, end } = spec.range.clone();
    let Some(last) = last else {
        return (KeyRange { start, end }, None);
    };
    let (covered, rest) = if spec.reverse {
        // Nothing is below the empty key, and as an end it would mean the very opposite.
        let rest = KeyRange { start: start.clone(), end: last.clone() };
        let rest = (!last.is_empty()).then_some(rest);
        (KeyRange { start: last.max(start), end }, rest)
    } else {
        let behind = next_key(&last);
        let reach = if end.is_empty() || behind < end { behind.clone() } else { end.clone() };
        (KeyRange { start, end: reach }, Some(KeyRange { start: behind, end }))
    };
    (covered, rest.filter(|rest| !rest.is_empty()))
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

    /// The table of the module, and transactions.md §5: what each history of a key commits as.
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
            let expected = Mutation::new("k", op);
            assert_eq!(buffer(ops).mutations(), [expected], "{ops:?}");
        }
    }

    /// peers.md D7: every state of a key is seen by gets and by scans.
    #[test]
    fn d7_reads_see_every_kind_of_write() {
        let theirs = KvPair { key: "k".into(), value: "theirs".into() };
        for (ops, get, scanned) in [
            (&["put"][..], Some(Some("put")), Some("put")),
            (&["insert"], Some(Some("insert")), Some("insert")),
            (&["delete"], Some(None), None),
            (&["insert", "delete"], Some(None), None),
            (&["lock"], None, Some("theirs")),
            (&[], None, Some("theirs")),
        ] {
            let buffer = buffer(ops);
            let get = get.map(|value| value.map(Value::from));
            assert_eq!(buffer.get(b"k"), get, "{ops:?}");
            for reverse in [false, true] {
                let range = KeyRange::default();
                let spec = ScanSpec { range, limit: 9, reverse, key_only: false };
                let seen = buffer.overlay(&spec, vec![theirs.clone()]);
                let values: Vec<Value> = seen.pairs.into_iter().map(|pair| pair.value).collect();
                let expected: Vec<Value> = scanned.map(Value::from).into_iter().collect();
                assert_eq!(values, expected, "{ops:?}");
                assert_eq!(seen.rest, None);
            }
        }
    }

    /// peers.md D14: `insert(a); delete(a); put(b)` has no lock on `a`.
    #[test]
    fn d14_the_primary_is_a_key_that_takes_a_lock() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.primary(), None);
        buffer.insert("a", "1").unwrap();
        buffer.delete("a").unwrap();
        // transactions.md §5: «if none remains because all are CheckNotExists → first mutation»
        assert_eq!(buffer.primary(), Some(&"a".into()));
        buffer.lock("c").unwrap();
        buffer.put("b", "2").unwrap();
        assert_eq!(buffer.primary(), Some(&"b".into()));
    }

    /// transactions.md §4.1.
    #[test]
    fn limits_refuse_before_they_change_anything() {
        let mut buffer = Buffer::new(BufferLimits { entry: 10, total: 20 });
        let refused =
            |result: Result<(), Error>| result.unwrap_err().kind() == &ErrorKind::TooLarge;
        assert!(refused(buffer.put("key", "12345678")));
        assert!(refused(Buffer::default().lock(vec![0; 65_536])));
        assert!(Buffer::default().lock(vec![0; 65_535]).is_ok());
        buffer.put("key", "1234567").unwrap();
        buffer.put("two", "1234567").unwrap();
        assert_eq!((buffer.len(), buffer.size()), (2, 20));
        assert!(refused(buffer.delete("x")));
        // Not larger than before, so not too large.
        buffer.put("two", "7654321").unwrap();
        buffer.delete("key").unwrap();
        assert_eq!((buffer.len(), buffer.size()), (2, 13));
        assert!(refused(buffer.put("x", "1234567")));
        assert_eq!((buffer.len(), buffer.size()), (2, 13));
        buffer.clear();
        assert_eq!((buffer.is_empty(), buffer.size()), (true, 0));
    }

    #[test]
    fn an_empty_value_is_refused() {
        let mut buffer = Buffer::default();
        for result in [buffer.put("k", ""), buffer.insert("k", "")] {
            assert_eq!(result.unwrap_err().kind(), &ErrorKind::InvalidArgument);
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn keys_and_values_are_not_printed() {
        assert_eq!(format!("{:?}", buffer(&["put"])), "Buffer(1 keys, 4 bytes)");
    }
}
