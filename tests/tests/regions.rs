//! Where keys live, asked from outside: the answers equal the cluster's own knowledge, before and after
//! regions split, merge and move.

use std::collections::BTreeSet;
use std::time::Duration;

use anatase::{
    BoundRange, Bytes, Config, ErrorKind, RawClient, Region, Regions, TransactionClient,
};
use anatase_cluster::serve::{ServeOptions, Server};
use anatase_cluster::{Cluster, ClusterConfig, Fault, On, RegionFault};
use anatase_proto::rpc::Rpc;
use anatase_tests::{Dice, bounded};

async fn serve(keys: &[&str]) -> Server {
    let cluster = ClusterConfig::default().stores(3).split_keys(keys).build();
    Server::start(cluster, ServeOptions::default()).await.expect("a cluster on loopback")
}

/// Raw or transactional keys: how the cluster names them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Raw,
    Txn,
}

/// What the cluster has, and the borders that the test has made.
struct Truth {
    mode: Mode,
    borders: BTreeSet<String>,
}

/// A region as both sides can tell it.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    version: (u64, u64, u64),
    start: String,
    end: String,
    leader: Option<u64>,
    stores: Vec<u64>,
}

impl Told {
    fn of(region: &Region) -> Self {
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("text");
        let version = region.version;
        Self {
            version: (version.id, version.conf_ver, version.version),
            start: text(&region.range.start),
            end: text(&region.range.end),
            leader: region.leader.map(|store| store.0),
            stores: region.stores.iter().map(|store| store.0).collect(),
        }
    }
}

impl Truth {
    fn of_key(&self, cluster: &Cluster, key: &str) -> Told {
        let region = match self.mode {
            Mode::Raw => cluster.region_of_raw(key.as_bytes()),
            Mode::Txn => cluster.region_of(key.as_bytes()),
        };
        let region = region.expect("the whole key space is covered");
        let start = self.borders.range(..=key.to_owned()).next_back().cloned().unwrap_or_default();
        let after = (std::ops::Bound::Excluded(key.to_owned()), std::ops::Bound::Unbounded);
        let end = self.borders.range(after).next().cloned().unwrap_or_default();
        Told {
            version: (region.id, region.conf_ver, region.version),
            start,
            end,
            leader: region.leader,
            stores: region.peers.iter().map(|peer| peer.store).collect(),
        }
    }

    /// The regions of `[start, end)`; an empty end is none.
    fn in_range(&self, cluster: &Cluster, start: &str, end: &str) -> Vec<Told> {
        let mut found = Vec::new();
        let mut at = start.to_owned();
        if !end.is_empty() && start >= end {
            return found;
        }
        loop {
            let region = self.of_key(cluster, &at);
            at = region.end.clone();
            found.push(region);
            if at.is_empty() || (!end.is_empty() && *at >= *end) {
                return found;
            }
        }
    }

    fn split(&mut self, cluster: &mut Cluster, key: &str) {
        let made = match self.mode {
            Mode::Raw => cluster.split_raw(key),
            Mode::Txn => cluster.split(key),
        };
        if made.is_some() {
            self.borders.insert(key.into());
        }
    }

    /// Takes a border away. Which side's region remains is drawn.
    fn merge(&mut self, cluster: &mut Cluster, border: &str, left: bool) {
        let right = self.of_key(cluster, border).version.0;
        let before = self.borders.range(..border.to_owned()).next_back().cloned();
        let into = self.of_key(cluster, &before.unwrap_or_default()).version.0;
        let (source, target) = if left { (right, into) } else { (into, right) };
        assert!(cluster.merge(source, target), "neighbours merge");
        self.borders.remove(border);
    }
}

fn told(regions: &[Region]) -> Vec<Told> {
    regions.iter().map(Told::of).collect()
}

fn range(start: &str, end: &str) -> BoundRange {
    (start.to_owned(), (!end.is_empty()).then(|| end.to_owned())).into()
}

