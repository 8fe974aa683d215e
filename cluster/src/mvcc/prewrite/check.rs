//! What forbids a prewrite on a key without a lock: newer records, values that must not be there,
//! assertions.

use anatase_proto::kvrpcpb::{Assertion, AssertionLevel};

use super::{Mutation, Prewrite};
use crate::mvcc::{KeyError, Mvcc, Reason, Record, WriteKind};

impl Mvcc {
    /// The newest record of the key, if it does not forbid the prewrite.
    pub(super) fn check_newer(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
    ) -> Result<Option<&Record>, KeyError> {
        let records = self.records(&mutation.key);
        let Some(newest) = records.first() else { return Ok(None) };
        let rolled_back = newest.commit_ts == request.start_ts
            && (newest.kind == WriteKind::Rollback || newest.overlapped_rollback);
        if rolled_back || newest.commit_ts > request.start_ts {
            return Err(KeyError::Conflict {
                start_ts: request.start_ts,
                conflict_start_ts: newest.start_ts,
                conflict_commit_ts: newest.commit_ts,
                key: mutation.key.user.clone(),
                primary: request.primary.clone(),
                reason: if rolled_back { Reason::SelfRolledBack } else { Reason::Optimistic },
            });
        }
        let exists = newest_data(records).is_some_and(|record| record.kind == WriteKind::Put);
        if mutation.op.wants_absence() && exists {
            return Err(KeyError::AlreadyExist { key: mutation.key.user.clone() });
        }
        Ok(Some(newest))
    }

    /// `newest` is what the constraint check found, `None` if there was no such check: then only
    /// level `Strict` looks.
    pub(super) fn check_assertion(
        &self,
        request: &Prewrite,
        mutation: &Mutation,
        newest: Option<Option<&Record>>,
    ) -> Result<(), KeyError> {
        let looked = newest.is_some();
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
        if !looked {
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
