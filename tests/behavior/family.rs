//! Scopes with many children, deep ones, and those whose parents are cancelled, shielded or in a hurry.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use machinarium::{Builder, Tuning, machine, now, run, scope, shield, sleep, spawn, timeout, yield_now};

const LONG: Duration = Duration::from_secs(600);

/// A scope that lasts as long as its server: what has ended holds nothing.
#[test]
fn children_that_ended_hold_no_stack_while_the_scope_lasts() {
    both(|| {
        let result: io::Result<()> = Builder::new().stack_limit(4).run(|| {
            let sum = Cell::new(0);
            scope(|scope| {
                for number in 0..50 {
                    let (one, sum) = (scope.spawn(move || number), &sum);
                    scope.spawn(move || sum.set(sum.get() + number));
                    assert_eq!(one.join().unwrap(), number);
                    sleep(Duration::from_micros(10)).unwrap();
                }
            });
            assert_eq!(sum.get(), 1225);
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_child_of_a_cancelled_parent_is_cancelled() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let handle = spawn(|| {
                scope(|scope| {
                    let child = scope.spawn(|| sleep(LONG).unwrap_err().to_string());
                    shield(|| child.join()).unwrap()
                })
            });
            handle.cancel("early").unwrap();
            let start = now();
            assert_eq!(handle.join().unwrap(), "cancelled: early");
            assert!(now() - start < LONG);
            Ok(())
        });
        result.unwrap();
    });
}

/// What must be finished is finished also if it takes several coroutines.
#[test]
fn a_shield_covers_the_children_started_in_it() {
    both(|| {
        let done = Rc::new(Cell::new(0));
        let count = done.clone();
        let result: io::Result<()> = run(move || {
            let flush = move || {
                let finish = |count: &Cell<u32>| {
                    sleep(Duration::from_millis(1)).expect("a child in a shield is in the shield");
                    count.set(count.get() + 1);
                };
                shield(|| {
                    scope(|outer| {
                        outer.spawn(|| finish(&count));
                        outer.spawn(|| scope(|inner| drop(inner.spawn(|| finish(&count)))));
                    });
                });
                assert!(sleep(LONG).is_err(), "after it, the cancellation is felt");
            };
            let handle = spawn(flush.clone());
            yield_now();
            handle.cancel("now").unwrap();
            handle.join().unwrap();
            // This one is cancelled by the machine's end.
            spawn(flush);
            yield_now();
            Ok(())
        });
        result.unwrap();
        assert_eq!(done.get(), 4);
    });
}

/// Children outside of the shield are not its business.
#[test]
fn a_shielded_parent_passes_a_cancellation_on_to_the_others() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let handle = spawn(|| {
                scope(|scope| {
                    let child = scope.spawn(|| sleep(LONG).is_err());
                    shield(|| child.join()).unwrap()
                })
            });
            yield_now();
            yield_now();
            handle.cancel("now").unwrap();
            assert!(handle.join().unwrap());
            Ok(())
        });
        result.unwrap();
    });
}

/// Not the deadline that the scope's owner has set meanwhile for something else.
#[test]
fn a_child_inherits_the_deadline_of_whoever_starts_it() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let slept = RefCell::new(Vec::new());
            let note = |well| slept.borrow_mut().push(well);
            let note = &note;
            scope(|scope| {
                scope.spawn(move || {
                    sleep(Duration::from_micros(300)).unwrap();
                    scope.spawn(move || note(sleep(Duration::from_millis(20)).is_ok()));
                    timeout(Duration::from_millis(1), || {
                        scope.spawn(move || note(sleep(LONG).is_ok()));
                    });
                });
                assert!(timeout(Duration::from_millis(5), || sleep(LONG)).is_err());
            });
            assert_eq!(slept.take(), [false, true]);
            Ok(())
        });
        result.unwrap();
    });
}

/// One in the other, each waiting; a cancellation of the first reaches the last, on a stack of any size.
#[test]
fn a_cancellation_goes_down_a_deep_nesting() {
    fn descend(depth: u32, ended: &Cell<u32>) {
        scope(|scope| {
            if depth > 0 {
                scope.spawn(|| descend(depth - 1, ended));
            }
            assert!(sleep(LONG).is_err());
            ended.set(ended.get() + 1);
        });
    }
    let body = |depth: u32| {
        let ended = Rc::new(Cell::new(0));
        let count = ended.clone();
        let result: io::Result<()> = Builder::new().stack_size(32 << 10).run(move || {
            let top = spawn(move || descend(depth, &count));
            (0..=depth + 1).for_each(|_| yield_now());
            spawn(move || top.cancel("all").unwrap()).join().unwrap();
            (0..=depth + 1).for_each(|_| yield_now());
            Ok(())
        });
        result.unwrap();
        assert_eq!(ended.get(), depth + 1);
    };
    both(move || body(5));
    body(5_000);
}

