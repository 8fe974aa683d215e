//! How a story says what is committed, and how.
//!
//! `txn WORD…` chooses for all commits that follow, anew each time:
//!
//! | words | meaning |
//! |---|---|
//! | `async`, `1pc`, `causal` | protocols |
//! | `fast`, `strict` | the level of assertions |
//! | `low`, `high`, `sync`, `tag X`, `group X`, `source X`, `origin N`, `almost_full`, `already_full` | what stores are told |
//! | `until @TS`, `after @TS`, `patience MS` | limits of the commit timestamp |
//! | `no_resolve` | locks of others are conflicts |
//! | `open MS` | how long the transaction has been open |
//! | `primary K @TS` | it is pessimistic: the primary, and its `for_update_ts` |
//! | `stash K` | an assertion about a key was seen to fail |
//!
//! A mutation is `K=V`, `-K`, `!K=V`, `lock:K` or `absent:K`; before it `^` if the key is locked,
//! `^@TS:` if it was locked at that time by fair locking, `?` if its check was put off; behind it
//! `~exist` or `~absent`, if that is believed. `K=#N` is a value of N bytes.

use std::sync::Arc;
use std::time::Duration;

use super::answers::{bytes, version};
use super::script::timestamp;
use crate::txn::{AssertionLevel, DiskFullOpt, EncounterLock, Priority, TxnOptions};
use crate::{
    Assertion, AssertionFailure, CommitPlan, LockState, Mutation, MutationOp, PessimisticPlan,
    Timestamp,
};

/// `@TS MUTATION…`, by these choices.
pub(super) fn plan(choices: &[String], words: &[&str]) -> CommitPlan {
    let mutations = words[1..].iter().map(|word| mutation(word)).collect();
    let mut plan = CommitPlan::new(timestamp(words[0]), mutations);
    let mut options = TxnOptions::default();
    let mut choices = choices.iter().map(String::as_str);
    while let Some(choice) = choices.next() {
        let mut next = || choices.next().expect("a word");
        match choice {
            "async" => options.enable_async_commit = true,
            "1pc" => options.enable_one_pc = true,
            "causal" => options.causal_consistency = true,
            "fast" => options.assertion_level = AssertionLevel::Fast,
            "strict" => options.assertion_level = AssertionLevel::Strict,
            "low" => options.priority = Priority::Low,
            "high" => options.priority = Priority::High,
            "sync" => options.sync_log = true,
            "tag" => options.resource_group_tag = bytes(next()),
            "group" => options.resource_group_name = Some(next().into()),
            "source" => options.request_source = Some(next().into()),
            "origin" => options.txn_source = next().parse().expect("a number"),
            "almost_full" => options.disk_full_opt = DiskFullOpt::AllowedOnAlmostFull,
            "already_full" => options.disk_full_opt = DiskFullOpt::AllowedOnAlreadyFull,
            "until" => options.commit_ts_upper_bound = Some(timestamp(next())),
            "after" => options.commit_wait_until = Some(timestamp(next())),
            "patience" => {
                let ms = next().parse().expect("milliseconds");
                options.commit_wait_timeout = Duration::from_millis(ms);
            }
            "no_resolve" => options.encounter_lock = EncounterLock::NoResolve,
            "open" => {
                plan.open_for = Duration::from_millis(next().parse().expect("milliseconds"));
            }
            "primary" => {
                let (primary, for_update_ts) = (bytes(next()), timestamp(next()));
                plan.pessimistic = Some(PessimisticPlan { primary, for_update_ts });
            }
            "stash" => {
                plan.stashed_assertion = Some(Box::new(AssertionFailure {
                    start_ts: plan.start_ts.version(),
                    key: bytes(next()),
                    assertion: Assertion::Exist,
                    existing_start_ts: 0,
                    existing_commit_ts: 0,
                }));
            }
            other => panic!("nobody can choose {other}"),
        }
    }
    plan.options = Arc::new(options);
    plan
}

fn mutation(word: &str) -> Mutation {
    let (word, assertion) = match word.split_once('~') {
        Some((word, "exist")) => (word, Assertion::Exist),
        Some((word, "absent")) => (word, Assertion::NotExist),
        Some((_, other)) => panic!("{other} is nothing to believe"),
        None => (word, Assertion::None),
    };
    let (word, locked) = match (word.strip_prefix('^'), word.strip_prefix('?')) {
        (Some(word), _) => match word.strip_prefix('@').and_then(|word| word.split_once(':')) {
            Some((at, word)) => (word, LockState::HeldAt(at_time(at))),
            None => (word, LockState::Held),
        },
        (None, Some(word)) => (word, LockState::CheckAtPrewrite),
        (None, None) => (word, LockState::Not),
    };
    let (key, op) = if let Some(key) = word.strip_prefix('-') {
        (key, MutationOp::Delete)
    } else if let Some(key) = word.strip_prefix("lock:") {
        (key, MutationOp::Lock)
    } else if let Some(key) = word.strip_prefix("absent:") {
        (key, MutationOp::CheckNotExists)
    } else if let Some(rest) = word.strip_prefix('!') {
        let (key, value) = rest.split_once('=').expect("key=value");
        (key, MutationOp::Insert(bytes(value)))
    } else {
        let (key, value) = word.split_once('=').expect("key=value");
        let value = match value.strip_prefix('#') {
            Some(len) => vec![b'x'; len.parse().expect("a length")].into(),
            None => bytes(value),
        };
        (key, MutationOp::Put(value))
    };
    Mutation { locked, assertion, ..Mutation::new(bytes(key), op) }
}

fn at_time(word: &str) -> Timestamp {
    Timestamp::from_version(version(word)).expect("a timestamp")
}
