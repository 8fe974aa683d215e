//! The cache against a model without any index, over histories that a cluster could have.
//!
//! A made-up cluster splits, merges and changes memberships; what it looked like at any time may
//! arrive at any later time, in any order, as PD's followers and stores tell it. The cache has to
//! agree with a list that is searched from end to end.

use std::time::Duration;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::cache::*;
use super::entry::*;
use crate::id::{Peer, PeerRole, RegionVersion, StoreId};
use crate::operation::{Key, KeyRange};
use crate::time::Instant;

const NOW: Instant = Instant::from_nanos(5);

#[derive(Clone, Debug)]
enum Step {
    /// The region of this key splits there; either half may keep the id.
    Split { key: u8, left_is_new: bool },
    /// The region of this key swallows the next one, or is swallowed.
    Merge { key: u8, into_left: bool },
    /// The region of this key changes its membership.
    Membership { key: u8 },
    /// Somebody tells what the cluster knew of this key `ago` steps before.
    Hear { key: u8, ago: u8 },
    /// The region of this key is given up.
    Invalidate { key: u8 },
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        // A small alphabet, so that bounds meet.
        let key = b'a' + u8::arbitrary(g) % 12;
        match u8::arbitrary(g) % 10 {
            0 | 1 => Self::Split { key, left_is_new: bool::arbitrary(g) },
            2 => Self::Merge { key, into_left: bool::arbitrary(g) },
            3 => Self::Membership { key },
            4 => Self::Invalidate { key },
            // Mostly news, sometimes history.
            n => Self::Hear { key, ago: if n < 8 { 0 } else { u8::arbitrary(g) % 16 } },
        }
    }
}

/// The regions of a cluster, left to right, covering everything.
#[derive(Clone)]
struct Cluster {
    regions: Vec<(RegionVersion, KeyRange)>,
    next_id: u64,
}

impl Cluster {
    fn new() -> Self {
        let first = RegionVersion { id: 1, conf_ver: 1, version: 1 };
        Self { regions: vec![(first, KeyRange::default())], next_id: 2 }
    }

    fn index(&self, key: u8) -> usize {
        self.regions.iter().position(|(_, range)| range.contains(&[key])).unwrap()
    }

    fn split(&mut self, key: u8, left_is_new: bool) {
        let index = self.index(key);
        let (mut version, range) = self.regions[index].clone();
        if range.start == [key][..] {
            return;
        }
        version.version += 1;
        let new = RegionVersion { id: self.next_id, ..version };
        self.next_id += 1;
        let at = Key::copy_from_slice(&[key]);
        let left = KeyRange { start: range.start, end: at.clone() };
        let right = KeyRange { start: at, end: range.end };
        let (first, second) = if left_is_new { (new, version) } else { (version, new) };
        self.regions.splice(index..=index, [(first, left), (second, right)]);
    }

    fn merge(&mut self, key: u8, into_left: bool) {
        let index = self.index(key);
        if index + 1 == self.regions.len() {
            return;
        }
        let (left, left_range) = self.regions[index].clone();
        let (right, right_range) = self.regions[index + 1].clone();
        let mut version = if into_left { left } else { right };
        version.version = left.version.max(right.version) + 1;
        let range = KeyRange { start: left_range.start, end: right_range.end };
        self.regions.splice(index..=index + 1, [(version, range)]);
    }

    fn tell(&self, key: u8) -> NewRegion {
        let (version, range) = self.regions[self.index(key)].clone();
        let peer =
            Peer { id: version.id, store: StoreId(1), role: PeerRole::Voter, witness: false };
        NewRegion {
            version,
            range,
            peers: vec![peer],
            leader: None,
            some_down: false,
            buckets: None,
        }
    }
}

/// What the cache should hold, without an index.
#[derive(Default)]
struct Model(Vec<(NewRegion, bool)>);

impl Model {
    fn overlap(a: &KeyRange, b: &KeyRange) -> bool {
        (b'a'..=b'z').any(|key| a.contains(&[key]) && b.contains(&[key]))
            || (a.contains(b"") && b.contains(b""))
    }

    /// control-plane.md §4.4, for sets that do not overlap.
    fn insert(&mut self, new: NewRegion) -> Inserted {
        let (ours, old) = (new.version, |cached: &NewRegion| {
            let same = cached.version.id == new.version.id;
            (same, same || Self::overlap(&cached.range, &new.range))
        });
        for (cached, _) in &self.0 {
            let (same, touched) = old(cached);
            if touched && cached.version.version > ours.version
                || same && cached.version.conf_ver > ours.conf_ver
            {
                return Inserted::Stale;
            }
        }
        self.0.retain(|(cached, _)| !old(cached).1);
        self.0.push((new, true));
        Inserted::Yes
    }

    fn lookup(&self, contains: impl Fn(&KeyRange) -> bool) -> Option<RegionVersion> {
        let found = self.0.iter().find(|(region, _)| contains(&region.range));
        found.filter(|(_, valid)| *valid).map(|(region, _)| region.version)
    }
}

fn contains_end(range: &KeyRange, key: &[u8]) -> bool {
    if key.is_empty() {
        return range.end.is_empty();
    }
    range.start < key && (range.end.is_empty() || key <= range.end)
}

quickcheck! {
    fn the_cache_agrees_with_a_list(steps: Vec<Step>) -> bool {
        let mut history = vec![Cluster::new()];
        let mut cache = RegionCache::new(Duration::from_secs(600));
        let mut model = Model::default();
        for step in steps {
            let mut cluster = history[history.len() - 1].clone();
            match step {
                Step::Split { key, left_is_new } => cluster.split(key, left_is_new),
                Step::Merge { key, into_left } => cluster.merge(key, into_left),
                Step::Membership { key } => {
                    let index = cluster.index(key);
                    cluster.regions[index].0.conf_ver += 1;
                }
                Step::Hear { key, ago } => {
                    let at = history.len().saturating_sub(1 + usize::from(ago));
                    let news = history[at].tell(key);
                    let inserted = cache.insert(news.clone(), NOW, Duration::ZERO, |_| 0);
                    assert_eq!(inserted, model.insert(news.clone()));
                    if ago == 0 {
                        // What is so now is never refused, and is found.
                        assert_eq!(inserted, Inserted::Yes);
                        let found = cache.lookup(&[key], NOW, |_| 0);
                        assert_eq!(found.map(|region| region.version), Some(news.version));
                    }
                }
                Step::Invalidate { key } => {
                    let found = cache.lookup(&[key], NOW, |_| 0).map(|region| region.version);
                    if let Some(version) = found {
                        cache.invalidate(version, InvalidReason::Other);
                        let cached = model.0.iter_mut().find(|(r, _)| r.version == version);
                        cached.unwrap().1 = false;
                    }
                }
            }
            history.push(cluster);
            cache.check();
            for key in b'a'..=b'n' {
                let key = &[key][..];
                let found = cache.lookup(key, NOW, |_| 0).map(|region| region.version);
                assert_eq!(found, model.lookup(|range| range.contains(key)));
                let found = cache.lookup_end(key, NOW, |_| 0).map(|region| region.version);
                assert_eq!(found, model.lookup(|range| contains_end(range, key)));
            }
            let last = cache.lookup_end(b"", NOW, |_| 0).map(|region| region.version);
            assert_eq!(last, model.lookup(|range| contains_end(range, b"")));
            assert_eq!(cache.len(), model.0.len());
        }
        true
    }
}
