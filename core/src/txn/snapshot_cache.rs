//! What a snapshot has read before.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::operation::{Key, Value};

/// Values that were read by key at one timestamp, absences included: a snapshot does not change, so
/// what was read once need not be asked for again (`transactions.md` §17.5).
///
/// Holds at most so many bytes of keys and values, and forgets what it learned first when more comes.
/// Scans are neither kept nor answered from it (`peers.md` D15): they would fill it with what is
/// seldom asked for by key.
///
/// Only for what cannot change: not for reads of the latest version, nor for reads that ignore locks.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SnapshotCache {
    entries: BTreeMap<Key, Option<Value>>,
    /// The keys, in the order in which they were learned.
    order: VecDeque<Key>,
    size: usize,
    limit: usize,
    hits: u64,
}

impl SnapshotCache {
    /// Empty, for at most so many bytes of keys and values. 0 keeps nothing.
    pub fn new(limit: usize) -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new(), size: 0, limit, hits: 0 }
    }

    /// What `key` is known to have: `None` if that is not known, `Some(None)` if it has no value.
    /// Counts as a hit if it is known.
    pub fn get(&mut self, key: &[u8]) -> Option<Option<Value>> {
        let known = self.entries.get(key).cloned();
        self.hits += u64::from(known.is_some());
        known
    }

    /// Keeps what was read. A pair that is larger than the limit is not kept.
    pub fn insert(&mut self, key: Key, value: Option<Value>) {
        let size = size_of(&key, value.as_ref());
        if size > self.limit || self.entries.contains_key(&key) {
            return;
        }
        while self.size + size > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(value) = self.entries.remove(&oldest) {
                self.size -= size_of(&oldest, value.as_ref());
            }
        }
        self.size += size;
        self.order.push_back(key.clone());
        self.entries.insert(key, value);
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes of keys and values are held.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many keys were asked for and known so far.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Forgets everything but the number of hits.
    pub fn clear(&mut self) {
        *self = Self { hits: self.hits, ..Self::new(self.limit) };
    }
}

fn size_of(key: &Key, value: Option<&Value>) -> usize {
    key.len() + value.map_or(0, Value::len)
}

/// Without keys and values: what is printed may end in a log.
impl fmt::Debug for SnapshotCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotCache({} keys, {} bytes)", self.entries.len(), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transactions.md §17.5; peers.md D15: bounded, inspectable, clearable.
    #[test]
    fn d15_a_cache_holds_what_fits_and_forgets_the_oldest() {
        let mut cache = SnapshotCache::new(10);
        cache.insert("a".into(), Some("1234".into()));
        cache.insert("b".into(), None);
        cache.insert("c".into(), Some("123".into()));
        assert_eq!((cache.len(), cache.size()), (3, 10));
        assert_eq!(cache.get(b"a"), Some(Some("1234".into())));
        assert_eq!(cache.get(b"b"), Some(None), "an absence is known, too");
        assert_eq!(cache.get(b"x"), None);
        assert_eq!(cache.hits(), 2);
        // Known already: nothing changes, the order included.
        cache.insert("a".into(), Some("other".into()));
        cache.insert("d".into(), None);
        assert_eq!(cache.get(b"a"), None);
        assert_eq!((cache.len(), cache.size()), (3, 6));
        cache.insert("larger".into(), Some("than all".into()));
        assert_eq!((cache.len(), cache.size()), (3, 6));
        cache.clear();
        assert_eq!((cache.is_empty(), cache.size(), cache.hits()), (true, 0, 2));
        assert_eq!(format!("{cache:?}"), "SnapshotCache(0 keys, 0 bytes)");
        let mut none = SnapshotCache::new(0);
        none.insert("a".into(), None);
        assert!(none.is_empty());
    }
}
