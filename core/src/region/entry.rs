//! A region, as it becomes known and as it is kept.
//!
//! A client of a large cluster caches a million of these, so that what is kept is packed: both bounds
//! in one piece of memory that is the region's own, replicas with their epochs in another, no spare
//! capacity anywhere. What most regions do not have (buckets) costs them a pointer.

use std::borrow::Borrow;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;

use crate::id::{Peer, RegionVersion, StoreId};
use crate::operation::KeyRange;
use crate::region::buckets::Buckets;
use crate::time::Instant;

/// A region as it becomes known: decoded, its replicas narrowed to those that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NewRegion {
    pub(crate) version: RegionVersion,
    /// In the application's key space. Not empty.
    pub(crate) range: KeyRange,
    /// At least one.
    pub(crate) peers: Vec<Peer>,
    /// The id of the peer that leads, if that is known.
    pub(crate) leader: Option<u64>,
    /// PD counts some of its replicas as down: it is not kept alive by use (§4.3).
    pub(crate) some_down: bool,
    /// What PD or a store told of its buckets.
    pub(crate) buckets: Option<Box<Buckets>>,
}

impl NewRegion {
    /// The same region, believed to be led from `store`: the store that told about it was asked
    /// because it led the region's predecessor (§4.8).
    #[must_use]
    pub(crate) fn led_from(mut self, store: StoreId) -> Self {
        if let Some(peer) = self.peers.iter().find(|peer| peer.store == store) {
            self.leader = Some(peer.id);
        }
        self
    }
}

/// Two bounds in one piece of memory. A key that was received is a slice of a whole frame, which a
/// cache would keep alive for hours: so they are copied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    both: Box<[u8]>,
    split: u32,
}

impl Bounds {
    pub(super) fn new(range: &KeyRange) -> Self {
        let both = [&range.start[..], &range.end[..]].concat().into();
        Self { both, split: range.start.len() as u32 }
    }

    pub(crate) fn start(&self) -> &[u8] {
        &self.both[..self.split as usize]
    }

    /// The first key behind it; empty if there is none.
    pub(crate) fn end(&self) -> &[u8] {
        &self.both[self.split as usize..]
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.start() <= key && starts_before_end(key, self.end())
    }

    pub(super) fn overlaps(&self, start: &[u8], end: &[u8]) -> bool {
        starts_before_end(self.start(), end) && starts_before_end(start, self.end())
    }

    /// The same bounds, as keys of their own.
    pub(crate) fn to_range(&self) -> KeyRange {
        let mut start = Bytes::copy_from_slice(&self.both);
        let end = start.split_off(self.split as usize);
        KeyRange { start, end }
    }
}

/// Whether `start` is below `end`, where an empty end is above everything (`peers.md` D30).
pub(super) fn starts_before_end(start: &[u8], end: &[u8]) -> bool {
    end.is_empty() || start < end
}

/// Whole seconds since the origin.
fn secs(at: Instant) -> u32 {
    u32::try_from(at.since(Instant::ORIGIN).as_secs()).unwrap_or(u32::MAX)
}

/// A replica, and the epoch of its store when that was last known to be well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    peer: Peer,
    pub(super) epoch: u32,
}

impl Replica {
    pub(super) const fn new(peer: Peer, epoch: u32) -> Self {
        Self { peer, epoch }
    }

    pub(crate) const fn peer(&self) -> Peer {
        self.peer
    }
}

impl Borrow<Peer> for Replica {
    fn borrow(&self) -> &Peer {
        &self.peer
    }
}

impl Deref for Replica {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

/// A cached region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Region {
    pub(crate) version: RegionVersion,
    pub(crate) bounds: Bounds,
    pub(crate) peers: Box<[Replica]>,
    pub(crate) buckets: Option<Box<Buckets>>,
    /// Trusted up to and including this instant.
    pub(super) fresh_until: Instant,
    /// The random part of its lifetime in milliseconds, kept so that it lives as long each time it is
    /// extended.
    pub(super) jitter_ms: u32,
    leader: u16,
    pub(super) care: Care,
    pub(super) invalid: Option<InvalidReason>,
}

/// What a region needs besides being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Care {
    /// Nothing: use extends its life.
    None,
    /// Use does not extend its life (needExpireAfterTTL, §4.1).
    Expires,
    /// As [`Care::Expires`]; and a lookup from this second after the origin on has it loaded anew,
    /// while it is used as before (needDelayedReload, §4.1).
    Reload { due: u32 },
}

/// How long a flagged region is left as it is: what made somebody flag it should have settled, and PD
/// heard of it. (In the reference it waits for two turns of a thread that comes by once a second.)
const RELOAD_DELAY: Duration = Duration::from_secs(2);

/// Why a region is no longer to be used (§4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum InvalidReason {
    /// No replica leads, as far as the last one asked knew.
    NoLeader,
    /// The store does not have it.
    RegionNotFound,
    /// It was split, merged, or its membership changed.
    EpochNotMatch,
    /// A store that should have a replica is not the one it was.
    StoreNotFound,
    /// Every replica was asked in vain, and none said that the region is another (needReloadOnAccess).
    Exhausted,
    /// Something else.
    Other,
}

