//! The links between hosts: latency, bandwidth, loss, duplicates, partitions.
//!
//! A link is the way from one host to another, one direction; a host's way to itself is its loopback. A link takes
//! up no room until somebody sets it or cuts it: every other pair has the world's default. Links decide *whether*
//! and *when* a packet arrives; that a connection's packets arrive in their order is the sockets' business, as is
//! sending again what was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::env::{Env, Fault, HostIndex, Stream};

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

/// How the times of a link's packets lie between the least and the most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Distribution {
    /// Each time is as likely as any other.
    #[default]
    Uniform,
    /// Half of the packets take less than a sixteenth of the span more than the least, and few take long: the fourth power of a
    /// uniform number.
    Tailed,
    /// Seven of eight come within the first eighth of the span, the others within the last.
    Bimodal,
}

impl Distribution {
    /// How much more than the least a packet takes, of at most `span`. The boring answer is nothing.
    fn draw(self, env: &mut dyn Env, stream: Stream, span: u64) -> u64 {
        const ONE: u64 = 1 << 16;
        match self {
            _ if span == 0 => 0,
            Distribution::Uniform => env.draw(stream, "latency", span + 1),
            Distribution::Tailed => {
                let drawn = u128::from(env.draw(stream, "latency", ONE));
                ((u128::from(span) * drawn.pow(4)) >> 64) as u64
            }
            Distribution::Bimodal => match env.draw(stream, "latency", ONE) {
                drawn if drawn < ONE / 8 * 7 => {
                    (u128::from(span / 8 * drawn) / u128::from(ONE / 8 * 7)) as u64
                }
                drawn => span - (u128::from(span / 8 * (ONE - 1 - drawn)) / u128::from(ONE / 8)) as u64,
            },
        }
    }
}

/// What a link is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkOptions {
    /// The least time a packet takes.
    pub latency_min: Duration,
    /// The most time a packet takes.
    pub latency_max: Duration,
    /// Which times in between are likely.
    pub distribution: Distribution,
    /// How many bytes it carries in a second; `None` for any number. Packets wait for those before them, and who has to wait
    /// longer than a second is lost.
    pub bandwidth: Option<u64>,
    /// How many packets are lost. Connections send them again: the reader sees delay. A datagram is gone.
    pub loss: Ratio,
    /// How many packets take up to a second more. What follows them in their connection waits for them.
    pub late: Ratio,
    /// At how many packets of connections both ends are told RST, as a firewall does that has forgotten the connection.
    pub reset: Ratio,
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
        distribution: Distribution::Uniform,
        bandwidth: None,
        late: Ratio::NEVER,
        reset: Ratio::NEVER,
        loss: Ratio::NEVER,
        split: Ratio::new(1, 16),
        duplicate: Ratio::NEVER,
        reorder: Ratio::NEVER,
    };
}

impl LinkOptions {
    /// As fast, and nothing goes wrong.
    const fn without_faults(self) -> LinkOptions {
        LinkOptions {
            late: Ratio::NEVER,
            reset: Ratio::NEVER,
            loss: Ratio::NEVER,
            duplicate: Ratio::NEVER,
            reorder: Ratio::NEVER,
            ..self
        }
    }
}

impl Default for LinkOptions {
    /// A room full of machines: 100 to 500 microseconds, nothing lost.
    fn default() -> LinkOptions {
        LinkOptions {
            latency_min: Duration::from_micros(100),
            latency_max: Duration::from_micros(500),
            ..LinkOptions::LOOPBACK
        }
    }
}

/// One direction of a pair of hosts that is not like the others.
#[derive(Clone, Copy)]
struct Link {
    /// `None`: as all others.
    options: Option<LinkOptions>,
    cut: bool,
}

/// All links of a world.
pub(crate) struct Links {
    default: LinkOptions,
    loopback: LinkOptions,
    /// Those that were set or cut.
    special: BTreeMap<(HostIndex, HostIndex), Link>,
    /// Nothing goes wrong on any of them, for now.
    pub(crate) calm: bool,
    /// Until when those with a bandwidth are busy.
    busy: BTreeMap<(HostIndex, HostIndex), u64>,
}

