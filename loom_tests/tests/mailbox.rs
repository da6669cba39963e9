//! The mailbox: no letter is lost, none comes twice, and a machine that sleeps is woken once.
//!
//! `weaken` names for each model the line whose change makes it fail.
#![allow(unsafe_code)] // what the closer leaves for those who are refused

use loom::sync::{Condvar, Mutex};
use loom::thread;
use loom_tests::mailbox::{Closed, Mailbox, Wake};
use loom_tests::primitive::{Arc, AtomicU64, Ordering, UnsafeCell, relax};
use loom_tests::{check, check_all};

/// A machine as its senders see it.
struct Machine {
    mailbox: Mailbox<Letter>,
    eventfd: Eventfd,
}

/// Sleeps while nobody has written. (Loom's `Notify` also wakes for nothing, which would hide a second write.)
struct Eventfd {
    count: Mutex<u64>,
    written: Condvar,
    writes: AtomicU64,
}

impl Eventfd {
    fn write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        *self.count.lock().unwrap() += 1;
        self.written.notify_one();
    }

    fn wait(&self) {
        let mut count = self.count.lock().unwrap();
        while *count == 0 {
            count = self.written.wait(count).unwrap();
        }
        *count = 0;
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Letter {
    Work { sender: usize, number: u64 },
    Stop,
}

impl Machine {
    fn new() -> Arc<Machine> {
        let eventfd = Eventfd { count: Mutex::new(0), written: Condvar::new(), writes: AtomicU64::new(0) };
        Arc::new(Machine { mailbox: Mailbox::new(), eventfd })
    }

    /// As every sender does it. True: delivered.
    fn post(&self, letter: Letter) -> bool {
        match self.mailbox.push(letter) {
            Ok(wake) => {
                self.wake_if(wake);
                true
            }
            Err(Closed(back)) => {
                assert_eq!(back, letter, "the letter itself comes back");
                false
            }
        }
    }

    fn wake_if(&self, wake: Wake) {
        if wake == Wake::Needed {
            self.eventfd.write();
        }
    }

    /// The machine's turn: all letters, or a sleep if there are none. Counts its sleeps.
    fn turn(&self, sleeps: &mut u64) -> Vec<Letter> {
        let letters: Vec<_> = self.mailbox.drain().collect();
        if letters.is_empty() && self.mailbox.sleep() {
            *sleeps += 1;
            self.eventfd.wait();
            self.mailbox.awake();
        }
        letters
    }
}

fn work(sender: usize, number: u64) -> Letter {
    Letter::Work { sender, number }
}

/// Two senders and a machine that sleeps whenever it has nothing to do: it gets both letters (loom calls it a deadlock if it
/// sleeps on), and its eventfd is written exactly once for each sleep.
#[test]
fn senders_meet_a_sleeper() {
    check(|| {
        let machine = Machine::new();
        let senders = [0, 1].map(|sender| {
            let machine = machine.clone();
            thread::spawn(move || assert!(machine.post(work(sender, 0))))
        });
        let (mut letters, mut sleeps) = (Vec::new(), 0);
        while letters.len() < 2 {
            letters.extend(machine.turn(&mut sleeps));
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_ne!(letters[0], letters[1], "none comes twice");
        assert_eq!(machine.eventfd.writes(), sleeps);
    });
}

/// The machine's sleep ends by a timeout just as a letter comes: the letter is there at its next turn, and was announced at
/// most once.
#[test]
fn a_timeout_meets_a_letter() {
    check_all(|| {
        let machine = Machine::new();
        let sender = thread::spawn({
            let machine = machine.clone();
            move || (0..2).for_each(|number| assert!(machine.post(work(0, number))))
        });
        let slept = machine.mailbox.sleep();
        machine.mailbox.awake();
        sender.join().unwrap();
        assert!(machine.eventfd.writes() <= u64::from(slept));
        assert!(machine.mailbox.drain().eq([work(0, 0), work(0, 1)]));
        assert!(machine.mailbox.sleep(), "it can sleep again");
    });
}

/// Each sender's letters come in its order, and those of one batch next to each other.
#[test]
fn letters_keep_their_order() {
    check(|| {
        let machine = Machine::new();
        let single = thread::spawn({
            let machine = machine.clone();
            move || (0..2).for_each(|number| assert!(machine.post(work(0, number))))
        });
        let batch = thread::spawn({
            let machine = machine.clone();
            move || machine.wake_if(machine.mailbox.push_all([work(1, 0), work(1, 1)]).unwrap())
        });
        let mut letters: Vec<_> = machine.mailbox.drain().collect();
        single.join().unwrap();
        batch.join().unwrap();
        letters.extend(machine.mailbox.drain());
        let place = |letter| letters.iter().position(|other| *other == letter).expect("it came");
        assert_eq!(letters.len(), 4);
        assert!(place(work(0, 0)) < place(work(0, 1)));
        assert_eq!(place(work(1, 0)) + 1, place(work(1, 1)));
    });
}

/// A machine that may be asleep is stopped while it is sent work: it ends, and every letter was done, was left over at
/// the end, or came back.
#[test]
fn stop_while_sleeping() {
    check(|| {
        let machine = Machine::new();
        let stopper = thread::spawn({
            let machine = machine.clone();
            move || assert!(machine.post(Letter::Stop))
        });
        let sender = thread::spawn({
            let machine = machine.clone();
            move || machine.post(work(1, 0))
        });
        let (mut letters, mut sleeps) = (Vec::new(), 0);
        while !letters.contains(&Letter::Stop) {
            letters.extend(machine.turn(&mut sleeps));
        }
        letters.extend(machine.mailbox.close());
        stopper.join().unwrap();
        let delivered = sender.join().unwrap();
        assert_eq!(letters.len(), 1 + usize::from(delivered));
        assert!(!machine.mailbox.sleep() && machine.mailbox.drain().next().is_none(), "it stays closed");
        assert!(machine.eventfd.writes() <= sleeps);
    });
}

/// The machine ends while a letter is on its way: the letter is in exactly one place. Who gets it back sees what the machine
/// did before it ended, and the machine sees what the sender did before it sent.
#[test]
fn close_meets_push() {
    check_all(|| {
        let machine = Machine::new();
        let results = Arc::new((UnsafeCell::new(0), UnsafeCell::new(0)));
        let sender = thread::spawn({
            let (machine, results) = (machine.clone(), results.clone());
            move || {
                // SAFETY: written by this thread, read by the other when it has the letter; loom checks it.
                results.0.with_mut(|place| unsafe { *place = 1 });
                let delivered = machine.post(work(0, 0));
                if !delivered {
                    // SAFETY: written by the other before it closed; loom checks it.
                    assert_eq!(results.1.with(|place| unsafe { *place }), 2);
                }
                delivered
            }
        });
        // SAFETY: as above.
        results.1.with_mut(|place| unsafe { *place = 2 });
        let left = machine.mailbox.close().count();
        if left == 1 {
            // SAFETY: as above.
            assert_eq!(results.0.with(|place| unsafe { *place }), 1);
        }
        assert_eq!(usize::from(sender.join().unwrap()), left);
    });
}

/// What a sender wrote before it sent is there when the letter is drained: those of a
/// sender whose letter is below another's in the list too.
#[test]
fn a_letter_brings_what_was_written_before() {
    check(|| {
        let machine = Machine::new();
        let written = Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]);
        let senders = [0, 1].map(|sender| {
            let (machine, written) = (machine.clone(), written.clone());
            thread::spawn(move || {
                // SAFETY: read by the machine only when it has this sender's letter; loom checks it.
                written[sender].with_mut(|place| unsafe { *place = 5 });
                assert_eq!(machine.mailbox.push(work(sender, 0)).unwrap(), Wake::NotNeeded);
            })
        });
        let mut letters = 0;
        while letters < 2 {
            for letter in machine.mailbox.drain() {
                let Letter::Work { sender, .. } = letter else { unreachable!("nobody stops it") };
                // SAFETY: as above.
                assert_eq!(written[sender].with(|place| unsafe { *place }), 5);
                letters += 1;
            }
            relax(0);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}
