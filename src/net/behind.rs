//! What a layer above a stream has made and the system has not taken: sent by writers before all else, else by the machine.
//!
//! The counterpart of `ahead.rs`: an edge that finds no writer in a call has the machine itself send. A writer that gives up
//! leaves its bytes here, and they go out as those do that are in the system's own buffer. An error of the machine's sending is
//! not kept: the next writer gets its own. An empty buffer is no buffer.

use std::cell::RefCell;

use super::descriptor::Socket;
use crate::io::{Buffer, POOL};
use crate::kernel::{self, Errno, SendFlags};

/// How often one sending may be interrupted: nothing else runs meanwhile.
const INTERRUPTIONS: u32 = 16;

/// See the head of the file. `None`: never used.
#[derive(Default)]
pub(crate) struct Behind(RefCell<Option<Buffer>>);

impl Behind {
    /// Moves all of `bytes` behind what is there.
    pub(crate) fn push(&self, bytes: &mut Buffer) {
        if !bytes.is_empty() {
            bytes.move_to(self.0.borrow_mut().get_or_insert_with(|| Buffer::new(POOL.get())));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().as_ref().is_none_or(Buffer::is_empty)
    }

    /// Those that will have to wait move to a block of about their size.
    pub(crate) fn fit(&self) {
        self.0.borrow_mut().iter_mut().for_each(Buffer::fit);
    }

    pub(crate) fn take_all(&self) -> Vec<u8> {
        let buffer = self.0.borrow_mut().take();
        buffer.map_or(Vec::new(), |buffer| buffer.bytes().to_vec())
    }
}

impl Socket {
    /// Sends of what is left to be sent, once.
    pub(crate) fn send_behind(&self) -> kernel::Result<()> {
        let mut behind = self.behind.0.borrow_mut();
        let Some(buffer) = behind.as_mut().filter(|buffer| !buffer.is_empty()) else { return Ok(()) };
        let count = self.kernel().send(self.fd(), buffer.bytes(), SendFlags::default())?;
        buffer.consume(count);
        Ok(())
    }

    /// Sends on, because nobody else does; never waits.
    pub(crate) fn write_behind(&self) {
        let mut interruptions = 0;
        while self.write.is_ready() && !self.behind.is_empty() {
            match self.send_behind() {
                Ok(()) => {}
                Err(Errno::AGAIN) => self.write.drained(),
                Err(Errno::INTR) if interruptions < INTERRUPTIONS => interruptions += 1,
                Err(_) => break,
            }
        }
        self.behind.fit();
    }
}
