//! Scans, raw and of a snapshot, in both directions (`raw.md` §3.2, `transactions.md` §17.4).
//!
//! A scan walks region by region. A page is one request to the region at the cursor; the next page
//! starts where the last one ended. Whether a region is exhausted is told by the page: a store gives
//! all it has up to the limit, so fewer pairs than asked for mean that the region's end is reached,
//! and the cursor moves to the border *of the region that answered*, which the store confirmed by
//! accepting its epoch. An empty border is the end of the key space (`peers.md` D1).
//!
//! Downwards the region is the one that ends at the cursor or contains it, the cursor is exclusive,
//! and the region's start is the next cursor (`peers.md` D2). Stores do not know «from the very end»:
//! there the cursor is a key behind every key that a store accepts.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::Error;
use crate::id::Handle;
use crate::op::read_view::ReadView;
use crate::op::visible::Visible;
use crate::op::{Op, Step, Stop};
use crate::operation::{ColumnFamily, Key, KeyRange, KvPair, Reply, ScanSpec, next_key};
use crate::region::loader::Seek;
use crate::region_call::{Abandoned, Target};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::wire::outbound::LONGER_THAN_ANY_KEY;
use crate::wire::reply;

/// Behind every key of API V1.
const BEHIND_EVERY_KEY: &[u8] = &[0xff; LONGER_THAN_ANY_KEY];

/// The numbers of a scan's waits, counted from its first.
const CALL: Tag = 0;
const LOCKS: Tag = 1;
const PAUSE: Tag = 2;
/// How many numbers a scan needs.
pub(crate) const TAGS: Tag = 3;

#[derive(Clone, Debug, Hash)]
pub(crate) struct Scan {
    source: Source,
    /// Its waits are numbered from here on.
    first_tag: Tag,
    /// What is left of the range.
    rest: KeyRange,
    /// How many pairs are still wanted.
    left: u32,
    reverse: bool,
    key_only: bool,
    pairs: Vec<KvPair>,
    backoff: Backoff,
    call: Option<Handle>,
    /// How many pairs the page under way asked for.
    asked: u32,
}

#[derive(Clone, Debug, Hash)]
enum Source {
    Raw(ColumnFamily),
    Snapshot(ReadView),
}

impl Scan {
    /// A raw scan, with waits numbered from `first_tag` on, [`TAGS`] of them.
    pub(crate) fn start_raw(
        spec: ScanSpec,
        cf: ColumnFamily,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        Self::start(spec, Source::Raw(cf), Backoff::new(budget::RAW), first_tag, cx)
    }

    pub(crate) fn start_snapshot(spec: ScanSpec, view: ReadView, cx: &mut Cx<'_>) -> Step {
        let source = Source::Snapshot(view);
        Self::start(spec, source, Backoff::new(budget::SNAPSHOT), 0, cx)
    }

    fn start(
        spec: ScanSpec,
        source: Source,
        backoff: Backoff,
        first_tag: Tag,
        cx: &mut Cx<'_>,
    ) -> Step {
        let ScanSpec { range, limit, reverse, key_only } = spec;
        if limit == 0 || range.is_empty() {
            return Step::Done(Ok(Reply::Pairs(Vec::new())));
        }
        let scan = Self {
            source,
            first_tag,
            rest: range,
            left: limit,
            reverse,
            key_only,
            pairs: Vec::new(),
            backoff,
            call: None,
            asked: 0,
        };
        scan.page(cx)
    }

    fn wait(self) -> Step {
        Step::Next(Op::Scan(Box::new(self)))
    }

    /// Asks for the next page.
    fn page(mut self, cx: &mut Cx<'_>) -> Step {
        let (key, seek) = if self.reverse {
            (self.rest.end.clone(), Seek::Before)
        } else {
            (self.rest.start.clone(), Seek::Containing)
        };
        let (start_key, end_key) = if self.reverse {
            // A keyspace has an end, and the encoder puts it there (`wire::outbound`).
            let unbounded = key.is_empty() && cx.shared.codec.prefix().is_none();
            let upper = if unbounded { Key::from_static(BEHIND_EVERY_KEY) } else { key.clone() };
            (upper, self.rest.start.clone())
        } else {
            (key.clone(), self.rest.end.clone())
        };
        let spec = match &self.source {
            Source::Raw(cf) => {
                self.asked = self.left;
                let message = kvrpcpb::RawScanRequest {
                    start_key,
                    end_key,
                    limit: self.asked,
                    key_only: self.key_only,
                    reverse: self.reverse,
                    cf: cf.name().to_owned(),
                    ..Default::default()
                };
                let timeout = cx.shared.config.attempt_timeout;
                CallSpec::new(Rpc::RawScan, cx.encode(&message), timeout)
            }
            Source::Snapshot(view) => {
                self.asked = self.left.min(cx.shared.config.scan_batch_size.max(1));
                let message = kvrpcpb::ScanRequest {
                    start_key,
                    end_key,
                    limit: self.asked,
                    version: view.at.version(),
                    key_only: self.key_only,
                    reverse: self.reverse,
                    sample_step: view.sample_step(),
                    ..Default::default()
                };
                // §17.4: «no user read timeout».
                let timeout = cx.shared.config.scan_attempt_timeout;
                view.dress(CallSpec::new(Rpc::KvScan, cx.encode(&message), timeout), false)
            }
        };
        let spec = CallSpec { wants_range: true, ..spec };
        let tag = self.first_tag + CALL;
        self.call = Some(cx.call(tag, Target::Key { key, seek }, spec, self.backoff.fork()));
        self.wait()
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match (tag - self.first_tag, wake) {
            (CALL, Wake::Call(end)) => {
                self.call = None;
                self.page_ended(end, cx)
            }
            (LOCKS, Wake::Resolved(Ok(resolved))) => {
                if let Source::Snapshot(view) = &mut self.source {
                    match view.pass(resolved, &mut self.backoff, cx, self.first_tag + PAUSE) {
                        Ok(true) => return self.page(cx),
                        Ok(false) => {}
                        Err(error) => return Step::Done(Err(error)),
                    }
                }
                self.wait()
            }
            (LOCKS, Wake::Resolved(Err(error))) => Step::Done(Err(error)),
            (PAUSE, Wake::Pause) => self.page(cx),
            _ => self.wait(),
        }
    }

