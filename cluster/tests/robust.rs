//! No request makes the cluster panic, whatever its bytes are: other people's clients are pointed
//! at it, and so is whatever else finds the port.

use std::collections::BTreeSet;

use anatase_cluster::{Cluster, ClusterConfig, PdMetadata, Served, Ticket};
use anatase_proto::{
    kvrpcpb::{
        self, Context, KeyRange, KvPair, Mutation, Op, TxnInfo,
        prewrite_request::ForUpdateTsConstraint,
    },
    pdpb,
    prost::Message,
    rpc::Rpc,
    tikvpb,
};
use bytes::Bytes;
use quickcheck::{Arbitrary, Gen, QuickCheck};

/// Numbers at which arithmetic goes wrong, if it does.
fn number(g: &mut Gen) -> u64 {
    match u8::arbitrary(g) % 6 {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX - 1,
        3 => i64::MAX as u64,
        4 => u64::from(u8::arbitrary(g) % 8) << 18,
        _ => u64::from(u8::arbitrary(g) % 32),
    }
}

fn key(g: &mut Gen) -> Bytes {
    let keys = ["", "a", "b", "m", "m\0", "z", "\u{10FFFF}"];
    Bytes::from_static(g.choose(&keys).unwrap().as_bytes())
}

fn keys(g: &mut Gen) -> Vec<Bytes> {
    (0..u8::arbitrary(g) % 4).map(|_| key(g)).collect()
}

