//! Getting other transactions' locks out of the way (`transactions.md` §16).
//!
//! A lock stands for a transaction whose fate is written at its primary key. Whoever meets a lock
//! asks here; one inquiry per transaction serves everybody who waits for it:
//!
//! ```text
//! Stamping ─▶ Checking ───────────▶ Settled: rounds of cleaning, then over
//!    ▲         │ │  ▲ │                ▲
//!    │         │ │  │ └─▶ Recovering ──┘ async commit, its time over: the secondaries tell
//!    │         │ │  └──────── │ it fell back to two phases: its primary decides after all
//!    │         │ └─ alive ─▶ every waiter is told how long to wait, or that it may pass; over
//!    └─Pausing◀┘ the primary is not written yet, and the lock has not outlived its time
//! ```
//!
//! - *Stamping*: expiry is judged by a timestamp that PD hands out now, never by a clock of this
//!   machine. A lock of two-phase commit is rolled back only by the store, and only when its time to
//!   live has passed by that timestamp.
//! - *Checking* takes along the largest timestamp of all who wait, so that the store may push the
//!   transaction's earliest commit behind the readers: they then pass the lock by without waiting.
//!   Who came too late to be counted in has the primary asked again.
//! - *Recovering* (`secondaries.rs`) asks the other keys of an async commit. To ask is to decide, so
//!   it is done only when the primary's time is over.
//! - *Settled*: `cleaning.rs`. Readers do not wait for it: they are told to read through the lock or
//!   past it, as long as a permit is left ([`Config::max_background_resolves`]). Writers wait, since
//!   their key has to be free.
//!
//! What each state does with what it may hear; whatever else comes changes nothing:
//!
//! | state | somebody joins | heard | and then |
//! |---|---|---|---|
//! | Stamping | is counted in | a timestamp | Checking |
//! | | | PD failed | everybody hears the error |
//! | Checking | is counted in; a reader who is too late is left for the next check | committed, rolled back | Settled |
//! | | | alive, pushed | readers pass, writers wait |
//! | | | alive | all wait |
//! | | | alive, async commit, its time over | Recovering; unless the transaction has fallen back |
//! | | | not found, and the lock has outlived its time | Checking, with leave to roll back |
//! | | | not found, of a pessimistic lock | all wait |
//! | | | not found, of a prewritten lock | Pausing |
//! | | | no pessimistic lock there, or one with another primary, of a pessimistic lock | Settled, fate unknown: the locks that were met go |
//! | | | the same, of a prewritten lock | all wait; a corrupt lock is an error |
//! | | | failed | everybody hears the error |
//! | Recovering | hears the outcome | the last of the secondaries | Settled |
//! | | | a lock that is not async | Checking, whatever the primary says counts |
//! | | | failed, a contradiction | everybody hears the error |
//! | Pausing | is counted in | the pause is over | Stamping |
//! | Settled | is cleaned up for; if the fate is unknown, asks anew when the round is over | a region is clean | its waiters hear |
//!
//! An inquiry is about one transaction, one primary, and either prewritten or pessimistic locks of it
//! ([`Id`]): pessimistic ones may name a primary that no longer is, are asked about in another way, and
//! are let go, never committed (§22.17). Readers of «the latest» have inquiries of their own, since
//! what they push is pushed for nobody else (§22.20).
//!
//! A fate is final and is remembered. That a transaction is alive is not, nor what is said of a
//! pessimistic lock.
//!
//! [`Config::max_background_resolves`]: crate::Config::max_background_resolves

mod cleaning;
mod inquiry;
#[cfg(test)]
mod recovery_stories;
#[cfg(test)]
mod release_stories;
mod secondaries;
#[cfg(test)]
mod stories;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::coverage::Input;
use crate::error::{Error, ErrorKind};
use crate::id::{Handle, OpId};
use crate::operation::Key;
use crate::recent::Recent;
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
        /// It reads one key, and is not to clean more than that one, however large the transaction.
        lite: bool,
    },
    /// A write: the key has to be free.
    Write {
        /// Its start.
        start_ts: Timestamp,
    },
    /// A pessimistic lock: the key has to be free, and nobody is pushed for it (§22.20).
    Lock,
    /// Garbage collection: the transaction has to end now, whether its time is over or not (§16.5).
    /// Its prewritten locks are left to whoever asks.
    Gc,
}

impl Mode {
    /// `None` must not push anybody's earliest commit.
    fn caller(self) -> Option<Timestamp> {
        match self {
            Self::Read { at, .. } => Some(at),
            Self::Write { start_ts } => Some(start_ts),
            Self::Lock | Self::Gc => None,
        }
    }

