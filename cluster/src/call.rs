//! The way into a store: from a call's name and bytes, or from a typed request, to an answer.
//!
//! Two tables say which requests there are, what each does to a region, and which function serves
//! it. What holds for all of them (a stopped store, the cluster id, faults, the checks of the
//! region) is done here, once.

use std::{any::Any, time::Duration};

use anatase_proto::{
    errorpb::Error,
    health,
    kvrpcpb::{self, Context},
    prost::Message,
    rpc::{Rpc, RpcKind, Service},
};
use bytes::Bytes;

use crate::{
    Cluster,
    access::{Access, Refusal},
    answer::{Answer, Code, Failure, Loss, Status},
    faults::{Call, Fault},
    lock_wait::Served,
    raw,
    region::Region,
    store::{StoreId, StoreState},
    store_level, txn,
};

/// What a function that serves a request may use.
pub(crate) struct Cx<'a> {
    pub(crate) cluster: &'a mut Cluster,
    /// The store that serves it.
    pub(crate) at: StoreId,
    /// The region, as it is.
    pub(crate) region: Region,
    /// The request's context.
    pub(crate) context: Context,
}

/// A request that a store takes.
///
/// Implemented for the messages of `anatase-proto` that are modelled, and for no others.
pub trait StoreCall: Message + Default + sealed::Serve<Answered = Self::Response> {
    /// What it is answered with.
    type Response: Message + Default + 'static;
    /// The call.
    const RPC: Rpc;
}

mod sealed {
    use super::{Cluster, Context, Error, Refusal, StoreId};

    #[allow(unnameable_types, missing_docs, private_interfaces)]
    pub trait Serve: Sized {
        type Answered;
        fn context(&self) -> Option<&Context>;
        /// `None` where the response has no place for a region error.
        fn of_region_error(error: Box<Error>) -> Option<Self::Answered>;
        fn serve(self, cluster: &mut Cluster, at: StoreId) -> Result<Self::Answered, Refusal>;
    }
}

macro_rules! calls {
    (
        to a region {
            $($rpc:ident: $request:ty => $response:ty, $access:ident, $serve:path;)*
        }
        to a store {
            $($store_rpc:ident: $store_request:ty => $store_response:ty, $context:tt, $store_serve:path;)*
        }
    ) => {
        $(
            impl StoreCall for $request {
                type Response = $response;
                const RPC: Rpc = Rpc::$rpc;
            }

            #[allow(private_interfaces)]
            impl sealed::Serve for $request {
                type Answered = $response;
                calls!(@context with);
                fn of_region_error(error: Box<Error>) -> Option<$response> {
                    Some(<$response>::default_with(error))
                }
                fn serve(
                    mut self,
                    cluster: &mut Cluster,
                    at: StoreId,
                ) -> Result<$response, Refusal> {
                    let context = self.context.take().map(|context| *context).unwrap_or_default();
                    let region = cluster.enter(at, &context, Access::$access)?;
                    $serve(&mut Cx { cluster, at, region, context }, self)
                }
            }

            impl DefaultWith for $response {
                fn default_with(error: Box<Error>) -> Self {
                    Self { region_error: Some(error), ..Self::default() }
                }
            }
        )*
        $(
            impl StoreCall for $store_request {
                type Response = $store_response;
                const RPC: Rpc = Rpc::$store_rpc;
            }

            #[allow(private_interfaces)]
            impl sealed::Serve for $store_request {
                type Answered = $store_response;
                calls!(@context $context);
                fn of_region_error(_: Box<Error>) -> Option<$store_response> {
                    None
                }
                fn serve(
                    self,
                    cluster: &mut Cluster,
                    at: StoreId,
                ) -> Result<$store_response, Refusal> {
                    $store_serve(cluster, at, self)
                }
            }
        )*

        fn dispatch(
            cluster: &mut Cluster,
            at: StoreId,
            rpc: Rpc,
            body: Bytes,
        ) -> Served<Bytes> {
            match rpc {
                $(Rpc::$rpc => cluster.call_encoded::<$request>(at, body),)*
                $(Rpc::$store_rpc => cluster.call_encoded::<$store_request>(at, body),)*
                _ => Served::Answered(cluster.call_unmodelled(at, rpc)),
            }
        }
    };
    (@context with) => {
        fn context(&self) -> Option<&Context> {
            self.context.as_deref()
        }
    };
    (@context without) => {
        fn context(&self) -> Option<&Context> {
            None
        }
    };
}

/// A value of a type that is the same as another, as that other.
fn same<T: 'static, U: 'static>(value: T) -> Option<U> {
    let mut value = Some(value);
    (&mut value as &mut dyn Any).downcast_mut::<Option<U>>()?.take()
}

