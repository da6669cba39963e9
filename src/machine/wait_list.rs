//! Coroutines of one machine that wait for the same thing, first in, first out.
//!
//! A waiter whose wait ended otherwise (deadline, cancellation) stays in the list, stale, until there are more of those than
//! others, so that any number of them may give up at a small cost each. A notifier skips stale ones, and so one that lost the
//! race at the same instant, and goes on to the next: a notification is never eaten.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::seat::Seat;
use super::{Machine, Reason, Waiter, current};
use crate::error::{Misuse, WaitError};
use crate::kernel::Instant;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct WaitList {
    /// Whose coroutines wait here, from the first wait on: keeps their control blocks mapped.
    machine: OnceCell<Rc<Machine>>,
    waiters: RefCell<VecDeque<Waiter>>,
    /// How many gave up since the list was last cleaned: at least as many as there are stale ones in it, skipped ones apart.
    stale: Cell<usize>,
}

impl WaitList {
    /// Waits to be notified. The caller has asked [`Machine::operation`] before it saw that it must wait: nothing here yields
    /// before the caller stands in the list, so that no notification comes between.
    pub(crate) fn wait(&self, reason: Reason, deadline: Instant) -> Result<(), WaitError> {
        let machine = self.machine.get_or_init(|| current::machine_rc().expect("waits are of machines"));
        if current::machine_address() != Rc::as_ptr(machine) as usize {
            return Err(Misuse::OtherMachine.into());
        }
        let me = machine.running().ok_or(Misuse::NoMachine)?;
        let waited = machine.wait(me, reason, deadline, |waiter| self.waiters.borrow_mut().push_back(waiter));
        if waited.is_err() {
            self.give_up();
        }
        waited
    }

    /// Puts a wait of the running coroutine, for this and for other things, behind the others.
    ///
    /// # Errors
    /// [`Misuse`], if it is a coroutine of another machine than those that wait here.
    pub(crate) fn stand(&self, me: &Seat) -> Result<(), Misuse> {
        let here = current::machine_rc().ok_or(Misuse::NoMachine)?;
        let task = here.running().ok_or(Misuse::NoMachine)?;
        if !Rc::ptr_eq(&here, self.machine.get_or_init(|| here.clone())) {
            return Err(Misuse::OtherMachine);
        }
        self.waiters.borrow_mut().push_back(Waiter { task, ticket: me.ticket() });
        Ok(())
    }

    /// Takes out what waits here of the running coroutine.
    pub(crate) fn leave(&self) {
        if let Some(task) = current::machine().and_then(Machine::running) {
            self.waiters.borrow_mut().retain(|waiter| waiter.task != task);
        }
    }

    /// The caller's waiter, if it is still here, is stale.
    fn give_up(&self) {
        let mut waiters = self.waiters.borrow_mut();
        self.stale.set(self.stale.get() + 1);
        if self.stale.get() > waiters.len() / 2 {
            waiters.retain(Waiter::waits);
            self.stale.set(0);
        }
    }

    /// Wakes the first that still waits.
    pub(crate) fn notify_one(&self) -> bool {
        loop {
            let next = self.waiters.borrow_mut().pop_front();
            match (next, self.machine.get()) {
                (Some(waiter), Some(machine)) if !machine.wake(waiter) => {}
                (next, _) => return next.is_some(),
            }
        }
    }

    /// Wakes all.
    pub(crate) fn notify_all(&self) {
        while self.notify_one() {}
    }
}
