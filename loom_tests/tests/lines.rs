//! Those who wait in lines: what is sent arrives once or comes back, a permit is one's at a time, no change of a number is missed.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::channel::{Channel, Order, Received, Sent};
use loom_tests::line::Waiter;
use loom_tests::lock::Lock;
use loom_tests::park::{Cell, Claim, Meeting, Side, Ticket, meet};
use loom_tests::permits::{Acquired, Permits};
use loom_tests::primitive::{Arc, AtomicU64, Ordering, relax};
use loom_tests::watch::{Seen, Watched};
use loom_tests::{check, check_all};

/// A thread that waits in lines.
struct Owner {
    cell: Cell,
    woken: AtomicU64,
}

impl Owner {
    /// Leaked, as few as a model has: who wakes the owner may do so when its thread has ended.
    fn new() -> &'static Owner {
        Box::leak(Box::new(Owner { cell: Cell::new(), woken: AtomicU64::new(0) }))
    }

    /// Until who has claimed the wait says so.
    fn sleep(&self) {
        while self.woken.load(Ordering::Acquire) == 0 {
            relax(0);
        }
    }
}

/// One wait.
#[derive(Clone, Copy)]
struct Seat {
    owner: &'static Owner,
    ticket: Ticket,
}

impl Seat {
    fn open(owner: &'static Owner) -> Seat {
        Seat { owner, ticket: owner.cell.open() }
    }

    fn side(&self) -> Side<'_> {
        let rank = std::ptr::from_ref(&self.owner.cell).addr() as u64;
        Side { cell: &self.owner.cell, ticket: self.ticket, rank }
    }

    /// The deadline comes. Whether it was first.
    fn give_up(&self) -> bool {
        self.owner.cell.close(self.ticket)
    }
}

impl Waiter for Seat {
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

type Shared = Arc<Lock<Channel<u32, Seat>>>;

/// Receives with a wait that is given up at some time; what was received, if anything.
fn receive_or_give_up(channel: &Shared) -> Option<u32> {
    let owner = Owner::new();
    let seat = Seat::open(owner);
    match channel.with(|channel| channel.receive(Order::Oldest, Some(&seat))) {
        Received::Done(item, sender) => {
            sender.into_iter().for_each(Waiter::wake);
            Some(item)
        }
        Received::Waits(key) => {
            if !seat.give_up() {
                owner.sleep();
            }
            channel.with(|channel| channel.leave_receivers(key)).item
        }
        _ => panic!("there are senders, and this wait is nobody else's"),
    }
}

/// An item is sent while its receiver comes, waits and gives up: it is received, or is still in the channel.
#[test]
fn an_item_meets_a_receiver_who_gives_up() {
    check_all(|| {
        let channel: Shared = Arc::new(Lock::new(Channel::new(1)));
        let theirs = channel.clone();
        let sender = thread::spawn(move || match theirs.with(|channel| channel.send(7, None)) {
            Sent::Done(receiver) => receiver.into_iter().for_each(Waiter::wake),
            _ => panic!("there is room"),
        });
        let received = receive_or_give_up(&channel);
        sender.join().unwrap();
        let left = match channel.with(|channel| channel.receive(Order::Oldest, None)) {
            Received::Done(item, _) => Some(item),
            _ => None,
        };
        assert!(received.or(left) == Some(7) && received.is_some() != left.is_some());
    });
}

/// A sender waits at a channel without a buffer and gives up, while a receiver looks: the item is with one of them.
#[test]
fn a_sender_who_gives_up_has_his_item_or_has_sent_it() {
    check_all(|| {
        let channel: Shared = Arc::new(Lock::new(Channel::new(0)));
        let theirs = channel.clone();
        let sender = thread::spawn(move || {
            let owner = Owner::new();
            let seat = Seat::open(owner);
            let Sent::Waits(key) = theirs.with(|channel| channel.send(7, Some(&seat))) else {
                panic!("nobody receives with a wait")
            };
            if !seat.give_up() {
                owner.sleep();
            }
            theirs.with(|channel| channel.leave_senders(key)).item
        });
        let received = match channel.with(|channel| channel.receive(Order::Oldest, None)) {
            Received::Done(item, sender) => {
                sender.into_iter().for_each(Waiter::wake);
                Some(item)
            }
            _ => None,
        };
        let kept = sender.join().unwrap();
        assert!(received.or(kept) == Some(7) && received.is_some() != kept.is_some());
    });
}

/// A permit is given back while one waits for it and gives up: he has it, or it is free, and never both.
#[test]
fn a_permit_is_held_once() {
    check_all(|| {
        let permits = Arc::new(Lock::new(Permits::<Seat>::new(0)));
        let theirs = permits.clone();
        let giver = thread::spawn(move || {
            theirs.with(|permits| permits.release(1));
            while let Some(waiter) = theirs.with(Permits::next_served) {
                waiter.wake();
            }
        });
        let owner = Owner::new();
        let seat = Seat::open(owner);
        let held = match permits.with(|permits| permits.acquire(1, Some(&seat))) {
            Acquired::Done => true,
            Acquired::Waits(key) => {
                let gave_up = seat.give_up();
                if !gave_up {
                    owner.sleep();
                }
                let served = permits.with(|permits| permits.leave(key)).served;
                assert_eq!(served, !gave_up, "whoever ends the wait decides");
                served
            }
            other => panic!("{other:?}"),
        };
        giver.join().unwrap();
        assert_eq!(permits.with(|permits| permits.free()), u64::from(!held));
    });
}

/// A number changes and all are told, while one compares and waits: he sees the change or is woken.
#[test]
fn a_change_is_seen_or_told() {
    check(|| {
        let watched = Arc::new(Watched::<Seat>::new(0));
        let theirs = watched.clone();
        let changer = thread::spawn(move || {
            theirs.update(|number| Some(number + 1)).unwrap();
            theirs.notify_all();
        });
        let owner = Owner::new();
        let seat = Seat::open(owner);
        if let Seen::Waits(key) = watched.look(0, Some(&seat)) {
            owner.sleep();
            assert!(watched.leave(key));
        }
        assert_eq!(watched.get(), 1);
        changer.join().unwrap();
    });
}
