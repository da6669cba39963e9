//! What the tests of C machinarium show of channels, locks, flags, lists and machines, where no other test here shows the same; the table in
//! `README.md` says which is which. The names in the comments are theirs.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{both, on_some};
use machinarium::sync::{Event, Mutex, Semaphore, WaitGroup, WaitList, channel};
use machinarium::{WaitError, machine, now, run, scope, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

fn expired<T>(result: Result<T, WaitError>) -> bool {
    matches!(result, Err(WaitError::Expired(_)))
}

/// Asks on a channel of either kind.
macro_rules! ask {
    ($channel:path) => {
        for early in [false, true] {
            let (sender, receiver) = $channel();
            let (answers, questions) = (sender.clone(), receiver.clone());
            let other = spawn(move || {
                let question: (u32, u32) = questions.recv().unwrap();
                answers.send((question.0, 321)).unwrap();
            });
            if early {
                yield_now();
            }
            sender.send((123, 0)).unwrap();
            // The other is before this one in the line, or ready.
            yield_now();
            assert_eq!(receiver.recv(), Ok((123, 321)));
            other.join()?;
        }
    };
}

/// `channel_rw1`, `channel_rw2` and their shared twins: whether the other waits already or not.
#[test]
fn a_question_and_its_answer_share_a_channel() {
    both(|| {
        in_a_machine(|| {
            ask!(channel::local::unbounded);
            ask!(channel::unbounded);
            Ok(())
        });
    });
}

/// `channel_rw3` and `channel_rw4`: who came first gets what was sent first, with and without a pause between the items.
#[test]
fn three_who_wait_get_three_items_in_their_order() {
    both(|| {
        in_a_machine(|| {
            for pause in [false, true] {
                let (sender, receiver) = channel::unbounded();
                let waiting: Vec<_> = (1..=3)
                    .map(|_| {
                        let receiver = receiver.clone();
                        let waiting = spawn(move || receiver.recv().unwrap());
                        yield_now();
                        waiting
                    })
                    .collect();
                for item in 1..=3 {
                    sender.send(item).unwrap();
                    if pause {
                        yield_now();
                    }
                }
                let got: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
                assert_eq!(got, [1, 2, 3]);
            }
            Ok(())
        });
    });
}

/// `producer_consumer1`: one machine sends, five receive until each has been told to end, which only the last items do.
#[test]
fn five_machines_share_the_work_of_one() {
    both(|| {
        in_a_machine(|| {
            const ITEMS: u32 = 300;
            let (sender, receiver) = channel::unbounded();
            let consumers = (0..5).map(|_| {
                let receiver = receiver.clone();
                machine::spawn("consumer", move || receiver.iter().take_while(Option::is_some).count() as u32)
            });
            let consumers = consumers.collect::<io::Result<Vec<_>>>()?;
            let producer = machine::spawn("producer", move || {
                (0..ITEMS).for_each(|item| sender.send(Some(item)).unwrap());
                (0..5).for_each(|_| sender.send(None).unwrap());
            })?;
            producer.join()?;
            let got: u32 = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
            assert_eq!((got, receiver.len()), (ITEMS, 0));
            Ok(())
        });
    });
}

/// `producer_consumer2` and `queue`: a hundred coroutines empty a channel by turns, and none waits for what is not there.
#[test]
fn a_hundred_coroutines_empty_a_channel() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::local::unbounded();
            (0..1000).for_each(|item| sender.send(item).unwrap());
            let got = Cell::new(0);
            scope(|scope| {
                for _ in 0..100 {
                    scope.spawn(|| {
                        while let Ok(item) = receiver.try_recv() {
                            assert_eq!(item, got.replace(item + 1));
                            yield_now();
                        }
                    });
                }
            });
            assert_eq!(got.get(), 1000);
            assert_eq!(receiver.len(), 0);
            Ok(())
        });
    });
}

