//! PD in a page, and stores that say yes: what tests and benchmarks of the core have in common.
#![allow(dead_code, reason = "each binary uses its own part")]

use std::time::Duration;

use anatase_core::wire::{Response, TimestampBatch};
use anatase_core::{
    Call, ColumnFamily, Command, Core, Instant, Key, KeyMode, OpOptions, Operation, RawOperation,
    Timestamp,
};
use anatase_proto::rpc::Rpc;
use anatase_proto::{metapb, pdpb};
use bytes::Bytes;

/// Each region has a replica on each of the stores 1, 2 and 3; region *i* is led from store
/// *1 + i mod 3*.
const STORES: u64 = 3;

/// The placement driver of a cluster whose regions never move.
#[derive(Clone, Debug)]
pub(crate) struct Pd {
    /// The borders between regions, as PD writes them: ascending.
    borders: Vec<Bytes>,
    last: u64,
    /// A region none of whose replicas has been heard from.
    pub(crate) lost: Option<u64>,
}

impl Pd {
    /// A cluster whose regions meet at these keys.
    pub(crate) fn new<K: AsRef<[u8]>>(mode: KeyMode, borders: impl IntoIterator<Item = K>) -> Self {
        let mut borders: Vec<Bytes> =
            borders.into_iter().map(|key| bound(mode, key.as_ref())).collect();
        borders.sort_unstable();
        let first = Timestamp::compose(1_000, 0).expect("a timestamp");
        Self { borders, last: first.version(), lost: None }
    }

    /// The answer to a command, if it is one for PD.
    pub(crate) fn answer(&mut self, command: &Command) -> Option<Response> {
        match command {
            Command::Timestamps(ask) => {
                self.last += u64::from(ask.count);
                let last = Timestamp::from_version(self.last)?;
                Some(Response::Timestamps(TimestampBatch { last, count: ask.count }))
            }
            Command::Call(call) => self.call(call),
            Command::Abort { .. } => None,
        }
    }

    fn call(&self, call: &Call) -> Option<Response> {
        let request = &call.request;
        let header = || Some(pdpb::ResponseHeader { cluster_id: 7, error: None });
        match request.rpc {
            Rpc::PdGetMembers => {
                let member = || pdpb::Member {
                    client_urls: vec![call.to.address.to_string()],
                    ..Default::default()
                };
                let message = pdpb::GetMembersResponse {
                    header: header(),
                    members: vec![member()],
                    leader: Some(member().into()),
                    ..Default::default()
                };
                Some(Response::GetMembers(message.into()))
            }
            Rpc::PdGetRegion | Rpc::PdGetPrevRegion => {
                let asked: pdpb::GetRegionRequest = request.message().expect("GetRegion");
                let previous = request.rpc == Rpc::PdGetPrevRegion;
                let told = self.tell(self.index(&asked.region_key) - usize::from(previous));
                let message = pdpb::GetRegionResponse {
                    header: header(),
                    region: told.region,
                    leader: told.leader,
                    down_peers: told.down_peers,
                    ..Default::default()
                };
                Some(match previous {
                    false => Response::GetRegion(message.into()),
                    true => Response::GetPrevRegion(message.into()),
                })
            }
            Rpc::PdBatchScanRegions => {
                let asked: pdpb::BatchScanRegionsRequest = request.message().expect("a scan");
                let limit = usize::try_from(asked.limit).expect("a limit");
                let ranges = asked.ranges.iter();
                let regions = ranges.flat_map(|range| self.scan(&range.start_key, &range.end_key));
                let regions = regions.take(limit).collect();
                let message = pdpb::BatchScanRegionsResponse { header: header(), regions };
                Some(Response::BatchScanRegions(message.into()))
            }
            Rpc::PdGetStore => {
                let asked: pdpb::GetStoreRequest = request.message().expect("GetStore");
                let address = format!("store{}:20160", asked.store_id);
                let store = metapb::Store { id: asked.store_id, address, ..Default::default() };
                let message = pdpb::GetStoreResponse { header: header(), store: Some(store) };
                Some(Response::GetStore(message.into()))
            }
            _ => None,
        }
    }

    fn index(&self, key: &[u8]) -> usize {
        self.borders.partition_point(|border| border <= key)
    }

