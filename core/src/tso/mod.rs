//! Timestamps (`control-plane.md` §14.3).
//!
//! Whoever wants a timestamp stands in one line. A *flight* is one request for as many timestamps as
//! stand there, up to 10 000; whoever arrives while as many flights are out as may be, one by default,
//! joins the next. So batches grow by themselves with the load, and no timer waits for company, unless
//! `Config::tso_max_wait` says so (`company.rs`).
//!
//! ```text
//! line ─▶ flight ─▶ answered: each passenger has his own, in the order of the line
//!  ▲        │
//!  └────────┘ no answer: all flights on this way are given up at once, and their passengers go
//!             back to the head of the line in their order
//! line      Open ─▶ Resting ─▶ Open     the second failure in a row, and the next ones, pause
//! ```
//!
//! With `Config::tso_follower_proxy` each flight goes to a member drawn at random, which passes it on
//! (`Pd::proxy`). One that cannot is left out for a while; that is nothing against the leader.
//!
//! With several flights out the line is shorter and the batches smaller. They are answered in order
//! as long as they are on one stream; after a change of leader, or of the way to it, they are not.
//!
//! **Monotonic.** The timestamps of a flight must lie wholly above every timestamp that had been
//! received before the flight left; one that does not is never given to anybody. (The largest known
//! when the answer *arrives* would be the wrong measure: a flight that left later, to a new leader,
//! may have been answered first, and both are right.) The reference takes its process down in this
//! case; here the leader is doubted and asked again.

mod company;

use std::collections::VecDeque;

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::{AskTimestamps, Command, WakeReason};
use crate::error::{Error, ErrorKind, Failure};
use crate::id::CommandId;
use crate::oracle::Oracle;
use crate::pd::{Route, Trouble};
use crate::shared::{CommandOwner, InFlight, Owner, Shared, Tag, TimerTarget, Wake};
use crate::time::Instant;
use crate::timer::TimerId;
use crate::timestamp::Timestamp;
use crate::wire::Response;

use company::{Again, Company, ELECTION, Gathering};

#[derive(Clone, Debug, Hash)]
pub(crate) struct Tso {
    line: VecDeque<Passenger>,
    /// In the order in which they left.
    flights: VecDeque<Flight>,
    /// Nothing leaves before this.
    resting: Option<TimerId>,
    company: Company,
    backoff: Backoff,
    failures: u32,
    departures: u64,
    /// Since when they wait for a leader.
    parked_since: Option<Instant>,
    /// An empty list, kept for its memory.
    spare: Vec<Passenger>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Passenger {
    Waiter(Owner, Tag),
    /// Nobody in particular: so that what is known stays fresh (`oracle.rs`).
    Oracle,
    /// Somebody who gave up on the way.
    Nobody,
}

#[derive(Clone, Debug, Hash)]
struct Flight {
    number: u64,
    command: CommandId,
    timer: TimerId,
    route: Route,
    passengers: Vec<Passenger>,
    /// The largest timestamp received before it left.
    floor: u64,
}

impl Tso {
    pub(crate) fn new() -> Self {
        Self {
            line: VecDeque::new(),
            flights: VecDeque::new(),
            resting: None,
            company: Company::new(),
            backoff: Backoff::new(budget::TSO),
            failures: 0,
            departures: 0,
            parked_since: None,
            spare: Vec::new(),
        }
    }

    /// Something is asked, or will be.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.flights.is_empty() || !self.line.is_empty()
    }

    /// Somebody waits in line. (What keeps the oracle fresh can wait for the next use of it.)
    pub(crate) fn is_wanted(&self, oracle: &Oracle) -> bool {
        oracle.is_waited_for()
            || self.line.iter().any(|passenger| matches!(passenger, Passenger::Waiter(..)))
    }
}

impl Shared {
    /// Answered by [`Wake::Timestamp`] with a timestamp that PD hands out after this call: whatever
    /// was acknowledged to anybody before it is older.
    pub(crate) fn tso_ask(&mut self, owner: Owner, tag: Tag) {
        if planted!(self.config, TimestampFromBefore) && !self.tso.flights.is_empty() {
            self.tso_ask_for_any(owner, tag);
            return;
        }
        self.tso.line.push_back(Passenger::Waiter(owner, tag));
        self.tso_flush();
    }

    /// Has the oracle told a newer timestamp.
    pub(crate) fn tso_ask_for_oracle(&mut self) {
        self.tso.line.push_back(Passenger::Oracle);
        self.tso_flush();
    }

    /// Answered by [`Wake::Timestamp`] with the next timestamp that PD tells anybody: for those who
    /// would take one that is a little older. They share one question. True if the answer may be to a
    /// question that was on its way before this call.
    pub(crate) fn tso_ask_for_any(&mut self, owner: Owner, tag: Tag) -> bool {
        let under_way = !self.tso.flights.is_empty();
        if self.oracle.wait(owner, tag) {
            self.tso_ask_for_oracle();
            return under_way;
        }
        // One is in line, perhaps for long, and nobody has cared to look for a leader.
        self.tso_flush();
        true
    }

