//! Threads that wait in lines, for the models: as the library's seats do, by a cell and a ticket, with a spin in place of the sleep.

use crate::line::Waiter;
use crate::park::{Cell, Claim, Meeting, Side, Ticket, meet};
use crate::primitive::{AtomicU64, Ordering, relax};

/// A thread that waits in lines.
struct Owner {
    cell: Cell,
    woken: AtomicU64,
}

/// One wait, and the only one of its owner.
#[derive(Clone, Copy)]
pub struct Seat {
    owner: &'static Owner,
    ticket: Ticket,
}

impl Seat {
    /// A wait that has begun. Its owner is leaked, as few as a model has: who wakes him may do so when his thread has ended.
    pub fn open() -> Seat {
        let owner = Box::leak(Box::new(Owner { cell: Cell::new(), woken: AtomicU64::new(0) }));
        Seat { owner, ticket: owner.cell.open() }
    }

    fn side(&self) -> Side<'_> {
        let rank = std::ptr::from_ref(&self.owner.cell).addr() as u64;
        Side { cell: &self.owner.cell, ticket: self.ticket, rank }
    }

    /// The deadline comes. Whether it was first.
    pub fn give_up(&self) -> bool {
        self.owner.cell.close(self.ticket)
    }

    /// Until who has claimed the wait says so. A model in which nobody does has too many branches, and fails.
    pub fn sleep(&self) {
        while self.owner.woken.load(Ordering::Acquire) == 0 {
            relax(0);
        }
    }

    /// Gives up at once, or finds that somebody has been faster and sleeps until he says so. Whether it gave up.
    pub fn give_up_or_sleep(&self) -> bool {
        let gave_up = self.give_up();
        if !gave_up {
            self.sleep();
        }
        gave_up
    }
}

impl Waiter for Seat {
    fn is_same(&self, theirs: &Seat) -> bool {
        std::ptr::eq(self.owner, theirs.owner)
    }

    fn claim(&self) -> bool {
        self.owner.cell.claim_inside(self.ticket) == Claim::Won
    }

    fn meet(&self, theirs: &Seat) -> Meeting {
        meet(self.side(), theirs.side())
    }

    fn withdraw(&self) -> bool {
        self.owner.cell.close(self.ticket)
    }

    fn wake(self) {
        self.owner.woken.store(1, Ordering::Release);
    }
}
