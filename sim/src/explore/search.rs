//! Breadth first through all states.
//!
//! Of a state that was expanded only its digest is kept, and the step that led to it first. A way that
//! is to be told is walked once more from the beginning, and written down.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use anatase_cluster::ClusterConfig;
use anatase_core::Instant;
use bytes::Bytes;

use super::choose::Menu;
use super::client::{Client, Role};
use super::state::State;
use super::step::{Step, Stepper, Went};
use super::{Cast, Counterexample, Fault, Mode, ORIGIN_MS, Report, Search, judge};

/// Digests are their own hashes.
#[derive(Default)]
struct Digests(u64);

impl Hasher for Digests {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }
}

/// How a state was reached first.
struct Reached {
    from: u32,
    by: Step,
}

const ROOT: u32 = u32::MAX;

pub(super) fn cluster() -> ClusterConfig {
    ClusterConfig::default().stores(2).pd_members(2).split_keys(["m"]).now_ms(ORIGIN_MS)
}

impl Search {
    fn menu(&self) -> Menu {
        Menu { fault: self.fault, mode: self.mode, reduce: self.reduce }
    }

    fn stepper(&self) -> Stepper {
        Stepper::new(self.sabotage, self.leap())
    }

    /// Beyond the life of a lock that nobody keeps alive.
    fn leap(&self) -> Duration {
        match self.mode {
            Mode::TwoPhase | Mode::Async | Mode::OnePhase => Duration::from_millis(3_500),
            Mode::Pessimistic | Mode::Fair => Duration::from_secs(21),
        }
    }

