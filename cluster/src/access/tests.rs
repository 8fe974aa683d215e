//! The table of [`super`], row by row, and the order of its rows.

use anatase_proto::{
    errorpb::Error,
    kvrpcpb::{Context, DiskFullOpt, RawGetRequest, RawPutRequest},
    metapb,
    rpc::Rpc,
};
use bytes::Bytes;

use crate::{
    Cluster, ClusterConfig, Code, Disk, Failure, Fault, Loss, On, RegionFault, RegionId, Role,
    Status, StoreId, testing::key,
};

fn get(cluster: &mut Cluster, at: StoreId, context: Context) -> Result<(), Box<Error>> {
    let request =
        RawGetRequest { context: Some(Box::new(context)), key: key("k"), ..Default::default() };
    let response = cluster.call(at, request).result.unwrap();
    response.region_error.map_or(Ok(()), Err)
}

fn put(cluster: &mut Cluster, at: StoreId, context: Context) -> Result<(), Box<Error>> {
    let request =
        RawPutRequest { context: Some(Box::new(context)), key: key("k"), ..Default::default() };
    let response = cluster.call(at, request).result.unwrap();
    response.region_error.map_or(Ok(()), Err)
}

/// Three stores, one region led by store 1, and a good context.
fn three() -> (Cluster, RegionId, Context) {
    let cluster = ClusterConfig::default().build();
    let region = cluster.region_of_raw(b"k").unwrap().id;
    let context = cluster.context_for(region);
    assert_eq!(cluster.leader_of(region), Some(1));
    (cluster, region, context)
}

fn peer(cluster: &Cluster, region: RegionId, store: StoreId) -> metapb::Peer {
    cluster.region(region).unwrap().peer_on(store).unwrap().to_proto()
}

#[test]
fn a_good_request_passes() {
    let (mut cluster, _, context) = three();
    assert_eq!(get(&mut cluster, 1, context), Ok(()));
}

#[test]
fn the_wrong_store() {
    let (mut cluster, _, context) = three();
    let error = get(&mut cluster, 2, context).unwrap_err().store_not_match.unwrap();
    assert_eq!((error.request_store_id, error.actual_store_id), (1, 2));
    assert!(get(&mut cluster, 1, Context::default()).unwrap_err().store_not_match.is_some());
}

#[test]
fn no_such_region_here() {
    let (mut cluster, region, context) = three();
    let error = get(&mut cluster, 1, Context { region_id: 999, ..context.clone() }).unwrap_err();
    assert_eq!(error.region_not_found.unwrap().region_id, 999);
    cluster.move_peer(region, 1, 1);
    cluster.transfer_leader(region, 2);
    cluster.remove_peer(region, 1);
    let error = get(&mut cluster, 1, context).unwrap_err();
    assert_eq!(error.region_not_found.unwrap().region_id, region);
}

#[test]
fn another_peer_than_the_one_here() {
    let (mut cluster, region, mut context) = three();
    cluster.transfer_leader(region, 2);
    cluster.remove_peer(region, 1);
    cluster.add_peer(region, 1, Role::Voter);
    let here = peer(&cluster, region, 1).id;
    let error = get(&mut cluster, 1, context.clone()).unwrap_err().mismatch_peer_id.unwrap();
    assert_eq!((error.request_peer_id, error.store_peer_id), (context.peer.unwrap().id, here));
    context.peer.as_mut().unwrap().id = here;
    assert!(get(&mut cluster, 1, context).unwrap_err().not_leader.is_some());
}

#[test]
fn not_the_leader_tells_who_is_before_it_looks_at_the_epoch() {
    let (mut cluster, region, context) = three();
    cluster.transfer_leader(region, 3);
    cluster.split_raw("a");
    let error = get(&mut cluster, 1, context.clone()).unwrap_err();
    assert!(error.epoch_not_match.is_none());
    let error = error.not_leader.unwrap();
    assert_eq!((error.region_id, error.leader), (region, Some(peer(&cluster, region, 3))));
    cluster.remove_leader(region);
    let error = get(&mut cluster, 1, context).unwrap_err().not_leader.unwrap();
    assert_eq!(error.leader, None);
}

