//! The raw API end to end: client, core, real gRPC, embedded cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anatase::{ErrorKind, KvPair, RawClient};
use anatase_cluster::{Fault, Loss, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::{Dice, bounded, serve};

async fn client(server: &anatase_cluster::serve::Server) -> RawClient {
    RawClient::new([server.pd_address()]).await.expect("a client")
}

fn key(n: u64) -> String {
    format!("k{n:03}")
}

/// peers.md D1, D2: scans in both directions, over any bounds and limits, give what a sorted map
/// gives, before and after splits, merges and moves of leaders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_d2_scans_equal_a_model() {
    bounded(async {
        let server = serve(3, &["k020", "k050"]).await;
        let client = client(&server).await;
        let mut model = BTreeMap::new();
        let mut dice = Dice::new(1);
        for round in 0..12 {
            for _ in 0..25 {
                let key = key(dice.below(100));
                if dice.chance(1, 4) {
                    model.remove(&key);
                    client.delete(key).await.unwrap();
                } else {
                    let value = format!("v{round}");
                    model.insert(key.clone(), value.clone());
                    client.put(key, value).await.unwrap();
                }
            }
            for _ in 0..25 {
                check_scan(&client, &model, &mut dice).await;
            }
            server.with(|cluster| {
                match dice.below(3) {
                    0 => {
                        cluster.split_raw(key(dice.below(100)));
                    }
                    1 => {
                        cluster.split(key(dice.below(100)));
                    }
                    _ => {
                        let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
                        let at = dice.below(regions.len() as u64) as usize;
                        if let Some(next) = regions.get(at + 1) {
                            cluster.merge(regions[at], *next);
                        }
                    }
                }
                let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
                for region in regions {
                    cluster.transfer_leader(region, 1 + dice.below(3));
                }
            });
        }
        client.close().await;
        server.shutdown().await;
    })
    .await;
}

async fn check_scan(client: &RawClient, model: &BTreeMap<String, String>, dice: &mut Dice) {
    let (a, b) = (key(dice.below(110)), key(dice.below(110)));
    let limit = 1 + dice.below(60) as u32;
    let told = |pairs: Vec<KvPair>| -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        pairs.iter().map(|KvPair(key, value)| (text(key.as_ref()), text(value))).collect()
    };
    let within = |key: &String| a < b && *key >= a && *key < b;
    let bounded: Vec<(String, String)> =
        model.iter().filter(|(key, _)| within(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let range = a.clone()..b.clone();
    let forward: Vec<_> = bounded.iter().take(limit as usize).cloned().collect();
    let backward: Vec<_> = bounded.iter().rev().take(limit as usize).cloned().collect();
    assert_eq!(
        told(client.scan(range.clone(), limit).await.unwrap()),
        forward,
        "{range:?} {limit}"
    );
    let reverse = client.scan_reverse(range.clone(), limit).await.unwrap();
    assert_eq!(told(reverse), backward, "{range:?} {limit}");
    let keys = client.scan_keys(range, limit).await.unwrap();
    let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
    assert_eq!(keys, forward.iter().map(|(key, _)| key.as_bytes()).collect::<Vec<_>>());
    let all: Vec<_> = model.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(told(client.scan(.., 200).await.unwrap()), all);
    let down: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(told(client.scan_reverse(.., 200).await.unwrap()), down);
    let from: Vec<_> = all.iter().filter(|(key, _)| *key >= a).cloned().collect();
    assert_eq!(told(client.scan(a.clone().., 200).await.unwrap()), from);
}

#[tokio::test]
async fn batches_over_regions_keep_their_order() {
    bounded(async {
        let server = serve(3, &["g", "p"]).await;
        let client = client(&server).await;
        let pairs: Vec<(String, String)> =
            ('a'..='z').map(|c| (c.to_string(), format!("value {c}"))).collect();
        client.batch_put(pairs).await.unwrap();
        let found = client.batch_get(["z", "a", "nothing", "m", "z"]).await.unwrap();
        let found: Vec<Option<&[u8]>> = found.iter().map(|value| value.as_deref()).collect();
        let value = |text: &'static str| Some(text.as_bytes());
        let expected =
            [value("value z"), value("value a"), None, value("value m"), value("value z")];
        assert_eq!(found, expected);
        client.batch_delete(["a", "m", "not there"]).await.unwrap();
        assert_eq!(client.get("a").await.unwrap(), None);
        assert_eq!(client.scan_keys(.., 100).await.unwrap().len(), 24);
        // Of several values for one key the last counts, also over the limit of a request.
        let many: Vec<(String, String)> =
            (0..2_000).map(|n| (format!("b{:03}", n % 500), format!("{n}"))).collect();
        client.batch_put(many).await.unwrap();
        assert_eq!(client.get("b007").await.unwrap().as_deref(), Some(&b"1507"[..]));
        let keys: Vec<String> = (0..1_500).map(|n| format!("b{n:03}")).collect();
        let found = client.batch_get(keys).await.unwrap();
        assert_eq!(found.iter().filter(|value| value.is_some()).count(), 500);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_empty_value_is_a_value_and_column_families_are_apart() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = client(&server).await;
        client.put("k", "").await.unwrap();
        assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(client.get("k").cf("write").await.unwrap(), None);
        let write = client.with_cf("write");
        write.put("k", "other").await.unwrap();
        assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(write.get("k").await.unwrap().as_deref(), Some(&b"other"[..]));
        let refused = client.get("k").cf("nonsense").await.unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::Refused, "{refused}");
        client.close().await;
    })
    .await;
}

