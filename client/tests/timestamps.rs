//! PD's timestamp stream over real sockets.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anatase_core::wire::Response;
use anatase_proto::pdpb;
use anatase_proto::prost::Message;
use bytes::Bytes;
use support::*;
use tokio::sync::mpsc;

/// Streams that were opened, and a PD that hands out increasing timestamps.
async fn pd() -> (String, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let last = Arc::new(AtomicUsize::new(0));
    let address = h2_server(move |mut request: Asked, mut respond: Respond| {
        assert_eq!(request.uri().path(), "/pdpb.PD/Tso");
        count.fetch_add(1, Ordering::SeqCst);
        let last = last.clone();
        async move {
            // Like a real PD: the headers come with the first answer, not before.
            let mut body = None;
            while let Some(message) = read_one(request.body_mut()).await {
                let asked = pdpb::TsoRequest::decode(message).unwrap();
                assert_eq!(asked.header.unwrap().cluster_id, 7);
                let n = asked.count as usize;
                let logical = last.fetch_add(n, Ordering::SeqCst) + n;
                let answer = tso_answer(asked.count, i64::try_from(logical).unwrap());
                let body =
                    body.get_or_insert_with(|| respond.send_response(grpc_head(), false).unwrap());
                if body.send_data(framed(&answer), false).is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, opened)
}

/// One message; requests may come several in a chunk, so this reads exactly.
async fn read_one(body: &mut h2::RecvStream) -> Option<Bytes> {
    // The client writes one message per frame.
    let chunk = body.data().await?.ok()?;
    let _ = body.flow_control().release_capacity(chunk.len());
    Some(chunk.slice(5..))
}

fn last(response: Response) -> (u64, u32) {
    match response {
        Response::Timestamps(batch) => (batch.last.logical(), batch.count),
        other => panic!("not timestamps: {other:?}"),
    }
}

#[tokio::test]
async fn answers_come_in_order_on_one_stream() {
    let (address, opened) = pd().await;
    let mut bench = Bench::new(quick());
    let ids: Vec<_> = (1..=50).map(|count| bench.timestamps(&address, count)).collect();
    let mut sum = 0;
    for (id, count) in ids.into_iter().zip(1_u32..) {
        sum += u64::from(count);
        assert_eq!(last(bench.answer_to(id).await.unwrap()), (sum, count));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let id = bench.timestamps(&address, 3);
    assert_eq!(last(bench.answer_to(id).await.unwrap()), (sum + 3, 3));
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

/// wire.md §1: metadata belong to a stream, so each host that requests are passed on to has its own.
#[tokio::test]
async fn a_forwarded_host_has_a_stream_of_its_own() {
    let (send, mut opened) = mpsc::unbounded_channel();
    let address = h2_server(move |mut request: Asked, mut respond: Respond| {
        let host = request.headers().get("pd-forwarded-host").cloned();
        assert!(!request.headers().contains_key("pd-allow-follower-handle"));
        send.send(host.map(|host| host.to_str().unwrap().to_owned())).unwrap();
        async move {
            let mut body = respond.send_response(grpc_head(), false).unwrap();
            while let Some(message) = read_one(request.body_mut()).await {
                let asked = pdpb::TsoRequest::decode(message).unwrap();
                body.send_data(framed(&tso_answer(asked.count, 100)), false).unwrap();
            }
        }
    })
    .await;
    let mut bench = Bench::new(quick());
    for host in [None, Some("http://a:1"), None, Some("http://b:1"), Some("http://a:1")] {
        let id = bench.timestamps_for(host, &address, 2);
        bench.answer_to(id).await.unwrap();
    }
    let mut hosts = Vec::new();
    while let Ok(host) = opened.try_recv() {
        hosts.push(host);
    }
    assert_eq!(hosts, [None, Some("http://a:1".to_owned()), Some("http://b:1".to_owned())]);
    assert_eq!(bench.runtime.connects(), 1);
}

/// peers.md D21: PD has answered on this stream and then falls silent. When the request that hangs is
/// withdrawn, the next one opens a stream that works.
#[tokio::test]
async fn d21_a_stream_that_falls_silent_is_left() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let address = h2_server(move |mut request: Asked, mut respond: Respond| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut body = respond.send_response(grpc_head(), false).unwrap();
            read_one(request.body_mut()).await.unwrap();
            body.send_data(framed(&tso_answer(1, 1)), false).unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let mut bench = Bench::new(quick());
    for streams in 1..=3 {
        let first = bench.timestamps(&address, 1);
        bench.answer_to(first).await.unwrap();
        let hanging = [bench.timestamps(&address, 1), bench.timestamps(&address, 1)];
        bench.silent().await;
        hanging.into_iter().rev().for_each(|id| bench.abort(id));
        bench.silent().await;
        assert_eq!(opened.load(Ordering::SeqCst), streams);
    }
}

#[tokio::test]
async fn a_broken_stream_fails_all_that_wait_and_the_next_request_opens_another() {
    let (send, mut streams) = mpsc::unbounded_channel();
    let address = h2_server(move |mut request: Asked, mut respond: Respond| {
        let send = send.clone();
        async move {
            read_one(request.body_mut()).await.unwrap();
            let mut body = respond.send_response(grpc_head(), false).unwrap();
            read_one(request.body_mut()).await.unwrap();
            body.send_data(framed(&tso_answer(1, 1)), false).unwrap();
            send.send(()).unwrap();
            body.send_trailers(status("14", "not leader")).unwrap();
        }
    })
    .await;
    let mut bench = Bench::new(quick());
    for _ in 0..2 {
        let first = bench.timestamps(&address, 1);
        let second = bench.timestamps(&address, 1);
        bench.answer_to(first).await.unwrap();
        let text = in_doubt(bench.answer_to(second).await.unwrap_err());
        assert!(text.contains("not leader"), "{text}");
        streams.recv().await.unwrap();
    }
    assert_eq!(bench.runtime.connects(), 1);
}

#[tokio::test]
async fn wrong_answers_are_failures() {
    for (answer, word) in [
        (tso_answer(9, 9), "number"),
        (pdpb::TsoResponse { count: 1, ..Default::default() }, "no timestamp"),
        (refusal(), "not the leader"),
    ] {
        let address = h2_server(move |mut request: Asked, mut respond: Respond| {
            let answer = answer.clone();
            async move {
                read_one(request.body_mut()).await.unwrap();
                let mut body = respond.send_response(grpc_head(), false).unwrap();
                body.send_data(framed(&answer), false).unwrap();
                while read_one(request.body_mut()).await.is_some() {}
            }
        })
        .await;
        let mut bench = Bench::new(quick());
        let id = bench.timestamps(&address, 1);
        let text = in_doubt(bench.answer_to(id).await.unwrap_err());
        assert!(text.contains(word), "{text}");
    }
}

fn refusal() -> pdpb::TsoResponse {
    let error = pdpb::Error { message: "not the leader".into(), ..Default::default() };
    let header = pdpb::ResponseHeader { error: Some(Box::new(error)), ..Default::default() };
    pdpb::TsoResponse { header: Some(header), ..Default::default() }
}

#[tokio::test]
async fn a_timestamp_that_nobody_asked_for_ends_the_stream() {
    let address = h2_server(|mut request: Asked, mut respond: Respond| async move {
        read_one(request.body_mut()).await.unwrap();
        let mut body = respond.send_response(grpc_head(), false).unwrap();
        body.send_data(framed(&tso_answer(1, 1)), false).unwrap();
        body.send_data(framed(&tso_answer(1, 2)), false).unwrap();
        let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
        assert!(reason.is_ok());
    })
    .await;
    let mut bench = Bench::new(quick());
    for _ in 0..2 {
        let id = bench.timestamps(&address, 1);
        bench.answer_to(id).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_stuck_stream_is_given_up_when_nobody_waits_any_more() {
    let (send, mut resets) = mpsc::unbounded_channel();
    let opened = Arc::new(AtomicUsize::new(0));
    let address = h2_server(move |mut request: Asked, mut respond: Respond| {
        let (send, stuck) = (send.clone(), opened.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            read_one(request.body_mut()).await.unwrap();
            if stuck {
                let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
                return send.send(reset).unwrap();
            }
            let mut body = respond.send_response(grpc_head(), false).unwrap();
            body.send_data(framed(&tso_answer(1, 1)), false).unwrap();
            while read_one(request.body_mut()).await.is_some() {}
        }
    })
    .await;
    let mut bench = Bench::new(quick());
    let first = bench.timestamps(&address, 1);
    let second = bench.timestamps(&address, 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.abort(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(resets.try_recv().is_err(), "the second is still waited for");
    bench.abort(second);
    assert_eq!(resets.recv().await.unwrap(), h2::Reason::CANCEL);
    let third = bench.timestamps(&address, 1);
    bench.answer_to(third).await.unwrap();
    bench.silent().await;
}

#[tokio::test]
async fn an_aborted_request_does_not_disturb_the_order() {
    let (address, _) = pd().await;
    let mut bench = Bench::new(quick());
    let opening = bench.timestamps(&address, 1);
    bench.answer_to(opening).await.unwrap();
    let ids: Vec<_> = (0..10).map(|_| bench.timestamps(&address, 1)).collect();
    bench.abort(ids[3]);
    for (n, id) in ids.into_iter().enumerate().filter(|(n, _)| *n != 3) {
        assert_eq!(last(bench.answer_to(id).await.unwrap()), (n as u64 + 2, 1));
    }
}

#[tokio::test]
async fn no_connection_no_timestamps() {
    let (listener, address) = listen().await;
    drop(listener);
    let mut bench = Bench::new(quick());
    let id = bench.timestamps(&address, 1);
    not_sent(bench.answer_to(id).await.unwrap_err());
}
