//! The network: how requests get to servers and answers back, or do not.
//!
//! Each request is a [`Flight`], from the command of a core to its answer. Each way takes a time that
//! is drawn, so answers overtake each other; only requests for timestamps over one stream stay in
//! order. How a flight may end:
//!
//! | what happens | the server | the client hears |
//! |---|---|---|
//! | nothing | executes | the answer, or the server's status |
//! | nobody listens there | | [`Failure::NotSent`](anatase_core::Failure) |
//! | request lost, partition on the way there | nothing | nothing |
//! | reply lost, partition on the way back | executes | nothing |
//! | late (a zombie) | executes, later | nothing, most often: it has given up |
//! | reset, before or after | nothing, or executes | `MaybeExecuted`, for every call on the connection |
//! | withdrawn by the client, client dead | executes if it is a stray | nothing |

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use anatase_client::Inbox;
use anatase_cluster::{Failure as Broken, Loss};
use anatase_core::wire::{Request, Response};
use anatase_core::{
    AskTimestamps, Command, CommandId, Failure, GrpcStatus, Input, Notice, StoreId,
};

use crate::agenda::{Happening, Key};
use crate::describe;
use crate::entropy::{MILLION, Purpose, Stream};
use crate::fault::{ClientId, Fate, Side};
use crate::serve::{self, Fared};
use crate::world::{Action, NOBODY, World};

/// One core's way into the network.
pub(crate) struct Link {
    pub(crate) client: ClientId,
    inbox: Option<Inbox>,
    /// Commands that have been neither answered nor withdrawn.
    pub(crate) calls: BTreeMap<CommandId, Key>,
    streams: Vec<TimestampStream>,
    /// Servers that it has had connections to since they last broke.
    connections: Vec<Side>,
}

/// On such a stream nothing overtakes, and what is lost takes with it all that follows.
struct TimestampStream {
    address: Arc<str>,
    there: u64,
    back: u64,
    mute: bool,
}

/// A request, from the core that sent it to the answer that it gets.
pub(crate) struct Flight {
    pub(crate) client: ClientId,
    link: Key,
    id: CommandId,
    address: Arc<str>,
    server: Option<Side>,
    fate: Option<Fate>,
    stage: Stage,
    /// Whether it is on a stream of timestamps.
    streamed: bool,
    /// Whether the client waits for the answer.
    pub(crate) waits: bool,
}

enum Stage {
    /// Not executed yet.
    There {
        what: What,
        arrives: u64,
        held: bool,
    },
    Back(Result<Response, Failure>),
    /// No answer will come.
    Silent,
}

/// What is asked.
#[derive(Clone, Hash)]
pub(crate) enum What {
    Call(Request),
    Timestamps(AskTimestamps),
}

impl World {
    // ---- from clients --------------------------------------------------------------------------

    pub(crate) fn open_link(&mut self, client: ClientId) -> Key {
        self.links.insert(Link {
            client,
            inbox: None,
            calls: BTreeMap::new(),
            streams: Vec::new(),
            connections: Vec::new(),
        })
    }

    /// The core is gone; what it sent may still arrive.
    pub(crate) fn close_link(&mut self, link: Key) {
        let Some(link) = self.links.remove(link) else { return };
        link.calls.into_values().for_each(|key| self.let_stray(key));
    }

    pub(crate) fn perform(&mut self, link: Key, commands: &mut Vec<Command>, inbox: &Inbox) {
        match self.links.get_mut(link) {
            Some(link) => drop(link.inbox.get_or_insert_with(|| inbox.clone())),
            None => return commands.clear(),
        }
        for command in commands.drain(..) {
            match command {
                Command::Call(call) => {
                    let side = match call.to.store {
                        Some(_) => self.store_at(&call.to.address),
                        None => self.member_at(&call.to.address),
                    };
                    self.send(link, call.id, call.to.address, side, What::Call(call.request));
                }
                Command::Timestamps(ask) => {
                    let address = ask.to.address.clone();
                    let side = self.member_at(&address);
                    self.send(link, ask.id, address, side, What::Timestamps(ask));
                }
                Command::Abort { id } => self.withdraw(link, id),
            }
        }
    }

    fn store_at(&self, address: &str) -> Option<Side> {
        self.cluster.store_at(host(address)).map(Side::Store)
    }

    fn member_at(&self, address: &str) -> Option<Side> {
        let members = self.cluster.pd_members().iter();
        let at = members.map(|member| host(&member.url)).position(|url| url == host(address));
        at.map(Side::Pd)
    }

