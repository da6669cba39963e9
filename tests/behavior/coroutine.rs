//! Coroutines: starting, joining, panics, cancellation, scopes, and how they end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use machinarium::{JoinError, Misuse, WaitError, run, scope, sleep, spawn, yield_now};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn join_returns_the_value() {
    both(|| {
        let sum: io::Result<u64> = run(|| {
            let handles: Vec<_> = (0..1000u64).map(|n| spawn(move || n)).collect();
            Ok(handles.into_iter().map(|handle| handle.join().unwrap()).sum())
        });
        assert_eq!(sum.unwrap(), 499_500);
    });
}

#[test]
fn coroutines_take_turns() {
    both(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let seen = order.clone();
        let result: io::Result<()> = run(move || {
            let handles: Vec<_> = (0..3)
                .map(|n| {
                    let order = order.clone();
                    spawn(move || {
                        for round in 0..3 {
                            order.borrow_mut().push((round, n));
                            yield_now();
                        }
                    })
                })
                .collect();
            handles.into_iter().for_each(|handle| handle.join().unwrap());
            Ok(())
        });
        result.unwrap();
        let expected: Vec<_> = (0..3).flat_map(|round| (0..3).map(move |n| (round, n))).collect();
        assert_eq!(*seen.borrow(), expected);
    });
}

#[test]
fn a_panic_is_returned_by_join() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let error = spawn(|| panic!("on purpose")).join().unwrap_err();
            assert_eq!(error.message(), Some("on purpose"));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_panic_of_main_goes_on_in_the_caller_after_the_others_were_unwound() {
    both(|| {
        struct Flag(Rc<Cell<bool>>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = Rc::new(Cell::new(false));
        let flag = Flag(dropped.clone());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run::<(), io::Error>(|| {
                spawn(move || {
                    let _flag = flag;
                    let _ = sleep(LONG);
                });
                yield_now();
                panic!("main, on purpose")
            })
        }));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"main, on purpose"));
        assert!(dropped.get(), "the other coroutine's destructors ran");
    });
}

