//! Where results wait for their futures.
//!
//! A slab of slots, each behind a lock of its own, so that handing over a result and waking happen
//! outside of the core's lock. Slots are reused and never move; an operation allocates nothing here.
//!
//! A [`Ticket`] carries a generation: a result may be on its way, outside of every lock, while the
//! future it is for is dropped and the slot goes to somebody else.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use anatase_core::{Error, Reply};

/// Names a slot during one use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: u32,
    generation: u32,
}

/// What a future gets.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The operation is over.
    Done(Result<Reply, Error>),
    /// The driver came to its end before the operation did.
    Lost,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Free,
    Waiting(Option<Waker>),
    Over(Outcome),
}

/// Slots of the first chunk; each next one has twice as many.
const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = 26;

#[derive(Debug)]
pub(crate) struct Waiters {
    chunks: [OnceLock<Box<[Mutex<Slot>]>>; CHUNKS],
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    list: Vec<u32>,
    /// Slots from this one on were never used.
    next: u32,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS], free: Mutex::default() }
    }

    fn slot(&self, index: u32) -> MutexGuard<'_, Slot> {
        // Chunk k holds the indices from FIRST·(2ᵏ − 1) on.
        let position = index as usize + FIRST_CHUNK;
        let chunk = (position / FIRST_CHUNK).ilog2() as usize;
        let size = FIRST_CHUNK << chunk;
        let slots = self.chunks[chunk]
            .get_or_init(|| std::iter::repeat_with(Mutex::default).take(size).collect());
        slots[position - size].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot to wait in, with the task to wake.
    pub(crate) fn enter(&self, waker: &Waker) -> Ticket {
        let index = {
            let mut free = self.free();
            free.list.pop().unwrap_or_else(|| {
                let index = free.next;
                free.next += 1;
                index
            })
        };
        let mut slot = self.slot(index);
        slot.state = State::Waiting(Some(waker.clone()));
        Ticket { index, generation: slot.generation }
    }

    /// Puts the outcome into the slot and gives back whom to wake. A ticket that has left is ignored.
    pub(crate) fn finish(&self, ticket: Ticket, outcome: Outcome) -> Option<Waker> {
        let mut slot = self.slot(ticket.index);
        if slot.generation != ticket.generation {
            drop(slot);
            // The outcome, which may own a lot, is dropped after the lock.
            drop(outcome);
            return None;
        }
        match std::mem::replace(&mut slot.state, State::Over(outcome)) {
            State::Waiting(waker) => waker,
            State::Over(_) | State::Free => None,
        }
    }

    /// Takes the outcome and leaves, or waits on.
    pub(crate) fn poll(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut slot = self.slot(ticket.index);
        match &mut slot.state {
            State::Over(_) => {}
            State::Waiting(Some(waker)) if waker.will_wake(cx.waker()) => return Poll::Pending,
            State::Waiting(waker) => {
                let before = waker.replace(cx.waker().clone());
                drop(slot);
                drop(before);
                return Poll::Pending;
            }
            // Not reached by a ticket that is in.
            State::Free => return Poll::Ready(Outcome::Lost),
        }
        match self.vacate(slot, ticket.index) {
            State::Over(outcome) => Poll::Ready(outcome),
            State::Waiting(_) | State::Free => Poll::Ready(Outcome::Lost),
        }
    }

    /// Leaves without waiting on. The outcome, if it was there already.
    pub(crate) fn leave(&self, ticket: Ticket) -> Option<Outcome> {
        let slot = self.slot(ticket.index);
        if slot.generation != ticket.generation {
            return None;
        }
        match self.vacate(slot, ticket.index) {
            State::Over(outcome) => Some(outcome),
            State::Waiting(_) | State::Free => None,
        }
    }

    fn vacate(&self, mut slot: MutexGuard<'_, Slot>, index: u32) -> State {
        let state = std::mem::take(&mut slot.state);
        slot.generation = slot.generation.wrapping_add(1);
        drop(slot);
        self.free().list.push(index);
        state
    }

    /// How many slots are in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let free = self.free();
        free.next as usize - free.list.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn done() -> Outcome {
        Outcome::Done(Ok(Reply::Done))
    }

    #[test]
    fn a_result_wakes_its_waiter_and_frees_the_slot() {
        let waiters = Waiters::new();
        let count = Arc::new(Count::default());
        let waker = count.clone().into();
        let ticket = waiters.enter(&waker);
        assert!(waiters.poll(ticket, &mut Context::from_waker(&waker)).is_pending());
        waiters.finish(ticket, done()).unwrap().wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let outcome = waiters.poll(ticket, &mut Context::from_waker(&waker));
        assert!(matches!(outcome, Poll::Ready(Outcome::Done(Ok(Reply::Done)))));
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn a_late_result_does_not_reach_the_next_in_the_slot() {
        let waiters = Waiters::new();
        let waker = Waker::noop();
        let gone = waiters.enter(waker);
        waiters.leave(gone);
        let next = waiters.enter(waker);
        assert_eq!(next.index, gone.index);
        assert!(waiters.finish(gone, done()).is_none());
        assert!(waiters.poll(next, &mut Context::from_waker(waker)).is_pending());
        waiters.leave(gone);
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn a_future_that_moves_to_another_task_is_woken_there() {
        let waiters = Waiters::new();
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let ticket = waiters.enter(&first.clone().into());
        let waker = second.clone().into();
        assert!(waiters.poll(ticket, &mut Context::from_waker(&waker)).is_pending());
        waiters.finish(ticket, done()).unwrap().wake();
        assert_eq!(first.0.load(Ordering::SeqCst), 0);
        assert_eq!(second.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn every_index_has_a_slot_of_its_own() {
        let waiters = Waiters::new();
        let tickets: Vec<_> = (0..1000).map(|_| waiters.enter(Waker::noop())).collect();
        for (index, ticket) in tickets.iter().enumerate() {
            assert_eq!(ticket.index as usize, index);
            assert!(waiters.finish(*ticket, done()).is_some(), "{index}");
        }
        assert_eq!(waiters.len(), 1000);
    }

    #[test]
    fn threads_share_it() {
        let waiters = Waiters::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut cx = Context::from_waker(Waker::noop());
                    for _ in 0..2000 {
                        let ticket = waiters.enter(Waker::noop());
                        assert!(waiters.poll(ticket, &mut cx).is_pending());
                        assert!(waiters.finish(ticket, done()).is_some());
                        assert!(waiters.poll(ticket, &mut cx).is_ready());
                    }
                });
            }
        });
        assert_eq!(waiters.len(), 0);
    }
}
