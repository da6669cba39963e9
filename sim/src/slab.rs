//! A vector with holes: values that keep their place, named by index and generation.
//!
//! A [`Key`] outlives its value harmlessly: the generation of a place grows with each removal, so a late event
//! finds nothing instead of a stranger. Places are reused last-in first-out; order never depends on addresses.

use std::ops::{Index, IndexMut};

/// The name of a value in a [`Slab`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    /// The place.
    pub(crate) index: u32,
    /// Which of the values that were there.
    pub(crate) generation: u32,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The vector with holes.
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let Some(index) = self.free.pop() else {
            let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 objects");
            self.slots.push(Slot { generation: 0, value: Some(value) });
            return Key { index, generation: 0 };
        };
        let slot = &mut self.slots[index as usize];
        assert!(slot.value.is_none());
        slot.value = Some(value);
        Key { index, generation: slot.generation }
    }

    /// Takes the value out. Its key means nothing from now on.
    pub(crate) fn remove(&mut self, key: Key) -> T {
        let slot = &mut self.slots[key.index as usize];
        assert_eq!(slot.generation, key.generation, "the key of a value that is gone");
        let value = slot.value.take().expect("a value of this generation");
        // A generation that wraps would let a key of long ago in: such a place is not used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(key.index);
        }
        value
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        self.slots
            .get(key.index as usize)
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.value.as_ref())
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slots
            .get_mut(key.index as usize)
            .filter(|slot| slot.generation == key.generation)
            .and_then(|slot| slot.value.as_mut())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation };
            slot.value.as_ref().map(|value| (key, value))
        })
    }
}

impl<T> Index<Key> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, key: Key) -> &T {
        self.get(key).expect("a key whose value is there")
    }
}

impl<T> IndexMut<Key> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("a key whose value is there")
    }
}
