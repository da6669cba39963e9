//! The two ways to wait that locks and their like are made of: for permits, and for a number to change.

use std::time::Duration;

use crate::error::WaitError;
use crate::kernel::Instant;
use crate::machine::block::{Attempt, Case, block};
use crate::machine::seat::Seat;
use crate::machine::{Holder, Machine, Reason, current};
use crate::shared::line::{Key, Waiter};
use crate::shared::lock::Lock;
use crate::shared::permits::{Acquired, Permits};
use crate::shared::watch::{Seen, Watched};

/// The moment `timeout` from now.
pub(super) fn after(timeout: Duration) -> Instant {
    crate::time::now() + timeout
}

/// A number of permits that threads share.
#[derive(Debug)]
pub(super) struct Gate {
    permits: Lock<Permits<Seat>>,
    /// Who has taken some last.
    holder: Holder,
}

impl Gate {
    pub(super) fn new(permits: u64) -> Gate {
        Gate { permits: Lock::new(Permits::new(permits)), holder: Holder::default() }
    }

    /// Waits for `count` permits; after it they are the caller's to release.
    pub(super) fn acquire(&self, count: u64, what: &'static str, deadline: Instant) -> Result<(), WaitError> {
        let mut acquiring = Acquiring::new(self, count);
        block(&mut acquiring, || Reason::of(what), deadline)?;
        acquiring.keep();
        Ok(())
    }

    /// As `acquire` of the only permit: who waits for it can say who has it.
    pub(super) fn acquire_only(&self, what: &'static str, deadline: Instant) -> Result<(), WaitError> {
        let mut acquiring = Acquiring::new(self, 1);
        block(&mut acquiring, || Reason::held(what, &self.holder), deadline)?;
        acquiring.keep();
        self.hold();
        Ok(())
    }

    /// The only permit is the caller's from now on.
    pub(super) fn hold(&self) {
        let id = current::machine().and_then(Machine::running).map_or(0, |task| task.header.id);
        self.holder.set([current::machine_address() as u64, id]);
    }

    pub(super) fn try_acquire(&self, count: u64) -> bool {
        self.permits.with(|permits| permits.acquire(count, None)) == Acquired::Done
    }

    pub(super) fn release(&self, count: u64) {
        let served = self.permits.with(|permits| {
            permits.release(count);
            permits.next_served()
        });
        self.wake(served);
    }

    pub(super) fn free(&self) -> u64 {
        self.permits.with(|permits| permits.free())
    }

    /// Wakes him who was served, and serves and wakes those for whom there is enough besides.
    #[inline]
    fn wake(&self, mut served: Option<Seat>) {
        while let Some(waiter) = served {
            waiter.wake();
            served = self.permits.with(Permits::next_served);
        }
    }
}

/// Permits on their way to the caller: given back if they do not get there.
pub(super) struct Acquiring<'a> {
    gate: &'a Gate,
    count: u64,
    place: Option<Key>,
    held: bool,
}

impl<'a> Acquiring<'a> {
    pub(super) fn new(gate: &'a Gate, count: u64) -> Acquiring<'a> {
        Acquiring { gate, count, place: None, held: false }
    }

    /// They have arrived: the caller releases them.
    pub(super) fn keep(&mut self) {
        self.held = false;
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        if self.held {
            self.gate.release(self.count);
        }
    }
}

impl Acquiring<'_> {
    /// What became of an attempt.
    #[inline(always)]
    fn went(&mut self, acquired: Acquired) -> Attempt {
        match acquired {
            Acquired::Done => {
                self.held = true;
                Attempt::Done
            }
            Acquired::No => Attempt::NotNow,
            Acquired::Waits(key) => {
                self.place = Some(key);
                Attempt::Waits
            }
            Acquired::Overtaken => Attempt::Overtaken,
        }
    }
}

impl Case for Acquiring<'_> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        if self.held {
            return Attempt::Done;
        }
        let acquired = self.gate.permits.with(|permits| permits.acquire(self.count, me));
        self.went(acquired)
    }

    #[inline(always)]
    fn attempt_alone(&mut self, open: impl FnOnce() -> Option<Seat>) -> Attempt {
        if self.held {
            return Attempt::Done;
        }
        let acquired = self.gate.permits.with(|permits| permits.acquire_or_join(self.count, open));
        self.went(acquired)
    }

    fn leave(&mut self) -> bool {
        let Some(key) = self.place.take() else { return false };
        self.held = self.gate.permits.with(|permits| permits.leave(key)).served;
        if !self.held {
            // Those behind may have waited for nothing but this one's turn.
            self.gate.wake(self.gate.permits.with(Permits::next_served));
        }
        self.held
    }
}

/// Waiting until a watched number is another one; a notification that ended the wait of somebody who then did not get to use it goes
/// on to the next.
pub(super) struct Looking<'a> {
    watched: &'a Watched<Seat>,
    expected: u64,
    place: Option<Key>,
    notified: bool,
}

impl<'a> Looking<'a> {
    pub(super) fn new(watched: &'a Watched<Seat>, expected: u64) -> Looking<'a> {
        Looking { watched, expected, place: None, notified: false }
    }

    /// Waits until it is, or a notification comes, which is used by this.
    pub(super) fn wait(mut self, what: &'static str, deadline: Instant) -> Result<(), WaitError> {
        self.block(what, deadline)?;
        self.keep();
        Ok(())
    }

    /// As `wait`; the notification is not used before `keep`.
    pub(super) fn block(&mut self, what: &'static str, deadline: Instant) -> Result<(), WaitError> {
        block(self, || Reason::of(what), deadline)
    }

    /// The notification, if there was one, has arrived.
    pub(super) fn keep(&mut self) {
        self.notified = false;
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if self.notified {
            self.watched.notify_one();
        }
    }
}

impl Looking<'_> {
    /// What became of an attempt.
    #[inline(always)]
    fn saw(&mut self, seen: Seen) -> Attempt {
        match seen {
            Seen::Changed => Attempt::Done,
            Seen::Same => Attempt::NotNow,
            Seen::Waits(key) => {
                self.place = Some(key);
                Attempt::Waits
            }
            Seen::Overtaken => Attempt::Overtaken,
        }
    }
}

impl Case for Looking<'_> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        if self.notified {
            return Attempt::Done;
        }
        let seen = self.watched.look(self.expected, me);
        self.saw(seen)
    }

    #[inline(always)]
    fn attempt_alone(&mut self, open: impl FnOnce() -> Option<Seat>) -> Attempt {
        if self.notified {
            return Attempt::Done;
        }
        let seen = self.watched.look_or_join(self.expected, open);
        self.saw(seen)
    }

    fn leave(&mut self) -> bool {
        let Some(key) = self.place.take() else { return false };
        self.notified = self.watched.leave(key);
        self.notified
    }
}
