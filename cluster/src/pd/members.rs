//! Members, their leader, and what only the leader gives: timestamps.

use anatase_proto::pdpb::{
    self, ErrorType, GetClusterInfoRequest, GetClusterInfoResponse, GetExternalTimestampRequest,
    GetExternalTimestampResponse, GetMembersRequest, GetMembersResponse, GetMinTsRequest,
    GetMinTsResponse, ServiceMode, SetExternalTimestampRequest, SetExternalTimestampResponse,
    TsoRequest, TsoResponse,
};

use super::Refused;
use crate::{Cluster, timestamp};

/// A PD member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: u64,
    /// The URL that clients are told.
    pub url: String,
    /// Whether it answers.
    pub up: bool,
}

impl Member {
    pub(super) fn new(index: usize) -> Self {
        Member {
            name: format!("pd-{index}"),
            id: 1000 + index as u64,
            url: format!("http://pd-{index}.anatase:2379"),
            up: true,
        }
    }

    fn to_proto(&self) -> pdpb::Member {
        pdpb::Member {
            name: self.name.clone(),
            member_id: self.id,
            peer_urls: vec![self.url.clone()],
            client_urls: vec![self.url.clone()],
            binary_version: format!("v{}", crate::store::VERSION),
            ..Default::default()
        }
    }
}

/// All members, those that are stopped too: clients find out by themselves.
pub(super) fn get_members(
    cluster: &mut Cluster,
    _: GetMembersRequest,
) -> Result<GetMembersResponse, Refused> {
    let leader = cluster.pd.leader.and_then(|leader| cluster.pd.members.get(leader));
    let leader = leader.map(|leader| Box::new(leader.to_proto()));
    Ok(GetMembersResponse {
        members: cluster.pd.members.iter().map(Member::to_proto).collect(),
        etcd_leader: leader.clone(),
        leader,
        ..Default::default()
    })
}

/// One PD that does everything: no service runs apart from it.
pub(super) fn get_cluster_info(
    _: &mut Cluster,
    _: GetClusterInfoRequest,
) -> Result<GetClusterInfoResponse, Refused> {
    Ok(GetClusterInfoResponse {
        service_modes: vec![ServiceMode::PdSvcMode as i32],
        ..Default::default()
    })
}

pub(super) fn tso(cluster: &mut Cluster, request: TsoRequest) -> Result<TsoResponse, Refused> {
    if request.count == 0 || request.count > timestamp::MAX_BATCH {
        let text = format!("tso count should be positive and not {}", request.count);
        return Err(Refused(ErrorType::Unknown, text));
    }
    let last = cluster.timestamps(request.count);
    Ok(TsoResponse {
        count: request.count,
        timestamp: Some(timestamp::to_proto(last)),
        ..Default::default()
    })
}

pub(super) fn get_min_ts(
    cluster: &mut Cluster,
    _: GetMinTsRequest,
) -> Result<GetMinTsResponse, Refused> {
    let timestamp = Some(timestamp::to_proto(cluster.timestamp()));
    Ok(GetMinTsResponse { timestamp, ..Default::default() })
}

pub(super) fn get_external_timestamp(
    cluster: &mut Cluster,
    _: GetExternalTimestampRequest,
) -> Result<GetExternalTimestampResponse, Refused> {
    let timestamp = cluster.pd.external_timestamp;
    Ok(GetExternalTimestampResponse { timestamp, ..Default::default() })
}

/// It may neither go back nor be ahead of the oracle.
pub(super) fn set_external_timestamp(
    cluster: &mut Cluster,
    request: SetExternalTimestampRequest,
) -> Result<SetExternalTimestampResponse, Refused> {
    let (old, new) = (cluster.pd.external_timestamp, request.timestamp);
    if new < old || new > cluster.timestamp() {
        let text = format!("the external timestamp may not go from {old} to {new}");
        return Err(Refused(ErrorType::InvalidValue, text));
    }
    cluster.pd.external_timestamp = new;
    Ok(SetExternalTimestampResponse::default())
}

impl Cluster {
    /// PD's members.
    pub fn pd_members(&self) -> &[Member] {
        &self.pd.members
    }

    /// Which member leads.
    pub fn pd_leader(&self) -> Option<usize> {
        self.pd.leader
    }

    /// Makes a member the leader. Timestamps go on increasing: a new leader starts three seconds
    /// ahead of what the old one may have given out, as PD does, who only knows what it saved.
    pub fn transfer_pd_leader(&mut self, member: usize) {
        if !self.pd.members.get(member).is_some_and(|member| member.up) {
            return;
        }
        if self.pd.leader != Some(member) {
            self.pd.leader = Some(member);
            let saved = timestamp::physical(self.oracle.last()).saturating_add(3000);
            self.oracle.advance(saved);
        }
    }

    /// Leaves PD without a leader until [`Cluster::transfer_pd_leader`].
    pub fn remove_pd_leader(&mut self) {
        self.pd.leader = None;
    }

    /// Stops a member. If it led, there is no leader.
    pub fn stop_pd_member(&mut self, member: usize) {
        if let Some(stopped) = self.pd.members.get_mut(member) {
            stopped.up = false;
            if self.pd.leader == Some(member) {
                self.pd.leader = None;
            }
        }
    }

    /// Starts a member again, as a follower.
    pub fn start_pd_member(&mut self, member: usize) {
        if let Some(member) = self.pd.members.get_mut(member) {
            member.up = true;
        }
    }

    /// Sets the URL that clients are told of a member.
    pub fn set_pd_url(&mut self, member: usize, url: impl Into<String>) {
        if let Some(member) = self.pd.members.get_mut(member) {
            member.url = url.into();
        }
    }
}
