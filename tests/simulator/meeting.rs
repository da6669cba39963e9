//! What machines meet at, with a switch of threads between any two operations on it: locks, conditions, barriers, cells. Some of those
//! who wait give up at the very moment at which they are served.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use machinarium::shared::primitive::point;
use machinarium::sync::{Barrier, Condvar, Event, Mutex, OnceCell, RwLock, Semaphore, WaitGroup};
use machinarium::{WaitError, machine, now};
use machinarium_sim::{Check, Durations, Fault, Faults};

const MACHINES: u64 = 3;

/// Has `part` run on so many machines at once, with the number of each and a patience of a few turns of a thread, and what they
/// share looked at after all have ended.
fn meet<S: Send + Sync + 'static>(
    make: impl Fn() -> S + Copy + Send + Sync + 'static,
    part: impl Fn(&S, u64, Duration) + Copy + Send + Sync + 'static,
    after: impl Fn(&S) + Copy + Send + Sync + 'static,
) {
    let faults = Faults::none().rate(Fault::Preempt, 20).with(Fault::Limits);
    Check::new().seeds(150).faults(faults).run(move |world| {
        let patience = Duration::from_nanos(world.random(20_000));
        let host = world.host("host").run(move || {
            machinarium::run(|| {
                let (shared, all_are_there) = (Arc::new(make()), Event::new());
                let machines: Vec<_> = (0..MACHINES)
                    .map(|number| {
                        let (shared, begin) = (shared.clone(), all_are_there.clone());
                        machine::spawn("one", move || {
                            begin.wait().unwrap();
                            part(&shared, number, patience);
                        })
                    })
                    .collect::<Result<_, _>>()?;
                all_are_there.set();
                machines.into_iter().try_for_each(machine::Handle::join)?;
                after(&shared);
                io::Result::Ok(())
            })
        });
        world.eventually(60.secs(), || host.finished());
    });
}

