//! An operation about to be awaited.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use anatase_core::Operation;

use crate::driver::Handle;
use crate::error::Result;
use crate::operation::{Kind, OperationFuture};

/// An operation about to be awaited.
#[must_use = "a request does nothing unless awaited"]
pub struct Request<T> {
    handle: Arc<Handle>,
    operation: Operation,
    timeout: Duration,
    kind: Kind<T>,
}

impl<T> Request<T> {
    pub(crate) fn new(
        handle: Arc<Handle>,
        operation: Operation,
        timeout: Duration,
        kind: Kind<T>,
    ) -> Self {
        Self { handle, operation, timeout, kind }
    }

    /// How long it may take in all, instead of [`Config::with_timeout`](crate::Config::with_timeout).
    /// Past it the operation fails with
    /// [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<T> IntoFuture for Request<T> {
    type Output = Result<T>;
    type IntoFuture = OperationFuture<T>;

    fn into_future(self) -> OperationFuture<T> {
        OperationFuture::new(self.handle, self.operation, self.timeout, self.kind)
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
