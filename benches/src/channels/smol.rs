//! smol's channels, between tasks of one thread and of two.

use std::time::Instant;

use smol::channel::unbounded;

use super::{BURST, CROSS_TRIPS, MESSAGES, TRIPS};
use crate::case::Metric;
use crate::process::pin;
use crate::window::{on_smol, per_operation, timed_async, timed_async_by_clock};

pub fn ping_pong() -> Vec<Metric> {
    on_smol(async |executor| {
        let (there, requests) = unbounded::<u64>();
        let (answers, here) = unbounded();
        let answering = async move {
            while let Ok(request) = requests.recv().await {
                let _ = answers.send(request).await;
            }
        };
        executor.spawn(answering).detach();
        let timing = async move {
            timed_async(TRIPS, async || {
                for _ in 0..TRIPS {
                    there.send(1).await.expect("somebody receives");
                    here.recv().await.expect("an answer");
                }
            })
            .await
        };
        executor.spawn(timing).await
    })
}

pub fn stream() -> Vec<Metric> {
    on_smol(async |executor| {
        let (sender, receiver) = unbounded::<u64>();
        executor.spawn(async move { while receiver.recv().await.is_ok() {} }).detach();
        let timing = async move {
            timed_async(BURST, async || {
                for _ in 0..BURST {
                    sender.send(1).await.expect("somebody receives");
                }
                smol::future::yield_now().await;
            })
            .await
        };
        executor.spawn(timing).await
    })
}

pub fn cross_ping_pong() -> Vec<Metric> {
    let (there, requests) = unbounded::<u64>();
    let (answers, here) = unbounded();
    let other = std::thread::spawn(move || {
        pin(1);
        smol::block_on(async move {
            while let Ok(request) = requests.recv().await {
                let _ = answers.send(request).await;
            }
        });
    });
    let result = on_smol(async move |_| {
        timed_async_by_clock(CROSS_TRIPS, async || {
            for _ in 0..CROSS_TRIPS {
                there.send(1).await.expect("somebody receives");
                here.recv().await.expect("an answer");
            }
        })
        .await
    });
    other.join().expect("no panic");
    result
}

pub fn cross_stream(producers: u64) -> Vec<Metric> {
    let (sender, receiver) = unbounded::<u64>();
    let other = std::thread::spawn(move || {
        pin(1);
        smol::block_on(async move {
            let mut sum = 0;
            while let Ok(number) = receiver.recv().await {
                sum += number;
            }
            sum
        })
    });
    let start = Instant::now();
    on_smol(async move |executor| {
        let all: Vec<_> = (0..producers)
            .map(|_| {
                let sender = sender.clone();
                executor.spawn(async move {
                    for _ in 0..MESSAGES / producers {
                        sender.send(1).await.expect("somebody receives");
                    }
                })
            })
            .collect();
        for one in all {
            one.await;
        }
        Vec::new()
    });
    assert_eq!(other.join().ok(), Some(MESSAGES));
    per_operation(start.elapsed(), MESSAGES as f64)
}
