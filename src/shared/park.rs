//! The one wait protocol. A wait is a [`Ticket`] of a [`Cell`]; whoever claims it, alone, ends the wait.
//!
//! A coroutine has one cell, for life; so has whoever uses its slot after it. One atomic word holds the number of the
//! present (or last) wait, which never starts again, and the state of it:
//!
//! | state | meaning | left by |
//! |---|---|---|
//! | Idle | no wait | `open` -> Open, `open_local` -> LocalOpen, each with the next ticket |
//! | LocalOpen | waits; no other thread knows the ticket | `claim_local` -> Claimed, `close` -> Idle |
//! | Open | waits; any thread that has the ticket may claim it | `claim` -> Claimed, `close` -> Idle, `commit` -> Committing |
//! | Committing | a select of the owner has found a partner and is claiming it | `reopen` -> Open, or on success -> Claimed |
//! | Claimed | over: the winner delivers its effect, then its wake-up | `finish` -> Idle |
//!
//! *Rules.* Only the owner's thread leaves Idle, LocalOpen, Committing and Claimed, so it does so with plain stores. Open
//! is left by compare-and-exchange alone, and so once: the winner, and only the winner, may touch what the owner has lent
//! for the wait, and its effect is delivered, whatever else happens meanwhile. An owner whose `close` or `commit` fails
//! was claimed: the wake-up is on its way, and must be awaited. A ticket of an earlier wait matches no word ever again,
//! so a late claim does nothing; nor does a claim from another thread match LocalOpen, so that one needs no atomic
//! operation that costs.
//!
//! *Committing.* A select waits at several places and may be found at any of them. When it finds a partner itself it must not
//! be found too: it leaves Open first, then claims the partner, and opens again if the partner is gone ([`meet`]). A
//! claim that meets Committing is neither won nor lost yet: it waits, since the select neither sleeps nor takes a lock before it
//! has decided. Two selects that meet each other both see that; the one of higher rank opens again and lets the
//! other have it. Whoever waits while Committing thus waits for a higher rank, so no ring of them can close.
//! Committing is a lock, so no [`point`] stands between `commit` and what leaves it: in a simulation nobody is stalled or
//! killed there, and the orders inside are loom's to try. Nor is there one in `meet` at all, which is called inside the lock of a
//! channel.
//!
//! Not here: what a wait waits for, how the owner is woken, and where the effect goes.

use super::primitive::{AtomicU64, Ordering, point, relax};

pub use super::cells::Cells;

/// Names one wait of one cell. A stale one does nothing; the default one names no wait at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticket(u64);

impl Ticket {
    /// For telling waits of one cell apart.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// How an attempt to end a wait went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The wait was ended by this claim: the effect must now be delivered, and the owner woken.
    Won,
    /// It was over already.
    Lost,
    /// Its owner is deciding between this and another partner. Ask again.
    Busy,
}

impl Claim {
    /// Whether this claim ended the wait.
    #[inline(always)]
    pub fn won(self) -> bool {
        self == Claim::Won
    }
}

/// A coroutine's park cell. See the head of the file.
#[derive(Debug)]
pub struct Cell {
    /// The ticket's number above [`STATE`], the state of its wait in it.
    word: AtomicU64,
}

const IDLE: u64 = 0;
const LOCAL_OPEN: u64 = 1;
const OPEN: u64 = 2;
const COMMITTING: u64 = 3;
const CLAIMED: u64 = 4;
/// The bits of the word that hold the state.
const STATE: u64 = 7;
/// From one ticket to the next. At a wait each nanosecond, 2^61 of them take 73 years.
const STEP: u64 = STATE + 1;

impl Default for Cell {
    fn default() -> Cell {
        Cell::new()
    }
}

// By the owner's thread.
impl Cell {
    /// A cell without a wait.
    pub fn new() -> Cell {
        Cell { word: AtomicU64::new(IDLE) }
    }

    /// Begins a wait that any thread may end. What is lent for it is written before. No point: nobody has the ticket yet, and it
    /// may be called inside a lock.
    #[inline]
    pub fn open(&self) -> Ticket {
        let ticket = self.next();
        // Release, for the Acquire of `try_claim`: the winner sees what the owner has lent.
        self.word.store(ticket.0 | OPEN, Ordering::Release);
        ticket
    }

