use super::*;

#[test]
fn one_and_a_reader_without_faults() {
    for mode in Mode::ALL {
        let report = Search::new(*mode, Fault::None).cast(Cast::OneAndReader).run(&mut |_| ());
        println!("{report}");
        assert!(report.found.is_none() && report.completed, "{report}");
    }
}
