//! What can go wrong in a world besides the order of things, and how often.
//!
//! [`Faults`] is a mask with a strength for each kind. A beginner's world has only what every network has: latencies
//! that vary, and no promised order. [`Faults::swarm`] draws, for each seed, which kinds there are and how strong
//! they are, since a bug that needs many of one kind is hidden by a few of all kinds.
//!
//! A fault keeps the kernel's promises: only errors that [`errno::of`] lists for the call, and only where Linux could
//! give them without having done anything (a failed `accept4` leaves the connection in the queue, an interrupted
//! `send` has sent nothing). There is no spurious `EAGAIN`: on an edge-triggered socket it would lose the edge, and
//! no Linux does that.
//!
//! [`errno::of`]: machinarium::kernel::errno::of

mod inject;

use std::fmt;

pub(crate) use inject::{Injector, Sweep};

use crate::choice::{Choices, Stream, Subsystem};

/// Writes [`Fault`] and what is known of each kind: with a site, those that a mask turns on and off, and then the others.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $site:literal,)+; $($(#[$other_doc:meta])* $other:ident,)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Fault {
            $($(#[$doc])* $kind,)+
            $($(#[$other_doc])* $other,)+
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Fault] = &[$(Fault::$kind,)+ $(Fault::$other,)+];
        }

        /// What the choices of each kind are called that a mask turns on and off.
        const SITES: [&str; [$($site),+].len()] = [$($site),+];
    };
}

kinds! {
    /// Messages take a varying time.
    Latency "latency",
    /// The ready events of one `epoll_wait` come in any order.
    EpollOrder "epoll order",
    /// `epoll_wait` tells fewer events than it could; the rest come with the next.
    EpollSubset "epoll subset",
    /// `epoll_wait` tells of a socket that it can be read or written, and it cannot (`select(2)`, BUGS: "spuriously reported as
    /// ready").
    StaleEvent "stale event",
    /// A packet is lost: the bytes of a segment come after a retransmission timeout, a datagram never (`udp(7)`: "unreliable").
    Loss "loss",
    /// A packet is late by up to a second; what follows it in its connection waits for it.
    Late "late packet",
    /// Links between hosts are slow, and what many connections send there queues up. The rarer, the faster: from 160 KB to 20 MB
    /// a second.
    Bandwidth "bandwidth",
    /// Bytes arrive in smaller pieces than they were sent.
    ShortRead "short read",
    /// Socket buffers are small, so that writes are short.
    ShortWrite "short write",
    /// `EINTR`.
    Eintr "EINTR",
    /// `EMFILE`: no free descriptor, for once.
    Emfile "EMFILE",
    /// `ENFILE`: the whole system has no more open files, for once.
    Enfile "ENFILE",
    /// `ENOBUFS` and `ENOMEM`.
    Memory "out of memory",
    /// `accept4` answers `ECONNABORTED`.
    ConnAborted "ECONNABORTED",
    /// `accept4` tells of an error that the network had with the connection (`accept(2)`: "already-pending network errors on the
    /// new socket"): `EPROTO`, `EHOSTUNREACH` and their like.
    AcceptError "error of accept",
    /// A listener has room for one or two that wait, whatever it asked for (`listen(2)`: "silently capped"). Others try again a
    /// second later.
    Backlog "backlog",
    /// `connect` answers `ENETUNREACH` or `EHOSTUNREACH`; not on the loopback.
    Unreachable "unreachable",
    /// There is no free port, for once: `EADDRNOTAVAIL` of a connect, `EADDRINUSE` of a bind to port 0.
    Ports "no port",
    /// Something between two hosts forgets a connection, and says RST to both ends when the next packet of it comes.
    Reset "reset",
    /// A futex waiter wakes for no reason.
    SpuriousWake "spurious wake-up",
    /// A thread cannot be made (`EAGAIN`).
    Spawn "no thread",
    /// Clocks of hosts differ and drift.
    Skew "skew",
    /// The wall clock of a host jumps, by up to a day, forwards or back, before somebody looks at it (`clock_gettime(2)`:
    /// "discontinuous jumps").
    ClockJump "clock jump",
    /// Threads lose the processor between two operations on what they share (`Tuning::preempt`), mostly for less than a
    /// microsecond, and this often for up to half a millisecond. Of processes that start while it is on.
    Preempt "preemption",
    /// The library's own limits are nearly nothing (`Tuning`: budgets, batches, buffers), and ready coroutines come in any
    /// order. Of processes that start while it is on; how often does not matter.
    Limits "limits",
    /// A datagram comes twice (`udp(7)`: "may be reordered or duplicated before they arrive").
    Duplicate "duplicate",
    /// A datagram is late, and others of its socket overtake it (`udp(7)`, as above).
    Reorder "reordering",
    /// `getaddrinfo` knows no name that is there (`EAI_NONAME`).
    NoName "no such name",
    /// No name server answers (`EAI_AGAIN`).
    NameAgain "no name server",
    /// `getaddrinfo` takes up to 30 seconds.
    SlowName "slow name",
    /// `getaddrinfo` answers its addresses in any order.
    NameOrder "name order",
    /// `getaddrinfo` answers only some of its addresses.
    NameSubset "some addresses",
    /// TLS 1.3 changes its keys after every few records. Of processes that start while it is on; how often does not matter.
    KeyUpdate "key update",
    /// A signal comes late, by up to 80 ms; equal ones that come meanwhile are one.
    LateSignal "late signal",
    /// A file call answers `EIO`. After that of a sync, what was not synced is not written by later ones either.
    DiskError "EIO",
    /// A file cannot grow (`ENOSPC`), for once.
    DiskFull "ENOSPC",
    /// `pread` and `pwrite` are short.
    ShortFile "short file call",
    /// A file call takes up to 2.5 seconds.
    SlowDisk "slow disk",
    ;
    /// A runnable thread or host does not get the processor (see [`Cpu`]).
    Stall,
    /// The script cut a link.
    Partition,
    /// The script killed a host.
    Crash,
    /// The script pulled a host's plug, and something that was not synced is not on the disk, or half.
    LostWrite,
}

