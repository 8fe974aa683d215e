//! One request to one region, until it is answered (`control-plane.md` §6).
//!
//! ```text
//! Locating ─▶ AwaitingStore ─▶ Sent ─▶ answered
//!    ▲             ▲            │ region error, failure, no answer in time
//!    │             │            ▼
//!    │             └─ Pausing(same region) ── another replica, or the same one later
//!    └─────────────── Pausing(look again) ─── the region has moved
//! ```
//!
//! A call is made either for a *key*, and then follows the key wherever its region goes, or for a
//! *region at one version*, because its keys were grouped under that version; when that region is no
//! more, the call ends with [`CallEnd::Regroup`] and the keys go back to whoever grouped them.
//!
//! What an answer calls for is decided by the pure functions of [`react`]; which replica comes next
//! by [`select`]. What may have been executed is never forgotten: `doubt` is set by the first attempt
//! that left without an answer and goes with every ending, also the good ones.

pub(crate) mod react;
#[cfg(test)]
mod row_stories;
mod select;
#[cfg(test)]
mod stories;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::{Backoff, BackoffKind};
use crate::command::{Destination, WakeReason};
use crate::draw::Draws;
use crate::error::{Error, ErrorKind, Failure};
use crate::id::{CommandId, Handle, Peer, RegionVersion, StoreId};
use crate::operation::{Key, KeyRange};
use crate::region::loader::Seek;
use crate::region::{EpochVerdict, InvalidReason, NewRegion};
use crate::shared::{
    CallEnd, CallSpec, CallWake, CommandOwner, Cx, Owner, Shared, Tag, TimerTarget, Waiter, Wake,
};
use crate::store::Lookup;
use crate::time::Instant;
use crate::timer::TimerId;
use crate::wire::region_error::{RegionError, RegionInfo};
use crate::wire::reply::{LoadedRegion, impossible};
use crate::wire::{Context, Head, Request, Response};

use react::{Hint, Reaction, Situation};
use select::Trouble;

/// Each replica has been asked, or cannot be.
const NOBODY_LEFT: &str = "no replica is left to ask";

/// What a call is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// Wherever this key leads.
    Key { key: Key, seek: Seek },
    /// This region at this version, and no other.
    Region(RegionVersion),
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct RegionCall {
    owner: Owner,
    tag: Tag,
    spec: CallSpec,
    target: Target,
    backoff: Backoff,
    draws: Draws,
    /// The bounds of the region asked last, where the owner wants to know them.
    range: Option<Box<KeyRange>>,
    attempts: u32,
    /// An attempt may have been executed although no answer came.
    doubt: bool,
    trouble: Option<Box<Trouble>>,
    last_error: Option<Error>,
    /// Nothing more is sent: see [`Shared::send_no_more`].
    last: bool,
    state: State,
}

#[derive(Clone, Debug, Hash)]
enum State {
    /// Between two steps.
    Idle,
    /// The region of the key is being looked up.
    Locating,
    /// The address of the store is being looked up.
    AwaitingStore,
    /// So many requests are out to the store that this one has to wait for its turn.
    Queued { store: StoreId },
    /// A request is out.
    Sent { command: CommandId, timer: TimerId, attempt: Attempt },
    /// Waiting before the next attempt.
    Pausing { timer: TimerId, then: Then },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    region: RegionVersion,
    peer: Peer,
    sent: Instant,
    /// When nobody waits for it any longer.
    deadline: Instant,
    /// It has the application's own limit for the first attempt of a read.
    hurried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    /// The same region again.
    Again,
    /// The region is in doubt: find it anew, or give the keys back.
    Relocate,
}

/// What is left of a call that was given up.
#[derive(Clone, Debug)]
pub(crate) struct Abandoned {
    /// An attempt may have been executed, or may yet be.
    pub(crate) doubt: bool,
    /// The last thing that went wrong.
    pub(crate) cause: Option<Error>,
    pub(crate) attempts: u32,
}

