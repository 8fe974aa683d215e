//! The placement driver: members, timestamps, routes, stores, safe points.
//!
//! | rule | answer |
//! |---|---|
//! | `GetMembers`, `GetClusterInfo` and the health check | from any member, whatever the header |
//! | another cluster's id in the header | `FAILED_PRECONDITION`, "mismatch cluster id, need X but got Y" |
//! | a call to a follower | `UNAVAILABLE`, "not leader" |
//! | the same with `pd-forwarded-host` | as from the leader |
//! | region and store lookups with `pd-allow-follower-handle` | from the follower |
//! | what a handler refuses | `header.error`, status OK |
//!
//! (wire.md §7.2.) Routes are those of the cluster as it is, unless they are frozen
//! ([`Cluster::freeze_routes`]): then PD goes on telling what it knew.

mod etcd;
mod gc;
mod keyspaces;
mod members;
mod routes;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anatase_proto::{
    health, keyspacepb, meta_storagepb, metapb,
    pdpb::{self, ErrorType},
    prost::Message,
    rpc::Rpc,
};
use bytes::Bytes;

use self::gc::SafePoints;
pub use self::keyspaces::{Keyspace, KeyspaceState};
pub use self::members::Member;
use crate::{
    Cluster,
    answer::{Answer, Code, Failure, Loss, Status},
    faults::{Call, Fault},
    region::{RegionId, Regions},
};

/// What a call to PD carries beside its message: gRPC metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PdMetadata {
    /// `pd-forwarded-host` is set: a follower passes the call on to the leader.
    pub forwarded: bool,
    /// `pd-allow-follower-handle` is set: a follower may answer lookups itself.
    pub allow_follower: bool,
}

/// The state of PD.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Pd {
    members: Vec<Member>,
    leader: Option<usize>,
    safe_points: SafePoints,
    /// Routes that PD still believes in.
    frozen: Option<Regions>,
    /// The buckets of regions, as they were last reported: a split or merge does not change them.
    buckets: BTreeMap<RegionId, metapb::Buckets>,
    external_timestamp: u64,
    keyspaces: Vec<Keyspace>,
}

impl Pd {
    pub(crate) fn new(members: usize, more: Vec<Keyspace>) -> Self {
        let mut keyspaces = vec![Keyspace::default_one()];
        keyspaces.extend(more);
        Pd {
            members: (0..members).map(Member::new).collect(),
            leader: Some(0),
            safe_points: SafePoints::default(),
            frozen: None,
            buckets: BTreeMap::new(),
            external_timestamp: 0,
            keyspaces,
        }
    }
}

/// What a handler refuses: it goes to the header.
#[derive(Clone, Debug, PartialEq)]
struct Refused(ErrorType, String);

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Any member, without a look at the header.
    Any,
    /// The leader.
    Leader,
    /// A follower too, if the caller allows it.
    Follower,
}

trait PdRequest: Message + Default {
    /// The cluster that the header names.
    fn cluster_id(&self) -> u64;
}

trait PdResponse: Message + Default {
    fn set_header(&mut self, header: pdpb::ResponseHeader);
}

macro_rules! messages {
    (requests $($request:path),*; responses $($response:path),*;) => {
        $(impl PdRequest for $request {
            fn cluster_id(&self) -> u64 {
                self.header.as_ref().map_or(0, |header| header.cluster_id)
            }
        })*
        $(impl PdResponse for $response {
            fn set_header(&mut self, header: pdpb::ResponseHeader) {
                self.header = Some(header);
            }
        })*
    };
}

