//! What is known of the stores (`control-plane.md` §5).
//!
//! **Where it is.** A store's address comes from PD and is asked for when a call first needs it.
//!
//! | address | a call that wants to send | leaves by |
//! |---|---|---|
//! | `Unknown` | waits; PD is asked once for all | PD's word |
//! | `Known` | sends | `StoreNotMatch` → `Unknown` |
//! | `Known`, to be checked | sends; PD is asked | PD's word: the same, or another in its place |
//! | `Gone` | finds another replica; epoch + 1 on entering | a broken link under its id → `Unknown` |
//!
//! PD's failure to answer changes nothing.
//!
//! **Whether it lives.** Requests tell most of it: any answer of a store is a sign of life. When an
//! attempt fails, or is out for long while the store says nothing to anybody, the store is *probed*: a
//! health check with a second to answer (`probe.rs`). There is one probe of a store at a time.
//!
//! | life | may be chosen | leaves by |
//! |---|---|---|
//! | `Well` | yes | a suspicion: a probe is sent → `Doubted` |
//! | `Doubted` | yes | a sign of life → `Well`; the probe fails → `Dead`: epoch + 1, slow, PD is asked, attempts as old as the probe are given up |
//! | `Dead` | no | somebody wants it, and a second is over → `Tried`; a sign of life, or another address → `Well` |
//! | `Tried` | no | a sign of life, or another address → `Well`; the probe fails → `Dead`; PD is asked if it was not for 2 s |
//!
//! The reference probes from a thread of its own, once a second until the store answers. Here a dead
//! store is probed only when a call would use it if it lived: an idle core sets no timer.
//!
//! Each store has an *epoch* that grows when it dies: a region remembers the epochs it was loaded
//! under, so that one death makes every region on that store look for another replica at once, without
//! a walk over the cache. Only the step from a living store to a dead one moves it (§19.14).

mod health;
pub(crate) mod probe;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::id::{Handle, StoreId};
use crate::time::Instant;
use health::Health;
use probe::Probe;

/// How often a dead store is probed, at most (§5.3).
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often PD is asked for the address of a dead store that somebody wants. The reference waits 30 s
/// (§5.3); but a store that comes back elsewhere, as in an orchestrated cluster most do, should not be
/// missed for that long, and the question costs PD next to nothing.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct StoreTable {
    stores: BTreeMap<StoreId, Store>,
}

#[derive(Clone, Debug, Default, Hash)]
struct Store {
    address: Address,
    epoch: u32,
    life: Life,
    /// The last sign of life.
    heard: Option<Instant>,
    health: Health,
    /// The address may be out of date: ask PD at the next use.
    check: bool,
    /// A question to PD is under way.
    asking: bool,
    /// When PD was last asked.
    asked: Option<Instant>,
    /// Calls that cannot be sent before the address is known.
    waiting: Vec<Handle>,
    /// Requests that are out, if their number is limited.
    out: usize,
    /// Calls that wait for their turn. While there are any, as many requests are out as may be.
    line: VecDeque<Handle>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Address {
    #[default]
    Unknown,
    Known(Arc<str>),
    /// The store has left the cluster.
    Gone,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Life {
    #[default]
    Well,
    Doubted(Probe),
    Dead {
        /// The next probe is not sent before.
        again: Instant,
    },
    Tried(Probe),
}

/// What a call that wants to send learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Send here; if `ask`, also ask PD whether that is still true.
    Known { address: Arc<str>, ask: bool },
    /// Wait; if `ask`, ask PD.
    Wait { ask: bool },
    /// The store has left the cluster.
    Gone,
}

/// What the silence of a store means for an attempt that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is dead: nothing will come.
    Dead,
    /// It said something at this instant, though to somebody else.
    Broken(Instant),
    /// It has said nothing to anybody.
    Total,
}

/// What is to be done about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    Nothing,
    /// Send a probe here; if `ask`, ask PD, too.
    Probe {
        address: Arc<str>,
        ask: bool,
    },
}

/// What a core knows of a store. See [`Core::store_facts`](crate::Core::store_facts).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFacts {
    /// Which store.
    pub id: StoreId,
    /// Where it is, if PD was asked and has not said that it left.
    pub address: Option<Arc<str>>,
    /// It may be asked. False from a failed health check to the next sign of life, and for a store that
    /// has left the cluster.
    pub reachable: bool,
    /// It has left the cluster.
    pub gone: bool,
    /// How often it was found dead.
    pub epoch: u32,
    /// How slow it seems from the time that requests to it take: 1 is best, 100 worst, slow from 80 on.
    pub slow_score: u64,
    /// How slow it says it is, on the same scale.
    pub feedback_score: u64,
    /// How long it expects a request to wait.
    pub estimated_wait: Duration,
}

