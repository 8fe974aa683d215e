//! Calls to a store rather than to a region, and `SplitRegion`.

use anatase_proto::{
    health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus},
    kvrpcpb::{
        BroadcastTxnStatusRequest, BroadcastTxnStatusResponse, GetHealthFeedbackRequest,
        GetHealthFeedbackResponse, GetLockWaitInfoRequest, GetLockWaitInfoResponse, HealthFeedback,
        PhysicalScanLockRequest, PhysicalScanLockResponse, SplitRegionRequest, SplitRegionResponse,
        StoreSafeTsRequest, StoreSafeTsResponse, UnsafeDestroyRangeRequest,
        UnsafeDestroyRangeResponse,
    },
};
use bytes::Bytes;

use crate::{
    Cluster, access::Refusal, call::Cx, codec::encode_key, config::Api, region::Region,
    store::StoreId,
};

/// Splits a region. Keys are user keys: memcomparable-encoded unless `is_raw_kv`
/// (wire.md §3.5), and always under version 2. Keys outside the region or at its start are skipped; if none is left, it is
/// an error without a kind, as TiKV's.
pub(crate) fn split_region(
    cx: &mut Cx<'_>,
    request: SplitRegionRequest,
) -> Result<SplitRegionResponse, Refusal> {
    let mut keys = request.split_keys;
    if !request.split_key.is_empty() {
        keys = vec![request.split_key];
    }
    if !request.is_raw_kv || cx.cluster.config.api == Api::V2 {
        keys = keys.iter().map(|key| encode_key(key)).collect();
    }
    let parts = cx.cluster.split_region(cx.region.id, keys);
    let regions: Vec<_> =
        parts.iter().filter_map(|id| cx.cluster.region(*id)).map(Region::to_proto).collect();
    if regions.len() < 2 {
        return Err(anatase_proto::errorpb::Error {
            message: "failed to split: no valid key found for split.".to_owned(),
            ..Default::default()
        }
        .into());
    }
    let mut response = SplitRegionResponse::default();
    if let [left, right] = &regions[..] {
        response.left = Some(Box::new(left.clone()));
        response.right = Some(Box::new(right.clone()));
    }
    response.regions = regions;
    Ok(response)
}

/// Deletes a range of transactional keys on this store without regard to versions or regions.
/// There is one copy of the data, so what one store deletes is gone from all; a client sends this
/// to every store anyway.
pub(crate) fn unsafe_destroy_range(
    cluster: &mut Cluster,
    _at: StoreId,
    request: UnsafeDestroyRangeRequest,
) -> Result<UnsafeDestroyRangeResponse, Refusal> {
    let mut response = UnsafeDestroyRangeResponse::default();
    if request.start_key.is_empty() || request.end_key.is_empty() {
        // TiKV aborts its process here; that much fidelity helps nobody.
        response.error = "unsafe_destroy_range needs a start and an end".to_owned();
    } else {
        cluster.mvcc.delete_range(&encode_key(&request.start_key), &encode_key(&request.end_key));
    }
    Ok(response)
}

/// Locks up to a timestamp, in key order, of all regions that have a peer here.
pub(crate) fn physical_scan_lock(
    cluster: &mut Cluster,
    at: StoreId,
    request: PhysicalScanLockRequest,
) -> Result<PhysicalScanLockResponse, Refusal> {
    let start =
        if request.start_key.is_empty() { Bytes::new() } else { encode_key(&request.start_key) };
    let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    let here =
        |key: &[u8]| cluster.regions.locate(key).is_some_and(|region| region.peer_on(at).is_some());
    let locks = cluster
        .mvcc
        .locks_between(&start, b"")
        .filter(|(key, _, lock)| lock.start_ts <= request.max_ts && here(key))
        .take(limit)
        .map(|(_, user_key, lock)| lock.to_info(user_key))
        .collect();
    Ok(PhysicalScanLockResponse { locks, ..Default::default() })
}

/// Who waits for whom, of the requests that are parked here.
pub(crate) fn get_lock_wait_info(
    cluster: &mut Cluster,
    at: StoreId,
    _: GetLockWaitInfoRequest,
) -> Result<GetLockWaitInfoResponse, Refusal> {
    let entries = cluster.parked_at(|store| store == at);
    Ok(GetLockWaitInfoResponse { entries, ..Default::default() })
}

/// Taken note of, and of no use: without pipelined transactions there is nothing to tell readers
/// of.
pub(crate) fn broadcast_txn_status(
    _: &mut Cluster,
    _: StoreId,
    _: BroadcastTxnStatusRequest,
) -> Result<BroadcastTxnStatusResponse, Refusal> {
    Ok(BroadcastTxnStatusResponse {})
}

