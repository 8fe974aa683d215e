//! Where fault tests play: a cluster on a runtime of its own, load from a client, and measures of
//! what that client feels and holds.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anatase::Error;
use anatase_cluster::ClusterConfig;
use anatase_cluster::serve::{ServeOptions, Server};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinHandle};

// ---- the cluster -------------------------------------------------------------------------------

/// A cluster that is served by a thread of its own, so that whatever runs in the test's runtime is
/// the client's.
pub struct Stage {
    /// To look at, and to do things to that need no runtime.
    pub server: Server,
    runtime: Option<Runtime>,
}

impl Stage {
    /// Serves a cluster of this shape.
    ///
    /// # Panics
    /// If that is not possible.
    pub async fn start(config: ClusterConfig) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let serving = runtime.spawn(Server::start(config.build(), ServeOptions::default()));
        let server = serving.await.expect("no panic").expect("a cluster on loopback");
        Self { server, runtime: Some(runtime) }
    }

    /// Runs something that needs the server's runtime.
    ///
    /// # Panics
    /// If it does.
    pub async fn on<T, F>(&self, act: impl FnOnce(Server) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().expect("it runs until it is dropped");
        runtime.spawn(act(self.server.clone())).await.expect("no panic")
    }

    /// Starts a stopped store again.
    pub async fn start_store(&self, store: u64) {
        self.on(move |server| async move { server.start_store(store).await })
            .await
            .expect("its address is free");
    }

    /// Starts a stopped member of PD again.
    pub async fn start_pd_member(&self, member: usize) {
        self.on(move |server| async move { server.start_pd_member(member).await })
            .await
            .expect("its address is free");
    }

    /// Makes a store the leader of every region.
    pub fn lead_all(&self, store: u64) {
        self.server.with(|cluster| {
            let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
            for region in regions {
                cluster.transfer_leader(region, store);
            }
        });
    }

    /// The same in front of the first member of PD. Clients have to be given its address.
    pub async fn relay_pd(&self) -> Relay {
        let target = self.server.pd_address();
        let relay = self.on(move |_| Relay::start(target)).await;
        let url = format!("http://{}", relay.address);
        self.server.with(|cluster| cluster.set_pd_url(0, url));
        relay
    }

    /// Which store leads each region.
    pub fn leaders(&self) -> Vec<(u64, Option<u64>)> {
        self.server.with(|cluster| cluster.regions().map(|it| (it.id, it.leader)).collect())
    }

    /// Gives regions back to the leaders that [`Stage::leaders`] has found.
    pub fn lead(&self, leaders: &[(u64, Option<u64>)]) {
        self.server.with(|cluster| {
            for (region, leader) in leaders {
                leader.map(|leader| cluster.transfer_leader(*region, leader));
            }
        });
    }

    /// A relay in front of a store, in a process of its own.
    pub fn relay_process(&self, store: u64) -> RelayProcess {
        let target = self.server.store_address(store).expect("a store");
        let relay = RelayProcess::start(&target);
        self.server.with(|cluster| cluster.set_store_address(store, &*relay.address));
        relay
    }

    /// A relay in front of a store, in this process, which counts connections.
    pub async fn relay(&self, store: u64) -> Relay {
        let target = self.server.store_address(store).expect("a store");
        let relay = self.on(move |_| Relay::start(target)).await;
        self.server.with(|cluster| cluster.set_store_address(store, &*relay.address));
        relay
    }

    /// How many connections to this cluster's servers are open, as the kernel knows them; relays
    /// count where they listen.
    pub fn sockets(&self) -> usize {
        let addresses: Vec<String> = self.server.with(|cluster| {
            let stores = cluster.stores().map(|store| store.address.clone());
            let members = cluster.pd_members().iter().map(|it| it.url.replace("http://", ""));
            stores.chain(members).collect()
        });
        let ports = addresses.iter().filter_map(|address| address.rsplit_once(':')?.1.parse().ok());
        established(&ports.collect())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").finish_non_exhaustive()
    }
}

/// Connections of this machine to one of these ports on loopback that are open on both sides.
fn established(ports: &BTreeSet<u16>) -> usize {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let loopback = format!("{:08X}:", u32::from_le_bytes(Ipv4Addr::LOCALHOST.octets()));
    let lines = table.lines().skip(1).map(|line| line.split_whitespace());
    lines
        .filter_map(|mut fields| Some((fields.nth(2)?, fields.next()?)))
        .filter(|(_, state)| *state == ESTABLISHED)
        .filter_map(|(remote, _)| u16::from_str_radix(remote.strip_prefix(&loopback)?, 16).ok())
        .filter(|port| ports.contains(port))
        .count()
}

// ---- in front of servers -----------------------------------------------------------------------

/// A TCP relay in a process of its own (`src/bin/relay.rs`). It dies with this value.
#[derive(Debug)]
pub struct RelayProcess {
    /// Where it listens.
    pub address: String,
    child: Child,
}