/// Every round of the unwinding ends one level, or as many coroutines as there are turns; none of them swallows anything.
#[test]
fn many_and_deep_coroutines_are_unwound_in_any_number_of_rounds() {
    fn descend(depth: u32) {
        scope(|scope| {
            if depth > 0 {
                scope.spawn(|| descend(depth - 1));
            }
            let _ = shield(|| sleep(LONG));
        });
    }
    both(|| {
        let tuning = Tuning { turns: 2, swallows: 3, grace: Duration::ZERO, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
            spawn(|| descend(12));
            for _ in 0..40 {
                spawn(|| shield(|| sleep(LONG)).is_ok());
            }
            sleep(Duration::from_millis(2))?;
            Ok(())
        });
        result.unwrap();
    });
}

/// Its parent waits for another machine, which does not answer: that is no reason not to unwind it.
#[test]
fn a_parent_that_waits_for_another_machine_is_unwound_after_its_children() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let here = machine::current()?;
            let worker = machine::spawn("worker", move || {
                let remote = here.spawn(|| shield(|| sleep(Duration::from_secs(60)))).unwrap();
                spawn(move || {
                    scope(|scope| {
                        scope.spawn(|| shield(|| sleep(LONG)));
                        drop(shield(|| remote.join()));
                    });
                });
                drop(sleep(Duration::from_millis(1)));
            })?;
            let mut worker = worker;
            let ended = worker.join_deadline(now() + Duration::from_secs(20));
            assert!(ended.is_ok(), "the worker's end waits for a letter that is not written: {ended:?}");
            Ok(())
        });
        result.unwrap();
    });
}

/// The child's result is dropped by the child, if nobody keeps its handle, and before the scope's end whatever comes of it.
#[test]
fn a_panic_of_a_childs_result_is_the_scopes() {
    struct Slow<'a>(&'a Cell<u32>);
    impl Drop for Slow<'_> {
        fn drop(&mut self) {
            struct Payload;
            impl Drop for Payload {
                fn drop(&mut self) {
                    sleep(Duration::from_millis(1)).unwrap();
                }
            }
            self.0.set(self.0.get() + 1);
            std::panic::panic_any(Payload);
        }
    }
    both(|| {
        let result: io::Result<()> = run(|| {
            let (dropped, start) = (Cell::new(0), now());
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| Slow(&dropped));
                    }
                });
            }));
            assert!(caught.is_err() && dropped.get() == 3, "{}", dropped.get());
            assert!(now() - start >= Duration::from_millis(1), "the scope waits for all of it");
            Ok(())
        });
        result.unwrap();
    });
}

/// As large as it is aligned, as far as its place on a stack goes.
#[test]
fn a_closure_of_no_size_and_a_large_alignment_is_refused() {
    #[repr(align(0x40_0000))]
    #[derive(Clone, Copy)]
    struct Wide;
    both(|| {
        let result: io::Result<()> = run(|| {
            let wide = Wide;
            let touch = move || std::hint::black_box(&raw const wide as usize) % align_of::<Wide>();
            match machinarium::try_spawn("wide", touch) {
                Err(machinarium::SpawnError::TooLarge { bytes }) => assert_eq!(bytes, align_of::<Wide>()),
                other => panic!("{other:?}"),
            }
            Ok(())
        });
        result.unwrap();
    });
}

/// Making one may wait, and then somebody else may want it too.
#[test]
fn a_machine_has_one_of_each_local() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MADE: AtomicU32 = AtomicU32::new(0);
    machinarium::machine_local! {
        static SLOW: u32 = {
            yield_now();
            MADE.fetch_add(1, Ordering::SeqCst)
        };
    }
    both(|| {
        let result: io::Result<()> = run(|| {
            let handles: Vec<_> = (0..3).map(|_| spawn(|| SLOW.with(|value| *value))).collect();
            let seen: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
            assert!(seen.iter().all(|value| *value == seen[0]), "{seen:?}");
            assert_eq!(SLOW.with(|value| *value), seen[0]);
            Ok(())
        });
        result.unwrap();
    });
}
