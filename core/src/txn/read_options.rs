//! How a snapshot is to be read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Priority;

/// What a read sees of transactions that are not committed at its timestamp
/// (`transactions.md` §17.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IsolationLevel {
    /// Snapshot isolation: exactly what was committed at or before the timestamp. A read waits for a
    /// lock whose transaction may still commit there.
    #[default]
    Si,
    /// Read committed: what is committed when the read arrives, at or before the timestamp. Locks are
    /// ignored, so two reads at one timestamp may differ.
    Rc,
    /// Read committed, with a check: if there is a lock, or a version newer than the timestamp, the
    /// read fails with a write conflict
    /// ([`ConflictReason::RcCheckTs`](crate::ConflictReason::RcCheckTs)) and can be repeated at a newer
    /// timestamp.
    RcCheckTs,
}

/// How a snapshot is to be read. The default is client-go's (`transactions.md` §17.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReadOptions {
    /// What is seen of transactions that are not committed.
    pub isolation: IsolationLevel,
    /// How urgent it is.
    pub priority: Priority,
    /// The store should not keep in its block cache what it had to read: for reads of much that will
    /// not be read again.
    pub not_fill_cache: bool,
    /// Of scans: of so many pairs in a region one is given. 0 and 1: all.
    pub sample_step: u32,
    /// Tells the store which requests belong together, so that one large task does not push out many
    /// small ones. 0 for none.
    pub task_id: u64,
    /// How long the *first* attempt of each request of a get or a batch get may take; later ones, on
    /// other replicas, have the usual time. `None`: the usual time for all.
    pub timeout: Option<Duration>,
    /// Counted under this tag by the store (`Context.resource_group_tag`).
    pub resource_group_tag: Bytes,
    /// The resource group whose share of the cluster is used, if not the default one.
    pub resource_group_name: Option<Arc<str>>,
    /// Who asks, as the store's statistics and limits name it.
    pub request_source: Option<Arc<str>>,
}