impl Cx<'_> {
    /// Starts a call; it ends with [`Wake::Call`].
    pub(crate) fn call(
        &mut self,
        tag: Tag,
        target: Target,
        spec: CallSpec,
        backoff: Backoff,
    ) -> Handle {
        let draws = Draws::new(self.shared.seed, self.draws.word());
        let call = RegionCall {
            owner: self.owner,
            tag,
            spec,
            target,
            backoff,
            draws,
            range: None,
            attempts: 0,
            doubt: false,
            trouble: None,
            last_error: None,
            last: false,
            state: State::Idle,
        };
        let handle = self.shared.calls.insert(call);
        self.shared.wake_call(handle, CallWake::Start);
        handle
    }

    /// Gives a call up: whatever it has in flight is withdrawn, and it wakes nobody.
    pub(crate) fn abandon(&mut self, handle: Handle) -> Option<Abandoned> {
        let call = self.shared.calls.remove(handle)?;
        let sent = match call.state {
            State::Sent { command, timer, attempt } => {
                self.shared.timers.cancel(timer);
                self.shared.abort(command);
                self.shared.attempt_over(attempt.peer.store);
                true
            }
            State::Queued { store } => {
                self.shared.turn_unused(store);
                false
            }
            State::Pausing { timer, .. } => {
                self.shared.timers.cancel(timer);
                false
            }
            State::Idle | State::Locating | State::AwaitingStore => false,
        };
        let cause = call.last_error.or_else(|| call.backoff.last().cloned());
        Some(Abandoned { doubt: call.doubt || sent, cause, attempts: call.attempts })
    }
}

/// What a step decides.
enum Next {
    /// Wait in this state.
    Wait(State),
    /// Look for a replica, and send.
    Try,
    /// Pause, then go on.
    Pause {
        kind: BackoffKind,
        then: Then,
        error: Error,
    },
    /// The region is in doubt; no pause is called for.
    Relocate,
    End(CallEnd),
}

/// For fuzzers, which end calls in ways of their own.
#[cfg(any(test, fuzzing))]
impl RegionCall {
    pub(crate) fn asks(&self) -> (Owner, Tag, &CallSpec) {
        (self.owner, self.tag, &self.spec)
    }

    /// A request was sent, and its answer lost.
    pub(crate) fn lose(&mut self) {
        self.doubt = true;
    }
}

impl Shared {
    /// Whether a request of this call is out, or was lost.
    pub(crate) fn call_is_in_doubt(&self, handle: Handle) -> bool {
        self.calls
            .get(handle)
            .is_some_and(|call| call.doubt || matches!(call.state, State::Sent { .. }))
    }

