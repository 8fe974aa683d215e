//! Operations: each a machine of named states, consumed by value by the step that leaves it.
//!
//! A machine is started once, woken whenever a wait of its own ends, and stopped by its deadline or
//! by its owner. It never sees a command or a timer: it asks its [`Cx`] for calls, timestamps,
//! resolutions and pauses, each under a tag, and is woken with that tag.

mod batch_scan;
mod clock;
pub(crate) mod commit;
#[cfg(test)]
mod commit_mode_stories;
#[cfg(test)]
mod commit_outcome_stories;
#[cfg(test)]
mod commit_pessimistic_stories;
#[cfg(test)]
mod commit_stories;
#[cfg(test)]
mod gc_stories;
#[cfg(test)]
mod limits;
mod lock;
#[cfg(test)]
mod lock_stories;
mod lookup;
mod pessimistic_rollback;
#[cfg(test)]
mod pessimistic_stories;
mod point;
mod raw_batch;
mod raw_range;
#[cfg(test)]
mod raw_range_stories;
#[cfg(test)]
mod raw_stories;
#[cfg(test)]
mod read_stories;
mod read_view;
mod regions;
mod resolve_locks;
mod rollback;
mod scan;
mod scan_locks;
mod snapshot;
#[cfg(test)]
mod snapshot_stories;
mod txn_status;
mod visible;

use std::time::Duration;

use crate::command::Cancel;
use crate::coverage::State;
use crate::error::{Error, ErrorKind};
use crate::operation::{Operation, RawOperation, ReadOperation, Reply};
use crate::region_call::Abandoned;
use crate::shared::{Cx, Shared, Tag, Wake};
use crate::timestamp::Timestamp;

use batch_scan::BatchScan;
use clock::{Checking, Clock};
use commit::Commit;
use lock::LockKeys;
use lookup::Lookup;
use pessimistic_rollback::PessimisticRollback;
use point::RawPoint;
use raw_batch::RawBatch;
use raw_range::RawRange;
pub(crate) use read_view::Passes;
use read_view::ReadView;
use regions::Regions;
use resolve_locks::ResolveLocks;
use rollback::Rollback;
use scan::Scan;
use scan_locks::ScanLocks;
use snapshot::{SnapshotBatchGet, SnapshotGet};
use txn_status::TxnStatus;
use visible::Visible;

/// What a step leads to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Wait on.
    Next(Op),
    /// It is over.
    Done(Result<Reply, Error>),
    /// The owner can be told; the rest goes on for the benefit of others, under a deadline of its own.
    Detach(Result<Reply, Error>, Op, Duration),
    /// The rest is over, too.
    Finished,
}

/// One operation in flight. Large machines are boxed, so that a slot of the table stays small.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Op {
    /// Not begun: waiting until the keyspace is known in which its keys lie.
    Starting(Box<Operation>),
    /// Waiting until PD is known.
    Ready,
    /// Waiting for a timestamp.
    Timestamp,
    /// Waiting for another kind of timestamp.
    Clock(Clock),
    /// A read that waits to be allowed.
    Checking(Box<Checking>),
    RawPoint(RawPoint),
    RawBatch(Box<RawBatch>),
    RawRange(Box<RawRange>),
    Scan(Box<Scan>),
    BatchScan(Box<BatchScan>),
    Regions(Box<Regions>),
    Lookup(Box<Lookup>),
    Get(Box<SnapshotGet>),
    BatchGet(Box<SnapshotBatchGet>),
    /// A read that waits to be judged.
    Visible(Box<Visible>),
    Commit(Box<Commit>),
    Rollback(Box<Rollback>),
    Lock(Box<LockKeys>),
    PessimisticRollback(Box<PessimisticRollback>),
    ScanLocks(Box<ScanLocks>),
    ResolveLocks(Box<ResolveLocks>),
    TxnStatus(Box<TxnStatus>),
}

const _: () = assert!(size_of::<Op>() <= 128);

