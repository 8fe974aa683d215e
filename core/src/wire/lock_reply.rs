//! What stores answer to pessimistic lock requests, to their release, and to heartbeats
//! (`transactions.md` §12.2, §13.4, §13.5).

use anatase_proto::kvrpcpb::{self, PessimisticLockKeyResultType};

use crate::error::Error;
use crate::lock_plan::Found;
use crate::timestamp::Timestamp;
use crate::wire::Response;
use crate::wire::key_error::{KeyError, Lock, impossible};
use crate::wire::reply::{another, done, message_of};

/// What was asked: an answer means something only together with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LockQuestion {
    /// How many keys the request names.
    pub(crate) keys: usize,
    /// With their values.
    pub(crate) return_values: bool,
    /// With whether they exist.
    pub(crate) check_existence: bool,
    /// In the wake-up mode `ForceLock`, which takes the lock in spite of a newer version.
    pub(crate) force: bool,
    pub(crate) for_update_ts: Timestamp,
}

/// Answers `KvPessimisticLock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LockAnswer {
    /// Every key of the request is locked (with `lock_only_if_exists`: every one that exists), and
    /// this was found there, in the order of the request.
    Locked(Vec<Found>),
    /// The key of a forced request is locked although somebody has written it since.
    LockedWithConflict {
        found: Found,
        /// The newest version's commit; after the request's `for_update_ts`.
        conflict_ts: Timestamp,
    },
    /// These locks are in the way; nothing was locked. Not empty.
    Blocked(Vec<Lock>),
    /// Nothing was locked.
    Refused(Error),
}

/// An `Err` is an answer that makes no sense: keys may be locked.
pub(crate) fn pessimistic_lock(
    response: Response,
    question: &LockQuestion,
) -> Result<LockAnswer, Error> {
    let message = *message_of!(response, PessimisticLock);
    // §13.5: key errors first, in both modes.
    let mut locks = Vec::new();
    let mut errors = message.errors.into_iter().map(KeyError::from_proto);
    let refused = errors.find_map(|error| match error {
        KeyError::Locked(more) => {
            locks.extend(more);
            None
        }
        KeyError::Unexpected(what) => Some(Err(impossible(what))),
        other => Some(Ok(other.into_error())),
    });
    if let Some(refused) = refused {
        return refused.map(LockAnswer::Refused);
    }
    if !locks.is_empty() {
        return Ok(LockAnswer::Blocked(locks));
    }
    if question.force {
        let mut results = message.results.into_iter();
        return match (results.next(), results.next()) {
            (Some(result), None) => forced(result, question),
            _ => Err(impossible("a forced lock without its one result")),
        };
    }
    if !message.results.is_empty() {
        return Err(impossible("results of a lock request that was not forced"));
    }
    found(message.values, message.not_founds, question).map(LockAnswer::Locked)
}

/// §13.5.
fn forced(
    result: kvrpcpb::PessimisticLockKeyResult,
    question: &LockQuestion,
) -> Result<LockAnswer, Error> {
    match PessimisticLockKeyResultType::try_from(result.r#type) {
        Ok(PessimisticLockKeyResultType::LockResultNormal) => {
            let found = if question.return_values {
                if result.existence { Found::Value(result.value) } else { Found::Missing }
            } else if question.check_existence {
                if result.existence { Found::Exists } else { Found::Missing }
            } else {
                Found::NotAsked
            };
            Ok(LockAnswer::Locked(vec![found]))
        }
        // Told whether asked or not: what was read before is out of date.
        Ok(PessimisticLockKeyResultType::LockResultLockedWithConflict) => {
            let found = if result.existence { Found::Value(result.value) } else { Found::Missing };
            match Timestamp::from_version(result.locked_with_conflict_ts) {
                // §14: «a non-zero conflict ts not above for_update_ts is an error».
                Some(conflict_ts) if conflict_ts > question.for_update_ts => {
                    Ok(LockAnswer::LockedWithConflict { found, conflict_ts })
                }
                Some(_) | None => Err(impossible("a conflict that is not after the request")),
            }
        }
        Ok(PessimisticLockKeyResultType::LockResultFailed) => {
            Err(impossible("a failed lock without an error"))
        }
        Err(_) => Err(impossible("a lock result of an unknown kind")),
    }
}

