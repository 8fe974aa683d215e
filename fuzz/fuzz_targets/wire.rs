//! Any bytes as any answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| anatase_core::fuzz::wire(bytes));
