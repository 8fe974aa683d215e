//! A smaller scenario that goes wrong in the same way.

use std::time::Duration;

use super::{Knobs, Report, Scenario, run};
use crate::fault::NetFault;
use crate::profile::Network;

/// What became of a scenario that was made smaller.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest that was found.
    pub scenario: Scenario,
    /// How it goes wrong.
    pub report: Report,
    /// How many scenarios were run for it.
    pub runs: u32,
}

/// Makes a scenario smaller as long as it goes wrong in the way of its first violation. Of the candidates
/// the first that does is taken, and everything begins anew. `None` if it does not go wrong at all.
///
/// `runs` is how many scenarios may be run. `progress` is told of each that is smaller, with its events.
pub fn shrink(
    scenario: &Scenario,
    runs: u32,
    progress: impl FnMut(&Scenario, &Report),
) -> Option<Shrunk> {
    shrink_by(scenario, runs, run, progress)
}

/// The same, where scenarios are run and judged in a way of one's own.
pub fn shrink_by(
    scenario: &Scenario,
    runs: u32,
    run: impl Fn(&Scenario) -> Report,
    mut progress: impl FnMut(&Scenario, &Report),
) -> Option<Shrunk> {
    let first = run(scenario);
    let verdict = first.verdict()?;
    let mut best = Shrunk { scenario: scenario.clone(), report: first, runs: 1 };
    'anew: loop {
        for candidate in candidates(&best.scenario, Some(&best.report)) {
            if best.runs >= runs {
                break 'anew;
            }
            best.runs += 1;
            let report = run(&candidate);
            if report.verdict() == Some(verdict) {
                progress(&candidate, &report);
                best.scenario = candidate;
                best.report = report;
                continue 'anew;
            }
        }
        break;
    }
    Some(best)
}

/// Smaller scenarios, those first that leave out most. Each is smaller by [`size`], so this ends. With a
/// report, what struck by itself is planned instead, and can be left out one by one.
pub(super) fn candidates(scenario: &Scenario, report: Option<&Report>) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut offer = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = scenario.clone();
        change(&mut smaller);
        if size(&smaller) < size(scenario) {
            all.push(smaller);
        }
    };
    // Fewer transactions.
    offer(&|it| it.programs.iter_mut().for_each(|program| program.rounds /= 2));
    for n in 0..scenario.programs.len() {
        let rounds = scenario.programs[n].rounds;
        for fewer in [rounds / 2, rounds * 3 / 4, rounds.saturating_sub(1)] {
            offer(&|it| it.programs[n].rounds = fewer);
        }
    }
    // Fewer clients.
    for n in 0..scenario.programs.len() {
        offer(&|it| {
            it.programs.remove(n);
        });
    }
    // What strikes by itself all at once off, one kind at a time, or as it struck.
    offer(&|it| it.profile.nemesis.clear());
    for n in 0..scenario.profile.nemesis.len() {
        offer(&|it| {
            it.profile.nemesis.remove(n);
        });
    }
    if let Some(report) = report
        && !scenario.profile.nemesis.is_empty()
    {
        offer(&|it| {
            it.profile.nemesis.clear();
            it.faults = report.struck.clone();
        });
    }
    // Fewer faults.
    let faults = scenario.faults.len();
    offer(&|it| drop(it.faults.drain(..faults / 2)));
    offer(&|it| it.faults.truncate(faults / 2));
    for n in 0..faults {
        offer(&|it| {
            it.faults.remove(n);
        });
    }
    // A calmer network.
    offer(&|it| it.profile.network = it.profile.network.healed());
    type Dial = fn(&mut Network) -> &mut u32;
    let dials: [Dial; 6] = [
        |network| &mut network.tail,
        |network| &mut network.request_lost,
        |network| &mut network.reply_lost,
        |network| &mut network.zombie,
        |network| &mut network.reset,
        |network| &mut network.strays,
    ];
    for dial in dials {
        offer(&|it| *dial(&mut it.profile.network) = 0);
    }
    // Fewer ways, keys, regions, stores.
    for n in 0..scenario.ways.len() {
        offer(&|it| {
            it.ways.remove(n);
        });
    }
    let keys = scenario.shape.keys;
    for fewer in [keys / 2, keys.saturating_sub(1)] {
        offer(&|it| it.shape.keys = fewer.max(1));
    }
    for n in 0..scenario.shape.split_keys.len() {
        offer(&|it| drop(it.shape.split_keys.remove(n)));
    }
    offer(&|it| it.shape.stores = 1);
    offer(&|it| it.shape.pd_members = 1);
    // Sooner, shorter.
    for n in 0..faults {
        offer(&|it| it.faults[n].at /= 2);
    }
    for n in 0..faults {
        offer(&|it| {
            if let Some(lasts) = lasts(&mut it.faults[n].fault) {
                *lasts /= 2;
            }
        });
    }
    offer(&|it| it.lasts /= 2);
    // Usual latencies.
    let calm = Network::calm();
    offer(&|it| it.profile.network.scheduling = calm.scheduling);
    offer(&|it| it.profile.network.mean = calm.mean);
    offer(&|it| it.wire = false);
    offer(&|it| it.knobs = Knobs::default());
    all
}

