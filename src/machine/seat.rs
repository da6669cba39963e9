//! Whoever stands in a line of `shared`: a coroutine of some machine, or a plain thread.
//!
//! A seat is three words, copied into as many lines as its owner waits in. It points to what its owner keeps alive; this is sound by
//! one rule, which `block` keeps on every path, unwinding included: *an owner leaves every line before he goes.*
//!
//! | who uses the pointer | why it is good |
//! |---|---|
//! | whoever serves a line, inside its lock | the place is in the line, so its owner has not left it, which takes the same lock |
//! | whoever has claimed the wait, until he has woken | the owner awaits that wake-up: no deadline, cancellation or teardown ends a claimed wait |
//!
//! The wake-up itself is what lets the owner go, so it is given through a reference of the waker's own.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::wakeup::{Letter, Shared};
use super::{Machine, TaskRef, current};
use crate::kernel::{Errno, Instant, Kernel};
use crate::shared::line::Waiter;
use crate::shared::park::{self, Claim, Meeting, Side, Ticket};

/// See the head of the file.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    place: Place,
    ticket: Ticket,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Coroutine { machine: NonNull<Shared>, slot: u32 },
    Thread(NonNull<Parker>),
}

// SAFETY: a seat goes to other threads inside of lines; both of what it may point to are `Sync`, and alive (head of the file).
unsafe impl Send for Seat {}
// SAFETY: as above; it is not changed by anybody.
unsafe impl Sync for Seat {}

impl Seat {
    /// The running coroutine, with a wait that was opened for other machines too.
    #[inline]
    pub(super) fn of(machine: &Machine, me: TaskRef, ticket: Ticket) -> Seat {
        let place = Place::Coroutine { machine: NonNull::from(&*machine.shared), slot: me.header.index };
        Seat { place, ticket }
    }

    /// What of a wait it names.
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    #[inline]
    fn cell(&self) -> &park::Cell {
        match self.place {
            // SAFETY: the machine's `Shared` is alive whenever a seat is used (head of the file).
            Place::Coroutine { machine, slot } => unsafe { machine.as_ref() }.cells.get(slot),
            // SAFETY: as above, of the thread's parker.
            Place::Thread(parker) => &unsafe { parker.as_ref() }.cell,
        }
    }

    fn side(&self) -> Side<'_> {
        let cell = self.cell();
        // A cell stays where it is, so its address ranks it. Which of two is first matters to threads that meet at once only.
        Side { cell, ticket: self.ticket, rank: std::ptr::from_ref(cell).addr() as u64 }
    }
}

impl Waiter for Seat {
    #[inline]
    fn claim(&self) -> bool {
        self.cell().claim_inside(self.ticket) == Claim::Won
    }

    fn meet(&self, theirs: &Seat) -> Meeting {
        let (mine, theirs) = (self.side(), theirs.side());
        // A coroutine that waits for either end of one channel does not serve itself.
        if mine.rank == theirs.rank { Meeting::Gone } else { park::meet(mine, theirs) }
    }

    #[inline]
    fn withdraw(&self) -> bool {
        self.cell().close(self.ticket)
    }

    #[inline]
    fn wake(self) {
        match self.place {
            Place::Coroutine { machine, slot } => wake_coroutine(machine, slot),
            Place::Thread(parker) => {
                // SAFETY: it came out of an `Arc` (`Parker::seat`), whose owner waits until the word is set below.
                let parker = unsafe { borrow_arc(parker) };
                parker.word.store(AWAKE, Ordering::Release);
                current::kernel().futex_wake(&parker.word, 1);
            }
        }
    }
}

/// A seat in a line that lies in memory of one thread. Both who stands there and who serves run on it, so to end a wait that was
/// opened for this thread alone takes no atomic operation; one that a select has opened for others too ends as anywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalSeat(Seat);

impl From<&Seat> for LocalSeat {
    fn from(seat: &Seat) -> LocalSeat {
        LocalSeat(*seat)
    }
}

