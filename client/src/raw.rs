//! The raw API: single keys and ranges, no transactions.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anatase_core::{KeyMode, KeyRange, Operation, RawOperation, ScanSpec};

use crate::ColumnFamily;
use crate::config::Config;
use crate::connect;
use crate::driver::{Handle, Over};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{IntoValue, Key, KvPair, Value};
use crate::operation::{Kind, OperationFuture, kinds};
use crate::range::BoundRange;
use crate::runtime::{DefaultRuntime, Runtime};
use crate::transport::Transport;

/// The most pairs that one raw scan may ask for, as in client-go.
pub const MAX_RAW_SCAN_LIMIT: u32 = 10_240;

/// A client of TiKV's raw API.
///
/// Cheap to clone; clones share connections, caches and everything else, and are used by `&self`
/// from any number of tasks. Raw operations are not transactional: a batch is not atomic, and keys
/// must not be mixed with those of a [`TransactionClient`](crate::TransactionClient).
///
/// Every method returns a [`RawRequest`] that is awaited, perhaps after `.timeout(…)` or `.cf(…)`:
///
/// ```
/// # use std::time::Duration;
/// # use anatase_client::{DefaultRuntime, RawClient, Result};
/// # async fn example<R: DefaultRuntime>(client: RawClient<R>) -> Result<()> {
/// client.put("k", "v").await?;
/// let value = client.get("k").timeout(Duration::from_secs(1)).await?;
/// assert_eq!(value.as_deref(), Some(&b"v"[..]));
/// # Ok(())
/// # }
/// ```
///
/// The type parameter only says where [`RawClient::new`] finds its runtime.
pub struct RawClient<R> {
    handle: Arc<Handle>,
    cf: ColumnFamily,
    timeout: Duration,
    runtime: PhantomData<fn() -> R>,
}

impl<R: DefaultRuntime> RawClient<R> {
    /// Connects to the cluster whose PD is at one of `pd_endpoints` (`host:port`).
    ///
    /// # Errors
    /// [`ErrorKind::PdUnavailable`], naming the addresses, if no leader of PD is found in time
    /// ([`Config::with_startup_timeout`]); [`ErrorKind::InvalidArgument`] without addresses,
    /// with one that is none, or outside of a runtime.
    pub async fn new<S: Into<String>>(pd_endpoints: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::new_with_config(pd_endpoints, Config::default()).await
    }

    /// The same with settings.
    ///
    /// # Errors
    /// As [`RawClient::new`].
    pub async fn new_with_config<S: Into<String>>(
        pd_endpoints: impl IntoIterator<Item = S>,
        config: Config,
    ) -> Result<Self> {
        let endpoints = connect::endpoints(pd_endpoints);
        let runtime = R::find().map_err(|error| Error::invalid(error.to_string()))?;
        let handle = connect::over_http2(runtime, endpoints, &config, KeyMode::Raw).await?;
        Ok(Self::made(handle, &config))
    }
}

impl<R> RawClient<R> {
    /// The same on a runtime of the caller's choice.
    ///
    /// # Errors
    /// As [`RawClient::new`].
    pub async fn new_on<S: Into<String>>(
        runtime: impl Runtime,
        pd_endpoints: impl IntoIterator<Item = S>,
        config: Config,
    ) -> Result<Self> {
        let endpoints = connect::endpoints(pd_endpoints);
        let handle = connect::over_http2(runtime, endpoints, &config, KeyMode::Raw).await?;
        Ok(Self::made(handle, &config))
    }

    /// The same over a whole RPC stack of the caller's.
    ///
    /// # Errors
    /// As [`RawClient::new`].
    pub async fn new_over<S: Into<String>>(
        runtime: impl Runtime,
        transport: impl Transport,
        pd_endpoints: impl IntoIterator<Item = S>,
        config: Config,
    ) -> Result<Self> {
        let endpoints = connect::endpoints(pd_endpoints);
        let handle = connect::over(runtime, transport, endpoints, &config, KeyMode::Raw).await?;
        Ok(Self::made(handle, &config))
    }

