//! Threads, what they sleep on, clocks and chance.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{Clock, CpuSet, Errno, Kernel, ThreadOptions};

use crate::scene::Scene;

fn named(name: &str) -> ThreadOptions {
    ThreadOptions { name: name.to_owned(), ..ThreadOptions::default() }
}

/// A new thread is of the same process, and uses its descriptors.
pub(super) fn spawn(scene: &mut Scene) {
    let event = scene.eventfd(0);
    let (fd, process) = (scene.fd(event), scene.kernel.process());
    let same = Arc::new(AtomicU32::new(0));
    let told = same.clone();
    let main = move |kernel: Rc<dyn Kernel>| {
        told.store(u32::from(kernel.process() == process), SeqCst);
        kernel.write(fd, &5u64.to_ne_bytes()).expect("room");
    };
    let kernel = scene.kernel.clone();
    let thread = kernel.spawn(&named("worker"), Box::new(main)).expect("a thread");
    scene.say(format!("joined: {}", kernel.join(thread).is_ok()));
    scene.say(format!("the same process: {}", same.load(SeqCst)));
    scene.read(event, 8);
    let small = ThreadOptions { stack_size: Some(64 << 10), cpu: Some(0), ..ThreadOptions::default() };
    let thread = kernel.spawn(&small, Box::new(|_| ())).expect("a thread");
    scene.say(format!("joined: {}", kernel.join(thread).is_ok()));
}

/// The join of a thread waits for its end, and has what it panicked with.
pub(super) fn join(scene: &mut Scene) {
    let kernel = scene.kernel.clone();
    let done = Arc::new(AtomicU32::new(0));
    let told = done.clone();
    let slow = move |kernel: Rc<dyn Kernel>| {
        let _ = kernel.futex_wait(&AtomicU32::new(0), 0, Some(Duration::from_millis(2)));
        told.store(1, SeqCst);
    };
    let thread = kernel.spawn(&named("slow"), Box::new(slow)).expect("a thread");
    let end = kernel.join(thread);
    scene.say(format!("{}, after its last word: {}", end.is_ok(), done.load(SeqCst)));
    let fails = |_: Rc<dyn Kernel>| std::panic::resume_unwind(Box::new("on purpose"));
    let thread = kernel.spawn(&named("fails"), Box::new(fails)).expect("a thread");
    let end = kernel.join(thread).expect_err("it panics");
    scene.say(format!("panicked with {:?}", end.downcast_ref::<&str>()));
}

/// A thread that was detached goes on, whether it has ended by then or not, and uses what its process has.
pub(super) fn detach(scene: &mut Scene) {
    let kernel = scene.kernel.clone();
    let ended = Arc::new(AtomicU32::new(0));
    for early in [true, false] {
        let told = ended.clone();
        let main = move |_: Rc<dyn Kernel>| {
            told.fetch_add(1, SeqCst);
        };
        let before = ended.load(SeqCst);
        let thread = kernel.spawn(&named("detached"), Box::new(main)).expect("a thread");
        if early {
            kernel.detach(thread);
        }
        while ended.load(SeqCst) == before {
            let _ = kernel.futex_wait(&AtomicU32::new(0), 0, Some(Duration::from_millis(1)));
        }
        if !early {
            kernel.detach(thread);
        }
    }
    scene.say(format!("both went on: {}", ended.load(SeqCst)));
}

pub(super) fn futex_wait(scene: &mut Scene) {
    let kernel = scene.kernel.clone();
    let word = AtomicU32::new(3);
    scene.say(format!("{:?}", kernel.futex_wait(&word, 4, None)));
    scene.say(format!("{:?}", kernel.futex_wait(&word, 4, Some(Duration::ZERO))));
    scene.say(format!("{:?}", kernel.futex_wait(&word, 3, Some(Duration::ZERO))));
    let began = kernel.clock_gettime(Clock::Monotonic);
    scene.say(format!("{:?}", kernel.futex_wait(&word, 3, Some(Duration::from_millis(1)))));
    let slept = kernel.clock_gettime(Clock::Monotonic) - began;
    scene.say(format!("slept long enough: {}", slept >= Duration::from_millis(1)));
}

/// A wake answers how many it woke, and wakes those who wait for this word.
pub(super) fn futex_wake(scene: &mut Scene) {
    let kernel = scene.kernel.clone();
    let word = Arc::new(AtomicU32::new(0));
    scene.say(format!("nobody waits: {}", kernel.futex_wake(&word, 10)));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let word = word.clone();
            let main = move |kernel: Rc<dyn Kernel>| {
                while word.load(SeqCst) == 0 {
                    let answer = kernel.futex_wait(&word, 0, None);
                    assert!(matches!(answer, Ok(()) | Err(Errno::AGAIN | Errno::INTR)), "{answer:?}");
                }
            };
            kernel.spawn(&named("waits"), Box::new(main)).expect("a thread")
        })
        .collect();
    // One at a time, as long as the word says that they are to sleep on.
    let mut woken = 0;
    while woken < 3 {
        woken += kernel.futex_wake(&word, 1);
        scene.sleep(Duration::from_micros(100));
    }
    word.store(1, SeqCst);
    kernel.futex_wake(&word, u32::MAX);
    let ends = threads.into_iter().filter(|thread| kernel.join(*thread).is_ok()).count();
    scene.say(format!("{woken} wakes, {ends} ends"));
}

