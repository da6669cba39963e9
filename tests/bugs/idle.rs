//! M15. A loop sleeps until its next timer. It is told to end by a flag that it looks at whenever it is awake; the wrong caller does not wake it, and
//! a loop without timers never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{Clock, EpollEvent, EpollOp, Errno, Events, Fd, Kernel};
use machinarium_sim::World;

use crate::place::{bare, pause, thread};
use crate::table::Twin;

pub(crate) fn script(world: &World, twin: Twin) {
    bare(world, move |kernel, dice| {
        let stopped = Arc::new(AtomicBool::new(false));
        let (epoll, wake) = (kernel.epoll_create1().unwrap(), kernel.eventfd(0).unwrap());
        let event = EpollEvent { events: Events::IN, data: 0 };
        kernel.epoll_ctl(epoll, EpollOp::Add(event), wake).unwrap();
        let timers = (0..4).map(|_| dice.micros(100)).collect();
        let stop = stopped.clone();
        let machine = thread(&*kernel, move |kernel| turn(&*kernel, epoll, timers, &stop));
        pause(&*kernel, dice.micros(150));
        stopped.store(true, SeqCst);
        if !twin.is_wrong() {
            kernel.write(wake, &1_u64.to_ne_bytes()).unwrap();
        }
        kernel.join(machine).unwrap();
        [epoll, wake].into_iter().for_each(|fd| kernel.close(fd).unwrap());
    });
}

/// The loop: sleeps until the next of its timers, if it has any.
fn turn(kernel: &dyn Kernel, epoll: Fd, mut timers: Vec<Duration>, stopped: &AtomicBool) {
    let begun = kernel.clock_gettime(Clock::Monotonic);
    while !stopped.load(SeqCst) {
        let passed = kernel.clock_gettime(Clock::Monotonic) - begun;
        timers.retain(|timer| *timer > passed);
        let next = timers.iter().min().map(|timer| *timer - passed);
        match kernel.epoll_wait(epoll, &mut [EpollEvent::default()], next) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
