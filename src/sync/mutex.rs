//! A lock around a value.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::lines::{Gate, after};
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::begin_call;

/// A value that one at a time may use, and hold on to over blocking calls, which is why it is not std's.
///
/// First come, first served: it is handed over to who has waited longest. Not poisoned by a panic: what a panicking holder has
/// left is what the next one finds.
///
/// ```
/// use machinarium::sync::Mutex;
/// use std::sync::Arc;
///
/// let total: std::io::Result<u32> = machinarium::run(|| {
///     let count = Arc::new(Mutex::new(0));
///     let adders: Vec<_> = (0..10)
///         .map(|_| {
///             let count = count.clone();
///             machinarium::spawn(move || -> std::io::Result<()> {
///                 let mut held = count.lock()?;
///                 let before = *held;
///                 machinarium::yield_now(); // still alone
///                 *held = before + 1;
///                 Ok(())
///             })
///         })
///         .collect();
///     adders.into_iter().try_for_each(|adder| adder.join()?)?;
///     Ok(*count.lock()?)
/// });
/// assert_eq!(total.unwrap(), 10);
/// ```
pub struct Mutex<T: ?Sized> {
    gate: Gate,
    value: UnsafeCell<T>,
}

// SAFETY: the gate has one permit, and only who holds it touches the value: sharing the mutex only ever sends the value.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// The right to use the value, given up when dropped.
#[must_use = "the mutex is unlocked when the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
}

// SAFETY: as of `&mut T` and `&T`: the guard lends nothing else. That it is dropped on another thread does not matter to a gate.
unsafe impl<T: ?Sized + Send> Send for MutexGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub fn new(value: T) -> Mutex<T> {
        Mutex { gate: Gate::new(1), value: UnsafeCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until it is the caller's.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation; a lock granted at that very instant is held.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, WaitError> {
        self.lock_deadline(Instant::FAR)
    }

    /// As [`lock`](Self::lock), for `timeout` at most.
    ///
    /// # Errors
    /// As `lock`.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, WaitError> {
        begin_call()?;
        match self.try_lock() {
            Some(guard) => Ok(guard),
            None => self.lock_deadline(after(timeout)),
        }
    }

    /// As [`lock`](Self::lock), until `deadline` at most.
    ///
    /// # Errors
    /// As `lock`.
    pub fn lock_deadline(&self, deadline: Instant) -> Result<MutexGuard<'_, T>, WaitError> {
        self.gate.acquire_only("lock", deadline)?;
        Ok(MutexGuard { mutex: self })
    }

    /// Takes it, if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.gate.try_acquire(1).then(|| {
            self.gate.hold();
            MutexGuard { mutex: self }
        })
    }

    /// The value of a mutex that nobody shares.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Whose guard it is.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard stands for the gate's one permit, so nobody else touches the value.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and this borrow of the guard is the only one.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.gate.release(1);
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(guard) => out.field("value", &&*guard),
            None => out.field("value", &format_args!("<locked>")),
        };
        out.finish()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
