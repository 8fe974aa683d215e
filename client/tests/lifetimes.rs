//! What keeps a client alive, what ends it, and that nothing is left behind.

mod support;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use anatase_client::{
    BeginFuture, CommitFuture, Config, ErrorKind, OperationFuture, RawClient, Snapshot,
    Transaction, TransactionClient, TransactionReadFuture, Value,
};
use anatase_cluster::{Fault, Loss, On};
use anatase_proto::rpc::Rpc;
use support::embedded::*;
use support::*;

#[test]
fn everything_crosses_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    fn cloned<T: Clone>() {}
    // `R` needs to be nothing of the kind.
    struct Anything(std::marker::PhantomData<*const ()>);
    let _ = Anything(std::marker::PhantomData);
    shared::<RawClient<Anything>>();
    shared::<TransactionClient<Anything>>();
    shared::<Snapshot>();
    shared::<Transaction>();
    cloned::<RawClient<Anything>>();
    cloned::<TransactionClient<Anything>>();
    cloned::<Snapshot>();
    sent::<OperationFuture<Option<Value>>>();
    sent::<BeginFuture>();
    sent::<CommitFuture>();
    sent::<TransactionReadFuture<'static, Vec<Value>>>();
}

#[test]
fn futures_stay_small() {
    let sizes = [
        ("get", size_of::<OperationFuture<Option<Value>>>()),
        ("begin", size_of::<BeginFuture>()),
        ("commit", size_of::<CommitFuture>()),
        ("read", size_of::<TransactionReadFuture<'static, Option<Value>>>()),
    ];
    for (what, size) in sizes {
        assert!(size <= 352, "{what}: {size} bytes");
    }
}

#[tokio::test]
async fn dropping_the_last_handle_leaves_no_task_and_no_socket() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    let other = client.clone();
    client.put("k", "v").await.unwrap();
    drop(client);
    assert_eq!(other.get("k").await.unwrap().unwrap(), "v");
    drop(other);
    runtime.drained().await;
}

#[tokio::test]
async fn a_future_keeps_the_client_alive() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    let put = client.put("k", "v").into_future();
    let get = client.get("k").into_future();
    drop(client);
    put.await.unwrap();
    assert_eq!(get.await.unwrap().unwrap(), "v");
    runtime.drained().await;
}

#[tokio::test]
async fn a_transaction_keeps_the_client_alive() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    let txn = client.begin_optimistic().await.unwrap();
    drop(client);
    txn.put("k", "v").await.unwrap();
    txn.commit().await.unwrap().unwrap();
    runtime.drained().await;
}

#[tokio::test]
async fn closing_ends_what_is_under_way_and_refuses_what_comes() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    server.with(|cluster| {
        cluster.faults().always(On::rpc(Rpc::RawGet), Fault::DropRequest(Loss::Silent));
    });
    let get = tokio::spawn(client.get("k").into_future());
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.close().await;
    assert_eq!(get.await.unwrap().unwrap_err().kind(), &ErrorKind::Closed);
    let error = client.put("k", "v").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    assert!(!error.is_undetermined(), "it was not even tried");
    client.close().await;
    runtime.drained().await;
}

#[tokio::test]
async fn closing_waits_for_commits() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    server.with(|cluster| {
        let slow = Fault::Delay(Duration::from_millis(100));
        cluster.faults().always(On::rpc(Rpc::KvPrewrite), slow.clone());
        cluster.faults().always(On::rpc(Rpc::KvCommit), slow);
    });
    let txn = client.begin_optimistic().await.unwrap();
    txn.put("a", "1").await.unwrap();
    txn.put("z", "2").await.unwrap();
    let commit = tokio::spawn(txn.commit().into_future());
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.close().await;
    commit.await.unwrap().unwrap().unwrap();
    // Secondaries included: no lock is left.
    let reader = txn_client(&Counting::new(), &server).await;
    server.with(|cluster| cluster.faults().clear());
    let now = reader.current_timestamp().await.unwrap();
    assert_eq!(reader.snapshot(now).get("z").await.unwrap().unwrap(), "2");
    runtime.drained().await;
}

