//! The wait protocol: one wait, many who may end it, one who does.
//!
//! `weaken` names for each model the line whose change makes it fail.
#![allow(unsafe_code)] // the memory lent for a wait

use loom::thread;
use loom_tests::mailbox::{Mailbox, Wake};
use loom_tests::park::{Cell, Claim, Meeting, Side, Ticket, meet};
use loom_tests::primitive::{Arc, AtomicU64, Ordering, UnsafeCell, relax};
use loom_tests::{check, check_all};

/// One coroutine as its wakers see it: its cell, memory that it lends for the wait, and the mailbox of its machine.
struct Waiter {
    cell: Cell,
    lent: UnsafeCell<u64>,
    letters: Mailbox<()>,
}

/// What stands in the lent memory before an effect is delivered.
const NOTHING: u64 = 0;
const CANCELLED: u64 = 100;
const TIMED_OUT: u64 = 200;

impl Waiter {
    fn new() -> Arc<Waiter> {
        Arc::new(Waiter { cell: Cell::new(), lent: UnsafeCell::new(NOTHING), letters: Mailbox::new() })
    }

    fn write(&self, value: u64) {
        // SAFETY: the models call it as owner while the wait is not open, or having won; loom checks just that.
        self.lent.with_mut(|place| unsafe { *place = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: as `write`.
        self.lent.with(|place| unsafe { *place })
    }

    /// Another thread's attempt to deliver `effect`.
    fn deliver(&self, ticket: Ticket, effect: u64) -> bool {
        let won = self.cell.claim(ticket).won();
        if won {
            self.write(self.read() + effect);
            assert_eq!(self.letters.push(()).unwrap(), Wake::NotNeeded);
        }
        won
    }

    /// The owner's wait for the wake-up that it knows to be on its way.
    fn awaited(&self, ticket: Ticket) -> u64 {
        while self.letters.drain().next().is_none() {
            relax(0);
        }
        self.cell.finish(ticket);
        self.read()
    }
}

/// The models are worth something only if the files they include are made of loom's atomics: then both of these
/// orders are found, and std's would give one.
#[test]
fn the_primitive_is_looms() {
    use std::sync::atomic::AtomicUsize;
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    static SECOND: AtomicUsize = AtomicUsize::new(0);
    assert!(std::any::type_name::<AtomicU64>().starts_with("loom::"));
    check_all(|| {
        let waiter = Waiter::new();
        let ticket = waiter.cell.open();
        let other = thread::spawn({
            let waiter = waiter.clone();
            move || waiter.cell.claim(ticket).won()
        });
        let counter = if waiter.cell.close(ticket) { &FIRST } else { &SECOND };
        counter.fetch_add(1, Ordering::Relaxed);
        other.join().unwrap();
    });
    assert!(FIRST.load(Ordering::Relaxed) > 0 && SECOND.load(Ordering::Relaxed) > 0);
}

/// A message, a cancellation from another machine and the deadline meet: one of them ends the wait, and what the
/// coroutine then finds is that one's effect. A message lost to the deadline is not delivered at all.
#[test]
fn wake_timeout_and_cancel_meet() {
    check(|| {
        let waiter = Waiter::new();
        let ticket = waiter.cell.open();
        let [message, cancel] = [1, CANCELLED].map(|effect| {
            let waiter = waiter.clone();
            thread::spawn(move || waiter.deliver(ticket, effect))
        });
        let timed_out = waiter.cell.claim(ticket).won();
        let outcome = if timed_out {
            waiter.write(TIMED_OUT);
            waiter.cell.finish(ticket);
            waiter.read()
        } else {
            waiter.awaited(ticket)
        };
        let (message, cancelled) = (message.join().unwrap(), cancel.join().unwrap());
        assert_eq!(usize::from(message) + usize::from(cancelled) + usize::from(timed_out), 1);
        let expected = if message {
            1
        } else if cancelled {
            CANCELLED
        } else {
            TIMED_OUT
        };
        assert_eq!(outcome, expected);
        assert!(!waiter.cell.claim(ticket).won(), "the wait is over for good");
    });
}

/// The owner takes its wait back while another thread claims it. Either it has its memory back, untouched for good, or
/// the effect comes.
#[test]
fn close_meets_claim() {
    check_all(|| {
        let waiter = Waiter::new();
        let ticket = waiter.cell.open();
        let other = thread::spawn({
            let waiter = waiter.clone();
            move || waiter.deliver(ticket, 1)
        });
        if waiter.cell.close(ticket) {
            waiter.write(7);
            assert!(!other.join().unwrap());
            assert_eq!(waiter.read(), 7);
        } else {
            assert_eq!(waiter.awaited(ticket), 1);
            assert!(other.join().unwrap());
        }
    });
}

/// A waker holds the ticket of a wait that is over, while the next ones go on in the same cell, one seen by other threads and
/// one not: it ends the first or none.
#[test]
fn a_stale_ticket_ends_nothing() {
    check_all(|| {
        let waiter = Waiter::new();
        let first = waiter.cell.open();
        let other = thread::spawn({
            let waiter = waiter.clone();
            move || waiter.deliver(first, 1)
        });
        let closed = waiter.cell.close(first);
        if !closed {
            waiter.awaited(first);
        }
        let second = waiter.cell.open();
        assert!(waiter.cell.close(second), "nobody had the second ticket");
        let third = waiter.cell.open_local();
        assert!(waiter.cell.claim_local(third), "nobody had the third ticket");
        waiter.cell.finish(third);
        let fourth = waiter.cell.open_local();
        assert!(waiter.cell.close(fourth), "nobody had the fourth ticket");
        assert_eq!(other.join().unwrap(), !closed);
        assert!(first != second && second != third && third != fourth && first != fourth);
        assert!(first != Ticket::default(), "the default ticket names no wait");
    });
}

/// What the owner writes before it opens is the winner's, even if the ticket came by a way that orders nothing.
#[test]
fn open_lends_memory() {
    check_all(|| {
        let waiter = Waiter::new();
        let told = Arc::new(AtomicU64::new(0));
        // Every first ticket of a cell is the same, so the other thread can have it without being told in order.
        let ticket = Cell::new().open();
        let other = thread::spawn({
            let (waiter, told) = (waiter.clone(), told.clone());
            move || {
                let won = told.load(Ordering::Relaxed) == 1 && waiter.deliver(ticket, 1);
                (won, won.then(|| waiter.read()))
            }
        });
        waiter.write(10);
        assert_eq!(waiter.cell.open(), ticket);
        told.store(1, Ordering::Relaxed);
        let (won, read) = other.join().unwrap();
        assert!(!won || read == Some(11));
    });
}

/// A select changes what it has lent while it commits, finds its partner gone, and opens again: a claim that waited
/// for that sees the change, and one that came before has kept the select from committing.
#[test]
fn reopen_lends_memory_again() {
    check_all(|| {
        let waiter = Waiter::new();
        let ticket = waiter.cell.open();
        let other = thread::spawn({
            let waiter = waiter.clone();
            move || waiter.deliver(ticket, 1)
        });
        let committed = waiter.cell.commit(ticket);
        if committed {
            waiter.write(10);
            waiter.cell.reopen(ticket);
        }
        assert_eq!(waiter.awaited(ticket), if committed { 11 } else { 1 });
        assert!(other.join().unwrap(), "the only claim wins in the end");
    });
}

/// Three coroutines of different machines, of ranks 0, 1, 2, whose waits are open.
fn selects() -> (Arc<[Cell; 3]>, [Ticket; 3]) {
    let cells = Arc::new([Cell::new(), Cell::new(), Cell::new()]);
    let tickets = [cells[0].open(), cells[1].open(), cells[2].open()];
    (cells, tickets)
}

/// Has `mine` meet `theirs`, on a thread of its own.
fn spawn_meet(
    cells: &Arc<[Cell; 3]>,
    tickets: [Ticket; 3],
    mine: usize,
    theirs: usize,
) -> thread::JoinHandle<Meeting> {
    let cells = cells.clone();
    thread::spawn(move || {
        let side = |at: usize| Side { cell: &cells[at], ticket: tickets[at], rank: at as u64 };
        meet(side(mine), side(theirs))
    })
}

/// Two selects find each other at the same time: they meet once. Neither do both win, nor both lose, nor does one wait for
/// ever.
#[test]
fn select_meets_select() {
    check_all(|| {
        let (cells, tickets) = selects();
        let other = spawn_meet(&cells, tickets, 1, 0);
        let side = |at: usize| Side { cell: &cells[at], ticket: tickets[at], rank: at as u64 };
        let mut ends = [meet(side(0), side(1)), other.join().unwrap()];
        ends.sort_by_key(|end| *end == Meeting::Claimed);
        assert_eq!(ends, [Meeting::Met, Meeting::Claimed]);
        assert!([0, 1].iter().all(|&at| !cells[at].claim(tickets[at]).won()));
    });
}

/// Two selects meet while a plain waker claims one of them. Each wait ends once, and none is left that somebody wanted.
#[test]
fn selects_and_a_waker() {
    for target in [0, 1] {
        check(move || {
            let (cells, tickets) = selects();
            let (low, high) = (spawn_meet(&cells, tickets, 0, 1), spawn_meet(&cells, tickets, 1, 0));
            let waker = cells[target].claim(tickets[target]);
            let (low, high) = (low.join().unwrap(), high.join().unwrap());
            let (hit, missed) = if target == 0 { (low, high) } else { (high, low) };
            match waker {
                // The other finds nobody, and its wait is still open.
                Claim::Won => {
                    assert_eq!((hit, missed), (Meeting::Claimed, Meeting::Gone));
                    assert!(cells[1 - target].claim(tickets[1 - target]).won());
                }
                Claim::Lost => {
                    assert!(matches!(
                        (low, high),
                        (Meeting::Met, Meeting::Claimed) | (Meeting::Claimed, Meeting::Met)
                    ));
                }
                Claim::Busy => unreachable!("claim waits"),
            }
        });
    }
}

/// Three selects, each after the next: the ring breaks, two meet, and the third finds its partner gone.
#[test]
fn a_ring_of_selects() {
    check(|| {
        let (cells, tickets) = selects();
        let others = [spawn_meet(&cells, tickets, 1, 2), spawn_meet(&cells, tickets, 2, 0)];
        let side = |at: usize| Side { cell: &cells[at], ticket: tickets[at], rank: at as u64 };
        let first = meet(side(0), side(1));
        let [second, third] = others.map(|other| other.join().unwrap());
        let ends = [first, second, third];
        let met = ends.iter().position(|end| *end == Meeting::Met).expect("two meet");
        assert_eq!(ends[(met + 1) % 3], Meeting::Claimed);
        assert_eq!(ends[(met + 2) % 3], Meeting::Gone);
        assert!(cells[(met + 2) % 3].claim(tickets[(met + 2) % 3]).won(), "it waits on");
    });
}
