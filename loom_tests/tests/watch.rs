//! A number, and those who wait until it is another one: no change is missed, and none is lost.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::primitive::{Arc, UnsafeCell, relax};
use loom_tests::seat::Seat;
use loom_tests::watch::{Seen, Watched};
use loom_tests::{check, check_all};

fn change(watched: &Watched<Seat>) -> u64 {
    watched.update(|number| Some(number + 1)).unwrap()
}

/// Waits until it is not 0 any more.
fn wait(watched: &Watched<Seat>) {
    let seat = Seat::open();
    if let Seen::Waits(key) = watched.look(0, Some(&seat)) {
        seat.sleep();
        assert!(watched.leave(key));
    }
    assert_eq!(watched.get(), 1);
}

/// A number changes and all are told, while one compares and waits: he sees the change or is woken.
#[test]
fn a_change_is_seen_or_told() {
    check(|| {
        let watched = Arc::new(Watched::<Seat>::new(0));
        let theirs = watched.clone();
        let changer = thread::spawn(move || {
            change(&theirs);
            theirs.notify_all();
        });
        wait(&watched);
        changer.join().unwrap();
    });
}

/// The same, of one who compares and stands in line in one step.
#[test]
fn a_change_is_seen_or_told_to_who_looks_once() {
    check(|| {
        let watched = Arc::new(Watched::<Seat>::new(0));
        let theirs = watched.clone();
        let changer = thread::spawn(move || {
            change(&theirs);
            theirs.notify_all();
        });
        let mut seat = None;
        if let Seen::Waits(key) = watched.look_or_join(0, || *seat.insert(Some(Seat::open()))) {
            seat.flatten().expect("who waits has begun to").sleep();
            assert!(watched.leave(key));
        }
        assert_eq!(watched.get(), 1);
        changer.join().unwrap();
    });
}

/// Two change the number at once: it goes up twice, and each has found another one.
#[test]
fn two_changes_are_two() {
    check_all(|| {
        let watched = Arc::new(Watched::<Seat>::new(0));
        let theirs = watched.clone();
        let other = thread::spawn(move || change(&theirs));
        let mut found = [change(&watched), other.join().unwrap()];
        found.sort_unstable();
        assert_eq!((found, watched.get()), ([0, 1], 2));
    });
}

/// Memory that the number hands over.
struct Lent(UnsafeCell<u64>);

// SAFETY: one thread writes before it changes the number, the other reads after it has seen that; loom checks it.
#[allow(unsafe_code)]
unsafe impl Sync for Lent {}

/// Whoever sees a number sees what was done before it was set: that is how what waited for is found.
#[test]
#[allow(unsafe_code)]
fn a_change_shows_what_was_done_before_it() {
    check_all(|| {
        let shared = Arc::new((Watched::<Seat>::new(0), Lent(UnsafeCell::new(0))));
        let theirs = shared.clone();
        let changer = thread::spawn(move || {
            // SAFETY: the number is 0, and the reader touches this after it.
            theirs.1.0.with_mut(|place| unsafe { *place = 7 });
            change(&theirs.0);
        });
        while shared.0.get() == 0 {
            relax(0);
        }
        // SAFETY: the number is 1: the writer has written.
        assert_eq!(shared.1.0.with(|place| unsafe { *place }), 7);
        changer.join().unwrap();
    });
}

/// Two wait, and one of them gives up while all are told: the other is woken all the same, though the one that was counted has gone.
#[test]
fn all_are_told_though_one_gives_up() {
    check(|| {
        let watched = Arc::new(Watched::<Seat>::new(0));
        let seats = [Seat::open(), Seat::open()];
        let keys = seats.map(|seat| match watched.look(0, Some(&seat)) {
            Seen::Waits(key) => key,
            other => panic!("{other:?}"),
        });
        let theirs = watched.clone();
        let leaver = thread::spawn(move || {
            let gave_up = seats[0].give_up_or_sleep();
            assert_eq!(theirs.leave(keys[0]), !gave_up, "whoever ends the wait decides");
        });
        change(&watched);
        watched.notify_all();
        seats[1].sleep();
        assert!(watched.leave(keys[1]));
        leaver.join().unwrap();
    });
}
