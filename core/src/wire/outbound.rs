//! Keys on their way out: the keyspace's prefix in front of every key of a request (raw.md §6.2,
//! control-plane.md §11).
//!
//! Machines build requests with the application's keys, whatever the API version. The prefix is put on
//! in one place, where a body is encoded, from the table below: which fields of which request are keys
//! and which are ranges. It is put on a copy, since the caller's message may be needed again. Without a
//! keyspace nothing is copied.

use anatase_proto::{coprocessor, kvrpcpb};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::codec::{PREFIX_LEN, Prefix};

/// How much is set aside for bodies at once.
const CHUNK: usize = 16 << 10;
/// More bytes than a key can have: a store refuses keys longer than 8 KiB.
pub(crate) const LONGER_THAN_ANY_KEY: usize = (8 << 10) + 1;

/// A request to a store, which knows where its keys are.
pub(crate) trait StoreRequest: Message + Clone {
    fn add_prefix(&mut self, prefixer: &mut Prefixer<'_>);
}

/// Encodes `message` with `prefix` in front of its keys, as a slice of `buffer`'s storage.
pub(crate) fn encode(
    message: &impl StoreRequest,
    prefix: Option<Prefix>,
    buffer: &mut BytesMut,
) -> Bytes {
    match prefix {
        None => append(message, buffer),
        Some(prefix) => {
            let mut copy = message.clone();
            copy.add_prefix(&mut Prefixer { prefix, buffer });
            append(&copy, buffer)
        }
    }
}

fn append(message: &impl Message, buffer: &mut BytesMut) -> Bytes {
    reserve(buffer, message.encoded_len());
    message.encode_raw(buffer);
    buffer.split().freeze()
}

fn reserve(buffer: &mut BytesMut, len: usize) {
    if buffer.capacity() < len {
        buffer.reserve(len.max(CHUNK));
    }
}

/// Which way a range is walked, and so which of its two fields is its upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    Up,
    Down,
}

impl Walk {
    fn new(reverse: bool) -> Self {
        if reverse { Self::Down } else { Self::Up }
    }
}

/// Puts a prefix in front of keys.
pub(crate) struct Prefixer<'a> {
    prefix: Prefix,
    /// Where the longer keys are written: they cost no allocation of their own.
    buffer: &'a mut BytesMut,
}

impl Prefixer<'_> {
    fn key(&mut self, key: &mut Bytes) {
        reserve(self.buffer, PREFIX_LEN + key.len());
        self.buffer.put_slice(self.prefix.as_bytes());
        self.buffer.put_slice(key);
        *key = self.buffer.split().freeze();
    }

    /// Empty means «none».
    fn optional(&mut self, key: &mut Bytes) {
        if !key.is_empty() {
            self.key(key);
        }
    }

    fn keys(&mut self, keys: &mut [Bytes]) {
        for key in keys {
            self.key(key);
        }
    }

    fn mutations(&mut self, mutations: &mut [kvrpcpb::Mutation]) {
        for mutation in mutations {
            self.key(&mut mutation.key);
        }
    }

    fn pairs(&mut self, pairs: &mut [kvrpcpb::KvPair]) {
        for pair in pairs {
            self.key(&mut pair.key);
        }
    }

    /// A range from its lower bound up: an empty upper bound is the end of the keyspace.
    fn range(&mut self, start: &mut Bytes, end: &mut Bytes) {
        self.walked(start, end, Walk::Up);
    }

    fn scan(&mut self, from: &mut Bytes, to: &mut Bytes, reverse: &mut bool) {
        self.walked(from, to, Walk::new(*reverse));
    }

    fn walked(&mut self, from: &mut Bytes, to: &mut Bytes, walk: Walk) {
        let (lower, upper) = match walk {
            Walk::Up => (from, to),
            Walk::Down => (to, from),
        };
        self.key(lower);
        if upper.is_empty() {
            *upper = self.end(walk);
        } else {
            self.key(upper);
        }
    }

    /// The upper bound of the keyspace: the next prefix.
    ///
    /// Of the largest keyspace that prefix has another mode, and a store takes a range only if both
    /// ends begin with the same byte, or if the end is the byte after the start's and nothing else
    /// (§6.5). It looks at raw ranges as they are, at transactional ones in memcomparable form, where
    /// no end is a single byte, and at both before it swaps the ends of a reverse scan. So there the
    /// bound is that single byte where it is taken, and elsewhere a key behind every key of the keyspace.
    fn end(&mut self, walk: Walk) -> Bytes {
        let end = self.prefix.end();
        let mode = self.prefix.mode();
        if end[0] == mode {
            return Bytes::copy_from_slice(&end);
        }
        if walk == Walk::Up && mode == b'r' {
            return Bytes::copy_from_slice(&end[..1]);
        }
        let mut key = Vec::with_capacity(PREFIX_LEN + LONGER_THAN_ANY_KEY);
        key.extend_from_slice(self.prefix.as_bytes());
        key.resize(PREFIX_LEN + LONGER_THAN_ANY_KEY, 0xff);
        key.into()
    }

    fn optional_range(&mut self, range: &mut Option<kvrpcpb::KeyRange>) {
        let range = range.get_or_insert_default();
        self.range(&mut range.start_key, &mut range.end_key);
    }

    fn ranges(&mut self, ranges: &mut [kvrpcpb::KeyRange]) {
        for range in ranges {
            self.range(&mut range.start_key, &mut range.end_key);
        }
    }

    /// The ranges of a batch scan: one without end goes on to the start of the next (wire.md §3.6).
    fn scans(&mut self, ranges: &mut [kvrpcpb::KeyRange], reverse: &mut bool) {
        for index in 1..ranges.len() {
            if ranges[index - 1].end_key.is_empty() {
                ranges[index - 1].end_key = ranges[index].start_key.clone();
            }
        }
        for range in ranges {
            self.scan(&mut range.start_key, &mut range.end_key, reverse);
        }
    }

    fn cop_ranges(&mut self, ranges: &mut [coprocessor::KeyRange]) {
        for range in ranges {
            self.range(&mut range.start, &mut range.end);
        }
    }

    fn versioned(&mut self, ranges: &mut [coprocessor::VersionedKeyRange]) {
        for range in ranges {
            let range = range.range.get_or_insert_default();
            self.range(&mut range.start, &mut range.end);
        }
    }

    fn tasks(&mut self, tasks: &mut [coprocessor::StoreBatchTask]) {
        for task in tasks {
            self.cop_ranges(&mut task.ranges);
            self.versioned(&mut task.versioned_ranges);
        }
    }
}

