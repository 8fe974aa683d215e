//! A transaction as a value (`transactions.md` §3, §13, §14).
//!
//! It knows what the transaction has written and what it holds, says what has to be asked of the
//! cluster, and is told how that went. It asks nobody itself and never waits: whoever wraps it submits
//! the plans as [`Operation`](crate::Operation)s.
//!
//! ```text
//!              lock_call               locked
//!   Open ─────────────────▶ Locking ───────────▶ Open        what is held already is not asked for
//!    │                         │ lock_failed
//!    │                         └────────────────▶ Open        what the call took is being released
//!    ├── commit_plan ───▶ Ended                               the plan says how it ends
//!    └── rollback_plan ─▶ Ended
//! ```
//!
//! | state | lock_call | locked, lock_failed | fair locking | commit_plan | rollback_plan |
//! |---|---|---|---|---|---|
//! | Open | Locking, or answered from what is held | error | see `fair.rs` | Ended; error while fair locking holds keys | Ended; error while fair locking holds keys |
//! | Locking | error: one call at a time | Open | error | error | Ended: the call's owner stops it first |
//! | Ended | error | error | error | error | error |
//!
//! # Rules
//! - **Held keys are not locked again** (`peers.md` D10). What was found when a key was locked stays
//!   true for as long as it is held.
//! - **A failed call gives back what it took and nothing else** (D9). The release is part of
//!   [`Operation::Lock`](crate::Operation::Lock); all that is left to do here is to forget a primary
//!   that was chosen for the call.
//! - **`for_update_ts` only grows.** It is the largest of all calls, so that prewrite and release cover
//!   every lock. A call after a release has to be as of a later time than that, because the release may
//!   still be on its way (§22.29).
//! - **The primary is the first key that is locked**, and stays until the transaction ends, unless it
//!   was chosen by an attempt of fair locking.
//! - **Lock first, then write.** A write goes to the buffer once its key is locked, so there is nothing
//!   to take back when the lock is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::lock_plan::{
    Found, LockKey, LockPlan, LockReply, LockWait, LockedKey, PessimisticRollbackPlan,
};
use crate::operation::{CommitPlan, Key, LockState, Mutation, PessimisticPlan};
use crate::time::Instant;
use crate::timestamp::Timestamp;
use crate::txn::fair::{Fair, Held, Wanted};
use crate::txn::{Buffer, BufferLimits, Collected, Collecting, TxnOptions};

/// When conflicts with other transactions are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxnMode {
    /// When it commits.
    Optimistic,
    /// When a key is locked, before it is written.
    Pessimistic,
}

/// How keys are to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockOptions {
    /// How long to wait for locks of others.
    pub wait: LockWait,
    /// Tell the values.
    pub return_values: bool,
    /// Tell whether the keys have values.
    pub check_existence: bool,
    /// Lock only keys that have a value. Needs `return_values` and, for several keys, that the
    /// transaction holds a lock already.
    pub lock_only_if_exists: bool,
}

impl Default for LockOptions {
    /// Waits until the operation's deadline, and tells nothing.
    fn default() -> Self {
        Self {
            wait: LockWait::Forever,
            return_values: false,
            check_existence: false,
            lock_only_if_exists: false,
        }
    }
}

/// What becomes of a call for locks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LockCall {
    /// Everything is held already, or nothing is locked before the commit.
    Held(Vec<LockedKey>),
    /// This has to be asked for; then [`Transaction::locked`] or [`Transaction::lock_failed`].
    Ask(Box<LockPlan>),
}

/// A transaction that has not ended. See the module's table.
#[derive(Clone, Debug)]
pub struct Transaction {
    start_ts: Timestamp,
    mode: TxnMode,
    options: Arc<TxnOptions>,
    buffer: Buffer,
    primary: Option<Key>,
    /// The largest of all calls.
    for_update_ts: Option<Timestamp>,
    /// The largest conflict with which a key was locked.
    max_conflict_ts: Option<Timestamp>,
    /// As of when keys were locked by fair locking: the prewrite has to find exactly that lock.
    held_at: BTreeMap<Key, Timestamp>,
    fair: Option<Fair>,
    pending: Option<Pending>,
    /// Releases that nobody has taken yet.
    releases: Vec<PessimisticRollbackPlan>,
    /// Up to here locks may be released: the next call has to be later.
    released: Option<Timestamp>,
    ended: bool,
    #[cfg(anatase_planted)]
    planted: Option<crate::Plant>,
}

