//! Real gRPC on loopback, by a client made by hand.

mod grpc;

use std::time::Duration;

use anatase_cluster::{
    ClusterConfig, Event, Fault, Loss, On, RegionFault,
    serve::{ServeOptions, Server},
};
use anatase_proto::{
    health,
    kvrpcpb::{self, RawGetRequest, RawPutRequest},
    pdpb,
    rpc::Rpc,
    tikvpb::{
        BatchCommandsRequest, BatchCommandsResponse,
        batch_commands_request::{Request, request::Cmd as Asked},
        batch_commands_response::response::Cmd as Answered,
    },
};
use bytes::Bytes;

use crate::grpc::{Client, Lost};

async fn serve() -> Server {
    let cluster = ClusterConfig::default().stores(3).split_keys(["m"]).build();
    Server::start(cluster, ServeOptions::default()).await.unwrap()
}

/// A request to the leader of the region of a raw key, and where to send it.
fn context(server: &Server, key: &str) -> (String, Option<Box<kvrpcpb::Context>>) {
    server.with(|cluster| {
        let region = cluster.region_of_raw(key.as_bytes()).unwrap().id;
        let store = cluster.leader_of(region).unwrap();
        let address = cluster.store(store).unwrap().address.clone();
        (address, Some(Box::new(cluster.context_for(region))))
    })
}

fn get(server: &Server, key: &str) -> (String, RawGetRequest) {
    let (address, context) = context(server, key);
    let key = Bytes::copy_from_slice(key.as_bytes());
    (address, RawGetRequest { context, key, ..Default::default() })
}

fn put(server: &Server, key: &str, value: impl Into<Bytes>) -> (String, RawPutRequest) {
    let (address, context) = context(server, key);
    let key = Bytes::copy_from_slice(key.as_bytes());
    (address, RawPutRequest { context, key, value: value.into(), ..Default::default() })
}

fn header(server: &Server) -> Option<pdpb::RequestHeader> {
    let cluster_id = server.with(|cluster| cluster.cluster_id());
    Some(pdpb::RequestHeader { cluster_id, ..Default::default() })
}

/// What PD tells is where the stores are; what is put there is found there.
#[tokio::test]
async fn a_client_finds_its_way_from_pd() {
    let server = serve().await;
    let mut pd = Client::connect(&server.pd_address()).await;
    let members: pdpb::GetMembersResponse =
        pd.call(Rpc::PdGetMembers, &pdpb::GetMembersRequest::default()).await.unwrap();
    let url = &members.leader.unwrap().client_urls[0];
    assert_eq!(*url, format!("http://{}", server.pd_address()));
    let header = Some(pdpb::RequestHeader {
        cluster_id: members.header.unwrap().cluster_id,
        ..Default::default()
    });
    let key = Bytes::from_static(b"k");
    let lookup = pdpb::GetRegionRequest {
        header: header.clone(),
        region_key: key.clone(),
        ..Default::default()
    };
    let found: pdpb::GetRegionResponse = pd.call(Rpc::PdGetRegion, &lookup).await.unwrap();
    let (region, peer) = (found.region.unwrap(), found.leader.unwrap());
    let lookup = pdpb::GetStoreRequest { header, store_id: peer.store_id };
    let found: pdpb::GetStoreResponse = pd.call(Rpc::PdGetStore, &lookup).await.unwrap();
    let mut store = Client::connect(&found.store.unwrap().address).await;
    let context = Some(Box::new(kvrpcpb::Context {
        region_id: region.id,
        region_epoch: region.region_epoch,
        peer: Some(peer),
        ..Default::default()
    }));
    let put = RawPutRequest {
        context: context.clone(),
        key: key.clone(),
        value: Bytes::from_static(b"v"),
        ..Default::default()
    };
    let written: kvrpcpb::RawPutResponse = store.call(Rpc::RawPut, &put).await.unwrap();
    assert_eq!(written, kvrpcpb::RawPutResponse::default());
    let get = RawGetRequest { context, key, ..Default::default() };
    let read: kvrpcpb::RawGetResponse = store.call(Rpc::RawGet, &get).await.unwrap();
    assert_eq!(&read.value[..], b"v");
    let health: health::HealthCheckResponse =
        store.call(Rpc::HealthCheck, &health::HealthCheckRequest::default()).await.unwrap();
    assert_eq!(health.status, 1);
}

