//! Who depends on whom, and in circles.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anatase_core::Instant;
use bytes::Bytes;

use super::graph::Graph;
use super::observe::{Fate, Observed};
use super::{Options, Order, Report, violation};
use crate::check::Anomaly;
use crate::history::{History, Id, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    WriteWrite,
    WriteRead,
    ReadWrite,
    /// By way of the instants at which things end: see [`Dependencies::real_time`].
    RealTime,
}

struct Edge<'a> {
    from: usize,
    to: usize,
    kind: Kind,
    /// The key, and the element that one of the two appended.
    why: Option<(&'a Bytes, u64)>,
}

struct Dependencies<'a> {
    history: &'a History,
    /// By node; nodes beyond are instants.
    ids: Vec<Id>,
    nodes: usize,
    edges: Vec<Edge<'a>>,
}

/// From how many nodes of a component a short cycle is looked for: it need not be the shortest of
/// all, and components can be large.
const STARTS: usize = 64;

/// One cycle of each component, by its worst name.
pub(super) fn find(
    observed: &Observed<'_>,
    orders: &[Order],
    options: Options,
    report: &mut Report,
) {
    let mut all = Dependencies {
        history: observed.history,
        ids: observed.txns.iter().map(|txn| txn.id).collect(),
        nodes: observed.txns.len(),
        edges: Vec::new(),
    };
    all.by_order(observed, orders);

    let mut told: BTreeSet<usize> = BTreeSet::new();
    let writes = |kind| matches!(kind, Kind::WriteWrite);
    let flow = |kind| matches!(kind, Kind::WriteWrite | Kind::WriteRead);
    for cycle in all.plain(&mut told, writes).into_iter().chain(all.plain(&mut told, flow)) {
        report.violations.push(all.story(&cycle, None));
    }
    for cycle in all.without_two_in_a_row(&mut told) {
        report.violations.push(all.story(&cycle, None));
    }
    let mut skewed = told.clone();
    for cycle in all.plain(&mut skewed, |_| true) {
        report.write_skew.push(all.story(&cycle, Some(Anomaly::G2)));
    }
    if options.real_time {
        all.real_time(observed);
        for cycle in all.without_two_in_a_row(&mut told) {
            report.violations.push(all.story(&cycle, Some(Anomaly::RealTimeCycle)));
        }
    }
}

impl<'a> Dependencies<'a> {
    fn by_order(&mut self, observed: &'a Observed<'_>, orders: &'a [Order]) {
        let mut writers: BTreeMap<&Bytes, Vec<Option<usize>>> = BTreeMap::new();
        let mut lists: BTreeMap<&Bytes, &[u64]> = BTreeMap::new();
        for order in orders {
            let who = |element: &u64| {
                let writer = observed.writers.get(&(order.key.clone(), *element)).copied()?;
                (observed.txns[writer].fate == Fate::Committed).then_some(writer)
            };
            let row: Vec<Option<usize>> = order.elements.iter().map(who).collect();
            for (pair, element) in row.windows(2).zip(order.elements.iter().skip(1)) {
                if let [Some(from), Some(to)] = pair {
                    self.add(*from, *to, Kind::WriteWrite, (&order.key, *element));
                }
            }
            writers.insert(&order.key, row);
            lists.insert(&order.key, &order.elements);
        }
        for (reader, txn) in observed.txns.iter().enumerate() {
            for read in txn.reads.iter().filter(|read| read.depends) {
                let (Some(row), Some(list)) = (writers.get(&read.key), lists.get(&read.key)) else {
                    continue;
                };
                if !list.starts_with(&read.list) {
                    continue;
                }
                let seen = read.list.len();
                if let Some(last) = seen.checked_sub(1)
                    && let Some(writer) = row[last]
                {
                    self.add(writer, reader, Kind::WriteRead, (&read.key, list[last]));
                }
                if let Some(Some(writer)) = row.get(seen) {
                    self.add(reader, *writer, Kind::ReadWrite, (&read.key, list[seen]));
                }
            }
        }
    }

    /// A chain of nodes, one for each instant at which somebody was told of an end: whoever ends
    /// leads into it, whoever begins comes out of the last link before. So there are no more edges
    /// than transactions.
    fn real_time(&mut self, observed: &Observed<'_>) {
        let mut ends: Vec<(Instant, usize)> = Vec::new();
        for (node, txn) in observed.txns.iter().enumerate() {
            if let (Some(ended), Fate::Committed, true) = (txn.ended, txn.fate, txn.fresh) {
                ends.push((ended, node));
            }
        }
        ends.sort_unstable();
        let first = self.nodes;
        self.nodes += ends.len();
        let kind = Kind::RealTime;
        for (link, (_, node)) in ends.iter().enumerate() {
            self.edges.push(Edge { from: *node, to: first + link, kind, why: None });
            if link > 0 {
                let (from, to) = (first + link - 1, first + link);
                self.edges.push(Edge { from, to, kind, why: None });
            }
        }
        for (node, txn) in observed.txns.iter().enumerate().filter(|(_, txn)| txn.fresh) {
            let before = ends.partition_point(|(ended, _)| *ended < txn.began);
            if let Some(link) = before.checked_sub(1) {
                self.edges.push(Edge { from: first + link, to: node, kind, why: None });
            }
        }
    }

