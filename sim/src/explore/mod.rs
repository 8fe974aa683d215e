//! Every way in which two transactions and a reader can meet, with one fault.
//!
//! The simulator draws what happens; this tries all of it. Two transactions over two regions and a
//! reader that meets their locks, each in a client of its own with the shipping core in it; a fault that
//! may strike once, at any moment; every order in which messages arrive and timers go off. At each end
//! it is asked whether what was told is true.
//!
//! ```text
//!        State ── Step ──▶ State ── Step ──▶ … ──▶ end ── judged ──▶ fine, or a counterexample
//!          │                 ▲
//!          │   same digest   │
//!          └──── Step ───────┘   merged
//! ```
//!
//! # A state
//! Values only: the bare cores ([`anatase_core::Core`]), the cluster ([`anatase_cluster::Cluster`]),
//! the messages under way, what each client was told, the time, and whether the fault is still to come.
//! It is cloned to try each step from it. There is no executor here, and no chance: seeds are fixed, and
//! so are the pauses that cores draw.
//!
//! # Steps
//! A client begins; a request reaches its server, which answers at once or has it wait for a lock; an
//! answer reaches its client; a timer that is due goes off; the fault strikes. Only when nothing of that
//! is possible, time moves on, to the next timer: so an answer is never slower than a time limit unless
//! it is lost, or the clocks leap ([`Fault::Expiry`]). Messages take any time to arrive and overtake
//! each other as they like.
//!
//! The search begins where clients know PD and their routes: how they learn them is the same in all.
//!
//! # What is merged
//! Two states with the same digest are one. The digest covers whatever decides about the future or is
//! judged at the end: [`Core::future_digest`](anatase_core::Core::future_digest) of each core, the
//! cluster ([`Hash`] of [`Cluster`](anatase_cluster::Cluster)), each message with its contents, what
//! was told, the time. Left out are
//!
//! - counters that nobody decides by: [`Core::stats`](anatase_core::Core::stats), coverage, how many
//!   calls a store has had;
//! - when a core last had an input: the next is stamped with the time of the world, which is in the
//!   digest, and the core looks at its clock only while it handles one;
//! - in which order things were put on their way: messages are sorted by client and command;
//! - the order of two beginnings, or of two ends, with nothing judged in between
//!   (`State::rounds`).
//!
//! Nothing is renamed: two states that differ in the number of a command are two, though they have the
//! same future. That costs states, and hides nothing. A digest has 64 bits.
//!
//! # What is left out
//! Steps of different clients that commute are tried in one order: see `choose.rs`, where it is argued
//! why that loses no end. [`Search::reduce`] turns it off.
//!
//! # What is checked
//! At every step: no panic, an operation ends once and before its deadline, a command's number is its
//! own, a timer that goes off makes progress. At every end: all were told how it went; nothing is left in
//! the cores; a late reader finds what it should and leaves no lock; [`truth`](crate::check::truth),
//! [`snapshot`](crate::check::snapshot) and [`real_time`](crate::check::real_time) agree with what was
//! told. Without a fault the transactions must have cleaned up behind them, too.
//!
//! A counterexample is a shortest one, because the search is breadth first.

mod choose;
mod client;
mod digest;
mod judge;
mod report;
mod search;
mod state;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anatase_core::{Config, KeyMode};

pub use report::{Counterexample, Report, table};

use crate::describe::{self, ORIGIN_MS};
macro_rules! named {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name on the command line and in tables.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one of this name.
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.name() == name)
            }
        }
    };
}

named! {
    /// How both transactions commit.
    Mode {
        /// In two phases.
        TwoPhase => "2pc",
        /// When all keys are locked.
        Async => "async",
        /// With the prewrite. The keys lie in one region, until it splits.
        OnePhase => "1pc",
        /// In two phases, after each key was locked, in opposite orders.
        Pessimistic => "pessimistic",
        /// The same with fair locking.
        Fair => "fair",
    }
}

named! {
    /// What may go wrong, once, at any moment.
    Fault {
        /// Nothing.
        None => "none",
        /// A request is lost, and its client hears nothing.
        RequestLost => "request-lost",
        /// An answer is lost, and its client hears nothing.
        ReplyLost => "reply-lost",
        /// A request arrives at any later time, when its client has given it up: because it heard
        /// nothing, or because it heard of a broken connection.
        Zombie => "zombie",
        /// A connection breaks: what is under way on it is lost, and its client knows.
        Reset => "reset",
        /// The first region is split between its keys.
        Split => "split",
        /// A region's leader moves to another store.
        LeaderMove => "leader-move",
        /// A store refuses a request with a region error, or says that it does not know, having
        /// executed it or not, or does not commit in the way that it is asked to.
        Refusal => "refusal",
        /// A client dies. What it has sent arrives at any time or never.
        Crash => "crash",
        /// The clocks leap, beyond the life of locks.
        Expiry => "expiry",
        /// PD has a new leader, whose timestamps are 3 s ahead.
        TimestampLeap => "timestamp-leap",
        /// PD cannot answer a request.
        PdFailure => "pd-failure",
    }
}

