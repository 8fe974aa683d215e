//! What fuzzers do with this crate. Not there in any other build: `cfg(fuzzing)` is set by the flags
//! that a fuzzer is built with, and by nothing else (docs/fuzzing.md).
//!
//! A *body* takes bytes, does something with them, and panics if that went as it must not. The same
//! bodies run in three ways: from the targets in `fuzz/`, guided by coverage; from quickcheck, in the
//! tests below; and over the bytes that are kept, the seeds in `fuzz/corpus` and what was once found.
//!
//! | body | the bytes are | what is held |
//! |---|---|---|
//! | [`machine`] | a commit, lock call or inquiry in some state, and wakes | see `machine.rs` |
//! | [`core`] | steps of a driver, a cluster and an application | the contract: see `any_input.rs` |
//! | [`wire`] | what servers answer | see `wire.rs` |
//! | [`codec`] | keys, bounds, a keyspace | see `codec.rs` |
//!
//! Bytes are choices, not messages, wherever that is possible: each mutation then means something. All
//! of a body but what it is about goes through the public API alone, by the crate's name.

mod any_input;
mod chance;
mod codec;
mod machine;
mod messages;
mod script;
mod seeds;
mod states;
#[path = "../../tests/support/mod.rs"]
mod support;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

pub use seeds::seeds;

/// What becomes of commits, lock calls and inquiries under any wakes.
pub fn machine(bytes: &[u8]) {
    machine::body(bytes);
}

/// What a core does with any inputs in any order.
pub fn core(bytes: &[u8]) {
    any_input::play(&script::Script::of_bytes(bytes));
}

/// What is made of any bytes as any answer, and of requests.
pub fn wire(bytes: &[u8]) {
    wire::body(bytes);
}

/// How keys are written for PD and in a keyspace.
pub fn codec(bytes: &[u8]) {
    codec::body(bytes);
}
