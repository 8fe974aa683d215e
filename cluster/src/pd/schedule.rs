//! Splitting and scattering at a client's wish. It is done at once, so there is never an operator
//! under way; scattering has nothing to do, since the data is in one place.

use anatase_proto::pdpb::{
    GetOperatorRequest, GetOperatorResponse, OperatorStatus, ScatterRegionRequest,
    ScatterRegionResponse, SplitAndScatterRegionsRequest, SplitAndScatterRegionsResponse,
    SplitRegionsRequest, SplitRegionsResponse,
};
use bytes::Bytes;

use super::Refused;
use crate::{Cluster, region::RegionId};

pub(super) fn scatter_region(
    _: &mut Cluster,
    _: ScatterRegionRequest,
) -> Result<ScatterRegionResponse, Refused> {
    Ok(ScatterRegionResponse { finished_percentage: 100, ..Default::default() })
}

/// Splits at physical keys. A key that is a bound already counts as done.
pub(super) fn split_regions(
    cluster: &mut Cluster,
    request: SplitRegionsRequest,
) -> Result<SplitRegionsResponse, Refused> {
    let regions_id = split(cluster, request.split_keys);
    Ok(SplitRegionsResponse { finished_percentage: 100, regions_id, ..Default::default() })
}

pub(super) fn split_and_scatter_regions(
    cluster: &mut Cluster,
    request: SplitAndScatterRegionsRequest,
) -> Result<SplitAndScatterRegionsResponse, Refused> {
    Ok(SplitAndScatterRegionsResponse {
        split_finished_percentage: 100,
        scatter_finished_percentage: 100,
        regions_id: split(cluster, request.split_keys),
        ..Default::default()
    })
}

fn split(cluster: &mut Cluster, keys: Vec<Bytes>) -> Vec<RegionId> {
    keys.into_iter().filter_map(|key| cluster.split_at(key)).collect()
}

pub(super) fn get_operator(
    _: &mut Cluster,
    request: GetOperatorRequest,
) -> Result<GetOperatorResponse, Refused> {
    Ok(GetOperatorResponse {
        region_id: request.region_id,
        status: OperatorStatus::Success as i32,
        ..Default::default()
    })
}
