//! The little of etcd that clients find inside PD.
//!
//! The Go client asks the etcd that every PD embeds for its members when a transactional client is
//! made, and fails without an answer; its older versions also read the safe point of transactions
//! from a key there (wire.md §7.8), and stop reading when they cannot. Nothing else of etcd is
//! here. Its messages are not part of TiKV's protocol, so the few fields needed are declared by
//! hand.

use anatase_proto::prost::Message;
use bytes::Bytes;

use crate::{
    Cluster,
    answer::{Code, Status},
};

/// Where the safe point of transactions is kept, as decimal digits.
const SAFE_POINT: &[u8] = b"/tidb/store/gcworker/saved_safe_point";

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct MemberListResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<Member>,
}

#[derive(Clone, PartialEq, Message)]
struct Member {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    client_urls: Vec<String>,
}

impl Cluster {
    /// Serves a call to the etcd inside PD, by its gRPC path.
    pub fn handle_etcd(&self, path: &str, request: Bytes) -> Result<Bytes, Status> {
        let header = Some(Header { cluster_id: self.config.cluster_id });
        let response = match path {
            "/etcdserverpb.Cluster/MemberList" => {
                let members = self.pd.members.iter().map(|member| Member {
                    id: member.id,
                    name: member.name.clone(),
                    peer_urls: vec![member.url.clone()],
                    client_urls: vec![member.url.clone()],
                });
                MemberListResponse { header, members: members.collect() }.encode_to_vec()
            }
            "/etcdserverpb.KV/Range" => {
                let RangeRequest { key } = RangeRequest::decode(request)
                    .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
                let value = (key == SAFE_POINT).then(|| self.pd.safe_points.txn().to_string());
                let kvs: Vec<KeyValue> = value
                    .into_iter()
                    .map(|value| KeyValue { key: key.clone(), value: value.into() })
                    .collect();
                RangeResponse { header, count: kvs.len() as i64, kvs }.encode_to_vec()
            }
            _ => return Err(Status::new(Code::Unimplemented, format!("unknown call {path}"))),
        };
        Ok(response.into())
    }
}
