//! The object that a driver drives.

use std::hash::{Hash, Hasher};

use crate::codec::KeyCodec;
use crate::command::{Cancel, Command, Event, Full, Input, Notice, WakeReason, Wakeup};
use crate::config::Config;
use crate::coverage::{Coverage, Input as Heard};
use crate::digest::{Digest, digest_of};
use crate::draw::Draws;
use crate::error::{Error, ErrorKind, Failure};
use crate::heartbeat::{Heartbeats, LocksLost};
use crate::id::{CommandId, OpId};
use crate::keyspace::Tenancy;
use crate::op::{Op, Passes, Step, Stop};
use crate::operation::{OpOptions, Operation, Reply};
use crate::oracle::Oracle;
use crate::pd::Pd;
use crate::region::loader::Loader;
use crate::region::refresh::Refresh;
use crate::region::{RegionCache, RegionFacts};
use crate::resolve::{Resolution, Resolver};
use crate::safe_point::SafePoint;
use crate::shared::{
    CallWake, CommandOwner, Cx, Encoder, Owner, Ready, Shared, Tag, TimerTarget, Wake,
};
use crate::slab::Slab;
use crate::stats::Stats;
use crate::store::{StoreFacts, StoreTable};
use crate::time::Instant;
use crate::timer::{TimerId, Timers};
use crate::timestamp::Timestamp;
use crate::tso::Tso;
use crate::wire::Response;

/// Every operation of one client. See the [crate documentation](crate) for the contract.
#[derive(Clone, Debug)]
pub struct Core {
    ops: Slab<Slot>,
    shared: Shared,
}

/// A place in the table of operations.
#[derive(Clone, Debug, Hash)]
struct Slot {
    op: Op,
    deadline: TimerId,
    draws: Draws,
    /// Its owner has been told how it ended, or no longer wants to know.
    detached: bool,
}

/// Draws that belong to no operation come from this stream, which no operation is likely to name.
const SHARED_STREAM: u64 = u64::MAX;