impl StoreTable {
    pub(crate) fn epoch(&self, id: StoreId) -> u32 {
        self.stores.get(&id).map_or(0, |store| store.epoch)
    }

    /// Whether a request may be sent there.
    pub(crate) fn reachable(&self, id: StoreId) -> bool {
        self.stores.get(&id).is_none_or(Store::reachable)
    }

    /// §7.4: whether other replicas are to be preferred.
    pub(crate) fn is_slow(&self, id: StoreId, now: Instant) -> bool {
        self.stores.get(&id).is_some_and(|store| store.health.is_slow(now))
    }

    pub(crate) fn facts(&self, now: Instant) -> Vec<StoreFacts> {
        let facts = |(id, store): (&StoreId, &Store)| StoreFacts {
            id: *id,
            address: match &store.address {
                Address::Known(address) => Some(address.clone()),
                Address::Unknown | Address::Gone => None,
            },
            reachable: store.reachable(),
            gone: store.address == Address::Gone,
            epoch: store.epoch,
            slow_score: store.health.client.at(now),
            feedback_score: store.health.store.at(now),
            estimated_wait: store.health.load.at(now),
        };
        self.stores.iter().map(facts).collect()
    }

    // ---- where it is ---------------------------------------------------------------------------

    /// Where the store is. A `Wait` registers `call`, which is woken by [`StoreTable::resolved`].
    pub(crate) fn lookup(&mut self, id: StoreId, call: Handle, now: Instant) -> Lookup {
        let store = self.stores.entry(id).or_default();
        let ask = !store.asking && (store.check || store.address == Address::Unknown);
        match &store.address {
            Address::Known(address) => {
                let address = address.clone();
                store.ask(ask, now);
                Lookup::Known { address, ask }
            }
            Address::Unknown => {
                store.ask(ask, now);
                store.waiting.push(call);
                Lookup::Wait { ask }
            }
            Address::Gone => Lookup::Gone,
        }
    }

    /// PD's answer: an address, «gone», or no answer. Gives the calls to wake, and a probe that has
    /// become pointless.
    pub(crate) fn resolved(
        &mut self,
        id: StoreId,
        answer: Result<Option<Arc<str>>, Error>,
    ) -> (Vec<Handle>, Result<(), Error>, Option<Probe>) {
        let store = self.stores.entry(id).or_default();
        store.asking = false;
        let mut pointless = None;
        let result = match answer {
            Ok(Some(address)) => {
                let address = Address::Known(address);
                if store.address != address {
                    // What was held against it was held against another place.
                    pointless = store.revive();
                }
                store.address = address;
                store.check = false;
                Ok(())
            }
            Ok(None) => {
                pointless = store.revive();
                if store.address != Address::Gone {
                    // Whoever has a region on it must look for another replica.
                    store.epoch = store.epoch.wrapping_add(1);
                }
                store.address = Address::Gone;
                store.check = false;
                Ok(())
            }
            Err(error) => Err(error),
        };
        (std::mem::take(&mut store.waiting), result, pointless)
    }

    /// Another store answers at its address: nothing is sent there before PD has been asked. Gives a
    /// probe that has become pointless.
    pub(crate) fn misplaced(&mut self, id: StoreId) -> Option<Probe> {
        let store = self.stores.get_mut(&id)?;
        store.address = Address::Unknown;
        store.revive()
    }

