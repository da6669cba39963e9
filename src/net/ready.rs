//! Whether a socket has something to read, or takes something, as cases of a select.
//!
//! A case looks, and stands among the watchers of its direction when there is nothing. Edges, and the ends of others' calls, send
//! all watchers to look again; nothing is handed to them, so there is nothing to lose. To look is to read ahead; where that is off,
//! to peek. What a look finds, an error too, is there for the next reader.
//!
//! What others find there before the watcher reads is theirs: then its read waits, as any.

use std::cell::RefCell;
use std::fmt;

use super::descriptor::Socket;
use super::direction::Direction;
use super::stream::{Kind, Stream};
use super::udp::UdpSocket;
use super::unix_datagram::UnixDatagram;
use crate::io::Buffer;
use crate::kernel::{Errno, RecvFlags};
use crate::machine::Waiter;
use crate::machine::block::{Attempt, Case};
use crate::machine::seat::Seat;
use crate::shared::line::Waiter as _;

/// How often one look may be interrupted: nothing else runs meanwhile.
const INTERRUPTIONS: u32 = 16;

/// A socket that can be read, as a case of [`select`](crate::sync::select()): see [`Stream::readable`].
pub struct Readable<'a> {
    socket: &'a Socket,
    /// What an earlier call has left.
    front: Option<&'a RefCell<Buffer>>,
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
        Readable { socket: &self.descriptor, front: Some(&self.front) }
    }

    /// A case of [`select`](crate::sync::select()) that is chosen when, as far as is known, a write would not wait: the system has
    /// not refused one since it last said that there is room, and nobody else is in a write.
    pub fn writable(&self) -> Writable<'_> {
        Writable { socket: &self.descriptor }
    }
}

impl UdpSocket {
    /// As [`Stream::readable`]: chosen when a datagram or an error is there.
    pub fn readable(&self) -> Readable<'_> {
        Readable { socket: &self.descriptor, front: None }
    }

    /// As [`Stream::writable`].
    pub fn writable(&self) -> Writable<'_> {
        Writable { socket: &self.descriptor }
    }
}

impl UnixDatagram {
    /// As [`Stream::readable`]: chosen when a datagram or an error is there.
    pub fn readable(&self) -> Readable<'_> {
        Readable { socket: &self.descriptor, front: None }
    }
}

impl Readable<'_> {
    fn is_ready(&self) -> bool {
        let socket = self.socket;
        if socket.here().is_err() || self.front.is_some_and(|front| !front.borrow().is_empty()) {
            return true;
        }
        !socket.read.is_taken() && socket.can_be_read()
    }
}

impl Socket {
    /// Whether a read would not wait. Nobody is in one.
    fn can_be_read(&self) -> bool {
        self.read_ahead();
        if self.has_ahead() || self.has_found() {
            return true;
        }
        let mut interruptions = 0;
        while self.read.is_ready() {
            match self.kernel().recv(self.fd(), &mut [0; 1], RecvFlags { peek: true, ..RecvFlags::default() })
            {
                Ok(_) => return true,
                Err(Errno::AGAIN) => self.read.drained(),
                Err(Errno::INTR) if interruptions < INTERRUPTIONS => interruptions += 1,
                Err(Errno::INTR) => return true,
                Err(errno) => {
                    self.keep_found(errno);
                    return true;
                }
            }
        }
        false
    }
}

/// One look of a case at a direction.
fn attempt(socket: &Socket, direction: &Direction, is_ready: bool, me: Option<&Seat>) -> Attempt {
    match (me, is_ready) {
        (None, true) => Attempt::Done,
        (None, false) => Attempt::NotNow,
        (Some(me), true) if me.withdraw() => Attempt::Done,
        (Some(_), true) => Attempt::Overtaken,
        (Some(me), false) => {
            let task =
                socket.machine().running().expect("who waits for a socket of this machine is a coroutine");
            direction.watch(Waiter { task, ticket: me.ticket() });
            Attempt::Waits
        }
    }
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
        attempt(self.socket, &self.socket.read, self.is_ready(), me)
    }

    fn leave(&mut self) -> bool {
        leave(self.socket, &self.socket.read)
    }
}

impl Case for Writable<'_> {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        let socket = self.socket;
        let takes = match socket.behind.high() {
            Some(high) => socket.behind.len() < high,
            None => socket.write.is_ready() && socket.behind.is_empty(),
        };
        let free = takes && !socket.write.is_taken();
        attempt(socket, &socket.write, free || socket.here().is_err(), me)
    }

    fn leave(&mut self) -> bool {
        leave(self.socket, &self.socket.write)
    }
}

impl fmt::Debug for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readable").field("fd", &self.socket.fd()).finish()
    }
}

impl fmt::Debug for Writable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("fd", &self.socket.fd()).finish()
    }
}
