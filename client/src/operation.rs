//! The future of an operation.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anatase_core::{OpId, Operation, Reply};

use crate::driver::{GivenUp, Handle, Rejected};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Instant;
use crate::txn::cache::{Cache, Fill, Lookup};
use crate::waiters::{Outcome, Ticket};

/// An operation under way. Nothing is sent before it is first polled.
///
/// # Cancel safety
/// Dropping it withdraws the operation: requests that are out are abandoned, nothing is retried. A
/// read leaves no trace. A write that was sent may have been executed or may yet be. A commit that
/// has not sent its decisive request is rolled back in the background, one that has is settled there.
#[must_use = "futures do nothing unless awaited"]
pub struct OperationFuture<T> {
    handle: Arc<Handle>,
    state: State<T>,
    begun: Instant,
    kind: Kind<T>,
    /// Of a read through a cache: where the answer goes.
    fill: Option<Box<Fill>>,
    /// It goes on without whoever waits for it.
    detached: bool,
}

/// What is known about an operation beforehand.
pub(crate) struct Kind<T> {
    /// Takes out of the reply what the caller wants.
    pub(crate) take: fn(Reply) -> Option<T>,
    /// Whether it changes anything, so that losing sight of it leaves a doubt.
    pub(crate) writes: bool,
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Kind<T> {}

enum State<T> {
    /// Decided without asking anybody.
    Settled(Result<T>),
    /// Read before.
    Known(Reply),
    Waiting {
        op: OpId,
        ticket: Ticket,
    },
    New {
        operation: Operation,
        timeout: Duration,
    },
    Taken,
}

/// The result is stored as a plain value and never pinned.
impl<T> Unpin for OperationFuture<T> {}

impl<T> OperationFuture<T> {
    pub(crate) fn new(
        handle: Arc<Handle>,
        operation: Operation,
        timeout: Duration,
        kind: Kind<T>,
    ) -> Self {
        let state = State::New { operation, timeout };
        Self { handle, state, begun: Instant::ORIGIN, kind, fill: None, detached: false }
    }

    pub(crate) fn settled(handle: Arc<Handle>, result: Result<T>, kind: Kind<T>) -> Self {
        Self {
            handle,
            state: State::Settled(result),
            begun: Instant::ORIGIN,
            kind,
            fill: None,
            detached: false,
        }
    }

    /// How long it has been under way.
    pub(crate) fn elapsed(&self) -> Duration {
        self.handle.driver.now().since(self.begun)
    }

    /// The same, to its end also if the future is dropped once it has begun.
    pub(crate) fn in_background(mut self) -> Self {
        self.detached = true;
        self
    }

    /// The same read, through a cache.
    pub(crate) fn through(
        cache: &Cache,
        handle: Arc<Handle>,
        operation: Operation,
        timeout: Duration,
        kind: Kind<T>,
    ) -> Self {
        match cache.look_up(operation) {
            Ok(Lookup::Known(reply)) => {
                let state = State::Known(reply);
                Self { handle, state, begun: Instant::ORIGIN, kind, fill: None, detached: false }
            }
            Ok(Lookup::Ask(operation, fill)) => {
                let mut read = Self::new(handle, operation, timeout, kind);
                read.fill = Some(Box::new(fill));
                read
            }
            Err(operation) => Self::new(handle, operation, timeout, kind),
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Result<T> {
        let fill = self.fill.take();
        let error = match outcome {
            Outcome::Done(Ok(reply)) => match (self.kind.take)(match fill {
                Some(fill) => fill.complete(reply),
                None => reply,
            }) {
                Some(value) => return Ok(value),
                None => anatase_core::Error::new(
                    ErrorKind::Protocol,
                    "the core answered another operation: please report this as a defect",
                )
                .in_doubt(self.kind.writes),
            },
            Outcome::Done(Err(error)) => error,
            Outcome::Lost => anatase_core::Error::new(
                ErrorKind::Closed,
                "the client came to its end before the operation did",
            )
            .in_doubt(self.kind.writes),
        };
        Err(Error::from(error).after(self.elapsed()))
    }
}

impl<T> Future for OperationFuture<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.get_mut();
        let driver = &this.handle.driver;
        let (op, ticket) = match std::mem::replace(&mut this.state, State::Taken) {
            State::Settled(result) => return Poll::Ready(result),
            State::Known(reply) => return Poll::Ready(this.finish(Outcome::Done(Ok(reply)))),
            State::Waiting { op, ticket } => (op, ticket),
            State::New { operation, timeout } => {
                this.begun = driver.now();
                match driver.submit(operation, this.begun + timeout, cx.waker()) {
                    Ok(submitted) => submitted,
                    Err(Rejected::Closed) => return Poll::Ready(Err(Error::closed())),
                    Err(Rejected::Full) => {
                        let text = "too many operations are under way in this client";
                        return Poll::Ready(Err(Error::new(ErrorKind::Overloaded, text)));
                    }
                }
            }
            State::Taken => {
                let text = "a finished operation was polled again";
                return Poll::Ready(Err(Error::invalid(text)));
            }
        };
        match driver.poll(ticket, cx) {
            Poll::Ready(outcome) => Poll::Ready(this.finish(outcome)),
            Poll::Pending => {
                this.state = State::Waiting { op, ticket };
                Poll::Pending
            }
        }
    }
}

impl<T> OperationFuture<T> {
    /// Gives it up, as dropping it does, and tells what it was by then: `None` if it had not begun.
    pub(crate) fn give_up(&mut self) -> Option<GivenUp> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Waiting { op, ticket } => Some(self.handle.driver.cancel(op, ticket)),
            State::New { .. } | State::Settled(_) | State::Known(_) | State::Taken => None,
        }
    }
}

