//! A client's side of the world: its handle, its runtime, its transport.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anatase_client::{
    Config, Inbox, Instant, RawClient, Result, Runtime, TransactionClient, Transport,
};
use anatase_core::Command;
use hyper::rt;

use crate::agenda::Key;
use crate::entropy::{Purpose, Stream};
use crate::executor::{Cancellable, JoinHandle};
use crate::fault::ClientId;
use crate::world::{Clock, World};

/// What everybody in a world holds.
pub(crate) struct Shared {
    world: Mutex<World>,
    /// The time, to be read without the lock.
    now: Arc<AtomicU64>,
}

impl Shared {
    pub(crate) fn new(world: World) -> Arc<Self> {
        Arc::new(Self { now: world.clock.clone(), world: Mutex::new(world) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

/// A process of the application in the world: what runs in it crashes, pauses and loses its
/// connections together. Cheap to clone; goes on being its client through crashes.
#[derive(Clone)]
pub struct SimClient {
    pub(crate) shared: Arc<Shared>,
    id: ClientId,
    clock: Arc<Clock>,
}

impl SimClient {
    pub(crate) fn new(shared: &Arc<Shared>, id: ClientId) -> Self {
        let clock = shared.lock().clients[id as usize].clock.clone();
        Self { shared: shared.clone(), id, clock }
    }

    /// Its number, as faults name it.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> Arc<str> {
        self.shared.lock().clients[self.id as usize].name.clone()
    }

    /// Whether its process runs. It does but for the time after a crash.
    pub fn is_up(&self) -> bool {
        self.shared.lock().clients[self.id as usize].up
    }

    /// How often it has crashed.
    pub fn crashes(&self) -> u32 {
        self.life()
    }

    fn life(&self) -> u32 {
        self.shared.lock().clients[self.id as usize].life
    }

    /// Its clock, in nanoseconds. It may run faster or slower than the world's.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.local(self.shared.now()))
    }

    /// The time on the clock of the world, which no client sees: for those who write down what they do.
    pub fn true_now(&self) -> Instant {
        Instant::from_nanos(self.shared.now())
    }

    /// Waits, on this client's clock.
    pub fn sleep(&self, wait: Duration) -> impl Future<Output = ()> + Send + 'static {
        Sleep { at: self.now() + wait, runtime: self.runtime(), timer: None }
    }

    /// Runs a task in it. In a client that is down nothing runs: the task is dropped.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        JoinHandle::spawn(&self.shared, self.id, self.life(), task)
    }

    /// Says what it does when it starts, now and after each crash.
    pub fn on_boot<F>(&self, mut boot: impl FnMut(SimClient) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let first = boot(self.clone());
        let again =
            move |client| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(boot(client)) };
        let mut world = self.shared.lock();
        let old = world.clients[self.id as usize].boot.replace(Box::new(again));
        drop(world);
        drop(old);
        self.spawn(first);
    }

    /// Has its process die in a while, and start again so much later: a fault that the application asks
    /// for. Called off when the world is [healed](crate::Sim::heal).
    pub fn crash_after(&self, wait: Duration, down: Duration) {
        let mut world = self.shared.lock();
        if world.season == 0 {
            let fault = crate::NetFault::CrashClient { client: self.id, down };
            world.plan_fault(wait, fault);
        }
    }

    /// Makes an operation one that a fault may drop at any step
    /// ([`NetFault::Cancel`](crate::NetFault::Cancel)): then `None` comes of it.
    pub fn cancellable<F: IntoFuture>(&self, operation: F) -> Cancellable<F::IntoFuture> {
        Cancellable::new(self.clone(), operation.into_future())
    }

    /// A choice of the application's, from the world's entropy: a number below `bound`.
    pub fn choose(&self, bound: u32) -> u32 {
        let stream = Stream::new(Purpose::Application, self.id.into());
        self.shared.lock().entropy.below(stream, bound)
    }

    /// Its runtime. It belongs to this life of the client and is dead after a crash.
    pub fn runtime(&self) -> SimRuntime {
        let (shared, clock) = (self.shared.clone(), self.clock.clone());
        SimRuntime { shared, clock, client: self.id, life: self.life() }
    }

    /// A way into the network, for one client library. Dead after a crash, like
    /// [`SimClient::runtime`].
    pub fn transport(&self) -> SimTransport {
        let mut world = self.shared.lock();
        let client = &world.clients[self.id as usize];
        let link = client.up.then(|| world.open_link(self.id));
        drop(world);
        SimTransport { shared: self.shared.clone(), link }
    }

    /// Where PD is.
    pub fn pd_endpoints(&self) -> Vec<String> {
        let world = self.shared.lock();
        world.cluster.pd_members().iter().map(|member| member.url.clone()).collect()
    }

    /// A client of the transactional API.
    ///
    /// # Errors
    /// As [`TransactionClient::new`]: with PD in trouble for longer than a start may take, none is
    /// found.
    pub async fn transactions(&self) -> Result<TransactionClient<SimRuntime>> {
        self.transactions_with(Config::default()).await
    }

    /// The same with settings. The seed is the world's.
    ///
    /// # Errors
    /// As [`SimClient::transactions`].
    pub async fn transactions_with(&self, config: Config) -> Result<TransactionClient<SimRuntime>> {
        let (runtime, transport) = (self.runtime(), self.transport());
        let config = self.own(config);
        TransactionClient::new_over(runtime, transport, self.pd_endpoints(), config).await
    }

    /// A client of the raw API.
    ///
    /// # Errors
    /// As [`SimClient::transactions`].
    pub async fn raw(&self) -> Result<RawClient<SimRuntime>> {
        self.raw_with(Config::default()).await
    }

    /// The same with settings. The seed is the world's.
    ///
    /// # Errors
    /// As [`SimClient::transactions`].
    pub async fn raw_with(&self, config: Config) -> Result<RawClient<SimRuntime>> {
        let (runtime, transport) = (self.runtime(), self.transport());
        let config = self.own(config);
        RawClient::new_over(runtime, transport, self.pd_endpoints(), config).await
    }

    /// These settings with the world's seed, and with its plant, if there is one: for whoever makes a client
    /// library over a [`SimTransport`] himself.
    pub fn own(&self, config: Config) -> Config {
        let config = config.with_seed(self.seed());
        #[cfg(anatase_planted)]
        if let Some(plant) = self.shared.lock().planted {
            return config.with_plant(plant);
        }
        config
    }

    /// A seed for a client library, for [`Config::with_seed`].
    pub fn seed(&self) -> u64 {
        self.shared.lock().entropy.word(Stream::new(Purpose::Seed, self.id.into()))
    }
}

