//! Whether each key behaves like one register: linearizability, by the search of Wing and Gong as
//! Lowe made it fast («Testing for linearizability», 2017).
//!
//! An operation takes effect at one instant between its call and its return. The search takes, of
//! the operations that nothing still to be placed came before, each in turn as the next; what it has
//! placed and the value that came of it are remembered, and not tried again. Keys are independent,
//! so each is searched alone.
//!
//! | told | placed |
//! |---|---|
//! | an answer | once, between call and return, and the answer is right there |
//! | failed | nowhere |
//! | undetermined, or no answer | anywhere after its call, or nowhere |
//! | an answer, or none, but attempts may still arrive ([`RegisterOp::may_repeat`]) | the same, and up to twice more, anywhere after its call |
//!
//! What need not be placed is what makes the search long, so three things are not tried: such an
//! operation right before one that overwrites whatever it did; the later of two that are alike, where
//! the earlier is still to be had; and to come by more of them to where the search has been with fewer.
//!
//! The search is exponential at worst, so it has a limit; keys that exceed it are told as
//! [`Report::undecided`], which is no violation. Nothing is there before the first operation.

use std::collections::{BTreeMap, HashMap};

use anatase_core::Instant;
use bytes::Bytes;

use super::{Anomaly, Checker, Violation};
use crate::history::{
    Entry, Held, History, Id, RegisterAnswer, RegisterCall, RegisterOp, What, held, text,
};

/// How often an operation may be executed beyond once, if it may be at all. There may be more attempts
/// than that; that all of them are executed, with others' operations between, is not seen in practice.
const REPEATS: usize = 2;

/// How long to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations on one key.
    pub operations: usize,
    /// Steps of the search on one key.
    pub steps: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { operations: 10_000, steps: 1_000_000 }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Keys that no register explains, and answers that belong to no such call.
    pub violations: Vec<Violation>,
    /// Keys that were too hard.
    pub undecided: Vec<Bytes>,
    /// Keys that were looked at.
    pub keys: usize,
}

/// Judges every key that has [`What::Register`] operations.
pub fn check(history: &History, limits: Limits) -> Report {
    let mut report = Report::default();
    let mut keys: BTreeMap<&Bytes, Vec<(&Entry, &RegisterOp)>> = BTreeMap::new();
    for entry in &history.entries {
        if let What::Register(op) = &entry.what {
            keys.entry(&op.key).or_default().push((entry, op));
        }
    }
    report.keys = keys.len();
    for (key, ops) in keys {
        let mut values = Values::default();
        let mut placed = Vec::new();
        for (entry, op) in ops {
            match places(entry, op, &mut values) {
                Some(places) => placed.extend(places),
                None => {
                    let story = "its answer does not belong to its call".to_owned();
                    let violation = Violation::new(Checker::Linear, Anomaly::Malformed, story);
                    report.violations.push(violation.by(history, [entry.id]));
                }
            }
        }
        if placed.len() > limits.operations {
            report.undecided.push(key.clone());
            continue;
        }
        match Search::new(&placed).run(limits.steps) {
            Verdict::Explained => {}
            Verdict::Undecided => report.undecided.push(key.clone()),
            Verdict::Wrong(stuck) => {
                report.violations.push(stuck.story(history, key, &values, &placed));
            }
        }
    }
    report
}

// ---- operations ----------------------------------------------------------------------------------

/// What a register held or is to hold, as a number: states are compared often. 0 is nothing.
type State = usize;

#[derive(Default)]
struct Values(Vec<Bytes>, BTreeMap<Bytes, State>);

impl Values {
    fn number(&mut self, value: &Held) -> State {
        let Some(value) = value else { return 0 };
        *self.1.entry(value.clone()).or_insert_with(|| {
            self.0.push(value.clone());
            self.0.len()
        })
    }

    fn text(&self, state: State) -> String {
        held(state.checked_sub(1).and_then(|at| self.0.get(at)).map(|value| &value[..]))
    }
}

/// An operation that can be placed.
struct Op {
    id: Id,
    began: Instant,
    /// `None`: it need not be placed, and if it is, then at any time.
    ended: Option<Instant>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Get(State),
    Put(State),
    Swap {
        expected: State,
        new: State,
        swapped: bool,
        previous: Option<State>,
    },
    /// One of which no answer is known.
    MaySwap {
        expected: State,
        new: State,
    },
}

impl Kind {
    /// What is held after it, if it can come now.
    fn apply(self, state: State) -> Option<State> {
        match self {
            Self::Get(value) => (value == state).then_some(state),
            Self::Put(value) => Some(value),
            Self::Swap { expected, new, swapped, previous } => {
                let right = (state == expected) == swapped && previous.is_none_or(|it| it == state);
                right.then_some(if swapped { new } else { state })
            }
            Self::MaySwap { expected, new } => (state == expected).then_some(new),
        }
    }
}

