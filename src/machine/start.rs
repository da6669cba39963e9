//! How a machine begins on another thread: what that thread tells whoever has started it, who waits for it.
//!
//! | phase | what is known | left by |
//! |---|---|---|
//! | BEGINS | the thread was made | `serves` -> SERVES, `fails`, and a drop -> FAILED |
//! | SERVES | the machine's first coroutine runs | - |
//! | FAILED | it never will; the error is there to be taken, and the thread is about to return | - |
//!
//! So whoever has a [`Handle`](super::Handle) has a machine that opens its letters, and what a system that is short of something
//! says to its thread is an error of the spawn.

use std::io;
use std::sync::Arc;

use super::Reason;
use super::block::{Attempt, Case, block_firmly};
use super::seat::Seat;
use crate::error::WaitError;
use crate::shared::line::Key;
use crate::shared::lock::Lock;
use crate::shared::watch::{Seen, Watched};

const BEGINS: u64 = 0;
const SERVES: u64 = 1;
const FAILED: u64 = 2;

struct Core {
    phase: Watched<Seat>,
    /// There before FAILED is.
    error: Lock<Option<io::Error>>,
}

/// The end of the new thread.
pub(super) struct Teller(Arc<Core>);

/// The end of whoever waits.
pub(super) struct Start {
    core: Arc<Core>,
    place: Option<Key>,
}

/// The two ends of one start.
pub(super) fn pair() -> (Teller, Start) {
    let core = Arc::new(Core { phase: Watched::new(BEGINS), error: Lock::new(None) });
    (Teller(core.clone()), Start { core, place: None })
}

impl Teller {
    /// The machine's first coroutine runs.
    pub(super) fn serves(&self) {
        self.tell(SERVES);
    }

    /// The machine has no loop, no stack or not its processors.
    pub(super) fn fails(&self, error: io::Error) {
        self.0.error.with(|place| *place = Some(error));
        self.tell(FAILED);
    }

    fn tell(&self, phase: u64) {
        if self.0.phase.update(|before| (before == BEGINS).then_some(phase)).is_ok() {
            self.0.phase.notify_all();
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.tell(FAILED);
    }
}

impl Start {
    /// Waits until the machine serves or has failed, out of reach of deadlines and cancellation.
    ///
    /// # Errors
    /// The outer one: it could not be waited for. The inner one: the machine's.
    pub(super) fn wait(mut self) -> Result<io::Result<()>, WaitError> {
        block_firmly(&mut self, || Reason::of("start machine"))?;
        if self.core.phase.get() == SERVES {
            return Ok(Ok(()));
        }
        let error = self.core.error.with(|place| place.take());
        Ok(Err(error.unwrap_or_else(|| io::Error::other("the machine's thread ended before it served"))))
    }
}

impl Case for Start {
    fn attempt(&mut self, me: Option<&Seat>) -> Attempt {
        match self.core.phase.look(BEGINS, me) {
            Seen::Changed => Attempt::Done,
            Seen::Same => Attempt::NotNow,
            Seen::Waits(key) => {
                self.place = Some(key);
                Attempt::Waits
            }
            Seen::Overtaken => Attempt::Overtaken,
        }
    }

    fn leave(&mut self) -> bool {
        self.place.take().is_some_and(|key| self.core.phase.leave(key))
    }
}
