//! Keys as PD and stores see them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| anatase_core::fuzz::codec(bytes));
