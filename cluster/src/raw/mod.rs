//! The raw API: plain keys and values, in three column families, with or without a TTL
//! (raw.md §4, §5).
//!
//! Keys are their own physical form under version 1, and memcomparable under version 2. Failures that are not region errors are texts in the
//! response's `error`, in TiKV's words, because that is all a client gets; a scan and a batch read
//! carry them in the one pair they then return.

mod checksum;
mod coprocessor;
mod range;
mod store;

use anatase_proto::kvrpcpb::{
    KvPair, RawBatchDeleteRequest, RawBatchDeleteResponse, RawBatchGetRequest, RawBatchGetResponse,
    RawBatchPutRequest, RawBatchPutResponse, RawCasRequest, RawCasResponse, RawDeleteRequest,
    RawDeleteResponse, RawGetKeyTtlRequest, RawGetKeyTtlResponse, RawGetRequest, RawGetResponse,
    RawPutRequest, RawPutResponse,
};
use bytes::Bytes;

use self::store::{Cf, Value};
pub(crate) use self::{
    checksum::checksum,
    coprocessor::coprocessor,
    range::{batch_scan, delete_range, scan},
    store::Raw,
};
use crate::{
    Cluster,
    access::{Refusal, RegionError},
    api::Kind,
    call::Cx,
    codec::{decode_key, encode_key},
    config::Api,
    mvcc::KeyError,
};

pub use self::coprocessor::{Coprocessor, CoprocessorCall};

/// What TiKV says in `error`.
type Text = String;

/// Either kind of bad end.
enum Bad {
    Text(Text),
    Refusal(Refusal),
}

impl From<Text> for Bad {
    fn from(text: Text) -> Self {
        Bad::Text(text)
    }
}

impl From<RegionError> for Bad {
    fn from(error: RegionError) -> Self {
        Bad::Refusal(error.into())
    }
}

/// Puts a text where the response has it, and passes a refusal on.
macro_rules! answer {
    ($response:ident, $result:expr, $ok:expr) => {
        match $result {
            Ok(value) => Ok($ok(value)),
            Err(Bad::Text(error)) => Ok($response { error, ..Default::default() }),
            Err(Bad::Refusal(refusal)) => Err(refusal),
        }
    };
}

use answer;

/// The pair in which a scan or a batch read carries a failure.
fn pair_of(text: Text) -> KvPair {
    KvPair { error: Some(Box::new(KeyError::Abort(text).to_proto())), ..Default::default() }
}

pub(crate) fn get(cx: &mut Cx<'_>, request: RawGetRequest) -> Result<RawGetResponse, Refusal> {
    let read = |cx: &mut Cx<'_>| {
        cx.check_raw_api("raw_get", [&request.key])?;
        let cf = cx.raw_cf(&request.cf)?;
        cx.check_raw_keys([&request.key])?;
        Ok(cx.raw_value(cf, &request.key).map(|value| value.data.clone()))
    };
    answer!(RawGetResponse, read(cx), |value: Option<Bytes>| RawGetResponse {
        not_found: value.is_none(),
        value: value.unwrap_or_default(),
        ..Default::default()
    })
}

pub(crate) fn batch_get(
    cx: &mut Cx<'_>,
    request: RawBatchGetRequest,
) -> Result<RawBatchGetResponse, Refusal> {
    let read = |cx: &mut Cx<'_>| {
        cx.check_raw_api("raw_batch_get", &request.keys)?;
        let cf = cx.raw_cf(&request.cf)?;
        cx.check_raw_keys(&request.keys)?;
        let pairs = request.keys.iter().filter_map(|key| {
            let value = cx.raw_value(cf, key)?;
            Some(KvPair { key: key.clone(), value: value.data.clone(), ..Default::default() })
        });
        Ok(pairs.collect())
    };
    match read(cx) {
        Ok(pairs) => Ok(RawBatchGetResponse { pairs, ..Default::default() }),
        Err(Bad::Text(text)) => {
            Ok(RawBatchGetResponse { pairs: vec![pair_of(text)], ..Default::default() })
        }
        Err(Bad::Refusal(refusal)) => Err(refusal),
    }
}

pub(crate) fn put(cx: &mut Cx<'_>, request: RawPutRequest) -> Result<RawPutResponse, Refusal> {
    let RawPutRequest { key, value, cf, ttl, for_cas, .. } = request;
    let result = cx.raw_write("raw_put", &cf, vec![(key, Some(value))], &[ttl], for_cas);
    answer!(RawPutResponse, result, |()| RawPutResponse::default())
}

