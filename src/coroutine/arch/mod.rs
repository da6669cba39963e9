//! What an architecture must provide: one file, seven names. There are x86-64 and aarch64.
//!
//! - [`Context`]: the registers of a flow of control that is not running, beyond those that the compiler is told are
//!   clobbered. At most one half of a cache line, since it lies in the first line of every control block.
//! - [`switch`]`(from, to)`: saves the running flow of control into `from` and continues `to`. Inlined into its caller.
//!   It pushes nothing, and the saved program counter is a place inside the caller, so the caller's unwind information
//!   holds there. It is left by an indirect jump, never by a return: the processor predicts a return by the call that
//!   it saw last, which after a change of stacks is always the wrong one (9 ns instead of 1.4).
//! - [`leave`]`(to)`: continues `to` and saves nothing, for a flow of control that has ended.
//! - [`prepare`]`(context, top, entry, argument)`: makes `context` begin `entry(argument)` on the stack that ends at
//!   `top`, called from a base frame whose unwind information says that nothing is above it.
//! - [`base`]: that frame.
//! - [`call_on`]`(top, f, argument)`: calls `f` on another stack and comes back, with unwind information that leads back too.
//! - [`prefetch`]`(header)`: asks for the first line of the control block and the three lines of stack below it.
//!
//! Floating-point control words (mxcsr and the x87 word on x86-64, FPCR on aarch64) are callee-saved by the ABI, but
//! changing them is undefined behaviour in Rust, and so there is never a difference to keep. C code that changes the rounding
//! mode must put it back before it calls anything that parks. Shadow stacks are not switched: no Rust binary
//! asks for them, and a kernel gives them only to one that does.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as here;
#[cfg(target_arch = "x86_64")]
use x86_64 as here;

pub(crate) use here::base;
pub(super) use here::call_on;
pub use here::{Context, leave, prefetch, prepare, switch};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "machinarium switches stacks on x86-64 and aarch64 only: src/coroutine/arch/mod.rs says what a new file must provide"
);

/// The outermost frame.
pub(crate) type Base = unsafe extern "C" fn();

#[cfg(not(feature = "sanitize"))]
const _: () = assert!(size_of::<Context>() <= 32, "a context is half a cache line");
