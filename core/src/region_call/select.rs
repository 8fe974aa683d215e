//! Which replica a leader read or a write goes to (`control-plane.md` §7.1, §7.2, §7.4).
//!
//! The leader, as long as there is no sign against it. After that each other replica once, with the
//! same request: it will refuse, but it knows the leader, and asking it wakes a region that
//! hibernates. Learners are left out, since they may be TiFlash. When nobody is left the region itself is in doubt.

use std::borrow::Borrow;

use crate::id::{Peer, PeerRole, StoreId};

/// How often one call may ask the replica that is believed to lead (§7, `maxReplicaAttempt`).
const MAX_LEADER_ATTEMPTS: u32 = 10;

/// After so many hints another one is no longer followed without a pause.
const MAX_HINTS: u32 = 6;

/// How often the leader may be busy before another replica is asked who leads.
const LEADER_BUSY_PROBE: u32 = 2;

/// What one call has been through with the replicas of one region. Made at the first mishap, so
/// that a call without one allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trouble {
    replicas: Vec<Replica>,
    /// Another replica was asked because the leader was busy: once a call is enough.
    probed: bool,
    /// How often a replica has named another as the leader.
    hints: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Replica {
    peer: u64,
    attempts: u32,
    /// It said that it does not lead.
    not_leader: bool,
    /// The last attempt on it got no answer.
    failed: bool,
    /// How often it said that it is too busy.
    busy: u32,
}

impl Trouble {
    fn replica(&mut self, peer: u64) -> &mut Replica {
        let index = match self.replicas.iter().position(|replica| replica.peer == peer) {
            Some(index) => index,
            None => {
                self.replicas.push(Replica {
                    peer,
                    attempts: 0,
                    not_leader: false,
                    failed: false,
                    busy: 0,
                });
                self.replicas.len() - 1
            }
        };
        &mut self.replicas[index]
    }

    pub(crate) fn attempted(&mut self, peer: u64) {
        self.replica(peer).attempts += 1;
    }

    pub(crate) fn not_leader(&mut self, peer: u64) {
        self.replica(peer).not_leader = true;
    }

    pub(crate) fn failed(&mut self, peer: u64) {
        self.replica(peer).failed = true;
    }

    /// It is too busy. A store that has lost its leadership without noticing answers so, too; the
    /// second time another replica is asked who leads (§7.6, `leaderBusyProbeThreshold`).
    pub(crate) fn busy(&mut self, peer: u64) {
        let probed = self.probed;
        let replica = self.replica(peer);
        replica.busy += 1;
        if replica.busy >= LEADER_BUSY_PROBE && !probed {
            replica.not_leader = true;
            self.probed = true;
        }
    }

    /// Another replica names `peer` as the leader: it gets one more attempt whatever happened before.
    pub(crate) fn named_leader(&mut self, peer: u64) {
        self.hints += 1;
        let replica = self.replica(peer);
        replica.not_leader = false;
        replica.failed = false;
        replica.attempts = replica.attempts.min(MAX_LEADER_ATTEMPTS - 1);
    }

    /// Whether the replicas have named each other so often that they may be going round in a circle.
    pub(crate) fn goes_round(&self) -> bool {
        self.hints >= MAX_HINTS
    }

    /// Whether it has been asked.
    pub(crate) fn tried(&self, peer: u64) -> bool {
        self.find(peer).is_some_and(|replica| replica.attempts > 0)
    }

    fn find(&self, peer: u64) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.peer == peer)
    }
}

