//! Which regions ranges or keys lie in (`control-plane.md` §4.7): for whoever makes requests per region
//! outside of the core.
//!
//! Each range is walked from its start, region by region. Where the cache ends PD is asked for what is
//! left, up to 2 048 ranges and 128 regions at a time; a region that is not told then (it has no leader,
//! or PD tells one at a time only) is asked for alone.
//!
//! ```text
//! walk ── hole ──▶ many asked for ──▶ walk ── the same hole ──▶ that one asked for ──▶ walk …
//! ```
//!
//! What the walk finds was true of each region when it was found; that it is still true is checked by
//! the store that is asked, by the version that goes with the request.
//!
//! Keys are walked as ranges of one key each, in order and each once. (The reference looks up each key
//! by itself; and its filter of keys is called for some of them only, so here is none: an iterator has
//! one.)

use crate::backoff::{Backoff, budget};
use crate::error::{Error, ErrorKind};
use crate::op::raw_range::clip_end;
use crate::op::{Op, Step, Stop};
use crate::operation::{Key, KeyRange, RegionKeys, RegionRanges, Reply, next_key};
use crate::region::loader::Seek;
use crate::region_call::Abandoned;
use crate::shared::{Cx, Tag, Waiter, Wake};
use crate::wire::{Response, reply};

const LOCATE: Tag = 0;
const PAUSE: Tag = 1;
const ASK: Tag = 2;

/// Waiting for the region at the start of the first range that is left.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Regions {
    /// What is left, the last first.
    rest: Vec<KeyRange>,
    found: Vec<RegionRanges>,
    /// The keys to be grouped, as they were given; `None`: ranges are.
    keys: Option<Vec<Key>>,
    /// Many were asked for from this key on.
    asked: Option<Key>,
    backoff: Backoff,
}

impl Regions {
    pub(crate) fn start(mut ranges: Vec<KeyRange>, cx: &mut Cx<'_>) -> Step {
        ranges.retain(|range| !range.is_empty());
        Self::new(ranges, None).walk(cx)
    }

    /// Groups keys.
    pub(crate) fn start_keys(keys: Vec<Key>, cx: &mut Cx<'_>) -> Step {
        let mut sorted: Vec<&Key> = keys.iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let one = |key: &Key| KeyRange { start: key.clone(), end: next_key(key) };
        let ranges = sorted.into_iter().map(one).collect();
        Self::new(ranges, Some(keys)).walk(cx)
    }

    fn new(mut ranges: Vec<KeyRange>, keys: Option<Vec<Key>>) -> Self {
        ranges.reverse();
        let backoff = Backoff::new(budget::PD);
        Self { rest: ranges, found: Vec::new(), keys, asked: None, backoff }
    }

    fn wait(self) -> Step {
        Step::Next(Op::Regions(Box::new(self)))
    }

    fn walk(mut self, cx: &mut Cx<'_>) -> Step {
        while let Some(mut range) = self.rest.pop() {
            let Some(region) = cx.shared.known(&range.start, Seek::Containing) else {
                self.rest.push(range);
                if !self.ask(cx) {
                    return self.wait();
                }
                continue;
            };
            let Some(bounds) = cx.shared.regions.range(region) else {
                return super::misrouted("a region that is known and is not");
            };
            let end = clip_end(&range.end, &bounds.end).clone();
            let part = KeyRange { start: range.start.clone(), end: end.clone() };
            match self.found.last_mut() {
                // Ranges side by side in one region make one group.
                Some(last) if last.region.version == region => last.ranges.push(part),
                Some(_) | None => {
                    let Some(region) = cx.shared.regions.located(region) else {
                        return super::misrouted("a region that is known and is not");
                    };
                    self.found.push(RegionRanges { region, ranges: vec![part] });
                }
            }
            if !end.is_empty() && end != range.end {
                range.start = end;
                self.rest.push(range);
            }
        }
        Step::Done(Ok(match self.keys {
            None => Reply::Regions(self.found),
            Some(keys) => Reply::KeyGroups(grouped(self.found, keys)),
        }))
    }

    /// Asks for the region at the start of what is left: with others, unless that has been tried. True
    /// if it is there at once.
    fn ask(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(first) = self.rest.last() else {
            return true;
        };
        if self.asked.as_ref() != Some(&first.start) {
            self.asked = Some(first.start.clone());
            if cx.ask_regions_of(ASK, self.rest.iter().rev().cloned()) {
                return false;
            }
        }
        let waiter = Waiter::Owner(cx.owner, LOCATE);
        cx.shared.locate(&first.start, Seek::Containing, None, waiter).is_some()
    }

    pub(crate) fn wake(mut self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match (tag, wake) {
            (LOCATE, Wake::Located(Ok(()))) | (PAUSE, Wake::Pause) => self.walk(cx),
            (ASK, Wake::Pd(answer)) => match self.told(answer, cx) {
                Ok(()) => self.walk(cx),
                Err(error) => Step::Done(Err(error)),
            },
            (LOCATE, Wake::Located(Err(error))) => {
                match cx.after_no_region(PAUSE, &mut self.backoff, error) {
                    Ok(()) => self.wait(),
                    Err(error) => Step::Done(Err(error)),
                }
            }
            _ => self.wait(),
        }
    }

    /// PD's answer to a question for many: those that can be used are cached. Most of whatever else came
    /// is told when the first one is asked for alone, and so is a region that makes no sense.
    ///
    /// # Errors
    /// The budget of the question is spent: another one would have a second budget.
    fn told(&mut self, answer: Result<Response, Error>, cx: &mut Cx<'_>) -> Result<(), Error> {
        let error = match answer.and_then(reply::regions) {
            Ok(loaded) => {
                for region in loaded {
                    if let Ok(region) = cx.shared.decode_region(region) {
                        cx.shared.install(region);
                    }
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if *error.kind() == ErrorKind::Unsupported {
            // Asked in another way; at last, one by one.
            self.asked = None;
            return Ok(());
        }
        // Given up before that, for want of a leader, it is `Cancelled`.
        let spent = *error.kind() == ErrorKind::PdUnavailable;
        let known = self
            .rest
            .last()
            .is_some_and(|range| spent && cx.shared.falls_back(&range.start, Seek::Containing));
        if spent && !known { Err(error) } else { Ok(()) }
    }

    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> Step {
        cx.shared.pd_abandon(cx.owner);
        let cause = self.backoff.last().cloned();
        let left = Abandoned { doubt: false, cause, attempts: 0 };
        Step::Done(Err(why.error(Some(left), cx.shared)))
    }
}

/// Puts each key, in the order given, to the group whose part of the walk it was.
fn grouped(found: Vec<RegionRanges>, keys: Vec<Key>) -> Vec<RegionKeys> {
    let starts: Vec<Key> =
        found.iter().filter_map(|group| Some(group.ranges.first()?.start.clone())).collect();
    let group = |group: RegionRanges| RegionKeys { region: group.region, keys: Vec::new() };
    let mut groups: Vec<RegionKeys> = found.into_iter().map(group).collect();
    for key in keys {
        let behind = starts.partition_point(|start| *start <= key);
        if let Some(group) = behind.checked_sub(1).and_then(|at| groups.get_mut(at)) {
            group.keys.push(key);
        }
    }
    groups
}
