//! Tries every way in which transactions can meet, and prints how many there are.
//!
//! ```text
//! cargo run --release -p anatase-sim --example explore -- [--mode M] [--fault F] [--cast C]
//!     [--max-states N] [--wide] [--impatient] [--whole] [--outcomes] [--all]
//! ```
//!
//! Without arguments, what CI runs: [`anatase_sim::explore::bounded`]. `--whole` leaves nothing out,
//! `--outcomes` tells how those who took part ended.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is what it is for")]

use std::process::ExitCode;
use std::time::Instant;

use anatase_sim::explore::{self, Cast, Fault, Mode, Search};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let searches = match searches(&arguments) {
        Ok(searches) => searches,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    let verbose = arguments.iter().any(|word| word == "--outcomes");
    let begun = Instant::now();
    let mut reports = Vec::new();
    for search in searches {
        let started = Instant::now();
        let report = search.run(&mut |report| {
            eprint!(
                "\r{} {}: {} states, depth {} ",
                report.mode.name(),
                report.fault.name(),
                report.states,
                report.deepest
            );
        });
        eprintln!("\r{report}  {:.1} s", started.elapsed().as_secs_f64());
        if verbose {
            report.outcomes.iter().for_each(|(text, ends)| println!("{ends:>8} {text}"));
        }
        reports.push(report);
    }
    println!("{}", explore::table(&reports));
    println!("in {:.1} s", begun.elapsed().as_secs_f64());
    let found = reports.iter().any(|report| report.found.is_some());
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn searches(arguments: &[String]) -> Result<Vec<Search>, String> {
    if arguments.is_empty() {
        return Ok(explore::bounded());
    }
    let (mut modes, mut faults) = (Mode::ALL.to_vec(), Fault::ALL.to_vec());
    let (mut cast, mut states) = (Cast::Three, usize::MAX);
    let (mut impatient, mut wide, mut reduce) = (false, false, true);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--mode" => modes = vec![Mode::of_name(value()?).ok_or("no such mode")?],
            "--fault" => faults = vec![Fault::of_name(value()?).ok_or("no such fault")?],
            "--cast" => cast = Cast::of_name(value()?).ok_or("no such cast")?,
            "--max-states" => states = value()?.parse().map_err(|_| "no number")?,
            "--impatient" => impatient = true,
            "--wide" => wide = true,
            "--whole" => reduce = false,
            "--all" | "--outcomes" => {}
            other => return Err(format!("what is {other}?")),
        }
    }
    let mut searches = Vec::new();
    for mode in modes {
        for fault in &faults {
            let mut search = Search::new(mode, *fault).cast(cast).max_states(states);
            (search.reduce, search.wide) = (reduce, wide);
            searches.push(if impatient { search.impatient() } else { search });
        }
    }
    Ok(searches)
}
