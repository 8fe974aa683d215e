//! A client's core, a cluster, and a network between them, all in virtual time.
//!
//! The core is the real one; the cluster is the pure value of `anatase-cluster`; in between lies a
//! list of what will happen and when. Nothing sleeps: where there is nothing to do before the next
//! happening, the clock is set to it. So a minute of waiting for a leader costs microseconds, and
//! the same seed gives the same run on every machine.
//!
//! ```text
//!             commands                     requests arrive
//!   Core ─────────────────▶ agenda ──────────────────────────▶ Cluster
//!    ▲                     (by time)                             │
//!    └──────────────────────── ◀──────────────────────────────── ┘
//!       answers, time-outs                 answers leave
//! ```
//!
//! # What the network does
//!
//! Each way takes a time that is drawn ([`Network`]), so answers overtake each other; only requests
//! for timestamps to one address, which share a stream, stay in order. What is lost, and how, is
//! said by the cluster's answers, that is by [`Cluster::faults`]:
//!
//! | the cluster says | the core hears |
//! |---|---|
//! | a response | it, after the delay that the answer asks for |
//! | that the request waits for a lock | nothing, until the cluster has woken it |
//! | a status | [`Failure::status`] |
//! | [`Loss::Refused`], a stopped store, nobody at that address | [`Failure::NotSent`] |
//! | [`Loss::Reset`] | [`Failure::MaybeExecuted`], for every call on that connection |
//! | [`Loss::Silent`] | nothing |
//!
//! # What is checked at every step
//!
//! An operation is over at its deadline at the latest, and ends once; a wake-up makes progress
//! (rule 4 of the core's contract); where operations are open, something is being waited for; and no
//! instant goes on for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anatase_cluster::{Cluster, Code, Failure as Broken, Loss, PdMetadata, Served, Status, Ticket};
use anatase_core::coverage::Coverage;
use anatase_core::wire::{Head, Response, TimestampBatch};
use anatase_core::{
    AskTimestamps, Call, Cancel, Command, CommandId, Config, Core, Error, Event, Failure,
    GrpcStatus, Instant, KeyMode, Notice, OpId, OpOptions, Operation, Reply, StoreId,
};
use anatase_proto::pdpb;
use anatase_proto::prost::Message;
use anatase_proto::rpc::Rpc;
use bytes::{Bytes, BytesMut};

use crate::Dice;

/// After so many happenings without time passing, the world is going in circles.
const INSTANT_LIMIT: u32 = 20_000;

/// How the network behaves when nothing is wrong with it.
#[derive(Clone, Debug)]
pub struct Network {
    /// What each way usually takes at most.
    pub latency: Duration,
    /// One message in so many takes longer; 0 for none.
    pub late_one_in: u64,
    /// How long that may be.
    pub late: Duration,
    /// Whether a request that was withdrawn, or whose connection broke, may arrive all the same.
    ///
    /// This is what networks do. It is off where a model cannot follow: an unfenced write of the raw
    /// API that arrives late overwrites newer ones (raw.md §5).
    pub strays: bool,
}

impl Default for Network {
    fn default() -> Self {
        let latency = Duration::from_millis(2);
        Self { latency, late_one_in: 32, late: Duration::from_millis(400), strays: false }
    }
}

