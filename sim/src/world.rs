//! The state of a world, and what happens next.
//!
//! ```text
//!              requests                        arrive
//!   clients ─────────────▶ agenda ───────────────────────────▶ cluster
//!   (tasks,     network     (by time)   partitions, losses       │
//!    cores)  ◀───────────────  ◀─────────────────────────────────┘
//!              answers
//! ```
//!
//! [`World::turn`] takes the next entry from the agenda and does what it says to the world. What it
//! says to a client (an answer, a timer, a task to poll) is handed back as an [`Action`], for it runs
//! the client's code, and that code comes back here. So no code but the world's own ever runs, or is
//! dropped, while the world is locked.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use anatase_client::Inbox;
use anatase_cluster::{Cluster, Ticket};
use anatase_core::{Input, Notice};
use bytes::BytesMut;

use crate::agenda::{Agenda, Happening, Key, Slab};
use crate::digest::Digest;
use crate::entropy::{Entropy, Purpose, Stream};
use crate::executor::{BoxFuture, Task, TaskWaker};
use crate::fault::{ClientId, Fate, PlannedFault};
use crate::network::{Flight, Link};
use crate::profile::{Network, Profile};
use crate::sim::Stats;
use crate::trouble::Trouble;

/// Happenings at one instant after which the world is going in circles.
const INSTANT_LIMIT: u32 = 1_000_000;

/// Whose choices those are that belong to no client.
pub(crate) const NOBODY: u64 = u64::MAX;

/// What a client is to be told, once the world is unlocked.
pub(crate) enum Action {
    /// Nothing.
    None,
    /// An answer or news.
    Deliver(Inbox, Input),
    /// A task has its turn.
    Poll(Key, BoxFuture, Arc<TaskWaker>),
    /// So has the future that the world was asked to run.
    Main,
    /// Somebody's waiting is over.
    Wake(Waker),
    /// What is left of a client.
    Drop(Debris),
    /// A client starts.
    Boot(ClientId),
    /// Time stands still.
    Stuck,
}

/// What a client was made of. Dropping it runs destructors.
#[derive(Default)]
#[expect(dead_code, reason = "it is kept to be dropped when the world is unlocked")]
pub(crate) struct Debris {
    pub(crate) tasks: Vec<Task>,
    pub(crate) timers: Vec<Timer>,
    pub(crate) cancellables: Vec<CancelSlot>,
}

/// A client's process.
pub(crate) struct Client {
    pub(crate) name: Arc<str>,
    pub(crate) up: bool,
    /// Grows with each crash.
    pub(crate) life: u32,
    pub(crate) paused_until: Option<u64>,
    /// What waits for the end of the pause.
    pub(crate) backlog: Vec<Happening>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) boot: Option<Boot>,
    /// What becomes of its next requests, after so many.
    pub(crate) next: Vec<(u32, Fate)>,
}

/// What a client does when it starts.
pub(crate) type Boot =
    Box<dyn FnMut(crate::SimClient) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A client's clock: real time at another rate.
#[derive(Debug)]
pub(crate) struct Clock {
    base_true: AtomicU64,
    base_local: AtomicU64,
    permille: AtomicU64,
}

impl Clock {
    fn new(now: u64) -> Self {
        Self { base_true: now.into(), base_local: now.into(), permille: 1000.into() }
    }

    /// What it shows.
    pub(crate) fn local(&self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.base_true.load(Ordering::Relaxed));
        let permille = self.permille.load(Ordering::Relaxed);
        let base = self.base_local.load(Ordering::Relaxed);
        if permille == 1000 {
            return base + elapsed;
        }
        base + (u128::from(elapsed) * u128::from(permille) / 1000) as u64
    }

    /// When it shows at least this.
    fn when(&self, local: u64) -> u64 {
        let ahead = local.saturating_sub(self.base_local.load(Ordering::Relaxed));
        let permille = self.permille.load(Ordering::Relaxed).max(1);
        let elapsed = (u128::from(ahead) * 1000).div_ceil(u128::from(permille));
        let base = self.base_true.load(Ordering::Relaxed);
        base.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    pub(crate) fn set_rate(&self, now: u64, permille: u32) {
        let local = self.local(now);
        self.base_true.store(now, Ordering::Relaxed);
        self.base_local.store(local, Ordering::Relaxed);
        self.permille.store(permille.clamp(500, 2000).into(), Ordering::Relaxed);
    }
}

/// A sleep.
pub(crate) struct Timer {
    pub(crate) client: ClientId,
    /// On the client's clock.
    pub(crate) at: u64,
    pub(crate) waker: Waker,
    /// How often it was set: an entry of the agenda from an earlier time is stale.
    pub(crate) set: u32,
}

