//! What each error of client-go is called here (control-plane.md §16), met in its situation.

use anatase_proto::{errorpb, kvrpcpb, pdpb};

use crate::KeyMode::{self, Raw, Txn};
use crate::backoff::{Backoff, BackoffKind};
use crate::oracle::Oracle;
use crate::region_call::react::on_failure;
use crate::story::Story;
use crate::txn::{Buffer, BufferLimits};
use crate::wire::key_error::KeyError;
use crate::wire::region_error::RegionError;
use crate::wire::{Response, reply};
use crate::{Error, ErrorKind, Failure, GrpcStatus, WriteConflict};

/// How a situation ends.
enum End {
    /// In this error.
    In(Error),
    /// Not in an error, by design: why.
    Well(&'static str),
    /// Nothing here does this yet; a later issue will.
    Later(&'static str),
}
use End::{In, Later, Well};

/// A budget was spent on waiting for this.
fn spent(kind: BackoffKind) -> End {
    let mut backoff = Backoff::new(std::time::Duration::from_millis(1));
    let cause = Error::new(ErrorKind::Refused, "the last straw");
    backoff.next(kind, None, cause.clone(), |bound| bound - 1).expect("the first wait is free");
    In(backoff.next(kind, None, cause, |_| 0).expect_err("the second is not"))
}

fn region(error: errorpb::Error) -> End {
    In(RegionError::from_proto(error).to_error())
}

fn key(error: kvrpcpb::KeyError) -> End {
    In(KeyError::from_proto(error).into_error())
}

fn none<T>() -> Option<Box<T>>
where
    T: Default,
{
    Some(Box::default())
}

/// No operation is a stale read yet, so that the check itself is asked.
fn latest_stale_read() -> Error {
    let now = crate::Instant::from_nanos(0);
    let mut oracle = Oracle::new(std::time::Duration::from_secs(2), now);
    let (verdict, _) = oracle.check_read(crate::Timestamp::MAX, true, now);
    verdict.refusal(crate::Timestamp::MAX).expect("refused")
}

/// What a buffer of this size says to one more write.
fn buffered(limit: fn(&mut BufferLimits), key: usize, value: &'static str) -> End {
    let mut limits = BufferLimits::default();
    limit(&mut limits);
    In(Buffer::new(limits).put(vec![b'k'; key], value).expect_err("too much"))
}

/// What is told in the end, after these inputs; it begins with the kind's name.
fn told(mode: KeyMode, inputs: &[&str]) -> String {
    let mut story = Story::new(mode, "..=1");
    let mut last = String::new();
    inputs.iter().for_each(|input| last = story.play(input));
    last.lines().next_back().unwrap_or_default().to_owned()
}

/// How a first lock call ends, with these options and keys and this answer.
fn lock(call: &str, answer: Option<&str>) -> End {
    let mut story = Story::new(Txn, "..=1");
    story.play(&format!("lock @2.0 @2.0 primary a new {call}"));
    if let Some(answer) = answer {
        story.play(&format!("1 {answer}"));
    }
    In(story.last_error.expect("an error"))
}

fn conflict() -> ErrorKind {
    ErrorKind::WriteConflict(Box::new(WriteConflict {
        start_ts: crate::Timestamp::from_version(1).expect("one"),
        conflict_ts: 2,
        conflict_commit_ts: 3,
        key: "k".into(),
        primary: "p".into(),
        reason: crate::ConflictReason::Optimistic,
    }))
}

/// control-plane.md §16, the sentinels. Those of §3.1's last column come from a spent budget.
#[test]
fn each_sentinel_has_its_kind() {
    use ErrorKind::*;
    let region_error = errorpb::Error::default;
    let locked = || LockWaitTimeout { key: Default::default(), lock_ts: 0 };
    let no_body = reply::raw_get(Response::RawPut(kvrpcpb::RawPutResponse::default()));
    let rows = [
        ("ErrBodyMissing", In(no_body.unwrap_err()), Some(Protocol)),
        ("ErrNotExist", Well("absent is an answer: None"), None),
        ("ErrCannotSetNilValue", buffered(|_| (), 1, ""), Some(InvalidArgument)),
        ("ErrInvalidTxn", Well("commit and rollback consume the transaction"), None),
        ("ErrTiKVServerTimeout", spent(BackoffKind::TikvRpc), Some(StoreUnavailable)),
        ("ErrTiFlashServerTimeout", Later("TiFlash is not asked"), None),
        ("ErrTiFlashServerBusy", Later("TiFlash is not asked"), None),
        ("ErrQueryInterrupted", Well("who drops an operation hears no more of it"), None),
        ("ErrTiKVStaleCommand", spent(BackoffKind::StaleCommand), Some(RegionUnavailable)),
        (
            "ErrTiKVMaxTimestampNotSynced",
            spent(BackoffKind::MaxTsNotSynced),
            Some(RegionUnavailable),
        ),
        (
            "ErrLockAcquireFailAndNoWaitSet",
            lock("nowait a", Some("locked a of @1.0 updated 5")),
            Some(LockNotAvailable { key: "a".into(), lock_ts: 1 << 18 }),
        ),
        (
            "ErrLockWaitTimeout",
            lock("wait:0 a", Some("locked a of @1.0 updated 5")),
            Some(LockWaitTimeout { key: "a".into(), lock_ts: 1 << 18 }),
        ),
        ("ErrResolveLockTimeout, write", spent(BackoffKind::TxnLock), Some(locked())),
        ("ErrResolveLockTimeout, read", spent(BackoffKind::TxnLockFast), Some(locked())),
        ("ErrResolveLockTimeout, not found", spent(BackoffKind::TxnNotFound), Some(locked())),
        (
            "ErrTiKVServerBusy",
            region(errorpb::Error { server_is_busy: none(), ..region_error() }),
            Some(ServerBusy),
        ),
        ("ErrRegionUnavailable, miss", spent(BackoffKind::RegionMiss), Some(RegionUnavailable)),
        (
            "ErrRegionUnavailable, scheduling",
            spent(BackoffKind::RegionScheduling),
            Some(RegionUnavailable),
        ),
        (
            "ErrRegionDataNotReady",
            region(errorpb::Error { data_is_not_ready: none(), ..region_error() }),
            Some(RegionUnavailable),
        ),
        (
            "ErrRegionNotInitialized",
            spent(BackoffKind::RegionNotInitialized),
            Some(RegionUnavailable),
        ),
        ("ErrTiKVDiskFull", spent(BackoffKind::DiskFull), Some(DiskFull)),
        ("ErrCommitTSLag", spent(BackoffKind::CommitTsLag), Some(CommitTsLag)),
        (
            "ErrRegionRecoveryInProgress",
            spent(BackoffKind::RegionRecoveryInProgress),
            Some(RegionUnavailable),
        ),
        (
            "ErrRegionFlashbackInProgress",
            region(errorpb::Error { flashback_in_progress: none(), ..region_error() }),
            Some(Refused),
        ),
        (
            "ErrRegionFlashbackNotPrepared",
            region(errorpb::Error { flashback_not_prepared: none(), ..region_error() }),
            Some(Refused),
        ),
        ("ErrIsWitness", spent(BackoffKind::IsWitness), Some(RegionUnavailable)),
        ("ErrUnknown", key(kvrpcpb::KeyError::default()), Some(Protocol)),
        (
            "ErrResultUndetermined",
            region(errorpb::Error { undetermined_result: none(), ..region_error() }),
            Some(Undetermined),
        ),
        (
            "mismatch cluster id",
            In(on_failure(&Failure::status(
                GrpcStatus::FAILED_PRECONDITION,
                "mismatch cluster id, need 1 but got 2",
            ))
            .expect("final")),
            Some(Refused),
        ),
    ];
    check(rows);
}

/// control-plane.md §16, the table of types, and what `ExtractKeyErr` makes plain errors of.
#[test]
fn each_type_has_its_kind() {
    use ErrorKind::*;
    let empty = kvrpcpb::KeyError::default;
    let proto_conflict = kvrpcpb::WriteConflict {
        start_ts: 1,
        conflict_ts: 2,
        key: "k".into(),
        primary: "p".into(),
        conflict_commit_ts: 3,
        reason: kvrpcpb::write_conflict::Reason::Optimistic.into(),
    };
    let says_no = pdpb::ResponseHeader {
        error: Some(pdpb::Error { r#type: 1, message: "no".into() }.into()),
        ..Default::default()
    };
    let pd = pdpb::GetExternalTimestampResponse { header: Some(says_no), timestamp: 0 };
    let pd = reply::external_timestamp(Response::GetExternalTimestamp(pd.into()));
    let exists = kvrpcpb::AlreadyExist { key: "k".into() };
    let rows = [
        ("ErrQueryInterruptedWithSignal", Well("see ErrQueryInterrupted"), None),
        (
            "ErrDeadlock",
            key(kvrpcpb::KeyError { deadlock: none(), ..empty() }),
            Some(Deadlock(Box::default())),
        ),
        ("PDError", In(pd.unwrap_err()), Some(PdRefused)),
        (
            "ErrKeyExist",
            key(kvrpcpb::KeyError { already_exist: Some(exists.into()), ..empty() }),
            Some(KeyExists { key: "k".into() }),
        ),
        (
            "ErrWriteConflict",
            key(kvrpcpb::KeyError { conflict: Some(proto_conflict.into()), ..empty() }),
            Some(conflict()),
        ),
        ("ErrWriteConflictInLatch", Later("local latches"), None),
        (
            "ErrRetryable",
            key(kvrpcpb::KeyError { retryable: "again".into(), ..empty() }),
            Some(TxnRetryable),
        ),
        (
            "ErrTxnTooLarge",
            buffered(|limits| limits.total = 5, 1, "12345"),
            Some(TxnTooLarge { size: 6, limit: 5 }),
        ),
        (
            "ErrKeyTooLarge",
            buffered(|_| (), 65_536, "v"),
            Some(KeyTooLarge { size: 65_536, limit: 65_535 }),
        ),
        (
            "ErrEntryTooLarge",
            buffered(|limits| limits.entry = 5, 1, "12345"),
            Some(EntryTooLarge { size: 6, limit: 5 }),
        ),
        ("ErrPDServerTimeout", spent(BackoffKind::PdRpc), Some(PdUnavailable)),
        ("ErrTxnAbortedByGC", Well("see the operations below: a read tells it"), None),
        ("ErrTokenLimit", Well("a request over the limit waits for its turn"), None),
        (
            "ErrAssertionFailed",
            key(kvrpcpb::KeyError { assertion_failed: none(), ..empty() }),
            Some(AssertionFailed(Box::new(crate::AssertionFailure {
                start_ts: 0,
                key: Default::default(),
                assertion: crate::Assertion::None,
                existing_start_ts: 0,
                existing_commit_ts: 0,
            }))),
        ),
        ("ErrLockOnlyIfExistsNoReturnValue", lock("only a", None), Some(InvalidArgument)),
        ("ErrLockOnlyIfExistsNoPrimaryKey", lock("values only a b", None), Some(InvalidArgument)),
        ("ErrLatestStaleRead", In(latest_stale_read()), Some(InvalidArgument)),
        ("ErrClientResourceGroupThrottled", Later("resource control"), None),
        ("ErrClientResourceGroupConfigUnavailable", Later("resource control"), None),
        ("ErrClientGetResourceGroup", Later("resource control"), None),
        ("Abort", key(kvrpcpb::KeyError { abort: "a".into(), ..empty() }), Some(Refused)),
        (
            "CommitTsTooLarge",
            key(kvrpcpb::KeyError { commit_ts_too_large: none(), ..empty() }),
            Some(Refused),
        ),
        ("TxnNotFound", key(kvrpcpb::KeyError { txn_not_found: none(), ..empty() }), Some(Refused)),
    ];
    check(rows);
    // No connection: never the end by itself; of a spent budget it is the reason.
    assert_eq!(on_failure(&Failure::not_sent("refused")), None, "client.ErrConn");
}

fn check<const N: usize>(rows: [(&str, End, Option<ErrorKind>); N]) {
    for (row, end, kind) in rows {
        match end {
            In(error) => {
                assert_eq!(Some(error.kind()), kind.as_ref(), "{row}");
                assert!(!error.message().is_empty(), "{row}");
                let in_doubt = row == "ErrResultUndetermined";
                assert_eq!(error.is_undetermined(), in_doubt, "{row}");
            }
            Well(why) | Later(why) => assert!(kind.is_none() && !why.is_empty(), "{row}"),
        }
    }
}

/// control-plane.md §16: errors, and answers instead of errors, that only a whole operation shows.
#[test]
fn each_whole_operation_ends_as_its_row_says() {
    for (row, mode, inputs, end) in [
        ("ErrNotExist", Raw, &["get k", "1 none"][..], "= none"),
        ("ErrNotExist", Txn, &["tget k @900.1", "1 none"], "= none"),
        ("ErrTiDBShuttingDown", Raw, &["get k", "close"], "= Closed"),
        (
            "ErrFutureTSRead",
            Txn,
            &["set validate", "ready", "silence tso", "tget k @1000.8", "1 @1000.7"],
            "= op 2: FutureTimestamp",
        ),
        (
            "ErrTxnAbortedByGC",
            Txn,
            &["set visibility", "safe_point @901.0", "tget k @900.1", "1 none"],
            "= TxnAbortedByGc",
        ),
        ("ErrTokenLimit", Raw, &["set limit 1", "get a", "get b", "1 none"], "= op 1: none"),
        ("ErrQueryInterrupted", Raw, &["get k", "cancel 1", "1 none"], ""),
    ] {
        let last = told(mode, inputs);
        if end.is_empty() {
            assert_eq!(last, end, "{row}");
        } else {
            assert!(last.starts_with(end), "{row}: {last}");
        }
    }
}
