//! Channels of one machine: as the shared ones, and in a select with them.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use machinarium::sync::channel::{self, RecvError, SendError, TryRecvError, TrySendError, local};
use machinarium::{Builder, machine, now, run, select, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn items_come_in_order_and_a_full_channel_holds_back() {
    both(|| {
        in_a_machine(|| {
            for bound in [0, 1, 3, usize::MAX] {
                let (sender, receiver) = local::bounded(bound);
                let sent = Rc::new(Cell::new(0usize));
                let count = sent.clone();
                let producer = spawn(move || {
                    for number in 0..30 {
                        sender.send(number).unwrap();
                        count.set(number + 1);
                    }
                });
                for (received, item) in receiver.iter().enumerate() {
                    assert_eq!(item, received, "bound {bound}");
                    (0..3).for_each(|_| yield_now());
                    // This one is received, and its sender may have been let in.
                    assert!(sent.get() <= (received + 1).saturating_add(bound), "{} sent", sent.get());
                }
                producer.join()?;
                assert_eq!(sent.get(), 30);
                assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            }
            Ok(())
        });
    });
}

/// Who waits longest is served first, before anyone who comes when the item does.
#[test]
fn an_item_goes_straight_to_whoever_waits_longest() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = local::unbounded();
            let order = Rc::new(RefCell::new(Vec::new()));
            let waiters: Vec<_> = (0..4)
                .map(|number| {
                    let (receiver, order) = (receiver.clone(), order.clone());
                    spawn(move || {
                        // One after the other, whatever the order among the ready is.
                        sleep(SHORT * (1 + number)).unwrap();
                        let item: u32 = receiver.recv().unwrap();
                        order.borrow_mut().push((number, item));
                    })
                })
                .collect();
            sleep(20 * SHORT)?;
            for item in 0..4 {
                sender.send(item)?;
                assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "it has been handed over");
            }
            assert!(sender.is_empty());
            for waiter in waiters {
                waiter.join()?;
            }
            let mut order = order.take();
            order.sort_unstable();
            assert_eq!(order, [(0, 0), (1, 1), (2, 2), (3, 3)]);
            Ok(())
        });
    });
}

#[test]
fn a_value_that_is_not_sent_comes_back() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = local::bounded(1);
            sender.send("first").unwrap();
            assert_eq!((sender.len(), sender.capacity()), (1, Some(1)));
            assert_eq!(sender.try_send("second"), Err(TrySendError::Full("second")));
            let late = sender.send_timeout("third", SHORT).unwrap_err();
            assert!(late.is_timeout() && late.into_inner() == "third");
            let (waiter, other) = (sender.clone(), sender.clone());
            let waits = spawn(move || waiter.send("fourth"));
            let cancelled = spawn(move || other.send("fifth"));
            yield_now();
            sleep(SHORT)?;
            cancelled.cancel("enough").unwrap();
            assert_eq!(cancelled.join()?.unwrap_err().into_inner(), "fifth");
            assert_eq!(receiver.recv_newest(), Ok("first"));
            assert_eq!(waits.join()?, Ok(()));
            drop(receiver);
            assert_eq!(sender.send("sixth"), Err(SendError::Disconnected("sixth")));
            assert_eq!(sender.try_send("seventh"), Err(TrySendError::Disconnected("seventh")));
            Ok(())
        });
    });
}

#[test]
fn those_who_wait_are_told_of_the_last_end() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = local::bounded::<u8>(0);
            let (other, waiter) = (sender.clone(), receiver.clone());
            let receives = spawn(move || waiter.recv());
            sleep(SHORT)?;
            drop((sender, other));
            assert_eq!(receives.join()?, Err(RecvError::Disconnected));
            drop(receiver);
            let (sender, receiver) = local::bounded(0);
            let sends = spawn(move || sender.send(1));
            sleep(SHORT)?;
            drop(receiver);
            assert_eq!(sends.join()?, Err(SendError::Disconnected(1)));
            Ok(())
        });
    });
}

