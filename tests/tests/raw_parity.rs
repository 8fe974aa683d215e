//! The raw API case by case (`facts/cases.md` §A), end to end: keys, batches, ranges and column
//! families. Swaps and times to live are in `raw_swap.rs`, streams and coprocessors in
//! `raw_stream.rs`.

use std::collections::BTreeMap;

use anatase::{Config, ErrorKind, KvPair, RawChecksum, RawClient, Value};
use anatase_cluster::serve::{ServeOptions, Server};
use anatase_cluster::{Api, ClusterConfig, Keyspace};
use anatase_proto::rpc::Rpc;
use anatase_tests::{Dice, bounded, serve, watch, watched};

async fn client(server: &Server) -> RawClient {
    RawClient::new([server.pd_address()]).await.expect("a client")
}

/// Split at these keys as they are, as raw regions of API V1 are.
async fn serve_raw(keys: &[&str]) -> Server {
    let cluster = ClusterConfig::default().stores(3).split_keys_raw(keys).build();
    Server::start(cluster, ServeOptions::default()).await.expect("a cluster on loopback")
}

fn value(text: &str) -> Option<Value> {
    Some(Value::copy_from_slice(text.as_bytes()))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<KvPair> {
    pairs.iter().map(|&pair| pair.into()).collect()
}

// ---- single keys and batches -------------------------------------------------------------------

#[tokio::test]
async fn raw_01_simple_round_trip() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        assert_eq!(client.get("key").await.unwrap(), None);
        client.put("key", "value").await.unwrap();
        assert_eq!(client.get("key").await.unwrap(), value("value"));
        client.delete("key").await.unwrap();
        assert_eq!(client.get("key").await.unwrap(), None);
        client.put("key", "").await.unwrap();
        assert_eq!(client.get("key").await.unwrap(), value(""));
        assert_eq!(client.cluster_id(), server.with(|cluster| cluster.cluster_id()));
    })
    .await;
}

#[tokio::test]
async fn raw_02_an_empty_value_is_not_absence() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        for batch in [false, true] {
            if batch {
                client.batch_put([("empty", "")]).await.unwrap();
            } else {
                client.put("empty", "").await.unwrap();
            }
            assert_eq!(client.get("empty").await.unwrap(), value(""));
            let found = client.batch_get(["empty", "absent"]).await.unwrap();
            assert_eq!(found, [value(""), None]);
            assert_eq!(client.scan(.., 9).await.unwrap(), pairs(&[("empty", "")]));
            assert_eq!(client.scan_reverse(.., 9).await.unwrap(), pairs(&[("empty", "")]));
            client.delete("empty").await.unwrap();
            assert_eq!(client.get("empty").await.unwrap(), None);
            assert_eq!(client.batch_get(["empty", "absent"]).await.unwrap(), [None, None]);
            assert_eq!(client.scan(.., 9).await.unwrap(), []);
            assert_eq!(client.scan_reverse(.., 9).await.unwrap(), []);
        }
    })
    .await;
}

#[tokio::test]
async fn raw_03_a_batch_larger_than_a_request() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        // Four requests of 16 KiB, and a split in the middle that the client does not know of.
        let all: Vec<(String, String)> =
            (0..1_000).map(|n| (format!("k{n:04}"), format!("{n:-<64}"))).collect();
        client.get("k0000").await.unwrap();
        server.with(|cluster| cluster.split_raw("k0500")).expect("a split");
        watch(&server, Rpc::RawBatchPut);
        client.batch_put(all.clone()).await.unwrap();
        let requests = watched(&server);
        // Five to where everything was, five or six to where it is.
        assert!((10..=11).contains(&requests), "{requests}");
        let keys = || all.iter().map(|(key, _)| key.clone());
        let found = client.batch_get(keys()).await.unwrap();
        for ((_, expected), found) in all.iter().zip(&found) {
            assert_eq!(found.as_deref(), Some(expected.as_bytes()));
        }
        client.batch_delete(keys()).await.unwrap();
        assert_eq!(client.batch_get(keys()).await.unwrap(), vec![None; 1_000]);
    })
    .await;
}

#[tokio::test]
async fn raw_04_a_small_batch() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.batch_put([("a", "1"), ("b", "2")]).await.unwrap();
        assert_eq!(client.batch_get(["a", "b"]).await.unwrap(), [value("1"), value("2")]);
        client.batch_delete(["a", "b"]).await.unwrap();
        assert_eq!(client.batch_get(["a", "b"]).await.unwrap(), [None, None]);
    })
    .await;
}

