//! The cases of `cases.md` L that concern the cache alone, by their numbers. What a whole client does
//! is told in `region/stories.rs`; RGC-37 is in `entry.rs`, RGC-51 and RGC-52 in `buckets.rs`, RGC-43 to
//! RGC-46 in `pd_stories.rs`.

use std::time::Duration;

use super::buckets::Buckets;
use super::cache::*;
use super::entry::*;
use super::tests::{JITTER, NOW, TTL, later, region, version, well};
use crate::id::{PeerRole, StoreId};
use crate::operation::Key;

fn cache(regions: impl IntoIterator<Item = NewRegion>) -> RegionCache {
    let mut cache = RegionCache::new(TTL);
    for region in regions {
        assert_eq!(cache.insert(region, NOW, JITTER, well), Inserted::Yes);
    }
    cache
}

/// Regions 1… of one letter each, from `a` on.
fn letters(count: u64) -> impl Iterator<Item = NewRegion> {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
    (1..=count).map(|id| {
        let at = id as usize - 1;
        region(version(id, 1, 1), &LETTERS[at..at + 1], &LETTERS[at + 1..at + 2])
    })
}

/// RGC-04: expired regions are dropped by sweeping, a bounded part at a time; others stay.
#[test]
fn rgc_04_the_sweep_is_incremental() {
    let mut cache = cache(letters(25));
    let late = later(631);
    // One of them was used meanwhile.
    assert!(cache.lookup(b"c", later(600), well).is_some());
    let mut left = vec![cache.len()];
    for n in 0..10 {
        cache.lookup(b"c", late + Duration::from_millis(10 * n), well);
        left.push(cache.len());
        cache.check();
    }
    assert_eq!(left[..4], [25, 10, 1, 1]);
    assert!(cache.lookup(b"c", late, well).is_some());
    // Looking up within the same ten milliseconds sweeps nothing more.
    let mut twice = self::cache(letters(25));
    twice.lookup(b"z", late, well);
    twice.lookup(b"z", late, well);
    assert_eq!(twice.len(), 9);
}

/// RGC-04: a cache that takes in as many regions as have expired does not grow.
#[test]
fn rgc_04_inserts_sweep_as_well() {
    let mut cache = cache(letters(12));
    for (n, new) in letters(25).skip(12).enumerate() {
        cache.insert(new, later(631), JITTER, well);
        assert!(cache.len() <= 13, "after {n}");
    }
    assert_eq!(cache.len(), 13);
}

