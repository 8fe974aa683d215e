//! Scans as streams, several ranges at once, and coprocessors, end to end.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anatase::{Bytes, Config, ErrorKind, KvPair, RawClient, TransactionClient, Value};
use anatase_cluster::serve::Server;
use anatase_cluster::{CoprocessorCall, Fault, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::{Dice, bounded, serve, watch, watched};
use futures_core::Stream;

async fn client(server: &Server) -> RawClient {
    RawClient::new([server.pd_address()]).await.expect("a client")
}

fn key(n: u64) -> String {
    format!("k{n:03}")
}

/// A client of a cluster with so many pairs, in three regions.
async fn filled(pairs: u64) -> (Server, RawClient, Vec<KvPair>) {
    let server = serve(3, &["k020", "k050"]).await;
    let client = client(&server).await;
    let all: Vec<KvPair> = (0..pairs).map(|n| KvPair::new(key(n), n.to_string())).collect();
    client.batch_put(all.clone()).await.unwrap();
    (server, client, all)
}

// ---- streams -----------------------------------------------------------------------------------

/// Whatever the size of a page, a stream gives what a scan gives, in both directions, while regions
/// split and leaders move between the pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_equals_a_scan() {
    bounded(async {
        let (server, client, all) = filled(100).await;
        let mut dice = Dice::new(5);
        for page in [1, 2, 7, 50, 99, 100, 101, 0, u32::MAX] {
            let forward = client.scan_stream(..).page_size(page).collect().await.unwrap();
            assert_eq!(forward, all, "{page}");
            let backward = client.scan_stream(..).reverse().page_size(page);
            let mut backward = backward.collect().await.unwrap();
            backward.reverse();
            assert_eq!(backward, all, "{page}");
            let (a, b) = (dice.below(100), dice.below(100));
            let (start, end) = (a.min(b) as usize, a.max(b) as usize);
            let (range, limit) = (key(start as u64)..key(end as u64), dice.below(60));
            let mut stream = client.scan_stream(range.clone()).page_size(page).limit(limit);
            let mut some = Vec::new();
            while let Some(pair) = stream.next().await {
                some.push(pair.unwrap());
                if dice.chance(1, 10) {
                    server.with(|cluster| {
                        cluster.split_raw(key(dice.below(100)));
                        let region = cluster.region_of_raw(b"k050").expect("a region").id;
                        cluster.transfer_leader(region, 1 + dice.below(3));
                    });
                }
            }
            let wanted = &all[start..end];
            assert_eq!(some, wanted[..wanted.len().min(limit as usize)], "{range:?} {limit}");
            assert!(stream.next().await.is_none(), "over is over");
            let keys = client.scan_keys_stream(range).page_size(page).reverse().limit(limit);
            let keys = keys.collect().await.unwrap();
            let wanted = wanted.iter().rev().take(limit as usize).map(|pair| pair.key().clone());
            assert_eq!(keys, wanted.collect::<Vec<_>>());
        }
        assert_eq!(client.scan_stream("b".."a").collect().await.unwrap(), []);
        assert_eq!(client.scan_stream("x"..).reverse().collect().await.unwrap(), []);
    })
    .await;
}

/// The empty key comes last on the way down, and below it there is nothing: not the end again.
#[tokio::test]
async fn a_reverse_stream_ends_at_the_empty_key() {
    bounded(async {
        let (_server, client, mut all) = filled(3).await;
        client.put("", "first").await.unwrap();
        all.insert(0, KvPair::new("", "first"));
        all.reverse();
        for page in 1..6 {
            let stream = client.scan_stream(..).reverse().page_size(page);
            assert_eq!(stream.collect().await.unwrap(), all);
        }
    })
    .await;
}

/// At most one page ahead of whoever consumes, and none before anybody does.
#[tokio::test]
async fn a_stream_fetches_one_page_ahead_and_no_more() {
    bounded(async {
        let (server, client, all) = filled(20).await;
        watch(&server, Rpc::RawScan);
        let settled = async |pages: u64, what: &str| {
            let begun = Instant::now();
            while watched(&server) < pages && begun.elapsed() < Duration::from_secs(5) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(watched(&server), pages, "{what}");
        };
        // All in the first region, so that a page is a request.
        let mut stream = client.scan_stream(.."k018").page_size(4);
        settled(0, "nobody has polled it").await;
        assert_eq!(stream.next().await.unwrap().unwrap(), all[0]);
        settled(2, "the first page and the one ahead").await;
        for pair in &all[1..4] {
            assert_eq!(stream.try_next().await.unwrap().as_ref(), Some(pair));
        }
        settled(2, "the first page is consumed, the second has not been looked at").await;
        assert_eq!(stream.next().await.unwrap().unwrap(), all[4]);
        settled(3, "the second page and the one ahead").await;
        // A consumer that is woken while the page is on its way gets it, whichever way it polls.
        let slow = Fault::Delay(Duration::from_millis(100));
        server.with(|cluster| {
            cluster.faults().clear();
            cluster.faults().always(On::rpc(Rpc::RawScan), slow);
        });
        let mut rest = Vec::new();
        while let Some(pair) = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await
        {
            rest.push(pair.unwrap());
        }
        assert_eq!(rest, all[5..18]);
    })
    .await;
}

