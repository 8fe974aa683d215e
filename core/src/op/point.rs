//! Raw operations that are one request: on one key, or on one region.
//!
//! Get, put, delete, the time to live and compare-and-swap follow their key wherever its region
//! goes. A question to a coprocessor is made for a region at one version, because its ranges were
//! grouped under that version: when the region is no more it ends, and whoever grouped them has to
//! group them anew.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::id::Handle;
use crate::op::{Op, Step, Stop};
use crate::operation::{
    ColumnFamily, RawCompareAndSwap, RawCoprocessor, RawOperation, RawSwap, Reply, Value,
};
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
    Ttl,
    Put,
    Delete,
    Swap,
    Coprocessor,
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
            RawOperation::GetKeyTtl { key } => {
                let message = kvrpcpb::RawGetKeyTtlRequest { key, cf, ..Default::default() };
                let body = cx.encode(&message);
                (Kind::Ttl, Rpc::RawGetKeyTtl, message.key, body)
            }
            RawOperation::Put { key, value, ttl_secs, atomic } => {
                let message = kvrpcpb::RawPutRequest {
                    key,
                    value,
                    ttl: ttl_secs,
                    cf,
                    for_cas: atomic,
                    ..Default::default()
                };
                let body = cx.encode(&message);
                (Kind::Put, Rpc::RawPut, message.key, body)
            }
            RawOperation::Delete { key, atomic } => {
                let message =
                    kvrpcpb::RawDeleteRequest { key, cf, for_cas: atomic, ..Default::default() };
                let body = cx.encode(&message);
                (Kind::Delete, Rpc::RawDelete, message.key, body)
            }
            RawOperation::CompareAndSwap(swap) => {
                let message = swap_request(*swap, cf);
                let body = cx.encode(&message);
                (Kind::Swap, Rpc::RawCompareAndSwap, message.key, body)
            }
            RawOperation::Coprocessor(question) => return Self::ask(*question, cx),
            RawOperation::BatchGet { .. }
            | RawOperation::BatchPut { .. }
            | RawOperation::BatchDelete { .. }
            | RawOperation::DeleteRange { .. }
            | RawOperation::Scan(_)
            | RawOperation::BatchScan { .. }
            | RawOperation::Checksum { .. } => {
                return super::misrouted("a raw operation on many keys");
            }
        };
        let config = &cx.shared.config;
        let spec = match kind {
            // raw.md §1: these leave the limit to the sender, which takes the RPC's timeout.
            Kind::Get | Kind::Ttl | Kind::Put | Kind::Coprocessor => {
                CallSpec::new(rpc, body, config.attempt_timeout)
            }
            Kind::Delete => CallSpec::write(rpc, body, config),
            // peers.md D17.
            Kind::Swap => CallSpec {
                once: !planted!(config, SwapRepeated),
                ..CallSpec::write(rpc, body, config)
            },
        };
        let target = Target::Key { key, seek: Seek::Containing };
        let call = cx.call(0, target, spec, Backoff::new(budget::RAW));
        Step::Next(Op::RawPoint(Self { kind, call }))
    }

    fn ask(question: RawCoprocessor, cx: &mut Cx<'_>) -> Step {
        let RawCoprocessor { name, version_req, region, ranges, data } = question;
        let ranges = ranges
            .into_iter()
            .map(|range| kvrpcpb::KeyRange { start_key: range.start, end_key: range.end });
        let message = kvrpcpb::RawCoprocessorRequest {
            copr_name: name,
            copr_version_req: version_req,
            ranges: ranges.collect(),
            data,
            ..Default::default()
        };
        let body = cx.encode(&message);
        let timeout = cx.shared.config.attempt_timeout;
        let spec = CallSpec::new(Rpc::RawCoprocessor, body, timeout);
        let call = cx.call(0, Target::Region(region), spec, Backoff::new(budget::RAW));
        Step::Next(Op::RawPoint(Self { kind: Kind::Coprocessor, call }))
    }

    pub(crate) fn wake(self, wake: Wake) -> Step {
        let Wake::Call(end) = wake else {
            return Step::Next(Op::RawPoint(self));
        };
        Step::Done(match end {
            // A refusal says nothing about an earlier copy whose answer was lost.
            CallEnd::Answered { response, doubt, .. } => match self.kind {
                Kind::Get => reply::raw_get(response).map(Reply::Value),
                Kind::Ttl => reply::raw_get_key_ttl(response).map(Reply::Ttl),
                Kind::Put => reply::raw_put(response).map(|()| Reply::Done),
                Kind::Delete => reply::raw_delete(response).map(|()| Reply::Done),
                Kind::Swap => reply::raw_compare_and_swap(response)
                    .map(|(previous, swapped)| Reply::Swapped { previous, swapped })
                    .map_err(doubtful_if_nonsense),
                Kind::Coprocessor => reply::raw_coprocessor(response).map(Reply::Bytes),
            }
            .map_err(|error| error.in_doubt(doubt && self.writes())),
            CallEnd::Failed { error, doubt } => Err(error.in_doubt(doubt && self.writes())),
            CallEnd::Regroup { backoff, doubt } if self.kind == Kind::Coprocessor => {
                let moved = Error::new(ErrorKind::RegionMoved, "the region has moved");
                Err(moved.because(backoff.last().cloned()).in_doubt(doubt))
            }
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
            Kind::Get | Kind::Ttl => false,
            // What a plug-in does is not known; it can write.
            Kind::Put | Kind::Delete | Kind::Swap | Kind::Coprocessor => true,
        }
    }
}

/// An answer that makes no sense says nothing about what the store did with the swap.
fn doubtful_if_nonsense(error: Error) -> Error {
    let nonsense = *error.kind() == ErrorKind::Protocol;
    error.in_doubt(nonsense)
}

/// `raw.md` §5: «there is none» and «it is empty» are two expectations.
fn swap_request(swap: RawCompareAndSwap, cf: String) -> kvrpcpb::RawCasRequest {
    let RawCompareAndSwap { key, previous, swap } = swap;
    let (value, ttl, delete) = match swap {
        RawSwap::Put { value, ttl_secs } => (value, ttl_secs, false),
        RawSwap::Delete => (Value::new(), 0, true),
    };
    kvrpcpb::RawCasRequest {
        key,
        value,
        ttl,
        delete,
        cf,
        previous_not_exist: previous.is_none(),
        previous_value: previous.unwrap_or_default(),
        ..Default::default()
    }
}
