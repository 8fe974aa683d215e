//! Which inputs were met in which states, as a table, and against docs/states.md.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use anatase_core::coverage::{Coverage, Input, Machine, State};

/// How many pairs of each machine were met.
pub(crate) fn summary(coverage: &Coverage) -> String {
    let mut text = String::new();
    for machine in Machine::ALL {
        let pairs: Vec<u64> =
            coverage.rows().filter(|row| row.0 == *machine).map(|row| row.3).collect();
        let met = pairs.iter().filter(|count| **count > 0).count();
        let sum: u64 = pairs.iter().sum();
        let end = if text.is_empty() { "" } else { "; " };
        let _ =
            write!(text, "{end}{} {met} of {} pairs, {sum} inputs", machine.name(), pairs.len());
    }
    text
}

/// Every pair with its count: a row for each input, a column for each state.
pub(crate) struct Table<'a>(pub(crate) &'a Coverage);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for machine in Machine::ALL {
            let states: Vec<State> =
                State::ALL.iter().copied().filter(|state| state.machine() == *machine).collect();
            write!(f, "{:<14}", machine.name())?;
            for state in &states {
                write!(f, "{:>18}", state.name())?;
            }
            writeln!(f)?;
            for input in Input::ALL {
                write!(f, "{:<14}", input.name())?;
                for state in &states {
                    write!(f, "{:>18}", self.0.count(*state, *input))?;
                }
                writeln!(f)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A pair, as docs/states.md names it.
type Pair = (Machine, State, Input);

/// What docs/states.md says of pairs.
pub(crate) struct Page(BTreeSet<Pair>);

impl Page {
    /// Reads the tables of the page: each machine has its heading, each state its row, each input its
    /// column; «—» is what cannot be. `None` if they are not there.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut possible = BTreeSet::new();
        let mut machine = None;
        let mut columns: Vec<Input> = Vec::new();
        let mut rows = 0;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("## ") {
                machine =
                    Machine::ALL.iter().copied().find(|machine| machine.name() == name.trim());
                columns.clear();
            }
            let Some(machine) = machine else { continue };
            let Some(row) = line.strip_prefix("| ") else { continue };
            let cells: Vec<&str> =
                row.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
            let (name, cells) = cells.split_first()?;
            if *name == "state" {
                let input = |name: &&str| Input::ALL.iter().copied().find(|it| it.name() == *name);
                columns = cells.iter().map(input).collect::<Option<_>>()?;
                continue;
            }
            let mut states = State::ALL.iter().copied().filter(|state| state.machine() == machine);
            let Some(state) = states.find(|state| state.name() == *name) else { continue };
            rows += 1;
            let filled = columns.iter().zip(cells).filter(|(_, cell)| **cell != "—");
            possible.extend(filled.map(|(input, _)| (machine, state, *input)));
        }
        (rows == State::ALL.len()).then_some(Self(possible))
    }

    /// Pairs that can be and were not met, and pairs that cannot be and were.
    pub(crate) fn compare(&self, coverage: &Coverage) -> (Vec<Pair>, Vec<Pair>) {
        let (mut never, mut wrong) = (Vec::new(), Vec::new());
        for (machine, state, input, count) in coverage.rows() {
            let pair = (machine, state, input);
            match (self.0.contains(&pair), count) {
                (true, 0) => never.push(pair),
                (false, 1..) => wrong.push(pair),
                (true, _) | (false, 0) => {}
            }
        }
        (never, wrong)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Pairs by name, separated by commas.
pub(crate) fn names(pairs: &[Pair]) -> String {
    let name = |(machine, state, input): &Pair| {
        format!("{} {} / {}", machine.name(), state.name(), input.name())
    };
    pairs.iter().map(name).collect::<Vec<_>>().join(", ")
}
