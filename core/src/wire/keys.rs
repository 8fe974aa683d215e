//! Every key of every message gets its prefix, and loses it again (raw.md §6.2, §6.3).
//!
//! Each message is written down once, with its keys left open: filled in plain and sent through the
//! encoder it has to be what it is when filled in with prefixes, and the other way round for answers. A
//! message in which a field was left out is no test of that field, so none may be.

use anatase_proto::kvrpcpb as kv;
use anatase_proto::{coprocessor as cop, deadlock};
use bytes::{Bytes, BytesMut};
use prost::Message;
use quickcheck::quickcheck;

use super::inbound::Strip;
use super::outbound::{self, StoreRequest};
use crate::codec::{CodecError, MAX_KEYSPACE, Prefix};
use crate::config::KeyMode::{self, Raw, Txn};

/// What a message has for its n-th key.
type Keys<'a> = &'a dyn Fn(u8) -> Bytes;

fn encode(message: &impl StoreRequest, prefix: Option<Prefix>) -> Bytes {
    outbound::encode(message, prefix, &mut BytesMut::new())
}

/// Every bytes field and every list of the message is filled, but for shared locks within shared locks.
#[track_caller]
fn assert_filled(text: &str) {
    let text = text.replace("shared_lock_infos: []", "");
    assert!(!text.contains("b\"\"") && !text.contains("[]"), "something is left out: {text}");
}

macro_rules! requests {
    ($key:ident: $($message:expr,)*; without keys: $($empty:ident,)*) => {
        /// Every request, with the application's keys through the encoder, and with other keys without.
        fn requests(plain: Keys<'_>, other: Keys<'_>, prefix: Prefix) -> Vec<(String, Bytes, Bytes)> {
            vec![$({
                let message = |$key: Keys<'_>| $message;
                let ours = message(plain);
                let before = ours.clone();
                let sent = encode(&ours, Some(prefix));
                assert_eq!(ours, before, "COD-01: the caller's message is not touched");
                (format!("{ours:?}"), sent, encode(&message(other), None))
            },)*
            $({
                let message = kv::$empty::default();
                let sent = encode(&message, Some(prefix));
                (format!("{message:?}"), sent, encode(&message, None))
            },)*]
        }
    };
}

fn value() -> Bytes {
    Bytes::from_static(b"value")
}

fn mutations(key: Keys<'_>) -> Vec<kv::Mutation> {
    let mutation = |n| kv::Mutation { key: key(n), value: value(), ..Default::default() };
    vec![mutation(0), mutation(1)]
}

fn range(key: Keys<'_>) -> kv::KeyRange {
    kv::KeyRange { start_key: key(0), end_key: key(1) }
}

fn cop_range(key: Keys<'_>) -> cop::KeyRange {
    cop::KeyRange { start: key(0), end: key(1) }
}

fn versioned(key: Keys<'_>) -> Vec<cop::VersionedKeyRange> {
    vec![cop::VersionedKeyRange { range: Some(cop_range(key)), ..Default::default() }]
}

