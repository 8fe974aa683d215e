//! Keeping the locks of open transactions alive (`transactions.md` §12.2).
//!
//! A lock lives for a while, counted from its transaction's start, and whoever meets it after that
//! may roll the transaction back. So the owner of a transaction that is open for longer has its
//! primary's time to live raised again and again; other locks need nothing, since their fate is asked
//! of the primary.
//!
//! One entry a transaction in one table, and one entry in the core's one timer structure: no task, and
//! nothing at all for a core in which nothing is kept alive (`peers.md` D13).
//!
//! ```text
//!            keep_alive            10 s              PD's time            heard, or failed
//! (nothing) ───────────▶ Resting ───────▶ Stamping ───────────▶ Beating ───────────────▶ Resting
//!                                             │                    │
//!                                             │ open for > 1 h     │ no such lock, or failed too often
//!                                             ▼                    ▼
//!                                           lost (and why): the transaction may commit or roll back
//! ```
//!
//! | state | keep_alive, same primary | keep_alive, another primary | stop_keep_alive, close | its wait is over |
//! |---|---|---|---|---|
//! | nothing | Resting | Resting | – | – |
//! | Resting | – | from the beginning | nothing | Stamping |
//! | Stamping | – | from the beginning; the timestamp is not waited for | nothing | Beating, or lost, or Resting if PD failed |
//! | Beating | – | from the beginning; the call is given up | nothing | Resting, or lost |
//! | lost | – | – | nothing | – |
//!
//! How long a transaction has been open is told by PD's clock, which is the one that the locks' time is
//! judged by. PD being away for a tick counts as a failed beat; the reference gives the transaction up
//! at once, although its locks outlive two ticks.

use std::collections::BTreeMap;
use std::time::Duration;

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::command::WakeReason;
use crate::id::Handle;
use crate::operation::Key;
use crate::region::loader::Seek;
use crate::region_call::Target;
use crate::shared::{CallEnd, CallSpec, Cx, Owner, Shared, Tag, TimerTarget, Wake};
use crate::slab::Slab;
use crate::time::Instant;
use crate::timer::TimerId;
use crate::timestamp::Timestamp;
use crate::wire::reply;

/// What a lock is given beyond the time that its transaction has been open: `ManagedLockTTL`.
pub(crate) const MANAGED_TTL: Duration = Duration::from_secs(20);
/// The time from one beat to the next.
const PERIOD: Duration = Duration::from_secs(10);
/// No transaction is kept alive for longer: `MaxTxnTTL`.
const MAX_OPEN: Duration = Duration::from_secs(3_600);
/// After so many failures in a row the next one is the last.
const MAX_FAILURES: u32 = 10;
/// Of how many transactions it is remembered that they were lost: they are forgotten when they end,
/// and those whose owner never ends them, when there are too many.
const MAX_LOST: usize = 4_096;

const STAMP: Tag = 0;
const BEAT: Tag = 1;

/// Why a transaction's locks are no longer kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocksLost {
    /// It has been open for longer than an hour.
    TooOld,
    /// Its primary has no lock of it any more: somebody has rolled it back, or committed it.
    Gone,
    /// Its primary's store, or PD, could not be reached for eleven beats in a row.
    Unreachable,
}

/// Every transaction that is kept alive.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Heartbeats {
    beats: Slab<Heartbeat>,
    by_start: BTreeMap<Timestamp, Handle>,
    lost: BTreeMap<Timestamp, LocksLost>,
}

#[derive(Clone, Debug, Hash)]
struct Heartbeat {
    start_ts: Timestamp,
    primary: Key,
    /// How many beats have failed in a row.
    failures: u32,
    /// When the running or coming beat was, or is, due.
    due: Instant,
    state: State,
}

#[derive(Clone, Debug, Hash)]
enum State {
    Resting(TimerId),
    Stamping,
    Beating(Handle),
}

/// What a step leads to.
enum Next {
    Stay(State),
    Rest,
    Failed,
    Lost(LocksLost),
}

impl Heartbeats {
    pub(crate) const fn new() -> Self {
        Self { beats: Slab::new(), by_start: BTreeMap::new(), lost: BTreeMap::new() }
    }

    /// Whether, and why, a transaction's locks are no longer kept alive although it has not ended.
    pub(crate) fn lost(&self, start_ts: Timestamp) -> Option<LocksLost> {
        self.lost.get(&start_ts).copied()
    }

    /// The primary that is kept alive for a transaction.
    pub(crate) fn primary(&self, start_ts: Timestamp) -> Option<&Key> {
        let handle = self.by_start.get(&start_ts)?;
        self.beats.get(*handle).map(|beat| &beat.primary)
    }
}

impl Shared {
    /// The transaction's primary has just been locked, with [`MANAGED_TTL`] from now on or a like
    /// time: keeps it alive. Nothing changes if that is done already; another primary than before
    /// begins anew.
    pub(crate) fn keep_alive(&mut self, start_ts: Timestamp, primary: &Key) {
        if planted!(self.config, NoHeartbeat)
            || self.heartbeats.lost.contains_key(&start_ts)
            || self.heartbeats.primary(start_ts) == Some(primary)
        {
            return;
        }
        self.stop_keep_alive(start_ts);
        let primary = primary.clone();
        let (due, timers) = (self.now + PERIOD, &mut self.timers);
        let handle = self.heartbeats.beats.insert_with(|handle| {
            let target = TimerTarget::Heartbeat(handle);
            let timer = timers.set(due, WakeReason::Heartbeat, target);
            Heartbeat { start_ts, primary, failures: 0, due, state: State::Resting(timer) }
        });
        self.heartbeats.by_start.insert(start_ts, handle);
    }

