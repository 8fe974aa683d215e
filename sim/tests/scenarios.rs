//! Scenarios: drawn, saved, replayed, made smaller; and what the workloads are good for.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anatase_sim::check::{Anomaly, Checker, Violation};
use anatase_sim::scenario::{
    Choices, Knobs, Program, Report, Shape, Tally, Way, run, shrink, shrink_by,
};
use anatase_sim::{Fate, FaultKind, NetFault, PlannedFault, Profile, Recurring, Scenario, Work};
use quickcheck::{Arbitrary, Gen, QuickCheck};

/// Fails with the whole story, and the scenario to save.
fn well(scenario: &Scenario, report: &Report) {
    if let Some(first) = report.violations.first() {
        let count = report.violations.len();
        panic!("{count} violations, the first: {first}\nof the scenario\n{scenario}");
    }
}

/// Runs it twice: it goes the same way, and well.
fn twice(scenario: &Scenario) -> Report {
    let report = run(scenario);
    well(scenario, &report);
    assert_eq!(run(scenario).digest, report.digest, "it went another way:\n{scenario}");
    report
}

fn scenario(seed: u64, profile: Profile, ways: &[Way], works: &[(Work, u32)]) -> Scenario {
    let programs = works.iter().map(|&(work, rounds)| Program { work, rounds }).collect();
    let splits = works.iter().map(|(work, _)| work.key(1)).collect::<BTreeSet<_>>();
    let split_keys = splits.into_iter().collect();
    Scenario {
        choices: Choices::Seed(seed),
        shape: Shape { stores: 3, pd_members: 3, split_keys, keys: 4 },
        profile,
        faults: Vec::new(),
        ways: ways.to_vec(),
        programs,
        lasts: Duration::from_secs(120),
        wire: false,
        knobs: Knobs::default(),
    }
}

// ---- saved ones ----------------------------------------------------------------------------------

/// Each was wrong once, or shows something worth keeping: docs/simulation.md says what.
#[test]
fn saved_scenarios_go_well() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        let text = std::fs::read_to_string(&name).expect("a text");
        let scenario: Scenario = text.parse().unwrap_or_else(|e| panic!("{}: {e}", name.display()));
        assert_eq!(text.trim_end(), scenario.to_string(), "{}: as it is written", name.display());
        twice(&scenario);
    }
}

// ---- drawn ones ----------------------------------------------------------------------------------

/// Whatever the seed says, calm or swarm; the first seed of all is another one in the program's swarm.
#[test]
fn scenarios_of_many_seeds_go_well() {
    let mut tally = Tally::default();
    let mut struck = BTreeSet::new();
    for seed in 0..150 {
        let report = twice(&Scenario::of_seed(seed));
        tally.add(&report.tally);
        struck.extend(
            report
                .struck
                .iter()
                .map(|it| std::mem::discriminant(&it.fault))
                .map(|kind| format!("{kind:?}")),
        );
    }
    assert!(tally.committed() > 1_000, "{tally}");
    assert!(tally.by_async > 100 && tally.one_phase > 100 && tally.two_phase > 100, "{tally}");
    assert!(tally.aborted > 50 && tally.undetermined > 5 && tally.crashed > 20, "{tally}");
    assert!(tally.deadlocks > 0 && tally.snapshots > 100 && tally.registers > 100, "{tally}");
    assert!(struck.len() > 20, "{struck:?}");
}

/// The same by quickcheck, which makes what fails smaller.
#[test]
fn scenarios_of_quickcheck_go_well() {
    fn goes_well(scenario: Scenario) -> bool {
        let report = run(&scenario);
        report.violations.is_empty() && run(&scenario).digest == report.digest
    }
    let gen_ = Gen::from_size_and_seed(10, 20_261_125);
    QuickCheck::new().rng(gen_).tests(25).quickcheck(goes_well as fn(Scenario) -> bool);
}

