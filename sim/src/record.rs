//! Clients that write down what they do and what they see, for the [checkers](crate::check).
//!
//! A [`Recorder`] belongs to one life of one client. What is begun through it is in the
//! [`History`] from its first instant, and is closed there when its owner drops it or its client
//! dies: nothing has to be written down by hand, and nothing is missing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anatase_client::{
    BoundRange, Bytes, CommitOutcome, Error, Instant, LockedKey, RawClient, Result, Savepoint,
    Snapshot, Timestamp, Transaction, TransactionClient, TransactionOptions,
};

use crate::client::SimClient;
use crate::history::{Held, Transaction as Told};
use crate::history::{
    History, Id, Mode, Outcome, RegisterAnswer, RegisterCall, RegisterOp, Scan, SnapshotRead, Step,
    What, encode_list,
};

/// A history that is still being written.
pub type Ledger = Arc<Mutex<History>>;

/// Whoever panicked while writing has written whole steps.
fn open(ledger: &Ledger) -> MutexGuard<'_, History> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How late an operation may end, at the latest, by the clock of the world: clients' clocks run at half
/// its rate at the slowest, and a moment is needed to hear of the end.
fn patience(timeout: Duration) -> Duration {
    timeout * 2 + Duration::from_secs(1)
}

/// Writes down what one client does. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    ledger: Ledger,
    client: SimClient,
    process: u32,
    patience: Duration,
}

impl Recorder {
    /// For a client in its present life, whose operations take `timeout` at most.
    pub fn new(ledger: &Ledger, client: &SimClient, timeout: Duration) -> Self {
        // A client that was born again is another process.
        let process = client.id() * 1000 + client.crashes() % 1000;
        Self {
            ledger: ledger.clone(),
            client: client.clone(),
            process,
            patience: patience(timeout),
        }
    }

    /// The same for operations that take `timeout` at most.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { patience: patience(timeout), ..self.clone() }
    }

    /// The same for a task that works beside the others of its client: the `n`th, of 39 at most.
    #[must_use]
    pub fn beside(&self, n: u32) -> Self {
        Self { process: self.process + 100_000_000 * (n % 40), ..self.clone() }
    }

    /// By which name the history knows the process.
    pub fn process(&self) -> u32 {
        self.process
    }

    fn begin(&self, what: What) -> Open {
        let now = self.client.true_now();
        let id = open(&self.ledger).begin(self.process, now, now + self.patience, what);
        Open { recorder: self.clone(), id }
    }

    /// Begins a transaction. One that cannot be begun is in the history, too: it has to end in time.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn transaction<R>(
        &self,
        client: &TransactionClient<R>,
        options: TransactionOptions,
        causal: bool,
    ) -> Result<RecordedTransaction> {
        let mode = if options.is_pessimistic() { Mode::Pessimistic } else { Mode::Optimistic };
        let told = Told { causal, ..Told::new(mode) };
        let entry = self.begin(What::Transaction(told));
        match client.begin_with_options(options).await {
            Ok(txn) => {
                let start_ts = txn.start_timestamp().version();
                entry.told(|told| told.start_ts = Some(start_ts));
                entry.settle();
                Ok(RecordedTransaction { txn, entry })
            }
            Err(error) => Err(entry.failed(error)),
        }
    }

    /// A timestamp from PD.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn timestamp<R>(&self, client: &TransactionClient<R>) -> Result<Timestamp> {
        let entry = self.begin(What::Timestamp(None));
        match client.current_timestamp().await {
            Ok(ts) => {
                entry.change(|what| *what = What::Timestamp(Some(ts.version())));
                Ok(ts)
            }
            Err(error) => Err(entry.failed(error)),
        }
    }

    /// A snapshot to read from.
    pub fn snapshot(&self, snapshot: Snapshot) -> RecordedSnapshot {
        let ts = snapshot.timestamp().version();
        let entry = self.begin(What::Snapshot(SnapshotRead { ts, steps: Vec::new() }));
        entry.settle();
        RecordedSnapshot { snapshot, entry }
    }

    /// Anything that only has to end, in time.
    ///
    /// # Errors
    /// Those of the operation.
    pub async fn other<T>(
        &self,
        name: &str,
        operation: impl IntoFuture<Output = Result<T>>,
    ) -> Result<T> {
        let entry = self.begin(What::Other(name.to_owned()));
        operation.await.map_err(|error| entry.failed(error))
    }

    /// An operation on one key that is whole in itself, carried out by `perform`: by several calls, each of
    /// which is recorded and has its own time limit. `may_repeat`: see [`RegisterOp::may_repeat`].
    ///
    /// # Errors
    /// Those of the operation.
    pub async fn register(
        &self,
        key: impl Into<Bytes>,
        call: RegisterCall,
        may_repeat: bool,
        perform: impl Future<Output = Result<RegisterAnswer>>,
    ) -> Result<RegisterAnswer> {
        self.on_register(key, call, may_repeat, perform, false).await
    }

    async fn on_register(
        &self,
        key: impl Into<Bytes>,
        call: RegisterCall,
        may_repeat: bool,
        perform: impl Future<Output = Result<RegisterAnswer>>,
        limited: bool,
    ) -> Result<RegisterAnswer> {
        let reads = call == RegisterCall::Get;
        let answer = RegisterAnswer::Pending;
        let op = RegisterOp { key: key.into(), call, answer, may_repeat };
        let entry = self.begin(What::Register(op));
        if !limited {
            entry.settle();
        }
        let told = perform.await;
        entry.answer(match &told {
            Ok(answer) => answer.clone(),
            Err(error) if error.is_undetermined() && !reads => RegisterAnswer::Undetermined,
            Err(_) => RegisterAnswer::Failed,
        });
        told.map_err(|error| entry.failed(error))
    }

    /// An operation of the raw API on one key.
    ///
    /// # Errors
    /// Those of the client.
    pub async fn raw<R>(
        &self,
        client: &RawClient<R>,
        key: Bytes,
        call: RegisterCall,
        may_repeat: bool,
    ) -> Result<RegisterAnswer> {
        let perform = async {
            let key = key.clone();
            Ok(match call.clone() {
                RegisterCall::Get => RegisterAnswer::Value(client.get(key).await?),
                RegisterCall::Put(value) => {
                    client.put(key, value).await?;
                    RegisterAnswer::Done
                }
                RegisterCall::Delete => {
                    client.delete(key).await?;
                    RegisterAnswer::Done
                }
                RegisterCall::CompareAndSwap { expected, new } => {
                    let swap = match (expected, new) {
                        (expected, Some(new)) => client.compare_and_swap(key, expected, new),
                        (Some(expected), None) => client.compare_and_delete(key, expected),
                        (None, None) => return Err(Error::application("nothing for nothing")),
                    };
                    let (previous, swapped) = swap.await?;
                    RegisterAnswer::Swapped { swapped, previous: Some(previous) }
                }
            })
        };
        self.on_register(key.clone(), call.clone(), may_repeat, perform, true).await
    }
}

