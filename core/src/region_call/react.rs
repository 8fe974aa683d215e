//! What a mishap calls for (`control-plane.md` §6.4, §6.5): pure decisions, one row of a table each.
//!
//! Only leader reads and writes are decided here; with replica reads more rows will split in two.
//! Where the reference hands a region error back to its caller, who then backs off and groups its
//! keys anew, the reaction is [`Reaction::Relocate`] together with that back-off.

use crate::backoff::BackoffKind;
use crate::error::{Error, ErrorKind, Failure, GrpcStatus};
use crate::id::Peer;
use crate::region::InvalidReason;
use crate::wire::region_error::{RegionError, RegionInfo};

/// What the decision depends on besides the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    /// The replica that answered is the one believed to lead.
    pub(crate) asked_leader: bool,
    /// The one believed to lead has been asked by this call, now or before.
    pub(crate) leader_tried: bool,
    /// The request is a read that allows less than thirty seconds: one replica's delay is reason
    /// enough to ask another (`control-plane.md` §6.3).
    pub(crate) hurried_read: bool,
    /// What is known of the leader that the error names.
    pub(crate) hint: Hint,
}

/// What is known of a leader that a replica has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// It is a replica of the cached region, and its store can be reached; or none was named.
    Usable,
    /// It is a replica of the cached region, but its store cannot be reached.
    Unreachable,
    /// The cached region has no such replica.
    Stranger,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The replica that answered does not lead, this one does: believe it, and ask it at once, once
    /// more even if it has been asked too often.
    SwitchLeader(Peer),
    /// Another replica. The one that answered is not asked again by this call unless somebody names
    /// it as the leader.
    NextReplica {
        /// It said that it does not lead; otherwise it is only slow or behind.
        not_leader: bool,
        backoff: Option<BackoffKind>,
    },
    /// The same region again, with whatever replica is next in turn.
    Again {
        backoff: Option<BackoffKind>,
        /// The request may have been executed.
        doubt: bool,
    },
    /// The region is not what it was thought to be: find it anew, or give the keys back.
    Relocate { invalidate: Option<InvalidReason>, backoff: BackoffKind },
    /// As [`Reaction::Relocate`], but ask the one believed to lead first, this once, although the
    /// region is invalid from now on: a follower may not have heard of a new region yet.
    LeaderOnceThenRelocate { invalidate: InvalidReason },
    /// What is there instead: see [`RegionCache::on_epoch_not_match`]. If the store is behind, wait
    /// (region miss) and ask again; if something was learned, regroup at once; if nothing was, wait
    /// (region miss) and relocate.
    ///
    /// [`RegionCache::on_epoch_not_match`]: crate::region::RegionCache::on_epoch_not_match
    Epoch(Vec<RegionInfo>),
    /// Another store lives at the address: ask PD for it anew, invalidate the region, wait (region
    /// miss) and relocate.
    RefreshStore,
    /// Nothing will help.
    Fatal(Error),
    /// The write may or may not have been executed, and the store cannot tell: end in doubt.
    InDoubt(Error),
}

/// A region without reachable truth: look again after the shortest of waits.
const RELOCATE: Reaction =
    Reaction::Relocate { invalidate: Some(InvalidReason::Other), backoff: BackoffKind::RegionMiss };