messages! {
    requests
        pdpb::GetMembersRequest, pdpb::GetClusterInfoRequest, pdpb::TsoRequest,
        pdpb::GetMinTsRequest, pdpb::GetRegionRequest, pdpb::GetRegionByIdRequest,
        pdpb::QueryRegionRequest, pdpb::ScanRegionsRequest, pdpb::BatchScanRegionsRequest,
        pdpb::GetStoreRequest, pdpb::GetAllStoresRequest, pdpb::ScatterRegionRequest,
        pdpb::SplitRegionsRequest, pdpb::SplitAndScatterRegionsRequest, pdpb::GetOperatorRequest,
        pdpb::GetGcStateRequest, pdpb::UpdateGcSafePointRequest,
        pdpb::UpdateServiceGcSafePointRequest, pdpb::AdvanceTxnSafePointRequest,
        pdpb::AdvanceGcSafePointRequest, pdpb::GetExternalTimestampRequest,
        pdpb::SetExternalTimestampRequest, keyspacepb::LoadKeyspaceRequest,
        keyspacepb::LoadKeyspaceByIdRequest, keyspacepb::GetAllKeyspacesRequest;
    responses
        pdpb::GetMembersResponse, pdpb::GetClusterInfoResponse, pdpb::TsoResponse,
        pdpb::GetMinTsResponse, pdpb::GetRegionResponse, routes::QueryRegionResponse,
        pdpb::ScanRegionsResponse, pdpb::BatchScanRegionsResponse, pdpb::GetStoreResponse,
        pdpb::GetAllStoresResponse, pdpb::ScatterRegionResponse, pdpb::SplitRegionsResponse,
        pdpb::SplitAndScatterRegionsResponse, pdpb::GetOperatorResponse, pdpb::GetGcStateResponse,
        pdpb::UpdateGcSafePointResponse, pdpb::UpdateServiceGcSafePointResponse,
        pdpb::AdvanceTxnSafePointResponse, pdpb::AdvanceGcSafePointResponse,
        pdpb::GetExternalTimestampResponse, pdpb::SetExternalTimestampResponse,
        keyspacepb::LoadKeyspaceResponse, keyspacepb::GetAllKeyspacesResponse;
}

macro_rules! calls {
    ($($rpc:ident $by:ident $serve:path;)*) => {
        fn dispatch(
            cluster: &mut Cluster,
            rpc: Rpc,
            asked: Asked<'_>,
            body: Bytes,
        ) -> Result<Bytes, Failure> {
            match rpc {
                $(Rpc::$rpc => cluster.call_pd(asked, By::$by, body, $serve),)*
                Rpc::HealthCheck => {
                    let status = health::health_check_response::ServingStatus::Serving as i32;
                    Ok(health::HealthCheckResponse { status }.encode_to_vec().into())
                }
                // There is nothing in the metadata store, and nobody discovers services by it.
                Rpc::MetaStorageGet => Ok(meta_storagepb::GetResponse {
                    header: Some(meta_storagepb::ResponseHeader {
                        cluster_id: cluster.config.cluster_id,
                        error: None,
                        revision: 1,
                    }),
                    ..Default::default()
                }
                .encode_to_vec()
                .into()),
                _ => Err(Status::unmodelled(rpc).into()),
            }
        }
    };
}

calls! {
    PdGetMembers Any members::get_members;
    PdGetClusterInfo Any members::get_cluster_info;
    PdTso Leader members::tso;
    PdGetMinTs Leader members::get_min_ts;
    PdGetExternalTimestamp Leader members::get_external_timestamp;
    PdSetExternalTimestamp Leader members::set_external_timestamp;
    PdGetRegion Follower routes::get_region;
    PdGetPrevRegion Follower routes::get_prev_region;
    PdGetRegionById Follower routes::get_region_by_id;
    PdQueryRegion Follower routes::query_region;
    PdScanRegions Follower routes::scan_regions;
    PdBatchScanRegions Follower routes::batch_scan_regions;
    PdGetStore Follower routes::get_store;
    PdGetAllStores Follower routes::get_all_stores;
    PdScatterRegion Leader schedule::scatter_region;
    PdSplitRegions Leader schedule::split_regions;
    PdSplitAndScatterRegions Leader schedule::split_and_scatter_regions;
    PdGetOperator Leader schedule::get_operator;
    PdGetGcState Leader gc::get_gc_state;
    PdUpdateGcSafePoint Leader gc::update_gc_safe_point;
    PdUpdateServiceGcSafePoint Leader gc::update_service_gc_safe_point;
    PdAdvanceTxnSafePoint Leader gc::advance_txn_safe_point;
    PdAdvanceGcSafePoint Leader gc::advance_gc_safe_point;
    LoadKeyspace Leader keyspaces::load_keyspace;
    LoadKeyspaceById Leader keyspaces::load_keyspace_by_id;
    GetAllKeyspaces Leader keyspaces::get_all_keyspaces;
}

/// Which member was asked, and how.
#[derive(Clone, Copy)]
struct Asked<'a> {
    member: usize,
    metadata: &'a PdMetadata,
    /// An error that a fault wants in the header.
    refuse: Option<&'a Refused>,
}