/// Something that has begun. Closes its entry when it is dropped.
#[derive(Debug)]
struct Open {
    recorder: Recorder,
    id: Id,
}

impl Open {
    fn change(&self, change: impl FnOnce(&mut What)) {
        if let Some(entry) = open(&self.recorder.ledger).entries.get_mut(self.id) {
            change(&mut entry.what);
        }
    }

    fn told(&self, change: impl FnOnce(&mut Told)) {
        if let Some(told) = open(&self.recorder.ledger).transaction_mut(self.id) {
            change(told);
        }
    }

    fn answer(&self, answer: RegisterAnswer) {
        self.change(|what| {
            if let What::Register(op) = what {
                op.answer = answer;
            }
        });
    }

    /// A call is over, and nothing is owed until the next.
    fn settle(&self) {
        let now = self.recorder.client.true_now();
        if let Some(entry) = open(&self.recorder.ledger).entries.get_mut(self.id) {
            if now > entry.deadline {
                entry.late.get_or_insert((entry.deadline, now));
            }
            entry.deadline = Instant::NEVER;
        }
    }

    /// Another call is made: it has its own time.
    fn prolong(&self) {
        let until = self.recorder.client.true_now() + self.recorder.patience;
        if let Some(entry) = open(&self.recorder.ledger).entries.get_mut(self.id) {
            entry.deadline = until;
        }
    }

    fn has_written(&self, key: &Bytes) -> bool {
        let mut history = open(&self.recorder.ledger);
        let told = history.transaction_mut(self.id);
        let mut intents = told.map(|told| told.intents()).unwrap_or_default();
        intents.remove(key).is_some_and(|intent| intent.write.is_some())
    }

    fn steps(&self) -> usize {
        let history = open(&self.recorder.ledger);
        match history.entries.get(self.id).map(|entry| &entry.what) {
            Some(What::Transaction(told)) => told.steps.len(),
            Some(What::Snapshot(read)) => read.steps.len(),
            Some(What::Register(_) | What::Timestamp(_) | What::Other(_)) | None => 0,
        }
    }

