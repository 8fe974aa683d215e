//! The contract of `Core` with its driver, held from outside: through the public API alone.
//!
//! [`by_hand`] drives a core through a story without any machinery, the way `examples/bare_core.rs`
//! does against the embedded cluster. Any inputs in any order are in `src/fuzz/any_input.rs`, which
//! serves fuzzers, too.

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
