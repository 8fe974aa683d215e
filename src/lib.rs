//! Anatase: a client for TiKV, the distributed transactional key-value store.
//!
//! ```
//! # use anatase_cluster::{ClusterConfig, serve::{ServeOptions, Server}};
//! use anatase::{Result, TransactionClient};
//!
//! # async fn transfer(pd: String) -> Result<()> {
//! let client = TransactionClient::new([pd]).await?;
//!
//! let txn = client.begin_optimistic().await?;
//! txn.put("alice", "90").await?;
//! txn.put("bob", "110").await?;
//! let committed = txn.commit().await?;
//!
//! let snapshot = client.snapshot(committed.expect("there was something to commit"));
//! assert_eq!(snapshot.get("bob").await?.as_deref(), Some(&b"110"[..]));
//! # client.close().await;
//! # Ok(())
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = ClusterConfig::default().split_keys(["b"]).build();
//! # let server = Server::start(cluster, ServeOptions::default()).await?;
//! # transfer(server.pd_address()).await?;
//! # server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Two APIs
//!
//! [`RawClient`] reads and writes single keys and ranges, each operation for itself.
//! [`TransactionClient`] begins [`Transaction`]s over any number of keys, with snapshot isolation. A
//! cluster, or at least a range of keys, is used through one of them only.
//!
//! ```
//! # use anatase_cluster::{ClusterConfig, serve::{ServeOptions, Server}};
//! use std::time::Duration;
//! use anatase::{RawClient, Result};
//!
//! # async fn example(pd: String) -> Result<()> {
//! let client = RawClient::new([pd]).await?;
//! client.put("k1", "v1").await?;
//! client.batch_put([("k2", "v2"), ("k3", "v3")]).await?;
//!
//! let value = client.get("k1").timeout(Duration::from_secs(1)).await?;
//! assert_eq!(value.as_deref(), Some(&b"v1"[..]));
//!
//! // One answer for each key, in the order asked.
//! let values = client.batch_get(["k3", "k9"]).await?;
//! assert_eq!(values, [Some("v3".into()), None]);
//!
//! for pair in client.scan("k1".."k3", 100).await? {
//!     println!("{:?} has {} bytes", pair.key(), pair.value().len());
//! }
//! # client.close().await;
//! # Ok(())
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = Server::start(ClusterConfig::default().build(), ServeOptions::default()).await?;
//! # example(server.pd_address()).await?;
//! # server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What to expect
//!
//! - Every operation ends within its time limit: 30 s unless [`Config::with_timeout`] or the
//!   operation's own `.timeout(…)` says otherwise. Within it the client follows leaders, splits,
//!   restarts and elections by itself.
//! - Dropping a future withdraws the operation. Nothing panics on what a server sends or a caller
//!   passes.
//! - A failed write may have been executed all the same. [`Error::is_undetermined`] says whether that
//!   is possible, and a [commit](Transaction::commit) never disguises it as a plain failure.
//! - Clients are cheap to clone and used by `&self`; dropping the last clone closes connections,
//!   after commits have settled. [`close`](TransactionClient::close) does the same and can be waited
//!   for.
//! - There is no global state: two clients share nothing.
//!
//! # Runtimes
//!
//! The feature `tokio` (on by default) makes [`RawClient`] and [`TransactionClient`] run on the tokio
//! runtime in which `new` is called. Every other runtime is one trait away: see the crate
//! `anatase-client`, on which all of this is built, and whose clients [`new_on`](RawClient::new_on) a
//! runtime of your own are the same types.

#![forbid(unsafe_code)]

pub use anatase_client::{
    ApiVersion, AssertionLevel, Begin, BeginFuture, BoundRange, Bytes, ColumnFamily, Commit,
    CommitFuture, CommitOutcome, CommittedBy, Config, ConflictReason, Coprocessor,
    CoprocessorFuture, DiskFullOpt, Error, ErrorKind, FoundLock, IntoValue, IsolationLevel, Key,
    KeyspaceProblem, KvPair, LockKind, LockRequest, LockedKey, LocksResolved, MAX_RAW_SCAN_LIMIT,
    Next, OperationFuture, Priority, RawChecksum, RawRequest, Region, RegionVersion, Regions,
    Request, ResolutionStage, ResolveLocksOptions, ResolvingLocks, Result, Savepoint, ScanStream,
    Snapshot, StoreId, Timestamp, Transaction, TransactionOptions, TransactionRead,
    TransactionReadFuture, TryNext, TxnState, Value, WriteConflict,
};

/// A client of TiKV's raw API, on tokio.
#[cfg(feature = "tokio")]
pub type RawClient = anatase_client::RawClient<anatase_tokio::TokioRuntime>;

/// A client of TiKV's transactional API, on tokio.
#[cfg(feature = "tokio")]
pub type TransactionClient = anatase_client::TransactionClient<anatase_tokio::TokioRuntime>;

#[cfg(not(feature = "tokio"))]
pub use anatase_client::{RawClient, TransactionClient};

/// The sample of the README compiles, and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The samples of docs/transactions.md compile.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../docs/transactions.md")]
struct Transactions;
