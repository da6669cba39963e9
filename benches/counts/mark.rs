//! Where counting begins and ends, for both ways of counting: callgrind writes what it has counted whenever it meets [`mark`], and
//! system calls are counted from one to the next.

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// System calls since the last mark.
static CALLS: AtomicU64 = AtomicU64::new(0);
/// And between the two marks before.
static BETWEEN: AtomicU64 = AtomicU64::new(0);

/// What callgrind is told to look for.
pub(crate) const PATTERN: &str = "*counts*mark*mark*";

/// Begins, or ends.
#[inline(never)]
pub(crate) fn mark() {
    BETWEEN.store(CALLS.swap(0, Relaxed), Relaxed);
    black_box(());
}

/// The system calls between the last two marks.
pub(crate) fn calls() -> u64 {
    BETWEEN.load(Relaxed)
}

/// Is told each call by a traced kernel. To read the clock is no system call.
pub(crate) fn count(call: fmt::Arguments<'_>) {
    if !call.to_string().starts_with("clock_gettime(") {
        CALLS.fetch_add(1, Relaxed);
    }
}
