//! Keys as PD and stores see them: what goes out comes back, the order of keys survives, and what
//! somebody else wrote is understood or refused.

use bytes::Bytes;

use crate::codec::{KeyCodec, MAX_KEYSPACE, Prefix, decode, encode};
use crate::{Key, KeyMode, KeyRange};

pub(super) fn body(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(6));
    let mut choices = [0; 6];
    choices[..head.len()].copy_from_slice(head);
    let [a, b, c, mode, cut, tail] = choices;
    let id = u32::from_be_bytes([0, a, b, c]);
    let mode = if mode % 2 == 0 { KeyMode::Raw } else { KeyMode::Txn };
    let prefix = Prefix::new(mode, id).expect("three bytes");
    assert!(Prefix::new(mode, id | (MAX_KEYSPACE + 1)).is_none());
    let (one, other) = rest.split_at(usize::from(cut).min(rest.len()));
    let (one, other) = (Bytes::copy_from_slice(one), Bytes::copy_from_slice(other));

    forms(&one, &other, tail);
    for codec in [KeyCodec::Raw, KeyCodec::Txn, KeyCodec::Keyspace(prefix)] {
        ranges(codec, &one, &other);
        anything(codec, &one, &other);
    }
    prefixes(prefix, &one);
}

/// The memcomparable form.
fn forms(one: &Key, other: &Key, tail: u8) {
    let (first, second) = (encode(one), encode(other));
    assert_eq!(decode(&first).as_ref(), Ok(one));
    assert_eq!(first.cmp(&second), one.cmp(other), "the order of {one:?} and {other:?}");
    assert_eq!(first.starts_with(&second), one == other, "a form begins with another one");
    // A bound may carry a version.
    let longer: Vec<u8> = first.iter().copied().chain(std::iter::repeat_n(tail, 8)).collect();
    assert_eq!(decode(&longer).as_ref(), Ok(one));
    // Of all bytes only the true form is taken.
    if let Ok(key) = decode(one) {
        assert!(one.starts_with(&encode(&key)), "{one:?} was read as {key:?}");
    }
}

/// Ranges go to PD and come back.
fn ranges(codec: KeyCodec, one: &Key, other: &Key) {
    let (start, end) = (codec.to_pd(one), codec.end_to_pd(other));
    let told = codec.range_from_pd(&start, &end);
    // No end is the end of all keys, or of the keyspace's.
    if other.is_empty() || one < other {
        let range = KeyRange { start: one.clone(), end: other.clone() };
        assert_eq!(told, Ok(range), "{codec:?}");
    } else {
        assert!(told.is_err(), "{codec:?}: {told:?} ends before it starts");
    }
}

/// What PD may send besides. What is told has to hold exactly the keys that lie between the bounds.
fn anything(codec: KeyCodec, start: &Key, end: &Key) {
    let enc = |key: &Key| match codec {
        KeyCodec::Raw => key.clone(),
        KeyCodec::Txn | KeyCodec::Keyspace(_) if key.is_empty() => Key::new(),
        KeyCodec::Txn | KeyCodec::Keyspace(_) => encode(key),
    };
    let _ = codec.range_from_pd(start, end);
    let (lower, upper) = (enc(start), enc(end));
    let told = codec.range_from_pd(&lower, &upper);
    let probes = [start, end].into_iter().flat_map(|bound| {
        let stripped = codec.prefix().and_then(|prefix| prefix.strip(bound).ok());
        [bound.clone(), crate::next_key(bound), Key::new()].into_iter().chain(stripped)
    });
    for key in probes {
        let seen = codec.to_pd(&key);
        let within = lower <= seen && (upper.is_empty() || seen < upper);
        let claimed = told
            .as_ref()
            .is_ok_and(|KeyRange { start, end }| *start <= key && (end.is_empty() || key < *end));
        assert_eq!(claimed, within, "{codec:?}: {key:?} in {told:?}, from {lower:?} to {upper:?}");
    }
}

fn prefixes(prefix: Prefix, key: &Key) {
    let whole: Key = [&prefix.as_bytes()[..], key].concat().into();
    assert_eq!(prefix.strip(&whole).as_ref(), Ok(key));
    assert!(whole[..] < prefix.end()[..], "{whole:?} lies behind its keyspace");
    if let Ok(stripped) = prefix.strip(key) {
        assert!(key.is_empty() || [&prefix.as_bytes()[..], &stripped].concat() == key[..]);
    }
}
