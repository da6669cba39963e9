//! What a machine counts, and how other threads see it: plain cells, shown once a turn of the loop.

use std::cell::Cell;
use std::time::Duration;

use super::Machine;
use super::wakeup::Shared;
use crate::kernel::Instant;
use crate::shared::gauges::Gauges;

pub use crate::shared::store::Counts as MessageStatistics;

/// What was counted of a machine, as of the last time it came to its loop; its messages, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The machine's number in its process, from 0.
    pub machine: u64,
    /// Its name.
    pub name: String,
    /// Whether it sleeps in `epoll_wait`. If not, and `turns` stays the same, some coroutine has held it since then.
    pub asleep: bool,
    /// Coroutines that have not ended.
    pub coroutines: u64,
    /// Stacks in use, also by coroutines that have ended and were not joined; and unused ones that are kept.
    pub stacks: u64,
    /// See `stacks`.
    pub stacks_cached: u64,
    /// Big stacks in use.
    pub big_stacks: u64,
    /// Descriptors that the machine watches, and connections that its listeners have found ([`TcpListener::readable`](crate::net::TcpListener::readable))
    /// and nobody has accepted.
    pub descriptors: u64,
    /// Switches to a coroutine.
    pub switches: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Calls of `epoll_wait`.
    pub polls: u64,
    /// Events that these have told of.
    pub events: u64,
    /// Letters of other machines: wake-ups, coroutines to start, stops.
    pub letters: u64,
    /// How late the last timer was: its coroutine's deadline was so long ago when the machine came to its loop.
    pub lag: Duration,
    /// How late the latest of all was.
    pub lag_max: Duration,
    /// Panics of coroutines that nobody has joined; of another machine's too, if it was here that nobody did.
    pub panics: u64,
    /// The buffers of its messages.
    pub messages: MessageStatistics,
}

/// What the loop counts itself; the rest is counted where it is.
#[derive(Default)]
pub(super) struct Counts {
    turns: Cell<u64>,
    letters: Cell<u64>,
    lag: Cell<Duration>,
    lag_max: Cell<Duration>,
    panics: Cell<u64>,
}

impl Counts {
    pub(super) fn panicked(&self) {
        self.panics.set(self.panics.get() + 1);
    }

    pub(super) fn letters(&self, more: u64) {
        self.letters.set(self.letters.get() + more);
    }

    /// A timer fires now whose time was `due`.
    pub(super) fn late(&self, due: Instant, now: Instant) {
        self.lag.set(now - due);
        self.lag_max.set(self.lag_max.get().max(now - due));
    }
}

/// In the order in which `Machine::show` has them.
pub(super) type Shown = Gauges<14>;

impl Machine {
    /// Shows other threads what was counted. Once a turn.
    pub(super) fn show(&self, asleep: bool) {
        let counts = &self.counts;
        if !asleep {
            counts.turns.set(counts.turns.get() + 1);
        }
        let nanos = |lag: &Cell<Duration>| u64::try_from(lag.get().as_nanos()).unwrap_or(u64::MAX);
        self.shared.shown.set([
            asleep.into(),
            self.alive.get() as u64,
            self.stacks.live() as u64,
            self.stacks.cached() as u64,
            self.big_stacks.live() as u64,
            (self.poller.len() + self.poller.aside.get()) as u64,
            self.scheduler.switches.get(),
            counts.turns.get(),
            self.poller.calls.get(),
            self.poller.events_told.get(),
            counts.letters.get(),
            nanos(&counts.lag),
            nanos(&counts.lag_max),
            counts.panics.get(),
        ]);
    }
}

impl Shared {
    /// What the machine has shown last.
    pub(crate) fn statistics(&self) -> Statistics {
        let [
            asleep,
            coroutines,
            stacks,
            stacks_cached,
            big_stacks,
            descriptors,
            switches,
            turns,
            polls,
            events,
            letters,
            lag,
            lag_max,
            panics,
        ] = self.shown.get();
        Statistics {
            machine: self.number,
            name: self.name.clone(),
            asleep: asleep != 0,
            coroutines,
            stacks,
            stacks_cached,
            big_stacks,
            descriptors,
            switches,
            turns,
            polls,
            events,
            letters,
            lag: Duration::from_nanos(lag),
            lag_max: Duration::from_nanos(lag_max),
            panics,
            messages: self.messages.counts(),
        }
    }
}