trait DefaultWith {
    fn default_with(error: Box<Error>) -> Self;
}

calls! {
    to a region {
        KvGet: kvrpcpb::GetRequest => kvrpcpb::GetResponse, Read, txn::get;
        KvBatchGet: kvrpcpb::BatchGetRequest => kvrpcpb::BatchGetResponse, Read, txn::batch_get;
        KvScan: kvrpcpb::ScanRequest => kvrpcpb::ScanResponse, Read, txn::scan;
        KvPrewrite: kvrpcpb::PrewriteRequest => kvrpcpb::PrewriteResponse, Write, txn::prewrite;
        KvPessimisticLock: kvrpcpb::PessimisticLockRequest => kvrpcpb::PessimisticLockResponse, Write, txn::pessimistic_lock;
        KvPessimisticRollback: kvrpcpb::PessimisticRollbackRequest => kvrpcpb::PessimisticRollbackResponse, Clean, txn::pessimistic_rollback;
        KvCommit: kvrpcpb::CommitRequest => kvrpcpb::CommitResponse, Clean, txn::commit;
        KvCleanup: kvrpcpb::CleanupRequest => kvrpcpb::CleanupResponse, Clean, txn::cleanup;
        KvBatchRollback: kvrpcpb::BatchRollbackRequest => kvrpcpb::BatchRollbackResponse, Clean, txn::batch_rollback;
        KvTxnHeartBeat: kvrpcpb::TxnHeartBeatRequest => kvrpcpb::TxnHeartBeatResponse, Clean, txn::heart_beat;
        KvCheckTxnStatus: kvrpcpb::CheckTxnStatusRequest => kvrpcpb::CheckTxnStatusResponse, Clean, txn::check_txn_status;
        KvCheckSecondaryLocks: kvrpcpb::CheckSecondaryLocksRequest => kvrpcpb::CheckSecondaryLocksResponse, Clean, txn::check_secondary_locks;
        KvScanLock: kvrpcpb::ScanLockRequest => kvrpcpb::ScanLockResponse, Read, txn::scan_lock;
        KvResolveLock: kvrpcpb::ResolveLockRequest => kvrpcpb::ResolveLockResponse, Clean, txn::resolve_lock;
        KvDeleteRange: kvrpcpb::DeleteRangeRequest => kvrpcpb::DeleteRangeResponse, Clean, txn::delete_range;
        MvccGetByKey: kvrpcpb::MvccGetByKeyRequest => kvrpcpb::MvccGetByKeyResponse, Read, txn::mvcc_get_by_key;
        MvccGetByStartTs: kvrpcpb::MvccGetByStartTsRequest => kvrpcpb::MvccGetByStartTsResponse, Read, txn::mvcc_get_by_start_ts;
        RawGet: kvrpcpb::RawGetRequest => kvrpcpb::RawGetResponse, Read, raw::get;
        RawBatchGet: kvrpcpb::RawBatchGetRequest => kvrpcpb::RawBatchGetResponse, Read, raw::batch_get;
        RawPut: kvrpcpb::RawPutRequest => kvrpcpb::RawPutResponse, Write, raw::put;
        RawBatchPut: kvrpcpb::RawBatchPutRequest => kvrpcpb::RawBatchPutResponse, Write, raw::batch_put;
        RawDelete: kvrpcpb::RawDeleteRequest => kvrpcpb::RawDeleteResponse, Clean, raw::delete;
        RawBatchDelete: kvrpcpb::RawBatchDeleteRequest => kvrpcpb::RawBatchDeleteResponse, Clean, raw::batch_delete;
        RawDeleteRange: kvrpcpb::RawDeleteRangeRequest => kvrpcpb::RawDeleteRangeResponse, Clean, raw::delete_range;
        RawScan: kvrpcpb::RawScanRequest => kvrpcpb::RawScanResponse, Read, raw::scan;
        RawBatchScan: kvrpcpb::RawBatchScanRequest => kvrpcpb::RawBatchScanResponse, Read, raw::batch_scan;
        RawGetKeyTtl: kvrpcpb::RawGetKeyTtlRequest => kvrpcpb::RawGetKeyTtlResponse, Read, raw::get_key_ttl;
        RawCompareAndSwap: kvrpcpb::RawCasRequest => kvrpcpb::RawCasResponse, Write, raw::compare_and_swap;
        RawChecksum: kvrpcpb::RawChecksumRequest => kvrpcpb::RawChecksumResponse, Read, raw::checksum;
        RawCoprocessor: kvrpcpb::RawCoprocessorRequest => kvrpcpb::RawCoprocessorResponse, Read, raw::coprocessor;
        SplitRegion: kvrpcpb::SplitRegionRequest => kvrpcpb::SplitRegionResponse, Clean, store_level::split_region;
    }
    to a store {
        UnsafeDestroyRange: kvrpcpb::UnsafeDestroyRangeRequest => kvrpcpb::UnsafeDestroyRangeResponse, with, store_level::unsafe_destroy_range;
        PhysicalScanLock: kvrpcpb::PhysicalScanLockRequest => kvrpcpb::PhysicalScanLockResponse, with, store_level::physical_scan_lock;
        GetLockWaitInfo: kvrpcpb::GetLockWaitInfoRequest => kvrpcpb::GetLockWaitInfoResponse, with, store_level::get_lock_wait_info;
        GetHealthFeedback: kvrpcpb::GetHealthFeedbackRequest => kvrpcpb::GetHealthFeedbackResponse, with, store_level::get_health_feedback;
        BroadcastTxnStatus: kvrpcpb::BroadcastTxnStatusRequest => kvrpcpb::BroadcastTxnStatusResponse, with, store_level::broadcast_txn_status;
        GetStoreSafeTs: kvrpcpb::StoreSafeTsRequest => kvrpcpb::StoreSafeTsResponse, without, store_level::get_store_safe_ts;
        HealthCheck: health::HealthCheckRequest => health::HealthCheckResponse, without, store_level::health_check;
    }
}