/// An operation that a fault may cancel.
pub(crate) struct CancelSlot {
    pub(crate) client: ClientId,
    pub(crate) begun: u64,
    pub(crate) cancelled: bool,
    pub(crate) waker: Option<Waker>,
}

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) now: u64,
    /// The same, where clients look.
    pub(crate) clock: Arc<AtomicU64>,
    /// The cluster's clock at the origin of the world's.
    pub(crate) origin_ms: u64,
    pub(crate) agenda: Agenda,
    pub(crate) entropy: Box<dyn Entropy>,
    pub(crate) network: Network,
    pub(crate) profile: Profile,
    pub(crate) planned: Vec<PlannedFault>,
    /// What has gone wrong so far.
    pub(crate) struck: Vec<PlannedFault>,
    pub(crate) wire: bool,
    /// What was sent and answered, in words, if anybody wants to know.
    pub(crate) log: Option<Vec<String>>,
    pub(crate) digest: Digest,
    pub(crate) stats: Stats,
    pub(crate) clients: Vec<Client>,
    pub(crate) links: Slab<Link>,
    pub(crate) flights: Slab<Flight>,
    pub(crate) notices: Slab<(Key, Notice)>,
    pub(crate) timers: Slab<Timer>,
    pub(crate) tasks: Slab<Task>,
    pub(crate) cancellables: Slab<CancelSlot>,
    pub(crate) begun: u64,
    /// Requests that wait for locks at their stores.
    pub(crate) parked: BTreeMap<Ticket, Key>,
    /// When they are looked at again.
    pub(crate) look_at: Option<u64>,
    /// The task that is being polled.
    pub(crate) running: Option<Key>,
    /// Faults that last.
    pub(crate) troubles: Slab<Trouble>,
    /// Grows when the world is healed: planned faults and the nemesis are over then.
    pub(crate) season: u32,
    pub(crate) buffer: BytesMut,
    /// Happenings since time last passed.
    at_once: u32,
    /// The world is being dropped.
    pub(crate) over: bool,
    /// The bug that is planted in all clients.
    #[cfg(anatase_planted)]
    pub(crate) planted: Option<anatase_core::Plant>,
}

impl World {
    pub(crate) fn new(
        cluster: Cluster,
        entropy: Box<dyn Entropy>,
        profile: Profile,
        planned: Vec<PlannedFault>,
        wire: bool,
    ) -> Self {
        let now = 1;
        let mut world = Self {
            origin_ms: cluster.now_ms(),
            cluster,
            now,
            clock: Arc::new(AtomicU64::new(now)),
            agenda: Agenda::default(),
            entropy,
            network: profile.network.clone(),
            profile,
            planned,
            struck: Vec::new(),
            wire,
            log: None,
            digest: Digest::new(),
            stats: Stats::default(),
            clients: Vec::new(),
            links: Slab::default(),
            flights: Slab::default(),
            notices: Slab::default(),
            timers: Slab::default(),
            tasks: Slab::default(),
            cancellables: Slab::default(),
            begun: 0,
            parked: BTreeMap::new(),
            look_at: None,
            running: None,
            troubles: Slab::default(),
            season: 0,
            buffer: BytesMut::new(),
            at_once: 0,
            over: false,
            #[cfg(anatase_planted)]
            planted: None,
        };
        world.plan_troubles();
        world
    }

    #[cfg(anatase_planted)]
    pub(crate) fn with_plant(self, planted: Option<anatase_core::Plant>) -> Self {
        Self { planted, ..self }
    }

