//! A runtime that counts, and servers that misbehave.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod embedded;

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anatase_client::http2::{Http2, Http2Config};
use anatase_client::{Inbox, Instant, Runtime, Transport};
use anatase_core::wire::{Head, Request, Response};
use anatase_core::{
    AskTimestamps, Call, Command, CommandId, Destination, Failure, Input, Notice, StoreId,
};
use anatase_proto::prost::Message;
use anatase_proto::rpc::Rpc;
use anatase_proto::{kvrpcpb, pdpb};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

// ---- a runtime ---------------------------------------------------------------------------------

/// tokio, with a count of tasks and connections.
#[derive(Clone)]
pub struct Counting {
    handle: tokio::runtime::Handle,
    origin: std::time::Instant,
    pub counts: Arc<Counts>,
}

#[derive(Default)]
pub struct Counts {
    pub spawned: AtomicUsize,
    pub alive: AtomicUsize,
    pub connects: AtomicUsize,
    pub sockets: AtomicUsize,
}

/// One less when dropped.
struct Alive(Arc<Counts>, fn(&Counts) -> &AtomicUsize);

impl Alive {
    fn new(counts: &Arc<Counts>, which: fn(&Counts) -> &AtomicUsize) -> Self {
        which(counts).fetch_add(1, Ordering::SeqCst);
        Self(counts.clone(), which)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counting {
    pub fn new() -> Self {
        Self {
            handle: tokio::runtime::Handle::current(),
            origin: std::time::Instant::now(),
            counts: Arc::default(),
        }
    }

    pub fn spawned(&self) -> usize {
        self.counts.spawned.load(Ordering::SeqCst)
    }

    pub fn connects(&self) -> usize {
        self.counts.connects.load(Ordering::SeqCst)
    }

    /// Waits until no task and no socket is left.
    pub async fn drained(&self) {
        let mut left = (0, 0);
        for _ in 0..500 {
            left = (
                self.counts.alive.load(Ordering::SeqCst),
                self.counts.sockets.load(Ordering::SeqCst),
            );
            if left == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("tasks and sockets left: {left:?}");
    }
}

impl Runtime for Counting {
    type Io = Io;

    fn now(&self) -> Instant {
        Instant::ORIGIN + self.origin.elapsed()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + 'static {
        let at = self.origin + Duration::from_nanos(at.as_nanos().min(1 << 60));
        async move { tokio::time::sleep_until(at.into()).await }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.counts.spawned.fetch_add(1, Ordering::SeqCst);
        let alive = Alive::new(&self.counts, |c| &c.alive);
        self.handle.spawn(async move {
            let _alive = alive;
            task.await;
        });
    }

    async fn connect(&self, host_port: &str) -> io::Result<Io> {
        self.counts.connects.fetch_add(1, Ordering::SeqCst);
        let stream = TcpStream::connect(host_port).await?;
        stream.set_nodelay(true)?;
        let alive = Alive::new(&self.counts, |c| &c.sockets);
        Ok(Io { stream, scratch: vec![0; 16 << 10], _alive: alive })
    }
}

pub struct Io {
    stream: TcpStream,
    scratch: Vec<u8>,
    _alive: Alive,
}

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, scratch, .. } = &mut *self;
        let len = scratch.len().min(into.remaining());
        let mut buf = ReadBuf::new(&mut scratch[..len]);
        ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
        into.put_slice(buf.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

// ---- a transport under test --------------------------------------------------------------------

/// An [`Http2`] and the answers it gave.
pub struct Bench {
    pub runtime: Counting,
    pub http2: Http2<Counting>,
    inbox: Inbox,
    _keep: Arc<dyn Send + Sync>,
    inputs: mpsc::UnboundedReceiver<Input>,
    next: u64,
}

pub fn quick() -> Http2Config {
    let mut config = Http2Config::default();
    config.connect_timeout = Duration::from_millis(500);
    config
}

impl Bench {
    pub fn new(config: Http2Config) -> Self {
        let runtime = Counting::new();
        let (send, inputs) = mpsc::unbounded_channel();
        let receive = Arc::new(move |input| {
            let _ = send.send(input);
        });
        let inbox = Inbox::to_fn(&receive);
        let http2 = Http2::new(runtime.clone(), config);
        Self { runtime, http2, inbox, _keep: receive, inputs, next: 0 }
    }

    pub fn perform(&self, mut commands: Vec<Command>) {
        self.http2.perform(&mut commands, &self.inbox);
        assert!(commands.is_empty());
    }

    pub fn id(&mut self) -> CommandId {
        self.next += 1;
        CommandId::from_u64(self.next)
    }

    /// Starts a `RawGet` of `key`.
    pub fn get(&mut self, address: &str, key: &str) -> CommandId {
        self.get_at(address, Some(StoreId(1)), key)
    }

    pub fn get_at(&mut self, address: &str, store: Option<StoreId>, key: &str) -> CommandId {
        let message = kvrpcpb::RawGetRequest { key: key.to_owned().into(), ..Default::default() };
        let request =
            Request { rpc: Rpc::RawGet, head: Head::None, body: message.encode_to_vec().into() };
        let id = self.id();
        let deadline = self.runtime.now() + Duration::from_secs(30);
        let to = Destination { address: address.into(), store };
        self.perform(vec![Command::Call(Call { id, to, deadline, request })]);
        id
    }

    pub fn timestamps(&mut self, address: &str, count: u32) -> CommandId {
        self.timestamps_for(None, address, count)
    }

    pub fn timestamps_for(
        &mut self,
        forward_to: Option<&str>,
        address: &str,
        count: u32,
    ) -> CommandId {
        let forward_to = forward_to.map(Into::into);
        let id = self.id();
        let to = Destination { address: address.into(), store: None };
        let deadline = self.runtime.now() + Duration::from_secs(30);
        let ask = AskTimestamps { id, to, forward_to, deadline, cluster_id: 7, count };
        self.perform(vec![Command::Timestamps(ask)]);
        id
    }

    pub fn abort(&self, id: CommandId) {
        self.perform(vec![Command::Abort { id }]);
    }

    pub async fn next(&mut self) -> Input {
        tokio::time::timeout(Duration::from_secs(10), self.inputs.recv())
            .await
            .expect("no answer came")
            .expect("the inbox is open")
    }

    /// Nothing is delivered for a while.
    pub async fn silent(&mut self) {
        let input = tokio::time::timeout(Duration::from_millis(200), self.inputs.recv()).await;
        assert!(input.is_err(), "delivered {input:?}");
    }

    pub async fn answer(&mut self) -> (CommandId, Result<Response, Failure>) {
        loop {
            match self.next().await {
                Input::Response(id, response) => return (id, response),
                Input::Notice(_) => {}
                other => panic!("not a transport's to give: {other:?}"),
            }
        }
    }

    pub async fn answer_to(&mut self, id: CommandId) -> Result<Response, Failure> {
        let (answered, response) = self.answer().await;
        assert_eq!(answered, id);
        response
    }

    pub async fn link_down(&mut self) -> StoreId {
        match self.next().await {
            Input::Notice(Notice::LinkDown { store }) => store,
            other => panic!("not a notice: {other:?}"),
        }
    }

    /// A `RawGet` and its value.
    pub async fn value(&mut self, address: &str, key: &str) -> Bytes {
        let id = self.get(address, key);
        match self.answer_to(id).await {
            Ok(Response::RawGet(message)) => message.value,
            other => panic!("not a value: {other:?}"),
        }
    }

    /// A `RawGet` that fails.
    pub async fn failure(&mut self, address: &str) -> Failure {
        let id = self.get(address, "k");
        self.answer_to(id).await.expect_err("an answer instead of a failure")
    }
}

/// The failure's text, after checking that it is certainly not sent.
#[track_caller]
pub fn not_sent(failure: Failure) -> String {
    match failure {
        Failure::NotSent(reason) => reason.to_string(),
        Failure::MaybeExecuted(reason) => panic!("in doubt: {reason}"),
    }
}

/// The failure's text, after checking that it leaves the outcome in doubt.
#[track_caller]
pub fn in_doubt(failure: Failure) -> String {
    match failure {
        Failure::MaybeExecuted(reason) => reason.to_string(),
        Failure::NotSent(reason) => panic!("certainly not sent: {reason}"),
    }
}

// ---- servers -----------------------------------------------------------------------------------

/// A listener on a free port and its address.
pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Every connection is given to `serve`.
pub async fn tcp_server<F, Fut>(serve: F) -> String
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    });
    address
}