macro_rules! requests {
    ($($package:ident::$message:ident { $($what:ident($($field:ident),*))* })*) => {
        $(
            impl StoreRequest for $package::$message {
                fn add_prefix(&mut self, _prefixer: &mut Prefixer<'_>) {
                    $(_prefixer.$what($(&mut self.$field),*);)*
                }
            }
        )*
    };
}

requests! {
    kvrpcpb::GetRequest { key(key) }
    kvrpcpb::BatchGetRequest { keys(keys) }
    kvrpcpb::BufferBatchGetRequest { keys(keys) }
    kvrpcpb::ScanRequest { scan(start_key, end_key, reverse) }
    kvrpcpb::PrewriteRequest { mutations(mutations) key(primary_lock) keys(secondaries) }
    kvrpcpb::PessimisticLockRequest { mutations(mutations) key(primary_lock) }
    kvrpcpb::PessimisticRollbackRequest { keys(keys) }
    kvrpcpb::TxnHeartBeatRequest { key(primary_lock) }
    kvrpcpb::CheckTxnStatusRequest { key(primary_key) }
    kvrpcpb::CheckSecondaryLocksRequest { keys(keys) }
    kvrpcpb::CommitRequest { keys(keys) optional(primary_key) }
    kvrpcpb::BatchRollbackRequest { keys(keys) }
    kvrpcpb::CleanupRequest { key(key) }
    kvrpcpb::ResolveLockRequest { keys(keys) }
    kvrpcpb::ScanLockRequest { range(start_key, end_key) }
    kvrpcpb::GcRequest {}
    kvrpcpb::DeleteRangeRequest { range(start_key, end_key) }
    kvrpcpb::FlushRequest { mutations(mutations) optional(primary_key) }
    kvrpcpb::BroadcastTxnStatusRequest {}
    kvrpcpb::PrepareFlashbackToVersionRequest { range(start_key, end_key) }
    kvrpcpb::FlashbackToVersionRequest { range(start_key, end_key) }
    kvrpcpb::UnsafeDestroyRangeRequest { range(start_key, end_key) }
    kvrpcpb::StoreSafeTsRequest { optional_range(key_range) }
    kvrpcpb::SplitRegionRequest { optional(split_key) keys(split_keys) }
    kvrpcpb::MvccGetByKeyRequest { key(key) }
    kvrpcpb::MvccGetByStartTsRequest {}
    kvrpcpb::RegisterLockObserverRequest {}
    kvrpcpb::CheckLockObserverRequest {}
    kvrpcpb::RemoveLockObserverRequest {}
    kvrpcpb::PhysicalScanLockRequest { key(start_key) }
    kvrpcpb::GetLockWaitInfoRequest {}
    kvrpcpb::GetHealthFeedbackRequest {}
    kvrpcpb::RawGetRequest { key(key) }
    kvrpcpb::RawBatchGetRequest { keys(keys) }
    kvrpcpb::RawPutRequest { key(key) }
    kvrpcpb::RawBatchPutRequest { pairs(pairs) }
    kvrpcpb::RawDeleteRequest { key(key) }
    kvrpcpb::RawBatchDeleteRequest { keys(keys) }
    kvrpcpb::RawScanRequest { scan(start_key, end_key, reverse) }
    kvrpcpb::RawBatchScanRequest { scans(ranges, reverse) }
    kvrpcpb::RawDeleteRangeRequest { range(start_key, end_key) }
    kvrpcpb::RawGetKeyTtlRequest { key(key) }
    kvrpcpb::RawCasRequest { key(key) }
    kvrpcpb::RawChecksumRequest { ranges(ranges) }
    kvrpcpb::RawCoprocessorRequest { ranges(ranges) }
    coprocessor::Request { cop_ranges(ranges) versioned(versioned_ranges) tasks(tasks) }
}
