//! From a request to what becomes of it at its server.
//!
//! With `wire`, everything goes through bytes both ways, as over a socket. Without, the answers of
//! stores to the most frequent calls are handed over as they are; the requests are bytes in any case,
//! because that is how the core keeps them.

use std::time::Duration;

use anatase_cluster::{
    Answer, Cluster, Code, Failure, Loss, PdMetadata, Served, Status, StoreCall, Ticket, Woken,
};
use anatase_core::wire::{Head, Response, TimestampBatch};
use anatase_proto::prost::Message;
use anatase_proto::rpc::Rpc;
use anatase_proto::{kvrpcpb, pdpb};
use bytes::{Bytes, BytesMut};

use crate::fault::Side;
use crate::network::What;

/// What becomes of a request at its server.
pub(crate) enum Fared {
    /// It is answered, or not, so much later.
    Over(Result<Response, Failure>, Duration),
    /// It waits for a lock; see [`woken`].
    Parked(Ticket),
}

/// How much is set aside for requests at once.
const CHUNK: usize = 64 << 10;

/// Asks the server.
pub(crate) fn serve(
    cluster: &mut Cluster,
    server: Side,
    what: What,
    wire: bool,
    buffer: &mut BytesMut,
) -> Fared {
    match (server, what) {
        (Side::Store(store), What::Call(request)) => {
            let body = encoded(request.encoded_len(), buffer, |buffer| request.encode(buffer));
            let typed = if wire { None } else { typed(cluster, store, request.rpc, &body) };
            typed.unwrap_or_else(|| {
                let served = cluster.handle_or_park(store, request.rpc, body);
                fared(served, |result| decoded(request.rpc, result))
            })
        }
        (Side::Pd(member), What::Call(request)) => {
            let body = encoded(request.encoded_len(), buffer, |buffer| request.encode(buffer));
            let metadata = match request.head {
                Head::Pd { forward_to, allow_follower, .. } => {
                    PdMetadata { forwarded: forward_to.is_some(), allow_follower }
                }
                Head::Store(_) | Head::None => PdMetadata::default(),
            };
            let answer = cluster.handle_pd(member, request.rpc, &metadata, body);
            Fared::Over(decoded(request.rpc, answer.result), answer.delay)
        }
        (Side::Pd(member), What::Timestamps(ask)) => {
            let header = pdpb::RequestHeader { cluster_id: ask.cluster_id, ..Default::default() };
            let request =
                pdpb::TsoRequest { header: Some(header), count: ask.count, ..Default::default() };
            let body = encoded(request.encoded_len(), buffer, |b| request.encode_raw(b));
            let metadata =
                PdMetadata { forwarded: ask.forward_to.is_some(), allow_follower: false };
            let answer = cluster.handle_pd(member, Rpc::PdTso, &metadata, body);
            Fared::Over(stamped(ask.count, answer.result), answer.delay)
        }
        // Timestamps of a store, or anything of somebody who is no server.
        (Side::Store(_), What::Timestamps(_))
        | (Side::Client(_) | Side::Clients | Side::Stores | Side::AllPd, _) => {
            Fared::Over(Err(Failure::Lost(Loss::Refused)), Duration::ZERO)
        }
    }
}

fn encoded(len: usize, buffer: &mut BytesMut, encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    if buffer.capacity() < len {
        buffer.reserve(len.max(CHUNK));
    }
    encode(buffer);
    buffer.split().freeze()
}

macro_rules! typed {
    ($($rpc:ident: $request:ident => $variant:ident;)*) => {
        /// The answer without the detour through bytes, if the call is in this table.
        fn typed(cluster: &mut Cluster, store: u64, rpc: Rpc, body: &Bytes) -> Option<Fared> {
            match rpc {
                $(Rpc::$rpc => Some(call::<kvrpcpb::$request>(
                    cluster,
                    store,
                    body,
                    Response::$variant,
                )),)*
                _ => None,
            }
        }
    };
}

typed! {
    KvGet: GetRequest => Get;
    KvBatchGet: BatchGetRequest => BatchGet;
    KvScan: ScanRequest => Scan;
    KvPrewrite: PrewriteRequest => Prewrite;
    KvCommit: CommitRequest => Commit;
    KvBatchRollback: BatchRollbackRequest => BatchRollback;
    KvCheckTxnStatus: CheckTxnStatusRequest => CheckTxnStatus;
    KvResolveLock: ResolveLockRequest => ResolveLock;
    KvPessimisticRollback: PessimisticRollbackRequest => PessimisticRollback;
    KvTxnHeartBeat: TxnHeartBeatRequest => TxnHeartBeat;
    KvCheckSecondaryLocks: CheckSecondaryLocksRequest => CheckSecondaryLocks;
    RawGet: RawGetRequest => RawGet;
    RawPut: RawPutRequest => RawPut;
    RawDelete: RawDeleteRequest => RawDelete;
    RawCompareAndSwap: RawCasRequest => RawCompareAndSwap;
    RawScan: RawScanRequest => RawScan;
}

fn call<R: StoreCall>(
    cluster: &mut Cluster,
    store: u64,
    body: &Bytes,
    wrap: fn(R::Response) -> Response,
) -> Fared {
    match R::decode(body.clone()) {
        Ok(request) => fared(cluster.call_or_park(store, request), |result| result.map(wrap)),
        Err(error) => Fared::Over(Err(internal(error)), Duration::ZERO),
    }
}

fn fared<T>(
    served: Served<T>,
    read: impl FnOnce(Result<T, Failure>) -> Result<Response, Failure>,
) -> Fared {
    match served {
        Served::Answered(Answer { result, delay }) => Fared::Over(read(result), delay),
        Served::Parked(ticket) => Fared::Parked(ticket),
    }
}

/// The answer to a request that was parked.
pub(crate) fn woken(woken: Woken, wire: bool) -> (Result<Response, Failure>, Duration) {
    let Answer { result, delay } = woken.answer;
    let result = match result {
        Ok(response) if wire => {
            decoded(Rpc::KvPessimisticLock, Ok(response.encode_to_vec().into()))
        }
        Ok(response) => Ok(Response::PessimisticLock(Box::new(response))),
        Err(failure) => Err(failure),
    };
    (result, delay)
}

fn decoded(rpc: Rpc, answer: Result<Bytes, Failure>) -> Result<Response, Failure> {
    Response::decode(rpc, answer?).map_err(internal)
}

fn stamped(count: u32, answer: Result<Bytes, Failure>) -> Result<Response, Failure> {
    let message = pdpb::TsoResponse::decode(answer?).map_err(internal)?;
    // An error in the header, say.
    TimestampBatch::from_proto(&message, count)
        .map(Response::Timestamps)
        .map_err(|error| Status::new(Code::Unknown, error.to_string()).into())
}

fn internal(error: impl std::fmt::Display) -> Failure {
    Status::new(Code::Internal, error.to_string()).into()
}
