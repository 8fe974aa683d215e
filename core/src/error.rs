//! Why an operation failed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::{RegionVersion, StoreId};
use crate::operation::Assertion;
use crate::timestamp::Timestamp;

/// Why an operation failed: a kind that a program can act on, and what a person wants to know.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Inner {
    kind: ErrorKind,
    message: String,
    region: Option<RegionVersion>,
    store: Option<StoreId>,
    attempts: u32,
    in_doubt: bool,
    cause: Option<Error>,
}

/// What kind of failure it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operation's deadline passed. Whether a write may have been executed all the same is told by
    /// [`Error::is_undetermined`].
    DeadlineExceeded,
    /// The operation was cancelled by its caller.
    Cancelled,
    /// The client was closed.
    Closed,
    /// Too many operations are under way in this client. Nothing was sent.
    Overloaded,
    /// The request makes no sense: the message says why. Nothing was sent.
    InvalidArgument,
    /// No PD member answered, or none of them leads.
    PdUnavailable,
    /// PD answered that it cannot do this: an application error, not a connection error.
    PdRefused,
    /// The keyspace that the client is configured for cannot be used. Nothing was sent to a store.
    Keyspace {
        /// Its name.
        name: Arc<str>,
        /// Why.
        problem: KeyspaceProblem,
    },
    /// The server does not know this call: it is older, or another kind of server.
    Unsupported,
    /// A snapshot was to be read at a timestamp that PD has not handed out yet: what can be seen at
    /// it may still change.
    FutureTimestamp {
        /// The timestamp.
        read: Timestamp,
        /// The newest that PD has handed out.
        current: Timestamp,
    },
    /// The region could not be reached on any replica within the retry budget.
    RegionUnavailable,
    /// The store did not answer, or the connection to it failed, until the retry budget was spent.
    StoreUnavailable,
    /// The region that the request was made for has moved, split or merged: what was sent to it has to be
    /// grouped anew. Only operations that name a region end so.
    RegionMoved,
    /// The stores said that they were too busy until the retry budget was spent.
    ServerBusy,
    /// The store's disk is full.
    DiskFull,
    /// The request is too large for the server.
    TooLarge,
    /// The key is longer than a key can be. Nothing was changed.
    KeyTooLarge {
        /// Its bytes.
        size: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The key and its value are larger than the transaction's limit for an entry. Nothing was
    /// changed.
    EntryTooLarge {
        /// The bytes of both.
        size: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The transaction would become larger than its limit. Nothing was changed: it can be committed
    /// as it is.
    TxnTooLarge {
        /// The bytes that all its keys and values would have.
        size: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The server refused the request, in its own words.
    Refused,
    /// The server answered something that the protocol does not allow.
    Protocol,
    /// The write may or may not have been executed. Only a later read can tell.
    Undetermined,
    /// Another transaction committed a write to the key after this one had started.
    WriteConflict(Box<WriteConflict>),
    /// The key exists although the transaction demands that it does not.
    KeyExists {
        /// The key.
        key: Bytes,
    },
    /// A lock of another transaction was still in the way when the budget was spent.
    LockWaitTimeout {
        /// The key.
        key: Bytes,
        /// Who holds it.
        lock_ts: u64,
    },
    /// A lock of another transaction is in the way, and the request was not to wait for it (NOWAIT).
    LockNotAvailable {
        /// The key.
        key: Bytes,
        /// Who holds it; 0 if the server did not say.
        lock_ts: u64,
    },
    /// Waiting for the lock would close a circle of transactions that wait for each other.
    Deadlock(Box<Deadlock>),
    /// The transaction's locks are no longer kept alive: it has been open for longer than locks may
    /// be, or its primary lock was found gone. It may only commit or roll back.
    LocksExpired,
    /// The transaction was rolled back, by its own time to live or by another client.
    TxnRolledBack,
    /// The transaction may succeed when it is run again from its start.
    TxnRetryable,
    /// The application's own error, for drivers that carry those, too. The core never tells it.
    Application,
    /// The snapshot is older than the cluster's safe point: versions that it should see may have been
    /// removed by garbage collection. Reading it again cannot help; a new transaction can.
    TxnAbortedByGc,
    /// What the transaction believed about a key is not so: a mistake in the program, or lost data.
    AssertionFailed(Box<AssertionFailure>),
    /// PD's timestamps did not pass the one that the commit has to wait for, in the time allowed.
    CommitTsLag,
    /// The commit timestamp would be larger than the transaction allows.
    CommitTsTooLarge {
        /// The timestamp.
        commit_ts: Timestamp,
        /// The largest one allowed.
        bound: Timestamp,
    },
}

/// An assertion about a key that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssertionFailure {
    /// The transaction; 0 if the server did not say.
    pub start_ts: u64,
    /// The key.
    pub key: Bytes,
    /// What was believed.
    pub assertion: Assertion,
    /// The start of the transaction that wrote what is there; 0 if that is nothing, or not known.
    pub existing_start_ts: u64,
    /// The commit of it; 0 if that is nothing, or not known.
    pub existing_commit_ts: u64,
}

/// Why a keyspace cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyspaceProblem {
    /// PD knows no keyspace of this name.
    NotFound,
    /// It is disabled.
    Disabled,
    /// It is archived.
    Archived,
    /// It was removed.
    Tombstone,
    /// PD describes it in a way that this client does not understand, as by the namespace of API V3,
    /// or its number is too large.
    Unsupported,
}

