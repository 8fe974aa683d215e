//! Raw batch get, put and delete (`raw.md` §3.1).
//!
//! Keys are sorted once, so that grouping by region is a walk; the order asked for is kept aside and
//! restored in the reply. Where a key occurs several times it is sent once: a get answers each
//! occurrence, and of several puts the last one counts, whatever batch it would have landed in.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::fanout::{Batch, Fanout, Job, Progress};
use crate::op::{Op, Step, Stop};
use crate::operation::{ColumnFamily, Key, KvPair, RawOperation, Reply, Value};
use crate::shared::{CallSpec, Cx, Tag, Wake};
use crate::wire::{Response, reply};

#[derive(Clone, Debug, Hash)]
pub(crate) struct RawBatch {
    fanout: Fanout<RawJob>,
    /// For each position asked for, the index of its key among the sorted ones. Empty for writes.
    order: Vec<usize>,
    /// What was found, by index among the sorted keys. Empty for writes.
    found: Vec<Option<Value>>,
}

#[derive(Clone, Debug, Hash)]
struct RawJob {
    kind: Kind,
    cf: ColumnFamily,
    /// Writes go through the latches of compare-and-swap.
    atomic: bool,
    max_items: usize,
    max_weight: usize,
}

#[derive(Clone, Debug, Hash)]
enum Kind {
    Get(Vec<Key>),
    Put(Vec<KvPair>, Ttls),
    Delete(Vec<Key>),
}

/// How many seconds pairs live, 0 for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ttls {
    All(u64),
    /// In the order of the sorted pairs.
    Each(Vec<u64>),
}

impl RawBatch {
    pub(crate) fn start(op: RawOperation, cf: ColumnFamily, cx: &mut Cx<'_>) -> Step {
        let config = &cx.shared.config;
        let (kind, order, atomic, max_items, max_weight) = match op {
            RawOperation::BatchGet { keys } => {
                let (keys, order) = sort_keys(keys);
                (Kind::Get(keys), order, false, config.raw_batch_keys, usize::MAX)
            }
            RawOperation::BatchDelete { keys, atomic } => {
                let (keys, _) = sort_keys(keys);
                (Kind::Delete(keys), Vec::new(), atomic, config.raw_batch_keys, usize::MAX)
            }
            RawOperation::BatchPut { pairs, ttls_secs, atomic } => {
                let (pairs, ttls) = match last_of_each(pairs, ttls_secs) {
                    Ok(sorted) => sorted,
                    Err(error) => return Step::Done(Err(error)),
                };
                let kind = Kind::Put(pairs, ttls);
                (kind, Vec::new(), atomic, usize::MAX, config.raw_batch_put_size)
            }
            RawOperation::Get { .. }
            | RawOperation::GetKeyTtl { .. }
            | RawOperation::Put { .. }
            | RawOperation::Delete { .. }
            | RawOperation::CompareAndSwap(_)
            | RawOperation::Coprocessor(_)
            | RawOperation::DeleteRange { .. }
            | RawOperation::Scan(_)
            | RawOperation::BatchScan { .. }
            | RawOperation::Checksum { .. } => {
                return super::misrouted("a raw operation that is no batch of keys");
            }
        };
        let job = RawJob { kind, cf, atomic, max_items, max_weight };
        let found = if order.is_empty() { Vec::new() } else { vec![None; job.len()] };
        let max_batches = config.max_batches;
        let fanout = Fanout::new(job, Backoff::new(budget::RAW), max_batches, 0);
        Self { fanout, order, found }.advance(cx)
    }

    fn advance(mut self, cx: &mut Cx<'_>) -> Step {
        self.fanout.advance(cx);
        if !self.fanout.is_done() {
            return Step::Next(Op::RawBatch(Box::new(self)));
        }
        Step::Done(Ok(match self.fanout.job.kind {
            Kind::Get(_) => {
                Reply::Values(self.order.iter().map(|index| self.found[*index].clone()).collect())
            }
            Kind::Put(..) | Kind::Delete(_) => Reply::Done,
        }))
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match self.fanout.wake(tag, wake, cx) {
            Progress::Nothing => self.advance(cx),
            Progress::Answer { batch, response } => match self.take(&batch, response) {
                Ok(()) => self.advance(cx),
                // A refusal says nothing about an earlier copy whose answer was lost.
                Err(error) => {
                    let doubt = batch.piece.doubt && self.writes();
                    self.fail(error.in_doubt(doubt), cx)
                }
            },
            Progress::Failed { error, doubt, .. } => {
                let doubt = doubt && self.writes();
                self.fail(error.in_doubt(doubt), cx)
            }
        }
    }

