//! Calls over real sockets, against servers that behave.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anatase_client::Transport;
use anatase_client::http2::Http2Config;
use anatase_core::{GrpcStatus, StoreId};
use anatase_proto::kvrpcpb;
use bytes::Bytes;
use support::*;
use tokio::sync::{Notify, mpsc};

#[tokio::test]
async fn a_call_is_grpc_as_the_specification_has_it() {
    let (send, mut heads) = mpsc::unbounded_channel();
    let address = h2_server(move |request: Asked, respond| {
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        send.send((request.method().clone(), uri, headers)).unwrap();
        echo(request, respond)
    })
    .await;
    let mut bench = Bench::new(quick());
    assert_eq!(bench.value(&address, "hello").await, "hello");
    let (method, uri, headers) = heads.recv().await.unwrap();
    assert_eq!(method, http::Method::POST);
    assert_eq!(uri.path(), "/tikvpb.Tikv/RawGet");
    assert_eq!(uri.scheme_str(), Some("http"));
    assert_eq!(uri.authority().unwrap().as_str(), address);
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["content-type"], "application/grpc");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("anatase/"));
    assert!(headers["grpc-timeout"].to_str().unwrap().ends_with('m'));
    assert!(!headers.contains_key("content-length"));
}

#[tokio::test]
async fn calls_share_one_connection_and_wait_for_room_on_it() {
    let address = h2_server(echo).await;
    let mut bench = Bench::new(quick());
    // The server allows 20 streams at once.
    let mut due: Vec<_> = (0..500).map(|n| bench.get(&address, &n.to_string())).collect();
    for _ in 0..500 {
        let (id, response) = bench.answer().await;
        response.unwrap();
        due.retain(|d| *d != id);
    }
    assert!(due.is_empty());
    assert_eq!(bench.runtime.connects(), 1);
}

#[tokio::test]
async fn a_scheme_in_the_address_is_fine_and_tls_is_refused_by_name() {
    let address = h2_server(echo).await;
    let mut bench = Bench::new(quick());
    assert_eq!(bench.value(&format!("http://{address}"), "k").await, "k");
    assert!(not_sent(bench.failure(&format!("https://{address}")).await).contains("TLS"));
    assert!(not_sent(bench.failure("nowhere").await).contains("host:port"));
}

#[tokio::test]
async fn an_answer_in_tiny_frames_is_put_together() {
    let value = Bytes::from(vec![7; 3000]);
    let sent = value.clone();
    let address = h2_server(move |_, mut respond: Respond| {
        let answer = kvrpcpb::RawGetResponse { value: sent.clone(), ..Default::default() };
        async move {
            let mut body = respond.send_response(grpc_head(), false).unwrap();
            for piece in framed(&answer).chunks(7) {
                body.send_data(Bytes::copy_from_slice(piece), false).unwrap();
            }
            body.send_trailers(ok()).unwrap();
        }
    })
    .await;
    let mut bench = Bench::new(quick());
    assert_eq!(bench.value(&address, "k").await, value);
}

#[tokio::test]
async fn large_keys_and_values_go_both_ways() {
    let address = h2_server(echo).await;
    let mut bench = Bench::new(quick());
    let key = "x".repeat(6 << 20);
    assert_eq!(bench.value(&address, &key).await, key);
}

/// A server that answers every call in one way.
async fn answering(
    head: http::Response<()>,
    pieces: Vec<Bytes>,
    trailers: Option<http::HeaderMap>,
) -> String {
    let answer = Arc::new((head, pieces, trailers));
    h2_server(move |mut request: Asked, mut respond: Respond| {
        let answer = answer.clone();
        async move {
            read_message(request.body_mut()).await;
            let (head, pieces, trailers) = &*answer;
            let (parts, ()) = head.clone().into_parts();
            let over = pieces.is_empty() && trailers.is_none();
            let head = http::Response::from_parts(parts, ());
            let mut body = respond.send_response(head, over).unwrap();
            for (n, piece) in pieces.iter().enumerate() {
                let last = n + 1 == pieces.len() && trailers.is_none();
                body.send_data(piece.clone(), last).unwrap();
            }
            if let Some(trailers) = trailers {
                body.send_trailers(trailers.clone()).unwrap();
            }
        }
    })
    .await
}