    fn step(&self, step: Step) {
        self.change(|what| match what {
            What::Transaction(told) => told.steps.push(step),
            What::Snapshot(read) => read.steps.push(step),
            What::Register(_) | What::Timestamp(_) | What::Other(_) => {}
        });
    }

    fn failed(&self, error: Error) -> Error {
        if let Some(entry) = open(&self.recorder.ledger).entries.get_mut(self.id) {
            entry.error = Some(error.kind().clone());
        }
        error
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = self.recorder.client.true_now();
        let mut history = open(&self.recorder.ledger);
        history.end(self.id, now);
        self.close(&mut history);
    }
}

impl Open {
    /// Nobody is there any more to be told.
    fn close(&self, history: &mut History) {
        let Some(entry) = history.entries.get_mut(self.id) else { return };
        match &mut entry.what {
            What::Transaction(told) if told.outcome == Outcome::Running => {
                told.outcome = match told.commit_began {
                    Some(_) => Outcome::Crashed,
                    None => Outcome::Aborted,
                };
            }
            What::Register(op) if op.answer == RegisterAnswer::Pending => {
                op.answer = RegisterAnswer::Undetermined;
            }
            What::Transaction(_)
            | What::Register(_)
            | What::Snapshot(_)
            | What::Timestamp(_)
            | What::Other(_) => {}
        }
    }
}

/// A transaction whose every step is written down. Dropping it rolls it back.
#[derive(Debug)]
pub struct RecordedTransaction {
    txn: Transaction,
    entry: Open,
}

impl RecordedTransaction {
    /// The transaction itself. What is done past the recorder, the history does not know.
    pub fn unrecorded(&self) -> &Transaction {
        &self.txn
    }

    /// Its place in the history.
    pub fn id(&self) -> Id {
        self.entry.id
    }

    async fn call<T>(&self, call: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        self.entry.prolong();
        let told = call.await;
        self.entry.settle();
        told.map_err(|error| self.entry.failed(error))
    }

    /// Reads from the snapshot and the transaction's own writes.
    ///
    /// # Errors
    /// Those of the client; likewise below.
    pub async fn get(&self, key: &Bytes) -> Result<Held> {
        let value = self.call(self.txn.get(key.clone())).await?;
        self.entry.step(Step::Read { key: key.clone(), value: value.clone() });
        Ok(value)
    }

    /// The same of many. Values are in the order of the keys.
    pub async fn batch_get(&self, keys: &[Bytes]) -> Result<Vec<Held>> {
        let values = self.call(self.txn.batch_get(keys.iter().cloned())).await?;
        for (key, value) in keys.iter().zip(&values) {
            self.entry.step(Step::Read { key: key.clone(), value: value.clone() });
        }
        Ok(values)
    }

    /// Reads a range.
    pub async fn scan(
        &self,
        range: Range,
        limit: u32,
        reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let asked = match reverse {
            false => self.call(self.txn.scan(range.bounds(), limit)).await?,
            true => self.call(self.txn.scan_reverse(range.bounds(), limit)).await?,
        };
        let pairs = plain(asked);
        self.entry.step(range.scan(limit, reverse, pairs.clone()));
        Ok(pairs)
    }

    /// Locks keys, all at once, and reads what they hold now; an optimistic transaction reads from its
    /// snapshot and finds out at its commit.
    pub async fn lock_and_read(&self, keys: &[Bytes]) -> Result<Vec<Held>> {
        let values = self.call(self.txn.batch_get_for_update(keys.iter().cloned())).await?;
        self.read_locked(keys, &values);
        Ok(values)
    }

    /// Locks keys one by one in a fair statement of so many attempts, and reads what they hold.
    pub async fn lock_fairly(&self, keys: &[Bytes], attempts: u32) -> Result<Vec<Held>> {
        self.txn.start_fair_locking()?;
        let told = self.attempt_fairly(keys, attempts).await;
        // It may have ended by itself.
        if self.txn.is_in_fair_locking() {
            match told {
                Ok(_) => self.txn.done_fair_locking()?,
                Err(_) => self.txn.cancel_fair_locking()?,
            }
        }
        let values = told?;
        self.read_locked(keys, &values);
        Ok(values)
    }

    async fn attempt_fairly(&self, keys: &[Bytes], attempts: u32) -> Result<Vec<Held>> {
        let mut values = Vec::new();
        for attempt in 0..attempts.max(1) {
            if attempt > 0 {
                self.txn.retry_fair_locking()?;
                values.clear();
            }
            for key in keys {
                values.push(self.call(self.txn.get_for_update(key.clone())).await?);
            }
        }
        Ok(values)
    }