pub(crate) fn get_health_feedback(
    cluster: &mut Cluster,
    at: StoreId,
    _: GetHealthFeedbackRequest,
) -> Result<GetHealthFeedbackResponse, Refusal> {
    let health_feedback = cluster.health_feedback(at).map(Box::new);
    Ok(GetHealthFeedbackResponse { region_error: None, health_feedback })
}

/// The smallest safe timestamp of the regions with a peer on this store within the range
/// (control-plane: stale reads): below it no lock can be committed any more.
pub(crate) fn get_store_safe_ts(
    cluster: &mut Cluster,
    at: StoreId,
    request: StoreSafeTsRequest,
) -> Result<StoreSafeTsResponse, Refusal> {
    let range = request.key_range.unwrap_or_default();
    let end = if range.end_key.is_empty() { Bytes::new() } else { encode_key(&range.end_key) };
    let start =
        if range.start_key.is_empty() { Bytes::new() } else { encode_key(&range.start_key) };
    let regions: Vec<Region> = cluster
        .regions
        .overlapping(&start, &end)
        .filter(|region| region.peer_on(at).is_some())
        .cloned()
        .collect();
    let safe_ts = regions.iter().map(|region| cluster.safe_ts(region)).min().unwrap_or(0);
    Ok(StoreSafeTsResponse { safe_ts })
}

pub(crate) fn health_check(
    _: &mut Cluster,
    _: StoreId,
    _: HealthCheckRequest,
) -> Result<HealthCheckResponse, Refusal> {
    Ok(HealthCheckResponse { status: ServingStatus::Serving as i32 })
}

impl Cluster {
    /// The next health feedback of a store.
    pub(crate) fn health_feedback(&mut self, store: StoreId) -> Option<HealthFeedback> {
        let store = self.stores.get_mut(&store)?;
        store.feedback_seq += 1;
        Some(HealthFeedback {
            store_id: store.id,
            feedback_seq_no: store.feedback_seq,
            slow_score: store.slow_score,
        })
    }

    /// Up to which timestamp a region may be read without asking its leader: nothing can be
    /// committed at or below it any more. That is just below the oldest lock, or the oracle's last
    /// timestamp; and since a store may compute a commit timestamp from the largest one it has
    /// read at, saying a safe timestamp counts as reading there.
    pub(crate) fn safe_ts(&mut self, region: &Region) -> u64 {
        // What is pessimistically locked is prewritten before it is committed, above this.
        let oldest = self
            .mvcc
            .locks_between(&region.start, &region.end)
            .filter(|(_, _, lock)| !lock.is_pessimistic())
            .map(|(_, _, lock)| lock.start_ts);
        let safe_ts = oldest.map(|ts| ts.saturating_sub(1)).fold(self.oracle.last(), u64::min);
        if let Some(leader) = region.leader.and_then(|leader| self.stores.get_mut(&leader)) {
            leader.read_at(safe_ts);
        }
        safe_ts
    }
}

#[cfg(test)]
mod tests {
    use anatase_proto::kvrpcpb::{
        Context, GetRequest, KeyRange, Op, PhysicalScanLockRequest, ScanRequest,
        SplitRegionRequest, StoreSafeTsRequest, UnsafeDestroyRangeRequest,
    };

    use super::*;
    use crate::{
        ClusterConfig,
        testing::{key, small, text},
    };

    fn split(cluster: &mut Cluster, keys: &[&str], is_raw_kv: bool) -> SplitRegionResponse {
        let region = cluster.region_of_raw(b"").unwrap().id;
        let context = Some(Box::new(cluster.context_for(region)));
        let request = SplitRegionRequest {
            context,
            split_keys: keys.iter().map(|name| key(name)).collect(),
            is_raw_kv,
            ..Default::default()
        };
        cluster.call(1, request).result.unwrap()
    }

    #[test]
    fn a_client_splits_by_user_keys_in_any_order() {
        let mut cluster = small();
        let response = split(&mut cluster, &["m", "f", "m"], false);
        let starts: Vec<Bytes> =
            response.regions.iter().map(|region| region.start_key.clone()).collect();
        assert_eq!(starts, [key(""), encode_key(b"f"), encode_key(b"m")]);
        assert_eq!(response.left, None, "told only when there are two parts");
        assert_eq!(cluster.regions().count(), 3);
    }

    #[test]
    fn raw_split_keys_are_bytes_and_two_parts_are_told_by_name() {
        let mut cluster = small();
        let response = split(&mut cluster, &["m"], true);
        assert_eq!(response.left.unwrap().end_key, key("m"));
        assert_eq!(response.right.unwrap().start_key, key("m"));
    }

