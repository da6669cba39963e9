//! Waiting until all who take part are done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::lines::{Looking, after};
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::seat::Seat;
use crate::shared::watch::Watched;

/// Each clone takes part until it is dropped; [`wait`](Self::wait) gives one's own part up and waits for the others.
///
/// ```
/// use machinarium::sync::WaitGroup;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let group = WaitGroup::new();
///     for _ in 0..3 {
///         let part = group.clone();
///         machinarium::spawn(move || drop(part));
///     }
///     group.wait()?;
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub struct WaitGroup {
    /// How many take part.
    parts: Arc<Watched<Seat>>,
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl WaitGroup {
    /// A group of one.
    pub fn new() -> WaitGroup {
        WaitGroup { parts: Arc::new(Watched::new(1)) }
    }

    /// Gives this part up and waits until all others have.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation; this part was given up all the same.
    pub fn wait(self) -> Result<(), WaitError> {
        self.wait_deadline(Instant::FAR)
    }

    /// As [`wait`](Self::wait), for `timeout` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_timeout(self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_deadline(after(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_deadline(self, deadline: Instant) -> Result<(), WaitError> {
        let parts = self.parts.clone();
        drop(self);
        loop {
            match parts.get() {
                0 => return Ok(()),
                count => Looking::new(&parts, count).wait("wait group", deadline)?,
            }
        }
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> WaitGroup {
        let _ = self.parts.update(|count| Some(count + 1));
        WaitGroup { parts: self.parts.clone() }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        if self.parts.update(|count| Some(count - 1)) == Ok(1) {
            self.parts.notify_all();
        }
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("parts", &self.parts.get()).finish()
    }
}
