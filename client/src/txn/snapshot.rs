//! The state of the store at one moment.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anatase_core::txn::{BufferLimits, IsolationLevel, Priority, ReadOptions};
use anatase_core::{KeyRange, Operation, ReadOperation, ScanSpec, Timestamp};

use super::State;
use super::cache::Cache;
use crate::driver::Handle;
use crate::key::{Key, KvPair, Value};
use crate::operation::{Kind, kinds};
use crate::range::BoundRange;
use crate::request::Request;
use crate::stream::{ScanStream, Source};

/// The state of the store at one timestamp: every transaction committed at or before it is seen, no
/// other is. Reading the same twice gives the same, for as long as the cluster keeps the versions
/// (its garbage collection decides).
///
/// Cheap to clone; read from by `&self`, also from many tasks at once.
#[derive(Clone)]
pub struct Snapshot {
    handle: Arc<Handle>,
    at: Timestamp,
    settings: Settings,
    options: Option<Arc<ReadOptions>>,
    cache: Cache,
}

/// What a client's snapshots have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    /// How many pairs a stream asks for at a time.
    pub(crate) page: u32,
    /// How many bytes a snapshot keeps of what it has read.
    pub(crate) cache: usize,
    /// How much a transaction takes.
    pub(crate) limits: BufferLimits,
    #[cfg(anatase_planted)]
    pub(crate) planted: Option<anatase_core::Plant>,
}

impl Snapshot {
    pub(crate) fn new(handle: Arc<Handle>, at: Timestamp, settings: Settings) -> Self {
        Self { handle, at, settings, options: None, cache: Cache::new(settings.cache) }
    }

    /// The same at another timestamp.
    pub(super) fn at(&self, at: Timestamp) -> Self {
        Self { options: self.options.clone(), ..Self::new(self.handle.clone(), at, self.settings) }
    }

    fn with(mut self, change: impl FnOnce(&mut ReadOptions)) -> Self {
        change(Arc::make_mut(self.options.get_or_insert_default()));
        self
    }

    /// With another isolation level than snapshot isolation. Reads of the snapshot that is given do not
    /// share what those of this one have read, since they may see something else.
    #[must_use]
    pub fn with_isolation_level(self, isolation: IsolationLevel) -> Self {
        let cache = Cache::new(self.settings.cache);
        Self { cache, ..self.with(|options| options.isolation = isolation) }
    }