    fn read_locked(&self, keys: &[Bytes], values: &[Held]) {
        let pessimistic = self.txn.is_pessimistic();
        for (key, value) in keys.iter().zip(values) {
            self.entry.step(Step::Lock { key: key.clone(), for_update_ts: None });
            let (key, value) = (key.clone(), value.clone());
            self.entry.step(match pessimistic {
                true => Step::ReadLocked { key, value },
                false => Step::Read { key, value },
            });
        }
    }

    /// Locks keys as `how` says, and reads what it tells of them.
    pub async fn lock_as(&self, keys: &[Bytes], how: LockAs) -> Result<Vec<LockedKey>> {
        let mut request = self.txn.lock_keys(keys.iter().cloned());
        if let Some(wait) = how.wait {
            request = if wait.is_zero() { request.no_wait() } else { request.wait(wait) };
        }
        if how.only_if_exists {
            // Whoever locks only what exists has to read it.
            request = request.return_values().only_if_exists();
        } else if how.return_values {
            request = request.return_values();
        }
        if how.check_existence {
            request = request.check_existence();
        }
        let told = self.call(request).await?;
        for locked in told.iter().filter(|locked| locked.locked) {
            let key = Bytes::from(locked.key.clone());
            self.entry.step(Step::Lock { key: key.clone(), for_update_ts: None });
            if self.entry.has_written(&key) {
                // What is told is what was there before its own writes.
                continue;
            }
            let value = match (&locked.value, locked.existed) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(false)) => None,
                (None, Some(true) | None) => continue,
            };
            self.entry.step(match self.txn.is_pessimistic() {
                true => Step::ReadLocked { key, value },
                false => Step::Read { key, value },
            });
        }
        Ok(told)
    }

    /// A moment to which the transaction can be taken back.
    pub fn savepoint(&self) -> RecordedSavepoint {
        RecordedSavepoint { inner: self.txn.savepoint(), steps: self.entry.steps() }
    }

    /// Takes the transaction back. Locks stay.
    pub fn roll_back_to(&self, savepoint: RecordedSavepoint) -> Result<()> {
        self.txn.roll_back_to(savepoint.inner).map_err(|error| self.entry.failed(error))?;
        self.entry.told(|told| {
            let undone = told.steps.split_off(savepoint.steps.min(told.steps.len()));
            let pessimistic = told.mode == Mode::Pessimistic;
            told.steps.extend(undone.into_iter().filter_map(|step| match step {
                Step::Lock { .. } => Some(step),
                // It was locked before it was written.
                Step::Write { key, .. } | Step::Insert { key, .. } | Step::Append { key, .. } => {
                    pessimistic.then_some(Step::Lock { key, for_update_ts: None })
                }
                Step::Read { .. } | Step::Scan(_) | Step::ReadLocked { .. } => None,
            }));
        });
        Ok(())
    }

    /// Locks keys without reading them.
    pub async fn lock(&self, keys: &[Bytes]) -> Result<()> {
        self.call(self.txn.lock_keys(keys.iter().cloned())).await?;
        for key in keys {
            self.entry.step(Step::Lock { key: key.clone(), for_update_ts: None });
        }
        Ok(())
    }

    /// Writes a key, or deletes it.
    pub async fn write(&self, key: &Bytes, value: Held) -> Result<()> {
        match value.clone() {
            Some(value) => self.call(self.txn.put(key.clone(), value)).await?,
            None => self.call(self.txn.delete(key.clone())).await?,
        }
        self.entry.step(Step::Write { key: key.clone(), value });
        Ok(())
    }

    /// Writes a key on condition that there is none.
    pub async fn insert(&self, key: &Bytes, value: Bytes) -> Result<()> {
        self.call(self.txn.insert(key.clone(), value.clone())).await?;
        self.entry.step(Step::Insert { key: key.clone(), value });
        Ok(())
    }

    /// Writes a [list](encode_list) that was just read, with one more element at its end.
    pub async fn append(&self, key: &Bytes, list: &[u64], element: u64) -> Result<()> {
        let mut list = list.to_vec();
        list.push(element);
        let value = encode_list(&list);
        self.call(self.txn.put(key.clone(), value.clone())).await?;
        self.entry.step(Step::Append { key: key.clone(), element, value });
        Ok(())
    }

    /// Commits.
    pub async fn commit(self) -> CommitOutcome {
        self.commit_within(None).await
    }

    /// Commits within a time of its own.
    pub async fn commit_within(self, timeout: Option<Duration>) -> CommitOutcome {
        let Self { txn, entry } = self;
        let now = entry.recorder.client.true_now();
        entry.prolong();
        entry.told(|told| told.commit_began = Some(now));
        let outcome = match timeout {
            Some(timeout) => txn.commit().timeout(timeout).outcome().await,
            None => txn.commit_outcome().await,
        };
        entry.told(|told| {
            told.outcome = match &outcome {
                CommitOutcome::Committed { at, by } => {
                    Outcome::Committed { at: at.map_or(0, Timestamp::version), by: *by }
                }
                CommitOutcome::Aborted(_) => Outcome::Aborted,
                CommitOutcome::Undetermined(_) => Outcome::Undetermined,
            }
        });
        match &outcome {
            CommitOutcome::Committed { .. } => {}
            CommitOutcome::Aborted(error) | CommitOutcome::Undetermined(error) => {
                drop(entry.failed(error.clone()));
            }
        }
        outcome
    }

    /// Rolls it back, and waits until that is done.
    pub async fn rollback(self) -> Result<()> {
        let Self { txn, entry } = self;
        entry.prolong();
        txn.rollback().await.map_err(|error| entry.failed(error))
    }
}

