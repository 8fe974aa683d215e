//! Faults: how they strike, how they end, and who chooses them.

use std::time::Duration;

use anatase_cluster::{CommitWay, Disk, Fault, On, PdFault, RegionFault, RuleId};
use anatase_proto::pdpb;

use crate::agenda::{Happening, Key};
use crate::entropy::{Purpose, Stream};
use crate::fault::{ClientId, FaultKind, NetFault, PlannedFault, Refusal, Side};
use crate::world::{Action, NOBODY, World};

/// A fault that lasts, while it does.
#[derive(Debug)]
pub(crate) enum Trouble {
    Partition {
        from: Side,
        to: Side,
        both_ways: bool,
    },
    Slow {
        server: Side,
        by: u64,
    },
    /// What has reached it meanwhile.
    Paused {
        server: Side,
        held: Vec<Key>,
    },
    StoreDown {
        store: u64,
    },
    Election,
    DiskFull {
        store: u64,
    },
    StaleRoutes,
    PdElection,
    PdDown {
        member: usize,
    },
    MaxTsHeld {
        region: u64,
    },
    /// A rule of the cluster's.
    Rule(RuleId),
}

impl Trouble {
    /// How much longer this server takes.
    pub(crate) fn slowness(&self, at: Side) -> u64 {
        match self {
            Self::Slow { server, by } if server.covers(at) => *by,
            _ => 0,
        }
    }

    fn blocks(&self, sender: Side, receiver: Side) -> bool {
        let Self::Partition { from, to, both_ways } = self else { return false };
        let one = from.covers(sender) && to.covers(receiver);
        one || *both_ways && from.covers(receiver) && to.covers(sender)
    }
}

/// A new leader of PD is found after so long, if there may be one.
const PD_ELECTION: Duration = Duration::from_secs(1);

/// How far timestamps may be ahead of the world's clock, in milliseconds, when PD is made to leap
/// again. No lock expires before the clock has caught up, so a world that is far ahead stands still.
const MAX_AHEAD_MS: u64 = 10_000;

/// No more regions than this are made by a nemesis.
const MAX_REGIONS: usize = 24;

impl World {
    /// Puts planned faults and the first strikes of the nemesis on the agenda.
    pub(crate) fn plan_troubles(&mut self) {
        for n in 0..self.planned.len() {
            let at = self.now + nanos(self.planned[n].at);
            self.plan(at, NOBODY, Happening::Fault(n as u32));
        }
        for n in 0..self.profile.nemesis.len() {
            self.plan_nemesis(n as u8);
        }
    }

    /// Puts one more fault on the agenda.
    pub(crate) fn plan_fault(&mut self, wait: Duration, fault: NetFault) {
        let at = self.now + nanos(wait);
        let n = self.planned.len() as u32;
        self.planned.push(PlannedFault { at: Duration::from_nanos(at), fault });
        self.plan(at, NOBODY, Happening::Fault(n));
    }

    fn plan_nemesis(&mut self, n: u8) {
        let Some(recurring) = self.profile.nemesis.get(n as usize) else { return };
        let every = nanos(recurring.every).max(1_000);
        let stream = Stream::new(Purpose::Nemesis, recurring.kind as u64);
        // A calm choice is a late one.
        let wait = self.entropy.respite(stream, every).max(1);
        self.plan(self.now + wait, NOBODY, Happening::Nemesis(n, self.season));
    }

    pub(crate) fn is_blocked(&self, sender: Side, receiver: Side) -> bool {
        self.troubles.iter().any(|(_, trouble)| trouble.blocks(sender, receiver))
    }

    /// Whether the server stands still; then the request waits there.
    pub(crate) fn hold_back(&mut self, key: Key, at: Side) -> bool {
        let found = self.troubles.iter().find_map(|(trouble, what)| match what {
            Trouble::Paused { server, .. } if server.covers(at) => Some(trouble),
            _ => None,
        });
        let Some(found) = found else { return false };
        if let Some(Trouble::Paused { held, .. }) = self.troubles.get_mut(found) {
            held.push(key);
        }
        true
    }

    // ---- strikes -------------------------------------------------------------------------------

