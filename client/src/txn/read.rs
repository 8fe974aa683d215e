//! Reads of a transaction: its snapshot with its own writes laid over it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anatase_core::txn::{Union, UnionStep};
use anatase_core::{ReadOperation, ScanSpec};
use bytes::Bytes;

use super::Transaction;
use crate::error::Result;
use crate::key::{KvPair, Value};
use crate::operation::{Kind, OperationFuture, kinds};
use crate::runtime::Instant;

/// What is read and how it is put together.
pub(crate) enum Merge<T> {
    Get { key: Bytes, take: fn(Option<Value>) -> T },
    BatchGet { keys: Vec<Bytes>, take: fn(Vec<Option<Value>>) -> T },
    Scan { spec: ScanSpec, take: fn(Vec<KvPair>) -> T },
}

/// A read of a transaction about to be awaited. The transaction's own writes are those that were
/// made before it is awaited.
#[must_use = "a read does nothing unless awaited"]
pub struct TransactionRead<'a, T> {
    txn: &'a Transaction,
    merge: Merge<T>,
    timeout: Duration,
}

impl<'a, T> TransactionRead<'a, T> {
    pub(crate) fn new(txn: &'a Transaction, merge: Merge<T>, timeout: Duration) -> Self {
        Self { txn, merge, timeout }
    }

    /// How long it may take in all, instead of [`Config::with_timeout`](crate::Config::with_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<'a, T> IntoFuture for TransactionRead<'a, T> {
    type Output = Result<T>;
    type IntoFuture = TransactionReadFuture<'a, T>;

    fn into_future(self) -> TransactionReadFuture<'a, T> {
        let Self { txn, merge, timeout } = self;
        let until = txn.handle().driver.now() + timeout;
        let reader = Reader { txn, until };
        let step = match merge {
            Merge::Get { key, take } => {
                let known = txn.state().buffer().get(&key);
                match known {
                    Some(value) => Step::Known(Some(take(value))),
                    None => {
                        let read = reader.read(ReadOperation::Get { key }, kinds::VALUE);
                        Step::Get { read, take }
                    }
                }
            }
            Merge::BatchGet { keys, take } => {
                let state = txn.state();
                let mut known = Vec::with_capacity(keys.len());
                let mut missing = Vec::new();
                for key in keys {
                    let value = state.buffer().get(&key);
                    if value.is_none() {
                        missing.push(key);
                    }
                    known.push(value);
                }
                drop(state);
                let read = reader.read(ReadOperation::BatchGet { keys: missing }, kinds::VALUES);
                Step::BatchGet { read, known, take }
            }
            Merge::Scan { spec, take } => {
                let ScanSpec { range, limit, reverse, key_only } = spec;
                let union = Union::new(range, reverse, key_only);
                match union.wants(limit).filter(|_| limit > 0) {
                    Some(page) => {
                        let read = reader.read(ReadOperation::Scan(page), kinds::PAGE);
                        let (asked, limit) = (limit, limit as usize);
                        let found = Vec::new();
                        Step::Scan(Box::new(Scan { read, asked, limit, union, found, take }))
                    }
                    None => Step::Known(Some(take(Vec::new()))),
                }
            }
        };
        TransactionReadFuture { reader, step }
    }
}

impl<T> fmt::Debug for TransactionRead<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionRead").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// A read of a transaction under way.
///
/// # Cancel safety
/// Dropping it withdraws the read and leaves no trace.
#[must_use = "futures do nothing unless awaited"]
pub struct TransactionReadFuture<'a, T> {
    reader: Reader<'a>,
    step: Step<T>,
}

struct Reader<'a> {
    txn: &'a Transaction,
    until: Instant,
}

enum Step<T> {
    /// The transaction has written it itself, or there is nothing to read. `None` when taken.
    Known(Option<T>),
    Get {
        read: OperationFuture<Option<Value>>,
        take: fn(Option<Value>) -> T,
    },
    /// What the transaction does not know is asked for.
    BatchGet {
        read: OperationFuture<Vec<Option<Value>>>,
        known: Vec<Option<Option<Value>>>,
        take: fn(Vec<Option<Value>>) -> T,
    },
    Scan(Box<Scan<T>>),
}

/// A page at a time: what the transaction has deleted makes a page shorter, and then another is
/// needed.
struct Scan<T> {
    read: OperationFuture<Page>,
    /// For how many pairs it asks.
    asked: u32,
    limit: usize,
    union: Union,
    found: Vec<KvPair>,
    take: fn(Vec<KvPair>) -> T,
}

type Page = Vec<anatase_core::KvPair>;

/// How much a second page asks for at least: a page of the core's own scan.
const MORE: u32 = 256;

impl Reader<'_> {
    fn read<T>(&self, op: ReadOperation, kind: Kind<T>) -> OperationFuture<T> {
        let left = self.until.since(self.txn.handle().driver.now());
        self.txn.snapshot_ref().read(op, kind).timeout(left).into_future()
    }
}

/// Results are stored as plain values and never pinned.
impl<T> Unpin for TransactionReadFuture<'_, T> {}

impl<T> Future for TransactionReadFuture<'_, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { reader, step } = self.get_mut();
        match step {
            Step::Known(known) => Poll::Ready(
                known
                    .take()
                    .ok_or_else(|| crate::Error::invalid("a finished operation was polled again")),
            ),
            Step::Get { read, take } => Pin::new(read).poll(cx).map_ok(*take),
            Step::BatchGet { read, known, take } => {
                let read = ready!(Pin::new(read).poll(cx))?;
                let mut read = read.into_iter();
                // As many were asked for as are not known.
                let values = std::mem::take(known)
                    .into_iter()
                    .map(|value| value.unwrap_or_else(|| read.next().flatten()))
                    .collect();
                Poll::Ready(Ok(take(values)))
            }
            Step::Scan(scan) => loop {
                let page = ready!(Pin::new(&mut scan.read).poll(cx))?;
                scan.union.feed(scan.asked, page)?;
                let state = reader.txn.state();
                let over = loop {
                    if scan.found.len() == scan.limit {
                        break true;
                    }
                    match scan.union.next(state.buffer()) {
                        UnionStep::Pair(pair) => scan.found.push(pair.into()),
                        UnionStep::End => break true,
                        UnionStep::Feed => break false,
                    }
                };
                drop(state);
                // Where one page was thinned out the next may be as well: a few more pairs than
                // needed cost less than one more round.
                scan.asked = ((scan.limit - scan.found.len()) as u32).max(MORE);
                match scan.union.wants(scan.asked).filter(|_| !over) {
                    Some(page) => scan.read = reader.read(ReadOperation::Scan(page), kinds::PAGE),
                    None => return Poll::Ready(Ok((scan.take)(std::mem::take(&mut scan.found)))),
                }
            },
        }
    }
}

impl<T> fmt::Debug for TransactionReadFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionReadFuture").finish_non_exhaustive()
    }
}
