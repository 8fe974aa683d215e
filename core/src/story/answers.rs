//! How a story says what a store answers.

use anatase_proto::rpc::Rpc;
use anatase_proto::{errorpb, health, kvrpcpb};
use bytes::Bytes;

use super::{RegionSpec, Story};
use crate::wire::Response;
use crate::{Call, Timestamp};

/// `1000.3`, `max` or `0`, with or without `@`.
pub(super) fn version(word: &str) -> u64 {
    match word.trim_start_matches('@') {
        "max" => u64::MAX,
        "0" => 0,
        word => {
            let (physical, logical) = word.split_once('.').expect("physical.logical");
            let parse = |part: &str| part.parse().expect("a number");
            Timestamp::compose(parse(physical), parse(logical)).expect("a timestamp").version()
        }
    }
}

/// `a=1 b=2`.
fn pairs(words: &str) -> Vec<kvrpcpb::KvPair> {
    words
        .split_whitespace()
        .map(|word| {
            let (key, value) = word.split_once('=').expect("key=value");
            kvrpcpb::KvPair { key: bytes(key), value: bytes(value), ..Default::default() }
        })
        .collect()
}

/// The word's bytes; `<ff>` is the byte 0xff.
pub(super) fn bytes(word: &str) -> Bytes {
    let mut parts = word.split('<');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_once('>').expect("<hh>");
        bytes.push(u8::from_str_radix(hex, 16).expect("two hexadecimal digits"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes.into()
}

/// `KEY primary P of @TS ttl MS [size N] [for @TS] [updated MS] [pessimistic] [async]`.
fn lock(words: &str) -> kvrpcpb::LockInfo {
    let words: Vec<&str> = words.split_whitespace().collect();
    let after = |name: &str| {
        words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied()
    };
    let number = |name| after(name).map(|word: &str| word.parse().expect("a number"));
    kvrpcpb::LockInfo {
        key: bytes(words[0]),
        primary_lock: bytes(after("primary").unwrap_or(words[0])),
        lock_version: version(after("of").expect("of @TS")),
        lock_ttl: number("ttl").unwrap_or(3_000),
        txn_size: number("size").unwrap_or(1),
        lock_type: if words.contains(&"pessimistic") {
            kvrpcpb::Op::PessimisticLock.into()
        } else {
            kvrpcpb::Op::Put.into()
        },
        use_async_commit: words.contains(&"async"),
        lock_for_update_ts: after("for").map_or(0, version),
        duration_to_last_update_ms: number("updated").unwrap_or(0),
        ..Default::default()
    }
}

fn key_error(word: &str, rest: &str) -> Option<kvrpcpb::KeyError> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let mut error = kvrpcpb::KeyError::default();
    match word {
        "locked" => error.locked = Some(lock(rest).into()),
        // conflict KEY @CONFLICT @COMMIT
        "conflict" => {
            error.conflict = Some(
                kvrpcpb::WriteConflict {
                    key: bytes(words[0]),
                    primary: bytes(words[0]),
                    conflict_ts: version(words[1]),
                    conflict_commit_ts: version(words[2]),
                    start_ts: 1,
                    reason: kvrpcpb::write_conflict::Reason::Optimistic.into(),
                }
                .into(),
            );
        }
        // assertion KEY [exist]
        "assertion" => {
            let assertion = match words.get(1) {
                Some(_) => kvrpcpb::Assertion::Exist,
                None => kvrpcpb::Assertion::NotExist,
            };
            error.assertion_failed = Some(
                kvrpcpb::AssertionFailed {
                    key: bytes(words[0]),
                    assertion: assertion.into(),
                    existing_commit_ts: 9,
                    ..Default::default()
                }
                .into(),
            );
        }
        "exists" => {
            error.already_exist = Some(kvrpcpb::AlreadyExist { key: bytes(words[0]) }.into());
        }
        // deadlock KEY of @TS closed by KEY
        "deadlock" => {
            let closing = bytes(words[5]);
            error.deadlock = Some(
                kvrpcpb::Deadlock {
                    lock_key: bytes(words[0]),
                    lock_ts: version(words[2]),
                    deadlock_key_hash: crate::fingerprint::fingerprint64(&closing),
                    deadlock_key: closing,
                    ..Default::default()
                }
                .into(),
            );
        }
        "retryable" => error.retryable = rest.into(),
        "abort" => error.abort = rest.into(),
        // expired KEY @ATTEMPTED @MIN
        "expired" => {
            error.commit_ts_expired = Some(
                kvrpcpb::CommitTsExpired {
                    key: bytes(words[0]),
                    attempted_commit_ts: version(words[1]),
                    min_commit_ts: version(words[2]),
                    start_ts: 1,
                }
                .into(),
            );
        }
        "lock_not_found" => {
            error.retryable = "txn lock not found".into();
            error.txn_lock_not_found =
                Some(kvrpcpb::TxnLockNotFound { key: bytes(words[0]) }.into());
        }
        "not_found" => error.txn_not_found = Some(kvrpcpb::TxnNotFound::default().into()),
        "primary_mismatch" => {
            error.primary_mismatch =
                Some(kvrpcpb::PrimaryMismatch { lock_info: Some(lock(rest).into()) }.into());
        }
        _ => return None,
    }
    Some(error)
}

/// A health check's answer.
pub(crate) fn serving(word: &str) -> Response {
    use health::health_check_response::ServingStatus;
    let status = match word {
        "serving" => ServingStatus::Serving,
        "not_serving" => ServingStatus::NotServing,
        "unknown" => ServingStatus::Unknown,
        "service_unknown" => ServingStatus::ServiceUnknown,
        other => panic!("{other} is no state of health"),
    };
    Response::HealthCheck(health::HealthCheckResponse { status: status.into() })
}

/// The message of a store to `call`, or `None` if these are not the words for one.
pub(super) fn answer(story: &Story, call: &Call, word: &str, rest: &str) -> Option<Response> {
    if call.request.rpc == Rpc::HealthCheck {
        return Some(serving(word));
    }
    if let Some(error) = region_error(story, call, word, rest) {
        return Some(with_region_error(call.request.rpc, error));
    }
    let key_error = key_error(word, rest);
    let text = if word == "error" { rest.to_owned() } else { String::new() };
    let known = [
        "ok",
        "none",
        "error",
        "value",
        "pairs",
        "ttl",
        "swapped",
        "kept",
        "sum",
        "bytes",
        "alive",
        "committed",
        "rolled_back",
        "found",
        "released",
        "missing",
        "secondaries",
        "locks",
        "conflicting",
    ];
    if key_error.is_none() && !known.contains(&word) {
        return None;
    }
    let rpc = call.request.rpc;
    match word {
        "value" => assert!(matches!(rpc, Rpc::RawGet | Rpc::KvGet), "{rpc:?} has no value"),
        "pairs" => assert!(
            matches!(rpc, Rpc::RawBatchGet | Rpc::RawScan | Rpc::KvBatchGet | Rpc::KvScan),
            "{rpc:?} has no pairs"
        ),
        _ => {}
    }
    let boxed = key_error.clone().map(Into::into);
    Some(match call.request.rpc {
        Rpc::RawGet => Response::RawGet(kvrpcpb::RawGetResponse {
            value: bytes(rest),
            not_found: word == "none",
            error: text,
            ..Default::default()
        }),
        Rpc::RawPut => {
            Response::RawPut(kvrpcpb::RawPutResponse { error: text, ..Default::default() })
        }
        Rpc::RawDelete => {
            Response::RawDelete(kvrpcpb::RawDeleteResponse { error: text, ..Default::default() })
        }
        Rpc::RawBatchPut => Response::RawBatchPut(kvrpcpb::RawBatchPutResponse {
            error: text,
            ..Default::default()
        }),
        Rpc::RawBatchDelete => Response::RawBatchDelete(kvrpcpb::RawBatchDeleteResponse {
            error: text,
            ..Default::default()
        }),
        Rpc::RawBatchGet => Response::RawBatchGet(kvrpcpb::RawBatchGetResponse {
            pairs: pairs(rest),
            ..Default::default()
        }),
        Rpc::RawScan => {
            Response::RawScan(kvrpcpb::RawScanResponse { kvs: pairs(rest), ..Default::default() })
        }
        // ttl N
        Rpc::RawGetKeyTtl => Response::RawGetKeyTtl(kvrpcpb::RawGetKeyTtlResponse {
            ttl: if word == "ttl" { rest.parse().expect("seconds") } else { 0 },
            not_found: word == "none",
            error: text,
            ..Default::default()
        }),
        // swapped V, kept V: `-` for no value before.
        Rpc::RawCompareAndSwap => Response::RawCompareAndSwap(kvrpcpb::RawCasResponse {
            succeed: word == "swapped",
            previous_not_exist: rest == "-",
            previous_value: if rest == "-" { Bytes::new() } else { bytes(rest) },
            error: text,
            ..Default::default()
        }),
        Rpc::RawDeleteRange => Response::RawDeleteRange(kvrpcpb::RawDeleteRangeResponse {
            error: text,
            ..Default::default()
        }),
        // sum CRC PAIRS BYTES
        Rpc::RawChecksum => {
            let numbers: Vec<u64> =
                rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
            Response::RawChecksum(kvrpcpb::RawChecksumResponse {
                checksum: number(0),
                total_kvs: number(1),
                total_bytes: number(2),
                error: text,
                ..Default::default()
            })
        }
        Rpc::RawCoprocessor => Response::RawCoprocessor(kvrpcpb::RawCoprocessorResponse {
            data: if word == "bytes" { bytes(rest) } else { Bytes::new() },
            error: text,
            ..Default::default()
        }),
        Rpc::KvGet => Response::Get(kvrpcpb::GetResponse {
            value: if word == "value" { bytes(rest) } else { Bytes::new() },
            not_found: word == "none",
            error: boxed,
            ..Default::default()
        }),
        Rpc::KvBatchGet => Response::BatchGet(kvrpcpb::BatchGetResponse {
            pairs: if key_error.is_some() { Vec::new() } else { pairs(rest) },
            error: boxed,
            ..Default::default()
        }),
        Rpc::KvScan => Response::Scan(kvrpcpb::ScanResponse {
            pairs: if key_error.is_some() { Vec::new() } else { pairs(rest) },
            error: boxed,
            ..Default::default()
        }),
        // ok [min @TS] [one @TS]
        Rpc::KvPrewrite => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let after = |name: &str| {
                let at = words.iter().position(|word| *word == name && key_error.is_none())?;
                words.get(at + 1).map(|word| version(word))
            };
            Response::Prewrite(kvrpcpb::PrewriteResponse {
                min_commit_ts: after("min").unwrap_or(0),
                one_pc_commit_ts: after("one").unwrap_or(0),
                errors: key_error.into_iter().collect(),
                ..Default::default()
            })
        }
        Rpc::KvCommit => {
            Response::Commit(kvrpcpb::CommitResponse { error: boxed, ..Default::default() })
        }
        Rpc::KvBatchRollback => Response::BatchRollback(kvrpcpb::BatchRollbackResponse {
            error: boxed,
            ..Default::default()
        }),
        Rpc::KvPessimisticLock => {
            Response::PessimisticLock(locked(call, word, rest, key_error).into())
        }
        Rpc::KvPessimisticRollback => {
            Response::PessimisticRollback(kvrpcpb::PessimisticRollbackResponse {
                errors: key_error.into_iter().collect(),
                ..Default::default()
            })
        }
        // ttl MS
        Rpc::KvTxnHeartBeat => Response::TxnHeartBeat(kvrpcpb::TxnHeartBeatResponse {
            lock_ttl: if word == "ttl" { rest.parse().expect("milliseconds") } else { 0 },
            error: boxed,
            ..Default::default()
        }),
        Rpc::KvResolveLock => Response::ResolveLock(kvrpcpb::ResolveLockResponse {
            error: boxed,
            ..Default::default()
        }),
        Rpc::KvCheckTxnStatus => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let mut status = kvrpcpb::CheckTxnStatusResponse { error: boxed, ..Default::default() };
            match word {
                // alive MS [pushed] [async @MIN SECONDARY…]
                "alive" => {
                    status.lock_ttl = words[0].parse().expect("milliseconds");
                    if words.contains(&"pushed") {
                        status.action = kvrpcpb::Action::MinCommitTsPushed.into();
                    }
                    if let Some(at) = words.iter().position(|word| *word == "async") {
                        let asked: kvrpcpb::CheckTxnStatusRequest =
                            call.request.message().expect("a request");
                        let primary = kvrpcpb::LockInfo {
                            key: asked.primary_key.clone(),
                            primary_lock: asked.primary_key,
                            lock_version: asked.lock_ts,
                            lock_ttl: status.lock_ttl,
                            use_async_commit: true,
                            min_commit_ts: version(words[at + 1]),
                            secondaries: words[at + 2..].iter().map(|word| bytes(word)).collect(),
                            ..Default::default()
                        };
                        status.lock_info = Some(primary.into());
                    }
                }
                "committed" => status.commit_version = version(words[0]),
                "rolled_back" => status.action = kvrpcpb::Action::TtlExpireRollback.into(),
                // Pessimistic primaries: released now, or not there.
                "released" => status.action = kvrpcpb::Action::TtlExpirePessimisticRollback.into(),
                "missing" => status.action = kvrpcpb::Action::LockNotExistDoNothing.into(),
                _ => {}
            }
            Response::CheckTxnStatus(status)
        }
        // secondaries K@MIN K …, those without @MIN are no async commit's; committed @TS, rolled_back
        Rpc::KvCheckSecondaryLocks => {
            let asked: kvrpcpb::CheckSecondaryLocksRequest =
                call.request.message().expect("a request");
            let one = |word: &str| {
                let (key, min) = word.split_once('@').unwrap_or((word, "0"));
                kvrpcpb::LockInfo {
                    key: bytes(key),
                    lock_version: asked.start_version,
                    use_async_commit: min != "0",
                    min_commit_ts: version(min),
                    ..Default::default()
                }
            };
            let secondaries = word == "secondaries";
            Response::CheckSecondaryLocks(kvrpcpb::CheckSecondaryLocksResponse {
                locks: if secondaries {
                    rest.split_whitespace().map(one).collect()
                } else {
                    vec![]
                },
                commit_ts: if word == "committed" { version(rest) } else { 0 },
                error: boxed,
                ..Default::default()
            })
        }
        // locks LOCK, LOCK
        Rpc::KvScanLock => Response::ScanLock(kvrpcpb::ScanLockResponse {
            locks: if word == "locks" { rest.split(", ").map(lock).collect() } else { vec![] },
            error: boxed,
            ..Default::default()
        }),
        other => panic!("no words for an answer to {other:?}"),
    })
}

