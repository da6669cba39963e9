//! Big stacks: for C libraries and deep recursion, beside the small ones that let a machine have a million coroutines.
//!
//! A machine has two pools of stacks. Every coroutine begins on a small one, at whose top its control block lies, and goes to a
//! big one for as long as a call takes: [`on_big_stack`]. A coroutine that is started on a big stack ([`spawn_with`]) goes there
//! with the first step that it makes. It is the same coroutine there, with its deadline, cancellation, values and
//! budget; it may wait and be unwound as anywhere.

use std::panic::resume_unwind;

use super::handle::{JoinHandle, SpawnError};
use super::{Machine, current};
use crate::coroutine::{Lent, StackError};
use crate::error::Misuse;

/// Runs `f` on a big stack ([`Tuning::big_stack_size`](crate::Tuning), 8 MiB by default) and returns what it returns: for a
/// library that needs more than a coroutine's own stack, or for a recursion whose depth the data decides.
///
/// `f` borrows what it likes, waits as it likes, and panics as anywhere: the panic goes on in the caller. Each call, also one
/// made on a big stack, has a whole new one, so a recursion that makes it once in a while has no end but memory. It costs
/// about as much as two locks; only what is touched of the stack costs memory, and an idle machine gives it back. Backtraces
/// show both stacks (gdb may stop between them). Outside a coroutine `f` runs where it is: threads have big stacks.
///
/// # Panics
/// If no big stack can be had (then `f` has not run), and if `f` does.
///
/// ```
/// fn depth(of: u32) -> u32 {
///     let frame = std::hint::black_box([of; 1000]);
///     if of == 0 { 0 } else { 1 + depth(frame[999] - 1) }
/// }
/// let result: std::io::Result<u32> = machinarium::run(|| Ok(machinarium::on_big_stack(|| depth(1000))));
/// assert_eq!(result.unwrap(), 1000);
/// ```
pub fn on_big_stack<T>(f: impl FnOnce() -> T) -> T {
    try_on_big_stack(f).unwrap_or_else(|error| panic!("on_big_stack: {error}"))
}

/// As [`on_big_stack`], with an error if no stack can be had.
///
/// # Errors
/// [`StackError`]; `f` was dropped and has not run.
///
/// # Panics
/// If `f` does.
pub fn try_on_big_stack<T>(f: impl FnOnce() -> T) -> Result<T, StackError> {
    match current::machine().filter(|machine| machine.running().is_some()) {
        Some(machine) => Ok(BigStack(Lent::new(&machine.big_stacks)?).run(f)),
        None => Ok(in_place(f)),
    }
}

/// Runs `f` on a big stack if there is one, and else where it is: for what many coroutines do by turns, which then touches the same
/// memory for all of them, and none of their own stacks.
pub(crate) fn on_lent_stack<T>(f: impl FnOnce() -> T) -> T {
    let machine = current::machine().filter(|machine| machine.running().is_some());
    match machine.and_then(|machine| Lent::new(&machine.big_stacks).ok()) {
        Some(stack) => BigStack(stack).run(f),
        None => in_place(f),
    }
}

/// A frame of its own: inlined, those of `f` would be part of its caller's, on the small stack, whether it is called or not.
#[cold]
#[inline(never)]
fn in_place<T>(f: impl FnOnce() -> T) -> T {
    f()
}

/// How big a coroutine's stack is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum StackClass {
    /// [`Tuning::stack_size`](crate::Tuning): 256 KiB by default.
    #[default]
    Small,
    /// [`Tuning::big_stack_size`](crate::Tuning): 8 MiB by default. (It has a small one too.)
    Big,
}

/// What a coroutine is started with: see [`spawn_with`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SpawnOptions<'a> {
    pub(crate) name: &'a str,
    stack: StackClass,
}

impl<'a> SpawnOptions<'a> {
    /// No name, and a small stack.
    pub const fn new() -> SpawnOptions<'a> {
        SpawnOptions { name: "", stack: StackClass::Small }
    }

    /// A name for reports: its first 67 bytes.
    pub const fn name(self, name: &'a str) -> SpawnOptions<'a> {
        SpawnOptions { name, ..self }
    }

    /// How big the stack is.
    pub const fn stack(self, stack: StackClass) -> SpawnOptions<'a> {
        SpawnOptions { stack, ..self }
    }
}

/// As [`spawn`](crate::spawn()), with a name and a stack of one's choice.
///
/// # Errors
/// [`SpawnError`]: no machine, no stack, or a closure or result too large for a small stack. The closure is dropped.
///
/// ```
/// use machinarium::{SpawnOptions, StackClass, spawn_with};
///
/// let result: std::io::Result<u8> = machinarium::run(|| {
///     let options = SpawnOptions::new().name("image").stack(StackClass::Big);
///     let decoder = spawn_with(options, || std::hint::black_box([7u8; 1 << 20])[4711])?;
///     Ok(decoder.join()?)
/// });
/// assert_eq!(result.unwrap(), 7);
/// ```
pub fn spawn_with<T: 'static>(
    options: SpawnOptions<'_>,
    f: impl FnOnce() -> T + 'static,
) -> Result<JoinHandle<T>, SpawnError> {
    let machine = current::machine_rc().ok_or(SpawnError::Misuse(Misuse::NoMachine))?;
    match machine.big_stack_for(options)? {
        None => machine.start(options.name, None, f),
        Some(stack) => machine.start(options.name, None, move || stack.run(f)),
    }
}

/// A big stack for one call.
pub(crate) struct BigStack(Lent);

impl BigStack {
    /// Runs `f` there, as the running coroutine.
    pub(crate) fn run<T>(mut self, f: impl FnOnce() -> T) -> T {
        if let Some(me) = current::machine().and_then(|machine| machine.running()) {
            self.0.set_user(me.header.id, me.header.name());
        }
        let ended = self.0.run(f);
        drop(self);
        // An unwinding of the machine's goes on like a panic.
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Machine {
    /// The big stack of a coroutine to be, if it is to have one.
    pub(crate) fn big_stack_for(&self, options: SpawnOptions<'_>) -> Result<Option<BigStack>, SpawnError> {
        if options.stack == StackClass::Small {
            return Ok(None);
        }
        Lent::new(&self.big_stacks).map(|lent| Some(BigStack(lent))).map_err(SpawnError::Stack)
    }
}
