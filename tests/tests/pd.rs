//! PD end to end: leaders that die, ways that are cut, members that say nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anatase::{Config, ErrorKind, RawClient, Timestamp, TransactionClient};
use anatase_cluster::serve::{ServeOptions, Server};
use anatase_cluster::{ClusterConfig, Fault, Loss, On, PdFault};
use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;
use anatase_tests::bounded;

async fn serve(members: usize, keys: &[&str]) -> Server {
    let cluster = ClusterConfig::default().pd_members(members).split_keys(keys).build();
    Server::start(cluster, ServeOptions::default()).await.expect("a cluster on loopback")
}

async fn transactional(server: &Server, config: Config) -> TransactionClient {
    TransactionClient::new_with_config([server.pd_address()], config).await.expect("a client")
}

async fn raw(server: &Server, config: Config) -> RawClient {
    RawClient::new_with_config([server.pd_address()], config).await.expect("a client")
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The client knows one address only. Its member, the leader, dies under load; members learn of the
/// others from each other, and another one is elected after a while: nothing fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_is_survived() {
    bounded(async {
        let server = serve(3, &["k3", "k6"]).await;
        let client = transactional(&server, Config::default()).await;
        let load: Vec<_> = (0..4)
            .map(|worker| {
                let client = client.clone();
                tokio::spawn(async move {
                    for n in 0..60 {
                        let txn = client.begin_optimistic().await?;
                        txn.put(format!("k{}-{worker}", n % 10), n.to_string()).await?;
                        txn.commit().await?;
                        tokio::time::sleep(ms(10)).await;
                    }
                    Ok::<_, anatase::Error>(())
                })
            })
            .collect();
        tokio::time::sleep(ms(150)).await;
        server.stop_pd_member(0);
        tokio::time::sleep(ms(300)).await;
        server.with(|cluster| cluster.transfer_pd_leader(2));
        tokio::time::sleep(ms(200)).await;
        // It moves while everybody lives, too.
        server.with(|cluster| cluster.transfer_pd_leader(1));
        for worker in load {
            worker.await.unwrap().unwrap();
        }
        client.close().await;
    })
    .await;
}

/// All of PD is gone for five seconds: what is cached is read as if nothing were, what needs PD waits
/// and ends well, without a restart of anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_seconds_without_pd_are_survived() {
    bounded(async {
        let server = serve(3, &["m"]).await;
        let client = transactional(&server, Config::default()).await;
        let txn = client.begin_optimistic().await.unwrap();
        txn.put("a", "1").await.unwrap();
        txn.commit().await.unwrap();
        let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
        assert!(snapshot.get("a").await.unwrap().is_some());
        for member in 0..3 {
            server.stop_pd_member(member);
        }
        let began = Instant::now();
        let waiting: Vec<_> = (0..8)
            .map(|n| {
                let (client, snapshot) = (client.clone(), snapshot.clone());
                tokio::spawn(async move {
                    if n % 2 == 0 {
                        client.current_timestamp().await.map(drop)
                    } else {
                        // A region that is not cached yet.
                        snapshot.get(format!("z{n}")).await.map(drop)
                    }
                })
            })
            .collect();
        let impatient = client.current_timestamp().timeout(ms(700)).await.unwrap_err();
        let kind = impatient.kind();
        assert!(
            matches!(kind, ErrorKind::PdUnavailable | ErrorKind::DeadlineExceeded),
            "{impatient}"
        );
        while began.elapsed() < Duration::from_secs(5) {
            let read = Instant::now();
            assert_eq!(snapshot.get("a").await.unwrap().as_deref(), Some(&b"1"[..]));
            assert!(read.elapsed() < ms(500), "{:?}", read.elapsed());
            tokio::time::sleep(ms(50)).await;
        }
        assert!(waiting.iter().all(|task| !task.is_finished()), "they wait for PD");
        for member in 0..3 {
            server.start_pd_member(member).await.unwrap();
        }
        server.with(|cluster| cluster.transfer_pd_leader(1));
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?}");
        client.close().await;
    })
    .await;
}