impl Cluster {
    /// Serves a call to a store, as bytes. `BatchCommands` streams go to
    /// [`Cluster::handle_batch`].
    ///
    /// Whatever the bytes are, this answers and does not panic. A call that is not modelled is
    /// answered with `UNIMPLEMENTED`.
    pub fn handle(&mut self, store: StoreId, rpc: Rpc, request: Bytes) -> Answer<Bytes> {
        match self.handle_or_park(store, rpc, request) {
            Served::Answered(answer) => answer,
            Served::Parked(ticket) => {
                self.withdraw(ticket).map(|response| response.encode_to_vec().into())
            }
        }
    }

    /// [`Cluster::handle`], for a caller that can wait: a request for a lock that another
    /// transaction has is parked, and [`Cluster::take_woken`] tells its answer when the wait is
    /// over.
    pub fn handle_or_park(&mut self, store: StoreId, rpc: Rpc, request: Bytes) -> Served<Bytes> {
        dispatch(self, store, rpc, request)
    }

    /// Serves a call to a store, as a typed request.
    ///
    /// ```
    /// # use anatase_cluster::ClusterConfig;
    /// # use anatase_proto::kvrpcpb;
    /// let mut cluster = ClusterConfig::default().build();
    /// let region = cluster.region_of_raw(b"k").unwrap().id;
    /// let context = cluster.context_for(region);
    /// let request = kvrpcpb::RawPutRequest {
    ///     context: Some(Box::new(context)),
    ///     key: "k".into(),
    ///     value: "v".into(),
    ///     ..Default::default()
    /// };
    /// let response = cluster.call(1, request).result.unwrap();
    /// assert_eq!(response.region_error, None);
    /// assert_eq!(cluster.raw_pairs("default").count(), 1);
    /// ```
    ///
    /// A request for a lock that another transaction has is answered as if it had waited in vain;
    /// [`Answer::delay`] is how long. It is parked by [`Cluster::call_or_park`].
    pub fn call<R: StoreCall>(&mut self, store: StoreId, request: R) -> Answer<R::Response> {
        match self.call_or_park(store, request) {
            Served::Answered(answer) => answer,
            Served::Parked(ticket) => {
                let answer = self.withdraw(ticket);
                // Only calls that are answered so are ever parked.
                let result = answer
                    .result
                    .and_then(|response| same(response).ok_or(Failure::Lost(Loss::Silent)));
                Answer { result, delay: answer.delay }
            }
        }
    }

    /// [`Cluster::call`], for a caller that can wait: see [`Cluster::handle_or_park`].
    pub fn call_or_park<R: StoreCall>(
        &mut self,
        store: StoreId,
        request: R,
    ) -> Served<R::Response> {
        let served = self.serve_one(store, request);
        self.settle_waits();
        served
    }

