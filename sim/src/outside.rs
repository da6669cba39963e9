//! What an OS thread keeps outside of all worlds that run on it, one after the other or one inside the other.
//!
//! No part of any simulation: stacks to use again, which world runs, what the panic hook does, the pulse that the monitor watches.
//! All simulated threads see the same, so nothing that a simulated program could notice may go here.
//!
//! With the [guard](crate::guard!), a simulated thread has thread-locals of its own, and is [`Lent`] those of the OS thread that it
//! needs: so the second thread-local of the simulator also says whose code runs, the simulated program's or the world's.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use machinarium::coroutine::{Spares, Stacks, overflow::AltStack};

use crate::guard::locals::Endings;
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

/// What a simulated thread with thread-locals of its own is lent, for as long as it runs.
#[derive(Clone, Copy)]
pub(crate) struct Lent {
    /// The OS thread's own.
    pub(crate) outside: &'static Outside,
    /// What is to be destroyed when the simulated thread ends.
    pub(crate) endings: &'static Endings,
}

thread_local! {
    // Without a destructor, so that it can be asked at any moment of a thread's life.
    static LENT: Place = const { Cell::new(None) };
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
    match LENT.get() {
        Some(lent) => look(lent.outside),
        None => OUTSIDE.with(look),
    }
}

/// The same where the thread may be at its end: destructors and the panic hook.
pub(crate) fn try_with<R>(look: impl FnOnce(&Outside) -> R) -> Option<R> {
    match LENT.get() {
        Some(lent) => Some(look(lent.outside)),
        None => OUTSIDE.try_with(look).ok(),
    }
}

/// What the simulated thread that runs is lent. `None`: its thread-locals are the OS thread's, or none runs.
pub(crate) fn lent() -> Option<Lent> {
    LENT.get()
}

/// Where among its thread-locals a thread has what it is lent.
pub(crate) type Place = Cell<Option<Lent>>;

/// This thread's.
pub(crate) fn place() -> *const Place {
    LENT.with(std::ptr::from_ref)
}