pub(super) fn clock_gettime(scene: &mut Scene) {
    let kernel = scene.kernel.clone();
    for clock in [Clock::Monotonic, Clock::Realtime] {
        let before = kernel.clock_gettime(clock);
        scene.sleep(Duration::from_millis(1));
        let passed = kernel.clock_gettime(clock) - before;
        scene.say(format!("{clock:?} went on: {}", passed >= Duration::from_millis(1)));
    }
    // 2020, in seconds of Unix time.
    let year = kernel.clock_gettime(Clock::Realtime).as_nanos() / 1_000_000_000 > 1_577_836_800;
    scene.say(format!("the wall clock shows a year of this century's: {year}"));
}

pub(super) fn getrandom(scene: &mut Scene) {
    let (mut one, mut two) = ([0; 256], [0; 256]);
    scene.kernel.getrandom(&mut one);
    scene.kernel.getrandom(&mut two);
    scene.say(format!("never the same: {}", one != two && one != [0; 256]));
    scene.kernel.getrandom(&mut []);
}

/// Two threads that yield to each other both go on.
pub(super) fn sched_yield(scene: &mut Scene) {
    let kernel = scene.kernel.clone();
    let turn = Arc::new(AtomicU32::new(0));
    let theirs = turn.clone();
    let main = move |kernel: Rc<dyn Kernel>| {
        for round in 0..10 {
            while theirs.load(SeqCst) != 2 * round + 1 {
                kernel.sched_yield();
            }
            theirs.fetch_add(1, SeqCst);
        }
    };
    let thread = kernel.spawn(&named("other"), Box::new(main)).expect("a thread");
    for round in 0..10 {
        while turn.load(SeqCst) != 2 * round {
            kernel.sched_yield();
        }
        turn.fetch_add(1, SeqCst);
    }
    scene.say(format!("joined: {}, turns: {}", kernel.join(thread).is_ok(), turn.load(SeqCst)));
}

pub(super) fn sched_getaffinity(scene: &mut Scene) {
    scene.say(format!("at least one: {}", !scene.kernel.sched_getaffinity().is_empty()));
}

/// A thread, and those that it spawns from then on, run where it says.
pub(super) fn sched_setaffinity(scene: &mut Scene) {
    let kernel = scene.kernel.clone();
    let all = kernel.sched_getaffinity();
    let last = CpuSet::EMPTY.with(all.iter().last().expect("a processor"));
    let thread = move |kernel: Rc<dyn Kernel>| {
        let bound = kernel.sched_setaffinity(&last);
        assert_eq!((bound, kernel.sched_getaffinity()), (Ok(()), last));
        let same = move |kernel: Rc<dyn Kernel>| assert_eq!(kernel.sched_getaffinity(), last);
        let child = kernel.spawn(&named("child"), Box::new(same)).expect("a thread");
        kernel.join(child).expect("it is bound as its parent");
        // Processors that are not there count for nothing, unless there are no others.
        assert_eq!(kernel.sched_setaffinity(&last.with(8_000)), Ok(()));
        assert_eq!(kernel.sched_getaffinity(), last);
        assert_eq!(kernel.sched_setaffinity(&CpuSet::EMPTY.with(8_000)), Err(Errno::INVAL));
        assert_eq!(kernel.sched_setaffinity(&CpuSet::EMPTY), Err(Errno::INVAL));
        assert_eq!(kernel.sched_getaffinity(), last);
    };
    let thread = kernel.spawn(&named("bound"), Box::new(thread)).expect("a thread");
    scene.say(format!("joined: {}", kernel.join(thread).is_ok()));
    scene.say(format!("its parent is as it was: {}", kernel.sched_getaffinity() == all));
    scene.bind_thread(&CpuSet::EMPTY);
    scene.bind_thread(&all);
    let options = ThreadOptions { cpu: all.iter().last(), ..ThreadOptions::default() };
    let bound = move |kernel: Rc<dyn Kernel>| assert_eq!(kernel.sched_getaffinity(), last);
    let thread = kernel.spawn(&options, Box::new(bound)).expect("a thread");
    scene.say(format!("joined: {}", kernel.join(thread).is_ok()));
}

pub(super) fn process(scene: &mut Scene) {
    scene.say(format!("always the same: {}", scene.kernel.process() == scene.kernel.process()));
}
