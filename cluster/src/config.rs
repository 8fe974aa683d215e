//! The shape of a new cluster.

use std::time::Duration;

use bytes::Bytes;

use crate::{Cluster, codec::encode_key, pd::Keyspace};

/// Which API the stores serve: TiKV's `storage.api-version` and `storage.enable-ttl`
/// (raw.md §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Api {
    /// Version 1 without TTL: raw and transactional requests.
    #[default]
    V1,
    /// Version 1 with TTL: raw requests only.
    V1Ttl,
    /// Version 2: raw keys begin with `r`, transactional keys with `x`, and then with the number of
    /// their keyspace. Raw keys are memcomparable, too, and have TTLs.
    V2,
}

/// The shape of a new cluster, as a builder.
///
/// ```
/// use anatase_cluster::ClusterConfig;
///
/// let cluster = ClusterConfig::default().stores(3).split_keys(["a", "m", "z"]).build();
/// assert_eq!(cluster.regions().count(), 4);
/// ```
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub(crate) cluster_id: u64,
    pub(crate) stores: usize,
    pub(crate) replicas: usize,
    pub(crate) pd_members: usize,
    pub(crate) api: Api,
    pub(crate) split_keys: Vec<Bytes>,
    pub(crate) now_ms: u64,
    pub(crate) max_key_size: usize,
    pub(crate) max_entry_size: usize,
    pub(crate) right_derive: bool,
    pub(crate) keyspaces: Vec<Keyspace>,
    pub(crate) split_at_keyspaces: bool,
    pub(crate) max_ts_sync: Duration,
    pub(crate) wait_for_lock_timeout: Duration,
    pub(crate) wake_up_delay: Duration,
}

impl Default for ClusterConfig {
    /// Three stores, one PD member, one region with a replica on each store, API V1, and TiKV's
    /// limits.
    fn default() -> Self {
        ClusterConfig {
            cluster_id: 7_000_000_001,
            stores: 3,
            replicas: 3,
            pd_members: 1,
            api: Api::V1,
            split_keys: Vec::new(),
            now_ms: 1_700_000_000_000,
            max_key_size: 8 << 10,
            max_entry_size: 8 << 20,
            right_derive: true,
            keyspaces: Vec::new(),
            split_at_keyspaces: false,
            max_ts_sync: Duration::ZERO,
            wait_for_lock_timeout: Duration::from_secs(1),
            wake_up_delay: Duration::from_millis(20),
        }
    }
}

impl ClusterConfig {
    /// The id that PD tells clients and that requests must carry (wire.md §1, §7.2).
    pub fn cluster_id(mut self, id: u64) -> Self {
        self.cluster_id = id;
        self
    }

    /// How many stores; at least one. Their ids are the first numbers from 1.
    pub fn stores(mut self, stores: usize) -> Self {
        self.stores = stores.max(1);
        self
    }

    /// How many replicas a region has; no more than there are stores.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas.max(1);
        self
    }

    /// How many PD members; at least one. Member 0 leads first.
    pub fn pd_members(mut self, members: usize) -> Self {
        self.pd_members = members.max(1);
        self
    }

    /// Which API the stores serve.
    pub fn api(mut self, api: Api) -> Self {
        self.api = api;
        self
    }

    /// Splits the key space at these user keys, in their memcomparable form, as TiKV splits for
    /// transactions. A raw client sees bounds that are mere bytes, so both kinds of client work on
    /// such a cluster.
    pub fn split_keys<K: AsRef<[u8]>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.split_keys.extend(keys.into_iter().map(|key| encode_key(key.as_ref())));
        self
    }

    /// Splits the key space at these bytes as they are, as TiKV splits for raw keys of API V1.
    pub fn split_keys_raw<K: AsRef<[u8]>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.split_keys.extend(keys.into_iter().map(|key| Bytes::copy_from_slice(key.as_ref())));
        self
    }

    /// The time at which the cluster starts, in milliseconds since the Unix epoch.
    pub fn now_ms(mut self, now_ms: u64) -> Self {
        self.now_ms = now_ms;
        self
    }

    /// TiKV's `storage.max-key-size`, in bytes.
    pub fn max_key_size(mut self, bytes: usize) -> Self {
        self.max_key_size = bytes;
        self
    }

    /// TiKV's `raftstore.raft-entry-max-size`, in bytes: what one request may write.
    pub fn max_entry_size(mut self, bytes: usize) -> Self {
        self.max_entry_size = bytes;
        self
    }

    /// TiKV's `raftstore.right-derive-when-split`, true by default: after a split the right part
    /// keeps the region's id and the left part is the new region.
    pub fn right_derive(mut self, right_derive: bool) -> Self {
        self.right_derive = right_derive;
        self
    }

    /// Keyspaces that PD knows besides `DEFAULT`, which is always there and has the number 0.
    pub fn keyspaces(mut self, keyspaces: impl IntoIterator<Item = Keyspace>) -> Self {
        self.keyspaces.extend(keyspaces);
        self
    }

    /// Whether regions end where keyspaces do, for raw and for transactional keys, as PD sees to in the
    /// end. False by default: then a region may hold keys of several keyspaces (raw.md §6.4).
    pub fn split_at_keyspaces(mut self, split: bool) -> Self {
        self.split_at_keyspaces = split;
        self
    }

    /// How long a region that has a new leader, was merged, or was split off another needs to learn
    /// from PD up to where it may have been read; until then it refuses async commits and one-phase
    /// commits with `MaxTimestampNotSynced` (transactions.md §20.3). Whole milliseconds; zero, the
    /// default, is no time at all.
    pub fn max_ts_sync(mut self, needs: Duration) -> Self {
        self.max_ts_sync = needs;
        self
    }

    /// TiKV's `pessimistic-txn.wait-for-lock-timeout`, one second by default: a lock request is
    /// parked no longer, whatever it asks for. Counts in milliseconds.
    pub fn wait_for_lock_timeout(mut self, timeout: Duration) -> Self {
        self.wait_for_lock_timeout = timeout;
        self
    }

    /// TiKV's `pessimistic-txn.wake-up-delay-duration`, 20 ms by default: so long after one request
    /// was woken the others that waited beside it are, too. Counts in milliseconds.
    pub fn wake_up_delay(mut self, delay: Duration) -> Self {
        self.wake_up_delay = delay;
        self
    }

    /// The cluster.
    pub fn build(self) -> Cluster {
        Cluster::new(self)
    }
}
