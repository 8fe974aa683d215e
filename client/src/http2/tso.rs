//! PD's timestamp stream: requests and answers in the same order, on one stream that stays open.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use anatase_core::wire::{Response, TimestampBatch};
use anatase_core::{AskTimestamps, Failure, Input};
use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;
use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use prost::Message;

use super::body::Outgoing;
use super::calls::Flight;
use super::grpc::{self, Deframer};
use super::links::{Busy, Metadata, Sender};
use super::unary::{check_head, check_trailers, malformed};
use super::{Env, failure};
use crate::runtime::Runtime;
use crate::signal::Signal;
use crate::transport::Inbox;

/// A timestamp's answer is some forty bytes; a server that declares more than this is confused.
const MAX_ANSWER: usize = 64 << 10;

/// One stream: what is to be sent and what waits for an answer.
pub(crate) struct Stream {
    inner: Mutex<Inner>,
    stop: Signal,
}

#[derive(Default)]
struct Inner {
    /// Framed requests that HTTP/2 has not taken yet.
    unsent: VecDeque<(Bytes, Arc<Flight>)>,
    /// What answers are due for, in the order asked.
    pending: VecDeque<Pending>,
    sender: Option<Waker>,
    /// The task that reads answers, as soon as it has looked.
    reader: Option<Waker>,
    over: bool,
}

struct Pending {
    flight: Arc<Flight>,
    count: u32,
}

