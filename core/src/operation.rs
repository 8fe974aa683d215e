//! What an application can ask of the core, and what it gets back.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::AssertionFailure;
use crate::id::RegionVersion;
use crate::lock_plan::{LockPlan, LockReply, PessimisticRollbackPlan};
use crate::locks::{
    FoundLock, LocksResolved, ResolveLocksPlan, ScanLocksPlan, TxnState, TxnStatusPlan,
};
use crate::region::LocatedRegion;
use crate::time::Instant;
use crate::timestamp::Timestamp;
use crate::txn::{ReadOptions, TxnOptions};

/// A key as the application knows it: without any prefix or encoding.
pub type Key = Bytes;
/// A value.
pub type Value = Bytes;

/// A pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvPair {
    /// The key.
    pub key: Key,
    /// The value; empty in key-only scans.
    pub value: Value,
}

/// `start ≤ key < end`, where an empty `end` means «no upper bound».
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// The first key that belongs.
    pub start: Key,
    /// The first key that does not; empty for none.
    pub end: Key,
}

impl KeyRange {
    /// The range `[start, end)`.
    pub fn new(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// From any pair of bounds.
    ///
    /// An inclusive end `k` becomes the exclusive end `k ‖ 0x00`, the next key in byte order. An
    /// *exclusive empty end* (`..""`) holds no key at all and is not the same as no end; since the
    /// wire cannot say it, it becomes the empty range `[0x00, 0x00)`.
    pub fn from_bounds(start: Bound<Key>, end: Bound<Key>) -> Self {
        let start = match start {
            Bound::Included(key) => key,
            Bound::Excluded(key) => next_key(&key),
            Bound::Unbounded => Key::new(),
        };
        match end {
            Bound::Included(key) => Self { start, end: next_key(&key) },
            Bound::Excluded(key) if key.is_empty() => {
                let nothing = Key::from_static(&[0]);
                Self { start: nothing.clone(), end: nothing }
            }
            Bound::Excluded(key) => Self { start, end: key },
            Bound::Unbounded => Self { start, end: Key::new() },
        }
    }

    /// Whether no key can be in it. A reversed range is empty, not an error.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && (self.end.is_empty() || key < self.end)
    }
}

/// The smallest key after `key` in byte order.
pub fn next_key(key: &[u8]) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// A column family of the raw API. TiKV's API V1 knows `default`, `lock` and `write`; any other name
/// is for the server to refuse.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnFamily(Option<Arc<str>>);

impl ColumnFamily {
    /// The default column family.
    pub const DEFAULT: Self = Self(None);

    /// The column family called `name`; the empty name and `default` are the default.
    pub fn new(name: &str) -> Self {
        if name.is_empty() || name == "default" { Self(None) } else { Self(Some(name.into())) }
    }

    /// Its name on the wire: empty for the default.
    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }
}

impl From<&str> for ColumnFamily {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for ColumnFamily {
    fn from(name: String) -> Self {
        Self::new(&name)
    }
}

impl fmt::Display for ColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("default"))
    }
}

