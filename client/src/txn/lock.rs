//! Locking keys before they are written.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anatase_core::txn::{LockCall, LockOptions, TxnMode};
use anatase_core::{Found, LockKey, LockReply, LockWait, Operation, ReadOperation, Reply};
use bytes::Bytes;

use super::Transaction;
use crate::driver::GivenUp;
use crate::error::{ConflictReason, Error, ErrorKind, Result};
use crate::key::{Key, Value};
use crate::operation::{OperationFuture, kinds};
use crate::waiters::Outcome;

/// A key that a transaction has locked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockedKey {
    /// The key.
    pub key: Key,
    /// False only if it was to be locked [only if it exists](LockRequest::only_if_exists), and does not.
    pub locked: bool,
    /// It was locked before. Then no value is told.
    pub already: bool,
    /// Whether it had a value when it was locked; `None` if that was not asked.
    pub existed: Option<bool>,
    /// The value that it had, if it was [asked for](LockRequest::return_values).
    pub value: Option<Value>,
}

impl From<anatase_core::LockedKey> for LockedKey {
    fn from(locked: anatase_core::LockedKey) -> Self {
        let anatase_core::LockedKey { key, locked, already, found, conflict_ts: _ } = locked;
        let existed = found.exists();
        let value = match found {
            Found::Value(value) => Some(value),
            Found::NotAsked | Found::Missing | Found::Exists => None,
        };
        Self { key: key.into(), locked, already, existed, value }
    }
}

/// What is made of the keys that were locked.
pub(super) type Take<T> = fn(Rows) -> T;

/// All that is known of some keys, once they are locked.
pub(super) struct Rows {
    /// Sorted by key.
    pub(super) locked: Vec<LockedKey>,
    /// What each key's value is, in the order in which the keys were given, if values are wanted.
    pub(super) values: Vec<Option<Value>>,
}

/// Keys about to be locked.
///
/// A transaction's lock requests are carried out one after the other.
///
/// # Errors
/// - [`ErrorKind::LockNotAvailable`]: somebody else has it, and [`LockRequest::no_wait`] was said.
/// - [`ErrorKind::LockWaitTimeout`]: it was waited for as long as [`LockRequest::wait`] says.
/// - [`ErrorKind::Deadlock`]: this transaction was chosen to give way, and should be rolled back.
/// - [`ErrorKind::LocksExpired`]: the transaction has been open for too long.
/// - [`ErrorKind::DeadlineExceeded`]: it took longer than [`LockRequest::timeout`].
///
/// What a failed request has locked is released; what was locked before stays.
///
/// [`ErrorKind::LockNotAvailable`]: crate::ErrorKind::LockNotAvailable
/// [`ErrorKind::LockWaitTimeout`]: crate::ErrorKind::LockWaitTimeout
/// [`ErrorKind::Deadlock`]: crate::ErrorKind::Deadlock
/// [`ErrorKind::LocksExpired`]: crate::ErrorKind::LocksExpired
/// [`ErrorKind::DeadlineExceeded`]: crate::ErrorKind::DeadlineExceeded
///
/// # Cancel safety
/// If the future is dropped, what it has locked is released in the background, and the transaction goes
/// on without it.
///
/// # Optimistic transactions
/// lock nothing before they commit. They remember the keys, and conflict then with whoever has written
/// one of them; what there is to tell about them is read from the snapshot.
#[must_use = "nothing is locked unless this is awaited"]
pub struct LockRequest<'a, T> {
    txn: &'a Transaction,
    keys: Vec<Bytes>,
    presume_not_exists: bool,
    values: bool,
    options: LockOptions,
    timeout: Duration,
    take: Take<T>,
}

impl<'a, T> LockRequest<'a, T> {
    pub(super) fn new(
        txn: &'a Transaction,
        keys: Vec<Bytes>,
        timeout: Duration,
        take: Take<T>,
    ) -> Self {
        let options = LockOptions::default();
        Self { txn, keys, presume_not_exists: false, values: false, options, timeout, take }
    }

    /// The keys must have no values: else [`ErrorKind::KeyExists`](crate::ErrorKind::KeyExists).
    pub(super) fn absent(mut self) -> Self {
        self.presume_not_exists = true;
        self
    }

