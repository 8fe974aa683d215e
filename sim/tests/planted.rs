#![cfg(anatase_planted)]
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anatase_core::Plant;
use anatase_sim::scenario::{Scenario, run};

#[test]
fn explore() {
    let wanted = std::env::var("PLANTS").unwrap_or_default();
    let budget: u64 = std::env::var("BUDGET").ok().and_then(|b| b.parse().ok()).unwrap_or(60);
    let from: u64 = std::env::var("FROM").ok().and_then(|b| b.parse().ok()).unwrap_or(1);
    let plants: Vec<Plant> = Plant::ALL
        .iter()
        .copied()
        .filter(|plant| wanted.is_empty() || wanted.split(',').any(|name| name == plant.name()))
        .collect();
    let next = AtomicUsize::new(0);
    let out = Mutex::new(());
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(plant) = plants.get(next.fetch_add(1, Ordering::Relaxed)) else {
                        break;
                    };
                    let begun = Instant::now();
                    let mut caught = BTreeMap::new();
                    let mut first = None;
                    let mut n = 0;
                    for seed in from..from + budget {
                        n += 1;
                        let mut scenario = Scenario::of_seed(seed);
                        scenario.planted = Some(*plant);
                        let report = run(&scenario);
                        if !report.violations.is_empty() {
                            first.get_or_insert((seed, report.violations[0].to_string()));
                            let kinds: std::collections::BTreeSet<String> = report
                                .violations
                                .iter()
                                .map(|v| format!("{:?}/{:?}", v.checker, v.anomaly))
                                .collect();
                            for kind in kinds {
                                *caught.entry(kind).or_insert(0) += 1;
                            }
                        }
                        if begun.elapsed().as_secs() > 60 {
                            break;
                        }
                    }
                    let _lock = out.lock();
                    println!(
                        "== {plant}: {n} runs {:?} first {:?} {caught:?}",
                        begun.elapsed(),
                        first.map(|(seed, story)| (
                            seed,
                            story.chars().take(300).collect::<String>()
                        ))
                    );
                }
            });
        }
    });
}
