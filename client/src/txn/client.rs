//! Where transactions begin.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anatase_core::coverage::Coverage;
use anatase_core::{KeyMode, Operation, Timestamp};

use super::options::TransactionOptions;
use super::snapshot::Settings;
use super::{Snapshot, Transaction};
use crate::config::Config;
use crate::connect;
use crate::driver::{Handle, Over};
use crate::error::{Error, Result};
use crate::operation::{Kind, OperationFuture, kinds};
use crate::regions::Regions;
use crate::request::Request;
use crate::runtime::{DefaultRuntime, Instant, Runtime};
use crate::transport::Transport;

/// A client of TiKV's transactional API.
///
/// Cheap to clone; clones share connections, caches and everything else, and are used by `&self`
/// from any number of tasks.
///
/// ```
/// # use anatase_client::{DefaultRuntime, Result, TransactionClient};
/// # async fn example<R: DefaultRuntime>(client: TransactionClient<R>) -> Result<()> {
/// let txn = client.begin_optimistic().await?;
/// if txn.get("stock").await?.is_some() {
///     txn.put("order", "1").await?;
/// }
/// txn.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// The type parameter only says where [`TransactionClient::new`] finds its runtime.
pub struct TransactionClient<R> {
    pub(super) handle: Arc<Handle>,
    pub(super) settings: Settings,
    runtime: PhantomData<fn() -> R>,
}

impl<R: DefaultRuntime> TransactionClient<R> {
    /// Connects to the cluster whose PD is at one of `pd_endpoints` (`host:port`).
    ///
    /// # Errors
    /// [`ErrorKind::PdUnavailable`](crate::ErrorKind::PdUnavailable), naming the addresses, if no
    /// leader of PD is found in time ([`Config::with_startup_timeout`]);
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) without addresses, with
    /// one that is none, or outside of a runtime.
    pub async fn new<S: Into<String>>(pd_endpoints: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::new_with_config(pd_endpoints, Config::default()).await
    }

    /// The same with settings.
    ///
    /// # Errors
    /// As [`TransactionClient::new`].
    pub async fn new_with_config<S: Into<String>>(
        pd_endpoints: impl IntoIterator<Item = S>,
        config: Config,
    ) -> Result<Self> {
        let endpoints = connect::endpoints(pd_endpoints);
        let runtime = R::find().map_err(|error| Error::invalid(error.to_string()))?;
        let handle = connect::over_http2(runtime, endpoints, &config, KeyMode::Txn).await?;
        Ok(Self::made(handle, &config))
    }
}

impl<R> TransactionClient<R> {
    /// The same on a runtime of the caller's choice.
    ///
    /// # Errors
    /// As [`TransactionClient::new`].
    pub async fn new_on<S: Into<String>>(
        runtime: impl Runtime,
        pd_endpoints: impl IntoIterator<Item = S>,
        config: Config,
    ) -> Result<Self> {
        let endpoints = connect::endpoints(pd_endpoints);
        let handle = connect::over_http2(runtime, endpoints, &config, KeyMode::Txn).await?;
        Ok(Self::made(handle, &config))
    }

    /// The same over a whole RPC stack of the caller's.
    ///
    /// # Errors
    /// As [`TransactionClient::new`].
    pub async fn new_over<S: Into<String>>(
        runtime: impl Runtime,
        transport: impl Transport,
        pd_endpoints: impl IntoIterator<Item = S>,
        config: Config,
    ) -> Result<Self> {
        let endpoints = connect::endpoints(pd_endpoints);
        let handle = connect::over(runtime, transport, endpoints, &config, KeyMode::Txn).await?;
        Ok(Self::made(handle, &config))
    }

    fn made(handle: Arc<Handle>, config: &Config) -> Self {
        let settings = Settings {
            timeout: config.timeout,
            page: config.scan_page_size,
            cache: config.snapshot_cache_size,
            limits: config.buffer_limits,
            #[cfg(anatase_planted)]
            planted: config.planted,
        };
        Self { handle, settings, runtime: PhantomData }
    }

