//! Scans without a limit in memory: a page at a time, one page ahead.
//!
//! A page is an ordinary scan with a limit, and the next one begins behind the last key of it. While
//! a page is consumed the next is on its way; the one after that is not asked for before the
//! consumer has come to the next. So at most two pages are held, however slow the consumer is, and a
//! consumer that keeps up waits for no round trip.
//!
//! All of them go through the core's [`Union`], which knows the order of pages and lays what a
//! transaction has written over them; over the others it lays nothing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anatase_core::txn::{Buffer, ReadOptions, Union, UnionStep};
use anatase_core::{KeyRange, Operation, RawOperation, ReadOperation, ScanSpec, Timestamp};
use futures_core::Stream;

use crate::ColumnFamily;
use crate::driver::Handle;
use crate::error::{Error, Result};
use crate::key::{Key, KvPair};
use crate::operation::{OperationFuture, kinds};
use crate::range::BoundRange;
use crate::raw::MAX_RAW_SCAN_LIMIT;
use crate::txn::State;

/// What is scanned.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Raw {
        cf: ColumnFamily,
    },
    Snapshot {
        at: Timestamp,
        options: Option<Arc<ReadOptions>>,
        /// What a transaction has written, laid over it.
        over: Option<Arc<Mutex<State>>>,
    },
}

impl Source {
    fn page(&self, spec: ScanSpec) -> Operation {
        match self {
            Self::Raw { cf } => Operation::Raw { op: RawOperation::Scan(spec), cf: cf.clone() },
            Self::Snapshot { at, options, .. } => {
                let op = ReadOperation::Scan(spec);
                Operation::Read { op, at: *at, options: options.clone() }
            }
        }
    }

    /// The same with what a transaction has written laid over it, if it is a snapshot.
    pub(crate) fn over(mut self, buffer: Arc<Mutex<State>>) -> Self {
        if let Self::Snapshot { over, .. } = &mut self {
            *over = Some(buffer);
        }
        self
    }

    fn buffer(&self) -> Option<&Mutex<State>> {
        match self {
            Self::Raw { .. } => None,
            Self::Snapshot { over, .. } => over.as_deref(),
        }
    }

    fn step(&self, union: &mut Union) -> UnionStep {
        match self.buffer() {
            None => union.next(&Buffer::default()),
            Some(state) => {
                union.next(state.lock().unwrap_or_else(PoisonError::into_inner).buffer())
            }
        }
    }

    /// Whether there may be more or fewer pairs than in the pages.
    fn is_laid_over(&self) -> bool {
        self.buffer().is_some()
    }
}

type Page = Vec<anatase_core::KvPair>;

/// A scan as a [`Stream`], of [`KvPair`]s or of [`Key`]s, in pages: the next page is fetched while the
/// last is consumed, and none beyond it. Nothing is sent before it is first polled. With the first
/// error it is over.
///
/// It can be polled as a [`Stream`], or with [`ScanStream::next`] and [`ScanStream::try_next`],
/// which need no trait.
///
/// A snapshot's stream sees the snapshot's moment throughout. A transaction's stream sees it too, with
/// the transaction's own writes as they are when it comes to them: what is written meanwhile behind
/// the cursor is not seen, before it is. A raw stream sees each page as it is when the page is read:
/// what is written meanwhile behind the cursor is not seen, before it may be.
///
/// # Cancel safety
/// Dropping it withdraws the page that is under way. Dropping a [`ScanStream::next`] loses nothing.
#[must_use = "a stream does nothing unless polled"]
pub struct ScanStream<T> {
    handle: Arc<Handle>,
    source: Source,
    range: KeyRange,
    union: Union,
    /// How many are wanted yet; 0 also after an error.
    left: Option<u64>,
    key_only: bool,
    page: u32,
    timeout: Duration,
    /// Whether a page was asked for.
    begun: bool,
    next: Option<Asked>,
    make: fn(anatase_core::KvPair) -> T,
}

/// A page under way, and how many pairs it was asked to hold.
struct Asked {
    page: OperationFuture<Page>,
    limit: u32,
}

impl ScanStream<KvPair> {
    pub(crate) fn pairs(
        handle: Arc<Handle>,
        source: Source,
        range: BoundRange,
        page: u32,
        timeout: Duration,
    ) -> Self {
        Self::new(handle, source, range, page, timeout, false, KvPair::from)
    }
}

impl ScanStream<Key> {
    pub(crate) fn keys(
        handle: Arc<Handle>,
        source: Source,
        range: BoundRange,
        page: u32,
        timeout: Duration,
    ) -> Self {
        Self::new(handle, source, range, page, timeout, true, |pair| pair.key.into())
    }
}

impl<T> ScanStream<T> {
    fn new(
        handle: Arc<Handle>,
        source: Source,
        range: BoundRange,
        page: u32,
        timeout: Duration,
        key_only: bool,
        make: fn(anatase_core::KvPair) -> T,
    ) -> Self {
        let range = KeyRange::from(range);
        Self {
            handle,
            source,
            union: Union::new(range.clone(), false, key_only),
            range,
            left: None,
            key_only,
            page: page.clamp(1, MAX_RAW_SCAN_LIMIT),
            timeout,
            begun: false,
            next: None,
            make,
        }
    }