/// The replica to ask next; `None` when nobody is left.
///
/// `usable` tells whether a request may be sent to the replica with this index now: its store is
/// reachable and has not failed since the region was loaded. Of the others than the leader those on
/// stores that are not `slow` come first (§7.4, the largest bit of the score); `draw` breaks ties.
pub(crate) fn choose(
    peers: &[impl Borrow<Peer>],
    leader: usize,
    trouble: Option<&Trouble>,
    usable: impl Fn(usize, StoreId) -> bool,
    slow: impl Fn(StoreId) -> bool,
    draw: impl FnOnce(u32) -> u32,
) -> Option<Peer> {
    let seen = |peer: &Peer| trouble.and_then(|trouble| trouble.find(peer.id));
    if let Some(peer) = peers.get(leader).map(Borrow::borrow) {
        let fit = seen(peer).is_none_or(|replica| {
            !replica.not_leader && !replica.failed && replica.attempts < MAX_LEADER_ATTEMPTS
        });
        if fit && usable(leader, peer.store) {
            return Some(*peer);
        }
    }
    let candidate = |index: usize, peer: &Peer| {
        index != leader
            && peer.role != PeerRole::Learner
            && seen(peer).is_none_or(|replica| replica.attempts == 0)
            && usable(index, peer.store)
    };
    let all = || peers.iter().map(Borrow::borrow).enumerate();
    let candidates = || all().filter(|(index, peer)| candidate(*index, peer));
    let all_slow = candidates().all(|(_, peer)| slow(peer.store));
    let best = || candidates().filter(|(_, peer)| all_slow || !slow(peer.store));
    let count = best().count();
    let skip = match u32::try_from(count) {
        Ok(0) | Err(_) => return None,
        Ok(1) => 0,
        Ok(count) => draw(count),
    };
    best().nth(skip as usize).map(|(_, peer)| *peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> [Peer; 3] {
        [1, 2, 3].map(|id| Peer { id, store: StoreId(id), role: PeerRole::Voter, witness: false })
    }

    fn pick(trouble: &Trouble, dead: &[u64]) -> Option<u64> {
        let usable = |_, store: StoreId| !dead.contains(&store.0);
        choose(&peers(), 0, Some(trouble), usable, |_| false, |_| 0).map(|peer| peer.id)
    }

    #[test]
    fn the_leader_first_then_each_other_replica_once() {
        let mut trouble = Trouble::default();
        let mut order = Vec::new();
        while let Some(peer) = pick(&trouble, &[]) {
            order.push(peer);
            trouble.attempted(peer);
            trouble.not_leader(peer);
        }
        assert_eq!(order, [1, 2, 3]);
    }

    /// §7.2: do not send to a leader whose store is unreachable; only a request to a follower wakes
    /// a hibernating region.
    #[test]
    fn an_unreachable_leader_is_passed_over() {
        assert_eq!(pick(&Trouble::default(), &[1]), Some(2));
        assert_eq!(pick(&Trouble::default(), &[1, 2]), Some(3));
        assert_eq!(pick(&Trouble::default(), &[1, 2, 3]), None);
    }

    /// §7: `maxReplicaAttempt`.
    #[test]
    fn the_leader_is_asked_ten_times_and_once_more_when_it_is_named() {
        let mut trouble = Trouble::default();
        for _ in 0..10 {
            assert_eq!(pick(&trouble, &[2, 3]), Some(1));
            trouble.attempted(1);
        }
        assert_eq!(pick(&trouble, &[2, 3]), None);
        trouble.named_leader(1);
        assert_eq!(pick(&trouble, &[2, 3]), Some(1));
        trouble.attempted(1);
        assert_eq!(pick(&trouble, &[2, 3]), None);
    }

    #[test]
    fn a_leader_that_did_not_answer_is_asked_again_only_when_it_is_named() {
        let mut trouble = Trouble::default();
        trouble.attempted(1);
        trouble.failed(1);
        assert_eq!(pick(&trouble, &[]), Some(2));
        trouble.named_leader(1);
        assert_eq!(pick(&trouble, &[]), Some(1));
    }

    /// §7.6.
    #[test]
    fn a_leader_that_is_busy_twice_is_checked_once_through_another_replica() {
        let mut trouble = Trouble::default();
        trouble.attempted(1);
        trouble.busy(1);
        assert_eq!(pick(&trouble, &[]), Some(1));
        trouble.busy(1);
        assert_eq!(pick(&trouble, &[]), Some(2));
        trouble.attempted(2);
        trouble.not_leader(2);
        trouble.named_leader(1);
        assert_eq!(pick(&trouble, &[]), Some(1));
        trouble.busy(1);
        trouble.busy(1);
        assert_eq!(pick(&trouble, &[]), Some(1));
    }

    #[test]
    fn learners_are_never_asked() {
        let mut peers = peers();
        peers[1].role = PeerRole::Learner;
        let mut trouble = Trouble::default();
        trouble.not_leader(1);
        let other = choose(&peers, 0, Some(&trouble), |_, _| true, |_| false, |_| 0);
        assert_eq!(other.map(|peer| peer.id), Some(3));
    }

    #[test]
    fn ties_are_drawn() {
        let mut trouble = Trouble::default();
        trouble.not_leader(1);
        let last = |bound| bound - 1;
        let third = choose(&peers(), 0, Some(&trouble), |_, _| true, |_| false, last);
        assert_eq!(third.map(|peer| peer.id), Some(3));
    }

    /// §7.4: «NotSlow» outweighs everything; for a leader read it orders the others only.
    #[test]
    fn slow_stores_come_last_but_a_slow_leader_is_asked() {
        let pick = |trouble: &Trouble, slow: &[u64]| {
            let slow = |store: StoreId| slow.contains(&store.0);
            choose(&peers(), 0, Some(trouble), |_, _| true, slow, |_| 0).map(|peer| peer.id)
        };
        let mut trouble = Trouble::default();
        assert_eq!(pick(&trouble, &[1]), Some(1));
        trouble.not_leader(1);
        for (slow, chosen) in [(&[][..], 2), (&[2], 3), (&[3], 2), (&[2, 3], 2)] {
            assert_eq!(pick(&trouble, slow), Some(chosen), "{slow:?}");
        }
    }
}
