//! Breaks simulated clusters around the shipping client, all day long if told to.
//!
//! ```text
//! anatase-sim swarm --seconds 60             scenarios of fresh seeds, each judged by all checkers
//! anatase-sim show --seed 7                  the scenario of a seed, as text
//! anatase-sim replay scenario.json           one again
//! anatase-sim shrink scenario.json           what of it the failure needs
//! anatase-sim explore                        everything that can happen in a small world
//! ```
//!
//! Exit codes: 0 all is well; 1 something is wrong; 2 it was asked for what cannot be.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod explore;
mod one;
mod pairs;
mod swarm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs the Anatase client in simulated worlds where everything goes wrong, and judges what came of it.
#[derive(Debug, Parser)]
#[command(name = "anatase-sim", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Runs the scenarios of one seed after another, until the time is over or something is wrong.
    Swarm(swarm::Swarm),
    /// Tries every way in which two transactions and a reader can meet, with one fault.
    Explore(explore::Explore),
    /// Prints the scenario of a seed.
    Show {
        /// The seed.
        #[arg(long)]
        seed: u64,
    },
    /// Runs a scenario, and tells how it went.
    Replay {
        /// A file with a scenario, as `show` and `swarm` write them.
        scenario: PathBuf,
        /// Tell everything that the clients did.
        #[arg(long)]
        history: bool,
        /// Tell everything that was sent and answered.
        #[arg(long)]
        messages: bool,
    },
    /// Makes a scenario that goes wrong smaller.
    Shrink {
        /// A file with a scenario.
        scenario: PathBuf,
        /// Where the smaller one goes.
        #[arg(long)]
        into: Option<PathBuf>,
        /// How many scenarios may be run for it.
        #[arg(long, default_value_t = 2_000)]
        runs: u32,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Swarm(swarm) => swarm.run(),
        What::Explore(explore) => explore.run(),
        What::Show { seed } => {
            println!("{}", anatase_sim::Scenario::of_seed(seed));
            Ok(true)
        }
        What::Replay { scenario, history, messages } => one::replay(&scenario, history, messages),
        What::Shrink { scenario, into, runs } => one::shrink(&scenario, into.as_deref(), runs),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
