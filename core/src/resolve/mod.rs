//! Getting other transactions' locks out of the way (`transactions.md` §16).
//!
//! A lock stands for a transaction whose fate is written at its primary key. Whoever meets a lock
//! asks here; one inquiry per transaction serves everybody who waits for it:
//!
//! ```text
//! Stamping ─▶ Checking ─▶ fate known ─▶ Cleaning ─▶ gone
//!    ▲           │  │
//!    │           │  └─ alive ─▶ every waiter is told how long to wait, or that it may pass
//!    └─ Pausing ◀┘ the primary is not written yet, and the lock has not outlived its time
//! ```
//!
//! - *Stamping*: expiry is judged by the store against a timestamp that PD hands out now, never
//!   against a clock of this machine. A lock is rolled back only by the store, and only when its time
//!   to live has passed by that timestamp.
//! - *Checking* takes along the largest timestamp of all who wait, so that the store may push the
//!   transaction's earliest commit behind the readers: they then pass the lock by without waiting.
//! - *Cleaning* commits or rolls back the locks that were met. Readers do not wait for it: they are
//!   told to read through the lock or past it. Writers do, since their prewrite needs the key free.
//!
//! A fate is final and is remembered. That a transaction is alive is not.
//!
//! Locks of async-commit transactions are waited for but not recovered, and pessimistic locks are
//! waited for but not released, until the machines for them exist (see `docs/parity.md`, L2 and L3):
//! nothing here may treat them as ordinary locks, since that could undo a committed transaction.

mod inquiry;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::id::Handle;
use crate::operation::Key;
use crate::shared::{Cx, Owner, Shared, Tag, Wake};
use crate::slab::Slab;
use crate::time::Instant;
use crate::timestamp::Timestamp;
use crate::wire::reply::Lock;

pub(crate) use inquiry::Inquiry;

/// Who wants a lock out of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// A read: it may pass locks that cannot commit at or before its timestamp, and read through
    /// those that have.
    Read {
        /// Its timestamp.
        at: Timestamp,
    },
    /// A write: the key has to be free.
    Write {
        /// Its start.
        start_ts: Timestamp,
    },
    /// A pessimistic lock: the key has to be free, and nobody is pushed for it (§22.20).
    Lock,
}

impl Mode {
    /// `None` must not push anybody's earliest commit.
    fn caller(self) -> Option<Timestamp> {
        match self {
            Self::Read { at } => Some(at),
            Self::Write { start_ts } => Some(start_ts),
            Self::Lock => None,
        }
    }
}

/// What became of the locks that a request named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Resolved {
    /// Transactions whose locks a read may ignore.
    pub(crate) bypass: Vec<u64>,
    /// Transactions whose locks a read may read through.
    pub(crate) access: Vec<u64>,
    /// A transaction that is still alive: the one that has to be waited for the shortest.
    pub(crate) blocker: Option<Blocker>,
}

/// A transaction in the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Blocker {
    /// What is left of its time to live.
    pub(crate) wait: Duration,
    pub(crate) key: Key,
    pub(crate) start_ts: Timestamp,
}

impl Blocker {
    pub(crate) fn error(&self) -> Error {
        let kind =
            ErrorKind::LockWaitTimeout { key: self.key.clone(), lock_ts: self.start_ts.version() };
        Error::new(kind, format!("locked by the transaction that started at {}", self.start_ts))
    }
}

/// How a transaction ended. Final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Committed(Timestamp),
    RolledBack,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Resolver {
    requests: Slab<Request>,
    inquiries: Slab<Inquiry>,
    by_start: BTreeMap<Timestamp, Handle>,
    fates: Fates,
}

/// One `resolve` of one owner.
#[derive(Clone, Debug, Hash)]
struct Request {
    owner: Owner,
    tag: Tag,
    /// Locks not yet accounted for.
    pending: usize,
    result: Result<Resolved, Error>,
}

/// What an inquiry owes to a request.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Debt {
    request: Handle,
    mode: Mode,
    lock: Lock,
}

/// The fates of transactions, first in, first out.
#[derive(Clone, Debug, Default, Hash)]
struct Fates {
    by_start: BTreeMap<Timestamp, Fate>,
    order: VecDeque<Timestamp>,
}

impl Fates {
    fn get(&self, start_ts: Timestamp) -> Option<Fate> {
        self.by_start.get(&start_ts).copied()
    }

    fn put(&mut self, start_ts: Timestamp, fate: Fate, limit: usize) {
        if self.by_start.insert(start_ts, fate).is_none() {
            self.order.push_back(start_ts);
        }
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.by_start.remove(&oldest);
            }
        }
    }
}

impl Resolver {
    pub(crate) fn new() -> Self {
        Self {
            requests: Slab::new(),
            inquiries: Slab::new(),
            by_start: BTreeMap::new(),
            fates: Fates::default(),
        }
    }
}