#[test]
fn replicas_serve_reads_that_ask_for_it() {
    let (mut cluster, region, context) = three();
    let follower = Context { peer: Some(peer(&cluster, region, 2)), ..context };
    assert!(get(&mut cluster, 2, follower.clone()).unwrap_err().not_leader.is_some());
    let replica = Context { replica_read: true, ..follower.clone() };
    assert_eq!(get(&mut cluster, 2, replica.clone()), Ok(()));
    assert!(put(&mut cluster, 2, replica).unwrap_err().not_leader.is_some(), "not writes");
    assert_eq!(get(&mut cluster, 2, Context { stale_read: true, ..follower }), Ok(()));
}

#[test]
fn learners_serve_replica_reads_and_witnesses_nothing() {
    let mut cluster = ClusterConfig::default().stores(5).build();
    let region = cluster.region_of_raw(b"k").unwrap().id;
    cluster.add_peer(region, 4, Role::Learner);
    cluster.add_peer(region, 5, Role::Witness);
    let on = |cluster: &Cluster, store| Context {
        peer: Some(peer(cluster, region, store)),
        replica_read: true,
        ..cluster.context_for(region)
    };
    let (learner, witness) = (on(&cluster, 4), on(&cluster, 5));
    assert_eq!(get(&mut cluster, 4, learner), Ok(()));
    assert!(get(&mut cluster, 5, witness).unwrap_err().is_witness.is_some());
    assert!(!cluster.transfer_leader(region, 4) && !cluster.transfer_leader(region, 5));
}

#[test]
fn a_term_more_than_one_behind() {
    let (mut cluster, region, context) = three();
    let term = cluster.region(region).unwrap().term;
    cluster.transfer_leader(region, 2);
    cluster.transfer_leader(region, 1);
    let at = |term| Context { term, ..context.clone() };
    assert_eq!(get(&mut cluster, 1, at(term + 1)), Ok(()));
    assert!(get(&mut cluster, 1, at(term)).unwrap_err().stale_command.is_some());
    assert_eq!(get(&mut cluster, 1, at(u64::MAX)), Ok(()));
}

// Epochs.

fn with_version(context: &Context, change: impl FnOnce(u64) -> u64) -> Context {
    let mut context = context.clone();
    let epoch = context.region_epoch.as_mut().unwrap();
    epoch.version = change(epoch.version);
    context
}

fn told(result: Result<(), Box<Error>>) -> Vec<(RegionId, Bytes, Bytes)> {
    let regions = result.unwrap_err().epoch_not_match.unwrap().current_regions;
    regions.into_iter().map(|region| (region.id, region.start_key, region.end_key)).collect()
}

#[test]
fn versions_must_be_equal_and_conf_versions_do_not_matter() {
    let (mut cluster, region, context) = three();
    cluster.split_raw("a");
    let fresh = cluster.context_for(region);
    assert_eq!(get(&mut cluster, 1, fresh.clone()), Ok(()));
    assert!(get(&mut cluster, 1, context.clone()).unwrap_err().epoch_not_match.is_some());
    let ahead = with_version(&fresh, |version| version + 1);
    let all = told(get(&mut cluster, 1, ahead));
    assert_eq!(all.len(), 1, "a request that knows more is told no neighbours");
    let mut other = fresh.clone();
    other.region_epoch.as_mut().unwrap().conf_ver += 7;
    assert_eq!(get(&mut cluster, 1, other), Ok(()));
    let none = Context { region_epoch: None, ..fresh };
    let error = get(&mut cluster, 1, none).unwrap_err();
    assert!(error.epoch_not_match.is_none() && error.message.contains("missing epoch"));
}

#[test]
fn after_a_split_the_region_and_what_was_split_off_are_told() {
    let (mut cluster, region, context) = three();
    let left = cluster.split_raw("f").unwrap();
    let all = told(get(&mut cluster, 1, context.clone()));
    assert_eq!(all, [(region, key("f"), key("")), (left, key(""), key("f"))]);
    let middle = cluster.split_raw("j").unwrap();
    let all = told(get(&mut cluster, 1, context));
    assert_eq!(
        all,
        [(region, key("j"), key("")), (middle, key("f"), key("j")), (left, key(""), key("f"))],
        "two versions behind: two neighbours"
    );
}

