//! Faults that a test asks for: what to do to which calls, and how often.
//!
//! A [`Rule`] names calls and what happens to them. The first rule that matches a call is used up
//! by one and decides alone; a call that none matches is healthy. Faults that the state of the
//! cluster causes by itself, such as `NotLeader` after a transfer of leadership, need no rule.
//!
//! ```
//! use anatase_cluster::{ClusterConfig, Fault, On, RegionFault};
//! use anatase_proto::rpc::Rpc;
//!
//! let mut cluster = ClusterConfig::default().build();
//! // The next prewrite on store 1 is executed, but its answer is lost with the connection.
//! cluster.faults().next(
//!     On::rpc(Rpc::KvPrewrite).store(1),
//!     Fault::DropResponse(anatase_cluster::Loss::Reset),
//! );
//! // After that, any two requests meet a busy server.
//! cluster.faults().times(2, On::any(), RegionFault::busy("scheduler is busy"));
//! ```

use std::{collections::BTreeMap, time::Duration};

use anatase_proto::{
    errorpb::{self, Error},
    pdpb,
    rpc::{Rpc, Service},
};
use bytes::Bytes;

use crate::{
    answer::{Loss, Status},
    event::Event,
    region::{Region, RegionId, Regions},
    store::StoreId,
};

/// Which calls a rule is about. A call matches if it is of the call, store, PD member and region
/// named; what is not named matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct On {
    rpc: Option<Rpc>,
    store: Option<StoreId>,
    member: Option<usize>,
    region: Option<RegionId>,
    skip: u32,
}

impl On {
    /// Every call to every store and PD member.
    pub fn any() -> Self {
        On::default()
    }

    /// This call. For a region lookup that travels on another path (a batch lookup of PD) name
    /// that one; a command in a `BatchCommands` stream counts as the call it stands for.
    pub fn rpc(rpc: Rpc) -> Self {
        On { rpc: Some(rpc), ..On::default() }
    }

    /// Calls to this store.
    pub fn store(mut self, store: StoreId) -> Self {
        self.store = Some(store);
        self
    }

    /// Calls to this PD member.
    pub fn member(mut self, member: usize) -> Self {
        self.member = Some(member);
        self
    }

    /// Calls whose context names this region.
    pub fn region(mut self, region: RegionId) -> Self {
        self.region = Some(region);
        self
    }

    /// Lets the first `calls` that match pass unharmed.
    pub fn after(mut self, calls: u32) -> Self {
        self.skip = calls;
        self
    }

    fn matches(&self, call: &Call) -> bool {
        fn may<T: PartialEq>(wanted: &Option<T>, is: &Option<T>) -> bool {
            wanted.is_none() || wanted == is
        }
        self.rpc.is_none_or(|rpc| rpc == call.rpc)
            && may(&self.store, &call.store)
            && may(&self.member, &call.member)
            && may(&self.region, &call.region)
    }
}

/// A call, as rules see it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) rpc: Rpc,
    pub(crate) store: Option<StoreId>,
    pub(crate) member: Option<usize>,
    pub(crate) region: Option<RegionId>,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is not executed; the store answers with a region error. Only for calls to a region.
    Region(RegionFault),
    /// It is not executed; PD answers with an error in the header. Only for calls to PD.
    Pd(PdFault),
    /// It is not executed; the server answers with a gRPC status.
    Status(Status),
    /// It is never executed and never answered.
    DropRequest(Loss),
    /// It is executed, and the answer is lost.
    DropResponse(Loss),
    /// It is executed at once and answered this much later.
    Delay(Duration),
    /// It is executed as ever, after this has happened to the cluster: with [`On::after`], between
    /// two calls.
    Before(Event),
    /// It falls back to two-phase commit, as if the store's timestamp were above what the client
    /// allows. Only for prewrites that ask for this way to commit; one that asks for both falls
    /// back from both, as on a real store. May strike together with another fault.
    FallBack(CommitWay),
    /// It does not wait: a lock request that would be parked is answered `KeyIsLocked` at once, as
    /// if its time to wait were over. May strike together with another fault.
    DoNotWait,
}

