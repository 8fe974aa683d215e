//! Many scenarios.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anatase_core::coverage::Coverage;
use anatase_sim::Scenario;
use anatase_sim::scenario::{Report, Tally, run, shrink};
use clap::Args;

use crate::one::{self, Unusable};
use crate::pairs;

/// Runs the scenarios of one seed after another, each twice, until the time is over or something is wrong.
#[derive(Clone, Debug, Args)]
pub(crate) struct Swarm {
    /// How long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many scenarios at most.
    #[arg(long)]
    scenarios: Option<u64>,
    /// The first seed; a fresh one without it. It is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// On how many threads; as many as there are processors without it.
    #[arg(long)]
    jobs: Option<usize>,
    /// Run each scenario once only, and do not compare.
    #[arg(long)]
    once: bool,
    /// Go on after something is wrong.
    #[arg(long)]
    keep_going: bool,
    /// Tell how often each state of the machines met each input.
    #[arg(long)]
    pairs: bool,
    /// docs/states.md, to hold the pairs against: one that is met though it cannot be is wrong.
    #[arg(long)]
    states: Option<PathBuf>,
    /// Where scenarios that go wrong are written.
    #[arg(long, default_value = "target/anatase-sim")]
    save: PathBuf,
    /// How many scenarios may be run to make one smaller.
    #[arg(long, default_value_t = 600)]
    shrink_runs: u32,
}

/// What was found so far.
#[derive(Default)]
struct Sum {
    scenarios: u64,
    failed: Vec<(u64, Report)>,
    /// Seeds whose second run went another way.
    unstable: Vec<u64>,
    events: u64,
    simulated: Duration,
    faults: u64,
    zombies: u64,
    crashes: u64,
    cancelled: u64,
    tally: Tally,
    coverage: Coverage,
    /// Time spent in runs, of all threads together.
    busy: Duration,
}

impl Sum {
    fn add(&mut self, seed: u64, report: Report, same: bool, runs: u32, busy: Duration) {
        self.scenarios += 1;
        self.events += report.stats.events * u64::from(runs);
        self.simulated += report.simulated * runs;
        self.faults += report.stats.faults;
        self.zombies += report.stats.zombies;
        self.crashes += report.stats.crashes;
        self.cancelled += report.stats.cancelled;
        self.tally.add(&report.tally);
        self.coverage.merge(&report.coverage);
        self.busy += busy;
        if !same {
            self.unstable.push(seed);
        }
        if !report.violations.is_empty() {
            self.failed.push((seed, report));
        }
    }

    fn is_well(&self) -> bool {
        self.failed.is_empty() && self.unstable.is_empty()
    }

    fn events_per_second(&self) -> f64 {
        self.events as f64 / self.busy.as_secs_f64().max(1e-9)
    }

    fn line(&self, at: Duration) -> String {
        format!(
            "{:>4} s  {} scenarios, {:.1} M events, {:.2} M events/s a core, {} committed, {} wrong",
            at.as_secs(),
            self.scenarios,
            self.events as f64 / 1e6,
            self.events_per_second() / 1e6,
            self.tally.committed(),
            self.failed.len() + self.unstable.len(),
        )
    }
}

