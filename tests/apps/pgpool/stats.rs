//! What a pool counts.

use std::cell::Cell;
use std::time::Duration;

/// Counted since the pool's machine began. Plain cells: a machine is one thread.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) transactions: Cell<u64>,
    pub(crate) queries: Cell<u64>,
    /// Bytes from clients to servers, and back.
    pub(crate) received: Cell<u64>,
    pub(crate) sent: Cell<u64>,
    pub(crate) waits: Cell<u64>,
    pub(crate) wait: Cell<Duration>,
    pub(crate) longest_wait: Cell<Duration>,
    pub(crate) servers: Cell<u64>,
}

impl Stats {
    pub(crate) fn add(counter: &Cell<u64>, count: u64) {
        counter.set(counter.get() + count);
    }

    pub(crate) fn waited(&self, time: Duration) {
        Stats::add(&self.waits, 1);
        self.wait.set(self.wait.get() + time);
        self.longest_wait.set(self.longest_wait.get().max(time));
    }

    /// The number of a server connection that is to be opened.
    pub(crate) fn next_server(&self) -> u64 {
        Stats::add(&self.servers, 1);
        self.servers.get()
    }
}