/// 32 tasks take timestamps while the leader moves: each is larger than every timestamp that anybody
/// had before it was asked for, and none is given twice.
async fn timestamps_stay_monotonic(config: Config) {
    let server = serve(3, &[]).await;
    let client = transactional(&server, config).await;
    let largest = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (client, largest) = (client.clone(), largest.clone());
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for _ in 0..120 {
                    let before = largest.load(Ordering::SeqCst);
                    let now = client.current_timestamp().await?.version();
                    assert!(now > before, "{now} after {before}");
                    largest.fetch_max(now, Ordering::SeqCst);
                    mine.push(now);
                    if mine.len() % 10 == 0 {
                        tokio::time::sleep(ms(20)).await;
                    }
                }
                Ok::<_, anatase::Error>(mine)
            })
        })
        .collect();
    let mut leader = 0;
    let mut moves = 0;
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(ms(30)).await;
        leader = (leader + 1) % 3;
        moves += 1;
        server.with(|cluster| cluster.transfer_pd_leader(leader));
    }
    let mut all = BTreeSet::new();
    let mut count = 0;
    for task in tasks {
        let mine = task.await.unwrap().unwrap();
        assert!(mine.windows(2).all(|pair| pair[0] < pair[1]));
        count += mine.len();
        all.extend(mine);
    }
    assert_eq!((all.len(), count), (32 * 120, 32 * 120));
    assert!(moves > 3, "{moves}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_stay_monotonic_while_leaders_move() {
    bounded(timestamps_stay_monotonic(Config::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_timestamps_stay_monotonic_while_leaders_move() {
    bounded(timestamps_stay_monotonic(Config::default().with_tso_concurrency(4))).await;
}

/// Each request waits for company, and goes through any member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxied_timestamps_stay_monotonic_while_leaders_move() {
    let config = Config::default()
        .with_tso_concurrency(4)
        .with_tso_max_wait(ms(2))
        .with_tso_follower_proxy(true);
    bounded(timestamps_stay_monotonic(config)).await;
}

/// With the follower proxy the leader alone answers, and followers pass on: one that cannot costs nobody
/// anything but a hop. A wait for company makes fewer requests of as many timestamps.
#[tokio::test]
async fn timestamps_wait_for_company_and_go_through_any_member() {
    bounded(async {
        let server = serve(3, &[]).await;
        let config = Config::default().with_tso_follower_proxy(true);
        let client = transactional(&server, config).await;
        let cut = Fault::Status(anatase_cluster::Status::new(
            anatase_cluster::Code::Unavailable,
            "cannot connect to the leader",
        ));
        server.with(|cluster| {
            cluster.faults().always(On::rpc(Rpc::PdTso).member(2), cut);
        });
        let mut last = client.current_timestamp().await.unwrap();
        for _ in 0..40 {
            let next = client.current_timestamp().await.unwrap();
            assert!(next > last);
            last = next;
        }
        // Left out for ten seconds after it failed once.
        assert_eq!(server.with(|cluster| cluster.faults().struck()), 1);
        client.close().await;

        let config = Config::default().with_tso_max_wait(ms(10));
        let client = transactional(&server, config).await;
        let before = server.with(|cluster| cluster.calls(Rpc::PdTso));
        for _ in 0..5 {
            let eight = (0..8).map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.current_timestamp().await.map(drop) })
            });
            for one in eight.collect::<Vec<_>>() {
                one.await.unwrap().unwrap();
            }
        }
        let asked = server.with(|cluster| cluster.calls(Rpc::PdTso)) - before;
        assert!(asked <= 10, "{asked} requests for 5 times 8");
        client.close().await;
    })
    .await;
}

/// The leader takes what it is sent and says nothing. With forwarding its health tells, and everything goes
/// through a follower before a call has used up its three seconds.
#[tokio::test]
async fn a_frozen_leader_is_found_out_by_its_health() {
    bounded(async {
        let server = serve(3, &["m"]).await;
        let config = Config::default().with_forwarding(true);
        let client =
            TransactionClient::new_with_config(server.pd_addresses(), config).await.unwrap();
        client.current_timestamp().await.unwrap();
        let silent = Fault::DropRequest(Loss::Silent);
        server.with(|cluster| cluster.faults().always(On::any().member(0), silent));
        let began = Instant::now();
        client.current_timestamp().await.unwrap();
        let took = began.elapsed();
        assert!(took > ms(900) && took < ms(2_700), "{took:?}");
        let began = Instant::now();
        client.current_timestamp().await.unwrap();
        assert!(began.elapsed() < ms(300), "{:?}", began.elapsed());
        client.close().await;
    })
    .await;
}

