//! The timestamp oracle: unique, increasing timestamps of a physical part in milliseconds and a
//! logical part of 18 bits (transactions.md, notation; wire.md §7.4).

use anatase_proto::pdpb;

/// Bits of the logical part.
const LOGICAL_BITS: u32 = 18;

/// As many timestamps have the same physical part.
pub(crate) const MAX_BATCH: u32 = 1 << LOGICAL_BITS;

/// The last millisecond that the physical part can say, in the year 4199. Beyond it time stands
/// still.
const LAST_MS: u64 = (u64::MAX >> LOGICAL_BITS) - 1;

/// The physical part of a timestamp, in milliseconds.
pub fn physical(ts: u64) -> u64 {
    ts >> LOGICAL_BITS
}

/// The timestamp of these parts.
pub fn compose(physical_ms: u64, logical: u64) -> u64 {
    (physical_ms << LOGICAL_BITS) | logical
}

/// Whether a lock of `start_ts` and `ttl` milliseconds has expired at `current_ts`: strictly, so
/// at equality it is alive (transactions.md §20.1).
pub(crate) fn expired(start_ts: u64, ttl: u64, current_ts: u64) -> bool {
    physical(start_ts).saturating_add(ttl) < physical(current_ts)
}

/// Where timestamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Oracle {
    /// The last one given out.
    last: u64,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Oracle { last: 0 }
    }

    /// The last timestamp given out.
    pub(crate) fn last(self) -> u64 {
        self.last
    }

    /// Gives out `count` timestamps, at least one, and says which is the last of them; the first
    /// is `count - 1` less; no more than [`MAX_BATCH`]. All have the same physical part: `now_ms`, or later if logical parts ran
    /// out or time went backwards.
    pub(crate) fn take(&mut self, now_ms: u64, count: u32) -> u64 {
        let more = u64::from(count.clamp(1, MAX_BATCH)) - 1;
        let first = compose(now_ms.min(LAST_MS), 0).max(self.last.saturating_add(1));
        let fits = physical(first) == physical(first.saturating_add(more));
        let first = if fits { first } else { compose(physical(first) + 1, 0) };
        self.last = first.saturating_add(more);
        self.last
    }

    /// Moves ahead, as a new PD leader does that does not know what the old one gave out.
    pub(crate) fn advance(&mut self, to_ms: u64) {
        self.last = self.last.max(compose(to_ms.min(LAST_MS), 0));
    }
}

pub(crate) fn to_proto(ts: u64) -> pdpb::Timestamp {
    let logical = ts & ((1 << LOGICAL_BITS) - 1);
    pdpb::Timestamp {
        physical: i64::try_from(physical(ts)).unwrap_or(i64::MAX),
        logical: i64::try_from(logical).unwrap_or(i64::MAX),
        suffix_bits: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_increase_whatever_the_clock_does() {
        let mut oracle = Oracle::new();
        assert_eq!(oracle.take(10, 1), compose(10, 0));
        assert_eq!(oracle.take(10, 3), compose(10, 3));
        assert_eq!(oracle.take(9, 1), compose(10, 4), "time went back");
        assert_eq!(oracle.take(11, 1), compose(11, 0));
    }

    #[test]
    fn a_batch_never_straddles_a_millisecond() {
        let mut oracle = Oracle::new();
        oracle.take(10, (1 << LOGICAL_BITS) - 1);
        let last = oracle.take(10, 3);
        assert_eq!(last, compose(11, 2));
    }

    #[test]
    fn at_the_end_of_time_nothing_breaks() {
        let mut oracle = Oracle::new();
        for _ in 0..3 {
            oracle.take(u64::MAX, u32::MAX);
        }
        assert_eq!(oracle.last(), u64::MAX);
    }

    #[test]
    fn a_lock_is_alive_at_the_very_end_of_its_ttl() {
        let start = compose(100, 5);
        assert!(!expired(start, 20, compose(120, 9)));
        assert!(expired(start, 20, compose(121, 0)));
        assert!(!expired(u64::MAX, u64::MAX, u64::MAX), "no overflow");
        assert!(expired(start, 20, u64::MAX));
    }
}