/// What an operation is placed as; `None` if its answer makes no sense.
fn places(entry: &Entry, op: &RegisterOp, values: &mut Values) -> Option<Vec<Op>> {
    let place = |ended, kind| Op { id: entry.id, began: entry.began, ended, kind };
    // It may be executed without being answered so.
    let unanswered = match &op.call {
        RegisterCall::Get => None,
        RegisterCall::Put(value) => Some(Kind::Put(values.number(&Some(value.clone())))),
        RegisterCall::Delete => Some(Kind::Put(0)),
        RegisterCall::CompareAndSwap { expected, new } => {
            Some(Kind::MaySwap { expected: values.number(expected), new: values.number(new) })
        }
    };
    let answered = match (&op.answer, unanswered) {
        (RegisterAnswer::Failed, _) => return Some(Vec::new()),
        (RegisterAnswer::Pending | RegisterAnswer::Undetermined, unanswered) => {
            let copies = if op.may_repeat { 1 + REPEATS } else { 1 };
            let kinds = unanswered.into_iter().flat_map(|kind| std::iter::repeat_n(kind, copies));
            return Some(kinds.map(|kind| place(None, kind)).collect());
        }
        (RegisterAnswer::Value(value), None) => Kind::Get(values.number(value)),
        (RegisterAnswer::Done, Some(Kind::Put(value))) => Kind::Put(value),
        (RegisterAnswer::Swapped { swapped, previous }, Some(Kind::MaySwap { expected, new })) => {
            let previous = previous.as_ref().map(|value| values.number(value));
            Kind::Swap { expected, new, swapped: *swapped, previous }
        }
        (
            RegisterAnswer::Value(_) | RegisterAnswer::Done | RegisterAnswer::Swapped { .. },
            None | Some(Kind::Get(_) | Kind::Put(_) | Kind::Swap { .. } | Kind::MaySwap { .. }),
        ) => return None,
    };
    // One that was answered ended; if nobody wrote down when, any time will do.
    let mut places = vec![place(Some(entry.ended.unwrap_or(Instant::NEVER)), answered)];
    if op.may_repeat {
        let kinds = unanswered.into_iter().flat_map(|kind| std::iter::repeat_n(kind, REPEATS));
        places.extend(kinds.map(|kind| place(None, kind)));
    }
    Some(places)
}

// ---- the search ----------------------------------------------------------------------------------

enum Verdict {
    Explained,
    Undecided,
    Wrong(Stuck),
}

/// The farthest that the search came.
#[derive(Default)]
struct Stuck {
    placed: Vec<usize>,
    state: State,
    /// What would have to come next.
    next: Vec<usize>,
}

/// A set of operations.
type Bits = Vec<u64>;

/// Where the search has been: what had to be placed and was, what was held, whether an operation
/// came last that need not have been placed; and the smallest sets of such operations, by which it
/// was reached.
type Tried = HashMap<(Bits, State, bool), Vec<Bits>>;

/// A doubly linked list of calls and returns, in order; what is placed is taken out of it. Places in
/// `links` are 1 + those in `events`; 0 is both ends.
struct Search<'a> {
    ops: &'a [Op],
    /// The operation, and whether this is its return.
    events: Vec<(usize, bool)>,
    links: Vec<(usize, usize)>,
    calls: Vec<usize>,
    returns: Vec<Option<usize>>,
    /// Of what need not be placed: the one before that does the same.
    twins: Vec<Option<usize>>,
    /// What has to be placed and is not.
    left: usize,
    placed: Bits,
    /// Of what need not be placed, what is.
    extra: Bits,
    /// What was placed, and what was held before.
    stack: Vec<(usize, State)>,
    state: State,
}

impl<'a> Search<'a> {
    fn new(ops: &'a [Op]) -> Self {
        // At one instant calls come before returns: who meet there overlap.
        let mut events: Vec<(Instant, bool, usize)> = Vec::new();
        for (at, op) in ops.iter().enumerate() {
            events.push((op.began, false, at));
            events.extend(op.ended.map(|ended| (ended.max(op.began), true, at)));
        }
        events.sort_unstable();
        let count = events.len();
        let mut calls = vec![0; ops.len()];
        let mut returns = vec![None; ops.len()];
        for (place, (_, is_return, op)) in events.iter().enumerate() {
            match is_return {
                true => returns[*op] = Some(place + 1),
                false => calls[*op] = place + 1,
            }
        }
        let mut alike: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut twins = vec![None; ops.len()];
        for (_, is_return, op) in &events {
            if !is_return && ops[*op].ended.is_none() {
                twins[*op] = alike.insert(ops[*op].kind, *op);
            }
        }
        let links =
            (0..=count).map(|at| (at.checked_sub(1).unwrap_or(count), (at + 1) % (count + 1)));
        Self {
            ops,
            events: events.into_iter().map(|(_, is_return, op)| (op, is_return)).collect(),
            links: links.collect(),
            calls,
            left: returns.iter().flatten().count(),
            returns,
            twins,
            placed: vec![0; ops.len().div_ceil(64)],
            extra: vec![0; ops.len().div_ceil(64)],
            stack: Vec::new(),
            state: 0,
        }
    }

