//! The way to PD (`control-plane.md` §14.1, §14.2; `wire.md` §1).
//!
//! ```text
//! to the leader     Direct ─▶ Forwarded(via)      it cannot be reached, and a follower that can
//!                     ▲           │               still names it, or is well (`health.rs`)
//!                     └───────────┘               a look at the leader succeeds; one a second, and
//!                                                 only while something is asked
//! ```
//!
//! A forwarded call goes to a follower with the leader's URL in its metadata. With forwarding
//! disabled, the default as in client-go, the way is always direct.
//!
//! Questions about regions may go to any member, if that is enabled (by default it is not, as in
//! client-go): they are dealt out in turn. A follower that does not know the answer, or gives none,
//! is left out for ten seconds and the leader is asked instead, once and at once. So may timestamps go
//! through any member ([`Pd::proxy`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Pd, Trouble, is_same};
use crate::command::Destination;
use crate::error::Error;
use crate::shared::Shared;
use crate::time::Instant;

/// For how long a follower that could not answer is not asked (§14.1).
pub(super) const LEFT_OUT: Duration = Duration::from_secs(10);

/// Where a request goes, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) to: Destination,
    /// The leader, where `to` is a follower that should pass the request on.
    pub(crate) forward_to: Option<Arc<str>>,
    /// `to` is a follower and should answer by itself.
    pub(crate) by_follower: bool,
}

impl Route {
    fn direct(leader: Arc<str>) -> Self {
        let to = Destination { address: leader, store: None };
        Self { to, forward_to: None, by_follower: false }
    }
}

/// How the leader is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Direct,
    Forwarded { via: Arc<str> },
}

/// The way to a leader, given who is well (§14.1: «unhealthy leader → request via follower»). The
/// follower that is in use stays.
pub(super) fn choose_way(
    leader: &str,
    now: &Way,
    members: &[Arc<str>],
    is_well: impl Fn(&str) -> bool,
) -> Way {
    if is_well(leader) {
        return Way::Direct;
    }
    if let Way::Forwarded { via } = now
        && is_well(via)
    {
        return now.clone();
    }
    let able = members.iter().find(|member| !is_same(member, leader) && is_well(member));
    able.map_or(Way::Direct, |via| Way::Forwarded { via: via.clone() })
}

/// Who answers questions about regions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Readers {
    turn: usize,
    left_out: BTreeMap<Arc<str>, Instant>,
}

impl Pd {
    /// The way to the leader, if it is known.
    pub(crate) fn route(&self) -> Option<Route> {
        let leader = self.leader.clone()?;
        Some(match &self.way {
            Way::Direct => Route::direct(leader),
            Way::Forwarded { via } => {
                let to = Destination { address: via.clone(), store: None };
                Route { to, forward_to: Some(leader), by_follower: false }
            }
        })
    }

    /// The way to whoever is next to answer a question that any member can answer. Members that
    /// can be reached only by name of another cluster do not come up here: all were named by one.
    pub(super) fn reader(&mut self, now: Instant) -> Option<Route> {
        let leader = self.leader.clone()?;
        self.readers.left_out.retain(|_, until| *until > now);
        for _ in 0..self.members.len() {
            self.readers.turn = (self.readers.turn + 1) % self.members.len();
            let member = &self.members[self.readers.turn];
            if is_same(member, &leader) {
                return self.route();
            }
            if !self.readers.left_out.contains_key(member) && !self.is_faulty(member) {
                let to = Destination { address: member.clone(), store: None };
                return Some(Route { to, forward_to: None, by_follower: true });
            }
        }
        self.route()
    }

    /// The way over a member drawn at random, which passes the call on, or the leader itself (§14.3:
    /// «Follower proxy: random stream among all members»). Members that cannot be reached, or could
    /// not pass a call on, are not drawn; if none is left the way is the ordinary one.
    pub(crate) fn proxy(&mut self, now: Instant, draw: impl FnOnce(u32) -> u32) -> Option<Route> {
        let leader = self.leader.clone()?;
        self.readers.left_out.retain(|_, until| *until > now);
        let able = |member: &&Arc<str>| {
            !self.is_faulty(member) && !self.readers.left_out.contains_key(*member)
        };
        let count = self.members.iter().filter(able).count();
        let drawn = draw(u32::try_from(count.max(1)).unwrap_or(u32::MAX));
        match self.members.iter().filter(able).nth(drawn as usize) {
            Some(member) if !is_same(member, &leader) => {
                let to = Destination { address: member.clone(), store: None };
                Some(Route { to, forward_to: Some(leader), by_follower: false })
            }
            Some(_) | None => self.route(),
        }
    }

