//! Keys on their way in: the keyspace's prefix off every key of an answer, errors included
//! (raw.md §6.3, control-plane.md §11).
//!
//! Done once, where a region call gets its answer, so that nobody behind it ever sees a key that is not
//! the application's. Keys become slices of the bytes they arrived in. A key of another keyspace is not
//! handed out, nor passed over: the answer as a whole makes no sense.
//!
//! Not here: the bounds of regions, which are in PD's form and decoded where regions are
//! (`decode_region`, so also those of `EpochNotMatch` and of a split), and region errors' other keys,
//! which are not kept. Texts of a server are passed on as they are.

use anatase_proto::{coprocessor, deadlock, kvrpcpb};
use bytes::Bytes;

use crate::codec::{CodecError, Prefix};
use crate::operation::KeyRange;
use crate::wire::Response;

/// A message with keys in it.
pub(super) trait Strip {
    fn strip(&mut self, prefix: Prefix) -> Result<(), CodecError>;
}

impl Strip for Bytes {
    fn strip(&mut self, prefix: Prefix) -> Result<(), CodecError> {
        *self = prefix.strip(self)?;
        Ok(())
    }
}

impl<T: Strip> Strip for Vec<T> {
    fn strip(&mut self, prefix: Prefix) -> Result<(), CodecError> {
        self.iter_mut().try_for_each(|one| one.strip(prefix))
    }
}

impl<T: Strip> Strip for Option<T> {
    fn strip(&mut self, prefix: Prefix) -> Result<(), CodecError> {
        self.iter_mut().try_for_each(|one| one.strip(prefix))
    }
}

impl<T: Strip> Strip for Box<T> {
    fn strip(&mut self, prefix: Prefix) -> Result<(), CodecError> {
        (**self).strip(prefix)
    }
}

macro_rules! keys {
    ($($package:ident::$message:ident { $($field:ident),* })*) => {
        $(
            impl Strip for $package::$message {
                fn strip(&mut self, _prefix: Prefix) -> Result<(), CodecError> {
                    $(self.$field.strip(_prefix)?;)*
                    Ok(())
                }
            }
        )*
    };
}

// Parts.
keys! {
    kvrpcpb::KvPair { key, error }
    kvrpcpb::LockInfo { key, primary_lock, secondaries, shared_lock_infos }
    kvrpcpb::KeyError {
        locked, conflict, already_exist, deadlock, commit_ts_expired, txn_not_found,
        assertion_failed, primary_mismatch, txn_lock_not_found, lock_upgrade_conflict,
        shared_lock_lost, debug_info
    }
    kvrpcpb::WriteConflict { key, primary }
    kvrpcpb::AlreadyExist { key }
    kvrpcpb::Deadlock { lock_key, deadlock_key, wait_chain }
    kvrpcpb::CommitTsExpired { key }
    kvrpcpb::TxnNotFound { primary_key }
    kvrpcpb::AssertionFailed { key }
    kvrpcpb::PrimaryMismatch { lock_info }
    kvrpcpb::TxnLockNotFound { key }
    kvrpcpb::LockUpgradeConflict { key }
    kvrpcpb::SharedLockLost { key }
    kvrpcpb::DebugInfo { mvcc_info }
    kvrpcpb::MvccDebugInfo { key, mvcc }
    kvrpcpb::MvccInfo { lock }
    kvrpcpb::MvccLock { primary, secondaries }
    deadlock::WaitForEntry { key }
}

// Answers.
keys! {
    kvrpcpb::GetResponse { error }
    kvrpcpb::BatchGetResponse { pairs, error }
    kvrpcpb::ScanResponse { pairs, error }
    kvrpcpb::PrewriteResponse { errors }
    kvrpcpb::CommitResponse { error }
    kvrpcpb::BatchRollbackResponse { error }
    kvrpcpb::PessimisticLockResponse { errors }
    kvrpcpb::PessimisticRollbackResponse { errors }
    kvrpcpb::TxnHeartBeatResponse { error }
    kvrpcpb::CheckTxnStatusResponse { error, lock_info }
    kvrpcpb::ResolveLockResponse { error }
    kvrpcpb::CheckSecondaryLocksResponse { error, locks }
    kvrpcpb::ScanLockResponse { error, locks }
    kvrpcpb::RawBatchGetResponse { pairs }
    kvrpcpb::RawScanResponse { kvs }
}

