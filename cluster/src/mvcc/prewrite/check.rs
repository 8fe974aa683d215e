//! What forbids a prewrite on a key without a lock: newer records, values that must not be there,
//! assertions.

use anatase_proto::kvrpcpb::{Assertion, AssertionLevel};

use super::{Check, Mutation, Prewrite};
use crate::mvcc::{KeyError, Mvcc, NotFound, Reason, Record, WriteKind};

impl Mvcc {
    /// Whether a record of the key forbids the prewrite.
    pub(super) fn check_newer(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
    ) -> Result<(), KeyError> {
        let mut records = self.records(&mutation.key);
        loop {
            let Some((newest, older)) = records.split_first() else { return Ok(()) };
            let conflict = |reason| KeyError::Conflict {
                start_ts: request.start_ts,
                conflict_start_ts: newest.start_ts,
                conflict_commit_ts: newest.commit_ts,
                key: mutation.key.user.clone(),
                primary: request.primary.clone(),
                reason,
            };
            let rolled_back = newest.commit_ts == request.start_ts
                && (newest.kind == WriteKind::Rollback || newest.overlapped_rollback);
            if rolled_back {
                return Err(conflict(Reason::SelfRolledBack));
            }
            let after_start = newest.commit_ts > request.start_ts;
            let Some(for_update_ts) = request.for_update_ts else {
                if after_start {
                    return Err(conflict(Reason::Optimistic));
                }
                break;
            };
            if after_start && mutation.check == Check::Constraint {
                return Err(conflict(Reason::LazyUniquenessCheck));
            }
            if newest.commit_ts <= for_update_ts {
                break;
            }
            // Others may be rolled back on a key at any time, also while a row is locked that the
            // key belongs to.
            if newest.kind != WriteKind::Rollback {
                return Err(request.lock_not_found(&mutation.key, NotFound::NonLockKeyConflict));
            }
            records = older;
        }
        let exists = newest_data(records).is_some_and(|record| record.kind == WriteKind::Put);
        if mutation.op.wants_absence() && exists {
            return Err(KeyError::AlreadyExist { key: mutation.key.user.clone() });
        }
        Ok(())
    }

    /// Where a pessimistic lock is missing: whether the key can have been written since it was
    /// granted. If not, it may be prewritten all the same (transactions.md §20.3, second rule).
    pub(super) fn amend_lock(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
    ) -> Result<(), KeyError> {
        match self.records(&mutation.key).first() {
            // When it was granted is not known; after the transaction began, certainly.
            Some(newest) if newest.commit_ts >= request.start_ts => {
                Err(request.lock_not_found(&mutation.key, NotFound::LockMissingAmendFail))
            }
            _ => Ok(()),
        }
    }

    /// `looked` says that the newest record has been looked at: if not, only level `Strict` does.
    /// `checked` says that it was looked at for what forbids the prewrite.
    pub(super) fn check_assertion(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
        looked: bool,
        checked: bool,
    ) -> Result<(), KeyError> {
        match request.assertion_level {
            AssertionLevel::Off => return Ok(()),
            AssertionLevel::Fast if !looked => return Ok(()),
            AssertionLevel::Fast | AssertionLevel::Strict => {}
        }
        let data = newest_data(self.records(&mutation.key));
        let (start_ts, commit_ts) = data.map_or((0, 0), |data| (data.start_ts, data.commit_ts));
        let exists = data.is_some_and(|data| data.kind == WriteKind::Put);
        let holds = match mutation.assertion {
            Assertion::None => true,
            Assertion::Exist => exists,
            Assertion::NotExist => !exists,
        };
        if holds {
            return Ok(());
        }
        if !checked {
            // A rollback may be what made the assertion false: that is the better answer.
            self.check_newer(request, mutation)?;
        }
        Err(KeyError::AssertionFailed {
            start_ts: request.start_ts,
            key: mutation.key.user.clone(),
            assertion: mutation.assertion as i32,
            existing_start_ts: start_ts,
            existing_commit_ts: commit_ts,
        })
    }
}

/// The newest record that is a value or a deletion.
fn newest_data(records: &[Record]) -> Option<&Record> {
    records.iter().find(|record| matches!(record.kind, WriteKind::Put | WriteKind::Delete))
}
