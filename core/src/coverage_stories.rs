//! Pairs of docs/states.md that take a rare order of events, one after the other.
//!
//! Each test brings a machine into a state, has it meet the input, and looks at what the machine does.
//! `tests/tests/states.rs` names them where its worlds are unlikely to get there.

use std::time::Duration;

use crate::KeyMode::Txn;
use crate::coverage::{Input, State};
use crate::story::Story;

/// An answer after which a call is not tried again.
const FATAL: &str = "too_large";
const THREE: &str = "..k=1 k..q=2 q..=3";

/// A story whose requests are named by their kind.
struct Tale {
    story: Story,
    told: String,
}

impl Tale {
    fn new(lines: &[&str]) -> Self {
        let mut tale = Self { story: Story::new(Txn, THREE), told: String::new() };
        lines.iter().for_each(|line| {
            tale.play(line);
        });
        tale
    }

    fn play(&mut self, line: &str) -> String {
        let told = self.story.play(line);
        self.told.push_str(&format!("$ {line}\n{told}"));
        told
    }

    /// The number of the last request whose line contains `what`.
    #[track_caller]
    fn last(&self, what: &str) -> u32 {
        let asks = self.told.lines().rev().filter_map(|line| line.strip_prefix("> "));
        let number = asks
            .filter(|line| line.contains(what))
            .find_map(|line| line.split_once(' ')?.0.parse().ok());
        number.unwrap_or_else(|| panic!("no {what} in\n{}", self.told))
    }

    /// Answers that request.
    #[track_caller]
    fn answer(&mut self, what: &str, words: &str) -> String {
        let number = self.last(what);
        self.play(&format!("{number} {words}"))
    }

    /// Lets time run until `what` is told.
    #[track_caller]
    fn wait_for(&mut self, what: &str) -> String {
        for _ in 0..500 {
            let told = self.play("wait");
            if told.contains(what) {
                return told;
            }
        }
        panic!("{what} is not told in\n{}", self.told);
    }

    /// PD, asked for a region, names one that does not hold the key.
    #[track_caller]
    fn mislead(&mut self, id: u64) {
        let regions = self.story.regions.clone();
        self.story.regions.retain(|region| region.id != id);
        self.story.pd_lies = true;
        self.answer("PD PdGetRegion", "ok");
        self.story.regions = regions;
        self.story.pd_lies = false;
    }

    /// No question for timestamps is answered, until `what` is told.
    #[track_caller]
    fn refuse_timestamps(&mut self, what: &str) {
        for _ in 0..2_000 {
            match self.told.lines().last() {
                _ if self.told.contains(what) => return,
                Some(line) if line.starts_with("> ") && line.contains("Tso") => {
                    self.answer("Tso", "lost");
                }
                Some(_) | None => {
                    self.play("wait");
                }
            }
        }
        panic!("{what} is not told in\n{}", self.told);
    }

    /// Nobody answers, until there is nothing left to do.
    #[track_caller]
    fn wait_until_idle(&mut self) {
        for _ in 0..500 {
            if self.play("idle") == "~ true\n" {
                return;
            }
            self.play("wait");
        }
        panic!("it does not end:\n{}", self.told);
    }

    #[track_caller]
    fn has_met(&self, state: State, input: Input) {
        let met = self.story.core.coverage();
        assert!(met.count(state, input) > 0, "{state:?} × {input:?}\n{}\n{met:#?}", self.told);
    }

    #[track_caller]
    fn is_idle(&mut self) {
        let told = self.play("idle");
        assert_eq!(told, "~ true\n", "{}", self.told);
    }
}

// ---- commit --------------------------------------------------------------------------------------

/// PD is there and gives no timestamp: the commit is aborted, and what it has locked is undone.
#[test]
fn no_timestamp_for_a_commit_whose_keys_are_locked() {
    let mut tale = Tale::new(&["commit @900.0 a=1", "silence tso", "1 ok"]);
    tale.refuse_timestamps("= aborted");
    tale.has_met(State::CommitStamping, Input::NoTimestamp);
    tale.answer("KvBatchRollback a", "ok");
    tale.is_idle();
}

/// The same before anything is locked.
#[test]
fn no_timestamp_for_a_commit_to_come_after() {
    let mut tale = Tale::new(&["txn async", "silence tso", "commit @900.0 a=1"]);
    tale.refuse_timestamps("= aborted");
    tale.has_met(State::CommitLinearizing, Input::NoTimestamp);
    tale.is_idle();
}

