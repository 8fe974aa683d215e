//! Messages against bytes worked out by hand from the field numbers and types of the schema.

use std::fmt::Debug;
use std::mem::size_of;

use anatase_proto::prost::Message;
use anatase_proto::{
    errorpb, keyspacepb, kvrpcpb, meta_storagepb, metapb, pdpb, resource_manager, tikvpb,
};
use bytes::Bytes;

/// The bytes of a spaced hexadecimal text.
fn hex(text: &str) -> Bytes {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    assert_eq!(digits.len() % 2, 0, "{text}");
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte")).collect()
}

/// Encoding gives exactly these bytes, and decoding gives the message back.
#[track_caller]
fn golden<M: Message + Default + PartialEq + Debug>(message: M, wire: &str) {
    let wire = hex(wire);
    assert_eq!(Bytes::from(message.encode_to_vec()), wire, "{message:?}");
    assert_eq!(message.encoded_len(), wire.len());
    assert_eq!(M::decode(wire).expect("decodes"), message);
}

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn context() {
    golden(
        kvrpcpb::Context {
            region_id: 7,
            region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 300 }),
            peer: Some(metapb::Peer { id: 8, store_id: 2, ..Default::default() }),
            resolved_locks: vec![1, 300],
            api_version: kvrpcpb::ApiVersion::V2.into(),
            request_source: "r".into(),
            keyspace: Some(kvrpcpb::context::Keyspace::KeyspaceId(0xFFFF_FFFF)),
            ..Default::default()
        },
        "08 07
         12 05 08 01 10 AC 02
         1A 04 08 08 10 02
         6A 03 01 AC 02
         A8 01 02
         C2 01 01 72
         80 02 FF FF FF FF 0F",
    );
}

#[test]
fn raw_get_request() {
    golden(
        kvrpcpb::RawGetRequest {
            context: Some(Box::new(kvrpcpb::Context { region_id: 1, ..Default::default() })),
            key: b("k"),
            cf: "default".into(),
        },
        "0A 02 08 01   12 01 6B   1A 07 64 65 66 61 75 6C 74",
    );
}

#[test]
fn raw_batch_put_request() {
    let pair = kvrpcpb::KvPair { key: b("k"), value: b("v"), ..Default::default() };
    golden(
        kvrpcpb::RawBatchPutRequest {
            pairs: vec![pair.clone(), pair],
            ttl: 5,
            ttls: vec![5, 0],
            for_cas: true,
            ..Default::default()
        },
        "12 06 12 01 6B 1A 01 76
         12 06 12 01 6B 1A 01 76
         20 05   28 01   32 02 05 00",
    );
}

#[test]
fn get_response() {
    golden(
        kvrpcpb::GetResponse {
            value: b("v"),
            exec_details_v2: Some(Box::new(kvrpcpb::ExecDetailsV2 {
                scan_detail_v2: Some(kvrpcpb::ScanDetailV2 {
                    processed_versions: 1,
                    processed_versions_size: 2,
                    ..Default::default()
                }),
                ..Default::default()
            })),
            commit_ts: 7,
            ..Default::default()
        },
        "1A 01 76   32 06 12 04 08 01 40 02   38 07",
    );
}

#[test]
fn prewrite_request() {
    use kvrpcpb::prewrite_request::{ForUpdateTsConstraint, PessimisticAction};
    golden(
        kvrpcpb::PrewriteRequest {
            mutations: vec![
                kvrpcpb::Mutation {
                    op: kvrpcpb::Op::Put.into(),
                    key: b("k"),
                    value: b("v"),
                    assertion: kvrpcpb::Assertion::Exist.into(),
                },
                kvrpcpb::Mutation {
                    op: kvrpcpb::Op::Del.into(),
                    key: b("l"),
                    ..Default::default()
                },
            ],
            primary_lock: b("k"),
            start_version: 5,
            lock_ttl: 3000,
            pessimistic_actions: vec![
                PessimisticAction::DoPessimisticCheck.into(),
                PessimisticAction::SkipPessimisticCheck.into(),
            ],
            secondaries: vec![b("l")],
            try_one_pc: true,
            for_update_ts_constraints: vec![ForUpdateTsConstraint {
                index: 1,
                expected_for_update_ts: 9,
            }],
            ..Default::default()
        },
        "12 08 12 01 6B 1A 01 76 20 01
         12 05 08 01 12 01 6C
         1A 01 6B   20 05   28 B8 17
         3A 02 01 00
         62 01 6C   68 01
         82 01 04 08 01 10 09",
    );
}

