//! One scenario.

use std::path::Path;
use std::{fs, io};

use anatase_sim::Scenario;
use anatase_sim::scenario::{Report, run, run_logged, shrink as smaller};

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0}: {1}")]
    File(String, io::Error),
    #[error("{0}: {1}")]
    Text(String, anatase_sim::scenario::NoScenario),
    #[error("{0}")]
    Other(String),
}

pub(crate) fn text(path: &Path) -> Result<String, Unusable> {
    fs::read_to_string(path).map_err(|error| Unusable::File(path.display().to_string(), error))
}

fn read(path: &Path) -> Result<Scenario, Unusable> {
    text(path)?.parse().map_err(|error| Unusable::Text(path.display().to_string(), error))
}

pub(crate) fn write(path: &Path, scenario: &Scenario) -> Result<(), Unusable> {
    let fail = |error| Unusable::File(path.display().to_string(), error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    fs::write(path, format!("{scenario}\n")).map_err(fail)
}

/// How it went, for people. True if all is well.
pub(crate) fn tell(report: &Report) -> bool {
    let stats = &report.stats;
    println!(
        "{} events in {:?} of virtual time; {} faults struck; digest {:016x}",
        stats.events, report.simulated, stats.faults, report.digest
    );
    println!("{}", report.tally);
    for violation in &report.violations {
        println!("\n{violation}");
    }
    match report.violations.len() {
        0 => println!("nothing is wrong"),
        count => println!("\n{count} violations"),
    }
    report.violations.is_empty()
}

pub(crate) fn replay(path: &Path, history: bool, messages: bool) -> Result<bool, Unusable> {
    let scenario = read(path)?;
    let report = if messages { run_logged(&scenario) } else { run(&scenario) };
    report.log.iter().for_each(|line| println!("{line}"));
    if history {
        for fault in &report.struck {
            println!("{:?} {:?}", fault.at, fault.fault);
        }
        print!("{}", report.history);
    }
    let well = tell(&report);
    if run(&scenario).digest != report.digest {
        println!("a second run went another way: something in it is not deterministic");
        return Ok(false);
    }
    Ok(well)
}

pub(crate) fn shrink(path: &Path, into: Option<&Path>, runs: u32) -> Result<bool, Unusable> {
    let scenario = read(path)?;
    let shrunk = smaller(&scenario, runs, |_, report| {
        eprint!("\r{} events  ", report.stats.events);
    });
    let Some(shrunk) = shrunk else {
        println!("nothing is wrong with it");
        return Ok(true);
    };
    eprintln!();
    println!("after {} runs:\n{}", shrunk.runs, shrunk.scenario);
    print!("{}", shrunk.report.history);
    tell(&shrunk.report);
    if let Some(into) = into {
        write(into, &shrunk.scenario)?;
    }
    Ok(false)
}
