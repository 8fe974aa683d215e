//! Cycles of dependencies between transactions that append to lists, after Elle
//! («Inferring Isolation Anomalies from Experimental Observations», Kingsbury and Alvaro).
//!
//! Each element is appended once, so a list tells in which order its transactions wrote, and a read
//! of it tells exactly which version was read. No timestamp is looked at: the method sees a wrong
//! oracle as well as a wrong client.
//!
//! ```text
//!   lists that were seen ─▶ the order of each key ─▶ edges ─▶ components ─▶ a cycle, classified
//!        [observe]               [orders]                       [graph]          [cycles]
//! ```
//!
//! | edge | from | to |
//! |---|---|---|
//! | ww | who appended an element | who appended the next |
//! | wr | who appended the last element that was read | the reader |
//! | rw | the reader | who appended the first element that it did not see |
//! | rt | who was told of its end | who began later, at a fresh timestamp |
//!
//! Snapshot isolation forbids every cycle in which no two rw edges follow each other, real time
//! included; the graph of such walks has two nodes for each transaction (entered by an rw edge or
//! not), and its components are found in linear time. Cycles that need two rw edges in a row are
//! write skew, which is allowed and told apart ([`Report::write_skew`]).
//!
//! A pessimistic transaction that locks reads what it locked as of then and the rest as of its
//! start: such reads are of no one snapshot, and make no edges. Those under its locks do.
//!
//! A reader that was not committed saw a snapshot all the same, and is held to it.

mod cycles;
mod graph;
mod observe;

use bytes::Bytes;

use self::observe::Observed;
use super::{Anomaly, Checker, Violation};
use crate::history::{History, Id};

/// What is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whoever begins after a commit was told has to see it.
    pub real_time: bool,
    /// Write skew is a violation: the workload locks what it reads.
    pub forbid_write_skew: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { real_time: true, forbid_write_skew: false }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// Cycles of write skew, whether or not they are violations.
    pub write_skew: Vec<Violation>,
    /// Transactions that were looked at.
    pub transactions: usize,
}

/// Judges all keys that anybody [appends](crate::history::Step::Append) to. Linear in the size of
/// the history, lists included, but for sorting.
pub fn check(history: &History, options: Options) -> Report {
    let mut observed = Observed::of(history);
    let orders = orders(&mut observed);
    let mut report = Report { transactions: observed.txns.len(), ..Report::default() };
    cycles::find(&observed, &orders, options, &mut report);
    observed.violations.append(&mut report.violations);
    report.violations = observed.violations;
    if options.forbid_write_skew {
        report.violations.extend(report.write_skew.iter().cloned());
    }
    report
}

fn violation(anomaly: Anomaly, story: String) -> Violation {
    Violation::new(Checker::ListAppend, anomaly, story)
}

/// The order in which a key was appended to.
struct Order {
    key: Bytes,
    elements: Vec<u64>,
}

/// The longest list of each key is its order; every other that was seen has to be its beginning.
fn orders(observed: &mut Observed<'_>) -> Vec<Order> {
    let mut orders: Vec<Order> = Vec::new();
    let mut found = Vec::new();
    for (key, lists) in &observed.lists() {
        let Some((longest, whose)) = lists.iter().max_by_key(|(list, _)| list.len()) else {
            continue;
        };
        // One pair of each key is enough to read.
        if let Some((list, id)) = lists.iter().find(|(list, _)| !longest.starts_with(list)) {
            let key = crate::history::text(key);
            let story = format!("{key} was {list:?} here and {longest:?} there");
            let violation = violation(Anomaly::IncompatibleOrder, story);
            found.push(violation.by(observed.history, [*id, *whose]));
        }
        orders.push(Order { key: (*key).clone(), elements: longest.to_vec() });
    }
    found.extend(observed.lost(&orders));
    observed.violations.append(&mut found);
    orders
}

/// A list that somebody saw, and who.
type Seen<'a> = (&'a [u64], Id);