impl From<Event> for Fault {
    fn from(event: Event) -> Self {
        Fault::Before(event)
    }
}

/// A way to commit that needs no second phase before the client may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommitWay {
    /// Committed when all locks are there.
    Async,
    /// Committed by the prewrite itself.
    OnePhase,
}

/// An error in PD's response header (wire.md §7.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PdFault {
    /// Its type.
    pub kind: pdpb::ErrorType,
    /// Its text.
    pub message: String,
}

impl From<PdFault> for Fault {
    fn from(fault: PdFault) -> Self {
        Fault::Pd(fault)
    }
}

/// A region error (wire.md §4). What a variant leaves out is filled in from the cluster as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegionFault {
    /// Not the leader; `leader` is the store hinted at, if any.
    NotLeader {
        /// The store of the peer that is said to lead.
        leader: Option<StoreId>,
    },
    /// The store does not have the region.
    RegionNotFound,
    /// A key outside the region.
    KeyNotInRegion {
        /// The key.
        key: Bytes,
    },
    /// Another epoch; with the regions as they are, or with none.
    EpochNotMatch {
        /// Whether the current regions are told.
        with_regions: bool,
    },
    /// Overloaded.
    ServerIsBusy {
        /// Why; clients look for "deadline is exceeded" in it.
        reason: String,
        /// How long to wait, or 0.
        backoff_ms: u64,
        /// How long a request would wait in the queue, or 0.
        estimated_wait_ms: u32,
    },
    /// The leader changed while the command was on its way.
    StaleCommand,
    /// The request was for another store.
    StoreNotMatch {
        /// The store it says it wants.
        wanted: StoreId,
    },
    /// More than one Raft entry may hold.
    RaftEntryTooLarge {
        /// Its size in bytes.
        entry_size: u64,
    },
    /// A new leader that does not know the largest timestamp read yet.
    MaxTimestampNotSynced,
    /// A replica read during a merge or without a leader.
    ReadIndexNotReady {
        /// Why.
        reason: String,
    },
    /// The region is being merged away.
    ProposalInMergingMode,
    /// A stale read ahead of what the replica knows to be safe.
    DataIsNotReady {
        /// Up to where it is safe.
        safe_ts: u64,
    },
    /// A peer without a snapshot yet.
    RegionNotInitialized,
    /// A full disk.
    DiskFull {
        /// Why.
        reason: String,
    },
    /// Unsafe recovery under way.
    RecoveryInProgress,
    /// Flashback under way.
    FlashbackInProgress {
        /// When it began.
        start_ts: u64,
    },
    /// Flashback not prepared.
    FlashbackNotPrepared,
    /// The peer is a witness.
    IsWitness,
    /// The store has another peer of the region.
    MismatchPeerId {
        /// The peer it has.
        store_peer: u64,
    },
    /// Other buckets.
    BucketVersionNotMatch {
        /// The version of the buckets.
        version: u64,
        /// Their bounds, physical.
        keys: Vec<Bytes>,
    },
    /// The outcome of a proposal is not known.
    UndeterminedResult {
        /// Why.
        message: String,
    },
    /// A region error with a text and nothing else, such as a client must meet one day when a new
    /// variant appears.
    Unknown {
        /// The text.
        message: String,
    },
}

impl RegionFault {
    /// `ServerIsBusy` without hints.
    pub fn busy(reason: &str) -> Self {
        RegionFault::ServerIsBusy { reason: reason.to_owned(), backoff_ms: 0, estimated_wait_ms: 0 }
    }

