//! What it costs to start one that returns at once, and to wait for it: alone, and a thousand at a time.

use std::time::{Duration, Instant};

use corosensei::Coroutine;
use corosensei::stack::DefaultStack;

use crate::case::{Case, Metric, metric};
use crate::process::pin;

const WINDOW: Duration = Duration::from_millis(300);
const BATCH: u32 = 1000;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("spawn/one", "machinarium", || machinarium(one)),
        Case::new("spawn/one", "tokio", || tokio(true)),
        Case::new("spawn/one", "corosensei", corosensei),
        Case::new("spawn/1000", "machinarium", || machinarium(thousand)),
        Case::new("spawn/1000", "tokio", || tokio(false)),
    ]
}

/// Times `batch`, which does [`BATCH`] of them, until the window is over.
fn timed(mut batch: impl FnMut()) -> Vec<Metric> {
    batch();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < WINDOW {
        batch();
        count += BATCH;
    }
    vec![metric("ns", start.elapsed().as_nanos() as f64 / f64::from(count))]
}

fn machinarium(batch: fn()) -> Vec<Metric> {
    pin(0);
    let run: std::io::Result<Vec<Metric>> = machinarium::run(|| Ok(timed(batch)));
    run.expect("a machine")
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

fn tokio(one_by_one: bool) -> Vec<Metric> {
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let task = tokio::task::spawn_local(async move {
            let (mut start, mut count) = (Instant::now(), 0);
            let mut warm = false;
            while !warm || start.elapsed() < WINDOW {
                if one_by_one {
                    for number in 0..BATCH {
                        assert_eq!(tokio::task::spawn_local(async move { number }).await.ok(), Some(number));
                    }
                } else {
                    let all: Vec<_> =
                        (0..BATCH).map(|number| tokio::task::spawn_local(async move { number })).collect();
                    for (number, handle) in all.into_iter().enumerate() {
                        assert_eq!(handle.await.ok(), Some(number as u32));
                    }
                }
                if warm {
                    count += BATCH;
                } else {
                    (start, warm) = (Instant::now(), true);
                }
            }
            vec![metric("ns", start.elapsed().as_nanos() as f64 / f64::from(count))]
        });
        task.await.expect("no panic")
    })
}

/// On one stack, used again and again.
fn corosensei() -> Vec<Metric> {
    pin(0);
    let mut stack = Some(DefaultStack::new(64 << 10).expect("a stack"));
    timed(|| {
        for number in 0..BATCH {
            let taken = stack.take().expect("it was put back");
            let mut coroutine = Coroutine::<(), (), u32, _>::with_stack(taken, move |_, ()| number);
            assert_eq!(coroutine.resume(()).as_return(), Some(number));
            stack = Some(coroutine.into_stack());
        }
    })
}
