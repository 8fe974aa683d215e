//! How well a store is (`control-plane.md` §5.4, §5.5): two scores and a load estimate, as pure
//! functions of what was told and when.
//!
//! - [`ClientScore`]: the client's own, from the time its requests took. It rises while fewer requests
//!   are answered *and* each takes longer: fewer alone is an idle client, longer alone a larger query.
//! - [`StoreScore`]: the store's, told in its health feedback.
//! - [`Load`]: how long a busy store expects a request to wait.
//!
//! Either score at 80 or above makes a store *slow*. A slow store that leads is asked all the same; of
//! the other replicas the ones on slow stores are asked last (§7.4).
//!
//! The reference ticks every 15 s from a thread of its own. Here the ticks that are due are made when
//! somebody adds a sample or looks: the numbers are the same, and an idle core needs no timer.

use std::time::Duration;

use crate::time::Instant;

/// The scale of both scores: 1 is best.
const BEST: u64 = 1;
const WORST: u64 = 100;
/// From here on a store counts as slow.
const SLOW: u64 = 80;
/// How often the client's score is set anew; how long the store's word holds.
const TICK: Duration = Duration::from_secs(15);
/// What a request is taken to cost before anything is known, in microseconds.
const FIRST_COST: u64 = 500_000;
/// A request that took so long makes the store slow at once.
const TOO_LONG: Duration = Duration::from_secs(30);
/// How many ticks a window looks back.
const WINDOW: usize = 10;
/// After so many ticks without a sample every score is at its best.
const MAX_TICKS: u32 = 2 * WORST as u32;

/// All that is known of a store's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Health {
    pub(crate) client: ClientScore,
    pub(crate) store: StoreScore,
    pub(crate) load: Load,
}

impl Health {
    /// RGC-55: slow as the client sees it, or as the store says.
    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.client.at(now) >= SLOW || self.store.at(now) >= SLOW
    }
}

/// The last few values and their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Window {
    values: [u64; WINDOW],
    len: usize,
    next: usize,
    sum: u64,
}

impl Window {
    fn mean(&self) -> u64 {
        if self.len == 0 { 0 } else { self.sum / self.len as u64 }
    }

    /// Takes a value in; by which part of the mean it differs from the mean so far.
    fn push(&mut self, value: u64) -> f64 {
        let before = self.mean();
        if self.len == WINDOW {
            self.sum -= self.values[self.next];
        } else {
            self.len += 1;
        }
        self.values[self.next] = value;
        self.next = (self.next + 1) % WINDOW;
        self.sum = self.sum.saturating_add(value);
        if before == 0 || value == before {
            return 1e-6;
        }
        (value as f64 - before as f64) / before as f64
    }
}

/// The client's own score (`SlowScoreStat` in the reference).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientScore {
    score: u64,
    /// The mean cost of a request in the window, in microseconds; 0 before the first sample.
    mean_cost: u64,
    /// What came since the last tick.
    count: u64,
    cost: u64,
    counts: Window,
    costs: Window,
    /// The next tick; `None` before the first sample.
    tick_at: Option<Instant>,
}

impl Default for ClientScore {
    fn default() -> Self {
        Self {
            score: BEST,
            mean_cost: 0,
            count: 0,
            cost: 0,
            counts: Window::default(),
            costs: Window::default(),
            tick_at: None,
        }
    }
}

impl ClientScore {
    /// A request was answered after `took`.
    pub(crate) fn record(&mut self, took: Duration, now: Instant) {
        self.advance(now);
        self.tick_at.get_or_insert(now + TICK);
        let cost = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count += 1;
        if self.mean_cost == 0 {
            self.score = BEST;
            self.mean_cost = FIRST_COST;
            self.cost = cost;
        } else if took >= TOO_LONG {
            self.score = WORST;
        } else {
            self.cost = self.cost.saturating_add(cost);
        }
    }

    /// It said that it is busy, or proved unreachable (`markAlreadySlow`).
    pub(crate) fn mark_slow(&mut self, now: Instant) {
        self.advance(now);
        self.tick_at.get_or_insert(now + TICK);
        self.score = WORST;
    }

    /// The score at `now`.
    pub(crate) fn at(&self, now: Instant) -> u64 {
        let mut then = *self;
        then.advance(now);
        then.score
    }

    /// Makes the ticks that are due.
    fn advance(&mut self, now: Instant) {
        for _ in 0..MAX_TICKS {
            match self.tick_at {
                Some(at) if at <= now => {
                    self.tick();
                    self.tick_at = Some(at + TICK);
                }
                Some(_) | None => return,
            }
        }
        self.tick_at = Some(now + TICK);
    }