    /// The regions of a range, the empty end standing above all keys.
    fn scan(&self, start: &[u8], end: &[u8]) -> impl Iterator<Item = pdpb::Region> {
        let last = match end.is_empty() {
            true => self.borders.len(),
            false => self.borders.partition_point(|border| *border < end),
        };
        (self.index(start)..=last).map(|index| self.tell(index))
    }

    fn tell(&self, index: usize) -> pdpb::Region {
        let region = self.region(index);
        let leader = region.peers[region.id as usize % region.peers.len()];
        let down = region.peers.iter().filter(|_| self.lost == Some(region.id));
        let down_peers = down.map(|peer| pdpb::PeerStats { peer: Some(*peer), down_seconds: 900 });
        pdpb::Region {
            down_peers: down_peers.collect(),
            region: Some(region),
            leader: Some(leader),
            ..Default::default()
        }
    }

    fn region(&self, index: usize) -> metapb::Region {
        let id = index as u64 + 1;
        let border = |index: Option<usize>| {
            index.and_then(|index| self.borders.get(index)).cloned().unwrap_or_default()
        };
        metapb::Region {
            id,
            start_key: border(index.checked_sub(1)),
            end_key: border(Some(index)),
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 1 }),
            peers: (1..=STORES)
                .map(|store| metapb::Peer {
                    id: id * 10 + store,
                    store_id: store,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }
}

/// The answer of a store that had nothing against the request: to every RPC of a store that is the
/// empty message.
pub(crate) fn yes(call: &Call) -> Response {
    Response::decode(call.request.rpc, Bytes::new()).expect("an RPC that the core sends")
}

/// A border between regions as PD writes it: plain in raw mode, memcomparable otherwise (groups of
/// eight bytes, each followed by 255 less the number of bytes of padding in it).
pub(crate) fn bound(mode: KeyMode, key: &[u8]) -> Bytes {
    if mode == KeyMode::Raw {
        return Bytes::copy_from_slice(key);
    }
    let mut out = Vec::new();
    for start in (0..=key.len()).step_by(8) {
        let group = &key[start..key.len().min(start + 8)];
        out.extend_from_slice(group);
        out.resize(out.len() + 8 - group.len(), 0);
        out.push(247 + group.len() as u8);
    }
    out.into()
}

/// Answers whatever the core wants, well, until it wants nothing more.
pub(crate) fn serve(core: &mut Core, pd: &mut Pd, now: Instant) {
    while let Some(command) = core.poll_command() {
        let id = match &command {
            Command::Call(call) => call.id,
            Command::Timestamps(ask) => ask.id,
            Command::Abort { .. } => continue,
        };
        let answer = pd.answer(&command);
        let answer = answer.unwrap_or_else(|| match &command {
            Command::Call(call) => yes(call),
            _ => unreachable!("PD answers what is not a call"),
        });
        core.handle_response(now, id, Ok(answer));
    }
    while core.poll_event().is_some() {}
}

/// Has a core learn every region at once; `measured` runs what keeps them.
pub(crate) fn fill(core: &mut Core, pd: &mut Pd, measured: &mut dyn FnMut(&mut dyn FnMut())) {
    let last = pd.borders.last().cloned().unwrap_or_default();
    let op = RawOperation::BatchGet { keys: vec![Key::new(), last] };
    let operation = Operation::Raw { op, cf: ColumnFamily::DEFAULT };
    let now = Instant::ORIGIN;
    let options = OpOptions { deadline: now + Duration::from_secs(60), stream: 0 };
    core.submit(now, operation, options).expect("room");
    while let Some(command) = core.poll_command() {
        let Command::Call(call) = &command else { continue };
        if call.request.rpc != Rpc::PdBatchScanRegions {
            let answer = pd.answer(&command).unwrap_or_else(|| yes(call));
            core.handle_response(now, call.id, Ok(answer));
            continue;
        }
        let regions = pd.scan(&[], &[]).collect();
        let header = Some(pdpb::ResponseHeader { cluster_id: 7, error: None });
        let message = pdpb::BatchScanRegionsResponse { header, regions };
        let answer = Response::BatchScanRegions(message.into());
        // What the answer itself takes comes and goes within the measurement.
        measured(&mut || core.handle_response(now, call.id, Ok(answer.clone())));
    }
    while core.poll_event().is_some() {}
}
