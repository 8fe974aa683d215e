//! What all operations share, and how the parts of a core wake each other.
//!
//! Plain fields: a step borrows them apart from the machine it runs, so no cell, no reference count
//! and no lock is needed. Nothing here calls into a machine. Whoever's wait ends goes to
//! [`Shared::ready`], and the one loop in `core.rs` runs it before the input returns: there is no
//! re-entrancy, and every step sees a settled state.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use anatase_proto::rpc::Rpc;
use bytes::{Bytes, BytesMut};

use crate::codec::KeyCodec;
use crate::command::{Call, Command, Destination, Event, WakeReason};
use crate::config::Config;
use crate::coverage::Coverage;
use crate::draw::Draws;
use crate::error::{Error, Failure};
use crate::heartbeat::Heartbeats;
use crate::id::{CommandId, Handle, OpId, RegionVersion, StoreId};
use crate::keyspace::Tenancy;
use crate::op::Passes;
use crate::operation::KeyRange;
use crate::oracle::Oracle;
use crate::pd::Pd;
use crate::region::RegionCache;
use crate::region::loader::Loader;
use crate::region::refresh::Refresh;
use crate::region_call::RegionCall;
use crate::resolve::{Resolved, Resolver};
use crate::safe_point::SafePoint;
use crate::slab::Slab;
use crate::stats::Stats;
use crate::store::StoreTable;
use crate::time::Instant;
use crate::timer::{TimerId, Timers};
use crate::timestamp::Timestamp;
use crate::tso::Tso;
use crate::wire::outbound::{self, StoreRequest};
use crate::wire::{Request, Response};

/// Tells the waits of one owner apart. An owner numbers its waits as it likes.
pub(crate) type Tag = u32;

/// Who waits for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    /// An operation of the application.
    Op(OpId),
    /// A resolution of another transaction's locks.
    Resolution(Handle),
    /// The heartbeat of a transaction.
    Heartbeat(Handle),
}

/// Who waits for a region or a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Waiter {
    Call(Handle),
    Owner(Owner, Tag),
}

/// Who hears the answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CommandOwner {
    Call(Handle),
    PdTask(Handle),
    Discovery,
    /// A look at a member of PD, by its number.
    PdLook(u64),
    /// A request for timestamps, by its number.
    Tso(u64),
    /// The probe of a store.
    Probe(StoreId),
}

/// Who hears that a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TimerTarget {
    /// An operation's deadline.
    Deadline(OpId),
    /// A pause that an owner asked for.
    Pause(Owner, Tag),
    /// A region call's attempt or pause.
    Call(Handle),
    /// A call to PD: its attempt or its pause.
    PdTask(Handle),
    /// The search for PD's leader.
    Discovery,
    /// PD's members are to be looked at, if PD is asked anything.
    PdHealth,
    /// A look at a member of PD, by its number, has taken too long.
    PdLook(u64),
    /// A request for timestamps, by its number.
    TsoFlight(u64),
    /// Timestamps that wait for company have done so for long enough.
    TsoCompany,
    /// A pause before timestamps are asked for again.
    TsoRest,
    /// The next heartbeat of a transaction is due.
    Heartbeat(Handle),
    /// The probe of a store has taken too long.
    Probe(StoreId),
}

/// What wakes an owner.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Wake {
    /// A region call is over.
    Call(CallEnd),
    /// The region of a key is in the cache, or cannot be found.
    Located(Result<(), Error>),
    /// A timestamp.
    Timestamp(Result<Timestamp, Error>),
    /// Locks were looked into.
    Resolved(Result<Resolved, Error>),
    /// PD's members are known, or could not be found in all the rounds that there may be at first.
    PdReady(Result<(), Error>),
    /// The keyspace is known, or cannot be used.
    Keyspace(Result<(), Error>),
    /// The safe point is known anew, or cannot be.
    SafePoint(Result<(), Error>),
    /// PD's answer to a question of this owner.
    Pd(Result<Response, Error>),
    /// A pause is over.
    Pause,
}

