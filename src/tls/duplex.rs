//! A `TlsStream` as a relay uses it, each step as far as it goes without waiting, and as messages do.

use std::cell::RefMut;
use std::io::{self, IoSlice};

use super::bytes::one_record;
use super::core::Want;
use super::stream::TlsStream;
use crate::error::is_of_caller;
use crate::io::Buffer;
use crate::net::{Connected, Descriptor, Duplex, SealedDuplex, Socket, Turn};

impl<S: Connected> Duplex for TlsStream<S> {}

impl<S: Connected> SealedDuplex for TlsStream<S> {
    fn descriptor(&self) -> &Descriptor {
        self.io.descriptor()
    }

    fn pull(&self, reading: &mut Turn<'_>, target: &mut Buffer, most: usize) -> io::Result<Option<usize>> {
        self.pull_by(reading, |plain| plain.move_some(target, most))
    }

    fn read_now(&self, reading: &mut Turn<'_>, buf: &mut [u8]) -> io::Result<Option<usize>> {
        self.pull_by(reading, |plain| plain.copy_to(buf))
    }

    fn fill_now(&self, reading: &mut Turn<'_>) -> io::Result<Option<usize>> {
        self.pull_by(reading, |plain| plain.len())
    }

    fn push(&self, writing: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        if writing.would_block() {
            return Ok(None);
        }
        let count = one_record(bufs, |record| {
            self.make(Want::Encrypt(record))?;
            io::Result::Ok(record.len())
        })?;
        match writing.attempt(Socket::send_behind) {
            Err(error) if !is_of_caller(&error) => Err(error),
            // What was encrypted is written, whoever sends it.
            _ => Ok(Some(count)),
        }
    }

    fn say_end(&self) -> io::Result<()> {
        let closed = self.core.borrow().life.closed;
        if closed { Ok(()) } else { self.make(Want::CloseNotify) }
    }

    fn unread(&self) -> RefMut<'_, Buffer> {
        RefMut::map(self.core.borrow_mut(), |core| &mut core.plain)
    }

    fn read_more(&self, reading: &mut Turn<'_>) -> io::Result<usize> {
        self.more(reading)
    }

    fn write_some(&self, writing: &mut Turn<'_>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_vectored(writing, bufs)
    }
}

impl<S: Connected> TlsStream<S> {
    /// Has `take` take plaintext, when there is some; how much. 0 is the end; `None`: it would have to wait.
    fn pull_by(
        &self,
        reading: &mut Turn<'_>,
        mut take: impl FnMut(&mut Buffer) -> usize,
    ) -> io::Result<Option<usize>> {
        loop {
            let result = self.advance(Want::Nothing);
            let (count, closed) = {
                let mut core = self.core.borrow_mut();
                (take(&mut core.plain), core.life.peer_closed)
            };
            // What came before an error is read before it.
            if count > 0 {
                return Ok(Some(count));
            }
            if let Err(error) = result {
                self.io.descriptor().write_behind();
                return Err(error.into());
            }
            if closed {
                return Ok(Some(0));
            }
            match reading.attempt(|socket| socket.fill_once(&mut self.core.borrow_mut().incoming))? {
                Some(0) => return Ok(Some(self.core.borrow_mut().end()?)),
                Some(_) => {}
                None => {
                    self.fit_before_wait();
                    return Ok(None);
                }
            }
        }
    }
}
