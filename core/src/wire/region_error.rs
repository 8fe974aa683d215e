//! Region errors: a store's answer that it cannot serve the request as it was addressed.
//!
//! On the wire such an error is twenty-two nullable fields and a text. Here it is one value, picked
//! in the order in which the reference looks at the fields (`control-plane.md` §6.5), since a server
//! may set several. What an error calls for is not decided here but in `region_call::react`.

use std::fmt;

use anatase_proto::{errorpb, metapb};

use crate::error::{Error, ErrorKind};
use crate::id::{Peer, PeerRole, RegionVersion, StoreId};
use crate::operation::Key;

/// Why a store did not serve a request. In the order of `control-plane.md` §6.5.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RegionError {
    /// The write may or may not have been applied, and the store cannot tell.
    UndeterminedResult(String),
    /// The replica does not lead.
    NotLeader {
        /// Who does, if the replica knows.
        leader: Option<Peer>,
    },
    /// The disks of these stores are full.
    DiskFull { stores: Vec<StoreId>, reason: String },
    /// An operator is recovering the region.
    RecoveryInProgress,
    /// The replica votes but keeps no data.
    IsWitness,
    /// The region is being set back to an earlier state.
    FlashbackInProgress { start_ts: u64 },
    /// A flashback was asked for that had not been prepared.
    FlashbackNotPrepared,
    /// The store has no replica of the region.
    RegionNotFound,
    /// The region does not contain the key.
    KeyNotInRegion,
    /// The region was split, merged, or its membership changed.
    EpochNotMatch {
        /// What is there now, as far as the store knows; those that make no sense are left out.
        current: Vec<RegionInfo>,
    },
    /// The region's buckets are others.
    BucketVersionNotMatch {
        version: u64,
        /// The borders of those, as PD sees them.
        keys: Vec<Key>,
    },
    /// The store has no capacity left.
    ServerIsBusy {
        reason: String,
        /// What the store expects a request to wait, in milliseconds; 0 if it does not say.
        estimated_wait_ms: u32,
    },
    /// The replica changed its term while it held the request. For a write that is no certainty
    /// that the write was not applied.
    StaleCommand,
    /// Another store lives at this address.
    StoreNotMatch { actual: StoreId },
    /// The write is larger than a Raft entry may be.
    RaftEntryTooLarge { size: u64 },
    /// A new leader does not know yet which timestamps were handed out.
    MaxTimestampNotSynced,
    /// The replica has not been initialized yet.
    RegionNotInitialized,
    /// The replica cannot confirm that it is up to date.
    ReadIndexNotReady,
    /// The region is about to be merged into another one.
    ProposalInMergingMode,
    /// The replica has not caught up with the timestamp of the read.
    DataIsNotReady,
    /// The request took longer than it allowed the store.
    DeadlineExceeded,
    /// The store has another replica of the region than the one that was asked.
    MismatchPeerId,
    /// The timestamp of the read lies in the future.
    InvalidMaxTsUpdate(String),
    /// Something that this client does not know.
    Other(String),
}

/// A region as PD or a store describes it, its bounds still as PD sees them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RegionInfo {
    pub(crate) version: RegionVersion,
    pub(crate) start: Key,
    pub(crate) end: Key,
    /// At least one.
    pub(crate) peers: Vec<Peer>,
}

