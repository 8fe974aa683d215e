//! The rules of [`super`].

use anatase_proto::{
    health, keyspacepb, meta_storagepb,
    pdpb::{self, ErrorType, RequestHeader},
    prost::Message,
    rpc::Rpc,
};
use bytes::Bytes;

use super::PdMetadata;
use crate::{
    Api, Cluster, ClusterConfig, Code, Failure, Keyspace, KeyspaceState, Loss, On, PdFault,
    StoreState, codec::encode_key, testing::key,
};

impl Cluster {
    fn pd<R: Message + Default>(
        &mut self,
        member: usize,
        rpc: Rpc,
        request: impl Message,
    ) -> Result<R, Failure> {
        self.pd_with(member, &PdMetadata::default(), rpc, request)
    }

    fn pd_with<R: Message + Default>(
        &mut self,
        member: usize,
        metadata: &PdMetadata,
        rpc: Rpc,
        request: impl Message,
    ) -> Result<R, Failure> {
        let answer = self.handle_pd(member, rpc, metadata, request.encode_to_vec().into());
        answer.result.map(|body| R::decode(body).unwrap())
    }

    fn header(&self) -> Option<RequestHeader> {
        Some(RequestHeader { cluster_id: self.cluster_id(), ..Default::default() })
    }

    fn located(&mut self, rpc: Rpc, name: &[u8]) -> Option<u64> {
        let request = pdpb::GetRegionRequest {
            header: self.header(),
            region_key: Bytes::copy_from_slice(name),
            ..Default::default()
        };
        let response: pdpb::GetRegionResponse = self.pd(0, rpc, request).unwrap();
        let region = response.region?;
        assert!(response.leader.is_some_and(|leader| region.peers.contains(&leader)));
        Some(region.id)
    }
}

fn status(result: Result<impl std::fmt::Debug, Failure>) -> (Code, String) {
    match result.unwrap_err() {
        Failure::Status(status) => (status.code, status.message),
        lost => panic!("{lost}"),
    }
}

#[test]
fn members_are_told_by_any_member_without_a_header() {
    let mut cluster = ClusterConfig::default().pd_members(3).build();
    cluster.set_pd_url(1, "http://127.0.0.1:2379");
    cluster.transfer_pd_leader(1);
    for member in 0..3 {
        let response: pdpb::GetMembersResponse =
            cluster.pd(member, Rpc::PdGetMembers, pdpb::GetMembersRequest::default()).unwrap();
        assert_eq!(response.header.unwrap().cluster_id, cluster.cluster_id());
        assert_eq!(response.members.len(), 3);
        assert_eq!(response.leader.unwrap().client_urls, ["http://127.0.0.1:2379"]);
    }
    let response: pdpb::GetClusterInfoResponse =
        cluster.pd(2, Rpc::PdGetClusterInfo, pdpb::GetClusterInfoRequest::default()).unwrap();
    assert_eq!(response.service_modes, [pdpb::ServiceMode::PdSvcMode as i32]);
    let health: health::HealthCheckResponse =
        cluster.pd(2, Rpc::HealthCheck, health::HealthCheckRequest::default()).unwrap();
    assert_eq!(health.status, 1);
}

fn tso(cluster: &mut Cluster, member: usize, count: u32) -> Result<pdpb::TsoResponse, Failure> {
    let header = cluster.header();
    cluster.pd(member, Rpc::PdTso, pdpb::TsoRequest { header, count, ..Default::default() })
}

#[test]
fn timestamps_are_the_last_of_a_batch_and_increase_over_leaders() {
    let mut cluster = ClusterConfig::default().pd_members(2).now_ms(1000).build();
    let first = tso(&mut cluster, 0, 5).unwrap();
    let timestamp = first.timestamp.unwrap();
    assert_eq!((first.count, timestamp.physical, timestamp.logical), (5, 1000, 4));
    cluster.transfer_pd_leader(1);
    let (code, text) = status(tso(&mut cluster, 0, 1));
    assert_eq!((code, text.as_str()), (Code::Unavailable, "not leader"));
    let next = tso(&mut cluster, 1, 1).unwrap().timestamp.unwrap();
    assert!(next.physical > timestamp.physical);
    let refused = tso(&mut cluster, 1, 0).unwrap().header.unwrap().error.unwrap();
    assert!(refused.message.contains("positive"));
}