/// What an application can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Wait until PD's leader is known. Answered by [`Reply::Done`].
    Ready,
    /// A fresh timestamp from PD. Answered by [`Reply::Timestamp`].
    Timestamp,
    /// A timestamp that PD handed out within the last
    /// [`low_resolution_interval`](crate::Config::low_resolution_interval), most often without
    /// asking. Answered by [`Reply::Timestamp`].
    LowResolutionTimestamp,
    /// About the timestamp that PD handed out so long ago. Answered by [`Reply::Timestamp`].
    StaleTimestamp {
        /// How long ago.
        previous: Duration,
    },
    /// The smallest of the timestamps that PD's timestamp services have reached, where there are
    /// several; a fresh one where there is one. Answered by [`Reply::Timestamp`].
    MinTimestamp,
    /// The external timestamp that is stored in PD. Answered by [`Reply::ExternalTimestamp`].
    ExternalTimestamp,
    /// Stores the external timestamp, which neither goes back nor ahead of PD's time. Answered by
    /// [`Reply::Done`].
    SetExternalTimestamp(Timestamp),
    /// Sets how old a low-resolution timestamp may be, as
    /// [`Config::low_resolution_interval`](crate::Config::low_resolution_interval) does at the start.
    /// Nothing is sent. Answered by [`Reply::Done`].
    SetLowResolutionInterval(Duration),
    /// An operation of the raw API, in one column family.
    Raw {
        /// What to do.
        op: RawOperation,
        /// In which column family.
        cf: ColumnFamily,
    },
    /// Which regions these ranges lie in. Answered by [`Reply::Regions`], in the order of the
    /// ranges; empty and reversed ones are left out. Regions may move at any time: what is done
    /// with the answer has to name the region's version.
    Regions {
        /// The ranges.
        ranges: Vec<KeyRange>,
    },
    /// Which regions these keys lie in, whatever their order. Answered by [`Reply::KeyGroups`], in the
    /// order of regions; within a group keys stand as they were given, repeats included.
    GroupKeys {
        /// The keys.
        keys: Vec<Key>,
    },
    /// One region. Answered by [`Reply::Region`].
    Region(RegionLookup),
    /// Somebody who asked a store outside of the core was told that a region's buckets are at another
    /// version. If the cached ones are older, they are fetched in the background, once at a time for
    /// each region (`control-plane.md` §4.9). Answered by [`Reply::Done`] at once.
    BucketsSeen {
        /// The region, as it was asked.
        region: RegionVersion,
        /// The version of the buckets that the question was made along; 0 for none.
        used: u64,
        /// The version that the store told.
        latest: u64,
    },
    /// A read of a snapshot.
    Read {
        /// What to read.
        op: ReadOperation,
        /// As of when: every transaction committed at or before it is seen, no other is.
        /// [`Timestamp::MAX`] reads what is committed when the request arrives, without a timestamp;
        /// that is no snapshot, and two such reads may differ.
        at: Timestamp,
        /// How, if not as usual.
        options: Option<Arc<ReadOptions>>,
    },
    /// Commit a transaction. Answered by [`Reply::Commit`]; an `Err` means that nothing was sent.
    Commit(Box<CommitPlan>),
    /// Remove the locks that a transaction may have left on `keys`, and keep it from ever taking
    /// them: each key gets a rollback record. Answered by [`Reply::Done`].
    Rollback {
        /// The transaction.
        start_ts: Timestamp,
        /// Every key that may be locked, the primary first.
        keys: Vec<Key>,
    },
    /// Take pessimistic locks. Answered by [`Reply::Locked`]; from then on the primary is kept alive
    /// until the transaction ends. After an error the call holds none of its keys: what it may have
    /// taken is being released.
    Lock(Box<LockPlan>),
    /// Release pessimistic locks. Answered by [`Reply::Done`].
    PessimisticRollback(Box<PessimisticRollbackPlan>),
    /// Finds locks and leaves them alone. Answered by [`Reply::Locks`], in the order of the keys. What
    /// is locked or unlocked meanwhile may be missed or told all the same.
    ScanLocks(Box<ScanLocksPlan>),
    /// Puts an end to every transaction that started at or before a safe point and has locks in a
    /// range: committed if it was, rolled back if not, also if it is running (`transactions.md` §16.5).
    /// Answered by [`Reply::LocksResolved`] when none of its locks is left there. Cancelled or failed,
    /// it leaves the rest of the locks where they are.
    ResolveLocks(Box<ResolveLocksPlan>),
    /// What became of a transaction. Answered by [`Reply::TxnState`]. Asking may decide: a transaction
    /// whose time is over, or whose primary is not written, is rolled back.
    TxnStatus(Box<TxnStatusPlan>),
}

impl Operation {
    /// A read as usual.
    pub fn read(op: ReadOperation, at: Timestamp) -> Self {
        Self::Read { op, at, options: None }
    }

