//! What a cluster says: the truth, something else, or nonsense.

use anatase_core::wire::{Head, Response, TimestampBatch};
use anatase_core::{Api, Call, Command, Failure, GrpcStatus, KeyMode, Timestamp};
use anatase_proto::keyspacepb::{KeyspaceMeta, LoadKeyspaceResponse, keyspace_meta};
use anatase_proto::rpc::Rpc;
use anatase_proto::{errorpb, kvrpcpb, metapb, pdpb};
use bytes::Bytes;

use super::chance::Chance;
use super::script::{KEYS, key};
use super::support::{bound, yes};

/// A region as it is now.
#[derive(Clone, Debug)]
struct Land {
    id: u64,
    start: Bytes,
    end: Bytes,
    version: u64,
    conf_ver: u64,
    leader: u64,
}

/// The regions of a cluster, with their past, and its clock.
#[derive(Clone, Debug)]
pub(crate) struct World {
    mode: KeyMode,
    /// What stands before each key: nothing, or the default keyspace of API V2.
    prefix: &'static [u8],
    /// The last is the present. Each covers everything, left to right.
    maps: Vec<Vec<Land>>,
    next_id: u64,
    last: u64,
    /// So many requests of transactions will meet a lock of another one.
    pub(crate) foreign: u64,
}

impl World {
    pub(crate) fn new(mode: KeyMode, api: &Api) -> Self {
        let prefix: &[u8] = match (api, mode) {
            (Api::V2 { .. }, KeyMode::Raw) => b"r\0\0\0",
            (Api::V2 { .. }, KeyMode::Txn) => b"x\0\0\0",
            _ => b"",
        };
        let all = Land {
            id: 1,
            start: Bytes::new(),
            end: Bytes::new(),
            version: 1,
            conf_ver: 1,
            leader: 1,
        };
        let last = Timestamp::compose(2_000, 0).expect("a timestamp").version();
        Self { mode, prefix, maps: vec![vec![all]], next_id: 2, last, foreign: 0 }
    }

    /// A key as it is on the wire.
    fn wire(&self, key: &[u8]) -> Bytes {
        [self.prefix, key].concat().into()
    }

    /// Some key on the wire; now and then, where there are keyspaces, one of another.
    fn key(&self, chance: &mut Chance) -> Bytes {
        let key = key(chance);
        if self.prefix.is_empty() || chance.one_in(16) { key } else { self.wire(&key) }
    }

    fn border(&self, key: &[u8]) -> Bytes {
        // Under API V2 raw keys are memcomparable to PD, too.
        let mode = if self.prefix.is_empty() { self.mode } else { KeyMode::Txn };
        bound(mode, &self.wire(key))
    }

    fn present(&self) -> &[Land] {
        &self.maps[self.maps.len() - 1]
    }

    /// A split, or a change of leader.
    pub(crate) fn change(&mut self, chance: &mut Chance) {
        let mut map = self.present().to_vec();
        let border = self.border(chance.pick(&KEYS));
        let index = map.partition_point(|land| land.start <= border) - 1;
        let land = &mut map[index];
        if chance.one_in(3) || border == land.start || border.is_empty() {
            land.leader = 1 + chance.below(3);
            land.conf_ver += chance.below(2);
        } else {
            land.version += 1;
            let right = Land { id: self.next_id, start: border.clone(), ..land.clone() };
            self.next_id += 1;
            land.end = border;
            map.insert(index + 1, right);
        }
        self.maps.push(map);
    }