#[test]
fn another_clusters_id_is_a_failed_precondition() {
    let mut cluster = ClusterConfig::default().cluster_id(7).build();
    let header = Some(RequestHeader { cluster_id: 8, ..Default::default() });
    for header in [header, None] {
        let request = pdpb::TsoRequest { header, count: 1, ..Default::default() };
        let (code, text) = status(cluster.pd::<pdpb::TsoResponse>(0, Rpc::PdTso, request));
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.starts_with("mismatch cluster id, need 7 but got"), "{text}");
    }
}

#[test]
fn followers_pass_on_or_answer_lookups_if_they_may() {
    let mut cluster = ClusterConfig::default().pd_members(2).build();
    let header = cluster.header();
    let lookup = pdpb::GetRegionRequest { header: header.clone(), ..Default::default() };
    let stamp = pdpb::TsoRequest { header, count: 1, ..Default::default() };
    let plain = PdMetadata::default();
    let forwarded = PdMetadata { forwarded: true, ..plain.clone() };
    let allowed = PdMetadata { allow_follower: true, ..plain.clone() };
    for (metadata, looks_up, stamps) in
        [(plain, false, false), (forwarded.clone(), true, true), (allowed, true, false)]
    {
        let result: Result<pdpb::GetRegionResponse, _> =
            cluster.pd_with(1, &metadata, Rpc::PdGetRegion, lookup.clone());
        assert_eq!(result.is_ok(), looks_up);
        let result: Result<pdpb::TsoResponse, _> =
            cluster.pd_with(1, &metadata, Rpc::PdTso, stamp.clone());
        assert_eq!(result.is_ok(), stamps);
    }
    cluster.stop_pd_member(0);
    let result: Result<pdpb::TsoResponse, _> =
        cluster.pd_with(1, &forwarded, Rpc::PdTso, stamp.clone());
    assert_eq!(status(result).0, Code::Unavailable, "nobody leads");
    let result: Result<pdpb::TsoResponse, _> = cluster.pd(0, Rpc::PdTso, stamp);
    assert_eq!(result.unwrap_err(), Failure::Lost(Loss::Refused));
}

#[test]
fn buckets_are_told_to_those_who_ask_for_them() {
    let mut cluster = ClusterConfig::default().split_keys(["f"]).build();
    let ids: Vec<u64> = cluster.regions().map(|region| region.id).collect();
    let borders = vec![encode_key(b"f"), encode_key(b"k"), Bytes::new()];
    cluster.set_buckets(ids[1], 7, borders.clone());
    let expected = anatase_proto::metapb::Buckets {
        region_id: ids[1],
        version: 7,
        keys: borders,
        ..Default::default()
    };
    for need_buckets in [true, false] {
        let expected = need_buckets.then(|| expected.clone());
        for (region_id, expected) in [(ids[1], expected.clone()), (ids[0], None)] {
            let header = cluster.header();
            let by_id = pdpb::GetRegionByIdRequest { header, region_id, need_buckets };
            let told: pdpb::GetRegionResponse = cluster.pd(0, Rpc::PdGetRegionById, by_id).unwrap();
            assert_eq!(told.buckets.map(|buckets| *buckets), expected, "{region_id}");
        }
        let header = cluster.header();
        let region_key = encode_key(b"g");
        let by_key = pdpb::GetRegionRequest { header, region_key, need_buckets };
        let told: pdpb::GetRegionResponse = cluster.pd(0, Rpc::PdGetRegion, by_key).unwrap();
        assert_eq!(told.buckets.map(|buckets| *buckets), expected);
        let request = pdpb::BatchScanRegionsRequest {
            header: cluster.header(),
            ranges: vec![pdpb::KeyRange::default()],
            need_buckets,
            ..Default::default()
        };
        let told: pdpb::BatchScanRegionsResponse =
            cluster.pd(0, Rpc::PdBatchScanRegions, request).unwrap();
        let told: Vec<_> =
            told.regions.into_iter().map(|region| region.buckets.map(|buckets| *buckets)).collect();
        assert_eq!(told, [None, expected]);
    }
}