/// What is compared: the first thing that differs decides.
fn size(scenario: &Scenario) -> impl PartialOrd {
    let network = &scenario.profile.network;
    let calm = Network::calm();
    let dials = [
        network.tail,
        network.request_lost,
        network.reply_lost,
        network.zombie,
        network.reset,
        network.strays,
    ];
    let long = |at: Duration, usual: Duration| if at == usual { 0 } else { 1 };
    let lasting: Duration =
        scenario.faults.iter().filter_map(|it| lasts(&mut it.fault.clone()).copied()).sum();
    let at: Duration = scenario.faults.iter().map(|it| it.at).sum();
    (
        scenario.programs.iter().map(|program| program.rounds as usize + 1).sum::<usize>(),
        scenario.profile.nemesis.len(),
        scenario.faults.len(),
        dials.into_iter().map(u64::from).sum::<u64>(),
        scenario.ways.len() + scenario.shape.split_keys.len(),
        scenario.shape.keys + scenario.shape.stores + scenario.shape.pd_members,
        (lasting + scenario.lasts + at).as_micros(),
        long(network.mean, calm.mean)
            + long(network.scheduling, calm.scheduling)
            + u32::from(scenario.wire)
            + u32::from(scenario.knobs != Knobs::default()),
    )
}

/// How long a fault lasts, if it is one that lasts.
fn lasts(fault: &mut NetFault) -> Option<&mut Duration> {
    match fault {
        NetFault::Partition { lasts, .. }
        | NetFault::SlowStore { lasts, .. }
        | NetFault::PauseStore { lasts, .. }
        | NetFault::CrashStore { lasts, .. }
        | NetFault::BusyStore { lasts, .. }
        | NetFault::FullStore { lasts, .. }
        | NetFault::LoseLeader { lasts, .. }
        | NetFault::Refuse { lasts, .. }
        | NetFault::FallBack { lasts, .. }
        | NetFault::HoldMaxTs { lasts, .. }
        | NetFault::DoNotWait { lasts, .. }
        | NetFault::StaleRoutes { lasts }
        | NetFault::LosePdLeader { lasts }
        | NetFault::SlowPd { lasts, .. }
        | NetFault::CrashPd { lasts, .. }
        | NetFault::PdError { lasts, .. }
        | NetFault::PauseClient { lasts, .. }
        | NetFault::CrashClient { down: lasts, .. } => Some(lasts),
        NetFault::Reset { .. }
        | NetFault::Next { .. }
        | NetFault::Split { .. }
        | NetFault::SplitAtKey { .. }
        | NetFault::Merge { .. }
        | NetFault::MoveLeader { .. }
        | NetFault::MovePdLeader { .. }
        | NetFault::TimestampLeap { .. }
        | NetFault::SkewClient { .. }
        | NetFault::Cancel { .. } => None,
    }
}