/// Every helper against the truth, for these keys.
async fn compare(server: &Server, truth: &Truth, regions: &Regions, keys: &[String]) {
    for key in keys {
        let expected = server.with(|cluster| truth.of_key(cluster, key));
        let found = regions.of_key(key).await.expect("a region");
        assert_eq!(Told::of(&found), expected, "of_key {key}");
        assert!(found.contains(key));
        assert_eq!(regions.cached(key).await.unwrap().as_ref(), Some(&found), "cached {key}");
        assert_eq!(regions.by_id(found.id()).await.unwrap(), found, "by_id {key}");
        let from_pd = regions.by_id_from_pd(found.id()).await.unwrap();
        assert_eq!(Told::of(&from_pd), expected, "by_id_from_pd {key}");
        let before = regions.before(key).await.expect("a region");
        let expected = server.with(|cluster| match key.as_str() {
            "" => truth.in_range(cluster, "", "").pop().expect("the last"),
            key => truth.in_range(cluster, "", key).pop().expect("one before"),
        });
        assert_eq!(Told::of(&before), expected, "before {key}");
    }
    for start in keys {
        for end in keys {
            let expected = server.with(|cluster| truth.in_range(cluster, start, end));
            let found = regions.in_range(range(start, end)).await.expect("regions");
            assert_eq!(told(&found), expected, "in_range {start}..{end}");
            let ids = regions.ids_in_range(range(start, end)).await.expect("ids");
            let expected: Vec<u64> = expected.iter().map(|region| region.version.0).collect();
            assert_eq!(ids, expected, "ids_in_range {start}..{end}");
        }
    }
    // Each key in its group, in the order given; each group once.
    let groups = regions.of_keys(keys).await.expect("groups");
    let mut count = 0;
    for (region, group) in &groups {
        let mine = keys.iter().filter(|key| region.contains(key));
        assert_eq!(group.iter().collect::<Vec<_>>(), mine.collect::<Vec<_>>(), "of_keys");
        count += group.len();
    }
    assert_eq!(count, keys.len());
    let starts: Vec<_> = groups.iter().map(|(region, _)| &region.range.start).collect();
    assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
    // Ranges are cut along the regions, and put together give what they were.
    let ranges = keys.windows(2).map(|pair| range(&pair[0], &pair[1]));
    for (region, parts) in regions.of_ranges(ranges).await.expect("parts") {
        for part in parts {
            assert!(region.contains(&part.start), "{part:?} in {region:?}");
            let end = &region.range.end;
            assert!(end.is_empty() || (!part.end.is_empty() && part.end <= *end), "{part:?}");
        }
    }
}

