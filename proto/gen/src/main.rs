//! `cargo run -p anatase-proto-gen` rewrites the generated files; with `--check` it only compares.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use anatase_proto_gen::{Error, generate, stale, write};

fn main() -> ExitCode {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("unknown argument {other}; the only one is --check");
            return ExitCode::from(2);
        }
    };
    match run(check) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<ExitCode, Error> {
    let fresh = generate()?;
    if check {
        let stale = stale(&fresh)?;
        for name in &stale {
            eprintln!("stale: {name}");
        }
        return Ok(if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    for name in write(&fresh)? {
        println!("wrote {name}");
    }
    Ok(ExitCode::SUCCESS)
}