    fn serve_one<R: StoreCall>(&mut self, store: StoreId, request: R) -> Served<R::Response> {
        let failed = |failure| Served::Answered(Answer::now(Err(failure)));
        if let Some(refused) = self.refuse_connection(store) {
            return failed(refused);
        }
        let context = request.context();
        if let Some(mismatch) = self.cluster_id_mismatch(context) {
            return failed(mismatch.into());
        }
        let region = context.map(|context| context.region_id).filter(|id| *id != 0);
        let call = Call { rpc: R::RPC, store: Some(store), member: None, region };
        let mut delay = Duration::ZERO;
        match self.faults.strike(&call) {
            None | Some(Fault::Pd(_) | Fault::FallBack(_) | Fault::DoNotWait) => {}
            Some(Fault::Before(event)) => {
                self.happen(event);
                // It may have been this store.
                if let Some(refused) = self.refuse_connection(store) {
                    return failed(refused);
                }
            }
            Some(Fault::Delay(by)) => delay = by,
            Some(Fault::Status(status)) => return failed(status.into()),
            Some(Fault::DropRequest(loss)) => return failed(Failure::Lost(loss)),
            Some(Fault::DropResponse(loss)) => {
                // Executed for what it does; what it says is nobody's.
                if let Err(Refusal::Parked(ticket)) = request.serve(self, store) {
                    self.lock_wait.unheard(ticket);
                }
                return failed(Failure::Lost(loss));
            }
            Some(Fault::Region(fault)) => {
                let error = fault.to_proto(store, region.unwrap_or(0), &self.regions);
                let result = Self::region_error_as::<R>(Box::new(error));
                return Served::Answered(Answer { result, delay });
            }
        }
        let result = match request.serve(self, store) {
            Ok(response) => Ok(response),
            Err(Refusal::Region(error)) => Self::region_error_as::<R>(error),
            Err(Refusal::Failure(failure)) => Err(failure),
            Err(Refusal::Parked(ticket)) => {
                self.lock_wait.delay(ticket, delay);
                return Served::Parked(ticket);
            }
        };
        Served::Answered(Answer { result, delay })
    }

    fn region_error_as<R: StoreCall>(error: Box<Error>) -> Result<R::Response, Failure> {
        R::of_region_error(error)
            .ok_or_else(|| Status::new(Code::Internal, "a region error to a store call").into())
    }

    fn call_encoded<R: StoreCall>(&mut self, store: StoreId, body: Bytes) -> Served<Bytes> {
        match R::decode(body) {
            Ok(request) => {
                self.call_or_park(store, request).map(|response| response.encode_to_vec().into())
            }
            Err(error) => {
                let status = Status::new(Code::Internal, error.to_string());
                Served::Answered(Answer::now(Err(status.into())))
            }
        }
    }

    /// A call that is not modelled still meets stopped stores and faults.
    fn call_unmodelled(&mut self, store: StoreId, rpc: Rpc) -> Answer<Bytes> {
        if let Some(refused) = self.refuse_connection(store) {
            return Answer::now(Err(refused));
        }
        let call = Call { rpc, store: Some(store), member: None, region: None };
        let struck = self.faults.strike(&call);
        if let Some(Fault::Before(event)) = &struck {
            self.happen(event.clone());
        }
        let failure = match struck {
            Some(Fault::Status(status)) => status.into(),
            Some(Fault::DropRequest(loss) | Fault::DropResponse(loss)) => Failure::Lost(loss),
            _ if !matches!(rpc.service(), Service::Tikv | Service::Debug) => {
                Status::new(Code::Unimplemented, format!("{rpc} is not a call of a store")).into()
            }
            _ if rpc.kind() != RpcKind::Unary => {
                Status::new(Code::Unimplemented, format!("{rpc} is a stream")).into()
            }
            _ => Status::unmodelled(rpc).into(),
        };
        Answer::now(Err(failure))
    }

    pub(crate) fn refuse_connection(&self, store: StoreId) -> Option<Failure> {
        let up = self.stores.get(&store).is_some_and(|store| store.state == StoreState::Up);
        (!up).then_some(Failure::Lost(Loss::Refused))
    }

    /// A request may name the cluster it is for; 0 names none (wire.md §1).
    fn cluster_id_mismatch(&self, context: Option<&Context>) -> Option<Status> {
        let asked = context?.cluster_id;
        let mine = self.config.cluster_id;
        (asked != 0 && asked != mine).then(|| {
            Status::new(
                Code::InvalidArgument,
                format!("Cluster ID mismatch, request {asked}, cluster {mine}"),
            )
        })
    }

    /// The context of a request to the leader of a region, as a client with fresh routes makes it.
    /// A region that is not there, or has no leader, gives a context that will be refused.
    pub fn context_for(&self, region: crate::RegionId) -> Context {
        let found = self.regions.get(region);
        Context {
            region_id: region,
            region_epoch: found.and_then(|region| region.to_proto().region_epoch),
            peer: found.and_then(|region| region.leader_peer()).map(|peer| peer.to_proto()),
            cluster_id: self.config.cluster_id,
            ..Context::default()
        }
    }
}
