//! Whether a socket has something to read, or takes something, as cases of a select.
//!
//! A case looks, and stands among the watchers of its direction when there is nothing. Edges, and the ends of others' calls, send
//! all watchers to look again; nothing is handed to them, so there is nothing to lose.
//!
//! Edges are told once, so only a look that tries proves that something is there. What that takes from the system is kept for the next
//! reader:
//!
//! | of | a look | keeps |
//! |---|---|---|
//! | a stream | reads ahead; where that is off, peeks | bytes, the end, an error |
//! | datagrams | peeks | an error |
//! | a listener | accepts | a connection, an error of the listener |
//! | TLS | reads, and lets rustls use it, until there is plaintext | what has come, used or not; an error |
//!
//! What others find there before the watcher reads is theirs: then its read waits, as any.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::descriptor::Socket;
use super::direction::Direction;
use super::stream::{Kind, Stream};
use super::udp::UdpSocket;
use super::unix_datagram::UnixDatagram;
use crate::error::WaitError;
use crate::kernel::{self, Errno, Instant, RecvFlags};
use crate::machine::block::{Attempt, Case, block_first};
use crate::machine::seat::Seat;
use crate::machine::{Reason, Waiter};

/// What can be read.
pub(crate) trait Inlet {
    /// Whose reading direction tells when to look again.
    fn socket(&self) -> &Rc<Socket>;
    /// Whether a read would not wait. On the socket's machine, while nobody is in one; never waits, and takes nothing from the next
    /// reader.
    fn look(&self) -> Look;
}

/// What a look has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// A read would not wait.
    Ready,
    /// It would, and an edge will tell.
    Nothing,
    /// Not everything: this look has lasted long enough.
    Again,
    /// The system is out of what is needed to see anything.
    Exhausted,
}

/// A socket that can be read, as a case of [`select`](crate::sync::select()): see [`Stream::readable`].
pub struct Readable<'a> {
    inlet: &'a dyn Inlet,
    /// When to look again if there is no edge: the system was out of something.
    retry: Instant,
    /// How long the next such pause is.
    pause: Duration,
}

/// A socket that can be written, as a case of [`select`](crate::sync::select()): see [`Stream::writable`].
pub struct Writable<'a> {
    socket: &'a Socket,
}

impl<K: Kind> Stream<K> {
    /// A case of [`select`](crate::sync::select()) that is chosen when a read would not wait: bytes (also those that were read
    /// ahead), the end or an error are there, and nobody else is in a read. On another machine it is chosen at once, and the read
    /// says what is wrong.
    ///
    /// ```
    /// use machinarium::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let (first, mut theirs) = (UnixStream::pair()?, UnixStream::pair()?);
    ///     std::io::Write::write_all(&mut theirs.0, b"x")?;
    ///     let which = machinarium::select! {
    ///         readable(first.1) => 1,
    ///         readable(theirs.1) => 2,
    ///         after(Duration::from_secs(5)) => 0,
    ///     }?;
    ///     assert_eq!(which, 2);
    ///     Ok(())
    /// });
    /// result.unwrap();
    /// ```
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(self)
    }

    /// A case of [`select`](crate::sync::select()) that is chosen when, as far as is known, a write would not wait: the system has
    /// not refused one since it last said that there is room, and nobody else is in a write.
    pub fn writable(&self) -> Writable<'_> {
        Writable::new(&self.descriptor)
    }
}

impl UdpSocket {
    /// As [`Stream::readable`]: chosen when a datagram or an error is there.
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(self)
    }

    /// As [`Stream::writable`].
    pub fn writable(&self) -> Writable<'_> {
        Writable::new(&self.descriptor)
    }
}

impl UnixDatagram {
    /// As [`Stream::readable`]: chosen when a datagram or an error is there.
    pub fn readable(&self) -> Readable<'_> {
        Readable::new(self)
    }

    /// As [`Stream::writable`]: chosen when a [`send`](Self::send) to the peer would not wait. Of the room that others have
    /// ([`send_to`](Self::send_to)) no event tells, and it says nothing.
    pub fn writable(&self) -> Writable<'_> {
        Writable::new(&self.descriptor)
    }
}

impl<K: Kind> Inlet for Stream<K> {
    fn socket(&self) -> &Rc<Socket> {
        &self.descriptor
    }

    fn look(&self) -> Look {
        if !self.front.borrow().is_empty() {
            return Look::Ready;
        }
        self.descriptor.read_ahead();
        if self.descriptor.has_ahead() { Look::Ready } else { self.descriptor.peek() }
    }
}

impl Inlet for UdpSocket {
    fn socket(&self) -> &Rc<Socket> {
        &self.descriptor
    }

    fn look(&self) -> Look {
        self.descriptor.peek()
    }
}

impl Inlet for UnixDatagram {
    fn socket(&self) -> &Rc<Socket> {
        &self.descriptor
    }

    fn look(&self) -> Look {
        self.descriptor.peek()
    }
}

impl Socket {
    fn peek(&self) -> Look {
        let flags = RecvFlags { peek: true, ..RecvFlags::default() };
        match self.read_for_next(|socket| socket.kernel().recv(socket.fd(), &mut [0; 1], flags)) {
            Err(look) => look,
            Ok(Ok(_)) => Look::Ready,
            Ok(Err(errno)) => {
                self.keep_error(errno);
                Look::Ready
            }
        }
    }

    /// Each call that a look may make; nothing else runs meanwhile.
    pub(crate) fn calls_of_a_look(&self) -> Range<u32> {
        0..self.machine().tuning.look.max(1)
    }