/// `ok`, `found V - …` (values, `-` for none), `conflicting @TS V`, or a key error.
fn locked(
    call: &Call,
    word: &str,
    rest: &str,
    error: Option<kvrpcpb::KeyError>,
) -> kvrpcpb::PessimisticLockResponse {
    use kvrpcpb::PessimisticLockKeyResultType::*;
    let request: kvrpcpb::PessimisticLockRequest = call.request.message().expect("a request");
    let force =
        request.wake_up_mode == i32::from(kvrpcpb::PessimisticLockWakeUpMode::WakeUpModeForceLock);
    let empty = kvrpcpb::PessimisticLockResponse::default;
    if let Some(error) = error {
        let failed = kvrpcpb::PessimisticLockKeyResult {
            r#type: LockResultFailed.into(),
            ..Default::default()
        };
        let results = if force { vec![failed] } else { Vec::new() };
        return kvrpcpb::PessimisticLockResponse { errors: vec![error], results, ..empty() };
    }
    let mut words: Vec<&str> = rest.split_whitespace().collect();
    let conflict = if word == "conflicting" { version(words.remove(0)) } else { 0 };
    let found: Vec<Bytes> = match word {
        "ok" => vec![Bytes::new(); request.mutations.len()],
        _ => {
            words.iter().map(|word| if *word == "-" { Bytes::new() } else { bytes(word) }).collect()
        }
    };
    if !force {
        let told = request.return_values || request.check_existence;
        return kvrpcpb::PessimisticLockResponse {
            not_founds: if told { found.iter().map(Bytes::is_empty).collect() } else { Vec::new() },
            values: if request.return_values { found } else { Vec::new() },
            ..empty()
        };
    }
    let one = |value: Bytes| kvrpcpb::PessimisticLockKeyResult {
        r#type: if conflict > 0 { LockResultLockedWithConflict } else { LockResultNormal }.into(),
        existence: !value.is_empty(),
        value,
        locked_with_conflict_ts: conflict,
        ..Default::default()
    };
    let results = found.into_iter().map(one).collect();
    kvrpcpb::PessimisticLockResponse { results, ..empty() }
}

