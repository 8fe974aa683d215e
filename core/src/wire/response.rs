//! Responses as the driver hands them in: decoded, not yet understood.

use anatase_proto::rpc::Rpc;
use anatase_proto::{health, keyspacepb, kvrpcpb, pdpb};
use bytes::Bytes;
use prost::Message;

use crate::timestamp::Timestamp;

macro_rules! responses {
    ($($(#[$doc:meta])* $variant:ident = $rpc:path => $message:ty,)*) => {
        /// The answer to a command.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Response {
            $(
                #[doc = concat!("Answers `", stringify!($rpc), "`.")]
                $variant($message),
            )*
            /// Answers [`Command::Timestamps`](crate::Command::Timestamps).
            Timestamps(TimestampBatch),
        }

        impl Response {
            /// Decodes the answer to `rpc`.
            ///
            /// # Errors
            /// If the bytes are no such message, or the core never sends `rpc`.
            pub fn decode(rpc: Rpc, bytes: Bytes) -> Result<Self, ResponseError> {
                $(
                    if rpc == $rpc {
                        return match <$message>::decode(bytes) {
                            Ok(message) => Ok(Self::$variant(message)),
                            Err(error) => Err(ResponseError::Malformed { rpc, error }),
                        };
                    }
                )*
                Err(ResponseError::Unasked { rpc })
            }

            /// Encodes the answer: for servers in the same process, simulators and tests.
            pub fn encode_to_vec(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(message) => message.encode_to_vec(),)*
                    Self::Timestamps(_) => Vec::new(),
                }
            }
        }
    };
}

responses! {
    Get = Rpc::KvGet => kvrpcpb::GetResponse,
    BatchGet = Rpc::KvBatchGet => kvrpcpb::BatchGetResponse,
    Scan = Rpc::KvScan => kvrpcpb::ScanResponse,
    Prewrite = Rpc::KvPrewrite => kvrpcpb::PrewriteResponse,
    Commit = Rpc::KvCommit => kvrpcpb::CommitResponse,
    BatchRollback = Rpc::KvBatchRollback => kvrpcpb::BatchRollbackResponse,
    PessimisticLock = Rpc::KvPessimisticLock => Box<kvrpcpb::PessimisticLockResponse>,
    PessimisticRollback = Rpc::KvPessimisticRollback => kvrpcpb::PessimisticRollbackResponse,
    TxnHeartBeat = Rpc::KvTxnHeartBeat => kvrpcpb::TxnHeartBeatResponse,
    CheckTxnStatus = Rpc::KvCheckTxnStatus => kvrpcpb::CheckTxnStatusResponse,
    ResolveLock = Rpc::KvResolveLock => kvrpcpb::ResolveLockResponse,
    CheckSecondaryLocks = Rpc::KvCheckSecondaryLocks => kvrpcpb::CheckSecondaryLocksResponse,
    ScanLock = Rpc::KvScanLock => kvrpcpb::ScanLockResponse,
    RawGet = Rpc::RawGet => kvrpcpb::RawGetResponse,
    RawPut = Rpc::RawPut => kvrpcpb::RawPutResponse,
    RawDelete = Rpc::RawDelete => kvrpcpb::RawDeleteResponse,
    RawBatchGet = Rpc::RawBatchGet => kvrpcpb::RawBatchGetResponse,
    RawBatchPut = Rpc::RawBatchPut => kvrpcpb::RawBatchPutResponse,
    RawBatchDelete = Rpc::RawBatchDelete => kvrpcpb::RawBatchDeleteResponse,
    RawScan = Rpc::RawScan => kvrpcpb::RawScanResponse,
    RawGetKeyTtl = Rpc::RawGetKeyTtl => kvrpcpb::RawGetKeyTtlResponse,
    RawCompareAndSwap = Rpc::RawCompareAndSwap => kvrpcpb::RawCasResponse,
    RawDeleteRange = Rpc::RawDeleteRange => kvrpcpb::RawDeleteRangeResponse,
    RawChecksum = Rpc::RawChecksum => kvrpcpb::RawChecksumResponse,
    RawCoprocessor = Rpc::RawCoprocessor => kvrpcpb::RawCoprocessorResponse,
    HealthCheck = Rpc::HealthCheck => health::HealthCheckResponse,
    GetMembers = Rpc::PdGetMembers => Box<pdpb::GetMembersResponse>,
    GetRegion = Rpc::PdGetRegion => Box<pdpb::GetRegionResponse>,
    GetPrevRegion = Rpc::PdGetPrevRegion => Box<pdpb::GetRegionResponse>,
    GetRegionById = Rpc::PdGetRegionById => Box<pdpb::GetRegionResponse>,
    ScanRegions = Rpc::PdScanRegions => Box<pdpb::ScanRegionsResponse>,
    BatchScanRegions = Rpc::PdBatchScanRegions => Box<pdpb::BatchScanRegionsResponse>,
    GetStore = Rpc::PdGetStore => Box<pdpb::GetStoreResponse>,
    LoadKeyspace = Rpc::LoadKeyspace => Box<keyspacepb::LoadKeyspaceResponse>,
    GetMinTs = Rpc::PdGetMinTs => Box<pdpb::GetMinTsResponse>,
    GetExternalTimestamp = Rpc::PdGetExternalTimestamp => Box<pdpb::GetExternalTimestampResponse>,
    GetGcState = Rpc::PdGetGcState => Box<pdpb::GetGcStateResponse>,
    SetExternalTimestamp = Rpc::PdSetExternalTimestamp => Box<pdpb::SetExternalTimestampResponse>,
}