fn with_headers(mut head: http::Response<()>, more: http::HeaderMap) -> http::Response<()> {
    head.headers_mut().extend(more);
    head
}

fn value() -> Bytes {
    framed(&kvrpcpb::RawGetResponse { value: "v".into(), ..Default::default() })
}

async fn failing(
    head: http::Response<()>,
    pieces: Vec<Bytes>,
    trailers: Option<http::HeaderMap>,
) -> anatase_core::Failure {
    let address = answering(head, pieces, trailers).await;
    Bench::new(quick()).failure(&address).await
}

#[tokio::test]
async fn a_status_in_trailers_or_in_headers_is_the_servers_word() {
    let failure = failing(grpc_head(), vec![], Some(status("14", "no%20leader"))).await;
    assert_eq!(failure.reason().status, Some(GrpcStatus::UNAVAILABLE));
    assert!(in_doubt(failure).contains("no leader"));

    let failure = failing(with_headers(grpc_head(), status("8", "full")), vec![], None).await;
    assert_eq!(failure.reason().status, Some(GrpcStatus::RESOURCE_EXHAUSTED));
    assert!(in_doubt(failure).contains("full"));

    // A message does not make up for the status.
    let failure = failing(grpc_head(), vec![value()], Some(status("2", ""))).await;
    assert_eq!(failure.reason().status, Some(GrpcStatus::UNKNOWN));

    let failure = failing(with_headers(grpc_head(), status("12", "what?")), vec![], None).await;
    assert!(not_sent(failure).contains("what?"));
}

#[tokio::test]
async fn an_answer_without_a_status_is_none() {
    let failure = failing(grpc_head(), vec![value()], None).await;
    assert!(in_doubt(failure).contains("without a status"));
    let failure = failing(grpc_head(), vec![value()], Some(http::HeaderMap::new())).await;
    assert!(in_doubt(failure).contains("without a status"));
    let failure = failing(grpc_head(), vec![], None).await;
    assert!(in_doubt(failure).contains("without an answer"));
}

#[tokio::test]
async fn http_errors_become_statuses() {
    let head = |code| http::Response::builder().status(code).body(()).unwrap();
    let failure = failing(head(503), vec!["sorry".into()], None).await;
    assert_eq!(failure.reason().status, Some(GrpcStatus::UNAVAILABLE));
    in_doubt(failure);
    let failure = failing(head(404), vec![], None).await;
    not_sent(failure);
    // gRPC's own word goes before HTTP's.
    let failure = failing(with_headers(head(500), status("9", "x")), vec![], None).await;
    assert_eq!(failure.reason().status, Some(GrpcStatus::FAILED_PRECONDITION));
    let page = http::Response::builder().header("content-type", "text/html").body(()).unwrap();
    let failure = failing(page, vec!["<html>".into()], None).await;
    assert!(in_doubt(failure).contains("text/html"));
}

#[tokio::test]
async fn malformed_answers_are_failures() {
    let failing_with = |pieces| failing(grpc_head(), pieces, Some(ok()));
    assert!(in_doubt(failing_with(vec![]).await).contains("without an answer"));
    assert!(in_doubt(failing_with(vec![value(), value()]).await).contains("two answers"));
    let cut = value().slice(..value().len() - 1);
    assert!(in_doubt(failing_with(vec![cut]).await).contains("within a message"));
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 0]);
    assert!(in_doubt(failing_with(vec![compressed]).await).contains("compressed"));
    let garbage = Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]);
    assert!(in_doubt(failing_with(vec![garbage]).await).contains("malformed"));
}

#[tokio::test]
async fn an_answer_above_the_limit_is_an_error_at_its_first_byte() {
    let huge = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    let address = answering(grpc_head(), vec![huge], Some(ok())).await;
    let mut config = quick();
    config.max_receive_size = 1 << 20;
    assert!(in_doubt(Bench::new(config).failure(&address).await).contains("larger than max"));
    // Without a limit the memory is not taken in advance either: the body just ends too early.
    assert!(in_doubt(Bench::new(quick()).failure(&address).await).contains("within a message"));
}