/// See the [module's documentation](self).
pub struct World {
    /// The cluster. Whatever is done to it between two steps happens between two messages.
    pub cluster: Cluster,
    core: Core,
    config: Config,
    network: Network,
    dice: Dice,
    now: Instant,
    /// The cluster's clock at the origin of the core's.
    origin_ms: u64,
    /// What will happen. The number in the middle of the key is drawn: what happens at the same
    /// instant happens in any order. The last one makes keys unique.
    agenda: BTreeMap<(Instant, u64, u64), Happening>,
    numbered: u64,
    /// Happenings since time last passed.
    at_once: u32,
    /// Commands that have been neither answered nor withdrawn, and where they went.
    calls: BTreeMap<CommandId, Arc<str>>,
    /// Operations that are not over, and their deadlines.
    open: BTreeMap<OpId, Instant>,
    done: BTreeMap<OpId, Result<Reply, Error>>,
    submitted: u64,
    /// Grows when the client crashes: what was sent in an earlier life is not answered in a later.
    life: u64,
    /// When the last message of each timestamp stream arrives, each way.
    streams: BTreeMap<(Arc<str>, Way), Instant>,
    /// Timestamp streams that have fallen silent.
    mute: BTreeSet<Arc<str>>,
    /// Calls that wait at a store for a lock: of which life, and where.
    parked: BTreeMap<Ticket, (u64, CommandId, Arc<str>)>,
    /// What the cores of earlier lives have met.
    met: Coverage,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    There,
    Back,
}

enum Happening {
    Arrives(Parcel),
    Answered { life: u64, id: CommandId, answer: Result<Response, Failure> },
    Change(Box<dyn FnOnce(&mut World)>),
}

/// A request on its way.
#[derive(Clone)]
struct Parcel {
    life: u64,
    id: CommandId,
    address: Arc<str>,
    what: What,
}

#[derive(Clone)]
enum What {
    Store(Rpc, Bytes),
    Pd(Rpc, PdMetadata, Bytes),
    Timestamps { metadata: PdMetadata, body: Bytes, count: u32 },
}

