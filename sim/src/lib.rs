//! A world in virtual time for code that uses Anatase, and judges of what happened in it.
//!
//! | module | what |
//! |---|---|
//! | [`history`] | what a run records |
//! | [`check`] | what is held against it |
#![forbid(unsafe_code)]

pub mod check;
pub mod history;