    fn region(&self, land: &Land) -> metapb::Region {
        metapb::Region {
            id: land.id,
            start_key: land.start.clone(),
            end_key: land.end.clone(),
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver: land.conf_ver,
                version: land.version,
            }),
            peers: (1..=3).map(|store| peer(land.id, store)).collect(),
            ..Default::default()
        }
    }

    // ---- the truth -----------------------------------------------------------------------------

    /// What a healthy cluster answers. A healthy cluster is empty.
    pub(crate) fn good(&mut self, command: &Command) -> Response {
        let call = match command {
            Command::Timestamps(ask) => {
                self.last += u64::from(ask.count);
                let last = Timestamp::from_version(self.last).expect("a timestamp");
                return Response::Timestamps(TimestampBatch { last, count: ask.count });
            }
            Command::Call(call) => call,
            Command::Abort { .. } => unreachable!("nobody answers an abort"),
        };
        match call.request.rpc {
            Rpc::PdGetMembers => Response::GetMembers(members("pd:1", Some("pd:1"), 7).into()),
            Rpc::PdGetRegion => Response::GetRegion(self.find(self.present(), call, false).into()),
            Rpc::PdGetPrevRegion => {
                Response::GetPrevRegion(self.find(self.present(), call, true).into())
            }
            Rpc::PdGetRegionById => {
                Response::GetRegionById(self.by_id(self.present(), call).into())
            }
            Rpc::PdBatchScanRegions | Rpc::PdScanRegions => {
                self.scanned(call, header(7, None), self.scan(self.present(), call))
            }
            Rpc::PdGetStore => {
                let id = store_asked(call);
                let address = format!("store{id}:1");
                let store = metapb::Store { id, address, ..Default::default() };
                let header = header(7, None);
                let message = pdpb::GetStoreResponse { header, store: Some(store) };
                Response::GetStore(message.into())
            }
            Rpc::LoadKeyspace => Response::LoadKeyspace(keyspace(0, 0, None).into()),
            Rpc::PdGetMinTs => Response::GetMinTs(Default::default()),
            Rpc::PdGetExternalTimestamp => Response::GetExternalTimestamp(Default::default()),
            Rpc::PdSetExternalTimestamp => Response::SetExternalTimestamp(Default::default()),
            Rpc::PdGetGcState => Response::GetGcState(Default::default()),
            Rpc::KvCheckTxnStatus => self.status(call),
            Rpc::KvGet | Rpc::KvBatchGet | Rpc::KvScan | Rpc::KvPrewrite if self.foreign > 0 => {
                self.foreign -= 1;
                self.locked(call)
            }
            Rpc::KvPrewrite => self.prewritten(call),
            Rpc::KvPessimisticLock => locked_as_asked(call),
            _ => yes(call),
        }
    }

    /// As far as the transaction wants; one in four times a store cannot.
    fn prewritten(&mut self, call: &Call) -> Response {
        let asked: kvrpcpb::PrewriteRequest = call.request.message().expect("its message");
        let mut reply = kvrpcpb::PrewriteResponse::default();
        self.last += 1;
        if !self.last.is_multiple_of(4) {
            let at = asked.min_commit_ts.max(self.last);
            if asked.try_one_pc {
                reply.one_pc_commit_ts = at;
            } else if asked.use_async_commit {
                reply.min_commit_ts = at;
            }
        }
        Response::Prewrite(reply)
    }

    /// A lock of one of a few transactions, which then turn out to be alive, committed or rolled back.
    fn locked(&self, call: &Call) -> Response {
        let start = Timestamp::compose(999, self.foreign % 4).map_or(1, Timestamp::version);
        let info = kvrpcpb::LockInfo {
            key: self.wire(KEYS[self.foreign as usize % KEYS.len()]),
            primary_lock: self.wire(KEYS[start as usize % KEYS.len()]),
            lock_version: start,
            lock_ttl: 3_000,
            txn_size: 1 + start % 2 * 1_000,
            lock_type: match self.foreign % 3 {
                0 => kvrpcpb::Op::PessimisticLock.into(),
                _ => kvrpcpb::Op::Put.into(),
            },
            ..Default::default()
        };
        let error = kvrpcpb::KeyError { locked: Some(info.into()), ..Default::default() };
        let boxed = || Some(error.clone().into());
        match call.request.rpc {
            Rpc::KvGet => {
                Response::Get(kvrpcpb::GetResponse { error: boxed(), ..Default::default() })
            }
            Rpc::KvBatchGet => {
                let message = kvrpcpb::BatchGetResponse { error: boxed(), ..Default::default() };
                Response::BatchGet(message)
            }
            Rpc::KvScan => {
                Response::Scan(kvrpcpb::ScanResponse { error: boxed(), ..Default::default() })
            }
            _ => {
                let errors = vec![error];
                Response::Prewrite(kvrpcpb::PrewriteResponse { errors, ..Default::default() })
            }
        }
    }

    fn status(&self, call: &Call) -> Response {
        let asked: kvrpcpb::CheckTxnStatusRequest = call.request.message().expect("its message");
        let mut status = kvrpcpb::CheckTxnStatusResponse::default();
        match asked.lock_ts % 4 {
            0 => status.commit_version = asked.lock_ts + 1,
            // Committed asynchronously; its secondaries are found to be gone.
            1 if asked.lock_ts % 8 == 1 && !asked.force_sync_commit => {
                let primary = kvrpcpb::LockInfo {
                    key: asked.primary_key.clone(),
                    primary_lock: asked.primary_key,
                    lock_version: asked.lock_ts,
                    lock_ttl: 1,
                    use_async_commit: true,
                    min_commit_ts: asked.lock_ts + 1,
                    secondaries: KEYS.iter().map(|key| self.wire(key)).collect(),
                    ..Default::default()
                };
                status.lock_ttl = 1;
                status.lock_info = Some(primary.into());
            }
            1 => {
                status.lock_ttl = 3_000;
                status.action = kvrpcpb::Action::MinCommitTsPushed.into();
            }
            2 => status.lock_ttl = 1_000_000,
            // No trace, because the asker left a rollback record just now.
            _ => status.action = kvrpcpb::Action::LockNotExistRollback.into(),
        }
        Response::CheckTxnStatus(status)
    }

    fn find(&self, map: &[Land], call: &Call, previous: bool) -> pdpb::GetRegionResponse {
        let asked: pdpb::GetRegionRequest = call.request.message().expect("GetRegion");
        let index = map.partition_point(|land| land.start <= asked.region_key) - 1;
        let index = if previous { index.saturating_sub(1) } else { index };
        let land = &map[index];
        pdpb::GetRegionResponse {
            header: header(7, None),
            region: Some(self.region(land)),
            leader: Some(peer(land.id, land.leader)),
            ..Default::default()
        }
    }

    fn by_id(&self, map: &[Land], call: &Call) -> pdpb::GetRegionResponse {
        let asked: pdpb::GetRegionByIdRequest = call.request.message().expect("GetRegionByID");
        let land = map.iter().find(|land| land.id == asked.region_id);
        pdpb::GetRegionResponse {
            header: header(7, None),
            region: land.map(|land| self.region(land)),
            leader: land.map(|land| peer(land.id, land.leader)),
            ..Default::default()
        }
    }

    fn scan(&self, map: &[Land], call: &Call) -> Vec<pdpb::Region> {
        let (start, end) = if call.request.rpc == Rpc::PdBatchScanRegions {
            let asked: pdpb::BatchScanRegionsRequest = call.request.message().expect("a scan");
            let range = asked.ranges.into_iter().next().expect("a range");
            (range.start_key, range.end_key)
        } else {
            let asked: pdpb::ScanRegionsRequest = call.request.message().expect("a scan");
            (asked.start_key, asked.end_key)
        };
        let first = map.partition_point(|land| land.start <= start) - 1;
        let within = |land: &&Land| end.is_empty() || land.start < end;
        let told = map[first..].iter().take_while(within).map(|land| pdpb::Region {
            region: Some(self.region(land)),
            leader: Some(peer(land.id, land.leader)),
            ..Default::default()
        });
        told.collect()
    }

    fn scanned(
        &self,
        call: &Call,
        header: Option<pdpb::ResponseHeader>,
        regions: Vec<pdpb::Region>,
    ) -> Response {
        if call.request.rpc == Rpc::PdBatchScanRegions {
            Response::BatchScanRegions(pdpb::BatchScanRegionsResponse { header, regions }.into())
        } else {
            let message = pdpb::ScanRegionsResponse { header, regions, ..Default::default() };
            Response::ScanRegions(message.into())
        }
    }

    // ---- anything ------------------------------------------------------------------------------

    /// Whatever may come back.
    pub(crate) fn any(
        &mut self,
        chance: &mut Chance,
        command: &Command,
    ) -> Result<Response, Failure> {
        match (command, chance.below(16)) {
            (_, 0) => Ok(self.nonsense(chance)),
            (_, 1..4) => Err(failure(chance)),
            (Command::Call(call), _) if matches!(call.request.head, Head::Store(_)) => {
                let (region_error, key_error) = match chance.below(8) {
                    0..4 => (Some(self.region_error(chance, call).into()), None),
                    4..7 => (None, Some(self.key_error(chance, 2))),
                    _ => (None, None),
                };
                Ok(self.store_message(chance, call.request.rpc, region_error, key_error))
            }
            (Command::Call(call), _) => Ok(self.pd_message(chance, call)),
            (Command::Timestamps(ask), _) => {
                let odd = self.odd_version(chance);
                let last = Timestamp::from_version(odd).unwrap_or(Timestamp::MAX);
                let count = chance.pick(&[ask.count, ask.count, 0, 1, u32::MAX]);
                Ok(Response::Timestamps(TimestampBatch { last, count }))
            }
            (Command::Abort { .. }, _) => unreachable!("nobody answers an abort"),
        }
    }

    /// What a store may say that is responsible for the keys.
    pub(crate) fn store_answer(&mut self, chance: &mut Chance, call: &Call) -> Response {
        let key_error = chance.rarely(2, |chance| self.key_error(chance, 2));
        self.store_message(chance, call.request.rpc, None, key_error)
    }

    /// The answer to some other question.
    pub(crate) fn nonsense(&mut self, chance: &mut Chance) -> Response {
        let asked: Vec<Rpc> = Rpc::ALL
            .iter()
            .copied()
            .filter(|rpc| Response::decode(*rpc, Bytes::new()).is_ok())
            .collect();
        let rpc = chance.pick(&asked);
        match chance.below(3) {
            0 => Response::Timestamps(TimestampBatch { last: Timestamp::MAX, count: 1 }),
            1 => Response::decode(rpc, Bytes::new()).expect("the empty message"),
            _ => {
                let error = chance.rarely(2, |chance| self.key_error(chance, 2));
                self.store_message(chance, rpc, None, error)
            }
        }
    }

    fn odd_version(&mut self, chance: &mut Chance) -> u64 {
        let near = Timestamp::compose(1_000, chance.below(40)).map_or(0, Timestamp::version);
        self.last += 1;
        chance.pick(&[0, 1, near, near, self.last, self.last, 1 << 63, u64::MAX - 1, u64::MAX])
    }

    fn lock(&mut self, chance: &mut Chance, depth: u32) -> kvrpcpb::LockInfo {
        let shared = if depth == 0 { 0 } else { chance.below(9).saturating_sub(6) };
        kvrpcpb::LockInfo {
            primary_lock: self.key(chance),
            lock_version: self.odd_version(chance),
            key: self.key(chance),
            lock_ttl: chance.pick(&[0, 1, 3_000, 3_000, u64::MAX]),
            txn_size: chance.pick(&[0, 1, 1, 600, u64::MAX]),
            lock_type: chance.pick(&[0, 0, 1, 4, 5, 6, 7, -1, i32::MAX]),
            lock_for_update_ts: self.odd_version(chance),
            use_async_commit: chance.one_in(8),
            min_commit_ts: self.odd_version(chance),
            secondaries: (0..chance.below(3)).map(|_| self.key(chance)).collect(),
            shared_lock_infos: (0..shared).map(|_| self.lock(chance, depth - 1)).collect(),
            is_txn_file: chance.one_in(32),
            ..Default::default()
        }
    }

    fn key_error(&mut self, chance: &mut Chance, depth: u32) -> kvrpcpb::KeyError {
        let mut error = kvrpcpb::KeyError::default();
        let key = self.key(chance);
        match chance.below(20) {
            0..8 => error.locked = Some(self.lock(chance, depth).into()),
            8 => error.retryable = "try again".into(),
            9 => error.abort = "no".into(),
            10 => {
                let conflict = kvrpcpb::WriteConflict {
                    start_ts: self.odd_version(chance),
                    conflict_ts: self.odd_version(chance),
                    conflict_commit_ts: self.odd_version(chance),
                    reason: chance.pick(&[0, 1, 3, -1, 99]),
                    key,
                    ..Default::default()
                };
                error.conflict = Some(conflict.into());
            }
            11 => error.already_exist = Some(kvrpcpb::AlreadyExist { key }.into()),
            12 => error.deadlock = Some(Default::default()),
            13 | 14 => {
                let expired = kvrpcpb::CommitTsExpired {
                    start_ts: self.odd_version(chance),
                    attempted_commit_ts: self.odd_version(chance),
                    min_commit_ts: self.odd_version(chance),
                    key,
                };
                error.commit_ts_expired = Some(expired.into());
            }
            15 => error.txn_not_found = Some(Default::default()),
            16 => error.txn_lock_not_found = Some(kvrpcpb::TxnLockNotFound { key }.into()),
            17 => {
                let lock_info = chance.rarely(2, |chance| self.lock(chance, 1).into());
                error.primary_mismatch = Some(kvrpcpb::PrimaryMismatch { lock_info }.into());
            }
            18 => error.assertion_failed = Some(Default::default()),
            // An error that says nothing.
            _ => {}
        }
        error
    }

    fn region_error(&mut self, chance: &mut Chance, call: &Call) -> errorpb::Error {
        let Head::Store(context) = &call.request.head else { unreachable!("asked of a store") };
        let region_id = context.region.id;
        let mut error = errorpb::Error::default();
        match chance.below(30) {
            0..5 => {
                let store = chance.below(4);
                let leader = chance.rarely(2, |_| peer(region_id, store));
                error.not_leader = Some(errorpb::NotLeader { region_id, leader }.into());
            }
            5..10 => {
                let current_regions = self.epochs(chance);
                error.epoch_not_match = Some(errorpb::EpochNotMatch { current_regions }.into());
            }
            10 => error.region_not_found = Some(errorpb::RegionNotFound { region_id }.into()),
            11 => error.key_not_in_region = Some(Default::default()),
            12 | 13 => error.server_is_busy = Some(Default::default()),
            14 => error.stale_command = Some(Default::default()),
            15 => error.store_not_match = Some(Default::default()),
            16 => error.raft_entry_too_large = Some(Default::default()),
            17 => error.max_timestamp_not_synced = Some(Default::default()),
            18 => error.read_index_not_ready = Some(Default::default()),
            19 => error.proposal_in_merging_mode = Some(Default::default()),
            20 => error.data_is_not_ready = Some(Default::default()),
            21 => error.region_not_initialized = Some(Default::default()),
            22 => error.disk_full = Some(Default::default()),
            23 => error.recovery_in_progress = Some(Default::default()),
            24 => error.flashback_in_progress = Some(Default::default()),
            25 => error.is_witness = Some(Default::default()),
            26 => error.mismatch_peer_id = Some(Default::default()),
            27 => error.bucket_version_not_match = Some(Default::default()),
            28 => error.undetermined_result = Some(Default::default()),
            _ => error.message = chance.pick(&["", "Deadline is exceeded", "what"]).into(),
        }
        error
    }

    /// Regions as a store may tell them: those of now or of then, and some that cannot be.
    fn epochs(&mut self, chance: &mut Chance) -> Vec<metapb::Region> {
        let map = chance.pick(&self.maps);
        let some = chance.below(3);
        let regions = (0..some).map(|_| {
            let land = chance.pick(&map);
            self.odd_region(chance, &land)
        });
        regions.collect()
    }

    fn odd_region(&self, chance: &mut Chance, land: &Land) -> metapb::Region {
        let mut region = self.region(land);
        match chance.below(16) {
            0 => region.id = 0,
            1 => region.region_epoch = None,
            2 => region.peers.clear(),
            3 => std::mem::swap(&mut region.start_key, &mut region.end_key),
            4 => region.start_key = key(chance),
            5 => region.end_key = key(chance),
            6 => {
                let (conf_ver, version) = (chance.below(3), chance.pick(&[0, 1, 9, u64::MAX]));
                region.region_epoch = Some(metapb::RegionEpoch { conf_ver, version });
            }
            7 => region.peers.iter_mut().for_each(|peer| peer.is_witness = true),
            8 => region.peers.iter_mut().for_each(|peer| peer.role = 1),
            9 => region.peers.iter_mut().for_each(|peer| peer.role = -1),
            _ => {}
        }
        region
    }

    fn pd_message(&mut self, chance: &mut Chance, call: &Call) -> Response {
        let refusal = chance.rarely(4, |chance| {
            let text = chance.pick(&["no", "invalid store ID 1, not found"]);
            pdpb::Error { r#type: chance.pick(&[0, 1, 2, 3, 6, 12, 99]), message: text.into() }
        });
        match call.request.rpc {
            Rpc::PdGetMembers => {
                let urls = ["pd:1", "pd:2", "http://pd:1", ""];
                let leader = chance.rarely(2, |chance| chance.pick(&urls));
                // Never another cluster's id: a core that has once believed in it rightly refuses
                // the true one for ever.
                let cluster = chance.pick(&[7, 7, 0]);
                let mut message = members(chance.pick(&urls), leader, cluster);
                message.header = header(cluster, refusal);
                Response::GetMembers(message.into())
            }
            Rpc::PdGetRegion | Rpc::PdGetPrevRegion | Rpc::PdGetRegionById => {
                let map = chance.pick(&self.maps);
                let mut message = match call.request.rpc {
                    Rpc::PdGetRegionById => self.by_id(&map, call),
                    _ => self.find(&map, call, chance.one_in(4)),
                };
                message.header = header(7, refusal);
                if chance.one_in(4) {
                    // Another region than the one asked for.
                    let land = chance.pick(&map);
                    message.region = Some(self.odd_region(chance, &land));
                }
                if chance.one_in(8) {
                    message.region = None;
                }
                message.leader = message.leader.filter(|_| !chance.one_in(4));
                if chance.one_in(4) {
                    let down = peer(1, 1 + chance.below(3));
                    message.down_peers =
                        vec![pdpb::PeerStats { peer: Some(down), down_seconds: 9 }];
                }
                match call.request.rpc {
                    Rpc::PdGetRegion => Response::GetRegion(message.into()),
                    Rpc::PdGetRegionById => Response::GetRegionById(message.into()),
                    _ => Response::GetPrevRegion(message.into()),
                }
            }
            Rpc::PdBatchScanRegions | Rpc::PdScanRegions => {
                let map = chance.pick(&self.maps);
                let mut regions = self.scan(&map, call);
                regions.truncate(chance.pick(&[0, 1, 2, 128]));
                for told in &mut regions {
                    if chance.one_in(4) {
                        let land = chance.pick(&map);
                        told.region = chance.rarely(2, |chance| self.odd_region(chance, &land));
                    }
                    told.leader = told.leader.filter(|_| !chance.one_in(4));
                }
                self.scanned(call, header(7, refusal), regions)
            }
            Rpc::LoadKeyspace => {
                let (id, state) =
                    (chance.pick(&[0, 0, 0, 1 << 24]), chance.pick(&[0, 0, 0, 1, 3, 99]));
                let mut message = keyspace(id, state, refusal);
                message.keyspace = message.keyspace.filter(|_| !chance.one_in(8));
                Response::LoadKeyspace(message.into())
            }
            Rpc::PdGetMinTs => {
                let part = |chance: &mut Chance| chance.pick(&[0, 1, 9, -1, i64::MAX]);
                let (physical, logical) = (part(chance), part(chance));
                let told = pdpb::Timestamp { physical, logical, ..Default::default() };
                let timestamp = chance.rarely(2, |_| told);
                let header = header(7, refusal);
                Response::GetMinTs(pdpb::GetMinTsResponse { header, timestamp }.into())
            }
            Rpc::PdGetExternalTimestamp => {
                let timestamp = self.odd_version(chance);
                let header = header(7, refusal);
                let message = pdpb::GetExternalTimestampResponse { header, timestamp };
                Response::GetExternalTimestamp(message.into())
            }
            Rpc::PdGetGcState => {
                let txn_safe_point = self.odd_version(chance);
                let state = pdpb::GcState { txn_safe_point, ..Default::default() };
                let message = pdpb::GetGcStateResponse {
                    header: header(7, refusal),
                    gc_state: Some(state.into()).filter(|_| chance.below(4) > 0),
                    ..Default::default()
                };
                Response::GetGcState(message.into())
            }
            Rpc::PdSetExternalTimestamp => {
                let message = pdpb::SetExternalTimestampResponse { header: header(7, refusal) };
                Response::SetExternalTimestamp(message.into())
            }
            _ => {
                let store = metapb::Store {
                    id: store_asked(call),
                    address: chance.pick(&["store:1", "", "elsewhere:1"]).into(),
                    state: chance.pick(&[0, 0, 1, 2, 99]),
                    node_state: chance.pick(&[0, 1, 1, 2, 3, -1]),
                    ..Default::default()
                };
                let store = Some(store).filter(|_| !chance.one_in(8));
                let message = pdpb::GetStoreResponse { header: header(7, refusal), store };
                Response::GetStore(message.into())
            }
        }
    }

    #[allow(clippy::needless_update, reason = "some messages have more fields than are named")]
    /// A message of a store, its fields filled with what may stand there and what may not.
    #[allow(clippy::needless_update, reason = "some messages have no other fields")]
    fn store_message(
        &mut self,
        chance: &mut Chance,
        rpc: Rpc,
        region_error: Option<Box<errorpb::Error>>,
        key_error: Option<kvrpcpb::KeyError>,
    ) -> Response {
        let text = if key_error.is_some() { "refused".into() } else { String::new() };
        let boxed = key_error.clone().map(Box::new);
        let errors: Vec<_> = key_error.clone().into_iter().collect();
        let value = chance.rarely(2, key).unwrap_or_default();
        let pairs: Vec<_> = (0..chance.below(5))
            .map(|_| kvrpcpb::KvPair {
                key: self.key(chance),
                value: key(chance),
                error: chance.rarely(4, |_| boxed.clone()).flatten(),
                ..Default::default()
            })
            .collect();
        let (ttl, version) = (chance.pick(&[0, 0, 1, u64::MAX]), self.odd_version(chance));
        let not_found = chance.one_in(2);
        // Some messages have no field beside those that are named.
        #[allow(clippy::needless_update)]
        macro_rules! with {
            ($variant:ident, $message:ident, $($field:ident: $value:expr),*) => {
                Response::$variant(kvrpcpb::$message {
                    region_error, $($field: $value,)* ..Default::default()
                })
            };
        }
        match rpc {
            Rpc::RawGet => {
                with!(RawGet, RawGetResponse, error: text, value: value, not_found: not_found)
            }
            Rpc::RawPut => with!(RawPut, RawPutResponse, error: text),
            Rpc::RawDelete => with!(RawDelete, RawDeleteResponse, error: text),
            Rpc::RawBatchPut => with!(RawBatchPut, RawBatchPutResponse, error: text),
            Rpc::RawBatchDelete => with!(RawBatchDelete, RawBatchDeleteResponse, error: text),
            Rpc::RawGetKeyTtl => {
                with!(RawGetKeyTtl, RawGetKeyTtlResponse, error: text, ttl: ttl, not_found: not_found)
            }
            Rpc::RawCompareAndSwap => {
                with!(RawCompareAndSwap, RawCasResponse, error: text, previous_value: value,
                    previous_not_exist: not_found, succeed: chance.one_in(2))
            }
            Rpc::RawDeleteRange => with!(RawDeleteRange, RawDeleteRangeResponse, error: text),
            Rpc::RawChecksum => {
                with!(RawChecksum, RawChecksumResponse, error: text, checksum: version, total_kvs: ttl)
            }
            Rpc::RawCoprocessor => {
                with!(RawCoprocessor, RawCoprocessorResponse, error: text, data: value)
            }
            Rpc::RawBatchGet => with!(RawBatchGet, RawBatchGetResponse, pairs: pairs),
            Rpc::RawScan => with!(RawScan, RawScanResponse, kvs: pairs),
            Rpc::KvGet => with!(Get, GetResponse, error: boxed, value: value, not_found: not_found),
            Rpc::KvBatchGet => {
                let error = boxed.filter(|_| not_found);
                with!(BatchGet, BatchGetResponse, error: error, pairs: pairs)
            }
            Rpc::KvScan => {
                let error = boxed.filter(|_| not_found);
                with!(Scan, ScanResponse, error: error, pairs: pairs)
            }
            Rpc::KvPrewrite => {
                let errors = errors.into_iter().cycle().take(chance.below(3) as usize).collect();
                let one_pc_commit_ts = chance.rarely(8, |_| version).unwrap_or(0);
                let min_commit_ts = chance.rarely(2, |_| version).unwrap_or(0);
                with!(Prewrite, PrewriteResponse, errors: errors,
                    one_pc_commit_ts: one_pc_commit_ts, min_commit_ts: min_commit_ts)
            }
            Rpc::KvPessimisticLock => {
                let result = |chance: &mut Chance| kvrpcpb::PessimisticLockKeyResult {
                    r#type: chance.pick(&[0, 1, 2, 3]),
                    existence: not_found,
                    locked_with_conflict_ts: version,
                    ..Default::default()
                };
                let results = chance.rarely(2, |chance| vec![result(chance)]).unwrap_or_default();
                let message = kvrpcpb::PessimisticLockResponse {
                    region_error,
                    errors: errors.into_iter().take(chance.below(2) as usize).collect(),
                    results,
                    ..Default::default()
                };
                Response::PessimisticLock(message.into())
            }
            Rpc::KvTxnHeartBeat => with!(TxnHeartBeat, TxnHeartBeatResponse, error: boxed),
            Rpc::KvCommit => with!(Commit, CommitResponse, error: boxed, commit_version: version),
            Rpc::KvBatchRollback => with!(BatchRollback, BatchRollbackResponse, error: boxed),
            Rpc::KvResolveLock => with!(ResolveLock, ResolveLockResponse, error: boxed),
            Rpc::KvCheckTxnStatus => {
                let action = chance.pick(&[0, 1, 2, 3, 4, 5, 6, -1]);
                let commit_version = chance.rarely(3, |_| version).unwrap_or(0);
                let lock_info = chance.rarely(4, |chance| self.lock(chance, 1).into());
                with!(CheckTxnStatus, CheckTxnStatusResponse, error: boxed, lock_ttl: ttl,
                    commit_version: commit_version, action: action, lock_info: lock_info)
            }
            Rpc::KvCheckSecondaryLocks => {
                let error = boxed.filter(|_| not_found);
                let locks = (0..chance.below(3)).map(|_| self.lock(chance, 1)).collect();
                let commit_ts = chance.rarely(3, |_| version).unwrap_or(0);
                with!(CheckSecondaryLocks, CheckSecondaryLocksResponse, error: error,
                    locks: locks, commit_ts: commit_ts)
            }
            Rpc::KvScanLock => {
                let error = boxed.filter(|_| not_found);
                let locks = (0..chance.below(3)).map(|_| self.lock(chance, 1)).collect();
                with!(ScanLock, ScanLockResponse, error: error, locks: locks)
            }
            Rpc::KvPessimisticRollback => {
                let errors = errors.into_iter().cycle().take(chance.below(2) as usize).collect();
                with!(PessimisticRollback, PessimisticRollbackResponse, errors: errors)
            }
            _ => Response::decode(rpc, Bytes::new()).expect("the empty message"),
        }
    }
}

