//! The state of the store at one moment.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anatase_core::txn::Buffer;
use anatase_core::{KeyRange, Operation, ReadOperation, ScanSpec, Timestamp};

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
    timeout: Duration,
    page: u32,
}

impl Snapshot {
    pub(crate) fn new(handle: Arc<Handle>, at: Timestamp, timeout: Duration, page: u32) -> Self {
        Self { handle, at, timeout, page }
    }

    /// As of when it is.
    pub fn timestamp(&self) -> Timestamp {
        self.at
    }

    pub(crate) fn read<T>(&self, op: ReadOperation, kind: Kind<T>) -> Request<T> {
        let operation = Operation::Read { op, at: self.at };
        Request::new(self.handle.clone(), operation, self.timeout, kind)
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
        let (handle, source) = (self.handle.clone(), Source::Snapshot { at: self.at });
        ScanStream::pairs(handle, source, range.into(), self.page, self.timeout)
    }

    /// As [`Snapshot::scan_stream`], without the values.
    pub fn scan_keys_stream(&self, range: impl Into<BoundRange>) -> ScanStream<Key> {
        let (handle, source) = (self.handle.clone(), Source::Snapshot { at: self.at });
        ScanStream::keys(handle, source, range.into(), self.page, self.timeout)
    }

    /// As [`Snapshot::scan_stream`], with what a transaction has written laid over it.
    pub(crate) fn stream_over(
        &self,
        buffer: Arc<Mutex<Buffer>>,
        range: BoundRange,
    ) -> ScanStream<KvPair> {
        let (handle, source) = (self.handle.clone(), Source::Transaction { at: self.at, buffer });
        ScanStream::pairs(handle, source, range, self.page, self.timeout)
    }

    /// As [`Snapshot::stream_over`], without the values.
    pub(crate) fn keys_stream_over(
        &self,
        buffer: Arc<Mutex<Buffer>>,
        range: BoundRange,
    ) -> ScanStream<Key> {
        let (handle, source) = (self.handle.clone(), Source::Transaction { at: self.at, buffer });
        ScanStream::keys(handle, source, range, self.page, self.timeout)
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
