//! What was written and the system has not been given: what a layer above a stream has made, or small writes that are gathered.
//! Sent by writers before all else, else by the machine.
//!
//! The counterpart of `ahead.rs`: an edge that finds no writer in a call has the machine itself send, and so has the end of a call that
//! has not used its edge. A writer that gives up leaves its bytes here, and they go out as those do that are in the system's own buffer. An error of the machine's sending is
//! not kept: the next writer gets its own. An empty buffer is no buffer.
//!
//! Gathered are the writes of a stream for which that was asked, up to `limit` bytes: they leave when more come than that, when somebody
//! flushes, and at the latest in the machine's next turn, before it sleeps.
//!
//! *Marks*: a stream for which they were set takes bytes for a system that does not. Its writers return while fewer than `high` bytes are
//! left here; one that finds so many waits, until `low` are left.
//!
//! | bytes left | a writer |
//! |---|---|
//! | below `high` | leaves its own behind them, and goes on |
//! | `high` | waits: sends of them when the system takes some, until there are `low` |

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::descriptor::Socket;
use crate::io::{Buffer, POOL};
use crate::kernel::{self, Errno, SendFlags};
use crate::machine::{Late, Machine};

/// How often one sending may be interrupted: nothing else runs meanwhile.
const INTERRUPTIONS: u32 = 16;

/// See the head of the file. `None`: never used.
#[derive(Default)]
pub(crate) struct Behind {
    bytes: RefCell<Option<Buffer>>,
    /// How many bytes small writes gather; 0: none.
    pub(super) limit: Cell<usize>,
    /// How many bytes are left when a writer waits, and when it goes on; 0 and 0: no marks, and it waits for all.
    pub(super) marks: Cell<(usize, usize)>,
    /// The machine knows that there is something to be sent in this turn.
    told: Cell<bool>,
}

impl Behind {
    /// Moves all of `bytes` behind what is there.
    pub(crate) fn push(&self, bytes: &mut Buffer) {
        if !bytes.is_empty() {
            bytes.move_to(self.bytes.borrow_mut().get_or_insert_with(|| Buffer::new(POOL.get())));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.borrow().as_ref().is_none_or(Buffer::is_empty)
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.borrow().as_ref().map_or(0, Buffer::len)
    }

    /// Whether writers leave bytes here because somebody has asked for it.
    pub(super) fn is_asked_for(&self) -> bool {
        self.limit.get() > 0 || self.high().is_some()
    }

    /// The high mark, if there are marks.
    pub(crate) fn high(&self) -> Option<usize> {
        Some(self.marks.get().0).filter(|high| *high > 0)
    }

    /// How many bytes may be left when a writer goes on.
    pub(crate) fn allowed(&self) -> usize {
        match self.marks.get() {
            (high, _) if self.len() < high => high,
            (_, low) => low,
        }
    }

    /// Puts `bytes` behind what is there.
    pub(super) fn gather(&self, bytes: &[u8]) {
        self.bytes.borrow_mut().get_or_insert_with(|| Buffer::new(POOL.get())).extend(bytes);
    }

    /// Those that will have to wait move to a block of about their size.
    pub(crate) fn fit(&self) {
        self.bytes.borrow_mut().iter_mut().for_each(Buffer::fit);
    }

    pub(crate) fn take_all(&self) -> Vec<u8> {
        let buffer = self.bytes.borrow_mut().take();
        buffer.map_or(Vec::new(), |buffer| buffer.bytes().to_vec())
    }
}

impl Socket {
    /// Sends of what is left to be sent, once.
    pub(crate) fn send_behind(&self) -> kernel::Result<()> {
        let mut behind = self.behind.bytes.borrow_mut();
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

    /// Sends what whoever had the turn has left, unless another has it now, or the machine will.
    pub(super) fn write_left(&self) {
        if !self.behind.is_empty() && !self.behind.told.get() && !self.write.is_taken() {
            self.write_behind();
        }
    }

    /// Has the machine send what is gathered in this turn, if nobody does before.
    pub(super) fn send_soon(self: &Rc<Self>) {
        if !self.behind.told.replace(true) {
            self.machine().at_end_of_turn(self.clone());
        }
    }
}

impl Late for Socket {
    fn turn_ends(&self, machine: &Machine) {
        self.turn_has_ended(machine);
        self.behind.told.set(false);
        // Another descriptor may have this number by now.
        if self.is_registered() && !self.behind.is_empty() {
            self.write_behind();
            self.write.wake_watchers(machine);
        }
    }
}
