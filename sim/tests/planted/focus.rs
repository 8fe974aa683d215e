//! Where a plant is looked for, and for how many runs.

use std::time::Duration;

use anatase_core::Plant;
use anatase_sim::check::Violation;
use anatase_sim::scenario::{Program, Way, run, run_with_plant};
use anatase_sim::{NetFault, PlannedFault, Profile, Scenario, Work};

use crate::{crowd, ghost};

/// A kind of scenario. Each has one for each seed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Focus {
    /// As they are drawn for the swarm.
    Drawn,
    /// As drawn, but with this work only, and these ways to commit.
    On(&'static str, Mood, &'static [Work], &'static [Way]),
    /// Many tasks with one client library.
    Crowd,
    /// The same, each task with keys of its own.
    Lonely,
    /// A lock request that arrives when its lock was lost long ago.
    Ghost,
}

/// What goes wrong in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// What was drawn.
    Drawn,
    /// Nothing.
    Calm,
    /// Answers are lost, more than anywhere else, and leaders move.
    Lossy,
    /// Clients stand still for longer than their locks live.
    Naps,
}

const FAIR: Focus = Focus::On("fair, calm", Mood::Calm, &[Work::Bank, Work::Counter], &[Way::Fair]);
const LOCKS: Focus =
    Focus::On("locks, calm", Mood::Calm, &[Work::Counter, Work::Bank], &[Way::Pessimistic]);
const PATIENT: Focus =
    Focus::On("patient, calm", Mood::Calm, &[Work::Patient, Work::Patient], &[Way::Pessimistic]);
const MORTAL: Focus =
    Focus::On("mortal", Mood::Drawn, &[Work::Mortal], &[Way::Async, Way::TwoPhase]);
const LOSSY: Focus = Focus::On(
    "lossy",
    Mood::Lossy,
    &[Work::Bank, Work::ListAppend, Work::Order],
    &[Way::TwoPhase, Way::Async, Way::Pessimistic],
);
const RAW: Focus = Focus::On("raw, lossy", Mood::Lossy, &[Work::RawRegister], &[]);
const LINEAR: Focus = Focus::On("order", Mood::Drawn, &[Work::Order], &[Way::Async]);
const SNAPSHOTS: Focus = Focus::On(
    "snapshots",
    Mood::Drawn,
    &[Work::Snapshots, Work::ListAppend, Work::Mortal],
    &[Way::TwoPhase, Way::Async],
);
const NAPS: Focus =
    Focus::On("naps", Mood::Naps, &[Work::Counter], &[Way::Pessimistic, Way::PessimisticAsync]);
impl Focus {
    /// Where the canary is looked for: what everybody does, in a calm world.
    pub(crate) const CANARY: Self =
        Self::On("bank, calm", Mood::Calm, &[Work::Bank], &[Way::TwoPhase, Way::Async]);

    /// All kinds.
    pub(crate) fn all() -> Vec<Self> {
        vec![
            Self::Drawn,
            Self::Crowd,
            Self::Lonely,
            Self::Ghost,
            FAIR,
            LOCKS,
            PATIENT,
            MORTAL,
            LOSSY,
            RAW,
            LINEAR,
            SNAPSHOTS,
            NAPS,
        ]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Drawn => "drawn",
            Self::On(name, ..) => name,
            Self::Crowd => "crowd",
            Self::Lonely => "lonely crowd",
            Self::Ghost => "ghost",
        }
    }

    /// What one run finds.
    pub(crate) fn run(self, seed: u64, plant: Option<Plant>) -> Vec<Violation> {
        let scenario = match self {
            Self::Drawn => Scenario::of_seed(seed),
            Self::On(_, mood, works, ways) => narrowed(seed, mood, works, ways),
            Self::Crowd => return crowd::run(seed, plant, false),
            Self::Lonely => return crowd::run(seed, plant, true),
            Self::Ghost => return ghost::run(seed, plant),
        };
        match plant {
            Some(plant) => run_with_plant(&scenario, plant).violations,
            None => run(&scenario).violations,
        }
    }
}

