//! Which steps a state allows, and which of them are enough.
//!
//! # The reduction
//! An input to a client touches nothing but that client: it changes its core, and puts requests on
//! their way. So it commutes with everything that happens to the others and to the cluster. Take a
//! client that has answers under way, or a timer that is due, and no request that could be answered
//! still. Then the first thing that ever happens to it is one of a few: one of those answers, that
//! timer, or the fault, if it can strike at it. Whatever else happens before could as well happen
//! after. These few are all that is tried there: every order of the rest is found behind each of them.
//! This is a persistent set in a space without circles (each step consumes a message, a timer, a
//! beginning or the fault), so that every end is reached, and every order of each client's own inputs.
//! Not so while all clocks may leap, which is an input to everybody: then nothing is left out.
//!
//! What is judged besides states is what ended before something began. An answer that is delivered early
//! ends what it ends early, and a transaction begins, or asks for its commit, when its first request
//! reaches a server, as late as can be. Both only add to what has to be in order: what is left out would
//! be judged less strictly.

use super::client::{Client, Stage};
use super::state::{Leg, State};
use super::step::{Blow, Step, Strike, next_wakeup};
use super::{Fault, Mode};
use crate::check::residue::is_for_something;
use crate::network::What;

/// Which faults there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Menu {
    pub(super) fault: Fault,
    pub(super) mode: Mode,
    /// Whether to leave out what is not needed.
    pub(super) reduce: bool,
}

/// Nothing is under way, nobody waits, and no timer is set but those that look after PD.
pub(super) fn is_quiet(state: &State) -> bool {
    let on_their_way = state.flights.iter().any(|flight| flight.is_heard());
    !on_their_way && state.clients().all(|(_, client)| is_at_rest(client))
}

fn is_at_rest(client: &Client) -> bool {
    if !client.is_alive() {
        return true;
    }
    let over = client.is_over() || client.stage == Stage::Idle;
    over && client.core.is_idle() && !waits(client)
}

/// The next timer of its core is for something that is under way.
fn waits(client: &Client) -> bool {
    client.core.poll_timeout().is_some_and(|wakeup| is_for_something(wakeup.reason))
}

fn is_due(state: &State, client: &Client) -> bool {
    client.is_alive() && client.core.poll_timeout().is_some_and(|wakeup| wakeup.at <= state.now)
}

