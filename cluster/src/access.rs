//! Whether a store takes a request for a region: the checks that TiKV makes on the context of a
//! request before it looks at the keys, in TiKV's order.
//!
//! | check | answer |
//! |---|---|
//! | the context's peer is on another store | `StoreNotMatch` |
//! | this store has no peer of the region | `RegionNotFound` |
//! | it has another peer of it | `MismatchPeerId` |
//! | the peer does not lead, and this is not a replica read or a stale read | `NotLeader` with the leader as far as known |
//! | the peer is a witness | `IsWitness` |
//! | `term` is set and more than one behind | `StaleCommand` |
//! | `region_epoch.version` differs in either direction | `EpochNotMatch` with the region and what was split off it |
//! | a stale read above the safe timestamp | `DataIsNotReady` |
//! | a write, and the disk is fuller than the request allows | `DiskFull` |
//!
//! `region_epoch.conf_ver` is not compared: data requests do not care which peers there are. A
//! region whose voters are mostly stopped answers nothing that needs the others: silence.

use anatase_proto::{
    errorpb::{self, Error},
    kvrpcpb::{Context, DiskFullOpt},
};

use crate::{
    Cluster,
    answer::{Failure, Loss, Status},
    lock_wait::Ticket,
    region::{Region, Role},
    store::{Disk, StoreId, StoreState},
};

/// What a request does to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It writes in order to finish or to free something: allowed on an almost full disk.
    Clean,
}

/// A region error, boxed as responses have it.
pub(crate) type RegionError = Box<Error>;

/// Why a request is not carried out.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    Region(RegionError),
    Failure(Failure),
    /// It waits for a lock, and is answered later.
    Parked(Ticket),
}

impl From<RegionError> for Refusal {
    fn from(error: RegionError) -> Self {
        Refusal::Region(error)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Box::new(error).into()
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal::Failure(Failure::Status(status))
    }
}

/// As many regions as TiKV tells in one `EpochNotMatch` beside the one asked for.
const MAX_SIBLINGS: usize = 10;

impl Cluster {
    /// The region that `at` serves this request from.
    pub(crate) fn enter(
        &mut self,
        at: StoreId,
        context: &Context,
        access: Access,
    ) -> Result<Region, Refusal> {
        let wanted = context.peer.unwrap_or_default();
        if wanted.store_id != at {
            return Err(Error {
                message: format!("to store id {}, mine {at}", wanted.store_id),
                store_not_match: Some(Box::new(errorpb::StoreNotMatch {
                    request_store_id: wanted.store_id,
                    actual_store_id: at,
                })),
                ..Error::default()
            }
            .into());
        }
        let id = context.region_id;
        let found = self.regions.get(id).and_then(|region| Some((region, region.peer_on(at)?)));
        let Some((region, peer)) = found else {
            return Err(Error {
                message: format!("region {id} not found"),
                region_not_found: Some(Box::new(errorpb::RegionNotFound { region_id: id })),
                ..Error::default()
            }
            .into());
        };
        if wanted.id != peer.id {
            return Err(Error {
                message: format!("mismatch peer id {} != {}", wanted.id, peer.id),
                mismatch_peer_id: Some(Box::new(errorpb::MismatchPeerId {
                    request_peer_id: wanted.id,
                    store_peer_id: peer.id,
                })),
                ..Error::default()
            }
            .into());
        }
        let by_replica = access == Access::Read && (context.replica_read || context.stale_read);
        if region.leader != Some(at) && !by_replica {
            return Err(Error {
                message: format!("peer is not leader for region {id}"),
                not_leader: Some(Box::new(errorpb::NotLeader {
                    region_id: id,
                    leader: region.leader_peer().map(|peer| peer.to_proto()),
                })),
                ..Error::default()
            }
            .into());
        }
        if peer.role == Role::Witness {
            return Err(Error {
                message: format!("peer is a witness of region {id}"),
                is_witness: Some(Box::new(errorpb::IsWitness { region_id: id })),
                ..Error::default()
            }
            .into());
        }
        if context.term != 0 && context.term.saturating_add(1) < region.term {
            return Err(Error {
                message: "stale command".to_owned(),
                stale_command: Some(Box::new(errorpb::StaleCommand {})),
                ..Error::default()
            }
            .into());
        }
        match context.region_epoch {
            None => {
                return Err(
                    Error { message: "missing epoch!".to_owned(), ..Error::default() }.into()
                );
            }
            Some(epoch) if epoch.version != region.version => {
                return Err(self.epoch_not_match(at, region, epoch.version).into());
            }
            Some(_) => {}
        }
        if access != Access::Read {
            self.check_disk(at, context, access)?;
        }
        if !context.stale_read && !self.has_quorum(region) {
            return Err(Refusal::Failure(Failure::Lost(Loss::Silent)));
        }
        Ok(region.clone())
    }

