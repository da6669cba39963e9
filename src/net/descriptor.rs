//! A socket in its machine: an owned descriptor, registered once, with the one loop around every call on it.
//!
//! The call is tried first. `EAGAIN` clears the direction's readiness, and the caller sleeps until an edge sets it;
//! between the two nothing else runs on this machine, so no edge is lost. A short read clears it too, but only on TCP and
//! only while no RDHUP, HUP, ERR or PRI was seen: with one of those, what follows gives no second edge.
//!
//! Each direction is a lock, first in, first out: two readers are ordered, not an error.
//!
//! *Readahead*: an edge that finds no reader asleep has the machine itself read on into a pooled buffer, up to a limit,
//! so that data, the end and a reset are seen at once.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Misuse;
use crate::io::{Buffer, POOL};
use crate::kernel::Instant;
use crate::kernel::{self, Errno, Events, Fd, Kernel, Wake};
use crate::machine::{Key, Machine, Reason, Source, WaitList, Waiter, current};

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
    /// What the machine read ahead, and how that ended. `None`: this socket does not read ahead (a listener).
    ahead: Option<RefCell<Ahead>>,
}

/// One direction of a socket.
pub(crate) struct Direction {
    what: &'static str,
    ready: Cell<bool>,
    busy: Cell<bool>,
    queue: WaitList,
    sleeper: Cell<Option<Waiter>>,
    pub(crate) timeout: Cell<Option<Duration>>,
}

pub(crate) struct Ahead {
    pub(crate) buffer: Buffer,
    /// The error that a read ahead got, for the next reader.
    pub(crate) error: Option<Errno>,
    pub(crate) ended: bool,
}

impl Direction {
    fn new(what: &'static str) -> Direction {
        Direction {
            what,
            ready: Cell::new(true),
            busy: Cell::new(false),
            queue: WaitList::default(),
            sleeper: Cell::new(None),
            timeout: Cell::new(None),
        }
    }

    fn wake(&self, machine: &Machine) -> bool {
        self.ready.set(true);
        self.sleeper.take().is_some_and(|waiter| machine.wake(waiter))
    }
}

