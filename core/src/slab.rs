//! A slab whose handles go stale.
//!
//! Slots are reused in last-in-first-out order, so that a busy core touches the same memory again
//! and again and allocates nothing; each use has its own generation, so that a handle to an earlier
//! use finds nothing. A value can be taken out for the length of a step while its slot stays
//! reserved: machines are consumed by value.

use std::hash::{Hash, Hasher};

use crate::id::Handle;

#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Clone, Debug)]
enum Content<T> {
    /// Free; the next free slot.
    Free(Option<u32>),
    /// In use.
    Held(T),
    /// In use, its value taken out by the step that is running.
    Taken,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: None, len: 0 }
    }

    /// How many slots are in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn insert(&mut self, value: T) -> Handle {
        self.insert_with(|_| value)
    }

    /// Inserts a value that has to know its handle.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Handle) -> T) -> Handle {
        self.len += 1;
        if let Some(index) = self.free {
            let slot = &mut self.slots[index as usize];
            if let Content::Free(next) = slot.content {
                self.free = next;
            }
            let handle = Handle { index, generation: slot.generation };
            slot.content = Content::Held(make(handle));
            return handle;
        }
        let handle = Handle { index: self.slots.len() as u32, generation: 0 };
        self.slots.push(Slot { generation: 0, content: Content::Held(make(handle)) });
        handle
    }

    fn slot(&self, handle: Handle) -> Option<&Slot<T>> {
        self.slots.get(handle.index as usize).filter(|slot| slot.generation == handle.generation)
    }

    fn slot_mut(&mut self, handle: Handle) -> Option<&mut Slot<T>> {
        self.slots
            .get_mut(handle.index as usize)
            .filter(|slot| slot.generation == handle.generation)
    }

    pub(crate) fn get(&self, handle: Handle) -> Option<&T> {
        match &self.slot(handle)?.content {
            Content::Held(value) => Some(value),
            Content::Free(_) | Content::Taken => None,
        }
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        match &mut self.slot_mut(handle)?.content {
            Content::Held(value) => Some(value),
            Content::Free(_) | Content::Taken => None,
        }
    }

    /// Takes the value out and keeps the slot. Follow with [`Slab::put`] or [`Slab::release`].
    pub(crate) fn take(&mut self, handle: Handle) -> Option<T> {
        let slot = self.slot_mut(handle)?;
        match std::mem::replace(&mut slot.content, Content::Taken) {
            Content::Held(value) => Some(value),
            other => {
                slot.content = other;
                None
            }
        }
    }

    /// Puts a taken value back.
    pub(crate) fn put(&mut self, handle: Handle, value: T) {
        if let Some(slot) = self.slot_mut(handle) {
            debug_assert!(matches!(slot.content, Content::Taken), "put without take");
            slot.content = Content::Held(value);
        }
    }

    /// Frees the slot of a taken value.
    pub(crate) fn release(&mut self, handle: Handle) {
        let free = self.free;
        if let Some(slot) = self.slot_mut(handle)
            && !matches!(slot.content, Content::Free(_))
        {
            slot.content = Content::Free(free);
            slot.generation = slot.generation.wrapping_add(1);
            self.free = Some(handle.index);
            self.len -= 1;
        }
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let value = self.take(handle)?;
        self.release(handle);
        Some(value)
    }

    /// In slot order.
    /// How many slots there are, in use or not.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// What is in this slot.
    pub(crate) fn at(&self, index: u32) -> Option<(Handle, &T)> {
        let slot = self.slots.get(index as usize)?;
        match &slot.content {
            Content::Held(value) => Some((Handle { index, generation: slot.generation }, value)),
            Content::Free(_) | Content::Taken => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.content {
            Content::Held(value) => {
                Some((Handle { index: index as u32, generation: slot.generation }, value))
            }
            Content::Free(_) | Content::Taken => None,
        })
    }
}

impl<T: Hash> Hash for Slab<T> {
    /// By what is held, and under which handle. Which free slot is used next, and how often it has been
    /// used, depends on history and is left out: it decides what the next handles are called, and a stale
    /// handle finds nothing in either case. (And in which order a walk over the slots finds things. There
    /// are two: closing stops operations, and the sweep of the region cache goes on from where it was.)
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len.hash(state);
        for (index, slot) in self.slots.iter().enumerate() {
            match &slot.content {
                Content::Held(value) => (index, slot.generation, value).hash(state),
                Content::Taken => (index, slot.generation).hash(state),
                Content::Free(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_finds_its_own_value_and_no_later_one() {
        let mut slab = Slab::new();
        let a = slab.insert('a');
        let b = slab.insert('b');
        assert_eq!((slab.get(a), slab.get(b), slab.len()), (Some(&'a'), Some(&'b'), 2));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert('c');
        assert_eq!(c.index, a.index);
        assert_eq!((slab.get(a), slab.get(c)), (None, Some(&'c')));
        assert_eq!(slab.iter().map(|(_, v)| *v).collect::<String>(), "cb");
    }

    #[test]
    fn how_free_slots_came_to_be_is_no_part_of_a_digest() {
        use crate::digest::digest_of;
        let mut one = Slab::new();
        let [a, b] = [one.insert('a'), one.insert('b')];
        let mut other = one.clone();
        let before = digest_of(&one);
        for handle in [a, b] {
            one.remove(handle);
        }
        for handle in [b, a] {
            other.remove(handle);
        }
        assert_eq!(digest_of(&one), digest_of(&other));
        assert_eq!(digest_of(&one), digest_of(&Slab::<char>::new()));
        let a = one.insert('a');
        let b = other.insert('a');
        assert_ne!(a, b);
        assert_ne!(digest_of(&one), digest_of(&other), "but what they are called is");
        assert_ne!(digest_of(&one), before);
    }

    #[test]
    fn a_taken_slot_is_reserved_until_put_or_released() {
        let mut slab = Slab::new();
        let a = slab.insert(1);
        assert_eq!(slab.take(a), Some(1));
        assert_eq!((slab.take(a), slab.get(a), slab.len()), (None, None, 1));
        let b = slab.insert(2);
        assert_ne!(a.index, b.index);
        slab.put(a, 3);
        assert_eq!(slab.get(a), Some(&3));
        assert_eq!(slab.take(a), Some(3));
        slab.release(a);
        slab.release(a);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.insert(4).index, a.index);
    }
}
