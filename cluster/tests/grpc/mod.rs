//! The smallest gRPC client: one connection, messages of prost, no retries.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use anatase_proto::{prost::Message, rpc::Rpc};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::mpsc};

/// How a call ends without a response.
#[derive(Debug, PartialEq)]
pub(crate) enum Lost {
    /// A gRPC status and its text.
    Status(u16, String),
    /// The connection, or the stream, broke.
    Connection,
}

/// The messages of a request; it ends when the sender is gone.
pub(crate) struct Outgoing(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// One connection.
pub(crate) struct Client {
    connection: http2::SendRequest<Outgoing>,
    address: String,
    /// Sent with every call.
    pub(crate) metadata: Vec<(&'static str, String)>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    pub(crate) async fn try_connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (connection, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 30)
            .initial_connection_window_size(1 << 30)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(driver);
        Ok(Client { connection, address: address.to_owned(), metadata: Vec::new() })
    }

    /// Opens a call. Its response headers come with the first message.
    pub(crate) async fn open(&mut self, rpc: Rpc) -> Stream {
        let (messages, body) = mpsc::unbounded_channel();
        let mut request = Request::post(format!("http://{}{}", self.address, rpc.path()))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in &self.metadata {
            request = request.header(*name, value);
        }
        let response = self.connection.send_request(request.body(Outgoing(body)).unwrap());
        let response = tokio::spawn(response);
        Stream {
            messages: Some(messages),
            state: State::Opening(response),
            buffer: BytesMut::new(),
        }
    }

    /// A call with one request and one response.
    pub(crate) async fn call<R: Message + Default>(
        &mut self,
        rpc: Rpc,
        request: &impl Message,
    ) -> Result<R, Lost> {
        let mut stream = self.open(rpc).await;
        stream.send(request);
        stream.close();
        stream.next().await.unwrap_or(Err(Lost::Connection))
    }
}

enum State {
    Opening(tokio::task::JoinHandle<hyper::Result<Response<Incoming>>>),
    Open(Incoming),
    Closed,
}

/// A call that is open.
pub(crate) struct Stream {
    messages: Option<mpsc::UnboundedSender<Bytes>>,
    state: State,
    buffer: BytesMut,
}

impl Stream {
    pub(crate) fn send(&self, message: &impl Message) {
        let message = message.encode_to_vec();
        let mut framed = BytesMut::with_capacity(5 + message.len());
        framed.put_u8(0);
        framed.put_u32(message.len() as u32);
        framed.extend_from_slice(&message);
        // A call that has ended takes no more messages; its end says why.
        let _ = self.messages.as_ref().unwrap().send(framed.freeze());
    }

    /// Says that there will be no more messages.
    pub(crate) fn close(&mut self) {
        self.messages = None;
    }

    /// The next message; `None` after a good end.
    pub(crate) async fn next<R: Message + Default>(&mut self) -> Option<Result<R, Lost>> {
        loop {
            if let Some(message) = self.take() {
                return Some(Ok(R::decode(message).unwrap()));
            }
            let frame = match std::mem::replace(&mut self.state, State::Closed) {
                State::Closed => return Some(Err(Lost::Connection)),
                State::Opening(response) => {
                    let Ok(Ok(response)) = response.await else {
                        return Some(Err(Lost::Connection));
                    };
                    if response.headers().contains_key("grpc-status") {
                        return ended(response.headers()).map(Err);
                    }
                    self.state = State::Open(response.into_body());
                    continue;
                }
                State::Open(mut body) => {
                    let frame = {
                        let mut body = pin!(&mut body);
                        std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await
                    };
                    let Some(Ok(frame)) = frame else { return Some(Err(Lost::Connection)) };
                    self.state = State::Open(body);
                    frame
                }
            };
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    self.state = State::Closed;
                    return frame.trailers_ref().and_then(ended).map(Err);
                }
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let (prefix, rest) = self.buffer.split_first_chunk::<5>()?;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if rest.len() < length {
            return None;
        }
        self.buffer.advance(5);
        Some(self.buffer.split_to(length).freeze())
    }
}

fn ended(trailers: &HeaderMap) -> Option<Lost> {
    let text = |name| trailers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let code = text("grpc-status").unwrap().parse().unwrap();
    (code != 0).then(|| Lost::Status(code, text("grpc-message").unwrap_or_default()))
}
