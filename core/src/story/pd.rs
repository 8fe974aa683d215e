//! PD, as a story plays it.
//!
//! | answer to a question for PD | meaning |
//! |---|---|
//! | `ok` | the truth, or what a lagging PD takes for it |
//! | `unknown` | no such region |
//! | `names N`, `names none` | `GetMembers`: member N leads; nobody does |
//! | `names N of cluster C` | the same, from another cluster |
//! | `old` | the regions as they were when `pd_lags` was said |
//! | `safe_point @TS` | `GetGCState` |
//! | `min @TS`, `external @TS` | `GetMinTS`, `GetExternalTimestamp` |
//! | `serving`, `not_serving` | a health check |
//! | `no TEXT` | an error in the header |
//! | `gap`, `empty` | to a scan of regions: it does not cover the ranges; there is none |
//! | `peerless` | the truth, without the region's replicas |
//! | `@TS` | timestamps, of which this is the last |

use anatase_proto::keyspacepb::{self, KeyspaceMeta, LoadKeyspaceRequest, LoadKeyspaceResponse};
use anatase_proto::rpc::Rpc;
use anatase_proto::{metapb, pdpb};

use super::answers::version;
use super::{RegionSpec, Story, keyspace_of};
use crate::{Call, Failure, Timestamp, wire};

fn member(n: u64) -> pdpb::Member {
    pdpb::Member { client_urls: vec![format!("http://pd:{n}")], ..Default::default() }
}

fn header(cluster_id: u64) -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader { cluster_id, ..Default::default() })
}

impl Story {
    pub(crate) fn hand_out(&mut self, count: u32) -> wire::Response {
        self.logical += u64::from(count);
        let last = Timestamp::compose(self.physical_ms, self.logical).expect("a timestamp");
        wire::Response::Timestamps(wire::TimestampBatch { last, count })
    }

    fn region_answer(&self, region: Option<&RegionSpec>) -> pdpb::GetRegionResponse {
        pdpb::GetRegionResponse {
            header: Some(pdpb::ResponseHeader { cluster_id: 9, ..Default::default() }),
            region: region.map(|region| region.to_proto(self.codec)),
            leader: region
                .filter(|region| region.leader != 0)
                .map(|region| region.peer(region.leader)),
            buckets: region.and_then(|region| self.buckets_of(region)).map(Box::new),
            ..Default::default()
        }
    }

    /// The regions of these ranges, as many as are wanted.
    fn scanned(
        &self,
        regions: &[RegionSpec],
        ranges: &[pdpb::KeyRange],
        limit: i32,
    ) -> Vec<pdpb::Region> {
        let wanted = |region: &&RegionSpec| {
            let region = region.to_proto(self.codec);
            ranges.iter().any(|range| {
                (region.end_key.is_empty() || region.end_key > range.start_key)
                    && (range.end_key.is_empty() || region.start_key < range.end_key)
            })
        };
        let told = |region: &RegionSpec| pdpb::Region {
            region: Some(region.to_proto(self.codec)),
            leader: (region.leader != 0).then(|| region.peer(region.leader)),
            buckets: self.buckets_of(region).map(Box::new),
            ..Default::default()
        };
        let limit = self.pd_limit.unwrap_or(limit as usize);
        regions.iter().filter(wanted).take(limit).map(told).collect()
    }

    fn buckets_of(&self, region: &RegionSpec) -> Option<metapb::Buckets> {
        let (version, keys) = self.buckets.get(&region.id)?;
        let keys = keys.iter().map(|key| match key.as_str() {
            "-" => Default::default(),
            key => self.codec.to_pd(&super::answers::bytes(key)),
        });
        let keys = keys.collect();
        Some(metapb::Buckets {
            region_id: region.id,
            version: *version,
            keys,
            ..Default::default()
        })
    }