/// What makes no sense is defined: an error, or nothing, and never a request.
#[tokio::test]
async fn bad_input() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = client(&server).await;
        client.put("a", "1").await.unwrap();
        let asked = |server: &anatase_cluster::serve::Server| {
            server.with(|cluster| {
                cluster.faults().next(On::rpc(Rpc::RawScan), RegionFault::StaleCommand)
            });
        };
        asked(&server);
        assert_eq!(client.scan(.., 0).await.unwrap(), vec![]);
        assert_eq!(client.scan("b".."a", 9).await.unwrap(), vec![]);
        assert_eq!(client.scan("a".."a", 9).await.unwrap(), vec![]);
        assert_eq!(client.scan_reverse("b".."a", 9).await.unwrap(), vec![]);
        assert_eq!(client.batch_get(Vec::<String>::new()).await.unwrap(), vec![]);
        client.batch_put(Vec::<(String, String)>::new()).await.unwrap();
        client.batch_delete(Vec::<String>::new()).await.unwrap();
        let error = client.scan(.., 10_241).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidArgument, "{error}");
        assert_eq!(client.scan(.., 10_240).await.unwrap().len(), 1);
        // The server's own limits, in its own words.
        let long = client.put("k".repeat(9 << 10), "v").await.unwrap_err();
        assert_eq!(long.kind(), &ErrorKind::Refused, "{long}");
        assert!(long.to_string().contains("max key size exceeded"), "{long}");
        let large = client.put("k", "v".repeat(9 << 20)).await.unwrap_err();
        assert_eq!(large.kind(), &ErrorKind::TooLarge, "{large}");
        assert!(!large.is_undetermined());
        client.close().await;
        let closed = client.get("a").await.unwrap_err();
        assert_eq!(closed.kind(), &ErrorKind::Closed);
    })
    .await;
}

/// A wrong address, a silent one, and one where something else lives: an error within the deadline,
/// with the address in it.
#[tokio::test]
async fn pd_addresses_that_are_wrong() {
    bounded(async {
        let quick = anatase::Config::default().with_startup_timeout(Duration::from_millis(700));
        let free = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = serve(1, &[]).await;
        let store = server.store_address(1).unwrap();
        let silent_address = silent.local_addr().unwrap().to_string();
        for address in [free, silent_address, store, "no.such.host.invalid:1".to_owned()] {
            let begun = Instant::now();
            let error =
                RawClient::new_with_config([address.clone()], quick.clone()).await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::PdUnavailable, "{error}");
            assert!(error.to_string().contains(&address), "{address} in {error}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{address}: {:?}", begun.elapsed());
        }
        for nonsense in ["no such host:1", "nonsense", "host:port"] {
            let error = RawClient::new([nonsense]).await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(nonsense), "{nonsense} in {error}");
        }
        let none = RawClient::new(Vec::<String>::new()).await.unwrap_err();
        assert_eq!(none.kind(), &ErrorKind::InvalidArgument);
        // One good address among bad ones is enough.
        let mixed = ["127.0.0.1:1".to_owned(), server.pd_address()];
        let client = RawClient::new(mixed).await.unwrap();
        client.put("a", "1").await.unwrap();
        client.close().await;
    })
    .await;
}

