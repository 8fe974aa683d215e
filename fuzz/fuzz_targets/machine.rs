//! Commits, lock calls and inquiries in any state, under any wakes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| anatase_core::fuzz::machine(bytes));