    /// The answer of PD in these words.
    pub(super) fn pd_says(&self, call: &Call, word: &str, rest: &str) -> wire::Response {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let refusal = |kind: pdpb::ErrorType| {
            let error = pdpb::Error { r#type: kind.into(), message: rest.to_owned() };
            Some(pdpb::ResponseHeader { cluster_id: 9, error: Some(error.into()) })
        };
        match (word, call.request.rpc) {
            ("ok", _) => self.play_pd(call).expect("an answer"),
            ("old", _) => self.play_pd_of(call, self.lagging.as_ref().expect("pd_lags")),
            ("names", Rpc::PdGetMembers) => {
                let cluster = words.last().and_then(|word| word.parse().ok());
                let cluster = cluster.filter(|_| words.len() == 4).unwrap_or(9);
                let leader = words[0].parse().ok().map(|n| member(n).into());
                let members = (1..=self.members).map(member).collect();
                let message = pdpb::GetMembersResponse {
                    header: header(cluster),
                    members,
                    leader,
                    ..Default::default()
                };
                wire::Response::GetMembers(message.into())
            }
            (word, Rpc::HealthCheck) => super::answers::serving(word),
            ("unknown" | "no", Rpc::PdGetRegionById) => {
                let kind = match word {
                    "no" => pdpb::ErrorType::Unknown,
                    _ => pdpb::ErrorType::RegionNotFound,
                };
                let header = refusal(kind);
                let message = pdpb::GetRegionResponse { header, ..Default::default() };
                wire::Response::GetRegionById(message.into())
            }
            ("gap" | "empty" | "no", Rpc::PdBatchScanRegions) => {
                let header = match word {
                    "gap" => refusal(pdpb::ErrorType::RegionsNotContainAllKeyRange),
                    "no" => refusal(pdpb::ErrorType::Unknown),
                    _ => header(9),
                };
                let message = pdpb::BatchScanRegionsResponse { header, ..Default::default() };
                wire::Response::BatchScanRegions(message.into())
            }
            ("empty", Rpc::PdScanRegions) => wire::Response::ScanRegions(
                pdpb::ScanRegionsResponse { header: header(9), ..Default::default() }.into(),
            ),
            ("peerless", rpc) => {
                // A region without replicas.
                let wire::Response::GetRegion(mut message) = self.play_pd(call).expect("an answer")
                else {
                    panic!("{rpc:?} is not answered by one region")
                };
                message.region.iter_mut().for_each(|region| region.peers.clear());
                wire::Response::GetRegion(message)
            }
            ("unknown", Rpc::PdGetRegion) => wire::Response::GetRegion(
                pdpb::GetRegionResponse {
                    header: refusal(pdpb::ErrorType::RegionNotFound),
                    ..Default::default()
                }
                .into(),
            ),
            ("no", Rpc::PdGetRegion) => wire::Response::GetRegion(
                pdpb::GetRegionResponse {
                    header: refusal(pdpb::ErrorType::Unknown),
                    ..Default::default()
                }
                .into(),
            ),
            ("no", Rpc::PdSetExternalTimestamp) => wire::Response::SetExternalTimestamp(
                pdpb::SetExternalTimestampResponse {
                    header: refusal(pdpb::ErrorType::InvalidValue),
                }
                .into(),
            ),
            ("min", Rpc::PdGetMinTs) => {
                let at = Timestamp::from_version(version(rest)).expect("a timestamp");
                let timestamp = pdpb::Timestamp {
                    physical: at.physical_ms() as i64,
                    logical: at.logical() as i64,
                    ..Default::default()
                };
                wire::Response::GetMinTs(
                    pdpb::GetMinTsResponse { header: header(9), timestamp: Some(timestamp) }.into(),
                )
            }
            ("safe_point", Rpc::PdGetGcState) => {
                let state = pdpb::GcState { txn_safe_point: version(rest), ..Default::default() };
                let gc_state = Some(Box::new(state));
                let header = header(9);
                let answer = pdpb::GetGcStateResponse { header, gc_state, ..Default::default() };
                wire::Response::GetGcState(answer.into())
            }
            ("no", Rpc::PdGetGcState) => wire::Response::GetGcState(
                pdpb::GetGcStateResponse {
                    header: refusal(pdpb::ErrorType::Unknown),
                    ..Default::default()
                }
                .into(),
            ),
            ("external", Rpc::PdGetExternalTimestamp) => wire::Response::GetExternalTimestamp(
                pdpb::GetExternalTimestampResponse { header: header(9), timestamp: version(rest) }
                    .into(),
            ),
            ("external", Rpc::PdSetExternalTimestamp) => wire::Response::SetExternalTimestamp(
                pdpb::SetExternalTimestampResponse { header: header(9) }.into(),
            ),
            (word, rpc) => panic!("PD does not say {word:?} to {rpc:?}"),
        }
    }

    /// Timestamps of which the last is this.
    pub(super) fn hand_out_up_to(&self, last: &str, count: u32) -> wire::Response {
        let last = Timestamp::from_version(version(last)).expect("a timestamp");
        wire::Response::Timestamps(wire::TimestampBatch { last, count })
    }

    pub(super) fn play_pd(&self, call: &Call) -> Result<wire::Response, Failure> {
        Ok(self.play_pd_of(call, self.lagging.as_ref().unwrap_or(&self.regions)))
    }

    fn play_pd_of(&self, call: &Call, regions: &[RegionSpec]) -> wire::Response {
        let header = header(9);
        let contains = |key: &[u8], region: &&RegionSpec| {
            let region = region.to_proto(self.codec);
            region.start_key <= key && (region.end_key.is_empty() || key < region.end_key)
        };
        let lie = || regions.last().filter(|_| self.pd_lies);
        let find = |key: &[u8]| regions.iter().find(|region| contains(key, region)).or_else(lie);
        match call.request.rpc {
            Rpc::HealthCheck => super::answers::serving("serving"),
            Rpc::PdGetMembers => wire::Response::GetMembers(
                pdpb::GetMembersResponse {
                    header,
                    members: (1..=self.members).map(member).collect(),
                    leader: Some(member(self.pd_leader).into()),
                    ..Default::default()
                }
                .into(),
            ),
            Rpc::PdGetRegion => {
                let request: pdpb::GetRegionRequest = call.request.message().expect("a request");
                wire::Response::GetRegion(self.region_answer(find(&request.region_key)).into())
            }
            Rpc::PdGetRegionById => {
                let request: pdpb::GetRegionByIdRequest =
                    call.request.message().expect("a request");
                let found = regions.iter().find(|region| region.id == request.region_id);
                wire::Response::GetRegionById(self.region_answer(found).into())
            }
            Rpc::PdBatchScanRegions => {
                let request: pdpb::BatchScanRegionsRequest =
                    call.request.message().expect("a request");
                for pair in request.ranges.windows(2) {
                    assert!(!pair[0].end_key.is_empty() && pair[0].end_key <= pair[1].start_key);
                }
                let regions = self.scanned(regions, &request.ranges, request.limit);
                let answer = pdpb::BatchScanRegionsResponse { header, regions };
                wire::Response::BatchScanRegions(answer.into())
            }
            Rpc::PdScanRegions => {
                let request: pdpb::ScanRegionsRequest = call.request.message().expect("a request");
                let range =
                    pdpb::KeyRange { start_key: request.start_key, end_key: request.end_key };
                let regions = self.scanned(regions, &[range], request.limit);
                let answer = pdpb::ScanRegionsResponse { header, regions, ..Default::default() };
                wire::Response::ScanRegions(answer.into())
            }
            Rpc::PdGetPrevRegion => {
                let request: pdpb::GetRegionRequest = call.request.message().expect("a request");
                let here = find(&request.region_key);
                let previous = here.and_then(|here| {
                    regions.iter().find(|region| region.end == here.start && !region.end.is_empty())
                });
                wire::Response::GetPrevRegion(self.region_answer(previous).into())
            }
            Rpc::PdGetStore => {
                let request: pdpb::GetStoreRequest = call.request.message().expect("a request");
                let address = self.address(request.store_id);
                let store = metapb::Store {
                    id: request.store_id,
                    // Nothing but a tombstone is left of a store without address.
                    state: if address.is_empty() { 2 } else { 0 },
                    address,
                    ..Default::default()
                };
                let store = Some(store);
                wire::Response::GetStore(pdpb::GetStoreResponse { header, store }.into())
            }
            Rpc::LoadKeyspace => {
                let request: LoadKeyspaceRequest = call.request.message().expect("a request");
                let keyspace = keyspace_of(&request.name).map(|(id, state)| KeyspaceMeta {
                    name: request.name,
                    state: state.into(),
                    keyspace: Some(keyspacepb::keyspace_meta::Keyspace::Id(id)),
                    ..Default::default()
                });
                wire::Response::LoadKeyspace(LoadKeyspaceResponse { header, keyspace }.into())
            }
            Rpc::PdGetGcState => {
                let state = pdpb::GcState { txn_safe_point: self.safe_point, ..Default::default() };
                let gc_state = Some(Box::new(state));
                let answer = pdpb::GetGcStateResponse { header, gc_state, ..Default::default() };
                wire::Response::GetGcState(answer.into())
            }
            other => panic!("PD is not asked {other:?}"),
        }
    }
}
