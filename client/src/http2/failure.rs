//! What a broken call means.
//!
//! The distinction is what a commit hangs on. [`Failure::NotSent`] is a promise: no server has
//! executed the request or ever will. It is made only where HTTP/2 makes it: the message was never
//! handed over, the server refused the stream (`REFUSED_STREAM`), or went away saying that it had
//! not got to it (`GOAWAY` with a smaller last stream id; RFC 9113 §6.8, §8.7). Everything else may
//! have been executed, however early it seems to have failed.

use std::error::Error as StdError;

use anatase_core::Failure;

use super::grpc::Status;

/// What a call's failure to get a response means. `sent` says whether bytes of the message had been
/// handed to HTTP/2.
pub(crate) fn of_call(error: &hyper::Error, sent: bool) -> Failure {
    let text = describe(error);
    if !sent || error.is_canceled() || refused(error) {
        Failure::not_sent(text)
    } else {
        Failure::maybe_executed(text)
    }
}

/// What the end of an answer halfway means.
pub(crate) fn of_body(error: &hyper::Error) -> Failure {
    Failure::maybe_executed(format!("the answer broke off: {}", describe(error)))
}

/// A status that is not OK.
pub(crate) fn of_status(status: Status) -> Failure {
    Failure::status(status.code, status.message)
}

/// Whether the server says that it has not processed the stream.
fn refused(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            // h2 ends a stream with a remote GOAWAY only if the stream's id is above the last one
            // that the GOAWAY names; the others run on, and end with an I/O error if they cannot.
            let gone = error.is_go_away() && error.is_remote();
            let refused = error.is_reset()
                && error.is_remote()
                && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return gone || refused;
        }
        cause = error.source();
    }
    false
}

/// An error and its causes in one line.
pub(crate) fn describe(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
