//! Scenarios by chance.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::entropy::{Entropy, Purpose, Seeded, Stream, Tape};
use crate::profile::Profile;
use crate::scenario::{Choices, Knobs, Program, Scenario, Shape, Way};
use crate::workload::Work;

/// Chooses for the scenario itself. Each thing has its choices for itself, so that a new one changes no
/// other.
struct Dice<'a>(&'a mut dyn Entropy);

impl Dice<'_> {
    fn below(&mut self, what: u64, bound: u32) -> u32 {
        self.0.below(Stream::new(Purpose::Shape, 1000 + what), bound)
    }
}

const TEMPER: u64 = 0;
const STORES: u64 = 1;
const MEMBERS: u64 = 2;
const KEYS: u64 = 3;
const SPLITS: u64 = 4;
const WAYS: u64 = 5;
const WORKS: u64 = 6;
const PROGRAMS: u64 = 7;
const ROUNDS: u64 = 8;
const LASTS: u64 = 9;
const WIRE: u64 = 10;
const KNOBS: u64 = 11;

impl Scenario {
    /// The scenario of a seed.
    pub fn of_seed(seed: u64) -> Self {
        Self::draw(&mut Seeded::new(seed), Choices::Seed(seed))
    }

    /// The scenario of a tape, whose rest is what happens in it. For fuzzers: every tape is a scenario,
    /// and an empty one a calm one.
    pub fn of_tape(tape: &[u8]) -> Self {
        let mut head = Tape::new(tape);
        let drawn = Self::draw(&mut head, Choices::Tape(Vec::new()));
        let rest = tape.get(head.used()..).unwrap_or_default().to_vec();
        let mut small = Self { choices: Choices::Tape(rest), ..drawn };
        // A run of a fuzzer is short.
        small.programs.truncate(3);
        for program in &mut small.programs {
            program.rounds = program.rounds.min(4);
        }
        small.lasts = small.lasts.min(Duration::from_secs(20));
        small
    }

    /// One among all there may be. Of five, one is calm, one has everything going wrong a little, and
    /// three are swarms.
    pub fn draw(entropy: &mut dyn Entropy, choices: Choices) -> Self {
        let temper = Dice(entropy).below(TEMPER, 5);
        let profile = match temper {
            0 => Profile::calm(),
            1 => Profile::rough(),
            _ => Profile::swarm(entropy),
        };
        let mut dice = Dice(entropy);
        // Up to three kinds of work beside each other, by two to five clients. Raw keys and those of
        // transactions do not lie in one cluster of API version 1.
        let mut works: Vec<Work> = Vec::new();
        for _ in 0..1 + dice.below(WORKS, 3) {
            let work = Work::ALL[dice.below(WORKS, Work::ALL.len() as u32) as usize];
            if works.first().is_none_or(|first| first.is_raw() == work.is_raw()) {
                works.push(work);
            }
        }
        let programs = (0..2 + dice.below(PROGRAMS, 4))
            .map(|n| {
                let work = works[n as usize % works.len()];
                let rounds = work.rounds() / 2 + dice.below(ROUNDS, work.rounds().max(1)) + 1;
                Program { work, rounds }
            })
            .collect();
        // Half of the scenarios know one way to commit, or two.
        let ways: BTreeSet<Way> = match dice.below(WAYS, 4) {
            0 => Way::ALL.into(),
            1 => [Way::TwoPhase, Way::Async, Way::OnePhase, Way::Pessimistic].into(),
            few => (0..few - 1).map(|_| Way::ALL[dice.below(WAYS, 8) as usize]).collect(),
        };
        let keys = 2 + dice.below(KEYS, 7);
        let splits: BTreeSet<String> = (0..dice.below(SPLITS, 5))
            .map(|_| {
                let work = works[dice.below(SPLITS, works.len() as u32) as usize];
                work.key(dice.below(SPLITS, keys))
            })
            .collect();
        let shape = Shape {
            stores: 1 + dice.below(STORES, 4),
            pd_members: 1 + 2 * dice.below(MEMBERS, 2),
            split_keys: splits.into_iter().collect(),
            keys,
        };
        let lasts = Duration::from_secs(10 << dice.below(LASTS, 3));
        // The run is the same: once in a while is enough.
        let wire = dice.below(WIRE, 16) == 15;
        let (ways, faults) = (ways.into_iter().collect(), Vec::new());
        let knobs = Self::knobs(&mut Dice(entropy));
        Self { choices, shape, profile, faults, ways, programs, lasts, wire, knobs }
    }

    /// Each knob is turned in a part of the scenarios.
    fn knobs(dice: &mut Dice<'_>) -> Knobs {
        let usual = Knobs::default();
        let mut turned = |n: u64, of: u32| dice.below(KNOBS + n, of) + 1 == of;
        Knobs {
            timeout_ms: match (turned(0, 4), turned(12, 4)) {
                (true, _) => 2_000,
                (false, true) => 60_000,
                (false, false) => usual.timeout_ms,
            },
            scan_page_size: if turned(1, 3) { 2 } else { usual.scan_page_size },
            snapshot_cache_size: if turned(2, 4) { 0 } else { usual.snapshot_cache_size },
            tso_concurrency: if turned(3, 4) { 3 } else { usual.tso_concurrency },
            tso_max_wait_us: if turned(4, 4) { 300 } else { usual.tso_max_wait_us },
            tso_follower_proxy: turned(5, 4),
            pd_follower_handle: turned(6, 4),
            forwarding: turned(7, 4),
            right_derive: !turned(8, 3),
            max_ts_sync_ms: if turned(9, 4) { 20 } else { usual.max_ts_sync_ms },
            wait_for_lock_ms: if turned(10, 4) { 50 } else { usual.wait_for_lock_ms },
            wake_up_delay_ms: if turned(11, 4) { 0 } else { usual.wake_up_delay_ms },
        }
    }
}