    fn tick(&mut self) {
        if self.mean_cost == 0 {
            (self.score, self.mean_cost) = (BEST, FIRST_COST);
            return;
        }
        let (mut fewer, mut longer) = (1.0, 1.0);
        if self.count > 0 {
            fewer = self.counts.push(self.count);
            longer = self.costs.push(self.cost / self.count);
        }
        let score = self.score as f64;
        if fewer + 0.1 <= 1e-9 && longer - 0.1 >= 1e-9 {
            let ratio = (longer / fewer).abs().min(5.43);
            self.score = (score * ratio + 1.0).min(WORST as f64).ceil() as u64;
        } else {
            let fall = (1.0 + fewer.abs()).min(2.71).max(BEST as f64).ceil() as u64;
            self.score = self.score.saturating_sub(fall).max(BEST);
        }
        self.mean_cost = self.costs.mean();
        (self.count, self.cost) = (0, 0);
    }
}

/// The score that the store tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct StoreScore {
    /// The last word, and when it came.
    told: Option<(u64, Instant)>,
}

/// Words that come faster are dropped (§5.4: 100 ms).
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

impl StoreScore {
    /// The store's feedback. The same word again only makes it newer.
    pub(crate) fn tell(&mut self, score: u64, now: Instant) {
        let score = score.clamp(BEST, WORST);
        let taken = match self.told {
            None => true,
            Some((last, _)) if last == score => score > BEST,
            Some((_, at)) => now.since(at) >= SHORTEST_INTERVAL,
        };
        if taken {
            self.told = Some((score, now));
        }
    }

    /// The score at `now`: what nobody repeats is believed less and less, by 20 a minute.
    pub(crate) fn at(&self, now: Instant) -> u64 {
        let Some((score, at)) = self.told else {
            return BEST;
        };
        let silent = now.since(at);
        if silent < TICK {
            return score;
        }
        let fallen = (score as f64 - silent.as_secs_f64() * 20.0 / 60.0).round();
        fallen.max(BEST as f64) as u64
    }
}

/// How long the store expects a request to wait (`ServerIsBusy.estimated_wait_ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Load(Option<(Duration, Instant)>);

impl Load {
    pub(crate) fn tell(&mut self, wait: Duration, now: Instant) {
        self.0 = Some((wait, now));
    }

