//! Destructors of users' values wherever the library runs them: they may wait, start coroutines, panic, and meet their own
//! handle again.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::both;
use crate::tcp::pair;
use machinarium::net::TcpStream;
use machinarium::{Builder, JoinError, JoinHandle, Misuse, machine, run, scope, sleep, spawn, yield_now};

const LONG: Duration = Duration::from_secs(600);

/// Counts its drops, by one each.
struct Counted(Rc<Cell<u32>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A result that holds, by a detour, the handle through which it would be taken.
struct Knot {
    _counted: Counted,
    handle: Rc<RefCell<Option<JoinHandle<Knot>>>>,
}

#[test]
fn a_result_that_holds_its_own_handle_is_dropped_once() {
    both(|| {
        let drops = Rc::new(Cell::new(0));
        let count = drops.clone();
        let result: io::Result<()> = run(move || {
            let place = Rc::new(RefCell::new(None));
            let theirs = place.clone();
            let handle = spawn(move || Knot { _counted: Counted(count), handle: theirs });
            *place.borrow_mut() = Some(handle);
            yield_now();
            assert!(place.borrow().as_ref().is_some_and(JoinHandle::is_finished));
            Ok(())
        });
        result.unwrap();
        assert_eq!(drops.get(), 1);
    });
}

impl Knot {
    /// So that the field is read.
    fn is_tied(&self) -> bool {
        self.handle.borrow().is_some()
    }
}

#[test]
fn a_joined_result_may_hold_its_own_handle_place() {
    both(|| {
        let result: io::Result<()> = run(|| {
            let (drops, place) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
            let (count, theirs) = (drops.clone(), place.clone());
            *place.borrow_mut() = Some(spawn(move || Knot { _counted: Counted(count), handle: theirs }));
            let handle = place.borrow_mut().take().unwrap();
            let knot = handle.join().unwrap();
            assert!(!knot.is_tied());
            drop(knot);
            assert_eq!(drops.get(), 1);
            Ok(())
        });
        result.unwrap();
    });
}

/// Runs its closure when dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Nobody joins; each result waits while it is dropped, for a while or until the machine ends.
#[test]
fn an_unjoined_result_may_wait_while_it_is_dropped() {
    both(|| {
        let waited = Rc::new(Cell::new((0, 0)));
        let count = waited.clone();
        let result: io::Result<()> = run(move || {
            for number in 0..20 {
                let count = count.clone();
                spawn(move || {
                    OnDrop(move || {
                        let span = if number % 2 == 0 { Duration::from_micros(50) } else { LONG };
                        let slept = sleep(span).is_ok();
                        let (ok, failed) = count.get();
                        count.set(if slept { (ok + 1, failed) } else { (ok, failed + 1) });
                    })
                });
            }
            sleep(Duration::from_millis(50))?;
            assert_eq!(count.get(), (10, 0));
            Ok(())
        });
        result.unwrap();
        assert_eq!(waited.get(), (10, 10));
    });
}

/// The same, where the machine ends while they wait and cannot be moved by a cancellation.
#[test]
fn an_unjoined_result_that_waits_for_ever_is_unwound() {
    both(|| {
        let ended = Rc::new(Cell::new(0));
        let count = ended.clone();
        let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
            for _ in 0..10 {
                let counted = Counted(count.clone());
                spawn(move || {
                    OnDrop(move || {
                        let _counted = &counted;
                        let _ = machinarium::shield(|| sleep(LONG));
                    })
                });
            }
            sleep(Duration::from_micros(50))?;
            Ok(())
        });
        result.unwrap();
        assert_eq!(ended.get(), 10);
    });
}

/// A panic whose payload panics too when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a payload's destructor, on purpose");
    }
}

/// Panics when dropped, with that payload.
struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        std::panic::panic_any(Bomb);
    }
}

/// The main coroutine stands in a frame that lends to what outlives it if the machine's loop is left by a panic.
#[test]
fn a_panicking_destructor_of_an_unjoined_result_harms_nobody() {
    both(|| {
        let drops = Rc::new(Cell::new(0));
        let count = drops.clone();
        let result: io::Result<u8> = run(move || {
            let _counted = Counted(count.clone());
            let handles: Vec<_> = (0..3).map(|_| spawn(|| Mine)).collect();
            drop(spawn(|| Mine));
            yield_now();
            drop(handles);
            let counted = Counted(count.clone());
            let last = spawn(move || {
                let _counted = counted;
                sleep(Duration::from_micros(10))
            });
            last.join().unwrap()?;
            // Nobody joins these; the first is a result in the thread's storage, the others are dropped at the end.
            (0..3).for_each(|_| std::mem::drop(spawn(|| Mine)));
            Ok(7)
        });
        assert_eq!(result.unwrap(), 7);
        assert_eq!(drops.get(), 2);
    });
}

