//! What clients do in a [scenario](crate::scenario): ordinary async code over the public front door, whose
//! data have a shape that is easily seen to be broken.
//!
//! | work | its data | what is seen when it breaks |
//! |---|---|---|
//! | [`Work::Bank`] | accounts, money is moved between them | torn commits, lost updates |
//! | [`Work::Ring`] | each key names the next; three links are turned at once | the same, and order |
//! | [`Work::ListAppend`] | lists that grow | cycles of dependencies, whatever the timestamps say |
//! | [`Work::Register`] | one key at a time, read, written, compared | what is not linearizable |
//! | [`Work::RawRegister`] | the same over the raw API | stale reads, retries that are executed twice |
//! | [`Work::Snapshots`] | counters; old snapshots are read again and again | snapshots that change |
//! | [`Work::WriteSkew`] | two switches, one of which has to be on | nothing: it may happen |
//! | [`Work::LockedSkew`] | the same, with locks on what is read | locks that do not hold |
//! | [`Work::Counter`] | counters that are locked in any order | lost updates, deadlocks that last |
//! | [`Work::Crowd`] | the same, by several tasks that share a client | timestamps told twice, and the above |
//! | [`Work::Large`] | hundreds of keys at once | batches that are divided wrongly |
//! | [`Work::Patient`] | locks that are held for longer than a lock lives | heartbeats that do not come |
//! | [`Work::Mortal`] | its client dies in the midst of a commit | recovery that tears, or never ends |
//! | [`Work::Hasty`] | like [`Work::Mortal`], of clients that are closed while they commit | the same |
//! | [`Work::Janitor`] | others' locks, which it puts an end to, live or not | outcomes that were told and did not hold |
//! | [`Work::Anything`] | whatever a transaction can do, by the dice | what was told is not what is there |
//! | [`Work::Order`] | timestamps and single writes, one after the other | effects before their causes |
//! | [`Work::RawMix`] | everything the raw API can, each client in a range of its own | anything but a map |
//!
//! No key has to be there at the start: what is missing has its first value. So nothing has to be loaded,
//! and a scenario shrinks to a single transaction.

mod anything;
mod bank;
mod counter;
mod crowd;
mod desk;
mod hasty;
mod janitor;
mod large;
mod list_append;
mod mortal;
mod order;
mod patient;
mod raw_mix;
mod raw_register;
mod register;
mod ring;
mod skew;
mod snapshots;

use std::collections::BTreeMap;

use anatase_client::Bytes;
use serde::{Deserialize, Serialize};