impl Stream {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner::default()), stop: Signal::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for timestamps; false if the stream is over and another one is needed.
    pub(crate) fn ask(&self, ask: &AskTimestamps, flight: &Arc<Flight>) -> bool {
        let header = pdpb::RequestHeader { cluster_id: ask.cluster_id, ..Default::default() };
        let request =
            pdpb::TsoRequest { header: Some(header), count: ask.count, ..Default::default() };
        let framed = grpc::frame_message(&request);
        let mut inner = self.lock();
        if inner.over {
            return false;
        }
        // The reader sleeps on the stream and on the requests that it knew when it fell asleep. It has
        // to hear of this one's end, too: PD may have fallen silent since, and then nothing else
        // would ever wake it.
        if let Some(reader) = &inner.reader
            && flight.aborted.poll(&mut Context::from_waker(reader)).is_ready()
        {
            reader.wake_by_ref();
        }
        inner.pending.push_back(Pending { flight: flight.clone(), count: ask.count });
        inner.unsent.push_back((framed, flight.clone()));
        let sender = inner.sender.take();
        drop(inner);
        if let Some(sender) = sender {
            sender.wake();
        }
        true
    }

    /// The link goes away: the stream is reset.
    pub(crate) fn stop(&self) {
        self.stop.raise();
    }

    /// The body's side: the next framed request.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut inner = self.lock();
        match inner.unsent.pop_front() {
            Some((framed, flight)) => {
                flight.mark_sent();
                Poll::Ready(Some(framed))
            }
            None if inner.over => Poll::Ready(None),
            None => {
                inner.sender = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Ready when the stream should end: the link is gone, or answers are due and nobody waits for
    /// any of them. The latter happens when PD is stuck: the core withdraws what takes too long, and
    /// a fresh stream is the only thing that helps. As long as one request is still waited for the
    /// stream goes on, because the answers come in order.
    fn poll_useless(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stop.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut inner = self.lock();
        inner.reader = Some(cx.waker().clone());
        let mut waited_for = inner.pending.iter().map(|p| &p.flight.aborted);
        match waited_for.find_map(|aborted| aborted.poll(cx).is_pending().then_some(())) {
            Some(()) => Poll::Pending,
            None if inner.pending.is_empty() => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    /// Pairs an answer with the oldest request.
    fn answer(&self, message: Bytes) -> Result<(Arc<Flight>, Result<Response, Failure>), Failure> {
        let Some(Pending { flight, count }) = self.lock().pending.pop_front() else {
            return Err(Failure::maybe_executed("a timestamp that nobody asked for"));
        };
        let answer = pdpb::TsoResponse::decode(message)
            .map_err(|error| Failure::maybe_executed(format!("malformed timestamps: {error}")))
            .and_then(|answer| {
                if let Some(error) = answer.header.as_ref().and_then(|h| h.error.as_ref()) {
                    let text = format!("PD refuses timestamps: {}", error.message);
                    return Err(Failure::maybe_executed(text));
                }
                TimestampBatch::from_proto(&answer, count)
                    .map(Response::Timestamps)
                    .map_err(|error| Failure::maybe_executed(error.to_string()))
            });
        Ok((flight, answer))
    }

    /// Ends the stream and hands back what was still waiting.
    fn end(&self) -> VecDeque<Pending> {
        let mut inner = self.lock();
        inner.over = true;
        inner.unsent.clear();
        let sender = inner.sender.take();
        let pending = std::mem::take(&mut inner.pending);
        drop(inner);
        if let Some(sender) = sender {
            sender.wake();
        }
        pending
    }
}

/// Opens `stream` on a connection and starts the task that reads its answers.
pub(crate) fn start<R: Runtime>(
    env: &Arc<Env<R>>,
    stream: Arc<Stream>,
    mut sender: Sender,
    (busy, forward_to): (Busy, Option<Arc<str>>),
    inbox: &Inbox,
) {
    let body = Outgoing::Stream(stream.clone());
    let metadata = Metadata { forward_to: forward_to.as_deref(), ..Metadata::default() };
    let response = sender.send(sender.request(Rpc::PdTso.path(), None, metadata, body));
    let env = env.clone();
    let inbox = inbox.clone();
    env.clone().runtime.spawn(async move {
        let end = {
            let mut reading = pin!(read(&env, response, &stream, &inbox));
            poll_fn(|cx| {
                if let Poll::Ready(end) = reading.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                stream.poll_useless(cx).map(|()| Failure::maybe_executed("the stream was given up"))
            })
            .await
        };
        drop(busy);
        let failures: Vec<Input> = stream
            .end()
            .into_iter()
            .filter(|pending| env.calls.finish(&pending.flight))
            .map(|Pending { flight, .. }| {
                let failure = if flight.is_sent() {
                    end.clone()
                } else {
                    Failure::NotSent(end.reason().clone())
                };
                Input::Response(flight.id, Err(failure))
            })
            .collect();
        if !failures.is_empty() {
            inbox.deliver(failures);
        }
    });
}

/// Delivers answers until the stream ends; says why it did.
async fn read<R: Runtime>(
    env: &Env<R>,
    response: impl Future<Output = hyper::Result<http::Response<Incoming>>>,
    stream: &Stream,
    inbox: &Inbox,
) -> Failure {
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return failure::of_call(&error, true),
    };
    let (head, mut body) = response.into_parts();
    if let Err(failure) = check_head(head.status, &head.headers, body.is_end_stream()) {
        return failure;
    }
    let mut deframer = Deframer::new(MAX_ANSWER);
    let mut answers = Vec::new();
    loop {
        let frame = match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return failure::of_body(&error),
            None => return Failure::maybe_executed("the timestamp stream ended without a status"),
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers().map(|trailers| check_trailers(&trailers)) {
                Ok(Err(failure)) => return failure,
                Ok(Ok(())) => return Failure::maybe_executed("PD ended the timestamp stream"),
                Err(_) => continue,
            },
        };
        deframer.push(data);
        let broken = loop {
            match deframer.next() {
                Ok(None) => break None,
                Err(error) => break Some(malformed(error)),
                Ok(Some(message)) => match stream.answer(message) {
                    Err(failure) => break Some(failure),
                    Ok((flight, answer)) => {
                        if env.calls.finish(&flight) {
                            answers.push(Input::Response(flight.id, answer));
                        }
                    }
                },
            }
        };
        if !answers.is_empty() {
            inbox.deliver(answers.drain(..));
        }
        if let Some(failure) = broken {
            return failure;
        }
    }
}
