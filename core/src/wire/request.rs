//! Requests: an RPC, a head that is stamped anew for each attempt, and a body that is encoded once.

use std::fmt;
use std::sync::Arc;

use anatase_proto::rpc::Rpc;
use anatase_proto::{kvrpcpb, metapb, pdpb};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding;

use crate::id::{Peer, PeerRole, RegionVersion};
use crate::txn::{DiskFullOpt, IsolationLevel, Priority};

/// A request as it goes to the wire.
///
/// In every request of the protocol field 1 is the head (`kvrpcpb.Context` to a store,
/// `pdpb.RequestHeader` to PD), and protobuf fields may come in any order, so `head ‖ body` is the
/// whole message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// Which RPC.
    pub rpc: Rpc,
    /// What changes from attempt to attempt.
    pub head: Head,
    /// The other fields, encoded.
    pub body: Bytes,
}

/// What is stamped in front of a body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Head {
    /// For a request to a store: `kvrpcpb.Context`.
    Store(Context),
    /// For a request to PD: `pdpb.RequestHeader`.
    Pd {
        /// The cluster; 0 asks PD not to check.
        cluster_id: u64,
        /// Not in the message but beside it, as gRPC metadata `pd-forwarded-host`: whoever is
        /// addressed should pass the request on to the leader, which is there and cannot be reached
        /// from here.
        forward_to: Option<Arc<str>>,
        /// The same, `pd-allow-follower-handle`: a follower may answer by itself.
        allow_follower: bool,
    },
    /// Nothing.
    None,
}

/// What a store wants to know about a request besides the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// The region, at the version that the client believes in.
    pub region: RegionVersion,
    /// The replica that is asked.
    pub peer: Peer,
    /// The cluster; 0 asks the store not to check.
    pub cluster_id: u64,
    /// An earlier copy of this request may have been received.
    pub is_retry: bool,
    /// After this many milliseconds the store may give up.
    pub max_execution_ms: u64,
    /// The keyspace of the keys in the request, under API V2; `None` under API V1.
    pub keyspace: Option<Keyspace>,
    /// What only some requests carry.
    pub extra: Option<Arc<ContextExtra>>,
}

/// A keyspace, as requests name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keyspace {
    /// Its number, of at most three bytes.
    pub id: u32,
    /// Its name.
    pub name: Arc<str>,
}

/// The parts of a context that only some requests carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextExtra {
    /// Start timestamps of transactions whose locks the read may pass by: they are rolled back, or
    /// will commit after the read's timestamp.
    pub resolved_locks: Vec<u64>,
    /// Start timestamps of transactions whose locks the read must read through: they are committed
    /// at or before the read's timestamp.
    pub committed_locks: Vec<u64>,
    /// What a read sees of transactions that are not committed.
    pub isolation: IsolationLevel,
    /// The store should not fill its block cache with what it reads.
    pub not_fill_cache: bool,
    /// Which requests belong together; 0 for none.
    pub task_id: u64,
    /// In which order the store executes what it is asked.
    pub priority: Priority,
    /// Have the write-ahead log synced.
    pub sync_log: bool,
    /// For the store's resource metering.
    pub resource_group_tag: Bytes,
    /// The resource group whose limits apply, if not the default one.
    pub resource_group_name: Option<Arc<str>>,
    /// Who asks.
    pub request_source: Option<Arc<str>>,
    /// Where writes come from, for change data capture.
    pub txn_source: u64,
    /// Whether to write when the disk is nearly full.
    pub disk_full_opt: DiskFullOpt,
}

impl ContextExtra {
    /// `transactions.md` §6.1.
    fn fill(&self, context: &mut kvrpcpb::Context) {
        let Self {
            resolved_locks,
            committed_locks,
            isolation,
            not_fill_cache,
            task_id,
            priority,
            sync_log,
            resource_group_tag,
            resource_group_name,
            request_source,
            txn_source,
            disk_full_opt,
        } = self;
        context.resolved_locks.clone_from(resolved_locks);
        context.committed_locks.clone_from(committed_locks);
        let isolation = match isolation {
            IsolationLevel::Si => kvrpcpb::IsolationLevel::Si,
            IsolationLevel::Rc => kvrpcpb::IsolationLevel::Rc,
            IsolationLevel::RcCheckTs => kvrpcpb::IsolationLevel::RcCheckTs,
        };
        context.isolation_level = isolation.into();
        context.not_fill_cache = *not_fill_cache;
        context.task_id = *task_id;
        let priority = match priority {
            Priority::Low => kvrpcpb::CommandPri::Low,
            Priority::Normal => kvrpcpb::CommandPri::Normal,
            Priority::High => kvrpcpb::CommandPri::High,
        };
        context.priority = priority.into();
        context.sync_log = *sync_log;
        context.resource_group_tag = resource_group_tag.clone();
        if let Some(source) = request_source {
            context.request_source = source.as_ref().to_owned();
        }
        context.txn_source = *txn_source;
        let disk_full_opt = match disk_full_opt {
            DiskFullOpt::NotAllowedOnFull => kvrpcpb::DiskFullOpt::NotAllowedOnFull,
            DiskFullOpt::AllowedOnAlmostFull => kvrpcpb::DiskFullOpt::AllowedOnAlmostFull,
            DiskFullOpt::AllowedOnAlreadyFull => kvrpcpb::DiskFullOpt::AllowedOnAlreadyFull,
        };
        context.disk_full_opt = disk_full_opt.into();
        if let Some(name) = resource_group_name {
            context.resource_control_context = Some(Box::new(kvrpcpb::ResourceControlContext {
                resource_group_name: name.as_ref().to_owned(),
                ..Default::default()
            }));
        }
    }
}