    /// Whether it has to do with time alone, and with no key.
    pub(crate) fn is_about_time(&self) -> bool {
        match self {
            Self::Timestamp
            | Self::LowResolutionTimestamp
            | Self::StaleTimestamp { .. }
            | Self::MinTimestamp
            | Self::ExternalTimestamp
            | Self::SetExternalTimestamp(_)
            | Self::SetLowResolutionInterval(_) => true,
            Self::Ready
            | Self::Raw { .. }
            | Self::Regions { .. }
            | Self::GroupKeys { .. }
            | Self::Region(_)
            | Self::BucketsSeen { .. }
            | Self::Read { .. }
            | Self::Commit(_)
            | Self::Rollback { .. }
            | Self::Lock(_)
            | Self::PessimisticRollback(_)
            | Self::ScanLocks(_)
            | Self::ResolveLocks(_)
            | Self::TxnStatus(_) => false,
        }
    }
}

/// An operation of the raw API. Raw operations are not transactional and see no transaction.
///
/// # Atomic mode
/// Writes that say `atomic` are ordered with [`RawOperation::CompareAndSwap`] on the same key: the
/// store takes them through the same latches (`for_cas` on the wire). Compare-and-swap is atomic
/// only among writers that all do so (`raw.md` §5). Of a batch, what goes to one region in one
/// request is written at once; the whole is not atomic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RawOperation {
    /// Answered by [`Reply::Value`].
    Get {
        /// The key.
        key: Key,
    },
    /// How long a key still lives. Answered by [`Reply::Ttl`].
    GetKeyTtl {
        /// The key.
        key: Key,
    },
    /// Answered by [`Reply::Done`].
    Put {
        /// The key.
        key: Key,
        /// The value; may be empty.
        value: Value,
        /// Seconds to live, 0 for ever.
        ttl_secs: u64,
        /// In atomic mode.
        atomic: bool,
    },
    /// Answered by [`Reply::Done`], also when there was no such key.
    Delete {
        /// The key.
        key: Key,
        /// In atomic mode.
        atomic: bool,
    },
    /// Answered by [`Reply::Values`], one per key in the order asked, duplicates included.
    BatchGet {
        /// The keys, in any order.
        keys: Vec<Key>,
    },
    /// Answered by [`Reply::Done`]. Of several values for one key the last one counts, with its time
    /// to live. Not atomic over regions.
    BatchPut {
        /// The pairs, in any order.
        pairs: Vec<KvPair>,
        /// Seconds to live, 0 for ever: one number for all pairs, or one for each.
        /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if it is neither.
        ttls_secs: Vec<u64>,
        /// In atomic mode.
        atomic: bool,
    },
    /// Answered by [`Reply::Done`]. Not atomic over regions.
    BatchDelete {
        /// The keys, in any order.
        keys: Vec<Key>,
        /// In atomic mode.
        atomic: bool,
    },
    /// Removes all keys of a range, region by region in the order of keys; the first error ends it,
    /// with the regions before it deleted. Not atomic in any mode. Answered by [`Reply::Done`].
    DeleteRange {
        /// Where. An empty or reversed range deletes nothing and sends nothing.
        range: KeyRange,
    },
    /// Answered by [`Reply::Pairs`] in the order of the scan.
    Scan(ScanSpec),
    /// Scans several ranges side by side. Answered by [`Reply::Pairs`]: what is found in the first,
    /// then what is found in the second, and so on. Ranges may overlap and come in any order.
    BatchScan {
        /// The scans, each with its own limit.
        scans: Vec<ScanSpec>,
    },
    /// Writes a key if it is as expected. Answered by [`Reply::Swapped`].
    ///
    /// Never sent again once it may have been executed: a second copy would compare with what the
    /// first has written, and tell a success as a failure (`raw.md` §5, `peers.md` D17). It then
    /// ends with [`ErrorKind::Undetermined`](crate::ErrorKind::Undetermined).
    CompareAndSwap(Box<RawCompareAndSwap>),
    /// Adds up the pairs of a range in the default column family. Answered by [`Reply::Checksum`].
    Checksum {
        /// Where. An empty or reversed range adds up to nothing and sends nothing.
        range: KeyRange,
    },
    /// Asks a coprocessor plug-in of the store. Answered by [`Reply::Bytes`]. Sent to this region at
    /// this version only; if it is no more, it ends with
    /// [`ErrorKind::RegionMoved`](crate::ErrorKind::RegionMoved), and the ranges have to be grouped
    /// anew ([`Operation::Regions`]). May be executed more than once.
    Coprocessor(Box<RawCoprocessor>),
}

