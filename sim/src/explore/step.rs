//! What may happen next, and what it does.

use std::sync::Arc;
use std::time::Duration;

use anatase_cluster::{Cluster, CommitWay, Fault as Struck, Loss, On, RegionFault};
use anatase_core::wire::Response;
use anatase_core::{Command, Failure, GrpcStatus, Instant};
use bytes::BytesMut;

use super::client::{Client, Moment, Outputs, contract};
use super::state::{Flight, Leg, State};
use super::{ORIGIN_MS, Sabotage, describe};
use crate::check::{Anomaly, Violation};
use crate::fault::Side;
use crate::network::{What, host};
use crate::serve::{self, Fared};

/// A step from one state to the next. What is numbered is numbered as in the state it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A client begins. Its request for a timestamp has reached PD at once, unless this befell it.
    Begin(u8, Option<Blow>),
    /// A request reaches its server, which answers.
    Arrive(u8),
    /// An answer reaches its client.
    Deliver(u8),
    /// A client's timer goes off.
    Alarm(u8),
    /// Time moves on to the next timer.
    Pass,
    /// The fault.
    Strike(Strike),
}

/// Where and how the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    /// A message.
    Message(u8, Blow),
    /// The connection on which this message is.
    Reset(u8),
    /// The first region.
    Split,
    /// The region of the first key, or of the last.
    MoveLeader(bool),
    Crash(u8),
    /// All clocks.
    Leap,
    /// PD has a new leader, whose timestamps are seconds ahead.
    LeadPd,
}

/// What befalls a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    Lost,
    /// It may yet arrive; its client hears nothing.
    Late,
    /// It may yet arrive; its client hears that the connection broke.
    LateAndTold,
    /// It is not executed: the connection breaks.
    Broken,
    Busy,
    /// Another epoch, and no word of which.
    Epoch,
    /// It is not executed, and the store says that it does not know.
    InDoubt,
    /// It is executed, and the store says that it does not know.
    DoneInDoubt,
    /// The store falls back to two phases.
    FallBack,
    Unavailable,
}

/// A step that was found to be wrong, or went as it should.
pub(super) type Went = Result<(), Violation>;

/// Carries steps out, and writes them down if somebody wants to read them.
pub(super) struct Stepper {
    pub(super) sabotage: Sabotage,
    /// How far clocks leap.
    pub(super) leap: Duration,
    pub(super) log: Option<Vec<String>>,
    buffer: BytesMut,
}