/// The primary is committed where it has moved, once PD knows.
#[test]
fn a_primary_is_committed_when_pd_knows_its_region_again() {
    let mut tale = Tale::new(&["commit @900.0 a=1", "1 ok", "silence pd"]);
    tale.answer("KvCommit a", "region_not_found");
    tale.wait_for("PD PdGetRegion");
    tale.mislead(1);
    tale.has_met(State::CommitCommittingPrimary, Input::NotLocated);
    tale.wait_for("PD PdGetRegion");
    tale.has_met(State::CommitCommittingPrimary, Input::Pause);
    tale.answer("PD PdGetRegion", "ok");
    let told = tale.answer("KvCommit a", "ok");
    assert!(told.contains("= committed"), "{told}");
    tale.is_idle();
}

/// The outcome is told. A region of another key has moved, and PD does not know yet where to.
#[test]
fn a_commit_settles_when_pd_knows_the_region_again() {
    let mut tale = Tale::new(&["commit @900.0 a=1 m=2", "1 ok", "2 ok"]);
    let told = tale.answer("KvCommit a", "ok");
    assert!(told.contains("= committed"), "{told}");
    tale.play("silence pd");
    tale.answer("KvCommit m", "region_not_found");
    tale.wait_for("PD PdGetRegion");
    tale.mislead(2);
    tale.has_met(State::CommitSettling, Input::NotLocated);
    tale.wait_for("PD PdGetRegion");
    tale.has_met(State::CommitSettling, Input::Pause);
    tale.answer("PD PdGetRegion", "ok");
    tale.answer("KvCommit m", "ok");
    tale.is_idle();
}

/// A commit that is dropped before anything is sent gives its pessimistic lock back.
fn releasing() -> Tale {
    let start = ["txn async primary a @950.0", "silence tso", "commit @900.0 ^a=1", "cancel 1"];
    Tale::new(&start)
}

/// The same with pessimistic locks that are given back.
#[test]
fn a_commit_releases_when_pd_knows_the_region_again() {
    let mut tale = releasing();
    tale.play("silence pd");
    tale.answer("KvPessimisticRollback a", "region_not_found");
    tale.wait_for("PD PdGetRegion");
    tale.mislead(1);
    tale.has_met(State::CommitReleasing, Input::NotLocated);
    tale.wait_for("PD PdGetRegion");
    tale.has_met(State::CommitReleasing, Input::Pause);
    tale.answer("PD PdGetRegion", "ok");
    tale.answer("KvPessimisticRollback a", "ok");
    tale.is_idle();
}

/// What cannot be released is left to whoever meets it: where a store refuses …
#[test]
fn a_commit_whose_release_is_refused() {
    let mut tale = releasing();
    tale.answer("KvPessimisticRollback a", FATAL);
    tale.has_met(State::CommitReleasing, Input::Failed);
    tale.is_idle();
}

/// … or answers nothing.
#[test]
fn a_commit_whose_release_is_never_answered() {
    let mut tale = releasing();
    tale.wait_until_idle();
    tale.has_met(State::CommitReleasing, Input::Deadline);
}

/// A commit in one phase is dropped while a lock in its way is looked into. It has left no lock, and gives
/// back those of before; what is found is of no interest.
#[test]
fn locks_looked_into_for_a_commit_that_was_dropped() {
    let mut tale = Tale::new(&["txn 1pc causal primary a @950.0", "commit @900.0 ^a=1 b=2"]);
    tale.answer("KvPrewrite", "locked b primary p of @980.0");
    assert_eq!(tale.play("cancel 1").lines().next(), Some("~ RollingBack"));
    assert_eq!(tale.answer("KvCheckTxnStatus p", "alive 30000"), "");
    tale.has_met(State::CommitReleasing, Input::Late);
    tale.answer("KvPessimisticRollback a", "ok");
    tale.is_idle();
}

// ---- lock ----------------------------------------------------------------------------------------

const DEADLOCK: &str = "deadlock m of @900.0 closed by a";
const LOCK: &str = "lock @1000.0 @1000.5 primary p a m";

/// The error of a deadlock with itself waits for the release; whoever cancels does not hear it, and the
/// release goes on.
#[test]
fn a_cancelled_deadlock_with_itself_drains_and_releases() {
    let mut tale = Tale::new(&[LOCK]);
    tale.answer("KvPessimisticLock m", DEADLOCK);
    assert_eq!(tale.play("cancel 1"), "~ RollingBack\n");
    tale.has_met(State::LockDraining, Input::Cancelled);
    tale.answer("KvPessimisticLock a", "ok");
    tale.answer("KvPessimisticRollback a", "ok");
    tale.answer("KvPessimisticRollback m", "ok");
    assert!(!tale.told.contains("Deadlock"), "{}", tale.told);
    tale.is_idle();
}

