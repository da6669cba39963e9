//! What has come on a connection and was not used yet: whole messages, and the beginning of the next.
//!
//! The buffers are the machine's, and a connection has one only while something is in it: a thousand clients that wait for their turn
//! need no thousand buffers.

use std::cell::RefCell;
use std::io;

use crate::message::{HEADER, Header};
use crate::wire::Wire;

/// The usual buffer. One message that must be held as a whole may need a larger one.
pub(crate) const SIZE: usize = 16 << 10;

/// How many unused buffers a machine keeps.
const KEPT: usize = 64;

machinarium::machine_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = RefCell::default();
}

/// See the head of the file.
#[derive(Default)]
pub(crate) struct Inbox {
    /// As long as there is room; `start..end` is used.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes bytes off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "only what is there can be used");
        self.start += count;
        if self.start == self.end {
            self.give_back();
        }
    }

    /// Reads once, after what is there. 0 is the end.
    pub(crate) fn fill(&mut self, wire: &Wire) -> io::Result<usize> {
        self.make_room();
        let result = wire.read(&mut self.buffer[self.end..]);
        self.end += result.as_ref().copied().unwrap_or(0);
        if self.start == self.end {
            self.give_back();
        }
        result
    }

    /// Whether it begins with a whole message.
    pub(crate) fn has_message(&self) -> io::Result<bool> {
        let header = Header::of(self.bytes())?;
        Ok(header.is_some_and(|header| self.bytes().len() >= header.total))
    }

    /// Whether it has no room for more: what it begins with is larger.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start >= SIZE
    }

    /// Reads until a whole message is there, and returns its kind and its body's end. `limit`: the longest that is accepted.
    pub(crate) fn message(&mut self, wire: &Wire, limit: usize) -> io::Result<Header> {
        loop {
            if let Some(header) = Header::of(self.bytes())? {
                if header.total > limit {
                    return Err(invalid(format!(
                        "a message of {} bytes where at most {limit} are expected",
                        header.total
                    )));
                }
                if self.bytes().len() >= header.total {
                    return Ok(header);
                }
            }
            if self.fill(wire)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes the message in front, which may be larger than the buffer, and returns its kind. `None`: the end.
    pub(crate) fn skip(&mut self, wire: &Wire) -> io::Result<Option<u8>> {
        let header = loop {
            match Header::of(self.bytes())? {
                Some(header) => break header,
                None if self.fill(wire)? == 0 => return Ok(None),
                None => {}
            }
        };
        let mut rest = header.total;
        loop {
            let here = rest.min(self.bytes().len());
            self.consume(here);
            rest -= here;
            if rest == 0 {
                return Ok(Some(header.kind));
            }
            if self.fill(wire)? == 0 {
                return Ok(None);
            }
        }
    }

    /// What is after the header of the message in front.
    pub(crate) fn body(&self, header: Header) -> &[u8] {
        &self.bytes()[HEADER..header.total]
    }

    fn make_room(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BUFFERS.with(|buffers| buffers.borrow_mut().pop()).unwrap_or_else(|| vec![0; SIZE]);
        }
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end * 2 > self.buffer.len() {
                let larger = self.buffer.len() * 2;
                self.buffer.resize(larger, 0);
            }
        }
    }

    fn give_back(&mut self) {
        (self.start, self.end) = (0, 0);
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == SIZE {
            BUFFERS.with(|buffers| {
                let mut buffers = buffers.borrow_mut();
                if buffers.len() < KEPT {
                    buffers.push(buffer);
                }
            });
        }
    }
}

/// What a peer sent that the protocol does not have.
pub(crate) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