    fn send(
        &mut self,
        link: Key,
        id: CommandId,
        address: Arc<str>,
        server: Option<Side>,
        what: What,
    ) {
        let Some(client) = self.links.get(link).map(|link| link.client) else { return };
        self.stats.requests += 1;
        let fate = self.draw_fate(client);
        let mut arrives = self.now + self.latency(Purpose::There, client);
        if let Some(Fate::Late(by)) = fate {
            arrives += by.as_nanos() as u64;
        }
        let Some(at_link) = self.links.get_mut(link) else { return };
        let streamed = matches!(what, What::Timestamps(_));
        if streamed {
            let stream = at_link.stream(&address);
            arrives = arrives.max(stream.there + 1);
            stream.there = arrives;
        }
        if let Some(server) = server
            && !at_link.connections.contains(&server)
        {
            at_link.connections.push(server);
        }
        let stage = Stage::There { what, arrives, held: false };
        let flight =
            Flight { client, link, id, address, server, fate, stage, streamed, waits: true };
        let key = self.flights.insert(flight);
        at_link.calls.insert(id, key);
        self.plan(arrives, client.into(), Happening::Arrives(key));
    }

    fn draw_fate(&mut self, client: ClientId) -> Option<Fate> {
        let at = self.clients.get_mut(client as usize)?;
        if !at.next.is_empty() {
            let due = at.next.iter().position(|(skip, _)| *skip == 0);
            at.next.iter_mut().for_each(|(skip, _)| *skip = skip.saturating_sub(1));
            if let Some(due) = due {
                return Some(at.next.remove(due).1);
            }
        }
        if !self.network.has_fates() {
            return None;
        }
        let stream = Stream::new(Purpose::Fate, client.into());
        // From above, so that zero is none.
        let mut left = MILLION - 1 - self.entropy.below(stream, MILLION);
        let network = &self.network;
        for (share, fate) in [
            (network.request_lost, Fate::RequestLost),
            (network.reply_lost, Fate::ReplyLost),
            (network.zombie, Fate::Late(network.zombie_delay)),
            (network.reset / 2, Fate::ResetBefore),
            (network.reset.div_ceil(2), Fate::ResetAfter),
        ] {
            if left < share {
                return Some(match fate {
                    Fate::Late(most) => {
                        let most = most.as_nanos() as u64;
                        let late = self.entropy.nanos_below(stream, most);
                        Fate::Late(Duration::from_nanos(late))
                    }
                    other => other,
                });
            }
            left -= share;
        }
        None
    }

    fn latency(&mut self, purpose: Purpose, client: ClientId) -> u64 {
        let stream = Stream::new(purpose, client.into());
        let mean = self.network.mean.as_nanos() as u64;
        let mut beyond = if mean > 0 { self.entropy.waiting(stream, mean) } else { 0 };
        if self.network.tail > 0 && self.entropy.chance(stream, self.network.tail) {
            beyond = beyond.saturating_mul(self.network.tail_factor.into());
        }
        self.network.least.as_nanos() as u64 + beyond
    }

    fn withdraw(&mut self, link: Key, id: CommandId) {
        let Some(at_link) = self.links.get_mut(link) else { return };
        let Some(key) = at_link.calls.remove(&id) else { return };
        if let Some(flight) = self.flights.get(key)
            && flight.streamed
        {
            // A driver opens a stream of timestamps anew.
            at_link.streams.retain(|stream| stream.address != flight.address);
        }
        self.let_stray(key);
    }

