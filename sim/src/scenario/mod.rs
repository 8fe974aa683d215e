//! Everything that a run depends on, as a value: it prints, is saved and read back, is drawn from a
//! seed or a tape, and is made smaller while it still fails.
//!
//! ```text
//!   seed ──┐                                    ┌─▶ report: what is wrong, digest, what was done
//!   tape ──┼─▶ Scenario ─▶ run ─────────────────┤
//!   file ──┘      ▲          world, programs,   └─▶ still wrong? ─▶ smaller scenario ─┐
//!                 │          heal, examine, judge                                     │
//!                 └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A run has four parts:
//!
//! 1. **Faulty**: the programs work, everything in [`Scenario::profile`] and [`Scenario::faults`] goes
//!    wrong, for [`Scenario::lasts`] or until the programs are done.
//! 2. **Healed**: nothing goes wrong any more. The programs come to their end.
//! 3. **Examined**: a fresh client reads everything, cleans up all locks, reads again, and commits in each
//!    way; none of that may fail.
//! 4. **Judged**: by all [checkers](crate::check) and by what each workload knows of its data; nothing may
//!    be left anywhere.

#[cfg(feature = "quickcheck")]
mod arbitrary;
mod draw;
mod report;
mod run;
mod shrink;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anatase_client::{Config, TransactionOptions};
use anatase_cluster::ClusterConfig;
use serde::{Deserialize, Serialize};

pub use report::{Report, Tally};
#[cfg(anatase_planted)]
pub use run::run_with_plant;
pub use run::{run, run_logged};
pub use shrink::{Shrunk, shrink, shrink_by};

use crate::fault::{Fate, NetFault, PlannedFault};
use crate::profile::Profile;
use crate::workload::Work;

/// Everything that a run depends on: the same one, the same run. As text it is JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What all choices come from.
    pub choices: Choices,
    /// The cluster.
    pub shape: Shape,
    /// How the network behaves, and what goes wrong by itself.
    pub profile: Profile,
    /// What goes wrong when.
    pub faults: Vec<PlannedFault>,
    /// The ways to commit that transactions choose from.
    pub ways: Vec<Way>,
    /// The clients, and what each of them does. All of it is of the raw API, or none: in API version 1 the
    /// two do not share a cluster.
    pub programs: Vec<Program>,
    /// After so long all is healed, if the programs are not done before.
    pub lasts: Duration,
    /// Whether answers travel as bytes.
    pub wire: bool,
    /// How clients and servers are set.
    #[serde(default)]
    pub knobs: Knobs,
}

/// Settings that are turned to where things are rare otherwise. Each is at its usual place by default, and
/// none of them may change what is right.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Knobs {
    /// What an operation of a client may take, in milliseconds.
    pub timeout_ms: u64,
    /// How many pairs of a scan a client asks for at once.
    pub scan_page_size: u32,
    /// How much of a snapshot a client remembers, in bytes.
    pub snapshot_cache_size: usize,
    /// How many requests for timestamps a client has under way.
    pub tso_concurrency: usize,
    /// How long a request for timestamps waits for company, in microseconds.
    pub tso_max_wait_us: u64,
    /// Whether a client asks all members of PD for timestamps.
    pub tso_follower_proxy: bool,
    /// Whether a client asks all members of PD for regions.
    pub pd_follower_handle: bool,
    /// Whether a client reaches stores by way of others.
    pub forwarding: bool,
    /// Whether the right part of a region that is split keeps its id.
    pub right_derive: bool,
    /// How long a new leader needs to learn up to where its region was read, in milliseconds.
    pub max_ts_sync_ms: u64,
    /// How long a store lets a request wait for a lock, in milliseconds.
    pub wait_for_lock_ms: u64,
    /// After how long those are woken who wait beside the one that was, in milliseconds.
    pub wake_up_delay_ms: u64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            timeout_ms: 10_000,
            scan_page_size: 256,
            snapshot_cache_size: 16 << 20,
            tso_concurrency: 1,
            tso_max_wait_us: 0,
            tso_follower_proxy: false,
            pd_follower_handle: false,
            forwarding: false,
            right_derive: true,
            max_ts_sync_ms: 0,
            wait_for_lock_ms: 1_000,
            wake_up_delay_ms: 20,
        }
    }
}

impl Knobs {
    /// What an operation of a client may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.max(1))
    }

    /// The settings of a client.
    pub fn client(&self) -> Config {
        Config::default()
            .with_timeout(self.timeout())
            .with_startup_timeout(self.timeout())
            .with_scan_page_size(self.scan_page_size.max(1))
            .with_snapshot_cache_size(self.snapshot_cache_size)
            .with_tso_concurrency(self.tso_concurrency.max(1))
            .with_tso_max_wait(Duration::from_micros(self.tso_max_wait_us))
            .with_tso_follower_proxy(self.tso_follower_proxy)
            .with_pd_follower_handle(self.pd_follower_handle)
            .with_forwarding(self.forwarding)
    }
}

