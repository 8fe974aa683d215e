//! Finding PD's leader and asking it things (`control-plane.md` §14.1, §14.2).
//!
//! ```text
//! discovery   Idle ─▶ Asking(candidate) ─▶ Idle        a member names a leader
//!                        │     ▲
//!                        ▼     │ next candidate, or after a pause the first again
//!                      Resting ┘
//!
//! task        Parked ─▶ Sent ─▶ done                   no leader known: parked until there is one
//!               ▲        │
//!               └─ Resting ◀─┘ transport failure: discovery starts, the task goes round again
//! ```
//!
//! An answer of PD that says «no» (`header.error`) is not a failure of the connection: it ends the
//! task at once (`peers.md` D24). Nothing here blocks anything else: tasks are independent, and
//! timestamps have a stream of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anatase_proto::keyspacepb::LoadKeyspaceRequest;
use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;
use bytes::Bytes;
use prost::Message;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::{Destination, WakeReason};
use crate::error::{Error, ErrorKind, Failure, GrpcStatus};
use crate::id::{CommandId, Handle, StoreId};
use crate::operation::Key;
use crate::region::loader::RegionQuery;
use crate::shared::{CommandOwner, Owner, Shared, Tag, TimerTarget, Wake};
use crate::slab::Slab;
use crate::time::Instant;
use crate::timer::TimerId;
use crate::wire::reply::{self, Members};
use crate::wire::{Head, Request, Response};

/// First pause after a round in which no member named a leader (PD's client: 20 ms).
const FIRST_REST: Duration = Duration::from_millis(20);
/// Longest such pause (PD's client retries its initial discovery once a second).
const LONGEST_REST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Hash)]
pub(crate) struct Pd {
    /// What the application gave: never forgotten, so that a cluster whose members all changed is
    /// found again.
    seeds: Vec<Arc<str>>,
    members: Vec<Arc<str>>,
    leader: Option<Arc<str>>,
    /// 0 until a member told it.
    cluster_id: u64,
    discovery: Discovery,
    /// Rounds in a row in which no member named a leader.
    fruitless: u32,
    refreshed: Option<Instant>,
    tasks: Slab<PdTask>,
    parked: VecDeque<Handle>,
    ready: Vec<(Owner, Tag)>,
    last_error: Option<Error>,
    scan: ScanSupport,
}

/// How this PD tells about several regions at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ScanSupport {
    /// By `BatchScanRegions`, as far as is known.
    Batch,
    /// By `ScanRegions`.
    Single,
    /// Not at all: one by one.
    None,
}

/// How many regions are asked for at once (§4.6).
const REGIONS_AT_ONCE: i32 = 128;

#[derive(Clone, Debug, Hash)]
enum Discovery {
    Idle,
    Asking { candidate: usize, command: CommandId, timer: TimerId },
    Resting { timer: TimerId },
}

#[derive(Clone, Debug, Hash)]
struct PdTask {
    purpose: PdPurpose,
    rpc: Rpc,
    body: Bytes,
    backoff: Backoff,
    failures: u32,
    /// When it first had to wait for a leader.
    parked_since: Option<Instant>,
    state: TaskState,
}

#[derive(Clone, Debug, Hash)]
enum TaskState {
    Parked,
    Sent { command: CommandId, timer: TimerId, leader: Arc<str> },
    Resting,
}

/// What a question to PD is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PdPurpose {
    /// On behalf of this load.
    Region(Handle),
    Store(StoreId),
    /// The keyspace of all keys.
    Keyspace,
}

impl Pd {
    pub(crate) fn new(seeds: Vec<Arc<str>>) -> Self {
        Self {
            seeds,
            members: Vec::new(),
            leader: None,
            cluster_id: 0,
            discovery: Discovery::Idle,
            fruitless: 0,
            refreshed: None,
            tasks: Slab::new(),
            parked: VecDeque::new(),
            ready: Vec::new(),
            last_error: None,
            scan: ScanSupport::Batch,
        }
    }

    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Where the leader is, if it is known.
    pub(crate) fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    /// Why there is no leader, for whoever gives up waiting for one.
    pub(crate) fn why_unavailable(&self) -> Error {
        let names: Vec<&str> = self.seeds.iter().map(AsRef::as_ref).collect();
        Error::new(
            ErrorKind::PdUnavailable,
            format!("no PD leader found through {}", names.join(", ")),
        )
        .because(self.last_error.clone())
    }

