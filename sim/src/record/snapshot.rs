//! A snapshot that is written down, and the ranges that are read.

use anatase_client::{BoundRange, Bytes, Result, Snapshot};

use super::Open;
use crate::history::Held;

/// A snapshot whose every read is written down.
#[derive(Debug)]
pub struct RecordedSnapshot {
    snapshot: Snapshot,
    entry: Open,
}

impl RecordedSnapshot {
    pub(super) fn new(snapshot: Snapshot, entry: Open) -> Self {
        Self { snapshot, entry }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// Those of the client; likewise below.
    pub async fn get(&self, key: &Bytes) -> Result<Held> {
        let value = self.entry.call(self.snapshot.get(key.clone())).await?;
        self.entry.read(key, &value);
        Ok(value)
    }

    /// Reads many keys. Values are in the order of the keys.
    pub async fn batch_get(&self, keys: &[Bytes]) -> Result<Vec<Held>> {
        let values = self.entry.call(self.snapshot.batch_get(keys.iter().cloned())).await?;
        keys.iter().zip(&values).for_each(|(key, value)| self.entry.read(key, value));
        Ok(values)
    }

    /// Reads a range.
    pub async fn scan(
        &self,
        range: Range,
        limit: u32,
        reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let pairs = match reverse {
            false => self.entry.call(self.snapshot.scan(range.bounds(), limit)).await?,
            true => self.entry.call(self.snapshot.scan_reverse(range.bounds(), limit)).await?,
        };
        Ok(self.entry.scanned(&range, limit, reverse, pairs))
    }
}

/// A range of keys from one to before another; without an end if that is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first key.
    pub start: Bytes,
    /// The first key beyond.
    pub end: Bytes,
}

impl Range {
    /// All keys that begin with a prefix, which ends with a byte below 255.
    pub fn prefix(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        Self { start: Bytes::copy_from_slice(prefix.as_bytes()), end: end.into() }
    }

    pub(super) fn bounds(&self) -> BoundRange {
        match self.end.is_empty() {
            true => BoundRange::range_from(self.start.clone()),
            false => (self.start.clone()..self.end.clone()).into(),
        }
    }
}