#[tokio::test]
async fn a_status_has_a_code_and_a_text() {
    let server = serve().await;
    let mut pd = Client::connect(&server.pd_address()).await;
    let lost = pd
        .call::<pdpb::GetRegionResponse>(Rpc::PdGetRegion, &pdpb::GetRegionRequest::default())
        .await
        .unwrap_err();
    let Lost::Status(code, text) = lost else { panic!("{lost:?}") };
    assert_eq!(code, 9);
    assert!(text.starts_with("mismatch cluster id, need"), "{text}");
    let lost = pd
        .call::<kvrpcpb::RawGetResponse>(Rpc::Compact, &RawGetRequest::default())
        .await
        .unwrap_err();
    assert!(matches!(lost, Lost::Status(12, _)), "{lost:?}");
}

#[tokio::test]
async fn a_large_value_comes_and_goes() {
    let cluster = ClusterConfig::default().max_entry_size(100 << 20).build();
    let server = Server::start(cluster, ServeOptions::default()).await.unwrap();
    let value = Bytes::from(vec![7; 65 << 20]);
    let (address, request) = put(&server, "big", value.clone());
    let mut store = Client::connect(&address).await;
    let written: kvrpcpb::RawPutResponse = store.call(Rpc::RawPut, &request).await.unwrap();
    assert_eq!(written.region_error, None);
    let (_, request) = get(&server, "big");
    let read: kvrpcpb::RawGetResponse = store.call(Rpc::RawGet, &request).await.unwrap();
    assert!(read.value == value);
}

#[tokio::test]
async fn timestamps_come_by_a_stream() {
    let server = serve().await;
    let mut pd = Client::connect(&server.pd_address()).await;
    let mut stream = pd.open(Rpc::PdTso).await;
    let mut last = 0;
    for count in [1, 10, 1] {
        stream.send(&pdpb::TsoRequest { header: header(&server), count, ..Default::default() });
        let response: pdpb::TsoResponse = stream.next().await.unwrap().unwrap();
        assert_eq!(response.count, count);
        let timestamp = response.timestamp.unwrap();
        let now = ((timestamp.physical as u64) << 18) + timestamp.logical as u64;
        assert!(now >= last + u64::from(count));
        last = now;
    }
    stream.close();
    assert_eq!(stream.next::<pdpb::TsoResponse>().await, None, "ended with OK");
    // A stream that goes wrong ends with its status.
    let mut stream = pd.open(Rpc::PdQueryRegion).await;
    stream.send(&pdpb::QueryRegionRequest::default());
    let lost = stream.next::<pdpb::QueryRegionResponse>().await.unwrap().unwrap_err();
    assert!(matches!(lost, Lost::Status(9, _)), "{lost:?}");
}

fn batch(of: impl IntoIterator<Item = (u64, Asked)>) -> BatchCommandsRequest {
    let (request_ids, requests) =
        of.into_iter().map(|(id, cmd)| (id, Request { cmd: Some(cmd) })).unzip();
    BatchCommandsRequest { requests, request_ids, ..Default::default() }
}