    /// §5.5: what is left of it at `now`.
    pub(crate) fn at(&self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |(wait, at)| wait.saturating_sub(now.since(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact_rows::Row::{Same, Without};
    use crate::fact_rows::check;

    const START: Instant = Instant::from_nanos(1_000);

    fn secs(secs: u64) -> Instant {
        START + Duration::from_secs(secs)
    }

    fn millis(ms: u64) -> Instant {
        START + Duration::from_millis(ms)
    }

    /// `count` requests of `ms` each in the interval that ends at the tick `n`.
    fn interval(score: &mut ClientScore, n: u64, count: u64, ms: u64) -> u64 {
        for _ in 0..count {
            score.record(Duration::from_millis(ms), secs(15 * n) + Duration::from_secs(1));
        }
        score.at(secs(15 * (n + 1)) + Duration::from_secs(1))
    }

    /// control-plane.md §5.4, the constants. What scores do with them is told below.
    #[test]
    fn each_constant_of_the_scores_has_its_row() {
        let ms = |duration: Duration| duration.as_millis() as u64;
        check([
            ("slow from", Same(SLOW, 80)),
            ("best", Same(BEST, 1)),
            ("worst", Same(WORST, 100)),
            ("a sample that is slow at once", Same(ms(TOO_LONG), 30_000)),
            ("average before anything is known, µs", Same(FIRST_COST, 500_000)),
            ("tick", Same(ms(TICK), 15_000)),
            ("window", Same(WINDOW as u64, 10)),
            ("feedback no faster than", Same(ms(SHORTEST_INTERVAL), 100)),
            ("GetHealthFeedback, 2 s", Without("a store's word that is old counts less and less")),
        ]);
    }

    /// RGC-54: slow only after sustained growth; recovers; one huge spike is bounded.
    #[test]
    fn rgc_54_the_clients_score() {
        let mut score = ClientScore::default();
        assert_eq!(interval(&mut score, 0, 100, 10), 1);
        assert_eq!(interval(&mut score, 1, 100, 10), 1);
        // Fewer, and each much longer: up by a factor of at most 5.43, and one.
        let risen = [
            interval(&mut score, 2, 50, 200),
            interval(&mut score, 3, 20, 2_000),
            interval(&mut score, 4, 5, 20_000),
        ];
        assert_eq!(risen, [7, 40, 100]);
        // Fewer alone, or longer alone, is no slowness.
        for (count, ms) in [(10, 10), (1_000, 29_000)] {
            let mut score = ClientScore::default();
            interval(&mut score, 0, 100, 10);
            interval(&mut score, 1, 100, 10);
            assert_eq!(interval(&mut score, 2, count, ms), 1, "{count} × {ms} ms");
        }
        // A request of 30 s is enough by itself.
        let mut score = ClientScore::default();
        score.record(Duration::from_millis(1), secs(1));
        score.record(TOO_LONG, secs(2));
        assert_eq!(score.at(secs(2)), WORST);
    }

    /// §5.4 \[derived\]: with samples a forced 100 falls by 2 or 3 a tick, 11 ticks to 78; without any
    /// it is gone within 2.
    #[test]
    fn a_forced_score_recovers() {
        let mut score = ClientScore::default();
        interval(&mut score, 0, 100, 10);
        score.mark_slow(secs(16));
        assert_eq!(score.at(secs(16)), WORST);
        let mut last = WORST;
        for n in 1..=11 {
            last = interval(&mut score, n, 100, 10);
        }
        assert_eq!(last, 78);
        let mut idle = ClientScore::default();
        idle.mark_slow(START);
        assert_eq!(idle.at(secs(14)), WORST);
        assert_eq!(idle.at(secs(30)), BEST);
        // However long nobody looked.
        assert_eq!(idle.at(secs(1 << 33)), BEST);
    }

    /// §5.4: from which gradients on a score rises; 100 requests of 100 ms each came before. At most
    /// 2.71 are taken off, rounded up.
    #[test]
    fn the_steps_of_the_clients_score() {
        let before = || {
            let mut score = ClientScore::default();
            interval(&mut score, 0, 100, 100);
            interval(&mut score, 1, 100, 100);
            score
        };
        for (count, ms, expected) in
            [(90, 110, 1), (91, 120, 1), (90, 111, 3), (90, 120, 3), (80, 120, 2), (50, 400, 7)]
        {
            assert_eq!(interval(&mut before(), 2, count, ms), expected, "{count} × {ms} ms");
        }
        for (count, fall) in [(100, 2), (150, 2), (200, 2), (201, 3), (1_000, 3)] {
            let mut score = before();
            score.mark_slow(secs(32));
            assert_eq!(interval(&mut score, 2, count, 100), WORST - fall, "{count}");
        }
    }

    /// §5.4: windows of ten slots.
    #[test]
    fn a_window_forgets_the_eleventh() {
        let mut window = Window::default();
        for (value, mean) in [(1_000, 1_000), (0, 500), (500, 500)] {
            window.push(value);
            assert_eq!(window.mean(), mean);
        }
        for _ in 0..7 {
            window.push(500);
        }
        assert_eq!(window.mean(), 500);
        window.push(0);
        assert_eq!(window.mean(), 400, "the thousand is gone");
    }

    /// RGC-55, RGC-56, and the golden numbers of §5.4.
    #[test]
    fn rgc_55_the_stores_score() {
        let mut score = StoreScore::default();
        assert_eq!(score.at(secs(1_000)), BEST);
        let rows = [
            (0, 100, 100, "the first word is taken"),
            (99, 90, 100, "too soon"),
            (100, 95, 95, "just late enough"),
            (1_000, 90, 90, "a second later"),
            (2_000, 50, 50, "not slow"),
            (3_000, 100, 100, "slow"),
            (4_000, 1_000, 100, "out of range"),
        ];
        for (ms, told, expected, row) in rows {
            score.tell(told, millis(ms));
            assert_eq!(score.at(millis(ms)), expected, "{row}");
        }
        let last = Duration::from_secs(4);
        for (silent, expected) in [(14, 100), (15, 95), (120, 60), (297, 1), (300, 1), (9_999, 1)] {
            assert_eq!(score.at(secs(silent) + last), expected, "{silent} s");
        }
    }

    #[test]
    fn a_store_is_slow_by_either_score() {
        for (client, store, slow) in
            [(false, 1, false), (true, 1, true), (false, 79, false), (false, 80, true)]
        {
            let mut health = Health::default();
            health.store.tell(store, START);
            if client {
                health.client.mark_slow(START);
            }
            assert_eq!(health.is_slow(START), slow, "{client} {store}");
        }
    }

    /// §5.5.
    #[test]
    fn a_load_estimate_runs_out() {
        let mut load = Load::default();
        assert_eq!(load.at(START), Duration::ZERO);
        load.tell(Duration::from_millis(10), START);
        for (ms, left) in [(0, 10), (4, 6), (10, 0), (11, 0)] {
            assert_eq!(load.at(millis(ms)), Duration::from_millis(left));
        }
    }
}
