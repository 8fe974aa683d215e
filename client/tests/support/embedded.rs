//! Clients of an embedded cluster.

use anatase_client::{Config, RawClient, TransactionClient};
use anatase_cluster::serve::{ServeOptions, Server};
use anatase_cluster::{Cluster, ClusterConfig};

use super::Counting;

/// A cluster whose regions are split at `d`, `h` and `p`, for transactions.
pub async fn cluster() -> Server {
    serve(ClusterConfig::default().split_keys(["d", "h", "p"]).build()).await
}

/// The same for raw keys.
pub async fn raw_cluster() -> Server {
    serve(ClusterConfig::default().split_keys_raw(["d", "h", "p"]).build()).await
}

pub async fn serve(cluster: Cluster) -> Server {
    Server::start(cluster, ServeOptions::default()).await.unwrap()
}

pub async fn raw_client(runtime: &Counting, server: &Server) -> RawClient<()> {
    RawClient::new_on(runtime.clone(), server.pd_addresses(), Config::default()).await.unwrap()
}

pub async fn txn_client(runtime: &Counting, server: &Server) -> TransactionClient<()> {
    let config = Config::default();
    TransactionClient::new_on(runtime.clone(), server.pd_addresses(), config).await.unwrap()
}
