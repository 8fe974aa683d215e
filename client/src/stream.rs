//! Scans without a limit in memory: a page at a time, one page ahead.
//!
//! A page is an ordinary scan with a limit, and the next one begins behind the last key of it. While
//! a page is consumed the next is on its way; the one after that is not asked for before the
//! consumer has come to the next. So at most two pages are held, however slow the consumer is, and a
//! consumer that keeps up waits for no round trip.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anatase_core::txn::ReadOptions;
use anatase_core::{
    KeyRange, Operation, RawOperation, ReadOperation, ScanSpec, Timestamp, next_key,
};
use futures_core::Stream;

use crate::ColumnFamily;
use crate::driver::Handle;
use crate::error::{Error, Result};
use crate::key::{Key, KvPair};
use crate::operation::{OperationFuture, kinds};
use crate::range::BoundRange;
use crate::raw::MAX_RAW_SCAN_LIMIT;

/// What is scanned.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Raw { cf: ColumnFamily },
    Snapshot { at: Timestamp, options: Option<Arc<ReadOptions>> },
}

impl Source {
    fn page(&self, spec: ScanSpec) -> Operation {
        match self {
            Self::Raw { cf } => Operation::Raw { op: RawOperation::Scan(spec), cf: cf.clone() },
            Self::Snapshot { at, options } => {
                let op = ReadOperation::Scan(spec);
                Operation::Read { op, at: *at, options: options.clone() }
            }
        }
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
/// A snapshot's stream sees the snapshot's moment throughout. A raw stream sees each page as it is
/// when the page is read: what is written meanwhile behind the cursor is not seen, before it may be.
///
/// # Cancel safety
/// Dropping it withdraws the page that is under way. Dropping a [`ScanStream::next`] loses nothing.
#[must_use = "a stream does nothing unless polled"]
pub struct ScanStream<T> {
    handle: Arc<Handle>,
    source: Source,
    /// What has not been asked for. `None` if nothing is left.
    rest: Option<KeyRange>,
    /// How many of `rest` are wanted yet.
    left: Option<u64>,
    reverse: bool,
    key_only: bool,
    page: u32,
    timeout: Duration,
    ready: VecDeque<anatase_core::KvPair>,
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
        let rest = Some(KeyRange::from(range)).filter(|range| !range.is_empty());
        Self {
            handle,
            source,
            rest,
            left: None,
            reverse: false,
            key_only,
            page: page.clamp(1, MAX_RAW_SCAN_LIMIT),
            timeout,
            ready: VecDeque::new(),
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
        self.reverse = true;
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
        let Some(range) = &self.rest else {
            return;
        };
        let limit = match self.left {
            Some(left) => u64::from(self.page).min(left) as u32,
            None => self.page,
        };
        if limit == 0 {
            return;
        }
        let spec = ScanSpec {
            range: range.clone(),
            limit,
            reverse: self.reverse,
            key_only: self.key_only,
        };
        let operation = self.source.page(spec);
        let handle = self.handle.clone();
        let page = OperationFuture::new(handle, operation, self.timeout, kinds::PAGE);
        self.next = Some(Asked { page, limit });
    }

    /// Takes a page and moves behind it.
    fn take(&mut self, page: Page, limit: u32) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(page.len() as u64);
        }
        let last = page.last().map(|pair| pair.key.clone());
        self.rest = match (self.rest.take(), last) {
            // Fewer than asked for: that was all.
            (Some(_), _) if page.len() < limit as usize => None,
            (Some(mut rest), Some(last)) if self.reverse => {
                // Below the empty key there is nothing, and as an end it would mean «no end».
                let below = !last.is_empty();
                rest.end = last;
                Some(rest).filter(|rest| below && !rest.is_empty())
            }
            (Some(mut rest), Some(last)) => {
                rest.start = next_key(&last);
                Some(rest).filter(|rest| !rest.is_empty())
            }
            (_, _) => None,
        };
        self.ready = page.into();
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        loop {
            if let Some(pair) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok((self.make)(pair))));
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
            match page {
                Ok(page) => {
                    self.take(page, limit);
                    self.fetch_ahead(cx);
                }
                Err(error) => {
                    self.rest = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
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
        let ready = self.ready.len();
        let most = match (self.left, &self.rest) {
            (_, None) => Some(ready),
            (Some(left), Some(_)) => usize::try_from(left).ok().and_then(|n| n.checked_add(ready)),
            (None, Some(_)) => None,
        };
        // One more for an error.
        (ready, most.and_then(|most| most.checked_add(1)))
    }
}

impl<T> fmt::Debug for ScanStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanStream")
            .field("left", &self.left)
            .field("reverse", &self.reverse)
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