/// How a region call ended.
#[derive(Clone, Debug, Hash)]
pub(crate) enum CallEnd {
    /// A replica answered, without region error.
    Answered {
        /// The answer.
        response: Response,
        /// The region that answered.
        region: RegionVersion,
        /// Its bounds, as the store confirmed them by accepting its epoch; only if the call
        /// [wants](CallSpec::wants_range) them.
        range: Option<Box<KeyRange>>,
        /// An earlier attempt may have been executed too.
        doubt: bool,
        attempts: u32,
    },
    /// The region that the call was pinned to is no more: its keys have to be grouped anew. The
    /// call has already waited as long as it should have.
    Regroup {
        backoff: crate::backoff::Backoff,
        /// An attempt may have been executed.
        doubt: bool,
    },
    /// No attempt succeeded.
    Failed {
        error: Error,
        /// An attempt may have been executed.
        doubt: bool,
    },
}

/// Work for the loop.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Ready {
    Owner(Owner, Tag, Wake),
    Call(Handle, CallWake),
}

/// What wakes a region call.
#[derive(Clone, Debug, Hash)]
pub(crate) enum CallWake {
    /// It was just made.
    Start,
    /// The region of its key is in the cache, or cannot be found.
    Located(Result<(), Error>),
    /// The address of the store is known, or will not be.
    Store(Result<(), Error>),
    /// Its command was answered.
    Answer(Result<Response, Failure>),
    /// Its attempt took too long or should be looked after, or its pause is over.
    Timer,
    /// The store that it waits for does not live.
    StoreDied,
    /// The store has room for its request.
    Turn,
}

/// A command on its way.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct InFlight {
    pub(crate) owner: CommandOwner,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Under API V2 this is the keyspace's as soon as the keyspace is known; before, nobody needs it.
    pub(crate) codec: KeyCodec,
    pub(crate) tenancy: Tenancy,
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    pub(crate) closing: bool,
    pub(crate) regions: RegionCache,
    pub(crate) loader: Loader,
    pub(crate) refresh: Refresh,
    pub(crate) stores: StoreTable,
    pub(crate) pd: Pd,
    pub(crate) tso: Tso,
    pub(crate) oracle: Oracle,
    pub(crate) safe_point: SafePoint,
    pub(crate) passes: Passes,
    pub(crate) resolver: Resolver,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) calls: Slab<RegionCall>,
    pub(crate) inflight: Slab<InFlight>,
    pub(crate) timers: Timers<TimerTarget>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) ready: VecDeque<Ready>,
    /// For draws that belong to no operation.
    pub(crate) draws: Draws,
    pub(crate) encoder: Encoder,
    pub(crate) coverage: Coverage,
    pub(crate) stats: Stats,
}

/// Where bodies are encoded: one large buffer after another, of which each body is a slice, so that a
/// body costs no allocation of its own. Not part of a core's state.
#[derive(Debug, Default)]
pub(crate) struct Encoder(BytesMut);

impl Clone for Encoder {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Hash for Encoder {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Shared {
    /// What [`Core::future_digest`](crate::Core::future_digest) is made of. The time is set by each
    /// input before anybody looks at it.
    pub(crate) fn hash_future<H: Hasher>(&self, state: &mut H) {
        // Without `..`: what is new has to be thought of here.
        let Self {
            config: _,
            codec,
            tenancy,
            seed: _,
            now: _,
            closing,
            regions,
            loader,
            refresh,
            stores,
            pd,
            tso,
            oracle,
            safe_point,
            passes,
            resolver,
            heartbeats,
            calls,
            inflight,
            timers,
            commands,
            events,
            ready,
            draws,
            encoder: _,
            coverage: _,
            stats: _,
        } = self;
        (codec, tenancy, closing, regions, loader, refresh, stores).hash(state);
        (pd, tso, oracle, safe_point, passes, resolver, heartbeats).hash(state);
        (calls, inflight, timers, commands, events, ready, draws).hash(state);
    }

    /// Puts a request on its way.
    pub(crate) fn send(
        &mut self,
        owner: CommandOwner,
        to: Destination,
        deadline: Instant,
        request: Request,
    ) -> CommandId {
        let id = CommandId(self.inflight.insert(InFlight { owner }));
        self.stats.commands += 1;
        self.commands.push_back(Command::Call(Call { id, to, deadline, request }));
        id
    }

