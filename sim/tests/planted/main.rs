//! The test of the tests: bugs that are planted in the core one by one, each of which a checker has
//! to find within so many runs.
//!
//! Built and run by itself, because the whole workspace is another one under this `cfg`:
//!
//! ```text
//! RUSTFLAGS="--cfg anatase_planted" cargo test -p anatase-sim --test planted --profile planted \
//!     --target-dir target/planted -- --nocapture
//! ```
//!
//! `PLANTS=no-heartbeat,retry-not-told` looks at these only, `BUDGET=9000` for that long, and
//! `STORIES=1` tells what was found. docs/planted.md says which rule each plant breaks.
#![cfg(anatase_planted)]
#![allow(clippy::print_stdout, reason = "the table")]

mod crowd;
mod focus;
mod ghost;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anatase_core::Plant;
use anatase_sim::check::{Anomaly, Checker, Violation};
use focus::{Focus, focus};

/// So many runs of scenarios of every kind have to find nothing in [`Plant::Harmless`].
const HARMLESS: u64 = 6_000;
/// So many runs in a row have to find [`Plant::Canary`], each of them.
const CANARY: u64 = 20;

/// What came of looking for a plant.
struct Hunt {
    /// How many runs it took, the last one included.
    runs: u64,
    /// By whom it was found, and in which scenario.
    caught: Option<Catch>,
    took: Duration,
}

struct Catch {
    seed: u64,
    by: BTreeSet<(Checker, Anomaly)>,
    first: String,
}

/// Runs scenarios until a checker finds what it does not find in the same scenario without the
/// plant.
fn hunt(plant: Plant, focus: Focus, budget: u64) -> Hunt {
    let begun = Instant::now();
    for seed in 1..=budget {
        let found = focus.run(seed, Some(plant));
        let Some(first) = found.first().map(Violation::to_string) else { continue };
        let without = focus.run(seed, None);
        assert!(without.is_empty(), "without any plant, seed {seed} of {focus:?}: {}", without[0]);
        let by = found.iter().map(|violation| (violation.checker, violation.anomaly)).collect();
        let caught = Some(Catch { seed, by, first });
        return Hunt { runs: seed, caught, took: begun.elapsed() };
    }
    Hunt { runs: budget, caught: None, took: begun.elapsed() }
}

/// Does it all on as many threads as there are processors, in order.
fn on_all<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    let result = work(n);
                    done.lock().expect("nobody panics with it").push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

fn is_wanted(plant: Plant) -> bool {
    let only = std::env::var("PLANTS").unwrap_or_default();
    only.is_empty() || only.split(',').any(|name| name == plant.name())
}

/// A line of the table.
fn row(plant: Plant, focus: Focus, budget: u64, hunt: &Hunt) -> String {
    let mut row = format!("{plant:27} {:18} ", focus.name());
    match &hunt.caught {
        Some(caught) => {
            let by: Vec<String> = caught
                .by
                .iter()
                .map(|(checker, anomaly)| format!("{checker:?}/{anomaly:?}"))
                .collect();
            let (runs, ms) = (hunt.runs, hunt.took.as_millis());
            let _ = write!(row, "{runs:5} of {budget:5} {ms:6} ms  {}", by.join(" "));
        }
        None => {
            let _ = write!(row, "NOT CAUGHT in {} runs, {:?}", hunt.runs, hunt.took);
        }
    }
    row
}

/// Each plant is caught within its budget.
#[test]
fn every_plant_is_caught() {
    let quick = std::env::var("BUDGET").ok().and_then(|budget| budget.parse().ok());
    let plants: Vec<(Plant, Focus, u64)> = Plant::ALL
        .iter()
        .filter(|plant| is_wanted(**plant))
        .filter_map(|plant| focus(*plant).map(|(focus, budget)| (*plant, focus, budget)))
        .map(|(plant, focus, budget)| (plant, focus, quick.unwrap_or(budget)))
        .collect();
    let hunts = on_all(plants.len(), |n| {
        let (plant, focus, budget) = plants[n];
        let hunt = hunt(plant, focus, budget);
        println!("{}", row(plant, focus, budget, &hunt));
        hunt
    });
    let lost: Vec<&str> = plants
        .iter()
        .zip(&hunts)
        .filter(|(_, hunt)| hunt.caught.is_none())
        .map(|((plant, ..), _)| plant.name())
        .collect();
    if std::env::var("STORIES").is_ok() {
        for ((plant, ..), hunt) in plants.iter().zip(&hunts) {
            if let Some(caught) = &hunt.caught {
                println!("\n{plant}, seed {}: {}", caught.seed, caught.first);
            }
        }
    }
    println!("{} plants, {} caught", plants.len(), plants.len() - lost.len());
    assert!(lost.is_empty(), "nobody has found {lost:?}");
}

/// What is no bug is never caught, by anybody, in any kind of scenario.
#[test]
fn the_harmless_plant_is_never_caught() {
    let kinds: Vec<Focus> = Focus::all();
    let each = HARMLESS / kinds.len() as u64;
    on_all(kinds.len(), |n| {
        let hunt = hunt(Plant::Harmless, kinds[n], each);
        if let Some(caught) = hunt.caught {
            panic!("seed {} of {:?}: {}", caught.seed, kinds[n], caught.first);
        }
    });
}

/// Commits that are told and not made are seen in each single run, or the plants do not get into
/// the clients at all.
#[test]
fn the_canary_always_fails() {
    for seed in 1..=CANARY {
        let found = Focus::CANARY.run(seed, Some(Plant::Canary));
        assert!(!found.is_empty(), "seed {seed}: the canary lives");
    }
}

/// The gate itself fails where a plant is not caught: asked for the harmless one, it says so.
#[test]
fn the_gate_can_fail() {
    let hunt = hunt(Plant::Harmless, Focus::CANARY, 10);
    let row = row(Plant::Harmless, Focus::CANARY, 10, &hunt);
    assert!(hunt.caught.is_none() && row.contains("NOT CAUGHT in 10 runs"), "{row}");
}

/// Each has a name of its own, and its row in the table of docs/planted.md.
#[test]
fn each_plant_is_named_and_written_down() {
    let page = include_str!("../../../docs/planted.md");
    for plant in Plant::ALL {
        assert_eq!(plant.name().parse(), Ok(*plant));
        let words = format!("{plant:?}").chars().filter(|c| c.is_uppercase()).count();
        assert_eq!(plant.name().split('-').count(), words, "{plant:?}");
        assert!(page.contains(&format!("\n| `{plant}` | ")), "docs/planted.md: no row for {plant}");
    }
    assert!("none".parse::<Plant>().is_err());
}
