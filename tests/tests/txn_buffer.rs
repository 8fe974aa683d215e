//! What a transaction keeps to itself until it commits, end to end: streams over its writes and its
//! snapshot, savepoints, limits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anatase::{Config, ErrorKind, Key, KvPair, Transaction, TransactionClient};
use anatase_cluster::serve::Server;
use anatase_cluster::{Fault, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::{Dice, bounded, serve, watch, watched};

type Model = BTreeMap<String, String>;

async fn client(server: &Server) -> TransactionClient {
    TransactionClient::new([server.pd_address()]).await.expect("a client")
}

fn key(n: u64) -> String {
    format!("k{n:03}")
}

/// A client of a cluster with so many pairs, in three regions.
async fn filled(pairs: u64) -> (Server, TransactionClient, Model) {
    let server = serve(3, &["k020", "k050"]).await;
    let client = client(&server).await;
    let txn = client.begin_optimistic().await.unwrap();
    let mut model = Model::new();
    for n in 0..pairs {
        txn.put(key(n), "old").await.unwrap();
        model.insert(key(n), "old".to_owned());
    }
    txn.commit().await.unwrap();
    (server, client, model)
}

fn expected(model: &Model, range: Range<String>, reverse: bool, limit: u64) -> Vec<KvPair> {
    let mut pairs: Vec<KvPair> = model
        .iter()
        .filter(|(key, _)| range.contains(*key))
        .map(|(key, value)| KvPair::new(key.clone(), value.clone()))
        .collect();
    if reverse {
        pairs.reverse();
    }
    pairs.truncate(limit as usize);
    pairs
}

/// One write, into the transaction and the model.
async fn write(txn: &Transaction, model: &mut Model, dice: &mut Dice, value: &str) {
    let key = key(dice.below(100));
    match dice.below(8) {
        0..=2 => {
            txn.delete(key.clone()).await.unwrap();
            model.remove(&key);
        }
        3 => drop(txn.lock_keys([key]).await.unwrap()),
        _ => {
            txn.put(key.clone(), value.to_owned()).await.unwrap();
            model.insert(key, value.to_owned());
        }
    }
}

/// Streams of a transaction equal a model: whatever the page size, in both directions, with and
/// without values and limits, over writes that savepoints have undone, while regions split and leaders
/// move between pages, and while others commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_buffer_and_snapshot_equal_a_model() {
    bounded(async {
        let (server, client, base) = filled(90).await;
        for seed in 0..6 {
            let mut dice = Dice::new(seed);
            let mut model = base.clone();
            let txn = client.begin_optimistic().await.unwrap();
            for n in 0..dice.below(60) {
                write(&txn, &mut model, &mut dice, "new").await;
                if n % 10 == 3 {
                    let (savepoint, mut scratch) = (txn.savepoint(), model.clone());
                    for _ in 0..5 {
                        write(&txn, &mut scratch, &mut dice, "undone").await;
                    }
                    if dice.chance(1, 2) {
                        txn.roll_back_to(savepoint).unwrap();
                    } else {
                        model = scratch;
                    }
                    txn.release(savepoint).unwrap();
                }
            }
            for _ in 0..12 {
                let (range, reverse) =
                    (key(dice.below(60))..key(dice.below(110)), dice.chance(1, 2));
                let largest = if dice.chance(1, 2) { 5 } else { 120 };
                let page = 1 + dice.below(largest) as u32;
                let limit = if dice.chance(1, 3) { u64::MAX } else { dice.below(60) };
                let wanted = expected(&model, range.clone(), reverse, limit);
                let mut pairs = txn.scan_stream(range.clone()).page_size(page).limit(limit);
                let mut keys = txn.scan_keys_stream(range.clone()).page_size(page).limit(limit);
                if reverse {
                    (pairs, keys) = (pairs.reverse(), keys.reverse());
                }
                let mut told = Vec::new();
                while let Some(pair) = pairs.try_next().await.unwrap() {
                    told.push(pair);
                    if dice.chance(1, 20) {
                        server.with(|cluster| {
                            cluster.split(key(dice.below(100)));
                            let region = cluster.region_of(b"k050").expect("a region").id;
                            cluster.transfer_leader(region, 1 + dice.below(3));
                        });
                    }
                }
                let what = format!("seed {seed}: {range:?} {reverse} {page} {limit}");
                assert_eq!(told, wanted, "{what}");
                assert!(pairs.next().await.is_none(), "over is over");
                let wanted: Vec<Key> = wanted.into_iter().map(KvPair::into_key).collect();
                assert_eq!(keys.collect().await.unwrap(), wanted, "{what}");
                let limit = u32::try_from(limit).unwrap_or(u32::MAX);
                let at_once = match reverse {
                    false => txn.scan_keys(range, limit).await.unwrap(),
                    true => txn.scan_keys_reverse(range, limit).await.unwrap(),
                };
                assert_eq!(at_once, wanted, "{what}");
            }
        }
        client.close().await;
    })
    .await;
}

