//! A tiny lock, for the few instructions in which the structures beside it change.
//!
//! | word | meaning | left by |
//! |---|---|---|
//! | FREE | nobody is inside | `with` -> HELD |
//! | HELD | one thread is inside; others spin, then give the processor away | the end of `with` -> FREE |
//!
//! *Inside* there is no [`point`], no call to the kernel, nothing that waits, and no code of a user: no destructor of a value
//! that is passed on, no hashing, no comparison. Whoever is to be woken is woken after. So the lock is held for some tens of
//! nanoseconds, is never left by a panic half-way, and a simulated thread never finds it taken.
//!
//! Not fair, and not reentrant. The state of a structure that waits for anything longer is a line (`line.rs`).

use super::primitive::{AtomicU8, Ordering, UnsafeCell, point, relax};

const FREE: u8 = 0;
const HELD: u8 = 1;

/// A value that one thread at a time sees. See the head of the file.
#[derive(Debug, Default)]
pub struct Lock<T> {
    word: AtomicU8,
    value: UnsafeCell<T>,
}

// SAFETY: the word lets one thread at a time to the value, so sharing the lock only ever sends the value.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Leaves the lock, also by a panic.
struct Leave<'a>(&'a AtomicU8);

impl Drop for Leave<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release, for the Acquire of the next one inside: all that was done here.
        self.0.store(FREE, Ordering::Release);
    }
}

impl<T> Lock<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> Lock<T> {
        Lock { word: AtomicU8::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Does `inside` with the value, alone.
    #[inline]
    pub fn with<R>(&self, inside: impl FnOnce(&mut T) -> R) -> R {
        point();
        self.with_inside(inside)
    }

    /// As `with`, inside of another lock: no point. Whoever takes two takes them in one order.
    #[inline]
    pub fn with_inside<R>(&self, inside: impl FnOnce(&mut T) -> R) -> R {
        if !self.enter() {
            self.wait();
        }
        let _leave = Leave(&self.word);
        // SAFETY: this thread made the word HELD, so it is alone until `Leave` is dropped, which is after.
        self.value.with_mut(|value| inside(unsafe { &mut *value }))
    }

    #[inline]
    fn enter(&self) -> bool {
        // Acquire, for the Release of whoever was inside before.
        self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self) {
        let mut turns = 0;
        loop {
            relax(turns);
            turns += 1;
            if self.enter() {
                return;
            }
        }
    }

    /// The value, of a lock that nobody shares.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` says that nobody else has it.
        self.value.with_mut(|value| unsafe { &mut *value })
    }
}