impl Cluster {
    /// Serves a call to a PD member, as bytes. Of a stream (`Tso`, `QueryRegion`) each message is
    /// a call.
    ///
    /// Whatever the bytes are, this answers and does not panic. A call that is not modelled is
    /// answered with `UNIMPLEMENTED`.
    pub fn handle_pd(
        &mut self,
        member: usize,
        rpc: Rpc,
        metadata: &PdMetadata,
        request: Bytes,
    ) -> Answer<Bytes> {
        if !self.pd.members.get(member).is_some_and(|member| member.up) {
            return Answer::now(Err(Failure::Lost(Loss::Refused)));
        }
        let call = Call { rpc, store: None, member: Some(member), region: None };
        let mut answer = Answer::now(Err(Failure::Lost(Loss::Silent)));
        let mut refuse = None;
        let mut lost = None;
        match self.faults.strike(&call) {
            None | Some(Fault::Region(_) | Fault::FallBack(_) | Fault::DoNotWait) => {}
            Some(Fault::Before(event)) => self.happen(event),
            Some(Fault::Delay(delay)) => answer.delay = delay,
            Some(Fault::Status(status)) => return Answer::now(Err(status.into())),
            Some(Fault::DropRequest(loss)) => return Answer::now(Err(Failure::Lost(loss))),
            Some(Fault::DropResponse(loss)) => lost = Some(loss),
            Some(Fault::Pd(fault)) => refuse = Some(Refused(fault.kind, fault.message)),
        }
        let asked = Asked { member, metadata, refuse: refuse.as_ref() };
        answer.result = dispatch(self, rpc, asked, request);
        if let Some(loss) = lost {
            answer.result = Err(Failure::Lost(loss));
        }
        answer
    }

    fn call_pd<Q: PdRequest, R: PdResponse>(
        &mut self,
        asked: Asked<'_>,
        by: By,
        body: Bytes,
        serve: impl FnOnce(&mut Cluster, Q) -> Result<R, Refused>,
    ) -> Result<Bytes, Failure> {
        let request =
            Q::decode(body).map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        if by != By::Any {
            let mine = self.config.cluster_id;
            let theirs = request.cluster_id();
            if theirs != mine {
                let text = format!("mismatch cluster id, need {mine} but got {theirs}");
                return Err(Status::new(Code::FailedPrecondition, text).into());
            }
            let leads = self.pd.leader == Some(asked.member);
            let passed_on = asked.metadata.forwarded && self.pd.leader.is_some();
            let may = by == By::Follower && asked.metadata.allow_follower;
            if !leads && !passed_on && !may {
                return Err(Status::new(Code::Unavailable, "not leader").into());
            }
        }
        let (mut response, refused) = match asked.refuse {
            Some(refused) => (R::default(), Some(refused.clone())),
            None => match serve(self, request) {
                Ok(response) => (response, None),
                Err(refused) => (R::default(), Some(refused)),
            },
        };
        response.set_header(pdpb::ResponseHeader {
            cluster_id: self.config.cluster_id,
            error: refused.map(|Refused(kind, message)| {
                Box::new(pdpb::Error { r#type: kind as i32, message })
            }),
        });
        Ok(response.encode_to_vec().into())
    }

    /// PD's routes: as they are, or as they were when they were frozen.
    fn routes(&self) -> &Regions {
        self.pd.frozen.as_ref().unwrap_or(&self.regions)
    }

    /// PD has been told of a region's buckets: their version, and their borders as physical keys, of *n*
    /// buckets *n* + 1. It tells those who ask for them, and takes them as they are: they may be older
    /// than the region. Stores know nothing of them; see
    /// [`RegionFault::BucketVersionNotMatch`](crate::RegionFault::BucketVersionNotMatch).
    pub fn set_buckets(&mut self, region: RegionId, version: u64, keys: Vec<Bytes>) {
        let buckets = metapb::Buckets { region_id: region, version, keys, ..Default::default() };
        self.pd.buckets.insert(region, buckets);
    }

    /// From now on PD tells the routes of this moment, whatever becomes of the regions: as if no
    /// heartbeats reached it.
    pub fn freeze_routes(&mut self) {
        self.pd.frozen = Some(self.regions.clone());
    }

    /// PD learns all at once how the regions are, and follows them again.
    pub fn thaw_routes(&mut self) {
        self.pd.frozen = None;
    }
}
