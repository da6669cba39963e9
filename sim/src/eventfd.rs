//! An eventfd: a counter that can be waited for.
//!
//! It never sleeps: a write that would overflow answers EAGAIN, as does a read of zero. Every write and every read
//! is an edge for those who watch it, also when the counter was readable before: wake-ups rely on that.

use machinarium::kernel::{Errno, Events, Result};

use crate::slab::Key;

/// The counter, and the registrations that watch it.
pub(crate) struct EventFd {
    count: u64,
    pub(crate) watchers: Vec<Key>,
}

impl EventFd {
    pub(crate) fn new(initial: u32) -> EventFd {
        EventFd { count: u64::from(initial), watchers: Vec::new() }
    }

    /// `eventfd_poll`: ready to write means that a write of 1 would not overflow.
    pub(crate) fn poll(&self) -> Events {
        let mut events = Events::NONE;
        if self.count > 0 {
            events = events.with(Events::IN);
        }
        if self.count < u64::MAX - 1 {
            events = events.with(Events::OUT);
        }
        events
    }

    /// Takes the whole counter.
    pub(crate) fn take(&mut self) -> Result<u64> {
        if self.count == 0 {
            return Err(Errno::AGAIN);
        }
        Ok(std::mem::take(&mut self.count))
    }

    /// Adds to the counter, which never reaches `u64::MAX`.
    pub(crate) fn add(&mut self, value: u64) -> Result<()> {
        if value == u64::MAX {
            return Err(Errno::INVAL);
        }
        match self.count.checked_add(value) {
            Some(count) if count < u64::MAX => self.count = count,
            _ => return Err(Errno::AGAIN),
        }
        Ok(())
    }
}
