//! Finding out whether a store lives (`control-plane.md` §5.2, §5.3).
//!
//! A probe is a `grpc.health.v1.Health/Check` with one second to be answered. It is sent when an
//! attempt has failed in a way that may mean the end of the store; and when an attempt has been out for
//! [`Config::probe_after`](crate::Config::probe_after) while the store has said nothing to anybody. The
//! second finds the store that is *frozen*: it accepts and never answers, and neither a broken
//! connection nor the attempt's own limit of thirty seconds tells in time. A store that is merely slow
//! with one request answers the probe and is left alone.
//!
//! ```text
//! attempt ── 1 s of silence ──▶ probe ── 1 s of silence ──▶ dead: the attempt may have been executed,
//!                                 │                         the call goes on elsewhere
//!                                 └─ answered ─▶ silent for another second? again
//! ```
//!
//! The probe goes over the connection that requests go over (the reference opens one of its own): one that
//! swallows everything counts as a dead store until the transport's keepalive closes it.
//!
//! In the reference the call that failed waits for the probe, and only such failures probe. Here
//! nobody waits: the call backs off and asks another replica meanwhile, as it would anyway.

use anatase_proto::health::HealthCheckRequest;
use anatase_proto::rpc::Rpc;

use crate::command::{Destination, WakeReason};
use crate::error::{Error, Failure, GrpcStatus};
use crate::id::{CommandId, StoreId};
use crate::shared::{CallWake, CommandOwner, Shared, TimerTarget};
use crate::store::Care;
use crate::time::Instant;
use crate::timer::TimerId;
use crate::wire::health_reply::{Serving, serving};
use crate::wire::{Head, Request, Response};

/// A health check that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Probe {
    pub(super) command: CommandId,
    pub(super) timer: TimerId,
    pub(super) sent: Instant,
}

/// What the answer to a health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It serves, or it at least answers: a server that does not know the service, or offers no health
    /// checks at all, is not dead.
    Alive,
    Dead,
}

/// §5.2. Everything unclear counts for life: the reference calls such a store «unknown» and gives its
/// regions up, but goes on asking it.
fn verdict(answer: Result<Response, Failure>) -> Verdict {
    match answer.map(serving) {
        Ok(Ok(Serving::Yes | Serving::Unclear) | Err(_)) => Verdict::Alive,
        Ok(Ok(Serving::No)) => Verdict::Dead,
        Err(failure) => match failure.reason().status {
            Some(GrpcStatus::UNIMPLEMENTED) => Verdict::Alive,
            Some(_) | None => Verdict::Dead,
        },
    }
}

impl Shared {
    /// A request to the store failed, or goes long without an answer.
    pub(crate) fn suspect_store(&mut self, store: StoreId) {
        let care = self.stores.suspect(store);
        self.care_for(store, care);
    }

    /// A call would use the store if it were reachable.
    pub(crate) fn want_store(&mut self, store: StoreId) {
        let care = self.stores.wanted(store, self.now);
        self.care_for(store, care);
    }

    fn care_for(&mut self, store: StoreId, care: Care) {
        let Care::Probe { address, ask } = care else {
            return;
        };
        if ask {
            self.pd_ask_store(store);
        }
        let deadline = self.now + self.config.probe_timeout;
        let request = Request::new(Rpc::HealthCheck, Head::None, &HealthCheckRequest::default());
        let to = Destination { address, store: Some(store) };
        let command = self.send(CommandOwner::Probe(store), to, deadline, request);
        let timer = self.set_timer(deadline, WakeReason::Probe, TimerTarget::Probe(store));
        self.stats.probes += 1;
        self.stores.probing(store, Probe { command, timer, sent: self.now });
    }

    /// A probe that need not be answered any more.
    pub(crate) fn withdraw_probe(&mut self, probe: Option<Probe>) {
        if let Some(probe) = probe {
            self.timers.cancel(probe.timer);
            self.abort(probe.command);
        }
    }

    pub(crate) fn probe_answer(&mut self, store: StoreId, answer: Result<Response, Failure>) {
        let Some(probe) = self.stores.probe(store) else {
            return;
        };
        self.timers.cancel(probe.timer);
        match verdict(answer) {
            Verdict::Alive => {
                self.stores.answered(store, None, self.now);
            }
            Verdict::Dead => self.store_died(store, probe),
        }
    }

    pub(crate) fn probe_timer(&mut self, store: StoreId) {
        if let Some(probe) = self.stores.probe(store) {
            self.abort(probe.command);
            self.store_died(store, probe);
        }
    }

    /// A dead store answers nothing: attempts that have waited for at least as long as the probe are
    /// given up. It takes a walk over the calls, but a store does not die often; a list of calls per
    /// store would cost every attempt.
    fn store_died(&mut self, store: StoreId, probe: Probe) {
        if self.stores.found_dead(store, self.now) {
            self.pd_ask_store(store);
        }
        let hopeless: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.has_waited_for(store, probe.sent))
            .map(|(handle, _)| handle)
            .collect();
        for call in hopeless {
            self.wake_call(call, CallWake::StoreDied);
        }
    }

    /// PD's answer to the question where a store is.
    pub(crate) fn on_store_answer(
        &mut self,
        store: StoreId,
        answer: Result<Option<std::sync::Arc<str>>, Error>,
    ) {
        let (calls, result, probe) = self.stores.resolved(store, answer);
        self.withdraw_probe(probe);
        for call in calls {
            self.wake_call(call, CallWake::Store(result.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use anatase_proto::health::HealthCheckResponse;

    use super::*;

    /// §5.2: SERVING → reachable; UNKNOWN, SERVICE_UNKNOWN → unknown; others, errors → unreachable.
    #[test]
    fn what_a_health_check_says() {
        let says = |status| Ok(Response::HealthCheck(HealthCheckResponse { status }));
        let rows = [
            ("UNKNOWN", says(0), Verdict::Alive),
            ("SERVING", says(1), Verdict::Alive),
            ("NOT_SERVING", says(2), Verdict::Dead),
            ("SERVICE_UNKNOWN", says(3), Verdict::Alive),
            ("a word not known here", says(99), Verdict::Alive),
            ("no health checks", Err(Failure::status(GrpcStatus(12), "no")), Verdict::Alive),
            ("unavailable", Err(Failure::status(GrpcStatus(14), "no")), Verdict::Dead),
            ("no connection", Err(Failure::not_sent("no")), Verdict::Dead),
            ("lost", Err(Failure::maybe_executed("no")), Verdict::Dead),
        ];
        for (row, answer, expected) in rows {
            assert_eq!(verdict(answer), expected, "{row}");
        }
    }
}
