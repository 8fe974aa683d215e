//! `RawChecksum`: the xor of the CRC-64 of every pair (raw.md §3.3).
//!
//! Each pair's CRC runs over its key and then its value; xor makes the order of pairs, and their
//! division into regions, irrelevant.

use anatase_proto::kvrpcpb::{ChecksumAlgorithm, RawChecksumRequest, RawChecksumResponse};

use super::{Bad, answer, range::clip_end, store::Cf};
use crate::{access::Refusal, call::Cx};

/// Adds up the pairs of the default column family in the ranges, clipped to the region.
pub(crate) fn checksum(
    cx: &mut Cx<'_>,
    request: RawChecksumRequest,
) -> Result<RawChecksumResponse, Refusal> {
    let sum = |cx: &mut Cx<'_>| {
        let bounds = request.ranges.iter().map(|range| (&range.start_key, &range.end_key));
        cx.check_raw_ranges("raw_checksum", bounds)?;
        if request.algorithm != ChecksumAlgorithm::Crc64Xor as i32 {
            return Err(Bad::Text(format!("unknown checksum algorithm {}", request.algorithm)));
        }
        let mut response = RawChecksumResponse::default();
        for range in &request.ranges {
            let (start, end) = (cx.physical(&range.start_key), cx.physical(&range.end_key));
            let start = (&start).max(&cx.region.start);
            let end = clip_end(&end, &cx.region.end);
            for (key, value) in cx.cluster.raw.range(Cf::Default, start, end, cx.now_s()) {
                let key = cx.logical(key);
                response.checksum ^= crc64(&[&key, &value.data]);
                response.total_kvs += 1;
                response.total_bytes += (key.len() + value.data.len()) as u64;
            }
        }
        Ok(response)
    };
    answer!(RawChecksumResponse, sum(cx), |response| response)
}

/// The ECMA-182 polynomial, bits reversed.
const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-64/XZ of the parts put together.
fn crc64(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_crc_64_xz() {
        assert_eq!(crc64(&[b"123456789"]), 0x995D_C9BB_DF19_39FA);
        assert_eq!(crc64(&[b"1234", b"", b"56789"]), 0x995D_C9BB_DF19_39FA);
    }
}
