//! The store of versions: Percolator's three columns, and the actions on them.
//!
//! A key has at most one lock, and records of what transactions did to it, newest first. TiKV
//! keeps values apart from locks and records; here a value travels in its lock and then in its
//! record, because nothing a client sees depends on where it is.
//!
//! An action reads the store as it is and returns the [`Change`]s to make, all or none, as a
//! scheduler command of TiKV returns its writes. One action a file:
//!
//! | file | action | rules |
//! |---|---|---|
//! | [`read`] | get, scan | transactions.md §20.4, last rule |
//! | [`pessimistic`] | lock keys for a transaction that has not ended, and let go of them | §13, §14, §20.4 |
//! | [`prewrite`] | prewrite of transactions of both kinds, for each way to commit | §20.3, §8.5 |
//! | [`commit`] | commit | §20.4 |
//! | [`rollback`] | roll back, clean up, what a rollback leaves behind | §20.4 |
//! | [`status`] | check a transaction's status, heartbeat | §20.1, §20.4 |
//! | [`secondary`] | check the secondary locks of an async commit | §20.2 |
//! | [`resolve`] | resolve locks | §16 |
//! | [`inspect`] | garbage collection; what tests look at | |
//!
//! Between the moment at which a store decides on a commit timestamp and the moment at which the
//! lock or the record is there to be read, TiKV keeps the key locked in memory, so that no read
//! slips in between. Here an action is applied in one piece: there is no such moment, and no such
//! lock. What a client can tell of them is nothing but that such reads wait.
//!
//! What changes about locks is noted as [`LockEvent`]s: requests may be parked until a lock is gone
//! ([`crate::lock_wait`]).
//!
//! Not modelled: shared locks, pipelined flushes, flashback.

pub(crate) mod commit;
mod error;
pub(crate) mod inspect;
pub(crate) mod pessimistic;
pub(crate) mod prewrite;
pub(crate) mod read;
pub(crate) mod resolve;
pub(crate) mod rollback;
pub(crate) mod secondary;
pub(crate) mod status;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Bound};

use anatase_proto::kvrpcpb::{LockInfo, Op};
use bytes::Bytes;

pub(crate) use self::error::{Deadlock, KeyError, NotFound, Reason};
use crate::codec::encode_key;

/// A key, in both forms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) user: Bytes,
    /// Memcomparable: what regions and the store are ordered by.
    pub(crate) encoded: Bytes,
}

impl Key {
    pub(crate) fn new(user: Bytes) -> Self {
        let encoded = encode_key(&user);
        Key { user, encoded }
    }
}

/// What a lock will become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKind {
    /// A value.
    Put,
    /// A deletion.
    Delete,
    /// Nothing: the key is only locked.
    Lock,
    /// That is open: its transaction has not ended, and only keeps others from writing the key. It
    /// is in no reader's way.
    Pessimistic,
}

/// A lock, prewritten or pessimistic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lock {
    pub(crate) kind: LockKind,
    pub(crate) primary: Bytes,
    pub(crate) start_ts: u64,
    /// Milliseconds from the physical part of `start_ts`.
    pub(crate) ttl: u64,
    pub(crate) value: Bytes,
    pub(crate) txn_size: u64,
    pub(crate) min_commit_ts: u64,
    /// Its transaction is committed as soon as all of its locks are there.
    pub(crate) use_async_commit: bool,
    /// On the primary of an async commit: the user keys of all other locks.
    pub(crate) secondaries: Vec<Bytes>,
    /// Start timestamps of transactions that were rolled back, protected, on this key while this
    /// lock was on it. If it is committed at one of them, the record must tell of that rollback.
    pub(crate) rollback_ts: Vec<u64>,
    /// Of a pessimistic transaction, when it last looked at the key; of others 0.
    pub(crate) for_update_ts: u64,
    /// A pessimistic lock that was granted in spite of newer data: it may be a stale one, of a
    /// transaction that has ended.
    pub(crate) locked_with_conflict: bool,
}

impl Lock {
    pub(crate) fn is_pessimistic(&self) -> bool {
        self.kind == LockKind::Pessimistic
    }