    fn made(handle: Arc<Handle>, config: &Config) -> Self {
        let timeout = config.timeout;
        Self { handle, cf: ColumnFamily::DEFAULT, timeout, runtime: PhantomData }
    }

    /// A client of another column family, over the same connections.
    #[must_use]
    pub fn with_cf(&self, cf: impl Into<ColumnFamily>) -> Self {
        Self { cf: cf.into(), ..self.clone() }
    }

    fn request<T>(&self, op: RawOperation, kind: Kind<T>) -> RawRequest<T> {
        RawRequest {
            handle: self.handle.clone(),
            op: Ok(op),
            cf: self.cf.clone(),
            timeout: self.timeout,
            kind,
        }
    }

    fn refuse<T>(&self, error: Error, kind: Kind<T>) -> RawRequest<T> {
        RawRequest {
            handle: self.handle.clone(),
            op: Err(error),
            cf: self.cf.clone(),
            timeout: self.timeout,
            kind,
        }
    }

    /// The value of `key`, or `None` if there is none. An empty value is a value.
    pub fn get(&self, key: impl Into<Key>) -> RawRequest<Option<Value>> {
        self.request(RawOperation::Get { key: key.into().into_bytes() }, kinds::VALUE)
    }

    /// The values of `keys`: one for each, in the order asked, `None` where there is none. A key may
    /// be asked for twice. No keys, no request.
    ///
    /// (`tikv-client` returns only what it finds, in no order.)
    pub fn batch_get<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> RawRequest<Vec<Option<Value>>> {
        self.request(RawOperation::BatchGet { keys: bytes_of(keys) }, kinds::VALUES)
    }

    /// Sets the value of `key`.
    pub fn put(&self, key: impl Into<Key>, value: impl IntoValue) -> RawRequest<()> {
        self.put_with_ttl(key, value, 0)
    }

    /// Sets the value of `key` for `ttl_secs` seconds; 0 is for ever. The server has to have TTLs
    /// enabled.
    pub fn put_with_ttl(
        &self,
        key: impl Into<Key>,
        value: impl IntoValue,
        ttl_secs: u64,
    ) -> RawRequest<()> {
        let (key, value) = (key.into().into_bytes(), value.into_value());
        self.request(RawOperation::Put { key, value, ttl_secs }, kinds::WRITE)
    }

    /// Sets many values. Of several for one key the last counts. Not atomic: on an error any part of
    /// it may have been written.
    pub fn batch_put<P: Into<KvPair>>(&self, pairs: impl IntoIterator<Item = P>) -> RawRequest<()> {
        self.batch_put_with_ttl(pairs, 0)
    }

    /// Sets many values for `ttl_secs` seconds; 0 is for ever.
    pub fn batch_put_with_ttl<P: Into<KvPair>>(
        &self,
        pairs: impl IntoIterator<Item = P>,
        ttl_secs: u64,
    ) -> RawRequest<()> {
        let pairs = pairs.into_iter().map(|pair| pair.into().into()).collect();
        self.request(RawOperation::BatchPut { pairs, ttl_secs }, kinds::WRITE)
    }

    /// Removes `key`; it is no error if it is not there.
    pub fn delete(&self, key: impl Into<Key>) -> RawRequest<()> {
        self.request(RawOperation::Delete { key: key.into().into_bytes() }, kinds::WRITE)
    }

    /// Removes many keys. Not atomic: on an error any part of them may be gone.
    pub fn batch_delete<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> RawRequest<()> {
        self.request(RawOperation::BatchDelete { keys: bytes_of(keys) }, kinds::WRITE)
    }