    /// How urgently stores should work on its reads.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Self {
        self.with(|options| options.priority = priority)
    }

    /// Whether stores leave what they have to read out of their block caches: for reads of much that
    /// will not be read again.
    #[must_use]
    pub fn with_not_fill_cache(self, not_fill_cache: bool) -> Self {
        self.with(|options| options.not_fill_cache = not_fill_cache)
    }

    /// Scans give one pair in so many, region by region; 0 and 1 give all.
    #[must_use]
    pub fn with_sample_step(self, step: u32) -> Self {
        self.with(|options| options.sample_step = step)
    }

    /// Tells stores which reads belong to one task, so that a large one does not push out many small
    /// ones.
    #[must_use]
    pub fn with_task_id(self, task_id: u64) -> Self {
        self.with(|options| options.task_id = task_id)
    }

    /// How long the first attempt of each request of a `get` or `batch_get` may take before another
    /// replica is asked. Not a limit of the whole read: that is [`Request::timeout`].
    #[must_use]
    pub fn with_read_timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = Some(timeout))
    }

    /// What stores count its reads under.
    #[must_use]
    pub fn with_resource_group_tag(self, tag: impl Into<bytes::Bytes>) -> Self {
        self.with(|options| options.resource_group_tag = tag.into())
    }

    /// The resource group whose share of the cluster its reads use.
    #[must_use]
    pub fn with_resource_group(self, name: impl Into<Arc<str>>) -> Self {
        self.with(|options| options.resource_group_name = Some(name.into()))
    }

    /// Who reads, as the cluster's statistics name it.
    #[must_use]
    pub fn with_request_source(self, source: impl Into<Arc<str>>) -> Self {
        self.with(|options| options.request_source = Some(source.into()))
    }

    /// How many keys it, and its clones, have read and keep: values and absences, of
    /// [`Snapshot::get`], [`Snapshot::key_exists`] and [`Snapshot::batch_get`]. See
    /// [`Config::with_snapshot_cache_size`](crate::Config::with_snapshot_cache_size).
    pub fn cache_len(&self) -> usize {
        self.cache.lock().len()
    }

    /// How many bytes of keys and values it, and its clones, keep.
    pub fn cache_size(&self) -> usize {
        self.cache.lock().size()
    }

    /// How many keys were read without asking anybody, because they had been read before.
    pub fn cache_hits(&self) -> u64 {
        self.cache.lock().hits()
    }

    /// Forgets what was read before.
    pub fn clear_cache(&self) {
        self.cache.lock().clear();
    }

    /// What may be kept of its reads: nothing of the latest version, which is no snapshot, nor where
    /// locks are ignored, so that two reads may differ (transactions.md §17.5).
    fn cache(&self) -> Option<Cache> {
        let isolation =
            self.options.as_ref().map_or(IsolationLevel::Si, |options| options.isolation);
        let lasting = self.at != Timestamp::MAX && isolation == IsolationLevel::Si;
        lasting.then(|| self.cache.clone())
    }

    /// As of when it is.
    pub fn timestamp(&self) -> Timestamp {
        self.at
    }

    pub(crate) fn read<T>(&self, op: ReadOperation, kind: Kind<T>) -> Request<T> {
        let operation = Operation::Read { op, at: self.at, options: self.options.clone() };
        let request = Request::new(self.handle.clone(), operation, self.settings.timeout, kind);
        request.through(self.cache())
    }

    fn source(&self) -> Source {
        Source::Snapshot { at: self.at, options: self.options.clone(), over: None }
    }

    /// The value of `key`, or `None` if there is none.
    pub fn get(&self, key: impl Into<Key>) -> Request<Option<Value>> {
        self.read(ReadOperation::Get { key: key.into().into_bytes() }, kinds::VALUE)
    }

    /// Whether `key` has a value.
    pub fn key_exists(&self, key: impl Into<Key>) -> Request<bool> {
        self.read(ReadOperation::Get { key: key.into().into_bytes() }, kinds::EXISTS)
    }

    /// The values of `keys`: one for each, in the order asked, `None` where there is none. A key may
    /// be asked for twice. No keys, no request.
    ///
    /// (`tikv-client` returns only what it finds, in no order.)
    pub fn batch_get<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Request<Vec<Option<Value>>> {
        let keys = keys.into_iter().map(|key| key.into().into_bytes()).collect();
        self.read(ReadOperation::BatchGet { keys }, kinds::VALUES)
    }

    /// Up to `limit` pairs of `range` from its start. An empty or reversed range and a limit of 0
    /// give nothing and send nothing.
    pub fn scan(&self, range: impl Into<BoundRange>, limit: u32) -> Request<Vec<KvPair>> {
        self.read(scan(range.into(), limit, false, false), kinds::PAIRS)
    }

    /// As [`Snapshot::scan`], without the values.
    pub fn scan_keys(&self, range: impl Into<BoundRange>, limit: u32) -> Request<Vec<Key>> {
        self.read(scan(range.into(), limit, false, true), kinds::KEYS)
    }

    /// As [`Snapshot::scan`], from the end of the range down to its start.
    pub fn scan_reverse(&self, range: impl Into<BoundRange>, limit: u32) -> Request<Vec<KvPair>> {
        self.read(scan(range.into(), limit, true, false), kinds::PAIRS)
    }

    /// All pairs of `range` from its start, as a stream that fetches a page ahead. See
    /// [`ScanStream`] for limits, direction and page sizes.
    pub fn scan_stream(&self, range: impl Into<BoundRange>) -> ScanStream<KvPair> {
        let (handle, source) = (self.handle.clone(), self.source());
        ScanStream::pairs(handle, source, range.into(), self.settings.page, self.settings.timeout)
    }

    /// As [`Snapshot::scan_stream`], without the values.
    pub fn scan_keys_stream(&self, range: impl Into<BoundRange>) -> ScanStream<Key> {
        let (handle, source) = (self.handle.clone(), self.source());
        ScanStream::keys(handle, source, range.into(), self.settings.page, self.settings.timeout)
    }

    /// As [`Snapshot::scan_stream`], with what a transaction has written laid over it.
    pub(crate) fn stream_over(
        &self,
        buffer: Arc<Mutex<State>>,
        range: BoundRange,
    ) -> ScanStream<KvPair> {
        let (handle, source) = (self.handle.clone(), self.source().over(buffer));
        ScanStream::pairs(handle, source, range, self.settings.page, self.settings.timeout)
    }

    /// As [`Snapshot::stream_over`], without the values.
    pub(crate) fn keys_stream_over(
        &self,
        buffer: Arc<Mutex<State>>,
        range: BoundRange,
    ) -> ScanStream<Key> {
        let (handle, source) = (self.handle.clone(), self.source().over(buffer));
        ScanStream::keys(handle, source, range, self.settings.page, self.settings.timeout)
    }

    /// As [`Snapshot::scan_reverse`], without the values.
    pub fn scan_keys_reverse(&self, range: impl Into<BoundRange>, limit: u32) -> Request<Vec<Key>> {
        self.read(scan(range.into(), limit, true, true), kinds::KEYS)
    }
}

fn scan(range: BoundRange, limit: u32, reverse: bool, key_only: bool) -> ReadOperation {
    ReadOperation::Scan(ScanSpec { range: KeyRange::from(range), limit, reverse, key_only })
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("at", &self.at).finish_non_exhaustive()
    }
}