impl RegionError {
    pub(crate) fn from_proto(error: errorpb::Error) -> Self {
        // By name and without `..`: a new field has to be given its place below.
        let errorpb::Error {
            message,
            not_leader,
            region_not_found,
            key_not_in_region,
            epoch_not_match,
            server_is_busy,
            stale_command,
            store_not_match,
            raft_entry_too_large,
            max_timestamp_not_synced,
            read_index_not_ready,
            proposal_in_merging_mode,
            data_is_not_ready,
            region_not_initialized,
            disk_full,
            recovery_in_progress,
            flashback_in_progress,
            flashback_not_prepared,
            is_witness,
            mismatch_peer_id,
            bucket_version_not_match,
            undetermined_result,
        } = error;
        if let Some(undetermined) = undetermined_result {
            let text = if undetermined.message.is_empty() { message } else { undetermined.message };
            return Self::UndeterminedResult(text);
        }
        if let Some(not_leader) = not_leader {
            return Self::NotLeader { leader: not_leader.leader.and_then(peer) };
        }
        if let Some(full) = disk_full {
            let stores = full.store_id.into_iter().map(StoreId).collect();
            return Self::DiskFull { stores, reason: full.reason };
        }
        if recovery_in_progress.is_some() {
            return Self::RecoveryInProgress;
        }
        if is_witness.is_some() {
            return Self::IsWitness;
        }
        if let Some(flashback) = flashback_in_progress {
            return Self::FlashbackInProgress { start_ts: flashback.flashback_start_ts };
        }
        if flashback_not_prepared.is_some() {
            return Self::FlashbackNotPrepared;
        }
        if region_not_found.is_some() {
            return Self::RegionNotFound;
        }
        if key_not_in_region.is_some() {
            return Self::KeyNotInRegion;
        }
        if let Some(epoch) = epoch_not_match {
            let current = epoch.current_regions.into_iter().filter_map(RegionInfo::from_proto);
            return Self::EpochNotMatch { current: current.collect() };
        }
        if let Some(buckets) = bucket_version_not_match {
            let (version, keys) = (buckets.version, buckets.keys);
            return Self::BucketVersionNotMatch { version, keys };
        }
        if let Some(busy) = server_is_busy {
            return Self::ServerIsBusy {
                reason: busy.reason,
                estimated_wait_ms: busy.estimated_wait_ms,
            };
        }
        if stale_command.is_some() {
            return Self::StaleCommand;
        }
        if let Some(store) = store_not_match {
            return Self::StoreNotMatch { actual: StoreId(store.actual_store_id) };
        }
        if let Some(entry) = raft_entry_too_large {
            return Self::RaftEntryTooLarge { size: entry.entry_size };
        }
        if max_timestamp_not_synced.is_some() {
            return Self::MaxTimestampNotSynced;
        }
        if region_not_initialized.is_some() {
            return Self::RegionNotInitialized;
        }
        if read_index_not_ready.is_some() {
            return Self::ReadIndexNotReady;
        }
        if proposal_in_merging_mode.is_some() {
            return Self::ProposalInMergingMode;
        }
        if data_is_not_ready.is_some() {
            return Self::DataIsNotReady;
        }
        if message.contains("Deadline is exceeded") {
            return Self::DeadlineExceeded;
        }
        if mismatch_peer_id.is_some() {
            return Self::MismatchPeerId;
        }
        if message.contains("invalid max_ts update") {
            return Self::InvalidMaxTsUpdate(message);
        }
        Self::Other(message)
    }

    /// As the error of an operation that ends with it, or as the cause of one that gives up.
    pub(crate) fn to_error(&self) -> Error {
        Error::new(self.kind(), self.to_string())
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::UndeterminedResult(_) => ErrorKind::Undetermined,
            Self::DiskFull { .. } => ErrorKind::DiskFull,
            Self::ServerIsBusy { .. } | Self::DeadlineExceeded => ErrorKind::ServerBusy,
            Self::RaftEntryTooLarge { .. } => ErrorKind::TooLarge,
            Self::FlashbackInProgress { .. }
            | Self::FlashbackNotPrepared
            | Self::InvalidMaxTsUpdate(_) => ErrorKind::Refused,
            Self::NotLeader { .. }
            | Self::RecoveryInProgress
            | Self::IsWitness
            | Self::RegionNotFound
            | Self::KeyNotInRegion
            | Self::EpochNotMatch { .. }
            | Self::BucketVersionNotMatch { .. }
            | Self::StaleCommand
            | Self::StoreNotMatch { .. }
            | Self::MaxTimestampNotSynced
            | Self::RegionNotInitialized
            | Self::ReadIndexNotReady
            | Self::ProposalInMergingMode
            | Self::DataIsNotReady
            | Self::MismatchPeerId
            | Self::Other(_) => ErrorKind::RegionUnavailable,
        }
    }
}