    /// The transaction has ended, or has no primary any more. Does nothing if it was not kept alive.
    pub(crate) fn stop_keep_alive(&mut self, start_ts: Timestamp) {
        self.heartbeats.lost.remove(&start_ts);
        let Some(handle) = self.heartbeats.by_start.remove(&start_ts) else {
            return;
        };
        let Some(beat) = self.heartbeats.beats.remove(handle) else {
            return;
        };
        match beat.state {
            State::Resting(timer) => self.timers.cancel(timer),
            State::Stamping => self.tso_forget(Owner::Heartbeat(handle)),
            State::Beating(call) => {
                self.as_heartbeat(handle, |cx| cx.abandon(call));
            }
        }
    }

    /// The core closes: only these transactions, which are being committed, are kept alive.
    pub(crate) fn stop_heartbeats_but(&mut self, kept: &[Timestamp]) {
        let starts: Vec<Timestamp> = self.heartbeats.by_start.keys().copied().collect();
        for start_ts in starts.into_iter().filter(|start_ts| !kept.contains(start_ts)) {
            self.stop_keep_alive(start_ts);
        }
    }

    /// The next beat is due.
    pub(crate) fn heartbeat_timer(&mut self, handle: Handle) {
        if let Some(beat) = self.heartbeats.beats.get_mut(handle)
            && matches!(beat.state, State::Resting(_))
        {
            beat.state = State::Stamping;
            self.tso_ask(Owner::Heartbeat(handle), STAMP);
        }
    }

    /// Runs a heartbeat until it waits or ends.
    pub(crate) fn step_heartbeat(&mut self, handle: Handle, tag: Tag, wake: Wake) {
        let Some(mut beat) = self.heartbeats.beats.take(handle) else {
            return;
        };
        let state = std::mem::replace(&mut beat.state, State::Stamping);
        let next = match (state, tag, wake) {
            (State::Stamping, STAMP, Wake::Timestamp(Ok(now))) => self.beat(handle, &beat, now),
            (State::Stamping, STAMP, Wake::Timestamp(Err(_))) => Next::Failed,
            (State::Beating(_), BEAT, Wake::Call(end)) => match end {
                CallEnd::Answered { response, .. } => match reply::txn_heart_beat(response) {
                    Ok(_) => Next::Rest,
                    Err(_) => Next::Lost(LocksLost::Gone),
                },
                CallEnd::Failed { .. } | CallEnd::Regroup { .. } => Next::Failed,
            },
            (state, _, _) => Next::Stay(state),
        };
        match next {
            Next::Stay(state) => beat.state = state,
            Next::Rest => {
                beat.failures = 0;
                self.rest(handle, &mut beat);
            }
            Next::Failed if beat.failures < MAX_FAILURES => {
                beat.failures += 1;
                self.rest(handle, &mut beat);
            }
            Next::Failed => return self.lose(handle, beat.start_ts, LocksLost::Unreachable),
            Next::Lost(why) => return self.lose(handle, beat.start_ts, why),
        }
        self.heartbeats.beats.put(handle, beat);
    }

    fn beat(&mut self, handle: Handle, beat: &Heartbeat, now: Timestamp) -> Next {
        let open = now.since(beat.start_ts);
        if open > MAX_OPEN {
            return Next::Lost(LocksLost::TooOld);
        }
        let open = if planted!(self.config, ShortHeartbeat) { Duration::ZERO } else { open };
        let message = kvrpcpb::TxnHeartBeatRequest {
            primary_lock: beat.primary.clone(),
            start_version: beat.start_ts.version(),
            advise_lock_ttl: (open + MANAGED_TTL).as_millis() as u64,
            ..Default::default()
        };
        let target = Target::Key { key: beat.primary.clone(), seek: Seek::Containing };
        let call = self.as_heartbeat(handle, |cx| {
            let body = cx.encode(&message);
            let spec = CallSpec::write(Rpc::KvTxnHeartBeat, body, &cx.shared.config);
            cx.call(BEAT, target, spec, Backoff::new(budget::HEARTBEAT))
        });
        Next::Stay(State::Beating(call))
    }

    /// Until the next full period, or at once if this one took longer.
    fn rest(&mut self, handle: Handle, beat: &mut Heartbeat) {
        beat.due = (beat.due + PERIOD).max(self.now);
        let target = TimerTarget::Heartbeat(handle);
        beat.state = State::Resting(self.set_timer(beat.due, WakeReason::Heartbeat, target));
    }

    fn lose(&mut self, handle: Handle, start_ts: Timestamp, why: LocksLost) {
        self.heartbeats.beats.release(handle);
        self.heartbeats.by_start.remove(&start_ts);
        self.heartbeats.lost.insert(start_ts, why);
        if self.heartbeats.lost.len() > MAX_LOST {
            self.heartbeats.lost.pop_first();
        }
    }

    fn as_heartbeat<R>(&mut self, handle: Handle, step: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        let mut draws = self.draws;
        let owner = Owner::Heartbeat(handle);
        let mut cx = Cx { shared: self, owner, deadline: Instant::NEVER, draws: &mut draws };
        let result = step(&mut cx);
        self.draws = draws;
        result
    }
}
