//! How keys are written where PD sees them (control-plane.md §11, raw.md §6.4).
//!
//! PD orders regions by the bytes that TiKV stores. For raw keys those are the keys themselves; for
//! transactional ones they are *memcomparable*: groups of eight bytes, each followed by a marker that
//! tells how many of them are padding, so that a version can follow the key and the order of keys
//! survives. Only region bounds are written so; requests to a store carry plain keys.
//!
//! Under API V2 every key of a client lies in a *keyspace*: four bytes stand in front of it, the mode
//! (`r` or `x`) and the keyspace's number, and raw keys are memcomparable to PD as well. The rest of
//! this crate knows keys without that prefix only: it is put on where a request is encoded
//! ([`crate::wire::outbound`]) and taken off where an answer comes in ([`crate::wire::inbound`]).

use bytes::Bytes;

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
    /// A key, or a whole range, of somebody else.
    #[error("it does not belong to the keyspace")]
    OutsideKeyspace,
}

/// Bytes in front of every key of a keyspace.
pub(crate) const PREFIX_LEN: usize = 4;
/// The largest number that a keyspace can have: it is written in three bytes.
pub(crate) const MAX_KEYSPACE: u32 = 0x00ff_ffff;

/// What stands in front of every key of a keyspace (raw.md §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix([u8; PREFIX_LEN]);

impl Prefix {
    /// `None` if the number is too large: three bytes hold it, and the rest would spill into the mode
    /// (`peers.md` §2.8).
    pub(crate) const fn new(mode: KeyMode, keyspace: u32) -> Option<Self> {
        if keyspace > MAX_KEYSPACE {
            return None;
        }
        let mode = match mode {
            KeyMode::Raw => b'r',
            KeyMode::Txn => b'x',
        };
        let [_, a, b, c] = keyspace.to_be_bytes();
        Some(Self([mode, a, b, c]))
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; PREFIX_LEN] {
        &self.0
    }

    /// The first prefix behind this one. Behind the largest keyspace that is one of another mode.
    pub(crate) const fn end(self) -> [u8; PREFIX_LEN] {
        // The mode is far from the largest byte, so this does not wrap.
        u32::from_be_bytes(self.0).wrapping_add(1).to_be_bytes()
    }

    /// The mode's byte.
    pub(crate) const fn mode(self) -> u8 {
        self.0[0]
    }

    /// The key as it is to PD.
    fn to_pd(self, key: &[u8]) -> Key {
        let mut whole = Vec::with_capacity(PREFIX_LEN + key.len());
        whole.extend_from_slice(&self.0);
        whole.extend_from_slice(key);
        encode(&whole)
    }

    /// The key without the prefix, as a slice of the same bytes. An empty key is none at all, and stays
    /// (§6.3).
    pub(crate) fn strip(self, key: &Bytes) -> Result<Key, CodecError> {
        match key.starts_with(&self.0) {
            true => Ok(key.slice(PREFIX_LEN..)),
            false if key.is_empty() => Ok(Key::new()),
            false => Err(CodecError::OutsideKeyspace),
        }
    }

    /// What of `range` lies in the keyspace: a bound outside of it is none (§6.3).
    pub(crate) fn clip(self, range: &KeyRange) -> Result<KeyRange, CodecError> {
        let KeyRange { start, end } = range;
        let below = |bound: &Key| *bound < self.0[..];
        let ours = |bound: &Key| bound.starts_with(&self.0);
        // A bound that is neither below nor ours is above every key of ours.
        let starts_above = !below(start) && !ours(start);
        let ends_below = !end.is_empty() && *end <= self.0[..];
        if starts_above || ends_below {
            return Err(CodecError::OutsideKeyspace);
        }
        let bound = |bound: &Key| match ours(bound) {
            true => bound.slice(PREFIX_LEN..),
            false => Key::new(),
        };
        Ok(KeyRange { start: bound(start), end: bound(end) })
    }
}

/// Translates between the application's keys and PD's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyCodec {
    /// Raw keys of API V1: PD sees them as they are.
    Raw,
    /// Transactional keys of API V1: PD sees them memcomparable.
    Txn,
    /// Keys of API V2, raw or transactional: PD sees them with their prefix, memcomparable.
    Keyspace(Prefix),
}

impl KeyCodec {
    pub(crate) const fn new(mode: KeyMode) -> Self {
        match mode {
            KeyMode::Raw => Self::Raw,
            KeyMode::Txn => Self::Txn,
        }
    }

    /// What stands in front of each key, if anything does.
    pub(crate) const fn prefix(self) -> Option<Prefix> {
        match self {
            Self::Raw | Self::Txn => None,
            Self::Keyspace(prefix) => Some(prefix),
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
            Self::Keyspace(prefix) => prefix.to_pd(key),
        }
    }

