//! How keys are written where PD sees them (control-plane.md §11, raw.md §6.4).
//!
//! PD orders regions by the bytes that TiKV stores. For raw keys those are the keys themselves; for
//! transactional ones they are *memcomparable*: groups of eight bytes, each followed by a marker that
//! tells how many of them are padding, so that a version can follow the key and the order of keys
//! survives. Only region bounds are written so; requests to a store carry plain keys.

use crate::config::KeyMode;
use crate::operation::{Key, KeyRange};

/// Bytes in a group, without its marker.
const GROUP: usize = 8;
/// The marker of a group without padding. Each byte of padding takes one off.
const FULL: u8 = 0xff;

/// A key or a range that PD or a store sent and that cannot be.
///
/// Asking again would give the same answer, so this is never retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum CodecError {
    /// It ends within a group.
    #[error("a memcomparable key ends within a group")]
    Truncated,
    /// It claims more padding than a group has bytes.
    #[error("the marker {0:#04x} of a memcomparable key is none")]
    Marker(u8),
    /// It is padded with something.
    #[error("the padding of a memcomparable key is not zero")]
    Padding,
    /// A range that ends where it starts, or before.
    #[error("a range ends before it starts")]
    Reversed,
}

/// Translates between the application's keys and PD's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyCodec {
    /// Raw keys of API V1: PD sees them as they are.
    Raw,
    /// Transactional keys of API V1: PD sees them memcomparable.
    Txn,
}

impl KeyCodec {
    pub(crate) const fn new(mode: KeyMode) -> Self {
        match mode {
            KeyMode::Raw => Self::Raw,
            KeyMode::Txn => Self::Txn,
        }
    }

    /// The key with which PD is asked for the region of `key`.
    ///
    /// The empty key is encoded like any other: as transactional key it becomes the smallest bound
    /// above «no bound», which lies in the first region as well.
    pub(crate) fn to_pd(self, key: &Key) -> Key {
        match self {
            Self::Raw => key.clone(),
            Self::Txn => encode(key),
        }
    }

    /// A region's bounds as PD or a store sent them. An empty bound is «no bound» and stays empty.
    ///
    /// # Errors
    /// If a bound is not encoded as it should be, or no key can lie between the two.
    pub(crate) fn range_from_pd(self, start: &Key, end: &Key) -> Result<KeyRange, CodecError> {
        let range = KeyRange { start: self.bound(start)?, end: self.bound(end)? };
        // An end that *encodes* the empty key is a bound below every key, not «no bound».
        let ends_below_all = range.end.is_empty() && !end.is_empty();
        if range.is_empty() || ends_below_all { Err(CodecError::Reversed) } else { Ok(range) }
    }

    fn bound(self, bound: &Key) -> Result<Key, CodecError> {
        match self {
            Self::Txn if !bound.is_empty() => decode(bound),
            Self::Raw | Self::Txn => Ok(bound.clone()),
        }
    }
}

/// The memcomparable form: `encode(a) < encode(b)` exactly if `a < b`, and no form is a prefix of
/// another.
pub(crate) fn encode(key: &[u8]) -> Key {
    // At least one group, and one of padding alone behind a last full one: the end must show.
    let mut out = Vec::with_capacity((key.len() / GROUP + 1) * (GROUP + 1));
    let mut groups = key.chunks_exact(GROUP);
    for group in &mut groups {
        out.extend_from_slice(group);
        out.push(FULL);
    }
    let rest = groups.remainder();
    let padding = GROUP - rest.len();
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0; GROUP][..padding]);
    out.push(FULL - padding as u8);
    out.into()
}