/// Its deadline does not wait for what is out: the error is told, and the release follows.
#[test]
fn a_deadlock_with_itself_is_told_at_the_deadline_while_a_request_is_out() {
    let mut tale = Tale::new(&[]);
    tale.story.patience = Duration::from_millis(100);
    tale.play(LOCK);
    tale.answer("KvPessimisticLock m", DEADLOCK);
    let told = tale.wait_for("Deadline");
    assert!(told.contains("= Deadlock"), "{told}");
    tale.has_met(State::LockDraining, Input::Deadline);
    tale.answer("KvPessimisticLock a", "ok");
    tale.answer("KvPessimisticRollback a", "ok");
    tale.answer("KvPessimisticRollback m", "ok");
    tale.is_idle();
}

/// The same, later.
#[test]
fn a_cancelled_deadlock_with_itself_goes_on_releasing() {
    let mut tale = Tale::new(&[LOCK]);
    tale.answer("KvPessimisticLock a", "ok");
    tale.answer("KvPessimisticLock m", DEADLOCK);
    assert_eq!(tale.play("cancel 1"), "~ RollingBack\n");
    tale.has_met(State::LockReleasing, Input::Cancelled);
    tale.answer("KvPessimisticRollback a", "ok");
    tale.answer("KvPessimisticRollback m", "ok");
    tale.is_idle();
}

fn resting(tale: &mut Tale) {
    tale.answer("KvPessimisticLock a", "ok");
    tale.answer("KvPessimisticLock m", DEADLOCK);
    tale.answer("KvPessimisticRollback a", "ok");
    tale.answer("KvPessimisticRollback m", "ok");
    assert!(!tale.told.contains("= Deadlock"), "{}", tale.told);
}

/// Nothing is left to be released.
#[test]
fn a_deadlock_is_cancelled_in_the_moment_before_it_is_told() {
    let mut tale = Tale::new(&[LOCK]);
    resting(&mut tale);
    assert_eq!(tale.play("cancel 1"), "~ Stopped\n");
    tale.has_met(State::LockResting, Input::Cancelled);
    tale.is_idle();
}

/// The deadline cuts the moment short, and the error is the deadlock.
#[test]
fn a_deadlock_is_told_at_the_deadline() {
    let mut tale = Tale::new(&[]);
    tale.story.patience = Duration::from_millis(100);
    tale.play(LOCK);
    tale.play("pass 98");
    resting(&mut tale);
    let told = tale.play("wait");
    assert!(told.contains("Deadline\n= Deadlock"), "{told}");
    tale.has_met(State::LockResting, Input::Deadline);
    tale.is_idle();
}

/// A lock of somebody else is still being looked into when the call is over but for the moment: what is
/// found is of no interest, and the moment lasts.
#[test]
fn locks_looked_into_for_a_call_that_has_failed() {
    let mut tale = Tale::new(&["lock @1000.0 @1000.5 primary p a m q"]);
    tale.answer("KvPessimisticLock q", "locked q primary b of @980.0");
    resting(&mut tale);
    if tale.told.contains("KvPessimisticRollback q") {
        tale.answer("KvPessimisticRollback q", "ok");
    }
    let told = tale.answer("KvCheckTxnStatus b", "alive 30000");
    assert_eq!(told, "", "{}", tale.told);
    tale.has_met(State::LockResting, Input::Late);
    let told = tale.wait_for("= ");
    assert!(told.contains("5ms: Backoff\n= Deadlock"), "{told}");
    tale.has_met(State::LockResting, Input::Pause);
}

/// A pause before asking for another key again ends within the moment, and does not cut it short.
#[test]
fn a_late_pause_is_not_the_moment_before_a_deadlock_is_told() {
    let mut tale = Tale::new(&["lock @1000.0 @1000.5 primary p a m q"]);
    tale.answer("KvPessimisticLock q", "locked q primary b of @980.0 updated 100");
    let pause = tale.story.core.poll_timeout().expect("a pause").at;
    let rest = pause.since(tale.story.now).saturating_sub(Duration::from_millis(2));
    tale.story.pass(rest);
    resting(&mut tale);
    if tale.told.contains("KvPessimisticRollback q") {
        tale.answer("KvPessimisticRollback q", "ok");
    }
    let told = tale.play("wait");
    assert!(told.contains("LockWait") && !told.contains("= "), "{told}");
    tale.has_met(State::LockResting, Input::Late);
    let told = tale.play("wait");
    assert!(told.contains("Backoff\n= Deadlock"), "{told}");
    tale.is_idle();
}

