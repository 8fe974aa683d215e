//! The calls a client makes, as data.
//!
//! One row a call: where it goes, what it takes and answers, how it streams, and the number it has
//! in the oneof of `BatchCommands` if it may travel there. Transports, the embedded cluster and
//! tests read this table, so that a path or a number is written once.

use std::fmt;

/// How messages flow in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RpcKind {
    /// One request, one response.
    Unary,
    /// One request, a stream of responses.
    ServerStream,
    /// Both sides stream.
    BidiStream,
}

/// The gRPC service that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// A store: `tikvpb.Tikv`.
    Tikv,
    /// The placement driver: `pdpb.PD`.
    Pd,
    /// The timestamp service that runs apart from PD: `tsopb.TSO`.
    Tso,
    /// The routing service that runs apart from PD, with PD's own messages: `routerpb.Router`.
    Router,
    /// Keyspaces, on the PD leader: `keyspacepb.Keyspace`.
    Keyspace,
    /// PD's metadata store: `meta_storagepb.MetaStorage`.
    MetaStorage,
    /// Resource groups: `resource_manager.ResourceManager`.
    ResourceManager,
    /// A store's debug service: `debugpb.Debug`.
    Debug,
    /// The standard health check: `grpc.health.v1.Health`.
    Health,
}

/// What the table knows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcInfo {
    /// The call.
    pub rpc: Rpc,
    /// Its gRPC path, in the exact case of the schema.
    pub path: &'static str,
    /// Full name of the request message, such as `kvrpcpb.GetRequest`.
    pub request: &'static str,
    /// Full name of the response message.
    pub response: &'static str,
    /// Its number in the oneof of `BatchCommands`, the same in both directions, if a store takes
    /// it there.
    pub batch: Option<u32>,
    /// How messages flow.
    pub kind: RpcKind,
    /// The service it belongs to.
    pub service: Service,
}

/// `Variant "Method": "request" => "response" Kind [number in BatchCommands];`
macro_rules! rpcs {
    ($(
        $service:ident $service_name:literal {
            $(
                $rpc:ident $method:literal: $request:literal => $response:literal
                $kind:ident $($batch:literal)?;
            )*
        }
    )*) => {
        /// A call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Rpc {
            $($(
                #[doc = concat!("`/", $service_name, "/", $method, "`")]
                $rpc,
            )*)*
        }

        /// In the order of the variants, so that a variant is its index.
        static TABLE: [RpcInfo; Rpc::ALL.len()] = [
            $($(
                RpcInfo {
                    rpc: Rpc::$rpc,
                    path: concat!("/", $service_name, "/", $method),
                    request: $request,
                    response: $response,
                    batch: rpcs!(@batch $($batch)?),
                    kind: RpcKind::$kind,
                    service: Service::$service,
                },
            )*)*
        ];

        impl Rpc {
            /// Every call, in the order of the table.
            pub const ALL: &[Rpc] = &[$($(Rpc::$rpc,)*)*];
        }
    };
    (@batch) => { None };
    (@batch $number:literal) => { Some($number) };
}

