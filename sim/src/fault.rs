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

use std::fmt;

use machinarium::kernel::{Call, Errno};

use crate::choice::{Choices, Rare, Stream, Subsystem};

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Fault {
    /// Messages take a varying time.
    Latency,
    /// The ready events of one `epoll_wait` come in any order.
    EpollOrder,
    /// `epoll_wait` tells fewer events than it could; the rest come with the next.
    EpollSubset,
    /// A packet is lost: the bytes of a segment come after a retransmission timeout, a datagram never (`udp(7)`: "unreliable").
    Loss,
    /// Bytes arrive in smaller pieces than they were sent.
    ShortRead,
    /// Socket buffers are small, so that writes are short.
    ShortWrite,
    /// `EINTR`.
    Eintr,
    /// `EMFILE`: no free descriptor, for once.
    Emfile,
    /// `ENOBUFS` and `ENOMEM`.
    Memory,
    /// `accept4` answers `ECONNABORTED`.
    ConnAborted,
    /// A futex waiter wakes for no reason.
    SpuriousWake,
    /// A thread cannot be made (`EAGAIN`).
    Spawn,
    /// Clocks of hosts differ and drift.
    Skew,
    /// Threads lose the processor between two operations on what they share (`Tuning::preempt`), mostly for less than a
    /// microsecond, and this often for up to half a millisecond. Of processes that start while it is on.
    Preempt,
    /// The library's own limits are nearly nothing (`Tuning`: budgets, batches, buffers), and ready coroutines come in any
    /// order. Of processes that start while it is on; how often does not matter.
    Limits,
    /// A datagram comes twice (`udp(7)`: "may be reordered or duplicated before they arrive").
    Duplicate,
    /// A datagram is late, and others of its socket overtake it (`udp(7)`, as above).
    Reorder,
    /// `getaddrinfo` knows no name that is there (`EAI_NONAME`).
    NoName,
    /// No name server answers (`EAI_AGAIN`).
    NameAgain,
    /// `getaddrinfo` takes up to 30 seconds.
    SlowName,
    /// `getaddrinfo` answers its addresses in any order.
    NameOrder,
    /// A signal comes late, by up to 80 ms; equal ones that come meanwhile are one.
    LateSignal,
    /// A file call answers `EIO`. After that of a sync, what was not synced is not written by later ones either.
    DiskError,
    /// A file cannot grow (`ENOSPC`), for once.
    DiskFull,
    /// `pread` and `pwrite` are short.
    ShortFile,
    /// A file call takes up to 2.5 seconds.
    SlowDisk,
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
    /// Every kind.
    pub const ALL: [Fault; 30] = [
        Fault::Latency,
        Fault::EpollOrder,
        Fault::EpollSubset,
        Fault::Loss,
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::Eintr,
        Fault::Emfile,
        Fault::Memory,
        Fault::ConnAborted,
        Fault::SpuriousWake,
        Fault::Spawn,
        Fault::Skew,
        Fault::Preempt,
        Fault::Limits,
        Fault::Duplicate,
        Fault::Reorder,
        Fault::NoName,
        Fault::NameAgain,
        Fault::SlowName,
        Fault::NameOrder,
        Fault::LateSignal,
        Fault::DiskError,
        Fault::DiskFull,
        Fault::ShortFile,
        Fault::SlowDisk,
        Fault::Stall,
        Fault::Partition,
        Fault::Crash,
        Fault::LostWrite,
    ];

    /// The kinds that a mask turns on and off: stalls are [`Cpu`]'s, the others the script's.
    const MASKED: usize = Fault::Stall as usize;
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

/// Decides for the calls of one process.
#[derive(Clone, Debug)]
pub(crate) struct Injector {
    rares: [Rare; Fault::MASKED],
}

impl Injector {
    /// For the process of this stable identity.
    pub(crate) fn new(faults: &Faults, process: u64) -> Injector {
        let stream = |kind: usize| Stream::new(Subsystem::Fault, (process << 8) | kind as u64);
        let rare = |kind: usize| Rare::new(stream(kind), SITES[kind], faults.once_in[kind].into());
        Injector { rares: std::array::from_fn(rare) }
    }

    /// Whether `kind` happens at this call.
    pub(crate) fn hit(&mut self, kind: Fault, choices: &mut Choices) -> bool {
        self.rares[kind as usize].hit(choices)
    }

    /// The error that this call fails with, if it does.
    pub(crate) fn fail(&mut self, call: Call, choices: &mut Choices) -> Option<(Fault, Errno)> {
        for &(kind, errno) in candidates(call) {
            if self.hit(kind, choices) {
                return Some((kind, errno));
            }
        }
        None
    }
}

/// The failures of each call that may come at any time and leave everything as it was.
const fn candidates(call: Call) -> &'static [(Fault, Errno)] {
    match call {
        Call::Socket => &[(Fault::Emfile, Errno::MFILE), (Fault::Memory, Errno::NOBUFS)],
        Call::Accept4 => &[
            (Fault::Eintr, Errno::INTR),
            (Fault::Emfile, Errno::MFILE),
            (Fault::Memory, Errno::NOBUFS),
            (Fault::ConnAborted, Errno::CONNABORTED),
        ],
        Call::Read | Call::Recv | Call::Recvmsg | Call::Readv | Call::EpollWait | Call::FutexWait => {
            &[(Fault::Eintr, Errno::INTR)]
        }
        Call::Send | Call::Sendmsg => &[(Fault::Eintr, Errno::INTR)],
        Call::Socketpair => &[(Fault::Emfile, Errno::MFILE), (Fault::Memory, Errno::NOBUFS)],
        Call::EpollCreate1 | Call::Eventfd => &[(Fault::Emfile, Errno::MFILE), (Fault::Memory, Errno::NOMEM)],
        Call::EpollCtl => &[(Fault::Memory, Errno::NOMEM)],
        Call::Spawn => &[(Fault::Spawn, Errno::AGAIN)],
        Call::Openat => &[
            (Fault::Eintr, Errno::INTR),
            (Fault::Emfile, Errno::MFILE),
            (Fault::Memory, Errno::NOMEM),
            (Fault::DiskError, Errno::IO),
        ],
        Call::Unlink => &[(Fault::DiskError, Errno::IO)],
        Call::Pread | Call::Ftruncate => &[(Fault::Eintr, Errno::INTR), (Fault::DiskError, Errno::IO)],
        Call::Rename => &[(Fault::DiskError, Errno::IO), (Fault::DiskFull, Errno::NOSPC)],
        Call::Pwrite => {
            &[(Fault::Eintr, Errno::INTR), (Fault::DiskError, Errno::IO), (Fault::DiskFull, Errno::NOSPC)]
        }
        // Of `fsync` it does not leave everything as it was: see `disk`.
        _ => &[],
    }
}

const SITES: [&str; Fault::MASKED] = [
    "latency",
    "epoll order",
    "epoll subset",
    "loss",
    "short read",
    "short write",
    "EINTR",
    "EMFILE",
    "out of memory",
    "ECONNABORTED",
    "spurious wake-up",
    "no thread",
    "skew",
    "preemption",
    "limits",
    "duplicate",
    "reordering",
    "no such name",
    "no name server",
    "slow name",
    "name order",
    "late signal",
    "EIO",
    "ENOSPC",
    "short file call",
    "slow disk",
];

/// How many faults of each kind were injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// How many of `kind`.
    pub fn of(&self, kind: Fault) -> u64 {
        self.0[kind as usize]
    }

    /// Each kind that occurred, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.into_iter().map(|kind| (kind, self.of(kind))).filter(|(_, count)| *count != 0)
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
    use machinarium::kernel::errno;

    #[test]
    fn every_injected_error_is_in_the_table() {
        for call in Call::ALL {
            for (_, errno) in candidates(call) {
                assert!(errno::of(call).contains(errno), "{call:?} may not answer {errno}");
            }
        }
    }

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
