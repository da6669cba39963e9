//! Which calls fail, and how: by chance, or one after the other.
//!
//! An [`Injector`] decides for the calls of one process, by the rates of its world's [`Faults`]. A [`Sweep`] is about the calls
//! of the whole world: every way in which any of them could fail is an *opportunity*, and the one of a given number is taken.

use machinarium::kernel::{Call, Errno};

use super::{Fault, Faults, SITES};
use crate::choice::{Choices, Stream, Subsystem};
use crate::rare::Rare;

/// Decides for the calls of one process.
#[derive(Clone, Debug)]
pub(crate) struct Injector {
    /// A bit for each kind that can happen.
    on: u64,
    /// Those kinds, in their order.
    rares: Box<[Rare]>,
    process: u64,
}

const _: () = assert!(Fault::MASKED <= 64, "each kind has a bit");

impl Injector {
    /// For the process of this stable identity.
    pub(crate) fn new(faults: &Faults, process: u64) -> Injector {
        let kinds = || faults.once_in.iter().enumerate().filter(|(_, once_in)| **once_in > 0);
        let rare =
            |(kind, once_in): (usize, &u32)| Rare::new(stream(process, kind), SITES[kind], (*once_in).into());
        let on = kinds().fold(0, |on, (kind, _)| on | 1 << kind);
        Injector { on, rares: kinds().map(rare).collect(), process }
    }

    /// Whether `kind` happens at this call.
    pub(crate) fn hit(&mut self, kind: Fault, choices: &mut Choices) -> bool {
        let bit = 1 << kind as u32;
        if self.on & bit == 0 {
            return false;
        }
        let place = (self.on & (bit - 1)).count_ones();
        self.rares[place as usize].hit(choices)
    }

    /// The error that this call fails with, if it does.
    pub(crate) fn fail(&mut self, call: Call, choices: &mut Choices) -> Option<(Fault, Errno)> {
        for &(kind, errors) in candidates(call) {
            if self.hit(kind, choices) {
                let which = match errors.len() {
                    1 => 0,
                    n => choices.draw(stream(self.process, kind as usize), "which error", n as u64),
                };
                return Some((kind, errors[which as usize]));
            }
        }
        None
    }
}

fn stream(process: u64, kind: usize) -> Stream {
    Stream::new(Subsystem::Fault, (process << 8) | kind as u64)
}

/// Counts the ways in which calls could fail, and takes one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    /// Which ways count.
    pub(crate) kinds: Faults,
    /// The number of the opportunity that is taken.
    pub(crate) taken: Option<u64>,
    /// How many there have been.
    pub(crate) seen: u64,
}

impl Default for Sweep {
    /// Of nothing.
    fn default() -> Sweep {
        Sweep { kinds: Faults::none(), taken: None, seen: 0 }
    }
}

impl Sweep {
    /// The error that this call of the world fails with, if it does.
    pub(crate) fn fail(&mut self, call: Call) -> Option<(Fault, Errno)> {
        let taken = self.taken?;
        let mut failure = None;
        for &(kind, errors) in candidates(call).iter().filter(|(kind, _)| self.kinds.has(*kind)) {
            let place = taken.checked_sub(self.seen).filter(|place| *place < errors.len() as u64);
            failure = failure.or(place.map(|place| (kind, errors[place as usize])));
            self.seen += errors.len() as u64;
        }
        failure
    }
}

/// What `accept(2)` calls "already-pending network errors on the new socket".
const PENDING: &[Errno] = &[
    Errno::PROTO,
    Errno::NETDOWN,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
    Errno::NOPROTOOPT,
    Errno::HOSTDOWN,
    Errno::NONET,
    Errno::PERM,
];
const EINTR: (Fault, &[Errno]) = (Fault::Eintr, &[Errno::INTR]);
const EMFILE: (Fault, &[Errno]) = (Fault::Emfile, &[Errno::MFILE]);
const ENFILE: (Fault, &[Errno]) = (Fault::Enfile, &[Errno::NFILE]);
const ENOBUFS: (Fault, &[Errno]) = (Fault::Memory, &[Errno::NOBUFS]);
const ENOMEM: (Fault, &[Errno]) = (Fault::Memory, &[Errno::NOMEM]);
const EIO: (Fault, &[Errno]) = (Fault::DiskError, &[Errno::IO]);
const ENOSPC: (Fault, &[Errno]) = (Fault::DiskFull, &[Errno::NOSPC]);

/// The failures of each call that may come at any time and leave everything as it was. The caller knows which calls
/// are none of those that can fail so (`kernel`).
const fn candidates(call: Call) -> &'static [(Fault, &'static [Errno])] {
    match call {
        Call::Socket | Call::Socketpair => &[EMFILE, ENFILE, ENOBUFS],
        Call::Accept4 => &[
            EINTR,
            EMFILE,
            ENFILE,
            ENOBUFS,
            (Fault::ConnAborted, &[Errno::CONNABORTED]),
            (Fault::AcceptError, PENDING),
        ],
        Call::Bind => &[(Fault::Ports, &[Errno::ADDRINUSE])],
        Call::Connect => &[
            (Fault::Ports, &[Errno::ADDRNOTAVAIL]),
            (Fault::Unreachable, &[Errno::NETUNREACH, Errno::HOSTUNREACH]),
        ],
        Call::Read | Call::Recv | Call::Recvmsg | Call::Readv => &[EINTR],
        Call::EpollWait | Call::FutexWait | Call::Send | Call::Sendmsg => &[EINTR],
        Call::EpollCreate1 | Call::Eventfd => &[EMFILE, ENFILE, ENOMEM],
        Call::EpollCtl => &[ENOMEM],
        Call::Spawn => &[(Fault::Spawn, &[Errno::AGAIN])],
        Call::Openat => &[EINTR, EMFILE, ENFILE, ENOMEM, EIO],
        Call::Unlink => &[EIO],
        Call::Pread | Call::Ftruncate => &[EINTR, EIO],
        Call::Rename => &[EIO, ENOSPC],
        Call::Pwrite => &[EINTR, EIO, ENOSPC],
        // Of `fsync` it does not leave everything as it was: see `disk`.
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinarium::kernel::errno;

    #[test]
    fn every_injected_error_is_in_the_table() {
        for call in Call::ALL {
            for errno in candidates(call).iter().flat_map(|(_, errors)| *errors) {
                assert!(errno::of(call).contains(errno), "{call:?} may not answer {errno}");
            }
        }
    }

    #[test]
    fn a_sweep_takes_each_opportunity_once() {
        let kinds = Faults::all().without(Fault::Enfile);
        let answers = |taken| {
            let mut sweep = Sweep { kinds, taken: Some(taken), seen: 0 };
            let calls = [Call::Socket, Call::Connect, Call::Getpeername, Call::Socket];
            (calls.map(|call| sweep.fail(call).map(|(_, errno)| errno)), sweep.seen)
        };
        let (mfile, nobufs) = (Some(Errno::MFILE), Some(Errno::NOBUFS));
        assert_eq!(answers(0), ([mfile, None, None, None], 7));
        assert_eq!(answers(1), ([nobufs, None, None, None], 7));
        assert_eq!(answers(2), ([None, Some(Errno::ADDRNOTAVAIL), None, None], 7));
        assert_eq!(answers(4), ([None, Some(Errno::HOSTUNREACH), None, None], 7));
        assert_eq!(answers(6), ([None, None, None, nobufs], 7));
        assert_eq!(answers(7), ([None; 4], 7));
    }
}