    /// Begins a wait that only this thread may end: its ticket must go to no other.
    #[inline(always)]
    pub fn open_local(&self) -> Ticket {
        let ticket = self.next();
        // Relaxed: all who know the ticket are this thread. A claim from elsewhere does not match, so it does not write.
        self.word.store(ticket.0 | LOCAL_OPEN, Ordering::Relaxed);
        ticket
    }

    #[inline(always)]
    fn next(&self) -> Ticket {
        // Relaxed: no other thread writes an idle cell.
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(word & STATE, IDLE, "a coroutine waits for one thing at a time");
        Ticket((word & !STATE) + STEP)
    }

    /// Ends, from the owner's thread, a wait that `open_local` began. False: it was over.
    #[inline(always)]
    pub fn claim_local(&self, ticket: Ticket) -> bool {
        // Relaxed: as in `open_local`.
        let won = self.word.load(Ordering::Relaxed) == ticket.0 | LOCAL_OPEN;
        if won {
            self.word.store(ticket.0 | CLAIMED, Ordering::Relaxed);
        }
        won
    }

    /// Ends, from the owner's thread, a wait that either of `open` and `open_local` began. False: it was over. Inside a lock: no point.
    #[inline(always)]
    pub fn claim_here(&self, ticket: Ticket) -> bool {
        self.claim_local(ticket) || self.claim_inside(ticket).won()
    }

    /// Whether that wait is open, and for this thread alone.
    #[inline(always)]
    pub fn is_open_local(&self, ticket: Ticket) -> bool {
        // Relaxed: as in `open_local`.
        self.word.load(Ordering::Relaxed) == ticket.0 | LOCAL_OPEN
    }

    /// Takes back a wait. False: it was claimed first, so the wake-up is on its way and must be awaited.
    ///
    /// No point: it may be called inside a lock.
    #[inline]
    pub fn close(&self, ticket: Ticket) -> bool {
        // Relaxed: what matters below is decided by the exchange, and this thread alone writes LocalOpen.
        if self.word.load(Ordering::Relaxed) == ticket.0 | LOCAL_OPEN {
            self.word.store(ticket.0 | IDLE, Ordering::Relaxed);
            return true;
        }
        // Who lost has touched nothing; who won says so with the wake-up.
        self.leave_open(ticket, IDLE)
    }

    /// First step of a select that has found a partner: nobody can find it meanwhile. False: as `close`. [`meet`] is
    /// all three steps. No point, as there is none in what follows.
    #[inline]
    pub fn commit(&self, ticket: Ticket) -> bool {
        self.leave_open(ticket, COMMITTING)
    }

