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
//! The interval adapts (§12.3): a stale read at a shorter distance than it makes it shorter, and after
//! five minutes without such reads it grows back. Only the check of a stale read does this (§12.4), once
//! a read: who asks for a stale timestamp and does not use it changes nothing.

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

    /// §12.3, «manual set»: how old a low-resolution timestamp may be from now on. The interval in use
    /// follows at once if nobody had made it shorter, or if the new one is shorter still; otherwise
    /// it grows towards the new one, or comes down to it.
    pub(crate) fn configure(&mut self, to: Duration, now: Instant) {
        let to = to.max(Duration::from_millis(1));
        if self.interval == self.configured || to < self.interval {
            self.interval = to;
        }
        self.configured = to;
        self.tick(now, None);
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
        let Known { arrived, .. } = self.latest?;
        let age = now.since(arrived);
        let estimate = self.estimate(now)?;
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

    /// PD's clock as it should be by now, in milliseconds.
    fn estimate(&self, now: Instant) -> Option<u64> {
        let Known { ts, arrived } = self.latest?;
        Some(ts.physical_ms().saturating_add(millis(now.since(arrived))))
    }

    /// §12.4: whether a snapshot can be read at `at`, as far as is known here. Where that is
    /// [`ReadTs::Fine`] for a stale read, the interval follows it, and the flag says whether the caller
    /// has to see to a refresh.
    pub(crate) fn check_read(
        &mut self,
        at: Timestamp,
        stale: bool,
        now: Instant,
    ) -> (ReadTs, bool) {
        let verdict = check_read(at, stale, self.latest());
        let refresh = match (verdict, self.estimate(now)) {
            (ReadTs::Fine, Some(current)) if stale => self.read_at(at, current, now),
            _ => false,
        };
        (verdict, refresh)
    }

    /// §12.4: the same once PD has been asked, and has told `current`.
    pub(crate) fn check_fetched(&mut self, read: &Fetched, now: Instant) -> (AfterFetch, bool) {
        let verdict = check_fetched(read);
        let refresh = verdict == AfterFetch::Fine
            && read.stale
            && self.read_at(read.at, read.current.physical_ms(), now);
        (verdict, refresh)
    }

    /// A stale read at `at`, while PD's clock shows `current` (§12.4: «required = current − readTS»).
    fn read_at(&mut self, at: Timestamp, current: u64, now: Instant) -> bool {
        let required = current.saturating_sub(at.physical_ms());
        self.needs(Duration::from_millis(required), now);
        self.latest.is_some_and(|known| self.refresh(now, now.since(known.arrived)))
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
    /// What is newest cannot be read from a replica that may lag behind (ErrLatestStaleRead).
    LatestStale,
}

impl ReadTs {
    /// What is wrong with a read at `at`, if that can be told without PD.
    pub(crate) fn refusal(self, at: Timestamp) -> Option<Error> {
        let text = match self {
            Self::Fine | Self::Unknown => return None,
            Self::Impossible => format!("{at} is no timestamp of PD's"),
            Self::LatestStale => {
                "a stale read needs a timestamp: only the leader knows the newest version"
                    .to_owned()
            }
        };
        Some(Error::new(ErrorKind::InvalidArgument, text))
    }
}

/// §12.4. Beyond 2⁶³ only the largest number of all is allowed: it reads what is newest, which a stale
/// read cannot.
fn check_read(at: Timestamp, stale: bool, latest: Option<Timestamp>) -> ReadTs {
    if at == Timestamp::MAX {
        if stale { ReadTs::LatestStale } else { ReadTs::Fine }
    } else if at.version() >= i64::MAX as u64 {
        ReadTs::Impossible
    } else if latest.is_some_and(|latest| at <= latest) {
        ReadTs::Fine
    } else {
        ReadTs::Unknown
    }
}

/// A read for whose sake PD was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    pub(crate) at: Timestamp,
    pub(crate) stale: bool,
    /// What PD told.
    pub(crate) current: Timestamp,
    /// The question may have been PD's before the read began: it was asked for somebody else, too.
    pub(crate) shared: bool,
}

/// What PD's answer means for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFetch {
    Fine,
    /// The answer may be older than the read: once more.
    Again,
    /// PD has not handed it out (ErrFutureTSRead).
    Future,
}