/// control-plane.md §4.2.
/// RGC-05: looking at it 50 times does not keep a region that (a) has a peer down, (b) has a store
/// whose epoch changes, (c) has a store that is dead; it does keep one that is well.
#[test]
fn rgc_05_access_extends_only_the_healthy() {
    let third = |n: u32| move |store: StoreId| if store.0 == 3 { n } else { 0 };
    type Row = (&'static str, bool, fn(u32) -> u32, bool);
    let rows: [Row; 4] = [
        ("(a) a peer is down", true, |_| 0, false),
        ("(b) an epoch keeps changing", false, |n| n, false),
        ("(c) a store died", false, |n| u32::from(n > 0), false),
        ("well", false, |_| 0, true),
    ];
    for (row, some_down, epoch, kept) in rows {
        let new = NewRegion { some_down, ..region(version(1, 1, 1), "", "") };
        let mut cache = cache([new]);
        for n in 0..50 {
            let found = cache.lookup(b"k", later(20 * u64::from(n)), third(epoch(n)));
            assert_eq!(found.is_some(), kept || 20 * n <= 630, "{row}, {n}");
        }
    }
}

/// control-plane.md §4.3.
/// RGC-20: fewer peers, or witnesses in their place: the leader's index stays within them.
#[test]
fn rgc_20_the_leader_index_stays_within_the_peers() {
    let v = version(1, 1, 1);
    let mut cache = cache([NewRegion { leader: Some(13), ..region(v, "", "") }]);
    assert_eq!(cache.get(v, NOW, well).map(Region::leader), Some(2));
    cache.invalidate(v, InvalidReason::NoLeader);
    let mut fewer = region(version(1, 2, 1), "", "");
    fewer.peers.truncate(1);
    fewer.leader = Some(13);
    cache.insert(fewer, NOW, JITTER, well);
    let told = cache.get(version(1, 2, 1), NOW, well).unwrap();
    assert_eq!((told.leader(), told.leading().map(|peer| peer.id)), (0, Some(11)));
}

/// control-plane.md §4.4, step 3.
/// RGC-21: after «no leader» another index than before, among those that can lead.
#[test]
fn rgc_21_no_leader_means_another_one() {
    let v = version(1, 1, 1);
    let mut new = region(v, "", "");
    new.peers[1].role = PeerRole::Learner;
    let mut cache = cache([new.clone()]);
    let mut led = Vec::new();
    for _ in 0..3 {
        led.push(cache.get(v, NOW, well).map(Region::leader));
        cache.invalidate(v, InvalidReason::NoLeader);
        cache.insert(new.clone(), NOW, JITTER, well);
    }
    assert_eq!(led, [Some(0), Some(2), Some(0)]);
}

/// RGC-30: after a split both halves are found and the old one is gone, whether the cached entry was
/// (a) invalidated, (b) given up after all replicas failed, (c) flagged to be loaded anew.
#[test]
fn rgc_30_a_split_of_an_entry_in_any_state() {
    let v = version(1, 1, 1);
    type Mark = fn(&mut RegionCache);
    let marks: [(&str, Mark); 3] = [
        ("(a)", |cache| cache.invalidate(version(1, 1, 1), InvalidReason::Other)),
        ("(b)", |cache| cache.invalidate(version(1, 1, 1), InvalidReason::Exhausted)),
        ("(c)", |cache| cache.reload_later(version(1, 1, 1), NOW)),
    ];
    for (row, mark) in marks {
        let mut cache = cache([region(v, "b", "d")]);
        mark(&mut cache);
        for new in [region(version(1, 1, 2), "b", "c"), region(version(2, 1, 2), "c", "d")] {
            assert_eq!(cache.insert(new, NOW, JITTER, well), Inserted::Yes, "{row}");
        }
        let mut id = |key: &[u8]| cache.lookup(key, NOW, well).map(|region| region.version.id);
        assert_eq!((id(b"b"), id(b"c")), (Some(1), Some(2)), "{row}");
        assert!(cache.get(v, NOW, well).is_none(), "{row}");
        assert_eq!(cache.len(), 2, "{row}");
        cache.check();
    }
}

/// §4.1, needDelayedReload: used as before, loaded anew once; what is loaded then is well.
#[test]
fn a_flagged_region_goes_on_being_used() {
    let v = version(1, 1, 1);
    let mut cache = cache([region(v, "b", "d")]);
    cache.reload_later(v, NOW);
    // Not at once, and not later for being flagged again.
    cache.reload_later(v, later(1));
    assert!(cache.lookup(b"b", NOW, well).is_some_and(|region| !region.wants_reload(NOW)));
    assert_eq!(cache.take_reload(v, later(1)), None);
    assert!(cache.lookup(b"b", later(2), well).is_some_and(|region| region.wants_reload(later(2))));
    assert_eq!(cache.take_reload(v, later(2)), Some(Key::from("b")));
    assert_eq!(cache.take_reload(v, later(2)), None);
    assert!(cache.get(v, NOW, well).is_some());
    // It does not live longer by being used, unless the load succeeds.
    assert!(cache.lookup(b"b", later(600), well).is_some());
    assert!(cache.lookup(b"b", later(631), well).is_none());
    cache.insert(region(v, "b", "d"), later(631), JITTER, well);
    assert!(cache.lookup(b"b", later(1_260), well).is_some());
    assert!(cache.lookup(b"b", later(1_800), well).is_some());
}

/// §4.1, needReloadOnAccess: only for want of PD, and only what nobody has called another region.
#[test]
fn without_pd_a_region_gets_another_chance() {
    let v = version(1, 1, 1);
    let dead = |_| 1;
    for (reason, revived) in [
        (None, true),
        (Some(InvalidReason::Exhausted), true),
        (Some(InvalidReason::NoLeader), false),
        (Some(InvalidReason::RegionNotFound), false),
        (Some(InvalidReason::EpochNotMatch), false),
        (Some(InvalidReason::StoreNotFound), false),
        (Some(InvalidReason::Other), false),
    ] {
        let mut cache = cache([region(v, "b", "d")]);
        if let Some(reason) = reason {
            cache.invalidate(v, reason);
        }
        cache.revive(b"x", dead);
        assert!(cache.lookup(b"c", NOW, dead).is_none());
        cache.revive(b"c", dead);
        assert_eq!(cache.lookup(b"c", NOW, dead).is_some(), revived, "{reason:?}");
    }
}

/// control-plane.md §4.4, §4.8.
/// RGC-50: kept by a newer copy without buckets or with older ones, also over an epoch mismatch;
/// replaced by a higher version, also from «bucket version not match».
#[test]
fn rgc_50_buckets_are_kept_by_version() {
    let v = version(1, 1, 1);
    let list =
        |version| Box::new(Buckets { version, keys: [Key::from("b"), Key::from("d")].into() });
    let with =
        |v, buckets: Option<u64>| NewRegion { buckets: buckets.map(list), ..region(v, "b", "d") };
    let kept = |cache: &RegionCache| {
        let region = cache.peek(b"b").expect("a region");
        region.buckets.as_ref().map(|buckets| buckets.version)
    };
    for (old, new, expected) in [
        (None, None, None),
        (Some(5), None, Some(5)),
        (Some(5), Some(4), Some(5)),
        (Some(5), Some(6), Some(6)),
        (None, Some(6), Some(6)),
    ] {
        let mut inserted = cache([with(v, old)]);
        inserted.insert(with(version(1, 1, 2), new), NOW, JITTER, well);
        assert_eq!(kept(&inserted), expected, "{old:?} {new:?}");
        let mut told = cache([with(v, old)]);
        let current = vec![with(version(1, 1, 2), new)];
        told.on_epoch_not_match(v, StoreId(1), current, NOW, || JITTER, well);
        assert_eq!(kept(&told), expected, "{old:?} {new:?}");
        let mut set = cache([with(v, old)]);
        if let Some(new) = new {
            set.set_buckets(v, list(new));
            set.set_buckets(version(1, 9, 9), list(99));
        }
        assert_eq!(kept(&set), expected, "{old:?} {new:?}");
    }
}