/// Timestamps that PD handed out in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimestampBatch {
    /// The largest of them; the others are the ones just below it, without gaps.
    pub last: Timestamp,
    /// How many.
    pub count: u32,
}

impl TimestampBatch {
    /// Checks an answer of PD's `Tso` stream against the number of timestamps asked for.
    ///
    /// # Errors
    /// If the answer carries no timestamp, another number of them, or one that is not possible.
    pub fn from_proto(response: &pdpb::TsoResponse, asked: u32) -> Result<Self, ResponseError> {
        let impossible = |what| Err(ResponseError::Impossible { rpc: Rpc::PdTso, what });
        if response.count != asked || asked == 0 {
            return impossible("another number of timestamps than asked for");
        }
        let Some(timestamp) = &response.timestamp else {
            return impossible("no timestamp");
        };
        let last = match (u64::try_from(timestamp.physical), u64::try_from(timestamp.logical)) {
            (Ok(physical), Ok(logical)) if logical + 1 >= u64::from(asked) => {
                Timestamp::compose(physical, logical)
            }
            _ => None,
        };
        match last {
            Some(last) => Ok(Self { last, count: asked }),
            None => impossible("a timestamp out of range"),
        }
    }
}

/// Bytes from a server that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The bytes are not the message that answers this RPC.
    #[error("malformed answer to {rpc:?}: {error}")]
    Malformed {
        /// The RPC.
        rpc: Rpc,
        /// What is wrong with the bytes.
        error: prost::DecodeError,
    },
    /// The core never sends this RPC.
    #[error("{rpc:?} is not an RPC that the core sends")]
    Unasked {
        /// The RPC.
        rpc: Rpc,
    },
    /// The message says something that the protocol does not allow.
    #[error("impossible answer to {rpc:?}: {what}")]
    Impossible {
        /// The RPC.
        rpc: Rpc,
        /// What is impossible about it.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_decoded_by_rpc_and_garbage_is_an_error() {
        let message = kvrpcpb::RawGetResponse { value: "v".into(), ..Default::default() };
        let decoded = Response::decode(Rpc::RawGet, message.encode_to_vec().into()).unwrap();
        assert_eq!(decoded, Response::RawGet(message));
        let garbage = Response::decode(Rpc::RawGet, Bytes::from_static(&[0xff; 9]));
        assert!(matches!(garbage, Err(ResponseError::Malformed { .. })));
        let unasked = Response::decode(Rpc::PdTso, Bytes::new());
        assert!(matches!(unasked, Err(ResponseError::Unasked { .. })));
    }

    #[test]
    fn a_timestamp_answer_is_checked_field_by_field() {
        let answer = |count, physical, logical| pdpb::TsoResponse {
            count,
            timestamp: Some(pdpb::Timestamp { physical, logical, ..Default::default() }),
            ..Default::default()
        };
        let good = TimestampBatch::from_proto(&answer(3, 10, 5), 3).unwrap();
        assert_eq!((good.last, good.count), (Timestamp::compose(10, 5).unwrap(), 3));
        for bad in [
            answer(2, 10, 5),
            answer(3, -1, 5),
            answer(3, 10, -1),
            answer(3, 10, 1),
            answer(3, 1 << 46, 5),
            answer(3, 10, 1 << 18),
            pdpb::TsoResponse { count: 3, ..Default::default() },
        ] {
            assert!(TimestampBatch::from_proto(&bad, 3).is_err(), "{bad:?}");
        }
    }

    /// What is rarely there is boxed, so that an answer is moved about without an allocation.
    #[test]
    fn a_response_is_small() {
        assert!(size_of::<Response>() <= 88, "{}", size_of::<Response>());
    }
}
