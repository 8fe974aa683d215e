//! Commands in flight.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anatase_core::CommandId;

use crate::signal::Signal;

/// A command that waits for its answer, shared by the task that waits, the body that sends and the
/// table that can abort.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: CommandId,
    /// Raised when nobody wants the answer any more.
    pub(crate) aborted: Signal,
    sent: AtomicBool,
}

impl Flight {
    pub(crate) fn new(id: CommandId) -> Arc<Self> {
        Arc::new(Self { id, aborted: Signal::new(), sent: AtomicBool::new(false) })
    }

    /// HTTP/2 has taken bytes of the message: from here on the server may have it.
    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    /// Whether the server may have the message. While this is false, no handler can have run: a
    /// gRPC server needs the whole message first.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }
}

/// The commands in flight by id.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<HashMap<u64, Arc<Flight>>>);

impl Calls {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, id: CommandId) -> Arc<Flight> {
        let flight = Flight::new(id);
        self.lock().insert(id.to_u64(), flight.clone());
        flight
    }

    /// Forgets a command; false if it had been aborted, so that nobody wants its answer.
    pub(crate) fn finish(&self, flight: &Flight) -> bool {
        self.lock().remove(&flight.id.to_u64()).is_some()
    }

    pub(crate) fn abort(&self, id: CommandId) {
        // The lock is released before the waiting task is woken.
        let flight = self.lock().remove(&id.to_u64());
        if let Some(flight) = flight {
            flight.aborted.raise();
        }
    }

    pub(crate) fn abort_all(&self) {
        let all = std::mem::take(&mut *self.lock());
        for flight in all.into_values() {
            flight.aborted.raise();
        }
    }
}
