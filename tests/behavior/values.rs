//! Values of coroutines: whose they are, when they are made, and that they end with their coroutine, on its stack.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::both;
use machinarium::{AccessError, Builder, machine, now, run, scope, sleep, spawn, yield_now};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

/// Appends its name to a list when dropped, after a wait if it has one.
struct Noted {
    name: &'static str,
    list: Rc<RefCell<Vec<&'static str>>>,
    wait: Duration,
}

impl Drop for Noted {
    fn drop(&mut self) {
        if !self.wait.is_zero() {
            let _ = sleep(self.wait);
        }
        self.list.borrow_mut().push(self.name);
    }
}

type List = Rc<RefCell<Vec<&'static str>>>;

fn noted(name: &'static str, list: &List, wait: Duration) -> Option<Noted> {
    Some(Noted { name, list: list.clone(), wait })
}

machinarium::coroutine_local! {
    static NUMBER: Cell<u32> = Cell::new(5);
    static WORDS: RefCell<Vec<&'static str>> = RefCell::new(vec!["made"]);
    static FIRST: RefCell<Option<Noted>> = RefCell::new(None);
    static SECOND: RefCell<Option<Noted>> = RefCell::new(None);
    static NEVER: Cell<u32> = panic!("its value is set before it is asked for");
    static LOOKS: OnDrop = OnDrop(RefCell::new(None));
    static OTHER: OnDrop = OnDrop(RefCell::new(None));
}

/// Runs its closure when dropped.
#[derive(Default)]
struct OnDrop(RefCell<Option<Box<dyn FnOnce()>>>);

impl OnDrop {
    fn set(&self, f: impl FnOnce() + 'static) {
        *self.0.borrow_mut() = Some(Box::new(f));
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn each_coroutine_has_its_own_value() {
    both(|| {
        in_a_machine(|| {
            NUMBER.set(1);
            let others: Vec<_> = (10..20)
                .map(|number| {
                    spawn(move || {
                        let before = NUMBER.get();
                        NUMBER.set(number);
                        yield_now();
                        (before, NUMBER.get())
                    })
                })
                .collect();
            for (number, other) in (10..).zip(others) {
                assert_eq!(other.join()?, (5, number));
            }
            // On stacks that were used before.
            assert_eq!(spawn(|| NUMBER.get()).join()?, 5);
            assert_eq!(NUMBER.get(), 1);
            Ok(())
        });
    });
}

#[test]
fn cells_and_ref_cells_have_the_methods_of_stds_keys() {
    both(|| {
        in_a_machine(|| {
            NEVER.set(7);
            assert_eq!((NEVER.replace(8), NEVER.take(), NEVER.get()), (7, 8, 0));
            assert!(WORDS.with_borrow(|words| *words == ["made"]));
            WORDS.with_borrow_mut(|words| words.push("more"));
            assert_eq!(WORDS.replace(vec!["other"]), ["made", "more"]);
            assert_eq!(WORDS.take(), ["other"]);
            WORDS.set(vec!["last"]);
            assert_eq!(WORDS.try_with(|words| words.borrow().len()), Ok(1));
            Ok(())
        });
    });
}

#[test]
fn values_end_last_made_first_before_whoever_joins_goes_on() {
    both(|| {
        in_a_machine(|| {
            let list = List::default();
            let (theirs, start) = (list.clone(), now());
            let coroutine = spawn(move || {
                // A destructor may wait, and may lend and use values itself.
                FIRST.set(noted("first", &theirs, SHORT));
                SECOND.set(noted("second", &theirs, SHORT));
                theirs.borrow_mut().push("closure");
            });
            coroutine.join()?;
            assert_eq!(*list.borrow(), ["closure", "second", "first"]);
            assert!(now() - start >= 2 * SHORT);
            Ok(())
        });
    });
}

#[test]
fn values_end_with_a_scope_of_their_coroutine() {
    both(|| {
        in_a_machine(|| {
            let list = List::default();
            scope(|scope| {
                let child = scope.spawn(|| FIRST.set(noted("first", &list, SHORT)));
                child.join().unwrap();
                assert_eq!(*list.borrow(), ["first"]);
                scope.spawn(|| SECOND.set(noted("second", &list, SHORT)));
            });
            assert_eq!(*list.borrow(), ["first", "second"]);
            Ok(())
        });
    });
}

#[test]
fn values_end_however_their_coroutine_does() {
    both(|| {
        let list = List::default();
        let theirs = list.clone();
        let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
            let list = theirs.clone();
            let panics = spawn(move || {
                FIRST.set(noted("panicked", &list, SHORT));
                std::panic::resume_unwind(Box::new("on purpose"))
            });
            let panicked: Result<(), _> = panics.join();
            assert!(panicked.is_err());
            let list = theirs.clone();
            let cancelled = spawn(move || {
                FIRST.set(noted("cancelled", &list, Duration::ZERO));
                let _ = sleep(LONG);
            });
            yield_now();
            cancelled.cancel("enough").unwrap();
            cancelled.join()?;
            let list = theirs.clone();
            // Detached: nobody takes its result, whose destructor comes after and makes a value of its own.
            drop(spawn(move || {
                let last = list.clone();
                FIRST.set(noted("detached", &list, SHORT));
                let result = OnDrop::default();
                result.set(move || SECOND.set(noted("result", &last, SHORT)));
                result
            }));
            sleep(10 * SHORT)?;
            assert_eq!(*theirs.borrow(), ["panicked", "cancelled", "detached", "result"]);
            let list = theirs.clone();
            drop(spawn(move || {
                FIRST.set(noted("unwound", &list, LONG));
                SECOND.set(noted("unwound too", &list, LONG));
                machinarium::shield(|| sleep(LONG))
            }));
            yield_now();
            theirs.borrow_mut().clear();
            Ok(())
        });
        result.unwrap();
        // A wait in a destructor is cut short by the unwinding, and goes no further.
        assert!(list.borrow().is_empty());
        assert_eq!(Rc::strong_count(&list), 1, "both were dropped");
    });
}