/// The keyspace id that means «no keyspace» (API V1).
pub(crate) const NULL_KEYSPACE: u32 = 0xFFFF_FFFF;

impl Context {
    /// As the message on the wire.
    pub fn to_proto(&self) -> kvrpcpb::Context {
        // wire.md §3.1: V1 or V2, whatever the store's storage is; V1TTL is never sent.
        let (api_version, keyspace_id, keyspace_name) = match &self.keyspace {
            None => (kvrpcpb::ApiVersion::V1, NULL_KEYSPACE, String::new()),
            Some(Keyspace { id, name }) => (kvrpcpb::ApiVersion::V2, *id, name.as_ref().to_owned()),
        };
        let mut context = kvrpcpb::Context {
            region_id: self.region.id,
            region_epoch: Some(metapb::RegionEpoch {
                conf_ver: self.region.conf_ver,
                version: self.region.version,
            }),
            peer: Some(self.peer.to_proto()),
            cluster_id: self.cluster_id,
            is_retry_request: self.is_retry,
            max_execution_duration_ms: self.max_execution_ms,
            api_version: api_version.into(),
            keyspace: Some(kvrpcpb::context::Keyspace::KeyspaceId(keyspace_id)),
            keyspace_name,
            ..Default::default()
        };
        if let Some(extra) = &self.extra {
            extra.fill(&mut context);
        }
        context
    }
}

impl Peer {
    /// As the message on the wire.
    pub fn to_proto(self) -> metapb::Peer {
        let role = match self.role {
            PeerRole::Voter => metapb::PeerRole::Voter,
            PeerRole::Learner => metapb::PeerRole::Learner,
            PeerRole::IncomingVoter => metapb::PeerRole::IncomingVoter,
            PeerRole::DemotingVoter => metapb::PeerRole::DemotingVoter,
        };
        metapb::Peer {
            id: self.id,
            store_id: self.store.0,
            role: role.into(),
            is_witness: self.witness,
        }
    }
}

impl Head {
    fn encoded_len(&self) -> usize {
        match self {
            Self::Store(context) => encoding::message::encoded_len(1, &context.to_proto()),
            Self::Pd { cluster_id, .. } => {
                encoding::message::encoded_len(1, &pd_header(*cluster_id))
            }
            Self::None => 0,
        }
    }

    fn encode(&self, buf: &mut impl BufMut) {
        match self {
            Self::Store(context) => encoding::message::encode(1, &context.to_proto(), buf),
            Self::Pd { cluster_id, .. } => {
                encoding::message::encode(1, &pd_header(*cluster_id), buf)
            }
            Self::None => {}
        }
    }
}

fn pd_header(cluster_id: u64) -> pdpb::RequestHeader {
    pdpb::RequestHeader { cluster_id, ..Default::default() }
}

impl Request {
    /// Encodes `message`, whose field 1 has to be unset, as the body.
    pub(crate) fn new(rpc: Rpc, head: Head, message: &impl Message) -> Self {
        Self { rpc, head, body: message.encode_to_vec().into() }
    }