impl Op {
    /// Starts an operation.
    pub(crate) fn start(operation: Operation, cx: &mut Cx<'_>) -> Step {
        // Timestamps are the same in every keyspace.
        if cx.shared.tenancy.is_settled() || operation.is_about_time() {
            return Self::begin(operation, cx);
        }
        cx.shared.await_keyspace(cx.owner, 0);
        Step::Next(Self::Starting(Box::new(operation)))
    }

    fn begin(operation: Operation, cx: &mut Cx<'_>) -> Step {
        match operation {
            Operation::Ready => {
                cx.shared.pd_await_ready(cx.owner, 0);
                Step::Next(Self::Ready)
            }
            Operation::Timestamp => {
                cx.timestamp(0);
                Step::Next(Self::Timestamp)
            }
            Operation::LowResolutionTimestamp
            | Operation::StaleTimestamp { .. }
            | Operation::MinTimestamp
            | Operation::ExternalTimestamp
            | Operation::SetExternalTimestamp(_)
            | Operation::SetLowResolutionInterval(_) => Clock::start(operation, cx),
            Operation::Raw { op, cf } => match op {
                RawOperation::Get { .. }
                | RawOperation::GetKeyTtl { .. }
                | RawOperation::Put { .. }
                | RawOperation::Delete { .. }
                | RawOperation::CompareAndSwap(_)
                | RawOperation::Coprocessor(_) => RawPoint::start(op, &cf, cx),
                RawOperation::BatchGet { .. }
                | RawOperation::BatchPut { .. }
                | RawOperation::BatchDelete { .. } => RawBatch::start(op, cf, cx),
                RawOperation::Scan(spec) => Scan::start_raw(spec, cf, 0, cx),
                RawOperation::BatchScan { scans } => BatchScan::start(scans, cf, cx),
                RawOperation::DeleteRange { range } => RawRange::start_delete(range, cf, cx),
                RawOperation::Checksum { range } => RawRange::start_checksum(range, cx),
            },
            Operation::Regions { ranges } => Regions::start(ranges, cx),
            // Stale reads, once there are any, say so here.
            Operation::Read { op, at, options } => {
                Checking::start(op, ReadView::new(at, options), false, cx)
            }
            Operation::GroupKeys { keys } => Regions::start_keys(keys, cx),
            Operation::Region(what) => Lookup::start(what, cx),
            Operation::BucketsSeen { region, used, latest } => {
                cx.shared.buckets_seen(region, used, latest);
                Step::Done(Ok(Reply::Done))
            }
            Operation::Commit(plan) => Commit::start(*plan, cx),
            Operation::Rollback { start_ts, keys } => Rollback::start(start_ts, keys, cx),
            Operation::Lock(plan) => LockKeys::start(*plan, cx),
            Operation::PessimisticRollback(plan) => PessimisticRollback::start(*plan, cx),
            Operation::ScanLocks(plan) => ScanLocks::start(*plan, cx),
            Operation::ResolveLocks(plan) => ResolveLocks::start(*plan, cx),
            Operation::TxnStatus(plan) => TxnStatus::start(*plan, cx),
        }
    }

    /// A wait is over.
    pub(crate) fn wake(self, tag: Tag, wake: Wake, cx: &mut Cx<'_>) -> Step {
        match self {
            Self::Starting(operation) => match wake {
                Wake::Keyspace(Ok(())) => Self::begin(*operation, cx),
                Wake::Keyspace(Err(error)) => Step::Done(Err(error)),
                _ => Step::Next(Self::Starting(operation)),
            },
            Self::Ready => match wake {
                Wake::PdReady(found) => Step::Done(found.map(|()| Reply::Done)),
                _ => Step::Next(self),
            },
            Self::Timestamp => match wake {
                Wake::Timestamp(result) => Step::Done(result.map(Reply::Timestamp)),
                _ => Step::Next(self),
            },
            Self::Clock(machine) => machine.wake(wake, cx),
            Self::Checking(machine) => machine.wake(wake, cx),
            Self::RawPoint(machine) => machine.wake(wake),
            Self::RawBatch(machine) => machine.wake(tag, wake, cx),
            Self::RawRange(machine) => machine.wake(tag, wake, cx),
            Self::Scan(machine) => machine.wake(tag, wake, cx),
            Self::BatchScan(machine) => machine.wake(tag, wake, cx),
            Self::Regions(machine) => machine.wake(tag, wake, cx),
            Self::Lookup(machine) => machine.wake(tag, wake, cx),
            Self::Get(machine) => machine.wake(tag, wake, cx),
            Self::BatchGet(machine) => machine.wake(tag, wake, cx),
            Self::Visible(machine) => machine.wake(wake, cx),
            Self::Commit(machine) => machine.wake(tag, wake, cx),
            Self::Rollback(machine) => machine.wake(tag, wake, cx),
            Self::Lock(machine) => machine.wake(tag, wake, cx),
            Self::PessimisticRollback(machine) => machine.wake(tag, wake, cx),
            Self::ScanLocks(machine) => machine.wake(tag, wake, cx),
            Self::ResolveLocks(machine) => machine.wake(tag, wake, cx),
            Self::TxnStatus(machine) => machine.wake(tag, wake, cx),
        }
    }

