//! What it costs to wake one that waits, on the same machine, until it runs: a chain in which each waits for the end of
//! the one before it. The first one ends, and the time until the last one has ended is divided by all.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::case::{Case, Metric, metric};
use crate::process::pin;
use crate::window::Stopwatch;

const LINKS: u32 = 200;
const CHAINS: u32 = 500;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![Case::new("handover/200", "machinarium", machinarium), Case::new("handover/200", "tokio", tokio)]
}

fn result(elapsed: Duration) -> Vec<Metric> {
    vec![metric("ns", elapsed.as_nanos() as f64 / f64::from(CHAINS * LINKS))]
}

fn machinarium() -> Vec<Metric> {
    pin(0);
    let run: std::io::Result<Vec<Metric>> = machinarium::run(|| {
        let mut elapsed = Duration::ZERO;
        for _ in 0..CHAINS {
            let open = Rc::new(Cell::new(false));
            let gate = open.clone();
            let mut last = machinarium::spawn(move || {
                while !gate.get() {
                    machinarium::yield_now();
                }
            });
            for _ in 0..LINKS {
                let before = last;
                last = machinarium::spawn(move || before.join().expect("no panic"));
            }
            // Now all of them wait.
            machinarium::yield_now();
            open.set(true);
            let start = Stopwatch::start();
            last.join().expect("no panic");
            elapsed += start.elapsed();
        }
        Ok(result(elapsed))
    });
    run.expect("a machine")
}

fn tokio() -> Vec<Metric> {
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let task = tokio::task::spawn_local(async {
            let mut elapsed = Duration::ZERO;
            for _ in 0..CHAINS {
                let open = Rc::new(Cell::new(false));
                let gate = open.clone();
                let mut last = tokio::task::spawn_local(async move {
                    while !gate.get() {
                        tokio::task::yield_now().await;
                    }
                });
                for _ in 0..LINKS {
                    let before = last;
                    last = tokio::task::spawn_local(async move { before.await.expect("no panic") });
                }
                for _ in 0..2 * LINKS / 61 + 2 {
                    tokio::task::yield_now().await;
                }
                open.set(true);
                let start = Stopwatch::start();
                last.await.expect("no panic");
                elapsed += start.elapsed();
            }
            result(elapsed)
        });
        task.await.expect("no panic")
    })
}