#[test]
fn keys_find_regions_in_every_way() {
    let mut cluster = ClusterConfig::default().split_keys(["f", "p"]).build();
    let ids: Vec<u64> = cluster.regions().map(|region| region.id).collect();
    let (f, p) = (encode_key(b"f"), encode_key(b"p"));
    assert_eq!(cluster.located(Rpc::PdGetRegion, b""), Some(ids[0]));
    assert_eq!(cluster.located(Rpc::PdGetRegion, &f), Some(ids[1]));
    assert_eq!(cluster.located(Rpc::PdGetPrevRegion, &f), Some(ids[0]));
    assert_eq!(cluster.located(Rpc::PdGetPrevRegion, b"a"), None);
    let header = cluster.header();
    let by_id = pdpb::GetRegionByIdRequest { header, region_id: ids[2], ..Default::default() };
    let response: pdpb::GetRegionResponse =
        cluster.pd(0, Rpc::PdGetRegionById, by_id.clone()).unwrap();
    assert_eq!(response.region.unwrap().start_key, p);
    let nowhere = pdpb::GetRegionByIdRequest { region_id: 999, ..by_id };
    let response: pdpb::GetRegionResponse = cluster.pd(0, Rpc::PdGetRegionById, nowhere).unwrap();
    assert_eq!(response.region, None);

    let request = pdpb::QueryRegionRequest {
        header: cluster.header(),
        ids: vec![ids[2], 999],
        keys: vec![key("a"), p.clone()],
        prev_keys: vec![p, key("a")],
        ..Default::default()
    };
    let response: pdpb::QueryRegionResponse = cluster.pd(0, Rpc::PdQueryRegion, request).unwrap();
    assert_eq!(response.key_id_map, [ids[0], ids[2]]);
    assert_eq!(response.prev_key_id_map, [ids[1], 0]);
    let told = &response.regions_by_id;
    assert!(ids.iter().all(|id| told[id].region.as_ref().is_some_and(|it| it.id == *id)));
    assert_eq!(told.len(), 3);
    let bytes = |cluster: &mut Cluster| {
        let request = pdpb::QueryRegionRequest {
            header: cluster.header(),
            ids: ids.clone(),
            ..Default::default()
        };
        let body = request.encode_to_vec().into();
        cluster.handle_pd(0, Rpc::PdQueryRegion, &PdMetadata::default(), body).result.unwrap()
    };
    let told = bytes(&mut cluster);
    assert!((0..20).all(|_| bytes(&mut cluster) == told), "the same bytes each time");
}

#[test]
fn ranges_are_scanned_in_order_and_a_region_is_told_once() {
    let mut cluster = ClusterConfig::default().split_keys_raw(["c", "f", "p"]).build();
    let header = cluster.header();
    let starts = |regions: &[pdpb::Region]| {
        let start = |region: &pdpb::Region| region.region.as_ref().unwrap().start_key.clone();
        regions.iter().map(start).collect::<Vec<_>>()
    };
    let scan = |start: &str, end: &str, limit| pdpb::ScanRegionsRequest {
        header: header.clone(),
        start_key: key(start),
        end_key: key(end),
        limit,
    };
    for (request, found) in [
        (scan("", "", 0), vec!["", "c", "f", "p"]),
        (scan("d", "p", -1), vec!["c", "f"]),
        (scan("d", "", 2), vec!["c", "f"]),
    ] {
        let response: pdpb::ScanRegionsResponse =
            cluster.pd(0, Rpc::PdScanRegions, request).unwrap();
        assert_eq!(starts(&response.regions), found);
        assert_eq!(
            (response.region_metas.len(), response.leaders.len()),
            (found.len(), found.len())
        );
    }
    let mut batch = |ranges: &[(&str, &str)], limit| {
        let ranges = ranges
            .iter()
            .map(|(start, end)| pdpb::KeyRange { start_key: key(start), end_key: key(end) })
            .collect();
        let request = pdpb::BatchScanRegionsRequest {
            header: header.clone(),
            ranges,
            limit,
            contain_all_key_range: true,
            ..Default::default()
        };
        let response: pdpb::BatchScanRegionsResponse =
            cluster.pd(0, Rpc::PdBatchScanRegions, request).unwrap();
        match response.header.unwrap().error {
            Some(error) => Err(error.message),
            None => Ok(starts(&response.regions)),
        }
    };
    assert_eq!(batch(&[("a", "b"), ("b", "d"), ("d", "e"), ("x", "")], 0).unwrap(), ["", "c", "p"]);
    assert_eq!(batch(&[("a", ""),], 2).unwrap(), ["", "c"]);
    assert!(batch(&[("d", "e"), ("a", "b")], 0).is_err());
}

