//! The slot itself: a TLS symbol of our own, and what reads and writes it on each architecture.
//!
//! Not `thread_local!`: what the compiler knows to be a thread-local it may read once and keep in a register across a
//! switch of stacks, and the saved register then comes from the stack that was just entered (measured: 143 ns a yield
//! instead of 16 at 30,000 coroutines). Here each access is an `asm!` that is not `pure`, so none is moved or merged.
//! It is initial-exec access, which the linker turns into local-exec in an executable.

use core::arch::asm;

// The version is part of the name, so that two versions of this crate in one program keep two slots. Weak, since a
// test binary may hold this crate twice (once with `cfg(test)`): both copies then share one.
macro_rules! name {
    () => {
        concat!("machinarium_current_", env!("CARGO_PKG_VERSION"))
    };
}

core::arch::global_asm!(
    ".pushsection .tbss.machinarium_current, \"awT\", @nobits",
    concat!(".weak \"", name!(), "\""),
    concat!(".hidden \"", name!(), "\""),
    concat!(".type \"", name!(), "\", @object"),
    concat!(".size \"", name!(), "\", 8"),
    ".p2align 3",
    concat!("\"", name!(), "\":"),
    ".zero 8",
    ".popsection",
);

/// The slot's value.
#[inline(always)]
pub fn get() -> usize {
    let value: usize;
    // SAFETY: reads the eight bytes of this thread's own copy of the symbol defined above.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            concat!("mov {value}, qword ptr [rip + \"", name!(), "\"@gottpoff]"),
            "mov {value}, qword ptr fs:[{value}]",
            value = out(reg) value,
            options(nostack, preserves_flags, readonly),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            concat!("adrp {value}, :gottprel:\"", name!(), "\""),
            concat!("ldr {value}, [{value}, :gottprel_lo12:\"", name!(), "\"]"),
            "mrs {base}, tpidr_el0",
            "ldr {value}, [{base}, {value}]",
            base = out(reg) _,
            value = out(reg) value,
            options(nostack, preserves_flags, readonly),
        );
    }
    value
}

/// Puts `new` into the slot and gives back what was there.
///
/// # Safety
/// `new` is 0, or came out of this function on this OS thread and what it points to is still alive whenever library code
/// runs with it in the slot. The stacks of the machine it names must be the ones that run meanwhile.
#[inline(always)]
pub unsafe fn swap(new: usize) -> usize {
    let old: usize;
    // SAFETY: as in `get`; the caller answers for the value.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            concat!("mov {address}, qword ptr [rip + \"", name!(), "\"@gottpoff]"),
            "mov {old}, qword ptr fs:[{address}]",
            "mov qword ptr fs:[{address}], {new}",
            address = out(reg) _,
            old = out(reg) old,
            new = in(reg) new,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            concat!("adrp {address}, :gottprel:\"", name!(), "\""),
            concat!("ldr {address}, [{address}, :gottprel_lo12:\"", name!(), "\"]"),
            "mrs {base}, tpidr_el0",
            "ldr {old}, [{base}, {address}]",
            "str {new}, [{base}, {address}]",
            address = out(reg) _,
            base = out(reg) _,
            old = out(reg) old,
            new = in(reg) new,
            options(nostack, preserves_flags),
        );
    }
    old
}
