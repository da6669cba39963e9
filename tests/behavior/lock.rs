//! Locks, semaphores, conditions and their like: alone inside, in order, and nothing lost when a wait ends at the instant of a grant.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::both;
use machinarium::sync::{
    Barrier, Condvar, Event, Mutex, Once, OnceCell, RwLock, Semaphore, WaitGroup, WaitList, channel,
};
use machinarium::{Builder, WaitError, machine, run, sleep, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn a_mutex_lets_one_in_at_a_time_on_any_machine() {
    both(|| {
        in_a_machine(|| {
            let count = Arc::new(Mutex::new(0));
            let add = |count: Arc<Mutex<u32>>| {
                for _ in 0..20 {
                    let mut held = count.lock().unwrap();
                    let before = *held;
                    yield_now();
                    *held = before + 1;
                }
            };
            let theirs = count.clone();
            let there = machine::spawn("there", move || {
                let other = theirs.clone();
                let second = spawn(move || add(other));
                add(theirs);
                second.join().unwrap();
            })?;
            add(count.clone());
            there.join()?;
            assert_eq!(*count.lock()?, 60);
            Ok(())
        });
    });
}

#[test]
fn a_mutex_is_handed_over_in_the_order_of_asking() {
    both(|| {
        in_a_machine(|| {
            let order = Arc::new(Mutex::new(Vec::new()));
            let held = order.lock()?;
            let waiters: Vec<_> = (0..5)
                .map(|number| {
                    let order = order.clone();
                    let waiter = spawn(move || order.lock().unwrap().push(number));
                    yield_now();
                    waiter
                })
                .collect();
            assert!(order.try_lock().is_none());
            drop(held);
            // Those who wait come first.
            assert!(order.try_lock().is_none());
            waiters.into_iter().try_for_each(|waiter| waiter.join())?;
            assert_eq!(*order.lock()?, [0, 1, 2, 3, 4]);
            Ok(())
        });
    });
}

#[test]
fn who_gives_up_passes_his_turn_on() {
    both(|| {
        in_a_machine(|| {
            let mutex = Arc::new(Mutex::new(()));
            let held = mutex.lock()?;
            let (first, second) = (mutex.clone(), mutex.clone());
            let late = spawn(move || first.lock_timeout(SHORT).map(drop));
            let cancelled = {
                let mutex = mutex.clone();
                spawn(move || mutex.lock().map(drop))
            };
            let patient = spawn(move || second.lock().map(drop));
            sleep(SHORT * 2)?;
            cancelled.cancel("enough")?;
            assert!(matches!(late.join()?, Err(WaitError::Expired(_))));
            assert!(matches!(cancelled.join()?, Err(WaitError::Cancelled(_))));
            drop(held);
            patient.join()??;
            assert!(mutex.try_lock().is_some());
            Ok(())
        });
    });
}

#[test]
fn a_holder_that_panics_unlocks() {
    both(|| {
        in_a_machine(|| {
            let mutex = Arc::new(Mutex::new(1));
            let theirs = mutex.clone();
            let holder = spawn(move || {
                let mut held = theirs.lock().unwrap();
                *held = 2;
                panic!("on purpose");
            });
            assert!(holder.join().is_err());
            assert_eq!(*mutex.lock()?, 2);
            Ok(())
        });
    });
}

/// A machine is torn down while its coroutines hold the lock, wait for it, and are being handed it: others go on.
#[test]
fn a_lock_outlives_those_who_are_unwound_around_it() {
    both(|| {
        let body = || {
            let mutex = Arc::new(Mutex::new(()));
            let theirs = mutex.clone();
            let worker = machine::spawn("worker", move || {
                for _ in 0..4 {
                    let mutex = theirs.clone();
                    spawn(move || {
                        while let Ok(_held) = mutex.lock() {
                            let _ = sleep(SHORT / 20);
                        }
                        // Now cancelled, it waits as one who is unwound only.
                        machinarium::shield(|| {
                            let _held = mutex.lock();
                            let _ = sleep(LONG);
                        });
                    });
                }
                sleep(SHORT)
            })?;
            for _ in 0..20 {
                drop(mutex.lock()?);
            }
            let _ = worker.join()?;
            assert!(mutex.try_lock().is_some());
            Ok(())
        };
        let end: io::Result<()> = Builder::new().grace(SHORT).run(body);
        end.unwrap();
    });
}

#[test]
fn readers_share_and_a_writer_is_not_starved() {
    both(|| {
        in_a_machine(|| {
            let lock = Arc::new(RwLock::new(1));
            let (first, second) = (lock.read()?, lock.read()?);
            assert_eq!(*first + *second, 2);
            assert!(lock.try_write().is_none());
            let theirs = lock.clone();
            let writer = spawn(move || theirs.write().map(|mut value| *value = 5));
            sleep(SHORT)?;
            assert!(lock.try_read().is_none(), "a reader waits behind the writer that waits");
            drop((first, second));
            assert_eq!(*lock.read()?, 5);
            writer.join()??;
            assert!(matches!(
                timeout(SHORT, || {
                    let _held = lock.read();
                    lock.write().map(drop)
                }),
                Err(WaitError::Expired(_))
            ));
            assert!(lock.try_write().is_some());
            Ok(())
        });
    });
}

#[test]
fn a_semaphore_counts() {
    both(|| {
        in_a_machine(|| {
            let semaphore = Arc::new(Semaphore::new(3));
            let one = semaphore.acquire()?;
            let theirs = semaphore.clone();
            let many = spawn(move || theirs.acquire_many(3).map(drop));
            sleep(SHORT)?;
            assert!(semaphore.try_acquire().is_none(), "who wants many is not overtaken");
            assert!(semaphore.acquire_timeout(SHORT).is_err());
            drop(one);
            many.join()??;
            assert_eq!(semaphore.available_permits(), 3);
            semaphore.acquire()?.forget();
            semaphore.add_permits(2);
            assert_eq!(semaphore.available_permits(), 4);
            Ok(())
        });
    });
}

/// Permits are given back at about the instant when those who wait for them give up, by deadlines and by cancellation: who gets one has
/// got one, whatever else came, and at the end all are there.
#[test]
fn a_semaphore_loses_no_permit_when_deadlines_meet_grants() {
    both(|| {
        in_a_machine(|| {
            let semaphore = Arc::new(Semaphore::new(2));
            let theirs = semaphore.clone();
            let there = machine::spawn("there", move || {
                for _ in 0..10 {
                    // From another machine, and for as long as others here are patient.
                    if let Ok(permit) = theirs.acquire_timeout(SHORT) {
                        let _ = sleep(SHORT);
                        drop(permit);
                    }
                }
            })?;
            let mut waiters = Vec::new();
            for number in 0..12u32 {
                let semaphore = semaphore.clone();
                waiters.push(spawn(move || {
                    let mut got = 0;
                    for round in 0..10 {
                        let count = 1 + (number + round) as usize % 2;
                        let permits = timeout(SHORT * (1 + round % 3), || semaphore.acquire_many(count));
                        if let Ok(permits) = permits {
                            got += 1;
                            let _ = sleep(SHORT);
                            drop(permits);
                        }
                    }
                    got
                }));
            }
            for waiter in waiters.iter().step_by(3) {
                sleep(SHORT)?;
                waiter.cancel("enough")?;
            }
            let got = waiters.into_iter().map(|waiter| waiter.join());
            assert!(got.sum::<Result<u32, _>>()? > 0);
            there.join()?;
            assert_eq!(semaphore.available_permits(), 2);
            drop(semaphore.acquire_many(2)?);
            Ok(())
        });
    });
}

/// The one before in the line wants more than there is, and gives up: those behind, who want less, go on.
#[test]
fn who_stands_behind_a_large_wish_goes_on_when_it_is_given_up() {
    both(|| {
        in_a_machine(|| {
            let semaphore = Arc::new(Semaphore::new(1));
            let (large, small) = (semaphore.clone(), semaphore.clone());
            let large = spawn(move || timeout(SHORT, || large.acquire_many(2).map(drop)));
            yield_now();
            let small = spawn(move || small.acquire().map(drop));
            assert!(large.join()?.is_err());
            small.join()??;
            Ok(())
        });
    });
}

#[test]
fn a_condition_is_waited_for_with_the_mutex_given_up() {
    both(|| {
        in_a_machine(|| {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            let theirs = shared.clone();
            let producer = machine::spawn("producer", move || {
                for _ in 0..10 {
                    *theirs.0.lock().unwrap() += 1;
                    theirs.1.notify_one();
                }
            })?;
            let (count, grown) = (&shared.0, &shared.1);
            let held = grown.wait_while(count.lock()?, |count| *count < 10)?;
            assert_eq!(*held, 10);
            assert!(matches!(grown.wait_timeout(held, SHORT), Err(WaitError::Expired(_))));
            assert!(count.try_lock().is_some(), "after an error the mutex is not held");
            producer.join()?;
            Ok(())
        });
    });
}

/// Whoever has used a notification does not pass it on.
#[test]
fn one_notification_ends_one_wait() {
    both(|| {
        in_a_machine(|| {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            let wait = || {
                let shared = shared.clone();
                spawn(move || {
                    let mut held = shared.0.lock()?;
                    *held += 1;
                    shared.1.wait_timeout(held, SHORT * 100).map(drop)
                })
            };
            let waiters = [wait(), wait()];
            while *shared.0.lock()? < 2 {
                yield_now();
            }
            shared.1.notify_one();
            let ended = waiters.map(|waiter| waiter.join().unwrap());
            assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 1, "{ended:?}");
            Ok(())
        });
    });
}