/// A store is killed under load, its regions elect other leaders, it comes back: no operation fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_and_restarted_store_is_survived() {
    bounded(async {
        let server = serve(3, &["k03", "k06"]).await;
        let client = client(&server).await;
        let load: Vec<_> = (0..4)
            .map(|worker: u64| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut dice = Dice::new(worker);
                    for n in 0..150_u64 {
                        let key = format!("k{:02}-{worker}", dice.below(10));
                        client.put(key.clone(), n.to_string()).await?;
                        let read = client.get(key).await?;
                        assert_eq!(read.as_deref(), Some(n.to_string().as_bytes()));
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Ok::<(), anatase::Error>(())
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.stop_store(1);
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.with(|cluster| cluster.elect_leaders());
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.start_store(1).await.unwrap();
        server.with(|cluster| {
            let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
            for region in regions {
                cluster.transfer_leader(region, 1);
            }
        });
        for worker in load {
            worker.await.unwrap().unwrap();
        }
        client.close().await;
    })
    .await;
}

/// A connection that breaks in the middle of a read is retried within the deadline; one that breaks
/// in the middle of a write, too, since a put can be repeated.
#[tokio::test]
async fn a_lost_answer_is_retried() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.put("a", "1").await.unwrap();
        for loss in [Fault::DropResponse(Loss::Reset), Fault::DropRequest(Loss::Reset)] {
            server.with(|cluster| cluster.faults().next(On::rpc(Rpc::RawGet), loss.clone()));
            assert_eq!(client.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
            server.with(|cluster| cluster.faults().next(On::rpc(Rpc::RawPut), loss));
            client.put("a", "1").await.unwrap();
        }
        client.close().await;
    })
    .await;
}

/// A write whose answers are all lost ends at its deadline, in doubt; a read is never in doubt.
#[tokio::test]
async fn a_write_without_any_answer_is_in_doubt() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.get("a").await.unwrap();
        let deadline = Duration::from_millis(400);
        for rpc in [Rpc::RawPut, Rpc::RawGet] {
            let lost = Fault::DropResponse(Loss::Reset);
            server.with(|cluster| cluster.faults().always(On::rpc(rpc), lost));
            let begun = Instant::now();
            let error = if rpc == Rpc::RawPut {
                client.put("a", "2").timeout(deadline).await.unwrap_err()
            } else {
                client.get("a").timeout(deadline).await.map(drop).unwrap_err()
            };
            assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded, "{error}");
            assert_eq!(error.is_undetermined(), rpc == Rpc::RawPut, "{error}");
            let took = begun.elapsed();
            assert!(took >= deadline && took < deadline + Duration::from_millis(150), "{took:?}");
            server.with(|cluster| cluster.faults().clear());
        }
        assert_eq!(client.get("a").await.unwrap().as_deref(), Some(&b"2"[..]));
        client.close().await;
    })
    .await;
}

/// A dropped future withdraws its request; the client goes on.
#[tokio::test]
async fn dropping_a_future_cancels_the_operation() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = client(&server).await;
        client.put("a", "1").await.unwrap();
        let slow = Fault::Delay(Duration::from_secs(20));
        server.with(|cluster| cluster.faults().next(On::rpc(Rpc::RawGet), slow));
        let get = client.get("a").into_future();
        assert!(tokio::time::timeout(Duration::from_millis(100), get).await.is_err());
        assert_eq!(client.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
        let begun = Instant::now();
        client.close().await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    })
    .await;
}

/// peers.md D19: whatever passes by itself is waited for, on every replica and for every kind of error,
/// instead of being handed to the caller at first sight.
#[tokio::test]
async fn d19_what_passes_is_waited_for() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.put("a", "1").await.unwrap();
        let reason = String::new;
        let faults = [
            RegionFault::MaxTimestampNotSynced,
            RegionFault::ReadIndexNotReady { reason: reason() },
            RegionFault::ProposalInMergingMode,
            RegionFault::RegionNotInitialized,
            RegionFault::DiskFull { reason: reason() },
            RegionFault::RecoveryInProgress,
            RegionFault::StaleCommand,
            RegionFault::DataIsNotReady { safe_ts: 1 },
            RegionFault::RegionNotFound,
            RegionFault::NotLeader { leader: None },
            RegionFault::EpochNotMatch { with_regions: false },
            RegionFault::BucketVersionNotMatch { version: 1, keys: vec![] },
            RegionFault::MismatchPeerId { store_peer: 9 },
            RegionFault::StoreNotMatch { wanted: 9 },
            RegionFault::Unknown { message: "what nobody has heard of".into() },
            RegionFault::busy("scheduler is busy"),
            RegionFault::IsWitness,
        ];
        for fault in faults {
            server.with(|cluster| cluster.faults().next(On::rpc(Rpc::RawGet), fault.clone()));
            let value =
                client.get("a").await.unwrap_or_else(|error| panic!("{fault:?}: {error:?}"));
            assert_eq!(value.as_deref(), Some(&b"1"[..]), "{fault:?}");
            let struck = server.with(|cluster| cluster.faults().rules().is_empty());
            assert!(struck, "{fault:?} was met");
        }
        client.close().await;
    })
    .await;
}
