//! Channels: who gets what, who waits, and that nothing is lost or doubled when a wait ends at the instant of a delivery.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::both;
use machinarium::sync::Mutex;
use machinarium::sync::channel::{self, RecvError, SendError, TryRecvError, TrySendError};
use machinarium::{machine, now, run, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn items_come_in_the_order_in_which_they_were_sent() {
    both(|| {
        in_a_machine(|| {
            for bound in [0, 1, 3, usize::MAX] {
                let (sender, receiver) = channel::bounded(bound);
                let producer = spawn(move || (0..50).try_for_each(|number| sender.send(number)));
                assert!(receiver.iter().eq(0..50), "bound {bound}");
                producer.join()?.unwrap();
                assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            }
            Ok(())
        });
    });
}

#[test]
fn a_full_channel_holds_its_senders_back() {
    both(|| {
        in_a_machine(|| {
            for bound in [0, 1, 4] {
                let (sender, receiver) = channel::bounded(bound);
                let sent = Rc::new(Cell::new(0));
                let count = sent.clone();
                let producer = spawn(move || {
                    for number in 0..20 {
                        sender.send(number).unwrap();
                        count.set(number + 1);
                    }
                });
                for received in 0..20 {
                    (0..5).for_each(|_| yield_now());
                    assert!(sent.get() <= received + bound, "{} sent, {received} received", sent.get());
                    assert_eq!(receiver.recv(), Ok(received));
                }
                producer.join()?;
            }
            Ok(())
        });
    });
}

#[test]
fn a_value_that_is_not_sent_comes_back() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::bounded(1);
            sender.send("first").unwrap();
            assert_eq!(sender.try_send("second"), Err(TrySendError::Full("second")));
            let late = sender.send_timeout("third", SHORT).unwrap_err();
            assert!(late.is_timeout());
            assert_eq!(late.into_inner(), "third");
            let waiter = sender.clone();
            let waits = spawn(move || waiter.send("fourth"));
            yield_now();
            drop(receiver);
            assert_eq!(waits.join()?, Err(SendError::Disconnected("fourth")));
            assert_eq!(sender.send("fifth"), Err(SendError::Disconnected("fifth")));
            assert_eq!(sender.try_send("sixth"), Err(TrySendError::Disconnected("sixth")));
            Ok(())
        });
    });
}

#[test]
fn what_nobody_receives_is_dropped_with_the_last_receiver() {
    both(|| {
        in_a_machine(|| {
            let item = Arc::new(());
            let (sender, receiver) = channel::unbounded();
            let other = receiver.clone();
            (0..3).for_each(|_| sender.send(item.clone()).unwrap());
            drop(receiver);
            assert_eq!(Arc::strong_count(&item), 4);
            drop(other);
            assert_eq!(Arc::strong_count(&item), 1);
            Ok(())
        });
    });
}

#[test]
fn a_receiver_waits_until_its_deadline_and_not_longer() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::bounded::<u8>(1);
            let start = now();
            assert!(receiver.recv_timeout(SHORT).unwrap_err().is_timeout());
            assert!(now() - start >= SHORT);
            assert!(timeout(SHORT, || receiver.recv()).unwrap_err().is_timeout());
            sender.send(7).unwrap();
            assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(7));
            Ok(())
        });
    });
}

#[test]
fn a_cancelled_receiver_takes_nothing() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::bounded(1);
            let theirs = receiver.clone();
            let waits = spawn(move || theirs.recv());
            yield_now();
            waits.cancel("enough")?;
            sender.send(1).unwrap();
            assert!(matches!(waits.join()?, Err(RecvError::Wait(_))));
            assert_eq!(receiver.try_recv(), Ok(1));
            Ok(())
        });
    });
}

/// Consumers with tiny deadlines and producers with tiny deadlines on two machines: each item is received once, or came back.
#[test]
fn nothing_is_lost_or_doubled_when_deadlines_meet_deliveries() {
    both(|| {
        in_a_machine(|| {
            for bound in [0, 1, 2] {
                let (sender, receiver) = channel::bounded(bound);
                let producer = machine::spawn("producer", move || {
                    let mut kept = Vec::new();
                    for number in 0..40_u64 {
                        let patience = Duration::from_micros(number % 7 * 10);
                        if let Err(error) = sender.send_timeout(number, patience) {
                            kept.push(error.into_inner());
                        }
                    }
                    kept
                })?;
                let mut seen = Vec::new();
                loop {
                    match receiver.recv_timeout(Duration::from_micros(seen.len() as u64 % 5 * 10)) {
                        Ok(item) => seen.push(item),
                        Err(RecvError::Disconnected) => break,
                        Err(RecvError::Wait(_)) => yield_now(),
                    }
                }
                assert!(seen.is_sorted());
                seen.extend(producer.join()?);
                seen.sort_unstable();
                assert!(seen.iter().copied().eq(0..40), "{seen:?}");
            }
            Ok(())
        });
    });
}