impl Cx<'_> {
    /// Looks into locks; answered by [`Wake::Resolved`].
    pub(crate) fn resolve(&mut self, tag: Tag, locks: Vec<Lock>, mode: Mode) {
        let resolver = &mut self.shared.resolver;
        let pending = locks.len();
        let result = Ok(Resolved::default());
        let request = resolver.requests.insert(Request { owner: self.owner, tag, pending, result });
        self.shared.stats.locks_met += pending as u64;
        if pending == 0 {
            return self.shared.settle_request(request);
        }
        for lock in locks {
            self.shared.look_into(Debt { request, mode, lock });
        }
    }
}

impl Shared {
    fn look_into(&mut self, debt: Debt) {
        let start_ts = debt.lock.start_ts;
        if let Some(handle) = self.resolver.by_start.get(&start_ts)
            && let Some(inquiry) = self.resolver.inquiries.get_mut(*handle)
        {
            let handle = *handle;
            inquiry.join(debt);
            return self.wake(Owner::Resolution(handle), inquiry::JOINED, Wake::Pause);
        }
        let fate = self.resolver.fates.get(start_ts);
        let handle = self.resolver.inquiries.insert(Inquiry::new(debt, fate));
        self.resolver.by_start.insert(start_ts, handle);
        self.wake(Owner::Resolution(handle), inquiry::JOINED, Wake::Pause);
    }

    /// Runs an inquiry until it waits or ends.
    pub(crate) fn step_inquiry(&mut self, handle: Handle, tag: Tag, wake: Wake) {
        let Some(inquiry) = self.resolver.inquiries.take(handle) else {
            return;
        };
        let start_ts = inquiry.start_ts();
        let mut draws = self.draws;
        let owner = Owner::Resolution(handle);
        let mut cx = Cx { shared: self, owner, deadline: Instant::NEVER, draws: &mut draws };
        let next = inquiry.wake(tag, wake, &mut cx);
        self.draws = draws;
        match next {
            Some(inquiry) => self.resolver.inquiries.put(handle, inquiry),
            None => {
                self.resolver.inquiries.release(handle);
                if self.resolver.by_start.get(&start_ts) == Some(&handle) {
                    self.resolver.by_start.remove(&start_ts);
                }
            }
        }
    }

    /// Remembers how a transaction ended.
    fn remember_fate(&mut self, start_ts: Timestamp, fate: Fate) {
        let limit = self.config.fate_cache_size;
        self.resolver.fates.put(start_ts, fate, limit);
    }

    /// Accounts for one lock of a request.
    fn pay(&mut self, debt: &Debt, outcome: Result<Passage, Error>) {
        let Some(request) = self.resolver.requests.get_mut(debt.request) else {
            return;
        };
        let version = debt.lock.start_ts.version();
        match (outcome, &mut request.result) {
            (Ok(passage), Ok(resolved)) => match passage {
                Passage::Free => {}
                Passage::Bypass => resolved.bypass.push(version),
                Passage::Access => resolved.access.push(version),
                Passage::Wait(wait) => {
                    if resolved.blocker.as_ref().is_none_or(|blocker| wait < blocker.wait) {
                        let key = debt.lock.key.clone();
                        let start_ts = debt.lock.start_ts;
                        resolved.blocker = Some(Blocker { wait, key, start_ts });
                    }
                }
            },
            (Err(error), result @ Ok(_)) => *result = Err(error),
            (_, Err(_)) => {}
        }
        request.pending = request.pending.saturating_sub(1);
        if request.pending == 0 {
            self.settle_request(debt.request);
        }
    }

    fn settle_request(&mut self, request: Handle) {
        if let Some(request) = self.resolver.requests.remove(request) {
            self.wake(request.owner, request.tag, Wake::Resolved(request.result));
        }
    }
}

/// What a lock means to who met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Passage {
    /// The key is free.
    Free,
    /// A read may ignore the lock.
    Bypass,
    /// A read may read through the lock.
    Access,
    /// Its transaction is alive.
    Wait(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transactions.md §1.4: resolved-status cache, 2 048 entries, FIFO.
    #[test]
    fn fates_are_forgotten_in_the_order_they_were_learned() {
        let ts = |n| Timestamp::from_version(n).unwrap();
        let mut fates = Fates::default();
        for n in [3, 1, 2] {
            fates.put(ts(n), Fate::RolledBack, 2);
        }
        assert_eq!(fates.get(ts(3)), None);
        assert_eq!(fates.get(ts(1)), Some(Fate::RolledBack));
        fates.put(ts(1), Fate::RolledBack, 2);
        assert_eq!((fates.order.len(), fates.by_start.len()), (2, 2));
    }
}