/// The same while another request is out.
#[test]
fn locks_looked_into_for_a_call_that_waits_for_its_requests() {
    let mut tale = Tale::new(&["lock @1000.0 @1000.5 primary p a m q"]);
    tale.answer("KvPessimisticLock q", "locked q primary b of @980.0");
    tale.answer("KvPessimisticLock m", DEADLOCK);
    assert_eq!(tale.answer("KvCheckTxnStatus b", "alive 30000"), "");
    tale.has_met(State::LockDraining, Input::Late);
    let told = tale.answer("KvPessimisticLock a", "ok");
    assert!(told.contains("KvPessimisticRollback a"), "{told}");
}

/// What a call may have locked is released where it has moved, once PD knows.
#[test]
fn a_lock_is_released_when_pd_knows_its_region_again() {
    let mut tale = Tale::new(&["lock @1000.0 @1000.5 primary a new a", "cancel 1", "1 ok"]);
    tale.play("silence pd");
    tale.answer("KvPessimisticRollback a", "region_not_found");
    tale.wait_for("PD PdGetRegion");
    tale.mislead(1);
    tale.has_met(State::LockReleasing, Input::NotLocated);
    tale.wait_for("PD PdGetRegion");
    tale.has_met(State::LockReleasing, Input::Pause);
    tale.answer("PD PdGetRegion", "ok");
    tale.answer("KvPessimisticRollback a", "ok");
    tale.is_idle();
}

/// A release that nobody answers is given up.
#[test]
fn a_release_that_is_never_answered_is_given_up() {
    let mut tale = Tale::new(&["lock @1000.0 @1000.5 primary a new a", "cancel 1", "1 ok"]);
    tale.wait_until_idle();
    tale.has_met(State::LockReleasing, Input::Deadline);
}

/// A lock that names a primary that is none cannot be looked into.
#[test]
fn a_lock_call_that_meets_a_corrupt_lock() {
    let mut tale = Tale::new(&["lock @1000.0 @1000.5 primary a new a"]);
    tale.answer("KvPessimisticLock a", "locked a primary p of @980.0");
    let told = tale.answer("KvCheckTxnStatus p", "primary_mismatch p primary z of @980.0");
    assert!(told.contains("= Protocol"), "{told}");
    tale.has_met(State::LockLocking, Input::NotResolved);
}

// ---- inquiry -------------------------------------------------------------------------------------

/// An async commit of `a`, `b` (its primary) and `z` has outlived its time. One secondary is being
/// asked, and PD for the region of the other.
fn recovering() -> Tale {
    let mut tale = Tale::new(&["tget a @990.0", "pass 5000"]);
    tale.answer("KvGet a", "locked a primary b of @980.0 async");
    tale.play("silence pd");
    tale.answer("KvCheckTxnStatus b", "alive 3000 async @985.0 a z");
    assert!(tale.told.contains("KvCheckSecondaryLocks a"), "{}", tale.told);
    tale
}

/// PD does not know where a secondary is: it is asked again after a pause.
#[test]
fn a_recovery_waits_until_pd_knows_the_region() {
    let mut tale = recovering();
    tale.answer("KvCheckSecondaryLocks a", "secondaries a@985.0");
    tale.mislead(3);
    tale.has_met(State::InquiryRecovering, Input::NotLocated);
    tale.wait_for("PD PdGetRegion");
    tale.has_met(State::InquiryRecovering, Input::Pause);
    tale.answer("PD PdGetRegion", "ok");
    let told = tale.answer("KvCheckSecondaryLocks z", "secondaries z@986.0");
    assert!(told.contains("KvResolveLock a b of @980.0 committed @986.0"), "{told}");
}

/// The transaction has fallen back: its primary is asked again, while PD has not answered yet.
fn fallen_back() -> Tale {
    let mut tale = recovering();
    let told = tale.answer("KvCheckSecondaryLocks a", "secondaries a");
    assert!(told.contains("KvCheckTxnStatus b"), "{told}");
    tale
}

#[test]
fn a_region_that_is_found_too_late_while_the_primary_is_asked() {
    let mut tale = fallen_back();
    assert_eq!(tale.answer("PD PdGetRegion", "ok"), "");
    tale.has_met(State::InquiryChecking, Input::Late);
    let told = tale.answer("KvCheckTxnStatus b", "committed @988.0");
    assert!(told.contains("KvGet a @990.0 | region 1 retry through @980.0"), "{told}");
}