    /// The error on the wire, for a request that store `at` got for `region`.
    pub(crate) fn to_proto(&self, at: StoreId, id: RegionId, regions: &Regions) -> Error {
        let region = regions.get(id);
        let peer_id = region.and_then(|region| region.peer_on(at)).map_or(0, |peer| peer.id);
        let mut error = Error { message: format!("{self:?}"), ..Error::default() };
        match self {
            RegionFault::NotLeader { leader } => {
                let leader = leader.and_then(|store| region?.peer_on(store));
                error.not_leader = Some(Box::new(errorpb::NotLeader {
                    region_id: id,
                    leader: leader.map(|peer| peer.to_proto()),
                }));
            }
            RegionFault::RegionNotFound => {
                error.region_not_found = Some(Box::new(errorpb::RegionNotFound { region_id: id }));
            }
            RegionFault::KeyNotInRegion { key } => match region {
                Some(region) => error = *region.key_not_in_region(key),
                None => {
                    error.key_not_in_region = Some(Box::new(errorpb::KeyNotInRegion {
                        key: key.clone(),
                        region_id: id,
                        ..Default::default()
                    }));
                }
            },
            RegionFault::EpochNotMatch { with_regions } => {
                let told = region.filter(|_| *with_regions);
                error.epoch_not_match = Some(Box::new(errorpb::EpochNotMatch {
                    current_regions: told.map(Region::to_proto).into_iter().collect(),
                }));
            }
            RegionFault::ServerIsBusy { reason, backoff_ms, estimated_wait_ms } => {
                error.server_is_busy = Some(Box::new(errorpb::ServerIsBusy {
                    reason: reason.clone(),
                    backoff_ms: *backoff_ms,
                    estimated_wait_ms: *estimated_wait_ms,
                    ..Default::default()
                }));
            }
            RegionFault::StaleCommand => {
                error.stale_command = Some(Box::new(errorpb::StaleCommand {}));
            }
            RegionFault::StoreNotMatch { wanted } => {
                error.store_not_match = Some(Box::new(errorpb::StoreNotMatch {
                    request_store_id: *wanted,
                    actual_store_id: at,
                }));
            }
            RegionFault::RaftEntryTooLarge { entry_size } => {
                error.raft_entry_too_large = Some(Box::new(errorpb::RaftEntryTooLarge {
                    region_id: id,
                    entry_size: *entry_size,
                }));
            }
            RegionFault::MaxTimestampNotSynced => {
                error.max_timestamp_not_synced = Some(Box::new(errorpb::MaxTimestampNotSynced {}));
            }
            RegionFault::ReadIndexNotReady { reason } => {
                error.read_index_not_ready = Some(Box::new(errorpb::ReadIndexNotReady {
                    reason: reason.clone(),
                    region_id: id,
                }));
            }
            RegionFault::ProposalInMergingMode => {
                error.proposal_in_merging_mode =
                    Some(Box::new(errorpb::ProposalInMergingMode { region_id: id }));
            }
            RegionFault::DataIsNotReady { safe_ts } => {
                error.data_is_not_ready = Some(Box::new(errorpb::DataIsNotReady {
                    region_id: id,
                    peer_id,
                    safe_ts: *safe_ts,
                }));
            }
            RegionFault::RegionNotInitialized => {
                error.region_not_initialized =
                    Some(Box::new(errorpb::RegionNotInitialized { region_id: id }));
            }
            RegionFault::DiskFull { reason } => {
                error.disk_full = Some(Box::new(errorpb::DiskFull {
                    store_id: vec![at],
                    reason: reason.clone(),
                }));
            }
            RegionFault::RecoveryInProgress => {
                error.recovery_in_progress =
                    Some(Box::new(errorpb::RecoveryInProgress { region_id: id }));
            }
            RegionFault::FlashbackInProgress { start_ts } => {
                error.flashback_in_progress = Some(Box::new(errorpb::FlashbackInProgress {
                    region_id: id,
                    flashback_start_ts: *start_ts,
                }));
            }
            RegionFault::FlashbackNotPrepared => {
                error.flashback_not_prepared =
                    Some(Box::new(errorpb::FlashbackNotPrepared { region_id: id }));
            }
            RegionFault::IsWitness => {
                error.is_witness = Some(Box::new(errorpb::IsWitness { region_id: id }));
            }
            RegionFault::MismatchPeerId { store_peer } => {
                error.mismatch_peer_id = Some(Box::new(errorpb::MismatchPeerId {
                    request_peer_id: peer_id,
                    store_peer_id: *store_peer,
                }));
            }
            RegionFault::BucketVersionNotMatch { version, keys } => {
                error.bucket_version_not_match = Some(Box::new(errorpb::BucketVersionNotMatch {
                    version: *version,
                    keys: keys.clone(),
                }));
            }
            RegionFault::UndeterminedResult { message } => {
                error.undetermined_result =
                    Some(Box::new(errorpb::UndeterminedResult { message: message.clone() }));
            }
            RegionFault::Unknown { message } => error.message = message.clone(),
        }
        error
    }
}

