//! A flag that one task waits for.
//!
//! It stands in for a channel where there is nothing to send: «stop», «the peer has spoken». It
//! needs no runtime and no allocation besides the `Arc` that its two sides share anyway.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Raised once, by anybody; awaited by one task at a time (the last to poll is the one woken).
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    pub(crate) const fn new() -> Self {
        Self { raised: AtomicBool::new(false), waker: Mutex::new(None) }
    }

    /// Raises it and wakes the waiting task. Once raised it stays so.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_raised() {
            return Poll::Ready(());
        }
        let mut slot = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *slot = Some(cx.waker().clone()),
        }
        drop(slot);
        // Raised between the first look and the registration: nobody would wake us.
        if self.is_raised() { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn raising_wakes_the_last_who_asked_and_stays() {
        let signal = Signal::new();
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (one, two) = (first.clone().into(), second.clone().into());
        assert!(signal.poll(&mut Context::from_waker(&one)).is_pending());
        assert!(signal.poll(&mut Context::from_waker(&two)).is_pending());
        signal.raise();
        signal.raise();
        assert_eq!(first.0.load(Ordering::SeqCst), 0);
        assert_eq!(second.0.load(Ordering::SeqCst), 1);
        assert!(signal.poll(&mut Context::from_waker(&one)).is_ready());
    }
}