#[tokio::test]
async fn commands_travel_in_batches_and_late_answers_come_late() {
    let server = serve().await;
    let (address, write) = put(&server, "k", "v");
    let (_, read) = get(&server, "k");
    server.with(|cluster| {
        let slow = Fault::Delay(Duration::from_millis(100));
        cluster.faults().next(On::rpc(Rpc::RawPut), slow);
        cluster.faults().next(On::rpc(Rpc::RawGet).after(1), RegionFault::busy("no"));
    });
    let mut store = Client::connect(&address).await;
    let mut stream = store.open(Rpc::BatchCommands).await;
    stream.send(&batch([
        (5, Asked::RawPut(write)),
        (6, Asked::RawGet(read.clone())),
        (7, Asked::RawGet(read)),
    ]));
    let first: BatchCommandsResponse = stream.next().await.unwrap().unwrap();
    assert_eq!(first.request_ids, [6, 7]);
    let Some(Answered::RawGet(read)) = &first.responses[0].cmd else { panic!() };
    assert_eq!(&read.value[..], b"v", "what is answered late was executed in time");
    let Some(Answered::RawGet(busy)) = &first.responses[1].cmd else { panic!() };
    assert!(busy.region_error.as_ref().unwrap().server_is_busy.is_some());
    let late: BatchCommandsResponse = stream.next().await.unwrap().unwrap();
    assert_eq!(late.request_ids, [5]);
}

#[tokio::test]
async fn a_batch_for_another_cluster_ends_the_stream() {
    let server = serve().await;
    let (address, mut read) = get(&server, "k");
    read.context.as_mut().unwrap().cluster_id = 1;
    let mut store = Client::connect(&address).await;
    let mut stream = store.open(Rpc::BatchCommands).await;
    stream.send(&batch([(1, Asked::RawGet(read))]));
    let lost = stream.next::<BatchCommandsResponse>().await.unwrap().unwrap_err();
    assert!(matches!(lost, Lost::Status(3, _)), "{lost:?}");
}

#[tokio::test]
async fn a_lost_answer_takes_the_connection_with_it() {
    let server = serve().await;
    let (address, write) = put(&server, "k", "v");
    let mut store = Client::connect(&address).await;
    let drop = On::rpc(Rpc::RawPut);
    server.with(|cluster| cluster.faults().next(drop, Fault::DropResponse(Loss::Reset)));
    let lost = store.call::<kvrpcpb::RawPutResponse>(Rpc::RawPut, &write).await.unwrap_err();
    assert!(matches!(lost, Lost::Connection), "{lost:?}");
    assert_eq!(server.with(|cluster| cluster.raw_pairs("default").count()), 1, "executed");
    let mut store = Client::connect(&address).await;
    store.call::<kvrpcpb::RawPutResponse>(Rpc::RawPut, &write).await.unwrap();
}

#[tokio::test]
async fn silence_leaves_the_connection_alone() {
    let server = serve().await;
    let (address, read) = get(&server, "k");
    let mut store = Client::connect(&address).await;
    let silent = Fault::DropRequest(Loss::Silent);
    server.with(|cluster| cluster.faults().next(On::any(), silent));
    let call = store.call::<kvrpcpb::RawGetResponse>(Rpc::RawGet, &read);
    tokio::time::timeout(Duration::from_millis(50), call).await.unwrap_err();
    store.call::<kvrpcpb::RawGetResponse>(Rpc::RawGet, &read).await.unwrap();
}

#[tokio::test]
async fn a_killed_store_resets_refuses_and_comes_back_where_it_was() {
    let server = serve().await;
    let (address, write) = put(&server, "k", "v");
    let victim = server.with(|cluster| cluster.store_at(&address).unwrap());
    let mut store = Client::connect(&address).await;
    store.call::<kvrpcpb::RawPutResponse>(Rpc::RawPut, &write).await.unwrap();
    let mut stream = store.open(Rpc::BatchCommands).await;
    server.stop_store(victim);
    let broken = stream.next::<BatchCommandsResponse>().await.unwrap();
    assert!(matches!(broken, Err(Lost::Connection)), "{broken:?}");
    assert!(Client::try_connect(&address).await.is_err());
    // The others go on without it.
    server.with(|cluster| cluster.elect_leaders());
    let (heir, read) = get(&server, "k");
    assert_ne!(heir, address);
    let mut other = Client::connect(&heir).await;
    let found: kvrpcpb::RawGetResponse = other.call(Rpc::RawGet, &read).await.unwrap();
    assert_eq!(&found.value[..], b"v");
    server.start_store(victim).await.unwrap();
    let mut store = Client::connect(&address).await;
    let response: kvrpcpb::RawPutResponse = store.call(Rpc::RawPut, &write).await.unwrap();
    assert!(response.region_error.unwrap().not_leader.is_some());
}

