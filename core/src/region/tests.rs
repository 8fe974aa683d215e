//! The rules of the cache one by one. Row comments name sections of `control-plane.md`.

use std::time::Duration;

use super::cache::*;
use super::entry::*;
use crate::id::{Peer, PeerRole, RegionVersion, StoreId};
use crate::operation::KeyRange;
use crate::time::Instant;

pub(super) const TTL: Duration = Duration::from_secs(600);
pub(super) const JITTER: Duration = Duration::from_secs(30);
pub(super) const NOW: Instant = Instant::from_nanos(1_000);

pub(super) fn later(secs: u64) -> Instant {
    NOW + Duration::from_secs(secs)
}

pub(super) fn version(id: u64, conf_ver: u64, version: u64) -> RegionVersion {
    RegionVersion { id, conf_ver, version }
}

/// Three voters; the peer `10 * id + n` is on store `n`.
pub(super) fn region(v: RegionVersion, start: &'static str, end: &'static str) -> NewRegion {
    let peer =
        |n| Peer { id: 10 * v.id + n, store: StoreId(n), role: PeerRole::Voter, witness: false };
    NewRegion {
        version: v,
        range: KeyRange::new(start, end),
        peers: vec![peer(1), peer(2), peer(3)],
        leader: Some(10 * v.id + 1),
        some_down: false,
        buckets: None,
    }
}

pub(super) fn well(_: StoreId) -> u32 {
    0
}

struct Cache(RegionCache);

impl Cache {
    fn new(regions: impl IntoIterator<Item = NewRegion>) -> Self {
        let mut cache = Self(RegionCache::new(TTL));
        for region in regions {
            assert_eq!(cache.insert(region), Inserted::Yes);
        }
        cache
    }

    fn insert(&mut self, region: NewRegion) -> Inserted {
        let inserted = self.0.insert(region, NOW, JITTER, well);
        self.0.check();
        inserted
    }

    fn find(&mut self, key: &str) -> Option<u64> {
        self.0.lookup(key.as_bytes(), NOW, well).map(|region| region.version.id)
    }

    fn find_end(&mut self, key: &str) -> Option<u64> {
        self.0.lookup_end(key.as_bytes(), NOW, well).map(|region| region.version.id)
    }

    fn leader(&self, v: RegionVersion) -> Option<u64> {
        let region = self.0.get(v, NOW, well)?;
        Some(region.leading()?.store.0)
    }
}

/// §4.5: [start, end), and nothing where nothing is cached.
#[test]
fn a_key_leads_to_the_region_that_contains_it() {
    let mut cache = Cache::new([
        region(version(1, 1, 1), "b", "d"),
        region(version(2, 1, 1), "d", "g"),
        region(version(3, 1, 1), "p", ""),
    ]);
    for (key, found) in [
        ("", None),
        ("a", None),
        ("b", Some(1)),
        ("c\u{7f}", Some(1)),
        ("d", Some(2)),
        ("f", Some(2)),
        ("g", None),
        ("h", None),
        ("p", Some(3)),
        ("zzz", Some(3)),
    ] {
        assert_eq!(cache.find(key), found, "{key}");
    }
}

/// §4.5: (start, end], and the empty key only matches a region without end.
#[test]
fn an_end_key_leads_to_the_region_below_it() {
    let mut cache = Cache::new([
        region(version(1, 1, 1), "b", "d"),
        region(version(2, 1, 1), "d", "g"),
        region(version(3, 1, 1), "p", ""),
    ]);
    for (key, found) in [
        ("a", None),
        ("b", None),
        ("c", Some(1)),
        ("d", Some(1)),
        ("e", Some(2)),
        ("g", Some(2)),
        ("h", None),
        ("p", None),
        ("q", Some(3)),
        ("", Some(3)),
    ] {
        assert_eq!(cache.find_end(key), found, "{key}");
    }
    let mut bounded = Cache::new([region(version(1, 1, 1), "b", "d")]);
    assert_eq!(bounded.find_end(""), None);
}

