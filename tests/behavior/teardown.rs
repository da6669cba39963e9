//! How a machine ends: by force if need be, watched if so configured, and never with a coroutine left on its stack.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use crate::child::{in_child, said};
use machinarium::{Builder, WaitError, run, sleep, spawn, spawn_named, yield_now};

const LONG: Duration = Duration::from_secs(600);

#[inline(never)]
fn never_waits() {
    loop {
        std::hint::black_box(0);
    }
}

#[test]
fn a_teardown_beyond_its_limit_prints_every_coroutine_and_aborts() {
    use std::os::unix::process::ExitStatusExt;
    let output = in_child("teardown::a_teardown_beyond_its_limit_prints_every_coroutine_and_aborts", || {
        let _: io::Result<()> = Builder::new().name("stuck").teardown(Duration::from_millis(50)).run(|| {
            drop(spawn_named("waiting", || {
                machinarium::shield(|| sleep(LONG)).unwrap();
            }));
            yield_now();
            drop(spawn_named("deaf", never_waits));
            Ok(())
        });
    });
    let said = said(&output);
    assert_eq!(output.status.signal(), Some(6), "{said}");
    for words in [
        "the end of machine 'stuck' takes longer than 50ms",
        "'waiting': parked, sleep",
        "'deaf': ready",
        "never_waits",
    ] {
        assert!(said.contains(words), "no '{words}' in: {said}");
    }
}

#[test]
fn a_watched_teardown_that_ends_in_time_is_as_any_other() {
    both(|| {
        for _ in 0..3 {
            let ended = Rc::new(Cell::new(0));
            let seen = ended.clone();
            let result: io::Result<u8> = Builder::new().teardown(LONG).run(move || {
                for _ in 0..5 {
                    let ended = seen.clone();
                    spawn(move || {
                        assert!(sleep(LONG).is_err());
                        ended.set(ended.get() + 1);
                    });
                }
                yield_now();
                Ok(3)
            });
            assert_eq!((result.unwrap(), ended.get()), (3, 5));
        }
    });
}

/// Each frame has a destructor; the innermost is parked in it.
#[test]
fn a_deep_nesting_is_unwound_from_its_leaf() {
    struct Depth(u32, Rc<RefCell<Vec<u32>>>);
    impl Drop for Depth {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }
    fn descend(depth: u32, seen: &Rc<RefCell<Vec<u32>>>) {
        let _depth = Depth(depth, seen.clone());
        match depth {
            200 => machinarium::shield(|| sleep(LONG)).unwrap(),
            _ => descend(depth + 1, seen),
        }
        unreachable!("the wait ends by unwinding alone");
    }
    both(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let order = seen.clone();
        let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
            spawn(move || descend(0, &order));
            yield_now();
            Ok(())
        });
        result.unwrap();
        assert!(seen.borrow().iter().copied().eq((0..=200).rev()), "{:?}", seen.borrow());
    });
}

/// It must not switch: there is nothing to come back to. The wait is an error instead, and the unwinding goes on.
#[test]
fn a_destructor_that_waits_during_the_unwinding_gets_an_error() {
    struct Sleeper(Rc<RefCell<Vec<Result<(), WaitError>>>>);
    impl Drop for Sleeper {
        fn drop(&mut self) {
            let slept = sleep(LONG);
            self.0.borrow_mut().push(slept);
        }
    }
    both(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let theirs = seen.clone();
        let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
            spawn(move || {
                let _outer = Sleeper(theirs.clone());
                let _inner = Sleeper(theirs);
                let _ = machinarium::shield(|| sleep(LONG));
            });
            yield_now();
            Ok(())
        });
        result.unwrap();
        let seen = seen.borrow();
        let refused = |slept: &Result<(), WaitError>| {
            matches!(slept, Err(WaitError::Misuse(machinarium::Misuse::Unwinding)))
        };
        assert!(seen.len() == 2 && seen.iter().all(refused), "{seen:?}");
    });
}

/// A wait outside the unwinding, after it was swallowed, throws again before it switches.
#[test]
fn one_that_swallows_its_unwinding_and_waits_again_is_unwound_again() {
    both(|| {
        let thrown = Rc::new(Cell::new(0));
        let count = thrown.clone();
        let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
            spawn(move || {
                for _ in 0..7 {
                    let wait = AssertUnwindSafe(|| machinarium::shield(|| sleep(LONG)));
                    assert!(catch_unwind(wait).is_err(), "the wait throws");
                    count.set(count.get() + 1);
                }
            });
            yield_now();
            Ok(())
        });
        result.unwrap();
        assert_eq!(thrown.get(), 7);
    });
}

#[test]
fn one_that_swallows_for_ever_aborts_with_the_dump() {
    use std::os::unix::process::ExitStatusExt;
    let output = in_child("teardown::one_that_swallows_for_ever_aborts_with_the_dump", || {
        let _: io::Result<()> = Builder::new().grace(Duration::ZERO).run(|| {
            drop(spawn_named("glutton", || {
                loop {
                    let _ = catch_unwind(|| sleep(LONG));
                }
            }));
            yield_now();
            Ok(())
        });
    });
    let said = said(&output);
    assert_eq!(output.status.signal(), Some(6), "{said}");
    assert!(said.contains("swallows every attempt to unwind it") && said.contains("'glutton'"), "{said}");
}

/// Those that end by themselves within the drain are not cancelled.
#[test]
fn a_drain_lets_others_finish() {
    both(|| {
        let ended = Rc::new(Cell::new((false, false)));
        let seen = ended.clone();
        let result: io::Result<()> = Builder::new().drain(Duration::from_millis(20)).run(move || {
            spawn(move || {
                let first = sleep(Duration::from_millis(2)).is_ok();
                seen.set((first, sleep(LONG).is_ok()));
            });
            Ok(())
        });
        result.unwrap();
        assert_eq!(ended.get(), (true, false));
    });
}

#[test]
fn a_closure_that_never_ran_is_dropped() {
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    both(|| {
        let dropped = Rc::new(Cell::new(false));
        let flag = Flag(dropped.clone());
        let result: io::Result<()> = run(move || {
            spawn(move || drop(flag));
            Ok(())
        });
        result.unwrap();
        assert!(dropped.get());
    });
}