impl Fault {
    /// The kinds that a mask turns on and off: stalls are [`Cpu`]'s, the others the script's.
    const MASKED: usize = SITES.len();
}

/// How processors behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cpu {
    /// Whoever can run, runs: a wake-up takes about a microsecond. A beginner's world.
    #[default]
    Ideal,
    /// Now and then a runnable thread, or a whole host, waits up to a tenth of a second.
    Loaded,
    /// Often, and up to two seconds.
    Starved,
}

impl Cpu {
    /// Once in how many turns of a thread it is stalled; 0 for never.
    pub(crate) const fn stall_mean(self) -> u64 {
        match self {
            Cpu::Ideal => 0,
            Cpu::Loaded => 250,
            Cpu::Starved => 60,
        }
    }

    /// A stall lasts one millisecond, doubled fewer times than this.
    pub(crate) const fn stall_doublings(self) -> u64 {
        match self {
            Cpu::Ideal => 1,
            Cpu::Loaded => 8,
            Cpu::Starved => 12,
        }
    }
}

/// Which faults a world has: for each kind once in how many calls, 0 for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    once_in: [u32; Fault::MASKED],
    swarm: bool,
}

impl Default for Faults {
    /// [`Fault::Latency`] and [`Fault::EpollOrder`].
    fn default() -> Faults {
        Faults::none().with(Fault::Latency).rate(Fault::EpollOrder, 2)
    }
}

impl Faults {
    /// No faults: every message takes the least time, in order.
    pub const fn none() -> Faults {
        Faults { once_in: [0; Fault::MASKED], swarm: false }
    }

    /// Every kind, each now and then.
    pub fn all() -> Faults {
        Fault::ALL[..Fault::MASKED].iter().fold(Faults::none(), |faults, &kind| faults.with(kind))
    }

    /// For each seed a drawn subset of all kinds, each with a drawn strength.
    pub fn swarm() -> Faults {
        Faults { swarm: true, ..Faults::all() }
    }

    /// These and `kind`, once in 50 calls.
    ///
    /// # Panics
    /// If `kind` is one of [`Fault::Stall`] (see [`Cpu`]), [`Fault::Partition`], [`Fault::Crash`] and
    /// [`Fault::LostWrite`] (made by the script).
    pub fn with(self, kind: Fault) -> Faults {
        self.rate(kind, 50)
    }

    /// These without `kind`.
    pub fn without(mut self, kind: Fault) -> Faults {
        if let Some(rate) = self.once_in.get_mut(kind as usize) {
            *rate = 0;
        }
        self
    }

    /// These and `kind`, once in so many calls (messages, for a fault of links).
    ///
    /// # Panics
    /// As [`with`](Faults::with).
    pub fn rate(mut self, kind: Fault, once_in: u32) -> Faults {
        assert!((kind as usize) < Fault::MASKED, "{kind:?} is not a fault of calls or links");
        self.once_in[kind as usize] = once_in;
        self
    }

    /// Whether `kind` can happen.
    pub fn has(&self, kind: Fault) -> bool {
        self.once_in(kind) != 0
    }

    /// Once in how many calls; 0 for never.
    pub fn once_in(&self, kind: Fault) -> u64 {
        self.once_in.get(kind as usize).copied().unwrap_or(0).into()
    }

    /// What this seed makes of a swarm.
    pub(crate) fn resolve(self, choices: &mut Choices) -> Faults {
        if !self.swarm {
            return self;
        }
        let stream = Stream::new(Subsystem::Swarm, 0);
        let mut faults = Faults { swarm: false, ..self };
        for rate in faults.once_in.iter_mut().filter(|rate| **rate != 0) {
            // Half of them off; else from once in 8 calls to once in 1,024.
            let strength = choices.draw(stream, "strength", 16);
            *rate = if strength < 8 { 0 } else { 2048 >> (strength - 7) };
        }
        faults
    }
}

/// How many faults of each kind were injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl Default for FaultCounts {
    fn default() -> FaultCounts {
        FaultCounts([0; Fault::ALL.len()])
    }
}

impl FaultCounts {
    /// How many of `kind`.
    pub fn of(&self, kind: Fault) -> u64 {
        self.0[kind as usize]
    }

    /// Each kind that occurred, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.iter().map(|&kind| (kind, self.of(kind))).filter(|(_, count)| *count != 0)
    }

    /// Adds another world's.
    pub fn add(&mut self, other: &FaultCounts) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    pub(crate) fn count(&mut self, kind: Fault) {
        self.0[kind as usize] += 1;
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (kind, count) in self.iter() {
            write!(f, "{}{count} {kind:?}", if first { "" } else { ", " })?;
            first = false;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_in_order() {
        assert!(Fault::ALL.iter().enumerate().all(|(index, &kind)| kind as usize == index));
    }

    #[test]
    fn swarms_differ_by_seed_and_a_plain_mask_does_not() {
        let resolve = |faults: Faults, seed| faults.resolve(&mut Choices::new(seed));
        assert_ne!(resolve(Faults::swarm(), 1), resolve(Faults::swarm(), 2));
        assert_eq!(resolve(Faults::all(), 1), resolve(Faults::all(), 2));
        assert!(!resolve(Faults::swarm().without(Fault::Loss), 3).has(Fault::Loss));
    }
}
