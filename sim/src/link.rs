//! The links between hosts: latency, loss, duplicates, partitions.
//!
//! A link is the way from one host to another, one direction; a host's way to itself is its loopback. A link takes
//! up no room until somebody sets it or cuts it: every other pair has the world's default. Links decide *whether*
//! and *when* a packet arrives; that a connection's packets arrive in their order is the sockets' business, as is
//! sending again what was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::env::{Env, HostIndex, Stream};

/// So many of so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio {
    /// How often.
    pub times: u32,
    /// Of how many.
    pub of: u32,
}

impl Ratio {
    /// Never.
    pub const NEVER: Ratio = Ratio { times: 0, of: 1 };

    /// `times` of `of`.
    ///
    /// # Panics
    /// If `times` is greater than `of`, or `of` is zero.
    pub const fn new(times: u32, of: u32) -> Ratio {
        assert!(times <= of && of > 0, "a ratio is at most one");
        Ratio { times, of }
    }

    /// Draws whether it happens: the boring answer is that it does not.
    pub(crate) fn draw(self, env: &mut dyn Env, stream: Stream, site: &'static str) -> bool {
        if self.times == 0 {
            return false;
        }
        env.draw(stream, site, u64::from(self.of)) >= u64::from(self.of - self.times)
    }
}

/// What a link is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkOptions {
    /// The least time a packet takes.
    pub latency_min: Duration,
    /// The most time a packet takes.
    pub latency_max: Duration,
    /// How many packets are lost. Connections send them again: the reader sees delay. A datagram is gone.
    pub loss: Ratio,
    /// How many segments are cut in two at a drawn place.
    pub split: Ratio,
    /// How many datagrams arrive twice.
    pub duplicate: Ratio,
    /// How many datagrams are late, and may be overtaken by others of their socket.
    pub reorder: Ratio,
}

impl LinkOptions {
    /// A host's way to itself.
    pub const LOOPBACK: LinkOptions = LinkOptions {
        latency_min: Duration::from_micros(5),
        latency_max: Duration::from_micros(5),
        loss: Ratio::NEVER,
        split: Ratio::new(1, 16),
        duplicate: Ratio::NEVER,
        reorder: Ratio::NEVER,
    };
}

impl Default for LinkOptions {
    /// A room full of machines: 100 to 500 microseconds, nothing lost.
    fn default() -> LinkOptions {
        LinkOptions {
            latency_min: Duration::from_micros(100),
            latency_max: Duration::from_micros(500),
            loss: Ratio::NEVER,
            split: Ratio::new(1, 16),
            duplicate: Ratio::NEVER,
            reorder: Ratio::NEVER,
        }
    }
}

/// One direction of a pair of hosts that is not like the others.
#[derive(Clone, Copy)]
struct Link {
    options: LinkOptions,
    cut: bool,
}

/// All links of a world.
pub(crate) struct Links {
    default: LinkOptions,
    loopback: LinkOptions,
    /// Those that were set or cut.
    special: BTreeMap<(HostIndex, HostIndex), Link>,
}

impl Links {
    pub(crate) const fn new(default: LinkOptions) -> Links {
        Links { default, loopback: LinkOptions::LOOPBACK, special: BTreeMap::new() }
    }

    /// What the way from `from` to `to` is like.
    pub(crate) fn options(&self, from: HostIndex, to: HostIndex) -> LinkOptions {
        if from == to {
            return self.loopback;
        }
        self.find(from, to).map_or(self.default, |link| link.options)
    }

    /// Whether packets from `from` to `to` are swallowed.
    pub(crate) fn is_cut(&self, from: HostIndex, to: HostIndex) -> bool {
        from != to && self.find(from, to).is_some_and(|link| link.cut)
    }

    fn find(&self, from: HostIndex, to: HostIndex) -> Option<&Link> {
        if self.special.is_empty() { None } else { self.special.get(&(from, to)) }
    }

    fn entry(&mut self, from: HostIndex, to: HostIndex) -> &mut Link {
        self.special.entry((from, to)).or_insert(Link { options: self.default, cut: false })
    }

    pub(crate) fn set(&mut self, from: HostIndex, to: HostIndex, options: LinkOptions) {
        assert!(options.latency_min <= options.latency_max, "a range of latencies has its least first");
        if from == to {
            self.loopback = options;
        } else {
            self.entry(from, to).options = options;
        }
    }

    pub(crate) fn set_default(&mut self, options: LinkOptions) {
        assert!(options.latency_min <= options.latency_max, "a range of latencies has its least first");
        self.default = options;
    }

    pub(crate) fn cut(&mut self, from: HostIndex, to: HostIndex, cut: bool) {
        self.entry(from, to).cut = cut;
    }

    /// How long a packet that leaves now takes; `None` if it never arrives.
    pub(crate) fn carry(
        &self,
        env: &mut dyn Env,
        stream: Stream,
        from: HostIndex,
        to: HostIndex,
    ) -> Option<u64> {
        if self.is_cut(from, to) {
            return None;
        }
        let options = self.options(from, to);
        if options.loss.draw(env, stream, "loss") {
            return None;
        }
        let (least, most) = (nanos(options.latency_min), nanos(options.latency_max));
        let more = if most > least { env.draw(stream, "latency", most - least + 1) } else { 0 };
        Some(least + more)
    }

    /// The least time from `from` to `to`: what an acknowledgement takes.
    pub(crate) fn least(&self, from: HostIndex, to: HostIndex) -> u64 {
        nanos(self.options(from, to).latency_min)
    }

    /// The most time there and back: what a retransmission waits for beyond its minimum.
    pub(crate) fn round_trip(&self, from: HostIndex, to: HostIndex) -> u64 {
        nanos(self.options(from, to).latency_max) + nanos(self.options(to, from).latency_max)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
