//! A number of permits, and those who wait for some: the base of semaphores and locks. Plain state: it lies inside a lock.
//!
//! First come, first served: whoever asks while others wait stands behind them, so one who wants many is not starved by those
//! who want few. Permits that are given back go to the first in the line as far as they reach ([`Permits::next_served`]):
//! he holds them from then on, so nobody comes between, and a deadline that passes at the same instant has lost.

use super::line::{Key, Left, Line, Overtaken, Waiter};

/// See the head of the file.
#[derive(Debug)]
pub struct Permits<W> {
    free: u64,
    line: Line<W, u64>,
}

/// How an attempt to get permits went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// The caller has them.
    Done,
    /// There are too few, or others wait, and there was no wait to stand in line with.
    No,
    /// The caller stands in line.
    Waits(Key),
    /// His wait was ended elsewhere.
    Overtaken,
}

impl<W: Waiter> Permits<W> {
    /// So many, all free.
    pub fn new(free: u64) -> Permits<W> {
        Permits { free, line: Line::default() }
    }

    /// Takes `count` permits, or stands in line with `me`.
    #[inline(always)]
    pub fn acquire(&mut self, count: u64, me: Option<&W>) -> Acquired {
        if self.free >= count && self.line.is_empty() {
            if me.is_some_and(|me| !me.withdraw()) {
                return Acquired::Overtaken;
            }
            self.free -= count;
            return Acquired::Done;
        }
        match me {
            None => Acquired::No,
            Some(me) => Acquired::Waits(self.line.join(*me, Some(count))),
        }
    }

    /// As `acquire` without a wait; if that cannot be, stands in line with the wait that `open` begins then and there.
    #[inline(always)]
    pub fn acquire_or_join(&mut self, count: u64, open: impl FnOnce() -> Option<W>) -> Acquired {
        match self.acquire(count, None) {
            Acquired::No => match open() {
                None => Acquired::No,
                Some(me) => Acquired::Waits(self.line.join(me, Some(count))),
            },
            acquired => acquired,
        }
    }

    /// Gives permits back, or new ones. Then [`next_served`](Self::next_served) names those who have got some.
    pub fn release(&mut self, count: u64) {
        self.free = self.free.checked_add(count).expect("fewer than 2^64 permits");
    }

    /// Gives the first in the line what he waits for, if there is enough: to be woken outside of the lock. To be asked until
    /// it answers `None`, after `release` and after `leave`.
    #[inline]
    pub fn next_served(&mut self) -> Option<W> {
        if self.line.is_empty() {
            return None;
        }
        let free = self.free;
        let fits = |count: Option<&u64>| *count.expect("who waits has said for how many") <= free;
        let claimed = match self.line.claim_first_if(None, fits) {
            Ok(claimed) => claimed?,
            Err(Overtaken) => unreachable!("nobody who serves waits himself"),
        };
        let (waiter, count) = self.line.take(claimed);
        self.free -= count.expect("who waits has said for how many");
        Some(waiter)
    }

    /// A wait is over; `served` says that the permits are the leaver's.
    pub fn leave(&mut self, key: Key) -> Left<u64> {
        self.line.leave(key)
    }

    /// How many are free.
    pub fn free(&self) -> u64 {
        self.free
    }
}