/// control-plane.md §14.1, init retries: an application may be started before its cluster. It waits, in
/// rounds; and where nothing comes, the error says how many there were.
#[tokio::test]
async fn a_start_while_pd_is_down_goes_on_trying() {
    bounded(async {
        let server = serve(3, &[]).await;
        let addresses = server.pd_addresses();
        for member in 0..3 {
            server.stop_pd_member(member);
        }
        let few = Config::default().with_startup_attempts(3, ms(50));
        let began = Instant::now();
        let error = TransactionClient::new_with_config(addresses.clone(), few).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PdUnavailable, "{error}");
        assert!(error.to_string().contains("in 3 rounds"), "{error}");
        assert!(addresses.iter().all(|it| error.to_string().contains(it)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

        let starting = tokio::spawn(TransactionClient::new(addresses));
        tokio::time::sleep(ms(1_500)).await;
        assert!(!starting.is_finished(), "it goes on trying");
        for member in 0..3 {
            server.start_pd_member(member).await.unwrap();
        }
        server.with(|cluster| cluster.transfer_pd_leader(1));
        let began = Instant::now();
        let client = starting.await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        client.current_timestamp().await.unwrap();
        client.close().await;
    })
    .await;
}

/// The way to the leader is cut, the leader leads on: with forwarding a follower passes everything on
/// to it, and when the way is free again it is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_is_asked_through_a_follower() {
    bounded(async {
        let server = serve(3, &["m"]).await;
        let addresses = server.pd_addresses();
        let config = Config::default().with_forwarding(true);
        let client = TransactionClient::new_with_config(addresses.clone(), config).await.unwrap();
        let direct = TransactionClient::new(addresses).await.unwrap();
        let before = client.current_timestamp().await.unwrap();
        direct.current_timestamp().await.unwrap();
        server.cut_off_pd_member(0);
        let began = Instant::now();
        let txn = client.begin_optimistic().await.unwrap();
        assert!(txn.start_timestamp() > before);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        // Both regions are looked up through the follower.
        txn.put("a", "1").await.unwrap();
        txn.put("z", "1").await.unwrap();
        txn.commit().await.unwrap();
        assert_eq!(server.with(|cluster| cluster.pd_leader()), Some(0));
        let error = direct.current_timestamp().timeout(ms(1_500)).await.unwrap_err();
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::PdUnavailable | ErrorKind::DeadlineExceeded), "{error}");
        server.reconnect_pd_member(0).await.unwrap();
        // The leader is looked at by use, and a link that failed rests for some time.
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            client.current_timestamp().await.unwrap();
            tokio::time::sleep(ms(100)).await;
        }
        // Were a follower still on the way, this would stop everything.
        for follower in 1..3 {
            let silent = Fault::DropRequest(Loss::Silent);
            server.with(|cluster| {
                cluster.faults().always(On::rpc(Rpc::PdTso).member(follower), silent)
            });
        }
        let began = Instant::now();
        client.current_timestamp().await.unwrap();
        assert!(began.elapsed() < ms(500), "{:?}", began.elapsed());
        direct.current_timestamp().await.unwrap();
        client.close().await;
        direct.close().await;
    })
    .await;
}

/// Followers answer questions about regions, if they may; what they do not know the leader is asked.
#[tokio::test]
async fn followers_answer_questions_about_regions() {
    bounded(async {
        let keys: Vec<String> = (0..20).map(|n| format!("k{n:02}")).collect();
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let server = serve(3, &names).await;
        let unknown =
            PdFault { kind: pdpb::ErrorType::RegionNotFound, message: "not here yet".into() };
        server.with(|cluster| {
            cluster.faults().next(On::rpc(Rpc::PdGetRegion).member(1), unknown);
            // Whoever is asked later is asked in vain, unless it is the last member.
            let broken = Fault::Status(anatase_cluster::Status::new(
                anatase_cluster::Code::Unavailable,
                "no region for you",
            ));
            cluster.faults().always(On::rpc(Rpc::PdGetRegion).member(0).after(8), broken);
        });
        let client = raw(&server, Config::default().with_pd_follower_handle(true)).await;
        for key in &keys[..10] {
            client.put(key.clone(), "v").await.unwrap();
            assert_eq!(client.get(key.clone()).await.unwrap().as_deref(), Some(&b"v"[..]));
        }
        let struck = server.with(|cluster| cluster.faults().struck());
        assert_eq!(
            struck, 1,
            "a follower was asked, and the leader less often than there are regions"
        );
        client.close().await;
    })
    .await;
}

