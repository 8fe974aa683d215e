//! What may happen to a cluster between two calls, as a value: so that a fault can let it happen
//! right before a certain call ([`Fault::Before`](crate::Fault::Before)).

use std::time::Duration;

use bytes::Bytes;

use crate::{Cluster, region::RegionId, store::StoreId};

/// Something that happens to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// [`Cluster::split`] at a transactional user key.
    Split(Bytes),
    /// [`Cluster::merge`].
    Merge {
        /// The region that goes.
        source: RegionId,
        /// The region that stays.
        target: RegionId,
    },
    /// [`Cluster::transfer_leader`].
    TransferLeader {
        /// The region.
        region: RegionId,
        /// The store whose peer is to lead.
        store: StoreId,
    },
    /// [`Cluster::stop_store`], and then [`Cluster::elect_leaders`].
    StopStore(StoreId),
    /// [`Cluster::raise_max_ts`].
    RaiseMaxTs {
        /// The store that reads.
        store: StoreId,
        /// Where.
        ts: u64,
    },
    /// [`Cluster::hold_max_ts`].
    HoldMaxTs(RegionId),
    /// [`Cluster::expire`].
    Expire {
        /// The transaction.
        start_ts: u64,
    },
    /// [`Cluster::advance`].
    Advance(Duration),
}

impl Cluster {
    /// Lets it happen now. What makes no sense does nothing.
    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Split(key) => {
                self.split(key);
            }
            Event::Merge { source, target } => {
                self.merge(source, target);
            }
            Event::TransferLeader { region, store } => {
                self.transfer_leader(region, store);
            }
            Event::StopStore(store) => {
                self.stop_store(store);
                self.elect_leaders();
            }
            Event::RaiseMaxTs { store, ts } => self.raise_max_ts(store, ts),
            Event::HoldMaxTs(region) => self.hold_max_ts(region),
            Event::Expire { start_ts } => {
                self.expire(start_ts);
            }
            Event::Advance(by) => self.advance(by),
        }
    }
}