#[test]
fn with_left_derivation_neighbours_are_to_the_right() {
    let mut cluster = ClusterConfig::default().right_derive(false).build();
    let region = cluster.region_of_raw(b"k").unwrap().id;
    let context = cluster.context_for(region);
    let right = cluster.split_raw("x").unwrap();
    let all = told(get(&mut cluster, 1, context));
    assert_eq!(all, [(region, key(""), key("x")), (right, key("x"), key(""))]);
}

#[test]
fn a_neighbour_that_is_not_on_the_store_is_not_told() {
    let mut cluster = ClusterConfig::default().stores(4).build();
    let region = cluster.region_of_raw(b"k").unwrap().id;
    let context = cluster.context_for(region);
    let left = cluster.split_raw("f").unwrap();
    cluster.move_peer(left, 1, 4);
    assert_eq!(told(get(&mut cluster, 1, context)).len(), 1);
}

#[test]
fn a_merged_region_is_gone_and_its_heir_has_another_version() {
    let mut cluster = ClusterConfig::default().split_keys_raw(["m"]).build();
    let ids: Vec<_> = cluster.regions().map(|region| region.id).collect();
    cluster.transfer_leader(ids[1], 1);
    let old: Vec<_> = ids.iter().map(|id| cluster.context_for(*id)).collect();
    assert!(cluster.merge(ids[1], ids[0]));
    let error = get(&mut cluster, 1, old[1].clone()).unwrap_err();
    assert!(error.region_not_found.is_some());
    let all = told(get(&mut cluster, 1, old[0].clone()));
    assert_eq!(all[0], (ids[0], key(""), key("")));
}

// Disks, quorums, stores, the cluster's id.

#[test]
fn full_disks_refuse_writes_that_do_not_insist() {
    let (mut cluster, _, context) = three();
    let opt = |opt: DiskFullOpt| Context { disk_full_opt: opt as i32, ..context.clone() };
    let opts = [
        DiskFullOpt::NotAllowedOnFull,
        DiskFullOpt::AllowedOnAlmostFull,
        DiskFullOpt::AllowedOnAlreadyFull,
    ];
    for (disk, allowed) in [
        (Disk::Normal, [true, true, true]),
        (Disk::AlmostFull, [false, true, true]),
        (Disk::Full, [false, false, true]),
    ] {
        cluster.set_disk(1, disk);
        let results = opts.map(|it| put(&mut cluster, 1, opt(it)));
        assert_eq!(results.each_ref().map(|result| result.is_ok()), allowed, "{disk:?}");
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.disk_full.unwrap().store_id, [1]);
        }
        assert_eq!(get(&mut cluster, 1, context.clone()), Ok(()));
    }
}

fn failure(cluster: &mut Cluster, at: StoreId, context: &Context) -> Option<Failure> {
    let context = Some(Box::new(context.clone()));
    let request = RawGetRequest { context, key: key("k"), ..Default::default() };
    cluster.call(at, request).result.err()
}

#[test]
fn a_leader_without_a_quorum_says_nothing() {
    let (mut cluster, _, context) = three();
    cluster.stop_store(2);
    assert_eq!(failure(&mut cluster, 1, &context), None);
    cluster.stop_store(3);
    assert_eq!(failure(&mut cluster, 1, &context), Some(Failure::Lost(Loss::Silent)));
    let stale = Context { stale_read: true, ..context };
    assert_eq!(failure(&mut cluster, 1, &stale), None, "a stale read asks nobody");
}

#[test]
fn a_stopped_store_refuses_connections() {
    let (mut cluster, _, context) = three();
    cluster.stop_store(1);
    assert_eq!(failure(&mut cluster, 1, &context), Some(Failure::Lost(Loss::Refused)));
    cluster.start_store(1);
    assert_eq!(failure(&mut cluster, 1, &context), None);
    assert_eq!(failure(&mut cluster, 77, &context), Some(Failure::Lost(Loss::Refused)));
}