// Answers to what is not asked yet.
keys! {
    kvrpcpb::BufferBatchGetResponse { pairs, error }
    kvrpcpb::CleanupResponse { error }
    kvrpcpb::GcResponse { error }
    kvrpcpb::FlushResponse { errors }
    kvrpcpb::SplitRegionResponse { errors }
    kvrpcpb::MvccGetByKeyResponse { info }
    kvrpcpb::MvccGetByStartTsResponse { key, info }
    kvrpcpb::CheckLockObserverResponse { locks }
    kvrpcpb::PhysicalScanLockResponse { locks }
    kvrpcpb::GetLockWaitInfoResponse { entries }
    kvrpcpb::RawBatchScanResponse { kvs }
    coprocessor::Response { range, locked, batch_responses }
    coprocessor::StoreBatchTaskResponse { locked }
}

/// What was read of a range: an end at or behind that of the keyspace is none.
impl Strip for coprocessor::KeyRange {
    fn strip(&mut self, prefix: Prefix) -> Result<(), CodecError> {
        let range = KeyRange { start: self.start.clone(), end: self.end.clone() };
        let KeyRange { start, end } = prefix.clip(&range)?;
        (self.start, self.end) = (start, end);
        Ok(())
    }
}

impl Response {
    /// Takes the prefix off every key, once the region error is out.
    ///
    /// # Errors
    /// If a key has another prefix. Then the answer is not to be used: some of its keys are stripped,
    /// some are not.
    pub(crate) fn strip(&mut self, prefix: Prefix) -> Result<(), CodecError> {
        match self {
            Self::Get(message) => message.strip(prefix),
            Self::BatchGet(message) => message.strip(prefix),
            Self::Scan(message) => message.strip(prefix),
            Self::Prewrite(message) => message.strip(prefix),
            Self::Commit(message) => message.strip(prefix),
            Self::BatchRollback(message) => message.strip(prefix),
            Self::PessimisticLock(message) => message.strip(prefix),
            Self::PessimisticRollback(message) => message.strip(prefix),
            Self::TxnHeartBeat(message) => message.strip(prefix),
            Self::CheckTxnStatus(message) => message.strip(prefix),
            Self::ResolveLock(message) => message.strip(prefix),
            Self::CheckSecondaryLocks(message) => message.strip(prefix),
            Self::ScanLock(message) => message.strip(prefix),
            Self::RawBatchGet(message) => message.strip(prefix),
            Self::RawScan(message) => message.strip(prefix),
            // No keys in them.
            Self::RawGet(_)
            | Self::RawPut(_)
            | Self::RawDelete(_)
            | Self::RawBatchPut(_)
            | Self::RawBatchDelete(_)
            | Self::RawGetKeyTtl(_)
            | Self::RawCompareAndSwap(_)
            | Self::RawDeleteRange(_)
            | Self::RawChecksum(_)
            | Self::RawCoprocessor(_) => Ok(()),
            // Regions are decoded where they are installed; the rest is of no region.
            Self::GetMembers(_)
            | Self::GetRegion(_)
            | Self::GetPrevRegion(_)
            | Self::GetRegionById(_)
            | Self::ScanRegions(_)
            | Self::BatchScanRegions(_)
            | Self::GetStore(_)
            | Self::LoadKeyspace(_)
            | Self::GetMinTs(_)
            | Self::GetExternalTimestamp(_)
            | Self::GetGcState(_)
            | Self::SetExternalTimestamp(_)
            | Self::HealthCheck(_)
            | Self::Timestamps(_) => Ok(()),
        }
    }
}
