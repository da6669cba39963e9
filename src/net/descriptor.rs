//! A socket in its machine: an owned descriptor, registered once, and what its edges mean.
//!
//! A call is tried first. `EAGAIN` clears the direction's readiness, and the caller sleeps until an edge sets it; between
//! the two nothing else runs on this machine, so no edge is lost (`direction.rs` has the loop). A short read clears it too,
//! but only on TCP and only while no RDHUP, HUP, ERR or PRI was seen: with one of those, what follows gives no second edge.
//!
//! A look for something to read (`ready.rs`) takes from the system what cannot be looked at there: an error, a connection. That waits
//! in the socket for the next reader, and is closed with it.
//!
//! An edge for which no reader waits lets the machine read ahead (`ahead.rs`), and one for which no writer waits lets it
//! send what a layer above has left to be sent (`behind.rs`).

use std::cell::{Cell, RefCell};
use std::io::{self, IoSliceMut};
use std::rc::Rc;
use std::sync::Arc;

use super::ahead::Ahead;
use super::behind::Behind;
use super::direction::{Direction, Turn};
use crate::error::Misuse;
use crate::kernel::{self, Address, Errno, Events, Fd, Kernel, RecvFlags, Wake};
use crate::machine::{Key, Machine, Source, current};

/// Edges after which a short read does not mean that nothing is left.
const STICKY: Events = Events::RDHUP.with(Events::HUP).with(Events::ERR).with(Events::PRI);
const READABLE: Events = Events::IN.with(STICKY);
const WRITABLE: Events = Events::OUT.with(Events::HUP).with(Events::ERR);

/// Owns a socket of this machine; dropping it closes the descriptor.
pub(crate) struct Descriptor(Rc<Socket>);

pub(crate) struct Socket {
    machine: Rc<Machine>,
    fd: Fd,
    key: Cell<Option<Key>>,
    pub(crate) read: Direction,
    pub(crate) write: Direction,
    seen: Cell<Events>,
    short_read_drains: bool,
    /// `None`: this socket does not read ahead (a listener).
    ahead: Option<Ahead>,
    pub(crate) behind: Behind,
    /// What a look for something to read has taken from the system, for the next reader.
    found: RefCell<Option<Found>>,
    /// Those who watch the reading direction are to look again in the machine's next turn.
    look_again: Cell<bool>,
}

/// See `Socket::found`.
enum Found {
    Error(Errno),
    /// Boxed: nearly all sockets never have one.
    Connection(Box<(Fd, Address)>),
}

/// A descriptor on its way into a `Descriptor`: closed if it does not get there.
pub(crate) struct Fresh<'a> {
    kernel: &'a dyn Kernel,
    fd: Fd,
}

impl<'a> Fresh<'a> {
    pub(crate) fn new(kernel: &'a dyn Kernel, fd: Fd) -> Fresh<'a> {
        Fresh { kernel, fd }
    }

    pub(crate) fn fd(&self) -> Fd {
        self.fd
    }

    /// Someone else owns the number now.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        let _ = self.kernel.close(self.fd);
    }
}

impl Descriptor {
    /// Registers a stream with its machine. After an error the number is still the caller's.
    pub(crate) fn stream(machine: &Rc<Machine>, fd: Fd, short_read_drains: bool) -> io::Result<Descriptor> {
        let ahead = Some(Ahead::new(machine));
        Descriptor::register(machine, fd, ["read", "write"], ahead, short_read_drains)
    }

    /// Registers a listener with its machine. After an error the number is still the caller's.
    pub(crate) fn listener(machine: &Rc<Machine>, fd: Fd) -> io::Result<Descriptor> {
        Descriptor::register(machine, fd, ["accept", "write"], None, false)
    }

    /// Registers a socket of datagrams with its machine. After an error the number is still the caller's.
    pub(crate) fn datagrams(machine: &Rc<Machine>, fd: Fd) -> io::Result<Descriptor> {
        Descriptor::register(machine, fd, ["receive", "send"], None, false)
    }

    fn register(
        machine: &Rc<Machine>,
        fd: Fd,
        [read, write]: [&'static str; 2],
        ahead: Option<Ahead>,
        short_read_drains: bool,
    ) -> io::Result<Descriptor> {
        let socket = Rc::new(Socket {
            machine: machine.clone(),
            fd,
            key: Cell::new(None),
            read: Direction::new(read),
            write: Direction::new(write),
            seen: Cell::new(Events::NONE),
            short_read_drains,
            ahead,
            behind: Behind::default(),
            found: RefCell::default(),
            look_again: Cell::new(false),
        });
        let key = machine.poller.add(&*machine.kernel, fd, socket.clone())?;
        socket.key.set(Some(key));
        Ok(Descriptor(socket))
    }

    /// Takes the socket out of its machine.
    pub(crate) fn detach(self) -> io::Result<Arc<dyn Wake>> {
        self.here()?;
        let socket = &*self.0;
        if let Some(key) = socket.key.take() {
            socket.machine.poller.remove(&*socket.machine.kernel, socket.fd, key);
        }
        Ok(socket.machine.kernel.share(socket.fd))
    }
}

impl std::ops::Deref for Descriptor {
    type Target = Rc<Socket>;

