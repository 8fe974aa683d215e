//! A world as its owner sees it.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anatase_client::Instant;
use anatase_cluster::{Cluster, ClusterConfig, LockView};

use crate::client::{Shared, SimClient};
use crate::entropy::{Entropy, Seeded};
use crate::executor::TaskWaker;
use crate::fault::{NetFault, PlannedFault};
use crate::profile::Profile;
use crate::world::{Action, World};

/// What a world is made from. A value: the same one, the same run.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// What all choices come from, unless [`Sim::with_entropy`] says otherwise.
    pub seed: u64,
    /// The cluster. Its clock starts where this says and follows the world's.
    pub cluster: ClusterConfig,
    /// How the network behaves, and what goes wrong by itself.
    pub profile: Profile,
    /// What goes wrong when.
    pub faults: Vec<PlannedFault>,
    /// Whether answers travel as bytes, and are encoded and decoded as over a socket. Slower; the
    /// run is the same.
    pub wire: bool,
    /// Whether everything that is sent, answered or goes wrong is written down in words, for
    /// [`Sim::take_log`]. Slow; the run is the same.
    pub log: bool,
    /// How long a [`Sim::run_until`] may take, in virtual time.
    pub patience: Duration,
    /// The bug that is planted in all clients.
    #[cfg(anatase_planted)]
    pub planted: Option<anatase_core::Plant>,
}

impl SimConfig {
    /// A calm world with three stores, one region and one member of PD.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            cluster: ClusterConfig::default(),
            profile: Profile::calm(),
            faults: Vec::new(),
            wire: false,
            log: false,
            patience: Duration::from_secs(24 * 3600),
            #[cfg(anatase_planted)]
            planted: None,
        }
    }

    /// With this cluster.
    pub fn cluster(mut self, cluster: ClusterConfig) -> Self {
        self.cluster = cluster;
        self
    }

    /// With this behaviour.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// With a fault at this time.
    pub fn fault(mut self, at: Duration, fault: NetFault) -> Self {
        self.faults.push(PlannedFault { at, fault });
        self
    }

    /// With a bug in all clients.
    #[cfg(anatase_planted)]
    pub fn plant(mut self, plant: anatase_core::Plant) -> Self {
        self.planted = Some(plant);
        self
    }

    /// With answers as bytes, or without.
    pub fn wire(mut self, wire: bool) -> Self {
        self.wire = wire;
        self
    }
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries of the agenda that were handled: arrivals, answers, timers, turns of tasks, faults.
    pub events: u64,
    /// Entries of the agenda that had become void. They are no events.
    pub stale: u64,
    /// Requests that clients sent.
    pub requests: u64,
    /// Requests that came to a server.
    pub arrivals: u64,
    /// Requests that a server executed, or refused by its own judgement.
    pub executed: u64,
    /// Answers and failures that clients heard.
    pub answers: u64,
    /// Timers that went off.
    pub timers: u64,
    /// Turns of tasks.
    pub wakes: u64,
    /// Requests that were lost on the way to their server.
    pub requests_lost: u64,
    /// Requests that were executed, and their answers lost.
    pub replies_lost: u64,
    /// Requests that were executed when nobody waited for them any more.
    pub zombies: u64,
    /// Connections that broke.
    pub resets: u64,
    /// Faults that struck, planned or not. Losses and resets of single messages are no faults.
    pub faults: u64,
    /// Operations that a fault cancelled.
    pub cancelled: u64,
    /// Clients that crashed.
    pub crashes: u64,
}

/// Why a world came to a stop before it had done what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stalled {
    /// Nothing will ever happen any more.
    #[error("at {at:?} nothing is left to happen, and the future still waits")]
    Nothing {
        /// When.
        at: Duration,
    },
    /// More happens at one instant than is sane.
    #[error("time stands still at {at:?}")]
    StandsStill {
        /// When.
        at: Duration,
    },
    /// It takes longer than [`SimConfig::patience`].
    #[error("the future still waits at {at:?}")]
    Impatient {
        /// When.
        at: Duration,
    },
}

