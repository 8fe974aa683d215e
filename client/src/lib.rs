//! The async front door of Anatase, a TiKV client: written once, over any runtime.
//!
//! Applications on tokio take the crate `anatase`, which adds a runtime to the types of this one.
//! This crate is for whoever brings their own.
//!
//! # Bringing a runtime
//!
//! A [`Runtime`] is a clock, sleep, spawn and connect. With one,
//! [`RawClient::new_on`] and [`TransactionClient::new_on`] make clients; HTTP/2, gRPC and the protocol
//! come with this crate and need nothing else. With [`DefaultRuntime`] on top, `new` needs nothing
//! but addresses:
//!
//! ```
//! # use anatase_client::{DefaultRuntime, Result};
//! type Client<R> = anatase_client::TransactionClient<R>;
//!
//! # async fn example<MyRuntime: DefaultRuntime>() -> Result<()> {
//! let client = Client::<MyRuntime>::new(["127.0.0.1:2379"]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The types that come out are the same whatever they run on: a [`Transaction`], a [`Snapshot`], a
//! future know nothing of runtimes, and a client's type parameter is only a default for `new`. So
//! code written against one runtime can be handed a client that lives on another, or in a simulation.
//!
//! # Bringing an RPC stack
//!
//! A [`Transport`] performs the core's commands and reports what came of them; see there. The
//! clients' `new_over` takes one.
//!
//! # How it works
//!
//! All of the protocol is in `anatase-core`, a value that does no I/O. This crate keeps one core
//! behind one lock. The task that awaits an operation submits it and sends its requests, the task
//! that reads a connection hands in answers, and one alarm task hands in the time; whatever encodes,
//! decodes, sends or wakes happens outside of the lock.

#![forbid(unsafe_code)]

mod config;
mod connect;
mod driver;
mod error;
pub mod http2;
mod key;
mod operation;
mod range;
mod raw;
mod regions;
mod request;
mod runtime;
mod signal;
mod stream;
mod transport;
mod txn;
mod waiters;

pub use anatase_core::txn::{AssertionLevel, DiskFullOpt, IsolationLevel, Priority};
pub use anatase_core::{ColumnFamily, CommittedBy, Timestamp};
pub use bytes::Bytes;

pub use config::{ApiVersion, Config};
pub use error::{
    ConflictReason, Error, ErrorKind, KeyspaceProblem, RegionVersion, Result, StoreId,
    WriteConflict,
};
pub use key::{IntoValue, Key, KvPair, Value};
pub use operation::OperationFuture;
pub use range::BoundRange;
pub use raw::{
    Coprocessor, CoprocessorFuture, MAX_RAW_SCAN_LIMIT, RawChecksum, RawClient, RawRequest,
};
pub use regions::{Region, Regions};
pub use request::Request;
pub use runtime::{DefaultRuntime, Instant, NoRuntime, Runtime};
pub use stream::{Next, ScanStream, TryNext};
pub use transport::{Inbox, Transport};
pub use txn::{
    Begin, BeginFuture, Commit, CommitFuture, CommitOutcome, FoundLock, LockKind, LockRequest,
    LockedKey, LocksResolved, ResolutionStage, ResolveLocksOptions, ResolvingLocks, Savepoint,
    Snapshot, Transaction, TransactionClient, TransactionOptions, TransactionRead,
    TransactionReadFuture, TxnState,
};