/// `mutex_coroutines`, `mutex_threads`, `sleeplock`: nobody's addition is lost; with a deadline that is far, and with none.
#[test]
fn four_coroutines_on_each_of_four_machines_add_up() {
    both(|| {
        in_a_machine(|| {
            const TIMES: u64 = 30;
            let count = Arc::new(Mutex::new(0));
            let machines = (0..4).map(|number| {
                let count = count.clone();
                let add = move || -> io::Result<()> {
                    for time in 0..TIMES {
                        let mut held =
                            if number % 2 == 0 { count.lock()? } else { count.lock_timeout(LONG)? };
                        let before = *held;
                        if time % 10 == 0 {
                            yield_now();
                        }
                        *held = before + 1;
                    }
                    Ok(())
                };
                machine::spawn("adder", move || {
                    scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| add().unwrap()))));
                })
            });
            let machines = machines.collect::<io::Result<Vec<_>>>()?;
            machines.into_iter().for_each(|machine| machine.join().unwrap());
            assert_eq!(*count.lock()?, 16 * TIMES);
            Ok(())
        });
    });
}

/// `mutex_timeout`: the holder is another machine, which then gives it up as ever.
#[test]
fn a_lock_that_another_machine_holds_is_given_up() {
    both(|| {
        in_a_machine(|| {
            let mutex = Arc::new(Mutex::new(()));
            let (held, end) = (Event::new(), Event::new());
            let (theirs, holds, ended) = (mutex.clone(), held.clone(), end.clone());
            let holder = machine::spawn("holder", move || {
                let guard = theirs.lock().unwrap();
                holds.set();
                ended.wait().unwrap();
                drop(guard);
            })?;
            held.wait()?;
            let start = now();
            assert!(expired(mutex.lock_timeout(SHORT).map(drop)));
            assert!(now() - start >= SHORT);
            end.set();
            drop(mutex.lock_timeout(LONG)?);
            holder.join()?;
            Ok(())
        });
    });
}

