//! A value that any thread may replace while others use it: what a reload puts in the place of an old configuration.
//!
//! | lock | value | left by |
//! |---|---|---|
//! | FREE | whoever takes the lock next | an exchange of FREE for TAKEN -> TAKEN |
//! | TAKEN | the thread that took it | a store -> FREE, a few instructions later |
//!
//! Who reads takes the lock for as long as it takes to count one more reference, and uses the value after that for as long as it
//! likes. What was replaced is dropped outside of the lock, by whoever uses it last.

use super::primitive::{Arc, AtomicU8, Ordering, UnsafeCell, pause, point};

const FREE: u8 = 0;
const TAKEN: u8 = 1;

/// See the head of the file.
pub struct Latest<T> {
    lock: AtomicU8,
    value: UnsafeCell<Arc<T>>,
}

// SAFETY: the lock gives the cell to one thread at a time (`locked`); what is in it goes to other threads.
unsafe impl<T: Send + Sync> Send for Latest<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Latest<T> {}

impl<T> Latest<T> {
    /// A place for `value` and what comes after it.
    pub fn new(value: Arc<T>) -> Latest<T> {
        Latest { lock: AtomicU8::new(FREE), value: UnsafeCell::new(value) }
    }

    /// The value that is there now.
    pub fn get(&self) -> Arc<T> {
        self.locked(|value| value.clone())
    }

    /// Puts `value` in the place of the one that is there, which is the answer.
    pub fn replace(&self, value: Arc<T>) -> Arc<T> {
        self.locked(|place| std::mem::replace(place, value))
    }

    /// `f` runs nothing that could panic, wait or lock.
    fn locked<R>(&self, f: impl FnOnce(&mut Arc<T>) -> R) -> R {
        point();
        // Acquire, for the Release below: what the last holder has written is seen.
        while self.lock.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
            pause();
        }
        // SAFETY: this thread found the lock free and took it, and no other gets past the loop until it is free again.
        let result = self.value.with_mut(|value| f(unsafe { &mut *value }));
        // Release, for the Acquire above.
        self.lock.store(FREE, Ordering::Release);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_replaced_is_still_whole_for_those_who_use_it() {
        let latest = Latest::new(Arc::new("old".to_owned()));
        let old = latest.get();
        assert_eq!(*latest.replace(Arc::new("new".to_owned())), "old");
        assert_eq!((old.as_str(), latest.get().as_str()), ("old", "new"));
    }
}
