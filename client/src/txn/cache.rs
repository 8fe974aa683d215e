//! What a snapshot has read before, between its reads and the cluster.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anatase_core::txn::SnapshotCache;
use anatase_core::{Operation, ReadOperation, Reply};
use bytes::Bytes;

use crate::key::Value;

/// Shared by all clones of a snapshot, and by the reads under way.
#[derive(Clone)]
pub(crate) struct Cache(Arc<Mutex<SnapshotCache>>);

/// What there is of a read.
pub(crate) enum Lookup {
    /// All of it.
    Known(Reply),
    /// This has to be asked for.
    Ask(Operation, Fill),
}

/// Puts an answer in its place: in the cache, and between what was known.
pub(crate) struct Fill {
    cache: Cache,
    /// The keys that are asked for.
    keys: Vec<Bytes>,
    /// Of a batch: what was known, and `None` where the next answer belongs.
    known: Vec<Option<Option<Value>>>,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(SnapshotCache::new(limit))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SnapshotCache> {
        // Each change of a cache is complete or did not happen.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a read, and what has to be asked. Scans go by the cache.
    pub(crate) fn look_up(&self, operation: Operation) -> Result<Lookup, Operation> {
        let Operation::Read { op, at, options } = operation else {
            return Err(operation);
        };
        match op {
            ReadOperation::Get { key } => {
                if let Some(value) = self.lock().get(&key) {
                    return Ok(Lookup::Known(Reply::Value(value)));
                }
                let fill = Fill { cache: self.clone(), keys: vec![key.clone()], known: Vec::new() };
                let op = ReadOperation::Get { key };
                Ok(Lookup::Ask(Operation::Read { op, at, options }, fill))
            }
            ReadOperation::BatchGet { keys } => {
                let mut cache = self.lock();
                let known: Vec<_> = keys.iter().map(|key| cache.get(key)).collect();
                drop(cache);
                let unknown = keys.into_iter().zip(&known).filter(|(_, known)| known.is_none());
                let keys: Vec<Bytes> = unknown.map(|(key, _)| key).collect();
                if keys.is_empty() {
                    return Ok(Lookup::Known(Reply::Values(known.into_iter().flatten().collect())));
                }
                let fill = Fill { cache: self.clone(), keys: keys.clone(), known };
                let op = ReadOperation::BatchGet { keys };
                Ok(Lookup::Ask(Operation::Read { op, at, options }, fill))
            }
            op => Err(Operation::Read { op, at, options }),
        }
    }
}

impl Fill {
    /// The whole answer.
    pub(crate) fn complete(self, reply: Reply) -> Reply {
        match reply {
            Reply::Value(value) => {
                for key in self.keys {
                    self.cache.lock().insert(key, value.clone());
                }
                Reply::Value(value)
            }
            Reply::Values(values) => {
                let mut cache = self.cache.lock();
                for (key, value) in self.keys.into_iter().zip(&values) {
                    cache.insert(key, value.clone());
                }
                let mut values = values.into_iter();
                let whole = self.known.into_iter();
                Reply::Values(
                    whole.map(|known| known.unwrap_or_else(|| values.next().flatten())).collect(),
                )
            }
            other => other,
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}
