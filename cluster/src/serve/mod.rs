//! The cluster behind real gRPC on loopback: every PD member and every store on an address of its
//! own.
//!
//! It is a thin shell: a call's bytes go into the cluster under one lock, the answer's bytes come
//! out, and what the answer says of delays and losses is done to real connections. So a real
//! client, of any language, meets exactly the cluster that tests and simulations drive as a value,
//! faults included.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use anatase_cluster::{ClusterConfig, serve::{ServeOptions, Server}};
//!
//! let cluster = ClusterConfig::default().stores(3).split_keys(["m"]).build();
//! let server = Server::start(cluster, ServeOptions::default()).await?;
//! println!("connect to {}", server.pd_address());
//!
//! // Whatever a test does to a cluster it does through the lock.
//! server.with(|cluster| cluster.split("k"));
//! server.stop_store(1);
//! server.with(|cluster| cluster.elect_leaders());
//! server.start_store(1).await?;
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod endpoint;
mod grpc;
mod route;
mod waiting;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::net::TcpListener;

use self::{endpoint::Endpoint, waiting::Waiting};
use crate::{Cluster, store::StoreId};

/// Who answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Pd(usize),
    Store(StoreId),
}

/// How a cluster is served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    ip: IpAddr,
    pd_port: u16,
    own_clock: bool,
}

impl Default for ServeOptions {
    /// On 127.0.0.1, on ports that are free, by the machine's clock.
    fn default() -> Self {
        ServeOptions { ip: Ipv4Addr::LOCALHOST.into(), pd_port: 0, own_clock: false }
    }
}

impl ServeOptions {
    /// The address of the first PD member; port 0 is any that is free. Everything else is on the
    /// same IP address, on ports that are free.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.ip = address.ip();
        self.pd_port = address.port();
        self
    }

    /// Lets the owner keep the cluster's time ([`Cluster::advance`]) instead of the machine.
    pub fn own_clock(mut self) -> Self {
        self.own_clock = true;
        self
    }
}