/// A lock call under way.
#[derive(Clone, Debug)]
struct Pending {
    /// What was held already.
    held: Vec<LockedKey>,
    plan: Box<LockPlan>,
}

/// What is known of a key that is wanted.
enum Known {
    Not,
    /// It is held, and that is all that is wanted.
    Held(LockedKey),
    /// It is held, but it is not known whether there is a value.
    Verify,
}

fn invalid<T>(text: &str) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidArgument, text))
}

impl Transaction {
    /// A transaction that begins at `start_ts`.
    pub fn new(
        start_ts: Timestamp,
        mode: TxnMode,
        options: Arc<TxnOptions>,
        limits: BufferLimits,
    ) -> Self {
        Self {
            start_ts,
            mode,
            options,
            buffer: Buffer::new(limits),
            primary: None,
            for_update_ts: None,
            max_conflict_ts: None,
            held_at: BTreeMap::new(),
            fair: None,
            pending: None,
            releases: Vec::new(),
            released: None,
            ended: false,
            #[cfg(anatase_planted)]
            planted: None,
        }
    }

    /// The same with a bug.
    #[cfg(anatase_planted)]
    pub fn with_plant(self, planted: Option<crate::Plant>) -> Self {
        Self { planted, ..self }
    }

    /// Names the transaction.
    pub fn start_ts(&self) -> Timestamp {
        self.start_ts
    }

    /// When it finds conflicts.
    pub fn mode(&self) -> TxnMode {
        self.mode
    }

    /// What was chosen about it.
    pub fn options(&self) -> &Arc<TxnOptions> {
        &self.options
    }

    /// Chooses anew. Requests that were made before keep what they were made with.
    pub fn set_options(&mut self, options: Arc<TxnOptions>) {
        self.options = options;
    }

    /// What it has written.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// For writing. A pessimistic transaction locks a key before it writes it.
    pub fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    /// The key whose lock stands for it, once there is one.
    pub fn primary(&self) -> Option<&Key> {
        self.primary.as_ref()
    }

    /// The largest `for_update_ts` of its lock calls.
    pub fn for_update_ts(&self) -> Option<Timestamp> {
        self.for_update_ts
    }

    /// As of when keys that are held are read: nobody has written them since. Not below what a lock in
    /// spite of a conflict has met (§14), which was written after its call's timestamp was taken.
    pub fn held_as_of(&self) -> Timestamp {
        self.until(None)
    }