impl fmt::Debug for SimClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimClient").field(&self.id).finish()
    }
}

/// The [`Runtime`] of a simulated client.
#[derive(Clone)]
pub struct SimRuntime {
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    client: ClientId,
    life: u32,
}

impl Runtime for SimRuntime {
    type Io = NoIo;

    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.local(self.shared.now()))
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        Sleep { runtime: self.clone(), at, timer: None }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.spawn(self.client, self.life, false, Box::pin(task));
    }

    /// Fails: what the simulated network carries is commands and answers. Clients are made by
    /// [`SimClient`], or over a [`SimTransport`].
    async fn connect(&self, _: &str) -> io::Result<NoIo> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the simulated network has no sockets"))
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime").field("client", &self.client).finish_non_exhaustive()
    }
}

struct Sleep {
    runtime: SimRuntime,
    at: Instant,
    timer: Option<Key>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let now = this.runtime.now();
        if now >= this.at {
            return Poll::Ready(());
        }
        if this.at == Instant::NEVER {
            return Poll::Pending;
        }
        let mut world = this.runtime.shared.lock();
        let waker = cx.waker().clone();
        // In a later life of the client nobody of an earlier one is woken.
        let lives = world.lives(this.runtime.client, this.runtime.life);
        let old = match this.timer.and_then(|timer| world.timers.get_mut(timer)) {
            Some(timer) => Some(std::mem::replace(&mut timer.waker, waker)),
            None if lives => {
                let at = this.at.as_nanos();
                this.timer = Some(world.add_timer(this.runtime.client, at, waker));
                None
            }
            None => Some(waker),
        };
        drop(world);
        drop(old);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            let timer = self.runtime.shared.lock().timers.remove(timer);
            drop(timer);
        }
    }
}

/// The [`Transport`] of a simulated client.
pub struct SimTransport {
    shared: Arc<Shared>,
    /// `None` if the client was down.
    link: Option<Key>,
}

impl Transport for SimTransport {
    fn perform(&self, commands: &mut Vec<Command>, inbox: &Inbox) {
        match self.link {
            Some(link) => self.shared.lock().perform(link, commands, inbox),
            None => commands.clear(),
        }
    }

    fn shutdown(&self) {
        if let Some(link) = self.link {
            self.shared.lock().close_link(link);
        }
    }
}

impl Drop for SimTransport {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl fmt::Debug for SimTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTransport").field("link", &self.link).finish_non_exhaustive()
    }
}

/// The byte stream that a simulated network does not have.
#[derive(Debug)]
pub enum NoIo {}

impl rt::Read for NoIo {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl rt::Write for NoIo {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