pub type Asked = http::Request<h2::RecvStream>;
pub type Respond = h2::server::SendResponse<Bytes>;

/// Every HTTP/2 request is given to `serve`.
pub async fn h2_server<F, Fut>(serve: F) -> String
where
    F: Fn(Asked, Respond) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    tcp_server(move |stream| h2_connection(stream, serve.clone())).await
}

pub async fn h2_connection<F, Fut>(stream: TcpStream, serve: F)
where
    F: Fn(Asked, Respond) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(20)
        .initial_window_size(1 << 20)
        // The limits of this server's own protection against resets are not the subject.
        .max_pending_accept_reset_streams(1 << 16)
        .max_concurrent_reset_streams(1 << 16);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(serve(request, respond));
    }
}

/// Reads one framed message.
pub async fn read_message(body: &mut h2::RecvStream) -> Option<Bytes> {
    let mut bytes = Vec::new();
    loop {
        if bytes.len() >= 5 {
            let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            if bytes.len() >= 5 + len {
                assert_eq!(bytes.len(), 5 + len, "more than one message at once");
                return Some(Bytes::from(bytes).slice(5..));
            }
        }
        let chunk = body.data().await?.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
}

pub fn framed(message: &impl Message) -> Bytes {
    let payload = message.encode_to_vec();
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&payload);
    out.into()
}

