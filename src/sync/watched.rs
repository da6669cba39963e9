//! Compare-and-wait: the base of everything else here, for those who build their own.

use std::time::Duration;

use super::lines::{Looking, after};
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::seat::Seat;
use crate::shared::watch::Watched;

/// A number, and those who wait until it is another one; a futex for coroutines.
///
/// Whoever changes the number does so first and notifies then: so no notification is missed by somebody who compares and waits
/// in between.
///
/// ```
/// use machinarium::sync::WaitList;
/// use std::sync::Arc;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let steps = Arc::new(WaitList::new(0));
///     let theirs = steps.clone();
///     let waiter = machinarium::spawn(move || theirs.wait(0));
///     machinarium::yield_now();
///     steps.update(|step| Some(step + 1)).ok();
///     steps.notify_one();
///     waiter.join()??;
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[derive(Debug)]
pub struct WaitList {
    watched: Watched<Seat>,
}

impl WaitList {
    /// A list whose number is `number`.
    pub fn new(number: u64) -> WaitList {
        WaitList { watched: Watched::new(number) }
    }

    /// The number now; what was done before it was set is seen.
    pub fn get(&self) -> u64 {
        self.watched.get()
    }

    /// Changes the number to what `change` makes of it, which may be called again if another thread comes between.
    ///
    /// # Errors
    /// The number, unchanged, if `change` says `None`. Otherwise it is the number before.
    pub fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.watched.update(change)
    }

    /// Waits until notified, unless the number is not `expected`; then it returns at once. Look at the number again after it.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation; a notification then goes to another.
    pub fn wait(&self, expected: u64) -> Result<(), WaitError> {
        self.wait_deadline(expected, Instant::FAR)
    }

    /// As [`wait`](Self::wait), for `timeout` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_timeout(&self, expected: u64, timeout: Duration) -> Result<(), WaitError> {
        self.wait_deadline(expected, after(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_deadline(&self, expected: u64, deadline: Instant) -> Result<(), WaitError> {
        Looking::new(&self.watched, expected).wait("wait list", deadline)
    }

    /// As [`wait`](Self::wait), with what it is for in reports.
    pub(crate) fn wait_for(&self, what: &'static str, expected: u64) -> Result<(), WaitError> {
        Looking::new(&self.watched, expected).wait(what, Instant::FAR)
    }

    /// Ends the wait of the one who has waited longest. Whether there was one.
    pub fn notify_one(&self) -> bool {
        self.watched.notify_one()
    }

    /// Ends the waits of all who wait now.
    pub fn notify_all(&self) {
        self.watched.notify_all();
    }
}
