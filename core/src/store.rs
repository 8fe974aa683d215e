//! What is known of the stores (`control-plane.md` §5.1, §5.3).
//!
//! A store's address comes from PD and is asked for when a call first needs it. Each store has an
//! *epoch* that grows when it proves unreachable: a region remembers the epochs it was loaded under,
//! so one failed connection makes every region on that store look for another replica at once,
//! without a walk over the cache.
//!
//! Reachability is learned from the requests themselves: a connection that cannot be made shuns the
//! store for a second, any answer ends that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::id::{Handle, StoreId};
use crate::time::Instant;

/// For how long a store is avoided after a connection to it failed, unless it answers meanwhile:
/// client-go's liveness loop probes once a second.
const SHUN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct StoreTable {
    stores: BTreeMap<StoreId, Store>,
}

#[derive(Clone, Debug, Default, Hash)]
struct Store {
    address: Address,
    epoch: u32,
    shunned_until: Option<Instant>,
    /// The address may be out of date: ask PD at the next use.
    check: bool,
    /// A question to PD is under way.
    asking: bool,
    /// Calls that cannot be sent before the address is known.
    waiting: Vec<Handle>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Address {
    #[default]
    Unknown,
    Known(Arc<str>),
    /// The store has left the cluster.
    Gone,
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

impl StoreTable {
    pub(crate) fn epoch(&self, id: StoreId) -> u32 {
        self.stores.get(&id).map_or(0, |store| store.epoch)
    }

    /// Whether a request may be sent there now.
    pub(crate) fn reachable(&self, id: StoreId, now: Instant) -> bool {
        self.stores.get(&id).is_none_or(|store| {
            store.address != Address::Gone && store.shunned_until.is_none_or(|until| until <= now)
        })
    }

    /// Where the store is. A `Wait` registers `call`, which is woken by [`StoreTable::answer`].
    pub(crate) fn lookup(&mut self, id: StoreId, call: Handle) -> Lookup {
        let store = self.stores.entry(id).or_default();
        let ask = !store.asking && (store.check || store.address == Address::Unknown);
        match &store.address {
            Address::Known(address) => {
                let address = address.clone();
                store.asking |= ask;
                Lookup::Known { address, ask }
            }
            Address::Unknown => {
                store.asking = true;
                store.waiting.push(call);
                Lookup::Wait { ask }
            }
            Address::Gone => Lookup::Gone,
        }
    }

    /// PD's answer: an address, «gone», or no answer. Gives the calls to wake.
    pub(crate) fn answer(
        &mut self,
        id: StoreId,
        answer: Result<Option<Arc<str>>, Error>,
    ) -> (Vec<Handle>, Result<(), Error>) {
        let store = self.stores.entry(id).or_default();
        store.asking = false;
        let result = match answer {
            Ok(Some(address)) => {
                store.address = Address::Known(address);
                store.check = false;
                Ok(())
            }
            Ok(None) => {
                // Whoever has a region on it must look for another replica.
                store.address = Address::Gone;
                store.epoch = store.epoch.wrapping_add(1);
                store.check = false;
                Ok(())
            }
            Err(error) => Err(error),
        };
        (std::mem::take(&mut store.waiting), result)
    }

    /// A connection could not be made. `epoch` is what the caller's region was loaded under: of many
    /// calls that fail together only the first moves the epoch on.
    pub(crate) fn unreachable(&mut self, id: StoreId, epoch: u32, now: Instant) {
        let store = self.stores.entry(id).or_default();
        store.check = true;
        store.shunned_until = Some(now + SHUN);
        if store.epoch == epoch {
            store.epoch = store.epoch.wrapping_add(1);
        }
    }

    /// It answered.
    pub(crate) fn answered(&mut self, id: StoreId) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.shunned_until = None;
        }
    }

    /// Another store answers at its address: nothing is sent there before PD has been asked.
    pub(crate) fn misplaced(&mut self, id: StoreId) {
        if let Some(store) = self.stores.get_mut(&id) {
            store.address = Address::Unknown;
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const S: StoreId = StoreId(1);
    const NOW: Instant = Instant::from_nanos(1_000);

    fn call(index: u32) -> Handle {
        Handle { index, generation: 0 }
    }

    #[test]
    fn pd_is_asked_once_however_many_wait() {
        let mut table = StoreTable::default();
        assert_eq!(table.lookup(S, call(1)), Lookup::Wait { ask: true });
        assert_eq!(table.lookup(S, call(2)), Lookup::Wait { ask: false });
        let (woken, result) = table.answer(S, Ok(Some("a:1".into())));
        assert_eq!((woken, result), (vec![call(1), call(2)], Ok(())));
        let known = Lookup::Known { address: "a:1".into(), ask: false };
        assert_eq!(table.lookup(S, call(3)), known);
    }

    /// §5.1: needCheck keeps the address in use while PD is asked.
    #[test]
    fn a_doubtful_address_is_used_while_pd_is_asked() {
        let mut table = StoreTable::default();
        table.lookup(S, call(1));
        table.answer(S, Ok(Some("a:1".into()))).1.unwrap();
        table.check(S);
        assert_eq!(table.lookup(S, call(1)), Lookup::Known { address: "a:1".into(), ask: true });
        assert_eq!(table.lookup(S, call(1)), Lookup::Known { address: "a:1".into(), ask: false });
        table.answer(S, Ok(Some("b:1".into()))).1.unwrap();
        assert_eq!(table.lookup(S, call(1)), Lookup::Known { address: "b:1".into(), ask: false });
    }

    /// §5.1: «any | re-resolve: removed | epoch+1, tombstone»; «PD error | unchanged».
    #[test]
    fn a_store_that_left_makes_its_regions_stale_and_an_error_changes_nothing() {
        let mut table = StoreTable::default();
        table.lookup(S, call(1));
        let refused = Error::new(ErrorKind::PdUnavailable, "no");
        assert!(table.answer(S, Err(refused)).1.is_err());
        assert_eq!(table.lookup(S, call(1)), Lookup::Wait { ask: true });
        table.answer(S, Ok(None)).1.unwrap();
        assert_eq!(table.epoch(S), 1);
        assert_eq!(table.lookup(S, call(1)), Lookup::Gone);
        assert!(!table.reachable(S, NOW));
        table.check(S);
        assert_eq!(table.lookup(S, call(1)), Lookup::Wait { ask: true });
    }

    /// control-plane.md §6.5 row 15.
    #[test]
    fn a_wrong_address_is_not_used_again() {
        let mut table = StoreTable::default();
        table.lookup(S, call(1));
        table.answer(S, Ok(Some("a:1".into()))).1.unwrap();
        table.misplaced(S);
        assert_eq!(table.lookup(S, call(1)), Lookup::Wait { ask: true });
    }

    /// §19.14: compare-and-set from the replica's snapshot prevents double bumps.
    #[test]
    fn of_many_failures_under_one_epoch_only_the_first_moves_it() {
        let mut table = StoreTable::default();
        table.unreachable(S, 0, NOW);
        table.unreachable(S, 0, NOW);
        assert_eq!(table.epoch(S), 1);
        assert!(!table.reachable(S, NOW));
        assert!(table.reachable(S, NOW + SHUN));
        table.answered(S);
        assert!(table.reachable(S, NOW));
    }
}
