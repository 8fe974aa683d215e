//! How a world behaves: its network, and how often what goes wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::entropy::{Entropy, MILLION, Purpose, Stream};
use crate::fault::FaultKind;

/// How messages travel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    /// What each way takes at least.
    pub least: Duration,
    /// What it takes beyond that, on average; exponential.
    pub mean: Duration,
    /// Messages in a million that take [`Network::tail_factor`] times as long.
    pub tail: u32,
    /// See [`Network::tail`].
    pub tail_factor: u32,
    /// Requests in a million that are lost without a word.
    pub request_lost: u32,
    /// Requests in a million that are executed and never answered.
    pub reply_lost: u32,
    /// Requests in a million that arrive up to [`Network::zombie_delay`] late.
    pub zombie: u32,
    /// See [`Network::zombie`].
    pub zombie_delay: Duration,
    /// Requests in a million with which their connection breaks.
    pub reset: u32,
    /// Of a million requests that were on their way when they were withdrawn, their connection broke
    /// or their client died: how many arrive all the same. 0 where a model cannot follow: a raw
    /// write that arrives late overwrites newer ones (raw.md §5).
    pub strays: u32,
    /// How long a woken task waits for its turn at most. Longer than nothing, it lets tasks and
    /// messages overtake each other.
    pub scheduling: Duration,
}

impl Network {
    /// A local network on a good day.
    pub fn calm() -> Self {
        Self {
            least: Duration::from_micros(100),
            mean: Duration::from_micros(300),
            tail: 0,
            tail_factor: 100,
            request_lost: 0,
            reply_lost: 0,
            zombie: 0,
            zombie_delay: Duration::from_secs(10),
            reset: 0,
            strays: 0,
            scheduling: Duration::from_micros(5),
        }
    }

    /// Of everything a little.
    pub fn rough() -> Self {
        Self {
            tail: 10_000,
            request_lost: 3_000,
            reply_lost: 3_000,
            zombie: 2_000,
            reset: 2_000,
            strays: 500_000,
            scheduling: Duration::from_micros(50),
            ..Self::calm()
        }
    }

    /// The same without anything that goes wrong. Latencies stay.
    pub fn healed(&self) -> Self {
        let calm = Self { tail: 0, request_lost: 0, reply_lost: 0, zombie: 0, ..self.clone() };
        Self { reset: 0, strays: 0, ..calm }
    }

    /// Whether requests meet their fates here.
    pub(crate) fn has_fates(&self) -> bool {
        self.request_lost | self.reply_lost | self.zombie | self.reset != 0
    }
}

/// One kind of fault that comes again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recurring {
    /// Which.
    pub kind: FaultKind,
    /// After what time, on average; exponential.
    pub every: Duration,
    /// How long it lasts at most, if it is one that lasts.
    pub lasts: Duration,
}

/// How a world behaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Profile {
    /// How messages travel.
    pub network: Network,
    /// What strikes by itself. Of each kind there may be one.
    pub nemesis: Vec<Recurring>,
}

impl Profile {
    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self { network: Network::calm(), nemesis: Vec::new() }
    }

    /// Everything goes wrong now and then.
    pub fn rough() -> Self {
        let every = |kind| Recurring {
            kind,
            every: match kind {
                FaultKind::CrashClient | FaultKind::CrashPd | FaultKind::LosePdLeader => {
                    Duration::from_secs(30)
                }
                FaultKind::Cancel => Duration::from_secs(2),
                _ => Duration::from_secs(10),
            },
            lasts: Duration::from_secs(4),
        };
        Self { network: Network::rough(), nemesis: FaultKind::ALL.map(every).to_vec() }
    }

    /// Most of what can go wrong is off, and what is on is on unevenly. Other runs have other
    /// worlds: what is rare in all of them together is common in one of them.
    pub fn swarm(entropy: &mut dyn Entropy) -> Self {
        // Each thing has its choices for itself, so that a new one changes no other.
        let mut network = Network::rough();
        let dials = [
            &mut network.tail,
            &mut network.request_lost,
            &mut network.reply_lost,
            &mut network.zombie,
            &mut network.reset,
        ];
        for (n, dial) in dials.into_iter().enumerate() {
            let stream = Stream::new(Purpose::Shape, 100 + n as u64);
            *dial = match entropy.below(stream, 4) {
                0 | 1 => 0,
                2 => 1 + entropy.below(stream, 3_000),
                _ => 1 + entropy.below(stream, 50_000),
            };
        }
        let stream = Stream::new(Purpose::Shape, 120);
        network.strays = entropy.below(stream, 5) * (MILLION / 4);
        network.mean = Duration::from_micros(50 << entropy.below(stream, 8));
        network.scheduling = Duration::from_micros(u64::from(entropy.below(stream, 200)));
        let mut nemesis = Vec::new();
        for kind in FaultKind::ALL {
            let stream = Stream::new(Purpose::Shape, kind as u64);
            if entropy.below(stream, 10) < 7 {
                continue;
            }
            // A crash costs what a client has learnt: more often, and it gets nothing done.
            let often = if kind == FaultKind::CrashClient { 1600 } else { 400 };
            let every = Duration::from_millis(often << entropy.below(stream, 7));
            // From a moment to nearly always: programs that get nothing done are right, too.
            let lasts = every * 4 / (1 << entropy.below(stream, 8));
            nemesis.push(Recurring { kind, every, lasts });
        }
        Self { network, nemesis }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::calm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::{Seeded, Tape};

    #[test]
    fn a_swarm_of_nothing_is_calm() {
        let profile = Profile::swarm(&mut Tape::new([]));
        assert_eq!(profile.nemesis, []);
        assert!(!profile.network.has_fates());
    }

    #[test]
    fn swarms_differ_and_each_kind_is_in_some() {
        let swarms: Vec<_> = (0..200).map(|seed| Profile::swarm(&mut Seeded::new(seed))).collect();
        for kind in FaultKind::ALL {
            let with = swarms.iter().filter(|s| s.nemesis.iter().any(|r| r.kind == kind)).count();
            assert!((20..120).contains(&with), "{kind:?} is in {with} of 200");
        }
        assert_ne!(swarms[0], swarms[1]);
        assert_eq!(swarms[0], Profile::swarm(&mut Seeded::new(0)));
    }
}