    /// Forgets a waiter.
    pub(crate) fn tso_forget(&mut self, owner: Owner) {
        let is_theirs = |it: &Passenger| matches!(it, Passenger::Waiter(by, _) if *by == owner);
        self.tso.line.retain(|passenger| !is_theirs(passenger));
        self.oracle.forget(owner);
        // The timestamps of a flight are counted: the seat stays, empty.
        for flight in &mut self.tso.flights {
            for seat in flight.passengers.iter_mut().filter(|seat| is_theirs(seat)) {
                *seat = Passenger::Nobody;
            }
        }
    }

    /// Sends whoever waits on their way, if a flight may leave and a leader is known.
    pub(crate) fn tso_flush(&mut self) {
        while !self.tso.line.is_empty()
            && self.tso.resting.is_none()
            && self.tso.flights.len() < company::tokens(&self.config)
        {
            self.pd_refresh_if_old();
            let Some(route) = self.tso_route() else {
                self.tso.parked_since.get_or_insert(self.now);
                return self.pd_discover();
            };
            self.tso.parked_since = None;
            if !self.tso.company.may_leave(self.tso.line.len(), company::wait(&self.config)) {
                return self.tso_gather();
            }
            self.tso_depart(route);
        }
    }

    fn tso_route(&mut self) -> Option<Route> {
        if !self.config.tso_follower_proxy {
            return self.pd.route();
        }
        let (now, draws) = (self.now, &mut self.draws);
        self.pd.proxy(now, |bound| draws.below(bound))
    }

    /// Whoever stands in line waits for company.
    fn tso_gather(&mut self) {
        if self.tso.company.state == Gathering::Alone {
            let at = self.now + company::wait(&self.config);
            let timer = self.set_timer(at, WakeReason::Batch, TimerTarget::TsoCompany);
            self.tso.company.state = Gathering::Until(timer);
        }
    }

    /// Nobody waits for company any longer.
    pub(crate) fn tso_company_timer(&mut self) {
        self.tso.company.state =
            if self.tso.line.is_empty() { Gathering::Alone } else { Gathering::Over };
        self.tso_flush();
    }