/// Random changes of the cluster; after each the client meets them by reading, and then tells the truth.
async fn helpers_follow(mode: Mode, seed: u64) {
    const LETTERS: &str = "bcdefghijklmnopqrstuvwxy";
    let server = serve(&[]).await;
    let mut truth = Truth { mode, borders: BTreeSet::new() };
    for key in ["g", "p"] {
        server.with(|cluster| truth.split(cluster, key));
    }
    let raw = RawClient::new([server.pd_address()]).await.expect("a client");
    let txn = TransactionClient::new([server.pd_address()]).await.expect("a client");
    let regions = match mode {
        Mode::Raw => raw.regions(),
        Mode::Txn => txn.regions(),
    };
    let mut dice = Dice::new(seed);
    for _ in 0..12 {
        let mut keys = vec![String::new(), "a".into(), "zz".into()];
        keys.extend(truth.borders.iter().cloned());
        for _ in 0..3 {
            let at = dice.below(LETTERS.len() as u64) as usize;
            keys.push(LETTERS[at..=at].into());
        }
        // In no order, one of them twice.
        let turn = dice.below(keys.len() as u64) as usize;
        keys.rotate_left(turn);
        keys.push(keys[0].clone());
        compare(&server, &truth, &regions, &keys).await;
        let at = dice.below(LETTERS.len() as u64) as usize;
        let border = {
            let count = truth.borders.len() as u64;
            truth.borders.iter().nth(dice.below(count) as usize).cloned()
        };
        let (choice, left) = (dice.below(5), dice.chance(1, 2));
        server.with(|cluster| match (choice, border) {
            (0 | 1, Some(border)) if truth.borders.len() > 1 => {
                truth.merge(cluster, &border, left);
            }
            (2, Some(border)) => {
                let region = truth.of_key(cluster, &border).version.0;
                cluster.transfer_leader(region, 1 + dice.below(3));
            }
            _ => truth.split(cluster, &LETTERS[at..=at]),
        });
        // Reading corrects the client where it is wrong.
        let mut touched: Vec<String> = truth.borders.iter().cloned().collect();
        touched.extend(LETTERS.chars().map(String::from));
        touched.push(String::from("a"));
        for key in touched {
            match mode {
                Mode::Raw => raw.get(key).await.map(drop).expect("a read"),
                Mode::Txn => {
                    let snapshot = txn.snapshot(anatase::Timestamp::MAX);
                    snapshot.get(key).await.map(drop).expect("a read");
                }
            }
        }
    }
    raw.close().await;
    txn.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_helpers_tell_the_truth_through_splits_and_merges() {
    bounded(async {
        for seed in 1..4 {
            helpers_follow(Mode::Raw, seed).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactional_helpers_tell_the_truth_through_splits_and_merges() {
    bounded(async {
        for seed in 1..4 {
            helpers_follow(Mode::Txn, seed).await;
        }
    })
    .await;
}

/// control-plane.md §4.5: what is not known, and what does not exist.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_regions() {
    bounded(async {
        let server = serve(&[]).await;
        server.with(|cluster| cluster.split_raw("m"));
        let client = RawClient::new([server.pd_address()]).await.expect("a client");
        let regions = client.regions();
        // Nobody is asked.
        assert_eq!(regions.cached("a").await.expect("no error"), None);
        let asked = |server: &Server| {
            server.with(|cluster| {
                let region = cluster.calls(Rpc::PdGetRegion);
                region + cluster.calls(Rpc::PdBatchScanRegions)
            })
        };
        assert_eq!(asked(&server), 0);
        assert_eq!(regions.in_range("b".."a").await.expect("no error"), []);
        assert_eq!(regions.of_keys([""; 0]).await.expect("no error"), []);
        assert_eq!(asked(&server), 0);
        // One question for all.
        assert_eq!(regions.in_range(..).await.expect("regions").len(), 2);
        assert_eq!(asked(&server), 1);
        // An id that there is not: at once, without a second question.
        for request in [regions.by_id(999), regions.by_id_from_pd(999)] {
            let before = server.with(|cluster| cluster.calls(Rpc::PdGetRegionById));
            let error = request.await.expect_err("no such region");
            assert_eq!(error.kind(), &ErrorKind::RegionUnavailable);
            assert!(!error.is_undetermined());
            let after = server.with(|cluster| cluster.calls(Rpc::PdGetRegionById));
            assert_eq!(after - before, 1);
        }
        // Without buckets the whole region is one.
        let last = regions.of_key("x").await.expect("a region");
        assert_eq!(last.buckets_version(), None);
        assert_eq!(last.bucket("x"), Some(last.range.clone()));
        assert_eq!(last.bucket("a"), None);
        regions.buckets_seen(last.version, 0, 7).await.expect("at once");
        client.close().await;
        let error = regions.of_key("a").await.expect_err("closed");
        assert_eq!(error.kind(), &ErrorKind::Closed);
    })
    .await;
}

/// control-plane.md §4.6: 300 regions, and 5 000 ranges in one of them, take few questions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_regions_take_few_questions() {
    bounded(async {
        let server = serve(&[]).await;
        server.with(|cluster| {
            for n in 1..300 {
                cluster.split_raw(format!("{n:03}"));
            }
        });
        let client = RawClient::new([server.pd_address()]).await.expect("a client");
        let regions = client.regions();
        let questions =
            |server: &Server| server.with(|cluster| cluster.calls(Rpc::PdBatchScanRegions));
        let all = regions.in_range(..).await.expect("regions");
        assert_eq!(questions(&server), 3, "128, 128 and 44");
        let truth: Vec<u64> =
            server.with(|cluster| cluster.regions().map(|region| region.id).collect());
        assert_eq!(all.iter().map(Region::id).collect::<Vec<_>>(), truth);
        client.close().await;

        let client = RawClient::new([server.pd_address()]).await.expect("a client");
        let keys: Vec<String> = (0..5_000).rev().map(|n| format!("150/{n:04}")).collect();
        let groups = client.regions().of_keys(&keys).await.expect("groups");
        assert_eq!(questions(&server), 4);
        assert_eq!(groups.len(), 1);
        assert!(groups[0].1.iter().eq(&keys));
        client.close().await;
    })
    .await;
}

/// control-plane.md §4.10: a client that has all regions refreshed learns of a split without having
/// been to a store; one that has not, does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_learns_of_a_split() {
    bounded(async {
        let server = serve(&[]).await;
        let config = Config::default().with_regions_refresh_interval(Duration::from_secs(1));
        let refreshed = RawClient::new_with_config([server.pd_address()], config).await.unwrap();
        let usual = RawClient::new([server.pd_address()]).await.expect("a client");
        let count = async |client: &RawClient| client.regions().in_range(..).await.unwrap().len();
        assert_eq!((count(&refreshed).await, count(&usual).await), (1, 1));
        server.with(|cluster| cluster.split_raw("m"));
        let mut seen = 1;
        while seen == 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            seen = count(&refreshed).await;
        }
        assert_eq!((seen, count(&usual).await), (2, 1));
        server.with(|cluster| assert_eq!(cluster.calls(Rpc::RawGet), 0));
        refreshed.close().await;
        usual.close().await;
    })
    .await;
}

/// control-plane.md §4.9: buckets come with a region; newer ones that a store tells of are taken, and
/// those that somebody has seen are fetched from PD, in the background.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_follow() {
    bounded(async {
        let server = serve(&[]).await;
        let bucket = |region: &Region, key: &str| {
            let bucket = region.bucket(key).expect("a key of the region");
            let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("text");
            (region.buckets_version(), text(&bucket.start), text(&bucket.end))
        };
        let borders =
            |keys: &[&'static str]| keys.iter().map(|key| Bytes::from(*key)).collect::<Vec<_>>();
        let id = server.with(|cluster| {
            let id = cluster.regions().next().expect("a region").id;
            cluster.set_buckets(id, 5, borders(&["", "g", ""]));
            id
        });
        let client = RawClient::new([server.pd_address()]).await.expect("a client");
        let regions = client.regions();
        let region = regions.of_key("b").await.expect("a region");
        assert_eq!(bucket(&region, "b"), (Some(5), String::new(), "g".into()));
        assert_eq!(bucket(&region, "g"), (Some(5), "g".into(), String::new()));
        // A store tells of newer ones, with their borders.
        server.with(|cluster| {
            let keys = borders(&["", "d", "g", ""]);
            let fault = RegionFault::BucketVersionNotMatch { version: 6, keys };
            cluster.faults().next(On::rpc(Rpc::RawGet), Fault::Region(fault));
        });
        client.get("b").await.expect("a read");
        let region = regions.cached("b").await.unwrap().expect("it is known");
        assert_eq!(bucket(&region, "e"), (Some(6), "d".into(), "g".into()));
        // Somebody saw newer ones elsewhere.
        server.with(|cluster| cluster.set_buckets(id, 9, borders(&["", "x", ""])));
        for used in [5, 6, 6] {
            regions.buckets_seen(region.version, used, 9).await.expect("at once");
        }
        let mut seen = region;
        while seen.buckets_version() == Some(6) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            seen = regions.cached("b").await.unwrap().expect("it is known");
        }
        assert_eq!(bucket(&seen, "y"), (Some(9), "x".into(), String::new()));
        server.with(|cluster| assert_eq!(cluster.calls(Rpc::PdGetRegionById), 1));
        client.close().await;
    })
    .await;
}
