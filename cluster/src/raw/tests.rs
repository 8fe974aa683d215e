//! cases.md A as far as it concerns the server; raw.md §4, §5.

use std::time::Duration;

use anatase_proto::{
    errorpb::Error,
    kvrpcpb::{
        Context, KeyRange, KvPair, RawBatchDeleteRequest, RawBatchGetRequest, RawBatchPutRequest,
        RawBatchScanRequest, RawCasRequest, RawChecksumRequest, RawDeleteRangeRequest,
        RawDeleteRequest, RawGetKeyTtlRequest, RawGetRequest, RawPutRequest, RawScanRequest,
    },
};
use bytes::Bytes;

use crate::{
    Api, Cluster, ClusterConfig, StoreCall,
    testing::{key, text},
};

impl Cluster {
    /// Calls the leader of the region of a raw key.
    fn raw_ask<R: StoreCall>(
        &mut self,
        at: &str,
        request: impl FnOnce(Option<Box<Context>>) -> R,
    ) -> R::Response {
        let region = self.region_of_raw(at.as_bytes()).unwrap().id;
        let store = self.leader_of(region).unwrap();
        let context = self.context_for(region);
        self.call(store, request(Some(Box::new(context)))).result.unwrap()
    }

    fn raw_put(&mut self, name: &str, value: &str, ttl: u64) -> String {
        self.raw_ask(name, |context| RawPutRequest {
            context,
            key: key(name),
            value: key(value),
            ttl,
            ..Default::default()
        })
        .error
    }

    fn raw_get(&mut self, name: &str) -> Option<String> {
        let response = self.raw_ask(name, |context| RawGetRequest {
            context,
            key: key(name),
            ..Default::default()
        });
        assert_eq!((response.region_error, response.error.as_str()), (None, ""));
        (!response.not_found).then(|| text(&response.value))
    }

    /// The keys of a scan, or the region error.
    fn raw_keys(&mut self, at: &str, request: RawScanRequest) -> Result<String, Box<Error>> {
        let response = self.raw_ask(at, |context| RawScanRequest { context, ..request });
        match response.region_error {
            Some(error) => Err(error),
            None => {
                let keys: Vec<_> = response.kvs.iter().map(|pair| text(&pair.key)).collect();
                Ok(keys.join(" "))
            }
        }
    }
}

fn scan(start: &str, end: &str, limit: u32) -> RawScanRequest {
    RawScanRequest { start_key: key(start), end_key: key(end), limit, ..Default::default() }
}

fn four(config: ClusterConfig) -> Cluster {
    let mut cluster = config.build();
    for name in ["k1", "k3", "k5", "k7"] {
        cluster.raw_put(name, &name[1..], 0);
    }
    cluster
}

// RAW-01, RAW-02

#[test]
fn put_get_delete_and_empty_is_not_absent() {
    let mut cluster = ClusterConfig::default().build();
    assert_eq!(cluster.raw_get("k"), None);
    assert_eq!(cluster.raw_put("k", "", 0), "");
    assert_eq!(cluster.raw_get("k"), Some(String::new()));
    assert_eq!(cluster.raw_put("", "the empty key", 0), "");
    assert_eq!(cluster.raw_get(""), Some("the empty key".into()));
    for _ in 0..2 {
        let response = cluster.raw_ask("k", |context| RawDeleteRequest {
            context,
            key: key("k"),
            ..Default::default()
        });
        assert_eq!((response.region_error, response.error.as_str()), (None, ""));
    }
    assert_eq!(cluster.raw_get("k"), None);
}

#[test]
fn batches() {
    let mut cluster = ClusterConfig::default().build();
    let pair = |(name, value): (&str, &str)| KvPair {
        key: key(name),
        value: key(value),
        ..Default::default()
    };
    let pairs = [("a", "1"), ("b", ""), ("a", "2")].map(pair).to_vec();
    cluster.raw_ask("a", |context| RawBatchPutRequest { context, pairs, ..Default::default() });
    let get = |cluster: &mut Cluster| {
        let response = cluster.raw_ask("a", |context| RawBatchGetRequest {
            context,
            keys: ["b", "nope", "a", "b"].map(key).to_vec(),
            ..Default::default()
        });
        let pairs = response.pairs.iter();
        pairs.map(|it| format!("{}={}", text(&it.key), text(&it.value))).collect::<Vec<_>>()
    };
    assert_eq!(get(&mut cluster), ["b=", "a=2", "b="], "the last value counts");
    cluster.raw_ask("a", |context| RawBatchDeleteRequest {
        context,
        keys: ["a", "nope"].map(key).to_vec(),
        ..Default::default()
    });
    assert_eq!(get(&mut cluster), ["b=", "b="]);
}

