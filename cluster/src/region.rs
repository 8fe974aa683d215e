//! Regions: their bounds, epochs and peers, and the table that finds one by id or by key.
//!
//! Bounds are *physical*, as PD keeps them: raw keys of API V1 as they are, transactional keys in
//! memcomparable form. An empty end is the end of the key space. The table always covers the key
//! space without gaps or overlaps.

use std::{collections::BTreeMap, ops::Bound};

use anatase_proto::{errorpb, metapb};
use bytes::Bytes;

use crate::store::StoreId;

/// The id of a region.
pub type RegionId = u64;

/// The id of a peer; unlike a store's id it is never used again.
pub type PeerId = u64;

/// What a peer may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It votes and may lead.
    #[default]
    Voter,
    /// It has the data, and neither votes nor leads.
    Learner,
    /// It votes, has no data, and answers no reads: `IsWitness`.
    Witness,
}

/// A replica of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its own id.
    pub id: PeerId,
    /// The store it is on.
    pub store: StoreId,
    /// What it may do.
    pub role: Role,
}

impl Peer {
    pub(crate) fn to_proto(self) -> metapb::Peer {
        metapb::Peer {
            id: self.id,
            store_id: self.store,
            role: match self.role {
                Role::Voter | Role::Witness => metapb::PeerRole::Voter as i32,
                Role::Learner => metapb::PeerRole::Learner as i32,
            },
            is_witness: self.role == Role::Witness,
        }
    }
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Region {
    /// Its id.
    pub id: RegionId,
    /// Its first key, physical.
    pub start: Bytes,
    /// The key after its last, physical; empty for the end of the key space.
    pub end: Bytes,
    /// Counts changes of peers.
    pub conf_ver: u64,
    /// Counts changes of bounds.
    pub version: u64,
    /// Its replicas.
    pub peers: Vec<Peer>,
    /// The store whose peer leads, if one does.
    pub leader: Option<StoreId>,
    /// Counts leaders.
    pub term: u64,
    pub(crate) max_ts: MaxTs,
}

/// Whether the store of a region's leader knows the largest timestamp that the region was read at
/// ([`crate::max_ts`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum MaxTs {
    #[default]
    Synced,
    /// From this time on, in milliseconds.
    From(u64),
    /// Not until it is said to be.
    Held,
}

impl Region {
    /// Whether the physical `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.is_before_end(key)
    }

    /// Like [`Region::contains`], with the end key counted in.
    pub(crate) fn contains_inclusive(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key <= &self.end[..])
    }

    fn is_before_end(&self, key: &[u8]) -> bool {
        self.end.is_empty() || key < &self.end[..]
    }

    /// Whether a range that ends at the physical `end`, empty for unbounded, ends within it.
    pub(crate) fn covers_end(&self, end: &[u8]) -> bool {
        self.end.is_empty() || (!end.is_empty() && end <= &self.end[..])
    }

    /// The peer on that store.
    pub fn peer_on(&self, store: StoreId) -> Option<Peer> {
        self.peers.iter().copied().find(|peer| peer.store == store)
    }

    /// The peer that leads.
    pub fn leader_peer(&self) -> Option<Peer> {
        self.peer_on(self.leader?)
    }

    pub(crate) fn to_proto(&self) -> metapb::Region {
        metapb::Region {
            id: self.id,
            start_key: self.start.clone(),
            end_key: self.end.clone(),
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver: self.conf_ver,
                version: self.version,
            }),
            peers: self.peers.iter().map(|peer| peer.to_proto()).collect(),
            ..Default::default()
        }
    }

    pub(crate) fn key_not_in_region(&self, key: &[u8]) -> Box<errorpb::Error> {
        Box::new(errorpb::Error {
            message: format!("key is not in the range of region {}", self.id),
            key_not_in_region: Some(Box::new(errorpb::KeyNotInRegion {
                key: Bytes::copy_from_slice(key),
                region_id: self.id,
                start_key: self.start.clone(),
                end_key: self.end.clone(),
            })),
            ..Default::default()
        })
    }
}

