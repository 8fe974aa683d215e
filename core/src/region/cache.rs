//! The regions that are known (`control-plane.md` §4).
//!
//! Three indexes of one set: a slab of regions, slots by start key, slots by id. Cached regions
//! never overlap, so a lookup is one search for the nearest start and one comparison with the end.
//! Keys here are the application's, decoded before they come in.
//!
//! What keeps a stale region from being believed:
//!
//! - *Versions*: an insert that is older than what is cached, by id or by place, is refused. PD and
//!   its followers lag behind what the stores themselves have told.
//! - *Time*: a region is trusted for a while after it was last used. One whose replicas are not all
//!   well is not kept alive by use, so that it is fetched anew after that while.
//! - *Store epochs*: each replica remembers how often its store had failed when the region was
//!   loaded. One failure of a store puts every region on it in doubt at once, without a walk.
//! - *Invalidation*, with a reason, by whoever was told that the region is no more.
//!
//! Two things the reference leaves are not left here. A cached region that starts before a newer one
//! and reaches into it is dropped with the others that it replaces, and a newer such region has the
//! insert refused: otherwise a stale answer could hide behind a start key of its own. And a region
//! of the same id goes wherever it lies, so that the indexes agree.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::BytesMut;

use crate::id::{Handle, Peer, PeerRole, RegionVersion, StoreId};
use crate::operation::{Key, KeyRange};
use crate::slab::Slab;
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

/// A cached region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Region {
    pub(crate) version: RegionVersion,
    pub(crate) range: KeyRange,
    pub(crate) peers: Box<[Peer]>,
    /// Whoever is believed to lead: an index into `peers`.
    pub(crate) leader: usize,
    /// The epoch of each peer's store when it was last known to be well, parallel to `peers`.
    epochs: Box<[u32]>,
    /// Trusted up to and including this instant.
    fresh_until: Instant,
    /// The random part of its lifetime, kept so that it lives as long each time it is extended.
    jitter: Duration,
    /// Use does not extend its life (needExpireAfterTTL, §4.1).
    expires: bool,
    invalid: Option<InvalidReason>,
}

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
    /// Something else.
    Other,
}

/// What became of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Inserted {
    /// It is in the cache.
    Yes,
    /// Something newer is known.
    Stale,
}

/// What a store's `EpochNotMatch` came to (§4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EpochVerdict {
    /// The store is behind the request: wait (region miss), then ask the same region again.
    ClientAhead,
    /// The region is no more; what replaced it is cached. Group the keys anew, at once.
    Replaced,
    /// The region is no more, and the store did not say what replaced it.
    Unknown,
}

impl Region {
    /// Whether the store of the replica at `index`, which is at `epoch` now, has been well since it
    /// was last known to be.
    pub(crate) fn is_fresh(&self, index: usize, epoch: u32) -> bool {
        self.epochs.get(index) == Some(&epoch)
    }

    fn staleness(&self, epoch: impl Fn(StoreId) -> u32) -> Staleness {
        let fresh = |(index, peer): (usize, &Peer)| self.is_fresh(index, epoch(peer.store));
        let count = self.peers.iter().enumerate().filter(|entry| fresh(*entry)).count();
        match count {
            0 => Staleness::All,
            count if count == self.peers.len() => Staleness::None,
            _ => Staleness::Some,
        }
    }

    /// Whether somebody is left to ask. Looks at the leader first: most often that is all.
    fn is_usable(&self, now: Instant, epoch: impl Fn(StoreId) -> u32) -> bool {
        let fresh = |(index, peer): (usize, &Peer)| self.is_fresh(index, epoch(peer.store));
        self.invalid.is_none()
            && now <= self.fresh_until
            && (self.peers.get(self.leader).is_some_and(|peer| fresh((self.leader, peer)))
                || self.peers.iter().enumerate().any(fresh))
    }

