//! Parked requests, and the alarm that wakes them when nothing else does.
//!
//! Whoever has done something to the cluster answers, before the lock on it is let go of, the
//! requests that this has woken. The alarm is one task. It sleeps until time alone would wake the
//! next, and is told when that moves; while nobody waits it does nothing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, Weak},
    time::Duration,
};

use anatase_proto::kvrpcpb::PessimisticLockResponse;
use tokio::sync::{oneshot, watch};

use super::Inner;
use crate::{Cluster, answer::Answer, lock_wait::Ticket};

/// An answer that comes later.
pub(super) type Later = oneshot::Receiver<Answer<PessimisticLockResponse>>;

pub(super) struct Waiting {
    answers: Mutex<BTreeMap<Ticket, oneshot::Sender<Answer<PessimisticLockResponse>>>>,
    /// When the alarm is to wake somebody, in milliseconds of the cluster's time.
    next: watch::Sender<Option<u64>>,
}

impl Waiting {
    pub(super) fn new() -> (Self, Alarm) {
        let (next, told) = watch::channel(None);
        (Waiting { answers: Mutex::default(), next }, Alarm { told })
    }

    /// The answer to a request that was just parked. The lock on the cluster must still be held,
    /// or the answer may have been missed.
    pub(super) fn later(&self, ticket: Ticket) -> Later {
        let (answer, later) = oneshot::channel();
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, answer);
        later
    }

    /// Answers who was woken, and sets the alarm; not where the owner keeps the time.
    pub(super) fn settle(&self, cluster: &mut Cluster, own_clock: bool) {
        for woken in cluster.take_woken() {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(answer) = answers.remove(&woken.ticket) {
                // The client may be gone.
                let _ = answer.send(woken.answer);
            }
        }
        let next = cluster.next_wake_ms().filter(|_| !own_clock);
        self.next.send_if_modified(|told| std::mem::replace(told, next) != next);
    }
}

pub(super) struct Alarm {
    told: watch::Receiver<Option<u64>>,
}

impl Alarm {
    /// Ends with the server.
    pub(super) async fn run(mut self, server: Weak<Inner>) {
        loop {
            let next = *self.told.borrow_and_update();
            let sleep = match (next, server.upgrade()) {
                (_, None) => return,
                (None, Some(_)) => None,
                // Looking at the cluster wakes who is due; then the next may be another.
                (Some(_), Some(server)) => server.with(|cluster| {
                    let at = cluster.next_wake_ms()?;
                    Some(Duration::from_millis(at.saturating_sub(cluster.now_ms()).max(1)))
                }),
            };
            let changed = match sleep {
                None => self.told.changed().await,
                Some(sleep) => tokio::select! {
                    changed = self.told.changed() => changed,
                    () = tokio::time::sleep(sleep) => continue,
                },
            };
            if changed.is_err() {
                return;
            }
        }
    }
}
