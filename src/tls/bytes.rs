//! The bytes of a `TlsStream`: what reads and writes them, each call one turn of its direction, as a `TcpStream`'s.

use std::io::{self, BufRead, IoSlice, Read, Write};

use super::core::RECORD;
use super::stream::TlsStream;
use crate::io::{Buffer, POOL};
use crate::net::{Connected, Turn, WriteError, duplex};

impl<S: Connected> TlsStream<S> {
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
            let mut turn = self.io.descriptor().writing()?;
            while written < buf.len() {
                written += self.send(&mut turn, &buf[written..])?;
            }
            Ok(())
        })();
        result.map_err(|source| WriteError { written, source })
    }

    /// Bytes of plaintext that wait to be taken.
    pub fn buffered(&self) -> usize {
        self.core.borrow().plain.len()
    }

    fn reading(&self) -> io::Result<Turn<'_>> {
        self.io.descriptor().reading()
    }

    fn receive_into(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut turn = self.reading()?;
        if self.buffered() == 0 && !buf.is_empty() {
            self.more(&mut turn)?;
        }
        Ok(self.core.borrow_mut().plain.copy_to(buf))
    }

    /// Many small pieces are one record.
    pub(super) fn send_vectored(&self, turn: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        one_record(bufs, |record| self.send(turn, record))
    }
}

/// The bytes of `bufs` that go into one record, in one piece.
pub(super) fn one_record<T>(bufs: &[IoSlice<'_>], write: impl FnOnce(&[u8]) -> T) -> T {
    let mut some = bufs.iter().filter(|buf| !buf.is_empty());
    let first = some.next().map_or(&[][..], |buf| buf);
    if first.len() >= RECORD || some.next().is_none() {
        return write(&first[..first.len().min(RECORD)]);
    }
    let mut record = Buffer::new(POOL.get());
    for buf in bufs {
        record.extend(&buf[..buf.len().min(RECORD - record.len())]);
    }
    write(record.bytes())
}

macro_rules! read_and_write {
    ($stream:ty) => {
        impl<S: Connected> Read for $stream {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.receive_into(buf)
            }

            fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
                TlsStream::read_exact(self, buf)
            }
        }

        impl<S: Connected> Write for $stream {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.send(&mut self.io.descriptor().writing()?, buf)
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                Ok(TlsStream::write_all(self, buf)?)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.send_vectored(&mut self.io.descriptor().writing()?, bufs)
            }

            /// Waits until what a write has left that gave up is sent.
            fn flush(&mut self) -> io::Result<()> {
                self.send_rest()
            }
        }
    };
}

read_and_write!(TlsStream<S>);
read_and_write!(&TlsStream<S>);

impl<S: Connected> BufRead for TlsStream<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffered() == 0 {
            let mut turn = self.reading()?;
            self.more(&mut turn)?;
        }
        Ok(self.core.get_mut().plain.bytes())
    }

    fn consume(&mut self, count: usize) {
        self.core.get_mut().plain.consume(count);
    }

    fn read_until(&mut self, delimiter: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        TlsStream::read_until(self, delimiter, buf)
    }
}
