//! PD timestamps.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

/// Bits of the logical counter below the physical milliseconds.
const LOGICAL_BITS: u32 = 18;
const LOGICAL_MASK: u64 = (1 << LOGICAL_BITS) - 1;

/// A PD timestamp: 46 bits of milliseconds since the Unix epoch above 18 bits of sequence. Never zero.
///
/// Timestamps of one cluster are totally ordered and unique per request, and their physical part is
/// the only clock by which lock expiry is judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64);

impl Timestamp {
    /// The version that reads the latest committed value without asking PD.
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// From the 64-bit form used on the wire; `None` for zero, which means «no timestamp» there.
    pub const fn from_version(version: u64) -> Option<Self> {
        match NonZeroU64::new(version) {
            Some(version) => Some(Self(version)),
            None => None,
        }
    }

    /// From the two halves that PD sends. `None` if they do not fit or make zero.
    pub fn compose(physical_ms: u64, logical: u64) -> Option<Self> {
        if physical_ms >> (64 - LOGICAL_BITS) != 0 || logical > LOGICAL_MASK {
            return None;
        }
        Self::from_version(physical_ms << LOGICAL_BITS | logical)
    }

    /// The 64-bit form used on the wire.
    pub const fn version(self) -> u64 {
        self.0.get()
    }

    /// Milliseconds since the Unix epoch, by PD's clock.
    pub const fn physical_ms(self) -> u64 {
        self.0.get() >> LOGICAL_BITS
    }

    /// The sequence number within the millisecond.
    pub const fn logical(self) -> u64 {
        self.0.get() & LOGICAL_MASK
    }

    /// The next larger timestamp; saturates at [`Timestamp::MAX`].
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The time since `earlier` by PD's clock, zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.physical_ms().saturating_sub(earlier.physical_ms()))
    }

    /// How long something that began at this timestamp, and lives for `ttl`, still lives at `now`,
    /// by PD's clock: a lock, for example. Zero from the millisecond of its end on.
    pub fn until_expired(self, ttl: Duration, now: Self) -> Duration {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let end = self.physical_ms().saturating_add(ttl);
        Duration::from_millis(end.saturating_sub(now.physical_ms()))
    }

    /// Whether something that began at this timestamp, and lives for `ttl`, is over at `now`.
    pub fn is_expired(self, ttl: Duration, now: Self) -> bool {
        self.until_expired(ttl, now).is_zero()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAX { f.write_str("max") } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// control-plane.md §12.1.
    #[test]
    fn layout_is_physical_milliseconds_above_eighteen_bits() {
        let ts = Timestamp::compose(1000, 7).unwrap();
        assert_eq!(ts.version(), 1000 * 262_144 + 7);
        assert_eq!((ts.physical_ms(), ts.logical()), (1000, 7));
        assert_eq!(Timestamp::from_version(ts.version()), Some(ts));
    }

    #[test]
    fn what_does_not_fit_is_refused_not_wrapped() {
        assert_eq!(Timestamp::compose(1 << 46, 0), None);
        assert_eq!(Timestamp::compose(1, 1 << 18), None);
        assert_eq!(Timestamp::compose(0, 0), None);
        assert_eq!(Timestamp::from_version(0), None);
    }

    /// control-plane.md §12.2; cases TSO-01.
    #[test]
    fn a_lock_lives_until_its_start_and_its_ttl_have_passed() {
        let ts = |physical| Timestamp::compose(physical, 9).unwrap();
        for (start, ttl, now, left) in [
            (100, 20, 100, 20),
            (100, 20, 119, 1),
            (100, 20, 120, 0),
            (100, 20, 500, 0),
            (100, 20, 90, 30),
            (100, 0, 100, 0),
        ] {
            let ttl = Duration::from_millis(ttl);
            assert_eq!(ts(start).until_expired(ttl, ts(now)), Duration::from_millis(left));
            assert_eq!(ts(start).is_expired(ttl, ts(now)), left == 0, "{start} {now}");
        }
        assert!(!ts(100).is_expired(Duration::MAX, ts(1 << 45)), "no overflow");
    }

    /// peers.md D20: the largest version must survive the round trip.
    #[test]
    fn d20_max_version_round_trips() {
        let max = Timestamp::from_version(u64::MAX).unwrap();
        assert_eq!(max, Timestamp::MAX);
        assert_eq!(max.version(), u64::MAX);
        assert_eq!(Timestamp::compose(max.physical_ms(), max.logical()), Some(max));
        assert_eq!(max.next(), max);
    }
}
