//! A core under any inputs in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| anatase_core::fuzz::core(bytes));
