//! Which regions keys and ranges lie in: the same for raw and transactional keys.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anatase_core::{
    KeyRange, LocatedRegion, Operation, Peer, RegionLookup, RegionVersion, Reply, StoreId,
};

use crate::driver::Handle;
use crate::key::Key;
use crate::operation::{Kind, kinds};
use crate::range::BoundRange;
use crate::request::Request;

/// The regions of a cluster, as a client knows them; see [`RawClient::regions`](crate::RawClient::regions)
/// and [`TransactionClient::regions`](crate::TransactionClient::regions).
///
/// No read and no write needs this: they find their regions by themselves. It is for whoever cuts work
/// into pieces, or wants to know.
///
/// Answers come from the client's cache as far as that is believed to be true, for the rest from PD, many
/// regions at a time. **An answer may be out of date when it arrives**, and a region that is cached may
/// have been split or merged without anybody having noticed yet: whoever reads or writes there is
/// corrected by the stores, and these answers are then too.
///
/// ```
/// # use anatase_client::{DefaultRuntime, RawClient, Result};
/// # async fn example<R: DefaultRuntime>(client: RawClient<R>) -> Result<()> {
/// for region in client.regions().in_range("user/".."user0").await? {
///     println!("{} from {:?} on store {:?}", region.version, region.range.start, region.leader);
/// }
/// for (region, keys) in client.regions().of_keys(["b", "z", "a"]).await? {
///     println!("{} holds {} of them", region.version, keys.len());
/// }
/// # Ok(())
/// # }
/// ```
///
/// Empty and reversed ranges lie in no region, and send nothing. Every request but
/// [`Regions::cached`] may fail with [`ErrorKind::PdUnavailable`](crate::ErrorKind::PdUnavailable) or
/// [`ErrorKind::PdRefused`](crate::ErrorKind::PdRefused), and with
/// [`ErrorKind::RegionUnavailable`](crate::ErrorKind::RegionUnavailable) if PD goes on knowing no region.
///
/// # Cancel safety
/// Dropping a request leaves no trace but what has been cached.
#[derive(Clone)]
pub struct Regions {
    handle: Arc<Handle>,
    timeout: Duration,
}

/// A region, as it was when it was looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Region {
    /// Which one, and at which version.
    pub version: RegionVersion,
    /// All keys that belong to it; an empty end is the end of the key space. In a keyspace, those of its
    /// keys that are the keyspace's.
    pub range: Range<Key>,
    /// The store that is believed to lead it.
    pub leader: Option<StoreId>,
    /// The stores with replicas that can be asked, the leader's among them.
    pub stores: Vec<StoreId>,
    found: LocatedRegion,
}

impl Region {
    /// Its id, which stays the same when it is split, merged or moved.
    pub fn id(&self) -> u64 {
        self.version.id
    }

    /// Whether `key` belongs to it.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> bool {
        self.found.bounds.contains(key.as_ref())
    }

    /// The version of its buckets; `None` if none are known. Buckets are pieces of a region of about the
    /// same size, whose borders PD keeps where the cluster is configured for them.
    pub fn buckets_version(&self) -> Option<u64> {
        self.found.buckets.as_ref().map(|buckets| buckets.version)
    }

    /// The bucket with `key`, within the region. Where the list of buckets leaves out the beginning or the
    /// end of the region, that is a bucket; without buckets the whole region is. `None` if the key does
    /// not belong to it.
    pub fn bucket(&self, key: impl AsRef<[u8]>) -> Option<Range<Key>> {
        self.found.bucket(key.as_ref()).map(|range| keys(&range))
    }
}

impl From<LocatedRegion> for Region {
    fn from(found: LocatedRegion) -> Self {
        Self {
            version: found.version,
            range: keys(&found.bounds),
            leader: found.leader.map(|leader: Peer| leader.store),
            stores: found.peers.iter().map(|peer| peer.store).collect(),
            found,
        }
    }
}

/// As the application sees a range; an empty end is none.
pub(crate) fn keys(range: &KeyRange) -> Range<Key> {
    range.start.clone().into()..range.end.clone().into()
}

impl Regions {
    pub(crate) fn new(handle: Arc<Handle>, timeout: Duration) -> Self {
        Self { handle, timeout }
    }

    fn request<T>(&self, operation: Operation, kind: Kind<T>) -> Request<T> {
        Request::new(self.handle.clone(), operation, self.timeout, kind)
    }

    fn one<T>(&self, what: RegionLookup, kind: Kind<T>) -> Request<T> {
        self.request(Operation::Region(what), kind)
    }

    /// The region that `key` belongs to.
    pub fn of_key(&self, key: impl Into<Key>) -> Request<Region> {
        self.one(RegionLookup::Containing(key.into().into_bytes()), REGION)
    }

    /// The region in which the keys below `end` end: the one with `start < end ≤ its end`. For the empty
    /// key, which as an end is none, the last region.
    pub fn before(&self, end: impl Into<Key>) -> Request<Region> {
        self.one(RegionLookup::Before(end.into().into_bytes()), REGION)
    }