/// A write on condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawCompareAndSwap {
    /// The key.
    pub key: Key,
    /// What is expected: this value, or that there is none. An empty value is a value.
    pub previous: Option<Value>,
    /// What is done if it is so.
    pub swap: RawSwap,
}

/// What a compare-and-swap does when the value is as expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RawSwap {
    /// Write.
    Put {
        /// The value; may be empty.
        value: Value,
        /// Seconds to live, 0 for ever: a swap without one ends the life span of the old value.
        ttl_secs: u64,
    },
    /// Remove the key. Only newer stores know this (`RawCASRequest.delete`); older ones write an
    /// empty value.
    Delete,
}

/// A question to a coprocessor plug-in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawCoprocessor {
    /// Of the plug-in.
    pub name: String,
    /// Which versions of it will do: a requirement in the words of semantic versioning.
    pub version_req: String,
    /// The region.
    pub region: RegionVersion,
    /// The ranges, all within the region.
    pub ranges: Vec<KeyRange>,
    /// What only the plug-in understands.
    pub data: Value,
}

/// The sum of all pairs of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RawChecksum {
    /// The CRC-64 (ECMA-182, as CRC-64/XZ) of each pair, its key followed by its value, all put
    /// together by xor.
    pub crc64_xor: u64,
    /// How many pairs.
    pub total_kvs: u64,
    /// How many bytes of keys and values; in a keyspace each key counts with its prefix.
    pub total_bytes: u64,
}

impl RawChecksum {
    /// The sum of two ranges that have no key in common. Wraps like the server's, rather than
    /// panic over what a server says.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            crc64_xor: self.crc64_xor ^ other.crc64_xor,
            total_kvs: self.total_kvs.wrapping_add(other.total_kvs),
            total_bytes: self.total_bytes.wrapping_add(other.total_bytes),
        }
    }
}

/// A region, and the parts of ranges that lie in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegionRanges {
    /// The region, at the version that was found.
    pub region: LocatedRegion,
    /// The parts, in the order of the ranges asked for.
    pub ranges: Vec<KeyRange>,
}

/// A region, and the keys that lie in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegionKeys {
    /// The region, at the version that was found.
    pub region: LocatedRegion,
    /// The keys, in the order asked for.
    pub keys: Vec<Key>,
}

/// Which region is meant, and who is asked (`control-plane.md` §4.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegionLookup {
    /// The region with `start ≤ key < end`.
    Containing(Key),
    /// The region with `start < key ≤ end`: where keys below the exclusive bound `key` end. For the
    /// empty key, which as a bound is above all keys, the last region.
    Before(Key),
    /// The region with this id, in the latest version that is known.
    /// [`ErrorKind::RegionUnavailable`](crate::ErrorKind::RegionUnavailable), without a second try, if
    /// PD's leader knows none.
    ById(u64),
    /// As [`RegionLookup::Containing`], but nobody is asked: `None` if the region is not known, is not
    /// to be used any more, or should be loaded anew.
    Cached(Key),
    /// The region with this id as PD's leader has it now, whatever is known. What it says is not kept:
    /// for diagnostics.
    ByIdFromPd(u64),
}

