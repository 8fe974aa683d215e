//! The contract of `Core` with its driver, held from outside: through the public API alone.
//!
//! [`by_hand`] drives a core through a story without any machinery, the way `examples/bare_core.rs`
//! does against the embedded cluster. [`any_input`] gives cores whatever a driver, a cluster or an
//! application could come up with, in any order, and holds the six rules of the crate's
//! documentation against what comes out.

#[path = "../support/mod.rs"]
mod support;

mod any_input;
mod by_hand;
mod chance;
mod messages;
mod script;
mod states;
mod watch;
