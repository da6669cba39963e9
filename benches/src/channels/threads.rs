//! Channels of threads: kanal, flume and crossbeam, on one thread and between two processors.

use std::time::Instant;

use super::{BURST, CROSS_TRIPS, MESSAGES};
use crate::case::Metric;
use crate::process::pin;
use crate::window::{per_operation, timed, timed_by_clock};

/// Who makes channels.
pub trait Channels {
    /// One without a bound.
    fn unbounded() -> (impl Sender, impl Receiver);
}

/// Sends.
pub trait Sender: Clone + Send + 'static {
    /// Whether somebody receives.
    fn send_one(&self, message: u64) -> bool;
}

/// Receives.
pub trait Receiver: Send + 'static {
    /// `None`: nobody sends any more.
    fn receive(&self) -> Option<u64>;
}

macro_rules! channels {
    ($name:ident, $krate:ident) => {
        pub struct $name;

        impl Channels for $name {
            fn unbounded() -> (impl Sender, impl Receiver) {
                $krate::unbounded()
            }
        }

        impl Sender for $krate::Sender<u64> {
            fn send_one(&self, message: u64) -> bool {
                self.send(message).is_ok()
            }
        }

        impl Receiver for $krate::Receiver<u64> {
            fn receive(&self) -> Option<u64> {
                self.recv().ok()
            }
        }
    };
}

channels!(Kanal, kanal);
channels!(Flume, flume);
channels!(Crossbeam, crossbeam_channel);

pub fn stream<C: Channels>() -> Vec<Metric> {
    pin(0);
    let (sender, receiver) = C::unbounded();
    timed(BURST, || {
        (0..BURST).for_each(|_| assert!(sender.send_one(1)));
        (0..BURST).for_each(|_| assert_eq!(receiver.receive(), Some(1)));
    })
}

pub fn ping_pong<C: Channels>() -> Vec<Metric> {
    let (there, requests) = C::unbounded();
    let (answers, here) = C::unbounded();
    let other = std::thread::spawn(move || {
        pin(1);
        while let Some(request) = requests.receive() {
            answers.send_one(request);
        }
    });
    pin(0);
    let result = timed_by_clock(CROSS_TRIPS, || {
        for _ in 0..CROSS_TRIPS {
            assert!(there.send_one(1));
            assert_eq!(here.receive(), Some(1));
        }
    });
    drop(there);
    other.join().expect("no panic");
    result
}

/// The senders are threads of one processor.
pub fn cross_stream<C: Channels>(producers: u64) -> Vec<Metric> {
    let (sender, receiver) = C::unbounded();
    let other = std::thread::spawn(move || {
        pin(1);
        std::iter::from_fn(|| receiver.receive()).sum::<u64>()
    });
    pin(0);
    let start = Instant::now();
    for _ in 0..producers {
        let sender = sender.clone();
        std::thread::spawn(move || (0..MESSAGES / producers).for_each(|_| assert!(sender.send_one(1))));
    }
    drop(sender);
    assert_eq!(other.join().ok(), Some(MESSAGES));
    per_operation(start.elapsed(), MESSAGES as f64)
}