/// TTLs are none, one for all pairs, or one a pair (wire.md §3.6).
pub(crate) fn batch_put(
    cx: &mut Cx<'_>,
    request: RawBatchPutRequest,
) -> Result<RawBatchPutResponse, Refusal> {
    let RawBatchPutRequest { pairs, cf, for_cas, ttls, .. } = request;
    let ttls = match ttls[..] {
        [] => vec![0; pairs.len()],
        [ttl] => vec![ttl; pairs.len()],
        _ => ttls,
    };
    let pairs = pairs.into_iter().map(|pair| (pair.key, Some(pair.value))).collect();
    let result = cx.raw_write("raw_batch_put", &cf, pairs, &ttls, for_cas);
    answer!(RawBatchPutResponse, result, |()| RawBatchPutResponse::default())
}

pub(crate) fn delete(
    cx: &mut Cx<'_>,
    request: RawDeleteRequest,
) -> Result<RawDeleteResponse, Refusal> {
    let result =
        cx.raw_write("raw_delete", &request.cf, vec![(request.key, None)], &[0], request.for_cas);
    answer!(RawDeleteResponse, result, |()| RawDeleteResponse::default())
}

pub(crate) fn batch_delete(
    cx: &mut Cx<'_>,
    request: RawBatchDeleteRequest,
) -> Result<RawBatchDeleteResponse, Refusal> {
    let RawBatchDeleteRequest { keys, cf, for_cas, .. } = request;
    let ttls = vec![0; keys.len()];
    let keys = keys.into_iter().map(|key| (key, None)).collect();
    let result = cx.raw_write("raw_batch_delete", &cf, keys, &ttls, for_cas);
    answer!(RawBatchDeleteResponse, result, |()| RawBatchDeleteResponse::default())
}

/// The seconds that a key still lives; 0 if it lives for ever, and always 0 where TTL is off.
pub(crate) fn get_key_ttl(
    cx: &mut Cx<'_>,
    request: RawGetKeyTtlRequest,
) -> Result<RawGetKeyTtlResponse, Refusal> {
    let read = |cx: &mut Cx<'_>| {
        cx.check_raw_api("raw_get_key_ttl", [&request.key])?;
        let cf = cx.raw_cf(&request.cf)?;
        cx.check_raw_keys([&request.key])?;
        let now_s = cx.now_s();
        let ttl = |value: &Value| value.expires_s.map_or(0, |at| at.saturating_sub(now_s));
        Ok(cx.raw_value(cf, &request.key).map(ttl))
    };
    answer!(RawGetKeyTtlResponse, read(cx), |ttl: Option<u64>| RawGetKeyTtlResponse {
        not_found: ttl.is_none(),
        ttl: ttl.unwrap_or(0),
        ..Default::default()
    })
}

/// Compares with the value as it is, an expired one counting as absent; on a match writes (or,
/// with `delete`, deletes). Tells the previous value either way (raw.md §5).
pub(crate) fn compare_and_swap(
    cx: &mut Cx<'_>,
    request: RawCasRequest,
) -> Result<RawCasResponse, Refusal> {
    let RawCasRequest { key, value, previous_not_exist, previous_value, cf, ttl, delete, .. } =
        request;
    let swap = |cx: &mut Cx<'_>| {
        cx.check_raw_api("raw_compare_and_swap", [&key])?;
        let family = cx.raw_cf(&cf)?;
        cx.check_ttls(&[ttl], 1)?;
        cx.check_raw_keys([&key])?;
        let before = cx.raw_value(family, &key).map(|value| value.data.clone());
        let expected = (!previous_not_exist).then_some(previous_value);
        let succeed = before == expected;
        if succeed {
            cx.raw_write(
                "raw_compare_and_swap",
                &cf,
                vec![(key, (!delete).then_some(value))],
                &[ttl],
                true,
            )?;
        }
        Ok((before, succeed))
    };
    answer!(RawCasResponse, swap(cx), |(before, succeed): (Option<Bytes>, bool)| RawCasResponse {
        succeed,
        previous_not_exist: before.is_none(),
        previous_value: before.unwrap_or_default(),
        ..Default::default()
    })
}