/// §13.4. A store too old to know `not_founds` tells an absent key by an empty value, and cannot tell
/// existence without values.
fn found(
    values: Vec<crate::operation::Value>,
    not_founds: Vec<bool>,
    question: &LockQuestion,
) -> Result<Vec<Found>, Error> {
    let keys = question.keys;
    if !not_founds.is_empty() && not_founds.len() != keys {
        return Err(impossible("existence of another number of keys than were to be locked"));
    }
    let missing = |index: usize| not_founds.get(index).copied();
    if question.return_values {
        if values.len() != keys {
            return Err(impossible("another number of values than keys were to be locked"));
        }
        let one = |(index, value): (usize, crate::operation::Value)| {
            if missing(index).unwrap_or(value.is_empty()) {
                Found::Missing
            } else {
                Found::Value(value)
            }
        };
        return Ok(values.into_iter().enumerate().map(one).collect());
    }
    let one = |index| match missing(index) {
        Some(true) if question.check_existence => Found::Missing,
        Some(false) if question.check_existence => Found::Exists,
        Some(_) | None => Found::NotAsked,
    };
    Ok((0..keys).map(one).collect())
}

/// Key errors say nothing here: what is not there need not be released.
pub(crate) fn pessimistic_rollback(response: Response) -> Result<(), Error> {
    let message = message_of!(response, PessimisticRollback);
    done(message.errors.into_iter().next().map(Box::new))
}

