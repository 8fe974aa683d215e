//! Whatever bytes a server sends: they are understood, or refused, and nothing panics (`peers.md` D29).

use anatase_proto::rpc::Rpc;
use bytes::Bytes;
#[cfg(test)]
use quickcheck::{Arbitrary, Gen, quickcheck};

use super::region_error::RegionError;
use super::{Response, reply};
use crate::codec::Prefix;
use crate::config::KeyMode;
use crate::error::ErrorKind;

/// Bytes that look enough like protobuf to come far: small field numbers, all wire types, nested.
#[cfg(test)]
#[derive(Clone, Debug)]
struct Message(Vec<u8>);

#[cfg(test)]
impl Arbitrary for Message {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut bytes = Vec::new();
        message(g, 4, &mut bytes);
        // Now and then cut off or spoilt.
        match u8::arbitrary(g) % 8 {
            0 => bytes.truncate(usize::arbitrary(g) % (bytes.len() + 1)),
            1 if !bytes.is_empty() => {
                let index = usize::arbitrary(g) % bytes.len();
                bytes[index] = u8::arbitrary(g);
            }
            _ => {}
        }
        Self(bytes)
    }
}

#[cfg(test)]
fn message(g: &mut Gen, depth: u8, out: &mut Vec<u8>) {
    for _ in 0..u8::arbitrary(g) % 6 {
        let field = 1 + u8::arbitrary(g) % 15;
        if bool::arbitrary(g) || depth == 0 {
            out.push(field << 3);
            out.push(u8::arbitrary(g) % 128);
        } else {
            let mut inner = Vec::new();
            match bool::arbitrary(g) {
                true => message(g, depth - 1, &mut inner),
                false => inner.extend(b"Deadline is exceeded".iter().take(field.into())),
            }
            out.push(field << 3 | 2);
            prost::encoding::encode_varint(inner.len() as u64, out);
            out.extend(inner);
        }
    }
}

/// An empty answer answers this one.
const QUESTION: reply::LockQuestion = reply::LockQuestion {
    keys: 1,
    return_values: false,
    check_existence: true,
    force: false,
    for_update_ts: crate::Timestamp::MAX,
};

/// Every RPC whose answers the core reads.
fn asked() -> impl Iterator<Item = Rpc> {
    let decodes = |rpc: &Rpc| Response::decode(*rpc, Bytes::new()).is_ok();
    Rpc::ALL.iter().copied().filter(decodes)
}

/// Puts a response through every parser, its own and the others'.
fn read(response: &Response) -> usize {
    let answers = [
        reply::raw_get(response.clone()).is_ok(),
        reply::raw_put(response.clone()).is_ok(),
        reply::raw_delete(response.clone()).is_ok(),
        reply::raw_batch_get(response.clone()).is_ok(),
        reply::raw_batch_put(response.clone()).is_ok(),
        reply::raw_batch_delete(response.clone()).is_ok(),
        reply::raw_scan(response.clone()).is_ok(),
        reply::raw_get_key_ttl(response.clone()).is_ok(),
        reply::raw_compare_and_swap(response.clone()).is_ok(),
        reply::raw_delete_range(response.clone()).is_ok(),
        reply::raw_checksum(response.clone()).is_ok(),
        reply::raw_coprocessor(response.clone()).is_ok(),
        reply::get(response.clone()).is_ok(),
        reply::batch_get(response.clone()).is_ok(),
        reply::scan(response.clone()).is_ok(),
        reply::prewrite(response.clone()).is_ok(),
        reply::commit(response.clone()).is_ok(),
        reply::batch_rollback(response.clone()).is_ok(),
        reply::resolve_lock(response.clone()).is_ok(),
        reply::pessimistic_lock(response.clone(), &QUESTION).is_ok(),
        reply::pessimistic_rollback(response.clone()).is_ok(),
        reply::txn_heart_beat(response.clone()).is_ok(),
        reply::check_txn_status(response.clone()).is_ok(),
        reply::check_secondary_locks(response.clone()).is_ok(),
        reply::scan_lock(response.clone()).is_ok(),
        super::health_reply::serving(response.clone()).is_ok(),
        reply::members(response.clone()).is_ok(),
        reply::regions(response.clone()).is_ok(),
        reply::store_address(response.clone()).is_ok(),
        // An empty one says that there is no such keyspace.
        reply::keyspace(response.clone(), &"".into())
            .map_or_else(|error| *error.kind() != ErrorKind::Protocol, |_| true),
        reply::min_timestamp(response.clone()).is_ok(),
        reply::external_timestamp(response.clone()).is_ok(),
        reply::txn_safe_point(response.clone()).is_ok(),
        reply::set_external_timestamp(response.clone()).is_ok(),
    ];
    answers.into_iter().filter(|understood| *understood).count()
}

/// Reads these bytes as the answer to each RPC.
pub(crate) fn holds(bytes: &Bytes) {
    for rpc in asked() {
        let Ok(mut response) = Response::decode(rpc, bytes.clone()) else { continue };
        // What was understood can be said again.
        let again = Response::decode(rpc, response.encode_to_vec().into());
        assert_eq!(again.as_ref(), Ok(&response));
        // At most one parser finds its own message.
        assert!(read(&response) <= 1, "{response:?}");
        if let Some(error) = response.take_region_error() {
            assert!(!RegionError::from_proto(*error).to_error().message().is_empty());
            assert_eq!(response.take_region_error(), None);
        }
        let _ = response.strip(Prefix::new(KeyMode::Txn, 1).expect("a small number"));
    }
}

#[cfg(test)]
quickcheck! {
    fn d29_nothing_that_a_server_sends_panics(bytes: Message) -> bool {
        holds(&Bytes::from(bytes.0));
        true
    }
}

/// An answer that is empty on the wire answers, for every RPC, exactly one question.
#[test]
fn each_answer_has_one_reader() {
    for rpc in asked() {
        let response = Response::decode(rpc, Bytes::new()).unwrap();
        assert_eq!(read(&response), 1, "{rpc:?}");
    }
}
