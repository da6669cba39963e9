//! A flag that one sets and others wait for.

use std::sync::Arc;
use std::time::Duration;

use super::lines::{Looking, after};
use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::block::{Attempt, Case};
use crate::machine::seat::Seat;
use crate::shared::lock::Lock;
use crate::shared::watch::Watched;

/// A flag: set or not. Waiting returns when it is set, at once if it is.
///
/// Clones are the same flag. An event can pass its settings on to another ([`propagate`](Self::propagate)): so one wait covers
/// several sources.
///
/// ```
/// use machinarium::sync::Event;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let ready = Event::new();
///     let theirs = ready.clone();
///     let waiter = machinarium::spawn(move || theirs.wait());
///     ready.set();
///     waiter.join()??;
///     assert!(ready.is_set());
///     Ok(())
/// });
/// result.unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Event {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    watched: Watched<Seat>,
    /// Who is set with this one.
    next: Lock<Option<Event>>,
}

const UNSET: u64 = 0;
const SET: u64 = 1;

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl Event {
    /// A flag that is not set.
    pub fn new() -> Event {
        Event { core: Arc::new(Core { watched: Watched::new(UNSET), next: Lock::new(None) }) }
    }

    /// Sets the flag: ends all waits for it, and makes later ones return at once. Whether it was not set before.
    pub fn set(&self) -> bool {
        let mut event = self.clone();
        let first = event.set_alone();
        let mut last = first;
        // A ring of events ends where it began: at one that is set already.
        while last && let Some(next) = event.next() {
            last = next.set_alone();
            event = next;
        }
        first
    }

    fn set_alone(&self) -> bool {
        let first = self.core.watched.update(|flag| (flag == UNSET).then_some(SET)).is_ok();
        if first {
            self.core.watched.notify_all();
        }
        first
    }

    fn next(&self) -> Option<Event> {
        self.core.next.with(|next| next.clone())
    }

    /// Takes the flag back: later waits wait. Whether it was set.
    pub fn reset(&self) -> bool {
        self.core.watched.update(|flag| (flag == SET).then_some(UNSET)).is_ok()
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.core.watched.get() == SET
    }

    /// From now on, setting this one sets `next` too; `None` ends that. If this one is set now, so is `next`.
    pub fn propagate(&self, next: Option<&Event>) {
        let before = self.core.next.with(|place| std::mem::replace(place, next.cloned()));
        drop(before);
        if self.is_set()
            && let Some(next) = next
        {
            next.set();
        }
    }

    /// Waiting for the flag, as a case of [`select`](crate::sync::select()): chosen when it is set.
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting(Looking::new(&self.core.watched, UNSET))
    }

    /// Waits until the flag is set.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation.
    pub fn wait(&self) -> Result<(), WaitError> {
        self.wait_deadline(Instant::FAR)
    }

    /// As [`wait`](Self::wait), for `timeout` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_deadline(after(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        Looking::new(&self.core.watched, UNSET).wait("event", deadline)
    }
}

/// Waiting for an event, as a case of a select: see [`Event::waiting`].
pub struct Waiting<'a>(Looking<'a>);

impl Case for Waiting<'_> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        self.0.attempt(me)
    }

    fn leave(&mut self) -> bool {
        self.0.leave()
    }
}

impl std::fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}