    /// Does it.
    pub(crate) fn strike(&mut self, fault: NetFault) -> Action {
        self.stats.faults += 1;
        self.note(|| format!("{fault:?}"));
        let at = Duration::from_nanos(self.now);
        self.struck.push(PlannedFault { at, fault: fault.clone() });
        match fault {
            NetFault::Partition { from, to, both_ways, lasts } => {
                self.begin(Trouble::Partition { from, to, both_ways }, lasts);
            }
            NetFault::Reset { client, server } => self.reset(Side::Client(client), server),
            NetFault::Next { client, skip, fate } => {
                if let Some(client) = self.clients.get_mut(client as usize) {
                    client.next.push((skip, fate));
                }
            }

            NetFault::SlowStore { store, by, lasts } => {
                self.begin(Trouble::Slow { server: Side::Store(store), by: nanos(by) }, lasts);
            }
            NetFault::PauseStore { store, lasts } => {
                let server = Side::Store(store);
                self.begin(Trouble::Paused { server, held: Vec::new() }, lasts);
            }
            NetFault::CrashStore { store, lasts, election } => {
                self.cluster.stop_store(store);
                self.reset(Side::Clients, Side::Store(store));
                self.begin(Trouble::StoreDown { store }, lasts);
                self.begin(Trouble::Election, election.min(lasts));
            }
            NetFault::BusyStore { store, requests, lasts } => {
                let busy = RegionFault::busy("scheduler is busy");
                let on = On::any().store(store);
                let rule = self.cluster.faults().times(requests, on, busy);
                self.begin(Trouble::Rule(rule), lasts);
            }
            NetFault::FullStore { store, lasts } => {
                self.cluster.set_disk(store, Disk::Full);
                self.begin(Trouble::DiskFull { store }, lasts);
            }

            NetFault::Split { key } => drop(self.cluster.split(key)),
            NetFault::SplitAtKey { nth } => self.split_at_key(nth),
            NetFault::Merge { region } => self.merge(region),
            NetFault::MoveLeader { region, peer } => {
                if let Some(region) = self.region(region) {
                    let peers = self.cluster.region(region).map(|region| &region.peers[..]);
                    let store = peers.and_then(|peers| Some(nth(peers, peer)?.store));
                    // Nobody elects the dead.
                    if let Some(store) = store
                        && !self.is_down(store)
                    {
                        self.cluster.transfer_leader(region, store);
                    }
                }
            }
            NetFault::LoseLeader { region, lasts } => {
                if let Some(region) = self.region(region) {
                    self.cluster.remove_leader(region);
                    self.begin(Trouble::Election, lasts);
                }
            }
            NetFault::Refuse { region, requests, error, lasts } => {
                if let Some(region) = self.region(region) {
                    let on = On::any().region(region);
                    let fault = error.as_fault();
                    let rule = self.cluster.faults().times(requests, on, fault);
                    self.begin(Trouble::Rule(rule), lasts);
                }
            }
            NetFault::FallBack { one_phase, requests, lasts } => {
                let way = if one_phase { CommitWay::OnePhase } else { CommitWay::Async };
                let rule = self.cluster.faults().times(requests, On::any(), Fault::FallBack(way));
                self.begin(Trouble::Rule(rule), lasts);
            }
            NetFault::HoldMaxTs { region, lasts } => {
                if let Some(region) = self.region(region) {
                    self.cluster.hold_max_ts(region);
                    self.begin(Trouble::MaxTsHeld { region }, lasts);
                }
            }
            NetFault::DoNotWait { requests, lasts } => {
                let rule = self.cluster.faults().times(requests, On::any(), Fault::DoNotWait);
                self.begin(Trouble::Rule(rule), lasts);
            }
            NetFault::StaleRoutes { lasts } => {
                self.cluster.freeze_routes();
                self.begin(Trouble::StaleRoutes, lasts);
            }

            NetFault::MovePdLeader { .. }
            | NetFault::LosePdLeader { .. }
            | NetFault::CrashPd { .. }
            | NetFault::TimestampLeap { .. }
                if self.pd_is_ahead() => {}
            NetFault::MovePdLeader { member } => self.lead_pd(member),
            NetFault::LosePdLeader { lasts } => {
                self.cluster.remove_pd_leader();
                self.begin(Trouble::PdElection, lasts);
            }
            NetFault::SlowPd { member, by, lasts } => {
                let server = Side::Pd(self.member(member));
                self.begin(Trouble::Slow { server, by: nanos(by) }, lasts);
            }
            NetFault::CrashPd { member, lasts } => {
                let member = self.member(member);
                self.cluster.stop_pd_member(member);
                self.reset(Side::Clients, Side::Pd(member));
                self.begin(Trouble::PdDown { member }, lasts);
                self.begin(Trouble::PdElection, lasts.min(PD_ELECTION));
            }
            NetFault::PdError { requests, lasts } => {
                let message = "PD is not in the mood".to_owned();
                let fault = PdFault { kind: pdpb::ErrorType::Unknown, message };
                let rule = self.cluster.faults().times(requests, On::any(), fault);
                self.begin(Trouble::Rule(rule), lasts);
            }
            NetFault::TimestampLeap { by } => {
                // The largest batch takes a millisecond of its own.
                for _ in 0..by.as_millis().min(10_000) {
                    self.cluster.timestamps(1 << 18);
                }
            }

            NetFault::CrashClient { client, down } => {
                if self.clients.get(client as usize).is_some_and(|client| client.up) {
                    self.stats.crashes += 1;
                    let debris = self.crash(client);
                    self.plan(self.now + nanos(down), client.into(), Happening::Boot(client));
                    return Action::Drop(debris);
                }
            }
            NetFault::PauseClient { client, lasts } => {
                let until = self.now + nanos(lasts);
                if let Some(paused) = self.clients.get_mut(client as usize)
                    && paused.up
                {
                    paused.paused_until = Some(paused.paused_until.unwrap_or(0).max(until));
                    self.plan(until, client.into(), Happening::Resume(client));
                }
            }
            NetFault::SkewClient { client, permille } => self.skew(client, permille),
            NetFault::Cancel { client, nth } => return self.cancel(client, nth),
        }
        Action::None
    }