/// What is left in a world that should be quiet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residue {
    /// Tasks of the application that have not ended: how many in which client.
    pub tasks: Vec<(Arc<str>, usize)>,
    /// Client libraries that are not closed: how many in which client.
    pub open: Vec<(Arc<str>, usize)>,
    /// Commands that wait for their answers.
    pub commands: usize,
    /// Timers.
    pub timers: usize,
    /// Messages under way, also those that nobody waits for.
    pub messages: usize,
    /// Locks in the cluster. Those of clients that died stay until somebody meets them.
    pub locks: Vec<LockView>,
}

impl Residue {
    /// Whether nothing is left of the clients. Locks are not looked at.
    pub fn is_quiet(&self) -> bool {
        self.tasks.is_empty()
            && self.open.is_empty()
            && self.commands + self.timers + self.messages == 0
    }

    /// Whether nothing is left at all.
    pub fn is_empty(&self) -> bool {
        self.is_quiet() && self.locks.is_empty()
    }
}

/// A world: a cluster, clients, a network between them and a clock for all. See the
/// [crate's documentation](crate).
pub struct Sim {
    shared: Arc<Shared>,
    patience: Duration,
}

impl Sim {
    /// A world whose choices come from the seed.
    pub fn new(config: SimConfig) -> Self {
        let seeded = Seeded::new(config.seed);
        Self::with_entropy(config, seeded)
    }

    /// A world whose choices come from elsewhere. What has to be looked at afterwards, as an
    /// [`Odometer`](crate::Odometer), is given as an `Arc<Mutex<_>>`.
    pub fn with_entropy(config: SimConfig, entropy: impl Entropy + 'static) -> Self {
        let SimConfig { cluster, profile, faults, wire, log, patience, .. } = config;
        let mut world = World::new(cluster.build(), Box::new(entropy), profile, faults, wire);
        world.log = log.then(Vec::new);
        #[cfg(anatase_planted)]
        let world = world.with_plant(config.planted);
        Self { shared: Shared::new(world), patience }
    }

    /// A new client. The first has the number 0.
    pub fn client(&mut self, name: &str) -> SimClient {
        let id = self.shared.lock().add_client(name);
        SimClient::new(&self.shared, id)
    }