/// All of it, and of every second key a value.
fn locked_as_asked(call: &Call) -> Response {
    let asked: kvrpcpb::PessimisticLockRequest = call.request.message().expect("its message");
    let values: Vec<Bytes> = (0..asked.mutations.len())
        .map(|n| if n % 2 == 0 { Bytes::from_static(b"v") } else { Bytes::new() })
        .collect();
    let mut reply = kvrpcpb::PessimisticLockResponse::default();
    if asked.wake_up_mode == i32::from(kvrpcpb::PessimisticLockWakeUpMode::WakeUpModeForceLock) {
        reply.results = vec![kvrpcpb::PessimisticLockKeyResult {
            value: "v".into(),
            existence: true,
            ..Default::default()
        }];
    } else if asked.return_values {
        reply.not_founds = values.iter().map(Bytes::is_empty).collect();
        reply.values = values;
    }
    Response::PessimisticLock(reply.into())
}

fn peer(region: u64, store: u64) -> metapb::Peer {
    metapb::Peer { id: region * 10 + store, store_id: store, ..Default::default() }
}

fn header(cluster_id: u64, error: Option<pdpb::Error>) -> Option<pdpb::ResponseHeader> {
    Some(pdpb::ResponseHeader { cluster_id, error: error.map(Box::new) })
}

