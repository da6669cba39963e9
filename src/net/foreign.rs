//! Descriptors of others: a C library has opened one, reads and writes it itself, and only waits by this library.
//!
//! Such a descriptor is not ours: it is registered for one wait and taken out after it, and never read, written or closed. A registration
//! tells at once what is so already, so nothing need be known of what came before.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use crate::error::Misuse;
use crate::kernel::{Errno, Events, Fd, Instant};
use crate::machine::{Key, Machine, Reason, Source, Waiter, current};

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Something to read, or the end.
    Readable,
    /// Room to write.
    Writable,
    /// Either.
    Both,
}

/// What has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// A read would not wait.
    pub readable: bool,
    /// A write would not wait.
    pub writable: bool,
}

/// Waits until a descriptor that this library does not own can be read or written, as far as `interest` goes: what a C library needs that does
/// its own system calls and says what it waits for (libpq by `PQsocket`). An error on it, or its end, counts as both.
///
/// It is to be non-blocking, and open until this returns. One coroutine of a machine can wait for it at a time.
///
/// # Errors
/// If the wait is ended by a deadline or a cancellation; outside a machine. `Unsupported` of what cannot be waited for, such as a regular file;
/// `AlreadyExists` if somebody waits for it on this machine, or it is a stream of this library.
///
/// ```
/// use machinarium::net::{Interest, wait_fd};
/// use std::os::unix::net::UnixStream;
/// # use std::io::Write;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (theirs, mut other) = UnixStream::pair()?; // of a library, say
///     other.write_all(b"x")?;
///     let ready = wait_fd(&theirs, Interest::Readable)?;
///     assert!(ready.readable);
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn wait_fd(fd: impl AsFd, interest: Interest) -> io::Result<Readiness> {
    let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
    let me = machine.operation()?;
    let fd = Fd::from_raw(fd.as_fd().as_raw_fd());
    let events = interest.events();
    let watch = Watch::begin(&machine, fd)?;
    loop {
        let seen = watch.foreign.seen.get();
        if seen.intersects(events) {
            return Ok(Readiness::of(seen));
        }
        let reason = Reason::ready("a foreign fd", fd, events);
        machine.wait(me, reason, Instant::FAR, |waiter| watch.foreign.sleeper.set(Some(waiter)))?;
    }
}

const ENDS: Events = Events::HUP.with(Events::ERR);
const READABLE: Events = Events::IN.with(Events::RDHUP).with(Events::PRI).with(ENDS);
const WRITABLE: Events = Events::OUT.with(ENDS);

impl Interest {
    fn events(self) -> Events {
        match self {
            Interest::Readable => READABLE,
            Interest::Writable => WRITABLE,
            Interest::Both => READABLE.with(WRITABLE),
        }
    }
}

impl Readiness {
    fn of(seen: Events) -> Readiness {
        Readiness { readable: seen.intersects(READABLE), writable: seen.intersects(WRITABLE) }
    }
}

/// What has been told of a descriptor since it was registered, and who sleeps until something is.
struct Foreign {
    seen: Cell<Events>,
    sleeper: Cell<Option<Waiter>>,
}

impl Source for Foreign {
    fn ready(&self, machine: &Machine, events: Events) {
        self.seen.set(self.seen.get().with(events));
        self.sleeper.take().into_iter().for_each(|waiter| {
            machine.wake(waiter);
        });
    }
}

/// A registration, until dropped.
struct Watch<'a> {
    machine: &'a Machine,
    fd: Fd,
    key: Key,
    foreign: Rc<Foreign>,
}

impl<'a> Watch<'a> {
    fn begin(machine: &'a Machine, fd: Fd) -> io::Result<Watch<'a>> {
        let foreign = Rc::new(Foreign { seen: Cell::new(Events::NONE), sleeper: Cell::new(None) });
        let key = machine.poller.add(&*machine.kernel, fd, foreign.clone()).map_err(refusal)?;
        Ok(Watch { machine, fd, key, foreign })
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.machine.poller.remove(&*self.machine.kernel, self.fd, self.key);
    }
}

fn refusal(errno: Errno) -> io::Error {
    let said = |kind, what| io::Error::new(kind, format!("wait_fd: {what}: {errno}"));
    match errno {
        Errno::PERM => said(io::ErrorKind::Unsupported, "nothing to wait for, as of a regular file"),
        Errno::EXIST => said(io::ErrorKind::AlreadyExists, "this machine watches it already"),
        errno => errno.into(),
    }
}