    fn is_read(self) -> bool {
        match self {
            Self::Read { .. } => true,
            Self::Write { .. } | Self::Lock | Self::Gc => false,
        }
    }

    fn is_lite(self) -> bool {
        match self {
            Self::Read { lite, .. } => lite,
            Self::Write { .. } | Self::Lock | Self::Gc => false,
        }
    }

    fn manner(self) -> Manner {
        match self {
            Self::Read { at: Timestamp::MAX, .. } => Manner::Latest,
            Self::Read { .. } | Self::Write { .. } | Self::Lock => Manner::Shared,
            Self::Gc => Manner::Forced,
        }
    }
}

/// What an inquiry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    start_ts: Timestamp,
    primary: Key,
    /// About pessimistic locks, which it lets go; else about prewritten ones.
    pessimistic: bool,
    manner: Manner,
}

/// For whom an inquiry asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Manner {
    /// For readers of snapshots and for writers, together.
    Shared,
    /// For readers of whatever is the latest.
    Latest,
    /// For garbage collection.
    Forced,
}

/// What became of the locks that a request named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Resolved {
    /// Transactions whose locks a read may ignore.
    pub(crate) bypass: Vec<u64>,
    /// Transactions whose locks a read may read through.
    pub(crate) access: Vec<u64>,
    /// Transactions that have ended; only for [`Mode::Gc`].
    pub(crate) ended: BTreeMap<Timestamp, Fate>,
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

impl Fate {
    /// As the wire has it: 0 for rolled back.
    pub(crate) fn commit_version(self) -> u64 {
        match self {
            Self::Committed(at) => at.version(),
            Self::RolledBack => 0,
        }
    }
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Resolver {
    requests: Slab<Request>,
    inquiries: Slab<Inquiry>,
    by_id: BTreeMap<Id, Handle>,
    /// How transactions ended. A fate is final, and a server that contradicts itself is not believed the
    /// second time.
    fates: Recent<Timestamp, Fate>,
    /// Primaries that were not there any more when a pessimistic lock was met that names them.
    gone: Recent<(Timestamp, Key), ()>,
    /// How many inquiries clean, or have cleaned, for nobody who waits.
    background: usize,
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

impl Resolver {
    pub(crate) fn new() -> Self {
        Self {
            requests: Slab::new(),
            inquiries: Slab::new(),
            by_id: BTreeMap::new(),
            fates: Recent::default(),
            gone: Recent::default(),
            background: 0,
        }
    }

    /// Locks are being cleaned for which nobody waits.
    pub(crate) fn is_busy(&self) -> bool {
        self.background > 0
    }

    /// What is being resolved, in the order of the transactions' starts.
    pub(crate) fn facts(&self) -> Vec<Resolution> {
        let inquiries = self.by_id.values().filter_map(|handle| self.inquiries.get(*handle));
        let waiter = |debt: &Debt| ResolutionWaiter {
            op: match self.requests.get(debt.request).map(|request| request.owner) {
                Some(Owner::Op(id)) => Some(id),
                Some(Owner::Resolution(_) | Owner::Heartbeat(_)) | None => None,
            },
            key: debt.lock.key.clone(),
            caller: debt.mode.caller(),
        };
        inquiries
            .map(|inquiry| Resolution {
                start_ts: inquiry.id().start_ts,
                primary: inquiry.id().primary.clone(),
                pessimistic: inquiry.id().pessimistic,
                stage: inquiry.stage(),
                waiters: inquiry.all_debts().map(waiter).collect(),
            })
            .collect()
    }
}

/// A transaction whose locks are in somebody's way, and what is done about it (`transactions.md`
/// §16.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Resolution {
    /// When the transaction started: its name.
    pub start_ts: Timestamp,
    /// Where its fate is written.
    pub primary: Key,
    /// Whether it is about its pessimistic locks.
    pub pessimistic: bool,
    /// What is being done.
    pub stage: ResolutionStage,
    /// Who waits. Empty when its locks are cleaned up in the background.
    pub waiters: Vec<ResolutionWaiter>,
}

/// What is being done about the locks of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResolutionStage {
    /// Its primary is being asked.
    Asking,
    /// Its primary is not written yet, and will be asked again.
    Pausing,
    /// Its other keys are being asked (async commit).
    Recovering,
    /// Its locks are committed, rolled back or released.
    Cleaning,
}

