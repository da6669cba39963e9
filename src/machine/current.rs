//! The one thread-local of the library: eight bytes that say what this thread is.
//!
//! | slot | this thread |
//! |---|---|
//! | 0 | knows nothing of us: `run` here gives it the real kernel |
//! | pointer, low bit 1 | has a kernel and no machine: [`with_kernel`] is on its stack |
//! | pointer, low bit 0 | is a machine: the pointer is to its [`Machine`] |
//!
//! How it is read and written is in `slot`. Whoever switches between threads of a simulation swaps this slot ([`swap`]), and nothing else.

mod slot;

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

pub use self::slot::{get, swap};
pub use super::Waits;
pub use super::builder::Tuning;
use super::{Machine, State};
use crate::coroutine::Spares;
use crate::kernel::{Kernel, Linux};
use crate::shared::primitive;

/// What the slot points to, low bit set, while a thread has a kernel and no machine.
struct Bare {
    kernel: Rc<dyn Kernel>,
    starter: Rc<dyn Starter>,
    /// What the starter makes of the default.
    preempt: bool,
}

/// Whoever starts a thread, as far as machines on it go.
pub trait Starter {
    /// Has the last word on the tuning of every machine of the thread: so limits are shrunk from below, and no machine asks
    /// why its are small.
    fn retune(&self, tuning: &mut Tuning);
    /// Is told of a coroutine that panicked and that nobody joins.
    fn panic_lost(&self, coroutine: u64, name: &str);
    /// Ends the process, and nothing of it runs again: a machine cannot go on.
    fn abort(&self, why: &str) -> !;
    /// Where stacks of the thread's machines come from and go to, if the OS thread is not its own: others run there as well, come
    /// and go, and whoever runs them all has an [`AltStack`](crate::coroutine::overflow::AltStack) there.
    fn spares(&self) -> Option<Rc<Spares>> {
        None
    }
    /// What TLS on this thread draws its secrets from: an `Arc<rustls::crypto::CryptoProvider>`. `None`: the stock one.
    fn crypto(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
    /// Whether it wants the secrets of TLS connections, so that others can read what was said.
    fn wants_secrets(&self) -> bool {
        false
    }
    /// Is told one: a line of a key log, as NSS has it.
    fn secret(&self, line: &str) {
        let _ = line;
    }
    /// Is told of TLS that is to use another: `what` says whose and in what.
    fn foreign_crypto(&self, what: &str) {
        let _ = what;
    }
}

const BARE: usize = 1;

/// Restores the slot when a machine or a bare thread ends, also by a panic.
struct Restore(usize);

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: the value was in the slot when this guard was made, and what it points to lives in a frame further
        // down this stack (`with_kernel`, `enter`), so it is alive still.
        unsafe { swap(self.0) };
    }
}

/// Runs `f` on a thread whose system calls go to `kernel`: [`run`](crate::run) inside it uses this kernel. How a
/// kernel's thread begins.
pub fn with_kernel<R>(kernel: Rc<dyn Kernel>, starter: Rc<dyn Starter>, f: impl FnOnce() -> R) -> R {
    let mut tuning = Tuning::default();
    starter.retune(&mut tuning);
    hook_points(&tuning);
    let bare = Bare { kernel, starter, preempt: tuning.preempt };
    // SAFETY: `bare` outlives the guard, which is dropped first.
    let _restore = Restore(unsafe { swap(&raw const bare as usize | BARE) });
    f()
}

/// Runs `f` with `machine` as this thread's machine.
pub(crate) fn enter<R>(machine: &Rc<Machine>, f: impl FnOnce() -> R) -> R {
    // SAFETY: the caller's borrow keeps the machine alive until the guard has restored the slot.
    let _restore = Restore(unsafe { swap(Rc::as_ptr(machine) as usize) });
    f()
}

/// The address of this thread's machine, 0 if it has none: what pinned handles compare with theirs.
#[inline(always)]
pub(crate) fn machine_address() -> usize {
    let slot = get();
    if slot & BARE == 0 { slot } else { 0 }
}

/// This thread's machine, if it is one.
///
/// The lifetime is the caller's to keep short: within one call of the library, which runs on a coroutine of that machine.
#[inline(always)]
pub(crate) fn machine<'a>() -> Option<&'a Machine> {
    let address = machine_address();
    // SAFETY: the slot points to a machine only inside `enter`, whose caller holds it; everything that runs with that
    // slot runs further up on that thread's stack or on a stack of that machine, which `run` unwinds before it ends.
    unsafe { (address as *const Machine).as_ref() }
}

/// Keeps this thread's machine alive beyond the call.
#[inline]
pub(crate) fn machine_rc() -> Option<Rc<Machine>> {
    let machine: *const Machine = machine()?;
    // SAFETY: the pointer came from `Rc::as_ptr` in `enter`, and that `Rc` is alive.
    unsafe {
        Rc::increment_strong_count(machine);
        Some(Rc::from_raw(machine))
    }
}