#[tokio::test]
async fn an_aborted_call_resets_its_stream_and_is_not_answered() {
    let (send, mut resets) = mpsc::unbounded_channel();
    let arrived = Arc::new(Notify::new());
    let here = arrived.clone();
    let address = h2_server(move |mut request: Asked, mut respond: Respond| {
        let (send, here) = (send.clone(), here.clone());
        async move {
            read_message(request.body_mut()).await;
            here.notify_one();
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            send.send(reason.unwrap()).unwrap();
        }
    })
    .await;
    let mut bench = Bench::new(quick());
    let id = bench.get(&address, "k");
    arrived.notified().await;
    bench.abort(id);
    assert_eq!(resets.recv().await.unwrap(), h2::Reason::CANCEL);
    bench.silent().await;
    // Abort what is not there.
    bench.abort(id);
}

#[tokio::test]
async fn a_burst_of_aborts_does_not_cost_the_connection() {
    let address = h2_server(|request, respond| async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        echo(request, respond).await;
    })
    .await;
    let mut bench = Bench::new(quick());
    bench.value(&address, "k").await;
    for _ in 0..30 {
        let ids: Vec<_> = (0..100).map(|_| bench.get(&address, "k")).collect();
        tokio::time::sleep(Duration::from_millis(2)).await;
        ids.into_iter().for_each(|id| bench.abort(id));
        tokio::task::yield_now().await;
    }
    // Some were answered before they were aborted.
    while tokio::time::timeout(Duration::from_millis(200), bench.next()).await.is_ok() {}
    assert_eq!(bench.value(&address, "still there").await, "still there");
    assert_eq!(bench.runtime.connects(), 1);
}

#[tokio::test]
async fn what_was_aborted_while_connecting_is_not_sent() {
    let (listener, address) = listen().await;
    let mut bench = Bench::new(quick());
    let aborted = bench.get(&address, "aborted");
    let wanted = bench.get(&address, "wanted");
    bench.abort(aborted);
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        h2_connection(stream, move |request, respond| {
            count.fetch_add(1, Ordering::SeqCst);
            echo(request, respond)
        })
        .await;
    });
    bench.answer_to(wanted).await.unwrap();
    bench.silent().await;
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_restarted_server_is_connected_to_again() {
    let (listener, address) = listen().await;
    let (stop, mut stopped) = mpsc::channel::<()>(1);
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::select! {
            () = h2_connection(stream, echo) => {}
            _ = stopped.recv() => {}
        }
    });
    let mut bench = Bench::new(quick());
    bench.value(&address, "before").await;
    stop.send(()).await.unwrap();
    server.await.unwrap();
    // Nothing was under way: the core is told that the store may have moved.
    assert_eq!(bench.link_down().await, StoreId(1));
    // Down: certainly not sent, and the next attempts do not knock before the backoff has passed.
    assert!(not_sent(bench.failure(&address).await).contains(&address));
    let connects = bench.runtime.connects();
    not_sent(bench.failure(&address).await);
    assert_eq!(bench.runtime.connects(), connects);
    // Up again.
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        h2_connection(stream, echo).await;
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(bench.value(&address, "after").await, "after");
}

#[tokio::test]
async fn shutting_down_leaves_no_task_and_no_socket() {
    let address = h2_server(|mut request: Asked, respond: Respond| async move {
        if request.uri().path().ends_with("Tso") {
            // Answers nothing for as long as the stream lasts.
            while read_message(request.body_mut()).await.is_some() {}
        } else if read_message(request.body_mut()).await.unwrap().len() > 4 {
            let _respond = respond;
            tokio::time::sleep(Duration::from_secs(60)).await;
        } else {
            echo(request, respond).await;
        }
    })
    .await;
    let silent = tcp_server(|stream| async move {
        let _stream = stream;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let mut config = Http2Config::default();
    config.connect_timeout = Duration::from_secs(60);
    let mut bench = Bench::new(config);
    bench.timestamps(&address, 1);
    bench.get(&address, "never answered");
    bench.get(&silent, "connecting");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.runtime.connects(), 2);
    bench.http2.shutdown();
    bench.runtime.drained().await;
    bench.silent().await;
}
