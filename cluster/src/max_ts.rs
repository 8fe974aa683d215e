//! The largest timestamp that a store has read at, and whether a region's leader knows it.
//!
//! A store that computes a commit timestamp sets it above everything that was read before
//! (transactions.md §20.3). What it read itself it knows; what another store read of a region that
//! it leads only now it does not, so it asks PD for a timestamp: nobody has read above that.
//!
//! ```text
//!            new leader, merge, part of a split
//!  synced ────────────────────────────────────► not synced: async commits and one-phase commits
//!    ▲                                              │         get MaxTimestampNotSynced
//!    └──────────────────────────────────────────────┘
//!       the time of ClusterConfig::max_ts_sync is over, and the store knows PD's last timestamp
//! ```

use crate::{
    Cluster,
    region::{MaxTs, RegionId},
    store::StoreId,
};

impl Cluster {
    /// Raises the largest timestamp that a store has read at, as a read at `ts` does; `u64::MAX`
    /// does not count. It never gets smaller.
    pub fn raise_max_ts(&mut self, store: StoreId, ts: u64) {
        if let Some(store) = self.stores.get_mut(&store) {
            store.read_at(ts);
        }
    }

    /// Lets the leader of a region forget up to where the region may have been read, until
    /// [`Cluster::sync_max_ts`], or until something else makes it ask PD again.
    pub fn hold_max_ts(&mut self, region: RegionId) {
        if let Some(region) = self.regions.get_mut(region) {
            region.max_ts = MaxTs::Held;
        }
    }

    /// Lets the leader of a region learn up to where the region may have been read.
    pub fn sync_max_ts(&mut self, region: RegionId) {
        let last = self.oracle.last();
        let Some(region) = self.regions.get_mut(region) else { return };
        region.max_ts = MaxTs::Synced;
        if let Some(leader) = region.leader {
            self.raise_max_ts(leader, last);
        }
    }

    /// The leader does not know what was read before, and asks PD.
    pub(crate) fn lose_max_ts(&mut self, region: RegionId) {
        let needs = u64::try_from(self.config.max_ts_sync.as_millis()).unwrap_or(u64::MAX);
        if needs == 0 {
            return self.sync_max_ts(region);
        }
        let from = self.now_ms().saturating_add(needs);
        if let Some(region) = self.regions.get_mut(region) {
            region.max_ts = MaxTs::From(from);
        }
    }

