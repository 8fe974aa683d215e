//! Which inputs were met in which states, as a table.

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
