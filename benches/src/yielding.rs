//! What a yield costs among so many that are ready: everyone lets the others run, in turn.
//!
//! One of them times its own yields. Each of these is a yield of everyone, so the time is divided by all. The
//! clock is stopped before anyone ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use crate::case::{Case, Metric, metric};
use crate::process::pin;
use crate::window::{Stopwatch, on_may, on_smol, on_tokio};

/// How long one is timed.
const WINDOW: Duration = Duration::from_millis(300);

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for count in [1, 2, 16, 256, 30_000, 100_000] {
        let group = format!("yield/{count}");
        cases.push(Case::new(&group, "machinarium", move || machinarium(count)));
        cases.push(Case::new(&group, "tokio", move || tokio(count)));
        cases.push(Case::new(&group, "smol", move || smol(count)));
        // Two mappings for each stack of these: 65,530 are all there are.
        if count <= 30_000 {
            if count > 1 {
                cases.push(Case::new(&group, "may", move || may(count)));
            }
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
        let (start, watch, mut rounds) = (Instant::now(), Stopwatch::start(), 0);
        while start.elapsed() < WINDOW {
            for _ in 0..batch(count) {
                machinarium::yield_now();
            }
            rounds += batch(count);
        }
        let elapsed = watch.elapsed();
        stop.set(true);
        Ok(result(elapsed, rounds, count))
    });
    run.expect("a machine")
}

/// Times the yields of one of `count` tasks.
async fn timing<Y: Future<Output = ()>>(
    count: usize,
    stop: Rc<Cell<bool>>,
    yield_now: impl Fn() -> Y,
) -> Vec<Metric> {
    for _ in 0..3 {
        yield_now().await;
    }
    let (start, watch, mut rounds) = (Instant::now(), Stopwatch::start(), 0);
    while start.elapsed() < WINDOW {
        for _ in 0..batch(count) {
            yield_now().await;
        }
        rounds += batch(count);
    }
    let elapsed = watch.elapsed();
    stop.set(true);
    result(elapsed, rounds, count)
}

/// What the others do.
async fn yielding<Y: Future<Output = ()>>(stop: Rc<Cell<bool>>, yield_now: impl Fn() -> Y) {
    while !stop.get() {
        yield_now().await;
    }
}

fn tokio(count: usize) -> Vec<Metric> {
    on_tokio(async move {
        let stop = Rc::new(Cell::new(false));
        for _ in 1..count {
            tokio::task::spawn_local(yielding(stop.clone(), tokio::task::yield_now));
        }
        tokio::task::spawn_local(timing(count, stop, tokio::task::yield_now)).await.expect("no panic")
    })
}

fn smol(count: usize) -> Vec<Metric> {
    on_smol(async move |executor| {
        let stop = Rc::new(Cell::new(false));
        for _ in 1..count {
            executor.spawn(yielding(stop.clone(), smol::future::yield_now)).detach();
        }
        executor.spawn(timing(count, stop, smol::future::yield_now)).await
    })
}

/// Counts the yields of all, since may does not run everyone in turn.
fn may(count: usize) -> Vec<Metric> {
    on_may(1, move || {
        let (stop, yields) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        for _ in 1..count {
            let (stop, yields) = (stop.clone(), yields.clone());
            may::go!(move || {
                while !stop.load(Ordering::Relaxed) {
                    may::coroutine::yield_now();
                    yields.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // They begin when this one sleeps.
        may::coroutine::sleep(WINDOW / 3);
        let (watch, before) = (Stopwatch::start(), yields.load(Ordering::Relaxed));
        may::coroutine::sleep(WINDOW);
        let (elapsed, after) = (watch.elapsed(), yields.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        vec![metric("ns", elapsed.as_nanos() as f64 / (after - before) as f64)]
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
    let (start, watch, mut rounds) = (Instant::now(), Stopwatch::start(), 0);
    while start.elapsed() < WINDOW {
        for _ in 0..batch(count) {
            turn(CoroutineResult::Yield(()));
        }
        rounds += batch(count);
    }
    let elapsed = watch.elapsed();
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