/// A request that gets past the first checks more often than not, with anything behind them.
fn request(g: &mut Gen, cluster: &Cluster) -> (u64, Rpc, Vec<u8>) {
    let regions: Vec<u64> = cluster.regions().map(|region| region.id).collect();
    let region = *g.choose(&regions).unwrap();
    let store = cluster.leader_of(region).unwrap_or(1);
    let mut set = cluster.context_for(region);
    if bool::arbitrary(g) {
        set.isolation_level = i32::from(i8::arbitrary(g) % 4);
        set.resolved_locks = vec![number(g)];
        set.committed_locks = vec![number(g)];
        set.stale_read = bool::arbitrary(g);
        set.replica_read = bool::arbitrary(g);
        set.api_version = i32::from(u8::arbitrary(g) % 12 / 10);
        set.term = if u8::arbitrary(g) % 8 == 0 { number(g) } else { 0 };
    }
    let context: Option<Box<Context>> = Some(Box::new(set));
    let (limit, flag) = (number(g) as u32, bool::arbitrary(g));
    let (start_version, version) = (number(g), number(g));
    let (rpc, body) = match u8::arbitrary(g) % 24 {
        0 => (Rpc::KvGet, {
            let key = key(g);
            kvrpcpb::GetRequest { context, key, version, need_commit_ts: flag }.encode_to_vec()
        }),
        1 => (Rpc::KvScan, {
            let request = kvrpcpb::ScanRequest {
                context,
                start_key: key(g),
                end_key: key(g),
                limit,
                version,
                reverse: flag,
                sample_step: number(g) as u32,
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        2..=5 => (Rpc::KvPrewrite, {
            let mutations = keys(g).into_iter().map(|key| Mutation {
                op: i32::from(u8::arbitrary(g) % 10),
                key,
                value: Bytes::from_static(b"v"),
                assertion: i32::from(u8::arbitrary(g) % 4),
            });
            let request = kvrpcpb::PrewriteRequest {
                context,
                mutations: mutations.collect(),
                primary_lock: key(g),
                start_version,
                lock_ttl: number(g),
                min_commit_ts: number(g),
                assertion_level: i32::from(u8::arbitrary(g) % 4),
                for_update_ts: if flag { number(g) } else { 0 },
                pessimistic_actions: (0..u8::arbitrary(g) % 5)
                    .map(|_| i32::from(u8::arbitrary(g) % 4))
                    .collect(),
                for_update_ts_constraints: (0..u8::arbitrary(g) % 2)
                    .map(|_| ForUpdateTsConstraint {
                        index: u32::from(u8::arbitrary(g) % 3),
                        expected_for_update_ts: number(g),
                    })
                    .collect(),
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        6 => (Rpc::KvCommit, {
            let keys = keys(g);
            let request = kvrpcpb::CommitRequest {
                context,
                start_version,
                keys,
                commit_version: version,
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        7 => (Rpc::KvBatchRollback, {
            let keys = keys(g);
            kvrpcpb::BatchRollbackRequest { context, start_version, keys, ..Default::default() }
                .encode_to_vec()
        }),
        8 => (Rpc::KvCleanup, {
            let key = key(g);
            kvrpcpb::CleanupRequest { context, key, start_version, current_ts: version }
                .encode_to_vec()
        }),
        9 | 10 => (Rpc::KvCheckTxnStatus, {
            let request = kvrpcpb::CheckTxnStatusRequest {
                context,
                primary_key: key(g),
                lock_ts: start_version,
                caller_start_ts: number(g),
                current_ts: version,
                rollback_if_not_exist: flag,
                verify_is_primary: bool::arbitrary(g),
                resolving_pessimistic_lock: bool::arbitrary(g),
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        11 => (Rpc::KvResolveLock, {
            let infos = [TxnInfo { txn: number(g), status: number(g), ..Default::default() }];
            let request = kvrpcpb::ResolveLockRequest {
                context,
                start_version,
                commit_version: version,
                txn_infos: infos.to_vec(),
                keys: keys(g),
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        12 => (Rpc::KvScanLock, {
            let request = kvrpcpb::ScanLockRequest {
                context,
                max_version: version,
                start_key: key(g),
                end_key: key(g),
                limit,
            };
            request.encode_to_vec()
        }),
        13 => (Rpc::KvTxnHeartBeat, {
            let request = kvrpcpb::TxnHeartBeatRequest {
                context,
                primary_lock: key(g),
                start_version,
                advise_lock_ttl: version,
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        14 => (Rpc::KvDeleteRange, {
            let request = kvrpcpb::DeleteRangeRequest {
                context,
                start_key: key(g),
                end_key: key(g),
                notify_only: flag,
            };
            request.encode_to_vec()
        }),
        15 => (Rpc::RawScan, {
            let request = kvrpcpb::RawScanRequest {
                context,
                start_key: key(g),
                end_key: key(g),
                limit,
                reverse: flag,
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        16 => (Rpc::RawBatchPut, {
            let pairs = keys(g).into_iter().map(|key| KvPair { key, ..Default::default() });
            let pairs = pairs.collect();
            let ttls = vec![number(g); usize::from(u8::arbitrary(g) % 3)];
            kvrpcpb::RawBatchPutRequest { context, pairs, ttls, ..Default::default() }
                .encode_to_vec()
        }),
        17 => (Rpc::RawBatchScan, {
            let ranges =
                keys(g).into_iter().map(|key| KeyRange { start_key: key, ..Default::default() });
            let ranges = ranges.collect();
            kvrpcpb::RawBatchScanRequest {
                context,
                ranges,
                each_limit: limit,
                ..Default::default()
            }
            .encode_to_vec()
        }),
        18..=21 => (Rpc::KvPessimisticLock, {
            // Small numbers, so that transactions meet.
            let small = |g: &mut Gen| u64::from(u8::arbitrary(g) % 6);
            let odd = u8::arbitrary(g) % 8 == 0;
            let mutations = keys(g).into_iter().map(|key| Mutation {
                op: if odd { number(g) as i32 } else { Op::PessimisticLock as i32 },
                key,
                assertion: i32::from(u8::arbitrary(g) % 4),
                ..Default::default()
            });
            let request = kvrpcpb::PessimisticLockRequest {
                context,
                mutations: mutations.collect(),
                primary_lock: key(g),
                start_version: if odd { start_version } else { small(g) },
                for_update_ts: if odd { version } else { small(g) },
                lock_ttl: number(g),
                min_commit_ts: number(g),
                is_first_lock: u8::arbitrary(g) % 4 == 0,
                wait_timeout: if odd { number(g) as i64 } else { 1000 },
                return_values: flag,
                check_existence: bool::arbitrary(g),
                lock_only_if_exists: flag && bool::arbitrary(g),
                wake_up_mode: i32::from(u8::arbitrary(g) % 3),
                ..Default::default()
            };
            request.encode_to_vec()
        }),
        22 => (Rpc::KvPessimisticRollback, {
            let request = kvrpcpb::PessimisticRollbackRequest {
                context,
                start_version: u64::from(u8::arbitrary(g) % 6),
                for_update_ts: number(g),
                keys: keys(g),
            };
            request.encode_to_vec()
        }),
        _ => (Rpc::SplitRegion, {
            let split_keys = keys(g);
            kvrpcpb::SplitRegionRequest {
                context,
                split_keys,
                is_raw_kv: flag,
                ..Default::default()
            }
            .encode_to_vec()
        }),
    };
    (store, rpc, body)
}

fn pd_request(g: &mut Gen, cluster: &Cluster) -> (Rpc, Vec<u8>) {
    let header =
        Some(pdpb::RequestHeader { cluster_id: cluster.cluster_id(), ..Default::default() });
    match u8::arbitrary(g) % 6 {
        0 => (Rpc::PdTso, {
            pdpb::TsoRequest { header, count: number(g) as u32, ..Default::default() }
                .encode_to_vec()
        }),
        1 => (Rpc::PdScanRegions, {
            let (start_key, end_key, limit) = (key(g), key(g), number(g) as i32);
            pdpb::ScanRegionsRequest { header, start_key, end_key, limit }.encode_to_vec()
        }),
        2 => (Rpc::PdQueryRegion, {
            let (ids, prev_keys) = (vec![number(g)], keys(g));
            pdpb::QueryRegionRequest { header, ids, keys: keys(g), prev_keys, ..Default::default() }
                .encode_to_vec()
        }),
        3 => (Rpc::PdUpdateServiceGcSafePoint, {
            let (ttl, safe_point) = (number(g) as i64, number(g));
            let service_id = key(g);
            pdpb::UpdateServiceGcSafePointRequest { header, service_id, ttl, safe_point }
                .encode_to_vec()
        }),
        4 => (Rpc::PdAdvanceTxnSafePoint, {
            let target = number(g);
            pdpb::AdvanceTxnSafePointRequest { header, target, ..Default::default() }
                .encode_to_vec()
        }),
        _ => (Rpc::PdSplitRegions, {
            let split_keys = keys(g);
            pdpb::SplitRegionsRequest { header, split_keys, ..Default::default() }.encode_to_vec()
        }),
    }
}

/// Damages an encoding now and then.
fn maybe_damage(g: &mut Gen, mut body: Vec<u8>) -> Bytes {
    if u8::arbitrary(g) % 4 == 0 {
        for _ in 0..=u8::arbitrary(g) % 3 {
            if let Some(at) = (!body.is_empty()).then(|| usize::arbitrary(g) % body.len()) {
                body[at] ^= u8::arbitrary(g);
            }
        }
        if bool::arbitrary(g) {
            body.truncate(usize::arbitrary(g) % (body.len() + 1));
        }
    }
    body.into()
}

#[derive(Clone, Debug)]
struct Noise(u64);

impl Arbitrary for Noise {
    fn arbitrary(g: &mut Gen) -> Self {
        Noise(u64::arbitrary(g))
    }
}

#[test]
fn nothing_panics() {
    fn storm(Noise(seed): Noise) -> bool {
        let g = &mut Gen::from_size_and_seed(30, seed);
        let mut cluster = ClusterConfig::default().split_keys(["m"]).pd_members(2).build();
        let mut parked = BTreeSet::new();
        for _ in 0..60 {
            match u8::arbitrary(g) % 16 {
                0 => {
                    let rpc = *g.choose(Rpc::ALL).unwrap();
                    let body: Vec<u8> = Arbitrary::arbitrary(g);
                    let body = Bytes::from(body);
                    let _ = cluster.handle(1, rpc, body.clone());
                    let _ = cluster.handle_pd(0, rpc, &PdMetadata::default(), body.clone());
                    let _ = cluster.handle_batch(1, body);
                }
                1..=3 => {
                    let (rpc, body) = pd_request(g, &cluster);
                    let body = maybe_damage(g, body);
                    let _ = cluster.handle_pd(0, rpc, &PdMetadata::default(), body);
                }
                4 => {
                    let region = cluster.regions().next().map_or(0, |region| region.id);
                    let store = number(g);
                    cluster.transfer_leader(region, store % 5);
                    cluster.split_raw(key(g));
                    cluster.gc(number(g));
                    cluster.set_now_ms(number(g) >> 18);
                    cluster.advance(std::time::Duration::from_millis(number(g)));
                }
                _ => {
                    let (store, rpc, body) = request(g, &cluster);
                    let body = maybe_damage(g, body);
                    match cluster.handle_or_park(store, rpc, body) {
                        Served::Parked(ticket) => drop(parked.insert(ticket)),
                        Served::Answered(_) => {}
                    }
                }
            }
            tell(&mut cluster, &mut parked);
        }
        // Nobody waits for ever.
        cluster.set_now_ms(u64::MAX);
        tell(&mut cluster, &mut parked);
        parked.is_empty() && cluster.parked().is_empty() && cluster.next_wake_ms().is_none()
    }
    /// Whoever was parked is told once.
    fn tell(cluster: &mut Cluster, parked: &mut BTreeSet<Ticket>) {
        for woken in cluster.take_woken() {
            assert!(parked.remove(&woken.ticket), "{woken:?}");
        }
    }
    QuickCheck::new().tests(500).quickcheck(storm as fn(Noise) -> bool);
}

#[test]
fn the_same_questions_get_the_same_answers() {
    let g = &mut Gen::from_size_and_seed(30, 7);
    let mut one = ClusterConfig::default().split_keys(["m"]).build();
    let mut other = one.clone();
    for _ in 0..500 {
        let (store, rpc, body) = request(g, &one);
        let body = Bytes::from(body);
        let answer = one.handle_or_park(store, rpc, body.clone());
        assert_eq!(answer, other.handle_or_park(store, rpc, body));
        assert_eq!(one.take_woken(), other.take_woken());
    }
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

#[test]
fn an_empty_batch_is_answered_by_nothing() {
    let mut cluster = ClusterConfig::default().build();
    let answer = cluster.call_batch(1, tikvpb::BatchCommandsRequest::default());
    assert!(answer.messages.is_empty() && answer.end.is_none());
}

#[test]
fn ops_are_what_they_are_on_the_wire() {
    // The storm draws numbers; this says that they cover every op.
    assert!((0..10).filter(|op| Op::try_from(*op).is_ok()).count() == 9);
}
