//! Scans of several raw ranges, side by side.
//!
//! Each is a scan as any other and keeps its promises: its own limit however many regions it runs
//! over, any bounds, either direction, right through splits. TiKV's `RawBatchScan` can do none of
//! this: its limit holds per region, its ranges must be in order and apart (`raw.md` §3, and
//! `tikv-client` passes that on to its users). On one connection the requests leave together.

use crate::op::scan::{self, Scan};
use crate::op::{Op, Step, Stop};
use crate::operation::{ColumnFamily, KvPair, Reply, ScanSpec};
use crate::region_call::Abandoned;
use crate::shared::{Cx, Tag, Wake};

#[derive(Clone, Debug, Hash)]
pub(crate) struct BatchScan {
    cf: ColumnFamily,
    scans: Vec<One>,
    /// The first that has not begun.
    next: usize,
    under_way: usize,
}

#[derive(Clone, Debug, Hash)]
enum One {
    Waiting(ScanSpec),
    UnderWay(Box<Scan>),
    Done(Vec<KvPair>),
}

/// What is left in the place of a scan while it steps.
const STEPPING: One = One::Done(Vec::new());

impl BatchScan {
    pub(crate) fn start(scans: Vec<ScanSpec>, cf: ColumnFamily, cx: &mut Cx<'_>) -> Step {
        let scans = scans.into_iter().map(One::Waiting).collect();
        Self { cf, scans, next: 0, under_way: 0 }.advance(cx)
    }

    /// Begins what may begin.
    fn advance(mut self, cx: &mut Cx<'_>) -> Step {
        while self.under_way < cx.shared.config.max_batches.max(1) && self.next < self.scans.len() {
            let index = self.next;
            self.next += 1;
            if let One::Waiting(spec) = std::mem::replace(&mut self.scans[index], STEPPING) {
                self.under_way += 1;
                let first_tag = (index as Tag).wrapping_mul(scan::TAGS);
                let step = Scan::start_raw(spec, self.cf.clone(), first_tag, cx);
                if let Err(step) = self.take(index, step, cx) {
                    return step;
                }
            }
        }
        if self.under_way > 0 || self.next < self.scans.len() {
            return Step::Next(Op::BatchScan(Box::new(self)));
        }
        let pairs = self.scans.into_iter().flat_map(|one| match one {
            One::Done(pairs) => pairs,
            One::Waiting(_) | One::UnderWay(_) => Vec::new(),
        });
        Step::Done(Ok(Reply::Pairs(pairs.collect())))
    }

    /// Takes what a step of one scan led to. The first error ends all of them.
    fn take(&mut self, index: usize, step: Step, cx: &mut Cx<'_>) -> Result<(), Step> {
        match step {
            Step::Next(Op::Scan(scan)) => self.scans[index] = One::UnderWay(scan),
            Step::Done(Ok(Reply::Pairs(pairs))) => {
                self.under_way -= 1;
                self.scans[index] = One::Done(pairs);
            }
            Step::Done(Err(error)) => {
                self.abandon(cx);
                return Err(Step::Done(Err(error)));
            }
            Step::Done(Ok(_)) | Step::Next(_) | Step::Detach(..) | Step::Finished => {
                self.abandon(cx);
                return Err(super::misrouted("step of a scan"));
            }
        }
        Ok(())
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        let index = (tag / scan::TAGS) as usize;
        let Some(one) = self.scans.get_mut(index) else {
            return Step::Next(Op::BatchScan(Box::new(self)));
        };
        match std::mem::replace(one, STEPPING) {
            One::UnderWay(scan) => {
                let step = scan.wake(tag, wake, cx);
                match self.take(index, step, cx) {
                    Ok(()) => self.advance(cx),
                    Err(step) => step,
                }
            }
            // A wake-up that was overtaken by another: it changes nothing.
            other @ (One::Waiting(_) | One::Done(_)) => {
                *one = other;
                Step::Next(Op::BatchScan(Box::new(self)))
            }
        }
    }

    fn abandon(&mut self, cx: &mut Cx<'_>) -> Abandoned {
        let mut all = Abandoned { doubt: false, cause: None, attempts: 0 };
        for one in std::mem::take(&mut self.scans) {
            if let One::UnderWay(scan) = one
                && let Some(left) = scan.abandon(cx)
            {
                all.attempts = all.attempts.max(left.attempts);
                all.cause = all.cause.or(left.cause);
            }
        }
        all
    }

    pub(crate) fn stop(mut self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let left = self.abandon(cx);
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}