    /// The values are wanted, the transaction's own included.
    pub(super) fn with_values(mut self) -> Self {
        self.values = true;
        self.options.return_values = true;
        self
    }

    /// How long locks of others are waited for. Without it: until [`LockRequest::timeout`].
    pub fn wait(mut self, wait: Duration) -> Self {
        self.options.wait = LockWait::For(wait);
        self
    }

    /// Locks of others are not waited for.
    pub fn no_wait(mut self) -> Self {
        self.options.wait = LockWait::NoWait;
        self
    }

    /// Tell the values that the keys have.
    pub fn return_values(mut self) -> Self {
        self.options.return_values = true;
        self
    }

    /// Tell whether the keys have values.
    pub fn check_existence(mut self) -> Self {
        self.options.check_existence = true;
        self
    }

    /// Lock only keys that have a value, and tell it. For several keys the transaction has to hold a
    /// lock already.
    pub fn only_if_exists(mut self) -> Self {
        self.options.lock_only_if_exists = true;
        self.return_values()
    }

    /// How long it may take in all, instead of [`Config::with_timeout`](crate::Config::with_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<T> {
        let Self { txn, keys, presume_not_exists, values, options, timeout, take } = self;
        if keys.is_empty() {
            return Ok(take(Rows { locked: Vec::new(), values: Vec::new() }));
        }
        let until = txn.handle().driver.now() + timeout;
        let lock_keys =
            keys.iter().map(|key| LockKey { presume_not_exists, ..LockKey::new(key.clone()) });
        let locked = txn.lock(lock_keys.collect(), options, until).await?;
        let mut rows: Vec<LockedKey> = locked.into_iter().map(LockedKey::from).collect();
        if rows.is_empty() {
            // Nothing was asked of a store: an optimistic transaction has only noted the keys.
            let asked = options.return_values || options.check_existence;
            let found = match asked {
                true => txn.values_of(&keys, &rows, until).await?.into_iter().map(Some).collect(),
                false => vec![None; keys.len()],
            };
            let row = |(key, value): (&Bytes, Option<Option<Value>>)| LockedKey {
                key: key.clone().into(),
                locked: true,
                already: false,
                existed: value.as_ref().map(Option::is_some),
                value: value.flatten().filter(|_| options.return_values),
            };
            rows = keys.iter().zip(found).map(row).collect();
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            rows.dedup_by(|a, b| a.key == b.key);
        }
        let values = if values { txn.values_of(&keys, &rows, until).await? } else { Vec::new() };
        Ok(take(Rows { locked: rows, values }))
    }
}

impl<'a, T: 'a> IntoFuture for LockRequest<'a, T> {
    type Output = Result<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T> fmt::Debug for LockRequest<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockRequest").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The key was written after the request's timestamp was taken.
fn is_overtaken(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::WriteConflict(conflict) => conflict.reason == ConflictReason::PessimisticRetry,
        _ => false,
    }
}

/// A call for locks. Whoever drops it has not heard how it ended.
struct Call<'a> {
    txn: Option<&'a Transaction>,
    operation: OperationFuture<LockReply>,
}

impl Future for Call<'_> {
    type Output = Result<Vec<anatase_core::LockedKey>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let told = match Pin::new(&mut this.operation).poll(cx) {
            Poll::Ready(told) => told,
            Poll::Pending => return Poll::Pending,
        };
        let Some(txn) = this.txn.take() else {
            return Poll::Ready(Err(Error::invalid("a finished call was polled again")));
        };
        Poll::Ready(match told {
            Ok(reply) => txn.state().locked(reply).map_err(Into::into),
            Err(error) => {
                // Only one call is under way, and it is this one.
                let _ = txn.state().lock_failed();
                Err(error)
            }
        })
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let Some(txn) = self.txn.take() else { return };
        // As above.
        let _ = match self.operation.give_up() {
            // What it has taken is released when its requests are answered.
            None | Some(GivenUp::UnderWay) => txn.state().lock_failed(),
            // It has failed, and has released what it had taken.
            Some(GivenUp::Over(Some(Outcome::Done(Err(_)) | Outcome::Lost))) => {
                txn.state().lock_failed()
            }
            // The locks are there, and nobody else knows.
            Some(GivenUp::Over(Some(Outcome::Done(Ok(Reply::Locked(reply)))))) => {
                txn.state().lock_unheard(Some(&reply))
            }
            Some(GivenUp::Over(Some(Outcome::Done(Ok(_))) | None)) => {
                txn.state().lock_unheard(None)
            }
        };
        txn.let_go();
    }
}