pub fn grpc_head() -> http::Response<()> {
    http::Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

pub fn ok() -> http::HeaderMap {
    status("0", "")
}

pub fn status(code: &str, message: &str) -> http::HeaderMap {
    let mut map = http::HeaderMap::new();
    map.insert("grpc-status", code.parse().unwrap());
    map.insert("grpc-message", message.parse().unwrap());
    map
}

/// Answers a `RawGet` with the key as its value.
pub async fn echo(mut request: Asked, mut respond: Respond) {
    let Some(message) = read_message(request.body_mut()).await else { return };
    let key = kvrpcpb::RawGetRequest::decode(message).unwrap().key;
    let answer = kvrpcpb::RawGetResponse { value: key, ..Default::default() };
    let Ok(mut body) = respond.send_response(grpc_head(), false) else { return };
    let _ = body.send_data(framed(&answer), false);
    let _ = body.send_trailers(ok());
}

pub fn tso_answer(count: u32, logical: i64) -> pdpb::TsoResponse {
    pdpb::TsoResponse {
        count,
        timestamp: Some(pdpb::Timestamp { physical: 1000, logical, ..Default::default() }),
        ..Default::default()
    }
}

// ---- frames by hand ----------------------------------------------------------------------------

/// A connection whose HTTP/2 frames are written by hand.
pub struct Raw(pub TcpStream);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

pub struct RawFrame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Raw {
    /// Greets, and takes the client's preface.
    pub async fn greet(mut stream: TcpStream) -> Self {
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Self(stream)
    }

    pub async fn read(&mut self) -> Option<RawFrame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(RawFrame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until a frame of this kind.
    pub async fn until(&mut self, kind: u8) -> Option<RawFrame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Reads a whole request; gives its stream.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.until(DATA).await?;
            if frame.flags & 1 != 0 {
                return Some(frame.stream);
            }
        }
    }

    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _ = self.0.write_all(&frame(kind, flags, stream, payload)).await;
    }

    /// `:status: 200`, `content-type: application/grpc`.
    pub async fn head(&mut self, stream: u32) {
        let mut block = vec![0x88, 0x0f, 0x10, 16];
        block.extend_from_slice(b"application/grpc");
        self.write(HEADERS, 4, stream, &block).await;
    }

    pub async fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Reads until the client hangs up.
    pub async fn linger(&mut self) {
        while self.read().await.is_some() {}
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}
