//! What a call sends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::calls::Flight;
use super::grpc::Framed;
use super::tso;

/// The body of a request.
pub(crate) enum Outgoing {
    /// One message.
    Message(OneMessage),
    /// Messages as they come.
    Stream(Arc<tso::Stream>),
}

/// One message, which marks its flight as sent when HTTP/2 takes it.
pub(crate) struct OneMessage {
    flight: Arc<Flight>,
    framed: Framed,
}

impl OneMessage {
    pub(crate) fn new(flight: Arc<Flight>, framed: Framed) -> Self {
        Self { flight, framed }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Message(message) => {
                message.flight.mark_sent();
                let Framed { first, second } = &mut message.framed;
                let next = if first.is_empty() { second } else { first };
                let data = std::mem::take(next);
                Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
            }
            Self::Stream(stream) => {
                stream.poll_next(cx).map(|next| next.map(|m| Ok(Frame::data(m))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(message) => {
                message.framed.first.is_empty() && message.framed.second.is_empty()
            }
            Self::Stream(_) => false,
        }
    }
}

// The size hint is left open on purpose: an exact one makes hyper send `content-length`, which gRPC
// has no use for.