#[test]
fn stores_are_told_with_their_labels_and_their_end() {
    let mut cluster = ClusterConfig::default().build();
    cluster.set_store_labels(2, &[("zone", "z1")]);
    cluster.set_store_address(2, "127.0.0.1:1");
    cluster.stop_store(1);
    cluster.bury_store(3);
    assert_eq!(cluster.store(1).unwrap().state, StoreState::Stopped);
    let header = cluster.header();
    let all = pdpb::GetAllStoresRequest { header: header.clone(), exclude_tombstone_stores: false };
    let response: pdpb::GetAllStoresResponse =
        cluster.pd(0, Rpc::PdGetAllStores, all.clone()).unwrap();
    let states: Vec<i32> = response.stores.iter().map(|store| store.state).collect();
    assert_eq!(states, [0, 0, 2], "PD does not know that a store is stopped");
    let living = pdpb::GetAllStoresRequest { exclude_tombstone_stores: true, ..all };
    let response: pdpb::GetAllStoresResponse = cluster.pd(0, Rpc::PdGetAllStores, living).unwrap();
    assert_eq!(response.stores.len(), 2);
    let mut get = |store_id| {
        let request = pdpb::GetStoreRequest { header: header.clone(), store_id };
        cluster.pd::<pdpb::GetStoreResponse>(0, Rpc::PdGetStore, request).unwrap()
    };
    let store = get(2).store.unwrap();
    assert_eq!((store.address.as_str(), store.labels[0].value.as_str()), ("127.0.0.1:1", "z1"));
    assert_eq!(get(3).store.unwrap().node_state, 3);
    assert!(get(9).header.unwrap().error.unwrap().message.contains("not found"));
}

#[test]
fn frozen_routes_are_those_of_the_moment() {
    let mut cluster = ClusterConfig::default().build();
    let before = cluster.located(Rpc::PdGetRegion, b"a").unwrap();
    cluster.freeze_routes();
    let left = cluster.split_raw("m").unwrap();
    assert_eq!(cluster.located(Rpc::PdGetRegion, b"a"), Some(before));
    cluster.thaw_routes();
    assert_eq!(cluster.located(Rpc::PdGetRegion, b"a"), Some(left));
}

#[test]
fn regions_are_split_at_a_clients_wish() {
    let mut cluster = ClusterConfig::default().build();
    let request = pdpb::SplitRegionsRequest {
        header: cluster.header(),
        split_keys: vec![key("b"), key("d"), key("b")],
        ..Default::default()
    };
    let response: pdpb::SplitRegionsResponse = cluster.pd(0, Rpc::PdSplitRegions, request).unwrap();
    assert_eq!((response.finished_percentage, response.regions_id.len()), (100, 2));
    assert_eq!(cluster.regions().count(), 3);
    let request = pdpb::GetOperatorRequest { header: cluster.header(), region_id: 4 };
    let response: pdpb::GetOperatorResponse = cluster.pd(0, Rpc::PdGetOperator, request).unwrap();
    assert_eq!(response.status, pdpb::OperatorStatus::Success as i32);
}

