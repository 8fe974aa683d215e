//! Whether a store takes the keys of a request: TiKV's checks of the API version and, under version 2,
//! of the key mode (raw.md §4, §6.5).
//!
//! | store | request | raw | transactional |
//! |---|---|---|---|
//! | V1 | V1 | yes | yes |
//! | V1 with TTL | V1 | yes | no |
//! | V2 | V1 | no | keys of the SQL layer (`m`, `t`) |
//! | V2 | V2 | keys that begin with `r` | keys that begin with `x` |
//!
//! A range has a mode if both ends have it, or if its end is the byte behind that of its start and
//! nothing else: the ends of a reverse scan are looked at as they stand in the request. Transactional
//! ends are looked at in memcomparable form, in which no end is a single byte.

use std::fmt::Write;

use anatase_proto::kvrpcpb::ApiVersion;

use crate::{Cluster, config::Api};

/// What kind of command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Raw,
    Txn,
}

/// What a key is for, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyMode {
    Raw,
    Txn,
    Sql,
    Unknown,
}

impl KeyMode {
    fn of_key(key: &[u8]) -> Self {
        match key.first() {
            Some(b'r') => Self::Raw,
            Some(b'x') => Self::Txn,
            Some(b'm' | b't') => Self::Sql,
            Some(_) | None => Self::Unknown,
        }
    }

    fn of_range(start: &[u8], end: &[u8]) -> Self {
        match (start.first(), end) {
            (Some(a), [b, ..]) if a == b => Self::of_key(start),
            (Some(a), [b]) if a.checked_add(1) == Some(*b) => Self::of_key(start),
            _ => Self::Unknown,
        }
    }
}

