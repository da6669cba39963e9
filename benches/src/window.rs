//! How long something takes: it is done until a window of time is over.
//!
//! What runs on one thread is timed by the processor time that it has had, which says the same on a machine with other work to do. What
//! two processors do together is timed by the clock.

use std::time::{Duration, Instant};

use crate::case::{Metric, metric};
use crate::process::pin;

const WINDOW: Duration = Duration::from_millis(300);

/// Measures the processor time of this process.
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// From now on.
    pub fn start() -> Stopwatch {
        Stopwatch(processor_time())
    }

    /// Until now.
    pub fn elapsed(&self) -> Duration {
        processor_time() - self.0
    }
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of the processor for each of the `each` operations of a round. A round takes some microseconds at least.
pub fn timed(each: u32, mut round: impl FnMut()) -> Vec<Metric> {
    round();
    let (start, watch, mut count) = (Instant::now(), Stopwatch::start(), 0);
    while start.elapsed() < WINDOW {
        round();
        count += each;
    }
    per_operation(watch.elapsed(), count.into())
}

/// The same of rounds that wait.
pub async fn timed_async(each: u32, mut round: impl AsyncFnMut()) -> Vec<Metric> {
    round().await;
    let (start, watch, mut count) = (Instant::now(), Stopwatch::start(), 0);
    while start.elapsed() < WINDOW {
        round().await;
        count += each;
    }
    per_operation(watch.elapsed(), count.into())
}

/// As `timed`, by the clock.
pub fn timed_by_clock(each: u32, mut round: impl FnMut()) -> Vec<Metric> {
    round();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < WINDOW {
        round();
        count += each;
    }
    per_operation(start.elapsed(), count.into())
}

/// As `timed_async`, by the clock.
pub async fn timed_async_by_clock(each: u32, mut round: impl AsyncFnMut()) -> Vec<Metric> {
    round().await;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < WINDOW {
        round().await;
        count += each;
    }
    per_operation(start.elapsed(), count.into())
}

/// What `count` operations have taken each.
pub fn per_operation(elapsed: Duration, count: f64) -> Vec<Metric> {
    vec![metric("ns", elapsed.as_nanos() as f64 / count)]
}

/// Runs `measure` on a machine, which stays on the first processor.
pub fn on_machine(measure: impl FnOnce() -> Vec<Metric>) -> Vec<Metric> {
    pin(0);
    let run: std::io::Result<Vec<Metric>> = machinarium::run(|| Ok(measure()));
    run.expect("a machine")
}

/// Runs `measure` on tokio's current-thread runtime, where it may spawn local tasks.
pub fn on_tokio<T>(measure: impl Future<Output = T>) -> T {
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, measure)
}

/// Runs `measure` on smol's executor of one thread, which it is given.
pub fn on_smol(
    measure: impl AsyncFnOnce(&'static smol::LocalExecutor<'static>) -> Vec<Metric>,
) -> Vec<Metric> {
    pin(0);
    let executor: &smol::LocalExecutor<'_> = Box::leak(Box::new(smol::LocalExecutor::new()));
    smol::block_on(executor.run(measure(executor)))
}

/// Runs `measure` in a coroutine of may, which has so many threads.
pub fn on_may(threads: usize, measure: impl FnOnce() -> Vec<Metric> + Send + 'static) -> Vec<Metric> {
    if threads == 1 {
        pin(0);
    }
    may::config().set_workers(threads);
    may::go!(measure).join().expect("no panic")
}

/// Runs `measure` on monoio, over io_uring.
pub fn on_monoio(measure: impl Future<Output = Vec<Metric>>) -> Vec<Metric> {
    pin(0);
    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().enable_timer();
    builder.build().expect("a kernel with io_uring").block_on(measure)
}
