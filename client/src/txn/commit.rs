//! The end of a transaction.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anatase_core::{CommitPlan, Operation, Timestamp};

use crate::driver::Handle;
use crate::error::{Error, Result};
use crate::operation::{OperationFuture, kinds};

/// How a commit ended.
#[must_use = "an undetermined commit needs to be looked after"]
#[derive(Clone, Debug)]
pub enum CommitOutcome {
    /// Every reader from `at` on sees it; `None` if there was nothing to commit.
    Committed {
        /// The commit timestamp.
        at: Option<Timestamp>,
    },
    /// No reader will ever see it.
    Aborted(Error),
    /// The decisive request may have been executed, or may yet be. Only a later read can tell.
    /// Running the transaction again may apply it twice.
    Undetermined(Error),
}

impl CommitOutcome {
    /// As a result, where [`Error::is_undetermined`] tells the second outcome from the third.
    ///
    /// # Errors
    /// If it is not committed.
    pub fn into_result(self) -> Result<Option<Timestamp>> {
        match self {
            Self::Committed { at } => Ok(at),
            Self::Aborted(error) | Self::Undetermined(error) => Err(error),
        }
    }
}

/// A commit about to be awaited.
#[must_use = "a transaction commits when this is awaited"]
pub struct Commit {
    handle: Arc<Handle>,
    /// `None` if there is nothing to commit.
    plan: Option<Box<CommitPlan>>,
    timeout: Duration,
}

impl Commit {
    pub(crate) fn new(
        handle: Arc<Handle>,
        plan: Option<Box<CommitPlan>>,
        timeout: Duration,
    ) -> Self {
        Self { handle, plan, timeout }
    }

    /// How long it may take, instead of [`Config::with_timeout`](crate::Config::with_timeout). When
    /// the time runs out before the decisive request is sent, the transaction is aborted; after it,
    /// the outcome is undetermined.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Commits, and tells which of the three outcomes it was.
    ///
    /// # Cancel safety
    /// As [`Transaction::commit`](crate::Transaction::commit).
    pub async fn outcome(self) -> CommitOutcome {
        CommitFuture::new(self).outcome().await
    }
}

impl IntoFuture for Commit {
    type Output = Result<Option<Timestamp>>;
    type IntoFuture = CommitFuture;

    fn into_future(self) -> CommitFuture {
        CommitFuture::new(self)
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A commit under way.
///
/// # Cancel safety
/// As [`Transaction::commit`](crate::Transaction::commit).
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct CommitFuture {
    /// `None` if there is nothing to commit.
    operation: Option<OperationFuture<anatase_core::CommitOutcome>>,
}

impl CommitFuture {
    fn new(commit: Commit) -> Self {
        let Commit { handle, plan, timeout } = commit;
        let operation = plan.map(|plan| {
            OperationFuture::new(handle, Operation::Commit(plan), timeout, kinds::COMMIT)
        });
        Self { operation }
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<CommitOutcome> {
        use anatase_core::CommitOutcome as Core;
        let Some(operation) = &mut self.operation else {
            return Poll::Ready(CommitOutcome::Committed { at: None });
        };
        Pin::new(&mut *operation).poll(cx).map(|result| match result {
            Ok(Core::Committed { at, .. }) => CommitOutcome::Committed { at: Some(at) },
            Ok(Core::Aborted(error)) => {
                CommitOutcome::Aborted(Error::from(error).after(operation.elapsed()))
            }
            Ok(Core::Undetermined(error)) => {
                let error = Error::from(error.in_doubt(true)).after(operation.elapsed());
                CommitOutcome::Undetermined(error)
            }
            // Nothing was sent, or the driver ended before the commit did.
            Err(error) if error.is_undetermined() => CommitOutcome::Undetermined(error),
            Err(error) => CommitOutcome::Aborted(error),
        })
    }

    async fn outcome(mut self) -> CommitOutcome {
        std::future::poll_fn(|cx| self.poll_outcome(cx)).await
    }
}

impl Future for CommitFuture {
    type Output = Result<Option<Timestamp>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Option<Timestamp>>> {
        self.get_mut().poll_outcome(cx).map(CommitOutcome::into_result)
    }
}