    fn begin(&mut self, trouble: Trouble, lasts: Duration) {
        let key = self.troubles.insert(trouble);
        self.plan(self.now + nanos(lasts), NOBODY, Happening::Mend(key));
    }

    fn region(&self, at: u32) -> Option<u64> {
        let ids: Vec<u64> = self.cluster.regions().map(|region| region.id).collect();
        nth(&ids, at).copied()
    }

    fn member(&self, at: usize) -> usize {
        at % self.cluster.pd_members().len().max(1)
    }

    fn lasts(&self, which: impl Fn(&Trouble) -> bool) -> bool {
        self.troubles.iter().any(|(_, trouble)| which(trouble))
    }

    fn pd_is_ahead(&self) -> bool {
        let last_ms = anatase_cluster::timestamp::physical(self.cluster.last_timestamp());
        last_ms > self.cluster.now_ms() + MAX_AHEAD_MS
    }

    fn is_down(&self, store: u64) -> bool {
        self.lasts(|trouble| matches!(trouble, Trouble::StoreDown { store: s } if *s == store))
    }

    fn split_at_key(&mut self, at: u32) {
        if self.cluster.regions().count() >= MAX_REGIONS {
            return;
        }
        let keys: Vec<_> = self.cluster.txn_keys().cloned().collect();
        if let Some(key) = nth(&keys, at) {
            self.cluster.split(key);
            return;
        }
        let raw: Vec<_> = self.cluster.raw_pairs("default").map(|(key, _)| key.clone()).collect();
        if let Some(key) = nth(&raw, at) {
            self.cluster.split_raw(key);
        }
    }

    fn merge(&mut self, at: u32) {
        let ids: Vec<u64> = self.cluster.regions().map(|region| region.id).collect();
        if ids.len() < 2 {
            return;
        }
        let source = at as usize % ids.len();
        let target = if source + 1 < ids.len() { source + 1 } else { source - 1 };
        self.cluster.merge(ids[source], ids[target]);
    }

    /// Makes this member the leader, or if it is down the first that is up.
    fn lead_pd(&mut self, member: usize) {
        let up: Vec<usize> = (0..self.cluster.pd_members().len())
            .filter(|member| self.cluster.pd_members()[*member].up)
            .collect();
        let wanted = self.member(member);
        let leader = if up.contains(&wanted) { Some(wanted) } else { up.first().copied() };
        if let Some(leader) = leader {
            if self.cluster.pd_leader() == Some(leader) {
                // The same one again, after an election: it does not know what it had given out.
                self.cluster.remove_pd_leader();
            }
            self.cluster.transfer_pd_leader(leader);
        }
    }

    fn skew(&mut self, client: ClientId, permille: u32) {
        if let Some(at) = self.clients.get(client as usize) {
            at.clock.set_rate(self.now, permille);
            self.set_timers_again(client);
        }
    }