requests! { key:
    kv::GetRequest { key: key(0), ..Default::default() },
    kv::BatchGetRequest { keys: vec![key(0), key(1)], ..Default::default() },
    kv::BufferBatchGetRequest { keys: vec![key(0), key(1)], ..Default::default() },
    kv::ScanRequest { start_key: key(0), end_key: key(1), ..Default::default() },
    kv::ScanRequest { start_key: key(0), end_key: key(1), reverse: true, ..Default::default() },
    kv::PrewriteRequest {
        mutations: mutations(key),
        primary_lock: key(2),
        secondaries: vec![key(3), key(4)],
        pessimistic_actions: vec![1],
        for_update_ts_constraints: vec![Default::default()],
        txn_file_chunks: vec![1],
        ..Default::default()
    },
    kv::PessimisticLockRequest {
        mutations: mutations(key),
        primary_lock: key(2),
        ..Default::default()
    },
    kv::PessimisticRollbackRequest { keys: vec![key(0), key(1)], ..Default::default() },
    kv::TxnHeartBeatRequest { primary_lock: key(0), ..Default::default() },
    kv::CheckTxnStatusRequest { primary_key: key(0), ..Default::default() },
    kv::CheckSecondaryLocksRequest { keys: vec![key(0), key(1)], ..Default::default() },
    kv::CommitRequest { keys: vec![key(0), key(1)], primary_key: key(2), ..Default::default() },
    kv::BatchRollbackRequest { keys: vec![key(0), key(1)], ..Default::default() },
    kv::CleanupRequest { key: key(0), ..Default::default() },
    kv::ResolveLockRequest {
        keys: vec![key(0), key(1)],
        txn_infos: vec![kv::TxnInfo { txn: 1, status: 2, ..Default::default() }],
        ..Default::default()
    },
    kv::ScanLockRequest { start_key: key(0), end_key: key(1), ..Default::default() },
    kv::DeleteRangeRequest { start_key: key(0), end_key: key(1), ..Default::default() },
    kv::FlushRequest { mutations: mutations(key), primary_key: key(2), ..Default::default() },
    kv::PrepareFlashbackToVersionRequest {
        start_key: key(0),
        end_key: key(1),
        ..Default::default()
    },
    kv::FlashbackToVersionRequest { start_key: key(0), end_key: key(1), ..Default::default() },
    kv::UnsafeDestroyRangeRequest { start_key: key(0), end_key: key(1), ..Default::default() },
    kv::StoreSafeTsRequest { key_range: Some(range(key)) },
    kv::SplitRegionRequest { split_key: key(0), split_keys: vec![key(1)], ..Default::default() },
    kv::MvccGetByKeyRequest { key: key(0), ..Default::default() },
    kv::PhysicalScanLockRequest { start_key: key(0), ..Default::default() },
    kv::RawGetRequest { key: key(0), ..Default::default() },
    kv::RawBatchGetRequest { keys: vec![key(0), key(1)], ..Default::default() },
    kv::RawPutRequest { key: key(0), value: value(), ..Default::default() },
    kv::RawBatchPutRequest {
        pairs: vec![
            kv::KvPair { key: key(0), value: value(), ..Default::default() },
            kv::KvPair { key: key(1), value: value(), ..Default::default() },
        ],
        ttls: vec![1, 2],
        ..Default::default()
    },
    kv::RawDeleteRequest { key: key(0), ..Default::default() },
    kv::RawBatchDeleteRequest { keys: vec![key(0), key(1)], ..Default::default() },
    kv::RawScanRequest { start_key: key(0), end_key: key(1), ..Default::default() },
    kv::RawScanRequest { start_key: key(0), end_key: key(1), reverse: true, ..Default::default() },
    kv::RawBatchScanRequest { ranges: vec![range(key), range(key)], ..Default::default() },
    kv::RawDeleteRangeRequest { start_key: key(0), end_key: key(1), ..Default::default() },
    kv::RawGetKeyTtlRequest { key: key(0), ..Default::default() },
    kv::RawCasRequest {
        key: key(0),
        value: value(),
        previous_value: value(),
        ..Default::default()
    },
    kv::RawChecksumRequest { ranges: vec![range(key), range(key)], ..Default::default() },
    kv::RawCoprocessorRequest { ranges: vec![range(key)], data: value(), ..Default::default() },
    cop::Request {
        ranges: vec![cop_range(key)],
        versioned_ranges: versioned(key),
        tasks: vec![cop::StoreBatchTask {
            ranges: vec![cop_range(key)],
            versioned_ranges: versioned(key),
            ..Default::default()
        }],
        data: value(),
        table_shard_infos: vec![cop::TableShardInfos {
            // Of TiFlash's own: not touched.
            shard_infos: vec![cop::ShardInfo {
                ranges: vec![cop_range(&|_| value())],
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    },
    ;
    without keys:
    GcRequest,
    MvccGetByStartTsRequest,
    GetLockWaitInfoRequest,
    GetHealthFeedbackRequest,
    RegisterLockObserverRequest,
    CheckLockObserverRequest,
    RemoveLockObserverRequest,
}

fn lock(key: Keys<'_>) -> kv::LockInfo {
    let holder = |n| kv::LockInfo {
        key: key(n),
        primary_lock: key(1),
        secondaries: vec![key(2), key(3)],
        ..Default::default()
    };
    kv::LockInfo { shared_lock_infos: vec![holder(4), holder(5)], ..holder(0) }
}

fn mvcc(key: Keys<'_>) -> Box<kv::MvccInfo> {
    let lock = kv::MvccLock {
        primary: key(1),
        secondaries: vec![key(2)],
        short_value: value(),
        rollback_ts: vec![1],
        ..Default::default()
    };
    let write = kv::MvccWrite { short_value: value(), ..Default::default() };
    let value = kv::MvccValue { value: value(), ..Default::default() };
    Box::new(kv::MvccInfo { lock: Some(lock.into()), writes: vec![write], values: vec![value] })
}

fn wait(key: Keys<'_>) -> deadlock::WaitForEntry {
    deadlock::WaitForEntry { key: key(0), resource_group_tag: value(), ..Default::default() }
}

/// COD-05: all kinds at once.
fn key_error(key: Keys<'_>) -> kv::KeyError {
    kv::KeyError {
        locked: Some(lock(key).into()),
        retryable: "text".into(),
        abort: "text".into(),
        conflict: Some(
            kv::WriteConflict { key: key(0), primary: key(1), ..Default::default() }.into(),
        ),
        already_exist: Some(kv::AlreadyExist { key: key(0) }.into()),
        deadlock: Some(
            kv::Deadlock {
                lock_key: key(0),
                deadlock_key: key(1),
                wait_chain: vec![wait(key), wait(key)],
                ..Default::default()
            }
            .into(),
        ),
        commit_ts_expired: Some(kv::CommitTsExpired { key: key(0), ..Default::default() }.into()),
        txn_not_found: Some(kv::TxnNotFound { primary_key: key(0), ..Default::default() }.into()),
        commit_ts_too_large: Some(Box::default()),
        assertion_failed: Some(kv::AssertionFailed { key: key(0), ..Default::default() }.into()),
        primary_mismatch: Some(kv::PrimaryMismatch { lock_info: Some(lock(key).into()) }.into()),
        txn_lock_not_found: Some(kv::TxnLockNotFound { key: key(0) }.into()),
        lock_upgrade_conflict: Some(
            kv::LockUpgradeConflict { key: key(0), ..Default::default() }.into(),
        ),
        shared_lock_lost: Some(kv::SharedLockLost { key: key(0), ..Default::default() }.into()),
        debug_info: Some(
            kv::DebugInfo {
                mvcc_info: vec![kv::MvccDebugInfo { key: key(0), mvcc: Some(mvcc(key)) }],
            }
            .into(),
        ),
    }
}

fn error(key: Keys<'_>) -> Option<Box<kv::KeyError>> {
    Some(key_error(key).into())
}

fn pairs(key: Keys<'_>) -> Vec<kv::KvPair> {
    let pair = |n| kv::KvPair { key: key(n), value: value(), error: error(key), commit_ts: 1 };
    vec![pair(0), pair(1)]
}

macro_rules! answers {
    ($key:ident: $($message:expr,)*) => {
        /// Every answer, as it comes in, through the stripping, and as it has to come out; both encoded.
        #[allow(clippy::type_complexity, reason = "two ways to say the same")]
        fn answers(
            wire: Keys<'_>,
            plain: Keys<'_>,
            prefix: Prefix,
        ) -> Vec<(String, Result<Vec<u8>, CodecError>, Vec<u8>)> {
            vec![$({
                let message = |$key: Keys<'_>| $message;
                let mut answer = message(wire);
                let name = format!("{answer:?}");
                let result = answer.strip(prefix).map(|()| answer.encode_to_vec());
                (name, result, message(plain).encode_to_vec())
            },)*]
        }
    };
}

answers! { key:
    kv::GetResponse { error: error(key), value: value(), ..Default::default() },
    kv::BatchGetResponse { pairs: pairs(key), error: error(key), ..Default::default() },
    kv::ScanResponse { pairs: pairs(key), error: error(key), ..Default::default() },
    kv::BufferBatchGetResponse { pairs: pairs(key), error: error(key), ..Default::default() },
    kv::PrewriteResponse { errors: vec![key_error(key), key_error(key)], ..Default::default() },
    kv::PessimisticLockResponse {
        errors: vec![key_error(key)],
        value: value(),
        values: vec![value()],
        not_founds: vec![true],
        results: vec![kv::PessimisticLockKeyResult { value: value(), ..Default::default() }],
        ..Default::default()
    },
    kv::PessimisticRollbackResponse { errors: vec![key_error(key)], ..Default::default() },
    kv::TxnHeartBeatResponse { error: error(key), ..Default::default() },
    kv::CheckTxnStatusResponse {
        error: error(key),
        lock_info: Some(lock(key).into()),
        ..Default::default()
    },
    kv::CheckSecondaryLocksResponse {
        error: error(key),
        locks: vec![lock(key), lock(key)],
        ..Default::default()
    },
    kv::CommitResponse { error: error(key), ..Default::default() },
    kv::BatchRollbackResponse { error: error(key), ..Default::default() },
    kv::CleanupResponse { error: error(key), ..Default::default() },
    kv::ResolveLockResponse { error: error(key), ..Default::default() },
    kv::ScanLockResponse { error: error(key), locks: vec![lock(key)], ..Default::default() },
    kv::GcResponse { error: error(key), ..Default::default() },
    kv::FlushResponse { errors: vec![key_error(key)], ..Default::default() },
    kv::MvccGetByKeyResponse { info: Some(mvcc(key)), ..Default::default() },
    kv::MvccGetByStartTsResponse { key: key(0), info: Some(mvcc(key)), ..Default::default() },
    kv::CheckLockObserverResponse { locks: vec![lock(key)], ..Default::default() },
    kv::PhysicalScanLockResponse { locks: vec![lock(key)], ..Default::default() },
    kv::GetLockWaitInfoResponse { entries: vec![wait(key)], ..Default::default() },
    kv::RawBatchGetResponse { pairs: pairs(key), ..Default::default() },
    kv::RawScanResponse { kvs: pairs(key), ..Default::default() },
    kv::RawBatchScanResponse { kvs: pairs(key), ..Default::default() },
    cop::Response {
        data: value(),
        range: Some(cop_range(key)),
        locked: Some(lock(key).into()),
        batch_responses: vec![cop::StoreBatchTaskResponse {
            data: value(),
            locked: Some(lock(key).into()),
            ..Default::default()
        }],
        ..Default::default()
    },
}

fn join(prefix: Prefix, key: &[u8]) -> Bytes {
    [prefix.as_bytes(), key].concat().into()
}

/// COD-01, COD-05, COD-06, one message at a time.
#[test]
fn cod_01_every_key_of_every_message_gets_and_loses_its_prefix() {
    let prefix = Prefix::new(Txn, 0x01_0203).unwrap();
    let plain = |n: u8| Bytes::from(format!("key{n}"));
    let wire = |n: u8| join(prefix, &plain(n));
    for (name, sent, expected) in requests(&plain, &wire, prefix) {
        assert_filled(&name);
        assert_eq!(sent, expected, "{name}");
    }
    for (name, read, expected) in answers(&wire, &plain, prefix) {
        assert_filled(&name);
        assert_eq!(read, Ok(expected), "{name}");
    }
}

/// An answer with a key of another keyspace in it is no answer, wherever the key stands.
#[test]
fn a_key_of_another_keyspace_is_found_wherever_it_stands() {
    let prefix = Prefix::new(Txn, 7).unwrap();
    let other = Prefix::new(Txn, 8).unwrap();
    for culprit in 0..=5 {
        let wire = |n: u8| join(if n == culprit { other } else { prefix }, &[n]);
        for (name, read, _) in answers(&wire, &|n| vec![n].into(), prefix) {
            let holds = name.contains(&format!("x\\0\\0\\x08\\x{culprit:02x}"))
                || (culprit == 0 && name.contains("x\\0\\0\\x08\\0"));
            assert_eq!(read.is_err(), holds, "{name}");
        }
    }
}

/// COD-01: an empty primary stays empty; COD-06: an empty key of an answer stays empty.
#[test]
fn cod_01_what_is_not_there_stays_away() {
    let prefix = Prefix::new(Txn, 7).unwrap();
    let sent = encode(&kv::CommitRequest::default(), Some(prefix));
    assert_eq!(sent, Bytes::new());
    assert_eq!(encode(&kv::FlushRequest::default(), Some(prefix)), Bytes::new());
    assert_eq!(encode(&kv::SplitRegionRequest::default(), Some(prefix)), Bytes::new());
    let mut pair = kv::KvPair { error: Some(Box::default()), ..Default::default() };
    pair.strip(prefix).unwrap();
    assert_eq!(pair.key, Bytes::new());
    // An empty key of the application is a key.
    let sent = encode(&kv::RawGetRequest::default(), Some(prefix));
    assert_eq!(kv::RawGetRequest::decode(sent).unwrap().key, &prefix.as_bytes()[..]);
}

/// COD-02, raw.md §6.2: what an open end becomes, in both directions, and at the end of all keyspaces
/// (§6.5).
#[test]
fn cod_02_ranges_end_with_the_keyspace() {
    let behind = |mode: u8| [&[mode, 0xff, 0xff, 0xff][..], &[0xff; 8193]].concat();
    let (behind_raw, behind_txn) = (behind(b'r'), behind(b'x'));
    /// Keyspace, mode, reverse; from and to; both on the wire.
    type Row<'a> = (u32, KeyMode, bool, &'a [u8], &'a [u8], &'a [u8], &'a [u8]);
    let rows: [Row<'_>; 14] = [
        (7, Txn, false, b"", b"", b"x\0\0\x07", b"x\0\0\x08"),
        (7, Txn, false, b"a", b"", b"x\0\0\x07a", b"x\0\0\x08"),
        (7, Txn, false, b"", b"z", b"x\0\0\x07", b"x\0\0\x07z"),
        (7, Txn, false, b"a", b"z", b"x\0\0\x07a", b"x\0\0\x07z"),
        (7, Txn, true, b"", b"", b"x\0\0\x08", b"x\0\0\x07"),
        (7, Raw, true, b"", b"a", b"r\0\0\x08", b"r\0\0\x07a"),
        (7, Raw, true, b"z", b"", b"r\0\0\x07z", b"r\0\0\x07"),
        (7, Raw, true, b"z", b"a", b"r\0\0\x07z", b"r\0\0\x07a"),
        (0xffff, Raw, false, b"", b"", b"r\0\xff\xff", b"r\x01\0\0"),
        (MAX_KEYSPACE, Raw, false, b"", b"z", b"r\xff\xff\xff", b"r\xff\xff\xffz"),
        (MAX_KEYSPACE, Raw, false, b"", b"", b"r\xff\xff\xff", b"s"),
        (MAX_KEYSPACE, Raw, true, b"", b"", &behind_raw, b"r\xff\xff\xff"),
        (MAX_KEYSPACE, Txn, false, b"", b"", b"x\xff\xff\xff", &behind_txn),
        (MAX_KEYSPACE, Txn, true, b"", b"", &behind_txn, b"x\xff\xff\xff"),
    ];
    for (id, mode, reverse, from, to, wire_from, wire_to) in rows {
        let prefix = Prefix::new(mode, id).unwrap();
        let (start_key, end_key) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
        let scan = kv::ScanRequest { start_key, end_key, reverse, ..Default::default() };
        let sent = kv::ScanRequest::decode(encode(&scan, Some(prefix))).unwrap();
        assert_eq!((&sent.start_key[..], &sent.end_key[..]), (wire_from, wire_to), "{from:?}");
        // A store takes both ends: they begin with the same byte, or end with the next byte alone.
        let (start, end) = (&sent.start_key, &sent.end_key);
        assert!(start[0] == end[0] || end[..] == [start[0] + 1]);
    }
    // Without a range the whole keyspace is meant.
    let prefix = Some(Prefix::new(Txn, 7).unwrap());
    let sent = kv::StoreSafeTsRequest::decode(encode(&kv::StoreSafeTsRequest::default(), prefix));
    let range = sent.unwrap().key_range.unwrap();
    assert_eq!((&range.start_key[..], &range.end_key[..]), (&b"x\0\0\x07"[..], &b"x\0\0\x08"[..]));
}

/// wire.md §3.6: a range of a batch scan without end ends where the next begins.
#[test]
fn open_ranges_of_a_batch_scan_end_at_the_next() {
    let range = |start_key: &'static str, end_key: &'static str| kv::KeyRange {
        start_key: start_key.into(),
        end_key: end_key.into(),
    };
    let ranges = vec![range("a", ""), range("k", "m"), range("p", "")];
    let scan = kv::RawBatchScanRequest { ranges, ..Default::default() };
    let prefix = Prefix::new(Raw, 7).unwrap();
    let sent = kv::RawBatchScanRequest::decode(encode(&scan, Some(prefix))).unwrap();
    let ends: Vec<&[u8]> = sent.ranges.iter().map(|range| &range.end_key[..]).collect();
    assert_eq!(ends, [&b"r\0\0\x07k"[..], b"r\0\0\x07m", b"r\0\0\x08"]);
}

/// What was read of a range is told in the application's keys.
#[test]
fn the_range_of_a_coprocessors_answer_is_clipped() {
    let prefix = Prefix::new(Txn, 7).unwrap();
    let mut range = cop::KeyRange { start: "x\0\0\x07b".into(), end: "x\0\0\x08".into() };
    range.strip(prefix).unwrap();
    assert_eq!((range.start, range.end), ("b".into(), Bytes::new()));
}

/// Without a keyspace nothing is copied, and prefixed keys cost no allocation each.
#[test]
fn bodies_share_a_buffer() {
    let prefix = Prefix::new(Raw, 7).unwrap();
    let get = kv::RawGetRequest { key: "k".into(), ..Default::default() };
    let mut buffer = BytesMut::new();
    for prefix in [None, Some(prefix)] {
        outbound::encode(&get, prefix, &mut buffer);
        let before = buffer.capacity();
        outbound::encode(&get, prefix, &mut buffer);
        assert!(buffer.capacity() < before, "no new buffer");
    }
}

quickcheck! {
    /// COD-11 for messages: over any keys and keyspaces.
    fn cod_11_keys_go_out_and_come_back(keys: Vec<Vec<u8>>, id: u32, raw: bool) -> bool {
        let prefix = Prefix::new(if raw { Raw } else { Txn }, id & MAX_KEYSPACE).unwrap();
        let plain = |n: u8| {
            let mut key = keys.get(usize::from(n)).cloned().unwrap_or_default();
            // An empty key is sometimes none, and an empty end is another end: see the tables.
            key.push(n + 1);
            Bytes::from(key)
        };
        // Ranges have to be ranges for the answers that tell one.
        let ordered = |n: u8| match n {
            0 => plain(0).min(plain(1)),
            1 => { let end = plain(0).max(plain(1)); [&end[..], b"\x01"].concat().into() }
            _ => plain(n),
        };
        let wire = |n: u8| join(prefix, &ordered(n));
        requests(&ordered, &wire, prefix).into_iter().all(|(_, sent, expected)| sent == expected)
            && answers(&wire, &ordered, prefix)
                .into_iter()
                .all(|(_, read, expected)| read == Ok(expected))
    }
}