/// What all choices of a run come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choices {
    /// [`Seeded`](crate::Seeded).
    Seed(u64),
    /// [`Tape`](crate::Tape).
    Tape(Vec<u8>),
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// How many stores.
    pub stores: u32,
    /// How many members PD has.
    pub pd_members: u32,
    /// Where regions begin, beside the first.
    pub split_keys: Vec<String>,
    /// How many keys each workload has.
    pub keys: u32,
}

/// What one client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its work.
    pub work: Work,
    /// How often.
    pub rounds: u32,
}

/// A way to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Optimistic, in two phases.
    TwoPhase,
    /// Optimistic, async commit.
    Async,
    /// Optimistic, in one phase where that can be.
    OnePhase,
    /// Pessimistic, in two phases.
    Pessimistic,
    /// Pessimistic, async commit.
    PessimisticAsync,
    /// Pessimistic, in one phase where that can be.
    PessimisticOnePhase,
    /// Pessimistic, locks taken in fair statements.
    Fair,
    /// Optimistic, async commit, causal consistency only.
    Causal,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TwoPhase,
        Self::Async,
        Self::OnePhase,
        Self::Pessimistic,
        Self::PessimisticAsync,
        Self::PessimisticOnePhase,
        Self::Fair,
        Self::Causal,
    ];

    /// Its options.
    pub fn options(self) -> TransactionOptions {
        let optimistic = TransactionOptions::new_optimistic;
        let pessimistic = TransactionOptions::new_pessimistic;
        match self {
            Self::TwoPhase => optimistic(),
            Self::Async => optimistic().use_async_commit(),
            Self::OnePhase => optimistic().use_async_commit().try_one_pc(),
            Self::Pessimistic | Self::Fair => pessimistic(),
            Self::PessimisticAsync => pessimistic().use_async_commit(),
            Self::PessimisticOnePhase => pessimistic().use_async_commit().try_one_pc(),
            Self::Causal => optimistic().use_async_commit().causal_consistency(),
        }
    }

    /// The same way to commit, with keys locked before.
    #[must_use]
    pub fn with_locks(self) -> Self {
        match self {
            Self::TwoPhase | Self::Pessimistic => Self::Pessimistic,
            Self::Async | Self::Causal | Self::PessimisticAsync => Self::PessimisticAsync,
            Self::OnePhase | Self::PessimisticOnePhase => Self::PessimisticOnePhase,
            Self::Fair => Self::Fair,
        }
    }

    /// Whether keys are locked before the commit.
    pub fn is_pessimistic(self) -> bool {
        match self {
            Self::TwoPhase | Self::Async | Self::OnePhase | Self::Causal => false,
            Self::Pessimistic | Self::PessimisticAsync | Self::PessimisticOnePhase | Self::Fair => {
                true
            }
        }
    }
}

impl Scenario {
    /// Nothing goes wrong in it, and nobody dies or leaves in the midst of something.
    pub fn is_calm(&self) -> bool {
        let mortal = |program: &Program| matches!(program.work, Work::Mortal | Work::Hasty);
        let mortal = self.programs.iter().any(mortal);
        !mortal
            && !self.profile.network.has_fates()
            && self.profile.nemesis.is_empty()
            && self.faults.is_empty()
    }

    /// Whether a request may be executed when nobody waits for it any more, and perhaps long after it was
    /// sent again.
    pub fn has_zombies(&self) -> bool {
        let network = &self.profile.network;
        let late = |fault: &PlannedFault| {
            matches!(fault.fault, NetFault::Next { fate: Fate::Late(_), .. })
        };
        network.zombie + network.strays > 0 || self.faults.iter().any(late)
    }

    pub(crate) fn cluster(&self) -> ClusterConfig {
        let cluster = ClusterConfig::default()
            .stores(self.shape.stores.max(1) as usize)
            .pd_members(self.shape.pd_members.max(1) as usize)
            .right_derive(self.knobs.right_derive)
            .max_ts_sync(Duration::from_millis(self.knobs.max_ts_sync_ms))
            .wait_for_lock_timeout(Duration::from_millis(self.knobs.wait_for_lock_ms))
            .wake_up_delay(Duration::from_millis(self.knobs.wake_up_delay_ms));
        // Regions of raw keys begin at these as they are.
        match self.programs.iter().any(|program| program.work.is_raw()) {
            true => cluster.split_keys_raw(&self.shape.split_keys),
            false => cluster.split_keys(&self.shape.split_keys),
        }
    }
}

/// As JSON, to be saved.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

/// A text that is no scenario.
#[derive(Debug, thiserror::Error)]
#[error("no scenario: {0}")]
pub struct NoScenario(#[from] serde_json::Error);

/// From JSON.
impl FromStr for Scenario {
    type Err = NoScenario;

    fn from_str(text: &str) -> Result<Self, NoScenario> {
        Ok(serde_json::from_str(text)?)
    }
}
