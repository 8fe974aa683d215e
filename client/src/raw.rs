//! The raw API: single keys and ranges, no transactions.

mod coprocessor;
mod request;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use anatase_core::{KeyMode, KeyRange, RawCompareAndSwap, RawOperation, RawSwap, ScanSpec};
use bytes::Bytes;

pub use self::coprocessor::{Coprocessor, CoprocessorFuture};
pub use self::request::RawRequest;
pub use anatase_core::RawChecksum;

use crate::ColumnFamily;
use crate::config::Config;
use crate::connect;
use crate::driver::{Handle, Over};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{IntoValue, Key, KvPair, Value};
use crate::operation::{Kind, kinds};
use crate::range::BoundRange;
use crate::regions::{Region, Regions};
use crate::runtime::{DefaultRuntime, Runtime};
use crate::stream::{ScanStream, Source};
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
    /// Writes are ordered with compare-and-swap.
    atomic: bool,
    timeout: Duration,
    page: u32,
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
        Self {
            handle,
            cf: ColumnFamily::DEFAULT,
            atomic: false,
            timeout: config.timeout,
            page: config.scan_page_size,
            runtime: PhantomData,
        }
    }

    /// A client of another column family, over the same connections.
    #[must_use]
    pub fn with_cf(&self, cf: impl Into<ColumnFamily>) -> Self {
        Self { cf: cf.into(), ..self.clone() }
    }

    /// A client in atomic mode, over the same connections: it can
    /// [compare and swap](RawClient::compare_and_swap), and its puts and deletes, also of batches,
    /// are ordered with that on the server. Reads, scans, [`RawClient::delete_range`] and
    /// [`RawClient::checksum`] are not affected.
    ///
    /// Compare-and-swap is atomic only if *every* writer of the key is in atomic mode. A batch is
    /// atomic for each of its requests, that is for at most one region, not as a whole.
    /// (`tikv-client` refuses batch delete and delete range in this mode; client-go does not, and
    /// neither does this client.)
    #[must_use]
    pub fn with_atomic_for_cas(&self) -> Self {
        Self { atomic: true, ..self.clone() }
    }

    /// The id of the cluster, as PD names it.
    pub fn cluster_id(&self) -> u64 {
        self.handle.driver.cluster_id()
    }

    /// The regions of the cluster, as this client knows them.
    pub fn regions(&self) -> Regions {
        Regions::new(self.handle.clone(), self.timeout)
    }

    fn request<T>(&self, op: RawOperation, kind: Kind<T>) -> RawRequest<T> {
        self.attempt(Ok(op), kind)
    }

    fn refuse<T>(&self, error: Error, kind: Kind<T>) -> RawRequest<T> {
        self.attempt(Err(error), kind)
    }

    fn attempt<T>(&self, op: Result<RawOperation>, kind: Kind<T>) -> RawRequest<T> {
        RawRequest::new(self.handle.clone(), op, self.cf.clone(), self.timeout, kind)
    }

    /// The value of `key`, or `None` if there is none. An empty value is a value.
    pub fn get(&self, key: impl Into<Key>) -> RawRequest<Option<Value>> {
        self.request(RawOperation::Get { key: key.into().into_bytes() }, kinds::VALUE)
    }

    /// How many seconds `key` still lives: 0 if for ever, `None` if there is no such key or its time is
    /// over. Where the server has no TTLs enabled, every key lives for ever.
    pub fn get_key_ttl_secs(&self, key: impl Into<Key>) -> RawRequest<Option<u64>> {
        self.request(RawOperation::GetKeyTtl { key: key.into().into_bytes() }, kinds::TTL)
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

    /// Sets the value of `key` for `ttl_secs` seconds; 0 is for ever. Where the server has no TTLs
    /// enabled, any other number is [`ErrorKind::Refused`].
    pub fn put_with_ttl(
        &self,
        key: impl Into<Key>,
        value: impl IntoValue,
        ttl_secs: u64,
    ) -> RawRequest<()> {
        let (key, value) = (key.into().into_bytes(), value.into_value());
        let op = RawOperation::Put { key, value, ttl_secs, atomic: self.atomic };
        self.request(op, kinds::WRITE)
    }

    /// Sets many values. Of several for one key the last counts. Not atomic: on an error any part of
    /// it may have been written.
    pub fn batch_put<P: Into<KvPair>>(&self, pairs: impl IntoIterator<Item = P>) -> RawRequest<()> {
        self.batch_put_with_ttl(pairs, [0])
    }

    /// Sets many values, each for so many seconds; 0 is for ever. `ttls_secs` is one number for each
    /// pair, or a single one for all; anything else is [`ErrorKind::InvalidArgument`], and nothing
    /// is sent. Where a key occurs more than once, the last value counts, with its time to live.
    pub fn batch_put_with_ttl<P: Into<KvPair>>(
        &self,
        pairs: impl IntoIterator<Item = P>,
        ttls_secs: impl IntoIterator<Item = u64>,
    ) -> RawRequest<()> {
        let op = RawOperation::BatchPut {
            pairs: pairs.into_iter().map(|pair| pair.into().into()).collect(),
            ttls_secs: ttls_secs.into_iter().collect(),
            atomic: self.atomic,
        };
        self.request(op, kinds::WRITE)
    }

    /// Removes `key`; it is no error if it is not there.
    pub fn delete(&self, key: impl Into<Key>) -> RawRequest<()> {
        let op = RawOperation::Delete { key: key.into().into_bytes(), atomic: self.atomic };
        self.request(op, kinds::WRITE)
    }

    /// Removes many keys. Not atomic: on an error any part of them may be gone.
    pub fn batch_delete<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> RawRequest<()> {
        let op = RawOperation::BatchDelete { keys: bytes_of(keys), atomic: self.atomic };
        self.request(op, kinds::WRITE)
    }

    /// Removes all keys of `range`, region by region in the order of keys. An empty or reversed range
    /// deletes nothing and sends nothing.
    ///
    /// Not atomic, in atomic mode neither: it stops at the first error, and the regions before it
    /// are deleted then. Doing it again is harmless.
    pub fn delete_range(&self, range: impl Into<BoundRange>) -> RawRequest<()> {
        self.request(RawOperation::DeleteRange { range: range.into().into() }, kinds::WRITE)
    }

    /// Sets `key` to `new` if its value is `previous`; `None` expects that there is no value, which
    /// is not the same as an empty one. Gives the value that was there, and whether it was replaced.
    ///
    /// The new value lives for ever, also where the old one had a time to live, unless
    /// [`.ttl_secs(…)`](RawRequest::ttl_secs) says otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`], without asking the server, if this client is not in
    /// [atomic mode](RawClient::with_atomic_for_cas).
    ///
    /// [`ErrorKind::Undetermined`] if the answer was lost: the swap may have happened or not, and a
    /// later read can tell. It is never sent again by itself, because a second copy would find the
    /// value of the first and report failure (`tikv-client` and client-go do that). What certainly
    /// did not reach the store is sent again.
    pub fn compare_and_swap(
        &self,
        key: impl Into<Key>,
        previous: impl Into<Option<Value>>,
        new: impl IntoValue,
    ) -> RawRequest<(Option<Value>, bool)> {
        let swap = RawSwap::Put { value: new.into_value(), ttl_secs: 0 };
        self.swap(key.into(), previous.into(), swap)
    }

    /// Removes `key` if its value is `previous`. Otherwise as [`RawClient::compare_and_swap`].
    ///
    /// **Only newer servers know how**: one that does not takes it for a swap with the empty value.
    /// (The field is `RawCASRequest.delete`.)
    pub fn compare_and_delete(
        &self,
        key: impl Into<Key>,
        previous: impl IntoValue,
    ) -> RawRequest<(Option<Value>, bool)> {
        self.swap(key.into(), Some(previous.into_value()), RawSwap::Delete)
    }

    fn swap(
        &self,
        key: Key,
        previous: Option<Value>,
        swap: RawSwap,
    ) -> RawRequest<(Option<Value>, bool)> {
        if !self.atomic {
            let text = "compare-and-swap takes a client in atomic mode: with_atomic_for_cas()";
            return self.refuse(Error::invalid(text), kinds::SWAP);
        }
        let key = key.into_bytes();
        let swap = Box::new(RawCompareAndSwap { key, previous, swap });
        self.request(RawOperation::CompareAndSwap(swap), kinds::SWAP)
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

    /// Scans each of `ranges` for up to `each_limit` pairs: what is found in the first, then what is
    /// found in the second, and so on. Ranges may overlap and come in any order; the scans run side by
    /// side.
    ///
    /// The limit holds for each range, however many regions it runs over. (In `tikv-client` it holds
    /// for each region of each range, so that a range gives more the more regions it has.) A limit
    /// above [`MAX_RAW_SCAN_LIMIT`] is [`ErrorKind::InvalidArgument`].
    pub fn batch_scan<B: Into<BoundRange>>(
        &self,
        ranges: impl IntoIterator<Item = B>,
        each_limit: u32,
    ) -> RawRequest<Vec<KvPair>> {
        self.batch_scan_as(ranges, each_limit, false, false, kinds::PAIRS)
    }

    /// As [`RawClient::batch_scan`], without the values.
    pub fn batch_scan_keys<B: Into<BoundRange>>(
        &self,
        ranges: impl IntoIterator<Item = B>,
        each_limit: u32,
    ) -> RawRequest<Vec<Key>> {
        self.batch_scan_as(ranges, each_limit, false, true, kinds::KEYS)
    }

    /// As [`RawClient::batch_scan`], each range from its end down to its start.
    pub fn batch_scan_reverse<B: Into<BoundRange>>(
        &self,
        ranges: impl IntoIterator<Item = B>,
        each_limit: u32,
    ) -> RawRequest<Vec<KvPair>> {
        self.batch_scan_as(ranges, each_limit, true, false, kinds::PAIRS)
    }

    /// All pairs of `range` from its start, as a stream that fetches a page ahead:
    ///
    /// ```
    /// # use anatase_client::{DefaultRuntime, RawClient, Result};
    /// # async fn example<R: DefaultRuntime>(client: RawClient<R>) -> Result<()> {
    /// let mut pairs = client.scan_stream("user/".."user0").limit(1_000_000);
    /// while let Some(pair) = pairs.try_next().await? {
    ///     println!("{:?}", pair.key());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// See [`ScanStream`] for limits, direction and page sizes.
    pub fn scan_stream(&self, range: impl Into<BoundRange>) -> ScanStream<KvPair> {
        let source = Source::Raw { cf: self.cf.clone() };
        ScanStream::pairs(self.handle.clone(), source, range.into(), self.page, self.timeout)
    }

    /// As [`RawClient::scan_stream`], without the values.
    pub fn scan_keys_stream(&self, range: impl Into<BoundRange>) -> ScanStream<Key> {
        let source = Source::Raw { cf: self.cf.clone() };
        ScanStream::keys(self.handle.clone(), source, range.into(), self.page, self.timeout)
    }

    /// The checksum of all pairs of `range`, of the default column family: servers know it for no
    /// other, and asking for one is [`ErrorKind::InvalidArgument`]. An empty or reversed range adds
    /// up to zero.
    ///
    /// Regions are added up one after the other: what is written meanwhile may count or not.
    pub fn checksum(&self, range: impl Into<BoundRange>) -> RawRequest<RawChecksum> {
        self.request(RawOperation::Checksum { range: range.into().into() }, kinds::CHECKSUM)
    }

    /// Asks the coprocessor plug-in called `name`, in a version that satisfies `version_req`, in every
    /// region of `ranges`: `request` is called with a region and the parts of the ranges in it, and
    /// gives what is sent there. The answers come with the ranges they are about, in the order of
    /// keys. A range with an empty end has none.
    ///
    /// When a region moves, its part is grouped and asked anew, and `request` is called again. A
    /// plug-in may be asked the same more than once, also if the first time was executed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if `name` or `version_req` is empty; whether the requirement
    /// makes sense is for the server to say. [`ErrorKind::Refused`], in the server's words, if there
    /// is no such plug-in.
    pub fn coprocessor<B, F, D>(
        &self,
        name: impl Into<String>,
        version_req: impl Into<String>,
        ranges: impl IntoIterator<Item = B>,
        request: F,
    ) -> Coprocessor<F>
    where
        B: Into<BoundRange>,
        F: FnMut(Region, Vec<std::ops::Range<Key>>) -> D,
        D: Into<Bytes>,
    {
        let ranges = ranges.into_iter().map(|range| range.into().into()).collect();
        let (handle, timeout) = (self.handle.clone(), self.timeout);
        Coprocessor::new(handle, name.into(), version_req.into(), ranges, request, timeout)
    }

    fn batch_scan_as<B: Into<BoundRange>, T>(
        &self,
        ranges: impl IntoIterator<Item = B>,
        limit: u32,
        reverse: bool,
        key_only: bool,
        kind: Kind<T>,
    ) -> RawRequest<T> {
        if let Err(error) = check_limit(limit) {
            return self.refuse(error, kind);
        }
        let spec = |range| ScanSpec { range, limit, reverse, key_only };
        let scans = ranges.into_iter().map(|range| spec(range.into().into())).collect();
        self.request(RawOperation::BatchScan { scans }, kind)
    }

    fn scan_as<T>(
        &self,
        range: BoundRange,
        limit: u32,
        reverse: bool,
        key_only: bool,
        kind: Kind<T>,
    ) -> RawRequest<T> {
        if let Err(error) = check_limit(limit) {
            return self.refuse(error, kind);
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
            atomic: self.atomic,
            timeout: self.timeout,
            page: self.page,
            runtime: PhantomData,
        }
    }
}

impl<R> fmt::Debug for RawClient<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient")
            .field("cf", &self.cf)
            .field("atomic", &self.atomic)
            .finish_non_exhaustive()
    }
}

fn bytes_of<K: Into<Key>>(keys: impl IntoIterator<Item = K>) -> Vec<anatase_core::Key> {
    keys.into_iter().map(|key| key.into().into_bytes()).collect()
}

fn check_limit(limit: u32) -> Result<()> {
    if limit <= MAX_RAW_SCAN_LIMIT {
        return Ok(());
    }
    let text = format!("a scan limit of {limit} is above {MAX_RAW_SCAN_LIMIT}");
    Err(Error::new(ErrorKind::InvalidArgument, text))
}
