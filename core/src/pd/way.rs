//! The way to PD (`control-plane.md` §14.1, §14.2; `wire.md` §1).
//!
//! ```text
//! to the leader     Direct ─▶ Forwarded(via)      it cannot be reached, and a follower that can
//!                     ▲           │               still names it
//!                     └───────────┘               a look at the leader succeeds; one a second, and
//!                                                 only while something is asked
//! ```
//!
//! A forwarded call goes to a follower with the leader's URL in its metadata. With forwarding
//! disabled, the default as in client-go, the way is always direct.
//!
//! Questions about regions may go to any member, if that is enabled (by default it is not, as in
//! client-go): they are dealt out in turn. A follower that does not know the answer, or gives none,
//! is left out for ten seconds and the leader is asked instead, once and at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anatase_proto::pdpb;
use anatase_proto::rpc::Rpc;

use super::{Pd, Trouble, is_same};
use crate::command::{Destination, WakeReason};
use crate::error::{Error, Failure};
use crate::id::CommandId;
use crate::shared::{CommandOwner, Shared, TimerTarget};
use crate::time::Instant;
use crate::timer::TimerId;
use crate::wire::{Head, Request, Response, reply};

/// How often a leader that could not be reached is looked at (§14.1: health, every second).
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// For how long a follower that could not answer is not asked (§14.1).
const LEFT_OUT: Duration = Duration::from_secs(10);

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
    Forwarded {
        via: Arc<str>,
        /// When the leader is looked at again.
        look_at: Instant,
        /// A look is under way.
        look: Option<(CommandId, TimerId)>,
    },
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
            Way::Forwarded { via, .. } => {
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
            if !self.readers.left_out.contains_key(member) {
                let to = Destination { address: member.clone(), store: None };
                return Some(Route { to, forward_to: None, by_follower: true });
            }
        }
        self.route()
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
        if self.pd.route().as_ref() != Some(route) {
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
        self.pd_lose_way();
        self.pd.leader = None;
        self.pd_discover();
        true
    }

    fn pd_lose_way(&mut self) {
        if let Way::Forwarded { look: Some((command, timer)), .. } = self.pd.way {
            self.abort(command);
            self.timers.cancel(timer);
        }
        self.pd.way = Way::Direct;
    }

    /// The member at `by` named the leader: the way there.
    pub(super) fn pd_find_way(&mut self, by: &Arc<str>, leader: &Arc<str>) {
        let forward =
            self.config.enable_forwarding && self.pd.is_faulty(leader) && !is_same(by, leader);
        match (&self.pd.way, forward) {
            (Way::Forwarded { .. }, true) if self.pd.leader.as_ref() == Some(leader) => {}
            (_, true) => {
                self.pd_lose_way();
                let look_at = self.now + LOOK_AGAIN;
                self.pd.way = Way::Forwarded { via: by.clone(), look_at, look: None };
            }
            (_, false) => self.pd_lose_way(),
        }
    }

    /// Looks whether a leader that calls are forwarded to can be reached again, if it is time to.
    pub(crate) fn pd_look_at_leader(&mut self) {
        let now = self.now;
        let Way::Forwarded { look_at, look: None, .. } = self.pd.way else {
            return;
        };
        let Some(leader) = self.pd.leader.clone() else {
            return;
        };
        if now < look_at {
            return;
        }
        let deadline = now + self.config.pd_member_timeout;
        let request =
            Request::new(Rpc::PdGetMembers, Head::None, &pdpb::GetMembersRequest::default());
        let to = Destination { address: leader, store: None };
        let command = self.send(CommandOwner::PdLook, to, deadline, request);
        let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, TimerTarget::PdLook);
        if let Way::Forwarded { look_at, look, .. } = &mut self.pd.way {
            *look_at = now + LOOK_AGAIN;
            *look = Some((command, timer));
        }
    }

    pub(crate) fn pd_look_timer(&mut self) {
        if let Way::Forwarded { look, .. } = &mut self.pd.way
            && let Some((command, _)) = look.take()
        {
            self.abort(command);
        }
    }

    pub(crate) fn pd_look_answer(&mut self, answer: Result<Response, Failure>) {
        let Way::Forwarded { look, .. } = &mut self.pd.way else {
            return;
        };
        if let Some((_, timer)) = look.take() {
            self.timers.cancel(timer);
        }
        let Some(leader) = self.pd.leader.clone() else {
            return;
        };
        let Ok(members) = answer.map_err(|_| ()).and_then(|it| reply::members(it).map_err(drop))
        else {
            return;
        };
        if members.cluster_id == self.pd.cluster_id
            && members.leader.is_some_and(|named| is_same(&named, &leader))
        {
            self.pd.heard_from(&leader);
            self.pd.way = Way::Direct;
        }
    }
}