impl Stepper {
    pub(super) fn new(sabotage: Sabotage, leap: Duration) -> Self {
        Self { sabotage, leap, log: None, buffer: BytesMut::new() }
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(line());
        }
    }

    /// Carries a step out. A panic on the way is a violation.
    pub(super) fn step(&mut self, state: &mut State, step: Step) -> Went {
        let stepping = std::panic::AssertUnwindSafe(|| self.carry_out(state, step));
        std::panic::catch_unwind(stepping).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            Err(contract(Anomaly::NoProgress, format!("panicked: {text}")))
        })
    }

    fn carry_out(&mut self, state: &mut State, step: Step) -> Went {
        match step {
            Step::Begin(client, blow) => {
                self.say(|| format!("{} begins", state.client(client).name));
                self.input(state, client, |client, now, out| client.begin(now, out))?;
                let Some(flight) = only_request(state, client) else { return Ok(()) };
                match blow {
                    None => self.arrive(state, flight),
                    Some(blow) => self.strike(state, Strike::Message(flight, blow)),
                }
            }
            Step::Arrive(flight) => self.arrive(state, flight),
            Step::Deliver(flight) => {
                let flight = state.flights.remove(usize::from(flight));
                let Leg::Back(answer) = flight.leg else { return Ok(()) };
                let name = state.client(flight.client).name;
                self.say(|| format!("{name} gets the answer: {}", describe::answer(&answer)));
                let answer = Arc::unwrap_or_clone(answer);
                self.input(state, flight.client, |client, now, _| {
                    client.core.handle_response(now, flight.id, answer);
                })?;
                Ok(())
            }
            Step::Alarm(client) => self.alarm(state, client),
            Step::Pass => {
                let next = next_wakeup(state).unwrap_or(state.now);
                self.reach(state, next);
                self.say(|| format!("time passes, to {} ms", next.as_nanos() / 1_000_000));
                Ok(())
            }
            Step::Strike(strike) => self.strike(state, strike),
        }
    }

    /// Gives a client an input, and takes what comes out of it.
    pub(super) fn input(
        &mut self,
        state: &mut State,
        client: u8,
        input: impl FnOnce(&mut Client, Instant, &mut Outputs),
    ) -> Result<usize, Violation> {
        let now = state.now;
        let mut out = Outputs::default();
        state.change_client(client, |client| {
            input(client, now, &mut out);
            client.drain(now, &mut out)
        })?;
        let Outputs { commands, moments, news } = out;
        let outputs = commands.len() + moments.len() + news.len();
        news.into_iter().for_each(|line| self.say(|| format!("    {line}")));
        state.moments.extend(moments.into_iter().map(|moment| (moment, client)));
        for command in commands {
            let (id, to, what) = match command {
                Command::Call(call) => (call.id, call.to, What::Call(call.request)),
                Command::Timestamps(ask) => (ask.id, ask.to.clone(), What::Timestamps(ask)),
                Command::Abort { id } => {
                    state.flights.retain(|flight| {
                        (flight.client, flight.id) != (client, id) || !flight.is_heard()
                    });
                    continue;
                }
            };
            if state.flights.iter().any(|it| (it.client, it.id) == (client, id)) {
                let story = format!("{id:?} of {} is used twice", state.client(client).name);
                return Err(contract(Anomaly::IdReused, story));
            }
            let name = state.client(client).name;
            self.say(|| format!("    {name} sends to {}: {}", to.address, describe::what(&what)));
            let leg = Leg::There(Arc::new(what));
            state.add_flight(Flight::new(client, id, to.address, leg));
        }
        Ok(outputs)
    }

    fn alarm(&mut self, state: &mut State, client: u8) -> Went {
        let before = state.client(client).core.poll_timeout();
        let name = state.client(client).name;
        self.say(|| format!("a timer of {name} goes off: {before:?}"));
        let outputs =
            self.input(state, client, |client, now, _| client.core.handle_timeout(now))?;
        let after = state.client(client).core.poll_timeout();
        if outputs == 0 && after.is_some_and(|wakeup| wakeup.at <= state.now) {
            let story = format!("the wake-up {before:?} of {name} has led to {after:?} alone");
            return Err(contract(Anomaly::NoProgress, story));
        }
        Ok(())
    }

    pub(super) fn reach(&mut self, state: &mut State, at: Instant) {
        if at <= state.now {
            return;
        }
        state.now = at;
        state.change_cluster(|cluster| cluster.set_now_ms(ORIGIN_MS + at.as_nanos() / 1_000_000));
        self.wake(state);
    }

    /// Requests that waited for a lock, and do no more.
    fn wake(&mut self, state: &mut State) {
        if state.cluster().next_wake_ms().is_none_or(|at| at > state.cluster().now_ms()) {
            return;
        }
        for woken in state.change_cluster(Cluster::take_woken) {
            let parked = |flight: &Flight| match flight.leg {
                Leg::Parked(ticket) => ticket == woken.ticket,
                Leg::There(_) | Leg::Stray(_) | Leg::Back(_) => false,
            };
            let Some(at) = state.flights.iter().position(parked) else { continue };
            let (result, _) = serve::woken(woken, false);
            let flight = state.flights.remove(at);
            if let Some(answer) = heard(result) {
                let name = state.client(flight.client).name;
                self.say(|| format!("    {name}'s wait is over: {}", describe::answer(&answer)));
                state.add_flight(flight.with(Leg::Back(Arc::new(answer))));
            }
        }
    }

    fn arrive(&mut self, state: &mut State, flight: u8) -> Went {
        let flight = state.flights.remove(usize::from(flight));
        let Some(what) = flight.what().cloned() else { return Ok(()) };
        ask(state, flight.client);
        let fared = self.serve(state, &flight.address, &what);
        let name = state.client(flight.client).name;
        let asks = || format!("{name} → {}: {}", flight.address, describe::what(&what));
        match fared {
            Fared::Parked(ticket) => {
                self.say(|| format!("{} → waits", asks()));
                if flight.is_heard() {
                    state.add_flight(flight.with(Leg::Parked(ticket)));
                }
            }
            Fared::Over(result, _) => {
                let Some(answer) = heard(result) else { return Ok(()) };
                let whose = if flight.is_heard() { "" } else { "late: " };
                self.say(|| format!("{whose}{} → {}", asks(), describe::answer(&answer)));
                if flight.is_heard() {
                    state.add_flight(flight.with(Leg::Back(Arc::new(answer))));
                }
            }
        }
        self.wake(state);
        Ok(())
    }

    fn serve(&mut self, state: &mut State, address: &str, what: &What) -> Fared {
        let side = side_at(state.cluster(), address);
        let buffer = &mut self.buffer;
        let lie = match (self.sabotage, what) {
            (Sabotage::CommitIsForgotten, What::Call(request)) => {
                request.rpc == anatase_proto::rpc::Rpc::KvCommit
            }
            _ => false,
        };
        if lie {
            return Fared::Over(Ok(Response::Commit(Default::default())), Duration::ZERO);
        }
        let mut fared = state
            .change_cluster(|cluster| serve::serve(cluster, side, what.clone(), false, buffer));
        if self.sabotage == Sabotage::StatusLies
            && let Fared::Over(Ok(Response::CheckTxnStatus(status)), _) = &mut fared
            && status.lock_ttl > 0
        {
            // Whoever is alive is said to have been rolled back.
            (status.lock_ttl, status.commit_version, status.lock_info) = (0, 0, None);
            status.action = anatase_proto::kvrpcpb::Action::TtlExpireRollback.into();
        }
        fared
    }

    // ---- faults ----------------------------------------------------------------------------------

    fn strike(&mut self, state: &mut State, strike: Strike) -> Went {
        state.unspent = false;
        match strike {
            Strike::Message(flight, blow) => self.hit(state, usize::from(flight), blow)?,
            Strike::Reset(flight) => {
                let Flight { client, address, .. } = state.flights[usize::from(flight)].clone();
                let name = state.client(client).name;
                self.say(|| format!("FAULT: the connection of {name} to {address} breaks"));
                let (hit, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut state.flights)
                    .into_iter()
                    .partition(|it| it.client == client && it.address == address && it.is_heard());
                state.flights = kept;
                ask(state, client);
                hit.iter().for_each(|it| state.add_flight(it.with(broken())));
            }
            Strike::Split => {
                self.say(|| "FAULT: the first region splits at b".to_owned());
                state.change_cluster(|cluster| cluster.split("b"));
            }
            Strike::MoveLeader(last) => {
                let key: &[u8] = if last { b"z" } else { b"a" };
                let region = state.cluster().region_of(key);
                let Some((region, leader)) = region.and_then(|it| Some((it.id, it.leader?))) else {
                    return Ok(());
                };
                let to = if leader == 1 { 2 } else { 1 };
                self.say(|| format!("FAULT: store {to} leads region {region} from now on"));
                state.change_cluster(|cluster| cluster.transfer_leader(region, to));
            }
            Strike::Crash(client) => {
                self.say(|| format!("FAULT: {} crashes", state.client(client).name));
                state.change_client(client, Client::die);
                state.moments.push((Moment::Ended, client));
                for flight in std::mem::take(&mut state.flights) {
                    match (&flight.leg, flight.client == client) {
                        (_, false) | (Leg::Stray(_), true) => state.flights.push(flight),
                        // What it had sent may arrive. At PD that changes nothing.
                        (Leg::There(what), true) if !flight.address.contains("pd") => {
                            state.add_flight(flight.with(Leg::Stray(what.clone())));
                        }
                        (Leg::There(_) | Leg::Parked(_) | Leg::Back(_), true) => {}
                    }
                }
            }
            Strike::Leap => {
                let leap = self.leap;
                self.say(|| format!("FAULT: {leap:?} pass at once"));
                let at = state.now + leap;
                self.reach(state, at);
            }
            Strike::LeadPd => {
                self.say(|| "FAULT: PD has another leader, 3 s ahead".to_owned());
                state.change_cluster(|cluster| cluster.transfer_pd_leader(1));
            }
        }
        self.wake(state);
        Ok(())
    }

    fn hit(&mut self, state: &mut State, at: usize, blow: Blow) -> Went {
        let flight = state.flights.remove(at);
        let name = state.client(flight.client).name;
        let which = match &flight.leg {
            Leg::There(what) | Leg::Stray(what) => {
                format!("{name} → {}: {}", flight.address, describe::what(what))
            }
            Leg::Back(answer) => format!("the answer to {name}: {}", describe::answer(answer)),
            Leg::Parked(_) => format!("the answer to {name}"),
        };
        self.say(|| format!("FAULT: {blow:?}: {which}"));
        let Some(what) = flight.what().cloned() else { return Ok(()) };
        ask(state, flight.client);
        let leg = match blow {
            Blow::Lost => return Ok(()),
            Blow::Late => Leg::Stray(what),
            Blow::LateAndTold => {
                state.add_flight(flight.with(Leg::Stray(what)));
                broken()
            }
            Blow::Broken => broken(),
            Blow::Unavailable => {
                let failure = Failure::status(GrpcStatus::UNAVAILABLE, "not leader");
                Leg::Back(Arc::new(Err(failure)))
            }
            Blow::Busy => return self.refuse(state, flight, &what, RegionFault::busy("busy")),
            Blow::Epoch => {
                let fault = RegionFault::EpochNotMatch { with_regions: false };
                return self.refuse(state, flight, &what, fault);
            }
            Blow::InDoubt => return self.refuse(state, flight, &what, in_doubt()),
            Blow::DoneInDoubt => {
                // Executed once, unheard; what is heard is another answer.
                let unheard = Struck::DropResponse(Loss::Silent);
                state.change_cluster(|cluster| cluster.faults().next(On::any(), unheard));
                self.serve(state, &flight.address, &what);
                return self.refuse(state, flight, &what, in_doubt());
            }
            Blow::FallBack => {
                let fault = Struck::FallBack(CommitWay::Async);
                state.change_cluster(|cluster| cluster.faults().next(On::any(), fault));
                let fault = Struck::FallBack(CommitWay::OnePhase);
                state.change_cluster(|cluster| cluster.faults().next(On::any(), fault));
                return self.answer_and_mend(state, flight, &what);
            }
        };
        state.add_flight(flight.with(leg));
        Ok(())
    }

    fn refuse(
        &mut self,
        state: &mut State,
        flight: Flight,
        what: &What,
        fault: RegionFault,
    ) -> Went {
        state.change_cluster(|cluster| cluster.faults().next(On::any(), fault));
        self.answer_and_mend(state, flight, what)
    }

    fn answer_and_mend(&mut self, state: &mut State, flight: Flight, what: &What) -> Went {
        let fared = self.serve(state, &flight.address, what);
        state.change_cluster(|cluster| cluster.faults().clear());
        if let Fared::Over(result, _) = fared
            && let Some(answer) = heard(result)
        {
            state.add_flight(flight.with(Leg::Back(Arc::new(answer))));
        }
        Ok(())
    }
}

