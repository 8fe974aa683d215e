//! Prewrite (transactions.md §20.3).
//!
//! For each key of an optimistic transaction in turn:
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
//!
//! # Pessimistic transactions
//!
//! A key is said to be locked already, to need no lock, or to be checked only now ([`Check`]):
//!
//! | the key has | it should be locked | it needs no lock | it is checked now |
//! |---|---|---|---|
//! | a pessimistic lock of this transaction | prewritten, if it is the one expected | prewritten | prewritten |
//! | a lock of another | `PessimisticLockNotFound` | `KeyIsLocked` with a time to live of 0, so that it is resolved at once | the same |
//! | no lock, and a record from the transaction's start on | `PessimisticLockNotFound` | prewritten; in a retried request, not above `for_update_ts` | `WriteConflict` above the start |
//! | no lock otherwise | prewritten: nobody can have written | prewritten | prewritten |
//!
//! The «one expected» is the lock of the `for_update_ts` that fair locking was told of. What of a
//! pessimistic lock has been pushed forward meanwhile (time to live, `min_commit_ts`,
//! `for_update_ts`) stays so. `PessimisticLockNotFound` of a committed transaction is a late copy,
//! like a conflict.
//!
//! # Ways to commit
//!
//! A request may ask for async commit, for one-phase commit, or for both, and then the store sets
//! a timestamp below which nothing is committed: above all that was read here, see [`mode`].
//!
//! ```text
//!            a key's timestamp is above max_commit_ts,
//!            or its lock is there and fell back before
//!  asked for ──────────────────────────────────────────► two-phase: both timestamps answered are 0
//!     │
//!     │ all keys are done                  one-phase ► records instead of locks
//!     └──────────────────────────────────► async     ► locks; min_commit_ts is the largest of them
//! ```
//!
//! Who falls back falls back with the whole request, whichever way it asked for. Locks that were
//! made before it stay locks of an async commit, those after it are ordinary ones; it is for a
//! resolver to find out (transactions.md §16.3).

mod check;
mod mode;

use anatase_proto::kvrpcpb::{Assertion, AssertionLevel};
use bytes::Bytes;

use self::mode::Stamp;
pub(crate) use self::mode::Ways;
use super::{Change, Found, Key, KeyError, Lock, LockKind, Mvcc, NotFound};

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
    /// In a pessimistic transaction.
    pub(crate) check: Check,
    /// The `for_update_ts` that the key's pessimistic lock must have.
    pub(crate) expected: Option<u64>,
}

/// What a pessimistic transaction says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It needs no lock.
    Skip,
    /// It has a pessimistic lock.
    Lock,
    /// It has none, and is checked now as in an optimistic transaction.
    Constraint,
}

/// What all mutations of a request have in common.
#[derive(Clone, Debug)]
pub(crate) struct Prewrite {
    pub(crate) primary: Bytes,
    pub(crate) start_ts: u64,
    /// Of a pessimistic transaction.
    pub(crate) for_update_ts: Option<u64>,
    /// It may have been executed before.
    pub(crate) retried: bool,
    pub(crate) ttl: u64,
    pub(crate) txn_size: u64,
    pub(crate) min_commit_ts: u64,
    pub(crate) assertion_level: AssertionLevel,
    pub(crate) skip_constraint_check: bool,
    pub(crate) ways: Ways,
}

impl Prewrite {
    fn lock_not_found(&self, key: &Key, why: NotFound) -> KeyError {
        let (start_ts, key) = (self.start_ts, key.user.clone());
        KeyError::PessimisticLockNotFound { start_ts, key, why }
    }

    /// Whether what forbids the prewrite is looked for. On the keys of a pessimistic transaction
    /// it was when they were locked, and those without locks are guarded by others; but only a
    /// first copy may trust in that.
    fn checks(&self, check: Check) -> bool {
        match (self.for_update_ts, check) {
            (None, _) => !self.skip_constraint_check,
            (Some(_), Check::Lock) => false,
            (Some(_), Check::Skip) => self.retried,
            (Some(_), Check::Constraint) => true,
        }
    }
}

/// How a prewrite ends when it does not fail outright.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Prewritten {
    /// What to write: locks, or the records of a one-phase commit. Nothing if keys are locked, or
    /// if the request is a late copy.
    pub(crate) changes: Vec<Change>,
    /// Locks of other transactions.
    pub(crate) blocked: Vec<KeyError>,
    /// Under async commit, the smallest timestamp at which it may be committed as far as this
    /// request goes; 0 if it fell back. Of a late copy, the timestamp at which it is committed.
    pub(crate) min_commit_ts: u64,
    /// The timestamp of a one-phase commit, be it this or an earlier one; 0 if it fell back.
    pub(crate) one_pc_commit_ts: u64,
}

/// What becomes of one key.
enum Step {
    /// The lock is there from an earlier copy; its `min_commit_ts` if it is an async commit's,
    /// otherwise 0.
    Before(u64),
    /// The key was only to be checked; its timestamp, or 0 under two-phase commit.
    Checked(u64),
    /// It gets this lock.
    Lock(Box<Lock>, Stamp),
}

