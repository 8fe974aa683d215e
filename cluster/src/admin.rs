//! What an operator, a scheduler or an accident does to a cluster: splits, merges, leaders, peers,
//! stores.
//!
//! Every change moves the epoch as TiKV's does: a split adds the number of new regions to
//! `version`, a merge takes one more than the larger of both, a change of peers adds one to
//! `conf_ver`. A change that makes no sense (a split at a bound, a leader where there is no peer)
//! does nothing, and says so by what it returns.

use bytes::Bytes;

use crate::{
    Cluster,
    codec::encode_key,
    region::{Peer, Region, RegionId, Role},
    store::{Disk, Store, StoreId, StoreState},
};

impl Cluster {
    /// Splits at a transactional user key: the bound is its memcomparable form. Returns the region
    /// that is new, `None` if there is a bound already.
    pub fn split(&mut self, key: impl AsRef<[u8]>) -> Option<RegionId> {
        self.split_at(encode_key(key.as_ref()))
    }

    /// Splits at these bytes as they are.
    pub fn split_raw(&mut self, key: impl AsRef<[u8]>) -> Option<RegionId> {
        self.split_at(Bytes::copy_from_slice(key.as_ref()))
    }

    pub(crate) fn split_at(&mut self, key: Bytes) -> Option<RegionId> {
        let region = self.regions.locate(&key)?.id;
        let parts = self.split_region(region, vec![key]);
        parts.into_iter().find(|id| *id != region)
    }

    /// Splits a region at those of the physical keys that are within it and not its start, all in
    /// one step; returns the parts in key order, or nothing if no key is fit. The part that keeps
    /// the id is the last, or the first if the cluster is so configured.
    pub(crate) fn split_region(&mut self, id: RegionId, mut keys: Vec<Bytes>) -> Vec<RegionId> {
        let Some(region) = self.regions.get(id).cloned() else { return Vec::new() };
        keys.sort();
        keys.dedup();
        keys.retain(|key| region.contains(key) && *key != region.start);
        if keys.is_empty() {
            return Vec::new();
        }
        let version = region.version + keys.len() as u64;
        let mut bounds = vec![region.start.clone()];
        bounds.append(&mut keys);
        bounds.push(region.end.clone());
        let parts = bounds.len() - 1;
        let derived = if self.config.right_derive { parts - 1 } else { 0 };
        let made: Vec<Region> = bounds
            .windows(2)
            .enumerate()
            .map(|(part, bounds)| {
                let mut made = Region { version, ..region.clone() };
                made.start = bounds[0].clone();
                made.end = bounds[1].clone();
                if part != derived {
                    made.id = self.take_id();
                    made.term = 6;
                    for peer in &mut made.peers {
                        peer.id = self.take_id();
                    }
                }
                made
            })
            .collect();
        let ids: Vec<RegionId> = made.iter().map(|region| region.id).collect();
        self.regions.replace(&[id], made);
        // The parts that are new elect their leaders.
        for part in ids.iter().filter(|part| **part != id) {
            self.lose_max_ts(*part);
        }
        self.settle_waits();
        ids
    }

    /// Merges a region into a neighbour, which then has the bounds of both. False if they do not
    /// touch, or not on the same stores.
    pub fn merge(&mut self, source: RegionId, target: RegionId) -> bool {
        let (Some(from), Some(into)) = (self.regions.get(source), self.regions.get(target)) else {
            return false;
        };
        let stores = |region: &Region| {
            let mut stores: Vec<_> = region.peers.iter().map(|peer| peer.store).collect();
            stores.sort_unstable();
            stores
        };
        let (left, right) = if from.start < into.start { (from, into) } else { (into, from) };
        if source == target || left.end != right.start || stores(from) != stores(into) {
            return false;
        }
        let mut merged = into.clone();
        merged.start = left.start.clone();
        merged.end = right.end.clone();
        // Preparing the merge adds one to the source's version, committing it one to the larger.
        merged.version = (from.version + 1).max(into.version) + 1;
        self.regions.replace(&[source, target], vec![merged]);
        // The source may have been read at another store.
        self.lose_max_ts(target);
        self.settle_waits();
        true
    }

