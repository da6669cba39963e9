//! A lock that many may hold to read, or one to write.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::lines::Gate;
use crate::error::WaitError;
use crate::kernel::Instant;

/// A value that many may read or one may write, over blocking calls too.
///
/// First come, first served: a reader that comes after a waiting writer waits behind it, so writers are not starved. A coroutine that
/// already reads must not wait to read again, since a writer may stand between. Not poisoned by a panic.
pub struct RwLock<T: ?Sized> {
    /// One permit to read, all of them to write.
    gate: Gate,
    value: UnsafeCell<T>,
}

const ALL: u64 = u32::MAX as u64;

// SAFETY: who holds a permit reads, who holds all writes: so sharing the lock shares and sends the value.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

/// The right to read, given up when dropped.
#[must_use = "the lock is left when the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

/// The right to write, given up when dropped.
#[must_use = "the lock is left when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock that nobody holds.
    pub fn new(value: T) -> RwLock<T> {
        RwLock { gate: Gate::new(ALL), value: UnsafeCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until the value may be read.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, WaitError> {
        self.read_deadline(Instant::FAR)
    }

    /// As [`read`](Self::read), until `deadline` at most.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_deadline(&self, deadline: Instant) -> Result<RwLockReadGuard<'_, T>, WaitError> {
        self.gate.acquire(1, "read lock", deadline)?;
        Ok(RwLockReadGuard { lock: self })
    }

    /// The right to read, if it can be had at once.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.gate.try_acquire(1).then_some(RwLockReadGuard { lock: self })
    }

    /// Waits until the value may be written.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation.
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        self.write_deadline(Instant::FAR)
    }

    /// As [`write`](Self::write), until `deadline` at most.
    ///
    /// # Errors
    /// As `write`.
    pub fn write_deadline(&self, deadline: Instant) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        self.gate.acquire(ALL, "write lock", deadline)?;
        Ok(RwLockWriteGuard { lock: self })
    }

    /// The right to write, if it can be had at once.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.gate.try_acquire(ALL).then_some(RwLockWriteGuard { lock: self })
    }

    /// The value of a lock that nobody shares.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard stands for a permit, so nobody holds all: nobody writes.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard stands for all permits, so nobody else touches the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and this borrow of the guard is the only one.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.gate.release(1);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.gate.release(ALL);
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RwLock");
        match self.try_read() {
            Some(guard) => out.field("value", &&*guard),
            None => out.field("value", &format_args!("<locked>")),
        };
        out.finish()
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