    fn leave_open(&self, ticket: Ticket, state: u64) -> bool {
        // Relaxed: the exchange alone decides, and hands nothing over.
        self.word
            .compare_exchange(ticket.0 | OPEN, ticket.0 | state, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// The partner was gone: waits on. The caller then looks again at what it waits for.
    #[inline]
    pub fn reopen(&self, ticket: Ticket) {
        // Relaxed: no other thread writes a committing cell.
        debug_assert_eq!(
            self.word.load(Ordering::Relaxed),
            ticket.0 | COMMITTING,
            "only a commit is taken back"
        );
        // Release: as in `open`, for what the owner did with its memory while nobody could claim it.
        self.word.store(ticket.0 | OPEN, Ordering::Release);
    }

    /// The wait is over and its effect received: the cell is idle. Not to be called on a wait that is still open.
    #[inline(always)]
    pub fn finish(&self, ticket: Ticket) {
        // Relaxed: no other thread writes a cell that is not open. Whatever the caller says, the number stays.
        let word = self.word.load(Ordering::Relaxed);
        debug_assert!(word & STATE != OPEN, "an open wait is closed, or claimed, and not finished");
        debug_assert!(word & STATE == IDLE || word & !STATE == ticket.0, "this is the end of another wait");
        self.word.store((word & !STATE) | IDLE, Ordering::Relaxed);
    }
}

// By any thread.
impl Cell {
    /// Ends the wait, unless it is over. Never answers [`Claim::Busy`]: it waits until the select has decided.
    ///
    /// The caller must not be committing itself (that is what [`meet`] is for): two such could wait for each other.
    #[inline]
    pub fn claim(&self, ticket: Ticket) -> Claim {
        point();
        self.claim_inside(ticket)
    }

    /// As `claim`, inside a lock: no point.
    #[inline]
    pub fn claim_inside(&self, ticket: Ticket) -> Claim {
        let mut turns = 0;
        loop {
            match self.try_claim(ticket) {
                Claim::Busy => relax(turns),
                decided => return decided,
            }
            turns += 1;
        }
    }

    /// One attempt to end the wait. No point: [`meet`] calls it while it holds its own cell.
    #[inline]
    pub fn try_claim(&self, ticket: Ticket) -> Claim {
        // Acquire, for the Release of `open` and `reopen`. A failure hands nothing over. It cannot be read from before
        // the wait began, since whoever has the ticket has it from after; an old Committing only asks again.
        let claimed = self.word.compare_exchange(
            ticket.0 | OPEN,
            ticket.0 | CLAIMED,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        match claimed {
            Ok(_) => Claim::Won,
            Err(word) if word == ticket.0 | COMMITTING => Claim::Busy,
            Err(_) => Claim::Lost,
        }
    }

    /// Whether that wait was ended by a claim, and its owner does not know yet. For reports: no point.
    pub fn is_claimed(&self, ticket: Ticket) -> bool {
        // Relaxed: hands nothing over.
        self.word.load(Ordering::Relaxed) == ticket.0 | CLAIMED
    }

    fn is_committing(&self, ticket: Ticket) -> bool {
        // Relaxed: an old answer only asks again; the exchange that follows decides.
        self.word.load(Ordering::Relaxed) == ticket.0 | COMMITTING
    }
}

/// One of the two waits that a select brings together.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Where it waits.
    pub cell: &'a Cell,
    /// Which of that cell's waits it is.
    pub ticket: Ticket,
    /// Different for every cell of a process, and the same for one cell always: machine, then slot.
    pub rank: u64,
}

/// How a select's attempt to take a partner ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meeting {
    /// Both waits are over, by this: exchange, wake the other, and `finish` one's own.
    Met,
    /// That partner was over; one's own wait is open: look again.
    Gone,
    /// One's own wait was claimed: its wake-up is on its way and must be awaited.
    Claimed,
}

/// Ends both waits, or neither. On the thread of `mine`'s owner, whose wait is open. The two are different cells.
///
/// What `mine` has lent must be in order: it can be claimed whenever this has not succeeded.
pub fn meet(mine: Side<'_>, theirs: Side<'_>) -> Meeting {
    assert!(mine.rank != theirs.rank, "a select does not meet itself");
    while mine.cell.commit(mine.ticket) {
        match claim_for(mine, theirs) {
            Claim::Won => {
                mine.cell.commit_done(mine.ticket);
                return Meeting::Met;
            }
            Claim::Lost => {
                mine.cell.reopen(mine.ticket);
                return Meeting::Gone;
            }
            Claim::Busy => give_way(mine, theirs),
        }
    }
    Meeting::Claimed
}

/// The lower rank insists until the other has decided; the higher one gets `Busy`.
fn claim_for(mine: Side<'_>, theirs: Side<'_>) -> Claim {
    let mut turns = 0;
    loop {
        let claim = theirs.cell.try_claim(theirs.ticket);
        if claim != Claim::Busy || mine.rank > theirs.rank {
            return claim;
        }
        // Never in a simulation: theirs would have been left inside its commit.
        relax(turns);
        turns += 1;
    }
}

/// Lets the other have what it wants, which may be this one: open until it has decided.
fn give_way(mine: Side<'_>, theirs: Side<'_>) {
    mine.cell.reopen(mine.ticket);
    let mut turns = 0;
    while theirs.cell.is_committing(theirs.ticket) {
        relax(turns);
        turns += 1;
    }
}

impl Cell {
    /// Committing -> Claimed, by the owner: those who wait for the decision lose.
    fn commit_done(&self, ticket: Ticket) {
        // Relaxed: hands nothing over; who reads it has lost.
        self.word.store(ticket.0 | CLAIMED, Ordering::Relaxed);
    }
}