/// Without keys: what is printed may end in a log.
impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UndeterminedResult(text) => write!(f, "the result is undetermined: {text}"),
            Self::NotLeader { leader: Some(leader) } => {
                write!(f, "not leader; peer {} on store {} is", leader.id, leader.store)
            }
            Self::NotLeader { leader: None } => {
                f.write_str("not leader, and nobody is known to be")
            }
            Self::DiskFull { stores, reason } => {
                f.write_str("disk full on store")?;
                for store in stores {
                    write!(f, " {store}")?;
                }
                write!(f, ": {reason}")
            }
            Self::RecoveryInProgress => f.write_str("the region is being recovered"),
            Self::IsWitness => f.write_str("the replica is a witness"),
            Self::FlashbackInProgress { start_ts } => {
                write!(f, "the region is in flashback since {start_ts}")
            }
            Self::FlashbackNotPrepared => f.write_str("the region is not prepared for flashback"),
            Self::RegionNotFound => f.write_str("the store has no such region"),
            Self::KeyNotInRegion => f.write_str("the key is not in the region"),
            Self::EpochNotMatch { current } => {
                f.write_str("the region has changed")?;
                for (index, region) in current.iter().enumerate() {
                    let between = if index == 0 { ": now " } else { ", " };
                    write!(f, "{between}{}", region.version)?;
                }
                Ok(())
            }
            Self::BucketVersionNotMatch { version, .. } => {
                write!(f, "the region's buckets are at version {version}")
            }
            Self::ServerIsBusy { reason, .. } => write!(f, "server is busy: {reason}"),
            Self::StaleCommand => f.write_str("the replica dropped the command with its term"),
            Self::StoreNotMatch { actual } => write!(f, "store {actual} lives at this address"),
            Self::RaftEntryTooLarge { size } => {
                write!(f, "the write makes a Raft entry of {size} bytes, which is too large")
            }
            Self::MaxTimestampNotSynced => f.write_str("the leader's max_ts is not synced"),
            Self::RegionNotInitialized => f.write_str("the replica is not initialized"),
            Self::ReadIndexNotReady => f.write_str("the read index is not ready"),
            Self::ProposalInMergingMode => f.write_str("the region is merging"),
            Self::DataIsNotReady => f.write_str("the replica is behind the read's timestamp"),
            Self::DeadlineExceeded => f.write_str("the store's time for the request ran out"),
            Self::MismatchPeerId => f.write_str("the store has another replica of the region"),
            Self::InvalidMaxTsUpdate(text) | Self::Other(text) => {
                write!(f, "region error: {text}")
            }
        }
    }
}

impl RegionInfo {
    /// `None` for a region without id, epoch or replica: nothing could be sent to it (`peers.md` D29).
    pub(crate) fn from_proto(region: metapb::Region) -> Option<Self> {
        let epoch = region.region_epoch?;
        let version =
            RegionVersion { id: region.id, conf_ver: epoch.conf_ver, version: epoch.version };
        let peers: Vec<Peer> = region.peers.into_iter().filter_map(peer).collect();
        if version.id == 0 || peers.is_empty() {
            return None;
        }
        Some(Self { version, start: region.start_key, end: region.end_key, peers })
    }
}