    fn page_ended(mut self, end: CallEnd, cx: &mut Cx<'_>) -> Step {
        let (response, mut range) = match end {
            CallEnd::Answered { response, range: Some(range), .. } => (response, *range),
            CallEnd::Failed { error, .. } => return Step::Done(Err(error)),
            CallEnd::Answered { range: None, .. } | CallEnd::Regroup { .. } => {
                return super::misrouted("answer without the bounds of its region");
            }
        };
        if planted!(cx.shared.config, ScanSkipsBorder) && !range.end.is_empty() {
            range.end = next_key(&range.end);
        }
        let pairs = match &mut self.source {
            Source::Raw(_) => reply::raw_scan(response),
            Source::Snapshot(view) => match reply::scan(response) {
                Ok(page) if page.locks.is_empty() => Ok(page.pairs),
                Ok(page) => {
                    return match view.resolve(page.locks, false, cx, self.first_tag + LOCKS) {
                        true => self.page(cx),
                        false => self.wait(),
                    };
                }
                Err(error) => Err(error),
            },
        };
        match pairs.and_then(|pairs| self.take(pairs, &range)) {
            Ok(()) if self.left == 0 || self.is_exhausted() => {
                let found = Reply::Pairs(self.pairs);
                match self.source {
                    Source::Raw(_) => Step::Done(Ok(found)),
                    Source::Snapshot(view) => Visible::check(found, view.at, cx),
                }
            }
            Ok(()) => self.page(cx),
            Err(error) => Step::Done(Err(error)),
        }
    }

    /// Takes a page and moves the cursor.
    fn take(&mut self, pairs: Vec<KvPair>, region: &KeyRange) -> Result<(), Error> {
        let full = pairs.len() >= self.asked as usize;
        let last = pairs.last().map(|pair| pair.key.clone());
        for mut pair in pairs {
            if self.left == 0 {
                break;
            }
            if !self.rest.contains(&pair.key) {
                return Err(reply::impossible("a scan gave a key outside of its range"));
            }
            if self.key_only {
                pair.value.clear();
            }
            self.left -= 1;
            self.pairs.push(pair);
        }
        match (full, last, self.reverse) {
            (true, Some(last), false) => self.rest.start = next_key(&last),
            (true, Some(last), true) => self.rest.end = last,
            (_, _, false) => {
                if region.end.is_empty() {
                    self.finish();
                } else {
                    self.rest.start = region.end.clone();
                }
            }
            (_, _, true) => {
                if region.start.is_empty() {
                    self.finish();
                } else {
                    self.rest.end = region.start.clone();
                }
            }
        }
        Ok(())
    }

    /// The border of the key space is reached: nothing is left, whatever bounds were asked for.
    fn finish(&mut self) {
        let nothing = Key::from_static(&[0]);
        self.rest = KeyRange { start: nothing.clone(), end: nothing };
    }

    fn is_exhausted(&self) -> bool {
        // Downwards the cursor may be the empty key only at the very beginning; later an empty
        // cursor would mean «from the end again».
        self.rest.is_empty() || (self.reverse && self.rest.end.is_empty())
    }

    /// Gives the page up that is under way.
    pub(crate) fn abandon(&self, cx: &mut Cx<'_>) -> Option<Abandoned> {
        let mut left = self.call.and_then(|call| cx.abandon(call));
        if let Some(left) = &mut left {
            left.doubt = false;
            left.cause = left.cause.take().or_else(|| self.backoff.last().cloned());
        }
        left
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = self.abandon(cx);
        Step::Done(Err(why.error(left, cx.shared)))
    }
}
