//! What the client concludes from servers that break the rules: «certainly not sent» or «in doubt»?

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anatase_core::StoreId;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

// ---- before the connection is open: nothing can have been sent ------------------------------------

#[tokio::test]
async fn nobody_listens() {
    let (listener, address) = listen().await;
    drop(listener);
    let text = not_sent(Bench::new(quick()).failure(&address).await);
    assert!(text.contains(&address) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_server_that_closes_at_once() {
    let address = tcp_server(|stream| async { drop(stream) }).await;
    not_sent(Bench::new(quick()).failure(&address).await);
}

#[tokio::test]
async fn a_server_that_never_says_a_word() {
    let address = tcp_server(|stream| async {
        let _stream = stream;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let mut bench = Bench::new(quick());
    let begun = std::time::Instant::now();
    let text = not_sent(bench.failure(&address).await);
    assert!(text.contains("greeting"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_web_server() {
    let address = tcp_server(|mut stream| async move {
        let mut some = [0; 1024];
        let _ = stream.read(&mut some).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        // Closing with unread bytes would be a reset, which takes the answer with it.
        while stream.read(&mut some).await.is_ok_and(|n| n > 0) {}
    })
    .await;
    let text = not_sent(Bench::new(quick()).failure(&address).await);
    assert!(text.contains("HTTP/1"), "{text}");
}

#[tokio::test]
async fn a_server_of_something_else() {
    let address = tcp_server(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let text = not_sent(Bench::new(quick()).failure(&address).await);
    assert!(text.contains("SSH"), "{text}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let text = not_sent(Bench::new(quick()).failure("no-such-host.invalid:2379").await);
    assert!(text.contains("no-such-host.invalid:2379"), "{text}");
}

#[tokio::test]
async fn every_call_that_waited_for_the_connection_is_told() {
    let address = tcp_server(|stream| async { drop(stream) }).await;
    let mut bench = Bench::new(quick());
    for _ in 0..100 {
        bench.get(&address, "k");
    }
    for _ in 0..100 {
        not_sent(bench.answer().await.1.unwrap_err());
    }
    assert_eq!(bench.runtime.connects(), 1);
}

// ---- after the request was written ---------------------------------------------------------------

async fn raw_server<F, Fut>(serve: F) -> String
where
    F: Fn(Raw) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    tcp_server(move |stream| {
        let serve = serve.clone();
        async move { serve(Raw::greet(stream).await).await }
    })
    .await
}

#[tokio::test]
async fn hanging_up_after_the_request_leaves_a_doubt() {
    let address = raw_server(|mut raw| async move {
        raw.request().await;
    })
    .await;
    let text = in_doubt(Bench::new(quick()).failure(&address).await);
    assert!(!text.is_empty());
}

#[tokio::test]
async fn a_tcp_reset_within_the_answer_leaves_a_doubt() {
    let address = raw_server(|mut raw| async move {
        let stream = raw.request().await.unwrap();
        raw.head(stream).await;
        raw.write(DATA, 0, stream, &[0, 0, 0, 0, 9, 1]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        reset(raw.0);
    })
    .await;
    in_doubt(Bench::new(quick()).failure(&address).await);
}

/// Closes with RST instead of FIN.
fn reset(stream: TcpStream) {
    #[allow(deprecated, reason = "a zero linger never blocks")]
    stream.set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn resetting_the_stream_is_certain_only_if_it_was_refused() {
    const REFUSED_STREAM: u32 = 7;
    for (code, certain) in [(REFUSED_STREAM, true), (8, false), (2, false), (0, false)] {
        let address = raw_server(move |mut raw: Raw| async move {
            let stream = raw.request().await.unwrap();
            raw.write(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
            raw.linger().await;
        })
        .await;
        let failure = Bench::new(quick()).failure(&address).await;
        if certain {
            not_sent(failure);
        } else {
            in_doubt(failure);
        }
    }
}

#[tokio::test]
async fn a_reset_after_the_headers_leaves_a_doubt_whatever_its_code() {
    let address = raw_server(|mut raw| async move {
        let stream = raw.request().await.unwrap();
        raw.head(stream).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        raw.write(RST_STREAM, 0, stream, &7_u32.to_be_bytes()).await;
        raw.linger().await;
    })
    .await;
    in_doubt(Bench::new(quick()).failure(&address).await);
}

#[tokio::test]
async fn going_away_is_certain_for_what_the_server_did_not_get_to() {
    let address = raw_server(|mut raw| async move {
        raw.request().await;
        raw.request().await;
        // The first was got to, the second was not.
        raw.go_away(1, 0).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    })
    .await;
    let mut bench = Bench::new(quick());
    let first = bench.get(&address, "first");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = bench.get(&address, "second");
    not_sent(bench.answer_to(second).await.unwrap_err());
    in_doubt(bench.answer_to(first).await.unwrap_err());
}

#[tokio::test]
async fn what_comes_after_going_away_takes_a_new_connection() {
    let address = raw_server(|mut raw| async move {
        let stream = raw.request().await.unwrap();
        raw.go_away(stream, 0).await;
        raw.linger().await;
    })
    .await;
    let mut bench = Bench::new(quick());
    bench.get(&address, "first");
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Whoever notices first pays with an attempt, but not with a doubt.
    let second = bench.get(&address, "second");
    not_sent(bench.answer_to(second).await.unwrap_err());
    bench.get(&address, "third");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.runtime.connects(), 2);
}

#[tokio::test]
async fn breaking_the_protocol_after_the_request_leaves_a_doubt() {
    let address = raw_server(|mut raw| async move {
        raw.request().await;
        let _ = raw.0.write_all(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").await;
        raw.linger().await;
    })
    .await;
    in_doubt(Bench::new(quick()).failure(&address).await);
}

#[tokio::test]
async fn a_frozen_server_is_noticed_by_keepalive() {
    let address = raw_server(|mut raw| async move {
        raw.request().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let mut config = quick();
    config.keepalive_interval = Duration::from_millis(200);
    config.keepalive_timeout = Duration::from_millis(200);
    let mut bench = Bench::new(config);
    let begun = std::time::Instant::now();
    in_doubt(bench.failure(&address).await);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_server_that_freezes_while_idle_is_noticed_too() {
    let address = raw_server(|raw| async move {
        let _raw = raw;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let mut config = quick();
    config.keepalive_interval = Duration::from_millis(200);
    config.keepalive_timeout = Duration::from_millis(200);
    let mut bench = Bench::new(config);
    let id = bench.get(&address, "k");
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.abort(id);
    assert_eq!(bench.link_down().await, StoreId(1));
}

/// etcd's server, which PD's is, hangs up on clients that ping without a call under way.
#[tokio::test]
async fn an_idle_connection_to_pd_is_not_pinged_and_one_to_a_store_is() {
    let pings = Arc::new(AtomicUsize::new(0));
    let count = pings.clone();
    let address = raw_server(move |mut raw: Raw| {
        let count = count.clone();
        async move {
            // A pong has to carry the ping's payload, or it is none, and the connection is given up.
            while let Some(ping) = raw.until(PING).await {
                count.fetch_add(1, Ordering::SeqCst);
                raw.write(PING, 1, 0, &ping.payload).await;
            }
        }
    })
    .await;
    for (store, pinged) in [(None, false), (Some(StoreId(1)), true)] {
        let mut config = quick();
        config.keepalive_interval = Duration::from_millis(100);
        let mut bench = Bench::new(config);
        let id = bench.get_at(&address, store, "k");
        tokio::time::sleep(Duration::from_millis(50)).await;
        bench.abort(id);
        // A ping that was due while the call was under way is on its way for a while yet.
        tokio::time::sleep(Duration::from_millis(400)).await;
        pings.store(0, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(pings.load(Ordering::SeqCst) > 0, pinged, "{store:?}");
    }
}

#[tokio::test]
async fn a_message_that_never_got_out_was_not_sent() {
    // The server allows no stream at all, then hangs up.
    let address = tcp_server(|mut stream| async move {
        let no_streams = [0, 3, 0, 0, 0, 0];
        stream.write_all(&frame(SETTINGS, 0, 0, &no_streams)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    })
    .await;
    not_sent(Bench::new(quick()).failure(&address).await);
}

#[tokio::test]
async fn garbage_of_all_kinds_never_panics_and_always_answers() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..60 {
        let mut noise = Vec::new();
        for _ in 0..64 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            noise.extend_from_slice(&seed.to_be_bytes());
        }
        let kind = u8::try_from(round % 10).unwrap();
        let address = raw_server(move |mut raw: Raw| {
            let noise = noise.clone();
            async move {
                let stream = raw.request().await.unwrap();
                if round % 3 == 0 {
                    raw.head(stream).await;
                }
                raw.write(kind, noise[0], stream, &noise[..usize::from(noise[1])]).await;
                let _ = raw.0.write_all(&noise).await;
            }
        })
        .await;
        let mut bench = Bench::new(quick());
        bench.failure(&address).await;
    }
}