fn with_region_error(rpc: Rpc, error: errorpb::Error) -> Response {
    let region_error = Some(error.into());
    macro_rules! with {
        ($($variant:ident $message:ident,)*) => {
            match rpc {
                $(r if r == rpc_of(stringify!($variant)) => {
                    let message = kvrpcpb::$message { region_error, ..Default::default() };
                    #[allow(clippy::useless_conversion, reason = "some are boxed")]
                    Response::$variant(message.into())
                })*
                other => panic!("{other:?} has no region error"),
            }
        };
    }
    with! {
        RawGet RawGetResponse,
        RawPut RawPutResponse,
        RawDelete RawDeleteResponse,
        RawBatchGet RawBatchGetResponse,
        RawBatchPut RawBatchPutResponse,
        RawBatchDelete RawBatchDeleteResponse,
        RawScan RawScanResponse,
        RawGetKeyTtl RawGetKeyTtlResponse,
        RawCompareAndSwap RawCasResponse,
        RawDeleteRange RawDeleteRangeResponse,
        RawChecksum RawChecksumResponse,
        RawCoprocessor RawCoprocessorResponse,
        Get GetResponse,
        BatchGet BatchGetResponse,
        Scan ScanResponse,
        Prewrite PrewriteResponse,
        Commit CommitResponse,
        BatchRollback BatchRollbackResponse,
        PessimisticLock PessimisticLockResponse,
        PessimisticRollback PessimisticRollbackResponse,
        TxnHeartBeat TxnHeartBeatResponse,
        CheckTxnStatus CheckTxnStatusResponse,
        CheckSecondaryLocks CheckSecondaryLocksResponse,
        ScanLock ScanLockResponse,
        ResolveLock ResolveLockResponse,
    }
}