    /// Whether it holds the key: then locking it costs nothing, not even a timestamp.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.buffer.is_locked(key)
            || self.fair.as_ref().is_some_and(|fair| fair.current.contains_key(key))
    }

    /// How many keys it holds, those of the running attempt of fair locking included.
    pub fn locked_keys(&self) -> usize {
        self.buffer.locked_len() + self.fair.as_ref().map_or(0, |fair| fair.current.len())
    }

    /// Whether it has neither written nor locked anything.
    pub fn is_read_only(&self) -> bool {
        self.buffer.is_empty() && self.locked_keys() == 0
    }

    /// A release of locks that nothing depends on any more. To be submitted, each as an operation of its
    /// own, after every other call; nobody has to wait for it.
    pub fn take_release(&mut self) -> Option<PessimisticRollbackPlan> {
        self.releases.pop()
    }

    fn open(&self) -> Result<(), Error> {
        if self.ended {
            return invalid("the transaction has ended");
        }
        if self.pending.is_some() {
            return invalid("another lock call of the transaction is under way");
        }
        Ok(())
    }

    // ---- locking -------------------------------------------------------------------------------

    /// Locks keys as of `for_update_ts`, which has to be a fresh timestamp. `open_for`: how long the
    /// transaction has been open. An optimistic transaction locks nothing before it commits, and only
    /// remembers the keys.
    ///
    /// # Errors
    /// [`ErrorKind::KeyExists`] for a key that is presumed absent but held, and had a value when it was
    /// locked. [`ErrorKind::InvalidArgument`] if the options or the timestamp make no sense, or the
    /// transaction has ended. [`ErrorKind::TooLarge`] if an optimistic transaction's buffer is full.
    pub fn lock_call(
        &mut self,
        keys: Vec<LockKey>,
        for_update_ts: Timestamp,
        options: &LockOptions,
        open_for: Duration,
        now: Instant,
    ) -> Result<LockCall, Error> {
        self.open()?;
        let keys = sorted(keys);
        match self.mode {
            TxnMode::Optimistic => {
                for key in &keys {
                    self.buffer.lock(key.key.clone())?;
                }
                return Ok(LockCall::Held(Vec::new()));
            }
            TxnMode::Pessimistic => {}
        }
        if for_update_ts < self.start_ts {
            return invalid("a transaction cannot lock as of before its start");
        }
        if self.released.is_some_and(|released| for_update_ts <= released) {
            return invalid("after a release locks have to be taken as of a later time");
        }
        if options.lock_only_if_exists && !options.return_values {
            return invalid("locking only what exists needs the values returned");
        }
        if self.fair.is_some() && keys.len() > 1 {
            // What this call locks again is not to be released meanwhile.
            self.fair_done_but(&keys)?;
        }
        let mut held = Vec::new();
        let mut wanted = Vec::new();
        for key in keys {
            match self.known(&key)? {
                Known::Held(known) => held.push(known),
                Known::Not => wanted.push(LockKey { held: false, ..key }),
                Known::Verify => wanted.push(LockKey { held: true, ..key }),
            }
        }
        let verify = wanted.iter().any(|key| key.held);
        let Some(first) = wanted.first() else {
            return Ok(LockCall::Held(held));
        };
        let (primary, new_primary) = match &self.primary {
            Some(primary) => (primary.clone(), false),
            None => (first.key.clone(), true),
        };
        if options.lock_only_if_exists && new_primary && wanted.len() > 1 {
            return invalid("locking only what exists of several keys needs a locked primary");
        }
        // Taken over from the last attempt, without asking?
        let assigned = if new_primary {
            Some(primary.clone())
        } else {
            self.fair.as_ref().and_then(|fair| fair.assigned.clone())
        };
        let want = Wanted {
            values: options.return_values,
            existence: options.check_existence,
            assigned,
            now,
        };
        if let Some(key) = self.taken_over(&wanted[0], &want, for_update_ts)? {
            self.for_update_ts = self.for_update_ts.max(Some(for_update_ts));
            if new_primary {
                self.assign(primary);
            }
            held.push(key);
            return Ok(LockCall::Held(held));
        }
        let plan = Box::new(LockPlan {
            start_ts: self.start_ts,
            for_update_ts,
            primary,
            new_primary,
            is_first_lock: self.locked_keys() == 0 && wanted.len() == 1,
            force: self.fair.is_some() && wanted.len() == 1,
            keys: wanted,
            wait: options.wait,
            return_values: options.return_values,
            check_existence: options.check_existence || verify,
            lock_only_if_exists: options.lock_only_if_exists,
            open_for,
            options: self.options.clone(),
        });
        self.for_update_ts = match self.for_update_ts {
            Some(first) if planted!(self, ForUpdateTsNotRaised) => Some(first),
            known => known.max(Some(for_update_ts)),
        };
        self.pending = Some(Pending { held, plan: plan.clone() });
        Ok(LockCall::Ask(plan))
    }

    /// What is known of a key. A prewrite does not look whether there is a value under a lock, so a
    /// held key that is presumed absent has to be asked about, if nobody has.
    fn known(&self, key: &LockKey) -> Result<Known, Error> {
        let current = self.fair.as_ref().and_then(|fair| fair.current.get(&key.key));
        let found = match (current, self.buffer.flags(&key.key)) {
            (Some(held), _) => held.found.clone(),
            (None, Some(flags)) if flags.locked() => match flags.value_existed() {
                Some(true) => Found::Exists,
                Some(false) => Found::Missing,
                None => Found::NotAsked,
            },
            (None, Some(_) | None) => return Ok(Known::Not),
        };
        // What the transaction itself has made of the key since counts more.
        if key.presume_not_exists && self.buffer.get(&key.key).is_none() {
            match found.exists() {
                Some(true) => return Err(exists(&key.key)),
                None => return Ok(Known::Verify),
                Some(false) => {}
            }
        }
        let key = key.key.clone();
        Ok(Known::Held(LockedKey { key, locked: true, already: true, found, conflict_ts: None }))
    }

    /// A key of the last attempt that this one takes over without asking (§14). One that is asked for
    /// again is no longer the last attempt's either way, once it is locked.
    fn taken_over(
        &mut self,
        key: &LockKey,
        wanted: &Wanted,
        for_update_ts: Timestamp,
    ) -> Result<Option<LockedKey>, Error> {
        let Some(fair) = &self.fair else {
            return Ok(None);
        };
        let Some(held) = fair.last.get(&key.key) else {
            return Ok(None);
        };
        if held.conflict_ts.is_some_and(|conflict_ts| for_update_ts < conflict_ts) {
            return invalid("the next attempt has to be as of a time after the conflict");
        }
        if !fair.will_do(held, wanted) {
            return Ok(None);
        }
        if key.presume_not_exists && held.found.exists() == Some(true) {
            return Err(exists(&key.key));
        }
        let Some(fair) = &mut self.fair else {
            return Ok(None);
        };
        let Some(mut held) = fair.last.remove(&key.key) else {
            return Ok(None);
        };
        // It is older than this attempt, which therefore has no conflict with it.
        held.conflict_ts = None;
        let found = held.found.clone();
        fair.current.insert(key.key.clone(), held);
        let key = key.key.clone();
        Ok(Some(LockedKey { key, locked: true, already: true, found, conflict_ts: None }))
    }

    fn assign(&mut self, primary: Key) {
        if let Some(fair) = &mut self.fair {
            fair.assigned = Some(primary.clone());
        }
        self.primary = Some(primary);
    }

    /// The call's locks are taken. Gives all keys of the call, sorted, those that were held before
    /// included.
    ///
    /// # Errors
    /// [`ErrorKind::KeyExists`] if a key that was held before, and is presumed absent now, has a value;
    /// the others are locked all the same. [`ErrorKind::InvalidArgument`] if no call is under way, or
    /// the reply is not to this one.
    pub fn locked(&mut self, mut reply: LockReply) -> Result<Vec<LockedKey>, Error> {
        if planted!(self, ConflictForgotten) {
            reply.keys.iter_mut().for_each(|key| key.conflict_ts = None);
        }
        let Some(Pending { mut held, plan }) = self.pending.take() else {
            return invalid("no lock call is under way");
        };
        let asked = plan.keys.iter().map(|key| &key.key);
        if !asked.eq(reply.keys.iter().map(|key| &key.key)) {
            self.pending = Some(Pending { held, plan });
            return invalid("the reply to another lock call");
        }
        let mut refuted = None;
        for (asked, key) in plan.keys.iter().zip(&reply.keys) {
            self.max_conflict_ts = self.max_conflict_ts.max(key.conflict_ts);
            if !key.locked {
                continue;
            }
            if plan.new_primary && key.key == plan.primary {
                self.assign(plan.primary.clone());
            }
            let mut found = key.found.clone();
            if asked.presume_not_exists && found == Found::NotAsked {
                // The store would have refused it otherwise.
                found = Found::Missing;
            }
            if asked.held && found.exists() == Some(true) && refuted.is_none() {
                refuted = Some(exists(&key.key));
            }
            self.take(&plan, key, found);
        }
        if let Some(error) = refuted {
            return Err(error);
        }
        held.extend(reply.keys);
        held.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(held)
    }

    /// A key is locked.
    fn take(&mut self, plan: &LockPlan, key: &LockedKey, found: Found) {
        let at = key.conflict_ts.unwrap_or(plan.for_update_ts).max(plan.for_update_ts);
        let Some(fair) = self.fair.as_mut().filter(|_| !self.buffer.is_locked(&key.key)) else {
            if let Some(held_at) = self.held_at.get_mut(&key.key) {
                // Asked about again, and so locked anew.
                *held_at = (*held_at).max(at);
            }
            return self.buffer.mark_locked(key.key.clone(), found.exists());
        };
        fair.last.remove(&key.key);
        let held = Held {
            found,
            values: plan.return_values,
            existence: plan.check_existence,
            at,
            conflict_ts: key.conflict_ts,
            in_doubt: false,
        };
        fair.current.insert(key.key.clone(), held);
    }

    /// The call has failed, or was given up. What it may have taken is being released.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if no call is under way.
    pub fn lock_failed(&mut self) -> Result<(), Error> {
        let Some(Pending { plan, .. }) = self.pending.take() else {
            return invalid("no lock call is under way");
        };
        self.released = self.released.max(Some(plan.for_update_ts)).max(self.max_conflict_ts);
        if let Some(fair) = &mut self.fair {
            for key in &plan.keys {
                if let Some(held) = fair.last.get_mut(&key.key) {
                    held.in_doubt = true;
                }
            }
            if plan.new_primary {
                fair.primary_lost();
            }
        }
        Ok(())
    }

    /// The call was given up when it was over already: what it has taken, nobody has heard of, and nobody
    /// releases. `reply` is what it would have told, if that is known; keys that it tells as not locked are
    /// not.
    ///
    /// A call that was given up while it was under way releases by itself: [`Transaction::lock_failed`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if no call is under way.
    pub fn lock_unheard(&mut self, reply: Option<&LockReply>) -> Result<(), Error> {
        let plan = self.pending.as_ref().map(|pending| pending.plan.clone());
        self.lock_failed()?;
        let Some(plan) = plan else { return Ok(()) };
        let told = reply.map(|reply| &reply.keys[..]).unwrap_or_default();
        let conflict_ts = told.iter().filter_map(|key| key.conflict_ts).max();
        self.max_conflict_ts = self.max_conflict_ts.max(conflict_ts);
        let is_free = |key: &Key| told.iter().any(|told| told.key == *key && !told.locked);
        let taken = plan.keys.into_iter().filter(|key| !key.held && !is_free(&key.key));
        self.release(taken.map(|key| key.key).collect(), None, plan.new_primary);
        Ok(())
    }

    // ---- fair locking --------------------------------------------------------------------------

    /// Whether fair locking is on.
    pub fn is_fair(&self) -> bool {
        self.fair.is_some()
    }

    fn attempt(&mut self) -> Result<&mut Fair, Error> {
        self.open()?;
        match &mut self.fair {
            Some(fair) => Ok(fair),
            None => invalid("fair locking has not been started"),
        }
    }

    /// Begins the first attempt of a statement.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is on already, or the transaction is optimistic.
    pub fn fair_start(&mut self, now: Instant) -> Result<(), Error> {
        self.open()?;
        match (self.mode, &self.fair) {
            (TxnMode::Optimistic, _) => invalid("an optimistic transaction has no fair locking"),
            (TxnMode::Pessimistic, Some(_)) => invalid("fair locking has been started already"),
            (TxnMode::Pessimistic, None) => {
                self.fair = Some(Fair::start(now));
                Ok(())
            }
        }
    }

    /// Begins the next attempt. Of the locks that there are, it takes over those it asks for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if fair locking is off.
    pub fn fair_retry(&mut self, now: Instant) -> Result<(), Error> {
        let primary = self.primary.clone();
        let fair = self.attempt()?;
        // The attempt did without the primary that the one before had chosen: nothing depends on it.
        let dead = fair.assigned.is_none() && fair.last_assigned.is_some();
        let assigned = fair.assigned.is_some();
        let conflict_ts = fair.max_conflict_ts();
        let released = fair.retry(primary, now);
        if assigned {
            self.primary = None;
        }
        self.release(released, conflict_ts, dead);
        Ok(())
    }

    /// The statement is given up: so are its locks.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if fair locking is off.
    pub fn fair_cancel(&mut self) -> Result<(), Error> {
        self.attempt()?;
        let Some(fair) = self.fair.take() else {
            return Ok(());
        };
        let conflict_ts = fair.max_conflict_ts();
        let assigned = fair.assigned.is_some() || fair.last_assigned.is_some();
        if assigned {
            self.primary = None;
        }
        let keys = fair.current.into_keys().chain(fair.last.into_keys()).collect();
        self.release(keys, conflict_ts, assigned);
        Ok(())
    }

    /// The statement is done: the locks of this attempt are the transaction's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if fair locking is off.
    pub fn fair_done(&mut self) -> Result<(), Error> {
        self.fair_done_but(&[])
    }

    /// The same, but for releasing keys that are about to be locked again.
    fn fair_done_but(&mut self, wanted: &[LockKey]) -> Result<(), Error> {
        self.attempt()?;
        let Some(fair) = self.fair.take() else {
            return Ok(());
        };
        let conflict_ts = fair.max_conflict_ts();
        let dead = fair.assigned.is_none() && fair.last_assigned.is_some();
        for (key, held) in fair.current {
            self.buffer.mark_locked(key.clone(), held.found.exists());
            self.held_at.entry(key).or_insert(held.at);
        }
        let keys = fair.last.into_keys();
        let keys = keys.filter(|key| wanted.iter().all(|wanted| wanted.key != *key)).collect();
        self.release(keys, conflict_ts, dead);
        Ok(())
    }

    /// As of when everything that was ever locked is released.
    fn until(&self, more: Option<Timestamp>) -> Timestamp {
        let known = self.for_update_ts.max(self.max_conflict_ts).max(more);
        known.unwrap_or(self.start_ts)
    }

    fn release(&mut self, keys: Vec<Key>, conflict_ts: Option<Timestamp>, stop_heartbeat: bool) {
        if planted!(self, AttemptNotReleased) || (keys.is_empty() && !stop_heartbeat) {
            return;
        }
        let for_update_ts = self.until(conflict_ts);
        if !keys.is_empty() {
            self.released = self.released.max(Some(for_update_ts));
        }
        self.releases.push(PessimisticRollbackPlan {
            start_ts: self.start_ts,
            for_update_ts,
            keys,
            stop_heartbeat,
            options: self.options.clone(),
        });
    }

    // ---- the end -------------------------------------------------------------------------------

    fn no_attempt(&mut self) -> Result<(), Error> {
        match &self.fair {
            Some(fair) if !fair.current.is_empty() => {
                invalid("fair locking holds keys: it has to be done or cancelled first")
            }
            Some(_) => self.fair_cancel(),
            None => Ok(()),
        }
    }

    /// Ends the transaction by its commit; `None` if there is nothing to commit.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] while fair locking holds keys or a lock call is under way, or if
    /// the transaction has ended; and those of [`Buffer::collect`]. The transaction is still open
    /// then, and has to be rolled back.
    pub fn commit_plan(&mut self, open_for: Duration) -> Result<Option<CommitPlan>, Error> {
        self.open()?;
        self.no_attempt()?;
        let how = Collecting {
            start_ts: self.start_ts,
            pessimistic: self.mode == TxnMode::Pessimistic,
            assertion_level: self.options.assertion_level,
        };
        let Collected { mut mutations, stashed_assertion } = self.buffer.collect(&how)?;
        self.ended = true;
        if mutations.is_empty() {
            return Ok(None);
        }
        for mutation in &mut mutations {
            if let (LockState::Held, Some(at)) = (mutation.locked, self.held_at.get(&mutation.key))
            {
                mutation.locked = LockState::HeldAt(*at);
            }
        }
        let pessimistic = match self.mode {
            TxnMode::Optimistic => None,
            TxnMode::Pessimistic => self.pessimistic(&mutations),
        };
        Ok(Some(CommitPlan {
            start_ts: self.start_ts,
            mutations,
            open_for,
            options: self.options.clone(),
            pessimistic,
            stashed_assertion,
        }))
    }

    /// Also of a transaction that holds no lock (cases.md PES-01): the first key that its prewrite
    /// locks stands for it.
    fn pessimistic(&self, mutations: &[Mutation]) -> Option<PessimisticPlan> {
        let first = || mutations.iter().find(|mutation| mutation.locks()).map(|first| &first.key);
        let primary = self.primary.as_ref().or_else(first)?.clone();
        Some(PessimisticPlan {
            primary,
            // Not before a conflict that was locked through: no version of ours is.
            for_update_ts: self.until(None),
        })
    }

    /// Ends the transaction by giving its locks back; `None` if it has none, as an optimistic one
    /// before its commit. A lock call that is under way has to be stopped by its owner, and releases
    /// what it took by itself.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] while fair locking holds keys, or if the transaction has ended.
    /// Nothing has changed then.
    pub fn rollback_plan(&mut self) -> Result<Option<PessimisticRollbackPlan>, Error> {
        if self.ended {
            return invalid("the transaction has ended");
        }
        if self.pending.is_some() {
            self.lock_failed()?;
        }
        self.no_attempt()?;
        self.ended = true;
        match self.mode {
            TxnMode::Optimistic => return Ok(None),
            TxnMode::Pessimistic => {}
        }
        let keys: Vec<Key> = self.buffer.locked_keys().cloned().collect();
        if keys.is_empty() && self.primary.is_none() {
            return Ok(None);
        }
        Ok(Some(PessimisticRollbackPlan {
            start_ts: self.start_ts,
            for_update_ts: self.until(None),
            keys,
            stop_heartbeat: true,
            options: self.options.clone(),
        }))
    }
}

/// Sorted, and each key once. Of two that name the same, one that presumes absence counts.
fn sorted(mut keys: Vec<LockKey>) -> Vec<LockKey> {
    keys.sort_by(|a, b| (&a.key, b.presume_not_exists).cmp(&(&b.key, a.presume_not_exists)));
    keys.dedup_by(|later, first| later.key == first.key);
    keys
}

fn exists(key: &Key) -> Error {
    Error::new(ErrorKind::KeyExists { key: key.clone() }, "the key exists")
}
