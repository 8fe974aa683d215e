//! What an async runtime must offer.
//!
//! Four things: a clock, sleep, spawn, connect. Everything above (HTTP/2, gRPC, timeouts, retries,
//! the protocol) is built on them once, for every runtime. `anatase-tokio` is an implementation to
//! copy from.

use std::fmt;
use std::future::Future;
use std::io;

pub use anatase_core::Instant;

/// An async runtime, as far as a client needs one.
///
/// A value is a cheap handle: clones share the clock's origin and the place where tasks run. All
/// methods may be called from any thread, also from one that does not belong to the runtime and
/// also from destructors, and none of them may block or panic.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// A byte stream, as hyper wants it. If the underlying socket writes vectored buffers
    /// efficiently, forward [`hyper::rt::Write::poll_write_vectored`] and
    /// [`is_write_vectored`](hyper::rt::Write::is_write_vectored): large values are then not copied.
    type Io: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static;

    /// Nanoseconds of monotonic time since an origin that all clones of this value share.
    fn now(&self) -> Instant;

    /// Completes at `at` or soon after; at once if `at` is past. [`Instant::NEVER`] never comes.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static;

    /// Runs `task` to its end, unless the runtime shuts down first; then it is dropped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Opens a TCP connection to `host_port` (`name:port`, `1.2.3.4:port` or `[::1]:port`), with
    /// Nagle's algorithm off: without `TCP_NODELAY` a busy connection stalls for the length of a
    /// delayed acknowledgement (measured: 44 ms).
    ///
    /// No time limit is expected here: the caller drops the future when it has waited long enough.
    fn connect(&self, host_port: &str) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// A runtime that can be found without being told where it is. The type parameter of
/// [`RawClient`](crate::RawClient) and [`TransactionClient`](crate::TransactionClient) is one, so
/// that `new` needs nothing but addresses.
pub trait DefaultRuntime: Runtime {
    /// The runtime that the caller runs in.
    ///
    /// # Errors
    /// If it runs in none.
    fn find() -> Result<Self, NoRuntime>;
}

/// There is no runtime where one was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRuntime(String);

impl NoRuntime {
    /// With the runtime's own words.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoRuntime {}