    /// Stops the operation, because its time is up, because its owner no longer wants it, or
    /// because the core closes. For the owner's part it is over after this step, whatever goes on
    /// in the background.
    pub(crate) fn stop(self, why: Stop, cx: &mut Cx<'_>) -> (Cancel, Step) {
        let stopped = |step| (Cancel::Stopped, step);
        match self {
            Self::Starting(_) => {
                let owner = cx.owner;
                let cause = cx.shared.forget_keyspace_waiter(owner);
                stopped(Step::Done(Err(why.error(None, cx.shared).because(cause))))
            }
            Self::Ready => {
                let owner = cx.owner;
                cx.shared.pd_forget(owner);
                stopped(Step::Done(Err(why.error(None, cx.shared))))
            }
            Self::Timestamp => {
                let owner = cx.owner;
                cx.shared.tso_forget(owner);
                stopped(Step::Done(Err(why.error(None, cx.shared))))
            }
            Self::Clock(machine) => stopped(machine.stop(why, cx)),
            Self::Checking(machine) => stopped(machine.stop(why, cx)),
            Self::RawPoint(machine) => stopped(machine.stop(why, cx)),
            Self::RawBatch(machine) => stopped(machine.stop(why, cx)),
            Self::RawRange(machine) => stopped(machine.stop(why, cx)),
            Self::Scan(machine) => stopped(machine.stop(why, cx)),
            Self::BatchScan(machine) => stopped(machine.stop(why, cx)),
            Self::Regions(machine) => stopped(machine.stop(why, cx)),
            Self::Lookup(machine) => stopped(machine.stop(why, cx)),
            Self::Get(machine) => stopped(machine.stop(why, cx)),
            Self::BatchGet(machine) => stopped(machine.stop(why, cx)),
            Self::Visible(machine) => stopped(machine.stop(why, cx)),
            Self::Commit(machine) => machine.stop(why, cx),
            Self::Rollback(machine) => stopped(machine.stop(why, cx)),
            Self::Lock(machine) => machine.stop(why, cx),
            Self::PessimisticRollback(machine) => stopped(machine.stop(why, cx)),
            Self::ScanLocks(machine) => stopped(machine.stop(why, cx)),
            Self::ResolveLocks(machine) => stopped(machine.stop(why, cx)),
            Self::TxnStatus(machine) => stopped(machine.stop(why, cx)),
        }
    }

    /// Whether it is carried to its end when the core closes.
    pub(crate) fn outlives_close(&self) -> bool {
        match self {
            Self::Commit(_) | Self::Rollback(_) | Self::PessimisticRollback(_) => true,
            Self::Lock(machine) => machine.is_releasing(),
            Self::Starting(_)
            | Self::Ready
            | Self::Timestamp
            | Self::Clock(_)
            | Self::Checking(_)
            | Self::RawPoint(_)
            | Self::RawBatch(_)
            | Self::RawRange(_)
            | Self::Scan(_)
            | Self::BatchScan(_)
            | Self::Regions(_)
            | Self::Lookup(_)
            | Self::Get(_)
            | Self::BatchGet(_)
            | Self::Visible(_)
            | Self::ScanLocks(_)
            | Self::ResolveLocks(_)
            | Self::TxnStatus(_) => false,
        }
    }