/// The kernel that `run` uses on this thread: the one it was given, or the real one.
pub fn kernel() -> Rc<dyn Kernel> {
    let slot = get();
    if slot & BARE == 0 {
        return machine()
            .map_or_else(|| Rc::new(Linux::new()) as Rc<dyn Kernel>, |machine| machine.kernel.clone());
    }
    // SAFETY: the low bit is set.
    unsafe { bare(slot) }.kernel.clone()
}

/// # Safety
/// `slot` is this thread's, with the low bit set. The answer is for use within the call.
unsafe fn bare<'a>(slot: usize) -> &'a Bare {
    // SAFETY: a slot with the low bit points to the `Bare` of a `with_kernel` on this thread's stack.
    unsafe { &*((slot & !BARE) as *const Bare) }
}

/// Whoever started this thread, if it has not been the system itself.
pub(crate) fn starter() -> Option<Rc<dyn Starter>> {
    let slot = get();
    if slot & BARE != 0 {
        // SAFETY: the low bit is set.
        return Some(unsafe { bare(slot) }.starter.clone());
    }
    machine()?.starter.clone()
}

/// A machine begins on this thread: whoever started the thread may change its tuning, and is the answer.
pub(crate) fn retune(tuning: &mut Tuning) -> Option<Rc<dyn Starter>> {
    let slot = get();
    let starter = if slot & BARE != 0 {
        // SAFETY: the low bit is set.
        Some(unsafe { bare(slot) }.starter.clone())
    } else {
        None
    };
    starter.iter().for_each(|starter| starter.retune(tuning));
    hook_points(tuning);
    starter
}

/// From the first thread that wants it on, points of the program ask.
fn hook_points(tuning: &Tuning) {
    primitive::on_relax(|| kernel().sched_yield());
    if tuning.preempt {
        primitive::on_point(at_point);
    }
}

/// What a point between two operations on shared memory does: gives the processor away, if this thread is to.
#[cold]
fn at_point() {
    let slot = get();
    let (preempt, kernel) = if slot & BARE != 0 {
        // SAFETY: the low bit is set.
        let bare = unsafe { bare(slot) };
        (bare.preempt, &bare.kernel)
    } else if let Some(machine) = machine() {
        (machine.tuning.preempt, &machine.kernel)
    } else {
        return;
    };
    // Who unwinds must not be left in the middle of it.
    if preempt && !std::thread::panicking() {
        kernel.sched_yield();
    }
}

/// Tells of each coroutine of the machine behind `slot` that waits.
///
/// # Safety
/// As for [`describe`]. `tell` does not run anything of that machine.
pub unsafe fn for_each_wait(slot: usize, tell: &mut dyn FnMut(Waits<'_>)) {
    if slot == 0 || slot & BARE != 0 {
        return;
    }
    // SAFETY: the caller's promise.
    let machine = unsafe { &*(slot as *const Machine) };
    let Ok(slots) = machine.slots.try_borrow() else { return };
    for task in slots.iter().filter(|task| task.state.get() == State::Parked) {
        let reason = task.reason.get();
        let (what, number) = reason.parts();
        tell(Waits {
            id: task.header.id,
            name: task.header.name(),
            what,
            number,
            readiness: reason.readiness(),
            wait: task.ticket.get().number(),
            deadline: task.deadline.get(),
            // SAFETY: it is parked, and its thread is suspended while the caller looks.
            holder: unsafe { reason.holder() },
        });
    }
}

/// What the machine behind `slot` was sent by other machines and has not received: only they, or its own loop, can change that.
///
/// # Safety
/// As for [`describe`].
pub unsafe fn undelivered(slot: usize) -> Option<String> {
    if slot == 0 || slot & BARE != 0 {
        return None;
    }
    // SAFETY: the caller's promise.
    unsafe { &*(slot as *const Machine) }.undelivered()
}

/// The coroutine that runs on this thread, its number and name: for panic hooks. Not for keeping.
pub fn with_coroutine<R>(tell: impl FnOnce(u64, &str) -> R) -> Option<R> {
    let task = machine()?.running()?;
    Some(tell(task.header.id, task.header.name()))
}

/// What the coroutines of the machine behind `slot` are doing, for a report.
///
/// # Safety
/// `slot` came from [`swap`] on this OS thread, its machine still exists, and that machine's thread is suspended.
pub unsafe fn describe(slot: usize) -> Vec<super::CoroutineInfo> {
    if slot == 0 || slot & BARE != 0 {
        return Vec::new();
    }
    // A coroutine that has not begun asks for its machine, when it is resumed for its backtrace.
    // SAFETY: the caller's promise; what was in the slot is put back before this returns.
    let _restore = Restore(unsafe { swap(slot) });
    // SAFETY: the caller's promise.
    unsafe { &*(slot as *const Machine) }.coroutines()
}
