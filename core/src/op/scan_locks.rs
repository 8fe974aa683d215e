//! Locks of a range, read page by page and left alone (`transactions.md` §18).
//!
//! A walk like that of a scan (`scan.rs`): a page is one request to the region at the cursor. Fewer
//! locks than asked for mean that the region is exhausted, and the cursor moves to the end of the
//! region that answered; else it moves behind the last lock.

use anatase_proto::kvrpcpb;
use anatase_proto::rpc::Rpc;

use crate::backoff::{Backoff, budget};
use crate::error::Error;
use crate::id::{Handle, RegionVersion};
use crate::locks::{FoundLock, ScanLocksPlan};
use crate::op::raw_range::clip_end;
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, KeyRange, Reply, next_key};
use crate::region::loader::Seek;
use crate::region_call::{Abandoned, Target};
use crate::shared::{CallEnd, CallSpec, Cx, Tag, Wake};
use crate::timestamp::Timestamp;
use crate::wire::reply::{self, Lock};

const PAGE: Tag = 0;

/// A page of locks.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) locks: Vec<Lock>,
    /// The region that they are in.
    pub(super) region: RegionVersion,
    /// Its end; empty for that of the key space.
    pub(super) end: Key,
    /// There may be more behind the last one.
    pub(super) full: bool,
}

/// Asks for the locks at the start of `rest`; answered by [`Wake::Call`], for [`page`].
pub(super) fn ask(
    tag: Tag,
    rest: &KeyRange,
    max_version: Timestamp,
    limit: u32,
    backoff: Backoff,
    cx: &mut Cx<'_>,
) -> Handle {
    let message = kvrpcpb::ScanLockRequest {
        max_version: max_version.version(),
        start_key: rest.start.clone(),
        end_key: rest.end.clone(),
        limit,
        ..Default::default()
    };
    let timeout = cx.shared.config.scan_attempt_timeout;
    let spec = CallSpec {
        wants_range: true,
        ..CallSpec::new(Rpc::KvScanLock, cx.encode(&message), timeout)
    };
    let target = Target::Key { key: rest.start.clone(), seek: Seek::Containing };
    cx.call(tag, target, spec, backoff)
}

/// Reads the answer.
pub(super) fn page(end: CallEnd, rest: &KeyRange, limit: u32) -> Result<Page, Error> {
    let (response, region, range) = match end {
        CallEnd::Answered { response, region, range: Some(range), .. } => (response, region, range),
        CallEnd::Failed { error, .. } => return Err(error),
        CallEnd::Answered { range: None, .. } | CallEnd::Regroup { .. } => {
            return Err(reply::impossible("an answer without the bounds of its region"));
        }
    };
    let locks = reply::scan_lock(response)?;
    if locks.iter().any(|lock| !rest.contains(&lock.key)) {
        return Err(reply::impossible("a scan gave a lock outside of its range"));
    }
    if !locks.is_sorted_by(|a, b| a.key <= b.key) {
        return Err(reply::impossible("a scan gave locks out of order"));
    }
    let full = locks.len() >= limit as usize;
    Ok(Page { locks, region, end: range.end, full })
}

/// What is left behind a region that ends at `end`; `None` if that is nothing.
pub(super) fn behind(rest: &KeyRange, end: &Key) -> Option<KeyRange> {
    let end = clip_end(&rest.end, end).clone();
    let rest = KeyRange { start: end, end: rest.end.clone() };
    (!rest.start.is_empty() && !rest.is_empty()).then_some(rest)
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct ScanLocks {
    rest: KeyRange,
    max_version: Timestamp,
    left: u32,
    asked: u32,
    found: Vec<FoundLock>,
    backoff: Backoff,
    call: Option<Handle>,
}

impl ScanLocks {
    pub(crate) fn start(plan: ScanLocksPlan, cx: &mut Cx<'_>) -> Step {
        let ScanLocksPlan { range, max_version, limit } = plan;
        if range.is_empty() || limit == 0 {
            return Step::Done(Ok(Reply::Locks(Vec::new())));
        }
        let scan = Self {
            rest: range,
            max_version,
            left: limit,
            asked: 0,
            found: Vec::new(),
            backoff: Backoff::new(budget::SNAPSHOT),
            call: None,
        };
        scan.next(cx)
    }

    fn next(mut self, cx: &mut Cx<'_>) -> Step {
        self.asked = self.left.min(cx.shared.config.scan_lock_limit.max(1));
        let backoff = self.backoff.fork();
        self.call = Some(ask(PAGE, &self.rest, self.max_version, self.asked, backoff, cx));
        Step::Next(Op::ScanLocks(Box::new(self)))
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let (PAGE, Wake::Call(end)) = (tag, wake) else {
            return Step::Next(Op::ScanLocks(Box::new(self)));
        };
        self.call = None;
        let page = match page(end, &self.rest, self.asked) {
            Ok(page) => page,
            Err(error) => return Step::Done(Err(error)),
        };
        let last = page.locks.last().map(|lock| lock.key.clone());
        let room = self.left as usize;
        let before = self.found.len();
        self.found.extend(page.locks.into_iter().take(room).map(FoundLock::from));
        self.left -= (self.found.len() - before) as u32;
        let rest = match last.filter(|_| page.full) {
            Some(last) => {
                let rest = KeyRange { start: next_key(&last), end: self.rest.end.clone() };
                (!rest.is_empty()).then_some(rest)
            }
            None => behind(&self.rest, &page.end),
        };
        match rest {
            Some(rest) if self.left > 0 => {
                self.rest = rest;
                self.next(cx)
            }
            Some(_) | None => Step::Done(Ok(Reply::Locks(self.found))),
        }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = self.call.and_then(|call| cx.abandon(call));
        let left = left.map(|left| Abandoned { doubt: false, ..left });
        Step::Done(Err(why.error(left, cx.shared)))
    }
}
