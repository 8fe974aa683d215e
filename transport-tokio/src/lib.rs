//! The [`Runtime`] of tokio.
//!
//! ```
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = anatase_tokio::TokioRuntime::current()?;
//! # let _ = runtime;
//! # Ok(())
//! # }
//! ```
//!
//! The tokio runtime needs its timer and its I/O driver (`enable_all`, which `#[tokio::main]` does).
//! Tasks run on the runtime that the value was made for, wherever a call comes from: a client may be
//! used from another executor and dropped on any thread.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, pending};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anatase_client::{DefaultRuntime, Instant, NoRuntime, Runtime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// A tokio runtime as Anatase wants it. Cheap to clone.
#[derive(Clone)]
pub struct TokioRuntime {
    handle: Handle,
    origin: tokio::time::Instant,
}

impl TokioRuntime {
    /// For the runtime that `handle` belongs to.
    pub fn new(handle: Handle) -> Self {
        Self { handle, origin: tokio::time::Instant::now() }
    }

    /// For the runtime that the caller runs in.
    ///
    /// # Errors
    /// If there is none.
    pub fn current() -> Result<Self, tokio::runtime::TryCurrentError> {
        Handle::try_current().map(Self::new)
    }
}

impl fmt::Debug for TokioRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioRuntime").finish_non_exhaustive()
    }
}

impl DefaultRuntime for TokioRuntime {
    fn find() -> Result<Self, NoRuntime> {
        Self::current().map_err(|error| NoRuntime::new(error.to_string()))
    }
}

impl Runtime for TokioRuntime {
    type Io = TokioIo;

    fn now(&self) -> Instant {
        // tokio's clock rather than std's, so that `tokio::time::pause` is honoured in tests.
        Instant::ORIGIN + self.origin.elapsed()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        let at = (at != Instant::NEVER)
            .then(|| self.origin.checked_add(Duration::from_nanos(at.as_nanos())))
            .flatten();
        // Made when first polled: by then it is within the runtime, which making it requires.
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(task));
    }

    async fn connect(&self, host_port: &str) -> io::Result<TokioIo> {
        let stream = TcpStream::connect(host_port).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

/// How much is read at once.
const SCRATCH: usize = 64 << 10;

/// A tokio socket with hyper's traits.
///
/// Reads go through a buffer of its own: hyper's is not initialised, and without `unsafe` only
/// initialised memory can be read into. The copy costs less than zeroing would (measured).
#[derive(Debug)]
pub struct TokioIo {
    stream: TcpStream,
    scratch: Box<[u8]>,
}

impl TokioIo {
    fn new(stream: TcpStream) -> Self {
        Self { stream, scratch: vec![0; SCRATCH].into() }
    }

    /// The socket.
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl hyper::rt::Read for TokioIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, scratch } = &mut *self;
        let len = scratch.len().min(into.remaining());
        let mut buf = ReadBuf::new(&mut scratch[..len]);
        ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
        into.put_slice(buf.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for TokioIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