#[test]
fn a_region_that_is_found_too_late_while_locks_are_cleaned() {
    let mut tale = fallen_back();
    tale.answer("KvCheckTxnStatus b", "committed @988.0");
    let pd = tale.last("PD PdGetRegion");
    assert_eq!(tale.play(&format!("{pd} ok")), "");
    tale.has_met(State::InquirySettled, Input::Late);
    tale.answer("KvResolveLock a", "ok");
    assert_eq!(tale.play("resolving"), "");
}

/// A store contradicts itself: there is no trace of the primary that it has shown before.
fn without_trace() -> Tale {
    let mut tale = fallen_back();
    tale.answer("KvCheckTxnStatus b", "not_found");
    tale.answer("KvCheckTxnStatus b", "not_found");
    assert!(tale.play("resolving").contains("Pausing"), "{}", tale.told);
    tale
}

#[test]
fn a_region_that_is_found_too_late_during_a_pause() {
    let mut tale = without_trace();
    assert_eq!(tale.answer("PD PdGetRegion", "ok"), "");
    tale.has_met(State::InquiryPausing, Input::Late);
    tale.wait_for("Tso");
}

#[test]
fn a_region_that_is_found_too_late_while_the_time_is_asked() {
    let mut tale = without_trace();
    let pd = tale.last("PD PdGetRegion");
    tale.wait_for("Tso");
    assert_eq!(tale.play(&format!("{pd} ok")), "");
    tale.has_met(State::InquiryStamping, Input::Late);
    assert!(tale.answer("Tso", "ok").contains("KvCheckTxnStatus b"), "{}", tale.told);
}

/// And there it is again: a second recovery hears of what the first one asked.
#[test]
fn a_region_that_is_found_too_late_for_the_next_recovery() {
    let mut tale = without_trace();
    let pd = tale.last("PD PdGetRegion");
    tale.wait_for("Tso");
    tale.answer("Tso", "ok");
    tale.answer("KvCheckTxnStatus b", "alive 3000 async @985.0 a z");
    tale.play(&format!("{pd} ok"));
    tale.has_met(State::InquiryRecovering, Input::Late);
    tale.answer("KvCheckSecondaryLocks a", "secondaries a@985.0");
    let told = tale.answer("KvCheckSecondaryLocks z", "secondaries z@986.0");
    assert!(told.contains("KvResolveLock a b of @980.0 committed @986.0"), "{told}");
}

/// A lock is to be cleaned up in a region that PD does not know.
#[test]
fn locks_are_cleaned_when_pd_knows_the_region_again() {
    let mut tale = Tale::new(&["commit @990.0 a=1"]);
    tale.answer("KvPrewrite a", "locked a primary p of @980.0");
    tale.answer("KvCheckTxnStatus p", "committed @985.0");
    tale.play("silence pd");
    tale.answer("KvResolveLock a", "region_not_found");
    tale.wait_for("PD PdGetRegion");
    tale.mislead(1);
    tale.has_met(State::InquirySettled, Input::NotLocated);
    tale.wait_for("PD PdGetRegion");
    tale.has_met(State::InquirySettled, Input::Pause);
    tale.answer("PD PdGetRegion", "ok");
    let told = tale.answer("KvResolveLock a", "ok");
    assert!(told.contains("KvPrewrite a"), "{told}");
}

/// PD is there and gives no timestamp: whoever waits hears it.
#[test]
fn no_timestamp_to_judge_a_lock_by() {
    let mut tale = Tale::new(&["tget a @990.0", "silence tso"]);
    tale.answer("KvGet a", "locked a primary p of @980.0");
    tale.refuse_timestamps("= ");
    tale.has_met(State::InquiryStamping, Input::NoTimestamp);
    assert_eq!(tale.play("resolving"), "");
}

/// A secondary that cannot be asked leaves the transaction undecided.
#[test]
fn a_recovery_that_cannot_ask() {
    let mut tale = recovering();
    let told = tale.answer("KvCheckSecondaryLocks a", FATAL);
    assert!(told.contains("= "), "{told}");
    tale.has_met(State::InquiryRecovering, Input::Failed);
    assert_eq!(tale.play("resolving"), "");
}

/// Another reader comes while the primary is not there yet, and is counted in.
#[test]
fn a_reader_joins_during_a_pause() {
    let mut tale = without_trace();
    tale.play("tget a @991.0");
    assert_eq!(tale.answer("KvGet a @991.0", "locked a primary b of @980.0 async"), "");
    tale.has_met(State::InquiryPausing, Input::Joined);
    tale.wait_for("Tso");
    let told = tale.answer("Tso", "ok");
    assert!(told.contains("KvCheckTxnStatus b of @980.0 for @991.0"), "{told}");
}
