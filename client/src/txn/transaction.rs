//! A transaction between its beginning and its end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anatase_core::txn::{Buffer, TxnMode};
use anatase_core::{Assertion, CommitPlan, KeyRange, Operation, ScanSpec, Timestamp};
use bytes::Bytes;

use super::lock::{LockRequest, LockedKey, Rows};
use super::options::TransactionOptions;
use super::read::{Merge, TransactionRead};
use super::snapshot::Settings;
use super::{Commit, CommitOutcome, Snapshot};
use crate::driver::Handle;
use crate::error::{Error, Result};
use crate::key::{IntoValue, Key, KvPair, Value};
use crate::operation::{OperationFuture, kinds};
use crate::range::BoundRange;
use crate::runtime::Instant;
use crate::stream::ScanStream;

/// How long the release of a transaction's locks may take in the background (`transactions.md` §1.3).
const RELEASE: Duration = Duration::from_secs(40);

/// A transaction.
///
/// Reads see the [snapshot](Snapshot) at [`Transaction::start_timestamp`] with the transaction's own
/// writes laid over it. Writes stay in memory until [`Transaction::commit`].
///
/// An *optimistic* transaction asks the cluster for nothing before that. Its commit succeeds only if
/// nobody else has written the same keys in the meantime; whoever must not be overtaken without
/// writing locks its keys with [`Transaction::lock_keys`].
///
/// A *pessimistic* transaction locks each key before it is written, or when it is
/// [read for update](Transaction::get_for_update). Who wants the key, too, waits, so that its commit
/// seldom fails. A key that is held is not locked again. Its locks are kept alive in the background until
/// it ends.
///
/// Everything takes `&self`, so reads can run side by side.
///
/// # Dropping
/// a transaction that was neither committed nor rolled back rolls it back: its locks are released in the
/// background. With the feature `tracing` there is a warning if it had written or locked anything, since
/// that is most often a mistake.
pub struct Transaction {
    snapshot: Snapshot,
    handle: Arc<Handle>,
    /// When the start timestamp was asked for.
    begun: Instant,
    timeout: Duration,
    /// Shared with the streams that read it.
    state: Arc<Mutex<State>>,
    /// Held by the lock request that is being carried out.
    pub(super) turn: async_lock::Mutex<()>,
}

