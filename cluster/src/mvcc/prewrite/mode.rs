//! Async commit and one-phase commit: the timestamps that a store sets, and falling back
//! (transactions.md §20.3, third and fourth rule).
//!
//! What is committed by such a timestamp must be above everything that was read on the key before,
//! by whomever: so it is one more than the largest of
//!
//! | what | why |
//! |---|---|
//! | `max_ts` of the store | the largest timestamp it has read at |
//! | `start_ts` | a transaction is committed after it began |
//! | `for_update_ts` of the request | what a pessimistic transaction has looked at was committed by then |
//! | `min_commit_ts` of the request, as it is | what the client knows to have been read or committed |
//!
//! The client bounds it from above by `max_commit_ts`, unless that is 0.

use bytes::Bytes;

use super::{Prewrite, Prewritten};
use crate::mvcc::{Change, Key, Lock, commit::record};

/// In which ways a request may be committed. Neither is two-phase commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    /// Async commit; the user keys of all locks but the primary, which a request without the
    /// primary leaves empty.
    pub(crate) secondaries: Option<Vec<Bytes>>,
    pub(crate) one_phase: bool,
    /// No computed timestamp may be above it; 0 is no bound.
    pub(crate) max_commit_ts: u64,
    /// The largest timestamp that the store has read at.
    pub(crate) max_ts: u64,
    /// Of a pessimistic transaction; else 0.
    pub(crate) for_update_ts: u64,
    /// Falls back at the first key, as if its timestamp were too large.
    pub(crate) refused: bool,
}

/// The timestamp that a lock gets from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// None: it is an ordinary one.
    None,
    At(u64),
    /// None: it would be above what the client allows.
    TooLarge,
}

impl Ways {
    pub(super) fn two_phase(&self) -> bool {
        self.secondaries.is_none() && !self.one_phase
    }

    pub(super) fn fall_back(&mut self) {
        self.secondaries = None;
        self.one_phase = false;
    }

    /// The timestamp of a key that was only checked: it is not locked, so `max_ts` has no part in
    /// it.
    pub(super) fn checked(&self, request: &Prewrite) -> u64 {
        if self.two_phase() {
            return 0;
        }
        request.min_commit_ts.max(request.start_ts.saturating_add(1))
    }

    /// Makes the lock that of an async commit, if that is asked for, and sets its timestamp.
    pub(super) fn stamp(&self, key: &Key, lock: &mut Lock) -> Stamp {
        if self.two_phase() {
            return Stamp::None;
        }
        let seen = self.max_ts.max(lock.start_ts).max(self.for_update_ts);
        let ts = seen.saturating_add(1).max(lock.min_commit_ts);
        if self.refused || (self.max_commit_ts != 0 && ts > self.max_commit_ts) {
            return Stamp::TooLarge;
        }
        lock.min_commit_ts = ts;
        if let Some(secondaries) = &self.secondaries {
            lock.use_async_commit = true;
            if key.user == lock.primary {
                // Slices of a received frame: copies let the frame go.
                lock.secondaries =
                    secondaries.iter().map(|key| Bytes::copy_from_slice(key)).collect();
            }
        }
        Stamp::At(ts)
    }

    /// The answer to a late copy of a transaction that is committed at `ts`.
    pub(super) fn committed_before(&self, ts: u64) -> Prewritten {
        Prewritten {
            min_commit_ts: if self.secondaries.is_some() { ts } else { 0 },
            one_pc_commit_ts: if self.one_phase { ts } else { 0 },
            ..Prewritten::default()
        }
    }

    /// All keys are done, and `ts` is the largest of their timestamps. (A one-phase commit of no
    /// key at all has none. TiKV aborts its process on that; here it has fallen back.)
    pub(super) fn finish(&self, locks: Vec<(Key, Lock)>, ts: u64) -> Prewritten {
        let changes = if self.one_phase {
            let commit = |(key, lock): (Key, Lock)| {
                [Change::Record(key.clone(), record(&lock, ts)), Change::Unlock(key)]
            };
            locks.into_iter().flat_map(commit).collect()
        } else {
            locks.into_iter().map(|(key, lock)| Change::Lock(key, lock)).collect()
        };
        Prewritten { changes, ..self.committed_before(ts) }
    }
}
