//! A line inside a lock: who stands in it is served once, or gave up and was not.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::check;
use loom_tests::line::{Line, Waiter};
use loom_tests::lock::Lock;
use loom_tests::primitive::Arc;
use loom_tests::seat::Seat;

type Shared = Arc<Lock<Line<Seat, u32>>>;

/// Gives `item` to the first in the line. Whether there was one.
fn serve(line: &Shared, item: u32) -> bool {
    let served = line.with(|line| {
        let claimed = line.claim_first(None).expect("who serves does not wait")?;
        Some(line.serve(claimed, Some(item)))
    });
    served.map(Waiter::wake).is_some()
}

/// Two serve a line in which one waits: one of them finds him, and what that one brings is in his place.
#[test]
fn two_serve_one_who_waits() {
    check(|| {
        let line: Shared = Arc::default();
        let seat = Seat::open();
        let key = line.with(|line| line.join(seat, None));
        let servers = [1, 2].map(|item| {
            let line = line.clone();
            thread::spawn(move || serve(&line, item).then_some(item))
        });
        let served: Vec<_> = servers.into_iter().filter_map(|server| server.join().unwrap()).collect();
        seat.sleep();
        let left = line.with(|line| line.leave(key));
        assert!(left.served && served.len() == 1, "served {} times", served.len());
        assert_eq!(left.item, Some(served[0]));
    });
}

/// The first of two gives up, and leaves, while the line is served once: it is he who is served or the second, and never both
/// or none.
#[test]
fn who_gives_up_is_passed_over() {
    check(|| {
        let line: Shared = Arc::default();
        let seats = [Seat::open(), Seat::open()];
        let keys = seats.map(|seat| line.with(|line| line.join(seat, None)));
        let (theirs, first) = (line.clone(), (seats[0], keys[0]));
        let leaver = thread::spawn(move || {
            let gave_up = first.0.give_up_or_sleep();
            let left = theirs.with(|line| line.leave(first.1));
            assert_eq!(left.served, !gave_up, "whoever ends the wait decides");
            left.item
        });
        assert!(serve(&line, 7), "one of them waits");
        let first_got = leaver.join().unwrap();
        let second_got = line.with(|line| line.leave(keys[1])).item;
        assert!(first_got.or(second_got) == Some(7) && first_got.is_some() != second_got.is_some());
        assert!(line.with(|line| line.is_empty() && line.len() == 0));
    });
}
