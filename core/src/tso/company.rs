//! When a request for timestamps leaves, and when it is tried again (`control-plane.md` §14.3): pure
//! decisions.
//!
//! ```text
//! Alone ─▶ Gathering ─▶ leaves        enough have come, or nobody waits longer
//!   │                     │
//!   └─────────────────────┘           without a wait, the default, it leaves at once
//! ```
//!
//! How many are enough adapts: a flight that leaves with fewer makes it one less, one with far more
//! makes it one more. So where there is no company to be had the wait soon ends with the first.

use std::time::Duration;

use crate::config::Config;
use crate::pd::Trouble;
use crate::timer::TimerId;

/// The longest wait that may be set (§14.3: «allowed 0..10 ms»).
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// How many are enough at first.
pub(super) const FIRST_BEST: usize = 8;
/// How many more than enough may come before the number grows.
pub(super) const SLACK: usize = 4;
/// The pause where PD is there and only has to agree on its leader.
pub(super) const ELECTION: Duration = Duration::from_millis(100);
/// How often a leader that moved is asked again before a longer pause.
pub(super) const ELECTION_RETRIES: u32 = 20;

/// Who waits for company.
#[derive(Clone, Debug, Hash)]
pub(super) struct Company {
    /// How many are enough.
    pub(super) best: usize,
    pub(super) state: Gathering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gathering {
    Alone,
    /// Somebody waits for others, until this.
    Until(TimerId),
    /// As long as they may.
    Over,
}

impl Company {
    pub(super) const fn new() -> Self {
        Self { best: FIRST_BEST, state: Gathering::Alone }
    }

    /// Whether as many as stand in line may leave.
    pub(super) fn may_leave(&self, line: usize, wait: Duration) -> bool {
        wait.is_zero() || line >= self.best || self.state == Gathering::Over
    }

    /// A flight leaves with this many, of at most `most`.
    pub(super) fn left(&mut self, with: usize, most: usize) {
        self.best = adapt(self.best, with, most);
    }
}

/// «−1 if under, +1 if > best+4»; never less than one, nor more than fit into a request.
fn adapt(best: usize, with: usize, most: usize) -> usize {
    if with < best {
        best.saturating_sub(1).max(1)
    } else if with > best.saturating_add(SLACK) && best < most {
        best + 1
    } else {
        best
    }
}

/// For how long company is waited for.
pub(super) fn wait(config: &Config) -> Duration {
    config.tso_max_wait.min(LONGEST_WAIT)
}

/// How many flights may be out at once (§14.3: «token count = concurrency (1) or 2×concurrency (>1)»,
/// «forced to 1 if batch wait > 0 or follower proxy on»). The reference looks at its options again every
/// five seconds, for they can change; here each departure looks.
pub(super) fn tokens(config: &Config) -> usize {
    let alone = config.tso_concurrency <= 1 || config.tso_follower_proxy || !wait(config).is_zero();
    if alone { 1 } else { config.tso_concurrency.saturating_mul(2) }
}

/// When the line is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    AtOnce,
    /// After [`ELECTION`].
    Soon,
    /// After a pause of the budget's.
    Pause,
}