/// `control-plane.md` §6.5, for leader reads and writes.
pub(crate) fn on_region_error(error: RegionError, seen: &Situation) -> Reaction {
    let again = |kind| Reaction::Again { backoff: Some(kind), doubt: false };
    let slow = Reaction::NextReplica { not_leader: false, backoff: None };
    match error {
        RegionError::UndeterminedResult(_) => Reaction::InDoubt(error.to_error()),
        RegionError::NotLeader { leader: Some(leader) } => match seen.hint {
            Hint::Usable => Reaction::SwitchLeader(leader),
            // §19.8: not followed; asking the others is what makes them elect another.
            Hint::Unreachable => Reaction::NextReplica { not_leader: true, backoff: None },
            Hint::Stranger => Reaction::Relocate {
                invalidate: Some(InvalidReason::StoreNotFound),
                backoff: BackoffKind::RegionMiss,
            },
        },
        RegionError::NotLeader { leader: None } => {
            Reaction::NextReplica { not_leader: true, backoff: Some(BackoffKind::RegionScheduling) }
        }
        RegionError::DiskFull { .. } => again(BackoffKind::DiskFull),
        RegionError::RecoveryInProgress => Reaction::Relocate {
            invalidate: Some(InvalidReason::Other),
            backoff: BackoffKind::RegionRecoveryInProgress,
        },
        RegionError::IsWitness => Reaction::Relocate {
            invalidate: Some(InvalidReason::Other),
            backoff: BackoffKind::IsWitness,
        },
        RegionError::FlashbackInProgress { .. } | RegionError::FlashbackNotPrepared => {
            Reaction::Fatal(error.to_error())
        }
        RegionError::RegionNotFound if seen.leader_tried => Reaction::Relocate {
            invalidate: Some(InvalidReason::RegionNotFound),
            backoff: BackoffKind::RegionMiss,
        },
        RegionError::RegionNotFound => {
            Reaction::LeaderOnceThenRelocate { invalidate: InvalidReason::RegionNotFound }
        }
        RegionError::KeyNotInRegion => RELOCATE,
        RegionError::EpochNotMatch { current } => Reaction::Epoch(current),
        RegionError::BucketVersionNotMatch { .. } => {
            Reaction::Relocate { invalidate: None, backoff: BackoffKind::RegionMiss }
        }
        RegionError::ServerIsBusy { ref reason, .. }
            if seen.hurried_read && reason.contains("deadline is exceeded") =>
        {
            slow
        }
        // §7.6: the store of the leader is the one that has to be waited for; whoever else was asked
        // instead of it is not.
        RegionError::ServerIsBusy { .. } if seen.asked_leader => again(BackoffKind::ServerBusy),
        RegionError::ServerIsBusy { .. } => slow,
        // §19.15: potentially applied.
        RegionError::StaleCommand => Reaction::Again { backoff: None, doubt: true },
        RegionError::StoreNotMatch { .. } => Reaction::RefreshStore,
        RegionError::RaftEntryTooLarge { .. } => Reaction::Fatal(error.to_error()),
        RegionError::MaxTimestampNotSynced => again(BackoffKind::MaxTsNotSynced),
        RegionError::RegionNotInitialized => again(BackoffKind::RegionNotInitialized),
        RegionError::ReadIndexNotReady | RegionError::ProposalInMergingMode => {
            again(BackoffKind::RegionScheduling)
        }
        RegionError::DataIsNotReady => slow,
        RegionError::DeadlineExceeded if seen.hurried_read => slow,
        RegionError::MismatchPeerId => RELOCATE,
        RegionError::InvalidMaxTsUpdate(_) => Reaction::Fatal(error.to_error()),
        // What is not understood, or came after the store's own deadline, may have been executed.
        RegionError::DeadlineExceeded | RegionError::Other(_) => {
            Reaction::Again { backoff: None, doubt: true }
        }
    }
}

/// What is told of an attempt whose time was up.
pub(super) const NO_ANSWER: &str = "no answer in time";

/// Whether it is the time limit that ended an attempt, on this side or on the other.
pub(super) fn is_too_late(failure: &Failure) -> bool {
    let reason = failure.reason();
    match reason.status {
        Some(status) => status == GrpcStatus::DEADLINE_EXCEEDED,
        None => *reason.text == *NO_ANSWER,
    }
}

/// `control-plane.md` §6.4: the error with which a call ends at once, or `None` if another attempt
/// may help (after [`BackoffKind::TikvRpc`], unless the read is in a hurry and only took too long).
pub(crate) fn on_failure(failure: &Failure) -> Option<Error> {
    let reason = failure.reason();
    let (kind, what) = match reason.status {
        // peers.md D28: the connection is well, the request is not. Servers disagree on the status.
        _ if is_too_large(&reason.text) => (ErrorKind::TooLarge, "the message is too large"),
        Some(GrpcStatus::UNIMPLEMENTED) => {
            (ErrorKind::Refused, "the server does not offer this call")
        }
        // wire.md §1: to ask another cluster again and again would find it no less another.
        Some(GrpcStatus::INVALID_ARGUMENT | GrpcStatus::FAILED_PRECONDITION)
            if names_cluster(&reason.text) =>
        {
            (ErrorKind::Refused, "the server belongs to another cluster")
        }
        Some(_) | None => return None,
    };
    Some(Error::new(kind, format!("{what}: {reason}")))
}

/// The words of gRPC's own implementations in C, Go and Rust.
fn is_too_large(text: &str) -> bool {
    ["larger than max", "length too large"].iter().any(|words| text.contains(words))
}

