//! Permits inside a lock: each is held once, and none is free while somebody waits for no more than it.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::line::{Key, Waiter};
use loom_tests::lock::Lock;
use loom_tests::permits::{Acquired, Permits};
use loom_tests::primitive::Arc;
use loom_tests::seat::Seat;
use loom_tests::{check, check_all};

type Shared = Arc<Lock<Permits<Seat>>>;

fn permits(free: u64) -> Shared {
    Arc::new(Lock::new(Permits::new(free)))
}

fn release(permits: &Shared, count: u64) {
    permits.with(|permits| permits.release(count));
    serve(permits);
}

fn serve(permits: &Shared) {
    while let Some(waiter) = permits.with(Permits::next_served) {
        waiter.wake();
    }
}

/// Takes them, or stands in line.
fn acquire(permits: &Shared, count: u64) -> Option<(Seat, Key)> {
    let seat = Seat::open();
    match permits.with(|permits| permits.acquire(count, Some(&seat))) {
        Acquired::Done => None,
        Acquired::Waits(key) => Some((seat, key)),
        other => panic!("{other:?}"),
    }
}

/// Until they are there.
fn await_served(permits: &Shared, standing: Option<(Seat, Key)>) {
    if let Some((seat, key)) = standing {
        seat.sleep();
        assert!(permits.with(|permits| permits.leave(key)).served);
    }
}

/// A permit is given back while one waits for it and gives up: he has it, or it is free, and never both.
#[test]
fn a_permit_is_held_once() {
    check_all(|| {
        let permits = permits(0);
        let theirs = permits.clone();
        let giver = thread::spawn(move || release(&theirs, 1));
        let seat = Seat::open();
        let held = match permits.with(|permits| permits.acquire(1, Some(&seat))) {
            Acquired::Done => true,
            Acquired::Waits(key) => {
                let gave_up = seat.give_up_or_sleep();
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

/// Two give one back each, while one waits for two: neither alone has enough for him, and the second one serves him, whichever
/// that is.
#[test]
fn two_give_back_to_one_who_waits_for_both() {
    check(|| {
        let permits = permits(0);
        // Before they begin: loom does not come to an end with three at one lock.
        let standing = acquire(&permits, 2);
        let givers = [(); 2].map(|()| {
            let theirs = permits.clone();
            thread::spawn(move || release(&theirs, 1))
        });
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        await_served(&permits, standing);
        assert_eq!(permits.with(|permits| permits.free()), 0);
    });
}

/// One permit is free, and one waits for two. Whoever comes then and wants the one does not get it: he stands behind, or the one who
/// wants many would starve.
#[test]
fn who_wants_few_does_not_overtake_who_wants_many() {
    check_all(|| {
        let state = Arc::new(Lock::new((Permits::<Seat>::new(1), false)));
        let theirs = state.clone();
        let other = thread::spawn(move || {
            let (got, late) = theirs.with(|(permits, waits)| (permits.acquire(1, None), *waits));
            assert!(got == Acquired::No || !late, "he has overtaken");
            let back = 1 + u64::from(got == Acquired::Done);
            theirs.with(|(permits, _)| permits.release(back));
            while let Some(waiter) = theirs.with(|(permits, _)| permits.next_served()) {
                waiter.wake();
            }
        });
        let seat = Seat::open();
        let many = state.with(|(permits, waits)| {
            *waits = true;
            permits.acquire(2, Some(&seat))
        });
        if let Acquired::Waits(key) = many {
            seat.sleep();
            assert!(state.with(|(permits, _)| permits.leave(key)).served);
        }
        other.join().unwrap();
        assert_eq!(state.with(|(permits, _)| permits.free()), 0);
    });
}

/// One waits for two permits and gives up, another stands behind him and wants the one that is free: he gets it as soon as the first
/// has left, and not before.
#[test]
fn who_gives_up_lets_the_next_go() {
    check(|| {
        let permits = permits(1);
        let seat = Seat::open();
        let Acquired::Waits(key) = permits.with(|permits| permits.acquire(2, Some(&seat))) else {
            panic!("there is one")
        };
        let theirs = permits.clone();
        let next = thread::spawn(move || await_served(&theirs, acquire(&theirs, 1)));
        assert!(seat.give_up(), "nobody gives any back");
        assert!(!permits.with(|permits| permits.leave(key)).served);
        serve(&permits);
        next.join().unwrap();
        assert_eq!(permits.with(|permits| permits.free()), 0);
    });
}