    /// The owner wants to know what becomes of the request that is out, and does not want it sent again.
    /// False if none is out: then nothing is to be waited for.
    pub(crate) fn send_no_more(&mut self, handle: Handle) -> bool {
        match self.calls.get_mut(handle) {
            Some(call) if matches!(call.state, State::Sent { .. }) => {
                call.last = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Runs a call until it waits or ends.
    pub(crate) fn step_call(&mut self, handle: Handle, wake: CallWake) {
        let Some(mut call) = self.calls.take(handle) else {
            return;
        };
        let state = std::mem::replace(&mut call.state, State::Idle);
        let mut next = match (state, wake) {
            (State::Idle, CallWake::Start) => Next::Try,
            (State::Locating, CallWake::Located(Ok(())))
            | (State::AwaitingStore, CallWake::Store(Ok(()))) => Next::Try,
            (State::Queued { store }, CallWake::Turn) => self.take_turn(handle, &mut call, store),
            (State::Locating, CallWake::Located(Err(error))) => self.not_located(&call, error),
            (State::AwaitingStore, CallWake::Store(Err(error))) => {
                Next::Pause { kind: BackoffKind::PdRpc, then: Then::Again, error }
            }
            (State::Sent { timer, attempt, .. }, CallWake::Answer(answer)) => {
                self.timers.cancel(timer);
                match answer {
                    Ok(response) => self.answered(&mut call, attempt, response),
                    Err(failure) => self.failed(&mut call, attempt, &failure),
                }
            }
            (State::Sent { command, attempt, .. }, CallWake::Timer)
                if self.now >= attempt.deadline =>
            {
                self.abort(command);
                let failure = Failure::maybe_executed(react::NO_ANSWER);
                self.failed(&mut call, attempt, &failure)
            }
            (State::Sent { command, attempt, .. }, CallWake::Timer) => {
                self.look_after(handle, &mut call, command, attempt)
            }
            (State::Sent { command, timer, attempt }, CallWake::StoreDied) => {
                self.timers.cancel(timer);
                self.given_up(&mut call, command, attempt)
            }
            (State::Pausing { then: Then::Again, .. }, CallWake::Timer) => Next::Try,
            (State::Pausing { then: Then::Relocate, .. }, CallWake::Timer) => Next::Relocate,
            // A wake-up that was overtaken by another: it changes nothing.
            (state, _) => Next::Wait(state),
        };
        loop {
            next = match next {
                Next::Try | Next::Relocate | Next::Pause { .. } if call.last => {
                    let text = "its owner does not want it any more";
                    let error = Error::new(ErrorKind::Cancelled, text);
                    Next::End(call.give_up(error.because(call.last_error.clone())))
                }
                Next::Wait(state) => {
                    call.state = state;
                    return self.calls.put(handle, call);
                }
                Next::Try => self.try_replica(handle, &mut call, None),
                Next::Relocate => self.relocate(&mut call),
                Next::Pause { kind, then, error } => {
                    call.last_error = Some(error.clone());
                    let draws = &mut call.draws;
                    match call.backoff.next(kind, None, error, |bound| draws.below(bound)) {
                        Ok(wait) => Next::Wait(self.pause_call(handle, wait, then)),
                        Err(error) => Next::End(call.give_up(error)),
                    }
                }
                Next::End(end) => {
                    self.calls.release(handle);
                    return self.wake(call.owner, call.tag, Wake::Call(end));
                }
            };
        }
    }

    fn pause_call(&mut self, handle: Handle, wait: Duration, then: Then) -> State {
        self.stats.backoffs += 1;
        let more = if planted!(self.config, Harmless) { wait / 16 } else { Duration::ZERO };
        let at = self.now + wait + more;
        let timer = self.set_timer(at, WakeReason::Backoff, TimerTarget::Call(handle));
        State::Pausing { timer, then }
    }

    /// PD has said no, or has been silent for the whole of its budget.
    fn not_located(&mut self, call: &RegionCall, error: Error) -> Next {
        match error.kind() {
            ErrorKind::RegionUnavailable => {
                Next::Pause { kind: BackoffKind::RegionMiss, then: Then::Relocate, error }
            }
            _ => Next::End(call.give_up(error)),
        }
    }

    fn relocate(&mut self, call: &mut RegionCall) -> Next {
        call.trouble = None;
        match call.target {
            Target::Key { .. } => Next::Try,
            Target::Region(_) => {
                Next::End(CallEnd::Regroup { backoff: call.backoff.clone(), doubt: call.doubt })
            }
        }
    }

    /// `turn`: a store that has room for the call, if that is whom it wants.
    fn try_replica(
        &mut self,
        handle: Handle,
        call: &mut RegionCall,
        turn: Option<StoreId>,
    ) -> Next {
        let version = match &call.target {
            Target::Region(version) => *version,
            Target::Key { key, seek } => {
                match self.locate(key, *seek, None, Waiter::Call(handle)) {
                    Some(version) => version,
                    None => return Next::Wait(State::Locating),
                }
            }
        };
        let (stores, now) = (&self.stores, self.now);
        let Some(region) = self.regions.get(version, now, |store| stores.epoch(store)) else {
            return self.relocate(call);
        };
        if call.spec.wants_range {
            call.range = Some(Box::new(region.bounds.to_range()));
        }
        let draws = &mut call.draws;
        let chosen = select::choose(
            &region.peers,
            region.leader(),
            call.trouble.as_deref(),
            |index, store| region.is_fresh(index, stores.epoch(store)) && stores.reachable(store),
            |store| stores.is_slow(store, now),
            |bound| draws.below(bound),
        );
        if region.leading().map(|leader| leader.id) != chosen.map(|peer| peer.id) {
            self.wish_for_others(version);
        }
        let Some(peer) = chosen else {
            self.regions.invalidate(version, InvalidReason::Exhausted);
            let error = Error::new(ErrorKind::RegionUnavailable, NOBODY_LEFT)
                .at(Some(version), None)
                .because(call.root_cause());
            return Next::Pause { kind: BackoffKind::RegionMiss, then: Then::Relocate, error };
        };
        match self.stores.lookup(peer.store, handle, self.now) {
            Lookup::Known { address, ask } => {
                if ask {
                    self.pd_ask_store(peer.store);
                }
                match self.admit(peer.store, handle, turn) {
                    true => Next::Wait(self.send_attempt(handle, call, version, peer, address)),
                    false => Next::Wait(State::Queued { store: peer.store }),
                }
            }
            Lookup::Wait { ask } => {
                if ask {
                    self.pd_ask_store(peer.store);
                }
                Next::Wait(State::AwaitingStore)
            }
            Lookup::Gone => {
                self.regions.invalidate(version, InvalidReason::StoreNotFound);
                let error = Error::new(ErrorKind::RegionUnavailable, "its store has left")
                    .at(Some(version), Some(peer.store));
                Next::Pause { kind: BackoffKind::RegionMiss, then: Then::Relocate, error }
            }
        }
    }

    fn send_attempt(
        &mut self,
        handle: Handle,
        call: &mut RegionCall,
        region: RegionVersion,
        peer: Peer,
        address: Arc<str>,
    ) -> State {
        let hurry = call
            .spec
            .first_timeout
            .filter(|limit| call.attempts == 0 && *limit < call.spec.timeout);
        let timeout = hurry.unwrap_or(call.spec.timeout);
        call.attempts += 1;
        self.stats.attempts += 1;
        if let Some(trouble) = &mut call.trouble {
            trouble.attempted(peer.id);
        }
        let context = Context {
            region,
            peer,
            cluster_id: self.pd.cluster_id(),
            is_retry: (call.spec.is_retry || call.attempts > 1)
                && !planted!(self.config, RetryNotTold),
            max_execution_ms: hurry
                .map_or(call.spec.max_execution_ms, |limit| limit.as_millis() as u64),
            keyspace: self.tenancy.keyspace().cloned(),
            extra: call.spec.extra.clone(),
        };
        let request = Request {
            rpc: call.spec.rpc,
            head: Head::Store(context),
            body: call.spec.body.clone(),
        };
        let deadline = self.now + timeout;
        let to = Destination { address, store: Some(peer.store) };
        let command = self.send(CommandOwner::Call(handle), to, deadline, request);
        let attempt = Attempt { region, peer, sent: self.now, deadline, hurried: hurry.is_some() };
        let timer = self.watch_attempt(handle, attempt, self.now);
        State::Sent { command, timer, attempt }
    }

    fn answered(
        &mut self,
        call: &mut RegionCall,
        attempt: Attempt,
        mut response: Response,
    ) -> Next {
        self.attempt_over(attempt.peer.store);
        let took = self.now.since(attempt.sent);
        let pointless = self.stores.answered(attempt.peer.store, Some(took), self.now);
        self.withdraw_probe(pointless);
        let Some(error) = response.take_region_error() else {
            // §7.7: who serves a leader read leads.
            let epoch = self.stores.epoch(attempt.peer.store);
            self.regions.switch_leader(attempt.region, attempt.peer.id, epoch);
            if let Some(prefix) = self.codec.prefix()
                && let Err(error) = response.strip(prefix)
            {
                // Served it was, but what was served nobody knows.
                call.doubt = true;
                let error = impossible(&format!("a key in an answer: {error}"))
                    .at(Some(attempt.region), Some(attempt.peer.store));
                return Next::End(call.give_up(error));
            }
            let range = call.range.take();
            return Next::End(CallEnd::Answered {
                response,
                region: attempt.region,
                range,
                doubt: call.doubt,
                attempts: call.attempts,
            });
        };
        self.stats.region_errors += 1;
        let error = RegionError::from_proto(*error);
        self.on_region_error(call, attempt, error)
    }

    fn on_region_error(
        &mut self,
        call: &mut RegionCall,
        attempt: Attempt,
        region_error: RegionError,
    ) -> Next {
        let Attempt { region, peer, .. } = attempt;
        let error = region_error.to_error().at(Some(region), Some(peer.store));
        let situation = self.situation(call, attempt, &region_error);
        if let RegionError::BucketVersionNotMatch { version, keys } = &region_error {
            match self.buckets(*version, keys) {
                Some(buckets) => self.regions.set_buckets(region, buckets),
                // The store told their version only, or what makes no sense: PD knows better.
                None => self.buckets_seen(region, 0, *version),
            }
        }
        let busy = matches!(region_error, RegionError::ServerIsBusy { .. });
        if let RegionError::ServerIsBusy { estimated_wait_ms, .. } = &region_error {
            self.stores.busy(peer.store, *estimated_wait_ms, self.now);
        }
        let again = |kind, error| Next::Pause { kind, then: Then::Again, error };
        match react::on_region_error(region_error, &situation) {
            Reaction::SwitchLeader(leader) => self.switch_leader(call, attempt, leader, error),
            Reaction::NextReplica { not_leader, backoff } => {
                let trouble = call.trouble(attempt);
                if not_leader {
                    trouble.not_leader(peer.id);
                } else {
                    trouble.failed(peer.id);
                }
                match backoff {
                    Some(kind) => again(kind, error),
                    None => call.remember(error, Next::Try),
                }
            }
            Reaction::Again { doubt: true, .. } if call.spec.once => call.end_in_doubt(error),
            Reaction::Again { backoff, doubt } => {
                call.doubt |= doubt;
                if busy {
                    call.trouble(attempt).busy(peer.id);
                }
                // Where the table asks for no pause the shortest is made, so that a store that keeps
                // answering so is not asked in a tight loop.
                again(backoff.unwrap_or(BackoffKind::StaleCommand), error)
            }
            Reaction::Relocate { invalidate, backoff } => {
                if let Some(reason) = invalidate {
                    self.regions.invalidate(region, reason);
                }
                Next::Pause { kind: backoff, then: Then::Relocate, error }
            }
            // The region stays in the cache until the leader has had its say, too.
            Reaction::LeaderOnceThenRelocate { .. } => {
                call.trouble(attempt).not_leader(peer.id);
                call.remember(error, Next::Try)
            }
            Reaction::RefreshStore => {
                let pointless = self.stores.misplaced(peer.store);
                self.withdraw_probe(pointless);
                self.regions.invalidate(region, InvalidReason::StoreNotFound);
                Next::Pause { kind: BackoffKind::RegionMiss, then: Then::Relocate, error }
            }
            Reaction::Epoch(current) => self.epoch_not_match(call, attempt, current, error),
            Reaction::Fatal(error) => {
                Next::End(call.give_up(error.at(Some(region), Some(peer.store))))
            }
            // A request that can be repeated harmlessly finds out by being repeated.
            Reaction::InDoubt(_) if call.spec.once => call.end_in_doubt(error),
            Reaction::InDoubt(_) if !call.spec.decisive => {
                call.doubt = true;
                Next::Pause { kind: BackoffKind::RegionMiss, then: Then::Relocate, error }
            }
            Reaction::InDoubt(_) => {
                call.doubt = true;
                Next::End(call.give_up(error.into_kind(ErrorKind::Undetermined)))
            }
        }
    }

    /// What a decision depends on besides the error.
    fn situation(&mut self, call: &RegionCall, attempt: Attempt, error: &RegionError) -> Situation {
        let (stores, now) = (&self.stores, self.now);
        let region = self.regions.get(attempt.region, now, |store| stores.epoch(store));
        let leader = region.and_then(|region| region.leading()).map(|peer| peer.id);
        let asked_leader = leader.is_none_or(|leader| leader == attempt.peer.id);
        let leader_tried = asked_leader
            || leader.is_some_and(|leader| {
                call.trouble.as_ref().is_some_and(|trouble| trouble.tried(leader))
            });
        let mut hint = Hint::Usable;
        if let RegionError::NotLeader { leader: Some(named) } = error {
            let known =
                region.is_none_or(|region| region.peers.iter().any(|peer| peer.id == named.id));
            if !known {
                hint = Hint::Stranger;
            } else if !stores.reachable(named.store) {
                hint = Hint::Unreachable;
                self.want_store(named.store);
            }
        }
        Situation { asked_leader, leader_tried, hurried_read: attempt.hurried, hint }
    }

    /// §6.5 row 2: the named replica gets an attempt.
    fn switch_leader(
        &mut self,
        call: &mut RegionCall,
        attempt: Attempt,
        leader: Peer,
        error: Error,
    ) -> Next {
        let trouble = call.trouble(attempt);
        trouble.not_leader(attempt.peer.id);
        trouble.named_leader(leader.id);
        let round = trouble.goes_round();
        let epoch = self.stores.epoch(leader.store);
        self.regions.switch_leader(attempt.region, leader.id, epoch);
        if leader.id == attempt.peer.id || round {
            // It names itself, or the replicas name each other in a circle: between two terms.
            let kind = BackoffKind::RegionScheduling;
            return Next::Pause { kind, then: Then::Again, error };
        }
        call.remember(error, Next::Try)
    }

    /// §4.8.
    fn epoch_not_match(
        &mut self,
        call: &mut RegionCall,
        attempt: Attempt,
        current: Vec<RegionInfo>,
        error: Error,
    ) -> Next {
        let decoded: Vec<NewRegion> = current
            .into_iter()
            .filter_map(|region| {
                let (leader, down_peers, buckets) = (None, Vec::new(), None);
                self.decode_region(LoadedRegion { region, leader, down_peers, buckets }).ok()
            })
            .collect();
        let jitter = self.region_jitter();
        if planted!(self.config, StaleRegionReused) {
            return Next::Pause { kind: BackoffKind::RegionMiss, then: Then::Again, error };
        }
        let stores = &self.stores;
        let verdict = self.regions.on_epoch_not_match(
            attempt.region,
            attempt.peer.store,
            decoded,
            self.now,
            || jitter,
            |store| stores.epoch(store),
        );
        let kind = BackoffKind::RegionMiss;
        match verdict {
            EpochVerdict::Replaced => call.remember(error, Next::Relocate),
            EpochVerdict::ClientAhead => Next::Pause { kind, then: Then::Again, error },
            EpochVerdict::Unknown => Next::Pause { kind, then: Then::Relocate, error },
        }
    }

    fn failed(&mut self, call: &mut RegionCall, attempt: Attempt, failure: &Failure) -> Next {
        self.stats.failures += 1;
        self.attempt_over(attempt.peer.store);
        let error = Error::new(ErrorKind::StoreUnavailable, failure.reason().to_string())
            .at(Some(attempt.region), Some(attempt.peer.store));
        if matches!(failure, Failure::MaybeExecuted(_))
            && !planted!(self.config, LostAnswerForgotten)
        {
            call.doubt = true;
        }
        if let Some(fatal) = react::on_failure(failure) {
            let error = fatal.at(Some(attempt.region), Some(attempt.peer.store));
            return Next::End(call.give_up(error));
        }
        if attempt.hurried && react::is_too_late(failure) {
            // §6.4: the limit was the application's, so this says nothing about the store.
            call.trouble(attempt).failed(attempt.peer.id);
            return call.remember(error, Next::Try);
        }
        self.suspect_store(attempt.peer.store);
        if call.doubt && call.spec.once {
            return call.end_in_doubt(error);
        }
        call.trouble(attempt).failed(attempt.peer.id);
        Next::Pause { kind: BackoffKind::TikvRpc, then: Then::Again, error }
    }
}

impl RegionCall {
    /// The last error that was about somebody: one «nobody is left» does not explain the next.
    fn root_cause(&mut self) -> Option<Error> {
        let last = self.last_error.take()?;
        if last.message() == NOBODY_LEFT { last.cause().cloned() } else { Some(last) }
    }

    /// The book-keeping of mishaps starts with the attempt that is going wrong.
    fn trouble(&mut self, attempt: Attempt) -> &mut Trouble {
        self.trouble.get_or_insert_with(|| {
            let mut trouble = Trouble::default();
            trouble.attempted(attempt.peer.id);
            Box::new(trouble)
        })
    }

    /// Keeps the error for whoever wants to know what went wrong before the end.
    fn remember(&mut self, error: Error, next: Next) -> Next {
        self.last_error = Some(error);
        next
    }

    /// The end of a request that must not be sent again and may have been executed.
    fn end_in_doubt(&mut self, error: Error) -> Next {
        self.doubt = true;
        let text = "it may have been executed, and must not be repeated";
        let undetermined = Error::new(ErrorKind::Undetermined, text)
            .at(error.region(), error.store())
            .because(Some(error));
        Next::End(self.give_up(undetermined))
    }

    fn give_up(&self, error: Error) -> CallEnd {
        CallEnd::Failed { error: error.after(self.attempts), doubt: self.doubt }
    }
}
