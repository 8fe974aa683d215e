//! Requests for locks that wait for others to let go (transactions.md §13, §14, §20.4, fourth rule).
//!
//! A request that meets a lock is parked at its store: one queue a key, and the transaction that
//! began first stands first.
//!
//! ```text
//!                 the lock is gone, and it is its turn
//!          ┌──► normal:     WriteConflict, and the client asks again
//!          ├──► fair:       locks the key, newer data or not ── still locked? ──┐
//!          ├──► 20 ms after another of its queue was woken: the same            │
//! parked ──┼──► its time is over:       KeyIsLocked                             │
//!    ▲     ├──► it would close a circle (also when a lock changes hands): Deadlock
//!    │     ├──► region or leader changed: the region error                      │
//!    │     └──► the store stops:        the connection is lost                  │
//!    └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The cluster has no clock and nobody to call back. So a request that is parked is answered with a
//! [`Ticket`], and what became of it is fetched with [`Cluster::take_woken`]: after anything that was
//! done to the cluster, and when the time of [`Cluster::next_wake_ms`] has come. Who does not want to
//! wait takes [`Cluster::handle`] and [`Cluster::call`]: they do not park a request but answer it as
//! at the end of its time, that much late. That is right, and all that is lost is being woken
//! early, being granted the lock, and the detection of deadlocks.
//!
//! As in TiKV a request stays parked when its client is gone, and may then get a lock that nobody
//! knows of.
//!
//! Where TiKV differs: there, a change of region or leader wakes nobody. Parked requests wait out
//! their time, which a client can only take for a slow release.

mod deadlock;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use anatase_proto::{
    deadlock::WaitForEntry,
    kvrpcpb::{Context, LockInfo, PessimisticLockResponse},
};
use bytes::Bytes;

use crate::{
    Cluster,
    access::{Access, Refusal},
    answer::{Answer, Failure, Loss},
    mvcc::{Key, KeyError, Lock, LockEvent, Reason, pessimistic::Acquire},
    store::StoreId,
    txn,
};

/// Names a parked request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What becomes of a call that may have to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served<T> {
    /// It is over.
    Answered(Answer<T>),
    /// It waits for a lock: [`Cluster::take_woken`] will tell.
    Parked(Ticket),
}

impl<T> Served<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Served<U> {
        match self {
            Served::Answered(answer) => Served::Answered(answer.map(f)),
            Served::Parked(ticket) => Served::Parked(ticket),
        }
    }
}

/// A parked request whose wait is over.
#[derive(Clone, Debug, PartialEq, Hash)]
#[non_exhaustive]
pub struct Woken {
    /// Which.
    pub ticket: Ticket,
    /// Its answer.
    pub answer: Answer<PessimisticLockResponse>,
}

/// A request to park.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) at: StoreId,
    pub(crate) context: Context,
    pub(crate) key: Key,
    pub(crate) absent: bool,
    pub(crate) request: Acquire,
    /// It is the first of its transaction, which so is in no circle: nobody waits for it.
    pub(crate) is_first_lock: bool,
    pub(crate) wait: Duration,
    /// The lock in the way.
    pub(crate) lock: LockInfo,
}

#[derive(Clone, Debug, Hash)]
struct Parked {
    waiter: Waiter,
    /// Milliseconds.
    until: u64,
    /// When another lock last took the place of the one in the way, in milliseconds.
    updated: Option<u64>,
    /// The transaction that it waits for in the graph of deadlocks.
    waits_for: Option<u64>,
    /// How often requests of its queue had been woken when it came.
    came_after: u64,
    /// How much later than it is woken it is answered.
    delay: Duration,
    /// Its answer is lost.
    unheard: bool,
}

impl Parked {
    fn entry(&self, wait_for_txn: u64) -> WaitForEntry {
        let key = self.waiter.key.user.clone();
        WaitForEntry {
            txn: self.waiter.request.start_ts,
            wait_for_txn,
            key_hash: deadlock::hash(&key),
            key,
            resource_group_tag: self.waiter.context.resource_group_tag.clone(),
            wait_time: 0,
        }
    }
}

