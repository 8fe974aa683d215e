//! What a caller learns when something fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use anatase_core::{
    ConflictReason, ErrorKind, KeyspaceProblem, RegionVersion, StoreId, WriteConflict,
};

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Opaque: [`Error::kind`] is for programs, `Display` for people, and what
/// was known about the place and the effort can be asked for.
///
/// The one question that must not be skipped after a failed write is [`Error::is_undetermined`].
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    error: anatase_core::Error,
    elapsed: Duration,
    /// The application's own error.
    application: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        anatase_core::Error::new(kind, message).into()
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the client is closed")
    }

    pub(crate) fn into_core(self) -> anatase_core::Error {
        self.0.error
    }

    pub(crate) fn after(mut self, elapsed: Duration) -> Self {
        self.0.elapsed = elapsed;
        self
    }

    /// An error of the application's own, with which the work of
    /// [`TransactionClient::run`](crate::TransactionClient::run) can end: its transaction is rolled back,
    /// and not run again. It is the [source](std::error::Error::source) of the error.
    pub fn application(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = error.into();
        let mut error = Self::new(ErrorKind::Application, source.to_string());
        error.0.application = Some(source.into());
        error
    }

    /// Whether another transaction was in the way, so that running this one again, from its start, may
    /// succeed at once. False for everything that takes time to pass, and for an
    /// [undetermined](Error::is_undetermined) outcome.
    pub fn is_conflict(&self) -> bool {
        !self.is_undetermined()
            && matches!(
                self.kind(),
                ErrorKind::WriteConflict(_)
                    | ErrorKind::Deadlock(_)
                    | ErrorKind::TxnRolledBack
                    | ErrorKind::TxnRetryable
            )
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> &ErrorKind {
        self.0.error.kind()
    }

    /// Whether the operation may have taken effect, or may yet take effect, although it failed.
    /// Only a later read can tell. Always false for reads.
    ///
    /// For a commit this is the third outcome: neither committed nor aborted as far as anybody
    /// knows. Do not run the transaction again without looking.
    pub fn is_undetermined(&self) -> bool {
        self.0.error.is_undetermined()
    }

    /// Whether doing the same again is safe and may succeed: the obstacle was another transaction,
    /// or a part of the cluster that was not to be reached within the time limit. Never true for an
    /// [undetermined](Error::is_undetermined) outcome.
    ///
    /// For a transaction, «the same» is the whole of it, from a new start.
    pub fn is_retryable(&self) -> bool {
        if self.is_undetermined() {
            return false;
        }
        match self.kind() {
            ErrorKind::DeadlineExceeded
            | ErrorKind::PdUnavailable
            | ErrorKind::RegionUnavailable
            | ErrorKind::StoreUnavailable
            | ErrorKind::ServerBusy
            | ErrorKind::Overloaded
            | ErrorKind::WriteConflict(_)
            | ErrorKind::LockWaitTimeout { .. }
            | ErrorKind::LockNotAvailable { .. }
            | ErrorKind::Deadlock(_)
            | ErrorKind::LocksExpired
            | ErrorKind::TxnRolledBack
            | ErrorKind::CommitTsLag
            | ErrorKind::TxnRetryable => true,
            // Kinds that this version does not know are not promised to be safe.
            _ => false,
        }
    }

    /// The region concerned, if one was known.
    pub fn region(&self) -> Option<RegionVersion> {
        self.0.error.region()
    }

    /// The store concerned, if one was known.
    pub fn store(&self) -> Option<StoreId> {
        self.0.error.store()
    }

    /// How many requests had been sent for the failing part of the operation.
    pub fn attempts(&self) -> u32 {
        self.0.error.attempts()
    }

    /// How long the operation had been under way. Zero if it was refused before it began.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }
}

impl From<anatase_core::Error> for Error {
    fn from(error: anatase_core::Error) -> Self {
        Self(Box::new(Inner { error, elapsed: Duration::ZERO, application: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.error, f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.error, f)?;
        write!(f, " ({:?})", self.0.elapsed)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.application {
            Some(error) => Some(&**error),
            None => std::error::Error::source(&self.0.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_doubt_is_never_retryable() {
        let certain = anatase_core::Error::new(ErrorKind::DeadlineExceeded, "x");
        let doubtful = certain.clone().in_doubt(true);
        assert!(Error::from(certain).is_retryable());
        let doubtful = Error::from(doubtful);
        assert!(doubtful.is_undetermined() && !doubtful.is_retryable());
        assert!(!Error::new(ErrorKind::Undetermined, "x").is_retryable());
    }

    #[test]
    fn conflicts_are_retryable_and_mistakes_are_not() {
        assert!(Error::new(ErrorKind::TxnRetryable, "x").is_retryable());
        assert!(!Error::invalid("x").is_retryable());
        assert!(!Error::closed().is_retryable());
        assert!(!Error::new(ErrorKind::KeyExists { key: "k".into() }, "x").is_retryable());
    }

    #[test]
    fn an_error_is_one_word_and_crosses_threads() {
        fn check<T: Send + Sync + std::error::Error + 'static>() {}
        check::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