#[tokio::test]
async fn raw_05_a_stale_cache_after_a_split() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        client.put("k1", "v1").await.unwrap();
        client.put("k3", "v3").await.unwrap();
        server.with(|cluster| cluster.split_raw("k2")).expect("a split");
        assert_eq!(client.get("k1").await.unwrap(), value("v1"));
        assert_eq!(client.get("k3").await.unwrap(), value("v3"));
    })
    .await;
}

// ---- scans -------------------------------------------------------------------------------------

const FOUR: [(&str, &str); 4] = [("k1", "v1"), ("k3", "v3"), ("k5", "v5"), ("k7", "v7")];

/// With one region, two and three.
async fn in_one_two_and_three_regions(check: impl AsyncFn(RawClient)) {
    let server = serve(3, &[]).await;
    let client = client(&server).await;
    client.batch_put(FOUR).await.unwrap();
    check(client.clone()).await;
    for border in ["k2", "k5"] {
        server.with(|cluster| cluster.split_raw(border)).expect("a split");
        check(client.clone()).await;
    }
}

#[tokio::test]
async fn raw_06_forward_scan_bounds_and_limits() {
    bounded(in_one_two_and_three_regions(async |client| {
        for limit in [1, 2, 3, 10] {
            let some = FOUR.len().min(limit as usize);
            assert_eq!(client.scan(.., limit).await.unwrap(), pairs(&FOUR[..some]));
            assert_eq!(client.scan("k1".., limit).await.unwrap(), pairs(&FOUR[..some]));
        }
        assert_eq!(client.scan("k2".., 10).await.unwrap(), pairs(&FOUR[1..]));
        assert_eq!(client.scan("".."k5", 10).await.unwrap(), pairs(&FOUR[..2]));
        assert_eq!(client.scan("".."k5\0", 10).await.unwrap(), pairs(&FOUR[..3]));
        assert_eq!(client.scan("k5\0".."k5\0\0", 10).await.unwrap(), []);
        assert_eq!(client.scan("k5".."k7", 10).await.unwrap(), pairs(&FOUR[2..3]));
        assert_eq!(client.scan("k3\0".."k5", 10).await.unwrap(), []);
    }))
    .await;
}

#[tokio::test]
async fn raw_07_reverse_scan_bounds_and_limits() {
    bounded(in_one_two_and_three_regions(async |client| {
        let mut down = FOUR;
        down.reverse();
        for limit in [1, 2, 3, 10] {
            let some = FOUR.len().min(limit as usize);
            assert_eq!(client.scan_reverse(.., limit).await.unwrap(), pairs(&down[..some]));
            let below = client.scan_reverse("".."k7\0", limit).await.unwrap();
            assert_eq!(below, pairs(&down[..some]));
        }
        assert_eq!(client.scan_reverse("".."k7", 10).await.unwrap(), pairs(&down[1..]));
        assert_eq!(client.scan_reverse("k3".."k7", 10).await.unwrap(), pairs(&down[1..3]));
        assert_eq!(client.scan_reverse("k3\0".."k7\0", 10).await.unwrap(), pairs(&down[..2]));
        assert_eq!(client.scan_reverse("k5\0".."k7", 10).await.unwrap(), []);
    }))
    .await;
}

/// 20 480 pairs, split at every 1 024th key.
async fn large() -> (Server, RawClient, BTreeMap<String, String>) {
    let server = serve(3, &[]).await;
    let client = client(&server).await;
    let all: BTreeMap<String, String> =
        (0..20_480).map(|n| (format!("key@{n:06}"), format!("value@{n:06}"))).collect();
    client.batch_put(all.clone()).await.unwrap();
    server.with(|cluster| {
        for n in (1_024..20_480).step_by(1_024) {
            cluster.split_raw(format!("key@{n:06}")).expect("a split");
        }
    });
    (server, client, all)
}

/// raw.md §1, MaxRawKVScanLimit: 10 240 are allowed.
#[tokio::test]
async fn raw_08_a_scan_at_the_maximum_limit() {
    bounded(async {
        let (_server, client, all) = large().await;
        let found = client.scan(.., 10_240).await.unwrap();
        let expected: Vec<KvPair> = all.into_iter().take(10_240).map(KvPair::from).collect();
        assert_eq!(found, expected);
    })
    .await;
}