    /// As told to clients.
    pub(crate) fn to_info(&self, key: &Bytes) -> LockInfo {
        LockInfo {
            primary_lock: self.primary.clone(),
            lock_version: self.start_ts,
            key: key.clone(),
            lock_ttl: self.ttl,
            txn_size: self.txn_size,
            lock_type: match self.kind {
                LockKind::Put => Op::Put,
                LockKind::Delete => Op::Del,
                LockKind::Lock => Op::Lock,
                LockKind::Pessimistic => Op::PessimisticLock,
            } as i32,
            lock_for_update_ts: self.for_update_ts,
            use_async_commit: self.use_async_commit,
            min_commit_ts: self.min_commit_ts,
            secondaries: self.secondaries.clone(),
            ..LockInfo::default()
        }
    }
}

/// What a transaction did to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteKind {
    /// It wrote a value.
    Put,
    /// It deleted the key.
    Delete,
    /// It only locked it.
    Lock,
    /// It was rolled back.
    Rollback,
}

/// A record of what a transaction did to a key, at its commit timestamp; a rollback's is the
/// transaction's start timestamp.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) commit_ts: u64,
    pub(crate) kind: WriteKind,
    pub(crate) start_ts: u64,
    pub(crate) value: Bytes,
    /// A rollback that must not be collapsed: without it a late prewrite would succeed.
    pub(crate) protected: bool,
    /// Another transaction, which started exactly when this one committed, was rolled back.
    pub(crate) overlapped_rollback: bool,
}

/// What is found of a transaction on a key that it does not hold a lock on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Committed(u64),
    RolledBack,
    /// Nothing. If another transaction's record stands where a rollback of this one would, that
    /// record.
    Nothing(Option<Record>),
}

/// One change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Sets the lock, in place of one that is there.
    Lock(Key, Lock),
    Unlock(Key),
    /// Sets the record at its commit timestamp, in place of one that is there.
    Record(Key, Record),
    /// Removes the record at a commit timestamp.
    Forget(Key, u64),
}

/// What happened to the lock of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LockEvent {
    /// It is gone; `commit_ts` is 0 unless it was committed.
    Released { key: Key, start_ts: u64, commit_ts: u64 },
    /// A key without a lock got this one.
    Taken { key: Key, lock: Box<Lock> },
}

/// So many transactions are remembered as committed, those that began last.
const KNOWN_COMMITTED: usize = 4096;

#[derive(Clone, Debug, Hash)]
struct Entry {
    user_key: Bytes,
    lock: Option<Lock>,
    /// Newest first.
    records: Vec<Record>,
}

/// All versions of all keys.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Mvcc {
    /// By memcomparable key. An entry without lock and records is removed.
    entries: BTreeMap<Bytes, Entry>,
    /// What happened to locks since it was last asked for.
    events: Vec<LockEvent>,
    /// Transactions that were seen to be committed, by start timestamp (a store of TiKV remembers
    /// them, too, for a while; here one memory serves all stores).
    committed: BTreeMap<u64, u64>,
}

impl Mvcc {
    pub(crate) fn lock(&self, key: &Key) -> Option<&Lock> {
        self.entries.get(&key.encoded)?.lock.as_ref()
    }

    /// The records of a key, newest first.
    fn records(&self, key: &Key) -> &[Record] {
        self.entries.get(&key.encoded).map_or(&[], |entry| &entry.records)
    }

    /// The lock on the key, if this transaction holds it.
    fn own_lock(&self, key: &Key, start_ts: u64) -> Option<&Lock> {
        self.lock(key).filter(|lock| lock.start_ts == start_ts)
    }

    /// What records say of a transaction.
    pub(crate) fn find(&self, key: &Key, start_ts: u64) -> Found {
        for record in self.records(key) {
            if record.start_ts == start_ts {
                return match record.kind {
                    WriteKind::Rollback => Found::RolledBack,
                    _ => Found::Committed(record.commit_ts),
                };
            }
            if record.commit_ts == start_ts {
                return if record.overlapped_rollback {
                    Found::RolledBack
                } else {
                    Found::Nothing(Some(record.clone()))
                };
            }
            if record.commit_ts < start_ts {
                break;
            }
        }
        Found::Nothing(None)
    }