impl Menu {
    /// What may happen next. Empty where the world has come to its end, but for strays.
    pub(super) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        let leaps = state.unspent && self.fault == Fault::Expiry;
        if self.reduce && !leaps {
            for (client, it) in state.clients() {
                self.enough(state, client, it, steps);
                if !steps.is_empty() {
                    return;
                }
            }
        }
        self.calm(state, steps);
        if steps.is_empty() && !is_quiet(state) && next_wakeup(state).is_some() {
            steps.push(Step::Pass);
        }
        let ended = steps.is_empty();
        for (at, flight) in (0..).zip(&state.flights) {
            if matches!(flight.leg, Leg::Stray(_)) {
                steps.push(Step::Arrive(at));
            }
        }
        if state.unspent && !ended {
            self.strikes(state, steps);
        }
    }

    /// What is the first thing to happen to a client, if that is known.
    fn enough(&self, state: &State, client: u8, it: &Client, steps: &mut Vec<Step>) {
        let mine = || (0..).zip(&state.flights).filter(move |(_, flight)| flight.client == client);
        if !it.is_alive()
            || mine().any(|(_, flight)| matches!(flight.leg, Leg::There(_) | Leg::Parked(_)))
        {
            return;
        }
        for (at, flight) in mine() {
            if matches!(flight.leg, Leg::Back(_)) {
                steps.push(Step::Deliver(at));
            }
        }
        if is_due(state, it) {
            steps.push(Step::Alarm(client));
        }
        if steps.is_empty() || !state.unspent {
            return;
        }
        match self.fault {
            Fault::ReplyLost => self.messages(state, Some(client), steps),
            Fault::Reset => self.resets(state, Some(client), steps),
            Fault::Crash => steps.push(Step::Strike(Strike::Crash(client))),
            Fault::None
            | Fault::RequestLost
            | Fault::Zombie
            | Fault::Split
            | Fault::LeaderMove
            | Fault::Refusal
            | Fault::Expiry
            | Fault::TimestampLeap
            | Fault::PdFailure => {}
        }
    }

    /// What happens without any fault, and without time.
    pub(super) fn calm(&self, state: &State, steps: &mut Vec<Step>) {
        for (at, flight) in (0..).zip(&state.flights) {
            match flight.leg {
                Leg::There(_) => steps.push(Step::Arrive(at)),
                Leg::Back(_) => steps.push(Step::Deliver(at)),
                Leg::Stray(_) | Leg::Parked(_) => {}
            }
        }
        for (client, it) in state.clients() {
            if is_due(state, it) {
                steps.push(Step::Alarm(client));
            }
            if it.stage == Stage::Idle {
                steps.push(Step::Begin(client, None));
            }
        }
    }

    fn strikes(&self, state: &State, steps: &mut Vec<Step>) {
        let begin = |blow| {
            let idle = state.clients().filter(|(_, client)| client.stage == Stage::Idle);
            idle.map(move |(client, _)| Step::Begin(client, Some(blow)))
        };
        match self.fault {
            Fault::None => {}
            Fault::RequestLost => {
                steps.extend(begin(Blow::Lost));
                self.messages(state, None, steps);
            }
            Fault::PdFailure => {
                steps.extend(begin(Blow::Unavailable));
                self.messages(state, None, steps);
            }
            Fault::Reset => {
                steps.extend(begin(Blow::Broken));
                self.resets(state, None, steps);
            }
            Fault::ReplyLost | Fault::Zombie | Fault::Refusal => self.messages(state, None, steps),
            Fault::Split => steps.push(Step::Strike(Strike::Split)),
            Fault::LeaderMove => {
                let regions = [false, true].map(Strike::MoveLeader);
                steps.extend(regions.map(Step::Strike));
            }
            Fault::Crash => {
                let busy = state
                    .clients()
                    .filter(|(_, client)| client.stage != Stage::Idle && !is_at_rest(client));
                steps.extend(busy.map(|(client, _)| Step::Strike(Strike::Crash(client))));
            }
            Fault::Expiry => steps.push(Step::Strike(Strike::Leap)),
            Fault::TimestampLeap => steps.push(Step::Strike(Strike::LeadPd)),
        }
    }

    /// What may befall the messages of one client, or of all.
    fn messages(&self, state: &State, of: Option<u8>, steps: &mut Vec<Step>) {
        for (at, flight) in (0..).zip(&state.flights) {
            if of.is_some_and(|client| client != flight.client) {
                continue;
            }
            let pd = flight.address.contains("pd");
            let blows: &[Blow] = match (&flight.leg, self.fault) {
                (Leg::Back(_), Fault::ReplyLost) => &[Blow::Lost],
                (Leg::There(_), Fault::RequestLost) => &[Blow::Lost],
                (Leg::There(_), Fault::PdFailure) if pd => &[Blow::Unavailable],
                (Leg::There(_), Fault::Zombie) if !pd => &[Blow::Late, Blow::LateAndTold],
                (Leg::There(what), Fault::Refusal) if !pd => self.refusals(what),
                _ => &[],
            };
            steps.extend(blows.iter().map(|blow| Step::Strike(Strike::Message(at, *blow))));
        }
    }

    fn refusals(&self, what: &What) -> &'static [Blow] {
        use anatase_proto::rpc::Rpc;
        let What::Call(request) = what else { return &[] };
        let faster = matches!(self.mode, Mode::Async | Mode::OnePhase);
        match request.rpc {
            Rpc::KvPrewrite if faster => {
                &[Blow::Busy, Blow::Epoch, Blow::InDoubt, Blow::DoneInDoubt, Blow::FallBack]
            }
            Rpc::KvGet | Rpc::KvBatchGet | Rpc::KvScan => &[Blow::Busy, Blow::Epoch],
            _ => &[Blow::Busy, Blow::Epoch, Blow::InDoubt, Blow::DoneInDoubt],
        }
    }

    /// Each connection on which something is under way, once.
    fn resets(&self, state: &State, of: Option<u8>, steps: &mut Vec<Step>) {
        for (at, flight) in (0..).zip(&state.flights) {
            let before = &state.flights[..usize::from(at)];
            let known = before.iter().any(|other| {
                other.is_heard()
                    && (other.client, &other.address) == (flight.client, &flight.address)
            });
            if flight.is_heard() && !known && of.is_none_or(|client| client == flight.client) {
                steps.push(Step::Strike(Strike::Reset(at)));
            }
        }
    }
}
