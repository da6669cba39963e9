//! A second stack for a flow of control that has one: lent for one call, or for several.
//!
//! No switch happens: the call enters `f` with the stack pointer moved, and comes back from it as any call does. Whoever runs
//! is the same coroutine before, in and after it, so all that it may do elsewhere it may do there, be suspended too: what is
//! saved then is a stack pointer like any other. Unwind information leads from the second stack back to the first
//! (see `arch::call_on`), so a backtrace shows both. A panic is caught on the stack on which it began.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

#[cfg(not(feature = "sanitize"))]
use super::arch::call_on;
#[cfg(feature = "sanitize")]
use super::sanitize::call_on;
use super::stack::{Stack, StackError, Stacks};

/// A stack of a pool, given back when dropped.
pub struct Lent {
    stacks: Rc<Stacks>,
    /// `None` only while it is being given back.
    stack: Option<Stack>,
}

/// What is to be run, later its end.
enum Call<F, T> {
    Todo(F),
    Running,
    Done(std::thread::Result<T>),
}

impl Lent {
    /// Takes a stack from the pool.
    ///
    /// # Errors
    /// As for [`Stacks::allocate`].
    pub fn new(stacks: &Rc<Stacks>) -> Result<Lent, StackError> {
        let stack = Some(stacks.allocate()?);
        Ok(Lent { stacks: stacks.clone(), stack })
    }

    /// Says whose it is, for the report of an overflow.
    pub fn set_user(&mut self, id: u64, name: &str) {
        let header = self.stack.as_ref().expect("it is here until dropped").header();
        // SAFETY: the header of a live stack, which nobody else has.
        let header = unsafe { &mut *header };
        header.id = id;
        header.set_name(name);
    }

    /// Runs `f` on it. `f` may be suspended there; how it ended comes back, a panic too.
    pub fn run<F: FnOnce() -> T, T>(&mut self, f: F) -> std::thread::Result<T> {
        let top = self.stack.as_ref().expect("it is here until dropped").top();
        let mut call = Call::Todo(f);
        // SAFETY: the stack is live and this is its only user, by `&mut self`, until the call returns: it is not left before, since
        // whoever suspends a flow of control continues or unwinds it, or never touches its stacks again (`arch::switch`).
        // `call` is of the types that `enter` expects, and outlives it. `top` is a multiple of 64.
        unsafe { call_on(top, enter::<F, T>, (&raw mut call).cast()) };
        let Call::Done(result) = call else { unreachable!("the call has returned") };
        result
    }
}

/// # Safety
/// `call` points to a `Call<F, T>` that nobody else uses.
unsafe extern "C" fn enter<F: FnOnce() -> T, T>(call: *mut u8) {
    // SAFETY: the caller's promise.
    let call = unsafe { &mut *call.cast::<Call<F, T>>() };
    let Call::Todo(f) = std::mem::replace(call, Call::Running) else { unreachable!("a call is made once") };
    *call = Call::Done(catch_unwind(AssertUnwindSafe(f)));
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(stack) = self.stack.take() {
            // SAFETY: it came from this pool. `run` borrows `self` as long as anything is on the stack.
            unsafe { self.stacks.release(stack) };
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.stack).finish()
    }
}
