//! Which region holds a key, and where stores are. Keys are physical (wire.md §7.2).

use std::collections::BTreeMap;

use anatase_proto::{
    metapb,
    pdpb::{
        self, BatchScanRegionsRequest, BatchScanRegionsResponse, ErrorType, GetAllStoresRequest,
        GetAllStoresResponse, GetRegionByIdRequest, GetRegionRequest, GetRegionResponse,
        GetStoreRequest, GetStoreResponse, QueryRegionRequest, RegionResponse, ScanRegionsRequest,
        ScanRegionsResponse,
    },
    prost::Message,
};

use super::Refused;
use crate::{
    Cluster,
    region::{Region, Regions},
    store::StoreState,
};

/// The region and its leader, in whatever message carries them.
fn told(region: Option<&Region>) -> (Option<metapb::Region>, Option<metapb::Peer>) {
    let leader = region.and_then(Region::leader_peer);
    (region.map(Region::to_proto), leader.map(|leader| leader.to_proto()))
}

/// The buckets of a region, if somebody wants them.
fn buckets(cluster: &Cluster, region: &Region, wanted: bool) -> Option<Box<metapb::Buckets>> {
    cluster.pd.buckets.get(&region.id).filter(|_| wanted).cloned().map(Box::new)
}

fn region_response(cluster: &Cluster, found: Option<&Region>, wanted: bool) -> GetRegionResponse {
    let (region, leader) = told(found);
    let buckets = found.and_then(|region| buckets(cluster, region, wanted));
    GetRegionResponse { region, leader, buckets, ..Default::default() }
}

fn scanned(cluster: &Cluster, found: &Region, wanted: bool) -> pdpb::Region {
    let (region, leader) = told(Some(found));
    pdpb::Region { region, leader, buckets: buckets(cluster, found, wanted), ..Default::default() }
}

pub(super) fn get_region(
    cluster: &mut Cluster,
    request: GetRegionRequest,
) -> Result<GetRegionResponse, Refused> {
    let found = cluster.routes().locate(&request.region_key);
    Ok(region_response(cluster, found, request.need_buckets))
}

/// The region before the one that holds the key: nothing for a key in the first.
pub(super) fn get_prev_region(
    cluster: &mut Cluster,
    request: GetRegionRequest,
) -> Result<GetRegionResponse, Refused> {
    let found = previous(cluster.routes(), &request.region_key);
    Ok(region_response(cluster, found, request.need_buckets))
}

fn previous<'a>(routes: &'a Regions, key: &[u8]) -> Option<&'a Region> {
    routes.before(routes.locate(key)?)
}

pub(super) fn get_region_by_id(
    cluster: &mut Cluster,
    request: GetRegionByIdRequest,
) -> Result<GetRegionResponse, Refused> {
    let found = cluster.routes().get(request.region_id);
    Ok(region_response(cluster, found, request.need_buckets))
}

/// `pdpb.QueryRegionResponse`, field by field. The generated one has a hash map, whose order, and
/// so the order of bytes, would differ from run to run.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryRegionResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<pdpb::ResponseHeader>,
    #[prost(uint64, repeated, tag = "2")]
    key_id_map: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    prev_key_id_map: Vec<u64>,
    #[prost(btree_map = "uint64, message", tag = "4")]
    regions_by_id: BTreeMap<u64, RegionResponse>,
}

/// Many lookups at once; an id of 0 says that there is no such region.
pub(super) fn query_region(
    cluster: &mut Cluster,
    request: QueryRegionRequest,
) -> Result<QueryRegionResponse, Refused> {
    let routes = cluster.routes();
    let mut response = QueryRegionResponse::default();
    let mut tell = |region: Option<&Region>| {
        let Some(region) = region else { return 0 };
        response.regions_by_id.entry(region.id).or_insert_with(|| {
            let (meta, leader) = told(Some(region));
            RegionResponse { region: meta, leader, ..Default::default() }
        });
        region.id
    };
    for id in &request.ids {
        tell(routes.get(*id));
    }
    let by_key: Vec<u64> = request.keys.iter().map(|key| tell(routes.locate(key))).collect();
    let by_prev = request.prev_keys.iter().map(|key| tell(previous(routes, key))).collect();
    response.key_id_map = by_key;
    response.prev_key_id_map = by_prev;
    Ok(response)
}

/// A limit that is not positive is none.
fn limit(limit: i32) -> usize {
    usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX)
}

/// The regions of a range, in key order.
pub(super) fn scan_regions(
    cluster: &mut Cluster,
    request: ScanRegionsRequest,
) -> Result<ScanRegionsResponse, Refused> {
    let regions: Vec<pdpb::Region> = cluster
        .routes()
        .overlapping(&request.start_key, &request.end_key)
        .take(limit(request.limit))
        .map(|region| scanned(cluster, region, false))
        .collect();
    Ok(ScanRegionsResponse {
        region_metas: regions.iter().filter_map(|region| region.region.clone()).collect(),
        leaders: regions.iter().map(|region| region.leader.unwrap_or_default()).collect(),
        regions,
        ..Default::default()
    })
}

/// The regions of several ranges, which must be sorted and apart; a region that holds parts of
/// two is told once. There are never gaps, so whether a gap is an error is of no matter.
pub(super) fn batch_scan_regions(
    cluster: &mut Cluster,
    request: BatchScanRegionsRequest,
) -> Result<BatchScanRegionsResponse, Refused> {
    let apart =
        |a: &pdpb::KeyRange, b: &pdpb::KeyRange| !a.end_key.is_empty() && a.end_key <= b.start_key;
    if !request.ranges.windows(2).all(|pair| apart(&pair[0], &pair[1])) {
        let text = "the ranges are not sorted, or overlap".to_owned();
        return Err(Refused(ErrorType::Unknown, text));
    }
    let routes = cluster.routes();
    let mut regions: Vec<pdpb::Region> = Vec::new();
    let limit = limit(request.limit);
    let mut last: Option<u64> = None;
    for pdpb::KeyRange { start_key, end_key } in &request.ranges {
        for region in routes.overlapping(start_key, end_key) {
            if regions.len() >= limit {
                break;
            }
            if last.replace(region.id) != Some(region.id) {
                regions.push(scanned(cluster, region, request.need_buckets));
            }
        }
    }
    Ok(BatchScanRegionsResponse { regions, ..Default::default() })
}

pub(super) fn get_store(
    cluster: &mut Cluster,
    request: GetStoreRequest,
) -> Result<GetStoreResponse, Refused> {
    let id = request.store_id;
    match cluster.stores.get(&id) {
        Some(store) => Ok(GetStoreResponse {
            store: Some(store.to_proto(cluster.now_ms())),
            ..Default::default()
        }),
        None => Err(Refused(ErrorType::Unknown, format!("invalid store ID {id}, not found"))),
    }
}

pub(super) fn get_all_stores(
    cluster: &mut Cluster,
    request: GetAllStoresRequest,
) -> Result<GetAllStoresResponse, Refused> {
    let now_ms = cluster.now_ms();
    let stores = cluster
        .stores
        .values()
        .filter(|store| !request.exclude_tombstone_stores || store.state != StoreState::Tombstone)
        .map(|store| store.to_proto(now_ms));
    Ok(GetAllStoresResponse { stores: stores.collect(), ..Default::default() })
}
