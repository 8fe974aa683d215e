//! The cluster: what it owns, its time, and what a test may look at.

use std::{collections::BTreeMap, time::Duration};

use anatase_proto::rpc::Rpc;
use bytes::Bytes;

use crate::{
    config::ClusterConfig,
    faults::Faults,
    lock_wait::LockWait,
    mvcc::Mvcc,
    pd::Pd,
    raw::{Coprocessor, Raw},
    region::{MaxTs, Peer, PeerId, Region, RegionId, Regions, Role},
    store::{Store, StoreId},
    timestamp::Oracle,
};

/// TiKV and PD, as a value.
///
/// It owns all of its state and nothing else: no socket, thread, clock or source of chance. Time
/// is what the owner says it is ([`Cluster::set_now_ms`], [`Cluster::advance`]); whatever is asked
/// of it is done at once, in the order asked, and the same questions get the same answers. Only a
/// request for a lock may be parked, with those who can wait ([`Cluster::handle_or_park`]). A clone is
/// another cluster.
///
/// There is one copy of the data, not one a replica: writes are atomic and replicas never lag.
/// What a client can tell of replication is modelled by the checks in front of the data: leaders,
/// epochs, peers, quorum.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) config: ClusterConfig,
    pub(crate) now: Duration,
    pub(crate) oracle: Oracle,
    pub(crate) stores: BTreeMap<StoreId, Store>,
    pub(crate) regions: Regions,
    pub(crate) raw: Raw,
    pub(crate) coprocessor: Option<Coprocessor>,
    pub(crate) mvcc: Mvcc,
    pub(crate) lock_wait: LockWait,
    pub(crate) pd: Pd,
    pub(crate) faults: Faults,
    pub(crate) last_id: u64,
}

impl Cluster {
    /// A cluster of this shape. Region leaders are dealt round the stores.
    pub fn new(config: ClusterConfig) -> Self {
        let now = Duration::from_millis(config.now_ms);
        let stores: BTreeMap<_, _> =
            (1..=config.stores as StoreId).map(|id| (id, Store::new(id, config.now_ms))).collect();
        let replicas = config.replicas.min(stores.len());
        let mut last_id = stores.len() as u64;
        let mut id = || {
            last_id += 1;
            last_id
        };
        let first = Region {
            id: id(),
            start: Bytes::new(),
            end: Bytes::new(),
            conf_ver: 1,
            version: 1,
            peers: stores
                .keys()
                .take(replicas)
                .map(|&store| Peer { id: id(), store, role: Role::Voter })
                .collect(),
            leader: stores.keys().next().copied(),
            term: 6,
            max_ts: MaxTs::Synced,
        };
        let mut cluster = Cluster {
            pd: Pd::new(config.pd_members, config.keyspaces.clone()),
            now,
            oracle: Oracle::new(),
            stores,
            regions: Regions::whole(first),
            raw: Raw::default(),
            coprocessor: None,
            mvcc: Mvcc::default(),
            lock_wait: LockWait::default(),
            faults: Faults::default(),
            last_id,
            config,
        };
        for key in cluster.config.split_keys.clone() {
            cluster.split_at(key);
        }
        if cluster.config.split_at_keyspaces {
            cluster.split_at_keyspaces();
        }
        cluster.deal_leaders();
        cluster
    }

    /// A number that no region, peer or store has.
    pub(crate) fn take_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn deal_leaders(&mut self) {
        let ids: Vec<RegionId> = self.regions.iter().map(|region| region.id).collect();
        for (turn, id) in ids.into_iter().enumerate() {
            if let Some(region) = self.regions.get_mut(id)
                && let Some(peer) = region.peers.get(turn % region.peers.len().max(1))
            {
                region.leader = Some(peer.store);
            }
        }
    }

    /// The id that requests must carry.
    pub fn cluster_id(&self) -> u64 {
        self.config.cluster_id
    }

    /// The time, in milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)
    }

    /// Sets the time. It may go back: timestamps increase nevertheless.
    pub fn set_now_ms(&mut self, now_ms: u64) {
        self.now = Duration::from_millis(now_ms);
        self.wake_due();
    }

    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.saturating_add(by);
        self.wake_due();
    }

    /// Takes `count` timestamps from the oracle, as PD's `Tso` does; returns the last, and so the
    /// largest, of them. At least one and at most 2^18 are taken.
    pub fn timestamps(&mut self, count: u32) -> u64 {
        let now_ms = self.now_ms();
        self.oracle.take(now_ms, count)
    }

    /// Takes one timestamp.
    pub fn timestamp(&mut self) -> u64 {
        self.timestamps(1)
    }

    /// The last timestamp given out, 0 before the first.
    pub fn last_timestamp(&self) -> u64 {
        self.oracle.last()
    }

    /// The faults asked for.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// How many calls of this kind have reached a store or member of PD that was up, whatever became
    /// of them. Messages of a stream count each: a command in `BatchCommands` as the call it stands
    /// for, a request for timestamps as `PdTso`.
    pub fn calls(&self, rpc: Rpc) -> u64 {
        self.faults.seen(rpc)
    }

    /// The regions, in key order.
    pub fn regions(&self) -> impl DoubleEndedIterator<Item = &Region> {
        self.regions.iter()
    }

    /// A region.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.get(id)
    }

    /// The region of a transactional user key.
    pub fn region_of(&self, key: &[u8]) -> Option<&Region> {
        self.regions.locate(&crate::codec::encode_key(key))
    }

    /// The region of a raw key of API V1, or of any physical key.
    pub fn region_of_raw(&self, key: &[u8]) -> Option<&Region> {
        self.regions.locate(key)
    }

    /// The store whose peer leads the region.
    pub fn leader_of(&self, region: RegionId) -> Option<StoreId> {
        self.regions.get(region)?.leader
    }

    /// The peer of the region on that store.
    pub fn peer_on(&self, region: RegionId, store: StoreId) -> Option<PeerId> {
        self.regions.get(region)?.peer_on(store).map(|peer| peer.id)
    }

    /// The stores, in order of id.
    pub fn stores(&self) -> impl Iterator<Item = &Store> {
        self.stores.values()
    }

    /// A store.
    pub fn store(&self, id: StoreId) -> Option<&Store> {
        self.stores.get(&id)
    }

    /// The store that PD says is at this address.
    pub fn store_at(&self, address: &str) -> Option<StoreId> {
        self.stores.values().find(|store| store.address == address).map(|store| store.id)
    }
}
