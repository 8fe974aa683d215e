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

mod arbitrary;
mod draw;
mod report;
mod run;
mod shrink;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anatase_client::TransactionOptions;
use anatase_cluster::ClusterConfig;
use serde::{Deserialize, Serialize};

pub use report::{Report, Tally};
pub use run::run;
pub(crate) use run::{TIMEOUT, settings};
pub use shrink::{Shrunk, shrink};

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
    /// The bug that is planted in all clients. Not saved.
    #[cfg(anatase_planted)]
    #[serde(skip)]
    pub planted: Option<anatase_core::Plant>,
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
    /// Nothing goes wrong in it, and nobody dies.
    pub fn is_calm(&self) -> bool {
        let mortal = self.programs.iter().any(|program| program.work == Work::Mortal);
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
            .pd_members(self.shape.pd_members.max(1) as usize);
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