#[test]
fn many_machines_share_one_channel() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::bounded(2);
            let workers: Vec<_> = (0..3)
                .map(|_| {
                    let receiver = receiver.clone();
                    machine::spawn("worker", move || receiver.iter().sum::<u64>())
                })
                .collect::<Result<_, _>>()?;
            drop(receiver);
            let producers: Vec<_> = (0..2)
                .map(|part| {
                    let sender = sender.clone();
                    spawn(move || (0..30).try_for_each(|number| sender.send(part * 30 + number)))
                })
                .collect();
            drop(sender);
            for producer in producers {
                producer.join()?.unwrap();
            }
            let sums = workers.into_iter().map(|worker| worker.join());
            assert_eq!(sums.sum::<Result<u64, _>>()?, (0..60).sum());
            Ok(())
        });
    });
}

#[test]
fn a_machine_that_ends_leaves_no_one_in_line() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::bounded::<u32>(0);
            let theirs = receiver.clone();
            let worker = machine::spawn("worker", move || {
                for _ in 0..3 {
                    let receiver = theirs.clone();
                    spawn(move || while receiver.recv().is_ok() {});
                }
                sleep(LONG)
            })?;
            for number in 0..5 {
                sender.send(number).unwrap();
            }
            worker.stop("enough");
            let _ = worker.join()?;
            assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
            drop(receiver);
            assert_eq!(sender.try_send(9), Err(TrySendError::Disconnected(9)));
            Ok(())
        });
    });
}

#[test]
fn the_newest_is_taken_first_by_who_asks_for_it() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::unbounded();
            (1..=3).for_each(|number| sender.send(number).unwrap());
            assert_eq!(receiver.recv_newest(), Ok(3));
            assert_eq!(receiver.recv(), Ok(1));
            assert_eq!((receiver.len(), sender.capacity()), (1, None));
            Ok(())
        });
    });
}

#[test]
fn limits_refuse_hard_or_softly() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::limited(2);
            assert!(sender.send(1).is_ok() && sender.send(2).is_ok());
            assert_eq!(sender.send(3), Err(SendError::Full(3)));
            assert_eq!(receiver.recv(), Ok(1));
            assert!(sender.send(3).is_ok());

            let (sender, receiver) = channel::limited_softly(100);
            let mut refused = 0;
            while sender.len() < 150 {
                refused += usize::from(sender.send(0).is_err());
                assert!(sender.len() > 100 || refused == 0, "below the limit nothing is refused");
                assert!(refused < 10_000);
            }
            assert!(refused > 0, "half of the way up, a sixth or so was to be refused");
            (0..10_000).for_each(|_| drop(sender.send(0)));
            assert!(sender.len() <= 200);
            drop(receiver);
            assert_eq!(sender.send(1), Err(SendError::Disconnected(1)));
            Ok(())
        });
    });
}

/// Whoever finds what he wants each time he asks lets others run all the same, and hears of his cancellation.
#[test]
fn a_call_that_need_not_wait_is_one_that_may() {
    fn ends(what: &str, call: impl Fn() -> bool + 'static) -> io::Result<()> {
        let caller = spawn(move || (0..1000).take_while(|_| call()).count());
        yield_now();
        caller.cancel("enough")?;
        let calls = caller.join()?;
        assert!((1..1000).contains(&calls), "{calls} calls of {what}");
        Ok(())
    }
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::unbounded();
            (0..2000).try_for_each(|number| sender.try_send(number)).unwrap();
            let (taker, held) = (receiver.clone(), receiver);
            ends("recv_timeout", move || taker.recv_timeout(LONG).is_ok())?;
            ends("send_timeout", move || sender.send_timeout(0, LONG).is_ok())?;
            drop(held);
            let (sender, receiver) = channel::limited(2000);
            ends("send, up to a limit", move || sender.send(0).is_ok())?;
            drop(receiver);
            let (sender, receiver) = channel::local::unbounded();
            (0..2000).try_for_each(|number| sender.try_send(number)).unwrap();
            let (taker, held) = (receiver.clone(), receiver);
            ends("a local recv_timeout", move || taker.recv_timeout(LONG).is_ok())?;
            ends("a local send_timeout", move || sender.send_timeout(0, LONG).is_ok())?;
            drop(held);
            let mutex = Mutex::new(());
            ends("lock_timeout", move || mutex.lock_timeout(LONG).is_ok())
        });
    });
}