#[tokio::test]
async fn raw_09_a_reverse_scan_comes_in_descending_order() {
    bounded(async {
        let server = serve(3, &["key5"]).await;
        let client = client(&server).await;
        let all: Vec<KvPair> = (0..10).map(|n| KvPair::new(format!("key{n}"), "v")).collect();
        client.batch_put(all.clone()).await.unwrap();
        let found = client.scan_reverse("key".."kez", 5).await.unwrap();
        assert_eq!(found, all.into_iter().rev().take(5).collect::<Vec<_>>());
    })
    .await;
}

/// raw.md §1, §3: one more is refused before anything is sent.
#[tokio::test]
async fn raw_10_a_scan_limit_above_the_maximum() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        watch(&server, Rpc::RawScan);
        for error in [
            client.scan(.., 10_241).await.unwrap_err(),
            client.scan_keys_reverse(.., 10_241).await.unwrap_err(),
            client.batch_scan([..], 10_241).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument, "{error}");
        }
        assert_eq!(watched(&server), 0);
    })
    .await;
}

// ---- delete range ------------------------------------------------------------------------------

async fn check(client: &RawClient, model: &BTreeMap<String, String>) {
    let expected: Vec<KvPair> = model.clone().into_iter().map(KvPair::from).collect();
    assert_eq!(client.scan(.., 10_240).await.unwrap(), expected);
}

#[tokio::test]
async fn raw_11_delete_range_over_regions() {
    bounded(async {
        let server = serve_raw(&["b", "c", "d"]).await;
        let client = client(&server).await;
        let key = |n: usize| format!("{}{}", ["a", "b", "c", "d"][n / 10], n % 10);
        let mut model: BTreeMap<String, String> =
            (0..40).map(|n| (key(n), format!("{n}"))).collect();
        client.batch_put(model.clone()).await.unwrap();
        check(&client, &model).await;
        for (start, end) in [
            ("b", "c0"),
            ("c11", "c12"),
            ("d0", "d0"),
            ("d5", "d2"),
            ("c12", "c14"),
            ("b", "b"),
            ("a3", "a7"),
            ("a7", "b"),
            ("c5", "d5"),
            ("a", "e"),
        ] {
            client.delete_range(start..end).await.unwrap();
            model.retain(|key, _| !(&key[..] >= start && &key[..] < end));
            check(&client, &model).await;
        }
        assert!(model.is_empty());
    })
    .await;
}

#[tokio::test]
async fn raw_12_delete_range_with_empty_bounds() {
    bounded(async {
        for borders in [&[][..], &["k5"]] {
            let server = serve_raw(borders).await;
            let client = client(&server).await;
            let mut model: BTreeMap<String, String> =
                (0..10).map(|n| (format!("k{n}"), "v".to_owned())).collect();
            client.batch_put(model.clone()).await.unwrap();
            client.delete_range("k7"..).await.unwrap();
            model.retain(|key, _| &key[..] < "k7");
            check(&client, &model).await;
            client.delete_range(.."k2").await.unwrap();
            model.retain(|key, _| &key[..] >= "k2");
            check(&client, &model).await;
            client.delete_range(..).await.unwrap();
            check(&client, &BTreeMap::new()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn raw_13_delete_range_of_many_keys_across_splits() {
    bounded(async {
        let (server, client, _) = large().await;
        // One more that the client cannot know of.
        server.with(|cluster| cluster.split_raw("key@000100")).expect("a split");
        client.delete_range("key@".."key@999999").await.unwrap();
        assert_eq!(client.scan(.., 1).await.unwrap(), []);
    })
    .await;
}

/// Random ranges against a model while regions split and leaders move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_range_equals_a_model() {
    bounded(async {
        let server = serve_raw(&["k030", "k060"]).await;
        let client = client(&server).await;
        let (mut model, mut dice) = (BTreeMap::new(), Dice::new(11));
        for round in 0..25 {
            let fresh: Vec<(String, String)> =
                (0..20).map(|_| (format!("k{:03}", dice.below(100)), format!("{round}"))).collect();
            client.batch_put(fresh.clone()).await.unwrap();
            model.extend(fresh);
            server.with(|cluster| {
                cluster.split_raw(format!("k{:03}", dice.below(100)));
                let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
                let at = dice.below(regions.len() as u64) as usize;
                cluster.transfer_leader(regions[at], 1 + dice.below(3));
            });
            let (a, b) = (dice.below(100), dice.below(100));
            let (start, end) = (format!("k{:03}", a.min(b)), format!("k{:03}", a.max(b)));
            client.delete_range(start.clone()..end.clone()).await.unwrap();
            model.retain(|key, _| !(*key >= start && *key < end));
            check(&client, &model).await;
        }
    })
    .await;
}

// ---- checksum ----------------------------------------------------------------------------------

/// CRC-64/XZ, bit by bit.
fn crc64(bytes: impl Iterator<Item = u8>) -> u64 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xC96C_5795_D787_0F42 } else { crc >> 1 }
        })
    })
}