/// The time to live that the primary has now, in milliseconds. An `Err` is a key error: there is no
/// such lock.
pub(crate) fn txn_heart_beat(response: Response) -> Result<u64, Error> {
    let message = message_of!(response, TxnHeartBeat);
    done(message.error)?;
    Ok(message.lock_ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const FOR_UPDATE: u64 = 50;

    fn question(keys: usize) -> LockQuestion {
        let for_update_ts = Timestamp::from_version(FOR_UPDATE).unwrap();
        LockQuestion {
            keys,
            return_values: false,
            check_existence: false,
            force: false,
            for_update_ts,
        }
    }

    fn read(
        message: kvrpcpb::PessimisticLockResponse,
        question: LockQuestion,
    ) -> Result<LockAnswer, ErrorKind> {
        pessimistic_lock(Response::PessimisticLock(message.into()), &question)
            .map_err(|error| error.kind().clone())
    }

    fn locked(start: u64) -> kvrpcpb::KeyError {
        let info = kvrpcpb::LockInfo { lock_version: start, key: "k".into(), ..Default::default() };
        kvrpcpb::KeyError { locked: Some(info.into()), ..Default::default() }
    }

    fn abort() -> kvrpcpb::KeyError {
        kvrpcpb::KeyError { abort: "no".into(), ..Default::default() }
    }

    /// transactions.md §13.4: values, existence, and stores that are too old to tell.
    #[test]
    fn what_was_found_is_told_as_far_as_it_was_asked() {
        let (values, exists) = (true, true);
        let value = |text: &'static str| Found::Value(text.into());
        type Row = (bool, bool, Vec<&'static str>, Vec<bool>, Vec<Found>);
        let rows: [Row; 6] = [
            (false, false, vec![], vec![], vec![Found::NotAsked, Found::NotAsked]),
            (values, false, vec!["v", ""], vec![false, true], vec![value("v"), Found::Missing]),
            (values, false, vec!["v", ""], vec![], vec![value("v"), Found::Missing]),
            (values, exists, vec!["v", ""], vec![false, true], vec![value("v"), Found::Missing]),
            (false, exists, vec![], vec![false, true], vec![Found::Exists, Found::Missing]),
            (false, exists, vec![], vec![], vec![Found::NotAsked, Found::NotAsked]),
        ];
        for (return_values, check_existence, values, not_founds, expected) in rows {
            let values = values.into_iter().map(Into::into).collect();
            let message =
                kvrpcpb::PessimisticLockResponse { values, not_founds, ..Default::default() };
            let question = LockQuestion { return_values, check_existence, ..question(2) };
            assert_eq!(read(message, question), Ok(LockAnswer::Locked(expected)));
        }
    }

    /// transactions.md §13.5.
    #[test]
    fn a_forced_lock_is_taken_or_taken_with_a_conflict() {
        let result = |kind: PessimisticLockKeyResultType, existence, conflict| {
            kvrpcpb::PessimisticLockResponse {
                results: vec![kvrpcpb::PessimisticLockKeyResult {
                    r#type: kind.into(),
                    value: if existence { "v".into() } else { "".into() },
                    existence,
                    locked_with_conflict_ts: conflict,
                    ..Default::default()
                }],
                ..Default::default()
            }
        };
        use PessimisticLockKeyResultType::*;
        let asked = |return_values, check_existence| LockQuestion {
            force: true,
            return_values,
            check_existence,
            ..question(1)
        };
        let value = || Found::Value("v".into());
        for (exists, values, check, expected) in [
            (true, false, false, Found::NotAsked),
            (true, true, false, value()),
            (false, true, false, Found::Missing),
            (true, false, true, Found::Exists),
            (false, false, true, Found::Missing),
        ] {
            let reply = read(result(LockResultNormal, exists, 0), asked(values, check));
            assert_eq!(reply, Ok(LockAnswer::Locked(vec![expected])));
        }
        for (exists, found) in [(true, value()), (false, Found::Missing)] {
            let conflict_ts = Timestamp::from_version(FOR_UPDATE + 1).unwrap();
            let message = result(LockResultLockedWithConflict, exists, FOR_UPDATE + 1);
            let expected = LockAnswer::LockedWithConflict { found, conflict_ts };
            assert_eq!(read(message, asked(false, false)), Ok(expected));
        }
        for nonsense in [
            result(LockResultLockedWithConflict, true, FOR_UPDATE),
            result(LockResultLockedWithConflict, true, 0),
            result(LockResultFailed, false, 0),
            kvrpcpb::PessimisticLockResponse::default(),
        ] {
            assert_eq!(read(nonsense, asked(true, true)), Err(ErrorKind::Protocol));
        }
        let failed = kvrpcpb::PessimisticLockResponse {
            errors: vec![locked(7)],
            ..result(LockResultFailed, false, 0)
        };
        assert!(matches!(read(failed, asked(true, true)), Ok(LockAnswer::Blocked(_))));
    }

    #[test]
    fn answers_that_cannot_be_are_none() {
        let message = kvrpcpb::PessimisticLockResponse::default;
        let values = LockQuestion { return_values: true, ..question(2) };
        let one = kvrpcpb::PessimisticLockResponse { values: vec!["v".into()], ..message() };
        assert_eq!(read(one, values), Err(ErrorKind::Protocol));
        let one = kvrpcpb::PessimisticLockResponse { not_founds: vec![true], ..message() };
        assert_eq!(read(one, question(2)), Err(ErrorKind::Protocol));
        let results =
            kvrpcpb::PessimisticLockResponse { results: vec![Default::default()], ..message() };
        assert_eq!(read(results, question(1)), Err(ErrorKind::Protocol));
        let empty =
            kvrpcpb::PessimisticLockResponse { errors: vec![Default::default()], ..message() };
        assert_eq!(read(empty, question(1)), Err(ErrorKind::Protocol));
    }

    /// Waiting for a lock is in vain if the call has failed already.
    #[test]
    fn an_error_counts_more_than_a_lock() {
        let errors = |errors| kvrpcpb::PessimisticLockResponse { errors, ..Default::default() };
        let reply = read(errors(vec![locked(7), locked(8)]), question(2));
        assert!(matches!(reply, Ok(LockAnswer::Blocked(locks)) if locks.len() == 2));
        let reply = read(errors(vec![locked(7), abort()]), question(2));
        assert!(matches!(reply, Ok(LockAnswer::Refused(_))));
    }

    #[test]
    fn a_heartbeat_is_heard_or_there_is_no_such_lock() {
        let message = kvrpcpb::TxnHeartBeatResponse { lock_ttl: 7, ..Default::default() };
        assert_eq!(txn_heart_beat(Response::TxnHeartBeat(message)), Ok(7));
        let error = Some(
            kvrpcpb::KeyError { txn_not_found: Some(Box::default()), ..Default::default() }.into(),
        );
        let message = kvrpcpb::TxnHeartBeatResponse { error, ..Default::default() };
        assert!(txn_heart_beat(Response::TxnHeartBeat(message)).is_err());
    }
}
