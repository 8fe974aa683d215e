//! What crosses the door of the core: commands out, answers and news in.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Failure};
use crate::id::{CommandId, OpId, StoreId};
use crate::operation::{OpOptions, Operation, Reply};
use crate::time::Instant;
use crate::wire::{Request, Response};

/// Work for the driver. Plain data: it can be printed, compared, recorded and replayed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Send a request and report its answer.
    Call(Call),
    /// Ask PD's timestamp stream for timestamps.
    Timestamps(AskTimestamps),
    /// Nobody waits for this command any more. The driver may drop it or let it finish.
    Abort {
        /// The command.
        id: CommandId,
    },
}

// Commands are moved through queues: three cache lines at most.
const _: () = assert!(size_of::<Command>() <= 192);

/// A unary call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// To be named in the answer.
    pub id: CommandId,
    /// Where to.
    pub to: Destination,
    /// When nobody is interested any more. The core withdraws the command at that time by itself;
    /// a driver may use it to tell the server.
    pub deadline: Instant,
    /// What to send.
    pub request: Request,
}

/// A batch of timestamps, over PD's bidirectional `Tso` stream. Requests to one destination, with
/// the same `forward_to`, are answered in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AskTimestamps {
    /// To be named in the answer.
    pub id: CommandId,
    /// Where to: the PD leader, or a follower that passes it on.
    pub to: Destination,
    /// The leader, where `to` is a follower. Metadata belong to a stream, so each `forward_to`
    /// needs a stream of its own.
    pub forward_to: Option<Arc<str>>,
    /// When nobody is interested any more.
    pub deadline: Instant,
    /// The cluster.
    pub cluster_id: u64,
    /// How many.
    pub count: u32,
}

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// `host:port`, with or without a scheme in front, as PD or the application gave it.
    pub address: Arc<str>,
    /// The store that lives there; `None` for PD.
    pub store: Option<StoreId>,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store {
            Some(store) => write!(f, "store {store} at {}", self.address),
            None => write!(f, "PD at {}", self.address),
        }
    }
}

/// What an operation tells its owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It is over: its id is stale from now on. Sent exactly once for each submitted operation that
    /// was not cancelled, and never for one that was.
    Done {
        /// The operation.
        op: OpId,
        /// How it ended.
        result: Result<Reply, Error>,
    },
}

/// News that answers no command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A connection to a store broke while nothing was being asked of it. The store may have moved:
    /// its address is looked up again before it is used.
    LinkDown {
        /// The store.
        store: StoreId,
    },
    /// A store has told how well it is (`HealthFeedback`).
    Health {
        /// The store.
        store: StoreId,
        /// 1 is best, 100 worst.
        slow_score: u32,
    },
}

/// An input as a value: what a driver feeds, a fuzzer generates, a recorder keeps and a replay reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// [`Core::submit`](crate::Core::submit).
    Submit(Operation, OpOptions),
    /// [`Core::handle_response`](crate::Core::handle_response).
    Response(CommandId, Result<Response, Failure>),
    /// [`Core::handle_notice`](crate::Core::handle_notice).
    Notice(Notice),
    /// [`Core::handle_timeout`](crate::Core::handle_timeout).
    Timeout,
    /// [`Core::cancel`](crate::Core::cancel).
    Cancel(OpId),
    /// [`Core::close`](crate::Core::close).
    Close,
}

/// When to call [`Core::handle_timeout`](crate::Core::handle_timeout), and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wakeup {
    /// When.
    pub at: Instant,
    /// What for.
    pub reason: WakeReason,
}

/// What a wake-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WakeReason {
    /// An operation has to be over.
    Deadline,
    /// An attempt has taken too long.
    AttemptTimeout,
    /// A retry is due.
    Backoff,
    /// A lock should be looked at again.
    LockWait,
    /// PD should be asked for its members again.
    PdRefresh,
    /// Whoever wants a timestamp has waited long enough for company.
    Batch,
    /// The locks of an open transaction have to be kept alive.
    Heartbeat,
    /// A store has been silent for long.
    Probe,
}

/// What became of a request to stop an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancel {
    /// It is gone, and so are its commands.
    Stopped,
    /// A commit that had not yet sent its decisive request: it is undone in the background.
    RollingBack,
    /// A commit past its point of no return: it settles in the background.
    TooLate,
    /// No such operation: it is over already.
    Unknown,
}

/// The operation that found no room, unharmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full(pub Operation);