#[test]
fn pessimistic_lock() {
    golden(
        kvrpcpb::PessimisticLockRequest {
            mutations: vec![kvrpcpb::Mutation {
                op: kvrpcpb::Op::PessimisticLock.into(),
                key: b("k"),
                ..Default::default()
            }],
            wait_timeout: -1,
            wake_up_mode: kvrpcpb::PessimisticLockWakeUpMode::WakeUpModeForceLock.into(),
            ..Default::default()
        },
        "12 05 08 05 12 01 6B   40 FF FF FF FF FF FF FF FF FF 01   70 01",
    );
    golden(
        kvrpcpb::PessimisticLockResponse {
            values: vec![b("v"), Bytes::new()],
            not_founds: vec![false, true],
            results: vec![kvrpcpb::PessimisticLockKeyResult {
                r#type: kvrpcpb::PessimisticLockKeyResultType::LockResultLockedWithConflict.into(),
                locked_with_conflict_ts: 3,
                skip_resolving_lock: true,
                ..Default::default()
            }],
            ..Default::default()
        },
        "2A 01 76 2A 00   32 02 00 01   42 06 08 01 20 03 58 01",
    );
}

#[test]
fn check_txn_status_request() {
    golden(
        kvrpcpb::CheckTxnStatusRequest {
            primary_key: b("k"),
            lock_ts: 5,
            current_ts: u64::MAX,
            rollback_if_not_exist: true,
            verify_is_primary: true,
            is_txn_file: true,
            ..Default::default()
        },
        "12 01 6B   18 05   28 FF FF FF FF FF FF FF FF FF 01   30 01   48 01   A0 06 01",
    );
}

#[test]
fn key_error() {
    golden(
        kvrpcpb::KeyError {
            locked: Some(Box::new(kvrpcpb::LockInfo {
                primary_lock: b("p"),
                lock_version: 10,
                key: b("k"),
                lock_ttl: 20,
                lock_type: kvrpcpb::Op::PessimisticLock.into(),
                lock_for_update_ts: 11,
                use_async_commit: true,
                min_commit_ts: 12,
                secondaries: vec![b("s")],
                ..Default::default()
            })),
            conflict: Some(Box::new(kvrpcpb::WriteConflict {
                start_ts: 1,
                conflict_ts: 2,
                key: b("k"),
                reason: kvrpcpb::write_conflict::Reason::Optimistic.into(),
                ..Default::default()
            })),
            debug_info: Some(Box::default()),
            ..Default::default()
        },
        "0A 15 0A 01 70 10 0A 1A 01 6B 20 14 30 05 38 0B 40 01 48 0C 52 01 73
         22 09 08 01 10 02 1A 01 6B 30 01
         A2 06 00",
    );
}

#[test]
fn region_error() {
    golden(
        errorpb::Error {
            message: "m".into(),
            epoch_not_match: Some(Box::new(errorpb::EpochNotMatch {
                current_regions: vec![metapb::Region {
                    id: 1,
                    end_key: b("z"),
                    region_epoch: Some(metapb::RegionEpoch { conf_ver: 1, version: 2 }),
                    peers: vec![metapb::Peer { id: 3, store_id: 4, ..Default::default() }],
                    ..Default::default()
                }],
            })),
            recovery_in_progress: Some(Box::new(errorpb::RecoveryInProgress { region_id: 1 })),
            undetermined_result: Some(Box::default()),
            ..Default::default()
        },
        "0A 01 6D
         2A 13 0A 11 08 01 1A 01 7A 22 04 08 01 10 02 2A 04 08 03 10 04
         82 01 02 08 01
         B2 01 00",
    );
}

