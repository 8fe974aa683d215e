//! What the cluster knows, against what clients were told.
//!
//! | told | found |
//! |---|---|
//! | committed at `t` | every key that it wrote, at `t`, with what it wrote |
//! | aborted, or its commit never asked for | nothing, ever |
//! | undetermined, or nobody was there to be told | all of it at one timestamp, or nothing |
//!
//! A transaction can be committed while some of its locks are still there: whoever meets them will
//! make records of them. [`Truth::resolved`] does what such a reader would do (`transactions.md`
//! §20.1, §20.2), so that a history can be judged before every lock was met. What remains locked
//! then is not committed, as far as anybody can tell; that it remains is for
//! [`residue`](super::residue) to say.

use std::collections::{BTreeMap, BTreeSet};

use anatase_cluster::{Cluster, LockKind, WriteKind};
use bytes::Bytes;

use super::{Anomaly, Checker, Violation};
use crate::history::{Entry, Held, History, Intent, Outcome, Transaction, held, text};

/// The cluster's records of transactions, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// What was committed of each key, oldest first. Rollbacks are not here.
    pub versions: BTreeMap<Bytes, Vec<Version>>,
    /// The locks, in key order.
    pub locks: Vec<Lock>,
    /// Start timestamps of transactions that the history does not tell of, such as those that
    /// loaded the data.
    pub foreign: BTreeSet<u64>,
    /// Versions at or below it may have been collected as garbage. 0 if none were.
    pub safe_point: u64,
}

/// What a transaction left on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// When it was committed.
    pub commit_ts: u64,
    /// The transaction.
    pub start_ts: u64,
    /// What it did.
    pub effect: Effect,
}

/// What a transaction does to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It has this value now.
    Put(Bytes),
    /// It is gone.
    Delete,
    /// It was only locked.
    Lock,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// What it is on.
    pub key: Bytes,
    /// The primary of its transaction.
    pub primary: Bytes,
    /// The transaction.
    pub start_ts: u64,
    /// What it will become; `None` if it was never prewritten and becomes nothing.
    pub effect: Option<Effect>,
    /// Its transaction is committed as soon as all locks are there.
    pub use_async_commit: bool,
    /// No smaller commit timestamp is taken.
    pub min_commit_ts: u64,
    /// On the primary of an async commit: its other locks.
    pub secondaries: Vec<Bytes>,
}

impl Effect {
    /// What a reader finds, if it is this that it finds.
    pub fn held(&self) -> Option<Held> {
        match self {
            Self::Put(value) => Some(Some(value.clone())),
            Self::Delete => Some(None),
            Self::Lock => None,
        }
    }
}

impl Truth {
    /// What a cluster knows of the keys that begin with `prefix`, with that taken off: the keyspace,
    /// in API version 2, and else nothing.
    pub fn of(cluster: &Cluster, prefix: &[u8]) -> Self {
        let strip = |key: &Bytes| key.starts_with(prefix).then(|| key.slice(prefix.len()..));
        let versions = cluster
            .txn_keys()
            .filter_map(|key| {
                let mut versions: Vec<Version> = cluster
                    .writes(key)
                    .into_iter()
                    .filter_map(|write| {
                        let effect = match write.kind {
                            WriteKind::Put => Effect::Put(write.value),
                            WriteKind::Delete => Effect::Delete,
                            WriteKind::Lock => Effect::Lock,
                            WriteKind::Rollback => return None,
                        };
                        let (commit_ts, start_ts) = (write.commit_ts, write.start_ts);
                        Some(Version { commit_ts, start_ts, effect })
                    })
                    .collect();
                versions.reverse();
                Some((strip(key)?, versions))
            })
            .collect();
        let locks = cluster
            .locks()
            .into_iter()
            .filter_map(|lock| {
                let effect = match lock.kind {
                    LockKind::Put => Some(Effect::Put(lock.value)),
                    LockKind::Delete => Some(Effect::Delete),
                    LockKind::Lock => Some(Effect::Lock),
                    LockKind::Pessimistic => None,
                };
                Some(Lock {
                    key: strip(&lock.key)?,
                    primary: strip(&lock.primary)?,
                    start_ts: lock.start_ts,
                    effect,
                    use_async_commit: lock.use_async_commit,
                    min_commit_ts: lock.min_commit_ts,
                    secondaries: lock.secondaries.iter().filter_map(strip).collect(),
                })
            })
            .collect();
        Self { versions, locks, ..Self::default() }
    }