    /// The id of the cluster, as PD names it.
    pub fn cluster_id(&self) -> u64 {
        self.handle.driver.cluster_id()
    }

    /// Which inputs the state machines of this client's transactions have met in which of their states:
    /// what a test or a simulation has reached so far (docs/states.md). Asks nobody.
    pub fn coverage(&self) -> Coverage {
        self.handle.driver.coverage()
    }

    /// The regions of the cluster, as this client knows them.
    pub fn regions(&self) -> Regions {
        Regions::new(self.handle.clone(), self.settings.timeout)
    }

    /// Begins an optimistic transaction: it reads a snapshot, keeps its writes to itself, and finds
    /// out at commit whether somebody else was faster. Costs one timestamp of PD.
    pub fn begin_optimistic(&self) -> Begin {
        self.begin_with_options(TransactionOptions::new_optimistic())
    }

    /// Begins a pessimistic transaction: it locks each key before it writes it. Costs one timestamp of
    /// PD.
    pub fn begin_pessimistic(&self) -> Begin {
        self.begin_with_options(TransactionOptions::new_pessimistic())
    }

    /// Begins a transaction with what was chosen about it.
    pub fn begin_with_options(&self, options: TransactionOptions) -> Begin {
        Begin {
            handle: self.handle.clone(),
            limit: self.settings.timeout,
            settings: self.settings,
            options: Box::new(options),
        }
    }

    /// The state of the store at `at`. Sends nothing.
    ///
    /// A read at a timestamp that PD has not handed out yet fails with
    /// [`ErrorKind::FutureTimestamp`](crate::ErrorKind::FutureTimestamp); only [`Timestamp::MAX`],
    /// which reads what is newest, is exempt.
    pub fn snapshot(&self, at: Timestamp) -> Snapshot {
        Snapshot::new(self.handle.clone(), at, self.settings)
    }

    /// A fresh timestamp of PD: later than that of everything that has committed by now.
    pub fn current_timestamp(&self) -> Request<Timestamp> {
        Request::new(
            self.handle.clone(),
            Operation::Timestamp,
            self.settings.timeout,
            kinds::TIMESTAMP,
        )
    }

    /// A timestamp that PD handed out within the last two seconds (see
    /// [`Config::with_low_resolution_interval`]), most often without asking it: what was committed
    /// since is not seen at it.
    pub fn low_resolution_timestamp(&self) -> Request<Timestamp> {
        let operation = Operation::LowResolutionTimestamp;
        Request::new(self.handle.clone(), operation, self.settings.timeout, kinds::TIMESTAMP)
    }

    /// About the timestamp that PD handed out `previous` ago, most often without asking it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if there was no time yet so
    /// long ago.
    pub fn stale_timestamp(&self, previous: Duration) -> Request<Timestamp> {
        let operation = Operation::StaleTimestamp { previous };
        Request::new(self.handle.clone(), operation, self.settings.timeout, kinds::TIMESTAMP)
    }

    /// The smallest of the timestamps that PD's timestamp services have reached; with a PD that has
    /// only one, which is the rule, a fresh timestamp.
    pub fn min_timestamp(&self) -> Request<Timestamp> {
        let operation = Operation::MinTimestamp;
        Request::new(self.handle.clone(), operation, self.settings.timeout, kinds::TIMESTAMP)
    }

    /// The external timestamp: one that is kept in PD for whoever agrees on it. `None` if none was
    /// ever set.
    pub fn external_timestamp(&self) -> Request<Option<Timestamp>> {
        let operation = Operation::ExternalTimestamp;
        Request::new(
            self.handle.clone(),
            operation,
            self.settings.timeout,
            kinds::EXTERNAL_TIMESTAMP,
        )
    }

    /// Sets the external timestamp.
    ///
    /// # Errors
    /// [`ErrorKind::PdRefused`](crate::ErrorKind::PdRefused) if it would go back, or ahead of PD.
    pub fn set_external_timestamp(&self, to: Timestamp) -> Request<()> {
        let operation = Operation::SetExternalTimestamp(to);
        Request::new(self.handle.clone(), operation, self.settings.timeout, kinds::WRITE)
    }

