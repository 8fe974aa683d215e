//! Serves a cluster in memory on loopback: `anatase-cluster --stores 3 --split-keys a,m,z`.
//!
//! Prints one line `PD: host:port` on standard output when clients can connect, and the addresses
//! of the stores on standard error. Runs until it is interrupted or terminated.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use anatase_cluster::{
    Api, ClusterConfig, Keyspace,
    serve::{ServeOptions, Server},
};
use clap::Parser;

/// TiKV and PD in memory, behind real gRPC on loopback
#[derive(Parser, Debug)]
#[command(name = "anatase-cluster")]
struct Args {
    /// How many stores
    #[arg(long, default_value_t = 3)]
    stores: usize,
    /// How many replicas a region has, at most one a store
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// How many PD members
    #[arg(long, default_value_t = 1)]
    pd_members: usize,
    /// User keys to split the key space at; the bounds are their memcomparable form
    #[arg(long, value_delimiter = ',')]
    split_keys: Vec<String>,
    /// Serve the raw API with TTL, and no transactions
    #[arg(long)]
    ttl: bool,
    /// Serve API V2, with these keyspaces besides DEFAULT: names, numbered from 1 on
    #[arg(long, value_delimiter = ',', num_args = 0.., conflicts_with = "ttl")]
    keyspaces: Option<Vec<String>>,
    /// Where the first PD member listens; port 0 is any that is free
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If not even that can be written, the exit code has to do.
            let _ = writeln!(io::stderr(), "anatase-cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Listened for from the start, so that no signal is lost on the way.
        let end = end()?;
        let cluster = ClusterConfig::default()
            .stores(args.stores)
            .replicas(args.replicas)
            .pd_members(args.pd_members)
            .split_keys(&args.split_keys)
            .api(match (&args.keyspaces, args.ttl) {
                (Some(_), _) => Api::V2,
                (None, true) => Api::V1Ttl,
                (None, false) => Api::V1,
            })
            .keyspaces(
                args.keyspaces.iter().flatten().zip(1..).map(|(name, id)| Keyspace::new(id, name)),
            )
            .build();
        let server = Server::start(cluster, ServeOptions::default().listen(args.listen)).await?;
        announce(&server)?;
        end.await;
        server.shutdown().await;
        Ok(())
    })
}

fn announce(server: &Server) -> io::Result<()> {
    let stores: Vec<(u64, String)> =
        server.with(|cluster| cluster.stores().map(|it| (it.id, it.address.clone())).collect());
    let mut err = io::stderr();
    for (id, address) in stores {
        writeln!(err, "store {id}: {address}")?;
    }
    let mut out = io::stdout();
    writeln!(out, "PD: {}", server.pd_addresses().join(","))?;
    out.flush()
}

/// Resolves when the process is asked to end.
#[cfg(unix)]
fn end() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}

/// Resolves when the process is asked to end.
#[cfg(not(unix))]
fn end() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // An error would mean that nobody can ask.
        let _ = tokio::signal::ctrl_c().await;
    })
}
