//! A number, and those who wait until it is another one: compare-and-wait, the base of events and conditions.
//!
//! Whoever changes the number does so before he notifies; whoever waits compares inside the lock. So if he stands in line before the
//! notifier looks, he is found, and if after, he sees the new number: no notification falls between.

use super::line::{Key, Line, Overtaken, Waiter};
use super::lock::Lock;
use super::primitive::{AtomicU64, Ordering, point};

/// See the head of the file.
#[derive(Debug)]
pub struct Watched<W> {
    number: AtomicU64,
    line: Lock<Line<W, ()>>,
}

/// How an attempt to see another number went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It is another one.
    Changed,
    /// It is the same, and there was no wait to stand in line with.
    Same,
    /// It is the same; the caller stands in line.
    Waits(Key),
    /// His wait was ended elsewhere.
    Overtaken,
}

impl<W: Waiter> Watched<W> {
    /// Watched from `number` on.
    pub fn new(number: u64) -> Watched<W> {
        Watched { number: AtomicU64::new(number), line: Lock::new(Line::default()) }
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        point();
        // Acquire, for the Release of `update`: whoever sees the number sees what was done before it.
        self.number.load(Ordering::Acquire)
    }

    /// Changes the number as `change` says, if it says anything; the number before, or `Err` with it.
    pub fn update(&self, mut change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        point();
        // AcqRel: as in `get`, and each change sees what was done before the ones before it.
        self.number.fetch_update(Ordering::AcqRel, Ordering::Acquire, &mut change)
    }

    /// Whether the number is another one than `expected`; if not, stands in line with `me`.
    pub fn look(&self, expected: u64, me: Option<&W>) -> Seen {
        let Some(me) = me else {
            return if self.get() == expected { Seen::Same } else { Seen::Changed };
        };
        self.line.with(|line| {
            // Acquire: as in `get`. That a change made before the notifier was inside is seen follows from the lock.
            if self.number.load(Ordering::Acquire) == expected {
                Seen::Waits(line.join(*me, None))
            } else if me.withdraw() {
                Seen::Changed
            } else {
                Seen::Overtaken
            }
        })
    }

    /// As `look` without a wait; if it is the same, stands in line with the wait that `open` begins then and there.
    pub fn look_or_join(&self, expected: u64, open: impl FnOnce() -> Option<W>) -> Seen {
        if self.get() != expected {
            return Seen::Changed;
        }
        self.line.with(|line| {
            // Acquire: as in `look`.
            if self.number.load(Ordering::Acquire) != expected {
                return Seen::Changed;
            }
            open().map_or(Seen::Same, |me| Seen::Waits(line.join(me, None)))
        })
    }

    /// Ends the wait of the first in the line. Whether there was one.
    pub fn notify_one(&self) -> bool {
        let next = self.line.with(|line| match line.claim_first(None) {
            Ok(claimed) => claimed.map(|claimed| line.serve(claimed, None)),
            Err(Overtaken) => unreachable!("nobody who notifies waits himself"),
        });
        next.map(Waiter::wake).is_some()
    }

    /// Ends the waits of all who stand in the line. How many there were is counted first: those who join meanwhile have seen
    /// the new number.
    pub fn notify_all(&self) {
        let waiting = self.line.with(|line| line.len());
        for _ in 0..waiting {
            if !self.notify_one() {
                return;
            }
        }
    }

    /// A wait is over. Whether it was ended by a notification.
    pub fn leave(&self, key: Key) -> bool {
        self.line.with(|line| line.leave(key)).served
    }
}
