//! A transaction between its beginning and its end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anatase_core::txn::{Buffer, BufferLimits};
use anatase_core::{CommitPlan, KeyRange, ScanSpec, Timestamp};

use super::read::{Merge, TransactionRead};
use super::{Commit, CommitOutcome, Snapshot};
use crate::driver::Handle;
use crate::error::{Error, Result};
use crate::key::{IntoValue, Key, KvPair, Value};
use crate::range::BoundRange;
use crate::runtime::Instant;
use crate::stream::ScanStream;

/// An optimistic transaction.
///
/// Reads see the [snapshot](Snapshot) at [`Transaction::start_timestamp`] with the transaction's own
/// writes laid over it. Writes stay in memory until [`Transaction::commit`], which succeeds only if
/// nobody else has written the same keys in the meantime; whoever must not be overtaken without
/// writing locks its keys with [`Transaction::lock_keys`].
///
/// Everything takes `&self`, so reads can run side by side.
///
/// Dropping a transaction forgets it: before commit it exists nowhere else.
pub struct Transaction {
    snapshot: Snapshot,
    handle: Arc<Handle>,
    /// When the start timestamp was asked for.
    begun: Instant,
    timeout: Duration,
    /// Shared with the streams that read it.
    buffer: Arc<Mutex<Buffer>>,
}

/// A moment in a transaction that it can be taken back to: see [`Transaction::savepoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Savepoint {
    /// Whose it is.
    start: Timestamp,
    inner: anatase_core::txn::Savepoint,
}

impl Transaction {
    pub(crate) fn new(
        snapshot: Snapshot,
        handle: Arc<Handle>,
        begun: Instant,
        timeout: Duration,
        limits: BufferLimits,
    ) -> Self {
        let buffer = Arc::new(Mutex::new(Buffer::new(limits)));
        Self { snapshot, handle, begun, timeout, buffer }
    }

    pub(crate) fn buffer(&self) -> MutexGuard<'_, Buffer> {
        // Each change of a buffer is complete or did not happen.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// The timestamp at which it reads and by which it is known in the cluster.
    pub fn start_timestamp(&self) -> Timestamp {
        self.snapshot.timestamp()
    }

