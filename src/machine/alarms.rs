//! The moments at which futures are to be polled again. (The deadlines of coroutines are in `timers`: one for each stack, and nothing to
//! allocate.)
//!
//! An alarm is a key in a tree, by its moment and a number of the machine's; whoever set it takes it back by that key. Wakers are their
//! makers' code: they are called, and dropped, while nothing here is borrowed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::Waker;

use super::task::quietly;
use crate::kernel::Instant;

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Alarms(RefCell<BTreeMap<Alarm, Waker>>);

/// Names one: when, and which.
pub(crate) type Alarm = (Instant, u64);

impl Alarms {
    /// When the first is due; `FAR` if there is none.
    pub(super) fn next(&self) -> Instant {
        self.0.borrow().first_key_value().map_or(Instant::FAR, |(alarm, _)| alarm.0)
    }

    /// Has this waker woken, and no other that was set for this alarm.
    pub(crate) fn set(&self, alarm: Alarm, waker: &Waker) {
        let before = self.0.borrow_mut().insert(alarm, waker.clone());
        drop(before);
    }

    /// Takes an alarm back, if it has not rung.
    pub(crate) fn remove(&self, alarm: Alarm) {
        let waker = self.0.borrow_mut().remove(&alarm);
        drop(waker);
    }

    /// On the root stack: wakes whoever is due at `now`.
    pub(super) fn ring(&self, now: Instant) {
        while self.next() <= now {
            let Some((_, waker)) = self.0.borrow_mut().pop_first() else { return };
            quietly(|| waker.wake());
        }
    }

    /// The machine has ended.
    pub(super) fn clear(&self) {
        let alarms = self.0.take();
        quietly(|| drop(alarms));
    }
}