    fn tso_depart(&mut self, route: Route) {
        let most = self.config.max_timestamp_batch.max(1);
        let count = u32::try_from(self.tso.line.len()).unwrap_or(u32::MAX).min(most);
        if let Gathering::Until(timer) = self.tso.company.state {
            self.timers.cancel(timer);
        }
        self.tso.company.state = Gathering::Alone;
        self.tso.company.left(count as usize, most as usize);
        let mut passengers = std::mem::take(&mut self.tso.spare);
        passengers.extend(self.tso.line.drain(..count as usize));
        let number = self.tso.departures;
        self.tso.departures += 1;
        self.stats.commands += 1;
        self.stats.timestamp_batches += 1;
        self.stats.timestamps += u64::from(count);
        self.stats.largest_timestamp_batch = self.stats.largest_timestamp_batch.max(count.into());
        let deadline = self.now + self.config.pd_timeout;
        let owner = CommandOwner::Tso(number);
        let id = CommandId(self.inflight.insert(InFlight { owner }));
        self.commands.push_back(Command::Timestamps(AskTimestamps {
            id,
            to: route.to.clone(),
            forward_to: route.forward_to.clone(),
            deadline,
            cluster_id: self.pd.cluster_id(),
            count,
        }));
        let target = TimerTarget::TsoFlight(number);
        let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, target);
        let floor = self.oracle.latest().map_or(0, Timestamp::version);
        let flight = Flight { number, command: id, timer, route, passengers, floor };
        self.tso.flights.push_back(flight);
    }

    fn tso_position(&self, number: u64) -> Option<usize> {
        self.tso.flights.iter().position(|flight| flight.number == number)
    }

    pub(crate) fn tso_answer(&mut self, number: u64, answer: Result<Response, Failure>) {
        let Some(at) = self.tso_position(number) else {
            return;
        };
        let count = self.tso.flights[at].passengers.len();
        let batch = match answer {
            Ok(Response::Timestamps(batch)) if batch.count as usize == count => batch,
            Ok(_) => {
                let text = "another answer than asked for";
                return self.tso_failed(at, Trouble::LeaderMoved, text);
            }
            Err(failure) => {
                let trouble = Trouble::of(&failure);
                return self.tso_failed(at, trouble, &failure.reason().to_string());
            }
        };
        let floor = self.tso.flights[at].floor;
        let last = batch.last.version();
        let first = last.saturating_sub(count as u64 - 1);
        if last >= i64::MAX as u64 {
            // §12.4: nothing that PD hands out looks like this. Believed once, it would make every
            // true timestamp after it one that goes back.
            let text = format!("{last} is no timestamp");
            return self.tso_failed(at, Trouble::LeaderMoved, &text);
        }
        if first <= floor {
            self.stats.timestamp_regressions += 1;
            let text = format!("timestamps went back from {floor} to {first}");
            return self.tso_failed(at, Trouble::LeaderMoved, &text);
        }
        let Some(mut flight) = self.tso.flights.remove(at) else {
            return;
        };
        self.timers.cancel(flight.timer);
        self.oracle.learn(batch.last, self.now);
        for (owner, tag) in self.oracle.take_waiting() {
            self.wake(owner, tag, Wake::Timestamp(Ok(batch.last)));
        }
        self.tso.failures = 0;
        self.tso.backoff = Backoff::new(budget::TSO);
        for (version, passenger) in (first..=last).zip(flight.passengers.drain(..)) {
            match passenger {
                Passenger::Waiter(owner, tag) => {
                    let version =
                        if planted!(self.config, TimestampToldTwice) { last } else { version };
                    if let Some(ts) = Timestamp::from_version(version) {
                        self.wake(owner, tag, Wake::Timestamp(Ok(ts)));
                    }
                }
                Passenger::Oracle | Passenger::Nobody => {}
            }
        }
        self.tso.spare = flight.passengers;
        self.tso_flush();
    }

    pub(crate) fn tso_flight_timer(&mut self, number: u64) {
        if let Some(at) = self.tso_position(number) {
            self.tso_failed(at, Trouble::Unreachable, "no answer in time");
        }
    }

    pub(crate) fn tso_rest_timer(&mut self) {
        self.tso.resting = None;
        self.tso_flush();
    }

    /// The flight at `at` brought nothing, and with it all others that took the same way: a stream
    /// that broke, or is stuck, has nothing for them either. That is one failure, not many.
    fn tso_failed(&mut self, at: usize, trouble: Trouble, text: &str) {
        let route = self.tso.flights[at].route.clone();
        let mut stranded = VecDeque::new();
        for flight in std::mem::take(&mut self.tso.flights) {
            if flight.route != route {
                self.tso.flights.push_back(flight);
                continue;
            }
            self.timers.cancel(flight.timer);
            // The one that was answered is not in flight any more, which is what `abort` looks at.
            self.abort(flight.command);
            let still_here = |it: &Passenger| *it != Passenger::Nobody;
            stranded.extend(flight.passengers.into_iter().filter(still_here));
        }
        let text = format!("timestamps from {}: {text}", route.to);
        if trouble == Trouble::Refused {
            let error = Error::new(ErrorKind::PdRefused, text);
            self.tso_refuse(stranded, &error);
            return self.tso_flush();
        }
        self.stats.failures += 1;
        stranded.append(&mut self.tso.line);
        self.tso.line = stranded;
        let error = Error::new(ErrorKind::PdUnavailable, text);
        if !self.pd_blame(&route, trouble, error.clone()) {
            return self.tso_flush();
        }
        self.tso.failures = self.tso.failures.saturating_add(1);
        let clamp = match company::again(self.tso.failures, trouble) {
            _ if self.tso.resting.is_some() => return self.tso_flush(),
            Again::AtOnce => return self.tso_flush(),
            Again::Soon => Some(ELECTION),
            Again::Pause => None,
        };
        let draws = &mut self.draws;
        match self.tso.backoff.next(BackoffKind::PdRpc, clamp, error, |bound| draws.below(bound)) {
            Ok(wait) => {
                self.stats.backoffs += 1;
                let at = self.now + wait;
                let timer = self.set_timer(at, WakeReason::Backoff, TimerTarget::TsoRest);
                self.tso.resting = Some(timer);
            }
            Err(error) => self.tso_give_up(&error),
        }
    }

    /// The way there is found to lead nowhere: who is on it need not wait until it is too late.
    pub(crate) fn tso_leave_way(&mut self, route: &Route) {
        if let Some(at) = self.tso.flights.iter().position(|flight| flight.route == *route) {
            self.tso_failed(at, Trouble::Unreachable, "PD's leader cannot be reached");
        }
    }

    /// Ends the wait for a leader when it has taken as long as a timestamp may.
    pub(crate) fn tso_end_parked(&mut self) {
        if self.tso.parked_since.is_some_and(|since| self.now.since(since) >= budget::TSO) {
            let error = self.pd.why_unavailable();
            self.tso_give_up(&error);
        }
    }

    pub(crate) fn tso_give_up(&mut self, error: &Error) {
        self.tso.failures = 0;
        self.tso.backoff = Backoff::new(budget::TSO);
        self.tso.parked_since = None;
        let line = std::mem::take(&mut self.tso.line);
        self.tso_refuse(line, error);
    }

    fn tso_refuse(&mut self, passengers: VecDeque<Passenger>, error: &Error) {
        for passenger in passengers {
            match passenger {
                Passenger::Waiter(owner, tag) => {
                    self.wake(owner, tag, Wake::Timestamp(Err(error.clone())));
                }
                Passenger::Oracle => {
                    for (owner, tag) in self.oracle.not_refreshed() {
                        self.wake(owner, tag, Wake::Timestamp(Err(error.clone())));
                    }
                }
                Passenger::Nobody => {}
            }
        }
    }
}
