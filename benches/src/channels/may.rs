//! may's channels. It places coroutines as it likes, so that those on two threads need not meet between processors.

use std::time::Instant;

use may::coroutine::yield_now;
use may::sync::mpsc::channel;

use super::{BURST, MESSAGES, TRIPS};
use crate::case::Metric;
use crate::window::{on_may, per_operation, timed, timed_by_clock};

pub fn ping_pong(threads: usize) -> Vec<Metric> {
    on_may(threads, move || {
        let (there, requests) = channel::<u64>();
        let (answers, here) = channel();
        may::go!(move || requests.iter().try_for_each(|request| answers.send(request)));
        let trips = || {
            for _ in 0..TRIPS {
                there.send(1).expect("somebody receives");
                here.recv().expect("an answer");
            }
        };
        if threads == 1 { timed(TRIPS, trips) } else { timed_by_clock(TRIPS, trips) }
    })
}

pub fn stream() -> Vec<Metric> {
    on_may(1, || {
        let (sender, receiver) = channel::<u64>();
        may::go!(move || receiver.iter().sum::<u64>());
        timed(BURST, || {
            (0..BURST).for_each(|_| sender.send(1).expect("somebody receives"));
            yield_now();
        })
    })
}

pub fn cross_stream(producers: u64) -> Vec<Metric> {
    on_may(2, move || {
        let (sender, receiver) = channel::<u64>();
        let start = Instant::now();
        let other = may::go!(move || receiver.iter().sum::<u64>());
        for _ in 0..producers {
            let sender = sender.clone();
            may::go!(move || (0..MESSAGES / producers).try_for_each(|_| sender.send(1)));
        }
        drop(sender);
        assert_eq!(other.join().ok(), Some(MESSAGES));
        per_operation(start.elapsed(), MESSAGES as f64)
    })
}