    /// What was there when the transaction began, without its own writes.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    fn read<T>(&self, merge: Merge<T>) -> TransactionRead<'_, T> {
        TransactionRead::new(self, merge, self.timeout)
    }

    /// The value of `key`, or `None` if there is none.
    pub fn get(&self, key: impl Into<Key>) -> TransactionRead<'_, Option<Value>> {
        self.read(Merge::Get { key: key.into().into_bytes(), take: |value| value })
    }

    /// Whether `key` has a value.
    pub fn key_exists(&self, key: impl Into<Key>) -> TransactionRead<'_, bool> {
        self.read(Merge::Get { key: key.into().into_bytes(), take: |value| value.is_some() })
    }

    /// The values of `keys`: one for each, in the order asked, `None` where there is none. What the
    /// transaction has written itself is not asked for.
    pub fn batch_get<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> TransactionRead<'_, Vec<Option<Value>>> {
        let keys = keys.into_iter().map(|key| key.into().into_bytes()).collect();
        self.read(Merge::BatchGet { keys, take: |values| values })
    }

    /// Up to `limit` pairs of `range` from its start. An empty or reversed range and a limit of 0
    /// give nothing and send nothing.
    pub fn scan(
        &self,
        range: impl Into<BoundRange>,
        limit: u32,
    ) -> TransactionRead<'_, Vec<KvPair>> {
        self.read(Merge::Scan { spec: scan(range.into(), limit, false, false), take: |p| p })
    }

    /// As [`Transaction::scan`], without the values.
    pub fn scan_keys(
        &self,
        range: impl Into<BoundRange>,
        limit: u32,
    ) -> TransactionRead<'_, Vec<Key>> {
        self.read(Merge::Scan { spec: scan(range.into(), limit, false, true), take: keys })
    }

    /// As [`Transaction::scan`], from the end of the range down to its start.
    pub fn scan_reverse(
        &self,
        range: impl Into<BoundRange>,
        limit: u32,
    ) -> TransactionRead<'_, Vec<KvPair>> {
        self.read(Merge::Scan { spec: scan(range.into(), limit, true, false), take: |p| p })
    }

    /// As [`Transaction::scan_reverse`], without the values.
    pub fn scan_keys_reverse(
        &self,
        range: impl Into<BoundRange>,
        limit: u32,
    ) -> TransactionRead<'_, Vec<Key>> {
        self.read(Merge::Scan { spec: scan(range.into(), limit, true, true), take: keys })
    }

    /// All pairs of `range` from its start, as a stream that fetches a page ahead. See [`ScanStream`]
    /// for limits, direction and page sizes.
    ///
    /// The transaction can be written to while it is read: each pair is as the transaction sees it when
    /// the stream comes to it. The stream may outlive the transaction, and goes on as if it did not.
    pub fn scan_stream(&self, range: impl Into<BoundRange>) -> ScanStream<KvPair> {
        self.snapshot.stream_over(self.buffer.clone(), range.into())
    }

    /// As [`Transaction::scan_stream`], without the values.
    pub fn scan_keys_stream(&self, range: impl Into<BoundRange>) -> ScanStream<Key> {
        self.snapshot.keys_stream_over(self.buffer.clone(), range.into())
    }

    /// How many bytes the transaction's keys and values have so far: what
    /// [`Config::with_max_transaction_size`](crate::Config::with_max_transaction_size) limits.
    pub fn size(&self) -> usize {
        self.buffer().size()
    }

    /// How many keys it has written, deleted or locked so far.
    pub fn len(&self) -> usize {
        self.buffer().len()
    }

    /// Whether it has written, deleted and locked nothing so far.
    pub fn is_empty(&self) -> bool {
        self.buffer().is_empty()
    }

    /// Marks the present state of the transaction's writes, to come back to it. Savepoints nest; one
    /// costs next to nothing.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { start: self.start_timestamp(), inner: self.buffer().savepoint() }
    }

    /// Forgets the newest savepoint. What was written since stays.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is not the newest one
    /// that is open, or belongs to another transaction. Nothing has changed then.
    pub fn release(&self, savepoint: Savepoint) -> Result<()> {
        let inner = self.own(savepoint)?;
        Ok(self.buffer().release(inner)?)
    }

    /// Undoes what was written since the savepoint. It stays open, and can be gone back to again; newer
    /// ones are gone. Keys that were locked since stay locked.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is not open: it was
    /// released, or is newer than one that was gone back to, or belongs to another transaction. Nothing
    /// has changed then.
    pub fn roll_back_to(&self, savepoint: Savepoint) -> Result<()> {
        let inner = self.own(savepoint)?;
        Ok(self.buffer().roll_back_to(inner)?)
    }

    fn own(&self, savepoint: Savepoint) -> Result<anatase_core::txn::Savepoint> {
        if savepoint.start == self.start_timestamp() {
            Ok(savepoint.inner)
        } else {
            Err(Error::invalid("the savepoint belongs to another transaction"))
        }
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty value, which
    /// TiKV's transactions do not have. Beyond a limit
    /// [`ErrorKind::KeyTooLarge`](crate::ErrorKind::KeyTooLarge) (65 535 bytes),
    /// [`ErrorKind::EntryTooLarge`](crate::ErrorKind::EntryTooLarge) or
    /// [`ErrorKind::TxnTooLarge`](crate::ErrorKind::TxnTooLarge); the transaction is as it was then.
    pub async fn put(&self, key: impl Into<Key>, value: impl IntoValue) -> Result<()> {
        Ok(self.buffer().put(key.into().into_bytes(), value.into_value())?)
    }

    /// Sets the value of `key`, which must not have one. Whether it has one in the cluster is found
    /// out at commit.
    ///
    /// # Errors
    /// [`ErrorKind::KeyExists`](crate::ErrorKind::KeyExists) if the transaction itself has written
    /// one; else as [`Transaction::put`].
    pub async fn insert(&self, key: impl Into<Key>, value: impl IntoValue) -> Result<()> {
        Ok(self.buffer().insert(key.into().into_bytes(), value.into_value())?)
    }

    /// Removes `key`; it is no error if it is not there.
    ///
    /// # Errors
    /// Beyond a limit, as [`Transaction::put`].
    pub async fn delete(&self, key: impl Into<Key>) -> Result<()> {
        Ok(self.buffer().delete(key.into().into_bytes())?)
    }

    /// Makes the transaction conflict with every other that writes one of `keys`, as if it wrote
    /// them itself.
    ///
    /// # Errors
    /// Beyond a limit, as [`Transaction::put`]; the keys before it are locked.
    pub async fn lock_keys<K: Into<Key>>(&self, keys: impl IntoIterator<Item = K>) -> Result<()> {
        let mut buffer = self.buffer();
        for key in keys {
            buffer.lock(key.into().into_bytes())?;
        }
        Ok(())
    }

    /// Commits. `Ok(Some(at))`: committed, and seen by every reader from `at` on. `Ok(None)`: there was
    /// nothing to commit.
    ///
    /// An `Err` is one of two very different things, and [`Error::is_undetermined`] tells them apart:
    /// the transaction was aborted and no reader will ever see it, or **nobody knows yet**, because
    /// the decisive request may have been executed although its answer was lost. Running an
    /// undetermined transaction again may apply it twice. [`Commit::outcome`] gives the three outcomes
    /// as an enum that has to be matched.
    ///
    /// [`Error::is_undetermined`]: crate::Error::is_undetermined
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction is rolled back in the background as long as its
    /// decisive request was not sent, and settled there if it was.
    pub fn commit(self) -> Commit {
        let now = self.handle.driver.now();
        let mutations = self.buffer().mutations();
        let plan = (!mutations.is_empty()).then(|| {
            let start_ts = self.start_timestamp();
            Box::new(CommitPlan {
                open_for: now.since(self.begun),
                ..CommitPlan::new(start_ts, mutations)
            })
        });
        Commit::new(self.handle, plan, self.timeout)
    }

    /// Commits, and tells how it ended without an `Err` to be mistaken: short for
    /// `commit().outcome()`.
    ///
    /// # Cancel safety
    /// As [`Transaction::commit`].
    pub async fn commit_outcome(self) -> CommitOutcome {
        self.commit().outcome().await
    }

    /// Forgets the transaction. An optimistic one has left nothing anywhere, so nothing is sent.
    ///
    /// # Errors
    /// None at present.
    pub async fn rollback(self) -> Result<()> {
        Ok(())
    }
}

fn scan(range: BoundRange, limit: u32, reverse: bool, key_only: bool) -> ScanSpec {
    ScanSpec { range: KeyRange::from(range), limit, reverse, key_only }
}

fn keys(pairs: Vec<KvPair>) -> Vec<Key> {
    pairs.into_iter().map(KvPair::into_key).collect()
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("start", &self.start_timestamp())
            .finish_non_exhaustive()
    }
}