    fn take(&mut self, batch: &Batch, response: Response) -> Result<(), Error> {
        match &self.fanout.job.kind {
            Kind::Put(..) => reply::raw_batch_put(response),
            Kind::Delete(_) => reply::raw_batch_delete(response),
            Kind::Get(keys) => {
                let asked = &keys[batch.piece.start..batch.piece.end];
                for pair in reply::raw_batch_get(response)? {
                    // A key that was not asked for has no place to go.
                    if let Ok(index) = asked.binary_search(&pair.key) {
                        self.found[batch.piece.start + index] = Some(pair.value);
                    }
                }
                Ok(())
            }
        }
    }

    /// The first error ends the operation; batches still out are withdrawn. Of a write, parts may
    /// have been executed: that is what a batch that is not atomic means, and it is no doubt about
    /// the error.
    fn fail(mut self, error: Error, cx: &mut Cx<'_>) -> Step {
        let left = self.fanout.abandon(cx);
        let doubt = left.doubt && self.writes();
        Step::Done(Err(error.in_doubt(doubt)))
    }

    pub(crate) fn stop(mut self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let mut left = self.fanout.abandon(cx);
        left.doubt &= self.writes();
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }

    fn writes(&self) -> bool {
        match self.fanout.job.kind {
            Kind::Get(_) => false,
            Kind::Put(..) | Kind::Delete(_) => true,
        }
    }
}

impl Job for RawJob {
    fn len(&self) -> usize {
        match &self.kind {
            Kind::Get(keys) | Kind::Delete(keys) => keys.len(),
            Kind::Put(pairs, _) => pairs.len(),
        }
    }

    fn key(&self, index: usize) -> &Key {
        match &self.kind {
            Kind::Get(keys) | Kind::Delete(keys) => &keys[index],
            Kind::Put(pairs, _) => &pairs[index].key,
        }
    }

    fn weight(&self, index: usize) -> usize {
        match &self.kind {
            Kind::Get(keys) | Kind::Delete(keys) => keys[index].len(),
            Kind::Put(pairs, _) => pairs[index].key.len() + pairs[index].value.len(),
        }
    }

    fn max_items(&self) -> usize {
        self.max_items
    }

    fn max_weight(&self) -> usize {
        self.max_weight
    }

    fn request(&self, batch: &Batch, cx: &mut Cx<'_>) -> CallSpec {
        let (start, end) = (batch.piece.start, batch.piece.end);
        let cf = self.cf.name().to_owned();
        let (rpc, body) = match &self.kind {
            Kind::Get(keys) => {
                let keys = keys[start..end].to_vec();
                let message = kvrpcpb::RawBatchGetRequest { keys, cf, ..Default::default() };
                (Rpc::RawBatchGet, cx.encode(&message))
            }
            Kind::Delete(keys) => {
                let keys = keys[start..end].to_vec();
                let message = kvrpcpb::RawBatchDeleteRequest {
                    keys,
                    cf,
                    for_cas: self.atomic,
                    ..Default::default()
                };
                (Rpc::RawBatchDelete, cx.encode(&message))
            }
            Kind::Put(pairs, ttls) => {
                let ttls = match ttls {
                    Ttls::All(0) => Vec::new(),
                    Ttls::All(ttl) => vec![*ttl; end - start],
                    Ttls::Each(ttls) => ttls[start..end].to_vec(),
                };
                let pairs = pairs[start..end]
                    .iter()
                    .map(|pair| kvrpcpb::KvPair {
                        key: pair.key.clone(),
                        value: pair.value.clone(),
                        ..Default::default()
                    })
                    .collect();
                // The single `ttl` is for stores that know only one per request (raw.md §3).
                #[allow(deprecated, reason = "old stores read it")]
                let message = kvrpcpb::RawBatchPutRequest {
                    pairs,
                    cf,
                    ttl: ttls.first().copied().unwrap_or(0),
                    ttls,
                    for_cas: self.atomic,
                    ..Default::default()
                };
                (Rpc::RawBatchPut, cx.encode(&message))
            }
        };
        let is_retry = batch.piece.is_retry;
        CallSpec { is_retry, ..CallSpec::write(rpc, body, &cx.shared.config) }
    }
}