/// `sem`: never more inside than there are permits, and more than one at some time.
#[test]
fn a_semaphore_lets_in_so_many_machines() {
    both(|| {
        in_a_machine(|| {
            let semaphore = Arc::new(Semaphore::new(3));
            let (inside, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
            let machines = (0..5).map(|_| {
                let (semaphore, inside, most) = (semaphore.clone(), inside.clone(), most.clone());
                machine::spawn("worker", move || {
                    for _ in 0..10 {
                        let _permit = semaphore.acquire().unwrap();
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        sleep(SHORT / 10).unwrap();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            });
            let machines = machines.collect::<io::Result<Vec<_>>>()?;
            machines.into_iter().for_each(|machine| machine.join().unwrap());
            let most = most.load(Ordering::SeqCst);
            assert!((2..=3).contains(&most), "{most} inside at once");
            let none = Semaphore::new(0);
            assert!(expired(none.acquire_timeout(SHORT).map(drop)));
            Ok(())
        });
    });
}

/// `condition0`: all who wait go on, but who gave up before; those who wait for the next of a chain go on too. A chain of 40: C's
/// own ends at 32, in silence.
#[test]
fn one_signal_ends_all_waits_along_a_chain() {
    both(|| {
        in_a_machine(|| {
            let chain: Vec<_> = (0..40).map(|_| Event::new()).collect();
            chain.windows(2).for_each(|pair| pair[0].propagate(Some(&pair[1])));
            let (told, gave_up) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let waiters: Vec<_> = chain
                .iter()
                .flat_map(|event| [(event.clone(), SHORT), (event.clone(), LONG), (event.clone(), LONG)])
                .map(|(event, patience)| {
                    let (told, gave_up) = (told.clone(), gave_up.clone());
                    spawn(move || {
                        let count = if expired(event.wait_timeout(patience)) { gave_up } else { told };
                        count.set(count.get() + 1);
                    })
                })
                .collect();
            while gave_up.get() < 40 {
                sleep(SHORT)?;
            }
            assert_eq!(told.get(), 0);
            assert!(chain[0].set());
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!((told.get(), gave_up.get()), (80, 40));
            Ok(())
        });
    });
}

/// `wait_flag_simple`, `wait_flag_timeout`, the first half of `eventfd`: on another machine or not, before it is set and after.
#[test]
fn a_flag_ends_waits_before_and_after_it_is_set() {
    both(|| {
        in_a_machine(|| {
            let flag = Event::new();
            assert!(expired(flag.wait_timeout(SHORT)));
            let start = now();
            let wait = |flag: &Event| {
                let flag = flag.clone();
                move || flag.wait().map(|()| now())
            };
            let (here, there) = (spawn(wait(&flag)), machine::spawn("there", wait(&flag))?);
            let setter = flag.clone();
            let setter = machine::spawn("setter", move || {
                sleep(SHORT * 2).unwrap();
                setter.set()
            })?;
            assert!(here.join()?? - start >= SHORT * 2);
            assert!(there.join()?? - start >= SHORT * 2);
            assert!(setter.join()?);
            assert!(!flag.set(), "it is set");
            spawn(wait(&flag)).join()??;
            machine::spawn("later", wait(&flag))?.join()??;
            Ok(())
        });
    });
}

/// `wait_group_simple` and `wait_group_timeout`: the parts are coroutines, machines, or something that never ends.
#[test]
fn a_group_of_coroutines_and_machines_is_waited_for() {
    both(|| {
        in_a_machine(|| {
            let (group, done) = (WaitGroup::new(), Arc::new(AtomicU32::new(0)));
            let part = |number: u32| {
                let (part, done) = (group.clone(), done.clone());
                move || {
                    sleep(SHORT * number).unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                    drop(part);
                }
            };
            let here: Vec<_> = (1..=3).map(|number| spawn(part(number))).collect();
            let there = (1..=3).map(|number| machine::spawn("part", part(number)));
            let there = there.collect::<io::Result<Vec<_>>>()?;
            let never = group.clone();
            assert!(expired(group.clone().wait_timeout(SHORT)));
            drop(never);
            group.wait_timeout(LONG)?;
            assert_eq!(done.load(Ordering::SeqCst), 6);
            here.into_iter().for_each(|part| part.join().unwrap());
            there.into_iter().for_each(|part| part.join().unwrap());
            Ok(())
        });
    });
}

/// `wait_group_lifetime`: those who wait leave by their timeouts at about the time at which the parts end, on machines which end then: the
/// last of them all frees the group.
#[test]
fn a_group_ends_with_whoever_leaves_last() {
    both(|| {
        in_a_machine(|| {
            let group = WaitGroup::new();
            let waiters = (0..3).map(|number| {
                let waiting = group.clone();
                machine::spawn("waiter", move || {
                    sleep(SHORT * number).unwrap();
                    let _ = waiting.wait_timeout(SHORT * 2);
                })
            });
            let waiters = waiters.collect::<io::Result<Vec<_>>>()?;
            let parts = (0..3).map(|number| {
                let part = group.clone();
                machine::spawn("part", move || {
                    sleep(SHORT * (number + 1)).unwrap();
                    drop(part);
                })
            });
            let parts = parts.collect::<io::Result<Vec<_>>>()?;
            group.wait_timeout(LONG)?;
            waiters.into_iter().chain(parts).for_each(|machine| machine.join().unwrap());
            Ok(())
        });
    });
}

/// `wait_list_compare_wait_timeout`, `.._wrong_value`, `wait_list_without_notify`.
#[test]
fn a_list_is_waited_on_while_its_number_is_the_one_expected() {
    both(|| {
        in_a_machine(|| {
            let list = Arc::new(WaitList::new(0));
            let wait = |expected| {
                let list = list.clone();
                move || {
                    let start = now();
                    let result = list.wait_timeout(expected, SHORT * 3);
                    (expired(result), now() - start >= SHORT * 3)
                }
            };
            for _ in 0..2 {
                assert_eq!(spawn(wait(0)).join()?, (true, true));
                assert_eq!(machine::spawn("waiter", wait(0))?.join()?, (true, true));
                assert!(!list.notify_one(), "nobody waits, and this is not kept for who comes");
                list.notify_all();
            }
            // Another number: at once, and without an error. It must be looked at again anyway.
            assert!(list.wait(1).is_ok());
            let theirs = list.clone();
            machine::spawn("waiter", move || theirs.wait(1))?.join()??;
            Ok(())
        });
    });
}

/// `wait_list_notify_after_wait`, `.._after_compare_wait`, `wait_list_notify_all`: two coroutines on each of several machines.
#[test]
fn a_notification_to_all_ends_every_wait() {
    both(|| {
        in_a_machine(|| {
            let (list, waiting) = (Arc::new(WaitList::new(0)), Arc::new(AtomicU32::new(0)));
            let machines = (0..4).map(|_| {
                let (list, waiting) = (list.clone(), waiting.clone());
                machine::spawn("waiters", move || {
                    let wait = || {
                        waiting.fetch_add(1, Ordering::SeqCst);
                        while list.get() == 0 {
                            list.wait(0).unwrap();
                        }
                    };
                    scope(|scope| (0..2).for_each(|_| drop(scope.spawn(wait))));
                })
            });
            let machines = machines.collect::<io::Result<Vec<_>>>()?;
            while waiting.load(Ordering::SeqCst) < 8 {
                sleep(SHORT)?;
            }
            sleep(SHORT)?;
            list.update(|number| Some(number + 1)).unwrap();
            list.notify_all();
            machines.into_iter().for_each(|machine| machine.join().unwrap());
            Ok(())
        });
    });
}

/// `wait_list_one_producer_multiple_consumers`: three take turns, so each is notified as often as the others.
#[test]
fn notifications_go_round_among_those_who_wait() {
    both(|| {
        in_a_machine(|| {
            let list = Arc::new(WaitList::new(0));
            let consumers: Vec<_> = (0..3)
                .map(|_| {
                    let list = list.clone();
                    let consumer = spawn(move || (0..10).for_each(|_| list.wait(0).unwrap()));
                    yield_now();
                    consumer
                })
                .collect();
            for round in 0..10 {
                for (place, _) in consumers.iter().enumerate() {
                    let ended = consumers.iter().filter(|consumer| consumer.is_finished()).count();
                    assert_eq!(ended, if round < 9 { 0 } else { place });
                    assert!(list.notify_one());
                    yield_now();
                    yield_now();
                }
            }
            consumers.into_iter().for_each(|consumer| consumer.join().unwrap());
            Ok(())
        });
    });
}

/// `wait_list_one_producer_multiple_consumers_threads`: each notification is had by one of three machines.
#[test]
fn each_notification_is_had_by_one_machine() {
    both(|| {
        in_a_machine(|| {
            let (list, had) = (Arc::new(WaitList::new(0)), Arc::new(AtomicU32::new(0)));
            let consumers = (0..3).map(|_| {
                let (list, had) = (list.clone(), had.clone());
                machine::spawn("consumer", move || {
                    while list.get() == 0 {
                        list.wait(0).unwrap();
                        had.fetch_add(1, Ordering::SeqCst);
                    }
                })
            });
            let consumers = consumers.collect::<io::Result<Vec<_>>>()?;
            let mut given = 0;
            while given < 12 {
                given += u32::from(list.notify_one());
                sleep(SHORT / 10)?;
            }
            while had.load(Ordering::SeqCst) < given {
                sleep(SHORT)?;
            }
            assert_eq!(had.load(Ordering::SeqCst), given);
            list.update(|_| Some(1)).unwrap();
            list.notify_all();
            consumers.into_iter().for_each(|consumer| consumer.join().unwrap());
            Ok(())
        });
    });
}

/// `context_switch` and `sleep_yield`: to oneself, too.
#[test]
fn a_hundred_thousand_switches() {
    on_some(3, 2, |_| {
        in_a_machine(|| {
            let switches = spawn(|| (0..100_000).map(|_| yield_now()).count());
            assert_eq!(switches.join()?, 100_000);
            sleep(Duration::ZERO)?;
            Ok(())
        });
    });
}

/// `create1`, `join`, the second half of `sleep`: joined in another order than that in which they end.
#[test]
fn many_machines_and_coroutines_sleep_for_a_while_each() {
    both(|| {
        in_a_machine(|| {
            let start = now();
            let rest =
                |number: u32| move || sleep(SHORT * (number * 7 % 10)).map(|()| (number, now() - start));
            let machines = (0..10).map(|number| machine::spawn("sleeper", rest(number)));
            let machines = machines.collect::<io::Result<Vec<_>>>()?;
            let here: Vec<_> = (0..10).map(|number| spawn(rest(number))).collect();
            let machines = machines.into_iter().map(|machine| machine.join().unwrap());
            let here = here.into_iter().map(|coroutine| coroutine.join().unwrap());
            for (place, slept) in (0..10).chain(0..10).zip(machines.chain(here)) {
                let (number, took) = slept?;
                assert!(number == place && took >= SHORT * (number * 7 % 10), "{number} took {took:?}");
            }
            Ok(())
        });
    });
}

/// `getaddrinfo1` and `getaddrinfo2`.
#[test]
fn a_hundred_coroutines_look_up_one_name() {
    both(|| {
        in_a_machine(|| {
            let askers: Vec<_> = (0..100)
                .map(|_| spawn(|| timeout(LONG, || machinarium::net::lookup("localhost", 80))))
                .collect();
            for asker in askers {
                let found = asker.join()??;
                assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()));
            }
            Ok(())
        });
    });
}
