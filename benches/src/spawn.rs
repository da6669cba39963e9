//! What it costs to start one that returns at once, and to wait for it: alone, and a thousand at a time.

use std::pin::Pin;
use std::task::{Context, Poll};

use corosensei::Coroutine;
use corosensei::stack::DefaultStack;

use crate::case::{Case, Metric};
use crate::process::pin;
use crate::window::{on_machine, on_may, on_monoio, on_smol, on_tokio, timed, timed_async};

const BATCH: u32 = 1000;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("spawn/one", "machinarium", || on_machine(|| timed(BATCH, one))),
        Case::new("spawn/one", "tokio", || on_tokio(tokio(true))),
        Case::new("spawn/one", "smol", || on_smol(async |executor| smol(executor, true).await)),
        Case::new("spawn/one", "monoio", || on_monoio(monoio(true))),
        Case::new("spawn/one", "may", || on_may(1, || timed(BATCH, may_one))),
        Case::new("spawn/one", "corosensei", corosensei),
        Case::new("spawn/1000", "machinarium", || on_machine(|| timed(BATCH, thousand))),
        Case::new("spawn/1000", "tokio", || on_tokio(tokio(false))),
        Case::new("spawn/1000", "smol", || on_smol(async |executor| smol(executor, false).await)),
        Case::new("spawn/1000", "monoio", || on_monoio(monoio(false))),
        Case::new("spawn/1000", "may", || on_may(1, || timed(BATCH, may_thousand))),
    ]
}

fn one() {
    for number in 0..BATCH {
        assert_eq!(machinarium::spawn(move || number).join().ok(), Some(number));
    }
}

fn thousand() {
    let all: Vec<_> = (0..BATCH).map(|number| machinarium::spawn(move || number)).collect();
    for (number, handle) in all.into_iter().enumerate() {
        assert_eq!(handle.join().ok(), Some(number as u32));
    }
}

fn may_one() {
    for number in 0..BATCH {
        assert_eq!(may::go!(move || number).join().ok(), Some(number));
    }
}

fn may_thousand() {
    let all: Vec<_> = (0..BATCH).map(|number| may::go!(move || number)).collect();
    for (number, handle) in all.into_iter().enumerate() {
        assert_eq!(handle.join().ok(), Some(number as u32));
    }
}

/// Times what `spawn` makes of numbers, one by one or all together.
async fn batches<T: Future<Output = u32>>(one_by_one: bool, spawn: impl Fn(u32) -> T) -> Vec<Metric> {
    timed_async(BATCH, async || {
        if one_by_one {
            for number in 0..BATCH {
                assert_eq!(spawn(number).await, number);
            }
        } else {
            let all: Vec<T> = (0..BATCH).map(&spawn).collect();
            for (number, task) in all.into_iter().enumerate() {
                assert_eq!(task.await, number as u32);
            }
        }
    })
    .await
}

async fn tokio(one_by_one: bool) -> Vec<Metric> {
    let timing = batches(one_by_one, |number| Joined(tokio::task::spawn_local(async move { number })));
    tokio::task::spawn_local(timing).await.expect("no panic")
}

/// tokio's handle, whose task does not panic.
struct Joined(tokio::task::JoinHandle<u32>);

impl Future for Joined {
    type Output = u32;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u32> {
        Pin::new(&mut self.0).poll(context).map(|joined| joined.expect("no panic"))
    }
}

async fn smol(executor: &'static smol::LocalExecutor<'static>, one_by_one: bool) -> Vec<Metric> {
    let timing = batches(one_by_one, move |number| executor.spawn(async move { number }));
    executor.spawn(timing).await
}

async fn monoio(one_by_one: bool) -> Vec<Metric> {
    batches(one_by_one, |number| monoio::spawn(async move { number })).await
}

/// On one stack, used again and again.
fn corosensei() -> Vec<Metric> {
    pin(0);
    let mut stack = Some(DefaultStack::new(64 << 10).expect("a stack"));
    timed(BATCH, || {
        for number in 0..BATCH {
            let taken = stack.take().expect("it was put back");
            let mut coroutine = Coroutine::<(), (), u32, _>::with_stack(taken, move |_, ()| number);
            assert_eq!(coroutine.resume(()).as_return(), Some(number));
            stack = Some(coroutine.into_stack());
        }
    })
}