/// TiKV: «the cluster id of the request does not match …»; PD: «mismatch cluster id, need …».
fn names_cluster(text: &str) -> bool {
    text.contains("cluster id")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PeerRole, RegionVersion, StoreId};

    const WRITE: Situation = Situation {
        asked_leader: true,
        leader_tried: true,
        hurried_read: false,
        hint: Hint::Usable,
    };
    const HURRIED: Situation = Situation { hurried_read: true, ..WRITE };
    const FOLLOWER: Situation = Situation { asked_leader: false, ..WRITE };
    const LEADER_UNTRIED: Situation = Situation { leader_tried: false, ..FOLLOWER };

    fn relocate(invalidate: InvalidReason, backoff: BackoffKind) -> Reaction {
        Reaction::Relocate { invalidate: Some(invalidate), backoff }
    }

    fn again(kind: BackoffKind) -> Reaction {
        Reaction::Again { backoff: Some(kind), doubt: false }
    }

    fn next(not_leader: bool, backoff: Option<BackoffKind>) -> Reaction {
        Reaction::NextReplica { not_leader, backoff }
    }

    fn fatal(error: &RegionError) -> Reaction {
        Reaction::Fatal(error.to_error())
    }

    /// control-plane.md §6.5: one row here for each row there, and for each of its cases.
    #[test]
    fn each_region_error_has_its_reaction() {
        use InvalidReason::{Other, RegionNotFound, StoreNotFound};
        let leader = Peer { id: 2, store: StoreId(2), role: PeerRole::Voter, witness: false };
        let named = || RegionError::NotLeader { leader: Some(leader) };
        let hint = |hint| Situation { hint, ..WRITE };
        let undetermined = RegionError::UndeterminedResult("u".into());
        let info = RegionInfo {
            version: RegionVersion { id: 1, conf_ver: 1, version: 2 },
            start: "a".into(),
            end: "b".into(),
            peers: vec![leader],
        };
        let flashback = RegionError::FlashbackInProgress { start_ts: 1 };
        let too_large = RegionError::RaftEntryTooLarge { size: 9 };
        let max_ts = RegionError::InvalidMaxTsUpdate("invalid max_ts update".into());
        let busy = |reason: &str| RegionError::ServerIsBusy {
            reason: reason.into(),
            estimated_wait_ms: 0,
        };
        let rows = [
            ("1", undetermined.clone(), WRITE, Reaction::InDoubt(undetermined.to_error())),
            ("2", named(), WRITE, Reaction::SwitchLeader(leader)),
            ("2, hint unreachable", named(), hint(Hint::Unreachable), next(true, None)),
            (
                "2, unknown peer",
                named(),
                hint(Hint::Stranger),
                relocate(StoreNotFound, BackoffKind::RegionMiss),
            ),
            (
                "2'",
                RegionError::NotLeader { leader: None },
                WRITE,
                next(true, Some(BackoffKind::RegionScheduling)),
            ),
            (
                "3",
                RegionError::DiskFull { stores: vec![], reason: String::new() },
                WRITE,
                again(BackoffKind::DiskFull),
            ),
            (
                "4",
                RegionError::RecoveryInProgress,
                WRITE,
                relocate(Other, BackoffKind::RegionRecoveryInProgress),
            ),
            ("5", RegionError::IsWitness, WRITE, relocate(Other, BackoffKind::IsWitness)),
            ("6", flashback.clone(), WRITE, fatal(&flashback)),
            (
                "7",
                RegionError::FlashbackNotPrepared,
                WRITE,
                fatal(&RegionError::FlashbackNotPrepared),
            ),
            (
                "8, leader tried",
                RegionError::RegionNotFound,
                WRITE,
                relocate(RegionNotFound, BackoffKind::RegionMiss),
            ),
            (
                "8, leader not yet tried",
                RegionError::RegionNotFound,
                LEADER_UNTRIED,
                Reaction::LeaderOnceThenRelocate { invalidate: RegionNotFound },
            ),
            ("9", RegionError::KeyNotInRegion, WRITE, relocate(Other, BackoffKind::RegionMiss)),
            (
                "10",
                RegionError::EpochNotMatch { current: vec![info.clone()] },
                WRITE,
                Reaction::Epoch(vec![info]),
            ),
            (
                "11",
                RegionError::BucketVersionNotMatch { version: 1, keys: vec![] },
                WRITE,
                Reaction::Relocate { invalidate: None, backoff: BackoffKind::RegionMiss },
            ),
            ("12", busy("deadline is exceeded"), HURRIED, next(false, None)),
            ("12, else", busy("deadline is exceeded"), WRITE, again(BackoffKind::ServerBusy)),
            ("13", busy("write stall"), HURRIED, again(BackoffKind::ServerBusy)),
            ("13, follower", busy("write stall"), FOLLOWER, next(false, None)),
            (
                "14",
                RegionError::StaleCommand,
                WRITE,
                Reaction::Again { backoff: None, doubt: true },
            ),
            (
                "15",
                RegionError::StoreNotMatch { actual: StoreId(9) },
                WRITE,
                Reaction::RefreshStore,
            ),
            ("16", too_large.clone(), WRITE, fatal(&too_large)),
            ("17", RegionError::MaxTimestampNotSynced, WRITE, again(BackoffKind::MaxTsNotSynced)),
            (
                "18",
                RegionError::RegionNotInitialized,
                WRITE,
                again(BackoffKind::RegionNotInitialized),
            ),
            ("19", RegionError::ReadIndexNotReady, WRITE, again(BackoffKind::RegionScheduling)),
            ("20", RegionError::ProposalInMergingMode, WRITE, again(BackoffKind::RegionScheduling)),
            ("21", RegionError::DataIsNotReady, WRITE, next(false, None)),
            ("22", RegionError::DeadlineExceeded, HURRIED, next(false, None)),
            (
                "22, else",
                RegionError::DeadlineExceeded,
                WRITE,
                Reaction::Again { backoff: None, doubt: true },
            ),
            ("23", RegionError::MismatchPeerId, WRITE, relocate(Other, BackoffKind::RegionMiss)),
            ("24", max_ts.clone(), WRITE, fatal(&max_ts)),
            (
                "25",
                RegionError::Other("what".into()),
                WRITE,
                Reaction::Again { backoff: None, doubt: true },
            ),
        ];
        for (row, error, seen, expected) in rows {
            assert_eq!(on_region_error(error, &seen), expected, "row {row}");
        }
    }

    /// Only what a store itself cannot tell is in doubt; and what is too large is told by its kind.
    #[test]
    fn fatal_errors_have_kinds() {
        for (error, kind) in [
            (RegionError::RaftEntryTooLarge { size: 9 }, ErrorKind::TooLarge),
            (RegionError::FlashbackNotPrepared, ErrorKind::Refused),
        ] {
            let Reaction::Fatal(error) = on_region_error(error, &WRITE) else { panic!("goes on") };
            assert_eq!(error.kind(), &kind);
        }
    }

    /// control-plane.md §6.4, peers.md D28, wire.md §1.
    #[test]
    fn few_failures_are_final() {
        let status = |status, text: &str| Failure::status(status, text);
        let too_large = "Received message larger than max (5 vs. 4)";
        for (row, failure, expected) in [
            ("connection refused", Failure::not_sent("refused"), None),
            ("answer lost", Failure::maybe_executed("reset"), None),
            ("unavailable", status(GrpcStatus::UNAVAILABLE, "closing"), None),
            ("gRPC Canceled otherwise", status(GrpcStatus::CANCELLED, "canceled"), None),
            ("deadline", status(GrpcStatus::DEADLINE_EXCEEDED, "late"), None),
            ("unknown status", status(GrpcStatus(99), "?"), None),
            ("other argument", status(GrpcStatus::INVALID_ARGUMENT, "region id 0"), None),
            ("memory quota", status(GrpcStatus::RESOURCE_EXHAUSTED, "memory"), None),
            (
                "no such call",
                status(GrpcStatus::UNIMPLEMENTED, "unknown method"),
                Some(ErrorKind::Refused),
            ),
            (
                "TiKV of another cluster",
                status(
                    GrpcStatus::INVALID_ARGUMENT,
                    "the cluster id of the request does not match the TiKV cluster",
                ),
                Some(ErrorKind::Refused),
            ),
            (
                "PD of another cluster",
                status(GrpcStatus::FAILED_PRECONDITION, "mismatch cluster id, need 1 but got 2"),
                Some(ErrorKind::Refused),
            ),
            (
                "D28, C",
                status(GrpcStatus::RESOURCE_EXHAUSTED, too_large),
                Some(ErrorKind::TooLarge),
            ),
            (
                "D28, tonic",
                status(GrpcStatus(11), "decoded message length too large: found 5 bytes"),
                Some(ErrorKind::TooLarge),
            ),
            ("D28, at home", Failure::not_sent(too_large), Some(ErrorKind::TooLarge)),
        ] {
            let error = on_failure(&failure);
            assert_eq!(error.map(|error| error.kind().clone()), expected, "{row}");
        }
    }
}