/// A read of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadOperation {
    /// Answered by [`Reply::Value`].
    Get {
        /// The key.
        key: Key,
    },
    /// Answered by [`Reply::Values`], one per key in the order asked, duplicates included.
    BatchGet {
        /// The keys, in any order.
        keys: Vec<Key>,
    },
    /// Answered by [`Reply::Pairs`] in the order of the scan.
    Scan(ScanSpec),
}

/// What to scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScanSpec {
    /// Where. An empty or reversed range gives nothing and sends nothing.
    pub range: KeyRange,
    /// How many pairs at most; 0 gives nothing and sends nothing.
    pub limit: u32,
    /// From the end of the range down to its start.
    pub reverse: bool,
    /// Leave the values out.
    pub key_only: bool,
}

/// Everything the commit protocol needs, and nothing that the application can change afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitPlan {
    /// The transaction's start.
    pub start_ts: Timestamp,
    /// Sorted by key, without duplicates, not empty.
    pub mutations: Vec<Mutation>,
    /// How long the transaction has been open; a lock's time to live starts at `start_ts`, so this is added to it.
    pub open_for: Duration,
    /// What was chosen about it.
    pub options: Arc<TxnOptions>,
    /// What its pessimistic locks say; `None` if it has never taken one.
    pub pessimistic: Option<PessimisticPlan>,
    /// An assertion that was seen to fail without asking: what was found when the key was locked
    /// contradicts it. The transaction will not commit, but it is prewritten all the same, because a
    /// lost lock would explain the contradiction, and is what should be told then
    /// (`transactions.md` §5).
    pub stashed_assertion: Option<Box<AssertionFailure>>,
}

/// The pessimistic locks of a transaction that commits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PessimisticPlan {
    /// The primary that they name. One of the mutations has to lock it.
    pub primary: Key,
    /// The transaction's latest `for_update_ts`.
    pub for_update_ts: Timestamp,
}

impl CommitPlan {
    /// An optimistic transaction with the default options, begun just now.
    pub fn new(start_ts: Timestamp, mutations: Vec<Mutation>) -> Self {
        Self {
            start_ts,
            mutations,
            open_for: Duration::ZERO,
            options: Arc::default(),
            pessimistic: None,
            stashed_assertion: None,
        }
    }
}

/// One key's part in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mutation {
    /// The key.
    pub key: Key,
    /// What happens to it.
    pub op: MutationOp,
    /// Whether the transaction holds a pessimistic lock on it.
    pub locked: LockState,
    /// What is believed about the key, to be checked at [`TxnOptions::assertion_level`].
    pub assertion: Assertion,
}

/// What a pessimistic transaction has done about a key before it commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LockState {
    /// It holds no lock on it.
    #[default]
    Not,
    /// It holds a lock on it, which the prewrite has to find.
    Held,
    /// It holds a lock on it that was taken at this `for_update_ts` by fair locking. The prewrite has
    /// to find exactly this one (`transactions.md` §22.27).
    HeldAt(Timestamp),
    /// It holds no lock on it, and left the check for conflicts to the prewrite.
    CheckAtPrewrite,
}

impl LockState {
    /// Whether there should be a lock.
    pub fn is_held(self) -> bool {
        match self {
            Self::Held | Self::HeldAt(_) => true,
            Self::Not | Self::CheckAtPrewrite => false,
        }
    }
}

/// What is believed about a key that is written (`transactions.md` §2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Assertion {
    /// Nothing.
    #[default]
    None,
    /// That it has a value.
    Exist,
    /// That it has none.
    NotExist,
}

/// What a transaction does with a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MutationOp {
    /// Write a value.
    Put(Value),
    /// Remove the value, if any.
    Delete,
    /// Write a value on condition that there is none.
    Insert(Value),
    /// Write nothing, but conflict with every transaction that writes the key.
    Lock,
    /// Commit only if there is no value; leaves no lock.
    CheckNotExists,
}