#[test]
fn a_key_outside_the_region_is_refused_and_nothing_is_written() {
    let mut cluster = ClusterConfig::default().split_keys_raw(["m"]).build();
    let pairs = ["a", "m"].map(|name| KvPair { key: key(name), ..Default::default() }).to_vec();
    let response =
        cluster.raw_ask("a", |context| RawBatchPutRequest { context, pairs, ..Default::default() });
    let error = response.region_error.unwrap().key_not_in_region.unwrap();
    assert_eq!((&error.key[..], &error.end_key[..]), (&b"m"[..], &b"m"[..]));
    assert_eq!(cluster.raw_pairs("default").count(), 0);
}

// RAW-06, RAW-07

#[test]
fn forward_scans() {
    let mut cluster = four(ClusterConfig::default());
    let mut keys = |start, end, limit| cluster.raw_keys("", scan(start, end, limit)).unwrap();
    assert_eq!(keys("", "", 10), "k1 k3 k5 k7");
    assert_eq!(keys("", "", 2), "k1 k3");
    assert_eq!(keys("k1", "k5", 10), "k1 k3", "the end is excluded");
    assert_eq!(keys("k1", "k5\0", 10), "k1 k3 k5");
    assert_eq!(keys("k1\0", "k3", 10), "");
    assert_eq!(keys("k5", "k1", 10), "");
    assert_eq!(keys("", "", 0), "");
}

#[test]
fn reverse_scans() {
    let mut cluster = four(ClusterConfig::default());
    let mut keys = |start, end, limit| {
        let request = RawScanRequest { reverse: true, ..scan(start, end, limit) };
        cluster.raw_keys("", request).unwrap()
    };
    assert_eq!(keys("z", "", 10), "k7 k5 k3 k1");
    assert_eq!(keys("k7", "k3", 10), "k5 k3", "down from an excluded start");
    assert_eq!(keys("k7\0", "k3\0", 1), "k7");
    assert_eq!(keys("", "", 10), "");
}

#[test]
fn scans_are_clipped_to_the_region_and_must_start_in_it() {
    let mut cluster = four(ClusterConfig::default().split_keys_raw(["k3", "k7"]));
    assert_eq!(cluster.raw_keys("", scan("", "", 9)).unwrap(), "k1");
    assert_eq!(cluster.raw_keys("k3", scan("k3", "", 9)).unwrap(), "k3 k5");
    assert_eq!(cluster.raw_keys("k3", scan("k7", "", 9)).unwrap(), "", "at the very end");
    let down = |start| RawScanRequest { reverse: true, ..scan(start, "", 9) };
    assert_eq!(cluster.raw_keys("k3", down("k7")).unwrap(), "k5 k3");
    assert_eq!(cluster.raw_keys("k3", down("k3")).unwrap(), "");
    for outside in [scan("", "", 9), scan("k2", "", 9), scan("k8", "", 9), down("k8")] {
        let error = cluster.raw_keys("k3", outside).unwrap_err();
        assert!(error.key_not_in_region.is_some());
    }
}

#[test]
fn keys_only() {
    let mut cluster = four(ClusterConfig::default());
    let response = cluster.raw_ask("", |context| RawScanRequest {
        context,
        key_only: true,
        ..scan("", "", 9)
    });
    assert!(response.kvs.iter().all(|pair| pair.value.is_empty()));
    assert_eq!(response.kvs.len(), 4);
}

#[test]
fn batch_scans_fill_in_open_ends_and_want_order() {
    let mut cluster = four(ClusterConfig::default());
    let mut keys = |ranges: &[(&str, &str)], reverse| {
        let ranges = ranges
            .iter()
            .map(|(start, end)| KeyRange { start_key: key(start), end_key: key(end) })
            .collect();
        let response = cluster.raw_ask("", |context| RawBatchScanRequest {
            context,
            ranges,
            each_limit: 2,
            reverse,
            ..Default::default()
        });
        let rows = response.kvs.iter().map(|pair| match &pair.error {
            Some(error) => error.abort.clone(),
            None => text(&pair.key),
        });
        rows.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys(&[("k1", ""), ("k3", "k5"), ("k5", "")], false), "k1 k3 k5 k7");
    assert_eq!(keys(&[("k9", "k5"), ("k4", "")], true), "k7 k5 k3 k1");
    assert_eq!(keys(&[("k5", "k7"), ("k1", "k3")], false), "Invalid KeyRanges");
}

// RAW-11, RAW-12

