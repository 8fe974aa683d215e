//! Answers to raw requests, understood, as [`reply`](super::reply) does it.

use anatase_proto::kvrpcpb;

use crate::error::{Error, ErrorKind};
use crate::operation::{KvPair, RawChecksum, Value};
use crate::wire::Response;
use crate::wire::key_error::KeyError;
use crate::wire::reply::{another, message_of};

/// The words in which a store refuses a raw request.
fn raw_error(text: String) -> Result<(), Error> {
    if text.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Refused, text)) }
}

/// An empty value is a value: `not_found` alone tells that there is none (raw.md §3).
pub(crate) fn raw_get(response: Response) -> Result<Option<Value>, Error> {
    let message = message_of!(response, RawGet);
    raw_error(message.error)?;
    Ok(if message.not_found { None } else { Some(message.value) })
}

/// The same for a write. What a store calls a timeout is that of its own waiting: the write may be
/// on its way through Raft all the same.
fn raw_write_error(text: String) -> Result<(), Error> {
    let in_doubt = text.to_ascii_lowercase().contains("timeout");
    raw_error(text).map_err(|error| error.in_doubt(in_doubt))
}

pub(crate) fn raw_put(response: Response) -> Result<(), Error> {
    raw_write_error(message_of!(response, RawPut).error)
}

pub(crate) fn raw_delete(response: Response) -> Result<(), Error> {
    raw_write_error(message_of!(response, RawDelete).error)
}

pub(crate) fn raw_batch_put(response: Response) -> Result<(), Error> {
    raw_write_error(message_of!(response, RawBatchPut).error)
}

pub(crate) fn raw_batch_delete(response: Response) -> Result<(), Error> {
    raw_write_error(message_of!(response, RawBatchDelete).error)
}

pub(crate) fn raw_delete_range(response: Response) -> Result<(), Error> {
    raw_write_error(message_of!(response, RawDeleteRange).error)
}

/// Seconds, 0 for ever; `None` if there is no such key.
pub(crate) fn raw_get_key_ttl(response: Response) -> Result<Option<u64>, Error> {
    let message = message_of!(response, RawGetKeyTtl);
    raw_error(message.error)?;
    Ok(if message.not_found { None } else { Some(message.ttl) })
}

/// The value before, and whether it was replaced. An empty value is a value here, too (raw.md §5).
pub(crate) fn raw_compare_and_swap(response: Response) -> Result<(Option<Value>, bool), Error> {
    let message = message_of!(response, RawCompareAndSwap);
    raw_write_error(message.error)?;
    let previous = if message.previous_not_exist { None } else { Some(message.previous_value) };
    Ok((previous, message.succeed))
}

pub(crate) fn raw_checksum(response: Response) -> Result<RawChecksum, Error> {
    let message = message_of!(response, RawChecksum);
    raw_error(message.error)?;
    Ok(RawChecksum {
        crc64_xor: message.checksum,
        total_kvs: message.total_kvs,
        total_bytes: message.total_bytes,
    })
}

pub(crate) fn raw_coprocessor(response: Response) -> Result<Value, Error> {
    let message = message_of!(response, RawCoprocessor);
    raw_write_error(message.error)?;
    Ok(message.data)
}

/// The pairs that exist.
pub(crate) fn raw_batch_get(response: Response) -> Result<Vec<KvPair>, Error> {
    raw_pairs(message_of!(response, RawBatchGet).pairs)
}

pub(crate) fn raw_scan(response: Response) -> Result<Vec<KvPair>, Error> {
    raw_pairs(message_of!(response, RawScan).kvs)
}

