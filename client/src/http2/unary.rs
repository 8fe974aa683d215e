//! One request, one answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use anatase_core::wire::{Head, Response};
use anatase_core::{Call, Failure, GrpcStatus, Input};
use anatase_proto::rpc::Rpc;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{OneMessage, Outgoing};
use super::calls::Flight;
use super::grpc::{self, Deframer, Status};
use super::links::{Busy, Metadata, Sender};
use super::{Env, failure};
use crate::runtime::Runtime;
use crate::transport::Inbox;

/// Sends a call over an open connection and starts the task that waits for its answer. Gives the
/// failure back if it could not even be put into a frame.
pub(crate) fn start<R: Runtime>(
    env: &Arc<Env<R>>,
    sender: &mut Sender,
    (call, flight): (Call, Arc<Flight>),
    busy: Busy,
    inbox: &Inbox,
) -> Option<Input> {
    let rpc = call.request.rpc;
    let (forward_to, allow_follower) = match &call.request.head {
        Head::Pd { forward_to, allow_follower, .. } => (forward_to.clone(), *allow_follower),
        Head::Store(_) | Head::None => (None, false),
    };
    let metadata = Metadata { forward_to: forward_to.as_deref(), allow_follower };
    let framed = match grpc::frame_request(call.request) {
        Ok(framed) => framed,
        Err(len) => {
            env.calls.finish(&flight);
            let text = format!("a request of {len} bytes is more than gRPC can carry");
            return Some(Input::Response(call.id, Err(Failure::not_sent(text))));
        }
    };
    let left = call.deadline.since(env.runtime.now());
    let timeout = grpc::timeout_header(left);
    let body = Outgoing::Message(OneMessage::new(flight.clone(), framed));
    let request = sender.request(rpc.path(), Some(timeout), metadata, body);
    let response = sender.send(request);
    let env = env.clone();
    let inbox = inbox.clone();
    env.clone().runtime.spawn(async move {
        let limit = env.config.max_receive_size;
        let exchange = pin!(exchange(response, rpc, limit, &flight));
        let outcome = unless_aborted(&flight, exchange).await;
        drop(busy);
        if let Some(result) = outcome
            && env.calls.finish(&flight)
        {
            inbox.deliver([Input::Response(flight.id, result)]);
        }
    });
    None
}

/// Waits for `exchange`, or drops it, and with it the HTTP/2 stream, when the call is aborted.
async fn unless_aborted<T>(
    flight: &Flight,
    mut exchange: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    poll_fn(|cx| {
        if flight.aborted.poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        exchange.as_mut().poll(cx).map(Some)
    })
    .await
}

async fn exchange(
    response: impl Future<Output = hyper::Result<http::Response<Incoming>>>,
    rpc: Rpc,
    limit: usize,
    flight: &Flight,
) -> Result<Response, Failure> {
    let response = match response.await {
        Ok(response) => response,
        Err(error) => return Err(failure::of_call(&error, flight.is_sent())),
    };
    let (head, body) = response.into_parts();
    check_head(head.status, &head.headers, body.is_end_stream())?;
    let message = one_message(body, limit).await?;
    Response::decode(rpc, message).map_err(|error| Failure::maybe_executed(error.to_string()))
}

/// Looks at a response's headers: is this gRPC, and is it over already?
pub(crate) fn check_head(
    status: StatusCode,
    headers: &HeaderMap,
    over: bool,
) -> Result<(), Failure> {
    let grpc_status = Status::from_headers(headers);
    if let Some(status) = grpc_status.filter(|s| s.code != GrpcStatus::OK) {
        return Err(failure::of_status(status));
    }
    if status != StatusCode::OK {
        return Err(failure::of_status(Status::from_http(status)));
    }
    if !grpc::is_grpc(headers) {
        let what = headers.get(http::header::CONTENT_TYPE);
        let text =
            format!("the server does not speak gRPC: it answered with content type {what:?}");
        return Err(Failure::maybe_executed(text));
    }
    if over {
        return Err(Failure::maybe_executed("the server ended the call without an answer"));
    }
    Ok(())
}

/// Reads a body that has to hold one message and end with status OK.
async fn one_message(mut body: Incoming, limit: usize) -> Result<Bytes, Failure> {
    let mut deframer = Deframer::new(limit);
    let mut message = None;
    loop {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else {
            return Err(Failure::maybe_executed("the answer ended without a status"));
        };
        let frame = frame.map_err(|error| failure::of_body(&error))?;
        match frame.into_data() {
            Ok(data) => {
                deframer.push(data);
                while let Some(next) = deframer.next().map_err(malformed)? {
                    if message.replace(next).is_some() {
                        return Err(Failure::maybe_executed("two answers to one request"));
                    }
                }
            }
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { continue };
                check_trailers(&trailers)?;
                if !deframer.is_empty() {
                    return Err(Failure::maybe_executed("the answer ended within a message"));
                }
                return message.ok_or_else(|| {
                    Failure::maybe_executed("the server ended the call without an answer")
                });
            }
        }
    }
}

/// Errors unless the trailers say OK.
pub(crate) fn check_trailers(trailers: &HeaderMap) -> Result<(), Failure> {
    match Status::from_headers(trailers) {
        Some(status) if status.code == GrpcStatus::OK => Ok(()),
        Some(status) => Err(failure::of_status(status)),
        None => Err(Failure::maybe_executed("the answer ended without a status")),
    }
}

pub(crate) fn malformed(error: grpc::FrameError) -> Failure {
    Failure::maybe_executed(error.to_string())
}
