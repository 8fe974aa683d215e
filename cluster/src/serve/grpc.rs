//! gRPC over HTTP/2, as much as a server needs: messages behind a five-byte prefix, and a status
//! in the trailers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::answer::{Code, Status};

/// Larger messages are refused, and so is whatever says it is larger.
const MAX_MESSAGE: usize = 256 << 20;

/// A compression flag and a length.
const PREFIX: usize = 5;

/// Reads the messages of a request.
pub(super) struct Messages {
    body: Incoming,
    buffer: BytesMut,
}

impl Messages {
    pub(super) fn new(body: Incoming) -> Self {
        Messages { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` at the end of the request, also of one that was broken off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            let frame = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            let Some(Ok(frame)) = frame else { return Ok(None) };
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((&[compressed, a, b, c, d], rest)) = self.buffer.split_first_chunk::<PREFIX>()
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if compressed != 0 {
            return Err(Status::new(Code::Unimplemented, "compressed messages are not taken"));
        }
        if length > MAX_MESSAGE {
            let text = format!("a message of {length} bytes is too large");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if rest.len() < length {
            self.buffer.reserve(PREFIX + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// The body of a response.
pub(super) enum Body {
    /// Nothing: the status is in the headers.
    Empty,
    /// Messages as they come, and at last the trailers.
    Stream(mpsc::UnboundedReceiver<Frame<Bytes>>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Empty => Poll::Ready(None),
            Body::Stream(frames) => frames.poll_recv(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Empty)
    }
}

/// The writing end of a response with a stream of messages.
#[derive(Clone)]
pub(super) struct Replies {
    frames: mpsc::UnboundedSender<Frame<Bytes>>,
}

impl Replies {
    /// A response, and what it will say. If all writers are dropped without an end, the stream
    /// ends without a status, which a client takes for an error.
    pub(super) fn open() -> (Replies, Response<Body>) {
        let (frames, received) = mpsc::unbounded_channel();
        let mut response = Response::new(Body::Stream(received));
        response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
        (Replies { frames }, response)
    }

    /// Sends a message; says whether anybody still listens.
    pub(super) fn send(&self, message: &[u8]) -> bool {
        self.frames.send(Frame::data(framed(message))).is_ok()
    }

    /// Ends the stream.
    pub(super) fn end(self, status: Result<(), Status>) {
        // Nobody listens any more, perhaps; then there is nobody to tell.
        let _ = self.frames.send(Frame::trailers(trailers(status.err().as_ref())));
    }
}

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The response to a call with one answer.
pub(super) fn unary(result: Result<Bytes, Status>) -> Response<Body> {
    match result {
        Ok(message) => {
            let (replies, response) = Replies::open();
            replies.send(&message);
            replies.end(Ok(()));
            response
        }
        Err(status) => {
            let mut response = Response::new(Body::Empty);
            *response.headers_mut() = trailers(Some(&status));
            response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
            response
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

fn trailers(status: Option<&Status>) -> HeaderMap {
    let code = status.map_or(0, |status| status.code as u8);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if let Some(status) = status
        && let Ok(message) = HeaderValue::try_from(percent_encoded(&status.message))
    {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// `grpc-message` is percent-encoded: everything but printable ASCII, and the percent sign.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_status_is_printable() {
        assert_eq!(percent_encoded("50 % é\n"), "50 %25 %C3%A9%0A");
    }
}
