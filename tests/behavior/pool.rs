//! Calls that block: on other threads, as many as there may be, and left behind by who does not wait for them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::both;
use machinarium::sync::{Event, Semaphore, channel};
use machinarium::{BlockingError, Builder, Tuning, blocking, machine, run, spawn, timeout};

const SHORT: Duration = Duration::from_millis(1);

fn one_thread() -> Tuning {
    Tuning { pool_threads: 1, ..Tuning::default() }
}

#[test]
fn a_blocking_call_returns_its_value_while_others_run() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let event = Event::new();
            let theirs = event.clone();
            let waits = spawn(move || blocking(move || theirs.wait().is_ok()));
            let other = spawn(move || event.set());
            assert!(other.join()?);
            assert!(waits.join()?.unwrap());
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_panic_comes_back_and_the_thread_goes_on() {
    both(|| {
        let result: io::Result<()> = Builder::new().tuning(one_thread()).run(|| {
            for _ in 0..3 {
                let error = blocking(|| panic!("on purpose")).unwrap_err();
                let BlockingError::Panicked(panic) = error else { panic!("{error:?}") };
                assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
            }
            assert_eq!(blocking(|| 7)?, 7);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn who_does_not_wait_leaves_the_call_behind() {
    both(|| {
        let result: io::Result<()> = Builder::new().tuning(one_thread()).run(|| {
            let (begun, go, done) = (Event::new(), Event::new(), Event::new());
            let (inside, theirs, finished) = (begun.clone(), go.clone(), done.clone());
            let caller = spawn(move || {
                blocking(move || {
                    inside.set();
                    theirs.wait().unwrap();
                    finished.set();
                })
            });
            begun.wait()?;
            caller.cancel("on purpose")?;
            assert!(matches!(caller.join()?, Err(BlockingError::Wait(_))));
            // The one thread is taken: what is given up before its turn is not done at all.
            let (sender, receiver) = channel::unbounded();
            assert!(timeout(SHORT, || blocking(move || sender.send(1))).is_err());
            go.set();
            done.wait()?;
            assert_eq!(blocking(|| 2)?, 2);
            assert!(receiver.recv().is_err(), "the second call was not made");
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn calls_run_side_by_side_up_to_the_limit_and_wait_beyond_it() {
    both(|| {
        let few = Tuning { pool_threads: 3, pool_queue: 1, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(few).run(|| {
            let (inside, gate) = (Arc::new(Semaphore::new(0)), Event::new());
            let calls: Vec<_> = (0..8)
                .map(|number| {
                    let (inside, gate) = (inside.clone(), gate.clone());
                    spawn(move || {
                        blocking(move || {
                            inside.add_permits(1);
                            gate.wait().unwrap();
                            number
                        })
                    })
                })
                .collect();
            drop(inside.acquire_many(3)?);
            machinarium::sleep(SHORT)?;
            assert_eq!(inside.available_permits(), 3, "no more than three are inside");
            gate.set();
            let numbers = calls.into_iter().map(|call| call.join().unwrap().unwrap());
            assert!(numbers.eq(0..8));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn machines_share_one_pool() {
    both(|| {
        let result: io::Result<()> = Builder::new().tuning(one_thread()).run(|| {
            let machines: Vec<_> = (0..3)
                .map(|number| machine::spawn("caller", move || blocking(move || number * 2).unwrap()))
                .collect::<Result<_, _>>()?;
            let doubled = machines.into_iter().map(|machine| machine.join());
            assert_eq!(doubled.sum::<Result<i32, _>>()?, 6);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn who_leaves_before_there_is_a_place_in_the_queue_takes_none() {
    both(|| {
        let tight = Tuning { pool_threads: 1, pool_queue: 1, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(tight).run(|| {
            let (inside, gate) = (Event::new(), Event::new());
            let (entered, opened) = (inside.clone(), gate.clone());
            let holds = spawn(move || {
                blocking(move || {
                    entered.set();
                    opened.wait()
                })
            });
            inside.wait()?;
            let queued = spawn(|| blocking(|| 1));
            machinarium::yield_now();
            let (sender, made) = channel::unbounded();
            for number in 0..3 {
                let sender = sender.clone();
                let late = timeout(SHORT, || blocking(move || sender.send(number)));
                assert!(matches!(late, Err(BlockingError::Wait(_))), "{late:?}");
            }
            gate.set();
            holds.join()?.unwrap()?;
            assert_eq!(queued.join()?.unwrap(), 1);
            for number in 0..3 {
                assert_eq!(blocking(move || number)?, number);
            }
            drop(sender);
            assert!(made.recv().is_err(), "what had no place is not made");
            Ok(())
        });
        result.unwrap();
    });
}
