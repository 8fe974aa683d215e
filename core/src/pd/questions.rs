//! What PD is asked, besides for timestamps.

use anatase_proto::keyspacepb::LoadKeyspaceRequest;
use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;
use prost::Message;

use super::PdPurpose;
use crate::id::{Handle, StoreId};
use crate::operation::Key;
use crate::region::loader::RegionQuery;
use crate::shared::{Cx, Shared, Tag};
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
const REGIONS_AT_ONCE: i32 = 128;

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
            RegionQuery::Between(first, end) => match self.pd.scan {
                ScanSupport::Batch => (Rpc::PdBatchScanRegions, self.batch_scan(first, end)),
                ScanSupport::Single => (Rpc::PdScanRegions, self.scan_regions(first, end)),
                ScanSupport::None => (Rpc::PdGetRegion, self.get_region(first)),
            },
        };
        self.pd_start(PdPurpose::Region(load), rpc, body.into(), from == From::AnyMember);
    }

    fn get_region(&self, key: &Key) -> Vec<u8> {
        let region_key = self.codec.to_pd(key);
        pdpb::GetRegionRequest { region_key, need_buckets: true, ..Default::default() }
            .encode_to_vec()
    }

    fn batch_scan(&self, first: &Key, end: &Key) -> Vec<u8> {
        let range =
            pdpb::KeyRange { start_key: self.codec.to_pd(first), end_key: self.codec.to_pd(end) };
        let message = pdpb::BatchScanRegionsRequest {
            ranges: vec![range],
            limit: REGIONS_AT_ONCE,
            contain_all_key_range: true,
            need_buckets: true,
            ..Default::default()
        };
        message.encode_to_vec()
    }

    fn scan_regions(&self, first: &Key, end: &Key) -> Vec<u8> {
        let message = pdpb::ScanRegionsRequest {
            start_key: self.codec.to_pd(first),
            end_key: self.codec.to_pd(end),
            limit: REGIONS_AT_ONCE,
            ..Default::default()
        };
        message.encode_to_vec()
    }

    /// An older PD does not know the call: from now on the next best is used (§4.6).
    pub(super) fn pd_without(&mut self, handle: Handle, rpc: Rpc) {
        self.pd.scan = match rpc {
            Rpc::PdBatchScanRegions => ScanSupport::Single,
            _ => ScanSupport::None,
        };
        if let Some(task) = self.pd.tasks.remove(handle)
            && let PdPurpose::Region(load) = task.into_purpose()
        {
            self.ask_again(load);
        }
    }

    /// Asks PD where a store is.
    pub(crate) fn pd_ask_store(&mut self, store: StoreId) {
        let message = pdpb::GetStoreRequest { store_id: store.0, ..Default::default() };
        let body = message.encode_to_vec().into();
        self.pd_start(PdPurpose::Store(store), Rpc::PdGetStore, body, false);
    }
}

impl Shared {
    /// Asks PD for a keyspace.
    pub(crate) fn pd_ask_keyspace(&mut self, name: &str) {
        let message = LoadKeyspaceRequest { name: name.to_owned(), ..Default::default() };
        let body = message.encode_to_vec().into();
        self.pd_start(PdPurpose::Keyspace, Rpc::LoadKeyspace, body, false);
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
        self.pd_start(PdPurpose::SafePoint, Rpc::PdGetGcState, body, false);
    }
}

impl Cx<'_> {
    /// Asks PD's leader; answered by [`Wake::Pd`](crate::shared::Wake::Pd). `message` has no
    /// header.
    pub(crate) fn ask_pd(&mut self, tag: Tag, rpc: Rpc, message: &impl Message) {
        let purpose = PdPurpose::Owner(self.owner, tag);
        let body = message.encode_to_vec().into();
        self.shared.pd_start(purpose, rpc, body, false);
    }
}
