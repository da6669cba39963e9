//! A condition variable for [`Mutex`].

use std::time::Duration;

use super::lines::{Looking, after};
use super::{Mutex, MutexGuard};
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::seat::Seat;
use crate::shared::watch::Watched;

/// Waits, with a mutex given up meanwhile, until somebody who changed what it guards says so.
///
/// As with std's, a wait may end without a notification: wait in a loop, or with [`wait_while`](Self::wait_while).
///
/// ```
/// use machinarium::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
///     let theirs = shared.clone();
///     let consumer = machinarium::spawn(move || -> std::io::Result<i32> {
///         let (queue, filled) = &*theirs;
///         let mut queue = filled.wait_while(queue.lock()?, |queue| queue.is_empty())?;
///         Ok(queue.remove(0))
///     });
///     machinarium::yield_now();
///     shared.0.lock()?.push(7);
///     shared.1.notify_one();
///     assert_eq!(consumer.join()??, 7);
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[derive(Debug)]
pub struct Condvar {
    /// Counts the notifications.
    watched: Watched<Seat>,
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl Condvar {
    /// A condition for which nobody waits.
    pub fn new() -> Condvar {
        Condvar { watched: Watched::new(0) }
    }

    /// Gives the mutex up, waits for a notification, and takes the mutex again.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation; the mutex is not held then, and a notification that came at that
    /// instant goes to another.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> Result<MutexGuard<'a, T>, WaitError> {
        self.wait_deadline(guard, Instant::FAR)
    }

    /// As [`wait`](Self::wait), for `timeout` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<MutexGuard<'a, T>, WaitError> {
        self.wait_deadline(guard, after(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline` at most; taking the mutex again counts.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_deadline<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
    ) -> Result<MutexGuard<'a, T>, WaitError> {
        let mutex: &'a Mutex<T> = guard.mutex();
        // The count is read before the mutex is free: a notification that comes between changes it, and the wait ends at once.
        let mut looking = Looking::new(&self.watched, self.watched.get());
        drop(guard);
        looking.block("condition", deadline)?;
        // What was notified is not used until the mutex is held: if that fails, `looking` passes it on.
        let guard = mutex.lock_deadline(deadline)?;
        looking.keep();
        Ok(guard)
    }

    /// Waits as long as `condition` holds of the value.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, WaitError> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Ends the wait of the one who has waited longest, if anybody waits.
    pub fn notify_one(&self) {
        self.count();
        self.watched.notify_one();
    }

    /// Ends the waits of all who wait now.
    pub fn notify_all(&self) {
        self.count();
        self.watched.notify_all();
    }

    fn count(&self) {
        let _ = self.watched.update(|count| Some(count.wrapping_add(1)));
    }
}