/// A dropped stream withdraws its page; a dropped `next` loses nothing.
#[tokio::test]
async fn dropping_a_stream_cancels_its_page() {
    bounded(async {
        let (server, client, all) = filled(20).await;
        let mut stream = client.scan_stream(..).page_size(2);
        let slow = Fault::Delay(Duration::from_millis(200));
        server.with(|cluster| cluster.faults().times(2, On::rpc(Rpc::RawScan), slow));
        let early = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        assert!(early.is_err());
        assert_eq!(stream.next().await.unwrap().unwrap(), all[0]);
        let never = Fault::Delay(Duration::from_secs(30));
        server.with(|cluster| cluster.faults().always(On::rpc(Rpc::RawScan), never));
        for pair in &all[1..4] {
            assert_eq!(stream.next().await.unwrap().unwrap(), *pair);
        }
        let stuck = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        assert!(stuck.is_err());
        drop(stream);
        // No operation is left that close would have to end, and the connection is in order.
        assert_eq!(client.get("k001").await.unwrap(), Some(Value::from("1")));
        let begun = Instant::now();
        client.close().await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    })
    .await;
}

/// With the first error a stream is over; what came before it is given first.
#[tokio::test]
async fn a_stream_ends_with_its_first_error() {
    bounded(async {
        let (server, client, all) = filled(20).await;
        let refused = RegionFault::FlashbackInProgress { start_ts: 1 };
        server.with(|cluster| cluster.faults().next(On::rpc(Rpc::RawScan).after(1), refused));
        let mut stream = client.scan_stream(..).page_size(4);
        for pair in &all[..4] {
            assert_eq!(stream.next().await.unwrap().unwrap(), *pair);
        }
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Refused, "{error}");
        assert!(stream.next().await.is_none());
        // The time limit is that of a page.
        let slow = Fault::Delay(Duration::from_secs(9));
        server.with(|cluster| cluster.faults().next(On::rpc(Rpc::RawScan), slow));
        let mut stream = client.scan_stream(..).timeout(Duration::from_millis(100));
        let error = stream.try_next().await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded, "{error}");
        assert_eq!(stream.try_next().await.unwrap(), None);
        // The page ahead fails because the client was closed.
        let mut stream = client.scan_stream(..).page_size(4);
        assert_eq!(stream.next().await.unwrap().unwrap(), all[0]);
        client.close().await;
        while let Ok(Some(_)) = stream.try_next().await {}
        assert!(stream.next().await.is_none());
    })
    .await;
}

/// A snapshot's stream sees its moment, page after page.
#[tokio::test]
async fn a_stream_of_a_snapshot() {
    bounded(async {
        let server = serve(3, &["k020", "k050"]).await;
        let config = Config::default().with_scan_page_size(9);
        let client =
            TransactionClient::new_with_config([server.pd_address()], config).await.unwrap();
        assert_eq!(client.cluster_id(), server.with(|cluster| cluster.cluster_id()));
        let write = async |value: &str| {
            let txn = client.begin_optimistic().await.unwrap();
            for n in 0..70 {
                txn.put(key(n), value).await.unwrap();
            }
            txn.commit().await.unwrap();
        };
        write("before").await;
        let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
        let expected: Vec<KvPair> = (0..70).map(|n| KvPair::new(key(n), "before")).collect();
        let mut stream = snapshot.scan_stream(..);
        let first = stream.next().await.unwrap().unwrap();
        write("after").await;
        let mut all = vec![first];
        all.extend(stream.collect().await.unwrap());
        assert_eq!(all, expected);
        let keys = snapshot.scan_keys_stream("k010"..).reverse().limit(3).collect().await.unwrap();
        assert_eq!(keys, ["k069", "k068", "k067"]);
        client.close().await;
    })
    .await;
}

// ---- several ranges ----------------------------------------------------------------------------

