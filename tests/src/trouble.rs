//! What can go wrong, as values that quickcheck draws, prints and shrinks.
//!
//! Numbers called `which` select among what there is at that moment, so that a trouble still means
//! something when others are left out. What a real cluster would mend by itself, an election say,
//! is mended after a while: troubles have an end.

use std::time::Duration;

use anatase_cluster::{Code, Fault, Loss, On, PdFault, RegionFault, Status};
use anatase_core::KeyMode;
use anatase_proto::pdpb::ErrorType;
use anatase_proto::rpc::Rpc;
use quickcheck::{Arbitrary, Gen};

use crate::world::World;

/// The keys that troubles split at, and that tests read and write: few, so that operations meet.
/// Some are the successors of others, some begin others, and some sort last of all.
pub const KEYS: [&[u8]; 12] = [
    b"a",
    b"a\0",
    b"a\0\0",
    b"b",
    b"bb",
    b"c",
    b"d",
    b"eight by",
    b"eight byt",
    b"f",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// See the [module's documentation](self).
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Trouble {
    Split { key: u8, memcomparable: bool },
    Merge { which: u8, into_left: bool },
    MoveLeader { which: u8, store: u8 },
    NoLeader { which: u8, ms: u16 },
    MovePeer { which: u8, store: u8 },
    KillStore { store: u8, elect_ms: u16, back_ms: u16 },
    BreakConnection { store: u8 },
    SwapAddresses { one: u8, other: u8 },
    StaleRoutes { ms: u16 },
    KillPdLeader { elect_ms: u16, back_ms: u16 },
    MovePdLeader { to: u8 },
    RegionError { which: u8, after: u8, times: u8 },
    PdError { which: u8, times: u8 },
    Lose { request: bool, silent: bool, after: u8, times: u8 },
    Doubt { which: u8, executed: bool },
    Refuse { times: u8 },
    Slow { ms: u16, times: u8 },
    Status { which: u8, times: u8 },
    Heal,
}

/// Region errors that a store may answer with. The last few end an operation.
fn region_error(which: u8, store: u64) -> RegionFault {
    let text = || "as drawn".to_owned();
    match which % 26 {
        0 | 1 => RegionFault::NotLeader { leader: None },
        2 | 3 => RegionFault::NotLeader { leader: Some(store) },
        4 | 5 => RegionFault::RegionNotFound,
        6 => RegionFault::KeyNotInRegion { key: KEYS[0].into() },
        7 | 8 => RegionFault::EpochNotMatch { with_regions: true },
        9 => RegionFault::EpochNotMatch { with_regions: false },
        10 => RegionFault::busy("as drawn"),
        11 => RegionFault::StaleCommand,
        12 => RegionFault::StoreNotMatch { wanted: store },
        13 => RegionFault::MaxTimestampNotSynced,
        14 => RegionFault::ReadIndexNotReady { reason: text() },
        15 => RegionFault::ProposalInMergingMode,
        16 => RegionFault::DataIsNotReady { safe_ts: 1 },
        17 => RegionFault::RegionNotInitialized,
        18 => RegionFault::DiskFull { reason: text() },
        19 => RegionFault::RecoveryInProgress,
        20 => RegionFault::IsWitness,
        21 => RegionFault::MismatchPeerId { store_peer: store },
        22 => RegionFault::BucketVersionNotMatch { version: 1, keys: Vec::new() },
        23 => RegionFault::UndeterminedResult { message: text() },
        24 => RegionFault::Unknown { message: text() },
        _ => RegionFault::RaftEntryTooLarge { entry_size: 9 << 20 },
    }
}

fn status(which: u8) -> Status {
    const CODES: [Code; 7] = [
        Code::Unavailable,
        Code::Unknown,
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
        Code::Internal,
        Code::Aborted,
    ];
    Status::new(CODES[usize::from(which) % CODES.len()], "as drawn")
}

impl Trouble {
    /// Makes it so.
    pub fn strike(&self, world: &mut World) {
        let stores: Vec<u64> = world.cluster.stores().map(|store| store.id).collect();
        let store = |number: u8| stores[usize::from(number) % stores.len()];
        let ms = |ms: u16| Duration::from_millis(ms.into());
        let regions: Vec<u64> = world.cluster.regions().map(|region| region.id).collect();
        let at = |which: u8| usize::from(which) % regions.len();
        let txn = world.mode() == KeyMode::Txn;
        let cluster = &mut world.cluster;
        match *self {
            Self::Split { key, memcomparable } => {
                let key = KEYS[usize::from(key) % KEYS.len()];
                // Transactions know no other bounds.
                match memcomparable || txn {
                    true => cluster.split(key),
                    false => cluster.split_raw(key),
                };
            }
            Self::Merge { which, into_left } => {
                let left = at(which);
                if let (Some(left), Some(right)) = (regions.get(left), regions.get(left + 1)) {
                    match into_left {
                        true => cluster.merge(*right, *left),
                        false => cluster.merge(*left, *right),
                    };
                }
            }
            Self::MoveLeader { which, store: to } => {
                cluster.transfer_leader(regions[at(which)], store(to));
            }
            Self::NoLeader { which, ms: wait } => {
                cluster.remove_leader(regions[at(which)]);
                world.later(ms(wait), |world| world.cluster.elect_leaders());
            }
            Self::MovePeer { which, store: to } => {
                let region = regions[at(which)];
                let from = cluster.region(region).and_then(|region| region.peers.first().copied());
                if let Some(from) = from {
                    cluster.move_peer(region, from.store, store(to));
                }
            }
            Self::KillStore { store: victim, elect_ms, back_ms } => {
                let victim = store(victim);
                world.stop_store(victim);
                world.later(ms(elect_ms), |world| world.cluster.elect_leaders());
                world.later(ms(back_ms), move |world| {
                    world.cluster.start_store(victim);
                    world.cluster.elect_leaders();
                });
            }
            Self::BreakConnection { store: to } => {
                let address = cluster.store(store(to)).map(|store| store.address.clone());
                address.into_iter().for_each(|address| world.reset(&address));
            }
            Self::SwapAddresses { one, other } => {
                let (one, other) = (store(one), store(other));
                let address = |id| cluster.store(id).map(|store| store.address.clone());
                if let (Some(ones), Some(others)) = (address(one), address(other)) {
                    cluster.set_store_address(one, &*others);
                    cluster.set_store_address(other, &*ones);
                    world.reset(&ones);
                    world.reset(&others);
                }
            }
            Self::StaleRoutes { ms: wait } => {
                cluster.freeze_routes();
                world.later(ms(wait), |world| world.cluster.thaw_routes());
            }
            Self::KillPdLeader { elect_ms, back_ms } => {
                let Some(leader) = cluster.pd_leader() else { return };
                let others = cluster.pd_members().len();
                world.stop_pd_member(leader);
                world.later(ms(elect_ms), move |world| {
                    if world.cluster.pd_leader().is_none() {
                        world.cluster.transfer_pd_leader((leader + 1) % others);
                    }
                });
                world.later(ms(back_ms), move |world| {
                    world.cluster.start_pd_member(leader);
                    if world.cluster.pd_leader().is_none() {
                        world.cluster.transfer_pd_leader(leader);
                    }
                });
            }
            Self::MovePdLeader { to } => {
                cluster.transfer_pd_leader(usize::from(to) % cluster.pd_members().len());
            }
            Self::RegionError { which, after, times } => {
                let fault = region_error(which, store(which));
                cluster.faults().times(times.into(), On::any().after(after.into()), fault);
            }
            Self::PdError { which, times } => {
                let kinds = [ErrorType::Unknown, ErrorType::NotBootstrapped];
                let kind = kinds[usize::from(which) % kinds.len()];
                let fault = PdFault { kind, message: "as drawn".to_owned() };
                cluster.faults().times(times.into(), On::any(), fault);
            }
            Self::Lose { request, silent, after, times } => {
                let loss = if silent { Loss::Silent } else { Loss::Reset };
                let fault = match request {
                    true => Fault::DropRequest(loss),
                    false => Fault::DropResponse(loss),
                };
                cluster.faults().times(times.into(), On::any().after(after.into()), fault);
            }
            // An attempt whose fate is not known, and then a refusal: the doubt must not be forgotten
            // over it.
            Self::Doubt { which, executed } => {
                let rpcs = match txn {
                    true => [Rpc::KvCommit, Rpc::KvCommit, Rpc::KvPrewrite],
                    false => [Rpc::RawPut, Rpc::RawDelete, Rpc::RawBatchPut],
                };
                let rpc = rpcs[usize::from(which) % rpcs.len()];
                let lost = match executed {
                    true => Fault::DropResponse(Loss::Reset),
                    false => Fault::DropRequest(Loss::Reset),
                };
                cluster.faults().next(On::rpc(rpc), lost);
                let refusal = RegionFault::RaftEntryTooLarge { entry_size: 9 << 20 };
                cluster.faults().next(On::rpc(rpc), refusal);
            }
            Self::Refuse { times } => {
                let fault = Fault::DropRequest(Loss::Refused);
                cluster.faults().times(times.into(), On::any(), fault);
            }
            Self::Slow { ms: wait, times } => {
                cluster.faults().times(times.into(), On::any(), Fault::Delay(ms(wait)));
            }
            Self::Status { which, times } => {
                cluster.faults().times(times.into(), On::any(), Fault::Status(status(which)));
            }
            Self::Heal => world.mend(),
        }
    }
}

impl Arbitrary for Trouble {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut number = |bound: u16| u16::arbitrary(g) % bound;
        let small = |number: u16| number as u8;
        let key = small(number(KEYS.len() as u16));
        let (which, store, other) = (small(number(256)), small(number(8)), small(number(8)));
        let (times, after) = (1 + small(number(3)), small(number(6)));
        let (ms, long_ms) = (number(900), 100 + number(4_000));
        let flag = number(2) == 0;
        match number(40) {
            0..7 => Self::Split { key, memcomparable: number(4) == 0 },
            7..10 => Self::Merge { which, into_left: flag },
            10..14 => Self::MoveLeader { which, store },
            14 | 15 => Self::NoLeader { which, ms },
            16..18 => Self::MovePeer { which, store },
            18 | 19 => Self::KillStore { store, elect_ms: ms, back_ms: long_ms },
            20 => Self::BreakConnection { store },
            21 => Self::SwapAddresses { one: store, other },
            22..24 => Self::StaleRoutes { ms },
            24 => Self::KillPdLeader { elect_ms: ms, back_ms: long_ms },
            25 => Self::MovePdLeader { to: store },
            26..31 => Self::RegionError { which, after, times },
            31 => Self::PdError { which, times: 1 },
            32..35 => Self::Lose { request: flag, silent: number(3) == 0, after, times },
            35 => Self::Doubt { which, executed: flag },
            36 => Self::Refuse { times },
            37 => Self::Slow { ms: long_ms, times },
            38 => Self::Status { which, times },
            _ => Self::Heal,
        }
    }
}
