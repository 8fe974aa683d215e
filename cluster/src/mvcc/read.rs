//! Reads: one key, or a range of them.

use anatase_proto::kvrpcpb::{Context, IsolationLevel};
use bytes::Bytes;

use super::{Entry, Key, KeyError, Lock, LockKind, Mvcc, Reason, WriteKind};

/// How a request reads.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    /// The read timestamp; `u64::MAX` reads the latest.
    pub(crate) ts: u64,
    pub(crate) isolation: IsolationLevel,
    /// Start timestamps of transactions whose locks may be skipped.
    pub(crate) resolved: &'a [u64],
    /// Start timestamps of transactions that are committed at or below `ts`: their locks are read
    /// through.
    pub(crate) committed: &'a [u64],
    /// Whether the commit timestamp is asked for; a lock that is read through has none, so then
    /// it blocks.
    pub(crate) need_commit_ts: bool,
    /// Whether another peer than the leader serves it.
    pub(crate) replica_read: bool,
}

impl<'a> View<'a> {
    pub(crate) fn new(ts: u64, context: &'a Context) -> Self {
        View {
            ts,
            isolation: IsolationLevel::try_from(context.isolation_level)
                .unwrap_or(IsolationLevel::Si),
            resolved: &context.resolved_locks,
            committed: &context.committed_locks,
            need_commit_ts: false,
            replica_read: context.replica_read,
        }
    }

    /// Whether the lock stands in the way of reading the key (transactions.md §20.4).
    fn blocked_by(&self, lock: &Lock, key: &Bytes) -> Result<(), KeyError> {
        let writes_nothing = matches!(lock.kind, LockKind::Lock | LockKind::Pessimistic);
        match self.isolation {
            IsolationLevel::Rc => return Ok(()),
            IsolationLevel::RcCheckTs => {
                if writes_nothing || self.resolved.contains(&lock.start_ts) {
                    return Ok(());
                }
                return Err(KeyError::Conflict {
                    start_ts: self.ts,
                    conflict_start_ts: lock.start_ts,
                    conflict_commit_ts: 0,
                    key: key.clone(),
                    primary: lock.primary.clone(),
                    reason: Reason::RcCheckTs,
                });
            }
            IsolationLevel::Si => {}
        }
        let later = lock.start_ts > self.ts || lock.min_commit_ts > self.ts;
        if later || writes_nothing || self.resolved.contains(&lock.start_ts) {
            return Ok(());
        }
        // The latest committed value of a primary is what it is without its lock: until the lock
        // is gone nothing is committed. Not so under async commit; and on a replica the lock may be
        // one that the leader has in memory only, of which it is not known how it commits.
        if self.ts == u64::MAX
            && *key == lock.primary
            && !lock.use_async_commit
            && !self.replica_read
        {
            return Ok(());
        }
        Err(KeyError::Locked(Box::new(lock.to_info(key))))
    }
}

/// A value, and when it was committed; 0 if that is not known.
pub(crate) type Version = (Bytes, u64);

/// One row of a scan: a key and its value, or the lock in the way.
pub(crate) type Row = Result<(Bytes, Bytes), KeyError>;

/// How a scan goes through its range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanShape {
    pub(crate) limit: usize,
    pub(crate) key_only: bool,
    pub(crate) reverse: bool,
    /// Of so many rows take the first; 0 takes all.
    pub(crate) sample_step: usize,
}

impl Mvcc {
    pub(crate) fn get(&self, key: &Key, view: &View<'_>) -> Result<Option<Version>, KeyError> {
        match self.entries.get(&key.encoded) {
            Some(entry) => entry.read(view),
            None => Ok(None),
        }
    }

    /// Scans the memcomparable range `[start, end)`, from either side. A lock in the way is a row
    /// of its own and counts as one.
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        shape: ScanShape,
        view: &View<'_>,
    ) -> Result<Vec<Row>, KeyError> {
        let mut rows = Vec::new();
        let mut seen = 0;
        let mut entries = self.range(start, end);
        while rows.len() < shape.limit {
            let next = if shape.reverse { entries.next_back() } else { entries.next() };
            let Some((_, entry)) = next else { break };
            match entry.read(view) {
                Ok(None) => {}
                Ok(Some((value, _))) => {
                    let taken = shape.sample_step == 0 || seen % shape.sample_step == 0;
                    seen += 1;
                    if taken {
                        let value = if shape.key_only { Bytes::new() } else { value };
                        rows.push(Ok((entry.user_key.clone(), value)));
                    }
                }
                Err(locked @ KeyError::Locked(_)) => rows.push(Err(locked)),
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }
}

impl Entry {
    fn read(&self, view: &View<'_>) -> Result<Option<Version>, KeyError> {
        if let Some(lock) = &self.lock
            && let Err(blocked) = view.blocked_by(lock, &self.user_key)
        {
            if view.isolation == IsolationLevel::Si
                && !view.need_commit_ts
                && view.committed.contains(&lock.start_ts)
            {
                return Ok((lock.kind == LockKind::Put).then(|| (lock.value.clone(), 0)));
            }
            return Err(blocked);
        }
        if view.isolation == IsolationLevel::RcCheckTs
            && let Some(newer) = self.records.first().filter(|newest| newest.commit_ts > view.ts)
        {
            return Err(KeyError::Conflict {
                start_ts: view.ts,
                conflict_start_ts: 0,
                conflict_commit_ts: newer.commit_ts,
                key: self.user_key.clone(),
                primary: Bytes::new(),
                reason: Reason::RcCheckTs,
            });
        }
        let visible = self.records.iter().find(|record| {
            record.commit_ts <= view.ts && matches!(record.kind, WriteKind::Put | WriteKind::Delete)
        });
        Ok(visible
            .filter(|record| record.kind == WriteKind::Put)
            .map(|record| (record.value.clone(), record.commit_ts)))
    }
}
