//! What a call to PD that brought no answer says about PD (`control-plane.md` §14.1, §14.2).
//!
//! Three kinds that must not be mixed up (`peers.md` D24):
//!
//! - *The leader has moved.* PD says so in words, not in codes. Whoever it is must be asked for; the
//!   connection is fine.
//! - *Nobody answered*, or a server that is in no state to. The connection, the member or its
//!   network is in doubt, and another way may be tried.
//! - *PD refuses.* Asking again, here or elsewhere, gives the same answer.

use crate::error::{Failure, GrpcStatus, Reason};

/// What a call that failed says about PD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Trouble {
    /// The member answers, and does not lead.
    LeaderMoved,
    /// The member did not answer, or is not well.
    Unreachable,
    /// A word of PD's own that is final.
    Refused,
}

/// §14.1: leader changes are told by what the text contains. The last is not a change of leader: the
/// server at this address is another one than it was, and the cure is the same.
pub(super) const MOVED: [&str; 5] =
    ["no leader", "not leader", "is not served", "not primary", "mismatch callee id"];

impl Trouble {
    pub(crate) fn of(failure: &Failure) -> Self {
        let Reason { status, text } = failure.reason();
        let Some(status) = *status else {
            return Self::Unreachable;
        };
        if MOVED.iter().any(|words| text.contains(words)) {
            return Self::LeaderMoved;
        }
        match status {
            GrpcStatus::FAILED_PRECONDITION if text.contains("mismatch cluster id") => {
                Self::Refused
            }
            // Invalid argument, not found, exists already, permission denied, out of range, not
            // implemented, not authenticated: the request is at fault, not the way to PD.
            GrpcStatus(3 | 5 | 6 | 7 | 11 | 12 | 16) => Self::Refused,
            // The others, and whatever number comes from outside, may pass.
            GrpcStatus(_) => Self::Unreachable,
        }
    }
}

/// §14.5: what counts as a sign of overload.
pub(crate) fn is_overload(failure: &Failure) -> bool {
    matches!(
        failure.reason().status,
        Some(
            GrpcStatus::DEADLINE_EXCEEDED
                | GrpcStatus::UNAVAILABLE
                | GrpcStatus::RESOURCE_EXHAUSTED
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// control-plane.md §14.1, wire.md §7.2; peers.md D24.
    #[test]
    fn d24_words_of_pd_are_told_apart_from_a_broken_connection() {
        let status = |code, text: &'static str| Failure::status(GrpcStatus(code), text);
        use Trouble::{LeaderMoved, Refused, Unreachable};
        let rows = [
            (Failure::not_sent("connection refused"), Unreachable),
            (Failure::maybe_executed("connection lost"), Unreachable),
            // A text of the transport is no word of PD's.
            (Failure::not_sent("cannot connect: not leader"), Unreachable),
            (status(14, "not leader"), LeaderMoved),
            (status(14, "not leader and follower handling not allowed"), LeaderMoved),
            (status(14, "no leader"), LeaderMoved),
            (status(2, "[PD:tso:ErrGenerateTimestamp] requested pd is not leader"), LeaderMoved),
            (status(2, "keyspace group 0 is not served by this host"), LeaderMoved),
            (status(2, "the server is not primary"), LeaderMoved),
            (status(2, "mismatch callee id, need a:1 but got b:1"), LeaderMoved),
            (status(9, "mismatch cluster id, need 1 but got 9"), Refused),
            (status(9, "something else"), Unreachable),
            (status(3, "invalid key range"), Refused),
            (status(5, "no such keyspace"), Refused),
            (status(6, "exists"), Refused),
            (status(7, "you may not"), Refused),
            (status(11, "past the end"), Refused),
            (status(12, "unknown method"), Refused),
            (status(16, "who are you"), Refused),
            (status(1, "cancelled"), Unreachable),
            (status(2, "who knows"), Unreachable),
            (status(4, "too late"), Unreachable),
            (status(8, "slow down"), Unreachable),
            (status(10, "aborted"), Unreachable),
            (status(13, "broken"), Unreachable),
            (status(14, "going down"), Unreachable),
            (status(15, "lost"), Unreachable),
            (status(99, "from the future"), Unreachable),
        ];
        for (failure, expected) in rows {
            assert_eq!(Trouble::of(&failure), expected, "{failure:?}");
        }
    }

    /// control-plane.md §14.5.
    #[test]
    fn three_codes_are_signs_of_overload() {
        for code in 0..20 {
            let failure = Failure::status(GrpcStatus(code), "x");
            assert_eq!(is_overload(&failure), [4, 8, 14].contains(&code), "{code}");
        }
        assert!(!is_overload(&Failure::maybe_executed("lost")));
    }
}