#[test]
fn all_who_wait_for_a_condition_are_told() {
    both(|| {
        in_a_machine(|| {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    let shared = shared.clone();
                    spawn(move || shared.1.wait_while(shared.0.lock()?, |go| !*go).map(drop))
                })
                .collect();
            yield_now();
            *shared.0.lock()? = true;
            shared.1.notify_all();
            waiters.into_iter().try_for_each(|waiter| waiter.join()?.map_err(io::Error::from))?;
            Ok(())
        });
    });
}

#[test]
fn an_event_is_for_all_until_it_is_reset_and_goes_on_to_the_next() {
    both(|| {
        in_a_machine(|| {
            let (first, second, third) = (Event::new(), Event::new(), Event::new());
            first.propagate(Some(&second));
            second.propagate(Some(&third));
            third.propagate(Some(&first));
            let theirs = third.clone();
            let waiter = machine::spawn("waiter", move || theirs.wait())?;
            assert!(first.wait_timeout(SHORT).is_err());
            assert!(first.set() && !first.set());
            waiter.join()??;
            assert!(second.is_set() && third.is_set());
            second.wait()?;
            assert!(second.reset() && !second.reset());
            assert!(second.wait_timeout(SHORT).is_err());
            Ok(())
        });
    });
}

#[test]
fn a_wait_group_waits_for_all_parts() {
    both(|| {
        in_a_machine(|| {
            let group = WaitGroup::new();
            let (sender, receiver) = channel::unbounded();
            let machines: Vec<_> = (0..3)
                .map(|number| {
                    let (part, sender) = (group.clone(), sender.clone());
                    machine::spawn("part", move || {
                        sender.send(number).unwrap();
                        drop(part);
                    })
                })
                .collect::<Result<_, _>>()?;
            let waiting = group.clone();
            assert!(waiting.wait_timeout(Duration::ZERO).is_err(), "one part is this one's own");
            group.wait()?;
            assert_eq!(receiver.len(), 3);
            machines.into_iter().try_for_each(|machine| machine.join())?;
            Ok(())
        });
    });
}