    /// Where it is, if its steps are counted.
    pub(crate) fn state(&self) -> Option<State> {
        match self {
            Self::Commit(machine) => Some(machine.state()),
            Self::Lock(machine) => Some(machine.state()),
            Self::Starting(_)
            | Self::Ready
            | Self::Timestamp
            | Self::Clock(_)
            | Self::Checking(_)
            | Self::RawPoint(_)
            | Self::RawBatch(_)
            | Self::RawRange(_)
            | Self::Scan(_)
            | Self::BatchScan(_)
            | Self::Regions(_)
            | Self::Lookup(_)
            | Self::Get(_)
            | Self::BatchGet(_)
            | Self::Visible(_)
            | Self::Rollback(_)
            | Self::PessimisticRollback(_)
            | Self::ScanLocks(_)
            | Self::ResolveLocks(_)
            | Self::TxnStatus(_) => None,
        }
    }

    /// Whether a machine whose steps are counted waits for what comes under this tag.
    pub(crate) fn awaits(&self, tag: Tag) -> bool {
        match self {
            Self::Commit(machine) => machine.awaits(tag),
            Self::Lock(machine) => machine.awaits(tag),
            Self::Starting(_)
            | Self::Ready
            | Self::Timestamp
            | Self::Clock(_)
            | Self::Checking(_)
            | Self::RawPoint(_)
            | Self::RawBatch(_)
            | Self::RawRange(_)
            | Self::Scan(_)
            | Self::BatchScan(_)
            | Self::Regions(_)
            | Self::Lookup(_)
            | Self::Get(_)
            | Self::BatchGet(_)
            | Self::Visible(_)
            | Self::Rollback(_)
            | Self::PessimisticRollback(_)
            | Self::ScanLocks(_)
            | Self::ResolveLocks(_)
            | Self::TxnStatus(_) => true,
        }
    }

    /// The transaction that it commits.
    pub(crate) fn commits(&self) -> Option<Timestamp> {
        if let Self::Commit(machine) = self { Some(machine.start_ts()) } else { None }
    }
}

fn start_read(op: ReadOperation, mut view: ReadView, cx: &mut Cx<'_>) -> Step {
    cx.shared.prepare_visibility();
    view.recall(cx);
    match op {
        ReadOperation::Get { key } => SnapshotGet::start(key, view, cx),
        ReadOperation::BatchGet { keys } => SnapshotBatchGet::start(keys, view, cx),
        ReadOperation::Scan(spec) => Scan::start_snapshot(spec, view, cx),
    }
}

/// Why an operation is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stop {
    /// Its deadline has passed.
    Deadline,
    /// Its owner dropped it.
    Cancelled,
    /// The core closes.
    Closed,
}

impl Stop {
    /// The error to tell, given what the operation was in the middle of.
    pub(crate) fn error(self, left: Option<Abandoned>, shared: &Shared) -> Error {
        let (cause, attempts, doubt) = match left {
            Some(left) => (left.cause, left.attempts, left.doubt),
            None => (None, 0, false),
        };
        match self {
            // Who waits for PD and nothing else is told so, with the addresses tried.
            Self::Deadline if attempts == 0 && shared.pd.leader().is_none() => {
                shared.pd.why_unavailable().because(cause)
            }
            Self::Deadline => {
                Error::new(ErrorKind::DeadlineExceeded, "the operation's deadline has passed")
                    .because(cause)
            }
            Self::Cancelled => Error::new(ErrorKind::Cancelled, "the operation was cancelled"),
            Self::Closed => Error::new(ErrorKind::Closed, "the client was closed").because(cause),
        }
        .after(attempts)
        .in_doubt(doubt)
    }
}

/// A machine was given what another one is for: a mistake in this crate, told as one instead of
/// taking the process down.
fn misrouted(what: &str) -> Step {
    debug_assert!(false, "misrouted: {what}");
    Step::Done(Err(Error::new(ErrorKind::Protocol, format!("internal: unexpected {what}"))))
}