    /// The state from which everything begins, and the client that reads at the end.
    pub(super) fn root(
        &self,
        stepper: &mut Stepper,
    ) -> Result<(State, Arc<Client>), crate::check::Violation> {
        let bytes = |keys: &[&str]| -> Vec<Bytes> {
            keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect()
        };
        let writer = |keys: &[&str], value: &'static str, calls: &[&[&str]]| Role::Writer {
            mode: self.mode,
            calls: calls.iter().map(|call| bytes(call)).collect(),
            writes: bytes(keys).into_iter().map(|key| (key, value.into())).collect(),
        };
        let (one, two, read): (Role, Role, &[&str]) = match (self.mode, self.wide) {
            (Mode::TwoPhase | Mode::Async, true) => {
                (writer(&["a", "z"], "one", &[]), writer(&["b", "z"], "two", &[]), &["a", "z"])
            }
            (Mode::TwoPhase | Mode::Async, false) => {
                (writer(&["a", "z"], "one", &[]), writer(&["z"], "two", &[]), &["z"])
            }
            // In one phase only what lies in one region.
            (Mode::OnePhase, _) => {
                (writer(&["a", "b"], "one", &[]), writer(&["b", "c"], "two", &[]), &["a", "b"])
            }
            (Mode::Pessimistic | Mode::Fair, true) => (
                writer(&["a", "z"], "one", &[&["a"], &["z"]]),
                writer(&["a", "z"], "two", &[&["z"], &["a"]]),
                &["a", "z"],
            ),
            (Mode::Pessimistic | Mode::Fair, false) => (
                writer(&["a", "z"], "one", &[&["a"], &["z"]]),
                writer(&["z"], "two", &[&["z"]]),
                &["z"],
            ),
        };
        let read = bytes(read);
        let all = bytes(&["a", "b", "c", "z"]);
        let mut roles = vec![("T1", one)];
        if matches!(self.cast, Cast::Two | Cast::Three) {
            roles.push(("T2", two));
        }
        if matches!(self.cast, Cast::OneAndReader | Cast::Three) {
            roles.push(("R", Role::Reader { keys: read }));
        }
        roles.push(("last", Role::Closer { keys: all }));
        let menu = self.menu();
        let mut state = State::new(cluster().build(), Instant::from_nanos(1));
        for (seed, (name, role)) in (1..).zip(roles) {
            let client = Client::new(name, role, &self.config, seed, self.patience, self.sabotage);
            state.add_client(Arc::new(client));
            let last = state.clients().count() - 1;
            stepper.input(&mut state, last as u8, |client, now, _| client.warm(now))?;
            judge::settle(&menu, stepper, &mut state)?;
        }
        let closer = state.take_last();
        state.moments.clear();
        state.unspent = self.fault != Fault::None;
        Ok((state, closer))
    }

    /// Searches. `progress` is called after every depth.
    pub fn run(&self, progress: &mut dyn FnMut(&Report)) -> Report {
        let mut report = Report::new(self);
        let mut stepper = self.stepper();
        let (root, closer) = match self.root(&mut stepper) {
            Ok(root) => root,
            Err(violation) => {
                report.found = Some(Counterexample { violation, steps: Vec::new(), depth: 0 });
                return report;
            }
        };
        let menu = self.menu();
        let calm = self.fault == Fault::None;
        let mut seen: HashSet<u64, BuildHasherDefault<Digests>> = HashSet::default();
        seen.insert(root.digest());
        let mut reached: Vec<Reached> = vec![Reached { from: ROOT, by: Step::Pass }];
        let mut frontier = vec![(0_u32, root)];
        let mut steps = Vec::new();
        report.states = 1;
        while !frontier.is_empty() {
            if report.deepest >= self.max_depth {
                report.completed = false;
                break;
            }
            let mut next = Vec::new();
            for (from, state) in frontier {
                menu.steps(&state, &mut steps);
                if is_end(&steps, &state) {
                    report.ends += 1;
                    *report.outcomes.entry(outcome(&state)).or_default() += 1;
                    let judged = judge::judge(&menu, &mut stepper, &state, &closer, calm);
                    if let Err(violation) = judged {
                        report.found = Some(self.tell(violation, &reached, from, None));
                        return report;
                    }
                }
                for &by in &steps {
                    report.transitions += 1;
                    let mut after = state.clone();
                    if let Err(violation) = self.advance(&mut stepper, &mut after, by) {
                        report.found = Some(self.tell(violation, &reached, from, Some(by)));
                        return report;
                    }
                    if !seen.insert(after.digest()) {
                        report.merged += 1;
                        continue;
                    }
                    if report.states >= self.max_states {
                        report.completed = false;
                        continue;
                    }
                    report.states += 1;
                    reached.push(Reached { from, by });
                    next.push(((reached.len() - 1) as u32, after));
                }
            }
            frontier = next;
            if !frontier.is_empty() {
                report.deepest += 1;
            }
            report.widest = report.widest.max(frontier.len());
            progress(&report);
        }
        report
    }

    /// A step, and those that have to follow because nothing else can happen.
    fn advance(&self, stepper: &mut Stepper, state: &mut State, step: Step) -> Went {
        let menu = self.menu();
        let mut steps = vec![step];
        while let [step] = steps[..] {
            stepper.step(state, step)?;
            menu.steps(state, &mut steps);
        }
        Ok(())
    }

    /// Walks the way once more, and writes it down.
    fn tell(
        &self,
        violation: crate::check::Violation,
        reached: &[Reached],
        at: u32,
        last: Option<Step>,
    ) -> Counterexample {
        let mut way: Vec<Step> = last.into_iter().collect();
        let mut at = at;
        while let Some(Reached { from, by }) = reached.get(at as usize) {
            if *from == ROOT {
                break;
            }
            way.push(*by);
            at = *from;
        }
        way.reverse();
        let mut stepper = self.stepper();
        let mut told: Vec<Vec<String>> = Vec::new();
        let walk = |stepper: &mut Stepper, told: &mut Vec<Vec<String>>| -> Went {
            let (mut state, closer) = self.root(stepper)?;
            for step in &way {
                stepper.log = Some(Vec::new());
                let went = self.advance(stepper, &mut state, *step);
                told.push(stepper.log.take().unwrap_or_default());
                went?;
            }
            stepper.log = Some(vec!["everything is over; much later somebody reads".to_owned()]);
            let calm = self.fault == Fault::None;
            let judged = judge::judge(&self.menu(), stepper, &state, &closer, calm);
            told.push(stepper.log.take().unwrap_or_default());
            judged
        };
        // It ends as before.
        let _ = walk(&mut stepper, &mut told);
        Counterexample { violation, steps: told, depth: way.len() }
    }
}

/// Nothing can happen any more, but for what may always: requests that are late.
fn is_end(steps: &[Step], state: &State) -> bool {
    let stray = |step: &Step| match step {
        Step::Arrive(at) => !state.flights[usize::from(*at)].is_heard(),
        Step::Begin(..) | Step::Deliver(_) | Step::Alarm(_) | Step::Pass | Step::Strike(_) => false,
    };
    steps.iter().all(stray)
}

/// How everybody ended.
fn outcome(state: &State) -> String {
    let told: Vec<String> = state.clients().map(|(_, client)| client.outcome()).collect();
    told.join(", ")
}