impl Links {
    pub(crate) const fn new(default: LinkOptions) -> Links {
        Links {
            default,
            loopback: LinkOptions::LOOPBACK,
            special: BTreeMap::new(),
            calm: false,
            busy: BTreeMap::new(),
        }
    }

    /// What the way from `from` to `to` is like.
    pub(crate) fn options(&self, from: HostIndex, to: HostIndex) -> LinkOptions {
        if from == to {
            return self.loopback;
        }
        let options = self.find(from, to).and_then(|link| link.options).unwrap_or(self.default);
        if self.calm { options.without_faults() } else { options }
    }

    /// Whether packets from `from` to `to` are swallowed.
    pub(crate) fn is_cut(&self, from: HostIndex, to: HostIndex) -> bool {
        from != to && self.find(from, to).is_some_and(|link| link.cut)
    }

    fn find(&self, from: HostIndex, to: HostIndex) -> Option<&Link> {
        if self.special.is_empty() { None } else { self.special.get(&(from, to)) }
    }

    fn entry(&mut self, from: HostIndex, to: HostIndex) -> &mut Link {
        self.special.entry((from, to)).or_insert(Link { options: None, cut: false })
    }

    pub(crate) fn set(&mut self, from: HostIndex, to: HostIndex, options: LinkOptions) {
        assert!(options.latency_min <= options.latency_max, "a range of latencies has its least first");
        if from == to {
            self.loopback = options;
        } else {
            self.entry(from, to).options = Some(options);
        }
    }

    pub(crate) fn set_default(&mut self, options: LinkOptions) {
        assert!(options.latency_min <= options.latency_max, "a range of latencies has its least first");
        self.default = options;
    }

    pub(crate) fn cut(&mut self, from: HostIndex, to: HostIndex, cut: bool) {
        self.entry(from, to).cut = cut;
    }

    /// How long a packet of `size` bytes that leaves now takes; `None` if it never arrives.
    pub(crate) fn carry(
        &mut self,
        env: &mut dyn Env,
        stream: Stream,
        (from, to): (HostIndex, HostIndex),
        size: u64,
    ) -> Option<u64> {
        if self.is_cut(from, to) {
            return None;
        }
        let options = self.options(from, to);
        if options.loss.draw(env, stream, "loss") {
            env.inject(from, Fault::Loss, format_args!("a packet of {size} bytes is lost"));
            return None;
        }
        let (least, most) = (nanos(options.latency_min), nanos(options.latency_max));
        let mut delay = least + options.distribution.draw(env, stream, most - least);
        if options.late.draw(env, stream, "late packet") {
            let millis = 1 + env.draw(stream, "how late", LATE_MOST);
            env.inject(from, Fault::Late, format_args!("a packet of {size} bytes is late by {millis} ms"));
            delay += millis * MILLISECOND;
        }
        let waits = match options.bandwidth {
            None => 0,
            Some(bandwidth) => self.queue(env, (from, to), size, bandwidth)?,
        };
        Some(delay + waits)
    }

    /// How long a packet takes until its last byte has left; `None` if too much is before it.
    fn queue(
        &mut self,
        env: &mut dyn Env,
        link: (HostIndex, HostIndex),
        size: u64,
        bandwidth: u64,
    ) -> Option<u64> {
        let now = env.now();
        let busy = self.busy.entry(link).or_insert(0);
        let begins = now.max(*busy);
        if begins - now > QUEUE_MOST {
            env.inject(
                link.0,
                Fault::Bandwidth,
                format_args!("a packet of {size} bytes finds a long queue, and is lost"),
            );
            return None;
        }
        *busy = begins + (size + HEADERS) * 1_000_000_000 / bandwidth.max(1);
        Some(*busy - now)
    }

    /// Whether what is not acknowledged in time may be on its way still.
    pub(crate) fn is_slow(&self, from: HostIndex, to: HostIndex) -> bool {
        self.options(from, to).bandwidth.is_some()
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

const MILLISECOND: u64 = 1_000_000;
/// In milliseconds.
const LATE_MOST: u64 = 1_000;
/// How long a packet waits at most for those before it, in nanoseconds.
const QUEUE_MOST: u64 = 1_000 * MILLISECOND;
/// What a packet has beside its payload: Ethernet, IP and TCP.
const HEADERS: u64 = 66;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