impl RelayProcess {
    fn start(target: &str) -> Self {
        let mut child = Command::new(relay_binary())
            .arg(target)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let mut address = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut address).expect("it says where it listens");
        Self { address: address.trim().to_owned(), child }
    }

    /// Sends it a signal: `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(sent.expect("there is kill").success(), "kill -{signal} {pid}");
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // It may have ended already. A frozen process dies of this, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Beside the test's own executable: `target/…/deps/test-…` and `target/…/relay`.
fn relay_binary() -> std::path::PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let built = test.parent().and_then(|deps| deps.parent()).expect("it is built by cargo");
    built.join("relay")
}

/// A TCP relay in this process.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: String,
    accepted: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl Relay {
    async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let target = target.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { address, accepted, accepting: accepting.abort_handle() }
    }

    /// How many connections were made to it so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An address that takes connections and bytes, and never says a word.
///
/// # Panics
/// If no port is free.
pub async fn silent_listener() -> (String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let listening = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    (address, listening.abort_handle())
}

// ---- what a client feels -----------------------------------------------------------------------

/// One operation of a [`Load`].
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// How it ended.
    pub error: Option<Error>,
}

impl Record {
    /// How long it took.
    pub fn took(&self) -> Duration {
        self.ended - self.begun
    }
}

/// Workers that do the same thing again and again, each after a short rest, and write down how it
/// went.
pub struct Load {
    records: Arc<Mutex<Vec<Record>>>,
    stopped: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `workers` of them. `act` gets the number of the worker and of the turn.
    pub fn start<F>(
        workers: u64,
        act: impl Fn(u64, u64) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send,
    {
        let records = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let workers = (0..workers)
            .map(|worker| {
                let (records, stopped, act) = (records.clone(), stopped.clone(), act.clone());
                tokio::spawn(async move {
                    for turn in 0.. {
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        let begun = Instant::now();
                        let error = act(worker, turn).await.err();
                        let record = Record { begun, ended: Instant::now(), error };
                        records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
                        tokio::time::sleep(Duration::from_millis(4)).await;
                    }
                })
            })
            .collect();
        Self { records, stopped, workers }
    }

    /// What has ended so far.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets every worker finish its turn.
    ///
    /// # Panics
    /// If one has.
    pub async fn stop(self) -> Vec<Record> {
        self.stopped.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.expect("no panic");
        }
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// Successes per second among `records` that ended within `when`.
pub fn rate(records: &[Record], when: &Range<Instant>) -> f64 {
    let good = records.iter().filter(|it| it.error.is_none() && when.contains(&it.ended)).count();
    good as f64 / (when.end - when.start).as_secs_f64()
}

/// The longest that an operation took.
pub fn longest(records: &[Record]) -> Duration {
    records.iter().map(Record::took).max().unwrap_or_default()
}

/// The errors among `records`.
pub fn errors(records: &[Record]) -> Vec<&Error> {
    records.iter().filter_map(|record| record.error.as_ref()).collect()
}

/// How late this machine wakes whoever sleeps: measured, because a test that shares two processors
/// with a build is late for reasons that are not the client's.
#[derive(Debug)]
pub struct Lag {
    worst: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Lag {
    /// Begins to measure.
    pub fn measure() -> Self {
        let lag = Self { worst: Arc::default(), stopped: Arc::default() };
        let (worst, stopped) = (lag.worst.clone(), lag.stopped.clone());
        thread::spawn(move || {
            let tick = Duration::from_millis(2);
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(tick);
                let late = begun.elapsed().saturating_sub(tick).as_micros();
                worst.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        lag
    }

    /// How much later than its deadline an operation may end: 100 ms and a scheduler's tick, which is
    /// the worst one seen. Three of them, because a task, a timer thread and a server's thread may
    /// each have waited for a processor; and never less than 300 ms in all.
    pub fn allowance(&self) -> Duration {
        let worst = Duration::from_micros(self.worst.load(Ordering::Relaxed));
        (Duration::from_millis(100) + 3 * worst).max(Duration::from_millis(300))
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

// ---- what a client holds -----------------------------------------------------------------------

/// Tasks in the test's runtime, and connections to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Tasks.
    pub tasks: usize,
    /// Open connections.
    pub sockets: usize,
}

impl Held {
    /// As it is now.
    pub fn now(stage: &Stage) -> Self {
        Self { tasks: Handle::current().metrics().num_alive_tasks(), sockets: stage.sockets() }
    }

    /// Waits until no more is held than this.
    ///
    /// # Panics
    /// If that does not happen within ten seconds.
    pub async fn returns(self, stage: &Stage) {
        let begun = Instant::now();
        loop {
            let now = Self::now(stage);
            if now.tasks <= self.tasks && now.sockets <= self.sockets {
                return;
            }
            let waited = begun.elapsed();
            assert!(waited < Duration::from_secs(10), "{now:?} are held, and {self:?} were before");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
