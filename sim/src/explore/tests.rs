use super::*;

#[test]
fn one_and_a_reader_without_faults() {
    for mode in Mode::ALL {
        let report = Search::new(*mode, Fault::None).cast(Cast::OneAndReader).run(&mut |_| ());
        println!("{report}");
        assert!(report.found.is_none() && report.completed, "{report}");
    }
}

#[test]
fn dbg_walk() {
    use super::choose::Menu;
    let search = Search::new(Mode::TwoPhase, Fault::None).cast(Cast::OneAndReader);
    let mut stepper = super::step::Stepper::new(Sabotage::None, Duration::from_secs(1));
    let (mut state, _) = search.root(&mut stepper).unwrap();
    let menu = Menu { fault: Fault::None, mode: Mode::TwoPhase, reduce: true };
    let mut steps = Vec::new();
    let mut seed = 7u64;
    for n in 0..80 {
        menu.steps(&state, &mut steps);
        if steps.is_empty() { break; }
        seed = crate::entropy::mix(seed);
        // T1 first up to its locks
        let pick = if n < 8 { 0 } else { (seed % steps.len() as u64) as usize };
        stepper.log = Some(vec![]);
        stepper.step(&mut state, steps[pick]).unwrap();
        println!("{n} ({} of {} flights {}): {}", pick, steps.len(), state.flights.len(), stepper.log.take().unwrap().join("\n      "));
    }
}
