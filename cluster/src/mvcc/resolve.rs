//! Resolving the locks of transactions whose fate is known (transactions.md §16).

use std::collections::BTreeMap;

use super::{Change, Key, KeyError, Mvcc, commit::invalid_ts};

impl Mvcc {
    /// Commits (`commit_ts` not 0) or rolls back these keys of a transaction. A key without its
    /// lock is judged as by a commit or a rollback.
    pub(crate) fn resolve_keys(
        &self,
        keys: &[Key],
        start_ts: u64,
        commit_ts: u64,
    ) -> Result<Vec<Change>, KeyError> {
        let mut changes = Vec::new();
        for key in keys {
            changes.extend(match commit_ts {
                0 => self.cleanup(key, start_ts, 0, false)?,
                _ => self.commit_one(key, start_ts, commit_ts)?,
            });
        }
        Ok(changes)
    }

    /// Commits or rolls back whatever locks these transactions (start timestamp to commit
    /// timestamp, or 0) have in a memcomparable range.
    pub(crate) fn resolve_range(
        &self,
        start: &[u8],
        end: &[u8],
        fates: &BTreeMap<u64, u64>,
    ) -> Result<Vec<Change>, KeyError> {
        let mut changes = Vec::new();
        for (encoded, user_key, lock) in self.locks_between(start, end) {
            let Some(&commit_ts) = fates.get(&lock.start_ts) else { continue };
            let key = Key { user: user_key.clone(), encoded: encoded.clone() };
            changes.extend(match commit_ts {
                0 => self.cleanup(&key, lock.start_ts, 0, false)?,
                ts if ts > lock.start_ts => self.commit_one(&key, lock.start_ts, ts)?,
                ts => return Err(invalid_ts(lock.start_ts, ts)),
            });
        }
        Ok(changes)
    }
}
