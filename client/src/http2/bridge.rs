//! A [`Runtime`] as hyper's executor and timer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use crate::runtime::{Instant, Runtime};

/// Spawns what hyper wants spawned: the connection itself and one task for each call.
///
/// In an `Arc` because hyper wants it `Unpin`, which a runtime need not be.
pub(crate) struct Exec<R>(pub(crate) Arc<R>);

impl<R> Clone for Exec<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Runtime, F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Exec<R> {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Times hyper's keepalive by the runtime's clock, so that a simulated clock drives it as well.
pub(crate) struct Timer<R> {
    runtime: R,
    /// The same moment on both clocks.
    anchor: (StdInstant, Instant),
}

impl<R: Runtime> Timer<R> {
    pub(crate) fn new(runtime: R) -> Self {
        let anchor = (StdInstant::now(), runtime.now());
        Self { runtime, anchor }
    }

    fn sleep_to(&self, at: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let sleep: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(self.runtime.sleep_until(at));
        Box::pin(Sleep::new(sleep))
    }
}

impl<R: Runtime> hyper::rt::Timer for Timer<R> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_to(self.runtime.now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_to(self.anchor.1 + deadline.saturating_duration_since(self.anchor.0))
    }

    fn now(&self) -> StdInstant {
        self.anchor.0 + self.runtime.now().since(self.anchor.1)
    }
}

impl<R> fmt::Debug for Timer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

/// hyper wants a `Sync` sleep and a [`Runtime`] promises a `Send` one: the mutex, which is never
/// locked, makes up the difference.
///
/// A runtime's sleep may be any future, and those must not be polled when they are over; hyper's
/// keepalive does.
struct Sleep(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Sleep {
    fn new(sleep: Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        Self(Mutex::new(Some(sleep)))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(going) = sleep else { return Poll::Ready(()) };
        let polled = going.as_mut().poll(cx);
        if polled.is_ready() {
            *sleep = None;
        }
        polled
    }
}

impl hyper::rt::Sleep for Sleep {}

#[cfg(test)]
mod tests {
    use super::*;

    /// hyper's keepalive polls a sleep that is over once more, when the connection had become idle by
    /// the time it was due.
    #[test]
    fn a_sleep_that_is_over_stays_over() {
        let mut sleep = Sleep::new(Box::pin(async {}));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..3 {
            assert_eq!(Pin::new(&mut sleep).poll(&mut cx), Poll::Ready(()));
        }
    }
}
