//! A digest that does not change from run to run, nor from machine to machine.
//!
//! The state of a core is hashed to compare runs: a clone with its original, a replay with the
//! recording, one machine with another. `std`'s default hasher promises nothing between releases,
//! and by default a hasher sees integers in the machine's own byte order and width. So the digest
//! has a hasher of its own: a chain of splitmix64 steps, one for each integer and for each eight
//! bytes. (FNV-1a a word at a time will not do: its sparse prime lets two flipped bits cancel.) It
//! is no defence against anybody who wants two states to collide.
//!
//! One hole is beyond a hasher: `std` hands it a *slice* of integers as bytes in the machine's own
//! order. So a digest of one is shared by all little-endian machines; a big-endian one has digests
//! of its own, which still tell its own runs apart.

use std::hash::{Hash, Hasher};

use crate::draw::mix;

/// The digest of a value: equal values have equal digests.
pub(crate) fn digest_of(value: &impl Hash) -> u64 {
    let mut digest = Digest::new();
    value.hash(&mut digest);
    digest.finish()
}

/// A hasher with a fixed beginning and a fixed byte order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    fn word(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            // Its length in the last byte, which is free: "a" is not "a\0".
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            word[7] = rest.len() as u8;
            self.word(u64::from_le_bytes(word));
        }
    }

    // Each integer as a word, whatever its width and the byte order of the machine; `usize` and
    // `isize` as 64 bits, so that a 32-bit machine agrees.
    fn write_u8(&mut self, n: u8) {
        self.word(n.into());
    }
    fn write_u16(&mut self, n: u16) {
        self.word(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.word(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.word(n);
    }
    fn write_u128(&mut self, n: u128) {
        self.word(n as u64);
        self.word((n >> 64) as u64);
    }
    fn write_usize(&mut self, n: usize) {
        self.word(n as u64);
    }
    fn write_i8(&mut self, n: i8) {
        self.word(n as u64);
    }
    fn write_i16(&mut self, n: i16) {
        self.word(n as u64);
    }
    fn write_i32(&mut self, n: i32) {
        self.word(n as u64);
    }
    fn write_i64(&mut self, n: i64) {
        self.word(n as u64);
    }
    fn write_i128(&mut self, n: i128) {
        self.write_u128(n as u128);
    }
    fn write_isize(&mut self, n: isize) {
        self.word(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests are compared between machines and written into saved runs.
    #[test]
    fn the_digest_is_fixed_for_ever() {
        assert_eq!(digest_of(&(1_u8, 2_u32, -3_i64, 4_usize, "five", Some(6_u64))), GOLDEN);
    }

    const GOLDEN: u64 = 12_081_503_013_740_952_715;

    #[test]
    fn width_does_not_matter_but_order_and_value_do() {
        assert_eq!(digest_of(&5_usize), digest_of(&5_u64));
        assert_eq!(digest_of(&-5_isize), digest_of(&-5_i64));
        assert_ne!(digest_of(&(1_u64, 2_u64)), digest_of(&(2_u64, 1_u64)));
        let mut seen = std::collections::BTreeSet::new();
        for bit in 0..64 {
            for other in 0..64 {
                assert!(seen.insert(digest_of(&(1_u64 << bit, 1_u64 << other))));
            }
        }
    }

    #[test]
    fn strings_of_bytes_are_told_apart() {
        let strings: [&[u8]; 8] =
            [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\x01", b"12345678", b"12345678\0"];
        let digests: std::collections::BTreeSet<u64> = strings.iter().map(digest_of).collect();
        assert_eq!(digests.len(), strings.len());
    }
}