    /// Makes the peer on `store` the leader. False if there is none that may lead.
    ///
    /// The new leader has to learn up to where the region may have been read before it takes async
    /// commits ([`ClusterConfig::max_ts_sync`](crate::ClusterConfig::max_ts_sync)).
    pub fn transfer_leader(&mut self, region: RegionId, store: StoreId) -> bool {
        let id = region;
        let Some(region) = self.regions.get_mut(region) else { return false };
        let may = region.peer_on(store).is_some_and(|peer| peer.role == Role::Voter);
        if may && region.leader != Some(store) {
            region.leader = Some(store);
            region.term += 1;
            self.lose_max_ts(id);
            self.settle_waits();
        }
        may
    }

    /// Leaves the region without a leader until one is made by [`Cluster::transfer_leader`] or
    /// [`Cluster::elect_leaders`].
    pub fn remove_leader(&mut self, region: RegionId) {
        if let Some(region) = self.regions.get_mut(region) {
            region.leader = None;
        }
        self.settle_waits();
    }

    /// Lets every region without a running leader, and with a quorum, elect one: the first voter
    /// that is up.
    pub fn elect_leaders(&mut self) {
        let elected: Vec<(RegionId, StoreId)> = self
            .regions
            .iter()
            .filter(|region| region.leader.is_none_or(|leader| !self.is_up(leader)))
            .filter(|region| self.has_quorum(region))
            .filter_map(|region| {
                let heir = region
                    .peers
                    .iter()
                    .find(|peer| peer.role == Role::Voter && self.is_up(peer.store))?;
                Some((region.id, heir.store))
            })
            .collect();
        for (region, store) in elected {
            self.transfer_leader(region, store);
        }
    }

    /// Adds a peer on `store`. False if there is one, or no such store.
    pub fn add_peer(&mut self, region: RegionId, store: StoreId, role: Role) -> bool {
        if !self.stores.contains_key(&store) {
            return false;
        }
        let id = self.take_id();
        let Some(region) = self.regions.get_mut(region) else { return false };
        if region.peer_on(store).is_some() {
            return false;
        }
        region.peers.push(Peer { id, store, role });
        region.conf_ver += 1;
        true
    }

    /// Removes the peer on `store`; if it led, the region has no leader. False if there is none.
    pub fn remove_peer(&mut self, region: RegionId, store: StoreId) -> bool {
        let Some(region) = self.regions.get_mut(region) else { return false };
        if region.peer_on(store).is_none() {
            return false;
        }
        region.peers.retain(|peer| peer.store != store);
        region.conf_ver += 1;
        if region.leader == Some(store) {
            region.leader = None;
        }
        self.settle_waits();
        true
    }

    /// Moves a peer from one store to another, and leadership with it. False if it cannot be.
    pub fn move_peer(&mut self, region: RegionId, from: StoreId, to: StoreId) -> bool {
        let Some(found) = self.regions.get(region) else { return false };
        let Some(old) = found.peer_on(from) else { return false };
        let led = found.leader == Some(from);
        if !self.add_peer(region, to, old.role) {
            return false;
        }
        if led {
            self.transfer_leader(region, to);
        }
        self.remove_peer(region, from)
    }

    /// Adds a store, without regions. Its address is made up until it is set.
    pub fn add_store(&mut self) -> StoreId {
        let id = self.take_id();
        self.stores.insert(id, Store::new(id, self.now_ms()));
        id
    }

    /// Stops a store's process: connections are refused, and regions that it led have no running
    /// leader until [`Cluster::elect_leaders`].
    pub fn stop_store(&mut self, store: StoreId) {
        self.set_state(store, StoreState::Stopped);
    }

    /// Starts a stopped store again. What it had in memory is gone: the largest timestamp it read
    /// at is the oracle's last again, as a new leader's is.
    pub fn start_store(&mut self, store: StoreId) {
        let id = store;
        let (now_ms, last) = (self.now_ms(), self.oracle.last());
        if let Some(store) = self.stores.get_mut(&store)
            && store.state == StoreState::Stopped
        {
            store.state = StoreState::Up;
            store.start_ms = now_ms;
            store.feedback_seq = now_ms;
            store.max_ts = last;
            let led: Vec<RegionId> = self
                .regions
                .iter()
                .filter(|region| region.leader == Some(id))
                .map(|region| region.id)
                .collect();
            for region in led {
                self.lose_max_ts(region);
            }
        }
    }