/// The inverse of [`encode`]. What follows the encoded key is passed over: a bound may carry a
/// version.
pub(crate) fn decode(bytes: &[u8]) -> Result<Key, CodecError> {
    let mut key = Vec::with_capacity(bytes.len() / (GROUP + 1) * GROUP);
    let mut rest = bytes;
    loop {
        let Some((chunk, tail)) = rest.split_first_chunk::<{ GROUP + 1 }>() else {
            return Err(CodecError::Truncated);
        };
        let [group @ .., marker] = chunk;
        let padding = usize::from(FULL - marker);
        if padding > GROUP {
            return Err(CodecError::Marker(*marker));
        }
        let (data, zeros) = group.split_at(GROUP - padding);
        key.extend_from_slice(data);
        if padding > 0 {
            return if zeros.iter().all(|byte| *byte == 0) {
                Ok(key.into())
            } else {
                Err(CodecError::Padding)
            };
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// raw.md §6.4, control-plane.md §11; the forms are TiKV's own examples.
    #[test]
    fn golden_forms() {
        for (key, form) in [
            (&b""[..], &b"\0\0\0\0\0\0\0\0\xf7"[..]),
            (b"\x01\x02\x03", b"\x01\x02\x03\0\0\0\0\0\xfa"),
            (b"\x01\x02\x03\0", b"\x01\x02\x03\0\0\0\0\0\xfb"),
            (b"1234567", b"1234567\0\xfe"),
            (b"12345678", b"12345678\xff\0\0\0\0\0\0\0\0\xf7"),
            (b"123456789", b"12345678\xff9\0\0\0\0\0\0\0\xf8"),
            (b"\0\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0\0\xf7"),
        ] {
            assert_eq!(encode(key), form);
            assert_eq!(encode(key).len(), (key.len() / 8 + 1) * 9);
            assert_eq!(decode(form).unwrap(), key);
        }
    }

    /// control-plane.md §11: decoding verifies the marker and the padding.
    #[test]
    fn what_no_key_encodes_to_is_an_error() {
        for (bytes, error) in [
            (&b""[..], CodecError::Truncated),
            (b"1234567\xfe", CodecError::Truncated),
            (b"12345678\xff", CodecError::Truncated),
            (b"12345678\xff1234", CodecError::Truncated),
            (b"12345678\xf6", CodecError::Marker(0xf6)),
            (b"12345678\0", CodecError::Marker(0)),
            (b"1234567\x01\xfe", CodecError::Padding),
            (b"12345678\xf7", CodecError::Padding),
        ] {
            assert_eq!(decode(bytes), Err(error), "{bytes:?}");
        }
    }

    /// raw.md §6.4, the table of keys exchanged with PD.
    #[test]
    fn raw_bounds_are_plain_and_transactional_ones_memcomparable() {
        let (start, end) = (Key::from_static(b"b"), Key::from_static(b"n"));
        let raw = KeyCodec::new(KeyMode::Raw);
        assert_eq!(raw.to_pd(&start), start);
        assert_eq!(raw.range_from_pd(&start, &end), Ok(KeyRange::new("b", "n")));
        let txn = KeyCodec::new(KeyMode::Txn);
        assert_eq!(txn.to_pd(&start), encode(b"b"));
        assert_eq!(txn.to_pd(&Key::new()), encode(b""));
        assert_eq!(txn.range_from_pd(&encode(b"b"), &encode(b"n")), Ok(KeyRange::new("b", "n")));
        assert_eq!(txn.range_from_pd(&start, &end), Err(CodecError::Truncated));
        for codec in [raw, txn] {
            let everything = codec.range_from_pd(&Key::new(), &Key::new());
            assert_eq!(everything, Ok(KeyRange::default()));
        }
    }

    #[test]
    fn a_region_without_keys_is_an_error() {
        let (b, n) = (Key::from_static(b"b"), Key::from_static(b"n"));
        assert_eq!(KeyCodec::Raw.range_from_pd(&n, &b), Err(CodecError::Reversed));
        assert_eq!(KeyCodec::Raw.range_from_pd(&b, &b), Err(CodecError::Reversed));
        let (b, n) = (encode(b"b"), encode(b"n"));
        assert_eq!(KeyCodec::Txn.range_from_pd(&n, &b), Err(CodecError::Reversed));
        let nothing = encode(b"");
        assert_eq!(KeyCodec::Txn.range_from_pd(&Key::new(), &nothing), Err(CodecError::Reversed));
    }

    quickcheck! {
        fn keys_come_back(key: Vec<u8>, tail: Vec<u8>) -> bool {
            let form = [&encode(&key)[..], &tail].concat();
            decode(&form).unwrap() == key
        }

        fn order_survives(a: Vec<u8>, b: Vec<u8>, shared: Vec<u8>) -> bool {
            let (a, b) = ([&shared[..], &a].concat(), [&shared[..], &b].concat());
            a.cmp(&b) == encode(&a).cmp(&encode(&b))
        }

        fn garbage_is_decoded_or_refused(bytes: Vec<u8>) -> bool {
            match decode(&bytes) {
                Ok(key) => bytes.starts_with(&encode(&key)),
                Err(_) => true,
            }
        }
    }
}
