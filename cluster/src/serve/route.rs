//! From an HTTP request to the cluster and back.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use anatase_proto::{
    prost::Message,
    rpc::{Rpc, RpcKind},
    tikvpb::{
        BatchCommandsResponse, batch_commands_response,
        batch_commands_response::response::Cmd as Answered,
    },
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::sync::{Notify, mpsc};

use super::{
    Inner, Who,
    grpc::{self, Body, Messages, Replies},
    waiting::Later,
};
use crate::{
    answer::{Answer, Code, Failure, Loss, Status},
    lock_wait::Served,
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
                let message = message.unwrap_or_default();
                inner.with(|cluster| cluster.handle_etcd(path, message))
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
    let target = inner.with(|cluster| {
        let target = host.to_str().ok().and_then(|host| cluster.store_at(host));
        target.filter(|store| cluster.is_up(*store))
    });
    match target {
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
            Who::Pd(member) => self
                .inner
                .with(|cluster| cluster.handle_pd(member, self.rpc, &self.metadata, message)),
            Who::Store(store) => match self.at_store(store, message) {
                Ok(answer) => answer,
                // Its sender is there until it is answered, or everything ends.
                Err(later) => match later.await {
                    Ok(answer) => answer.map(|response| response.encode_to_vec().into()),
                    Err(_) => return pending().await,
                },
            },
        };
        sleep(answer.delay).await;
        match answer.result {
            Ok(response) => Ok(response),
            Err(Failure::Status(status)) => Err(status),
            Err(Failure::Lost(loss)) => self.lose(loss).await,
        }
    }

    fn at_store(&self, store: StoreId, message: Bytes) -> Result<Answer<Bytes>, Later> {
        self.inner.with(|cluster| match cluster.handle_or_park(store, self.rpc, message) {
            Served::Answered(answer) => Ok(answer),
            Served::Parked(ticket) => Err(self.inner.waiting.later(ticket)),
        })
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
        // One that waited may end the stream, too.
        let (late, mut ended) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let end = loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    Some(failure) = ended.recv() => break failure,
                };
                match message {
                    Ok(Some(message)) => {
                        if let Err(failure) = self.batch(store, message, &replies, &late) {
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

    fn batch(
        &self,
        store: StoreId,
        message: Bytes,
        replies: &Replies,
        late: &mpsc::UnboundedSender<Failure>,
    ) -> Result<(), Failure> {
        let (answer, parked) = self.inner.with(|cluster| {
            let mut answer = cluster.handle_batch_or_park(store, message);
            let parked: Vec<(u64, Later)> = std::mem::take(&mut answer.parked)
                .into_iter()
                .map(|(id, ticket)| (id, self.inner.waiting.later(ticket)))
                .collect();
            (answer, parked)
        });
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
        for (id, later) in parked.into_iter().filter(|_| answer.end.is_none()) {
            let (replies, late) = (replies.clone(), late.clone());
            tokio::spawn(async move {
                // Without an answer everything has ended.
                let Ok(Answer { result, delay }) = later.await else { return };
                sleep(delay).await;
                match result {
                    Ok(response) => {
                        let cmd = Some(Answered::PessimisticLock(response));
                        let message = BatchCommandsResponse {
                            request_ids: vec![id],
                            responses: vec![batch_commands_response::Response { cmd }],
                            ..Default::default()
                        };
                        replies.send(&message.encode_to_vec());
                    }
                    Err(Failure::Lost(Loss::Silent)) => {}
                    // If the stream has ended, nobody has to be told.
                    Err(failure) => drop(late.send(failure)),
                }
            });
        }
        answer.end.map_or(Ok(()), Err)
    }
}

async fn sleep(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