    /// The truth as it is once every lock of a committed transaction was met by somebody.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        let mut by_start: BTreeMap<u64, Vec<&Lock>> = BTreeMap::new();
        for lock in &self.locks {
            by_start.entry(lock.start_ts).or_default().push(lock);
        }
        let mut decided: BTreeMap<u64, u64> = BTreeMap::new();
        for version in self.versions.values().flatten() {
            if by_start.contains_key(&version.start_ts) {
                decided.insert(version.start_ts, version.commit_ts);
            }
        }
        for (start_ts, locks) in &by_start {
            if !decided.contains_key(start_ts)
                && let Some(commit_ts) = committed_by_locks(locks)
            {
                decided.insert(*start_ts, commit_ts);
            }
        }
        resolved.locks.clear();
        for lock in &self.locks {
            match (decided.get(&lock.start_ts), &lock.effect) {
                (Some(commit_ts), Some(effect)) => {
                    let (commit_ts, start_ts) = (*commit_ts, lock.start_ts);
                    let version = Version { commit_ts, start_ts, effect: effect.clone() };
                    let versions = resolved.versions.entry(lock.key.clone()).or_default();
                    let place = versions.partition_point(|other| other.commit_ts <= commit_ts);
                    versions.insert(place, version);
                }
                (Some(_), None) | (None, _) => resolved.locks.push(lock.clone()),
            }
        }
        resolved
    }

    /// The newest of a key's versions at or below a timestamp that a reader can find.
    pub fn visible(&self, key: &[u8], ts: u64) -> Option<&Version> {
        let versions = self.versions.get(key)?;
        let end = versions.partition_point(|version| version.commit_ts <= ts);
        versions[..end].iter().rev().find(|version| version.effect != Effect::Lock)
    }

    /// What a key holds at a timestamp.
    pub fn held(&self, key: &[u8], ts: u64) -> Held {
        self.visible(key, ts).and_then(|version| version.effect.held()).flatten()
    }
}

/// The commit timestamp of an async commit of which every lock is there, and no record yet.
fn committed_by_locks(locks: &[&Lock]) -> Option<u64> {
    let primary = locks.iter().find(|lock| lock.key == lock.primary)?;
    let held: BTreeMap<&Bytes, &&Lock> = locks.iter().map(|lock| (&lock.key, lock)).collect();
    let mut commit_ts = 0;
    for key in primary.secondaries.iter().chain([&primary.key]) {
        let lock = held.get(key).filter(|lock| lock.use_async_commit)?;
        commit_ts = commit_ts.max(lock.min_commit_ts);
    }
    Some(commit_ts)
}

/// Where a transaction left something, and what.
type Traces<'a> = BTreeMap<u64, Vec<(&'a Bytes, &'a Version)>>;

/// Holds what was told against what is there. Linear but for sorting.
pub fn check(history: &History, truth: &Truth) -> Vec<Violation> {
    let truth = truth.resolved();
    let mut traces: Traces<'_> = BTreeMap::new();
    for (key, versions) in &truth.versions {
        for version in versions {
            traces.entry(version.start_ts).or_default().push((key, version));
        }
    }
    let mut found = Vec::new();
    let mut known: BTreeMap<u64, &Entry> = BTreeMap::new();
    for (entry, txn) in history.transactions() {
        let Some(start_ts) = txn.start_ts else { continue };
        if let Some(other) = known.insert(start_ts, entry) {
            let story = format!("two transactions began at {start_ts}");
            let violation = violation(Anomaly::DuplicateStart, story);
            found.push(violation.by(history, [other.id, entry.id]));
        }
        let traces = traces.get(&start_ts).map(Vec::as_slice).unwrap_or_default();
        if let Some((anomaly, story)) = judge(start_ts, txn, traces, &truth) {
            found.push(violation(anomaly, story).by(history, [entry.id]));
        }
    }
    for (start_ts, traces) in &traces {
        let told = known.contains_key(start_ts) || truth.foreign.contains(start_ts);
        if !told && let Some((key, version)) = traces.first() {
            let story = format!("nobody ran it: {} has {}", text(key), describe(version));
            found.push(violation(Anomaly::UnknownTransaction, story));
        }
    }
    found
}

