//! Bringing regions into the cache (`control-plane.md` §4.5, §4.6).
//!
//! Whoever misses a region waits here. What is missing is a *gap* between cached regions, and a gap
//! is asked for once, however many wait and whatever keys of it they want: a second caller joins the
//! load that is under way. When it ends, those whose region it brought go on; the others still lie in
//! gaps, fewer and smaller ones, and each of these is asked for as a whole, up to 128 regions at a
//! time. So a cold client with a thousand callers asks PD a handful of questions, and a client that
//! misses one region asks for that one.
//!
//! ```text
//! queued ─▶ asking ─▶ installed ─▶ those found go on, the others regroup ─▶ queued
//!                 └─▶ refused: those who wanted the refused key hear it
//! ```
//!
//! A load always ends, and always wakes its waiters: PD's answer, PD's refusal and a spent budget
//! are the only ways out (`peers.md` D18).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::id::{Handle, RegionVersion};
use crate::operation::{Key, KeyRange, next_key};
use crate::pd::From;
use crate::region::buckets::Buckets;
use crate::region::{Inserted, LocatedRegion, NewRegion};
use crate::shared::{Shared, Waiter};
use crate::slab::Slab;
use crate::wire::reply::LoadedRegion;

/// How a region is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Seek {
    /// The region with `start ≤ key < end`.
    Containing,
    /// The region with `start < key ≤ end`: where a reverse scan from the exclusive bound `key`
    /// begins. For the empty key, which means «no upper bound», the last region.
    Before,
}

/// A question to PD.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RegionQuery {
    /// `GetRegion`.
    Containing(Key),
    /// `GetPrevRegion`: the region before the one that contains the key.
    Previous(Key),
    /// `BatchScanRegions`, or what an older PD has instead: the regions from the one that contains
    /// the first key to the one that contains the last, as many as PD gives at once.
    Between(Key, Key),
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Loader {
    loads: Slab<Load>,
    /// Every load by what it began with: where a miss looks for one to join.
    by_anchor: BTreeMap<(Seek, Key), Handle>,
    queue: VecDeque<Handle>,
    asking: usize,
}

impl Loader {
    pub(crate) const fn new() -> Self {
        Self { loads: Slab::new(), by_anchor: BTreeMap::new(), queue: VecDeque::new(), asking: 0 }
    }
}

#[derive(Clone, Debug, Hash)]
struct Load {
    seek: Seek,
    anchor: Key,
    /// The last key that is wanted, if that is another than the anchor.
    until: Option<Key>,
    seekers: Vec<Seeker>,
    /// Looking before a key: where the last step has led.
    walked: Option<Key>,
    /// PD's first answer was older than what the cache knows.
    again: bool,
}

/// Somebody who wants the region of a key.
#[derive(Clone, Debug, Hash)]
struct Seeker {
    key: Key,
    waiter: Waiter,
}

/// PD has no question for «the last region». A long run of the largest byte sorts behind any key
/// that is likely to be a boundary; where it does not, the walk goes on from the end of the region found.
const PROBE: [u8; 64] = [0xff; 64];

impl Shared {
    /// The region that `key` leads to, or `None` and a wake-up of `waiter` once it can be found.
    /// `until`: keys up to this one will be wanted next.
    pub(crate) fn locate(
        &mut self,
        key: &Key,
        seek: Seek,
        until: Option<&Key>,
        waiter: Waiter,
    ) -> Option<RegionVersion> {
        if let Some((version, reload)) = self.look_up(key, seek) {
            if reload {
                self.reload(version);
            }
            return Some(version);
        }
        let seeker = Seeker { key: key.clone(), waiter };
        let joined = self.load_in_the_gap_of(key, seek);
        if let Some(load) = joined.and_then(|handle| self.loader.loads.get_mut(handle)) {
            load.seekers.push(seeker);
            return None;
        }
        self.start_load(seek, until.cloned(), vec![seeker]);
        None
    }

    /// As [`Shared::locate`], but nobody is asked on behalf of the caller.
    pub(crate) fn known(&mut self, key: &Key, seek: Seek) -> Option<RegionVersion> {
        let (version, reload) = self.look_up(key, seek)?;
        if reload {
            self.reload(version);
        }
        Some(version)
    }

    /// §4.5, `TryLocateKey`: the region of a key, unless it should be loaded anew. Loads nothing.
    pub(crate) fn try_locate(&mut self, key: &Key) -> Option<LocatedRegion> {
        let (version, reload) = self.look_up(key, Seek::Containing)?;
        self.regions.located(version).filter(|_| !reload)
    }

