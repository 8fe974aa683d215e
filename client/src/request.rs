//! An operation about to be awaited.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use anatase_core::Operation;

use crate::driver::Handle;
use crate::error::Result;
use crate::operation::{Kind, OperationFuture};
use crate::txn::cache::Cache;

/// An operation about to be awaited.
#[must_use = "a request does nothing unless awaited"]
pub struct Request<T> {
    handle: Arc<Handle>,
    operation: Operation,
    timeout: Duration,
    kind: Kind<T>,
    cache: Option<Cache>,
}

impl<T> Request<T> {
    pub(crate) fn new(
        handle: Arc<Handle>,
        operation: Operation,
        timeout: Duration,
        kind: Kind<T>,
    ) -> Self {
        Self { handle, operation, timeout, kind, cache: None }
    }

    /// The same, through a cache if there is one.
    pub(crate) fn through(self, cache: Option<Cache>) -> Self {
        Self { cache, ..self }
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
        let Self { handle, operation, timeout, kind, cache } = self;
        match cache {
            Some(cache) => OperationFuture::through(&cache, handle, operation, timeout, kind),
            None => OperationFuture::new(handle, operation, timeout, kind),
        }
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
