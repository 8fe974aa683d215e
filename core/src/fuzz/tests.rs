//! The bodies under quickcheck, and over the bytes that are kept. Runs are always the same, so what
//! fails here fails everywhere. The bytes of a failure are printed: they go into [`KEPT`], shortened.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::seeds::{SEEDS, seeds};

/// What was once found: target, and bytes as hexadecimal digits.
const KEPT: [(&str, &str); 3] = [
    // Whoever waits for an answer is looked after every millisecond, as configured: many wakes.
    (
        "core",
        "eecd39017c03917a4a84990a4a8499a77bedd79482a50ace2f058fcf2a024b1bffffffffffffffffffff\
         ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
         ffffffffffffffffffffffffffffffffffffffffffffffff9529738906880300000000000000f16a2c29\
         45e4a9d87e40bf3b5752814c16515c4b468cc8725b2275fbad8a23f9f354ef187a5a0da65b2d36939df9\
         60540779cc2483c30134497a4c0e8d2f23213708a8247cddf76f23a7f9480134497a4c0e8d2f23213708\
         a8247cddf76f23a7f94865147586900009e2e9d5d0c4111901d2a8661dd265147586900009e2e9d5d0c4\
         111901d2a8661dd274be591e7633ce77cbe009150a90c045454545d4552bdac8ec180bbbae30ebc9ed97\
         7626f6e36de42b901d0fc428ab5535ab55354501c2584501c28863",
    ),
    // A lost copy of a commit in one phase, and then the whole is locked as for two phases.
    ("machine", "8391013840b10134950000000000000001f29e460803"),
    // A primary of which a store says that it is not there, and when it was committed.
    ("machine", "f9000034000000000121f2379200afe1"),
];

/// A fuzzer's bytes. Shrinks by records of eight, then by single bytes, then towards zeros.
#[derive(Clone, Debug)]
struct Tape(Vec<u8>);

impl Arbitrary for Tape {
    fn arbitrary(g: &mut Gen) -> Self {
        let len = usize::arbitrary(g) % (g.size() + 1);
        Self((0..len).map(|_| u8::arbitrary(g)).collect())
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let bytes = self.0.clone();
        let without = |size: usize, bytes: &[u8]| -> Vec<Vec<u8>> {
            let starts = (0..bytes.len()).step_by(size);
            let cut = |at: usize| {
                let end = bytes.len().min(at + size);
                [&bytes[..at], &bytes[end..]].concat()
            };
            starts.map(cut).collect()
        };
        let mut smaller: Vec<Vec<u8>> = vec![bytes[..bytes.len() / 2].to_vec()];
        smaller.extend(without(64, &bytes));
        smaller.extend(without(8, &bytes));
        smaller.extend(without(1, &bytes));
        smaller.extend((0..bytes.len()).filter(|at| bytes[*at] != 0).map(|at| {
            let mut calmer = bytes.clone();
            calmer[at] = 0;
            calmer
        }));
        smaller.retain(|one| *one != bytes);
        Box::new(smaller.into_iter().map(Self))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Runs a body, and names the bytes if it fails.
fn run(target: &str, body: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(bytes))) {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        resume_unwind(Box::new(format!("{target} fails with {}\n{text}", hex(bytes))));
    }
}

macro_rules! files {
    ($target:ident: $($file:literal)*) => {
        [$(include_bytes!(
            concat!("../../../fuzz/corpus/", stringify!($target), "/", $file)
        )),*]
    };
}
macro_rules! targets {
    ($($target:ident: $tests:literal of $size:literal bytes,)*) => {
        $(
            #[test]
            fn $target() {
                let name = stringify!($target);
                fn holds(tape: Tape) -> bool {
                    run(stringify!($target), super::$target, &tape.0);
                    true
                }
                for (index, seed) in seeds(name).iter().enumerate() {
                    let there: &[u8] = corpus::$target[index];
                    assert_eq!(there, seed, "fuzz/corpus/{name}/{index:02} is out of date");
                    run(name, super::$target, seed);
                }
                for (_, bytes) in KEPT.iter().filter(|(target, _)| *target == name) {
                    run(name, super::$target, &unhex(bytes));
                }
                QuickCheck::new()
                    .rng(Gen::from_size_and_seed($size, 7))
                    .tests($tests)
                    .quickcheck(holds as fn(Tape) -> bool);
            }
        )*

        /// The files of `fuzz/corpus`.
        #[allow(non_upper_case_globals, reason = "named as the targets are")]
        mod corpus {
            $(pub(super) const $target: [&[u8]; super::SEEDS as usize] =
                files!($target: "00" "01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11");)*
        }
    };
}

targets! {
    machine: 10_000 of 300 bytes,
    core: 500 of 600 bytes,
    wire: 400 of 100 bytes,
    codec: 10_000 of 60 bytes,
}