#[test]
fn a_value_that_is_gone_does_not_come_again() {
    both(|| {
        in_a_machine(|| {
            let seen = Rc::new(RefCell::new(Vec::new()));
            let notes = seen.clone();
            let coroutine = spawn(move || {
                let again = notes.clone();
                LOOKS.with(|looks| {
                    looks.set(move || {
                        // It is gone itself, the other was made later and so is gone, and one that never was is made.
                        let me = LOOKS.try_with(|_| ()).err();
                        let other = OTHER.try_with(|_| ()).err();
                        again.borrow_mut().push((me, other, NUMBER.get()));
                    });
                });
                // A destructor panics, and the others follow.
                OTHER.with(|other| other.set(|| std::panic::resume_unwind(Box::new("on purpose"))));
                drop(notes);
            });
            coroutine.join()?;
            let destroyed = Some(AccessError::Destroyed);
            assert_eq!(*seen.borrow(), [(destroyed, destroyed, 5)]);
            assert_eq!(Rc::strong_count(&seen), 1);
            Ok(())
        });
    });
}

#[test]
fn a_value_may_be_held_over_a_wait_and_made_by_another() {
    machinarium::coroutine_local! {
        static BASE: Cell<u32> = { let _ = sleep(SHORT); Cell::new(2) };
        static TWICE: Cell<u32> = { TWICE.set(1); Cell::new(2) };
        static SQUARE: u32 = { yield_now(); BASE.get() * BASE.get() };
    }
    both(|| {
        in_a_machine(|| {
            let others: Vec<_> =
                (0..5).map(|_| spawn(|| SQUARE.with(|square| sleep(SHORT).map(|()| *square)))).collect();
            for other in others {
                assert_eq!(other.join()?, Ok(4));
            }
            assert_eq!((TWICE.get(), TWICE.get()), (1, 1), "there is one, which was made first");
            Ok(())
        });
    });
}

#[test]
fn outside_a_coroutine_there_is_no_value() {
    machinarium::machine_local! {
        static END: OnDrop = OnDrop(RefCell::new(None));
    }
    both(|| {
        assert_eq!(NUMBER.try_with(Cell::get), Err(AccessError::NoCoroutine));
        assert!(catch_unwind(AssertUnwindSafe(|| NUMBER.get())).is_err());
        let seen = Rc::new(Cell::new(None));
        let end = seen.clone();
        let result: io::Result<()> = run(move || {
            END.with(|on| on.set(move || end.set(Some(NUMBER.try_with(Cell::get)))));
            // Another machine's coroutine has its own as well.
            NUMBER.set(1);
            let other = machine::spawn("other", || NUMBER.get())?;
            assert_eq!(other.join()?, 5);
            Ok(())
        });
        result.unwrap();
        assert_eq!(seen.get(), Some(Err(AccessError::NoCoroutine)));
    });
}
