//! A channel with a backlog: what is sent is received once, in its order, and nobody waits while there is something.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::channel::{Order, Received, Sent};
use loom_tests::line::Waiter;
use loom_tests::pipe::Pipe;
use loom_tests::primitive::Arc;
use loom_tests::seat::Seat;
use loom_tests::{check, check_all};

type Shared = Arc<Pipe<u32, Seat>>;

/// A channel without a bound, in which these are.
fn holding(items: impl IntoIterator<Item = u32>) -> Shared {
    let pipe = Arc::new(Pipe::new(usize::MAX));
    items.into_iter().for_each(|item| send(&pipe, item));
    pipe
}

fn send(pipe: &Shared, item: u32) {
    match pipe.with(|channel| channel.send_or_join(item, || None)) {
        Sent::Done(receiver) => receiver.into_iter().for_each(Waiter::wake),
        _ => panic!("there is always room"),
    }
}

/// Waits for an item.
fn receive(pipe: &Shared) -> u32 {
    let mut seat = None;
    match pipe.receive_or_join(Order::Oldest, || *seat.insert(Some(Seat::open()))) {
        Received::Done(item, _) => item,
        Received::Waits(key) => {
            seat.flatten().expect("who waits has begun to").sleep();
            pipe.with(|channel| channel.leave_receivers(key)).item.expect("he was woken for one")
        }
        _ => panic!("there are senders, and this wait is nobody else's"),
    }
}

/// What is there, without waiting.
fn try_receive(pipe: &Shared) -> Option<u32> {
    match pipe.receive_or_join(Order::Oldest, || None) {
        Received::Done(item, _) => Some(item),
        _ => None,
    }
}

/// One receives while another sends: what he finds at once, what has gone into the backlog and what comes meanwhile arrive in
/// their order.
#[test]
fn a_stream_keeps_its_order() {
    check_all(|| {
        let pipe = holding([1, 2]);
        let theirs = pipe.clone();
        let sender = thread::spawn(move || send(&theirs, 3));
        assert_eq!([receive(&pipe), receive(&pipe), receive(&pipe)], [1, 2, 3]);
        sender.join().unwrap();
        assert_eq!((pipe.len(), try_receive(&pipe)), (0, None));
    });
}

/// Two receive what is there, one of them moving it into the backlog: each gets another one, and the third is still there.
#[test]
fn two_receivers_take_each_item_once() {
    check_all(|| {
        let pipe = holding([1, 2, 3]);
        let theirs = pipe.clone();
        let other = thread::spawn(move || try_receive(&theirs));
        let mut all = [try_receive(&pipe), other.join().unwrap(), try_receive(&pipe)];
        all.sort_unstable();
        assert_eq!(all, [Some(1), Some(2), Some(3)]);
        assert_eq!(try_receive(&pipe), None);
    });
}

/// One takes the last of the backlog while another comes to wait, and a third sends: he who waits gets what is left for him.
#[test]
fn nobody_waits_beside_a_backlog() {
    check(|| {
        let pipe = holding([1, 2]);
        assert_eq!(receive(&pipe), 1);
        let (first, second) = (pipe.clone(), pipe.clone());
        let taker = thread::spawn(move || try_receive(&first));
        let sender = thread::spawn(move || send(&second, 3));
        let received = receive(&pipe);
        sender.join().unwrap();
        let taken = taker.join().unwrap();
        let mut all: Vec<_> = [Some(received), taken, try_receive(&pipe)].into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [2, 3]);
    });
}

/// A wait of several things that was ended elsewhere takes nothing of the backlog, which another receiver gets.
#[test]
fn who_was_served_elsewhere_takes_nothing_of_a_backlog() {
    check_all(|| {
        let pipe = holding([1, 2]);
        assert_eq!(receive(&pipe), 1);
        let seat = Seat::open();
        let elsewhere = thread::spawn(move || seat.give_up());
        let received = pipe.receive(Order::Oldest, Some(&seat));
        let ended = elsewhere.join().unwrap();
        assert!(matches!(received, Received::Done(2, None)) != ended, "his wait is ended once");
        assert_eq!(try_receive(&pipe), ended.then_some(2));
    });
}

/// The last receiver goes while another item comes: what was in the backlog is before what was not.
#[test]
fn what_nobody_receives_comes_back_in_its_order() {
    check_all(|| {
        let pipe = holding([1, 2, 3]);
        assert_eq!(receive(&pipe), 1);
        let theirs = pipe.clone();
        let sender =
            thread::spawn(move || matches!(theirs.with(|channel| channel.send(4, None)), Sent::Done(_)));
        let left: Vec<_> = pipe.drop_receiving_end().into_iter().flatten().collect();
        let sent = sender.join().unwrap();
        assert_eq!(left, if sent { vec![2, 3, 4] } else { vec![2, 3] });
    });
}
