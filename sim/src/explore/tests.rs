use super::*;

fn fine(search: Search) -> Report {
    let report = search.run(&mut |_| ());
    println!("{report}");
    assert!(report.found.is_none() && report.completed, "{report}");
    report
}

fn found(search: Search) -> Counterexample {
    let report = search.run(&mut |_| ());
    println!("{report}");
    report.found.expect("it is wrong")
}

#[test]
fn without_faults_whatever_the_order() {
    for mode in Mode::ALL {
        for cast in [Cast::OneAndReader, Cast::Two] {
            fine(Search::new(*mode, Fault::None).cast(cast));
        }
    }
}

#[test]
fn a_status_that_lies_tears_a_commit() {
    let search = Search::new(Mode::TwoPhase, Fault::None).cast(Cast::OneAndReader);
    let lie = found(search.sabotage(Sabotage::StatusLies));
    assert!(lie.depth <= 12);
}

#[test]
fn a_commit_that_is_forgotten_is_missed() {
    let search = Search::new(Mode::TwoPhase, Fault::None).cast(Cast::OneAndReader);
    let lie = found(search.sabotage(Sabotage::CommitIsForgotten));
    assert!(lie.depth <= 12);
}

#[test]
fn doubt_is_not_no() {
    let search = Search::new(Mode::TwoPhase, Fault::ReplyLost).cast(Cast::OneAndReader);
    let lie = found(search.impatient().sabotage(Sabotage::DoubtIsNo));
    assert!(lie.depth <= 12);
}

/// What is left out by the reduction are ways, not ends.
#[test]
fn the_reduction_loses_no_outcome() {
    for (mode, fault, cast) in [
        (Mode::TwoPhase, Fault::None, Cast::Two),
        (Mode::OnePhase, Fault::Crash, Cast::Two),
        (Mode::OnePhase, Fault::ReplyLost, Cast::OneAndReader),
    ] {
        let reduced = fine(Search::new(mode, fault).cast(cast));
        let mut whole = Search::new(mode, fault).cast(cast);
        whole.reduce = false;
        let whole = fine(whole);
        assert!(reduced.states < whole.states);
        let names = |report: &Report| report.outcomes.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&reduced), names(&whole));
    }
}