#[test]
fn another_clusters_id_is_an_invalid_argument_and_none_is_fine() {
    let (mut cluster, _, context) = three();
    let with = |cluster_id| Context { cluster_id, ..context.clone() };
    assert_eq!(failure(&mut cluster, 1, &with(0)), None);
    let Some(Failure::Status(status)) = failure(&mut cluster, 1, &with(5)) else { panic!() };
    assert_eq!(status.code, Code::InvalidArgument);
}

// Faults.

#[test]
fn a_dropped_request_is_not_executed_and_a_dropped_response_is() {
    let (mut cluster, _, context) = three();
    for (fault, executed) in [
        (Fault::DropRequest(Loss::Reset), false),
        (Fault::Status(Status::new(Code::Unavailable, "no")), false),
        (RegionFault::StaleCommand.into(), false),
        (Fault::DropResponse(Loss::Silent), true),
    ] {
        let mut cluster = cluster.clone();
        cluster.faults().next(On::rpc(Rpc::RawPut), fault.clone());
        let request = RawPutRequest {
            context: Some(Box::new(context.clone())),
            key: key("k"),
            ..Default::default()
        };
        let answer = cluster.call(1, request);
        assert_eq!(cluster.raw_pairs("default").count(), usize::from(executed), "{fault:?}");
        match fault {
            Fault::Region(_) => {
                assert!(answer.result.unwrap().region_error.unwrap().stale_command.is_some());
            }
            _ => assert!(answer.result.is_err()),
        }
    }
    cluster.faults().next(On::any(), Fault::Delay(std::time::Duration::from_secs(1)));
    let request =
        RawGetRequest { context: Some(Box::new(context)), key: key("k"), ..Default::default() };
    assert_eq!(cluster.call(1, request).delay.as_secs(), 1);
}

#[test]
fn every_region_error_can_be_asked_for() {
    let (mut cluster, region, context) = three();
    let text = || "why".to_owned();
    let faults = [
        RegionFault::NotLeader { leader: Some(2) },
        RegionFault::RegionNotFound,
        RegionFault::KeyNotInRegion { key: key("x") },
        RegionFault::EpochNotMatch { with_regions: true },
        RegionFault::busy("why"),
        RegionFault::StaleCommand,
        RegionFault::StoreNotMatch { wanted: 9 },
        RegionFault::RaftEntryTooLarge { entry_size: 9 },
        RegionFault::MaxTimestampNotSynced,
        RegionFault::ReadIndexNotReady { reason: text() },
        RegionFault::ProposalInMergingMode,
        RegionFault::DataIsNotReady { safe_ts: 9 },
        RegionFault::RegionNotInitialized,
        RegionFault::DiskFull { reason: text() },
        RegionFault::RecoveryInProgress,
        RegionFault::FlashbackInProgress { start_ts: 9 },
        RegionFault::FlashbackNotPrepared,
        RegionFault::IsWitness,
        RegionFault::MismatchPeerId { store_peer: 9 },
        RegionFault::BucketVersionNotMatch { version: 9, keys: vec![] },
        RegionFault::UndeterminedResult { message: text() },
        RegionFault::Unknown { message: text() },
    ];
    let mut errors: Vec<Error> = Vec::new();
    for fault in faults {
        cluster.faults().next(On::any().region(region), fault);
        errors.push(*get(&mut cluster, 1, context.clone()).unwrap_err());
    }
    assert_eq!(get(&mut cluster, 1, context), Ok(()));
    let leader = errors[0].not_leader.as_ref().unwrap().leader;
    assert_eq!(leader, Some(peer(&cluster, region, 2)));
    // Each has one variant set, all different: without their texts no two are alike.
    for error in &mut errors {
        error.message.clear();
    }
    for (at, error) in errors.iter().enumerate() {
        assert!(!errors[at + 1..].contains(error), "{error:?}");
    }
    assert_eq!(errors.last(), Some(&Error::default()));
}
