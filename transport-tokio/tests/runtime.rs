//! What the client counts on.

use std::time::Duration;

use anatase_client::{DefaultRuntime, Instant, RawClient, Runtime};
use anatase_cluster::ClusterConfig;
use anatase_cluster::serve::{ServeOptions, Server};
use anatase_tokio::TokioRuntime;
use tokio::sync::oneshot;

#[tokio::test(start_paused = true)]
async fn sleeping_takes_as_long_as_the_clock_says() {
    let runtime = TokioRuntime::current().unwrap();
    let begun = runtime.now();
    runtime.sleep_until(begun + Duration::from_secs(3600)).await;
    assert!(runtime.now().since(begun) >= Duration::from_secs(3600));
    // What is past is over at once.
    runtime.sleep_until(begun).await;
    let never = runtime.clone().sleep_until(Instant::NEVER);
    let patience = Duration::from_secs(1 << 30);
    assert!(tokio::time::timeout(patience, never).await.is_err());
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    assert!(TokioRuntime::current().is_err());
    assert!(!TokioRuntime::find().unwrap_err().to_string().is_empty());
}

#[test]
fn tasks_are_spawned_from_anywhere_and_after_the_end_nowhere() {
    let rt =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = TokioRuntime::new(rt.handle().clone());
    let (send, receive) = oneshot::channel();
    // This thread is outside of the runtime; the sleep is made here and runs there.
    let sleep = runtime.sleep_until(runtime.now() + Duration::from_millis(1));
    runtime.spawn(async move {
        sleep.await;
        send.send(()).unwrap();
    });
    receive.blocking_recv().unwrap();
    drop(rt);
    let (send, receive) = oneshot::channel::<()>();
    runtime.spawn(async move { drop(send) });
    assert!(receive.blocking_recv().is_err(), "dropped, not leaked");
}

#[tokio::test]
async fn connections_are_undelayed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let runtime = TokioRuntime::current().unwrap();
    let io = runtime.connect(&address).await.unwrap();
    assert!(io.get_ref().nodelay().unwrap());
    drop(listener);
    assert!(runtime.connect(&address).await.is_err());
    assert!(runtime.connect("no port").await.is_err());
}

#[test]
fn a_client_is_used_and_dropped_outside_of_the_runtime() {
    let rt =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, _server) = rt.block_on(async {
        let cluster = ClusterConfig::default().build();
        let server = Server::start(cluster, ServeOptions::default()).await.unwrap();
        let client = RawClient::<TokioRuntime>::new(server.pd_addresses()).await.unwrap();
        client.put("k", "v").await.unwrap();
        (client, server)
    });
    // A future that was made for this runtime, dropped where there is none.
    drop(std::future::IntoFuture::into_future(client.get("k")));
    drop(client);
    drop(rt);
}