/// The transaction as a value.
pub(crate) type State = anatase_core::txn::Transaction;

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
        settings: Settings,
        options: &TransactionOptions,
    ) -> Self {
        let limits = options.limits.unwrap_or(settings.limits);
        let core = Arc::new(options.core.clone());
        let state = State::new(snapshot.timestamp(), options.mode, core, limits);
        #[cfg(anatase_planted)]
        let state = state.with_plant(settings.planted);
        let state = Arc::new(Mutex::new(state));
        let turn = async_lock::Mutex::new(());
        Self { snapshot, handle, begun, timeout: settings.timeout, state, turn }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is complete or did not happen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For writing.
    fn write(
        &self,
        write: impl FnOnce(&mut Buffer) -> Result<(), anatase_core::Error>,
    ) -> Result<()> {
        Ok(write(self.state().buffer_mut())?)
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// The cluster at another moment.
    pub(super) fn snapshot_at(&self, at: Timestamp) -> Snapshot {
        self.snapshot.at(at)
    }

    /// Has locks released that nothing depends on any more.
    pub(super) fn let_go(&self) {
        loop {
            // Not under the transaction's lock: this sends.
            let plan = self.state().take_release();
            let Some(plan) = plan else { return };
            let until = self.handle.driver.now() + RELEASE;
            self.handle.driver.spawn(Operation::PessimisticRollback(Box::new(plan)), until);
        }
    }

    pub(crate) fn snapshot_ref(&self) -> &Snapshot {
        &self.snapshot
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
        self.snapshot.stream_over(self.state.clone(), range.into())
    }

    /// As [`Transaction::scan_stream`], without the values.
    pub fn scan_keys_stream(&self, range: impl Into<BoundRange>) -> ScanStream<Key> {
        self.snapshot.keys_stream_over(self.state.clone(), range.into())
    }

    /// How many bytes the transaction's keys and values have so far: what
    /// [`Config::with_max_transaction_size`](crate::Config::with_max_transaction_size) limits.
    pub fn size(&self) -> usize {
        self.state().buffer().size()
    }

    /// How many keys it has written, deleted or locked so far.
    pub fn len(&self) -> usize {
        self.state().buffer().len()
    }

    /// Whether it has written, deleted and locked nothing so far.
    pub fn is_empty(&self) -> bool {
        self.state().buffer().is_empty()
    }

    /// Marks the present state of the transaction's writes, to come back to it. Savepoints nest; one
    /// costs next to nothing.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { start: self.start_timestamp(), inner: self.state().buffer_mut().savepoint() }
    }

    /// Forgets the newest savepoint. What was written since stays.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is not the newest one
    /// that is open, or belongs to another transaction. Nothing has changed then.
    pub fn release(&self, savepoint: Savepoint) -> Result<()> {
        let inner = self.own(savepoint)?;
        self.write(|buffer| buffer.release(inner))
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
        self.write(|buffer| buffer.roll_back_to(inner))
    }

    fn own(&self, savepoint: Savepoint) -> Result<anatase_core::txn::Savepoint> {
        if savepoint.start == self.start_timestamp() {
            Ok(savepoint.inner)
        } else {
            Err(Error::invalid("the savepoint belongs to another transaction"))
        }
    }

    /// Whether it locks keys before it writes them.
    pub fn is_pessimistic(&self) -> bool {
        self.state().mode() == TxnMode::Pessimistic
    }

    fn lock_request<T>(&self, keys: Vec<Bytes>, take: fn(Rows) -> T) -> LockRequest<'_, T> {
        LockRequest::new(self, keys, self.timeout, take)
    }

    /// Locks a key that is to be written, if this is a pessimistic transaction.
    async fn lock_to_write(&self, key: &Bytes, absent: bool) -> Result<()> {
        if !self.is_pessimistic() {
            return Ok(());
        }
        let request = self.lock_request(vec![key.clone()], drop);
        if absent { request.absent().await } else { request.await }
    }

    /// Sets the value of `key`. A pessimistic transaction locks it first, unless it is locked.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty value, which
    /// TiKV's transactions do not have. Beyond a limit
    /// [`ErrorKind::KeyTooLarge`](crate::ErrorKind::KeyTooLarge) (65 535 bytes),
    /// [`ErrorKind::EntryTooLarge`](crate::ErrorKind::EntryTooLarge) or
    /// [`ErrorKind::TxnTooLarge`](crate::ErrorKind::TxnTooLarge); what the transaction has written is as
    /// it was then. Those of a [`LockRequest`] if the key is locked.
    pub async fn put(&self, key: impl Into<Key>, value: impl IntoValue) -> Result<()> {
        let (key, value) = (key.into().into_bytes(), value.into_value());
        self.lock_to_write(&key, false).await?;
        self.write(|buffer| buffer.put(key, value))
    }

    /// Sets the value of `key`, which must not have one. Whether it has one in the cluster is found out
    /// when the key is locked: by a pessimistic transaction at once, by an optimistic one at commit.
    ///
    /// # Errors
    /// [`ErrorKind::KeyExists`](crate::ErrorKind::KeyExists) if there is a value, the transaction's own
    /// included; else as [`Transaction::put`].
    pub async fn insert(&self, key: impl Into<Key>, value: impl IntoValue) -> Result<()> {
        let (key, value) = (key.into().into_bytes(), value.into_value());
        self.lock_to_write(&key, true).await?;
        self.write(|buffer| buffer.insert(key, value))
    }

    /// Removes `key`; it is no error if it is not there. A pessimistic transaction locks it first, unless
    /// it is locked.
    ///
    /// # Errors
    /// Beyond a limit, and of locking, as [`Transaction::put`].
    pub async fn delete(&self, key: impl Into<Key>) -> Result<()> {
        let key = key.into().into_bytes();
        self.lock_to_write(&key, false).await?;
        self.write(|buffer| buffer.delete(key))
    }

    /// Locks `keys` without writing them: what they are, sorted by key. How long to wait, and what to
    /// tell, can be said before it is awaited.
    ///
    /// An optimistic transaction then conflicts with every other that writes one of them, as if it wrote
    /// them itself.
    pub fn lock_keys<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> LockRequest<'_, Vec<LockedKey>> {
        let keys = keys.into_iter().map(|key| key.into().into_bytes()).collect();
        self.lock_request(keys, |rows| rows.locked)
    }

    /// Locks `key`, and reads it: the value that there is now, not the snapshot's, or what the
    /// transaction has written itself. Nobody else can change it until the transaction ends.
    ///
    /// An optimistic transaction reads its snapshot, and conflicts if the key has changed since.
    pub fn get_for_update(&self, key: impl Into<Key>) -> LockRequest<'_, Option<Value>> {
        let take = |rows: Rows| rows.values.into_iter().next().flatten();
        self.lock_request(vec![key.into().into_bytes()], take).with_values()
    }

    /// As [`Transaction::get_for_update`], of many: one value for each key, in the order asked.
    pub fn batch_get_for_update<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> LockRequest<'_, Vec<Option<Value>>> {
        let keys = keys.into_iter().map(|key| key.into().into_bytes()).collect();
        self.lock_request(keys, |rows| rows.values).with_values()
    }

    /// Says that `key` has a value in the cluster. A commit fails with
    /// [`ErrorKind::AssertionFailed`](crate::ErrorKind::AssertionFailed) if a store finds otherwise, where
    /// [`TransactionOptions::assertion_level`] has it look. Only keys that are written or locked are
    /// looked at.
    ///
    /// # Errors
    /// Beyond a limit, as [`Transaction::put`].
    pub fn assert_exists(&self, key: impl Into<Key>) -> Result<()> {
        self.write(|buffer| buffer.assert(key.into().into_bytes(), Assertion::Exist))
    }

    /// Says that `key` has no value in the cluster, as [`Transaction::assert_exists`].
    ///
    /// # Errors
    /// As [`Transaction::assert_exists`].
    pub fn assert_not_exists(&self, key: impl Into<Key>) -> Result<()> {
        self.write(|buffer| buffer.assert(key.into().into_bytes(), Assertion::NotExist))
    }

    /// Begins the first attempt of a statement that locks keys one by one and may have to begin anew
    /// («fair», or «aggressive» locking). From here on a key that was written meanwhile is locked all the
    /// same, and [`LockedKey::value`] is what is there now; whoever has to begin anew keeps the locks that
    /// it asks for again, so that it is not overtaken for ever.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it has begun, or the
    /// transaction is optimistic.
    pub fn start_fair_locking(&self) -> Result<()> {
        let now = self.handle.driver.now();
        Ok(self.state().fair_start(now)?)
    }

    /// Begins the next attempt. What the last one has locked and this one does not ask for is released
    /// when it is [done](Transaction::done_fair_locking).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if none has begun.
    pub fn retry_fair_locking(&self) -> Result<()> {
        let now = self.handle.driver.now();
        let result = self.state().fair_retry(now);
        self.let_go();
        Ok(result?)
    }

    /// Gives the statement up, and releases its locks in the background.
    ///
    /// # Errors
    /// As [`Transaction::retry_fair_locking`].
    pub fn cancel_fair_locking(&self) -> Result<()> {
        let result = self.state().fair_cancel();
        self.let_go();
        Ok(result?)
    }

    /// The statement is done: its locks are the transaction's. A transaction has to say this, or
    /// [`Transaction::cancel_fair_locking`], before it commits.
    ///
    /// # Errors
    /// As [`Transaction::retry_fair_locking`].
    pub fn done_fair_locking(&self) -> Result<()> {
        let result = self.state().fair_done();
        self.let_go();
        Ok(result?)
    }

    /// Whether fair locking has begun, and is neither done nor cancelled.
    pub fn is_in_fair_locking(&self) -> bool {
        self.state().is_fair()
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
        let timeout = self.timeout;
        Commit::new(self, timeout)
    }

    /// What has to be asked of the cluster to commit it. If it cannot be committed as it is, it is still
    /// open.
    pub(super) fn commit_plan(&self) -> Result<Option<CommitPlan>, anatase_core::Error> {
        let open_for = self.handle.driver.now().since(self.begun);
        let plan = self.state().commit_plan(open_for);
        self.let_go();
        plan
    }

    /// Commits, and tells how it ended without an `Err` to be mistaken: short for
    /// `commit().outcome()`.
    ///
    /// # Cancel safety
    /// As [`Transaction::commit`].
    pub async fn commit_outcome(self) -> CommitOutcome {
        self.commit().outcome().await
    }

    /// Rolls it back: nothing of it will ever be seen. An optimistic one has left nothing anywhere, so
    /// nothing is sent; the locks of a pessimistic one are released.
    ///
    /// # Errors
    /// If they could not be. The transaction is over all the same, and its locks go when their time is
    /// over, 20 s at most.
    ///
    /// # Cancel safety
    /// If the future is dropped, the release goes on in the background.
    pub async fn rollback(self) -> Result<()> {
        let plan = {
            let mut state = self.state();
            if state.is_fair() {
                state.fair_cancel()?;
            }
            state.rollback_plan()?
        };
        self.let_go();
        let Some(plan) = plan else {
            return Ok(());
        };
        let operation = Operation::PessimisticRollback(Box::new(plan));
        OperationFuture::new(self.handle.clone(), operation, self.timeout, kinds::READY)
            .in_background()
            .await
    }
}

/// Rolls back what has neither been committed nor rolled back.
impl Drop for Transaction {
    fn drop(&mut self) {
        let mut state = self.state();
        if state.is_fair() {
            // Fails only if it has ended.
            let _ = state.fair_cancel();
        }
        let is_read_only = state.is_read_only();
        let plan = state.rollback_plan();
        drop(state);
        self.let_go();
        match plan {
            // It has ended.
            Err(_) => return,
            Ok(None) => {}
            Ok(Some(plan)) => {
                let until = self.handle.driver.now() + RELEASE;
                self.handle.driver.spawn(Operation::PessimisticRollback(Box::new(plan)), until);
            }
        }
        #[cfg(feature = "tracing")]
        if !is_read_only {
            let start = self.start_timestamp().version();
            tracing::warn!(start, "a transaction was dropped without commit or rollback");
        }
        #[cfg(not(feature = "tracing"))]
        let _ = is_read_only;
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
