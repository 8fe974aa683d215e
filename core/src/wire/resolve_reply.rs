//! Answers to the questions about locks and transactions that a resolution asks
//! (`transactions.md` §16, §20.2). That of `KvCheckTxnStatus` is beside its older kin in `reply.rs`.

use anatase_proto::kvrpcpb;

use crate::error::Error;
use crate::timestamp::Timestamp;
use crate::wire::Response;
use crate::wire::key_error::{self, KeyError, Lock, impossible};
use crate::wire::reply::{another, message_of};

/// Answers `KvCheckSecondaryLocks`: what a region knows of some secondaries of an async commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SecondariesReply {
    /// The locks that are there. Fewer than keys asked about: at least one is not, and the fate of the
    /// transaction is decided.
    pub(crate) locks: Vec<Lock>,
    /// When the transaction was committed. `None`, where locks are missing: never.
    pub(crate) commit_ts: Option<Timestamp>,
}

pub(crate) fn check_secondary_locks(response: Response) -> Result<SecondariesReply, Error> {
    let message = message_of!(response, CheckSecondaryLocks);
    if let Some(error) = message.error {
        return Err(KeyError::from_proto(*error).into_error());
    }
    let commit_ts = Timestamp::from_version(message.commit_ts);
    Ok(SecondariesReply { locks: locks(message.locks)?, commit_ts })
}

/// The locks of a page, those that share a key one by one.
pub(crate) fn scan_lock(response: Response) -> Result<Vec<Lock>, Error> {
    let message = message_of!(response, ScanLock);
    if let Some(error) = message.error {
        return Err(KeyError::from_proto(*error).into_error());
    }
    locks(message.locks)
}

fn locks(infos: Vec<kvrpcpb::LockInfo>) -> Result<Vec<Lock>, Error> {
    let mut all = Vec::with_capacity(infos.len());
    for info in infos {
        all.extend(key_error::locks(info).map_err(impossible)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::wire::reply::samples::abort;

    fn info(key: &'static str, start: u64) -> kvrpcpb::LockInfo {
        kvrpcpb::LockInfo { lock_version: start, key: key.into(), ..Default::default() }
    }

    /// transactions.md §20.2.
    #[test]
    fn secondaries_are_locked_or_their_fate_is_told() {
        let message = kvrpcpb::CheckSecondaryLocksResponse::default;
        let read = |message| check_secondary_locks(Response::CheckSecondaryLocks(message));
        let some = kvrpcpb::CheckSecondaryLocksResponse {
            locks: vec![info("a", 5), info("b", 5)],
            ..message()
        };
        let reply = read(some).unwrap();
        assert_eq!((reply.locks.len(), reply.commit_ts), (2, None));
        let committed = kvrpcpb::CheckSecondaryLocksResponse { commit_ts: 7, ..message() };
        assert_eq!(read(committed).unwrap().commit_ts, Timestamp::from_version(7));
        assert_eq!(read(message()), Ok(SecondariesReply::default()));
        let failed =
            kvrpcpb::CheckSecondaryLocksResponse { error: Some(abort().into()), ..message() };
        assert_eq!(read(failed).unwrap_err().kind(), &ErrorKind::Refused);
        let nobody =
            kvrpcpb::CheckSecondaryLocksResponse { locks: vec![info("a", 0)], ..message() };
        assert_eq!(read(nobody).unwrap_err().kind(), &ErrorKind::Protocol);
    }

    /// transactions.md §18: «ScanLock expands shared wrappers».
    #[test]
    fn a_page_of_locks_is_expanded() {
        let mut shared = info("s", 1);
        shared.lock_type = kvrpcpb::Op::SharedLock.into();
        shared.shared_lock_infos = vec![info("s", 8), info("s", 9)];
        let message =
            kvrpcpb::ScanLockResponse { locks: vec![info("a", 5), shared], ..Default::default() };
        let locks = scan_lock(Response::ScanLock(message)).unwrap();
        let starts: Vec<u64> = locks.iter().map(|lock| lock.start_ts.version()).collect();
        assert_eq!(starts, [5, 8, 9]);
        let message =
            kvrpcpb::ScanLockResponse { error: Some(abort().into()), ..Default::default() };
        assert_eq!(scan_lock(Response::ScanLock(message)).unwrap_err().kind(), &ErrorKind::Refused);
    }
}
