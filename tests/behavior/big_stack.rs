//! Big stacks: the same coroutine on another stack, which waits, is cancelled, panics and is unwound there as anywhere.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use crate::child::{in_child, said};
use machinarium::context::{ContextKey, with_value};
use machinarium::{
    Builder, JoinError, SpawnError, SpawnOptions, StackClass, StackError, cancelled, on_big_stack, run,
    scope, sleep, spawn, spawn_with, timeout, try_on_big_stack, yield_now,
};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);
const BIG: SpawnOptions<'static> = big("");

const fn big(name: &'static str) -> SpawnOptions<'static> {
    SpawnOptions::new().name(name).stack(StackClass::Big)
}

/// Goes down by `frames` of a KiB and more.
#[inline(never)]
fn descend(frames: u32, at_the_end: &mut dyn FnMut()) -> u32 {
    let frame = black_box([frames; 256]);
    if frames == 0 {
        at_the_end();
        return 0;
    }
    1 + descend(frame[7] - 1, at_the_end)
}

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn a_deep_recursion_borrows_and_returns() {
    both(|| {
        in_a_machine(|| {
            let mut words = vec!["before".to_owned()];
            let depth = on_big_stack(|| descend(2000, &mut || words.push("deep down".to_owned())));
            assert_eq!((depth, words.len()), (2000, 2));
            // Each call has a stack of its own: more in all than one holds.
            fn again(left: u32, reached: &Cell<u32>) {
                if left > 0 {
                    on_big_stack(|| descend(3000, &mut || again(left - 1, reached)));
                } else {
                    reached.set(reached.get() + 1);
                }
            }
            let reached = Cell::new(0);
            again(6, &reached);
            assert_eq!(reached.get(), 1);
            Ok(())
        });
    });
}

#[test]
fn it_is_the_same_coroutine_which_waits_there_among_others() {
    static MARK: ContextKey<u32> = ContextKey::new();
    machinarium::coroutine_local! {
        static NUMBER: Cell<u32> = Cell::new(0);
    }
    both(|| {
        in_a_machine(|| {
            let order = Rc::new(RefCell::new(Vec::new()));
            let coroutines: Vec<_> = (0..8)
                .map(|number| {
                    let order = order.clone();
                    let work = move || -> io::Result<()> {
                        NUMBER.set(number);
                        for turn in 0..3 {
                            // Parked at different depths, half of them on their big stacks.
                            let mut step = || {
                                yield_now();
                                sleep(SHORT).unwrap();
                                order.borrow_mut().push((turn, NUMBER.get(), MARK.get().as_deref().copied()));
                            };
                            if number % 2 == 0 {
                                on_big_stack(|| descend(100 * (number + 1), &mut step));
                            } else {
                                step();
                            }
                        }
                        Ok(())
                    };
                    with_value(&MARK, number, || spawn(work))
                })
                .collect();
            for coroutine in coroutines {
                coroutine.join()??;
            }
            let mut seen = order.take();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq((0..3).flat_map(|turn| (0..8).map(move |n| (turn, n, Some(n))))));
            Ok(())
        });
    });
}

#[test]
fn deadlines_and_cancellation_reach_it() {
    both(|| {
        in_a_machine(|| {
            let late = timeout(SHORT, || on_big_stack(|| sleep(LONG))).unwrap_err();
            assert_eq!(io::Error::from(late).kind(), io::ErrorKind::TimedOut);
            let inner = on_big_stack(|| timeout(SHORT, || sleep(LONG)));
            assert!(inner.is_err() && sleep(2 * SHORT).is_ok(), "the deadline ends with its closure");
            let waits = spawn_with(BIG, || sleep(LONG))?;
            let waits_too = spawn(|| on_big_stack(|| sleep(LONG)));
            sleep(SHORT)?;
            for waiting in [waits, waits_too] {
                waiting.cancel("enough").unwrap();
                let error = io::Error::from(waiting.join()?.unwrap_err());
                assert_eq!(cancelled(&error).unwrap().cause(), "enough");
            }
            Ok(())
        });
    });
}

#[test]
fn a_panic_goes_on_in_the_caller() {
    both(|| {
        in_a_machine(|| {
            let mut dropped = 0;
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                on_big_stack(|| {
                    let _counts = OnDrop(|| dropped += 1);
                    descend(500, &mut || std::panic::resume_unwind(Box::new(17)))
                })
            }));
            assert_eq!((panicked.unwrap_err().downcast_ref(), dropped), (Some(&17), 1));
            assert_eq!(on_big_stack(|| descend(500, &mut || ())), 500);
            // A destructor that runs in an unwinding goes to a big stack, where something panics and is caught.
            let seen = Cell::new(false);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _goes = OnDrop(|| {
                    assert!(std::thread::panicking());
                    let inner = catch_unwind(AssertUnwindSafe(|| {
                        on_big_stack(|| descend(500, &mut || std::panic::resume_unwind(Box::new(18))))
                    }));
                    seen.set(inner.is_err() && sleep(SHORT).is_err());
                });
                std::panic::resume_unwind(Box::new(19));
            }));
            let panicked: Result<(), _> = panicked;
            assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&19));
            assert!(seen.get() && !std::thread::panicking());
            let error = spawn_with(BIG, || std::panic::resume_unwind(Box::new("joined")))?.join();
            let error: Result<(), JoinError> = error;
            assert_eq!(error.unwrap_err().message(), Some("joined"));
            Ok(())
        });
    });
}

