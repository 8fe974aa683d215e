//! The fate of a transaction with async commit, from its secondaries (`transactions.md` §16.3).
//!
//! Such a transaction is committed as soon as all of its keys are locked, whether or not anybody has
//! written that down yet. So when its primary has outlived its time, the other keys are asked, and
//! what they say is folded:
//!
//! | a region answers | fold |
//! |---|---|
//! | every key asked about is locked | the commit is no earlier than the earliest that any of the locks allows |
//! | one of the locks is not of an async commit | [`Objection::NotAsync`]: it fell back to two phases, and its primary decides after all |
//! | fewer locks, a commit timestamp | committed, then; every later word has to agree |
//! | fewer locks, no commit timestamp | rolled back, for good: the store has seen to it |
//! | anything that contradicts the rest | [`Objection::Impossible`] |
//!
//! If all are locked, the transaction is committed, at the latest of the earliest timestamps. Which
//! answer comes first makes no difference.
//!
//! To ask is to decide: a store that finds a key unlocked, or locked pessimistically, leaves a rollback
//! there. So nobody is asked before the primary's time is over (§22.15).

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::fanout::{Batch, Job};
use crate::operation::Key;
use crate::resolve::Fate;
use crate::shared::{CallSpec, Cx};
use crate::timestamp::Timestamp;
use crate::wire::reply::SecondariesReply;

/// What the answers so far come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fold {
    start_ts: Timestamp,
    /// The latest of the earliest commits that the locks seen so far allow.
    floor: Timestamp,
    /// The word of the first region where a lock is missing. Final.
    decided: Option<Fate>,
    locked: Vec<Key>,
}

/// Why the secondaries cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Objection {
    /// The transaction has fallen back to two phases.
    NotAsync,
    /// Answers that cannot be, or cannot be together.
    Impossible(&'static str),
}

impl Fold {
    /// `min_commit_ts`: of the primary's lock.
    pub(crate) fn new(start_ts: Timestamp, min_commit_ts: Timestamp) -> Self {
        Self { start_ts, floor: min_commit_ts, decided: None, locked: Vec::new() }
    }

    /// Takes what was said about the keys `asked`, which ascend.
    pub(crate) fn take(&mut self, asked: &[Key], reply: SecondariesReply) -> Result<(), Objection> {
        let SecondariesReply { locks, commit_ts } = reply;
        if locks.iter().any(|lock| lock.start_ts != self.start_ts) {
            return Err(Objection::Impossible("a lock of another transaction among secondaries"));
        }
        if locks.len() < asked.len() {
            let fate = commit_ts.map_or(Fate::RolledBack, Fate::Committed);
            if self.decided.is_some_and(|decided| decided != fate) {
                return Err(Objection::Impossible("secondaries contradict one another"));
            }
            self.decided = Some(fate);
            return self.check();
        }
        let mut keys: Vec<&Key> = locks.iter().map(|lock| &lock.key).collect();
        keys.sort_unstable();
        if !keys.into_iter().eq(asked) {
            return Err(Objection::Impossible("other keys than the secondaries asked about"));
        }
        for lock in locks {
            if !lock.use_async_commit {
                return Err(Objection::NotAsync);
            }
            let Some(min_commit_ts) = lock.min_commit_ts else {
                return Err(Objection::Impossible("an async commit without earliest timestamp"));
            };
            self.floor = self.floor.max(min_commit_ts);
            self.locked.push(lock.key);
        }
        self.check()
    }