impl Mvcc {
    pub(crate) fn prewrite(
        &self,
        request: &Prewrite,
        mutations: Vec<Mutation>,
    ) -> Result<Prewritten, KeyError> {
        let mut ways = request.ways.clone();
        let mut locks = Vec::new();
        let mut blocked = Vec::new();
        let mut assertion_failed = None;
        let mut largest = 0;
        for mutation in mutations {
            let key = mutation.key.clone();
            let error = match self.prewrite_one(request, mutation, &ways) {
                Ok(Step::Before(ts) | Step::Checked(ts)) if ts != 0 || ways.two_phase() => {
                    largest = largest.max(ts);
                    continue;
                }
                Ok(Step::Before(_) | Step::Checked(_)) => {
                    ways.fall_back();
                    largest = 0;
                    continue;
                }
                Ok(Step::Lock(lock, stamp)) => {
                    match stamp {
                        Stamp::None => {}
                        Stamp::At(ts) => largest = largest.max(ts),
                        // A late copy must not begin anew as a two-phase commit.
                        Stamp::TooLarge => {
                            if let Found::Committed(ts) = self.find(&key, request.start_ts) {
                                return Ok(ways.committed_before(ts));
                            }
                            ways.fall_back();
                            largest = 0;
                        }
                    }
                    locks.push((key, *lock));
                    continue;
                }
                Err(error) => error,
            };
            let maybe_late = match &error {
                KeyError::Locked(_) | KeyError::PessimisticLockNotFound { .. } => true,
                KeyError::Conflict { start_ts, conflict_commit_ts, .. } => {
                    conflict_commit_ts > start_ts
                }
                _ => false,
            };
            if maybe_late && let Found::Committed(ts) = self.find(&key, request.start_ts) {
                return Ok(ways.committed_before(ts));
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
            None if !blocked.is_empty() => Ok(Prewritten { blocked, ..Prewritten::default() }),
            None => Ok(ways.finish(locks, largest)),
        }
    }

    fn prewrite_one(
        &self,
        request: &Prewrite,
        mutation: Mutation,
        ways: &Ways,
    ) -> Result<Step, KeyError> {
        let mut held = None;
        let mut amended = false;
        match self.lock(&mutation.key) {
            Some(lock) => {
                if let Some(ts) = self.check_lock(request, &mutation, lock)? {
                    return Ok(Step::Before(ts));
                }
                held = Some(lock);
            }
            None if request.for_update_ts.is_some() && mutation.check == Check::Lock => {
                self.amend_lock(request, &mutation)?;
                amended = true;
            }
            None => {}
        }
        let checks = request.checks(mutation.check);
        if checks {
            self.check_newer(request, &mutation)?;
        }
        self.check_assertion(request, &mutation, checks || amended, checks)?;
        let Some(kind) = mutation.op.lock_kind() else {
            return Ok(Step::Checked(ways.checked(request)));
        };
        let value = if kind == LockKind::Put {
            Bytes::copy_from_slice(&mutation.value)
        } else {
            Bytes::new()
        };
        let mut lock = Lock {
            kind,
            primary: Bytes::copy_from_slice(&request.primary),
            start_ts: request.start_ts,
            ttl: held.map_or(0, |held| held.ttl).max(request.ttl),
            value,
            txn_size: request.txn_size,
            min_commit_ts: held.map_or(0, |held| held.min_commit_ts).max(request.min_commit_ts),
            use_async_commit: false,
            secondaries: Vec::new(),
            rollback_ts: Vec::new(),
            for_update_ts: held
                .map_or(0, |held| held.for_update_ts)
                .max(request.for_update_ts.unwrap_or(0)),
            locked_with_conflict: false,
        };
        let stamp = ways.stamp(&mutation.key, &mut lock);
        Ok(Step::Lock(Box::new(lock), stamp))
    }
    /// A lock is on the key: `None` if it is the pessimistic one that this prewrite takes the
    /// place of, and otherwise what [`Step::Before`] says.
    fn check_lock(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
        lock: &Lock,
    ) -> Result<Option<u64>, KeyError> {
        let name = &mutation.key.user;
        let pessimistic = request.for_update_ts.is_some();
        if lock.start_ts != request.start_ts {
            if pessimistic && mutation.check == Check::Lock {
                return Err(request.lock_not_found(&mutation.key, NotFound::LockTsMismatch));
            }
            let mut info = lock.to_info(name);
            if pessimistic {
                // Its own locks guard this key, so what stands here is dead, or as good as
                // committed.
                info.lock_ttl = 0;
            }
            return Err(KeyError::Locked(Box::new(info)));
        }
        if !lock.is_pessimistic() {
            return Ok(Some(if lock.use_async_commit { lock.min_commit_ts } else { 0 }));
        }
        if !pessimistic {
            return Err(KeyError::Abort(format!(
                "LockTypeNotMatch {{ start_ts: {}, key: {name:?}, pessimistic: true }}",
                request.start_ts
            )));
        }
        if mutation.expected.is_some_and(|expected| expected != lock.for_update_ts) {
            return Err(request.lock_not_found(&mutation.key, NotFound::LockForUpdateTsMismatch));
        }
        Ok(None)
    }
}