/// Every tape is a scenario; the empty one a calm one of little work.
#[test]
fn every_tape_is_a_scenario() {
    let calm = Scenario::of_tape(&[]);
    assert!(calm.profile.nemesis.is_empty() && calm.faults.is_empty(), "{calm}");
    twice(&calm);
    let mut dice = Gen::from_size_and_seed(400, 7);
    for _ in 0..20 {
        twice(&Scenario::of_tape(&Vec::<u8>::arbitrary(&mut dice)));
    }
}

#[test]
fn a_scenario_is_its_text() {
    for seed in 0..50 {
        let scenario = Scenario::of_seed(seed);
        let again: Scenario = scenario.to_string().parse().expect("its own text");
        assert_eq!(again, scenario);
    }
    assert!("{}".parse::<Scenario>().is_err());
    let misspelt = Scenario::of_seed(1).to_string().replace("\"programs\"", "\"programme\"");
    assert!(misspelt.parse::<Scenario>().is_err(), "what is misspelt is not passed over");
}

/// Messages as bytes or as values: the run is the same.
#[test]
fn the_wire_changes_nothing() {
    for seed in 0..8 {
        let values = Scenario { wire: false, ..Scenario::of_seed(seed) };
        let bytes = Scenario { wire: true, ..values.clone() };
        assert_eq!(run(&values).digest, run(&bytes).digest, "seed {seed}");
    }
}

// ---- workloads -----------------------------------------------------------------------------------

/// In a calm world each work does what it is there for, in each way to commit, and nothing fails that may
/// not.
#[test]
fn each_work_in_each_way_in_a_calm_world() {
    for work in Work::ALL {
        for way in Way::ALL {
            let rounds = work.rounds().min(6);
            let report =
                twice(&scenario(1, Profile::calm(), &[way], &[(work, rounds), (work, rounds)]));
            let tally = &report.tally;
            assert!(report.stats.requests > 10, "{work:?} {way:?}: {tally}");
            if matches!(work, Work::Bank | Work::Ring | Work::ListAppend | Work::Large) {
                let by = match way {
                    Way::TwoPhase | Way::Pessimistic | Way::Fair => tally.two_phase,
                    Way::Async | Way::Causal | Way::PessimisticAsync => tally.by_async,
                    // Several regions: async; one: in one phase.
                    Way::OnePhase | Way::PessimisticOnePhase => tally.one_phase + tally.by_async,
                };
                // Keys of a large transaction are too many for an async commit or one phase.
                assert!(by > 0 || work == Work::Large, "{work:?} {way:?}: {tally}");
            }
        }
    }
}

/// Under snapshot isolation write skew happens; with locks on what is read it does not, in the same world.
#[test]
fn write_skew_occurs_and_locks_prevent_it() {
    let mut skews = 0;
    for seed in 0..20 {
        let clients = |work| [(work, 20), (work, 20), (work, 20)];
        let free = scenario(
            seed,
            Profile::calm(),
            &[Way::TwoPhase, Way::Async],
            &clients(Work::WriteSkew),
        );
        skews += twice(&free).tally.skews;
        // Its judge finds it if both switches are ever off.
        let locked = scenario(seed, Profile::calm(), &Way::ALL, &clients(Work::LockedSkew));
        twice(&locked);
    }
    assert!(skews > 0, "a checker or a lock is too strong: in 20 worlds nobody saw write skew");
}

/// Who waits for whom goes round in circles; somebody is told, and everybody goes on.
#[test]
fn deadlocks_are_told_and_end() {
    let mut deadlocks = 0;
    for seed in 0..10 {
        let works = [(Work::Counter, 20), (Work::Counter, 20), (Work::Counter, 20)];
        let report =
            twice(&scenario(seed, Profile::calm(), &[Way::Pessimistic, Way::Fair], &works));
        deadlocks += report.tally.deadlocks;
        assert!(report.tally.committed() > 20, "{}", report.tally);
    }
    assert!(deadlocks > 10, "{deadlocks}");
}

