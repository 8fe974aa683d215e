//! How a commit ends: what proves that it is committed, and what a loss means (`transactions.md` §11,
//! §22.1).
//!
//! A transaction has one point at which it is committed: its primary's commit, or the last of its
//! prewrites, or its only one. Before it, whatever went wrong is undone. Behind it, nothing may be.
//! Where nobody can tell on which side it is, it is *undetermined*: it is neither undone nor tried again,
//! and some later reader finds out.

use crate::error::{Error, ErrorKind};
use crate::op::Step;
use crate::op::commit::prewrite::{LastLock, OnePhase};
use crate::op::commit::primary::Acknowledged;
use crate::operation::{CommitOutcome, CommittedBy, Reply};
use crate::timestamp::Timestamp;

/// Proof that the transaction is committed. Made of one of the three things that prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Decided {
    at: Timestamp,
    by: CommittedBy,
}

impl Decided {
    pub(super) fn by_primary(acknowledged: Acknowledged) -> Self {
        Self { at: acknowledged.at(), by: CommittedBy::TwoPhase }
    }

    pub(super) fn by_locks(last: LastLock) -> Self {
        Self { at: last.at(), by: CommittedBy::Async }
    }

    pub(super) fn at_once(done: OnePhase) -> Self {
        Self { at: done.at(), by: CommittedBy::OnePhase }
    }

    pub(super) fn at(self) -> Timestamp {
        self.at
    }

    pub(super) fn by(self) -> CommittedBy {
        self.by
    }
}

/// Whose requests commit the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Those of this phase do not: locks in two phases.
    Locking,
    /// Each prewrite may be the one that does.
    DecisivePrewrite,
    /// The commit of the primary does.
    Primary,
}

/// What a store said last about the request with which a commit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that is an answer: the request was never served, as far as is known.
    Nothing,
    /// That it was not executed, and why.
    Refusal,
    /// That it does not know, or something that makes no sense.
    NoSense,
}

impl Said {
    /// What a call that failed has heard.
    pub(super) fn in_failure(error: &Error) -> Self {
        if *error.kind() == ErrorKind::Undetermined { Self::NoSense } else { Self::Nothing }
    }
}

/// What is known when a commit ends without having been decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) phase: Phase,
    pub(super) said: Said,
    /// A copy of the request is out, or was lost.
    pub(super) lost: bool,
    /// Everything else that would have to be done for the transaction to be committed is done, or may
    /// have been. If something certainly is not, and will not be, the rest does not matter.
    pub(super) rest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not committed, and can be undone.
    Aborted,
    /// It may be committed, or may yet be.
    Undetermined,
}

/// `transactions.md` §11.
pub(super) fn verdict(evidence: Evidence) -> Verdict {
    let Evidence { phase, said, lost, rest } = evidence;
    if !rest {
        return Verdict::Aborted;
    }
    match (phase, said) {
        (Phase::Locking, _) => Verdict::Aborted,
        (Phase::DecisivePrewrite | Phase::Primary, Said::NoSense) => Verdict::Undetermined,
        // The store has looked: a copy that had arrived before would have shown.
        (Phase::Primary, Said::Refusal) => Verdict::Aborted,
        // A copy that arrives later may find the obstacle gone, and commit.
        (Phase::DecisivePrewrite, Said::Refusal | Said::Nothing)
        | (Phase::Primary, Said::Nothing) => {
            if lost {
                Verdict::Undetermined
            } else {
                Verdict::Aborted
            }
        }
    }
}

/// An ending that may be a commit. Nothing is undone and nothing is retried.
pub(super) fn undetermined(error: Error) -> Step {
    let error = Error::new(ErrorKind::Undetermined, "the commit may or may not have happened")
        .because(Some(error));
    Step::Done(Ok(Reply::Commit(CommitOutcome::Undetermined(error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transactions.md §11, row by row, and what follows for cases that it does not name. Each row
    /// has a story in `commit_stories.rs` or `mode_stories.rs`.
    #[test]
    fn each_row_of_the_table_has_its_verdict() {
        use Phase::{DecisivePrewrite, Locking, Primary};
        use Said::{NoSense, Nothing, Refusal};
        use Verdict::{Aborted, Undetermined};
        let rows = [
            ("2PC primary: RPC error, no response", Primary, Nothing, true, true, Undetermined),
            ("same, but a response came later", Primary, Refusal, true, true, Aborted),
            ("RPC error, then only region errors", Primary, Nothing, true, true, Undetermined),
            ("region errors only", Primary, Nothing, false, true, Aborted),
            (
                "async/1PC: RPC error, no success",
                DecisivePrewrite,
                Nothing,
                true,
                true,
                Undetermined,
            ),
            ("even if a key error was last", DecisivePrewrite, Refusal, true, true, Undetermined),
            ("cancelled: another failed first", DecisivePrewrite, Nothing, true, false, Aborted),
            ("key error only", DecisivePrewrite, Refusal, false, true, Aborted),
            ("user gone, prewrite", DecisivePrewrite, Nothing, true, true, Undetermined),
            ("user gone, primary", Primary, Nothing, true, true, Undetermined),
            ("UndeterminedResult, prewrite", DecisivePrewrite, NoSense, true, true, Undetermined),
            ("UndeterminedResult, primary", Primary, NoSense, true, true, Undetermined),
            ("nonsense", Primary, NoSense, false, true, Undetermined),
            ("throttled: never sent", DecisivePrewrite, Nothing, false, true, Aborted),
            ("plain 2PC prewrite RPC error", Locking, Nothing, true, true, Aborted),
            ("plain 2PC prewrite nonsense", Locking, NoSense, true, true, Aborted),
        ];
        for (row, phase, said, lost, rest, expected) in rows {
            assert_eq!(verdict(Evidence { phase, said, lost, rest }), expected, "{row}");
        }
    }

    /// What can never be committed is never undetermined, and what was lost is never surely aborted.
    #[test]
    fn the_verdict_errs_to_neither_side() {
        for phase in [Phase::Locking, Phase::DecisivePrewrite, Phase::Primary] {
            for said in [Said::Nothing, Said::Refusal, Said::NoSense] {
                for (lost, rest) in [(false, false), (false, true), (true, false), (true, true)] {
                    let verdict = verdict(Evidence { phase, said, lost, rest });
                    if phase == Phase::Locking || !rest {
                        assert_eq!(verdict, Verdict::Aborted);
                    }
                    if phase != Phase::Locking && lost && rest && said == Said::Nothing {
                        assert_eq!(verdict, Verdict::Undetermined);
                    }
                }
            }
        }
    }
}
