//! What time it is at PD, without asking (`control-plane.md` §12).
//!
//! Every answer of PD's timestamp stream is remembered, with the instant of its arrival. From it
//! follow, without a request of their own:
//!
//! - a *low-resolution* timestamp: the one remembered. It was current some time ago, for two seconds
//!   at most by default, so a reader at it misses what was committed since;
//! - a *stale* timestamp: so long before now, by PD's clock as estimated from the time that has gone
//!   by here;
//! - whether a timestamp that somebody brings along can be read at.
//!
//! The reference refreshes in a loop. Here nothing happens in a core that nobody uses: a use refreshes
//! in the background what has passed half of its interval, and waits for a refresh of what has passed
//! all of it.
//!
//! The interval adapts (§12.3): whoever reads at a shorter distance than it makes it shorter, and
//! after five minutes without such reads it grows back.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::shared::{Owner, Tag};
use crate::time::Instant;
use crate::timestamp::Timestamp;

/// The shortest interval that adapts.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// How much earlier than required the timestamp should be there.
const SHRINK_PRESERVE: Duration = Duration::from_millis(100);
/// A read that required this little more than the interval keeps it from growing back.
const BLOCK_RECOVER: Duration = Duration::from_millis(200);
/// How much it grows in a second.
const RECOVER_MS_PER_SEC: u64 = 20;
/// For how long it does not grow after such a read.
const HOLD: Duration = Duration::from_secs(5 * 60);

/// What the interval is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pace {
    /// As configured.
    Normal,
    /// Shorter, because somebody needs it so.
    Adapting,
    /// Growing back.
    Recovering,
    /// Configured so short that it is left alone.
    Unadjustable,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Oracle {
    latest: Option<Known>,
    configured: Duration,
    interval: Duration,
    pace: Pace,
    /// When the interval was last looked at.
    ticked: Instant,
    /// When somebody last read at hardly more than the interval's distance, or less.
    short_read: Option<Instant>,
    refreshing: bool,
    /// Who waits for whatever comes next.
    waiting: Vec<(Owner, Tag)>,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Known {
    ts: Timestamp,
    arrived: Instant,
}

/// What there is for whoever asks for a low-resolution timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LowResolution {
    /// This; a newer one is on its way if `refresh`, which the caller has to see to.
    Known { ts: Timestamp, refresh: bool },
    /// Nothing, or nothing that is new enough: PD has to be asked.
    Ask,
}

impl Oracle {
    pub(crate) fn new(configured: Duration, now: Instant) -> Self {
        let configured = configured.max(Duration::from_millis(1));
        let (pace, interval) = next_interval(&Pacing {
            configured,
            current: configured,
            required: None,
            since_short_read: None,
            since_tick: Duration::ZERO,
        });
        Self {
            latest: None,
            configured,
            interval,
            pace,
            ticked: now,
            short_read: None,
            refreshing: false,
            waiting: Vec::new(),
        }
    }

    /// The largest timestamp that PD has told.
    pub(crate) fn latest(&self) -> Option<Timestamp> {
        self.latest.map(|known| known.ts)
    }

    /// PD told a timestamp. Of two the larger stays: with several requests out they come in any order.
    pub(crate) fn learn(&mut self, ts: Timestamp, now: Instant) {
        self.refreshing = false;
        if self.latest.is_none_or(|known| known.ts < ts) {
            self.latest = Some(Known { ts, arrived: now });
        }
    }

    /// The refresh that was under way did not come to anything. Gives who waited for it.
    #[must_use]
    pub(crate) fn not_refreshed(&mut self) -> Vec<(Owner, Tag)> {
        self.refreshing = false;
        self.take_waiting()
    }

    /// Puts somebody on the list of those who wait for a refresh. True if the caller has to see to it.
    pub(crate) fn wait(&mut self, owner: Owner, tag: Tag) -> bool {
        self.waiting.push((owner, tag));
        !std::mem::replace(&mut self.refreshing, true)
    }

