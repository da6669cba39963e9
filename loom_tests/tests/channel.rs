//! A channel inside a lock: what is sent arrives once or comes back, and whoever waits for an end that goes away hears of it.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::thread;
use loom_tests::channel::{Channel, Order, Received, Sent};
use loom_tests::line::{Key, Waiter};
use loom_tests::lock::Lock;
use loom_tests::primitive::Arc;
use loom_tests::seat::Seat;
use loom_tests::{check, check_all};

type Shared = Arc<Lock<Channel<u32, Seat>>>;

fn channel(bound: usize) -> Shared {
    Arc::new(Lock::new(Channel::new(bound)))
}

/// Sends without waiting; there is room.
fn send(channel: &Shared, item: u32) {
    match channel.with(|channel| channel.send(item, None)) {
        Sent::Done(receiver) => receiver.into_iter().for_each(Waiter::wake),
        other => panic!("{}", kind(&other)),
    }
}

/// Receives what is there.
fn receive(channel: &Shared) -> Option<u32> {
    match channel.with(|channel| channel.receive(Order::Oldest, None)) {
        Received::Done(item, sender) => {
            sender.into_iter().for_each(Waiter::wake);
            Some(item)
        }
        _ => None,
    }
}

fn kind<W>(sent: &Sent<u32, W>) -> &'static str {
    match sent {
        Sent::Done(_) => "done",
        Sent::Full(_) => "full",
        Sent::Waits(_) => "waits",
        Sent::Disconnected(_) => "disconnected",
        Sent::Overtaken(_) => "overtaken",
    }
}

/// An item is with one of them, and with one only.
fn is_with_one(item: u32, one: Option<u32>, other: Option<u32>) -> bool {
    one.or(other) == Some(item) && one.is_some() != other.is_some()
}

/// An item is sent while its receiver comes, waits and gives up: it is received, or is still in the channel.
#[test]
fn an_item_meets_a_receiver_who_gives_up() {
    check_all(|| {
        let channel = channel(1);
        let theirs = channel.clone();
        let sender = thread::spawn(move || send(&theirs, 7));
        let seat = Seat::open();
        let received = match channel.with(|channel| channel.receive(Order::Oldest, Some(&seat))) {
            Received::Done(item, _) => Some(item),
            Received::Waits(key) => {
                seat.give_up_or_sleep();
                channel.with(|channel| channel.leave_receivers(key)).item
            }
            _ => panic!("there are senders, and this wait is nobody else's"),
        };
        sender.join().unwrap();
        assert!(is_with_one(7, received, receive(&channel)));
    });
}

/// An item is sent while its receiver looks and stands in line in one step: he has it, or is told of it, and it is nowhere else.
#[test]
fn an_item_meets_a_receiver_who_looks_once() {
    check_all(|| {
        let channel = channel(1);
        let theirs = channel.clone();
        let sender = thread::spawn(move || match theirs.with(|channel| channel.send_or_join(7, || None)) {
            Sent::Done(receiver) => receiver.into_iter().for_each(Waiter::wake),
            other => panic!("{}", kind(&other)),
        });
        let mut seat = None;
        let open = || *seat.insert(Some(Seat::open()));
        let received = match channel.with(|channel| channel.receive_or_join(Order::Oldest, open)) {
            Received::Done(item, _) => Some(item),
            Received::Waits(key) => {
                seat.flatten().expect("who waits has begun to").sleep();
                channel.with(|channel| channel.leave_receivers(key)).item
            }
            _ => panic!("there are senders, and this wait is nobody else's"),
        };
        sender.join().unwrap();
        assert!(is_with_one(7, received, receive(&channel)));
    });
}

/// A sender waits at a channel without a buffer and gives up, while a receiver looks: the item is with one of them.
#[test]
fn a_sender_who_gives_up_has_his_item_or_has_sent_it() {
    check_all(|| {
        let channel = channel(0);
        let theirs = channel.clone();
        let sender = thread::spawn(move || {
            let seat = Seat::open();
            let Sent::Waits(key) = theirs.with(|channel| channel.send(7, Some(&seat))) else {
                panic!("nobody receives with a wait")
            };
            seat.give_up_or_sleep();
            theirs.with(|channel| channel.leave_senders(key)).item
        });
        let received = receive(&channel);
        assert!(is_with_one(7, received, sender.join().unwrap()));
    });
}