use self::desk::Desk;
pub(crate) use self::desk::{Post, Stage};
use crate::check::truth::{Truth, Version};
use crate::check::{Anomaly, Checker, Violation};
use crate::history::{Held, History};
use crate::scenario::{Scenario, Tally};

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Moves money between accounts; now and then adds it all up.
    Bank,
    /// Turns three links of a ring.
    Ring,
    /// Reads lists, and appends to them.
    ListAppend,
    /// Reads, writes, deletes, compares and swaps single keys, each in a transaction.
    Register,
    /// The same over the raw API.
    RawRegister,
    /// Writes a little, and reads old snapshots again.
    Snapshots,
    /// Turns one of two switches off if both are on. Both may end up off.
    WriteSkew,
    /// The same with locks on what is read. One stays on.
    LockedSkew,
    /// Counts on several keys, locked in any order.
    Counter,
    /// Several tasks that share a client count, and read.
    Crowd,
    /// Writes hundreds of keys at once.
    Large,
    /// Holds locks for half a minute.
    Patient,
    /// Dies while it commits, again and again.
    Mortal,
    /// Closes its client while that commits.
    Hasty,
    /// Looks for locks, and puts an end to their transactions.
    Janitor,
    /// Does whatever a transaction can do, by the dice.
    Anything,
    /// Asks for timestamps and writes single keys.
    Order,
    /// Does everything that the raw API can, in a range of its own.
    RawMix,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Bank,
        Self::Ring,
        Self::ListAppend,
        Self::Register,
        Self::RawRegister,
        Self::Snapshots,
        Self::WriteSkew,
        Self::LockedSkew,
        Self::Counter,
        Self::Crowd,
        Self::Large,
        Self::Patient,
        Self::Mortal,
        Self::Hasty,
        Self::Janitor,
        Self::Anything,
        Self::Order,
        Self::RawMix,
    ];

    /// Its name, as in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::Ring => "ring",
            Self::ListAppend => "list_append",
            Self::Register => "register",
            Self::RawRegister => "raw_register",
            Self::Snapshots => "snapshots",
            Self::WriteSkew => "write_skew",
            Self::LockedSkew => "locked_skew",
            Self::Counter => "counter",
            Self::Crowd => "crowd",
            Self::Large => "large",
            Self::Patient => "patient",
            Self::Mortal => "mortal",
            Self::Hasty => "hasty",
            Self::Janitor => "janitor",
            Self::Anything => "anything",
            Self::Order => "order",
            Self::RawMix => "raw_mix",
        }
    }

    /// What its keys begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Bank => "bank/",
            Self::Ring => "ring/",
            Self::ListAppend => "list/",
            Self::Register => "register/",
            Self::RawRegister => "raw/",
            Self::Snapshots => "snapshot/",
            Self::WriteSkew => "skew/",
            Self::LockedSkew => "locked/",
            Self::Counter => "counter/",
            Self::Crowd => "crowd/",
            Self::Large => "large/",
            Self::Patient => "patient/",
            Self::Mortal => "mortal/",
            Self::Hasty => "hasty/",
            Self::Janitor => "janitor/",
            Self::Anything => "any/",
            Self::Order => "order/",
            Self::RawMix => "mix/",
        }
    }

    /// One of its keys.
    pub fn key(self, n: u32) -> String {
        format!("{}{n:03}", self.prefix())
    }

    /// How many rounds of it are a good run.
    pub fn rounds(self) -> u32 {
        match self {
            Self::Bank | Self::Ring | Self::Register | Self::RawRegister | Self::Order => 20,
            Self::ListAppend | Self::Snapshots | Self::Counter | Self::Anything => 16,
            Self::WriteSkew | Self::LockedSkew | Self::RawMix => 20,
            Self::Mortal | Self::Hasty | Self::Crowd => 8,
            Self::Janitor => 6,
            Self::Large => 3,
            Self::Patient => 2,
        }
    }

    /// Whether it uses the raw API.
    pub fn is_raw(self) -> bool {
        match self {
            Self::RawRegister | Self::RawMix => true,
            Self::Bank
            | Self::Ring
            | Self::ListAppend
            | Self::Register
            | Self::Snapshots
            | Self::WriteSkew
            | Self::LockedSkew
            | Self::Counter
            | Self::Crowd
            | Self::Large
            | Self::Patient
            | Self::Mortal
            | Self::Hasty
            | Self::Janitor
            | Self::Anything
            | Self::Order => false,
        }
    }

    /// Whether a round of it may hold locks for longer than others wait for them.
    fn holds_long(self) -> bool {
        matches!(self, Self::Patient | Self::Mortal | Self::Hasty)
    }

    /// What the workload itself knows of its data, once all is over. `truth` is
    /// [resolved](Truth::resolved).
    pub(crate) fn judge(
        self,
        scenario: &Scenario,
        history: &History,
        truth: &Truth,
        found: &mut Vec<Violation>,
        tally: &mut Tally,
    ) {
        let keys = scenario.shape.keys;
        match self {
            Self::Bank => bank::judge(keys, truth, found),
            Self::Ring => ring::judge(keys, truth, found),
            Self::WriteSkew => tally.skews += skew::both_off(self, truth),
            Self::LockedSkew => skew::judge(truth, found),
            Self::Counter | Self::Crowd => counter::judge(self, truth, found),
            Self::Large => large::judge(truth, found),
            Self::Patient => patient::judge(scenario, history, found),
            Self::Mortal | Self::Hasty => mortal::judge(self, truth, found),
            Self::ListAppend
            | Self::Register
            | Self::RawRegister
            | Self::Snapshots
            | Self::Janitor
            | Self::Anything
            | Self::Order
            | Self::RawMix => {}
        }
    }
}

/// A number as text; `first` where there is none. Whoever finds something else tells.
fn number(desk: &Desk, held: &Held, first: i64) -> i64 {
    match decode(held, first) {
        Some(number) => number,
        None => {
            desk.stage.tell(Anomaly::InvariantBroken, format!("{held:?} is not a number"));
            first
        }
    }
}

fn decode(held: &Held, first: i64) -> Option<i64> {
    match held {
        Some(value) => std::str::from_utf8(value).ok()?.parse().ok(),
        None => Some(first),
    }
}

fn encode(number: i64) -> Held {
    Some(number.to_string().into())
}

/// The data of a workload, commit by commit: tells `see` what is there after each.
fn replay(prefix: &str, truth: &Truth, mut see: impl FnMut(u64, &BTreeMap<Bytes, Bytes>)) {
    let mut commits: BTreeMap<u64, Vec<(&Bytes, &Version)>> = BTreeMap::new();
    for (key, versions) in &truth.versions {
        if key.starts_with(prefix.as_bytes()) {
            for version in versions {
                commits.entry(version.commit_ts).or_default().push((key, version));
            }
        }
    }
    let mut state = BTreeMap::new();
    for (commit_ts, versions) in commits {
        for (key, version) in versions {
            match version.effect.held() {
                Some(Some(value)) => drop(state.insert(key.clone(), value)),
                Some(None) => drop(state.remove(key)),
                None => {}
            }
        }
        see(commit_ts, &state);
    }
}

fn broken(story: String) -> Violation {
    Violation::new(Checker::Invariant, Anomaly::InvariantBroken, story)
}