    /// §4.5, `LocateRegionByID`: the latest version of a region, if it can be used.
    pub(crate) fn locate_id(&mut self, id: u64) -> Option<LocatedRegion> {
        let stores = &self.stores;
        let region = self.regions.lookup_id(id, self.now, |store| stores.epoch(store))?;
        let (found, reload) = (LocatedRegion::from(region), region.wants_reload(self.now));
        if reload {
            self.reload(found.version);
        }
        Some(found)
    }

    /// The region with this id that PD could not tell of, if it is known and was given up only because
    /// nobody answered.
    pub(crate) fn old_region(&mut self, id: u64) -> Option<LocatedRegion> {
        let start = self.regions.start_of_id(id)?;
        let known = self.falls_back(&start, Seek::Containing);
        if known { self.locate_id(id) } else { None }
    }

    /// §4.5: the region of a key could not be loaded. If what is known of it was given up only because
    /// nobody answered, that is used again, and a later lookup has it loaded anew.
    pub(crate) fn falls_back(&mut self, key: &Key, seek: Seek) -> bool {
        let Some(version) = self.revived(key, seek) else {
            return false;
        };
        self.regions.reload_later(version, self.now);
        true
    }

    /// The region of a key; also if it was given up, unless for another reason than want of an answer.
    fn revived(&mut self, key: &Key, seek: Seek) -> Option<RegionVersion> {
        let stores = &self.stores;
        match seek {
            Seek::Containing => self.regions.revive(key, |store| stores.epoch(store)),
            Seek::Before => self.regions.revive_end(key, |store| stores.epoch(store)),
        }
        self.cached(key, seek)
    }

    fn cached(&mut self, key: &Key, seek: Seek) -> Option<RegionVersion> {
        self.look_up(key, seek).map(|(version, _)| version)
    }

    /// The region, and whether it should be loaded anew.
    fn look_up(&mut self, key: &Key, seek: Seek) -> Option<(RegionVersion, bool)> {
        if self.refresh.is_due(self.now) {
            self.refresh_regions();
        }
        let stores = &self.stores;
        let epoch = |store| stores.epoch(store);
        let region = match seek {
            Seek::Containing => self.regions.lookup(key, self.now, epoch),
            Seek::Before => self.regions.lookup_end(key, self.now, epoch),
        };
        region.map(|region| (region.version, region.wants_reload(self.now)))
    }

    /// A load that is under way for a key with no usable region between it and this one.
    fn load_in_the_gap_of(&self, key: &Key, seek: Seek) -> Option<Handle> {
        let anchors = &self.loader.by_anchor;
        let wanted = (seek, key.clone());
        if seek == Seek::Before {
            return anchors.get(&wanted).copied();
        }
        let below = anchors.range(..=&wanted).next_back();
        let above = anchors.range(&wanted..).next();
        let same_gap = |((anchor_seek, anchor), _): &(&(Seek, Key), &Handle)| {
            let (low, high) = if anchor < key { (anchor, key) } else { (key, anchor) };
            *anchor_seek == seek && !self.separated(low, high)
        };
        below.filter(same_gap).or(above.filter(same_gap)).map(|(_, handle)| *handle)
    }

    /// Whether a usable region begins between two keys.
    fn separated(&self, low: &Key, high: &Key) -> bool {
        let stores = &self.stores;
        self.regions.any_between(low, high, self.now, |store| stores.epoch(store))
    }

    /// Asks for the first seeker's key, and for those up to `until`.
    fn start_load(&mut self, seek: Seek, until: Option<Key>, seekers: Vec<Seeker>) {
        let Some(anchor) = seekers.first().map(|seeker| seeker.key.clone()) else {
            return;
        };
        let until = until.filter(|until| *until > anchor);
        let load =
            Load { seek, anchor: anchor.clone(), until, seekers, walked: None, again: false };
        let handle = self.loader.loads.insert(load);
        self.loader.by_anchor.insert((seek, anchor), handle);
        self.loader.queue.push_back(handle);
        self.ask_next();
    }

    /// Loads a flagged region anew, by its key, since its id may lie elsewhere by now (§4.5). Nobody
    /// waits for that, and nobody else's load joins it.
    fn reload(&mut self, version: RegionVersion) {
        let Some(start) = self.regions.take_reload(version, self.now) else {
            return;
        };
        let load = Load {
            seek: Seek::Containing,
            anchor: start,
            until: None,
            seekers: Vec::new(),
            walked: None,
            again: false,
        };
        let handle = self.loader.loads.insert(load);
        self.loader.queue.push_back(handle);
        self.ask_next();
    }