#[test]
fn a_panicking_destructor_of_a_letter_that_cannot_be_run_harms_nobody() {
    both(|| {
        let result: io::Result<u8> = Builder::new().stack_limit(1).run(|| {
            let (here, mine) = (machine::current()?, Mine);
            let letter = here.spawn(move || {
                let _mine = mine;
            })?;
            assert!(matches!(letter.join(), Err(JoinError::Unwound)));
            // Never opened: the machine ends first.
            let mine = Mine;
            here.spawn(move || {
                let _mine = mine;
            })?;
            Ok(7)
        });
        assert_eq!(result.unwrap(), 7);
    });
}

/// What a machine keeps for its coroutines is dropped when they have all ended, and may start another.
#[test]
fn coroutines_started_by_the_last_destructors_are_dropped_too() {
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    struct Starter(&'static str);
    impl Drop for Starter {
        fn drop(&mut self) {
            struct Flag;
            impl Drop for Flag {
                fn drop(&mut self) {
                    DROPPED.fetch_add(1, Ordering::SeqCst);
                }
            }
            let flag = Flag;
            drop(spawn(move || drop(flag)));
            assert_ne!(self.0, "panics", "on purpose");
        }
    }
    thread_local!(static LEFT: Cell<Option<JoinHandle<Starter>>> = const { Cell::new(None) });
    machinarium::machine_local! {
        static FIRST: Starter = Starter("starts");
        static SECOND: Starter = Starter("panics");
        static THIRD: Starter = Starter("starts");
    }
    both(|| {
        DROPPED.store(0, Ordering::SeqCst);
        let result: io::Result<()> = Builder::new().teardown(LONG).run(|| {
            FIRST.with(|_| ());
            SECOND.with(|_| ());
            THIRD.with(|_| ());
            // Its result is dropped when the machine ends.
            LEFT.set(Some(spawn(|| Starter("starts"))));
            yield_now();
            Ok(())
        });
        result.unwrap();
        LEFT.take();
        assert_eq!(DROPPED.load(Ordering::SeqCst), 4);
    });
}

/// A destructor that runs in an unwinding must not switch, not even to wait for children.
#[test]
fn a_scope_in_an_unwinding_starts_nobody() {
    static SEEN: AtomicBool = AtomicBool::new(false);
    struct Scoped(Rc<Cell<bool>>);
    impl Drop for Scoped {
        fn drop(&mut self) {
            let quiet = scope(|scope| {
                let child = scope.try_spawn("child", || ());
                SEEN.store(child.is_err(), Ordering::SeqCst);
                matches!(child, Err(machinarium::SpawnError::Misuse(Misuse::Unwinding)))
            });
            self.0.set(quiet);
        }
    }
    both(|| {
        let result: io::Result<()> = run(|| {
            let (refused, stranger) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
            let (scoped, saw) = (Scoped(refused.clone()), stranger.clone());
            let unwinding = spawn(move || {
                let _scoped = scoped;
                panic!("on purpose");
            });
            let other = spawn(move || {
                saw.set(std::thread::panicking());
                sleep(Duration::from_micros(10))
            });
            assert!(unwinding.join().is_err());
            other.join().unwrap()?;
            assert!(refused.get(), "its children are refused");
            assert!(!stranger.get(), "nobody else runs meanwhile");
            Ok(())
        });
        result.unwrap();
        assert!(SEEN.load(Ordering::SeqCst));
    });
}

/// A budget that ends while a destructor unwinds is not mistaken for one that has just begun.
#[test]
fn a_budget_that_ends_in_an_unwinding_ends() {
    both(|| {
        let result: io::Result<()> = Builder::new().budget(1).run(|| {
            let (client, server) = pair()?;
            let turns = Rc::new(Cell::new(0));
            let count = turns.clone();
            let other = spawn(move || {
                while count.get() >= 0 {
                    count.set(count.get() + 1);
                    yield_now();
                }
            });
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _writes = OnDrop(|| (0..3).for_each(|_| client.write_all(b"x").unwrap()));
                panic!("on purpose");
            }));
            assert!(caught.is_err());
            turns.set(0);
            (0..50).for_each(|_| client.write_all(b"x").unwrap());
            assert!(turns.replace(-1) > 10, "a writer that never waits holds the machine");
            drop(server);
            other.join().unwrap();
            Ok(())
        });
        result.unwrap();
    });
}

/// The stream leaves its machine, and is dropped when that has ended: what it kept of the machine goes too.
#[test]
fn a_stream_that_outlives_its_machine_leaves_nothing() {
    both(|| {
        for round in 0..3 {
            let stream: io::Result<TcpStream> = run(|| Ok(pair()?.0));
            let stream = stream.unwrap();
            assert!(stream.write_all(b"x").is_err());
            if round == 1 {
                assert!(stream.detach().is_err());
            }
        }
    });
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for _ in 0..50 {
        let stream: io::Result<TcpStream> = run(|| Ok(pair()?.0));
        drop(stream.unwrap());
    }
    // Other tests of this process open and close some meanwhile.
    assert!(open() < before + 40, "{} descriptors, {before} before", open());
}