    /// Nobody waits for it any more. If it is under way, it may arrive all the same.
    fn let_stray(&mut self, key: Key) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        flight.waits = false;
        let (client, under_way) = (flight.client, matches!(flight.stage, Stage::There { .. }));
        let stream = Stream::new(Purpose::Stray, client.into());
        if !under_way || !self.entropy.chance(stream, self.network.strays) {
            self.flights.remove(key);
        }
    }

    // ---- at the server -------------------------------------------------------------------------

    pub(crate) fn arrive(&mut self, key: Key) {
        self.stats.arrivals += 1;
        let Some(flight) = self.flights.get(key) else { return };
        let (client, server, fate) = (flight.client, flight.server, flight.fate);
        let Some(server) = server else {
            return self.answer(key, Err(Failure::not_sent("nobody lives at that address")), 0);
        };
        if self.is_mute(key) {
            self.stats.requests_lost += 1;
            return self.silence(key);
        }
        if self.is_blocked(Side::Client(client), server) || fate == Some(Fate::RequestLost) {
            self.stats.requests_lost += 1;
            return self.silence(key);
        }
        if self.hold(key, server) {
            return;
        }
        if fate == Some(Fate::ResetBefore) {
            // This one is never executed.
            self.silence(key);
            return self.reset_connection(key, server);
        }
        let Some(flight) = self.flights.get_mut(key) else { return };
        let Stage::There { what, .. } = std::mem::replace(&mut flight.stage, Stage::Silent) else {
            return;
        };
        what.hash(&mut self.digest);
        if self.log.is_some() {
            let line = format!("{client} → {server:?}: {}", describe::what(&what));
            self.note(|| line);
        }
        match serve::serve(&mut self.cluster, server, what, self.wire, &mut self.buffer) {
            Fared::Over(result, delay) => self.served(key, server, fate, result, delay),
            Fared::Parked(ticket) => drop(self.parked.insert(ticket, key)),
        }
    }

    /// Requests that waited for locks and do so no longer. To be called after whatever was done to
    /// the cluster.
    pub(crate) fn look_after_parked(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        for woken in self.cluster.take_woken() {
            let Some(key) = self.parked.remove(&woken.ticket) else { continue };
            let (result, delay) = serve::woken(woken, self.wire);
            match self.flights.get(key) {
                Some(Flight { server: Some(server), fate, .. }) => {
                    self.served(key, *server, *fate, result, delay);
                }
                // Its client has given up; it was executed all the same.
                _ => self.stats.zombies += 1,
            }
        }
        let Some(at) = self.cluster.next_wake_ms() else { return };
        let at = 1_000_000 * at.saturating_sub(self.origin_ms);
        if self.look_at.is_none_or(|look| at < look) {
            self.look_at = Some(at);
            self.plan(at, NOBODY, Happening::Parked);
        }
    }

    /// A request has been executed, or refused.
    fn served(
        &mut self,
        key: Key,
        server: Side,
        fate: Option<Fate>,
        result: Result<Response, Broken>,
        delay: Duration,
    ) {
        let refused = result == Err(Broken::Lost(Loss::Refused));
        self.stats.executed += u64::from(!refused);
        match &result {
            Ok(response) => response.hash(&mut self.digest),
            Err(broken) => broken.to_string().hash(&mut self.digest),
        }
        if self.flights.get(key).is_none_or(|flight| !flight.waits) {
            self.stats.zombies += u64::from(!refused);
            self.flights.remove(key);
            return;
        }
        if fate == Some(Fate::ResetAfter) || result == Err(Broken::Lost(Loss::Reset)) {
            return self.reset_connection(key, server);
        }
        if fate == Some(Fate::ReplyLost) {
            self.stats.replies_lost += 1;
            return self.silence(key);
        }
        let answer = match result {
            Ok(response) => Ok(response),
            Err(Broken::Status(status)) => {
                Err(Failure::status(GrpcStatus(status.code as u32), status.message))
            }
            Err(Broken::Lost(Loss::Refused)) => Err(Failure::not_sent("connection refused")),
            Err(Broken::Lost(Loss::Silent | Loss::Reset)) => return self.silence(key),
        };
        self.answer(key, answer, delay.as_nanos() as u64);
    }

    /// A server that is slow or stands still serves it later.
    fn hold(&mut self, key: Key, server: Side) -> bool {
        if self.hold_back(key, server) {
            return true;
        }
        let Some(Flight { stage: Stage::There { held, arrives, .. }, client, .. }) =
            self.flights.get_mut(key)
        else {
            return true;
        };
        let client = *client;
        if *held {
            return false;
        }
        *held = true;
        let later = self.troubles.iter().map(|(_, trouble)| trouble.slowness(server)).sum::<u64>();
        if later > 0 {
            *arrives = self.now + later;
            self.plan(self.now + later, client.into(), Happening::Arrives(key));
        }
        later > 0
    }

    fn is_mute(&self, key: Key) -> bool {
        let Some(flight) = self.flights.get(key) else { return false };
        if !flight.streamed {
            return false;
        }
        let streams = self.links.get(flight.link).map(|link| &link.streams[..]).unwrap_or_default();
        streams.iter().any(|stream| stream.address == flight.address && stream.mute)
    }

    /// No answer will come. On a stream nothing comes after it either.
    fn silence(&mut self, key: Key) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        if !flight.waits {
            self.flights.remove(key);
            return;
        }
        flight.stage = Stage::Silent;
        if flight.streamed
            && let Some(link) = self.links.get_mut(flight.link)
        {
            let mut streams = link.streams.iter_mut();
            if let Some(stream) = streams.find(|stream| stream.address == flight.address) {
                stream.mute = true;
            }
        }
    }

    /// An answer leaves.
    fn answer(&mut self, key: Key, answer: Result<Response, Failure>, delay: u64) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        if !flight.waits {
            self.flights.remove(key);
            return;
        }
        let (streamed, client, link) = (flight.streamed, flight.client, flight.link);
        if let (Some(log), Some(server)) = (&mut self.log, flight.server) {
            let (now, told) = (self.now as f64 / 1e9, describe::answer(&answer));
            log.push(format!("{now:>12.6} {client} ← {server:?}: {told}"));
        }
        flight.stage = Stage::Back(answer);
        let mut at = self.now + delay + self.latency(Purpose::Back, client);
        if streamed
            && let Some(flight) = self.flights.get(key)
            && let Some(link) = self.links.get_mut(link)
        {
            let stream = link.stream(&flight.address);
            at = at.max(stream.back + 1);
            stream.back = at;
        }
        self.plan(at, client.into(), Happening::Answered(key));
    }

    // ---- at the client -------------------------------------------------------------------------

    pub(crate) fn answered(&mut self, key: Key) -> Action {
        let Some(flight) = self.flights.get(key) else { return Action::None };
        if let Some(server) = flight.server
            && self.is_blocked(server, Side::Client(flight.client))
        {
            self.stats.replies_lost += 1;
            self.silence(key);
            return Action::None;
        }
        let Some(Flight { link, id, stage: Stage::Back(answer), .. }) = self.flights.remove(key)
        else {
            return Action::None;
        };
        let Some(link) = self.links.get_mut(link) else { return Action::None };
        link.calls.remove(&id);
        self.stats.answers += 1;
        match &link.inbox {
            Some(inbox) => Action::Deliver(inbox.clone(), Input::Response(id, answer)),
            None => Action::None,
        }
    }

    pub(crate) fn noticed(&mut self, key: Key) -> Action {
        let Some((link, notice)) = self.notices.remove(key) else { return Action::None };
        match self.links.get(link).and_then(|link| link.inbox.clone()) {
            Some(inbox) => Action::Deliver(inbox, Input::Notice(notice)),
            None => Action::None,
        }
    }

    // ---- connections ---------------------------------------------------------------------------

    /// The connection of this flight breaks.
    fn reset_connection(&mut self, key: Key, server: Side) {
        let Some(flight) = self.flights.get(key) else { return };
        let (link, waits) = (flight.link, flight.waits);
        if !waits {
            self.flights.remove(key);
        }
        self.reset_link(link, server);
    }

    /// All connections between clients and servers break, as far as they are meant.
    pub(crate) fn reset(&mut self, client: Side, server: Side) {
        let links = self.links.iter().filter(|(_, link)| client.covers(Side::Client(link.client)));
        let broken: Vec<(Key, Side)> = links
            .flat_map(|(key, link)| link.connections.iter().map(move |side| (key, *side)))
            .filter(|(_, side)| server.covers(*side))
            .collect();
        broken.into_iter().for_each(|(link, side)| self.reset_link(link, side));
    }

    fn reset_link(&mut self, link: Key, server: Side) {
        let Some(at_link) = self.links.get_mut(link) else { return };
        let client = at_link.client;
        self.stats.resets += 1;
        at_link.connections.retain(|side| *side != server);
        let flights = &self.flights;
        let on_it = |key: &Key| flights.get(*key).is_some_and(|f| f.server == Some(server));
        let calls: Vec<Key> = at_link.calls.values().copied().filter(on_it).collect();
        for key in &calls {
            if let Some(flight) = flights.get(*key) {
                at_link.streams.retain(|stream| stream.address != flight.address);
            }
        }
        if calls.is_empty()
            && let Side::Store(store) = server
        {
            let notice = Notice::LinkDown { store: StoreId(store) };
            let key = self.notices.insert((link, notice));
            self.plan(self.now, client.into(), Happening::Notice(key));
        }
        for key in calls {
            let Some(flight) = self.flights.get_mut(key) else { continue };
            // The answer is a flight of its own: what was under way may still arrive.
            let failed = Flight {
                client,
                link,
                id: flight.id,
                address: flight.address.clone(),
                server: None,
                fate: None,
                stage: Stage::Back(Err(Failure::maybe_executed("connection reset"))),
                streamed: false,
                waits: true,
            };
            let id = flight.id;
            self.let_stray(key);
            let failed = self.flights.insert(failed);
            if let Some(link) = self.links.get_mut(link) {
                link.calls.insert(id, failed);
            }
            self.plan(self.now, client.into(), Happening::Answered(failed));
        }
    }

    /// How many commands wait for answers.
    pub(crate) fn waiting(&self) -> usize {
        self.links.iter().map(|(_, link)| link.calls.len()).sum()
    }
}

impl Link {
    fn stream(&mut self, address: &Arc<str>) -> &mut TimestampStream {
        let at = self.streams.iter().position(|stream| stream.address == *address);
        let at = at.unwrap_or_else(|| {
            let address = address.clone();
            self.streams.push(TimestampStream { address, there: 0, back: 0, mute: false });
            self.streams.len() - 1
        });
        &mut self.streams[at]
    }
}

/// Without a scheme in front.
pub(crate) fn host(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, host)| host)
}
