//! What fuzzers do with a world. Not there in any other build: `cfg(fuzzing)` is set by the flags that
//! a fuzzer is built with, and by nothing else (docs/fuzzing.md).
//!
//! The bytes are a tape: its beginning is a scenario, and its rest is what happens in it. Whoever runs
//! off its end gets zeros, which are the calm choices.

use crate::entropy::{Entropy, Purpose, Seeded, Stream};
use crate::scenario::{Scenario, run};

/// Runs the scenario of a tape, and fails with what any checker has against it, or if a second run goes
/// another way.
pub fn txn(bytes: &[u8]) {
    let scenario = Scenario::of_tape(bytes);
    let report = run(&scenario);
    if !report.violations.is_empty() {
        let told: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        panic!("{}\nin scenario {scenario}", told.join("\n"));
    }
    assert_eq!(run(&scenario).digest, report.digest, "it went another way: {scenario}");
}

/// Where fuzzers begin: see `fuzz/corpus/txn`. The first one is empty, the others are longer and longer.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |n: u32| {
        let mut entropy = Seeded::new(u64::from(n));
        let stream = Stream::new(Purpose::Shape, 0);
        (0..n * n * 4).map(|_| entropy.below(stream, 256) as u8).collect()
    };
    (0..12).map(seed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was once found, as hexadecimal digits.
    const KEPT: [&str; 0] = [];

    fn hold(bytes: &[u8]) {
        let digits = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let told = std::panic::catch_unwind(|| txn(bytes));
        assert!(told.is_ok(), "the tape {} fails", digits());
    }

    #[test]
    fn the_tapes_that_are_kept_give_no_reason_for_complaint() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/txn");
        for (index, seed) in seeds().iter().enumerate() {
            let there =
                std::fs::read(corpus.join(format!("{index:02}"))).expect("the seed is there");
            assert!(there == *seed, "fuzz/corpus/txn/{index:02} is out of date");
            hold(seed);
        }
        for digits in KEPT {
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
            hold(&(0..digits.len()).step_by(2).map(byte).collect::<Vec<u8>>());
        }
    }

    /// Tapes of up to 1 KiB.
    #[test]
    fn any_tape_gives_no_reason_for_complaint() {
        let mut entropy = Seeded::new(7);
        let stream = Stream::new(Purpose::Shape, 0);
        for _ in 0..60 {
            let len = entropy.below(stream, 1_024);
            let tape: Vec<u8> = (0..len).map(|_| entropy.below(stream, 256) as u8).collect();
            hold(&tape);
        }
    }
}
