//! A world in virtual time, to run code in that uses Anatase, and to break things around it.
//!
//! Your async code runs here unchanged: a [`TransactionClient`](anatase_client::TransactionClient)
//! is the one it knows, with the shipping core in it. What is simulated is everything around: the
//! clock, the executor, the network, and the cluster, which is TiKV and PD in memory
//! (`anatase-cluster`). A run is one thread, takes no real time to wait, and is the same for the same
//! seed, on every platform: a failure that was seen once is seen again.
//!
//! ```
//! use anatase_client::{Error, TransactionClient};
//! use anatase_sim::{Profile, Sim, SimConfig};
//! use std::time::Duration;
//!
//! // The application knows nothing of simulations.
//! async fn visit<R>(client: &TransactionClient<R>) -> Result<u64, Error> {
//!     let txn = client.begin_optimistic().await?;
//!     let visits = txn.get("visits").await?.map_or(0, |value| {
//!         std::str::from_utf8(&value).unwrap().parse().unwrap()
//!     });
//!     txn.put("visits", (visits + 1).to_string()).await?;
//!     txn.commit().await?;
//!     Ok(visits + 1)
//! }
//!
//! // A world in which messages are lost, stores die and regions split.
//! let mut sim = Sim::new(SimConfig::new(7).profile(Profile::rough()));
//! let alice = sim.client("alice");
//! alice.on_boot(|alice| async move {
//!     // Alice may crash at any moment; then she starts here again.
//!     let Ok(client) = alice.transactions().await else { return };
//!     for _ in 0..20 {
//!         // A conflict, or no answer in time: her next visit comes all the same.
//!         visit(&client).await.ok();
//!     }
//! });
//! sim.run_for(Duration::from_secs(60)).unwrap();
//!
//! // From here on all is well, and everything must come to its end.
//! sim.heal();
//! let left = sim.drain(Duration::from_secs(120)).unwrap();
//! assert!(left.is_quiet(), "{left:?}");
//! ```
//!
//! # The parts
//!
//! | | |
//! |---|---|
//! | [`Sim`] | the world: let time pass, strike, heal, drain, look inside |
//! | [`SimClient`] | a process of the application; made by [`Sim::client`] |
//! | [`SimRuntime`], [`SimTransport`] | what a client library is made over, if not by [`SimClient::transactions`] or [`SimClient::raw`] |
//! | [`NetFault`] | what can go wrong, as a value: planned in [`SimConfig::faults`], by [`Sim::strike`], or |
//! | [`Profile`] | chosen by a nemesis, together with how the network behaves |
//! | [`Entropy`] | where choices come from: a seed, a tape of bytes, or all of them in turn |
//! | [`history`], [`check`] | what a run records, and what is held against it |
//!
//! # What is simulated, and what is not
//!
//! The client is real from its public methods down to the commands that the core gives out;
//! connections, HTTP/2 and gRPC are not there. With [`SimConfig::wire`] messages are encoded and
//! decoded as on the wire. The cluster is a model: see its crate for what it does not do. It has one
//! copy of the data, so a store that dies loses nothing, and a partition between stores is nothing
//! but regions without leaders ([`NetFault::LoseLeader`]). All servers have one clock, the world's;
//! only clients' clocks differ.
//!
//! # Code that wants to be simulated
//!
//! It takes time and tasks from its runtime: [`SimClient::sleep`], [`SimClient::spawn`]. What asks
//! the operating system, a thread, a real clock, a `HashMap` that is iterated, is not the same twice;
//! then [`Sim::digest`] of two runs differs. Destructors run when a client crashes, which they do not
//! when a process dies: they should leave no trace outside.

#![forbid(unsafe_code)]

mod agenda;
pub mod check;
mod client;
mod describe;
mod digest;
mod entropy;
mod executor;
pub mod explore;
mod fault;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod history;
mod network;
mod profile;
mod record;
pub mod scenario;
mod serve;
mod sim;
mod trouble;
mod workload;
mod world;

pub use client::{NoIo, SimClient, SimRuntime, SimTransport};
pub use entropy::{Entropy, Odometer, Purpose, Seeded, Stream, Tape};
pub use executor::{Cancellable, JoinHandle, Lost};
pub use fault::{ClientId, Fate, FaultKind, NetFault, PlannedFault, Refusal, Side};
pub use profile::{Network, Profile, Recurring};
pub use record::{
    Ledger, LockAs, Range, RecordedSavepoint, RecordedSnapshot, RecordedTransaction, Recorder,
};
pub use scenario::Scenario;
pub use sim::{Residue, Sim, SimConfig, Stalled, Stats};
pub use workload::Work;
