//! Which members of PD can be reached (`control-plane.md` §14.1, «health»).
//!
//! ```text
//! Asleep ─▶ Due(in a second) ─▶ looking at every member ─▶ Due …
//!    ▲          │
//!    └──────────┘ nothing is asked of PD: a client that does nothing looks at nobody
//! ```
//!
//! Each second, as long as PD is asked something, every member gets a health check. What comes of it:
//!
//! | the leader | a follower | then |
//! |---|---|---|
//! | cannot be reached | can | with forwarding, calls go through that follower (`way.rs`) |
//! | can again | | calls go to it directly |
//! | | cannot | it is not asked about regions, and passes on no timestamps |
//!
//! Nothing of this is done where it would change nothing: with forwarding, follower handle and follower
//! proxy all off, as they are by default, or with a single member. The reference looks at its members
//! whether they are used or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anatase_proto::health::HealthCheckRequest;
use anatase_proto::rpc::Rpc;

use super::is_same;
use super::way::{Way, choose_way};
use crate::command::{Destination, WakeReason};
use crate::error::{Failure, GrpcStatus};
use crate::id::CommandId;
use crate::shared::{CommandOwner, Shared, TimerTarget};
use crate::time::Instant;
use crate::timer::TimerId;
use crate::wire::health_reply::{Serving, serving};
use crate::wire::{Head, Request, Response};

/// How often members are looked at.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a follower may take to answer.
pub(super) const FOLLOWER_LIMIT: Duration =
    Duration::from_nanos(HEALTH_INTERVAL.as_nanos() as u64 / 3);

#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Health {
    /// When members are looked at next, if anything is asked by then.
    due: Option<Instant>,
    timer: Option<TimerId>,
    /// Looks under way, by their numbers.
    looks: BTreeMap<u64, Look>,
    number: u64,
}

#[derive(Clone, Debug, Hash)]
struct Look {
    member: Arc<str>,
    command: CommandId,
    timer: TimerId,
}

/// Whether the member can be reached: «network failure = Unavailable/DeadlineExceeded or not SERVING».
fn is_reached(answer: Result<Response, Failure>) -> bool {
    match answer.map(serving) {
        Ok(Ok(Serving::Yes)) => true,
        Ok(Ok(Serving::No | Serving::Unclear)) => false,
        // An answer that makes no sense is one.
        Ok(Err(_)) => true,
        Err(failure) => match failure.reason().status {
            None | Some(GrpcStatus::UNAVAILABLE | GrpcStatus::DEADLINE_EXCEEDED) => false,
            Some(_) => true,
        },
    }
}

impl Shared {
    fn pd_health_matters(&self) -> bool {
        let config = &self.config;
        let used =
            config.enable_forwarding || config.enable_follower_handle || config.tso_follower_proxy;
        used && self.pd.members.len() > 1 && self.pd.leader.is_some()
    }

    /// PD is being asked something: its members are looked at, if that is due.
    pub(super) fn pd_look_after_members(&mut self) {
        if !self.pd_health_matters() {
            return;
        }
        let now = self.now;
        match self.pd.health.due {
            // They were found this very moment.
            None => self.pd.health.due = Some(now + HEALTH_INTERVAL),
            Some(due) if now >= due => self.pd_look_at_members(),
            Some(_) => {}
        }
        self.pd_set_health_timer();
    }

    /// Without a timer a call that is stuck would be found out by nobody.
    fn pd_set_health_timer(&mut self) {
        if let (Some(due), None) = (self.pd.health.due, self.pd.health.timer) {
            let timer = self.set_timer(due, WakeReason::PdRefresh, TimerTarget::PdHealth);
            self.pd.health.timer = Some(timer);
        }
    }

    pub(crate) fn pd_health_timer(&mut self) {
        self.pd.health.timer = None;
        let asked = !self.pd.tasks.is_empty() || self.tso.is_under_way();
        if !asked || !self.pd_health_matters() {
            return;
        }
        if self.pd.health.due.is_none_or(|due| self.now >= due) {
            self.pd_look_at_members();
        }
        self.pd_set_health_timer();
    }

    fn pd_look_at_members(&mut self) {
        self.pd.health.due = Some(self.now + HEALTH_INTERVAL);
        for member in self.pd.members.clone() {
            if self.pd.health.looks.values().any(|look| look.member == member) {
                continue;
            }
            let leads = self.pd.leader.as_ref().is_some_and(|leader| is_same(leader, &member));
            let limit = if leads { self.config.pd_member_timeout } else { FOLLOWER_LIMIT };
            let (number, deadline) = (self.pd.health.number, self.now + limit);
            self.pd.health.number += 1;
            let request =
                Request::new(Rpc::HealthCheck, Head::None, &HealthCheckRequest::default());
            let to = Destination { address: member.clone(), store: None };
            let command = self.send(CommandOwner::PdLook(number), to, deadline, request);
            let target = TimerTarget::PdLook(number);
            let timer = self.set_timer(deadline, WakeReason::AttemptTimeout, target);
            self.pd.health.looks.insert(number, Look { member, command, timer });
        }
    }

    pub(crate) fn pd_look_timer(&mut self, number: u64) {
        if let Some(look) = self.pd.health.looks.remove(&number) {
            self.abort(look.command);
            self.pd_looked(&look.member, false);
        }
    }

    pub(crate) fn pd_look_answer(&mut self, number: u64, answer: Result<Response, Failure>) {
        if let Some(look) = self.pd.health.looks.remove(&number) {
            self.timers.cancel(look.timer);
            self.pd_looked(&look.member, is_reached(answer));
        }
    }

    fn pd_looked(&mut self, member: &Arc<str>, reached: bool) {
        match reached {
            true => self.pd.heard_from(member),
            false => self.pd.found_faulty(member),
        }
        if !self.config.enable_forwarding {
            return;
        }
        let Some(leader) = self.pd.leader.clone() else {
            return;
        };
        let before = self.pd.route();
        self.pd.way =
            choose_way(&leader, &self.pd.way, &self.pd.members, |it| !self.pd.is_faulty(it));
        if let (Way::Forwarded { .. }, Some(before)) = (&self.pd.way, before)
            && self.pd.route().as_ref() != Some(&before)
        {
            self.tso_leave_way(&before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::serving_answer;

    /// control-plane.md §14.1: «network failure = Unavailable/DeadlineExceeded or not SERVING».
    #[test]
    fn what_a_health_check_says_about_the_way() {
        for (says, reached) in [
            ("serving", true),
            ("not_serving", false),
            ("unknown", false),
            ("service_unknown", false),
        ] {
            assert_eq!(is_reached(Ok(serving_answer(says))), reached, "{says}");
        }
        for code in 0..20 {
            let failure = Failure::status(GrpcStatus(code), "x");
            assert_eq!(is_reached(Err(failure)), ![4, 14].contains(&code), "{code}");
        }
        assert!(!is_reached(Err(Failure::not_sent("connection refused"))));
        assert!(!is_reached(Err(Failure::maybe_executed("connection lost"))));
    }

    /// control-plane.md §14.1: «leader and followers every 1 s (followers ⅓ s timeout)».
    #[test]
    fn each_second_and_a_third_of_it_for_a_follower() {
        assert_eq!(HEALTH_INTERVAL.as_millis(), 1_000);
        assert_eq!(FOLLOWER_LIMIT.as_millis(), 333);
    }
}