/// What is written while a stream is read is seen before its cursor, and not behind it.
#[tokio::test]
async fn a_stream_sees_what_is_written_before_its_cursor() {
    bounded(async {
        let (_server, client, _) = filled(10).await;
        let txn = client.begin_optimistic().await.unwrap();
        let mut stream = txn.scan_stream(..).page_size(3);
        assert_eq!(stream.next().await.unwrap().unwrap(), KvPair::new(key(0), "old"));
        assert_eq!(stream.next().await.unwrap().unwrap(), KvPair::new(key(1), "old"));
        txn.put("k000x", "behind").await.unwrap();
        txn.put("k001x", "new").await.unwrap();
        // Of the page that is being consumed, of the one that is on its way, and of a later one.
        for n in [2, 4, 8] {
            txn.delete(key(n)).await.unwrap();
        }
        txn.put(key(9), "new").await.unwrap();
        // Others are not seen.
        let other = client.begin_optimistic().await.unwrap();
        for n in 0..12 {
            other.put(key(n), "other").await.unwrap();
        }
        other.commit().await.unwrap();
        // The stream goes on when the transaction is no more.
        txn.rollback().await.unwrap();
        let rest: Vec<KvPair> = stream.collect().await.unwrap();
        let rest: Vec<(&[u8], &[u8])> =
            rest.iter().map(|pair| (pair.key().as_ref(), pair.value().as_ref())).collect();
        let old = |key: &'static str| (key.as_bytes(), &b"old"[..]);
        assert_eq!(
            rest,
            [
                (&b"k001x"[..], &b"new"[..]),
                old("k003"),
                old("k005"),
                old("k006"),
                old("k007"),
                (b"k009", b"new"),
            ]
        );
        client.close().await;
    })
    .await;
}

/// A stream of a snapshot reads every page at the same timestamp, whatever is committed in between.
#[tokio::test]
async fn every_page_of_a_snapshot_is_of_its_moment() {
    bounded(async {
        let (_server, client, model) = filled(60).await;
        let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
        for reverse in [false, true] {
            let mut stream = snapshot.scan_stream(..).page_size(7);
            let mut keys = snapshot.scan_keys_stream("k010".."k040").page_size(3);
            if reverse {
                (stream, keys) = (stream.reverse(), keys.reverse());
            }
            let mut pairs = Vec::new();
            while let Some(pair) = stream.try_next().await.unwrap() {
                pairs.push(pair);
                if pairs.len() % 10 == 5 {
                    let txn = client.begin_optimistic().await.unwrap();
                    for n in 0..30 {
                        txn.put(key(n * 3), format!("later {}", pairs.len())).await.unwrap();
                        txn.delete(key(n * 3 + 1)).await.unwrap();
                    }
                    txn.commit().await.unwrap();
                }
            }
            assert_eq!(pairs, expected(&model, key(0)..key(999), reverse, u64::MAX));
            let wanted = expected(&model, key(10)..key(40), reverse, u64::MAX);
            let wanted: Vec<Key> = wanted.into_iter().map(KvPair::into_key).collect();
            assert_eq!(keys.collect().await.unwrap(), wanted);
        }
        client.close().await;
    })
    .await;
}

/// At most one page ahead of whoever consumes, none before anybody does, and none for pairs that are
/// not wanted.
#[tokio::test]
async fn a_transactions_stream_fetches_one_page_ahead_and_no_more() {
    bounded(async {
        let (server, client, _) = filled(20).await;
        let txn = client.begin_optimistic().await.unwrap();
        for n in 0..4 {
            txn.delete(key(n)).await.unwrap();
        }
        watch(&server, Rpc::KvScan);
        let settled = async |pages: u64, what: &str| {
            let begun = Instant::now();
            while watched(&server) < pages && begun.elapsed() < Duration::from_secs(5) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(watched(&server), pages, "{what}");
        };
        let mut stream = txn.scan_keys_stream(.."k018").page_size(4);
        settled(0, "nobody has polled it").await;
        assert_eq!(stream.next().await.unwrap().unwrap(), "k004");
        settled(3, "a page that is deleted altogether, the next, and the one ahead").await;
        assert_eq!(stream.next().await.unwrap().unwrap(), "k005");
        settled(3, "the second page is still being consumed").await;
        drop(stream);
        let few = txn.scan_keys_stream("k004".."k018").page_size(4).limit(2);
        assert_eq!(few.collect().await.unwrap(), ["k004", "k005"]);
        settled(4, "two pairs are one page, and nothing is wanted behind").await;
        assert_eq!(txn.scan_keys_stream("b".."a").collect().await.unwrap(), [""; 0]);
        settled(4, "an empty range sends nothing").await;
        // The first error ends it.
        server.with(|cluster| {
            cluster.faults().clear();
            let refusal = RegionFault::RaftEntryTooLarge { entry_size: 9 };
            cluster.faults().next(On::rpc(Rpc::KvScan), Fault::Region(refusal));
        });
        let mut broken = txn.scan_stream(..);
        assert!(broken.next().await.unwrap().is_err());
        assert!(broken.next().await.is_none());
        client.close().await;
    })
    .await;
}

