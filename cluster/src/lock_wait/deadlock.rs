//! Who waits for whom, and whether that goes round in a circle.
//!
//! TiKV keeps one graph for the whole cluster, on one of its stores. An edge leads from a
//! transaction to the holder of the lock that it waits for; a request that would close a circle is
//! refused, so there never is one. Here the graph is read off the requests that are parked.

use std::collections::BTreeMap;

use anatase_proto::deadlock::WaitForEntry;

use crate::mvcc::Deadlock;

/// The hash by which a deadlock names a user key: as TiKV computes it, farmhash's fingerprint.
pub(super) fn hash(user_key: &[u8]) -> u64 {
    farmhash::fingerprint64(user_key)
}

/// Whether the edge `new` would close a circle with `edges`.
///
/// Where two transactions wait for each other's locks on several keys, the first edge speaks for
/// all, as in TiKV; and one that is there already closes no circle that the first did not.
pub(super) fn detect(
    edges: impl Iterator<Item = WaitForEntry>,
    new: &WaitForEntry,
) -> Option<Deadlock> {
    let mut graph: BTreeMap<u64, BTreeMap<u64, WaitForEntry>> = BTreeMap::new();
    for edge in edges {
        graph.entry(edge.txn).or_default().entry(edge.wait_for_txn).or_insert(edge);
    }
    if graph.get(&new.txn).is_some_and(|holders| holders.contains_key(&new.wait_for_txn)) {
        return None;
    }
    // Each transaction that was reached, and the edge that led there.
    let mut reached: BTreeMap<u64, Option<&WaitForEntry>> =
        BTreeMap::from([(new.wait_for_txn, None)]);
    let mut stack = vec![new.wait_for_txn];
    while let Some(txn) = stack.pop() {
        for (holder, edge) in graph.get(&txn).into_iter().flatten() {
            if *holder == new.txn {
                let mut chain = vec![new.clone(), edge.clone()];
                let mut at = txn;
                while let Some(Some(before)) = reached.get(&at) {
                    chain.push((*before).clone());
                    at = before.txn;
                }
                chain.reverse();
                return Some(Deadlock {
                    lock_ts: new.wait_for_txn,
                    lock_key: new.key.clone(),
                    key_hash: edge.key_hash,
                    chain,
                });
            }
            if !reached.contains_key(holder) {
                reached.insert(*holder, Some(edge));
                stack.push(*holder);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    fn edge(txn: u64, wait_for_txn: u64, name: &str) -> WaitForEntry {
        let key = key(name);
        let key_hash = hash(&key);
        WaitForEntry { txn, wait_for_txn, key_hash, key, ..WaitForEntry::default() }
    }

    fn found(edges: &[(u64, u64, &str)], new: (u64, u64, &str)) -> Option<Deadlock> {
        let edges = edges.iter().map(|(txn, holder, name)| edge(*txn, *holder, name));
        detect(edges, &edge(new.0, new.1, new.2))
    }

    /// cases.md MOC-16, LCK-12.
    #[test]
    fn a_circle_is_told_from_the_holder_round_to_the_request() {
        let others = [(2, 3, "c"), (3, 4, "d"), (4, 1, "a"), (2, 9, "x"), (9, 8, "y")];
        let deadlock = found(&others, (1, 2, "b")).unwrap();
        let chain: Vec<_> = deadlock
            .chain
            .iter()
            .map(|edge| (edge.txn, edge.wait_for_txn, &edge.key[..]))
            .collect();
        let expected: [(u64, u64, &[u8]); 4] =
            [(2, 3, b"c"), (3, 4, b"d"), (4, 1, b"a"), (1, 2, b"b")];
        assert_eq!(chain, expected);
        assert_eq!((deadlock.lock_ts, &deadlock.lock_key[..]), (2, &b"b"[..]));
        assert_eq!(
            deadlock.key_hash,
            hash(b"a"),
            "where the request's own transaction is waited for"
        );
    }

    #[test]
    fn what_is_no_circle() {
        assert_eq!(found(&[], (1, 2, "b")), None);
        assert_eq!(found(&[(2, 3, "c"), (3, 4, "d")], (1, 2, "b")), None);
        assert_eq!(found(&[(1, 2, "a"), (3, 1, "d")], (1, 2, "b")), None, "an edge of old");
        assert!(found(&[(2, 1, "a")], (1, 2, "b")).is_some());
        assert!(found(&[(2, 3, "a"), (3, 2, "a")], (1, 2, "b")).is_none(), "a circle of others");
    }

    /// transactions.md §13.6. The numbers are farmhash's own.
    #[test]
    fn keys_are_hashed_as_they_are() {
        assert_eq!(hash(b""), 0x9ae1_6a3b_2f90_404f);
        assert_ne!(hash(b"a"), hash(&crate::codec::encode_key(b"a")));
    }
}