impl Mutation {
    /// What an optimistic transaction does with `key`, believing nothing about it.
    pub fn new(key: impl Into<Key>, op: MutationOp) -> Self {
        Self { key: key.into(), op, locked: LockState::Not, assertion: Assertion::None }
    }

    /// Key bytes plus value bytes: what batch sizes are measured in.
    pub fn size(&self) -> usize {
        self.key.len()
            + match &self.op {
                MutationOp::Put(value) | MutationOp::Insert(value) => value.len(),
                MutationOp::Delete | MutationOp::Lock | MutationOp::CheckNotExists => 0,
            }
    }

    /// Whether its prewrite leaves a lock, so that it can be a primary and must be committed.
    pub fn locks(&self) -> bool {
        match self.op {
            MutationOp::Put(_) | MutationOp::Delete | MutationOp::Insert(_) | MutationOp::Lock => {
                true
            }
            MutationOp::CheckNotExists => false,
        }
    }
}

/// How an operation is to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpOptions {
    /// When the operation has to be over. Past it, it ends with
    /// [`ErrorKind::DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded) or, where the decisive
    /// request may have been executed, undetermined.
    pub deadline: Instant,
    /// Names this operation's private stream of random draws, so that adding or removing another
    /// operation does not disturb it. A counter will do.
    pub stream: u64,
}

/// What an operation gives when it succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reply {
    /// It is done.
    Done,
    /// The value, or that there is none. An empty value is a value.
    Value(Option<Value>),
    /// One for each key asked for, in the order asked.
    Values(Vec<Option<Value>>),
    /// Pairs in the order of the scan.
    Pairs(Vec<KvPair>),
    /// How many seconds a key still lives, 0 if for ever; `None` if there is no such key, or no more.
    Ttl(Option<u64>),
    /// How a compare-and-swap ended.
    Swapped {
        /// The value before; `None` if there was none.
        previous: Option<Value>,
        /// Whether it was as expected, so that it was replaced.
        swapped: bool,
    },
    /// A checksum.
    Checksum(RawChecksum),
    /// Regions.
    Regions(Vec<RegionRanges>),
    /// Keys by region.
    KeyGroups(Vec<RegionKeys>),
    /// A region; `None` only where nobody was to be asked.
    Region(Option<Box<LocatedRegion>>),
    /// What a plug-in answered.
    Bytes(Value),
    /// A timestamp.
    Timestamp(Timestamp),
    /// The external timestamp; `None` if none was ever stored.
    ExternalTimestamp(Option<Timestamp>),
    /// Locks, in the order of their keys.
    Locks(Vec<FoundLock>),
    /// What came of putting an end to transactions.
    LocksResolved(LocksResolved),
    /// What is known of a transaction.
    TxnState(TxnState),
    /// How a commit ended.
    Commit(CommitOutcome),
    /// What was locked.
    Locked(LockReply),
}

/// A commit ends in one of three ways, and the third is not an error to be retried.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommitOutcome {
    /// Every reader from `at` on sees it.
    Committed {
        /// The commit timestamp.
        at: Timestamp,
        /// By which protocol.
        by: CommittedBy,
        /// Which faster protocols were given up on the way.
        fallbacks: Fallbacks,
    },
    /// No reader will ever see it.
    Aborted(crate::error::Error),
    /// The decisive request may have been executed, or may yet be. Only a later read can tell.
    Undetermined(crate::error::Error),
}

/// By which protocol a transaction was committed (`transactions.md` §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommittedBy {
    /// By the commit of its primary.
    TwoPhase,
    /// By the last of its locks.
    Async,
    /// With its only prewrite.
    OnePhase,
}

/// The faster protocols that a transaction was fit for, set out with, and gave up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fallbacks {
    /// Async commit: a store had to give a timestamp beyond what the transaction allows.
    pub from_async: bool,
    /// One-phase commit: for the same reason, or because it takes more than one request.
    pub from_one_phase: bool,
}
