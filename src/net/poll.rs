//! Streams, listeners and sockets as futures use them: what can be done at once, or a waker that is told when to try again.
//!
//! Made of the steps of a relay (`duplex.rs`), which never wait. A poll is one turn of its direction, if nobody has that; it begins and
//! ends within the poll.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use super::descriptor::Socket;
use super::direction::Turn;
use super::duplex::sealed::Duplex;
use super::ready::{Look, Readable, Writable};
use crate::error::{Misuse, has_gone};
use crate::machine::block::Case;

pub(super) fn read<D: Duplex + ?Sized>(
    stream: &D,
    context: &mut Context<'_>,
    buf: &mut [u8],
) -> Poll<io::Result<usize>> {
    if buf.is_empty() {
        return Poll::Ready(Ok(0));
    }
    let socket: &Socket = stream.descriptor();
    socket.read.poll(socket, context, |turn| stream.read_now(turn, buf))
}

/// Reads what is there for `take`, which says how much of it it has taken; nothing at the end.
#[cfg(feature = "hyper")]
pub(crate) fn show<D: super::duplex::Duplex>(
    stream: &D,
    context: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> usize,
) -> Poll<io::Result<()>> {
    let socket: &Socket = stream.descriptor();
    let filled = ready!(socket.read.poll(socket, context, |turn| stream.fill_now(turn)))?;
    if filled > 0 {
        let mut unread = stream.unread();
        let count = take(unread.bytes());
        unread.consume(count);
    }
    Poll::Ready(Ok(()))
}

pub(super) fn write<D: Duplex + ?Sized>(
    stream: &D,
    context: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if bufs.iter().all(|buf| buf.is_empty()) {
        return Poll::Ready(Ok(0));
    }
    let socket: &Socket = stream.descriptor();
    let write = |turn: &mut Turn<'_>| match send_all(socket, turn)? {
        Some(()) => stream.push(turn, bufs),
        None => Ok(None),
    };
    socket.write.poll(socket, context, write)
}

pub(super) fn flush<D: Duplex + ?Sized>(stream: &D, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    let socket: &Socket = stream.descriptor();
    socket.here()?;
    // Many flush at every poll. If that cost of the budget, there could be nothing left for what comes after it.
    if socket.behind.is_empty() {
        return Poll::Ready(Ok(()));
    }
    socket.write.poll(socket, context, |turn| send_all(socket, turn))
}

pub(super) fn close<D: Duplex + ?Sized>(stream: &D, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    let socket: &Socket = stream.descriptor();
    let closed = ready!(socket.write.poll(socket, context, |turn| say_end(stream, turn)));
    // Nobody is left to hear it.
    Poll::Ready(closed.or_else(|error| if has_gone(&error) { Ok(()) } else { Err(error) }))
}

fn say_end<D: Duplex + ?Sized>(stream: &D, turn: &mut Turn<'_>) -> io::Result<Option<()>> {
    let socket: &Socket = stream.descriptor();
    if send_all(socket, turn)?.is_none() {
        return Ok(None);
    }
    stream.say_end()?;
    if send_all(socket, turn)?.is_none() {
        return Ok(None);
    }
    socket.kernel().shutdown(socket.fd(), Shutdown::Write)?;
    Ok(Some(()))
}

/// Sends what is left of earlier writes. `None`: it would have to wait.
fn send_all(socket: &Socket, turn: &mut Turn<'_>) -> io::Result<Option<()>> {
    while !socket.behind.is_empty() {
        if turn.attempt(Socket::send_behind)?.is_none() {
            socket.behind.fit();
            return Ok(None);
        }
    }
    Ok(Some(()))
}

impl Readable<'_> {
    /// Whether a read or an accept would not wait; if it would, the waker is told when to ask again. Of two that poll one socket for
    /// this, or for bytes, the last is told.
    ///
    /// ```
    /// use machinarium::net::UdpSocket;
    /// use std::future::poll_fn;
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     theirs.send_to(b"hello", ours.local_addr()?)?;
    ///     let word = machinarium::block_on(async {
    ///         poll_fn(|context| ours.readable().poll(context)).await?;
    ///         let mut word = [0; 8];
    ///         let (count, _from) = ours.recv_from(&mut word)?; // does not wait
    ///         std::io::Result::Ok(word[..count].to_vec())
    ///     })??;
    ///     assert_eq!(word, b"hello");
    ///     Ok(())
    /// });
    /// result.unwrap();
    /// ```
    ///
    /// # Errors
    /// On another machine.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Misuse>> {
        let socket = self.socket();
        socket.here()?;
        ready!(socket.machine().poll_operation(context));
        match self.look() {
            Look::Ready => {
                socket.machine().polled();
                return Poll::Ready(Ok(()));
            }
            Look::Nothing => socket.read.poll_again(context.waker()),
            Look::Again => context.waker().wake_by_ref(),
            Look::Exhausted => {
                let machine = socket.machine();
                // Not taken back: at worst somebody is polled once for nothing.
                machine.alarms.set((self.due(), machine.next_id()), context.waker());
            }
        }
        Poll::Pending
    }
}

impl Writable<'_> {
    /// Whether, as far as is known, a write would not wait; if it would, the waker is told when to ask again. Of two that poll one
    /// socket for this, or to write, the last is told.
    ///
    /// # Errors
    /// On another machine.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Misuse>> {
        let socket = self.socket();
        socket.here()?;
        ready!(socket.machine().poll_operation(context));
        if self.is_ready() {
            socket.machine().polled();
            return Poll::Ready(Ok(()));
        }
        socket.write.poll_again(context.waker());
        Poll::Pending
    }
}
