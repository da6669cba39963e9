//! The switch for 64-bit Arm as AAPCS64 has it. Owns no state.
//!
//! All registers but sp, x19 and x29 are declared as clobbered, so that the compiler saves just those that are live where it
//! switches. x19 and x29 it reserves for itself and takes as no clobber: they go into the [`Context`], with the stack
//! pointer and the address to go on at. The link register is one of the clobbered: what is to be returned to lies in frames.
//!
//! ```text
//!            prepared                         suspended in `switch`
//! top      +----------------------+        +----------------------+
//!          |                      | <- sp  | entry's frame: 0,    |
//!          |  nothing yet         |        |   return to `base`   |
//!          |                      |        | ...                  |
//!          |                      |        | frame of the caller  | <- sp
//!          +----------------------+        +----------------------+
//! pc       base                            the label in that caller
//! x19, x29 entry, argument                 the caller's
//! ```
//!
//! *Branch targets.* Where a program is built for them, an indirect branch may only land on an instruction that says so: each
//! place that one lands on here begins with a `bti`, by the number of its hint, which is a no-op for other processors and assemblers.
//! *Signed return addresses* are signed with the stack pointer, and a stack never moves; the address in a context is signed by nobody, and
//! as safe as the rest of the control block.

use core::arch::{asm, naked_asm};

use crate::coroutine::Header;
#[cfg(feature = "sanitize")]
use crate::coroutine::sanitize::Fiber;

/// The registers of something that is not running.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Context {
    sp: usize,
    pc: usize,
    x19: usize,
    x29: usize,
    /// What a sanitizer calls it.
    #[cfg(feature = "sanitize")]
    pub(in crate::coroutine) fiber: Fiber,
}

impl Context {
    /// Where the stack ends that is suspended in it. Nothing is below.
    pub(crate) fn stack_pointer(&self) -> usize {
        self.sp
    }
}

/// Saves the running flow of control into `from` and continues `to`.
///
/// # Safety
/// `from` is writable, and what it then holds is continued at most once, on this OS thread, while the stack that runs now
/// is untouched. `to` was written by [`prepare`] or by a `switch` on this OS thread and was not continued since; its
/// stack is as it was then. No destructor is being run by an unwinding on either side (std counts panics per OS thread).
#[inline(always)]
pub unsafe fn switch(from: *mut Context, to: *const Context) {
    // SAFETY: whatever the code after the label needs is in memory that nobody touches (its stack, by the caller's promise),
    // in the context, or in no clobbered register; of v8 to v15 the ABI keeps half, so all of each is clobbered. `nostack`
    // is true: nothing is pushed.
    unsafe {
        asm!(
            "adr x3, 2f",
            "mov x2, sp",
            "stp x2, x3, [x0]",
            "stp x19, x29, [x0, #16]",
            "ldp x2, x3, [x1]",
            "ldp x19, x29, [x1, #16]",
            "mov sp, x2",
            "br x3",
            "2:",
            "hint #36", // bti j
            inout("x0") from => _,
            inout("x1") to => _,
            lateout("x20") _,
            lateout("x21") _,
            lateout("x22") _,
            lateout("x23") _,
            lateout("x24") _,
            lateout("x25") _,
            lateout("x26") _,
            lateout("x27") _,
            lateout("x28") _,
            clobber_abi("C"),
            options(nostack),
        );
    }
}

/// Continues `to` for good: nothing of the running flow of control is saved, and its stack may be reused from then on.
///
/// # Safety
/// As for [`switch`], and nothing on the running stack needs to be dropped.
#[inline(always)]
pub unsafe fn leave(to: *const Context) -> ! {
    // SAFETY: as in `switch`; nothing comes back.
    unsafe {
        asm!(
            "ldp x2, x3, [x1]",
            "ldp x19, x29, [x1, #16]",
            "mov sp, x2",
            "br x3",
            in("x1") to,
            options(noreturn),
        );
    }
}

/// Makes `context` begin `entry(argument)` on the stack that ends at `top`.
///
/// # Safety
/// `context` is writable. `top` is a multiple of 16 and the end of a stack that nothing uses.
#[inline(always)]
pub unsafe fn prepare(
    context: *mut Context,
    top: *mut u8,
    entry: unsafe extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) {
    debug_assert!((top as usize).is_multiple_of(16), "the processor wants stacks aligned to 16 bytes");
    let start = Context {
        sp: top as usize,
        pc: base as *const () as usize,
        x19: entry as *const () as usize,
        x29: argument as usize,
        #[cfg(feature = "sanitize")]
        fiber: Fiber::default(),
    };
    // SAFETY: the caller's promise.
    unsafe { context.write(start) };
}

/// Calls `f(argument)` on the stack that ends at `top`, and comes back to this one. The frame is found by x29, which holds
/// this stack's pointer meanwhile: that is all that an unwinder needs to go from the other stack to this one.
///
/// # Safety
/// `top` is a multiple of 16 and the end of a stack that nothing uses until this returns. `f` does not unwind.
#[unsafe(naked)]
pub(in crate::coroutine) unsafe extern "C" fn call_on(
    top: *mut u8,
    f: unsafe extern "C" fn(*mut u8),
    argument: *mut u8,
) {
    naked_asm!(
        ".cfi_startproc",
        "hint #34", // bti c
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset x29, -16",
        ".cfi_offset x30, -8",
        "mov x29, sp",
        ".cfi_def_cfa x29, 16",
        "mov sp, x0",
        "mov x0, x2",
        "blr x1",
        "mov sp, x29",
        ".cfi_def_cfa sp, 16",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa_offset 0",
        ".cfi_restore x29",
        ".cfi_restore x30",
        "ret",
        ".cfi_endproc",
    );
}

/// The outermost frame of every stack. Unwinders stop here: by the unwind information the caller's address is
/// undefined, and whoever follows frame pointers finds zero.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn base() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined x30",
        "hint #36", // bti j
        "mov x0, x29",
        "mov x29, xzr",
        "mov x30, xzr",
        "blr x19",
        "brk #1",
        ".cfi_endproc",
    );
}

/// Asks for the lines that continuing this coroutine touches first: a hint, right for any address.
#[inline(always)]
pub fn prefetch(header: *const Header) {
    // SAFETY: a prefetch never faults and changes nothing that the program can see.
    unsafe {
        asm!(
            "prfum pldl1keep, [{0}]",
            "prfum pldl1keep, [{0}, #-64]",
            "prfum pldl1keep, [{0}, #-128]",
            "prfum pldl1keep, [{0}, #-192]",
            in(reg) header,
            options(nostack, preserves_flags, readonly),
        );
    }
}