/// §12.4: «ts > fetched → retry the whole check once (a shared in-flight fetch may predate the caller)».
fn check_fetched(read: &Fetched) -> AfterFetch {
    match (read.at <= read.current, read.shared) {
        (true, _) => AfterFetch::Fine,
        (false, true) => AfterFetch::Again,
        (false, false) => AfterFetch::Future,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact_rows::Row::Same;
    use crate::fact_rows::check;

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

    /// A stale read at this many milliseconds before the `now` of PD's clock, which showed 60 000 at 0.
    fn read_before(oracle: &mut Oracle, previous: u64, now: u64) -> bool {
        let (verdict, refresh) = oracle.check_read(ts(60_000 + now - previous, 0), true, at(now));
        match verdict {
            ReadTs::Fine => refresh,
            ReadTs::Unknown => {
                let current = ts(60_000 + now, 0);
                let at_ = ts(60_000 + now - previous, 0);
                let read = Fetched { at: at_, stale: true, current, shared: true };
                let (verdict, refresh) = oracle.check_fetched(&read, at(now));
                assert_eq!(verdict, AfterFetch::Fine);
                refresh
            }
            other => panic!("{other:?}"),
        }
    }

    /// control-plane.md §12.3, trigger: a read within the interval and 200 ms keeps it short for
    /// another five minutes.
    #[test]
    fn a_read_just_beyond_the_interval_holds_it() {
        for (previous, held) in [(500, true), (700, true), (701, false)] {
            let mut oracle = Oracle::new(ms(2_000), at(0));
            oracle.learn(ts(60_000, 7), at(0));
            read_before(&mut oracle, 300, 10);
            assert_eq!(oracle.interval, ms(500));
            read_before(&mut oracle, previous, 200_000);
            oracle.tick(at(310_000), None);
            let expected = if held { ms(500) } else { ms(2_000) };
            assert_eq!(oracle.interval, expected, "{previous}");
        }
    }

    /// control-plane.md §12.3, the constants.
    #[test]
    fn each_constant_of_the_interval_has_its_row() {
        let ms = |duration: Duration| duration.as_millis() as u64;
        check([
            ("min", Same(ms(MIN_INTERVAL), 500)),
            ("shrink preserve", Same(ms(SHRINK_PRESERVE), 100)),
            ("block-recover threshold", Same(ms(BLOCK_RECOVER), 200)),
            ("recover, a second", Same(RECOVER_MS_PER_SEC, 20)),
            ("hold", Same(ms(HOLD), 300_000)),
        ]);
    }

    /// control-plane.md §12.3: «manual set: adaptive value follows immediately if it equalled the old
    /// config or new < adaptive; else only the target changes».
    #[test]
    fn the_interval_can_be_set_anew() {
        for (configured, current, to, interval, pace) in [
            (2_000, 2_000, 5_000, 5_000, Pace::Normal),
            (2_000, 2_000, 1_000, 1_000, Pace::Normal),
            (2_000, 1_000, 5_000, 1_000, Pace::Adapting),
            (2_000, 1_000, 1_500, 1_000, Pace::Adapting),
            (2_000, 1_000, 900, 900, Pace::Normal),
            (2_000, 1_000, 1_000, 1_000, Pace::Normal),
            (2_000, 1_000, 400, 400, Pace::Unadjustable),
            (400, 400, 2_000, 2_000, Pace::Normal),
            (2_000, 2_000, 0, 1, Pace::Unadjustable),
        ] {
            let mut oracle = Oracle::new(ms(configured), at(0));
            (oracle.interval, oracle.short_read) = (ms(current), Some(at(0)));
            oracle.configure(ms(to), at(10));
            let row = (configured, current, to);
            assert_eq!((oracle.interval, oracle.pace), (ms(interval), pace), "{row:?}");
            assert_eq!(oracle.configured, ms(to.max(1)), "{row:?}");
        }
    }

    /// control-plane.md §12.4.
    #[test]
    fn a_read_is_checked_against_what_is_known() {
        let large = |version| Timestamp::from_version(version).unwrap();
        use ReadTs::{Fine, Impossible, LatestStale, Unknown};
        let rows = [
            // at, latest known → a plain read, a stale one
            (Timestamp::MAX, None, Fine, LatestStale),
            (Timestamp::MAX, Some(ts(9, 9)), Fine, LatestStale),
            (large(u64::MAX - 1), Some(ts(9, 9)), Impossible, Impossible),
            (large(i64::MAX as u64), Some(ts(9, 9)), Impossible, Impossible),
            (large(i64::MAX as u64 - 1), Some(ts(9, 9)), Unknown, Unknown),
            (ts(9, 9), None, Unknown, Unknown),
            (ts(9, 9), Some(ts(9, 9)), Fine, Fine),
            (ts(9, 8), Some(ts(9, 9)), Fine, Fine),
            (ts(9, 10), Some(ts(9, 9)), Unknown, Unknown),
        ];
        for (at, latest, plain, stale) in rows {
            assert_eq!(check_read(at, false, latest), plain, "{at:?} {latest:?}");
            assert_eq!(check_read(at, true, latest), stale, "{at:?} {latest:?}, stale");
        }
    }

    /// control-plane.md §12.4: PD was asked because the timestamp was not known, or nothing was.
    #[test]
    fn an_answer_that_may_predate_the_read_is_asked_for_once_more() {
        for (read, current, shared, expected) in [
            (ts(9, 9), ts(9, 9), true, AfterFetch::Fine),
            (ts(9, 9), ts(9, 9), false, AfterFetch::Fine),
            (ts(9, 9), ts(10, 0), true, AfterFetch::Fine),
            (ts(9, 10), ts(9, 9), true, AfterFetch::Again),
            (ts(9, 10), ts(9, 9), false, AfterFetch::Future),
        ] {
            for stale in [false, true] {
                let fetched = Fetched { at: read, stale, current, shared };
                assert_eq!(check_fetched(&fetched), expected, "{fetched:?}");
            }
        }
    }

    /// control-plane.md §12.4: «only stale reads influence the interval», by the estimate where no fetch
    /// is needed, by what was fetched where one is, and only if they are allowed.
    #[test]
    fn only_stale_reads_that_are_allowed_shorten_the_interval() {
        let fresh = || {
            let mut oracle = Oracle::new(ms(2_000), at(0));
            oracle.learn(ts(60_000, 7), at(0));
            oracle
        };
        for (stale, read, now, interval) in [
            (false, ts(59_000, 0), 100, 2_000),
            (true, ts(59_000, 0), 100, 1_000),
            // Estimated to be at 61 000.
            (true, ts(59_100, 0), 1_000, 1_800),
            (true, ts(59_000, 0), 1_001, 2_000),
            (true, Timestamp::MAX, 100, 2_000),
            (true, ts(60_000, 8), 100, 2_000),
        ] {
            let mut oracle = fresh();
            oracle.check_read(read, stale, at(now));
            assert_eq!(oracle.interval, ms(interval), "{stale} {read:?} {now}");
        }
        for (stale, read, current, interval) in [
            (false, ts(61_000, 0), ts(62_000, 0), 2_000),
            (true, ts(61_000, 0), ts(62_000, 0), 900),
            (true, ts(62_000, 0), ts(62_000, 0), 500),
            (true, ts(62_000, 1), ts(62_000, 0), 2_000),
        ] {
            let mut oracle = fresh();
            oracle.check_fetched(&Fetched { at: read, stale, current, shared: true }, at(100));
            assert_eq!(oracle.interval, ms(interval), "{stale} {read:?} {current:?}");
        }
    }

    /// control-plane.md §12.3: «on shrink request apply now: if time since last tick ≥ new interval,
    /// refresh immediately»; here a refresh is due from half of the interval on.
    #[test]
    fn a_shorter_interval_may_be_over_already() {
        for (now, refresh) in [(100, false), (249, false), (250, true), (900, true)] {
            let mut oracle = Oracle::new(ms(2_000), at(0));
            oracle.learn(ts(60_000, 7), at(0));
            let (_, due) = oracle.check_read(ts(60_000, 0), true, at(now));
            assert_eq!((due, oracle.interval), (refresh, ms(500).max(ms(now - 100))), "{now}");
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
        // §12.3: asking for a timestamp is no read.
        oracle.stale(ms(300), at(1_000)).unwrap().0.unwrap();
        assert_eq!((oracle.interval, oracle.short_read), (ms(2_000), None));
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
            read_before(&mut oracle, previous, now);
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