#[test]
fn nothing_is_lost_when_deadlines_cancellations_and_items_meet() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = local::bounded(2);
            let received = Rc::new(RefCell::new(Vec::new()));
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    let (receiver, received) = (receiver.clone(), received.clone());
                    spawn(move || {
                        loop {
                            match timeout(SHORT, || receiver.recv()) {
                                Ok(item) => received.borrow_mut().push(item),
                                Err(RecvError::Disconnected) => return,
                                Err(RecvError::Wait(_)) => {}
                            }
                        }
                    })
                })
                .collect();
            for item in 0..30u32 {
                let start = now();
                // About as long as the others wait.
                if item % 3 == 0 {
                    sleep(SHORT)?;
                }
                let mut item = item;
                while let Err(error) = sender.send_timeout(item, SHORT) {
                    item = error.into_inner();
                    assert!(now() - start >= SHORT);
                }
            }
            drop(sender);
            for taker in takers {
                taker.join()?;
            }
            let mut received = received.take();
            received.sort_unstable();
            assert!(received.iter().copied().eq(0..30), "{received:?}");
            Ok(())
        });
    });
}

/// A wait that other threads may end, in a line that only this one serves; and two selects that meet.
#[test]
fn a_select_has_local_and_shared_cases() {
    both(|| {
        in_a_machine(|| {
            let (near, here) = local::bounded::<u32>(0);
            let (far, there) = channel::bounded::<u32>(0);
            let worker = machine::spawn("worker", move || (0..20).filter(|n| far.send(*n).is_ok()).count())?;
            let sender = spawn(move || -> io::Result<u32> {
                let mut sent = 0;
                while sent < 20 {
                    // This side selects as well.
                    select! {
                        send(near, 100 + sent) -> result => { result.unwrap(); sent += 1; },
                        after(LONG) => sent = 1000,
                    }?;
                }
                Ok(sent)
            });
            let (mut nears, mut fars) = (Vec::new(), Vec::new());
            while nears.len() < 20 || fars.len() < 20 {
                select! {
                    recv(here) -> item => nears.extend(item.ok()),
                    recv(there) -> item => fars.extend(item.ok()),
                }?;
            }
            assert!(nears.into_iter().eq(100..120) && fars.into_iter().eq(0..20));
            assert_eq!((sender.join()??, worker.join()?), (20, 20));
            Ok(())
        });
    });
}

/// Plain waits on one side, selects on the other; neither takes an item that it does not report.
#[test]
fn the_losing_case_of_a_select_has_no_effect() {
    both(|| {
        in_a_machine(|| {
            let (first, one) = local::bounded::<u32>(0);
            let (second, two) = local::bounded::<u32>(0);
            let senders = [(first, 0), (second, 1000)].map(|(sender, base)| {
                spawn(move || (base..base + 20).try_for_each(|number| sender.send(number)))
            });
            let mut items = Vec::new();
            loop {
                let ended = select! {
                    recv(one) -> item => item.map(|item| items.push(item)).is_err(),
                    recv(two) -> item => item.map(|item| items.push(item)).is_err(),
                }?;
                if ended {
                    break;
                }
            }
            items.extend(one.iter().chain(two.iter()));
            items.sort_unstable();
            assert!(items.into_iter().eq((0..20).chain(1000..1020)));
            for sender in senders {
                assert_eq!(sender.join()?, Ok(()));
            }
            Ok(())
        });
    });
}

#[test]
fn a_machines_end_unwinds_those_who_wait() {
    both(|| {
        let held = Rc::new(());
        let theirs = held.clone();
        let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
            let (sender, receiver) = local::bounded(1);
            for _ in 0..3 {
                let (sender, item) = (sender.clone(), theirs.clone());
                drop(spawn(move || machinarium::shield(|| sender.send(item).and(sender.send(Rc::new(()))))));
            }
            let (_kept, never) = local::bounded::<Rc<()>>(1);
            drop(spawn(move || machinarium::shield(|| never.recv())));
            sleep(SHORT)?;
            drop(receiver.try_recv());
            Ok(())
        });
        result.unwrap();
        assert_eq!(Rc::strong_count(&held), 1, "every item is dropped once");
    });
}