/// The keys in order, each once, and where each of the given ones went.
pub(crate) fn sort_keys(keys: Vec<Key>) -> (Vec<Key>, Vec<usize>) {
    let mut by_key: Vec<usize> = (0..keys.len()).collect();
    by_key.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
    let mut sorted: Vec<Key> = Vec::with_capacity(keys.len());
    let mut order = vec![0; keys.len()];
    for index in by_key {
        if sorted.last() != Some(&keys[index]) {
            sorted.push(keys[index].clone());
        }
        order[index] = sorted.len() - 1;
    }
    (sorted, order)
}

/// The pairs in order of their keys, of several with one key the last given, with its time to live.
fn last_of_each(pairs: Vec<KvPair>, ttls: Vec<u64>) -> Result<(Vec<KvPair>, Ttls), Error> {
    // Sorts are stable, so after reversal the last given comes first among equals.
    match ttls[..] {
        _ if pairs.is_empty() => Ok((pairs, Ttls::All(0))),
        [ttl] => {
            let mut pairs = pairs;
            pairs.reverse();
            pairs.sort_by(|a, b| a.key.cmp(&b.key));
            pairs.dedup_by(|later, first| later.key == first.key);
            Ok((pairs, Ttls::All(ttl)))
        }
        _ if ttls.len() == pairs.len() => {
            let mut both: Vec<(KvPair, u64)> = pairs.into_iter().zip(ttls).rev().collect();
            both.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
            both.dedup_by(|(later, _), (first, _)| later.key == first.key);
            let (pairs, ttls) = both.into_iter().unzip();
            Ok((pairs, Ttls::Each(ttls)))
        }
        _ => {
            let (pairs, ttls) = (pairs.len(), ttls.len());
            let text = format!("{ttls} times to live for {pairs} pairs: one for all, or one each");
            Err(Error::new(ErrorKind::InvalidArgument, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &'static str, value: &'static str) -> KvPair {
        KvPair { key: key.into(), value: value.into() }
    }

    #[test]
    fn keys_are_sent_once_and_answered_as_often_as_asked() {
        let (sorted, order) = sort_keys(["b", "a", "b", "c"].map(Key::from).to_vec());
        assert_eq!(sorted, ["a", "b", "c"]);
        assert_eq!(order, [1, 0, 1, 2]);
    }

    /// raw.md §3: «Duplicate keys: the last value wins».
    #[test]
    fn of_several_values_for_a_key_the_last_counts() {
        let pairs = vec![pair("b", "1"), pair("a", "2"), pair("b", "3")];
        let sorted = [pair("a", "2"), pair("b", "3")];
        let (all, ttls) = last_of_each(pairs.clone(), vec![9]).unwrap();
        assert_eq!((&all[..], ttls), (&sorted[..], Ttls::All(9)));
        let (each, ttls) = last_of_each(pairs, vec![1, 2, 3]).unwrap();
        assert_eq!((&each[..], ttls), (&sorted[..], Ttls::Each(vec![2, 3])));
    }

    /// raw.md §3: «len(ttls) > 0 and != len(keys) => error».
    #[test]
    fn times_to_live_are_one_for_all_or_one_each() {
        let pairs = vec![pair("a", "1"), pair("b", "2"), pair("c", "3")];
        for ttls in [vec![], vec![1, 2], vec![1, 2, 3, 4]] {
            let error = last_of_each(pairs.clone(), ttls).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::InvalidArgument);
        }
        assert_eq!(last_of_each(Vec::new(), Vec::new()), Ok((Vec::new(), Ttls::All(0))));
    }
}