impl From<RegionFault> for Fault {
    fn from(fault: RegionFault) -> Self {
        Fault::Region(fault)
    }
}

/// Names a rule, to withdraw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// Calls, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its name.
    pub id: RuleId,
    /// To which calls.
    pub on: On,
    /// What happens.
    pub fault: Fault,
    /// How often still; `None` is always.
    pub left: Option<u32>,
}

/// The rules in force, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    made: u64,
    struck: u64,
    /// How many calls have come in, of each kind.
    seen: BTreeMap<Rpc, u64>,
}

impl Faults {
    /// Once.
    pub fn next(&mut self, on: On, fault: impl Into<Fault>) -> RuleId {
        self.add(Some(1), on, fault.into())
    }

    /// So many times.
    pub fn times(&mut self, times: u32, on: On, fault: impl Into<Fault>) -> RuleId {
        self.add(Some(times), on, fault.into())
    }

    /// Until withdrawn.
    pub fn always(&mut self, on: On, fault: impl Into<Fault>) -> RuleId {
        self.add(None, on, fault.into())
    }

    /// Withdraws a rule, if it is still in force.
    pub fn remove(&mut self, id: RuleId) {
        self.rules.retain(|rule| rule.id != id);
    }

    /// Withdraws all.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// What is still in force.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many calls a rule has struck so far.
    pub fn struck(&self) -> u64 {
        self.struck
    }

    pub(crate) fn seen(&self, rpc: Rpc) -> u64 {
        self.seen.get(&rpc).copied().unwrap_or(0)
    }

    fn add(&mut self, left: Option<u32>, on: On, fault: Fault) -> RuleId {
        self.made += 1;
        let id = RuleId(self.made);
        if left != Some(0) {
            self.rules.push(Rule { id, on, fault, left });
        }
        id
    }

    /// What happens to this call; uses up the rule.
    pub(crate) fn strike(&mut self, call: &Call) -> Option<Fault> {
        *self.seen.entry(call.rpc).or_default() += 1;
        let to_store = matches!(call.rpc.service(), Service::Tikv | Service::Debug);
        let applies = |fault: &Fault| match fault {
            Fault::Region(_) => to_store && call.region.is_some(),
            Fault::Pd(_) => !to_store,
            Fault::FallBack(_) | Fault::DoNotWait => false,
            Fault::Status(_)
            | Fault::DropRequest(_)
            | Fault::DropResponse(_)
            | Fault::Delay(_)
            | Fault::Before(_) => true,
        };
        self.use_up(call, applies)
    }

    /// Whether a prewrite that asks for these ways to commit falls back; uses up the rule.
    pub(crate) fn strike_way(&mut self, call: &Call, async_commit: bool, one_phase: bool) -> bool {
        let applies = |fault: &Fault| match fault {
            Fault::FallBack(CommitWay::Async) => async_commit,
            Fault::FallBack(CommitWay::OnePhase) => one_phase,
            Fault::Region(_)
            | Fault::Pd(_)
            | Fault::Status(_)
            | Fault::DropRequest(_)
            | Fault::DropResponse(_)
            | Fault::Delay(_)
            | Fault::Before(_)
            | Fault::DoNotWait => false,
        };
        self.use_up(call, applies).is_some()
    }