    /// Writes a line into the log, if there is one.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(log) = &mut self.log {
            log.push(format!("{:>12.6} {}", now as f64 / 1e9, line()));
        }
    }

    // ---- time ----------------------------------------------------------------------------------

    /// Lets the next thing happen. `None` if nothing ever will.
    pub(crate) fn turn(&mut self) -> Option<Action> {
        self.next_at()?;
        let (at, happening) = self.agenda.pop()?;
        self.reach(at);
        if self.at_once >= INSTANT_LIMIT {
            self.agenda.plan(at, 0, happening);
            return Some(Action::Stuck);
        }
        self.stats.events += 1;
        self.digest.word(self.now);
        happening.hash(&mut self.digest);
        let action = self.happen(happening);
        self.look_after_parked();
        Some(action)
    }

    /// When the next thing happens. Forgets what is stale on the way.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        while let Some((at, happening)) = self.agenda.peek() {
            if !self.is_stale(happening) {
                return Some(at);
            }
            if happening == Happening::Parked {
                // Whoever is parked next plans a look of his own.
                self.look_at = None;
            }
            self.agenda.pop();
            self.stats.stale += 1;
        }
        None
    }

    pub(crate) fn reach(&mut self, at: u64) {
        if at > self.now {
            self.now = at;
            self.at_once = 0;
            self.clock.store(at, Ordering::Relaxed);
            self.cluster.set_now_ms(self.origin_ms + at / 1_000_000);
        }
        self.at_once += 1;
    }

    /// Puts something on the agenda. The tie is a choice of `entity`'s.
    pub(crate) fn plan(&mut self, at: u64, entity: u64, happening: Happening) {
        let tie = self.entropy.below(Stream::new(Purpose::Tie, entity), 1 << 16);
        self.agenda.plan(at.max(self.now), tie, happening);
        if self.agenda.len() > 4096 && self.agenda.len() > 8 * self.alive() {
            self.forget_stale();
        }
    }

    /// How many entries of the agenda may not be stale.
    fn alive(&self) -> usize {
        self.flights.len() + self.timers.len() + self.tasks.len() + self.planned.len() + 64
    }

    fn forget_stale(&mut self) {
        let mut agenda = std::mem::take(&mut self.agenda);
        agenda.retain(|happening| !self.is_stale(happening));
        self.agenda = agenda;
    }

    fn is_stale(&self, happening: Happening) -> bool {
        match happening {
            Happening::Arrives(key) | Happening::Answered(key) => self.flights.get(key).is_none(),
            Happening::Notice(key) => self.notices.get(key).is_none(),
            Happening::Timer(key, set) => self.timers.get(key).is_none_or(|t| t.set != set),
            Happening::Wake(key) => self.tasks.get(key).is_none(),
            Happening::Mend(key) => self.troubles.get(key).is_none(),
            Happening::Nemesis(_, season) => season != self.season,
            Happening::Fault(_) => self.season != 0,
            Happening::Parked => self.parked.is_empty(),
            Happening::Main | Happening::Resume(_) | Happening::Boot(_) => false,
        }
    }

    fn happen(&mut self, happening: Happening) -> Action {
        if let Some(client) = self.owner(happening)
            && let Some(client) = self.clients.get_mut(client as usize)
            && client.paused_until.is_some()
        {
            client.backlog.push(happening);
            return Action::None;
        }
        match happening {
            Happening::Arrives(key) => self.arrive(key),
            Happening::Answered(key) => return self.answered(key),
            Happening::Notice(key) => return self.noticed(key),
            Happening::Timer(key, _) => return self.timer(key),
            Happening::Wake(key) => return self.wake(key),
            Happening::Main => {
                self.stats.wakes += 1;
                return Action::Main;
            }
            // The look that follows everything.
            Happening::Parked => self.look_at = None,
            Happening::Fault(n) => {
                if let Some(planned) = self.planned.get(n as usize) {
                    let fault = planned.fault.clone();
                    return self.strike(fault);
                }
            }
            Happening::Mend(key) => {
                if let Some(trouble) = self.troubles.remove(key) {
                    self.mend(trouble);
                }
            }
            Happening::Nemesis(n, _) => return self.nemesis(n),
            Happening::Resume(client) => self.resume(client, false),
            Happening::Boot(client) => return self.boot(client),
        }
        Action::None
    }

    /// The client that has to be running for this.
    fn owner(&self, happening: Happening) -> Option<ClientId> {
        match happening {
            Happening::Answered(key) => self.flights.get(key).map(|flight| flight.client),
            Happening::Notice(key) => {
                let (link, _) = self.notices.get(key)?;
                self.links.get(*link).map(|link| link.client)
            }
            Happening::Timer(key, _) => self.timers.get(key).map(|timer| timer.client),
            Happening::Wake(key) => self.tasks.get(key).map(|task| task.client),
            Happening::Arrives(_)
            | Happening::Main
            | Happening::Parked
            | Happening::Fault(_)
            | Happening::Mend(_)
            | Happening::Nemesis(..)
            | Happening::Resume(_)
            | Happening::Boot(_) => None,
        }
    }

    // ---- clients -------------------------------------------------------------------------------

    pub(crate) fn add_client(&mut self, name: &str) -> ClientId {
        let id = self.clients.len() as ClientId;
        self.clients.push(Client {
            name: name.into(),
            up: true,
            life: 0,
            paused_until: None,
            backlog: Vec::new(),
            clock: Arc::new(Clock::new(self.now)),
            boot: None,
            next: Vec::new(),
        });
        id
    }

    /// Whether what belongs to this life of a client is still there.
    pub(crate) fn lives(&self, client: ClientId, life: u32) -> bool {
        let client = self.clients.get(client as usize);
        !self.over && client.is_some_and(|client| client.up && client.life == life)
    }

    /// Lets a client go on, if its pause is over or `now` says so.
    pub(crate) fn resume(&mut self, id: ClientId, now: bool) {
        let Some(client) = self.clients.get_mut(id as usize) else { return };
        if client.paused_until.is_none_or(|until| until > self.now && !now) {
            return;
        }
        client.paused_until = None;
        for happening in std::mem::take(&mut client.backlog) {
            self.plan(self.now, id.into(), happening);
        }
    }

    /// The process dies. What is left of it is for the caller to drop.
    pub(crate) fn crash(&mut self, id: ClientId) -> Debris {
        let Some(client) = self.clients.get_mut(id as usize) else { return Debris::default() };
        client.up = false;
        client.life += 1;
        client.paused_until = None;
        client.backlog.clear();
        let links: Vec<Key> =
            self.links.iter().filter(|(_, l)| l.client == id).map(|l| l.0).collect();
        links.into_iter().for_each(|link| self.close_link(link));
        Debris {
            tasks: self.tasks.extract(|task| task.client == id),
            timers: self.timers.extract(|timer| timer.client == id),
            cancellables: self.cancellables.extract(|slot| slot.client == id),
        }
    }

    fn boot(&mut self, id: ClientId) -> Action {
        match self.clients.get_mut(id as usize) {
            Some(client) if !client.up => {
                client.up = true;
                // A new process reads a clock of its own, but real time has gone on.
                client.clock.set_rate(self.now, 1000);
                Action::Boot(id)
            }
            _ => Action::None,
        }
    }

    /// Everything that belongs to clients, for the caller to drop.
    pub(crate) fn end(&mut self) -> (Debris, Vec<Boot>) {
        self.over = true;
        let boots = self.clients.iter_mut().filter_map(|client| client.boot.take()).collect();
        let debris = Debris {
            tasks: self.tasks.extract(|_| true),
            timers: self.timers.extract(|_| true),
            cancellables: self.cancellables.extract(|_| true),
        };
        (debris, boots)
    }

    // ---- timers --------------------------------------------------------------------------------

    pub(crate) fn add_timer(&mut self, client: ClientId, at: u64, waker: Waker) -> Key {
        let key = self.timers.insert(Timer { client, at, waker, set: 0 });
        self.set_timer(key);
        key
    }

    fn set_timer(&mut self, key: Key) {
        let Some(timer) = self.timers.get_mut(key) else { return };
        timer.set = timer.set.wrapping_add(1);
        let (client, set) = (timer.client, timer.set);
        let at = self.clients[client as usize].clock.when(timer.at);
        self.plan(at, client.into(), Happening::Timer(key, set));
    }

    /// After a clock has changed its rate.
    pub(crate) fn set_timers_again(&mut self, client: ClientId) {
        let timers = self.timers.iter().filter(|(_, timer)| timer.client == client);
        let keys: Vec<Key> = timers.map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.set_timer(key));
    }

    fn timer(&mut self, key: Key) -> Action {
        self.stats.timers += 1;
        match self.timers.remove(key) {
            Some(timer) => Action::Wake(timer.waker),
            None => Action::None,
        }
    }

    // ---- tasks ---------------------------------------------------------------------------------

    pub(crate) fn schedule(&mut self, client: ClientId, happening: Happening, by_itself: bool) {
        let most = self.network.scheduling.as_nanos() as u64;
        let stream = Stream::new(Purpose::Schedule, client.into());
        let mut wait = if most > 0 { self.entropy.nanos_below(stream, most) } else { 0 };
        if by_itself {
            // Who spins burns time.
            wait += 1_000;
        }
        self.plan(self.now + wait, client.into(), happening);
    }

    fn wake(&mut self, key: Key) -> Action {
        self.stats.wakes += 1;
        let Some(task) = self.tasks.get_mut(key) else { return Action::None };
        let Some(future) = task.future.take() else { return Action::None };
        self.running = Some(key);
        Action::Poll(key, future, task.waker.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_changes_its_rate_but_never_goes_back() {
        let clock = Clock::new(100);
        assert_eq!((clock.local(150), clock.when(150)), (150, 150));
        clock.set_rate(200, 2000);
        assert_eq!((clock.local(200), clock.local(300)), (200, 400));
        clock.set_rate(300, 500);
        assert_eq!((clock.local(300), clock.local(303)), (400, 401));
        // The first instant at which it shows this, not the last before.
        assert_eq!(clock.when(401), 302);
        assert_eq!(clock.local(clock.when(401)), 401);
        assert_eq!(clock.when(5), 300, "what is past is now");
    }
}