    pub(super) fn leave_out(&mut self, follower: Arc<str>, now: Instant) {
        self.readers.left_out.insert(follower, now + LEFT_OUT);
    }

    pub(super) fn is_faulty(&self, address: &str) -> bool {
        self.faulty.iter().any(|faulty| is_same(faulty, address))
    }

    pub(super) fn found_faulty(&mut self, address: &Arc<str>) {
        if !self.is_faulty(address) {
            self.faulty.push(address.clone());
        }
    }

    /// Something came back from there.
    pub(super) fn heard_from(&mut self, address: &str) {
        self.faulty.retain(|faulty| !is_same(faulty, address));
    }
}

impl Shared {
    /// A call over `route` brought no answer. True if that is news: the way to the leader is looked
    /// for anew. False if another way, or none, had been found meanwhile, so that a hundred calls
    /// that fail together cost one look.
    pub(crate) fn pd_blame(&mut self, route: &Route, trouble: Trouble, error: Error) -> bool {
        let usual = self.pd.route().as_ref() == Some(route);
        let by_proxy = !usual && route.forward_to.is_some() && route.forward_to == self.pd.leader;
        if by_proxy && trouble == Trouble::Unreachable {
            // Nothing against the leader. There are others to draw.
            self.pd.leave_out(route.to.address.clone(), self.now);
            self.pd.last_error = Some(error);
            return false;
        }
        if !usual && !by_proxy {
            if self.pd.leader.is_none() {
                self.pd_discover();
            }
            return false;
        }
        self.pd.last_error = Some(error);
        match trouble {
            Trouble::LeaderMoved => self.pd.hearsay.denied = self.pd.leader.clone(),
            Trouble::Unreachable => self.pd.found_faulty(&route.to.address),
            Trouble::Refused => {}
        }
        self.pd.way = Way::Direct;
        self.pd.leader = None;
        self.pd_discover();
        true
    }

    /// The member at `by` named the leader: the way there.
    pub(super) fn pd_find_way(&mut self, by: &Arc<str>, leader: &Arc<str>) {
        let forward =
            self.config.enable_forwarding && self.pd.is_faulty(leader) && !is_same(by, leader);
        match (&self.pd.way, forward) {
            (Way::Forwarded { .. }, true) if self.pd.leader.as_ref() == Some(leader) => {}
            (_, true) => self.pd.way = Way::Forwarded { via: by.clone() },
            (_, false) => self.pd.way = Way::Direct,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// control-plane.md §14.1, forwarding: what the client does with the health of PD's members. Member 1
    /// leads.
    #[test]
    fn the_way_to_the_leader_follows_who_is_well() {
        let name = |n: u32| -> Arc<str> { format!("http://pd:{n}").into() };
        let members: Vec<Arc<str>> = (1..=3).map(name).collect();
        let via = |n: u32| Way::Forwarded { via: name(n) };
        for (well, now, expected) in [
            (&[1, 2, 3][..], Way::Direct, Way::Direct),
            (&[2, 3], Way::Direct, via(2)),
            (&[3], Way::Direct, via(3)),
            (&[], Way::Direct, Way::Direct),
            (&[2, 3], via(3), via(3)),
            (&[2], via(3), via(2)),
            (&[], via(3), Way::Direct),
            (&[1, 2, 3], via(3), Way::Direct),
            (&[1], via(3), Way::Direct),
        ] {
            let is_well = |it: &str| well.iter().any(|n| is_same(it, &name(*n)));
            assert_eq!(choose_way("pd:1", &now, &members, is_well), expected, "{well:?} {now:?}");
        }
    }
}
