use super::*;
use crate::check::linear::{Limits, Report, check};
use crate::history::{RegisterAnswer, RegisterCall, RegisterOp};

fn op(
    history: &mut History,
    (began, ended): (u64, u64),
    call: RegisterCall,
    answer: RegisterAnswer,
) {
    let op = RegisterOp { key: bytes("k"), call, answer, may_repeat: false };
    let process = history.entries.len() as u32;
    let id = history.begin(process, ms(began), Instant::NEVER, What::Register(op));
    history.end(id, ms(ended));
}

fn put(history: &mut History, at: (u64, u64), text: &'static str, answer: RegisterAnswer) {
    op(history, at, RegisterCall::Put(bytes(text)), answer);
}

fn get(history: &mut History, at: (u64, u64), text: &'static str) {
    op(history, at, RegisterCall::Get, RegisterAnswer::Value(value(text)));
}

fn swap(
    history: &mut History,
    at: (u64, u64),
    (expected, new): (&'static str, &'static str),
    swapped: bool,
    previous: Option<&'static str>,
) {
    let call = RegisterCall::CompareAndSwap { expected: value(expected), new: value(new) };
    let answer = RegisterAnswer::Swapped { swapped, previous: previous.map(value) };
    op(history, at, call, answer);
}

fn report(history: &History) -> Report {
    check(history, Limits::default())
}

fn linear(history: &History) -> Vec<Anomaly> {
    let report = report(history);
    assert_eq!(report.undecided, [] as [Bytes; 0]);
    anomalies(&report.violations)
}

const DONE: RegisterAnswer = RegisterAnswer::Done;
const STRANGE: [Anomaly; 1] = [Anomaly::NotLinearizable];

#[test]
fn operations_that_overlap_take_effect_in_any_order() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", DONE);
    put(&mut history, (20, 50), "2", DONE);
    get(&mut history, (21, 30), "1");
    get(&mut history, (31, 40), "2");
    get(&mut history, (60, 70), "2");
    op(&mut history, (80, 90), RegisterCall::Delete, DONE);
    get(&mut history, (91, 92), "-");
    assert_eq!(linear(&history), []);
}

#[test]
fn stale_get() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", DONE);
    put(&mut history, (20, 30), "2", DONE);
    get(&mut history, (40, 50), "1");
    assert_eq!(linear(&history), STRANGE);
    let found = report(&history).violations;
    let story = &found[0].story;
    assert!(story.contains("it holds \"2\", and none of #2 can be next"), "{story}");
}

/// Who has seen the new value is not followed by who sees the old one.
#[test]
fn value_that_comes_back() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", DONE);
    put(&mut history, (20, 90), "2", DONE);
    get(&mut history, (30, 40), "2");
    get(&mut history, (50, 60), "1");
    assert_eq!(linear(&history), STRANGE);
}

#[test]
fn value_from_nowhere() {
    let mut history = History::default();
    get(&mut history, (0, 10), "1");
    assert_eq!(linear(&history), STRANGE);
}

#[test]
fn lost_put() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", DONE);
    get(&mut history, (20, 30), "-");
    assert_eq!(linear(&history), STRANGE);
}

#[test]
fn failed_put_that_is_seen() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", RegisterAnswer::Failed);
    get(&mut history, (20, 30), "-");
    assert_eq!(linear(&history), []);
    get(&mut history, (40, 50), "1");
    assert_eq!(linear(&history), STRANGE);
}

#[test]
fn an_undetermined_put_takes_effect_late_or_never_but_once() {
    for answer in [RegisterAnswer::Undetermined, RegisterAnswer::Pending] {
        let mut history = History::default();
        put(&mut history, (0, 10), "1", answer);
        get(&mut history, (20, 30), "-");
        assert_eq!(linear(&history), []);
        put(&mut history, (40, 50), "2", DONE);
        get(&mut history, (60, 70), "1");
        assert_eq!(linear(&history), []);
        put(&mut history, (80, 90), "3", DONE);
        get(&mut history, (100, 110), "1");
        assert_eq!(linear(&history), STRANGE);
    }
}

#[test]
fn undetermined_operation_that_comes_before_its_call() {
    let mut history = History::default();
    get(&mut history, (0, 10), "1");
    put(&mut history, (20, 30), "1", RegisterAnswer::Undetermined);
    assert_eq!(linear(&history), STRANGE);
}

#[test]
fn two_swaps_from_the_same_value() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", DONE);
    swap(&mut history, (20, 40), ("1", "2"), true, None);
    swap(&mut history, (21, 41), ("1", "3"), true, None);
    assert_eq!(linear(&history), STRANGE);
}