impl<T> Drop for OperationFuture<T> {
    fn drop(&mut self) {
        match self.state {
            State::Waiting { op, ticket } if self.detached => self.handle.driver.leave(op, ticket),
            State::Waiting { .. } => drop(self.give_up()),
            State::New { .. } | State::Settled(_) | State::Known(_) | State::Taken => {}
        }
    }
}

impl<T> fmt::Debug for OperationFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationFuture").finish_non_exhaustive()
    }
}

/// Ready-made [`Kind`]s.
pub(crate) mod kinds {
    use super::{Kind, Reply};
    use crate::key::{Key, KvPair, Value};
    use crate::txn::FoundLock;
    use anatase_core::{
        CommitOutcome, LocksResolved, RawChecksum, RegionRanges, Timestamp, TxnState,
    };

    pub(crate) const READY: Kind<()> = Kind { take: done, writes: false };
    pub(crate) const WRITE: Kind<()> = Kind { take: done, writes: true };
    pub(crate) const VALUE: Kind<Option<Value>> = Kind {
        take: |reply| match reply {
            Reply::Value(value) => Some(value),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const EXISTS: Kind<bool> = Kind {
        take: |reply| match reply {
            Reply::Value(value) => Some(value.is_some()),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const VALUES: Kind<Vec<Option<Value>>> = Kind {
        take: |reply| match reply {
            Reply::Values(values) => Some(values),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const PAIRS: Kind<Vec<KvPair>> = Kind {
        take: |reply| match reply {
            Reply::Pairs(pairs) => Some(pairs.into_iter().map(KvPair::from).collect()),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const KEYS: Kind<Vec<Key>> = Kind {
        take: |reply| match reply {
            Reply::Pairs(pairs) => Some(pairs.into_iter().map(|pair| pair.key.into()).collect()),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const TTL: Kind<Option<u64>> = Kind {
        take: |reply| match reply {
            Reply::Ttl(ttl) => Some(ttl),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const SWAP: Kind<(Option<Value>, bool)> = Kind {
        take: |reply| match reply {
            Reply::Swapped { previous, swapped } => Some((previous, swapped)),
            _ => None,
        },
        writes: true,
    };
    pub(crate) const CHECKSUM: Kind<RawChecksum> = Kind {
        take: |reply| match reply {
            Reply::Checksum(sum) => Some(sum),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const REGIONS: Kind<Vec<RegionRanges>> = Kind {
        take: |reply| match reply {
            Reply::Regions(regions) => Some(regions),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const LOCKED: Kind<anatase_core::LockReply> = Kind {
        take: |reply| match reply {
            Reply::Locked(locked) => Some(locked),
            _ => None,
        },
        writes: false,
    };
    /// Of a plug-in, which may write for all that is known here.
    pub(crate) const BYTES: Kind<Value> = Kind {
        take: |reply| match reply {
            Reply::Bytes(bytes) => Some(bytes),
            _ => None,
        },
        writes: true,
    };
    /// As the core has them, for whoever goes on from the last.
    pub(crate) const PAGE: Kind<Vec<anatase_core::KvPair>> = Kind {
        take: |reply| match reply {
            Reply::Pairs(pairs) => Some(pairs),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const TIMESTAMP: Kind<Timestamp> = Kind {
        take: |reply| match reply {
            Reply::Timestamp(timestamp) => Some(timestamp),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const EXTERNAL_TIMESTAMP: Kind<Option<Timestamp>> = Kind {
        take: |reply| match reply {
            Reply::ExternalTimestamp(timestamp) => Some(timestamp),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const LOCKS: Kind<Vec<FoundLock>> = Kind {
        take: |reply| match reply {
            Reply::Locks(locks) => Some(locks.into_iter().map(FoundLock::from).collect()),
            _ => None,
        },
        writes: false,
    };
    /// Changes nothing that an application has written.
    pub(crate) const LOCKS_RESOLVED: Kind<LocksResolved> = Kind {
        take: |reply| match reply {
            Reply::LocksResolved(done) => Some(done),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const TXN_STATE: Kind<TxnState> = Kind {
        take: |reply| match reply {
            Reply::TxnState(state) => Some(state),
            _ => None,
        },
        writes: false,
    };
    pub(crate) const COMMIT: Kind<CommitOutcome> = Kind {
        take: |reply| match reply {
            Reply::Commit(outcome) => Some(outcome),
            _ => None,
        },
        writes: true,
    };

    fn done(reply: Reply) -> Option<()> {
        matches!(reply, Reply::Done).then_some(())
    }
}
