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