async fn seen(txn: &Transaction) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let pairs = txn.scan_stream(..).page_size(2).collect().await.unwrap();
    pairs.iter().map(|pair| (text(pair.key().as_ref()), text(pair.value()))).collect()
}

/// Nested savepoints: what is undone is seen no more and not committed, what is released is.
#[tokio::test]
async fn savepoints_nest_and_are_committed_without_what_was_undone() {
    bounded(async {
        let (server, client, _) = filled(2).await;
        let txn = client.begin_optimistic().await.unwrap();
        txn.put("a", "1").await.unwrap();
        let outer = txn.savepoint();
        txn.insert("b", "2").await.unwrap();
        txn.delete("k000").await.unwrap();
        let before = (seen(&txn).await, txn.len(), txn.size());
        let inner = txn.savepoint();
        txn.put("a", "changed").await.unwrap();
        txn.delete("b").await.unwrap();
        // It exists: committed, this would fail the transaction.
        txn.insert("k001", "3").await.unwrap();
        txn.roll_back_to(inner).unwrap();
        assert_eq!((seen(&txn).await, txn.len(), txn.size()), before);
        txn.put("c", "4").await.unwrap();
        // Misuse is an error, and changes nothing.
        let refused = |result: anatase::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), &ErrorKind::InvalidArgument);
        };
        refused(txn.release(outer));
        let other = client.begin_optimistic().await.unwrap();
        let foreign = other.savepoint();
        refused(txn.roll_back_to(foreign));
        refused(txn.release(foreign));
        txn.release(inner).unwrap();
        refused(txn.roll_back_to(inner));
        txn.release(outer).unwrap();
        txn.commit().await.unwrap();
        let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
        let values = snapshot.batch_get(["a", "b", "c", "k000", "k001"]).await.unwrap();
        let values: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_deref()).collect();
        assert_eq!(values, [Some(&b"1"[..]), Some(b"2"), Some(b"4"), None, Some(b"old")]);

        // All undone: nothing is sent.
        let nothing = client.begin_optimistic().await.unwrap();
        let savepoint = nothing.savepoint();
        nothing.put("a", "5").await.unwrap();
        nothing.roll_back_to(savepoint).unwrap();
        assert!(nothing.is_empty());
        watch(&server, Rpc::KvPrewrite);
        assert_eq!(nothing.commit().await.unwrap(), None);
        assert_eq!(watched(&server), 0);
        client.close().await;
    })
    .await;
}

/// cases.md BUF-09: limits for every transaction, or for one; what does not fit is refused, and the
/// rest can be committed.
#[tokio::test]
async fn limits_of_entries_and_transactions() {
    bounded(async {
        let server = serve(1, &[]).await;
        let config = Config::default().with_max_entry_size(10).with_max_transaction_size(20);
        let client =
            TransactionClient::new_with_config([server.pd_address()], config).await.unwrap();
        let txn = client.begin_optimistic().await.unwrap();
        let entry = txn.put("key", "12345678").await.unwrap_err();
        assert_eq!(entry.kind(), &ErrorKind::EntryTooLarge { size: 11, limit: 10 });
        txn.put("key", "1234567").await.unwrap();
        txn.put("two", "1234567").await.unwrap();
        let whole = txn.insert("x", "1").await.unwrap_err();
        assert_eq!(whole.kind(), &ErrorKind::TxnTooLarge { size: 22, limit: 20 });
        assert!(!whole.is_retryable() && !whole.is_undetermined());
        assert_eq!((txn.len(), txn.size()), (2, 20));
        txn.commit().await.unwrap();
        let snapshot = client.snapshot(client.current_timestamp().await.unwrap());
        assert_eq!(snapshot.scan_keys(.., 9).await.unwrap(), ["key", "two"]);

        let wide = client.begin_optimistic().max_entry_size(100).max_transaction_size(usize::MAX);
        let wide = wide.await.unwrap();
        wide.put("key", "v".repeat(97)).await.unwrap();
        let entry = wide.put("key", "v".repeat(98)).await.unwrap_err();
        assert_eq!(entry.kind(), &ErrorKind::EntryTooLarge { size: 101, limit: 100 });
        wide.commit().await.unwrap();
        client.close().await;
    })
    .await;
}
