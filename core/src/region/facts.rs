//! What a core knows of a region, to be looked at from outside.

use crate::id::{Peer, RegionVersion};
use crate::operation::{Key, KeyRange};
use crate::region::buckets::{self, Buckets};
use crate::region::entry::{NewRegion, Region, Replica};

/// What a core knows of a region. See [`Core::region_facts`](crate::Core::region_facts).
#[derive(Clone, Copy, Debug)]
pub struct RegionFacts<'a>(pub(crate) &'a Region);

impl<'a> RegionFacts<'a> {
    /// The region, at the version that is cached.
    pub fn version(&self) -> RegionVersion {
        self.0.version
    }

    /// Where it starts; empty: below every key.
    pub fn start(&self) -> &'a [u8] {
        self.0.bounds.start()
    }

    /// Where it ends; empty: above every key.
    pub fn end(&self) -> &'a [u8] {
        self.0.bounds.end()
    }

    /// Its replicas, without those that cannot be asked.
    pub fn peers(&self) -> impl Iterator<Item = Peer> + 'a {
        self.0.peers.iter().map(Replica::peer)
    }

    /// The replica that is believed to lead.
    pub fn leader(&self) -> Option<Peer> {
        self.0.leading().map(Replica::peer)
    }

    /// It was given up: the next that wants it has it loaded anew.
    pub fn is_invalid(&self) -> bool {
        self.0.invalid.is_some()
    }

    /// The version of its buckets, and their borders.
    pub fn buckets(&self) -> Option<(u64, &'a [Key])> {
        let buckets = self.0.buckets.as_deref()?;
        Some((buckets.version, &buckets.keys))
    }

    /// The bucket with this key; the part of the region that the list leaves out, if it leaves the key
    /// out. `None` without buckets, and for a key that is not in the region.
    pub fn bucket(&self, key: &[u8]) -> Option<KeyRange> {
        self.0.buckets.as_deref()?.locate(key, &self.0.bounds.to_range())
    }
}

/// A region as it was found: a copy, which may be out of date at any time. What is done with it has to
/// name its version, and the store checks that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LocatedRegion {
    /// The region, at the version that was found.
    pub version: RegionVersion,
    /// All keys that belong to it, as far as they are the application's.
    pub bounds: KeyRange,
    /// Its replicas, without those that cannot be asked (PD counts them as down, or they hold no data).
    pub peers: Vec<Peer>,
    /// The replica that is believed to lead; of PD's own word the one that it names, if any.
    pub leader: Option<Peer>,
    /// Its buckets, if any are known.
    pub buckets: Option<RegionBuckets>,
}

/// Borders within a region that make pieces of about the same size (`control-plane.md` §4.9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegionBuckets {
    /// Grows with each new list.
    pub version: u64,
    /// Borders, ascending: of *n* buckets *n* + 1. May be older than the region, and reach beyond it or
    /// leave its ends open. The last may be empty: no end.
    pub keys: Vec<Key>,
}

impl LocatedRegion {
    /// The bucket with this key, within the region; where the list leaves out the region's beginning or
    /// end, that is one, and without a list the whole region is. `None` for a key that is not in it.
    pub fn bucket(&self, key: &[u8]) -> Option<KeyRange> {
        let borders = self.buckets.as_ref().map_or(&[][..], |buckets| &buckets.keys);
        buckets::locate(borders, key, &self.bounds)
    }
}

impl From<&Region> for LocatedRegion {
    fn from(region: &Region) -> Self {
        Self {
            version: region.version,
            bounds: region.bounds.to_range(),
            peers: region.peers.iter().map(Replica::peer).collect(),
            leader: region.leading().map(Replica::peer),
            buckets: region.buckets.as_deref().map(RegionBuckets::from),
        }
    }
}

impl From<&NewRegion> for LocatedRegion {
    fn from(region: &NewRegion) -> Self {
        let leads = |peer: &&Peer| Some(peer.id) == region.leader;
        Self {
            version: region.version,
            bounds: region.range.clone(),
            peers: region.peers.clone(),
            leader: region.peers.iter().find(leads).copied(),
            buckets: region.buckets.as_deref().map(RegionBuckets::from),
        }
    }
}

impl From<&Buckets> for RegionBuckets {
    fn from(buckets: &Buckets) -> Self {
        Self { version: buckets.version, keys: buckets.keys.to_vec() }
    }
}
