//! Locks that clients left behind, end to end: client, core, real gRPC, embedded cluster.
//!
//! The dead clients are played by hand: their requests go straight to the stores, up to where they
//! died.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::time::{Duration, Instant};

use anatase::{ErrorKind, LockKind, ResolveLocksOptions, Timestamp, TransactionClient, TxnState};
use anatase_cluster::serve::Server;
use anatase_cluster::{Cluster, Fault, On, StoreCall};
use anatase_proto::kvrpcpb::{Context, KeyError, Mutation, Op, PrewriteRequest, PrewriteResponse};
use anatase_proto::rpc::Rpc;
use anatase_tests::{Dice, bounded, serve};
use bytes::Bytes;

async fn client(server: &Server) -> TransactionClient {
    TransactionClient::new([server.pd_address()]).await.expect("a client")
}

async fn read(client: &TransactionClient, key: &str) -> Option<String> {
    let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
    let value = snapshot.get(key).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn put(client: &TransactionClient, key: &str, value: &str) {
    let txn = client.begin_optimistic().await.unwrap();
    txn.put(key, value).await.unwrap();
    txn.commit().await.unwrap();
}

/// Asks the leader of a key's region.
fn ask<R: StoreCall>(
    cluster: &mut Cluster,
    key: &str,
    request: impl FnOnce(Option<Box<Context>>) -> R,
) -> R::Response {
    let region = cluster.region_of(key.as_bytes()).unwrap().id;
    let store = cluster.leader_of(region).unwrap();
    let context = cluster.context_for(region);
    cluster.call(store, request(Some(Box::new(context)))).result.unwrap()
}

/// A transaction of a client that is about to die.
#[derive(Clone)]
struct Doomed {
    start_ts: u64,
    /// The primary first.
    keys: Vec<String>,
    ttl: u64,
}

impl Doomed {
    fn begin(server: &Server, keys: &[&str], ttl: u64) -> Self {
        let start_ts = server.with(|cluster| cluster.timestamp());
        Self { start_ts, keys: keys.iter().map(|key| (*key).into()).collect(), ttl }
    }

    fn name(&self) -> Timestamp {
        Timestamp::from_version(self.start_ts).unwrap()
    }

    /// Prewrites one of the keys.
    fn prewrite(&self, server: &Server, key: &str, use_async_commit: bool) -> PrewriteResponse {
        let bytes = |key: &String| Bytes::copy_from_slice(key.as_bytes());
        let primary = self.keys[0] == key;
        let mutation = Mutation {
            op: Op::Put.into(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from(format!("by {}", self.start_ts)),
            ..Default::default()
        };
        server.with(|cluster| {
            ask(cluster, key, |context| PrewriteRequest {
                context,
                mutations: vec![mutation],
                primary_lock: bytes(&self.keys[0]),
                start_version: self.start_ts,
                lock_ttl: self.ttl,
                txn_size: self.keys.len() as u64,
                min_commit_ts: self.start_ts + 1,
                use_async_commit,
                secondaries: match use_async_commit && primary {
                    true => self.keys[1..].iter().map(bytes).collect(),
                    false => Vec::new(),
                },
                ..Default::default()
            })
        })
    }

    fn lock(&self, server: &Server, keys: &[&str], use_async_commit: bool) -> u64 {
        let mut min_commit_ts = 0;
        for key in keys {
            let response = self.prewrite(server, key, use_async_commit);
            assert_eq!(response.errors, Vec::<KeyError>::new(), "{key}");
            min_commit_ts = min_commit_ts.max(response.min_commit_ts);
        }
        min_commit_ts
    }

    fn value(&self) -> Option<String> {
        Some(format!("by {}", self.start_ts))
    }
}

/// Locks may be cleaned up a little after whoever met them has gone on.
async fn until_clean(server: &Server) {
    while server.with(|cluster| cluster.locks().len()) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const KEYS: [&str; 4] = ["a", "b", "h", "z"];

/// transactions.md §16.3: every key was locked, so it was committed, though nobody has written it down.
#[tokio::test]
async fn an_async_commit_of_a_dead_client_is_recovered() {
    bounded(async {
        let server = serve(3, &["g", "p"]).await;
        let client = client(&server).await;
        let doomed = Doomed::begin(&server, &KEYS, 1);
        let committed = doomed.lock(&server, &KEYS, true);
        assert!(committed > doomed.start_ts);
        tokio::time::sleep(Duration::from_millis(5)).await;
        for key in ["z", "a", "h", "b"] {
            assert_eq!(read(&client, key).await, doomed.value(), "{key}");
        }
        until_clean(&server).await;
        // At the very timestamp that the locks agreed upon.
        let at = |version| client.snapshot(Timestamp::from_version(version).unwrap());
        assert_eq!(at(committed - 1).get("z").await.unwrap(), None);
        assert!(at(committed).get("z").await.unwrap().is_some());
        let state = client.transaction_status(doomed.name(), "a").await.unwrap();
        let at = Timestamp::from_version(committed).unwrap();
        assert_eq!(state, TxnState::Committed { at });
        client.close().await;
    })
    .await;
}

/// §16.3: a key was not locked, so it was not committed, and never will be.
#[tokio::test]
async fn an_async_commit_that_was_not_finished_is_rolled_back() {
    bounded(async {
        let server = serve(3, &["g", "p"]).await;
        let client = client(&server).await;
        put(&client, "a", "old").await;
        let doomed = Doomed::begin(&server, &KEYS, 1);
        doomed.lock(&server, &["b", "a", "z"], true);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(read(&client, "a").await.as_deref(), Some("old"));
        assert_eq!(read(&client, "z").await, None);
        // Not even if the last prewrite was only late.
        let late = doomed.prewrite(&server, "h", true);
        assert!(!late.errors.is_empty(), "{late:?}");
        let txn = client.begin_optimistic().await.unwrap();
        for key in KEYS {
            txn.put(key, "next").await.unwrap();
        }
        txn.commit().await.unwrap();
        client.close().await;
        until_clean(&server).await;
    })
    .await;
}

/// §22.15: a transaction that is alive is waited for: to ask its secondaries would roll it back.
#[tokio::test]
async fn an_async_commit_within_its_time_is_left_alone() {
    bounded(async {
        let server = serve(3, &["g", "p"]).await;
        let client = client(&server).await;
        let begun = Instant::now();
        let doomed = Doomed::begin(&server, &KEYS, 1_500);
        doomed.lock(&server, &["a", "b", "z"], true);
        let reader = client.clone();
        let waits = tokio::spawn(async move { read(&reader, "a").await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(server.with(|cluster| cluster.calls(Rpc::KvCheckSecondaryLocks)), 0);
        // It was not dead, only slow.
        doomed.lock(&server, &["h"], true);
        assert_eq!(waits.await.unwrap(), doomed.value());
        assert!(begun.elapsed() >= Duration::from_millis(1_490), "{:?}", begun.elapsed());
        assert_eq!(read(&client, "h").await, doomed.value());
        client.close().await;
        until_clean(&server).await;
    })
    .await;
}

/// §22.16: a lock that is not async says that the transaction has fallen back to two phases; then its
/// primary decides.
#[tokio::test]
async fn an_async_commit_that_fell_back_is_decided_by_its_primary() {
    bounded(async {
        let server = serve(3, &["g", "p"]).await;
        let client = client(&server).await;
        let doomed = Doomed::begin(&server, &KEYS, 1);
        doomed.lock(&server, &["a", "b", "h"], true);
        doomed.lock(&server, &["z"], false);
        tokio::time::sleep(Duration::from_millis(5)).await;
        for key in KEYS {
            assert_eq!(read(&client, key).await, None, "{key}");
        }
        let state = client.transaction_status(doomed.name(), "a").await.unwrap();
        assert_eq!(state, TxnState::RolledBack);
        client.close().await;
        until_clean(&server).await;
    })
    .await;
}

/// §18: page by page over regions, and only what is old enough.
#[tokio::test]
async fn locks_are_scanned_and_cleaned_up() {
    bounded(async {
        let server = serve(3, &["g", "p"]).await;
        let client = client(&server).await;
        // None of them is dead yet: garbage collection does not wait.
        let plain = Doomed::begin(&server, &["c", "i", "y"], 60_000);
        plain.lock(&server, &["c", "i", "y"], false);
        let done = Doomed::begin(&server, &KEYS, 60_000);
        done.lock(&server, &KEYS, true);
        let half = Doomed::begin(&server, &["d", "j", "x"], 60_000);
        half.lock(&server, &["d", "x"], true);
        let safepoint = client.current_timestamp().await.unwrap();
        let young = Doomed::begin(&server, &["e"], 60_000);
        young.lock(&server, &["e"], false);

        let locks = client.scan_locks(safepoint, .., 100).await.unwrap();
        let found: Vec<(&[u8], Timestamp)> =
            locks.iter().map(|lock| (lock.key.as_ref(), lock.start_timestamp)).collect();
        let (p, d, h) = (plain.name(), done.name(), half.name());
        let all: [(&[u8], Timestamp); 9] = [
            (b"a", d),
            (b"b", d),
            (b"c", p),
            (b"d", h),
            (b"h", d),
            (b"i", p),
            (b"x", h),
            (b"y", p),
            (b"z", d),
        ];
        assert_eq!(found, all);
        assert_eq!(locks[0].primary, "a");
        assert_eq!((locks[0].kind, locks[0].use_async_commit), (LockKind::Put, true));
        assert_eq!(locks[2].ttl, Duration::from_secs(60));
        let some = client.scan_locks(safepoint, "b".."y", 3).await.unwrap();
        let some: Vec<&[u8]> = some.iter().map(|lock| lock.key.as_ref()).collect();
        assert_eq!(some, [b"b", b"c", b"d"]);

        // Only the async ones of one region, two locks at a time.
        let options = ResolveLocksOptions::default().async_commit_only().batch_size(2);
        let cleaned = client.cleanup_locks(.."g", safepoint, options).await.unwrap();
        assert_eq!((cleaned.locks, cleaned.regions), (3, 1));
        assert_eq!(read(&client, "a").await, done.value());
        // The rest.
        let options = ResolveLocksOptions::default();
        let cleaned = client.cleanup_locks(.., safepoint, options.clone()).await.unwrap();
        assert_eq!((cleaned.locks, cleaned.regions), (6, 3));
        let left = server.with(|cluster| cluster.locks());
        let left: Vec<u64> = left.iter().map(|lock| lock.start_ts).collect();
        assert_eq!(left, [young.start_ts]);
        for (key, value) in [("z", done.value()), ("x", None), ("y", None)] {
            assert_eq!(read(&client, key).await, value, "{key}");
        }
        let again = client.cleanup_locks(.., safepoint, options).await.unwrap();
        assert_eq!((again.locks, again.regions), (0, 3));
        client.close().await;
    })
    .await;
}

/// A region splits, and its leader moves, while its locks are cleaned up.
#[tokio::test]
async fn locks_are_cleaned_up_through_splits() {
    bounded(async {
        let server = serve(3, &["m"]).await;
        let client = client(&server).await;
        let keys: Vec<String> = (0..60).map(|n| format!("k{n:02}")).collect();
        for key in &keys {
            let doomed = Doomed::begin(&server, &[key], 60_000);
            doomed.lock(&server, &[key], false);
        }
        let safepoint = client.current_timestamp().await.unwrap();
        let slow = Fault::Delay(Duration::from_millis(5));
        server.with(|cluster| cluster.faults().always(On::rpc(Rpc::KvResolveLock), slow));
        let options = ResolveLocksOptions::default().batch_size(7);
        let cleaning = {
            let client = client.clone();
            let cleaning = client.cleanup_locks(.., safepoint, options).into_future();
            tokio::spawn(cleaning)
        };
        for (n, at) in ["k10", "k25", "k40", "k55"].into_iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(7)).await;
            server.with(|cluster| {
                let region = cluster.split(at).expect("a region to split");
                let store = cluster.stores().nth(n % 3).expect("a store").id;
                cluster.transfer_leader(region, store);
            });
        }
        let cleaned = cleaning.await.unwrap().unwrap();
        assert!(cleaned.locks >= 60, "{cleaned:?}");
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0);
        client.close().await;
    })
    .await;
}

/// §16.6: what is resolved, and for whom.
#[tokio::test]
async fn what_is_being_resolved_can_be_seen() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = client(&server).await;
        let doomed = Doomed::begin(&server, &["p", "a"], 1);
        doomed.lock(&server, &["p", "a"], false);
        let slow = Fault::Delay(Duration::from_millis(300));
        server.with(|cluster| cluster.faults().next(On::rpc(Rpc::KvCheckTxnStatus), slow));
        assert_eq!(client.resolving_locks(), []);
        let reader = client.clone();
        let waits = tokio::spawn(async move { read(&reader, "a").await });
        let seen = loop {
            let mut seen = client.resolving_locks();
            match seen.pop() {
                Some(seen) => break seen,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        assert_eq!((seen.start_timestamp, seen.primary), (doomed.name(), "p".into()));
        assert_eq!(seen.waiters.len(), 1);
        assert_eq!(seen.waiters[0].0, "a");
        assert!(seen.waiters[0].1.is_some_and(|at| at > doomed.name()));
        assert_eq!(waits.await.unwrap(), None);
        client.close().await;
        assert_eq!(server.with(|cluster| cluster.locks().len()), 0, "close has waited for it");
    })
    .await;
}

/// §23.3.
#[tokio::test]
async fn the_status_of_a_transaction_is_told() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = client(&server).await;
        let alive = Doomed::begin(&server, &["p", "a"], 60_000);
        alive.lock(&server, &["p", "a"], false);
        let state = client.transaction_status(alive.name(), "p").await.unwrap();
        assert_eq!(state, TxnState::Alive { ttl: Duration::from_secs(60), pushed: false });
        let error = client.transaction_status(alive.name(), "a").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Refused);
        // Not there: it is kept from ever being.
        let late = Doomed::begin(&server, &["q"], 60_000);
        let state = client.transaction_status(late.name(), "q").await.unwrap();
        assert_eq!(state, TxnState::RolledBack);
        assert!(!late.prewrite(&server, "q", false).errors.is_empty());
        client.close().await;
    })
    .await;
}