rpcs! {
    Tikv "tikvpb.Tikv" {
        KvGet "KvGet": "kvrpcpb.GetRequest" => "kvrpcpb.GetResponse" Unary 1;
        KvScan "KvScan": "kvrpcpb.ScanRequest" => "kvrpcpb.ScanResponse" Unary 2;
        KvPrewrite "KvPrewrite": "kvrpcpb.PrewriteRequest" => "kvrpcpb.PrewriteResponse" Unary 3;
        KvPessimisticLock "KvPessimisticLock": "kvrpcpb.PessimisticLockRequest" => "kvrpcpb.PessimisticLockResponse" Unary 23;
        KvPessimisticRollback "KVPessimisticRollback": "kvrpcpb.PessimisticRollbackRequest" => "kvrpcpb.PessimisticRollbackResponse" Unary 24;
        KvTxnHeartBeat "KvTxnHeartBeat": "kvrpcpb.TxnHeartBeatRequest" => "kvrpcpb.TxnHeartBeatResponse" Unary 26;
        KvCheckTxnStatus "KvCheckTxnStatus": "kvrpcpb.CheckTxnStatusRequest" => "kvrpcpb.CheckTxnStatusResponse" Unary 25;
        KvCheckSecondaryLocks "KvCheckSecondaryLocks": "kvrpcpb.CheckSecondaryLocksRequest" => "kvrpcpb.CheckSecondaryLocksResponse" Unary 33;
        KvCommit "KvCommit": "kvrpcpb.CommitRequest" => "kvrpcpb.CommitResponse" Unary 4;
        KvCleanup "KvCleanup": "kvrpcpb.CleanupRequest" => "kvrpcpb.CleanupResponse" Unary 6;
        KvBatchGet "KvBatchGet": "kvrpcpb.BatchGetRequest" => "kvrpcpb.BatchGetResponse" Unary 7;
        KvBatchRollback "KvBatchRollback": "kvrpcpb.BatchRollbackRequest" => "kvrpcpb.BatchRollbackResponse" Unary 8;
        KvScanLock "KvScanLock": "kvrpcpb.ScanLockRequest" => "kvrpcpb.ScanLockResponse" Unary 9;
        KvResolveLock "KvResolveLock": "kvrpcpb.ResolveLockRequest" => "kvrpcpb.ResolveLockResponse" Unary 10;
        KvGc "KvGC": "kvrpcpb.GCRequest" => "kvrpcpb.GCResponse" Unary 11;
        KvDeleteRange "KvDeleteRange": "kvrpcpb.DeleteRangeRequest" => "kvrpcpb.DeleteRangeResponse" Unary 12;
        KvPrepareFlashbackToVersion "KvPrepareFlashbackToVersion": "kvrpcpb.PrepareFlashbackToVersionRequest" => "kvrpcpb.PrepareFlashbackToVersionResponse" Unary 36;
        KvFlashbackToVersion "KvFlashbackToVersion": "kvrpcpb.FlashbackToVersionRequest" => "kvrpcpb.FlashbackToVersionResponse" Unary 35;
        KvFlush "KvFlush": "kvrpcpb.FlushRequest" => "kvrpcpb.FlushResponse" Unary 37;
        KvBufferBatchGet "KvBufferBatchGet": "kvrpcpb.BufferBatchGetRequest" => "kvrpcpb.BufferBatchGetResponse" Unary 38;
        RawGet "RawGet": "kvrpcpb.RawGetRequest" => "kvrpcpb.RawGetResponse" Unary 13;
        RawBatchGet "RawBatchGet": "kvrpcpb.RawBatchGetRequest" => "kvrpcpb.RawBatchGetResponse" Unary 14;
        RawPut "RawPut": "kvrpcpb.RawPutRequest" => "kvrpcpb.RawPutResponse" Unary 15;
        RawBatchPut "RawBatchPut": "kvrpcpb.RawBatchPutRequest" => "kvrpcpb.RawBatchPutResponse" Unary 16;
        RawDelete "RawDelete": "kvrpcpb.RawDeleteRequest" => "kvrpcpb.RawDeleteResponse" Unary 17;
        RawBatchDelete "RawBatchDelete": "kvrpcpb.RawBatchDeleteRequest" => "kvrpcpb.RawBatchDeleteResponse" Unary 18;
        RawScan "RawScan": "kvrpcpb.RawScanRequest" => "kvrpcpb.RawScanResponse" Unary 19;
        RawDeleteRange "RawDeleteRange": "kvrpcpb.RawDeleteRangeRequest" => "kvrpcpb.RawDeleteRangeResponse" Unary 20;
        RawGetKeyTtl "RawGetKeyTTL": "kvrpcpb.RawGetKeyTTLRequest" => "kvrpcpb.RawGetKeyTTLResponse" Unary;
        RawCompareAndSwap "RawCompareAndSwap": "kvrpcpb.RawCASRequest" => "kvrpcpb.RawCASResponse" Unary;
        RawBatchScan "RawBatchScan": "kvrpcpb.RawBatchScanRequest" => "kvrpcpb.RawBatchScanResponse" Unary 21;
        RawChecksum "RawChecksum": "kvrpcpb.RawChecksumRequest" => "kvrpcpb.RawChecksumResponse" Unary;
        RawCoprocessor "RawCoprocessor": "kvrpcpb.RawCoprocessorRequest" => "kvrpcpb.RawCoprocessorResponse" Unary 34;
        UnsafeDestroyRange "UnsafeDestroyRange": "kvrpcpb.UnsafeDestroyRangeRequest" => "kvrpcpb.UnsafeDestroyRangeResponse" Unary;
        RegisterLockObserver "RegisterLockObserver": "kvrpcpb.RegisterLockObserverRequest" => "kvrpcpb.RegisterLockObserverResponse" Unary;
        CheckLockObserver "CheckLockObserver": "kvrpcpb.CheckLockObserverRequest" => "kvrpcpb.CheckLockObserverResponse" Unary;
        RemoveLockObserver "RemoveLockObserver": "kvrpcpb.RemoveLockObserverRequest" => "kvrpcpb.RemoveLockObserverResponse" Unary;
        PhysicalScanLock "PhysicalScanLock": "kvrpcpb.PhysicalScanLockRequest" => "kvrpcpb.PhysicalScanLockResponse" Unary;
        SplitRegion "SplitRegion": "kvrpcpb.SplitRegionRequest" => "kvrpcpb.SplitRegionResponse" Unary;
        MvccGetByKey "MvccGetByKey": "kvrpcpb.MvccGetByKeyRequest" => "kvrpcpb.MvccGetByKeyResponse" Unary;
        MvccGetByStartTs "MvccGetByStartTs": "kvrpcpb.MvccGetByStartTsRequest" => "kvrpcpb.MvccGetByStartTsResponse" Unary;
        GetStoreSafeTs "GetStoreSafeTS": "kvrpcpb.StoreSafeTSRequest" => "kvrpcpb.StoreSafeTSResponse" Unary;
        GetLockWaitInfo "GetLockWaitInfo": "kvrpcpb.GetLockWaitInfoRequest" => "kvrpcpb.GetLockWaitInfoResponse" Unary;
        GetHealthFeedback "GetHealthFeedback": "kvrpcpb.GetHealthFeedbackRequest" => "kvrpcpb.GetHealthFeedbackResponse" Unary 39;
        BroadcastTxnStatus "BroadcastTxnStatus": "kvrpcpb.BroadcastTxnStatusRequest" => "kvrpcpb.BroadcastTxnStatusResponse" Unary 40;
        Coprocessor "Coprocessor": "coprocessor.Request" => "coprocessor.Response" Unary 22;
        CoprocessorStream "CoprocessorStream": "coprocessor.Request" => "coprocessor.Response" ServerStream;
        BatchCoprocessor "BatchCoprocessor": "coprocessor.BatchRequest" => "coprocessor.BatchResponse" ServerStream;
        DispatchMppTask "DispatchMPPTask": "mpp.DispatchTaskRequest" => "mpp.DispatchTaskResponse" Unary;
        CancelMppTask "CancelMPPTask": "mpp.CancelTaskRequest" => "mpp.CancelTaskResponse" Unary;
        EstablishMppConnection "EstablishMPPConnection": "mpp.EstablishMPPConnectionRequest" => "mpp.MPPDataPacket" ServerStream;
        IsAlive "IsAlive": "mpp.IsAliveRequest" => "mpp.IsAliveResponse" Unary;
        Compact "Compact": "kvrpcpb.CompactRequest" => "kvrpcpb.CompactResponse" Unary;
        GetTiFlashSystemTable "GetTiFlashSystemTable": "kvrpcpb.TiFlashSystemTableRequest" => "kvrpcpb.TiFlashSystemTableResponse" Unary;
        BatchCommands "BatchCommands": "tikvpb.BatchCommandsRequest" => "tikvpb.BatchCommandsResponse" BidiStream;
    }
    Pd "pdpb.PD" {
        PdGetMembers "GetMembers": "pdpb.GetMembersRequest" => "pdpb.GetMembersResponse" Unary;
        PdGetClusterInfo "GetClusterInfo": "pdpb.GetClusterInfoRequest" => "pdpb.GetClusterInfoResponse" Unary;
        PdTso "Tso": "pdpb.TsoRequest" => "pdpb.TsoResponse" BidiStream;
        PdGetMinTs "GetMinTS": "pdpb.GetMinTSRequest" => "pdpb.GetMinTSResponse" Unary;
        PdGetRegion "GetRegion": "pdpb.GetRegionRequest" => "pdpb.GetRegionResponse" Unary;
        PdGetPrevRegion "GetPrevRegion": "pdpb.GetRegionRequest" => "pdpb.GetRegionResponse" Unary;
        PdGetRegionById "GetRegionByID": "pdpb.GetRegionByIDRequest" => "pdpb.GetRegionResponse" Unary;
        PdQueryRegion "QueryRegion": "pdpb.QueryRegionRequest" => "pdpb.QueryRegionResponse" BidiStream;
        PdScanRegions "ScanRegions": "pdpb.ScanRegionsRequest" => "pdpb.ScanRegionsResponse" Unary;
        PdBatchScanRegions "BatchScanRegions": "pdpb.BatchScanRegionsRequest" => "pdpb.BatchScanRegionsResponse" Unary;
        PdGetStore "GetStore": "pdpb.GetStoreRequest" => "pdpb.GetStoreResponse" Unary;
        PdGetAllStores "GetAllStores": "pdpb.GetAllStoresRequest" => "pdpb.GetAllStoresResponse" Unary;
        PdScatterRegion "ScatterRegion": "pdpb.ScatterRegionRequest" => "pdpb.ScatterRegionResponse" Unary;
        PdSplitRegions "SplitRegions": "pdpb.SplitRegionsRequest" => "pdpb.SplitRegionsResponse" Unary;
        PdSplitAndScatterRegions "SplitAndScatterRegions": "pdpb.SplitAndScatterRegionsRequest" => "pdpb.SplitAndScatterRegionsResponse" Unary;
        PdGetOperator "GetOperator": "pdpb.GetOperatorRequest" => "pdpb.GetOperatorResponse" Unary;
        PdUpdateGcSafePoint "UpdateGCSafePoint": "pdpb.UpdateGCSafePointRequest" => "pdpb.UpdateGCSafePointResponse" Unary;
        PdUpdateServiceGcSafePoint "UpdateServiceGCSafePoint": "pdpb.UpdateServiceGCSafePointRequest" => "pdpb.UpdateServiceGCSafePointResponse" Unary;
        PdUpdateGcSafePointV2 "UpdateGCSafePointV2": "pdpb.UpdateGCSafePointV2Request" => "pdpb.UpdateGCSafePointV2Response" Unary;
        PdUpdateServiceSafePointV2 "UpdateServiceSafePointV2": "pdpb.UpdateServiceSafePointV2Request" => "pdpb.UpdateServiceSafePointV2Response" Unary;
        PdAdvanceTxnSafePoint "AdvanceTxnSafePoint": "pdpb.AdvanceTxnSafePointRequest" => "pdpb.AdvanceTxnSafePointResponse" Unary;
        PdAdvanceGcSafePoint "AdvanceGCSafePoint": "pdpb.AdvanceGCSafePointRequest" => "pdpb.AdvanceGCSafePointResponse" Unary;
        PdSetGcBarrier "SetGCBarrier": "pdpb.SetGCBarrierRequest" => "pdpb.SetGCBarrierResponse" Unary;
        PdDeleteGcBarrier "DeleteGCBarrier": "pdpb.DeleteGCBarrierRequest" => "pdpb.DeleteGCBarrierResponse" Unary;
        PdSetGlobalGcBarrier "SetGlobalGCBarrier": "pdpb.SetGlobalGCBarrierRequest" => "pdpb.SetGlobalGCBarrierResponse" Unary;
        PdDeleteGlobalGcBarrier "DeleteGlobalGCBarrier": "pdpb.DeleteGlobalGCBarrierRequest" => "pdpb.DeleteGlobalGCBarrierResponse" Unary;
        PdGetGcState "GetGCState": "pdpb.GetGCStateRequest" => "pdpb.GetGCStateResponse" Unary;
        PdGetAllKeyspacesGcStates "GetAllKeyspacesGCStates": "pdpb.GetAllKeyspacesGCStatesRequest" => "pdpb.GetAllKeyspacesGCStatesResponse" Unary;
        PdLoadGlobalConfig "LoadGlobalConfig": "pdpb.LoadGlobalConfigRequest" => "pdpb.LoadGlobalConfigResponse" Unary;
        PdStoreGlobalConfig "StoreGlobalConfig": "pdpb.StoreGlobalConfigRequest" => "pdpb.StoreGlobalConfigResponse" Unary;
        PdWatchGlobalConfig "WatchGlobalConfig": "pdpb.WatchGlobalConfigRequest" => "pdpb.WatchGlobalConfigResponse" ServerStream;
        PdGetExternalTimestamp "GetExternalTimestamp": "pdpb.GetExternalTimestampRequest" => "pdpb.GetExternalTimestampResponse" Unary;
        PdSetExternalTimestamp "SetExternalTimestamp": "pdpb.SetExternalTimestampRequest" => "pdpb.SetExternalTimestampResponse" Unary;
    }
    Tso "tsopb.TSO" {
        TsoTso "Tso": "tsopb.TsoRequest" => "tsopb.TsoResponse" BidiStream;
        TsoFindGroupByKeyspaceId "FindGroupByKeyspaceID": "tsopb.FindGroupByKeyspaceIDRequest" => "tsopb.FindGroupByKeyspaceIDResponse" Unary;
        TsoGetMinTs "GetMinTS": "tsopb.GetMinTSRequest" => "tsopb.GetMinTSResponse" Unary;
    }
    Router "routerpb.Router" {
        RouterGetRegion "GetRegion": "pdpb.GetRegionRequest" => "pdpb.GetRegionResponse" Unary;
        RouterGetPrevRegion "GetPrevRegion": "pdpb.GetRegionRequest" => "pdpb.GetRegionResponse" Unary;
        RouterGetRegionById "GetRegionByID": "pdpb.GetRegionByIDRequest" => "pdpb.GetRegionResponse" Unary;
        RouterQueryRegion "QueryRegion": "pdpb.QueryRegionRequest" => "pdpb.QueryRegionResponse" BidiStream;
        RouterBatchScanRegions "BatchScanRegions": "pdpb.BatchScanRegionsRequest" => "pdpb.BatchScanRegionsResponse" Unary;
        RouterGetStore "GetStore": "pdpb.GetStoreRequest" => "pdpb.GetStoreResponse" Unary;
        RouterGetAllStores "GetAllStores": "pdpb.GetAllStoresRequest" => "pdpb.GetAllStoresResponse" Unary;
    }
    Keyspace "keyspacepb.Keyspace" {
        LoadKeyspace "LoadKeyspace": "keyspacepb.LoadKeyspaceRequest" => "keyspacepb.LoadKeyspaceResponse" Unary;
        LoadKeyspaceById "LoadKeyspaceByID": "keyspacepb.LoadKeyspaceByIDRequest" => "keyspacepb.LoadKeyspaceResponse" Unary;
        UpdateKeyspaceState "UpdateKeyspaceState": "keyspacepb.UpdateKeyspaceStateRequest" => "keyspacepb.UpdateKeyspaceStateResponse" Unary;
        GetAllKeyspaces "GetAllKeyspaces": "keyspacepb.GetAllKeyspacesRequest" => "keyspacepb.GetAllKeyspacesResponse" Unary;
    }
    MetaStorage "meta_storagepb.MetaStorage" {
        MetaStorageGet "Get": "meta_storagepb.GetRequest" => "meta_storagepb.GetResponse" Unary;
        MetaStoragePut "Put": "meta_storagepb.PutRequest" => "meta_storagepb.PutResponse" Unary;
        MetaStorageWatch "Watch": "meta_storagepb.WatchRequest" => "meta_storagepb.WatchResponse" ServerStream;
    }
    ResourceManager "resource_manager.ResourceManager" {
        ListResourceGroups "ListResourceGroups": "resource_manager.ListResourceGroupsRequest" => "resource_manager.ListResourceGroupsResponse" Unary;
        GetResourceGroup "GetResourceGroup": "resource_manager.GetResourceGroupRequest" => "resource_manager.GetResourceGroupResponse" Unary;
        AddResourceGroup "AddResourceGroup": "resource_manager.PutResourceGroupRequest" => "resource_manager.PutResourceGroupResponse" Unary;
        ModifyResourceGroup "ModifyResourceGroup": "resource_manager.PutResourceGroupRequest" => "resource_manager.PutResourceGroupResponse" Unary;
        DeleteResourceGroup "DeleteResourceGroup": "resource_manager.DeleteResourceGroupRequest" => "resource_manager.DeleteResourceGroupResponse" Unary;
        AcquireTokenBuckets "AcquireTokenBuckets": "resource_manager.TokenBucketsRequest" => "resource_manager.TokenBucketsResponse" BidiStream;
    }
    Debug "debugpb.Debug" {
        DebugGetRegionProperties "GetRegionProperties": "debugpb.GetRegionPropertiesRequest" => "debugpb.GetRegionPropertiesResponse" Unary;
    }
    Health "grpc.health.v1.Health" {
        HealthCheck "Check": "grpc.health.v1.HealthCheckRequest" => "grpc.health.v1.HealthCheckResponse" Unary;
    }
}