/// Each range has its limit, however many regions it runs over; ranges may overlap, be empty, and
/// come in any order. (`tikv-client` counts the limit per region.)
#[tokio::test]
async fn a_batch_scan_equals_scans() {
    bounded(async {
        let (server, client, _) = filled(100).await;
        let mut dice = Dice::new(9);
        for _ in 0..20 {
            let ranges: Vec<(String, String)> =
                (0..dice.below(5)).map(|_| (key(dice.below(110)), key(dice.below(110)))).collect();
            let limit = dice.below(40) as u32;
            let (mut up, mut down) = (Vec::new(), Vec::new());
            for range in ranges.clone() {
                up.extend(client.scan(range.clone(), limit).await.unwrap());
                down.extend(client.scan_reverse(range, limit).await.unwrap());
            }
            server.with(|cluster| cluster.split_raw(key(dice.below(100))));
            let found = client.batch_scan(ranges.clone(), limit).await.unwrap();
            assert_eq!(found, up, "{ranges:?} {limit}");
            let keys = client.batch_scan_keys(ranges.clone(), limit).await.unwrap();
            assert_eq!(keys, up.into_iter().map(KvPair::into_key).collect::<Vec<_>>());
            assert_eq!(client.batch_scan_reverse(ranges, limit).await.unwrap(), down);
        }
    })
    .await;
}

// ---- coprocessors ------------------------------------------------------------------------------

/// Counts the pairs that it is handed, and says what it was asked.
fn plug_in(call: &CoprocessorCall<'_>) -> Result<Bytes, String> {
    match (call.name, call.version_req) {
        ("count", "^1.0") => {
            let question = String::from_utf8_lossy(call.data);
            Ok(format!("{question} {}", call.pairs.len()).into())
        }
        (name, version_req) => Err(format!("no {name} {version_req} here")),
    }
}

/// Every region of the ranges is asked about its part, once however they have moved meanwhile.
#[tokio::test]
async fn a_coprocessor_is_asked_in_every_region() {
    bounded(async {
        let (server, client, all) = filled(100).await;
        server.with(|cluster| cluster.set_coprocessor(Some(plug_in)));
        for border in [None, Some("k010"), Some("k035"), Some("k070")] {
            if let Some(border) = border {
                // Behind the client's back.
                server.with(|cluster| cluster.split_raw(border)).expect("a split");
            }
            let mut asked = 0;
            let ranges = ["k005".."k007", "k009".."k060", "k090".."kz"];
            let answers = client
                .coprocessor("count", "^1.0", ranges.clone(), |region, parts| {
                    asked += 1;
                    let within = |key: &[u8]| {
                        let (start, end) = (&region.range.start[..], &region.range.end[..]);
                        key >= start && (end.is_empty() || key <= end)
                    };
                    assert!(parts.iter().all(|part| within(&part.start) && within(&part.end)));
                    format!("region {}", region.version.id)
                })
                .await
                .unwrap();
            assert!(asked >= answers.len());
            let mut covered = BTreeMap::new();
            for (parts, answer) in &answers {
                let inside = |pair: &&KvPair| {
                    parts.iter().any(|part| part.start <= *pair.key() && *pair.key() < part.end)
                };
                let count = all.iter().filter(inside).count();
                let answer = std::str::from_utf8(answer).unwrap();
                assert!(answer.starts_with("region "), "{answer}");
                assert!(answer.ends_with(&format!(" {count}")), "{answer}: {count}");
                for pair in all.iter().filter(inside) {
                    *covered.entry(pair.key().clone()).or_insert(0) += 1;
                }
            }
            assert!(covered.values().all(|times| *times == 1));
            assert_eq!(covered.len(), 2 + 51 + 10, "{border:?}");
            assert!(answers.is_sorted_by(|(a, _), (b, _)| a[0].start <= b[0].start));
        }
    })
    .await;
}

#[tokio::test]
async fn a_coprocessor_that_is_not_there() {
    bounded(async {
        let (server, client, _) = filled(3).await;
        let ask = |name: &'static str, version: &'static str| {
            client.coprocessor(name, version, [..], |_, _| "question")
        };
        let error = ask("count", "*").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("count"), "{error}");
        server.with(|cluster| cluster.set_coprocessor(Some(plug_in)));
        let error = ask("count", "^2.0").await.unwrap_err();
        assert!(error.to_string().contains("no count ^2.0 here"), "{error}");
        watch(&server, Rpc::RawCoprocessor);
        for (name, version) in [("", "*"), ("count", "")] {
            let error = ask(name, version).await.unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument, "{error}");
        }
        assert_eq!(client.coprocessor("count", "^1.0", ["b".."a"], |_, _| "").await.unwrap(), []);
        assert_eq!(watched(&server), 0);
        // All answers are lost: in doubt, since a plug-in may write.
        server.with(|cluster| {
            let lost = Fault::DropResponse(anatase_cluster::Loss::Reset);
            cluster.faults().clear();
            cluster.faults().always(On::rpc(Rpc::RawCoprocessor), lost);
        });
        let error = ask("count", "^1.0").timeout(Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::DeadlineExceeded, "{error}");
        assert!(error.is_undetermined());
    })
    .await;
}
