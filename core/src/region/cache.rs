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
//! **Without a thread.** The reference has one that, once a second, drops 50 expired regions, lets
//! regions with sick stores expire, and has flagged ones loaded anew. Here a region that is found expired
//! is dropped, and each insert, and a lookup now and then, looks over a few others, so that a million
//! expired ones do not stay. Sick stores are seen when a region's life would be extended. A region that
//! is flagged ([`RegionCache::reload_later`]) is loaded anew at a later lookup, in the background: it
//! goes on being used, also if PD does not answer. A core that is left alone does nothing, and does not
//! grow.
//!
//! Two things the reference leaves are not left here. A cached region that starts before a newer one
//! and reaches into it is dropped with the others that it replaces, and a newer such region has the
//! insert refused: otherwise a stale answer could hide behind a start key of its own. And a region
//! of the same id goes wherever it lies, so that the indexes agree.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use crate::id::{Handle, Peer, PeerRole, RegionVersion, StoreId};
use crate::operation::{Key, KeyRange};
use crate::region::LocatedRegion;
use crate::region::buckets::Buckets;
use crate::region::entry::{Care, InvalidReason, NewRegion, Region, starts_before_end};
use crate::slab::Slab;
use crate::time::Instant;

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

/// The regions that are known.
#[derive(Clone, Debug, Hash)]
pub(crate) struct RegionCache {
    /// How long a region is trusted without being used, before jitter.
    ttl: Duration,
    /// Boxed: a slab grows by doubling, and its spare room should be small.
    regions: Slab<Box<Region>>,
    by_start: BTreeMap<Box<[u8]>, Handle>,
    by_id: BTreeMap<u64, Handle>,
    /// Where the sweep goes on, and when.
    cursor: u32,
    sweep_at: Instant,
}

/// How many regions a lookup looks over at most, and how often: a million are gone over in ten minutes,
/// which is how long a region lives.
const SWEPT_AT_LOOKUP: u32 = 16;
const SWEEP_INTERVAL: Duration = Duration::from_millis(10);
/// How many regions an insert looks over: the cache shrinks faster than it grows.
const SWEPT_AT_INSERT: u32 = 4;