    /// Its address may be out of date. A store that was gone may have come back under its id.
    pub(crate) fn check(&mut self, id: StoreId) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.check = true;
            if store.address == Address::Gone {
                store.address = Address::Unknown;
            }
        }
    }

    // ---- whether it lives ----------------------------------------------------------------------

    /// It answered, and to a request that took so long. Gives a probe that has become pointless.
    pub(crate) fn answered(
        &mut self,
        id: StoreId,
        took: Option<Duration>,
        now: Instant,
    ) -> Option<Probe> {
        let store = self.stores.get_mut(&id)?;
        store.heard = Some(now);
        if let Some(took) = took {
            store.health.client.record(took, now);
        }
        store.revive()
    }

    /// An attempt failed, or has been out for long: is it alive?
    pub(crate) fn suspect(&mut self, id: StoreId) -> Care {
        match self.stores.get(&id) {
            Some(Store { life: Life::Well, address: Address::Known(address), .. }) => {
                Care::Probe { address: address.clone(), ask: false }
            }
            Some(_) | None => Care::Nothing,
        }
    }

    /// A call would use it if it were reachable.
    pub(crate) fn wanted(&mut self, id: StoreId, now: Instant) -> Care {
        let Some(store) = self.stores.get_mut(&id) else {
            return Care::Nothing;
        };
        match (store.life, &store.address) {
            (Life::Dead { again }, Address::Known(address)) if again <= now => {
                let address = address.clone();
                let long_ago = store.asked.is_none_or(|at| now.since(at) >= RESOLVE_INTERVAL);
                let ask = !store.asking && long_ago;
                store.ask(ask, now);
                Care::Probe { address, ask }
            }
            _ => Care::Nothing,
        }
    }

    /// A probe is on its way.
    pub(crate) fn probing(&mut self, id: StoreId, probe: Probe) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.life = match store.life {
                Life::Well | Life::Doubted(_) => Life::Doubted(probe),
                Life::Dead { .. } | Life::Tried(_) => Life::Tried(probe),
            };
        }
    }

    /// The probe that is out, if any.
    pub(crate) fn probe(&self, id: StoreId) -> Option<Probe> {
        match self.stores.get(&id)?.life {
            Life::Doubted(probe) | Life::Tried(probe) => Some(probe),
            Life::Well | Life::Dead { .. } => None,
        }
    }

    /// The probe has failed. Whether PD is to be asked where the store is.
    pub(crate) fn found_dead(&mut self, id: StoreId, now: Instant) -> bool {
        let Some(store) = self.stores.get_mut(&id) else {
            return false;
        };
        let died = matches!(store.life, Life::Well | Life::Doubted(_));
        store.life = Life::Dead { again: now + PROBE_INTERVAL };
        if !died {
            return false;
        }
        store.epoch = store.epoch.wrapping_add(1);
        store.health.client.mark_slow(now);
        let ask = !store.asking;
        store.ask(ask, now);
        ask
    }

    /// What it means that an attempt sent at `sent` has no answer yet. `patience` is how recent a sign
    /// of life has to be.
    pub(crate) fn silence(&self, id: StoreId, patience: Duration, now: Instant) -> Silence {
        let Some(store) = self.stores.get(&id) else {
            return Silence::Total;
        };
        match (store.life, store.heard) {
            (Life::Dead { .. } | Life::Tried(_), _) => Silence::Dead,
            (Life::Well | Life::Doubted(_), Some(at)) if now.since(at) < patience => {
                Silence::Broken(at)
            }
            (Life::Well | Life::Doubted(_), _) => Silence::Total,
        }
    }

    // ---- how much is asked of it ---------------------------------------------------------------

    /// Whether one more request may be out; otherwise `call` stands in line. `turn`: it is first there.
    pub(crate) fn admit(&mut self, id: StoreId, call: Handle, limit: usize, turn: bool) -> bool {
        let store = self.stores.entry(id).or_default();
        let admitted = store.out < limit && (turn || store.line.is_empty());
        match (admitted, turn) {
            (true, _) => store.out += 1,
            // It was first in line, and another was quicker.
            (false, true) => store.line.push_front(call),
            (false, false) => store.line.push_back(call),
        }
        admitted
    }

    pub(crate) fn attempt_over(&mut self, id: StoreId) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.out = store.out.saturating_sub(1);
        }
    }

    pub(crate) fn has_room(&self, id: StoreId, limit: usize) -> bool {
        self.stores.get(&id).is_none_or(|store| store.out < limit.max(1))
    }

    pub(crate) fn next_in_line(&mut self, id: StoreId) -> Option<Handle> {
        self.stores.get_mut(&id)?.line.pop_front()
    }

    // ---- how well it is ------------------------------------------------------------------------

    /// §7.6: it says that it is busy, and perhaps for how long.
    pub(crate) fn busy(&mut self, id: StoreId, estimated_wait_ms: u32, now: Instant) {
        if let Some(store) = self.stores.get_mut(&id) {
            match estimated_wait_ms {
                0 => store.health.client.mark_slow(now),
                ms => store.health.load.tell(Duration::from_millis(ms.into()), now),
            }
        }
    }

    /// RGC-56: it tells how well it is. Feedback of a store that nobody has asked for is dropped.
    pub(crate) fn feedback(&mut self, id: StoreId, slow_score: u64, now: Instant) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.health.store.tell(slow_score, now);
        }
    }
}

impl Store {
    fn reachable(&self) -> bool {
        self.address != Address::Gone && matches!(self.life, Life::Well | Life::Doubted(_))
    }

    /// Notes that PD is being asked.
    fn ask(&mut self, ask: bool, now: Instant) {
        if ask {
            self.asking = true;
            self.asked = Some(now);
        }
    }

    /// Nothing is held against it any more. Gives the probe that is out.
    fn revive(&mut self) -> Option<Probe> {
        match std::mem::take(&mut self.life) {
            Life::Doubted(probe) | Life::Tried(probe) => Some(probe),
            Life::Well | Life::Dead { .. } => None,
        }
    }
}