fn violation(anomaly: Anomaly, story: String) -> Violation {
    Violation::new(Checker::Truth, anomaly, story)
}

/// A version, to be read by people.
pub(crate) fn describe(version: &Version) -> String {
    let what = match &version.effect {
        Effect::Put(value) => held(Some(value)),
        Effect::Delete => "a deletion".to_owned(),
        Effect::Lock => "a mere lock".to_owned(),
    };
    format!("{what} committed @{} by the transaction @{}", version.commit_ts, version.start_ts)
}

fn judge(
    start_ts: u64,
    txn: &Transaction,
    traces: &[(&Bytes, &Version)],
    truth: &Truth,
) -> Option<(Anomaly, String)> {
    let first = traces.first();
    let told_at = match (txn.outcome, first) {
        (Outcome::Aborted, Some((key, version))) => {
            let story = format!("told as aborted, and {} has {}", text(key), describe(version));
            return Some((Anomaly::AbortedButVisible, story));
        }
        (Outcome::Running | Outcome::Crashed, Some((key, version)))
            if txn.commit_began.is_none() =>
        {
            let story = format!("no commit asked for, and {} has {}", text(key), describe(version));
            return Some((Anomaly::UnaskedCommit, story));
        }
        (Outcome::Aborted, None) => return None,
        (Outcome::Committed { at, .. }, _) => Some(at),
        (Outcome::Running | Outcome::Undetermined | Outcome::Crashed, None) => return None,
        (Outcome::Running | Outcome::Undetermined | Outcome::Crashed, Some(_)) => None,
    };
    let intents = txn.intents();
    let at = told_at.or_else(|| first.map(|(_, version)| version.commit_ts))?;
    for (key, version) in traces {
        if version.commit_ts != at {
            let told = if told_at.is_some() { "told as" } else { "elsewhere" };
            let story =
                format!("{told} committed @{at}, and {} has {}", text(key), describe(version));
            return Some((Anomaly::WrongCommitTimestamp, story));
        }
        let Some(intent) = intents.get(*key) else {
            let story = format!("it did not write {}, which has {}", text(key), describe(version));
            return Some((Anomaly::ForeignKey, story));
        };
        if !intent.allows(&version.effect) {
            let story = format!("{} has {}", text(key), describe(version));
            return Some((Anomaly::WrongValue, story));
        }
    }
    // What could be collected as garbage may be missing.
    if at <= truth.safe_point {
        return None;
    }
    let there: BTreeSet<&Bytes> = traces.iter().map(|(key, _)| *key).collect();
    let missing = intents.iter().find(|(key, intent)| intent.leaves() && !there.contains(key));
    let (key, _) = missing?;
    let locked = truth.locks.iter().any(|lock| lock.start_ts == start_ts && lock.key == key);
    let state = if locked { "is still locked by it" } else { "has nothing of it" };
    Some(match first {
        Some((other, version)) => {
            let story =
                format!("{} has {}, and {} {state}", text(other), describe(version), text(key));
            (Anomaly::TornCommit, story)
        }
        None => {
            (Anomaly::LostCommit, format!("told as committed @{at}, and {} {state}", text(key)))
        }
    })
}

impl Intent {
    /// Whether a record of its commit must be there.
    fn leaves(&self) -> bool {
        match &self.write {
            Some(Some(_)) => true,
            Some(None) => !self.inserted,
            // A lock may be let go of, or its record left out, where nothing is written.
            None => false,
        }
    }

    fn allows(&self, effect: &Effect) -> bool {
        match (&self.write, effect) {
            (Some(Some(value)), Effect::Put(found)) => value == found,
            (Some(None), Effect::Delete) => true,
            // Inserted and deleted again: the key is only looked at.
            (Some(None), Effect::Lock) => self.inserted,
            (None, Effect::Lock) => true,
            (Some(_) | None, Effect::Put(_) | Effect::Delete | Effect::Lock) => false,
        }
    }
}