    fn ask_next(&mut self) {
        while self.loader.asking < self.config.max_region_loads {
            let Some(handle) = self.loader.queue.pop_front() else {
                return;
            };
            let Some(load) = self.loader.loads.get(handle) else {
                continue;
            };
            let query = load.query();
            self.loader.asking += 1;
            self.pd_ask_region(handle, query, From::AnyMember);
        }
    }

    /// PD's answer to a question of a load, in the order of keys: at least one region, unless several
    /// were asked for.
    pub(crate) fn on_regions_loaded(
        &mut self,
        handle: Handle,
        answer: Result<Vec<LoadedRegion>, Error>,
    ) {
        // Of several, one that cannot be used is left out, as are those without a leader: nobody may
        // want it, and whoever does is told when it is asked for alone.
        let decoded = answer.and_then(|regions| {
            let several = regions.len() > 1;
            let decoded = regions.into_iter().map(|region| self.decode_region(region));
            decoded.filter(|region| !several || region.is_ok()).collect()
        });
        match decoded {
            Ok(regions) => self.on_regions_decoded(handle, regions),
            Err(error) => self.finish_load(handle, Err(error)),
        }
    }

    fn on_regions_decoded(&mut self, handle: Handle, regions: Vec<NewRegion>) {
        let Some(load) = self.loader.loads.get(handle) else {
            return;
        };
        let (seek, anchor) = (load.seek, load.anchor.clone());
        let range = regions.first().map(|region| region.range.clone()).unwrap_or_default();
        let mut stale = false;
        for region in regions {
            stale |= self.install(region) == Inserted::Stale;
        }
        if seek == Seek::Before {
            let on_the_way = match anchor.is_empty() {
                true => !range.end.is_empty(),
                false => range.start == anchor,
            };
            if on_the_way {
                return self.walk(handle, range);
            }
        }
        if self.cached(&anchor, seek).is_some() {
            return self.finish_load(handle, Ok(()));
        }
        if !stale
            && let Some(load) = self.loader.loads.get_mut(handle)
            && load.until.is_some()
        {
            // Of several regions those without a leader are left out; alone it is told as it is.
            load.until = None;
            return self.ask_again(handle);
        }
        if !stale {
            let text = "PD's answer does not contain the key that was asked for";
            return self.finish_load(handle, Err(Error::new(ErrorKind::RegionUnavailable, text)));
        }
        // PD lags behind what the stores have told (§4.4): once more, then it is the caller's turn
        // to wait.
        let Some(load) = self.loader.loads.get_mut(handle) else {
            return;
        };
        if std::mem::replace(&mut load.again, true) {
            let text = "PD's answer is older than what the stores say";
            return self.finish_load(handle, Err(Error::new(ErrorKind::RegionUnavailable, text)));
        }
        self.ask_again(handle);
    }

    /// A step towards the region before the anchor: the next one up for the last region, one down for
    /// another. A PD that answers without getting any further is not asked in a loop.
    fn walk(&mut self, handle: Handle, found: KeyRange) {
        let Some(load) = self.loader.loads.get_mut(handle) else {
            return;
        };
        let last = load.anchor.is_empty();
        let stuck = match &load.walked {
            Some(walked) => !last || *walked >= found.end,
            None => false,
        };
        if stuck {
            let text = "PD's answers lead nowhere";
            return self.finish_load(handle, Err(Error::new(ErrorKind::RegionUnavailable, text)));
        }
        let query = if last {
            RegionQuery::Containing(found.end.clone())
        } else {
            RegionQuery::Previous(load.anchor.clone())
        };
        load.walked = Some(found.end);
        self.pd_ask_region(handle, query, From::Leader);
    }

    /// The same question in another way, and to PD's leader: a follower may have answered first.
    pub(crate) fn ask_again(&mut self, handle: Handle) {
        if let Some(load) = self.loader.loads.get(handle) {
            let query = load.query();
            self.pd_ask_region(handle, query, From::Leader);
        }
    }

    fn finish_load(&mut self, handle: Handle, result: Result<(), Error>) {
        let Some(load) = self.loader.loads.remove(handle) else {
            return;
        };
        let anchor = (load.seek, load.anchor.clone());
        if self.loader.by_anchor.get(&anchor) == Some(&handle) {
            self.loader.by_anchor.remove(&anchor);
        }
        self.loader.asking = self.loader.asking.saturating_sub(1);
        let mut left = Vec::new();
        for seeker in load.seekers {
            if self.cached(&seeker.key, load.seek).is_some() {
                self.wake_located(seeker.waiter, Ok(()));
                continue;
            }
            match &result {
                // A PD that cannot be reached is everybody's trouble, a region that cannot be had
                // only that of those who want it.
                Err(error)
                    if seeker.key == load.anchor || *error.kind() == ErrorKind::PdUnavailable =>
                {
                    let known = self.falls_back(&seeker.key, load.seek);
                    let told = if known { Ok(()) } else { Err(error.clone()) };
                    self.wake_located(seeker.waiter, told);
                }
                Ok(()) | Err(_) => left.push(seeker),
            }
        }
        self.regroup(load.seek, left);
        self.ask_next();
    }

