//! tokio's channels: on the current-thread runtime, between two of them, and on two workers, which place tasks as they like.

use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;

use super::{BURST, CROSS_TRIPS, MESSAGES, TRIPS};
use crate::case::Metric;
use crate::process::pin;
use crate::window::{on_tokio, per_operation, timed_async, timed_async_by_clock};

pub fn ping_pong() -> Vec<Metric> {
    on_tokio(async {
        let (there, mut requests) = unbounded_channel::<u64>();
        let (answers, mut here) = unbounded_channel();
        tokio::task::spawn_local(async move {
            while let Some(request) = requests.recv().await {
                let _ = answers.send(request);
            }
        });
        tokio::task::spawn_local(async move {
            timed_async(TRIPS, async || {
                for _ in 0..TRIPS {
                    there.send(1).expect("somebody receives");
                    here.recv().await.expect("an answer");
                }
            })
            .await
        })
        .await
        .expect("no panic")
    })
}

pub fn stream() -> Vec<Metric> {
    on_tokio(async {
        let (sender, mut receiver) = unbounded_channel::<u64>();
        tokio::task::spawn_local(async move { while receiver.recv().await.is_some() {} });
        tokio::task::spawn_local(async move {
            timed_async(BURST, async || {
                (0..BURST).for_each(|_| sender.send(1).expect("somebody receives"));
                tokio::task::yield_now().await;
            })
            .await
        })
        .await
        .expect("no panic")
    })
}

pub fn cross_ping_pong() -> Vec<Metric> {
    let (there, mut requests) = unbounded_channel::<u64>();
    let (answers, mut here) = unbounded_channel();
    let other = std::thread::spawn(move || {
        pin(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async move {
            while let Some(request) = requests.recv().await {
                let _ = answers.send(request);
            }
        });
    });
    let result = on_tokio(async move {
        timed_async_by_clock(CROSS_TRIPS, async || {
            for _ in 0..CROSS_TRIPS {
                there.send(1).expect("somebody receives");
                here.recv().await.expect("an answer");
            }
        })
        .await
    });
    other.join().expect("no panic");
    result
}

pub fn workers_ping_pong() -> Vec<Metric> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let (there, mut requests) = unbounded_channel::<u64>();
    let (answers, mut here) = unbounded_channel();
    runtime.spawn(async move {
        while let Some(request) = requests.recv().await {
            let _ = answers.send(request);
        }
    });
    let timing = runtime.spawn(async move {
        let (start, trips) = (Instant::now(), 200_000);
        for _ in 0..trips {
            there.send(1).expect("somebody receives");
            here.recv().await.expect("an answer");
        }
        per_operation(start.elapsed(), trips.into())
    });
    runtime.block_on(timing).expect("no panic")
}

pub fn cross_stream(producers: u64) -> Vec<Metric> {
    let (sender, mut receiver) = unbounded_channel::<u64>();
    let other = std::thread::spawn(move || {
        pin(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async move {
            let mut sum = 0;
            while let Some(number) = receiver.recv().await {
                sum += number;
            }
            sum
        })
    });
    let start = Instant::now();
    on_tokio(async move {
        let all: Vec<_> = (0..producers)
            .map(|_| {
                let sender = sender.clone();
                tokio::task::spawn_local(async move {
                    for _ in 0..MESSAGES / producers {
                        sender.send(1).expect("somebody receives");
                    }
                })
            })
            .collect();
        for one in all {
            one.await.expect("no panic");
        }
    });
    assert_eq!(other.join().ok(), Some(MESSAGES));
    per_operation(start.elapsed(), MESSAGES as f64)
}
