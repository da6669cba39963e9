//! What all machines of one process share: made by the outermost `run`, inherited by the machines it starts.
//!
//! Never a static: a simulated world holds many processes on one OS thread, and a test many worlds.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Process {
    machines: AtomicU64,
}

impl Process {
    /// The number of the next machine of this process, from 0.
    pub(crate) fn next_machine(&self) -> u64 {
        // Relaxed: only that each gets its own number matters.
        self.machines.fetch_add(1, Ordering::Relaxed)
    }
}
