//! Stores: where they are, whether they are up, and what each remembers by itself.

use anatase_proto::metapb;

/// The id of a store.
pub type StoreId = u64;

/// Whether a store answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreState {
    /// It does.
    #[default]
    Up,
    /// Its process is stopped: connections are refused. PD still lists it as up, as a real PD does
    /// until somebody removes the store.
    Stopped,
    /// It was removed for good, and PD says so.
    Tombstone,
}

/// How full a store's disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disk {
    /// There is room.
    #[default]
    Normal,
    /// Writes need `AllowedOnAlmostFull` or more.
    AlmostFull,
    /// Writes need `AllowedOnAlreadyFull`.
    Full,
}

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Store {
    /// Its id.
    pub id: StoreId,
    /// `host:port`, as PD tells clients.
    pub address: String,
    /// Whether it answers.
    pub state: StoreState,
    /// How full its disk is.
    pub disk: Disk,
    /// Labels, such as `zone`, by key.
    pub labels: Vec<(String, String)>,
    /// When it started, in milliseconds.
    pub start_ms: u64,
    /// The largest timestamp it has read at: no transaction may commit at or below it by a
    /// timestamp that a store computes (transactions.md §20.3).
    pub max_ts: u64,
    /// The last sequence number of its health feedback (wire.md §2.4).
    pub feedback_seq: u64,
    /// What it says of its own health: 1 is best, 100 worst.
    pub slow_score: i32,
}

impl Store {
    pub(crate) fn new(id: StoreId, now_ms: u64) -> Self {
        Store {
            id,
            address: format!("store-{id}.anatase:20160"),
            state: StoreState::Up,
            disk: Disk::Normal,
            labels: Vec::new(),
            start_ms: now_ms,
            max_ts: 0,
            feedback_seq: now_ms,
            slow_score: 1,
        }
    }

    /// Remembers a read at `ts`. `u64::MAX` says "the latest" and is no timestamp.
    pub(crate) fn read_at(&mut self, ts: u64) {
        if ts != u64::MAX {
            self.max_ts = self.max_ts.max(ts);
        }
    }

    pub(crate) fn to_proto(&self, now_ms: u64) -> metapb::Store {
        let (state, node_state) = match self.state {
            StoreState::Up | StoreState::Stopped => {
                (metapb::StoreState::Up, metapb::NodeState::Serving)
            }
            StoreState::Tombstone => (metapb::StoreState::Tombstone, metapb::NodeState::Removed),
        };
        metapb::Store {
            id: self.id,
            address: self.address.clone(),
            state: state as i32,
            labels: self
                .labels
                .iter()
                .map(|(key, value)| metapb::StoreLabel { key: key.clone(), value: value.clone() })
                .collect(),
            version: VERSION.to_owned(),
            peer_address: self.address.clone(),
            start_timestamp: i64::try_from(self.start_ms / 1000).unwrap_or(i64::MAX),
            last_heartbeat: i64::try_from(now_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX),
            node_state: node_state as i32,
            ..Default::default()
        }
    }
}

/// The version of TiKV whose behaviour is modelled; clients read it to learn what a store can do.
pub(crate) const VERSION: &str = "8.5.0";