    /// The entries of `[start, end)`, memcomparable; an empty end is unbounded.
    fn range(&self, start: &[u8], end: &[u8]) -> impl DoubleEndedIterator<Item = (&Bytes, &Entry)> {
        let empty = !end.is_empty() && start >= end;
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let range =
            (!empty).then(|| self.entries.range::<[u8], _>((Bound::Included(start), upper)));
        range.into_iter().flatten()
    }

    /// The locks of a memcomparable range in key order, with both forms of their keys.
    pub(crate) fn locks_between(
        &self,
        start: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = (&Bytes, &Bytes, &Lock)> {
        self.range(start, end)
            .filter_map(|(key, entry)| Some((key, &entry.user_key, entry.lock.as_ref()?)))
    }

    /// Removes all versions and locks of a memcomparable range.
    pub(crate) fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        let doomed: Vec<Bytes> = self.range(start, end).map(|(key, _)| key.clone()).collect();
        for key in doomed {
            self.entries.remove(&key);
        }
    }

    /// Lets the locks of a transaction have no time to live; says how many there are.
    pub(crate) fn expire(&mut self, start_ts: u64) -> usize {
        let mut count = 0;
        let locks = self.entries.values_mut().filter_map(|entry| entry.lock.as_mut());
        for lock in locks.filter(|lock| lock.start_ts == start_ts) {
            lock.ttl = 0;
            count += 1;
        }
        count
    }

    /// Whether the transaction is known to be committed.
    pub(crate) fn is_known_committed(&self, start_ts: u64) -> bool {
        self.committed.contains_key(&start_ts)
    }

    /// What happened to locks since this was last asked.
    pub(crate) fn take_events(&mut self) -> Vec<LockEvent> {
        std::mem::take(&mut self.events)
    }

    /// Makes the changes of one action.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        // The last commit: the lock that it takes the place of is released next.
        let mut last: Option<(Bytes, u64)> = None;
        for change in changes {
            match change {
                Change::Lock(key, lock) => {
                    let event = LockEvent::Taken { key: key.clone(), lock: Box::new(lock.clone()) };
                    if self.entry(key).lock.replace(lock).is_none() {
                        self.events.push(event);
                    }
                }
                Change::Unlock(key) => {
                    let entry = self.entries.get_mut(&key.encoded);
                    if let Some(lock) = entry.and_then(|entry| entry.lock.take()) {
                        let commit = last.take().filter(|(of, _)| *of == key.encoded);
                        let commit_ts = commit.map_or(0, |(_, commit_ts)| commit_ts);
                        let (key, start_ts) = (key.clone(), lock.start_ts);
                        self.events.push(LockEvent::Released { key, start_ts, commit_ts });
                    }
                    self.drop_if_empty(&key);
                }
                Change::Record(key, record) => {
                    if record.kind != WriteKind::Rollback {
                        last = Some((key.encoded.clone(), record.commit_ts));
                        self.committed.insert(record.start_ts, record.commit_ts);
                        if self.committed.len() > KNOWN_COMMITTED {
                            self.committed.pop_first();
                        }
                    }
                    let records = &mut self.entry(key).records;
                    match position(records, record.commit_ts) {
                        Ok(at) => records[at] = record,
                        Err(at) => records.insert(at, record),
                    }
                }
                Change::Forget(key, commit_ts) => {
                    if let Some(entry) = self.entries.get_mut(&key.encoded)
                        && let Ok(at) = position(&entry.records, commit_ts)
                    {
                        entry.records.remove(at);
                    }
                    self.drop_if_empty(&key);
                }
            }
        }
    }

    fn entry(&mut self, key: Key) -> &mut Entry {
        self.entries.entry(key.encoded).or_insert_with(|| Entry {
            // A slice of a received frame: a copy lets the frame go.
            user_key: Bytes::copy_from_slice(&key.user),
            lock: None,
            records: Vec::new(),
        })
    }

    fn drop_if_empty(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get(&key.encoded)
            && entry.lock.is_none()
            && entry.records.is_empty()
        {
            self.entries.remove(&key.encoded);
        }
    }
}

/// Where the record at `commit_ts` is, or would be.
fn position(records: &[Record], commit_ts: u64) -> Result<usize, usize> {
    records.binary_search_by(|record| commit_ts.cmp(&record.commit_ts))
}