impl Swarm {
    pub(crate) fn run(self) -> Result<bool, Unusable> {
        // From what the standard library seeds its tables with: no more is needed.
        let first = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 16);
        let jobs = match self.jobs {
            Some(0) => return Err(Unusable::Other("no jobs, no work".to_owned())),
            Some(jobs) => jobs,
            None => thread::available_parallelism().map_or(1, |n| n.get()),
        };
        println!("the first seed is {first}; {jobs} threads");
        let sum = Arc::new(Mutex::new(Sum::default()));
        let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let begun = Instant::now();
        let until = begun + Duration::from_secs(self.seconds);
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                let (sum, next, stop, this) =
                    (sum.clone(), next.clone(), stop.clone(), self.clone());
                thread::spawn(move || this.work(first, until, &sum, &next, &stop))
            })
            .collect();
        self.watch(begun, &workers, &sum);
        for worker in workers {
            if worker.join().is_err() {
                return Err(Unusable::Other("a thread panicked outside of a run".to_owned()));
            }
        }
        let sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        self.report(&sum, begun.elapsed())
    }

    fn work(
        &self,
        first: u64,
        until: Instant,
        sum: &Mutex<Sum>,
        next: &AtomicU64,
        stop: &AtomicBool,
    ) {
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if self.scenarios.is_some_and(|most| n >= most) {
                return;
            }
            let seed = first.wrapping_add(n);
            let scenario = Scenario::of_seed(seed);
            let begun = Instant::now();
            let report = run(&scenario);
            let (same, runs) = match self.once {
                true => (true, 1),
                false => (run(&scenario).digest == report.digest, 2),
            };
            let busy = begun.elapsed();
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(seed, report, same, runs, busy);
            if !sum.is_well() && !self.keep_going {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }

    /// A line that is written over and over, or one every ten seconds where that cannot be.
    fn watch(&self, begun: Instant, workers: &[thread::JoinHandle<()>], sum: &Mutex<Sum>) {
        let live = io::stderr().is_terminal();
        let every = Duration::from_secs(if live { 1 } else { 10 });
        let mut told = begun;
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(100));
            if told.elapsed() < every {
                continue;
            }
            told = Instant::now();
            let line = sum.lock().unwrap_or_else(PoisonError::into_inner).line(begun.elapsed());
            match live {
                true => eprint!("\r{line}  "),
                false => eprintln!("{line}"),
            }
            io::stderr().flush().ok();
        }
        if live {
            eprintln!();
        }
    }

    fn report(&self, sum: &Sum, took: Duration) -> Result<bool, Unusable> {
        println!("{}", sum.line(took));
        let ratio = sum.simulated.as_secs_f64() / sum.busy.as_secs_f64().max(1e-9);
        println!(
            "{:.1} h simulated in {:.1} s of one core: {ratio:.0} to 1; each scenario ran {}",
            sum.simulated.as_secs_f64() / 3600.0,
            sum.busy.as_secs_f64(),
            if self.once { "once" } else { "twice" },
        );
        println!(
            "{} faults, {} zombies, {} crashes, {} cancelled operations",
            sum.faults, sum.zombies, sum.crashes, sum.cancelled
        );
        println!("{}", sum.tally);
        println!("{}", pairs::summary(&sum.coverage));
        if self.pairs {
            println!("\n{}", pairs::Table(&sum.coverage));
        }
        let mut well = sum.is_well();
        if let Some(path) = &self.states {
            let text = one::text(path)?;
            let page = pairs::Page::read(&text).ok_or_else(|| {
                Unusable::Other(format!("{}: no tables of states", path.display()))
            })?;
            let (never, wrong) = page.compare(&sum.coverage);
            let met = page.len() - never.len();
            println!(
                "of {} pairs that can be {met} were met; not: {}",
                page.len(),
                pairs::names(&never)
            );
            if !wrong.is_empty() {
                println!("pairs that cannot be were met: {}", pairs::names(&wrong));
                well = false;
            }
        }
        for seed in &sum.unstable {
            println!("seed {seed}: a second run went another way");
        }
        for (seed, report) in &sum.failed {
            println!("\nseed {seed}:");
            one::tell(report);
            one::write(&self.save.join(format!("{seed}.json")), &Scenario::of_seed(*seed))?;
        }
        if let Some((seed, _)) = sum.failed.first() {
            self.shrink(*seed)?;
        }
        if well {
            println!("nothing is wrong");
        }
        Ok(well)
    }

    /// The first is made smaller at once: in CI there is nobody else to do it.
    fn shrink(&self, seed: u64) -> Result<(), Unusable> {
        let shrunk = shrink(&Scenario::of_seed(seed), self.shrink_runs, |_, _| {});
        let Some(shrunk) = shrunk else { return Ok(()) };
        let path = self.save.join(format!("{seed}-small.json"));
        one::write(&path, &shrunk.scenario)?;
        println!("\nseed {seed}, smaller after {} runs:\n{}", shrunk.runs, shrunk.scenario);
        print!("{}", shrunk.report.history);
        one::tell(&shrunk.report);
        println!("written to {}", path.display());
        Ok(())
    }
}