#[test]
fn range_deletion_stays_in_its_region() {
    let config = ClusterConfig::default().split_keys_raw(["k4"]);
    let delete = |cluster: &mut Cluster, start: &str, end: &str| {
        cluster
            .raw_ask(start, |context| RawDeleteRangeRequest {
                context,
                start_key: key(start),
                end_key: key(end),
                ..Default::default()
            })
            .region_error
    };
    for (start, end, left) in [
        ("", "k4", "k5 k7"),
        ("k1", "k1\0", "k3 k5 k7"),
        ("k2", "k3", "k1 k3 k5 k7"),
        ("k4", "", "k1 k3"),
        ("k5", "k7", "k1 k3 k7"),
    ] {
        let mut cluster = four(config.clone());
        assert_eq!(delete(&mut cluster, start, end), None);
        let keys: Vec<_> = cluster.raw_pairs("default").map(|(key, _)| text(key)).collect();
        assert_eq!(keys.join(" "), left, "{start}..{end}");
    }
    let mut cluster = four(config);
    for (start, end) in [("k1", "k5"), ("k1", "")] {
        let error = delete(&mut cluster, start, end).unwrap();
        assert!(error.key_not_in_region.is_some());
    }
    for (start, end) in [("k1", "k1"), ("k3", "k1")] {
        let error = delete(&mut cluster, start, end).unwrap();
        assert!(error.key_not_in_region.is_none() && error.message.contains("invalid"));
    }
}

// RAW-14..16, RAW-18

fn cas(cluster: &mut Cluster, previous: Option<&str>, value: &str) -> (bool, Option<String>) {
    let response = cluster.raw_ask("k", |context| RawCasRequest {
        context,
        key: key("k"),
        value: key(value),
        previous_not_exist: previous.is_none(),
        previous_value: key(previous.unwrap_or_default()),
        ..Default::default()
    });
    assert_eq!((response.region_error, response.error.as_str()), (None, ""));
    (response.succeed, (!response.previous_not_exist).then(|| text(&response.previous_value)))
}

#[test]
fn swaps_tell_the_previous_value_either_way() {
    let mut cluster = ClusterConfig::default().build();
    assert_eq!(cas(&mut cluster, Some(""), "x"), (false, None), "empty is not absent");
    assert_eq!(cas(&mut cluster, None, ""), (true, None));
    assert_eq!(cas(&mut cluster, None, "x"), (false, Some("".into())));
    assert_eq!(cas(&mut cluster, Some(""), "val"), (true, Some("".into())));
    assert_eq!(cas(&mut cluster, Some("other"), "x"), (false, Some("val".into())));
    assert_eq!(cluster.raw_get("k"), Some("val".into()));
    let response = cluster.raw_ask("k", |context| RawCasRequest {
        context,
        key: key("k"),
        previous_value: key("val"),
        delete: true,
        ..Default::default()
    });
    assert!(response.succeed);
    assert_eq!(cluster.raw_get("k"), None);
}

// RAW-19; raw.md §4

#[test]
fn without_ttl_a_ttl_is_an_error() {
    let mut cluster = ClusterConfig::default().build();
    let refused = "ttl is not enabled, but get put request with ttl";
    assert_eq!(cluster.raw_put("k", "v", 1), refused);
    assert_eq!(cluster.raw_put("k", "v", 0), "");
    let response = cluster.raw_ask("k", |context| RawGetKeyTtlRequest {
        context,
        key: key("k"),
        ..Default::default()
    });
    assert_eq!((response.ttl, response.not_found), (0, false));
    let response = cluster.raw_ask("k", |context| RawCasRequest {
        context,
        key: key("k"),
        ttl: 1,
        ..Default::default()
    });
    assert_eq!(response.error, refused);
}

#[test]
fn a_key_lives_for_its_ttl_and_no_longer() {
    let mut cluster = ClusterConfig::default().api(Api::V1Ttl).build();
    let ttl = |cluster: &mut Cluster, name: &str| {
        let response = cluster.raw_ask(name, |context| RawGetKeyTtlRequest {
            context,
            key: key(name),
            ..Default::default()
        });
        (!response.not_found).then_some(response.ttl)
    };
    assert_eq!(cluster.raw_put("k", "v", 2), "");
    cluster.raw_put("forever", "v", 0);
    assert_eq!(ttl(&mut cluster, "k"), Some(2));
    cluster.advance(Duration::from_secs(1));
    assert_eq!((ttl(&mut cluster, "k"), cluster.raw_get("k")), (Some(1), Some("v".into())));
    cluster.advance(Duration::from_secs(1));
    assert_eq!((ttl(&mut cluster, "k"), cluster.raw_get("k")), (None, None));
    assert_eq!(ttl(&mut cluster, "forever"), Some(0));
    assert_eq!(cluster.raw_keys("", scan("", "", 9)).unwrap(), "forever");
    assert_eq!(cas(&mut cluster, None, "again"), (true, None), "expired is absent");
    cluster.raw_put("k", "w", 5);
    cluster.raw_put("k", "w", 0);
    assert_eq!(ttl(&mut cluster, "k"), Some(0), "a put without TTL clears it");
}