    /// Makes a call to read for whoever reads next, unless it would block. What it answers is that one's.
    pub(crate) fn read_for_next<T>(
        &self,
        mut call: impl FnMut(&Socket) -> kernel::Result<T>,
    ) -> Result<kernel::Result<T>, Look> {
        if self.read_would_block() {
            return Err(Look::Nothing);
        }
        for _ in self.calls_of_a_look() {
            match call(self) {
                Err(Errno::AGAIN) => {
                    self.read.drained();
                    return Err(Look::Nothing);
                }
                Err(Errno::INTR) => {}
                answer => return Ok(answer),
            }
        }
        Err(Look::Again)
    }
}

impl<'a> Readable<'a> {
    pub(crate) fn new(inlet: &'a dyn Inlet) -> Readable<'a> {
        Readable { inlet, retry: Instant::FAR, pause: Duration::ZERO }
    }

    /// Waits for it alone.
    ///
    /// ```
    /// use machinarium::net::{TcpListener, TcpStream};
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let _client = TcpStream::connect(listener.local_addr()?)?;
    ///     listener.readable().wait()?;
    ///     listener.accept().map(drop)
    /// });
    /// result.unwrap();
    /// ```
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation.
    pub fn wait(self) -> Result<(), WaitError> {
        self.wait_deadline(Instant::FAR)
    }

    /// As [`wait`](Self::wait), until `deadline` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_deadline(mut self, deadline: Instant) -> Result<(), WaitError> {
        block_first(&mut [&mut self], 0, Reason::of("readable"), deadline).map(drop)
    }

    pub(super) fn socket(&self) -> &'a Rc<Socket> {
        self.inlet.socket()
    }

    pub(super) fn look(&mut self) -> Look {
        let socket = self.inlet.socket();
        if socket.here().is_err() {
            return Look::Ready;
        }
        if socket.read.is_taken() {
            // Its end sends the watchers to look again.
            self.retry = Instant::FAR;
            return Look::Nothing;
        }
        if socket.has_found() {
            return Look::Ready;
        }
        let now = if self.retry == Instant::FAR { Instant::FAR } else { socket.machine().now() };
        if now < self.retry {
            return Look::Nothing;
        }
        let look = self.inlet.look();
        self.set_retry(look);
        look
    }

    /// Pauses are longer each time, as those of `accept`.
    fn set_retry(&mut self, look: Look) {
        self.retry = Instant::FAR;
        if look == Look::Exhausted {
            let machine = self.inlet.socket().machine();
            let (first, longest) = machine.tuning.accept_backoff;
            let pause = self.pause.max(first);
            self.retry = machine.now() + pause;
            self.pause = pause.saturating_mul(2).min(longest);
        }
    }
}

impl<'a> Writable<'a> {
    pub(crate) fn new(socket: &'a Socket) -> Writable<'a> {
        Writable { socket }
    }

    pub(super) fn socket(&self) -> &'a Socket {
        self.socket
    }

    pub(super) fn is_ready(&self) -> bool {
        let Socket { write, behind, .. } = self.socket;
        // What is left of a socket that is ready could not be sent: a write fails as soon.
        let takes = write.is_ready() || behind.high().is_some_and(|high| behind.len() < high);
        takes && !write.is_taken()
    }

    /// Waits for it alone.
    ///
    /// # Errors
    /// If the wait is ended by a deadline or a cancellation.
    pub fn wait(self) -> Result<(), WaitError> {
        self.wait_deadline(Instant::FAR)
    }

    /// As [`wait`](Self::wait), until `deadline` at most.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_deadline(mut self, deadline: Instant) -> Result<(), WaitError> {
        block_first(&mut [&mut self], 0, Reason::of("writable"), deadline).map(drop)
    }
}

/// What a look at a direction means to its case.
fn attempt(socket: &Socket, direction: &Direction, is_ready: bool, me: Option<&Seat>) -> Attempt {
    Attempt::of(is_ready, me, |me| {
        let task = socket.machine().running().expect("who waits for a socket of this machine is a coroutine");
        direction.watch(Waiter { task, ticket: me.ticket() });
        Attempt::Waits
    })
}

/// Leaves the watchers. What it waited for stays true: the next look finds it.
fn leave(socket: &Socket, direction: &Direction) -> bool {
    if socket.here().is_ok()
        && let Some(task) = socket.machine().running()
    {
        direction.unwatch(task);
    }
    false
}

impl Case for Readable<'_> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        let look = self.look();
        let socket = self.inlet.socket();
        // Who stands is woken to see the rest, and to have the moment of `retry` known.
        if me.is_some() && matches!(look, Look::Again | Look::Exhausted) {
            socket.look_again_soon();
        }
        attempt(socket, &socket.read, look == Look::Ready, me)
    }

    fn leave(&mut self) -> bool {
        let socket = self.inlet.socket();
        leave(socket, &socket.read)
    }

    fn due(&self) -> Instant {
        self.retry
    }
}

impl Case for Writable<'_> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        let is_ready = self.socket.here().is_err() || self.is_ready();
        attempt(self.socket, &self.socket.write, is_ready, me)
    }

    fn leave(&mut self) -> bool {
        leave(self.socket, &self.socket.write)
    }
}

impl fmt::Debug for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readable").field("fd", &self.inlet.socket().fd()).finish()
    }
}

impl fmt::Debug for Writable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("fd", &self.socket.fd()).finish()
    }
}