#[test]
fn batch_commands() {
    use tikvpb::{batch_commands_request as request, batch_commands_response as response};
    golden(
        tikvpb::BatchCommandsRequest {
            requests: vec![
                tikvpb::batch_commands_request::Request {
                    cmd: Some(request::request::Cmd::RawGet(kvrpcpb::RawGetRequest {
                        key: b("k"),
                        ..Default::default()
                    })),
                },
                tikvpb::batch_commands_request::Request {
                    cmd: Some(request::request::Cmd::Empty(tikvpb::BatchCommandsEmptyRequest {
                        test_id: 3,
                        delay_time: 0,
                    })),
                },
            ],
            request_ids: vec![1, 300],
            client_send_time_ns: 1,
        },
        "0A 05 6A 03 12 01 6B
         0A 05 FA 0F 02 08 03
         12 03 01 AC 02   18 01",
    );
    golden(
        tikvpb::BatchCommandsResponse {
            responses: vec![tikvpb::batch_commands_response::Response {
                cmd: Some(response::response::Cmd::Get(kvrpcpb::GetResponse {
                    value: b("v"),
                    ..Default::default()
                })),
            }],
            request_ids: vec![1],
            transport_layer_load: 280,
            health_feedback: Some(Box::new(kvrpcpb::HealthFeedback {
                store_id: 1,
                feedback_seq_no: 2,
                slow_score: 3,
            })),
            tikv_send_time_ns: 4,
        },
        "0A 05 0A 03 1A 01 76   12 01 01   18 98 02   22 06 08 01 10 02 18 03   28 04",
    );
}

#[test]
fn tso_response() {
    golden(
        pdpb::TsoResponse {
            header: Some(pdpb::ResponseHeader { cluster_id: 9, error: None }),
            count: 2,
            timestamp: Some(pdpb::Timestamp { physical: 1000, logical: 5, suffix_bits: 0 }),
        },
        "0A 02 08 09   10 02   1A 05 08 E8 07 10 05",
    );
}

#[test]
fn query_region_response() {
    golden(
        pdpb::QueryRegionResponse {
            key_id_map: vec![1, 0],
            regions_by_id: [(
                1,
                pdpb::RegionResponse {
                    region: Some(metapb::Region { id: 1, ..Default::default() }),
                    ..Default::default()
                },
            )]
            .into(),
            ..Default::default()
        },
        "12 02 01 00   22 08 08 01 12 04 0A 02 08 01",
    );
}

#[test]
fn service_safe_point() {
    golden(
        pdpb::UpdateServiceGcSafePointRequest {
            service_id: b("s"),
            ttl: 10,
            safe_point: 3,
            ..Default::default()
        },
        "12 01 73   18 0A   20 03",
    );
}

#[test]
fn keyspace_meta_tells_zero_from_absent() {
    let config = [("a".to_owned(), "b".to_owned())].into();
    golden(
        keyspacepb::KeyspaceMeta {
            name: "n".into(),
            config,
            keyspace: Some(keyspacepb::keyspace_meta::Keyspace::Id(0)),
            ..Default::default()
        },
        "08 00   12 01 6E   3A 06 0A 01 61 12 01 62",
    );
    golden(keyspacepb::KeyspaceMeta::default(), "");
}

#[test]
fn meta_storage_event() {
    golden(
        meta_storagepb::Event {
            r#type: meta_storagepb::event::EventType::Delete.into(),
            kv: Some(meta_storagepb::KeyValue {
                key: b("k"),
                mod_revision: 2,
                value: b("v"),
                ..Default::default()
            }),
            prev_kv: None,
        },
        "08 01   12 08 0A 01 6B 18 02 2A 01 76",
    );
}

#[test]
fn token_bucket_request() {
    use resource_manager::token_bucket_request::{Request, RequestRu};
    golden(
        resource_manager::TokenBucketRequest {
            resource_group_name: "g".into(),
            request: Some(Request::RuItems(RequestRu {
                request_r_u: vec![resource_manager::RequestUnitItem {
                    r#type: resource_manager::RequestUnitType::Ru.into(),
                    value: 1.5,
                }],
            })),
            is_background: true,
            ..Default::default()
        },
        "0A 01 67   12 0B 0A 09 11 00 00 00 00 00 00 F8 3F   28 01",
    );
}

