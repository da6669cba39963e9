//! This library's channels.

use std::time::{Duration, Instant};

use machinarium::sync::channel;
use machinarium::{Builder, spawn, yield_now};

use super::{BURST, CROSS_TRIPS, MESSAGES, TRIPS};
use crate::case::Metric;
use crate::process::pin;
use crate::window::{on_machine, per_operation, timed, timed_by_clock};

pub fn ping_pong() -> Vec<Metric> {
    on_machine(|| {
        let (there, requests) = channel::unbounded::<u64>();
        let (answers, here) = channel::unbounded();
        spawn(move || requests.iter().try_for_each(|request| answers.send(request)));
        timed(TRIPS, || {
            for _ in 0..TRIPS {
                there.send(1).expect("somebody receives");
                here.recv().expect("an answer");
            }
        })
    })
}

pub fn local_ping_pong() -> Vec<Metric> {
    on_machine(|| {
        let (there, requests) = channel::local::unbounded::<u64>();
        let (answers, here) = channel::local::unbounded();
        spawn(move || requests.iter().try_for_each(|request| answers.send(request)));
        timed(TRIPS, || {
            for _ in 0..TRIPS {
                there.send(1).expect("somebody receives");
                here.recv().expect("an answer");
            }
        })
    })
}

pub fn stream() -> Vec<Metric> {
    on_machine(|| {
        let (sender, receiver) = channel::unbounded::<u64>();
        spawn(move || receiver.iter().sum::<u64>());
        timed(BURST, || {
            (0..BURST).for_each(|_| sender.send(1).expect("somebody receives"));
            yield_now();
        })
    })
}

pub fn local_stream() -> Vec<Metric> {
    on_machine(|| {
        let (sender, receiver) = channel::local::unbounded::<u64>();
        spawn(move || receiver.iter().sum::<u64>());
        timed(BURST, || {
            (0..BURST).for_each(|_| sender.send(1).expect("somebody receives"));
            yield_now();
        })
    })
}

/// Each on a processor of its own. Those that spin may run on both, as a machine that has one to itself alone does not spin.
pub fn cross_ping_pong(spin: bool) -> Vec<Metric> {
    let machine = |processor| match spin {
        true => Builder::new().spin(Duration::from_micros(50)),
        false => Builder::new().affinity([processor]),
    };
    let run: std::io::Result<Vec<Metric>> = machine(0).run(|| {
        let (there, requests) = channel::unbounded::<u64>();
        let (answers, here) = channel::unbounded();
        let other =
            machine(1).spawn(move || requests.iter().try_for_each(|request| answers.send(request)))?;
        let result = timed_by_clock(CROSS_TRIPS, || {
            for _ in 0..CROSS_TRIPS {
                there.send(1).expect("somebody receives");
                here.recv().expect("an answer");
            }
        });
        drop(there);
        other.join()??;
        Ok(result)
    });
    run.expect("two machines")
}

/// The senders are coroutines of one machine.
pub fn cross_stream(producers: u64) -> Vec<Metric> {
    pin(0);
    let run: std::io::Result<Vec<Metric>> = machinarium::run(|| {
        let (sender, receiver) = channel::unbounded::<u64>();
        let other = Builder::new().affinity([1]).spawn(move || receiver.iter().sum::<u64>())?;
        let start = Instant::now();
        for _ in 0..producers {
            let sender = sender.clone();
            spawn(move || (0..MESSAGES / producers).try_for_each(|_| sender.send(1)));
        }
        drop(sender);
        assert_eq!(other.join()?, MESSAGES);
        Ok(per_operation(start.elapsed(), MESSAGES as f64))
    });
    run.expect("two machines")
}
