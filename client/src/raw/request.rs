//! A raw operation about to be awaited.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use anatase_core::{Operation, RawOperation, RawSwap};

use crate::ColumnFamily;
use crate::driver::Handle;
use crate::error::{Error, Result};
use crate::key::Value;
use crate::operation::{Kind, OperationFuture};

/// A raw operation about to be awaited.
#[must_use = "a request does nothing unless awaited"]
pub struct RawRequest<T> {
    handle: Arc<Handle>,
    op: Result<RawOperation>,
    cf: ColumnFamily,
    timeout: Duration,
    kind: Kind<T>,
}

impl<T> RawRequest<T> {
    pub(super) fn new(
        handle: Arc<Handle>,
        op: Result<RawOperation>,
        cf: ColumnFamily,
        timeout: Duration,
        kind: Kind<T>,
    ) -> Self {
        Self { handle, op, cf, timeout, kind }
    }

    /// How long it may take in all, instead of [`Config::with_timeout`](crate::Config::with_timeout).
    /// Past it the operation fails with
    /// [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// In another column family than the client's.
    pub fn cf(mut self, cf: impl Into<ColumnFamily>) -> Self {
        self.cf = cf.into();
        self
    }
}

/// Of [`compare_and_swap`](crate::RawClient::compare_and_swap).
impl RawRequest<(Option<Value>, bool)> {
    /// The new value lives for so many seconds; 0 is for ever. With a removal it makes no sense:
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument).
    pub fn ttl_secs(mut self, ttl: u64) -> Self {
        if let Ok(RawOperation::CompareAndSwap(swap)) = &mut self.op {
            match &mut swap.swap {
                RawSwap::Put { ttl_secs, .. } => *ttl_secs = ttl,
                RawSwap::Delete => {
                    self.op = Err(Error::invalid("what is removed has no time to live"));
                }
            }
        }
        self
    }
}

impl<T> IntoFuture for RawRequest<T> {
    type Output = Result<T>;
    type IntoFuture = OperationFuture<T>;

    fn into_future(self) -> OperationFuture<T> {
        let Self { handle, op, cf, timeout, kind } = self;
        // raw.md §3: a checksum has no column family, and to leave the one asked for out would add
        // up something else.
        let op = match op {
            Ok(RawOperation::Checksum { .. }) if cf != ColumnFamily::DEFAULT => {
                Err(Error::invalid("only the default column family has a checksum"))
            }
            op => op,
        };
        match op {
            Ok(op) => OperationFuture::new(handle, Operation::Raw { op, cf }, timeout, kind),
            Err(error) => OperationFuture::settled(handle, Err(error), kind),
        }
    }
}

impl<T> fmt::Debug for RawRequest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRequest").field("cf", &self.cf).finish_non_exhaustive()
    }
}
