//! `RawCoprocessor`: a plug-in of the store is handed a region's part of some ranges.
//!
//! TiKV loads plug-ins from shared libraries. Here a test sets one, a plain function, so that a
//! cluster stays a value. The words of the refusals are TiKV's as remembered, not as read.

use anatase_proto::kvrpcpb::{KeyRange, RawCoprocessorRequest, RawCoprocessorResponse};
use bytes::Bytes;

use super::{Bad, answer, range::clip_end, store::Cf};
use crate::{Cluster, access::Refusal, call::Cx};

/// A plug-in: what it answers, or the text with which it refuses.
pub type Coprocessor = fn(&CoprocessorCall<'_>) -> Result<Bytes, String>;

/// What a plug-in is handed.
#[derive(Clone, Debug)]
pub struct CoprocessorCall<'a> {
    /// The name that was asked for.
    pub name: &'a str,
    /// The versions that will do.
    pub version_req: &'a str,
    /// The ranges, as the request has them.
    pub ranges: &'a [KeyRange],
    /// The question.
    pub data: &'a Bytes,
    /// The pairs of the default column family that lie in the ranges and in the region, range by
    /// range in key order. In a keyspace keys have its prefix, as those of the ranges do.
    pub pairs: Vec<(Bytes, Bytes)>,
}

pub(crate) fn coprocessor(
    cx: &mut Cx<'_>,
    request: RawCoprocessorRequest,
) -> Result<RawCoprocessorResponse, Refusal> {
    let RawCoprocessorRequest { copr_name, copr_version_req, ranges, data, .. } = request;
    let ask = |cx: &mut Cx<'_>| {
        let bounds = ranges.iter().map(|range| (&range.start_key, &range.end_key));
        cx.check_raw_ranges("raw_coprocessor", bounds)?;
        let Some(plug_in) = cx.cluster.coprocessor else {
            return Err(Bad::Text(format!("No registered coprocessor with name '{copr_name}'")));
        };
        let now_s = cx.now_s();
        let mut pairs = Vec::new();
        for range in &ranges {
            let (start, end) = (cx.physical(&range.start_key), cx.physical(&range.end_key));
            let start = (&start).max(&cx.region.start);
            let end = clip_end(&end, &cx.region.end);
            let found = cx.cluster.raw.range(Cf::Default, start, end, now_s);
            pairs.extend(found.map(|(key, value)| (cx.logical(key), value.data.clone())));
        }
        let (name, version_req) = (&copr_name[..], &copr_version_req[..]);
        plug_in(&CoprocessorCall { name, version_req, ranges: &ranges, data: &data, pairs })
            .map_err(Bad::Text)
    };
    answer!(RawCoprocessorResponse, ask(cx), |data: Bytes| RawCoprocessorResponse {
        data,
        ..Default::default()
    })
}

impl Cluster {
    /// Sets the one plug-in of all stores, or none. It is handed every name that is asked for.
    pub fn set_coprocessor(&mut self, plug_in: Option<Coprocessor>) {
        self.coprocessor = plug_in;
    }
}