/// A replica; `None` without an id, without a store, or with a role that this client does not know:
/// it could not be asked, or not be asked for the right thing.
pub(super) fn peer(peer: metapb::Peer) -> Option<Peer> {
    let role = match metapb::PeerRole::try_from(peer.role).ok()? {
        metapb::PeerRole::Voter => PeerRole::Voter,
        metapb::PeerRole::Learner => PeerRole::Learner,
        metapb::PeerRole::IncomingVoter => PeerRole::IncomingVoter,
        metapb::PeerRole::DemotingVoter => PeerRole::DemotingVoter,
    };
    if peer.id == 0 || peer.store_id == 0 {
        return None;
    }
    Some(Peer { id: peer.id, store: StoreId(peer.store_id), role, witness: peer.is_witness })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some<T: Default>() -> Option<Box<T>> {
        Some(Box::default())
    }

    fn proto_peer(id: u64, store_id: u64, role: i32) -> metapb::Peer {
        metapb::Peer { id, store_id, role, is_witness: false }
    }

    /// wire.md §4: every field has its variant.
    #[test]
    fn every_field_is_understood() {
        let empty = errorpb::Error::default;
        let voter = Peer { id: 3, store: StoreId(4), role: PeerRole::Voter, witness: false };
        let rows = [
            (
                errorpb::Error { undetermined_result: some(), message: "m".into(), ..empty() },
                RegionError::UndeterminedResult("m".into()),
            ),
            (
                errorpb::Error { not_leader: some(), ..empty() },
                RegionError::NotLeader { leader: None },
            ),
            (
                errorpb::Error {
                    not_leader: Some(Box::new(errorpb::NotLeader {
                        region_id: 1,
                        leader: Some(proto_peer(3, 4, 0)),
                    })),
                    ..empty()
                },
                RegionError::NotLeader { leader: Some(voter) },
            ),
            (
                errorpb::Error {
                    disk_full: Some(Box::new(errorpb::DiskFull {
                        store_id: vec![1, 2],
                        reason: "r".into(),
                    })),
                    ..empty()
                },
                RegionError::DiskFull { stores: vec![StoreId(1), StoreId(2)], reason: "r".into() },
            ),
            (
                errorpb::Error { recovery_in_progress: some(), ..empty() },
                RegionError::RecoveryInProgress,
            ),
            (errorpb::Error { is_witness: some(), ..empty() }, RegionError::IsWitness),
            (
                errorpb::Error { flashback_in_progress: some(), ..empty() },
                RegionError::FlashbackInProgress { start_ts: 0 },
            ),
            (
                errorpb::Error { flashback_not_prepared: some(), ..empty() },
                RegionError::FlashbackNotPrepared,
            ),
            (errorpb::Error { region_not_found: some(), ..empty() }, RegionError::RegionNotFound),
            (errorpb::Error { key_not_in_region: some(), ..empty() }, RegionError::KeyNotInRegion),
            (
                errorpb::Error { epoch_not_match: some(), ..empty() },
                RegionError::EpochNotMatch { current: vec![] },
            ),
            (
                errorpb::Error { bucket_version_not_match: some(), ..empty() },
                RegionError::BucketVersionNotMatch { version: 0, keys: vec![] },
            ),
            (
                errorpb::Error {
                    server_is_busy: Some(Box::new(errorpb::ServerIsBusy {
                        reason: "r".into(),
                        backoff_ms: 1,
                        estimated_wait_ms: 5,
                        applied_index: 9,
                    })),
                    ..empty()
                },
                RegionError::ServerIsBusy { reason: "r".into(), estimated_wait_ms: 5 },
            ),
            (errorpb::Error { stale_command: some(), ..empty() }, RegionError::StaleCommand),
            (
                errorpb::Error {
                    store_not_match: Some(Box::new(errorpb::StoreNotMatch {
                        request_store_id: 1,
                        actual_store_id: 2,
                    })),
                    ..empty()
                },
                RegionError::StoreNotMatch { actual: StoreId(2) },
            ),
            (
                errorpb::Error {
                    raft_entry_too_large: Some(Box::new(errorpb::RaftEntryTooLarge {
                        region_id: 1,
                        entry_size: 9,
                    })),
                    ..empty()
                },
                RegionError::RaftEntryTooLarge { size: 9 },
            ),
            (
                errorpb::Error { max_timestamp_not_synced: some(), ..empty() },
                RegionError::MaxTimestampNotSynced,
            ),
            (
                errorpb::Error { region_not_initialized: some(), ..empty() },
                RegionError::RegionNotInitialized,
            ),
            (
                errorpb::Error { read_index_not_ready: some(), ..empty() },
                RegionError::ReadIndexNotReady,
            ),
            (
                errorpb::Error { proposal_in_merging_mode: some(), ..empty() },
                RegionError::ProposalInMergingMode,
            ),
            (errorpb::Error { data_is_not_ready: some(), ..empty() }, RegionError::DataIsNotReady),
            (
                errorpb::Error { message: "x Deadline is exceeded y".into(), ..empty() },
                RegionError::DeadlineExceeded,
            ),
            (errorpb::Error { mismatch_peer_id: some(), ..empty() }, RegionError::MismatchPeerId),
            (
                errorpb::Error { message: "an invalid max_ts update".into(), ..empty() },
                RegionError::InvalidMaxTsUpdate("an invalid max_ts update".into()),
            ),
            (
                errorpb::Error { message: "what".into(), ..empty() },
                RegionError::Other("what".into()),
            ),
        ];
        for (proto, expected) in rows {
            let error = RegionError::from_proto(proto);
            assert_eq!(error, expected);
            assert!(!error.to_error().message().is_empty());
        }
    }

    /// control-plane.md §6.5: the reference's order of evaluation, when a server sets several.
    #[test]
    fn of_several_the_first_of_the_table_counts() {
        let mut error = errorpb::Error {
            message: "Deadline is exceeded, invalid max_ts update".into(),
            undetermined_result: some(),
            not_leader: some(),
            disk_full: some(),
            recovery_in_progress: some(),
            is_witness: some(),
            flashback_in_progress: some(),
            flashback_not_prepared: some(),
            region_not_found: some(),
            key_not_in_region: some(),
            epoch_not_match: some(),
            bucket_version_not_match: some(),
            server_is_busy: some(),
            stale_command: some(),
            store_not_match: some(),
            raft_entry_too_large: some(),
            max_timestamp_not_synced: some(),
            region_not_initialized: some(),
            read_index_not_ready: some(),
            proposal_in_merging_mode: some(),
            data_is_not_ready: some(),
            mismatch_peer_id: some(),
        };
        type Row = (&'static str, fn(&RegionError) -> bool, fn(&mut errorpb::Error));
        macro_rules! row {
            ($n:literal, $pattern:pat, $field:ident) => {
                ($n, |e| matches!(e, $pattern), |e| e.$field = Default::default())
            };
        }
        let rows: [Row; 22] = [
            row!("1", RegionError::UndeterminedResult(_), undetermined_result),
            row!("2", RegionError::NotLeader { .. }, not_leader),
            row!("3", RegionError::DiskFull { .. }, disk_full),
            row!("4", RegionError::RecoveryInProgress, recovery_in_progress),
            row!("5", RegionError::IsWitness, is_witness),
            row!("6", RegionError::FlashbackInProgress { .. }, flashback_in_progress),
            row!("7", RegionError::FlashbackNotPrepared, flashback_not_prepared),
            row!("8", RegionError::RegionNotFound, region_not_found),
            row!("9", RegionError::KeyNotInRegion, key_not_in_region),
            row!("10", RegionError::EpochNotMatch { .. }, epoch_not_match),
            row!("11", RegionError::BucketVersionNotMatch { .. }, bucket_version_not_match),
            row!("12, 13", RegionError::ServerIsBusy { .. }, server_is_busy),
            row!("14", RegionError::StaleCommand, stale_command),
            row!("15", RegionError::StoreNotMatch { .. }, store_not_match),
            row!("16", RegionError::RaftEntryTooLarge { .. }, raft_entry_too_large),
            row!("17", RegionError::MaxTimestampNotSynced, max_timestamp_not_synced),
            row!("18", RegionError::RegionNotInitialized, region_not_initialized),
            row!("19", RegionError::ReadIndexNotReady, read_index_not_ready),
            row!("20", RegionError::ProposalInMergingMode, proposal_in_merging_mode),
            row!("21", RegionError::DataIsNotReady, data_is_not_ready),
            (
                "22",
                |e| *e == RegionError::DeadlineExceeded,
                |e| {
                    e.message = "invalid max_ts update".into();
                },
            ),
            row!("23", RegionError::MismatchPeerId, mismatch_peer_id),
        ];
        for (row, is_it, clear) in rows {
            let parsed = RegionError::from_proto(error.clone());
            assert!(is_it(&parsed), "row {row}: {parsed:?}");
            clear(&mut error);
        }
        let last = RegionError::from_proto(error);
        assert!(matches!(last, RegionError::InvalidMaxTsUpdate(_)), "row 24: {last:?}");
    }

    /// peers.md D29: nothing a server says makes a panic, or a region that nothing can be sent to.
    #[test]
    fn regions_that_make_no_sense_are_left_out() {
        let good = metapb::Region {
            id: 1,
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 2, version: 3 }),
            peers: vec![proto_peer(3, 4, 1), proto_peer(0, 4, 0), proto_peer(5, 0, 0)],
            ..Default::default()
        };
        let info = RegionInfo::from_proto(good.clone()).unwrap();
        assert_eq!(info.version, RegionVersion { id: 1, conf_ver: 2, version: 3 });
        let learner = Peer { id: 3, store: StoreId(4), role: PeerRole::Learner, witness: false };
        assert_eq!(info.peers, [learner]);
        let bad = [
            metapb::Region { id: 0, ..good.clone() },
            metapb::Region { region_epoch: None, ..good.clone() },
            metapb::Region { peers: vec![], ..good.clone() },
            metapb::Region { peers: vec![proto_peer(1, 1, 99)], ..good.clone() },
        ];
        for bad in &bad {
            assert_eq!(RegionInfo::from_proto(bad.clone()), None, "{bad:?}");
        }
        let current_regions = bad.into_iter().chain([good]).collect();
        let error = errorpb::Error {
            epoch_not_match: Some(Box::new(errorpb::EpochNotMatch { current_regions })),
            ..Default::default()
        };
        assert_eq!(
            RegionError::from_proto(error),
            RegionError::EpochNotMatch { current: vec![info] }
        );
    }
}