impl Rpc {
    /// What the table knows of this call.
    #[inline]
    pub const fn info(self) -> &'static RpcInfo {
        &TABLE[self as usize]
    }

    /// The gRPC path.
    #[inline]
    pub const fn path(self) -> &'static str {
        self.info().path
    }

    /// The number in the oneof of `BatchCommands`; `None` if the call must be made by itself.
    #[inline]
    pub const fn batch(self) -> Option<u32> {
        self.info().batch
    }

    /// How messages flow.
    #[inline]
    pub const fn kind(self) -> RpcKind {
        self.info().kind
    }

    /// The service it belongs to.
    #[inline]
    pub const fn service(self) -> Service {
        self.info().service
    }

    /// The call with this gRPC path.
    pub fn from_path(path: &str) -> Option<Rpc> {
        TABLE.iter().find(|info| info.path == path).map(|info| info.rpc)
    }

    /// The call with this number in the oneof of `BatchCommands`.
    pub fn from_batch(number: u32) -> Option<Rpc> {
        TABLE.iter().find(|info| info.batch == Some(number)).map(|info| info.rpc)
    }
}

/// The gRPC path.
impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_variant_is_its_index() {
        for (index, rpc) in Rpc::ALL.iter().enumerate() {
            assert_eq!(*rpc as usize, index);
            assert_eq!(rpc.info().rpc, *rpc);
        }
    }

    #[test]
    fn paths_and_batch_numbers_are_unique() {
        let mut paths = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for rpc in Rpc::ALL {
            assert!(paths.insert(rpc.path()), "{rpc} twice");
            assert_eq!(Rpc::from_path(rpc.path()), Some(*rpc));
            if let Some(number) = rpc.batch() {
                assert!(numbers.insert(number), "number {number} twice");
                assert_eq!(Rpc::from_batch(number), Some(*rpc));
                assert_eq!(rpc.kind(), RpcKind::Unary);
                assert_eq!(rpc.service(), Service::Tikv);
            }
        }
        assert_eq!(Rpc::from_path("/tikvpb.Tikv/kvget"), None);
        assert_eq!(Rpc::from_path(""), None);
        assert_eq!(Rpc::from_batch(0), None);
        assert_eq!(Rpc::from_batch(255), None);
    }

    #[test]
    fn odd_spellings_are_kept() {
        assert_eq!(Rpc::KvPessimisticRollback.path(), "/tikvpb.Tikv/KVPessimisticRollback");
        assert_eq!(Rpc::KvPessimisticLock.path(), "/tikvpb.Tikv/KvPessimisticLock");
        assert_eq!(Rpc::RawCompareAndSwap.info().request, "kvrpcpb.RawCASRequest");
        assert_eq!(Rpc::GetStoreSafeTs.path(), "/tikvpb.Tikv/GetStoreSafeTS");
        assert_eq!(Rpc::HealthCheck.path(), "/grpc.health.v1.Health/Check");
        assert_eq!(Rpc::PdGetPrevRegion.info().request, "pdpb.GetRegionRequest");
    }

    #[test]
    fn what_may_not_be_batched() {
        for rpc in [
            Rpc::RawGetKeyTtl,
            Rpc::RawCompareAndSwap,
            Rpc::RawChecksum,
            Rpc::SplitRegion,
            Rpc::UnsafeDestroyRange,
            Rpc::CoprocessorStream,
            Rpc::GetStoreSafeTs,
            Rpc::PdTso,
        ] {
            assert_eq!(rpc.batch(), None, "{rpc}");
        }
    }
}