#[tokio::test]
async fn a_commit_goes_on_after_everybody_has_left() {
    let (runtime, server) = (Counting::new(), cluster().await);
    let client = txn_client(&runtime, &server).await;
    server.with(|cluster| {
        let slow = Fault::Delay(Duration::from_millis(50));
        cluster.faults().always(On::rpc(Rpc::KvPrewrite), slow.clone());
        cluster.faults().always(On::rpc(Rpc::KvCommit), slow);
    });
    let txn = client.begin_optimistic().await.unwrap();
    txn.put("a", "1").await.unwrap();
    txn.put("z", "2").await.unwrap();
    {
        let mut commit = pin!(txn.commit().into_future());
        let _ = tokio::time::timeout(Duration::from_millis(75), commit.as_mut()).await;
    }
    drop(client);
    runtime.drained().await;
    let reader = txn_client(&Counting::new(), &server).await;
    let now = reader.current_timestamp().await.unwrap();
    let values = reader.snapshot(now).batch_get(["a", "z"]).await.unwrap();
    assert_eq!(values[0].is_some(), values[1].is_some(), "{values:?}");
}

#[test]
fn when_the_runtime_ends_nobody_waits_for_ever() {
    let rt =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, server) = rt.block_on(async {
        let server = raw_cluster().await;
        let client = raw_client(&Counting::new(), &server).await;
        (client, server)
    });
    server.with(|cluster| {
        cluster.faults().always(On::rpc(Rpc::RawPut), Fault::DropRequest(Loss::Silent));
    });
    let waiting = client.put("k", "v").into_future();
    let waiter = std::thread::spawn(move || block_on(waiting));
    std::thread::sleep(Duration::from_millis(100));
    drop(rt);
    let error = waiter.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    assert!(error.is_undetermined(), "it may have been written");
    let error = block_on(client.get("k").into_future()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Closed);
    // Dropped where no runtime is.
    drop(client);
}

/// Runs a future on a thread that belongs to no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_foreign_threads_are_all_woken() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    let done = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let (client, done) = (client.clone(), done.clone());
            std::thread::spawn(move || {
                for n in 0..200 {
                    let key = format!("{t}-{}", n % 7);
                    let value = n.to_string();
                    block_on(client.put(&key, &value).into_future()).unwrap();
                    let got = block_on(client.get(&key).into_future()).unwrap();
                    assert_eq!(got.unwrap(), value);
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(move || threads.into_iter().for_each(|t| t.join().unwrap()))
        .await
        .unwrap();
    assert_eq!(done.load(Ordering::SeqCst), 800);
    drop(client);
    runtime.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_futures_at_any_time_leaves_nothing_behind() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    client.put("k", "v").await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..400_u64 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let patience = Duration::from_micros(n * 7 % 1500);
            let _ = tokio::time::timeout(patience, client.get("k").into_future()).await;
            client.get("k").await.unwrap().unwrap()
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), "v");
    }
    drop(client);
    runtime.drained().await;
}

#[tokio::test]
async fn too_many_operations_are_refused_not_queued() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let config = Config::default().with_max_operations(2);
    let client = RawClient::<()>::new_on(runtime, server.pd_addresses(), config).await.unwrap();
    server.with(|cluster| {
        cluster.faults().always(On::rpc(Rpc::RawGet), Fault::DropRequest(Loss::Silent));
    });
    let waiting = [(); 2].map(|()| tokio::spawn(client.get("k").into_future()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = client.get("k").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Overloaded);
    waiting.iter().for_each(|task| task.abort());
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.with(|cluster| cluster.faults().clear());
    assert_eq!(client.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_finished_future_that_is_polled_again_is_an_error_not_a_panic() {
    let (runtime, server) = (Counting::new(), raw_cluster().await);
    let client = raw_client(&runtime, &server).await;
    let mut get = client.get("k").into_future();
    assert_eq!((&mut get).await.unwrap(), None);
    assert_eq!((&mut get).await.unwrap_err().kind(), &ErrorKind::InvalidArgument);
}