    fn deref(&self) -> &Rc<Socket> {
        &self.0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let socket = &*self.0;
        let Some(key) = socket.key.take() else { return };
        let found = socket.take_connection().map(|(fd, _)| fd);
        if socket.here().is_ok() {
            if socket.behind.is_asked_for() {
                socket.write_behind();
            }
            socket.machine.poller.remove(&*socket.machine.kernel, socket.fd, key);
            // Whatever close answers, the descriptor is gone.
            let _ = socket.machine.kernel.close(socket.fd);
            let _ = found.map(|fd| socket.machine.kernel.close(fd));
        } else {
            socket.machine.close_elsewhere(socket.fd, key, found);
        }
    }
}

impl Socket {
    pub(crate) fn machine(&self) -> &Rc<Machine> {
        &self.machine
    }

    pub(crate) fn kernel(&self) -> &dyn Kernel {
        &*self.machine.kernel
    }

    pub(crate) fn fd(&self) -> Fd {
        self.fd
    }

    /// Whether the caller is on this socket's machine.
    pub(crate) fn here(&self) -> Result<(), Misuse> {
        if current::machine_address() == Rc::as_ptr(&self.machine) as usize {
            return Ok(());
        }
        Err(Misuse::OtherMachine)
    }

    /// Whether its descriptor is open and the machine's.
    pub(super) fn is_registered(&self) -> bool {
        self.key.get().is_some()
    }

    /// Whether a look has found something that nobody has taken.
    pub(crate) fn has_found(&self) -> bool {
        self.found.borrow().is_some()
    }

    pub(crate) fn keep_error(&self, errno: Errno) {
        self.found.replace(Some(Found::Error(errno)));
    }

    pub(super) fn take_error(&self) -> Option<Errno> {
        let found = self.found.borrow_mut().take_if(|found| matches!(found, Found::Error(_)));
        if let Some(Found::Error(errno)) = found { Some(errno) } else { None }
    }

    pub(super) fn keep_connection(&self, fd: Fd, peer: Address) {
        self.machine.poller.aside.set(self.machine.poller.aside.get() + 1);
        let before = self.found.replace(Some(Found::Connection(Box::new((fd, peer)))));
        debug_assert!(before.is_none(), "nobody looks while something is there");
    }

    fn take_connection(&self) -> Option<(Fd, Address)> {
        let found = self.found.borrow_mut().take_if(|found| matches!(found, Found::Connection(_)));
        let Some(Found::Connection(connection)) = found else { return None };
        self.machine.poller.aside.set(self.machine.poller.aside.get() - 1);
        Some(*connection)
    }

    /// A connection: one that was found, else the system's next.
    pub(super) fn accept_once(&self) -> kernel::Result<(Fd, Address)> {
        self.take_connection().map_or_else(|| self.kernel().accept4(self.fd), Ok)
    }

    /// Has those who watch the reading direction look again in the machine's next turn, when others have had theirs.
    pub(super) fn look_again_soon(self: &Rc<Self>) {
        if !self.look_again.replace(true) {
            self.put_off();
        }
    }

    /// Has the machine call `turn_ends`.
    pub(super) fn put_off(self: &Rc<Self>) {
        let socket = Rc::downgrade(self);
        self.machine.at_end_of_turn(socket);
    }

    pub(super) fn turn_has_ended(&self, machine: &Machine) {
        if self.look_again.take() {
            self.read.wake_watchers(machine);
        }
    }

    pub(crate) fn ahead(&self) -> Option<&Ahead> {
        self.ahead.as_ref()
    }

    /// The edges that make a direction of this socket ready: what its sleeper waits for.
    pub(crate) fn edges(&self, direction: &Direction) -> Events {
        if std::ptr::eq(direction, &self.read) { READABLE } else { WRITABLE }
    }

    /// Waits for the caller's turn to read (or to accept).
    pub(crate) fn reading(&self) -> io::Result<Turn<'_>> {
        Turn::take(self, &self.read)
    }

    /// Waits for the caller's turn to write.
    pub(crate) fn writing(&self) -> io::Result<Turn<'_>> {
        Turn::take(self, &self.write)
    }

    /// `recv(2)`, which on a socket costs less than `read(2)`: no file position, no file system on the way.
    pub(crate) fn read_from_system(&self, buf: &mut [u8]) -> kernel::Result<usize> {
        let count = self.kernel().recv(self.fd, buf, RecvFlags::default())?;
        self.note_count(count, buf.len());
        Ok(count)
    }

    /// `readv(2)`.
    pub(crate) fn readv_from_system(&self, bufs: &mut [IoSliceMut<'_>]) -> kernel::Result<usize> {
        let count = self.kernel().readv(self.fd, bufs)?;
        self.note_count(count, bufs.iter().map(|buf| buf.len()).sum());
        Ok(count)
    }

    fn note_count(&self, count: usize, asked: usize) {
        if self.short_read_drains && count < asked && count > 0 && !self.seen.get().intersects(STICKY) {
            self.read.drained();
        }
    }
}

impl Source for Socket {
    fn ready(&self, machine: &Machine, events: Events) {
        self.seen.set(self.seen.get().with(events.common(STICKY)));
        if events.intersects(READABLE) {
            if !self.read.wake(machine) && !self.read.is_taken() {
                self.read_ahead();
            }
            self.read.wake_watchers(machine);
        }
        if events.intersects(WRITABLE) {
            if !self.write.wake(machine) && !self.write.is_taken() {
                self.write_behind();
            }
            self.write.wake_watchers(machine);
        }
    }
}
