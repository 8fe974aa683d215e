//! What a transaction asks for, and what it makes of the answers (`transactions.md` §13, §14).

use std::sync::Arc;
use std::time::Duration;

use super::{AssertionLevel, LockCall, LockOptions, Transaction, TxnMode, TxnOptions};
use crate::operation::{Key, LockState, MutationOp};
use crate::{
    Assertion, Error, ErrorKind, Found, Instant, LockKey, LockPlan, LockReply, LockedKey,
    PessimisticRollbackPlan, Timestamp,
};

const START: u64 = 100;

fn ts(n: u64) -> Timestamp {
    Timestamp::from_version(n).unwrap()
}

fn at(secs: u64) -> Instant {
    Instant::from_nanos(secs * 1_000_000_000)
}

/// A transaction, the time, and the latest timestamp that was handed out.
struct Told {
    txn: Transaction,
    now: Instant,
    stamp: u64,
    options: LockOptions,
}

fn begin(mode: TxnMode) -> Told {
    let options = Arc::new(TxnOptions::default());
    let txn = Transaction::new(ts(START), mode, options, Default::default());
    Told { txn, now: at(0), stamp: START, options: LockOptions::default() }
}

fn pessimistic() -> Told {
    begin(TxnMode::Pessimistic)
}

fn names(keys: impl IntoIterator<Item = Key>) -> String {
    let one = |key: Key| String::from_utf8(key.to_vec()).unwrap();
    keys.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

impl Told {
    fn call(&mut self, keys: &str) -> Result<LockCall, Error> {
        self.stamp += 10;
        let key = |word: &str| match word.strip_prefix('!') {
            Some(word) => LockKey::new(word.to_owned()).presume_not_exists(),
            None => LockKey::new(word.to_owned()),
        };
        let keys = keys.split_whitespace().map(key).collect();
        self.txn.lock_call(keys, ts(self.stamp), &self.options, Duration::ZERO, self.now)
    }

    /// The plan of a call that has to ask.
    #[track_caller]
    fn asks(&mut self, keys: &str) -> LockPlan {
        match self.call(keys).unwrap() {
            LockCall::Ask(plan) => *plan,
            LockCall::Held(keys) => panic!("held: {keys:?}"),
        }
    }

    /// A call that does not ask.
    #[track_caller]
    fn holds(&mut self, keys: &str) -> Vec<LockedKey> {
        match self.call(keys).unwrap() {
            LockCall::Held(keys) => keys,
            LockCall::Ask(plan) => panic!("asks: {plan:?}"),
        }
    }

    /// Asks, and is told this of every key.
    #[track_caller]
    fn locks_finding(&mut self, keys: &str, found: &Found) -> LockPlan {
        let plan = self.asks(keys);
        self.txn.locked(reply(&plan, found, None)).unwrap();
        plan
    }

    #[track_caller]
    fn locks(&mut self, keys: &str) -> LockPlan {
        self.locks_finding(keys, &Found::NotAsked)
    }

    /// Asks for one key, and is told that it was locked in spite of a newer version.
    #[track_caller]
    fn locks_with_conflict(&mut self, key: &str, conflict: u64) -> LockPlan {
        let plan = self.asks(key);
        assert!(plan.force);
        let found = Found::Value("newer".into());
        self.txn.locked(reply(&plan, &found, Some(ts(conflict)))).unwrap();
        plan
    }

    /// What is to be released, and whether the heartbeat ends: `"a b until 110 end"`.
    fn releases(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.txn.take_release()).map(|plan| told(&plan)).collect()
    }

    fn primary(&self) -> Option<String> {
        self.txn.primary().map(|key| names([key.clone()]))
    }

    /// How each key is held at commit.
    fn commits(&mut self) -> Vec<(String, LockState)> {
        let plan = self.txn.commit_plan(Duration::ZERO).unwrap().expect("something to commit");
        plan.mutations.into_iter().map(|m| (names([m.key]), m.locked)).collect()
    }
}