#[tokio::test]
async fn a_store_passes_on_what_is_for_another() {
    let server = serve().await;
    let (address, write) = put(&server, "k", "v");
    let other = server.with(|cluster| {
        let other = cluster.stores().find(|store| store.address != address);
        other.map(|store| store.address.clone()).unwrap()
    });
    let mut proxy = Client::connect(&other).await;
    proxy.metadata.push(("tikv-forwarded-host", address));
    let response: kvrpcpb::RawPutResponse = proxy.call(Rpc::RawPut, &write).await.unwrap();
    assert_eq!(response.region_error, None);
}

#[tokio::test]
async fn pd_members_have_addresses_of_their_own() {
    let cluster = ClusterConfig::default().pd_members(3).build();
    let server = Server::start(cluster, ServeOptions::default()).await.unwrap();
    let addresses = server.pd_addresses();
    assert_eq!(addresses.len(), 3);
    let request = pdpb::GetAllStoresRequest { header: header(&server), ..Default::default() };
    let mut follower = Client::connect(&addresses[1]).await;
    let lost = follower
        .call::<pdpb::GetAllStoresResponse>(Rpc::PdGetAllStores, &request)
        .await
        .unwrap_err();
    assert!(matches!(&lost, Lost::Status(14, text) if text == "not leader"), "{lost:?}");
    server.stop_pd_member(0);
    server.with(|cluster| cluster.transfer_pd_leader(1));
    let stores: pdpb::GetAllStoresResponse =
        follower.call(Rpc::PdGetAllStores, &request).await.unwrap();
    assert_eq!(stores.stores.len(), 3);
    server.start_pd_member(0).await.unwrap();
    Client::connect(&addresses[0]).await;
}

#[tokio::test]
async fn a_member_that_is_cut_off_leads_on_through_the_others() {
    let cluster = ClusterConfig::default().pd_members(2).build();
    let server = Server::start(cluster, ServeOptions::default()).await.unwrap();
    let addresses = server.pd_addresses();
    let request = pdpb::GetAllStoresRequest { header: header(&server), ..Default::default() };
    server.cut_off_pd_member(0);
    assert!(Client::try_connect(&addresses[0]).await.is_err());
    assert_eq!(server.with(|cluster| cluster.pd_leader()), Some(0));
    let mut follower = Client::connect(&addresses[1]).await;
    follower.metadata.push(("pd-forwarded-host", format!("http://{}", addresses[0])));
    let stores: pdpb::GetAllStoresResponse =
        follower.call(Rpc::PdGetAllStores, &request).await.unwrap();
    assert_eq!(stores.stores.len(), 3);
    server.reconnect_pd_member(0).await.unwrap();
    let mut leader = Client::connect(&addresses[0]).await;
    let stores: pdpb::GetAllStoresResponse =
        leader.call(Rpc::PdGetAllStores, &request).await.unwrap();
    assert_eq!(stores.stores.len(), 3);
}

#[tokio::test]
async fn time_may_be_the_owners() {
    let cluster = ClusterConfig::default().now_ms(5000).build();
    let server = Server::start(cluster, ServeOptions::default().own_clock()).await.unwrap();
    assert_eq!(server.with(|cluster| cluster.now_ms()), 5000);
    let real = serve().await;
    assert!(real.with(|cluster| cluster.now_ms()) > 1_700_000_000_000);
}