fn hex(key: &[u8]) -> String {
    key.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

impl Cluster {
    /// Checks a command on keys. `request` is the API version that its context names.
    pub(crate) fn check_keys_api<'k>(
        &self,
        kind: Kind,
        command: &str,
        request: i32,
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> Result<(), String> {
        let Some(wanted) = self.wanted_mode(kind, command, request)? else { return Ok(()) };
        match keys.into_iter().find(|key| KeyMode::of_key(key) != wanted) {
            None => Ok(()),
            Some(key) => Err(format!(
                "Key mode mismatched with the request mode, cmd: {command}, storage: V2, key: {}",
                hex(key)
            )),
        }
    }

    /// Checks a command on ranges; an empty bound is none.
    pub(crate) fn check_ranges_api<'k>(
        &self,
        kind: Kind,
        command: &str,
        request: i32,
        ranges: impl IntoIterator<Item = (&'k [u8], &'k [u8])>,
    ) -> Result<(), String> {
        let Some(wanted) = self.wanted_mode(kind, command, request)? else { return Ok(()) };
        let wrong = |(start, end): &(&[u8], &[u8])| KeyMode::of_range(start, end) != wanted;
        match ranges.into_iter().find(wrong) {
            None => Ok(()),
            Some((start, end)) => {
                let bound = |bound: &[u8]| (!bound.is_empty()).then(|| hex(bound));
                Err(format!(
                    "Key mode mismatched with the request mode, cmd: {command}, storage: V2, \
                     range: {:?}",
                    (bound(start), bound(end))
                ))
            }
        }
    }

    /// The mode that keys must have, if any.
    fn wanted_mode(
        &self,
        kind: Kind,
        command: &str,
        request: i32,
    ) -> Result<Option<KeyMode>, String> {
        let asked = ApiVersion::try_from(request);
        match (self.config.api, asked, kind) {
            (Api::V1, Ok(ApiVersion::V1), _) | (Api::V1Ttl, Ok(ApiVersion::V1), Kind::Raw) => {
                Ok(None)
            }
            (Api::V2, Ok(ApiVersion::V1), Kind::Txn) => Ok(Some(KeyMode::Sql)),
            (Api::V2, Ok(ApiVersion::V2), Kind::Raw) => Ok(Some(KeyMode::Raw)),
            (Api::V2, Ok(ApiVersion::V2), Kind::Txn) => Ok(Some(KeyMode::Txn)),
            (Api::V1 | Api::V1Ttl | Api::V2, asked, _) => {
                let asked = asked.map_or_else(
                    |_| request.to_string(),
                    |version| version.as_str_name().to_owned(),
                );
                let mine = match self.config.api {
                    Api::V1 => "V1",
                    Api::V1Ttl => "V1ttl",
                    Api::V2 => "V2",
                };
                Err(format!(
                    "Api version in request does not match with TiKV storage, cmd: {command}, \
                     storage: {mine}, request: {asked}"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterConfig;

    /// raw.md §4.
    #[test]
    fn a_store_takes_the_requests_of_its_version() {
        let (v1, v1_ttl, v2) = (ApiVersion::V1, ApiVersion::V1ttl, ApiVersion::V2);
        let rows = [
            (Api::V1, v1, Kind::Raw, "k", Ok(())),
            (Api::V1, v1, Kind::Txn, "k", Ok(())),
            (Api::V1, v2, Kind::Raw, "rk", Err("Api version in request does not match")),
            (Api::V1, v1_ttl, Kind::Raw, "k", Err("Api version in request does not match")),
            (Api::V1Ttl, v1, Kind::Raw, "k", Ok(())),
            (Api::V1Ttl, v1, Kind::Txn, "k", Err("cmd: get, storage: V1ttl, request: V1")),
            (Api::V2, v1, Kind::Raw, "rk", Err("cmd: get, storage: V2, request: V1")),
            (Api::V2, v1, Kind::Txn, "tk", Ok(())),
            (Api::V2, v1, Kind::Txn, "xk", Err("storage: V2, key: 786B")),
            (Api::V2, v2, Kind::Raw, "rk", Ok(())),
            (
                Api::V2,
                v2,
                Kind::Raw,
                "xk",
                Err("Key mode mismatched with the request mode, cmd: get"),
            ),
            (Api::V2, v2, Kind::Raw, "", Err("Key mode mismatched")),
            (Api::V2, v2, Kind::Txn, "xk", Ok(())),
            (Api::V2, v2, Kind::Txn, "tk", Err("Key mode mismatched")),
        ];
        for (api, request, kind, key, expected) in rows {
            let cluster = ClusterConfig::default().api(api).build();
            let answer = cluster.check_keys_api(kind, "get", request as i32, [key.as_bytes()]);
            match (&answer, expected) {
                (Ok(()), Ok(())) => {}
                (Err(text), Err(part)) if text.contains(part) => {}
                _ => panic!("{api:?} {request:?} {kind:?} {key}: {answer:?}"),
            }
        }
    }

    /// raw.md §6.5.
    #[test]
    fn a_range_stays_in_one_mode() {
        let cluster = ClusterConfig::default().api(Api::V2).build();
        let check = |start: &[u8], end: &[u8]| {
            let v2 = ApiVersion::V2 as i32;
            cluster.check_ranges_api(Kind::Raw, "raw_scan", v2, [(start, end)])
        };
        for (start, end) in [(&b"ra"[..], &b"rb"[..]), (b"r", b"s"), (b"rz", b"ra")] {
            assert_eq!(check(start, end), Ok(()));
        }
        for (start, end) in [
            (&b"ra"[..], &b""[..]),
            (b"", b"s"),
            (b"r", b"s\0\0\0"),
            (b"s", b"r"),
            (b"r", b"t"),
            (b"xa", b"xb"),
        ] {
            assert!(check(start, end).is_err(), "{start:?}..{end:?}");
        }
        assert_eq!(
            check(b"ra", b"").unwrap_err(),
            "Key mode mismatched with the request mode, cmd: raw_scan, storage: V2, range: \
             (Some(\"7261\"), None)"
        );
    }
}
