//! gRPC over hyper's HTTP/2 client connection, on any [`Runtime`].
//!
//! One connection per address, opened when first needed, opened again when it broke and is needed
//! again. Calls run side by side on it as HTTP/2 streams; timestamps share one stream. The core
//! keeps the time limits and decides about retries; what this transport owes it is the truth about
//! a failure: was the request certainly not executed, or can nobody tell (`failure.rs`)?
//!
//! | file | holds |
//! |---|---|
//! | `address.rs` | addresses as PD writes them |
//! | `connection.rs`, `greeting.rs` | from an address to an open connection |
//! | `links.rs` | the state of each address, its queue while connecting, its backoff |
//! | `grpc.rs` | framing, status, headers |
//! | `unary.rs`, `tso.rs` | one request one answer; the timestamp stream |
//! | `calls.rs`, `body.rs` | what is in flight, what it sends |
//! | `failure.rs` | what a broken call means |
//! | `bridge.rs` | a [`Runtime`] as hyper's executor and timer |

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anatase_core::{Command, Input};

use crate::runtime::Runtime;
use crate::transport::{Inbox, Transport};
use address::Address;
use calls::Calls;
use links::{Job, Link};

mod address;
mod body;
mod bridge;
mod calls;
mod connection;
mod failure;
mod greeting;
mod grpc;
mod links;
mod tso;
mod unary;

/// How connections behave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Http2Config {
    /// How long opening a connection may take, up to the server's first word (client-go: 5 s).
    pub connect_timeout: Duration,
    /// How often a silent connection is pinged; to a store also when nothing is asked of it
    /// (client-go: 10 s).
    pub keepalive_interval: Duration,
    /// How long a ping may go unanswered before the connection is given up (client-go: 3 s).
    pub keepalive_timeout: Duration,
    /// Flow-control window of a stream and of a connection, in bytes; at most 2³¹−1 (client-go: 128 MiB).
    pub window_size: u32,
    /// The longest answer that is accepted, in bytes (client-go: unlimited).
    pub max_receive_size: usize,
    /// Spreads the reconnects of many clients.
    pub seed: u64,
}

impl Default for Http2Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(3),
            window_size: 128 << 20,
            max_receive_size: usize::MAX,
            seed: 0,
        }
    }
}

/// Whether an address can be used, and if not, why, in words.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    Address::parse(address).map(|_| ()).map_err(|error| format!("{address:?} {error}"))
}

/// What all links and calls share.
pub(crate) struct Env<R> {
    pub(crate) runtime: R,
    pub(crate) config: Http2Config,
    pub(crate) calls: Calls,
}

/// A [`Transport`] over HTTP/2 connections of a [`Runtime`].
pub struct Http2<R: Runtime> {
    env: Arc<Env<R>>,
    links: Mutex<HashMap<Arc<str>, Arc<Link<R>>>>,
}

impl<R: Runtime> Http2<R> {
    /// Opens nothing yet.
    pub fn new(runtime: R, config: Http2Config) -> Self {
        let env = Arc::new(Env { runtime, config, calls: Calls::default() });
        Self { env, links: Mutex::new(HashMap::new()) }
    }

    fn link(&self, address: &Arc<str>) -> Arc<Link<R>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(address) {
            return link.clone();
        }
        // `host:port` from the application and `http://host:port` from PD are one place.
        let link = Link::new(self.env.clone(), address.clone());
        let link = links.values().find(|other| other.is_same_place(&link)).cloned().unwrap_or(link);
        links.insert(address.clone(), link.clone());
        link
    }
}

impl<R: Runtime> Transport for Http2<R> {
    fn perform(&self, commands: &mut Vec<Command>, inbox: &Inbox) {
        let mut refused: Vec<Input> = Vec::new();
        for command in commands.drain(..) {
            let (to, job) = match command {
                Command::Call(call) => {
                    let flight = self.env.calls.begin(call.id);
                    (call.to.clone(), Job::Call(call, flight))
                }
                Command::Timestamps(ask) => {
                    let flight = self.env.calls.begin(ask.id);
                    (ask.to.clone(), Job::Timestamps(ask, flight))
                }
                Command::Abort { id } => {
                    self.env.calls.abort(id);
                    continue;
                }
            };
            refused.extend(self.link(&to.address).submit(job, to.store, inbox));
        }
        if !refused.is_empty() {
            // Not from within: the caller may be on its way out of the core.
            let inbox = inbox.clone();
            self.env.runtime.spawn(async move { inbox.deliver(refused) });
        }
    }

    fn shutdown(&self) {
        let links = std::mem::take(&mut *self.links.lock().unwrap_or_else(PoisonError::into_inner));
        drop(links);
        self.env.calls.abort_all();
    }
}

impl<R: Runtime> Drop for Http2<R> {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl<R: Runtime> fmt::Debug for Http2<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").finish_non_exhaustive()
    }
}