impl Core {
    /// Starts empty. All later randomness (pauses, choices among equals) is a function of `seed`.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let shared = Shared {
            codec: KeyCodec::new(config.mode),
            tenancy: Tenancy::new(&config.api),
            pd: Pd::new(&config),
            oracle: Oracle::new(config.low_resolution_interval, now),
            safe_point: SafePoint::default(),
            passes: Passes::default(),
            regions: RegionCache::new(config.region_ttl),
            refresh: Refresh::new(config.regions_refresh_interval, now),
            config,
            seed,
            now,
            closing: false,
            loader: Loader::new(),
            stores: StoreTable::default(),
            tso: Tso::new(),
            resolver: Resolver::new(),
            heartbeats: Heartbeats::new(),
            calls: Slab::new(),
            inflight: Slab::new(),
            timers: Timers::new(),
            commands: Default::default(),
            events: Default::default(),
            ready: Default::default(),
            draws: Draws::new(seed, SHARED_STREAM),
            encoder: Encoder::default(),
            coverage: Coverage::new(),
            stats: Stats::default(),
        };
        Self { ops: Slab::new(), shared }
    }

    // ---- inputs --------------------------------------------------------------------------------

    /// Begins an operation. It ends with exactly one [`Event::Done`], unless it is cancelled before.
    ///
    /// # Errors
    /// [`Full`] hands the operation back when
    /// [`Config::max_operations`](crate::Config::max_operations) are under way.
    pub fn submit(
        &mut self,
        now: Instant,
        operation: Operation,
        options: OpOptions,
    ) -> Result<OpId, Full> {
        self.tick(now);
        if self.ops.len() >= self.shared.config.max_operations {
            self.shared.stats.refused += 1;
            return Err(Full(operation));
        }
        self.shared.stats.operations += 1;
        let id = self.seat(options);
        if self.shared.closing {
            let closed = Error::new(ErrorKind::Closed, "the client was closed");
            self.step(id, |_, _| Step::Done(Err(closed)));
        } else {
            self.step(id, |_, cx| Op::start(operation, cx));
        }
        self.run();
        Ok(id)
    }

    /// Delivers the answer to a command, or why there is none.
    pub fn handle_response(
        &mut self,
        now: Instant,
        id: CommandId,
        response: Result<Response, Failure>,
    ) {
        self.tick(now);
        let Some(inflight) = self.shared.inflight.remove(id.0) else {
            self.shared.stats.stray_responses += 1;
            return;
        };
        match inflight.owner {
            CommandOwner::Call(call) => {
                self.shared.wake_call(call, CallWake::Answer(response));
            }
            CommandOwner::PdTask(task) => self.shared.pd_task_answer(task, response),
            CommandOwner::Discovery => self.shared.pd_discovery_answer(response),
            CommandOwner::PdLook(look) => self.shared.pd_look_answer(look, response),
            CommandOwner::Tso(flight) => self.shared.tso_answer(flight, response),
            CommandOwner::Probe(store) => self.shared.probe_answer(store, response),
        }
        self.run();
    }

    /// Delivers news that answers no command.
    pub fn handle_notice(&mut self, now: Instant, notice: Notice) {
        self.tick(now);
        match notice {
            Notice::LinkDown { store } => self.shared.stores.check(store),
            Notice::Health { store, slow_score } => {
                self.shared.stores.feedback(store, slow_score.into(), self.shared.now);
            }
        }
        self.run();
    }

    /// Lets time reach `now`. Calling early or late is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        while let Some(target) = self.shared.timers.fire(self.shared.now) {
            match target {
                TimerTarget::Deadline(id) => self.deadline(id),
                TimerTarget::Pause(owner, tag) => self.shared.wake(owner, tag, Wake::Pause),
                TimerTarget::Call(call) => self.shared.wake_call(call, CallWake::Timer),
                TimerTarget::PdTask(task) => self.shared.pd_task_timer(task),
                TimerTarget::Discovery => self.shared.pd_discovery_timer(),
                TimerTarget::PdHealth => self.shared.pd_health_timer(),
                TimerTarget::PdLook(look) => self.shared.pd_look_timer(look),
                TimerTarget::TsoFlight(flight) => self.shared.tso_flight_timer(flight),
                TimerTarget::TsoCompany => self.shared.tso_company_timer(),
                TimerTarget::TsoRest => self.shared.tso_rest_timer(),
                TimerTarget::Heartbeat(handle) => self.shared.heartbeat_timer(handle),
                TimerTarget::Probe(store) => self.shared.probe_timer(store),
            }
            self.run();
        }
    }

    /// Stops an operation on behalf of its owner, who will not hear of it any more.
    pub fn cancel(&mut self, now: Instant, id: OpId) -> Cancel {
        self.tick(now);
        if self.ops.get(id.0).is_none_or(|slot| slot.detached) {
            return Cancel::Unknown;
        }
        let cancel = self.stop(id, Stop::Cancelled);
        self.run();
        cancel
    }

    /// Refuses operations from now on and ends those under way, except that commits and rollbacks
    /// are carried to their end: a driver that wants them to be goes on driving until
    /// [`Core::is_idle`].
    pub fn close(&mut self, now: Instant) {
        self.tick(now);
        self.shared.closing = true;
        let stopping: Vec<OpId> = self
            .ops
            .iter()
            .filter(|(_, slot)| !slot.op.outlives_close())
            .map(|(handle, _)| OpId(handle))
            .collect();
        for id in stopping {
            self.stop(id, Stop::Closed);
        }
        let committing: Vec<_> =
            self.ops.iter().filter_map(|(_, slot)| slot.op.commits()).collect();
        self.shared.stop_heartbeats_but(&committing);
        self.run();
    }

    /// Any input, as a value. The id of a submitted operation is returned.
    ///
    /// # Errors
    /// As [`Core::submit`].
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Option<OpId>, Full> {
        match input {
            Input::Submit(operation, options) => {
                return self.submit(now, operation, options).map(Some);
            }
            Input::Response(id, response) => self.handle_response(now, id, response),
            Input::Notice(notice) => self.handle_notice(now, notice),
            Input::Timeout => self.handle_timeout(now),
            Input::Cancel(id) => {
                self.cancel(now, id);
            }
            Input::Close => self.close(now),
        }
        Ok(None)
    }

    // ---- outputs -------------------------------------------------------------------------------

    /// The next command to perform.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.shared.commands.pop_front()
    }

    /// The next thing that an operation's owner should hear.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// When to call [`Core::handle_timeout`]. Holds until the next input; takes constant time.
    pub fn poll_timeout(&self) -> Option<Wakeup> {
        self.shared.timers.next()
    }

    // ---- facts ---------------------------------------------------------------------------------

    /// What it draws from.
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// What has been done so far, in numbers.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Which inputs the commits, lock calls and inquiries have met in which of their states, and how
    /// often. Not part of the [digest](Core::digest).
    pub fn coverage(&self) -> &Coverage {
        &self.shared.coverage
    }

    /// The id of the cluster, as PD's members name it: what an operation may rely on once it has got
    /// past [`Operation::Ready`]. 0 before.
    pub fn cluster_id(&self) -> u64 {
        self.shared.pd.cluster_id()
    }

    /// What is known of the region that this key is believed to lie in, however old the knowledge.
    /// Nobody is asked, and nothing changes.
    pub fn region_facts(&self, key: &[u8]) -> Option<RegionFacts<'_>> {
        self.shared.regions.peek(key).map(RegionFacts)
    }

    /// What is known of each store, in the order of their ids.
    pub fn store_facts(&self) -> Vec<StoreFacts> {
        self.shared.stores.facts(self.shared.now)
    }

    /// Whether a pessimistic transaction that has not ended has lost its locks, and why. It may commit
    /// or roll back, and nothing else: [`Operation::Lock`] is refused with
    /// [`ErrorKind::LocksExpired`].
    pub fn locks_lost(&self, start_ts: Timestamp) -> Option<LocksLost> {
        self.shared.heartbeats.lost(start_ts)
    }

    /// Whose locks are in somebody's way at the moment, what is done about it, and for whom
    /// (`transactions.md` §16.6), in the order of the transactions' starts.
    pub fn resolutions(&self) -> Vec<Resolution> {
        self.shared.resolver.facts()
    }

    /// Nothing is left that is worth driving for: no operation, no commit or rollback that settles in
    /// the background, and nothing to be polled. What is done for others (cleaning up the locks of
    /// foreign transactions, questions to PD that nobody waits for any more, heartbeats of transactions
    /// that are open) does not count.
    pub fn is_idle(&self) -> bool {
        let shared = &self.shared;
        self.ops.is_empty()
            && shared.commands.is_empty()
            && shared.events.is_empty()
            && !(shared.closing && shared.resolver.is_busy())
    }

    /// A digest of the whole state: equal digests, equal futures, but for the numbers by which new
    /// operations and commands will be called. Costs a walk over the state.
    pub fn digest(&self) -> u64 {
        digest_of(self)
    }

    /// As [`Core::digest`], of what decides about the future only: for a search that merges states which
    /// were reached in several ways. Two cores of one configuration and seed with the same digest do the
    /// same from then on, whatever they are told, as long as no input is stamped earlier than the last
    /// one of either: the counters of [`Core::stats`] and the time of the last input are left out.
    pub fn future_digest(&self) -> u64 {
        let mut state = Digest::new();
        self.ops.hash(&mut state);
        self.shared.hash_future(&mut state);
        state.finish()
    }

    // ---- inside --------------------------------------------------------------------------------

    /// A place for an operation: its id has to exist before the machine that asks for things in its
    /// name.
    fn seat(&mut self, options: OpOptions) -> OpId {
        let draws = Draws::new(self.shared.seed, options.stream);
        let timers = &mut self.shared.timers;
        let handle = self.ops.insert_with(|handle| {
            let target = TimerTarget::Deadline(OpId(handle));
            let deadline = timers.set(options.deadline, WakeReason::Deadline, target);
            Slot { op: Op::Ready, deadline, draws, detached: false }
        });
        OpId(handle)
    }

    fn tick(&mut self, now: Instant) {
        if now < self.shared.now {
            self.shared.stats.clock_steps_back += 1;
        } else {
            self.shared.now = now;
        }
    }

    /// Runs whatever has become ready. The only place where machines step.
    fn run(&mut self) {
        while let Some(ready) = self.shared.ready.pop_front() {
            match ready {
                Ready::Call(call, wake) => self.shared.step_call(call, wake),
                Ready::Owner(Owner::Op(id), tag, wake) => self.wake(id, tag, wake),
                Ready::Owner(Owner::Resolution(handle), tag, wake) => {
                    self.shared.step_inquiry(handle, tag, wake);
                }
                Ready::Owner(Owner::Heartbeat(handle), tag, wake) => {
                    self.shared.step_heartbeat(handle, tag, wake);
                }
            }
        }
    }

    fn wake(&mut self, id: OpId, tag: Tag, wake: Wake) {
        self.step(id, |op, cx| {
            if let Some(state) = op.state() {
                let heard = Heard::of_wake(&wake, op.awaits(tag));
                cx.shared.coverage.met(state, heard);
            }
            op.wake(tag, wake, cx)
        });
    }

    fn step(&mut self, id: OpId, step: impl FnOnce(Op, &mut Cx<'_>) -> Step) {
        let Some(mut slot) = self.ops.take(id.0) else {
            return;
        };
        // A deadline that has just fired is now.
        let deadline = self.shared.timers.at(slot.deadline).unwrap_or(self.shared.now);
        let shared = &mut self.shared;
        let mut cx = Cx { shared, owner: Owner::Op(id), deadline, draws: &mut slot.draws };
        let next = step(slot.op, &mut cx);
        match next {
            Step::Next(op) => {
                slot.op = op;
                self.ops.put(id.0, slot);
            }
            Step::Done(result) => {
                self.shared.timers.cancel(slot.deadline);
                self.ops.release(id.0);
                self.tell(id, slot.detached, result);
            }
            Step::Finished => {
                self.shared.timers.cancel(slot.deadline);
                self.ops.release(id.0);
            }
            Step::Detach(result, op, budget) => {
                self.shared.timers.cancel(slot.deadline);
                let at = self.shared.now + budget;
                let target = TimerTarget::Deadline(id);
                let deadline = self.shared.set_timer(at, WakeReason::Deadline, target);
                self.tell(id, slot.detached, result);
                let slot = Slot { op, deadline, draws: slot.draws, detached: true };
                self.ops.put(id.0, slot);
            }
        }
    }

    fn tell(&mut self, op: OpId, detached: bool, result: Result<Reply, Error>) {
        if !detached {
            self.shared.events.push_back(Event::Done { op, result });
        }
    }

    fn deadline(&mut self, id: OpId) {
        self.stop(id, Stop::Deadline);
    }

    fn stop(&mut self, id: OpId, why: Stop) -> Cancel {
        if why == Stop::Cancelled
            && let Some(slot) = self.ops.get_mut(id.0)
        {
            slot.detached = true;
        }
        let mut cancel = Cancel::Unknown;
        self.step(id, |op, cx| {
            if let Some(state) = op.state() {
                cx.shared.coverage.met(state, Heard::of_stop(why));
            }
            let (told, step) = op.stop(why, cx);
            cancel = told;
            step
        });
        cancel
    }
}

/// For fuzzers: machines in states of their choice, and wakes that nobody else would give.
#[cfg(any(test, fuzzing))]
impl Core {
    pub(crate) fn plant(
        &mut self,
        options: OpOptions,
        make: impl FnOnce(&mut Cx<'_>) -> Step,
    ) -> OpId {
        let id = self.seat(options);
        self.step(id, |_, cx| make(cx));
        self.run();
        id
    }

    pub(crate) fn rouse(&mut self, owner: Owner, tag: Tag, wake: Wake) {
        self.shared.wake(owner, tag, wake);
        self.run();
    }

    pub(crate) fn inside(&mut self) -> &mut Shared {
        &mut self.shared
    }
}

impl Hash for Core {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ops.hash(state);
        self.shared.hash(state);
    }
}
