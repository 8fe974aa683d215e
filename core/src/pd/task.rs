//! Unary calls to PD.
//!
//! ```text
//! Parked ─▶ Sent ─▶ done              no leader known: parked until there is one
//!   ▲        │
//!   └─ Resting ◀─┘  no answer: the leader is looked for, the task goes round again; the first
//!                   time without a pause
//! ```
//!
//! An answer of PD that says «no» (`header.error`, or a status that is final) is not a failure of
//! the connection: it ends the task at once (`peers.md` D24). Each call has a limit of its own, 3 s,
//! and none waits for another (`peers.md` D21, D22).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anatase_proto::rpc::Rpc;
use bytes::Bytes;

use super::way::Route;
use super::{From, Pd, PdPurpose, Trouble, trouble};
use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::WakeReason;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Failure, GrpcStatus};
use crate::id::{CommandId, Handle};
use crate::shared::{CommandOwner, Owner, Shared, TimerTarget, Wake};
use crate::time::Instant;
use crate::timer::TimerId;
use crate::wire::reply;
use crate::wire::{Head, Request, Response};

/// The pause where PD is there and only has to agree on its leader (§14.3).
const ELECTION: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Hash)]
pub(super) struct PdTask {
    purpose: PdPurpose,
    rpc: Rpc,
    body: Bytes,
    /// A follower may answer.
    any_member: bool,
    backoff: Backoff,
    failures: u32,
    /// When it first had to wait for a leader.
    parked_since: Option<Instant>,
    state: TaskState,
}

#[derive(Clone, Debug, Hash)]
enum TaskState {
    Parked,
    Sent { command: CommandId, timer: TimerId, route: Route },
    Resting { timer: TimerId },
}

impl PdTask {
    pub(super) fn into_purpose(self) -> PdPurpose {
        self.purpose
    }
}

impl Pd {
    /// What has gone wrong so far with the question for the keyspace.
    pub(crate) fn keyspace_trouble(&self) -> Option<Error> {
        let mut tasks = self.tasks.iter().map(|(_, task)| task);
        let task = tasks.find(|task| task.purpose == PdPurpose::Keyspace)?;
        task.backoff.last().cloned()
    }
}

impl Shared {
    pub(super) fn pd_start(&mut self, purpose: PdPurpose, rpc: Rpc, body: Bytes, from: From) {
        let patience = purpose.patience(&self.config);
        self.pd_start_within(purpose, rpc, body, from, patience);
    }

    /// The same with a budget of its own.
    pub(super) fn pd_start_within(
        &mut self,
        purpose: PdPurpose,
        rpc: Rpc,
        body: Bytes,
        from: From,
        budget: Duration,
    ) {
        let handle = self.pd.tasks.insert(PdTask {
            purpose,
            rpc,
            body,
            any_member: from == From::AnyMember && self.config.enable_follower_handle,
            backoff: Backoff::new(budget),
            failures: 0,
            parked_since: None,
            state: TaskState::Parked,
        });
        self.pd_send_task(handle);
    }

    /// Gives up the questions of an owner who is gone.
    pub(crate) fn pd_abandon(&mut self, owner: Owner) {
        let theirs = |task: &PdTask| matches!(task.purpose, PdPurpose::Owner(it, _) if it == owner);
        let handles: Vec<Handle> =
            self.pd.tasks.iter().filter(|(_, task)| theirs(task)).map(|(it, _)| it).collect();
        for handle in handles {
            match self.pd.tasks.remove(handle).map(|task| task.state) {
                Some(TaskState::Sent { command, timer, .. }) => {
                    self.abort(command);
                    self.timers.cancel(timer);
                }
                Some(TaskState::Resting { timer }) => self.timers.cancel(timer),
                Some(TaskState::Parked) => self.pd.parked.retain(|it| *it != handle),
                None => {}
            }
        }
    }

