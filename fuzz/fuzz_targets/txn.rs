//! A tape is a world in which transactions meet whatever can go wrong; all checkers look.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| anatase_sim::fuzz::txn(bytes));
