//! Raw calls over a range: scans and range deletion.

use anatase_proto::{
    errorpb,
    kvrpcpb::{
        KeyRange, KvPair, RawBatchScanRequest, RawBatchScanResponse, RawDeleteRangeRequest,
        RawDeleteRangeResponse, RawScanRequest, RawScanResponse,
    },
};
use bytes::Bytes;

use super::{
    Bad, answer, pair_of,
    store::{Cf, Value},
};
use crate::{
    access::{Refusal, RegionError},
    api::Kind,
    call::Cx,
};

pub(crate) fn scan(cx: &mut Cx<'_>, request: RawScanRequest) -> Result<RawScanResponse, Refusal> {
    let RawScanRequest { start_key, limit, key_only, cf, reverse, end_key, .. } = request;
    let read = |cx: &mut Cx<'_>| {
        cx.check_raw_ranges("raw_scan", [(&start_key, &end_key)])?;
        let cf = cx.raw_cf(&cf)?;
        cx.raw_scan(cf, &start_key, &end_key, limit, key_only, reverse)
    };
    Ok(RawScanResponse { kvs: pairs_or_text(read(cx))?, ..Default::default() })
}

/// Scans several ranges, each up to the same limit. The end of a range that has none is the start
/// of the next.
pub(crate) fn batch_scan(
    cx: &mut Cx<'_>,
    request: RawBatchScanRequest,
) -> Result<RawBatchScanResponse, Refusal> {
    let RawBatchScanRequest { ranges, each_limit, key_only, cf, reverse, .. } = request;
    let read = |cx: &mut Cx<'_>| {
        let bounds = ranges.iter().map(|range| (&range.start_key, &range.end_key));
        cx.check_raw_ranges("raw_batch_scan", bounds)?;
        let cf = cx.raw_cf(&cf)?;
        check_ranges(&ranges, reverse)?;
        let mut pairs = Vec::new();
        for (at, KeyRange { start_key, end_key }) in ranges.iter().enumerate() {
            let next = ranges.get(at + 1).map(|next| &next.start_key);
            let end = if end_key.is_empty() { next.unwrap_or(end_key) } else { end_key };
            pairs.extend(cx.raw_scan(cf, start_key, end, each_limit, key_only, reverse)?);
        }
        Ok(pairs)
    };
    Ok(RawBatchScanResponse { kvs: pairs_or_text(read(cx))?, ..Default::default() })
}

/// Ranges must be in the order of the scan and must not overlap.
fn check_ranges(ranges: &[KeyRange], reverse: bool) -> Result<(), String> {
    let in_order = |a: &Bytes, b: &Bytes| if reverse { a >= b } else { a <= b };
    let open = |range: &&KeyRange| range.end_key.is_empty();
    let fine =
        ranges.iter().all(|range| open(&range) || in_order(&range.start_key, &range.end_key))
            && ranges.windows(2).all(|pair| {
                let bound = if open(&&pair[0]) { &pair[0].start_key } else { &pair[0].end_key };
                in_order(bound, &pair[1].start_key)
            });
    if fine { Ok(()) } else { Err("Invalid KeyRanges".to_owned()) }
}

fn pairs_or_text(result: Result<Vec<KvPair>, Bad>) -> Result<Vec<KvPair>, Refusal> {
    match result {
        Ok(pairs) => Ok(pairs),
        Err(Bad::Text(text)) => Ok(vec![pair_of(text)]),
        Err(Bad::Refusal(refusal)) => Err(refusal),
    }
}

/// Deletes `[start, end)`, which must be within the region: `KeyNotInRegion` otherwise, an empty
/// end being the end of the key space. An empty or backward range is an error without a kind.
pub(crate) fn delete_range(
    cx: &mut Cx<'_>,
    request: RawDeleteRangeRequest,
) -> Result<RawDeleteRangeResponse, Refusal> {
    let RawDeleteRangeRequest { start_key, end_key, cf, .. } = request;
    let delete = |cx: &mut Cx<'_>| {
        cx.cluster.check_key_sizes([&start_key, &end_key])?;
        cx.check_raw_ranges("raw_delete_range", [(&start_key, &end_key)])?;
        let cf = cx.raw_cf(&cf)?;
        let (start, end) = (cx.physical(&start_key), cx.physical(&end_key));
        cx.check_delete_range(&start, &end)?;
        cx.cluster.raw.delete_range(cf, &start, &end);
        Ok(())
    };
    answer!(RawDeleteRangeResponse, delete(cx), |()| RawDeleteRangeResponse::default())
}

impl Cx<'_> {
    pub(super) fn check_raw_ranges<'k>(
        &self,
        command: &str,
        ranges: impl IntoIterator<Item = (&'k Bytes, &'k Bytes)>,
    ) -> Result<(), String> {
        let ranges = ranges.into_iter().map(|(start, end)| (&start[..], &end[..]));
        self.cluster.check_ranges_api(Kind::Raw, command, self.context.api_version, ranges)
    }

    /// The rules for the physical range of a deletion.
    pub(crate) fn check_delete_range(&self, start: &[u8], end: &[u8]) -> Result<(), RegionError> {
        if !end.is_empty() && start >= end {
            return Err(Box::new(errorpb::Error {
                message: "invalid delete range command".to_owned(),
                ..Default::default()
            }));
        }
        if !self.region.contains(start) {
            return Err(self.region.key_not_in_region(start));
        }
        if !self.region.covers_end(end) {
            return Err(self.region.key_not_in_region(end));
        }
        Ok(())
    }

    /// One scan in one region. The key where it starts must be in the region, the region's end
    /// counted in; the other end is clipped to the region. Forward it goes up from `from`,
    /// included, to `to`; backward down from `from`, excluded, to `to`, included (raw.md §3).
    fn raw_scan(
        &self,
        cf: Cf,
        from: &Bytes,
        to: &Bytes,
        limit: u32,
        key_only: bool,
        reverse: bool,
    ) -> Result<Vec<KvPair>, Bad> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (from, to) = (&self.physical(from), &self.physical(to));
        if !self.region.contains_inclusive(from) {
            return Err(self.region.key_not_in_region(from).into());
        }
        let pair = |(key, value): (&Bytes, &Value)| KvPair {
            key: self.logical(key),
            value: if key_only { Bytes::new() } else { value.data.clone() },
            ..Default::default()
        };
        let (limit, now_s) = (limit as usize, self.now_s());
        let raw = &self.cluster.raw;
        Ok(if reverse {
            let start = to.max(&self.region.start);
            // Down from the very first key there is nothing.
            if from.is_empty() {
                return Ok(Vec::new());
            }
            raw.range(cf, start, from, now_s).rev().take(limit).map(pair).collect()
        } else {
            let end = clip_end(to, &self.region.end);
            raw.range(cf, from, end, now_s).take(limit).map(pair).collect()
        })
    }
}

/// The smaller of two ends, an empty one being the end of the key space.
pub(crate) fn clip_end<'a>(end: &'a Bytes, bound: &'a Bytes) -> &'a Bytes {
    match (end.is_empty(), bound.is_empty()) {
        (true, _) => bound,
        (_, true) => end,
        _ => end.min(bound),
    }
}
