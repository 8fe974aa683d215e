//! What can go wrong, as values.
//!
//! A [`NetFault`] strikes at an instant, planned beforehand ([`PlannedFault`]) or chosen by the
//! nemesis of a [`Profile`](crate::Profile). One that lasts says how long and ends by itself;
//! [`Sim::heal`](crate::Sim::heal) ends all.
//!
//! Every fault is legal by construction: nothing that a majority has acknowledged is lost, and
//! timestamps do not go back. A region is named by its place in key order, taken modulo their number,
//! and so are members of PD and operations to cancel: what a fault names is there, whatever was taken
//! out of a scenario. What a fault asks for and cannot be, a split at a bound for example, is nothing.
//! Nor is PD made to leap again while its timestamps are ten seconds ahead of its clock: each new leader
//! leaps three, and until the clock has caught up no lock expires.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A client, in the order in which they were made; see [`Sim::client`](crate::Sim::client).
pub type ClientId = u32;

/// One end of a path through the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// A client.
    Client(ClientId),
    /// Every client.
    Clients,
    /// A store, by its id.
    Store(u64),
    /// Every store.
    Stores,
    /// A member of PD.
    Pd(usize),
    /// Every member of PD.
    AllPd,
}

impl Side {
    /// Whether `other`, which names one, is meant.
    pub(crate) fn covers(self, other: Side) -> bool {
        match self {
            Self::Clients => matches!(other, Self::Client(_)),
            Self::Stores => matches!(other, Self::Store(_)),
            Self::AllPd => matches!(other, Self::Pd(_)),
            Self::Client(_) | Self::Store(_) | Self::Pd(_) => self == other,
        }
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fate {
    /// It never arrives, and no answer comes.
    RequestLost,
    /// It is executed, and no answer comes.
    ReplyLost,
    /// It is a zombie: it arrives so much later, most often when nobody waits for it any more.
    Late(Duration),
    /// The connection breaks before it is executed, and with it every call on that connection.
    ResetBefore,
    /// The connection breaks when it has been executed, and with it every call on that connection.
    ResetAfter,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NetFault {
    /// Nothing gets from one side to the other for a while. One way: with a client first, requests
    /// are lost; with a server first, answers are.
    Partition {
        /// Where messages come from.
        from: Side,
        /// Where they do not get to.
        to: Side,
        /// Whether the other way is closed, too.
        both_ways: bool,
        /// How long.
        lasts: Duration,
    },
    /// The connections between a client and a server break: every call on them fails, in doubt.
    Reset {
        /// The client.
        client: ClientId,
        /// The servers.
        server: Side,
    },
    /// Something becomes of one request of a client.
    Next {
        /// The client.
        client: ClientId,
        /// How many requests go unharmed before.
        skip: u32,
        /// What.
        fate: Fate,
    },

    /// A store takes longer over every request.
    SlowStore {
        /// The store.
        store: u64,
        /// By how much.
        by: Duration,
        /// How long.
        lasts: Duration,
    },
    /// A store stands still: what reaches it meanwhile is executed all at once afterwards.
    PauseStore {
        /// The store.
        store: u64,
        /// How long.
        lasts: Duration,
    },
    /// A store dies and comes back: its connections break, and new ones are refused.
    CrashStore {
        /// The store.
        store: u64,
        /// How long it is down.
        lasts: Duration,
        /// After what time its regions have elected other leaders, if there is a majority.
        election: Duration,
    },
    /// A store answers some requests that it is busy.
    BusyStore {
        /// The store.
        store: u64,
        /// How many requests.
        requests: u32,
        /// How long, if there are not so many requests.
        lasts: Duration,
    },
    /// A store's disk is full: it refuses writes.
    FullStore {
        /// The store.
        store: u64,
        /// How long.
        lasts: Duration,
    },

    /// A region is split.
    Split {
        /// The user key at which the right part begins.
        key: Vec<u8>,
    },
    /// A region is split at one of the keys that were written.
    SplitAtKey {
        /// Which key, in order.
        nth: u32,
    },
    /// A region is merged into its right neighbour, or the last into its left one.
    Merge {
        /// Which region.
        region: u32,
    },
    /// Another store leads a region.
    MoveLeader {
        /// Which region.
        region: u32,
        /// Which of its peers.
        peer: u32,
    },
    /// Nobody leads a region.
    LoseLeader {
        /// Which region.
        region: u32,
        /// How long.
        lasts: Duration,
    },
    /// A region error to some requests to a region, though all is well with it.
    Refuse {
        /// Which region.
        region: u32,
        /// How many requests.
        requests: u32,
        /// With what error.
        error: Refusal,
        /// How long, if there are not so many requests.
        lasts: Duration,
    },
    /// Prewrites that ask for it fall back to two-phase commit.
    FallBack {
        /// From one-phase commit; otherwise from async commit.
        one_phase: bool,
        /// How many requests.
        requests: u32,
        /// How long, if there are not so many requests.
        lasts: Duration,
    },
    /// The leader of a region does not know up to where it was read, and so takes no async commits.
    HoldMaxTs {
        /// Which region.
        region: u32,
        /// How long.
        lasts: Duration,
    },
    /// Requests for locks do not wait, as if their time were over.
    DoNotWait {
        /// How many requests.
        requests: u32,
        /// How long, if there are not so many requests.
        lasts: Duration,
    },
    /// PD tells the routes of this moment, whatever becomes of the regions.
    StaleRoutes {
        /// How long.
        lasts: Duration,
    },

    /// Another member of PD leads; timestamps leap ahead. With only one member, they only leap.
    MovePdLeader {
        /// Which member.
        member: usize,
    },
    /// Nobody leads PD.
    LosePdLeader {
        /// How long.
        lasts: Duration,
    },
    /// A member of PD takes longer over every request.
    SlowPd {
        /// Which member.
        member: usize,
        /// By how much.
        by: Duration,
        /// How long.
        lasts: Duration,
    },
    /// A member of PD dies and comes back; another one leads if there is one.
    CrashPd {
        /// Which member.
        member: usize,
        /// How long it is down.
        lasts: Duration,
    },
    /// PD answers some requests with an error in the header.
    PdError {
        /// How many requests.
        requests: u32,
        /// How long, if there are not so many requests.
        lasts: Duration,
    },
    /// Timestamps leap ahead.
    TimestampLeap {
        /// By how much; ten seconds at most.
        by: Duration,
    },

    /// A client's process dies: its tasks and its cores vanish. What it had sent may still arrive.
    CrashClient {
        /// The client.
        client: ClientId,
        /// When it starts again: [`SimClient::on_boot`](crate::SimClient::on_boot).
        down: Duration,
    },
    /// A client stands still: nothing reaches it for a while, then everything at once.
    PauseClient {
        /// The client.
        client: ClientId,
        /// How long.
        lasts: Duration,
    },
    /// A client's clock runs at another rate.
    SkewClient {
        /// The client.
        client: ClientId,
        /// Thousandths of real time; from 500 to 2000.
        permille: u32,
    },
    /// An operation of a client is dropped by its owner: one that is in
    /// [`SimClient::cancellable`](crate::SimClient::cancellable).
    Cancel {
        /// The client.
        client: ClientId,
        /// Which of its operations, in the order in which they began.
        nth: u32,
    },
}

/// A region error that says nothing of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The epoch does not match; nothing is told of the current regions.
    EpochNotMatch,
    /// The leader has changed while the command was under way.
    StaleCommand,
    /// A leader is being elected, nobody knows whom.
    NotLeader,
    /// The region is not there.
    RegionNotFound,
    /// The leader is new and does not know the largest timestamp that was read at.
    MaxTimestampNotSynced,
    /// The region is being merged.
    Merging,
    /// The outcome of the proposal is not known; it was not executed, which nobody knows.
    Undetermined,
}

/// A fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlannedFault {
    /// After what time.
    pub at: Duration,
    /// What.
    pub fault: NetFault,
}

/// The kinds of faults that a nemesis chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum FaultKind {
    /// [`NetFault::Partition`].
    Partition,
    /// [`NetFault::Reset`].
    Reset,
    /// [`NetFault::SlowStore`].
    SlowStore,
    /// [`NetFault::PauseStore`].
    PauseStore,
    /// [`NetFault::CrashStore`].
    CrashStore,
    /// [`NetFault::BusyStore`].
    BusyStore,
    /// [`NetFault::FullStore`].
    FullStore,
    /// [`NetFault::SplitAtKey`].
    Split,
    /// [`NetFault::Merge`].
    Merge,
    /// [`NetFault::MoveLeader`].
    MoveLeader,
    /// [`NetFault::LoseLeader`].
    LoseLeader,
    /// [`NetFault::Refuse`].
    Refuse,
    /// [`NetFault::StaleRoutes`].
    StaleRoutes,
    /// [`NetFault::MovePdLeader`].
    MovePdLeader,
    /// [`NetFault::LosePdLeader`].
    LosePdLeader,
    /// [`NetFault::SlowPd`].
    SlowPd,
    /// [`NetFault::CrashPd`].
    CrashPd,
    /// [`NetFault::PdError`].
    PdError,
    /// [`NetFault::TimestampLeap`].
    TimestampLeap,
    /// [`NetFault::CrashClient`].
    CrashClient,
    /// [`NetFault::PauseClient`].
    PauseClient,
    /// [`NetFault::SkewClient`].
    SkewClient,
    /// [`NetFault::Cancel`].
    Cancel,
    /// [`NetFault::FallBack`].
    FallBack,
    /// [`NetFault::HoldMaxTs`].
    HoldMaxTs,
    /// [`NetFault::DoNotWait`].
    DoNotWait,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Partition,
        Self::Reset,
        Self::SlowStore,
        Self::PauseStore,
        Self::CrashStore,
        Self::BusyStore,
        Self::FullStore,
        Self::Split,
        Self::Merge,
        Self::MoveLeader,
        Self::LoseLeader,
        Self::Refuse,
        Self::StaleRoutes,
        Self::MovePdLeader,
        Self::LosePdLeader,
        Self::SlowPd,
        Self::CrashPd,
        Self::PdError,
        Self::TimestampLeap,
        Self::CrashClient,
        Self::PauseClient,
        Self::SkewClient,
        Self::Cancel,
        Self::FallBack,
        Self::HoldMaxTs,
        Self::DoNotWait,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_many_covers_each_of_them() {
        assert!(Side::Stores.covers(Side::Store(3)) && !Side::Stores.covers(Side::Pd(3)));
        assert!(Side::Store(3).covers(Side::Store(3)) && !Side::Store(3).covers(Side::Store(4)));
        assert!(Side::AllPd.covers(Side::Pd(0)) && Side::Clients.covers(Side::Client(0)));
    }

    #[test]
    fn every_kind_has_its_number() {
        for (number, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