#[test]
fn cancel_ends_a_wait_with_its_cause() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let handle = spawn(|| sleep(LONG));
            yield_now();
            handle.cancel("not needed").unwrap();
            handle.cancel("a later cause").unwrap();
            match handle.join().unwrap() {
                Err(WaitError::Cancelled(cancelled)) => assert_eq!(cancelled.cause(), "not needed"),
                other => panic!("{other:?}"),
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn cancelled_before_its_first_run_it_runs_and_its_first_wait_fails() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let handle = spawn(|| sleep(LONG).is_err());
            handle.cancel("early").unwrap();
            assert!(handle.join().unwrap());
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_shield_keeps_cancellation_out_until_it_ends() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let handle = spawn(|| {
                let inside = machinarium::shield(|| sleep(Duration::from_millis(2)));
                (inside, sleep(LONG))
            });
            yield_now();
            handle.cancel("now").unwrap();
            let (inside, after) = handle.join().unwrap();
            assert_eq!(inside, Ok(()));
            assert!(matches!(after, Err(WaitError::Cancelled(_))));
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_loop_that_ignores_every_error_does_not_keep_its_machine() {
    both(|| {
        let result: io::Result<()> = machinarium::Builder::new().grace(Duration::from_millis(5)).run(|| {
            spawn(|| {
                loop {
                    let _ = sleep(LONG);
                }
            });
            yield_now();
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_swallowed_unwinding_is_thrown_again() {
    both(|| {
        let result: io::Result<()> = machinarium::Builder::new().grace(Duration::ZERO).run(|| {
            spawn(|| {
                for _ in 0..10 {
                    let _ = std::panic::catch_unwind(|| sleep(LONG));
                }
            });
            yield_now();
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_wait_in_a_destructor_of_an_unwinding_is_an_error() {
    both(|| {
        thread_local!(static SEEN: RefCell<Option<Result<(), WaitError>>> = const { RefCell::new(None) });
        struct Sleeper;
        impl Drop for Sleeper {
            fn drop(&mut self) {
                SEEN.with(|seen| *seen.borrow_mut() = Some(sleep(LONG)));
            }
        }
        let result: io::Result<()> = run(|| {
            let handle = spawn(|| {
                let _sleeper = Sleeper;
                panic!("on purpose");
            });
            assert!(handle.join().is_err());
            Ok(())
        });
        result.unwrap();
        assert_eq!(SEEN.take(), Some(Err(WaitError::Misuse(Misuse::Unwinding))));
    });
}

#[test]
fn scoped_children_borrow_and_are_waited_for() {
    both(|| {
        let mut parts = vec![0u64; 100];
        let result: io::Result<()> = run(|| {
            scope(|scope| {
                for (n, part) in parts.iter_mut().enumerate() {
                    scope.spawn(move || {
                        sleep(Duration::from_micros(n as u64)).unwrap();
                        *part = n as u64;
                    });
                }
            });
            Ok(())
        });
        result.unwrap();
        assert_eq!(parts.iter().sum::<u64>(), 4950);
    });
}

#[test]
fn a_scope_whose_parent_is_cancelled_cancels_its_children_and_waits() {
    both(|| {
        let ended = Cell::new(0);
        let result: io::Result<()> = run(|| {
            scope(|outer| {
                let parent = outer.spawn(|| {
                    scope(|inner| {
                        for _ in 0..3 {
                            inner.spawn(|| {
                                assert!(sleep(LONG).is_err());
                                ended.set(ended.get() + 1);
                            });
                        }
                    });
                    assert_eq!(ended.get(), 3);
                });
                yield_now();
                yield_now();
                outer.cancel("enough");
                parent.join().unwrap();
            });
            Ok(())
        });
        result.unwrap();
        assert_eq!(ended.get(), 3);
    });
}

#[test]
fn a_scope_that_is_torn_down_unwinds_its_children_first() {
    both(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        struct Note(&'static str, Rc<RefCell<Vec<&'static str>>>);
        impl Drop for Note {
            fn drop(&mut self) {
                self.1.borrow_mut().push(self.0);
            }
        }
        let notes = order.clone();
        let result: io::Result<()> = machinarium::Builder::new().grace(Duration::ZERO).run(move || {
            spawn(move || {
                let _parent = Note("parent", notes.clone());
                scope(|scope| {
                    scope.spawn(|| {
                        let _child = Note("child", notes.clone());
                        machinarium::shield(|| sleep(LONG)).unwrap();
                    });
                });
            });
            yield_now();
            yield_now();
            Ok(())
        });
        result.unwrap();
        assert_eq!(*order.borrow(), ["child", "parent"]);
    });
}

#[test]
fn a_panic_in_a_scope_waits_for_the_children() {
    both(|| {
        let ended = Cell::new(false);
        let result: io::Result<()> = run(|| {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                scope(|scope| {
                    scope.spawn(|| {
                        assert!(sleep(LONG).is_err());
                        ended.set(true);
                    });
                    yield_now();
                    panic!("on purpose");
                })
            }));
            assert!(caught.is_err());
            assert!(ended.get());
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_handle_carried_to_another_machine_is_refused() {
    both(|| {
        thread_local!(static HANDLE: RefCell<Option<machinarium::JoinHandle<u8>>> = const { RefCell::new(None) });
        let first: io::Result<()> = run(|| {
            HANDLE.with(|handle| *handle.borrow_mut() = Some(spawn(|| 7)));
            yield_now();
            Ok(())
        });
        first.unwrap();
        let second: io::Result<()> = run(|| {
            let handle = HANDLE.take().unwrap();
            assert_eq!(handle.cancel("stray"), Err(Misuse::OtherMachine));
            assert!(matches!(handle.join(), Err(JoinError::Wait(WaitError::Misuse(Misuse::OtherMachine)))));
            Ok(())
        });
        second.unwrap();
    });
}

#[test]
fn more_coroutines_than_the_limit_is_a_clear_error() {
    both(|| {
        let result: io::Result<()> = machinarium::Builder::new().stack_limit(3).run(|| {
            let _held: Vec<_> = (0..2).map(|_| spawn(|| drop(sleep(LONG)))).collect();
            let error = machinarium::try_spawn("one too many", || ()).unwrap_err();
            assert!(error.to_string().contains("all 3 stacks are in use"), "{error}");
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn deep_recursion_and_large_frames_fit_the_stack() {
    both(|| {
        fn depth(n: u64) -> u64 {
            let block = [n; 64];
            if n == 0 { 0 } else { std::hint::black_box(&block)[7] + depth(n - 1) - n + 1 }
        }
        let result: io::Result<u64> = run(|| Ok(spawn(|| depth(250)).join().unwrap()));
        assert_eq!(result.unwrap(), 250);
    });
}
