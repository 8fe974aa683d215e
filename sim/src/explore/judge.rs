//! What is asked of a world at its end.
//!
//! Everything is over, and has been told. Time passes until every lock is past its time; then a client
//! that has had no part in it reads all keys, puts an end to whatever transaction is left, and reads
//! again. What the cluster knows then is held against what everybody was told. Requests that are still
//! late arrive after that, and it is all done once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anatase_core::Instant;

use super::choose::{Menu, is_quiet};
use super::client::{Client, Moment, contract};
use super::state::{Leg, State};
use super::step::{Step, Stepper, Went, next_wakeup};
use crate::check::truth::Truth;
use crate::check::{Anomaly, Violation, real_time, residue, snapshot, truth};
use crate::history::{History, Outcome};

/// After so many steps without an end there is none.
const STEPS: usize = 20_000;

/// When the last client begins: beyond the life of any lock.
const LATER: Duration = Duration::from_secs(60);

/// Lets everything happen that happens without a fault, one thing after the other, until nothing does.
pub(super) fn settle(menu: &Menu, stepper: &mut Stepper, state: &mut State) -> Went {
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        steps.clear();
        menu.calm(state, &mut steps);
        steps.retain(|step| !matches!(step, Step::Begin(..)));
        let next = match steps.first() {
            Some(step) => *step,
            None if is_quiet(state) => return Ok(()),
            None if next_wakeup(state).is_none() => {
                let story = "somebody waits for nothing".to_owned();
                return Err(contract(Anomaly::Asleep, story));
            }
            None => Step::Pass,
        };
        stepper.step(state, next)?;
    }
    Err(contract(Anomaly::NeverOver, format!("{STEPS} steps, and no end")))
}

/// Brings a state that has come to its end to a judgement.
pub(super) fn judge(
    menu: &Menu,
    stepper: &mut Stepper,
    end: &State,
    closer: &Arc<Client>,
    calm: bool,
) -> Went {
    for (_, client) in end.clients() {
        if !client.is_over() {
            let story = format!("{} waits for nothing: {:?}", client.name, client.stage);
            return Err(contract(Anomaly::Asleep, story));
        }
        first(residue::core(&client.core, client.name).into_iter().filter(|_| client.is_alive()))?;
    }
    let whole = Truth::of(end.cluster(), b"");
    if calm {
        // Nothing went wrong: whoever took a lock has seen to it.
        first(residue::locks(&whole, &BTreeSet::new()))?;
    }
    let strays = |state: &State| {
        (0..).zip(&state.flights).find(|(_, it)| matches!(it.leg, Leg::Stray(_))).map(|(at, _)| at)
    };
    if whole.locks.is_empty() && strays(end).is_none() {
        return held_against(end, &whole);
    }
    let mut state = end.clone();
    close(menu, stepper, &mut state, closer)?;
    if strays(&state).is_none() {
        return Ok(());
    }
    while let Some(stray) = strays(&state) {
        stepper.step(&mut state, Step::Arrive(stray))?;
    }
    close(menu, stepper, &mut state, closer)
}

fn close(menu: &Menu, stepper: &mut Stepper, state: &mut State, closer: &Arc<Client>) -> Went {
    let later = state.now + LATER;
    stepper.reach(state, later);
    state.add_client(closer.clone());
    let last = state.clients().count() - 1;
    stepper.step(state, Step::Begin(last as u8, None))?;
    settle(menu, stepper, state)?;
    let truth = Truth::of(state.cluster(), b"");
    first(residue::locks(&truth, &BTreeSet::new()))?;
    held_against(state, &truth)
}

fn held_against(state: &State, truth: &Truth) -> Went {
    let rounds = state.rounds();
    let mut history = History::default();
    for (process, client) in state.clients() {
        let at = |moment: Moment| {
            let mut all = rounds.iter().filter(|(_, it)| *it == (moment, process));
            all.next().map(|(round, _)| Instant::from_nanos(*round))
        };
        client.write_down(process.into(), &mut history, at);
    }
    let mut found = truth::check(&history, truth);
    found.extend(snapshot::check(&history, truth));
    found.extend(real_time::check(&history));
    let running = history.transactions().find(|(_, txn)| txn.outcome == Outcome::Running);
    if let Some((entry, _)) = running {
        let story = "nobody was told how it ended".to_owned();
        found.push(contract(Anomaly::NeverOver, story).by(&history, [entry.id]));
    }
    first(found)
}

fn first(found: impl IntoIterator<Item = Violation>) -> Went {
    found.into_iter().next().map_or(Ok(()), Err)
}