fn members(one: &str, leader: Option<&str>, cluster: u64) -> pdpb::GetMembersResponse {
    let member = |url: &str| pdpb::Member { client_urls: vec![url.into()], ..Default::default() };
    pdpb::GetMembersResponse {
        header: header(cluster, None),
        members: vec![member(one)],
        leader: leader.map(|url| member(url).into()),
        ..Default::default()
    }
}

fn keyspace(id: u32, state: i32, error: Option<pdpb::Error>) -> LoadKeyspaceResponse {
    let keyspace = KeyspaceMeta {
        name: "DEFAULT".into(),
        state,
        keyspace: Some(keyspace_meta::Keyspace::Id(id)),
        ..Default::default()
    };
    LoadKeyspaceResponse { header: header(7, error), keyspace: Some(keyspace) }
}

fn store_asked(call: &Call) -> u64 {
    let asked: pdpb::GetStoreRequest = call.request.message().expect("GetStore");
    asked.store_id
}

pub(crate) fn failure(chance: &mut Chance) -> Failure {
    match chance.below(4) {
        0 | 1 => Failure::not_sent("connection refused"),
        2 => Failure::maybe_executed("connection reset"),
        _ => {
            let status = GrpcStatus(chance.pick(&[1, 2, 3, 4, 8, 9, 12, 13, 14, 99]));
            let text = chance.pick(&["", "mismatch cluster id", "message larger than max"]);
            Failure::status(status, text)
        }
    }
}
