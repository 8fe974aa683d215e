//! A transaction that is written down.

use std::time::Duration;

use anatase_client::{Bytes, CommitOutcome, LockedKey, Result, Savepoint, Timestamp, Transaction};

use super::Open;
use super::snapshot::Range;
use crate::history::{Held, Id, Mode, Outcome, Step, encode_list};

/// A transaction whose every step is written down. Dropping it rolls it back.
#[derive(Debug)]
pub struct RecordedTransaction {
    txn: Transaction,
    entry: Open,
}

impl RecordedTransaction {
    pub(super) fn new(txn: Transaction, entry: Open) -> Self {
        Self { txn, entry }
    }

    /// The transaction itself. What is done past the recorder, the history does not know.
    pub fn unrecorded(&self) -> &Transaction {
        &self.txn
    }

    /// Its place in the history.
    pub fn id(&self) -> Id {
        self.entry.id
    }

    /// Reads from the snapshot and the transaction's own writes.
    ///
    /// # Errors
    /// Those of the client; likewise below.
    pub async fn get(&self, key: &Bytes) -> Result<Held> {
        let value = self.entry.call(self.txn.get(key.clone())).await?;
        self.entry.read(key, &value);
        Ok(value)
    }

    /// The same of many. Values are in the order of the keys.
    pub async fn batch_get(&self, keys: &[Bytes]) -> Result<Vec<Held>> {
        let values = self.entry.call(self.txn.batch_get(keys.iter().cloned())).await?;
        keys.iter().zip(&values).for_each(|(key, value)| self.entry.read(key, value));
        Ok(values)
    }

    /// Reads a range.
    pub async fn scan(
        &self,
        range: Range,
        limit: u32,
        reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let pairs = match reverse {
            false => self.entry.call(self.txn.scan(range.bounds(), limit)).await?,
            true => self.entry.call(self.txn.scan_reverse(range.bounds(), limit)).await?,
        };
        Ok(self.entry.scanned(&range, limit, reverse, pairs))
    }

    /// Locks keys, all at once, and reads what they hold now; an optimistic transaction reads from its
    /// snapshot and finds out at its commit.
    pub async fn lock_and_read(&self, keys: &[Bytes]) -> Result<Vec<Held>> {
        let values = self.entry.call(self.txn.batch_get_for_update(keys.iter().cloned())).await?;
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
                values.push(self.entry.call(self.txn.get_for_update(key.clone())).await?);
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
        let told = self.entry.call(request).await?;
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
        self.entry.call(self.txn.lock_keys(keys.iter().cloned())).await?;
        for key in keys {
            self.entry.step(Step::Lock { key: key.clone(), for_update_ts: None });
        }
        Ok(())
    }

    /// Writes a key, or deletes it.
    pub async fn write(&self, key: &Bytes, value: Held) -> Result<()> {
        match value.clone() {
            Some(value) => self.entry.call(self.txn.put(key.clone(), value)).await?,
            None => self.entry.call(self.txn.delete(key.clone())).await?,
        }
        self.entry.step(Step::Write { key: key.clone(), value });
        Ok(())
    }

    /// Writes a key on condition that there is none.
    pub async fn insert(&self, key: &Bytes, value: Bytes) -> Result<()> {
        self.entry.call(self.txn.insert(key.clone(), value.clone())).await?;
        self.entry.step(Step::Insert { key: key.clone(), value });
        Ok(())
    }

    /// Writes a [list](encode_list) that was just read, with one more element at its end.
    pub async fn append(&self, key: &Bytes, list: &[u64], element: u64) -> Result<()> {
        let mut list = list.to_vec();
        list.push(element);
        let value = encode_list(&list);
        self.entry.call(self.txn.put(key.clone(), value.clone())).await?;
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