/// Who waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ResolutionWaiter {
    /// The operation; `None` if it has ended meanwhile.
    pub op: Option<OpId>,
    /// The key that it found locked.
    pub key: Key,
    /// The timestamp of the read, or the start of the transaction; `None` for pessimistic locks and for
    /// garbage collection, which push nobody.
    pub caller: Option<Timestamp>,
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
        let id = Id {
            start_ts: debt.lock.start_ts,
            primary: debt.lock.primary.clone(),
            pessimistic: debt.lock.is_pessimistic(),
            manner: debt.mode.manner(),
        };
        if let Some(handle) = self.resolver.by_id.get(&id)
            && let Some(inquiry) = self.resolver.inquiries.get_mut(*handle)
        {
            let handle = *handle;
            inquiry.join(debt);
            return self.wake(Owner::Resolution(handle), inquiry::JOINED, Wake::Pause);
        }
        let fate = self.resolver.fates.get(&id.start_ts).copied();
        let handle = self.resolver.inquiries.insert(Inquiry::new(id.clone(), debt, fate));
        self.resolver.by_id.insert(id, handle);
        self.wake(Owner::Resolution(handle), inquiry::JOINED, Wake::Pause);
    }

    /// Runs an inquiry until it waits or ends.
    pub(crate) fn step_inquiry(&mut self, handle: Handle, tag: Tag, wake: Wake) {
        let Some(inquiry) = self.resolver.inquiries.take(handle) else {
            return;
        };
        let heard = match tag {
            inquiry::JOINED => Input::Joined,
            _ => Input::of_wake(&wake, inquiry.awaits(tag)),
        };
        self.coverage.met(inquiry.state(), heard);
        let id = inquiry.id().clone();
        let mut draws = self.draws;
        let owner = Owner::Resolution(handle);
        let mut cx = Cx { shared: self, owner, deadline: Instant::NEVER, draws: &mut draws };
        let next = inquiry.wake(tag, wake, &mut cx);
        self.draws = draws;
        match next {
            Some(inquiry) => self.resolver.inquiries.put(handle, inquiry),
            None => {
                self.resolver.inquiries.release(handle);
                if self.resolver.by_id.get(&id) == Some(&handle) {
                    self.resolver.by_id.remove(&id);
                }
            }
        }
    }

    /// Remembers how a transaction ended.
    fn remember_fate(&mut self, start_ts: Timestamp, fate: Fate) {
        let limit = self.config.fate_cache_size;
        self.resolver.fates.put(start_ts, fate, limit);
    }

    /// The primary of a pessimistic lock is gone. Whether that was known before.
    fn primary_is_gone(&mut self, start_ts: Timestamp, primary: &Key) -> bool {
        let limit = self.config.fate_cache_size;
        !self.resolver.gone.put((start_ts, primary.clone()), (), limit)
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
                Passage::Access if planted!(self.config, CommittedPassedBy) => {
                    resolved.bypass.push(version);
                }
                Passage::Bypass => resolved.bypass.push(version),
                Passage::Access => resolved.access.push(version),
                Passage::Ended(fate) => {
                    resolved.ended.insert(debt.lock.start_ts, fate);
                }
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
    /// Its transaction has ended; its locks are left to who asked.
    Ended(Fate),
    /// Its transaction is alive.
    Wait(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transactions.md §1.4: resolved-status cache, 2 048 entries, FIFO.
    #[test]
    fn primaries_that_are_gone_are_forgotten_in_the_order_they_were_met() {
        let at = |n| Timestamp::from_version(n).unwrap();
        let key = |text: &'static str| Key::from_static(text.as_bytes());
        let mut gone = Recent::default();
        let mut meet = |start_ts, primary| !gone.put((start_ts, primary), (), 2);
        assert!(!meet(at(1), key("p")) && meet(at(1), key("p")));
        assert!(!meet(at(1), key("q")), "another primary");
        assert!(!meet(at(2), key("p")), "another transaction");
        assert!(!meet(at(1), key("p")), "forgotten");
        assert_eq!((gone.by_key.len(), gone.order.len()), (2, 2));
    }

    #[test]
    fn fates_are_forgotten_in_the_order_they_were_learned() {
        let ts = |n| Timestamp::from_version(n).unwrap();
        let mut fates = Recent::default();
        for n in [3, 1, 2] {
            fates.put(ts(n), Fate::RolledBack, 2);
        }
        assert_eq!(fates.get(&ts(3)).copied(), None);
        assert_eq!(fates.get(&ts(1)).copied(), Some(Fate::RolledBack));
        fates.put(ts(1), Fate::RolledBack, 2);
        assert_eq!((fates.order.len(), fates.by_key.len()), (2, 2));
        fates.put(ts(1), Fate::Committed(ts(9)), 2);
        assert_eq!(fates.get(&ts(1)).copied(), Some(Fate::RolledBack), "a fate is final");
    }
}
