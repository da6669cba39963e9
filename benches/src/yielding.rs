//! What a yield costs among so many that are ready: everyone lets the others run, in turn.
//!
//! One of them times its own yields. Each of these is a yield of everyone, so the time is divided by all. The
//! clock is stopped before anyone ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use crate::case::{Case, Metric, metric};
use crate::process::pin;

/// How long one is timed.
const WINDOW: Duration = Duration::from_millis(300);

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for count in [1, 2, 16, 256, 30_000, 100_000] {
        let group = format!("yield/{count}");
        cases.push(Case::new(&group, "machinarium", move || machinarium(count)));
        cases.push(Case::new(&group, "tokio", move || tokio(count)));
        // Two mappings for each stack of corosensei: 65,530 are all there are.
        if count <= 30_000 {
            cases.push(Case::new(&group, "corosensei", move || corosensei(count)));
        }
    }
    cases
}

/// How many yields the timing one makes before it looks at the clock again.
fn batch(count: usize) -> u32 {
    (100_000 / count).max(2) as u32
}

fn result(elapsed: Duration, rounds: u32, count: usize) -> Vec<Metric> {
    vec![metric("ns", elapsed.as_nanos() as f64 / f64::from(rounds) / count as f64)]
}

fn machinarium(count: usize) -> Vec<Metric> {
    pin(0);
    let run: std::io::Result<Vec<Metric>> = machinarium::run(|| {
        let stop = Rc::new(Cell::new(false));
        for _ in 1..count {
            let stop = stop.clone();
            drop(machinarium::spawn(move || {
                while !stop.get() {
                    machinarium::yield_now();
                }
            }));
        }
        for _ in 0..3 {
            machinarium::yield_now();
        }
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < WINDOW {
            for _ in 0..batch(count) {
                machinarium::yield_now();
            }
            rounds += batch(count);
        }
        let elapsed = start.elapsed();
        stop.set(true);
        Ok(result(elapsed, rounds, count))
    });
    run.expect("a machine")
}

fn tokio(count: usize) -> Vec<Metric> {
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let stop = Rc::new(Cell::new(false));
        for _ in 1..count {
            let stop = stop.clone();
            tokio::task::spawn_local(async move {
                while !stop.get() {
                    tokio::task::yield_now().await;
                }
            });
        }
        let timing = tokio::task::spawn_local(async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let (start, mut rounds) = (Instant::now(), 0);
            while start.elapsed() < WINDOW {
                for _ in 0..batch(count) {
                    tokio::task::yield_now().await;
                }
                rounds += batch(count);
            }
            let elapsed = start.elapsed();
            stop.set(true);
            result(elapsed, rounds, count)
        });
        timing.await.expect("no panic")
    })
}

/// No scheduler: a loop that resumes one after the other. Two switches each.
fn corosensei(count: usize) -> Vec<Metric> {
    pin(0);
    let stop = Rc::new(Cell::new(false));
    let make = |_| {
        let stop = stop.clone();
        let stack = DefaultStack::new(64 << 10).expect("a stack");
        Coroutine::<(), (), (), _>::with_stack(stack, move |yielder, ()| {
            while !stop.get() {
                yielder.suspend(());
            }
        })
    };
    let mut all: Vec<_> = (0..count).map(make).collect();
    let mut turn = |expected: CoroutineResult<(), ()>| {
        all.iter_mut().for_each(|one| assert_eq!(one.resume(()).is_yield(), expected.is_yield()));
    };
    turn(CoroutineResult::Yield(()));
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < WINDOW {
        for _ in 0..batch(count) {
            turn(CoroutineResult::Yield(()));
        }
        rounds += batch(count);
    }
    let elapsed = start.elapsed();
    stop.set(true);
    turn(CoroutineResult::Return(()));
    result(elapsed, rounds, count)
}

/// What corosensei's result says.
trait IsYield {
    fn is_yield(&self) -> bool;
}

impl IsYield for CoroutineResult<(), ()> {
    fn is_yield(&self) -> bool {
        matches!(self, CoroutineResult::Yield(()))
    }
}
