//! How long coroutines run, and how long they are ready before they do: measured only if that is asked for.
//!
//! Coroutines switch among each other without a look at the clock. Where they are timed, each goes back to the root stack instead, which
//! looks at the clock between two of them; so who does not ask for it pays nothing.
//!
//! When a coroutine became ready is not written down either: those that are new in the queue, when the one that ran is back, became ready
//! while it ran, and count from its end. So a wait in the queue is measured short by a part of one run.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::Machine;
use crate::kernel::Instant;

/// When those in the ready queue were first seen there, in its order.
#[derive(Default)]
pub(super) struct Timing(RefCell<VecDeque<Instant>>);

impl Timing {
    /// So many are in the queue now.
    fn see(&self, ready: usize, now: Instant) {
        self.0.borrow_mut().resize(ready, now);
    }

    /// The first goes: since when it was seen.
    fn next(&self) -> Option<Instant> {
        self.0.borrow_mut().pop_front()
    }
}

impl Machine {
    /// Lets coroutines run until none is ready or it is time to look at descriptors.
    #[inline]
    pub(super) fn run_ready(&self) {
        match &self.timing {
            None => self.scheduler.run(self.tuning.turns),
            Some(timing) => self.run_timed(timing),
        }
    }

    #[cold]
    fn run_timed(&self, timing: &Timing) {
        let mut now = self.now();
        for _ in 0..=self.tuning.turns {
            timing.see(self.scheduler.ready_len(), now);
            let Some(since) = timing.next() else { return };
            self.shared.times.readies.add((now - since).as_nanos() as u64);
            // None after the first.
            self.scheduler.run(0);
            let end = self.now();
            self.shared.times.runs.add((end - now).as_nanos() as u64);
            now = end;
        }
    }
}