/// A store that refuses such a request says so in one pair without key. Not to look would read as
/// «there is nothing» (raw.md §3).
fn raw_pairs(pairs: Vec<kvrpcpb::KvPair>) -> Result<Vec<KvPair>, Error> {
    let one = |pair: kvrpcpb::KvPair| match pair.error {
        None => Ok(KvPair { key: pair.key, value: pair.value }),
        Some(error) => Err(KeyError::from_proto(*error).into_error()),
    };
    pairs.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reply::samples::{abort, broken, pair};

    /// raw.md §3: absent and empty are two things.
    #[test]
    fn a_raw_get_tells_absent_from_empty() {
        let message = kvrpcpb::RawGetResponse::default;
        let rows = [
            (kvrpcpb::RawGetResponse { not_found: true, ..message() }, Ok(None)),
            (message(), Ok(Some(Value::new()))),
            (kvrpcpb::RawGetResponse { value: "v".into(), ..message() }, Ok(Some("v".into()))),
            (
                kvrpcpb::RawGetResponse { error: "bad cf".into(), not_found: true, ..message() },
                Err(Error::new(ErrorKind::Refused, "bad cf")),
            ),
        ];
        for (message, expected) in rows {
            assert_eq!(raw_get(Response::RawGet(message)), expected);
        }
    }

    /// raw.md §3: «server strings in `error` become plain errors with that text».
    #[test]
    fn a_raw_write_is_done_or_refused_in_the_servers_words() {
        type Parse = fn(Response) -> Result<(), Error>;
        type Answer = fn(String) -> Response;
        let rows: [(Parse, Answer); 4] = [
            (raw_put, |error| {
                Response::RawPut(kvrpcpb::RawPutResponse { error, ..Default::default() })
            }),
            (raw_delete, |error| {
                Response::RawDelete(kvrpcpb::RawDeleteResponse { error, ..Default::default() })
            }),
            (raw_batch_put, |error| {
                Response::RawBatchPut(kvrpcpb::RawBatchPutResponse { error, ..Default::default() })
            }),
            (raw_batch_delete, |error| {
                let message = kvrpcpb::RawBatchDeleteResponse { error, ..Default::default() };
                Response::RawBatchDelete(message)
            }),
        ];
        for (parse, response) in rows {
            assert_eq!(parse(response(String::new())), Ok(()));
            let refused = Error::new(ErrorKind::Refused, "ttl is not enabled");
            assert_eq!(parse(response("ttl is not enabled".into())), Err(refused));
        }
    }

    /// A store's own timeout says nothing about what became of a write.
    #[test]
    fn a_raw_write_that_timed_out_in_the_store_is_in_doubt() {
        for (text, doubt) in [("Timeout after 5s", true), ("invalid cf name: x", false)] {
            let error: String = text.into();
            let put = kvrpcpb::RawPutResponse { error: error.clone(), ..Default::default() };
            let swap = kvrpcpb::RawCasResponse { error: error.clone(), ..Default::default() };
            let get = kvrpcpb::RawGetResponse { error, ..Default::default() };
            let told = [
                (raw_put(Response::RawPut(put)).unwrap_err(), doubt),
                (raw_compare_and_swap(Response::RawCompareAndSwap(swap)).unwrap_err(), doubt),
                (raw_get(Response::RawGet(get)).unwrap_err(), false),
            ];
            for (error, doubt) in told {
                assert_eq!((error.kind(), error.is_undetermined()), (&ErrorKind::Refused, doubt));
            }
        }
    }

    /// raw.md §3, §5: absent, for ever, and a while; absent, empty and something.
    #[test]
    fn a_ttl_and_a_previous_value_tell_absent_from_empty() {
        let ttl = |not_found, ttl| {
            let message = kvrpcpb::RawGetKeyTtlResponse { not_found, ttl, ..Default::default() };
            raw_get_key_ttl(Response::RawGetKeyTtl(message))
        };
        assert_eq!(ttl(true, 0), Ok(None));
        assert_eq!(ttl(false, 0), Ok(Some(0)));
        assert_eq!(ttl(false, 7), Ok(Some(7)));
        let swap = |previous_not_exist, value: &'static str, succeed| {
            let message = kvrpcpb::RawCasResponse {
                previous_not_exist,
                previous_value: value.into(),
                succeed,
                ..Default::default()
            };
            raw_compare_and_swap(Response::RawCompareAndSwap(message))
        };
        assert_eq!(swap(true, "", true), Ok((None, true)));
        assert_eq!(swap(false, "", false), Ok((Some(Value::new()), false)));
        assert_eq!(swap(false, "v", true), Ok((Some("v".into()), true)));
    }

    /// raw.md §3: «a careful client should turn pair errors into an error».
    #[test]
    fn one_refused_pair_refuses_a_raw_read() {
        for (pairs, expected) in [
            (vec![pair("a", "1"), pair("b", "")], Ok(2)),
            (vec![pair("a", "1"), broken(abort())], Err(ErrorKind::Refused)),
            (vec![broken(kvrpcpb::KeyError::default())], Err(ErrorKind::Protocol)),
        ] {
            let got = Response::RawBatchGet(kvrpcpb::RawBatchGetResponse {
                pairs: pairs.clone(),
                ..Default::default()
            });
            let scanned =
                Response::RawScan(kvrpcpb::RawScanResponse { kvs: pairs, ..Default::default() });
            for result in [raw_batch_get(got), raw_scan(scanned)] {
                let result = result.map(|pairs| pairs.len()).map_err(|e| e.kind().clone());
                assert_eq!(result, expected);
            }
        }
    }
}