/// Whether a wait has had its effect, or its deadline has come first.
fn in_time<T>(waited: Result<T, WaitError>) -> Option<T> {
    match waited {
        Ok(value) => Some(value),
        Err(WaitError::Expired(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Writers change two numbers with a turn between; whoever reads or writes finds them equal, and no change is lost.
#[test]
fn a_lock_for_readers_and_writers() {
    let part = |(lock, written): &(RwLock<(u64, u64)>, AtomicU64), number: u64, patience: Duration| {
        for round in 0..10 {
            if !(round + number).is_multiple_of(3) {
                let Some(guard) = in_time(lock.read_deadline(now() + patience)) else { continue };
                let left = guard.0;
                point();
                assert_eq!(left, guard.1, "a writer is half-way");
                continue;
            }
            let Some(mut guard) = in_time(lock.write_deadline(now() + patience)) else { continue };
            guard.0 += 1;
            point();
            guard.1 += 1;
            assert_eq!(guard.0, guard.1);
            written.fetch_add(1, SeqCst);
        }
    };
    meet(Default::default, part, |(lock, written)| {
        let guard = lock.try_write().expect("nobody is left inside, and nobody waits");
        assert_eq!(*guard, (written.load(SeqCst), written.load(SeqCst)));
    });
}

/// Two permits: two are inside at most, and both are there again at the end, whoever has given up meanwhile.
#[test]
fn permits_of_a_semaphore() {
    let part = |(semaphore, inside): &(Semaphore, AtomicU64), number: u64, patience: Duration| {
        for round in 0..10 {
            let many = 1 + u64::from((round + number).is_multiple_of(4));
            let acquired = machinarium::timeout(patience, || semaphore.acquire_many(many as usize));
            let Some(_permit) = in_time(acquired) else { continue };
            let before = inside.fetch_add(many, SeqCst);
            assert!(before + many <= 2, "{} permits are held", before + many);
            point();
            inside.fetch_sub(many, SeqCst);
        }
    };
    let make = || (Semaphore::new(2), AtomicU64::new(0));
    meet(make, part, |(semaphore, _)| assert_eq!(semaphore.available_permits(), 2));
}

/// A list of at most one item between machines that put in and take out: everything that goes in comes out, and nobody sleeps
/// while there is something for him. A notification that comes to one who then leaves goes to another.
#[test]
fn two_conditions_of_one_lock() {
    #[derive(Default)]
    struct Shelf {
        items: Mutex<(Vec<u64>, u64)>,
        full: Condvar,
        empty: Condvar,
    }
    const ROUNDS: u64 = 12;
    let part = |shelf: &Shelf, number: u64, patience: Duration| {
        if number > 0 {
            for round in 0..ROUNDS {
                let mut guard = shelf.items.lock().unwrap();
                while !guard.0.is_empty() {
                    guard = shelf.empty.wait(guard).unwrap();
                }
                guard.0.push(round);
                // Before the lock is free: whoever is told may leave before he has it.
                shelf.full.notify_one();
                point();
                drop(guard);
            }
            return;
        }
        // One takes all that comes, others as long as nothing keeps them waiting.
        machinarium::scope(|scope| {
            scope.spawn(move || take_all(shelf, None));
            (1..6).for_each(|times| drop(scope.spawn(move || take_all(shelf, Some(patience * times)))));
        });
    };
    fn take_all(shelf: &Shelf, patience: Option<Duration>) {
        let all = ROUNDS * (MACHINES - 1);
        loop {
            let mut guard = shelf.items.lock().unwrap();
            while guard.0.is_empty() && guard.1 < all {
                let waited = match patience {
                    None => shelf.full.wait(guard),
                    Some(patience) => shelf.full.wait_timeout(guard, patience),
                };
                match in_time(waited) {
                    Some(again) => guard = again,
                    None => return,
                }
            }
            let (items, taken) = &mut *guard;
            *taken += items.pop().map_or(0, |_| 1);
            let done = *taken == all;
            drop(guard);
            shelf.empty.notify_one();
            if done {
                shelf.full.notify_all();
                return;
            }
        }
    }
    meet(Shelf::default, part, |shelf| {
        let guard = shelf.items.try_lock().expect("nobody holds it");
        assert_eq!(*guard, (Vec::new(), ROUNDS * (MACHINES - 1)));
    });
}

/// Rounds of a barrier: nobody begins one before all have ended the one before, and each has one leader.
#[test]
fn rounds_of_a_barrier() {
    const ROUNDS: u64 = 10;
    struct Race {
        barrier: Barrier,
        steps: AtomicU64,
        leaders: AtomicU64,
    }
    let make = || Race {
        barrier: Barrier::new(MACHINES as usize),
        steps: AtomicU64::new(0),
        leaders: AtomicU64::new(0),
    };
    let part = |race: &Race, _: u64, _: Duration| {
        for round in 1..=ROUNDS {
            race.steps.fetch_add(1, SeqCst);
            let result = race.barrier.wait().unwrap();
            point();
            let steps = race.steps.load(SeqCst);
            assert!(
                (MACHINES * round..MACHINES * (round + 1)).contains(&steps),
                "{steps} steps in round {round}"
            );
            race.leaders.fetch_add(u64::from(result.is_leader()), SeqCst);
            race.barrier.wait().unwrap();
        }
    };
    meet(make, part, |race| assert_eq!(race.leaders.load(SeqCst), ROUNDS));
}

/// Whoever waits for a group sees what each who took part has done before he left; who gives up waiting comes back.
#[test]
fn the_end_of_a_group() {
    let part = |(groups, done): &(Mutex<Vec<WaitGroup>>, AtomicU64), number: u64, patience: Duration| {
        let mine = groups.lock().unwrap().pop().expect("there is one for each");
        if number == 0 {
            let again = mine.clone();
            if in_time(mine.wait_timeout(patience)).is_none() {
                again.wait().unwrap();
            } else {
                panic!("one part was kept");
            }
            assert_eq!(done.load(SeqCst), 3 * (MACHINES - 1), "somebody is not done");
            return;
        }
        let parts: Vec<_> = (0..2).map(|_| mine.clone()).collect();
        for part in parts.into_iter().chain([mine]) {
            done.fetch_add(1, SeqCst);
            point();
            drop(part);
        }
    };
    let make = || {
        let first = WaitGroup::new();
        let all = std::iter::repeat_n(first, MACHINES as usize).collect();
        (Mutex::new(all), AtomicU64::new(0))
    };
    meet(make, part, |(_, done)| assert_eq!(done.load(SeqCst), 3 * (MACHINES - 1)));
}

/// The value of a cell is made once, though some who begin to make it fail and others give up waiting for it; all see the same.
#[test]
fn the_value_of_a_cell() {
    #[derive(Default)]
    struct Made {
        cell: OnceCell<u64>,
        making: AtomicU64,
        made: AtomicU64,
    }
    let part = |shared: &Made, number: u64, patience: Duration| {
        let mut failures = number;
        loop {
            // The last one waits as long as it takes.
            let patience =
                if number + 1 < MACHINES { patience + Duration::from_micros(1) } else { 3600.secs() };
            let got = machinarium::timeout(patience, || {
                shared.cell.get_or_try_init(|| -> Result<u64, io::Error> {
                    assert_eq!(shared.making.fetch_add(1, SeqCst), 0, "two make it at once");
                    point();
                    shared.making.fetch_sub(1, SeqCst);
                    if failures > 0 {
                        failures -= 1;
                        return Err(io::Error::other("not yet"));
                    }
                    shared.made.fetch_add(1, SeqCst);
                    Ok(7)
                })
            });
            match got {
                Ok(value) => {
                    assert_eq!(*value, 7);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => assert_eq!(error.to_string(), "not yet"),
            }
        }
    };
    meet(Made::default, part, |shared| {
        assert_eq!((shared.cell.get(), shared.made.load(SeqCst)), (Some(&7), 1));
    });
}
