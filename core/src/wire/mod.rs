//! The one place where protobuf messages are made and taken apart.
//!
//! A request is encoded once, without the part that changes from attempt to attempt ([`Head`]): a
//! retry stamps a new head in front of the same bytes. A response is decoded by the driver, outside
//! of any lock, into [`Response`]; the core turns it into a domain value exactly once
//! (`reply`), and no machine ever sees a nullable protobuf field.

#[cfg(any(test, fuzzing))]
pub(crate) mod garbage;
pub(crate) mod health_reply;
pub(crate) mod inbound;
pub(crate) mod key_error;
#[cfg(test)]
mod keys;
mod lock_reply;
pub(crate) mod outbound;
mod pd_reply;
mod raw_reply;
pub(crate) mod region_error;
pub(crate) mod reply;
mod request;
mod resolve_reply;
mod response;

pub(crate) use request::NULL_KEYSPACE;
pub use request::{Context, ContextExtra, Head, Keyspace, Request};
pub use response::{Response, ResponseError, TimestampBatch};
