//! What a core knows of a region, to be looked at from outside.

use crate::id::{Peer, RegionVersion};
use crate::operation::{Key, KeyRange};
use crate::region::entry::{Region, Replica};

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