    /// What has gone wrong so far with the question for the keyspace.
    pub(crate) fn keyspace_trouble(&self) -> Option<Error> {
        let mut tasks = self.tasks.iter().map(|(_, task)| task);
        let task = tasks.find(|task| task.purpose == PdPurpose::Keyspace)?;
        task.backoff.last().cloned()
    }

    fn candidates(&self) -> impl Iterator<Item = &Arc<str>> {
        let new_seeds = self
            .seeds
            .iter()
            .filter(|seed| !self.members.iter().any(|member| bare(member) == bare(seed)));
        self.members.iter().chain(new_seeds)
    }
}

/// An address without its scheme, so that `http://pd:2379` and `pd:2379` are one candidate.
fn bare(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/')
}

/// Whether the member belongs to another cluster than the one this client has talked to.
fn is_cluster_mismatch(failure: &Failure) -> bool {
    let reason = failure.reason();
    reason.status == Some(GrpcStatus::FAILED_PRECONDITION)
        && reason.text.contains("mismatch cluster id")
}

/// Whether the member is of a version without keyspaces: that does not pass.
fn is_without_keyspaces(rpc: Rpc, failure: &Failure) -> bool {
    rpc == Rpc::LoadKeyspace && failure.reason().status == Some(GrpcStatus::UNIMPLEMENTED)
}

impl Shared {
    /// Answered by [`Wake::PdReady`] once a leader is known.
    pub(crate) fn pd_await_ready(&mut self, owner: Owner, tag: Tag) {
        if self.pd.leader.is_some() {
            self.wake(owner, tag, Wake::PdReady);
        } else {
            self.pd.ready.push((owner, tag));
            self.pd_discover();
        }
    }

    fn pd_is_wanted(&self) -> bool {
        !self.pd.parked.is_empty() || !self.pd.ready.is_empty() || self.tso.is_wanted()
    }

    /// Forgets who waits for [`Wake::PdReady`].
    pub(crate) fn pd_forget(&mut self, owner: Owner) {
        self.pd.ready.retain(|(waiter, _)| *waiter != owner);
    }

    /// Looks for the leader, unless that is under way already.
    pub(crate) fn pd_discover(&mut self) {
        if let Discovery::Idle = self.pd.discovery {
            self.pd_ask_candidate(0);
        }
    }

    /// The member at `address` does not lead, or does not answer.
    pub(crate) fn pd_doubt_leader(&mut self, address: &Arc<str>, error: Error) {
        self.pd.last_error = Some(error);
        if self.pd.leader.as_ref() == Some(address) {
            self.pd.leader = None;
        }
        self.pd_discover();
    }