    /// The exclusive end with which PD is asked for the regions of a range. No end is the end of all
    /// keys, or of the keyspace's.
    pub(crate) fn end_to_pd(self, end: &Key) -> Key {
        match self {
            Self::Raw | Self::Txn if end.is_empty() => Key::new(),
            Self::Keyspace(prefix) if end.is_empty() => encode(&prefix.end()),
            Self::Raw | Self::Txn | Self::Keyspace(_) => self.to_pd(end),
        }
    }

    /// A region's bounds as PD or a store sent them. An empty bound is «no bound» and stays empty.
    ///
    /// # Errors
    /// If a bound is not encoded as it should be, or no key, or none of the keyspace, can lie between the
    /// two.
    pub(crate) fn range_from_pd(self, start: &Key, end: &Key) -> Result<KeyRange, CodecError> {
        let range = KeyRange { start: self.bound(start)?, end: self.bound(end)? };
        // An end that *encodes* the empty key is a bound below every key, not «no bound».
        let ends_below_all = range.end.is_empty() && !end.is_empty();
        if range.is_empty() || ends_below_all {
            return Err(CodecError::Reversed);
        }
        match self.prefix() {
            None => Ok(range),
            Some(prefix) => prefix.clip(&range),
        }
    }

    fn bound(self, bound: &Key) -> Result<Key, CodecError> {
        match self {
            Self::Txn | Self::Keyspace(_) if !bound.is_empty() => decode(bound),
            Self::Raw | Self::Txn | Self::Keyspace(_) => Ok(bound.clone()),
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
        // As an end the empty key is none.
        assert_eq!(
            (raw.end_to_pd(&Key::new()), txn.end_to_pd(&Key::new())),
            (Key::new(), Key::new())
        );
        assert_eq!((raw.end_to_pd(&start), txn.end_to_pd(&start)), (start.clone(), encode(b"b")));
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

    fn prefix(mode: KeyMode, keyspace: u32) -> Prefix {
        Prefix::new(mode, keyspace).unwrap()
    }

    /// COD-03, raw.md §6.1: the end carries over, also into the mode, and a number of more than three
    /// bytes is none.
    #[test]
    fn cod_03_a_prefix_is_a_mode_and_three_bytes() {
        let rows: [(KeyMode, u32, &[u8; 4], &[u8; 4]); 6] = [
            (KeyMode::Raw, 0, b"r\0\0\0", b"r\0\0\x01"),
            (KeyMode::Txn, 0, b"x\0\0\0", b"x\0\0\x01"),
            (KeyMode::Raw, 0x01_0203, b"r\x01\x02\x03", b"r\x01\x02\x04"),
            (KeyMode::Txn, 0xff_fffe, b"x\xff\xff\xfe", b"x\xff\xff\xff"),
            (KeyMode::Raw, 0xff_ffff, b"r\xff\xff\xff", b"s\0\0\0"),
            (KeyMode::Txn, 0xff_ffff, b"x\xff\xff\xff", b"y\0\0\0"),
        ];
        for (mode, id, start, end) in rows {
            let prefix = prefix(mode, id);
            assert_eq!((prefix.as_bytes(), prefix.end()), (start, *end));
        }
        for id in [1 << 24, u32::MAX] {
            assert_eq!(Prefix::new(KeyMode::Txn, id), None);
        }
    }

    /// COD-08.
    #[test]
    fn cod_08_a_key_is_taken_out_of_its_keyspace_without_a_copy() {
        let ours = prefix(KeyMode::Txn, 0x01_0203);
        let wire = Bytes::from_static(b"x\x01\x02\x03key");
        let key = ours.strip(&wire).unwrap();
        assert_eq!(key, "key");
        assert_eq!(key.as_ptr(), wire[4..].as_ptr());
        assert_eq!(ours.strip(&Bytes::from_static(b"x\x01\x02\x03")), Ok(Key::new()));
        assert_eq!(ours.strip(&Bytes::new()), Ok(Key::new()));
        for other in [&b"r\x01\x02\x03key"[..], b"x\x01\x02\x04key", b"x\x01\x02", b"key"] {
            let other = Bytes::from_static(other);
            assert_eq!(ours.strip(&other), Err(CodecError::OutsideKeyspace), "{other:?}");
        }
    }

    /// raw.md §6.3, COD-04; the bounds of regions are in PD's form.
    #[test]
    fn cod_04_a_region_is_clipped_to_the_keyspace() {
        let none = &b""[..];
        let ours = Ok;
        let outside = || Err(CodecError::OutsideKeyspace);
        type Row<'a> = (&'a [u8], &'a [u8], Result<(&'a str, &'a str), CodecError>);
        let rows: [Row<'_>; 15] = [
            (none, none, ours(("", ""))),
            (b"x\0\0\x02", b"x\0\0\x03", ours(("", ""))),
            (b"x\0\0\x02b", b"x\0\0\x02n", ours(("b", "n"))),
            (none, b"x\0\0\x02n", ours(("", "n"))),
            (b"x\0\0\x01z", b"x\0\0\x02n", ours(("", "n"))),
            (b"x\0\0\x02n", none, ours(("n", ""))),
            (b"x\0\0\x02n", b"x\0\0\x03a", ours(("n", ""))),
            (b"a", b"z", ours(("", ""))),
            // The neighbours, up to the very border.
            (none, b"x\0\0\x02", outside()),
            (b"x\0\0\x01", b"x\0\0\x02", outside()),
            (b"x\0\0\x03", none, outside()),
            (b"x\0\0\x03", b"x\0\0\x04", outside()),
            (b"r\0\0\x02a", b"r\0\0\x02b", outside()),
            (b"y", none, outside()),
            (b"x\0\0\x02n", b"x\0\0\x02b", Err(CodecError::Reversed)),
        ];
        let codec = KeyCodec::Keyspace(prefix(KeyMode::Txn, 2));
        let form = |bound: &[u8]| if bound.is_empty() { Key::new() } else { encode(bound) };
        for (start, end, expected) in rows {
            let expected = expected.map(|(start, end)| KeyRange {
                start: Bytes::copy_from_slice(start.as_bytes()),
                end: Bytes::copy_from_slice(end.as_bytes()),
            });
            let range = codec.range_from_pd(&form(start), &form(end));
            assert_eq!(range, expected, "{start:?}..{end:?}");
        }
        // Behind the last keyspace of a mode there may be bounds that are no prefixes at all.
        let last = KeyCodec::Keyspace(prefix(KeyMode::Raw, MAX_KEYSPACE));
        let start = form(b"r\xff\xff\xffk");
        for end in [&b"s"[..], b"s\0\0\0", b"x", b""] {
            assert_eq!(last.range_from_pd(&start, &form(end)), Ok(KeyRange::new("k", "")));
        }
        let behind = last.range_from_pd(&form(b"s"), &Key::new());
        assert_eq!(behind, Err(CodecError::OutsideKeyspace));
    }

    /// raw.md §6.4: under V2 raw keys, too, are memcomparable to PD.
    #[test]
    fn keys_of_a_keyspace_go_to_pd_with_their_prefix() {
        for (mode, start) in [(KeyMode::Raw, b'r'), (KeyMode::Txn, b'x')] {
            let codec = KeyCodec::Keyspace(prefix(mode, 7));
            assert_eq!(codec.to_pd(&"k".into()), encode(&[start, 0, 0, 7, b'k']));
            assert_eq!(codec.to_pd(&Key::new()), encode(&[start, 0, 0, 7]));
            assert_eq!(codec.end_to_pd(&"k".into()), encode(&[start, 0, 0, 7, b'k']));
            assert_eq!(codec.end_to_pd(&Key::new()), encode(&[start, 0, 0, 8]));
        }
    }

    quickcheck! {
        /// COD-11.
        fn cod_11_keys_of_a_keyspace_come_back_in_order(a: Vec<u8>, b: Vec<u8>, id: u32) -> bool {
            let prefix = prefix(KeyMode::Raw, id & MAX_KEYSPACE);
            let wire = |key: &[u8]| Bytes::from([&prefix.as_bytes()[..], key].concat());
            prefix.strip(&wire(&a)).unwrap() == a
                && wire(&a).cmp(&wire(&b)) == a.cmp(&b)
                && wire(&a)[..] < prefix.end()[..]
                && prefix.to_pd(&a).cmp(&prefix.to_pd(&b)) == a.cmp(&b)
        }

        fn a_clipped_region_holds_exactly_our_keys_of_it(key: Vec<u8>, a: Vec<u8>, b: Vec<u8>) -> bool {
            // Few enough bytes that bounds are often about the keyspace.
            let near = |bytes: &[u8]| -> Vec<u8> { bytes.iter().map(|byte| b"x\0\x01"[usize::from(byte % 3)]).collect() };
            let prefix = prefix(KeyMode::Txn, 0);
            let (start, end) = (Bytes::from(near(&a)), Bytes::from(near(&b)));
            let range = KeyRange { start, end };
            if range.is_empty() {
                return true;
            }
            let key = near(&key);
            let wire = [&prefix.as_bytes()[..], &key].concat();
            match prefix.clip(&range) {
                Ok(clipped) => clipped.contains(&key) == range.contains(&wire),
                Err(_) => !range.contains(&wire),
            }
        }

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
