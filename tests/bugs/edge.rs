//! M1. A writer whose socket is full waits to be told of room. The poller tells only those who wait already, and the kernel tells the poller
//! once: the wrong writer tries first and says only then that it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use machinarium::kernel::{EpollEvent, EpollOp, Events, Fd, Kernel, SocketKind, SocketOption};
use machinarium::shared::primitive::point;
use machinarium_sim::World;

use crate::place::{Dice, bare, events, pause, receive, send, thread};
use crate::table::Twin;

const BYTES: usize = 60_000;
/// What the poller is told of by the two descriptors that it watches.
const ROOM: u64 = 1;
const END: u64 = 2;

/// Whether somebody waits to be told.
struct Readiness(AtomicU32);

impl Readiness {
    /// Nobody who waits: nobody is told.
    fn tell(&self, kernel: &dyn Kernel) {
        point();
        if self.0.swap(0, SeqCst) == 1 {
            kernel.futex_wake(&self.0, 1);
        }
    }

    fn wait(&self, kernel: &dyn Kernel) {
        while self.0.load(SeqCst) == 1 {
            let _ = kernel.futex_wait(&self.0, 1, None);
        }
    }
}

pub(crate) fn script(world: &World, twin: Twin) {
    bare(world, move |kernel, dice| program(&*kernel, &dice, twin));
}

fn program(kernel: &dyn Kernel, dice: &Dice, twin: Twin) {
    let (ours, theirs) = kernel.socketpair(SocketKind::Stream).unwrap();
    kernel.setsockopt(ours, SocketOption::SendBuffer(4_608)).unwrap();
    let (epoll, end) = (kernel.epoll_create1().unwrap(), kernel.eventfd(0).unwrap());
    let watch = |fd, events, data| {
        kernel.epoll_ctl(epoll, EpollOp::Add(EpollEvent { events, data }), fd).unwrap();
    };
    watch(ours, Events::OUT.with(Events::ET), ROOM);
    watch(end, Events::IN, END);
    let readiness = Arc::new(Readiness(AtomicU32::new(0)));
    let told = readiness.clone();
    let poller = thread(kernel, move |kernel| poll(&*kernel, epoll, &told));
    let dice = dice.another();
    let reader = thread(kernel, move |kernel| read(&*kernel, theirs, &dice));
    write(kernel, ours, &readiness, twin);
    kernel.write(end, &1_u64.to_ne_bytes()).unwrap();
    kernel.join(poller).unwrap();
    kernel.join(reader).unwrap();
    [ours, theirs, epoll, end].into_iter().for_each(|fd| kernel.close(fd).unwrap());
}

fn poll(kernel: &dyn Kernel, epoll: Fd, readiness: &Readiness) {
    loop {
        for event in events(kernel, epoll) {
            match event.data {
                END => return,
                _ => readiness.tell(kernel),
            }
        }
    }
}

fn read(kernel: &dyn Kernel, fd: Fd, dice: &Dice) {
    let epoll = kernel.epoll_create1().unwrap();
    kernel.epoll_ctl(epoll, EpollOp::Add(EpollEvent { events: Events::IN, data: 0 }), fd).unwrap();
    let mut left = BYTES;
    while left > 0 {
        events(kernel, epoll);
        left -= receive(kernel, fd).map_or(0, |bytes| bytes.len());
        pause(kernel, dice.micros(5));
    }
    kernel.close(epoll).unwrap();
}

fn write(kernel: &dyn Kernel, fd: Fd, readiness: &Readiness, twin: Twin) {
    let mut left = BYTES;
    while left > 0 {
        if !twin.is_wrong() {
            readiness.0.store(1, SeqCst);
        }
        if let Some(count) = send(kernel, fd, &vec![7; left.min(2_000)]) {
            left -= count;
            continue;
        }
        if twin.is_wrong() {
            kernel.sched_yield();
            readiness.0.store(1, SeqCst);
        }
        readiness.wait(kernel);
    }
}
