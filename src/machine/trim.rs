//! Stacks of those who wait for long: what a coroutine had touched deeper than where it waits goes back to the system.
//!
//! An idle machine looks at its coroutines, some at each turn of the loop. One that it sees twice in the same wait, `stack_trim` apart, has
//! waited that long: what is below it on its stack goes back, once in this wait. (How deep it had been is not known, so this is a call
//! to the system for each, whatever there is to be given back.) A shake of hands by TLS takes 48 KiB; the connection that waits
//! for its next request afterwards has those pages no longer.
//!
//! | sightings of a wait | means |
//! |---|---|
//! | 0 | not seen in it |
//! | 1 | seen once |
//! | 2 | its stack was given back |
//!
//! A pass after which all have been given back, and after which nobody has run, is the last: the machine then sleeps undisturbed.

use std::cell::Cell;

use super::{Machine, State, TaskRef};
use crate::kernel::Instant;

/// How far the machine is with its coroutines.
pub(super) struct Trim {
    /// When the next pass begins, or goes on; `FAR`: there is nothing to be looked at.
    due: Cell<Instant>,
    /// The slot that is looked at next.
    next: Cell<usize>,
    /// Somebody was seen for the first time in this pass.
    again: Cell<bool>,
    /// How many switches there had been when the pass began.
    switches: Cell<u64>,
}

impl Default for Trim {
    fn default() -> Trim {
        Trim {
            due: Cell::new(Instant::FAR),
            next: Cell::new(0),
            again: Cell::new(false),
            switches: Cell::new(0),
        }
    }
}

impl Machine {
    /// Looks at some coroutines, if it is time to; says when it is next.
    pub(super) fn trim_waiters(&self) -> Instant {
        let (trim, now) = (&self.trim, self.now());
        if trim.due.get() == Instant::FAR {
            if trim.switches.get() == self.scheduler.switches.get() {
                return Instant::FAR;
            }
            trim.due.set(now + self.tuning.stack_trim);
        }
        if trim.due.get() <= now {
            self.trim_some(now);
        }
        trim.due.get()
    }

    fn trim_some(&self, now: Instant) {
        let (trim, slots) = (&self.trim, self.slots.borrow());
        let begin = trim.next.get();
        if begin == 0 {
            trim.again.set(false);
            trim.switches.set(self.scheduler.switches.get());
        }
        let end = slots.len().min(begin.saturating_add(self.tuning.stack_trim_batch.max(1)));
        slots[begin.min(end)..end].iter().for_each(|task| self.look_at(*task));
        if end < slots.len() {
            trim.next.set(end);
            return;
        }
        trim.next.set(0);
        let again = trim.again.get() || trim.switches.get() != self.scheduler.switches.get();
        trim.due.set(if again { now + self.tuning.stack_trim } else { Instant::FAR });
    }

    fn look_at(&self, task: TaskRef) {
        if task.state.get() != State::Parked {
            return;
        }
        if task.sighted.replace(task.ticket.get()) != task.ticket.get() {
            task.sightings.set(0);
        }
        match task.sightings.get() {
            0 => {
                task.sightings.set(1);
                self.trim.again.set(true);
            }
            1 => {
                task.sightings.set(2);
                self.scheduler.trim(task, &self.stacks);
            }
            _ => {}
        }
    }
}
