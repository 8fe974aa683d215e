//! One listening address: the loop that accepts, and the connections it made.

use std::{future::poll_fn, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
};

use super::{Inner, Who, route};

/// A request of up to 64 MiB and more comes in without waiting for window updates too often.
const WINDOW: u32 = 16 << 20;

/// An address that is listened on. Dropping it closes the listener and resets the connections.
pub(super) struct Endpoint {
    accepting: JoinHandle<()>,
    /// Counts resets of all connections; when it closes, everything ends.
    epoch: watch::Sender<u64>,
}

impl Endpoint {
    pub(super) fn start(listener: TcpListener, who: Who, inner: Arc<Inner>) -> Self {
        let (epoch, _) = watch::channel(0);
        let watched = epoch.subscribe();
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(connection(stream, who, Arc::clone(&inner), watched.clone()));
                    }
                    // Out of file descriptors, say. They come back when connections end.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Endpoint { accepting, epoch }
    }

    pub(super) fn reset_connections(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Stops, and returns when the address is free again.
    pub(super) async fn stop(mut self) {
        self.accepting.abort();
        // The error says that it was aborted.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves a connection until the client leaves, a call asks for a reset, or the endpoint does.
async fn connection(
    stream: TcpStream,
    who: Who,
    inner: Arc<Inner>,
    mut epoch: watch::Receiver<u64>,
) {
    epoch.mark_unchanged();
    // So that dropping the socket resets the connection, as the end of a process does to what it
    // has not read, instead of closing it in good order. If the socket cannot, it closes.
    let _ = stream.set_zero_linger();
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(Notify::new());
    let service = {
        let reset = Arc::clone(&reset);
        service_fn(move |request| {
            route::serve(Arc::clone(&inner), who, Arc::clone(&reset), request)
        })
    };
    let mut connection = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(u32::MAX)
        // A client that cancels many calls at once is a client under test, not an attacker.
        .max_pending_accept_reset_streams(usize::MAX)
        .max_local_error_reset_streams(None)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::Pin::new(&mut connection);
    tokio::select! {
        // Whatever ends the connection, the client sees it.
        _ = poll_fn(|cx| Future::poll(connection.as_mut(), cx)) => {}
        () = reset.notified() => {}
        // An error is the end of the endpoint.
        _ = epoch.changed() => {}
    }
}