    fn run(mut self, steps: usize) -> Verdict {
        let mut tried = Tried::new();
        let mut stuck = Stuck::default();
        let mut farthest = None;
        let mut here = self.links[0].1;
        let mut taken = 0;
        while self.left > 0 {
            taken += 1;
            if taken > steps {
                return Verdict::Undecided;
            }
            let event = here.checked_sub(1).map(|at| self.events[at]);
            if let Some((op, false)) = event {
                here = match self.place(op, &mut tried) {
                    true => self.links[0].1,
                    false => self.links[here].1,
                };
                continue;
            }
            // A return, or the end: something in front of it has to be placed, and cannot be.
            if farthest.is_none_or(|left| self.left < left) {
                farthest = Some(self.left);
                stuck = self.stuck();
            }
            match self.take_back() {
                Some(op) => here = self.links[self.calls[op]].1,
                None => return Verdict::Wrong(stuck),
            }
        }
        Verdict::Explained
    }

    /// Places an operation next, if it can be and leads to where the search has not been.
    fn place(&mut self, op: usize, tried: &mut Tried) -> bool {
        let Op { kind, ended, .. } = self.ops[op];
        let Some(state) = kind.apply(self.state) else { return false };
        let is_extra = ended.is_none();
        let after_extra =
            self.stack.last().is_some_and(|(last, _)| self.ops[*last].ended.is_none());
        if after_extra && matches!(kind, Kind::Put(_)) {
            return false;
        }
        let twin_is_left = || self.twins[op].is_some_and(|twin| !has(&self.extra, twin));
        if is_extra && (state == self.state || twin_is_left()) {
            return false;
        }
        let (mut placed, mut extra) = (self.placed.clone(), self.extra.clone());
        flip(if is_extra { &mut extra } else { &mut placed }, op);
        let reached = tried.entry((placed, state, is_extra)).or_default();
        if reached.iter().any(|fewer| within(fewer, &extra)) {
            return false;
        }
        reached.retain(|more| !within(&extra, more));
        reached.push(extra);
        self.stack.push((op, self.state));
        self.state = state;
        self.flip(op);
        self.unlink(self.calls[op]);
        if let Some(at) = self.returns[op] {
            self.unlink(at);
            self.left -= 1;
        }
        true
    }

    fn take_back(&mut self) -> Option<usize> {
        let (op, before) = self.stack.pop()?;
        self.state = before;
        self.flip(op);
        if let Some(at) = self.returns[op] {
            self.link(at);
            self.left += 1;
        }
        self.link(self.calls[op]);
        Some(op)
    }

    fn flip(&mut self, op: usize) {
        let is_extra = self.ops[op].ended.is_none();
        flip(if is_extra { &mut self.extra } else { &mut self.placed }, op);
    }

    fn unlink(&mut self, at: usize) {
        let (before, after) = self.links[at];
        self.links[before].1 = after;
        self.links[after].0 = before;
    }

    fn link(&mut self, at: usize) {
        let (before, after) = self.links[at];
        self.links[before].1 = at;
        self.links[after].0 = at;
    }

    fn stuck(&self) -> Stuck {
        let mut next = Vec::new();
        let mut here = self.links[0].1;
        while let Some((op, false)) = here.checked_sub(1).map(|at| self.events[at]) {
            next.push(op);
            here = self.links[here].1;
        }
        let placed = self.stack.iter().map(|(op, _)| *op).collect();
        Stuck { placed, state: self.state, next }
    }
}

fn flip(bits: &mut Bits, op: usize) {
    bits[op / 64] ^= 1 << (op % 64);
}

fn has(bits: &Bits, op: usize) -> bool {
    bits[op / 64] & 1 << (op % 64) != 0
}

/// Whether one set is part of another.
fn within(fewer: &Bits, more: &Bits) -> bool {
    fewer.iter().zip(more).all(|(fewer, more)| fewer & !more == 0)
}

impl Stuck {
    fn story(&self, history: &History, key: &Bytes, values: &Values, ops: &[Op]) -> Violation {
        const SHOWN: usize = 6;
        let ids = |places: &[usize]| -> Vec<Id> { places.iter().map(|at| ops[*at].id).collect() };
        let before = ids(&self.placed[self.placed.len().saturating_sub(SHOWN)..]);
        let next = ids(&self.next);
        let told = |ids: &[Id]| -> String {
            let words: Vec<String> = ids.iter().map(|id| format!("#{id}")).collect();
            words.join(" ")
        };
        let story = format!(
            "{}: however it is ordered, at some time nothing fits. At best {} of {} are placed; after \
             the last of them ({}) it holds {}, and none of {} can be next",
            text(key),
            self.placed.len(),
            ops.len(),
            told(&before),
            values.text(self.state),
            told(&next),
        );
        let violation = Violation::new(Checker::Linear, Anomaly::NotLinearizable, story);
        violation.by(history, before).by(history, next)
    }
}
