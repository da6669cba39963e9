//! Whoever stands in a line of `shared`: a coroutine of some machine, or a plain thread.
//!
//! A seat is two words, copied into as many lines as its owner waits in: which wait it is, and whose, by his chair. The chair is in the
//! owner's control block, or in a thread's parker, which the owner keeps alive; this is sound by one rule, which `block` keeps on
//! every path, unwinding included: *an owner leaves every line before he goes.*
//!
//! | who uses the pointer | why it is good |
//! |---|---|
//! | whoever serves a line, inside its lock | the place is in the line, so its owner has not left it, which takes the same lock |
//! | whoever has claimed the wait, until he has woken | the owner awaits that wake-up: no deadline, cancellation or teardown ends a claimed wait |
//!
//! The wake-up itself is what lets the owner go, so it is given through a reference of the waker's own.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::wakeup::{Letter, Shared};
use super::{TaskRef, current};
use crate::kernel::{Errno, Instant, Kernel};
use crate::shared::line::Waiter;
use crate::shared::park::{self, Claim, Meeting, Side, Ticket};

/// See the head of the file.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    chair: NonNull<Chair>,
    ticket: Ticket,
}

/// Who somebody that waits is. It does not change while he does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chair {
    cell: NonNull<park::Cell>,
    owner: Owner,
}

#[derive(Clone, Copy, Debug)]
enum Owner {
    Coroutine { machine: NonNull<Shared>, task: TaskRef },
    Thread(NonNull<Parker>),
}

// SAFETY: a seat goes to other threads inside of lines. The chair is alive and does not change meanwhile (head of the file), and what is
// used there of what it points to is `Sync`: the cell, the machine's shared part, the parker, and the number of a coroutine's slot.
unsafe impl Send for Seat {}
// SAFETY: as above; it is not changed by anybody.
unsafe impl Sync for Seat {}

impl Chair {
    /// Of a coroutine.
    #[inline(always)]
    pub(super) fn of(shared: &Arc<Shared>, task: TaskRef) -> Chair {
        let cell = NonNull::from(shared.cells.get(task.header.index));
        Chair { cell, owner: Owner::Coroutine { machine: NonNull::from(&**shared), task } }
    }

    #[inline(always)]
    pub(super) fn cell(&self) -> &park::Cell {
        // SAFETY: it is in the machine's table, where it stays and which the machine keeps, or in the thread's parker; those are alive
        // whenever a chair is used (head of the file).
        unsafe { self.cell.as_ref() }
    }
}

impl Seat {
    /// A wait of the owner of this chair.
    #[inline(always)]
    pub(super) fn of(chair: &Chair, ticket: Ticket) -> Seat {
        Seat { chair: NonNull::from(chair), ticket }
    }

    #[inline(always)]
    fn chair(&self) -> &Chair {
        // SAFETY: it is alive whenever a seat is used (head of the file).
        unsafe { self.chair.as_ref() }
    }

    /// What of a wait it names.
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    #[inline(always)]
    fn cell(&self) -> &park::Cell {
        self.chair().cell()
    }

    fn side(&self) -> Side<'_> {
        let cell = self.cell();
        // A cell stays where it is, so its address ranks it. Which of two is first matters to threads that meet at once only.
        Side { cell, ticket: self.ticket, rank: std::ptr::from_ref(cell).addr() as u64 }
    }
}

impl Waiter for Seat {
    fn is_same(&self, theirs: &Seat) -> bool {
        std::ptr::eq(self.cell(), theirs.cell())
    }

    #[inline(always)]
    fn claim(&self) -> bool {
        self.cell().claim_inside(self.ticket) == Claim::Won
    }

    fn meet(&self, theirs: &Seat) -> Meeting {
        park::meet(self.side(), theirs.side())
    }

    #[inline]
    fn withdraw(&self) -> bool {
        self.cell().close(self.ticket)
    }

    #[inline(always)]
    fn wake(self) {
        match self.chair().owner {
            Owner::Coroutine { machine, task } => wake_coroutine(machine, task),
            Owner::Thread(parker) => wake_thread(parker),
        }
    }
}

#[cold]
fn wake_thread(parker: NonNull<Parker>) {
    // SAFETY: it came out of an `Arc` (`Parker::open`), whose owner waits until the word is set below.
    let parker = unsafe { borrow_arc(parker) };
    parker.word.store(AWAKE, Ordering::Release);
    current::kernel().futex_wake(&parker.word, 1);
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
    fn is_same(&self, theirs: &LocalSeat) -> bool {
        self.0.is_same(&theirs.0)
    }

    #[inline(always)]
    fn claim(&self) -> bool {
        self.0.cell().claim_here(self.0.ticket)
    }

    fn meet(&self, theirs: &LocalSeat) -> Meeting {
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

    #[inline(always)]
    fn wake(self) {
        self.0.wake();
    }
}

/// Its control block is of another thread, perhaps. All that is read of it there is the number of its slot, which does not change
/// while it is parked.
#[inline(always)]
fn wake_coroutine(shared: NonNull<Shared>, task: TaskRef) {
    match current::machine() {
        Some(machine) if std::ptr::eq(&*machine.shared, shared.as_ptr()) => machine.wake_claimed(task),
        _ => send_awake(shared, task.header.index),
    }
}

#[inline(never)]
fn send_awake(shared: NonNull<Shared>, slot: u32) {
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
    chair: Chair,
}

// SAFETY: the chair is its own, and points to its fields.
unsafe impl Send for Parker {}
// SAFETY: as above; it does not change.
unsafe impl Sync for Parker {}

const ASLEEP: u32 = 0;
const AWAKE: u32 = 1;

impl Parker {
    /// A wait that has begun, and the seat to stand in line with.
    pub(super) fn open() -> (Arc<Parker>, Seat) {
        let parker = Arc::new_cyclic(|parker: &Weak<Parker>| {
            let this = NonNull::new(parker.as_ptr().cast_mut()).expect("memory for one");
            // SAFETY: it is being made there; only the address of the field is asked for.
            let cell = unsafe { NonNull::new_unchecked(&raw mut (*this.as_ptr()).cell) };
            let chair = Chair { cell, owner: Owner::Thread(this) };
            Parker { cell: park::Cell::new(), word: AtomicU32::new(ASLEEP), chair }
        });
        let seat = Seat::of(&parker.chair, parker.cell.open());
        (parker, seat)
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
