//! All slabs of the OS process, for a signal handler that asks whose guard an address is in, and for a debugger that looks for
//! coroutines.
//!
//! A list that only grows: entries are never freed, and those of slabs that are gone are used again, so a reader needs
//! no lock and never follows a dangling pointer. An entry's `base` says what state it is in:
//!
//! | `base` | state | who may change it |
//! |---|---|---|
//! | 0 | free | anyone: by compare-and-swap to 1 |
//! | 1 | being filled | whoever claimed it |
//! | an address | a slab | the slab's owner, who sets 0 |
//!
//! A reader takes `base` before and after it has read the rest, and skips the entry if they differ. It may still skip or
//! misread an entry that changes hands while it looks: never that of the slab on which its own thread has faulted,
//! which is mapped and registered as long as that thread runs on it.

use std::mem::offset_of;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::slab::Layout;

const FREE: usize = 0;
const FILLING: usize = 1;

/// A slab as the handler needs to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) base: usize,
    pub(super) slots: usize,
    /// The number of its first slot.
    pub(super) first: u32,
    pub(super) layout: Layout,
}

/// A place in the list.
#[derive(Default)]
pub(crate) struct Entry {
    base: AtomicUsize,
    /// `slots`, `first`, and the layout's `guard`, `size`, `control` and `big`.
    rest: [AtomicUsize; 6],
    /// How many of its slots, from the first on, were ever used; and whose they are, as [`StackOptions::owner`] has it. For debuggers.
    ///
    /// [`StackOptions::owner`]: super::StackOptions::owner
    used: AtomicUsize,
    owner: AtomicUsize,
    /// Written once, before the entry is in the list.
    next: AtomicPtr<Entry>,
}

pub(crate) static HEAD: Head = AtomicPtr::new(null_mut());

/// Makes a slab known.
pub(super) fn add(region: Region) -> &'static Entry {
    let entry = entries().find(|entry| entry.claim()).unwrap_or_else(append);
    let Layout { guard, size, control, big } = region.layout;
    let rest = [region.slots, region.first as usize, guard, size, control, usize::from(big)];
    for (field, value) in entry.rest.iter().zip(rest) {
        field.store(value, Ordering::Relaxed);
    }
    entry.used.store(0, Ordering::Relaxed);
    entry.owner.store(0, Ordering::Relaxed);
    // Release: whoever sees the address sees the rest.
    entry.base.store(region.base, Ordering::Release);
    entry
}

/// Where the list begins, for who reads it from outside of the process.
pub(crate) type Head = AtomicPtr<Entry>;

/// Where the fields of an entry are: `base`, `rest`, `next`, `used`, `owner`.
pub(crate) const OFFSETS: [usize; 5] = [
    offset_of!(Entry, base),
    offset_of!(Entry, rest),
    offset_of!(Entry, next),
    offset_of!(Entry, used),
    offset_of!(Entry, owner),
];

/// Says whose slots these are, and how many of them were ever used.
pub(super) fn note(entry: &Entry, owner: usize, used: usize) {
    // Relaxed: who reads it has stopped the process.
    entry.owner.store(owner, Ordering::Relaxed);
    entry.used.store(used, Ordering::Relaxed);
}

/// Forgets a slab, before it is unmapped.
pub(super) fn remove(entry: &'static Entry) {
    entry.base.store(FREE, Ordering::Release);
}

/// The slab that an address is in. Async-signal-safe.
pub(super) fn find(address: usize) -> Option<Region> {
    entries().filter_map(Entry::read).find(|region| {
        address.checked_sub(region.base).is_some_and(|offset| offset < region.slots * region.layout.stride())
    })
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    // Acquire: an entry's `next` was written before the entry was published.
    let load = |pointer: &AtomicPtr<Entry>| {
        // SAFETY: null, or an entry that `append` leaked.
        unsafe { pointer.load(Ordering::Acquire).as_ref() }
    };
    std::iter::successors(load(&HEAD), move |entry| load(&entry.next))
}

/// Puts a new entry, claimed, at the head of the list.
fn append() -> &'static Entry {
    let new = Entry { base: AtomicUsize::new(FILLING), ..Entry::default() };
    let new: &'static Entry = Box::leak(Box::new(new));
    let mut head = HEAD.load(Ordering::Relaxed);
    loop {
        new.next.store(head, Ordering::Relaxed);
        let pointer = std::ptr::from_ref(new).cast_mut();
        // Release: publishes `next`.
        match HEAD.compare_exchange_weak(head, pointer, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return new,
            Err(now) => head = now,
        }
    }
}

impl Entry {
    fn claim(&self) -> bool {
        self.base.load(Ordering::Relaxed) == FREE
            && self.base.compare_exchange(FREE, FILLING, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn read(&self) -> Option<Region> {
        let base = self.base.load(Ordering::Acquire);
        // Acquire: the second look at `base` comes after these.
        let [slots, first, guard, size, control, big] =
            std::array::from_fn(|field| self.rest[field].load(Ordering::Acquire));
        if base <= FILLING || self.base.load(Ordering::Relaxed) != base {
            return None;
        }
        Some(Region {
            base,
            slots,
            first: first as u32,
            layout: Layout { guard, size, control, big: big != 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(base: usize) -> Region {
        Region {
            base,
            slots: 2,
            first: 0,
            layout: Layout { guard: 4096, size: 8192, control: 128, big: false },
        }
    }

    /// Addresses that no mapping has, so that other tests of this process do not meet them.
    const NOWHERE: usize = 1 << 62;

    #[test]
    fn finds_what_was_added_until_it_is_removed() {
        let (first, second) = (add(region(NOWHERE)), add(region(NOWHERE + (1 << 20))));
        let end = NOWHERE + 2 * (4096 + 8192);
        assert!(find(NOWHERE - 1).is_none());
        assert_eq!(find(NOWHERE).unwrap().base, NOWHERE);
        assert_eq!(find(end - 1).unwrap().base, NOWHERE);
        assert!(find(end).is_none());
        remove(first);
        assert!(find(NOWHERE).is_none());
        assert!(find(NOWHERE + (1 << 20)).is_some());
        remove(second);
    }

    #[test]
    fn entries_are_used_again() {
        for turn in 1..1000 {
            remove(add(region(NOWHERE + (turn << 24))));
        }
        assert!(entries().count() < 100, "a thousand slabs one after another need few entries");
    }
}
