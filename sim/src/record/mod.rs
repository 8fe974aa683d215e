//! Clients that write down what they do and what they see, for the [checkers](crate::check).
//!
//! A [`Recorder`] belongs to one life of one client. What is begun through it is in the
//! [`History`] from its first instant, and is closed there when its owner drops it or its client
//! dies: nothing has to be written down by hand, and nothing is missing.

mod snapshot;
mod transaction;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anatase_client::{
    Bytes, Error, Instant, KvPair, RawClient, Result, Snapshot, Timestamp, TransactionClient,
    TransactionOptions,
};

pub use self::snapshot::{Range, RecordedSnapshot};
pub use self::transaction::{LockAs, RecordedSavepoint, RecordedTransaction};
use crate::client::SimClient;
use crate::history::{
    Held, History, Id, Mode, Outcome, RegisterAnswer, RegisterCall, RegisterOp, Scan, SnapshotRead,
    Step, Transaction as Told, What,
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
                Ok(RecordedTransaction::new(txn, entry))
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
        RecordedSnapshot::new(snapshot, entry)
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

    /// One call of something that may make many.
    async fn call<T>(&self, call: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        self.prolong();
        let told = call.await;
        self.settle();
        told.map_err(|error| self.failed(error))
    }

    fn read(&self, key: &Bytes, value: &Held) {
        self.step(Step::Read { key: key.clone(), value: value.clone() });
    }

    /// A range was read: what was found, as plain pairs.
    fn scanned(
        &self,
        range: &Range,
        limit: u32,
        reverse: bool,
        pairs: Vec<KvPair>,
    ) -> Vec<(Bytes, Bytes)> {
        let plain = |pair: KvPair| (pair.key().clone().into(), pair.into_value());
        let pairs: Vec<(Bytes, Bytes)> = pairs.into_iter().map(plain).collect();
        let (start, end) = (range.start.clone(), range.end.clone());
        let (limit, key_only) = (limit as usize, false);
        self.step(Step::Scan(Scan { start, end, limit, reverse, key_only, pairs: pairs.clone() }));
        pairs
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
    /// Nobody is there any more to be told.
    fn drop(&mut self) {
        let now = self.recorder.client.true_now();
        if let Some(entry) = open(&self.recorder.ledger).entries.get_mut(self.id) {
            entry.give_up(now, |told| match told.commit_began {
                Some(_) => Outcome::Crashed,
                None => Outcome::Aborted,
            });
        }
    }
}
