use super::*;
use crate::check::{Anomaly, Checker};

fn fine(search: &Search) -> Report {
    let report = search.run(&mut |_| ());
    assert!(report.found.is_none() && report.completed, "{report}");
    assert_eq!(report.transitions, report.states - 1 + report.merged, "each step leads somewhere");
    assert!(report.ends > 0 && report.outcomes.values().sum::<usize>() == report.ends, "{report}");
    report
}

fn found(search: &Search) -> Counterexample {
    let report = search.run(&mut |_| ());
    report.found.unwrap_or_else(|| panic!("nothing was found"))
}

fn names(report: &Report) -> Vec<String> {
    report.outcomes.keys().cloned().collect()
}

#[test]
fn without_faults_whatever_the_order() {
    for mode in Mode::ALL {
        let read = fine(&Search::new(*mode, Fault::None).cast(Cast::OneAndReader));
        // The one of its keys that the reader wants is there, or it is not yet.
        let seen = match mode {
            Mode::OnePhase => ["\"one\" and \"one\"", "nothing and nothing"],
            Mode::TwoPhase | Mode::Async | Mode::Pessimistic | Mode::Fair => ["\"one\"", "nothing"],
        };
        assert_eq!(names(&read), seen.map(|seen| format!("T1 committed, R saw {seen}")));
        let write = fine(&Search::new(*mode, Fault::None).cast(Cast::Two));
        let pessimistic = matches!(mode, Mode::Pessimistic | Mode::Fair);
        let both = names(&write).iter().any(|it| it == "T1 committed, T2 committed");
        assert!(both, "one after the other");
        let conflict = names(&write).iter().any(|it| it.contains("aborted"));
        assert_ne!(conflict, pessimistic, "{mode:?}: {:?}", names(&write));
    }
}

/// Two transactions that lock in opposite orders: one of them gives way, or neither has to.
#[test]
fn a_deadlock_ends_whatever_the_order() {
    for mode in [Mode::Pessimistic, Mode::Fair] {
        let report = fine(&Search::new(mode, Fault::None).cast(Cast::Two).wide());
        let expected =
            ["aborted, T2 committed", "committed, T2 aborted", "committed, T2 committed"];
        assert_eq!(names(&report), expected.map(|it| format!("T1 {it}")));
    }
}

/// The whole of the smallest world, which is everybody in one phase, with faults that are few.
#[test]
fn all_three_in_one_phase_with_a_fault() {
    for fault in &[Fault::None, Fault::RequestLost, Fault::ReplyLost, Fault::PdFailure] {
        fine(&Search::new(Mode::OnePhase, *fault));
    }
}

#[test]
fn two_phases_with_a_fault_in_the_readers_way() {
    for fault in [Fault::RequestLost, Fault::ReplyLost, Fault::Refusal, Fault::Crash] {
        let report = fine(&Search::new(Mode::TwoPhase, fault).cast(Cast::OneAndReader));
        assert!(report.outcomes.len() > 1, "{report}");
    }
    let search = Search::new(Mode::TwoPhase, Fault::ReplyLost).cast(Cast::OneAndReader);
    let hurry = fine(&search.impatient());
    assert!(names(&hurry).iter().any(|it| it.starts_with("T1 in doubt")), "{:?}", names(&hurry));
}

/// The transcript is a story that ends with what is wrong, and there is none shorter.
#[test]
fn a_status_that_lies_tears_a_commit() {
    let search = Search::new(Mode::TwoPhase, Fault::None).cast(Cast::OneAndReader);
    let search = search.sabotage(Sabotage::StatusLies);
    let lie = found(&search);
    assert_eq!(
        (lie.violation.checker, lie.violation.anomaly),
        (Checker::Truth, Anomaly::TornCommit)
    );
    assert!((5..=12).contains(&lie.depth), "{lie}");
    let story = lie.to_string();
    let mut rest = story.as_str();
    for line in [
        "T1 begins",
        "prewrite z of",
        "get z @",
        "z is locked by",
        "what became of",
        "rolled back",
        "resolve z of",
        "T1 hears: COMMITTED",
        "everything is over",
    ] {
        let at =
            rest.find(line).unwrap_or_else(|| panic!("{line} is not told, or not then:\n{story}"));
        rest = &rest[at..];
    }
    let shorter = Search { max_depth: lie.depth - 1, ..search };
    assert!(shorter.run(&mut |_| ()).found.is_none());
}

#[test]
fn a_commit_that_is_forgotten_is_missed() {
    let search = Search::new(Mode::TwoPhase, Fault::None).cast(Cast::OneAndReader);
    let lie = found(&search.sabotage(Sabotage::CommitIsForgotten));
    // It is the lock that is noticed first: nothing went wrong, and it is still there.
    assert_eq!(
        (lie.violation.checker, lie.violation.anomaly),
        (Checker::Residue, Anomaly::LeftLock)
    );
    let search = Search::new(Mode::TwoPhase, Fault::Split).cast(Cast::OneAndReader);
    let lie = found(&search.sabotage(Sabotage::CommitIsForgotten));
    assert_eq!(
        (lie.violation.checker, lie.violation.anomaly),
        (Checker::Truth, Anomaly::LostCommit)
    );
}

/// Only a fault leads to it.
#[test]
fn doubt_is_not_no() {
    let search = |fault| {
        let search = Search::new(Mode::TwoPhase, fault).cast(Cast::OneAndReader);
        search.impatient().sabotage(Sabotage::DoubtIsNo)
    };
    fine(&search(Fault::None));
    let lie = found(&search(Fault::ReplyLost));
    assert_eq!(lie.violation.anomaly, Anomaly::AbortedButVisible);
    assert_eq!(lie.to_string().matches("FAULT").count(), 1, "{lie}");
}

/// What is left out by the reduction are ways, not ends.
#[test]
fn the_reduction_loses_no_outcome() {
    for (mode, fault, cast) in [
        (Mode::TwoPhase, Fault::None, Cast::Two),
        (Mode::OnePhase, Fault::Crash, Cast::Two),
        (Mode::OnePhase, Fault::Reset, Cast::OneAndReader),
    ] {
        let reduced = Search::new(mode, fault).cast(cast);
        let whole = Search { reduce: false, ..reduced.clone() };
        let [reduced, whole] = [reduced, whole].map(|search| fine(&search));
        assert!(reduced.states < whole.states);
        assert_eq!(names(&reduced), names(&whole));
    }
}

#[test]
fn a_bound_is_told_and_the_same_search_finds_the_same() {
    let search = Search::new(Mode::Async, Fault::Zombie).max_states(300);
    let [one, two] = [(); 2].map(|()| search.run(&mut |_| ()));
    assert!(!one.completed && one.states == 300, "{one}");
    assert_eq!(one.to_string(), two.to_string());
    assert!(table(&[one]).contains("0 completed"));
}

#[test]
fn names_are_found_again() {
    for mode in Mode::ALL {
        assert_eq!(Mode::of_name(mode.name()), Some(*mode));
    }
    for fault in Fault::ALL {
        assert_eq!(Fault::of_name(fault.name()), Some(*fault));
    }
    for cast in Cast::ALL {
        assert_eq!(Cast::of_name(cast.name()), Some(*cast));
    }
    assert_eq!(Fault::of_name("gremlins"), None);
    let all = bounded();
    for mode in Mode::ALL {
        for fault in Fault::ALL {
            assert!(all.iter().any(|it| (it.mode, it.fault) == (*mode, *fault)));
        }
    }
}
