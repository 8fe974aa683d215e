//! The memcomparable form of keys (raw.md §6.4): an encoding of byte strings that sorts as they do
//! and in which no key is a prefix of another, so that a timestamp can be appended.
//!
//! Eight bytes a group, each followed by a marker: 0xFF less the number of zero bytes that pad the
//! group. The last group is never full, so a key of eight bytes gets a second, empty one.

use bytes::Bytes;

const GROUP: usize = 8;
const FULL: u8 = 0xFF;

/// The memcomparable form of `key`.
pub fn encode_key(key: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity((key.len() / GROUP + 1) * (GROUP + 1));
    for group in key.chunks(GROUP) {
        let pad = GROUP - group.len();
        out.extend_from_slice(group);
        out.extend(std::iter::repeat_n(0, pad));
        out.push(FULL - pad as u8);
    }
    if key.len().is_multiple_of(GROUP) {
        out.extend([0; GROUP]);
        out.push(FULL - GROUP as u8);
    }
    out.into()
}

/// The key whose memcomparable form is `encoded`; `None` if there is none.
pub fn decode_key(encoded: &[u8]) -> Option<Bytes> {
    let (groups, rest) = encoded.as_chunks::<{ GROUP + 1 }>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(encoded.len());
    let (last, full) = groups.split_last()?;
    for group in full {
        if group[GROUP] != FULL {
            return None;
        }
        out.extend_from_slice(&group[..GROUP]);
    }
    let pad = usize::from(FULL - last[GROUP]);
    if pad == 0 || pad > GROUP || last[GROUP - pad..GROUP].iter().any(|byte| *byte != 0) {
        return None;
    }
    out.extend_from_slice(&last[..GROUP - pad]);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn the_examples_of_raw_md_6_4() {
        assert_eq!(&encode_key(b"")[..], b"\0\0\0\0\0\0\0\0\xf7");
        assert_eq!(&encode_key(b"abc")[..], b"abc\0\0\0\0\0\xfa");
        assert_eq!(&encode_key(b"12345678")[..], b"12345678\xff\0\0\0\0\0\0\0\0\xf7");
    }

    #[test]
    fn what_no_key_encodes_to() {
        for bad in [
            &b""[..],
            b"a",
            b"a",
            b"\0\0\0\0\0\0\0\0\xff",
            b"\0\0\0\0\0\0\0\0\xf6",
            b"abc\0\0\0\0\x01\xfa",
            b"12345678\xf8\0\0\0\0\0\0\0\0\xf7",
        ] {
            assert_eq!(decode_key(bad), None, "{bad:?}");
        }
    }

    quickcheck! {
        fn decoding_gives_the_key_back(key: Vec<u8>) -> bool {
            decode_key(&encode_key(&key)).as_deref() == Some(&key[..])
        }

        fn encoding_keeps_the_order(a: Vec<u8>, b: Vec<u8>) -> bool {
            a.cmp(&b) == encode_key(&a).cmp(&encode_key(&b))
        }
    }
}