/// Locks live for 20 s, and are held for up to 45: heartbeats keep them.
#[test]
fn who_is_patient_keeps_its_locks() {
    let works = [(Work::Patient, 2), (Work::Patient, 2), (Work::Janitor, 0)];
    let report = twice(&scenario(3, Profile::calm(), &[Way::Pessimistic, Way::Fair], &works[..2]));
    assert!(report.tally.committed() > 0, "{}", report.tally);
    assert!(report.simulated > Duration::from_secs(50), "{:?}", report.simulated);
}

/// Clients that die while they commit: what they leave is found whole or not at all.
#[test]
fn the_dead_leave_nothing_half_done() {
    let mut crashed = 0;
    for seed in 0..20 {
        let works = [(Work::Mortal, 8), (Work::Mortal, 8), (Work::Janitor, 4)];
        let report = twice(&scenario(seed, Profile::calm(), &Way::ALL, &works));
        crashed += report.tally.crashed;
    }
    assert!(crashed > 20, "{crashed}");
}

// ---- making smaller ------------------------------------------------------------------------------

/// What fails if two lists are appended to while a leader moves.
fn fussy(scenario: &Scenario) -> Report {
    let mut report = run(scenario);
    let lists = scenario.programs.iter().filter(|it| it.work == Work::ListAppend && it.rounds > 1);
    let moves = report.struck.iter().any(|it| matches!(it.fault, NetFault::MoveLeader { .. }));
    if lists.count() > 1 && moves {
        let story = "as arranged".to_owned();
        report.violations = vec![Violation {
            checker: Checker::Invariant,
            anomaly: Anomaly::InvariantBroken,
            who: Vec::new(),
            story,
        }];
    }
    report
}

#[test]
fn a_scenario_shrinks_to_what_the_failure_needs() {
    let works = [(Work::ListAppend, 12), (Work::Bank, 9), (Work::ListAppend, 11), (Work::Ring, 7)];
    let large = scenario(5, Profile::rough(), &Way::ALL, &works);
    let shrunk = shrink_by(&large, 2_000, fussy, |_, _| {}).expect("it fails");
    let small = &shrunk.scenario;
    let programs: Vec<(Work, u32)> = small.programs.iter().map(|it| (it.work, it.rounds)).collect();
    assert_eq!(programs, [(Work::ListAppend, 2), (Work::ListAppend, 2)], "{small}");
    assert!(small.profile.nemesis.is_empty() && small.ways.len() < 2, "{small}");
    assert_eq!(small.faults.len(), 1, "{small}");
    assert!(matches!(small.faults[0].fault, NetFault::MoveLeader { .. }), "{small}");
    assert!(small.profile.network.strays == 0 && small.shape.split_keys.is_empty(), "{small}");
    assert_eq!(shrunk.report.verdict(), Some((Checker::Invariant, Anomaly::InvariantBroken)));
}

#[test]
fn what_goes_well_does_not_shrink() {
    assert!(shrink(&Scenario::of_seed(0), 10, |_, _| {}).is_none());
}

/// A panic of the code under test is a violation like any other.
#[test]
fn a_stalled_world_is_told() {
    // A client that asks PD and is never answered, as nothing else happens.
    let mut lonely = scenario(1, Profile::calm(), &[], &[(Work::Order, 1)]);
    lonely.faults.push(PlannedFault {
        at: Duration::ZERO,
        fault: NetFault::Next { client: 0, skip: 0, fate: Fate::RequestLost },
    });
    twice(&lonely);
    let recurring =
        |kind| Recurring { kind, every: Duration::from_millis(300), lasts: Duration::from_secs(3) };
    // Faults that last longer than they are apart: nobody gets anything done, and that is right, too.
    lonely.profile.nemesis =
        [FaultKind::LosePdLeader, FaultKind::Partition].map(recurring).to_vec();
    lonely.lasts = Duration::from_secs(30);
    twice(&lonely);
}