    fn cancel(&mut self, client: ClientId, at: u32) -> Action {
        let mut open: Vec<(u64, Key)> = self
            .cancellables
            .iter()
            .filter(|(_, slot)| slot.client == client && !slot.cancelled)
            .map(|(key, slot)| (slot.begun, key))
            .collect();
        open.sort_unstable();
        let Some(slot) = nth(&open, at).and_then(|(_, key)| self.cancellables.get_mut(*key)) else {
            return Action::None;
        };
        slot.cancelled = true;
        self.stats.cancelled += 1;
        slot.waker.take().map_or(Action::None, Action::Wake)
    }

    // ---- ends ----------------------------------------------------------------------------------

    /// A fault that lasted is over, unless another of its kind goes on.
    pub(crate) fn mend(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Partition { .. } | Trouble::Slow { .. } => {}
            Trouble::Paused { held, .. } => {
                for key in held {
                    if let Some(client) = self.flights.get(key).map(|flight| flight.client) {
                        self.plan(self.now, client.into(), Happening::Arrives(key));
                    }
                }
            }
            Trouble::StoreDown { store } => {
                if !self.is_down(store) {
                    self.cluster.start_store(store);
                    self.cluster.elect_leaders();
                }
            }
            Trouble::MaxTsHeld { region } => self.cluster.sync_max_ts(region),
            Trouble::Rule(rule) => self.cluster.faults().remove(rule),
            Trouble::Election => self.cluster.elect_leaders(),
            Trouble::DiskFull { store } => {
                let same = |t: &Trouble| matches!(t, Trouble::DiskFull { store: s } if *s == store);
                if !self.lasts(same) {
                    self.cluster.set_disk(store, Disk::Normal);
                }
            }
            Trouble::StaleRoutes => {
                if !self.lasts(|trouble| matches!(trouble, Trouble::StaleRoutes)) {
                    self.cluster.thaw_routes();
                }
            }
            Trouble::PdElection => {
                if self.cluster.pd_leader().is_none() {
                    self.lead_pd(0);
                }
            }
            Trouble::PdDown { member } => {
                let same = |t: &Trouble| matches!(t, Trouble::PdDown { member: m } if *m == member);
                if !self.lasts(same) {
                    self.cluster.start_pd_member(member);
                    if self.cluster.pd_leader().is_none() {
                        self.lead_pd(member);
                    }
                }
            }
        }
    }

    /// Ends everything that goes wrong, and sees to it that nothing new does.
    pub(crate) fn heal(&mut self) {
        self.season += 1;
        self.network = self.network.healed();
        for trouble in self.troubles.extract(|_| true) {
            self.mend(trouble);
        }
        self.cluster.faults().clear();
        let stores: Vec<u64> = self.cluster.stores().map(|store| store.id).collect();
        for store in stores {
            self.cluster.start_store(store);
            self.cluster.set_disk(store, Disk::Normal);
        }
        (0..self.cluster.pd_members().len()).for_each(|m| self.cluster.start_pd_member(m));
        if self.cluster.pd_leader().is_none() {
            self.lead_pd(0);
        }
        self.cluster.elect_leaders();
        self.cluster.thaw_routes();
        for id in 0..self.clients.len() as ClientId {
            self.clients[id as usize].next.clear();
            self.resume(id, true);
            self.skew(id, 1000);
            if !self.clients[id as usize].up {
                self.plan(self.now, id.into(), Happening::Boot(id));
            }
        }
    }

    // ---- the nemesis ---------------------------------------------------------------------------

    /// Strikes with a fault of this kind, and thinks of the next time.
    pub(crate) fn nemesis(&mut self, n: u8) -> Action {
        let Some(recurring) = self.profile.nemesis.get(n as usize).cloned() else {
            return Action::None;
        };
        self.plan_nemesis(n);
        match self.choose(recurring.kind, recurring.lasts) {
            Some(fault) => self.strike(fault),
            None => Action::None,
        }
    }

    fn choose(&mut self, kind: FaultKind, most: Duration) -> Option<NetFault> {
        let stream = Stream::new(Purpose::Nemesis, kind as u64);
        let stores: Vec<u64> = self.cluster.stores().map(|store| store.id).collect();
        let clients = self.clients.len() as u32;
        let members = self.cluster.pd_members().len();
        let mut below = |bound: usize| self.entropy.below(stream, bound as u32);
        let lasts = Duration::from_nanos(1 + u64::from(below(1000)) * nanos(most) / 1000);
        let store = stores.get(below(stores.len()) as usize).copied()?;
        let client = below(clients as usize);
        let member = below(members) as usize;
        // Where there is no client, nothing can happen to it.
        let some_client = || (clients > 0).then_some(client);
        let index = below(1 << 16);
        Some(match kind {
            FaultKind::Partition => {
                let client =
                    if below(3) == 2 { Side::Clients } else { Side::Client(some_client()?) };
                let server = match below(5) {
                    0 | 1 => Side::Store(store),
                    2 => Side::Stores,
                    3 => Side::Pd(member),
                    _ => Side::AllPd,
                };
                let (from, to) = if below(2) == 0 { (client, server) } else { (server, client) };
                NetFault::Partition { from, to, both_ways: below(2) == 1, lasts }
            }
            FaultKind::Reset => {
                let server = if below(4) == 0 { Side::Pd(member) } else { Side::Store(store) };
                NetFault::Reset { client: some_client()?, server }
            }
            FaultKind::SlowStore => {
                let by = Duration::from_millis(1 << below(14));
                NetFault::SlowStore { store, by, lasts }
            }
            FaultKind::PauseStore => NetFault::PauseStore { store, lasts },
            FaultKind::CrashStore => {
                let election = lasts * below(1000) / 1000;
                NetFault::CrashStore { store, lasts, election }
            }
            FaultKind::BusyStore => NetFault::BusyStore { store, requests: 1 + below(10), lasts },
            FaultKind::FullStore => NetFault::FullStore { store, lasts },
            FaultKind::Split => NetFault::SplitAtKey { nth: index },
            FaultKind::Merge => NetFault::Merge { region: index },
            FaultKind::MoveLeader => NetFault::MoveLeader { region: index, peer: below(16) },
            FaultKind::LoseLeader => NetFault::LoseLeader { region: index, lasts },
            FaultKind::Refuse => {
                let error = [
                    Refusal::EpochNotMatch,
                    Refusal::StaleCommand,
                    Refusal::NotLeader,
                    Refusal::RegionNotFound,
                    Refusal::MaxTimestampNotSynced,
                    Refusal::Merging,
                    Refusal::Undetermined,
                ][below(7) as usize];
                NetFault::Refuse { region: index, requests: 1 + below(4), error, lasts }
            }
            FaultKind::FallBack => {
                NetFault::FallBack { one_phase: below(2) == 1, requests: 1 + below(4), lasts }
            }
            FaultKind::HoldMaxTs => NetFault::HoldMaxTs { region: index, lasts },
            FaultKind::DoNotWait => NetFault::DoNotWait { requests: 1 + below(4), lasts },
            FaultKind::StaleRoutes => NetFault::StaleRoutes { lasts },
            FaultKind::MovePdLeader => NetFault::MovePdLeader { member },
            FaultKind::LosePdLeader => NetFault::LosePdLeader { lasts },
            FaultKind::SlowPd => {
                let by = Duration::from_millis(1 << below(12));
                NetFault::SlowPd { member, by, lasts }
            }
            FaultKind::CrashPd => NetFault::CrashPd { member, lasts },
            FaultKind::PdError => NetFault::PdError { requests: 1 + below(4), lasts },
            FaultKind::TimestampLeap => {
                NetFault::TimestampLeap { by: Duration::from_millis(u64::from(below(4000))) }
            }
            FaultKind::CrashClient => NetFault::CrashClient { client: some_client()?, down: lasts },
            FaultKind::PauseClient => NetFault::PauseClient { client: some_client()?, lasts },
            FaultKind::SkewClient => {
                let permille = [1000, 500, 2000, 900, 1100][below(5) as usize];
                NetFault::SkewClient { client: some_client()?, permille }
            }
            FaultKind::Cancel => NetFault::Cancel { client: some_client()?, nth: index },
        })
    }
}

impl Refusal {
    fn as_fault(self) -> RegionFault {
        match self {
            Self::EpochNotMatch => RegionFault::EpochNotMatch { with_regions: false },
            Self::StaleCommand => RegionFault::StaleCommand,
            Self::NotLeader => RegionFault::NotLeader { leader: None },
            Self::RegionNotFound => RegionFault::RegionNotFound,
            Self::MaxTimestampNotSynced => RegionFault::MaxTimestampNotSynced,
            Self::Merging => RegionFault::ProposalInMergingMode,
            Self::Undetermined => {
                RegionFault::UndeterminedResult { message: "the leader has changed".to_owned() }
            }
        }
    }
}

fn nth<T>(of: &[T], n: u32) -> Option<&T> {
    of.get(n as usize % of.len().max(1))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
