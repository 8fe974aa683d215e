//! Raw get, put and delete: one key, one region call.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::id::Handle;
use crate::op::{Op, Step, Stop};
use crate::operation::{ColumnFamily, RawOperation, Reply};
use crate::region::loader::Seek;
use crate::region_call::Target;
use crate::shared::{CallEnd, CallSpec, Cx, Wake};
use crate::wire::reply;

/// Waiting for the answer.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct RawPoint {
    kind: Kind,
    call: Handle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Get,
    Put,
    Delete,
}

impl RawPoint {
    pub(crate) fn start(op: RawOperation, cf: &ColumnFamily, cx: &mut Cx<'_>) -> Step {
        let cf = cf.name().to_owned();
        // The key goes through the message and back, so that it is neither copied nor counted.
        let (kind, rpc, key, body) = match op {
            RawOperation::Get { key } => {
                let message = kvrpcpb::RawGetRequest { key, cf, ..Default::default() };
                let body = cx.encode(&message);
                (Kind::Get, Rpc::RawGet, message.key, body)
            }
            RawOperation::Put { key, value, ttl_secs } => {
                let message =
                    kvrpcpb::RawPutRequest { key, value, ttl: ttl_secs, cf, ..Default::default() };
                let body = cx.encode(&message);
                (Kind::Put, Rpc::RawPut, message.key, body)
            }
            RawOperation::Delete { key } => {
                let message = kvrpcpb::RawDeleteRequest { key, cf, ..Default::default() };
                let body = cx.encode(&message);
                (Kind::Delete, Rpc::RawDelete, message.key, body)
            }
            RawOperation::BatchGet { .. }
            | RawOperation::BatchPut { .. }
            | RawOperation::BatchDelete { .. }
            | RawOperation::Scan(_) => return super::misrouted("a raw operation on many keys"),
        };
        let timeout = cx.shared.config.attempt_timeout;
        let limit = match kind {
            // raw.md §1: get and put leave the limit to the sender, which takes the RPC's timeout.
            Kind::Get | Kind::Put => timeout,
            Kind::Delete => cx.shared.config.max_write_execution,
        };
        let spec = CallSpec {
            rpc,
            body,
            extra: None,
            max_execution_ms: limit.as_millis() as u64,
            timeout,
            is_retry: false,
            wants_range: false,
            decisive: false,
        };
        let target = Target::Key { key, seek: Seek::Containing };
        let call = cx.call(0, target, spec, Backoff::new(budget::RAW));
        Step::Next(Op::RawPoint(Self { kind, call }))
    }

    pub(crate) fn wake(self, wake: Wake) -> Step {
        let Wake::Call(end) = wake else {
            return Step::Next(Op::RawPoint(self));
        };
        Step::Done(match end {
            CallEnd::Answered { response, .. } => match self.kind {
                Kind::Get => reply::raw_get(response).map(Reply::Value),
                Kind::Put => reply::raw_put(response).map(|()| Reply::Done),
                Kind::Delete => reply::raw_delete(response).map(|()| Reply::Done),
            },
            CallEnd::Failed { error, doubt } => Err(error.in_doubt(doubt && self.writes())),
            CallEnd::Regroup { .. } => return super::misrouted("a call pinned to a region"),
        })
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let mut left = cx.abandon(self.call);
        if let Some(left) = &mut left {
            left.doubt &= self.writes();
        }
        Step::Done(Err(why.error(left, cx.shared)))
    }

    fn writes(self) -> bool {
        match self.kind {
            Kind::Get => false,
            Kind::Put | Kind::Delete => true,
        }
    }
}