#[test]
fn safe_points_move_forward_and_services_hold_them() {
    let mut cluster = ClusterConfig::default().build();
    let header = cluster.header();
    let hold = |cluster: &mut Cluster, safe_point, ttl| {
        let request = pdpb::UpdateServiceGcSafePointRequest {
            header: header.clone(),
            service_id: key("backup"),
            ttl,
            safe_point,
        };
        let response: pdpb::UpdateServiceGcSafePointResponse =
            cluster.pd(0, Rpc::PdUpdateServiceGcSafePoint, request).unwrap();
        response.min_safe_point
    };
    let advance = |cluster: &mut Cluster, target| {
        let request = pdpb::AdvanceTxnSafePointRequest {
            header: header.clone(),
            target,
            ..Default::default()
        };
        let response: pdpb::AdvanceTxnSafePointResponse =
            cluster.pd(0, Rpc::PdAdvanceTxnSafePoint, request).unwrap();
        match response.header.unwrap().error {
            Some(error) => Err(error.message),
            None => Ok(response.new_txn_safe_point),
        }
    };
    assert_eq!(hold(&mut cluster, 50, 10), 50);
    assert_eq!(advance(&mut cluster, 100), Ok(50));
    cluster.advance(std::time::Duration::from_secs(11));
    assert_eq!(advance(&mut cluster, 100), Ok(100));
    assert!(advance(&mut cluster, 99).is_err());
    let request = pdpb::AdvanceGcSafePointRequest {
        header: header.clone(),
        target: 101,
        ..Default::default()
    };
    let response: pdpb::AdvanceGcSafePointResponse =
        cluster.pd(0, Rpc::PdAdvanceGcSafePoint, request).unwrap();
    assert!(response.header.unwrap().error.is_some(), "not beyond the txn safe point");
    let request = pdpb::UpdateGcSafePointRequest { header: header.clone(), safe_point: 80 };
    let response: pdpb::UpdateGcSafePointResponse =
        cluster.pd(0, Rpc::PdUpdateGcSafePoint, request).unwrap();
    assert_eq!(response.new_safe_point, 80);
    let request = pdpb::GetGcStateRequest { header, ..Default::default() };
    let response: pdpb::GetGcStateResponse = cluster.pd(0, Rpc::PdGetGcState, request).unwrap();
    let state = response.gc_state.unwrap();
    assert_eq!((state.txn_safe_point, state.gc_safe_point), (100, 80));
}

/// wire.md §8.
#[test]
fn keyspaces_are_found_by_name_and_number_and_listed() {
    use keyspacepb::keyspace_meta::Keyspace as Identity;
    let gone = Keyspace::new(9, "gone").state(KeyspaceState::Tombstone);
    let more = [Keyspace::new(300, "far"), gone];
    let mut cluster = ClusterConfig::default().api(Api::V2).keyspaces(more).build();
    let by_id = |cluster: &mut Cluster, id| {
        let keyspace = Some(keyspacepb::load_keyspace_by_id_request::Keyspace::Id(id));
        let request = keyspacepb::LoadKeyspaceByIdRequest { header: cluster.header(), keyspace };
        let found: keyspacepb::LoadKeyspaceResponse =
            cluster.pd(0, Rpc::LoadKeyspaceById, request).unwrap();
        found.keyspace.map(|meta| (meta.name, meta.state))
    };
    assert_eq!(by_id(&mut cluster, 0), Some(("DEFAULT".into(), 0)));
    assert_eq!(by_id(&mut cluster, 9), Some(("gone".into(), 3)));
    assert_eq!(by_id(&mut cluster, 10), None);
    assert!(cluster.set_keyspace_state("far", KeyspaceState::Disabled));
    assert!(!cluster.set_keyspace_state("nobody", KeyspaceState::Disabled));
    assert_eq!(by_id(&mut cluster, 300), Some(("far".into(), 1)));
    let mut list = |start, limit| -> Vec<Option<Identity>> {
        let start = keyspacepb::get_all_keyspaces_request::StartKeyspace::StartId(start);
        let request = keyspacepb::GetAllKeyspacesRequest {
            header: cluster.header(),
            limit,
            start_keyspace: Some(start),
            ..Default::default()
        };
        let found: keyspacepb::GetAllKeyspacesResponse =
            cluster.pd(0, Rpc::GetAllKeyspaces, request).unwrap();
        found.keyspaces.into_iter().map(|meta| meta.keyspace).collect()
    };
    assert_eq!(list(0, 0), [0, 9, 300].map(|id| Some(Identity::Id(id))));
    assert_eq!(list(1, 1), [Some(Identity::Id(9))]);
}