#[test]
fn swaps_tell_what_was_there() {
    for (second, third, found) in [
        ((false, Some("2")), "2", &[][..]),
        ((false, Some("1")), "2", &STRANGE),
        ((false, Some("2")), "3", &STRANGE),
        ((true, Some("2")), "3", &STRANGE),
    ] {
        let mut history = History::default();
        swap(&mut history, (0, 10), ("-", "1"), true, Some("-"));
        swap(&mut history, (20, 30), ("1", "2"), true, Some("1"));
        swap(&mut history, (40, 50), ("1", "3"), second.0, second.1);
        get(&mut history, (60, 70), third);
        assert_eq!(linear(&history), found, "{second:?} {third}");
    }
}

#[test]
fn an_undetermined_swap_may_have_swapped() {
    let mut history = History::default();
    let call = RegisterCall::CompareAndSwap { expected: None, new: value("1") };
    op(&mut history, (0, 10), call, RegisterAnswer::Undetermined);
    get(&mut history, (20, 30), "-");
    get(&mut history, (40, 50), "1");
    assert_eq!(linear(&history), []);
    put(&mut history, (60, 70), "2", DONE);
    get(&mut history, (80, 90), "1");
    assert_eq!(linear(&history), STRANGE);
}

/// raw.md §5: an attempt that was given up arrives after the operation was answered.
#[test]
fn put_that_is_executed_again() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", DONE);
    put(&mut history, (20, 30), "2", DONE);
    get(&mut history, (40, 50), "2");
    get(&mut history, (60, 70), "1");
    assert_eq!(linear(&history), STRANGE);
    let What::Register(op) = &mut history.entries[0].what else { panic!("a register") };
    op.may_repeat = true;
    assert_eq!(linear(&history), []);
}

/// The same of one that was never answered: each of its attempts may have been executed.
#[test]
fn put_in_doubt_that_is_executed_again() {
    let mut history = History::default();
    put(&mut history, (0, 100), "1", RegisterAnswer::Undetermined);
    swap(&mut history, (20, 30), ("1", "2"), true, Some("1"));
    swap(&mut history, (40, 50), ("1", "3"), true, Some("1"));
    assert_eq!(linear(&history), STRANGE);
    let What::Register(op) = &mut history.entries[0].what else { panic!("a register") };
    op.may_repeat = true;
    assert_eq!(linear(&history), []);
}

#[test]
fn malformed_answer() {
    let mut history = History::default();
    op(&mut history, (0, 10), RegisterCall::Get, DONE);
    assert_eq!(linear(&history), [Anomaly::Malformed]);
}

#[test]
fn keys_are_apart() {
    let mut history = History::default();
    put(&mut history, (0, 10), "1", DONE);
    get(&mut history, (20, 30), "-");
    let What::Register(op) = &mut history.entries[1].what else { panic!("a register") };
    op.key = bytes("other");
    assert_eq!(linear(&history), []);
    assert_eq!(report(&history).keys, 2);
}

/// Many operations in doubt, and one answer that nothing explains: what is alike or overwritten is
/// not tried in every order.
#[test]
fn operations_in_doubt_do_not_make_the_search_endless() {
    let mut history = History::default();
    for n in 0..40 {
        let text = ["1", "2", "3"][n as usize % 3];
        put(&mut history, (10 * n, 10 * n + 5), text, RegisterAnswer::Undetermined);
        get(&mut history, (10 * n + 6, 10 * n + 8), text);
    }
    assert_eq!(linear(&history), []);
    get(&mut history, (900, 910), "4");
    assert_eq!(linear(&history), STRANGE);
}

/// The later of two that are alike is of use as well, once the earlier is used up; and so is one in
/// doubt before a swap that needs it.
#[test]
fn two_operations_in_doubt_explain_two_values() {
    let mut history = History::default();
    put(&mut history, (0, 5), "1", RegisterAnswer::Undetermined);
    put(&mut history, (1, 6), "1", RegisterAnswer::Undetermined);
    get(&mut history, (10, 11), "1");
    put(&mut history, (20, 21), "2", DONE);
    swap(&mut history, (30, 31), ("1", "3"), true, None);
    get(&mut history, (40, 41), "3");
    assert_eq!(linear(&history), []);
    put(&mut history, (50, 51), "2", DONE);
    get(&mut history, (60, 61), "1");
    assert_eq!(linear(&history), STRANGE);
}