    /// The length of [`Request::encode`]'s output.
    pub fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.body.len()
    }

    /// Appends the whole message, head and body, to `buf`.
    pub fn encode(&self, buf: &mut BytesMut) {
        self.head.encode(buf);
        buf.extend_from_slice(&self.body);
    }

    /// Decodes the whole message: for servers in the same process, simulators and tests.
    ///
    /// # Errors
    /// If `M` is not the message that this RPC carries.
    pub fn message<M: Message + Default>(&self) -> Result<M, prost::DecodeError> {
        let mut whole = BytesMut::with_capacity(self.encoded_len());
        self.encode(&mut whole);
        M::decode(whole.freeze())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?}, {} bytes)", self.rpc, self.head, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StoreId;

    /// Field 1, length-delimited.
    const HEAD_TAG: u8 = 1 << 3 | 2;

    fn context() -> Context {
        Context {
            region: RegionVersion { id: 2, conf_ver: 3, version: 4 },
            peer: Peer { id: 5, store: StoreId(6), role: PeerRole::Voter, witness: false },
            cluster_id: 7,
            is_retry: false,
            max_execution_ms: 20_000,
            keyspace: None,
            extra: None,
        }
    }

    #[test]
    fn a_retry_stamps_a_new_head_in_front_of_the_same_bytes() {
        let body =
            kvrpcpb::RawPutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let first = Request::new(Rpc::RawPut, Head::Store(context()), &body);
        let retry =
            Request { head: Head::Store(Context { is_retry: true, ..context() }), ..first.clone() };
        assert_eq!(first.body.as_ptr(), retry.body.as_ptr());
        for (request, is_retry) in [(&first, false), (&retry, true)] {
            let decoded: kvrpcpb::RawPutRequest = request.message().unwrap();
            assert_eq!(decoded.key, "k");
            assert_eq!(decoded.value, "v");
            let context = decoded.context.unwrap();
            assert_eq!(context.is_retry_request, is_retry);
            assert_eq!(context.region_id, 2);
            assert_eq!(context.max_execution_duration_ms, 20_000);
            assert_eq!(context.api_version(), kvrpcpb::ApiVersion::V1);
            assert_eq!(context.keyspace, Some(kvrpcpb::context::Keyspace::KeyspaceId(u32::MAX)));
            assert_eq!(context.keyspace_name, "");
        }
        let mut bytes = BytesMut::new();
        retry.encode(&mut bytes);
        assert_eq!(bytes.len(), retry.encoded_len());
        assert_eq!(bytes[0], HEAD_TAG);
    }

    /// wire.md §3.1, control-plane.md §10.3.
    #[test]
    fn under_v2_a_context_names_the_keyspace() {
        let keyspace = Some(Keyspace { id: 0xff_ffff, name: "tenant".into() });
        let proto = Context { keyspace, ..context() }.to_proto();
        assert_eq!(proto.api_version(), kvrpcpb::ApiVersion::V2);
        assert_eq!(proto.keyspace, Some(kvrpcpb::context::Keyspace::KeyspaceId(0xff_ffff)));
        assert_eq!(proto.keyspace_name, "tenant");
    }

    /// transactions.md §6.1.
    #[test]
    fn a_context_carries_what_was_chosen_for_the_transaction() {
        let extra = ContextExtra {
            resolved_locks: vec![1],
            committed_locks: vec![2],
            isolation: IsolationLevel::Rc,
            not_fill_cache: true,
            task_id: 9,
            priority: Priority::High,
            sync_log: true,
            resource_group_tag: "tag".into(),
            resource_group_name: Some("group".into()),
            request_source: Some("source".into()),
            txn_source: 7,
            disk_full_opt: DiskFullOpt::AllowedOnAlreadyFull,
        };
        let proto = Context { extra: Some(Arc::new(extra)), ..context() }.to_proto();
        assert_eq!((proto.resolved_locks, proto.committed_locks), (vec![1], vec![2]));
        let isolation = kvrpcpb::IsolationLevel::Rc as i32;
        let read = (proto.isolation_level, proto.not_fill_cache, proto.task_id);
        assert_eq!(read, (isolation, true, 9));
        assert_eq!((proto.priority, proto.sync_log), (kvrpcpb::CommandPri::High as i32, true));
        assert_eq!((&*proto.resource_group_tag, &*proto.request_source), (&b"tag"[..], "source"));
        assert_eq!((proto.txn_source, proto.disk_full_opt), (7, 2));
        let group = proto.resource_control_context.map(|context| context.resource_group_name);
        assert_eq!(group.as_deref(), Some("group"));
        let plain = Context { extra: Some(Arc::default()), ..context() }.to_proto();
        assert_eq!(plain, context().to_proto());
    }

    #[test]
    fn a_pd_request_carries_the_cluster_id() {
        let body = pdpb::GetStoreRequest { store_id: 9, ..Default::default() };
        let head = Head::Pd { cluster_id: 77, forward_to: None, allow_follower: false };
        let request = Request::new(Rpc::PdGetStore, head, &body);
        let decoded: pdpb::GetStoreRequest = request.message().unwrap();
        assert_eq!(decoded.header.unwrap().cluster_id, 77);
        assert_eq!(decoded.store_id, 9);
    }
}
