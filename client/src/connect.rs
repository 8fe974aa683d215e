//! From addresses to a running client.

use std::sync::Arc;

use anatase_core::{Core, KeyMode, Operation};

use crate::config::Config;
use crate::driver::{Driver, Handle};
use crate::error::{Error, ErrorKind, Result};
use crate::http2::{self, Http2};
use crate::operation::{OperationFuture, kinds};
use crate::runtime::Runtime;
use crate::transport::Transport;

/// A driver over HTTP/2 connections of `runtime`.
pub(crate) async fn over_http2<R: Runtime>(
    runtime: R,
    endpoints: Vec<Arc<str>>,
    config: &Config,
    mode: KeyMode,
) -> Result<Arc<Handle>> {
    if let Some(wrong) = endpoints.iter().find_map(|endpoint| http2::check_address(endpoint).err())
    {
        return Err(Error::invalid(wrong));
    }
    let transport = Http2::new(runtime.clone(), config.for_http2(config.draw_seed()));
    over(runtime, transport, endpoints, config, mode).await
}

/// A driver over any transport, once PD's leader and the keyspace are known.
pub(crate) async fn over(
    runtime: impl Runtime,
    transport: impl Transport,
    endpoints: Vec<Arc<str>>,
    config: &Config,
    mode: KeyMode,
) -> Result<Arc<Handle>> {
    if endpoints.is_empty() {
        return Err(Error::invalid("no address of PD was given"));
    }
    let names = endpoints.join(", ");
    let seed = config.draw_seed();
    let core_config = config.for_core(endpoints, mode);
    let driver = Driver::start(runtime, transport, |now| Core::new(core_config, seed, now));
    let handle = Arc::new(Handle { driver });
    let timeout = config.startup_timeout;
    let ready = OperationFuture::new(handle.clone(), Operation::Ready, timeout, kinds::READY).await;
    ready.map(|()| handle).map_err(|error| match error.kind() {
        // It names the addresses and says what became of each, or it is PD's own word.
        ErrorKind::PdUnavailable | ErrorKind::PdRefused | ErrorKind::Keyspace { .. } => error,
        // Only a keyspace is waited for once the leader is known.
        ErrorKind::DeadlineExceeded => {
            let elapsed = error.elapsed();
            let text = format!("PD at {names} did not tell the keyspace within {timeout:?}");
            let why = anatase_core::Error::new(ErrorKind::PdUnavailable, text);
            Error::from(why.because(Some(error.into_core()))).after(elapsed)
        }
        _ => {
            let elapsed = error.elapsed();
            let text = format!("no leader of PD found at {names} within {timeout:?}");
            let why = anatase_core::Error::new(ErrorKind::PdUnavailable, text);
            Error::from(why.because(Some(error.into_core()))).after(elapsed)
        }
    })
}

/// Addresses as users write them.
pub(crate) fn endpoints<S: Into<String>>(endpoints: impl IntoIterator<Item = S>) -> Vec<Arc<str>> {
    endpoints.into_iter().map(|endpoint| endpoint.into().trim().into()).collect()
}
