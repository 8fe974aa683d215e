//! Cycles in directed graphs: components, and a short cycle through one.

use std::collections::VecDeque;

/// Edges by the node they leave: where to, and a number for whoever made the graph.
pub(super) struct Graph {
    out: Vec<Vec<(usize, usize)>>,
}

impl Graph {
    pub(super) fn new(nodes: usize) -> Self {
        Self { out: vec![Vec::new(); nodes] }
    }

    pub(super) fn add(&mut self, from: usize, to: usize, label: usize) {
        self.out[from].push((to, label));
    }

    /// The strongly connected components of more than one node, by Tarjan's method without its
    /// recursion: histories are long.
    pub(super) fn components(&self) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let nodes = self.out.len();
        let mut index = vec![NEW; nodes];
        let mut low = vec![0; nodes];
        let mut on_stack = vec![false; nodes];
        let (mut stack, mut path, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = 0;
        for root in 0..nodes {
            if index[root] != NEW {
                continue;
            }
            path.push((root, 0));
            while let Some((node, edge)) = path.pop() {
                if edge == 0 {
                    index[node] = next;
                    low[node] = next;
                    next += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                if let Some((to, _)) = self.out[node].get(edge) {
                    path.push((node, edge + 1));
                    if index[*to] == NEW {
                        path.push((*to, 0));
                    } else if on_stack[*to] {
                        low[node] = low[node].min(index[*to]);
                    }
                    continue;
                }
                if let Some((parent, _)) = path.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == index[node] {
                    let mut component = Vec::new();
                    while let Some(member) = stack.pop() {
                        on_stack[member] = false;
                        component.push(member);
                        if member == node {
                            break;
                        }
                    }
                    if component.len() > 1 {
                        component.sort_unstable();
                        found.push(component);
                    }
                }
            }
        }
        found
    }

    /// A shortest cycle from `start` back to it, inside of a component; as labels of edges.
    pub(super) fn cycle(&self, start: usize, component: &[usize]) -> Option<Vec<usize>> {
        let place = |node: usize| component.binary_search(&node).ok();
        let mut came: Vec<Option<(usize, usize)>> = vec![None; component.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for (to, label) in &self.out[node] {
                let Some(at) = place(*to) else { continue };
                if came[at].is_some() {
                    continue;
                }
                came[at] = Some((node, *label));
                if *to != start {
                    queue.push_back(*to);
                    continue;
                }
                let (mut labels, mut here) = (vec![*label], node);
                while here != start {
                    let (before, label) = came[place(here)?]?;
                    labels.push(label);
                    here = before;
                }
                labels.reverse();
                return Some(labels);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, edges: &[(usize, usize)]) -> Graph {
        let mut graph = Graph::new(nodes);
        edges.iter().enumerate().for_each(|(label, (from, to))| graph.add(*from, *to, label));
        graph
    }

    #[test]
    fn components_are_found_and_single_nodes_are_not() {
        let two = graph(7, &[(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (5, 6), (6, 5), (4, 5)]);
        let mut found = two.components();
        found.sort();
        assert_eq!(found, [vec![0, 1, 2], vec![5, 6]]);
        assert!(graph(4, &[(0, 1), (1, 2), (0, 2), (2, 3)]).components().is_empty());
    }

    #[test]
    fn the_cycle_told_is_the_shortest_through_its_start() {
        let graph = graph(4, &[(0, 1), (1, 2), (2, 3), (3, 0), (1, 0)]);
        assert_eq!(graph.cycle(0, &[0, 1, 2, 3]), Some(vec![0, 4]));
        assert_eq!(graph.cycle(2, &[0, 1, 2, 3]), Some(vec![2, 3, 0, 1]));
        assert_eq!(graph.cycle(2, &[1, 2, 3]), None);
    }

    /// Deep graphs do not exhaust the stack.
    #[test]
    fn a_long_chain_is_no_trouble() {
        let n = 200_000;
        let mut chain = Graph::new(n);
        (1..n).for_each(|node| chain.add(node - 1, node, node));
        assert!(chain.components().is_empty());
        chain.add(n - 1, 0, 0);
        assert_eq!(chain.components().len(), 1);
    }
}
