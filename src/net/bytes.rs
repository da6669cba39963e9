//! The bytes of a `TcpStream`: what reads and writes them, each call one turn of its direction.
//!
//! A call is one turn and has one timeout, however many system calls it takes, so that messages of two writers do not mix, and
//! a peer that sends a byte now and then holds nobody for longer. Reads take from `front` first: what an earlier call has
//! read and left; then from what the machine has read ahead; then from the system.
//!
//! Through std's traits the composed calls are the same ones; only `Write::write_all` cannot say how much it has written.

use std::fmt;
use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};

use super::descriptor::Socket;
use super::direction::Turn;
use super::duplex;
use super::stream::{Kind, Stream};
use crate::kernel::{self, SendFlags};

/// `IOV_MAX`.
const SLICES: usize = 1024;

impl<K: Kind> Stream<K> {
    /// Fills `buf`, or takes nothing: after an error the bytes that had come are still there to read.
    ///
    /// # Errors
    /// `UnexpectedEof` if the peer ends before; otherwise as every read.
    pub fn read_exact(&self, buf: &mut [u8]) -> io::Result<()> {
        duplex::read_exact(self, buf)
    }

    /// Reads up to and including the first `delimiter`, or all until the end, to the end of `buf`; returns how many bytes.
    /// After an error nothing was taken.
    ///
    /// Holds in memory what comes until the delimiter does, however much: put a limit on those who may send without one.
    ///
    /// # Errors
    /// As every read.
    pub fn read_until(&self, delimiter: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        duplex::read_until(self, delimiter, buf)
    }

    /// Reads without taking: the next read gets the same bytes.
    ///
    /// # Errors
    /// As every read.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        duplex::peek(self, buf)
    }

    /// Writes all of `buf`.
    ///
    /// # Errors
    /// [`WriteError`] says how many bytes had been written when it failed.
    pub fn write_all(&self, buf: &[u8]) -> Result<(), WriteError> {
        let mut written = 0;
        let result = (|| {
            let mut turn = self.descriptor.writing()?;
            while written < buf.len() {
                written += self.put(&mut turn, &buf[written..])?;
            }
            Ok(())
        })();
        result.map_err(|source| WriteError { written, source })
    }

    /// Bytes that have been read from the system and wait to be taken, also those that the machine has read ahead.
    pub fn buffered(&self) -> usize {
        self.front.borrow().len() + self.ahead().len()
    }

    /// Reads more into `front`. 0 is the end.
    pub(super) fn fill(&self, turn: &mut Turn<'_>) -> io::Result<usize> {
        if turn.would_block() {
            self.front.borrow_mut().fit();
        }
        turn.call(|socket| socket.fill_once(&mut self.front.borrow_mut()))
    }

    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut turn = self.descriptor.reading()?;
        if buf.is_empty() || !self.front.borrow().is_empty() {
            return Ok(self.front.borrow_mut().copy_to(buf));
        }
        turn.call(|socket| socket.read_once(buf))
    }

    fn receive_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let bufs = if bufs.len() > SLICES { &mut bufs[..SLICES] } else { bufs };
        let mut turn = self.descriptor.reading()?;
        if bufs.iter().all(|buf| buf.is_empty()) || !self.front.borrow().is_empty() {
            return Ok(self.front.borrow_mut().copy_to_all(bufs));
        }
        turn.call(|socket| socket.readv_once(bufs))
    }

    /// Sends of several pieces, or puts them off.
    pub(super) fn put_vectored(&self, turn: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = &bufs[..bufs.len().min(SLICES)];
        self.put_by(turn, bufs, |socket| {
            socket.kernel().sendmsg(socket.fd(), bufs, SendFlags::default(), None)
        })
    }

    /// Sends of `buf`, or puts it off.
    fn put(&self, turn: &mut Turn<'_>, buf: &[u8]) -> io::Result<usize> {
        self.put_by(turn, &[IoSlice::new(buf)], |socket| {
            socket.kernel().send(socket.fd(), buf, SendFlags::default())
        })
    }

    /// Gathers what is small; else sends of it by `call`, or with marks leaves as much behind as would have to wait.
    fn put_by(
        &self,
        turn: &mut Turn<'_>,
        bufs: &[IoSlice<'_>],
        call: impl Fn(&Socket) -> kernel::Result<usize>,
    ) -> io::Result<usize> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.makes_room(turn, length)? {
            return Ok(self.leave(bufs, length));
        }
        let behind = &self.descriptor.behind;
        let Some(high) = behind.high() else { return turn.call(call) };
        while !behind.is_empty() && turn.attempt(Socket::send_behind)?.is_some() {}
        let sent = if behind.is_empty() { turn.attempt(call)? } else { None };
        // One byte at least, also where the mark has come down since this waited for it.
        Ok(sent.unwrap_or_else(|| self.leave(bufs, high.saturating_sub(behind.len()).max(1))))
    }

    /// Sees to it that `more` bytes may be gathered, or else sent, or left behind.
    fn makes_room(&self, turn: &mut Turn<'_>, more: usize) -> io::Result<bool> {
        let (behind, limit) = (&self.descriptor.behind, self.descriptor.behind.limit.get());
        if behind.len() + more > limit {
            let allowed = behind.allowed();
            while behind.len() > allowed {
                turn.call(Socket::send_behind)?;
            }
        }
        Ok(more < limit && behind.len() + more <= limit)
    }

    /// Leaves bytes to be sent by the machine, up to `most`; how many.
    fn leave(&self, bufs: &[IoSlice<'_>], most: usize) -> usize {
        let mut left = 0;
        for buf in bufs {
            let part = buf.len().min(most - left);
            self.gather(&buf[..part]);
            left += part;
        }
        left
    }

    pub(super) fn gather(&self, buf: &[u8]) {
        self.descriptor.behind.gather(buf);
        self.descriptor.send_soon();
    }

    pub(super) fn send_gathered(&self) -> io::Result<()> {
        if self.descriptor.behind.is_empty() {
            return Ok(());
        }
        let mut turn = self.descriptor.writing()?;
        while !self.descriptor.behind.is_empty() {
            turn.call(Socket::send_behind)?;
        }
        Ok(())
    }

    pub(super) fn take_front(&self) -> Vec<u8> {
        let mut front = self.front.borrow_mut();
        let bytes = front.bytes().to_vec();
        front.consume(bytes.len());
        bytes
    }
}

