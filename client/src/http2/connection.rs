//! From an address to an open HTTP/2 connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use hyper::client::conn::http2;

use super::address::Address;
use super::body::Outgoing;
use super::bridge::{Exec, Timer};
use super::failure::describe;
use super::greeting::Greeted;
use super::{Env, Http2Config};
use crate::runtime::Runtime;

/// The task of an open connection: runs while the connection lives and hands calls to it.
pub(crate) type Connection<R> = http2::Connection<Greeted<<R as Runtime>::Io>, Outgoing, Exec<R>>;

/// Connects within the configured time. `store` says whether it is a store that lives there.
///
/// # Errors
/// In words. Nothing can have been sent.
pub(crate) async fn open<R: Runtime>(
    env: &Env<R>,
    address: &Address,
    store: bool,
) -> Result<(http2::SendRequest<Outgoing>, Connection<R>), String> {
    let limit = env.config.connect_timeout;
    let connected = AtomicBool::new(false);
    let mut sleep = pin!(env.runtime.sleep_until(env.runtime.now() + limit));
    let mut opening = pin!(try_open(env, address, store, &connected));
    let result = poll_fn(|cx| match opening.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await;
    match result {
        Some(result) => result,
        None if connected.load(Ordering::Relaxed) => {
            Err(format!("connected, but no greeting from an HTTP/2 server within {limit:?}"))
        }
        None => Err(format!("no connection within {limit:?}")),
    }
}

async fn try_open<R: Runtime>(
    env: &Env<R>,
    address: &Address,
    store: bool,
    connected: &AtomicBool,
) -> Result<(http2::SendRequest<Outgoing>, Connection<R>), String> {
    let io = env.runtime.connect(address.host_port()).await.map_err(|e| describe(&e))?;
    // TLS will wrap `io` here, when `Address` can ask for it.
    connected.store(true, Ordering::Relaxed);
    let (io, greeting) = Greeted::new(io);
    let handshake = builder(&env.config, &env.runtime, store).handshake(io);
    let (sender, mut connection) = handshake.await.map_err(|e| describe(&e))?;
    poll_fn(|cx| {
        if greeting.heard.poll(cx).is_ready() {
            return Poll::Ready(greeting.wrong().map_or(Ok(()), Err));
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => {
                Poll::Ready(Err(greeting.wrong().unwrap_or_else(|| match ended {
                    Ok(()) => "the server closed the connection without a word".into(),
                    Err(error) => describe(&error),
                })))
            }
        }
    })
    .await?;
    Ok((sender, connection))
}

fn builder<R: Runtime>(config: &Http2Config, runtime: &R, store: bool) -> http2::Builder<Exec<R>> {
    let mut builder = http2::Builder::new(Exec(Arc::new(runtime.clone())));
    builder
        .timer(Timer::new(runtime.clone()))
        .initial_stream_window_size(config.window_size)
        .initial_connection_window_size(config.window_size)
        // Most answers then come in one frame, and their values are slices of it.
        .max_frame_size(1 << 20)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        // TiKV takes any number of pings. PD's server, which is etcd's, takes pings without a call
        // under way for an attack and hangs up; its timestamp stream is a call under way.
        .keep_alive_while_idle(store)
        // A burst of aborted calls must not cost the connection: h2 forgets reset streams beyond
        // these numbers, takes their late answers for errors, and hangs up after a thousand.
        .max_concurrent_reset_streams(16 << 10)
        .max_local_error_reset_streams(None);
    builder
}