/// §4.2: expired iff now > ttl; looking extends life to now + base + jitter.
#[test]
fn being_looked_up_extends_life() {
    let v = version(1, 1, 1);
    let mut cache = Cache::new([region(v, "", "")]);
    let found = |cache: &mut Cache, at| cache.0.lookup(b"k", at, well).is_some();
    // Lives until 630 s. Within the random part it is not written to.
    assert!(found(&mut cache, later(29)));
    assert!(cache.0.get(v, later(630), well).is_some());
    assert!(cache.0.get(v, later(631), well).is_none());
    // At 30 s the random part is used up: until 660 s.
    assert!(found(&mut cache, later(30)));
    assert!(cache.0.get(v, later(660), well).is_some());
    assert!(cache.0.get(v, later(661), well).is_none());
    // Found dead, it is taken out.
    assert!(!found(&mut cache, later(661)));
    assert_eq!(cache.0.len(), 0);
    cache.0.check();
}

/// §4.3: «down peers present → needExpireAfterTTL»; §19.5.
#[test]
fn a_region_with_replicas_down_is_not_kept_alive_by_use() {
    let down = NewRegion { some_down: true, ..region(version(1, 1, 1), "", "") };
    let mut cache = Cache::new([down]);
    for secs in (0..=630).step_by(10) {
        assert!(cache.0.lookup(b"k", later(secs), well).is_some());
    }
    assert!(cache.0.lookup(b"k", later(631), well).is_none());
}

/// §4.10: a peer store with another epoch → needExpireAfterTTL.
#[test]
fn a_region_on_a_store_that_failed_is_not_kept_alive_by_use() {
    let third_failed = |store: StoreId| u32::from(store.0 == 3);
    let mut cache = Cache::new([region(version(1, 1, 1), "", "")]);
    for secs in (0..=630).step_by(10) {
        assert!(cache.0.lookup(b"k", later(secs), third_failed).is_some());
    }
    assert!(cache.0.lookup(b"k", later(631), third_failed).is_none());
}

/// §5.1, §19.14: a store's epoch puts each region on it in doubt at once.
#[test]
fn a_failed_store_leaves_the_other_replicas() {
    let v = version(1, 1, 1);
    let mut cache = Cache::new([region(v, "", "")]);
    let failed =
        |stores: &'static [u64]| move |store: StoreId| u32::from(stores.contains(&store.0));
    let found = cache.0.get(v, NOW, failed(&[1])).unwrap();
    let fresh =
        [0, 1, 2].map(|index| found.is_fresh(index, failed(&[1])(found.peers[index].store)));
    assert_eq!(fresh, [false, true, true]);
    // With nobody left to ask the region is of no use, for a lookup neither.
    assert!(cache.0.get(v, NOW, failed(&[1, 2, 3])).is_none());
    assert!(cache.0.lookup(b"k", NOW, failed(&[1, 2, 3])).is_none());
    // What is loaded after the failure is believed.
    assert_eq!(cache.0.insert(region(v, "", ""), NOW, JITTER, failed(&[1, 2, 3])), Inserted::Yes);
    assert!(cache.0.lookup(b"k", NOW, failed(&[1, 2, 3])).is_some());
}

