//! Everything that can happen in a small world.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anatase_sim::explore::{self, Cast, Fault, Mode, Report, Search};
use clap::Args;

use crate::one::Unusable;

/// Tries every way in which two transactions and a reader can meet, with one fault. Without arguments: each
/// mode with each fault, within bounds that take a minute.
#[derive(Debug, Args)]
pub(crate) struct Explore {
    /// How transactions commit: 2pc, async, 1pc, pessimistic, fair.
    #[arg(long)]
    mode: Option<String>,
    /// What may go wrong once: none, request-lost, reply-lost, zombie, reset, split, leader-move, refusal,
    /// crash, expiry, timestamp-leap, pd-failure.
    #[arg(long)]
    fault: Option<String>,
    /// Who takes part: txn+reader, txn+txn, txn+txn+reader.
    #[arg(long)]
    cast: Option<String>,
    /// So many states at most.
    #[arg(long)]
    max_states: Option<usize>,
    /// More keys.
    #[arg(long)]
    wide: bool,
    /// Operations give up before their attempts do.
    #[arg(long)]
    impatient: bool,
    /// Steps that commute are tried in every order, too.
    #[arg(long)]
    whole: bool,
    /// Tell how those who took part ended, and how often.
    #[arg(long)]
    outcomes: bool,
    /// On how many threads; as many as there are processors without it.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Explore {
    pub(crate) fn run(&self) -> Result<bool, Unusable> {
        let searches = self.searches()?;
        let jobs =
            self.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, |n| n.get()));
        let begun = Instant::now();
        let reports = all(&searches, jobs.max(1));
        if self.outcomes {
            for report in &reports {
                println!("{report}");
                report.outcomes.iter().for_each(|(text, ends)| println!("{ends:>8} {text}"));
            }
        }
        println!("{}", explore::table(&reports));
        println!("in {:.1} s", begun.elapsed().as_secs_f64());
        let well = reports.iter().all(|report| report.found.is_none());
        println!("{}", if well { "nothing is wrong" } else { "something is wrong" });
        Ok(well)
    }

    fn searches(&self) -> Result<Vec<Search>, Unusable> {
        let Self { mode, fault, cast, max_states, wide, impatient, whole, .. } = self;
        let usual = mode.is_none() && fault.is_none() && cast.is_none() && max_states.is_none();
        if usual && !(*wide || *impatient || *whole) {
            return Ok(explore::bounded());
        }
        let unknown = |name: &String| Unusable::Other(format!("there is no {name}: see --help"));
        let modes = match mode {
            Some(name) => vec![Mode::of_name(name).ok_or_else(|| unknown(name))?],
            None => Mode::ALL.to_vec(),
        };
        let faults = match fault {
            Some(name) => vec![Fault::of_name(name).ok_or_else(|| unknown(name))?],
            None => Fault::ALL.to_vec(),
        };
        let cast = match cast {
            Some(name) => Cast::of_name(name).ok_or_else(|| unknown(name))?,
            None => Cast::Three,
        };
        let mut searches = Vec::new();
        for mode in modes {
            for fault in &faults {
                let mut search = Search::new(mode, *fault).cast(cast);
                search.max_states = max_states.unwrap_or(usize::MAX);
                (search.reduce, search.wide) = (!whole, *wide);
                searches.push(if *impatient { search.impatient() } else { search });
            }
        }
        Ok(searches)
    }
}

/// Runs them side by side; the reports are in their order.
fn all(searches: &[Search], jobs: usize) -> Vec<Report> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let live = io::stderr().is_terminal();
    thread::scope(|scope| {
        for _ in 0..jobs.min(searches.len()) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(search) = searches.get(n) else { return };
                    let report = search.run(&mut |report: &Report| {
                        if live {
                            eprint!(
                                "\r{} of {}: {} {}: {} states, depth {}   ",
                                n + 1,
                                searches.len(),
                                report.mode.name(),
                                report.fault.name(),
                                report.states,
                                report.deepest
                            );
                        }
                    });
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((n, report));
                }
            });
        }
    });
    if live {
        eprintln!();
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, report)| report).collect()
}
