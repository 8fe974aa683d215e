//! What the end-to-end tests share: a cluster to talk to, and numbers that look random but are not.
#![forbid(unsafe_code)]

pub mod stage;
pub mod trouble;
pub mod world;

use std::time::Duration;

use anatase_cluster::serve::{ServeOptions, Server};
use anatase_cluster::{ClusterConfig, Fault, On};
use anatase_proto::rpc::Rpc;

/// A cluster on loopback, split at `keys` so that both APIs work on it.
///
/// # Panics
/// If it cannot be started: then no test can say anything.
pub async fn serve(stores: usize, keys: &[&str]) -> Server {
    let cluster = ClusterConfig::default().stores(stores).split_keys(keys).build();
    Server::start(cluster, ServeOptions::default()).await.expect("a cluster on loopback")
}

/// A test that hangs is a test that fails.
///
/// # Panics
/// If `test` takes longer than a minute.
pub async fn bounded<T>(test: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, test).await.expect("the test ends within a minute")
}

/// Counts from now on how often stores or PD are asked this; see [`watched`].
pub fn watch(server: &Server, rpc: Rpc) {
    server.with(|cluster| cluster.faults().always(On::rpc(rpc), Fault::Delay(Duration::ZERO)));
}

/// How often faults have struck, those of [`watch`] included.
pub fn watched(server: &Server) -> u64 {
    server.with(|cluster| cluster.faults().struck())
}

/// A small generator with a seed that is told: the same seed, the same test.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    /// True in `of` out of `out_of` cases.
    pub fn chance(&mut self, of: u64, out_of: u64) -> bool {
        self.below(out_of) < of
    }
}
