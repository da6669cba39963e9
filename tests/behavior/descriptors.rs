//! Whether a body leaves a descriptor open on the real kernel, where all tests share one process: so its thread, and those that
//! it starts, get a table of descriptors of their own, in which nobody else opens any. In the simulator a process that leaves one open
//! fails its world.
//!
//! What catches signals cannot have such a table: a handler runs on any thread, also on one where the number of its eventfd is
//! nobody's, or a stranger's.

#![allow(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is a thread of the test, not of the library"
)]

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

/// Files of tests that catch signals.
const SHARE_THE_TABLE: &[&str] = &["signal.rs", "shutdown.rs", "inspect.rs"];
/// How long threads that `run` does not wait for (a lookup, a call in a file) may take to close what they have.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a body that is in `file`, and fails if it leaves a descriptor open.
pub(crate) fn none_left(file: &str, body: Box<dyn FnOnce() + Send>) {
    if SHARE_THE_TABLE.iter().any(|share| file.ends_with(&format!("/{share}"))) {
        return body();
    }
    watched(PATIENCE, body);
}

/// Runs a body, and fails if a descriptor that it has opened is still open after `patience`.
fn watched(patience: Duration, body: impl FnOnce() + Send + 'static) {
    let name = std::thread::current().name().unwrap_or("body").to_owned();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        if !own_table() {
            return body();
        }
        body();
        let start = Instant::now();
        while !open().is_empty() {
            assert!(start.elapsed() < patience, "descriptors left open: {}", open().join(", "));
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    if let Err(panic) = thread.unwrap().join() {
        resume_unwind(panic);
    }
}

/// Gives the calling thread an empty table, but for the standard ones. Whether the system can (Linux 5.9).
fn own_table() -> bool {
    let (first, last, flags) = (3_u32, u32::MAX, libc::CLOSE_RANGE_UNSHARE);
    // SAFETY: the thread has opened nothing yet, so no descriptor that is owned in it is closed; those of other threads stay open
    // in theirs.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) == 0 }
}

/// What the calling thread's table has beyond the standard ones, each by its number and by what it is.
fn open() -> Vec<String> {
    let numbers = std::fs::read_dir("/proc/thread-self/fd").unwrap();
    let names = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let told = names.filter_map(|name| {
        // The folder itself is open while it is read, and has gone here.
        let target = std::fs::read_link(format!("/proc/thread-self/fd/{name}")).ok()?;
        (name.parse::<u32>().unwrap() > 2).then(|| format!("{name} ({})", target.display()))
    });
    let told: Vec<_> = told.collect();
    told.into_iter().filter(|told| !told.contains("/fd)")).collect()
}

#[test]
fn a_descriptor_that_is_left_open_is_told() {
    let lost = || std::mem::forget(std::fs::File::open("/dev/null").unwrap());
    let failed = std::panic::catch_unwind(|| watched(Duration::from_millis(50), lost)).unwrap_err();
    let told = failed.downcast_ref::<String>().unwrap();
    assert!(told.contains("3 (/dev/null)"), "{told}");
    watched(PATIENCE, || drop(std::fs::File::open("/dev/null").unwrap()));
}
