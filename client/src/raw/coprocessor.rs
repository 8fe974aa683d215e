//! Questions to a coprocessor plug-in, one for each region.
//!
//! The closure that makes the questions lives here and not in the core, which is a value: the core
//! tells the regions of the ranges, takes one question for one region at one version, and says so
//! when that is no more. Then its part is looked up and asked again.
//!
//! ```text
//! ranges ─▶ Listing ─▶ groups ─▶ Asking ─▶ answers
//!              ▲                    │
//!              └── region moved ◀───┘
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anatase_core::{KeyRange, Operation, RawCoprocessor, RawOperation, RegionRanges};
use bytes::Bytes;

use crate::ColumnFamily;
use crate::driver::Handle;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, Value};
use crate::operation::{OperationFuture, kinds};
use crate::regions::{Region, keys};
use crate::runtime::Instant;

/// How many questions are out at once. Each wake-up looks at all of them.
const MAX_ASKING: usize = 64;

/// Questions to a coprocessor plug-in about to be asked; see
/// [`RawClient::coprocessor`](crate::RawClient::coprocessor).
#[must_use = "a request does nothing unless awaited"]
pub struct Coprocessor<F> {
    handle: Arc<Handle>,
    name: String,
    version_req: String,
    ranges: Vec<KeyRange>,
    request: F,
    timeout: Duration,
}

impl<F> Coprocessor<F> {
    pub(super) fn new(
        handle: Arc<Handle>,
        name: String,
        version_req: String,
        ranges: Vec<KeyRange>,
        request: F,
        timeout: Duration,
    ) -> Self {
        Self { handle, name, version_req, ranges, request, timeout }
    }

    /// How long it may take in all, instead of [`Config::with_timeout`](crate::Config::with_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<F, D> IntoFuture for Coprocessor<F>
where
    F: FnMut(Region, Vec<Range<Key>>) -> D,
    D: Into<Bytes>,
{
    type Output = Result<Vec<(Vec<Range<Key>>, Value)>>;
    type IntoFuture = CoprocessorFuture<F>;

    fn into_future(self) -> CoprocessorFuture<F> {
        let Self { handle, name, version_req, ranges, request, timeout } = self;
        let begun = handle.driver.now();
        let mut questions = Questions {
            handle,
            name,
            version_req,
            begun,
            until: begun + timeout,
            listing: Vec::new(),
            groups: VecDeque::new(),
            asking: Vec::new(),
            answers: Vec::new(),
            doubt: false,
        };
        questions.list(ranges);
        CoprocessorFuture { questions, request }
    }
}

impl<F> fmt::Debug for Coprocessor<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coprocessor").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Questions to a coprocessor plug-in under way.
///
/// # Cancel safety
/// Dropping it withdraws the questions; what was sent may be executed.
#[must_use = "futures do nothing unless awaited"]
pub struct CoprocessorFuture<F> {
    questions: Questions,
    request: F,
}

struct Questions {
    handle: Arc<Handle>,
    name: String,
    version_req: String,
    begun: Instant,
    until: Instant,
    /// Regions are being looked up.
    listing: Vec<OperationFuture<Vec<RegionRanges>>>,
    /// Not asked yet.
    groups: VecDeque<RegionRanges>,
    asking: Vec<Asking>,
    answers: Vec<(Vec<Range<Key>>, Value)>,
    /// Something was sent that may have been executed, and is not answered.
    doubt: bool,
}

struct Asking {
    ranges: Vec<KeyRange>,
    answer: OperationFuture<Value>,
}

impl Questions {
    fn left(&self) -> Duration {
        self.until.since(self.handle.driver.now())
    }

    fn list(&mut self, ranges: Vec<KeyRange>) {
        let operation = Operation::Regions { ranges };
        let left = self.left();
        self.listing.push(OperationFuture::new(
            self.handle.clone(),
            operation,
            left,
            kinds::REGIONS,
        ));
    }

    fn ask(&mut self, group: RegionRanges, data: Bytes) {
        let op = RawOperation::Coprocessor(Box::new(RawCoprocessor {
            name: self.name.clone(),
            version_req: self.version_req.clone(),
            region: group.region.version,
            ranges: group.ranges.clone(),
            data,
        }));
        let operation = Operation::Raw { op, cf: ColumnFamily::DEFAULT };
        let left = self.left();
        let answer = OperationFuture::new(self.handle.clone(), operation, left, kinds::BYTES);
        self.asking.push(Asking { ranges: group.ranges, answer });
    }

    /// Takes what has arrived. True if there may be more to do at once.
    fn collect(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let before = (self.listing.len(), self.asking.len());
        let mut at = 0;
        while let Some(listing) = self.listing.get_mut(at) {
            match Pin::new(listing).poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(groups) => {
                    drop(self.listing.swap_remove(at));
                    self.groups.extend(groups?);
                }
            }
        }
        let mut at = 0;
        while let Some(asking) = self.asking.get_mut(at) {
            match Pin::new(&mut asking.answer).poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(answer) => {
                    let Asking { ranges, .. } = self.asking.swap_remove(at);
                    match answer {
                        Ok(answer) => {
                            self.answers.push((ranges.iter().map(keys).collect(), answer))
                        }
                        Err(moved) if *moved.kind() == ErrorKind::RegionMoved => {
                            self.doubt |= moved.is_undetermined();
                            self.list(ranges);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(before != (self.listing.len(), self.asking.len()) || !self.groups.is_empty())
    }

    fn is_done(&self) -> bool {
        self.listing.is_empty() && self.groups.is_empty() && self.asking.is_empty()
    }

    fn fail(&self, error: Error) -> Error {
        let elapsed = self.handle.driver.now().since(self.begun);
        Error::from(error.into_core().in_doubt(self.doubt)).after(elapsed)
    }
}

/// Nothing in it is ever pinned.
impl<F> Unpin for CoprocessorFuture<F> {}

impl<F, D> Future for CoprocessorFuture<F>
where
    F: FnMut(Region, Vec<Range<Key>>) -> D,
    D: Into<Bytes>,
{
    type Output = Result<Vec<(Vec<Range<Key>>, Value)>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { questions, request } = self.get_mut();
        if questions.name.is_empty() || questions.version_req.is_empty() {
            let text = "a plug-in is asked for by name and version requirement";
            return Poll::Ready(Err(Error::invalid(text)));
        }
        loop {
            let more = match questions.collect(cx) {
                Ok(more) => more,
                Err(error) => return Poll::Ready(Err(questions.fail(error))),
            };
            while questions.asking.len() < MAX_ASKING
                && let Some(group) = questions.groups.pop_front()
            {
                let region = Region::from(group.region.clone());
                let data = request(region, group.ranges.iter().map(keys).collect()).into();
                questions.ask(group, data);
            }
            if questions.is_done() {
                let mut answers = std::mem::take(&mut questions.answers);
                let start = |ranges: &[Range<Key>]| ranges.first().map(|range| range.start.clone());
                answers.sort_by_cached_key(|(ranges, _)| start(ranges));
                return Poll::Ready(Ok(answers));
            }
            if !more {
                return Poll::Pending;
            }
        }
    }
}

impl<F> fmt::Debug for CoprocessorFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoprocessorFuture").finish_non_exhaustive()
    }
}
