//! A counting semaphore, first come, first served.

use std::time::Duration;

use super::lines::{Gate, after};
use crate::error::WaitError;
use crate::kernel::Instant;

/// A number of permits; whoever asks for more than are free waits, and nobody behind overtakes.
///
/// ```
/// use machinarium::sync::Semaphore;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let connections = Semaphore::new(2);
///     let first = connections.acquire()?;
///     let second = connections.acquire()?;
///     assert!(connections.try_acquire().is_none());
///     drop(first);
///     assert!(connections.try_acquire().is_some());
///     drop(second);
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[derive(Debug)]
pub struct Semaphore {
    gate: Gate,
}

/// Permits of a semaphore: given back when dropped.
#[derive(Debug)]
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: u64,
}

impl Semaphore {
    /// A semaphore with so many permits.
    pub fn new(permits: usize) -> Semaphore {
        Semaphore { gate: Gate::new(permits as u64) }
    }

    /// Takes a permit, waiting for one.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation; then none was taken.
    pub fn acquire(&self) -> Result<Permit<'_>, WaitError> {
        self.acquire_many(1)
    }

    /// As [`acquire`](Self::acquire), for `timeout` at most.
    ///
    /// # Errors
    /// As `acquire`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.take(1, after(timeout))
    }

    /// Takes `count` permits at once, waiting until there are so many; those who ask later wait behind.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_many(&self, count: usize) -> Result<Permit<'_>, WaitError> {
        self.take(count as u64, Instant::FAR)
    }

    fn take(&self, count: u64, deadline: Instant) -> Result<Permit<'_>, WaitError> {
        self.gate.acquire(count, "semaphore", deadline)?;
        Ok(Permit { semaphore: self, count })
    }

    /// Takes a permit, if one is free and nobody waits.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.gate.try_acquire(1).then_some(Permit { semaphore: self, count: 1 })
    }

    /// Adds permits to those there are.
    ///
    /// # Panics
    /// If there would be 2^64 or more.
    pub fn add_permits(&self, count: usize) {
        self.gate.release(count as u64);
    }

    /// How many permits are free.
    pub fn available_permits(&self) -> usize {
        usize::try_from(self.gate.free()).unwrap_or(usize::MAX)
    }
}

impl Permit<'_> {
    /// Never gives the permits back: there are fewer from now on.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.gate.release(self.count);
    }
}