    #[must_use]
    pub(crate) fn take_waiting(&mut self) -> Vec<(Owner, Tag)> {
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn forget(&mut self, owner: Owner) {
        self.waiting.retain(|(waiter, _)| *waiter != owner);
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a refresh is due; if so, the caller has to see to it.
    fn refresh(&mut self, now: Instant, age: Duration) -> bool {
        if age * 2 < self.interval {
            return false;
        }
        self.tick(now, None);
        !std::mem::replace(&mut self.refreshing, true)
    }

    fn tick(&mut self, now: Instant, required: Option<Duration>) {
        (self.pace, self.interval) = next_interval(&Pacing {
            configured: self.configured,
            current: self.interval,
            required,
            since_short_read: self.short_read.map(|at| now.since(at)),
            since_tick: now.since(self.ticked),
        });
        self.ticked = now;
    }

    /// §12.2: «Low-res ts = cached tso».
    pub(crate) fn low_resolution(&mut self, now: Instant) -> LowResolution {
        let Some(Known { ts, arrived }) = self.latest else {
            return LowResolution::Ask;
        };
        let age = now.since(arrived);
        if age >= self.interval {
            self.tick(now, None);
            return LowResolution::Ask;
        }
        LowResolution::Known { ts, refresh: self.refresh(now, age) }
    }

    /// §12.2: «cached physical + (now − arrival) − previous, logical 0». `None` if nothing is known
    /// yet. The flag says whether the caller has to see to a refresh.
    pub(crate) fn stale(
        &mut self,
        previous: Duration,
        now: Instant,
    ) -> Option<(Result<Timestamp, Error>, bool)> {
        let Known { ts, arrived } = self.latest?;
        self.needs(previous, now);
        let age = now.since(arrived);
        let estimate = ts.physical_ms().saturating_add(millis(age));
        let refresh = self.refresh(now, age);
        let stale = match estimate.checked_sub(millis(previous)) {
            Some(physical) if physical > 0 => Timestamp::compose(physical, 0),
            Some(_) | None => None,
        };
        let invalid = || {
            let text = format!("{previous:?} ago there were no timestamps");
            Error::new(ErrorKind::InvalidArgument, text)
        };
        Some((stale.ok_or_else(invalid), refresh))
    }

    /// Somebody reads at `required` before now (§12.3, trigger).
    fn needs(&mut self, required: Duration, now: Instant) {
        let required = required.max(Duration::from_millis(1));
        if required <= self.interval + BLOCK_RECOVER {
            self.short_read = Some(now);
        }
        if required <= self.interval && self.interval > MIN_INTERVAL {
            self.tick(now, Some(required));
        }
    }

    /// §12.4: whether a snapshot can be read at `at`, as far as is known here.
    pub(crate) fn check_read(&self, at: Timestamp) -> ReadTs {
        check_read(at, self.latest())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the next interval depends on.
#[derive(Clone, Copy, Debug)]
struct Pacing {
    configured: Duration,
    current: Duration,
    /// The distance at which somebody wants to read, if that is why this is looked at.
    required: Option<Duration>,
    since_short_read: Option<Duration>,
    since_tick: Duration,
}

/// §12.3. The checks in their order: 1, 2, 3, 4 on a tick; 1 and 2 where somebody needs it shorter.
fn next_interval(it: &Pacing) -> (Pace, Duration) {
    let &Pacing { configured, current, .. } = it;
    if configured <= MIN_INTERVAL {
        return (Pace::Unadjustable, configured);
    }
    if let Some(required) = it.required
        && required < current
        && current > MIN_INTERVAL
    {
        return (Pace::Adapting, required.saturating_sub(SHRINK_PRESERVE).max(MIN_INTERVAL));
    }
    if current != configured && it.since_short_read.is_some_and(|since| since < HOLD) {
        return (Pace::Adapting, current);
    }
    if current == configured {
        return (Pace::Normal, current);
    }
    let grown = Duration::from_millis(RECOVER_MS_PER_SEC.saturating_mul(it.since_tick.as_secs()));
    let next = current.saturating_add(grown).min(configured);
    if next == configured { (Pace::Normal, next) } else { (Pace::Recovering, next) }
}

/// Whether a snapshot can be read at a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadTs {
    /// It can.
    Fine,
    /// It is larger than any known here: PD has to be asked.
    Unknown,
    /// No timestamp of PD's looks like this.
    Impossible,
}

/// §12.4. Beyond 2⁶³ only the largest number of all is allowed: it reads what is newest.
fn check_read(at: Timestamp, latest: Option<Timestamp>) -> ReadTs {
    if at == Timestamp::MAX {
        ReadTs::Fine
    } else if at.version() >= i64::MAX as u64 {
        ReadTs::Impossible
    } else if latest.is_some_and(|latest| at <= latest) {
        ReadTs::Fine
    } else {
        ReadTs::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ts(physical: u64, logical: u64) -> Timestamp {
        Timestamp::compose(physical, logical).unwrap()
    }

    /// control-plane.md §12.3; cases TSO-05. Milliseconds; 0 in `required` is none.
    #[test]
    fn the_interval_shrinks_at_once_holds_and_grows_back() {
        use Pace::{Adapting, Normal, Recovering, Unadjustable};
        let long = 10 * 60 * 1_000;
        let rows = [
            // configured, current, required, since short read, since tick → pace, interval
            (500, 500, 0, None, 1_000, Unadjustable, 500),
            (300, 300, 100, Some(0), 1_000, Unadjustable, 300),
            (400, 2_000, 0, None, 0, Unadjustable, 400),
            (2_000, 2_000, 0, None, 1_000, Normal, 2_000),
            (2_000, 2_000, 2_000, Some(0), 0, Normal, 2_000),
            (2_000, 2_000, 1_500, Some(0), 0, Adapting, 1_400),
            (2_000, 2_000, 600, Some(0), 0, Adapting, 500),
            (2_000, 2_000, 1, Some(0), 0, Adapting, 500),
            (2_000, 1_400, 1_450, Some(0), 0, Adapting, 1_400),
            (2_000, 500, 100, Some(0), 0, Adapting, 500),
            (2_000, 1_400, 0, Some(299_999), 1_000, Adapting, 1_400),
            (2_000, 1_400, 0, Some(300_000), 1_000, Recovering, 1_420),
            (2_000, 1_400, 0, None, 1_999, Recovering, 1_420),
            (2_000, 1_400, 0, Some(long), 10_000, Recovering, 1_600),
            (2_000, 1_990, 0, Some(long), 1_000, Normal, 2_000),
            (2_000, 500, 0, Some(long), long, Normal, 2_000),
        ];
        for (configured, current, required, short, tick, pace, next) in rows {
            let pacing = Pacing {
                configured: ms(configured),
                current: ms(current),
                required: (required > 0).then_some(ms(required)),
                since_short_read: short.map(ms),
                since_tick: ms(tick),
            };
            assert_eq!(next_interval(&pacing), (pace, ms(next)), "{pacing:?}");
        }
    }

    /// control-plane.md §12.3, trigger: a read within the interval and 200 ms keeps it short for
    /// another five minutes.
    #[test]
    fn a_read_just_beyond_the_interval_holds_it() {
        for (previous, held) in [(500, true), (700, true), (701, false)] {
            let mut oracle = Oracle::new(ms(2_000), at(0));
            oracle.learn(ts(60_000, 7), at(0));
            oracle.stale(ms(300), at(10)).unwrap().0.unwrap();
            assert_eq!(oracle.interval, ms(500));
            oracle.stale(ms(previous), at(200_000)).unwrap().0.unwrap();
            oracle.tick(at(310_000), None);
            let expected = if held { ms(500) } else { ms(2_000) };
            assert_eq!(oracle.interval, expected, "{previous}");
        }
    }

    /// control-plane.md §12.4.
    #[test]
    fn a_read_is_checked_against_what_is_known() {
        let large = |version| Timestamp::from_version(version).unwrap();
        let rows = [
            (Timestamp::MAX, None, ReadTs::Fine),
            (large(u64::MAX - 1), Some(ts(9, 9)), ReadTs::Impossible),
            (large(i64::MAX as u64), Some(ts(9, 9)), ReadTs::Impossible),
            (large(i64::MAX as u64 - 1), Some(ts(9, 9)), ReadTs::Unknown),
            (ts(9, 9), None, ReadTs::Unknown),
            (ts(9, 9), Some(ts(9, 9)), ReadTs::Fine),
            (ts(9, 8), Some(ts(9, 9)), ReadTs::Fine),
            (ts(9, 10), Some(ts(9, 9)), ReadTs::Unknown),
        ];
        for (at, latest, expected) in rows {
            assert_eq!(check_read(at, latest), expected, "{at:?} {latest:?}");
        }
    }

    /// cases TSO-07: the last timestamp never falls.
    #[test]
    fn of_answers_in_any_order_the_largest_is_kept() {
        let mut oracle = Oracle::new(ms(2_000), at(0));
        oracle.learn(ts(1_000, 5), at(10));
        oracle.learn(ts(1_000, 3), at(20));
        assert_eq!(oracle.latest(), Some(ts(1_000, 5)));
        // Its arrival, too, is that of the larger one: the estimate would lag otherwise.
        let (stale, _) = oracle.stale(ms(100), at(110)).unwrap();
        assert_eq!(stale, Ok(ts(1_000, 0)));
    }

    /// cases TSO-02, TSO-03.
    #[test]
    fn a_stale_timestamp_is_estimated_by_the_time_gone_by() {
        let mut oracle = Oracle::new(ms(2_000), at(0));
        assert_eq!(oracle.stale(ms(5_000), at(0)), None);
        oracle.learn(ts(60_000, 7), at(1_000));
        for (previous, now, physical) in [
            (10_000, 1_000, Some(50_000)),
            (10_000, 4_500, Some(53_500)),
            (0, 1_000, Some(60_000)),
            (59_999, 1_000, Some(1)),
            (60_000, 1_000, None),
            (70_000, 1_000, None),
            (u64::MAX, 1_000, None),
        ] {
            let (stale, _) = oracle.stale(ms(previous), at(now)).unwrap();
            let physical = physical.map(|physical| ts(physical, 0));
            assert_eq!(stale.as_ref().ok().copied(), physical, "{previous}");
            if let Err(error) = stale {
                assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
            }
        }
    }

    /// cases TSO-04: one that is too old is not given out; one that ages is refreshed once.
    #[test]
    fn a_low_resolution_timestamp_is_never_older_than_its_interval() {
        let mut oracle = Oracle::new(ms(2_000), at(0));
        assert_eq!(oracle.low_resolution(at(0)), LowResolution::Ask);
        let now = ts(60_000, 7);
        oracle.learn(now, at(0));
        for (when, expected) in [
            (999, LowResolution::Known { ts: now, refresh: false }),
            (1_000, LowResolution::Known { ts: now, refresh: true }),
            (1_001, LowResolution::Known { ts: now, refresh: false }),
            (2_000, LowResolution::Ask),
        ] {
            assert_eq!(oracle.low_resolution(at(when)), expected, "{when}");
        }
        let zero = Oracle::new(Duration::ZERO, at(0));
        assert_eq!(zero.interval, ms(1), "an interval of zero would ask for every use");
    }

    /// cases TSO-05, §12.3, trigger: reads at a short distance shorten the interval.
    #[test]
    fn reads_at_a_short_distance_shorten_the_interval() {
        let mut oracle = Oracle::new(ms(2_000), at(0));
        oracle.learn(ts(60_000, 7), at(0));
        for (previous, now, interval, pace) in [
            (5_000, 10, 2_000, Pace::Normal),
            (2_100, 10, 2_000, Pace::Normal),
            (1_800, 20, 1_700, Pace::Adapting),
            (1_900, 30, 1_700, Pace::Adapting),
            (300, 40, 500, Pace::Adapting),
            (300, 50, 500, Pace::Adapting),
        ] {
            oracle.stale(ms(previous), at(now)).unwrap().0.unwrap();
            assert_eq!((oracle.interval, oracle.pace), (ms(interval), pace), "{previous}");
        }
        // Five minutes later it grows by 20 ms for each second that went by.
        oracle.tick(at(299_000), None);
        assert_eq!(oracle.interval, ms(500));
        oracle.tick(at(301_000), None);
        assert_eq!((oracle.interval, oracle.pace), (ms(540), Pace::Recovering));
        oracle.tick(at(401_000), None);
        assert_eq!((oracle.interval, oracle.pace), (ms(2_000), Pace::Normal));
    }
}
