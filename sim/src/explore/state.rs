//! A state of an explored world: a value, cheap to clone, because its parts are shared until one of
//! them changes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use anatase_cluster::{Cluster, Ticket};
use anatase_core::wire::Response;
use anatase_core::{CommandId, Failure, Instant};

use super::client::{Client, Moment};
use super::digest::Digest;
use crate::network::What;

/// Everything there is at one moment, between two steps.
#[derive(Clone)]
pub(super) struct State {
    pub(super) now: Instant,
    cluster: Arc<Cluster>,
    cluster_digest: u64,
    clients: Vec<Slot>,
    /// Sorted, so that it does not matter in which order they set out.
    pub(super) flights: Vec<Flight>,
    pub(super) moments: Vec<(Moment, u8)>,
    /// The fault has not struck yet.
    pub(super) unspent: bool,
}

#[derive(Clone)]
struct Slot {
    client: Arc<Client>,
    digest: u64,
}

/// A request, or its answer, on its way.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) client: u8,
    pub(super) id: CommandId,
    /// Where to.
    pub(super) address: Arc<str>,
    pub(super) leg: Leg,
    /// Of what is on its way.
    digest: u64,
}

#[derive(Clone)]
pub(super) enum Leg {
    /// A request that its client waits for.
    There(Arc<What>),
    /// A request that may arrive at any time, or never, and that nobody waits for.
    Stray(Arc<What>),
    /// It waits at its store for a lock.
    Parked(Ticket),
    /// An answer.
    Back(Arc<Result<Response, Failure>>),
}

impl Flight {
    pub(super) fn new(client: u8, id: CommandId, address: Arc<str>, leg: Leg) -> Self {
        let mut state = Digest::new();
        match &leg {
            Leg::There(what) => (0_u8, what).hash(&mut state),
            Leg::Stray(what) => (1_u8, what).hash(&mut state),
            // The cluster knows which.
            Leg::Parked(ticket) => (2_u8, ticket).hash(&mut state),
            Leg::Back(answer) => (3_u8, answer).hash(&mut state),
        }
        address.hash(&mut state);
        Self { client, id, address, leg, digest: state.finish() }
    }

    pub(super) fn with(&self, leg: Leg) -> Self {
        Self::new(self.client, self.id, self.address.clone(), leg)
    }

    /// Its client waits for it.
    pub(super) fn is_heard(&self) -> bool {
        !matches!(self.leg, Leg::Stray(_))
    }

    /// What is asked, if it has not arrived yet.
    pub(super) fn what(&self) -> Option<&Arc<What>> {
        match &self.leg {
            Leg::There(what) | Leg::Stray(what) => Some(what),
            Leg::Parked(_) | Leg::Back(_) => None,
        }
    }

    fn order(&self) -> (u8, u64, bool) {
        (self.client, self.id.to_u64(), self.is_heard())
    }
}

impl State {
    pub(super) fn new(cluster: Cluster, now: Instant) -> Self {
        let mut state = Self {
            now,
            cluster: Arc::new(cluster),
            cluster_digest: 0,
            clients: Vec::new(),
            flights: Vec::new(),
            moments: Vec::new(),
            unspent: false,
        };
        state.change_cluster(|_| ());
        state
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn change_cluster<T>(&mut self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let cluster = Arc::make_mut(&mut self.cluster);
        let told = change(cluster);
        let mut digest = Digest::new();
        cluster.hash(&mut digest);
        self.cluster_digest = digest.finish();
        told
    }

    pub(super) fn add_client(&mut self, client: Arc<Client>) {
        let digest = client.digest();
        self.clients.push(Slot { client, digest });
    }

    /// Takes out the client that was added last.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn take_last(&mut self) -> Arc<Client> {
        self.clients.pop().expect("a client was added").client
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = (u8, &Arc<Client>)> {
        (0..).zip(self.clients.iter().map(|slot| &slot.client))
    }

    pub(super) fn client(&self, client: u8) -> &Client {
        &self.clients[usize::from(client)].client
    }

    pub(super) fn change_client<T>(
        &mut self,
        client: u8,
        change: impl FnOnce(&mut Client) -> T,
    ) -> T {
        let slot = &mut self.clients[usize::from(client)];
        let client = Arc::make_mut(&mut slot.client);
        let told = change(client);
        slot.digest = client.digest();
        told
    }

    pub(super) fn add_flight(&mut self, flight: Flight) {
        let at = self.flights.partition_point(|other| other.order() < flight.order());
        self.flights.insert(at, flight);
    }

    /// Equal digests, equal futures, and equal judgements.
    pub(super) fn digest(&self) -> u64 {
        let mut state = Digest::new();
        (self.now, self.cluster_digest, self.unspent).hash(&mut state);
        for slot in &self.clients {
            slot.digest.hash(&mut state);
        }
        for flight in &self.flights {
            (flight.order(), flight.digest).hash(&mut state);
        }
        for (round, moment) in self.rounds() {
            (round, moment).hash(&mut state);
        }
        state.finish()
    }

    /// The moments in an order in which only that is told that is judged: what ended before something
    /// began. Of several that began without an end in between, and of several ends without a beginning
    /// in between, the order does not matter; they have the same round.
    pub(super) fn rounds(&self) -> Vec<(u64, (Moment, u8))> {
        let mut rounds = Vec::with_capacity(self.moments.len());
        let (mut round, mut ended) = (1, false);
        for moment in &self.moments {
            let ends = moment.0 == Moment::Ended;
            if ends != ended {
                (round, ended) = (round + 1, ends);
            }
            rounds.push((round, *moment));
        }
        rounds.sort_unstable();
        rounds
    }
}