/// peers.md D21, D22: a PD that takes requests and never answers. A question about a region that
/// hangs holds up no timestamp, a deadline is a deadline, and when PD speaks again all is well.
#[tokio::test]
async fn d21_d22_a_silent_pd() {
    bounded(async {
        let server = serve(1, &["m"]).await;
        let client = transactional(&server, Config::default().with_pd_timeout(ms(600))).await;
        let at = client.current_timestamp().await.unwrap();
        let silent = Fault::DropRequest(Loss::Silent);
        server.with(|cluster| cluster.faults().always(On::rpc(Rpc::PdGetRegion), silent.clone()));
        let hanging = {
            let snapshot = client.snapshot(at);
            tokio::spawn(async move { snapshot.get("a").await })
        };
        tokio::time::sleep(ms(50)).await;
        for _ in 0..20 {
            let began = Instant::now();
            client.current_timestamp().await.unwrap();
            assert!(began.elapsed() < ms(200), "{:?}", began.elapsed());
        }
        server.with(|cluster| cluster.faults().clear());
        hanging.await.unwrap().unwrap();

        // The other way round: a region that is not cached, while timestamps hang.
        server.with(|cluster| cluster.faults().always(On::rpc(Rpc::PdTso), silent));
        let began = Instant::now();
        let stamp = {
            let client = client.clone();
            tokio::spawn(async move { client.current_timestamp().timeout(ms(900)).await })
        };
        tokio::time::sleep(ms(50)).await;
        client.snapshot(at).get("z").await.unwrap();
        assert!(began.elapsed() < ms(400), "{:?}", began.elapsed());
        let error = stamp.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded, "{error}");
        let took = began.elapsed();
        assert!(took >= ms(900) && took < ms(1_200), "{took:?}");
        server.with(|cluster| cluster.faults().clear());
        client.current_timestamp().await.unwrap();
        client.close().await;
    })
    .await;
}

/// A PD that lags behind the stores: regions split, and PD goes on telling what was.
#[tokio::test]
async fn a_pd_that_lags_is_survived() {
    bounded(async {
        let server = serve(1, &["m"]).await;
        let client = raw(&server, Config::default()).await;
        client.put("z", "1").await.unwrap();
        server.with(|cluster| {
            cluster.freeze_routes();
            cluster.split("p");
            cluster.split("t");
        });
        for key in ["z", "n", "q", "a"] {
            client.put(key, "2").await.unwrap();
            assert_eq!(client.get(key).await.unwrap().as_deref(), Some(&b"2"[..]));
        }
        server.with(|cluster| cluster.thaw_routes());
        client.close().await;
    })
    .await;
}

/// Timestamps of every kind, and the rule that nobody reads the future.
#[tokio::test]
async fn other_timestamps() {
    bounded(async {
        let server = serve(1, &[]).await;
        let client = transactional(&server, Config::default()).await;
        let now = client.current_timestamp().await.unwrap();
        assert_eq!(client.low_resolution_timestamp().await.unwrap(), now);
        client.set_low_resolution_interval(ms(1)).await.unwrap();
        tokio::time::sleep(ms(5)).await;
        assert!(client.low_resolution_timestamp().await.unwrap() > now);
        client.set_low_resolution_interval(Duration::from_secs(2)).await.unwrap();
        let stale = client.stale_timestamp(Duration::from_secs(10)).await.unwrap();
        let ago = now.physical_ms() - stale.physical_ms();
        assert!((9_000..=10_000).contains(&ago), "{ago}");
        let error = client.stale_timestamp(Duration::MAX).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
        assert!(client.min_timestamp().await.unwrap() > now);
        server.with(|cluster| {
            let unknown =
                anatase_cluster::Status::new(anatase_cluster::Code::Unimplemented, "what?");
            cluster.faults().next(On::rpc(Rpc::PdGetMinTs), Fault::Status(unknown));
        });
        assert!(client.min_timestamp().await.unwrap() > now);

        assert_eq!(client.external_timestamp().await.unwrap(), None);
        client.set_external_timestamp(now).await.unwrap();
        assert_eq!(client.external_timestamp().await.unwrap(), Some(now));
        let error = client.set_external_timestamp(stale).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PdRefused, "{error}");

        // Another client's timestamp is none of the future's.
        let other = transactional(&server, Config::default()).await;
        let theirs = other.current_timestamp().await.unwrap();
        client.snapshot(theirs).get("a").await.unwrap();
        client.snapshot(Timestamp::MAX).get("a").await.unwrap();
        let ahead = Timestamp::compose(theirs.physical_ms() + 60_000, 0).unwrap();
        let error = client.snapshot(ahead).get("a").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::FutureTimestamp { .. }), "{error}");
        client.close().await;
        other.close().await;
    })
    .await;
}