/// Something that a client has sent has met its fate. If it is the first of its commit, the commit is
/// asked for now: its owner could have asked as late as that.
fn ask(state: &mut State, client: u8) {
    let moment = (Moment::Asked, client);
    if state.client(client).has_asked() && !state.moments.contains(&moment) {
        state.moments.push(moment);
    }
}

fn broken() -> Leg {
    Leg::Back(Arc::new(Err(Failure::maybe_executed("connection reset"))))
}

fn in_doubt() -> RegionFault {
    RegionFault::UndeterminedResult { message: "who knows".to_owned() }
}

/// What a client hears of an answer; `None` if that is nothing.
fn heard(result: Result<Response, anatase_cluster::Failure>) -> Option<Result<Response, Failure>> {
    use anatase_cluster::Failure as Broken;
    Some(match result {
        Ok(response) => Ok(response),
        Err(Broken::Status(status)) => {
            Err(Failure::status(GrpcStatus(status.code as u32), status.message))
        }
        Err(Broken::Lost(Loss::Refused)) => Err(Failure::not_sent("connection refused")),
        Err(Broken::Lost(Loss::Reset)) => Err(Failure::maybe_executed("connection reset")),
        Err(Broken::Lost(Loss::Silent)) => return None,
    })
}

fn side_at(cluster: &Cluster, address: &str) -> Side {
    let wanted = host(address);
    if let Some(store) = cluster.store_at(wanted) {
        return Side::Store(store);
    }
    let member = cluster.pd_members().iter().position(|member| host(&member.url) == wanted);
    member.map_or(Side::Clients, Side::Pd)
}

/// The request of a client that has no other.
fn only_request(state: &State, client: u8) -> Option<u8> {
    let mut mine = (0..).zip(&state.flights).filter(|(_, flight)| flight.client == client);
    let (at, flight) = mine.next()?;
    (mine.next().is_none() && matches!(flight.leg, Leg::There(_))).then_some(at)
}

/// When the next timer goes off, of a client or of a store where somebody waits.
pub(super) fn next_wakeup(state: &State) -> Option<Instant> {
    let store = state
        .cluster()
        .next_wake_ms()
        .map(|ms| Instant::from_nanos(ms.saturating_sub(ORIGIN_MS).saturating_mul(1_000_000)));
    let alive = state.clients().filter(|(_, client)| client.is_alive());
    let clients = alive.filter_map(|(_, client)| client.core.poll_timeout());
    clients.map(|wakeup| wakeup.at).chain(store).min()
}
