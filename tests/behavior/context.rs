//! Context values: who sees them, who does not, and when they end.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use machinarium::context::{Context, ContextKey, with_value};
use machinarium::sync::channel;
use machinarium::{machine, run, scope, sleep, spawn, yield_now};

const LONG: Duration = Duration::from_secs(600);

static REQUEST: ContextKey<u32> = ContextKey::new();
static TENANT: ContextKey<&'static str> = ContextKey::new();
static HELD: ContextKey<Counted> = ContextKey::new();

/// Counts its drops; waits first, to show that it may.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = sleep(Duration::from_millis(1));
        self.0.set(self.0.get() + 1);
    }
}

fn request() -> Option<u32> {
    REQUEST.get().as_deref().copied()
}

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn a_value_is_seen_inside_and_by_what_is_started_there() {
    both(|| {
        in_a_machine(|| {
            assert_eq!(request(), None);
            let late = with_value(&REQUEST, 1, || {
                assert_eq!(request(), Some(1));
                let plain = spawn(|| (request(), spawn(request).join().unwrap()));
                let late = spawn(|| {
                    sleep(Duration::from_millis(2)).unwrap();
                    request()
                });
                let scoped = scope(|scope| scope.spawn(request).join().unwrap());
                assert_eq!((plain.join().unwrap(), scoped), ((Some(1), Some(1)), Some(1)));
                late
            });
            assert_eq!((request(), spawn(request).join()?), (None, None));
            assert_eq!(late.join()?, Some(1), "a child keeps what was there when it was started");
            Ok(())
        });
    });
}

#[test]
fn values_nest_and_come_back() {
    both(|| {
        in_a_machine(|| {
            with_value(&REQUEST, 1, || {
                with_value(&TENANT, "us", || {
                    with_value(&REQUEST, 2, || {
                        assert_eq!((request(), *TENANT.get().unwrap()), (Some(2), "us"))
                    });
                    let panicked =
                        || with_value(&REQUEST, 3, || std::panic::resume_unwind(Box::new("on purpose")));
                    let panicked: Result<(), _> = catch_unwind(AssertUnwindSafe(panicked));
                    assert!(panicked.is_err());
                    assert_eq!(request(), Some(1));
                });
                assert!(TENANT.get().is_none());
                // What others do meanwhile is theirs.
                let other = spawn(|| with_value(&REQUEST, 9, || (0..5).for_each(|_| yield_now())));
                yield_now();
                assert_eq!(request(), Some(1));
                other.join().unwrap();
            });
            Ok(())
        });
    });
}

#[test]
fn a_worker_takes_up_the_context_of_whoever_asks() {
    both(|| {
        in_a_machine(|| {
            let (asks, asked) = channel::unbounded::<u32>();
            let (says, said) = channel::unbounded();
            let contexts: Rc<Cell<Vec<Context>>> = Rc::default();
            let queue = contexts.clone();
            let worker = with_value(&REQUEST, 100, || {
                Context::empty().run(|| {
                    spawn(move || {
                        assert_eq!(request(), None, "it does not belong to the request that started it");
                        for place in asked {
                            let context = queue.take()[place as usize].clone();
                            says.send(context.run(request)).unwrap();
                        }
                    })
                })
            });
            for number in 0..3 {
                let taken = (0..=number).map(|n| with_value(&REQUEST, n, Context::current)).collect();
                contexts.set(taken);
                asks.send(number)?;
                assert_eq!(said.recv(), Ok(Some(number)));
            }
            drop(asks);
            worker.join()?;
            Ok(())
        });
    });
}

#[test]
fn nothing_goes_to_another_machine_by_itself() {
    both(|| {
        in_a_machine(|| {
            let worker = machine::spawn("worker", || sleep(LONG))?;
            with_value(&REQUEST, 1, || -> io::Result<()> {
                assert_eq!(worker.remote().spawn(request)?.join()?, None);
                let sent = request().unwrap();
                let join = worker.remote().spawn(move || with_value(&REQUEST, sent, request))?;
                assert_eq!(join.join()?, Some(1));
                assert_eq!(machine::spawn("another", request)?.join()?, None);
                Ok(())
            })?;
            worker.stop("done");
            let _ = worker.join();
            Ok(())
        });
    });
}

#[test]
fn a_value_is_dropped_with_the_last_who_has_it() {
    both(|| {
        in_a_machine(|| {
            let drops = Rc::new(Cell::new(0));
            let child = with_value(&HELD, Counted(drops.clone()), || {
                spawn(|| {
                    let held = HELD.get().is_some();
                    sleep(Duration::from_millis(5)).unwrap();
                    held
                })
            });
            assert_eq!(drops.get(), 0);
            assert!(child.join()?);
            assert_eq!(drops.get(), 1, "before whoever joins goes on");
            scope(|scope| {
                with_value(&HELD, Counted(drops.clone()), || scope.spawn(yield_now));
            });
            assert_eq!(drops.get(), 2);
            with_value(&HELD, Counted(drops.clone()), || drop(spawn(|| sleep(LONG))));
            Ok(())
        });
        // The last one goes with its coroutine, which is cancelled at the machine's end.
    });
}

/// Each coroutine adds a value and starts the next: the list is long, and no stack is deep.
#[test]
fn a_long_list_of_values_is_dropped_without_recursion() {
    fn next(left: u32, drops: Rc<Cell<u32>>) {
        if left > 0 {
            with_value(&REQUEST, left, || spawn(move || next(left - 1, drops)));
        } else {
            assert_eq!(request(), Some(1));
            drops.set(1);
        }
    }
    both(|| {
        in_a_machine(|| {
            let reached = Rc::new(Cell::new(0));
            let count = reached.clone();
            spawn(move || next(20_000, count)).join()?;
            while reached.get() == 0 {
                sleep(Duration::from_millis(1))?;
            }
            Ok(())
        });
    });
}

#[test]
fn outside_a_coroutine_there_are_no_values() {
    both(|| {
        assert!(REQUEST.get().is_none());
        assert!(catch_unwind(|| with_value(&REQUEST, 1, || ())).is_err());
        assert!(format!("{:?}", Context::current()).contains("values: 0"));
    });
}
