//! Thread-locals are a simulated thread's own, and the seeds of `HashMap`s with them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use machinarium::kernel::ThreadOptions;
use machinarium_sim::{Durations, Simulation};

/// The order of a map with so many keys, in one word.
fn order() -> u64 {
    let map: HashMap<u64, ()> = (0..100).map(|key| (key, ())).collect();
    map.into_keys().fold(0, |word, key| word.wrapping_mul(101).wrapping_add(key))
}

/// The orders of two maps of a process, in a run of this seed.
fn orders(seed: u64) -> (u64, u64) {
    machinarium_sim::with_kernel(&Simulation::new(seed), |_| (order(), order()))
}

#[test]
fn the_order_of_a_map_is_of_the_seed() {
    let _ = order(); // std has drawn a seed for this OS thread
    let (first, second) = orders(5);
    assert_ne!(first, second, "each map has another order");
    assert_eq!(orders(5), (first, second));
    assert_ne!(orders(6), (first, second));
    assert_ne!(order(), first, "and outside of a world, none");
}

#[test]
fn maps_of_the_script_are_of_the_seed_too() {
    let of_script = |seed| {
        let place = std::rc::Rc::new(Cell::new(0));
        let kept = place.clone();
        assert!(Simulation::new(seed).run(move |_| kept.set(order())).passed());
        place.get()
    };
    assert_eq!(of_script(5), of_script(5));
    assert_ne!(of_script(5), of_script(6));
}

#[test]
#[ignore = "prints what the test below compares"]
fn prints_orders() {
    println!("<{:?}>", orders(5));
}

#[test]
fn another_process_has_the_same_orders() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["locals::prints_orders", "--exact", "--include-ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(text.contains(&format!("<{:?}>", orders(5))), "{text}");
}

thread_local! {
    static EASY: Cell<u32> = const { Cell::new(7) };
    static LAZY: RefCell<Vec<Dropped>> = RefCell::default();
    static EAGER: RefCell<Vec<Dropped>> = const { RefCell::new(Vec::new()) };
}

static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Dropped(#[allow(dead_code)] Box<u32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, SeqCst);
    }
}

fn used() -> u32 {
    LAZY.with_borrow_mut(|lazy| lazy.push(Dropped(Box::new(1))));
    EAGER.with_borrow_mut(|eager| eager.push(Dropped(Box::new(2))));
    EASY.replace(EASY.get() + 1)
}

#[test]
fn a_simulated_thread_has_its_own_and_destroys_them() {
    for _ in 0..3 {
        used();
    }
    let mine = EASY.get();
    let dropped = DROPPED.load(SeqCst);
    for seed in 1..4 {
        machinarium_sim::with_kernel(&Simulation::new(seed), |kernel| {
            assert_eq!(used(), 7, "as a new thread has it");
            let other = |_: std::rc::Rc<dyn machinarium::kernel::Kernel>| {
                assert_eq!(used(), 7);
                assert_eq!(LAZY.with_borrow(Vec::len), 1);
            };
            let thread = kernel.spawn(&ThreadOptions::default(), Box::new(other)).unwrap();
            assert_eq!(used(), 8, "the other thread has its own");
            kernel.join(thread).unwrap();
            assert_eq!(EAGER.with_borrow(Vec::len), 2);
        });
    }
    assert_eq!(DROPPED.load(SeqCst) - dropped, 3 * 6, "each once, when its thread has ended");
    assert_eq!(EASY.get(), mine);
    assert_eq!((LAZY.with_borrow(Vec::len), EAGER.with_borrow(Vec::len)), (3, 3));
}

#[test]
fn who_is_killed_destroys_nothing() {
    let alive = Arc::new(AtomicU32::new(0));
    let held = alive.clone();
    thread_local! {
        static HELD: RefCell<Option<Arc<AtomicU32>>> = const { RefCell::new(None) };
    }
    let outcome = Simulation::new(1).run(move |world| {
        let host = world.host("victim").run(move || {
            HELD.set(Some(held.clone()));
            std::thread::sleep(1000.secs());
        });
        world.sleep(1.secs());
        host.crash();
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(Arc::strong_count(&alive) >= 1 && HELD.with_borrow(Option::is_none));
}

#[test]
fn threads_of_std_are_told_apart() {
    machinarium_sim::with_kernel(&Simulation::new(1), |kernel| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = move |_: std::rc::Rc<dyn machinarium::kernel::Kernel>| {
            sender.send(std::thread::current().id()).unwrap();
        };
        let thread = kernel.spawn(&ThreadOptions::default(), Box::new(other)).unwrap();
        assert_ne!(receiver.recv().unwrap(), std::thread::current().id());
        kernel.join(thread).unwrap();
    });
}