    /// Up to `limit` pairs of `range` from its start. An empty or reversed range and a limit of 0
    /// give nothing and send nothing; a limit above [`MAX_RAW_SCAN_LIMIT`] is
    /// [`ErrorKind::InvalidArgument`].
    pub fn scan(&self, range: impl Into<BoundRange>, limit: u32) -> RawRequest<Vec<KvPair>> {
        self.scan_as(range.into(), limit, false, false, kinds::PAIRS)
    }

    /// As [`RawClient::scan`], without the values.
    pub fn scan_keys(&self, range: impl Into<BoundRange>, limit: u32) -> RawRequest<Vec<Key>> {
        self.scan_as(range.into(), limit, false, true, kinds::KEYS)
    }

    /// As [`RawClient::scan`], from the end of the range down to its start.
    pub fn scan_reverse(
        &self,
        range: impl Into<BoundRange>,
        limit: u32,
    ) -> RawRequest<Vec<KvPair>> {
        self.scan_as(range.into(), limit, true, false, kinds::PAIRS)
    }

    /// As [`RawClient::scan_reverse`], without the values.
    pub fn scan_keys_reverse(
        &self,
        range: impl Into<BoundRange>,
        limit: u32,
    ) -> RawRequest<Vec<Key>> {
        self.scan_as(range.into(), limit, true, true, kinds::KEYS)
    }

    fn scan_as<T>(
        &self,
        range: BoundRange,
        limit: u32,
        reverse: bool,
        key_only: bool,
        kind: Kind<T>,
    ) -> RawRequest<T> {
        if limit > MAX_RAW_SCAN_LIMIT {
            let text = format!("a scan limit of {limit} is above {MAX_RAW_SCAN_LIMIT}");
            return self.refuse(Error::new(ErrorKind::InvalidArgument, text), kind);
        }
        let spec = ScanSpec { range: KeyRange::from(range), limit, reverse, key_only };
        self.request(RawOperation::Scan(spec), kind)
    }

    /// Closes the client and all its clones: what is under way ends with [`ErrorKind::Closed`], what
    /// comes later too. Completes when all connections are being taken down.
    ///
    /// Dropping the last clone does the same without waiting.
    ///
    /// # Cancel safety
    /// Closing goes on if the future is dropped.
    pub async fn close(&self) {
        self.handle.driver.close();
        Over(self.handle.driver.clone()).await;
    }
}

impl<R> Clone for RawClient<R> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            cf: self.cf.clone(),
            timeout: self.timeout,
            runtime: PhantomData,
        }
    }
}

impl<R> fmt::Debug for RawClient<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient").field("cf", &self.cf).finish_non_exhaustive()
    }
}

fn bytes_of<K: Into<Key>>(keys: impl IntoIterator<Item = K>) -> Vec<anatase_core::Key> {
    keys.into_iter().map(|key| key.into().into_bytes()).collect()
}

/// A raw operation about to be awaited.
#[must_use = "a request does nothing unless awaited"]
pub struct RawRequest<T> {
    handle: Arc<Handle>,
    op: Result<RawOperation>,
    cf: ColumnFamily,
    timeout: Duration,
    kind: Kind<T>,
}

impl<T> RawRequest<T> {
    /// How long it may take in all, instead of [`Config::with_timeout`]. Past it the operation fails
    /// with [`ErrorKind::DeadlineExceeded`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// In another column family than the client's.
    pub fn cf(mut self, cf: impl Into<ColumnFamily>) -> Self {
        self.cf = cf.into();
        self
    }
}

impl<T> IntoFuture for RawRequest<T> {
    type Output = Result<T>;
    type IntoFuture = OperationFuture<T>;

    fn into_future(self) -> OperationFuture<T> {
        match self.op {
            Ok(op) => {
                let operation = Operation::Raw { op, cf: self.cf };
                OperationFuture::new(self.handle, operation, self.timeout, self.kind)
            }
            Err(error) => OperationFuture::settled(self.handle, Err(error), self.kind),
        }
    }
}

impl<T> fmt::Debug for RawRequest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRequest").field("cf", &self.cf).finish_non_exhaustive()
    }
}