/// The requests that wait for one key. It is gone when none is left.
#[derive(Clone, Debug, Default, Hash)]
struct Queue {
    /// By start timestamp of their transactions.
    order: BTreeSet<(u64, Ticket)>,
    /// How often a request in normal mode was woken.
    woken: u64,
    /// Start and commit timestamp of what the last lock became.
    conflict: (u64, u64),
    /// When those that stood beside a request that was woken are woken, too; in milliseconds.
    notify_at: Option<u64>,
}

/// All parked requests.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct LockWait {
    tickets: u64,
    parked: BTreeMap<Ticket, Parked>,
    /// By memcomparable key.
    queues: BTreeMap<Bytes, Queue>,
    woken: Vec<Woken>,
}

impl LockWait {
    fn detect(&self, new: &WaitForEntry) -> Option<KeyError> {
        let edges = self.parked.values().filter_map(|it| it.waits_for.map(|ts| it.entry(ts)));
        deadlock::detect(edges, new).map(|deadlock| KeyError::Deadlock(Box::new(deadlock)))
    }

    fn enqueue(&mut self, ticket: Ticket) {
        let Some(parked) = self.parked.get_mut(&ticket) else { return };
        let queue = self.queues.entry(parked.waiter.key.encoded.clone()).or_default();
        parked.came_after = queue.woken;
        queue.order.insert((parked.waiter.request.start_ts, ticket));
    }

    /// Takes it out of its queue, and the queue away if that leaves nobody.
    fn dequeue(&mut self, ticket: Ticket) {
        let Some(parked) = self.parked.get(&ticket) else { return };
        let key = &parked.waiter.key.encoded;
        if let Some(queue) = self.queues.get_mut(key) {
            queue.order.remove(&(parked.waiter.request.start_ts, ticket));
            if queue.order.is_empty() {
                self.queues.remove(key);
            }
        }
    }

    fn finish(&mut self, ticket: Ticket, result: Result<PessimisticLockResponse, Failure>) {
        self.dequeue(ticket);
        if let Some(parked) = self.parked.remove(&ticket)
            && !parked.unheard
        {
            self.woken.push(Woken { ticket, answer: Answer { result, delay: parked.delay } });
        }
    }

    fn fail(&mut self, ticket: Ticket, error: &KeyError) {
        if let Some(parked) = self.parked.get(&ticket) {
            let response = txn::lock::failed(parked.waiter.request.force, error);
            self.finish(ticket, Ok(response));
        }
    }

    /// The next thing that time alone does: wakes the rest of a queue, or ends a wait.
    fn next_due(&self) -> Option<(u64, Due)> {
        let notify = self
            .queues
            .iter()
            .filter_map(|(key, queue)| Some((queue.notify_at?, Due::Notify(key.clone()))));
        let ends = self.parked.iter().map(|(ticket, it)| (it.until, Due::End(*ticket)));
        notify.chain(ends).min()
    }

    /// No answer will be fetched.
    pub(crate) fn unheard(&mut self, ticket: Ticket) {
        if let Some(parked) = self.parked.get_mut(&ticket) {
            parked.unheard = true;
        }
    }