    fn pd_ask_candidate(&mut self, candidate: usize) {
        let Some(address) = self.pd.candidates().nth(candidate).cloned() else {
            return self.pd_rest();
        };
        let deadline = self.now + self.config.pd_member_timeout;
        let request =
            Request::new(Rpc::PdGetMembers, Head::None, &pdpb::GetMembersRequest::default());
        let to = Destination { address, store: None };
        let command = self.send(CommandOwner::Discovery, to, deadline, request);
        let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, TimerTarget::Discovery);
        self.pd.discovery = Discovery::Asking { candidate, command, timer };
    }

    fn pd_rest(&mut self) {
        let exponent = self.pd.fruitless.min(16);
        self.pd.fruitless += 1;
        let wait = (FIRST_REST * (1 << exponent)).min(LONGEST_REST);
        // Half of it drawn, so that clients that lost the same leader do not come back in step.
        let half = wait.as_nanos() as u64 / 2;
        let drawn = half * u64::from(self.draws.below(1 << 16)) / (1 << 16);
        let at = self.now + Duration::from_nanos(half + drawn);
        let timer = self.set_timer(at, WakeReason::PdRefresh, TimerTarget::Discovery);
        self.pd.discovery = Discovery::Resting { timer };
        self.pd_end_parked();
    }

    /// Ends what has waited for a leader as long as a question to PD may wait. An operation has its
    /// deadline; but what is left of one that is over has nobody to wait for it, and would keep the
    /// search going for ever.
    fn pd_end_parked(&mut self) {
        let (now, tasks) = (self.now, &self.pd.tasks);
        let is_over = |handle: &Handle| {
            let since = tasks.get(*handle).and_then(|task| task.parked_since);
            since.is_none_or(|since| now.since(since) >= budget::PD)
        };
        let parked = std::mem::take(&mut self.pd.parked);
        let (over, parked): (VecDeque<_>, _) = parked.into_iter().partition(is_over);
        self.pd.parked = parked;
        for handle in over {
            let error = self.pd.why_unavailable();
            self.pd_task_done(handle, Err(error));
        }
        self.tso_end_parked();
    }

    pub(crate) fn pd_discovery_timer(&mut self) {
        match self.pd.discovery {
            Discovery::Idle => {}
            Discovery::Asking { candidate, command, .. } => {
                self.abort(command);
                let error = Error::new(ErrorKind::PdUnavailable, "no answer in time");
                self.pd_candidate_failed(candidate, error);
            }
            // Whoever wants PD next begins again; an idle core must not go on asking.
            Discovery::Resting { .. } if !self.pd_is_wanted() => {
                self.pd.discovery = Discovery::Idle;
            }
            Discovery::Resting { .. } => self.pd_ask_candidate(0),
        }
    }

    fn pd_candidate_failed(&mut self, candidate: usize, error: Error) {
        let address = self.pd.candidates().nth(candidate).cloned();
        let text = format!("PD at {}", address.as_deref().unwrap_or("?"));
        self.pd.last_error = Some(Error::new(ErrorKind::PdUnavailable, text).because(Some(error)));
        self.pd_ask_candidate(candidate + 1);
    }

    pub(crate) fn pd_discovery_answer(&mut self, answer: Result<Response, Failure>) {
        let Discovery::Asking { candidate, timer, .. } = self.pd.discovery else {
            return;
        };
        self.timers.cancel(timer);
        let members = match answer {
            Ok(response) => reply::members(response),
            Err(failure) => Err(Error::new(ErrorKind::PdUnavailable, failure.reason().to_string())),
        };
        match members {
            Ok(members) => self.pd_learn(candidate, members),
            Err(error) => self.pd_candidate_failed(candidate, error),
        }
    }

    fn pd_learn(&mut self, candidate: usize, members: Members) {
        if members.cluster_id == 0
            || (self.pd.cluster_id != 0 && members.cluster_id != self.pd.cluster_id)
        {
            let text =
                format!("it belongs to cluster {}, not {}", members.cluster_id, self.pd.cluster_id);
            return self.pd_candidate_failed(candidate, Error::new(ErrorKind::PdRefused, text));
        }
        let Some(leader) = members.leader else {
            return self.pd_candidate_failed(
                candidate,
                Error::new(ErrorKind::PdUnavailable, "it knows no leader"),
            );
        };
        self.pd.cluster_id = members.cluster_id;
        self.pd.members = members.members;
        self.pd.leader = Some(leader);
        self.pd.discovery = Discovery::Idle;
        self.pd.fruitless = 0;
        self.pd.refreshed = Some(self.now);
        self.pd.last_error = None;
        for (owner, tag) in std::mem::take(&mut self.pd.ready) {
            self.wake(owner, tag, Wake::PdReady);
        }
        for task in std::mem::take(&mut self.pd.parked) {
            self.pd_send_task(task);
        }
        self.tso_flush();
    }

    /// Refreshes the members without holding anybody up, if that has not been done for long.
    pub(crate) fn pd_refresh_if_old(&mut self) {
        let old = self
            .pd
            .refreshed
            .is_some_and(|at| self.now.since(at) >= self.config.pd_refresh_interval);
        if old {
            self.pd.refreshed = Some(self.now);
            self.pd_discover();
        }
    }

    /// Asks PD where a region is, or several, on behalf of `load`.
    pub(crate) fn pd_ask_region(&mut self, load: Handle, query: RegionQuery) {
        self.stats.region_loads += 1;
        let (rpc, body) = match &query {
            RegionQuery::Containing(key) => (Rpc::PdGetRegion, self.get_region(key)),
            RegionQuery::Previous(key) => (Rpc::PdGetPrevRegion, self.get_region(key)),
            RegionQuery::Between(first, end) => match self.pd.scan {
                ScanSupport::Batch => (Rpc::PdBatchScanRegions, self.batch_scan(first, end)),
                ScanSupport::Single => (Rpc::PdScanRegions, self.scan_regions(first, end)),
                ScanSupport::None => (Rpc::PdGetRegion, self.get_region(first)),
            },
        };
        self.pd_start(PdPurpose::Region(load), rpc, body.into());
    }

    fn get_region(&self, key: &Key) -> Vec<u8> {
        let region_key = self.codec.to_pd(key);
        pdpb::GetRegionRequest { region_key, ..Default::default() }.encode_to_vec()
    }

    fn batch_scan(&self, first: &Key, end: &Key) -> Vec<u8> {
        let range =
            pdpb::KeyRange { start_key: self.codec.to_pd(first), end_key: self.codec.to_pd(end) };
        let message = pdpb::BatchScanRegionsRequest {
            ranges: vec![range],
            limit: REGIONS_AT_ONCE,
            contain_all_key_range: true,
            ..Default::default()
        };
        message.encode_to_vec()
    }

    fn scan_regions(&self, first: &Key, end: &Key) -> Vec<u8> {
        let message = pdpb::ScanRegionsRequest {
            start_key: self.codec.to_pd(first),
            end_key: self.codec.to_pd(end),
            limit: REGIONS_AT_ONCE,
            ..Default::default()
        };
        message.encode_to_vec()
    }

    /// An older PD does not know the call: from now on the next best is used (§4.6).
    fn pd_without(&mut self, handle: Handle, rpc: Rpc) {
        self.pd.scan = match rpc {
            Rpc::PdBatchScanRegions => ScanSupport::Single,
            _ => ScanSupport::None,
        };
        if let Some(task) = self.pd.tasks.remove(handle)
            && let PdPurpose::Region(load) = task.purpose
        {
            self.ask_again(load);
        }
    }

    /// Asks PD where a store is.
    pub(crate) fn pd_ask_store(&mut self, store: StoreId) {
        let message = pdpb::GetStoreRequest { store_id: store.0, ..Default::default() };
        self.pd_start(PdPurpose::Store(store), Rpc::PdGetStore, message.encode_to_vec().into());
    }

    /// Asks PD for a keyspace.
    pub(crate) fn pd_ask_keyspace(&mut self, name: &str) {
        let message = LoadKeyspaceRequest { name: name.to_owned(), ..Default::default() };
        self.pd_start(PdPurpose::Keyspace, Rpc::LoadKeyspace, message.encode_to_vec().into());
    }

    fn pd_start(&mut self, purpose: PdPurpose, rpc: Rpc, body: Bytes) {
        let backoff = Backoff::new(budget::PD);
        let state = TaskState::Parked;
        let task = PdTask { purpose, rpc, body, backoff, failures: 0, parked_since: None, state };
        let handle = self.pd.tasks.insert(task);
        self.pd_send_task(handle);
    }

    fn pd_send_task(&mut self, handle: Handle) {
        self.pd_refresh_if_old();
        let Some(task) = self.pd.tasks.get(handle) else {
            return;
        };
        let Some(leader) = self.pd.leader.clone() else {
            if let Some(task) = self.pd.tasks.get_mut(handle) {
                task.state = TaskState::Parked;
                task.parked_since.get_or_insert(self.now);
            }
            self.pd.parked.push_back(handle);
            return self.pd_discover();
        };
        let head = Head::Pd { cluster_id: self.pd.cluster_id };
        let request = Request { rpc: task.rpc, head, body: task.body.clone() };
        let deadline = self.now + self.config.pd_timeout;
        let to = Destination { address: leader.clone(), store: None };
        let command = self.send(CommandOwner::PdTask(handle), to, deadline, request);
        let target = TimerTarget::PdTask(handle);
        let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, target);
        if let Some(task) = self.pd.tasks.get_mut(handle) {
            task.state = TaskState::Sent { command, timer, leader };
        }
    }

    pub(crate) fn pd_task_timer(&mut self, handle: Handle) {
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        match std::mem::replace(&mut task.state, TaskState::Parked) {
            TaskState::Parked => {}
            TaskState::Resting => self.pd_send_task(handle),
            TaskState::Sent { command, leader, .. } => {
                self.abort(command);
                let error = Error::new(ErrorKind::PdUnavailable, "no answer in time");
                self.pd_task_failed(handle, &leader, error);
            }
        }
    }

    pub(crate) fn pd_task_answer(&mut self, handle: Handle, answer: Result<Response, Failure>) {
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        let TaskState::Sent { timer, leader, .. } =
            std::mem::replace(&mut task.state, TaskState::Parked)
        else {
            return;
        };
        let rpc = task.rpc;
        self.timers.cancel(timer);
        match answer {
            Ok(response) => self.pd_task_done(handle, Ok(response)),
            Err(failure)
                if failure.reason().status == Some(GrpcStatus::UNIMPLEMENTED)
                    && matches!(rpc, Rpc::PdBatchScanRegions | Rpc::PdScanRegions) =>
            {
                self.pd_without(handle, rpc);
            }
            Err(failure)
                if is_cluster_mismatch(&failure) || is_without_keyspaces(rpc, &failure) =>
            {
                let error = Error::new(ErrorKind::PdRefused, failure.reason().to_string());
                self.pd_task_done(handle, Err(error));
            }
            Err(failure) => {
                let text = format!("PD at {leader}: {}", failure.reason());
                let error = Error::new(ErrorKind::PdUnavailable, text);
                self.pd_task_failed(handle, &leader, error);
            }
        }
    }

    /// No answer: whoever leads now is asked again, the first time without a pause, since a leader
    /// that moved is found in one round trip.
    fn pd_task_failed(&mut self, handle: Handle, leader: &Arc<str>, error: Error) {
        self.stats.failures += 1;
        self.pd_doubt_leader(leader, error.clone());
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        task.failures += 1;
        if task.failures == 1 {
            return self.pd_send_task(handle);
        }
        let draws = &mut self.draws;
        match task.backoff.next(BackoffKind::PdRpc, None, error, |bound| draws.below(bound)) {
            Ok(wait) => self.pd_task_rest(handle, wait),
            Err(error) => self.pd_task_done(handle, Err(error)),
        }
    }

    fn pd_task_rest(&mut self, handle: Handle, wait: Duration) {
        self.stats.backoffs += 1;
        let at = self.now + wait;
        self.set_timer(at, WakeReason::Backoff, TimerTarget::PdTask(handle));
        if let Some(task) = self.pd.tasks.get_mut(handle) {
            task.state = TaskState::Resting;
        }
    }

    /// The same question again after a pause: PD answered, but knows no region yet.
    fn pd_task_again(&mut self, handle: Handle, error: Error) {
        let draws = &mut self.draws;
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        match task.backoff.next(BackoffKind::PdRpc, None, error, |bound| draws.below(bound)) {
            Ok(wait) => self.pd_task_rest(handle, wait),
            Err(error) => self.pd_task_done(handle, Err(error)),
        }
    }

    fn pd_task_done(&mut self, handle: Handle, answer: Result<Response, Error>) {
        let Some(purpose) = self.pd.tasks.get(handle).map(|task| task.purpose.clone()) else {
            return;
        };
        match purpose {
            PdPurpose::Store(store) => {
                self.pd.tasks.remove(handle);
                let address = answer.and_then(reply::store_address);
                self.on_store_answer(store, address);
            }
            PdPurpose::Keyspace => {
                let mut retry = answer.is_ok();
                let keyspace = answer.and_then(|answer| self.read_keyspace(answer));
                retry &=
                    matches!(&keyspace, Err(error) if *error.kind() == ErrorKind::PdUnavailable);
                match keyspace {
                    // PD has just become leader and does not know its own cluster yet.
                    Err(error) if retry => self.pd_task_again(handle, error),
                    keyspace => {
                        self.pd.tasks.remove(handle);
                        self.on_keyspace(keyspace);
                    }
                }
            }
            PdPurpose::Region(load) => match answer.and_then(reply::regions) {
                Ok(regions) if !regions.is_empty() => {
                    self.pd.tasks.remove(handle);
                    self.on_regions_loaded(load, Ok(regions));
                }
                // A cluster that is being bootstrapped, or a PD that has just become leader and
                // has not heard from the region yet (§4.6: back off and ask again).
                Ok(_) => {
                    let error =
                        Error::new(ErrorKind::RegionUnavailable, "PD knows no region for the key");
                    self.pd_task_again(handle, error);
                }
                Err(error) => {
                    self.pd.tasks.remove(handle);
                    self.on_regions_loaded(load, Err(error));
                }
            },
        }
    }

    fn on_store_answer(&mut self, store: StoreId, answer: Result<Option<Arc<str>>, Error>) {
        let (calls, result) = self.stores.answer(store, answer);
        for call in calls {
            self.wake_call(call, crate::shared::CallWake::Store(result.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_come_after_members_and_once() {
        let mut pd = Pd::new(vec!["a:1".into(), "b:1".into()]);
        pd.members = vec!["http://b:1".into(), "http://c:1".into()];
        let names: Vec<&str> = pd.candidates().map(AsRef::as_ref).collect();
        assert_eq!(names, ["http://b:1", "http://c:1", "a:1"]);
    }
}
