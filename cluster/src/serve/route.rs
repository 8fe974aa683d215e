//! From an HTTP request to the cluster and back.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use anatase_proto::{
    prost::Message,
    rpc::{Rpc, RpcKind},
    tikvpb::BatchCommandsResponse,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::{
    Inner, Who,
    grpc::{self, Body, Messages, Replies},
};
use crate::{
    answer::{Code, Failure, Loss, Status},
    pd::PdMetadata,
    store::StoreId,
};

/// Serves a request. Never fails: whatever goes wrong is a status, a reset, or silence.
pub(super) async fn serve(
    inner: Arc<Inner>,
    who: Who,
    reset: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let mut messages = Messages::new(body);
    let path = head.uri.path();
    let Some(rpc) = Rpc::from_path(path) else {
        let result = match (who, messages.next().await) {
            (_, Err(status)) => Err(status),
            (Who::Pd(_), Ok(message)) => {
                inner.cluster().handle_etcd(path, message.unwrap_or_default())
            }
            (Who::Store(_), Ok(_)) => {
                Err(Status::new(Code::Unimplemented, format!("unknown call {path}")))
            }
        };
        return Ok(grpc::unary(result));
    };
    let who = match forwarded_to(&inner, who, &head.headers) {
        Ok(who) => who,
        Err(status) => return Ok(grpc::unary(Err(status))),
    };
    let metadata = PdMetadata {
        forwarded: head.headers.contains_key("pd-forwarded-host"),
        allow_follower: head.headers.contains_key("pd-allow-follower-handle"),
    };
    let session = Session { inner, who, reset, rpc, metadata };
    Ok(match rpc.kind() {
        RpcKind::BidiStream if rpc == Rpc::BatchCommands => session.batch_stream(messages),
        RpcKind::BidiStream => session.stream(messages),
        RpcKind::Unary | RpcKind::ServerStream => {
            let result = match messages.next().await {
                Ok(message) => session.call(message.unwrap_or_default()).await,
                Err(status) => Err(status),
            };
            grpc::unary(result)
        }
    })
}

/// A store passes a call on to the store that `tikv-forwarded-host` names (wire.md §1).
fn forwarded_to(inner: &Inner, who: Who, headers: &HeaderMap) -> Result<Who, Status> {
    let (Who::Store(_), Some(host)) = (who, headers.get("tikv-forwarded-host")) else {
        return Ok(who);
    };
    let cluster = inner.cluster();
    let target = host.to_str().ok().and_then(|host| cluster.store_at(host));
    match target.filter(|store| cluster.is_up(*store)) {
        Some(store) => Ok(Who::Store(store)),
        None => Err(Status::new(Code::Unavailable, "the host to forward to is unreachable")),
    }
}

/// One call, or one stream of calls.
struct Session {
    inner: Arc<Inner>,
    who: Who,
    /// Resets the connection.
    reset: Arc<Notify>,
    rpc: Rpc,
    metadata: PdMetadata,
}

impl Session {
    /// One message and its answer, late if it is to be late. Does not return if there is none.
    async fn call(&self, message: Bytes) -> Result<Bytes, Status> {
        let answer = match self.who {
            Who::Pd(member) => {
                self.inner.cluster().handle_pd(member, self.rpc, &self.metadata, message)
            }
            Who::Store(store) => self.inner.cluster().handle(store, self.rpc, message),
        };
        sleep(answer.delay).await;
        match answer.result {
            Ok(response) => Ok(response),
            Err(Failure::Status(status)) => Err(status),
            Err(Failure::Lost(loss)) => self.lose(loss).await,
        }
    }

    async fn lose<T>(&self, loss: Loss) -> T {
        if loss != Loss::Silent {
            self.reset.notify_one();
        }
        pending().await
    }

    /// A stream in which each message is a call and answers are in order: `Tso`, `QueryRegion`.
    fn stream(self, mut messages: Messages) -> Response<Body> {
        let (replies, response) = Replies::open();
        tokio::spawn(async move {
            let end = loop {
                let answered = match messages.next().await {
                    Ok(Some(message)) => self.call(message).await,
                    Ok(None) => break Ok(()),
                    Err(status) => Err(status),
                };
                match answered {
                    Ok(response) if replies.send(&response) => {}
                    Ok(_) => break Ok(()),
                    Err(status) => break Err(status),
                }
            };
            replies.end(end);
        });
        response
    }

    /// A stream of `BatchCommands`: answers come when they are ready.
    fn batch_stream(self, mut messages: Messages) -> Response<Body> {
        let (replies, response) = Replies::open();
        let Who::Store(store) = self.who else {
            replies.end(Err(Status::new(Code::Unimplemented, "PD takes no commands")));
            return response;
        };
        tokio::spawn(async move {
            let end = loop {
                match messages.next().await {
                    Ok(Some(message)) => {
                        if let Err(failure) = self.batch(store, message, &replies) {
                            break failure;
                        }
                    }
                    Ok(None) => return replies.end(Ok(())),
                    Err(status) => break status.into(),
                }
            };
            match end {
                Failure::Status(status) => replies.end(Err(status)),
                Failure::Lost(loss) => self.lose(loss).await,
            }
        });
        response
    }

    fn batch(&self, store: StoreId, message: Bytes, replies: &Replies) -> Result<(), Failure> {
        let answer = self.inner.cluster().handle_batch(store, message);
        for message in answer.messages {
            let body = BatchCommandsResponse::encode_to_vec(&message.response);
            if message.delay.is_zero() {
                replies.send(&body);
            } else if answer.end.is_none() {
                let replies = replies.clone();
                tokio::spawn(async move {
                    sleep(message.delay).await;
                    replies.send(&body);
                });
            }
        }
        answer.end.map_or(Ok(()), Err)
    }
}

async fn sleep(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
