//! What a call and the stores it depends on have to do with each other beside question and answer: an
//! attempt that is out is looked after, dead stores that are missed are looked for, and at most so many
//! requests go to one store at once.
//!
//! **The limit per store** ([`Config::max_store_requests`](crate::Config::max_store_requests)). The
//! reference refuses a request over its limit with an error (§5.6), which its callers can only meet by
//! trying again. Here a call over the limit waits for its turn, first come first served, until its
//! operation's deadline: a limit is there to spare a store, not to fail operations that a moment later
//! would do. How many may wait is bounded by
//! [`Config::max_operations`](crate::Config::max_operations).

use std::time::Duration;

use super::{Attempt, Next, RegionCall, State};
use crate::command::WakeReason;
use crate::error::Failure;
use crate::id::{CommandId, Handle, RegionVersion, StoreId};
use crate::shared::{CallWake, Shared, TimerTarget};
use crate::store::Silence;
use crate::time::Instant;
use crate::timer::TimerId;

/// A store is not looked after in a tight loop, whatever the configuration says.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(1);

impl Shared {
    /// Until the attempt is given up, or until its store has been silent for long since `heard`,
    /// whichever comes first.
    pub(super) fn watch_attempt(
        &mut self,
        handle: Handle,
        attempt: Attempt,
        heard: Instant,
    ) -> TimerId {
        let look = heard + self.config.probe_after.max(SHORTEST_PATIENCE);
        let (at, reason) = match look < attempt.deadline {
            true => (look, WakeReason::Probe),
            false => (attempt.deadline, WakeReason::AttemptTimeout),
        };
        self.set_timer(at, reason, TimerTarget::Call(handle))
    }

    /// No answer for a while: is it the request that takes long, or is it the store (`store/probe.rs`)?
    pub(super) fn look_after(
        &mut self,
        handle: Handle,
        call: &mut RegionCall,
        command: CommandId,
        attempt: Attempt,
    ) -> Next {
        let patience = self.config.probe_after.max(SHORTEST_PATIENCE);
        let heard = match self.stores.silence(attempt.peer.store, patience, self.now) {
            Silence::Dead => return self.given_up(call, command, attempt),
            Silence::Broken(heard) => heard,
            Silence::Total => {
                self.suspect_store(attempt.peer.store);
                self.now
            }
        };
        let timer = self.watch_attempt(handle, attempt, heard);
        Next::Wait(State::Sent { command, timer, attempt })
    }

    /// The store is dead; whether it executed the request before, nobody can tell.
    pub(super) fn given_up(
        &mut self,
        call: &mut RegionCall,
        command: CommandId,
        attempt: Attempt,
    ) -> Next {
        self.abort(command);
        let text = "the store answers neither the request nor a health check";
        self.failed(call, attempt, &Failure::maybe_executed(text))
    }

    /// Somebody else than the leader is asked, or nobody. Dead stores may have come back; and a replica
    /// that is passed over because its store once died (§7.4: if that store is well now, or if the
    /// replica is the leader) makes the region worth a look at PD, some time.
    pub(super) fn wish_for_others(&mut self, version: RegionVersion) {
        let (stores, now) = (&self.stores, self.now);
        let Some(region) = self.regions.get(version, now, |store| stores.epoch(store)) else {
            return;
        };
        let stale = |index: usize, store| !region.is_fresh(index, stores.epoch(store));
        let reload = region.peers.iter().enumerate().any(|(index, peer)| {
            stale(index, peer.store) && (index == region.leader() || stores.reachable(peer.store))
        });
        let dead = region.peers.iter().map(|peer| peer.store);
        let dead: Vec<StoreId> = dead.filter(|store| !stores.reachable(*store)).collect();
        if reload {
            self.regions.reload_later(version, now);
        }
        for store in dead {
            self.want_store(store);
        }
    }

    // ---- the limit per store -------------------------------------------------------------------

    /// Whether a request may go to the store now; otherwise the call waits for its turn. `turn`: the
    /// store whose turn has come.
    pub(super) fn admit(&mut self, store: StoreId, call: Handle, turn: Option<StoreId>) -> bool {
        match self.config.max_store_requests {
            None => true,
            Some(limit) => self.stores.admit(store, call, limit.max(1), turn == Some(store)),
        }
    }

    /// A request to the store is over, in whatever way.
    pub(super) fn attempt_over(&mut self, store: StoreId) {
        if self.config.max_store_requests.is_some() {
            self.stores.attempt_over(store);
            self.next_turn(store);
        }
    }

    /// A call that stood in line has gone elsewhere, and its turn may just have come: it is the next
    /// one's, if there is room. Where there is none, whoever is out gives a turn when it is over; to wake
    /// the next one all the same would have two calls wake each other for ever.
    pub(super) fn turn_unused(&mut self, store: StoreId) {
        if self.config.max_store_requests.is_some_and(|limit| self.stores.has_room(store, limit)) {
            self.next_turn(store);
        }
    }

    /// The first call that waits for the store, and still wants it, has its turn.
    fn next_turn(&mut self, store: StoreId) {
        while let Some(call) = self.stores.next_in_line(store) {
            if self.calls.get(call).is_some_and(|call| call.is_queued_for(store)) {
                return self.wake_call(call, CallWake::Turn);
            }
        }
    }

    /// The call's turn has come. If it has no use for it any more, the next one's has.
    pub(super) fn take_turn(
        &mut self,
        handle: Handle,
        call: &mut RegionCall,
        store: StoreId,
    ) -> Next {
        let next = self.try_replica(handle, call, Some(store));
        let taken = match &next {
            Next::Wait(State::Sent { attempt, .. }) => attempt.peer.store == store,
            Next::Wait(_) | Next::Try | Next::Pause { .. } | Next::Relocate | Next::End(_) => false,
        };
        if !taken {
            self.turn_unused(store);
        }
        next
    }
}

impl RegionCall {
    /// Whether a request of it has been out to `store` since `probed` or longer.
    pub(crate) fn has_waited_for(&self, store: StoreId, probed: Instant) -> bool {
        match &self.state {
            State::Sent { attempt, .. } => attempt.peer.store == store && attempt.sent <= probed,
            State::Idle
            | State::Locating
            | State::AwaitingStore
            | State::Queued { .. }
            | State::Pausing { .. } => false,
        }
    }

    fn is_queued_for(&self, wanted: StoreId) -> bool {
        match &self.state {
            State::Queued { store } => *store == wanted,
            State::Idle
            | State::Locating
            | State::AwaitingStore
            | State::Sent { .. }
            | State::Pausing { .. } => false,
        }
    }
}
