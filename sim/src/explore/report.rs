//! What a search has found, for people.

use std::collections::BTreeMap;
use std::fmt;

use super::{Cast, Fault, Mode, Search};
use crate::check::Violation;

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the transactions commit.
    pub mode: Mode,
    /// What may go wrong.
    pub fault: Fault,
    /// Who takes part.
    pub cast: Cast,
    /// Whether they write and read more keys.
    pub wide: bool,
    /// Whether operations give up before their attempts do.
    pub impatient: bool,
    /// How many states there are.
    pub states: usize,
    /// How many steps were tried.
    pub transitions: usize,
    /// How many of them led to a state that was known.
    pub merged: usize,
    /// How many states were judged as ends.
    pub ends: usize,
    /// How many steps lead to the state that is farthest away.
    pub deepest: usize,
    /// How many states there are at one distance, at most.
    pub widest: usize,
    /// How it ended for those who took part, and in how many of the ends.
    pub outcomes: BTreeMap<String, usize>,
    /// No bound was met: these are all states.
    pub completed: bool,
    /// What should not be.
    pub found: Option<Counterexample>,
}

/// A way to something that should not be: a shortest one.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What it is.
    pub violation: Violation,
    /// The way, each step in a few lines. What is asked of the world at its end is the last.
    pub steps: Vec<Vec<String>>,
    /// How many steps lead to it.
    pub depth: usize,
}

impl Report {
    pub(super) fn new(search: &Search) -> Self {
        Self {
            mode: search.mode,
            fault: search.fault,
            cast: search.cast,
            wide: search.wide,
            impatient: search.patience < search.config.attempt_timeout,
            states: 0,
            transitions: 0,
            merged: 0,
            ends: 0,
            deepest: 0,
            widest: 0,
            outcomes: BTreeMap::new(),
            completed: true,
            found: None,
        }
    }
}

const HEAD: &str = "mode         fault          cast               states transitions    merged   ends depth  \
                    completed";

impl fmt::Display for Report {
    /// A line of the [`table`], and the counterexample.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = format!("{}{}", self.fault.name(), if self.impatient { "!" } else { "" });
        let cast = format!("{}{}", self.cast.name(), if self.wide { "+" } else { "" });
        let completed = match (&self.found, self.completed) {
            (Some(_), _) => "FOUND",
            (None, true) => "yes",
            (None, false) => "no",
        };
        write!(
            f,
            "{:<12} {fault:<14} {cast:<15} {:>9} {:>11} {:>9} {:>6} {:>5}  {completed}",
            self.mode.name(),
            self.states,
            self.transitions,
            self.merged,
            self.ends,
            self.deepest,
        )?;
        match &self.found {
            Some(found) => write!(f, "\n{found}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation)?;
        writeln!(f, "after {} steps:", self.depth)?;
        for (n, lines) in (1..).zip(&self.steps) {
            for (line, text) in lines.iter().enumerate() {
                match line {
                    0 => writeln!(f, "{n:>4}. {text}")?,
                    _ => writeln!(f, "      {text}")?,
                }
            }
        }
        Ok(())
    }
}

/// Several reports, one beneath the other, and their sums. An exclamation mark behind a fault says that
/// operations give up before their attempts do; a plus behind a cast, that it has more keys.
pub fn table(reports: &[Report]) -> String {
    let mut lines = vec![HEAD.to_owned()];
    lines.extend(reports.iter().map(Report::to_string));
    let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum::<usize>();
    let completed = reports.iter().filter(|report| report.completed).count();
    lines.push(format!(
        "{} searches, {completed} completed: {} states, {} transitions, {} ends",
        reports.len(),
        sum(|it| it.states),
        sum(|it| it.transitions),
        sum(|it| it.ends),
    ));
    lines.join("\n")
}