/// §4.4: what is refused, and what replaces what.
#[test]
fn an_insert_is_refused_if_older_and_replaces_what_it_overlaps() {
    type Row = (&'static str, Vec<NewRegion>, NewRegion, Inserted, Vec<u64>);
    let rows: [Row; 14] = [
        (
            "step 1: same id, smaller version",
            vec![region(version(1, 5, 5), "b", "d")],
            region(version(1, 5, 4), "b", "d"),
            Inserted::Stale,
            vec![1],
        ),
        (
            "step 1: same id, smaller conf_ver though larger version",
            vec![region(version(1, 5, 5), "b", "d")],
            region(version(1, 4, 6), "b", "d"),
            Inserted::Stale,
            vec![1],
        ),
        (
            "step 1: same id, elsewhere",
            vec![region(version(1, 5, 5), "b", "d")],
            region(version(1, 5, 4), "x", "z"),
            Inserted::Stale,
            vec![1],
        ),
        (
            "same id and version: refreshed",
            vec![region(version(1, 5, 5), "b", "d")],
            region(version(1, 5, 5), "b", "d"),
            Inserted::Yes,
            vec![1],
        ),
        (
            "step 2: an overlapped region is newer",
            vec![region(version(1, 1, 5), "c", "d"), region(version(2, 1, 3), "b", "c")],
            region(version(3, 1, 4), "b", "e"),
            Inserted::Stale,
            vec![2, 1],
        ),
        (
            "step 2: all overlapped regions are older or as old",
            vec![region(version(1, 1, 4), "c", "d"), region(version(2, 1, 3), "b", "c")],
            region(version(3, 1, 4), "b", "e"),
            Inserted::Yes,
            vec![3],
        ),
        (
            "neighbours are not overlapped",
            vec![region(version(1, 1, 9), "a", "b"), region(version(2, 1, 9), "e", "g")],
            region(version(3, 1, 4), "b", "e"),
            Inserted::Yes,
            vec![1, 3, 2],
        ),
        (
            "D30: no end is above all",
            vec![region(version(1, 1, 2), "b", "d"), region(version(2, 1, 2), "x", "")],
            region(version(3, 1, 4), "c", ""),
            Inserted::Yes,
            vec![3],
        ),
        (
            "D30: no end is above all, for the cached region too",
            vec![region(version(1, 1, 2), "b", "")],
            region(version(2, 1, 3), "x", "z"),
            Inserted::Yes,
            vec![2],
        ),
        (
            "an older region that reaches in from below goes",
            vec![region(version(1, 1, 2), "a", "m")],
            region(version(2, 1, 3), "g", "z"),
            Inserted::Yes,
            vec![2],
        ),
        (
            "a newer region that reaches in from below stays",
            vec![region(version(1, 1, 5), "a", "")],
            region(version(2, 1, 3), "m", "z"),
            Inserted::Stale,
            vec![1],
        ),
        (
            "the region of the same id goes wherever it lies",
            vec![region(version(1, 1, 1), "a", "c"), region(version(2, 1, 1), "m", "p")],
            region(version(1, 1, 2), "p", "z"),
            Inserted::Yes,
            vec![2, 1],
        ),
        (
            "invalid regions keep their word about versions",
            vec![region(version(9, 1, 5), "b", "d")],
            region(version(2, 1, 4), "a", "c"),
            Inserted::Stale,
            vec![9],
        ),
        (
            "a region without keys is nobody's",
            vec![region(version(1, 1, 1), "b", "d")],
            region(version(2, 1, 4), "b", "b"),
            Inserted::Stale,
            vec![1],
        ),
    ];
    for (row, cached, new, expected, left) in rows {
        let mut cache = Cache::new(cached);
        cache.0.invalidate(version(9, 1, 5), InvalidReason::Other);
        assert_eq!(cache.insert(new), expected, "{row}");
        let ids: Vec<u64> = cache.0.iter().map(|region| region.version.id).collect();
        assert_eq!(ids, left, "{row}");
    }
}

/// §4.4, step 3: after NoLeader the next peer is tried, whatever PD says.
#[test]
fn the_turn_goes_on_after_a_region_without_leader() {
    let v = version(1, 1, 1);
    let mut cache = Cache::new([region(v, "", "")]);
    for leader in [2, 3, 1, 2] {
        cache.0.invalidate(v, InvalidReason::NoLeader);
        assert_eq!(cache.insert(region(v, "", "")), Inserted::Yes);
        assert_eq!(cache.leader(v), Some(leader));
    }
    cache.0.invalidate(v, InvalidReason::Other);
    cache.insert(region(v, "", ""));
    assert_eq!(cache.leader(v), Some(1));
}

/// §4.3: without a leader the first TiKV peer is taken for it.
#[test]
fn who_leads_is_guessed_among_those_that_can() {
    let v = version(1, 1, 1);
    for (roles, named, leader) in [
        ([PeerRole::Voter, PeerRole::Voter, PeerRole::Voter], Some(13), 3),
        ([PeerRole::Voter, PeerRole::Voter, PeerRole::Voter], None, 1),
        ([PeerRole::Voter, PeerRole::Voter, PeerRole::Voter], Some(99), 1),
        ([PeerRole::Learner, PeerRole::IncomingVoter, PeerRole::Voter], None, 2),
        ([PeerRole::Learner, PeerRole::Learner, PeerRole::Learner], None, 1),
    ] {
        let mut new = region(v, "", "");
        for (peer, role) in new.peers.iter_mut().zip(roles) {
            peer.role = role;
        }
        let cache = Cache::new([NewRegion { leader: named, ..new }]);
        assert_eq!(cache.leader(v), Some(leader), "{roles:?} {named:?}");
    }
}

/// §4.8: the first reason stays, and only that very version is hit.
#[test]
fn an_invalid_region_is_not_found() {
    let v = version(1, 2, 2);
    let mut cache = Cache::new([region(v, "b", "d")]);
    for other in [version(1, 1, 2), version(1, 2, 1), version(2, 2, 2)] {
        cache.0.invalidate(other, InvalidReason::Other);
    }
    assert_eq!(cache.find("b"), Some(1));
    cache.0.invalidate(v, InvalidReason::NoLeader);
    cache.0.invalidate(v, InvalidReason::EpochNotMatch);
    assert_eq!((cache.find("b"), cache.find_end("c")), (None, None));
    assert!(cache.0.get(v, NOW, well).is_none());
    assert_eq!(cache.0.end_of(v), Some(&b"d"[..]));
    // The first reason is still known: the turn goes on.
    cache.insert(region(v, "b", "d"));
    assert_eq!(cache.leader(v), Some(2));
}

/// §4.8: known peer → switch; unknown peer → invalidate(StoreNotFound).
#[test]
fn a_leader_is_switched_to_if_it_is_a_replica() {
    let v = version(1, 1, 1);
    let mut cache = Cache::new([region(v, "", "")]);
    assert!(cache.0.switch_leader(v, 12, 7));
    assert_eq!(cache.leader(v), Some(2));
    // Its store is believed to be well as it is now.
    assert!(cache.0.get(v, NOW, |_| 7).is_some());
    assert!(!cache.0.switch_leader(version(1, 1, 2), 12, 0));
    assert!(cache.0.get(v, NOW, |_| 7).is_some());
    assert!(!cache.0.switch_leader(v, 99, 0));
    assert!(cache.0.get(v, NOW, |_| 7).is_none());
}

/// §4.8, `OnRegionEpochNotMatch`.
#[test]
fn an_epoch_mismatch_replaces_the_region_or_waits_for_the_store() {
    let asked = version(1, 2, 2);
    type Row = (&'static str, Vec<NewRegion>, EpochVerdict, Vec<u64>, bool);
    let rows: [Row; 6] = [
        ("empty → invalidate, no retry", vec![], EpochVerdict::Unknown, vec![1], false),
        (
            "same id, smaller version → client ahead",
            vec![region(version(1, 2, 1), "b", "d")],
            EpochVerdict::ClientAhead,
            vec![1],
            true,
        ),
        (
            "same id, smaller conf_ver → client ahead",
            vec![region(version(1, 1, 3), "b", "d")],
            EpochVerdict::ClientAhead,
            vec![1],
            true,
        ),
        (
            "split",
            vec![region(version(1, 2, 3), "b", "c"), region(version(7, 2, 3), "c", "d")],
            EpochVerdict::Replaced,
            vec![1, 7],
            false,
        ),
        (
            "only others: the old one is invalidated",
            vec![region(version(7, 2, 3), "x", "z")],
            EpochVerdict::Replaced,
            vec![1, 7],
            false,
        ),
        (
            "a new region equals the old: it stays",
            vec![region(asked, "b", "d")],
            EpochVerdict::Replaced,
            vec![1],
            true,
        ),
    ];
    for (row, current, verdict, ids, usable) in rows {
        let mut cache = Cache::new([region(asked, "b", "d")]);
        let told = cache.0.on_epoch_not_match(asked, StoreId(3), current, NOW, || JITTER, well);
        cache.0.check();
        assert_eq!(told, verdict, "{row}");
        let left: Vec<u64> = cache.0.iter().map(|region| region.version.id).collect();
        assert_eq!(left, ids, "{row}");
        assert_eq!(cache.0.get(asked, NOW, well).is_some(), usable, "{row}");
        if verdict == EpochVerdict::Replaced {
            // «set work leader = store that answered»
            let newest = cache.0.iter().last().map(|region| region.version).unwrap();
            assert_eq!(cache.leader(newest), Some(3), "{row}");
        }
    }
}

/// A key that was received is a slice of a frame; the cache must not keep the frame.
#[test]
fn bounds_are_copied_out_of_the_frame() {
    let frame = bytes::Bytes::from(b"..b..d..".to_vec());
    let mut new = region(version(1, 1, 1), "", "");
    new.range = KeyRange { start: frame.slice(2..3), end: frame.slice(5..6) };
    let cache = Cache::new([new]);
    assert!(frame.is_unique());
    let kept = cache.0.get(version(1, 1, 1), NOW, well).unwrap();
    assert_eq!(kept.bounds.to_range(), KeyRange::new("b", "d"));
}