    /// The region with this id, in the latest version that is known.
    ///
    /// # Errors
    /// [`ErrorKind::RegionUnavailable`](crate::ErrorKind::RegionUnavailable), at once, if PD knows none, or
    /// if it holds no key of the client's keyspace.
    pub fn by_id(&self, id: u64) -> Request<Region> {
        self.one(RegionLookup::ById(id), REGION)
    }

    /// The region with this id as PD has it now, past what the client knows and without remembering it:
    /// for diagnostics.
    ///
    /// # Errors
    /// As [`Regions::by_id`].
    pub fn by_id_from_pd(&self, id: u64) -> Request<Region> {
        self.one(RegionLookup::ByIdFromPd(id), REGION)
    }

    /// The region that `key` belongs to, if that is known; `None` also if it is to be looked up anew. Asks
    /// nobody.
    pub fn cached(&self, key: impl Into<Key>) -> Request<Option<Region>> {
        self.one(RegionLookup::Cached(key.into().into_bytes()), CACHED)
    }

    /// The regions that `range` runs over, in the order of keys.
    pub fn in_range(&self, range: impl Into<BoundRange>) -> Request<Vec<Region>> {
        let ranges = vec![range.into().into()];
        self.request(Operation::Regions { ranges }, IN_RANGE)
    }

    /// The ids of the regions that `range` runs over, in the order of keys.
    ///
    /// An exclusive end is one: a region that begins with it is not among them (in client-go's
    /// `ListRegionIDsInKeyRange` it is).
    pub fn ids_in_range(&self, range: impl Into<BoundRange>) -> Request<Vec<u64>> {
        let ranges = vec![range.into().into()];
        self.request(Operation::Regions { ranges }, IDS)
    }

    /// The regions that `ranges` run over, each with the parts of the ranges in it; an empty end is none.
    /// In the order of the ranges: one region may be told more than once, unless they are in order.
    pub fn of_ranges<B: Into<BoundRange>>(
        &self,
        ranges: impl IntoIterator<Item = B>,
    ) -> Request<Vec<(Region, Vec<Range<Key>>)>> {
        let ranges = ranges.into_iter().map(|range| range.into().into()).collect();
        self.request(Operation::Regions { ranges }, PARTS)
    }

    /// `keys` by the regions that they belong to: each region once, in the order of keys. In each group
    /// keys stand in the order in which they were given, repeats included.
    pub fn of_keys<K: Into<Key>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Request<Vec<(Region, Vec<Key>)>> {
        let keys = keys.into_iter().map(|key| key.into().into_bytes()).collect();
        self.request(Operation::GroupKeys { keys }, GROUPS)
    }

    /// A store has told, in an answer that did not come through this client, that a region's buckets are
    /// at version `latest`; the question was made along those of version `used` (0: none). If the client's
    /// are older, it fetches them in the background. Completes at once.
    pub fn buckets_seen(&self, region: RegionVersion, used: u64, latest: u64) -> Request<()> {
        // Nothing of the application's is changed by it.
        let kind = Kind { writes: false, ..kinds::WRITE };
        self.request(Operation::BucketsSeen { region, used, latest }, kind)
    }
}

impl fmt::Debug for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regions").finish_non_exhaustive()
    }
}

const REGION: Kind<Region> = Kind {
    take: |reply| match reply {
        Reply::Region(found) => found.map(|found| Region::from(*found)),
        _ => None,
    },
    writes: false,
};
const CACHED: Kind<Option<Region>> = Kind {
    take: |reply| match reply {
        Reply::Region(found) => Some(found.map(|found| Region::from(*found))),
        _ => None,
    },
    writes: false,
};
const IN_RANGE: Kind<Vec<Region>> = Kind {
    take: |reply| match reply {
        Reply::Regions(groups) => {
            Some(groups.into_iter().map(|group| group.region.into()).collect())
        }
        _ => None,
    },
    writes: false,
};
const IDS: Kind<Vec<u64>> = Kind {
    take: |reply| match reply {
        Reply::Regions(groups) => {
            Some(groups.iter().map(|group| group.region.version.id).collect())
        }
        _ => None,
    },
    writes: false,
};
const PARTS: Kind<Vec<(Region, Vec<Range<Key>>)>> = Kind {
    take: |reply| match reply {
        Reply::Regions(groups) => {
            let one = |group: anatase_core::RegionRanges| {
                (group.region.into(), group.ranges.iter().map(keys).collect())
            };
            Some(groups.into_iter().map(one).collect())
        }
        _ => None,
    },
    writes: false,
};
const GROUPS: Kind<Vec<(Region, Vec<Key>)>> = Kind {
    take: |reply| match reply {
        Reply::KeyGroups(groups) => {
            let one = |group: anatase_core::RegionKeys| {
                (group.region.into(), group.keys.into_iter().map(Key::from).collect())
            };
            Some(groups.into_iter().map(one).collect())
        }
        _ => None,
    },
    writes: false,
};