impl World {
    /// A client of `cluster`. All that is drawn is drawn from `seed`.
    ///
    /// `config` names the addresses of PD as [`pd_endpoints`] gives them.
    pub fn new(cluster: Cluster, config: Config, network: Network, seed: u64) -> Self {
        let now = Instant::from_nanos(1);
        Self {
            core: Core::new(config.clone(), seed, now),
            origin_ms: cluster.now_ms(),
            cluster,
            config,
            network,
            dice: Dice::new(seed),
            now,
            agenda: BTreeMap::new(),
            numbered: 0,
            at_once: 0,
            calls: BTreeMap::new(),
            open: BTreeMap::new(),
            done: BTreeMap::new(),
            submitted: 0,
            life: 0,
            streams: BTreeMap::new(),
            mute: BTreeSet::new(),
            parked: BTreeMap::new(),
            met: Coverage::new(),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Which of the two APIs the client speaks.
    pub fn mode(&self) -> KeyMode {
        self.config.mode
    }

    /// The core, to look at.
    pub fn core(&self) -> &Core {
        &self.core
    }

    // ---- operations ----------------------------------------------------------------------------

    /// Begins an operation that may take as long as `timeout`.
    ///
    /// # Panics
    /// If the core has no room for it.
    pub fn submit(&mut self, operation: Operation, timeout: Duration) -> OpId {
        self.submitted += 1;
        let deadline = self.now + timeout;
        let options = OpOptions { deadline, stream: self.life << 32 | self.submitted };
        let op = self.core.submit(self.now, operation, options).expect("there is room");
        self.open.insert(op, deadline);
        self.drain_outputs();
        op
    }

    /// How an operation ended, once.
    pub fn take(&mut self, op: OpId) -> Option<Result<Reply, Error>> {
        self.done.remove(&op)
    }

    /// Whether it has not ended.
    pub fn is_open(&self, op: OpId) -> bool {
        self.open.contains_key(&op)
    }

    /// Lets things happen until the operation is over.
    pub fn finish(&mut self, op: OpId) -> Result<Reply, Error> {
        loop {
            if let Some(result) = self.take(op) {
                return result;
            }
            assert!(self.turn(), "{op:?} waits for nothing");
        }
    }

    /// An operation from its beginning to its end.
    pub fn run(&mut self, operation: Operation, timeout: Duration) -> Result<Reply, Error> {
        let op = self.submit(operation, timeout);
        self.finish(op)
    }

    /// Its owner gives up.
    pub fn cancel(&mut self, op: OpId) -> Cancel {
        let cancel = self.core.cancel(self.now, op);
        self.open.remove(&op);
        self.drain_outputs();
        cancel
    }

    /// The client closes. What it is committing or undoing goes on, if time passes.
    pub fn close(&mut self) {
        self.core.close(self.now);
        self.drain_outputs();
    }

    /// Which inputs the machines of all the client's lives have met in which state.
    pub fn coverage(&self) -> Coverage {
        let mut all = self.met.clone();
        all.merge(self.core.coverage());
        all
    }

    /// The client's process dies, and another one starts: nobody hears how its operations ended.
    /// What it had sent arrives, or is lost with the connections if the network has no
    /// [strays](Network::strays).
    pub fn crash(&mut self) {
        self.life += 1;
        self.met.merge(self.core.coverage());
        let seed = self.dice.below(u64::MAX);
        self.core = Core::new(self.config.clone(), seed, self.now);
        self.calls.clear();
        self.open.clear();
        self.done.clear();
        self.mute.clear();
        if !self.network.strays {
            self.agenda.retain(|_, happening| !matches!(happening, Happening::Arrives(_)));
        }
    }

    // ---- time ----------------------------------------------------------------------------------

    /// Lets the next thing happen. False if nothing ever will.
    pub fn turn(&mut self) -> bool {
        let agenda = self.agenda.first_key_value().map(|((at, ..), _)| *at);
        let wakeup = self.core.poll_timeout().map(|wakeup| wakeup.at.max(self.now));
        let wake = self.next_wake().map(|at| at.max(self.now));
        let Some(next) = agenda.into_iter().chain(wakeup).chain(wake).min() else {
            assert!(self.open.is_empty(), "{:?} wait for nothing", self.open);
            return false;
        };
        self.reach(next);
        // At the same instant it is drawn which comes first.
        let alarm = match (agenda == Some(next), wakeup == Some(next)) {
            (true, true) => self.dice.chance(1, 2),
            (_, alarm) => alarm,
        };
        if alarm {
            self.alarm();
        } else if agenda == Some(next)
            && let Some((_, happening)) = self.agenda.pop_first()
        {
            self.happen(happening);
        }
        self.wake();
        self.drain_outputs();
        true
    }

    /// Lets `time` pass, and whatever happens in it.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let agenda = self.agenda.first_key_value().map(|((at, ..), _)| *at);
            let wakeup = self.core.poll_timeout().map(|wakeup| wakeup.at);
            match agenda.into_iter().chain(wakeup).chain(self.next_wake()).min() {
                Some(next) if next <= until => self.turn(),
                _ => break,
            };
        }
        self.reach(until);
    }

    /// When a store ends somebody's wait for a lock.
    fn next_wake(&self) -> Option<Instant> {
        let ms = self.cluster.next_wake_ms()?.saturating_sub(self.origin_ms);
        Some(Instant::from_nanos(ms.saturating_mul(1_000_000)))
    }

    /// Whether nothing is left: the core is idle, no request or answer is under way, and no store has
    /// a request that waits.
    pub fn is_quiet(&self) -> bool {
        let waits = self.cluster.next_wake_ms().is_some();
        self.core.is_idle() && self.calls.is_empty() && self.agenda.is_empty() && !waits
    }

    /// Does something to the world after a while.
    pub fn later(&mut self, wait: Duration, change: impl FnOnce(&mut World) + 'static) {
        self.plan(self.now + wait, Happening::Change(Box::new(change)));
    }

    fn reach(&mut self, instant: Instant) {
        if instant > self.now {
            self.now = instant;
            self.at_once = 0;
            self.cluster.set_now_ms(self.origin_ms + self.now.as_nanos() / 1_000_000);
        }
        self.at_once += 1;
        assert!(self.at_once < INSTANT_LIMIT, "time stands still at {:?}", self.now);
    }