/// A cluster that is served. Cloning gives another handle to the same; it is served until
/// [`Server::shutdown`], or until the runtime that it was started on ends.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Mutex<Cluster>,
    waiting: Waiting,
    own_clock: bool,
    ip: IpAddr,
    /// Addresses stay when what listens there is stopped.
    endpoints: Mutex<BTreeMap<Who, (SocketAddr, Option<Endpoint>)>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("pd", &self.pd_address()).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds an address for every PD member and store, tells the cluster, and serves it on the
    /// current tokio runtime, whose I/O and time drivers must be enabled.
    pub async fn start(cluster: Cluster, options: ServeOptions) -> io::Result<Server> {
        let members = (0..cluster.pd_members().len()).map(Who::Pd);
        let stores = cluster.stores().map(|store| Who::Store(store.id));
        let everyone: Vec<Who> = members.chain(stores).collect();
        let (waiting, alarm) = Waiting::new();
        let server = Server {
            inner: Arc::new(Inner {
                cluster: Mutex::new(cluster),
                waiting,
                own_clock: options.own_clock,
                ip: options.ip,
                endpoints: Mutex::default(),
            }),
        };
        tokio::spawn(alarm.run(Arc::downgrade(&server.inner)));
        for who in everyone {
            let port = if who == Who::Pd(0) { options.pd_port } else { 0 };
            server.listen(who, SocketAddr::new(options.ip, port)).await?;
        }
        Ok(server)
    }

    async fn listen(&self, who: Who, address: SocketAddr) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.with(|cluster| match who {
            Who::Pd(member) => cluster.set_pd_url(member, format!("http://{address}")),
            Who::Store(store) => cluster.set_store_address(store, address.to_string()),
        });
        let endpoint = Endpoint::start(listener, who, Arc::clone(&self.inner));
        self.inner.endpoints().insert(who, (address, Some(endpoint)));
        Ok(())
    }

    /// The address (`host:port`) of the first PD member: what a client is given.
    pub fn pd_address(&self) -> String {
        self.pd_addresses().into_iter().next().unwrap_or_default()
    }

    /// The addresses of all PD members.
    pub fn pd_addresses(&self) -> Vec<String> {
        let endpoints = self.inner.endpoints();
        let members = endpoints.iter().filter(|(who, _)| matches!(who, Who::Pd(_)));
        members.map(|(_, (address, _))| address.to_string()).collect()
    }

    /// The address of a store.
    pub fn store_address(&self, store: StoreId) -> Option<String> {
        self.inner.endpoints().get(&Who::Store(store)).map(|(address, _)| address.to_string())
    }

    /// Looks at the cluster, or changes it, between two calls of clients. No call is served
    /// meanwhile, so `look` must not wait for one, nor use this server.
    pub fn with<T>(&self, look: impl FnOnce(&mut Cluster) -> T) -> T {
        self.inner.with(look)
    }

    /// Kills a store's process: its connections are reset, and new ones are refused. Leaders stay
    /// where they were until [`Cluster::elect_leaders`].
    pub fn stop_store(&self, store: StoreId) {
        self.with(|cluster| cluster.stop_store(store));
        self.inner.stop(Who::Store(store));
    }

    /// Starts a stopped store again, on the address that it had.
    pub async fn start_store(&self, store: StoreId) -> io::Result<()> {
        self.restart(Who::Store(store)).await?;
        self.with(|cluster| cluster.start_store(store));
        Ok(())
    }

    /// Adds a store, without regions, on an address of its own.
    pub async fn add_store(&self) -> io::Result<StoreId> {
        let store = self.with(Cluster::add_store);
        self.listen(Who::Store(store), SocketAddr::new(self.inner.ip, 0)).await?;
        Ok(store)
    }

    /// Kills a PD member.
    pub fn stop_pd_member(&self, member: usize) {
        self.with(|cluster| cluster.stop_pd_member(member));
        self.inner.stop(Who::Pd(member));
    }

    /// Starts a stopped PD member again, on the address that it had.
    pub async fn start_pd_member(&self, member: usize) -> io::Result<()> {
        self.restart(Who::Pd(member)).await?;
        self.with(|cluster| cluster.start_pd_member(member));
        Ok(())
    }

    /// Cuts a PD member off from clients: its connections are reset, and new ones are refused, while
    /// the other members still reach it, and it still leads if it did.
    pub fn cut_off_pd_member(&self, member: usize) {
        self.inner.stop(Who::Pd(member));
    }

    /// Lets clients reach a PD member again that was cut off.
    pub async fn reconnect_pd_member(&self, member: usize) -> io::Result<()> {
        self.restart(Who::Pd(member)).await
    }

    /// Resets all connections to a store, which goes on serving.
    pub fn reset_store_connections(&self, store: StoreId) {
        if let Some((_, Some(endpoint))) = self.inner.endpoints().get(&Who::Store(store)) {
            endpoint.reset_connections();
        }
    }

    async fn restart(&self, who: Who) -> io::Result<()> {
        let stopped = match self.inner.endpoints().get(&who) {
            Some((address, None)) => Some(*address),
            _ => None,
        };
        match stopped {
            Some(address) => self.listen(who, address).await,
            None => Ok(()),
        }
    }

    /// Stops serving: every connection is reset. The cluster can still be looked at.
    pub async fn shutdown(&self) {
        let stopped: Vec<Endpoint> =
            self.inner.endpoints().values_mut().filter_map(|(_, it)| it.take()).collect();
        for endpoint in stopped {
            endpoint.stop().await;
        }
    }
}

impl Inner {
    /// Does something to the cluster, at the time it is now, and answers the parked requests that
    /// this has woken.
    fn with<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut cluster = self.lock();
        let result = act(&mut cluster);
        self.waiting.settle(&mut cluster, self.own_clock);
        result
    }

    /// The cluster, at the time it is now. A panic under the lock was a test's own; the cluster is
    /// as good as before.
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.own_clock {
            // The one place where the cluster is told the time by the machine.
            #[allow(clippy::disallowed_methods)]
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            cluster.set_now_ms(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        }
        cluster
    }

    fn endpoints(&self) -> MutexGuard<'_, BTreeMap<Who, (SocketAddr, Option<Endpoint>)>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, who: Who) {
        let stopped = self.endpoints().get_mut(&who).and_then(|(_, endpoint)| endpoint.take());
        drop(stopped);
    }
}
