//! All waits of a core in one structure.
//!
//! A binary heap with lazy deletion: setting and cancelling allocate nothing in steady state, the
//! earliest wait is known in constant time, and what was cancelled is swept out before it is more
//! than the larger half.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{Hash, Hasher};

use crate::command::{WakeReason, Wakeup};
use crate::id::Handle;
use crate::slab::Slab;
use crate::time::Instant;

/// Names a wait. Stale once it has fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimerId(Handle);

#[derive(Clone, Debug)]
pub(crate) struct Timers<T> {
    live: Slab<Timer<T>>,
    heap: BinaryHeap<Reverse<(Instant, u64, Handle)>>,
    /// Breaks ties in the order of setting.
    set: u64,
}

#[derive(Clone, Debug)]
struct Timer<T> {
    at: Instant,
    order: u64,
    reason: WakeReason,
    target: T,
}

impl<T: Copy> Timers<T> {
    pub(crate) const fn new() -> Self {
        Self { live: Slab::new(), heap: BinaryHeap::new(), set: 0 }
    }

    pub(crate) fn set(&mut self, at: Instant, reason: WakeReason, target: T) -> TimerId {
        self.set += 1;
        let handle = self.live.insert(Timer { at, order: self.set, reason, target });
        self.heap.push(Reverse((at, self.set, handle)));
        TimerId(handle)
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        if self.live.remove(id.0).is_some() {
            self.sweep();
        }
    }

    /// When a wait is over; `None` if it has fired or was cancelled.
    pub(crate) fn at(&self, id: TimerId) -> Option<Instant> {
        self.live.get(id.0).map(|timer| timer.at)
    }

    /// The next wait that is over at `now`.
    pub(crate) fn fire(&mut self, now: Instant) -> Option<T> {
        let &Reverse((at, _, handle)) = self.heap.peek()?;
        if at > now || at == Instant::NEVER {
            return None;
        }
        self.heap.pop();
        let timer = self.live.remove(handle);
        self.sweep();
        timer.map(|timer| timer.target)
    }

    /// A wait for [`Instant::NEVER`] is none: nobody has to wake up for it.
    pub(crate) fn next(&self) -> Option<Wakeup> {
        let &Reverse((at, _, handle)) = self.heap.peek()?;
        let timer = self.live.get(handle)?;
        (at < Instant::NEVER).then_some(Wakeup { at, reason: timer.reason })
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.live.len()
    }

    /// Keeps the top of the heap live, and the heap within twice the live waits.
    fn sweep(&mut self) {
        while let Some(Reverse((_, _, handle))) = self.heap.peek() {
            if self.live.get(*handle).is_some() {
                break;
            }
            self.heap.pop();
        }
        if self.heap.len() > 64 + 2 * self.live.len() {
            let live = &self.live;
            self.heap.retain(|Reverse((_, _, handle))| live.get(*handle).is_some());
        }
    }
}

impl<T: Hash> Hash for Timers<T> {
    /// By what will fire, when, and in which order. The heap's shape depends on history and is left out,
    /// and so is how many waits there have been: what is set from now on comes after all of these.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut live: Vec<_> =
            self.live.iter().map(|(handle, timer)| (timer.order, handle, timer)).collect();
        live.sort_unstable_by_key(|(order, ..)| *order);
        live.len().hash(state);
        for (_, handle, timer) in live {
            (handle, timer.at, timer.reason, &timer.target).hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn fires_in_order_of_time_then_of_setting() {
        let mut timers = Timers::new();
        timers.set(at(20), WakeReason::Backoff, 'c');
        timers.set(at(10), WakeReason::Backoff, 'a');
        timers.set(at(10), WakeReason::Deadline, 'b');
        assert_eq!(timers.next(), Some(Wakeup { at: at(10), reason: WakeReason::Backoff }));
        assert_eq!(timers.fire(at(9)), None);
        let fired: Vec<_> = std::iter::from_fn(|| timers.fire(at(20))).collect();
        assert_eq!(fired, ['a', 'b', 'c']);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn what_is_cancelled_neither_fires_nor_is_waited_for() {
        let mut timers = Timers::new();
        let early = timers.set(at(1), WakeReason::Backoff, 1);
        timers.set(at(2), WakeReason::Backoff, 2);
        timers.cancel(early);
        timers.cancel(early);
        assert_eq!(timers.next().map(|wakeup| wakeup.at), Some(at(2)));
        assert_eq!(timers.fire(at(5)), Some(2));
        assert_eq!(timers.fire(at(5)), None);
    }

    /// Were it over at the end of time, whatever then waits for a while would be over at once, too,
    /// and a driver that skips from wake-up to wake-up would go round for ever.
    #[test]
    fn never_is_not_waited_for() {
        let mut timers = Timers::new();
        let never = timers.set(Instant::NEVER, WakeReason::Deadline, 0);
        assert_eq!((timers.next(), timers.fire(Instant::NEVER)), (None, None));
        timers.set(at(5), WakeReason::Backoff, 1);
        assert_eq!(timers.next().map(|wakeup| wakeup.at), Some(at(5)));
        assert_eq!((timers.fire(Instant::NEVER), timers.fire(Instant::NEVER)), (Some(1), None));
        timers.cancel(never);
        assert_eq!(timers.len(), 0);
    }

    /// A million operations that end long before their deadline must not leave a million entries.
    #[test]
    fn cancelled_waits_do_not_pile_up() {
        let mut timers = Timers::new();
        timers.set(at(1), WakeReason::Backoff, 0);
        for n in 0..100_000 {
            let id = timers.set(at(1_000_000 + n), WakeReason::Deadline, 1);
            timers.cancel(id);
        }
        assert_eq!(timers.len(), 1);
        assert!(timers.heap.len() <= 66, "{}", timers.heap.len());
    }
}