/// Sends of `bufs` without waiting. `None`: it would have to.
pub(super) fn try_send(turn: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    let flags = SendFlags::default();
    let bufs = &bufs[..bufs.len().min(SLICES)];
    turn.attempt(|socket| match bufs {
        [buf] => socket.kernel().send(socket.fd(), buf, flags),
        bufs => socket.kernel().sendmsg(socket.fd(), bufs, flags, None),
    })
}

impl<K: Kind> Read for &Stream<K> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        Stream::read_exact(self, buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive_vectored(bufs)
    }
}

impl<K: Kind> Read for Stream<K> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        Stream::read_exact(self, buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive_vectored(bufs)
    }
}

impl<K: Kind> BufRead for Stream<K> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.front.get_mut().is_empty() {
            let mut turn = self.descriptor.reading()?;
            self.fill(&mut turn)?;
        }
        Ok(self.front.get_mut().bytes())
    }

    fn consume(&mut self, count: usize) {
        self.front.get_mut().consume(count);
    }

    fn read_until(&mut self, delimiter: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        Stream::read_until(self, delimiter, buf)
    }
}

impl<K: Kind> Write for &Stream<K> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.put(&mut self.descriptor.writing()?, buf)
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        Ok(Stream::write_all(self, buf)?)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.put_vectored(&mut self.descriptor.writing()?, bufs)
    }

    /// Sends what was put off ([`set_coalescing`](Stream::set_coalescing), [`set_high_water`](Stream::set_high_water)); else nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        self.send_gathered()
    }
}

impl<K: Kind> Write for Stream<K> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.put(&mut self.descriptor.writing()?, buf)
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        Ok(Stream::write_all(self, buf)?)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.put_vectored(&mut self.descriptor.writing()?, bufs)
    }

    /// Sends what was put off ([`set_coalescing`](Stream::set_coalescing), [`set_high_water`](Stream::set_high_water)); else nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        self.send_gathered()
    }
}

/// A `write_all` that failed part of the way.
#[derive(Debug)]
pub struct WriteError {
    /// Bytes that had been written.
    pub written: usize,
    /// Why no more were.
    pub source: io::Error,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} bytes: {}", self.written, self.source)
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> io::Error {
        error.source
    }
}