#[test]
fn unknown_fields_are_skipped() {
    // Field 50 as varint, as length-delimited, as fixed 64 and fixed 32 bits, around a value.
    let wire = hex("90 03 07
                    1A 01 76
                    92 03 02 08 01
                    91 03 01 02 03 04 05 06 07 08
                    95 03 01 02 03 04
                    20 01");
    let response = kvrpcpb::RawGetResponse::decode(wire).expect("decodes");
    let expected = kvrpcpb::RawGetResponse { value: b("v"), not_found: true, ..Default::default() };
    assert_eq!(response, expected);
}

#[test]
fn an_unknown_command_leaves_the_oneof_empty() {
    // A response numbered 41, which is no command yet, beside one that is.
    let wire = hex("0A 05 CA 02 02 08 01   0A 05 6A 03 1A 01 76   12 02 01 02");
    let message = tikvpb::BatchCommandsResponse::decode(wire).expect("decodes");
    assert_eq!(message.request_ids, [1, 2]);
    assert_eq!(message.responses[0].cmd, None);
    assert!(message.responses[1].cmd.is_some());
}

#[test]
fn an_unknown_enum_value_is_kept_as_a_number() {
    let lock = kvrpcpb::LockInfo::decode(hex("30 63")).expect("decodes");
    assert_eq!(lock.lock_type, 99);
    assert!(kvrpcpb::Op::try_from(lock.lock_type).is_err());
}

#[test]
fn repeated_scalars_are_read_unpacked_too() {
    let message = tikvpb::BatchCommandsResponse::decode(hex("10 01 10 AC 02")).expect("decodes");
    assert_eq!(message.request_ids, [1, 300]);
}

#[test]
fn fields_come_in_any_order_and_contexts_merge() {
    // The context twice, before and after the key: how a retry re-stamps an encoded request.
    let wire = hex("0A 02 08 01   12 01 6B   0A 06 08 02 1A 02 08 03");
    let request = kvrpcpb::RawGetRequest::decode(wire).expect("decodes");
    assert_eq!(request.key, b("k"));
    let context = request.context.expect("a context");
    assert_eq!(context.region_id, 2);
    assert_eq!(context.peer.map(|peer| peer.id), Some(3));
}

#[test]
fn broken_input_is_an_error() {
    for wire in ["1A 05 76", "1A", "FF FF FF FF FF FF FF FF FF FF FF", "1B", "18 01"] {
        assert!(kvrpcpb::RawGetResponse::decode(hex(wire)).is_err(), "{wire}");
    }
}

#[test]
fn a_value_is_a_slice_of_the_frame() {
    let frame = hex("0A 06 6A 04 1A 02 76 77   12 01 01");
    let message = tikvpb::BatchCommandsResponse::decode(frame.clone()).expect("decodes");
    let Some(tikvpb::batch_commands_response::response::Cmd::RawGet(response)) =
        &message.responses[0].cmd
    else {
        panic!("{message:?}");
    };
    assert_eq!(response.value, b("vw"));
    assert!(frame.as_ptr_range().contains(&response.value.as_ptr()), "the value was copied");
}

/// Budgets: what is moved for every answer.
#[test]
#[cfg(target_pointer_width = "64")]
fn hot_messages_are_small() {
    assert!(size_of::<kvrpcpb::RawGetResponse>() <= 72);
    assert!(size_of::<kvrpcpb::GetResponse>() <= 72);
    assert!(size_of::<kvrpcpb::RawPutResponse>() <= 32);
    assert!(size_of::<kvrpcpb::KvPair>() <= 80);
    assert!(size_of::<kvrpcpb::BatchGetResponse>() <= 48);
    assert!(size_of::<kvrpcpb::PrewriteResponse>() <= 56);
    assert!(size_of::<kvrpcpb::CommitResponse>() <= 32);
    assert!(size_of::<kvrpcpb::RawGetRequest>() <= 64);
    assert!(size_of::<kvrpcpb::GetRequest>() <= 56);
    assert!(size_of::<pdpb::TsoResponse>() <= 64);
}

#[test]
fn answers_compare_and_hash() {
    fn exact<T: Eq + std::hash::Hash>() {}
    exact::<kvrpcpb::GetResponse>();
    exact::<kvrpcpb::KeyError>();
    exact::<errorpb::Error>();
    exact::<metapb::Region>();
    exact::<tikvpb::BatchCommandsResponse>();
}
