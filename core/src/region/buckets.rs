//! Buckets: borders within a region that PD keeps for the sake of evenly sized pieces of work
//! (`control-plane.md` §4.9).
//!
//! They are kept and can be looked at; no operation cuts its work along them yet. A list may be older
//! than the region it is kept with, and then reach beyond it or leave its ends open.

use crate::codec::{CodecError, KeyCodec};
use crate::operation::{Key, KeyRange};
use crate::region::entry::starts_before_end;

/// The buckets of a region at one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Buckets {
    /// Grows with each new list.
    pub(crate) version: u64,
    /// Borders, ascending: of *n* buckets *n* + 1. The last may be empty: no end.
    pub(crate) keys: Box<[Key]>,
}

impl Buckets {
    /// From PD's key space. `None` if the borders make no sense: a region does well without. What lies in
    /// other keyspaces is left out, as it is of the region.
    pub(crate) fn from_pd(codec: KeyCodec, version: u64, keys: &[Key]) -> Option<Box<Self>> {
        let ours = |pair: &[Key]| match codec.range_from_pd(&pair[0], &pair[1]) {
            Err(CodecError::OutsideKeyspace) => None,
            decoded => Some(decoded),
        };
        let ranges: Result<Vec<KeyRange>, _> = keys.windows(2).filter_map(ours).collect();
        let ranges = ranges.ok().filter(|ranges| !ranges.is_empty())?;
        let last = ranges.last().map(|range| copy(&range.end));
        let keys = ranges.iter().map(|range| copy(&range.start)).chain(last).collect();
        Some(Box::new(Self { version, keys }))
    }

    /// The bucket with this key within `region`, see [`locate`].
    pub(crate) fn locate(&self, key: &[u8], region: &KeyRange) -> Option<KeyRange> {
        locate(&self.keys, key, region)
    }

    /// §4.4: whether they are to take the place of `old`.
    pub(crate) fn replaces(&self, old: Option<&Self>) -> bool {
        old.is_none_or(|old| old.version < self.version)
    }
}

/// The bucket with this key as the list has it.
fn find(borders: &[Key], key: &[u8]) -> Option<KeyRange> {
    let contains = |pair: &&[Key]| pair[0] <= key && starts_before_end(key, &pair[1]);
    let pair = borders.windows(2).find(contains)?;
    Some(KeyRange { start: pair[0].clone(), end: pair[1].clone() })
}

/// The bucket with this key within `region`. Where the list leaves the region's ends open, what is
/// missing there counts as a bucket.
pub(crate) fn locate(borders: &[Key], key: &[u8], region: &KeyRange) -> Option<KeyRange> {
    if !region.contains(key) {
        return None;
    }
    if let Some(found) = find(borders, key) {
        return Some(clamp(&found, region));
    }
    let (Some(first), Some(last)) = (borders.first(), borders.last()) else {
        return Some(region.clone());
    };
    let filler = match key < first {
        true => KeyRange { start: region.start.clone(), end: first.clone() },
        false => KeyRange { start: last.clone(), end: region.end.clone() },
    };
    Some(clamp(&filler, region))
}

/// A key of its own: what was received is a slice of a frame.
fn copy(key: &Key) -> Key {
    Key::copy_from_slice(key)
}

/// What of the bucket lies in the region; the region if nothing does.
fn clamp(bucket: &KeyRange, region: &KeyRange) -> KeyRange {
    let start = bucket.start.clone().max(region.start.clone());
    let end = match starts_before_end(&bucket.end, &region.end) && !bucket.end.is_empty() {
        true => bucket.end.clone(),
        false => region.end.clone(),
    };
    match starts_before_end(&start, &end) {
        true => KeyRange { start, end },
        false => region.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(keys: &[&'static str]) -> Buckets {
        Buckets { version: 1, keys: keys.iter().map(|key| Key::from(*key)).collect() }
    }

    /// control-plane.md §4.9.
    /// RGC-51: key → bucket; where the list has holes at the region's ends the raw lookup gives none
    /// and the other a filler that contains the key.
    #[test]
    fn rgc_51_locating_a_bucket() {
        let region = KeyRange::new("b", "y");
        let list = buckets(&["d", "h", "p"]);
        for (key, raw, within) in [
            ("a", None, None),
            ("b", None, Some(("b", "d"))),
            ("d", Some(("d", "h")), Some(("d", "h"))),
            ("g", Some(("d", "h")), Some(("d", "h"))),
            ("h", Some(("h", "p")), Some(("h", "p"))),
            ("p", None, Some(("p", "y"))),
            ("x", None, Some(("p", "y"))),
            ("y", None, None),
        ] {
            let range = |(start, end): (&'static str, &'static str)| KeyRange::new(start, end);
            assert_eq!(find(&list.keys, key.as_bytes()), raw.map(range), "{key}");
            assert_eq!(list.locate(key.as_bytes(), &region), within.map(range), "{key}");
        }
        let unbounded = buckets(&["", "h", ""]);
        assert_eq!(find(&unbounded.keys, b"z"), Some(KeyRange::new("h", "")));
        // An empty list: the whole region.
        assert_eq!(buckets(&[]).locate(b"c", &region), Some(region));
    }

    /// control-plane.md §4.9.
    /// RGC-52: a bucket inside, overlapping left, right, both, equal, unbounded on either side.
    #[test]
    fn rgc_52_clamping() {
        let rows = [
            (("d", "h"), ("b", "y"), ("d", "h")),
            (("a", "h"), ("b", "y"), ("b", "h")),
            (("d", "z"), ("b", "y"), ("d", "y")),
            (("a", "z"), ("b", "y"), ("b", "y")),
            (("b", "y"), ("b", "y"), ("b", "y")),
            (("", ""), ("b", "y"), ("b", "y")),
            (("d", ""), ("b", ""), ("d", "")),
            (("", "h"), ("", "y"), ("", "h")),
            (("a", "b"), ("b", "y"), ("b", "y")),
        ];
        for (bucket, region, expected) in rows {
            let range = |(start, end): (&'static str, &'static str)| KeyRange::new(start, end);
            assert_eq!(clamp(&range(bucket), &range(region)), range(expected), "{bucket:?}");
        }
    }

    /// control-plane.md §4.4, §4.8.
    /// RGC-50: a higher version replaces, an older or equal one does not.
    #[test]
    fn rgc_50_versions() {
        let old = Buckets { version: 5, ..buckets(&["a", "b"]) };
        for (version, replaces) in [(4, false), (5, false), (6, true)] {
            let new = Buckets { version, ..old.clone() };
            assert_eq!(new.replaces(Some(&old)), replaces, "{version}");
        }
        assert!(old.replaces(None));
    }

    #[test]
    fn borders_are_decoded_or_done_without() {
        let keys =
            |keys: &[&'static str]| keys.iter().map(|key| Key::from(*key)).collect::<Vec<_>>();
        let raw = |list: &[&'static str]| Buckets::from_pd(KeyCodec::Raw, 1, &keys(list));
        assert_eq!(raw(&["", "m", ""]).map(|b| b.keys.len()), Some(3));
        assert_eq!(raw(&["m", "a"]), None);
        assert_eq!(raw(&["m"]), None);
        assert_eq!(Buckets::from_pd(KeyCodec::Txn, 1, &keys(&["m", "n"])), None);
        let encoded = [crate::codec::encode(b"m"), Key::new()];
        let decoded = Buckets::from_pd(KeyCodec::Txn, 1, &encoded).unwrap();
        assert_eq!(*decoded.keys, [Key::from("m"), Key::new()]);
    }
}
