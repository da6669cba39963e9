//! What a stream has read that nobody has taken: read by the machine before anyone asked, then by readers.
//!
//! *Readahead*: an edge that finds no reader in a call has the machine itself read on into a pooled buffer, up to the
//! stream's limit and the machine's, so that data, the end and a reset are seen at once. A reader takes the bytes first,
//! then the error, then the end. An empty buffer is no buffer, so an idle stream holds none.

use std::cell::{Cell, RefCell};
use std::io::IoSliceMut;
use std::rc::Rc;

use super::descriptor::Socket;
use crate::io::{Buffer, POOL};
use crate::kernel::{self, Errno};
use crate::machine::Machine;

/// How often one reading ahead may be interrupted: nothing else runs meanwhile.
const INTERRUPTIONS: u32 = 16;

/// See the head of the file.
pub(crate) struct Ahead {
    state: RefCell<State>,
    /// The machine reads on while it has fewer bytes than this.
    pub(crate) limit: Cell<usize>,
}

struct State {
    buffer: Buffer,
    end: Option<End>,
}

/// What comes after the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// An error that a read ahead got, for the next reader.
    Error(Errno),
    /// The peer has sent all that it will.
    Closed,
}

/// All that was read and not taken, on its way to another machine.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) bytes: Vec<u8>,
    end: Option<End>,
}

impl Ahead {
    pub(crate) fn new(machine: &Rc<Machine>) -> Ahead {
        let pool = POOL.get();
        pool.keep.set(machine.tuning.buffers);
        let state = RefCell::new(State { buffer: Buffer::new(pool), end: None });
        Ahead { state, limit: Cell::new(machine.tuning.readahead) }
    }

    /// How many bytes wait for a reader.
    pub(crate) fn len(&self) -> usize {
        self.state.borrow().buffer.len()
    }

    /// Whether there is something for a reader.
    fn has_some(&self) -> bool {
        self.len() > 0 || self.state.borrow().end.is_some()
    }

    /// What a reader gets, if there is anything: bytes, then the error, once, then the end.
    fn take(&self, take: impl FnOnce(&mut Buffer) -> usize) -> Option<kernel::Result<usize>> {
        let mut state = self.state.borrow_mut();
        if !state.buffer.is_empty() {
            return Some(Ok(take(&mut state.buffer)));
        }
        match state.end? {
            End::Closed => Some(Ok(0)),
            End::Error(errno) => {
                state.end = None;
                Some(Err(errno))
            }
        }
    }

    pub(crate) fn take_all(&self) -> Unread {
        let mut state = self.state.borrow_mut();
        let bytes = state.buffer.bytes().to_vec();
        state.buffer.consume(bytes.len());
        Unread { bytes, end: state.end.take() }
    }

    /// Puts an error behind the bytes, which comes to whoever reads them.
    pub(super) fn put_error(&self, errno: Errno) {
        self.state.borrow_mut().end = Some(End::Error(errno));
    }

    /// The opposite of `take_all`.
    pub(crate) fn put(&self, unread: &Unread) {
        let mut state = self.state.borrow_mut();
        state.buffer.extend(&unread.bytes);
        state.end = unread.end;
    }
}

impl Socket {
    /// Whether a reader need not ask the system.
    pub(crate) fn has_ahead(&self) -> bool {
        self.ahead().is_some_and(Ahead::has_some)
    }

    /// Whether a read would have to wait, as far as is known.
    pub(crate) fn read_would_block(&self) -> bool {
        !(self.read.is_ready() || self.has_ahead() || self.has_found())
    }

    /// One read into `buf`: what was read ahead, else from the system.
    pub(crate) fn read_once(&self, buf: &mut [u8]) -> kernel::Result<usize> {
        match self.ahead().and_then(|ahead| ahead.take(|bytes| bytes.copy_to(buf))) {
            Some(answer) => answer,
            None => self.read_from_system(buf),
        }
    }

    /// The same into several.
    pub(crate) fn readv_once(&self, bufs: &mut [IoSliceMut<'_>]) -> kernel::Result<usize> {
        match self.ahead().and_then(|ahead| ahead.take(|bytes| bytes.copy_to_all(bufs))) {
            Some(answer) => answer,
            None => self.readv_from_system(bufs),
        }
    }

    /// One read into `buffer`, as much as it has room for.
    pub(crate) fn fill_once(&self, buffer: &mut Buffer) -> kernel::Result<usize> {
        match self.ahead().and_then(|ahead| ahead.take(|bytes| bytes.move_to(buffer))) {
            Some(answer) => answer,
            None => buffer.fill(|room| self.read_from_system(room)),
        }
    }

    /// Reads on, on the root stack, because nobody else does.
    pub(crate) fn read_ahead(&self) {
        let Some(ahead) = self.ahead() else { return };
        let mut state = ahead.state.borrow_mut();
        let mut interruptions = 0;
        while self.read.is_ready() && state.end.is_none() && self.may_hold_more(ahead, &state.buffer) {
            let room = ahead.limit.get() - state.buffer.len();
            let answer = state.buffer.fill(|free| {
                let most = free.len().min(room);
                self.read_from_system(&mut free[..most])
            });
            match answer {
                Ok(0) => state.end = Some(End::Closed),
                Ok(_) => {}
                Err(Errno::AGAIN) => self.read.drained(),
                Err(Errno::INTR) if interruptions < INTERRUPTIONS => interruptions += 1,
                // The next reader tries again; the edge stays noted.
                Err(Errno::INTR) => break,
                Err(errno) => state.end = Some(End::Error(errno)),
            }
        }
        state.buffer.fit();
    }

    fn may_hold_more(&self, ahead: &Ahead, buffer: &Buffer) -> bool {
        let out = buffer.pool().out() + buffer.next_block();
        buffer.len() < ahead.limit.get() && out <= self.machine().tuning.readahead_limit
    }
}