fn told(plan: &PessimisticRollbackPlan) -> String {
    assert_eq!(plan.start_ts, ts(START));
    let end = if plan.stop_heartbeat { " end" } else { "" };
    format!("{} until {}{end}", names(plan.keys.clone()), plan.for_update_ts.version())
}

fn reply(plan: &LockPlan, found: &Found, conflict_ts: Option<Timestamp>) -> LockReply {
    let one = |key: &LockKey| LockedKey {
        key: key.key.clone(),
        locked: !plan.lock_only_if_exists || *found != Found::Missing,
        already: key.held,
        found: found.clone(),
        conflict_ts,
    };
    LockReply { keys: plan.keys.iter().map(one).collect() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("refused");
    assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
    error.message().to_owned()
}

/// peers.md D10: what is held is not locked again, whatever comes next; what was found stays true.
#[test]
fn d10_keys_that_are_held_are_not_locked_again() {
    let mut told = pessimistic();
    told.options.check_existence = true;
    let plan = told.locks_finding("b", &Found::Exists);
    assert!(plan.is_first_lock && plan.new_primary);
    let held = told.holds("b");
    assert_eq!((held[0].already, &held[0].found), (true, &Found::Exists));
    let plan = told.locks_finding("c b a", &Found::Missing);
    assert_eq!(names(plan.keys.iter().map(|key| key.key.clone())), "a c");
    assert!(!plan.is_first_lock && !plan.new_primary && !plan.force);
    assert_eq!(plan.primary, "b");
    assert!(told.txn.holds(b"a") && !told.txn.holds(b"d"));
    assert_eq!(told.txn.locked_keys(), 3);
}

/// cases.md PES-03; §13.2, 6.
#[test]
fn pes_03_keys_are_sorted_and_taken_once() {
    let mut told = pessimistic();
    let plan = told.locks("b a b !a a");
    let keys: Vec<_> = plan.keys.iter().map(|key| (&key.key[..], key.presume_not_exists)).collect();
    assert_eq!(keys, [(&b"a"[..], true), (b"b", false)]);
    assert_eq!(plan.primary, "a");
}

/// An optimistic transaction locks nothing before it commits, and then with its prewrite (§13.2).
#[test]
fn an_optimistic_transaction_only_remembers_the_keys() {
    let mut told = begin(TxnMode::Optimistic);
    told.holds("b a");
    assert!(told.txn.rollback_plan().unwrap().is_none());
    let mut told = begin(TxnMode::Optimistic);
    told.holds("b a");
    let plan = told.txn.commit_plan(Duration::ZERO).unwrap().unwrap();
    assert_eq!(plan.pessimistic, None);
    let ops = plan.mutations.iter().map(|m| (m.op.clone(), m.locked)).collect::<Vec<_>>();
    assert_eq!(ops, vec![(MutationOp::Lock, LockState::Not); 2]);
}

/// cases.md PES-02; §13.2, 8: a first lock that failed leaves no primary; peers.md D9: a later one
/// leaves what there was.
#[test]
fn pes_02_d9_a_failed_call_takes_nothing_with_it() {
    let mut told = pessimistic();
    assert!(told.asks("!a").new_primary);
    told.txn.lock_failed().unwrap();
    assert_eq!((told.primary(), told.txn.locked_keys()), (None, 0));
    let plan = told.locks("b");
    assert!(plan.new_primary && plan.is_first_lock);
    told.asks("a c");
    told.txn.lock_failed().unwrap();
    assert_eq!((told.primary().as_deref(), told.txn.locked_keys()), (Some("b"), 1));
    assert_eq!(told.releases(), Vec::<String>::new(), "the call itself releases");
    assert_eq!(told.commits(), [("b".into(), LockState::Held)]);
}

/// A call whose owner was gone when it was over: nobody else releases what it has taken, and the heartbeat
/// of a new primary goes with it. What was held before stays.
#[test]
fn what_a_call_has_taken_unheard_is_released() {
    let mut told = pessimistic();
    let plan = told.asks("a b");
    let mut unheard = reply(&plan, &Found::NotAsked, None);
    unheard.keys[1].locked = false;
    told.txn.lock_unheard(Some(&unheard)).unwrap();
    assert_eq!((told.primary(), told.txn.locked_keys()), (None, 0));
    let stamp = told.stamp;
    assert_eq!(told.releases(), [format!("a until {stamp} end")]);
    told.stamp += 1;
    told.locks("a");
    // Nothing is known of how it ended: all of it may be there. The primary's heartbeat goes on.
    told.asks("a c d");
    told.txn.lock_unheard(None).unwrap();
    assert_eq!((told.primary().as_deref(), told.txn.locked_keys()), (Some("a"), 1));
    let stamp = told.stamp;
    assert_eq!(told.releases(), [format!("c d until {stamp}")]);
    // A lock in spite of a conflict is as of the conflict.
    told.stamp += 1;
    told.txn.fair_start(at(0)).unwrap();
    let plan = told.asks("e");
    let conflict = Some(ts(told.stamp + 100));
    told.txn.lock_unheard(Some(&reply(&plan, &Found::Exists, conflict))).unwrap();
    let stamp = told.stamp + 100;
    assert_eq!(told.releases(), [format!("e until {stamp}")]);
    refused(told.txn.lock_unheard(None));
}

/// §13.2, 3: a held key that is presumed absent.
#[test]
fn a_held_key_that_has_a_value_is_not_inserted() {
    let exists = |error: Error| matches!(error.kind(), ErrorKind::KeyExists { key } if key == "a");
    let mut told = pessimistic();
    told.options.check_existence = true;
    told.locks_finding("a", &Found::Exists);
    assert!(exists(told.call("!a").unwrap_err()));
    // Unless the transaction itself has removed it.
    told.txn.buffer_mut().delete("a").unwrap();
    told.holds("!a");

    let mut told = pessimistic();
    told.options.check_existence = true;
    told.locks_finding("a", &Found::Missing);
    told.holds("!a");

    // Where nobody has asked, the store is asked again, and the lock stays in any case.
    let mut told = pessimistic();
    told.locks("a");
    let plan = told.asks("!a b");
    assert!(plan.check_existence && plan.keys[0].held && !plan.keys[1].held);
    let error = told.txn.locked(reply(&plan, &Found::Exists, None)).unwrap_err();
    assert!(exists(error));
    assert_eq!(told.txn.locked_keys(), 2);
    assert!(exists(told.call("!a").unwrap_err()), "it is known now");

    // A lock that was granted to a key presumed absent is the proof.
    let mut told = pessimistic();
    told.locks("!a");
    told.holds("!a");
}

/// cases.md PES-07; §13.2, 5 and 9.
#[test]
fn pes_07_what_does_not_exist_is_not_counted() {
    let mut told = pessimistic();
    told.options = LockOptions { lock_only_if_exists: true, ..told.options };
    assert!(refused(told.call("a")).contains("values"));
    told.options.return_values = true;
    assert!(refused(told.call("a b")).contains("primary"));
    told.locks_finding("a", &Found::Missing);
    assert_eq!((told.primary(), told.txn.locked_keys()), (None, 0));
    let plan = told.locks_finding("b", &Found::Value("v".into()));
    assert!(plan.new_primary && plan.is_first_lock);
    told.locks_finding("a c", &Found::Missing);
    assert_eq!((told.primary().as_deref(), told.txn.locked_keys()), (Some("b"), 1));
    assert!(told.txn.commit_plan(Duration::ZERO).unwrap().unwrap().mutations.len() == 1);
}

/// The rules of the module for `for_update_ts`.
#[test]
fn for_update_ts_only_grows_and_is_fresh_after_a_release() {
    let mut told = pessimistic();
    told.stamp = START - 20;
    refused(told.call("a"));
    told.stamp = 200;
    told.locks("a");
    told.stamp = 150;
    told.locks("b");
    assert_eq!(told.txn.for_update_ts(), Some(ts(210)));
    told.stamp = 300;
    told.asks("c");
    told.txn.lock_failed().unwrap();
    told.stamp = 300;
    refused(told.call("c"));
    told.stamp = 301;
    told.locks("c");
    let plan = told.txn.commit_plan(Duration::ZERO).unwrap().unwrap();
    assert_eq!(plan.pessimistic.unwrap().for_update_ts, ts(311));
}

/// One call at a time; nothing after the end.
#[test]
fn calls_in_the_wrong_state_are_refused() {
    let mut told = pessimistic();
    refused(told.txn.lock_failed());
    refused(told.txn.locked(LockReply { keys: Vec::new() }));
    let plan = told.asks("a");
    refused(told.call("b"));
    refused(told.txn.fair_start(at(0)));
    refused(told.txn.commit_plan(Duration::ZERO));
    refused(told.txn.locked(LockReply { keys: Vec::new() }));
    told.txn.locked(reply(&plan, &Found::NotAsked, None)).unwrap();
    assert_eq!(self::told(&told.txn.rollback_plan().unwrap().unwrap()), "a until 110 end");
    refused(told.call("b"));
    refused(told.txn.commit_plan(Duration::ZERO));
    refused(told.txn.rollback_plan());
}

/// parity T26; §3: a rollback gives back what is held, and stops a call that is under way.
#[test]
fn a_rollback_gives_back_what_is_held() {
    let mut told = pessimistic();
    told.txn.buffer_mut().put("z", "1").unwrap();
    assert!(told.txn.rollback_plan().unwrap().is_none(), "nothing was ever locked");
    let mut told = pessimistic();
    told.locks("b a");
    told.txn.buffer_mut().put("a", "1").unwrap();
    told.asks("c");
    let plan = told.txn.rollback_plan().unwrap().unwrap();
    assert_eq!(self::told(&plan), "a b until 120 end");
}

/// cases.md PES-01: a pessimistic transaction is one at its prewrite, whether it holds a lock or not;
/// §5: what is held but not written is prewritten as a lock (§22.33).
#[test]
fn pes_01_a_pessimistic_commit_says_so() {
    let mut told = pessimistic();
    told.txn.buffer_mut().put("z", "1").unwrap();
    let plan = told.txn.commit_plan(Duration::ZERO).unwrap().unwrap();
    let pessimistic_plan = plan.pessimistic.unwrap();
    assert_eq!(
        (&pessimistic_plan.primary[..], pessimistic_plan.for_update_ts),
        (&b"z"[..], ts(START))
    );
    let mut told = pessimistic();
    told.locks("m");
    told.locks("a");
    told.txn.buffer_mut().put("a", "1").unwrap();
    let plan = told.txn.commit_plan(Duration::ZERO).unwrap().unwrap();
    assert_eq!(plan.pessimistic.unwrap().primary, "m", "the first that was locked");
    let ops: Vec<_> = plan.mutations.iter().map(|m| m.op.clone()).collect();
    assert_eq!(ops, [MutationOp::Put("1".into()), MutationOp::Lock]);
    let mut told = pessimistic();
    assert_eq!(told.txn.commit_plan(Duration::ZERO), Ok(None));
}

/// §5: an assertion that a lock has refuted is stashed.
#[test]
fn an_assertion_that_a_lock_contradicts_goes_with_the_commit() {
    let mut told = pessimistic();
    let options = TxnOptions { assertion_level: AssertionLevel::Strict, ..TxnOptions::default() };
    told.txn.set_options(Arc::new(options));
    told.options.check_existence = true;
    told.locks_finding("a", &Found::Missing);
    told.txn.buffer_mut().put("a", "1").unwrap();
    told.txn.buffer_mut().assert("a", Assertion::Exist).unwrap();
    let plan = told.txn.commit_plan(Duration::ZERO).unwrap().unwrap();
    assert_eq!(plan.stashed_assertion.unwrap().key, "a");
}

// ---- fair locking ------------------------------------------------------------------------------

/// cases.md PES-10: locks from before stay; those of an attempt live until the attempt after the next
/// or the end, unless taken over; done keeps the last ones.
#[test]
fn pes_10_the_life_of_attempts() {
    let mut told = pessimistic();
    told.locks("k1 k2");
    told.txn.fair_start(at(0)).unwrap();
    assert!(told.locks("k3").force);
    assert!(told.locks("k4").force);
    assert_eq!(told.txn.locked_keys(), 4);
    told.txn.fair_retry(at(1)).unwrap();
    assert_eq!(told.releases(), Vec::<String>::new());
    told.holds("k3");
    told.locks("k5");
    told.txn.fair_retry(at(2)).unwrap();
    assert_eq!(told.releases(), ["k4 until 150"]);
    told.holds("k5");
    told.txn.fair_done().unwrap();
    assert_eq!(told.releases(), ["k3 until 160"]);
    assert!(!told.txn.is_fair());
    let held = |key: &str, state| (key.to_owned(), state);
    assert_eq!(
        told.commits(),
        [
            held("k1", LockState::Held),
            held("k2", LockState::Held),
            // §22.27: as of when it was really locked.
            held("k5", LockState::HeldAt(ts(150))),
        ]
    );
}

/// cases.md PES-10, PES-18: cancel releases everything of both attempts, and the primary with them.
#[test]
fn pes_10_pes_18_cancel_releases_everything() {
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    assert!(told.locks("a").new_primary);
    told.locks("b");
    told.txn.fair_retry(at(1)).unwrap();
    assert_eq!(told.primary(), None);
    told.holds("a");
    assert_eq!(told.primary().as_deref(), Some("a"));
    told.txn.fair_cancel().unwrap();
    assert_eq!((told.primary(), told.txn.locked_keys()), (None, 0));
    assert_eq!(told.releases(), ["a b until 130 end"]);
    assert_eq!(told.txn.rollback_plan(), Ok(None));
}

/// cases.md PES-18: done right after a retry keeps nothing, and the primary goes, too.
#[test]
fn pes_18_done_without_a_lock_in_the_last_attempt() {
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.txn.fair_retry(at(1)).unwrap();
    told.txn.fair_done().unwrap();
    assert_eq!(told.releases(), ["a until 110 end"]);
    assert_eq!((told.primary(), told.txn.locked_keys()), (None, 0));
    assert!(told.locks("b").new_primary);
}

/// cases.md PES-18: two attempts without the primary of the first end its heartbeat.
#[test]
fn pes_18_an_attempt_without_a_lock_ends_the_heartbeat() {
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.txn.fair_retry(at(1)).unwrap();
    told.txn.fair_retry(at(2)).unwrap();
    assert_eq!(told.releases(), ["a until 110 end"]);
    told.txn.fair_cancel().unwrap();
    assert_eq!(told.releases(), Vec::<String>::new());
}

/// cases.md PES-13: the primary is what this attempt locks first; locks that name another primary are
/// taken again, so that they name this one.
#[test]
fn pes_13_the_primary_may_change_with_the_attempt() {
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.locks("b");
    told.locks("c");
    told.txn.fair_retry(at(1)).unwrap();
    // `b` is held, but names `a`.
    let plan = told.locks("b");
    assert!(plan.new_primary && plan.primary == "b" && plan.force);
    let plan = told.locks("c");
    assert!(!plan.new_primary && plan.primary == "b");
    told.txn.fair_retry(at(2)).unwrap();
    assert_eq!(told.releases(), ["a until 150"], "b and c were taken over");
    told.holds("b");
    told.holds("c");
    told.txn.fair_done().unwrap();
    assert_eq!(told.releases(), Vec::<String>::new());
    assert_eq!(told.primary().as_deref(), Some("b"));
    // With a primary from before it never changes.
    let mut told = pessimistic();
    told.locks("p");
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.locks("b");
    told.txn.fair_retry(at(1)).unwrap();
    told.holds("b");
    assert_eq!(told.primary().as_deref(), Some("p"));
    told.txn.fair_cancel().unwrap();
    assert_eq!((told.primary().as_deref(), told.txn.locked_keys()), (Some("p"), 1));
    assert_eq!(told.releases(), ["b a until 140"]);
}

/// cases.md PES-14: what is wanted may change from attempt to attempt.
#[test]
fn pes_14_more_may_be_wanted_than_was_told() {
    for conflict in [false, true] {
        let mut told = pessimistic();
        told.txn.fair_start(at(0)).unwrap();
        if conflict {
            told.locks_with_conflict("a", 115);
        } else {
            told.locks("a");
        }
        told.txn.fair_retry(at(1)).unwrap();
        told.options.check_existence = true;
        if conflict {
            // Everything was told with the conflict, and it is none any more.
            let held = told.holds("a");
            assert_eq!(held[0].found, Found::Value("newer".into()));
            assert_eq!(held[0].conflict_ts, None);
        } else {
            told.locks_finding("a", &Found::Exists);
        }
        told.txn.fair_retry(at(2)).unwrap();
        told.options.return_values = true;
        told.locks_finding("a", &Found::Value("v".into()));
    }
}

/// cases.md PES-15: several keys at once are locked as ever, after the statement's locks are kept.
#[test]
fn pes_15_a_call_for_several_keys_ends_fair_locking() {
    let mut told = pessimistic();
    told.locks("p");
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.locks("b");
    told.txn.fair_retry(at(1)).unwrap();
    told.locks("c");
    let plan = told.asks("b d");
    assert!(!plan.force && !told.txn.is_fair());
    // `b` is locked again: it is not to be released behind the back of that.
    assert_eq!(names(plan.keys.iter().map(|key| key.key.clone())), "b d");
    assert_eq!(told.releases(), ["a until 140"]);
    told.txn.locked(reply(&plan, &Found::NotAsked, None)).unwrap();
    assert!(!told.locks("e").force);
    assert_eq!(told.txn.locked_keys(), 5);
}

/// §14: conflicts go into the bounds of releases and into the commit.
#[test]
fn a_conflict_is_carried_to_the_end() {
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks_with_conflict("a", 500);
    // The next attempt is as of a time after it.
    told.txn.fair_retry(at(1)).unwrap();
    refused(told.call("a"));
    told.stamp = 500;
    told.holds("a");
    told.locks_with_conflict("b", 600);
    assert_eq!(
        told.txn.held_as_of(),
        ts(600),
        "what is held is not read below what it was locked at"
    );
    told.txn.fair_done().unwrap();
    assert_eq!(told.txn.held_as_of(), ts(600));
    let plan = told.txn.commit_plan(Duration::ZERO).unwrap().unwrap();
    let locked: Vec<_> = plan.mutations.iter().map(|m| m.locked).collect();
    assert_eq!(locked, [LockState::HeldAt(ts(500)), LockState::HeldAt(ts(600))]);
    assert_eq!(plan.pessimistic.unwrap().for_update_ts, ts(600));

    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks_with_conflict("a", 500);
    told.txn.fair_cancel().unwrap();
    assert_eq!(told.releases(), ["a until 500 end"], "§22.28");
}

/// A key that was locked by fair locking and is asked about again is locked anew, and the prewrite has
/// to look for that lock.
#[test]
fn the_commit_looks_for_the_latest_lock_of_a_key() {
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.txn.fair_done().unwrap();
    let plan = told.locks_finding("!a", &Found::Missing);
    assert!(plan.keys[0].held && !plan.force);
    assert_eq!(told.commits(), [("a".into(), LockState::HeldAt(ts(120)))]);
}

/// §22.26: what is too old to be there in any case is asked for again.
#[test]
fn a_lock_is_taken_over_within_twenty_seconds_only() {
    for (now, asks) in [(19, false), (20, true)] {
        let mut told = pessimistic();
        told.locks("p");
        told.txn.fair_start(at(0)).unwrap();
        told.locks("a");
        told.txn.fair_retry(at(5)).unwrap();
        told.now = at(now);
        assert_eq!(matches!(told.call("a").unwrap(), LockCall::Ask(_)), asks, "{now}");
    }
}

/// A call that was to give an attempt its primary and failed has ended the heartbeat: what the attempt
/// before holds is not relied on any more, but released all the same.
#[test]
fn after_a_failed_primary_nothing_is_taken_over() {
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.txn.fair_retry(at(1)).unwrap();
    assert!(told.asks("b").new_primary);
    told.txn.lock_failed().unwrap();
    let plan = told.locks("a");
    assert!(plan.new_primary && plan.primary == "a");
    told.txn.fair_done().unwrap();
    assert_eq!(told.releases(), Vec::<String>::new());
    // A key of the last attempt whose call fails: that may have released it, or not.
    let mut told = pessimistic();
    told.locks("p");
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    told.txn.fair_retry(at(30)).unwrap();
    told.now = at(30);
    told.asks("a");
    told.txn.lock_failed().unwrap();
    told.txn.fair_done().unwrap();
    assert_eq!(told.releases(), ["a until 130"]);
}

/// §14: «Commit/Rollback with a non-empty current is refused»; an attempt that holds nothing is
/// cancelled.
#[test]
fn a_transaction_does_not_end_while_fair_locking_holds_keys() {
    let mut told = pessimistic();
    told.locks("p");
    told.txn.fair_start(at(0)).unwrap();
    told.locks("a");
    refused(told.txn.commit_plan(Duration::ZERO));
    refused(told.txn.rollback_plan());
    told.txn.fair_retry(at(1)).unwrap();
    assert_eq!(told.commits(), [("p".into(), LockState::Held)]);
    assert_eq!(told.releases(), ["a until 120"]);

    let mut told = pessimistic();
    refused(told.txn.fair_retry(at(0)));
    refused(told.txn.fair_done());
    refused(told.txn.fair_cancel());
    told.txn.fair_start(at(0)).unwrap();
    refused(told.txn.fair_start(at(0)));
    refused(begin(TxnMode::Optimistic).txn.fair_start(at(0)));
}

/// cases.md PES-11: a key that is presumed absent, in attempts.
#[test]
fn pes_11_inserts_in_attempts() {
    let exists = |result: Result<LockCall, Error>| {
        matches!(result.unwrap_err().kind(), ErrorKind::KeyExists { .. })
    };
    let mut told = pessimistic();
    told.txn.fair_start(at(0)).unwrap();
    told.locks_with_conflict("a", 115);
    assert!(exists(told.call("!a")), "held in this attempt");
    told.txn.fair_retry(at(1)).unwrap();
    assert!(exists(told.call("!a")), "held in the last");
    told.txn.fair_cancel().unwrap();
    assert_eq!(told.releases(), ["a until 115 end"]);
}

/// cases.md PES-12: where only what exists is locked, nothing is recorded of what does not.
#[test]
fn pes_12_nothing_is_recorded_of_what_does_not_exist() {
    let mut told = pessimistic();
    told.options = LockOptions { return_values: true, lock_only_if_exists: true, ..told.options };
    told.txn.fair_start(at(0)).unwrap();
    told.locks_finding("a", &Found::Missing);
    assert_eq!((told.primary(), told.txn.locked_keys()), (None, 0));
    told.locks_finding("b", &Found::Value("v".into()));
    assert_eq!((told.primary().as_deref(), told.txn.locked_keys()), (Some("b"), 1));
}
