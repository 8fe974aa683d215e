//! Up to where versions may be gone, and whether a read was still in time
//! (`transactions.md` §17.7, §18).
//!
//! The cluster's garbage collection removes versions that nobody at or after its safe point can see.
//! A store does not refuse to read below it: it answers with what is left, which is wrong. So whoever
//! reads a snapshot has to look at the safe point itself, and *after* the data has arrived: a
//! collection that began in the meantime is then seen.
//!
//! ```text
//! nothing known, or told 90 s ago or more    a read waits for PD, whatever it has found (it fails closed)
//! told less than 90 s ago                    a read at or after the safe point is good
//!                                            a read before it fails: TxnAbortedByGc
//! told 10 s ago or more                      a read that begins has PD asked, and does not wait for it
//! ```
//!
//! 90 s are the 100 s for which a collection waits after it has told its safe point, less 10 s of
//! inaccuracy. Whatever is known may thus be that old and still warn in time.
//!
//! The reference asks every 10 s in a loop. Here PD is asked by use: a core that reads nothing asks
//! nothing.

use crate::error::{Error, ErrorKind};
use crate::shared::{Owner, Shared, Tag, Wake};
use crate::time::Instant;
use crate::timestamp::Timestamp;
use crate::wire::{Response, reply};

use std::time::Duration;

/// How old what is known may be when a read begins, without PD being asked again (§1.4, «safe-point
/// poll»).
const REFRESH: Duration = Duration::from_secs(10);
/// How long PD is left alone after a failure (§1.4, «quick retry»).
pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// How old what is known may be for a read to be judged by it (§1.4, «cache valid»).
const VALID: Duration = Duration::from_secs(90);

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct SafePoint {
    known: Option<Known>,
    /// When the question was asked that is out.
    asked: Option<Instant>,
    /// When PD last failed to tell.
    failed: Option<Instant>,
    /// PD is too old to be asked.
    unsupported: bool,
    /// Who has read something and waits to learn whether it was in time.
    waiting: Vec<(Owner, Tag)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    /// A version below this may be gone.
    at: u64,
    told: Instant,
}

/// What is known about a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// What it found is what there was.
    Visible,
    /// Something may have been gone.
    Gone(Error),
    /// PD has to be asked.
    Unknown,
}

impl SafePoint {
    fn is_due(&self, now: Instant) -> bool {
        let rested = self.failed.is_none_or(|failed| now.since(failed) >= RETRY);
        let old = self.known.is_none_or(|known| now.since(known.told) >= REFRESH);
        !self.unsupported && self.asked.is_none() && old && rested
    }

    fn visibility(&self, at: Timestamp, now: Instant) -> Visibility {
        if self.unsupported || at == Timestamp::MAX {
            return Visibility::Visible;
        }
        match self.known {
            // Safe points only move forward: what was gone then is gone now, however long ago that
            // was told.
            Some(known) if at.version() < known.at => {
                let text = format!("a read at {at}, before the safe point {}", known.at);
                Visibility::Gone(Error::new(ErrorKind::TxnAbortedByGc, text))
            }
            Some(known) if now.since(known.told) < VALID => Visibility::Visible,
            Some(_) | None => Visibility::Unknown,
        }
    }

    /// PD's word. It never goes back: an answer may be overtaken by a later one.
    fn learn(&mut self, at: u64, told: Instant) {
        let at = self.known.map_or(at, |known| known.at.max(at));
        self.known = Some(Known { at, told });
        self.failed = None;
    }
}

impl Shared {
    /// A read begins: sees to it that what will be needed at its end is on its way.
    pub(crate) fn prepare_visibility(&mut self) {
        if self.config.check_visibility && self.safe_point.is_due(self.now) {
            self.ask_safe_point();
        }
    }

    fn ask_safe_point(&mut self) {
        let keyspace = self.tenancy.keyspace().map(|keyspace| keyspace.id);
        self.safe_point.asked = Some(self.now);
        self.pd_ask_safe_point(keyspace);
    }

    /// Whether a read that has found something was in time.
    pub(crate) fn visibility(&self, at: Timestamp) -> Visibility {
        if self.config.check_visibility {
            self.safe_point.visibility(at, self.now)
        } else {
            Visibility::Visible
        }
    }