    #[test]
    fn a_split_without_a_key_that_fits_is_an_error() {
        let mut cluster = ClusterConfig::default().stores(1).split_keys(["f"]).build();
        for keys in [&[][..], &["f"], &["x"]] {
            let error = split(&mut cluster, keys, false).region_error.unwrap();
            assert!(error.message.contains("no valid key"), "{keys:?}");
        }
        assert_eq!(cluster.regions().count(), 2);
    }

    #[test]
    fn destroying_a_range_asks_no_region() {
        let mut cluster = ClusterConfig::default().stores(1).split_keys(["m"]).build();
        for name in ["a", "l", "n", "z"] {
            cluster.put(10, 20, name, "v");
        }
        let mut destroy = |start: &str, end: &str| {
            let (start_key, end_key) = (key(start), key(end));
            let request = UnsafeDestroyRangeRequest { context: None, start_key, end_key };
            cluster.call(1, request).result.unwrap().error
        };
        assert_eq!(destroy("b", "z"), "");
        assert_ne!(destroy("", "z"), "");
        assert_eq!(cluster.txn_keys().map(|key| text(key)).collect::<Vec<_>>(), ["a", "z"]);
    }

    #[test]
    fn locks_of_a_store_are_scanned_over_its_regions() {
        let mut cluster = ClusterConfig::default().stores(2).replicas(1).split_keys(["m"]).build();
        let right = cluster.region_of(b"z").unwrap().id;
        let there = cluster.leader_of(right).unwrap();
        cluster.prewrite(10, &[(Op::Put, "a", "v")]);
        cluster.prewrite(20, &[(Op::Put, "n", "v"), (Op::Put, "z", "v")]);
        cluster.move_peer(right, there, 2);
        let mut scan = |store, max_ts, limit| {
            let request = PhysicalScanLockRequest { max_ts, limit, ..Default::default() };
            let locks = cluster.call(store, request).result.unwrap().locks;
            locks.iter().map(|lock| text(&lock.key)).collect::<Vec<_>>().join("")
        };
        assert_eq!(scan(1, 100, 0), "a");
        assert_eq!(scan(2, 100, 0), "nz");
        assert_eq!(scan(2, 100, 1), "n");
        assert_eq!(scan(2, 19, 0), "");
    }

    #[test]
    fn nothing_commits_at_or_below_a_safe_timestamp() {
        let mut cluster = small();
        let now = cluster.timestamp();
        let safe = |cluster: &mut Cluster| {
            let key_range = Some(KeyRange::default());
            cluster.call(1, StoreSafeTsRequest { key_range }).result.unwrap().safe_ts
        };
        assert_eq!(safe(&mut cluster), now);
        assert_eq!(cluster.store(1).unwrap().max_ts, now);
        assert_eq!(cluster.lock(now, now, &["k"]), []);
        let later = cluster.timestamp();
        assert_eq!(safe(&mut cluster), later, "a pessimistic lock is committed by nobody");
        cluster.release(now, now, &["k"]);
        cluster.prewrite(now, &[(Op::Put, "k", "v")]);
        cluster.timestamp();
        assert_eq!(safe(&mut cluster), now - 1);
        let stale = |context: &mut Context| context.stale_read = true;
        assert_eq!(cluster.read_with("k", now - 1, stale), Ok(None));
        let response = cluster.ask("k", |mut context| {
            stale(context.as_mut().unwrap());
            GetRequest { context, key: key("k"), version: now, need_commit_ts: false }
        });
        let not_ready = response.region_error.unwrap().data_is_not_ready.unwrap();
        assert_eq!(not_ready.safe_ts, now - 1);
    }

    #[test]
    fn transactional_keys_are_compared_in_memcomparable_form() {
        // As bytes "m" is the bound; "m\0" encodes beyond it, and so does "m" itself.
        let mut cluster = ClusterConfig::default().stores(1).split_keys(["m"]).build();
        let left = cluster.region_of(b"l").unwrap().id;
        let context = Some(Box::new(cluster.context_for(left)));
        let mut get = |name: &str| {
            let request = GetRequest {
                context: context.clone(),
                key: key(name),
                version: 10,
                need_commit_ts: false,
            };
            cluster.call(1, request).result.unwrap().region_error
        };
        assert_eq!(get("l\u{7f}"), None);
        let error = get("m").unwrap().key_not_in_region.unwrap();
        assert_eq!((error.key, error.end_key), (encode_key(b"m"), encode_key(b"m")));
        for (start, reverse, fits) in
            [("", false, true), ("m", false, true), ("n", false, false), ("n", true, false)]
        {
            let request = ScanRequest {
                context: context.clone(),
                start_key: key(start),
                limit: 1,
                version: 10,
                reverse,
                ..Default::default()
            };
            let error = cluster.call(1, request).result.unwrap().region_error;
            assert_eq!(error.is_none(), fits, "{start} {reverse}");
        }
    }
}
