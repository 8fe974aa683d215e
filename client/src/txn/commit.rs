//! The end of a transaction.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anatase_core::{CommittedBy, Operation, Timestamp};

use super::Transaction;
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
        /// How it was committed; `None` if there was nothing to commit.
        by: Option<CommittedBy>,
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
            Self::Committed { at, .. } => Ok(at),
            Self::Aborted(error) | Self::Undetermined(error) => Err(error),
        }
    }
}

/// A commit about to be awaited. Dropping it rolls the transaction back.
#[must_use = "a transaction commits when this is awaited"]
pub struct Commit {
    txn: Transaction,
    timeout: Duration,
}

impl Commit {
    pub(crate) fn new(txn: Transaction, timeout: Duration) -> Self {
        Self { txn, timeout }
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
pub struct CommitFuture(Stage);

#[derive(Debug)]
enum Stage {
    /// Nothing was sent: if it is dropped now, the transaction is rolled back.
    New(Box<Commit>),
    /// There is nothing to commit.
    Nothing,
    /// It cannot be committed as it is, and has been rolled back.
    Unfit(Error),
    Sent(OperationFuture<anatase_core::CommitOutcome>),
}

impl CommitFuture {
    fn new(commit: Commit) -> Self {
        Self(Stage::New(Box::new(commit)))
    }

    /// From here on the core sees to the transaction's end, whatever becomes of this future.
    fn begin(commit: Commit) -> Stage {
        let Commit { txn, timeout } = commit;
        let plan = txn.commit_plan();
        let handle = txn.handle().clone();
        // Rolls back what is not ended.
        drop(txn);
        match plan {
            Ok(Some(plan)) => {
                let operation = Operation::Commit(Box::new(plan));
                Stage::Sent(OperationFuture::new(handle, operation, timeout, kinds::COMMIT))
            }
            Ok(None) => Stage::Nothing,
            Err(error) => Stage::Unfit(error.into()),
        }
    }

    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<CommitOutcome> {
        use anatase_core::CommitOutcome as Core;
        if let Stage::New(_) = &self.0
            && let Stage::New(commit) = std::mem::replace(&mut self.0, Stage::Nothing)
        {
            self.0 = Self::begin(*commit);
        }
        let operation = match &mut self.0 {
            Stage::Sent(operation) => operation,
            Stage::New(_) | Stage::Nothing => {
                return Poll::Ready(CommitOutcome::Committed { at: None, by: None });
            }
            Stage::Unfit(error) => return Poll::Ready(CommitOutcome::Aborted(error.clone())),
        };
        Pin::new(&mut *operation).poll(cx).map(|result| match result {
            Ok(Core::Committed { at, by, .. }) => {
                CommitOutcome::Committed { at: Some(at), by: Some(by) }
            }
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