    pub(super) fn pd_send_task(&mut self, handle: Handle) {
        self.pd_refresh_if_old();
        let now = self.now;
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        let (any_member, breaks) = (task.any_member, task.is_breakable());
        let route = if any_member { self.pd.reader(now) } else { self.pd.route() };
        let Some(route) = route else {
            if let Some(task) = self.pd.tasks.get_mut(handle) {
                task.parked_since.get_or_insert(now);
            }
            self.pd.parked.push_back(handle);
            return self.pd_discover();
        };
        if breaks && !self.pd.breaker.admit(now) {
            self.stats.breaker_refusals += 1;
            let error = Error::new(ErrorKind::PdUnavailable, "PD is overloaded and left alone");
            return self.pd_task_pause(handle, error, None);
        }
        let Some(task) = self.pd.tasks.get(handle) else {
            return;
        };
        let head = Head::Pd {
            cluster_id: self.pd.cluster_id,
            forward_to: route.forward_to.clone(),
            allow_follower: route.by_follower,
        };
        let request = Request { rpc: task.rpc, head, body: task.body.clone() };
        let deadline = now + self.config.pd_timeout;
        let owner = CommandOwner::PdTask(handle);
        let command = self.send(owner, route.to.clone(), deadline, request);
        let target = TimerTarget::PdTask(handle);
        let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, target);
        if let Some(task) = self.pd.tasks.get_mut(handle) {
            task.state = TaskState::Sent { command, timer, route };
        }
    }

    /// Ends questions of operations for many regions that wait for a leader: each goes on with a question
    /// for one, which looks at what was known before (see `region::loader`).
    pub(super) fn pd_end_scans(&mut self) {
        let tasks = &self.pd.tasks;
        let scans = |handle: &Handle| {
            tasks.get(*handle).is_some_and(|task| {
                let scan = matches!(task.rpc, Rpc::PdBatchScanRegions | Rpc::PdScanRegions);
                scan && matches!(task.purpose, PdPurpose::Owner(..))
            })
        };
        let parked = std::mem::take(&mut self.pd.parked);
        let (scans, parked): (VecDeque<_>, _) = parked.into_iter().partition(scans);
        self.pd.parked = parked;
        for handle in scans {
            let cause = self.pd.why_unavailable();
            let text = "a question for many regions is not put to an absent PD";
            let error = Error::new(ErrorKind::Cancelled, text).because(Some(cause));
            self.pd_task_done(handle, Err(error));
        }
    }

    /// Ends what has waited for a leader as long as a question to PD may wait. An operation has its
    /// deadline; but what is left of one that is over has nobody to wait for it, and would keep the
    /// search going for ever.
    pub(super) fn pd_end_parked(&mut self) {
        let (now, tasks) = (self.now, &self.pd.tasks);
        let is_over = |handle: &Handle| {
            let Some(task) = tasks.get(*handle) else { return true };
            let budget = task.backoff.budget();
            task.parked_since.is_none_or(|since| now.since(since) >= budget)
        };
        let parked = std::mem::take(&mut self.pd.parked);
        let (over, parked): (VecDeque<_>, _) = parked.into_iter().partition(is_over);
        self.pd.parked = parked;
        for handle in over {
            let error = self.pd.why_unavailable();
            self.pd_task_done(handle, Err(error));
        }
    }

    /// Ends everything that waits for a leader.
    pub(super) fn pd_end_all_parked(&mut self, error: &Error) {
        for handle in std::mem::take(&mut self.pd.parked) {
            self.pd_task_done(handle, Err(error.clone()));
        }
    }

    pub(crate) fn pd_task_timer(&mut self, handle: Handle) {
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        match std::mem::replace(&mut task.state, TaskState::Parked) {
            TaskState::Parked => {}
            TaskState::Resting { .. } => self.pd_send_task(handle),
            TaskState::Sent { command, route, .. } => {
                self.abort(command);
                self.pd_record(handle, true);
                let error = Error::new(ErrorKind::PdUnavailable, "no answer in time");
                self.pd_task_failed(handle, &route, Trouble::Unreachable, error);
            }
        }
    }

    pub(crate) fn pd_task_answer(&mut self, handle: Handle, answer: Result<Response, Failure>) {
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        let TaskState::Sent { timer, route, .. } =
            std::mem::replace(&mut task.state, TaskState::Parked)
        else {
            return;
        };
        let rpc = task.rpc;
        self.timers.cancel(timer);
        self.pd_record(handle, answer.as_ref().is_err_and(trouble::is_overload));
        match answer {
            Ok(response) if route.by_follower && !reply::knows_region(&response) => {
                self.pd_ask_leader_instead(handle, route.to.address);
            }
            Ok(response) => {
                if route.forward_to.is_none() {
                    self.pd.heard_from(&route.to.address);
                }
                self.pd_task_done(handle, Ok(response));
            }
            Err(failure)
                if failure.reason().status == Some(GrpcStatus::UNIMPLEMENTED)
                    && matches!(rpc, Rpc::PdBatchScanRegions | Rpc::PdScanRegions) =>
            {
                self.pd_without(handle, rpc);
            }
            Err(failure) => match Trouble::of(&failure) {
                Trouble::Refused => {
                    let unknown = failure.reason().status == Some(GrpcStatus::UNIMPLEMENTED);
                    // Who asks knows what to do without the answer.
                    let kind = match self.pd.tasks.get(handle).map(|task| &task.purpose) {
                        Some(PdPurpose::Owner(..) | PdPurpose::SafePoint) if unknown => {
                            ErrorKind::Unsupported
                        }
                        Some(_) | None => ErrorKind::PdRefused,
                    };
                    let error = Error::new(kind, failure.reason().to_string());
                    self.pd_task_done(handle, Err(error));
                }
                trouble @ (Trouble::LeaderMoved | Trouble::Unreachable) => {
                    let text = format!("PD at {}: {}", route.to.address, failure.reason());
                    let error = Error::new(ErrorKind::PdUnavailable, text);
                    self.pd_task_failed(handle, &route, trouble, error);
                }
            },
        }
    }

    fn pd_record(&mut self, handle: Handle, overload: bool) {
        if self.pd.tasks.get(handle).is_some_and(PdTask::is_breakable) {
            self.pd.breaker.record(overload);
        }
    }

    /// §14.2: «a non-leader answer with any error is retried once on the leader».
    fn pd_ask_leader_instead(&mut self, handle: Handle, follower: Arc<str>) {
        self.stats.follower_misses += 1;
        self.pd.leave_out(follower, self.now);
        if let Some(task) = self.pd.tasks.get_mut(handle) {
            task.any_member = false;
        }
        self.pd_send_task(handle);
    }

    /// No answer: whoever leads now is asked again, the first time without a pause, since a leader
    /// that moved is found in one round trip.
    fn pd_task_failed(&mut self, handle: Handle, route: &Route, trouble: Trouble, error: Error) {
        self.stats.failures += 1;
        if route.by_follower {
            // «Any transport error schedules a membership check».
            self.pd_discover();
            return self.pd_ask_leader_instead(handle, route.to.address.clone());
        }
        let news = self.pd_blame(route, trouble, error.clone());
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        if !news {
            return self.pd_send_task(handle);
        }
        task.failures += 1;
        if task.failures == 1 {
            return self.pd_send_task(handle);
        }
        let clamp = (trouble == Trouble::LeaderMoved).then_some(ELECTION);
        self.pd_task_pause(handle, error, clamp);
    }

    /// The same question again after a pause.
    fn pd_task_pause(&mut self, handle: Handle, error: Error, clamp: Option<Duration>) {
        let (draws, longest) = (&mut self.draws, self.config.pd_init_interval);
        let Some(task) = self.pd.tasks.get_mut(handle) else {
            return;
        };
        let clamp = match task.purpose {
            // §14.1: asked for once a second.
            PdPurpose::Keyspace => Some(clamp.map_or(longest, |clamp| clamp.min(longest))),
            PdPurpose::Region(_)
            | PdPurpose::Store(_)
            | PdPurpose::SafePoint
            | PdPurpose::Buckets(_)
            | PdPurpose::Refresh
            | PdPurpose::Owner(..) => clamp,
        };
        match task.backoff.next(BackoffKind::PdRpc, clamp, error, |bound| draws.below(bound)) {
            Ok(wait) => {
                self.stats.backoffs += 1;
                let at = self.now + wait;
                let target = TimerTarget::PdTask(handle);
                let timer = self.timers.set(at, WakeReason::Backoff, target);
                task.state = TaskState::Resting { timer };
            }
            Err(error) => self.pd_task_done(handle, Err(error)),
        }
    }

    fn pd_task_done(&mut self, handle: Handle, answer: Result<Response, Error>) {
        let Some(task) = self.pd.tasks.get(handle) else {
            return;
        };
        let purpose = task.purpose.clone();
        let scanned = matches!(task.rpc, Rpc::PdBatchScanRegions | Rpc::PdScanRegions);
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
                    Err(error) if retry => self.pd_task_pause(handle, error, None),
                    keyspace => {
                        self.pd.tasks.remove(handle);
                        self.on_keyspace(keyspace);
                    }
                }
            }
            PdPurpose::SafePoint => {
                self.pd.tasks.remove(handle);
                self.on_safe_point(answer);
            }
            PdPurpose::Owner(owner, tag) => {
                self.pd.tasks.remove(handle);
                self.wake(owner, tag, Wake::Pd(answer));
            }
            PdPurpose::Buckets(region) => {
                self.pd.tasks.remove(handle);
                self.on_bucket_region(region, answer);
            }
            PdPurpose::Refresh => match answer.and_then(reply::regions) {
                // §4.6: empty, or all without a leader.
                Ok(none) if none.is_empty() => {
                    let text = "PD tells of no region that has a leader";
                    let error = Error::new(ErrorKind::RegionUnavailable, text);
                    self.pd_task_pause(handle, error, None);
                }
                page => {
                    self.pd.tasks.remove(handle);
                    self.on_page(page);
                }
            },
            PdPurpose::Region(load) => match answer.and_then(reply::regions) {
                Ok(regions) if !regions.is_empty() => {
                    self.pd.tasks.remove(handle);
                    self.on_regions_loaded(load, Ok(regions));
                }
                // None of several has a leader. Callers who each want one of them are told of it by
                // a question for one (see `region::loader`), and ask its replicas.
                Ok(none) if scanned => {
                    self.pd.tasks.remove(handle);
                    self.on_regions_loaded(load, Ok(none));
                }
                // A cluster that is being bootstrapped, or a PD that has just become leader and
                // has not heard from the region yet (§4.6: back off and ask again).
                Ok(_) => {
                    let error =
                        Error::new(ErrorKind::RegionUnavailable, "PD knows no region for the key");
                    self.pd_task_pause(handle, error, None);
                }
                Err(error) => {
                    self.pd.tasks.remove(handle);
                    self.on_regions_loaded(load, Err(error));
                }
            },
        }
    }
}

impl PdPurpose {
    /// For how long answers are waited for, and asked for again. Without its keyspace a client can do
    /// nothing at all: that takes as long as finding PD may (§14.1, «init retries»).
    pub(super) fn patience(&self, config: &Config) -> Duration {
        match self {
            Self::Keyspace => {
                config.pd_init_interval.saturating_mul(config.pd_init_attempts.max(1))
            }
            Self::Region(_)
            | Self::Store(_)
            | Self::SafePoint
            | Self::Buckets(_)
            | Self::Refresh
            | Self::Owner(..) => budget::PD,
        }
    }
}

impl PdTask {
    /// §14.5: the breaker is for region metadata.
    fn is_breakable(&self) -> bool {
        matches!(
            self.rpc,
            Rpc::PdGetRegion
                | Rpc::PdGetPrevRegion
                | Rpc::PdGetRegionById
                | Rpc::PdScanRegions
                | Rpc::PdBatchScanRegions
        )
    }
}
