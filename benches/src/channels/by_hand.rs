//! The limits: what is left when everything that makes a channel is left out.

use std::collections::VecDeque;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use super::{BURST, CROSS_TRIPS, MESSAGES, TRIPS};
use crate::case::Metric;
use crate::echo::epoll::Epoll;
use crate::process::pin;
use crate::window::{per_operation, timed, timed_by_clock};

/// corosensei: there and back.
pub fn two_switches() -> Vec<Metric> {
    pin(0);
    let stack = DefaultStack::new(64 << 10).expect("a stack");
    let mut other = Coroutine::<u64, u64, (), _>::with_stack(stack, |yielder, mut request| {
        loop {
            request = yielder.suspend(request);
        }
    });
    let result = timed(TRIPS, || {
        for _ in 0..TRIPS {
            assert!(matches!(other.resume(1), CoroutineResult::Yield(1)));
        }
    });
    // It has nothing to drop, and to unwind it takes a panic.
    std::mem::forget(other);
    result
}

pub fn queue() -> Vec<Metric> {
    pin(0);
    let mut queue = VecDeque::new();
    timed(BURST, || {
        (0..BURST).for_each(|_| queue.push_back(black_box(1_u64)));
        (0..BURST).for_each(|_| assert_eq!(queue.pop_front(), Some(1)));
    })
}

/// A number on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// Two threads that look at each other's line all the time.
pub fn cache_line() -> Vec<Metric> {
    let lines = Arc::new([Line::default(), Line::default()]);
    let theirs = lines.clone();
    thread::spawn(move || {
        pin(1);
        for trip in 1.. {
            while theirs[0].0.load(Ordering::Acquire) < trip {
                spin_loop();
            }
            theirs[1].0.store(trip, Ordering::Release);
        }
    });
    pin(0);
    let mut trip = 0;
    timed_by_clock(TRIPS, || {
        for _ in 0..TRIPS {
            trip += 1;
            lines[0].0.store(trip, Ordering::Release);
            while lines[1].0.load(Ordering::Acquire) < trip {
                spin_loop();
            }
        }
    })
}

/// Two threads that sleep in epoll, each until the other has written its eventfd.
pub fn eventfds() -> Vec<Metric> {
    let (mine, theirs) = (eventfd(), eventfd());
    thread::spawn(move || {
        pin(1);
        let waiting = Waiting::new(theirs);
        loop {
            waiting.wait();
            add(mine);
        }
    });
    pin(0);
    let waiting = Waiting::new(mine);
    timed_by_clock(CROSS_TRIPS, || {
        for _ in 0..CROSS_TRIPS {
            add(theirs);
            waiting.wait();
        }
    })
}

struct Waiting(Epoll);

impl Waiting {
    fn new(fd: i32) -> Waiting {
        let epoll = Epoll::new().expect("an epoll instance");
        // Edge-triggered, so nobody reads it.
        epoll.add(fd, 0, libc::EPOLLIN | libc::EPOLLET).expect("an eventfd");
        Waiting(epoll)
    }

    fn wait(&self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 1];
        while self.0.wait(&mut events).expect("an epoll instance").is_empty() {}
    }
}

fn eventfd() -> i32 {
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    assert!(fd >= 0, "an eventfd");
    fd
}

fn add(fd: i32) {
    let one = 1_u64;
    // SAFETY: reads eight bytes.
    let written = unsafe { libc::write(fd, (&raw const one).cast(), 8) };
    assert_eq!(written, 8);
}

const PLACES: u64 = 1024;

/// A ring of one producer and one consumer; each remembers where it has last seen the other.
struct Ring {
    head: Line,
    tail: Line,
    places: [AtomicU64; PLACES as usize],
}

pub fn ring() -> Vec<Metric> {
    let ring = Arc::new(Ring {
        head: Line::default(),
        tail: Line::default(),
        places: std::array::from_fn(|_| AtomicU64::new(0)),
    });
    let theirs = ring.clone();
    let other = thread::spawn(move || {
        pin(1);
        consume(&theirs)
    });
    pin(0);
    let start = Instant::now();
    let mut head = 0;
    for tail in 0..MESSAGES {
        while tail - head == PLACES {
            head = ring.head.0.load(Ordering::Acquire);
        }
        ring.places[(tail % PLACES) as usize].store(1, Ordering::Relaxed);
        ring.tail.0.store(tail + 1, Ordering::Release);
    }
    assert_eq!(other.join().ok(), Some(MESSAGES));
    per_operation(start.elapsed(), MESSAGES as f64)
}

fn consume(ring: &Ring) -> u64 {
    let (mut sum, mut tail) = (0, 0);
    for head in 0..MESSAGES {
        while tail == head {
            tail = ring.tail.0.load(Ordering::Acquire);
        }
        sum += ring.places[(head % PLACES) as usize].load(Ordering::Relaxed);
        ring.head.0.store(head + 1, Ordering::Release);
    }
    sum
}
