//! A TiKV client with the I/O taken out.
//!
//! [`Core`] owns every operation in flight, the region cache, the store table, what is known of PD
//! and the timestamp batcher. It opens no socket, reads no clock, draws no entropy and takes no
//! lock. A *driver* feeds it inputs ([`Core::submit`], `handle_*`, [`Core::cancel`]), performs its
//! [`Command`]s and hands out its [`Event`]s. `examples/bare_core.rs` in the repository is a driver
//! in a page of code.
//!
//! # The contract
//!
//! 1. **Time never runs backwards.** An input stamped earlier than the last is treated as the last.
//! 2. **Each command is answered once, or withdrawn** by [`Command::Abort`]. Late, repeated and
//!    unknown answers are counted ([`Stats::stray_responses`]) and dropped.
//! 3. **Inputs may come back to back.** Outputs wait in queues until drained; drain before sleeping.
//!    A core without room hands the operation back ([`Full`]).
//! 4. **A timeout handled at its instant makes progress**: the next [`Wakeup`] is later, or an
//!    output is waiting.
//! 5. **Same configuration, seed and inputs: same outputs**, on every platform.
//! 6. **[`Core`] is a value**: a clone given the same inputs agrees, and [`Core::digest`] names its
//!    state.
//!
//! # Two kinds of failure, three outcomes
//!
//! A command that got no answer either certainly never reached the server or may have been executed
//! ([`Failure`]). A commit ends [`CommitOutcome::Committed`], [`CommitOutcome::Aborted`] or
//! [`CommitOutcome::Undetermined`], and no code path turns the third into the second.
#![forbid(unsafe_code)]

// What fuzzers run goes through the public API by its name.
#[cfg(any(test, fuzzing))]
extern crate self as anatase_core;

#[macro_use]
mod planted;

mod backoff;
mod codec;
mod command;
mod config;
#[allow(clippy::module_inception, reason = "the type that gives the crate its name")]
mod core;
pub mod coverage;
#[cfg(test)]
mod coverage_stories;
mod digest;
mod draw;
mod error;
#[cfg(test)]
mod error_table;
mod fanout;
mod fingerprint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod heartbeat;
#[cfg(test)]
mod heartbeat_stories;
mod id;
mod keyspace;
#[cfg(test)]
mod keyspace_stories;
mod lock_plan;
mod locks;
mod op;
mod operation;
mod oracle;
#[cfg(test)]
mod oracle_stories;
mod pd;
#[cfg(test)]
mod pd_stories;
mod recent;
mod region;
mod region_call;
mod resolve;
mod safe_point;
mod shared;
mod slab;
mod stats;
mod store;
mod time;
mod timer;
mod timestamp;
mod tso;
#[cfg(test)]
mod tso_stories;
pub mod txn;
pub mod wire;

pub use crate::command::{
    AskTimestamps, Call, Cancel, Command, Destination, Event, Full, Input, Notice, WakeReason,
    Wakeup,
};
pub use crate::config::{Api, Config, DEFAULT_KEYSPACE, KeyMode};
pub use crate::core::Core;
pub use crate::error::{
    AssertionFailure, ConflictReason, Deadlock, Error, ErrorKind, Failure, GrpcStatus,
    KeyspaceProblem, Reason, WaitForEntry, WriteConflict,
};
pub use crate::heartbeat::LocksLost;
pub use crate::id::{CommandId, OpId, Peer, PeerRole, RegionVersion, StoreId};
pub use crate::lock_plan::{
    Found, LockKey, LockPlan, LockReply, LockWait, LockedKey, PessimisticRollbackPlan,
};
pub use crate::locks::{
    FoundLock, LockKind, LocksResolved, ResolveLocksPlan, ScanLocksPlan, TxnState, TxnStatusPlan,
};
pub use crate::operation::{
    Assertion, ColumnFamily, CommitOutcome, CommitPlan, CommittedBy, Fallbacks, Key, KeyRange,
    KvPair, LockState, Mutation, MutationOp, OpOptions, Operation, PessimisticPlan, RawChecksum,
    RawCompareAndSwap, RawCoprocessor, RawOperation, RawSwap, ReadOperation, RegionKeys,
    RegionLookup, RegionRanges, Reply, ScanSpec, Value, next_key,
};
pub use crate::pd::BreakerConfig;
#[cfg(anatase_planted)]
pub use crate::planted::Plant;
pub use crate::region::{LocatedRegion, RegionBuckets, RegionFacts};
pub use crate::resolve::{Resolution, ResolutionStage, ResolutionWaiter};
pub use crate::stats::Stats;
pub use crate::store::StoreFacts;
pub use crate::time::Instant;
pub use crate::timestamp::Timestamp;

#[cfg(test)]
mod fact_rows;
#[cfg(test)]
mod story;
