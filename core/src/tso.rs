//! Timestamps (`control-plane.md` §14.3).
//!
//! One request at a time asks for as many timestamps as there are waiters; whoever arrives during a
//! flight joins the next one. So batches grow by themselves with the load, and no timer waits for
//! company.
//!
//! ```text
//! Idle ─▶ Asking ─▶ Idle | Asking (more are waiting)
//!           │
//!           ▼ failure: the waiters go back to the head of the line
//!         Resting ─▶ Asking
//! ```
//!
//! A batch that PD hands out must lie wholly above every timestamp seen before the batch was asked
//! for; one that does not is never given to anybody.

use std::collections::VecDeque;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::{AskTimestamps, Command, Destination, WakeReason};
use crate::error::{Error, ErrorKind, Failure};
use crate::id::CommandId;
use crate::shared::{CommandOwner, InFlight, Owner, Shared, Tag, TimerTarget, Wake};
use crate::time::Instant;
use crate::timer::TimerId;
use crate::timestamp::Timestamp;
use crate::wire::Response;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Tso {
    waiting: VecDeque<(Owner, Tag)>,
    state: State,
    backoff: Backoff,
    failures: u32,
    /// Since when they wait for a leader.
    parked_since: Option<Instant>,
    /// The newest timestamp received.
    latest: Option<Timestamp>,
}

#[derive(Clone, Debug, Hash)]
enum State {
    Idle,
    Asking { command: CommandId, timer: TimerId, count: u32, to: Destination, floor: u64 },
    Resting { timer: TimerId },
}

impl Tso {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            state: State::Idle,
            backoff: Backoff::new(budget::TSO),
            failures: 0,
            parked_since: None,
            latest: None,
        }
    }

    /// Somebody waits.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Shared {
    /// Answered by [`Wake::Timestamp`] with a timestamp that PD hands out after this call: whatever
    /// was acknowledged to anybody before it is older.
    pub(crate) fn tso_ask(&mut self, owner: Owner, tag: Tag) {
        self.tso.waiting.push_back((owner, tag));
        self.tso_flush();
    }

    /// Forgets a waiter.
    pub(crate) fn tso_forget(&mut self, owner: Owner) {
        // While a batch is under way its waiters are the first `count` in line and are counted.
        let flying = match self.tso.state {
            State::Asking { count, .. } => count as usize,
            State::Idle | State::Resting { .. } => 0,
        };
        let mut index = 0;
        self.tso.waiting.retain(|(waiter, _)| {
            index += 1;
            index <= flying || *waiter != owner
        });
    }

    /// Asks, if somebody waits, nothing is under way and a leader is known.
    pub(crate) fn tso_flush(&mut self) {
        if self.tso.waiting.is_empty() || !matches!(self.tso.state, State::Idle) {
            return;
        }
        self.pd_refresh_if_old();
        let Some(leader) = self.pd.leader().cloned() else {
            self.tso.parked_since.get_or_insert(self.now);
            return self.pd_discover();
        };
        self.tso.parked_since = None;
        let count = u32::try_from(self.tso.waiting.len())
            .unwrap_or(u32::MAX)
            .min(self.config.max_timestamp_batch);
        let deadline = self.now + self.config.pd_timeout;
        let to = Destination { address: leader, store: None };
        let id = CommandId(self.inflight.insert(InFlight { owner: CommandOwner::Tso }));
        let cluster_id = self.pd.cluster_id();
        self.stats.commands += 1;
        self.stats.timestamp_batches += 1;
        self.stats.timestamps += u64::from(count);
        let ask = AskTimestamps { id, to: to.clone(), deadline, cluster_id, count };
        self.commands.push_back(Command::Timestamps(ask));
        let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, TimerTarget::Tso);
        let floor = self.tso.latest.map_or(0, Timestamp::version);
        self.tso.state = State::Asking { command: id, timer, count, to, floor };
    }

    pub(crate) fn tso_answer(&mut self, answer: Result<Response, Failure>) {
        let State::Asking { timer, count, to, floor, .. } =
            std::mem::replace(&mut self.tso.state, State::Idle)
        else {
            return;
        };
        self.timers.cancel(timer);
        let batch = match answer {
            Ok(Response::Timestamps(batch)) if batch.count == count => batch,
            Ok(_) => return self.tso_failed(&to, "another answer than asked for".into()),
            Err(failure) => return self.tso_failed(&to, failure.reason().to_string()),
        };
        let last = batch.last.version();
        let first = last.saturating_sub(u64::from(count) - 1);
        if first <= floor {
            return self.tso_failed(&to, format!("timestamps went back from {floor} to {first}"));
        }
        self.tso.latest = self.tso.latest.max(Some(batch.last));
        self.tso.failures = 0;
        self.tso.backoff = Backoff::new(budget::TSO);
        for version in first..=last {
            if let (Some((owner, tag)), Some(ts)) =
                (self.tso.waiting.pop_front(), Timestamp::from_version(version))
            {
                self.wake(owner, tag, Wake::Timestamp(Ok(ts)));
            }
        }
        self.tso_flush();
    }

    pub(crate) fn tso_timer(&mut self) {
        match std::mem::replace(&mut self.tso.state, State::Idle) {
            State::Idle => {}
            State::Resting { .. } => self.tso_flush(),
            State::Asking { command, to, .. } => {
                self.abort(command);
                self.tso_failed(&to, "no answer in time".into());
            }
        }
    }

    /// The first failure in a row asks again as soon as a leader is known, the next ones pause.
    fn tso_failed(&mut self, to: &Destination, text: String) {
        self.stats.failures += 1;
        let error = Error::new(ErrorKind::PdUnavailable, format!("timestamps from {to}: {text}"));
        self.pd_doubt_leader(&to.address, error.clone());
        self.tso.failures += 1;
        if self.tso.failures == 1 {
            return self.tso_flush();
        }
        let draws = &mut self.draws;
        match self.tso.backoff.next(BackoffKind::PdRpc, None, error, |bound| draws.below(bound)) {
            Ok(wait) => {
                self.stats.backoffs += 1;
                let at = self.now + wait;
                let timer = self.set_timer(at, WakeReason::Backoff, TimerTarget::Tso);
                self.tso.state = State::Resting { timer };
            }
            Err(error) => self.tso_give_up(&error),
        }
    }

    /// Ends the wait for a leader when it has taken as long as a timestamp may.
    pub(crate) fn tso_end_parked(&mut self) {
        if self.tso.parked_since.is_some_and(|since| self.now.since(since) >= budget::TSO) {
            let error = self.pd.why_unavailable();
            self.tso_give_up(&error);
        }
    }

    fn tso_give_up(&mut self, error: &Error) {
        self.tso.failures = 0;
        self.tso.backoff = Backoff::new(budget::TSO);
        self.tso.parked_since = None;
        for (owner, tag) in std::mem::take(&mut self.tso.waiting) {
            self.wake(owner, tag, Wake::Timestamp(Err(error.clone())));
        }
    }
}
