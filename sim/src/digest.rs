//! A name for everything that happened so far.
//!
//! Each event is mixed into one number, with what it carried. Two runs with the same number went the
//! same way. It is no cryptographic hash: nobody here forges histories.

use std::hash::Hasher;

use crate::entropy::mix;

/// A hash that is the same on every platform: numbers of every width are mixed as 64 bits, bytes in
/// little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    pub(crate) fn word(&mut self, word: u64) {
        // A multiplication per word; `finish` spreads the bits of the last ones.
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(crate) fn value(self) -> u64 {
        mix(self.0)
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.value()
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

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

    fn write_isize(&mut self, n: isize) {
        self.word(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hash;

    use super::*;

    fn of(what: impl Hash) -> u64 {
        let mut digest = Digest::new();
        what.hash(&mut digest);
        digest.value()
    }

    #[test]
    fn what_differs_has_another_name() {
        let names = [of(1_u8), of(2_u8), of("a"), of("b"), of("ab"), of(("a", "b")), of([0_u8; 8])];
        for (i, one) in names.iter().enumerate() {
            assert!(names[i + 1..].iter().all(|other| one != other), "{i} of {names:?}");
        }
        assert_eq!(of(1_u64), of(1_usize), "a platform's word is no different");
    }

    #[test]
    fn order_counts() {
        let (mut ab, mut ba) = (Digest::new(), Digest::new());
        [1, 2].into_iter().for_each(|n| ab.word(n));
        [2, 1].into_iter().for_each(|n| ba.word(n));
        assert_ne!(ab.value(), ba.value());
    }
}
