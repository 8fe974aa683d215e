//! Which regions ranges lie in: for whoever makes requests per region outside of the core.
//!
//! Each range is walked from its start, region by region. What the walk finds was true of each
//! region when it was found; that it is still true is checked by the store that is asked, by the
//! version that goes with the request.

use crate::backoff::{Backoff, BackoffKind, budget};
use crate::command::WakeReason;
use crate::error::{Error, ErrorKind};
use crate::op::raw_range::clip_end;
use crate::op::{Op, Step, Stop};
use crate::operation::{KeyRange, RegionRanges, Reply};
use crate::region::loader::Seek;
use crate::region_call::Abandoned;
use crate::shared::{Cx, Tag, Waiter, Wake};

const LOCATE: Tag = 0;
const PAUSE: Tag = 1;

/// Waiting for the region at the start of the first range that is left.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Regions {
    /// What is left, the last first.
    rest: Vec<KeyRange>,
    found: Vec<RegionRanges>,
    backoff: Backoff,
}

impl Regions {
    pub(crate) fn start(mut ranges: Vec<KeyRange>, cx: &mut Cx<'_>) -> Step {
        ranges.retain(|range| !range.is_empty());
        ranges.reverse();
        Self { rest: ranges, found: Vec::new(), backoff: Backoff::new(budget::PD) }.walk(cx)
    }

    fn wait(self) -> Step {
        Step::Next(Op::Regions(Box::new(self)))
    }

    fn walk(mut self, cx: &mut Cx<'_>) -> Step {
        while let Some(mut range) = self.rest.pop() {
            let waiter = Waiter::Owner(cx.owner, LOCATE);
            let until = (!range.end.is_empty()).then_some(&range.end);
            let located = cx.shared.locate(&range.start, Seek::Containing, until, waiter);
            let bounds = located
                .and_then(|region| cx.shared.regions.range(region).map(|bounds| (region, bounds)));
            let Some((region, bounds)) = bounds else {
                self.rest.push(range);
                return self.wait();
            };
            let end = clip_end(&range.end, &bounds.end).clone();
            let part = KeyRange { start: range.start.clone(), end: end.clone() };
            match self.found.last_mut() {
                // Ranges side by side in one region make one group.
                Some(last) if last.region == region => last.ranges.push(part),
                Some(_) | None => {
                    self.found.push(RegionRanges { region, bounds, ranges: vec![part] });
                }
            }
            if !end.is_empty() && end != range.end {
                range.start = end;
                self.rest.push(range);
            }
        }
        Step::Done(Ok(Reply::Regions(self.found)))
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match (tag, wake) {
            (LOCATE, Wake::Located(Ok(()))) | (PAUSE, Wake::Pause) => self.walk(cx),
            (LOCATE, Wake::Located(Err(error))) => match self.not_located(error, cx) {
                Ok(()) => self.wait(),
                Err(error) => Step::Done(Err(error)),
            },
            _ => self.wait(),
        }
    }

    /// PD has said no, or knows no region that can be asked; the latter passes.
    fn not_located(&mut self, error: Error, cx: &mut Cx<'_>) -> Result<(), Error> {
        if *error.kind() != ErrorKind::RegionUnavailable {
            return Err(error);
        }
        let draws = &mut *cx.draws;
        let draw = |bound| draws.below(bound);
        let wait = self.backoff.next(BackoffKind::RegionMiss, None, error, draw)?;
        cx.pause(PAUSE, wait, WakeReason::Backoff);
        Ok(())
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        let cause = self.backoff.last().cloned();
        let left = Abandoned { doubt: false, cause, attempts: 0 };
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}