/// All regions, by id and by start key.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Regions {
    by_id: BTreeMap<RegionId, Region>,
    by_start: BTreeMap<Bytes, RegionId>,
}

impl Regions {
    /// The one region that covers everything.
    pub(crate) fn whole(region: Region) -> Self {
        debug_assert!(region.start.is_empty() && region.end.is_empty());
        Regions {
            by_start: BTreeMap::from([(Bytes::new(), region.id)]),
            by_id: BTreeMap::from([(region.id, region)]),
        }
    }

    pub(crate) fn get(&self, id: RegionId) -> Option<&Region> {
        self.by_id.get(&id)
    }

    /// To change anything but the bounds.
    pub(crate) fn get_mut(&mut self, id: RegionId) -> Option<&mut Region> {
        self.by_id.get_mut(&id)
    }

    /// In key order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Region> {
        self.by_start.values().filter_map(|id| self.by_id.get(id))
    }

    /// The region that holds the physical `key`.
    pub(crate) fn locate(&self, key: &[u8]) -> Option<&Region> {
        let (_, id) =
            self.by_start.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        self.by_id.get(id)
    }

    /// The region before `region`.
    pub(crate) fn before(&self, region: &Region) -> Option<&Region> {
        let (_, id) = self
            .by_start
            .range::<[u8], _>((Bound::Unbounded, Bound::Excluded(&region.start[..])))
            .next_back()?;
        self.by_id.get(id)
    }

    /// The region after `region`.
    pub(crate) fn after(&self, region: &Region) -> Option<&Region> {
        if region.end.is_empty() { None } else { self.locate(&region.end) }
    }

    /// The regions that overlap `[start, end)`, in key order; an empty `end` is unbounded.
    pub(crate) fn overlapping<'a>(
        &'a self,
        start: &'a [u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = &'a Region> {
        std::iter::successors(self.locate(start), |region| self.after(region))
            .take_while(move |region| end.is_empty() || &region.start[..] < end)
    }

    /// Replaces a region by neighbours that together have its bounds, or by itself changed.
    /// The caller sees to it that no gap appears.
    pub(crate) fn replace(&mut self, old: &[RegionId], new: Vec<Region>) {
        for id in old {
            if let Some(region) = self.by_id.remove(id) {
                self.by_start.remove(&region.start);
            }
        }
        for region in new {
            self.by_start.insert(region.start.clone(), region.id);
            self.by_id.insert(region.id, region);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(id: RegionId, start: &'static str, end: &'static str) -> Region {
        Region {
            id,
            start: Bytes::from_static(start.as_bytes()),
            end: Bytes::from_static(end.as_bytes()),
            conf_ver: 1,
            version: 1,
            peers: vec![],
            leader: None,
            term: 1,
            max_ts: MaxTs::Synced,
        }
    }

    fn three() -> Regions {
        let mut regions = Regions::whole(region(1, "", ""));
        regions.replace(&[1], vec![region(2, "", "f"), region(3, "f", "p"), region(1, "p", "")]);
        regions
    }

    #[test]
    fn locate_is_half_open() {
        let regions = three();
        let id = |key: &str| regions.locate(key.as_bytes()).map(|region| region.id);
        assert_eq!(
            ["", "e", "f", "o", "p", "z"].map(id),
            [2, 2, 3, 3, 1, 1].map(Some),
            "the start belongs to the region, the end does not"
        );
    }

    #[test]
    fn neighbours_and_overlaps() {
        let regions = three();
        let middle = regions.get(3).unwrap();
        assert_eq!(regions.before(middle).map(|region| region.id), Some(2));
        assert_eq!(regions.after(middle).map(|region| region.id), Some(1));
        assert!(regions.before(regions.get(2).unwrap()).is_none());
        assert!(regions.after(regions.get(1).unwrap()).is_none());
        let ids = |start: &str, end: &str| {
            regions
                .overlapping(start.as_bytes(), end.as_bytes())
                .map(|region| region.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids("", ""), [2, 3, 1]);
        assert_eq!(ids("f", "p"), [3]);
        assert_eq!(ids("e", "pp"), [2, 3, 1]);
    }
}