/// After this many failures in a row. A leader that moved is found in one round trip, or has to be
/// elected: «retries 20×, first immediately then 100 ms, only on leader change». After that, and where
/// nobody answers, the pauses are those of client-go's back-off, and the count begins anew.
pub(super) fn again(failures: u32, trouble: Trouble) -> Again {
    match trouble {
        Trouble::LeaderMoved => match failures.saturating_sub(1) % (ELECTION_RETRIES + 1) {
            0 => Again::AtOnce,
            ELECTION_RETRIES => Again::Pause,
            _ => Again::Soon,
        },
        Trouble::Unreachable if failures <= 1 => Again::AtOnce,
        Trouble::Unreachable | Trouble::Refused => Again::Pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::budget;
    use crate::config::KeyMode;
    use crate::fact_rows::Row::{Other, Same, Without};
    use crate::fact_rows::check;

    /// control-plane.md §14.3, every constant in it. Milliseconds, or pieces.
    #[test]
    fn each_constant_of_timestamps_has_its_row() {
        let config = Config::new(vec!["pd:1".into()], KeyMode::Txn);
        let ms = |duration: Duration| duration.as_millis() as u64;
        let rows = [
            (
                "dispatcher queue 20 000",
                Other(
                    config.max_operations as u64,
                    20_000,
                    "the line is bounded by the operations there may be: none waits twice",
                ),
            ),
            ("nominal batch 10 000", Same(config.max_timestamp_batch.into(), 10_000)),
            (
                "batch controller max 20 000",
                Other(
                    config.max_timestamp_batch.into(),
                    20_000,
                    "what is above a nominal batch goes with the next request",
                ),
            ),
            ("best batch size starts at 8", Same(Company::new().best as u64, 8)),
            ("−1 if under", Same(adapt(8, 7, 10_000) as u64, 7)),
            ("+1 if > best+4", Same(adapt(8, 13, 10_000) as u64, 9)),
            ("max batch wait 0", Same(ms(config.tso_max_wait), 0)),
            ("allowed up to 10 ms", Same(ms(LONGEST_WAIT), 10)),
            ("concurrency 1", Same(config.tso_concurrency as u64, 1)),
            (
                "re-checked every 5 s",
                Without("each departure looks at the configuration, which does not change"),
            ),
            (
                "collect for latency/concurrency, ≥ 100 µs, 1 Hz, weight ≤ 0.2",
                Without(
                    "with tokens left nobody waits; when they are all out the batch grows by itself",
                ),
            ),
            ("pending FIFO 64", Without("there are never more on a stream than there are tokens")),
            ("GetTS retries 20×", Same(ELECTION_RETRIES.into(), 20)),
            ("then 100 ms", Same(ms(ELECTION), 100)),
            (
                "dispatch retry 2 × 50 ms while switching clients",
                Without("there is one line, and nothing to switch: who waits keeps their place"),
            ),
            (
                "stream creation 6 × 500 ms, then a follower",
                Other(
                    1,
                    6,
                    "the first time that the leader is not reached a follower is asked for the way",
                ),
            ),
            ("a checker every 1 s switches back", Same(ms(crate::pd::HEALTH_INTERVAL), 1_000)),
            ("GetTS of an operation: 15 s, weighted", Same(ms(budget::TSO), 30_000)),
            ("deadline 3 s (§20, TSO batcher)", Same(ms(config.pd_timeout), 3_000)),
        ];
        check(rows);
    }

    /// control-plane.md §14.3: token count; batch wait and follower proxy force it to 1.
    #[test]
    fn how_many_flights_may_be_out() {
        let ms = Duration::from_millis;
        for (concurrency, wait, proxy, expected) in [
            (0, ms(0), false, 1),
            (1, ms(0), false, 1),
            (2, ms(0), false, 4),
            (5, ms(0), false, 10),
            (usize::MAX, ms(0), false, usize::MAX),
            (5, ms(1), false, 1),
            (5, ms(0), true, 1),
            (5, ms(1), true, 1),
            (1, ms(10), true, 1),
        ] {
            let mut config = Config::new(vec!["pd:1".into()], KeyMode::Txn);
            config.tso_concurrency = concurrency;
            config.tso_max_wait = wait;
            config.tso_follower_proxy = proxy;
            assert_eq!(tokens(&config), expected, "{concurrency} {wait:?} {proxy}");
        }
    }

    /// control-plane.md §14.3: the wait is 10 ms at most.
    #[test]
    fn a_longer_wait_is_brought_to_ten_milliseconds() {
        for (set, expected) in [(0, 0), (1, 1), (10, 10), (11, 10), (60_000, 10)] {
            let mut config = Config::new(vec!["pd:1".into()], KeyMode::Txn);
            config.tso_max_wait = Duration::from_millis(set);
            assert_eq!(wait(&config), Duration::from_millis(expected), "{set}");
        }
    }

    /// control-plane.md §14.3: «starts 8, −1 if under, +1 if > best+4».
    #[test]
    fn how_many_are_enough_adapts() {
        for (best, with, most, expected) in [
            (8, 1, 10_000, 7),
            (8, 7, 10_000, 7),
            (8, 8, 10_000, 8),
            (8, 12, 10_000, 8),
            (8, 13, 10_000, 9),
            (8, 10_000, 10_000, 9),
            (1, 1, 10_000, 1),
            (1, 0, 10_000, 1),
            (2, 1, 10_000, 1),
            (1, 6, 10_000, 2),
            (8, 20, 8, 8),
            (usize::MAX, usize::MAX, usize::MAX, usize::MAX),
        ] {
            assert_eq!(adapt(best, with, most), expected, "{best} {with} {most}");
        }
    }

    #[test]
    fn a_flight_leaves_full_late_or_without_waiting() {
        let wait = Duration::from_millis(5);
        for (line, wait, state, expected) in [
            (1, Duration::ZERO, Gathering::Alone, true),
            (7, wait, Gathering::Alone, false),
            (8, wait, Gathering::Alone, true),
            (1, wait, Gathering::Over, true),
        ] {
            let company = Company { best: 8, state };
            assert_eq!(company.may_leave(line, wait), expected, "{line} {wait:?} {state:?}");
        }
    }

    /// control-plane.md §14.3: «GetTS retries 20×, first immediately then 100 ms, only on leader change /
    /// callee mismatch», and §3.4: client-go's pauses between such series, and for everything else.
    #[test]
    fn when_the_line_is_tried_again() {
        use Trouble::{LeaderMoved, Refused, Unreachable};
        for (failures, trouble, expected) in [
            (1, LeaderMoved, Again::AtOnce),
            (2, LeaderMoved, Again::Soon),
            (20, LeaderMoved, Again::Soon),
            (21, LeaderMoved, Again::Pause),
            (22, LeaderMoved, Again::AtOnce),
            (23, LeaderMoved, Again::Soon),
            (42, LeaderMoved, Again::Pause),
            (1, Unreachable, Again::AtOnce),
            (2, Unreachable, Again::Pause),
            (22, Unreachable, Again::Pause),
            (1, Refused, Again::Pause),
        ] {
            assert_eq!(again(failures, trouble), expected, "{failures} {trouble:?}");
        }
    }
}