    pub(crate) fn delay(&mut self, ticket: Ticket, delay: Duration) {
        if let Some(parked) = self.parked.get_mut(&ticket) {
            parked.delay = delay;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Notify(Bytes),
    End(Ticket),
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Cluster {
    /// The parked requests whose wait is over, in the order in which it ended.
    ///
    /// To be called after whatever was done to the cluster, calls and changes of time included.
    pub fn take_woken(&mut self) -> Vec<Woken> {
        self.settle_waits();
        self.wake_due();
        std::mem::take(&mut self.lock_wait.woken)
    }

    /// When time alone will next end somebody's wait, in milliseconds since the Unix epoch: not in
    /// the future if [`Cluster::take_woken`] has something to tell; `None` if nobody waits.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if !self.lock_wait.woken.is_empty() {
            return Some(self.now_ms());
        }
        self.lock_wait.next_due().map(|(at, _)| at)
    }

    /// Who waits for whom for which key: one entry a parked request, in the order in which they
    /// came.
    pub fn parked(&self) -> Vec<WaitForEntry> {
        self.parked_at(|_| true)
    }

    pub(crate) fn parked_at(&self, here: impl Fn(StoreId) -> bool) -> Vec<WaitForEntry> {
        let parked = self.lock_wait.parked.values().filter(|it| here(it.waiter.at));
        parked.map(|it| it.entry(it.waiter.lock.lock_version)).collect()
    }

    /// Parks a request, unless that would be a deadlock.
    pub(crate) fn park(&mut self, waiter: Waiter) -> Result<Ticket, KeyError> {
        let holder = waiter.lock.lock_version;
        let until = self.now_ms().saturating_add(millis(waiter.wait));
        let mut parked = Parked {
            waiter,
            until,
            updated: None,
            waits_for: None,
            came_after: 0,
            delay: Duration::ZERO,
            unheard: false,
        };
        if !parked.waiter.is_first_lock {
            if let Some(deadlock) = self.lock_wait.detect(&parked.entry(holder)) {
                return Err(deadlock);
            }
            parked.waits_for = Some(holder);
        }
        self.lock_wait.tickets += 1;
        let ticket = Ticket(self.lock_wait.tickets);
        self.lock_wait.parked.insert(ticket, parked);
        self.lock_wait.enqueue(ticket);
        Ok(ticket)
    }

    /// The answer to a request that is not to wait: that at the end of its time, so much later.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> Answer<PessimisticLockResponse> {
        let waits = &mut self.lock_wait;
        waits.dequeue(ticket);
        if let Some(Parked { waiter, delay, .. }) = waits.parked.remove(&ticket) {
            let error = KeyError::Locked(Box::new(waiter.lock));
            let response = txn::lock::failed(waiter.request.force, &error);
            return Answer { result: Ok(response), delay: delay + waiter.wait };
        }
        match waits.woken.iter().position(|woken| woken.ticket == ticket) {
            Some(at) => waits.woken.remove(at).answer,
            None => Answer::now(Err(Failure::Lost(Loss::Silent))),
        }
    }

    /// Lets parked requests know what has happened to locks, regions and stores.
    pub(crate) fn settle_waits(&mut self) {
        let events = self.mvcc.take_events();
        if self.lock_wait.parked.is_empty() {
            return;
        }
        self.refuse_strays();
        self.take_note(events, self.now_ms());
    }

    /// Ends the waits whose time is over, and wakes who is to be woken late, in order of time.
    pub(crate) fn wake_due(&mut self) {
        let now = self.now_ms();
        while let Some((at, due)) = self.lock_wait.next_due()
            && at <= now
        {
            match due {
                Due::Notify(key) => self.notify_rest(&key),
                Due::End(ticket) => self.end_wait(ticket, at),
            }
            let events = self.mvcc.take_events();
            self.take_note(events, at);
        }
    }

