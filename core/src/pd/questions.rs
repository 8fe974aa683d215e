//! What PD is asked, besides for timestamps.

use std::time::Duration;

use anatase_proto::keyspacepb::LoadKeyspaceRequest;
use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;
use prost::Message;

use super::PdPurpose;
use super::task::PdTask;
use crate::backoff::budget;
use crate::error::{Error, ErrorKind};
use crate::id::{Handle, StoreId};
use crate::operation::{Key, KeyRange};
use crate::region::loader::RegionQuery;
use crate::shared::{Cx, Shared, Tag, Wake};
use crate::wire::NULL_KEYSPACE;

/// How this PD tells about several regions at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ScanSupport {
    /// By `BatchScanRegions`, as far as is known.
    Batch,
    /// By `ScanRegions`.
    Single,
    /// Not at all: one by one.
    None,
}

/// How many regions are asked for at once (§4.6).
pub(super) const REGIONS_AT_ONCE: i32 = 128;

/// How many ranges one question may name (§4.6: sixteen for each region that is asked for).
pub(super) const RANGES_AT_ONCE: usize = 16 * REGIONS_AT_ONCE as usize;

/// How many regions a page of a refresh of all regions has (§4.6).
pub(super) const REFRESH_PAGE: i32 = 10_000;

/// Whose answer will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum From {
    /// Any member's, if that is enabled: followers lag a little behind their leader.
    AnyMember,
    /// The leader's: an answer was out of date, or something hangs on it.
    Leader,
}

impl Shared {
    /// Asks PD where a region is, or several, on behalf of `load`.
    pub(crate) fn pd_ask_region(&mut self, load: Handle, query: RegionQuery, from: From) {
        self.stats.region_loads += 1;
        let (rpc, body) = match &query {
            RegionQuery::Containing(key) => (Rpc::PdGetRegion, self.get_region(key)),
            RegionQuery::Previous(key) => (Rpc::PdGetPrevRegion, self.get_region(key)),
            RegionQuery::Between(first, end) => {
                let range = KeyRange { start: first.clone(), end: end.clone() };
                let scan = self.scan_of(&[range], REGIONS_AT_ONCE, true);
                scan.unwrap_or_else(|| (Rpc::PdGetRegion, self.get_region(first)))
            }
        };
        self.pd_start(PdPurpose::Region(load), rpc, body.into(), from);
    }

    /// Asks PD for a region by its id, for the sake of its buckets (§4.9). Nobody waits for it, so it has
    /// a budget of its own.
    pub(crate) fn pd_ask_buckets(&mut self, region: u64) {
        self.stats.region_loads += 1;
        let body = region_by_id(region).encode_to_vec().into();
        let purpose = PdPurpose::Buckets(region);
        self.pd_start_within(purpose, Rpc::PdGetRegionById, body, From::Leader, budget::BUCKETS);
    }

    /// Asks PD for the next page of all regions, from `start` on; false if this PD tells one region at a
    /// time only.
    pub(crate) fn pd_ask_page(&mut self, start: Key, budget: Duration) -> bool {
        let range = KeyRange { start, end: Key::new() };
        // A gap is no reason to tell nothing.
        let Some((rpc, body)) = self.scan_of(&[range], REFRESH_PAGE, false) else {
            return false;
        };
        self.stats.region_loads += 1;
        self.pd_start_within(PdPurpose::Refresh, rpc, body.into(), From::AnyMember, budget);
        true
    }

    fn get_region(&self, key: &Key) -> Vec<u8> {
        let region_key = self.codec.to_pd(key);
        pdpb::GetRegionRequest { region_key, need_buckets: true, ..Default::default() }
            .encode_to_vec()
    }

    /// A question for the regions of these ranges, which are in order and apart, in the best way that
    /// this PD understands; `None` if it understands none. With `ScanRegions` it is for those of the first
    /// range.
    fn scan_of(&self, ranges: &[KeyRange], limit: i32, all: bool) -> Option<(Rpc, Vec<u8>)> {
        let codec = self.codec;
        match self.pd.scan {
            ScanSupport::Batch => {
                let range = |range: &KeyRange| pdpb::KeyRange {
                    start_key: codec.to_pd(&range.start),
                    end_key: codec.end_to_pd(&range.end),
                };
                let message = pdpb::BatchScanRegionsRequest {
                    ranges: ranges.iter().map(range).collect(),
                    limit,
                    contain_all_key_range: all,
                    need_buckets: true,
                    ..Default::default()
                };
                Some((Rpc::PdBatchScanRegions, message.encode_to_vec()))
            }
            ScanSupport::Single => {
                let range = ranges.first()?;
                let message = pdpb::ScanRegionsRequest {
                    start_key: codec.to_pd(&range.start),
                    end_key: codec.end_to_pd(&range.end),
                    limit,
                    ..Default::default()
                };
                Some((Rpc::PdScanRegions, message.encode_to_vec()))
            }
            ScanSupport::None => None,
        }
    }