named! {
    /// Who takes part.
    Cast {
        /// A transaction and a reader.
        OneAndReader => "txn+reader",
        /// Two transactions.
        Two => "txn+txn",
        /// Two transactions and a reader.
        Three => "txn+txn+reader",
    }
}

/// Something that is wrong on purpose, outside of the core: to see that it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// The cluster says of every transaction that lives that it was rolled back.
    StatusLies,
    /// The cluster says that it has committed, and has not.
    CommitIsForgotten,
    /// The driver tells a commit that is in doubt as aborted.
    DoubtIsNo,
}

/// A search, as a value.
#[derive(Clone, Debug)]
pub struct Search {
    /// How the transactions commit.
    pub mode: Mode,
    /// What may go wrong.
    pub fault: Fault,
    /// Who takes part.
    pub cast: Cast,
    /// With more keys. The first transaction always writes a key in each region, but in one phase. The
    /// second writes one of them, and the reader reads it; if wide, both have two keys in two regions,
    /// and pessimistic transactions lock theirs in opposite orders.
    pub wide: bool,
    /// How long each operation may take. Shorter than
    /// [`Config::attempt_timeout`](anatase_core::Config::attempt_timeout), what hears nothing ends in
    /// doubt.
    pub patience: Duration,
    /// Of every core. PD is where [`config`] says.
    pub config: Config,
    /// So many states at most.
    pub max_states: usize,
    /// So many steps from the beginning at most.
    pub max_depth: usize,
    /// Whether steps that commute are tried in one order only.
    pub reduce: bool,
    /// What is wrong on purpose.
    pub sabotage: Sabotage,
}

/// The configuration of the explored cores: the usual one, but that nobody looks after PD and the
/// stores by the clock.
pub fn config() -> Config {
    let cluster = search::cluster().build();
    let members = cluster.pd_members().iter().map(|member| Arc::from(member.url.as_str()));
    let mut config = Config::new(members.collect(), KeyMode::Txn);
    let never = Duration::from_secs(1 << 30);
    config.pd_refresh_interval = never;
    config.probe_after = never;
    config.region_ttl = never;
    config.check_visibility = false;
    config
}

impl Search {
    /// Everybody, with patience, and without bounds that would be met.
    pub fn new(mode: Mode, fault: Fault) -> Self {
        Self {
            mode,
            fault,
            cast: Cast::Three,
            wide: false,
            patience: Duration::from_secs(45),
            config: config(),
            max_states: usize::MAX,
            max_depth: usize::MAX,
            reduce: true,
            sabotage: Sabotage::None,
        }
    }

    /// With this cast.
    #[must_use]
    pub fn cast(mut self, cast: Cast) -> Self {
        self.cast = cast;
        self
    }

    /// With more keys.
    #[must_use]
    pub fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// With at most so many states.
    #[must_use]
    pub fn max_states(mut self, states: usize) -> Self {
        self.max_states = states;
        self
    }

    /// With operations that give up before their attempts do.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.patience = Duration::from_secs(20);
        self
    }

    /// With this wrong on purpose.
    #[must_use]
    pub fn sabotage(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = sabotage;
        self
    }
}

/// The searches that CI runs: every mode with every fault, in less than a minute.
///
/// A transaction and a reader, or two transactions, nearly always completed; both and a reader as far as
/// the bound allows; with more keys where nothing goes wrong; and with impatient clients where they wait
/// in vain.
pub fn bounded() -> Vec<Search> {
    let mut searches = Vec::new();
    for &mode in Mode::ALL {
        for &fault in Fault::ALL {
            for (cast, states) in
                [(Cast::OneAndReader, 30_000), (Cast::Two, 20_000), (Cast::Three, 8_000)]
            {
                searches.push(Search::new(mode, fault).cast(cast).max_states(states));
            }
        }
        for cast in [Cast::OneAndReader, Cast::Two] {
            searches.push(Search::new(mode, Fault::None).cast(cast).wide());
        }
        for fault in [Fault::RequestLost, Fault::ReplyLost, Fault::Zombie] {
            let search = Search::new(mode, fault).cast(Cast::OneAndReader);
            searches.push(search.impatient().max_states(30_000));
        }
    }
    searches
}