    fn overlaps(&self, range: &KeyRange) -> bool {
        starts_before_end(&self.range.start, &range.end)
            && starts_before_end(&range.start, &self.range.end)
    }
}

/// How many replicas are on stores that have failed since the region was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Staleness {
    None,
    Some,
    All,
}

/// Whether `start` is below `end`, where an empty end is above everything (`peers.md` D30).
fn starts_before_end(start: &[u8], end: &[u8]) -> bool {
    end.is_empty() || start < end
}

/// The regions that are known.
#[derive(Clone, Debug, Hash)]
pub(crate) struct RegionCache {
    /// How long a region is trusted without being used, before jitter.
    ttl: Duration,
    regions: Slab<Region>,
    by_start: BTreeMap<Key, Handle>,
    by_id: BTreeMap<u64, Handle>,
}

impl RegionCache {
    pub(crate) const fn new(ttl: Duration) -> Self {
        Self { ttl, regions: Slab::new(), by_start: BTreeMap::new(), by_id: BTreeMap::new() }
    }

    /// How many regions are cached, the invalid ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.regions.len()
    }

    /// The region with `start ≤ key < end`, if it can be used. Being looked up is what extends a
    /// region's life (§4.2). `epoch` tells how often a store has failed.
    pub(crate) fn lookup(
        &mut self,
        key: &[u8],
        now: Instant,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Option<&Region> {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let (_, handle) = self.by_start.range::<[u8], _>(up_to).next_back()?;
        let handle = *handle;
        if !self.regions.get(handle)?.range.contains(key) {
            return None;
        }
        self.touch(handle, now, epoch)
    }

    /// The region with `start < key ≤ end`, where a reverse scan below the exclusive bound `key`
    /// begins. The empty key stands above all keys: it belongs to the region without end (§4.5).
    pub(crate) fn lookup_end(
        &mut self,
        key: &[u8],
        now: Instant,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Option<&Region> {
        let below = match key.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(key),
        };
        let below = (Bound::Unbounded, below);
        let (_, handle) = self.by_start.range::<[u8], _>(below).next_back()?;
        let handle = *handle;
        let end = &self.regions.get(handle)?.range.end;
        let contains = end.is_empty() || (!key.is_empty() && key <= end);
        if contains { self.touch(handle, now, epoch) } else { None }
    }

    /// Whether a usable region begins after `low` and before `high`.
    pub(crate) fn any_between(
        &self,
        low: &Key,
        high: &Key,
        now: Instant,
        epoch: impl Fn(StoreId) -> u32,
    ) -> bool {
        if low >= high {
            return false;
        }
        let between = (Bound::Excluded(low), Bound::Excluded(high));
        let mut regions = self.by_start.range::<Key, _>(between);
        regions.any(|(_, handle)| {
            self.regions.get(*handle).is_some_and(|region| region.is_usable(now, &epoch))
        })
    }

    /// §4.2: gives the region if it can be used, and more time if it is well.
    fn touch(
        &mut self,
        handle: Handle,
        now: Instant,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Option<&Region> {
        let ttl = self.ttl;
        let region = self.regions.get_mut(handle)?;
        if now > region.fresh_until {
            // Nothing is worth remembering of a region that nobody has used for so long.
            self.forget(handle);
            return None;
        }
        if !region.is_usable(now, &epoch) {
            return None;
        }
        // Only when the random part is used up: a region in use is written to once in a while.
        if !region.expires && region.fresh_until <= now + ttl {
            match region.staleness(&epoch) {
                Staleness::None => region.fresh_until = now + ttl + region.jitter,
                // §4.10: the reference's sweep finds these and lets them expire.
                Staleness::Some | Staleness::All => region.expires = true,
            }
        }
        self.regions.get(handle)
    }

    /// This region at this version, if it can still be used.
    pub(crate) fn get(
        &self,
        version: RegionVersion,
        now: Instant,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Option<&Region> {
        self.find(version).filter(|region| region.is_usable(now, epoch))
    }

    /// The bounds of this region at this version, usable or not.
    pub(crate) fn range(&self, version: RegionVersion) -> Option<&KeyRange> {
        self.find(version).map(|region| &region.range)
    }

    fn find(&self, version: RegionVersion) -> Option<&Region> {
        let handle = self.by_id.get(&version.id)?;
        self.regions.get(*handle).filter(|region| region.version == version)
    }

    fn find_mut(&mut self, version: RegionVersion) -> Option<&mut Region> {
        let handle = self.by_id.get(&version.id)?;
        self.regions.get_mut(*handle).filter(|region| region.version == version)
    }

    /// Puts a region into the cache, in the place of whatever it replaces (§4.4).
    ///
    /// `jitter` is the random part of its lifetime, `epoch` tells how often a store has failed.
    pub(crate) fn insert(
        &mut self,
        new: NewRegion,
        now: Instant,
        jitter: Duration,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Inserted {
        let Some(displaced) = self.displaced_by(&new) else {
            return Inserted::Stale;
        };
        let told = new.leader.and_then(|id| new.peers.iter().position(|peer| peer.id == id));
        let mut leader = told.or_else(|| next_voter(&new.peers, 0)).unwrap_or(0);
        // The one that PD names was asked already and knew of no leader, its own leadership
        // included; PD may be wrong for long. So the turn goes on.
        if let Some(first) = displaced.first().and_then(|handle| self.regions.get(*handle))
            && first.invalid == Some(InvalidReason::NoLeader)
        {
            leader = next_voter(&new.peers, first.leader + 1).unwrap_or(leader);
        }
        for handle in displaced {
            self.forget(handle);
        }
        let epochs = new.peers.iter().map(|peer| epoch(peer.store)).collect();
        let range = compact(&new.range);
        let start = range.start.clone();
        let handle = self.regions.insert(Region {
            version: new.version,
            range,
            peers: new.peers.into(),
            leader,
            epochs,
            fresh_until: now + self.ttl + jitter,
            jitter,
            expires: new.some_down,
            invalid: None,
        });
        self.by_start.insert(start, handle);
        self.by_id.insert(new.version.id, handle);
        Inserted::Yes
    }

    /// What has to go for `new`, in the order of their keys; `None` if `new` is out of date.
    fn displaced_by(&self, new: &NewRegion) -> Option<Vec<Handle>> {
        if new.range.is_empty() {
            // No key leads to it, and in the order of starts it would stand in another's place.
            return None;
        }
        let mut displaced = Vec::new();
        // The nearest region that starts before: of those, only that one can reach in.
        let before = (Bound::Unbounded, Bound::Excluded(&new.range.start));
        let after = (Bound::Included(&new.range.start), Bound::Unbounded);
        let reaching_in = self.by_start.range::<Key, _>(before).next_back();
        for (start, handle) in reaching_in.into_iter().chain(self.by_start.range::<Key, _>(after)) {
            if !starts_before_end(start, &new.range.end) {
                break;
            }
            let Some(region) = self.regions.get(*handle) else { continue };
            if !region.overlaps(&new.range) {
                continue;
            }
            if region.version.version > new.version.version {
                return None;
            }
            displaced.push(*handle);
        }
        if let Some(handle) = self.by_id.get(&new.version.id)
            && let Some(same) = self.regions.get(*handle)
        {
            if same.version.version > new.version.version
                || same.version.conf_ver > new.version.conf_ver
            {
                return None;
            }
            if !displaced.contains(handle) {
                displaced.push(*handle);
            }
        }
        Some(displaced)
    }

    /// Takes a region out of all three indexes.
    fn forget(&mut self, handle: Handle) {
        if let Some(region) = self.regions.remove(handle) {
            self.by_start.remove(&region.range.start);
            self.by_id.remove(&region.version.id);
        }
    }

    /// This region at this version is not to be used any more. Of several reasons the first stays:
    /// it decides whom the next load asks.
    pub(crate) fn invalidate(&mut self, version: RegionVersion, reason: InvalidReason) {
        if let Some(region) = self.find_mut(version) {
            region.invalid.get_or_insert(reason);
        }
    }

    /// From now on `peer` is believed to lead, and its store, which is at `epoch`, to be well.
    ///
    /// False if the region is not cached at this version, or has no such peer; in the latter case it
    /// is out of date, and invalid from now on (§4.8).
    pub(crate) fn switch_leader(&mut self, version: RegionVersion, peer: u64, epoch: u32) -> bool {
        let Some(region) = self.find_mut(version) else {
            return false;
        };
        match region.peers.iter().position(|candidate| candidate.id == peer) {
            Some(index) => {
                region.leader = index;
                region.epochs[index] = epoch;
                true
            }
            None => {
                region.invalid.get_or_insert(InvalidReason::StoreNotFound);
                false
            }
        }
    }

    /// A store says that the region it was asked for is no more, and which regions are there instead
    /// (§4.8). `answered` is that store; `jitter` draws a random part of a lifetime.
    pub(crate) fn on_epoch_not_match(
        &mut self,
        asked: RegionVersion,
        answered: StoreId,
        current: Vec<NewRegion>,
        now: Instant,
        mut jitter: impl FnMut() -> Duration,
        epoch: impl Fn(StoreId) -> u32,
    ) -> EpochVerdict {
        if current.is_empty() {
            self.invalidate(asked, InvalidReason::EpochNotMatch);
            return EpochVerdict::Unknown;
        }
        let behind = |new: &NewRegion| {
            new.version.id == asked.id
                && (new.version.conf_ver < asked.conf_ver || new.version.version < asked.version)
        };
        if current.iter().any(behind) {
            return EpochVerdict::ClientAhead;
        }
        let survives = current.iter().any(|new| new.version == asked);
        for new in current {
            self.insert(new.led_from(answered), now, jitter(), &epoch);
        }
        if !survives {
            self.invalidate(asked, InvalidReason::EpochNotMatch);
        }
        EpochVerdict::Replaced
    }

    /// Every cached region, in the order of keys.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.by_start.values().filter_map(|handle| self.regions.get(*handle))
    }

    /// The indexes agree, and no two regions overlap.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.regions.len(), self.by_start.len());
        assert_eq!(self.regions.len(), self.by_id.len());
        for (handle, region) in self.regions.iter() {
            assert_eq!(self.by_start.get(&region.range.start), Some(&handle));
            assert_eq!(self.by_id.get(&region.version.id), Some(&handle));
            assert_eq!(region.peers.len(), region.epochs.len());
        }
        let regions: Vec<&Region> = self.iter().collect();
        for pair in regions.windows(2) {
            assert!(!pair[0].overlaps(&pair[1].range), "{pair:?}");
        }
    }
}

/// The first replica that can lead, looking from `index` on and then from the start. Learners
/// cannot; TiFlash's replicas are learners (§4.3 counts replicas on TiKV only).
fn next_voter(peers: &[Peer], index: usize) -> Option<usize> {
    let count = peers.len();
    (0..count).map(|step| (index + step) % count).find(|index| match peers[*index].role {
        PeerRole::Voter | PeerRole::IncomingVoter | PeerRole::DemotingVoter => true,
        PeerRole::Learner => false,
    })
}

/// The same bounds in memory of their own: a key that was received is a slice of a whole frame, which
/// a cache would keep alive for hours.
fn compact(range: &KeyRange) -> KeyRange {
    let mut both = BytesMut::with_capacity(range.start.len() + range.end.len());
    both.extend_from_slice(&range.start);
    both.extend_from_slice(&range.end);
    let mut start = both.freeze();
    let end = start.split_off(range.start.len());
    KeyRange { start, end }
}