    /// Withdraws a command: its answer will be dropped.
    pub(crate) fn abort(&mut self, id: CommandId) {
        if self.inflight.remove(id.0).is_some() {
            self.commands.push_back(Command::Abort { id });
        }
    }

    pub(crate) fn wake(&mut self, owner: Owner, tag: Tag, wake: Wake) {
        self.ready.push_back(Ready::Owner(owner, tag, wake));
    }

    pub(crate) fn wake_call(&mut self, call: Handle, wake: CallWake) {
        self.ready.push_back(Ready::Call(call, wake));
    }

    pub(crate) fn wake_located(&mut self, waiter: Waiter, result: Result<(), Error>) {
        match waiter {
            Waiter::Call(call) => self.wake_call(call, CallWake::Located(result)),
            Waiter::Owner(owner, tag) => self.wake(owner, tag, Wake::Located(result)),
        }
    }

    pub(crate) fn set_timer(
        &mut self,
        at: Instant,
        reason: WakeReason,
        target: TimerTarget,
    ) -> TimerId {
        self.timers.set(at, reason, target)
    }
}

/// One owner's view of the shared state for the length of one step.
pub(crate) struct Cx<'a> {
    pub(crate) shared: &'a mut Shared,
    pub(crate) owner: Owner,
    /// When the owner has to be over; [`Instant::NEVER`] if it is no operation.
    pub(crate) deadline: Instant,
    /// The owner's private draws.
    pub(crate) draws: &'a mut Draws,
}

impl Cx<'_> {
    /// Encodes the body of a request to a store, whose keys are the application's.
    pub(crate) fn encode(&mut self, message: &impl StoreRequest) -> Bytes {
        let Shared { encoder, codec, .. } = &mut *self.shared;
        outbound::encode(message, codec.prefix(), &mut encoder.0)
    }

    /// Joins the next timestamp batch; answered by [`Wake::Timestamp`].
    pub(crate) fn timestamp(&mut self, tag: Tag) {
        self.shared.tso_ask(self.owner, tag);
    }

    /// Answered by [`Wake::Pause`].
    pub(crate) fn pause(&mut self, tag: Tag, wait: std::time::Duration, reason: WakeReason) {
        let at = self.shared.now + wait;
        self.shared.set_timer(at, reason, TimerTarget::Pause(self.owner, tag));
    }
}

/// A body, and what a store has to know about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallSpec {
    pub(crate) rpc: Rpc,
    pub(crate) body: Bytes,
    pub(crate) extra: Option<Arc<crate::wire::ContextExtra>>,
    pub(crate) max_execution_ms: u64,
    pub(crate) timeout: Duration,
    /// How long the first attempt may take, where that is less: the application's own limit for a read,
    /// after which another replica is asked, and nobody is blamed.
    pub(crate) first_timeout: Option<Duration>,
    /// An earlier copy may have been received, through another call.
    pub(crate) is_retry: bool,
    /// Tell the region's bounds with the answer.
    pub(crate) wants_range: bool,
    /// Once it may have been executed, a store's «I do not know» is final: asking again could not
    /// tell more. Otherwise the request is such that sending it again is harmless.
    pub(crate) decisive: bool,
    /// Once it may have been executed it is never sent again: a second copy would do, or tell,
    /// something else than the first. The call then ends [`ErrorKind::Undetermined`].
    ///
    /// [`ErrorKind::Undetermined`]: crate::error::ErrorKind::Undetermined
    pub(crate) once: bool,
}

impl CallSpec {
    /// A request that the store may work on for as long as this side waits: reads, and what leaves
    /// the limit to the sender.
    pub(crate) fn new(rpc: Rpc, body: Bytes, timeout: Duration) -> Self {
        Self {
            rpc,
            body,
            extra: None,
            max_execution_ms: timeout.as_millis() as u64,
            timeout,
            first_timeout: None,
            is_retry: false,
            wants_range: false,
            decisive: false,
            once: false,
        }
    }

    /// A request that the store may work on for [`Config::max_write_execution`] only.
    pub(crate) fn write(rpc: Rpc, body: Bytes, config: &Config) -> Self {
        let max_execution_ms = config.max_write_execution.as_millis() as u64;
        Self { max_execution_ms, ..Self::new(rpc, body, config.attempt_timeout) }
    }
}