    /// Answered by [`Wake::SafePoint`] when PD has told.
    pub(crate) fn await_safe_point(&mut self, owner: Owner, tag: Tag) {
        self.safe_point.waiting.push((owner, tag));
        if self.safe_point.asked.is_none() {
            self.ask_safe_point();
        }
    }

    pub(crate) fn forget_safe_point_waiter(&mut self, owner: Owner) {
        self.safe_point.waiting.retain(|(waiter, _)| *waiter != owner);
    }

    /// PD has told, or could not be asked within the time that a question may take.
    pub(crate) fn on_safe_point(&mut self, answer: Result<Response, Error>) {
        let now = self.now;
        // What PD told may be as old as the question.
        let asked = self.safe_point.asked.take().unwrap_or(now);
        let result = match answer.and_then(reply::txn_safe_point) {
            Ok(at) => {
                self.safe_point.learn(at, asked);
                Ok(())
            }
            Err(error) if *error.kind() == ErrorKind::Unsupported => {
                self.safe_point.unsupported = true;
                Ok(())
            }
            Err(error) => {
                self.safe_point.failed = Some(now);
                Err(error)
            }
        };
        for (owner, tag) in std::mem::take(&mut self.safe_point.waiting) {
            self.wake(owner, tag, Wake::SafePoint(result.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(secs)
    }

    fn ts(version: u64) -> Timestamp {
        Timestamp::from_version(version).expect("a timestamp")
    }

    /// transactions.md §17.7, row by row: what is known of a read at 50, 100 s after the beginning.
    #[test]
    fn a_read_is_judged_by_what_pd_told_less_than_90_s_ago() {
        use Visibility::{Unknown, Visible};
        let gone = |seen: &Visibility| matches!(seen, Visibility::Gone(error) if *error.kind() == ErrorKind::TxnAbortedByGc);
        let known = |safe_point, told| Some(Known { at: safe_point, told: at(told) });
        for (row, known, read, expected) in [
            ("nothing known", None, ts(50), Some(Unknown)),
            ("equal is visible", known(50, 100), ts(50), Some(Visible)),
            ("below is gone", known(51, 100), ts(50), None),
            ("below is gone, however old", known(51, 1), ts(50), None),
            ("just young enough", known(50, 11), ts(50), Some(Visible)),
            ("too old: fails closed", known(50, 10), ts(50), Some(Unknown)),
            ("the latest", known(51, 100), Timestamp::MAX, Some(Visible)),
            ("the latest, nothing known", None, Timestamp::MAX, Some(Visible)),
        ] {
            let state = SafePoint { known, ..Default::default() };
            let seen = state.visibility(read, at(100));
            match expected {
                Some(expected) => assert_eq!(seen, expected, "{row}"),
                None => assert!(gone(&seen), "{row}: {seen:?}"),
            }
        }
        let old_pd = SafePoint { unsupported: true, ..Default::default() };
        assert_eq!(old_pd.visibility(ts(50), at(100)), Visible);
    }

    /// transactions.md §1.4: polled every 10 s, 1 s after a failure.
    #[test]
    fn pd_is_asked_again_after_10_s_and_1_s_after_a_failure() {
        let known = |told| Some(Known { at: 7, told: at(told) });
        let failed = |when| Some(at(when));
        for (row, state, due) in [
            ("at first", SafePoint::default(), true),
            ("fresh", SafePoint { known: known(91), ..Default::default() }, false),
            ("10 s old", SafePoint { known: known(90), ..Default::default() }, true),
            ("failed just now", SafePoint { failed: failed(100), ..Default::default() }, false),
            ("failed 1 s ago", SafePoint { failed: failed(99), ..Default::default() }, true),
            ("asking", SafePoint { asked: Some(at(1)), ..Default::default() }, false),
            ("too old a PD", SafePoint { unsupported: true, ..Default::default() }, false),
        ] {
            assert_eq!(state.is_due(at(100)), due, "{row}");
        }
    }

    #[test]
    fn a_safe_point_never_goes_back() {
        let mut state = SafePoint::default();
        state.learn(9, at(1));
        state.learn(4, at(2));
        assert_eq!(state.known, Some(Known { at: 9, told: at(2) }));
    }
}