impl LocalSeat {
    fn is_open_local(&self) -> bool {
        self.0.cell().is_open_local(self.0.ticket)
    }
}

impl Waiter for LocalSeat {
    #[inline]
    fn claim(&self) -> bool {
        self.0.cell().claim_here(self.0.ticket)
    }

    fn meet(&self, theirs: &LocalSeat) -> Meeting {
        if std::ptr::eq(self.0.cell(), theirs.0.cell()) {
            return Meeting::Gone;
        }
        // Nobody comes between on one thread, so of two waits one that no other thread can end is as good as ended.
        if self.is_open_local() {
            if !theirs.claim() {
                return Meeting::Gone;
            }
            let mine = self.withdraw();
            debug_assert!(mine, "it was open");
            return Meeting::Met;
        }
        if !theirs.is_open_local() {
            return self.0.meet(&theirs.0);
        }
        if !self.withdraw() {
            return Meeting::Claimed;
        }
        let met = theirs.claim();
        debug_assert!(met, "it was open");
        Meeting::Met
    }

    fn withdraw(&self) -> bool {
        self.0.withdraw()
    }

    #[inline]
    fn wake(self) {
        self.0.wake();
    }
}

#[inline]
fn wake_coroutine(shared: NonNull<Shared>, slot: u32) {
    if let Some(machine) = current::machine()
        && std::ptr::eq(&*machine.shared, shared.as_ptr())
    {
        machine.wake_slot(slot);
        return;
    }
    // SAFETY: it came out of the machine's `Arc` (`Seat::of`), and the machine does not end before the letter is there.
    let shared = unsafe { borrow_arc(shared) };
    // A machine ends only when no coroutine of it is parked, and this one is until the letter arrives.
    let _ = shared.post(Letter::Wake { slot });
}

/// A reference of one's own to what is behind `pointer`.
///
/// # Safety
/// `pointer` came out of an `Arc` of which a reference exists while this runs.
unsafe fn borrow_arc<T>(pointer: NonNull<T>) -> Arc<T> {
    // SAFETY: the caller's promise; `ManuallyDrop` leaves the reference that it was made from alone.
    let theirs = ManuallyDrop::new(unsafe { Arc::from_raw(pointer.as_ptr().cast_const()) });
    Arc::clone(&theirs)
}

/// How a thread that is no machine waits: one wait, slept through in `futex_wait`.
#[derive(Debug)]
pub(crate) struct Parker {
    cell: park::Cell,
    word: AtomicU32,
}

const ASLEEP: u32 = 0;
const AWAKE: u32 = 1;

impl Parker {
    /// A wait that has begun, and the seat to stand in line with.
    pub(super) fn open() -> (Arc<Parker>, Seat) {
        let parker = Arc::new(Parker { cell: park::Cell::new(), word: AtomicU32::new(ASLEEP) });
        let ticket = parker.cell.open();
        let place = Place::Thread(NonNull::from(&*parker));
        (parker, Seat { place, ticket })
    }

    /// Sleeps until the wait is claimed and its owner woken, or ends it at `deadline`. Whether it was claimed.
    pub(super) fn sleep(&self, kernel: &dyn Kernel, seat: Seat, deadline: Instant) -> bool {
        let mut deadline = deadline;
        loop {
            if self.word.load(Ordering::Acquire) == AWAKE {
                return true;
            }
            let now = kernel.clock_gettime(crate::kernel::Clock::Monotonic);
            if now >= deadline {
                if self.cell.close(seat.ticket) {
                    return false;
                }
                // Claimed at that very instant: the wake-up is on its way.
                deadline = Instant::FAR;
            }
            let timeout = (deadline != Instant::FAR).then(|| deadline - now);
            match kernel.futex_wait(&self.word, ASLEEP, timeout) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
                // The process is being reclaimed: nobody will wake it.
                Err(_) if self.cell.close(seat.ticket) => return false,
                Err(_) => {}
            }
        }
    }
}
