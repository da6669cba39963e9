//! Words that threads sleep on until another thread wakes them: what is common to all callers of `futex(2)`.
//!
//! A word is known by its address, which is neither ordered nor shown. Whoever calls has looked at it before: nothing else runs
//! between that look and the sleep, so no wake-up falls between them.

use machinarium::kernel::{Errno, Result};

use crate::scheduler::{Scheduler, Sleep, ThreadIndex, WaitsFor};
use crate::world::Served;

impl Scheduler {
    /// The running thread begins to wait for a wake-up: earlier ones do not count.
    pub(crate) fn futex_begin(&mut self, thread: ThreadIndex) {
        self.thread(thread).signalled = false;
    }

    /// It sleeps until it has one, or until `until`. Asked again whenever it is awake.
    pub(crate) fn futex_sleep(
        &mut self,
        thread: ThreadIndex,
        address: usize,
        until: u64,
    ) -> Served<Result<()>> {
        if self.thread(thread).signalled {
            Served::Done(Ok(()))
        } else if self.now >= until {
            Served::Done(Err(Errno::TIMEDOUT))
        } else {
            Served::Wait(Sleep { on: WaitsFor::Futex(address), until })
        }
    }

    /// Wakes the oldest sleepers, at most `count`, and answers how many.
    pub(crate) fn futex_wake(&mut self, address: usize, count: u32) -> usize {
        let mut woken = 0;
        while woken < count as usize
            && let Some(sleeper) = self.sleeper(|on| on == WaitsFor::Futex(address))
        {
            self.thread(sleeper).signalled = true;
            self.wake_thread(sleeper);
            woken += 1;
        }
        woken
    }
}
