//! A snapshot that is written down, and the ranges that are read.

use anatase_client::{BoundRange, Bytes, Result, Snapshot};

use super::Open;
use crate::history::{Held, Scan, Step};

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

    async fn call<T>(&self, call: impl IntoFuture<Output = Result<T>>) -> Result<T> {
        self.entry.prolong();
        let told = call.await;
        self.entry.settle();
        told.map_err(|error| self.entry.failed(error))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// Those of the client; likewise below.
    pub async fn get(&self, key: &Bytes) -> Result<Held> {
        let value = self.call(self.snapshot.get(key.clone())).await?;
        self.entry.step(Step::Read { key: key.clone(), value: value.clone() });
        Ok(value)
    }

    /// Reads many keys. Values are in the order of the keys.
    pub async fn batch_get(&self, keys: &[Bytes]) -> Result<Vec<Held>> {
        let values = self.call(self.snapshot.batch_get(keys.iter().cloned())).await?;
        for (key, value) in keys.iter().zip(&values) {
            self.entry.step(Step::Read { key: key.clone(), value: value.clone() });
        }
        Ok(values)
    }

    /// Reads a range.
    pub async fn scan(
        &self,
        range: Range,
        limit: u32,
        reverse: bool,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let asked = match reverse {
            false => self.call(self.snapshot.scan(range.bounds(), limit)).await?,
            true => self.call(self.snapshot.scan_reverse(range.bounds(), limit)).await?,
        };
        let pairs = plain(asked);
        self.entry.step(range.scan(limit, reverse, pairs.clone()));
        Ok(pairs)
    }
}

pub(super) fn plain(pairs: Vec<anatase_client::KvPair>) -> Vec<(Bytes, Bytes)> {
    let plain = |pair: anatase_client::KvPair| (pair.key().clone().into(), pair.into_value());
    pairs.into_iter().map(plain).collect()
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

    pub(super) fn scan(&self, limit: u32, reverse: bool, pairs: Vec<(Bytes, Bytes)>) -> Step {
        let (start, end) = (self.start.clone(), self.end.clone());
        Step::Scan(Scan { start, end, limit: limit as usize, reverse, key_only: false, pairs })
    }
}
