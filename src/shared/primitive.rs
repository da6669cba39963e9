//! What the files beside this one are made of: std's atomics here, loom's in `loom_tests`, which puts a file of its own
//! in this one's place. Nothing else in this folder names std's atomics, so a model that passes speaks of the real code.
//!
//! [`point`] stands before the operations on what threads share. In a simulation all threads of all machines are one
//! thread of the system, and these are the places where they take turns; on Linux the same hook provokes rare orders.
//! What a point does is not known here: whoever starts threads says so once, by [`on_point`].
//!
//! | between two points | |
//! |---|---|
//! | a simulated thread | runs alone, and is neither stalled nor killed there |
//! | so a lock of this folder (a word that others spin on: [`park`](super::park)'s Committing) | is taken and left between two points: a crash never falls inside, and nobody in a simulation ever finds it taken |
//! | what only loom tries | the orders of operations inside of such a lock |

use std::sync::OnceLock;

pub use std::hint::spin_loop;
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// Memory that is handed over: whoever the protocol around it says owns it now may touch it.
///
/// Its two methods are those of loom's, which checks that no two accesses overlap; std's would hide them.
#[derive(Debug, Default)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Memory that holds `value`.
    pub const fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// Lends the value for reading. Whoever uses the pointer answers for who else may be writing.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends the value for writing. Whoever uses the pointer answers for being alone.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// What a point does in this program, if anything. Not state: it is said once and is the same for all threads, which look
/// at what is their own.
static HOOK: OnceLock<fn()> = OnceLock::new();

/// Has every point of the program call `hook` from now on. The first one stays.
pub fn on_point(hook: fn()) {
    HOOK.get_or_init(|| hook);
}

/// Another thread may run here, between two operations on what threads share.
///
/// With `Tuning::preempt` this is a call of `sched_yield`; without, one predicted branch. Never inside a lock: see the
/// head of the file.
#[inline(always)]
pub fn point() {
    if let Some(hook) = HOOK.get() {
        hook();
    }
}

/// One turn of waiting for a thread that is inside of a lock of this folder, or between two operations of a commit: it is
/// running on another processor, or has been taken off one, and then this thread gives up its own.
///
/// `turns` counts the turns so far. Not a point: who waits may be inside of a lock himself.
#[inline]
pub fn relax(turns: u32) {
    match RELAX.get() {
        Some(relax) if turns >= SPINS => relax(),
        _ => spin_loop(),
    }
}

/// How a thread gives up its processor: a call to the kernel, which is not known here.
static RELAX: OnceLock<fn()> = OnceLock::new();

/// Has threads that wait for another inside of a lock call `relax` after a while. The first one stays.
pub fn on_relax(relax: fn()) {
    RELAX.get_or_init(|| relax);
}

/// About a microsecond: many times what anybody stays inside.
const SPINS: u32 = 100;
