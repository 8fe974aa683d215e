//! Garbage collection, and the state as tests and debug calls look at it.

use anatase_proto::kvrpcpb::{self, MvccInfo, MvccLock, MvccValue, MvccWrite, Op};
use bytes::Bytes;

use super::{Entry, Key, LockKind, Mvcc, Record, WriteKind};
use crate::Cluster;

/// A lock, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockView {
    /// The user key it is on.
    pub key: Bytes,
    /// The user key of its transaction's primary.
    pub primary: Bytes,
    /// The transaction.
    pub start_ts: u64,
    /// What it will become.
    pub kind: LockKind,
    /// The value it will become.
    pub value: Bytes,
    /// Milliseconds it lives from the physical part of `start_ts`.
    pub ttl: u64,
    /// No smaller commit timestamp is taken.
    pub min_commit_ts: u64,
    /// The keys of its transaction in its region, as the client said.
    pub txn_size: u64,
    /// Whether its transaction is an async commit; false on a lock that fell back.
    pub use_async_commit: bool,
    /// On the primary of an async commit: the user keys of its other locks.
    pub secondaries: Vec<Bytes>,
    /// Of a pessimistic transaction, when it last looked at the key; of others 0.
    pub for_update_ts: u64,
    /// A pessimistic lock that was granted in spite of newer data.
    pub locked_with_conflict: bool,
}

/// What a transaction did to a key, to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteView {
    /// When it was committed, or the start of what was rolled back.
    pub commit_ts: u64,
    /// The transaction.
    pub start_ts: u64,
    /// What it did.
    pub kind: WriteKind,
    /// The value it wrote.
    pub value: Bytes,
}

impl Cluster {
    /// All locks, in key order.
    pub fn locks(&self) -> Vec<LockView> {
        self.mvcc
            .locks_between(b"", b"")
            .map(|(_, key, lock)| LockView {
                key: key.clone(),
                primary: lock.primary.clone(),
                start_ts: lock.start_ts,
                kind: lock.kind,
                value: lock.value.clone(),
                ttl: lock.ttl,
                min_commit_ts: lock.min_commit_ts,
                txn_size: lock.txn_size,
                use_async_commit: lock.use_async_commit,
                secondaries: lock.secondaries.clone(),
                for_update_ts: lock.for_update_ts,
                locked_with_conflict: lock.locked_with_conflict,
            })
            .collect()
    }

    /// The locks of one transaction, in key order.
    pub fn locks_of(&self, start_ts: u64) -> Vec<LockView> {
        self.locks().into_iter().filter(|lock| lock.start_ts == start_ts).collect()
    }

    /// Ends the life of a transaction's locks now, whatever was left of it: they have a time to live
    /// of 0, which a store takes as over in the next millisecond after the transaction's start, and
    /// a client at once. Returns how many there are. A heartbeat brings its primary back to life.
    pub fn expire(&mut self, start_ts: u64) -> usize {
        self.mvcc.expire(start_ts)
    }

    /// What is committed of a key as of a timestamp, whatever locks there are.
    pub fn committed(&self, key: impl AsRef<[u8]>, ts: u64) -> Option<Bytes> {
        let key = Key::new(Bytes::copy_from_slice(key.as_ref()));
        let mut records = self.mvcc.records(&key).iter();
        let visible = records.find(|record| record.commit_ts <= ts && is_data(record))?;
        (visible.kind == WriteKind::Put).then(|| visible.value.clone())
    }

    /// Everything that transactions did to a key, newest first.
    pub fn writes(&self, key: impl AsRef<[u8]>) -> Vec<WriteView> {
        let key = Key::new(Bytes::copy_from_slice(key.as_ref()));
        let view = |record: &Record| WriteView {
            commit_ts: record.commit_ts,
            start_ts: record.start_ts,
            kind: record.kind,
            value: record.value.clone(),
        };
        self.mvcc.records(&key).iter().map(view).collect()
    }

    /// The transactional user keys that have any version or lock, in order.
    pub fn txn_keys(&self) -> impl Iterator<Item = &Bytes> {
        self.mvcc.entries.values().map(|entry| &entry.user_key)
    }

    /// Collects garbage: of what is committed at or below the safe point only the newest value of
    /// a key stays, and not even that if it is a deletion. Locks are left alone.
    pub fn gc(&mut self, safe_point: u64) {
        for entry in self.mvcc.entries.values_mut() {
            let mut newest = true;
            entry.records.retain(|record| {
                if record.commit_ts > safe_point {
                    return true;
                }
                let keep = newest && record.kind == WriteKind::Put;
                newest &= !is_data(record);
                keep
            });
        }
        self.mvcc.entries.retain(|_, entry| entry.lock.is_some() || !entry.records.is_empty());
    }
}

fn is_data(record: &Record) -> bool {
    matches!(record.kind, WriteKind::Put | WriteKind::Delete)
}

impl Mvcc {
    /// All of a key, as the debug calls tell it.
    pub(crate) fn info(&self, key: &Key) -> MvccInfo {
        self.entries.get(&key.encoded).map(Entry::info).unwrap_or_default()
    }

    /// The first key of a memcomparable range that a transaction locked or wrote.
    pub(crate) fn by_start_ts(
        &self,
        start: &[u8],
        end: &[u8],
        start_ts: u64,
    ) -> Option<(Bytes, MvccInfo)> {
        self.range(start, end)
            .find(|(_, entry)| {
                entry.lock.as_ref().is_some_and(|lock| lock.start_ts == start_ts)
                    || entry.records.iter().any(|record| record.start_ts == start_ts)
            })
            .map(|(_, entry)| (entry.user_key.clone(), entry.info()))
    }
}

impl Entry {
    fn info(&self) -> MvccInfo {
        let lock = self.lock.as_ref().map(|lock| {
            let kind = match lock.kind {
                LockKind::Put => Op::Put,
                LockKind::Delete => Op::Del,
                LockKind::Lock => Op::Lock,
                LockKind::Pessimistic => Op::PessimisticLock,
            };
            Box::new(MvccLock {
                r#type: kind as i32,
                start_ts: lock.start_ts,
                primary: lock.primary.clone(),
                short_value: lock.value.clone(),
                ttl: lock.ttl,
                txn_size: lock.txn_size,
                use_async_commit: lock.use_async_commit,
                secondaries: lock.secondaries.clone(),
                rollback_ts: lock.rollback_ts.clone(),
                ..MvccLock::default()
            })
        });
        let write = |record: &Record| MvccWrite {
            r#type: match record.kind {
                WriteKind::Put => Op::Put,
                WriteKind::Delete => Op::Del,
                WriteKind::Lock => Op::Lock,
                WriteKind::Rollback => Op::Rollback,
            } as i32,
            start_ts: record.start_ts,
            commit_ts: record.commit_ts,
            short_value: record.value.clone(),
            has_overlapped_rollback: record.overlapped_rollback,
            ..MvccWrite::default()
        };
        let values = self.records.iter().filter(|record| record.kind == WriteKind::Put);
        kvrpcpb::MvccInfo {
            lock,
            writes: self.records.iter().map(write).collect(),
            values: values
                .map(|record| MvccValue { start_ts: record.start_ts, value: record.value.clone() })
                .collect(),
        }
    }
}
