//! Which inputs the large machines have met in which state.
//!
//! Commit, lock and inquiry are the machines whose states and inputs multiply to more pairs than a
//! reader can keep in mind. docs/states.md says of each pair what happens, or why it cannot occur;
//! [`Core::coverage`](crate::Core::coverage) counts the pairs as they occur, so that a test can hold
//! the one against the other.
//!
//! Counting is one addition to a fixed array. It is not part of a core's state: two cores that differ in
//! their counts alone have the same future, and the same digest.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::op::Stop;
use crate::shared::{CallEnd, Wake};

/// An enum of names, with the list of them all.
macro_rules! names {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All there are, in the order of docs/states.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in docs/states.md.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

names! {
    /// A machine whose steps are counted.
    Machine {
        /// A commit, from the first request to the last lock (`transactions.md` §7–§11).
        Commit => "commit",
        /// A call for pessimistic locks (§13, §14).
        Lock => "lock",
        /// What became of one transaction whose locks are in the way (§16).
        Inquiry => "inquiry",
    }
}

names! {
    /// A state of one of the machines. What each waits for is said in the modules' own tables, which
    /// docs/states.md repeats.
    State {
        /// A commit waits for the timestamp that it has to come after.
        CommitLinearizing => "Linearizing",
        /// Keys are being prewritten.
        CommitPrewriting => "Prewriting",
        /// The primary is asked about a lost copy of a commit in one phase.
        CommitInquiring => "Inquiring",
        /// All keys are locked; the commit timestamp is awaited.
        CommitStamping => "Stamping",
        /// The primary is being committed.
        CommitCommittingPrimary => "CommittingPrimary",
        /// It is committed; the other locks become records.
        CommitSettling => "Settling",
        /// It is aborted; what may have been prewritten is rolled back.
        CommitRollingBack => "RollingBack",
        /// It is aborted before any prewrite; the pessimistic locks are released.
        CommitReleasing => "Releasing",
        /// Locks are being taken.
        LockLocking => "Locking",
        /// The call has failed; requests that are out are waited for.
        LockDraining => "Draining",
        /// What was taken is released.
        LockReleasing => "Releasing",
        /// A moment before a retryable deadlock is told.
        LockResting => "Resting",
        /// Nobody has asked yet.
        InquiryNew => "New",
        /// A timestamp is awaited, to judge expiry by.
        InquiryStamping => "Stamping",
        /// The primary is being asked.
        InquiryChecking => "Checking",
        /// The other keys of an async commit are being asked.
        InquiryRecovering => "Recovering",
        /// The primary is not written yet, and will be asked again.
        InquiryPausing => "Pausing",
        /// The locks are being cleaned up.
        InquirySettled => "Settled",
    }
}

names! {
    /// What a machine may hear.
    Input {
        /// A call to a region was answered.
        Answered => "answered",
        /// A call failed for good.
        Failed => "failed",
        /// The region that a call was pinned to is no more.
        Regroup => "regroup",
        /// The region of a key is known.
        Located => "located",
        /// The region of a key cannot be found.
        NotLocated => "not located",
        /// A timestamp.
        Timestamp => "timestamp",
        /// PD gives no timestamp.
        NoTimestamp => "no timestamp",
        /// Locks in the way were looked into.
        Resolved => "resolved",
        /// Locks in the way could not be looked into.
        NotResolved => "not resolved",
        /// A pause is over.
        Pause => "pause",
        /// Somebody wants to know what became of the transaction.
        Joined => "joined",
        /// Whatever answers nothing that is waited for any more: a wait of an earlier state that could
        /// not be withdrawn.
        Late => "late",
        /// What only other machines ask for: PD's readiness and answers, the keyspace, the safe point.
        Foreign => "foreign",
        /// The operation's time is up.
        Deadline => "deadline",
        /// The operation's owner has dropped it.
        Cancelled => "cancelled",
        /// The client closes.
        Closed => "closed",
    }
}

impl State {
    /// Whose state it is.
    pub fn machine(self) -> Machine {
        match self {
            Self::CommitLinearizing
            | Self::CommitPrewriting
            | Self::CommitInquiring
            | Self::CommitStamping
            | Self::CommitCommittingPrimary
            | Self::CommitSettling
            | Self::CommitRollingBack
            | Self::CommitReleasing => Machine::Commit,
            Self::LockLocking | Self::LockDraining | Self::LockReleasing | Self::LockResting => {
                Machine::Lock
            }
            Self::InquiryNew
            | Self::InquiryStamping
            | Self::InquiryChecking
            | Self::InquiryRecovering
            | Self::InquiryPausing
            | Self::InquirySettled => Machine::Inquiry,
        }
    }
}

impl Input {
    /// `awaited`: the machine still waits for it.
    pub(crate) fn of_wake(wake: &Wake, awaited: bool) -> Self {
        match wake {
            _ if !awaited => Self::Late,
            Wake::Call(CallEnd::Answered { .. }) => Self::Answered,
            Wake::Call(CallEnd::Failed { .. }) => Self::Failed,
            Wake::Call(CallEnd::Regroup { .. }) => Self::Regroup,
            Wake::Located(Ok(())) => Self::Located,
            Wake::Located(Err(_)) => Self::NotLocated,
            Wake::Timestamp(Ok(_)) => Self::Timestamp,
            Wake::Timestamp(Err(_)) => Self::NoTimestamp,
            Wake::Resolved(Ok(_)) => Self::Resolved,
            Wake::Resolved(Err(_)) => Self::NotResolved,
            Wake::Pause => Self::Pause,
            Wake::PdReady(_) | Wake::Keyspace(_) | Wake::SafePoint(_) | Wake::Pd(_) => {
                Self::Foreign
            }
        }
    }

    pub(crate) fn of_stop(why: Stop) -> Self {
        match why {
            Stop::Deadline => Self::Deadline,
            Stop::Cancelled => Self::Cancelled,
            Stop::Closed => Self::Closed,
        }
    }
}

/// How often each input was met in each state, since the core was made. Counts only grow, and stop at
/// the largest number there is.
#[derive(Clone, PartialEq, Eq)]
pub struct Coverage([[u64; Input::ALL.len()]; State::ALL.len()]);

impl Coverage {
    /// Nothing met.
    pub const fn new() -> Self {
        Self([[0; Input::ALL.len()]; State::ALL.len()])
    }

    /// How often this input was met in this state.
    pub fn count(&self, state: State, input: Input) -> u64 {
        self.0[state as usize][input as usize]
    }

    /// Every pair with its count, those that were never met included: state by state, in the order of
    /// [`State::ALL`] and [`Input::ALL`].
    pub fn rows(&self) -> impl Iterator<Item = (Machine, State, Input, u64)> + '_ {
        State::ALL.iter().flat_map(move |state| {
            let (state, machine) = (*state, state.machine());
            Input::ALL.iter().map(move |input| (machine, state, *input, self.count(state, *input)))
        })
    }

    /// Adds what another core has met.
    pub fn merge(&mut self, other: &Self) {
        for (mine, others) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *mine = mine.saturating_add(*others);
        }
    }

    pub(crate) fn met(&mut self, state: State, input: Input) {
        let count = &mut self.0[state as usize][input as usize];
        *count = count.saturating_add(1);
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash for Coverage {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Only what was met.
impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = self.rows().filter(|(.., count)| *count > 0);
        f.debug_map().entries(met.map(|(_, state, input, count)| ((state, input), count))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest_of;

    #[test]
    fn counts_are_added_and_are_no_part_of_a_digest() {
        let (mut one, mut other) = (Coverage::new(), Coverage::new());
        one.met(State::InquirySettled, Input::Closed);
        one.met(State::CommitLinearizing, Input::Answered);
        other.met(State::CommitLinearizing, Input::Answered);
        assert_eq!(digest_of(&one), digest_of(&other));
        one.merge(&other);
        assert_eq!(one.count(State::CommitLinearizing, Input::Answered), 2);
        assert_eq!(one.count(State::InquirySettled, Input::Closed), 1);
        let rows: Vec<_> = one.rows().collect();
        assert_eq!(rows.len(), State::ALL.len() * Input::ALL.len());
        assert_eq!(rows.iter().map(|row| row.3).sum::<u64>(), 3);
        assert_eq!(rows[0], (Machine::Commit, State::CommitLinearizing, Input::Answered, 2));
    }

    /// A count is found under its own name: the place in the array is the place in the list.
    #[test]
    fn lists_are_in_the_order_of_their_enums() {
        for (at, state) in State::ALL.iter().enumerate() {
            assert_eq!(*state as usize, at, "{state:?}");
        }
        for (at, input) in Input::ALL.iter().enumerate() {
            assert_eq!(*input as usize, at, "{input:?}");
        }
    }
}