    /// Rule 4: a timeout handled at its instant makes progress.
    fn alarm(&mut self) {
        let before = self.core.poll_timeout();
        self.core.handle_timeout(self.now);
        let Some(after) = self.core.poll_timeout() else { return };
        if after.at <= self.now {
            let outputs = self.drain_outputs();
            assert!(outputs > 0, "{before:?} has led to {after:?} and nothing else");
        }
    }

    fn plan(&mut self, at: Instant, happening: Happening) {
        self.numbered += 1;
        let draw = self.dice.below(1 << 16);
        self.agenda.insert((at, draw, self.numbered), happening);
    }

    fn latency(&mut self) -> Duration {
        let late = self.network.late_one_in > 0 && self.dice.chance(1, self.network.late_one_in);
        let most = if late { self.network.late } else { self.network.latency };
        Duration::from_nanos(1 + self.dice.below(most.as_nanos() as u64))
    }

    // ---- the core's outputs --------------------------------------------------------------------

    /// Takes all outputs. How many there were.
    fn drain_outputs(&mut self) -> usize {
        let mut outputs = 0;
        while let Some(Event::Done { op, result }) = self.core.poll_event() {
            outputs += 1;
            let deadline = self.open.remove(&op);
            let deadline = deadline.unwrap_or_else(|| panic!("{op:?} ended twice: {result:?}"));
            assert!(
                self.now <= deadline,
                "{op:?} ended {:?} after its deadline",
                self.now.since(deadline)
            );
            self.done.insert(op, result);
        }
        while let Some(command) = self.core.poll_command() {
            outputs += 1;
            match command {
                Command::Call(call) => self.send(call),
                Command::Timestamps(ask) => self.ask(ask),
                Command::Abort { id } => self.withdraw(id),
            }
        }
        outputs
    }

    fn send(&mut self, call: Call) {
        let mut body = BytesMut::with_capacity(call.request.encoded_len());
        call.request.encode(&mut body);
        let (rpc, body) = (call.request.rpc, body.freeze());
        let what = match call.request.head {
            Head::Store(_) => What::Store(rpc, body),
            Head::Pd { forward_to, allow_follower, .. } => {
                let metadata = PdMetadata { forwarded: forward_to.is_some(), allow_follower };
                What::Pd(rpc, metadata, body)
            }
            Head::None if call.to.store.is_some() => What::Store(rpc, body),
            Head::None => What::Pd(rpc, PdMetadata::default(), body),
        };
        let at = self.now + self.latency();
        self.post(call.id, call.to.address, what, at);
    }

    fn ask(&mut self, ask: AskTimestamps) {
        let header = pdpb::RequestHeader { cluster_id: ask.cluster_id, ..Default::default() };
        let request =
            pdpb::TsoRequest { header: Some(header), count: ask.count, ..Default::default() };
        let body = request.encode_to_vec().into();
        let metadata = PdMetadata { forwarded: ask.forward_to.is_some(), allow_follower: false };
        let wanted = self.now + self.latency();
        let at = self.in_order(&ask.to.address, Way::There, wanted);
        let what = What::Timestamps { metadata, body, count: ask.count };
        self.post(ask.id, ask.to.address, what, at);
    }

    /// On a stream nothing overtakes.
    fn in_order(&mut self, address: &Arc<str>, way: Way, at: Instant) -> Instant {
        let last = self.streams.entry((address.clone(), way)).or_default();
        *last = at.max(*last + Duration::from_nanos(1));
        *last
    }

    fn new_stream(&mut self, address: &str) {
        self.mute.remove(address);
        self.streams.retain(|(to, _), _| &**to != address);
    }

    fn post(&mut self, id: CommandId, address: Arc<str>, what: What, at: Instant) {
        let known = self.calls.insert(id, address.clone());
        assert_eq!(known, None, "{id:?} is used twice");
        let parcel = Parcel { life: self.life, id, address, what };
        self.plan(at, Happening::Arrives(parcel));
    }

