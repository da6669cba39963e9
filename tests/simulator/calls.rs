//! Calls made while a thread panics: served, and nobody else runs in between.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use machinarium::kernel::{Errno, Kernel, ThreadOptions};
use machinarium_sim::{Cpu, Durations, Faults, Simulation, with_kernel};

/// Calls its kernel when it is dropped.
struct Closing {
    kernel: Rc<dyn Kernel>,
    turns: Arc<AtomicU64>,
    canceled: Arc<AtomicU64>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let before = self.turns.load(SeqCst);
        for _ in 0..20 {
            self.kernel.sched_yield();
            let epoll = self.kernel.epoll_create1().expect("no fault hits a thread that panics");
            let slept = self.kernel.epoll_wait(epoll, &mut [Default::default()], Some(1.secs()));
            assert_eq!(slept, Err(Errno::CANCELED), "a thread that panics does not sleep");
            self.canceled.fetch_add(1, SeqCst);
            self.kernel.close(epoll).unwrap();
        }
        assert_eq!(self.turns.load(SeqCst), before, "nobody else runs while a thread panics");
    }
}

#[test]
fn a_call_while_panicking_comes_back_to_the_same_thread() {
    for seed in 1..20 {
        let simulation = Simulation::new(seed).cpu(Cpu::Starved).faults(Faults::swarm());
        let canceled = Arc::new(AtomicU64::new(0));
        let seen = canceled.clone();
        let simulation = simulation.faults(Faults::none());
        with_kernel(&simulation, move |kernel| {
            let (turns, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (counter, stopped) = (turns.clone(), stop.clone());
            let busy = move |kernel: Rc<dyn Kernel>| {
                while stopped.load(SeqCst) == 0 {
                    counter.fetch_add(1, SeqCst);
                    kernel.sched_yield();
                }
            };
            let busy = kernel.spawn(&ThreadOptions::default(), Box::new(busy)).unwrap();
            while turns.load(SeqCst) == 0 {
                kernel.sched_yield();
            }
            let closing = Closing { kernel: kernel.clone(), turns, canceled: canceled.clone() };
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _closing = closing;
                panic!("on purpose");
            }));
            assert!(panic.is_err());
            stop.store(1, SeqCst);
            kernel.join(busy).unwrap();
        });
        assert_eq!(seen.load(SeqCst), 20);
    }
}

#[test]
fn worlds_nest() {
    // A simulated thread may itself run a simulation: the inner world's own stack is then the thread's.
    let inner = with_kernel(&Simulation::new(1), |kernel| {
        let inner = with_kernel(&Simulation::new(2), |kernel| kernel.process());
        assert_eq!(kernel.process(), inner, "processes are numbered by their world");
        let fd = kernel.eventfd(0).unwrap();
        kernel.close(fd).unwrap();
        Cell::new(7)
    });
    assert_eq!(inner.get(), 7);
}
