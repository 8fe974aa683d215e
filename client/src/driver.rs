//! One core behind one lock, and what has to happen outside of it.
//!
//! ```text
//! lock ▸ apply an input, or a batch of them ▸ drain commands, events, wake-up ▸ unlock
//!      ▸ perform the commands ▸ hand over results and wake ▸ re-arm the alarm if it moved earlier
//! ```
//!
//! Nobody in particular runs this loop: the caller's task does when it submits or gives up, a
//! connection's task does when answers arrive, the alarm task does when time has passed. So a call
//! crosses no thread and no channel.
//!
//! The alarm task keeps the driver alive. It ends, and with it everything else, when the client has
//! been closed (or its last handle dropped) and the core has settled what had to be settled, or the
//! grace period is over.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anatase_core::{Cancel, Command, Core, Event, Full, Input, OpId, OpOptions, Operation};

use crate::runtime::{Instant, Runtime};
use crate::transport::{Deliver, Inbox, Transport};
use crate::waiters::{Outcome, Ticket, Waiters};

/// How long commits may take to settle after the client was closed.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// A core, its transport and its waiters. Not generic, so that neither are the types that users see.
pub(crate) struct Driver {
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    sleep: Sleep,
    transport: Box<dyn Transport>,
    inbox: Inbox,
    state: Mutex<State>,
    waiters: Waiters,
    /// Lists to drain into, kept for their memory.
    scratch: Mutex<Vec<Scratch>>,
    streams: AtomicU64,
    /// The core's.
    seed: u64,
}

type Sleep = Box<dyn Fn(Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What the lock protects.
struct State {
    core: Core,
    /// Who waits for an operation, by its index. Kept under this lock because the core reuses an
    /// index as soon as its last operation is over.
    tickets: Vec<Option<(OpId, Ticket)>>,
    /// When the alarm task will look again.
    armed: Instant,
    /// The alarm task, if it sleeps.
    alarm: Option<Waker>,
    phase: Phase,
    /// Whoever waits for the end.
    closers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Commits settle, nothing new begins; over by `until` at the latest.
    Closing {
        until: Instant,
    },
    /// The core is not used any more.
    Over,
}

/// What leaves the lock.
#[derive(Default)]
struct Scratch {
    commands: Vec<Command>,
    outcomes: Vec<(Ticket, Outcome)>,
    wakers: Vec<Waker>,
}

/// Why an operation could not begin.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// Too many are under way.
    Full,
    /// The client is closed.
    Closed,
}

/// What an operation was when its owner gave it up.
#[derive(Debug)]
pub(crate) enum GivenUp {
    /// Under way: the core sees to what has to be undone.
    UnderWay,
    /// Over; how, if that is still known.
    Over(Option<Outcome>),
}

impl Driver {
    /// Starts the alarm task on `runtime`; from here on the driver lives until it is closed.
    pub(crate) fn start<R: Runtime>(
        runtime: R,
        transport: impl Transport,
        core: impl FnOnce(Instant) -> Core,
    ) -> Arc<Self> {
        let (clock, sleep) = (runtime.clone(), runtime.clone());
        let core = core(runtime.now());
        let seed = core.seed();
        let state = State {
            core,
            tickets: Vec::new(),
            armed: Instant::NEVER,
            alarm: None,
            phase: Phase::Open,
            closers: Vec::new(),
        };
        let driver = Arc::new_cyclic(|weak: &std::sync::Weak<Self>| Self {
            clock: Box::new(move || clock.now()),
            sleep: Box::new(move |at| Box::pin(sleep.sleep_until(at))),
            transport: Box::new(transport),
            inbox: Inbox::new(weak.clone()),
            state: Mutex::new(state),
            waiters: Waiters::new(),
            scratch: Mutex::new(Vec::new()),
            streams: AtomicU64::new(0),
            seed,
        });
        runtime.clone().spawn(Alarm(driver.clone()).run(runtime));
        driver
    }