#[test]
fn ttls_of_a_batch_are_none_one_or_as_many_as_pairs() {
    let mut cluster = ClusterConfig::default().api(Api::V1Ttl).build();
    let mut put = |ttls: &[u64]| {
        let pairs = ["a", "b"].map(|name| KvPair { key: key(name), ..Default::default() });
        let (pairs, ttls) = (pairs.to_vec(), ttls.to_vec());
        let response = cluster.raw_ask("a", |context| RawBatchPutRequest {
            context,
            pairs,
            ttls,
            ..Default::default()
        });
        response.error
    };
    for good in [&[][..], &[5], &[5, 6]] {
        assert_eq!(put(good), "");
    }
    assert_eq!(put(&[1, 2, 3]), "The length of ttls does not equal to the length of pairs");
}

#[test]
fn stores_with_ttl_serve_no_transactions() {
    let mut cluster = ClusterConfig::default().api(Api::V1Ttl).build();
    let error = cluster.read("k", 10).unwrap_err();
    assert!(error.abort.contains("does not match with TiKV storage"), "{error:?}");
}

// RAW-20

#[test]
fn checksums_add_up_over_regions() {
    // An odd number of keys: in an even number, what all have in common cancels out.
    let [whole, parts] = [&[][..], &["k3", "k6"]].map(|keys| {
        let mut cluster = four(ClusterConfig::default().split_keys_raw(keys));
        cluster.raw_put("k8", "eight", 0);
        cluster
    });
    let sum = |mut cluster: Cluster| {
        let starts: Vec<String> = cluster.regions().map(|region| text(&region.start)).collect();
        let mut total = (0, 0, 0);
        for start in &starts {
            let response = cluster.raw_ask(start, |context| RawChecksumRequest {
                context,
                ranges: vec![KeyRange { start_key: key(start), end_key: Bytes::new() }],
                ..Default::default()
            });
            total.0 ^= response.checksum;
            total.1 += response.total_kvs;
            total.2 += response.total_bytes;
        }
        total
    };
    assert_eq!(sum(whole.clone()), sum(parts));
    let (checksum, kvs, bytes) = sum(whole);
    assert_ne!(checksum, 0);
    assert_eq!((kvs, bytes), (5, 19));
}

// RAW-21; raw.md §1, §4

#[test]
fn column_families_are_apart_and_there_are_three() {
    let mut cluster = ClusterConfig::default().build();
    let put = |cluster: &mut Cluster, cf: &str| {
        cluster
            .raw_ask("k", |context| RawPutRequest {
                context,
                key: key("k"),
                cf: cf.to_owned(),
                ..Default::default()
            })
            .error
    };
    assert_eq!(
        ["write", "lock", "cf1"].map(|cf| put(&mut cluster, cf)),
        ["", "", "invalid cf name: cf1"]
    );
    assert_eq!(cluster.raw_get("k"), None);
    assert_eq!(["default", "lock", "write"].map(|cf| cluster.raw_pairs(cf).count()), [0, 1, 1]);
    let response = cluster.raw_ask("k", |context| RawScanRequest {
        context,
        cf: "cf1".to_owned(),
        ..scan("", "", 9)
    });
    let error = response.kvs[0].error.as_ref().unwrap();
    assert_eq!((response.kvs.len(), error.abort.as_str()), (1, "invalid cf name: cf1"));
}

#[test]
fn large_keys_and_large_entries_are_refused() {
    let mut cluster = ClusterConfig::default().max_key_size(8).max_entry_size(100).build();
    assert_eq!(cluster.raw_put("12345678", "v", 0), "");
    assert_eq!(cluster.raw_put("123456789", "v", 0), "max key size exceeded, size: 9, limit: 8");
    let mut put = |for_cas: bool, name: &str, value: &str| {
        cluster.raw_ask(name, |context| RawPutRequest {
            context,
            key: key(name),
            value: key(value),
            for_cas,
            ..Default::default()
        })
    };
    assert_eq!(put(true, "123456789", "v").error, "", "not checked on the atomic path");
    let error = put(false, "k", &"v".repeat(100)).region_error.unwrap();
    assert_eq!(error.raft_entry_too_large.unwrap().entry_size, 101);
}

#[test]
fn other_api_versions_are_refused() {
    let mut cluster = ClusterConfig::default().build();
    let response = cluster.raw_ask("k", |mut context| {
        context.as_mut().unwrap().api_version = 2;
        RawGetRequest { context, key: key("k"), ..Default::default() }
    });
    assert!(response.error.contains("storage: V1, request: V2"), "{}", response.error);
}
