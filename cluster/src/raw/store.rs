//! The pairs.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cf {
    Default,
    Lock,
    Write,
}

/// A value, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    pub(crate) data: Bytes,
    /// The second, since the Unix epoch, from which on it is gone.
    pub(crate) expires_s: Option<u64>,
}

impl Value {
    fn lives(&self, now_s: u64) -> bool {
        self.expires_s.is_none_or(|at| at > now_s)
    }
}

/// All raw pairs, by column family. An expired pair stays until it is written again, and is not
/// seen.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Raw {
    families: [BTreeMap<Bytes, Value>; 3],
}

impl Raw {
    fn family(&self, cf: Cf) -> &BTreeMap<Bytes, Value> {
        &self.families[cf as usize]
    }

    pub(crate) fn get(&self, cf: Cf, key: &[u8], now_s: u64) -> Option<&Value> {
        self.family(cf).get(key).filter(|value| value.lives(now_s))
    }

    pub(crate) fn set(&mut self, cf: Cf, key: Bytes, value: Option<Value>) {
        let family = &mut self.families[cf as usize];
        // Keys and values are slices of received frames. A copy lets the frame go.
        match value {
            Some(value) => {
                let data = Bytes::copy_from_slice(&value.data);
                family.insert(Bytes::copy_from_slice(&key), Value { data, ..value });
            }
            None => {
                family.remove(&key);
            }
        }
    }

    /// The living pairs of `[start, end)`; an empty `end` is unbounded, and a start beyond the end
    /// is an empty range.
    pub(crate) fn range<'a>(
        &'a self,
        cf: Cf,
        start: &[u8],
        end: &[u8],
        now_s: u64,
    ) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Value)> {
        let empty = !end.is_empty() && start >= end;
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let range =
            (!empty).then(|| self.family(cf).range::<[u8], _>((Bound::Included(start), upper)));
        range.into_iter().flatten().filter(move |(_, value)| value.lives(now_s))
    }

    pub(crate) fn delete_range(&mut self, cf: Cf, start: &[u8], end: &[u8]) {
        let doomed: Vec<Bytes> =
            self.range(cf, start, end, 0).map(|(key, _)| key.clone()).collect();
        for key in doomed {
            self.families[cf as usize].remove(&key);
        }
    }
}