    /// An older PD does not know the call: from now on the next best is used (§4.6).
    pub(super) fn pd_without(&mut self, handle: Handle, rpc: Rpc) {
        self.pd.scan = match (rpc, self.pd.scan) {
            (Rpc::PdBatchScanRegions, ScanSupport::Batch) => ScanSupport::Single,
            (Rpc::PdBatchScanRegions, known) => known,
            _ => ScanSupport::None,
        };
        match self.pd.tasks.remove(handle).map(PdTask::into_purpose) {
            Some(PdPurpose::Region(load)) => self.ask_again(load),
            Some(PdPurpose::Refresh) => self.refresh_page(),
            Some(PdPurpose::Owner(owner, tag)) => {
                let text = format!("PD does not know {rpc}");
                self.wake(owner, tag, Wake::Pd(Err(Error::new(ErrorKind::Unsupported, text))));
            }
            Some(
                PdPurpose::Store(_)
                | PdPurpose::Keyspace
                | PdPurpose::SafePoint
                | PdPurpose::Buckets(_),
            )
            | None => {}
        }
    }

    /// Asks PD where a store is.
    pub(crate) fn pd_ask_store(&mut self, store: StoreId) {
        let message = pdpb::GetStoreRequest { store_id: store.0, ..Default::default() };
        let body = message.encode_to_vec().into();
        self.pd_start(PdPurpose::Store(store), Rpc::PdGetStore, body, From::Leader);
    }
}

impl Shared {
    /// Asks PD for a keyspace.
    pub(crate) fn pd_ask_keyspace(&mut self, name: &str) {
        let message = LoadKeyspaceRequest { name: name.to_owned(), ..Default::default() };
        let body = message.encode_to_vec().into();
        self.pd_start(PdPurpose::Keyspace, Rpc::LoadKeyspace, body, From::Leader);
    }
}

impl Shared {
    /// Asks PD for the safe point that holds for a keyspace, or for all keys outside of keyspaces
    /// (`transactions.md` §18).
    pub(crate) fn pd_ask_safe_point(&mut self, keyspace: Option<u32>) {
        let keyspace_id = keyspace.unwrap_or(NULL_KEYSPACE);
        let message = pdpb::GetGcStateRequest {
            keyspace_scope: Some(pdpb::KeyspaceScope {
                keyspace: Some(pdpb::keyspace_scope::Keyspace::KeyspaceId(keyspace_id)),
            }),
            exclude_gc_barriers: true,
            ..Default::default()
        };
        let body = message.encode_to_vec().into();
        self.pd_start(PdPurpose::SafePoint, Rpc::PdGetGcState, body, From::Leader);
    }
}

fn region_by_id(region_id: u64) -> pdpb::GetRegionByIdRequest {
    pdpb::GetRegionByIdRequest { region_id, need_buckets: true, ..Default::default() }
}

impl Cx<'_> {
    /// Asks PD's leader; answered by [`Wake::Pd`](crate::shared::Wake::Pd). `message` has no
    /// header.
    pub(crate) fn ask_pd(&mut self, tag: Tag, rpc: Rpc, message: &impl Message) {
        let purpose = PdPurpose::Owner(self.owner, tag);
        let body = message.encode_to_vec().into();
        self.shared.pd_start(purpose, rpc, body, From::Leader);
    }

    /// Asks PD for a region by its id; answered like [`Cx::ask_pd`].
    pub(crate) fn ask_region_by_id(&mut self, tag: Tag, region: u64) {
        self.shared.stats.region_loads += 1;
        self.ask_pd(tag, Rpc::PdGetRegionById, &region_by_id(region));
    }

    /// Asks PD for the regions at the beginning of these ranges, as many as are told at once; answered
    /// like [`Cx::ask_pd`]. False if this PD tells one region at a time only.
    ///
    /// `ranges` gives them in any order; those at its front that are in order and apart are asked for, as
    /// PD wants them.
    pub(crate) fn ask_regions_of(
        &mut self,
        tag: Tag,
        ranges: impl Iterator<Item = KeyRange>,
    ) -> bool {
        let mut asked: Vec<KeyRange> = Vec::new();
        for range in ranges.take(RANGES_AT_ONCE) {
            let behind = |last: &KeyRange| !last.end.is_empty() && last.end <= range.start;
            if !asked.last().is_none_or(behind) {
                break;
            }
            asked.push(range);
        }
        let Some((rpc, body)) = self.shared.scan_of(&asked, REGIONS_AT_ONCE, true) else {
            return false;
        };
        self.shared.stats.region_loads += 1;
        let purpose = PdPurpose::Owner(self.owner, tag);
        self.shared.pd_start(purpose, rpc, body.into(), From::AnyMember);
        true
    }
}
