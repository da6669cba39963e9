//! The switch for x86-64 as the System V ABI has it. Owns no state.
//!
//! All general registers but rsp, rbx and rbp are declared as clobbered, so that the compiler saves just those that are
//! live where it switches. rbx and rbp it reserves for itself and takes as no clobber: they go into the
//! [`Context`], with the stack pointer and the address to go on at.
//!
//! ```text
//!            prepared                         suspended in `switch`
//! top      +----------------------+        +----------------------+
//!          |                      | <- sp  | base: return address |
//!          |  nothing yet         |        | entry's frame        |
//!          |                      |        | ...                  |
//!          |                      |        | frame of the caller  | <- sp
//!          +----------------------+        +----------------------+
//! pc       base                            the label in that caller
//! rbx, rbp entry, argument                 the caller's
//! ```

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
    rbx: usize,
    rbp: usize,
    /// What a sanitizer calls it.
    #[cfg(feature = "sanitize")]
    pub(in crate::coroutine) fiber: Fiber,
}

impl Context {
    /// Where the stack ends that is suspended in it. Below is nothing but its red zone.
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
    // in the context, or in no clobbered register. `nostack` is true: nothing is pushed, and a suspended stack's red zone
    // stays as it is, for nobody writes below the stack pointer of a stack that does not run, and signal handlers keep
    // clear of the red zone of the one that does. The ABI has the direction flag clear on both sides.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]",
            "mov [rdi], rsp",
            "mov [rdi + 8], rax",
            "mov [rdi + 16], rbx",
            "mov [rdi + 24], rbp",
            "mov rsp, [rsi]",
            "mov rbx, [rsi + 16]",
            "mov rbp, [rsi + 24]",
            "jmp qword ptr [rsi + 8]",
            "2:",
            inout("rdi") from => _,
            inout("rsi") to => _,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            clobber_abi("sysv64"),
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
            "mov rsp, [rsi]",
            "mov rbx, [rsi + 16]",
            "mov rbp, [rsi + 24]",
            "jmp qword ptr [rsi + 8]",
            in("rsi") to,
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
    debug_assert!((top as usize).is_multiple_of(16), "the ABI aligns stacks to 16 bytes");
    let start = Context {
        sp: top as usize,
        pc: base as *const () as usize,
        rbx: entry as *const () as usize,
        rbp: argument as usize,
        #[cfg(feature = "sanitize")]
        fiber: Fiber::default(),
    };
    // SAFETY: the caller's promise.
    unsafe { context.write(start) };
}

/// Calls `f(argument)` on the stack that ends at `top`, and comes back to this one. The frame is found by rbp, which holds
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
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
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
        ".cfi_undefined rip",
        "mov rdi, rbp",
        "xor ebp, ebp",
        "call rbx",
        "ud2",
        ".cfi_endproc",
    );
}

/// Asks for the lines that continuing this coroutine touches first: a hint, right for any address.
#[inline(always)]
pub fn prefetch(header: *const Header) {
    // SAFETY: a prefetch never faults and changes nothing that the program can see.
    unsafe {
        asm!(
            "prefetcht0 [{0}]",
            "prefetcht0 [{0} - 64]",
            "prefetcht0 [{0} - 128]",
            "prefetcht0 [{0} - 192]",
            in(reg) header,
            options(nostack, preserves_flags, readonly),
        );
    }
}