#[test]
fn a_barrier_lets_all_go_at_once_and_one_is_the_leader() {
    both(|| {
        in_a_machine(|| {
            let barrier = Arc::new(Barrier::new(3));
            assert!(timeout(SHORT, || barrier.wait()).is_err(), "who gives up has not come");
            let machines: Vec<_> = (0..3)
                .map(|_| {
                    let barrier = barrier.clone();
                    machine::spawn("part", move || {
                        (0..5).filter(|_| barrier.wait().unwrap().is_leader()).count()
                    })
                })
                .collect::<Result<_, _>>()?;
            let leads = machines.into_iter().map(|machine| machine.join());
            assert_eq!(leads.sum::<Result<usize, _>>()?, 5);
            Ok(())
        });
    });
}

#[test]
fn a_once_runs_once_and_again_only_after_a_failure() {
    both(|| {
        in_a_machine(|| {
            let once = Arc::new(Once::new());
            let runs = Arc::new(Mutex::new(0));
            let theirs = once.clone();
            let fails = spawn(move || {
                theirs.try_call_once(|| {
                    sleep(SHORT)?;
                    Err::<(), io::Error>(io::Error::other("not yet"))
                })
            });
            let asks: Vec<_> = (0..4)
                .map(|_| {
                    let (once, runs) = (once.clone(), runs.clone());
                    spawn(move || {
                        once.try_call_once(|| -> Result<(), WaitError> {
                            sleep(SHORT)?;
                            *runs.lock()? += 1;
                            Ok(())
                        })
                    })
                })
                .collect();
            assert_eq!(fails.join()?.unwrap_err().to_string(), "not yet");
            for ask in asks {
                ask.join()??;
            }
            assert!(once.is_completed());
            assert_eq!(*runs.lock()?, 1);
            let cell = OnceCell::new();
            assert_eq!(cell.get(), None);
            assert_eq!(cell.get_or_init(|| 3)?, &3);
            assert_eq!(cell.get_or_init(|| 4)?, &3);
            Ok(())
        });
    });
}

/// The notification goes to one whose deadline passes at about that time: it is used by him or by the other, not lost.
#[test]
fn a_notification_is_not_lost_with_who_gives_up() {
    both(|| {
        in_a_machine(|| {
            let list = Arc::new(WaitList::new(0));
            let (hasty, patient) = (list.clone(), list.clone());
            let hasty = spawn(move || hasty.wait_timeout(0, SHORT).is_ok());
            yield_now();
            let patient = spawn(move || patient.wait_timeout(0, LONG).is_ok());
            yield_now();
            sleep(SHORT)?;
            assert!(list.notify_one());
            let used_by_the_first = hasty.join()?;
            if used_by_the_first {
                assert!(list.notify_one());
            }
            assert!(patient.join()?);
            assert!(!list.notify_one());
            assert_eq!(list.update(|number| Some(number + 1)), Ok(0));
            list.wait(0)?;
            Ok(())
        });
    });
}