/// Runs its closure when dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn the_machines_end_unwinds_it() {
    both(|| {
        let dropped = Rc::new(Cell::new(0));
        let count = dropped.clone();
        let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
            for _ in 0..4 {
                let count = count.clone();
                let waits = move || {
                    let _outer = OnDrop(|| count.set(count.get() + 1));
                    on_big_stack(|| {
                        let _inner = OnDrop(|| count.set(count.get() + 10));
                        descend(300, &mut || while machinarium::shield(|| sleep(LONG)).is_err() {})
                    })
                };
                drop(spawn_with(BIG, waits)?);
            }
            // One that never runs: its stack goes back too.
            yield_now();
            let count = count.clone();
            let held = OnDrop(move || count.set(count.get() + 100));
            drop(spawn_with(BIG, move || drop(held))?);
            Ok(())
        });
        result.unwrap();
        assert_eq!(dropped.get(), 144);
    });
}

#[test]
fn children_of_a_scope_may_have_big_stacks() {
    both(|| {
        in_a_machine(|| {
            let mut depths = [0; 3];
            scope(|scope| {
                for (depth, class) in
                    depths.iter_mut().zip([StackClass::Big, StackClass::Small, StackClass::Big])
                {
                    let frames = if class == StackClass::Big { 1000 } else { 10 };
                    let options = SpawnOptions::new().name("child").stack(class);
                    scope.spawn_with(options, move || *depth = descend(frames, &mut yield_now)).unwrap();
                }
            });
            assert_eq!(depths, [1000, 10, 1000]);
            Ok(())
        });
    });
}

#[test]
fn there_are_so_many_and_no_more() {
    both(|| {
        let mut tuning = machinarium::Tuning { big_stack_limit: 2, ..Default::default() };
        tuning.big_stack_size = 64 << 10;
        let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
            for _ in 0..3 {
                let first = spawn_with(BIG, || sleep(SHORT))?;
                on_big_stack(|| {
                    let refused = spawn_with(BIG, || ()).unwrap_err();
                    assert!(matches!(refused, SpawnError::Stack(StackError::Limit { limit: 2 })));
                    let held = Rc::new(());
                    let theirs = held.clone();
                    assert!(matches!(try_on_big_stack(move || drop(theirs)), Err(StackError::Limit { .. })));
                    assert_eq!(Rc::strong_count(&held), 1, "what was not run is dropped");
                });
                first.join()??;
            }
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn a_backtrace_shows_both_stacks() {
    both(|| {
        in_a_machine(|| {
            let mut trace = String::new();
            descend(3, &mut || {
                on_big_stack(|| descend(4, &mut || trace = Backtrace::force_capture().to_string()));
            });
            let frames: Vec<&str> =
                trace.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
            assert_eq!(
                frames.iter().filter(|frame| frame.ends_with("big_stack::descend")).count(),
                9,
                "{trace}"
            );
            assert!(trace.contains("call_on") && frames.last().unwrap().ends_with("::base"), "{trace}");
            Ok(())
        });
    });
}

#[test]
fn an_overflow_names_the_coroutine_and_the_setting() {
    #[allow(unconditional_recursion)]
    fn for_ever(frames: u32) -> u32 {
        let frame = black_box([frames; 256]);
        for_ever(frame[7] + 1) + frame[8]
    }
    let output = in_child("big_stack::an_overflow_names_the_coroutine_and_the_setting", || {
        let result: io::Result<()> = Builder::new().big_stack_size(1 << 20).run(|| {
            spawn(|| ()).join()?;
            let deep = spawn_with(big("deep"), || black_box(for_ever(0)))?;
            deep.join()?;
            Ok(())
        });
        result.unwrap();
    });
    let said = said(&output);
    assert!(!output.status.success());
    for words in
        ["'deep' overflowed its stack of 1024 KiB", "make stacks larger with big_stack_size", "for_ever"]
    {
        assert!(said.contains(words), "'{words}' is not in:\n{said}");
    }
}

#[test]
fn outside_a_coroutine_it_runs_where_it_is() {
    both(|| assert_eq!(on_big_stack(|| descend(10, &mut || ())), 10));
}
