//! Threads of a process: spawn, join, futexes, eventfds, and what the end of a process does to them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use machinarium::kernel::{Errno, Kernel, ThreadOptions};
use machinarium_sim::{Cpu, Durations, FailureKind, Faults, Outcome, Simulation, with_kernel};

use crate::raw::Program;

fn run_main(seed: u64, main: impl Fn(Rc<dyn Kernel>) + Send + Sync + 'static) -> Outcome {
    Simulation::new(seed).run(move |world| {
        let host = world.host("host").run_on_kernel(main);
        world.eventually(60.secs(), || host.finished());
    })
}

#[test]
fn threads_are_joined_with_what_they_panicked_with() {
    with_kernel(&Simulation::new(1), |kernel| {
        let good = kernel.spawn(&ThreadOptions::default(), Box::new(|_| ())).unwrap();
        let bad = kernel.spawn(&ThreadOptions::default(), Box::new(|_| panic!("on purpose"))).unwrap();
        assert!(kernel.join(good).is_ok());
        let payload = kernel.join(bad).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
    });
}

#[test]
fn a_panic_that_nobody_joins_fails_the_world() {
    let outcome = run_main(1, |kernel| {
        kernel.spawn(&ThreadOptions::default(), Box::new(|_| panic!("unseen"))).unwrap();
        let program = Program::new(kernel);
        program.wait(Some(1.secs()));
        program.close(program.epoll);
    });
    let failure = outcome.failure.expect("a lost panic");
    assert_eq!(failure.kind, FailureKind::Panic);
    assert!(failure.message.contains("unseen"), "{failure}");
}

#[test]
fn a_futex_wakes_whom_it_should() {
    for seed in 1..50 {
        let simulation = Simulation::new(seed).faults(Faults::none()).cpu(Cpu::Loaded);
        with_kernel(&simulation, |kernel| {
            let word = Arc::new(AtomicU32::new(0));
            let other = word.clone();
            let main = move |kernel: Rc<dyn Kernel>| {
                while other.load(SeqCst) == 0 {
                    let _ = kernel.futex_wait(&other, 0, None);
                }
            };
            let thread = kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap();
            word.store(1, SeqCst);
            kernel.futex_wake(&word, 1);
            kernel.join(thread).unwrap();
            assert_eq!(kernel.futex_wait(&word, 0, None), Err(Errno::AGAIN));
            assert_eq!(kernel.futex_wait(&word, 1, Some(5.millis())), Err(Errno::TIMEDOUT));
            assert_eq!(kernel.futex_wake(&word, 1), 0);
        });
    }
}

/// A counter that two threads read, yield, and write: increments are lost, or not, by the seed.
fn count_of_two(seed: u64) -> u64 {
    with_kernel(&Simulation::new(seed), |kernel| {
        let count = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let count = count.clone();
                let main = move |kernel: Rc<dyn Kernel>| {
                    let seen = count.load(SeqCst);
                    kernel.sched_yield();
                    count.store(seen + 1, SeqCst);
                };
                kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap()
            })
            .collect();
        threads.into_iter().for_each(|thread| kernel.join(thread).unwrap());
        count.load(SeqCst)
    })
}

#[test]
fn threads_interleave_in_more_than_one_way() {
    let counts: Vec<u64> = (1..60).map(count_of_two).collect();
    assert!(counts.contains(&1) && counts.contains(&2), "{counts:?}");
}

#[test]
fn a_shared_eventfd_wakes_another_thread() {
    for seed in 1..30 {
        with_kernel(&Simulation::new(seed), |kernel| {
            let program = Program::new(kernel);
            let wake = program.kernel.share(program.kernel.eventfd(0).unwrap());
            program.watch(wake.fd());
            program.wait(None); // writable
            let remote = wake.clone();
            let main = move |_: Rc<dyn Kernel>| remote.wake().unwrap();
            let thread = program.kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap();
            assert_eq!(program.wait(None), 1);
            program.kernel.join(thread).unwrap();
            program.close(program.epoll);
            drop(wake);
        });
    }
}

#[test]
fn a_foreign_thread_panics_with_its_name() {
    let message = with_kernel(&Simulation::new(1), |kernel| {
        let wake = kernel.share(kernel.eventfd(0).unwrap());
        let remote = wake.clone();
        #[allow(clippy::disallowed_methods)] // what must not be done is what is tried
        let thread = std::thread::Builder::new().name("stranger".to_owned()).spawn(move || {
            let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| remote.wake()));
            std::mem::forget(remote);
            end.unwrap_err().downcast_ref::<String>().cloned().unwrap()
        });
        let message = thread.unwrap().join().unwrap();
        kernel.close(wake.release()).unwrap();
        message
    });
    assert!(message.contains("'stranger' is no part of the simulation"), "{message}");
}

thread_local! {
    static HIDDEN: RefCell<Option<Rc<dyn Kernel>>> = const { RefCell::new(None) };
}

#[test]
fn a_kernel_parked_in_a_thread_local_answers_nobody_else() {
    with_kernel(&Simulation::new(1), |kernel| {
        HIDDEN.set(Some(kernel.clone()));
        let main = |own: Rc<dyn Kernel>| {
            let hidden = HIDDEN.take().expect("all threads of a world are one OS thread");
            assert_eq!(hidden.epoll_create1(), Err(Errno::CANCELED));
            assert!(own.epoll_create1().and_then(|fd| own.close(fd)).is_ok());
            HIDDEN.set(Some(hidden));
        };
        let thread = kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap();
        kernel.join(thread).unwrap();
    });
    let hidden = HIDDEN.take().unwrap();
    assert_eq!(hidden.epoll_create1(), Err(Errno::CANCELED), "its world is over");
    hidden.sched_yield();
}

#[test]
fn the_end_of_a_process_ends_its_threads() {
    let outcome = run_main(1, |kernel| {
        let main = |kernel: Rc<dyn Kernel>| {
            let program = Program::new(kernel);
            let canceled = program.kernel.epoll_wait(program.epoll, &mut [Default::default()], None);
            assert_eq!(canceled, Err(Errno::CANCELED), "woken only to be reclaimed");
        };
        kernel.spawn(&ThreadOptions::default(), Box::new(main)).unwrap();
        let program = Program::new(kernel);
        program.wait(Some(10.millis()));
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    assert!(outcome.leaked.is_empty());
}

#[test]
fn descriptors_left_open_are_told() {
    let outcome = run_main(1, |kernel| {
        kernel.epoll_create1().unwrap();
    });
    let failure = outcome.failure.expect("a leak");
    assert_eq!(failure.kind, FailureKind::Leak);
    assert!(failure.message.contains("epoll"), "{failure}");
}
