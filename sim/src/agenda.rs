//! What will happen, in order of time; and slabs for what it happens to.
//!
//! An entry is small and never searched for: taking something off the agenda is to forget what it
//! names. A stale entry finds nothing, is passed over and is not counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Happening {
    /// A request reaches its server.
    Arrives(Key),
    /// An answer reaches its client.
    Answered(Key),
    /// News reach a client.
    Notice(Key),
    /// A timer of a client, set for the so manieth time.
    Timer(Key, u32),
    /// A task is to be polled.
    Wake(Key),
    /// The future that the world was asked to run is to be polled.
    Main,
    /// Somebody has waited for a lock long enough.
    Parked,
    /// A planned fault strikes.
    Fault(u32),
    /// A fault that lasts ends.
    Mend(Key),
    /// The nemesis strikes with this kind of fault; the number is that of its season.
    Nemesis(u8, u32),
    /// A client that was paused goes on.
    Resume(u32),
    /// A client that crashed starts again.
    Boot(u32),
}

/// The agenda. At one instant it is drawn what comes first; the number makes entries unique.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u32, u64, Happening)>>,
    numbered: u64,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: u64, tie: u32, happening: Happening) {
        self.numbered += 1;
        self.heap.push(Reverse((at, tie, self.numbered, happening)));
    }

    pub(crate) fn peek(&self) -> Option<(u64, Happening)> {
        self.heap.peek().map(|Reverse((at, .., happening))| (*at, *happening))
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Happening)> {
        self.heap.pop().map(|Reverse((at, .., happening))| (at, happening))
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets what is stale, so that an agenda does not grow with timers that were called off.
    pub(crate) fn retain(&mut self, keep: impl Fn(Happening) -> bool) {
        self.heap.retain(|Reverse((.., happening))| keep(*happening));
    }
}

/// Names an entry of a [`Slab`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Values in reused places; a key of an earlier value finds nothing.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// The key that [`Slab::insert`] will give out next.
    pub(crate) fn next_key(&self) -> Key {
        match self.free.last() {
            Some(&index) => Key { index, generation: self.slots[index as usize].0 },
            None => Key { index: self.slots.len() as u32, generation: 0 },
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        match self.free.pop() {
            Some(index) => self.slots[index as usize].1 = Some(value),
            None => self.slots.push((0, Some(value))),
        }
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => value.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => value.as_mut(),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, value) = self.slots.get_mut(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = value.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, value))| {
            let key = Key { index: index as u32, generation: *generation };
            value.as_ref().map(|value| (key, value))
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Removes what `which` says, in order of place.
    pub(crate) fn extract(&mut self, which: impl Fn(&T) -> bool) -> Vec<T> {
        let keys: Vec<Key> =
            self.iter().filter(|(_, value)| which(value)).map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_comes_first_then_the_tie_then_the_order_of_planning() {
        let mut agenda = Agenda::default();
        agenda.plan(2, 0, Happening::Main);
        agenda.plan(1, 5, Happening::Boot(1));
        agenda.plan(1, 4, Happening::Boot(2));
        agenda.plan(1, 4, Happening::Boot(0));
        let order: Vec<_> = std::iter::from_fn(|| agenda.pop()).map(|(_, what)| what).collect();
        let boots = [2, 0, 1].map(Happening::Boot);
        assert_eq!(order, [boots[0], boots[1], boots[2], Happening::Main]);
    }

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::default();
        let a = slab.insert('a');
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        let next = slab.next_key();
        let b = slab.insert('b');
        assert_eq!((next, a.index), (b, b.index));
        assert_eq!((slab.get(a), slab.get(b), slab.len()), (None, Some(&'b'), 1));
        assert_eq!(slab.extract(|_| true), ['b']);
        assert_eq!(slab.len(), 0);
    }
}