    /// Whether the region's leader knows. PD's answer is taken note of when it is looked for: that
    /// is late, and never too late, because a timestamp of PD only grows.
    pub(crate) fn has_synced_max_ts(&mut self, region: RegionId) -> bool {
        match self.regions.get(region).map(|region| region.max_ts) {
            None | Some(MaxTs::Synced) => true,
            Some(MaxTs::From(from)) if from <= self.now_ms() => {
                self.sync_max_ts(region);
                true
            }
            Some(MaxTs::From(_) | MaxTs::Held) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anatase_proto::kvrpcpb::{Mutation, PrewriteRequest};

    use super::*;
    use crate::{ClusterConfig, Event, testing::key};

    /// Whether a prewrite of `name` that asks for these is refused, and its timestamp if not.
    fn refused(cluster: &mut Cluster, name: &str, ways: (bool, bool)) -> Option<(u64, u64)> {
        let start_version = cluster.timestamp();
        let response = cluster.ask(name, |context| PrewriteRequest {
            context,
            mutations: vec![Mutation { key: key(name), ..Default::default() }],
            primary_lock: key(name),
            start_version,
            use_async_commit: ways.0,
            try_one_pc: ways.1,
            ..Default::default()
        });
        cluster.roll_back(start_version, &[name]);
        match response.region_error {
            Some(error) => {
                assert!(error.max_timestamp_not_synced.is_some());
                None
            }
            None => {
                assert_eq!(response.errors, []);
                Some((response.min_commit_ts, response.one_pc_commit_ts))
            }
        }
    }

    /// transactions.md §20.3: "Leader with unsynced max_ts (new leader, merge)".
    #[test]
    fn a_leader_that_does_not_know_refuses_only_what_needs_it() {
        let mut cluster = ClusterConfig::default().stores(1).build();
        let region = cluster.region_of(b"k").unwrap().id;
        cluster.hold_max_ts(region);
        for (ways, fails) in [
            ((false, false), false),
            ((true, false), true),
            ((false, true), true),
            ((true, true), true),
        ] {
            assert_eq!(refused(&mut cluster, "k", ways).is_none(), fails, "{ways:?}");
        }
        assert_eq!(cluster.locks(), []);
        assert_eq!(cluster.read("k", 5), Ok(None), "it reads");
        cluster.advance(Duration::from_secs(3600));
        assert!(refused(&mut cluster, "k", (true, false)).is_none(), "until it is told");
        cluster.sync_max_ts(region);
        let last = cluster.last_timestamp();
        assert!(refused(&mut cluster, "k", (true, false)).unwrap().0 > last);
    }

    /// §22.23: leader change, split and merge, and a restart.
    #[test]
    fn it_is_lost_with_the_leader_by_a_merge_and_for_the_new_part_of_a_split() {
        let needs = Duration::from_millis(20);
        let new = || ClusterConfig::default().split_keys(["m"]).max_ts_sync(needs).build();
        let ids = |cluster: &Cluster| {
            ["a", "z"].map(|name| cluster.region_of(name.as_bytes()).unwrap().id)
        };
        let transfer = |cluster: &mut Cluster| {
            let [left, _] = ids(cluster);
            assert!(cluster.transfer_leader(left, 3));
        };
        let merge = |cluster: &mut Cluster| {
            let [left, right] = ids(cluster);
            assert!(cluster.merge(right, left));
        };
        let split = |cluster: &mut Cluster| {
            cluster.split("f").unwrap();
        };
        let restart = |cluster: &mut Cluster| {
            let [left, _] = ids(cluster);
            let store = cluster.leader_of(left).unwrap();
            cluster.stop_store(store);
            cluster.start_store(store);
        };
        let nothing = |_: &mut Cluster| {};
        // What happens; whether "a", "g" and "z" can be committed before the time is over.
        type Happens<'a> = &'a dyn Fn(&mut Cluster);
        let rows: [(&str, Happens<'_>, [bool; 3]); 5] = [
            ("nothing", &nothing, [true, true, true]),
            ("transfer", &transfer, [false, false, true]),
            ("merge", &merge, [false, false, false]),
            ("split", &split, [false, true, true]),
            ("restart", &restart, [false, false, true]),
        ];
        for (name, happens, expected) in rows {
            let mut cluster = new();
            cluster.advance(needs);
            // The config's own split elected leaders as well.
            for region in ids(&cluster) {
                assert!(cluster.has_synced_max_ts(region), "{name}");
            }
            happens(&mut cluster);
            let can = |cluster: &mut Cluster| {
                ["a", "g", "z"].map(|at| refused(cluster, at, (true, false)).is_some())
            };
            assert_eq!(can(&mut cluster), expected, "{name}");
            cluster.advance(needs - Duration::from_millis(1));
            assert_eq!(can(&mut cluster), expected, "{name}, a moment before");
            cluster.advance(Duration::from_millis(1));
            assert_eq!(can(&mut cluster), [true; 3], "{name}");
        }
    }

    #[test]
    fn who_learns_late_learns_of_all_reads_meanwhile() {
        let needs = Duration::from_millis(20);
        let mut cluster = ClusterConfig::default().max_ts_sync(needs).build();
        let region = cluster.region_of(b"k").unwrap().id;
        let read = cluster.timestamp();
        cluster.read("k", read).unwrap();
        cluster.happen(Event::TransferLeader { region, store: 2 });
        assert_eq!(cluster.store(2).unwrap().max_ts, 0);
        cluster.advance(needs);
        let start_ts = read - 1;
        let response = cluster.prewritten(start_ts, &[(Default::default(), "k", "v")], |request| {
            request.try_one_pc = true;
        });
        assert!(response.one_pc_commit_ts > read);
    }
}