#[tokio::test]
async fn nobody_is_there_after_shutdown() {
    let server = serve().await;
    let address = server.pd_address();
    let mut pd = Client::connect(&address).await;
    server.shutdown().await;
    let request = pdpb::GetMembersRequest::default();
    let lost = pd.call::<pdpb::GetMembersResponse>(Rpc::PdGetMembers, &request).await;
    assert!(matches!(lost, Err(Lost::Connection)), "{lost:?}");
    assert!(Client::try_connect(&address).await.is_err());
    server.with(|cluster| assert_eq!(cluster.stores().count(), 3));
}

/// A one-phase commit, an async commit that is split under its second batch, and the check of what
/// it left: over the wire as in memory.
#[tokio::test]
async fn ways_to_commit() {
    let server = serve().await;
    let home = |key: &[u8]| {
        server.with(|cluster| {
            let region = cluster.region_of(key).unwrap().id;
            let store = cluster.leader_of(region).unwrap();
            let address = cluster.store(store).unwrap().address.clone();
            (address, Some(Box::new(cluster.context_for(region))))
        })
    };
    let prewrite = |key: &'static str, start_version| {
        let (address, context) = home(key.as_bytes());
        let mutation = kvrpcpb::Mutation {
            key: Bytes::from_static(key.as_bytes()),
            value: "v".into(),
            ..Default::default()
        };
        let request = kvrpcpb::PrewriteRequest {
            context,
            mutations: vec![mutation],
            primary_lock: "a".into(),
            start_version,
            lock_ttl: 3000,
            min_commit_ts: start_version + 1,
            ..Default::default()
        };
        (address, request)
    };
    let (address, request) = prewrite("a", 10);
    let mut store = Client::connect(&address).await;
    let at_once = kvrpcpb::PrewriteRequest { try_one_pc: true, ..request };
    let done: kvrpcpb::PrewriteResponse = store.call(Rpc::KvPrewrite, &at_once).await.unwrap();
    assert_eq!((done.errors.len(), done.one_pc_commit_ts), (0, 11));

    server.with(|cluster| {
        cluster.faults().next(On::rpc(Rpc::KvPrewrite).after(1), Event::Split("c".into()));
    });
    let secondaries = vec![Bytes::from_static(b"b")];
    let mut told = Vec::new();
    for (key, secondaries) in [("a", secondaries), ("b", vec![])] {
        let (address, request) = prewrite(key, 20);
        let request = kvrpcpb::PrewriteRequest { use_async_commit: true, secondaries, ..request };
        let mut store = Client::connect(&address).await;
        let response: kvrpcpb::PrewriteResponse =
            store.call(Rpc::KvPrewrite, &request).await.unwrap();
        told.push((response.min_commit_ts, response.region_error.is_some()));
    }
    assert_eq!(told, [(21, false), (0, true)]);
    server.with(|cluster| {
        assert_eq!(cluster.locks_of(20)[0].secondaries, ["b"]);
        assert_eq!(cluster.expire(20), 1);
    });
    let (address, context) = home(b"b");
    let request =
        kvrpcpb::CheckSecondaryLocksRequest { context, keys: vec!["b".into()], start_version: 20 };
    let mut store = Client::connect(&address).await;
    let found: kvrpcpb::CheckSecondaryLocksResponse =
        store.call(Rpc::KvCheckSecondaryLocks, &request).await.unwrap();
    assert_eq!(found, kvrpcpb::CheckSecondaryLocksResponse::default(), "rolled back");
    let (address, request) = prewrite("b", 20);
    let mut store = Client::connect(&address).await;
    let late: kvrpcpb::PrewriteResponse = store.call(Rpc::KvPrewrite, &request).await.unwrap();
    assert!(late.errors[0].conflict.is_some());
}
