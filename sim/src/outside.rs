//! What an OS thread keeps outside of all worlds that run on it, one after the other or one inside the other.
//!
//! The only thread-local of the simulator, and no part of any simulation: stacks to use again, which world runs, what the panic
//! hook does, the pulse that the monitor watches. All simulated threads see the same, so nothing that a simulated
//! program could notice may go here.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use machinarium::coroutine::{Spares, Stacks, overflow::AltStack};

use crate::monitor::Pulse;
use crate::panics::{Hook, PanicNote};
use crate::world::Shared;

/// See the head of the file.
pub(crate) struct Outside {
    /// The stacks of worlds, and where an overflow is told from.
    pub(crate) stacks: OnceCell<(Rc<Stacks>, AltStack)>,
    /// What machines of worlds have for stacks of their own.
    pub(crate) spares: OnceCell<Rc<Spares>>,
    /// The world that runs.
    pub(crate) world: RefCell<Weak<Shared>>,
    pub(crate) hook: Cell<Hook>,
    /// What the hook has kept.
    pub(crate) panics: RefCell<Vec<PanicNote>>,
    pub(crate) pulse: OnceCell<Arc<Pulse>>,
}

thread_local! {
    static OUTSIDE: Outside = const {
        Outside {
            stacks: OnceCell::new(),
            spares: OnceCell::new(),
            world: RefCell::new(Weak::new()),
            hook: Cell::new(Hook::Pass),
            panics: RefCell::new(Vec::new()),
            pulse: OnceCell::new(),
        }
    };
}

/// Looks at this OS thread's.
///
/// # Panics
/// If the thread is at its end and has destroyed it.
pub(crate) fn with<R>(look: impl FnOnce(&Outside) -> R) -> R {
    OUTSIDE.with(look)
}

/// The same where the thread may be at its end: destructors and the panic hook.
pub(crate) fn try_with<R>(look: impl FnOnce(&Outside) -> R) -> Option<R> {
    OUTSIDE.try_with(look).ok()
}
