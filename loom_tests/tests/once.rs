//! A value delivered once: the getter gets it, and is told if it waits.
//!
//! `weaken` names for each model the line whose change makes it fail.

use loom::sync::Notify;
use loom::thread;
use loom_tests::check_all;
use loom_tests::once::{self, Getter, Taken, Waiter};
use loom_tests::primitive::{Arc, AtomicU64, Ordering};

/// A waiter that counts how often it is told.
#[derive(Clone)]
struct Bell(Arc<(Notify, AtomicU64)>);

impl Bell {
    fn new() -> Bell {
        Bell(Arc::new((Notify::new(), AtomicU64::new(0))))
    }

    fn rings(&self) -> u64 {
        self.0.1.load(Ordering::Relaxed)
    }
}

impl Waiter for Bell {
    fn ready(self) {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        self.0.0.notify();
    }
}

/// As a join does it: look, have oneself told, sleep, look again.
fn join(getter: &mut Getter<String, Bell>, bell: &Bell) -> Taken<String> {
    loop {
        match getter.take() {
            Taken::NotYet if getter.wait(bell.clone()) => bell.0.0.wait(),
            Taken::NotYet => {}
            there => return there,
        }
    }
}

/// The value arrives while the getter looks, registers or sleeps: it gets it, and was told at most once.
#[test]
fn a_value_meets_its_waiter() {
    check_all(|| {
        let (setter, mut getter) = once::pair();
        let thread = thread::spawn(move || setter.set("result".to_owned()));
        let bell = Bell::new();
        assert_eq!(join(&mut getter, &bell), Taken::Value("result".to_owned()));
        thread.join().unwrap();
        assert!(bell.rings() <= 1);
        assert_eq!(getter.take(), Taken::Never);
    });
}

/// The setter goes away without a value: whoever waits hears of it.
#[test]
fn a_dropped_setter_ends_the_wait() {
    check_all(|| {
        let (setter, mut getter) = once::pair();
        let thread = thread::spawn(move || drop(setter));
        assert_eq!(join(&mut getter, &Bell::new()), Taken::Never);
        thread.join().unwrap();
    });
}

/// The getter gives up (its deadline came) while the value arrives: it was told if and only if giving up came too late.
#[test]
fn giving_up_meets_the_value() {
    check_all(|| {
        let (setter, mut getter) = once::pair();
        let thread = thread::spawn(move || setter.set("result".to_owned()));
        let bell = Bell::new();
        let waited = getter.wait(bell.clone());
        let gave_up = getter.unwait();
        thread.join().unwrap();
        assert_eq!(bell.rings(), u64::from(waited && !gave_up));
        assert_eq!(getter.take(), Taken::Value("result".to_owned()));
    });
}

/// A second wait replaces the first while the value arrives: one of the two is told, or neither and the getter knows.
#[test]
fn waiting_again_meets_the_value() {
    check_all(|| {
        let (setter, mut getter) = once::pair();
        let thread = thread::spawn(move || setter.set("result".to_owned()));
        let (first, second) = (Bell::new(), Bell::new());
        let waits = (getter.wait(first.clone()), getter.wait(second.clone()));
        thread.join().unwrap();
        match waits {
            (false, false) => assert_eq!((first.rings(), second.rings()), (0, 0)),
            (true, true) => assert_eq!((first.rings(), second.rings()), (0, 1)),
            (true, false) => assert!(first.rings() <= 1 && second.rings() == 0),
            (false, true) => unreachable!("the value does not go away"),
        }
    });
}

/// The getter goes away while it waits: the setter neither fails nor leaks (loom counts what is dropped).
#[test]
fn a_dropped_getter_is_no_matter() {
    check_all(|| {
        let (setter, mut getter) = once::pair();
        let thread = thread::spawn(move || setter.set("result".to_owned()));
        let _ = getter.wait(Bell::new());
        drop(getter);
        thread.join().unwrap();
    });
}