fn rpc_of(name: &str) -> Rpc {
    let named = |rpc: &&Rpc| {
        let debug = format!("{rpc:?}");
        debug == name || debug == format!("Kv{name}")
    };
    *Rpc::ALL.iter().find(named).expect("an RPC")
}

fn region_error(story: &Story, call: &Call, word: &str, rest: &str) -> Option<errorpb::Error> {
    let crate::wire::Head::Store(context) = &call.request.head else {
        return None;
    };
    let region_id = context.region.id;
    let mut error = errorpb::Error::default();
    match word {
        "not_leader" => {
            let leader = rest.parse().ok().map(|store| {
                let spec = RegionSpec {
                    id: region_id,
                    start: String::new(),
                    end: String::new(),
                    version: 1,
                    leader: store,
                };
                spec.peer(store)
            });
            error.not_leader = Some(errorpb::NotLeader { region_id, leader }.into());
        }
        "region_not_found" => {
            error.region_not_found = Some(errorpb::RegionNotFound { region_id }.into());
        }
        "key_not_in_region" => {
            error.key_not_in_region =
                Some(errorpb::KeyNotInRegion { region_id, ..Default::default() }.into());
        }
        // epoch [IDS]: these regions, as the story has them now.
        "epoch" => {
            let ids: Vec<u64> =
                rest.split_whitespace().map(|w| w.parse().expect("an id")).collect();
            let current_regions = story
                .regions
                .iter()
                .filter(|region| ids.contains(&region.id))
                .map(|region| region.to_proto(story.codec))
                .collect();
            error.epoch_not_match = Some(errorpb::EpochNotMatch { current_regions }.into());
        }
        // behind: the region as it was one version before.
        "behind" => {
            let older = |region: &&RegionSpec| region.id == region_id;
            let mut region =
                story.regions.iter().find(older).expect("the region").to_proto(story.codec);
            if let Some(epoch) = &mut region.region_epoch {
                epoch.version -= 1;
            }
            error.epoch_not_match =
                Some(errorpb::EpochNotMatch { current_regions: vec![region] }.into());
        }
        "busy" => {
            // busy [MS] [REASON]
            let (wait, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let (estimated_wait_ms, reason) = match wait.parse() {
                Ok(ms) => (ms, reason),
                Err(_) => (0, rest),
            };
            let reason = reason.to_owned();
            let busy = errorpb::ServerIsBusy { reason, estimated_wait_ms, ..Default::default() };
            error.server_is_busy = Some(busy.into());
        }
        "stale_command" => error.stale_command = Some(errorpb::StaleCommand::default().into()),
        "store_not_match" => {
            error.store_not_match = Some(errorpb::StoreNotMatch::default().into());
        }
        "too_large" => {
            error.raft_entry_too_large =
                Some(errorpb::RaftEntryTooLarge { region_id, entry_size: 9 << 20 }.into());
        }
        "max_ts_not_synced" => {
            error.max_timestamp_not_synced = Some(errorpb::MaxTimestampNotSynced::default().into());
        }
        "read_index_not_ready" => {
            error.read_index_not_ready = Some(errorpb::ReadIndexNotReady::default().into());
        }
        "merging" => {
            error.proposal_in_merging_mode =
                Some(errorpb::ProposalInMergingMode { region_id }.into());
        }
        "data_not_ready" => {
            error.data_is_not_ready = Some(errorpb::DataIsNotReady::default().into());
        }
        "not_initialized" => {
            error.region_not_initialized = Some(errorpb::RegionNotInitialized { region_id }.into());
        }
        "disk_full" => error.disk_full = Some(errorpb::DiskFull::default().into()),
        "recovery" => {
            error.recovery_in_progress = Some(errorpb::RecoveryInProgress { region_id }.into());
        }
        "flashback" => {
            error.flashback_in_progress =
                Some(errorpb::FlashbackInProgress { region_id, ..Default::default() }.into());
        }
        "flashback_not_prepared" => {
            error.flashback_not_prepared = Some(errorpb::FlashbackNotPrepared { region_id }.into());
        }
        "witness" => error.is_witness = Some(errorpb::IsWitness { region_id }.into()),
        "mismatch_peer" => {
            error.mismatch_peer_id = Some(errorpb::MismatchPeerId::default().into());
        }
        "bucket_version" => {
            // bucket_version VERSION KEY…
            let mut words = rest.split_whitespace();
            let version = words.next().map_or(0, |word| word.parse().expect("a version"));
            let keys = words.map(|word| story.codec.to_pd(&bytes(word))).collect();
            let buckets = errorpb::BucketVersionNotMatch { version, keys };
            error.bucket_version_not_match = Some(buckets.into());
        }
        "undetermined" => {
            error.undetermined_result = Some(errorpb::UndeterminedResult::default().into());
        }
        "message" => error.message = rest.to_owned(),
        _ => return None,
    }
    Some(error)
}