    // ---- time ----------------------------------------------------------------------------------

    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.now())
    }

    /// Lets the next thing happen. False if nothing ever will.
    ///
    /// # Errors
    /// [`Stalled::StandsStill`].
    pub fn step(&mut self) -> Result<bool, Stalled> {
        // Nobody runs a future now: a turn of one is that of an earlier one, which is over.
        Ok(self.turn()?.is_some())
    }

    /// Handles one entry of the agenda. True if it is the main future's turn.
    fn turn(&mut self) -> Result<Option<bool>, Stalled> {
        let Some(action) = self.shared.lock().turn() else { return Ok(None) };
        match action {
            Action::None => {}
            Action::Deliver(inbox, input) => inbox.deliver([input]),
            Action::Poll(key, future, waker) => self.shared.poll_task(key, future, waker),
            Action::Main => return Ok(Some(true)),
            Action::Wake(waker) => waker.wake(),
            Action::Drop(debris) => drop(debris),
            Action::Boot(id) => self.boot(id),
            Action::Stuck => return Err(Stalled::StandsStill { at: self.now() }),
        }
        Ok(Some(false))
    }

    fn boot(&self, id: crate::ClientId) {
        let boot = self.shared.lock().clients[id as usize].boot.take();
        if let Some(mut boot) = boot {
            let client = SimClient::new(&self.shared, id);
            client.spawn(boot(client.clone()));
            self.shared.lock().clients[id as usize].boot.get_or_insert(boot);
        }
    }

    /// Lets things happen until the future completes. It runs outside of all clients, so no fault
    /// touches it; most often it waits for tasks of theirs.
    ///
    /// # Errors
    /// If it does not complete: because nothing is left to happen, or not within
    /// [`SimConfig::patience`].
    pub fn run_until<T>(&mut self, future: impl IntoFuture<Output = T>) -> Result<T, Stalled> {
        let mut future = pin!(future.into_future());
        let main = TaskWaker::main(&self.shared);
        let waker = Waker::from(main.clone());
        let mut cx = Context::from_waker(&waker);
        let until = self.now() + self.patience;
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Ok(output);
        }
        loop {
            match self.turn()? {
                Some(true) => {
                    main.begin_turn();
                    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                        return Ok(output);
                    }
                }
                Some(false) if self.now() > until => {
                    return Err(Stalled::Impatient { at: self.now() });
                }
                Some(false) => {}
                None => return Err(Stalled::Nothing { at: self.now() }),
            }
        }
    }

    /// Lets time pass, and whatever happens in it.
    ///
    /// # Errors
    /// [`Stalled::StandsStill`].
    pub fn run_for(&mut self, time: Duration) -> Result<(), Stalled> {
        let until = (self.now() + time).as_nanos() as u64;
        while self.shared.lock().next_at().is_some_and(|at| at <= until) {
            self.turn()?;
        }
        self.shared.lock().reach(until);
        Ok(())
    }

    // ---- faults --------------------------------------------------------------------------------

    /// Lets something go wrong now.
    pub fn strike(&mut self, fault: NetFault) {
        let action = {
            let mut world = self.shared.lock();
            let action = world.strike(fault);
            world.look_after_parked();
            action
        };
        match action {
            Action::Drop(debris) => drop(debris),
            Action::Wake(waker) => waker.wake(),
            _ => {}
        }
    }

    /// Ends everything that goes wrong, and sees to it that nothing new does: every fault that lasts
    /// is over, the nemesis rests, planned faults that have not struck are called off, servers and
    /// clients are up, the network loses nothing. What is under way goes on, zombies too.
    pub fn heal(&mut self) {
        let mut world = self.shared.lock();
        world.heal();
        world.look_after_parked();
    }

    /// Lets things happen until nothing is left to do for any client, or `bound` has passed; says
    /// what is left then. For a world that was [healed](Sim::heal) and whose application has been
    /// told to end: after its longest time limit, something that is left is a defect.
    ///
    /// # Errors
    /// [`Stalled::StandsStill`].
    pub fn drain(&mut self, bound: Duration) -> Result<Residue, Stalled> {
        let until = (self.now() + bound).as_nanos() as u64;
        loop {
            let next = {
                let mut world = self.shared.lock();
                let quiet = world.tasks.len() + world.links.len() == 0
                    && world.timers.len() + world.flights.len() == 0;
                if quiet { None } else { world.next_at() }
            };
            match next {
                Some(at) if at <= until => drop(self.turn()?),
                _ => return Ok(self.residue()),
            }
        }
    }

    /// What is left to do for clients at this moment, and the locks in the cluster.
    pub fn residue(&self) -> Residue {
        let world = self.shared.lock();
        let by_client = |count: &dyn Fn(u32) -> usize| {
            let clients = world.clients.iter().enumerate();
            let counts = clients.map(|(id, client)| (client.name.clone(), count(id as u32)));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        Residue {
            tasks: by_client(&|id| {
                world.tasks.iter().filter(|(_, t)| t.client == id && t.ours).count()
            }),
            open: by_client(&|id| world.links.iter().filter(|(_, l)| l.client == id).count()),
            commands: world.waiting(),
            timers: world.timers.len(),
            messages: world.flights.len(),
            locks: world.cluster.locks(),
        }
    }

    // ---- a look inside -------------------------------------------------------------------------

    /// The cluster, to look at or to change between two events.
    pub fn cluster<T>(&mut self, look: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut world = self.shared.lock();
        let seen = look(&mut world.cluster);
        world.look_after_parked();
        seen
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats
    }

    /// The faults that struck so far, planned or not, and when: planned in another run of the same seed, they
    /// make the same trouble without a nemesis, or nearly.
    pub fn struck(&self) -> Vec<PlannedFault> {
        self.shared.lock().struck.clone()
    }

    /// What was [logged](SimConfig::log) since the last call, a line for each message and fault.
    pub fn take_log(&mut self) -> Vec<String> {
        self.shared.lock().log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A name for everything that happened so far: each event with its time and what it carried, in
    /// order. Two runs with the same digest went the same way.
    pub fn digest(&self) -> u64 {
        self.shared.lock().digest.value()
    }

    /// The time on a client's clock that runs at the world's rate.
    pub fn instant(&self) -> Instant {
        Instant::from_nanos(self.shared.now())
    }
}

impl Drop for Sim {
    /// Ends all clients, whose tasks hold the world and are held by it.
    fn drop(&mut self) {
        let end = self.shared.lock().end();
        drop(end);
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