impl Cx<'_> {
    /// Whether the request may have these keys.
    fn check_raw_api<'k>(
        &self,
        command: &str,
        keys: impl IntoIterator<Item = &'k Bytes>,
    ) -> Result<(), Text> {
        let keys = keys.into_iter().map(|key| &key[..]);
        self.cluster.check_keys_api(Kind::Raw, command, self.context.api_version, keys)
    }

    /// The column family.
    fn raw_cf(&self, name: &str) -> Result<Cf, Text> {
        match (self.cluster.config.api, name) {
            (_, "") | (Api::V1 | Api::V1Ttl, "default") => Ok(Cf::Default),
            (Api::V1 | Api::V1Ttl, "lock") => Ok(Cf::Lock),
            (Api::V1 | Api::V1Ttl, "write") => Ok(Cf::Write),
            (Api::V1 | Api::V1Ttl, _) => Err(format!("invalid cf name: {name}")),
            (Api::V2, _) => Err(format!("cf is deprecated in API V2, cf name: {name}")),
        }
    }

    /// The key as it is stored, and as regions are bounded.
    fn physical(&self, key: &Bytes) -> Bytes {
        match self.cluster.config.api {
            Api::V1 | Api::V1Ttl => key.clone(),
            Api::V2 => encode_key(key),
        }
    }

    /// The key as clients know it.
    fn logical(&self, physical: &Bytes) -> Bytes {
        match self.cluster.config.api {
            Api::V1 | Api::V1Ttl => physical.clone(),
            // Whatever is stored was encoded.
            Api::V2 => decode_key(physical).unwrap_or_else(|| physical.clone()),
        }
    }

    fn now_s(&self) -> u64 {
        self.cluster.now_ms() / 1000
    }

    fn raw_value(&self, cf: Cf, key: &Bytes) -> Option<&Value> {
        self.cluster.raw.get(cf, &self.physical(key), self.now_s())
    }

    fn check_raw_keys<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k Bytes>,
    ) -> Result<(), RegionError> {
        let keys: Vec<Bytes> = keys.into_iter().map(|key| self.physical(key)).collect();
        Cluster::check_keys(&self.region, keys.iter().map(|key| &key[..]))
    }

    fn check_ttls(&self, ttls: &[u64], pairs: usize) -> Result<(), Text> {
        if self.cluster.config.api == Api::V1 {
            if ttls.iter().any(|ttl| *ttl != 0) {
                return Err("ttl is not enabled, but get put request with ttl".to_owned());
            }
        } else if ttls.len() != pairs {
            return Err("The length of ttls does not equal to the length of pairs".to_owned());
        }
        Ok(())
    }

    /// Puts or deletes, all or nothing. Key sizes are checked on the ordinary path only, not on
    /// the atomic one (raw.md §1).
    fn raw_write(
        &mut self,
        command: &str,
        cf: &str,
        pairs: Vec<(Bytes, Option<Bytes>)>,
        ttls: &[u64],
        atomic: bool,
    ) -> Result<(), Bad> {
        if !atomic {
            self.cluster.check_key_sizes(pairs.iter().map(|(key, _)| key))?;
        }
        self.check_raw_api(command, pairs.iter().map(|(key, _)| key))?;
        let cf = self.raw_cf(cf)?;
        self.check_ttls(ttls, pairs.len())?;
        self.check_raw_keys(pairs.iter().map(|(key, _)| key))?;
        let sizes =
            pairs.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len));
        self.cluster.check_entry_size(&self.region, sizes.sum())?;
        let now_s = self.now_s();
        // Of one key in a batch the last value counts.
        for (at, (key, value)) in pairs.into_iter().enumerate() {
            let ttl = ttls.get(at).copied().unwrap_or(0);
            let expires_s = (ttl != 0).then(|| now_s.saturating_add(ttl));
            let key = self.physical(&key);
            self.cluster.raw.set(cf, key, value.map(|data| Value { data, expires_s }));
        }
        Ok(())
    }
}

impl Cluster {
    pub(crate) fn check_key_sizes<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k Bytes>,
    ) -> Result<(), Text> {
        let limit = self.config.max_key_size;
        match keys.into_iter().find(|key| key.len() > limit) {
            Some(key) => Err(format!("max key size exceeded, size: {}, limit: {limit}", key.len())),
            None => Ok(()),
        }
    }

    /// The raw pairs of a column family (`default`, `lock` or `write`) that have not expired, in
    /// key order, without regard to regions. Keys are as stored: under version 2 memcomparable.
    pub fn raw_pairs(&self, cf: &str) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let cf = match cf {
            "lock" => Cf::Lock,
            "write" => Cf::Write,
            _ => Cf::Default,
        };
        self.raw.range(cf, b"", b"", self.now_ms() / 1000).map(|(key, value)| (key, &value.data))
    }
}

#[cfg(test)]
mod tests;
