//! A circuit breaker for questions about regions (`control-plane.md` §14.5).
//!
//! ```text
//! Closed ──▶ Open ──▶ HalfOpen ──▶ Closed      all probes went well
//!    ▲ │       ▲          │
//!    └─┘       └──────────┘                    a probe met overload
//! a window without reason ends
//! ```
//!
//! It moves only when a request arrives: an idle core needs no timer for it. A threshold of 0, the
//! default, disables it.

use std::time::Duration;

use crate::time::Instant;

/// When PD counts as overloaded, and for how long it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// At how many percent of requests that met overload it opens; 0 disables it.
    pub error_percent: u32,
    /// How many requests a second there must be for the percentage to mean anything.
    pub min_qps: u32,
    /// Over how long requests are counted.
    pub window: Duration,
    /// How long it stays open.
    pub cool_down: Duration,
    /// How many requests are let through to see whether PD has recovered.
    pub probes: u32,
}

impl Default for BreakerConfig {
    /// Disabled; otherwise client-go's numbers for questions about regions (§4.6).
    fn default() -> Self {
        Self {
            error_percent: 0,
            min_qps: 10,
            window: Duration::from_secs(30),
            cool_down: Duration::from_secs(10),
            probes: 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Requests pass and are counted until the window ends.
    Closed { until: Instant, asked: u32, failed: u32 },
    /// Nothing passes.
    Open { until: Instant },
    /// A few pass.
    HalfOpen { admitted: u32, succeeded: u32, failed: u32 },
}

/// Whether PD may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    state: Option<State>,
}

impl Breaker {
    pub(crate) const fn new(config: BreakerConfig) -> Self {
        Self { config, state: None }
    }

    fn closed(&self, now: Instant) -> State {
        State::Closed { until: now + self.config.window, asked: 0, failed: 0 }
    }

    /// A request wants to be sent: whether it may.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        if self.config.error_percent == 0 {
            return true;
        }
        let mut state = self.state.unwrap_or_else(|| self.closed(now));
        state = match state {
            State::Closed { until, asked, failed } if now >= until => {
                let enough = self.config.window.as_secs() * u64::from(self.config.min_qps);
                let percent = u64::from(failed) * 100 / u64::from(asked.max(1));
                let tripped =
                    u64::from(asked) >= enough && percent >= u64::from(self.config.error_percent);
                match tripped {
                    true => State::Open { until: now + self.config.cool_down },
                    false => self.closed(now),
                }
            }
            State::Open { until } if now >= until => {
                State::HalfOpen { admitted: 0, succeeded: 0, failed: 0 }
            }
            State::HalfOpen { failed, .. } if failed > 0 => {
                State::Open { until: now + self.config.cool_down }
            }
            State::HalfOpen { succeeded, .. } if succeeded >= self.config.probes => {
                self.closed(now)
            }
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. } => state,
        };
        let admitted = match &mut state {
            State::Closed { asked, .. } => {
                *asked += 1;
                true
            }
            State::Open { .. } => false,
            State::HalfOpen { admitted, .. } => {
                let room = *admitted < self.config.probes;
                *admitted += u32::from(room);
                room
            }
        };
        self.state = Some(state);
        admitted
    }

    /// An admitted request is over.
    pub(crate) fn record(&mut self, overload: bool) {
        match &mut self.state {
            None | Some(State::Open { .. }) => {}
            Some(State::Closed { failed, .. }) => *failed += u32::from(overload),
            Some(State::HalfOpen { succeeded, failed, .. }) => {
                *(if overload { failed } else { succeeded }) += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_nanos(secs * 1_000_000_000)
    }

    fn breaker(error_percent: u32) -> Breaker {
        let config = BreakerConfig {
            error_percent,
            min_qps: 2,
            window: Duration::from_secs(5),
            cool_down: Duration::from_secs(7),
            probes: 2,
        };
        Breaker::new(config)
    }

    /// §14.5: «at window end: total ≥ windowSec·minQPS ∧ errorPct ≥ threshold(>0) → Open».
    #[test]
    fn it_opens_at_the_end_of_a_window_with_enough_requests_and_failures() {
        for (threshold, asked, failed, opens) in [
            (50, 10, 5, true),
            (50, 10, 4, false),
            (50, 9, 9, false),
            (50, 11, 6, true),
            (100, 10, 10, true),
            (100, 10, 9, false),
            (0, 10, 10, false),
        ] {
            let mut breaker = breaker(threshold);
            for n in 0..asked {
                assert!(breaker.admit(at(1)));
                breaker.record(n < failed);
            }
            let row = (threshold, asked, failed);
            assert!({ breaker }.admit(at(5)), "{row:?}: not before the window ends");
            assert_eq!(breaker.admit(at(6)), !opens, "{row:?}");
        }
    }

    fn opened() -> Breaker {
        let mut breaker = breaker(50);
        for _ in 0..10 {
            assert!(breaker.admit(at(0)));
            breaker.record(true);
        }
        assert!(!breaker.admit(at(5)));
        breaker
    }

    /// §14.5: «Open(cool-down) → HalfOpen (N probes) → all ok Closed / any fail Open».
    #[test]
    fn after_the_cool_down_a_few_probes_decide() {
        let mut well = opened();
        assert!(!well.admit(at(11)));
        assert!(well.admit(at(12)) && well.admit(at(12)));
        assert!(!well.admit(at(12)), "no more than the probes");
        well.record(false);
        assert!(!well.admit(at(12)), "one of two is not all");
        well.record(false);
        for _ in 0..100 {
            assert!(well.admit(at(12)));
        }

        let mut ill = opened();
        assert!(ill.admit(at(12)) && ill.admit(at(12)));
        ill.record(false);
        ill.record(true);
        assert!(!ill.admit(at(13)));
        assert!(!ill.admit(at(19)), "a new cool-down");
        assert!(ill.admit(at(20)));
    }

    /// §14.5: «transitions evaluated on request arrival only».
    #[test]
    fn only_a_request_moves_it() {
        let mut breaker = opened();
        let before = breaker;
        breaker.record(true);
        breaker.record(false);
        assert_eq!(breaker, before);
    }
}
