//! Safe points: up to where transactions may no longer begin, and up to where versions may be
//! gone. They only ever move forward, and services hold them back.
//!
//! There is one scope for all keyspaces. Barriers of the newer API are not modelled.

use std::collections::BTreeMap;

use anatase_proto::pdpb::{
    AdvanceGcSafePointRequest, AdvanceGcSafePointResponse, AdvanceTxnSafePointRequest,
    AdvanceTxnSafePointResponse, ErrorType, GcState, GetGcStateRequest, GetGcStateResponse,
    UpdateGcSafePointRequest, UpdateGcSafePointResponse, UpdateServiceGcSafePointRequest,
    UpdateServiceGcSafePointResponse,
};
use bytes::Bytes;

use super::Refused;
use crate::Cluster;

/// The safe points.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct SafePoints {
    txn: u64,
    gc: u64,
    /// What services hold, and until which second.
    services: BTreeMap<Bytes, (u64, u64)>,
}

impl SafePoints {
    pub(super) fn txn(&self) -> u64 {
        self.txn
    }

    /// The lowest point that a service holds.
    fn held(&self, now_s: u64) -> Option<u64> {
        self.services.values().filter(|(_, until_s)| *until_s > now_s).map(|(at, _)| *at).min()
    }
}

impl Cluster {
    /// Moves the safe point of transactions forward, as a garbage collection does at its beginning:
    /// clients then refuse to read below it. Removes nothing; that is [`Cluster::gc`].
    pub fn set_txn_safe_point(&mut self, at: u64) {
        let points = &mut self.pd.safe_points;
        points.txn = points.txn.max(at);
    }
}

pub(super) fn get_gc_state(
    cluster: &mut Cluster,
    request: GetGcStateRequest,
) -> Result<GetGcStateResponse, Refused> {
    let points = &cluster.pd.safe_points;
    let state = GcState {
        keyspace_scope: request.keyspace_scope,
        txn_safe_point: points.txn,
        gc_safe_point: points.gc,
        ..Default::default()
    };
    Ok(GetGcStateResponse { gc_state: Some(Box::new(state)), ..Default::default() })
}

/// Older API: tells the point that is in force, which is the request's only if that is higher.
pub(super) fn update_gc_safe_point(
    cluster: &mut Cluster,
    request: UpdateGcSafePointRequest,
) -> Result<UpdateGcSafePointResponse, Refused> {
    let points = &mut cluster.pd.safe_points;
    points.gc = points.gc.max(request.safe_point);
    points.txn = points.txn.max(points.gc);
    Ok(UpdateGcSafePointResponse { new_safe_point: points.gc, ..Default::default() })
}

/// Older API: a service holds the safe point for so many seconds; none or fewer lets it go. A point
/// below what is held already is not taken.
pub(super) fn update_service_gc_safe_point(
    cluster: &mut Cluster,
    request: UpdateServiceGcSafePointRequest,
) -> Result<UpdateServiceGcSafePointResponse, Refused> {
    let now_s = cluster.now_ms() / 1000;
    let points = &mut cluster.pd.safe_points;
    match u64::try_from(request.ttl) {
        Err(_) | Ok(0) => {
            points.services.remove(&request.service_id);
        }
        Ok(ttl) => {
            let floor = points.held(now_s).unwrap_or(points.gc);
            if request.safe_point >= floor {
                let until_s = now_s.saturating_add(ttl);
                points.services.insert(request.service_id.clone(), (request.safe_point, until_s));
            }
        }
    }
    Ok(UpdateServiceGcSafePointResponse {
        service_id: request.service_id,
        ttl: request.ttl,
        min_safe_point: points.held(now_s).unwrap_or(points.gc),
        ..Default::default()
    })
}

pub(super) fn advance_txn_safe_point(
    cluster: &mut Cluster,
    request: AdvanceTxnSafePointRequest,
) -> Result<AdvanceTxnSafePointResponse, Refused> {
    let now_s = cluster.now_ms() / 1000;
    let points = &mut cluster.pd.safe_points;
    let (old, target) = (points.txn, request.target);
    if target < old {
        let text = format!("the txn safe point may not go from {old} to {target}");
        return Err(Refused(ErrorType::Unknown, text));
    }
    let held = points.held(now_s).unwrap_or(u64::MAX);
    points.txn = target.min(held).max(old);
    Ok(AdvanceTxnSafePointResponse {
        old_txn_safe_point: old,
        new_txn_safe_point: points.txn,
        blocker_description: if points.txn < target {
            "a service".to_owned()
        } else {
            String::new()
        },
        ..Default::default()
    })
}

pub(super) fn advance_gc_safe_point(
    cluster: &mut Cluster,
    request: AdvanceGcSafePointRequest,
) -> Result<AdvanceGcSafePointResponse, Refused> {
    let points = &mut cluster.pd.safe_points;
    let (old, target) = (points.gc, request.target);
    if target < old || target > points.txn {
        let text = format!("the gc safe point may not go from {old} to {target}");
        return Err(Refused(ErrorType::Unknown, text));
    }
    points.gc = target;
    Ok(AdvanceGcSafePointResponse {
        old_gc_safe_point: old,
        new_gc_safe_point: target,
        ..Default::default()
    })
}
