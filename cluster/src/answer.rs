//! What becomes of a call: an answer, a gRPC status, or nothing.
//!
//! A cluster in memory has to say more than "here is the response": a call can be refused by the
//! connection, lost on either side of its execution, or answered late. Whoever drives the cluster
//! (the gRPC server of feature `serve`, a simulator, a test) gets that as a value and plays it out
//! on its own clock and sockets.

use std::{fmt, time::Duration};

/// The code of a gRPC status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Code {
    /// The caller gave up.
    Cancelled = 1,
    /// Anything else.
    Unknown = 2,
    /// The request makes no sense, whatever the state of the cluster.
    InvalidArgument = 3,
    /// The time was up.
    DeadlineExceeded = 4,
    /// No such thing.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// Too much was asked.
    ResourceExhausted = 8,
    /// The state of the cluster does not allow it; for PD, a wrong cluster id.
    FailedPrecondition = 9,
    /// The operation was aborted.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// This server has no such call.
    Unimplemented = 12,
    /// The server is broken, or could not read the request.
    Internal = 13,
    /// Try again: for PD, this member is not the leader.
    Unavailable = 14,
    /// Data is gone for good.
    DataLoss = 15,
    /// Who are you?
    Unauthenticated = 16,
}

/// A gRPC status other than OK.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// Its code.
    pub code: Code,
    /// Its text, which clients match on now and then.
    pub message: String,
}

impl Status {
    /// A status.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Status { code, message: message.into() }
    }

    /// The call exists, but this cluster does not model it.
    pub(crate) fn unmodelled(what: impl fmt::Display) -> Self {
        Status::new(Code::Unimplemented, format!("{what} is not modelled by anatase-cluster"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// How a call is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Nobody listens at that address: the call certainly was not executed.
    Refused,
    /// The connection breaks after the request was sent, and every call on it with this one.
    Reset,
    /// Nothing ever comes back; the connection stays.
    Silent,
}

/// Why there is no response message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The server answers with a status.
    Status(Status),
    /// The server does not answer.
    Lost(Loss),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => status.fmt(f),
            Failure::Lost(Loss::Refused) => f.write_str("connection refused"),
            Failure::Lost(Loss::Reset) => f.write_str("connection reset"),
            Failure::Lost(Loss::Silent) => f.write_str("no answer"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Failure::Status(status)
    }
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer<T> {
    /// The response, or why there is none.
    pub result: Result<T, Failure>,
    /// How much later than a healthy server this one answers. The call itself was executed at
    /// once.
    pub delay: Duration,
}

impl<T> Answer<T> {
    pub(crate) fn now(result: Result<T, Failure>) -> Self {
        Answer { result, delay: Duration::ZERO }
    }

    /// The same with another response.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { result: self.result.map(f), delay: self.delay }
    }
}
