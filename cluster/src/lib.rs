//! TiKV and PD in memory, as a value; behind feature `serve` as real gRPC on loopback.
//!
//! A [`Cluster`] is several stores and several regions with a placement driver: raw keys and
//! values, transactions, timestamps, routes. It takes the requests that TiKV and PD take, as bytes
//! or as messages of `anatase-proto`, and answers as they answer, down to which error comes first.
//! There is no I/O in it, no clock, no thread and no chance: it is `Clone`, time is what its owner
//! says, and whoever drives it, be that a test, a simulator or the gRPC server of feature `serve`,
//! gets from it not only responses but also what to do to the connection ([`Answer`],
//! [`Failure`]).
//!
//! ```
//! use anatase_cluster::ClusterConfig;
//! use anatase_proto::kvrpcpb::{RawGetRequest, RawPutRequest};
//!
//! let mut cluster = ClusterConfig::default().stores(3).split_keys(["m"]).build();
//! let region = cluster.region_of_raw(b"k").unwrap().id;
//! let leader = cluster.leader_of(region).unwrap();
//! let context = Some(Box::new(cluster.context_for(region)));
//!
//! let put = RawPutRequest {
//!     context: context.clone(),
//!     key: "k".into(),
//!     value: "v".into(),
//!     ..Default::default()
//! };
//! cluster.call(leader, put).result?;
//!
//! // The client's route is stale now; the store says so, and tells the new ones.
//! cluster.split_raw("kk");
//! let get = RawGetRequest { context, key: "k".into(), ..Default::default() };
//! let error = cluster.call(leader, get).result?.region_error.unwrap();
//! assert_eq!(error.epoch_not_match.unwrap().current_regions.len(), 2);
//! # Ok::<(), anatase_cluster::Failure>(())
//! ```
//!
//! # Ways in
//!
//! | for | by |
//! |---|---|
//! | a call to a store | [`Cluster::handle`] as bytes, [`Cluster::call`] as a message |
//! | a message of a `BatchCommands` stream | [`Cluster::handle_batch`], [`Cluster::call_batch`] |
//! | a call that may wait for a lock | [`Cluster::handle_or_park`], [`Cluster::call_or_park`], [`Cluster::handle_batch_or_park`]; later [`Cluster::take_woken`], [`Cluster::next_wake_ms`] |
//! | a call to PD, or a message of one of its streams | [`Cluster::handle_pd`] |
//! | timestamps | [`Cluster::timestamps`] |
//! | time | [`Cluster::set_now_ms`], [`Cluster::advance`] |
//! | splits, merges, leaders, peers, stores, PD members | methods of [`Cluster`] |
//! | faults | [`Cluster::faults`]; what happens to a cluster right before a call: [`Event`] |
//! | async commit | [`Cluster::raise_max_ts`], [`Cluster::hold_max_ts`], [`Cluster::expire`], [`CommitWay`] |
//! | a look inside | [`Cluster::locks`], [`Cluster::locks_of`], [`Cluster::writes`], [`Cluster::committed`], [`Cluster::raw_pairs`], [`Cluster::parked`], [`Cluster::regions`], [`Cluster::calls`] |
//!
//! # What is not modelled
//!
//! Answered with `UNIMPLEMENTED`, and inside `BatchCommands` with an error that says so: pipelined
//! flushes, flashback, the coprocessor, lock observers, resource groups, GC barriers, watches. Shared
//! locks are aborted with a text that says so.
//!
//! Not there at all: replication (there is one copy of the data, and replicas never lag), raft
//! logs, execution details in responses, the locks that a leader has in memory while it writes what it
//! has computed a commit timestamp for (a call is executed in one piece). Buckets are what PD was told
//! of ([`Cluster::set_buckets`]); stores know none.
//!
//! As on TiKV, a read below the safe point is not refused and may miss what was collected: it is for
//! clients to compare.
//!
//! Rules are cited by the sheets they are collected in, as `transactions.md §20.1`: what was read
//! from the sources of TiKV, PD and client-go.

#![forbid(unsafe_code)]

mod access;
mod admin;
mod answer;
mod api;
mod batch;
mod call;
mod cluster;
pub mod codec;
mod config;
mod digest;
mod event;
mod faults;
mod lock_wait;
mod max_ts;
mod mvcc;
mod pd;
mod raw;
mod region;
#[cfg(feature = "serve")]
pub mod serve;
mod store;
mod store_level;
#[cfg(test)]
mod testing;
pub mod timestamp;
mod txn;

pub use answer::{Answer, Code, Failure, Loss, Status};
pub use batch::{BatchAnswer, BatchMessage};
pub use call::StoreCall;
pub use cluster::Cluster;
pub use config::{Api, ClusterConfig};
pub use event::Event;
pub use faults::{CommitWay, Fault, Faults, On, PdFault, RegionFault, Rule, RuleId};
pub use lock_wait::{Served, Ticket, Woken};
pub use mvcc::{
    LockKind, WriteKind,
    inspect::{LockView, WriteView},
};
pub use pd::{Keyspace, KeyspaceState, Member, PdMetadata};
pub use raw::{Coprocessor, CoprocessorCall};
pub use region::{Peer, PeerId, Region, RegionId, Role};
pub use store::{Disk, Store, StoreId, StoreState};