impl RegionCache {
    pub(crate) const fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            regions: Slab::new(),
            by_start: BTreeMap::new(),
            by_id: BTreeMap::new(),
            cursor: 0,
            sweep_at: Instant::ORIGIN,
        }
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
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_INTERVAL;
            self.sweep(now, SWEPT_AT_LOOKUP);
        }
        let handle = self.containing(key)?;
        self.touch(handle, now, epoch)
    }

    /// The region with `start ≤ key < end`, usable or not.
    fn containing(&self, key: &[u8]) -> Option<Handle> {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let (_, handle) = self.by_start.range::<[u8], _>(up_to).next_back()?;
        self.regions.get(*handle)?.bounds.contains(key).then_some(*handle)
    }

    /// The region with `start < key ≤ end`, where a reverse scan below the exclusive bound `key`
    /// begins. The empty key stands above all keys: it belongs to the region without end (§4.5).
    pub(crate) fn lookup_end(
        &mut self,
        key: &[u8],
        now: Instant,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Option<&Region> {
        let handle = self.ending(key)?;
        self.touch(handle, now, epoch)
    }

    /// The region with `start < key ≤ end`, usable or not; for the empty key the one without end.
    fn ending(&self, key: &[u8]) -> Option<Handle> {
        let below = match key.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(key),
        };
        let below = (Bound::Unbounded, below);
        let (_, handle) = self.by_start.range::<[u8], _>(below).next_back()?;
        let end = self.regions.get(*handle)?.bounds.end();
        let contains = end.is_empty() || (!key.is_empty() && key <= end);
        contains.then_some(*handle)
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
        let between = (Bound::Excluded(&low[..]), Bound::Excluded(&high[..]));
        let mut regions = self.by_start.range::<[u8], _>(between);
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
        if region.care == Care::None && region.fresh_until <= now + ttl {
            match region.is_wholly_fresh(&epoch) {
                true => {
                    let jitter = Duration::from_millis(region.jitter_ms.into());
                    region.fresh_until = now + ttl + jitter;
                }
                // §4.10: the reference's sweep finds these and lets them expire.
                false => region.care = Care::Expires,
            }
        }
        self.regions.get(handle).map(Box::as_ref)
    }

    /// Looks over a few regions, where it stopped before, and drops those that have expired.
    fn sweep(&mut self, now: Instant, count: u32) {
        let slots = self.regions.slots();
        for _ in 0..count.min(slots) {
            self.cursor = if self.cursor < slots { self.cursor } else { 0 };
            let expired = self.regions.at(self.cursor).filter(|(_, r)| now > r.fresh_until);
            if let Some(handle) = expired.map(|(handle, _)| handle) {
                self.forget(handle);
            }
            self.cursor += 1;
        }
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

    /// The latest version of the region with this id that is known, if it can be used (§4.5). It lives
    /// longer, as by any other lookup.
    pub(crate) fn lookup_id(
        &mut self,
        id: u64,
        now: Instant,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Option<&Region> {
        let handle = *self.by_id.get(&id)?;
        self.touch(handle, now, epoch)
    }

    /// The first key of the latest version of the region with this id that is known, usable or not.
    pub(crate) fn start_of_id(&self, id: u64) -> Option<Key> {
        let region = self.regions.get(*self.by_id.get(&id)?)?;
        Some(Key::copy_from_slice(region.bounds.start()))
    }

    /// A copy of this region at this version, usable or not.
    pub(crate) fn located(&self, version: RegionVersion) -> Option<LocatedRegion> {
        self.find(version).map(LocatedRegion::from)
    }

    /// The version of this region's buckets; 0 without buckets, `None` without this region.
    pub(crate) fn bucket_version(&self, version: RegionVersion) -> Option<u64> {
        let region = self.find(version)?;
        Some(region.buckets.as_ref().map_or(0, |buckets| buckets.version))
    }

    /// The bounds of this region at this version, usable or not.
    pub(crate) fn range(&self, version: RegionVersion) -> Option<KeyRange> {
        self.find(version).map(|region| region.bounds.to_range())
    }

    /// Where this region at this version ends (empty: nowhere), usable or not.
    pub(crate) fn end_of(&self, version: RegionVersion) -> Option<&[u8]> {
        self.find(version).map(|region| region.bounds.end())
    }

    /// Where the region at this version begins.
    pub(crate) fn start_of(&self, version: RegionVersion) -> Option<&[u8]> {
        self.find(version).map(|region| region.bounds.start())
    }

    /// The region with this key, usable or not; its life is not extended.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<&Region> {
        self.regions.get(self.containing(key)?).map(Box::as_ref)
    }

    fn find(&self, version: RegionVersion) -> Option<&Region> {
        let handle = self.by_id.get(&version.id)?;
        let region = self.regions.get(*handle).map(Box::as_ref);
        region.filter(|region| region.version == version)
    }

    fn find_mut(&mut self, version: RegionVersion) -> Option<&mut Region> {
        let handle = self.by_id.get(&version.id)?;
        let region = self.regions.get_mut(*handle).map(Box::as_mut);
        region.filter(|region| region.version == version)
    }

    /// Puts a region into the cache, in the place of whatever it replaces (§4.4).
    ///
    /// `jitter` is the random part of its lifetime, `epoch` tells how often a store has failed.
    pub(crate) fn insert(
        &mut self,
        mut new: NewRegion,
        now: Instant,
        jitter: Duration,
        epoch: impl Fn(StoreId) -> u32,
    ) -> Inserted {
        self.sweep(now, SWEPT_AT_INSERT);
        let Some(displaced) = self.displaced_by(&new) else {
            return Inserted::Stale;
        };
        let told = new.leader.and_then(|id| new.peers.iter().position(|peer| peer.id == id));
        let mut leader = told.or_else(|| next_voter(&new.peers, 0)).unwrap_or(0);
        if let Some(first) = displaced.first().and_then(|handle| self.regions.get_mut(*handle)) {
            // The one that PD names was asked already and knew of no leader, its own leadership
            // included; PD may be wrong for long. So the turn goes on.
            if first.invalid == Some(InvalidReason::NoLeader) {
                leader = next_voter(&new.peers, first.leader() + 1).unwrap_or(leader);
            }
            // RGC-50: who tells of a region often leaves its buckets out.
            if let Some(old) = first.buckets.take()
                && new.buckets.as_ref().is_none_or(|buckets| old.replaces(Some(buckets)))
            {
                new.buckets = Some(old);
            }
        }
        for handle in displaced {
            self.forget(handle);
        }
        let region = Region::new(new, leader, now + self.ttl + jitter, jitter, epoch);
        let (start, id) = (region.bounds.start().into(), region.version.id);
        let handle = self.regions.insert(Box::new(region));
        self.by_start.insert(start, handle);
        self.by_id.insert(id, handle);
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
        let (start, end) = (&new.range.start[..], &new.range.end[..]);
        let before = (Bound::Unbounded, Bound::Excluded(start));
        let after = (Bound::Included(start), Bound::Unbounded);
        let reaching_in = self.by_start.range::<[u8], _>(before).next_back();
        let others = self.by_start.range::<[u8], _>(after);
        for (other, handle) in reaching_in.into_iter().chain(others) {
            if !starts_before_end(other, end) {
                break;
            }
            let Some(region) = self.regions.get(*handle) else { continue };
            if !region.bounds.overlaps(start, end) {
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
            self.by_start.remove(region.bounds.start());
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

    /// Some replica of this region is not used although its store is well: it should be looked at anew,
    /// some time (needDelayedReload, §4.1).
    pub(crate) fn reload_later(&mut self, version: RegionVersion, now: Instant) {
        if let Some(region) = self.find_mut(version) {
            region.flag(now);
        }
    }

    /// If this region is to be loaded anew, where it starts; says so once.
    pub(crate) fn take_reload(&mut self, version: RegionVersion, now: Instant) -> Option<Key> {
        let region = self.find_mut(version).filter(|region| region.wants_reload(now))?;
        region.care = Care::Expires;
        Some(Key::copy_from_slice(region.bounds.start()))
    }

    /// PD cannot be asked. If all that is held against the region of this key is that its stores died or
    /// its replicas did not answer, they may do so by now.
    pub(crate) fn revive(&mut self, key: &[u8], epoch: impl Fn(StoreId) -> u32) {
        self.revive_at(self.containing(key), epoch);
    }

    /// The same for the region that [`RegionCache::lookup_end`] leads to.
    pub(crate) fn revive_end(&mut self, key: &[u8], epoch: impl Fn(StoreId) -> u32) {
        self.revive_at(self.ending(key), epoch);
    }

    fn revive_at(&mut self, handle: Option<Handle>, epoch: impl Fn(StoreId) -> u32) {
        let Some(region) = handle.and_then(|handle| self.regions.get_mut(handle)) else {
            return;
        };
        if matches!(region.invalid, None | Some(InvalidReason::Exhausted)) {
            region.invalid = None;
            for replica in &mut region.peers {
                replica.epoch = epoch(replica.store);
            }
        }
    }

    /// §4.8, `OnBucketVersionNotMatch`: newer buckets take the place of older ones.
    pub(crate) fn set_buckets(&mut self, version: RegionVersion, buckets: Box<Buckets>) {
        if let Some(region) = self.find_mut(version)
            && buckets.replaces(region.buckets.as_deref())
        {
            region.buckets = Some(buckets);
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
                region.set_leader(index);
                region.peers[index].epoch = epoch;
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
        self.by_start.values().filter_map(|handle| self.regions.get(*handle)).map(Box::as_ref)
    }

    /// The indexes agree, and no two regions overlap.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.regions.len(), self.by_start.len());
        assert_eq!(self.regions.len(), self.by_id.len());
        for (handle, region) in self.regions.iter() {
            assert_eq!(self.by_start.get(region.bounds.start()), Some(&handle));
            assert_eq!(self.by_id.get(&region.version.id), Some(&handle));
        }
        let regions: Vec<&Region> = self.iter().collect();
        for pair in regions.windows(2) {
            let next = &pair[1].bounds;
            assert!(!pair[0].bounds.overlaps(next.start(), next.end()), "{pair:?}");
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
