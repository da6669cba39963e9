//! What a relay asks of a stream: to give bytes, take bytes and end, each as far as that goes without waiting; and what messages
//! ask: to read on and to write, with waiting. And the composed reads of every stream, which are made of the latter.
//!
//! Sealed: the streams of this crate, plain and with TLS. The caller holds the turns of the stream. What a layer has made and
//! the system has not taken lies in `behind`, which the caller sends before it has anything more written.

use std::cell::RefMut;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use super::direction::Turn;
use super::stream::{Kind, Stream};
use super::{bytes, poll};
use crate::io::Buffer;

/// A stream of bytes both ways that [`relay`](super::relay()) can join to another, and that can carry
/// [messages](crate::message): a [`Stream`] or a `TlsStream` on one.
///
/// What a relay does without waiting, futures do too, by the `poll_` methods: none of them parks. They wait for both directions at once if
/// they are polled for both; of two that poll one direction, the last is woken. The stream's timeouts are not theirs, nor are
/// [`set_coalescing`](Stream::set_coalescing) and [`set_high_water`](Stream::set_high_water). On another machine they are errors.
///
/// ```
/// use machinarium::net::{Duplex, UnixStream};
/// use std::future::poll_fn;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (ours, theirs) = UnixStream::pair()?;
///     theirs.write_all(b"hello")?;
///     let mut word = [0; 5];
///     machinarium::block_on(poll_fn(|context| ours.poll_read(context, &mut word)))??;
///     assert_eq!(&word, b"hello");
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub trait Duplex: sealed::Duplex {
    /// Reads what is there. 0 is the end.
    ///
    /// # Errors
    /// As every read.
    fn poll_read(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        poll::read(self, context, buf)
    }

    /// Writes as much as is taken; with TLS that is encrypted and will be sent.
    ///
    /// # Errors
    /// As every write.
    fn poll_write(&self, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        poll::write(self, context, &[IoSlice::new(buf)])
    }

    /// The same of several pieces.
    ///
    /// # Errors
    /// As every write.
    fn poll_write_vectored(
        &self,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll::write(self, context, bufs)
    }

    /// Ready when all that was written is with the system.
    ///
    /// # Errors
    /// As every write.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll::flush(self, context)
    }

    /// Tells the peer that nothing more comes: with TLS by `close_notify`, then by the end of the writing half.
    ///
    /// # Errors
    /// As every write, but not that the peer has gone.
    fn poll_close(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll::close(self, context)
    }
}

impl<K: Kind> Duplex for Stream<K> {}

pub(crate) mod sealed {
    use super::{Buffer, IoSlice, RefMut, Turn, io};
    use crate::net::descriptor::Descriptor;

    /// What `Duplex` keeps to this crate.
    pub trait Duplex {
        fn descriptor(&self) -> &Descriptor;

        /// Moves up to `most` bytes to the end of `target`. 0 is the end; `None`: it would have to wait.
        fn pull(&self, reading: &mut Turn<'_>, target: &mut Buffer, most: usize)
        -> io::Result<Option<usize>>;

        /// The same into `buf`, which has room.
        fn read_now(&self, reading: &mut Turn<'_>, buf: &mut [u8]) -> io::Result<Option<usize>>;

        /// Sees to it that something is in `unread`; how much. 0 is the end; `None`: it would have to wait.
        fn fill_now(&self, reading: &mut Turn<'_>) -> io::Result<Option<usize>>;

        /// Writes some of `bufs`, which have some bytes; how many. `None`: it would have to wait. Nothing is in `behind`.
        fn push(&self, writing: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<Option<usize>>;

        /// Makes what tells the peer that nothing more comes, in `behind`. The writing half is shut down when that is sent.
        fn say_end(&self) -> io::Result<()>;

        /// What was read and not taken. Not to be kept over a wait.
        fn unread(&self) -> RefMut<'_, Buffer>;

        /// Reads more of it; may wait. 0 is the end.
        fn read_more(&self, reading: &mut Turn<'_>) -> io::Result<usize>;

        /// Writes some of `bufs`, which have some bytes; may wait.
        fn write_some(&self, writing: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    }
}

/// Fills `buf`, or takes nothing.
pub(crate) fn read_exact(stream: &impl sealed::Duplex, buf: &mut [u8]) -> io::Result<()> {
    let mut turn = stream.descriptor().reading()?;
    while stream.unread().len() < buf.len() {
        if stream.read_more(&mut turn)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    stream.unread().copy_to(buf);
    Ok(())
}

/// Reads up to and including the first `delimiter`, or to the end; or takes nothing.
pub(crate) fn read_until(
    stream: &impl sealed::Duplex,
    delimiter: u8,
    buf: &mut Vec<u8>,
) -> io::Result<usize> {
    let mut turn = stream.descriptor().reading()?;
    let mut seen = 0;
    let count = loop {
        let found = stream.unread().bytes()[seen..].iter().position(|byte| *byte == delimiter);
        if let Some(place) = found {
            break seen + place + 1;
        }
        seen = stream.unread().len();
        if stream.read_more(&mut turn)? == 0 {
            break seen;
        }
    };
    let mut unread = stream.unread();
    buf.extend_from_slice(&unread.bytes()[..count]);
    unread.consume(count);
    Ok(count)
}

/// Reads once, if nothing was read before, and takes nothing.
pub(crate) fn peek(stream: &impl sealed::Duplex, buf: &mut [u8]) -> io::Result<usize> {
    let mut turn = stream.descriptor().reading()?;
    if stream.unread().is_empty() && !buf.is_empty() {
        stream.read_more(&mut turn)?;
    }
    let unread = stream.unread();
    let count = unread.len().min(buf.len());
    buf[..count].copy_from_slice(&unread.bytes()[..count]);
    Ok(count)
}

impl<K: Kind> sealed::Duplex for Stream<K> {
    fn descriptor(&self) -> &super::descriptor::Descriptor {
        &self.descriptor
    }

    fn pull(&self, reading: &mut Turn<'_>, target: &mut Buffer, most: usize) -> io::Result<Option<usize>> {
        let mut front = self.front.borrow_mut();
        if !front.is_empty() {
            return Ok(Some(front.move_some(target, most)));
        }
        drop(front);
        reading.attempt(|socket| {
            target.fill(|room| {
                let most = most.min(room.len());
                socket.read_once(&mut room[..most])
            })
        })
    }

    fn read_now(&self, reading: &mut Turn<'_>, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.front.borrow().is_empty() {
            return Ok(Some(self.front.borrow_mut().copy_to(buf)));
        }
        reading.attempt(|socket| socket.read_once(buf))
    }

    fn fill_now(&self, reading: &mut Turn<'_>) -> io::Result<Option<usize>> {
        let unread = self.front.borrow().len();
        if unread > 0 {
            return Ok(Some(unread));
        }
        reading.attempt(|socket| socket.fill_once(&mut self.front.borrow_mut()))
    }

    fn push(&self, writing: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        bytes::try_send(writing, bufs)
    }

    fn say_end(&self) -> io::Result<()> {
        Ok(())
    }

    fn unread(&self) -> RefMut<'_, Buffer> {
        self.front.borrow_mut()
    }

    fn read_more(&self, reading: &mut Turn<'_>) -> io::Result<usize> {
        self.fill(reading)
    }

    fn write_some(&self, writing: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.put_vectored(writing, bufs)
    }
}