/// The right to use a direction, until dropped.
struct Turn<'a>(&'a Direction);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.queue.notify_one();
    }
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
    pub(crate) fn stream(machine: &Rc<Machine>, fd: Fd) -> io::Result<Descriptor> {
        let pool = POOL.get();
        pool.keep.set(machine.tuning.buffers);
        let ahead = Ahead { buffer: Buffer::new(pool), error: None, ended: false };
        Descriptor::register(machine, fd, "read", "write", Some(RefCell::new(ahead)))
    }

    /// Registers a listener with its machine. After an error the number is still the caller's.
    pub(crate) fn listener(machine: &Rc<Machine>, fd: Fd) -> io::Result<Descriptor> {
        Descriptor::register(machine, fd, "accept", "write", None)
    }

    fn register(
        machine: &Rc<Machine>,
        fd: Fd,
        read: &'static str,
        write: &'static str,
        ahead: Option<RefCell<Ahead>>,
    ) -> io::Result<Descriptor> {
        let socket = Rc::new(Socket {
            machine: machine.clone(),
            fd,
            key: Cell::new(None),
            read: Direction::new(read),
            write: Direction::new(write),
            seen: Cell::new(Events::NONE),
            ahead,
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
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let socket = &*self.0;
        let Some(key) = socket.key.take() else { return };
        if socket.here().is_ok() {
            socket.machine.poller.remove(&*socket.machine.kernel, socket.fd, key);
            // Whatever close answers, the descriptor is gone.
            let _ = socket.machine.kernel.close(socket.fd);
        } else {
            socket.machine.close_elsewhere(socket.fd, key);
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

    /// The loop around every call that may answer `EAGAIN`.
    pub(crate) fn call<T>(
        &self,
        direction: &Direction,
        mut call: impl FnMut(&Socket) -> kernel::Result<T>,
    ) -> io::Result<T> {
        self.here()?;
        self.machine.operation()?;
        let mut deadline = None;
        let _turn = self.take_turn(direction, &mut deadline)?;
        loop {
            if !direction.ready.get() && !self.has_ahead(direction) {
                self.sleep(direction, &mut deadline)?;
            }
            match call(self) {
                Ok(value) => return Ok(value),
                Err(Errno::AGAIN) => direction.ready.set(false),
                // Each interruption spends budget, so a storm of them cannot hold the machine.
                Err(Errno::INTR) => drop(self.machine.operation()?),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn has_ahead(&self, direction: &Direction) -> bool {
        std::ptr::eq(direction, &self.read)
            && self.ahead.as_ref().is_some_and(|ahead| {
                let ahead = ahead.borrow();
                !ahead.buffer.is_empty() || ahead.ended || ahead.error.is_some()
            })
    }

    fn take_turn<'a>(
        &self,
        direction: &'a Direction,
        deadline: &mut Option<Instant>,
    ) -> io::Result<Turn<'a>> {
        while direction.busy.get() {
            let at = self.deadline(direction, deadline);
            let reason = Reason::numbered("its turn on fd", i64::from(self.fd.raw()));
            if let Err(error) = direction.queue.wait(reason, at) {
                // A turn that was passed on in the same instant goes to the next.
                if !direction.busy.get() {
                    direction.queue.notify_one();
                }
                return Err(error.into());
            }
        }
        direction.busy.set(true);
        Ok(Turn(direction))
    }

    /// Sleeps until an edge makes the direction ready.
    fn sleep(&self, direction: &Direction, deadline: &mut Option<Instant>) -> io::Result<()> {
        let at = self.deadline(direction, deadline);
        let me = self.machine.running().ok_or(Misuse::NoMachine)?;
        let reason = Reason::ready(direction.what, self.fd, self.edges(direction));
        let waited = self.machine.wait(me, reason, at, |waiter| direction.sleeper.set(Some(waiter)));
        direction.sleeper.set(None);
        Ok(waited?)
    }

    /// When this call's own timeout ends: counted from its first wait, once.
    fn deadline(&self, direction: &Direction, deadline: &mut Option<Instant>) -> Instant {
        *deadline.get_or_insert_with(|| match direction.timeout.get() {
            Some(timeout) => self.machine.now() + timeout,
            None => Instant::FAR,
        })
    }

    /// Holds the reading direction, so that nobody reads, ahead or otherwise: a read would take the pending error of a
    /// connection that is being made.
    pub(crate) fn hold_reading(&self) -> impl Drop + '_ {
        self.read.busy.set(true);
        Turn(&self.read)
    }

    /// Sleeps until the socket becomes writable: a connection is made, or has failed.
    pub(crate) fn connected(&self) -> io::Result<()> {
        self.write.ready.set(false);
        self.sleep(&self.write, &mut None)
    }

    /// One read into `buf`: what was read ahead first, then the socket. Inside `call`.
    pub(crate) fn read_once(&self, buf: &mut [u8]) -> kernel::Result<usize> {
        if let Some(answer) = self.take_ahead(|ahead| ahead.copy_to(buf)) {
            return answer;
        }
        let asked = buf.len();
        let count = self.kernel().read(self.fd, buf)?;
        self.note_count(count, asked);
        Ok(count)
    }

    /// One read into `buffer`, as much as it has room for. Inside `call`.
    pub(crate) fn fill_once(&self, buffer: &mut Buffer) -> kernel::Result<usize> {
        if let Some(answer) = self.take_ahead(|ahead| {
            let count = ahead.len();
            if buffer.is_empty() {
                std::mem::swap(ahead, buffer);
            } else {
                buffer.extend(ahead.bytes());
                ahead.consume(count);
            }
            count
        }) {
            return answer;
        }
        buffer.fill(|room| {
            let asked = room.len();
            let count = self.kernel().read(self.fd, room)?;
            self.note_count(count, asked);
            Ok(count)
        })
    }

    /// What was read ahead, if there is any: bytes, then the error, then the end.
    fn take_ahead(&self, take: impl FnOnce(&mut Buffer) -> usize) -> Option<kernel::Result<usize>> {
        let mut ahead = self.ahead.as_ref()?.borrow_mut();
        if !ahead.buffer.is_empty() {
            return Some(Ok(take(&mut ahead.buffer)));
        }
        if let Some(errno) = ahead.error.take() {
            return Some(Err(errno));
        }
        ahead.ended.then_some(Ok(0))
    }

    fn note_count(&self, count: usize, asked: usize) {
        if count < asked && count > 0 && !self.seen.get().intersects(STICKY) {
            self.read.ready.set(false);
        }
    }

    /// Reads on into the pool's memory, on the root stack, because nobody else does.
    fn read_ahead(&self) {
        let Some(ahead) = &self.ahead else { return };
        let (high, limit) = (self.machine.tuning.readahead, self.machine.tuning.readahead_limit);
        let mut ahead = ahead.borrow_mut();
        while self.read.ready.get() && !ahead.ended && ahead.error.is_none() {
            let room = ahead.buffer.room();
            if ahead.buffer.len() >= high || room == 0 || ahead.buffer.pool().out() + room > limit {
                return;
            }
            let answer = ahead.buffer.fill(|room| {
                let asked = room.len();
                let count = self.kernel().read(self.fd, room)?;
                self.note_count(count, asked);
                Ok(count)
            });
            match answer {
                Ok(0) => ahead.ended = true,
                Ok(_) => {}
                Err(Errno::AGAIN) => self.read.ready.set(false),
                // The next reader tries again; the edge stays noted.
                Err(Errno::INTR) => return,
                Err(errno) => ahead.error = Some(errno),
            }
        }
    }

    /// The bytes and the state that were read ahead, taken out for a move to another machine.
    pub(crate) fn take_all_ahead(&self) -> (Vec<u8>, Option<Errno>, bool) {
        let Some(ahead) = &self.ahead else { return (Vec::new(), None, false) };
        let mut ahead = ahead.borrow_mut();
        let bytes = ahead.buffer.bytes().to_vec();
        ahead.buffer.consume(bytes.len());
        (bytes, ahead.error.take(), ahead.ended)
    }

    /// The opposite of `take_all_ahead`.
    pub(crate) fn put_ahead(&self, bytes: &[u8], error: Option<Errno>, ended: bool) {
        let mut ahead = self.ahead.as_ref().expect("streams read ahead").borrow_mut();
        ahead.buffer.extend(bytes);
        (ahead.error, ahead.ended) = (error, ended);
    }
}

impl Socket {
    /// The edges that make a direction of this socket ready: what its sleeper waits for.
    pub(crate) fn edges(&self, direction: &Direction) -> Events {
        if std::ptr::eq(direction, &self.read) { READABLE } else { WRITABLE }
    }
}

impl Source for Socket {
    fn ready(&self, machine: &Machine, events: Events) {
        self.seen.set(self.seen.get().with(events.common(STICKY)));
        if events.intersects(READABLE) && !self.read.wake(machine) && !self.read.busy.get() {
            self.read_ahead();
        }
        if events.intersects(WRITABLE) {
            self.write.wake(machine);
        }
    }
}
