//! What one that waits costs: resident memory and page tables, and the time to make it. Each sleeps for an hour.

use std::time::{Duration, Instant};

use crate::case::{Case, Metric, metric};
use crate::process::{memory, pin, processor_time};

const HOUR: Duration = Duration::from_secs(3600);

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (count, rounds) in [(10_000, 5), (100_000, 3), (1_000_000, 1)] {
        let group = format!("idle/{count}");
        cases.push(Case::new(&group, "machinarium", move || machinarium(count)).at_most(rounds));
        cases.push(Case::new(&group, "tokio", move || tokio(count)).at_most(rounds));
    }
    cases
}

/// What has been used since `before` and `start`.
fn used(before: (f64, f64), start: Instant, count: usize) -> Vec<Metric> {
    let elapsed = start.elapsed().as_nanos() as f64;
    let (memory, processor) = now();
    vec![
        metric("bytes each", (memory - before.0) / count as f64),
        metric("ns to make", elapsed / count as f64),
        metric("processor ns to make", (processor - before.1) / count as f64),
    ]
}

/// Memory, and processor time: a machine whose host has to find the memory first stands still meanwhile, and that is in neither.
fn now() -> (f64, f64) {
    (memory(), processor_time(std::process::id()))
}

fn machinarium(count: usize) -> Vec<Metric> {
    pin(0);
    let run: std::io::Result<Vec<Metric>> = machinarium::run(|| {
        let (before, start) = (now(), Instant::now());
        for _ in 0..count {
            drop(machinarium::spawn(|| machinarium::sleep(HOUR)));
        }
        // Each has run, and sleeps, when it is our turn again.
        machinarium::yield_now();
        print_and_exit(&used(before, start, count))
    });
    run.expect("a machine")
}

fn tokio(count: usize) -> Vec<Metric> {
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (before, start) = (now(), Instant::now());
        for _ in 0..count {
            tokio::task::spawn_local(tokio::time::sleep(HOUR));
        }
        // A turn of the local set runs 61 tasks.
        for _ in 0..count / 61 + 2 {
            tokio::task::yield_now().await;
        }
        print_and_exit(&used(before, start, count))
    })
}

/// Nobody waits for a million to be torn down.
fn print_and_exit(metrics: &[Metric]) -> ! {
    for Metric { name, value } in metrics {
        println!("{name}\t{value}");
    }
    std::process::exit(0)
}