    /// Whether a request that would be parked is not; uses up the rule.
    pub(crate) fn strike_wait(&mut self, call: &Call) -> bool {
        self.use_up(call, |fault| *fault == Fault::DoNotWait).is_some()
    }

    /// The oldest rule for this call whose fault applies to it.
    fn use_up(&mut self, call: &Call, applies: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at =
            self.rules.iter().position(|rule| applies(&rule.fault) && rule.on.matches(call))?;
        let rule = &mut self.rules[at];
        if rule.on.skip > 0 {
            rule.on.skip -= 1;
            return None;
        }
        self.struck += 1;
        let fault = rule.fault.clone();
        if let Some(left) = &mut rule.left {
            *left -= 1;
            if *left == 0 {
                self.rules.remove(at);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(store: StoreId) -> Call {
        Call { rpc: Rpc::RawGet, store: Some(store), member: None, region: Some(7) }
    }

    #[test]
    fn a_rule_is_used_up_by_the_calls_it_names() {
        let mut faults = Faults::default();
        faults.times(2, On::rpc(Rpc::RawGet).store(1), RegionFault::StaleCommand);
        assert_eq!(faults.strike(&get(2)), None);
        assert!(faults.strike(&get(1)).is_some());
        assert!(faults.strike(&get(1)).is_some());
        assert_eq!(faults.strike(&get(1)), None);
        assert!(faults.rules().is_empty());
        assert_eq!(faults.struck(), 2);
        assert_eq!((faults.seen(Rpc::RawGet), faults.seen(Rpc::RawPut)), (4, 0));
    }

    #[test]
    fn the_oldest_rule_goes_first_and_some_calls_pass_before() {
        let mut faults = Faults::default();
        let always = faults.always(On::any().after(1), RegionFault::StaleCommand);
        faults.next(On::any(), RegionFault::IsWitness);
        assert_eq!(faults.strike(&get(1)), None);
        assert_eq!(faults.strike(&get(1)), Some(RegionFault::StaleCommand.into()));
        faults.remove(always);
        assert_eq!(faults.strike(&get(1)), Some(RegionFault::IsWitness.into()));
    }

    #[test]
    fn region_errors_are_for_calls_with_a_region_and_pd_errors_for_pd() {
        let mut faults = Faults::default();
        faults.always(On::any(), RegionFault::StaleCommand);
        let tso = Call { rpc: Rpc::PdTso, store: None, member: Some(0), region: None };
        assert_eq!(faults.strike(&tso), None);
        let fault = PdFault { kind: pdpb::ErrorType::Unknown, message: "no".into() };
        faults.always(On::any(), fault.clone());
        assert_eq!(faults.strike(&tso), Some(fault.into()));
        assert!(matches!(faults.strike(&get(1)), Some(Fault::Region(_))));
    }

    #[test]
    fn a_way_to_commit_is_refused_to_who_asks_for_it_beside_other_faults() {
        let mut faults = Faults::default();
        let prewrite = Call { rpc: Rpc::KvPrewrite, store: Some(1), member: None, region: Some(7) };
        faults.next(On::any().after(1), Fault::FallBack(CommitWay::Async));
        faults.next(On::any().store(2), Fault::FallBack(CommitWay::OnePhase));
        faults.next(On::any(), Fault::Delay(Duration::ZERO));
        assert!(!faults.strike_way(&prewrite, false, true), "another way, another store");
        assert!(!faults.strike_way(&prewrite, true, true), "the first passes");
        assert_eq!(faults.strike(&prewrite), Some(Fault::Delay(Duration::ZERO)));
        assert_eq!(faults.strike(&prewrite), None);
        assert!(faults.strike_way(&prewrite, true, false));
        assert!(!faults.strike_way(&prewrite, true, false), "used up");
        let elsewhere = Call { store: Some(2), ..prewrite };
        assert!(faults.strike_way(&elsewhere, true, true));
        assert!(faults.rules().is_empty());
    }
}
