//! Ranges of keys.

use std::ops::{
    Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};

use anatase_core::KeyRange;

use crate::key::Key;

/// A range of keys with any kind of ends, made from whatever looks like one:
///
/// ```
/// # use anatase_client::{BoundRange, Key};
/// # fn scan(_: impl Into<BoundRange>) {}
/// scan("a".."b");
/// scan("a"..="b");
/// scan("a"..);
/// scan(.."b");
/// scan(..);
/// scan(("a", "b"));
/// scan(BoundRange::prefix("user/"));
/// ```
///
/// A reversed range is empty, not an error. An exclusive end that is the empty key (`.."" `) holds
/// nothing; a range without end is written without end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BoundRange {
    /// Where it begins.
    pub from: Bound<Key>,
    /// Where it ends.
    pub to: Bound<Key>,
}

impl BoundRange {
    /// From two bounds.
    pub fn new(from: Bound<Key>, to: Bound<Key>) -> Self {
        Self { from, to }
    }

    /// Everything from `from` on, itself included.
    pub fn range_from(from: impl Into<Key>) -> Self {
        Self { from: Bound::Included(from.into()), to: Bound::Unbounded }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let from = prefix.into();
        // The first key that no longer begins with it: add one to the last byte that can grow.
        let grows = from.iter().rposition(|&byte| byte != u8::MAX);
        let to = match grows {
            Some(last) => {
                let mut end = from[..=last].to_vec();
                end[last] += 1;
                Bound::Excluded(end.into())
            }
            None => Bound::Unbounded,
        };
        Self { from: Bound::Included(from), to }
    }

    /// Start and end, the latter exclusive; `None` for no end.
    pub fn into_keys(self) -> (Key, Option<Key>) {
        let range = KeyRange::from(self);
        let end = (!range.end.is_empty()).then(|| range.end.into());
        (range.start.into(), end)
    }
}

impl From<BoundRange> for KeyRange {
    fn from(range: BoundRange) -> Self {
        Self::from_bounds(range.from.map(Key::into_bytes), range.to.map(Key::into_bytes))
    }
}

impl RangeBounds<Key> for BoundRange {
    fn start_bound(&self) -> Bound<&Key> {
        self.from.as_ref()
    }

    fn end_bound(&self) -> Bound<&Key> {
        self.to.as_ref()
    }
}

impl<T: Into<Key>> From<Range<T>> for BoundRange {
    fn from(range: Range<T>) -> Self {
        (Bound::Included(range.start), Bound::Excluded(range.end)).into()
    }
}

impl<T: Into<Key>> From<RangeInclusive<T>> for BoundRange {
    fn from(range: RangeInclusive<T>) -> Self {
        let (start, end) = range.into_inner();
        (Bound::Included(start), Bound::Included(end)).into()
    }
}

impl<T: Into<Key>> From<RangeFrom<T>> for BoundRange {
    fn from(range: RangeFrom<T>) -> Self {
        (Bound::Included(range.start), Bound::Unbounded).into()
    }
}

impl<T: Into<Key>> From<RangeTo<T>> for BoundRange {
    fn from(range: RangeTo<T>) -> Self {
        (Bound::Unbounded, Bound::Excluded(range.end)).into()
    }
}

impl<T: Into<Key>> From<RangeToInclusive<T>> for BoundRange {
    fn from(range: RangeToInclusive<T>) -> Self {
        (Bound::Unbounded, Bound::Included(range.end)).into()
    }
}

impl From<RangeFull> for BoundRange {
    fn from(_: RangeFull) -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }
}

/// Half open, like `start..end`.
impl<T: Into<Key>> From<(T, T)> for BoundRange {
    fn from((start, end): (T, T)) -> Self {
        (start..end).into()
    }
}

/// Half open, or without end.
impl<T: Into<Key>> From<(T, Option<T>)> for BoundRange {
    fn from((start, end): (T, Option<T>)) -> Self {
        (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded)).into()
    }
}

impl<T: Into<Key>> From<(Bound<T>, Bound<T>)> for BoundRange {
    fn from((from, to): (Bound<T>, Bound<T>)) -> Self {
        Self { from: from.map(Into::into), to: to.map(Into::into) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(range: impl Into<BoundRange>) -> (String, Option<String>) {
        let (start, end) = range.into().into_keys();
        let text = |key: Key| key.escape_ascii().to_string();
        (text(start), end.map(text))
    }

    fn expect(start: &str, end: Option<&str>) -> (String, Option<String>) {
        (start.into(), end.map(Into::into))
    }

    #[test]
    fn every_kind_of_range_becomes_start_and_end() {
        assert_eq!(keys("a".."b"), expect("a", Some("b")));
        assert_eq!(keys("a"..="b"), expect("a", Some("b\\x00")));
        assert_eq!(keys("a"..), expect("a", None));
        assert_eq!(keys(.."b"), expect("", Some("b")));
        assert_eq!(keys(..="b"), expect("", Some("b\\x00")));
        assert_eq!(keys(..), expect("", None));
        assert_eq!(keys(("a", "b")), expect("a", Some("b")));
        assert_eq!(keys(("a", None)), expect("a", None));
        assert_eq!(keys(("a", Some("b"))), expect("a", Some("b")));
        assert_eq!(keys((Bound::Excluded("a"), Bound::Unbounded)), expect("a\\x00", None));
        assert_eq!(keys(vec![1]..vec![2]), expect("\\x01", Some("\\x02")));
    }

    #[test]
    fn a_prefix_ends_where_it_can_no_longer_grow() {
        assert_eq!(keys(BoundRange::prefix("ab")), expect("ab", Some("ac")));
        assert_eq!(keys(BoundRange::prefix(b"a\xff\xff")), expect("a\\xff\\xff", Some("b")));
        assert_eq!(keys(BoundRange::prefix(b"\xff")), expect("\\xff", None));
        assert_eq!(keys(BoundRange::prefix("")), expect("", None));
    }

    #[test]
    fn an_exclusive_empty_end_holds_nothing() {
        assert!(KeyRange::from(BoundRange::from(.."")).is_empty());
        assert!(KeyRange::from(BoundRange::from("b".."a")).is_empty());
        assert!(!KeyRange::from(BoundRange::from(..)).is_empty());
    }
}