    /// PD cannot be reached. Whoever waits for a region that was given up only because its replicas did
    /// not answer goes on with what was known of it (needReloadOnAccess, §4.1): they may answer by now,
    /// and an absent PD is no reason not to ask them. The load goes on as well.
    pub(crate) fn loads_without_pd(&mut self) {
        let loads: Vec<Handle> = self.loader.by_anchor.values().copied().collect();
        for handle in loads {
            let Some(load) = self.loader.loads.get_mut(handle) else { continue };
            let seek = load.seek;
            for seeker in std::mem::take(&mut load.seekers) {
                if self.revived(&seeker.key, seek).is_some() {
                    self.wake_located(seeker.waiter, Ok(()));
                } else if let Some(load) = self.loader.loads.get_mut(handle) {
                    load.seekers.push(seeker);
                }
            }
        }
    }

    /// A load for each gap that is left.
    fn regroup(&mut self, seek: Seek, mut seekers: Vec<Seeker>) {
        seekers.sort_by(|a, b| a.key.cmp(&b.key));
        let mut group: Vec<Seeker> = Vec::new();
        for seeker in seekers {
            let apart = group.last().is_some_and(|last| {
                last.key != seeker.key
                    && (seek == Seek::Before || self.separated(&last.key, &seeker.key))
            });
            if apart {
                self.load_group(seek, std::mem::take(&mut group));
            }
            group.push(seeker);
        }
        self.load_group(seek, group);
    }

    fn load_group(&mut self, seek: Seek, group: Vec<Seeker>) {
        let until = group.last().map(|seeker| seeker.key.clone());
        self.start_load(seek, until, group);
    }

    /// A random part of a region's lifetime.
    pub(crate) fn region_jitter(&mut self) -> Duration {
        let ms = u32::try_from(self.config.region_ttl_jitter.as_millis()).unwrap_or(u32::MAX);
        Duration::from_millis(self.draws.below(ms.max(1)).into())
    }

    /// Puts a region into the cache, with a lifetime of its own.
    pub(crate) fn install(&mut self, region: NewRegion) -> Inserted {
        let jitter = self.region_jitter();
        let stores = &self.stores;
        self.regions.insert(region, self.now, jitter, |store| stores.epoch(store))
    }

    /// From PD's key space into the application's, with the replicas that can be asked (§4.3).
    pub(crate) fn decode_region(&self, loaded: LoadedRegion) -> Result<NewRegion, Error> {
        let info = loaded.region;
        let range = self.codec.range_from_pd(&info.start, &info.end).map_err(|error| {
            Error::new(ErrorKind::Protocol, format!("region {}: {error}", info.version))
        })?;
        let leader = loaded.leader.map(|leader| leader.id);
        let down = &loaded.down_peers;
        let peers: Vec<_> = info
            .peers
            .iter()
            .copied()
            .filter(|peer| !down.contains(&peer.id) && (!peer.witness || Some(peer.id) == leader))
            .collect();
        if peers.is_empty() {
            let text = format!("region {} has no replica that can be asked", info.version);
            return Err(Error::new(ErrorKind::RegionUnavailable, text));
        }
        let some_down = !down.is_empty();
        let buckets = loaded.buckets.and_then(|(version, keys)| self.buckets(version, &keys));
        Ok(NewRegion { version: info.version, range, peers, leader, some_down, buckets })
    }

    /// Buckets as PD or a store told them.
    pub(crate) fn buckets(&self, version: u64, keys: &[Key]) -> Option<Box<Buckets>> {
        Buckets::from_pd(self.codec, version, keys)
    }
}

impl Load {
    fn query(&self) -> RegionQuery {
        match (self.seek, &self.until) {
            (Seek::Containing, Some(until)) => {
                RegionQuery::Between(self.anchor.clone(), next_key(until))
            }
            (Seek::Containing, None) => RegionQuery::Containing(self.anchor.clone()),
            (Seek::Before, _) if self.anchor.is_empty() => {
                RegionQuery::Containing(Key::from_static(&PROBE))
            }
            (Seek::Before, _) => RegionQuery::Containing(self.anchor.clone()),
        }
    }
}