    pub(crate) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// A panic inside the core leaves it in no state to go on with: the first to notice ends it.
    fn lock(&self) -> MutexGuard<'_, State> {
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => {
                let mut state = poisoned.into_inner();
                if state.phase != Phase::Over {
                    let wakers = self.abandon(&mut state);
                    drop(state);
                    wakers.into_iter().for_each(Waker::wake);
                    state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                }
                state
            }
        }
    }

    /// Applies an input and does all that follows from it. `None` if the driver is over.
    fn with<O>(&self, apply: impl FnOnce(&mut State, Instant) -> O) -> Option<O> {
        let mut scratch = self.take_scratch();
        let now = self.now();
        let mut state = self.lock();
        if state.phase == Phase::Over {
            return None;
        }
        let out = apply(&mut state, now);
        state.drain(&mut scratch);
        drop(state);
        self.act(scratch);
        Some(out)
    }

    fn take_scratch(&self) -> Scratch {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// The part of the loop that is outside of the lock.
    fn act(&self, mut scratch: Scratch) {
        if !scratch.commands.is_empty() {
            self.transport.perform(&mut scratch.commands, &self.inbox);
            scratch.commands.clear();
        }
        for (ticket, outcome) in scratch.outcomes.drain(..) {
            scratch.wakers.extend(self.waiters.finish(ticket, outcome));
        }
        scratch.wakers.drain(..).for_each(Waker::wake);
        let mut pool = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as there are threads in here at once, within reason.
        if pool.len() < 16 {
            pool.push(scratch);
        }
    }

    // ---- for futures ---------------------------------------------------------------------------

    /// Begins an operation; `waker` is woken when [`Driver::poll`] has its outcome.
    pub(crate) fn submit(
        &self,
        operation: Operation,
        deadline: Instant,
        waker: &Waker,
    ) -> Result<(OpId, Ticket), Rejected> {
        let ticket = self.waiters.enter(waker);
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        let submitted = self.with(|state, now| {
            let options = OpOptions { deadline, stream };
            match state.core.submit(now, operation, options) {
                Ok(op) => {
                    let index = op.index();
                    if index >= state.tickets.len() {
                        state.tickets.resize(index + 1, None);
                    }
                    state.tickets[index] = Some((op, ticket));
                    Ok(op)
                }
                Err(Full(operation)) => Err(operation),
            }
        });
        match submitted {
            Some(Ok(op)) => Ok((op, ticket)),
            Some(Err(_)) => {
                self.waiters.leave(ticket);
                Err(Rejected::Full)
            }
            None => {
                self.waiters.leave(ticket);
                Err(Rejected::Closed)
            }
        }
    }

    /// Begins an operation whose outcome nobody waits for. Where it cannot begin, it is forgotten.
    pub(crate) fn spawn(&self, operation: Operation, deadline: Instant) {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed);
        self.with(|state, now| {
            // Full: what is left behind is found by whoever meets it.
            let _ = state.core.submit(now, operation, OpOptions { deadline, stream });
        });
    }

    /// Leaves an operation to itself.
    pub(crate) fn leave(&self, op: OpId, ticket: Ticket) {
        self.with(|state, _| {
            if let Some(slot) = state.tickets.get_mut(op.index()) {
                slot.take_if(|waiting| *waiting == (op, ticket));
            }
        });
        drop(self.waiters.leave(ticket));
    }

    /// A number that is hardly ever the same, to keep callers apart who do the same at the same time.
    pub(crate) fn draw(&self) -> u64 {
        let n = self.streams.fetch_add(1, Ordering::Relaxed);
        // The multiplier of a linear congruential generator (Knuth's MMIX) spreads neighbours.
        n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(self.seed) >> 33
    }

    /// Completes at `at`.
    pub(crate) fn sleep_until(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        (self.sleep)(at)
    }

    /// The outcome of an operation, once.
    pub(crate) fn poll(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.waiters.poll(ticket, cx)
    }

    /// Gives up on an operation whose outcome was not taken.
    pub(crate) fn cancel(&self, op: OpId, ticket: Ticket) -> GivenUp {
        let told = self.with(|state, now| {
            let slot = state.tickets.get_mut(op.index());
            let waiting = slot.and_then(|slot| slot.take_if(|waiting| *waiting == (op, ticket)));
            waiting.map(|_| state.core.cancel(now, op))
        });
        let outcome = self.waiters.leave(ticket);
        match told.flatten() {
            Some(Cancel::Stopped | Cancel::RollingBack | Cancel::TooLate) => GivenUp::UnderWay,
            Some(Cancel::Unknown) | None => GivenUp::Over(outcome),
        }
    }

    /// The id of the cluster; 0 before PD has told it.
    pub(crate) fn cluster_id(&self) -> u64 {
        self.lock().core.cluster_id()
    }

    /// Which inputs the core's machines have met in which of their states.
    pub(crate) fn coverage(&self) -> anatase_core::coverage::Coverage {
        self.lock().core.coverage().clone()
    }

    /// Whose locks are in somebody's way.
    pub(crate) fn resolutions(&self) -> Vec<anatase_core::Resolution> {
        self.lock().core.resolutions()
    }

    // ---- the end -------------------------------------------------------------------------------

    /// Refuses new operations, ends reads, lets commits settle; within [`GRACE`] it is over.
    pub(crate) fn close(&self) {
        self.with(|state, now| {
            if state.phase == Phase::Open {
                state.phase = Phase::Closing { until: now + GRACE };
                state.core.close(now);
            }
        });
    }

    /// Ready when the driver is over.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.phase == Phase::Over {
            return Poll::Ready(());
        }
        if !state.closers.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.closers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whatever still waits is told that it waits in vain. Gives back whom to wake, outside of the
    /// lock: a task that is woken by a dying runtime may be dropped on the spot, and come back here.
    #[must_use]
    fn abandon(&self, state: &mut State) -> Vec<Waker> {
        state.phase = Phase::Over;
        let mut wakers = std::mem::take(&mut state.closers);
        let lost = state.tickets.drain(..).flatten();
        wakers.extend(lost.filter_map(|(_, ticket)| self.waiters.finish(ticket, Outcome::Lost)));
        wakers.extend(state.alarm.take());
        wakers
    }

    // ---- the alarm -----------------------------------------------------------------------------

    /// Lets the time pass that has passed. When to call again, or `None` if it is over.
    fn tick(&self) -> Option<Instant> {
        let next = self.with(|state, now| {
            let due = state.core.poll_timeout().is_some_and(|wakeup| wakeup.at <= now);
            if due {
                state.core.handle_timeout(now);
            }
            if let Phase::Closing { until } = state.phase
                && (now >= until || state.core.is_idle())
            {
                return None;
            }
            // Everything earlier than this comes through `drain`, which lowers it.
            state.armed = state.next_look();
            Some(())
        });
        next.flatten().map(|()| self.lock().armed)
    }

    /// Ready when the alarm has been moved to before `at`.
    fn poll_moved(&self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.armed < at || state.phase == Phase::Over {
            return Poll::Ready(());
        }
        match &state.alarm {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => state.alarm = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl State {
    /// Empties the core's queues.
    fn drain(&mut self, scratch: &mut Scratch) {
        scratch.commands.extend(std::iter::from_fn(|| self.core.poll_command()));
        while let Some(Event::Done { op, result }) = self.core.poll_event() {
            let slot = self.tickets.get_mut(op.index());
            if let Some((_, ticket)) = slot.and_then(|s| s.take_if(|(waiting, _)| *waiting == op)) {
                scratch.outcomes.push((ticket, Outcome::Done(result)));
            }
        }
        let next = match self.phase {
            Phase::Closing { .. } if self.core.is_idle() => Instant::ORIGIN,
            Phase::Open | Phase::Closing { .. } | Phase::Over => self.next_look(),
        };
        if next < self.armed {
            self.armed = next;
            scratch.wakers.extend(self.alarm.take());
        }
    }

    fn next_look(&self) -> Instant {
        let timeout = self.core.poll_timeout().map_or(Instant::NEVER, |wakeup| wakeup.at);
        match self.phase {
            Phase::Closing { until } => timeout.min(until),
            Phase::Open | Phase::Over => timeout,
        }
    }
}

impl Deliver for Driver {
    fn deliver(&self, inputs: &mut dyn Iterator<Item = Input>) {
        self.with(|state, now| {
            for input in inputs {
                match input {
                    Input::Response(id, response) => state.core.handle_response(now, id, response),
                    Input::Notice(notice) => state.core.handle_notice(now, notice),
                    Input::Submit(..) | Input::Timeout | Input::Cancel(_) | Input::Close => {}
                }
            }
        });
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// The alarm task's hold on the driver. However the task ends, also when the runtime drops it, the
/// driver is over then.
struct Alarm(Arc<Driver>);

impl Alarm {
    async fn run<R: Runtime>(self, runtime: R) {
        while let Some(at) = self.0.tick() {
            let mut sleep = pin!(runtime.sleep_until(at));
            poll_fn(|cx| match self.0.poll_moved(at, cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => sleep.as_mut().poll(cx),
            })
            .await;
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.transport.shutdown();
        let wakers = self.0.abandon(&mut self.0.lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A user's hold on the driver, shared by all clones of a client, its transactions and its futures.
/// With the last of them gone the driver closes.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) driver: Arc<Driver>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.close();
    }
}

/// Completes when the driver is over.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub(crate) struct Over(pub(crate) Arc<Driver>);

impl Future for Over {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_over(cx)
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