    fn withdraw(&mut self, id: CommandId) {
        if let Some(address) = self.calls.remove(&id) {
            // A driver opens the stream anew.
            self.new_stream(&address);
        }
        if !self.network.strays {
            let life = self.life;
            self.agenda.retain(|_, happening| match happening {
                Happening::Arrives(parcel) => (parcel.life, parcel.id) != (life, id),
                Happening::Answered { .. } | Happening::Change(_) => true,
            });
        }
    }

    // ---- the network ---------------------------------------------------------------------------

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Change(change) => change(self),
            Happening::Answered { life, id, answer } => {
                if life == self.life {
                    self.calls.remove(&id);
                    self.core.handle_response(self.now, id, answer);
                }
            }
            Happening::Arrives(parcel) => self.arrive(parcel),
        }
    }

    fn arrive(&mut self, parcel: Parcel) {
        let Parcel { life, id, address, what } = parcel;
        let host = address.split_once("://").map_or(&*address, |(_, host)| host);
        let streamed = matches!(what, What::Timestamps { .. });
        let (answer, delay) = match what {
            What::Store(rpc, body) => match self.cluster.store_at(host) {
                Some(store) => match self.cluster.handle_or_park(store, rpc, body) {
                    Served::Answered(answer) => (decoded(rpc, answer.result), answer.delay),
                    Served::Parked(ticket) => {
                        self.parked.insert(ticket, (life, id, address));
                        return;
                    }
                },
                None => nobody(),
            },
            What::Pd(rpc, metadata, body) => match self.member_at(host) {
                Some(member) => {
                    let answer = self.cluster.handle_pd(member, rpc, &metadata, body);
                    (decoded(rpc, answer.result), answer.delay)
                }
                None => nobody(),
            },
            What::Timestamps { .. } if self.mute.contains(&address) => return,
            What::Timestamps { metadata, body, count } => match self.member_at(host) {
                Some(member) => {
                    let answer = self.cluster.handle_pd(member, Rpc::PdTso, &metadata, body);
                    (stamped(count, answer.result), answer.delay)
                }
                None => nobody(),
            },
        };
        self.answer(life, id, address, streamed, answer, delay);
    }

    /// Those that waited for a lock, and do no more.
    fn wake(&mut self) {
        for woken in self.cluster.take_woken() {
            if let Some((life, id, address)) = self.parked.remove(&woken.ticket) {
                let answer = woken.answer.map(|response| response.encode_to_vec().into());
                let result = decoded(Rpc::KvPessimisticLock, answer.result);
                self.answer(life, id, address, false, result, answer.delay);
            }
        }
    }

    fn answer(
        &mut self,
        life: u64,
        id: CommandId,
        address: Arc<str>,
        streamed: bool,
        answer: Result<Response, Broken>,
        delay: Duration,
    ) {
        let answer = match answer {
            Ok(response) => Ok(response),
            Err(Broken::Status(status)) => {
                Err(Failure::status(GrpcStatus(status.code as u32), status.message))
            }
            Err(Broken::Lost(Loss::Refused)) => Err(Failure::not_sent("connection refused")),
            Err(Broken::Lost(Loss::Silent)) => {
                if streamed {
                    self.mute.insert(address);
                }
                return;
            }
            Err(Broken::Lost(Loss::Reset)) => {
                // The call itself may be of a client that has died.
                if life == self.life {
                    self.reset(&address);
                }
                return;
            }
        };
        let at = self.now + delay + self.latency();
        let at = if streamed { self.in_order(&address, Way::Back, at) } else { at };
        self.plan(at, Happening::Answered { life, id, answer });
    }

    /// Breaks the connection to an address: every call on it fails. If there is none, the core hears
    /// of it when a store lived there.
    pub fn reset(&mut self, address: &str) {
        let broken: Vec<CommandId> =
            self.calls.iter().filter(|(_, to)| &***to == address).map(|(id, _)| *id).collect();
        self.new_stream(address);
        let (life, strays) = (self.life, self.network.strays);
        self.agenda.retain(|_, happening| match happening {
            Happening::Arrives(parcel) => strays || &*parcel.address != address,
            Happening::Answered { life: l, id, .. } => *l != life || !broken.contains(id),
            Happening::Change(_) => true,
        });
        self.parked.retain(|_, (l, id, _)| *l != life || !broken.contains(id));
        if broken.is_empty()
            && let Some(store) = self.cluster.store_at(address)
        {
            self.core.handle_notice(self.now, Notice::LinkDown { store: StoreId(store) });
        }
        for id in broken {
            let answer = Err(Failure::maybe_executed("connection reset"));
            self.plan(self.now, Happening::Answered { life, id, answer });
        }
        self.drain_outputs();
    }

    fn member_at(&self, host: &str) -> Option<usize> {
        let named = |url: &str| url.split_once("://").map_or(url, |(_, host)| host) == host;
        self.cluster.pd_members().iter().position(|member| named(&member.url))
    }

    // ---- what happens to servers ---------------------------------------------------------------

    /// Kills a store: its connections break, new ones are refused.
    pub fn stop_store(&mut self, store: u64) {
        self.cluster.stop_store(store);
        let address = self.cluster.store(store).map(|store| store.address.clone());
        address.into_iter().for_each(|address| self.reset(&address));
    }

    /// Kills a member of PD.
    pub fn stop_pd_member(&mut self, member: usize) {
        self.cluster.stop_pd_member(member);
        let url = self.cluster.pd_members().get(member).map(|member| member.url.clone());
        for address in url.into_iter().flat_map(|url| [url.replace("http://", ""), url]) {
            self.reset(&address);
        }
    }

    /// As [`World::mend`], and from now on nothing is late.
    pub fn heal(&mut self) {
        self.network.late_one_in = 0;
        self.mend();
    }

    /// Whatever was broken works again: no fault is left, everybody is up, every region and PD have
    /// a leader, and PD knows the routes. What is on the agenda goes on.
    pub fn mend(&mut self) {
        self.cluster.faults().clear();
        let stores: Vec<u64> = self.cluster.stores().map(|store| store.id).collect();
        stores.into_iter().for_each(|store| self.cluster.start_store(store));
        for member in 0..self.cluster.pd_members().len() {
            self.cluster.start_pd_member(member);
        }
        if self.cluster.pd_leader().is_none() {
            self.cluster.transfer_pd_leader(0);
        }
        self.cluster.elect_leaders();
        self.cluster.thaw_routes();
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("open", &self.open)
            .field("calls", &self.calls)
            .field("agenda", &self.agenda.len())
            .finish_non_exhaustive()
    }
}

/// Where the members of a cluster's PD are, for [`Config::new`].
pub fn pd_endpoints(cluster: &Cluster) -> Vec<Arc<str>> {
    cluster.pd_members().iter().map(|member| member.url.as_str().into()).collect()
}

type Arrived = (Result<Response, Broken>, Duration);

fn nobody() -> Arrived {
    (Err(Broken::Lost(Loss::Refused)), Duration::ZERO)
}

fn decoded(rpc: Rpc, answer: Result<Bytes, Broken>) -> Result<Response, Broken> {
    answer.map(|bytes| Response::decode(rpc, bytes).expect("the cluster speaks the protocol"))
}

fn stamped(count: u32, answer: Result<Bytes, Broken>) -> Result<Response, Broken> {
    let message = pdpb::TsoResponse::decode(answer?).expect("the cluster speaks the protocol");
    // An error in the header, say.
    TimestampBatch::from_proto(&message, count)
        .map(Response::Timestamps)
        .map_err(|error| Status::new(Code::Unknown, error.to_string()).into())
}