    /// Removes a store for good; PD calls it a tombstone. Regions keep the peers they had on it.
    pub fn bury_store(&mut self, store: StoreId) {
        self.set_state(store, StoreState::Tombstone);
    }

    fn set_state(&mut self, store: StoreId, state: StoreState) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.state = state;
        }
        self.settle_waits();
    }

    /// Gives a store another address (`host:port`).
    pub fn set_store_address(&mut self, store: StoreId, address: impl Into<String>) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.address = address.into();
        }
    }

    /// Gives a store labels, in place of those it had.
    pub fn set_store_labels(&mut self, store: StoreId, labels: &[(&str, &str)]) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.labels =
                labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        }
    }

    /// Fills or empties a store's disk.
    pub fn set_disk(&mut self, store: StoreId, disk: Disk) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.disk = disk;
        }
    }

    /// What a store says of its own health: 1 is best, 100 worst.
    pub fn set_slow_score(&mut self, store: StoreId, score: i32) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.slow_score = score.clamp(1, 100);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterConfig;

    fn bounds(cluster: &Cluster) -> Vec<(RegionId, String, u64)> {
        cluster
            .regions()
            .map(|region| {
                (region.id, String::from_utf8_lossy(&region.start).into_owned(), region.version)
            })
            .collect()
    }

    #[test]
    fn the_right_part_of_a_split_keeps_the_id() {
        let mut cluster = ClusterConfig::default().build();
        let first = cluster.region_of_raw(b"").unwrap().id;
        let new = cluster.split_raw("m").unwrap();
        assert_eq!(bounds(&cluster), [(new, "".into(), 2), (first, "m".into(), 2)]);
        assert_eq!(cluster.split_raw("m"), None, "there is a bound already");
        let mut cluster = ClusterConfig::default().right_derive(false).build();
        let new = cluster.split_raw("m").unwrap();
        assert_eq!(bounds(&cluster), [(first, "".into(), 2), (new, "m".into(), 2)]);
    }

    #[test]
    fn a_split_in_many_adds_as_many_to_the_version_and_gives_new_peers() {
        let mut cluster = ClusterConfig::default().build();
        let first = cluster.region_of_raw(b"").unwrap().clone();
        let keys = ["p", "f", "", "f"].map(|key| Bytes::from_static(key.as_bytes()));
        let parts = cluster.split_region(first.id, keys.to_vec());
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[2], first.id);
        let peers: std::collections::BTreeSet<_> =
            cluster.regions().flat_map(|region| region.peers.iter().map(|peer| peer.id)).collect();
        assert_eq!(peers.len(), 9);
        assert!(cluster.regions().all(|region| region.version == 3 && region.conf_ver == 1));
    }

    #[test]
    fn a_merge_takes_a_version_above_both() {
        let mut cluster = ClusterConfig::default().split_keys_raw(["f", "p"]).build();
        let ids: Vec<_> = cluster.regions().map(|region| region.id).collect();
        assert!(!cluster.merge(ids[0], ids[2]), "not neighbours");
        let before = cluster.region(ids[1]).unwrap().version;
        assert!(cluster.merge(ids[0], ids[1]));
        let merged = cluster.region(ids[1]).unwrap();
        assert_eq!((&merged.start[..], &merged.end[..]), (&b""[..], &b"p"[..]));
        assert!(merged.version > before);
        assert!(cluster.region(ids[0]).is_none());
        assert_eq!(cluster.region_of_raw(b"a").unwrap().id, ids[1]);
    }

    #[test]
    fn leaders_move_with_their_stores() {
        let mut cluster = ClusterConfig::default().stores(4).build();
        let region = cluster.region_of_raw(b"").unwrap().id;
        assert!(!cluster.transfer_leader(region, 4), "no peer there");
        assert!(cluster.move_peer(region, 1, 4));
        assert_eq!(cluster.leader_of(region), Some(4));
        assert_eq!(cluster.region(region).unwrap().conf_ver, 3);
        cluster.stop_store(4);
        cluster.elect_leaders();
        assert_eq!(cluster.leader_of(region), Some(2));
        cluster.stop_store(2);
        cluster.elect_leaders();
        assert_eq!(cluster.leader_of(region), Some(2), "no quorum, no election");
    }
}