    /// `EpochNotMatch`, with the region and the neighbours that may have been split off it since
    /// the version asked for: as TiKV, it counts versions and does not look whether a neighbour
    /// really was part of the region. A request ahead of the store is told the region alone.
    fn epoch_not_match(&self, at: StoreId, region: &Region, requested: u64) -> Error {
        let mut told = vec![region.to_proto()];
        if requested < region.version {
            let mut newest = region.version;
            let mut missing = newest - requested;
            let mut last = region;
            for _ in 0..MAX_SIBLINGS {
                let next = if self.config.right_derive {
                    self.regions.before(last)
                } else {
                    self.regions.after(last)
                };
                let Some(next) = next.filter(|next| next.peer_on(at).is_some()) else { break };
                told.push(next.to_proto());
                missing -= 1;
                if next.version >= newest {
                    missing += next.version - newest;
                    newest = next.version;
                }
                if missing == 0 {
                    break;
                }
                last = next;
            }
        }
        Error {
            message: format!(
                "EpochNotMatch current epoch of region {} is {}:{}, but you sent version \
                 {requested}",
                region.id, region.conf_ver, region.version
            ),
            epoch_not_match: Some(Box::new(errorpb::EpochNotMatch { current_regions: told })),
            ..Error::default()
        }
    }

    fn check_disk(
        &self,
        at: StoreId,
        context: &Context,
        access: Access,
    ) -> Result<(), RegionError> {
        let full = self.stores.get(&at).map_or(Disk::Normal, |store| store.disk);
        let allowed = match DiskFullOpt::try_from(context.disk_full_opt) {
            Ok(DiskFullOpt::AllowedOnAlreadyFull) => Disk::Full,
            Ok(DiskFullOpt::AllowedOnAlmostFull) => Disk::AlmostFull,
            _ if access == Access::Clean => Disk::AlmostFull,
            _ => Disk::Normal,
        };
        if full <= allowed {
            return Ok(());
        }
        let reason = format!("disk {full:?}");
        Err(Box::new(Error {
            message: format!("store ids [{at}], errmsg {reason}"),
            disk_full: Some(Box::new(errorpb::DiskFull { store_id: vec![at], reason })),
            ..Error::default()
        }))
    }

    /// Whether most of the voters are up.
    pub(crate) fn has_quorum(&self, region: &Region) -> bool {
        let voters = region.peers.iter().filter(|peer| peer.role != Role::Learner);
        let (mut all, mut up) = (0, 0);
        for voter in voters {
            all += 1;
            up += usize::from(self.is_up(voter.store));
        }
        2 * up > all
    }

    pub(crate) fn is_up(&self, store: StoreId) -> bool {
        self.stores.get(&store).is_some_and(|store| store.state == StoreState::Up)
    }

    /// The region's entry in a log, of `size` bytes, if that is not too much.
    pub(crate) fn check_entry_size(&self, region: &Region, size: usize) -> Result<(), RegionError> {
        if size <= self.config.max_entry_size {
            return Ok(());
        }
        let entry_size = u64::try_from(size).unwrap_or(u64::MAX);
        Err(Box::new(Error {
            message: format!(
                "raft entry is too large, region {}, entry size {entry_size}",
                region.id
            ),
            raft_entry_too_large: Some(Box::new(errorpb::RaftEntryTooLarge {
                region_id: region.id,
                entry_size,
            })),
            ..Error::default()
        }))
    }

    /// Every one of these physical keys is in the region.
    pub(crate) fn check_keys<'a>(
        region: &Region,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), RegionError> {
        match keys.into_iter().find(|key| !region.contains(key)) {
            Some(key) => Err(region.key_not_in_region(key)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