    fn add(&mut self, from: usize, to: usize, kind: Kind, why: (&'a Bytes, u64)) {
        if from != to {
            self.edges.push(Edge { from, to, kind, why: Some(why) });
        }
    }

    /// Cycles of edges of certain kinds, in components that nothing was told of yet.
    fn plain(&self, told: &mut BTreeSet<usize>, kinds: impl Fn(Kind) -> bool) -> Vec<Vec<usize>> {
        let mut graph = Graph::new(self.nodes);
        for (label, edge) in self.edges.iter().enumerate().filter(|(_, edge)| kinds(edge.kind)) {
            graph.add(edge.from, edge.to, label);
        }
        self.cycles(&graph, told, |node| node)
    }

    /// Cycles in which no two rw edges follow each other. A node is `2 n + 1` if it was entered by
    /// an rw edge, and is then left by another kind.
    fn without_two_in_a_row(&self, told: &mut BTreeSet<usize>) -> Vec<Vec<usize>> {
        let mut graph = Graph::new(2 * self.nodes);
        for (label, edge) in self.edges.iter().enumerate() {
            let (from, to) = (2 * edge.from, 2 * edge.to);
            if edge.kind == Kind::ReadWrite {
                graph.add(from, to + 1, label);
            } else {
                graph.add(from, to, label);
                graph.add(from + 1, to, label);
            }
        }
        self.cycles(&graph, told, |node| node / 2)
    }

    fn cycles(
        &self,
        graph: &Graph,
        told: &mut BTreeSet<usize>,
        node: impl Fn(usize) -> usize,
    ) -> Vec<Vec<usize>> {
        let mut found = Vec::new();
        for component in graph.components() {
            if component.iter().any(|member| told.contains(&node(*member))) {
                continue;
            }
            let cycles = component.iter().take(STARTS);
            let cycles = cycles.filter_map(|start| graph.cycle(*start, &component));
            let rank = |cycle: &Vec<usize>| (self.count(cycle, Kind::ReadWrite), cycle.len());
            if let Some(best) = cycles.min_by_key(rank) {
                told.extend(component.iter().map(|member| node(*member)));
                found.push(best);
            }
        }
        found
    }

    fn count(&self, cycle: &[usize], kind: Kind) -> usize {
        cycle.iter().filter(|label| self.edges[**label].kind == kind).count()
    }

    fn story(&self, cycle: &[usize], name: Option<Anomaly>) -> crate::check::Violation {
        let class = match (self.count(cycle, Kind::ReadWrite), self.count(cycle, Kind::WriteRead)) {
            (0, 0) => Anomaly::G0,
            (0, _) => Anomaly::G1c,
            (1, _) => Anomaly::GSingle,
            (_, _) => Anomaly::GNonadjacent,
        };
        let mut story =
            String::from("each of these comes before the next, and the last before the first:");
        let mut who = Vec::new();
        for label in cycle {
            let edge = &self.edges[*label];
            let who_is = |node: usize| self.ids.get(node).map(|id| format!("#{id}"));
            let (from, to) = (who_is(edge.from), who_is(edge.to));
            who.extend(self.ids.get(edge.from));
            let _ = match (edge.kind, edge.why, from, to) {
                (Kind::WriteWrite, Some((key, element)), Some(from), Some(to)) => {
                    let key = text(key);
                    write!(story, "\n    {from} ww {to}: {to} appended {element} to {key} after it")
                }
                (Kind::WriteRead, Some((key, element)), Some(from), Some(to)) => {
                    write!(story, "\n    {from} wr {to}: {to} saw its {element} in {}", text(key))
                }
                (Kind::ReadWrite, Some((key, element)), Some(from), Some(to)) => {
                    let key = text(key);
                    write!(story, "\n    {from} rw {to}: it did not see {to}'s {element} in {key}")
                }
                (_, _, Some(from), _) => write!(story, "\n    {from} rt: it had ended"),
                (_, _, None, Some(to)) => write!(story, "\n    rt {to}: it began after that"),
                (_, _, None, None) => Ok(()),
            };
        }
        violation(name.unwrap_or(class), story).by(self.history, who)
    }
}