    /// Sets how old a low-resolution timestamp may be from now on, for all clones of this client: see
    /// [`Config::with_low_resolution_interval`]. Where stale reads have made it shorter, it grows to the
    /// new one in its time. Zero counts as a millisecond. Nothing is sent.
    pub fn set_low_resolution_interval(&self, interval: Duration) -> Request<()> {
        let operation = Operation::SetLowResolutionInterval(interval);
        Request::new(self.handle.clone(), operation, self.settings.timeout, kinds::WRITE)
    }

    pub(crate) fn request<T>(&self, operation: Operation, kind: Kind<T>) -> Request<T> {
        Request::new(self.handle.clone(), operation, self.settings.timeout, kind)
    }

    pub(crate) fn resolutions(&self) -> Vec<anatase_core::Resolution> {
        self.handle.driver.resolutions()
    }

    /// Closes the client, all its clones and transactions: reads that are under way end with
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed), so does what comes later; commits are carried
    /// to their end, for 30 s at most. Completes when nothing is under way any more.
    ///
    /// Dropping the last handle does the same without waiting.
    ///
    /// # Cancel safety
    /// Closing goes on if the future is dropped.
    pub async fn close(&self) {
        self.handle.driver.close();
        Over(self.handle.driver.clone()).await;
    }
}

impl<R> Clone for TransactionClient<R> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), settings: self.settings, runtime: PhantomData }
    }
}

impl<R> fmt::Debug for TransactionClient<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionClient").finish_non_exhaustive()
    }
}

/// A transaction about to begin.
#[must_use = "a transaction begins when this is awaited"]
pub struct Begin {
    handle: Arc<Handle>,
    limit: Duration,
    settings: Settings,
    options: Box<TransactionOptions>,
}

impl Begin {
    /// How long beginning may take, instead of [`Config::with_timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = timeout;
        self
    }

    /// How many bytes a key of the transaction and its value may have together, instead of
    /// [`Config::with_max_entry_size`].
    pub fn max_entry_size(mut self, bytes: usize) -> Self {
        self.options.limits.get_or_insert(self.settings.limits).entry = bytes;
        self
    }

    /// How many bytes all keys and values of the transaction may have together, instead of
    /// [`Config::with_max_transaction_size`].
    pub fn max_transaction_size(mut self, bytes: usize) -> Self {
        self.options.limits.get_or_insert(self.settings.limits).total = bytes;
        self
    }
}

impl IntoFuture for Begin {
    type Output = Result<Transaction>;
    type IntoFuture = BeginFuture;

    fn into_future(self) -> BeginFuture {
        let begun = self.handle.driver.now();
        let Self { handle, limit, settings, options } = self;
        let stamp = match options.start {
            Some(start) => OperationFuture::settled(handle.clone(), Ok(start), kinds::TIMESTAMP),
            None => {
                OperationFuture::new(handle.clone(), Operation::Timestamp, limit, kinds::TIMESTAMP)
            }
        };
        BeginFuture { handle, settings, options, begun, stamp }
    }
}

impl fmt::Debug for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begin").field("timeout", &self.limit).finish_non_exhaustive()
    }
}

/// A transaction that is beginning.
///
/// # Cancel safety
/// Dropping it leaves no trace.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct BeginFuture {
    handle: Arc<Handle>,
    settings: Settings,
    options: Box<TransactionOptions>,
    begun: Instant,
    stamp: OperationFuture<Timestamp>,
}

impl Future for BeginFuture {
    type Output = Result<Transaction>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Transaction>> {
        let this = self.get_mut();
        Pin::new(&mut this.stamp).poll(cx).map_ok(|start| {
            let snapshot = Snapshot::new(this.handle.clone(), start, this.settings);
            let handle = this.handle.clone();
            Transaction::new(snapshot, handle, this.begun, this.settings, &this.options)
        })
    }
}
