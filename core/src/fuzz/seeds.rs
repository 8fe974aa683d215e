//! Where fuzzers begin: a few small strings of bytes for each target. They are made here and lie in
//! `fuzz/corpus/<target>/`; a test holds the two against each other.

use super::chance::Chance;

/// How many a target has.
pub(super) const SEEDS: u64 = 12;

/// The seeds of a target, by number: the first one is empty, the others are longer and longer.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let name = target.bytes().fold(0, |name, byte| name << 8 | u64::from(byte));
    let seed = |n| {
        let mut chance = Chance::new(name ^ n << 56);
        let mut bytes: Vec<u8> = (0..n * n * 4).map(|_| chance.word() as u8).collect();
        if target == "wire" {
            let head = bytes.len().min(8);
            bytes.truncate(head);
            message(&mut chance, 3, &mut bytes);
        }
        bytes
    };
    (0..SEEDS).map(seed).collect()
}

/// Bytes that look like protobuf: small field numbers, numbers and nested messages.
fn message(chance: &mut Chance, depth: u64, out: &mut Vec<u8>) {
    for _ in 0..1 + chance.below(4) {
        let field = 1 + chance.below(10) as u8;
        if depth == 0 || chance.one_in(2) {
            out.extend([field << 3, chance.below(128) as u8]);
        } else {
            let mut inner = Vec::new();
            message(chance, depth - 1, &mut inner);
            inner.truncate(127);
            out.extend([field << 3 | 2, inner.len() as u8]);
            out.extend(inner);
        }
    }
}