impl Transaction {
    /// Locks keys that are not held; gives what is known of all of them, sorted.
    ///
    /// A store that finds a version newer than the request's timestamp says so, also to whoever has
    /// waited for the lock of the transaction that wrote it. Nothing that was read before hangs on a
    /// lock's timestamp here, so it is asked again as of a newer one, for as long as the call may take.
    pub(super) async fn lock(
        &self,
        keys: Vec<LockKey>,
        options: LockOptions,
        until: crate::Instant,
    ) -> Result<Vec<anatase_core::LockedKey>> {
        let _turn = self.turn.lock().await;
        let driver = &self.handle().driver;
        let begun = driver.now();
        loop {
            let now = driver.now();
            let mut options = options;
            if let LockWait::For(wait) = &mut options.wait {
                *wait = wait.saturating_sub(now.since(begun));
            }
            match self.lock_once(keys.clone(), options, until).await {
                Err(error) if is_overtaken(&error) && driver.now() < until => {}
                told => return told,
            }
        }
    }

    async fn lock_once(
        &self,
        keys: Vec<LockKey>,
        options: LockOptions,
        until: crate::Instant,
    ) -> Result<Vec<anatase_core::LockedKey>> {
        let driver = &self.handle().driver;
        let pessimistic = self.state().mode() == TxnMode::Pessimistic;
        let mut for_update_ts = self.start_timestamp();
        let held = |key: &LockKey| !key.presume_not_exists && self.state().holds(&key.key);
        if pessimistic && keys.iter().all(held) {
            // Nothing to ask for, not even the time. What was found when they were locked is kept.
            let told = keys.into_iter().map(|key| anatase_core::LockedKey {
                key: key.key,
                locked: true,
                already: true,
                found: Found::NotAsked,
                conflict_ts: None,
            });
            return Ok(told.collect());
        }
        if pessimistic {
            let left = until.since(driver.now());
            let handle = self.handle().clone();
            for_update_ts =
                OperationFuture::new(handle, Operation::Timestamp, left, kinds::TIMESTAMP).await?;
        }
        let now = driver.now();
        let open_for = now.since(self.begun());
        let call = self.state().lock_call(keys, for_update_ts, &options, open_for, now);
        self.let_go();
        let plan = match call? {
            LockCall::Held(held) => return Ok(held),
            LockCall::Ask(plan) => plan,
        };
        let left = until.since(driver.now());
        let handle = self.handle().clone();
        let operation = OperationFuture::new(handle, Operation::Lock(plan), left, kinds::LOCKED);
        let told = Call { txn: Some(self), operation }.await;
        self.let_go();
        told
    }

    /// The values of keys that are locked: what the transaction has written itself, what was told with
    /// the lock, or what is there now, which nobody else can change.
    async fn values_of(
        &self,
        keys: &[Bytes],
        locked: &[LockedKey],
        until: crate::Instant,
    ) -> Result<Vec<Option<Value>>> {
        let mut unknown = Vec::new();
        let mut values = Vec::with_capacity(keys.len());
        let as_of = {
            let state = self.state();
            for key in keys {
                let own = state.buffer().get(key);
                let told = || {
                    let index = locked.binary_search_by(|row| row.key.as_ref().cmp(key)).ok()?;
                    let row = &locked[index];
                    let known = row.existed == Some(false) || row.value.is_some();
                    (known && !row.already).then(|| row.value.clone())
                };
                let known = own.or_else(told);
                if known.is_none() {
                    unknown.push(key.clone());
                }
                values.push(known);
            }
            state.held_as_of()
        };
        let mut read = Vec::new();
        if !unknown.is_empty() {
            let left = until.since(self.handle().driver.now());
            let snapshot = self.snapshot_at(as_of);
            let batch = ReadOperation::BatchGet { keys: unknown };
            read = snapshot.read(batch, kinds::VALUES).timeout(left).await?;
        }
        let mut read = read.into_iter();
        let whole = values.into_iter();
        Ok(whole.map(|known| known.unwrap_or_else(|| read.next().flatten())).collect())
    }
}