impl fmt::Display for KeyspaceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "PD knows none of this name",
            Self::Disabled => "its state is DISABLED",
            Self::Archived => "its state is ARCHIVED",
            Self::Tombstone => "its state is TOMBSTONE",
            Self::Unsupported => "it is of a kind that this client does not know",
        })
    }
}

/// Two transactions wrote the same key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WriteConflict {
    /// The transaction that failed.
    pub start_ts: Timestamp,
    /// The start of the one that was first; 0 if the server did not say.
    pub conflict_ts: u64,
    /// Its commit; 0 if it holds only a lock.
    pub conflict_commit_ts: u64,
    /// The key.
    pub key: Bytes,
    /// The primary key of the transaction that was first.
    pub primary: Bytes,
    /// Why this counts as a conflict.
    pub reason: ConflictReason,
}

/// A circle of transactions that wait for each other (`kvrpcpb.Deadlock`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deadlock {
    /// The transaction that holds the key that was asked for.
    pub lock_ts: u64,
    /// The key that was asked for.
    pub lock_key: Bytes,
    /// The hash of the key with which the circle closes: see [`Deadlock::deadlock_key`].
    pub deadlock_key_hash: u64,
    /// The key with which the circle closes: the one that this transaction holds and another waits
    /// for. Empty if the server does not say.
    pub deadlock_key: Bytes,
    /// Who waits for whom, in the order of the circle.
    pub wait_chain: Vec<WaitForEntry>,
    /// The circle closes with a key that this very call has locked. It was released before this was
    /// told, so the same call may be made again (`transactions.md` §13.6). Otherwise the transaction
    /// has to be rolled back for the others to go on.
    pub retryable: bool,
}

/// A transaction that waits for another (`deadlock.WaitForEntry`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WaitForEntry {
    /// Who waits.
    pub txn: u64,
    /// For whom.
    pub wait_for_txn: u64,
    /// For which key.
    pub key: Bytes,
    /// The key's hash.
    pub key_hash: u64,
    /// The resource group tag of the request that waits.
    pub resource_group_tag: Bytes,
    /// For how long it has waited.
    pub waited: std::time::Duration,
}

/// Why a write conflict is one (`kvrpcpb.WriteConflict.Reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConflictReason {
    /// The server did not say.
    Unknown,
    /// A newer write was found by an optimistic prewrite.
    Optimistic,
    /// A newer write was found by a pessimistic lock request.
    PessimisticRetry,
    /// The transaction itself had been rolled back.
    SelfRolledBack,
    /// A read of isolation level RCCheckTS met a newer version.
    RcCheckTs,
    /// A postponed uniqueness check failed.
    LazyUniquenessCheck,
    /// A key without lock was written in the meantime.
    NotLockedKeyConflict,
}

