//! Prewrite of optimistic transactions (transactions.md §20.3).
//!
//! For each key in turn:
//!
//! | the key has | then |
//! |---|---|
//! | a lock of this transaction | it was prewritten before: nothing to do |
//! | a lock of another | `KeyIsLocked`; the other keys are still looked at, so that a client learns of all locks at once |
//! | a rollback of this transaction | `WriteConflict`, self rolled back |
//! | a record committed after this transaction began | `WriteConflict`, optimistic |
//! | a value, and the mutation is `Insert` or `CheckNotExists` | `AlreadyExist` |
//! | not what the mutation asserts | `AssertionFailed`, unless another key fails otherwise |
//!
//! A conflict or a foreign lock on a key where this transaction is already committed means that
//! the request is a late copy: it is answered as a success, and nothing is written
//! (transactions.md §8.5). Any other failure leaves nothing written either.

use anatase_proto::kvrpcpb::{Assertion, AssertionLevel};
use bytes::Bytes;

use super::{Change, Found, Key, KeyError, Lock, LockKind, Mvcc, Reason, Record, WriteKind};

/// What a prewrite does to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    Delete,
    Lock,
    Insert,
    CheckNotExists,
}

impl Op {
    /// Whether the key must not have a value. That is a read at the start timestamp.
    pub(crate) fn wants_absence(self) -> bool {
        matches!(self, Op::Insert | Op::CheckNotExists)
    }

    fn lock_kind(self) -> Option<LockKind> {
        match self {
            Op::Put | Op::Insert => Some(LockKind::Put),
            Op::Delete => Some(LockKind::Delete),
            Op::Lock => Some(LockKind::Lock),
            Op::CheckNotExists => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Mutation {
    pub(crate) op: Op,
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) assertion: Assertion,
}

/// What all mutations of a request have in common.
#[derive(Clone, Debug)]
pub(crate) struct Prewrite {
    pub(crate) primary: Bytes,
    pub(crate) start_ts: u64,
    pub(crate) ttl: u64,
    pub(crate) txn_size: u64,
    pub(crate) min_commit_ts: u64,
    pub(crate) assertion_level: AssertionLevel,
    pub(crate) skip_constraint_check: bool,
}

/// How a prewrite ends when it does not fail outright.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prewritten {
    /// The locks to write.
    Locked(Vec<Change>),
    /// Other transactions hold locks.
    Blocked(Vec<KeyError>),
    /// A late copy: the transaction is committed.
    Committed(u64),
}

impl Mvcc {
    pub(crate) fn prewrite(
        &self,
        request: &Prewrite,
        mutations: Vec<Mutation>,
    ) -> Result<Prewritten, KeyError> {
        let mut changes = Vec::new();
        let mut blocked = Vec::new();
        let mut assertion_failed = None;
        for mutation in mutations {
            let key = mutation.key.clone();
            let error = match self.prewrite_one(request, mutation) {
                Ok(change) => {
                    changes.extend(change);
                    continue;
                }
                Err(error) => error,
            };
            let maybe_late = match &error {
                KeyError::Locked(_) => true,
                KeyError::Conflict { start_ts, conflict_commit_ts, .. } => {
                    conflict_commit_ts > start_ts
                }
                _ => false,
            };
            if maybe_late && let Found::Committed(ts) = self.find(&key, request.start_ts) {
                return Ok(Prewritten::Committed(ts));
            }
            match error {
                KeyError::Locked(_) => blocked.push(error),
                KeyError::AssertionFailed { .. } => {
                    assertion_failed.get_or_insert(error);
                }
                _ => return Err(error),
            }
        }
        match assertion_failed {
            Some(error) => Err(error),
            None if !blocked.is_empty() => Ok(Prewritten::Blocked(blocked)),
            None => Ok(Prewritten::Locked(changes)),
        }
    }

    fn prewrite_one(
        &self,
        request: &Prewrite,
        mutation: Mutation,
    ) -> Result<Option<Change>, KeyError> {
        if let Some(lock) = self.lock(&mutation.key) {
            return if lock.start_ts == request.start_ts {
                Ok(None)
            } else {
                Err(KeyError::Locked(Box::new(lock.to_info(&mutation.key.user))))
            };
        }
        let newest = if request.skip_constraint_check {
            None
        } else {
            Some(self.check_newer(request, &mutation)?)
        };
        self.check_assertion(request, &mutation, newest)?;
        let Some(kind) = mutation.op.lock_kind() else { return Ok(None) };
        let value = if kind == LockKind::Put {
            Bytes::copy_from_slice(&mutation.value)
        } else {
            Bytes::new()
        };
        let lock = Lock {
            kind,
            primary: Bytes::copy_from_slice(&request.primary),
            start_ts: request.start_ts,
            ttl: request.ttl,
            value,
            txn_size: request.txn_size,
            min_commit_ts: request.min_commit_ts,
        };
        Ok(Some(Change::Lock(mutation.key, lock)))
    }

    /// The newest record of the key, if it does not forbid the prewrite.
    fn check_newer(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
    ) -> Result<Option<&Record>, KeyError> {
        let records = self.records(&mutation.key);
        let Some(newest) = records.first() else { return Ok(None) };
        let rolled_back = newest.commit_ts == request.start_ts
            && (newest.kind == WriteKind::Rollback || newest.overlapped_rollback);
        if rolled_back || newest.commit_ts > request.start_ts {
            return Err(KeyError::Conflict {
                start_ts: request.start_ts,
                conflict_start_ts: newest.start_ts,
                conflict_commit_ts: newest.commit_ts,
                key: mutation.key.user.clone(),
                primary: request.primary.clone(),
                reason: if rolled_back { Reason::SelfRolledBack } else { Reason::Optimistic },
            });
        }
        let exists = newest_data(records).is_some_and(|record| record.kind == WriteKind::Put);
        if mutation.op.wants_absence() && exists {
            return Err(KeyError::AlreadyExist { key: mutation.key.user.clone() });
        }
        Ok(Some(newest))
    }

    /// `newest` is what the constraint check found, `None` if there was no such check: then only
    /// level `Strict` looks.
    fn check_assertion(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
        newest: Option<Option<&Record>>,
    ) -> Result<(), KeyError> {
        let looked = newest.is_some();
        match request.assertion_level {
            AssertionLevel::Off => return Ok(()),
            AssertionLevel::Fast if !looked => return Ok(()),
            AssertionLevel::Fast | AssertionLevel::Strict => {}
        }
        let data = newest_data(self.records(&mutation.key));
        let (start_ts, commit_ts) = data.map_or((0, 0), |data| (data.start_ts, data.commit_ts));
        let exists = data.is_some_and(|data| data.kind == WriteKind::Put);
        let holds = match mutation.assertion {
            Assertion::None => true,
            Assertion::Exist => exists,
            Assertion::NotExist => !exists,
        };
        if holds {
            return Ok(());
        }
        if !looked {
            // A rollback may be what made the assertion false: that is the better answer.
            self.check_newer(request, mutation)?;
        }
        Err(KeyError::AssertionFailed {
            start_ts: request.start_ts,
            key: mutation.key.user.clone(),
            assertion: mutation.assertion as i32,
            existing_start_ts: start_ts,
            existing_commit_ts: commit_ts,
        })
    }
}

/// The newest record that is a value or a deletion.
fn newest_data(records: &[Record]) -> Option<&Record> {
    records.iter().find(|record| matches!(record.kind, WriteKind::Put | WriteKind::Delete))
}
