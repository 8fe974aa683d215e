//! What was learned last: so many things and no more, first in, first out.

use std::collections::{BTreeMap, VecDeque};

/// Values by key, the oldest of which are forgotten.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Recent<K, V> {
    pub(crate) by_key: BTreeMap<K, V>,
    /// The keys, oldest first.
    pub(crate) order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<K: Ord + Clone, V> Recent<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key)
    }

    /// Keeps it, and not more than `limit` of all. False if there is one of this key: the first word
    /// counts.
    pub(crate) fn put(&mut self, key: K, value: V, limit: usize) -> bool {
        if self.by_key.contains_key(&key) {
            return false;
        }
        self.by_key.insert(key.clone(), value);
        self.order.push_back(key);
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.by_key.remove(&oldest);
            }
        }
        true
    }
}