/// raw.md §6.4: regions may be made to end where keyspaces do, in both modes.
#[test]
fn regions_are_split_at_keyspaces_if_wanted() {
    let last = Keyspace::new(0xff_ffff, "last");
    let config = ClusterConfig::default().api(Api::V2).keyspaces([last]);
    assert_eq!(config.clone().build().regions().count(), 1);
    let cluster = config.split_at_keyspaces(true).build();
    let starts: Vec<_> = cluster.regions().skip(1).map(|region| region.start.clone()).collect();
    let expected = [
        &b"r\0\0\0"[..],
        b"r\0\0\x01",
        b"r\xff\xff\xff",
        b"s\0\0\0",
        b"x\0\0\0",
        b"x\0\0\x01",
        b"x\xff\xff\xff",
        b"y\0\0\0",
    ];
    assert_eq!(starts, expected.map(encode_key));
}

#[test]
fn keyspaces_and_metadata_are_bare() {
    let mut cluster = ClusterConfig::default().build();
    let mut load = |name: &str| {
        let request = keyspacepb::LoadKeyspaceRequest {
            header: cluster.header(),
            name: name.to_owned(),
            ..Default::default()
        };
        let response: keyspacepb::LoadKeyspaceResponse =
            cluster.pd(0, Rpc::LoadKeyspace, request).unwrap();
        (
            response.keyspace.map(|meta| meta.name),
            response.header.unwrap().error.map(|it| it.r#type),
        )
    };
    assert_eq!(load("DEFAULT"), (Some("DEFAULT".into()), None));
    assert_eq!(load("other"), (None, Some(ErrorType::EntryNotFound as i32)));
    let response: meta_storagepb::GetResponse =
        cluster.pd(0, Rpc::MetaStorageGet, meta_storagepb::GetRequest::default()).unwrap();
    assert_eq!(response.count, 0);
    let (code, _) =
        status(cluster.pd::<pdpb::TsoResponse>(0, Rpc::RawGet, pdpb::TsoRequest::default()));
    assert_eq!(code, Code::Unimplemented);
}

#[test]
fn etcd_tells_members_and_the_safe_point() {
    let mut cluster = ClusterConfig::default().pd_members(2).build();
    let members = cluster.handle_etcd("/etcdserverpb.Cluster/MemberList", Bytes::new()).unwrap();
    let has = |text: &str| members.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("pd-0") && has("http://pd-1.anatase:2379"));
    let header = cluster.header();
    let request = pdpb::AdvanceTxnSafePointRequest { header, target: 1234, ..Default::default() };
    cluster
        .pd::<pdpb::AdvanceTxnSafePointResponse>(0, Rpc::PdAdvanceTxnSafePoint, request)
        .unwrap();
    let mut ask = vec![0x0a, 37];
    ask.extend(b"/tidb/store/gcworker/saved_safe_point");
    let told = cluster.handle_etcd("/etcdserverpb.KV/Range", ask.into()).unwrap();
    assert!(told.windows(4).any(|window| window == b"1234"));
    let other = cluster.handle_etcd("/etcdserverpb.KV/Range", vec![0x0a, 1, b'x'].into()).unwrap();
    assert!(other.len() < 16);
    assert!(cluster.handle_etcd("/etcdserverpb.KV/Range", vec![0xff].into()).is_err());
    assert!(cluster.handle_etcd("/etcdserverpb.KV/Put", Bytes::new()).is_err());
}

#[test]
fn faults_go_to_the_header_or_beside_the_message() {
    let mut cluster = ClusterConfig::default().build();
    let fault = PdFault { kind: ErrorType::RegionNotFound, message: "where?".into() };
    cluster.faults().next(On::rpc(Rpc::PdGetRegion), fault);
    let request = pdpb::GetRegionRequest { header: cluster.header(), ..Default::default() };
    let response: pdpb::GetRegionResponse =
        cluster.pd(0, Rpc::PdGetRegion, request.clone()).unwrap();
    let error = response.header.unwrap().error.unwrap();
    assert_eq!((error.r#type, error.message.as_str()), (6, "where?"));
    assert_eq!(response.region, None);
    cluster.faults().next(On::any().member(0), crate::Fault::DropResponse(Loss::Reset));
    let before = cluster.last_timestamp();
    assert_eq!(tso(&mut cluster, 0, 1).unwrap_err(), Failure::Lost(Loss::Reset));
    assert!(cluster.last_timestamp() > before, "executed all the same");
    assert!(cluster.pd::<pdpb::GetRegionResponse>(0, Rpc::PdGetRegion, request).is_ok());
}