    fn take_note(&mut self, events: Vec<LockEvent>, now: u64) {
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            match event {
                LockEvent::Released { key, start_ts, commit_ts } => {
                    self.released(&key, (start_ts, commit_ts), now);
                }
                LockEvent::Taken { key, lock } => self.taken(&key, &lock, now),
            }
            events.extend(self.mvcc.take_events());
        }
    }

    /// Those whose store is not the one to ask any more.
    fn refuse_strays(&mut self) {
        let tickets: Vec<Ticket> = self.lock_wait.parked.keys().copied().collect();
        for ticket in tickets {
            let Some(parked) = self.lock_wait.parked.get(&ticket) else { continue };
            let (at, force) = (parked.waiter.at, parked.waiter.request.force);
            if self.refuse_connection(at).is_some() {
                self.lock_wait.finish(ticket, Err(Failure::Lost(Loss::Reset)));
                continue;
            }
            let context = parked.waiter.context.clone();
            if let Err(Refusal::Region(error)) = self.enter(at, &context, Access::Read) {
                self.lock_wait.finish(ticket, Ok(txn::lock::refused(force, error)));
            }
        }
    }

    /// A lock is gone: the first of the queue is woken.
    fn released(&mut self, key: &Key, conflict: (u64, u64), now: u64) {
        let delay = millis(self.config.wake_up_delay);
        let Some(queue) = self.lock_wait.queues.get_mut(&key.encoded) else { return };
        queue.conflict = conflict;
        let Some((_, first)) = queue.order.first().copied() else { return };
        let force =
            self.lock_wait.parked.get(&first).is_some_and(|parked| parked.waiter.request.force);
        if force {
            return self.resume(first);
        }
        queue.woken += 1;
        // If nobody else is left, the queue goes, and this with it.
        queue.notify_at = Some(now.saturating_add(delay));
        self.conflict(first, conflict);
    }

    /// Some time after that: those who stood in the queue then, up to the first that may take the
    /// lock.
    fn notify_rest(&mut self, key: &Bytes) {
        let Some(queue) = self.lock_wait.queues.get_mut(key) else { return };
        queue.notify_at = None;
        let (conflict, woken) = (queue.conflict, queue.woken);
        let rest: Vec<Ticket> = queue.order.iter().map(|(_, ticket)| *ticket).collect();
        for ticket in rest {
            let Some(parked) = self.lock_wait.parked.get(&ticket) else { continue };
            if parked.came_after >= woken {
                break;
            }
            if parked.waiter.request.force {
                return self.resume(ticket);
            }
            self.conflict(ticket, conflict);
        }
    }

    /// Wakes a request in normal mode: its client has to look again.
    fn conflict(&mut self, ticket: Ticket, (start_ts, commit_ts): (u64, u64)) {
        let Some(parked) = self.lock_wait.parked.get(&ticket) else { return };
        let error = KeyError::Conflict {
            start_ts: parked.waiter.request.start_ts,
            conflict_start_ts: start_ts,
            conflict_commit_ts: commit_ts,
            key: parked.waiter.key.user.clone(),
            primary: parked.waiter.request.primary.clone(),
            reason: Reason::PessimisticRetry,
        };
        self.lock_wait.fail(ticket, &error);
    }

    /// Wakes a request in fair locking: it takes the lock, or waits on.
    fn resume(&mut self, ticket: Ticket) {
        self.lock_wait.dequeue(ticket);
        let Some(parked) = self.lock_wait.parked.get(&ticket) else { return };
        // What it reads the store has known since it was parked.
        let Waiter { key, absent, request, .. } = parked.waiter.clone();
        match self.mvcc.acquire(&request, &key, absent) {
            Ok((acquired, change)) => {
                self.mvcc.apply(change.into_iter().collect());
                let response = txn::lock::locked(request.force, vec![acquired]);
                self.lock_wait.finish(ticket, Ok(response));
            }
            Err(KeyError::Locked(_)) => self.lock_wait.enqueue(ticket),
            Err(error) => self.lock_wait.fail(ticket, &error),
        }
    }

    /// The key that they wait for is locked anew: they wait for another transaction now.
    fn taken(&mut self, key: &Key, lock: &Lock, now: u64) {
        let Some(queue) = self.lock_wait.queues.get(&key.encoded) else { return };
        let waiting: Vec<Ticket> = queue.order.iter().map(|(_, ticket)| *ticket).collect();
        for ticket in waiting {
            let Some(parked) = self.lock_wait.parked.get_mut(&ticket) else { continue };
            parked.updated = Some(now);
            if parked.waiter.lock.lock_version == lock.start_ts {
                continue;
            }
            parked.waiter.lock = lock.to_info(&key.user);
            // A request in normal mode asks again anyway when it is woken.
            if !parked.waiter.request.force || parked.waiter.is_first_lock {
                continue;
            }
            let edge = parked.entry(lock.start_ts);
            if let Some(deadlock) = self.lock_wait.detect(&edge) {
                self.lock_wait.fail(ticket, &deadlock);
            } else if let Some(parked) = self.lock_wait.parked.get_mut(&ticket) {
                parked.waits_for = Some(lock.start_ts);
            }
        }
    }

    /// Its time is over.
    fn end_wait(&mut self, ticket: Ticket, now: u64) {
        let Some(parked) = self.lock_wait.parked.get(&ticket) else { return };
        let mut info = parked.waiter.lock.clone();
        // 0 says that the lock is the one that was met at first.
        info.duration_to_last_update_ms =
            parked.updated.map_or(0, |updated| now.saturating_sub(updated).max(1));
        self.lock_wait.fail(ticket, &KeyError::Locked(Box::new(info)));
    }
}