/// A sender comes to a full channel while a receiver makes room: his item goes in behind the one before, by himself or by the
/// receiver, who wakes him then.
#[test]
fn a_sender_at_a_full_channel_moves_up() {
    check_all(|| {
        let channel = channel(1);
        send(&channel, 1);
        let theirs = channel.clone();
        let sender = thread::spawn(move || {
            let seat = Seat::open();
            match theirs.with(|channel| channel.send(2, Some(&seat))) {
                Sent::Done(_) => {}
                Sent::Waits(key) => {
                    seat.sleep();
                    let left = theirs.with(|channel| channel.leave_senders(key));
                    assert!(left.served && left.item.is_none());
                }
                other => panic!("{}", kind(&other)),
            }
        });
        assert_eq!(receive(&channel), Some(1));
        sender.join().unwrap();
        assert_eq!(receive(&channel), Some(2));
    });
}

/// The last sender goes while a receiver comes to wait: he finds that nobody will send, or is woken and finds it then.
#[test]
fn the_last_sender_goes_while_a_receiver_comes() {
    check_all(|| {
        let channel = channel(1);
        let theirs = channel.clone();
        let sender = thread::spawn(move || {
            theirs.with(Channel::drop_sending_end);
            while let Some(receiver) = theirs.with(Channel::next_stranded) {
                receiver.wake();
            }
        });
        let seat = Seat::open();
        if let Received::Waits(key) = channel.with(|channel| channel.receive(Order::Oldest, Some(&seat))) {
            seat.sleep();
            assert!(channel.with(|channel| channel.leave_receivers(key)).item.is_none());
        }
        sender.join().unwrap();
        let after = channel.with(|channel| channel.receive(Order::Oldest, None));
        assert!(matches!(after, Received::Disconnected));
    });
}

/// The last receiver goes while a sender comes to wait: his item comes back to him.
#[test]
fn the_last_receiver_goes_while_a_sender_comes() {
    check_all(|| {
        let channel = channel(0);
        let theirs = channel.clone();
        let receiver = thread::spawn(move || {
            assert!(theirs.with(Channel::drop_receiving_end).is_empty());
            while let Some(sender) = theirs.with(Channel::next_stranded) {
                sender.wake();
            }
        });
        let seat = Seat::open();
        let back = match channel.with(|channel| channel.send(7, Some(&seat))) {
            Sent::Disconnected(item) => Some(item),
            Sent::Waits(key) => {
                seat.sleep();
                channel.with(|channel| channel.leave_senders(key)).item
            }
            other => panic!("{}", kind(&other)),
        };
        assert_eq!(back, Some(7));
        receiver.join().unwrap();
    });
}

/// One waits for an item of either of two channels, and both get one at once: he takes one, and the other stays where it is.
#[test]
fn who_waits_at_two_channels_takes_one_item() {
    check(|| {
        let channels = [channel(1), channel(1)];
        let senders = [0, 1].map(|number| {
            let theirs = channels[number].clone();
            thread::spawn(move || send(&theirs, number as u32))
        });
        let standing = Standing::at(&channels);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let received = standing.received();
        let left: Vec<_> = channels.iter().filter_map(receive).collect();
        assert_eq!(left, [1 - received], "the other one");
    });
}

/// Who stands in the lines of several channels, or has found an item while he went there.
struct Standing<'a> {
    seat: Seat,
    places: Vec<(&'a Shared, Key)>,
    found: Option<u32>,
}

impl Standing<'_> {
    fn at(channels: &[Shared]) -> Standing<'_> {
        let mut standing = Standing { seat: Seat::open(), places: Vec::new(), found: None };
        for channel in channels {
            match channel.with(|channel| channel.receive(Order::Oldest, Some(&standing.seat))) {
                Received::Waits(key) => standing.places.push((channel, key)),
                Received::Done(item, _) => {
                    standing.found = Some(item);
                    break;
                }
                Received::Overtaken => break,
                _ => panic!("there are senders"),
            }
        }
        standing
    }

    /// What he was given or has found, when it is there.
    fn received(self) -> u32 {
        if self.found.is_none() {
            self.seat.sleep();
        }
        let leave =
            |(channel, key): (&Shared, Key)| channel.with(|channel| channel.leave_receivers(key)).item;
        let all: Vec<_> = self.found.into_iter().chain(self.places.into_iter().filter_map(leave)).collect();
        assert_eq!(all.len(), 1, "he has taken {all:?}");
        all[0]
    }
}