impl Region {
    pub(super) fn new(
        new: NewRegion,
        leader: usize,
        fresh_until: Instant,
        jitter: Duration,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Self {
        let replica = |peer: Peer| Replica::new(peer, epoch(peer.store));
        let mut region = Self {
            version: new.version,
            bounds: Bounds::new(&new.range),
            peers: new.peers.into_iter().map(replica).collect(),
            buckets: new.buckets,
            fresh_until,
            jitter_ms: u32::try_from(jitter.as_millis()).unwrap_or(u32::MAX),
            leader: 0,
            care: if new.some_down { Care::Expires } else { Care::None },
            invalid: None,
        };
        region.set_leader(leader);
        region
    }

    /// It should be loaded anew some time, without being given up.
    pub(super) fn flag(&mut self, now: Instant) {
        match self.care {
            Care::Reload { .. } => {}
            Care::None | Care::Expires => {
                self.care = Care::Reload { due: secs(now + RELOAD_DELAY) };
            }
        }
    }

    /// Whether it should be loaded anew now, without being given up.
    pub(crate) fn wants_reload(&self, now: Instant) -> bool {
        match self.care {
            Care::Reload { due } => secs(now) >= due,
            Care::None | Care::Expires => false,
        }
    }

    /// Whoever is believed to lead: an index into `peers`.
    pub(crate) fn leader(&self) -> usize {
        self.leader.into()
    }

    /// The replica that is believed to lead.
    pub(crate) fn leading(&self) -> Option<&Replica> {
        self.peers.get(self.leader())
    }

    /// RGC-20: whatever the index, it stays within the replicas.
    pub(super) fn set_leader(&mut self, index: usize) {
        self.leader = u16::try_from(index).ok().filter(|_| index < self.peers.len()).unwrap_or(0);
    }

    /// Whether the store of the replica at `index`, which is at `epoch` now, has been well since it
    /// was last known to be.
    pub(crate) fn is_fresh(&self, index: usize, epoch: u32) -> bool {
        self.peers.get(index).is_some_and(|replica| replica.epoch == epoch)
    }

    /// Whether all its stores have been well since it was loaded.
    pub(super) fn is_wholly_fresh(&self, epoch: impl Fn(StoreId) -> u32) -> bool {
        self.peers.iter().all(|replica| replica.epoch == epoch(replica.store))
    }

    /// Whether somebody is left to ask. Looks at the leader first: most often that is all.
    pub(super) fn is_usable(&self, now: Instant, epoch: impl Fn(StoreId) -> u32) -> bool {
        let fresh = |replica: &Replica| replica.epoch == epoch(replica.store);
        self.invalid.is_none()
            && now <= self.fresh_until
            && (self.leading().is_some_and(fresh) || self.peers.iter().any(fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Key;

    /// RGC-37, RGC-52 for a region's own bounds: `[start, end)`, empty is ±∞.
    #[test]
    fn rgc_37_containment() {
        for (start, end, inside, outside) in [
            ("", "", &["", "a", "z"][..], &[][..]),
            ("b", "", &["b", "z"], &["", "a"]),
            ("", "b", &["", "a"], &["b", "z"]),
            ("b", "d", &["b", "c"], &["", "a", "d"]),
        ] {
            let bounds = Bounds::new(&KeyRange::new(start, end));
            assert_eq!((bounds.start(), bounds.end()), (start.as_bytes(), end.as_bytes()));
            assert_eq!(bounds.to_range(), KeyRange::new(start, end));
            for key in inside {
                assert!(bounds.contains(key.as_bytes()), "{start}..{end} {key}");
            }
            for key in outside {
                assert!(!bounds.contains(key.as_bytes()), "{start}..{end} {key}");
            }
        }
    }

    /// peers.md D30: no end is above everything, on either side.
    #[test]
    fn d30_overlaps() {
        for (a, b, overlap) in [
            (("", ""), ("", ""), true),
            (("b", ""), ("z", ""), true),
            (("b", ""), ("a", "b"), false),
            (("b", ""), ("a", "c"), true),
            (("b", "d"), ("d", ""), false),
            (("b", "d"), ("c", ""), true),
            (("b", "d"), ("", "b"), false),
        ] {
            let bounds = |(start, end): (&'static str, &'static str)| {
                Bounds::new(&KeyRange::new(Key::from(start), Key::from(end)))
            };
            let (a, b) = (bounds(a), bounds(b));
            assert_eq!(a.overlaps(b.start(), b.end()), overlap, "{a:?} {b:?}");
            assert_eq!(b.overlaps(a.start(), a.end()), overlap, "{b:?} {a:?}");
        }
    }

    #[test]
    fn a_cached_region_is_small() {
        assert!(size_of::<Region>() <= 96, "{}", size_of::<Region>());
        assert!(size_of::<Replica>() <= 32, "{}", size_of::<Replica>());
    }
}