impl AssertionFailure {
    /// As the error of a transaction that ends with it.
    pub fn into_error(self) -> Error {
        let belief = match self.assertion {
            Assertion::Exist => "the key was believed to have a value, and has none".to_owned(),
            Assertion::NotExist => format!(
                "the key was believed to have no value, and has had one since {}",
                self.existing_commit_ts
            ),
            Assertion::None => "an assertion about the key does not hold".to_owned(),
        };
        Error::new(ErrorKind::AssertionFailed(Box::new(self)), belief)
    }
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            region: None,
            store: None,
            attempts: 0,
            in_doubt: false,
            cause: None,
        }))
    }

    /// The kind.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// What happened, for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The region concerned, if one was known.
    pub fn region(&self) -> Option<RegionVersion> {
        self.0.region
    }

    /// The store concerned, if one was known.
    pub fn store(&self) -> Option<StoreId> {
        self.0.store
    }

    /// How many requests had been sent for the failing part of the operation.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The last thing that went wrong before the operation gave up.
    pub fn cause(&self) -> Option<&Error> {
        self.0.cause.as_ref()
    }

    /// The same error, telling where it happened.
    #[must_use]
    pub fn at(mut self, region: Option<RegionVersion>, store: Option<StoreId>) -> Self {
        self.0.region = self.0.region.or(region);
        self.0.store = self.0.store.or(store);
        self
    }

    /// The same error, telling after how many requests.
    #[must_use]
    pub fn after(mut self, attempts: u32) -> Self {
        self.0.attempts = self.0.attempts.max(attempts);
        self
    }

    /// The same error, telling what brought it about.
    #[must_use]
    pub fn because(mut self, cause: Option<Error>) -> Self {
        if self.0.cause.is_none() {
            self.0.cause = cause;
        }
        self
    }

    /// The same error under another kind.
    #[must_use]
    pub fn into_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// The same error, of a write that may have been executed, or may yet be.
    #[must_use]
    pub fn in_doubt(mut self, in_doubt: bool) -> Self {
        self.0.in_doubt |= in_doubt;
        self
    }

    /// The same error, of a transaction that is aborted whatever became of single requests of it.
    pub(crate) fn certain(mut self) -> Self {
        self.0.in_doubt = false;
        if self.0.kind == ErrorKind::Undetermined {
            self.0.kind = ErrorKind::TxnRetryable;
        }
        self
    }

    /// Whether the operation may have taken effect, or may yet take effect, although it failed. False
    /// for every read.
    pub fn is_undetermined(&self) -> bool {
        self.0.in_doubt || matches!(self.0.kind, ErrorKind::Undetermined)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(region) = self.0.region {
            write!(f, " (region {region})")?;
        }
        if let Some(store) = self.0.store {
            write!(f, " (store {store})")?;
        }
        if self.0.attempts > 1 {
            write!(f, " after {} attempts", self.0.attempts)?;
        }
        if let Some(cause) = &self.0.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}

/// Why a command got no answer. The distinction decides between «retry», «abort» and «in doubt».
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The request certainly never reached the server.
    NotSent(Reason),
    /// It may have been executed, or may yet be.
    MaybeExecuted(Reason),
}

impl Failure {
    /// The request never left: no connection, no address, no room.
    pub fn not_sent(text: impl Into<Arc<str>>) -> Self {
        Self::NotSent(Reason { status: None, text: text.into() })
    }

    /// The answer was lost, or never came.
    pub fn maybe_executed(text: impl Into<Arc<str>>) -> Self {
        Self::MaybeExecuted(Reason { status: None, text: text.into() })
    }

    /// The server answered with a gRPC status other than OK.
    ///
    /// A status says nothing certain about execution (a proxy or a dying server may have sent it
    /// after the fact), except UNIMPLEMENTED, with which no handler ran.
    pub fn status(status: GrpcStatus, text: impl Into<Arc<str>>) -> Self {
        let reason = Reason { status: Some(status), text: text.into() };
        if status == GrpcStatus::UNIMPLEMENTED {
            Self::NotSent(reason)
        } else {
            Self::MaybeExecuted(reason)
        }
    }

    /// What is known about it.
    pub fn reason(&self) -> &Reason {
        match self {
            Self::NotSent(reason) | Self::MaybeExecuted(reason) => reason,
        }
    }
}

/// What is known about a failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reason {
    /// The gRPC status, where the server sent one.
    pub status: Option<GrpcStatus>,
    /// For a person.
    pub text: Arc<str>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} (gRPC status {})", self.text, status.0),
            None => f.write_str(&self.text),
        }
    }
}

/// A gRPC status code. Numbers beyond those that gRPC defines are possible: they come from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcStatus(pub u32);

#[allow(missing_docs, reason = "the names are gRPC's own")]
impl GrpcStatus {
    pub const OK: Self = Self(0);
    pub const CANCELLED: Self = Self(1);
    pub const UNKNOWN: Self = Self(2);
    pub const INVALID_ARGUMENT: Self = Self(3);
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    pub const FAILED_PRECONDITION: Self = Self(9);
    pub const UNIMPLEMENTED: Self = Self(12);
    pub const INTERNAL: Self = Self(13);
    pub const UNAVAILABLE: Self = Self(14);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn a_status_is_in_doubt_unless_no_handler_ran() {
        let unavailable = Failure::status(GrpcStatus::UNAVAILABLE, "x");
        assert!(matches!(unavailable, Failure::MaybeExecuted(_)));
        let unimplemented = Failure::status(GrpcStatus::UNIMPLEMENTED, "x");
        assert!(matches!(unimplemented, Failure::NotSent(_)));
    }

    #[test]
    fn display_tells_place_count_and_cause() {
        let cause = Error::new(ErrorKind::StoreUnavailable, "connection refused");
        let error = Error::new(ErrorKind::DeadlineExceeded, "get timed out")
            .at(None, Some(StoreId(4)))
            .after(3)
            .because(Some(cause));
        assert_eq!(
            error.to_string(),
            "get timed out (store 4) after 3 attempts: connection refused"
        );
    }
}