/// cases PRP-10, PRP-23: clients die at any step of async commits and of two-phase ones, on keys of
/// several regions; two clients that meet the locks in different orders see all or nothing of each, and
/// agree.
#[tokio::test]
async fn readers_agree_on_what_dead_clients_have_done() {
    bounded(async {
        let server = serve(3, &["k2", "k4", "k6"]).await;
        let clients = [client(&server).await, client(&server).await];
        let mut dice = Dice::new(20);
        for round in 0..60 {
            // Each round has keys of its own, so that locks of one are not in the way of the next.
            let many = 1 + dice.below(5);
            let mut keys: Vec<String> = (0..many)
                .map(|_| format!("k{}/{round}/{}", dice.below(8), dice.below(9)))
                .collect();
            keys.sort_unstable();
            keys.dedup();
            let names: Vec<&str> = keys.iter().map(String::as_str).collect();
            let doomed = Doomed::begin(&server, &names, 1);
            // The client dies before, or between, or after its prewrites; sometimes it falls back.
            let uses_async = dice.chance(4, 5);
            let dies_at = dice.below(keys.len() as u64 + 2);
            let falls_back_at = if dice.chance(1, 4) { dice.below(many) } else { many };
            let mut landed = 0;
            let mut fell_back = !uses_async;
            for (n, key) in names.iter().enumerate().take(dies_at as usize) {
                fell_back |= n as u64 >= falls_back_at;
                doomed.lock(&server, &[key], !fell_back);
                landed += 1;
            }
            let committed = !fell_back && landed == keys.len();
            tokio::time::sleep(Duration::from_millis(2)).await;
            let mut order = keys.clone();
            let read_all = |client: TransactionClient, order: Vec<String>| {
                tokio::spawn(async move {
                    let mut seen = BTreeMap::new();
                    for key in order {
                        let value = read(&client, &key).await;
                        seen.insert(key, value);
                    }
                    seen
                })
            };
            let one = read_all(clients[0].clone(), order.clone());
            order.reverse();
            let two = read_all(clients[1].clone(), order);
            let (one, two) = (one.await.unwrap(), two.await.unwrap());
            assert_eq!(one, two, "round {round}");
            let expected = if committed { doomed.value() } else { None };
            for (key, value) in one {
                assert_eq!(value, expected, "{key} in round {round}");
            }
        }
        for client in clients {
            client.close().await;
        }
        until_clean(&server).await;
    })
    .await;
}