/// The scenario of a seed, with other work.
fn narrowed(seed: u64, mood: Mood, works: &[Work], ways: &[Way]) -> Scenario {
    let mut scenario = Scenario::of_seed(seed);
    for (n, program) in scenario.programs.iter_mut().enumerate() {
        let work = works[n % works.len()];
        *program = Program { work, rounds: work.rounds() };
    }
    scenario.ways = ways.to_vec();
    let keys = scenario.shape.keys;
    let splits = works.iter().flat_map(|work| [work.key(1), work.key(keys / 2 + 1)]);
    scenario.shape.split_keys = splits.collect();
    scenario.shape.split_keys.sort();
    scenario.shape.split_keys.dedup();
    match mood {
        Mood::Drawn => {}
        Mood::Calm => scenario.profile = Profile::calm(),
        Mood::Lossy => {
            scenario.profile = Profile::calm();
            let network = &mut scenario.profile.network;
            (network.reply_lost, network.request_lost, network.reset) = (30_000, 20_000, 10_000);
            scenario.knobs.timeout_ms = 2_000;
        }
        Mood::Naps => {
            scenario.profile = Profile::calm();
            scenario.shape.keys = 2;
            scenario.knobs.timeout_ms = 60_000;
            // Every half minute somebody falls asleep, most often with locks in his hands.
            for n in 0..4 {
                let at = Duration::from_secs(35 * n)
                    + Duration::from_millis(1 + (seed * 131 + n * 57) % 200);
                let (client, lasts) = ((seed + n) as u32 % 2, Duration::from_secs(24 + seed % 12));
                let fault = NetFault::PauseClient { client, lasts };
                scenario.faults.push(PlannedFault { at, fault });
            }
            for program in &mut scenario.programs {
                program.rounds = 200;
            }
            scenario.lasts = Duration::from_secs(140);
        }
    }
    scenario
}

/// Where a plant is looked for, and for how many runs. Not those of which the gate knows by itself.
pub(crate) fn focus(plant: Plant) -> Option<(Focus, u64)> {
    Some(match plant {
        Plant::StaleRegionReused => (Focus::Crowd, 20),
        Plant::RegionEndIgnored => (Focus::Drawn, 500),
        Plant::MovedBatchServed => (Focus::Drawn, 100),
        Plant::RegroupForgetsTail => (Focus::Drawn, 100),
        Plant::ScanSkipsBorder => (Focus::Drawn, 100),
        Plant::RetryNotTold => (Focus::Lonely, 20),
        Plant::LostAnswerForgotten => (LOSSY, 2_000),
        Plant::LockedKeyPrewritten => (Focus::Drawn, 200),
        Plant::SecondariesWithPrimary => (Focus::Drawn, 1_000),
        Plant::CommitRightAfterStart => (Focus::Drawn, 20),
        Plant::SecondariesNotSettled => (Focus::Drawn, 50),
        Plant::SecondariesLeftOut => (MORTAL, 200),
        Plant::EarliestOfLocks => (Focus::Drawn, 200),
        Plant::NotLinearized => (LINEAR, 50),
        Plant::OtherTimestampTold => (Focus::Drawn, 50),
        Plant::FallbackTakenForCommit => (Focus::Drawn, 200),
        Plant::OnePhaseInParts => (Focus::Drawn, 200),
        Plant::LocksNotReleased => (LOCKS, 50),
        Plant::ReleasedAsOfStart => (LOCKS, 50),
        Plant::ForUpdateTsNotRaised => (LOCKS, 50),
        Plant::LostLockHeld => (LOSSY, 500),
        Plant::LockLossIgnored => (NAPS, 500),
        Plant::ConstraintsDropped => (Focus::Ghost, 20),
        Plant::ConflictForgotten => (FAIR, 500),
        Plant::AttemptNotReleased => (FAIR, 500),
        Plant::LiveRolledBack => (PATIENT, 50),
        Plant::CommittedRolledBack => (Focus::Drawn, 300),
        Plant::ReadersPassUnpushed => (Focus::Drawn, 200),
        Plant::CommittedPassedBy => (Focus::Drawn, 200),
        Plant::RecoveryAsksNobody => (MORTAL, 200),
        Plant::SecondariesFloorIgnored => (MORTAL, 3_000),
        Plant::ReadsSkipLocks => (Focus::Drawn, 200),
        Plant::NoHeartbeat => (PATIENT, 50),
        Plant::ShortHeartbeat => (PATIENT, 50),
        Plant::DoubtToldAsAborted => (LOSSY, 500),
        Plant::DoubtToldAsCommitted => (LOSSY, 500),
        Plant::DoubtCleanedUp => (LOSSY, 500),
        Plant::DeadlineToldAsAborted => (LOSSY, 500),
        Plant::PassesForAllSnapshots => (SNAPSHOTS, 6_000),
        Plant::TimestampToldTwice => (Focus::Crowd, 20),
        Plant::TimestampFromBefore => (Focus::Crowd, 20),
        Plant::SwapRepeated => (RAW, 200),
        Plant::Harmless | Plant::Canary => return None,
    })
}