fn sum<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> RawChecksum {
    pairs.into_iter().fold(RawChecksum::default(), |sum, (key, value)| {
        sum.and(RawChecksum {
            crc64_xor: crc64(key.bytes().chain(value.bytes())),
            total_kvs: 1,
            total_bytes: (key.len() + value.len()) as u64,
        })
    })
}

#[tokio::test]
async fn raw_20_a_checksum_over_many_regions() {
    bounded(async {
        assert_eq!(crc64("123456789".bytes()), 0x995D_C9BB_DF19_39FA);
        let (server, client, mut all) = large().await;
        assert_eq!(client.checksum(..).await.unwrap(), sum(&all));
        // An odd number, so that what all keys have in common does not cancel out.
        client.put("key@020480", "value").await.unwrap();
        all.insert("key@020480".into(), "value".into());
        assert_eq!(client.checksum(..).await.unwrap(), sum(&all));
        // Splits that the client does not know of.
        server.with(|cluster| {
            for key in ["key@000003", "key@010001", "key@020480"] {
                cluster.split_raw(key).expect("a split");
            }
        });
        let (start, end) = ("key@000002".to_owned(), "key@020001".to_owned());
        let some = sum(all.range(start.clone()..end.clone()));
        assert_eq!(client.checksum(start..end).await.unwrap(), some);
        assert_eq!(client.checksum("b".."a").await.unwrap(), RawChecksum::default());
        assert_eq!(client.checksum("x"..).await.unwrap(), RawChecksum::default());
        let error = client.checksum(..).cf("write").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::InvalidArgument, "{error}");
    })
    .await;
}

// ---- column families ---------------------------------------------------------------------------