/// What is too hard is said to be, and nothing is claimed of it.
#[test]
fn the_search_has_limits() {
    let mut history = History::default();
    (0..30).for_each(|_| put(&mut history, (0, 100), "1", DONE));
    get(&mut history, (200, 300), "2");
    for limits in
        [Limits { operations: 30, ..Limits::default() }, Limits { steps: 20, ..Limits::default() }]
    {
        let report = check(&history, limits);
        assert_eq!((report.violations, report.undecided), (vec![], vec![bytes("k")]));
    }
}

/// Thousands in a row take as many steps.
#[test]
fn a_long_history_is_searched_in_a_line() {
    let mut history = History::default();
    for n in 0..2_000 {
        put(&mut history, (10 * n, 10 * n + 5), if n % 2 == 0 { "0" } else { "1" }, DONE);
        get(&mut history, (10 * n + 6, 10 * n + 8), if n % 2 == 0 { "0" } else { "1" });
    }
    assert_eq!(check(&history, Limits { steps: 20_000, ..Limits::default() }).violations, []);
}

/// Every order there is, for a few operations: what the search must agree with.
fn explained(ops: &[(u64, Option<u64>, RegisterOp)], held: &Held, open: &[usize]) -> bool {
    if open.iter().all(|at| ops[*at].1.is_none()) {
        return true;
    }
    open.iter().any(|at| {
        let (began, _, op) = &ops[*at];
        let rest: Vec<usize> = open.iter().copied().filter(|other| other != at).collect();
        // Nobody who is still to come had ended before.
        let in_order = rest.iter().all(|other| ops[*other].1.is_none_or(|end| end >= *began));
        let after = match (&op.call, &op.answer) {
            (RegisterCall::Get, RegisterAnswer::Value(value)) => {
                (value == held).then(|| held.clone())
            }
            (RegisterCall::Get, _) => Some(held.clone()),
            (RegisterCall::Put(value), _) => Some(Some(value.clone())),
            (RegisterCall::Delete, _) => Some(None),
            (
                RegisterCall::CompareAndSwap { expected, new },
                RegisterAnswer::Swapped { swapped, .. },
            ) => ((expected == held) == *swapped)
                .then(|| if *swapped { new.clone() } else { held.clone() }),
            (RegisterCall::CompareAndSwap { expected, new }, _) => {
                Some(if expected == held { new.clone() } else { held.clone() })
            }
        };
        in_order && after.is_some_and(|after| explained(ops, &after, &rest))
    })
}

#[test]
fn the_search_agrees_with_trying_everything() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static EXPLAINED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

    fn property(choices: Vec<(u8, u8, u8, u8)>) -> bool {
        let mut history = History::default();
        let mut ops = Vec::new();
        let held = |choice: u8| value(["-", "1", "2"][usize::from(choice % 3)]);
        for (kind, what, when, length) in choices.into_iter().take(6) {
            let (began, ended) = (u64::from(when % 16), u64::from(when % 16 + 1 + length % 8));
            let new = held(what / 3);
            let (call, answer) = match kind % 5 {
                0 | 1 => (RegisterCall::Get, RegisterAnswer::Value(held(what))),
                2 => (new.map_or(RegisterCall::Delete, RegisterCall::Put), DONE),
                3 => (
                    new.map_or(RegisterCall::Delete, RegisterCall::Put),
                    RegisterAnswer::Undetermined,
                ),
                _ => {
                    let swapped = RegisterAnswer::Swapped { swapped: when > 127, previous: None };
                    let answer = if what > 127 { swapped } else { RegisterAnswer::Undetermined };
                    (RegisterCall::CompareAndSwap { expected: held(what), new }, answer)
                }
            };
            op(&mut history, (began, ended), call.clone(), answer.clone());
            let end = (answer != RegisterAnswer::Undetermined).then_some(ended);
            let op = RegisterOp { key: bytes("k"), call, answer, may_repeat: false };
            ops.push((began, end, op));
        }
        let all: Vec<usize> = (0..ops.len()).collect();
        let expected = explained(&ops, &None, &all);
        EXPLAINED[usize::from(expected)].fetch_add(1, Ordering::Relaxed);
        linear(&history).is_empty() == expected
    }
    let property = property as fn(Vec<(u8, u8, u8, u8)>) -> bool;
    quickcheck::QuickCheck::new().tests(5_000).quickcheck(property);
    let [no, yes] = [0, 1].map(|which: usize| EXPLAINED[which].load(Ordering::Relaxed));
    assert!(no > 500 && yes > 500, "{no} {yes}");
}
