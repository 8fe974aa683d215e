//! Whatever bytes a server sends: they are understood, or refused, and a running core that gets them
//! as the answer to whatever it has asked keeps its contract. And what a core sends is what it means.

use anatase_core::wire::Head;
use anatase_core::{Call, Command};
use anatase_proto::rpc::Rpc;
use anatase_proto::{health, keyspacepb, kvrpcpb as kv, pdpb};
use bytes::{Bytes, BytesMut};
use prost::Message;

use super::any_input::play;
use super::script::{Ending, Script, Step};
use crate::KeyMode;

/// How many commands get the bytes.
const MOST: u8 = 4;

pub(super) fn body(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(8));
    let mut choices = [0; 8];
    choices[..head.len()].copy_from_slice(head);
    let [kind, rounds, often, ref seed @ ..] = choices;
    let rest = Bytes::copy_from_slice(rest);

    crate::wire::garbage::holds(&rest);

    let mut whole = [0; 8];
    whole[..5].copy_from_slice(seed);
    let seed = u64::from_le_bytes(whole);
    // All is well for so many rounds; then come the bytes.
    let flow = |rounds: u8| Step::Flow { rounds: rounds.into(), seed: 0, odds: u64::MAX };
    let mut steps = vec![Step::Submit { seed }, flow(rounds % 12), Step::Drain];
    for _ in 0..1 + often % MOST {
        steps.push(Step::Say { which: (often / MOST).into(), bytes: rest.clone() });
        steps.push(Step::Drain);
    }
    steps.push(flow(4));
    let script = Script {
        seed: seed >> 8,
        mode: if kind % 2 == 0 { KeyMode::Txn } else { KeyMode::Raw },
        steps,
        // A core that was told nonsense by PD, another cluster's id perhaps, may rightly refuse the
        // truth for ever. It still has to come to its end.
        ending: if kind % 4 < 2 { Ending::Silent } else { Ending::Refused },
        of_bytes: true,
    };
    for command in play(&script) {
        if let Command::Call(call) = command {
            requests(&call);
        }
    }
}

macro_rules! requests {
    (
        to stores: { $($store:ident => $of_store:ty,)* }
        to PD: { $($pd:ident => $of_pd:ty,)* }
    ) => {
        /// A request is a message of its RPC: read with that type and written again it is the same,
        /// and its head says what it is meant to say.
        fn requests(call: &Call) {
            let request = &call.request;
            let mut whole = BytesMut::new();
            request.encode(&mut whole);
            assert_eq!(whole.len(), request.encoded_len());
            let whole = whole.freeze();
            let body = request.body.clone();
            match request.rpc {
                $(Rpc::$store => {
                    let mut read = <$of_store>::decode(whole).expect("a message of its RPC");
                    let Head::Store(context) = &request.head else { panic!("{request:?}") };
                    let head = read.context.take();
                    assert_eq!(head.as_deref(), Some(&context.to_proto()), "{request:?}");
                    assert_eq!(read.encode_to_vec(), body, "{read:?}");
                })*
                $(Rpc::$pd => {
                    let mut read = <$of_pd>::decode(whole).expect("a message of its RPC");
                    let head = read.header.take();
                    match &request.head {
                        Head::Pd { cluster_id, .. } => {
                            assert_eq!(head.map_or(0, |head| head.cluster_id), *cluster_id);
                        }
                        Head::None => assert_eq!(head, None),
                        Head::Store(_) => panic!("{request:?}"),
                    }
                    assert_eq!(read.encode_to_vec(), body, "{read:?}");
                })*
                Rpc::HealthCheck => {
                    let read = health::HealthCheckRequest::decode(whole).expect("its message");
                    assert_eq!(read.encode_to_vec(), body);
                }
                // The page of requests is to be whole.
                rpc => panic!("{rpc:?} is sent, and not looked at"),
            }
        }
    };
}

requests! {
    to stores: {
    KvGet => kv::GetRequest,
    KvBatchGet => kv::BatchGetRequest,
    KvScan => kv::ScanRequest,
    KvPrewrite => kv::PrewriteRequest,
    KvCommit => kv::CommitRequest,
    KvBatchRollback => kv::BatchRollbackRequest,
    KvPessimisticLock => kv::PessimisticLockRequest,
    KvPessimisticRollback => kv::PessimisticRollbackRequest,
    KvTxnHeartBeat => kv::TxnHeartBeatRequest,
    KvCheckTxnStatus => kv::CheckTxnStatusRequest,
    KvResolveLock => kv::ResolveLockRequest,
    KvCheckSecondaryLocks => kv::CheckSecondaryLocksRequest,
    KvScanLock => kv::ScanLockRequest,
    RawGet => kv::RawGetRequest,
    RawPut => kv::RawPutRequest,
    RawDelete => kv::RawDeleteRequest,
    RawBatchGet => kv::RawBatchGetRequest,
    RawBatchPut => kv::RawBatchPutRequest,
    RawBatchDelete => kv::RawBatchDeleteRequest,
    RawScan => kv::RawScanRequest,
    RawGetKeyTtl => kv::RawGetKeyTtlRequest,
    RawCompareAndSwap => kv::RawCasRequest,
    RawDeleteRange => kv::RawDeleteRangeRequest,
    RawChecksum => kv::RawChecksumRequest,
    RawCoprocessor => kv::RawCoprocessorRequest,
    }
    to PD: {
    PdGetMembers => pdpb::GetMembersRequest,
    PdGetRegion => pdpb::GetRegionRequest,
    PdGetPrevRegion => pdpb::GetRegionRequest,
    PdGetRegionById => pdpb::GetRegionByIdRequest,
    PdScanRegions => pdpb::ScanRegionsRequest,
    PdBatchScanRegions => pdpb::BatchScanRegionsRequest,
    PdGetStore => pdpb::GetStoreRequest,
    LoadKeyspace => keyspacepb::LoadKeyspaceRequest,
    PdGetMinTs => pdpb::GetMinTsRequest,
    PdGetExternalTimestamp => pdpb::GetExternalTimestampRequest,
    PdGetGcState => pdpb::GetGcStateRequest,
    PdSetExternalTimestamp => pdpb::SetExternalTimestampRequest,
    }
}