    /// No more than so many in all. Before the first poll.
    pub fn limit(mut self, limit: u64) -> Self {
        self.left = Some(limit);
        self
    }

    /// From the end of the range down to its start. Before the first poll.
    pub fn reverse(mut self) -> Self {
        self.union = Union::new(self.range.clone(), true, self.key_only);
        self
    }

    /// How many pairs are fetched at once, instead of
    /// [`Config::with_scan_page_size`](crate::Config::with_scan_page_size): from 1 up to
    /// [`MAX_RAW_SCAN_LIMIT`], to which other numbers are brought.
    pub fn page_size(mut self, pairs: u32) -> Self {
        self.page = pairs.clamp(1, MAX_RAW_SCAN_LIMIT);
        self
    }

    /// How long each page may take, instead of
    /// [`Config::with_timeout`](crate::Config::with_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The next one; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "the name that streams have for it")]
    pub fn next(&mut self) -> Next<'_, T> {
        Next { stream: self }
    }

    /// The next one; `None` at the end. As [`ScanStream::next`], for use with `?`.
    pub fn try_next(&mut self) -> TryNext<'_, T> {
        TryNext { stream: self }
    }

    /// All of them, or the first error.
    ///
    /// # Errors
    /// Those of a scan.
    pub async fn collect(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(one) = self.try_next().await? {
            all.push(one);
        }
        Ok(all)
    }

    /// Makes the next page, if one is wanted.
    fn ask(&mut self) {
        let limit = match self.left {
            Some(left) => {
                let missing = left.saturating_sub(self.union.fed() as u64);
                u64::from(self.page).min(missing) as u32
            }
            None => self.page,
        };
        if limit == 0 {
            return;
        }
        // Where what a transaction has deleted has thinned out one page, the next may be thin as well:
        // a few more pairs than needed cost less than one more round.
        let thinned = self.begun && self.source.is_laid_over();
        let limit = if thinned { self.page } else { limit };
        let Some(spec) = self.union.wants(limit) else {
            return;
        };
        let operation = self.source.page(spec);
        let handle = self.handle.clone();
        let page = OperationFuture::new(handle, operation, self.timeout, kinds::PAGE);
        self.begun = true;
        self.next = Some(Asked { page, limit });
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        loop {
            if self.left == Some(0) {
                // A page ahead is of no use to anybody.
                self.next = None;
                return Poll::Ready(None);
            }
            match self.source.step(&mut self.union) {
                UnionStep::Pair(pair) => {
                    self.left = self.left.map(|left| left.saturating_sub(1));
                    return Poll::Ready(Some(Ok((self.make)(pair))));
                }
                UnionStep::End => return Poll::Ready(None),
                UnionStep::Feed => {}
            }
            if self.next.is_none() {
                self.ask();
            }
            let Some(Asked { page, limit }) = &mut self.next else {
                return Poll::Ready(None);
            };
            let limit = *limit;
            let page = ready!(Pin::new(page).poll(cx));
            self.next = None;
            let fed = page.and_then(|page| Ok(self.union.feed(limit, page)?));
            if let Err(error) = fed {
                self.left = Some(0);
                return Poll::Ready(Some(Err(error)));
            }
            self.fetch_ahead(cx);
        }
    }

    /// Sends for the next page while this one is consumed.
    fn fetch_ahead(&mut self, cx: &mut Context<'_>) {
        self.ask();
        if let Some(Asked { page, .. }) = &mut self.next {
            // The first poll submits it. It can be over at once only with an error, if there is no
            // room or the client is closed; that is told when its turn comes.
            if let Poll::Ready(result) = Pin::new(&mut *page).poll(cx) {
                *page = OperationFuture::settled(self.handle.clone(), result, kinds::PAGE);
            }
        }
    }
}

/// Results are stored as plain values and never pinned.
impl<T> Unpin for ScanStream<T> {}

impl<T> Stream for ScanStream<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.get_mut().poll_one(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let fed = self.union.fed().min(left);
        let all_fed = self.union.wants(1).is_none();
        let (least, most) = match self.source.is_laid_over() {
            false if all_fed => (fed, fed),
            false => (fed, left),
            true => (0, left),
        };
        // One more for an error.
        (least, most.checked_add(1))
    }
}

impl<T> fmt::Debug for ScanStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanStream")
            .field("left", &self.left)
            .field("page", &self.page)
            .finish_non_exhaustive()
    }
}

/// Waits for the next of a [`ScanStream`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Next<'a, T> {
    stream: &'a mut ScanStream<T>,
}

impl<T> Future for Next<'_, T> {
    type Output = Option<Result<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().stream.poll_one(cx)
    }
}

/// Waits for the next of a [`ScanStream`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct TryNext<'a, T> {
    stream: &'a mut ScanStream<T>,
}

impl<T> Future for TryNext<'_, T> {
    type Output = Result<Option<T>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().stream.poll_one(cx).map(Option::transpose)
    }
}
