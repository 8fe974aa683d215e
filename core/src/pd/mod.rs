//! PD: who leads, how to get there, and what it is asked (`control-plane.md` §14).
//!
//! | file | holds |
//! |---|---|
//! | `discovery.rs` | from seeds to the leader |
//! | `way.rs` | directly, through a follower, or to a follower |
//! | `health.rs` | which members can be reached, each second while PD is asked |
//! | `task.rs`, `questions.rs` | unary calls, and what they are for |
//! | `trouble.rs` | what a call without an answer says |
//! | `breaker.rs` | leaving an overloaded PD alone |
//!
//! Nothing here blocks anything else: tasks are independent of each other, and timestamps
//! (`tso/`) have a stream of their own (`peers.md` D22).

mod breaker;
mod discovery;
mod health;
mod questions;
#[cfg(test)]
mod stories;
mod task;
mod trouble;
mod way;
#[cfg(test)]
mod way_stories;

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
#[cfg(test)]
pub(crate) use health::HEALTH_INTERVAL;
use health::Health;
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
    health: Health,
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
    /// The safe point.
    SafePoint,
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
            health: Health::default(),
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
        let rounds = match self.fruitless {
            0 => String::new(),
            1 => " in a round".to_owned(),
            more => format!(" in {more} rounds"),
        };
        let text = format!("no PD leader found through {}{rounds}", names.join(", "));
        Error::new(ErrorKind::PdUnavailable, text).because(self.last_error.clone())
    }
}

/// An address without its scheme, so that `http://pd:2379` and `pd:2379` are one candidate.
fn bare(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/')
}

fn is_same(a: &str, b: &str) -> bool {
    bare(a) == bare(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyMode;
    use crate::fact_rows::Row::{Other, Same, Without};
    use crate::fact_rows::check;

    /// control-plane.md §14.1 and §14.2, every row. Milliseconds, or pieces.
    #[test]
    fn each_row_of_discovery_and_routing_is_here() {
        let config = Config::new(vec!["pd:1".into()], KeyMode::Txn);
        let ms = |duration: std::time::Duration| duration.as_millis() as u64;
        check([
            ("request timeout", Same(ms(config.pd_timeout), 3_000)),
            ("init retries: cluster id and members", Same(config.pd_init_attempts.into(), 100)),
            ("init retries: a second apart", Same(ms(config.pd_init_interval), 1_000)),
            ("init retries: keyspace", Same(ms(PdPurpose::Keyspace.patience(&config)), 100_000)),
            ("init retries: service mode", Without("there is no TSO service to be found")),
            (
                "cluster id: reachable URLs must agree",
                Without("the first that names a leader is believed, others are held against it"),
            ),
            ("member refresh", Same(ms(config.pd_refresh_interval), 60_000)),
            ("each GetMembers", Same(ms(config.pd_member_timeout), 1_000)),
            ("retry from 20 ms", Same(ms(discovery::FIRST_REST), 20)),
            (
                "to 100 ms, 1 s in all",
                Other(ms(discovery::LONGEST_REST), 100, "on and on, while somebody waits"),
            ),
            ("service mode poll 3 s", Without("there is no TSO service to be found")),
            ("health every 1 s", Same(ms(health::HEALTH_INTERVAL), 1_000)),
            ("health of a follower: ⅓ s", Same(ms(health::FOLLOWER_LIMIT), 333)),
            ("dial 3 s; backoff 1 s × 1.6 ≤ 3 s", Without("the transport's, see its links")),
            ("one connection per URL", Without("the transport's, see its links")),
            ("a follower without the region: 10 s", Same(ms(way::LEFT_OUT), 10_000)),
            ("texts of a leader change, and of a callee", Same(trouble::MOVED.len() as u64, 5)),
            ("forwarding, off", Same(config.enable_forwarding.into(), 0)),
            ("follower handle, off", Same(config.enable_follower_handle.into(), 0)),
            ("GetMembers single-flighted per URL", Without("one discovery at a time, for all")),
            (
                "router client: 10 000 a batch, 3 s",
                Without("regions are asked for by unary calls, many at once by scans"),
            ),
        ]);
    }
}