#[tokio::test]
async fn raw_21_a_column_family_on_the_client() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await;
        let (one, two) = (client.with_cf("lock"), client.with_cf("write"));
        one.put("one", "1").await.unwrap();
        two.put("two", "2").await.unwrap();
        assert_eq!(one.batch_get(["one", "two"]).await.unwrap(), [value("1"), None]);
        assert_eq!(two.batch_get(["one", "two"]).await.unwrap(), [None, value("2")]);
        assert_eq!(client.batch_get(["one", "two"]).await.unwrap(), [None, None]);
        one.delete("two").await.unwrap();
        assert_eq!(two.get("two").await.unwrap(), value("2"));
        one.delete_range(..).await.unwrap();
        assert_eq!(one.scan(.., 9).await.unwrap(), []);
        assert_eq!(two.scan(.., 9).await.unwrap(), pairs(&[("two", "2")]));
        assert_eq!(two.with_atomic_for_cas().with_cf("").get("two").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn raw_22_a_column_family_for_a_call() {
    bounded(async {
        let server = serve(3, &[]).await;
        let client = client(&server).await.with_atomic_for_cas();
        client.put("one", "1").cf("lock").await.unwrap();
        client.batch_put([("two", "2")]).cf("write").await.unwrap();
        client.compare_and_swap("three", None, "3").cf("write").await.unwrap();
        assert_eq!(client.get("one").cf("lock").await.unwrap(), value("1"));
        assert_eq!(client.get("one").cf("write").await.unwrap(), None);
        assert_eq!(client.get_key_ttl_secs("one").cf("lock").await.unwrap(), Some(0));
        assert_eq!(client.get_key_ttl_secs("one").await.unwrap(), None);
        let found = client.batch_scan(["".."z", "two".."zz"], 9).cf("write").await.unwrap();
        assert_eq!(found, pairs(&[("three", "3"), ("two", "2"), ("two", "2")]));
        client.delete_range("".."two").cf("write").await.unwrap();
        assert_eq!(client.scan(.., 9).cf("write").await.unwrap(), pairs(&[("two", "2")]));
        client.delete("one").cf("lock").await.unwrap();
        assert_eq!(client.get("one").cf("lock").await.unwrap(), None);
        assert_eq!(client.scan(.., 9).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn raw_23_a_scan_of_keys_in_a_column_family() {
    bounded(async {
        let server = serve(3, &["b"]).await;
        let client = client(&server).await.with_cf("write");
        client.batch_put([("a", "1"), ("b", "2"), ("c", "3")]).await.unwrap();
        assert_eq!(client.scan_keys_reverse(.., 9).await.unwrap(), ["c", "b", "a"]);
        assert_eq!(client.scan_keys(.., 2).await.unwrap(), ["a", "b"]);
        let down = client.scan_keys_stream(..).reverse().collect().await.unwrap();
        assert_eq!(down, ["c", "b", "a"]);
    })
    .await;
}

// ---- keyspaces ---------------------------------------------------------------------------------

/// All of it under API V2, in regions that know nothing of keyspaces: unbounded ranges are bounded by
/// the keyspace, and the neighbours are left alone.
#[tokio::test]
async fn a_keyspace_has_the_whole_raw_api() {
    bounded(async {
        let keyspaces = [1, 2, 3].map(|id| Keyspace::new(id, format!("keyspace {id}")));
        let config = ClusterConfig::default().stores(3).api(Api::V2).keyspaces(keyspaces);
        let config = config.split_keys([&b"r\0\0\x01m"[..], b"r\0\0\x02c", b"r\0\0\x02m"]);
        let server = Server::start(config.build(), ServeOptions::default()).await.unwrap();
        let mut clients = Vec::new();
        for id in 1..=3 {
            let config = Config::default().with_keyspace(format!("keyspace {id}"));
            let client = RawClient::new_with_config([server.pd_address()], config).await.unwrap();
            let all = ["", "a", "c", "k", "m", "z"].map(|key| (key, id.to_string()));
            client.batch_put_with_ttl(all, [0, 0, 0, 0, 99, 0]).await.unwrap();
            clients.push(client);
        }
        let client = &clients[1];
        let ttl = client.get_key_ttl_secs("m").await.unwrap().unwrap();
        assert!((90..=99).contains(&ttl), "{ttl}");
        // raw.md §3.3: keys count with their prefix of four bytes.
        let prefixed: BTreeMap<String, String> = ["", "a", "c", "k", "m", "z"]
            .map(|key| (format!("r\0\0\x02{key}"), "2".to_owned()))
            .into();
        assert_eq!(client.checksum(..).await.unwrap(), sum(&prefixed));
        let swapped = client.with_atomic_for_cas().compare_and_swap("b", None, "2").await.unwrap();
        assert_eq!(swapped, (None, true));
        for page in [1, 2, 9] {
            let keys = client.scan_keys_stream(..).page_size(page).collect().await.unwrap();
            assert_eq!(keys, ["", "a", "b", "c", "k", "m", "z"]);
            let down = client.scan_keys_stream(..).reverse().page_size(page);
            assert_eq!(down.collect().await.unwrap(), ["z", "m", "k", "c", "b", "a", ""]);
        }
        let found = client.batch_scan_keys(["l".."zz", "".."b"], 9).await.unwrap();
        assert_eq!(found, ["m", "z", "", "a"]);
        server.with(|cluster| {
            cluster.set_coprocessor(Some(|call| Ok(call.pairs.len().to_string().into())));
        });
        let answers = client.coprocessor("count", "*", [..], |region, parts| {
            assert_eq!(parts.len(), 1);
            assert_eq!(parts[0], region.range, "as if the keyspace were all there is");
            "?"
        });
        let counts: Vec<String> = answers
            .await
            .unwrap()
            .into_iter()
            .map(|(_, answer)| String::from_utf8(answer.to_vec()).unwrap())
            .collect();
        assert_eq!(counts, ["3", "2", "2"]);
        client.delete_range("b"..).await.unwrap();
        assert_eq!(client.scan_keys(.., 9).await.unwrap(), ["", "a"]);
        client.delete_range(..).await.unwrap();
        assert_eq!(client.checksum(..).await.unwrap(), RawChecksum::default());
        for neighbour in [&clients[0], &clients[2]] {
            assert_eq!(neighbour.scan_keys(.., 9).await.unwrap(), ["", "a", "c", "k", "m", "z"]);
        }
    })
    .await;
}