    /// A transaction commits no earlier than each of its locks allows.
    fn check(&self) -> Result<(), Objection> {
        match self.decided {
            Some(Fate::Committed(at)) if at < self.floor => {
                Err(Objection::Impossible("a commit before the earliest that a lock allows"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What became of the transaction, and the secondaries that are still locked, once every
    /// secondary has been asked about.
    pub(crate) fn finish(self) -> (Fate, Vec<Key>) {
        (self.decided.unwrap_or(Fate::Committed(self.floor)), self.locked)
    }
}

/// Asks about secondaries.
#[derive(Clone, Debug, Hash)]
pub(crate) struct SecondariesJob {
    pub(crate) start_ts: Timestamp,
    /// In ascending order, each once.
    pub(crate) keys: Vec<Key>,
}

/// Without limits: one request a region (§16.3).
impl Job for SecondariesJob {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn key(&self, index: usize) -> &Key {
        &self.keys[index]
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let message = kvrpcpb::CheckSecondaryLocksRequest {
            keys: self.keys[batch.piece.start..batch.piece.end].to_vec(),
            start_version: self.start_ts.version(),
            ..Default::default()
        };
        let body = cx.encode(&message);
        CallSpec {
            is_retry: batch.piece.is_retry,
            ..CallSpec::write(Rpc::KvCheckSecondaryLocks, body, &cx.shared.config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::key_error::LockKind;
    use crate::wire::reply::Lock;

    const START: u64 = 10;

    fn ts(version: u64) -> Timestamp {
        Timestamp::from_version(version).unwrap()
    }

    fn lock(key: &'static str, min_commit_ts: u64) -> Lock {
        Lock {
            key: key.into(),
            primary: "p".into(),
            start_ts: ts(START),
            ttl_ms: 3_000,
            txn_size: 1,
            kind: LockKind::Put,
            use_async_commit: true,
            for_update_ts: None,
            min_commit_ts: Timestamp::from_version(min_commit_ts),
            secondaries: Vec::new(),
            updated: None,
        }
    }

    /// Keys asked about, the locks that are there, and the commit timestamp (0 for none).
    type Answer = (&'static [&'static str], Vec<Lock>, u64);

    fn fold(answers: &[Answer]) -> Result<(Fate, Vec<Key>), Objection> {
        let mut fold = Fold::new(ts(START), ts(20));
        for (asked, locks, commit_ts) in answers {
            let asked: Vec<Key> = asked.iter().map(|key| Key::from(*key)).collect();
            let commit_ts = Timestamp::from_version(*commit_ts);
            fold.take(&asked, SecondariesReply { locks: locks.clone(), commit_ts })?;
        }
        Ok(fold.finish())
    }

    /// transactions.md §16.3, row by row; cases ASY-05. The primary allows 20 and later. Each row in
    /// both orders.
    #[test]
    fn the_fold_table() {
        let missing = Objection::Impossible;
        let committed = |at, keys: &[&'static str]| {
            Ok((Fate::Committed(ts(at)), keys.iter().map(|key| Key::from(*key)).collect()))
        };
        let rolled_back = |keys: &[&'static str]| {
            Ok((Fate::RolledBack, keys.iter().map(|key| Key::from(*key)).collect::<Vec<_>>()))
        };
        let other = || Lock { start_ts: ts(START + 1), ..lock("a", 30) };
        let plain = || Lock { use_async_commit: false, ..lock("b", 0) };
        let contradict = || Err(missing("secondaries contradict one another"));
        let early = || Err(missing("a commit before the earliest that a lock allows"));
        let keys = || Err(missing("other keys than the secondaries asked about"));
        let strange = || Err(missing("a lock of another transaction among secondaries"));
        let none = || Err(missing("an async commit without earliest timestamp"));
        type Row = (&'static str, Vec<Answer>, Result<(Fate, Vec<Key>), Objection>);
        let rows: Vec<Row> = vec![
            ("only the primary", vec![], committed(20, &[])),
            ("all locked, earlier", vec![(&["a"], vec![lock("a", 15)], 0)], committed(20, &["a"])),
            (
                "all locked, the largest counts",
                vec![(&["a", "b"], vec![lock("b", 40), lock("a", 30)], 0)],
                committed(40, &["a", "b"]),
            ),
            (
                "all locked, over regions",
                vec![(&["a"], vec![lock("a", 30)], 0), (&["b"], vec![lock("b", 25)], 0)],
                committed(30, &["a", "b"]),
            ),
            ("committed", vec![(&["a"], vec![], 25)], committed(25, &[])),
            (
                "one is committed, one is locked",
                vec![(&["a"], vec![], 30), (&["b"], vec![lock("b", 30)], 0)],
                committed(30, &["b"]),
            ),
            (
                "two are committed, together",
                vec![(&["a"], vec![], 30), (&["b"], vec![], 30)],
                committed(30, &[]),
            ),
            ("rolled back", vec![(&["a", "b"], vec![lock("a", 30)], 0)], rolled_back(&[])),
            (
                "one is rolled back, one is locked",
                vec![(&["a"], vec![], 0), (&["b"], vec![lock("b", 99)], 0)],
                rolled_back(&["b"]),
            ),
            ("committed too early", vec![(&["a"], vec![], 19)], early()),
            (
                "committed before a lock allows",
                vec![(&["a"], vec![], 25), (&["b"], vec![lock("b", 26)], 0)],
                early(),
            ),
            (
                "committed at two timestamps",
                vec![(&["a"], vec![], 30), (&["b"], vec![], 31)],
                contradict(),
            ),
            (
                "committed and rolled back",
                vec![(&["a"], vec![], 30), (&["b"], vec![], 0)],
                contradict(),
            ),
            ("of another transaction", vec![(&["a"], vec![other()], 0)], strange()),
            ("another key", vec![(&["a"], vec![lock("b", 30)], 0)], keys()),
            ("a key twice", vec![(&["a", "b"], vec![lock("a", 30), lock("a", 30)], 0)], keys()),
            ("more than was asked", vec![(&["a"], vec![lock("a", 30), lock("b", 30)], 0)], keys()),
            ("without earliest commit", vec![(&["a"], vec![lock("a", 0)], 0)], none()),
            (
                "not async",
                vec![(&["a"], vec![lock("a", 30)], 0), (&["b"], vec![plain()], 0)],
                Err(Objection::NotAsync),
            ),
        ];
        for (row, answers, expected) in rows {
            let mut reversed = answers.clone();
            reversed.reverse();
            for answers in [answers, reversed] {
                let mut told = fold(&answers);
                if let Ok((_, keys)) = &mut told {
                    keys.sort_unstable();
                }
                assert_eq!(told, expected, "{row}: {answers:?}");
            }
        }
    }
}
