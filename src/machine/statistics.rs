//! What a machine counts, and how other threads see it: plain cells, shown once a turn of the loop.

use std::cell::Cell;
use std::time::Duration;

use super::Machine;
use super::wakeup::Shared;
use crate::kernel::Instant;
use crate::shared::gauges::Gauges;
use crate::shared::histogram::{self, PLACES};

pub use crate::shared::store::Counts as MessageStatistics;

/// What was counted of a machine, as of the last time it came to its loop; its messages, and all of it of the machine that asks, as of now.
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
    /// How late timers were: what `lag` was at each.
    pub lags: Histogram,
    /// How long coroutines ran from one switch to the next; counted with [`Tuning::timing`](crate::Tuning::timing).
    pub runs: Histogram,
    /// How long coroutines were ready before they ran; counted with [`Tuning::timing`](crate::Tuning::timing), and too short by
    /// the rest of the run in which each became ready.
    pub readies: Histogram,
    /// Coroutines that were ready to run when the machine last came to its loop.
    pub ready: u64,
    /// Bytes in the buffers of its streams: read ahead, not yet sent, or on their way through a relay.
    pub buffered: u64,
    /// Panics of coroutines that nobody has joined; of another machine's too, if it was here that nobody did.
    pub panics: u64,
    /// The buffers of its messages.
    pub messages: MessageStatistics,
}

/// Durations, counted by powers of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; PLACES],
    sum: u64,
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they were together; of more than 584 years, what is left.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// Bounds, and how many were as long as that at most and longer than the bound before; the last is unbounded.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let bound = |place| histogram::bound(place).map(Duration::from_nanos);
        self.counts.iter().enumerate().map(move |(place, count)| (bound(place), *count))
    }

    /// The least bound that this share of them did not exceed (0.99: all but one in a hundred), right within a factor of two; `MAX` if
    /// that were longer than 137 s, zero if there were none. What is outside of 0 to 1 counts as the nearer of these.
    ///
    /// ```
    /// # use machinarium::{inspect, sleep};
    /// # use std::time::Duration;
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     (0..10).try_for_each(|_| sleep(Duration::from_millis(1)))?;
    ///     let lags = inspect::statistics()?[0].lags;
    ///     assert!(lags.count() >= 9);
    ///     println!("half of them were late by at most {:?}", lags.quantile(0.5));
    ///     Ok(())
    /// });
    /// result.unwrap();
    /// ```
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        let found = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        match found {
            _ if self.count() == 0 => Duration::ZERO,
            Some((Some(bound), _)) => bound,
            _ => Duration::MAX,
        }
    }
}

/// Where the durations are counted.
#[derive(Default)]
pub(crate) struct Times {
    lags: histogram::Histogram,
    pub(super) runs: histogram::Histogram,
    pub(super) readies: histogram::Histogram,
}

fn shown(histogram: &histogram::Histogram) -> Histogram {
    let (counts, sum) = histogram.get();
    Histogram { counts, sum }
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
    pub(super) fn turned(&self) {
        self.turns.set(self.turns.get() + 1);
    }

    pub(super) fn panicked(&self) {
        self.panics.set(self.panics.get() + 1);
    }

    pub(super) fn letters(&self, more: u64) {
        self.letters.set(self.letters.get() + more);
    }

    /// A timer fires now whose time was `due`.
    pub(super) fn late(&self, due: Instant, now: Instant, times: &Times) {
        times.lags.add((now - due).as_nanos() as u64);
        self.lag.set(now - due);
        self.lag_max.set(self.lag_max.get().max(now - due));
    }
}

/// In the order in which `Machine::show` has them.
pub(super) type Shown = Gauges<16>;

/// The place of what the loop alone knows.
pub(super) const ASLEEP: usize = 0;

impl Machine {
    /// Shows other threads what was counted: once a turn, and when one of this machine asks. It is awake then.
    pub(crate) fn show(&self) {
        let counts = &self.counts;
        let nanos = |lag: &Cell<Duration>| u64::try_from(lag.get().as_nanos()).unwrap_or(u64::MAX);
        self.shared.shown.set([
            0,
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
            self.scheduler.ready_len() as u64,
            self.buffered.get() as u64,
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
            ready,
            buffered,
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
            lags: shown(&self.times.lags),
            runs: shown(&self.times.runs),
            readies: shown(&self.times.readies),
            ready,
            buffered,
            panics,
            messages: self.messages.counts(),
        }
    }
}