/// How keys are locked: see the methods of [`LockRequest`](anatase_client::LockRequest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockAs {
    /// How long others' locks are waited for; zero is not at all. `None`: as long as the call may take.
    pub wait: Option<Duration>,
    /// Tell the values.
    pub return_values: bool,
    /// Tell whether there are values.
    pub check_existence: bool,
    /// Lock only what exists. The values are told.
    pub only_if_exists: bool,
}

/// A moment in a transaction.
#[derive(Clone, Copy, Debug)]
pub struct RecordedSavepoint {
    inner: Savepoint,
    steps: usize,
}

/// A snapshot whose every read is written down.
#[derive(Debug)]
pub struct RecordedSnapshot {
    snapshot: Snapshot,
    entry: Open,
}

impl RecordedSnapshot {
    async fn call<T>(&self, call: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        self.entry.prolong();
        let told = call.await;
        self.entry.settle();
        told.map_err(|error| self.entry.failed(error))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// Those of the client; likewise below.
    pub async fn get(&self, key: &Bytes) -> Result<Held> {
        let value = self.call(self.snapshot.get(key.clone())).await?;
        self.entry.step(Step::Read { key: key.clone(), value: value.clone() });
        Ok(value)
    }

    /// Reads many keys. Values are in the order of the keys.
    pub async fn batch_get(&self, keys: &[Bytes]) -> Result<Vec<Held>> {
        let values = self.call(self.snapshot.batch_get(keys.iter().cloned())).await?;
        for (key, value) in keys.iter().zip(&values) {
            self.entry.step(Step::Read { key: key.clone(), value: value.clone() });
        }
        Ok(values)
    }

    /// Reads a range.
    pub async fn scan(
        &self,
        range: Range,
        limit: u32,
        reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let asked = match reverse {
            false => self.call(self.snapshot.scan(range.bounds(), limit)).await?,
            true => self.call(self.snapshot.scan_reverse(range.bounds(), limit)).await?,
        };
        let pairs = plain(asked);
        self.entry.step(range.scan(limit, reverse, pairs.clone()));
        Ok(pairs)
    }
}

fn plain(pairs: Vec<anatase_client::KvPair>) -> Vec<(Bytes, Bytes)> {
    let plain = |pair: anatase_client::KvPair| (pair.key().clone().into(), pair.into_value());
    pairs.into_iter().map(plain).collect()
}

/// A range of keys from one to before another; without an end if that is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first key.
    pub start: Bytes,
    /// The first key beyond.
    pub end: Bytes,
}

impl Range {
    /// All keys that begin with a prefix, which ends with a byte below 255.
    pub fn prefix(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        Self { start: Bytes::copy_from_slice(prefix.as_bytes()), end: end.into() }
    }

    fn bounds(&self) -> BoundRange {
        match self.end.is_empty() {
            true => BoundRange::range_from(self.start.clone()),
            false => (self.start.clone()..self.end.clone()).into(),
        }
    }

    fn scan(&self, limit: u32, reverse: bool, pairs: Vec<(Bytes, Bytes)>) -> Step {
        let (start, end) = (self.start.clone(), self.end.clone());
        Step::Scan(Scan { start, end, limit: limit as usize, reverse, key_only: false, pairs })
    }
}
