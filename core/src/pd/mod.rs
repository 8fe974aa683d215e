//! PD: who leads, how to get there, and what it is asked (`control-plane.md` §14).
//!
//! | file | holds |
//! |---|---|
//! | `discovery.rs` | from seeds to the leader |
//! | `way.rs` | directly, through a follower, or to a follower |
//! | `task.rs`, `questions.rs` | unary calls, and what they are for |
//! | `trouble.rs` | what a call without an answer says |
//! | `breaker.rs` | leaving an overloaded PD alone |
//!
//! Nothing here blocks anything else: tasks are independent of each other, and timestamps
//! (`tso.rs`) have a stream of their own (`peers.md` D22).

mod breaker;
mod discovery;
mod questions;
#[cfg(test)]
mod stories;
mod task;
mod trouble;
mod way;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::id::{Handle, StoreId};
use crate::shared::{Owner, Tag};
use crate::slab::Slab;
use crate::time::Instant;

use breaker::Breaker;
pub use breaker::BreakerConfig;
use discovery::{Discovery, Hearsay};
pub(crate) use questions::From;
use questions::ScanSupport;
use task::PdTask;
pub(crate) use trouble::Trouble;
pub(crate) use way::Route;
use way::{Readers, Way};

#[derive(Clone, Debug, Hash)]
pub(crate) struct Pd {
    /// What the application gave: never forgotten, so that a cluster whose members all changed is
    /// found again.
    seeds: Vec<Arc<str>>,
    members: Vec<Arc<str>>,
    leader: Option<Arc<str>>,
    /// 0 until a member told it.
    cluster_id: u64,
    discovery: Discovery,
    hearsay: Hearsay,
    /// Rounds in a row in which no member named a leader.
    fruitless: u32,
    refreshed: Option<Instant>,
    /// Addresses that could not be reached when last tried.
    faulty: Vec<Arc<str>>,
    way: Way,
    readers: Readers,
    breaker: Breaker,
    tasks: Slab<PdTask>,
    parked: VecDeque<Handle>,
    ready: Vec<(Owner, Tag)>,
    last_error: Option<Error>,
    scan: ScanSupport,
}

/// What a question to PD is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PdPurpose {
    /// On behalf of this load.
    Region(Handle),
    /// The buckets of the region with this id.
    Buckets(u64),
    /// The next page of a refresh of all regions.
    Refresh,
    Store(StoreId),
    /// The keyspace of all keys.
    Keyspace,
    /// On behalf of an operation, which takes the answer apart itself.
    Owner(Owner, Tag),
}

impl Pd {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            seeds: config.pd_endpoints.clone(),
            members: Vec::new(),
            leader: None,
            cluster_id: 0,
            discovery: Discovery::Idle,
            hearsay: Hearsay::default(),
            fruitless: 0,
            refreshed: None,
            faulty: Vec::new(),
            way: Way::Direct,
            readers: Readers::default(),
            breaker: Breaker::new(config.pd_breaker),
            tasks: Slab::new(),
            parked: VecDeque::new(),
            ready: Vec::new(),
            last_error: None,
            scan: ScanSupport::Batch,
        }
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Where the leader is, if it is known.
    pub(crate) fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    /// Why there is no leader, for whoever gives up waiting for one.
    pub(crate) fn why_unavailable(&self) -> Error {
        let names: Vec<&str> = self.seeds.iter().map(AsRef::as_ref).collect();
        Error::new(
            ErrorKind::PdUnavailable,
            format!("no PD leader found through {}", names.join(", ")),
        )
        .because(self.last_error.clone())
    }
}

/// An address without its scheme, so that `http://pd:2379` and `pd:2379` are one candidate.
fn bare(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/')
}

fn is_same(a: &str, b: &str) -> bool {
    bare(a) == bare(b)
}
